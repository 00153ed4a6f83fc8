"""Providers that misbehave, each on a port of loopback, and one that takes in anything and answers at once."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import TypeAlias

__all__ = ["HOSTILE", "serve"]

_JSON, _SSE = "application/json", "text/event-stream"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_LARGEST_HEAD = 2_000_000
"""Bytes after which even the endless head ends: the campaign does not measure how fast loopback is."""
_LONGEST = 10.0
"""Seconds after which a provider that never ends does so, were the server to wait so long."""
_BOMB = gzip.compress(b"\0" * 50_000_000)
_STATUSES = (100, 101, 199, 201, 204, 206, 300, 302, 304, 400, 401, 403, 404, 407, 408, 413, 418, 420, 429, 451, 499)
_HIGH_STATUSES = (500, 502, 503, 520, 529, 599, 600, 777, 999)
_GARBAGE = (
    b"data: {\n\n",
    b"data: \xff\xfe\n\n",
    b"data\n" * 500,
    b"event: error\ndata: [[[[\n\n",
    b"data: " + b"[" * 400 + b"]" * 400 + b"\n\n",
    b'data: {"choices":[{"index":1000000000,"delta":{"content":7}}]}\n\n',
    b'data: {"choices":{"0":null}}\n\n',
    b"\0" * 3000,
    b": comment\n\n" * 500,
    b"data: 1e999\n\ndata: -0\n\ndata: null\n\n",
)
Response: TypeAlias = Callable[[asyncio.StreamWriter, bytes, Random], Awaitable[None]]


def _whole(body: bytes, status: int = 200, kind: str = _JSON, more: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + more + b"\r\n" + body


def _open(kind: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode()


def _frame(text: str) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return b"data: " + json.dumps({**chunk, "choices": choices}).encode() + b"\n\n"


def _answer() -> bytes:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "taken"}, "finish_reason": "stop"}]
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}).encode()


async def _closing(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Close early: before the head, within it, within the body, or within a stream."""
    whole = rng.choice((_whole(_answer()), _open(_SSE) + _frame("beginning")[:-1]))
    writer.write(whole[: rng.choice((0, 5, 20, len(whole) - 7))])
    await writer.drain()
    writer.close()


async def _statuses(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Answer with a status that no provider has, or with fields that may not be passed on."""
    status = rng.choice(_STATUSES + _HIGH_STATUSES)
    more = rng.choice(
        (
            b"",
            b"location: http://127.0.0.1:1/elsewhere\r\n",
            b"x-ratelimit-a: 1\nset-cookie: stolen=1\r\n",
            b"x-ratelimit-b: \0\xff\r\n",
            b"retry-after: 1e999\r\n",
            b"x-ratelimit-c: " + b"c" * 50_000 + b"\r\n",
        )
    )
    writer.write(_whole(b'{"error": {"message": "odd"}}', status, more=more))
    writer.close()


async def _heads(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Begin a head that has no end, as many fields or as one."""
    writer.write(b"HTTP/1.1 200 OK\r\nx: ")
    line = rng.choice((b"y" * 4096, b"1\r\nfield: " * 400))
    for _ in range(_LARGEST_HEAD // len(line)):
        writer.write(line)
        await writer.drain()
        await asyncio.sleep(0.005)
    writer.close()


async def _bombs(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Send little that becomes 50 MB."""
    kind, status = rng.choice((_JSON, _SSE)), rng.choice((200, 200, 400))
    writer.write(_whole(_BOMB, status, kind, b"content-encoding: gzip\r\n"))


async def _drips(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Send a byte at a time, in the head or in the body."""
    whole = rng.choice((_whole(_answer()), _open(_SSE) + _frame("slow") * 50))
    slow_from = rng.choice((0, whole.index(b"\r\n\r\n") + 4))
    writer.write(whole[:slow_from])
    for byte in whole[slow_from : slow_from + int(_LONGEST / 0.05)]:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)
    writer.close()


async def _garbage(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Send events, or JSON, that are none."""
    body = b"".join(rng.choice((_frame("so far"), *_GARBAGE)) for _ in range(5))
    writer.write(_whole(body, kind=rng.choice((_JSON, _SSE))))


async def _deep(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Nest an error or an answer deeply."""
    depth = rng.choice((200, 480, 900, 5000))
    opening, closing = rng.choice(((b'{"error":', b"}"), (b'{"error":{"message":', b"}}"), (b"[", b"]")))
    writer.write(_whole(opening * depth + b'"x"' + closing * depth, rng.choice((200, 400, 500))))


async def _mute(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Say nothing."""
    await asyncio.sleep(_LONGEST)
    writer.close()


async def _endless(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Stream without end, as fast as it is read but for a short pause."""
    writer.write(_open(_SSE))
    frame = _frame("endless " * 40)
    for _ in range(int(_LONGEST / 0.02)):
        writer.write(frame * 20)
        await writer.drain()
        await asyncio.sleep(0.02)
    writer.close()


async def _sink(writer: asyncio.StreamWriter, body: bytes, rng: Random) -> None:
    """Answer at once, whatever was asked."""
    if b'"stream":true' in body[:200] or b'"stream":true' in body[-200:]:
        writer.write(_whole(_frame("taken") + b"data: [DONE]\n\n", kind=_SSE))
    else:
        writer.write(_whole(_answer()))


HOSTILE: dict[str, Response] = {
    "closing": _closing,
    "statuses": _statuses,
    "heads": _heads,
    "bombs": _bombs,
    "drips": _drips,
    "garbage": _garbage,
    "deep": _deep,
    "mute": _mute,
    "endless": _endless,
    "sink": _sink,
}
"""What each of them does with a request."""


class _Provider:
    def __init__(self, name: str, reply: Response, rng: Random, *, lists: bool) -> None:
        self._reply = reply
        self._rng = rng
        self._listing = json.dumps({"object": "list", "data": [{"id": name, "object": "model"}]}).encode()
        self._lists = lists

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):  # the server left, which is what it should do with these
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                size = _LENGTH.search(head)
                body = await reader.readexactly(int(size[1])) if size else b""
                if head.startswith(b"GET ") and self._lists:
                    writer.write(_whole(self._listing))
                else:
                    await self._reply(writer, body, self._rng)
                await writer.drain()
        writer.close()


async def serve(stack: AsyncExitStack, seed: str, *, silent_lists: bool) -> dict[str, int]:
    """Start all of them until *stack* is closed.

    Args:
        stack: What ends them.
        seed: For their random choices.
        silent_lists: Whether those that never answer do not list their models either.

    Returns:
        Their ports, by name.
    """
    ports: dict[str, int] = {}
    for name, reply in HOSTILE.items():
        provider = _Provider(name, reply, Random(f"{seed}:{name}"), lists=not (silent_lists and name == "mute"))
        server = await asyncio.start_server(provider, "127.0.0.1", 0, limit=1 << 20, backlog=512)
        stack.callback(server.close)
        ports[name] = server.sockets[0].getsockname()[1]
    return ports
