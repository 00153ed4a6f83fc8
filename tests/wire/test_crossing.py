"""Every pair of formats: what crosses, what is lost, and that the receipt says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import fold, unfold
from antiphon.chat.losses import Loss
from antiphon.chat.messages import (
    Annotation,
    File,
    FinishReason,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool
from antiphon.chat.usage import Usage
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec
from antiphon.formats.cohere import Cohere
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses

CODECS: list[Codec] = [OpenAIChat(), Responses(), Anthropic(), Gemini(), Ollama(), Cohere(), Bedrock()]
PAIRS = [pytest.param(a, b, id=f"{a.name}-to-{b.name}") for a in CODECS for b in CODECS]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
PDF = File(data="JVBERi0xLjQK", media_type="application/pdf", name="map.pdf")
RICH = ChatRequest(
    "m",
    (
        Message.system("Be brief."),
        Message("user", (Text("What is the weather here, and there?"), Image(data=PNG, media_type="image/png"), PDF)),
        Message(
            "assistant",
            (
                Reasoning("Two cities.", "c2lnbmF0dXJl"),
                Text("I will look.", (Annotation(url="https://maps.example", title="Maps", start=0, end=4),)),
                ToolCall("call_1", "weather", '{"city":"Paris"}'),
                ToolCall("call_2", "weather", '{"city":"Oslo"}'),
            ),
        ),
        Message("tool", (ToolResult("call_1", (Text("sunny"),)),)),
        Message("tool", (ToolResult("call_2", (Text("no such city"),), True),)),
        Message.user("So?"),
    ),
    tools=(Tool("weather", "Tells the weather.", SCHEMA),),
    tool_choice="required",
    temperature=0.5,
    top_p=0.9,
    max_tokens=100,
    stop=("END",),
    seed=7,
    response_format=ResponseFormat("json_schema", SCHEMA, "answer"),
    reasoning=ReasoningOptions(effort="low"),
    stream=True,
)

SETTINGS = [
    name for name in ChatRequest.__struct_fields__ if name not in ("messages", "extra", "form", "stream", "model")
]


def said(request: ChatRequest) -> list[tuple[Any, ...]]:
    """What the conversation says, part by part, wherever one message ends and the next begins."""
    return [item for message in request.messages for part in message.parts for item in _said(message.role, part)]


def _said(role: str, part: Part) -> Iterator[tuple[Any, ...]]:
    if isinstance(part, ToolResult):
        text = "".join(item.text for item in part.content if isinstance(item, Text))
        yield "result", part.call_id, text, bool(part.is_error)
    elif isinstance(part, ToolCall):
        yield "call", part.id, part.name, part.arguments.replace(" ", "")
    elif isinstance(part, Reasoning):
        yield "thought", part.text, part.signature
    elif isinstance(part, Image):
        yield "image", part.data, part.media_type
    elif isinstance(part, File):
        yield "file", part.data, part.media_type
    elif isinstance(part, Text):
        yield "text", "system" if role in ("system", "developer") else role, part.text
        yield from (("source", source.url) for source in part.annotations)
    else:
        yield "other", part


def settings(request: ChatRequest) -> dict[str, Any]:
    """What else is asked for."""
    found: dict[str, Any] = {name: getattr(request, name) for name in SETTINGS}
    found["tool_choice"] = None if request.tool_choice == "auto" else request.tool_choice  # the default everywhere
    if request.response_format is not None:
        found["response_format"] = (request.response_format.kind, request.response_format.schema)
    if request.tools is not None:
        found["tools"] = [(t.name, t.description, t.parameters) for t in request.tools if isinstance(t, Tool)]
    if request.reasoning is not None:
        found["reasoning"] = request.reasoning.effort or request.reasoning.budget_tokens
    return found


def crossed(request: ChatRequest, codec: Codec) -> tuple[ChatRequest, tuple[Loss, ...]]:
    """What an upstream of that format understands of *request*, and the receipt."""
    http = codec.encode_request(request)
    return codec.decode_request(http.body, http.path), http.losses


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_requests(source: Codec, target: Codec) -> None:
    """Whatever of a client's request does not reach the upstream is in the receipt, and what the receipt says is so."""
    asked, _ = crossed(RICH, source)
    understood, losses = crossed(asked, target)
    told = {loss.path for loss in losses}
    before, after = settings(asked), settings(understood)
    for name in SETTINGS:
        mentioned = any(path == f"$.{name}" or path.startswith((f"$.{name}.", f"$.{name}[")) for path in told)
        assert mentioned or before[name] == after[name] or name == "include_usage", (name, before[name], after[name])
    for loss in losses:
        if loss.kind == "dropped" and (name := loss.path.removeprefix("$.")) in SETTINGS:
            assert before[name] != after[name], loss
    lost = [item for item in said(asked) if item not in said(understood)]
    about_messages = {path for path in told if path.startswith("$.messages")}
    assert len(lost) <= len(about_messages), (lost, about_messages)  # each by a path of its own
    assert bool(lost) or not any(re.fullmatch(r".*parts\[\d+\]", path) for path in about_messages), about_messages
    if source.name == target.name:
        assert not lost
        assert before == after
        assert not told
    # Words, calls and results always cross, in their order.
    for kind in ("text", "call", "result"):
        words = [item[:3] for item in said(asked) if item[0] == kind]
        assert [item[:3] for item in said(understood) if item[0] == kind] == words


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_there_and_back(source: Codec, target: Codec) -> None:
    """A conversation that crosses to another format and comes back says what it said, but for what receipts name."""
    asked, _ = crossed(RICH, source)
    there, lost_there = crossed(asked, target)
    back, lost_back = crossed(there, source)
    missing = [item for item in said(asked) if item not in said(back)]
    named = [loss for loss in (*lost_there, *lost_back) if loss.path.startswith("$.messages")]
    assert bool(missing) <= bool(named)
    assert [item for item in said(back) if item[0] == "text"] == [item for item in said(asked) if item[0] == "text"]


