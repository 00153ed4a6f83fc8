"""Kept connections of `HTTPTransport`: when one is used again, when it is not, and when a request is sent again."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import trustme
from anyio import to_thread

from antiphon import AsyncClient, Client
from antiphon.errors import APIConnectionError, APIError, APITimeoutError, StreamError
from antiphon.formats.codec import HTTPRequest
from antiphon.http import protocol
from antiphon.http.connection import Pool
from antiphon.http.environment import Origin
from antiphon.http.exchange import HTTPTransport
from antiphon.http.transport import Timeout
from tests.peers import CHUNKED, PATIENCE, Line, Peer, Script, answering, chunk, reply

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]),
]

DEFAULTS = Timeout(connect=PATIENCE, first_token=PATIENCE, idle=PATIENCE)
REQUEST = HTTPRequest(path="/v1/chat", body=b'{"model":"m"}', headers={"content-type": "application/json"})
ANSWER = reply(
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}',
    "content-type: application/json",
)


@pytest.fixture
async def transport(no_leaks: None) -> AsyncIterator[HTTPTransport]:
    """A transport whose connections, threads and tasks must all be gone after the test."""
    made = HTTPTransport()
    yield made
    await made.aclose()


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext | None:
    """A server's side of TLS that the environment makes trusted; `None` for plain HTTP."""
    if request.param == "http":
        return None
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


async def call(transport: HTTPTransport, url: str, request: HTTPRequest = REQUEST, clocks: Timeout = DEFAULTS) -> bytes:
    """Make one exchange and return the body."""
    async with transport.open(url, request, headers={}, timeout=clocks) as answer:
        return b"".join([data async for data in answer])


def wait_for_input(transport: HTTPTransport) -> None:
    """Block the loop, as a computation would, until there is something to read on the one idle connection."""
    pool = transport._connections.here()
    [connection] = [connection for site in pool._sites.values() for connection in site.idle]
    file = connection._tcp.get_extra_info("socket").fileno()
    assert select.select([file], [], [], PATIENCE)[0]


def closing(line: Line) -> None:
    """Answer one request and close, without saying so."""
    line.request()
    line.send(reply())


