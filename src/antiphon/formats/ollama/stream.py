"""Streams of Ollama's own API, both ways. State machines, no I/O.

* One JSON object a line; each brings what is new of the message. The last one has `done`, and the counts.
* A line with an `error` is one under a status of 200. A body that ends before `done` is one too.
* Calls come whole, so what another format gives of them in pieces waits until the arguments are an object.
* What a line says that has no neutral meaning is kept with the line, for the same format to say again.

Source, read 2026-11-23: ollama 0.6.3 (`_client.py`, `_types.py`); wire-formats.md, 4.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

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
from antiphon.chat.messages import Image, Message, Patch, Reasoning, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.formats import json, patch
from antiphon.formats.framing import ndjson
from antiphon.formats.notes import call_input, growing
from antiphon.formats.ollama.answer import (
    TOP,
    calls_of,
    decode_usage,
    error_inside,
    error_object,
    finish_reason,
    line,
)
from antiphon.formats.ollama.message import NAME, NOTES, Calls, decode_message
from antiphon.formats.status import excerpt
from antiphon.formats.times import timestamp, unix_seconds

__all__ = ["StreamDecoder", "StreamEncoder"]

_NOTHING: dict[str, Any] = {}


class StreamDecoder:
    """Turns the bytes of a streamed answer into events."""

    def __init__(self) -> None:
        self._lines = ndjson.LineDecoder()
        self._model: str | None = None
        self._calls: Calls | None = None
        self._asked = 0
        self._usage: Usage | None = None
        self.over = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them."""
        return self._read(self._lines.feed(data))

    def close(self) -> Iterator[Event]:
        """Take the end of the body; the last event is `End`.

        Raises:
            StreamError: The body ended before a line that is `done` came.
        """
        yield from self._read(self._lines.close())
        if not self.over:
            raise StreamError(
                "The provider's stream ended before the answer was complete: no line said that it is done. "
                "What came so far may be cut off in the middle."
                if self._model is not None
                else "The provider's stream ended without a single piece of an answer."
            )
        yield End(usage=self._usage)

    def _read(self, lines: Iterable[bytes]) -> Iterator[Event]:
        for data in lines:
            try:
                frame = json.decode(data)
            except json.MALFORMED:
                frame = None
            if not json.is_object(frame):
                raise StreamError(f"The provider's stream has a line that is not a JSON object: {excerpt(data)}")
            if (event := self._piece(frame)) is not None:
                yield event
            else:
                yield from self._frame(frame)

    def _piece(self, frame: dict[str, Any]) -> Event | None:
        """Read a line that brings a piece of text or of thoughts and nothing else, as nearly all do."""
        message, created, model = frame.get("message"), frame.get("created_at"), frame.get("model")
        if len(frame) != 4 or frame.get("done") is not False or not json.is_object(message):
            return None
        text = message.get("content")
        if type(text) is not str or type(created) is not str or type(model) is not str:
            return None
        if model != self._model or message.get("role") != "assistant":
            return None
        wire = Wire(NAME, Patch({"created_at": created}, _NOTHING, _NOTHING))
        if len(message) == 2 and text:
            return TextDelta(text, wire=wire)
        thoughts = message.get("thinking")
        if len(message) == 3 and not text and type(thoughts) is str and thoughts:
            return ReasoningDelta(thoughts, wire=wire)
        return None

    def _frame(self, frame: dict[str, Any]) -> Iterable[Event]:
        if frame.get("error"):
            raise error_inside(frame)
        if self.over:
            return (UnknownEvent(NAME, frame, wire=Wire(NAME)),)
        try:
            made = self._events(frame)
        except BadRequestError as error:
            raise StreamError(f"The provider's stream has a line of the wrong shape: {error}") from None
        except RecursionError:
            raise StreamError("The provider's stream has a line that is nested too deeply.") from None
        if not made:
            return (UnknownEvent(NAME, frame, wire=Wire(NAME)),)
        return NOTES.wired(made, line(made, self._model or ""), frame)

    def _events(self, frame: dict[str, Any]) -> list[Event]:
        made: list[Event] = []
        extra = NOTES.unknown({key: value for key, value in frame.items() if value is not None}, TOP)
        if self._calls is None:
            self._calls = calls_of(frame)
            self._model = json.text(frame.get("model")) or ""
            made.append(Start(model=self._model, created=unix_seconds(frame.get("created_at")), extra=extra))
        elif extra is not None:
            made.append(Start(extra=extra))
        if (source := frame.get("message")) is not None:
            made += self._message(decode_message(source, "$.message", self._calls, answer=True), frame)
        if frame.get("done") is True:
            self.over = True
            self._usage = decode_usage(frame)
            made += [] if self._usage is None else [UsageUpdate(self._usage)]
            reason, native = finish_reason(frame.get("done_reason"), calls=self._asked > 0)
            made.append(Finish(reason, 0, native))
        return made

    def _message(self, message: Message, frame: dict[str, Any]) -> Iterator[Event]:
        if message.role != "assistant" or message.extra is not None:
            yield MessageDelta(role=message.role, extra=message.extra)
        logprobs = frame.get("logprobs")
        for part in message.parts:
            if isinstance(part, Text):
                told = tuple(logprobs) if json.is_array(logprobs) and all(map(json.is_object, logprobs)) else None
                yield TextDelta(part.text, logprobs=told)
            elif isinstance(part, Reasoning):
                yield ReasoningDelta(part.text)
            elif isinstance(part, ToolCall):
                yield ToolCallDelta(
                    call=self._asked, id=part.id, name=part.name, arguments=part.arguments, extra=part.extra
                )
                self._asked += 1
            else:
                yield PartAdded(part)


