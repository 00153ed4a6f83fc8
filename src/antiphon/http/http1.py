"""HTTP/1.1 as a client speaks it: a request's head, and a reader of responses. Bytes only, no I/O.

Just what answers of model providers need, and strict where laxness would let two answers on one connection mix: a
malformed head, length or chunk is an error, and a connection is only fit for another request when the answer before
ended where it said it would.

Source: RFC 9110 and RFC 9112 (read 2026-11-22).
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Iterator, Mapping

__all__ = ["Gunzip", "MalformedError", "ResponseReader", "request_head"]

MAX_HEAD = 128 * 1024
"""Bytes that the head of a response may have, together with the interim responses before it."""

_MAX_FIELDS = 256
"""Header fields that one head may have; the largest of the recorded ones have 40."""

_MAX_NAME = 256
"""Bytes of the longest name of a header field that is kept for the next response."""

_MAX_TRAILER = MAX_HEAD
_MAX_INTERIM = 100
"""Interim responses (1xx) before the final one."""

_MAX_LINE = 4096
_PIECE = 64 * 1024
_BETWEEN_CHUNKS = -1

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NAME = re.compile(_TOKEN)
_FIELD = re.compile(rf"{_TOKEN}: [^\x00-\x08\x0a-\x1f\x7f]*\r\n")
_REQUEST = re.compile(rf"{_TOKEN} [!-~]+ HTTP/1\.1\r\n(?:{_FIELD.pattern})*\r\n")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*))?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_CONTROLS = bytes(byte for byte in (*range(0x20), 0x7F) if byte != 0x09)
"""Bytes that no part of a head may hold, but for the CR LF at the end of each line (RFC 9110, section 5.5)."""
_BARE = "it holds a control character, or a line that does not end in CR LF"
_NO_BODY = frozenset((204, 304))


class MalformedError(ValueError):
    """The other side does not speak HTTP/1.1; the message says where, and quotes nothing of what it sent."""


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Write the head of a request.

    Raises:
        ValueError: A part would not arrive as it is: a line break, a control character, or beyond Latin-1. The
            message names the field, never its value.
    """
    fields = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"{method} {target} HTTP/1.1\r\n{''.join(fields)}\r\n"
    # One look at the whole; the count tells that no value has smuggled in a field of its own.
    if head.count("\r\n") == len(fields) + 2 and _REQUEST.fullmatch(head):
        try:
            return head.encode("latin-1")
        except UnicodeEncodeError:
            pass
    faulty = [
        name for name, field in zip(headers, fields, strict=True) if not _FIELD.fullmatch(field) or max(field) > "\xff"
    ]
    if faulty:
        raise ValueError(f"The header field {faulty[0]!r} holds a character that HTTP has no way to send.")
    raise ValueError("The method or the path holds a space or a character beyond ASCII: quote it.")


