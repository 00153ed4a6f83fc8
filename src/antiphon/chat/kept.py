"""What a value was read from, to be written back as it came if nothing of it was changed. No I/O.

A codec that reads a JSON object keeps it with the value it makes: `keep(node, "ollama", source)`. When it writes the
value again, `as_it_came(node, "ollama")` gives the object back if every field of the value still is what was read;
otherwise `None`, and the codec writes the value in its own (canonical) way.

Three rules:

* What is kept takes no part in `==`, `hash` and `repr`: two values are equal if their fields are.
* A kept object is shared by all copies of the value: nobody may change it, nor an object that `as_it_came` gave. An
  encoder that has to change something makes a copy (`{**source, "model": …}`).
* Only a codec of the same format looks at it. A codec whose settings change how values are written (a host that refuses
  a field) must not ask for it where they apply: what is kept is what some client or host of the format wrote.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol, TypeVar, cast

import msgspec
from msgspec.structs import replace

__all__ = ["Bearing", "Kept", "Unseen", "as_it_came", "changed", "keep", "same", "without_kept"]

S = TypeVar("S", bound=msgspec.Struct)
B = TypeVar("B", bound="_Bearer")

_UNSEEN = frozenset(("kept", "wire"))
"""Fields that are in no `repr`."""

_INSIDE = frozenset((*_UNSEEN, "messages", "tools", "parts", "content", "annotations", "choices", "message", "usage"))
"""Fields with what is kept, or with values that may keep something."""

_UNWRITTEN = frozenset(("kept", "wire", "form", "provider", "losses", "headers"))
"""Fields that no format writes, so that a change of them changes nothing: who answered, what was lost on the way."""


class Unseen(msgspec.Struct, frozen=True, eq=False):
    """What is equal to anything of its kind and to `None`, so that a field with it takes no part in `==` and `hash`."""

    def __eq__(self, other: object) -> bool:
        """Tell whether *other* is a thing of this kind, or none."""
        return other is None or isinstance(other, Unseen)

    def __hash__(self) -> int:
        """Return the same for all, and for `None`."""
        return hash(None)

    def __repr__(self) -> str:
        """Show the kind alone: what is kept may be long, and private."""
        return f"<{type(self).__name__}>"


class Kept(Unseen, frozen=True, eq=False):
    """What a value was read from."""

    format: str
    """The name of the format that read it."""
    source: Any
    """The JSON object as it came; never to be changed."""
    node: Any
    """The value as it was read from it."""


class Bearing(msgspec.Struct, frozen=True):
    """A value with a field `kept` or `wire`, which its `repr` leaves out."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Give names and values of the fields."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in _UNSEEN]

    def __repr__(self) -> str:
        """Show the fields."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class _Bearer(Protocol):
    """Anything that has room for what it was read from."""

    @property
    def kept(self) -> Kept | None: ...


def keep(node: B, format: str, source: Any) -> B:
    """Return *node*, which *format* read from *source*, with that kept."""
    return cast(B, replace(cast(Any, node), kept=Kept(format, source, node)))


def as_it_came(node: _Bearer, format: str) -> Any:
    """Return what *format* read *node* from if nothing of it was changed since, or else `None`; never to be changed."""
    kept = node.kept
    if kept is None or kept.format != format:
        return None
    return kept.source if same(node, kept.node) else None


def changed(node: _Bearer, format: str) -> list[str] | None:
    """Return the names of the fields of *node* that were changed since *format* read it; `None`: it did not."""
    kept = node.kept
    if kept is None or kept.format != format:
        return None
    before: Any = kept.node
    return [
        name
        for name in before.__struct_fields__
        if name not in _UNWRITTEN and not same(getattr(node, name), getattr(before, name))
    ]


def same(value: Any, other: Any) -> bool:
    """Whether two neutral values would be written the same: equal in type as well, at every depth.

    Not `1` and `True`, not `1` and `1.0`. Values that were not touched are the same objects, so this takes as long as
    there are fields.
    """
    if value is other:
        return True
    kind = cast(Any, type(value))
    if kind is not type(other):
        return False
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            now, then = getattr(value, name), getattr(other, name)
            if now is not then and name not in _UNWRITTEN and not same(now, then):
                return False
        return True
    if kind is tuple or kind is list:
        return len(value) == len(other) and all(map(same, value, other))
    if kind is dict:
        return value.keys() == other.keys() and all(same(item, other[key]) for key, item in value.items())
    return bool(value == other)


def without_kept(value: S) -> S:
    """Return *value* without what it was read from, at any depth: for one that goes to another format."""
    return cast(S, _without(value))


def _without(value: Any) -> Any:
    if isinstance(value, tuple):
        return _all_without(cast(tuple[Any, ...], value))  # type: ignore[redundant-cast]
    if not isinstance(value, Bearing):
        return value
    changes: dict[str, Any] = {}
    for name in _inside(type(value)):
        now = getattr(value, name)
        if not now:
            continue
        then = None if name in _UNSEEN else _without(now)
        if then is not now:
            changes[name] = then
    return replace(value, **changes) if changes else value


@cache
def _inside(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if name in _INSIDE)


def _all_without(values: tuple[Any, ...]) -> tuple[Any, ...]:
    bare = tuple(map(_without, values))
    return values if all(map(_is, values, bare)) else bare


def _is(one: object, other: object) -> bool:
    return one is other
