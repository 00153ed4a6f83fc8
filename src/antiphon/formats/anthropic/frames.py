"""Anthropic Messages streams, written. A state machine, no I/O.

* Events that came from this format are written as the frames they were; see `stream.py`.
* Of others, blocks are made that follow each other. What a stream interleaves with a tool call waits until that call's
  arguments are whole, since a client may act on the end of a block.
* Anthropic knows one choice only: events of others than the first are left out.
* Counts of tokens are told when all are known, in the frame before the last.

Source: anthropic 2.12, `types/raw_*.py`, `_streaming.py` and `lib/streaming/_messages.py` (read 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from msgspec.structs import replace

from antiphon.chat.events import (
    End,
    Event,
    Finish,
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
from antiphon.formats import json
from antiphon.formats.anthropic.answer import encode_usage, error_object, message_object, stop_reason
from antiphon.formats.anthropic.message import NAME, NOTES, Writer, encode_citation
from antiphon.formats.framing import sse
from antiphon.formats.kit_stream import StreamWriter, index_of
from antiphon.formats.notes import Growing, growing, growing_key

__all__ = ["StreamEncoder"]

_Frame: TypeAlias = dict[str, Any]


# Frames, in the codec's own way


def message_start(start: Start, usage: Usage | None) -> _Frame:
    """Write the frame that begins an answer."""
    message = message_object(start.id, start.model, usage)
    message["content"] = []
    return {"type": "message_start", "message": json.merged(message, NOTES.own_extra(start))}


def message_delta(start: Start | None, usage: Usage | None, finish: Finish | None) -> _Frame:
    """Write the frame that ends an answer, or tells what has changed of it."""
    delta: _Frame = {"stop_reason": None, "stop_sequence": None}
    if finish is not None:
        delta |= {"stop_reason": stop_reason(finish.reason, finish.native), **NOTES.own_extra(finish)}
    beside = dict(NOTES.own_extra(start)) if start is not None else {}
    if "container" in beside:
        delta["container"] = beside.pop("container")
    return {"type": "message_delta", "delta": delta, "usage": encode_usage(usage), **beside}


def block_start(index: int, event: Growing) -> _Frame:
    """Write the first frame of a block, with all that *event* brings."""
    if isinstance(event, TextDelta):
        block: _Frame = {"type": "text", "text": event.text}
        if event.annotations:
            block["citations"] = [encode_citation(annotation) for annotation in event.annotations]
    elif isinstance(event, ReasoningDelta):
        block = {"type": "thinking", "thinking": event.text, "signature": event.signature or ""}
    else:
        block = {"type": "tool_use", "id": event.id or "", "name": event.name or "", "input": {}}
    return whole_start(index, json.merged(block, NOTES.own_extra(event)))


def whole_start(index: int, block: _Frame) -> _Frame:
    """Write the first frame of a block that comes whole."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def block_deltas(index: int, event: Growing) -> Iterator[_Frame]:
    """Write the frames for what *event* adds to a block, at least one."""
    for delta in _deltas(event):
        yield {"type": "content_block_delta", "index": index, "delta": delta}


def _deltas(event: Growing) -> Iterator[_Frame]:
    if isinstance(event, ToolCallDelta):
        yield {"type": "input_json_delta", "partial_json": event.arguments}
    elif isinstance(event, TextDelta):
        if event.text or not event.annotations:
            yield {"type": "text_delta", "text": event.text}
        for annotation in event.annotations:
            yield {"type": "citations_delta", "citation": encode_citation(annotation)}
    else:
        if event.text or event.signature is None:
            yield {"type": "thinking_delta", "thinking": event.text}
        if event.signature is not None:
            yield {"type": "signature_delta", "signature": event.signature}


def block_stop(index: int) -> _Frame:
    """Write the last frame of a block."""
    return {"type": "content_block_stop", "index": index}


# Writing

_HEAD = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":'
_MIDDLES: dict[type, bytes] = {
    TextDelta: b',"delta":{"type":"text_delta","text":',
    ReasoningDelta: b',"delta":{"type":"thinking_delta","thinking":',
    ToolCallDelta: b',"delta":{"type":"input_json_delta","partial_json":',
}
_QUICK: dict[type, Callable[[Any], str]] = {
    TextDelta: lambda event: "" if event.annotations else event.text,
    ReasoningDelta: lambda event: event.text if event.signature is None else "",
    ToolCallDelta: lambda event: event.arguments,
}
"""The text of an event that brings nothing but a piece of text."""


class _Output:
    """A content block that has begun, or waits for its turn."""

    __slots__ = ("index", "kind", "own", "pieces", "waiting")

    def __init__(self, index: int, kind: type) -> None:
        self.index = index
        self.kind = kind
        self.own = False
        """Whether it began with a frame of this format, and will end with one."""
        self.pieces: list[str] = []
        self.waiting: list[_Frame] = []

    def complete(self) -> bool:
        """Whether nothing more is to be expected: of a call, once its arguments are a JSON value."""
        if self.kind is not ToolCallDelta:
            return True
        try:
            json.decode("".join(self.pieces))
        except json.MALFORMED:
            return False
        return True


