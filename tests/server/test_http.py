"""Raw HTTP: what comes may be cut, wrong, huge or slow; no 500, no hang, and what is told is JSON."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.settings.config import Config, Limits
from antiphon.testing import Upstream
from tests.server.raw import DIALECTS, Wire, ask, eventually, get, post, row
from tests.serving import Serving

LIMITS = Limits(body_bytes=20_000, header_bytes=4_000)
IMPATIENT = Limits(head_seconds=0.2, body_seconds=0.2, write_seconds=0.2)
CHAT = DIALECTS["openai"]


def healthy(serving: Serving) -> None:
    """Check that nothing in the server failed, and that it still answers."""
    assert ask(serving.port, get("/health")).json == {"status": "ok"}
    serving.stop()
    assert [(exchange.path, exchange.status) for exchange in serving.done if exchange.status >= 500] == []
    assert not serving.application.live
    assert not serving.server.server_state.tasks


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server whose bounds are low; at the end nothing may have failed in it."""
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}, Config(limits=LIMITS)) as serving:
        yield serving
        healthy(serving)


@pytest.fixture
def hasty(no_leaks: None) -> Iterator[Serving]:
    """A server without patience."""
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}, Config(limits=IMPATIENT)) as serving:
        yield serving
        healthy(serving)


CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
NO_REQUESTS: dict[str, bytes] = {
    "garbage": b"\x00\x01\x02\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown version": b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "only a query": b"GET ?a HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "NUL in the path": b"GET /\x00 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "NUL in a field": b"GET / HTTP/1.1\r\nhost: localhost\r\nx: \x00\r\n\r\n",
    "path that is not ASCII": b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
    "length in words": b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: ten\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "length and chunks": b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\r\n\tb: c\r\n d\x01\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nhost : localhost\r\n\r\n",
}


@pytest.mark.parametrize("data", NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_what_is_no_request_is_a_400_in_json(server: Serving, data: bytes) -> None:
    """What the parser refuses is answered in JSON, and the connection closed."""
    with Wire(server.port) as wire:
        reply = wire.send(data).reply()
        assert (reply.status, reply.json["error"]["code"]) == (400, "bad_http")
        assert wire.rest() == b""


@pytest.mark.parametrize(
    "chunks", [b"zz\r\nabc\r\n", b"3\r\nabcdef\r\n", b"-1\r\n\r\n", b"fffffffffffffffff\r\nabc"], ids=repr
)
def test_wrong_chunks_are_a_400_in_json(server: Serving, chunks: bytes) -> None:
    """A body whose chunks are not what they say is told so, though its request has begun to be answered."""
    with Wire(server.port) as wire:
        reply = wire.send(CHUNKED + chunks).reply()
        assert (reply.status, reply.json["error"]["code"]) == (400, "bad_http")
        assert wire.rest() == b""


def test_garbage_after_a_request_does_not_stand_in_its_answer() -> None:
    """What follows a request and is none ends the connection, with nothing that could be taken for the answer."""
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}) as server, Wire(server.port) as wire:
        said = wire.send(CHAT.request() + b"\x00garbage\r\n\r\n").rest()
        assert said == b"" or said.startswith(b"HTTP/1.1 200")
        assert b"bad_http" not in said


def test_body_in_chunks(server: Serving) -> None:
    """A body may come in chunks, cut anywhere."""
    body = json.dumps(CHAT.body).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    with Wire(server.port) as wire:
        assert wire.send(CHUNKED + chunks + b"0\r\n\r\n").reply().status == 200


def test_request_byte_by_byte(server: Serving) -> None:
    """A request is the same however it is cut."""
    with Wire(server.port) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in CHAT.request():
            wire.send(bytes([byte]))
        assert b"Hello there" in wire.reply().body


def test_pipelined_requests_are_answered_in_order(server: Serving) -> None:
    """Requests that do not wait for answers get them in their order, errors among them."""
    bad = post(CHAT.path, b"{")
    with Wire(server.port) as wire:
        wire.send(CHAT.request() + bad + get("/health") + CHAT.request(stream=True) + get("/nothing") + CHAT.request())
        replies = [wire.reply() for _ in range(6)]
    assert [reply.status for reply in replies] == [200, 400, 200, 200, 404, 200]
    assert replies[2].json == {"status": "ok"}
    assert replies[3].body.endswith(b"data: [DONE]\n\n")


def test_http_1_0(server: Serving) -> None:
    """A client of HTTP/1.0 is answered, and the connection closed."""
    with Wire(server.port) as wire:
        reply = wire.send(CHAT.request().replace(b"HTTP/1.1", b"HTTP/1.0", 1)).reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert wire.rest() == b""


def test_whole_url_and_percents(server: Serving) -> None:
    """A path may come as a whole URL, and with percent signs."""
    assert ask(server.port, get("http://localhost/%68ealth")).json == {"status": "ok"}


def test_websocket_is_not_spoken(server: Serving) -> None:
    """An upgrade that is not known is not made: the request is answered as if it had not asked for one."""
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    assert ask(server.port, DIALECTS["openai"].request(headers=offer)).status == 200
    reply = ask(server.port, get("/health", "connection: upgrade\r\nupgrade: websocket\r\n"))
    assert (reply.status, reply.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "endless"])
