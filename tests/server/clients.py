"""What the tests with official clients share: providers that play the other side of a conversation with a tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Image, Message, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec
from antiphon.formats.cohere import Cohere
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses
from antiphon.providers.catalog import ProviderRow
from antiphon.settings.config import Config
from antiphon.testing import Answer, Upstream
from tests.serving import Serving

__all__ = [
    "CODECS",
    "MODELS",
    "PICTURE",
    "PNG",
    "RIGHT",
    "SCHEMA",
    "USAGE",
    "ask_weather",
    "greeter",
    "listening",
    "providers",
    "reply_to",
    "row",
    "unknown_name",
]

CODECS: Mapping[str, Codec] = {
    codec.name: codec for codec in (OpenAIChat(), Responses(), Anthropic(), Gemini(), Ollama(), Cohere(), Bedrock())
}
"""Every format that a provider may speak, by its name."""

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
"""A picture of one pixel, as base64."""
PICTURE = f"data:image/png;base64,{PNG}"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
MODELS = ("up/m", "own/m")
"""Both answer as `reply_to` does: one over HTTP, one is that function."""
USAGE = Usage(input_uncached=11, output_visible=7)
RIGHT = "It is sunny in Paris."
"""What is said of the weather once the tool was called."""


def _completion(request: ChatRequest, *parts: Text | ToolCall) -> Completion:
    calls = any(isinstance(part, ToolCall) for part in parts)
    choice = Choice(0, Message("assistant", parts), "tool_calls" if calls else "stop")
    return Completion(choices=(choice,), id="answer-1", model=request.model, created=1_700_000_000, usage=USAGE)


def reply_to(request: ChatRequest) -> Completion:
    """Answer as a model would that obeys: in JSON where a schema asks for it, with the tool's result, with a call.

    Of a picture its size is told, so that a test sees it has arrived; of anything else, what was said.
    """
    last = request.messages[-1]
    for part in reversed(last.parts):  # some formats put what the user says beside the results before it
        if isinstance(part, ToolResult):
            return _completion(request, Text(f"It is {part.text} in Paris."))
        if isinstance(part, Image):
            return _completion(request, Text(f"A picture of {len(part.data or '')} letters."))
    if request.response_format is not None and request.response_format.kind != "text":
        return _completion(request, Text('{"city": "Paris"}'))
    if request.tools:
        return _completion(request, ToolCall("call_1", "weather", '{"city":"Paris"}'))
    return _completion(request, Text(f"You said: {last.content}"))


def ask_weather(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city: Its name.
    """
    assert city == "Paris"
    return "sunny"


def greeter(request: ChatRequest) -> Iterator[str]:
    """Greet word by word: a provider that is a function."""
    yield from ("Hello", " there", ", ", request.messages[-1].content or "you")


def row(upstream: Upstream, codec: str = "openai-chat", id: str = "up", **fields: Any) -> ProviderRow:
    """Return the row of a provider that is *upstream*."""
    return ProviderRow(id=id, name=id.title(), codec=codec, base_url=upstream.base_url, **fields)


unknown_name = pytest.mark.may_block("looks for plug-ins that were installed meanwhile")
"""For tests that name a provider that is none."""


@contextmanager
def providers(answer: Callable[[ChatRequest], Answer] = reply_to) -> Iterator[tuple[Serving, dict[str, Upstream]]]:
    """Give a server with a provider for each format, whose id is the format's name, and what they are in truth."""
    with ExitStack() as stack:
        upstreams = {
            name: stack.enter_context(Upstream(answer, codec=codec, models=("m",))) for name, codec in CODECS.items()
        }
        rows = {name: row(upstream, name, name) for name, upstream in upstreams.items()}
        yield stack.enter_context(Serving(rows)), upstreams


@contextmanager
def listening(config: Config | None = None) -> Iterator[tuple[Serving, Upstream]]:
    """Give a server whose providers are those of `MODELS` and `greet`, and the upstream that one of them is."""
    with (
        Upstream(reply_to) as upstream,
        Serving({"up": row(upstream), "own": reply_to, "greet": greeter}, config) as it,
    ):
        yield it, upstream