@pytest.mark.may_block("the loop stands still while the server closes")
async def test_closed_while_the_loop_stood_still(
    transport: HTTPTransport, tls: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that the server closed while the loop could not see it is not used: nothing is sent in vain."""
    sent: list[protocol.Connection] = []
    send = protocol.Connection.send
    monkeypatch.setattr(protocol.Connection, "send", lambda self, *rest: (sent.append(self), send(self, *rest)))
    with Peer(closing, tls) as peer:
        for _ in range(4):
            assert await call(transport, peer.url()) == b"ok"
            wait_for_input(transport)
        assert len(sent) == len(set(sent)) == peer.connections == 4
        await transport.aclose()


@pytest.mark.may_block("the loop stands still while the server sends")
async def test_bytes_nobody_asked_for(transport: HTTPTransport, tls: ssl.SSLContext | None) -> None:
    """What a server sends on an idle connection closes it, and is not the answer to the next request."""

    def script(line: Line) -> None:
        line.request()
        line.send(reply(b"mine"))
        assert go_on.wait(PATIENCE)
        line.send(reply(b"unasked"))
        line.wait_for_close()

    go_on = threading.Event()
    with Peer(script, tls) as peer:
        assert await call(transport, peer.url()) == b"mine"
        go_on.set()
        wait_for_input(transport)
        assert await call(transport, peer.url()) == b"mine"
        assert peer.connections == 2
        await transport.aclose()


@pytest.mark.usefixtures("anyio_backend")
def test_blocking_client_after_a_pause(no_leaks: None) -> None:
    """The blocking client, too, does not use a connection that the server closed."""

    def script(line: Line) -> None:
        if line.request() is not None:
            line.send(ANSWER)
        line.socket.close()
        peer.events.put("closed")

    with Peer(script) as peer, Client(base_url=peer.url(""), api_key="k") as client:
        for _ in range(4):
            assert client.chat.completions.create("hi", "m").content == "ok"
            assert peer.event() == "closed"


async def test_a_process_that_slept(transport: HTTPTransport) -> None:
    """A connection whose time has ended is not used, though no timer could close it yet."""
    with answering(reply()) as peer:
        assert await call(transport, peer.url()) == b"ok"
        [site] = transport._connections.here()._sites.values()
        [connection] = site.idle
        connection._expires = asyncio.get_running_loop().time() - 1  # what an hour of sleep does
        assert await call(transport, peer.url()) == b"ok"
        assert peer.connections == 2


# Sending again


def dying(*endings: Script) -> Peer:
    """Make a server whose first connection answers once and ends by the first of *endings*, the next by the second."""
    left = list(endings)

    def script(line: Line) -> None:
        ending = left.pop(0)
        if ending is not None and (seen := line.request()) is not None:
            peer.seen.append(seen)
            ending(line)

    peer = Peer(script)
    return peer


def answer_then(*steps: Script) -> Script:
    """Answer, read the next request and do *steps*."""

    def script(line: Line) -> None:
        line.send(reply())
        line.request()
        for step in steps:
            step(line)

    return script


def reset(line: Line) -> None:
    """Close such that the client sees a reset."""
    line.reset()


def answer(line: Line) -> None:
    """Answer every request from here on."""
    line.send(reply())
    while line.request() is not None:
        line.send(reply())


@pytest.mark.parametrize("ending", [answer_then(), answer_then(reset)], ids=["end", "reset"])
async def test_sent_again_once(transport: HTTPTransport, ending: Script) -> None:
    """A request whose kept connection ends before a byte of its reply is sent again on a new one, unnoticed."""
    with dying(ending, answer) as peer:
        assert [await call(transport, peer.url()) for _ in range(3)] == [b"ok"] * 3
        assert peer.connections == 2
        assert len(peer.seen) == 2
        assert {seen.body for seen in peer.seen} == {REQUEST.body}


async def test_not_sent_a_third_time(transport: HTTPTransport) -> None:
    """The second connection is new: if it ends, too, that is an error."""
    with dying(answer_then(), lambda line: None, answer) as peer:
        assert await call(transport, peer.url()) == b"ok"
        with pytest.raises(APIConnectionError, match="broke the connection before it answered"):
            await call(transport, peer.url())
        assert peer.connections == 2


async def test_other_idle_connections_are_not_tried(transport: HTTPTransport) -> None:
    """A request is sent again on a new connection, never on another one that was idle as long."""
    both = threading.Barrier(2)

    def idle(line: Line) -> None:
        both.wait(PATIENCE)
        line.send(reply())
        line.request()

    with dying(idle, idle, answer) as peer:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(call, transport, peer.url())
        assert await call(transport, peer.url()) == b"ok"
        assert peer.connections == 3


async def test_not_sent_again_on_a_new_connection(transport: HTTPTransport) -> None:
    """A connection that ends before its first reply is an error."""
    with dying(lambda line: None, answer) as peer:
        with pytest.raises(APIConnectionError, match="broke the connection before it answered"):
            await call(transport, peer.url())
        assert peer.connections == 1


@pytest.mark.parametrize(
    "begun",
    [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", CHUNKED + chunk(b"a")],
    ids=["one byte", "interim", "head", "body"],
)
async def test_not_sent_again_after_a_byte(transport: HTTPTransport, begun: bytes) -> None:
    """Once a byte of the reply has come, the server may have done what was asked."""
    with dying(answer_then(lambda line: line.send(begun)), answer) as peer:
        assert await call(transport, peer.url()) == b"ok"
        with pytest.raises((APIConnectionError, StreamError)):
            await call(transport, peer.url())
        assert peer.connections == 1


async def test_not_sent_again_when_malformed_or_late(transport: HTTPTransport) -> None:
    """A kept connection that answers with nonsense, or not in time, is an error."""
    with dying(answer_then(lambda line: line.send(b"SSH-2.0-x\r\n\r\n")), answer) as peer:
        assert await call(transport, peer.url()) == b"ok"
        with pytest.raises(APIConnectionError, match="does not answer in HTTP"):
            await call(transport, peer.url())
        assert peer.connections == 1
    with dying(answer_then(lambda line: line.wait_for_close()), answer) as peer:
        assert await call(transport, peer.url()) == b"ok"
        with pytest.raises(APITimeoutError):
            await call(transport, peer.url(), clocks=Timeout(first_token=0.05))
        assert peer.connections == 1


async def test_the_time_goes_on_when_sent_again(transport: HTTPTransport) -> None:
    """Sending again does not give the exchange more time than it had."""

    def late(line: Line) -> None:
        assert go_on.wait(PATIENCE)

    go_on = threading.Event()
    with dying(answer_then(late), lambda line: line.wait_for_close()) as peer:
        assert await call(transport, peer.url()) == b"ok"
        async with anyio.create_task_group() as group:
            began = time.monotonic()

            async def ask() -> None:
                with pytest.raises(APITimeoutError, match=r"within 0\.5 s"):
                    await call(transport, peer.url(), clocks=Timeout(first_token=0.5))

            group.start_soon(ask)
            await anyio.sleep(0.3)
            go_on.set()
        assert time.monotonic() - began < 0.75
        assert peer.connections == 2


async def test_large_request_sent_again(transport: HTTPTransport) -> None:
    """The whole body goes out again, whatever of it was on its way."""
    big = HTTPRequest(path="/", body=bytes(range(256)) * 20_000)

    def read_a_little(line: Line) -> None:
        line.send(reply())
        line.socket.recv(100_000)
        line.reset()

    with dying(read_a_little, answer) as peer:
        assert await call(transport, peer.url()) == b"ok"
        assert await call(transport, peer.url(), big) == b"ok"
        assert peer.seen[-1].body == big.body


@pytest.mark.usefixtures("anyio_backend")
async def test_sent_again_through_a_proxy(transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's kept connection that ended is no error either."""
    with dying(answer_then(), answer) as middle:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{middle.port}")
        assert [await call(transport, "http://upstream.localhost/v1") for _ in range(2)] == [b"ok"] * 2
        assert middle.connections == 2


async def test_client_calls_that_meet_closing_connections(no_leaks: None) -> None:
    """No call of a client fails where a server closes after each answer, however close to the next request."""

    def script(line: Line) -> None:
        while line.request() is not None:
            line.send(ANSWER)
            line.socket.shutdown(socket.SHUT_WR)

    with Peer(script) as peer:
        async with AsyncClient(base_url=peer.url(""), api_key="k") as client:
            for _ in range(50):
                assert (await client.chat.completions.create("hi", "m")).content == "ok"


# Requests that were not read


def refusing(line: Line) -> None:
    """Refuse a large request before it is read, and keep the connection; answer a small one."""
    head = line.socket.recv(65536)
    if b"content-length: 13" in head:
        line.send(reply())
    else:
        line.send(reply(b"too large", status="413 Content Too Large"))
    line.socket.settimeout(PATIENCE)
    peer_gone.wait(PATIENCE)


peer_gone = threading.Event()


@pytest.mark.parametrize("size", [100_000, 30_000_000], ids=["in the system's buffers", "in ours"])
async def test_refused_before_it_was_read(transport: HTTPTransport, tls: ssl.SSLContext | None, size: int) -> None:
    """The connection of a request that the server refused unread carries no other: its rest would come first."""
    peer_gone.clear()
    with Peer(refusing, tls) as peer:
        try:
            big = HTTPRequest(path="/", body=b"x" * size)
            async with transport.open(peer.url(), big, headers={}, timeout=DEFAULTS) as answer:
                assert (answer.status, await answer.read(1000)) == (413, b"too large")
            assert await call(transport, peer.url()) == b"ok"
            assert peer.connections == 2
            await transport.aclose()
        finally:
            peer_gone.set()


async def test_answered_before_it_was_read(transport: HTTPTransport, tls: ssl.SSLContext | None) -> None:
    """The same holds for a request that was answered well, and whose rest went out after that."""

    def script(line: Line) -> None:
        if (first := line.socket.recv(1000)).endswith(b'{"model":"m"}'):
            line.send(reply())
        elif first:
            line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
            assert head_read.wait(PATIENCE)
            left = 30_000_000 - (len(first) - first.index(b"\r\n\r\n") - 4)
            while left:
                left -= len(line.socket.recv(min(left, 1_000_000)))
            line.send(b"ok")
        peer.events.put(line.wait_for_close())

    head_read = threading.Event()
    with Peer(script, tls) as peer:
        big = HTTPRequest(path="/", body=b"x" * 30_000_000)
        async with transport.open(peer.url(), big, headers={}, timeout=DEFAULTS) as answer:
            head_read.set()
            assert await answer.read(1000) == b"ok"
        assert await to_thread.run_sync(peer.event) is True
        assert await call(transport, peer.url()) == b"ok"
        assert peer.connections == 2
        await transport.aclose()


# Times that a server announces


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        ("timeout=1", False),
        ("timeout=0", False),
        ("max=100, timeout=1", False),
        ("Timeout = 1", False),
        ('timeout="1"', False),
        ("timeout=5, max=100", True),
        ("timeout=99999999999999999999", True),
        ("timeout=x", True),
        ("max=1", True),
    ],
)
async def test_keep_alive_field(transport: HTTPTransport, field: str, kept: bool) -> None:
    """A connection is kept until a second before the server closes it, where the server says when that is."""
    with answering(reply(b"ok", f"Keep-Alive: {field}")) as peer:
        for _ in range(2):
            assert await call(transport, peer.url()) == b"ok"
        assert peer.connections == (1 if kept else 2)


