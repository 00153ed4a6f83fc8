"""Going back in time with a decoder, many times cheaper than a copy of it for each of a million bytes.

What a decoder remembers is a graph of objects, lists, dictionaries, sets and byte arrays. Everything else, events above
all, is a value that nobody changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from types import FunctionType
from typing import Any

import msgspec

_VALUES = (str, bytes, int, float, type(None), type, tuple, msgspec.Struct, FunctionType, partial)
_LISTS = (list, set, bytearray)


class Rewinder:
    """Remembers what *root* remembers, to bring it back as often as one likes."""

    def __init__(self, root: object) -> None:
        found = [*_changeable(root, set())]
        self._steps = [step for value in found for step in _steps(value)]
        # Lists are looked at where they are held: nobody cares what becomes of one that was replaced.
        self._watched = [(value, _look(value)) for value in found if not isinstance(value, _LISTS)]
        self._before = [_kept(look()) for _, look in self._watched]

    def __call__(self) -> None:
        """Give every object the content that it had."""
        for restore, content in self._steps:
            restore(*content)

    def changes(self) -> list[tuple[int, Any]]:
        """Return which objects hold something else than they did, and what, for comparison with other changes."""
        return [
            (number, _comparable(value))
            for number, ((value, look), before) in enumerate(zip(self._watched, self._before, strict=True))
            if look() != before
        ]


def _changeable(value: Any, seen: set[int]) -> Iterator[Any]:
    """Give each object that *value* leads to and that can change."""
    if not isinstance(value, _VALUES) and id(value) not in seen:
        seen.add(id(value))
        yield value
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, _LISTS) else _look(value)()
        for item in () if isinstance(value, bytearray) else inside:
            yield from _changeable(item, seen)


def _steps(value: Any) -> Iterator[tuple[Callable[..., object], tuple[Any, ...]]]:
    """Give what brings back the content that *value* has now."""
    if isinstance(value, list | bytearray):
        yield value.__setitem__, (slice(None), value.copy())
    elif isinstance(value, dict | set):
        yield value.clear, ()
        yield value.update, (value.copy(),)
    else:
        yield from ((setattr, (value, name, getattr(value, name))) for name in _names(value))


def _look(value: Any) -> Callable[[], Any]:
    """Return what tells the content of *value*, a dictionary or an object."""
    return value.copy if isinstance(value, dict) else partial(attrgetter("__class__", *_names(value)), value)


def _kept(content: Any) -> Any:
    """Return *content* as it will stay, though lists in it change."""
    if isinstance(content, dict):
        return {key: item.copy() if isinstance(item, _LISTS) else item for key, item in content.items()}
    return tuple(item.copy() if isinstance(item, _LISTS) else item for item in content)


def _comparable(value: Any) -> Any:
    """Return something for *value* that is equal to that for another with the same inside.

    Bytes that are held in pieces are what they are together.
    """
    if isinstance(value, FunctionType):  # a closure: its code, and what it holds
        return value.__code__, [_comparable(cell.cell_contents) for cell in value.__closure__ or ()]
    if isinstance(value, _VALUES):
        return value
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list) and not (value and isinstance(value[0], bytes)):
        return [_comparable(item) for item in value]
    if isinstance(value, _LISTS):
        return b"".join(value) if isinstance(value, list) else value.copy()
    return [_comparable(item) for item in _look(value)()]


def _names(value: Any) -> list[str]:
    slots = [name for base in type(value).__mro__ for name in base.__dict__.get("__slots__", ())]
    return [*slots, *getattr(value, "__dict__", ())]
