"""OpenAI Chat Completions requests and the messages in them, both ways."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings

from antiphon.errors import BadRequestError
from antiphon.types import (
    Audio,
    ChatRequest,
    File,
    Image,
    Loss,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    Refusal,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolName,
    ToolResult,
)
from antiphon.wire import json
from antiphon.wire.openai_chat import OpenAIChat
from antiphon.wire.openai_message import NAME
from antiphon.wire.openai_request import decode_request, encode_request
from tests.wire import laws, openai_shapes

CODEC = OpenAIChat()
FOREIGN = {"gemini": {"x": 1}}


@given(openai_shapes.REQUESTS)
def test_law_3(request: ChatRequest) -> None:
    """A request that the format can express is the same after it was written and read, and nothing is lost."""
    laws.check_request(CODEC, request)


@given(openai_shapes.WIRE_REQUESTS)
def test_law_4(source: dict[str, Any]) -> None:
    """Plausible JSON, odd in any way that does no harm, is the same JSON after it was read and written."""
    laws.check_request_json(CODEC, source)


@given(openai_shapes.WIRE_REQUESTS)
@settings(max_examples=30)
def test_inexact(source: dict[str, Any]) -> None:
    """Who does not ask for how a request was written gets the same request, but for that."""
    assert decode_request(source).but(form=None) == decode_request(source, exact=False)


# Reading


def read(message: dict[str, Any]) -> Message:
    """Return one message as it is read, after a look at the fourth law."""
    source = {"model": "m", "messages": [message]}
    laws.check_request_json(CODEC, source)
    return decode_request(source).messages[0]


def read_part(part: dict[str, Any]) -> object:
    """Return one part of a user's message as it is read."""
    return read({"role": "user", "content": [part]}).parts[0]


def user_request(**fields: Any) -> ChatRequest:
    """Return a request as it is read, after a look at the fourth law."""
    source = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    laws.check_request_json(CODEC, source)
    return decode_request(source)


def test_fields() -> None:
    """Every field of the neutral vocabulary is read; others are kept as they are."""
    request = user_request(
        temperature=0.5,
        top_p=1,
        top_k=3,
        max_completion_tokens=9,
        stop="END",
        n=2,
        seed=7,
        frequency_penalty=0,
        presence_penalty=-1.5,
        logprobs=True,
        top_logprobs=2,
        parallel_tool_calls=False,
        reasoning_effort="low",
        user="u",
        service_tier="flex",
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        logit_bias={"5": -100},
        web_search_options={},
    )
    kept = {"stream_options": {"include_obfuscation": False}, "logit_bias": {"5": -100}, "web_search_options": {}}
    assert request.but(form=None) == ChatRequest(
        "m",
        (Message.user("Hi"),),
        temperature=0.5,
        top_p=1,
        top_k=3,
        max_tokens=9,
        stop=("END",),
        n=2,
        seed=7,
        frequency_penalty=0,
        presence_penalty=-1.5,
        logprobs=True,
        top_logprobs=2,
        parallel_tool_calls=False,
        reasoning=ReasoningOptions(effort="low"),
        user="u",
        service_tier="flex",
        stream=True,
        include_usage=True,
        extra={NAME: kept},
    )


def test_null_is_not_set() -> None:
    """An explicit null reads as absent, and still goes out as null."""
    request = user_request(temperature=None, tools=None, tool_choice=None, stop=None, stream=None, response_format=None)
    assert request.but(form=None) == ChatRequest("m", (Message.user("Hi"),))