@pytest.mark.parametrize("part", ["path", "field", "fields"])
def test_huge_head_is_a_431_in_json(server: Serving, part: str, whole: bool) -> None:
    """A head beyond the bound is refused, whether it comes to an end or not."""
    much = "a" * LIMITS.header_bytes
    head = {
        "path": f"GET /{much} HTTP/1.1\r\n",
        "field": f"GET / HTTP/1.1\r\nx: {much}\r\n",
        "fields": "GET / HTTP/1.1\r\n" + "x: y\r\n" * (LIMITS.header_bytes // 5),
    }[part]
    data = (head if whole else head.rstrip("\r\n")).encode() + (b"\r\n" if whole else b"")
    with Wire(server.port) as wire:
        reply = wire.send(data).reply()
        assert reply.status == 431
        assert "4,000 bytes" in reply.json["error"]["message"]
        wire.rest()


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_huge_body_is_a_413_in_its_dialect(server: Serving, dialect: object) -> None:
    """A body beyond the bound is refused by what it says of its length, and, where it says nothing, by what comes."""
    known = next(known for known in DIALECTS.values() if known is dialect)
    big = b"x" * (LIMITS.body_bytes + 1)
    chunked = CHUNKED.replace(b"/v1/chat/completions", known.path.encode(), 1)
    for data in (post(known.path, big), chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(big), big)):
        with Wire(server.port) as wire:
            reply = wire.send(data).reply()
            assert reply.status == 413
            assert "20,000 bytes" in known.said(reply.json)
            assert wire.rest() == b""


def test_packed_body_is_a_415(server: Serving) -> None:
    """A packed body is not unpacked: that would make much of little."""
    reply = ask(server.port, post(CHAT.path, b"\x1f\x8b", "content-encoding: gzip\r\n"))
    assert reply.status == 415
    assert "content-encoding" in CHAT.said(reply.json)


def test_body_that_is_not_read_does_not_disturb_the_next_request(server: Serving) -> None:
    """The body of a request that is refused by its head is no request."""
    with Wire(server.port) as wire:
        wire.send(post("/nothing", get("/health")) + get("/ready"))
        assert [wire.reply().status, wire.reply().json] == [404, {"status": "ready"}]


def test_continue_is_said_before_the_body(server: Serving) -> None:
    """A client that waits to be told to go on is."""
    head, _, body = CHAT.request(headers="expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with Wire(server.port) as wire:
        assert wire.send(head + b"\r\n\r\n").head() == (100, {})
        assert wire.send(body).reply().status == 200


def test_slow_head_is_a_408(hasty: Serving) -> None:
    """A head that does not come in time is answered so, and the connection closed."""
    with Wire(hasty.port) as wire:
        reply = wire.send(b"GET / HTTP/1.1\r\nx: ").reply()
        assert reply.status == 408
        assert "head" in reply.json["error"]["message"]
        assert wire.rest() == b""


def test_silent_connection_is_closed(hasty: Serving) -> None:
    """A connection over which nothing comes is closed without a word."""
    with Wire(hasty.port) as wire:
        assert wire.rest() == b""


def test_connection_is_not_kept_by_empty_lines(hasty: Serving) -> None:
    """Empty lines between requests, which are allowed, are no way to hold an idle connection."""
    with Wire(hasty.port) as wire:
        assert wire.send(get("/health")).reply().status == 200
        assert wire.send(b"\r\n").rest() == b""


def test_body_that_was_refused_is_not_waited_for(hasty: Serving) -> None:
    """A client whose request was answered before its body had come cannot hold the connection with the rest."""
    head, _, _ = post("/nothing", b"x" * 100).partition(b"x")
    with Wire(hasty.port) as wire:
        assert wire.send(head).reply().status == 404
        assert wire.rest() == b""


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_slow_body_is_a_408_in_its_dialect(hasty: Serving, dialect: object) -> None:
    """A body that does not come in time is answered so, in the dialect, and logged as late."""
    known = next(known for known in DIALECTS.values() if known is dialect)
    with Wire(hasty.port) as wire:
        reply = wire.send(known.request()[:-1]).reply()
        assert (reply.status, reply.headers["connection"]) == (408, "close")
        assert "in time" in known.said(reply.json)
    (exchange,) = hasty.wait()
    assert (exchange.outcome, exchange.status) == ("late", 408)


def test_unread_answer_does_not_hold_the_connection(no_leaks: None) -> None:
    """A whole answer that its client does not read is given up: nothing of it is kept."""
    with (
        Upstream("x" * 8_000_000) as upstream,
        Serving({"up": row(upstream)}, Config(limits=IMPATIENT)) as server,
        Wire(server.port, window=4096) as wire,
    ):
        wire.send(CHAT.request())
        server.wait()
        assert eventually(lambda: not server.server.server_state.connections)
        assert 0 < len(wire.rest()) < 8_000_000  # what the kernel had taken


@pytest.mark.parametrize("cut", [1, 20, 60, 90, 120])
def test_client_that_leaves_amid_its_request(cut: int, no_leaks: None) -> None:
    """A request that is cut anywhere is no matter: nothing is asked of the provider, and nothing stays."""
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}) as server:
        with Wire(server.port) as wire:
            wire.send(CHAT.request()[:cut]).half_close()
            assert wire.rest() == b""
        healthy(server)
        assert not upstream.requests


def _cut_or_spoilt(draw: st.DrawFn) -> bytes:
    data = draw(
        st.sampled_from([CHAT.request(), CHAT.request(stream=True), get("/health"), CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"])
    )
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        data = data[:at] + draw(st.binary(max_size=12)) + data[at + length :]
    return data


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Serving]:
    """A server for whatever may come."""
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}, Config(limits=LIMITS)) as serving:
        yield serving
        healthy(serving)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300) | st.composite(_cut_or_spoilt)())
def test_random_bytes(fuzzed: Serving, data: bytes) -> None:
    """Whatever comes, the connection ends, and what was said is an answer below 500."""
    with Wire(fuzzed.port) as wire:
        try:
            wire.send(data).half_close()
        except OSError:  # it was refused while it was still being sent
            return
        said = wire.rest()
    assert not said or (said.startswith(b"HTTP/1.1 ") and said[9:10] in b"124"), said
    assert b"text/plain" not in said
