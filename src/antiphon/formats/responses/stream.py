"""OpenAI Responses streams, read. A state machine, no I/O. They are written by `frames.py`.

Rules:

* A delta's frame becomes one event, whose `wire` has the rest of the frame. Of any other frame come the events that
  tell what is new in it, which say `more`, and then the frame itself as an `UnknownEvent`, so that the same format
  gives it on to the letter. Who changes an answer's text must therefore leave out its `UnknownEvent`s.
* Frames of this format say everything up to four times. What was told by deltas is not told again; where a server sends
  fewer frames (no deltas, no `output_item.added`, no `output_item.done`), later ones tell the rest, the last of all.
* An item without a neutral meaning becomes a part at its end. Its place is where it ended.
* The answer is complete with `response.completed` or `response.incomplete`; `response.failed` and `error` are errors.

Source, read 2026-11-23: openai 3.54, `types/responses/*_event.py`; recorded streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, TypeAlias

import msgspec

from antiphon.chat.events import (
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
    Wire,
)
from antiphon.chat.messages import Patch, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import BadRequestError, StreamError
from antiphon.formats import json, read
from antiphon.formats.framing import sse
from antiphon.formats.responses.answer import decode_completion, error_inside
from antiphon.formats.responses.message import BREAK, CALLS, NAME, decode_output
from antiphon.formats.status import excerpt
from antiphon.formats.times import unix_seconds

__all__ = ["StreamDecoder"]

_Frame: TypeAlias = dict[str, Any]
_Growing: TypeAlias = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta

_LAST = Wire(NAME)
_MORE = Wire(NAME, more=True)
_NOTHING: dict[Any, Any] = {}
_DELTAS: dict[str, type[_Growing]] = {
    "response.output_text.delta": TextDelta,
    "response.refusal.delta": RefusalDelta,
    "response.reasoning_summary_text.delta": ReasoningDelta,
    "response.reasoning_text.delta": ReasoningDelta,
    "response.function_call_arguments.delta": ToolCallDelta,
    "response.custom_tool_call_input.delta": ToolCallDelta,
}
_KINDS: dict[type, type[_Growing]] = {
    Text: TextDelta,
    Refusal: RefusalDelta,
    Reasoning: ReasoningDelta,
    ToolCall: ToolCallDelta,
}
_PIECES: dict[str, type[TextDelta | RefusalDelta]] = {"output_text": TextDelta, "refusal": RefusalDelta}


class _Told:
    """A part under way: its number, and how much of it was told."""

    __slots__ = ("call", "last", "length", "number", "tokens")

    def __init__(self, number: int, call: int) -> None:
        self.number = number
        self.call = call
        self.length = 0
        """Characters of its text."""
        self.last = ""
        """The newest piece of it."""
        self.tokens = 0
        """Tokens with log-probabilities."""

    def rest(self, text: str) -> str:
        """Return what of *text* was not told yet: nothing where something else was told."""
        return text[self.length :] if text[: self.length].endswith(self.last) else ""


class StreamDecoder:
    """Turns the bytes of a streamed answer into events.

    Args:
        exact: Whether the events remember their frames.
    """

    def __init__(self, *, exact: bool = True) -> None:
        self._exact = exact
        self._sse = sse.SSEDecoder()
        self._parts: dict[Any, _Told] = {}
        """By the place of the item, the kind, and the place in the item's content."""
        self._spoken: list[bool] = []
        """Of each part so far, whether it is text, which neighbours share an item with."""
        self._items: dict[str, int] = {}
        """Places of items by their ids, for servers that leave out the place."""
        self._newest = 0
        self._settled: set[int] = set()
        self._calls = 0
        self._begun = False
        self._usage: Usage | None = None
        self._finished = False

    @property
    def over(self) -> bool:
        """Whether the frame that ends an answer has come."""
        return self._finished

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them."""
        return self._read(self._sse.feed(data))

    def close(self) -> Iterator[Event]:
        """Take the end of the body; the last event is `End`.

        Raises:
            StreamError: The body ended before the frame that says how the answer ended.
        """
        yield from self._read(self._sse.close())
        if not self._finished:
            raise StreamError(
                "The provider's stream ended before the answer was complete: nothing said how it ended. "
                "What came so far may be cut off in the middle."
                if self._begun or self._spoken
                else "The provider's stream ended without a single piece of an answer."
            )
        yield End(usage=self._usage)

    def _read(self, received: Iterable[tuple[str, bytes]]) -> Iterator[Event]:
        for name, payload in received:
            try:
                frame = json.decode(payload)
            except json.MALFORMED:
                if payload[:6] == b"[DONE]":
                    continue  # some servers end these streams as those of Chat Completions
                frame = None
            if not json.is_object(frame):
                raise StreamError(f"The provider's stream has a frame that is not a JSON object: {excerpt(payload)}")
            type_ = json.text(frame.get("type")) or name
            kind = _DELTAS.get(type_)
            if kind is not None and type(frame.get("delta")) is str:
                yield self._delta(kind, frame)
            else:
                yield from self._frame(frame, type_)

    # Deltas

    def _delta(self, kind: type[_Growing], frame: _Frame) -> Event:
        """Read a piece of a part: nearly all frames are such. The rest of the frame goes into the event's `wire`."""
        text: str = frame.pop("delta")
        place = None if kind is ToolCallDelta or kind is ReasoningDelta else frame.get("content_index")
        try:
            told = self._parts[frame.get("output_index"), kind, place]
        except (KeyError, TypeError):  # nothing was said of it, or not where it is
            told = self._unannounced(kind, frame)
        told.length += len(text)
        told.last = text
        wire = Wire(NAME, Patch(frame, _NOTHING, _NOTHING)) if self._exact else None
        if kind is ToolCallDelta:
            return ToolCallDelta(call=told.call, part=told.number, arguments=text, wire=wire)
        if kind is not TextDelta:
            return kind(text, 0, told.number, wire=wire)
        tokens = _tokens(frame)
        if tokens is not None:
            told.tokens += len(tokens)
        return TextDelta(text, 0, told.number, (), tokens, wire=wire)

    def _unannounced(self, kind: type[_Growing], frame: _Frame) -> _Told:
        index, place = self._index(frame), json.integer(frame.get("content_index")) or 0
        key = _key(index, kind, place)
        if kind is ToolCallDelta and key not in self._parts:
            raise StreamError("The provider sent a piece of a tool call that never began, so nobody knows its name.")
        return self._told(key)[0]

    def _index(self, frame: _Frame) -> int:
        """Return the place of the item that *frame* is about."""
        index = json.integer(frame.get("output_index"))
        if index is None:
            index = self._items.get(json.text(frame.get("item_id")) or "", self._newest)
        self._newest = index
        return index

    def _told(self, key: tuple[int, type[_Growing], int | None]) -> tuple[_Told, bool]:
        """Return the part at *key*, and whether it is new."""
        told = self._parts.get(key)
        if told is not None:
            return told, False
        call = key[1] is ToolCallDelta
        told = self._parts[key] = _Told(len(self._spoken), self._calls)
        self._calls += call
        self._spoken.append(key[1] in (TextDelta, RefusalDelta))
        return told, True

    # Other frames

    def _frame(self, frame: _Frame, kind: str) -> Iterator[Event]:
        if kind in ("error", "response.failed") or frame.get("error"):
            response = frame.get("response")
            raise error_inside(response if json.is_object(response) else frame)
        reader = self._READERS.get(kind)
        if reader is not None:
            try:
                for event in reader(self, frame):
                    yield msgspec.structs.replace(event, wire=_MORE) if self._exact else event
            except BadRequestError as error:
                raise StreamError(f"The provider's stream has a frame of the wrong shape: {error}") from None
            except RecursionError:
                raise StreamError("The provider's stream has a frame that is nested too deeply.") from None
        if self._exact:
            yield UnknownEvent(NAME, frame, kind, wire=_LAST)

    def _start(self, frame: _Frame) -> Iterable[Event]:
        response = frame.get("response")
        if self._begun or not json.is_object(response):
            return ()
        self._begun = True
        id, model = (json.text(response.get(key)) or "" for key in ("id", "model"))
        return (Start(id=id, model=model, created=unix_seconds(response.get("created_at"))),)

    def _item(self, frame: _Frame) -> Iterable[Event]:
        """Read the start of an item; its first event keeps its place among the parts."""
        item = read.required_object(frame, "item", "$")
        index, kind = self._index(frame), json.text(item.get("type")) or ""
        if id := json.text(item.get("id")):
            self._items[id] = index
        if kind == "reasoning":
            told, new = self._told(_key(index, ReasoningDelta))
            return (ReasoningDelta("", 0, told.number),) if new else ()
        if kind not in CALLS:
            return ()
        call, name = (read.required_text(item, key, "$.item") for key in ("call_id", "name"))
        told, new = self._told(_key(index, ToolCallDelta))
        if not new:
            return ()
        return (ToolCallDelta(call=told.call, part=told.number, id=call, name=name, kind=CALLS[kind][0]),)

    def _piece(self, frame: _Frame) -> Iterable[Event]:
        """Read the start of a part of an item."""
        part, place = read.required_object(frame, "part", "$"), json.integer(frame.get("content_index")) or 0
        kind = _PIECES.get(json.text(part.get("type")) or "")
        if kind is None:
            return self._paragraph(frame)
        told, new = self._told(_key(self._index(frame), kind, place))
        return (kind("", 0, told.number),) if new else ()

    def _paragraph(self, frame: _Frame) -> Iterable[Event]:
        """Read the start of a paragraph of thoughts."""
        told = self._parts.get(_key(self._index(frame), ReasoningDelta))
        place = json.integer(frame.get("summary_index", frame.get("content_index")))
        if told is None or not (told.length if place is None else place):
            return ()
        told.length += len(BREAK)
        told.last = BREAK
        return (ReasoningDelta(BREAK, 0, told.number),)

    def _done(self, frame: _Frame) -> Iterable[Event]:
        return self._settle(self._index(frame), read.required_object(frame, "item", "$"))

    def _settle(self, index: int, item: Any) -> Iterator[Event]:
        """Tell what of an item was not told yet."""
        if index in self._settled:
            return
        self._settled.add(index)
        first = self._parts.get(_key(index, TextDelta, 0)) or self._parts.get(_key(index, RefusalDelta, 0))
        before = (first.number if first is not None else len(self._spoken)) - 1
        parts = decode_output([item], "$.output", after_text=before >= 0 and self._spoken[before])
        for place, part in enumerate(parts):
            kind = _KINDS.get(type(part))
            if kind is None:
                self._spoken.append(False)
                yield PartAdded(part, 0, len(self._spoken) - 1)
            else:
                yield _rest(part, *self._told(_key(index, kind, place)))

    def _end(self, frame: _Frame) -> Iterator[Event]:
        if self._finished:
            return
        response = read.required_object(frame, "response", "$")
        output = read.array(response, "output", "$") or []
        status = response.get("status") or ("completed" if frame.get("type") == "response.completed" else "incomplete")
        for index, item in enumerate(output):
            yield from self._settle(index, item)
        told = decode_completion({**response, "output": output, "status": status}, called=self._calls > 0)
        yield Start(id=told.id, model=told.model, created=told.created, extra=told.extra, form=told.form)
        if told.usage is not None:
            self._usage = told.usage
            yield UsageUpdate(told.usage)
        choice = told.choices[0]
        yield Finish(choice.finish_reason or "other", 0, choice.native_finish_reason)
        self._finished = True

    _READERS: ClassVar[dict[str, Callable[[Any, _Frame], Iterable[Event]]]] = {
        "response.created": _start,
        "response.queued": _start,
        "response.in_progress": _start,
        "response.output_item.added": _item,
        "response.content_part.added": _piece,
        "response.reasoning_summary_part.added": _paragraph,
        "response.output_item.done": _done,
        "response.completed": _end,
        "response.incomplete": _end,
    }


def _key(index: int, kind: type[_Growing], place: int = 0) -> tuple[int, type[_Growing], int | None]:
    return index, kind, None if kind is ToolCallDelta or kind is ReasoningDelta else place


def _tokens(frame: _Frame) -> tuple[Any, ...] | None:
    logprobs = frame.get("logprobs")
    return tuple(logprobs) if logprobs and json.is_array(logprobs) else None


def _rest(part: Any, told: _Told, new: bool) -> Event:
    """Return what of *part* was not told yet, and how all of it was written."""
    common: Any = {"part": told.number, "extra": part.extra, "form": part.form}
    if isinstance(part, ToolCall):
        who: Any = {"id": part.id, "name": part.name, "kind": part.kind} if new else {}
        return ToolCallDelta(call=told.call, arguments=told.rest(part.arguments), **who, **common)
    text = told.rest(part.text)
    if isinstance(part, Reasoning):
        return ReasoningDelta(text, signature=part.signature, **common)
    if isinstance(part, Refusal):
        return RefusalDelta(text, **common)
    tokens = (part.logprobs or ())[told.tokens :] or None
    return TextDelta(text, annotations=part.annotations, logprobs=tokens, **common)
