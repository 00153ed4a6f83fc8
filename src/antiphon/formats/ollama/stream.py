"""Streams of Ollama's own API, both ways. State machines, no I/O.

* One JSON object a line; each brings what is new of the message. The last one has `done`, and the counts.
* A line with an `error` is one under a status of 200. A body that ends before `done` is one too.
* Calls come whole, so what another format gives of them in pieces waits until the arguments are an object.
* What a line says that has no neutral meaning is kept with the line, for the same format to say again.

Source, read 2026-11-23: ollama 0.6.3 (`_client.py`, `_types.py`); wire-formats.md, 4.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
)
from antiphon.chat.messages import Image, Message, Reasoning, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError
from antiphon.formats import json
from antiphon.formats.framing import ndjson
from antiphon.formats.kit_stream import StreamReader, StreamWriter
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
from antiphon.formats.times import timestamp, unix_seconds

__all__ = ["StreamDecoder", "StreamEncoder"]


class StreamDecoder(StreamReader):
    """Turns the bytes of a streamed answer into events."""

    format = NAME
    unit = "line"
    missing = "no line said that it is done"

    def __init__(self, *, exact: bool = True) -> None:
        super().__init__(exact=exact)
        self._lines = ndjson.LineDecoder()
        self._model: str | None = None
        self._calls: Calls | None = None
        self._asked = 0

    def split(self, data: bytes) -> Iterable[tuple[str, bytes]]:
        """Give the lines that are complete with *data*."""
        return [("", line) for line in self._lines.feed(data)]

    def rest(self) -> Iterable[tuple[str, bytes]]:
        """Give the line that the end of the body completes."""
        return [("", line) for line in self._lines.close()]

    def quick(self, frame: dict[str, Any]) -> Event | None:
        """Read a line that brings a piece of text or of thoughts and nothing else, as nearly all do."""
        message, model = frame.get("message"), frame.get("model")
        if len(frame) != 4 or frame.get("done") is not False or not json.is_object(message) or model != self._model:
            return None
        text = message.get("content")
        if type(text) is not str or message.get("role") != "assistant" or type(frame.get("created_at")) is not str:
            return None
        if len(message) == 2 and text:
            return TextDelta(text)
        thoughts = message.get("thinking")
        if len(message) == 3 and not text and type(thoughts) is str and thoughts:
            return ReasoningDelta(thoughts)
        return None

    def events(self, frame: dict[str, Any], name: str) -> list[Event]:
        """Read any other line.

        {"model": "llama3.2", "created_at": "2026-11-23T10:00:00.1Z", "message": {"role": "assistant", "content": ""},
         "done": true, "done_reason": "stop", "total_duration": 5191566416, "prompt_eval_count": 26, "eval_count": 298}
        """
        if frame.get("error"):
            raise error_inside(frame)
        if self.over:
            return []
        made: list[Event] = []
        extra = NOTES.unknown({key: value for key, value in frame.items() if value is not None}, TOP)
        if self._calls is None:
            self._calls = calls_of(frame)
            self.begun, self._model = True, json.text(frame.get("model")) or ""
            made.append(Start(model=self._model, created=unix_seconds(frame.get("created_at")), extra=extra))
        elif extra is not None:
            made.append(Start(extra=extra))
        if (source := frame.get("message")) is not None:
            message = decode_message(source, "$.message", self._calls, answer=True, keep=False)
            made += self._message(message, frame)
        if frame.get("done") is True:
            self.over = True
            self.usage = decode_usage(frame)
            made += [] if self.usage is None else [UsageUpdate(self.usage)]
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


class StreamEncoder(StreamWriter):
    """Turns events into the bytes of a streamed answer.

    Args:
        model: The name of the model, where no event tells it.
    """

    format = NAME

    def __init__(self, *, model: str) -> None:
        super().__init__()
        self._start = Start(model=model)
        self._begun = False
        self._calls: dict[int, ToolCallDelta] = {}
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._ended = False

    def error(self, error: APIError) -> bytes:
        """Give the line that tells of a fault after the status line has been sent."""
        return ndjson.encode(json.encode(error_object(error)))

    def framed(self, name: str, data: bytes) -> bytes:
        """Return a line as it was read."""
        return ndjson.encode(data)

    def passed(self, events: Sequence[Event]) -> Sequence[bytes]:
        """Take note of a line that goes out as it came; before it go calls that were changed."""
        before = [*self._whole_calls(unfinished=True)] if self._calls else ()
        first = events[0]
        if isinstance(first, Start) and not self._begun:
            self._start, self._begun = first, True
        self._ended = self._ended or isinstance(events[-1], Finish)
        return before

    def write(self, event: Event) -> Iterator[bytes]:
        """Give the lines for *event*: none while the rest of its line is still to come."""
        if self._ended:
            return
        if isinstance(event, Start):
            if not self._begun:
                known = self._start
                self._start = Start(
                    model=event.model or known.model,
                    created=event.created or known.created,
                    extra=NOTES.extra_of({**NOTES.own_extra(known), **NOTES.own_extra(event)}),
                )
            elif NOTES.own_extra(event):
                yield self._line(Start(extra=event.extra))
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
