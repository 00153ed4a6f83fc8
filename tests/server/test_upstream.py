"""What a provider sends that must not reach a client of the server as it is: refusals, addresses, odd header fields."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from antiphon.providers.auth import Secret
from antiphon.providers.catalog import ProviderRow
from antiphon.providers.lookup import ProviderNames
from antiphon.server.log import line
from antiphon.settings.config import Config
from antiphon.settings.keys import AccessKeys, hash_key
from antiphon.testing import Fault, Upstream
from tests import peers
from tests.server.clients import CODECS
from tests.server.raw import DIALECTS, SAY_HI, Dialect, Response, ask, post
from tests.serving import Serving

KEY = "sk-proj-canary0123456789abcdefwxyz"
OURS = "ap-0123456789abcdefghijklmnopqrstuvwxyz"
MASKED = "sk-proj-****************wxyz"
OPENAI = DIALECTS["openai"]
CHATS = {
    "text": "openai-chat", "openai": "openai-chat", "responses": "openai-responses",
    "anthropic": "anthropic", "gemini": "gemini", "ollama": "ollama",
}  # fmt: skip
"""The format that a provider speaks whose answers go on as they are, by dialect."""

JSON, EVENTS = "content-type: application/json", "content-type: text/event-stream"

WAYS = [(name, stream) for name in DIALECTS for stream in (False, True)]
"""Each dialect, whole and streamed."""
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@contextmanager
def server_of(url: str, codec: str = "openai-chat", *, locked: bool = False) -> Iterator[Serving]:
    """Give a server whose provider `up` is at *url*."""
    known = ProviderRow(id="up", name="Up", codec=codec, base_url=url)
    config = Config(names=ProviderNames(keys={"up": Secret(KEY)}, files=()))
    if locked:
        config = msgspec.structs.replace(config, keys=AccessKeys({"ann": hash_key(OURS)}))
    with Serving({"up": known}, config) as serving:
        yield serving


def asked(server: Serving, dialect: Dialect, *, stream: bool = False, model: str = "up/x") -> Response:
    """Return the answer to a chat of a client with the right key."""
    headers = f"authorization: Bearer {OURS}\r\n"
    return ask(server.port, dialect.request(stream=stream, model=model, headers=headers))


def refusing(status: int, body: Any) -> peers.Peer:
    """Give a provider that answers one request with an error status."""
    text = body if isinstance(body, str) else json.dumps(body)
    return peers.answering(peers.reply(text.encode(), JSON, status=f"{status} Sorry"))


# --- a provider that refuses the server's key

GOOGLES = {
    "error": {
        "code": 400,
        "message": f"API key not valid: {MASKED}. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
    }
}
OPENAIS = {
    "error": {
        "message": f"Incorrect API key provided: {MASKED}. It ends in wxyz, and begins with sk-proj-can.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
}
REFUSALS: dict[str, tuple[str, int, Any]] = {
    "401": ("openai-chat", 401, OPENAIS),
    "403": ("openai-chat", 403, OPENAIS),
    "407": ("openai-chat", 407, OPENAIS),
    "400 of Google": ("gemini", 400, GOOGLES),
    "inside a 200": ("openai-chat", 200, OPENAIS),
    "401 of a page": ("openai-chat", 401, f"<html><title>{MASKED}</title>"),
    "403 of AWS": ("bedrock", 403, {"message": f"The security token {MASKED} is invalid."}),
}


def holds_a_part(text: str) -> bool:
    """Whether a text has the key in it, or what a provider shows of it."""
    return any(part in text for part in ("canary", "wxyz", "sk-proj", "****"))


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusal_of_the_servers_key_is_a_502(refusal: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client with a good key does not learn that the provider refuses the server's, nor what is shown of that one."""
    codec, status, body = REFUSALS[refusal]
    with refusing(status, body) as peer, server_of(peer.url("/v1"), codec, locked=True) as server:
        for count, (name, stream) in enumerate(WAYS, 1):
            caplog.clear()
            reply = asked(server, DIALECTS[name], stream=stream)
            exchange = server.wait(count)[-1]
            assert reply.status == 502, (name, stream, reply)
            assert not holds_a_part(repr(reply))
            assert "credentials" in DIALECTS[name].said(reply.json)
            if name in ("openai", "text", "responses"):
                assert reply.json["error"]["code"] == "upstream_credentials"
            assert (exchange.outcome, exchange.error) == ("error", "auth")
            said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            assert [exchange.id in message and "refuses this server's key" in message for message in said] == [True]
            assert not any(map(holds_a_part, said))


