"""Conversations that cross between OpenAI Chat Completions and Anthropic Messages, there and back.

What is different afterwards is what the two receipts say, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.events import fold
from antiphon.chat.losses import Loss
from antiphon.chat.messages import Message, Part, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.codec import Codec
from antiphon.formats.openai_chat import OpenAIChat
from tests.wire import laws

ANTHROPIC, OPENAI = Anthropic(), OpenAIChat()


def crossed(codec: Codec, request: ChatRequest) -> tuple[ChatRequest, list[str]]:
    """Return *request* as it arrives in the format of *codec*, and what the receipt says, but for the reasons."""
    http = codec.encode_request(request)
    return codec.decode_request(http.body), [f"{loss.kind} {loss.path}" for loss in http.losses]


def plain(value: Any) -> Any:
    """Return *value* without the memory of how it was written."""
    if isinstance(value, msgspec.Struct):
        fields = {key: plain(getattr(value, key)) for key in value.__struct_fields__ if key != "form"}
        return type(value)(**fields)
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


OPENAI_REQUEST: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "Hm.",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"left"}'}},
                {"id": "call:2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                {"id": "call_3", "type": "function", "function": {"name": "look", "arguments": "{brok"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "A cat."},
        {"role": "tool", "tool_call_id": "call:2", "content": "A dog."},
        {"role": "tool", "tool_call_id": "call_3", "content": "Nothing."},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": None, "refusal": "I will not say."},
        {"role": "user", "content": "Please."},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "look",
                "description": "Looks.",
                "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
                "strict": True,
            },
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "parallel_tool_calls": True,
    "temperature": 1.3,
    "top_p": 0.9,
    "max_tokens": 100,
    "stop": ["END"],
    "n": 2,
    "seed": 7,
    "presence_penalty": 0.5,
    "logprobs": True,
    "top_logprobs": 3,
    "user": "u",
    "service_tier": "default",
    "reasoning_effort": "minimal",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "stream": True,
    "stream_options": {"include_usage": True},
    "logit_bias": {"50256": -100},
}


def test_from_openai_there_and_back() -> None:
    """A rich conversation of OpenAI's comes back from Anthropic's format changed exactly as the receipt says."""
    sent = OPENAI.decode_request(json.encode(OPENAI_REQUEST))
    there, receipt = crossed(ANTHROPIC, sent)
    back, nothing = crossed(OPENAI, there)
    assert nothing == []
    assert receipt == [
        "dropped $.logit_bias",
        "approximated $.messages[0].role",
        "dropped $.messages[2].name",
        "dropped $.messages[2].parts[1].detail",
        "dropped $.messages[2].parts[4]",
        "dropped $.messages[3].parts[0]",
        "approximated $.messages[3].parts[3].id",
        "approximated $.messages[3].parts[4].arguments",
        "approximated $.messages[5].parts[0].call_id",
        "approximated $.messages[8].parts[0]",
        "approximated $.temperature",
        "approximated $.service_tier",
        "dropped $.n",
        "dropped $.seed",
        "dropped $.presence_penalty",
        "dropped $.logprobs",
        "dropped $.top_logprobs",
        "approximated $.reasoning.effort",
        "dropped $.response_format.name",
    ]
    start, user, assistant, first, second, third, *rest = back.messages
    assert plain(start) == Message("system", (Text("Be brief."), Text("Be kind.")))
    assert plain(user) == Message("user", (
        Text("What is this?"),
        msgspec.structs.replace(plain(sent).messages[2].parts[1], detail=None),
        *plain(sent).messages[2].parts[2:4],
    ))  # fmt: skip
    assert plain(assistant).parts == (
        ToolCall("call_1", "look", '{"at":"left"}'),
        ToolCall("call_2", "look", "{}"),
        ToolCall("call_3", "look", '{"arguments":"{brok"}'),
    )
    assert [plain(message) for message in (first, second, third)] == [
        Message("tool", (ToolResult("call_1", (Text("A cat."),)),)),
        Message("tool", (ToolResult("call_2", (Text("A dog."),)),)),
        Message("tool", (ToolResult("call_3", (Text("Nothing."),)),)),
    ]
    assert [plain(message) for message in rest] == [
        Message("user", (Text("And now?"),)),
        Message("assistant", (Text("I will not say."),)),
        Message("user", (Text("Please."),)),
    ]
    assert plain(back).but(messages=()) == plain(sent).but(
        messages=(),
        extra=None,
        temperature=1.0,
        service_tier="standard_only",
        n=None,
        seed=None,
        presence_penalty=None,
        logprobs=None,
        top_logprobs=None,
        reasoning=ReasoningOptions(effort="low"),
        response_format=ResponseFormat("json_schema", {"type": "object"}, "answer"),
    )


ANTHROPIC_REQUEST: dict[str, Any] = {
    "model": "claude-opus-4-8",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "source": {"type": "file", "file_id": "file_1"}, "title": "a.pdf"},
                {"type": "search_result", "source": "s", "title": "t", "content": []},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                {"type": "redacted_thinking", "data": "EtUF"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "left"}},
                {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "A cat."},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "No.", "is_error": True},
                {"type": "text", "text": "And now?"},
            ],
        },
        {"role": "system", "content": "Be kind."},
    ],
    "tools": [
        {"name": "look", "input_schema": {"type": "object"}},
        {"type": "web_search_20260318", "name": "web_search"},
    ],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "top_k": 3,
    "metadata": {"user_id": "u"},
    "container": "c",
}


def test_from_anthropic_there_and_back() -> None:
    """A rich conversation of Anthropic's comes back from OpenAI's format changed exactly as the receipt says."""
    sent = ANTHROPIC.decode_request(json.encode(ANTHROPIC_REQUEST))
    there, receipt = crossed(OPENAI, sent)
    back, unsigned = crossed(ANTHROPIC, there)
    assert sorted(receipt) == [
        "dropped $.container",
        "dropped $.messages[0].parts[0].cache_control",
        "dropped $.messages[1].parts[3]",
        "dropped $.messages[2].parts[0].signature",
        "dropped $.messages[2].parts[1]",
        "dropped $.messages[3].parts[1].is_error",
        "dropped $.reasoning.budget_tokens",
        "dropped $.reasoning.include",
        "dropped $.tools[1]",
    ]
    assert sorted(unsigned) == ["dropped $.messages[2].parts[0]", "dropped $.response_format.name"]
    head, user, assistant, answered, after = (plain(message) for message in back.messages)
    before = plain(sent).messages
    assert head == Message("system", (Text("Be brief."),))
    assert user == Message("user", before[1].parts[:3])
    assert assistant == Message("assistant", before[2].parts[2:])
    results = (ToolResult("toolu_1", (Text("A cat."),)), ToolResult("toolu_2", (Text("No."),)))
    assert answered == Message("user", (*results, Text("And now?")))
    assert after == before[4]
    assert plain(back).but(messages=()) == plain(sent).but(
        messages=(),
        tools=(Tool("look", parameters={"type": "object"}),),
        reasoning=ReasoningOptions(effort="high"),
        extra=None,
    )


# Any conversation that both formats can say

_texts = st.text(min_size=1, max_size=8)
_ids = st.text("abc_-12", min_size=1, max_size=6)
_results = st.builds(ToolResult, _ids, _texts.map(lambda text: (Text(text),)))
_calls = st.builds(ToolCall, _ids, laws.names, laws.json_objects.map(lambda value: json.encode(value).decode()))
_conversations = st.builds(
    lambda head, rest: (*head, *rest),
    st.lists(st.builds(Message, st.just("system"), st.tuples(st.builds(Text, _texts))), max_size=1),
    st.lists(
        st.builds(Message, st.just("user"), st.tuples(st.builds(Text, _texts)))
        | st.builds(Message, st.just("assistant"), st.tuples(st.builds(Text, _texts)))
        | st.builds(lambda text, calls: Message("assistant", (*text, *calls)),
                    st.lists(st.builds(Text, _texts), max_size=1), st.lists(_calls, min_size=1, max_size=3))
        | st.builds(lambda result: Message("tool", (result,)), _results),
        min_size=1,
        max_size=6,
    ).filter(lambda messages: messages[0].role != "system"),
)  # fmt: skip
_odd = st.fixed_dictionaries(
    {},
    optional={
        "seed": laws.counts,
        "n": st.integers(1, 3),
        "top_p": st.floats(0, 1),
        "stop": st.lists(_texts.filter(str.strip), max_size=2).map(tuple),
        "user": _texts,
        "presence_penalty": st.floats(-2, 2),
        "tool_choice": st.sampled_from(["auto", "none", "required", ToolName("f")]),
    },
)


def _said(messages: Iterable[Message]) -> list[tuple[str, Part]]:
    """Return all parts in order with who said them; a result is a result, whoever's message it stands in."""
    return [
        ("tool" if isinstance(part, ToolResult) else message.role, plain(part))
        for message in messages
        for part in message.parts
    ]


