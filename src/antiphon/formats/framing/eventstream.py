"""Frames of `application/vnd.amazon.eventstream`, both ways. Bytes in, bytes out, no I/O.

A frame, numbers big-endian: length of it all (4 bytes), length of the headers (4), CRC-32 of these eight bytes (4), the
headers, the payload, CRC-32 of all before (4). A header: length of its name (1), name, type of its value (1), value.

Both sums are checked, the first one before the lengths are believed: no stream of other bytes makes the decoder wait
for a frame that never comes.

Source: botocore 1.44 (`eventstream.py`, its bounds too), "Event stream encoding" of the AWS developer guides
(read 2026-11-23).
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias
from zlib import crc32

from antiphon.errors import ResponseTooLargeError, StreamError

__all__ = ["CONTENT_TYPE", "MAX_FRAME", "EventStreamDecoder", "FrameHeaders", "encode", "encode_headers"]

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

MAX_FRAME = 24 * 1024 * 1024
"""Most bytes of one frame."""

FrameHeaders: TypeAlias = Mapping[str, Any]
"""By name; text is `str`, numbers and moments (in milliseconds) `int`, switches `bool`, bytes and UUIDs base64 text."""

_PRELUDE = struct.Struct(">III")
_LENGTHS = struct.Struct(">II")
_SUM = struct.Struct(">I")
_SIZE = struct.Struct(">H")
_SMALLEST = _PRELUDE.size + _SUM.size
_TEXT = 7
_MAX_KNOWN = 64


def _text(data: bytes) -> str:
    return data.decode()


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _bytes(data: bytes) -> str:
    return b64encode(data).decode()


_VALUES: dict[int, tuple[int | None, Callable[[bytes], Any]]] = {
    0: (0, lambda data: True),
    1: (0, lambda data: False),
    2: (1, _number),
    3: (2, _number),
    4: (4, _number),
    5: (8, _number),
    6: (None, _bytes),
    _TEXT: (None, _text),
    8: (8, _number),
    9: (16, _bytes),
}
"""How long a value of each type is, `None` where two bytes before it say so, and what reads it."""


class EventStreamDecoder:
    """Splits the bytes of one body into `(headers, payload)`."""

    __slots__ = ("_held", "_known", "_limit", "_needed", "_size")

    def __init__(self, *, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._held: list[bytes] = []
        self._size = 0
        self._needed = 0
        """Bytes that the frame under way has; 0 while that is not known."""
        self._known: dict[bytes, FrameHeaders] = {}
        """Headers by their bytes: there are only a few kinds of frames in a stream."""

    def feed(self, data: bytes) -> Iterator[tuple[FrameHeaders, bytes]]:
        """Take the next bytes, split anywhere, and give the frames that are complete, before any fault after them.

        Raises:
            StreamError: What comes is no frame, or was changed on the way.
            ResponseTooLargeError: A frame says that it is larger than the limit.
        """
        self._held.append(data)
        self._size += len(data)
        if self._size < (self._needed or _PRELUDE.size):
            return
        data = b"".join(self._held) if len(self._held) > 1 else data
        at, end, self._needed = 0, len(data), 0
        try:
            while end - at >= _PRELUDE.size:
                total, headers, checksum = _PRELUDE.unpack_from(data, at)
                if crc32(data[at : at + _LENGTHS.size]) != checksum or headers > total - _SMALLEST:
                    raise _broken_lengths(data[at:])
                if end - at < total:
                    self._needed = self._bounded(total)
                    break
                # The sum over all is that over the lengths, gone on with.
                body = data[at + _LENGTHS.size : at + total - _SUM.size]
                if crc32(body, checksum) != _SUM.unpack_from(data, at + total - _SUM.size)[0]:
                    raise StreamError("The provider's stream is broken: the checksum (CRC) of a frame is wrong.")
                self._bounded(total)
                written = body[_SUM.size : _SUM.size + headers]
                at += total
                yield self._known.get(written) or self._learnt(written), body[_SUM.size + headers :]
        finally:
            self._held, self._size = [data[at:]] if at < end else [], end - at

    def close(self) -> None:
        """Take the end of the body.

        Raises:
            StreamError: It is in the middle of a frame.
        """
        if self._size:
            raise StreamError("The provider's stream ended in the middle of a frame.")

    def _bounded(self, total: int) -> int:
        if total > self._limit:
            raise ResponseTooLargeError(
                f"The provider sent a single frame of more than {self._limit:,} bytes; the stream was given up."
            )
        return total

    def _learnt(self, written: bytes) -> FrameHeaders:
        headers = _headers(written)
        if len(self._known) < _MAX_KNOWN:
            self._known[written] = headers
        return headers


def _broken_lengths(data: bytes) -> StreamError:
    if crc32(data[: _LENGTHS.size]) != _SUM.unpack_from(data, _LENGTHS.size)[0]:
        return StreamError("The provider's stream is broken: the checksum (CRC) of a frame's lengths is wrong.")
    return StreamError("The provider's stream is broken: a frame has more headers than there is room for.")


def _headers(data: bytes) -> FrameHeaders:
    result: dict[str, Any] = {}
    at = 0
    try:
        while at < len(data):
            end = at + 1 + data[at]
            name, kind, at = data[at + 1 : end].decode(), data[end], end + 1
            size, read = _VALUES[kind]
            if size is None:
                size, at = _SIZE.unpack_from(data, at)[0], at + _SIZE.size
            if at + size > len(data):
                raise IndexError
            result[name], at = read(data[at : at + size]), at + size
    except (IndexError, KeyError, UnicodeDecodeError, struct.error):
        raise StreamError("The provider's stream is broken: the headers of a frame cannot be read.") from None
    return result


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Write headers; no name has more than 255 bytes, no value more than 65,535, which the caller sees to."""
    return b"".join(
        b"".join((bytes((len(name),)), name, bytes((_TEXT,)), _SIZE.pack(len(value)), value))
        for name, value in ((name.encode(), value.encode()) for name, value in headers.items())
    )


def encode(headers: bytes, payload: bytes) -> bytes:
    """Write one frame, with what `encode_headers` wrote."""
    lengths = _LENGTHS.pack(_SMALLEST + len(headers) + len(payload), len(headers))
    checksum = crc32(lengths)
    body = b"".join((_SUM.pack(checksum), headers, payload))
    return b"".join((lengths, body, _SUM.pack(crc32(body, checksum))))
