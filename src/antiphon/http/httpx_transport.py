"""`HttpxTransport`: requests by way of httpx2, for what our own client leaves out: HTTP/2 and SOCKS.

It costs several times the processor time of `HTTPTransport`. The rules are the same: bytes are handed on as they
arrive, an exchange that is given up is closed at once, redirects are not followed, no cookie is kept, and errors name
`host:port` and nothing else. A request is never sent again.

Each exchange has a client of httpx2, and so a connection, of its own, which the next one uses; over HTTP/2, too.
httpcore2 (2.16) does not reset the stream of an answer that is given up: the server would go on generating it, and
what still came of it would use up the window of the connection that others share. Closing the connection ends it.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - connections belong to the running loop
import functools
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import anyio
from anyio import to_thread

from antiphon.errors import AntiphonError, APIConnectionError, MissingExtraError
from antiphon.formats.codec import HTTPRequest
from antiphon.http.connection import MAX_CONNECTIONS
from antiphon.http.environment import Origin
from antiphon.http.failures import all_in_use, connect_error, no_response_error, read_error
from antiphon.http.http1 import MalformedError, request_head
from antiphon.http.loops import AtTheEnd, PerLoop
from antiphon.http.protocol import NEVER
from antiphon.http.reply import SETTLE_SECONDS, AnyReply, aim, fields, own_field
from antiphon.http.tls import TLS, Certificate, Verify
from antiphon.http.transport import Response, Timeout

if TYPE_CHECKING:
    import httpx2

__all__ = ["HttpxTransport"]

_IDLE_SECONDS = 60.0
_IDLE_CLIENTS = 64
_CLOSE_SECONDS = 1.0
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_INSTALL = "pip install 'antiphon[httpx]'"


class HttpxTransport:
    """HTTP by way of httpx2, which comes with the extra `httpx`: `Client(transport=HttpxTransport(http2=True))`.

    Each event loop has its own connections, closed with it, and so has a forked child. Proxies of the environment are
    used, those of SOCKS too.

    Args:
        http2: Whether to offer HTTP/2; the server chooses.
        proxy: A proxy for every request, in place of the environment's: `http://…`, `https://…` or `socks5://…`.
        verify: Which servers to trust: see `tls.Verify`.
        cert: The client's own certificate: see `tls.Certificate`.
        max_connections: Most open connections, in each event loop.

    Raises:
        MissingExtraError: httpx2, or its part for HTTP/2 or SOCKS, is not installed.
        TypeError: `verify` or `cert` is of a type that it cannot have.
        ValueError: `proxy` does not name a proxy that can be used, or `max_connections` is less than 1.
    """

    def __init__(
        self,
        *,
        http2: bool = False,
        proxy: str | None = None,
        verify: Verify = True,
        cert: Certificate | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections must be 1 or more, not {max_connections}.")
        self._library = _httpx2()
        if http2 and find_spec("h2") is None:
            raise MissingExtraError(f"HTTP/2 needs h2, which is not installed: {_INSTALL}")
        if proxy is not None:
            _check_proxy(proxy, self._library)
        self._http2 = http2
        self._proxy = proxy
        self._tls = TLS(verify, cert)
        self._context: ssl.SSLContext | None = None
        self.most = max_connections
        self._pools = PerLoop(functools.partial(_Pool, most=max_connections))

    def open(
        self, url: str, request: HTTPRequest, *, headers: Mapping[str, str], timeout: Timeout
    ) -> AbstractAsyncContextManager[Response]:
        """Send *request* to *url* and give the reply: see `Transport.open`."""
        return _Exchange(self, url, request, headers, timeout)

    async def aclose(self) -> None:
        """Close what is idle; exchanges in progress go on to their end, new ones are refused."""
        here = asyncio.get_running_loop()
        for loop, pool in self._pools.close().items():
            if loop is here:
                await pool.aclose()
            elif not loop.is_closed():
                asyncio.run_coroutine_threadsafe(pool.aclose(), loop)

    def here(self) -> _Pool:
        """Return the clients of the running loop.

        Raises:
            APIConnectionError: `aclose` was called before, or no loop of asyncio runs.
        """
        return self._pools.here()

    async def client(self) -> httpx2.AsyncClient:
        """Make a client.

        Raises:
            APIConnectionError: A file of certificates or a proxy of the environment cannot be used.
        """
        if self._context is None:
            self._context = await to_thread.run_sync(self._tls.context)
        return self._new_client(self._context)

    def _new_client(self, context: ssl.SSLContext) -> httpx2.AsyncClient:
        library = self._library
        limits = library.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS)
        # What one caller's answer sets must not go along with the request of another.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        try:
            made: httpx2.AsyncClient = library.AsyncClient(
                verify=context, http2=self._http2, proxy=self._proxy, limits=limits, timeout=None, cookies=no_cookies
            )
            return made
        except ImportError:
            failure: AntiphonError = MissingExtraError(
                f"A SOCKS proxy needs socksio, which is not installed: {_INSTALL}"
            )
        except (ValueError, library.InvalidURL):
            failure = APIConnectionError(
                "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY does not name a proxy that can be used: only those like "
                "'http://proxy.example.com:3128' or 'socks5://…' can.",
                retryable=False,
            )
        raise failure


class _Pool:
    """The clients of one event loop that are not in use, and the bound on those that are."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self.loop = loop
        self.places = asyncio.Semaphore(most)
        self._idle: dict[Origin, list[httpx2.AsyncClient]] = {}
        self._count = 0
        self._closed = False
        self.at_the_end = AtTheEnd(self._close)

    def find(self, origin: Origin) -> httpx2.AsyncClient | None:
        """Return a client that has a connection to *origin*, or `None`."""
        idle = self._idle.get(origin)
        if idle is None:
            return None
        client = idle.pop()
        self._count -= 1
        if not idle:
            del self._idle[origin]
        return client

    async def put(self, origin: Origin, client: httpx2.AsyncClient) -> None:
        """Keep a client for the next exchange."""
        if self._closed or self._count >= _IDLE_CLIENTS:
            await client.aclose()
        else:
            self._count += 1
            self._idle.setdefault(origin, []).append(client)

    async def _close(self) -> None:
        self._closed = True
        idle, self._idle = self._idle, {}
        for clients in idle.values():
            for client in clients:
                await client.aclose()

    async def aclose(self) -> None:
        """Close what is idle, and from now on what becomes idle."""
        await self._close()
        await self.at_the_end.aclose()


