"""OpenAI Chat Completions streams, both ways. State machines, no I/O.

Rules:

* A chunk becomes one or several events; all but the last say `more`, so that the encoder makes one chunk of them again.
  The first one carries the patch that makes the recorded chunk of the codec's own.
* Chunks that differ from the one before in their text alone, nearly all of them, take a short way (`Template`).
* The body is complete when every choice has a finish reason; `[DONE]` is neither needed nor enough. What is cut off
  after that was no part of the answer. An empty finish reason, with which xAI ends tool calls and others fill every
  chunk, needs `[DONE]` to count.
* `usage` may come on any chunk, also under `x_groq`; the last one that is not null counts.

Source: openai 3.54, `types/chat/chat_completion_chunk.py` (read 2026-11-22); recorded streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    Finish,
    MessageDelta,
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
from antiphon.chat.messages import Reasoning, Text
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.formats import json, patch, read
from antiphon.formats.framing import sse
from antiphon.formats.openai_chat.answer import decode_usage, error_inside, error_object, fault_of, finish_reason
from antiphon.formats.openai_chat.calls import Calls
from antiphon.formats.openai_chat.chunk import chunk_of
from antiphon.formats.openai_chat.message import (
    NAME,
    decode_annotations,
    decode_arguments,
    decode_audio,
    decode_part,
    extra_of,
    fresh_call_id,
    old_call,
    other_thoughts,
    own_extra,
    reasoning_field,
    unknown,
)
from antiphon.formats.openai_chat.template import Template
from antiphon.formats.status import excerpt
from antiphon.formats.times import unix_seconds

__all__ = ["StreamDecoder", "StreamEncoder"]

_MORE = Wire(NAME, more=True)
_LAST = Wire(NAME)
_TOP = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation"})
_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs"})
_DELTA = frozenset(
    {"role", "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "audio", "annotations"}
)
_FRAGMENT = dict.fromkeys(("index", "id", "type"))
_FUNCTION = dict.fromkeys(("name", "arguments", "input"))


class _Choice:
    """What is known of one choice under way."""

    __slots__ = ("beside", "calls", "finished", "index", "role", "said_blank")

    def __init__(self, index: int) -> None:
        self.index = index
        self.role: str | None = None
        self.calls = Calls()
        self.beside: dict[str, Any] = {}
        """Fields beside the delta that only this format knows; they go with the finish."""
        self.finished = False
        self.said_blank = False
        """Whether a finish reason was an empty string, after tool calls."""


class StreamDecoder:
    """Turns the bytes of a streamed answer, of which *choices* were asked for, into events.

    With *exact* they remember how they were written, to be written again to the letter.
    """

    def __init__(self, *, choices: int = 1, exact: bool = True) -> None:
        self._asked = choices
        self._exact = exact
        self._sse = sse.SSEDecoder()
        self._start: Start | None = None
        self._told: dict[str, Any] = {}
        self._usage: Usage | None = None
        self._choices: dict[int, _Choice] = {}
        self._template: Template | None = None
        self._done = False

    @property
    def over(self) -> bool:
        """Whether `[DONE]` came."""
        return self._done

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them."""
        for name, payload in self._sse.feed(data):
            template = self._template
            made = None if template is None else template.read(payload)
            yield from self._payload(name, payload) if made is None else made

    def close(self) -> Iterator[Event]:
        """Take the end of the body; the last event is `End`.

        Raises:
            StreamError: The body ended before every choice had a finish reason.
        """
        for name, payload in self._sse.close():
            if not (self._is_complete() and _is_cut(payload)):
                yield from self._payload(name, payload)
        yield self._end()

    def feed_chunk(self, chunk: dict[str, Any]) -> Sequence[Event]:
        """Take one chunk as an object.

        Raises:
            StreamError: It has the wrong shape, or tells of an error.
        """
        if (fault := fault_of(chunk)) is not None:
            raise error_inside(fault)
        made: list[Event] = []
        try:
            if "choices" in chunk or "usage" in chunk:
                self._read(chunk, made)
        except BadRequestError as error:
            raise StreamError(f"The provider's stream has a frame of the wrong shape: {error}") from None
        if not made:
            return (UnknownEvent(NAME, chunk),)
        if not self._exact:
            return made
        difference = patch.diff(chunk_of(self._start or Start(), made), chunk)
        wires = [Wire(NAME, difference, more=len(made) > 1), *[_MORE] * (len(made) - 2), _LAST]
        return [msgspec.structs.replace(event, wire=wire) for event, wire in zip(made, wires, strict=False)]

    def _payload(self, name: str, payload: bytes) -> Sequence[Event]:
        if self._done or not payload.strip():
            return ()
        if payload.lstrip().startswith(b"[DONE]"):
            self._done, self._template = True, None
            return ()
        try:
            chunk = json.decode(payload)
            if not json.is_object(chunk):
                raise StreamError(f"The provider's stream has a frame that is not an object: {excerpt(payload)}")
            if name == "error":
                raise error_inside(chunk.get("error") or chunk)
            made = self.feed_chunk(chunk)
        except json.MALFORMED:
            raise StreamError(
                f"The provider's stream has a frame that is not JSON, or nested too deeply: {excerpt(payload)}"
            ) from None
        self._template = template = Template.of(payload, chunk, made)
        if template is not None and isinstance(event := made[-1], ToolCallDelta):
            template.texts = self._choices[event.choice].calls.all[event.call].pieces
        return made

    def _is_complete(self) -> bool:
        """Whether the answer is all there, though more about it, such as its usage, may come."""
        if self._done:
            return all(choice.finished or choice.said_blank for choice in self._choices.values())
        return len(self._choices) >= self._asked and all(choice.finished for choice in self._choices.values())

    def _end(self) -> End:
        if not self._choices:
            raise StreamError("The provider's stream ended without a single piece of an answer.")
        if not self._is_complete():
            raise StreamError(
                "The provider's stream ended before the answer was complete: no finish reason arrived. "
                "What came so far may be cut off in the middle."
            )
        if any(call.name is None for choice in self._choices.values() for call in choice.calls.all):
            raise StreamError("The provider's stream has a tool call without a name.")
        said = all(choice.finished for choice in self._choices.values())
        return End(None if said else "tool_calls", self._usage, wire=_LAST)

    def _read(self, chunk: dict[str, Any], made: list[Event]) -> None:
        """Add the events of *chunk*."""
        self._head(chunk, made)
        for place, source in enumerate(read.array(chunk, "choices", "$") or ()):
            path = f"$.choices[{place}]"
            if not json.is_object(source):
                read.fault(path, "an object", source)
            given = json.integer(source.get("index"))
            index = place if given is None else given
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice(index)
            self._choice(source, choice, path, made)
        self._account(chunk, made)

    def _head(self, chunk: dict[str, Any], made: list[Event]) -> None:
        """Tell who answers, where that is new."""
        told = {
            key: value
            for key, value in chunk.items()
            if key not in _TOP and value is not None and not json.same(self._told.get(key), value)
        }
        known = self._start or Start()
        id, model = json.text(chunk.get("id")) or "", json.text(chunk.get("model")) or ""
        created = unix_seconds(chunk.get("created"))
        if self._start is None or told or (id, model, created) != (known.id, known.model, known.created):
            self._told |= told
            self._start = Start(id=id, model=model, created=created, extra=extra_of(told))
            made.append(self._start)

    def _choice(self, source: dict[str, Any], choice: _Choice, path: str, made: list[Event]) -> None:
        """Add the events of one element of `choices`."""
        field = "delta" if source.get("delta") is not None else "message"  # of servers that end with a whole message
        delta = read.object_(source, field, path) or {}
        inside = f"{path}.{field}"
        thoughts = reasoning_field(delta)
        rest = {key: value for key, value in delta.items() if key not in _DELTA and value is not None}
        rest |= other_thoughts(delta, thoughts)
        old = old_call(delta)
        if old is not None and (old.get("name") or choice.calls.all):
            del rest["function_call"]
        else:
            old = None  # of no call that anything is known of
        role = read.text(delta, "role", inside)
        new_role = None if role == choice.role else role
        if new_role is not None or rest:
            made.append(MessageDelta(choice=choice.index, role=new_role, extra=extra_of(rest)))
            choice.role = role or choice.role
        if thoughts is not None:
            made.append(ReasoningDelta(delta[thoughts], choice.index))
        self._text(delta, source.get("logprobs"), choice, inside, made)
        for place, fragment in enumerate(read.array(delta, "tool_calls", inside) or ()):
            made.append(self._call(fragment, choice, f"{inside}.tool_calls[{place}]"))
        if old is not None:
            made.append(self._call({"index": 0, "function": old}, choice, inside))
        if (audio := read.object_(delta, "audio", inside)) is not None:
            made.append(_audio(audio, choice.index, f"{inside}.audio"))
        choice.beside |= {key: value for key, value in source.items() if key not in _CHOICE and value is not None}
        self._finish(read.text(source, "finish_reason", path), choice, made)

    def _text(self, delta: dict[str, Any], logprobs: Any, choice: _Choice, path: str, made: list[Event]) -> None:
        tokens: dict[str, Any] = logprobs if json.is_object(logprobs) else {}
        annotations = decode_annotations(read.array(delta, "annotations", path), f"{path}.annotations")
        content, spoken = delta.get("content"), _tokens(tokens.get("content"))
        if json.is_array(content):
            made.extend(_listed(item, choice.index, f"{path}.content[{place}]") for place, item in enumerate(content))
            content = None
        elif content is not None and not isinstance(content, str):
            read.fault(f"{path}.content", "a string or an array of parts", content)
        if content is not None or annotations or spoken:
            made.append(TextDelta(content or "", choice.index, None, annotations, spoken))
        refusal, declined = read.text(delta, "refusal", path), _tokens(tokens.get("refusal"))
        if refusal or (refusal is not None and declined):  # an empty one declines nothing
            made.append(RefusalDelta(refusal, choice.index, None, declined))

    def _call(self, source: Any, choice: _Choice, path: str) -> Event:
        if not json.is_object(source):
            read.fault(path, "an object", source)
        kind = read.text(source, "type", path) or None
        field = "custom" if kind == "custom" or json.is_object(source.get("custom")) else "function"
        inner = read.object_(source, field, path) or {}
        id, name = read.text(source, "id", path) or None, read.text(inner, "name", f"{path}.{field}") or None
        arguments = decode_arguments(inner, "input" if "input" in inner else "arguments", f"{path}.{field}")
        call = choice.calls.find(json.integer(source.get("index")), id, name)
        new = not call.pieces
        call.pieces.append(arguments)
        if kind not in (None, "function", "custom") and field not in source:
            name = ""  # a call that the provider runs itself, in a shape of its own
        shown_id, shown_name = None if id == call.id else id, None if name == call.name else name
        if new:
            call.kind = kind
            answer = self._start.id if self._start else ""
            shown_id = id or f"{fresh_call_id(answer, choice.index)}_{call.number}"
        call.id = call.id or id
        call.name = call.name if shown_name is None else (call.name or "") + shown_name
        rest = {key: value for key, value in source.items() if value is not None}
        return ToolCallDelta(
            call=call.number,
            choice=choice.index,
            id=shown_id,
            name=shown_name,
            arguments=arguments,
            kind=kind if new else "custom" if call.kind == "custom" else None,
            extra=unknown(rest, {**_FRAGMENT, field: _FUNCTION}),
        )

    @staticmethod
    def _finish(native: str | None, choice: _Choice, made: list[Event]) -> None:
        if native == "":
            choice.said_blank = choice.said_blank or bool(choice.calls.all)
        elif native is not None and not choice.finished:
            choice.finished = True
            reason, own = finish_reason(native, called=bool(choice.calls.all))
            made.append(Finish(reason, choice.index, own, extra_of(choice.beside)))
            choice.beside = {}

    def _account(self, chunk: dict[str, Any], made: list[Event]) -> None:
        source: Any = chunk.get("usage")
        if not source and json.is_object(groq := chunk.get("x_groq")):
            source = groq.get("usage")
        if json.is_object(source) and source:
            self._usage = decode_usage(source, keep=self._exact)
            made.append(UsageUpdate(self._usage))


