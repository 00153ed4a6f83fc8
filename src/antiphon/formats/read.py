"""Reading a client's JSON with the path of each fault. No I/O.

Every function takes the object, the key and the path of the object, and raises `BadRequestError` whose `param` is the
path of the value that is wrong. An explicit `null` reads as absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from antiphon.errors import BadRequestError
from antiphon.formats import json

__all__ = [
    "array",
    "body",
    "boolean",
    "check_size",
    "fault",
    "integer",
    "number",
    "object_",
    "request",
    "required_object",
    "required_text",
    "text",
    "weight",
]

R = TypeVar("R")

_KINDS: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
}


def fault(path: str, expected: str, got: object = None) -> NoReturn:
    """Raise the error for a wrong value at *path*; the value itself is not shown, it may be private."""
    kind = "null" if got is None else _KINDS.get(type(got), type(got).__name__)
    raise BadRequestError(
        f"{path} must be {expected}, not {kind}.", status=400, param=path, type="invalid_request_error"
    )


def body(data: bytes) -> dict[str, Any]:
    """Return the JSON object in *data*."""
    try:
        value = json.decode(data)
    except json.MALFORMED as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequestError(
            f"The request body is not valid JSON: {why}.", status=400, param="$", type="invalid_request_error"
        ) from None
    if not json.is_object(value):
        fault("$", "an object", value)
    return value


def check_size(data: bytes, most: int) -> None:
    """Fail where the JSON in *data* has more than *most* values, of all kinds and at all depths; nothing is decoded.

    What counts are the places where a value may begin: after a comma, and after an opening bracket.

    Raises:
        BadRequestError: It has.
    """
    if len(data) <= 2 * most or _places(data, 0, len(data)) < most:  # each takes two bytes at least
        return
    # Not all of these are outside of strings. Without escapes, every other quotation mark ends one.
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    count, strings, at = 1, 0, 0
    while count <= most and strings <= 2 * most:  # a field takes two strings at most
        start = plain.find(b'"', at)
        count += _places(plain, at, len(plain) if start < 0 else start)
        end = plain.find(b'"', start + 1) if start >= 0 else -1
        if end < 0:
            break
        strings, at = strings + 1, end + 1
    if count > most or strings > 2 * most:
        raise BadRequestError(
            f"The request has more than {most:,} JSON values (limits.values of this server): send fewer messages, "
            "parts, tools or texts at a time.",
            status=400,
            param="$",
            type="invalid_request_error",
        )


_SHORT = 1000
"""Bytes that are little work, whatever they hold."""


def weight(data: bytes) -> int:
    """Return how much work the JSON in *data* is, as bytes of JSON made of short values; nothing is decoded.

    What costs are values, and what is made of them: a long text is no more work than a short one.
    """
    if len(data) <= _SHORT:
        return len(data)
    return len(data) // 16 + 64 * _places(data, 0, len(data))


def _places(data: bytes, start: int, end: int) -> int:
    return data.count(b",", start, end) + data.count(b"[", start, end) + data.count(b"{", start, end)


def request(data: bytes, decode: Callable[[dict[str, Any]], R], *, type: str = "invalid_request_error") -> R:
    """Return what *decode* makes of the JSON object in *data*; *type* is the format's word for a refused request."""
    try:
        return decode(body(data))
    except RecursionError:
        raise BadRequestError("The request body is nested too deeply.", status=400, param="$", type=type) from None


def text(source: dict[str, Any], key: str, path: str) -> str | None:
    """Return the string at *key*, or `None` where there is none."""
    value = source.get(key)
    if value is not None and not isinstance(value, str):
        fault(f"{path}.{key}", "a string", value)
    return value


def required_text(source: dict[str, Any], key: str, path: str) -> str:
    """Return the string at *key*, which must be there."""
    value = source.get(key)
    if not isinstance(value, str):
        fault(f"{path}.{key}", "a string", value)
    return value


def number(source: dict[str, Any], key: str, path: str) -> float | None:
    """Return the number at *key*, or `None`."""
    value = source.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        fault(f"{path}.{key}", "a number", value)
    if value is not None and not -math.inf < value < math.inf:
        fault(f"{path}.{key}", "a finite number, which is all that JSON has", value)
    return value


def integer(source: dict[str, Any], key: str, path: str) -> int | None:
    """Return the integer at *key*, or `None`."""
    value = source.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        fault(f"{path}.{key}", "an integer", value)
    return value


def boolean(source: dict[str, Any], key: str, path: str) -> bool | None:
    """Return the boolean at *key*, or `None`."""
    value = source.get(key)
    if value is not None and not isinstance(value, bool):
        fault(f"{path}.{key}", "a boolean", value)
    return value


def array(source: dict[str, Any], key: str, path: str) -> list[Any] | None:
    """Return the array at *key*, or `None`."""
    value = source.get(key)
    if value is None or json.is_array(value):
        return value
    fault(f"{path}.{key}", "an array", value)


def object_(source: dict[str, Any], key: str, path: str) -> dict[str, Any] | None:
    """Return the object at *key*, or `None`."""
    value = source.get(key)
    if value is None or json.is_object(value):
        return value
    fault(f"{path}.{key}", "an object", value)


def required_object(source: dict[str, Any], key: str, path: str) -> dict[str, Any]:
    """Return the object at *key*, which must be there."""
    value = source.get(key)
    if not json.is_object(value):
        fault(f"{path}.{key}", "an object", value)
    return value