def test_what_is_only_form_is_only_form() -> None:
    """`form` says how known fields were written and no more: without it the request means the same."""
    plain, odd = user_request(max_tokens=5, stop=["a"]), user_request(max_completion_tokens=5, stop="a", seed=None)
    assert plain == odd.but(form=None)
    assert plain.form is None


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "a"}, Text("a")),
        (
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            Text("a", extra={NAME: {"cache_control": {"type": "ephemeral"}}}),
        ),
        ({"type": "image_url", "image_url": {"url": "https://a/b.png"}}, Image(url="https://a/b.png")),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ==", "detail": "low"}},
            Image(data="QQ==", media_type="image/png", detail="low"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "gs://a", "max_pixels": 9}},
            Image(url="gs://a", extra={NAME: {"image_url": {"max_pixels": 9}}}),
        ),
        ({"type": "image_url", "image_url": "https://a"}, Image(url="https://a")),
        ({"type": "image_url", "image_url": {"url": "data:image/png,raw"}}, Image(url="data:image/png,raw")),
        ({"type": "image_url", "image_url": {"url": "data:;base64,QQ=="}}, Image(data="QQ==")),
        (
            {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}},
            Audio(data="QQ==", media_type="audio/mpeg"),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
            Audio(data="QQ==", media_type="audio/wav"),
        ),
        ({"type": "input_audio", "input_audio": {"data": "QQ=="}}, Audio(data="QQ==")),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ==", "filename": "a.pdf"}},
            File(data="QQ==", media_type="application/pdf", name="a.pdf"),
        ),
        ({"type": "file", "file": {"file_data": "QQ=="}}, File(data="QQ==")),
        ({"type": "file", "file": {"file_data": "https://a/b.pdf"}}, File(url="https://a/b.pdf")),
        ({"type": "file", "file": {"file_id": "f-1"}}, File(file_id="f-1")),
        (
            {"type": "file", "file": {"file_id": "f-1", "format": "pdf"}},
            File(file_id="f-1", extra={NAME: {"file": {"format": "pdf"}}}),
        ),
        ({"type": "refusal", "refusal": "No."}, Refusal("No.")),
        ({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}, None),
        ({"type": "thinking", "thinking": "hm"}, Opaque(NAME, {"type": "thinking", "thinking": "hm"})),
        ({"type": "video_url", "video_url": {}}, Opaque(NAME, {"type": "video_url", "video_url": {}})),
    ],
    ids=str,
)
def test_parts(part: dict[str, Any], expected: object) -> None:
    """Each kind of part is read into its own type; unknown kinds are carried as they are."""
    expected = expected or Reasoning("hm", extra={NAME: {"closed": True}})
    assert expected == read_part(part)


def test_a_tool_result() -> None:
    """A tool's message holds a result, whose content may be text or parts."""
    result = ToolResult("c", (Text("a"),))
    assert Message("tool", (result,)) == read({"role": "tool", "tool_call_id": "c", "content": "a"})
    parts = read({"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "a"}], "name": "f"})
    assert (parts.parts, parts.name) == ((result,), "f")


def test_an_assistants_message() -> None:
    """Thoughts, text, refusal, speech and tool calls are parts of one message, in this order."""
    message = read(
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}, "index": 0},
                {"id": "d", "type": "custom", "custom": {"name": "g", "input": "in"}},
                {"id": "e", "function": {"name": "h", "arguments": {"a": 1}}},
                {"id": "w", "type": "web_search", "web_search": {}},
                {"function": {"name": "i"}},
            ],
            "audio": {"id": "au"},
            "refusal": "No.",
            "content": "a",
            "reasoning_content": "hm",
            "function_call": None,
        }
    )
    assert message.parts == (
        Reasoning("hm"),
        Text("a"),
        Refusal("No."),
        Audio(id="au"),
        ToolCall("c", "f", "{", extra={NAME: {"index": 0}}),
        ToolCall("d", "g", "in", "custom"),
        ToolCall("e", "h", '{"a":1}'),
        ToolCall("w", "", "", "web_search", extra={NAME: {"web_search": {}}}),
        ToolCall("", "i", ""),
    )
    assert message.extra == {NAME: {"function_call": None}}


