"""Blocking code beside an event loop, in daemon threads.

Rules:

* A call has a thread of its own, and an iterator one for all its steps and its end, so that what belongs to a thread (a
  database connection, a context variable) lasts as long as the iterator.
* At most 64 of them do something at once in one event loop; those between two steps do not count.
* What is cancelled is left alone: nothing can stop it in its thread. An iterator is then closed by its thread, as soon
  as the step under way is over. Daemon threads do not keep the interpreter from ending.

Not anyio's worker threads: a step there costs six times as much (measured on 2 cores, 2026-11-22), may come to another
thread each time, and in a loop that nest_asyncio runs they are never told to end, so that the process does not either.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.lowlevel

__all__ = ["EXHAUSTED", "LARGE", "ThreadIterator", "computed", "run_in_thread"]

T = TypeVar("T")

EXHAUSTED: Any = object()
"""What `ThreadIterator.step` returns after the last item."""

LARGE = 64 * 1024
"""Bytes of JSON from which on it is read and written in a thread, which itself takes a tenth of a millisecond or more.

As `wire.read.weight` counts them, a thousand values or a text of 1 MB: some fifteen milliseconds of work at most.
"""

_MAX_THREADS = 64
_MAX_COMPUTING = 2
_COMPUTING = -1
_depth: ContextVar[int] = ContextVar("antiphon_thread_depth", default=0)
_limiters: anyio.lowlevel.RunVar[dict[int, anyio.CapacityLimiter]] = anyio.lowlevel.RunVar("antiphon_limiters")


async def run_in_thread(function: Callable[[], T]) -> T:
    """Return what *function* returns, called in a thread of its own with a copy of the context."""
    work = _Work(function)
    depth = _depth.get()
    async with _limiter(depth):
        _start(work.run, _inner_context(depth))
        return await work.result()


async def computed(function: Callable[[], T], size: int) -> T:
    """Return what *function* returns, which waits for nothing: called in a thread if *size* is `LARGE` or more.

    Only two such calls go on at once in one event loop: threads that compute take the interpreter from the loop, too,
    and the loop waits the longer for its turn the more of them there are.
    """
    if size < LARGE:
        return function()
    work = _Work(function)
    async with _limiter(_COMPUTING, _MAX_COMPUTING):
        _start(work.run, _inner_context(_depth.get()))
        return await work.result()


class ThreadIterator(Generic[T]):
    """A blocking iterator, advanced and closed in a thread of its own; one step at a time."""

    def __init__(self, iterator: Iterator[T]) -> None:
        self._iterator = iterator
        self._inbox: SimpleQueue[_Work[Any] | None] = SimpleQueue()
        self._depth = _depth.get()
        self._begun = False
        self._closed = False
        self._running = False
        """Whether the thread is at work, though perhaps nobody waits for it any more."""

    async def step(self) -> T:
        """Return the next item, or `EXHAUSTED`."""
        return cast(T, await self._do(lambda: next(self._iterator, EXHAUSTED)))

    async def aclose(self) -> None:
        """Close the iterator; after a cancelled step that still goes on, its thread does so. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._running:
            self._inbox.put(None)
            return
        with anyio.CancelScope(shield=True):
            await self._do(self._close, last=True)

    async def _do(self, function: Callable[[], Any], *, last: bool = False) -> Any:
        work = _Work(function, last=last)
        async with _limiter(self._depth):
            if not self._begun:
                self._begun = True
                _start(self._serve, _inner_context(self._depth))
            self._inbox.put(work)
            try:
                return await work.result()
            finally:
                self._running = not work.over

    def _serve(self) -> None:
        while (work := self._inbox.get()) is not None:
            work.run()
            if work.last:
                return
            del work  # it holds the item
        self._close()  # nobody waits: if it fails, that is for threading.excepthook

    def _close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


class _Work(Generic[T]):
    """Something to do in a thread, and its result, which is awaited where this was made."""

    _result: T
    _error: BaseException | None = None

    def __init__(self, function: Callable[[], T], *, last: bool = False) -> None:
        self.last = last
        self._function = function
        self._done = anyio.Event()
        native: Any = anyio.lowlevel.current_token().native_token
        # A loop of asyncio has the one method, trio's token the other.
        self._tell: Any = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        with suppress(RuntimeError):  # the loop has ended, so nobody waits
            self._tell(self._done.set)

    @property
    def over(self) -> bool:
        """Whether the result is there."""
        return self._done.is_set()

    async def result(self) -> T:
        await self._done.wait()
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # or the traceback would hold itself


def _start(function: Callable[[], None], context: Context) -> None:
    threading.Thread(target=context.run, args=(function,), name="antiphon-blocking", daemon=True).start()


def _limiter(depth: int, most: int = _MAX_THREADS) -> anyio.CapacityLimiter:
    """Return the limit for code that runs in *depth* threads already, by way of blocking calls.

    Each depth has its own: calls inside of calls then never wait for threads that wait for them.
    """
    limiters = _limiters.get(dict[int, anyio.CapacityLimiter]())
    if depth not in limiters:
        limiters = {**limiters, depth: anyio.CapacityLimiter(most)}
        _limiters.set(limiters)
    return limiters[depth]


def _inner_context(depth: int) -> Context:
    context = copy_context()
    context.run(_depth.set, depth + 1)
    if sniffio := sys.modules.get("sniffio"):  # there is no loop in the thread, and code there may start one
        context.run(sniffio.current_async_library_cvar.set, None)
    return context
