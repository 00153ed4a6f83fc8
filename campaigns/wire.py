"""HTTP/1.1 as a client of the campaigns speaks it: requests as bytes, and a strict reader of answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

__all__ = ["Answer", "Cut", "Malformed", "connect", "post", "read", "request"]

_HEAD_BYTES = 256 * 1024
"""What a head may have: `StreamReader` raises beyond it."""
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Cut(Exception):
    """The connection ended before an answer was complete, so that a client can see that something is missing."""


class Malformed(Exception):
    """What came is no answer of HTTP/1.1."""


class Answer(NamedTuple):
    """An answer that came to its end."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body.

        Raises:
            Malformed: It is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Malformed("The body is not JSON.") from error


def request(method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """Write a request; one with a body says its length."""
    fields = {"host": "127.0.0.1", **headers}
    if body is not None:
        fields["content-length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


def post(path: str, body: bytes, key: str = "", **headers: str) -> bytes:
    """Write a POST with *key*, if there is one."""
    return request("POST", path, {**({"authorization": f"Bearer {key}"} if key else {}), **headers}, body)


@asynccontextmanager
async def connect(port: int) -> AsyncGenerator[Connection, None]:
    """Open a connection to loopback, which is dropped at the end of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_HEAD_BYTES)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read(reader: asyncio.StreamReader) -> Answer:
    """Read one answer to its end.

    Raises:
        Cut: The connection ended first, or was reset.
        Malformed: It is none.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        status, headers = _head(head)
        if "transfer-encoding" in headers:
            return Answer(status, headers, await _chunks(reader))
        if status in {204, 304}:
            return Answer(status, headers, b"")
        return Answer(status, headers, await reader.readexactly(_size(headers)))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Cut("The connection ended before the answer did.") from error
    except asyncio.LimitOverrunError as error:
        raise Malformed("A line of the answer has no end.") from error


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    if version != "HTTP/1.1" or not rest[:3].isdigit() or rest[3:4] not in {"", " "}:
        raise Malformed(f"The answer begins with {first[:80]!r}.")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or (name.lower() in headers and name.lower() in {"content-length", "transfer-encoding"}):
            raise Malformed(f"{line[:80]!r} is no header field, or the second of its kind.")
        headers[name.lower()] = value.strip()
    return int(rest[:3]), headers


def _size(headers: dict[str, str]) -> int:
    size = headers.get("content-length", "")
    if not size.isdigit():
        raise Malformed("The answer does not say how long it is.")
    return int(size)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    while True:
        line = (await reader.readuntil(b"\r\n"))[:-2]
        try:
            size = int(line, 16)
        except ValueError as error:
            raise Malformed(f"{line[:80]!r} is no size of a chunk.") from error
        piece = await reader.readexactly(size + 2)
        if piece[size:] != b"\r\n":
            raise Malformed("A chunk is longer than it says.")
        if not size:
            return b"".join(pieces)
        pieces.append(piece[:size])
