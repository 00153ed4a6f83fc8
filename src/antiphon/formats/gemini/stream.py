"""Gemini streams, read. A state machine, no I/O. They are written by `frames.py`.

Rules:

* A stream is server-sent events, or one JSON array where the caller did not ask for `alt=sse`. Among events an error
  may come as a bare JSON object, without `data:` before its lines.
* A frame becomes one event or more; all but the last say `more`, so that the encoder makes one frame of them again. The
  counts that stand in every frame become an event with the end, or when the stream breaks.
* Neighbouring texts are one part, but for one with a `thoughtSignature` or other fields beside it, which stays alone.
* A call comes whole. One that comes in pieces (`partialArgs`, Vertex AI) is told when it is whole; its pieces come as
  `UnknownEvent`, so that the same format gives them on in the same moment.
* An answer is complete when every candidate has told why it ended. There is no other end.

Source: google-genai 3.4, `types.py`, `_api_client.py` (read 2026-11-23); recorded streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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
from antiphon.chat.messages import Annotation, Opaque, Part, Patch, Reasoning, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import BadRequestError, ResponseTooLargeError, StreamError
from antiphon.formats import json, read
from antiphon.formats.body import BYTE_ORDER_MARK
from antiphon.formats.codec import Decoder
from antiphon.formats.framing import sse
from antiphon.formats.gemini.answer import (
    blocked,
    candidate_extra,
    decode_annotations,
    decode_logprobs,
    decode_usage,
    error_inside,
    finish_reason,
    head_of,
)
from antiphon.formats.gemini.frames import frame_of
from antiphon.formats.gemini.message import NAME, NOTES, Ids, decode_part
from antiphon.formats.status import excerpt

__all__ = ["BodyDecoder", "StreamDecoder"]

_Frame: TypeAlias = dict[str, Any]

_NOTHING: dict[Any, Any] = {}
_NO_INDEX = {"candidates": Patch({}, {}, {0: Patch({}, {"index": 0}, {})}, 1)}
"""What makes a frame without the number of its only candidate."""

_BESIDE = ("candidates", "usageMetadata")


class _Candidate:
    """A candidate under way."""

    __slots__ = ("annotated", "call", "calls", "ended", "extra", "growing", "parts", "pieces")

    def __init__(self) -> None:
        self.parts = 0
        self.calls = 0
        self.growing: type | None = None
        """The kind of the newest part, where more may come of it."""
        self.ended = False
        self.extra: _Frame = {}
        self.annotated: list[Annotation] = []
        self.call: _Frame | None = None
        """A call that comes in pieces."""
        self.pieces: dict[str, str] = {}
        """Texts among its arguments that are not whole, by path."""


class _Events(sse.SSEDecoder):
    """Server-sent events, and among them objects on lines of their own, which end as events do."""

    _drops_other_lines = False

    __slots__ = ("_bare",)

    def __init__(self) -> None:
        super().__init__()
        self._bare = False

    def _field(self, line: bytes) -> None:
        self._bare = line[:1] == b"{" or (self._bare and bool(self._data))
        if self._bare:
            self._data.append(line)
        else:
            super()._field(line)


class StreamDecoder:
    """Turns the bytes of a streamed answer into events."""

    over = False

    def __init__(self) -> None:
        self._sse = _Events()
        self._head: _Frame | None = None
        self._ids = Ids("call")
        self._candidates: dict[int, _Candidate] = {}
        self._first: _Candidate | None = None
        self._counts: _Frame | None = None
        self._told: _Frame | None = None
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them."""
        return self._read(payload for _, payload in self._sse.feed(data))

    def close(self) -> Iterator[Event]:
        """Take the end of the body; the last event is `End`.

        Raises:
            StreamError: The body ended before every candidate had told why it ended.
        """
        yield from self._read(payload for _, payload in self._sse.close())
        yield from self._settled()

    def _settled(self) -> Iterator[Event]:
        yield from self._counted()
        if not self._candidates or not all(candidate.ended for candidate in self._candidates.values()):
            raise StreamError(
                "The provider's stream ended before the answer was complete: no finish reason arrived. "
                "What came so far may be cut off in the middle."
                if self._head is not None
                else "The provider's stream ended without a single piece of an answer."
            )
        yield End(usage=self._usage)

    def _counted(self) -> list[Event]:
        """Return the newest counts, unless they were told."""
        if self._counts is self._told or self._counts is None:
            return []
        self._told = self._counts
        self._usage = decode_usage(self._counts)
        return [UsageUpdate(self._usage)]

    def _read(self, payloads: Iterable[bytes]) -> Iterator[Event]:
        for payload in payloads:
            try:
                frame = json.decode(payload)
            except json.MALFORMED:
                if payload[:6] == b"[DONE]":
                    continue
                frame = None
            if not json.is_object(frame):
                raise StreamError(f"The provider's stream has a frame that is not a JSON object: {excerpt(payload)}")
            event = self._quick(frame)
            if event is not None:
                yield event
                continue
            try:
                yield from self._frame(frame)
            except BadRequestError as error:
                raise StreamError(f"The provider's stream has a frame of the wrong shape: {error}") from None
            except RecursionError:
                raise StreamError("The provider's stream has a frame that is nested too deeply.") from None

    def _quick(self, frame: _Frame) -> Event | None:
        """Read a frame that goes on with a text of the only candidate, which nearly all are; `None` for any other."""
        head, state = self._head, self._first
        if head is None or state is None:
            return None
        try:
            (one,) = frame["candidates"]
            content = one["content"]
            (part,) = content["parts"]
            text = part["text"]
            strange = content["role"] != "model" or len(content) != 2
        except (KeyError, TypeError, ValueError):
            return None
        kind, counts = state.growing, frame.get("usageMetadata")
        if strange or type(text) is not str or not _is_plain(one, part, kind):
            return None
        if len(frame) - len(head) != (2 if json.is_object(counts) else 1) or not head.items() <= frame.items():
            return None  # it says something new beside its candidates and counts
        self._counts = counts or self._counts
        del frame["candidates"]
        wire = Wire(NAME, Patch(frame, _NOTHING, _NOTHING if len(one) == 2 else _NO_INDEX))
        if kind is TextDelta:
            return TextDelta(text, 0, state.parts - 1, wire=wire)
        return ReasoningDelta(text, 0, state.parts - 1, wire=wire)

    def _frame(self, frame: _Frame) -> Iterator[Event]:
        if frame.get("error"):
            raise error_inside(frame)
        made: list[Event] = []
        head = {key: value for key, value in frame.items() if key not in _BESIDE}
        if self._head is None or head != self._head:
            start = Start(**head_of(frame))
            self._ids.prefix = start.id or self._ids.prefix
            self._head = head
            made.append(start)
        if (counts := read.object_(frame, "usageMetadata", "$")) is not None:
            self._counts = counts
        pieces = False
        for place, source in enumerate(read.array(frame, "candidates", "$") or ()):
            path = f"$.candidates[{place}]"
            if not json.is_object(source):
                read.fault(path, "an object", source)
            index = read.integer(source, "index", path)
            index = place if index is None else index
            state = self._candidates.setdefault(index, _Candidate())
            self._first = self._candidates.get(0)
            found, partial = self._candidate(source, index, state, path)
            made += found
            pieces = pieces or partial
        if not self._candidates and (reason := blocked(frame)) is not None:
            self._candidates.setdefault(0, _Candidate()).ended = True
            made.append(Finish("content_filter", 0, reason))
        if any(type(event) is Finish for event in made) or self._is_over():
            made += self._counted()
        if pieces:
            yield from (msgspec.structs.replace(event, wire=Wire(NAME, more=True)) for event in made)
            made = []
        if made:
            yield from NOTES.wired(made, frame_of(made), frame)
        else:
            yield UnknownEvent(NAME, frame, wire=Wire(NAME))

    def _is_over(self) -> bool:
        return bool(self._candidates) and all(candidate.ended for candidate in self._candidates.values())

    def _candidate(self, source: _Frame, index: int, state: _Candidate, path: str) -> tuple[list[Event], bool]:
        """Return the events of a candidate, and whether a piece of a call is among what it brought."""
        content = read.object_(source, "content", path) or {}
        made: list[Any] = []
        pieces = False
        for number, item in enumerate(read.array(content, "parts", f"{path}.content") or ()):
            part: Part | None = decode_part(item, f"{path}.content.parts[{number}]", self._ids)
            if isinstance(part, Opaque) and "functionCall" in part.data:
                pieces = True
                part = _grown(state, part.data["functionCall"], self._ids)
            if part is not None:
                made.append(_event(part, index, state))
        self._add_facts(source, made, index, state)
        state.extra = json.merged(state.extra, candidate_extra(source))
        if (native := source.get("finishReason")) is not None and not state.ended:
            state.ended = True
            reason, word = finish_reason(native, calls=state.calls > 0)
            made.append(Finish(reason, index, word, NOTES.extra_of(state.extra)))
        return made, pieces

    @staticmethod
    def _add_facts(source: _Frame, made: list[Any], index: int, state: _Candidate) -> None:
        """Put what the candidate says of its text beside the last text that came, or an empty one."""
        new = tuple(a for _, a in decode_annotations(source) if a not in state.annotated)
        logprobs = decode_logprobs(source)
        if not new and logprobs is None:
            return
        state.annotated += new
        place = next((place for place in reversed(range(len(made))) if type(made[place]) is TextDelta), None)
        if place is None:
            place = len(made)
            made.append(_event(Text(""), index, state))
        made[place] = msgspec.structs.replace(made[place], annotations=new, logprobs=logprobs)


