"""Blocking code beside an event loop: whose thread, whose context, how many, and what becomes of the stuck."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from antiphon.sync.blocking import EXHAUSTED, ThreadIterator, run_in_thread

PATIENCE = 30.0  # seconds until a test that waits in vain fails

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture(scope="module", params=["asyncio", "trio", ("asyncio", {"use_uvloop": True})])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Threads are the same beside every loop."""
    return request.param


@pytest.mark.anyio
async def test_a_call() -> None:
    """What a function returns is returned, and what it raises is raised with the line that raised it."""
    assert await run_in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError) as caught:
        await run_in_thread(lambda: 1 // 0)
    assert caught.traceback[-1].name == "<lambda>"
    with pytest.raises(SystemExit):
        await run_in_thread(sys.exit)


@pytest.mark.anyio
async def test_a_call_may_return_a_coroutine() -> None:
    """A coroutine is a result like any other."""

    async def answer() -> int:
        return 7

    assert await (await run_in_thread(answer)) == 7


@pytest.mark.anyio
async def test_a_stop_iteration_does_not_get_lost() -> None:
    """StopIteration cannot pass through a coroutine; it becomes what Python makes of it there."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        await run_in_thread(lambda: next(iter(())))


@pytest.mark.anyio
async def test_context() -> None:
    """Code in a thread sees the caller's context variables, and its changes stay with it."""
    colour.set("red")
    assert await run_in_thread(colour.get) == "red"
    await run_in_thread(lambda: colour.set("blue"))
    assert colour.get() == "red"


def counting(seen: list[Any]) -> Iterator[int]:
    """Count to three; note thread and colour at each step and at the end."""
    try:
        for number in range(3):
            seen.append((threading.get_ident(), colour.get()))
            colour.set(f"blue-{number}")
            yield number
    finally:
        seen.append((threading.get_ident(), colour.get()))


@pytest.mark.anyio
async def test_an_iterator_has_one_thread_and_one_context() -> None:
    """All steps of an iterator, and its end, happen in one thread, and what it sets lasts from step to step."""
    colour.set("red")
    seen: list[tuple[int, str]] = []
    async with aclosing(ThreadIterator(counting(seen))) as steps:
        items = [await steps.step() for _ in range(4)]
    assert items == [0, 1, 2, EXHAUSTED]
    assert [c for _, c in seen] == ["red", "blue-0", "blue-1", "blue-2"]
    assert {ident for ident, _ in seen} == {seen[0][0]}
    assert seen[0][0] != threading.get_ident()


@pytest.mark.anyio
async def test_an_iterator_is_closed_in_its_thread() -> None:
    """An iterator that was not finished is closed before `aclose()` is over; a second time does nothing."""
    seen: list[tuple[int, str]] = []
    steps = ThreadIterator(counting(seen))
    await steps.step()
    await steps.aclose()
    assert len(seen) == 2
    assert seen[0][0] == seen[1][0]
    await steps.aclose()
    assert len(seen) == 2


@pytest.mark.anyio
async def test_an_iterator_that_never_began() -> None:
    """An iterator that was not begun is closed as well, which runs none of it."""
    seen: list[tuple[int, str]] = []
    async with aclosing(ThreadIterator(counting(seen))):
        pass
    assert seen == []


class Fragile:
    """An iterator whose steps and end may fail."""

    def __init__(self, *steps: Any, end: Exception | None = None) -> None:
        self.steps = iter(steps)
        self.end = end
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = next(self.steps)
        if isinstance(item, Exception):
            raise item
        return item() if callable(item) else item

    def close(self) -> None:
        """Note it, and fail if that was asked for."""
        self.closed += 1
        if self.end is not None:
            raise self.end


@pytest.mark.anyio
async def test_errors_of_an_iterator() -> None:
    """An error of a step is raised by the step, an error of the end by `aclose()`; the end is not left out."""
    fragile = Fragile(1, KeyError("step"), 2, end=OSError("end"))
    steps = ThreadIterator(fragile)
    assert await steps.step() == 1
    with pytest.raises(KeyError, match="step"):
        await steps.step()
    assert await steps.step() == 2
    assert fragile.closed == 0
    with pytest.raises(OSError, match="end"):
        await steps.aclose()
    assert fragile.closed == 1


@pytest.mark.anyio
async def test_a_step_that_is_cancelled() -> None:
    """Cancelling does not wait for the step; its thread closes the iterator when the step is over."""
    reached, release = threading.Event(), threading.Event()
    closed = threading.Event()

    def waiting() -> int:
        reached.set()
        assert release.wait(PATIENCE)
        return 1

    class Noting(Fragile):
        def close(self) -> None:
            """Tell the test."""
            super().close()
            closed.set()

    noting = Noting(waiting)

    async def step() -> None:
        async with aclosing(ThreadIterator(noting)) as steps:
            await steps.step()

    async with anyio.create_task_group() as group:
        group.start_soon(step)
        await run_in_thread(lambda: reached.wait(PATIENCE))
        group.cancel_scope.cancel()
    assert noting.closed == 0
    release.set()
    assert await run_in_thread(lambda: closed.wait(PATIENCE))
    assert noting.closed == 1


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_an_end_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the end fails after a cancelled step, when nobody is left to be told, `threading.excepthook` is."""
    reached, release, told = threading.Event(), threading.Event(), threading.Event()
    errors: list[Any] = []

    def hook(arguments: Any) -> None:
        errors.append(arguments.exc_value)
        told.set()

    monkeypatch.setattr(threading, "excepthook", hook)

    def waiting() -> int:
        reached.set()
        assert release.wait(PATIENCE)
        return 1

    async def step() -> None:
        async with aclosing(ThreadIterator(Fragile(waiting, end=OSError("end")))) as steps:
            await steps.step()

    async with anyio.create_task_group() as group:
        group.start_soon(step)
        await run_in_thread(lambda: reached.wait(PATIENCE))
        group.cancel_scope.cancel()
    release.set()
    assert await run_in_thread(lambda: told.wait(PATIENCE))
    assert str(errors) == "[OSError('end')]"


@pytest.mark.anyio
async def test_iterators_between_two_steps_take_no_place() -> None:
    """A hundred iterators may be open at once, since only those at work count against the limit of 64."""
    opened = [ThreadIterator(iter("ab")) for _ in range(100)]
    assert [await steps.step() for steps in opened] == ["a"] * 100
    assert [await steps.step() for steps in opened] == ["b"] * 100
    for steps in opened:
        await steps.aclose()


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_gives_its_place_back() -> None:
    """Stuck calls that were given up do not count against the limit."""
    release = threading.Event()
    for _ in range(70):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run_in_thread(lambda: release.wait(PATIENCE))
    started = threading.Barrier(65)
    async with anyio.create_task_group() as group:
        for _ in range(64):
            group.start_soon(run_in_thread, lambda: (started.wait(PATIENCE), release.wait(PATIENCE)))
        await in_a_foreign_thread(lambda: started.wait(PATIENCE))
        group.cancel_scope.cancel()
    assert await run_in_thread(lambda: "free") == "free"
    release.set()


async def in_a_foreign_thread(function: Callable[[], Any]) -> None:
    """Run *function* where no limit of the package counts."""
    await anyio.to_thread.run_sync(function)


@pytest.mark.anyio
@pytest.mark.parametrize("run", [asyncio.run, anyio.run, lambda f: anyio.run(f, backend="trio")])
async def test_a_thread_may_run_a_loop_of_its_own(run: Callable[[Any], Any]) -> None:
    """Blocking code is in no event loop, so that it may start one."""

    async def answer() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    assert await run_in_thread(lambda: run(answer() if run is asyncio.run else answer)) == 7


def python(script: str) -> None:
    """Run *script* in a fresh interpreter, strictly; it must end by itself and print nothing."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_stuck_code_does_not_keep_the_interpreter() -> None:
    """A program ends although blocking code of it is stuck for good, and so does its event loop."""
    python(
        """
        import asyncio, threading
        from antiphon import AsyncClient
        from antiphon.errors import APITimeoutError

        def stuck(request):
            threading.Event().wait()

        async def main():
            try:
                await AsyncClient(provider=stuck).chat.completions.create("hi", timeout=0.05)
            except APITimeoutError:
                return
            raise AssertionError

        asyncio.run(main())
        """
    )


def test_a_loop_that_ends_before_its_threads() -> None:
    """A thread that outlives its loop has nobody to tell, and says nothing."""
    python(
        """
        import asyncio, threading
        from antiphon.sync.blocking import run_in_thread

        reached, release = threading.Event(), threading.Event()

        def late():
            reached.set()
            release.wait(30)

        async def main():
            task = asyncio.ensure_future(run_in_thread(late))
            while not reached.is_set():
                await asyncio.sleep(0)
            task.cancel()

        asyncio.run(main())
        (left,) = [thread for thread in threading.enumerate() if thread.name == "antiphon-blocking"]
        release.set()
        left.join(30)
        assert not left.is_alive()
        """
    )
