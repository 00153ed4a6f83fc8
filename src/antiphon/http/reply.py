"""What the reply of every HTTP transport has: its timeouts, its content coding, and the bound of its body.

And what every request has: where it goes, and the header fields that the connection sets.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the time of the running loop
import functools
import re
from collections.abc import AsyncIterator, Iterator, Mapping

from antiphon.errors import APIConnectionError, APITimeoutError, ResponseTooLargeError, StreamError
from antiphon.formats.codec import Headers, HTTPRequest
from antiphon.http.environment import Origin, origin_of
from antiphon.http.failures import read_error, redirected, timeout_error
from antiphon.http.http1 import Gunzip, MalformedError
from antiphon.http.protocol import NEVER
from antiphon.http.transport import Timeout

__all__ = ["SETTLE_SECONDS", "AnyReply", "aim", "fields", "own_field"]

SETTLE_SECONDS = 0.1
"""How long an answer that is over may keep its body open: as long as OpenAI's client waits (3.54, `_streaming.py`)."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))

_OWN = frozenset(("connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"))
"""Header fields that say where a request goes, where it ends and what becomes of the connection. From a caller they
could make one request look like two."""

_URL = re.compile(r"([^/?#]*//[^/?#]*)([^?#]*)([^#]*)")

_origin_of = functools.lru_cache(maxsize=64)(origin_of)


def aim(url: str) -> tuple[Origin, str]:
    """Read a URL: where to send the request, and what to ask for there.

    Raises:
        APIConnectionError: No request can go there. The URL is not quoted: it may hold a password.
    """
    match = _URL.match(url)
    base, path, query = match.groups() if match else ("", "", "")
    origin = _origin_of(base)
    if isinstance(origin, str):
        del url, match, base, path, query  # a traceback may show them
        raise APIConnectionError(
            f"The URL of the request {origin}. A base URL looks like 'https://api.example.com/v1'.", retryable=False
        )
    return origin, (path or "/") + query


def own_field(headers: Mapping[str, str]) -> str:
    """Return the name of a field among *headers* that is for the connection to set, or `""`."""
    return next((name for name in headers if name.lower() in _OWN), "")


def fields(origin: Origin, request: HTTPRequest, headers: Mapping[str, str]) -> dict[str, str]:
    """Return all header fields of *request* to *origin*, those of the caller in *headers* among them."""
    sent = {
        "host": origin.authority,
        "user-agent": "antiphon",
        "accept": "*/*",
        "accept-encoding": "gzip",
        **request.headers,
        **headers,
    }
    if request.body or request.method not in ("GET", "DELETE"):
        sent["content-length"] = str(len(request.body))
    return sent


class AnyReply:
    """The reply to one request. A transport adds the way to its bytes: `__anext__`."""

    _origin: Origin
    _loop: asyncio.AbstractEventLoop
    # These are set before anything is sent.

    def __init__(self, timeout: Timeout) -> None:
        self.status = 0
        self.headers: Headers = {}
        self.content_type = ""
        self._timeout = timeout
        self._total = self._token = NEVER
        self._got_token = False
        self._begun = False
        """Whether a byte of the body has come."""
        self._gunzip: Gunzip | None = None
        self._unpacked: Iterator[bytes] = iter(())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes of the body."""
        raise NotImplementedError

    def got_token(self) -> None:
        """Let the idle timeout begin again; the first-token timeout is over."""
        idle = self._timeout.idle
        self._got_token, self._token = True, NEVER if idle is None else self._loop.time() + idle

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Its bytes count as tokens, but for white space before the first that is none; those of an error do not.

        Raises:
            ResponseTooLargeError: It has more than *limit* bytes.
        """
        pieces: list[bytes] = []
        size = self._announced()
        if size <= limit:
            size = 0
            async for piece in self:
                size += len(piece)
                if size > limit:
                    break
                pieces.append(piece)
                if self.status < 400 and (self._got_token or not piece.isspace()):
                    self.got_token()
            else:
                return b"".join(pieces)
        raise ResponseTooLargeError(
            f"The answer of {self._origin} is larger than {limit} bytes, the bound set for it.", status=self.status
        )

    def _announced(self) -> int:
        """Return how many bytes of body the head of the reply announces, 0 where it does not say."""
        length = self.headers.get("content-length", "")
        if "transfer-encoding" in self.headers or not (length.isascii() and length.isdigit() and len(length) < 19):
            return 0
        return int(length)

    # When.

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the total timeout begin."""
        self._loop = loop
        if self._timeout.total is not None:
            self._total = loop.time() + self._timeout.total

    def _sent(self) -> None:
        """Let the first-token timeout begin, unless it runs already."""
        if self._timeout.first_token is not None and self._token == NEVER:
            self._token = self._loop.time() + self._timeout.first_token

    def _connect_limit(self) -> tuple[str, float | None]:
        """Return which timeout bounds the connecting that begins now, and the time when it ends."""
        connect = self._timeout.connect
        until = NEVER if connect is None else self._loop.time() + connect
        if self._total < until:
            return "total", self._total
        return "connect", None if until == NEVER else until

    def _ran_out(self, name: str) -> APITimeoutError:
        return timeout_error(self._origin, name, getattr(self._timeout, name))

    def _late(self) -> APITimeoutError:
        """Return the error of the timeout that runs out first."""
        if self._total < self._token:
            return self._ran_out("total")
        return self._ran_out("idle" if self._got_token else "first_token")

    # What.

    def _accept(self, status: int, headers: Headers) -> None:
        """Take the head of the reply.

        Raises:
            APIStatusError: It is a redirect.
            StreamError: Its body is compressed in a way that was not offered.
        """
        self.status, self.headers = status, headers
        self.content_type = headers.get("content-type", "")
        if status in _REDIRECTS:
            failure = redirected(self._origin, status, headers.get("location", ""))
            del headers  # a location may repeat the key, which is then no local of what raises
            raise failure
        coding = headers.get("content-encoding", "identity").lower()
        if coding in ("gzip", "x-gzip"):
            self._gunzip = Gunzip()
        elif coding != "identity":
            raise StreamError(
                f"The answer of {self._origin} is packed as {coding[:100]!r}, though only gzip was offered.",
                status=status,
            )

    def _unpack(self) -> bytes:
        """Return the next uncompressed piece, `b""` where more bytes of the body are needed first."""
        try:
            return next(self._unpacked, b"")
        except MalformedError as error:
            failure = read_error(self._origin, error, self._begun)
        raise failure

    def _end(self) -> None:
        """Take the end of the body.

        Raises:
            StreamError: It ended in the middle of its gzip data.
        """
        if self._gunzip is not None and not self._gunzip.complete:
            raise StreamError(f"The answer of {self._origin} broke off in the middle of its gzip data.")
