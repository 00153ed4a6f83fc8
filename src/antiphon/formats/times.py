"""The times in answers: read from whatever a provider sends, written so that no value fails. No I/O."""

from __future__ import annotations

import math
from datetime import UTC, datetime

__all__ = ["timestamp", "unix_seconds", "unix_time"]

_LATEST = 253402300799
"""The last second of the year 9999, where the calendar ends."""
_EARLIEST = -62135596800
"""The first second of the year 1."""


def unix_seconds(value: object) -> int:
    """Return a Unix time in seconds, however it is written; 0 where that is none.

    Known ways: a number, with a fraction or without; the same as text; an RFC 3339 timestamp; and milliseconds,
    microseconds or nanoseconds, which are known by lying beyond the year 9999.
    """
    number = _number(value)
    if number is None:
        return unix_time(value)
    for _ in range(3):
        if number <= _LATEST:
            break
        number //= 1000
    return int(number) if _EARLIEST <= number <= _LATEST else 0


def _number(value: object) -> float | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    return value if type(value) is float and math.isfinite(value) else None


def unix_time(text: object) -> int:
    """Return the Unix time in seconds of an RFC 3339 timestamp, fractions cut off; 0 for anything else."""
    if not isinstance(text, str):
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int(moment.timestamp()) if moment.tzinfo is not None else 0


def timestamp(seconds: int) -> str:
    """Return the RFC 3339 timestamp of a Unix time; 0 in place of one beyond the year 9999."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat().replace("+00:00", "Z")
