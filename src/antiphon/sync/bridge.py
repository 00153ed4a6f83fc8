"""The bridge, the only module that knows there are two worlds, blocking and async.

`run` and `iterate` let blocking code use the one async core. The rules:

- Async code runs on the loop of one daemon thread per process, started on first use and anew in a forked child. The
  import starts nothing, and nobody else's loop or loop policy is ever patched.
- In a running event loop both refuse with `NestAsyncioError`, before any coroutine exists, unless nesting is allowed
  (`Nested`); then that loop waits.
- Called on the bridge's own loop (an async provider uses the blocking API) they always work, on a deeper loop with a
  thread of its own; these are reused. A loop waits only for deeper ones, and while it may have to wait no new call is
  sent to it, so no two can wait for each other.
- The async code sees a copy of the caller's context variables, taken when `run` or `iterate` is called.
- One task owns a generator from its first step to its `aclose()`; at most 64 items lie between it and the consumer.
- An error raised by a signal handler while the caller waits (Ctrl-C) ends the async code, and reaches the caller when
  that has cleaned up; a second one does not wait. At interpreter exit all that runs is cancelled, and has one second.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sized
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from antiphon.errors import AntiphonError, NestAsyncioError, StreamError
from antiphon.sync.nesting import Nested, check_nesting

__all__ = ["Iteration", "iterate", "run"]


T = TypeVar("T")


_WINDOW = 64


_CLEANUP_SECONDS = 1.0


# The wait for a lock is cut into pieces, and signals are seen between them. On Windows a signal does not interrupt such
# a wait; elsewhere it does, unless it comes after the last look at signals and before the system call.
_PIECE_SECONDS = 0.05 if sys.platform == "win32" else 0.5


def run(function: Callable[..., Awaitable[T]], *args: Any, nested: Nested | None = None) -> T:
    """Call `await function(*args)` on the bridge's loop and wait for its result.

    What the coroutine raises is raised here with its own traceback; that includes `SystemExit` and `CancelledError`.
    *nested* goes before `configure()`, that before the variable `ANTIPHON_NESTED`, that before `"auto"`.

    Raises:
        AntiphonError: The interpreter is shutting down.
        NestAsyncioError: An event loop is running in this thread, and nesting is not allowed.
        ValueError: *nested* or `ANTIPHON_NESTED` is none of the values of `Nested`.
    """
    _refuse_at_shutdown()
    here = _here()
    check_nesting(nested, on_bridge=here is not None)
    bridge = _choose(here)
    call: _Job[T] = _Job(partial(function, *args))
    call.cancels = _cancels()
    try:
        call.begin(bridge, here)
        call.join()
    except BaseException as interrupt:
        call.stop()
        call.join()
        if call.error is not None:
            interrupt.__context__ = call.error
        raise
    if call.error is not None:
        call.reraise()
    return call.value


def iterate(function: Callable[..., AsyncIterator[T]], *args: Any, nested: Nested | None = None) -> Iteration[T]:
    """Iterate over the async generator (or iterator) `function(*args)` from blocking code.

    *function* is called on the bridge's loop, at the first `next()`. *nested* and the errors are those of `run`.
    """
    check_nesting(nested, on_bridge=_here() is not None)
    return Iteration(_Stream(partial(function, *args)), nested)


class Iteration(Iterator[T]):
    """A blocking iterator over an async generator, for one thread at a time.

    Close it, or use it as a context manager: the generator's `aclose()` is over before `close()` returns. If it is
    dropped instead (`break` out of a `for` loop that held the only reference), its thread waits for that at most one
    second; where the garbage collector of another thread finds it, it is closed without a wait. An error of the
    generator is raised after all items that came before it; an error in its clean-up is raised by `close()`.

    `next()` raises what `run` raises, and `StreamError` in a process forked after the first `next()`.
    """

    __slots__ = ("_items", "_nested", "_stream", "_thread")

    def __init__(self, stream: _Stream[T], nested: Nested | None) -> None:
        self._stream = stream
        self._items = stream.items
        self._nested: Nested | None = nested
        self._thread = 0

    def __next__(self) -> T:
        try:
            try:
                item = self._items.popleft()
            except IndexError:
                pass  # wait below, or this would become the context of the generator's errors
            else:
                if self._stream.parked and not self._items:  # one change of threads for all that the window holds
                    self._stream.resume()
                return item
            return self._wait()
        except NestAsyncioError:
            raise
        except BaseException as error:
            # The end, and the generator's own error, find the stream finished. All else comes from a signal handler and
            # may have taken an item with it: a stream that went on would have a gap.
            if (fault := self._shut()) is not None:
                error.__context__ = fault
            raise

    def __enter__(self) -> Iteration[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the generator, wait for its clean-up, and raise its error if that fails; further calls do nothing.

        On the loop that has to do the closing, or on one that it may itself wait for, this only asks for the end.
        """
        if (fault := self._shut()) is not None:
            raise fault

    def __del__(self) -> None:
        # No async work here, only a request to the loop's thread, where a task owns the generator.
        stream = self._stream
        if stream.finished or stream.bridge not in _bridges:
            return
        stream.abandoned = True
        stream.stop()
        # The consumer's thread has most likely let go just now, by `break`. Any other comes here through the garbage
        # collector, and must not be held up: it may be the very loop (which may have the ident of a thread that ended).
        if threading.get_ident() == self._thread and not stream.bridge.needs(_here()) and not sys.is_finalizing():
            stream.join(0 if stream.impatient else _CLEANUP_SECONDS)

    def _wait(self) -> T:
        stream = self._stream
        stream.cancels = _cancels()  # before it begins: it may be what interrupts
        self._admit()
        self._thread = threading.get_ident()
        while True:
            finished = stream.finished  # read first: all that came before the end is then in sight
            try:
                return self._items.popleft()
            except IndexError:
                pass
            if finished:
                stream.reraise()
            stream.sleep(self._items)

    def _admit(self) -> None:
        """Check that the caller may wait in this thread, and start the stream if this is the first step."""
        stream, here = self._stream, _here()
        if stream.finished:
            return
        _refuse_at_shutdown()
        if stream.bridge is not None and stream.bridge not in _bridges:
            raise StreamError("This stream was opened before the process forked. Open a new one in the child process.")
        if stream.bridge is not None and stream.bridge.needs(here):
            raise NestAsyncioError(
                "This stream comes from the event loop that would have to wait for it here. "
                "Open the stream where it is read, or read it with the async API."
            )
        check_nesting(self._nested, on_bridge=here is not None)
        if stream.bridge is None:
            stream.begin(_choose(here), here)

    def _shut(self) -> BaseException | None:
        """Do the work of `close()`; returns the error of the generator's clean-up."""
        stream = self._stream
        if stream.bridge not in _bridges or sys.is_finalizing():
            stream.finished = True
        elif not stream.finished:
            patient, stream.impatient = not stream.impatient, True  # a second Ctrl-C may come at any point from here on
            stream.stop()
            if stream.bridge.needs(_here()):
                stream.impatient = not patient
                return None
            if not patient:
                return None
            stream.cancels = _cancels()  # what came before is no word about this wait
            stream.join()
            stream.impatient = False
        self._items.clear()
        error, stream.error = stream.error, None
        return error if stream.stopping else None


