"""How `HTTPTransport` connects: the race between addresses, what it remembers, the sockets' options, its pools."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from antiphon.errors import APIConnectionError, APITimeoutError
from antiphon.formats.codec import HTTPRequest
from antiphon.http import connection, dial
from antiphon.http.connection import Connections
from antiphon.http.dial import in_order
from antiphon.http.environment import Origin
from antiphon.http.exchange import HTTPTransport
from antiphon.http.transport import Timeout
from tests.peers import PATIENCE, answering, reply

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]),
]

REQUEST = HTTPRequest(path="/", body=b"{}")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not drop what does not fit in a backlog")


@pytest.fixture
async def transport(no_leaks: None) -> AsyncIterator[HTTPTransport]:
    """A transport whose connections, threads and tasks must all be gone after the test."""
    made = HTTPTransport()
    yield made
    await made.aclose()


async def call(transport: HTTPTransport, url: str, clocks: Timeout = Timeout(connect=PATIENCE)) -> bytes:  # noqa: B008
    """Make one exchange and return the body."""
    async with transport.open(url, REQUEST, headers={}, timeout=clocks) as answer:
        return b"".join([data async for data in answer])


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name stand for *addresses*."""

    async def resolve(peer: object) -> list[str]:
        return list(addresses)

    monkeypatch.setattr(connection, "_resolve", resolve)


class Hole:
    """An address that does not answer: the backlog of its socket is full, so what else comes is dropped."""

    def __init__(self, address: str, port: int) -> None:
        self._listener = socket.socket()
        self._listener.bind((address, port))
        self._listener.listen(0)
        self._fill = [socket.socket() for _ in range(4)]
        for filling in self._fill:
            filling.setblocking(False)
            filling.connect_ex((address, port))

    def close(self) -> None:
        """Close every socket."""
        for each in (*self._fill, self._listener):
            each.close()


@pytest.fixture
def holes() -> Iterator[list[Hole]]:
    """A list whose holes are closed after the test."""
    made: list[Hole] = []
    yield made
    for hole in made:
        hole.close()


@LINUX
async def test_an_address_that_does_not_answer(
    transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch, holes: list[Hole]
) -> None:
    """The next address is tried a quarter of a second later, and first of all the next time."""
    tried: list[str] = []
    attempt = dial._attempt

    async def noted(loop: asyncio.AbstractEventLoop, address: str, port: int) -> tuple[str, socket.socket]:
        tried.append(address)
        return await attempt(loop, address, port)

    monkeypatch.setattr(dial, "_attempt", noted)
    resolve_to(monkeypatch, "127.0.0.9", "127.0.0.1")
    with answering(reply(b"ok", "connection: close")) as peer:
        holes.append(Hole("127.0.0.9", peer.port))
        began = asyncio.get_running_loop().time()
        assert await call(transport, peer.url(host="two.localhost")) == b"ok"
        assert 0.2 < asyncio.get_running_loop().time() - began < 1.5
        assert tried == ["127.0.0.9", "127.0.0.1"]
        assert await call(transport, peer.url(host="two.localhost")) == b"ok"
        assert tried[2:] == ["127.0.0.1"]


@LINUX
async def test_an_address_that_worked_and_does_no_more(
    transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch, holes: list[Hole]
) -> None:
    """What is remembered is tried first, not alone."""
    resolve_to(monkeypatch, "127.0.0.9", "127.0.0.1")
    with answering(reply(b"ok", "connection: close")) as peer:
        transport._connections._worked[Origin("http", "two.localhost", peer.port)] = "127.0.0.9"
        holes.append(Hole("127.0.0.9", peer.port))
        assert await call(transport, peer.url(host="two.localhost")) == b"ok"
        assert list(transport._connections._worked.values()) == ["127.0.0.1"]


async def test_a_refused_address_costs_no_time(transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an address refuses, the next is tried at once; a refusal of all is the error."""
    monkeypatch.setattr(dial, "_STAGGER_SECONDS", PATIENCE)
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.1")
    with answering(reply()) as peer:
        with anyio.fail_after(PATIENCE / 2):
            assert await call(transport, peer.url(host="three.localhost")) == b"ok"
        resolve_to(monkeypatch, "127.0.0.2", "127.0.0.3")
        with pytest.raises(APIConnectionError, match=r"No connection to other\.localhost:\d+: refused"):
            await call(transport, peer.url(host="other.localhost"))


@LINUX
@pytest.mark.parametrize("cancel", [False, True])
async def test_what_lost_the_race_is_closed(
    transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch, holes: list[Hole], cancel: bool
) -> None:
    """No socket and no task is left of the addresses that did not answer, nor of a race that was given up."""
    resolve_to(monkeypatch, "127.0.0.8", "127.0.0.9")
    with answering(reply()) as peer:
        holes += [Hole("127.0.0.8", peer.port), Hole("127.0.0.9", peer.port)]
        before = asyncio.all_tasks()
        if cancel:
            with anyio.move_on_after(0.4):
                await call(transport, peer.url(host="two.localhost"))
        else:
            with pytest.raises(APITimeoutError, match="the connect"):
                await call(transport, peer.url(host="two.localhost"), Timeout(connect=0.4))
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before


async def test_both_connect_at_once(transport: HTTPTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two addresses answer in one turn of the loop, one connection is used and the other closed."""
    monkeypatch.setattr(dial, "_STAGGER_SECONDS", 0.0)
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.1", "127.0.0.1")
    with answering(reply()) as peer:
        for _ in range(5):
            assert await call(transport, peer.url(host="two.localhost")) == b"ok"


@pytest.mark.usefixtures("anyio_backend")
@pytest.mark.parametrize(
    ("addresses", "worked", "expected"),
    [
        (["::1", "::2", "1.1.1.1", "2.2.2.2", "3.3.3.3"], None, ["::1", "1.1.1.1", "::2", "2.2.2.2", "3.3.3.3"]),
        (["1.1.1.1", "::1", "::2"], None, ["1.1.1.1", "::1", "::2"]),
        (["::1", "::2", "1.1.1.1"], "1.1.1.1", ["1.1.1.1", "::1", "::2"]),
        (["::1", "::2"], "9.9.9.9", ["::1", "::2"]),
        (["1.1.1.1"], None, ["1.1.1.1"]),
    ],
)
def test_order_of_addresses(addresses: list[str], worked: str | None, expected: list[str]) -> None:
    """The families take turns (RFC 8305, section 4), after the address that worked."""
    assert in_order(addresses, worked) == expected


async def test_sockets_are_probed(transport: HTTPTransport) -> None:
    """Silent connections are kept open on the way, and dead ones noticed: TCP keep-alive is on."""
    with answering(reply()) as peer:
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=Timeout()) as answer:
            tcp = answer._connection._tcp.get_extra_info("socket")  # type: ignore[attr-defined]
            assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


@pytest.mark.usefixtures("anyio_backend")
def test_pools_of_many_threads() -> None:
    """Loops of many threads begin and end at once without harm to each other."""
    connections = Connections()
    faults: list[BaseException] = []

    def work() -> None:
        for _ in range(200):
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(look())
            except Exception as error:
                faults.append(error)
            finally:
                loop.close()

    async def look() -> None:
        assert connections.here() is connections.here()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert faults == []
