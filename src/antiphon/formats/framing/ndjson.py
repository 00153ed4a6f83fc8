"""JSON lines: one value a line. Bytes in, bytes out, no I/O.

A line ends with LF; white space around it, such as the CR of a CRLF, and blank lines mean nothing. A line that the end
of the body cuts off is given out by `close()`; whoever parses it finds out whether it is whole.
"""

from __future__ import annotations

from antiphon.errors import ResponseTooLargeError

__all__ = ["MAX_LINE", "LineDecoder", "encode"]

MAX_LINE = 64 * 1024 * 1024
"""Most bytes of one line."""


class LineDecoder:
    """Splits the bytes of one body into lines that are not blank."""

    __slots__ = ("_limit", "_size", "_tail")

    def __init__(self, *, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._tail: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes, split anywhere, and give the lines that are complete.

        Raises:
            ResponseTooLargeError: A line grew beyond the limit.
        """
        head, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._hold(data)
            return []
        if self._tail:
            head = b"".join((*self._tail, head))
        self._tail, self._size = [], 0
        lines = [line for line in head.split(b"\n") if line and not line.isspace()]
        if rest:  # it is a piece of one read: complete lines before it go out first
            self._tail, self._size = [rest], len(rest)
        return lines

    def close(self) -> list[bytes]:
        """Take the end of the body and give the line that it cut off, if any."""
        return self.feed(b"\n")

    def _hold(self, data: bytes) -> None:
        if data:
            self._tail.append(data)
            self._size += len(data)
        if self._size > self._limit:
            raise ResponseTooLargeError(
                f"The provider sent a single line of more than {self._limit:,} bytes; the stream was given up."
            )


def encode(data: bytes) -> bytes:
    """Write one line; *data* is JSON without line ends."""
    return data + b"\n"
