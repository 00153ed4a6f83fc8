"""Anthropic Messages streams, read. A state machine, no I/O. They are written by `frames.py`.

Rules:

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

from collections.abc import Iterable
from typing import Any, TypeAlias

from msgspec.structs import replace

from antiphon.chat.events import (
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
from antiphon.chat.messages import Reasoning, Text, ToolCall
from antiphon.errors import StreamError
from antiphon.formats import json, read
from antiphon.formats.anthropic.answer import decode_usage, error_inside, finish_reason
from antiphon.formats.anthropic.message import NAME, NOTES, decode_block, decode_citation
from antiphon.formats.framing import sse
from antiphon.formats.kit_stream import StreamReader

__all__ = ["StreamDecoder"]

_Frame: TypeAlias = dict[str, Any]
_Growing: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta

_MESSAGE: dict[str, Any] = dict.fromkeys(
    ("id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage")
)
_DELTA: dict[str, Any] = dict.fromkeys(("type", "delta", "usage"))


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


class StreamDecoder(StreamReader):
    """Turns the bytes of a streamed answer into events."""

    format = NAME
    missing = "no stop reason arrived"

    def __init__(self, *, exact: bool = True) -> None:
        super().__init__(exact=exact)
        self._sse = sse.SSEDecoder()
        self._start: Start | None = None
        self._blocks: dict[int, _Block] = {}
        self._newest: _Block | None = None
        self._parts = 0
        self._calls = 0
        self._counts: _Frame = {}
        self._finished = False

    @property
    def complete(self) -> bool:
        """Whether a stop reason came."""
        return self._finished

    def split(self, data: bytes) -> Iterable[tuple[str, bytes]]:
        """Give the frames that are complete with *data*."""
        return self._sse.feed(data)

    def rest(self) -> Iterable[tuple[str, bytes]]:
        """Give the frames that the end of the body completes."""
        return self._sse.close()

    def quick(self, frame: _Frame) -> Event | None:
        """Read a piece of a block, as nearly all frames are.

        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
        """
        return self._piece(frame) if frame.get("type") == "content_block_delta" else None

    def _piece(self, frame: _Frame) -> Event | None:
        index, delta = frame.get("index"), frame.get("delta")
        block = self._blocks.get(index) if type(index) is int else self._newest
        if block is None or not json.is_object(delta):
            return None
        kind = delta.get("type")
        if block.kind == "text" and kind == "text_delta" and type(text := delta.get("text")) is str:
            return TextDelta(text, 0, block.part)
        if block.kind == "tool_use" and kind == "input_json_delta" and type(text := delta.get("partial_json")) is str:
            block.told = block.told or text != ""
            return ToolCallDelta(call=block.call, part=block.part, arguments=text)
        if block.kind == "thinking" and kind == "thinking_delta" and type(text := delta.get("thinking")) is str:
            return ReasoningDelta(text, 0, block.part)
        return None

    def events(self, frame: _Frame, name: str) -> list[Event] | None:
        """Read any other frame.

        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "toolu_1", …}}
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {…}}
        """
        kind = json.text(frame.get("type")) or name
        if kind == "error" or frame.get("error"):
            raise error_inside(frame)
        if kind == "ping" and self._start is None:
            return None
        self.over = kind == "message_stop"
        made: list[Event] = []
        if kind == "message_start":
            made = self._message(frame)
        elif kind == "content_block_start":
            made = self._block(frame)
        elif kind == "content_block_delta":
            made = self._delta(frame)
        elif kind == "content_block_stop":
            made = self._stop(frame)
        elif kind == "message_delta":
            made = self._ending(frame)
        self.begun = self._start is not None or self._parts > 0
        return made

    def _message(self, frame: _Frame) -> list[Event]:
        source = frame.get("message")
        if self._start is not None or not json.is_object(source):
            return []
        said = {key: value for key, value in source.items() if value is not None}
        self._start = Start(
            id=json.text(source.get("id")) or "",
            model=json.text(source.get("model")) or "",
            extra=NOTES.unknown(said, _MESSAGE),
        )
        return [self._start, *self._count(source)]

    def _count(self, source: _Frame) -> list[Event]:
        counts = source.get("usage")
        if not json.is_object(counts):
            return []
        self._counts = {**self._counts, **{key: value for key, value in counts.items() if value is not None}}
        self.usage = decode_usage(self._counts)
        return [UsageUpdate(self.usage)]

    def _block(self, frame: _Frame) -> list[Event]:
        source = frame.get("content_block")
        part = decode_block(source, "$.content_block")
        event, kind = self._begin(part)
        block = _Block(self._parts, kind)
        self._remember(block, frame)
        if event is None:
            block.data = source if json.is_object(source) else {}
            return []
        if isinstance(event, ToolCallDelta):
            block.call, self._calls = self._calls, self._calls + 1
            block.held, event = event.arguments, replace(event, call=block.call, arguments="")
        return [replace(event, part=block.part)]

    @staticmethod
    def _begin(part: Any) -> tuple[_Growing | None, str]:
        if isinstance(part, Text):
            return TextDelta(part.text, annotations=part.annotations, extra=part.extra), "text"
        if isinstance(part, Reasoning):
            return ReasoningDelta(part.text, signature=part.signature, extra=part.extra), "thinking"
        if isinstance(part, ToolCall):
            call = ToolCallDelta(call=0, id=part.id, name=part.name, arguments=part.arguments, extra=part.extra)
            return call, "tool_use"
        return None, "whole"

    def _delta(self, frame: _Frame) -> list[Event]:
        """Read a piece that `quick` did not."""
        index, delta = frame.get("index"), read.required_object(frame, "delta", "$")
        block = self._blocks.get(index) if type(index) is int else self._newest
        kind = delta.get("type")
        if block is None:
            block = self._without_start(kind, frame)
        if (event := self._piece(frame)) is not None:
            return [event]
        if block.kind == "thinking" and kind == "signature_delta" and isinstance(delta.get("signature"), str):
            return [ReasoningDelta("", 0, block.part, delta["signature"])]
        if block.kind == "text" and kind == "citations_delta":
            return [TextDelta("", 0, block.part, (decode_citation(delta.get("citation"), "$.delta.citation"),))]
        if block.kind == "whole":
            block.add(delta)
        return []

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

    def _stop(self, frame: _Frame) -> list[Event]:
        index = frame.get("index")
        block = self._blocks.get(index) if type(index) is int else self._newest
        if block is None or block.stopped:
            return []
        made = self._settled(block)
        return made if block.kind == "whole" else [*made, UnknownEvent(NAME, frame, "content_block_stop")]

    @staticmethod
    def _settled(block: _Block) -> list[Event]:
        """Return what is told of a block at its end."""
        block.stopped = True
        if block.kind == "whole":
            return [PartAdded(decode_block(block.whole(), "$.content_block"), 0, block.part)]
        if block.kind == "tool_use" and not block.told:
            return [ToolCallDelta(call=block.call, part=block.part, arguments=block.held)]
        return []

    def _ending(self, frame: _Frame) -> list[Event]:
        given = frame.get("delta")
        delta: _Frame = {k: v for k, v in given.items() if v is not None} if json.is_object(given) else {}
        beside = {k: v for k, v in frame.items() if k not in _DELTA and v is not None}
        if "container" in delta:
            beside["container"] = delta.pop("container")
        made: list[Event] = []
        if beside:
            made.append(replace(self._start or Start(), extra=NOTES.extra_of(beside)))
        made += self._count(frame)
        if (native := delta.pop("stop_reason", None)) is None:
            return made
        late = [event for block in self._blocks.values() if not block.stopped for event in self._settled(block)]
        self._finished = True
        reason, own = finish_reason(native)
        return [*late, *made, Finish(reason, 0, own, NOTES.extra_of(delta))]
