"""Floor 1: what one format says of a neutral value beyond the vocabulary: its `extra` and its `form`. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from antiphon.types import Extra, Form, Loss, Opaque, Patch
from antiphon.wire import json, patch

__all__ = ["Notes", "foreign"]

N = TypeVar("N", bound=msgspec.Struct)


class _Bearer(Protocol):
    """Anything that has room for what only one format says."""

    @property
    def extra(self) -> Extra | None: ...


class _Written(Protocol):
    """Anything that remembers how it was written."""

    @property
    def form(self) -> Form | None: ...


class Notes:
    """Keeps the notes of one format, and finds them again; those of other formats stay unseen."""

    __slots__ = ("format",)

    def __init__(self, format: str) -> None:
        self.format = format

    def unknown(self, source: Mapping[str, Any], known: Mapping[str, Any]) -> Extra | None:
        """Return the fields of *source* that are not in *known*, as `extra`.

        *known* maps a field to `None`, or to what is known of the object in it; unknown fields in there stay nested.
        """
        return self.extra_of(_rest(source, known))

    def extra_of(self, fields: dict[str, Any]) -> Extra | None:
        """Return *fields* as `extra`, or `None` where there are none."""
        return {self.format: fields} if fields else None

    def own_extra(self, node: _Bearer) -> Mapping[str, Any]:
        """Return the fields that this format alone knows of *node*."""
        return (node.extra or {}).get(self.format, {})

    def own_form(self, node: _Written) -> Patch | None:
        """Return how this format wrote *node*."""
        return (node.form or {}).get(self.format)

    def with_form(self, node: N, canonical: Mapping[str, Any], actual: Mapping[str, Any]) -> N:
        """Return *node* with the difference between the two as `form`."""
        difference = patch.diff(canonical, actual)
        return node if difference is None else msgspec.structs.replace(node, form={self.format: difference})


def _rest(source: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in source.items():
        if key not in known:
            result[key] = value
        elif known[key] is not None and json.is_object(value) and (inner := _rest(value, known[key])):
            result[key] = inner
    return result


def foreign(path: str, block: Opaque) -> Loss:
    """Return the loss of a block that belongs to another format."""
    return Loss("dropped", path, f"The block belongs to the format {block.format!r} and has no place here.")
