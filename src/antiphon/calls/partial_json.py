"""JSON read while it is still being written. No I/O.

What is shown of unfinished text is part of what it becomes: strings grow at their end, arrays by their last element,
objects by their last property. A number, a literal or an escape shows when it is complete, a property with the
beginning of its value. Text that turns out to be no JSON shows what came before the fault, and is no error here.
"""

from __future__ import annotations

import re
from typing import Any, Final

from antiphon.formats import json

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
        self._value_shown: Any = NOTHING
        self._fresh = True
        """Whether that is what the text shows."""
        self._text = ""
        self._at = 0
        """How far the text was read."""
        self._open: list[tuple[list[Any] | dict[str, Any], str]] = []
        """The open arrays and objects, the innermost last, and the key of a property that is under way."""
        self._pieces: list[str] = []
        """Of the string, key, number or literal that is under way."""
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
        self._fresh = self._fresh and not self._grew
        return self._grew

    @property
    def value(self) -> Any:
        """What the text shows so far.

        It is made anew when it is asked for after the text grew, but for elements that are complete.
        """
        if not self._fresh:
            self._value_shown, self._fresh = self._shown(), True
        return self._value_shown

    def _shown(self) -> Any:
        value = "".join(self._pieces) if self._step == self._in_string else self._root
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
            self._pieces, self._step = [], self._in_string
        elif mark == "{":
            self._open.append(({}, ""))
            self._step = self._first_key
        elif mark == "[":
            self._open.append(([], ""))
            self._step = self._first_item
        else:
            if mark:
                self._pieces, self._step = [], self._scalar
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
        """Read the beginning of a key."""
        mark = self._mark()
        if mark != '"':
            return self._broken() if mark else False
        self._at += 1
        self._pieces, self._step = [], self._in_key
        return True

    def _in_key(self) -> bool:
        if not self._ended():
            return False
        self._open[-1] = self._open[-1][0], "".join(self._pieces)
        self._step = self._colon
        return True

    def _colon(self) -> bool:
        mark = self._mark()
        if mark != ":":
            return self._broken() if mark else False
        self._at += 1
        self._step = self._value
        return True

    def _in_string(self) -> bool:
        before = len(self._pieces)
        ended = self._ended()
        self._grew = self._grew or len(self._pieces) > before
        if ended:
            self._finished("".join(self._pieces))
        return ended

    def _ended(self) -> bool:
        """Read on in a string, and say whether it came to its end."""
        end = self._whole(self._at)
        if end > self._at:
            self._pieces.append(json.decode(f'"{self._text[self._at : end]}"'))
            self._at = end
        if self._text[end : end + 1] != '"':
            return False
        self._at += 1
        return True

    def _scalar(self) -> bool:
        match = _SCALAR.match(self._text, self._at)
        end = match.end() if match else self._at
        self._pieces.append(self._text[self._at : end])
        self._at = end
        if end == len(self._text):
            return False  # it may go on
        try:
            value = json.decode("".join(self._pieces))
        except json.MALFORMED:
            return self._broken()
        self._grew = True
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
