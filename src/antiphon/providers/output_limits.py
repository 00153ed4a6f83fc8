"""`stop` and `max_tokens` for providers that do not know them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

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
)
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.providers.stop_strings import Stops

__all__ = ["OutputLimits"]

_Heard: TypeAlias = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | AudioDelta | PartAdded | Finish

_UNHEARD = (Start, MessageDelta, UsageUpdate, UnknownEvent)
"""Events that are no part of what is said."""


class OutputLimits:
    """Enforces `stop` and `max_tokens` on text; `None` and `0` mean no limit.

    Text ends before the stop string that is complete first (the longest, if several end there). Text that may be the
    beginning of one is held back until it is known not to be, so that a stop string that spans two pieces never shows.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._stops = Stops(request.stop or ())
        self._left = request.max_tokens or 0
        self._counting = self._left > 0
        self._held: str = ""
        self._shown = False
        self._finished = False
        self._ended = False
        self._reason: Literal["stop", "length"] = "stop"
        self._usage: Usage | None = None
        self.full = False
        """Whether nothing more is wanted of the provider."""
        self.silent = True
        """Whether it has said nothing yet."""

    def take(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass *events*, those of one piece, on as far as the limits let them."""
        for event in events:
            if isinstance(event, _UNHEARD):
                yield event
            elif isinstance(event, End):
                yield from self._end(event)
                return
            elif not self.full:
                self.silent = False
                yield from self._heard(event)

    def _heard(self, event: _Heard) -> Iterator[Event]:
        if event.choice == 0:
            if isinstance(event, TextDelta) and (self._stops or self._counting):
                yield from self._text(event)
                return
            yield from self._rest()
            self._shown = True
        self._finished = self._finished or isinstance(event, Finish)
        yield event

    def _text(self, event: TextDelta) -> Iterator[Event]:
        text = self._held + event.text
        place = self._stops.find(text)
        if place is not None:
            self._held, text = "", text[:place]
            self.full = True
        else:
            start = self._stops.begun(text)
            text, self._held = text[:start], text[start:]
        if text or event.annotations or event.logprobs is not None:
            self._shown = True
            yield TextDelta(text, event.choice, event.part, event.annotations, event.logprobs)
        self._left -= 1
        if self._counting and self._left <= 0 and not self.full:
            self.full, self._reason = True, "length"
            yield from self._rest()

    def _rest(self) -> Iterator[Event]:
        held, self._held = self._held, ""
        if held:
            self._shown = True
            yield TextDelta(held)

    def _end(self, event: End) -> Iterator[Event]:
        if self.full:  # by a limit: the provider's own reason no longer holds, the usage told with the piece does
            self._usage = event.usage
            return
        self.full = self._ended = True
        if self.silent:
            return
        yield from self._rest()
        reason = event.finish_reason or (None if self._finished else "stop")
        yield msgspec.structs.replace(event, finish_reason=reason)

    def end(self) -> Iterator[Event]:
        """Give what is still to come once the provider is done."""
        if self._ended:
            return
        yield from self._rest()
        if not self._shown:
            yield TextDelta("")  # all of it was cut off, which is an answer too
        yield End(None if self._finished else self._reason, self._usage)
