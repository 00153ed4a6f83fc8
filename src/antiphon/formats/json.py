"""Reading JSON whose shape nobody promised. No I/O.

Upstream replies are read as plain dicts and lists (a typed decoder would drop unknown fields), so every codec asks
the same few questions of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard, cast

import msgspec

__all__ = ["MALFORMED", "decode", "encode", "integer", "is_array", "is_object", "merged", "same", "text"]

decode = msgspec.json.Decoder().decode
"""JSON bytes or text to dicts, lists, strings, numbers, booleans and `None`; raises one of `MALFORMED`."""

encode = msgspec.json.Encoder().encode
"""The other way, to bytes without spaces."""

MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `decode` raises: not JSON, not UTF-8 inside a string, or nested beyond what the interpreter bears."""


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether *value* is a JSON object."""
    return type(value) is dict


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether *value* is a JSON array."""
    return type(value) is list


def text(value: object) -> str | None:
    """Return *value* if it is a string, and else `None`."""
    return value if isinstance(value, str) else None


def integer(value: object) -> int | None:
    """Return *value* if it is an integer, and else `None`; Python holds booleans to be integers, JSON does not."""
    return value if type(value) is int else None


def same(one: object, other: object) -> bool:
    """Whether two JSON values are equal in type as well, at every depth: not `1` and `true`, not `1` and `1.0`."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if is_object(one):
        others = cast(dict[str, Any], other)
        return one.keys() == others.keys() and all(same(value, others[key]) for key, value in one.items())
    if is_array(one):
        items = cast(list[Any], other)
        return len(one) == len(items) and all(map(same, one, items))
    return one == other


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return *base* with the fields of *more* put in; objects that both have are merged, else *more* wins."""
    result = dict(base)
    for key, value in more.items():
        before = result.get(key)
        result[key] = merged(before, value) if is_object(before) and is_object(value) else value
    return result