class StreamEncoder:
    """Turns events into the bytes of a streamed answer.

    Args:
        model: The name of the model, where no event tells it.
    """

    def __init__(self, *, model: str) -> None:
        self._start = Start(model=model)
        self._begun = False
        self._held: list[Event] = []
        self._calls: dict[int, ToolCallDelta] = {}
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._ended = False

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the lines for *event*: none while the rest of its line is still to come."""
        if event.wire is not None and event.wire.format == NAME:
            self._held.append(event)
            if not event.wire.more:
                yield self._own()
        elif not self._ended:
            yield from self._foreign(event)

    def error(self, error: APIError) -> bytes:
        """Give the line that tells of a fault after the status line has been sent."""
        return ndjson.encode(json.encode(error_object(error)))

    def _own(self) -> bytes:
        """Write the line whose events are held as it was."""
        events, self._held = self._held, []
        first, last = events[0], events[-1]
        if isinstance(last, UnknownEvent):
            return ndjson.encode(json.encode(last.data))
        if isinstance(first, Start) and not self._begun:
            self._start, self._begun = first, True
        self._ended = self._ended or isinstance(last, Finish)
        frame = line(events, self._start.model)
        return ndjson.encode(json.encode(patch.apply(frame, first.wire.patch if first.wire else None)))

    def _foreign(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Start):
            if not self._begun:
                known = self._start
                self._start = Start(
                    model=event.model or known.model,
                    created=event.created or known.created,
                    extra=event.extra or known.extra,
                )
        elif isinstance(event, UsageUpdate):
            self._account(event.usage)
        elif isinstance(event, End):
            if event.usage is not None:
                self._account(event.usage)
            yield from self._end(event)
        elif not isinstance(event, UnknownEvent) and event.choice == 0:
            yield from self._choice(event)

    def _account(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.updated(usage)

    def _choice(self, event: Any) -> Iterator[bytes]:
        if isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, ToolCallDelta):
            self._grow(event)
        elif isinstance(event, MessageDelta):
            if NOTES.own_extra(event) or event.role not in (None, "assistant"):
                yield self._line(event)
        else:
            picture = isinstance(event, PartAdded) and isinstance(event.content, Image)
            piece: Any = event if picture else growing(event)
            if piece is not None and (picture or piece.text or getattr(piece, "logprobs", None)):
                yield from self._whole_calls(unfinished=False)
                yield self._line(piece)

    def _grow(self, event: ToolCallDelta) -> None:
        known = self._calls.get(event.call)
        if known is None:
            self._calls[event.call] = event
            return
        self._calls[event.call] = ToolCallDelta(
            call=event.call,
            id=event.id or known.id,
            name=(known.name or "") + (event.name or ""),
            arguments=known.arguments + event.arguments,
            kind=event.kind or known.kind,
            extra=event.extra or known.extra,
        )

    def _whole_calls(self, *, unfinished: bool) -> Iterator[bytes]:
        """Write the calls whose arguments are whole, and the *unfinished* ones as well where nothing more will come."""
        for number, call in list(self._calls.items()):
            asked = ToolCall(call.id or "", call.name or "", call.arguments, call.kind or "function")
            if not unfinished and (not call.arguments or call_input(asked) is None):
                return  # those after it wait too, or their order would be another
            yield self._line(self._calls.pop(number))

    def _line(self, *events: Event) -> bytes:
        """Write a line in the codec's own way; the first one also says what the answer begins with."""
        told = events if self._begun else (self._start, *events)
        self._begun = True
        frame = {**line(told, self._start.model), "created_at": timestamp(unix_seconds(self._start.created))}
        return ndjson.encode(json.encode(frame))

    def _end(self, event: End) -> Iterator[bytes]:
        yield from self._whole_calls(unfinished=True)
        self._ended = True
        finish = self._finish or Finish(event.finish_reason or "stop")
        if finish.reason == "error":
            yield self.error(APIError(f"The provider ended its answer with an error: {finish.native or 'no reason'}"))
        else:
            yield self._line(*([] if self._usage is None else [UsageUpdate(self._usage)]), finish)
