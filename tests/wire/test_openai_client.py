"""The official openai client reads what the codec writes, and the codec reads what the client sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Message, Reasoning, Text, ToolCall
from antiphon.chat.requests import Tool
from antiphon.chat.usage import Usage
from antiphon.formats import json
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.testing import Fault, Upstream
from tests.vendors import openai

CODEC = OpenAIChat()
PARTS = (Reasoning("Hm."), Text("I will look."), ToolCall("call_1", "f", '{"x":1}'))
USAGE = Usage(input_uncached=3, input_cache_read=2, output_visible=4, output_reasoning=1)
ANSWER = Completion(
    choices=(Choice(0, Message("assistant", PARTS), "tool_calls"),), id="c", model="m", created=1, usage=USAGE
)
MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks this format."""
    with Upstream(ANSWER, codec=CODEC) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[openai.OpenAI]:
    """Give the official client of that server."""
    with openai.OpenAI(base_url=upstream.base_url, api_key="key", max_retries=0) as client:
        yield client


def check(completion: Any) -> None:
    """Fail where *completion* is not what `ANSWER` says."""
    (choice,) = completion.choices
    (call,) = choice.message.tool_calls
    assert (choice.message.content, choice.message.reasoning_content) == ("I will look.", "Hm.")
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "f", '{"x":1}')
    assert (choice.finish_reason, completion.id, completion.model) == ("tool_calls", "c", "m")
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (5, 5)
    assert completion.usage.prompt_tokens_details.cached_tokens == 2
    assert completion.usage.completion_tokens_details.reasoning_tokens == 1


def test_whole(client: openai.OpenAI) -> None:
    """The client finds text, thoughts, calls and usage of a whole answer where it looks for them."""
    check(client.chat.completions.create(model="m", messages=MESSAGES))


def test_streamed(client: openai.OpenAI) -> None:
    """The client puts the same together from a streamed answer."""
    options: Any = {"include_usage": True}
    with client.chat.completions.stream(model="m", messages=MESSAGES, stream_options=options) as stream:
        completion: Any = stream.get_final_completion()
    check(completion)


@pytest.mark.parametrize("stream", [False, True])
def test_error(client: openai.OpenAI, upstream: Upstream, stream: bool) -> None:
    """The client raises its own error of the right class, with the words, the code and the field at fault."""
    upstream.fault = Fault.of_status(
        429, '{"error":{"message":"Slow down.","type":"requests","param":"n","code":"rate_limit_exceeded"}}'
    )
    with pytest.raises(openai.RateLimitError, match="Slow down") as caught:
        client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
    assert (caught.value.code, caught.value.param, caught.value.type) == ("rate_limit_exceeded", "n", "requests")


TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}]
SENT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ==", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
    ],
    "tools": TOOLS,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "temperature": 0.5,
    "max_completion_tokens": 9,
    "stop": ["END"],
    "seed": 7,
    "response_format": {"type": "json_object"},
    "metadata": {"k": "v"},
    "reasoning_effort": "low",
}


def test_what_the_client_sends(client: openai.OpenAI, upstream: Upstream) -> None:
    """A request of the client is read and written again as it was, and nothing of it is lost."""
    client.chat.completions.create(**SENT)
    seen = upstream.requests[-1]
    assert seen.json == SENT
    request = CODEC.decode_request(seen.body)
    assert [message.role for message in request.messages] == ["developer", "user", "assistant", "tool"]
    assert request.tools is not None
    assert isinstance(request.tools[0], Tool)
    http = CODEC.encode_request(request)
    assert (json.decode(http.body), http.losses) == (SENT, ())
