"""Bedrock ConverseStream, read. A state machine, no I/O. It is written by `frames.py`.

Rules:

* A frame becomes one event, but for `messageStart` and `metadata`, which become several; all but the last of those say
  `more`, so that the encoder makes one frame of them again. Padding (`p`) is part of how a frame was written.
* A block is what has the same `contentBlockIndex`; only calls, and blocks that the provider made by itself, begin with
  a frame of their own. The number of a part is the place of its block among those that have come.
* What has no neutral meaning (the ends of blocks, frames and blocks that only this format knows) comes as
  `UnknownEvent`, so that the same format gives it on in the same moment; such a block comes once more, whole, at the
  end of it.
* The answer is complete when `messageStop` has come. Counts of tokens follow in `metadata`, or come before.

Source: botocore 1.44, `data/bedrock-runtime/2023-09-30/service-2.json` (`ConverseStreamOutput`); recorded streams
(read 2026-11-23).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

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
    Wire,
)
from antiphon.chat.messages import Patch
from antiphon.errors import BadRequestError, StreamError
from antiphon.formats import json
from antiphon.formats.bedrock.answer import (
    ENDING,
    decode_usage,
    error_inside,
    finish_reason,
)
from antiphon.formats.bedrock.frames import (
    Named,
    block_delta,
    block_stop,
    call_start,
    deltas,
    message_start,
    message_stop,
    metadata,
)
from antiphon.formats.bedrock.message import NAME, NOTES, decode_block, decode_citation
from antiphon.formats.framing import eventstream
from antiphon.formats.notes import Growing
from antiphon.formats.status import excerpt

__all__ = ["StreamDecoder"]

_Frame: TypeAlias = dict[str, Any]

_LAST = Wire(NAME)
_MORE = Wire(NAME, more=True)
_NOTHING: dict[Any, Any] = {}
_CALL: dict[str, Any] = dict.fromkeys(("toolUseId", "name", "type"))
_ASIDE = ("usage", "p")
"""Fields of `metadata` that are no facts about the answer."""


class _Block:
    """A content block under way."""

    __slots__ = ("call", "data", "kind", "part", "pieces", "stopped", "told")

    def __init__(self, part: int, kind: str) -> None:
        self.part = part
        self.kind = kind
        """`text`, `thoughts`, `call`, or `whole` for one that becomes a part at its end."""
        self.call = 0
        self.told = False
        """Whether deltas brought any arguments."""
        self.data: _Frame = {}
        self.pieces: list[str] = []
        self.stopped = False

    def add(self, delta: _Frame) -> None:
        """Take a delta of a block that becomes a part at its end."""
        for key, value in delta.items():
            known = self.data.get(key)
            if json.is_array(value):
                base: _Frame = known if json.is_object(known) else {}
                before = base.get("content")
                self.data[key] = {**base, "content": [*before, *value] if json.is_array(before) else value}
            elif not json.is_object(value):
                self.data[key] = value
            elif key == "toolUse" and isinstance(value.get("input"), str):
                self.pieces.append(value["input"])
            elif key == "reasoningContent" and isinstance(value.get("redactedContent"), str):
                self.pieces.append(value["redactedContent"])
                self.data.setdefault(key, {})
            else:
                self.data[key] = {**known, **value} if json.is_object(known) else value

    def whole(self) -> _Frame:
        """Return the block with what its deltas brought."""
        call, thoughts, text = self.data.get("toolUse"), self.data.get("reasoningContent"), "".join(self.pieces)
        if json.is_object(call):
            return {**self.data, "toolUse": {**call, "input": _input(text)}}
        if json.is_object(thoughts) and self.pieces:
            return {**self.data, "reasoningContent": {**thoughts, "redactedContent": _sealed(self.pieces)}}
        return self.data


def _input(text: str) -> Any:
    """Return the arguments of a call; where the bound on tokens cut them off, which the finish reason tells, none."""
    try:
        return json.decode(text)
    except json.MALFORMED:
        return {}


def _sealed(pieces: list[str]) -> str:
    """Join pieces of base64 text, each of which stands for bytes of its own."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(base64.b64decode(piece, validate=True) for piece in pieces)).decode()
    except binascii.Error:
        return "".join(pieces)


