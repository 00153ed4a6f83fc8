"""Conversations that cross between OpenAI Chat Completions and Cohere's Chat API v2; and faults by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from antiphon.chat.messages import Audio, File, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.errors import BadRequestError
from antiphon.formats import json
from antiphon.formats.cohere import Cohere
from antiphon.formats.openai_chat import OpenAIChat
from tests.wire.cohere_values import PLAN
from tests.wire.test_anthropic_crossing import OPENAI_REQUEST, crossed, plain

COHERE, OPENAI = Cohere(), OpenAIChat()


def test_empty_system_text_is_not_sent() -> None:
    """System text in which there is nothing to be said is left out, unless a client of this format sent it."""
    http = COHERE.encode_request(ChatRequest("c", (Message.system(""), Message.user("Hi."))))
    assert json.decode(http.body)["messages"] == [{"role": "user", "content": "Hi."}]
    assert http.losses == ()
    empty: list[Any] = ["", [], [{"type": "text", "text": ""}]]
    for content in empty:
        messages = [{"role": "system", "content": content}, {"role": "user", "content": "Hi."}]
        http = COHERE.encode_request(COHERE.decode_request(json.encode({"model": "c", "messages": messages})))
        assert json.decode(http.body)["messages"] == messages


def test_from_openai_there_and_back() -> None:
    """A rich conversation of OpenAI's comes back from Cohere's format changed exactly as the receipt says."""
    sent = OPENAI.decode_request(json.encode(OPENAI_REQUEST))
    there, receipt = crossed(COHERE, sent)
    back, nothing = crossed(OPENAI, there)
    assert nothing == ["dropped $.reasoning.budget_tokens"]
    assert sorted(receipt) == [
        "approximated $.messages[0].role",
        "approximated $.messages[8].parts[0]",
        "approximated $.reasoning.effort",
        "approximated $.tool_choice",
        "dropped $.logit_bias",
        "dropped $.messages[2].name",
        "dropped $.messages[2].parts[3]",
        "dropped $.messages[2].parts[4]",
        "dropped $.n",
        "dropped $.response_format.name",
        "dropped $.service_tier",
        "dropped $.top_logprobs",
        "dropped $.user",
    ]
    before = plain(sent).messages
    first, second, user, assistant, *rest = (plain(message) for message in back.messages)
    assert (first, second) == (Message.system("Be brief."), before[1])
    assert user == Message("user", before[2].parts[:3])
    assert assistant.parts == tuple(part for part in before[3].parts if part != Text(""))
    assert rest[:4] == [*before[4:8]]
    assert [message.content for message in rest[4:]] == ["I will not say.", "Please."]
    assert plain(back).but(messages=()) == plain(sent).but(
        messages=(),
        extra=None,
        tool_choice="required",
        parallel_tool_calls=None,
        n=None,
        user=None,
        service_tier=None,
        top_logprobs=None,
        reasoning=None,
        response_format=ResponseFormat("json_schema", {"type": "object"}, "answer"),
    )


NATIVE: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "What is this?"},
        {
            "role": "assistant",
            "tool_plan": "I will look.",
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {
            "role": "tool",
            "tool_call_id": "t",
            "content": [{"type": "document", "document": {"data": {"a": "b"}}}, {"type": "text", "text": "A cat."}],
        },
        {"role": "assistant", "content": "A cat."},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "documents": [{"data": {"text": "x"}}],
    "thinking": {"type": "enabled", "token_budget": 10},
    "p": 0.5,
    "k": 3,
}


def test_to_openai() -> None:
    """A conversation of Cohere's arrives; its plan as thoughts, and what has no place in the receipt."""
    there, receipt = crossed(OPENAI, COHERE.decode_request(json.encode(NATIVE)))
    assert sorted(receipt) == [
        "dropped $.documents",
        "dropped $.messages[1].parts[0].type",
        "dropped $.messages[2].parts[0].content[0]",
        "dropped $.reasoning.budget_tokens",
    ]
    _, planned, result, told = (plain(message) for message in there.messages)
    assert planned.parts == (Reasoning("I will look."), ToolCall("t", "look", "{}"))
    assert result.parts == (ToolResult("t", (Text("A cat."),)),)
    assert told.content == "A cat."


