"""The server by hand: each dialect over HTTP, whole and streamed, and what goes wrong, in that dialect's own JSON."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import ConfigError
from antiphon.providers.catalog import ProviderRow
from antiphon.server import run
from antiphon.settings.keys import hash_key, new_key
from antiphon.testing import Upstream
from tests.serving import Serving


def row(upstream: Upstream, codec: str = "openai-chat") -> ProviderRow:
    """Return the row of a provider that is *upstream*."""
    return ProviderRow(id="up", name="Up", codec=codec, base_url=upstream.base_url)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server whose provider `up` greets."""
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}) as serving:
        yield serving


def ask(server: Serving, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request and return status, header fields and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, data, headers)
    reply = connection.getresponse()
    fields = {name.lower(): value for name, value in reply.getheaders()}
    read = reply.read()
    connection.close()
    return reply.status, fields, read


SAY_HI = [{"role": "user", "content": "hi"}]
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"model": "up/x", "messages": SAY_HI}),
    "text": ("/v1/completions", {"model": "up/x", "prompt": "hi"}),
    "responses": ("/v1/responses", {"model": "up/x", "input": "hi"}),
    "anthropic": ("/v1/messages", {"model": "up/x", "max_tokens": 9, "messages": SAY_HI}),
    "gemini": ("/v1beta/models/up/x:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}),
    "ollama": ("/api/chat", {"model": "up/x", "messages": SAY_HI, "stream": False}),
}


@pytest.mark.parametrize("dialect", WHOLE)
def test_whole_answer_in_every_dialect(server: Serving, dialect: str) -> None:
    """A whole answer comes as JSON with the text in it, and with the id of the request."""
    path, body = WHOLE[dialect]
    status, fields, answer = ask(server, "POST", path, body)
    assert (status, fields["content-type"]) == (200, "application/json")
    assert fields["x-request-id"]
    assert "Hello there" in answer.decode()


ERRORS: dict[str, tuple[str, str]] = {
    "openai": ("/v1/chat/completions", "error.message"),
    "text": ("/v1/completions", "error.message"),
    "responses": ("/v1/responses", "error.message"),
    "anthropic": ("/v1/messages", "error.message"),
    "gemini": ("/v1beta/models/up/x:generateContent", "error.message"),
    "ollama": ("/api/chat", "error"),
}


def said(body: bytes, place: str) -> str:
    """Return the words of an error, which stand at *place*."""
    value: Any = json.loads(body)
    for key in place.split("."):
        value = value[key]
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize("dialect", ERRORS)
def test_bad_json_is_told_in_every_dialect(server: Serving, dialect: str) -> None:
    """A body that is no JSON is a 400, told where the dialect has its message."""
    path, place = ERRORS[dialect]
    status, fields, body = ask(server, "POST", path, b"{")
    assert (status, fields["content-type"]) == (400, "application/json")
    assert "not valid JSON" in said(body, place)


@pytest.mark.parametrize("dialect", ERRORS)
def test_wrong_method_is_told_in_every_dialect(server: Serving, dialect: str) -> None:
    """A method that a path does not take is a 405, with the ones that it does."""
    path, place = ERRORS[dialect]
    status, fields, body = ask(server, "PUT", path, b"{}")
    assert (status, fields["allow"]) == (405, "POST")
    assert "does not take 'PUT'" in said(body, place)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/nothing", "error.message"),
        ("/", "error.message"),
        ("/v1/messages/nothing", "error.message"),
        ("/v1beta/nothing", "error.message"),
        ("/api/nothing", "error"),
    ],
)
def test_unknown_path_is_told_in_the_dialect_of_its_place(server: Serving, path: str, place: str) -> None:
    """A path where nothing is answers 404 as the dialect does whose place it is."""
    status, fields, body = ask(server, "POST" if path != "/" else "GET", path if path != "/" else "/nothing", b"")
    assert (status, fields["content-type"]) == (404, "application/json")
    assert "nothing at" in said(body, place)


def test_unknown_model_is_a_404_with_near_matches(server: Serving) -> None:
    """A name that names no provider is not guessed; what may have been meant is told."""
    status, _, body = ask(server, "POST", "/v1/chat/completions", {"model": "gpt-5", "messages": SAY_HI})
    assert (status, json.loads(body)["error"]["code"]) == (404, "model_not_found")
    assert "openai/gpt-5" in said(body, "error.message")


def test_usage_of_a_stream_is_told_only_where_it_was_asked_for(server: Serving) -> None:
    """The server asks the provider for the usage, but a client that did not gets no chunk without choices."""
    body: dict[str, Any] = {"model": "up/x", "messages": SAY_HI, "stream": True}
    _, _, silent = ask(server, "POST", "/v1/chat/completions", body)
    _, _, told = ask(server, "POST", "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
    assert b'"usage"' not in silent
    assert told.count(b'"total_tokens":5') == 1
    assert silent.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "and?"}]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_conversation_kept_elsewhere_is_refused(server: Serving, more: dict[str, Any]) -> None:
    """A provider of another format has not seen what a reference stands for, so it is not asked to go on from it."""
    status, _, body = ask(server, "POST", "/v1/responses", {"model": "up/x", "input": "hi", **more})
    assert status == 400
    assert "send the whole conversation" in said(body, "error.message")


def test_name_of_a_lost_field_ends_no_header_line(server: Serving) -> None:
    """What a client calls a field is told in the receipt, and cannot become a header field of its own."""
    body = {**WHOLE["anthropic"][1], "a\r\nx-evil: \xe9": 1}
    status, fields, _ = ask(server, "POST", "/v1/messages", body)
    assert (status, fields["x-antiphon-losses"]) == (200, "dropped $.a\\r\\nx-evil: \\xe9")
    assert "x-evil" not in fields


def test_missing_key_of_a_provider_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that only the settings know is a 403 that names its variable, where that is not set."""
    monkeypatch.delenv("MINE_KEY", raising=False)
    mine = ProviderRow(id="mine", name="Mine", codec="openai-chat", base_url="http://127.0.0.1:9/v1", key=("MINE_KEY",))
    with Serving({"mine": mine}) as serving:
        status, _, body = ask(serving, "POST", "/v1/chat/completions", {"model": "mine/x", "messages": SAY_HI})
    assert (status, json.loads(body)["error"]["code"]) == (403, "missing_provider_key")
    assert said(body, "error.message").endswith("Whoever runs it sets MINE_KEY in its environment.")


def test_settings_read_anew_are_safe_for_the_address(tmp_path: Path) -> None:
    """An address that others reach is not left without keys, whatever the file says of the address by then."""
    file = tmp_path / "settings.toml"
    file.write_text(f'[server]\nhost = "0.0.0.0"\n[keys]\nann = "{hash_key(new_key())}"\n')
    source = run.Source(str(file), {})
    source.pin_address(source.load())
    file.write_text('[server]\nhost = "127.0.0.1"\n')
    with pytest.raises(ConfigError, match="no key"):
        source.load()