def _is_cut(payload: bytes) -> bool:
    try:
        json.decode(payload)
    except json.MALFORMED:
        return True
    return False


def _tokens(source: Any) -> tuple[Any, ...] | None:
    return tuple(source) if json.is_array(source) else None


def _audio(source: dict[str, Any], choice: int, path: str) -> Event:
    piece = decode_audio(source, path)
    return AudioDelta(
        choice=choice,
        id=piece.id,
        data=piece.data,
        transcript=piece.transcript,
        expires_at=piece.expires_at,
        extra=piece.extra,
    )


def _listed(source: Any, choice: int, path: str) -> Event:
    """Read an element of a list that stands in the place of the text (Mistral)."""
    part = decode_part(source, path)
    if isinstance(part, Text):
        return TextDelta(part.text, choice, extra=part.extra)
    if isinstance(part, Reasoning):
        return ReasoningDelta(part.text, choice, extra=part.extra)
    return PartAdded(part, choice)


_HOLE = "\x1f"
"""A text that stands for any other."""
_AROUND = b'"content":"\\u001f"'


class StreamEncoder:
    """Turns events into the bytes of a streamed answer.

    Events that came in frames of this format go out in the same frames, as they were; those of others get a frame each.

    Args:
        include_usage: Whether the usage is told, in a frame of its own. `False`: not even one that came is passed on,
            which a client that did not ask for it may stumble over. `None`: one that came is.
    """

    def __init__(self, *, include_usage: bool | None) -> None:
        self._include_usage = include_usage
        self._start = Start()
        self._owed: Start | None = None
        self._opened: set[int] = set()
        self._finished: set[int] = set()
        self._held: list[Event] = []
        self._usage: Usage | None = None
        self._told_usage = False
        self._failed = False
        self._around: dict[int, tuple[Wire | None, bytes, bytes]] = {}
        """What stands before and after the text in a frame of each choice that brings nothing else."""

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*: none while the rest of its frame is still to come."""
        if type(event) is TextDelta and (frame := self._short(event)) is not None:
            return iter((frame,))
        self._around.clear()
        return self._long(event)

    def _short(self, event: TextDelta) -> bytes | None:
        """Write more text the short way, if nothing but text came since the choice began.

        Chunks that differ in their text alone come with the very same `wire`, which tells that they are written alike.
        """
        if event.annotations or event.logprobs is not None or self._held:
            return None
        wire, choice = event.wire, event.choice
        if wire is not None and (wire.format != NAME or (wire.patch is None and not wire.more)):
            wire = None  # it says no more than that
        around = self._around.get(choice)
        if around is None or around[0] is not wire:
            around = self._frame_around(event, wire)
            if around is None:
                return None
            self._around[choice] = around
        return around[1] + json.encode(event.text) + around[2]

    def _frame_around(self, event: TextDelta, wire: Wire | None) -> tuple[Wire | None, bytes, bytes] | None:
        """Return what stands before and after the text in the frame of *event*, if that is all that it brings."""
        if event.choice not in self._opened or self._owed is not None or (wire is not None and wire.more):
            return None
        chunk = chunk_of(self._start, [msgspec.structs.replace(event, text=_HOLE)])
        frame = sse.encode(json.encode(patch.apply(chunk, None if wire is None else wire.patch)))
        head, mark, tail = frame.partition(_AROUND)
        if not mark or _AROUND in tail:
            return None
        return wire, head + mark[: mark.index(b":") + 1], tail

    def _long(self, event: Event) -> Iterator[bytes]:
        native = event.wire is not None and event.wire.format == NAME
        if isinstance(event, End):
            yield from self._end(event, native=native)
        elif isinstance(event, UnknownEvent):
            if event.format == NAME:
                yield sse.encode(json.encode(event.data))
        elif native or self._held:
            self._held.append(event)
            if not native or event.wire is None or not event.wire.more:
                yield from self._flush()
        else:
            yield from self._foreign(event)

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        self._failed = True
        return sse.encode(json.encode(error_object(error)))

    def _flush(self) -> Iterator[bytes]:
        """Write the events that came in one frame."""
        events, self._held = self._held, []
        unasked = self._include_usage is False and UsageUpdate in set(map(type, events)) <= {Start, UsageUpdate}
        for event in events:
            if isinstance(event, Start):
                self._start = event
            elif isinstance(event, UsageUpdate):
                self._told_usage = True
            elif not isinstance(event, UnknownEvent | End):
                self._opened.add(event.choice)
                if isinstance(event, Finish):
                    self._finished.add(event.choice)
        if unasked:
            return
        wire = events[0].wire
        yield sse.encode(json.encode(patch.apply(chunk_of(self._start, events), wire.patch if wire else None)))

    def _foreign(self, event: Event) -> Iterator[bytes]:
        """Write an event of another format, or of none; each choice begins with its role."""
        if isinstance(event, Start):
            known = self._start
            self._start = Start(
                id=event.id or known.id, model=event.model or known.model, created=event.created or known.created
            )
            self._owed = event if own_extra(event) else self._owed
        elif isinstance(event, UsageUpdate):
            self._usage = event.usage if self._usage is None else self._usage.updated(event.usage)
        elif isinstance(event, Finish) and event.reason == "error":
            self._finished.add(event.choice)
            yield self.error(APIError(f"The provider ended its answer with an error: {event.native or 'no reason'}."))
        elif not isinstance(event, UnknownEvent | End):
            events: list[Event] = [event]
            if event.choice not in self._opened and not (isinstance(event, MessageDelta) and event.role):
                events.insert(0, MessageDelta(choice=event.choice, role="assistant"))
            self._opened.add(event.choice)
            if isinstance(event, Finish):
                self._finished.add(event.choice)
            if len(events) > 1 or not isinstance(event, MessageDelta) or event.role or own_extra(event):
                yield self._frame(events)

    def _frame(self, events: list[Event]) -> bytes:
        owed, self._owed = self._owed, None
        return sse.encode(json.encode(chunk_of(self._start, events if owed is None else [owed, *events])))

    def _end(self, event: End, *, native: bool) -> Iterator[bytes]:
        if self._held:
            yield from self._flush()
        if event.finish_reason is not None and not native:
            for choice in sorted((self._opened or {0}) - self._finished):
                yield from self._foreign(Finish(event.finish_reason, choice))
        usage = event.usage or self._usage
        if self._include_usage and usage is not None and not self._told_usage:
            yield self._frame([UsageUpdate(usage)])
        if not self._failed:
            yield sse.encode(b"[DONE]")