class ResponseReader:
    """Reads one response from bytes that may be split anywhere.

    Attributes:
        status: 0 until the head has been read; interim responses (1xx) are passed over.
        reason: What the server wrote beside the status; may be empty.
        headers: By lower-case name; values of a repeated field are joined by ", ".
        started: Whether anything at all has arrived.
        complete: Whether the body has ended as announced.
        keep_alive: Whether the connection may be used again, once complete.
        length: Bytes of body announced by `content-length`, or `None`.
    """

    __slots__ = (
        "_buffer",
        "_interim",
        "_left",
        "_no_body",
        "_read",
        "_take",
        "complete",
        "headers",
        "keep_alive",
        "length",
        "reason",
        "started",
        "status",
    )

    def __init__(self, *, no_body: bool = False) -> None:
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self.started = False
        self.complete = False
        self.keep_alive = True
        self.length: int | None = None
        self._no_body = no_body
        self._buffer = bytearray()
        self._read = 0
        """Bytes of head that have been read, interim responses included."""
        self._interim = 0
        self._left: int = 0
        # A function, not a bound method: that would make every reader a cycle, left to the garbage collector.
        self._take: Callable[[ResponseReader, bytes], bytes] = ResponseReader._head

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and return what of the body is among them, `b""` where nothing is.

        Raises:
            MalformedError: This is not HTTP/1.1.
        """
        self.started = True
        return self._take(self, data)

    def eof(self) -> bool:
        """Take the end of the connection, and tell whether the response was complete with it."""
        if self._take is ResponseReader._rest:
            self.complete = True
        self.keep_alive = False
        return self.complete

    def _head(self, data: bytes) -> bytes:
        if self._buffer:
            end = self._gather(data)
            data = bytes(self._buffer) if end >= 0 else b""
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._gather(data)
        start = 0
        while end >= 0:
            self._read += end + 4 - start
            if self._read > MAX_HEAD:
                break
            if self._response(data[start:end]):
                self._buffer.clear()
                self._frame()
                return self._take(self, data[end + 4 :])
            start = end + 4
            end = data.find(b"\r\n\r\n", start)
        if start:
            self._buffer.clear()
            self._gather(data[start:])
        if self._read + len(self._buffer) > MAX_HEAD:
            raise MalformedError(f"the head of the response is longer than {MAX_HEAD} bytes")
        if not (self._buffer.startswith(b"HTTP/1.") or b"HTTP/1.".startswith(self._buffer[:7])):
            raise MalformedError("what came is not the head of an HTTP/1.1 response")
        return b""

    def _gather(self, data: bytes) -> int:
        """Add *data* to the buffer, and return where the first empty line begins there, -1 where there is none yet.

        Each byte is looked at once, however the bytes are split: a server may send one at a time.

        Raises:
            MalformedError: A line ends in LF alone. It would otherwise be waited for the rest of it.
        """
        buffer, held = self._buffer, len(self._buffer)
        buffer += data
        end = buffer.find(b"\r\n\r\n", max(held - 3, 0))
        if end < 0 and data.count(b"\n") != buffer.count(b"\r\n", max(held - 1, 0)):
            raise MalformedError(_BARE)
        return end

    def _response(self, head: bytes) -> bool:
        """Read one head without its empty line, and tell whether it is that of the final response."""
        first, *lines = head.decode("latin-1").split("\r\n")
        if len(head.translate(None, _CONTROLS)) != len(head) - 2 * len(lines):
            raise MalformedError(_BARE)
        persistent, status, reason = _status_line(first)
        headers = _fields(lines)
        if status == 101:
            raise MalformedError("the server switched to another protocol, unasked")
        if status < 200:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise MalformedError(f"more than {_MAX_INTERIM} interim responses came before the final one")
            return False
        self.status, self.reason, self.headers = status, reason, headers
        connection = headers.get("connection")
        if connection is not None:
            persistent = "close" not in connection.lower() and (persistent or "keep-alive" in connection.lower())
        self.keep_alive = persistent
        return True

    def _frame(self) -> None:
        """Find out where the body ends (RFC 9112, section 6.3)."""
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if self._no_body or self.status in _NO_BODY:
            self._done()
        elif coding is not None:
            if coding.lower() != "chunked":
                raise MalformedError("the response has a transfer-encoding other than chunked")
            # Both at once is how answers are smuggled: the length is not believed, and the connection not used again.
            self.keep_alive = self.keep_alive and length is None
            self._left, self._take = _BETWEEN_CHUNKS, ResponseReader._chunks
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                # Repeated and the same is still clear (RFC 9112, section 6.3, rule 5).
                first, *others = (item.strip() for item in length.split(","))
                length = first if all(other == first for other in others) else ""
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise MalformedError("the content-length of the response is not a number")
            self.length = self._left = int(length)
            self._take = ResponseReader._counted
            if not self._left:
                self._done()
        else:
            self.keep_alive = False
            self._take = ResponseReader._rest

    def _done(self) -> None:
        self.complete = True
        self._take = ResponseReader._surplus

    def _surplus(self, data: bytes) -> bytes:
        if data:
            self.keep_alive = False
        return b""

    def _rest(self, data: bytes) -> bytes:
        return data

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left > 0:
            return data
        end = len(data) + self._left
        self._done()
        self._surplus(data[end:])
        return data[:end]

    def _chunks(self, data: bytes) -> bytes:
        if self._buffer:
            data = bytes(self._buffer) + data  # a part of a size line, or of what ends a chunk: never more than a line
            self._buffer.clear()
        found: list[bytes] = []
        left, position, end = self._left, 0, len(data)
        while True:
            if left == _BETWEEN_CHUNKS:
                line_end = data.find(b"\r\n", position)
                if line_end < 0:
                    if end - position > _MAX_LINE or data.find(b"\n", position) >= 0:
                        raise MalformedError("the size line of a chunk is too long, or does not end in CR LF")
                    break
                left, position = _chunk_size(data[position:line_end]), line_end + 2
                if not left:
                    self._take = ResponseReader._trailer
                    # The empty line that ends the trailer may be the one that ends the size line.
                    self._trailer(data[position - 2 :])
                    return b"".join(found)
            stop = position + left
            if stop + 2 > end:
                # The chunk goes on in the next bytes: what is here of it is handed on at once.
                here = data[position : min(stop, end)]
                found.append(here)
                left, position = left - len(here), position + len(here)
                break
            if data[stop : stop + 2] != b"\r\n":
                raise MalformedError("a chunk is longer than its size")
            found.append(data[position:stop])
            left, position = _BETWEEN_CHUNKS, stop + 2
        self._buffer += data[position:]
        self._left = left
        return b"".join(found)

    def _trailer(self, data: bytes) -> bytes:
        """Read to the end of the trailer, whose fields are dropped: none of them may change what the head said."""
        end = self._gather(data)
        if (len(self._buffer) if end < 0 else end) > _MAX_TRAILER:
            raise MalformedError("the trailer of the response is too long")
        if end < 0:
            return b""
        trailer, surplus = bytes(self._buffer[2:end]), bytes(self._buffer[end + 4 :])
        self._buffer.clear()
        if len(trailer.translate(None, _CONTROLS)) != len(trailer) - 2 * trailer.count(b"\r\n"):
            raise MalformedError(_BARE)
        self._done()
        return self._surplus(surplus)


@functools.lru_cache(maxsize=64)
def _status_line(line: str) -> tuple[bool, int, str]:
    """Read a status line: whether its version keeps connections, the status, and the reason."""
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise MalformedError("what came is not the head of an HTTP/1.1 response")
    return match[1] == "1", int(match[2]), match[3] or ""


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise MalformedError("a header field of the response has no name")
    return name.lower()


_field_name = functools.lru_cache(maxsize=1024)(_checked_name)


def _fields(lines: list[str]) -> dict[str, str]:
    """Read the fields of a head."""
    if len(lines) > _MAX_FIELDS:
        raise MalformedError(f"the response has more than {_MAX_FIELDS} header fields")
    headers: dict[str, str] = {}
    for line in lines:
        # A line without a colon is no field, and neither is one that begins with a space: its name is empty or odd.
        name, _, value = line.partition(":")
        known_name = _field_name if len(name) <= _MAX_NAME else _checked_name
        name, value = known_name(name if name != line else ""), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


@functools.lru_cache(maxsize=1024)
def _chunk_size(line: bytes) -> int:
    """Read a chunk's size line without its end."""
    size = _CHUNK_SIZE.fullmatch(line)
    if not size:
        raise MalformedError("the size of a chunk is not a number")
    return int(size[1], 16)


class Gunzip:
    """Unpacks a gzip body piece by piece, so that little bytes cannot become much memory at once."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take packed bytes and give what they hold, in pieces of at most 64 KiB.

        Raises:
            MalformedError: This is not gzip.
        """
        self._fed = True
        full = False
        while data or full:
            try:
                piece = self._member.decompress(data, _PIECE)
            except zlib.error:
                raise MalformedError("the body is not the gzip that the response says it is") from None
            if piece:
                yield piece
            full = len(piece) == _PIECE
            data = self._member.unconsumed_tail
            if self._member.eof:
                data, full = self._member.unused_data, False
                if data:
                    self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def complete(self) -> bool:
        """Whether the packed bytes so far end where a gzip body may end; no bytes at all are an empty body."""
        return self._member.eof or not self._fed