class _Bridge:
    """An event loop in a daemon thread of its own."""

    rest: asyncio.Task[None]

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.inner: set[_Job[Any]] = set()
        """What was begun from this loop's thread, on deeper loops, and may make it wait."""
        self.jobs: set[_Job[Any]] = set()
        """What runs on this loop, which itself holds its tasks weakly."""
        # Not from the policy: one that makes loops for a toolkit or on top of another library is of no use here.
        if sys.platform == "win32":
            self.loop: asyncio.AbstractEventLoop = asyncio.ProactorEventLoop()
        else:
            self.loop = asyncio.SelectorEventLoop()
        thread = threading.Thread(target=self._serve, name=f"antiphon-bridge-{depth}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self.loop.close()
            raise
        self.ident = thread.ident

    def needs(self, here: _Bridge | None) -> bool:
        """Whether this loop may have to wait for the thread of *here*, which then must not wait for this loop."""
        return here is not None and here.depth >= self.depth

    def _serve(self) -> None:
        # anyio ties worker threads to the task given to run_until_complete(): with one that stays, they are reused from
        # call to call, where run_forever() would cost a new thread for each (anyio 4.16, `find_root_task`).
        self.rest = self.loop.create_task(self._rest())
        while True:
            # SystemExit and KeyboardInterrupt of a task leave the loop as well as reaching whoever awaits it, and after
            # loop.stop() there is a RuntimeError: none of these may end a thread for which others wait.
            with suppress(KeyboardInterrupt, SystemExit, RuntimeError):
                self.loop.run_until_complete(self.rest)

    async def _rest(self) -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await self.loop.create_future()

    async def cancel_all(self) -> None:
        """Cancel every other task of this loop, and wait for them."""
        tasks = asyncio.all_tasks() - {asyncio.current_task(), self.rest}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Job(Generic[T]):
    """A task on a bridge that awaits `function()`, and the threads that wait for it.

    They see to it without a lock of their own that neither side sleeps through what the other does. This needs each
    operation on a deque, and each read or write of an attribute, to be one step that every thread sees in the same
    order: so it is with the GIL, and in free-threaded CPython (3.13 and later), whose built-in containers lock
    themselves and whose attributes are written atomically (PEP 703, read 2026-11-29; not run without the GIL):

    - the task appends an item, or sets `finished`, then looks for `waiters`; a thread appends itself to `waiters`, then
      looks for items, or at `finished`;
    - the task sets `parked`, then looks how many items there are; the consumer takes an item, then looks at `parked`.

    Whoever comes second sees what the first did. Only the task takes from `waiters`, and each waiter has a lock of its
    own, so no wake-up meets the wrong sleep. A wake-up may come for nothing: sleep in a loop.
    """

    value: T

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.context = copy_context()
        self.bridge: _Bridge | None = None
        self.holders: list[set[_Job[Any]]] = []
        self.task: asyncio.Task[None] | None = None
        self.stopping = False
        self.abandoned = False
        self.finished = False
        self.error: BaseException | None = None
        self.cancels = 0
        """How often the caller's own task, if it has one, had been cancelled when the wait began."""
        self.waiters: deque[threading.Lock] = deque()

    def begin(self, bridge: _Bridge, here: _Bridge | None) -> None:
        """Start on *bridge*, from the thread of *here*."""
        self.bridge = bridge
        self.holders = [bridge.jobs] if here is None else [bridge.jobs, here.inner]
        for holder in self.holders:
            holder.add(self)
        bridge.loop.call_soon_threadsafe(self._begin, bridge, context=self.context)

    def stop(self) -> None:
        """Ask for the end, from any thread; the job is `finished` when its clean-up is over."""
        if self.bridge is None:
            self.finished = True
        elif not self.finished:
            self.bridge.loop.call_soon_threadsafe(self._stop)

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end, or about *seconds*."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.finished and (deadline is None or time.monotonic() < deadline):
            self.sleep((), seconds)

    def sleep(self, items: Sized, seconds: float | None = None) -> None:
        """Wait until there are *items*, for the end, for *seconds*, or less."""
        lock = threading.Lock()
        lock.acquire()
        self.waiters.append(lock)
        while not (items or self.finished or lock.acquire(timeout=seconds or _PIECE_SECONDS) or seconds):
            # In a loop of asyncio.run(), Ctrl-C only cancels the task whose blocking call this is, and that task cannot
            # see it while it waits here.
            if (cancels := _cancels()) > self.cancels:
                self.cancels = cancels
                raise asyncio.CancelledError

    def wake(self) -> None:
        """Wake all threads that wait, from the loop's thread."""
        while self.waiters:
            self.waiters.popleft().release()

    def reraise(self) -> NoReturn:
        """Raise the error, or the end, and keep nothing of it: its traceback holds the frames that hold this job."""
        error, self.error = self.error, None
        try:
            raise StopIteration if error is None else error
        finally:
            del error

    def _begin(self, bridge: _Bridge) -> None:
        self.task = bridge.loop.create_task(self._main(bridge))
        self.task.add_done_callback(self._ended)

    async def _main(self, bridge: _Bridge) -> None:
        if sniffio := sys.modules.get("sniffio"):  # anyio.run() leaves the name of the caller's library in the context
            sniffio.current_async_library_cvar.set(None)
        try:
            await self._work()
        except asyncio.CancelledError as error:
            if not self.stopping:
                # Threads still waiting at exit are daemons. SystemExit ends them without a traceback.
                self.error = SystemExit() if _exiting else error
        except BaseException as error:
            self.error = error
            if self.stopping and self.abandoned:  # nobody is left to raise it
                message = "A stream that was dropped before its end failed to clean up."
                bridge.loop.call_exception_handler({"message": message, "exception": error})
        self._finish()

    async def _work(self) -> None:
        self.value = await self.function()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self.finished:  # cancelled before its first step: `_main` was not entered
            self.error = None if self.stopping else asyncio.CancelledError()
            self._finish()

    def _finish(self) -> None:
        for holder in self.holders:
            holder.discard(self)
        self.finished = True
        self.wake()

    def _stop(self) -> None:
        if self.task is None:  # begin() was interrupted before it told the loop
            self._finish()
        elif not self.stopping and not self.finished:
            self.stopping = True
            self.task.cancel()


class _Stream(_Job[None], Generic[T]):
    """The job that an `Iteration` reads from; it holds no reference to that, which may be dropped while it runs."""

    def __init__(self, function: Callable[[], AsyncIterator[T]]) -> None:
        super().__init__(function)
        self.items: deque[T] = deque()
        self.parked = False
        """Whether the task waits for room among the items."""
        self.impatient = False
        """Whether the wait for its clean-up was interrupted: nobody waits for it again."""
        self._room = asyncio.Event()

    def resume(self) -> None:
        """Tell the task that there is room, from the consumer's thread."""
        if self.bridge is not None and self.bridge in _bridges:
            self.bridge.loop.call_soon_threadsafe(self._room.set)

    async def _work(self) -> None:
        source, items, waiters = self.function(), self.items, self.waiters
        try:
            async for item in source:
                items.append(item)
                if waiters:
                    self.wake()
                if self.stopping:  # the generator made nothing of being cancelled
                    break
                while len(items) >= _WINDOW:
                    await self._park()
        finally:
            if (aclose := getattr(source, "aclose", None)) is not None:
                await aclose()

    async def _park(self) -> None:
        self._room.clear()
        self.parked = True
        if self.items:
            await self._room.wait()
        self.parked = False


_bridges: list[_Bridge] = []
"""The bridges of this process, by depth."""


_inherited: list[_Bridge] = []
"""Those of forked parents: not to be touched, for they share sockets, but kept, or their tasks would be finalised."""


_starting = threading.Lock()


_exiting = False


def _refuse_at_shutdown() -> None:
    """Raise an error where nothing can be waited for: the interpreter has stopped the threads of all loops."""
    if sys.is_finalizing():
        raise AntiphonError(
            "Python is shutting down, where no call can be made any more: make it, or close the client, before the "
            "program ends (in a with block, or by atexit), rather than in a __del__."
        )


def _here() -> _Bridge | None:
    """The bridge in whose thread this is called, if any."""
    ident = threading.get_ident()
    for bridge in _bridges:
        if bridge.ident == ident:
            return bridge
    return None


def _cancels() -> int:
    """How often the task that runs in this thread has been cancelled."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return 0
    return 0 if task is None else task.cancelling()


def _choose(here: _Bridge | None) -> _Bridge:
    """The bridge for a call from the thread of *here*: the first deeper one that need not wait; started if need be."""
    depth = 0 if here is None else here.depth + 1
    while True:
        if depth == len(_bridges):
            with _starting:
                if depth == len(_bridges):
                    _bridges.append(_Bridge(depth))
        if not _bridges[depth].inner:
            return _bridges[depth]
        depth += 1


def _forget() -> None:
    """Start anew in a forked child: the threads of the bridges are not there, nor the one that may hold the lock."""
    global _starting
    _starting = threading.Lock()
    _inherited.extend(_bridges)
    _bridges.clear()


def _clean_up() -> None:
    """Cancel what still runs at interpreter exit, the deepest first: a loop that waits for it can do nothing before."""
    global _exiting
    _exiting = True
    deadline = time.monotonic() + _CLEANUP_SECONDS
    for bridge in reversed(_bridges):
        call: _Job[None] = _Job(bridge.cancel_all)
        call.begin(bridge, None)
        call.join(max(0.001, deadline - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_clean_up)
