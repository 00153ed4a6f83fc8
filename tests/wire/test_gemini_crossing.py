"""Conversations that cross between OpenAI Chat Completions and Gemini, there and back.

What is different afterwards is what the two receipts say, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.events import fold
from antiphon.chat.messages import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json
from antiphon.formats.codec import Codec
from antiphon.formats.gemini import Gemini
from antiphon.formats.openai_chat import OpenAIChat
from tests.wire import laws

GEMINI, OPENAI = Gemini(), OpenAIChat()


def crossed(codec: Codec, request: ChatRequest) -> tuple[ChatRequest, list[str]]:
    """Return *request* as it arrives in the format of *codec*, and what the receipt says, but for the reasons."""
    http = codec.encode_request(request)
    return codec.decode_request(http.body, http.path), [f"{loss.kind} {loss.path}" for loss in http.losses]


def plain(value: Any) -> Any:
    """Return *value* without the memory of how it was written."""
    if isinstance(value, msgspec.Struct):
        fields = {key: plain(getattr(value, key)) for key in value.__struct_fields__ if key != "form"}
        return type(value)(**fields)
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


OPENAI_REQUEST: dict[str, Any] = {
    "model": "gemini-3-pro",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.jpg", "detail": "low"}},
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
                {"id": "call_2", "type": "function", "function": {"name": "hear", "arguments": "{brok"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "A cat."},
        {"role": "tool", "tool_call_id": "call_2", "content": '{"sound":"Meow"}'},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": None, "refusal": "I will not say."},
        {"role": "system", "content": "Be quick."},
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
    "parallel_tool_calls": False,
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
    "reasoning_effort": "high",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "stream": True,
    "stream_options": {"include_usage": True},
    "logit_bias": {"50256": -100},
}


def test_from_openai_there_and_back() -> None:
    """A rich conversation of OpenAI's comes back from Gemini's format changed exactly as the receipt says."""
    sent = OPENAI.decode_request(json.encode(OPENAI_REQUEST))
    there, receipt = crossed(GEMINI, sent)
    back, opaque = crossed(OPENAI, there)
    assert receipt == [
        "dropped $.logit_bias",
        "approximated $.messages[0].role",
        "dropped $.messages[2].name",
        "dropped $.messages[2].parts[1].detail",
        "defaulted $.messages[2].parts[1].media_type",
        "dropped $.messages[2].parts[3].name",
        "defaulted $.messages[3].parts[2].thoughtSignature",
        "approximated $.messages[3].parts[3].arguments",
        "approximated $.messages[7].parts[0]",
        "approximated $.messages[8]",
        "dropped $.tools[0].strict",
        "dropped $.response_format.name",
        "approximated $.service_tier",
        "dropped $.parallel_tool_calls",
        "dropped $.user",
    ]
    assert opaque == ["dropped $.messages[2].parts[1].thoughtSignature"]
    before = plain(sent).messages
    start, user, assistant, first, second, *rest = (plain(message) for message in back.messages)
    assert start == Message("system", (Text("Be brief."), Text("Be kind."), Text("Be quick.")))
    (words, image, *_), (inline, file, sound) = before[2].parts[:2], before[2].parts[2:]
    assert isinstance(image, Image)
    assert user == Message(
        "user", (words, Image(url=image.url), inline, msgspec.structs.replace(file, name=None), sound)
    )
    assert assistant == Message(
        "assistant",
        (
            Reasoning("Hm."),
            ToolCall("call_1", "look", '{"at":"left"}'),
            ToolCall("call_2", "hear", '{"arguments":"{brok"}'),
        ),
    )
    assert first == Message("tool", (ToolResult("call_1", (Text("A cat."),)),))
    assert second == Message("tool", (ToolResult("call_2", (Text('{"sound":"Meow"}'),)),))
    assert rest == [before[6], Message("assistant", (Text("I will not say."),)), before[9]]
    assert plain(back).but(messages=()) == plain(sent).but(
        messages=(),
        tools=(msgspec.structs.replace(plain(sent).tools[0], strict=None),),
        extra=None,
        parallel_tool_calls=None,
        user=None,
        service_tier="standard",
        response_format=ResponseFormat("json_schema", {"type": "object"}, "answer"),
    )


GEMINI_REQUEST: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}], "role": "user"},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "What is this?"},
                {"inline_data": {"mime_type": "image/png", "data": "a-_b"}},
                {"fileData": {"mimeType": "application/pdf", "fileUri": "files/abc"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True, "thoughtSignature": "c2ln"},
                {"executableCode": {"language": "PYTHON", "code": "1"}},
                {"text": "Let me look."},
                {"functionCall": {"name": "look", "args": {"at": "left"}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "look", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "response": {"output": "A cat."}}},
                {"functionResponse": {"name": "look", "response": {"error": "No."}}},
            ],
        },
    ],
    "tools": [
        {"functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT"}}]},
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    "generationConfig": {
        "max_output_tokens": 100,
        "topK": 40,
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT"},
        "thinkingConfig": {"thinkingBudget": 512, "includeThoughts": True},
    },
    "safetySettings": [{"category": "A", "threshold": "OFF"}],
}


def test_from_gemini_there_and_back() -> None:
    """A rich conversation of Gemini's comes back from OpenAI's format changed exactly as the receipt says."""
    sent = GEMINI.decode_request(json.encode(GEMINI_REQUEST), "/v1beta/models/m:generateContent")
    there, receipt = crossed(OPENAI, sent)
    back, again = crossed(GEMINI, there)
    assert sorted(receipt) == [
        "dropped $.messages[1].parts[2].media_type",
        "dropped $.messages[2].parts[0].thoughtSignature",
        "dropped $.messages[2].parts[1]",
        "dropped $.messages[2].parts[3].thoughtSignature",
        "dropped $.messages[3].parts[1].is_error",
        "dropped $.reasoning.budget_tokens",
        "dropped $.reasoning.include",
        "dropped $.safetySettings",
        "dropped $.tools[1]",
    ]
    assert again == ["dropped $.response_format.name"]
    head, user, assistant, answered = (plain(message) for message in back.messages)
    before = plain(sent).messages
    assert before[1].parts[1] == Image(data="a+/b", media_type="image/png")
    assert head == before[0]
    assert user.parts[:2] == before[1].parts[:2]
    assert assistant == Message(
        "assistant",
        (
            Reasoning("Hm."),
            Text("Let me look."),
            ToolCall("call_1", "look", '{"at":"left"}'),
            ToolCall("call_2", "look", "{}"),
        ),
    )
    assert answered == Message(
        "user",
        (ToolResult("call_1", (Text("A cat."),), name="look"), ToolResult("call_2", (Text("No."),), name="look")),
    )
    assert plain(back).but(messages=()) == plain(sent).but(
        messages=(), tools=(Tool("look", parameters={"type": "object"}),), reasoning=None, extra=None
    )


# Any conversation that both formats can say

_texts = st.text(min_size=1, max_size=8)
_results = st.builds(ToolResult, laws.names, _texts.map(lambda text: (Text(text),)), name=st.just("f"))
_arguments = laws.json_objects.map(lambda value: json.encode(value).decode())
_calls = st.builds(ToolCall, laws.names, laws.names, _arguments)
_messages = st.one_of(
    st.builds(Message, st.just("user"), st.tuples(st.builds(Text, _texts))),
    st.builds(Message, st.just("assistant"), st.tuples(st.builds(Text, _texts))),
    st.builds(Message, st.just("assistant"), st.lists(_calls, min_size=1, max_size=3).map(tuple)),
    st.builds(Message, st.just("tool"), st.tuples(_results)),
)
_odd = st.fixed_dictionaries(
    {},
    optional={
        "seed": laws.counts,
        "n": st.integers(1, 3),
        "top_p": st.floats(0, 1),
        "stop": st.lists(_texts, max_size=2).map(tuple),
        "presence_penalty": st.floats(-2, 2),
        "tool_choice": st.sampled_from(["auto", "none", "required", ToolName("f")]),
        "reasoning": st.builds(ReasoningOptions, effort=st.sampled_from(["none", "low", "high"])),
    },
)


def _said(messages: Iterable[Message]) -> list[tuple[str, Part]]:
    """Return all parts in order with who said them; a result is a result, whoever's message it stands in."""
    return [
        ("tool", msgspec.structs.replace(plain(part), name=None))
        if isinstance(part, ToolResult)
        else (message.role, plain(part))
        for message in messages
        for part in message.parts
    ]


