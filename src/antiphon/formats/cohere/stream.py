"""Streams of Cohere's Chat API v2, both ways. State machines, no I/O.

* Each frame becomes one event, but for `message-end`, which becomes two. Frames that say nothing new (the ends of
  contents, calls and citations, whatever is new) come as `UnknownEvent`, for the same format to give on.
* The plan, each content and each call are numbered parts in the order of their beginning.
* `message-end` brings the finish reason and the usage, or an error. A body that ends before it is an error too.

Sources, read 2026-11-23: cohere 7.3.1 (`v2/types/v2chat_stream_response.py`, `types/chat_*_event*.py`),
docs.cohere.com/v2/docs/streaming.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from antiphon.chat.events import (
    End,
    Event,
    Finish,
    MessageDelta,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
    Wire,
)
from antiphon.chat.messages import ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.formats import json, read
from antiphon.formats import patch as patches
from antiphon.formats.cohere.answer import (
    decode_logprob,
    decode_usage,
    encode_logprob,
    encode_usage,
    error_inside,
    error_object,
    finish_reason,
    native_reason,
)
from antiphon.formats.cohere.message import NAME, NOTES, PLAN, call_object, citation_object, decode_citation
from antiphon.formats.framing import sse
from antiphon.formats.notes import growing
from antiphon.formats.status import excerpt

__all__ = ["StreamDecoder", "StreamEncoder"]

_Frame: TypeAlias = dict[str, Any]

_LAST = Wire(NAME)
_PLAN = -1
"""The place of the plan among contents, which have none below 0."""
_START: _Frame = dict.fromkeys(("type", "id", "delta"))
_CONTENT = {"text": {"type": None, "text": None}, "thinking": {"type": None, "thinking": None}}
_CALL: _Frame = {"id": None, "type": None, "function": {"name": None, "arguments": None}}


def _frame(kind: str, index: int | None, message: _Frame) -> _Frame:
    return {"type": kind, **({} if index is None else {"index": index}), "delta": {"message": message}}


class StreamDecoder:
    """Turns the bytes of a streamed answer into events."""

    def __init__(self) -> None:
        self._sse = sse.SSEDecoder()
        self._writer = _Frames()
        self._contents: dict[int, tuple[int, type, bool]] = {}
        """The part, its kind, and whether the frames have the number that this codec would give it."""
        self._calls: dict[Any, int] = {}
        self._begun = False
        self._parts = 0
        self._usage: Usage | None = None
        self.over = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them."""
        return self._read(self._sse.feed(data))

    def close(self) -> Iterator[Event]:
        """Take the end of the body; the last event is `End`.

        Raises:
            StreamError: The body ended before `message-end` came.
        """
        yield from self._read(self._sse.close())
        if not self.over:
            raise StreamError(
                "The provider's stream ended before the answer was complete: no finish reason arrived. "
                "What came so far may be cut off in the middle."
                if self._begun
                else "The provider's stream ended without a single piece of an answer."
            )
        yield End(usage=self._usage)

    def _read(self, received: Iterable[tuple[str, bytes]]) -> Iterator[Event]:
        for name, payload in received:
            try:
                frame = json.decode(payload)
            except json.MALFORMED:
                if payload[:6] == b"[DONE]":
                    continue
                frame = None
            if not json.is_object(frame):
                raise StreamError(f"The provider's stream has a frame that is not a JSON object: {excerpt(payload)}")
            if (event := self._piece(frame)) is not None:
                yield event
                continue
            kind = json.text(frame.get("type")) or name
            try:
                made = self._events(frame, kind)
            except BadRequestError as error:
                raise StreamError(f"The provider's stream has a frame of the wrong shape: {error}") from None
            except RecursionError:
                raise StreamError("The provider's stream has a frame that is nested too deeply.") from None
            self._begun = True
            yield from made or (UnknownEvent(NAME, frame, kind, wire=_LAST),)

    def _piece(self, frame: _Frame) -> Event | None:
        """Read a frame that brings a piece of a content and nothing else, as nearly all do."""
        if frame.get("type") != "content-delta" or len(frame) != 3:
            return None
        index, delta = frame.get("index"), frame.get("delta")
        block = self._contents.get(index) if type(index) is int else None
        if block is None or not json.is_object(delta) or len(delta) != 1:
            return None
        message = delta.get("message")
        content = message.get("content") if json.is_object(message) and len(message) == 1 else None
        if not json.is_object(content) or len(content) != 1 or not block[2]:
            return None
        if block[1] is TextDelta and type(text := content.get("text")) is str:
            return TextDelta(text, 0, block[0], wire=_LAST)
        if block[1] is ReasoningDelta and type(text := content.get("thinking")) is str:
            return ReasoningDelta(text, 0, block[0], wire=_LAST)
        return None

    def _events(self, frame: _Frame, kind: str) -> list[Event]:
        if frame.get("error") or kind == "error":
            raise error_inside(frame)
        delta = read.object_(frame, "delta", "$") or {}
        if kind == "message-end" and not self.over:
            return self._ending(frame, delta)
        message = read.object_(delta, "message", "$.delta") or {}
        made = self._made(kind, frame, message)
        return [] if made is None else NOTES.wired([made], self._writer.frame([made]), frame)

    def _made(self, kind: str, frame: _Frame, message: _Frame) -> Event | None:
        index = json.integer(frame.get("index")) or 0
        path = "$.delta.message"
        if kind == "message-start" and not self._begun:
            said = {key: value for key, value in frame.items() if value is not None}
            return Start(id=json.text(frame.get("id")) or "", extra=NOTES.unknown(said, _START))
        if kind in ("content-start", "content-delta"):
            content = read.object_(message, "content", path)
            return None if content is None else self._content(index, content, frame, start=kind == "content-start")
        if kind == "tool-plan-delta":
            return self._plan(read.required_text(message, "tool_plan", path))
        if kind in ("tool-call-start", "tool-call-delta"):
            return self._call(index, read.required_object(message, "tool_calls", path), start=kind.endswith("start"))
        if kind == "citation-start":
            return self._citation(message.get("citations"), f"{path}.citations")
        return None

    def _content(self, index: int, content: _Frame, frame: _Frame, *, start: bool) -> Event | None:
        known = self._contents.get(index)
        if start and known is not None:
            return None
        if known is None:
            kind = "thinking" if "thinking" in content else "text"
        else:
            kind = "text" if known[1] is TextDelta else "thinking"
        if not isinstance(content.get(kind), str):
            return None
        extra = NOTES.unknown(content, _CONTENT[kind])
        if known is None:
            of = TextDelta if kind == "text" else ReasoningDelta
            known = self._contents[index] = (self._part(), of, index == self._writer.count)
        if kind == "thinking":
            return ReasoningDelta(content[kind], 0, known[0], extra=extra)
        logprob = decode_logprob(frame.get("logprobs"))
        return TextDelta(content[kind], 0, known[0], (), None if logprob is None else (logprob,), extra=extra)

    def _part(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _plan(self, text: str) -> Event:
        if _PLAN in self._contents:
            return ReasoningDelta(text, 0, self._contents[_PLAN][0])
        self._contents[_PLAN] = (self._part(), ReasoningDelta, False)
        return ReasoningDelta(text, 0, self._contents[_PLAN][0], extra=PLAN)

    def _call(self, index: int, source: _Frame, *, start: bool) -> Event | None:
        path = "$.delta.message.tool_calls"
        function = read.required_object(source, "function", path)
        arguments = read.text(function, "arguments", f"{path}.function") or ""
        if not start:
            if index not in self._calls:
                raise StreamError(
                    "The provider sent a piece of a tool call that never began, so nobody knows its name."
                )
            return ToolCallDelta(call=self._calls[index], arguments=arguments)
        self._calls[index] = number = len(self._calls) if index not in self._calls else self._calls[index] + 1
        return ToolCallDelta(
            call=number,
            part=self._part(),
            id=read.required_text(source, "id", path),
            name=read.required_text(function, "name", f"{path}.function"),
            arguments=arguments,
            extra=NOTES.unknown(source, _CALL),
        )

    def _citation(self, source: Any, path: str) -> Event | None:
        if not json.is_object(source):
            return None
        annotation, index = decode_citation(source, path)
        part, kind, _ = self._contents.get(index, (0, None, False))
        if kind is TextDelta:
            return TextDelta("", 0, part, (annotation,))
        return MessageDelta(extra={NAME: {"citations": [source]}})

    def _ending(self, frame: _Frame, delta: _Frame) -> list[Event]:
        if error := delta.get("error"):
            raise error_inside({"error": error})
        usage = read.object_(delta, "usage", "$.delta")
        made: list[Event] = []
        if usage is not None:
            self._usage = decode_usage(usage)
            made.append(UsageUpdate(self._usage))
        if (native := read.text(delta, "finish_reason", "$.delta")) is not None:
            self.over = True
            reason, own = finish_reason(native)
            made.append(Finish(reason, 0, own))
        return NOTES.wired(made, self._writer.frame(made), frame) if made else []


class _Frames:
    """Writes the frames of one answer in the codec's own way, and remembers what has begun."""

    def __init__(self) -> None:
        self._indexes: dict[int | None, int] = {}
        self._plans: set[int | None] = set()
        self.count = 0
        """How many contents have begun."""
        self._citations = 0

    def index(self, part: int | None) -> int | None:
        """Return the place among contents of the part with that number."""
        return self._indexes.get(part)

    def frame(self, events: list[Event]) -> _Frame:
        """Write the one frame of *events*; a piece of a content that has not begun is its start."""
        event = events[-1]
        if isinstance(event, Start):
            message: _Frame = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
            return {"id": event.id, **_frame("message-start", None, message), **NOTES.own_extra(event)}
        if isinstance(event, TextDelta | ReasoningDelta):
            return self._piece(event)
        if isinstance(event, ToolCallDelta):
            return _call_frame(event)
        if isinstance(event, MessageDelta):
            return self._citation(NOTES.own_extra(event)["citations"][0])
        delta: _Frame = {}
        for told in events:
            if isinstance(told, Finish):
                delta = {"finish_reason": native_reason(told.reason, told.native), **delta}
            elif isinstance(told, UsageUpdate):
                delta["usage"] = encode_usage(told.usage)
        return {"type": "message-end", "delta": delta}

    def _citation(self, citation: _Frame) -> _Frame:
        self._citations += 1
        return _frame("citation-start", self._citations - 1, {"citations": citation})

    def _piece(self, event: TextDelta | ReasoningDelta) -> _Frame:
        if event.extra == PLAN or event.part in self._plans:
            self._plans.add(event.part)
            return _frame("tool-plan-delta", None, {"tool_plan": event.text})
        if isinstance(event, TextDelta) and event.annotations:
            return self._citation(citation_object(event.annotations[0], self._indexes.get(event.part, 0)))
        kind = "text" if isinstance(event, TextDelta) else "thinking"
        content: _Frame = {kind: event.text, **NOTES.own_extra(event)}
        name, index = "content-delta", self._indexes.get(event.part)
        if index is None:
            index = self._indexes[event.part] = self.count
            self.count += 1
            name, content = "content-start", {"type": kind, **content}
        result = _frame(name, index, {"content": content})
        if isinstance(event, TextDelta) and event.logprobs:
            result["logprobs"] = encode_logprob(event.logprobs[0])
        return result


def _call_frame(event: ToolCallDelta) -> _Frame:
    if event.name is None and event.id is None:
        return _frame("tool-call-delta", event.call, {"tool_calls": {"function": {"arguments": event.arguments}}})
    call = ToolCall(event.id or "", event.name or "", event.arguments, extra=event.extra)
    return _frame("tool-call-start", event.call, {"tool_calls": call_object(call)})


class StreamEncoder:
    """Turns events into the bytes of a streamed answer."""

    def __init__(self) -> None:
        self._frames = _Frames()
        self._held: list[Event] = []
        self._start: Start | None = Start()
        self._open: tuple[str, int] | None = None
        """The content or call that is to be ended before the next one begins."""
        self._newest: tuple[type, int] | None = None
        """The kind and number of the part that pieces without a number go on with."""
        self._parts = 0
        self._begun: set[Any] = set()
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._ended = False

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*: none while the rest of its frame is still to come."""
        if event.wire is not None and event.wire.format == NAME:
            self._held.append(event)
            if not event.wire.more:
                yield self._own()
        elif not self._ended:
            for frame in self._foreign(event):
                yield _written(frame)

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        told = error_object(error)["message"]
        return _written({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": told}})

    def _own(self) -> bytes:
        """Write the frame whose events are held as it was."""
        events, self._held = self._held, []
        last, wire = events[-1], events[0].wire
        if isinstance(last, UnknownEvent):
            return _written(last.data)
        self._start = None
        self._ended = self._ended or isinstance(last, Finish)
        return _written(patches.apply(self._frames.frame(events), wire.patch if wire else None))

    def _foreign(self, event: Event) -> Iterator[_Frame]:
        if isinstance(event, Start):
            if self._start is not None:
                self._start = Start(id=event.id or self._start.id, extra=event.extra or self._start.extra)
        elif isinstance(event, UsageUpdate):
            self._account(event.usage)
        elif isinstance(event, End):
            if event.usage is not None:
                self._account(event.usage)
            yield from self._end(event)
        elif isinstance(event, Finish):
            self._finish = self._finish if event.choice else event
        elif not isinstance(event, UnknownEvent) and event.choice == 0:
            yield from self._choice(event)

    def _account(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.updated(usage)

    def _choice(self, event: Any) -> Iterator[_Frame]:
        if isinstance(event, ToolCallDelta):
            yield from self._begin()
            yield from self._call(event)
        elif isinstance(event, MessageDelta):
            for citation in NOTES.own_extra(event).get("citations", ()):
                yield from self._begin()
                yield from self._cite(MessageDelta(extra={NAME: {"citations": [citation]}}))
        elif isinstance(piece := growing(event), TextDelta | ReasoningDelta):
            yield from self._begin()
            yield from self._grow(piece)

    def _begin(self) -> Iterator[_Frame]:
        if self._start is not None:
            start, self._start = self._start, None
            yield self._frames.frame([start])

    def _close(self) -> Iterator[_Frame]:
        if self._open is not None:
            name, index = self._open
            self._open = None
            yield {"type": name, "index": index}

    def _grow(self, event: TextDelta | ReasoningDelta) -> Iterator[_Frame]:
        part = self._numbered(event)
        bare: Any = msgspec.structs.replace(event, part=part, wire=None)
        annotations = event.annotations if isinstance(event, TextDelta) else ()
        new = part not in self._begun
        if new:
            self._begun.add(part)
            yield from self._close()
            if event.extra != PLAN:
                blank: Any = TextDelta if isinstance(event, TextDelta) else ReasoningDelta
                yield self._frames.frame([blank("", 0, part, extra=event.extra)])
                self._open = ("content-end", self._frames.index(part) or 0)
                bare = msgspec.structs.replace(bare, extra=None)
        if isinstance(bare, TextDelta):
            logprobs = bare.logprobs or ()
            bare = TextDelta(bare.text, 0, part, logprobs=logprobs[:1] or None)
            if bare.text or logprobs:
                yield self._frames.frame([bare])
            for token in logprobs[1:]:
                yield self._frames.frame([TextDelta("", 0, part, logprobs=(token,))])
        elif bare.text or (new and event.extra == PLAN):
            yield self._frames.frame([bare])
        for annotation in annotations:
            yield from self._cite(TextDelta("", 0, part, (annotation,)))

    def _cite(self, event: TextDelta | MessageDelta) -> Iterator[_Frame]:
        start = self._frames.frame([event])
        yield start
        yield {"type": "citation-end", "index": start["index"]}

    def _numbered(self, event: TextDelta | ReasoningDelta) -> int:
        """Return the number of the part that *event* goes on with or begins."""
        if event.part is not None:
            part = event.part
        elif self._newest is not None and self._newest[0] is type(event):
            return self._newest[1]
        else:
            part = -1 - self._parts  # below those that are numbered elsewhere
            self._parts += 1
        self._newest = (type(event), part)
        return part

    def _call(self, event: ToolCallDelta) -> Iterator[_Frame]:
        self._newest = None
        key = ("call", event.call)
        if key in self._begun:
            yield _call_frame(ToolCallDelta(call=event.call, arguments=event.arguments))
            return
        self._begun.add(key)
        yield from self._close()
        yield _call_frame(msgspec.structs.replace(event, id=event.id or f"call_{event.call}", arguments=""))
        self._open = ("tool-call-end", event.call)
        if event.arguments:
            yield _call_frame(ToolCallDelta(call=event.call, arguments=event.arguments))

    def _end(self, event: End) -> Iterator[_Frame]:
        yield from self._begin()
        yield from self._close()
        self._ended = True
        finish = self._finish or Finish(event.finish_reason or "stop")
        if finish.reason == "error":
            told = f"The provider ended its answer with an error: {finish.native or 'no reason given'}"
            yield {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": told}}
            return
        yield self._frames.frame([*([] if self._usage is None else [UsageUpdate(self._usage)]), finish])


def _written(frame: _Frame) -> bytes:
    name = json.text(frame.get("type"))
    return sse.encode(json.encode(frame), event=name if name and name.isprintable() else None)