@given(_conversations, _odd)
def test_any_common_conversation(messages: tuple[Message, ...], fields: dict[str, Any]) -> None:
    """What both formats can say comes back part for part, and every other field is on the receipt or unchanged."""
    sent = ChatRequest("m", messages, max_tokens=1, **fields)
    there, receipt = crossed(ANTHROPIC, sent)
    back, nothing = crossed(OPENAI, there)
    assert nothing == []
    assert _said(messages) == _said(there.messages) == _said(back.messages)
    lost = {re.sub(r"^dropped \$\.", "", line) for line in receipt}
    for field in fields:
        before, after = getattr(sent, field), getattr(back, field)
        quiet = field in ("n", "presence_penalty") and before in (0, 1)  # what is the default says nothing
        assert before == after or ((field in lost or quiet) and after is None)
    assert lost <= fields.keys()


def test_losses_of_thoughts_are_told_one_by_one() -> None:
    """Every thought that cannot go back has its own line, with its place among the parts."""
    parts = (Reasoning("a"), Reasoning("b", "sig"), Reasoning("c"))
    losses = ANTHROPIC.encode_request(ChatRequest("m", (Message("assistant", parts),), max_tokens=1)).losses
    assert [loss.path for loss in losses] == ["$.messages[0].parts[0]", "$.messages[0].parts[2]"]
    assert all(isinstance(loss, Loss) for loss in losses)


