"""Bounds on the JSON schemas that llama.cpp makes grammars of.

A grammar costs time for each place in which the text so far may be, at each token. Measured with the default model on 2
CPUs, for an answer of 4 tokens (xllamacpp 2026.10.11549, 2026-11-29): an enum of 250 values 0.4 s, of 1,000 2 s, of
2,000 7 s; the pattern `^(a{0,30}){0,30}$` 0.2 s, `^((a{0,9}){0,9}){0,20}$` 124 s, and with 999 in each place it does
not end. An object of 400 properties that may be left out takes 0.5 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from antiphon.errors import BadRequestError
from antiphon.formats import json

__all__ = ["MAX_DEPTH", "MAX_ENUM", "MAX_NODES", "MAX_PATTERN", "MAX_REPEAT", "MAX_SIZE", "check_schema"]

MAX_SIZE = 128_000
"""Bytes of all schemas of a request as JSON."""
MAX_DEPTH = 32
"""Objects and arrays inside each other, of one schema as it is written, and of schemas that refer to each other."""
MAX_NODES = 2_000
"""Schemas inside a schema, each counted as often as it is referred to."""
MAX_ENUM = 500
"""Values of all enums, together."""
MAX_REPEAT = 2_000
"""How often something may repeat, bounds inside each other multiplied: `maxItems` of an array in an array, and so on.
llama.cpp itself refuses more than this for one bound."""
MAX_PATTERN = 500
"""Characters of a pattern."""
MAX_PATTERN_REPEAT = 1_000
"""Characters that a pattern stands for, those that repeat counted each time."""

_BOUNDS = ("minItems", "maxItems", "minLength", "maxLength")
_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_LISTED = ("items", "prefixItems", "anyOf", "oneOf", "allOf")
_NAMED = ("properties", "patternProperties", "dependentSchemas")
_NEARER = frozenset({"anyOf", "oneOf", "allOf", "not", "if", "then", "else"})
"""What says more of the same value, so that a reference through these alone, back to where it began, has no end."""
_MAX_NESTED = 2
_PART = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\{(?P<least>\d+|(?=,))(?:,(?P<most>\d*))?\}|.", re.DOTALL)


def check_schema(schema: Mapping[str, Any], path: str, *, size: int = 0) -> int:
    """Check one schema of a request, whose other schemas so far have *size* bytes; return how many there are now.

    Raises:
        BadRequestError: It is beyond one of the bounds, which the message names; or it refers to itself without end.
    """
    _check_depth(schema, path)
    encoded = json.encode(schema)
    size += len(encoded)
    if size > MAX_SIZE:
        _refuse(path, f"the schemas of a request have {size:,} bytes together, and at most {MAX_SIZE:,} are taken")
    root = json.decode(encoded)
    _Check(root, path).look(root, 1, 0, ())
    return size


def _refuse(path: str, why: str) -> NoReturn:
    raise BadRequestError(
        f"The local model cannot be held to this JSON schema: {why}. Make it simpler.", status=400, param=path
    )


def _check_depth(schema: Mapping[str, Any], path: str) -> None:
    level: list[Any] = [schema]
    for _ in range(2 * MAX_DEPTH):
        level = [inner for outer in level for inner in _values(outer) if isinstance(inner, Mapping | list | tuple)]
        if not level:
            return
    _refuse(path, f"it is more than {2 * MAX_DEPTH} objects and arrays deep")


def _values(outer: Any) -> Iterable[Any]:
    values: Iterable[Any] = outer.values() if hasattr(outer, "values") else outer
    return values


class _Check:
    """Goes through a schema as llama.cpp does, and counts."""

    def __init__(self, root: Mapping[str, Any], path: str) -> None:
        self._root = root
        self._path = path
        self._nodes = 0
        self._values = 0
        self._open: dict[str, int] = {}
        """The references that are being followed, and how often what they stand in may repeat."""

    def look(self, schema: Any, repeat: int, depth: int, within: tuple[str, ...]) -> None:
        """Check *schema*, which may be repeated so often, that deep, reached through these references."""
        if not json.is_object(schema):
            return
        self._nodes += 1
        if self._nodes > MAX_NODES:
            _refuse(self._path, f"it has more than {MAX_NODES:,} schemas in it, those it refers to counted each time")
        if depth > MAX_DEPTH:
            _refuse(self._path, f"its schemas are more than {MAX_DEPTH} deep")
        self._look_at_values(schema)
        repeat = self._repeated(schema, repeat)
        if isinstance(pattern := schema.get("pattern"), str):
            _check_pattern(pattern, self._path)
        if isinstance(ref := schema.get("$ref"), str):
            self._follow(ref, repeat, depth, within)
        for key, inner in _inside(schema):
            self.look(inner, repeat, depth + 1, within if key in _NEARER else ())

    def _look_at_values(self, schema: Mapping[str, Any]) -> None:
        values = schema.get("enum")
        self._values += len(values) if json.is_array(values) else 0
        if self._values > MAX_ENUM:
            _refuse(self._path, f"its enums have more than {MAX_ENUM:,} values together")

    def _repeated(self, schema: Mapping[str, Any], repeat: int) -> int:
        bounds = [value for key in _BOUNDS if isinstance(value := schema.get(key), int | float)]
        repeat *= max(1, int(max(bounds, default=1)))
        if repeat > MAX_REPEAT:
            _refuse(
                self._path,
                f"{', '.join(_BOUNDS)} let something in it repeat {repeat:,} times, bounds inside each other "
                f"multiplied, and at most {MAX_REPEAT:,} are taken",
            )
        return repeat

    def _follow(self, ref: str, repeat: int, depth: int, within: tuple[str, ...]) -> None:
        if not ref.startswith("#"):
            _refuse(self._path, "it refers to another document")
        if ref in within:
            _refuse(self._path, f"{ref[:100]!r} refers to itself and to nothing else")
        found: Any = self._root
        for step in filter(None, ref[1:].split("/")):
            step = step.replace("~1", "/").replace("~0", "~")
            if json.is_object(found) and step in found:
                found = found[step]
            elif json.is_array(found) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                _refuse(self._path, f"it refers to {ref[:100]!r}, which is not in it")
        if ref in self._open:  # llama.cpp makes one rule of it, which refers to itself
            if repeat > self._open[ref]:
                _refuse(self._path, f"{ref[:100]!r} refers to itself where it repeats")
            return
        self._open[ref] = repeat
        self.look(found, repeat, depth + 1, (*within, ref))
        del self._open[ref]


def _inside(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the schemas in *schema*, each with the keyword under which it stands."""
    for key in _ONE:
        if json.is_object(inner := schema.get(key)):
            yield key, inner
    for key in _LISTED:
        if json.is_array(several := schema.get(key)):
            yield from ((key, inner) for inner in several)
    for key in _NAMED:
        if json.is_object(named := schema.get(key)):
            yield from ((key, inner) for inner in named.values())


