"""What streams of all formats have in common: a base for those that read and one for those that write.

A reader keeps with the first event of a frame its name and bytes, and the events as it read them. A writer of the same
format gives the bytes back if the events of the frame are all there and none of them was changed; else it writes each
of them in the canonical way, as it does with events of other formats. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from msgspec.structs import replace

from antiphon.chat.events import End, Event, TextDelta, UnknownEvent, Wire
from antiphon.chat.kept import same
from antiphon.chat.usage import Usage
from antiphon.errors import BadRequestError, StreamError
from antiphon.formats import json
from antiphon.formats.status import excerpt

__all__ = ["StreamReader", "StreamWriter", "as_one_frame", "completed", "frame_as_it_came", "index_of"]

E = TypeVar("E", bound=Event)


def as_one_frame(made: Sequence[Event], format: str, frame: Any) -> list[Event]:
    """Return the events *made* of one *frame*, with what `frame_as_it_came` needs to give it back."""
    last = len(made) - 1
    result = [replace(made[0], wire=Wire(format, None, last > 0, frame, tuple(made)))]
    result += (replace(made[place], wire=Wire(format, more=place < last)) for place in range(1, len(made)))
    return result


def frame_as_it_came(events: Sequence[Event]) -> Any:
    """Return the frame that *events* came in if they are all of it and none was changed since, or else `None`."""
    wire = events[0].wire
    if wire is None or len(wire.events) != len(events):
        return None
    if len(events) == 1:
        return wire.frame if _untouched(events[0], wire.events[0]) else None
    return wire.frame if all(map(_untouched, events, wire.events)) else None


def index_of(event: Event, format: str) -> int | None:
    """Return the `index` in the frame of *format* that *event* came in; `None`: it came elsewise, or there is none."""
    wire = event.wire
    if wire is None or wire.format != format or wire.frame is None:
        return None
    return json.integer(json.decode(wire.frame[1]).get("index"))


def completed(event: E, **fields: Any) -> E:
    """Return *event* with *fields* that its frame does not tell, so that they are no change of it."""
    made, wire = replace(event, **fields), event.wire
    if wire is None or not wire.events or not same(event, wire.events[0]):
        return made
    events = (replace(made, wire=None), *wire.events[1:])
    return replace(made, wire=replace(wire, events=events))


def _untouched(event: Event, before: Event) -> bool:
    """Whether the two are the same, in less time for a piece of text, as nearly all are."""
    if type(event) is TextDelta and type(before) is TextDelta:
        return (
            (event.text is before.text and event.extra is before.extra and event.logprobs is before.logprobs)
            and (event.part is before.part and event.choice is before.choice)
            and event.annotations is before.annotations
        ) or same(event, before)
    return same(event, before)


class StreamReader:
    """Turns the bytes of a streamed answer into events. Used once.

    A format's own reader gives the frames in `split` and `rest`, and what they say in `quick` and `events`; it sets
    `begun` with the first frame, `over` with the last and `usage` with the counts.

    Args:
        exact: Whether events keep the frames they came in, to be written back as they were.
    """

    format: str
    """The name of the format."""
    unit = "frame"
    """What a frame is called in errors."""
    missing = "no finish reason arrived"
    """What did not come, in the error for a body that ends before `over`."""

    def __init__(self, *, exact: bool = True) -> None:
        self._exact = exact
        self.over = False
        self.begun = False
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them."""
        return self._read(self.split(data))

    def close(self) -> Iterator[Event]:
        """Take the end of the body; the last event is `End`.

        Raises:
            StreamError: The body ended before the answer was complete.
        """
        yield from self._read(self.rest())
        if not self.complete:
            raise StreamError(
                f"The provider's stream ended before the answer was complete: {self.missing}. "
                "What came so far may be cut off in the middle."
                if self.begun
                else "The provider's stream ended without a single piece of an answer."
            )
        yield End(usage=self.usage)

    @property
    def complete(self) -> bool:
        """Whether the answer is complete: with the last frame, unless that of a format brings nothing more."""
        return self.over

    def split(self, data: bytes) -> Iterable[tuple[str, bytes]]:
        """Give the frames that are complete with *data*: each after its name, `""` in formats without names."""
        raise NotImplementedError

    def rest(self) -> Iterable[tuple[str, bytes]]:
        """Give the frames that the end of the body completes."""
        raise NotImplementedError

    def quick(self, frame: dict[str, Any]) -> Event | None:
        """Read a frame that goes on with a text and does nothing else, as nearly all do; `None` for any other."""
        return None

    def events(self, frame: dict[str, Any], name: str) -> list[Event] | None:
        """Read any other frame; no events: it says nothing that is known; `None`: it is not to be written again."""
        raise NotImplementedError

    def _read(self, received: Iterable[tuple[str, bytes]]) -> Iterator[Event]:
        for given in received:
            data = given[1]
            try:
                frame = json.decode(data)
            except json.MALFORMED:
                if data[:6] == b"[DONE]":
                    continue
                frame = None
            if not json.is_object(frame):
                unit = self.unit
                raise StreamError(f"The provider's stream has a {unit} that is not a JSON object: {excerpt(data)}")
            event = self.quick(frame)
            if event is None:
                yield from self._frame(frame, given)
            elif self._exact:
                yield replace(event, wire=Wire(self.format, None, False, given, (event,)))
            else:
                yield event

    def _frame(self, frame: dict[str, Any], given: tuple[str, bytes]) -> list[Event]:
        try:
            made = self.events(frame, given[0])
        except BadRequestError as error:
            raise StreamError(f"The provider's stream has a {self.unit} of the wrong shape: {error}") from None
        except RecursionError:
            raise StreamError(f"The provider's stream has a {self.unit} that is nested too deeply.") from None
        if made is None or not self._exact:
            return made or []
        if not made:
            made = [UnknownEvent(self.format, frame, given[0] or json.text(frame.get("type")))]
        return as_one_frame(made, self.format, given)


