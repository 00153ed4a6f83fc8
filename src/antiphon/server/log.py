"""Floor 6: the access log: one line of JSON for each request, without prompts, answers and keys."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec

from antiphon.server.exchange import Exchange
from antiphon.types import Usage

__all__ = ["AccessLog", "line"]

logger = logging.getLogger("antiphon.server")


class AccessLog:
    """Writes the log.

    Args:
        output: Where it goes, mostly standard output.
    """

    def __init__(self, output: BinaryIO) -> None:
        self._output: BinaryIO | None = output

    def __call__(self, exchange: Exchange) -> None:
        """Write the line of a request that is over."""
        if self._output is None:
            return
        try:
            self._output.write(msgspec.json.encode(line(exchange)) + b"\n")
            self._output.flush()
        except OSError as error:  # whoever read it is gone; requests are answered without it
            self._output = None
            logger.error("The access log cannot be written any more: %s", error.strerror)


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
        "provider_id": exchange.provider_id,
        "stream": exchange.streamed or None,
        "queue_ms": round(exchange.queued * 1000, 1) or None,
        "first_token_ms": None if exchange.first is None else round(exchange.first * 1000, 1),
        "total_ms": round(exchange.seconds * 1000, 1),
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "losses": len(exchange.losses) or None,
    }
    return {name: value for name, value in told.items() if value is not None}
