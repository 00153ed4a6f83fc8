"""The events that every provider's answer is made of, and the only place where an answer is put together.

Rules of a stream:

* It ends with `End`, or with an exception; a stream that just stops is an exception made by whoever reads it.
* `Start` comes first where the provider tells who it is; it may come again when that changes. Everything else belongs
  to one choice, `choice`, which ends with `Finish`; `End.finish_reason` stands for choices that had no `Finish`.
* A delta continues the part numbered `part`. Without a number it continues the newest part if that is of its kind, and
  else begins a new one; a part that was begun so and stays empty is left out, unless it is the only one. Tool calls are
  numbered by `call`.
* `UsageUpdate` may come anywhere; later buckets replace earlier ones, `None` replaces nothing.
* `wire` tells how the event stood in its frame; only an encoder of the same format looks at it.

`fold` makes a `Completion` of events, `unfold` the events of a `Completion`, and `fold(unfold(c)) == c`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, final

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.growing_extra import GrowingExtra
from antiphon.chat.kept import Bearing, Kept, Unseen
from antiphon.chat.messages import (
    Annotation,
    Audio,
    Extra,
    FinishReason,
    Form,
    Message,
    Part,
    Patch,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)
from antiphon.chat.usage import Usage

__all__ = [
    "AudioDelta",
    "End",
    "Event",
    "Finish",
    "Folder",
    "MessageDelta",
    "PartAdded",
    "ReasoningDelta",
    "RefusalDelta",
    "Start",
    "TextDelta",
    "ToolCallDelta",
    "UnknownEvent",
    "UsageUpdate",
    "Wire",
    "fold",
    "unfold",
]


class Wire(Unseen, frozen=True, eq=False):
    """How an event stood in the frame it came in; takes no part in `==`."""

    format: str
    patch: Patch | None = None
    """What makes the frame of the codec's own way of writing it; on the first event of a frame."""
    more: bool = False
    """The next event came in the same frame."""
    frame: Any = None
    """The frame as it came, as its format takes it; on the first event of a frame."""
    events: tuple[Event, ...] = ()
    """The events of that frame as they were read, without `wire`."""


class _Event(Bearing, frozen=True, kw_only=True):
    wire: Wire | None = None


@final
class Start(_Event, frozen=True, kw_only=True):
    """Who answers. What a later one tells anew, fields in `extra` too, replaces what was told before."""

    id: str = ""
    model: str = ""
    created: int = 0
    """Unix time in seconds; 0 where not told."""
    provider: str | None = None
    extra: Extra | None = None
    form: Form | None = None
    kept: Kept | None = None
    """What a whole answer was read from."""


@final
class MessageDelta(_Event, frozen=True, kw_only=True):
    """Facts about a choice's message that are not content; lists in `extra` grow, other values are replaced."""

    choice: int = 0
    role: str | None = None
    extra: Extra | None = None
    form: Form | None = None
    kept: Kept | None = None


@final
class TextDelta(_Event, frozen=True):
    """A piece of text."""

    text: str
    choice: int = 0
    part: int | None = None
    annotations: tuple[Annotation, ...] = ()
    logprobs: tuple[Any, ...] | None = None
    extra: Extra | None = None
    form: Form | None = None


@final
class ReasoningDelta(_Event, frozen=True):
    """A piece of the model's thoughts."""

    text: str = ""
    choice: int = 0
    part: int | None = None
    signature: str | None = None
    """A piece of the signature."""
    extra: Extra | None = None
    form: Form | None = None


@final
class RefusalDelta(_Event, frozen=True):
    """A piece of the model's words for declining."""

    text: str
    choice: int = 0
    part: int | None = None
    logprobs: tuple[Any, ...] | None = None
    extra: Extra | None = None
    form: Form | None = None


@final
class ToolCallDelta(_Event, frozen=True, kw_only=True):
    """A piece of a tool call. The first one of a call has `id` and `name`."""

    call: int
    """Which call of the choice, from 0."""
    choice: int = 0
    part: int | None = None
    id: str | None = None
    name: str | None = None
    """A piece of the name; nearly always all of it."""
    arguments: str = ""
    """A piece of the arguments' JSON text."""
    kind: str | None = None
    extra: Extra | None = None
    form: Form | None = None


@final
class AudioDelta(_Event, frozen=True, kw_only=True):
    """A piece of a spoken answer."""

    choice: int = 0
    part: int | None = None
    id: str | None = None
    data: str | None = None
    """Base64 text; each piece is a whole number of base64 quadruples."""
    transcript: str | None = None
    expires_at: int | None = None
    media_type: str | None = None
    extra: Extra | None = None
    form: Form | None = None


@final
class PartAdded(_Event, frozen=True):
    """A part that came whole: an image, a block only its format knows."""

    content: Part
    choice: int = 0
    part: int | None = None


@final
class UsageUpdate(_Event, frozen=True):
    """Tokens used so far, cumulative."""

    usage: Usage