def test_reasoning_under_two_names() -> None:
    """`reasoning` is read where there is no `reasoning_content`; a second text or an object is kept as unknown."""
    assert read({"role": "assistant", "reasoning": "hm"}).parts == (Reasoning("hm"),)
    both = read({"role": "assistant", "reasoning": "b", "reasoning_content": "a"})
    assert (both.parts, both.extra) == ((Reasoning("a"),), {NAME: {"reasoning": "b"}})
    same = read({"role": "assistant", "reasoning": "a", "reasoning_content": "a"})
    assert (same.parts, same.extra) == ((Reasoning("a"),), None)
    assert read({"role": "assistant", "reasoning": "a", "reasoning_content": ""}).parts == (Reasoning("a"),)
    assert read({"role": "assistant", "reasoning": {"a": 1}}).extra == {NAME: {"reasoning": {"a": 1}}}


def test_fields_of_other_roles_are_unknown() -> None:
    """A field that only another role knows is kept as unknown, not taken for known and dropped."""
    assert read({"role": "user", "content": "a", "tool_calls": []}).extra == {NAME: {"tool_calls": []}}
    assert read({"role": "assistant", "tool_call_id": "c"}).extra == {NAME: {"tool_call_id": "c"}}
    tool = read({"role": "tool", "tool_call_id": "c", "content": "a", "refusal": "r"})
    assert tool.extra == {NAME: {"refusal": "r"}}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"type": "text"}, ResponseFormat("text")),
        ({"type": "json_object"}, ResponseFormat("json")),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True, "x": 1}, "y": 2},
            ResponseFormat("json_schema", {}, "n", strict=True, extra={NAME: {"json_schema": {"x": 1}, "y": 2}}),
        ),
        ({"type": "json_schema", "json_schema": {}}, ResponseFormat("json_schema")),
    ],
    ids=str,
)
def test_response_formats(source: dict[str, Any], expected: ResponseFormat) -> None:
    """The forms that an answer may have to have are read, with what is unknown in them."""
    found = user_request(response_format=source).response_format
    assert found is not None
    assert expected == ResponseFormat(
        found.kind, found.schema, found.name, found.description, found.strict, extra=found.extra
    )


def test_unknown_response_format() -> None:
    """A form that only some servers know is kept for them."""
    request = user_request(response_format={"type": "grammar", "grammar": "root ::= x"})
    assert request.response_format is None
    assert request.extra == {NAME: {"response_format": {"type": "grammar", "grammar": "root ::= x"}}}


def test_tools() -> None:
    """Functions are read; tools of other kinds, as the provider runs them, are carried as they are."""
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": None, "x": 1}
    request = user_request(tools=[{"type": "function", "function": function}, {"type": "web_search", "a": 1}])
    assert request.tools is not None
    tool, other = request.tools
    assert isinstance(tool, Tool)
    assert (tool.name, tool.description, tool.parameters, tool.strict) == ("f", "d", {"type": "object"}, None)
    assert tool.extra == {NAME: {"function": {"x": 1}}}
    assert other == Opaque(NAME, {"type": "web_search", "a": 1})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ("any", Opaque(NAME, "any")),
        ({"type": "function", "function": {"name": "f"}}, ToolName("f")),
        ({"type": "allowed_tools"}, Opaque(NAME, {"type": "allowed_tools"})),
    ],
    ids=str,
)
def test_tool_choices(source: object, expected: object) -> None:
    """A choice of tools is read; one that only this format knows is carried as it is."""
    assert expected == user_request(tool_choice=source).tool_choice


def test_messages_may_be_mixed() -> None:
    """A `Message` among the objects is taken as it is."""
    mixed = [Message.user("a"), {"role": "user", "content": "b"}]
    assert decode_request({"model": "m", "messages": mixed}).messages == (Message.user("a"), Message.user("b"))


def test_nothing_given_is_changed() -> None:
    """Reading and writing changes neither the JSON nor the request."""
    source = {
        "model": "m",
        "stop": "a",
        "tools": [{"type": "function", "function": {"name": "f", "x": {"y": 1}}}],
        "messages": [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "x": 1}}]}],
    }
    before = copy.deepcopy(source)
    request = decode_request(source)
    written, _ = encode_request(request)
    written["messages"][0]["tool_calls"][0]["function"]["x"] = 2
    assert before == source == encode_request(request)[0]


