"""Thoughts that come inside the text, between `<think>` and `</think>`, told as reasoning. No I/O.

Servers without a parser for their model's reasoning send it so (vLLM, llama-server and others, facts of 2026-11). The
rules, the same for whole answers and for streams, wherever the pieces are cut:

- Thoughts stand at the beginning of a text, after white space at most; a tag that is further in is text like any other,
  for people also talk about tags. Several blocks of thoughts may follow each other.
- The tags are dropped, and so is the white space around thoughts and before the text that follows them.
- Where the beginning of an answer was cut off by the prompt, which itself ended with `<think>`, only the caller knows
  (`"open"`): a stream cannot take back what it has told as text.
- Thoughts that nothing ends, because the answer was cut off, are thoughts all the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal, TypeAlias

import msgspec

from antiphon.chat.events import End, Event, ReasoningDelta, TextDelta

__all__ = ["ThinkTagParser", "ThinkTags", "parse_think_tags"]

ThinkTags: TypeAlias = bool | Literal["open"]
"""Whether to look for thoughts in the text; `"open"`: the answer begins inside of them, without a `<think>`."""

_OPEN = "<think>"
_CLOSE = "</think>"


class _Text:
    """The text of one choice as it comes."""

    __slots__ = ("_begun", "_held", "_space", "_state")

    def __init__(self, *, inside: bool) -> None:
        self._state: Literal["before", "inside", "after", "text"] = "inside" if inside else "before"
        self._space: list[str] = []
        """White space that is held back until it is known whether something follows it; each piece is read once."""
        self._held = ""
        """What may be the beginning of a tag, after that."""
        self._begun = False
        """Whether the thoughts under way have said anything yet."""

    def take(self, text: str) -> list[tuple[bool, str]]:
        """Take a piece, and give what is certain: pairs of whether it is a thought, and the text."""
        found: list[tuple[bool, str]] = []
        text, self._held = self._held + text, ""
        while text:
            if self._state == "text":
                found.append((False, text))
                break
            text = self._inside(text, found) if self._state == "inside" else self._outside(text, found)
        return found

    def end(self) -> list[tuple[bool, str]]:
        """Give what was held back in case it were a tag."""
        held, self._held = self._held, ""
        if held or self._state == "before":  # white space at the end of thoughts is none of them
            held = self._spaced(held) if self._state != "after" else held
        self._space.clear()
        return [(self._state == "inside", held)] if held else []

    def _spaced(self, text: str) -> str:
        """Return *text* after the white space that was held back."""
        if not self._space:
            return text
        self._space.append(text)
        text = "".join(self._space)
        self._space.clear()
        return text

    def _outside(self, text: str, found: list[tuple[bool, str]]) -> str:
        rest = text.lstrip()
        if rest.startswith(_OPEN):
            self._state, self._begun = "inside", False
            self._space.clear()
            return rest[len(_OPEN) :]
        if _OPEN.startswith(rest):  # nothing but white space is the beginning of a tag, too
            self._space.append(text[: len(text) - len(rest)])
            self._held = rest
            return ""
        found.append((False, self._spaced(text) if self._state == "before" else rest))
        self._space.clear()
        self._state = "text"
        return ""

    def _inside(self, text: str, found: list[tuple[bool, str]]) -> str:
        if not self._begun:
            text = text.lstrip()
        thought, tag, rest = text.partition(_CLOSE)
        if tag:
            self._state = "after"
        elif overlap := _overlap(thought):
            thought, self._held = thought[:-overlap], thought[-overlap:]
        said = thought.rstrip()
        if said:
            self._begun = True
            found.append((True, self._spaced(said)))
        if tag:
            self._space.clear()
        elif self._begun:
            self._space.append(thought[len(said) :])
        return rest


def _overlap(text: str) -> int:
    """Return how many of the last characters of *text* may be the beginning of `</think>`."""
    return next((size for size in range(min(len(text), len(_CLOSE) - 1), 0, -1) if _CLOSE.startswith(text[-size:])), 0)


class ThinkTagParser:
    """Turns the events of one answer into those that tell its thoughts as such; used once."""

    def __init__(self, tags: ThinkTags = True) -> None:
        self._inside = tags == "open"
        self._choices: dict[int, _Text] = {}

    def feed(self, event: Event) -> list[Event]:
        """Give the events that *event* makes."""
        if type(event) is TextDelta:
            if event.choice not in self._choices:
                self._choices[event.choice] = _Text(inside=self._inside)
            return self._split(event, self._choices[event.choice].take(event.text))
        made: list[Event] = []
        over = list(self._choices) if type(event) is End else [getattr(event, "choice", -1)]
        for choice in over:
            if (text := self._choices.get(choice)) is not None:
                made += self._split(TextDelta("", choice), text.end())
        return [*made, event]

    @staticmethod
    def _split(event: TextDelta, found: list[tuple[bool, str]]) -> list[Event]:
        if found == [(False, event.text)]:
            return [event]
        made: list[Event] = []
        for thought, text in found:
            if thought:
                made.append(ReasoningDelta(text, event.choice))
            else:
                made.append(msgspec.structs.replace(event, text=text, wire=None))
        if not any(type(one) is TextDelta for one in made) and (event.annotations or event.logprobs or event.extra):
            made.append(msgspec.structs.replace(event, text="", wire=None))
        return made


async def parse_think_tags(events: AsyncGenerator[Event, None], tags: ThinkTags) -> AsyncGenerator[Event, None]:
    """Give *events* with the thoughts in their text told as reasoning."""
    splitter = ThinkTagParser(tags)
    async with aclosing(events):
        async for event in events:
            for made in splitter.feed(event):
                yield made