async def test_keep_alive_ends_the_idle_time(transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed when the announced time ends, though it is not needed before."""
    monkeypatch.setattr(protocol, "_MARGIN_SECONDS", 0.95)

    def script(line: Line) -> None:
        line.request()
        line.send(reply(b"ok", "keep-alive: timeout=1"))
        peer.events.put(line.wait_for_close())

    with Peer(script) as peer:
        assert await call(transport, peer.url()) == b"ok"
        assert await to_thread.run_sync(peer.event) is True


# How many there are


async def test_bound_on_connections(no_leaks: None) -> None:
    """No more connections are open than may be; calls wait for one, first come, first served."""
    transport = HTTPTransport(max_connections=2)
    try:
        with answering(reply()) as peer:
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(call, transport, peer.url())
            assert peer.connections == 2
    finally:
        await transport.aclose()


async def test_giving_up_while_waiting(no_leaks: None) -> None:
    """A place that comes free just as who waited for it gives up goes to the next."""
    pool = Pool(asyncio.get_running_loop(), 1)
    origin = Origin("http", "localhost", 80)
    assert pool.enter(origin)
    assert not pool.enter(origin)
    first, second, third = (asyncio.ensure_future(pool.wait_to_enter(origin)) for _ in range(3))
    await asyncio.sleep(0)
    pool.leave(origin)  # gives the place to the first
    first.cancel()
    second.cancel()
    with anyio.fail_after(PATIENCE):
        await asyncio.wait([first, second, third])
    assert (first.cancelled(), second.cancelled(), third.result()) == (True, True, None)
    assert not pool.enter(origin)
    pool.leave(origin)
    assert pool.enter(origin)


@pytest.mark.parametrize(
    ("clocks", "says"), [(Timeout(connect=0.05), "0.05 s, the connect"), (Timeout(total=0.05), "0.05 s, the total")]
)
async def test_all_connections_in_use(no_leaks: None, clocks: Timeout, says: str) -> None:
    """A call that waits in vain for a connection is an error that says so, and those in use go on."""
    transport = HTTPTransport(max_connections=1)
    go_on = threading.Event()

    def script(line: Line) -> None:
        while line.request() is not None:
            line.send(CHUNKED + chunk(b"o"))
            assert go_on.wait(PATIENCE)
            line.send(chunk(b"k") + chunk(b""))

    try:
        with Peer(script) as peer, answering(reply(b"other")) as other:
            async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
                with pytest.raises(APITimeoutError, match=rf"All 1 connections to 127\.0\.0\.1:{peer.port} .*{says}"):
                    await call(transport, peer.url(), clocks=clocks)
                assert await call(transport, other.url()) == b"other"
                go_on.set()
                assert await answer.read(1000) == b"ok"
            assert await call(transport, peer.url()) == b"ok"
            assert peer.connections == 1
            await transport.aclose()
    finally:
        await transport.aclose()


async def test_places_come_back(no_leaks: None) -> None:
    """Whatever ends an exchange, its place among the connections is free again."""
    transport = HTTPTransport(max_connections=1)
    broken: list[Script] = [
        lambda line: line.reset(),
        lambda line: line.send(b"nonsense\r\n\r\n"),
        lambda line: line.send(reply(b"", "location: /", status="301 Moved")),
        lambda line: line.send(CHUNKED + b"zz\r\n"),
        lambda line: line.wait_for_close(),
    ]
    try:
        with dying(*broken, answer) as peer, answering(reply()) as other:
            for _ in broken:
                with pytest.raises(APIError):
                    await call(transport, peer.url(), clocks=Timeout(first_token=0.5))
            assert await call(transport, peer.url()) == b"ok"
            with pytest.raises(APIConnectionError, match="refused"):
                await call(transport, "http://127.0.0.1:1/")
            with pytest.raises(APIConnectionError, match="not sent"):
                await call(transport, other.url(), HTTPRequest(path="/", body=b"", headers={"x": "\n"}))
            with anyio.move_on_after(0):
                await call(transport, other.url())
            assert await call(transport, other.url()) == b"ok"
        assert all(site.users == 0 for site in transport._connections.here()._sites.values())
    finally:
        await transport.aclose()


async def test_origins_that_are_not_used_are_forgotten(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of origins does not grow with their number."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    transport = HTTPTransport()
    try:
        with answering(reply(b"ok", "connection: close")) as peer:
            for name in range(200):
                assert await call(transport, peer.url(host=f"host-{name}.localhost")) == b"ok"
        assert len(transport._connections.here()._sites) <= 65
    finally:
        await transport.aclose()


@pytest.mark.usefixtures("anyio_backend")
def test_no_connections_at_all() -> None:
    """A bound of none is an error when it is given."""
    with pytest.raises(ValueError, match="max_connections must be 1 or more, not 0"):
        HTTPTransport(max_connections=0)