# Faults

TEXT, OBJECT = "a string", "an object"
MESSAGE, TOOL, FORMAT = "$.messages[1]", "$.tools[0]", "$.response_format"
CONTENT = f"{MESSAGE}.content[0]"


def with_message(message: Any) -> dict[str, Any]:
    """Make a request whose second message is *message*."""
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}, message]}


def with_part(part: Any) -> dict[str, Any]:
    """Make a request with *part* in its second message."""
    return with_message({"role": "user", "content": [part]})


def with_call(call: Any) -> dict[str, Any]:
    """Make a request with a tool call in its second message."""
    return with_message({"role": "assistant", "tool_calls": [call]})


def with_field(**fields: Any) -> dict[str, Any]:
    """Make a request with other fields."""
    return {"model": "m", "messages": [], **fields}


def with_schema(**fields: Any) -> dict[str, Any]:
    """Make a request for an answer by a schema."""
    return with_field(response_format={"type": "json_schema", "json_schema": fields})


CALL = f"{MESSAGE}.tool_calls[0]"
SCHEMA, IMAGE, SOUND = f"{FORMAT}.json_schema", f"{CONTENT}.image_url", f"{CONTENT}.input_audio"
CITATION = f"{MESSAGE}.annotations[0]"
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "$.model", TEXT),
    ({"model": 5, "messages": []}, "$.model", TEXT),
    ({"model": "m"}, "$.messages", "an array"),
    ({"model": "m", "messages": None}, "$.messages", "an array"),
    ({"model": "m", "messages": "Hi"}, "$.messages", "an array"),
    (with_message("Hi"), MESSAGE, OBJECT),
    (with_message(None), MESSAGE, OBJECT),
    (with_message({}), f"{MESSAGE}.role", TEXT),
    (with_message({"role": 5}), f"{MESSAGE}.role", TEXT),
    (with_message({"role": "user"}), f"{MESSAGE}.content", "a string or an array of parts"),
    (with_message({"role": "user", "content": 5}), f"{MESSAGE}.content", "a string or an array of parts"),
    (with_message({"role": "user", "content": {}}), f"{MESSAGE}.content", "a string or an array of parts"),
    (with_message({"role": "user", "content": "a", "name": 5}), f"{MESSAGE}.name", TEXT),
    (with_message({"role": "tool", "content": "a"}), f"{MESSAGE}.tool_call_id", TEXT),
    (with_message({"role": "tool", "tool_call_id": "c"}), f"{MESSAGE}.content", "a string or an array of parts"),
    (with_message({"role": "assistant", "refusal": 5}), f"{MESSAGE}.refusal", TEXT),
    (with_message({"role": "assistant", "audio": 5}), f"{MESSAGE}.audio", OBJECT),
    (with_message({"role": "assistant", "audio": {"id": 5}}), f"{MESSAGE}.audio.id", TEXT),
    (with_message({"role": "assistant", "audio": {"expires_at": 1.5}}), f"{MESSAGE}.audio.expires_at", "an integer"),
    (with_message({"role": "assistant", "annotations": {}}), f"{MESSAGE}.annotations", "an array"),
    (with_message({"role": "assistant", "annotations": [5]}), CITATION, OBJECT),
    (with_message({"role": "assistant", "annotations": [{"type": 5}]}), f"{CITATION}.type", TEXT),
    (with_message({"role": "assistant", "tool_calls": {}}), f"{MESSAGE}.tool_calls", "an array"),
    (with_call("f"), CALL, OBJECT),
    (with_call({}), f"{CALL}.function", OBJECT),
    (with_call({"type": 5}), f"{CALL}.type", TEXT),
    (with_call({"type": "custom"}), f"{CALL}.custom", OBJECT),
    (with_call({"type": "web_search", "function": 5}), f"{CALL}.function", OBJECT),
    (with_call({"id": 5, "function": {"name": "f"}}), f"{CALL}.id", TEXT),
    (with_call({"function": {}}), f"{CALL}.function.name", TEXT),
    (with_call({"function": {"name": "f", "arguments": []}}), f"{CALL}.function.arguments", TEXT),
    (with_call({"type": "custom", "custom": {"name": "f", "input": 5}}), f"{CALL}.custom.input", TEXT),
    (with_part("text"), CONTENT, OBJECT),
    (with_part({"text": "a"}), f"{CONTENT}.type", TEXT),
    (with_part({"type": "text"}), f"{CONTENT}.text", TEXT),
    (with_part({"type": "refusal", "refusal": 5}), f"{CONTENT}.refusal", TEXT),
    (with_part({"type": "image_url"}), IMAGE, OBJECT),
    (with_part({"type": "image_url", "image_url": {}}), f"{IMAGE}.url", TEXT),
    (with_part({"type": "image_url", "image_url": {"url": "a", "detail": 5}}), f"{IMAGE}.detail", TEXT),
    (with_part({"type": "input_audio"}), SOUND, OBJECT),
    (with_part({"type": "input_audio", "input_audio": {}}), f"{SOUND}.data", TEXT),
    (with_part({"type": "input_audio", "input_audio": {"data": "", "format": 5}}), f"{SOUND}.format", TEXT),
    (with_part({"type": "file"}), f"{CONTENT}.file", OBJECT),
    (with_part({"type": "file", "file": {"file_data": 5}}), f"{CONTENT}.file.file_data", TEXT),
    (with_part({"type": "file", "file": {"file_id": 5}}), f"{CONTENT}.file.file_id", TEXT),
    (with_part({"type": "file", "file": {"filename": 5}}), f"{CONTENT}.file.filename", TEXT),
    (with_field(tools={}), "$.tools", "an array"),
    (with_field(tools=["f"]), TOOL, OBJECT),
    (with_field(tools=[{}]), f"{TOOL}.function", OBJECT),
    (with_field(tools=[{"function": {}}]), f"{TOOL}.function.name", TEXT),
    (with_field(tools=[{"function": {"name": "f", "description": 5}}]), f"{TOOL}.function.description", TEXT),
    (with_field(tools=[{"function": {"name": "f", "parameters": []}}]), f"{TOOL}.function.parameters", OBJECT),
    (with_field(tools=[{"function": {"name": "f", "strict": "yes"}}]), f"{TOOL}.function.strict", "a boolean"),
    (with_field(tool_choice=5), "$.tool_choice", "'auto', 'none', 'required' or an object"),
    (with_field(stop=5), "$.stop", "a string or an array of strings"),
    (with_field(stop=["a", 5]), "$.stop[1]", TEXT),
    (with_field(response_format="json"), FORMAT, OBJECT),
    (with_field(response_format={}), f"{FORMAT}.type", TEXT),
    (with_field(response_format={"type": "json_schema"}), SCHEMA, OBJECT),
    (with_schema(name=5), f"{SCHEMA}.name", TEXT),
    (with_schema(schema=[]), f"{SCHEMA}.schema", OBJECT),
    (with_schema(strict=1), f"{SCHEMA}.strict", "a boolean"),
    (with_schema(description=1), f"{SCHEMA}.description", TEXT),
    (with_field(reasoning_effort=5), "$.reasoning_effort", TEXT),
    (with_field(stream_options=[]), "$.stream_options", OBJECT),
    (with_field(stream_options={"include_usage": "yes"}), "$.stream_options.include_usage", "a boolean"),
    (with_field(stream="yes"), "$.stream", "a boolean"),
    *((with_field(**{key: "1"}), f"$.{key}", "a number") for key in ("temperature", "top_p")),
    *((with_field(**{key: True}), f"$.{key}", "a number") for key in ("frequency_penalty", "presence_penalty")),
    *((with_field(**{key: 1.5}), f"$.{key}", "an integer") for key in ("top_k", "n", "seed", "top_logprobs")),
    *((with_field(**{key: "5"}), f"$.{key}", "an integer") for key in ("max_tokens", "max_completion_tokens")),
    *((with_field(**{key: 1}), f"$.{key}", "a boolean") for key in ("logprobs", "parallel_tool_calls")),
    *((with_field(**{key: 5}), f"$.{key}", TEXT) for key in ("user", "service_tier")),
]
"""Requests with one fault each, its path, and what should stand there."""