# Answers


def test_a_stream_crosses_to_openai() -> None:
    """A stream of Anthropic's, written for a client of OpenAI's, makes the same visible answer."""
    request = ChatRequest("m", (), stream=True, include_usage=True)
    frames: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "model": "c", "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "ping"},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "So"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2,
         "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]  # fmt: skip
    body = b"".join(b"data: " + json.encode(frame) + b"\n\n" for frame in frames)
    events = laws.decoded(ANTHROPIC, request, [body])
    again = fold(laws.decoded(OPENAI, request, [laws.encoded(OPENAI, request, events)]))
    message = again.choices[0].message
    assert (message.reasoning_content, message.content) == ("Hm.", "So")
    assert message.tool_calls == [ToolCall("toolu_1", "f", "{}")]
    assert again.choices[0].finish_reason == "tool_calls"
    assert again.usage is not None
    assert (again.usage.prompt_tokens, again.usage.completion_tokens) == (3, 9)


def test_a_stream_crosses_from_openai() -> None:
    """A stream of OpenAI's, written for a client of Anthropic's, makes the same answer; its chunks leave no trace."""
    request = ChatRequest("m", (), stream=True, include_usage=True)

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9, "prompt_tokens_details": {
        "cached_tokens": 2}}  # fmt: skip
    chunks = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "So"}),
        chunk({"content": ":"}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x":1}'}}]}),
        chunk({}, "tool_calls"),
        {**chunk({}), "choices": [], "usage": usage},
    ]
    body = b"".join(b"data: " + json.encode(value) + b"\n\n" for value in chunks) + b"data: [DONE]\n\n"
    written = laws.encoded(ANTHROPIC, request, laws.decoded(OPENAI, request, [body]))
    assert [frame["type"].removeprefix("content_block_") for frame in laws.frames(written)] == [
        "message_start", "start", "delta", "delta", "stop", "start", "delta", "stop", "message_delta", "message_stop"
    ]  # fmt: skip
    again = fold(laws.decoded(ANTHROPIC, request, [written]))
    assert plain(again.choices[0].message.parts) == (Text("So:"), ToolCall("call_1", "f", '{"x":1}'))
    assert (again.choices[0].finish_reason, again.id, again.model) == ("tool_calls", "c", "m")
    assert again.usage is not None
    assert (again.usage.input_uncached, again.usage.input_cache_read, again.usage.total_tokens) == (3, 2, 9)
