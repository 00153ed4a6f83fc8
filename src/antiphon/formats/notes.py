"""What one format says of a neutral value beyond the vocabulary: its `extra` and its `form`. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from antiphon.chat.events import (
    AudioDelta,
    Event,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Wire,
)
from antiphon.chat.losses import Loss
from antiphon.chat.messages import (
    Extra,
    Form,
    Message,
    Opaque,
    Part,
    Patch,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.formats import json, patch

__all__ = ["Growing", "Notes", "Placed", "call_input", "foreign", "grouped", "growing", "growing_key", "next_roles"]

N = TypeVar("N", bound=msgspec.Struct)

Placed: TypeAlias = tuple[str, Part]
"""A part, after its path in the neutral request."""

Growing: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta
"""What adds to a block that every format with blocks knows."""


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

    def wired(self, made: list[Event], canonical: Mapping[str, Any], frame: Mapping[str, Any]) -> list[Event]:
        """Return the events *made* of one *frame* with what makes the frame of them again."""
        difference, last = patch.diff(canonical, frame), len(made) - 1
        wires = (Wire(self.format, None if place else difference, place < last) for place in range(len(made)))
        return [msgspec.structs.replace(event, wire=wire) for event, wire in zip(made, wires, strict=True)]


def _rest(source: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in source.items():
        if key not in known:
            result[key] = value
        elif (below := known[key]) is not None and json.is_object(value) and (inner := _rest(value, below)):
            result[key] = inner
    return result


def foreign(path: str, block: Opaque) -> Loss:
    """Return the loss of a block that belongs to another format."""
    return Loss("dropped", path, f"The block belongs to the format {block.format!r} and has no place here.")


def call_input(call: ToolCall) -> dict[str, Any] | None:
    """Return the arguments of *call* as an object: an empty one for no text at all, `None` where they are no object."""
    if call.kind != "function":
        return None
    if not call.arguments.strip():
        return {}
    try:
        value = json.decode(call.arguments)
    except json.MALFORMED:
        return None
    return value if json.is_object(value) else None


def grouped(message: Message, path: str) -> list[list[Placed]]:
    """Return the parts of *message*, where each tool result is a message of its own, before the rest; one at least."""
    placed: list[Placed] = [(f"{path}.parts[{place}]", part) for place, part in enumerate(message.parts)]
    results = [[item] for item in placed if isinstance(item[1], ToolResult)]
    rest = [item for item in placed if not isinstance(item[1], ToolResult)]
    return [*results, rest] if rest or not results else results


def next_roles(messages: Sequence[Message], passed_over: Collection[str], last: str) -> list[str]:
    """Return for each of *messages* the role of the next one, itself included, that is none of *passed_over*.

    *last* is what follows after all of them.
    """
    roles = [last] * len(messages)
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].role not in passed_over:
            last = messages[place].role
        roles[place] = last
    return roles


def growing(event: Any) -> Growing | None:
    """Return what *event* adds to a block that grows, or `None`; words that were declined with or spoken are text."""
    if isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta):
        return event
    if isinstance(event, RefusalDelta):
        return TextDelta(event.text, 0, event.part)
    if isinstance(event, AudioDelta):
        return TextDelta(event.transcript, 0, event.part) if event.transcript else None
    if not isinstance(event, PartAdded):
        return None
    part = event.content
    if isinstance(part, Text | Refusal):
        annotations = part.annotations if isinstance(part, Text) else ()
        return TextDelta(part.text, 0, event.part, annotations, extra=part.extra)
    if isinstance(part, Reasoning):
        return ReasoningDelta(part.text, 0, event.part, part.signature, extra=part.extra)
    return None


def growing_key(event: Growing) -> Any:
    """Return what all that adds to the same block has in common; `None`: it adds to the newest one of its kind."""
    if isinstance(event, ToolCallDelta):
        return "call", event.call
    return None if event.part is None else ("part", event.part)