@pytest.mark.parametrize(
    ("source", "path", "expected"), WRONG, ids=[f"{path} {place}" for place, (_, path, _) in enumerate(WRONG)]
)
def test_faults(source: dict[str, Any], path: str, expected: str) -> None:
    """A value of the wrong type is a `BadRequestError` with the exact path, for which no value is repeated."""
    with pytest.raises(BadRequestError) as caught:
        CODEC.decode_request(json.encode(source))
    assert caught.value.param == path
    assert str(caught.value).startswith(f"{path} must be {expected}, not ")
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": "\xff"}', b'{"model":' * 100_000])
def test_bodies_that_are_no_object(body: bytes) -> None:
    """A body that is not a JSON object is a `BadRequestError` too."""
    with pytest.raises(BadRequestError) as caught:
        CODEC.decode_request(body)
    assert caught.value.param == "$"


@pytest.mark.parametrize("depth", [100, 300, 500, 700])
def test_nesting(depth: int) -> None:
    """A request nested deeply is read and written like any other."""
    bomb = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"model": "m", "messages": [{"role": "assistant", "x": %b}], "y": %b}' % (bomb, bomb)
    assert CODEC.encode_request(CODEC.decode_request(body)).body.count(bomb) == 2


# Writing


def written(*messages: Message) -> list[dict[str, Any]]:
    """Return messages as they are written, without a loss."""
    source, losses = encode_request(ChatRequest("m", messages))
    assert [] == losses
    return source["messages"]  # type: ignore[no-any-return]


