"""Bedrock ConverseStream, written. A state machine, no I/O.

* Events that came from this format are written as the frames they were; see `stream.py`.
* Of others, blocks are made. One that is no call ends where the next one begins; a call ends there if its arguments are
  whole, and else with the answer: pieces say which block they belong to.
* Bedrock knows one choice only: events of others than the first are left out.
* Counts of tokens, and facts about the answer, are told in the last frame.

Source: botocore 1.44, `data/bedrock-runtime/2023-09-30/service-2.json` (`ConverseStreamOutput`); recorded streams
(read 2026-11-23).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, TypeAlias

from antiphon.chat.events import (
    End,
    Event,
    Finish,
    MessageDelta,
    PartAdded,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
)
from antiphon.chat.usage import Usage
from antiphon.errors import APIError
from antiphon.formats import json, patch
from antiphon.formats.bedrock.answer import encode_usage, error_type, stop_reason
from antiphon.formats.bedrock.message import NAME, NOTES, Writer, encode_citation
from antiphon.formats.framing import eventstream
from antiphon.formats.notes import Growing, growing, growing_key

__all__ = [
    "Named",
    "StreamEncoder",
    "block_delta",
    "block_stop",
    "call_start",
    "deltas",
    "message_start",
    "message_stop",
    "metadata",
]

_Frame: TypeAlias = dict[str, Any]
Named: TypeAlias = tuple[str, _Frame]
"""A payload, after the `:event-type` of its frame."""


# Frames, in the codec's own way


def message_start(role: str) -> Named:
    """Write the frame that begins an answer."""
    return "messageStart", {"role": role}


def call_start(index: int, event: ToolCallDelta) -> Named:
    """Write the frame that begins a call."""
    call = {"toolUseId": event.id or "", "name": event.name or "", **NOTES.own_extra(event)}
    return "contentBlockStart", {"start": {"toolUse": call}, "contentBlockIndex": index}


def block_delta(index: int, delta: _Frame) -> Named:
    """Write a frame that adds to a block."""
    return "contentBlockDelta", {"delta": delta, "contentBlockIndex": index}


def block_stop(index: int) -> Named:
    """Write the frame that ends a block."""
    return "contentBlockStop", {"contentBlockIndex": index}


def message_stop(finish: Finish) -> Named:
    """Write the frame that ends an answer."""
    return "messageStop", {"stopReason": stop_reason(finish.reason, finish.native), **NOTES.own_extra(finish)}


def metadata(start: Start | None, usage: Usage | None) -> Named:
    """Write the frame that tells facts about an answer, its usage among them."""
    told: _Frame = {} if start is None else dict(NOTES.own_extra(start))
    return "metadata", told if usage is None else {"usage": encode_usage(usage), **told}


def deltas(event: Growing) -> Iterator[_Frame]:
    """Write what *event* adds to its block."""
    if isinstance(event, ToolCallDelta):
        if event.arguments:
            yield {"toolUse": {"input": event.arguments}}
    elif isinstance(event, TextDelta):
        if event.text or not event.annotations:
            yield {"text": event.text}
        yield from ({"citation": encode_citation(annotation)} for annotation in event.annotations)
    else:
        if event.text or event.signature is None:
            yield {"reasoningContent": {"text": event.text}}
        if event.signature is not None:
            yield {"reasoningContent": {"signature": event.signature}}


# Writing


class _Output:
    """A content block that has begun."""

    __slots__ = ("index", "kind", "pieces", "stopped")

    def __init__(self, index: int, kind: type) -> None:
        self.index = index
        self.kind = kind
        self.pieces: list[str] = []
        self.stopped = False

    def complete(self) -> bool:
        """Whether nothing more is to be expected: of a call, once its arguments are a JSON value."""
        if self.kind is not ToolCallDelta:
            return True
        try:
            json.decode("".join(self.pieces))
        except json.MALFORMED:
            return False
        return True


class StreamEncoder:
    """Turns events into the bytes of a streamed answer."""

    def __init__(self) -> None:
        self._begun = False
        self._held: list[Event] = []
        self._outputs: dict[Any, _Output] = {}
        self._all: list[_Output] = []
        self._newest: _Output | None = None
        self._count = 0
        self._start: Start | None = None
        self._usage: Usage | None = None
        self._untold = False
        """Whether there are facts that no frame has told."""
        self._finish: Finish | None = None
        self._ended = False

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*: none while the rest of its frame is still to come."""
        if type(event) is TextDelta and (frame := self._quick(event)) is not None:
            yield _framed("event", "contentBlockDelta", frame)
            return
        for name, frame in self._frames(event):
            yield _framed("event", name, frame)

    def _quick(self, event: TextDelta) -> _Frame | None:
        """Return the frame of a piece for the open block, which nearly all events are, or `None` for any other."""
        wire = event.wire
        if self._held or event.annotations or not event.text:
            return None
        if wire is not None and wire.format == NAME:
            if wire.more or event.part is None or event.part >= self._count:
                return None
            frame: _Frame = patch.apply({"delta": {"text": event.text}, "contentBlockIndex": event.part}, wire.patch)
            return frame
        output = self._newest if event.part is None else self._outputs.get(("part", event.part))
        if output is None or event.choice or output.kind is not TextDelta or output.stopped:
            return None
        return {"delta": {"text": event.text}, "contentBlockIndex": output.index}

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        type = error_type(error, streamed=True)
        body = error.body if error.type == type and json.is_object(error.body) else {"message": error.message}
        return _framed("exception", type[0].lower() + type[1:], body)

    def _frames(self, event: Event) -> Iterator[Named]:
        if event.wire is not None and event.wire.format == NAME:
            self._held.append(event)
            if not event.wire.more:
                yield from self._flush()
            return
        yield from self._flush()
        if isinstance(event, End):
            yield from self._end(event)
        elif isinstance(event, UnknownEvent):
            if event.format == NAME and json.is_object(event.data):
                yield event.name or "", event.data
        elif isinstance(event, Start):
            self._meet(event)
        elif isinstance(event, UsageUpdate):
            self._account(event.usage)
        elif event.choice == 0:
            yield from self._choice(event)

    # What came from this format

    def _flush(self) -> Iterator[Named]:
        """Write the frame whose events are held."""
        if not self._held:
            return
        events, self._held = self._held, []
        last, wire = events[-1], events[0].wire
        if isinstance(last, UnknownEvent):
            if json.is_object(last.data):
                yield last.name or "", last.data
            return
        name, canonical = self._own(events, last)
        yield name, patch.apply(canonical, wire.patch if wire else None)

    def _own(self, events: list[Event], last: Event) -> Named:
        if isinstance(last, Finish):
            self._ended = True
            return message_stop(last)
        if isinstance(last, MessageDelta):
            self._begun = True
            return message_start(last.role or "assistant")
        if isinstance(last, Start | UsageUpdate):
            start = next((event for event in events if isinstance(event, Start)), None)
            return metadata(start, last.usage if isinstance(last, UsageUpdate) else None)
        index: int = getattr(last, "part", None) or 0
        self._count = max(self._count, index + 1)
        if isinstance(last, ToolCallDelta) and last.id is not None:
            return call_start(index, last)
        if isinstance(last, TextDelta | ReasoningDelta | ToolCallDelta):
            return block_delta(index, next(deltas(last), _NOTHING))
        return block_stop(index)

    # What came from elsewhere

    def _meet(self, event: Start) -> None:
        """Remember what is said of the answer beside its usage; its last frame has a place for that."""
        if extra := NOTES.own_extra(event):
            known = self._start or Start()
            self._start = Start(extra=NOTES.extra_of({**NOTES.own_extra(known), **extra}))
            self._untold = True

    def _account(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.updated(usage)
        self._untold = True

    def _choice(self, event: Any) -> Iterator[Named]:
        if isinstance(event, Finish):
            self._finish = event
            return
        if isinstance(event, PartAdded):
            self._newest = None  # it continues nothing
        if (piece := growing(event)) is not None:
            yield from self._begin()
            yield from self._grow(piece, event.__class__)
        elif isinstance(event, PartAdded):
            block = Writer(answer=True).block(event.content, "assistant", "$")
            if block is not None:
                yield from self._begin()
                yield from self._add(block)

    def _begin(self) -> Iterator[Named]:
        if not self._begun:
            self._begun = True
            yield message_start("assistant")

    def _grow(self, event: Growing, kind: type) -> Iterator[Named]:
        key = growing_key(event)
        output = self._newest if key is None else self._outputs.get(key)
        if output is not None and kind is not ToolCallDelta and (output.kind is not kind or output.stopped):
            output = None  # what is closed is closed, but for a call, which is but one
        blank = not any(deltas(event)) or next(deltas(event)) in _BLANKS
        if output is None:
            if key is None and blank:
                return  # nothing has been said yet
            yield from self._close(whole_only=True)
            output = self._newest = self._outputs[key] = self._new(kind)
            if isinstance(event, ToolCallDelta):
                yield call_start(output.index, event)
        elif blank:
            return
        if isinstance(event, ToolCallDelta):
            output.pieces.append(event.arguments)
        for delta in deltas(event):
            yield block_delta(output.index, delta)

    def _new(self, kind: type) -> _Output:
        output = _Output(self._count, kind)
        self._count += 1
        self._all.append(output)
        return output

    def _close(self, *, whole_only: bool) -> Iterator[Named]:
        """Write the ends of blocks."""
        for output in self._all:
            if not whole_only or output.complete():
                output.stopped = True
                yield block_stop(output.index)
        self._all = [output for output in self._all if not output.stopped]

    def _add(self, block: _Frame) -> Iterator[Named]:
        """Write a block that came whole: its beginning, and what the format sends in pieces."""
        yield from self._close(whole_only=True)
        index = self._new(PartAdded).index
        start, delta = _split(block)
        if start:
            yield "contentBlockStart", {"start": start, "contentBlockIndex": index}
        if delta:
            yield block_delta(index, delta)
        yield from self._close(whole_only=True)

    def _end(self, event: End) -> Iterator[Named]:
        if event.usage is not None:
            self._account(event.usage)
        yield from self._begin()
        yield from self._close(whole_only=False)
        if not self._ended:
            yield message_stop(self._finish or Finish(event.finish_reason or "stop"))
        if self._untold:
            yield metadata(self._start, self._usage)


_NOTHING: _Frame = {}
_BLANKS: tuple[_Frame, ...] = ({"text": ""}, {"reasoningContent": {"text": ""}})


def _split(block: _Frame) -> tuple[_Frame, _Frame]:
    """Return how *block* begins, and what is told of it in pieces."""
    kind, inner = next(iter(block.items()), ("", None))
    if kind == "reasoningContent":
        return {}, block
    field = {"toolUse": "input", "toolResult": "content", "image": "source"}.get(kind)
    if field is None or not json.is_object(inner) or field not in inner:
        return block, {}
    start = {kind: {key: value for key, value in inner.items() if key != field}}
    told = inner[field]
    if kind == "toolUse":
        return start, {kind: {"input": json.encode(told).decode()}}
    return start, {kind: told if kind == "toolResult" else {field: told}}


def _framed(message: str, name: str, payload: _Frame) -> bytes:
    return eventstream.encode(_headers(message, name), json.encode(payload))


@functools.lru_cache(maxsize=64)
def _headers(message: str, name: str) -> bytes:
    key = ":event-type" if message == "event" else ":exception-type"
    return eventstream.encode_headers({key: name, ":content-type": "application/json", ":message-type": message})
