"""The lists of models that providers gave last, asked for again in the background.

Rules:

* Lists are asked for at most once a minute, by one task, which goes on when the client whose request began it leaves.
  Nothing is locked while it waits for the network.
* A request waits for the task for a moment at most, and is then answered with what there is: of a provider that has not
  answered, the last list that it gave.
* What a provider gave is kept when the settings change, as long as the provider and its key are the same.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the task belongs to no request, so no task group of one can hold it
import logging
import time
from collections.abc import Hashable, Sequence

import anyio

from antiphon.calls.core import ClientCore
from antiphon.errors import AntiphonError
from antiphon.http.transport import Timeout
from antiphon.providers.model_lists import LIST_SECONDS, Model, Source, in_order
from antiphon.server.fields import one_line
from antiphon.sync.blocking import run_in_thread

__all__ = ["ModelLists"]

logger = logging.getLogger("antiphon.server")

_EVERY = 60.0
"""Seconds from one time that a provider is asked to the next."""
_WAIT = 0.8
"""Seconds from the beginning of the task for which requests wait for it."""


class _Kept:
    """What a provider gave."""

    __slots__ = ("asked", "models")

    def __init__(self) -> None:
        self.asked = float("-inf")
        """When it was asked last, by `time.monotonic`."""
        self.models: Sequence[Model] = ()


class ModelLists:
    """The lists of models of the providers that one set of settings names.

    Args:
        core: What asks them.
        timeout: How long connecting and answering may take; a provider has 10 seconds for all of it.
        earlier: The lists of the settings before.
    """

    def __init__(self, core: ClientCore, timeout: Timeout, earlier: ModelLists | None = None) -> None:
        self._core = core
        self._timeout = timeout
        self._kept: dict[Hashable, _Kept] = {} if earlier is None else earlier._kept
        self._sources: Sequence[Source] | None = None
        self._began = float("-inf")
        self._over: anyio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def known(self) -> bool:
        """Whether there is anything to answer with before the task is over."""
        return self._sources is not None

    def refresh(self) -> bool:
        """Begin to ask where that is due, and return whether the answers are worth waiting for."""
        now = time.monotonic()
        if self._task is None and now - self._began >= _EVERY:
            self._began, self._over = now, anyio.Event()
            self._task = asyncio.get_running_loop().create_task(self._ask_all(self._over))
        return self._task is not None and now - self._began < _WAIT

    async def wait(self) -> None:
        """Wait until the task is over, or its time for those who wait."""
        if self._over is not None:
            with anyio.move_on_after(self._began + _WAIT - time.monotonic()):
                await self._over.wait()

    def models(self) -> list[Model]:
        """Return the models that providers gave last."""
        kept = ((source.id, self._kept.get(source.identity)) for source in self._sources or ())
        return in_order({id: known.models for id, known in kept if known is not None})

    async def _ask_all(self, over: anyio.Event) -> None:
        try:
            asked = self._sources = await run_in_thread(self._core.sources)
            current = {source.identity for source in asked}
            for gone in self._kept.keys() - current:
                del self._kept[gone]
            async with anyio.create_task_group() as group:
                for source in asked:
                    group.start_soon(self._ask, source)
        except Exception:  # no request waits for what this raises, so that the log alone can have it
            logger.exception("The providers could not be asked for their models.")
        finally:
            self._task = None
            over.set()

    async def _ask(self, source: Source) -> None:
        kept, now = self._kept.setdefault(source.identity, _Kept()), time.monotonic()
        if now - kept.asked < _EVERY:
            return
        kept.asked = now
        try:
            kept.models = await source.models(self._timeout, seconds=LIST_SECONDS)
        except AntiphonError as error:
            logger.warning("No list of models from %s: %s", source.name, one_line(error.message))
