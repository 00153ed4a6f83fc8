"""Floor 6: JSON read while it is still being written. No I/O.

What is shown of unfinished text is part of what it becomes: strings grow at their end, arrays by their last element,
objects by their last property. A number, a literal or an escape shows when it is complete, a property with the
beginning of its value. Text that turns out to be no JSON shows what came before the fault, and is no error here.
"""

from __future__ import annotations

import re
from typing import Any, Final

from antiphon.wire import json

__all__ = ["NOTHING", "PartialJSON"]

NOTHING: Final[Any] = object()
"""The value of text that shows none yet."""

# A string as far as it is complete and valid: not half an escape, nor the first half of a surrogate pair.
_WHOLE = re.compile(
    r'(?:[^"\\\x00-\x1f\ud800-\udfff]+|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*"
)
_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"[-+.0-9A-Za-z]*")
_FENCE = "```"


class PartialJSON:
    """Takes one JSON text in pieces, which may be wrapped in a Markdown fence; what follows it is ignored."""

    def __init__(self) -> None:
        self.value: Any = NOTHING
        """What the text shows so far. It is made anew each time that it grows, but for elements that are complete."""
        self._text = ""
        self._at = 0
        """How far the text was read."""
        self._open: list[tuple[list[Any] | dict[str, Any], str]] = []
        """The open arrays and objects, the innermost last, and the key of a property that is under way."""
        self._string: str | None = None
        """The open string."""
        self._root: Any = NOTHING
        self._grew = False
        self._step = self._begin

    def feed(self, piece: str) -> bool:
        """Take the next piece, and say whether `value` grew."""
        self._text = self._text[self._at :] + piece
        self._at = 0
        self._grew = False
        while self._step():
            pass
        if self._grew:
            self.value = self._shown()
        return self._grew

    def _shown(self) -> Any:
        value = self._root if self._string is None else self._string
        for container, key in reversed(self._open):
            copy = container.copy()
            if value is not NOTHING:
                _put(copy, key, value)
            value = copy
        return value

    # Each step reads on from `_at`, sets the next one, and says whether there is more to do with the text at hand.

    def _begin(self) -> bool:
        text = self._text.lstrip()
        if not text or (len(text) < len(_FENCE) and _FENCE.startswith(text)):
            return False
        if text.startswith(_FENCE):
            _, newline, text = text.partition("\n")
            if not newline:
                return False
        self._text, self._step = text, self._value
        return True

    def _value(self) -> bool:
        """Read the beginning of a value."""
        mark = self._mark()
        if mark == '"':
            self._string, self._step = "", self._in_string
        elif mark == "{":
            self._open.append(({}, ""))
            self._step = self._first_key
        elif mark == "[":
            self._open.append(([], ""))
            self._step = self._first_item
        else:
            self._step = self._scalar if mark else self._step
            return bool(mark)
        self._at += 1
        self._grew = True
        return True

    def _first_item(self) -> bool:
        mark = self._mark()
        self._step = self._after if mark == "]" else self._value if mark else self._step
        return bool(mark)

    def _first_key(self) -> bool:
        mark = self._mark()
        self._step = self._after if mark == "}" else self._key if mark else self._step
        return bool(mark)

    def _key(self) -> bool:
        """Read a key and the colon behind it, at once."""
        mark = self._mark()
        if mark != '"':
            return self._broken() if mark else False
        end = self._whole(self._at + 1)
        colon = self._past_space(end + 1)
        if self._text[end : end + 1] != '"' or colon >= len(self._text):
            return False  # it is read again with the next piece
        if self._text[colon] != ":":
            return self._broken()
        self._open[-1] = self._open[-1][0], json.decode(self._text[self._at : end + 1])
        self._at, self._step = colon + 1, self._value
        return True

    def _in_string(self) -> bool:
        end = self._whole(self._at)
        if end > self._at:
            self._string = (self._string or "") + json.decode(f'"{self._text[self._at : end]}"')
            self._at, self._grew = end, True
        if self._text[end : end + 1] != '"':
            return False
        self._at += 1
        string, self._string = self._string, None
        self._finished(string)
        return True

    def _scalar(self) -> bool:
        match = _SCALAR.match(self._text, self._at)
        end = match.end() if match else self._at
        if end == len(self._text):
            return False  # it may go on
        try:
            value = json.decode(self._text[self._at : end])
        except json.MALFORMED:
            return self._broken()
        self._at, self._grew = end, True
        self._finished(value)
        return True

    def _finished(self, value: Any) -> None:
        self._step = self._after
        if self._open:
            _put(*self._open[-1], value)
        else:
            self._root = value

    def _after(self) -> bool:
        """Read what follows a value."""
        mark = self._mark()
        if not mark:
            return False
        if not self._open:
            return self._broken()
        container = self._open[-1][0]
        end, step = ("]", self._value) if isinstance(container, list) else ("}", self._key)
        if mark not in (end, ","):
            return self._broken()
        self._at += 1
        if mark == end:
            self._open.pop()
            self._finished(container)
        else:
            self._step = step
        return True

    def _broken(self) -> bool:
        """Read no further: the value is complete, or this is no JSON."""
        self._step = self._broken
        self._at = len(self._text)
        return False

    def _mark(self) -> str:
        """Skip space, and return the character behind it, `""` where there is none yet."""
        self._at = self._past_space(self._at)
        return self._text[self._at : self._at + 1]

    def _past_space(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at

    def _whole(self, at: int) -> int:
        match = _WHOLE.match(self._text, at)
        return match.end() if match else at


def _put(container: list[Any] | dict[str, Any], key: str, value: Any) -> None:
    if isinstance(container, list):
        container.append(value)
    else:
        container[key] = value