@pytest.mark.parametrize("name", DIALECTS)
def test_refusal_is_shown_where_the_client_could_have_sent_the_key(name: str) -> None:
    """Without keys of the server, a client of the provider's own API sees its 401, though nothing of the key."""
    codec = CHATS[name]
    with (
        refusing(401, OPENAIS) as peer,
        server_of(peer.url("/v1"), codec) as server,
    ):
        reply = asked(server, DIALECTS[name])
    shown = codec == CHATS[name] and name != "text"
    assert reply.status == (401 if shown else 502), reply
    assert not holds_a_part(repr(reply))


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "openai-chat"])
def test_refusal_in_another_api_is_a_502_without_keys_too(codec: str) -> None:
    """A client that speaks another API than the provider is not shown its 401."""
    with refusing(401, "{}") as peer, server_of(peer.url("/v1"), codec) as server:
        assert asked(server, OPENAI).status == 502


OTHERS: dict[str, tuple[str, Any, str, str]] = {
    "embeddings": ("/v1/embeddings", {"model": "up/x", "input": "hi"}, "openai-chat", "anthropic"),
    "ollama embed": ("/api/embed", {"model": "up/x", "input": "hi"}, "ollama", "gemini"),
    "count": ("/v1/messages/count_tokens", {"model": "up/x", "messages": SAY_HI}, "anthropic", "gemini"),
}


@pytest.mark.parametrize("locked", [False, True], ids=["open", "locked"])
@pytest.mark.parametrize("other", OTHERS)
def test_refusal_of_what_is_no_chat(other: str, locked: bool) -> None:
    """Embeddings and counts follow the rule of chats."""
    path, body, same, _ = OTHERS[other]
    data = post(path, json.dumps(body).encode(), f"authorization: Bearer {OURS}\r\n")
    with (
        refusing(401, OPENAIS) as peer,
        server_of(peer.url("/v1"), same, locked=locked) as server,
    ):
        reply = ask(server.port, data)
    assert reply.status == (502 if locked else 401), reply
    assert not holds_a_part(repr(reply))


def test_own_refusals_stay() -> None:
    """What the server itself refuses is its own 401, and a request that a provider declines keeps its 403."""
    declined = {"error": {"message": "Your input was flagged by moderation.", "code": 403}}
    with (
        refusing(403, declined) as peer,
        server_of(peer.url("/v1"), locked=True) as server,
    ):
        assert ask(server.port, OPENAI.request()).status == 401
        reply = asked(server, OPENAI)
    assert (reply.status, "flagged" in OPENAI.said(reply.json)) == (403, True)


# --- where a provider is

CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
BROKEN: dict[str, bytes] = {
    "redirection": peers.reply(b"", "location: http://10.1.2.3:8080/inside?x=1", status="302 Found"),
    "half a body": b"HTTP/1.1 200 OK\r\n%s\r\ncontent-length: 500\r\n\r\n{" % JSON.encode(),
    "half a stream": b"HTTP/1.1 200 OK\r\n%s\r\ncontent-length: 5000\r\n\r\n%s" % (EVENTS.encode(), CHUNK),
    "too large": b"HTTP/1.1 200 OK\r\n%s\r\ncontent-length: 7000000000\r\n\r\n{" % JSON.encode(),
    "wrong chunk": b"HTTP/1.1 200 OK\r\n%s\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n" % JSON.encode(),
    "other coding": peers.reply(b"{}", JSON, "content-encoding: br"),
    "no gzip": peers.reply(b"{}", JSON, "content-encoding: gzip"),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "closed": b"",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_no_address_of_a_provider_reaches_a_client(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong on the way to a provider is reported without its host, port and URL; those are in the log."""

    def script(line: peers.Line) -> None:
        line.request()
        line.send(BROKEN[fault])

    with peers.Peer(script) as peer, server_of(peer.url("/v1")) as server:
        port = peer.url("").rpartition(":")[2].strip("/")
        for count, (name, stream) in enumerate(WAYS, 1):
            caplog.clear()
            reply = asked(server, DIALECTS[name], stream=stream)
            exchange = server.wait(count)[-1]
            told = reply.body.decode()
            assert reply.status in ({200, 502} if fault == "half a stream" else {502}), (name, stream, reply)
            assert not any(address in told for address in ("127.0.0.1", "10.1.2.3", port)), told
            assert (exchange.outcome, "'up'" in told) == ("error", True)
            said = " ".join(record.getMessage() for record in caplog.records)
            assert f"127.0.0.1:{port}" in said
            assert exchange.id in said


# --- statuses and header fields that HTTP does not have


@pytest.mark.parametrize("status", [204, 205, 299, 300, 304, 399, 418, 499, 599, 600, 999])
def test_odd_status_of_a_provider_is_an_answer(status: int) -> None:
    """Whatever status a provider has, the client gets an answer with one that HTTP has."""
    with refusing(status, {"error": {"message": "odd"}}) as peer, server_of(peer.url("/v1")) as server:
        for name, stream in WAYS:
            reply = asked(server, DIALECTS[name], stream=stream)
            assert reply.status == (status if 400 <= status <= 599 else 502), (name, stream, reply)
            assert DIALECTS[name].said(reply.json)


NESTED = {
    "objects": b'{"error":' * 900 + b'"x"' + b"}" * 900,
    "lists": b'{"error":{"message":' + b"[" * 480 + b'"x"' + b"]" * 480 + b"}}",
    "a little": b'{"error":' * 30 + b'"x"' + b"}" * 30,
}


@pytest.mark.parametrize("nested", NESTED)
def test_deeply_nested_error_is_an_error(nested: str) -> None:
    """An error that is nested beyond what anybody reads is reported by its status."""
    with Upstream(fault=Fault.of_status(400, NESTED[nested])) as upstream, server_of(upstream.base_url) as server:
        for name, stream in WAYS:
            reply = asked(server, DIALECTS[name], stream=stream)
            assert reply.status == 400, (name, stream, reply)
            assert reply.json["error"]


def test_long_param_of_a_provider_is_cut() -> None:
    """Of a path in an error with few words, as of its words, only the beginning goes to the client."""
    error = {"error": {"message": "No.", "param": "p" * 5000}}
    with refusing(400, error) as peer, server_of(peer.url("/v1")) as server:
        reply = asked(server, OPENAI)
    assert reply.status == 400
    assert reply.json["error"]["param"] == "p" * 200 + "…"


WHOLE = json.dumps({"id": "c", "model": "m", "choices": [{"message": {"role": "assistant", "content": "Hello"}}]})


@pytest.mark.parametrize("status", [300, 305, 306, 399])
def test_answer_that_is_none_by_its_status(status: int) -> None:
    """What a provider sends with a status that is no success is no answer, however much it looks like one."""
    with refusing(status, WHOLE) as peer, server_of(peer.url("/v1")) as server:
        assert asked(server, OPENAI).status == 502
        embeddings = {"data": [{"index": 0, "embedding": [1.0]}], "model": "m"}
    with refusing(status, embeddings) as peer, server_of(peer.url("/v1")) as server:
        assert ask(server.port, post("/v1/embeddings", b'{"model": "up/x", "input": "hi"}')).status == 502


@both
@pytest.mark.parametrize(
    "field",
    [
        "x-ratelimit-a: 1\tset-cookie: e=1",
        "x-ratelimit-a: \xff",
        "x-ratelimit-a: " + "a" * 100_000,
        "x-ratelimit-" + "a" * 10_000 + ": 1",
        "ratelimit-a'`|~!#$%&*+^_: 1",
    ],
    ids=lambda field: field[:20],
)
def test_odd_rate_limit_is_not_relayed(field: str, stream: bool) -> None:
    """A rate limit of a provider goes on if it can stand in a header field of any client, and is left out if not."""
    body, kind = (CHUNK + b"data: [DONE]\n\n", EVENTS) if stream else (WHOLE.encode(), JSON)
    good = "x-ratelimit-remaining-requests: 59"
    data = peers.reply(body, kind, good)
    data = data.replace(good.encode(), f"{good}\r\n{field}".encode("latin-1"))
    with peers.answering(data) as peer, server_of(peer.url("/v1")) as server:
        reply = asked(server, OPENAI, stream=stream)
        server.wait()
    assert reply.status == 200
    assert {name for name in reply.headers if "ratelimit" in name} == {"x-ratelimit-remaining-requests"}
    assert max(len(value) for value in reply.headers.values()) < 1000


def test_field_of_losses_is_bounded() -> None:
    """However long the names of a client's fields are, the field that lists them is short, and counts them all."""
    odd = {f"{number}" + "\U0001f600" * 500: 1 for number in range(15)} | {"\r\nset-cookie: a": 1}
    odd |= {name * 30_000: 1 for name in "abcdefghijklmnopqrstuvwxyz"}
    body = json.dumps({"model": "up/x", "max_tokens": 5, "messages": SAY_HI, **odd}).encode()
    with Upstream("hi") as upstream, server_of(upstream.base_url) as server:
        reply = ask(server.port, post("/v1/messages", body))
    told = reply.headers["x-antiphon-losses"]
    assert reply.status == 200
    assert len(told) <= 4096
    assert re.fullmatch("[ -~]+", told)
    assert told.endswith(f", and {len(odd) - 20} more")
    assert "set-cookie" not in reply.headers


@both
def test_long_texts_of_others_are_cut_in_the_log(stream: bool) -> None:
    """A provider's id, a model's name and a path are cut in the access log."""
    body, kind = (CHUNK + b"data: [DONE]\n\n", EVENTS) if stream else (WHOLE.encode(), JSON)
    with peers.answering(peers.reply(body, kind, "x-request-id: " + "i" * 100_000)) as peer:
        with server_of(peer.url("/v1")) as server:
            asked(server, OPENAI, stream=stream, model="up/" + "m" * 900)
            ask(server.port, post("/v1/" + "p" * 9000))
            first, second = server.wait(2)
    assert len(json.dumps(line(first))) < 1500
    assert len(json.dumps(line(second))) < 1500
