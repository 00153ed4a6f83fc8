"""One request to the server and its answer: reading the one within bounds, writing the other, the record."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeAlias

import anyio

from antiphon.chat.losses import Loss
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, APIStatusError
from antiphon.formats.codec import HTTPReply
from antiphon.server.fields import listed_losses
from antiphon.settings.config import Limits

__all__ = [
    "NEVER",
    "ClientDisconnected",
    "Connection",
    "Exchange",
    "Outcome",
    "Receive",
    "Scope",
    "Send",
    "is_id",
    "too_slow",
]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Outcome: TypeAlias = Literal["ok", "error", "left", "late", "slow", "stopping"]
"""How it ended: answered; told of an error; the client left, sent its request too slowly, or read the answer too
slowly; the server stopped."""

NEVER = math.inf
"""Seconds."""
_OWN = frozenset({"content-type", "request-id", "x-request-id"})
"""Header fields that every answer has; a provider's own id of a request is in the log."""
_MAX_MODEL = 1000
_SMALL = 64 * 1024
"""Bytes of a body that are not counted: as many are read ahead on each connection."""
_LINGER_BYTES = 64 * 1024 * 1024
_LINGER_SECONDS = 5.0


class Bodies(Protocol):
    """Bounds the memory of bodies whose requests have no place yet."""

    def hold(self, exchange: Exchange, size: int) -> None:
        """Take note of the *size* that the body has now, in bytes; raise an error where there is no room for it."""
        ...


class Connection(Protocol):
    """What the server's side of a connection can do for a request that came over it; in `scope["antiphon"]`."""

    leaving: set[Callable[[], None]]
    """What to call when the client leaves."""

    def abort(self) -> None:
        """Close it now, whatever is still to be sent."""
        ...