class StreamEncoder(StreamWriter):
    """Turns events into the bytes of a streamed answer.

    Args:
        model: The name of the model, where no event tells it.
    """

    format = NAME

    def __init__(self, *, model: str) -> None:
        super().__init__()
        self._start = Start(model=model)
        self._met = False
        """Whether an event said what the answer begins with."""
        self._begun = False
        self._outputs: dict[Any, _Output] = {}
        self._open: _Output | None = None
        self._newest: _Output | None = None
        self._waiting: list[_Output] = []
        self._passed: set[Any] = set()
        """Indexes of blocks under way that are passed on frame by frame."""
        self._count = 0
        self._usage: Usage | None = None
        self._late: Start | None = None
        self._finish: Finish | None = None
        self._ended = False
        self._stopped = False
        self._failed = False

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*: none while the rest of its frame is still to come."""
        return iter(()) if self._failed else super().feed(event)

    def write(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event* in the canonical way."""
        if (quick := self._quick(event)) is not None:
            yield quick
            return
        for frame in self._frames(event):
            yield _written(frame, event.name if isinstance(event, UnknownEvent) else frame["type"])

    def _quick(self, event: Any) -> bytes | None:
        """Return the frame of a piece for the open block, which nearly all events are, or `None` for any other."""
        make = _QUICK.get(event.__class__)
        output = self._open
        if make is None or output is None or self._waiting or event.choice != 0:
            return None
        key = growing_key(event)
        if self._outputs.get(key) is not output if key is not None else self._newest is not output:
            return None
        if output.kind is not event.__class__ or not (text := make(event)):
            return None
        if output.kind is ToolCallDelta:
            output.pieces.append(text)
        return b"".join((_HEAD, str(output.index).encode(), _MIDDLES[output.kind], json.encode(text), b"}}\n\n"))

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        return sse.encode(json.encode(error_object(error)), event="error")

    def _frames(self, event: Event) -> Iterator[_Frame]:
        if isinstance(event, End):
            yield from self._end(event)
        elif isinstance(event, UnknownEvent):
            if event.format == NAME and json.is_object(event.data):
                yield from self._before(event)
                self._note(event.data)
                yield event.data
        elif isinstance(event, Start):
            self._meet(event)
        elif isinstance(event, UsageUpdate):
            self._account(event.usage)
        elif event.choice == 0:
            yield from self._choice(event)

    # What goes out as it came

    def framed(self, name: str, data: bytes) -> bytes:
        """Return a frame as it was read."""
        return sse.encode(data, event=name if name and name.isprintable() else None)

    def passed(self, events: Sequence[Event]) -> Sequence[bytes]:
        """Take note of a frame that goes out as it came; before it goes what was changed of earlier ones."""
        last = events[-1]
        if type(last) is TextDelta and self._begun and not self._waiting and growing_key(last) in self._outputs:
            return ()  # a piece of a text that goes on, as nearly all are
        before = [_written(frame, frame["type"]) for frame in self._before(last)]
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta):
                self._note_piece(event)
            elif isinstance(event, PartAdded):
                self._passed.discard(event.part)
            elif isinstance(event, UnknownEvent):
                self._note(event.data)
            elif isinstance(event, UsageUpdate):
                self._account(event.usage)
            elif isinstance(event, Start) and not self._begun:
                self._start = event
            elif isinstance(event, Finish):
                self._ended = True
        if not isinstance(last, UnknownEvent):
            self._begun = True
        return before

    def _before(self, event: Event) -> Iterator[_Frame]:
        """Write what has to go out before a frame that ends with *event*."""
        if self._met and not self._begun and not isinstance(event, Start | UsageUpdate):
            yield from self._begin()
        ends = isinstance(event, UnknownEvent) and event.name == "message_stop"
        if self._waiting or (self._begun and isinstance(event, Finish)) or (ends and not self._ended):
            yield from self._close_all()
        if ends and not self._ended and self._finish is not None:
            self._ended = True
            yield message_delta(self._late, self._usage, self._finish)

    def _note(self, frame: Any) -> None:
        """Take note of a frame that has no neutral meaning."""
        kind, index = frame.get("type"), json.integer(frame.get("index"))
        if kind == "content_block_start" and index is not None:
            self._passed.add(index)
            self._count = max(self._count, index + 1)
        elif kind == "content_block_stop":
            self._passed.discard(index)
            if self._open is not None and (self._open.own or self._open.index == index):
                self._open = None
        self._stopped = self._stopped or kind == "message_stop"

    def _note_piece(self, event: Growing) -> None:
        key = growing_key(event)
        output = self._outputs.get(key)
        if output is None:
            index = index_of(event, NAME)
            output = self._new(key, type(event), event.part if index is None else index)
            output.own = True
            self._open = output
        if isinstance(event, ToolCallDelta):
            output.pieces.append(event.arguments)

    def _new(self, key: Any, kind: type, index: int | None = None) -> _Output:
        output = _Output(self._count if index is None else index, kind)
        self._count = max(self._count, output.index + 1)
        self._newest = output
        if key is not None:
            self._outputs[key] = output
        return output

    # What came from elsewhere

    def _meet(self, event: Start) -> None:
        """Remember who answers; what is said after the beginning stands at the end."""
        if self._begun:
            self._late = event
            return
        self._met, known = True, self._start
        extra = NOTES.extra_of(json.merged(NOTES.own_extra(known), NOTES.own_extra(event)))
        self._start = Start(id=event.id or known.id, model=event.model or known.model, extra=extra)

    def _account(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.updated(usage)

    def _choice(self, event: Any) -> Iterator[_Frame]:
        if isinstance(event, Finish):
            if event.reason == "error":
                self._failed = True
                told = event.native or "no reason given"
                yield error_object(APIError(f"The provider ended its answer with an error: {told}"))
            else:
                self._finish = event
            return
        piece = growing(event)
        if isinstance(event, PartAdded):
            self._newest = None  # it continues nothing
        if piece is not None:
            yield from self._begin()
            yield from self._grow(piece, event.__class__)
        elif isinstance(event, PartAdded):
            yield from self._begin()
            yield from self._add(event)

    def _begin(self) -> Iterator[_Frame]:
        if not self._begun:
            self._begun = True
            yield message_start(self._start, self._usage)

    def _grow(self, event: Growing, kind: type) -> Iterator[_Frame]:
        key = growing_key(event)
        output = self._newest if key is None else self._outputs.get(key)
        if output is not None and not self._continues(output, kind):
            output = None
        frames: list[_Frame] = []
        new = output is None
        if output is None:
            if key is None and _is_blank(event):
                return  # nothing has been said yet
            output = self._new(key, kind, index_of(event, NAME))
            frames.append(block_start(output.index, _blank(event)))
        if not _is_blank(event):
            frames += block_deltas(output.index, event)
        if isinstance(event, ToolCallDelta):
            output.pieces.append(event.arguments)
        yield from self._place(output, frames, new=new)

    def _continues(self, output: _Output, kind: type) -> bool:
        """Whether *output* can take more of a *kind*: what is closed is closed, but for a call, which is but one."""
        if kind is ToolCallDelta:
            return True
        return output.kind is kind and (output is self._open or output in self._waiting)

    def _place(self, output: _Output, frames: list[_Frame], *, new: bool) -> Iterator[_Frame]:
        """Write *frames* where their block is open or may be, and else keep them until its turn comes."""
        if output in self._waiting:
            output.waiting += frames
            return
        if new and self._open is not None:
            if not self._open.complete():
                output.waiting += frames
                self._waiting.append(output)
                return
            yield block_stop(self._open.index)
        if new:
            self._open = output
        yield from frames
        while self._waiting and self._open is not None and self._open.complete():
            yield from self._next()

    def _next(self) -> Iterator[_Frame]:
        """Close the open block, and open the one that has waited longest."""
        if self._open is not None:
            yield block_stop(self._open.index)
        self._open = self._waiting.pop(0) if self._waiting else None
        if self._open is not None:
            yield from self._open.waiting

    def _close_all(self) -> Iterator[_Frame]:
        while self._open is not None or self._waiting:
            yield from self._next()

    def _add(self, event: PartAdded) -> Iterator[_Frame]:
        if event.part in self._passed:
            self._passed.discard(event.part)
            yield block_stop(event.part or 0)
            return
        block = Writer(answer=True).block(event.content, "assistant", "$")
        if block is not None:
            yield from self._close_all()
            output = self._new(None, PartAdded)
            yield from (whole_start(output.index, block), block_stop(output.index))

    def _end(self, event: End) -> Iterator[_Frame]:
        if event.usage is not None:
            self._account(event.usage)
        yield from self._begin()
        yield from self._close_all()
        if not self._ended:
            finish = self._finish or Finish(event.finish_reason or "stop")
            yield message_delta(self._late, self._usage, finish)
        if not self._stopped:
            yield {"type": "message_stop"}


def _written(frame: _Frame, name: str | None) -> bytes:
    return sse.encode(json.encode(frame), event=name if name and name.isprintable() else None)


def _is_blank(event: Growing) -> bool:
    """Whether *event* brings no piece of content."""
    if isinstance(event, ToolCallDelta):
        return not event.arguments
    if isinstance(event, TextDelta):
        return not event.text and not event.annotations
    return not event.text and event.signature is None


def _blank(event: Growing) -> Growing:
    """Return *event* without the content that is told after the start of its block."""
    if isinstance(event, ToolCallDelta):
        return replace(event, arguments="")
    if isinstance(event, TextDelta):
        return TextDelta("", extra=event.extra)
    return ReasoningDelta("", extra=event.extra)
