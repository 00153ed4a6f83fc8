"""Ollama's own API by name: the same client, lines in place of events, no key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from antiphon import Client
from antiphon.chat.answers import Completion
from antiphon.errors import AuthenticationError, RateLimitError, StreamError
from antiphon.formats.ollama import Ollama
from antiphon.testing import Fault, Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks Ollama's own API."""
    with Upstream("Hello from a llama", codec=Ollama(), models=("llama3.2",)) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    """Give a client of that server."""
    with Client(provider="ollama-native", base_url=upstream.base_url.removesuffix("/v1")) as client:
        yield client


def test_whole(client: Client, upstream: Upstream) -> None:
    """A whole answer crosses both ways; what is not to be streamed says so, since streaming is the default."""
    answer = client.chat.completions.create("hi", "llama3.2")
    assert (answer.content, answer.provider, answer.losses) == ("Hello from a llama", "ollama-native", ())
    assert answer.usage is not None
    assert (answer.choices[0].finish_reason, answer.usage.total_tokens) == ("stop", 5)
    seen = upstream.requests[-1]
    assert (seen.path, seen.json["stream"]) == ("/api/chat", False)
    assert "authorization" not in seen.headers


def test_streamed(client: Client) -> None:
    """A streamed answer comes piece by piece, and its usage with the last line."""
    chunks = list(client.chat.completions.create("hi", "llama3.2", stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks][:-1] == ["Hello", " from", " a", " llama"]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None


def test_models(client: Client, upstream: Upstream) -> None:
    """The list of models is asked for where Ollama has it."""
    assert [model.id for model in client.models.list()] == ["llama3.2"]
    assert upstream.requests[-1].path == "/api/tags"


def test_error_replies(client: Client, upstream: Upstream) -> None:
    """An error reply is the error of its status, with Ollama's words."""
    upstream.fault = Fault.of_status(401, '{"error": "unauthorized"}')
    with pytest.raises(AuthenticationError, match="unauthorized"):
        client.chat.completions.create("hi", "llama3.2")
    upstream.fault = Fault.of_status(429, '{"error": "too many"}', retry_after="3")
    with pytest.raises(RateLimitError) as caught:
        client.chat.completions.create("hi", "llama3.2", stream=True).__next__()
    assert (caught.value.retry_after, caught.value.retryable) == (3.0, True)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.cut(after=150),
        Fault.half_frame(after=1),
        Fault.garbage(after=1),
        Fault.error_inside("out of memory", after=1),
    ],
    ids=lambda fault: fault.kind,
)
@pytest.mark.parametrize("stream", [False, True])
def test_faults_inside(client: Client, upstream: Upstream, fault: Fault, stream: bool) -> None:
    """An answer that breaks off, or turns into garbage or an error, is a `StreamError`, whole or streamed."""
    upstream.fault = fault
    with pytest.raises(StreamError, match=fault.body.decode() or None):
        list(client.chat.completions.create("hi", "llama3.2", stream=True) if stream else [ask(client)])


def ask(client: Client) -> Completion:
    """Return a whole answer."""
    return client.chat.completions.create("hi", "llama3.2")
