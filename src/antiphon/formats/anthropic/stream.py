"""Anthropic Messages streams, read. A state machine, no I/O. They are written by `anthropic_frames.py`.

Rules:

* A frame becomes one event, but for `message_start` and `message_delta`, which become several; all but the last of
  those say `more`, so that the encoder makes one frame of them again.
* The number of a content block is the number of its part. Its start is the first delta of the part. What has no
  neutral meaning (the ends of blocks, pings, blocks and deltas that only this format knows) comes as `UnknownEvent`,
  so that the same format gives it on in the same moment; a block that only this format knows comes once more, whole,
  at its end.
* Counts of tokens are cumulative: a later frame's take the place of the earlier ones', and those it leaves out stay.
* The answer is complete when `message_delta` brings a `stop_reason`; `message_stop` is neither needed nor enough.

Source: anthropic 2.12, `types/raw_*.py`, `_streaming.py` and `lib/streaming/_messages.py` (read 2026-11-22); recorded
streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

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
    Wire,
)
from antiphon.chat.messages import Reasoning, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import BadRequestError, StreamError
from antiphon.formats import json
from antiphon.formats.anthropic.answer import (
    decode_usage,
    error_inside,
    finish_reason,
)
from antiphon.formats.anthropic.frames import block_deltas, block_start, block_stop, message_delta, message_start
from antiphon.formats.anthropic.message import NAME, NOTES, decode_block, decode_citation
from antiphon.formats.framing import sse
from antiphon.formats.status import excerpt

__all__ = ["StreamDecoder"]

_Frame: TypeAlias = dict[str, Any]
_Growing: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta

_LAST = Wire(NAME)
_MORE = Wire(NAME, more=True)
_MESSAGE: dict[str, Any] = dict.fromkeys(
    ("id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage")
)
_DELTA: dict[str, Any] = dict.fromkeys(("type", "delta", "usage"))
_CANONICAL_SIZES = (3, 2)
"""How many fields a delta's frame, and the delta in it, have where they have no others than the known ones."""


class _Block:
    """A content block under way."""

    __slots__ = ("call", "data", "grown", "held", "kind", "part", "stopped", "told")

    def __init__(self, part: int, kind: str) -> None:
        self.part = part
        self.kind = kind
        """`text`, `thinking`, `tool_use`, or `whole` for one that becomes a part at its end."""
        self.call = 0
        self.held = "{}"
        """Arguments that came with the start; deltas take their place."""
        self.told = False
        """Whether deltas brought any."""
        self.data: _Frame = {}
        self.grown: dict[str, list[str]] = {}
        """What the deltas add to the texts of `data`."""
        self.stopped = False

    def add(self, delta: _Frame) -> None:
        """Take a delta of a block that becomes a part at its end."""
        for key, value in delta.items():
            if isinstance(value, str) and key != "type":
                self.grown.setdefault(key, []).append(value)
            elif key != "type":
                self.data = {**self.data, key: value}

    def whole(self) -> _Frame:
        """Give away the block with what its deltas brought; input that is not whole stays as it began."""
        data = dict(self.data)
        for key, pieces in self.grown.items():
            text = "".join(pieces)
            if key != "partial_json":
                before = data.get(key)
                data[key] = before + text if isinstance(before, str) else text
            elif text.strip():
                try:
                    data["input"] = json.decode(text)
                except json.MALFORMED:
                    pass  # cut off by the bound on tokens, which the finish reason tells
        self.data, self.grown = {}, {}
        return data


