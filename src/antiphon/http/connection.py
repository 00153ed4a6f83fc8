"""Floor 3: connections to servers: one of them, the idle ones of an event loop, and all of a client.

Rules, all of which follow from a connection being a protocol of its loop:
- A connection is used by one exchange at a time, and by its own loop only.
- Whoever gives up an exchange calls `abort()`, which closes the socket without waiting for anything: that is safe in a
  cancelled task, and the server sees it at once.
- Clocks cost nothing while they do not run out: a timer once armed is left to fire early and is set again then.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a protocol is asyncio's own way to read a socket; anyio's streams cost twice the time
import math
import os
import socket
import ssl
import threading
from collections.abc import AsyncGenerator
from typing import cast

from anyio import to_thread

from antiphon.errors import APIConnectionError
from antiphon.http.network import Origin, Proxies, Proxy, trusted
from antiphon.wire.http1 import MalformedError, ResponseReader, request_head

__all__ = ["NEVER", "Connection", "Connections", "Pool"]

NEVER = math.inf
"""A time of the loop's clock that does not come."""

_IDLE_SECONDS = 60.0
"""How long an unused connection is kept. Most servers close theirs after 60 to 120 s; what is closed here first cannot
be closed there just as a request is sent."""

_IDLE_PER_ORIGIN = 64
_QUIET_SECONDS = 1.0
_HIGH_WATER = 512 * 1024
"""Bytes that may wait to be taken before the socket is no longer read."""

_ADDRESS_SECONDS = 2.0
"""How long one of several addresses of a host may take before the next is tried."""