def test_http_request() -> None:
    """A request goes to one path as compact JSON, and says which kind of answer it expects."""
    http = CODEC.encode_request(ChatRequest("m", (Message.user("Hé"),)))
    assert http.body == '{"model":"m","messages":[{"role":"user","content":"Hé"}]}'.encode()
    assert (http.method, http.path, http.losses) == ("POST", "/chat/completions", ())
    assert http.headers == {"content-type": "application/json", "accept": "application/json"}
    streamed = CODEC.encode_request(ChatRequest("m", (), stream=True))
    assert streamed.headers["accept"] == "text/event-stream"
    assert json.decode(streamed.body) == {"model": "m", "messages": [], "stream": True}


def test_what_is_not_set_is_not_sent() -> None:
    """A request has no field that was not set, not even as null; `stream` false is not said."""
    assert encode_request(ChatRequest("m", ()))[0] == {"model": "m", "messages": []}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_tokens": 5, "stop": "a"}, {"max_completion_tokens": 5, "stop": "a"}),
        ({"max_tokens": 4, "max_completion_tokens": 5}, {"max_tokens": 4, "max_completion_tokens": 5}),
    ],
    ids=str,
)
def test_name_of_the_limit(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """The limit has the provider's name for it, unless it came with the newer one."""
    request = decode_request(with_field(**fields))
    assert {"model": "m", "messages": [], **expected} == encode_request(
        request, max_tokens_field="max_completion_tokens"
    )[0]
    assert with_field(**fields) == encode_request(request)[0]


def test_changes_are_kept() -> None:
    """What is changed after reading goes out as changed, also where it had been written in another way."""
    request = decode_request(with_field(stop="a", max_completion_tokens=5, temperature=None))
    changed = request.but(stop=("b",), max_tokens=9, temperature=0.5)
    assert with_field(stop=["b"], max_tokens=9, temperature=0.5) == encode_request(changed)[0]


def test_a_stream_of_a_request_that_said_no() -> None:
    """A request that said `"stream": false` can be streamed, and one that said nothing of usage asked for it."""
    request = decode_request(with_field(stream=False, stream_options={"include_obfuscation": False}))
    expected = with_field(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    assert expected == encode_request(request.but(stream=True, include_usage=True))[0]


def test_tool_results_come_first() -> None:
    """Results that share a message become messages of their own, before what else is in it."""
    message = Message("user", (Text("a"), ToolResult("c", (Text("1"),)), ToolResult("d", (Text("2"),))), "u")
    assert [
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        {"role": "tool", "tool_call_id": "d", "content": "2"},
        {"role": "user", "content": "a", "name": "u"},
    ] == written(message)
    both = Message("tool", (ToolResult("c", (Text("1"),)), Text("a")))
    assert ["tool", "user"] == [one["role"] for one in written(both)]


def test_empty_messages() -> None:
    """A user's message without parts, and a result without content, have an empty text; an assistant's has none."""
    assert [{"role": "user", "content": ""}] == written(Message("user"))
    assert [{"role": "tool", "tool_call_id": "c", "content": ""}] == written(Message("tool", (ToolResult("c"),)))
    assert [{"role": "assistant", "content": None}] == written(Message("assistant"))


@pytest.mark.parametrize(
    ("media_type", "format"),
    [("audio/mpeg", "mp3"), ("audio/mp3", "mp3"), ("audio/x-wav", "wav"), ("audio/flac", "flac"), (None, "wav")],
)
def test_audio_formats(media_type: str | None, format: str) -> None:
    """A sound's media type is written as OpenAI's name of the format."""
    message = Message.user(Audio(data="QQ==", media_type=media_type))
    assert [{"data": "QQ==", "format": format}] == [part["input_audio"] for part in written(message)[0]["content"]]


def test_a_changed_message_does_not_get_another_ones_form() -> None:
    """Parts that are put in before others do not take over how those were written."""
    source = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a", "detail": None}}]}
    message = decode_request(with_field(messages=[source])).messages[0]
    longer = Message("user", (Image(url="new"), *message.parts), form=message.form)
    image = {"type": "image_url", "image_url": {"url": "new"}}
    assert written(longer)[0]["content"][0] == image


def suited(codec: OpenAIChat, *messages: Message, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Return a request as it is written for a provider with quirks, and the paths of its losses."""
    http = codec.encode_request(ChatRequest("m", messages, **fields))
    return json.decode(http.body), [loss.path for loss in http.losses]


def test_a_provider_that_refuses_fields() -> None:
    """Fields that a provider refuses are left out; those that were set are on the receipt."""
    codec = OpenAIChat(unsupported=("seed", "user"))
    assert suited(codec, seed=7) == ({"model": "m", "messages": []}, ["$.seed"])


def test_a_provider_without_developers() -> None:
    """A developer's message is a system's for a provider that knows no developers."""
    developer = Message("developer", (Text("a"),))
    source, losses = suited(OpenAIChat(developer_role=False), developer)
    assert (source["messages"], losses) == ([{"role": "system", "content": "a"}], [])


@pytest.mark.parametrize(
    ("field", "expected", "losses"),
    [
        ("reasoning_content", {"reasoning_content": "hm"}, []),
        ("reasoning", {"reasoning": "hm"}, []),
        (None, {}, ["$.messages[0].reasoning_content"]),
    ],
)
def test_a_providers_name_for_thoughts(field: str | None, expected: dict[str, str], losses: list[str]) -> None:
    """Earlier thoughts go back under the provider's name for them, or not at all, which is on the receipt."""
    source, lost = suited(OpenAIChat(reasoning_field=field), Message("assistant", (Reasoning("hm"), Text("a"))))
    assert source["messages"] == [{"role": "assistant", "content": "a", **expected}]
    assert lost == losses


def reported(*messages: Message, **fields: Any) -> list[tuple[str, str]]:
    """Return kind and path of each loss of a request."""
    _, losses = encode_request(ChatRequest("m", messages, **fields))
    assert all(isinstance(loss, Loss) and loss.reason.endswith(".") for loss in losses)
    return [(loss.kind, loss.path) for loss in losses]


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (Opaque("gemini", {}), ""),
        (Image(file_id="f"), ""),
        (Audio(id="au"), ""),
        (ToolCall("c", "f"), ""),
        (Reasoning("hm"), ""),
        (Text("a", extra=FOREIGN), ".x"),
        (Image(url="a", extra=FOREIGN), ".x"),
        (ToolResult("c", is_error=False), ".is_error"),
        (ToolResult("c", extra=FOREIGN), ".x"),
        (ToolResult("c", (Text("a"), Opaque("gemini", {}))), ".content[1]"),
    ],
    ids=str,
)
def test_losses_of_a_users_message(part: Any, path: str) -> None:
    """What a part cannot say here is on the receipt with its place in the neutral request."""
    assert [("dropped", f"$.messages[1].parts[1]{path}")] == reported(
        Message.user("a"), Message("user", (Text("b"), part))
    )


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (Reasoning("", "signed"), ".signature"),
        (Reasoning("hm", extra=FOREIGN), ".x"),
        (Reasoning("hm", extra={NAME: {"x": 1}}), ".x"),
        (Text("a", extra=FOREIGN), ".x"),
        (Opaque("anthropic", {}), ""),
        (Image(file_id="f"), ""),
        (ToolCall("c", "f", extra=FOREIGN), ".x"),
        (Refusal("No.", extra=FOREIGN), ".x"),
    ],
    ids=str,
)
def test_losses_of_an_assistants_message(part: Any, path: str) -> None:
    """So it is for what an assistant said."""
    assert [("dropped", f"$.messages[0].parts[0]{path}")] == reported(Message("assistant", (part,)))


