"""Conversations that cross between OpenAI Chat Completions and Ollama's own API, there and back; and faults by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from antiphon.chat.messages import Audio, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.errors import BadRequestError
from antiphon.formats import json
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from tests.wire import laws
from tests.wire.test_anthropic_crossing import OPENAI_REQUEST, crossed, plain

OLLAMA, OPENAI = Ollama(), OpenAIChat()


def test_from_openai_there_and_back() -> None:
    """A rich conversation of OpenAI's comes back from Ollama's format changed exactly as the receipt says."""
    sent = OPENAI.decode_request(json.encode(OPENAI_REQUEST))
    there, receipt = crossed(OLLAMA, sent)
    back, nothing = crossed(OPENAI, there)
    assert nothing == []
    assert sorted(receipt) == [
        "approximated $.messages[0].role",
        "approximated $.messages[3].parts[4].arguments",
        "approximated $.messages[8].parts[0]",
        "approximated $.reasoning.effort",
        "dropped $.logit_bias",
        "dropped $.messages[2].name",
        "dropped $.messages[2].parts[1]",
        "dropped $.messages[2].parts[3]",
        "dropped $.messages[2].parts[4]",
        "dropped $.n",
        "dropped $.response_format.name",
        "dropped $.service_tier",
        "dropped $.tool_choice",
        "dropped $.tools[0].strict",
        "dropped $.user",
    ]
    first, second, user, assistant, *rest = (plain(message) for message in back.messages)
    assert (first, second) == (Message.system("Be brief."), Message.system("Be kind."))
    assert user == Message("user", (Text("What is this?"), Image(data="AAAA")))
    assert assistant.parts == (
        Reasoning("Hm."),
        ToolCall("call_1", "look", '{"at":"left"}'),
        ToolCall("call:2", "look", "{}"),
        ToolCall("call_3", "look", '{"arguments":"{brok"}'),
    )
    assert [message.parts[0] for message in rest] == [
        ToolResult("call_1", (Text("A cat."),)),
        ToolResult("call:2", (Text("A dog."),)),
        ToolResult("call_3", (Text("Nothing."),)),
        Text("And now?"),
        Text("I will not say."),
        Text("Please."),
    ]
    assert plain(back).but(messages=()) == plain(sent).but(
        messages=(),
        extra=None,
        tools=(msgspec.structs.replace(plain(sent).tools[0], strict=None),),
        tool_choice=None,
        parallel_tool_calls=None,
        n=None,
        user=None,
        service_tier=None,
        reasoning=ReasoningOptions(effort="low"),
        response_format=ResponseFormat("json_schema", {"type": "object"}, "answer"),
    )


NATIVE: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?", "images": ["iVBORw0K"]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm.",
            "tool_calls": [
                {"function": {"name": "look", "arguments": {"at": "left"}}},
                {"function": {"name": "hear", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_name": "hear", "content": "Nothing."},
        {"role": "tool", "content": "A cat."},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "options": {"temperature": 0.5, "num_ctx": 4096, "num_predict": -1},
    "think": True,
    "keep_alive": "5m",
}


def test_to_openai() -> None:
    """A conversation of Ollama's arrives whole: results are tied to calls, and what has no place is in the receipt."""
    there, receipt = crossed(OPENAI, OLLAMA.decode_request(json.encode(NATIVE)))
    assert receipt == ["dropped $.options", "dropped $.keep_alive", "dropped $.reasoning.budget_tokens"]
    _, user, assistant, *results = (plain(message) for message in there.messages)
    assert user.parts == (Text("What is this?"), Image(data="iVBORw0K", media_type="image/png"))
    assert [(call.id, call.name) for call in assistant.tool_calls] == [("call_0", "look"), ("call_1", "hear")]
    assert [part.call_id for message in results for part in message.parts] == ["call_1", "call_0"]
    assert (there.stream, there.temperature, there.max_tokens) == (True, 0.5, None)