class StreamDecoder:
    """Turns the bytes of a streamed answer into events.

    Args:
        model: Who was asked, which the answer does not tell.
    """

    def __init__(self, *, model: str) -> None:
        self._model = model
        self._frames = eventstream.EventStreamDecoder()
        self._begun = False
        self._blocks: dict[int, _Block] = {}
        self._newest: _Block | None = None
        self._parts = 0
        self._calls = 0
        self._finished = False
        self._counted = False

    @property
    def over(self) -> bool:
        """Whether both the reason of the end and the usage have come, in whatever order."""
        return self._finished and self._counted

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them."""
        for headers, payload in self._frames.feed(data):
            name = headers.get(":event-type")
            if headers.get(":message-type") != "event" or not isinstance(name, str):
                raise _reported(headers, payload)
            try:
                frame = json.decode(payload)
            except json.MALFORMED:
                frame = None
            if not json.is_object(frame):
                raise StreamError(f"The provider's stream has a frame that is not a JSON object: {excerpt(payload)}")
            if name == "contentBlockDelta" and (event := self._quick(frame)) is not None:
                yield event
            else:
                yield from self._frame(name, frame)

    def close(self) -> Iterator[Event]:
        """Take the end of the body; the last event is `End`.

        Raises:
            StreamError: The body ended within a frame, or before a stop reason came.
        """
        self._frames.close()
        if not self._finished:
            raise StreamError(
                "The provider's stream ended before the answer was complete: no stop reason arrived. "
                "What came so far may be cut off in the middle."
                if self._begun or self._parts
                else "The provider's stream ended without a single piece of an answer."
            )
        yield End()

    def _quick(self, frame: _Frame) -> Event | None:
        """Read a piece of a block that has begun, which nearly all frames are, or return `None` for any other."""
        delta, index = frame.get("delta"), frame.get("contentBlockIndex")
        block = self._blocks.get(index) if type(index) is int else None
        if block is None or block.part != index or not json.is_object(delta) or len(delta) != 1:
            return None
        if len(frame) == 2:
            wire = _LAST
        elif len(frame) == 3 and "p" in frame:
            wire = Wire(NAME, Patch({"p": frame["p"]}, _NOTHING, _NOTHING))
        else:
            return None
        if block.kind == "text":
            return TextDelta(delta["text"], 0, block.part, wire=wire) if type(delta.get("text")) is str else None
        kind, inner = next(iter(delta.items()))
        if not json.is_object(inner) or len(inner) != 1:
            return None
        if block.kind == "thoughts" and kind == "reasoningContent" and type(text := inner.get("text")) is str:
            return ReasoningDelta(text, 0, block.part, wire=wire)
        if block.kind == "call" and kind == "toolUse" and type(text := inner.get("input")) is str and text:
            block.told = True
            return ToolCallDelta(call=block.call, part=block.part, arguments=text, wire=wire)
        return None

    def _frame(self, name: str, frame: _Frame) -> list[Event]:
        try:
            if name == "contentBlockDelta":
                made, canonical = self._piece(frame)
            elif name == "contentBlockStart":
                made, canonical = self._start(frame)
            elif name == "contentBlockStop":
                made, canonical = self._stop(frame)
            elif name == "messageStop":
                made, canonical = self._end(frame)
            else:
                made, canonical = self._facts(name, frame)
        except BadRequestError as error:
            raise StreamError(f"The provider's stream has a frame of the wrong shape: {error}") from None
        except RecursionError:
            raise StreamError("The provider's stream has a frame that is nested too deeply.") from None
        if canonical is not None:
            return NOTES.wired(made, canonical[1], frame)
        before = [msgspec.structs.replace(event, wire=_MORE) for event in made]
        return [*before, UnknownEvent(NAME, frame, name, wire=_LAST)]

    def _facts(self, name: str, frame: _Frame) -> tuple[list[Event], Named | None]:
        """Read what is said of the answer as a whole."""
        made: list[Event] = []
        role = json.text(frame.get("role"))
        if name == "messageStart" and role is not None and not self._begun:
            self._begun = True
            return [Start(model=self._model), MessageDelta(role=role)], message_start(role)
        if name != "metadata":
            return made, None
        counts, usage, start = frame.get("usage"), None, None
        if extra := NOTES.extra_of({key: value for key, value in frame.items() if key not in _ASIDE}):
            start = Start(model=self._model, extra=extra)
            made.append(start)
        if json.is_object(counts):
            usage, self._counted = decode_usage(counts), True
            made.append(UsageUpdate(usage))
        return made, metadata(start, usage) if made else None

    def _start(self, frame: _Frame) -> tuple[list[Event], Named | None]:
        start = frame.get("start")
        call = start.get("toolUse") if json.is_object(start) else None
        if not json.is_object(call) or call.get("type") not in (None, "tool_use"):
            self._open("whole", frame).data = dict(start) if json.is_object(start) else {}
            return [], None
        block = self._open("call", frame)
        block.call, self._calls = self._calls, self._calls + 1
        id, name = (json.text(call.get(key)) or "" for key in ("toolUseId", "name"))
        extra = NOTES.unknown(call, _CALL)
        event = ToolCallDelta(call=block.call, part=block.part, id=id, name=name, extra=extra)
        return [event], call_start(block.part, event)

    def _open(self, kind: str, frame: _Frame) -> _Block:
        block = self._newest = _Block(self._parts, kind)
        self._parts += 1
        if (index := json.integer(frame.get("contentBlockIndex"))) is not None:
            self._blocks[index] = block
        return block

    def _block(self, kind: str, frame: _Frame) -> _Block:
        """Return the block that a delta belongs to: one of another kind is over, and a new one begins."""
        index = json.integer(frame.get("contentBlockIndex"))
        block = self._newest if index is None else self._blocks.get(index)
        if block is not None and block.kind == kind:
            return block
        if kind == "call":
            raise StreamError("The provider sent a piece of a tool call that never began, so nobody knows its name.")
        return self._open(kind, frame)

    def _piece(self, frame: _Frame) -> tuple[list[Event], Named | None]:
        delta = frame.get("delta")
        if not json.is_object(delta):
            raise StreamError("The provider's stream has a frame of the wrong shape: $.delta must be an object.")
        index = json.integer(frame.get("contentBlockIndex"))
        known = self._newest if index is None else self._blocks.get(index)
        thoughts = delta.get("reasoningContent")
        if known is not None and known.kind == "whole":
            event: Growing | None = None
        elif isinstance(text := delta.get("text"), str):
            event = TextDelta(text, 0, self._block("text", frame).part)
        elif "citation" in delta:
            citation = decode_citation(delta["citation"], "$.delta.citation")
            event = TextDelta("", 0, self._block("text", frame).part, (citation,))
        elif json.is_object(thoughts) and isinstance(text := thoughts.get("text"), str):
            event = ReasoningDelta(text, 0, self._block("thoughts", frame).part)
        elif json.is_object(thoughts) and isinstance(text := thoughts.get("signature"), str):
            event = ReasoningDelta("", 0, self._block("thoughts", frame).part, text)
        else:
            event = self._arguments(delta, frame)
        if event is None:
            self._block("whole", frame).add(delta)
            return [], None
        told = next(deltas(event), None)
        return [event], None if told is None else block_delta(event.part or 0, told)

    def _arguments(self, delta: _Frame, frame: _Frame) -> Growing | None:
        call = delta.get("toolUse")
        if not json.is_object(call) or not isinstance(call.get("input"), str):
            return None
        block = self._block("call", frame)
        block.told = block.told or call["input"] != ""
        return ToolCallDelta(call=block.call, part=block.part, arguments=call["input"])

    def _stop(self, frame: _Frame) -> tuple[list[Event], Named | None]:
        index = json.integer(frame.get("contentBlockIndex"))
        block = self._newest if index is None else self._blocks.get(index)
        if block is None or block.stopped:
            return [], None
        made = _settled(block)
        return made, block_stop(block.part) if made and block.kind == "whole" else None

    def _end(self, frame: _Frame) -> tuple[list[Event], Named | None]:
        if (native := json.text(frame.get("stopReason"))) is None:
            return [], None
        self._finished = True
        reason, own = finish_reason(native)
        ending = {ENDING: frame[ENDING]} if frame.get(ENDING) is not None else {}
        finish = Finish(reason, 0, own, NOTES.extra_of(ending))
        late = [event for block in self._blocks.values() if not block.stopped for event in _settled(block)]
        return [*late, finish], message_stop(finish)


def _settled(block: _Block) -> list[Event]:
    """Return what is told of a block at its end."""
    block.stopped = True
    if block.kind == "whole" and (data := block.whole()):
        return [PartAdded(decode_block(data, "$.content"), 0, block.part)]
    if block.kind == "call" and not block.told:
        return [ToolCallDelta(call=block.call, part=block.part, arguments="{}")]
    return []


def _reported(headers: eventstream.FrameHeaders, payload: bytes) -> StreamError:
    """Return the error that a frame is which is no event."""
    try:
        source = json.decode(payload or b"{}")
    except json.MALFORMED:
        source = None
    body: _Frame = source if json.is_object(source) else {"message": excerpt(payload)}
    if (told := json.text(headers.get(":error-message"))) is not None:
        body = {"message": told, **body}
    return error_inside(body, json.text(headers.get(":exception-type") or headers.get(":error-code")))
