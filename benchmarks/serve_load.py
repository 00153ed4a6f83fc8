"""The clients of the server's benchmark: a process that asks for streams, as many at once as it is told, and counts.

Run as `python -m benchmarks.serve_load`. An order is one line of JSON on standard input, as for `benchmarks.child`, and
its figures, or an `error`, are one on standard output. A request is given whole, as the text that goes over the wire.
Of what comes back no more is read than counting takes, so that the client costs little beside what it measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

__all__ = ["main", "resident"]

_WORD_ENDS = b' "'
"""What is in each piece of text, since the words end so, and nowhere else in JSON that is written without spaces."""
_OPENED_A_SECOND = 500
_PATIENCE = 10.0
"""Seconds that streams may take beyond twice their time."""


def resident(process: int) -> float:
    """Return the megabytes that a process and all its children have resident; 0 where it is over."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6 + sum(map(resident, children))


class _Stream(asyncio.Protocol):
    """A connection that asks for one stream after the other, and knows of the last how many words came, and when."""

    def __init__(self) -> None:
        self.words, self.fault = 0, ""
        self._head: bytes | None = None
        self._carried = self._cut = b""
        self._over: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send *request*; what is returned is done when the answer, or the connection, is over."""
        self.words, self.fault = 0, ""
        self.first = self.last = self.began = time.perf_counter()
        self._head = b""
        self._carried = self._cut = b""
        self._left, self._closing = 0, False
        self._over = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._over

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if head.split(b" ", 2)[1] != b"200":
                self._end(f"The answer was {self._head.decode(errors='replace')}")
                return
            self._head = None
        seen = self._carried + self._body(data)
        self._carried = seen[-1:]
        if more := seen.count(_WORD_ENDS):
            self.last = time.perf_counter()
            if not self.words:
                self.first = self.last
            self.words += more
        if self._closing and not self._left:
            self._end()

    def _body(self, data: bytes) -> bytes:
        """Return what *data* has of the body, without the chunks in which servers cut it up as they like."""
        data, at = self._cut + data, 0
        pieces: list[bytes] = []
        while at < len(data):
            if self._left > 2:
                pieces.append(piece := data[at : at + self._left - 2])
                at += len(piece)
                self._left -= len(piece)
            elif self._left:  # the end of line after a chunk
                skipped = min(self._left, len(data) - at)
                at += skipped
                self._left -= skipped
            elif (end := data.find(b"\r\n", at)) >= 0:
                size = int(data[at:end], 16)
                at, self._left, self._closing = end + 2, size + 2, not size
            else:
                break
        self._cut = data[at:]
        return b"".join(pieces)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("The connection ended in the middle of the answer.")

    def _end(self, fault: str = "") -> None:
        if self._over is not None and not self._over.done():
            self.fault = fault
            self._over.set_result(None)


async def _connect(port: int) -> _Stream:
    _, stream = await asyncio.get_running_loop().create_connection(_Stream, "127.0.0.1", port)
    return stream


async def _read(stream: _Stream, request: bytes, words: int) -> None:
    """Read one answer, which has to be whole."""
    await asyncio.wait_for(stream.ask(request), 60)
    if stream.fault or stream.words != words:
        raise RuntimeError(stream.fault or f"Of {words:,} words of an answer came {stream.words:,}.")


async def first(port: int, request: str, words: int, seconds: float) -> float:
    """Return the median microseconds until the first word, of streams one after the other on one connection."""
    stream = await _connect(port)
    found: list[float] = []
    until = time.perf_counter() + seconds
    while not found or time.perf_counter() < until:
        await _read(stream, request.encode(), words)
        found.append((stream.first - stream.began) * 1e6)
    stream.transport.close()
    return statistics.median(found)


async def events(port: int, request: str, words: int, seconds: float, at_once: int) -> float:
    """Return the words a second of streams on *at_once* connections."""
    streams, done, began = [await _connect(port) for _ in range(at_once)], 0, time.perf_counter()

    async def ask(stream: _Stream) -> None:
        nonlocal done
        while not done or time.perf_counter() - began < seconds:
            await _read(stream, request.encode(), words)
            done += words

    await asyncio.gather(*map(ask, streams))
    spent = time.perf_counter() - began
    for stream in streams:
        stream.transport.close()
    return done / spent


async def hold(port: int, request: str, words: int, count: int, pace: float, process: int) -> dict[str, Any]:
    """Open *count* streams, and read them to their end.

    Returns:
        `lost`: how many words did not come. `on_pace`: how many streams took, from their first word to their last,
        within 10 % of what *pace*, in words a second, makes of that. `resident`: the most megabytes that *process* and
        its children had meanwhile; 0 without one. `fault`: what was wrong with one of those that ended early, if any.
    """
    streams: list[_Stream] = []

    async def one(number: int) -> None:
        await asyncio.sleep(number / _OPENED_A_SECOND)
        streams.append(stream := await _connect(port))
        await stream.ask(request.encode())
        stream.transport.close()

    lasting = count / _OPENED_A_SECOND + words / pace
    tasks = [asyncio.ensure_future(one(number)) for number in range(count)]
    until, most = time.perf_counter() + 2 * lasting + _PATIENCE, 0.0
    while not all(task.done() for task in tasks) and time.perf_counter() < until:
        await asyncio.sleep(0.25)
        most = max(most, resident(process) if process else 0.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for stream in streams:
        stream.transport.abort()
    due = (words - 1) / pace
    on_pace = sum(stream.words == words and abs(stream.last - stream.first - due) <= due / 10 for stream in streams)
    lost = count * words - sum(stream.words for stream in streams)
    fault = next((stream.fault for stream in streams if stream.fault), "")
    return {"lost": lost, "on_pace": on_pace, "resident": most, "fault": fault}


def main() -> None:
    """Do what standard input says, line by line, with uvloop where it is installed."""
    tasks: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {"first": first, "events": events, "hold": hold}
    try:
        import uvloop  # optional: the benchmark must also run without it
    except ImportError:
        factory = asyncio.new_event_loop
    else:
        factory = uvloop.new_event_loop
    for line in sys.stdin:
        task, arguments, options = json.loads(line)
        try:
            with asyncio.Runner(loop_factory=factory) as runner:  # one each: what an error leaves behind ends with it
                figures = runner.run(tasks[task](*arguments, **options))
        except (RuntimeError, OSError) as error:  # TimeoutError among them
            figures = {"error": str(error) or "An answer did not come to its end."}
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
