"""OpenAI Responses by name: the same client, another of OpenAI's formats."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from antiphon import Client
from antiphon.chat.messages import Message, Reasoning, Text
from antiphon.errors import BadRequestError, RateLimitError, StreamError
from antiphon.formats.responses import Responses
from antiphon.testing import Fault, Upstream

KEY = "sk-test-0123456789"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks OpenAI Responses."""
    with Upstream("Hello from here", codec=Responses(), models=("m",)) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    """Give a client of that server."""
    with Client(provider="openai-responses", base_url=upstream.base_url, api_key=KEY) as client:
        yield client


def test_whole(client: Client, upstream: Upstream) -> None:
    """A whole answer crosses both ways, and the receipt says what Responses cannot say."""
    answer = client.chat.completions.create([Message.system("Be brief."), Message.user("hi")], "m", stop=["x"])
    choice = answer.choices[0]
    assert (answer.content, answer.provider, choice.finish_reason) == ("Hello from here", "openai-responses", "stop")
    assert [(loss.kind, loss.path) for loss in answer.losses] == [("dropped", "$.stop")]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    seen = upstream.requests[-1]
    assert (seen.path, seen.headers["authorization"]) == ("/v1/responses", f"Bearer {KEY}")
    assert seen.json == {
        "model": "m",
        "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
    }


def test_strict(client: Client, upstream: Upstream) -> None:
    """With `strict`, what cannot be said is an error before anything is sent."""
    with pytest.raises(BadRequestError, match=r"\$\.seed"):
        client.chat.completions.create("hi", "m", seed=7, strict=True)
    assert upstream.requests == []


def test_streamed(client: Client) -> None:
    """A streamed answer arrives in pieces, with its finish and its usage."""
    chunks = list(client.chat.completions.create("hi", "m", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello from here"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 3


def test_models(client: Client, upstream: Upstream) -> None:
    """The list of models is asked for beside the answers."""
    assert [model.id for model in client.models.list()] == ["m"]
    assert upstream.requests[-1].path == "/v1/models"


def test_rate_limit(client: Client, upstream: Upstream) -> None:
    """429 is told with what the provider asks to wait."""
    upstream.fault = Fault.of_status(429, retry_after="2")
    with pytest.raises(RateLimitError) as caught:
        client.chat.completions.create("hi", "m")
    assert (caught.value.retry_after, caught.value.retryable, caught.value.provider) == (2.0, True, "openai-responses")


@pytest.mark.parametrize("fault", [Fault.cut(after=300), Fault.half_frame(after=5), Fault.error_inside(after=5)])
def test_broken_streams(client: Client, upstream: Upstream, fault: Fault) -> None:
    """A stream that breaks, or tells of an error, is an error; what came before it is in the caller's hands."""
    upstream.fault = fault
    with pytest.raises(StreamError):
        list(client.chat.completions.create("hi", "m", stream=True))


@pytest.mark.parametrize(("author", "kept"), [("openai-responses", True), ("somebody", False), (None, True)])
def test_reasoning_goes_home(client: Client, upstream: Upstream, author: str | None, kept: bool) -> None:
    """Encrypted reasoning goes back to the provider that made it, and to nobody else; the receipt says so."""
    thoughts = Message("assistant", (Reasoning("Hm.", "c2lnbmVk"), Text("Hello.")), provider=author)
    history = [Message.user("hi"), thoughts, Message.user("again")]
    answer = client.chat.completions.create(history, "m")
    assert (b"c2lnbmVk" in upstream.requests[-1].body) is kept
    assert any(loss.path == "$.messages[1].parts[0].signature" for loss in answer.losses) is not kept
