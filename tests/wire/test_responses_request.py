"""OpenAI Responses requests, by example: what becomes of items and fields, what is refused, what is lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from antiphon.chat.messages import (
    Annotation,
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool
from antiphon.errors import BadRequestError
from antiphon.formats import json
from antiphon.formats.responses import Responses
from tests.wire.responses_values import plain

CODEC = Responses()
NAME = CODEC.name


def decoded(**fields: Any) -> ChatRequest:
    """Return a request with *fields*."""
    return CODEC.decode_request(json.encode({"model": "m", "input": [], **fields}))


def messages(*items: dict[str, Any]) -> tuple[Message, ...]:
    """Return the messages that *items* are read as, without the memory of how they were written."""
    return plain(decoded(input=list(items)).messages)


def encoded(*given: Message, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the request that is written, and what its receipt says but for the reasons."""
    http = CODEC.encode_request(ChatRequest("m", given, **fields))
    return json.decode(http.body), [f"{loss.kind} {loss.path}" for loss in http.losses]


CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}
SPOKEN: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hi.", "annotations": []}],
}
THOUGHT: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}


def test_a_turn_of_the_model_is_one_message() -> None:
    """Reasoning, text and calls that follow each other are one message, in their order; results stand alone."""
    result = {"type": "function_call_output", "call_id": "call_1", "output": "4"}
    assert messages({"role": "user", "content": "Hi"}, THOUGHT, SPOKEN, CALL, result, SPOKEN) == (
        Message.user("Hi"),
        Message("assistant", (Reasoning("", "gAAA"), Text("Hi."), ToolCall("call_1", "f", "{}"))),
        Message("tool", (ToolResult("call_1", (Text("4"),)),)),
        Message.assistant("Hi."),
    )


def test_neighbouring_messages_of_the_model_stay_apart() -> None:
    """Two message items are two texts of one message, and two items again, each with its own id."""
    items = [SPOKEN, {**SPOKEN, "id": "msg_2", "phase": "final_answer"}]
    request = decoded(input=items)
    assert plain(request.messages)[0].parts == (
        Text("Hi."),
        Text("Hi.", extra={NAME: {"message": {"phase": "final_answer"}}}),
    )
    assert json.decode(CODEC.encode_request(request).body)["input"] == items


def test_a_phase_begins_a_message() -> None:
    """Two texts with phases of their own stay two messages, also where nobody remembers how they were written."""
    phases = ("commentary", "final_answer")
    parts = tuple(Text("Hi.", extra={NAME: {"message": {"phase": phase}}}) for phase in phases)
    source, _ = encoded(Message("assistant", parts))
    assert [item["phase"] for item in source["input"]] == [*phases]
    assert messages(*source["input"]) == (Message("assistant", parts),)


def test_a_changed_text_forgets_nothing_else() -> None:
    """Who changes a text in a history does not get the old one back, and keeps the ids around it."""
    request = decoded(input=[THOUGHT, SPOKEN])
    (turn,) = request.messages
    parts = (turn.parts[0], msgspec.structs.replace(turn.parts[1], text="Bye."))
    changed = request.but(messages=(msgspec.structs.replace(turn, parts=parts),))
    piece = {"type": "output_text", "text": "Bye.", "annotations": []}
    assert json.decode(CODEC.encode_request(changed).body)["input"] == [THOUGHT, {**SPOKEN, "content": [piece]}]


def test_a_changed_bare_string() -> None:
    """An input that was a bare string is an array once something was added to it."""
    request = decoded(input="Hi")
    longer = request.but(messages=(*request.messages, Message.assistant("Hello."), Message.user("Well?")))
    assert json.decode(CODEC.encode_request(longer).body)["input"] == [
        {"role": "user", "content": "Hi"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
        },
        {"role": "user", "content": "Well?"},
    ]


