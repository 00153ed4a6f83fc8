"""Floor 6: uvicorn's HTTP/1.1 protocol with bounds on the head of a request: its size, and the time it takes."""

from __future__ import annotations

from asyncio import TimerHandle, Transport  # noqa: TID251 - only for types: a uvicorn protocol is one of asyncio's
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.config import Limits
from antiphon.errors import APIStatusError
from antiphon.wire.openai_chat import OpenAIChat

__all__ = ["protocol"]


class _Refused(Exception):
    """What comes is no request that this server takes; raised inside the parser, which stops at it."""


class _Connection(HttpToolsProtocol):
    """One connection.

    The head of a request has a bound on its size and one on the time it takes: without them a client could hold memory
    and connections for nothing. What the parser refuses is answered in JSON: which dialect it was to be in is not
    known there, so it is OpenAI's.
    """

    limits: Callable[[], Limits]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.leaving: set[Callable[[], None]] = set()
        self._head_timer: TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._why = (HTTPStatus.BAD_REQUEST, "This is not an HTTP/1.1 request.")

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        for leave in list(self.leaving):
            leave()

    def abort(self) -> None:
        """Close it now, whatever is still to be sent."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # it was refused: the rest of it is of no interest
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.limits().header_bytes:
                self._too_large()
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["antiphon"] = self  # type: ignore[typeddict-unknown-key]
        self._in_head = True
        self._head_bytes = 0
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.limits().header_bytes:
            self._too_large()
            raise _Refused
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, unless an answer is under way, which it would then stand in the middle of."""
        self._stop_timer()
        answering = self.cycle and not self.cycle.response_complete
        if not answering:
            status, why = self._why
            error = APIStatusError(why, status=status, type="invalid_request_error", code="bad_http")
            reply = OpenAIChat().encode_error(error)
            fields = {"content-type": "application/json", "content-length": len(reply.body), "connection": "close"}
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            self.transport.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + reply.body)
        self.transport.close()

    def _too_large(self) -> None:
        most = self.limits().header_bytes
        self._why = (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The head of the request is larger than the {most:,} bytes that this server takes.",
        )

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits().head_seconds, self._head_late)

    def _head_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._why = (HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not arrive in time.")
            self.send_400_response("")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def protocol(limits: Callable[[], Limits]) -> type[HttpToolsProtocol]:
    """Return the protocol of connections that are bounded as *limits* says when they are made."""
    return type("Connection", (_Connection,), {"limits": staticmethod(limits)})
