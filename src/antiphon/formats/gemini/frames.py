"""Gemini streams, written. A state machine, no I/O. They are read by `stream.py`.

* Each frame is an answer with the parts that are new. Events that came from this format are written as the frames they
  were.
* Of others, a piece of text is a frame, but for empty ones, with which other formats begin. A call is written when it
  is whole: once something else follows and its arguments are an object, or at the end.
* The frame at the end tells for every choice why it ended, and the usage.

Source: google-genai 3.4, `types.py`, `_api_client.py` (read 2026-11-23); recorded streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from antiphon.chat.answers import Choice
from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    Finish,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
)
from antiphon.chat.messages import Audio, Message, Opaque, Part, Reasoning, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError
from antiphon.formats import json, patch
from antiphon.formats.framing import sse
from antiphon.formats.gemini.answer import encode_candidate, encode_error, encode_head, encode_usage
from antiphon.formats.gemini.message import NAME
from antiphon.formats.notes import call_input

__all__ = ["ArrayEncoder", "StreamEncoder", "frame_of", "part_of"]

_Frame: TypeAlias = dict[str, Any]


def part_of(event: Event) -> Part | None:
    """Return the part that *event* brings whole, or `None` where it brings none."""
    if type(event) is TextDelta:
        return Text(event.text, event.annotations, event.logprobs, extra=event.extra, form=event.form)
    if type(event) is ReasoningDelta:
        return Reasoning(event.text, extra=event.extra, form=event.form)
    if type(event) is ToolCallDelta:
        kind, arguments = event.kind or "function", event.arguments or "{}"
        return ToolCall(event.id or "", event.name or "", arguments, kind, extra=event.extra, form=event.form)
    if type(event) is PartAdded:
        part = event.content
        return None if isinstance(part, Opaque) and part.format != NAME else part
    if type(event) is RefusalDelta:
        return Text(event.text)
    if type(event) is not AudioDelta:
        return None
    if event.data is not None:
        return Audio(data=event.data, media_type=event.media_type)
    return Text(event.transcript) if event.transcript else None


def frame_of(events: list[Any]) -> _Frame:
    """Write the frame of *events* in the codec's own way."""
    parts: dict[int, list[Part]] = {}
    ends: dict[int, Finish] = {}
    frame: _Frame = {}
    for event in events:
        if type(event) is Start:
            frame |= encode_head(event)
        elif type(event) is UsageUpdate:
            frame["usageMetadata"] = encode_usage(event.usage)
        elif type(event) is Finish:
            ends[event.choice] = event
            parts.setdefault(event.choice, [])
        elif (part := part_of(event)) is not None:
            parts.setdefault(event.choice, []).append(part)
    candidates = [_candidate(index, parts[index], ends.get(index)) for index in parts]
    return {"candidates": candidates, **frame} if candidates else frame


def _candidate(index: int, parts: list[Part], end: Finish | None) -> _Frame:
    message = Message("assistant", tuple(parts))
    if end is None:
        return encode_candidate(Choice(index, message))
    return encode_candidate(Choice(index, message, end.reason, end.native, end.extra))


