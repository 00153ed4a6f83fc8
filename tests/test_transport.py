"""The clocks of a call."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from antiphon.http.transport import Timeout


def test_of() -> None:
    """A number or a `timedelta` is the total; the other clocks keep their defaults; nothing said is the defaults."""
    assert Timeout.of(None) == Timeout()
    assert Timeout.of(30) == Timeout.of(30.0) == Timeout.of(timedelta(seconds=30)) == Timeout(total=30.0)
    clocks = Timeout(idle=5.0)
    assert Timeout.of(clocks) is clocks


def test_defaults_end_a_silent_stream() -> None:
    """Without a word from the caller every wait has an end, and a long answer has none."""
    clocks = Timeout()
    assert None not in (clocks.connect, clocks.first_token, clocks.idle)
    assert clocks.total is None


@pytest.mark.parametrize("clock", Timeout.__struct_fields__)
@pytest.mark.parametrize("seconds", [0, -1, -0.5, math.nan])
def test_no_time_to_wait(clock: str, seconds: float) -> None:
    """Zero, less, and what is no number are errors that name the clock."""
    with pytest.raises(ValueError, match=clock):
        Timeout(**{clock: seconds})


@pytest.mark.parametrize("value", ["x", "5", b"5", [5], object()])
def test_what_is_no_time(value: Any) -> None:
    """What is no number is an error that says what a clock takes."""
    kind = type(value).__name__
    with pytest.raises(TypeError, match=f"timeout must be a number of seconds, .* of the type {kind}"):
        Timeout.of(value)
    with pytest.raises(TypeError, match=f"The idle clock must be a number of seconds, .* of the type {kind}"):
        Timeout(idle=value)


@pytest.mark.parametrize("value", [0, -1.0, timedelta(0), timedelta(seconds=-1)])
def test_no_total(value: float | timedelta) -> None:
    """A total of zero or less is an error, however it is given."""
    with pytest.raises(ValueError, match="total"):
        Timeout.of(value)
