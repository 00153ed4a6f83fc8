"""The short way for chunks of OpenAI Chat Completions that differ from one before in a single text. No I/O.

Nearly all chunks of a stream do: text, thoughts and arguments of tool calls come a few characters at a time in frames
of 200 to 400 bytes. A template is the bytes of such a frame with a hole for the text. What fits it is, but for the
text, byte for byte the chunk that was read the long way, so it means the same, and only the text is left to decode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from antiphon.chat.events import Event, MessageDelta, ReasoningDelta, TextDelta, ToolCallDelta, Wire
from antiphon.chat.messages import Patch
from antiphon.formats import json
from antiphon.formats.openai_chat.message import NAME

__all__ = ["Template"]

_REPLACE = msgspec.structs.replace


class Template:
    """Reads chunks like one that was read the long way, as long as no chunk of another kind comes between."""

    __slots__ = ("_before", "_between", "_edges", "_head", "_make", "_renamed", "_tail", "_wire", "texts")

    def __init__(self, head: bytes, between: bytes | None, tail: bytes, field: str, made: Sequence[Event]) -> None:
        self.texts: list[str] | None = None
        """Where to add each text as well: the arguments of the call it belongs to."""
        self._head = head
        self._between = between  # what stands between the text and random padding, if there is any
        self._tail = tail
        self._edges = len(head), len(tail)
        self._before = made[:-1]
        self._make = _maker(made[-1])
        self._wire = made[0].wire
        self._renamed = field == "reasoning" and self._wire is not None

    @classmethod
    def of(cls, payload: bytes, chunk: dict[str, Any], made: Sequence[Event]) -> Template | None:
        """Return the template of a *chunk*, written as *payload*, if the events *made* of it bring but one text."""
        if any(not isinstance(event, MessageDelta) or event.role is not None for event in made[:-1]):
            return None
        field = _field(chunk, made[-1])
        if field is None or (text := _hole(payload, field)) is None:
            return None
        head, rest = payload[: text[0]], payload[text[1] :]
        if "obfuscation" not in chunk:
            return cls(head, None, rest, field, made)
        padding = _hole(rest, "obfuscation")
        return None if padding is None else cls(head, rest[: padding[0]], rest[padding[1] :], field, made)

    def read(self, payload: bytes) -> Sequence[Event] | None:
        """Return the events of a chunk if it fits."""
        if not (payload.startswith(self._head) and payload.endswith(self._tail)):
            return None
        begin, end = self._edges
        literal = payload[begin : len(payload) - end]
        wire = self._wire
        try:
            if self._between is not None:
                literal, _, padding = literal.rpartition(self._between)
                wire = wire and _padded(wire, json.decode(padding))
            text = json.decode(literal)
        except json.MALFORMED:
            return None
        if type(text) is not str:
            return None
        if self.texts is not None:
            self.texts.append(text)
        if self._renamed and wire is not None:
            wire = _renaming(wire, text)
        if not self._before:
            return (self._make(text, wire),)
        first = _REPLACE(self._before[0], wire=wire)
        return (first, *self._before[1:], self._make(text, None if wire is None else Wire(NAME)))


def _maker(event: Event) -> Callable[[str, Wire | None], Event]:
    """Return what makes an event like *event* of another text."""
    if isinstance(event, ToolCallDelta):
        return lambda text, wire: _REPLACE(event, arguments=text, wire=wire)
    choice = event.choice if isinstance(event, TextDelta | ReasoningDelta) else 0
    if isinstance(event, TextDelta) and event == TextDelta(event.text, choice, wire=event.wire):
        return lambda text, wire: TextDelta(text, choice, wire=wire)  # half the time of the next
    return lambda text, wire: _REPLACE(event, text=text, wire=wire)


def _field(chunk: dict[str, Any], event: Event) -> str | None:
    """Return the field that holds the text of *event*, if that is all that the chunk can bring."""
    choices: Any = chunk.get("choices")
    delta: Any = choices[0].get("delta") if choices and len(choices) == 1 else None
    if not json.is_object(delta):
        return None
    if isinstance(event, TextDelta):
        plain = isinstance(delta.get("content"), str) and event.logprobs is None and not event.annotations
        return "content" if plain else None
    if isinstance(event, ReasoningDelta):
        fields = [key for key in ("reasoning_content", "reasoning") if delta.get(key) is not None]
        return fields[0] if len(fields) == 1 and isinstance(delta[fields[0]], str) else None
    if isinstance(event, ToolCallDelta) and event.id is None and delta.get("tool_calls"):
        fragment = delta["tool_calls"][0]
        inner: Any = fragment.get("function")
        # With a name, or without an index, it depends on what came before which call the piece belongs to.
        plain = json.integer(fragment.get("index")) is not None and json.is_object(inner) and "name" not in inner
        return "arguments" if plain and isinstance(inner.get("arguments"), str) else None
    return None


def _hole(payload: bytes, field: str) -> tuple[int, int] | None:
    """Return where the string under the one *field* of that name stands, quotes included."""
    found = [*re.finditer(rb'"%b"\s*:\s*("(?:[^"\\]|\\.)*")' % field.encode(), payload)]
    return found[0].span(1) if len(found) == 1 else None


def _padded(wire: Wire, padding: Any) -> Wire:
    known = wire.patch or Patch({}, {}, {})
    return Wire(NAME, Patch({**known.set, "obfuscation": padding}, known.old, known.sub), wire.more)


def _renaming(wire: Wire, text: str) -> Wire:
    """Return *wire*, whose patch gives `reasoning_content` the name `reasoning`, for another *text*."""
    known: Any = wire.patch
    choices: Patch = known.sub["choices"]
    choice = choices.sub[0]
    delta = choice.sub["delta"]
    delta = Patch({**delta.set, "reasoning": text}, {**delta.old, "reasoning_content": text}, delta.sub)
    choice = Patch(choice.set, choice.old, {**choice.sub, "delta": delta})
    choices = Patch(choices.set, choices.old, {**choices.sub, 0: choice}, choices.size)
    return Wire(NAME, Patch(known.set, known.old, {**known.sub, "choices": choices}), wire.more)