def test_texts_beside_a_bare_string() -> None:
    """A text that was a bare string becomes a part of its message once another text follows it."""
    (turn,) = decoded(input=[{"role": "assistant", "content": "Hi."}]).messages
    source, _ = encoded(msgspec.structs.replace(turn, parts=(*turn.parts, Text("More."))))
    pieces = [{"type": "output_text", "text": text, "annotations": []} for text in ("Hi.", "More.")]
    assert source["input"] == [{"role": "assistant", "content": pieces}]


def test_instructions() -> None:
    """Instructions are a system message at the head that goes back to where it stood; a second one is an item."""
    request = decoded(instructions="Be brief.", input="Hi")
    assert plain(request.messages) == (Message.system("Be brief."), Message.user("Hi"))
    twice = request.but(messages=(request.messages[0], *request.messages), form=None)
    assert json.decode(CODEC.encode_request(twice).body) == {
        "model": "m",
        "instructions": "Be brief.",
        "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }


def test_content() -> None:
    """Pictures, documents and sounds are read wherever they are; what is new stays as it is."""
    (message,) = messages(
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                {"type": "input_image", "file_id": "file_1", "detail": "auto"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
                {"type": "input_file", "file_data": "JVBE"},
                {"type": "input_file", "file_url": "https://x.org/a.pdf"},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
                {"type": "fresh"},
            ],
        }
    )
    assert message.parts == (
        Image(data="AAAA", media_type="image/png", detail="low"),
        Image(file_id="file_1"),
        File(data="JVBE", media_type="application/pdf", name="a.pdf"),
        File(data="JVBE"),
        File(url="https://x.org/a.pdf"),
        Audio(data="AAAA", media_type="audio/mpeg"),
        Opaque(NAME, {"type": "fresh"}),
    )


def test_reasoning_text() -> None:
    """The text of reasoning is its summary, a paragraph each, or else its content."""
    summary = [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}]
    content = [{"type": "reasoning_text", "text": "Three."}]
    both, bare = {**THOUGHT, "summary": summary, "content": content}, {**THOUGHT, "content": content}
    assert [part.text for part in messages(both, bare)[0].parts if isinstance(part, Reasoning)] == [
        "One.\n\nTwo.",
        "Three.",
    ]


def test_custom_tools() -> None:
    """A call with free text and its result are of types of their own, also where they came from elsewhere."""
    call = ToolCall("call_1", "run", "ls", "custom")
    source, receipt = encoded(Message("assistant", (call,)), Message.tool("call_1", "a b"))
    assert source["input"] == [
        {"type": "custom_tool_call", "call_id": "call_1", "name": "run", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "a b"},
    ]
    assert receipt == []
    assert messages(*source["input"]) == (Message("assistant", (call,)), Message.tool("call_1", "a b"))


def test_items_without_a_meaning() -> None:
    """Server tools, compactions and a message with more than text are carried as they are."""
    odd = {**SPOKEN, "content": [{"type": "output_image"}]}
    items: list[dict[str, Any]] = [{"type": "web_search_call", "id": "ws_1"}, {"type": "compaction", "id": "c"}, odd]
    empty = {**SPOKEN, "content": []}
    assert messages(*items, empty) == (Message("assistant", tuple(Opaque(NAME, item) for item in (*items, empty))),)


def test_state_survives() -> None:
    """What only this API knows of a request is kept, whatever else is changed."""
    state = {
        "previous_response_id": "resp_1",
        "store": False,
        "background": True,
        "include": ["x"],
        "truncation": "auto",
    }
    request = decoded(**state).but(temperature=0.5)
    assert json.decode(CODEC.encode_request(request).body) == {"model": "m", "input": [], "temperature": 0.5, **state}


