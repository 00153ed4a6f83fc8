"""One call, ready to run: its events, checked to be complete, as a whole answer, chunks or text."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from antiphon.calls.observer import CallObserver
from antiphon.chat.answers import Completion, CompletionChunk
from antiphon.chat.chunks import Chunker
from antiphon.chat.events import Event, Folder, TextDelta
from antiphon.chat.requests import ChatRequest
from antiphon.chat.think_tags import ThinkTags, parse_think_tags
from antiphon.errors import StreamError
from antiphon.providers.base import Call, Handler
from antiphon.providers.http import HTTPProvider

__all__ = ["PreparedCall"]


class PreparedCall:
    """One call, ready to run, once."""

    def __init__(
        self, handler: Handler, request: ChatRequest, call: Call, *, separate_usage: bool, think_tags: ThinkTags = False
    ) -> None:
        self.handler = handler
        self.request = request
        self.call = call
        self.separate_usage = separate_usage
        self.think_tags: ThinkTags = think_tags
        self.watch = CallObserver(handler.name, request.model)

    @property
    def format(self) -> str | None:
        """Name of the wire format that the provider speaks, `None` where it is not reached over HTTP."""
        return self.handler.codec.name if isinstance(self.handler, HTTPProvider) else None

    async def events(self) -> AsyncGenerator[Event, None]:
        """Run it and give the events of the answer, the last of which is `End`."""
        with self._watched() as watch:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if watch.silent or type(event) is not TextDelta:  # more text tells it nothing
                        watch.observe(event)
                    yield event
            watch.check_complete()

    async def complete(self) -> Completion:
        """Run it and return the whole answer.

        Raises:
            StreamError: With what was received so far in `received`.
        """
        folder = Folder()
        try:
            with self._watched() as watch:
                async with aclosing(self._events()) as events:
                    async for event in events:
                        watch.observe(event)
                        folder.add(event)
                watch.check_complete()
        except StreamError as error:
            error.received = self.folded(folder)
            raise
        return self.folded(folder)

    def folded(self, folder: Folder) -> Completion:
        """Return what *folder* made of the events so far, with the receipt of the call."""
        completion, call = folder.completion(), self.call
        if not call.losses and not call.response_headers:
            return completion
        return msgspec.structs.replace(completion, losses=tuple(call.losses), headers=call.response_headers)

    async def chunks(self) -> AsyncGenerator[CompletionChunk, None]:
        """Run it and give the answer in pieces."""
        chunker = Chunker(separate_usage=self.separate_usage, losses=self.call.losses)
        with self._watched() as watch:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if watch.silent or type(event) is not TextDelta:  # more text tells it nothing
                        watch.observe(event)
                    for chunk in chunker.feed(event):
                        yield chunk
            watch.check_complete()

    async def steps(self) -> AsyncGenerator[tuple[Event, list[CompletionChunk]], None]:
        """Run it and give each event with the chunks it makes, for who puts the answer together on the way."""
        chunker = Chunker(separate_usage=self.separate_usage, losses=self.call.losses)
        with self._watched() as watch:
            async with aclosing(self._events()) as events:
                async for event in events:
                    watch.observe(event)
                    yield event, chunker.feed(event)
            watch.check_complete()

    async def text(self) -> AsyncGenerator[str, None]:
        """Run it and give the text of the first choice in pieces."""
        with self._watched() as watch:
            async with aclosing(self._events()) as events:
                async for event in events:
                    watch.observe(event)
                    if type(event) is TextDelta and event.choice == 0 and event.text:
                        yield event.text
            watch.check_complete()

    def _watched(self) -> CallObserver:
        """Return who sees the events of one run; a round of a loop is one of several."""
        self.watch = CallObserver(self.handler.name, self.request.model)
        return self.watch

    def _events(self) -> AsyncGenerator[Event, None]:
        events = self.handler(self.request, self.call)
        return parse_think_tags(events, self.think_tags) if self.think_tags else events
