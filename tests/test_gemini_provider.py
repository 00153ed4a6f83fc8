"""Gemini by name: the same client, another format, the key where Google wants it, the model in the path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from antiphon import Client
from antiphon.chat.messages import Message, Reasoning, Text
from antiphon.errors import AuthenticationError, MissingAPIKeyError, RateLimitError
from antiphon.formats.gemini import Gemini
from antiphon.testing import Fault, Upstream

KEY = "AIza-test-0123456789"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks the Gemini API."""
    with Upstream("Hello from Gemini", codec=Gemini(), models=("gemini-x",)) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    """Give a client of that server."""
    with Client(provider="gemini", base_url=upstream.base_url.removesuffix("/v1"), api_key=KEY) as client:
        yield client


def test_whole(client: Client, upstream: Upstream) -> None:
    """A whole answer crosses both ways, without a loss, and the key is in the header alone."""
    answer = client.chat.completions.create([Message.system("Be brief."), Message.user("hi")], "gemini-x")
    assert (answer.content, answer.provider, answer.model) == ("Hello from Gemini", "gemini", "gemini-x")
    assert (answer.choices[0].finish_reason, answer.losses) == ("stop", ())
    seen = upstream.requests[-1]
    assert (seen.path, seen.headers["x-goog-api-key"]) == ("/v1beta/models/gemini-x:generateContent", KEY)
    assert "authorization" not in seen.headers


def test_streamed(client: Client, upstream: Upstream) -> None:
    """A streamed answer comes in OpenAI's chunks, with usage on the last one."""
    chunks = list(client.chat.completions.create("hi", "gemini-x", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello from Gemini"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 3
    assert upstream.requests[-1].path == "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"


def test_models(client: Client, upstream: Upstream) -> None:
    """The list of models is asked for where Gemini has it."""
    assert [model.id for model in client.models.list()] == ["gemini-x"]
    assert upstream.requests[-1].path.partition("?")[0] == "/v1beta/models"


def test_errors(client: Client, upstream: Upstream) -> None:
    """A wrong key, which Gemini calls a bad request, is told as one; a quota says how long to wait."""
    details = '[{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]'
    body = f'{{"error": {{"code": 400, "message": "API key not valid.", "details": {details}}}}}'
    upstream.fault = Fault.of_status(400, body=body.encode())
    with pytest.raises(AuthenticationError) as caught:
        client.chat.completions.create("hi", "gemini-x")
    assert (caught.value.status, caught.value.provider, caught.value.retryable) == (400, "gemini", False)
    details = '[{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]'
    body = f'{{"error": {{"code": 429, "message": "Quota.", "details": {details}}}}}'
    upstream.fault = Fault.of_status(429, body=body.encode())
    with pytest.raises(RateLimitError) as limited:
        client.chat.completions.create("hi", "gemini-x")
    assert limited.value.retry_after == 34


@pytest.mark.parametrize(("author", "kept"), [("gemini", True), ("somebody", False), (None, False)])
def test_signatures_go_home(client: Client, upstream: Upstream, author: str | None, kept: bool) -> None:
    """A signature goes back to the provider that made it, and to nobody else; the receipt says so."""
    thoughts = Message("assistant", (Reasoning("Hm.", "c2lnbmVk"), Text("Hello.")), provider=author)
    answer = client.chat.completions.create([Message.user("hi"), thoughts, Message.user("again")], "gemini-x")
    assert (b"c2lnbmVk" in upstream.requests[-1].body) is kept
    assert any(loss.path == "$.messages[1].parts[0].signature" for loss in answer.losses) is not kept


@pytest.mark.parametrize(
    ("provider", "name", "header", "value"),
    [
        ("vertex", "GOOGLE_OAUTH_ACCESS_TOKEN", "authorization", f"Bearer {KEY}"),
        ("vertex-express", "GOOGLE_VERTEX_API_KEY", "x-goog-api-key", KEY),
    ],
)
def test_vertex(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, provider: str, name: str, header: str, value: str
) -> None:
    """Vertex AI is reached with an access token or with an API key, by a path of its own."""
    monkeypatch.setenv(name, KEY)
    with Client(provider=provider, base_url=f"{upstream.base_url}/publishers/google") as client:
        assert client.chat.completions.create("hi", "gemini-x").content == "Hello from Gemini"
    seen = upstream.requests[-1]
    assert (seen.path, seen.headers[header]) == ("/v1/publishers/google/models/gemini-x:generateContent", value)


def test_without_a_key() -> None:
    """The missing key's variables are named."""
    with pytest.raises(MissingAPIKeyError, match="GOOGLE_API_KEY or GEMINI_API_KEY"):
        Client(provider="gemini").chat.completions.create("hi", "gemini-x")
