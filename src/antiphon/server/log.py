"""The access log: one line of JSON for each request, without prompts, answers and keys."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime
from io import UnsupportedOperation
from queue import SimpleQueue
from typing import Any, Protocol

import msgspec

from antiphon.chat.usage import Usage
from antiphon.server.exchange import Exchange
from antiphon.server.fields import MAX_ID, one_line

__all__ = ["AccessLog", "line"]

logger = logging.getLogger("antiphon.server")


_MOST = 10_000
"""Lines that may wait to be written, some 5 MB."""
_STOP_SECONDS = 2.0
_REPORT_SECONDS = 60.0


class Output(Protocol):
    """What the log is written to: a file without a buffer, or an object in memory."""

    def write(self, data: Any, /) -> int | None:
        """Write *data*; return how many bytes were, or `None`: none by a file that does not block, all by an object."""
        ...


class AccessLog:
    """Writes the log, to a file in a thread of its own: a file that cannot be written costs lines, not requests.

    Args:
        output: Where it goes, mostly standard output. An object in memory keeps nothing waiting, so each line is
            written to it at once.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._is_file = _is_file(output)
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._lost = 0
        self._reported = float("-inf")
        self._cut = False
        """Whether the last line was written in part."""
        self._thread: threading.Thread | None = None
        if self._is_file:
            self._thread = threading.Thread(target=self._write_all, name="antiphon-access-log", daemon=True)
            self._thread.start()

    def __call__(self, exchange: Exchange) -> None:
        """Take the line of a request that is over. It never waits."""
        text = msgspec.json.encode(line(exchange)) + b"\n"
        if not self._is_file:
            self._try_to_write(text)
        elif self._lines.qsize() < _MOST:
            self._lines.put(text)
        else:
            self._lose(1, "what reads it does not keep up")

    def close(self) -> None:
        """Write what waits, for two seconds at most."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(_STOP_SECONDS)
        if self._lost:
            logger.error("%d lines of the access log were lost.", self._lost)

    def _write_all(self) -> None:
        while (text := self._lines.get()) is not None:
            self._try_to_write(text)

    def _try_to_write(self, text: bytes) -> None:
        try:
            self._write(b"\n" + text if self._cut else text)
        except OSError as error:  # a full disk may have room again, so it is tried with each line
            self._lose(1, error.strerror or type(error).__name__)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = self._output.write(rest)
            if written is None and not self._is_file:
                return
            if written is None:  # a pipe that does not block, and is full
                time.sleep(0.05)
                continue
            rest = rest[written:]
            self._cut = bool(rest)

    def _lose(self, count: int, why: str) -> None:
        self._lost += count
        if (now := time.monotonic()) - self._reported >= _REPORT_SECONDS:
            self._reported = now
            logger.error("The access log cannot be written: %s. Lines lost so far: %d.", why, self._lost)


def _is_file(output: Any) -> bool:
    try:
        output.fileno()
    except (AttributeError, UnsupportedOperation):
        return False
    return True


def line(exchange: Exchange) -> dict[str, Any]:
    """Return what the log says of a request; what does not apply is left out. Durations are in milliseconds."""
    usage = exchange.usage or Usage()
    told = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "id": exchange.id,
        "method": exchange.method,
        "path": exchange.path[:200],
        "status": exchange.status or None,
        "outcome": exchange.outcome,
        "error": exchange.error,
        "operation": exchange.operation or None,
        "key": exchange.key,
        "model": exchange.model[:200] or None,
        "provider": exchange.provider or None,
        "provider_id": None if exchange.provider_id is None else one_line(exchange.provider_id, MAX_ID),
        "stream": exchange.streamed or None,
        "queue_ms": round(exchange.queued * 1000, 1) or None,
        "first_token_ms": None if exchange.first is None else round(exchange.first * 1000, 1),
        "total_ms": round(exchange.seconds * 1000, 1),
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "losses": len(exchange.losses) or None,
    }
    return {name: value for name, value in told.items() if value is not None}
