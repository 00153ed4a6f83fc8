"""`HTTPTransport`, against real sockets: what arrives, what goes wrong, and what is left behind."""

from __future__ import annotations

import asyncio
import gzip
import multiprocessing
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest
import trio
import trustme
from anyio import to_thread

from antiphon.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    ResponseTooLargeError,
    StreamError,
)
from antiphon.formats.codec import HTTPRequest
from antiphon.http import http1, protocol
from antiphon.http.environment import Origin
from antiphon.http.exchange import HTTPTransport
from antiphon.http.transport import Timeout
from tests.peers import CHUNKED, PATIENCE, Line, Peer, Script, answering, chunk, proxy, reply

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]),
]

DEFAULTS = Timeout()
REQUEST = HTTPRequest(path="/v1/chat", body=b'{"model":"m"}', headers={"content-type": "application/json"})
LIMIT = 1024 * 1024
TINY = 0.05


@pytest.fixture
async def transport(no_leaks: None) -> AsyncIterator[HTTPTransport]:
    """A transport whose connections, threads and tasks must all be gone after the test."""
    made = HTTPTransport()
    yield made
    await made.aclose()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nobody else trusts."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the authority by way of the environment."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def server_context(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    """A TLS server's side, with a certificate for *names*."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


async def call(
    transport: HTTPTransport,
    url: str,
    clocks: Timeout = DEFAULTS,
    headers: dict[str, str] | None = None,
    request: HTTPRequest = REQUEST,
) -> bytes:
    """Make one exchange and return the body."""
    async with transport.open(url, request, headers=headers or {}, timeout=clocks) as reply:
        return b"".join([data async for data in reply])


async def event(peer: Peer) -> object:
    """Wait for a server's next event."""
    return await to_thread.run_sync(peer.event)


async def test_exchange(transport: HTTPTransport) -> None:
    """A request arrives as it was made, and the reply comes back as it was sent."""
    with answering(reply(b'{"a":1}', "Content-Type: application/json", "X-A: 1", "x-a: 2")) as peer:
        async with transport.open(
            peer.url("/v1/chat?q=1#part"), REQUEST, headers={"authorization": "Bearer k"}, timeout=DEFAULTS
        ) as got:
            assert (got.status, got.content_type, got.headers["x-a"]) == (200, "application/json", "1, 2")
            assert await got.read(LIMIT) == b'{"a":1}'
        [seen] = peer.seen
        assert seen.line == "POST /v1/chat?q=1 HTTP/1.1"
        assert seen.body == REQUEST.body
        assert seen.headers == {
            "host": f"127.0.0.1:{peer.port}",
            "user-agent": "antiphon",
            "accept": "*/*",
            "accept-encoding": "gzip",
            "content-type": "application/json",
            "authorization": "Bearer k",
            "content-length": str(len(REQUEST.body)),
        }


async def test_get(transport: HTTPTransport) -> None:
    """A GET without a body announces none, and a URL without a path asks for the root."""
    with answering(reply()) as peer:
        await call(transport, peer.url(""), request=HTTPRequest(method="GET", path="", body=b""))
        assert peer.seen[0].line == "GET / HTTP/1.1"
        assert "content-length" not in peer.seen[0].headers


async def test_large_body(transport: HTTPTransport) -> None:
    """A request of many megabytes arrives whole."""
    body = bytes(range(256)) * 40_000
    with answering(reply()) as peer:
        await call(transport, peer.url(), request=HTTPRequest(path="/", body=body))
        assert peer.seen[0].body == body


async def test_first_bytes_do_not_wait(transport: HTTPTransport) -> None:
    """What has arrived is handed on while the server still holds back the rest."""
    go_on = threading.Event()

    def script(line: Line) -> None:
        line.request()
        line.send(CHUNKED + chunk(b"first"))
        assert go_on.wait(PATIENCE)
        line.send(chunk(b"second") + chunk(b""))
        line.wait_for_close()

    with Peer(script) as peer:
        got = []
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
            async for data in answer:
                got.append(data)
                go_on.set()
        assert got == [b"first", b"second"]
        await transport.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + reply(),
        CHUNKED + b'1;name="value"\r\no\r\n1\r\nk\r\n0\r\nchecksum: 1\r\n\r\n',
        reply(gzip.compress(b"ok"), "content-encoding: gzip"),
        reply(gzip.compress(b"o") + gzip.compress(b"k"), "Content-Encoding: GZIP"),
        CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
        + b"".join(chunk(bytes([byte])) for byte in gzip.compress(b"ok"))
        + chunk(b""),
    ],
    ids=["interim", "chunked", "gzip", "two members", "gzip by the byte"],
)
async def test_framing(transport: HTTPTransport, answer: bytes) -> None:
    """Every way to frame and pack a body gives the body, and leaves the connection fit for the next request."""
    with answering(answer) as peer:
        assert [await call(transport, peer.url()) for _ in range(3)] == [b"ok"] * 3
        assert peer.connections == 1


