"""Cohere by name: the same client, its own format, and a key as everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from antiphon import Client
from antiphon.chat.answers import Completion
from antiphon.errors import AuthenticationError, RateLimitError, StreamError
from antiphon.formats.cohere import Cohere
from antiphon.testing import Fault, Upstream

KEY = "co-test-0123456789"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks Cohere's Chat API."""
    with Upstream("Hello from Coral", codec=Cohere(), models=("command-a",)) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    """Give a client of that server."""
    with Client(provider="cohere", base_url=upstream.base_url.removesuffix("/v1"), api_key=KEY) as client:
        yield client


def test_whole(client: Client, upstream: Upstream) -> None:
    """A whole answer crosses both ways, signed with the key."""
    answer = client.chat.completions.create("hi", "command-a")
    assert answer.model == "command-a"  # which Cohere does not tell
    assert (answer.content, answer.provider, answer.losses) == ("Hello from Coral", "cohere", ())
    assert answer.usage is not None
    assert (answer.choices[0].finish_reason, answer.usage.total_tokens) == ("stop", 5)
    seen = upstream.requests[-1]
    assert (seen.path, seen.headers["authorization"]) == ("/v2/chat", f"Bearer {KEY}")


def test_streamed(client: Client) -> None:
    """A streamed answer comes piece by piece, and its usage with the last frame."""
    chunks = list(client.chat.completions.create("hi", "command-a", stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks][:-1] == ["", "Hello", " from", " Coral"]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None


def test_models(client: Client, upstream: Upstream) -> None:
    """The list of models is asked for where Cohere has it."""
    assert [model.id for model in client.models.list()] == ["command-a"]
    assert upstream.requests[-1].path == "/v1/models?endpoint=chat&page_size=1000"


def test_error_replies(client: Client, upstream: Upstream) -> None:
    """An error reply is the error of its status, with Cohere's words."""
    upstream.fault = Fault.of_status(401, '{"id": "r1", "message": "invalid api token"}')
    with pytest.raises(AuthenticationError, match="invalid api token"):
        client.chat.completions.create("hi", "command-a")
    upstream.fault = Fault.of_status(429, '{"message": "too many"}', retry_after="3")
    with pytest.raises(RateLimitError) as caught:
        client.chat.completions.create("hi", "command-a", stream=True).__next__()
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
        list(client.chat.completions.create("hi", "command-a", stream=True) if stream else [ask(client)])


def ask(client: Client) -> Completion:
    """Return a whole answer."""
    return client.chat.completions.create("hi", "command-a")