def test_functions_are_strict_only_where_told() -> None:
    """A function is written with `strict: false` where nothing was said, and read so where that stands there."""
    source, _ = encoded(tools=(Tool("f"), Tool("g", "G.", {"type": "object"}, strict=True)))
    assert source["tools"] == [
        {"type": "function", "name": "f", "parameters": None, "strict": False},
        {"type": "function", "name": "g", "description": "G.", "parameters": {"type": "object"}, "strict": True},
    ]
    assert [tool.strict for tool in decoded(**source).tools or () if isinstance(tool, Tool)] == [None, True]


def test_logprobs_are_an_entry_of_include() -> None:
    """Log-probabilities are asked for beside whatever else is to be included."""
    include = ["reasoning.encrypted_content", "message.output_text.logprobs"]
    request = decoded(include=include, top_logprobs=2)
    assert (request.logprobs, request.extra) == (True, {NAME: {"include": include[:1]}})
    source, _ = encoded(logprobs=True)
    assert source["include"] == ["message.output_text.logprobs"]
    assert decoded(include=include[:1]).logprobs is None


def test_reasoning_options() -> None:
    """Efforts and summaries are said as they are; a number of tokens is not, but for none at all."""
    assert decoded(reasoning={"effort": "low", "summary": "detailed"}).reasoning == ReasoningOptions(
        effort="low", include=True
    )
    assert encoded(reasoning=ReasoningOptions(effort="high", budget_tokens=9, include=True)) == (
        {"model": "m", "input": [], "reasoning": {"effort": "high", "summary": "auto"}},
        ["dropped $.reasoning.budget_tokens"],
    )
    assert encoded(reasoning=ReasoningOptions(budget_tokens=0)) == (
        {"model": "m", "input": [], "reasoning": {"effort": "none"}},
        ["approximated $.reasoning.budget_tokens"],
    )


def test_formats() -> None:
    """A schema is sent with the name that the API demands."""
    assert encoded(response_format=ResponseFormat("json_schema", {"type": "object"})) == (
        {
            "model": "m",
            "input": [],
            "text": {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}},
        },
        ["defaulted $.response_format.name"],
    )
    odd = decoded(text={"format": {"type": "grammar", "definition": "x"}, "verbosity": "low"})
    assert odd.response_format is None
    assert odd.extra == {NAME: {"text": {"format": {"type": "grammar", "definition": "x"}, "verbosity": "low"}}}


def test_what_has_no_place() -> None:
    """Everything that cannot be said is left out or said otherwise, and the receipt lists each."""
    parts = (
        Image(name="x"),
        File(),
        Audio(id="a"),
        Reasoning("Hm."),
        ToolCall("c", "f"),
        Refusal("No."),
        Opaque("x", {}),
    )
    source, receipt = encoded(
        Message("user", parts, "ada"),
        Message("assistant", (Reasoning("Hm."), Image(url="u"))),
        Message("tool", (ToolResult("c", (Text("1"),), is_error=True, name="f"), Text("And?"))),
        Message("user", (Image(url="u", name="n"), File(url="u", media_type="text/plain"))),
        Message("user", (Image(url="u", data="AAAA"), Text("x", (Annotation(url="u"),), ({"token": "x"},)))),
        stop=("x",),
        n=2,
        seed=1,
        top_k=3,
        frequency_penalty=0.1,
        presence_penalty=0.1,
        tools=(Opaque("x", {}),),
        tool_choice=Opaque("x", {}),
    )
    assert source == {
        "model": "m",
        "input": [
            {"role": "user", "content": "No."},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
            {"role": "user", "content": "And?"},
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "detail": "auto", "image_url": "u"},
                    {"type": "input_file", "file_url": "u"},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "detail": "auto", "image_url": "data:;base64,AAAA"},
                    {"type": "input_text", "text": "x"},
                ],
            },
        ],
        "tools": [],
    }
    assert receipt == [
        "dropped $.messages[0].name",
        *(f"dropped $.messages[0].parts[{place}]" for place in range(5)),
        "approximated $.messages[0].parts[5]",
        "dropped $.messages[0].parts[6]",
        "dropped $.messages[1].parts[0]",
        "dropped $.messages[1].parts[1]",
        "dropped $.messages[1]",
        "dropped $.messages[2].parts[0].is_error",
        "dropped $.messages[2].parts[0].name",
        "approximated $.messages[2].role",
        "dropped $.messages[3].parts[0].name",
        "dropped $.messages[3].parts[1].media_type",
        "dropped $.messages[4].parts[0].url",
        "dropped $.messages[4].parts[1].annotations",
        "dropped $.messages[4].parts[1].logprobs",
        "dropped $.tools[0]",
        "dropped $.tool_choice",
        *(f"dropped $.{field}" for field in ("top_k", "stop", "n", "seed", "frequency_penalty", "presence_penalty")),
    ]


