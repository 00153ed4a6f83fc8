"""The connections of a client: the idle ones and the bound on all of an event loop, and how new ones are made.

A connection belongs to its loop, so each loop has a pool of its own.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - connections are protocols of the running loop
import functools
import socket
import ssl
from collections import deque

from anyio import to_thread

from antiphon.http.dial import attach, in_order, open_tunnel, reach
from antiphon.http.environment import Origin, Proxies, Proxy
from antiphon.http.loops import AtTheEnd, PerLoop
from antiphon.http.protocol import Connection
from antiphon.http.tls import TLS

__all__ = ["MAX_CONNECTIONS", "Connections", "Pool"]

MAX_CONNECTIONS = 2048
"""Most open connections to one origin in one event loop, by default: as many as `antiphon serve` takes requests at
once (2,000), and some more."""

_IDLE_PER_ORIGIN = 64
_SITES = 64
"""How many origins are kept in mind before those that are not in use are dropped."""


class _Site:
    """What a pool has for one origin."""

    __slots__ = ("idle", "users", "waiting")

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self.users = 0
        """How many have a place. Idle connections are used before another is opened, so that all together are never
        more than there are places."""
        self.waiting: deque[asyncio.Future[None]] = deque()
        """Who waits for a place; the future is done when the place is theirs."""


class Pool:
    """The connections of one event loop: which are idle, and how many there are for each origin."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int = MAX_CONNECTIONS) -> None:
        self.loop = loop
        self.most = most
        self.closed = False
        self._sites: dict[Origin, _Site] = {}
        self._at_the_end = AtTheEnd(self._end)

    def enter(self, origin: Origin) -> bool:
        """Take a place among the connections to *origin*, which `leave` gives back; `False`: there is none."""
        # Not an asyncio.Semaphore: that cost 4 to 35 µs a call, and hardly a call has to wait.
        site = self._sites.get(origin) or self._new_site(origin)
        if site.users >= self.most:
            return False
        site.users += 1
        return True

    async def wait_to_enter(self, origin: Origin) -> None:
        """Take a place after those who wait already."""
        if self.enter(origin):
            return
        site, place = self._sites[origin], self.loop.create_future()
        site.waiting.append(place)
        try:
            await place
        except BaseException:
            if not place.cancelled():
                self.leave(origin)  # it was given the place just as it gave up
            elif place in site.waiting:
                site.waiting.remove(place)
            raise

    def leave(self, origin: Origin) -> None:
        """Give the place back: to who has waited longest, if anything waits."""
        site = self._sites[origin]
        while site.waiting:
            place = site.waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        site.users -= 1

    def find(self, origin: Origin) -> Connection | None:
        """Return an idle connection to *origin* that can carry a request, or `None`; for who has a place."""
        idle = self._sites[origin].idle
        while idle:
            connection = idle.pop()
            if connection.mark_active():
                return connection
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection that is not needed for now; before the place is given back."""
        idle = self._sites[connection.origin].idle
        if self.closed or len(idle) >= _IDLE_PER_ORIGIN:
            connection.abort()
        else:
            connection.mark_idle(idle)

    def _new_site(self, origin: Origin) -> _Site:
        if len(self._sites) >= _SITES:
            self._sites = {key: site for key, site in self._sites.items() if site.users or site.idle}
        site = self._sites[origin] = _Site()
        return site

    async def keep(self) -> None:
        """Have the idle connections closed when the loop ends."""
        await self._at_the_end.begin()

    async def _end(self) -> None:
        self.close()

    async def aclose(self) -> None:
        """Close every idle connection, and wait until that is done."""
        self.close()
        await self._at_the_end.aclose()
        await asyncio.sleep(0)

    def close(self) -> None:
        """Close every idle connection, and from now on those that become idle."""
        self.closed = True
        for site in self._sites.values():
            for connection in site.idle:
                connection.abort()


class Connections:
    """All connections of one client: a pool for each event loop, and what they have in common.

    The environment is read for proxies, and files for certificates, when the first connection is opened.

    Args:
        tls: Which servers to trust, and the client's own certificate.
        most: Most open connections to one origin, in each loop.
    """

    def __init__(self, tls: TLS | None = None, *, most: int = MAX_CONNECTIONS) -> None:
        self._tls = tls or TLS()
        self._pools = PerLoop(functools.partial(Pool, most=most))
        self._proxies: Proxies | None = None
        self._context: ssl.SSLContext | None = None
        self._worked: dict[Origin, str] = {}
        """The address of a host that answered last, of those whose names have several."""

    def here(self) -> Pool:
        """Return the pool of the running loop.

        Raises:
            APIConnectionError: `aclose` was called before, or no loop of asyncio runs.
        """
        return self._pools.here()

    def proxy(self, origin: Origin) -> Proxy | None:
        """Return the proxy on the way to *origin*, or `None`."""
        if self._proxies is None:
            self._proxies = Proxies()
        return self._proxies.proxy_for(origin)

    async def context(self, origin: Origin) -> ssl.SSLContext | None:
        """Return whom to trust on the way to *origin*; `None` where there is no TLS.

        The first time this reads files in a thread, for some tens of milliseconds.

        Raises:
            APIConnectionError: A file of certificates cannot be used.
        """
        if origin.scheme != "https":
            return None
        if self._context is None:
            # Two at once read the same twice, which harms nothing; a lock could be held while the process forks.
            self._context = await to_thread.run_sync(self._tls.context)
        return self._context

    async def connect(self, pool: Pool, origin: Origin, context: ssl.SSLContext | None) -> Connection:
        """Open a connection to *origin*.

        Raises:
            OSError: It could not be: a `socket.gaierror`, an `ssl.SSLError` or whatever the system says.
            APIConnectionError: The proxy would not, or the environment names one that cannot be used.
        """
        await pool.keep()
        proxy = self.proxy(origin)
        peer = origin if proxy is None else proxy.origin
        connection = await attach(pool.loop, await self._reach(pool.loop, peer), origin)
        try:
            if proxy is not None and context is not None:
                await open_tunnel(connection, proxy)
            elif proxy is not None:
                connection.via = proxy
            if context is not None:
                await connection.secure(context)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def aclose(self) -> None:
        """Close what is idle, in every loop; no new connection is opened from now on."""
        here = asyncio.get_running_loop()
        for loop, pool in self._pools.close().items():
            if loop is here:
                await pool.aclose()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(pool.close)

    async def _reach(self, loop: asyncio.AbstractEventLoop, peer: Origin) -> socket.socket:
        addresses = await _resolve(peer)
        if len(addresses) > 1:
            addresses = in_order(addresses, self._worked.get(peer))
        address, tcp = await reach(loop, addresses, peer.port)
        if len(addresses) > 1:
            if len(self._worked) >= _SITES:
                self._worked = {}
            self._worked[peer] = address
        return tcp


async def _resolve(peer: Origin) -> list[str]:
    """Return the addresses of a host, in the system's order."""
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