def _is_plain(candidate: _Frame, part: _Frame, kind: type | None) -> bool:
    """Whether a candidate with one part brings nothing but a piece of the text or the thoughts that grow."""
    if len(candidate) != 1 and not (len(candidate) == 2 and type(i := candidate.get("index")) is int and i == 0):
        return False
    if kind is TextDelta:
        return len(part) == 1
    return kind is ReasoningDelta and len(part) == 2 and part.get("thought") is True


def _event(part: Any, index: int, state: _Candidate) -> Event:
    kind = TextDelta if isinstance(part, Text) else ReasoningDelta if isinstance(part, Reasoning) else None
    alone = kind is None or part.extra is not None
    if alone or kind is not state.growing:
        state.parts += 1
    state.growing = None if alone else kind
    number = state.parts - 1
    if isinstance(part, Text):
        return TextDelta(part.text, index, number, extra=part.extra)
    if isinstance(part, Reasoning):
        return ReasoningDelta(part.text, index, number, extra=part.extra)
    if not isinstance(part, ToolCall):
        return PartAdded(part, index, number)
    state.calls += 1
    return ToolCallDelta(
        call=state.calls - 1, choice=index, part=number, id=part.id, name=part.name, arguments=part.arguments,
        extra=part.extra, form=part.form,
    )  # fmt: skip


