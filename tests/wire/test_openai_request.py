"""OpenAI Chat Completions requests and the messages in them, read."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from antiphon.chat.messages import Audio, File, Image, Message, Opaque, Reasoning, Refusal, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.message import NAME
from antiphon.formats.openai_chat.request import decode_request, encode_request
from tests.wire import laws, openai_shapes

CODEC = OpenAIChat()


@given(openai_shapes.WIRE_REQUESTS)
def test_inexact(source: dict[str, Any]) -> None:
    """Who does not ask for how a request was written gets the same request, but for that."""
    assert decode_request(source) == decode_request(source, keep=False)


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
    assert request == ChatRequest("m", (Message.user("Hi"),))
    assert json.decode(OpenAIChat().encode_request(request).body)["temperature"] is None


def test_other_spellings_mean_the_same() -> None:
    """How known fields were written is no part of what a request means."""
    plain, odd = user_request(max_tokens=5, stop=["a"]), user_request(max_completion_tokens=5, stop="a", seed=None)
    assert plain == odd
    assert encode_request(plain) != encode_request(odd)


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
    expected = expected or Reasoning("hm")
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
    assert message.extra is None


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
    written["messages"], written["stop"] = [], None
    assert before == source == encode_request(request)[0]


def test_what_a_host_refuses_is_left_out_of_a_copy() -> None:
    """A codec that changes what a host would refuse leaves the request as it was, to be sent to another host."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    file = {"type": "file", "file": {"file_data": "https://example.org/a.pdf"}}
    source = {
        "model": "m",
        "seed": 7,
        "max_tokens": 5,
        "tool_choice": "required",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Read."}, file]},
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "done"},
        ],
    }
    strange = OpenAIChat(
        max_tokens_field="max_completion_tokens",
        reasoning_field="thinking",
        seed_field="random_seed",
        short_call_ids=True,
        file_urls=False,
        developer_role=False,
        unsupported=("n",),
        thinking_models=("m",),
    )
    request = decode_request(copy.deepcopy(source))
    written = json.decode(strange.encode_request(request).body)
    assert [message["role"] for message in written["messages"]] == ["system", "user", "assistant", "tool"]
    assert written["messages"][1]["content"] == [{"type": "text", "text": "Read."}]
    assert written["messages"][2]["tool_calls"][0]["id"] == written["messages"][3]["tool_call_id"] != "call_1"
    assert (written["random_seed"], written["max_completion_tokens"], written["tool_choice"]) == (7, 5, "auto")
    assert json.decode(OpenAIChat().encode_request(request).body) == source


def test_settings_stay_as_they_came_where_messages_are_changed() -> None:
    """A request with other messages, tools or another model has its settings as they came, and so each message."""
    tool = {"type": "function", "function": {"name": "f", "parameters": None}}
    empty = {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": None}
    source = {"model": "m", "stop": "a", "seed": None, "tools": [tool], "messages": [empty]}
    request = decode_request(source)
    changed = request.but(
        model="n", messages=(Message.system("S"), *request.messages), tools=request.tools, stream=True
    )
    system = {"role": "system", "content": "S"}
    assert encode_request(changed)[0] == {**source, "model": "n", "messages": [system, empty], "stream": True}
    more = request.but(tools=(*(request.tools or ()), Tool("g")), include_usage=True)
    written = encode_request(more)[0]
    assert written["tools"] == [tool, {"type": "function", "function": {"name": "g"}}]
    assert (written["stream_options"], written["seed"], written["stop"]) == ({"include_usage": True}, None, "a")
    assert "tools" not in encode_request(request.but(tools=None))[0]
    assert encode_request(request.but(temperature=1))[0]["stop"] == ["a"]
