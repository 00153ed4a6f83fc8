"""The one seam to the network: a request goes out, the bytes of its answer come in, as they arrive.

`Transport` is small on purpose: another HTTP library behind it is a page of code. `antiphon.http` is the one that comes
with Antiphon.

Rules:

* Four clocks, each with an error that names it: connect, first token, idle, total (`Timeout`).
* An exchange that is given up closes its connection at once; one that was read to its end leaves it for the next.
* Redirects are not followed: a key must never go where the caller did not send it.
* Errors name the host and the port, never the rest of a URL, a header or a body.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from numbers import Real
from typing import Protocol, SupportsFloat

import msgspec

from antiphon.formats.codec import Headers, HTTPRequest

__all__ = ["Response", "Timeout", "Transport"]


class Timeout(msgspec.Struct, frozen=True):
    """The clocks of a call, in seconds; `None` stops a clock.

    The defaults end a stream that went silent, and leave a long answer alone: a reasoning model may think for minutes
    before its first token, so that clock is long; once tokens come, none takes two minutes; and there is no bound on
    the whole, because an answer that still arrives is worth waiting for.
    """

    connect: float | None = 10.0
    """Until the connection stands, name look-up and TLS included."""
    first_token: float | None = 300.0
    """From the start until the answer brings something: the first token of a stream, the first byte of a whole answer.
    Keep-alive bytes do not count."""
    idle: float | None = 120.0
    """Between two pieces of the answer, which are any bytes of a whole one; comments and pings are none."""
    total: float | None = None
    """From the start to the last byte."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            seconds = getattr(self, name)
            if seconds is not None and not isinstance(seconds, Real):
                raise TypeError(
                    f"The {name} clock must be a number of seconds, or None for no limit; "
                    f"it is of the type {type(seconds).__name__}."
                )
            if seconds is not None and not float(seconds) > 0:
                raise ValueError(
                    f"The {name} clock must be more than 0 seconds, or None for no limit; not {seconds!r}."
                )

    @classmethod
    def of(cls, value: float | timedelta | Timeout | None) -> Timeout:
        """Return *value* as clocks: a number of seconds or a `timedelta` is the total, `None` means the defaults.

        Raises:
            ValueError: A clock is not more than 0.
            TypeError: *value* is none of these.
        """
        if value is None:
            return _DEFAULT
        if isinstance(value, Timeout):
            return value
        if isinstance(value, timedelta):
            return cls(total=value.total_seconds())
        if not isinstance(value, SupportsFloat):
            raise TypeError(
                "timeout must be a number of seconds, a timedelta or an antiphon.http.transport.Timeout; "
                f"it is of the type {type(value).__name__}."
            )
        return cls(total=float(value))


_DEFAULT = Timeout()


class Response(Protocol):
    """The answer to one request, from its head on; `async for` gives the pieces of its body as they arrive."""

    status: int
    headers: Headers

    @property
    def content_type(self) -> str:
        """The `content-type` header, or `""`."""
        ...

    def got_token(self) -> None:
        """Say that the answer brought something: the idle clock begins anew, and the first-token clock is over."""
        ...

    async def settle(self) -> None:
        """Say that nothing of the rest matters, and wait a moment for the end: who reads to it keeps the connection."""
        ...

    async def read(self, limit: int) -> bytes:
        """Return the whole body. Its bytes count as tokens, but for white space before the first that is none.

        Raises:
            ResponseTooLargeError: It has more than *limit* bytes.
        """
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Transport(Protocol):
    """Carries requests."""

    def open(
        self, url: str, request: HTTPRequest, *, headers: Mapping[str, str], timeout: Timeout
    ) -> AbstractAsyncContextManager[Response]:
        """Send *request* to *url* with *headers*; entering gives the reply once its head is there.

        Raises:
            APIConnectionError: No connection, or none that lasted until the head.
            APITimeoutError: A clock ran out.
            StreamError: The connection broke within the body.
        """
        ...

    async def aclose(self) -> None:
        """Close what is idle; exchanges under way go on to their end, new ones are refused."""
        ...
