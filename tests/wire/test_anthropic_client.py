"""The official anthropic client reads what the codec writes, and the codec reads what the client sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import (
    End,
    Event,
    Finish,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
    unfold,
)
from antiphon.chat.messages import Annotation, Image, Message, Opaque, Reasoning, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import InternalServerError, RateLimitError
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from tests.vendors import anthropic
from tests.wire import laws

CODEC = Anthropic()
REQUEST = ChatRequest("claude", (), stream=True)
HELLO: Any = [{"role": "user", "content": "Hello"}]


def client(answer: Callable[[httpx2.Request], httpx2.Response]) -> anthropic.Anthropic:
    """Return a client whose server is *answer*."""
    return anthropic.Anthropic(
        api_key="key",
        base_url="http://127.0.0.1:1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


def streaming(*events: Event, then: bytes = b"") -> anthropic.Anthropic:
    """Return a client that is sent *events*."""
    body = laws.encoded(CODEC, REQUEST, events) + then
    headers = {"content-type": "text/event-stream"}
    return client(lambda request: httpx2.Response(200, headers=headers, content=body))


def test_a_whole_answer() -> None:
    """The client reads a whole answer of another format's with its thoughts, text, calls and counts."""
    parts = (
        Reasoning("Hm.", "sig"),
        Text("Yes.", (Annotation(url="https://x.org", title="X"),)),
        ToolCall("call_1", "f", '{"x": 1}'),
    )
    usage = Usage(input_uncached=3, input_cache_read=2, output_visible=4)
    completion = Completion(choices=(Choice(0, Message("assistant", parts), "tool_calls"),), id="c", usage=usage)
    body = CODEC.encode_response(completion)
    answer = client(lambda request: httpx2.Response(200, content=body, headers={"content-type": "application/json"}))
    message = answer.messages.create(model="m", max_tokens=1, messages=HELLO)
    thinking, text, call = message.content
    assert isinstance(thinking, anthropic.types.ThinkingBlock)
    assert (thinking.thinking, thinking.signature) == ("Hm.", "sig")
    assert isinstance(text, anthropic.types.TextBlock)
    assert text.text == "Yes."
    (citation,) = text.citations or ()
    assert isinstance(citation, anthropic.types.CitationsWebSearchResultLocation)
    assert (citation.url, citation.title) == ("https://x.org", "X")
    assert isinstance(call, anthropic.types.ToolUseBlock)
    assert (call.id, call.name, call.input) == ("call_1", "f", {"x": 1})
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (3, 2, 4)


def test_a_stream() -> None:
    """The client puts a stream of another format's together: thoughts, text and interleaved calls."""
    events: list[Event] = [
        Start(id="c", model="m"),
        ReasoningDelta("Hm."),
        ReasoningDelta("", signature="sig"),
        TextDelta("Y"),
        TextDelta("es."),
        ToolCallDelta(call=0, id="call_1", name="f", arguments='{"x":'),
        ToolCallDelta(call=1, id="call_2", name="g", arguments='{"y":'),
        ToolCallDelta(call=0, arguments="1}"),
        ToolCallDelta(call=1, arguments="2}"),
        Finish("tool_calls"),
        UsageUpdate(Usage(input_uncached=3, input_cache_read=2, output_visible=4)),
        End(),
    ]
    with streaming(*events).messages.stream(model="m", max_tokens=1, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "Yes."
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in message.content if block.type == "tool_use"] == [{"x": 1}, {"y": 2}]
    assert message.content[0].to_dict() == {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
    assert (message.id, message.model, message.stop_reason) == ("c", "m", "tool_use")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (3, 2, 4)


def test_a_stream_with_a_fault() -> None:
    """An error after the status line reaches the client's caller as an error, with its type and words."""
    fault = CODEC.encoder(REQUEST).error(InternalServerError("The upstream broke.", status=529))
    answer = streaming(TextDelta("Y"), then=fault)
    pieces: list[str] = []
    with answer.messages.stream(model="m", max_tokens=1, messages=HELLO) as stream:
        with pytest.raises(anthropic.APIStatusError) as caught:
            pieces.extend(stream.text_stream)
    assert pieces == ["Y"]
    assert (caught.value.type, caught.value.api_message) == ("overloaded_error", "The upstream broke.")


def test_an_error_reply() -> None:
    """An error reply is the client's error of its status, with the type, the words and the id of the request."""
    reply = CODEC.encode_error(RateLimitError("Slow down.", status=429, retry_after=7, request_id="req_1"))
    answer = client(lambda request: httpx2.Response(reply.status, content=reply.body, headers=dict(reply.headers)))
    with pytest.raises(anthropic.RateLimitError) as caught:
        answer.messages.create(model="m", max_tokens=1, messages=HELLO)
    assert (caught.value.type, caught.value.api_message) == ("rate_limit_error", "Slow down.")
    assert caught.value.request_id == "req_1"
    assert caught.value.response.headers["retry-after"] == "7"


def test_what_the_client_sends() -> None:
    """A rich request of the client's is read without loss, and written as the client wrote it."""
    sent: list[httpx2.Request] = []
    reply = CODEC.encode_response(Completion(choices=(Choice(0, Message.assistant("Hi"), "stop"),), id="c"))

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, content=reply, headers={"content-type": "application/json"})

    messages: Any = [
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x.org/a"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "1", "is_error": False}]},
    ]
    client(answer).messages.create(
        model="m",
        max_tokens=100,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=messages,
        tools=[
            {"name": "f", "input_schema": {"type": "object"}},
            {"type": "web_search_20260318", "name": "web_search"},
        ],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={"effort": "high"},
        stop_sequences=["END"],
        metadata={"user_id": "u"},
    )
    (request,) = sent
    read = CODEC.decode_request(request.content)
    assert request.url.path == CODEC.path
    assert isinstance(read.messages[1].parts[0], Image)
    assert isinstance((read.tools or ())[1], Opaque)
    written = CODEC.encode_request(read)
    assert written.losses == ()
    laws.check_same(json.decode(request.content), json.decode(written.body))


def test_an_answer_read_and_sent_back() -> None:
    """Content that the client got from a stream, sent back by it, is what the codec had written."""
    parts = (Reasoning("Hm.", "sig"), Text("Yes."), ToolCall("call_1", "f", '{"x":1}'))
    completion = Completion(choices=(Choice(0, Message("assistant", parts), "tool_calls"),), id="c", model="m")
    with streaming(*unfold(completion)).messages.stream(model="m", max_tokens=1, messages=HELLO) as stream:
        message = stream.get_final_message()
    back = {"model": "m", "max_tokens": 1, "messages": [{"role": "assistant", "content": message.to_dict()["content"]}]}
    assert CODEC.decode_request(json.encode(back)).messages[0].parts == parts
