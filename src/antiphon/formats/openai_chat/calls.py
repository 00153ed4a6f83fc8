"""Which tool call of a streamed OpenAI Chat Completions answer a fragment belongs to. No I/O.

By the book the fragments of a call share an `index`, and the first of them has an `id` and a name. Servers are known to

* leave `index` out (Gemini: openai-python #2806),
* give every call the index 0 (Ollama: smolagents #1958),
* send fragments under an index of their own without an id (Nebius, Cerebras: dirac #215),
* repeat the id, the name or both on every fragment.

(Issue threads read 2026-11.)
"""

from __future__ import annotations

from antiphon.errors import StreamError
from antiphon.formats import json

__all__ = ["Call", "Calls"]


class Call:
    """A tool call under way."""

    __slots__ = ("id", "kind", "name", "number", "pieces")

    def __init__(self, number: int) -> None:
        self.number = number
        self.id: str | None = None
        self.name: str | None = None
        self.kind: str | None = None
        self.pieces: list[str] = []
        """Of the arguments."""

    def is_complete(self) -> bool:
        """Whether the arguments so far are a JSON object."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):  # cheap, and nearly always enough
            return False
        try:
            return json.is_object(json.decode("".join(self.pieces)))
        except json.MALFORMED:
            return False


class Calls:
    """The tool calls of one choice, in order."""

    __slots__ = ("_by_index", "all")

    def __init__(self) -> None:
        self.all: list[Call] = []
        self._by_index: dict[int, Call] = {}

    def find(self, index: int | None, id: str | None, name: str | None) -> Call:
        """Return the call that a fragment belongs to: a new one, without id and name, where it begins one.

        Raises:
            StreamError: The fragment says nothing that ties it to one of several open calls.
        """
        call = self._by_index.get(index) if index is not None else None
        if call is not None:
            call = self._at_its_index(call, id, name)
        elif id is not None:
            call = next((call for call in self.all if call.id == id), None)
            if call is not None and index is not None and name is not None and call.is_complete():
                call = None  # servers whose ids are the tools' names repeat them for two calls of one tool
        elif name is not None:
            call = self._continued(name) if index is None else None
        elif self.all:
            call = self._only_open() if index is None else self.all[-1]
        if call is None:
            call = Call(len(self.all))
            self.all.append(call)
            if index is not None:
                self._by_index[index] = call
        return call

    def _at_its_index(self, call: Call, id: str | None, name: str | None) -> Call | None:
        """Return *call*, which has the fragment's index, or the one that shares the index with it, if any."""
        if id is not None and call.id is not None:
            return call if id == call.id else next((other for other in self.all if other.id == id), None)
        if name is None or call.name is None:
            return call
        return None if name != call.name or call.is_complete() else call

    def _continued(self, name: str) -> Call | None:
        """Return the newest call if a fragment with nothing but *name* goes on with it."""
        newest = self.all[-1] if self.all else None
        return newest if newest is not None and newest.name == name and not newest.is_complete() else None

    def _only_open(self) -> Call:
        """Return the one call that a fragment without index, id and name can belong to."""
        candidates = [call for call in self.all if not call.is_complete()] or self.all
        if len(candidates) > 1:
            raise StreamError(
                "The provider sent a piece of a tool call that names neither its index nor its id while several calls "
                "are open, so it cannot be told which one it belongs to."
            )
        return candidates[0]