class Connection(asyncio.Protocol):
    """A socket with the response that is being read from it.

    Attributes:
        origin: Whom it speaks to, through a proxy or not.
        via: The proxy that requests are sent to whole, or `None`.
        reader: The response being read; `None` while nobody uses the connection.
        fault: Why nothing more will come, or `None`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: Origin) -> None:
        self.origin = origin
        self.via: Proxy | None = None
        self.reader: ResponseReader | None = None
        self.fault: Exception | None = None
        self.lost = False
        self.idle_since = 0.0
        self._loop = loop
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = NEVER

    _transport: asyncio.Transport
    """Set before anybody has the connection in hand."""

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self.reader is None or self.fault:
            self.abort()
            return
        try:
            body = self.reader.feed(data)
        except MalformedError as error:
            self.fault = error
            self.abort()
        else:
            if body:
                self._keep(body)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, and whether it is that of the response too."""
        self.lost = True
        self._until = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.reader is not None and not self.reader.eof() and self.fault is None:
            self.fault = exc or ConnectionAbortedError("the connection was closed")
        self._wake()

    # What an exchange calls.

    def send(self, head: bytes, body: bytes, reader: ResponseReader) -> None:
        """Send a request and begin to read its response."""
        self.reader = reader
        if len(body) < _HIGH_WATER:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def take(self) -> bytes:
        """Return what of the body has come since the last time, `b""` where nothing has."""
        if not self._pieces:
            return b""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def wait(self, until: float) -> None:
        """Wait for something to come: bytes, the end or a fault.

        Raises:
            TimeoutError: Nothing has by *until*, a time of the loop's clock.
        """
        waiter = self._waiter = self._loop.create_future()
        self._arm(until)
        try:
            await waiter
        finally:
            self._waiter = None
            self._until = NEVER

    async def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from here on. For a connection that a proxy has opened a tunnel on."""
        transport = await self._loop.start_tls(self._transport, self, context, server_hostname=self.origin.host)
        self._transport = cast(asyncio.Transport, transport)

    def abort(self) -> None:
        """Close the socket now."""
        self._transport.abort()

    @property
    def reusable(self) -> bool:
        """Whether the response has ended such that another request may follow."""
        reader = self.reader
        return reader is not None and reader.complete and reader.keep_alive and not (self.lost or self._pieces)

    def rest(self) -> None:
        """Put the connection aside until it is used again, for a minute at most."""
        self.reader = None
        self.idle_since = self._loop.time()
        self._arm(self.idle_since + _IDLE_SECONDS)

    def wake_up(self) -> None:
        """Begin to use the connection again."""
        self._until = NEVER

    # Within.

    def _keep(self, body: bytes) -> None:
        self._pieces.append(body)
        self._waiting += len(body)
        if self._waiting > _HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _arm(self, until: float) -> None:
        self._until = until
        timer = self._timer
        if until == NEVER or (timer is not None and timer.when() <= until):
            return
        if timer is not None:
            timer.cancel()
        self._timer = self._loop.call_at(until, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._until > self._loop.time():
            self._arm(self._until)
        elif self._waiter is None:
            self.abort()
        elif not self._waiter.done():
            self._waiter.set_exception(TimeoutError())


class Pool:
    """The idle connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.closed = False
        self._idle: dict[Origin, list[Connection]] = {}
        self._keeper: AsyncGenerator[None, None] | None = None

    async def find(self, origin: Origin) -> Connection | None:
        """Return a connection to *origin* that is still open, or `None`."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if self.loop.time() - connection.idle_since > _QUIET_SECONDS:
                await self._look(connection)
            if not connection.lost:
                connection.wake_up()
                return connection
        return None

    async def _look(self, connection: Connection) -> None:
        """Let a loop that has not run for a while see what the server has closed meanwhile."""
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except BaseException:
            connection.abort()
            raise

    def put(self, connection: Connection) -> None:
        """Keep a connection that is not needed for now."""
        idle = self._idle.setdefault(connection.origin, [])
        idle[:] = [other for other in idle if not other.lost]
        if self.closed or len(idle) >= _IDLE_PER_ORIGIN:
            connection.abort()
        else:
            connection.rest()
            idle.append(connection)

    async def keep(self) -> None:
        """Have the idle connections closed when the loop ends.

        A loop tells nobody that it ends, except async generators that were not finished: `asyncio.run` and its like
        close those while the loop still runs.
        """
        if self._keeper is None:
            self._keeper = self._until_the_end()
            await anext(self._keeper)

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.close()

    async def aclose(self) -> None:
        """Close every idle connection, and wait until that is done."""
        self.close()
        if self._keeper is not None:
            await self._keeper.aclose()
        await asyncio.sleep(0)

    def close(self) -> None:
        """Close every idle connection, and from now on those that become idle."""
        self.closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()


_forks = 0
"""How many forks lie between this process and the one that imported this: connections belong to one process."""


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Connections:
    """All connections of one client: a pool for each event loop, and what they have in common.

    The environment is read for proxies and certificates when the first connection is opened.
    """

    def __init__(self) -> None:
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._forks = _forks
        self._proxies: Proxies | None = None
        self._context: ssl.SSLContext | None = None
        self._making = threading.Lock()
        self._closed = False

    def here(self) -> Pool:
        """Return the pool of the running loop.

        Raises:
            APIConnectionError: `aclose` was called before, or no loop of asyncio runs.
        """
        if self._closed:
            raise APIConnectionError(
                "This client was closed and sends nothing more. Make a new one, or close this one later.",
                retryable=False,
            )
        if self._forks != _forks:
            # The parent goes on using its connections; two processes must never write to one.
            self._forks, self._pools = _forks, {}
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None:
            raise APIConnectionError(
                "Calls over HTTP run on asyncio, and no loop of it runs here. Under trio, use the blocking client in a "
                "worker thread.",
                retryable=False,
            )
        pool = self._pools.get(loop)
        if pool is None:
            for other in [other for other in self._pools if other.is_closed()]:
                del self._pools[other]
            pool = self._pools[loop] = Pool(loop)
        return pool

    def proxy(self, origin: Origin) -> Proxy | None:
        """Return the proxy on the way to *origin*, or `None`."""
        if self._proxies is None:
            self._proxies = Proxies()
        return self._proxies.proxy_for(origin)

    async def context(self, origin: Origin) -> ssl.SSLContext | None:
        """Return whom to trust on the way to *origin*; `None` where there is no TLS.

        The first time this reads files in a thread, for some tens of milliseconds.

        Raises:
            APIConnectionError: The environment names certificates that cannot be used.
        """
        if origin.scheme != "https":
            return None
        return self._context or await to_thread.run_sync(self._trusted)

    async def connect(self, pool: Pool, origin: Origin, context: ssl.SSLContext | None) -> Connection:
        """Open a connection to *origin*.

        Raises:
            OSError: It could not be: a `socket.gaierror`, an `ssl.SSLError` or whatever the system says.
            APIConnectionError: The proxy would not, or the environment names one that cannot be used.
        """
        await pool.keep()
        return await _connect(pool.loop, origin, self.proxy(origin), context)

    async def aclose(self) -> None:
        """Close what is idle, in every loop; no new connection is opened from now on."""
        self._closed = True
        here = asyncio.get_running_loop()
        pools, self._pools = self._pools, {}
        for loop, pool in pools.items():
            if loop is here:
                await pool.aclose()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(pool.close)

    def _trusted(self) -> ssl.SSLContext:
        with self._making:
            if self._context is None:
                self._context = trusted()
            return self._context


async def _connect(
    loop: asyncio.AbstractEventLoop, origin: Origin, proxy: Proxy | None, context: ssl.SSLContext | None
) -> Connection:
    if proxy is None:
        return await _dial(loop, origin, origin, context)
    connection = await _dial(loop, proxy.origin, origin, None)
    if context is None:
        connection.via = proxy
        return connection
    try:
        await _tunnel(connection, proxy)
        await connection.secure(context)
    except BaseException:
        connection.abort()
        raise
    connection.reader = None
    return connection


async def _dial(
    loop: asyncio.AbstractEventLoop, peer: Origin, origin: Origin, context: ssl.SSLContext | None
) -> Connection:
    addresses = await _resolve(peer)
    for address in addresses[:-1]:
        try:
            async with asyncio.timeout(_ADDRESS_SECONDS):
                return await _dial_address(loop, address, peer, origin, context)
        except ssl.SSLError:
            raise
        except OSError:  # TimeoutError is one
            continue
    return await _dial_address(loop, addresses[-1], peer, origin, context)


async def _dial_address(
    loop: asyncio.AbstractEventLoop, address: str, peer: Origin, origin: Origin, context: ssl.SSLContext | None
) -> Connection:
    name = None if context is None else origin.host
    _, connection = await loop.create_connection(
        lambda: Connection(loop, origin), address, peer.port, ssl=context, server_hostname=name
    )
    return connection


async def _resolve(peer: Origin) -> list[str]:
    """Find the addresses of a host, in the order to try them."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in peer.host else socket.AF_INET, peer.host)
    except OSError:
        pass
    else:
        return [peer.host]
    # In a thread of anyio's, which a hung look-up cannot keep from exiting, unlike one of the loop's own.
    found = await to_thread.run_sync(
        lambda: socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM), abandon_on_cancel=True
    )
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _tunnel(connection: Connection, proxy: Proxy) -> None:
    target = str(connection.origin)
    headers = {"host": target}
    if proxy.authorization is not None:
        headers["proxy-authorization"] = proxy.authorization
    reader = ResponseReader(no_body=True)
    connection.send(request_head("CONNECT", target, headers), b"", reader)
    del headers
    while not reader.status and connection.fault is None:
        await connection.wait(NEVER)
    if connection.fault is not None or not 200 <= reader.status < 300:
        answer = f"{reader.status} {reader.reason}".strip() if reader.status else "no answer"
        raise APIConnectionError(
            f"The proxy {proxy.origin} opened no tunnel to {target}: {answer}.", retryable=reader.status >= 500
        )