USAGE = Usage(input_uncached=20, output_visible=30)
ANSWERS: dict[str, tuple[tuple[Part, ...], FinishReason]] = {
    "text": ((Text("Sunny."),), "stop"),
    "thoughts": ((Reasoning("Hm."), Text("Sunny.")), "stop"),
    "cut": ((Text("Sun"),), "length"),
    "calls": (
        (
            Text("I will look."),
            ToolCall("call_1", "weather", '{"city":"Paris"}'),
            ToolCall("call_2", "weather", '{"city":"Oslo"}'),
        ),
        "tool_calls",
    ),
}


def whole(codec: Codec, answer: Completion) -> Completion:
    """What a client of that format reads of a whole answer."""
    request = ChatRequest("m", (Message.user("hi"),))
    decoder = codec.decoder(request, "application/json")
    return fold([*decoder.feed(codec.encode_response(answer)), *decoder.close()])


def streamed(codec: Codec, answer: Completion) -> Completion:
    """What a client of that format reads of a streamed answer."""
    request = ChatRequest("m", (Message.user("hi"),), stream=True, include_usage=True)
    encoder, decoder = codec.encoder(request), codec.decoder(request, codec.stream_type)
    frames = [frame for event in unfold(answer) for frame in encoder.feed(event)]
    return fold([*(event for frame in frames for event in decoder.feed(frame)), *decoder.close()])


def meant(answer: Completion) -> tuple[Any, ...]:
    """What an answer says."""
    message = answer.choices[0].message
    calls = [(call.name, call.arguments.replace(" ", "")) for call in message.tool_calls or ()]
    usage = answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    return message.content, message.reasoning_content, calls, answer.choices[0].finish_reason, usage


@pytest.mark.parametrize("way", [whole, streamed])
@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_answers(source: Codec, target: Codec, kind: str, way: Callable[[Codec, Completion], Completion]) -> None:
    """An upstream's answer says the same to a client of any format: words, thoughts, calls, how it ended, and usage."""
    parts, reason = ANSWERS[kind]
    message = Message("assistant", parts)
    upstream = way(source, Completion(choices=(Choice(0, message, reason),), id="x", model="m", created=1, usage=USAGE))
    assert meant(upstream) == meant(Completion(choices=(Choice(0, message, reason),), usage=USAGE))
    assert meant(way(target, upstream)) == meant(upstream)
