"""Reading a client's JSON with the path of each fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from antiphon.errors import BadRequestError
from antiphon.formats import read

OPTIONAL: dict[Callable[..., Any], tuple[str, list[Any]]] = {
    read.text: ("a string", ["", "x"]),
    read.number: ("a number", [0, 1.5, -2]),
    read.integer: ("an integer", [0, -2]),
    read.boolean: ("a boolean", [True, False]),
    read.array: ("an array", [[], [1]]),
    read.object_: ("an object", [{}, {"a": 1}]),
}
REQUIRED: dict[Callable[..., Any], tuple[str, list[Any]]] = {
    read.required_text: ("a string", ["", "x"]),
    read.required_object: ("an object", [{}, {"a": 1}]),
}
KINDS = {
    "null": None,
    "a string": "private words",
    "an integer": 7,
    "a number": 1.5,
    "a boolean": True,
    "an array": ["private words"],
    "an object": {"private": "words"},
}
FITS = {"a number": {"an integer"}}


@pytest.mark.parametrize(
    ("reader", "good"), [(reader, good) for reader, (_, values) in {**OPTIONAL, **REQUIRED}.items() for good in values]
)
def test_good(reader: Callable[..., Any], good: object) -> None:
    """A value of the right type is given back as it is."""
    assert reader({"key": good}, "key", "$.in") is good


@pytest.mark.parametrize("reader", OPTIONAL)
def test_absent(reader: Callable[..., Any]) -> None:
    """An optional field that is absent or null reads as `None`."""
    assert reader({}, "key", "$") is None
    assert reader({"key": None}, "key", "$") is None


@pytest.mark.parametrize("reader", [*OPTIONAL, *REQUIRED])
@pytest.mark.parametrize("kind", KINDS)
def test_wrong(reader: Callable[..., Any], kind: str) -> None:
    """A value of any other type is a fault that names the path and both types, and does not repeat the value."""
    expected, _ = {**OPTIONAL, **REQUIRED}[reader]
    if kind == expected or kind in FITS.get(expected, ()) or (kind == "null" and reader in OPTIONAL):
        return
    with pytest.raises(BadRequestError) as caught:
        reader({"key": KINDS[kind]}, "key", "$.in[3]")
    assert f"$.in[3].key must be {expected}, not {kind}." == str(caught.value)
    assert caught.value.param == "$.in[3].key"
    assert (caught.value.status, caught.value.type, caught.value.retryable) == (400, "invalid_request_error", False)


@pytest.mark.parametrize("reader", REQUIRED)
def test_required(reader: Callable[..., Any]) -> None:
    """A required field that is absent is a fault."""
    with pytest.raises(BadRequestError, match=r"^\$\.key must be .*, not null\.$"):
        reader({}, "key", "$")


def test_body() -> None:
    """A body is a JSON object."""
    assert read.body(b' {"a": [1]} ') == {"a": [1]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[]", r"\$ must be an object, not an array"),
        (b"null", r"\$ must be an object, not null"),
        (b"1", r"\$ must be an object, not an integer"),
        (b'"secret"', r"\$ must be an object, not a string"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_bad_body(data: bytes, message: str) -> None:
    """Anything else is a fault of the whole body, told without repeating it."""
    with pytest.raises(BadRequestError, match=message) as caught:
        read.body(data)
    assert caught.value.param == "$"
    assert caught.value.status == 400
    assert "secret" not in str(caught.value)