class Exchange:
    """One request to the server: what is known of it, for its answer and for the log.

    Attributes:
        id: Of this request, told as `x-request-id`.
        operation: OpenTelemetry's name of what is asked.
        key: Name of the client's key, `None` where none is asked for.
        model: As the client names it, once that is known; the beginning of a longer name.
        alias: The alias in the settings that this name fits, `None` where it is none.
        upstream_model: The model's name as its provider knows it.
        provider_id: The provider's own id of the request, for its support.
        streamed: Whether the answer comes in pieces.
        started, complete: Whether the head of the answer, its last piece was sent.
        queued: Seconds that it waited for its turn.
        first: Seconds from its start to the first piece of the answer.
        shows_refusal: Whether the client may be shown that the provider refuses this server's key.
        losses: What of the request could not be said to the provider.
        error: The kind of the error that the client was told.
        outcome: How it ended.
        common: Header fields of whatever the answer will be.
        idle: What to do when nothing was written for *keep_alive* seconds.
        last_words: What to do when an answer that has begun is ended before its time.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._began = time.perf_counter()
        self._end: anyio.CancelScope | None = None
        self._receive = receive
        self._send = send
        self._connection: Connection | None = scope.get("antiphon")
        self._sent = self._began
        self._writing = self._reading = False
        self._unread = True
        self._body: bytes | None = None
        self._patience = NEVER
        self._fields: dict[bytes, bytes] = dict(scope["headers"])
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        given = self.header(b"x-request-id")
        self.id = given if is_id(given) else f"{random.getrandbits(128):032x}"
        self.operation = ""
        self.key: str | None = None
        self._model = ""
        self.alias: str | None = None
        self.upstream_model = ""
        self.provider = ""
        self.provider_id: str | None = None
        self.status = 0
        self.streamed = False
        self.started = False
        self.complete = False
        self.queued = 0.0
        self.first: float | None = None
        self.usage: Usage | None = None
        self.shows_refusal = False
        self.losses: Sequence[Loss] = ()
        self.error: str | None = None
        self.outcome: Outcome = "ok"
        self.cors_headers: Mapping[str, str] = {}
        self.keep_alive = NEVER
        self.idle: Callable[[], Awaitable[None]] | None = None
        self.on_abort: Callable[[APIError], Awaitable[None]] | None = None

    @property
    def model(self) -> str:
        """The name of the model, which is for logs and metrics."""
        return self._model

    @model.setter
    def model(self, name: str) -> None:
        self._model = name[:_MAX_MODEL]

    def header(self, name: bytes) -> str:
        """Return the value of a header field, `""` where there is none."""
        return self._fields.get(name, b"").decode("latin-1")

    @property
    def target(self) -> str:
        """Path and query of the request, as they were sent."""
        query: bytes = self.scope.get("query_string", b"")
        path: str = self.scope.get("raw_path", self.path.encode()).decode("latin-1")
        return f"{path}?{query.decode('latin-1')}" if query else path

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.perf_counter() - self._began

    def got_first(self) -> None:
        """Take note that the answer begins to say something."""
        if self.first is None:
            self.first = self.seconds

    async def body(self, limits: Limits) -> bytes:
        """Return the body, once; read it if that was not done.

        Raises:
            APIStatusError: It is too large, comes too slowly, or is packed.
        """
        if self._body is None:
            await self.read(limits)
        body, self._body = self._body, None
        assert body is not None, "a body is read once"
        return body

    async def read(self, limits: Limits, bodies: Bodies | None = None) -> None:
        """Read the body, which `body` then returns; *bodies* bounds what it holds together with others.

        Does nothing for a body that was read before.

        Raises:
            APIStatusError: It is too large, comes too slowly, is packed, or there is no room for it.
        """
        if not self._unread:
            return
        self._check_head(limits.body_bytes)
        most = limits.body_bytes
        body: bytes | bytearray = b""
        self._reading, self._patience = True, limits.body_seconds
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            self._unread = message.get("more_body", False)
            if piece := message.get("body", b""):
                if not body:
                    body = piece
                else:  # as it may come in single bytes, each is not to be kept by itself
                    body = bytearray(body) if isinstance(body, bytes) else body
                    body += piece
                if len(body) > most:
                    raise _too_large(most)
                if bodies is not None and len(body) > _SMALL:
                    bodies.hold(self, len(body))
            if not self._unread:
                break
        self._reading, self._patience = False, limits.write_seconds
        self._body = bytes(body)

    def _check_head(self, most: int) -> None:
        """Refuse a body that its own header fields say the server does not take: compressed, or of too many bytes."""
        if self.header(b"content-encoding") not in ("", "identity"):
            raise APIStatusError(
                "A request body must not be compressed: leave out the header field content-encoding.",
                status=415,
                type="invalid_request_error",
            )
        content_length = self.header(b"content-length")
        if content_length.isascii() and content_length.isdigit() and int(content_length) > most:
            raise _too_large(most)

    @contextmanager
    def cancel_on_disconnect(self) -> Generator[None, None, None]:
        """Do something that ends where the client leaves, or `cancel` says so."""
        connection = self._connection
        with anyio.CancelScope() as self._end:
            if connection is not None:
                connection.leaving.add(self._left)
            try:
                yield
            finally:
                if connection is not None:
                    connection.leaving.discard(self._left)
                self._end = None

    @property
    def reading(self) -> bool:
        """Whether its body is not here yet."""
        return self._reading

    def _left(self) -> None:
        self.cancel("left")

    def cancel(self, why: Outcome) -> None:
        """End what is being done for it."""
        if not self.complete:  # what comes after the last write changes nothing of how it ended
            self.outcome = why
        if self._end is not None:
            self._end.cancel()

    def check_timeouts(self, now: float) -> Callable[[], Awaitable[None]] | None:
        """Give up on a client that is too slow; return what there is to do where nothing was said for long.

        *now* is by `time.perf_counter`.
        """
        if self._reading:
            if now - self._began - self.queued > self._patience:
                self.cancel("late")
        elif self._writing:
            if now - self._sent > self._patience:
                self.cancel("slow")
        elif self.idle is not None and not self.complete and now - self._sent > self.keep_alive:
            return self.idle
        return None

    def abort(self) -> None:
        """Close the connection, whatever is still to be sent."""
        if self._connection is not None:
            self._connection.abort()

    def end(self) -> None:
        """Let go of what it is answered with: a circle of references would wait for the garbage collector."""
        self.on_abort = None
        if self.idle is not None:
            self.idle = _nothing
        for name in ("exchange", "gateway", "antiphon", "app", "endpoint", "router"):
            self.scope.pop(name, None)

    def failed(self, error: APIError) -> None:
        """Take note of the error that the client is told."""
        self.error = error.kind
        self.provider_id = error.request_id or self.provider_id
        if self.outcome == "ok":  # else the error only tells of what ended it
            self.outcome = "error"

    async def start(
        self, status: int, content_type: str, headers: Mapping[str, str] | None = None, *, size: int = -1
    ) -> None:
        """Send the head of the answer; *size* is that of the body, where it is known."""
        self.status = status
        self.started = True
        fields: list[tuple[bytes, bytes]] = [
            (b"content-type", content_type.encode()),
            (b"x-request-id", self.id.encode()),
            (b"request-id", self.id.encode()),  # where Anthropic's clients look
            (b"server-timing", self._timing().encode()),
        ]
        if size >= 0:
            fields.append((b"content-length", b"%d" % size))
        else:
            fields.append((b"cache-control", b"no-cache"))
            fields.append((b"x-accel-buffering", b"no"))  # nginx before this server would else hold pieces back
        if self.losses:
            fields.append((b"x-antiphon-losses", listed_losses(self.losses, len(self.losses)).encode("ascii")))
        for more in (self.cors_headers, headers):
            fields += [(name.encode(), value.encode("latin-1", "replace")) for name, value in (more or {}).items()]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece of the body, which goes out at once; after the last one, nothing does."""
        if self.complete:
            return
        self._sent, self._writing = time.perf_counter(), True
        self.complete = last
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})
        self._writing = False

    async def reply(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        content_type: str = "application/json",
    ) -> None:
        """Send a whole answer."""
        await self.start(status, content_type, headers, size=len(body))
        await self.write(body, last=True)

    async def refuse(self, reply: HTTPReply, more: Mapping[str, str] | None = None) -> None:
        """Send an error in place of an answer, with *more* header fields; a client still sending hears it, too."""
        fields = {**reply.headers, **(more or {})}
        headers = {name: value for name, value in fields.items() if name not in _OWN}
        if reply.status not in (408, 413):
            await self.reply(reply.status, reply.body, headers)
            return
        # Closing with unread bytes in the socket would reset the connection, and with it what was just sent.
        await self.start(reply.status, "application/json", {**headers, "connection": "close"}, size=len(reply.body))
        await self.write(reply.body)
        self.complete = True  # all of it was said: what the client does from now on changes nothing
        with anyio.move_on_after(_LINGER_SECONDS, shield=True):
            size = 0
            while self._unread and size < _LINGER_BYTES:
                message = await self._receive()
                size += len(message.get("body", b""))
                self._unread = message.get("more_body", False)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _timing(self) -> str:
        timing = f"queue;dur={self.queued * 1000:.1f}"
        if self.first is not None:
            timing += f", first;dur={self.first * 1000:.1f}"
        return f"{timing}, total;dur={self.seconds * 1000:.1f}"


async def _nothing() -> None:
    """Do what is due once a request is over."""


class ClientDisconnected(Exception):
    """The client left before it had said what it wants."""


def is_id(text: str) -> bool:
    """Tell whether *text* may be the id of a request: it goes into logs and header fields."""
    return 0 < len(text) <= 128 and text.isascii() and all(c.isalnum() or c in "-_.:" for c in text)


def _too_large(most: int) -> APIStatusError:
    return APIStatusError(
        f"The request body is larger than the {most:,} bytes that this server takes.",
        status=413,
        type="request_too_large",
    )


def too_slow() -> APIStatusError:
    """Return the error for a body that does not come in time."""
    return APIStatusError("The request body did not arrive in time.", status=408, type="invalid_request_error")
