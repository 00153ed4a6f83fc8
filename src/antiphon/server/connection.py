"""Uvicorn's HTTP/1.1 protocol with bounds on what is not a body: its size, and the time that it takes."""

from __future__ import annotations

from asyncio import TimerHandle, Transport  # noqa: TID251 - only for types: a uvicorn protocol is one of asyncio's
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from antiphon.errors import APIStatusError
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.settings.config import Limits

__all__ = ["protocol"]

_SLICE = 8192
"""Bytes that are parsed at a time. The parser cannot be stopped, and every 25 of them may be a request."""
_PIPELINED = 16
"""Requests that may wait for the answer to an earlier one before no more is parsed."""
_CHUNK = 16
"""Bytes around the data of a chunk that it needs: its size and two line ends."""


class _Refused(Exception):
    """What comes is no request that this server takes; raised inside the parser, which stops at it."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def _malformed(why: str = "This is not an HTTP/1.1 request.") -> _Refused:
    return _Refused(HTTPStatus.BAD_REQUEST, why)


def _reason(error: BaseException | None) -> tuple[HTTPStatus, str]:
    """Return what to answer. The error itself is not kept: its frames hold the connection."""
    refused = error if isinstance(error, _Refused) else _malformed()
    return refused.status, refused.why


def _too_large(most: int, what: str = "The head of the request is") -> _Refused:
    return _Refused(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"{what} larger than the {most:,} bytes that this server takes."
    )


class _Trailers(list[tuple[bytes, bytes]]):
    """Where fields go that come after the head: nowhere.

    Neither uvicorn nor the application may take them for header fields: a proxy looks at the head alone. They are
    counted with it.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        super().__init__()
        self._limits = limits
        self.size = 0
        """Bytes of the head, and of what came since."""

    def append(self, field: tuple[bytes, bytes], /) -> None:
        """Count a field."""
        self.size += len(field[0]) + len(field[1]) + 4
        if self.size > (most := self._limits().header_bytes):
            raise _too_large(most, "The head of the request and its trailer fields are")


class _Joined:
    """A transport that sends the head of an answer together with the first of its body, which always follows at once.

    uvicorn writes the one before it knows of the other: two system calls, and two packets, where one will do.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head = b""
        self._reading = True
        self._paused = self._held = False
        self.is_closing = transport.is_closing
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.get_extra_info = transport.get_extra_info
        self.abort = transport.abort

    def write(self, data: bytes) -> None:
        """Send *data*, or keep it if it is a head. Nothing can be sent once the connection closes."""
        if self._transport.is_closing():
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and not data.startswith(b"HTTP/1.1 1"):
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

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`, for uvicorn."""
        self._paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """Read again, unless what was read is still held back."""
        self._paused = False
        self._read_or_not()

    def hold(self, held: bool) -> None:
        """Read nothing as long as something that was read is *held* back, whatever uvicorn says."""
        self._held = held
        self._read_or_not()

    def _read_or_not(self) -> None:
        reading = not (self._paused or self._held)
        if reading != self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()


