"""One connection, read by read: however what comes is cut, the requests are the same, and what it holds has bounds."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from antiphon.server.connection import protocol
from antiphon.settings.config import Config, Limits
from antiphon.settings.keys import AccessKeys, hash_key
from antiphon.testing import Upstream
from tests.server.raw import DIALECTS, Wire, ask, eventually, get, post, row
from tests.serving import Serving

LIMITS = Limits(header_bytes=4_000)
CHAT = DIALECTS["openai"]


class Request(NamedTuple):
    """What an application sees of a request."""

    method: str
    path: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Line(asyncio.Transport):
    """A transport in memory: what is written is kept, what is fed comes only while it is read."""

    def __init__(self, connection: asyncio.Protocol) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.most_unread = 0
        self._connection = connection
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what is sent."""
        assert not self._closing, "nothing can be sent over a connection that closes"
        self.written += data

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def close(self) -> None:
        """Close it; the connection learns it in the loop's next turn."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    abort = close

    def get_write_buffer_size(self) -> int:
        """All is taken at once."""
        return 0

    def pause_reading(self) -> None:
        """Let nothing arrive."""
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        """Let more arrive."""
        assert not self.reading
        self.reading = True


class Session:
    """A connection to an application that answers each request with its path, once it was read."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.seen: list[Request] = []
        self.answer = asyncio.Event()
        """Whether requests are answered; else they wait."""
        self.answer.set()
        config = uvicorn.Config(
            self._app, ws="none", lifespan="off", interface="asgi3", proxy_headers=False, log_config=None
        )
        self.connection: Any = protocol(lambda: limits)(config, ServerState(), {})
        self.line = Line(self.connection)
        self.connection.connection_made(self.line)

    async def _app(
        self, scope: MutableMapping[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]
    ) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.seen.append(Request(scope["method"], scope["path"], tuple(scope["headers"]), body))
        await self.answer.wait()
        said = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said, "more_body": False})

    async def feed(self, pieces: Iterable[bytes]) -> None:
        """Let *pieces* arrive, each in a read of its own, as long as the connection is read."""
        for piece in pieces:
            for _ in range(10_000):
                if self.line.reading or self.line.is_closing():
                    break
                await asyncio.sleep(0)
            if self.line.is_closing():
                return
            assert self.line.reading, "the connection is never read again"
            self.connection.data_received(piece)
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Let what has begun come to its end, and close the connection."""
        for _ in range(10_000):
            if not self.connection.tasks and not self.connection.pipeline:
                break
            await asyncio.sleep(0)
        if not self.line.is_closing():
            self.line.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def requests_of(pieces: Sequence[bytes], limits: Limits = LIMITS) -> tuple[list[Request], bytes]:
    """Return what an application sees of the requests in *pieces*, and what the client gets."""

    async def run() -> tuple[list[Request], bytes]:
        session = Session(limits)
        await session.feed(pieces)
        await session.end()
        return session.seen, session.line.written

    return asyncio.run(run())


# --- an offer to go on in another protocol

OFFER = "Connection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
TRAP = b'{"a":1,\r\nUpgrade: xxxx\r\n\r\n"b":\r\nupgrade: y\r\n}'
"""A body that looks like a head with an offer."""


def chunked(body: bytes, headers: str = "", path: str = "/chunked") -> bytes:
    """Write a POST in chunks of 20 bytes."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}transfer-encoding: chunked\r\n\r\n".encode()
    pieces = [body[at : at + 20] for at in range(0, len(body), 20)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


OFFERED = post("/a", TRAP, OFFER) + post("/b", TRAP) + get("/c", OFFER) + chunked(TRAP, OFFER) + get("/d")


def test_offer_of_another_protocol_is_passed_over() -> None:
    """A request that offers to go on in another protocol is a request, its body is its own, and so are the next."""
    seen, said = requests_of([OFFERED])
    assert [(request.path, request.body) for request in seen] == [
        ("/a", TRAP), ("/b", TRAP), ("/c", b""), ("/chunked", TRAP), ("/d", b""),
    ]  # fmt: skip
    assert (b"http2-settings", b"AAMAAABk") in seen[0].fields
    assert "upgrade" not in {name.decode() for request in seen for name, _ in request.fields}
    assert said.count(b"HTTP/1.1 200 OK") == 5


def test_every_cut_of_requests_with_an_offer_gives_the_same() -> None:
    """Where the first read ends makes no difference: neither is an offer missed nor a byte of a body changed."""
    whole = requests_of([OFFERED])
    for cut in range(1, len(OFFERED)):
        assert requests_of([OFFERED[:cut], OFFERED[cut:]]) == whole, cut


PARTS = st.lists(
    st.sampled_from(
        [
            post("/a", TRAP, OFFER),
            post("/b", TRAP),
            get("/c", OFFER),
            get("/d"),
            chunked(TRAP, OFFER),
            chunked(TRAP, path="/e"),
            post("/f", b"x" * 9_000, OFFER),
            b"\r\n",
            get("/g", "upgrade: h2c\r\n"),
            get("/h", "Connection: keep-alive, Upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n"),
        ]
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(parts=PARTS, cuts=st.lists(st.integers(0, 20_000), max_size=12))
def test_any_cuts_of_any_requests_give_the_same(parts: list[bytes], cuts: list[int]) -> None:
    """Requests are seen once each, in order, with the same fields and bodies, whatever reads they come in."""
    data = b"".join(parts)
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    seen, said = requests_of(pieces)
    each = [requests_of([part])[0] for part in parts]
    assert seen == [request for one in each for request in one]
    assert said.count(b"HTTP/1.1 200 OK") == len(seen)


def test_offer_with_every_byte_in_a_read_of_its_own() -> None:
    """A client's single bytes are the same request."""
    assert requests_of([OFFERED[at : at + 1] for at in range(len(OFFERED))]) == requests_of([OFFERED])


@pytest.mark.parametrize("path", ["example.com:443", "/x"])
def test_connect_is_refused(path: str) -> None:
    """A server that is no proxy makes no tunnel, and takes nothing that follows for a request."""
    seen, said = requests_of([f"CONNECT {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode() + get("/next")])
    assert seen == []
    assert said.startswith(b"HTTP/1.1 400 ")


# --- what is neither head nor body

CHUNKED = b"POST /a HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "later"])
def test_trailer_fields_are_no_header_fields(apart: bool) -> None:
    """No field that comes after the head is seen as one of it, nor changes the next request."""
    rest = b"2\r\n{}\r\n0\r\nhost: evil\r\nx-api-key: k\r\nexpect: 100-continue\r\n\r\n" + get("/next")
    seen, said = requests_of([CHUNKED, rest] if apart else [CHUNKED + rest])
    assert [request.fields for request in seen] == [
        ((b"host", b"localhost"), (b"transfer-encoding", b"chunked")),
        ((b"host", b"localhost"),),
    ]
    assert b"100 Continue" not in said


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "trailer fields": (b"0\r\n", b"a:b\r\n"),
    "trailer value": (b"0\r\nx: ", b"y"),
    "trailer name": (b"0\r\n", b"y"),
    "trailer after data": (b"2\r\n{}\r\n0\r\nx: ", b"y"),
    "extension of a chunk": (b"2;", b"y"),
    "extension with a value": (b'2;a="', b"y"),
    "extension of the last chunk": (b"0;", b"y"),
    "extensions of small chunks": (b"", b"1;" + b"y" * 100 + b"\r\nx\r\n"),
    "zeros before a size": (b"", b"0"),
    "trailer after many chunks": (b"1\r\nx\r\n" * 2_000 + b"0\r\nx: ", b"y"),
}


@pytest.mark.parametrize("size", [1_000, 65_536], ids=["small reads", "large reads"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_is_neither_head_nor_body_has_a_bound(kind: str, size: int) -> None:
    """Whatever a request has besides head and body ends the connection before it is much."""
    first, endless = ENDLESS[kind]
    again = endless * (size // len(endless) + 1)

    async def run() -> tuple[int, bytes, list[Request]]:
        session = Session()
        await session.feed([CHUNKED + first])
        reads = 0
        while not session.line.is_closing() and reads < 1_000:
            await session.feed([again])
            reads += 1
        await session.end()
        return reads, session.line.written, session.seen

    reads, said, seen = asyncio.run(run())
    assert reads * size <= LIMITS.header_bytes + size + 16_384
    assert said == b"" or said.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert seen == []


def test_trailer_fields_count_with_the_head() -> None:
    """Trailer fields that are all there at once are refused, too, if they and the head are too much."""
    fields = b"a: b\r\n" * (LIMITS.header_bytes // 6)
    seen, said = requests_of([CHUNKED + b"0\r\n" + fields + b"\r\n" + get("/next")])
    assert seen == []
    assert said.startswith(b"HTTP/1.1 431 ")
    assert b"4,000 bytes" in said


def test_body_in_single_bytes_is_not_too_much_around_it() -> None:
    """A client whose chunks have one byte each sends five around it, and may."""
    body = b"x" * 20_000
    data = CHUNKED + b"1\r\nx\r\n" * len(body) + b"0\r\n\r\n"
    for size in (100, 70_000):
        seen, _ = requests_of([data[at : at + size] for at in range(0, len(data), size)])
        assert [request.body for request in seen] == [body]


def test_no_second_answer_to_a_request_with_a_faulty_body() -> None:
    """What goes wrong in the rest of a body whose request was answered is no other request."""
    with Upstream() as upstream:
        config = Config(keys=AccessKeys({"ann": hash_key("ap-" + "k" * 40)}), limits=LIMITS)
        with Serving({"up": row(upstream)}, config) as server, Wire(server.port) as wire:
            head = CHUNKED.replace(b"/a", b"/v1/chat/completions")
            assert wire.send(head + b"0\r\n").reply().status == 401
            wire.send(b"a:b\r\n" * 2_000)
            assert wire.rest() == b""


# --- head

HEADS: dict[str, tuple[str, int]] = {
    "no host": ("GET /a HTTP/1.1\r\n\r\n", 400),
    "no host with fields": ("GET /a HTTP/1.1\r\nx-host: a\r\n\r\n", 400),
    "whole URL without host": ("GET http://localhost/a HTTP/1.1\r\n\r\n", 400),
    "two hosts": ("GET /a HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n", 400),
    "two hosts in HTTP/1.0": ("GET /a HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    "host in a trailer": (
        "POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nhost: localhost\r\n\r\n",
        400,
    ),
    "no host in HTTP/1.0": ("GET /a HTTP/1.0\r\n\r\n", 200),
    "empty host": ("GET /a HTTP/1.1\r\nhost:\r\n\r\n", 200),
}


@pytest.mark.parametrize("kind", HEADS)
def test_host_is_named_once(kind: str) -> None:
    """A request of HTTP/1.1 has one `host`, which an older one may leave out."""
    head, status = HEADS[kind]
    seen, said = requests_of([head.encode()])
    assert said.startswith(f"HTTP/1.1 {status} ".encode())
    assert len(seen) == (status == 200)


def test_bound_of_a_head_is_its_own() -> None:
    """A head may be as large as the bound says, whatever is before it in the same read."""
    large = get("/large", "x: " + "y" * (LIMITS.header_bytes - 100) + "\r\n")
    before = post("/a", b"x" * 5_000)
    for cut in (len(before) + 10, len(before) + 2_000, len(before) + len(large) - 1):
        data = before + large
        seen, _ = requests_of([data[:cut], data[cut:]])
        assert [request.path for request in seen] == ["/a", "/large"]


# --- requests that do not wait for answers


def test_requests_that_wait_have_a_bound() -> None:
    """Of many requests in one read few are made before the first is answered, and all are answered in order."""
    count = 2_000
    data = b"".join(get(f"/{number}") for number in range(count))

    async def run() -> tuple[int, list[str]]:
        session = Session()
        session.answer.clear()
        session.connection.data_received(data)
        await asyncio.sleep(0.01)
        waiting = len(session.connection.pipeline)
        assert not session.line.reading
        session.answer.set()
        await session.feed([get("/last")])
        await session.end()
        return waiting, [request.path for request in session.seen]

    waiting, paths = asyncio.run(run())
    assert waiting < 300
    assert paths == [*(f"/{number}" for number in range(count)), "/last"]


def test_nothing_more_is_read_while_requests_wait() -> None:
    """A client that goes on sending requests without waiting for answers is not read ahead of them."""
    data = b"".join(get("/a") for _ in range(6_000))

    async def run() -> list[int]:
        session = Session()
        held: list[int] = []
        for _ in range(400):
            if session.line.reading:
                session.connection.data_received(data)
            held.append(len(session.connection.pipeline) * 40 + len(session.connection._held))
            await asyncio.sleep(0)
        await session.end()
        return held

    assert max(asyncio.run(run())) <= 2 * len(data)


def test_body_of_a_request_that_waits_has_a_bound() -> None:
    """The body of a request whose turn has not come is read no further than that of one that is not read yet."""
    piece = b"x" * 65_536
    first = b"".join(get("/a") for _ in range(10)) + post("/b", b"").replace(b"length: 0", b"length: 6553600")

    async def run() -> tuple[int, int]:
        session = Session()
        session.answer.clear()
        session.connection.data_received(first)
        sent = most = 0
        for _ in range(50):
            for _ in range(20):
                if session.line.reading and sent < 100:
                    session.connection.data_received(piece)
                    sent += 1
                await asyncio.sleep(0)
            if session.connection.pipeline:
                most = max(most, len(session.connection.cycle.body) + len(session.connection._held))
            session.answer.set()
            await asyncio.sleep(0)
            if len(session.seen) < 10:
                session.answer.clear()
        await session.feed([piece] * (100 - sent))
        await session.end()
        return most, len(session.seen[-1].body)

    most, size = asyncio.run(run())
    assert most < 4 * len(piece)
    assert size == 100 * len(piece)


def test_large_body_is_whole() -> None:
    """A body of many reads comes as it was sent."""
    body = bytes(range(256)) * 4_000
    data = post("/a", body) + get("/b")
    seen, _ = requests_of([data[at : at + 200_000] for at in range(0, len(data), 200_000)])
    assert [(request.path, request.body) for request in seen] == [("/a", body), ("/b", b"")]


def test_head_that_is_held_back_is_not_slow() -> None:
    """A head whose rest is here but not parsed yet, as earlier requests wait for their answers, is not late."""
    paths = [f"/{number}" for number in range(1_000)]

    async def run() -> list[str]:
        session = Session(Limits(head_seconds=0.05))
        session.answer.clear()
        session.connection.data_received(b"".join(map(get, paths)))
        await asyncio.sleep(0.2)
        session.answer.set()
        await session.feed([get("/last")])
        await session.end()
        return [request.path for request in session.seen]

    assert asyncio.run(run()) == [*paths, "/last"]


# --- those who leave


def test_client_that_leaves_with_requests_waiting_is_no_fault(caplog: pytest.LogCaptureFixture, no_leaks: None) -> None:
    """Several requests in one read, and then the end: nothing is asked for them any more, and nothing is logged."""
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}) as server:
        for data in (
            CHAT.request() * 2,
            CHAT.request(stream=True) * 5,
            get("/health") * 40,
            CHAT.request() + b"\0\r\n",
        ):
            for _ in range(5):
                with Wire(server.port) as wire:
                    wire.send(data)
        assert eventually(lambda: not server.server.server_state.connections and not server.application.live)
        assert eventually(lambda: not server.server.server_state.tasks)
    assert caplog.text == ""


def alive() -> list[Any]:
    """Return what the server has of connections and requests; those to upstreams are kept for the next requests."""
    names, packages = {"Connection", "RequestResponseCycle", "Exchange"}, ("antiphon.server.", "uvicorn.")
    found = gc.get_objects()
    return [one for one in found if type(one).__name__ in names and type(one).__module__.startswith(packages)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_memory_of_a_connection_is_given_back_at_once(stream: bool, no_leaks: None) -> None:
    """What a connection and its requests hold goes with them, not when garbage is collected next."""
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}) as server:
        assert ask(server.port, CHAT.request(stream=stream)).status == 200
        server.done.clear()
        eventually(lambda: not server.server.server_state.connections)
        gc.collect()
        before = {id(found) for found in alive()}
        gc.disable()
        try:
            for data in (CHAT.request(stream=stream), post("/nothing", b"{}"), CHAT.request(model="none/x"), get("/")):
                with Wire(server.port) as wire:
                    wire.send(data).reply()
                    assert [one for one in alive() if type(one).__name__ == "Connection"]
                    wire.send(data).reply()
                with Wire(server.port) as wire:
                    wire.send(data[:-1])
            with Wire(server.port) as wire:
                wire.send(CHUNKED + b"0\r\n" + b"a: b\r\n" * 10_000).reply()
            state = server.server.server_state
            assert eventually(lambda: not state.connections and not state.tasks)
            server.done.clear()
            assert eventually(lambda: not [found for found in alive() if id(found) not in before]), [
                type(found).__name__ for found in alive() if id(found) not in before
            ]
        finally:
            gc.enable()


def test_answers_of_errors_are_json(no_leaks: None) -> None:
    """What is refused by its head is answered in JSON, as everything is."""
    with Upstream() as upstream, Serving({"up": row(upstream)}) as server, Wire(server.port) as wire:
        reply = wire.send(b"GET / HTTP/1.1\r\n\r\n").reply()
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "bad_http")
