"""Where a text meets the strings that end it. No I/O."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["Stops"]

_FEW = 16
"""Strings up to which each is looked for by itself, which is faster than any order among them."""


class Stops:
    """Strings that end a text, however many; empty ones are none. False where there are none.

    They are kept in order, without those that begin with another, which is complete before them: so at most one of them
    begins at a place, and two steps of a search find it among all.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        self._strings: list[str] = []
        for string in sorted(filter(None, strings)):
            if not (self._strings and string.startswith(self._strings[-1])):
                self._strings.append(string)
        self._longest = max(map(len, self._strings), default=0)
        firsts = sorted({string[0] for string in self._strings})
        self._first = re.compile(f"[{''.join(map(re.escape, firsts))}]" if firsts else r"(?!)")

    def __bool__(self) -> bool:
        return bool(self._strings)

    def find(self, text: str) -> int | None:
        """Return where the string begins that is complete first in *text*, the longest if several are; else `None`."""
        places = ((place + len(string), place) for string, place in self._found(text))
        return min(places, default=(0, None))[1]

    def _found(self, text: str) -> Iterator[tuple[str, int]]:
        if len(self._strings) <= _FEW:
            for string in self._strings:
                if (place := text.find(string)) >= 0:
                    yield string, place
            return
        end = len(text)
        for match in self._first.finditer(text):
            place = match.start()
            if place >= end:
                return
            rest = text[place : place + self._longest]
            string = self._strings[max(0, bisect_right(self._strings, rest) - 1)]
            if rest.startswith(string):
                end = min(end, place + len(string))
                yield string, place

    def begun(self, text: str) -> int:
        """Return where the first part of *text* begins that lasts to its end and may become one; else its length."""
        start = max(0, len(text) - self._longest + 1)
        for match in self._first.finditer(text, start):
            rest = text[match.start() :]
            place = bisect_left(self._strings, rest)
            if place < len(self._strings) and self._strings[place].startswith(rest):
                return match.start()
        return len(text)