@given(st.lists(_messages, min_size=1, max_size=5).map(tuple), _odd)
def test_any_common_conversation(messages: tuple[Message, ...], fields: dict[str, Any]) -> None:
    """What both formats can say comes back part for part and field for field, with empty receipts."""
    sent = ChatRequest("m", messages, max_tokens=1, **fields)
    there, receipt = crossed(GEMINI, sent)
    back, nothing = crossed(OPENAI, there)
    assert (receipt, nothing) == ([], [])
    assert _said(messages) == _said(there.messages) == _said(back.messages)
    assert plain(back).but(messages=()) == sent.but(messages=())


# Answers


def test_a_stream_crosses_to_openai() -> None:
    """A stream of Gemini's, written for a client of OpenAI's, makes the same visible answer."""
    request = ChatRequest("m", (), stream=True, include_usage=True)

    def frame(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": [*parts], "role": "model"}, **more}], "responseId": "r"}

    frames = [
        frame({"text": "Hm.", "thought": True}),
        frame({"text": "So"}),
        frame({"text": ":"}),
        frame({"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln"}),
        {**frame({"text": ""}, finishReason="STOP"), "usageMetadata": {"promptTokenCount": 3, "thoughtsTokenCount": 9}},
    ]
    body = b"".join(b"data: " + json.encode(value) + b"\r\n\r\n" for value in frames)
    events = laws.decoded(GEMINI, request, [body])
    again = fold(laws.decoded(OPENAI, request, [laws.encoded(OPENAI, request, events)]))
    message = again.choices[0].message
    assert (message.reasoning_content, message.content) == ("Hm.", "So:")
    assert message.tool_calls == [ToolCall("r_1", "f", '{"x":1}')]
    assert again.choices[0].finish_reason == "tool_calls"
    assert again.usage is not None
    assert (again.usage.prompt_tokens, again.usage.completion_tokens) == (3, 9)


def test_a_stream_crosses_from_openai() -> None:
    """A stream of OpenAI's, written for a client of Gemini's, makes the same answer; its calls come whole."""
    request = ChatRequest("m", (), stream=True, include_usage=True)

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    calls = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":'}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 0, "function": {"arguments": "1}"}},
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    chunks = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "So"}),
        chunk({"content": ":"}),
        *(chunk({"tool_calls": [call]}) for call in calls),
        chunk({}, "tool_calls"),
        {**chunk({}), "choices": [], "usage": usage},
    ]
    body = b"".join(b"data: " + json.encode(value) + b"\n\n" for value in chunks) + b"data: [DONE]\n\n"
    written = laws.encoded(GEMINI, request, laws.decoded(OPENAI, request, [body]))
    first, second, last = laws.frames(written)
    head = {"modelVersion": "m", "responseId": "c", "createTime": "1970-01-01T00:00:01Z"}
    assert first == {"candidates": [{"content": {"parts": [{"text": "So"}], "role": "model"}, "index": 0}], **head}
    assert second["candidates"][0]["content"]["parts"] == [{"text": ":"}]
    assert last["candidates"][0]["content"]["parts"] == [
        {"functionCall": {"id": "call_1", "name": "f", "args": {"x": 1}}},
        {"functionCall": {"id": "call_2", "name": "g", "args": {}}},
    ]
    assert last["candidates"][0]["finishReason"] == "STOP"
    again = fold(laws.decoded(GEMINI, request, [written]))
    assert (again.choices[0].message.content, again.choices[0].finish_reason, again.created) == ("So:", "tool_calls", 1)
    assert again.usage is not None
    assert (again.usage.input_uncached, again.usage.input_cache_read, again.usage.total_tokens) == (3, 2, 9)