class _Connection(HttpToolsProtocol):
    """One connection.

    What a client sends and what it leaves unread has bounds, on its size and on the time it takes: without them a
    client could hold memory and connections for nothing. While a request is answered, its `Exchange` sees to that; here
    is what lies before, between and after, and what is in a request besides head and body: trailer fields, extensions
    of chunks, requests that come before the answer to the last. What the parser refuses is answered in JSON: which
    dialect it was to be in is not known there, so it is OpenAI's.
    """

    limits: Callable[[], Limits]
    parser: Any
    """uvicorn's, of httptools; there as long as the connection is."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.leaving: set[Callable[[], None]] = set()
        self._timer: TimerHandle | None = None
        """Of what the client has to send."""
        self._unread: tuple[int, TimerHandle] | None = None
        """Bytes that the client had yet to take when an answer was over, and when to look again."""
        self._running: RequestResponseCycle | None = None
        """The request that is being answered."""
        self._held = b""
        """What was read and is not parsed yet, because enough requests wait already."""
        self._taken = 0
        """Bytes that are being parsed."""
        self._between = True
        """Whether these began between two requests."""
        self._head_bytes = 0
        self._around = 0
        """Bytes of a request after its head that are not its body, beyond what its chunks take."""
        self._trailers = _Trailers(self.limits)
        self._offered = False
        """Whether the client offers to go on in another protocol, which a server may pass over."""
        self._in_head = True
        self._in_message = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self._joined = _Joined(transport)
        super().connection_made(self._joined)  # type: ignore[arg-type]
        self._await(self.limits().head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._unread is not None:
            self._unread[1].cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._gone()
        for leave in list(self.leaving):
            leave()
        # What refers to itself in a circle is not given back before the collector of garbage comes by.
        self.scope = self.headers = self.cycle = self._running = None  # type: ignore[assignment]
        self._held = b""

    def abort(self) -> None:
        """Close it now, whatever is still to be sent."""
        self._gone()
        self.transport.abort()

    def _gone(self) -> None:
        """Let the requests know that no client waits for their answers; uvicorn lets only the last one know."""
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # it was refused: the rest of it is of no interest
        if self._held or self.pipeline or len(data) > _SLICE:
            self._held += data
            self._go_on()
        else:
            self._take(data)
            self._await_next()

    def _go_on(self) -> None:
        """Parse what was held back, until enough requests wait."""
        if self.transport.is_closing():
            self._held = b""
            return
        data, at = memoryview(self._held), 0
        while at < len(data) and not self._is_full() and not self.transport.is_closing():
            self._take(data[at : at + _SLICE])
            at += _SLICE
        self._held = bytes(data[at:])
        self._joined.hold(bool(self._held))
        self._await_next()

    def _is_full(self) -> bool:
        """Whether enough requests wait for their turn, or enough of the body of the last of them is here."""
        waiting = self.pipeline
        return bool(waiting) and (len(waiting) >= _PIPELINED or len(self.cycle.body) > HIGH_WATER_LIMIT)

    def _take(self, data: bytes | memoryview) -> None:
        """Parse what came, and refuse what is no request or too large; the rest of that is not waited for."""
        self._taken, self._between = len(data), not self._in_message
        try:
            self._parse(data)
            self._check_size()
        except httptools.HttpParserError as error:
            self._refuse(*_reason(error.__context__))
        except _Refused as refused:
            self._refuse(*_reason(refused))

    def _parse(self, data: bytes | memoryview) -> None:
        while len(data):
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = memoryview(data)[offer.args[0] :]
            # Some clients offer another protocol with every request, such as Java's, which offers HTTP/2. The parser
            # stops after such a head: what follows would be in that protocol. So it gets the head without the offer.
            self.parser.feed_data(self._head_without_offer())

    def _head_without_offer(self) -> bytes:
        self._offered = False
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = (b"%b: %b" % field for field in self.headers if field[0] != b"upgrade")
        return b"\r\n".join((first, *fields, b"", b""))

    def _check_size(self) -> None:
        """Refuse a request that is not here whole yet if there is too much of what is not its body."""
        if self._in_head:
            self._head_bytes += self._taken
            if self._head_bytes > (most := self.limits().header_bytes):
                raise _too_large(most)
        elif self._in_message:
            self._around = max(0, self._around + self._taken)
            if self._around > (most := self.limits().header_bytes):
                raise _too_large(most, "What the request has besides head and body is")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["antiphon"] = self  # type: ignore[typeddict-unknown-key]
        self._in_head = self._in_message = True
        # Where in what came it begins is not known, unless nothing is before it.
        self._head_bytes = 0 if self._between else -self._taken
        self._between = False
        if self._timer is None:
            self._await(self.limits().head_seconds)

    def on_headers_complete(self) -> None:
        size, hosts = len(self.url), 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
        if size > (most := self.limits().header_bytes):
            raise _too_large(most)
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):  # RFC 9112, 3.2 (read 2026-11-29)
            raise _malformed("A request of HTTP/1.1 has the header field host, once.")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _malformed("This server is no proxy: it does not take CONNECT.")
            self._offered = True
            return
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        self._trailers.size, self._around = size, -self._taken
        self.headers = self._trailers

    def on_body(self, body: bytes) -> None:
        self._around -= len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Take note of a chunk."""
        self._around -= _CHUNK

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._in_message = False
        self._stop_timer()
        super().on_message_complete()
        # uvicorn stops reading while a large body waits to be taken, and begins again when more is asked for. Here
        # nobody asks once the body is whole, and without reading it would never be seen that the client left.
        self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._joined.flush()
        super().on_response_complete()
        if self._held:
            self.loop.call_soon(self._go_on)
        if self._in_message and not self._in_head and self.cycle.response_complete:
            self._await(self.limits().body_seconds)  # it was refused early: the rest of its body is not waited for long
        if self._unread is None:
            self._look_after_unread()

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer what is no request, unless an answer is under way, which it would then stand in the middle of."""
        self._stop_timer()
        if not self._answering():
            error = APIStatusError(why, status=status, type="invalid_request_error", code="bad_http")
            reply = OpenAIChat().encode_error(error)
            fields = {"content-type": "application/json", "content-length": len(reply.body), "connection": "close"}
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            self.transport.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + reply.body)
        self.transport.close()

    def _answering(self) -> bool:
        """Whether a client would take an answer now for that to an earlier request, or for a part of it."""
        cycle = self.cycle
        if not cycle:
            return False
        if cycle.response_complete:
            return self._in_message and not self._in_head  # what has a fault is the body of a request with an answer
        if self.pipeline or cycle.response_started or not cycle.more_body:
            return True
        cycle.disconnected = True  # it is the body of this very request that has a fault: nobody else is to answer
        return False

    def _await_next(self) -> None:
        """Do not wait for ever for a request: whatever came, uvicorn's own timeout of idle connections is to be off."""
        self._unset_keepalive_if_required()
        if (
            self._timer is None
            and not (self._in_head or self._in_message or self.transport.is_closing())
            and self.cycle.response_complete
        ):
            self._await(self.limits().head_seconds)

    def _await(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._held or self.flow.read_paused:  # it may be here: what is waited for is the answer to an earlier one
            self._await(self.limits().head_seconds)
        elif self._in_head and self._in_message:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not arrive in time.")
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
