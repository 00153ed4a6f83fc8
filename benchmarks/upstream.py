"""The upstream of the benchmark: an HTTP server in a process of its own that does next to nothing for each request.

It speaks as much HTTP/1.1 and as much of OpenAI's Chat Completions as the clients compared here need, with answers made
beforehand, so that the time measured is the client's. A streamed answer has as many pieces of text as the request's
`max_tokens` says, of one word each, `PER_WRITE` of them to a write; for the model `PACED`, `PER_SECOND` of them a
second, each in a write of its own.

Prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections.abc import Coroutine
from typing import Any, cast

from benchmarks.subjects import ANSWER, MODEL, WORDS

__all__ = ["PACED", "PER_SECOND", "PER_WRITE", "frame", "main"]

PER_WRITE = 32
PACED = "paced-1"
PER_SECOND = 20
_SLOTS = 50
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": *true')
_IS_PACED = re.compile(rb'"model": *"%b"' % PACED.encode())
_CHUNKS = re.compile(rb'"max_tokens": *(\d+)')
_COMMON = {"id": "chatcmpl-0123456789abcdef", "created": 1, "model": MODEL, "service_tier": "default"}
_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 40,
    "total_tokens": 49,
    "prompt_tokens_details": dict.fromkeys(("cached_tokens", "audio_tokens"), 0),
    "completion_tokens_details": dict.fromkeys(
        ("reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"), 0
    ),
}


def frame(*deltas: dict[str, str], finish_reason: str | None = None, **more: Any) -> bytes:
    """Return one server-sent event, with the fields that OpenAI sends and one choice for each of *deltas*."""
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason} for delta in deltas]
    chunk = {**_COMMON, "object": "chat.completion.chunk", "system_fingerprint": "fp_0", "choices": choices, **more}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _whole() -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer = {
        **_COMMON,
        "object": "chat.completion",
        "choices": [choice],
        "usage": _USAGE,
        "system_fingerprint": "fp_0",
    }
    body = json.dumps(answer, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _part(data: bytes) -> bytes:
    """Return *data* as one piece of a body in chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_WHOLE = _whole()
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    + _part(frame({"role": "assistant", "content": ""}))
)
_PIECES = [frame({"content": WORDS[number % len(WORDS)]}) for number in range(PER_WRITE)]
_ONES = [_part(piece) for piece in _PIECES[: len(WORDS)]]
_MANY = _part(b"".join(_PIECES))
_TAIL = _part(frame({}, finish_reason="stop")) + _part(frame(usage=_USAGE)) + _part(b"data: [DONE]\n\n") + _part(b"")


class _Pacer:
    """Writes to thousands of streams at a pace, with one clock for all: each has one of the slots of a period."""

    def __init__(self) -> None:
        self._slots: list[dict[asyncio.Transport, int]] = [{} for _ in range(_SLOTS)]
        self._next = 0
        self._running: asyncio.Task[None] | None = None

    def add(self, transport: asyncio.Transport, chunks: int) -> None:
        """Stream so many pieces to *transport* from its next turn on."""
        self._slots[self._next][transport] = chunks
        self._next = (self._next + 1) % _SLOTS
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        loop, turn = asyncio.get_running_loop(), 0
        began = loop.time()
        while any(self._slots):
            slot = self._slots[turn % _SLOTS]
            for transport, left in list(slot.items()):
                if left and not transport.is_closing():
                    transport.write(_ONES[left % len(_ONES)])
                    slot[transport] = left - 1
                    continue
                del slot[transport]
                if not transport.is_closing():
                    transport.write(_TAIL)
            turn += 1
            await asyncio.sleep(max(0.0, began + turn / (PER_SECOND * _SLOTS) - loop.time()))
        self._running = None


class _Connection(asyncio.Protocol):
    """One connection; requests may come in any pieces, and the next one may come with the last piece."""

    def __init__(self, pacer: _Pacer) -> None:
        self._pacer = pacer
        self._received = b""
        self._writable = asyncio.Event()
        self._writable.set()
        self._streaming: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._streaming is not None:
            self._streaming.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            end += 4 + (int(length[1]) if length else 0)
            if len(self._received) < end:
                return
            request, self._received = self._received[:end], self._received[end:]
            if not _STREAM.search(request):
                self._transport.write(_WHOLE)
                continue
            found = _CHUNKS.search(request)
            chunks = int(found[1]) if found else PER_WRITE
            if _IS_PACED.search(request):
                self._transport.write(_HEAD)
                self._pacer.add(self._transport, chunks)
            else:
                self._streaming = asyncio.ensure_future(self._stream(chunks))

    async def _stream(self, chunks: int) -> None:
        self._transport.write(_HEAD)
        for _ in range(chunks // PER_WRITE):
            await self._writable.wait()
            self._transport.write(_MANY)
        if rest := chunks % PER_WRITE:
            self._transport.write(_part(b"".join(_PIECES[:rest])))
        self._transport.write(_TAIL)


async def _serve() -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    pacer = _Pacer()
    server = await loop.create_server(lambda: _Connection(pacer), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=watch, daemon=True).start()
    await over.wait()
    server.close()


def main() -> None:
    """Serve until standard input ends, with uvloop where it is installed."""
    serving: Coroutine[Any, Any, None] = _serve()
    try:
        import uvloop  # optional: the benchmark must also run without it
    except ImportError:
        asyncio.run(serving)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serving)


if __name__ == "__main__":
    main()
