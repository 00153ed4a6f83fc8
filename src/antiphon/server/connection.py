"""Floor 6: uvicorn's HTTP/1.1 protocol with bounds on the head of a request: its size, and the time it takes."""

from __future__ import annotations

import re
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


_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


def _without_upgrade(data: bytes) -> bytes:
    """Return a head without its offer to go on in another protocol, which a server may pass over.

    The parser would take the body for the beginning of that: some clients make the offer with every request, such as
    Java's, for HTTP/2.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head) + end + rest


class _Joined:
    """A transport that sends the head of an answer together with the first of its body, which always follows at once.

    uvicorn writes the one before it knows of the other: two system calls, and two packets, where one will do.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.get_extra_info = transport.get_extra_info
        self.abort = transport.abort
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        """Send *data*, or keep it if it is a head."""
        if data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and not data.startswith(b"HTTP/1.1 1"):
            self._head += data
        else:
            self._transport.write(self._head + data if self._head else data)
            self._head = b""

    def flush(self) -> None:
        """Send a head that nothing followed: the answer to HEAD has no body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close the connection once all was sent."""
        self.flush()
        self._transport.close()


class _Connection(HttpToolsProtocol):
    """One connection.

    What a client sends and what it leaves unread has bounds, on its size and on the time it takes: without them a
    client could hold memory and connections for nothing. While a request is answered, its `Exchange` sees to that; here
    is what lies before, between and after. What the parser refuses is answered in JSON: which dialect it was to be in
    is not known there, so it is OpenAI's.
    """

    limits: Callable[[], Limits]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.leaving: set[Callable[[], None]] = set()
        self._timer: TimerHandle | None = None
        """Of what the client has to send."""
        self._unread: tuple[int, TimerHandle] | None = None
        """Bytes that the client had yet to take when an answer was over, and when to look again."""
        self._head_bytes = 0
        self._in_head = True
        self._in_message = False
        self._why = (HTTPStatus.BAD_REQUEST, "This is not an HTTP/1.1 request.")

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._joined = _Joined(transport)
        self.transport = self._joined  # type: ignore[assignment]
        self._await(self.limits().head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._unread is not None:
            self._unread[1].cancel()
        super().connection_lost(exc)
        for leave in list(self.leaving):
            leave()

    def abort(self) -> None:
        """Close it now, whatever is still to be sent."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # it was refused: the rest of it is of no interest
        if (self._in_head or not self._in_message) and b"pgrade" in data:
            data = _without_upgrade(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits().header_bytes:
                self._too_large()
                self.send_400_response("")
        elif self._timer is None and not self._in_message and self.cycle.response_complete:
            self._await(self.limits().head_seconds)  # whatever came, uvicorn's own clock for idle connections is off

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["antiphon"] = self  # type: ignore[typeddict-unknown-key]
        self._in_head = self._in_message = True
        self._head_bytes = 0
        if self._timer is None:
            self._await(self.limits().head_seconds)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.limits().header_bytes:
            self._too_large()
            raise _Refused
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._joined.flush()
        super().on_response_complete()
        if (
            self._in_message and self.cycle.response_complete
        ):  # refused early: the rest of the body is not waited for long
            self._await(self.limits().body_seconds)
        if self._unread is None:
            self._look_after_unread()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, unless an answer is under way, which it would then stand in the middle of."""
        self._stop_timer()
        if not self._answering():
            status, why = self._why
            error = APIStatusError(why, status=status, type="invalid_request_error", code="bad_http")
            reply = OpenAIChat().encode_error(error)
            fields = {"content-type": "application/json", "content-length": len(reply.body), "connection": "close"}
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            self.transport.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + reply.body)
        self.transport.close()

    def _answering(self) -> bool:
        """Whether a client would take an answer now for that to an earlier request, or for a part of it."""
        cycle = self.cycle
        if not cycle or cycle.response_complete:
            return False
        if self.pipeline or cycle.response_started or not cycle.more_body:
            return True
        cycle.disconnected = True  # it is the body of this very request that has a fault: nobody else is to answer
        return False

    def _too_large(self) -> None:
        most = self.limits().header_bytes
        self._why = (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The head of the request is larger than the {most:,} bytes that this server takes.",
        )

    def _await(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._in_head and self._in_message:
            self._why = (HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not arrive in time.")
            self.send_400_response("")
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_after_unread(self) -> None:
        """Close the connection if the client takes nothing more of what was written to it."""
        left = self.transport.get_write_buffer_size()
        if left and self._unread is not None and left >= self._unread[0] and self.cycle.response_complete:
            self.transport.abort()
        elif left:
            timer = self.loop.call_later(self.limits().write_seconds, self._look_after_unread)
            self._unread = (left, timer)
        else:
            self._unread = None


def protocol(limits: Callable[[], Limits]) -> type[HttpToolsProtocol]:
    """Return the protocol of connections that are bounded as *limits* says at the time."""
    return type("Connection", (_Connection,), {"limits": staticmethod(limits)})
