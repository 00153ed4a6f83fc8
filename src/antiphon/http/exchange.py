"""`HTTPTransport`: HTTP/1.1 on the running event loop of asyncio.

Rules:
- An exchange that is given up, by an error, a timeout, `break` or a cancelled task, closes its connection at once, in
  whatever phase it is. One that was read to its end leaves the connection for the next.
- A request is sent again in one case only, and once: the connection had been used before and ended before a byte of
  the reply. The server closed it then as the request was on its way.
- Redirects are not followed: the key would go along.
- Errors name `host:port` and nothing else of a URL, no header, and carry no lower error as cause or context.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - connections are protocols of the running loop
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from antiphon.errors import APIConnectionError
from antiphon.formats.codec import HTTPRequest
from antiphon.http.connection import MAX_CONNECTIONS, Connections, Pool
from antiphon.http.failures import all_in_use, connect_error, no_response_error, read_error
from antiphon.http.http1 import MalformedError, ResponseReader, request_head
from antiphon.http.protocol import Connection
from antiphon.http.reply import SETTLE_SECONDS, AnyReply, aim, fields, own_field
from antiphon.http.tls import TLS, Certificate, Verify
from antiphon.http.transport import Response, Timeout

__all__ = ["HTTPTransport"]

_READ_AT_ONCE = 64 * 1024
"""Bytes of a request that a server is taken to have read when it answers with an error."""


class HTTPTransport:
    """HTTP/1.1 over TCP or TLS; idle connections are kept for a minute, or as long as the server says.

    Proxies and certificates are as the environment says when the first connection is opened (see `network.py`). Each
    event loop has its own connections, closed with it, and so has a forked child.

    Args:
        verify: Which servers to trust with TLS: see `tls.Verify`.
        cert: The client's own certificate, where a server asks for one: see `tls.Certificate`.
        max_connections: Most open connections to one origin, in each event loop. Who needs one more waits for it, up
            to the connect timeout.

    Raises:
        TypeError: `verify` or `cert` is of a type that it cannot have.
        ValueError: `max_connections` is less than 1.
    """

    def __init__(
        self,
        *,
        verify: Verify = True,
        cert: Certificate | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections must be 1 or more, not {max_connections}.")
        self._connections = Connections(TLS(verify, cert), most=max_connections)

    def open(
        self, url: str, request: HTTPRequest, *, headers: Mapping[str, str], timeout: Timeout
    ) -> AbstractAsyncContextManager[Response]:
        """Send *request* to *url* and give the reply: see `Transport.open`."""
        return _Exchange(self._connections, url, request, headers, timeout)

    async def aclose(self) -> None:
        """Close what is idle; exchanges in progress go on to their end, new ones are refused."""
        await self._connections.aclose()


class _Exchange(AnyReply):
    """One request and its reply, which it is itself once entered."""

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
        super().__init__(timeout)
        self._connections = connections
        self._url = url
        self._request = request
        self._fields: Mapping[str, str] | None = headers
        self._over = False

    async def __aenter__(self) -> Self:
        # Nothing secret may be a local variable here or in what this calls: tracebacks are printed with locals, too.
        self._origin, self._target = aim(self._url)
        pool = self._pool = self._connections.here()
        self._start(pool.loop)
        if not pool.enter(self._origin):
            await self._wait_for_a_place()
        try:
            if not await self._ask(pool.find(self._origin) or await self._connect()):
                await self._ask(await self._connect())  # a new connection that ends is an error
        except BaseException:
            pool.leave(self._origin)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        try:
            if self._connection.reusable:
                self._pool.put(self._connection)
            else:
                await self._give_up(error)
        finally:
            self._pool.leave(self._origin)

    async def __anext__(self) -> bytes:
        if self._over:
            raise RuntimeError("This reply is over: its body can only be read inside of `async with`.")
        connection = self._connection
        if min(self._token, self._total) < self._loop.time() and not self._reader.complete:
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
                self._end()
                raise StopAsyncIteration
            elif connection.fault is not None:
                raise read_error(self._origin, connection.fault, self._begun)
            else:
                await self._wait()

    async def settle(self) -> None:
        deadline = self._loop.time() + SETTLE_SECONDS
        while not self._reader.complete and self._connection.fault is None:
            self._connection.take()
            try:
                await self._connection.wait(deadline)
            except TimeoutError:
                return

    async def _wait_for_a_place(self) -> None:
        """Wait until fewer connections than may be are in use, within the time that connecting has."""
        name, until = self._connect_limit()
        try:
            async with asyncio.timeout_at(until):
                await self._pool.wait_to_enter(self._origin)
        except TimeoutError:
            failure = all_in_use(self._origin, self._pool.most, name, getattr(self._timeout, name))
        else:
            return
        raise failure

    async def _connect(self) -> Connection:
        """Open a connection within the connect timeout or the total one, whichever is first."""
        context = await self._connections.context(self._origin)
        name, until = self._connect_limit()
        limit = asyncio.timeout_at(until)
        try:
            async with limit:
                return await self._connections.connect(self._pool, self._origin, context)
        except OSError as error:  # TimeoutError is one
            if limit.expired():
                failure: APIConnectionError = self._ran_out(name)
            else:
                failure = connect_error(self._origin, self._connections.proxy(self._origin), error)
        raise failure

    async def _ask(self, connection: Connection) -> bool:
        """Send the request and take the head of its reply.

        Returns:
            Whether there is one. `False`: the connection had been used before, and ended before a byte of a reply.
        """
        self._connection = connection
        try:
            fault = self._send()
            if fault:
                raise APIConnectionError(f"The request to {self._origin} was not sent. {fault}", retryable=False)
            self._sent()
            reader = self._reader
            while not reader.status:
                if connection.fault is not None:
                    if connection.reused and not (reader.started or isinstance(connection.fault, MalformedError)):
                        return False
                    raise no_response_error(self._origin, connection.fault)
                await self._wait()
            self._fields = None
            if connection.unsent or (reader.status >= 400 and len(self._request.body) > _READ_AT_ONCE):
                # The server may not have read all of the request, and would take the rest for the next one.
                reader.keep_alive = False
            self._accept(reader.status, reader.headers)
        except BaseException as error:
            await self._give_up(error)
            raise
        return True

    def _send(self) -> str:
        """Send the request. Return what is wrong with it, and then send nothing."""
        request, connection, target = self._request, self._connection, self._target
        own = own_field(self._fields or {})
        if own:
            return f"The header field {own!r} is for the connection to set: leave it out of extra_headers."
        sent = fields(self._origin, request, self._fields or {})
        if connection.via is not None:
            target = f"{self._origin.scheme}://{self._origin.authority}{target}"
            if connection.via.authorization is not None:
                sent["proxy-authorization"] = connection.via.authorization
        try:
            head = request_head(request.method, target, sent)
        except ValueError as error:
            return str(error)
        self._reader = ResponseReader()
        connection.send(head, request.body, self._reader)
        return ""

    async def _wait(self) -> None:
        """Wait for more to come, by whichever timeout runs out first."""
        try:
            await self._connection.wait(min(self._token, self._total))
        except TimeoutError:
            failure = self._late()
        else:
            return
        raise failure

    async def _give_up(self, error: BaseException | None) -> None:
        """Close the connection. The loop needs one more turn for it, unless a cancelled task yields to it anyway."""
        self._connection.abort()
        if error is None or isinstance(error, Exception):
            await asyncio.sleep(0)
