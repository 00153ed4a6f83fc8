"""The settings in force and what is made of them; replaced whole when they change."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio

from antiphon.calls.core import ClientCore
from antiphon.calls.preparation import PreparedCall
from antiphon.chat.embeddings import EmbeddingRequest, Embeddings
from antiphon.chat.requests import ChatRequest
from antiphon.errors import BadRequestError
from antiphon.http.transport import Transport
from antiphon.providers.base import Handler
from antiphon.providers.model_lists import Model
from antiphon.server.error_replies import no_room, overloaded
from antiphon.server.exchange import Exchange
from antiphon.server.model_lists import ModelLists
from antiphon.settings.config import Config, Limits
from antiphon.sync.blocking import run_in_thread

__all__ = ["Gateway"]

_MAX_FOUND = 1000
_MAX_NAME = 1000
"""Characters of a model's name: it is kept, logged and sent on, and near ones are looked for if there is none."""
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
        self.core = ClientCore(
            transport=transport,
            timeout=config.timeouts.clocks(),
            strict=config.server.strict,
            names=config.names,
            served=True,
        )
        self.bodies = Waiting(config.limits.waiting_bytes)
        self._slots = anyio.Semaphore(config.limits.concurrent, fast_acquire=True)
        self._found: dict[tuple[str, str | None], tuple[tuple[Handler, str], str | None]] = {}
        """Who answers for a model, and the alias that its name fits, as it was when it was first asked for: it may
        change with the settings alone. What is not found is not kept."""
        self.lists = ModelLists(self.core, config.timeouts.clocks(), lists)

    def slot(self, exchange: Exchange) -> AbstractAsyncContextManager[None]:
        """Read the body of a request, wait for one of the places that there are for requests, and hold it.

        A place is for what is done: a client that sends slowly takes none from the others.

        Raises:
            APIStatusError: The body is not one that the server takes.
            InternalServerError: No place became free in time, or there is no room for the body.
        """
        return _Turn(self._slots, self.bodies, self.config.limits, exchange)

    async def route(self, request: ChatRequest, exchange: Exchange, format: str) -> PreparedCall:
        """Find who answers *request*, which came in *format*."""
        found = await self._look_up(exchange, request.model, exact_for=format if request.stream else None)
        headers = {name: value for name in _FORWARDED.get(format, ()) if (value := exchange.header(name.encode()))}
        prepared = self.core.route(request, format=format, headers=headers, found=found)
        exchange.shows_refusal = not self.config.keys and prepared.format == format
        return prepared

    async def embed(self, request: EmbeddingRequest, exchange: Exchange, format: str) -> Embeddings:
        """Return the vectors of the texts of *request*, which came in *format*."""
        found = await self._look_up(exchange, request.model)
        exchange.shows_refusal = not self.config.keys and getattr(found[0], "embedding_format", None) == format
        return await self.core.embed_request(request, *found)

    async def _look_up(self, exchange: Exchange, model: str, *, exact_for: str | None = None) -> tuple[Handler, str]:
        """Find a model, for the first time in a thread: modules are imported, what is installed is looked through.

        Raises:
            BadRequestError: Its name is too long to be one.
            AntiphonError: There is none of that name, or no key for it.
        """
        key = (model, exact_for)
        known = self._found.get(key)
        if known is None:
            if len(model) > _MAX_NAME:
                raise BadRequestError(
                    f"The model's name has {len(model):,} characters, and this server takes {_MAX_NAME:,} at most.",
                    status=400,
                    param="$.model",
                    type="invalid_request_error",
                )
            found = await run_in_thread(partial(self.core.find, model, exact_for=exact_for))
            if len(self._found) >= _MAX_FOUND:
                self._found.clear()
            known = self._found[key] = found, self.config.names.alias_of(model)
        (handler, exchange.upstream_model), exchange.alias = known
        exchange.provider = handler.name
        return known[0]

    async def models(self, exchange: Exchange) -> Sequence[Model]:
        """List what can be asked for, aliases first, as providers said last; see `ModelLists`.

        Only a request that waits for providers takes one of the places, and it does not wait for a place if there is
        anything to answer with.

        Raises:
            InternalServerError: There is nothing yet, and no place to wait for it.
        """
        if self.lists.refresh() and (self._slots.value or not self.lists.known):
            async with self.slot(exchange):
                await self.lists.wait()
        aliases = [Model(name, "antiphon") for name in self.config.names.aliases if "*" not in name]
        return (*aliases, *self.lists.models())


class Waiting:
    """Bounds the memory of bodies whose requests have no place yet: because they are not here whole, or none is free.

    Where it is used up, the body that has been coming for the longest makes room: clients that send slowly cannot keep
    out those who do not.

    Args:
        most: Bytes of all of them. What is small does not count.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[Exchange, int] = {}
        """Bytes by request, the first to come first."""
        self.size = 0
        """Bytes of all."""

    def hold(self, exchange: Exchange, size: int) -> None:
        """Take note that the body of *exchange* has *size* bytes now.

        Raises:
            InternalServerError: There is no room for it.
        """
        self.size += size - self._sizes.get(exchange, 0)
        self._sizes[exchange] = size
        while self.size > self._most:
            slowest = next((other for other in self._sizes if other.reading), exchange)
            self.release(slowest)
            if slowest is exchange:
                raise no_room(self._most)
            slowest.cancel("late")

    def release(self, exchange: Exchange) -> None:
        """Forget the body of *exchange*: it has a place, or is over."""
        if self._sizes:
            self.size -= self._sizes.pop(exchange, 0)


class _Turn:
    """A place among the requests that are answered at once. A class: a generator would take thrice the time."""

    __slots__ = ("_bodies", "_exchange", "_limits", "_slots")

    def __init__(self, room: anyio.Semaphore, bodies: Waiting, limits: Limits, exchange: Exchange) -> None:
        self._slots = room
        self._bodies = bodies
        self._limits = limits
        self._exchange = exchange

    async def __aenter__(self) -> None:
        exchange = self._exchange
        await exchange.read(self._limits, self._bodies)
        try:
            self._slots.acquire_nowait()
            self._bodies.release(exchange)
            return
        except anyio.WouldBlock:
            pass  # there is none, so it is waited for
        before = exchange.seconds
        with anyio.move_on_after(self._limits.queue_seconds) as clock:
            await self._slots.acquire()
        exchange.queued = exchange.seconds - before
        if clock.cancelled_caught:
            raise overloaded(self._limits.concurrent)
        self._bodies.release(exchange)

    async def __aexit__(self, *_error: object) -> None:
        self._slots.release()