class _Calls:
    """The calls of one choice that are under way, in order."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: dict[int, ToolCallDelta] = {}

    def add(self, event: ToolCallDelta) -> None:
        known = self.open.get(event.call)
        if known is None:
            self.open[event.call] = event
            return
        self.open[event.call] = msgspec.structs.replace(
            known,
            id=event.id or known.id,
            name=(known.name or "") + (event.name or "") or None,
            arguments=known.arguments + event.arguments,
            kind=event.kind or known.kind,
            extra=event.extra or known.extra,
            form=event.form or known.form,
        )

    def take(self, *, every: bool) -> list[ToolCallDelta]:
        """Give away the calls that are whole: *every* one at the end, else those before the first that is not."""
        taken: list[ToolCallDelta] = []
        for number in [*self.open]:
            call = self.open[number]
            if not every and call_input(ToolCall("", "", call.arguments or "{", call.kind or "function")) is None:
                break
            taken.append(self.open.pop(number))
        return taken


_HEAD = b'data: {"candidates":[{"content":{"parts":[{"text":'
_MIDDLE = b'}],"role":"model"},"index":0}]'


class StreamEncoder:
    """Turns events into the bytes of a streamed answer.

    Args:
        model: The name of the model, where no event tells it.
    """

    def __init__(self, *, model: str) -> None:
        self._start = Start(model=model)
        self._tail: bytes | None = None
        """What a frame ends with, after its candidates."""
        self._held: list[Event] = []
        self._calls: dict[int, _Calls] = {}
        self._ends: dict[int, Finish] = {}
        self._open: set[int] = set()
        """Choices that have begun and not ended."""
        self._usage: Usage | None = None
        self._failed = False
        self._own = False
        """Whether the newest frame with an end was given on as it came."""

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*: none while the rest of its frame is still to come."""
        if self._failed:
            return
        if type(event) is TextDelta and (quick := self._quick(event)) is not None:
            yield quick
            return
        for frame in self._frames(event):
            yield sse.encode(json.encode(frame))

    def _quick(self, event: TextDelta) -> bytes | None:
        """Return the frame of a piece of text, which nearly all events are, or `None` for any other."""
        wire, text = event.wire, json.encode(event.text)
        if event.annotations or event.extra or event.logprobs or self._held or event.choice:
            return None
        if wire is None or wire.format != NAME:
            if not event.text or self._calls:
                return None
            self._open.add(0)
            head = self._tail if self._tail is not None else json.encode(encode_head(self._start))[1:]
            self._tail = head
        elif wire.more or wire.patch is None or wire.patch.old or wire.patch.sub or "candidates" in wire.patch.set:
            return None
        else:
            head = json.encode(wire.patch.set)[1:]
        return b"".join((_HEAD, text, _MIDDLE, b"" if head == b"}" else b",", head, b"\n\n"))

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        return sse.encode(json.encode(encode_error(error)))

    def _frames(self, event: Event) -> Iterator[_Frame]:
        wire = event.wire
        if wire is not None and wire.format == NAME:
            self._held.append(event)
            if not wire.more:
                yield self._whole()
            return
        if type(event) is End:
            yield from self._end(event)
        elif type(event) is Start:
            self._meet(event)
        elif type(event) is UsageUpdate:
            self._account(event)
        elif type(event) is ToolCallDelta:
            self._open.add(event.choice)
            self._calls.setdefault(event.choice, _Calls()).add(event)
        elif type(event) is Finish:
            yield from self._finish(event)
        elif part_of(event) is not None:
            yield from self._piece(event)

    def _whole(self) -> _Frame:
        """Write the frame whose events are held."""
        events, self._held = self._held, []
        for event in events:
            if type(event) is Start:
                self._meet(event)
            elif type(event) is UsageUpdate:
                self._account(event)
            elif type(event) is Finish:
                self._open.discard(event.choice)
                self._own = True
            elif (choice := getattr(event, "choice", None)) is not None:
                self._open.add(choice)
        if type(last := events[-1]) is UnknownEvent:
            frame: _Frame = last.data
            return frame
        wire = events[0].wire
        written: _Frame = patch.apply(frame_of(events), None if wire is None else wire.patch)
        return written

    def _meet(self, event: Start) -> None:
        known, self._tail = self._start, None
        self._start = msgspec.structs.replace(event, model=event.model or known.model, id=event.id or known.id)

    def _account(self, event: UsageUpdate) -> None:
        self._usage = event.usage if self._usage is None else self._usage.updated(event.usage)

    def _piece(self, event: Any) -> Iterator[_Frame]:
        self._open.add(event.choice)
        if type(event) in (TextDelta, ReasoningDelta) and not event.text and event.extra is None:
            if type(event) is ReasoningDelta or not (event.annotations or event.logprobs):
                return
        calls = self._calls.get(event.choice)
        yield frame_of([self._start, *(calls.take(every=False) if calls else ()), event])

    def _finish(self, event: Finish) -> Iterator[_Frame]:
        if event.reason == "error" and event.native is None:
            self._failed = True
            yield encode_error(APIError("The provider ended its answer with an error and gave no reason."))
            return
        self._open.discard(event.choice)
        self._ends[event.choice] = event

    def _end(self, event: End) -> Iterator[_Frame]:
        if event.usage is not None:
            self._account(UsageUpdate(event.usage))
        if not self._open and not self._ends and not self._own:
            self._open.add(0)
        for choice in sorted(self._open):
            self._ends[choice] = Finish(event.finish_reason or "stop", choice)
        if not self._ends:
            return
        calls = [call for choice in sorted(self._calls) for call in self._calls[choice].take(every=True)]
        usage = [] if self._usage is None else [UsageUpdate(self._usage)]
        yield frame_of([self._start, *calls, *(self._ends[choice] for choice in sorted(self._ends)), *usage])


class ArrayEncoder:
    """Turns events into a JSON array of the same frames, each on its way at once.

    Args:
        model: The name of the model, where no event tells it.
    """

    def __init__(self, *, model: str) -> None:
        self._frames = StreamEncoder(model=model)
        self._before = b"["
        self._closed = False

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the elements for *event*; after `End` also the bracket that closes the array."""
        if self._closed:
            return
        for frame in self._frames.feed(event):
            yield self._element(frame)
        if type(event) is End:
            yield self._close()

    def error(self, error: APIError) -> bytes:
        """Give the element that tells of a fault after the status line has been sent, and close the array."""
        return b"" if self._closed else self._element(self._frames.error(error)) + self._close()

    def _element(self, frame: bytes) -> bytes:
        before, self._before = self._before, b",\r\n"
        return before + frame.removeprefix(b"data: ")[:-2] + b"\n"

    def _close(self) -> bytes:
        self._closed = True
        return b"[]\n" if self._before == b"[" else b"]\n"