@final
class Finish(_Event, frozen=True):
    """One choice is complete."""

    reason: FinishReason
    choice: int = 0
    native: str | None = None
    """The provider's own word where it differs from *reason*."""
    extra: Extra | None = None
    form: Form | None = None


@final
class UnknownEvent(_Event, frozen=True):
    """A frame that this version of a codec does not know: passed on to the same format, ignored by all else."""

    format: str
    data: Any
    name: str | None = None


@final
class End(_Event, frozen=True):
    """The answer is complete; nothing follows."""

    finish_reason: FinishReason | None = None
    """For choices that had no `Finish`."""
    usage: Usage | None = None


Event: TypeAlias = (
    Start
    | MessageDelta
    | TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallDelta
    | AudioDelta
    | PartAdded
    | UsageUpdate
    | Finish
    | UnknownEvent
    | End
)
"""One thing that happens while a provider answers.

There are no others, and none has subclasses. Code that sees every event of a stream asks `type(event) is TextDelta`: a
`Struct` that `isinstance` finds to be of another class costs it about as much as making an event.
"""

_Growing: TypeAlias = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | AudioDelta
_NO_START = Start()
_NO_HEAD = MessageDelta()


class _Growth:
    """A part under way: the first delta, and what the later ones add."""

    __slots__ = ("annotations", "extra", "first", "form", "joined", "logprobs", "pieces", "rest")

    def __init__(self, first: _Growing) -> None:
        self.first = first
        self.pieces: list[str] = []
        self.joined: dict[str, list[str]] = {}
        """Pieces of further texts, by field."""
        self.rest: dict[str, Any] = {}
        self.annotations: list[Annotation] = []
        self.logprobs: list[Any] | None = None
        self.extra: GrowingExtra | None = None
        self.form: Form | None = None

    def add(self, event: _Growing) -> None:
        if type(event) is ToolCallDelta:
            self.pieces.append(event.arguments)
            self._join(name=event.name)
            self._keep(id=event.id, kind=event.kind)
        elif type(event) is AudioDelta:
            self._join(data=event.data, transcript=event.transcript)
            self._keep(id=event.id, expires_at=event.expires_at, media_type=event.media_type)
        else:
            self._add_text(event)
        if event.extra is not None:
            self.extra = self.extra or GrowingExtra(grow=True)
            self.extra.add(event.extra)
        if event.form is not None:
            self.form = {**(self.form or {}), **event.form}

    def is_blank(self) -> bool:
        """Whether nothing came: many servers begin with a piece of text that is empty."""
        if self.first.part is not None or type(self.first) not in (TextDelta, ReasoningDelta, RefusalDelta):
            return False
        extra = self.extra is not None and self.extra.done()
        came = self.rest or self.joined or self.annotations or self.logprobs or extra or self.form
        return not (came or any(self.pieces))

    def _add_text(self, event: TextDelta | ReasoningDelta | RefusalDelta) -> None:
        self.pieces.append(event.text)
        if type(event) is ReasoningDelta:
            self._join(signature=event.signature)
            return
        if event.logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs += event.logprobs
        if type(event) is TextDelta and event.annotations:
            self.annotations += event.annotations

    def _join(self, **pieces: str | None) -> None:
        for key, piece in pieces.items():
            if piece is not None:
                self.joined.setdefault(key, []).append(piece)

    def _keep(self, **values: Any) -> None:
        for key, value in values.items():
            if value is not None:
                self.rest[key] = value

    def done(self) -> Part:
        first, text = self.first, "".join(self.pieces)
        rest = self.rest | {key: "".join(pieces) for key, pieces in self.joined.items()}
        logprobs = None if self.logprobs is None else tuple(self.logprobs)
        common: Any = {"extra": None if self.extra is None else self.extra.done(), "form": self.form}
        if type(first) is TextDelta:
            return Text(text, tuple(self.annotations), logprobs, **common)
        if type(first) is ReasoningDelta:
            return Reasoning(text, rest.get("signature"), **common)
        if type(first) is RefusalDelta:
            return Refusal(text, logprobs, **common)
        if type(first) is AudioDelta:
            return Audio(**rest, **common)
        return ToolCall(rest.get("id", ""), rest.get("name", ""), text, rest.get("kind", "function"), **common)