# Calls that come in pieces

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[['\"](.+?)['\"]\]")
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")
_MAX_PLACE = 10_000
"""Most places of an array that a path may reach."""


def _grown(state: _Candidate, piece: Any, ids: Ids) -> ToolCall | None:
    """Add a piece of a call, and return the call once it is whole."""
    if not json.is_object(piece) or (not piece and state.call is None):
        return None
    call = state.call = state.call or {"name": "", "id": None, "args": {}}
    call["name"] = json.text(piece.get("name")) or call["name"]
    call["id"] = json.text(piece.get("id")) or call["id"]
    for change in read.array(piece, "partialArgs", "$") or ():
        if json.is_object(change) and isinstance(path := change.get("jsonPath"), str):
            value = next((change[key] for key in _VALUES if key in change), None)
            if isinstance(value, str) and "stringValue" in change:
                value = state.pieces[path] = state.pieces.get(path, "") + value
            _put(call["args"], path, None if "nullValue" in change else value)
    if piece.get("willContinue"):
        return None
    state.call, state.pieces = None, {}
    args = piece["args"] if json.is_object(piece.get("args")) else call["args"]
    return ToolCall(call["id"] or ids.call(call["name"]), call["name"], json.encode(args).decode())


def _put(target: Any, path: str, value: Any) -> None:
    """Set the place in *target* that a JSON path of names and numbers means, making what is missing on the way."""
    steps = [int(step[1]) if step[1] else step[0] or step[2] for step in _STEP.findall(path)]
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int) != json.is_array(target) or (isinstance(step, int) and step > _MAX_PLACE):
            raise StreamError(f"The provider's stream has a piece of a call for a place that cannot be: {path!r}.")
        if isinstance(step, int):
            target.extend([None] * (step + 1 - len(target)))
        if after is None:
            target[step] = value
            return
        inner: Any = target[step] if isinstance(step, int) else target.get(step)
        if type(inner) not in (dict, list):
            inner = [] if isinstance(after, int) else {}
            target[step] = inner
        target = inner