def _check_pattern(pattern: str, path: str) -> None:
    """Check a regular expression: how often its parts repeat, multiplied inside each other, and how deep that goes."""
    if len(pattern) > MAX_PATTERN:
        _refuse(path, f"a pattern has {len(pattern):,} characters, and at most {MAX_PATTERN} are taken")
    sizes = [0]
    """Characters that each open group stands for, those that repeat counted each time."""
    nested = [0]
    """How deep parts that repeat stand inside each other, in each open group."""
    last = (0, 0)
    """The same two numbers of what a repetition would repeat."""
    place = 0
    while place < len(pattern):
        found = _PART.match(pattern, place)
        assert found is not None, "any character is a part"
        part, place = found[0], found.end()
        if part == "(":
            sizes.append(0)
            nested.append(0)
            last = (0, 0)
        elif part == ")" and len(sizes) > 1:
            last = (sizes.pop(), nested.pop())
            sizes[-1] += last[0]
            nested[-1] = max(nested[-1], last[1])
        elif (times := _times(found)) is None:
            last = (1, 0)
            sizes[-1] += 1
        else:
            sizes[-1] += last[0] * (times - 1)
            last = (last[0] * times, last[1] + 1)
            nested[-1] = max(nested[-1], last[1])
        if len(sizes) > MAX_DEPTH or max(nested) > _MAX_NESTED or sum(sizes) > MAX_PATTERN_REPEAT:
            _refuse(
                path,
                f"a pattern stands for more than {MAX_PATTERN_REPEAT} characters, those that repeat counted each time, "
                f"or has more than {_MAX_NESTED} repetitions, or {MAX_DEPTH} groups, inside each other",
            )


def _times(part: re.Match[str]) -> int | None:
    """Return how often *part* of a pattern repeats what stands before it; `None`: it is no repetition."""
    if part[0] in ("*", "+", "?"):
        return 1
    if part["least"] is None:
        return None
    return max(1, *(min(int(bound), MAX_REPEAT) for bound in (part["least"], part["most"]) if bound))
