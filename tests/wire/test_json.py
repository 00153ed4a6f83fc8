"""Reading JSON whose shape nobody promised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from antiphon.formats import json
from tests.wire import laws


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"NaN", b"Infinity", b"1e999", b'"\\ud800"', b'"\xff"', b"[" * 100_000, b'{"a":' * 100_000, b"{}{}"],
    ids=repr,
)
def test_malformed(data: bytes) -> None:
    """Whatever is not JSON, not UTF-8 or nested without end raises one of `MALFORMED` and nothing else."""
    with pytest.raises(json.MALFORMED):
        json.decode(data)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1, True),
        (1, True, False),
        (1, 1.0, False),
        (0, False, False),
        (None, False, False),
        ("a", "a", True),
        ([1, 2], [1, 2], True),
        ([1], [1, 2], False),
        ([True], [1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1.0}]}, False),
        ({}, [], False),
    ],
)
def test_same(one: object, other: object, expected: bool) -> None:
    """Values are the same only if their types are, at every depth; the order of an object's fields does not matter."""
    assert expected is json.same(one, other)
    assert expected is json.same(other, one)


@given(laws.json_values)
def test_same_as_a_copy(value: Any) -> None:
    """A value is the same as what it becomes when written and read."""
    assert json.same(value, json.decode(json.encode(value)))


def test_merged() -> None:
    """Objects that both have are merged; anything else is replaced; neither argument changes."""
    base = {"a": 1, "b": {"c": 1, "d": {"e": 1}}, "l": [1]}
    more = {"a": 2, "b": {"d": {"f": 2}}, "l": [2], "n": None}
    assert {"a": 2, "b": {"c": 1, "d": {"e": 1, "f": 2}}, "l": [2], "n": None} == json.merged(base, more)
    assert {"a": 1, "b": {"c": 1, "d": {"e": 1}}, "l": [1]} == base


@pytest.mark.parametrize(
    ("value", "integer", "text"),
    [(1, 1, None), (True, None, None), (1.0, None, None), ("1", None, "1"), ("", None, ""), (None, None, None)],
)
def test_of_one_type(value: object, integer: int | None, text: str | None) -> None:
    """Only integers are integers, booleans are not; only strings are strings."""
    assert integer == json.integer(value)
    assert text == json.text(value)