# The other kind of stream

_OUTSIDE = re.compile(rb'(?:[^][{}"]++|"(?:[^"\\]++|\\.)*+")*+([][{}"])', re.DOTALL)
"""What is neither a bracket nor a string that has no end yet, and then that."""

_INSIDE = re.compile(rb'[^"\\]*+(["\\])')


class ArrayStreamDecoder(StreamDecoder):
    """Reads a stream that is one JSON array: gives the events of each object as soon as it is whole."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._seen: int = 0
        self._depth = 0
        self._quoted = False
        self._begun: int = 0
        """Where the object begins that is not whole yet."""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete."""
        self._buffer += data
        return self._read(self._objects())

    def close(self) -> Iterator[Event]:
        """Take the end of the body; a bracket that is missing after the end of the answer is no fault."""
        if self._depth > 1:
            rest = bytes(self._buffer[self._begun :])
            raise StreamError(f"The provider's stream was cut off in the middle of an object: {excerpt(rest)}")
        yield from self._settled()

    def _objects(self) -> Iterator[bytes]:
        """Give the objects that are whole, and forget their bytes."""
        buffer = self._buffer
        while (found := (_INSIDE if self._quoted else _OUTSIDE).match(buffer, self._seen)) is not None:
            self._seen = found.end()
            mark = found[1]
            if mark == b"\\":
                self._seen += 1  # what it stands before means nothing, even where that is still to come
            elif mark == b'"':
                self._quoted = not self._quoted
            elif mark in b"{[":
                self._depth += 1
                if self._depth == 2:
                    self._begun = self._seen - 1
            else:
                self._depth -= 1
                self.over = self._depth == 0
                if self._depth == 1:
                    yield bytes(buffer[self._begun : self._seen])
        self._seen = max(self._seen, len(buffer))
        start = self._begun if self._depth > 1 else len(buffer)
        del buffer[:start]
        self._seen -= start
        self._begun = 0
        if len(buffer) > sse.MAX_EVENT:
            raise ResponseTooLargeError(
                f"The provider sent a single object of more than {sse.MAX_EVENT:,} bytes; the stream was given up."
            )


class BodyDecoder:
    """Reads an answer that is JSON: an array of frames, or one object."""

    __slots__ = ("_chosen", "_held", "_whole")

    def __init__(self, whole: Decoder) -> None:
        self._whole = whole
        self._chosen: Decoder | None = None
        self._held = b""

    @property
    def over(self) -> bool:
        """Whether the bracket came that closes the array."""
        return self._chosen is not None and self._chosen.over

    def feed(self, data: bytes) -> Iterable[Event]:
        """Take the next bytes."""
        if self._chosen is None:
            self._held += data
            start = self._held.removeprefix(BYTE_ORDER_MARK).lstrip()
            if not start:
                return ()
            self._chosen = ArrayStreamDecoder() if start[:1] == b"[" else self._whole
            data, self._held = self._held, b""
        return self._chosen.feed(data)

    def close(self) -> Iterable[Event]:
        """Take the end of the body and give the last events."""
        if self._chosen is None:
            self._whole.feed(self._held)
            self._chosen = self._whole
        return self._chosen.close()
