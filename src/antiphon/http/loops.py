"""What belongs to one event loop each, such as connections: made when it is first used there."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what it keeps belongs to a loop of asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Generic, TypeVar

from antiphon.errors import APIConnectionError

__all__ = ["AtTheEnd", "PerLoop"]

T = TypeVar("T")

_forks = 0
"""How many forks lie between this process and the one that imported this: connections belong to one process."""

_making = threading.Lock()
"""Held while a loop gets its own; a new one in a forked child, where nothing would release the old one."""


def _forked() -> None:
    global _forks, _making
    _forks += 1
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class PerLoop(Generic[T]):
    """Something for each event loop, made by *make*; loops of several threads may ask at once."""

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}
        self._forks = _forks
        self._closed = False

    def here(self) -> T:
        """Return what belongs to the running loop.

        Raises:
            APIConnectionError: `close` was called before, or no loop of asyncio runs.
        """
        if self._closed:
            raise APIConnectionError(
                "This client was closed and sends nothing more. Make a new one, or close this one later.",
                retryable=False,
            )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None:
            raise APIConnectionError(
                "Calls over HTTP run on asyncio, and no loop of it runs here. Under trio, use the blocking client in a "
                "worker thread.",
                retryable=False,
            )
        found = self._made.get(loop) if self._forks == _forks else None
        return self._new(loop) if found is None else found

    def _new(self, loop: asyncio.AbstractEventLoop) -> T:
        with _making:
            if self._forks != _forks:
                # The parent goes on using its connections; two processes must never write to one.
                self._forks, self._made = _forks, {}
            for other in [other for other in self._made if other.is_closed()]:
                del self._made[other]
            made = self._made[loop] = self._make(loop)
        return made

    def close(self) -> dict[asyncio.AbstractEventLoop, T]:
        """Refuse from now on, and return what there was, by its loop."""
        self._closed = True
        with _making:
            made, self._made = self._made, {}
        return made


class AtTheEnd:
    """Has *close* run when the loop ends.

    A loop does not say that it ends, except to async generators that were not finished: `asyncio.run` and its like
    close those while the loop still runs.
    """

    def __init__(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._close = close
        self._generator: AsyncGenerator[None, None] | None = None

    async def begin(self) -> None:
        """Begin to wait for the end, in the running loop."""
        if self._generator is None:
            self._generator = self._wait()
            await anext(self._generator)

    async def _wait(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close()

    async def aclose(self) -> None:
        """Run it now, if `begin` was called."""
        if self._generator is not None:
            await self._generator.aclose()
