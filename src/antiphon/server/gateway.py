"""Floor 6: the settings in force and what is made of them; replaced whole when they change."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio

from antiphon.config import Config, Limits
from antiphon.core import Core, Model, Prepared
from antiphon.embedding import EmbeddingRequest, Embeddings
from antiphon.handler import Handler
from antiphon.server.exchange import Exchange
from antiphon.server.faults import overloaded
from antiphon.server.model_lists import ModelLists
from antiphon.threads import in_thread
from antiphon.transport import Transport
from antiphon.types import ChatRequest

__all__ = ["Gateway"]

_MAX_FOUND = 1000
_FORWARDED: dict[str, tuple[str, ...]] = {"anthropic": ("anthropic-beta", "anthropic-version")}
"""Header fields of a client that change what a body means, by format; they go to a provider of that format alone."""


class Gateway:
    """What requests are answered with.

    Args:
        config: The settings.
        transport: What carries requests to providers; it outlives the settings.
        lists: The lists of models that providers gave under the settings before.
    """

    def __init__(self, config: Config, transport: Transport, *, lists: ModelLists | None = None) -> None:
        self.config = config
        self.core = Core(
            transport=transport,
            timeout=config.timeouts.clocks(),
            strict=config.server.strict,
            names=config.names,
            served=True,
        )
        self._room = anyio.Semaphore(config.limits.concurrent, fast_acquire=True)
        self._found: dict[tuple[str, str | None], tuple[Handler, str]] = {}
        """Who answers for a model, as it was when it was first asked for: it may change with the settings alone."""
        self.lists = ModelLists(self.core, config.timeouts.clocks(), lists)

    def turn(self, exchange: Exchange) -> AbstractAsyncContextManager[None]:
        """Wait for one of the places that there are for requests, and hold it.

        Raises:
            InternalServerError: None became free in time.
        """
        return _Turn(self._room, self.config.limits, exchange)

    async def route(self, request: ChatRequest, exchange: Exchange, format: str) -> Prepared:
        """Find who answers *request*, which came in *format*."""
        found = await self._look_up(request.model, exact_for=format if request.stream else None)
        headers = {name: value for name in _FORWARDED.get(format, ()) if (value := exchange.header(name.encode()))}
        prepared = self.core.route(request, format=format, headers=headers, found=found)
        exchange.provider = prepared.handler.name
        exchange.shows_refusal = not self.config.keys and prepared.format == format
        return prepared

    async def embed(self, request: EmbeddingRequest, exchange: Exchange, format: str) -> Embeddings:
        """Return the vectors of the texts of *request*, which came in *format*."""
        found = await self._look_up(request.model)
        exchange.provider = found[0].name
        exchange.shows_refusal = not self.config.keys and getattr(found[0], "embedding_format", None) == format
        return await self.core.embed_request(request, *found)

    async def _look_up(self, model: str, *, exact_for: str | None = None) -> tuple[Handler, str]:
        """Find a model, for the first time in a thread: modules are imported, what is installed is looked through.

        Raises:
            AntiphonError: There is none of that name, or no key for it.
        """
        key = (model, exact_for)
        found = self._found.get(key)
        if found is None:
            found = await in_thread(partial(self.core.find, model, exact_for=exact_for))
            if len(self._found) >= _MAX_FOUND:
                self._found.clear()
            self._found[key] = found
        return found

    async def models(self, exchange: Exchange) -> Sequence[Model]:
        """List what can be asked for, aliases first, as providers said last; see `ModelLists`.

        Only a request that waits for providers takes one of the places, and it does not wait for a place if there is
        anything to answer with.

        Raises:
            InternalServerError: There is nothing yet, and no place to wait for it.
        """
        if self.lists.refresh() and (self._room.value or not self.lists.known):
            async with self.turn(exchange):
                await self.lists.wait()
        aliases = [Model(name, "antiphon") for name in self.config.names.aliases if "*" not in name]
        return (*aliases, *self.lists.models())


class _Turn:
    """A place among the requests that are answered at once. A class: a generator would take thrice the time."""

    __slots__ = ("_exchange", "_limits", "_room")

    def __init__(self, room: anyio.Semaphore, limits: Limits, exchange: Exchange) -> None:
        self._room = room
        self._limits = limits
        self._exchange = exchange

    async def __aenter__(self) -> None:
        try:
            self._room.acquire_nowait()
            return
        except anyio.WouldBlock:
            pass  # there is none, so it is waited for
        exchange = self._exchange
        before = exchange.seconds
        with anyio.move_on_after(self._limits.queue_seconds) as clock:
            await self._room.acquire()
        exchange.queued = exchange.seconds - before
        if clock.cancelled_caught:
            raise overloaded(self._limits.concurrent)

    async def __aexit__(self, *_error: object) -> None:
        self._room.release()
