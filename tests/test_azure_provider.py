"""Classic Azure: the model in the path, the version of the API in the query, the key in a field of its own."""

from __future__ import annotations

import pytest

from antiphon import Client
from antiphon.errors import AntiphonError
from antiphon.testing import Upstream, vector_of

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client as the variables of Azure's own make it."""
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-12-01-preview")
    return Client()


def test_deployments(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment is asked at its own path, with the version and the bare key."""
    with Upstream() as server, client:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.base_url.removesuffix("/v1"))
        assert client.chat.completions.create("hi", "azure-classic/my gpt").content == "Hello there"
        chunks = list(client.chat.completions.create("hi", "azure-classic/my gpt", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there"
    for seen in server.requests:
        assert seen.path == "/openai/deployments/my%20gpt/chat/completions?api-version=2024-12-01-preview"
        assert (seen.headers["api-key"], seen.headers.get("authorization")) == (KEY, None)


def test_embeddings(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings are another path of the same kind."""
    with Upstream() as server, client:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.base_url.removesuffix("/v1"))
        assert client.embeddings.create("one two", "azure-classic/small").vectors == [vector_of("one two")]
    assert server.requests[0].path == "/openai/deployments/small/embeddings?api-version=2024-12-01-preview"


def test_without_a_version(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the version, nothing is sent, and the error names the variable."""
    monkeypatch.delenv("OPENAI_API_VERSION")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:1")
    with client, pytest.raises(AntiphonError, match="OPENAI_API_VERSION"):
        client.chat.completions.create("hi", "azure-classic/gpt")