def test_lost_order() -> None:
    """The order among thoughts, text and calls cannot be told; that it is lost is on the receipt."""
    usual = Message("assistant", (Reasoning("a"), Text("b"), Text("c"), ToolCall("d", "f")))
    assert [] == reported(usual)
    unusual = Message("assistant", (Text("b"), ToolCall("d", "f"), Text("c")))
    assert [("approximated", "$.messages[0].parts")] == reported(unusual)


def test_losses_of_a_request() -> None:
    """What the request itself cannot say here is on the receipt too; empty values say nothing."""
    assert [
        ("dropped", "$.tools[0].x"),
        ("dropped", "$.tools[1]"),
        ("dropped", "$.x"),
        ("dropped", "$.tool_choice"),
        ("dropped", "$.response_format.x"),
        ("dropped", "$.reasoning.x"),
        ("dropped", "$.reasoning.budget_tokens"),
        ("dropped", "$.reasoning.include"),
    ] == reported(
        tools=(Tool("f", extra=FOREIGN), Opaque("gemini", {})),
        tool_choice=Opaque("gemini", {}),
        response_format=ResponseFormat("text", extra=FOREIGN),
        reasoning=ReasoningOptions(budget_tokens=5, include=True, extra=FOREIGN),
        extra={**FOREIGN, NAME: {"y": 1}, "anthropic": {"a": None, "b": [], "c": {}}},
    )
    assert [("dropped", "$.messages[0].x")] == reported(Message("user", (Text("a"),), extra=FOREIGN))


def test_what_is_lost_is_not_sent() -> None:
    """Nothing of another format goes out."""
    message = Message("user", (Opaque("gemini", {"secret": 1}),), extra=FOREIGN)
    source, _ = encode_request(ChatRequest("m", (message,), extra=FOREIGN, tool_choice=Opaque("gemini", "secret")))
    assert source == {"model": "m", "messages": [{"role": "user", "content": ""}]}