def receipt(*messages: Message, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what is sent for a request, and what the receipt says."""
    http = COHERE.encode_request(ChatRequest("m", messages, **fields))
    return json.decode(http.body), [f"{loss.kind} {loss.path}" for loss in http.losses]


def test_what_has_no_place() -> None:
    """Parts that Cohere cannot say are left out or said otherwise, each with its entry."""
    mixed = Message(
        "user",
        (
            ToolResult("a", (Text("1"), Image(url="https://x.org")), is_error=True, name="f"),
            Text("t"),
            File.from_bytes(b"words", "text/plain", name="a.txt"),
            File(file_id="f"),
            Image(data="AAAA", name="x"),
            Image(file_id="f"),
            Audio(data="AAAA", transcript="hear"),
            Audio(data="AAAA"),
            Opaque("x", {}),
        ),
        extra={"cohere": {"fresh": 1}},
    )
    spoken = Message(
        "assistant",
        (ToolCall("c", "f", "free", "custom"), Reasoning("Hm.", "sig"), Reasoning("I will.", extra=PLAN)),
    )
    written, losses = receipt(mixed, spoken)
    assert written["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "text", "text": "hear"},
            ],
        },
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Hm."}],
            "tool_plan": "I will.",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"arguments":"free"}'}}
            ],
        },
    ]
    assert written["documents"] == [{"data": {"title": "a.txt", "text": "words"}}]
    assert sorted(losses) == [
        "approximated $.messages[0].parts[2]",
        "approximated $.messages[0].parts[6]",
        "approximated $.messages[1].parts",
        "approximated $.messages[1].parts[0]",
        "defaulted $.messages[0].parts[4].media_type",
        "dropped $.messages[0].fresh",
        "dropped $.messages[0].parts[0].content[1]",
        "dropped $.messages[0].parts[0].is_error",
        "dropped $.messages[0].parts[0].name",
        "dropped $.messages[0].parts[3]",
        "dropped $.messages[0].parts[4].name",
        "dropped $.messages[0].parts[5]",
        "dropped $.messages[0].parts[7]",
        "dropped $.messages[0].parts[8]",
        "dropped $.messages[1].parts[1].signature",
    ]


def test_fields_are_kept_within_bounds() -> None:
    """Sampling beyond what Cohere takes is moved to the nearest bound, and said so."""
    written, losses = receipt(top_p=1.0, frequency_penalty=-1, presence_penalty=0.5)
    assert (written["p"], written["frequency_penalty"], written["presence_penalty"]) == (0.99, 0, 0.5)
    assert losses == ["approximated $.frequency_penalty", "approximated $.top_p"]


@pytest.mark.parametrize(
    ("reasoning", "thinking", "losses"),
    [
        (ReasoningOptions(effort="none"), {"type": "disabled"}, []),
        (ReasoningOptions(budget_tokens=0), {"type": "disabled"}, []),
        (ReasoningOptions(budget_tokens=9), {"type": "enabled", "token_budget": 9}, []),
        (ReasoningOptions(effort="low"), {"type": "enabled"}, ["approximated $.reasoning.effort"]),
        (ReasoningOptions(include=False), None, ["dropped $.reasoning.include"]),
    ],
)
def test_thinking(reasoning: ReasoningOptions, thinking: Any, losses: list[str]) -> None:
    """Bounds are sent, efforts only turn thinking on, and thoughts always come."""
    written, told = receipt(reasoning=reasoning)
    assert (written.get("thinking"), told) == (thinking, losses)


def test_tools_and_choices() -> None:
    """A forced tool is the only one sent, strictness is for all tools, foreign tools and choices are left out."""
    one, two = Tool("f", parameters={}, strict=True), Tool("g")
    forced, losses = receipt(tools=(one, two), tool_choice=ToolName("f"))
    assert ([tool["function"]["name"] for tool in forced["tools"]], forced["tool_choice"]) == (["f"], "REQUIRED")
    assert (forced["strict_tools"], losses) == (True, ["approximated $.tool_choice"])
    mixed, losses = receipt(tools=(one, two, Opaque("x", {})), tool_choice=Opaque("x", {}))
    assert mixed["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert losses == ["dropped $.tool_choice", "dropped $.tools[2]", "approximated $.tools"]
    assert not {"strict_tools", "tool_choice"} & mixed.keys()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "$.model"),
        ({"messages": None}, "$.messages"),
        ({"messages": [1]}, "$.messages[0]"),
        ({"messages": [{"content": "x"}]}, "$.messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "$.messages[0].content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "$.messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "$.messages[0].content[0].text"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "$.messages[0].tool_calls[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "$.messages[0].tool_calls[0].id"),
        ({"tools": [1]}, "$.tools[0]"),
        ({"tools": [{"function": 1}]}, "$.tools[0].function"),
        ({"stop_sequences": [1]}, "$.stop_sequences[0]"),
        ({"thinking": {}}, "$.thinking.type"),
        ({"response_format": {"type": "json_object", "json_schema": 1}}, "$.response_format.json_schema"),
        ({"strict_tools": 1}, "$.strict_tools"),
        ({"tool_choice": {}}, "$.tool_choice"),
    ],
)
def test_faults_of_requests(change: dict[str, Any], param: str) -> None:
    """A request of the wrong shape is refused with the path of the fault."""
    with pytest.raises(BadRequestError) as caught:
        COHERE.decode_request(json.encode({"model": "m", "messages": [], **change}))
    assert caught.value.param == param


def test_a_form_does_not_outlive_what_it_is_of() -> None:
    """What was changed after it was read is written as changed."""
    read = COHERE.decode_request(json.encode(NATIVE))
    changed = msgspec.structs.replace(read.messages[3], parts=(Text("A dog."),))
    written = json.decode(COHERE.encode_request(read.but(messages=(changed,), top_p=0.25)).body)
    assert (written["messages"], written["p"]) == ([{"role": "assistant", "content": "A dog."}], 0.25)
