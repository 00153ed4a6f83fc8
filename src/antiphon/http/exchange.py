"""Floor 3: `HTTPTransport`: HTTP/1.1 on the running event loop of asyncio.

Rules:
- An exchange that is given up, by an error, a clock, `break` or a cancelled task, closes its connection at once, in
  whatever phase it is. One that was read to its end leaves the connection for the next.
- Redirects are not followed: the key would go along.
- Errors name `host:port` and nothing else of a URL, no header, and carry no lower error as cause or context.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - connections are protocols of the running loop
import functools
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from antiphon.errors import APIConnectionError, APITimeoutError, ResponseTooLargeError, StreamError
from antiphon.http.connection import NEVER, Connection, Connections, Pool
from antiphon.http.failures import broken, ran_out, redirected, unanswered, unreachable
from antiphon.http.network import Origin, origin_of
from antiphon.transport import Reply, Timeout
from antiphon.wire.codec import Headers, HTTPRequest
from antiphon.wire.http1 import Gunzip, MalformedError, ResponseReader, request_head

__all__ = ["HTTPTransport"]

_SETTLE_SECONDS = 0.1
"""How long an answer that is over may keep its body open: as long as OpenAI's client waits (3.54, `_streaming.py`)."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))

_OWN = frozenset(("connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"))
"""Header fields that say where a request goes, where it ends and what becomes of the connection. From anybody else they
could make one request look like two."""


class HTTPTransport:
    """HTTP/1.1 over TCP or TLS; idle connections are kept for a minute.

    Proxies and certificates are as the environment says when the first connection is opened (see `network.py`). Each
    event loop has its own connections, closed with it, and so has a forked child.
    """

    def __init__(self) -> None:
        self._connections = Connections()

    def open(
        self, url: str, request: HTTPRequest, *, headers: Mapping[str, str], timeout: Timeout
    ) -> AbstractAsyncContextManager[Reply]:
        """Send *request* to *url* and give the reply: see `Transport.open`."""
        return _Exchange(self._connections, url, request, headers, timeout)

    async def aclose(self) -> None:
        """Close what is idle; exchanges under way go on to their end, new ones are refused."""
        await self._connections.aclose()