async def test_empty_bodies(transport: HTTPTransport) -> None:
    """A body may be empty: by its length, by its status, by its only chunk."""
    with answering(reply(b""), b"HTTP/1.1 204 No Content\r\n\r\n", CHUNKED + chunk(b"")) as peer:
        assert [await call(transport, peer.url()) for _ in range(3)] == [b""] * 3
        assert peer.connections == 1


async def test_body_until_the_end(transport: HTTPTransport) -> None:
    """A body without a length ends with the connection."""

    def script(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\n\r\nall of ")
        line.send(b"it")

    with Peer(script) as peer:
        assert await call(transport, peer.url()) == b"all of it"


# Connections


async def test_one_connection_for_many_calls(transport: HTTPTransport) -> None:
    """Calls one after the other use one connection."""
    with answering(reply()) as peer:
        for _ in range(20):
            await call(transport, peer.url())
        assert peer.connections == 1


async def test_calls_at_once(transport: HTTPTransport) -> None:
    """Calls at once have a connection each, and those are used again."""
    everybody = threading.Barrier(8)

    def script(line: Line) -> None:
        while line.request() is not None:
            everybody.wait(PATIENCE)
            line.send(reply())

    with Peer(script) as peer:
        for _ in range(3):
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(call, transport, peer.url())
        assert peer.connections == 8
        await transport.aclose()


@pytest.mark.parametrize("answer", [reply(b"ok", "connection: close"), reply() + b"surplus", b"HTTP/1.0" + reply()[8:]])
async def test_connections_not_fit_for_another(transport: HTTPTransport, answer: bytes) -> None:
    """A connection whose end is announced or unclear is not used again."""
    with answering(answer) as peer:
        assert [await call(transport, peer.url()) for _ in range(2)] == [b"ok", b"ok"]
        assert peer.connections == 2


async def test_idle_connection_closed_by_the_server(transport: HTTPTransport) -> None:
    """A connection that the server closed while it was idle is not used."""

    def script(line: Line) -> None:
        line.request()
        line.send(reply())
        line.socket.close()
        peer.events.put("closed")

    with Peer(script) as peer:
        for _ in range(3):
            assert await call(transport, peer.url()) == b"ok"
            assert await event(peer) == "closed"
            await anyio.wait_all_tasks_blocked()
        assert peer.connections == 3


async def test_idle_connections_do_not_stay(transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that nobody uses is closed after its time, though nobody closes the transport."""
    monkeypatch.setattr(protocol, "_IDLE_SECONDS", TINY)

    def script(line: Line) -> None:
        line.request()
        line.send(reply())
        peer.events.put(line.wait_for_close())

    with Peer(script) as peer:
        assert await call(transport, peer.url()) == b"ok"
        assert await event(peer) is True


async def test_error_status_leaves_the_connection(transport: HTTPTransport) -> None:
    """A refusal whose body was read leaves the connection for the next call."""
    with answering(reply(b"slow down", status="429 Too Many Requests"), reply()) as peer:
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as refusal:
            assert (refusal.status, await refusal.read(LIMIT)) == (429, b"slow down")
        assert await call(transport, peer.url()) == b"ok"
        assert peer.connections == 1


def endless(line: Line) -> None:
    """Send a first chunk and then nothing, and tell when the client closes."""
    line.request()
    line.send(CHUNKED + chunk(b"first"))


def watched(script: Script) -> Peer:
    """A server that puts "ready" when *script* is done, and then whether the client closed."""

    def whole(line: Line) -> None:
        script(line)
        peer.events.put("ready")
        peer.events.put(line.wait_for_close())

    peer = Peer(whole)
    return peer


async def test_break_closes_the_connection(transport: HTTPTransport) -> None:
    """Leaving a body before its end closes the connection, and the next call has a new one."""
    with watched(endless) as peer:
        for _ in range(2):
            async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
                async for data in answer:
                    assert data == b"first"
                    break
            assert [await event(peer), await event(peer)] == ["ready", True]
        assert peer.connections == 2


async def test_abandoned_generator_closes_the_connection(transport: HTTPTransport) -> None:
    """Closing a generator that is reading a reply closes the connection."""

    async def pieces(url: str) -> AsyncIterator[bytes]:
        async with transport.open(url, REQUEST, headers={}, timeout=DEFAULTS) as answer:
            async for data in answer:
                yield data

    with watched(endless) as peer:
        reading = pieces(peer.url())
        assert await anext(reading) == b"first"
        await reading.aclose()  # type: ignore[attr-defined]
        assert [await event(peer), await event(peer)] == ["ready", True]


async def test_a_reply_is_over_with_its_context(transport: HTTPTransport) -> None:
    """A reply cannot be read when its connection may belong to another call already."""
    with answering(reply()) as peer:
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
            pass
        with pytest.raises(RuntimeError, match="inside of `async with`"):
            await answer.read(LIMIT)


PHASES: dict[str, Script] = {
    "handshake": lambda line: line.socket.recv(65536),
    "head": lambda line: line.request(),
    "half a head": lambda line: (line.request(), line.send(b"HTTP/1.1 200 OK\r\ncont")),
    "body": lambda line: (line.request(), line.send(CHUNKED)),
    "middle": endless,
}


@pytest.mark.parametrize("phase", PHASES)
async def test_native_cancellation(transport: HTTPTransport, phase: str) -> None:
    """A cancelled task closes its connection, whatever it waits for."""
    with watched(PHASES[phase]) as peer:
        url = peer.url()
        task = asyncio.ensure_future(call(transport, url.replace("http:", "https:") if phase == "handshake" else url))
        assert await event(peer) == "ready"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await event(peer) is True


@pytest.mark.parametrize("phase", PHASES)
async def test_cancel_scope(transport: HTTPTransport, phase: str) -> None:
    """A cancelled scope closes the connections within, whatever they wait for."""
    with watched(PHASES[phase]) as peer:
        url = peer.url()
        async with anyio.create_task_group() as group:
            group.start_soon(call, transport, url.replace("http:", "https:") if phase == "handshake" else url)
            assert await event(peer) == "ready"
            group.cancel_scope.cancel()
        assert await event(peer) is True


async def test_close(transport: HTTPTransport) -> None:
    """A closed transport ends what is idle, lets an exchange finish, and refuses new ones."""
    go_on = threading.Event()

    def script(line: Line) -> None:
        line.request()
        line.send(CHUNKED + chunk(b"first"))
        assert go_on.wait(PATIENCE)
        line.send(chunk(b"last") + chunk(b""))
        peer.events.put(line.wait_for_close())

    with Peer(script) as peer:
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
            assert await anext(aiter(answer)) == b"first"
            await transport.aclose()
            go_on.set()
            assert await answer.read(LIMIT) == b"last"
        assert await event(peer) is True
        with pytest.raises(APIConnectionError, match="was closed") as raised:
            await call(transport, peer.url())
        assert not raised.value.retryable


# Clocks


def trickle(line: Line) -> None:
    """Send keep-alive comments for as long as anybody listens."""
    line.request()
    line.send(CHUNKED)
    line.socket.settimeout(TINY / 10)
    while True:
        line.send(chunk(b": ping\n\n"))
        try:
            if not line.socket.recv(1):
                return
        except TimeoutError:
            continue


async def read_on(transport: HTTPTransport, url: str, clocks: Timeout, *, talks: bool) -> None:
    """Read a reply to its end, and take its first bytes for a token if it *talks*."""
    async with transport.open(url, REQUEST, headers={}, timeout=clocks) as answer:
        async for _ in answer:
            if talks:
                answer.got_token()


@pytest.mark.parametrize(
    ("script", "clocks", "says"),
    [
        (PHASES["handshake"], Timeout(connect=TINY), "the connect clock: .*Timeout\\(connect=…\\)"),
        (PHASES["head"], Timeout(first_token=TINY), "the first-token clock: .*Timeout\\(first_token=…\\)"),
        (PHASES["half a head"], Timeout(first_token=TINY), "the first-token clock"),
        (PHASES["body"], Timeout(first_token=TINY), "the first-token clock"),
        (trickle, Timeout(first_token=TINY), "the first-token clock"),
        (PHASES["middle"], Timeout(idle=TINY), "the idle clock: .*Timeout\\(idle=…\\)"),
        (PHASES["handshake"], Timeout(total=TINY), "the total clock: .*Timeout\\(total=…\\)"),
        (PHASES["head"], Timeout(total=TINY), "the total clock"),
        (PHASES["middle"], Timeout(total=TINY), "the total clock"),
        (trickle, Timeout(total=TINY), "the total clock"),
    ],
)
async def test_clocks(transport: HTTPTransport, script: Script, clocks: Timeout, says: str) -> None:
    """Each clock ends the wait that it is for, says which it was and how to change it, and closes the connection."""
    secure = script is PHASES["handshake"]
    if secure:  # certificates to trust are read with the first connection, which may take longer than the clock
        with watched(script) as first, pytest.raises(APITimeoutError):
            await read_on(transport, first.url().replace("http:", "https:"), Timeout(total=1), talks=False)
    with watched(script) as peer:
        url = peer.url()
        if secure:
            url = url.replace("http:", "https:")
        with pytest.raises(APITimeoutError, match=rf"127\.0\.0\.1:{peer.port} .*within 0\.05 s\. This is {says}"):
            await read_on(transport, url, clocks, talks=script is PHASES["middle"])
        if script is not trickle:
            assert await event(peer) == "ready"
        assert await event(peer) is not False


async def test_got_token_stops_the_first_clock(transport: HTTPTransport) -> None:
    """Once the first token is there, only the idle clock runs; keep-alive bytes feed it."""
    with Peer(trickle) as peer:
        count = 0
        timeout = Timeout(first_token=60, idle=60)
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=timeout) as answer:
            answer._token = 0.0  # type: ignore[attr-defined]  # the first-token clock ran out long ago
            answer.got_token()
            async for _ in answer:
                count += 1
                if count == 5:
                    break
        assert count == 5


async def test_no_clock(transport: HTTPTransport) -> None:
    """Without clocks an exchange works as well."""
    with answering(reply()) as peer:
        assert await call(transport, peer.url(), Timeout(None, None, None, None)) == b"ok"


# What goes wrong


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        (lambda line: line.request(), APIConnectionError, "broke the connection before it answered"),
        (lambda line: (line.request(), line.reset()), APIConnectionError, "before it answered: connection reset"),
        (
            lambda line: (line.request(), line.send(b"HTTP/1.1 200 OK\r\ncont")),
            APIConnectionError,
            "before it answered",
        ),
        (lambda line: (line.request(), line.send(b"SSH-2.0-x\r\n\r\n")), APIConnectionError, "not answer in HTTP/1.1"),
        (lambda line: (line.request(), line.send(b"x")), APIConnectionError, "does not answer in HTTP/1.1"),
        (
            lambda line: (line.request(), line.send(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000)),
            APIConnectionError,
            "longer",
        ),
        (lambda line: (line.request(), line.send(CHUNKED)), APIConnectionError, "before the body of its answer"),
        (lambda line: (line.request(), line.send(CHUNKED + chunk(b"a"))), StreamError, "broke off in the middle"),
        (lambda line: (line.request(), line.send(CHUNKED + b"5\r\na")), StreamError, "broke off in the middle"),
        (
            lambda line: (line.request(), line.send(CHUNKED + b"zz\r\na")),
            StreamError,
            "is malformed: the size of a chunk",
        ),
        (lambda line: (line.request(), line.send(reply(b"abc")[:-1])), StreamError, "broke off in the middle"),
        (
            lambda line: (line.request(), line.send(reply(b"abc", "content-encoding: gzip"))),
            StreamError,
            "not the gzip",
        ),
        (
            lambda line: (line.request(), line.send(reply(gzip.compress(b"abc")[:-9], "content-encoding: gzip"))),
            StreamError,
            "in the middle of its gzip data",
        ),
        (
            lambda line: (line.request(), line.send(reply(b"abc", "content-encoding: br"))),
            StreamError,
            "packed as 'br'",
        ),
    ],
)
async def test_faults(transport: HTTPTransport, script: Script, kind: type[APIError], says: str) -> None:
    """A broken answer is an error of the right class, which says what broke and where."""
    with Peer(script) as peer:
        with pytest.raises(APIError, match=says) as raised:
            await call(transport, peer.url("/v1?key=hidden"))
        assert type(raised.value) is kind
        assert f"127.0.0.1:{peer.port}" in str(raised.value)
        assert "hidden" not in str(raised.value)
        assert raised.value.__cause__ is raised.value.__context__ is None


@pytest.mark.parametrize("answer", [CHUNKED + chunk(b"data: a\n\n") * 3 + chunk(b""), reply(b"abcdefgh", "a: b")])
async def test_cut_at_every_byte(transport: HTTPTransport, answer: bytes) -> None:
    """An answer cut anywhere is an error, never a shorter answer."""
    cuts = iter(range(len(answer)))

    def script(line: Line) -> None:
        line.request()
        line.send(answer[: next(cuts)])

    with Peer(script) as peer:
        for _ in range(len(answer)):
            with pytest.raises((APIConnectionError, StreamError)):
                await call(transport, peer.url())


@pytest.mark.parametrize("announced", [True, False])
async def test_answer_beyond_the_bound(transport: HTTPTransport, announced: bool) -> None:
    """A body of 100 MB is given up at the bound: an announced one unread, any other soon after."""
    sent = 0

    def script(line: Line) -> None:
        nonlocal sent
        line.request()
        block = b"x" * 1_000_000
        line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n" if announced else CHUNKED)
        for _ in range(100):
            line.send(block if announced else chunk(block))
            sent += len(block)

    with Peer(script) as peer:
        with pytest.raises(ResponseTooLargeError, match=r"larger than 1048576 bytes"):
            async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
                await answer.read(LIMIT)
        assert isinstance(await event(peer), OSError)
        assert sent < 40_000_000


async def test_packed_answer_beyond_the_bound(transport: HTTPTransport) -> None:
    """The bound counts unpacked bytes, and a small body that would become huge is given up there."""
    bomb = gzip.compress(bytes(50_000_000))
    with answering(reply(bomb, "content-encoding: gzip")) as peer:
        with pytest.raises(ResponseTooLargeError):
            async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
                await answer.read(LIMIT)


async def test_slow_reader_holds_the_server(transport: HTTPTransport) -> None:
    """What nobody takes is left in the server: it is not gathered in memory without bound."""
    with watched(lambda line: (line.request(), line.send(reply(b"x" * 60_000_000)))) as peer:
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
            async for _ in answer:
                break
            held: list[bytes] = answer._connection._pieces  # type: ignore[attr-defined]
            while not answer._connection._paused:  # type: ignore[attr-defined]
                await anyio.lowlevel.checkpoint()
            assert sum(map(len, held)) < 2_000_000
            assert peer.events.empty()


async def test_quick_reader_does_not_hold_the_server() -> None:
    """What was taken no longer counts: after much of a body a little more is read without a pause."""

    class Reading(asyncio.Transport):
        held: ClassVar[list[str]] = []

        def pause_reading(self) -> None:
            self.held.append("paused")

        def resume_reading(self) -> None:
            self.held.append("resumed")

    connection = protocol.Connection(asyncio.get_running_loop(), Origin("http", "localhost", 80))
    connection._transport = Reading()
    connection.reader = http1.ResponseReader()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 600_000)
    assert len(connection.take()) == 600_000
    connection.data_received(b"x")
    assert connection.take() == b"x"
    assert Reading.held == ["paused", "resumed"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(transport: HTTPTransport, status: int) -> None:
    """A redirect is an error that names the place; nothing goes there."""
    with answering(reply()) as other:
        away = reply(b"", f"location: {other.url('/there')}?key=hidden", status=f"{status} Away")
        with (
            answering(away) as peer,
            pytest.raises(APIStatusError, match=rf"redirects to .*:{other.port}/there'") as raised,
        ):
            await call(transport, peer.url(), headers={"authorization": "Bearer k"})
        assert raised.value.status == status
        assert "hidden" not in str(raised.value)
        assert other.connections == 0


async def test_refused_connection(transport: HTTPTransport) -> None:
    """A port where nobody listens is told as such, and a later try may work."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(APIConnectionError, match=rf"No connection to 127\.0\.0\.1:{port}: refused") as raised:
        await call(transport, f"http://127.0.0.1:{port}/v1?key=hidden")
    assert raised.value.retryable
    assert "hidden" not in str(raised.value)


async def test_unknown_host(transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without an address is told as such."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(APIConnectionError, match=r"no\.such\.localhost:80 has no known address \(Name or service"):
        await call(transport, "http://no.such.localhost/v1")


async def test_addresses_are_tried_in_turn(transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first address of a host does not answer, the next does."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0)) for address in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with answering(reply()) as peer:
        assert await call(transport, peer.url(host="two.localhost")) == b"ok"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:80/v1",
        "/v1",
        "",
        "ftp://localhost/hidden",
        "http://",
        "http://[::1/hidden",
        "http://localhost:port/hidden",
        "http://localhost:0/hidden",
        "http://local..host/hidden",
        "http://user:hidden@localhost/v1",
        "http://localhost/hid den",
        "http://localhost/hiddén",
    ],
)
async def test_bad_urls(transport: HTTPTransport, url: str) -> None:
    """A URL that no request can go to is an error that does not repeat it."""
    with pytest.raises(APIConnectionError, match=r"URL|quote it|connection") as raised:
        await call(transport, url)
    assert "hid" not in str(raised.value)


@pytest.mark.parametrize("headers", [{"x-a": "1\r\nx-b: 2"}, {"x-a": "ключ"}, {"x-a": "\x00"}])
async def test_headers_that_cannot_be_sent(transport: HTTPTransport, headers: dict[str, str]) -> None:
    """A header value that would not arrive as it is is an error that names the field, not the value."""
    with answering(reply()) as peer:
        with pytest.raises(APIConnectionError, match="'x-a'") as raised:
            await call(transport, peer.url(), headers=headers)
        assert headers["x-a"] not in str(raised.value)
        assert peer.seen == []


@pytest.mark.parametrize(
    "name",
    ["transfer-encoding", "Transfer-Encoding", "content-length", "host", "connection", "te", "trailer", "upgrade"],
)
async def test_headers_of_the_connection(transport: HTTPTransport, name: str) -> None:
    """A caller's header that would change where a request goes or ends is an error that does not tell its value."""
    with answering(reply()) as peer:
        with pytest.raises(APIConnectionError, match=f"'{name}' is for the connection to set") as raised:
            await call(transport, peer.url(), headers={"x-a": "1", name: "hidden"})
        assert "hidden" not in str(raised.value)
        assert (peer.seen, raised.value.retryable) == ([], False)
        assert await call(transport, peer.url(), headers={"x-a": "1"}) == b"ok"


# TLS


async def test_tls(transport: HTTPTransport, authority: trustme.CA, trusting: None) -> None:
    """A server whose authority SSL_CERT_FILE names is trusted, by name and by address."""

    def script(line: Line) -> None:
        while line.request() is not None:
            line.send(reply())

    with Peer(script, server_context(authority, "localhost", "127.0.0.1")) as peer:
        for _ in range(2):
            assert await call(transport, peer.url(host="localhost")) == b"ok"
            assert await call(transport, peer.url()) == b"ok"
        assert peer.connections == 2
        await transport.aclose()


@pytest.mark.parametrize(
    ("trust", "names", "options", "says"),
    [
        (False, ["localhost"], {}, "unable to get local issuer certificate|self.signed"),
        (True, ["example.org"], {}, "[Hh]ostname mismatch"),
        (True, ["localhost"], {"not_before": datetime(2020, 1, 1), "not_after": datetime(2020, 1, 2)}, "expired"),
    ],
    ids=["unknown authority", "another name", "expired"],
)
async def test_tls_failures(
    transport: HTTPTransport,
    authority: trustme.CA,
    request: pytest.FixtureRequest,
    trust: bool,
    names: list[str],
    options: dict[str, Any],
    says: str,
) -> None:
    """A certificate that does not hold is an error that says why and what to do; no request is sent."""
    if trust:
        request.getfixturevalue("trusting")
    with Peer(lambda line: peer.seen.append(line.request()), server_context(authority, *names, **options)) as peer:  # type: ignore[arg-type]
        with pytest.raises(
            APIConnectionError, match=rf"certificate of localhost:{peer.port} .*({says}).*SSL_CERT_FILE"
        ) as raised:
            await call(transport, peer.url(host="localhost"))
        assert not raised.value.retryable
        assert isinstance(await event(peer), ssl.SSLError)
        assert peer.seen == []


async def test_https_where_http_is_spoken(transport: HTTPTransport) -> None:
    """TLS with a server that speaks none is an error that asks about the port."""
    with Peer(lambda line: (line.socket.recv(65536), line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))) as peer:
        with pytest.raises(APIConnectionError, match=r"No TLS connection to .*Does that port speak https\?"):
            await call(transport, peer.url().replace("http:", "https:"))


async def test_http_where_https_is_spoken(transport: HTTPTransport, authority: trustme.CA) -> None:
    """Plain HTTP with a server that speaks TLS is an error, too."""
    with Peer(lambda line: None, server_context(authority, "localhost")) as peer:
        with pytest.raises(APIConnectionError, match=r"broke the connection|does not answer in HTTP"):
            await call(transport, peer.url().replace("https:", "http:"))


@pytest.mark.parametrize(
    "content", [None, b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_unusable_certificate_file(
    transport: HTTPTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """An SSL_CERT_FILE that is missing or no certificates is an error that names it."""
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(APIConnectionError, match=r"SSL_CERT_FILE is set to .*bundle\.pem', which (cannot|holds no)"):
        await call(transport, "https://localhost:1/v1")


# Proxies


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets variables of the environment."""

    def setenv(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return setenv


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_http_proxy(transport: HTTPTransport, through: Callable[..., None], variable: str) -> None:
    """A plain request goes whole to the proxy, with the proxy's own password, again and again on one connection."""
    with answering(reply(b"by proxy")) as middle:
        through(**{variable: f"http://us%65r:pass@127.0.0.1:{middle.port}"})
        assert await call(transport, "http://upstream.localhost/v1?q=1") == b"by proxy"
        assert await call(transport, "http://upstream.localhost/v1?q=1") == b"by proxy"
        assert middle.connections == 1
        assert middle.seen[1].line == "POST http://upstream.localhost/v1?q=1 HTTP/1.1"
        assert middle.seen[1].headers["host"] == "upstream.localhost"
        assert middle.seen[1].headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_https_proxy(
    transport: HTTPTransport, authority: trustme.CA, trusting: None, through: Callable[..., None], variable: str
) -> None:
    """A secure request goes through a tunnel: the proxy learns host and port, and never the key."""

    def script(line: Line) -> None:
        while (seen := line.request()) is not None:
            peer.seen.append(seen)
            line.send(reply())

    with proxy() as middle, Peer(script, server_context(authority, "localhost")) as peer:
        through(**{variable: f"127.0.0.1:{middle.port}"})
        for _ in range(2):
            assert await call(transport, peer.url(host="localhost"), headers={"authorization": "Bearer k"}) == b"ok"
        [seen] = middle.seen
        assert seen.line == f"CONNECT localhost:{peer.port} HTTP/1.1"
        assert seen.headers == {"host": f"localhost:{peer.port}"}
        assert [request.headers["authorization"] for request in peer.seen] == ["Bearer k"] * 2
        assert peer.connections == 1
        await transport.aclose()


async def test_no_proxy(transport: HTTPTransport, through: Callable[..., None]) -> None:
    """What NO_PROXY lists goes straight to its place."""
    with answering(reply(b"straight")) as peer, proxy() as middle:
        through(ALL_PROXY=f"http://127.0.0.1:{middle.port}", NO_PROXY="example.org, 127.0.0.0/8")
        assert await call(transport, peer.url()) == b"straight"
        assert middle.connections == 0


@pytest.mark.parametrize(
    ("refuse", "says"),
    [
        (reply(b"", status="407 Proxy Authentication Required"), "opened no tunnel to localhost:443: 407 Proxy Auth"),
        (reply(b"", status="502 Bad Gateway"), "502 Bad Gateway"),
        (b"SSH-2.0-x\r\n\r\n", "no answer"),
    ],
)
async def test_proxy_that_refuses(
    transport: HTTPTransport, through: Callable[..., None], refuse: bytes, says: str
) -> None:
    """A proxy that opens no tunnel is told by name, with its answer, without its password."""
    with proxy(refuse=refuse) as middle:
        through(HTTPS_PROXY=f"http://user:hidden@127.0.0.1:{middle.port}")
        with pytest.raises(APIConnectionError, match=rf"proxy 127\.0\.0\.1:{middle.port} .*{says}") as raised:
            await call(transport, "https://localhost/v1")
        assert "hidden" not in str(raised.value)


async def test_proxy_that_is_not_there(transport: HTTPTransport, through: Callable[..., None]) -> None:
    """A refused connection to the proxy is told as the proxy's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    through(ALL_PROXY=f"http://127.0.0.1:{port}")
    for url in ("http://localhost/v1", "https://localhost/v1"):
        with pytest.raises(APIConnectionError, match=rf"No connection to the proxy 127\.0\.0\.1:{port}: refused"):
            await call(transport, url)


@pytest.mark.parametrize(
    "value", ["socks5://127.0.0.1:1080", "https://127.0.0.1:3128", "::bad::", "http://", "http://h:x"]
)
async def test_unusable_proxy(transport: HTTPTransport, through: Callable[..., None], value: str) -> None:
    """A proxy that cannot be used is an error: the request never goes out without one instead."""
    with answering(reply()) as peer:
        through(HTTP_PROXY=value)
        with pytest.raises(APIConnectionError, match="HTTP_PROXY does not name a proxy that can be used"):
            await call(transport, peer.url())
        assert peer.connections == 0


# Loops, threads, processes


def in_a_loop(transport: HTTPTransport, url: str) -> bytes:
    """Make a call in an event loop of its own."""
    return asyncio.run(call(transport, url))


@pytest.fixture
def anywhere() -> Iterator[HTTPTransport]:
    """A transport for tests without a loop."""
    made = HTTPTransport()
    yield made
    asyncio.run(made.aclose())


@pytest.mark.usefixtures("anyio_backend")
def test_trio(anywhere: HTTPTransport) -> None:
    """Where no loop of asyncio runs, the error says what to do."""
    with pytest.raises(APIConnectionError, match="Under trio, use the blocking client"):
        trio.run(call, anywhere, "http://127.0.0.1:1/")


@pytest.mark.usefixtures("anyio_backend")
def test_many_loops(no_leaks: None, anywhere: HTTPTransport) -> None:
    """A transport serves loop after loop, each of which takes its connections with it."""
    with answering(reply()) as peer:
        assert [in_a_loop(anywhere, peer.url()) for _ in range(3)] == [b"ok"] * 3
        assert peer.connections == 3


@pytest.mark.usefixtures("anyio_backend")
def test_many_threads(no_leaks: None, anywhere: HTTPTransport) -> None:
    """A transport serves loops in several threads at once."""
    got: list[bytes] = []
    with answering(reply()) as peer:
        threads = [threading.Thread(target=lambda: got.append(in_a_loop(anywhere, peer.url()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert got == [b"ok"] * 4


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.usefixtures("anyio_backend")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_child(anywhere: HTTPTransport) -> None:
    """A child forked after calls were made makes its own connections; the parent keeps its own."""
    context = multiprocessing.get_context("fork")
    with answering(reply()) as peer:
        loop = asyncio.new_event_loop()
        try:
            assert loop.run_until_complete(call(anywhere, peer.url())) == b"ok"
            answers = context.SimpleQueue()
            child = context.Process(target=lambda: answers.put(in_a_loop(anywhere, peer.url())))
            child.start()
            assert answers.get() == b"ok"
            child.join(PATIENCE)
            assert loop.run_until_complete(call(anywhere, peer.url())) == b"ok"
            assert peer.connections == 2
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