class StreamWriter:
    """Turns events into the bytes of a streamed answer. Used once.

    A format's own writer gives in `write` the frames for one event, in the canonical way; in `passed` it takes note of
    the events of a frame that goes out as it came, and gives what has to go out before; `framed` makes bytes of it.
    """

    format: str
    """The name of the format."""

    def __init__(self) -> None:
        self._held: list[Event] = []
        """The events so far of a frame that is not complete."""

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*: none while the rest of its frame is still to come."""
        wire = event.wire
        if wire is None or wire.format != self.format:
            return chain(self._changed(), self.write(event)) if self._held else self.write(event)
        if not self._held and not wire.more:
            return self._frame([event])
        if self._held and not wire.events:
            self._held.append(event)
            return iter(()) if wire.more else self._frame(self._held)
        before = [*self._changed()] if self._held else ()  # the rest of that frame was taken away
        self._held.append(event)
        return chain(before, () if wire.more else self._frame(self._held))

    def _frame(self, events: list[Event]) -> Iterator[bytes]:
        """Write the *events* of a frame that is complete."""
        self._held = []
        frame = frame_as_it_came(events)
        if frame is None:
            return self._each(events)
        before = self.passed(events)
        written = self.framed(*frame)
        return chain(before, (written,)) if before else iter((written,))

    def _changed(self) -> Iterator[bytes]:
        """Write the events that are held, of a frame that will not be complete."""
        held, self._held = self._held, []
        return self._each(held)

    def _each(self, events: list[Event]) -> Iterator[bytes]:
        for event in events:
            yield from self.write(event)

    def write(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event* in the canonical way; none, or those for several, where they belong together."""
        raise NotImplementedError

    def passed(self, events: Sequence[Event]) -> Sequence[bytes]:
        """Take note of *events*, whose frame goes out as it came, and give what has to go out before it."""
        raise NotImplementedError

    def framed(self, name: str, data: bytes) -> bytes:
        """Return the bytes of a frame that was read as *name* and *data*."""
        raise NotImplementedError
