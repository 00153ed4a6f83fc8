"""The upstream of the benchmark: an HTTP server in a process of its own that does next to nothing for each request.

It speaks as much HTTP/1.1 and as much of OpenAI's Chat Completions as the clients compared here need, with answers made
beforehand, so that the time measured is the client's. A streamed answer has as many pieces of text as the request's
`max_tokens` says, of one word each, `PER_WRITE` of them to a write.

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

__all__ = ["PER_WRITE", "frame", "main"]

PER_WRITE = 32
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": *true')
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
_MANY = _part(b"".join(_PIECES))
_TAIL = _part(frame({}, finish_reason="stop")) + _part(frame(usage=_USAGE)) + _part(b"data: [DONE]\n\n") + _part(b"")


class _Connection(asyncio.Protocol):
    """One connection; requests may come in any pieces, and the next one may come with the last piece."""

    def __init__(self) -> None:
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
            chunks = _CHUNKS.search(request)
            self._streaming = asyncio.ensure_future(self._stream(int(chunks[1]) if chunks else PER_WRITE))

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
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
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