class _Exchange:
    """One request and its reply, which it is itself once entered."""

    _origin: Origin
    _target: str
    _pool: Pool
    _connection: Connection
    _reader: ResponseReader
    # These are set on entering.

    def __init__(
        self,
        connections: Connections,
        url: str,
        request: HTTPRequest,
        headers: Mapping[str, str],
        timeout: Timeout,
    ) -> None:
        self.status = 0
        self.headers: Headers = {}
        self.content_type = ""
        self._connections = connections
        self._url = url
        self._request = request
        self._fields: Mapping[str, str] | None = headers
        self._timeout = timeout
        self._total = self._token = NEVER
        self._got_token = False
        self._begun = False
        self._over = False
        self._gunzip: Gunzip | None = None
        self._unpacked: Iterator[bytes] = iter(())

    async def __aenter__(self) -> Self:
        # Nothing secret may be a local variable here or in what this calls: tracebacks are printed with locals, too.
        fault = self._aim()
        if fault:
            raise APIConnectionError(
                f"The URL of the request {fault}. A base URL looks like 'https://api.example.com/v1'.",
                retryable=False,
            )
        pool = self._pool = self._connections.here()
        if self._timeout.total is not None:
            self._total = pool.loop.time() + self._timeout.total
        connection = self._connection = await pool.find(self._origin) or await self._connect()
        try:
            fault = self._send()
            if fault:
                raise APIConnectionError(f"The request to {self._origin} was not sent. {fault}", retryable=False)
            if self._timeout.first_token is not None:
                self._token = pool.loop.time() + self._timeout.first_token
            while not self._reader.status:
                if connection.fault is not None:
                    raise unanswered(self._origin, connection.fault)
                await self._wait()
            self._accept()
        except BaseException as error:
            await self._give_up(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        if self._connection.reusable:
            self._pool.put(self._connection)
        else:
            await self._give_up(error)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise RuntimeError("This reply is over: its body can only be read inside of `async with`.")
        connection = self._connection
        if min(self._token, self._total) < self._pool.loop.time() and not self._reader.complete:
            raise self._late()  # what came without end meanwhile said nothing
        while True:
            if self._gunzip is not None and (piece := self._unpack()):
                return piece
            data = connection.take()
            if data:
                self._begun = True
                if self._gunzip is None:
                    return data
                self._unpacked = self._gunzip.feed(data)
            elif self._reader.complete:
                if self._gunzip is not None and not self._gunzip.complete:
                    raise StreamError(f"The answer of {self._origin} broke off in the middle of its gzip data.")
                raise StopAsyncIteration
            elif connection.fault is not None:
                raise broken(self._origin, connection.fault, self._begun)
            else:
                await self._wait()

    async def settle(self) -> None:
        deadline = self._pool.loop.time() + _SETTLE_SECONDS
        while not self._reader.complete and self._connection.fault is None:
            self._connection.take()
            try:
                await self._connection.wait(deadline)
            except TimeoutError:
                return

    async def read(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = self._reader.length or 0
        if size <= limit:
            size = 0
            async for piece in self:
                size += len(piece)
                if size > limit:
                    break
                pieces.append(piece)
            else:
                return b"".join(pieces)
        raise ResponseTooLargeError(
            f"The answer of {self._origin} is larger than {limit} bytes, the bound set for it.", status=self.status
        )

    def got_token(self) -> None:
        idle = self._timeout.idle
        self._got_token, self._token = True, NEVER if idle is None else self._pool.loop.time() + idle

    async def _connect(self) -> Connection:
        """Open a connection within the connect clock or the total one, whichever is first."""
        clock, seconds = "connect", self._timeout.connect
        if self._timeout.total is not None and (seconds is None or self._timeout.total < seconds):
            clock, seconds = "total", self._timeout.total
        context = await self._connections.context(self._origin)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self._connections.connect(self._pool, self._origin, context)
        except OSError as error:  # TimeoutError is one
            if limit.expired():
                failure: APIConnectionError = ran_out(self._origin, clock, seconds)
            else:
                failure = unreachable(self._origin, self._connections.proxy(self._origin), error)
        raise failure

    def _aim(self) -> str:
        """Read the URL: where to send the request, and what to ask for there. Return what is wrong with it."""
        match = _URL.match(self._url)
        base, path, query = match.groups() if match else ("", "", "")
        origin = _origin_of(base)
        if isinstance(origin, str):
            return origin
        self._origin, self._target = origin, (path or "/") + query
        return ""

    def _send(self) -> str:
        """Send the request. Return what is wrong with it, and then send nothing."""
        request, connection, target = self._request, self._connection, self._target
        own = next((name for name in self._fields or () if name.lower() in _OWN), None)
        if own is not None:
            return f"The header field {own!r} is for the connection to set: leave it out of extra_headers."
        fields = {
            "host": self._origin.authority,
            "user-agent": "antiphon",
            "accept": "*/*",
            "accept-encoding": "gzip",
            **request.headers,
            **(self._fields or {}),
        }
        if request.body or request.method not in ("GET", "DELETE"):
            fields["content-length"] = str(len(request.body))
        if connection.via is not None:
            target = f"{self._origin.scheme}://{self._origin.authority}{target}"
            if connection.via.authorization is not None:
                fields["proxy-authorization"] = connection.via.authorization
        try:
            head = request_head(request.method, target, fields)
        except ValueError as error:
            return str(error)
        self._fields = None
        self._reader = ResponseReader()
        connection.send(head, request.body, self._reader)
        return ""

    def _accept(self) -> None:
        """Take the head of the reply."""
        reader = self._reader
        self.status, self.headers = reader.status, reader.headers
        self.content_type = reader.headers.get("content-type", "")
        if self.status in _REDIRECTS:
            raise redirected(self._origin, self.status, reader.headers.get("location", ""))
        coding = reader.headers.get("content-encoding", "identity").lower()
        if coding in ("gzip", "x-gzip"):
            self._gunzip = Gunzip()
        elif coding != "identity":
            raise StreamError(
                f"The answer of {self._origin} is packed as {coding!r}, though only gzip was offered.",
                status=self.status,
            )

    def _unpack(self) -> bytes:
        """Return the next unpacked piece, `b""` where packed bytes are wanted first."""
        try:
            return next(self._unpacked, b"")
        except MalformedError as error:
            failure = broken(self._origin, error, self._begun)
        raise failure

    async def _wait(self) -> None:
        """Wait for more to come, by whichever clock runs out first."""
        try:
            await self._connection.wait(min(self._token, self._total))
        except TimeoutError:
            failure = self._late()
        else:
            return
        raise failure

    def _late(self) -> APITimeoutError:
        """Return the error of the clock that runs out first."""
        clock = "idle" if self._got_token else "first_token"
        if self._total < self._token:
            clock = "total"
        return ran_out(self._origin, clock, getattr(self._timeout, clock))

    async def _give_up(self, error: BaseException | None) -> None:
        """Close the connection. The loop needs one more turn for it, unless a cancelled task yields to it anyway."""
        self._connection.abort()
        if error is None or isinstance(error, Exception):
            await asyncio.sleep(0)


_URL = re.compile(r"([^/?#]*//[^/?#]*)([^?#]*)([^#]*)")

_origin_of = functools.lru_cache(maxsize=64)(origin_of)