class StreamDecoder:
    """Turns the bytes of a streamed answer into events."""

    def __init__(self) -> None:
        self.over = False
        self._sse = sse.SSEDecoder()
        self._start: Start | None = None
        self._blocks: dict[int, _Block] = {}
        self._newest: _Block | None = None
        self._parts = 0
        self._calls = 0
        self._counts: _Frame = {}
        self._usage: Usage | None = None
        self._finished = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them."""
        return self._read(self._sse.feed(data))

    def close(self) -> Iterator[Event]:
        """Take the end of the body; the last event is `End`.

        Raises:
            StreamError: The body ended before a stop reason came.
        """
        yield from self._read(self._sse.close())
        if not self._finished:
            begun = self._start is not None or self._parts
            raise StreamError(
                "The provider's stream ended before the answer was complete: no stop reason arrived. "
                "What came so far may be cut off in the middle."
                if begun
                else "The provider's stream ended without a single piece of an answer."
            )
        yield End(usage=self._usage)

    def _read(self, received: Iterable[tuple[str, bytes]]) -> Iterator[Event]:
        for name, payload in received:
            try:
                frame = json.decode(payload)
            except json.MALFORMED:
                if payload[:6] == b"[DONE]":
                    continue  # some servers that speak this format end their streams as OpenAI does
                frame = None
            if not json.is_object(frame):
                raise StreamError(f"The provider's stream has a frame that is not a JSON object: {excerpt(payload)}")
            if frame.get("type") == "content_block_delta":
                yield self._delta(frame)
            else:
                yield from self._frame(frame, name)

    def _frame(self, frame: _Frame, name: str) -> Sequence[Event]:
        kind = json.text(frame.get("type")) or name
        if kind == "error" or frame.get("error"):
            raise error_inside(frame)
        if kind == "ping" and self._start is None:
            return ()
        self.over = kind == "message_stop"
        read = {
            "message_start": self._message,
            "content_block_start": self._block,
            "content_block_delta": self._delta_alone,
            "content_block_stop": self._stop,
            "message_delta": self._ending,
        }.get(kind)
        if read is None:
            return (_unknown(frame, kind),)
        try:
            return read(frame)
        except BadRequestError as error:
            raise StreamError(f"The provider's stream has a frame of the wrong shape: {error}") from None
        except RecursionError:
            raise StreamError("The provider's stream has a frame that is nested too deeply.") from None

    def _message(self, frame: _Frame) -> Sequence[Event]:
        source = frame.get("message")
        if self._start is not None or not json.is_object(source):
            return (_unknown(frame),)
        said = {key: value for key, value in source.items() if value is not None}
        self._start = Start(
            id=json.text(source.get("id")) or "",
            model=json.text(source.get("model")) or "",
            extra=NOTES.unknown(said, _MESSAGE),
        )
        made: list[Event] = [self._start, *self._count(source)]
        return NOTES.wired(made, message_start(self._start, self._usage if len(made) > 1 else None), frame)

    def _count(self, source: _Frame) -> list[Event]:
        counts = source.get("usage")
        if not json.is_object(counts):
            return []
        self._counts = {**self._counts, **{key: value for key, value in counts.items() if value is not None}}
        self._usage = decode_usage(self._counts)
        return [UsageUpdate(self._usage)]

    def _block(self, frame: _Frame) -> Sequence[Event]:
        source = frame.get("content_block")
        part = decode_block(source, "$.content_block")
        event, kind = self._begun(part)
        block = _Block(self._parts, kind)
        self._remember(block, frame)
        if event is None:
            block.data = source if json.is_object(source) else {}
            return (_unknown(frame),)
        if isinstance(event, ToolCallDelta):
            block.call, self._calls = self._calls, self._calls + 1
            block.held, event = event.arguments, msgspec.structs.replace(event, call=block.call, arguments="")
        event = msgspec.structs.replace(event, part=block.part)
        return NOTES.wired([event], block_start(block.part, event), frame)

    @staticmethod
    def _begun(part: Any) -> tuple[_Growing | None, str]:
        if isinstance(part, Text):
            return TextDelta(part.text, annotations=part.annotations, extra=part.extra), "text"
        if isinstance(part, Reasoning):
            return ReasoningDelta(part.text, signature=part.signature, extra=part.extra), "thinking"
        if isinstance(part, ToolCall):
            call = ToolCallDelta(call=0, id=part.id, name=part.name, arguments=part.arguments, extra=part.extra)
            return call, "tool_use"
        return None, "whole"

    def _delta_alone(self, frame: _Frame) -> Sequence[Event]:
        return (self._delta(frame),)

    def _delta(self, frame: _Frame) -> Event:
        """Read a piece of a block: nearly all frames are such."""
        index, delta = frame.get("index"), frame.get("delta")
        block = self._blocks.get(index) if type(index) is int else self._newest
        if not json.is_object(delta):
            raise StreamError("The provider's stream has a frame of the wrong shape: $.delta must be an object.")
        kind = delta.get("type")
        if block is None:
            block = self._without_start(kind, frame)
        if block.kind == "text" and kind == "text_delta" and type(text := delta.get("text")) is str:
            event: _Growing = TextDelta(text, 0, block.part, wire=_LAST)
        elif block.kind == "tool_use" and kind == "input_json_delta" and type(delta.get("partial_json")) is str:
            text = delta["partial_json"]
            block.told = block.told or text != ""
            event = ToolCallDelta(call=block.call, part=block.part, arguments=text, wire=_LAST)
        elif block.kind == "thinking" and kind == "thinking_delta" and type(text := delta.get("thinking")) is str:
            event = ReasoningDelta(text, 0, block.part, wire=_LAST)
        else:
            return self._rare_delta(block, delta, frame)
        if (len(frame), len(delta)) == _CANONICAL_SIZES and index == block.part:
            return event
        return NOTES.wired([event], next(block_deltas(block.part, event)), frame)[0]

    def _rare_delta(self, block: _Block, delta: _Frame, frame: _Frame) -> Event:
        kind = delta.get("type")
        if block.kind == "thinking" and kind == "signature_delta" and isinstance(delta.get("signature"), str):
            event: _Growing = ReasoningDelta("", 0, block.part, delta["signature"])
        elif block.kind == "text" and kind == "citations_delta":
            try:
                citation = decode_citation(delta.get("citation"), "$.delta.citation")
            except BadRequestError as error:
                raise StreamError(f"The provider's stream has a frame of the wrong shape: {error}") from None
            event = TextDelta("", 0, block.part, (citation,))
        else:
            if block.kind == "whole":
                block.add(delta)
            return _unknown(frame)
        return NOTES.wired([event], next(block_deltas(block.part, event)), frame)[0]

    def _remember(self, block: _Block, frame: _Frame) -> None:
        self._parts += 1
        self._newest = block
        if (index := json.integer(frame.get("index"))) is not None:
            self._blocks[index] = block

    def _without_start(self, kind: Any, frame: _Frame) -> _Block:
        if kind == "input_json_delta":
            raise StreamError("The provider sent a piece of a tool call that never began, so nobody knows its name.")
        block = _Block(self._parts, "thinking" if kind in ("thinking_delta", "signature_delta") else "text")
        self._remember(block, frame)
        return block

    def _stop(self, frame: _Frame) -> Sequence[Event]:
        index = frame.get("index")
        block = self._blocks.get(index) if type(index) is int else self._newest
        if block is None or block.stopped:
            return (_unknown(frame),)
        made = self._settled(block)
        if made and block.kind == "whole":
            return NOTES.wired(made, block_stop(block.part), frame)
        return (*(msgspec.structs.replace(event, wire=_MORE) for event in made), _unknown(frame))

    @staticmethod
    def _settled(block: _Block) -> list[Event]:
        """Return what is told of a block at its end."""
        block.stopped = True
        if block.kind == "whole":
            return [PartAdded(decode_block(block.whole(), "$.content_block"), 0, block.part)]
        if block.kind == "tool_use" and not block.told:
            return [ToolCallDelta(call=block.call, part=block.part, arguments=block.held)]
        return []

    def _ending(self, frame: _Frame) -> Sequence[Event]:
        given = frame.get("delta")
        delta: _Frame = {k: v for k, v in given.items() if v is not None} if json.is_object(given) else {}
        beside = {k: v for k, v in frame.items() if k not in _DELTA and v is not None}
        if "container" in delta:
            beside["container"] = delta.pop("container")
        made: list[Event] = []
        start: Start | None = None
        if beside:
            start = msgspec.structs.replace(self._start or Start(), extra=NOTES.extra_of(beside))
            made.append(start)
        counted = self._count(frame)
        finish: Finish | None = None
        late: list[Event] = []
        if (native := delta.pop("stop_reason", None)) is not None:
            late = [event for block in self._blocks.values() if not block.stopped for event in self._settled(block)]
            self._finished = True
            reason, own = finish_reason(native)
            finish = Finish(reason, 0, own, NOTES.extra_of(delta))
        made += [*counted, *([] if finish is None else [finish])]
        if not made:
            return (_unknown(frame),)
        return (*late, *NOTES.wired(made, message_delta(start, self._usage if counted else None, finish), frame))


def _unknown(frame: _Frame, name: str | None = None) -> UnknownEvent:
    return UnknownEvent(NAME, frame, name or json.text(frame.get("type")), wire=_LAST)