class _Exchange(AnyReply):
    """One request and its reply, which it is itself once entered."""

    _pool: _Pool
    _client: httpx2.AsyncClient
    _message: httpx2.Request
    _response: httpx2.Response
    _body: AsyncIterator[bytes]
    # These are set on entering.

    def __init__(
        self,
        transport: HttpxTransport,
        url: str,
        request: HTTPRequest,
        headers: Mapping[str, str],
        timeout: Timeout,
    ) -> None:
        super().__init__(timeout)
        self._transport = transport
        self._url = url
        self._request = request
        self._fields: Mapping[str, str] | None = headers
        self._errors = _httpx2()
        self._limit = asyncio.timeout_at(None)
        self._has_place = False
        self._opening: Any = None
        """The TCP stream of a connection that is being made."""
        self._is_sent = False
        self._complete = False
        self._over = False

    async def __aenter__(self) -> Self:
        # Nothing secret may be a local variable here or in what this calls: tracebacks are printed with locals, too.
        self._origin, target = aim(self._url)
        self._pool = self._transport.here()
        self._start(self._pool.loop)
        fault = self._write(target)
        if fault:
            raise APIConnectionError(f"The request to {self._origin} was not sent. {fault}", retryable=False)
        await self._pool.at_the_end.begin()
        name, until = self._connect_limit()
        self._limit = asyncio.timeout_at(until)
        try:
            async with self._limit:
                await self._send()
            self._take_head()
        except (self._errors.HTTPError, OSError) as error:
            failure = self._late_on_the_way(name) if self._limit.expired() else self._unanswered(error)
        except BaseException:
            await self._close(keep=False)
            raise
        else:
            return self
        await self._close(keep=False)
        raise failure

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        await self._close(keep=self._complete)

    async def _send(self) -> None:
        """Take a client and send the request with it, up to the head of the reply."""
        await self._pool.places.acquire()
        self._has_place = True
        self._client = self._pool.find(self._origin) or await self._transport.client()
        self._response = await self._client.send(self._message, stream=True, auth=None, follow_redirects=False)

    async def _close(self, *, keep: bool) -> None:
        """Give back the place, and the client with its connection where it is fit to *keep*."""
        if not self._has_place:
            return
        try:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                if hasattr(self, "_response"):
                    await self._response.aclose()
                if keep:
                    await self._pool.put(self._origin, self._client)
                elif hasattr(self, "_client"):
                    await self._client.aclose()
                if self._opening is not None:
                    # httpcore2 leaves the socket open where it is cancelled in the middle of a TLS handshake.
                    await self._opening.aclose()
        finally:
            self._pool.places.release()

    async def __anext__(self) -> bytes:
        if self._over:
            raise RuntimeError("This reply is over: its body can only be read inside of `async with`.")
        while True:
            if self._gunzip is not None and (piece := self._unpack()):
                return piece
            data = await self._receive()
            if not data:
                self._end()
                raise StopAsyncIteration
            self._begun = True
            if self._gunzip is None:
                return data
            self._unpacked = self._gunzip.feed(data)

    async def settle(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not self._complete:
                    self._complete = not await anext(self._body, b"")
        except (self._errors.HTTPError, OSError):  # TimeoutError is one
            return

    def _write(self, target: str) -> str:
        """Make the request. Return what is wrong with it, and then make none."""
        own = own_field(self._fields or {})
        if own:
            return f"The header field {own!r} is for the connection to set: leave it out of extra_headers."
        sent = fields(self._origin, self._request, self._fields or {})
        try:
            request_head(self._request.method, target, sent)  # whose errors quote no value
        except ValueError as error:
            return str(error)
        self._message = self._errors.Request(
            self._request.method,
            f"{self._origin.scheme}://{self._origin}{target}",
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
            content=self._request.body,
            # Our own timeouts count.
            extensions={"timeout": {}, "trace": self._trace},
        )
        self._fields = None
        return ""

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take what httpcore2 reports of its work: when the request goes out, the first-token timeout begins."""
        if event.endswith(".connect_tcp.complete"):
            self._opening = info["return_value"]
        elif event.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
            self._sent()
            self._opening, self._is_sent = None, True
            self._limit.reschedule(_or_none(min(self._token, self._total)))

    def _take_head(self) -> None:
        self._body = self._response.aiter_raw()
        headers = {name.lower(): value for name, value in self._response.headers.items()}
        if any(map(_CONTROL.search, headers.values())):
            raise no_response_error(self._origin, MalformedError("a header field holds a control character"))
        self._accept(self._response.status_code, headers)

    def _late_on_the_way(self, name: str) -> APIConnectionError:
        """Return the error of the timeout that ran out before the head of the reply."""
        if not self._has_place:
            return all_in_use(self._origin, self._transport.most, name, getattr(self._timeout, name))
        return self._late() if self._is_sent else self._ran_out(name)

    async def _receive(self) -> bytes:
        """Return the next bytes of the body, `b""` at its end."""
        if self._complete:
            return b""
        until = min(self._token, self._total)
        if until < self._loop.time():
            raise self._late()  # what came without end meanwhile said nothing
        limit = asyncio.timeout_at(_or_none(until))
        try:
            async with limit:
                data = await anext(self._body, b"")
        except (self._errors.HTTPError, OSError) as error:
            failure = self._late() if limit.expired() else read_error(self._origin, _os_error(error), self._begun)
        else:
            self._complete = not data
            return data
        raise failure

    def _unanswered(self, error: Exception) -> APIConnectionError:
        """Say why no head of a reply came, in words that quote nothing."""
        errors = self._errors
        if isinstance(error, errors.ProxyError):
            return APIConnectionError(f"The proxy opened no connection to {self._origin}.")
        if isinstance(error, errors.UnsupportedProtocol | errors.LocalProtocolError):
            return APIConnectionError(f"The request to {self._origin} cannot be sent over HTTP.", retryable=False)
        if isinstance(error, errors.ConnectError):
            return connect_error(self._origin, None, _os_error(error))
        if isinstance(error, errors.RemoteProtocolError) and "disconnected" not in str(error):
            return no_response_error(self._origin, MalformedError("what came is not the head of a response"))
        return no_response_error(self._origin, _os_error(error))


def _httpx2() -> Any:
    """Return the library; `Any`, as it may not be there.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        return import_module("httpx2")
    except ModuleNotFoundError:
        raise MissingExtraError(f"HttpxTransport needs httpx2, which is not installed: {_INSTALL}") from None


def _check_proxy(proxy: str, library: Any) -> None:
    try:
        scheme = library.Proxy(proxy).url.scheme
    except (ValueError, TypeError, library.InvalidURL):
        scheme = ""
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise MissingExtraError(f"A SOCKS proxy needs socksio, which is not installed: {_INSTALL}")
    if not scheme:
        raise ValueError("proxy must be a URL like 'http://proxy.example.com:3128' or 'socks5://localhost:1080'.")


def _or_none(until: float) -> float | None:
    return None if until == NEVER else until


def _os_error(error: BaseException) -> OSError:
    """Return the error of the system below one of httpx2's, whose own words may quote what was sent."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, BaseExceptionGroup):  # of anyio's attempts to connect to several addresses
            below = cast(BaseExceptionGroup[BaseException], below).exceptions[-1]
        if isinstance(below, OSError) and below.errno is not None:
            return below
        below = below.__cause__ or below.__context__
    return ConnectionAbortedError("the connection was closed")