def receipt(*messages: Message, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what is sent for a request, and what the receipt says."""
    http = OLLAMA.encode_request(ChatRequest("m", messages, **fields))
    return json.decode(http.body), [f"{loss.kind} {loss.path}" for loss in http.losses]


def test_what_has_no_place() -> None:
    """Parts and fields that Ollama cannot say are left out or said otherwise, each with its entry."""
    mixed = Message(
        "user",
        (
            ToolResult("a", (Text("1"), Image(data="AAAA")), is_error=True),
            ToolResult("b", ()),
            Image(data="AAAA", name="x"),
            Text("t"),
            Text("u"),
            Image(file_id="f"),
            Audio(data="AAAA", transcript="hear"),
            Opaque("x", {}),
        ),
        extra={"ollama": {"fresh": 1}},
    )
    written, losses = receipt(mixed, tool_choice="none", tools=(Tool("f"),), response_format=ResponseFormat("text"))
    assert written["messages"] == [
        {"role": "tool", "content": "1", "images": ["AAAA"], "tool_call_id": "a"},
        {"role": "tool", "content": "", "tool_call_id": "b"},
        {"role": "user", "content": "t\nu\nhear", "images": ["AAAA"]},
    ]
    assert "tools" not in written
    assert sorted(losses) == [
        "approximated $.messages[0].parts",
        "approximated $.messages[0].parts[6]",
        "approximated $.tool_choice",
        "dropped $.messages[0].fresh",
        "dropped $.messages[0].parts[0].is_error",
        "dropped $.messages[0].parts[2].name",
        "dropped $.messages[0].parts[5]",
        "dropped $.messages[0].parts[7]",
    ]


@pytest.mark.parametrize(
    ("reasoning", "think", "losses"),
    [
        (ReasoningOptions(effort="none"), False, []),
        (ReasoningOptions(budget_tokens=0), False, []),
        (ReasoningOptions(effort="xhigh"), "high", ["approximated $.reasoning.effort"]),
        (ReasoningOptions(budget_tokens=9), True, ["dropped $.reasoning.budget_tokens"]),
        (ReasoningOptions(include=False), None, ["dropped $.reasoning.include"]),
        (ReasoningOptions(include=True), None, []),
    ],
)
def test_thinking(reasoning: ReasoningOptions, think: Any, losses: list[str]) -> None:
    """Efforts are levels, bounds are not known, and thoughts always come."""
    written, told = receipt(reasoning=reasoning)
    assert (written.get("think"), told) == (think, losses)


def test_tools_and_choices() -> None:
    """Foreign tools are left out, and a forced one cannot be said."""
    written, losses = receipt(tools=(Opaque("x", {}), Opaque("ollama", {"type": "y"})), tool_choice=ToolName("f"))
    assert written["tools"] == [{"type": "y"}]
    assert losses == ["dropped $.tool_choice", "dropped $.tools[0]"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "$.model"),
        ({"messages": None}, "$.messages"),
        ({"messages": [1]}, "$.messages[0]"),
        ({"messages": [{"content": "x"}]}, "$.messages[0].role"),
        ({"messages": [{"role": "user", "content": []}]}, "$.messages[0].content"),
        ({"messages": [{"role": "user", "images": [1]}]}, "$.messages[0].images[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "$.messages[0].tool_calls[0]"),
        ({"tools": [1]}, "$.tools[0]"),
        ({"tools": [{"function": 1}]}, "$.tools[0].function"),
        ({"options": 1}, "$.options"),
        ({"options": {"stop": [1]}}, "$.options.stop[0]"),
        ({"format": "xml"}, "$.format"),
        ({"think": 1}, "$.think"),
        ({"stream": "no"}, "$.stream"),
    ],
)
def test_faults_of_requests(change: dict[str, Any], param: str) -> None:
    """A request of the wrong shape is refused with the path of the fault."""
    with pytest.raises(BadRequestError) as caught:
        OLLAMA.decode_request(json.encode({"model": "m", "messages": [], **change}))
    assert caught.value.param == param


def test_a_request_nested_too_deeply_is_refused() -> None:
    """Nesting beyond what the interpreter bears is the client's fault, not the server's."""
    for depth in (300, 900, 100_000):
        body = b'{"model":"m","messages":[],"x":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
        try:
            OLLAMA.decode_request(body)
        except BadRequestError as error:
            told = error.param
        else:
            told = "$"
        assert told == "$"


def test_a_native_request_is_given_back() -> None:
    """A request as the server's documentation has it is the same JSON after it was read and written."""
    laws.check_request_json(OLLAMA, NATIVE)