class _Building:
    """One choice under way."""

    __slots__ = ("extra", "finish", "head", "numbered", "parts")

    def __init__(self) -> None:
        self.parts: list[_Growth | Part] = []
        self.numbered: dict[Any, _Growth] = {}
        self.head = _NO_HEAD
        self.extra = GrowingExtra(grow=True)
        self.finish: Finish | None = None

    def grow(self, event: _Growing) -> None:
        key: Any = ("call", event.call) if type(event) is ToolCallDelta else event.part
        growth = self.numbered.get(key) if key is not None else None
        if growth is None and key is None and self.parts:
            newest = self.parts[-1]
            if isinstance(newest, _Growth):
                growth = newest
        if growth is None or type(growth.first) is not type(event):
            growth = _Growth(event)
            self.parts.append(growth)
            if key is not None:
                self.numbered[key] = growth
        growth.add(event)

    def note(self, event: MessageDelta) -> None:
        known = self.head
        if event.extra:
            self.extra.add(event.extra)
        if known is _NO_HEAD:
            self.head = event
            return
        self.head = MessageDelta(
            role=event.role or known.role,
            kept=event.kept or known.kept,
            form={**(known.form or {}), **event.form} if event.form else known.form,
        )

    def done(self, index: int, reason: FinishReason | None, provider: str | None) -> Choice:
        head, finish = self.head, self.finish
        kept = [part for part in self.parts if not (isinstance(part, _Growth) and part.is_blank())] or self.parts[:1]
        parts = tuple(part.done() if isinstance(part, _Growth) else part for part in kept)
        common: Any = {"extra": self.extra.done(), "form": head.form, "kept": head.kept}
        message = Message(head.role or "assistant", parts, None, provider, **common)
        if finish is None:
            return Choice(index, message, reason)
        return Choice(index, message, finish.reason, finish.native, finish.extra, finish.form)


class Folder:
    """Puts an answer together, event by event. `completion()` may be asked at any time."""

    __slots__ = ("_choices", "_end", "_extra", "_start", "_usage")

    def __init__(self) -> None:
        self._start = _NO_START
        self._extra = GrowingExtra(grow=False)
        self._choices: dict[int, _Building] = {}
        self._usage: Usage | None = None
        self._end: End | None = None

    def add(self, event: Event) -> None:
        """Take the next event of the answer."""
        if type(event) is Start:
            self._started(event)
        elif type(event) is UsageUpdate:
            self._used(event.usage)
        elif type(event) is End:
            self._end = event
            if event.usage is not None:
                self._used(event.usage)
        elif type(event) is not UnknownEvent:
            choice = self._choice(event.choice)
            if type(event) is Finish:
                choice.finish = event
            elif type(event) is MessageDelta:
                choice.note(event)
            elif type(event) is PartAdded:
                choice.parts.append(event.content)
            else:
                choice.grow(event)

    def completion(self) -> Completion:
        """Return the answer as far as it has come; `finish_reason` is `None` where it has not ended."""
        start, reason = self._start, self._end.finish_reason if self._end else None
        return Completion(
            choices=tuple(
                building.done(index, reason, start.provider) for index, building in sorted(self._choices.items())
            ),
            id=start.id,
            model=start.model,
            created=start.created,
            provider=start.provider,
            usage=self._usage,
            extra=self._extra.done(),
            form=start.form,
            kept=start.kept,
        )

    @property
    def ended(self) -> bool:
        """Whether `End` has come."""
        return self._end is not None

    def _choice(self, index: int) -> _Building:
        building = self._choices.get(index)
        if building is None:
            building = self._choices[index] = _Building()
        return building

    def _started(self, event: Start) -> None:
        known = self._start
        if event.extra:
            self._extra.add(event.extra)
        if known is _NO_START:
            self._start = event
            return
        self._start = Start(
            id=event.id or known.id,
            model=event.model or known.model,
            created=event.created or known.created,
            provider=event.provider or known.provider,
            kept=event.kept or known.kept,
            form={**(known.form or {}), **event.form} if event.form else known.form,
        )

    def _used(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.updated(usage)


def fold(events: Iterable[Event]) -> Completion:
    """Put the events of one answer together."""
    folder = Folder()
    for event in events:
        folder.add(event)
    return folder.completion()


def unfold(completion: Completion) -> Iterator[Event]:
    """Give the events of a whole answer, the last of which is `End`."""
    yield Start(
        id=completion.id,
        model=completion.model,
        created=completion.created,
        provider=completion.provider,
        extra=completion.extra,
        form=completion.form,
        kept=completion.kept,
    )
    for choice in completion.choices:
        message = choice.message
        common: Any = {"extra": message.extra, "form": message.form, "kept": message.kept}
        yield MessageDelta(choice=choice.index, role=message.role, **common)
        calls = 0
        for number, part in enumerate(message.parts):
            yield _delta(part, choice.index, number, calls)
            calls += isinstance(part, ToolCall)
        if choice.finish_reason is not None:
            reason, native = choice.finish_reason, choice.native_finish_reason
            yield Finish(reason, choice.index, native, choice.extra, choice.form)
    yield End(usage=completion.usage)


def _delta(part: Part, choice: int, number: int, call: int) -> Event:
    common: Any = {"choice": choice, "part": number, "extra": part.extra, "form": part.form}
    if isinstance(part, Text):
        return TextDelta(part.text, annotations=part.annotations, logprobs=part.logprobs, **common)
    if isinstance(part, Reasoning):
        return ReasoningDelta(part.text, signature=part.signature, **common)
    if isinstance(part, Refusal):
        return RefusalDelta(part.text, logprobs=part.logprobs, **common)
    if isinstance(part, ToolCall):
        return ToolCallDelta(call=call, id=part.id, name=part.name, arguments=part.arguments, kind=part.kind, **common)
    return PartAdded(part, choice, number)