def test_values_that_say_nothing_are_no_loss() -> None:
    """One choice, no penalties and no stop are what the API does anyway."""
    assert encoded(n=1, frequency_penalty=0, presence_penalty=0.0, stop=(), logprobs=False)[1] == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b'{"input":[]}', "$.model"),
        (b'{"model":"m","input":7}', "$.input"),
        (b'{"model":"m","input":[7]}', "$.input[0]"),
        (b'{"model":"m","input":[{"type":7}]}', "$.input[0].type"),
        (b'{"model":"m","input":[{"content":"x"}]}', "$.input[0].role"),
        (b'{"model":"m","input":[{"role":"user"}]}', "$.input[0].content"),
        (b'{"model":"m","input":[{"role":"user","content":[{"type":"input_text"}]}]}', "$.input[0].content[0].text"),
        (b'{"model":"m","input":[{"role":"user","content":["x"]}]}', "$.input[0].content[0]"),
        (b'{"model":"m","input":[{"type":"function_call","call_id":"c"}]}', "$.input[0].name"),
        (b'{"model":"m","input":[{"type":"function_call_output","call_id":"c"}]}', "$.input[0].output"),
        (b'{"model":"m","input":[{"type":"function_call_output","output":""}]}', "$.input[0].call_id"),
        (b'{"model":"m","input":[{"type":"reasoning","summary":7}]}', "$.input[0].summary"),
        (
            b'{"model":"m","input":[{"role":"assistant","content":[{"type":"output_text","text":"","annotations":[7]}]}]}',
            "$.input[0].content[0].annotations[0]",
        ),
        (b'{"model":"m","tools":[{"name":"f"}]}', "$.tools[0].type"),
        (b'{"model":"m","tools":[{"type":"function"}]}', "$.tools[0].name"),
        (b'{"model":"m","tool_choice":"any"}', "$.tool_choice"),
        (b'{"model":"m","text":{"format":{}}}', "$.text.format.type"),
        (b'{"model":"m","instructions":["x"]}', "$.instructions"),
        (b'{"model":"m","stream":"yes"}', "$.stream"),
        (b'{"model":"\xff"}', "$"),
    ],
)
def test_a_faulty_request_is_refused_with_its_path(body: bytes, path: str) -> None:
    """A value of the wrong type, or one that is missing, is the client's fault, and the error says where."""
    with pytest.raises(BadRequestError) as caught:
        CODEC.decode_request(body)
    assert caught.value.param == path


def test_a_result_among_the_models_own_parts() -> None:
    """A result that stands in the assistant's message is an item there."""
    source, receipt = encoded(Message("assistant", (ToolCall("c", "f"), ToolResult("c", (Text("4"),)), Text("Four."))))
    assert [item["type"] for item in source["input"]] == ["function_call", "function_call_output", "message"]
    assert receipt == []


def test_a_request_nested_too_deeply_is_refused() -> None:
    """Nesting beyond what the interpreter bears is the client's fault, not the server's."""
    body = b'{"model":"m","metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
    with pytest.raises(BadRequestError, match="nested too deeply"):
        CODEC.decode_request(body)
