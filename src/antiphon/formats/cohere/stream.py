"""Streams of Cohere's Chat API v2, both ways. State machines, no I/O.

* Each frame becomes one event, but for `message-end`, which becomes two. Frames that say nothing new (the ends of
  contents, calls and citations, whatever is new) come as `UnknownEvent`, for the same format to give on.
* The plan, each content and each call are numbered parts in the order of their beginning.
* `message-end` brings the finish reason and the usage, or an error. A body that ends before it is an error too.

Sources, read 2026-11-23: cohere 7.3.1 (`v2/types/v2chat_stream_response.py`, `types/chat_*_event*.py`),
docs.cohere.com/v2/docs/streaming.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from msgspec.structs import replace

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
)
from antiphon.chat.messages import ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, StreamError
from antiphon.formats import json, read
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
from antiphon.formats.kit_stream import StreamReader, StreamWriter, index_of
from antiphon.formats.notes import growing

__all__ = ["StreamDecoder", "StreamEncoder"]

_Frame: TypeAlias = dict[str, Any]

_PLAN = -1
"""The place of the plan among contents, which have none below 0."""
_START: _Frame = dict.fromkeys(("type", "id", "delta"))
_CONTENT = {"text": {"type": None, "text": None}, "thinking": {"type": None, "thinking": None}}
_CALL: _Frame = {"id": None, "type": None, "function": {"name": None, "arguments": None}}


def _frame(kind: str, index: int | None, message: _Frame) -> _Frame:
    return {"type": kind, **({} if index is None else {"index": index}), "delta": {"message": message}}


class StreamDecoder(StreamReader):
    """Turns the bytes of a streamed answer into events."""

    format = NAME

    def __init__(self, *, exact: bool = True) -> None:
        super().__init__(exact=exact)
        self._sse = sse.SSEDecoder()
        self._contents: dict[int, tuple[int, type]] = {}
        """The number and the kind of the part that each content is."""
        self._calls: dict[Any, int] = {}
        """The number of the newest call under each index."""
        self._asked = 0
        self._parts = 0

    def split(self, data: bytes) -> Iterable[tuple[str, bytes]]:
        """Give the frames that are complete with *data*."""
        return self._sse.feed(data)

    def rest(self) -> Iterable[tuple[str, bytes]]:
        """Give the frames that the end of the body completes."""
        return self._sse.close()

    def quick(self, frame: _Frame) -> Event | None:
        """Read a frame that brings a piece of a content and nothing else, as nearly all do.

        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}}
        """
        if frame.get("type") != "content-delta" or len(frame) != 3:
            return None
        index, delta = frame.get("index"), frame.get("delta")
        block = self._contents.get(index) if type(index) is int else None
        if block is None or not json.is_object(delta) or len(delta) != 1:
            return None
        message = delta.get("message")
        content = message.get("content") if json.is_object(message) and len(message) == 1 else None
        if not json.is_object(content) or len(content) != 1:
            return None
        part, kind = block
        if kind is TextDelta and type(text := content.get("text")) is str:
            return TextDelta(text, 0, part)
        if kind is ReasoningDelta and type(text := content.get("thinking")) is str:
            return ReasoningDelta(text, 0, part)
        return None

    def events(self, frame: _Frame, name: str) -> list[Event]:
        """Read any other frame.

        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": {…}, "tokens": {…}}}}
        """
        kind = json.text(frame.get("type")) or name
        if frame.get("error") or kind == "error":
            raise error_inside(frame)
        delta = read.object_(frame, "delta", "$") or {}
        if kind == "message-end" and not self.over:
            made = self._ending(delta)
        else:
            message = read.object_(delta, "message", "$.delta") or {}
            event = self._made(kind, frame, message)
            made = [] if event is None else [event]
        self.begun = True
        return made

    def _made(self, kind: str, frame: _Frame, message: _Frame) -> Event | None:
        index = json.integer(frame.get("index")) or 0
        path = "$.delta.message"
        if kind == "message-start" and not self.begun:
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
            known = self._contents[index] = (self._part(), of)
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
        self._contents[_PLAN] = (self._part(), ReasoningDelta)
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
        self._calls[index], self._asked = self._asked, self._asked + 1
        return ToolCallDelta(
            call=self._calls[index],
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
        part, kind = self._contents.get(index, (0, None))
        if kind is TextDelta:
            return TextDelta("", 0, part, (annotation,))
        return MessageDelta(extra={NAME: {"citations": [source]}})

    def _ending(self, delta: _Frame) -> list[Event]:
        if error := delta.get("error"):
            raise error_inside({"error": error})
        usage = read.object_(delta, "usage", "$.delta")
        made: list[Event] = []
        if usage is not None:
            self.usage = decode_usage(usage)
            made.append(UsageUpdate(self.usage))
        if (native := read.text(delta, "finish_reason", "$.delta")) is not None:
            self.over = True
            reason, own = finish_reason(native)
            made.append(Finish(reason, 0, own))
        return made


class StreamEncoder(StreamWriter):
    """Turns events into the bytes of a streamed answer."""

    format = NAME

    def __init__(self) -> None:
        super().__init__()
        self._start: Start | None = Start()
        """What the answer begins with, until that is written."""
        self._changed_start = False
        self._indexes: dict[int | None, int] = {}
        """The places among contents of the parts that have begun."""
        self._count = 0
        """How many places among contents are taken."""
        self._plans: set[int | None] = set()
        self._citations = 0
        self._calls: dict[int, int] = {}
        """The indexes of the calls that have begun."""
        self._open: tuple[str, int] | None = None
        """The content or call that is to be ended before the next one begins."""
        self._newest: tuple[type, int] | None = None
        """The kind and number of the part that pieces without a number go on with."""
        self._parts = 0
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._ended = False

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        told = error_object(error)["message"]
        return _written({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": told}})

    def framed(self, name: str, data: bytes) -> bytes:
        """Return a frame as it was read."""
        return sse.encode(data, event=name if name and name.isprintable() else None)

    def passed(self, events: Sequence[Event]) -> Sequence[bytes]:
        """Take note of a frame that goes out as it came; before it goes a start that was changed."""
        first = events[0]
        before = [*self._begin()] if self._changed_start and not isinstance(first, Start) else ()
        self._start = None
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta):
                self._note(event)
            elif isinstance(event, ToolCallDelta):
                if event.call not in self._calls:
                    self._open = ("tool-call-end", self._call_index(event))
            elif isinstance(event, UnknownEvent):
                if self._open is not None and event.name == self._open[0]:
                    self._open = None
            elif isinstance(event, MessageDelta):
                self._citations += 1
            elif isinstance(event, Finish):
                self._ended = True
        return before

    def _note(self, event: TextDelta | ReasoningDelta) -> None:
        """Take note of a piece of a content, or of its plan or its sources, that goes out as it came."""
        if isinstance(event, TextDelta) and event.annotations:
            self._citations += 1
        elif event.extra == PLAN:
            self._plans.add(event.part)
        elif event.part not in self._indexes and event.part not in self._plans:
            self._open = ("content-end", self._place(event))

    def _place(self, event: TextDelta | ReasoningDelta) -> int:
        """Return the place of the content that *event* begins: that of the frame it came in, or else the next."""
        index = self._count if (own := index_of(event, NAME)) is None else own
        self._indexes[event.part] = index
        self._count = max(self._count, index + 1)
        return index

    def write(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event* in the canonical way."""
        return map(_written, self._frames(event)) if not self._ended else iter(())

    def _frames(self, event: Event) -> Iterator[_Frame]:
        if isinstance(event, Start):
            if self._start is not None:
                self._start = Start(id=event.id or self._start.id, extra=event.extra or self._start.extra)
                self._changed_start = True
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
            yield from self._begin_frames()
            yield from self._call(event)
        elif isinstance(event, MessageDelta):
            for citation in NOTES.own_extra(event).get("citations", ()):
                yield from self._begin_frames()
                yield from self._cite(citation)
        elif isinstance(piece := growing(event), TextDelta | ReasoningDelta):
            yield from self._begin_frames()
            yield from self._grow(piece)

    def _begin(self) -> Iterator[bytes]:
        return map(_written, self._begin_frames())

    def _begin_frames(self) -> Iterator[_Frame]:
        if (start := self._start) is not None:
            self._start, self._changed_start = None, False
            message: _Frame = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
            yield {"id": start.id, **_frame("message-start", None, message), **NOTES.own_extra(start)}

    def _close(self) -> Iterator[_Frame]:
        if self._open is not None:
            name, index = self._open
            self._open = None
            yield {"type": name, "index": index}

    def _grow(self, event: TextDelta | ReasoningDelta) -> Iterator[_Frame]:
        part = self._numbered(event)
        if event.extra == PLAN or part in self._plans:
            if part not in self._plans:
                self._plans.add(part)
                yield from self._close()
            elif not event.text:
                return
            yield _frame("tool-plan-delta", None, {"tool_plan": event.text})
            return
        kind = "text" if isinstance(event, TextDelta) else "thinking"
        extra = NOTES.own_extra(event)
        if part not in self._indexes:
            yield from self._close()
            index = self._place(event if event.part == part else replace(event, part=part))
            self._open = ("content-end", index)
            yield _frame("content-start", index, {"content": {"type": kind, kind: "", **extra}})
            extra = {}
        index = self._indexes[part]
        tokens = event.logprobs or () if isinstance(event, TextDelta) else ()
        if event.text or extra or tokens:
            yield _with_logprob(_frame("content-delta", index, {"content": {kind: event.text, **extra}}), tokens[:1])
        for token in tokens[1:]:
            yield _with_logprob(_frame("content-delta", index, {"content": {kind: ""}}), (token,))
        for annotation in event.annotations if isinstance(event, TextDelta) else ():
            yield from self._cite(citation_object(annotation, index))

    def _cite(self, citation: _Frame) -> Iterator[_Frame]:
        index = self._citations
        self._citations += 1
        yield _frame("citation-start", index, {"citations": citation})
        yield {"type": "citation-end", "index": index}

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

    def _call_index(self, event: ToolCallDelta) -> int:
        """Return the index of the call that *event* begins: that of the frame it came in, or else its number."""
        index = event.call if (own := index_of(event, NAME)) is None else own
        self._calls[event.call] = index
        return index

    def _call(self, event: ToolCallDelta) -> Iterator[_Frame]:
        self._newest = None
        index = self._calls.get(event.call)
        if index is None:
            index = self._call_index(event)
            yield from self._close()
            yield _call_start(index, event)
            self._open = ("tool-call-end", index)
            if not event.arguments:
                return
        yield _frame("tool-call-delta", index, {"tool_calls": {"function": {"arguments": event.arguments}}})

    def _end(self, event: End) -> Iterator[_Frame]:
        yield from self._begin_frames()
        yield from self._close()
        self._ended = True
        finish = self._finish or Finish(event.finish_reason or "stop")
        if finish.reason == "error":
            told = f"The provider ended its answer with an error: {finish.native or 'no reason given'}"
            yield {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": told}}
            return
        delta: _Frame = {"finish_reason": native_reason(finish.reason, finish.native)}
        if self._usage is not None:
            delta["usage"] = encode_usage(self._usage)
        yield {"type": "message-end", "delta": delta}


def _call_start(index: int, event: ToolCallDelta) -> _Frame:
    call = ToolCall(event.id or f"call_{event.call}", event.name or "", "", extra=event.extra)
    return _frame("tool-call-start", index, {"tool_calls": call_object(call)})


def _with_logprob(frame: _Frame, tokens: Sequence[Any]) -> _Frame:
    return {**frame, "logprobs": encode_logprob(tokens[0])} if tokens else frame


def _written(frame: _Frame) -> bytes:
    name = json.text(frame.get("type"))
    return sse.encode(json.encode(frame), event=name if name and name.isprintable() else None)
