"""Server-sent events, both ways. Bytes in, bytes out, no I/O.

Rules (WHATWG HTML, "Server-sent events", read 2026-11):

* Lines end with LF, CRLF or CR; a CRLF may be split between two reads. No other byte ends a line, so text with U+0085
  or U+2028 stays whole.
* A blank line ends an event; several `data:` lines are joined by LF; exactly one space after the colon is dropped.
* Lines that start with a colon are comments. Fields other than `event` and `data` do not matter here.

Beyond the rules: an event that the end of the body cuts off is given out by `close()`, for servers that forget the last
blank line; whoever parses it finds out whether it is whole.
"""

from __future__ import annotations

import re
from typing import ClassVar

from antiphon.errors import ResponseTooLargeError

__all__ = ["MAX_EVENT", "SSEDecoder", "encode"]

MAX_EVENT = 64 * 1024 * 1024
"""Most bytes of one event: room for a large inline image, an end for a server that never sends a blank line."""


_LINE = 32
"""Bytes that a line of data counts for besides its own, about what it takes to keep it."""


_OTHER = re.compile(rb"(?:^(?!data|event)[^\n]++\n)++", re.MULTILINE)
"""Comments, and fields that do not matter here: taken out in one go, since a stream may have many."""
_BLANK = re.compile(rb"\n{3,}")


class SSEDecoder:
    """Splits the bytes of one body into `(event name, data)`; the name is `""` where none was sent."""

    _drops_other_lines: ClassVar[bool] = True
    """Whether comments and unknown fields are taken out before lines are looked at one by one."""

    __slots__ = ("_counted", "_data", "_held", "_limit", "_name", "_size", "_skip_lf", "_started", "_tail")

    def __init__(self, *, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._tail: list[bytes] = []
        self._data: list[bytes] = []
        self._counted = 0
        self._held = 0
        """How many of these lines were counted, and what they count for."""
        self._name = b""
        self._size = 0
        self._skip_lf = False
        self._started = False

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Take the next bytes, split anywhere, and give the events that are complete.

        Raises:
            ResponseTooLargeError: An event grew beyond the limit.
        """
        if not self._started:
            data = self._begin(data)
        if self._skip_lf or b"\r" in data:
            data = self._normalise(data)
        self._size += len(data)
        if b"\n" not in data:
            if data:
                self._tail.append(data)
                self._bound()
            return []
        if self._tail:
            data = b"".join((*self._tail, data))
        events: list[tuple[str, bytes]] = []
        if not self._data and not self._name:
            data = self._whole(data, events)
        last = self._lines(data, events)
        self._tail = [last] if last else []
        more = self._data[self._counted :]
        self._counted += len(more)
        self._held += sum(map(len, more)) + _LINE * len(more)
        self._size = len(last) + self._held
        if not events:  # those that are complete go out first; what is held after them came with this very read
            self._bound()
        return events

    def close(self) -> list[tuple[str, bytes]]:
        """Take the end of the body and give the event that it cut off, if any."""
        events = self.feed(b"\n") if self._tail else []
        self._dispatch(events)
        return events

    @staticmethod
    def _whole(data: bytes, events: list[tuple[str, bytes]]) -> bytes:
        """Take the events of *data* if each is a single line, as nearly all are, and return the rest: the fast way."""
        head, end, rest = data.rpartition(b"\n\n")
        if end and head[:6] == b"data: ":
            payloads = head[6:].split(b"\n\ndata: ")
            if head.count(b"\n") == 2 * len(payloads) - 2:
                events += [("", payload) for payload in payloads]
                return rest
        return data

    def _lines(self, data: bytes, events: list[tuple[str, bytes]]) -> bytes:
        """Take every line that is complete, and return the one that is not."""
        if b"\n\n\n" in data:
            data = _BLANK.sub(b"\n\n", data)
        drop_others = self._drops_other_lines
        if drop_others and (data[:1] not in (b"d", b"e") or b"\n:" in data or b"\nid" in data):
            data = _OTHER.sub(b"", data)
        lines = data.split(b"\n")
        last = lines.pop()
        for line in lines:
            if line[:6] == b"data: ":
                self._data.append(line[6:])
            elif not line:
                self._dispatch(events)
            elif line[:7] == b"event: ":
                self._name = line[7:]
            elif not drop_others or line[:4] == b"data" or line[:5] == b"event":
                self._field(line)
        return last

    def _begin(self, data: bytes) -> bytes:
        """Drop a byte-order mark, which may come in up to three pieces."""
        data = b"".join((*self._tail, data))
        self._tail = []
        if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
            self._tail = [data] if data else []
            return b""
        self._started = True
        return data.removeprefix(b"\xef\xbb\xbf")

    def _normalise(self, data: bytes) -> bytes:
        """Turn CRLF and CR into LF; a CR at the end may be followed by its LF in the next bytes."""
        if self._skip_lf and data:
            self._skip_lf = False
            data = data.removeprefix(b"\n")
        if data.endswith(b"\r"):
            self._skip_lf = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value

    def _dispatch(self, events: list[tuple[str, bytes]]) -> None:
        if self._data:
            name = self._name.decode("utf-8", "replace")
            events.append((name, b"\n".join(self._data) if len(self._data) > 1 else self._data[0]))
            self._data = []
            self._counted = self._held = 0
        self._name = b""

    def _bound(self) -> None:
        if self._size > self._limit:
            raise ResponseTooLargeError(
                f"The provider sent a single event of more than {self._limit:,} bytes; the stream was given up."
            )


def encode(data: bytes, *, event: str | None = None) -> bytes:
    """Write one event of *data*, each of whose lines gets a field of its own; its line ends are LF alone."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    if event is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
