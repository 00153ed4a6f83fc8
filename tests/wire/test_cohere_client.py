"""The official `cohere` client reads what is written, and what it sends is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Annotation, Image, Message, Opaque, Reasoning, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.formats import json
from antiphon.formats.cohere import Cohere
from antiphon.testing import Fault, Upstream
from tests.vendors import cohere
from tests.wire import laws

CODEC = Cohere()
PARTS = (Reasoning("Hm."), Text("Yes.", (Annotation(url="https://x.org", title="X", start=0, end=3),)))
CALLS = (ToolCall("call_1", "f", '{"x": 1}'), ToolCall("call_2", "g", "{}"))
ANSWER = Completion(
    choices=(Choice(0, Message("assistant", (*PARTS, *CALLS)), "tool_calls"),),
    id="c",
    model="m",
    usage=Usage(input_uncached=3, input_cache_read=2, output_visible=4),
)
HELLO: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server with that answer."""
    with Upstream(ANSWER, codec=CODEC) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[cohere.ClientV2]:
    """Give the official client of that server."""
    with httpx.Client() as http:
        yield cohere.ClientV2(api_key="k", base_url=upstream.base_url.removesuffix("/v1"), httpx_client=http)


def test_a_whole_answer(client: cohere.ClientV2) -> None:
    """The client reads a whole answer of another format's with its thoughts, text, sources, calls and counts."""
    answer = client.chat(model="m", messages=HELLO)
    thinking, text = answer.message.content or ()
    assert (thinking.type, thinking.thinking, text.type, text.text) == ("thinking", "Hm.", "text", "Yes.")
    (citation,) = answer.message.citations or ()
    assert (citation.start, citation.end, citation.content_index) == (0, 3, 1)
    (source,) = citation.sources or ()
    assert (source.type, source.document) == ("document", {"url": "https://x.org", "title": "X"})
    calls = [(call.id, call.function.name, call.function.arguments) for call in answer.message.tool_calls or ()]
    assert calls == [("call_1", "f", '{"x": 1}'), ("call_2", "g", "{}")]
    assert (answer.id, answer.finish_reason) == ("c", "TOOL_CALL")
    usage = answer.usage
    assert (usage.billed_units.input_tokens, usage.billed_units.output_tokens, usage.cached_tokens) == (5, 4, 2)


def test_a_stream(client: cohere.ClientV2) -> None:
    """The client reads a stream of another format's, each frame as one of its events, in their documented order."""
    frames = list(client.chat_stream(model="m", messages=HELLO))
    content = ["content-start", "content-delta", "content-end"]
    cited = ["content-start", "content-delta", "citation-start", "citation-end", "content-end"]
    call = ["tool-call-start", "tool-call-delta", "tool-call-end"]
    assert [frame.type for frame in frames] == ["message-start", *content, *cited, *call, *call, "message-end"]
    assert (frames[2].delta.message.content.thinking, frames[5].delta.message.content.text) == ("Hm.", "Yes.")
    assert frames[6].delta.message.citations.sources[0].document == {"url": "https://x.org", "title": "X"}
    assert (frames[9].delta.message.tool_calls.id, frames[9].delta.message.tool_calls.function.name) == ("call_1", "f")
    assert frames[10].delta.message.tool_calls.function.arguments == '{"x": 1}'
    assert (frames[-1].delta.finish_reason, frames[-1].delta.usage.billed_units.input_tokens) == ("TOOL_CALL", 5)


def test_errors(client: cohere.ClientV2, upstream: Upstream) -> None:
    """An error reply is the client's error of its status; one inside a stream is told where the client has it."""
    upstream.fault = Fault.error_inside("overloaded", after=2)
    last = list(client.chat_stream(model="m", messages=HELLO))[-1]
    assert (last.delta.finish_reason, last.delta.error) == ("ERROR", "overloaded")
    upstream.fault = Fault.of_status(404, '{"id": "r", "message": "model not found"}')
    with pytest.raises(cohere.core.api_error.ApiError) as caught:
        client.chat(model="m", messages=HELLO)
    assert (caught.value.status_code, caught.value.body) == (404, {"id": "r", "message": "model not found"})


def test_what_the_client_sends(client: cohere.ClientV2, upstream: Upstream) -> None:
    """A rich request of the client's is read without loss, and written as the client wrote it."""
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See."},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "tool_plan": "I will look.",
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {
            "role": "tool",
            "tool_call_id": "t",
            "content": [{"type": "document", "document": {"id": "d", "data": {"text": "A cat."}}}],
        },
    ]
    client.chat(
        model="m",
        messages=messages,
        tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        strict_tools=True,
        tool_choice="REQUIRED",
        documents=["text", {"id": "e", "data": {"text": "more"}}],
        citation_options={"mode": "FAST"},
        response_format={"type": "json_object", "json_schema": {"type": "object"}},
        thinking={"type": "enabled", "token_budget": 100},
        safety_mode="STRICT",
        p=0.9,
        k=3,
        stop_sequences=["END"],
        seed=1,
    )
    sent = upstream.requests[-1]
    read = CODEC.decode_request(sent.body)
    assert read.messages[1].parts[1] == Image(data="AAAA", media_type="image/png", detail="low")
    plan, call = read.messages[2].parts
    assert isinstance(plan, Reasoning)
    assert isinstance(call, ToolCall)
    assert plan.text == "I will look."
    result = read.messages[3].parts[0]
    assert isinstance(getattr(result, "content")[0], Opaque)  # noqa: B009
    written = CODEC.encode_request(read)
    assert (written.path, written.losses) == (sent.path, ())
    laws.check_same(json.decode(sent.body), json.decode(written.body))
