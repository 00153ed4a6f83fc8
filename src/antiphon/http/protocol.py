"""One connection to a server: a socket, and the response that is being read from it.

Rules, all of which follow from a connection being a protocol of its loop:
- A connection is used by one exchange at a time, and by its own loop only.
- Whoever gives up an exchange calls `abort()`, which closes the socket without waiting for anything: that is safe in a
  cancelled task, and the server sees it at once.
- Timeouts cost nothing while they do not run out: a timer once armed is left to fire early and is set again then.
- Before another request is sent on a connection, the socket itself is looked at. What the loop knows is not enough: it
  may not have run since the server closed, and bytes that nobody asked for would be taken for the next answer.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a protocol is asyncio's own way to read a socket; anyio's streams cost twice the time
import math
import re
import select
import socket
import ssl
from collections.abc import Callable
from typing import cast

from antiphon.errors import APIConnectionError
from antiphon.http.environment import Origin, Proxy
from antiphon.http.http1 import MalformedError, ResponseReader

__all__ = ["NEVER", "Connection"]

NEVER = math.inf
"""A time of the loop's clock that does not come."""

_IDLE_SECONDS = 60.0
"""How long an unused connection is kept. Most servers close theirs after 60 to 120 s; what is closed here first cannot
be closed there just as a request is sent."""

_MARGIN_SECONDS = 1.0
"""How long before the time that a server has announced a connection is given up."""

_HIGH_WATER = 512 * 1024
"""Bytes that may wait to be taken before the socket is no longer read."""

_KEEP_ALIVE_TIMEOUT = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,9})(?!\d)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """A socket with the response that is being read from it.

    Attributes:
        origin: Whom it speaks to, through a proxy or not.
        via: The proxy that requests are sent to whole, or `None`.
        reader: The response being read; `None` while the connection is idle.
        fault: Why nothing more will come, or `None`.
        lost: Whether the socket is closed.
        reused: Whether it has carried a request before the one that it carries now.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: Origin) -> None:
        self.origin = origin
        self.via: Proxy | None = None
        self.reader: ResponseReader | None = None
        self.fault: Exception | None = None
        self.lost = False
        self.reused = False
        self._loop = loop
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = NEVER
        self._expires = NEVER
        self._shelf: list[Connection] | None = None

    # These are set before the connection is used.
    _transport: asyncio.Transport
    """What is written to: TLS, where that is spoken."""
    _tcp: asyncio.Transport
    """What is below that: the transport of TLS does not say what this one has not sent yet."""
    _has_input: Callable[[], bool]

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = self._tcp = cast(asyncio.Transport, transport)
        self._has_input = _input_check(transport.get_extra_info("socket"))

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
        if self._shelf is not None:
            self._shelf.remove(self)
            self._shelf = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.reader is not None and not self.reader.eof() and self.fault is None:
            self.fault = exc or ConnectionAbortedError("the connection was closed")
        self._wake()

    # What an exchange calls.

    def send(self, head: bytes, body: bytes, reader: ResponseReader) -> None:
        """Send a request and begin to read its response; may be called again once that response has ended."""
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
        """Speak TLS from here on.

        Raises:
            APIConnectionError: *context* offered another protocol than HTTP/1.1, and the server chose that.
        """
        transport = await self._loop.start_tls(self._tcp, self, context, server_hostname=self.origin.host)
        self._transport = cast(asyncio.Transport, transport)
        chosen = self._transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if chosen not in (None, "http/1.1"):
            raise APIConnectionError(
                f"The ssl.SSLContext offers {chosen!r}, which {self.origin} chose, and only HTTP/1.1 is spoken here. "
                "Leave it out of set_alpn_protocols(), or use antiphon.HttpxTransport(http2=True, verify=…).",
                retryable=False,
            )

    def abort(self) -> None:
        """Close the socket now."""
        self._transport.abort()

    @property
    def unsent(self) -> bool:
        """Whether a part of what was written has not reached the operating system yet."""
        tcp = self._tcp
        return bool(
            tcp.get_write_buffer_size() or (self._transport is not tcp and self._transport.get_write_buffer_size())
        )

    @property
    def reusable(self) -> bool:
        """Whether request and response have ended such that another request may follow."""
        reader = self.reader
        if reader is None or not (reader.complete and reader.keep_alive) or self._pieces or self.lost:
            return False
        return not (self._tcp.is_closing() or self.unsent)

    def mark_idle(self, shelf: list[Connection]) -> None:
        """Put the connection on *shelf* until it is used again, for a minute at most.

        It leaves the shelf by itself when it is closed, which it is at once where the server has announced to close it
        in a second or less.
        """
        assert self.reader is not None
        announced = self.reader.headers.get("keep-alive")
        seconds = _IDLE_SECONDS if announced is None else _idle_seconds(announced)
        if seconds <= 0:
            self.abort()
            return
        self._expires = self._loop.time() + seconds
        self.reader = None
        self.reused = True
        self._shelf = shelf
        shelf.append(self)
        self._arm(self._expires)

    def mark_active(self) -> bool:
        """Return whether the connection, which has been taken off its shelf, may carry another request.

        It may where it is open, its time has not ended (a process that slept has not run its timers), and nothing is
        to be read: neither the end of the connection, which the loop may not have seen yet, nor bytes. Where it may
        not, it is closed. That nothing was left to send it has been asked before it was put on the shelf.
        """
        self._shelf = None
        self._until = NEVER
        if self.lost or self._tcp.is_closing():
            return False
        if self._loop.time() < self._expires and not self._has_input():
            return True
        self.abort()
        return False

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


def _idle_seconds(announced: str) -> float:
    """Return how long a connection may be idle after a response with *announced* in its `keep-alive` field."""
    match = _KEEP_ALIVE_TIMEOUT.search(announced)
    return _IDLE_SECONDS if match is None else min(_IDLE_SECONDS, int(match[1]) - _MARGIN_SECONDS)


def _input_check(tcp: socket.socket) -> Callable[[], bool]:
    """Return a function that looks, without waiting, whether there is something to read, the end included.

    It asks the operating system and costs a microsecond. Bytes of TLS's own, such as a late session ticket, count too:
    they cost no more than a new connection.
    """
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(tcp.fileno(), select.POLLIN)
        return lambda: bool(poll.poll(0))
    return lambda: bool(select.select([tcp], [], [], 0)[0])  # Windows
