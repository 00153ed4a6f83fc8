"""The bridge: every row of the contract between blocking and async callers, with real loops, threads and processes."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
import types
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from antiphon.errors import NestAsyncioError, StreamError
from antiphon.sync import bridge
from antiphon.sync.bridge import iterate, run
from antiphon.sync.nesting import configure

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs signals to threads, or fork")
WINDOW = 64
PATIENCE = 60.0  # seconds until a test that waits in vain fails

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def same(value: Any) -> Any:
    """Give *value* back, a turn of the loop later."""
    await asyncio.sleep(0)
    return value


async def count(stop: int) -> AsyncIterator[int]:
    """Yield the numbers below *stop* without ever giving up the loop."""
    for number in range(stop):
        yield number


class Source:
    """An endless generator that notes how far it got, and that its clean-up, which takes turns of the loop, is over."""

    def __init__(self, *, pause: bool = False) -> None:
        self.pause = pause
        self.produced = 0
        self.closed = threading.Event()

    async def __call__(self) -> AsyncIterator[int]:  # noqa: D102
        try:
            while True:
                self.produced += 1
                yield self.produced
                if self.pause:
                    await asyncio.Event().wait()
        finally:
            for _ in range(200):
                await asyncio.sleep(0)
            self.closed.set()


@pytest.fixture(autouse=True)
def _default_nesting() -> Iterator[None]:
    yield
    configure(nested=None)


@pytest.fixture(params=["asyncio", "uvloop"])
def in_loop(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Calls a blocking function inside a running loop."""
    factory = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else None

    def call(function: Callable[[], Any]) -> Any:
        async def main() -> Any:
            return function()

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    return call


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Does what Ctrl-C does, from any thread, whatever this process was started with."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def at_once(*works: Callable[[], None]) -> None:
    """Do each of *works* in a thread of its own, all at once, the interpreter changing threads as often as it can."""
    before = sys.getswitchinterval()
    # Not before all have started: CPython 3.11 does not stand it where a tracer, like that of coverage, is installed.
    started = threading.Barrier(len(works), lambda: sys.setswitchinterval(1e-6))
    threads = [threading.Thread(target=lambda work=work: (started.wait(PATIENCE), work())) for work in works]
    run(same, 0)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(before)


def python(script: str, *arguments: str, status: int = 0) -> str:
    """Run *script* in a fresh interpreter, strictly; it must print nothing on stderr. Returns its stdout."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ("", status) == (done.stderr, done.returncode)
    return done.stdout


# --- no running loop


def test_run() -> None:
    """Without a running loop, run() gives what the coroutine returns."""
    assert run(same, 1) == 1


def test_iterate() -> None:
    """Without a running loop, iterate() gives every item in order, through many windows."""
    assert list(iterate(count, 1000)) == list(range(1000))


def test_iterate_iterator() -> None:
    """An async iterator without aclose() will do for a generator."""

    class Once:
        given = False

        def __aiter__(self) -> Once:
            return self

        async def __anext__(self) -> str:
            if self.given:
                raise StopAsyncIteration
            self.given = True
            return "item"

    assert list(iterate(Once)) == ["item"]


def test_one_thread() -> None:
    """All calls share one daemon thread."""

    async def thread() -> threading.Thread:
        return threading.current_thread()

    async def threads() -> AsyncIterator[threading.Thread]:
        yield threading.current_thread()

    first = run(thread)
    assert first.daemon
    assert {run(thread), *iterate(threads)} == {first}
    assert first is not threading.current_thread()


def test_import_starts_nothing() -> None:
    """Importing the module starts no thread and opens no socket, file descriptor or loop."""
    assert "[]\n1\n" == python(
        """
        import sys
        seen = []
        watched = ("socket.", "subprocess.", "_thread.", "os.fork")
        sys.addaudithook(lambda event, _: seen.append(event) if event.startswith(watched) else None)
        import antiphon.sync.bridge, threading
        print(seen)
        print(threading.active_count())
        """
    )


def test_thread_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the reason is raised, and nothing is left open."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(bridge, "_bridges", [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run(same, 1)
    gc.collect()


# --- a running loop


@pytest.mark.parametrize("call", [run, iterate])
def test_refused_in_loop(in_loop: Callable[..., Any], call: Callable[..., Any]) -> None:
    """In a running loop a blocking call is refused, naming both ways out, before anything is created."""
    called: list[int] = []
    with pytest.raises(NestAsyncioError, match=r"await .*nested=\"thread\"") as caught:
        in_loop(lambda: call(called.append, 1))
    assert isinstance(caught.value, RuntimeError)
    assert called == []


def test_nested_argument(in_loop: Callable[..., Any]) -> None:
    """With nested="thread" both calls work in a running loop."""
    assert in_loop(lambda: run(same, 1, nested="thread")) == 1
    assert in_loop(lambda: list(iterate(count, 200, nested="thread"))) == list(range(200))


@pytest.mark.parametrize(
    ("argument", "configured", "environment", "allowed"),
    [
        ("thread", "error", "error", True),
        ("error", "thread", "thread", False),
        ("auto", "thread", "thread", False),
        (None, "thread", "error", True),
        (None, "error", "thread", False),
        (None, None, "thread", True),
        (None, None, "error", False),
        (None, None, "", False),
    ],
)
def test_precedence(
    monkeypatch: pytest.MonkeyPatch,
    in_loop: Callable[..., Any],
    argument: bridge.Nested | None,
    configured: bridge.Nested | None,
    environment: str,
    allowed: bool,
) -> None:
    """The argument goes before configure(), that before the environment, that before "auto"."""
    configure(nested=configured)
    monkeypatch.setenv("ANTIPHON_NESTED", environment)
    if allowed:
        assert in_loop(lambda: run(same, 1, nested=argument)) == 1
    else:
        with pytest.raises(NestAsyncioError):
            in_loop(lambda: run(same, 1, nested=argument))


def test_unknown_nesting(monkeypatch: pytest.MonkeyPatch, in_loop: Callable[..., Any]) -> None:
    """A value that does not exist is refused wherever it is set, and the valid ones are listed."""
    unknown: Any = "threads"
    valid = "must be one of 'auto', 'thread', 'error'; it is 'threads'"
    with pytest.raises(ValueError, match=f"nested {valid}"):
        run(same, 1, nested=unknown)
    with pytest.raises(ValueError, match=f"nested {valid}"):
        iterate(count, 1, nested=unknown)
    with pytest.raises(ValueError, match=f"nested {valid}"):
        configure(nested=unknown)
    monkeypatch.setenv("ANTIPHON_NESTED", unknown)
    with pytest.raises(ValueError, match=f"ANTIPHON_NESTED {valid}"):
        in_loop(lambda: run(same, 1))


@pytest.mark.parametrize("package", ["nest_asyncio", "nest_asyncio2"])
@pytest.mark.parametrize("first", ["patch", "bridge"])
def test_nest_asyncio(package: str, first: str) -> None:
    """In a loop patched by either package nesting is allowed, unless it is set to "error"."""
    pytest.importorskip(package)
    assert "refused before\n1 4950 [1, 2]\nrefused\nloop goes on\n" == python(
        """
        import asyncio, importlib, sys
        from antiphon.sync.bridge import iterate, run
        from antiphon.errors import NestAsyncioError

        async def same(value):
            await asyncio.sleep(0)
            return value

        async def count(stop):
            for number in range(stop):
                yield number

        async def reentry():
            return [run(same, 1), *(number for number in iterate(count, 3) if number == 2)]

        async def main():
            try:
                run(same, 1)
            except NestAsyncioError:
                print("refused before")
            importlib.import_module(sys.argv[1]).apply()
            print(run(same, 1), sum(iterate(count, 100)), run(reentry))
            try:
                run(same, 1, nested="error")
            except NestAsyncioError:
                print("refused")
            print(await same("loop goes on"))

        if sys.argv[2] == "bridge":
            run(same, 1)
        asyncio.run(main())
        """,
        package,
        first,
    )


@pytest.mark.parametrize(("shell", "allowed"), [({"kernel": 1}, True), ({}, False)])
def test_kernel(
    monkeypatch: pytest.MonkeyPatch, in_loop: Callable[..., Any], shell: dict[str, Any], allowed: bool
) -> None:
    """In an IPython kernel nesting is allowed; an IPython shell that is no kernel does not change anything."""
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(**shell)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    if allowed:
        assert in_loop(lambda: run(same, 1)) == 1
    else:
        with pytest.raises(NestAsyncioError):
            in_loop(lambda: run(same, 1))


def test_read_in_loop(in_loop: Callable[..., Any]) -> None:
    """A stream opened outside a loop is not read inside one, and loses nothing by the attempt."""
    stream = iterate(count, 3)
    with pytest.raises(NestAsyncioError):
        in_loop(lambda: next(stream))
    assert list(stream) == [0, 1, 2]


def test_worker_thread() -> None:
    """A worker thread of an async program may block while the program's loop goes on."""

    async def until(flag: asyncio.Event, waiting: threading.Event) -> str:
        waiting.set()
        await flag.wait()
        return "set"

    async def main() -> list[Any]:
        flag, waiting = asyncio.Event(), threading.Event()
        call = asyncio.create_task(asyncio.to_thread(run, until, flag, waiting))
        await asyncio.to_thread(waiting.wait, PATIENCE)
        await asyncio.to_thread(run, set_there, flag)
        return [await call, await asyncio.to_thread(lambda: list(iterate(count, 3)))]

    async def set_there(flag: asyncio.Event) -> None:
        flag.set()

    assert asyncio.run(main()) == ["set", [0, 1, 2]]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_caller(backend: str) -> None:
    """A program on anyio may call from a worker thread, and on trio from a task; the core finds itself on asyncio."""

    async def core() -> bool:
        await anyio.lowlevel.checkpoint()
        return await anyio.to_thread.run_sync(asyncio.get_running_loop().is_running)

    async def main() -> list[bool]:
        calls = [await anyio.to_thread.run_sync(run, core)]
        if backend == "trio":
            calls.append(run(core))
        return calls

    assert set(anyio.run(main, backend=backend)) == {True}


def test_worker_threads_are_kept() -> None:
    """Worker threads that anyio starts for one call are used again by the next."""

    async def core() -> threading.Thread:
        return await anyio.to_thread.run_sync(threading.current_thread)

    assert run(core) is run(core)


# --- the bridge's own loop


def test_reentry_levels() -> None:
    """Async code on the bridge may use the blocking API, level upon level, and the threads are used again."""

    async def level(depth: int) -> list[threading.Thread]:
        return [threading.current_thread(), *(run(level, depth - 1) if depth else [])]

    first = run(level, 4)
    assert len(set(first)) == 5
    assert run(level, 4, nested="error") == first


def test_reentry_streams() -> None:
    """A provider may read blocking streams, several at once and inside each other."""

    async def inner(stop: int) -> AsyncIterator[int]:
        for number in iterate(count, stop):
            yield number
            await asyncio.sleep(0)

    async def outer() -> AsyncIterator[tuple[int, int]]:
        for pair in zip(iterate(inner, 200), iterate(inner, 300), strict=False):
            yield pair
            await asyncio.sleep(0)

    streams = [iterate(outer), iterate(outer)]
    assert list(zip(*streams, strict=True)) == [((number, number),) * 2 for number in range(200)]


def test_reentry_worker_with_context() -> None:
    """A worker thread sent from a deeper loop does not wait for a loop that waits for it."""

    async def inner() -> AsyncIterator[int]:
        for number in range(200):
            yield await asyncio.to_thread(run, same, number)

    async def outer() -> AsyncIterator[int]:
        for number in iterate(inner):
            yield number

    assert list(iterate(outer)) == list(range(200))


def test_reentry_worker_without_context() -> None:
    """Not even a thread that was not handed its context waits for a loop that is blocked."""

    async def inner() -> int:
        loop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=lambda: loop.get_loop().call_soon_threadsafe(loop.set_result, run(same, 7)))
        thread.start()
        return await loop

    async def outer() -> int:
        return run(inner)

    assert run(outer) == 7


def test_stream_of_own_loop() -> None:
    """A stream is not read on the loop that produces it, nor on one that this may wait for; it may be closed there."""
    source = Source(pause=True)
    stream = iterate(source)

    async def step() -> None:
        next(stream)

    async def deeper() -> None:
        run(step)

    async def close() -> None:
        stream.close()

    assert next(stream) == 1
    for function in (step, deeper):
        with pytest.raises(NestAsyncioError, match="Open the stream where it is read"):
            run(function)
    assert not source.closed.is_set()
    run(close)
    stream.close()
    assert source.closed.is_set()


# --- context variables


def test_context_crosses() -> None:
    """The async code sees the context of the call, step by step, and cannot change the caller's."""

    async def paint() -> str:
        before = colour.get()
        colour.set("changed")
        return before

    async def paints() -> AsyncIterator[str]:
        yield colour.get()
        colour.set("own")
        while True:
            yield colour.get()
            await asyncio.sleep(0)

    token = colour.set("red")
    assert run(paint) == "red"
    with iterate(paints) as stream:
        colour.set("blue")
        assert [next(stream) for _ in range(3)] == ["red", "own", "own"]
    assert colour.get() == "blue"
    colour.reset(token)


# --- errors


@pytest.mark.parametrize(
    "kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopAsyncIteration]
)
def test_error_of_call(kind: type[BaseException]) -> None:
    """Whatever a coroutine raises reaches the caller with its traceback, and the loop's thread lives on."""

    async def fail() -> None:
        raise kind("reason")

    with pytest.raises(kind) as caught:
        run(fail)
    assert caught.value.args == ("reason",)
    assert caught.value.__context__ is None
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"
    assert run(same, 1) == 1


class EmptyError(Exception):
    """An error that is false as a truth value."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, EmptyError])
def test_error_of_stream(kind: type[BaseException]) -> None:
    """An error of the generator comes after all items before it, with its traceback; then the stream is at its end."""

    async def fail() -> AsyncIterator[int]:
        for number in range(100):
            yield number
        raise kind("reason")

    stream, items = iterate(fail), deque[int]()
    with pytest.raises(kind) as caught:
        items.extend(stream)
    assert list(items) == list(range(100))
    assert caught.value.args == ("reason",)
    assert caught.value.__context__ is None
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"
    assert list(stream) == []
    stream.close()


def test_error_before_generator() -> None:
    """An error of the function that makes the generator, or of a wrong result, is raised by the first step."""

    def fail() -> AsyncIterator[int]:
        raise ValueError("no generator")

    wrong: Any = lambda: 1  # noqa: E731
    with pytest.raises(ValueError, match="no generator"):
        next(iterate(fail))
    with pytest.raises(TypeError, match="async for"):
        next(iterate(wrong))
    with pytest.raises(TypeError, match="await"):
        run(wrong)


def test_errors_are_freed() -> None:
    """An error holds what it came from only as long as the caller holds the error."""

    class Marker:
        pass

    markers: list[weakref.ref[Marker]] = []

    async def fail() -> AsyncIterator[int]:
        marker = Marker()
        markers.append(weakref.ref(marker))
        yield 1
        raise ValueError(marker)

    async def call() -> None:
        async for _ in fail():
            pass

    gc.disable()
    try:
        for blocking in (lambda: run(call), lambda: list(iterate(fail))):
            with pytest.raises(ValueError, match="Marker"):
                blocking()
        run(same, 1)  # after this, the loop has let go of both
        assert [marker() for marker in markers] == [None, None]
    finally:
        gc.enable()


def test_loop_survives() -> None:
    """Neither a task's SystemExit, nor stopping the loop, nor cancelling all its tasks ends the bridge."""

    async def leave() -> None:
        raise SystemExit(3)

    async def leaving_task() -> str:
        with pytest.raises(SystemExit):
            await asyncio.create_task(leave())
        return "left"

    async def stop() -> str:
        asyncio.get_running_loop().stop()
        return await same("stopped")

    async def cancel() -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)

    assert [run(leaving_task), run(stop)] == ["left", "stopped"]
    with pytest.raises(asyncio.CancelledError):
        run(cancel)
    assert run(same, 1) == 1


class ChangedLoop:
    """A loop with some of its methods replaced."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **methods: Any) -> None:
        self.loop = loop
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)


def test_cancelled_before_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that async code cancels before its first step raises CancelledError all the same."""

    def create_task(*arguments: Any, **options: Any) -> asyncio.Task[None]:
        task = loop.create_task(*arguments, **options)
        task.cancel()
        return task

    run(same, 1)
    loop: Any = bridge._bridges[0].loop
    monkeypatch.setattr(bridge._bridges[0], "loop", ChangedLoop(loop, create_task=create_task))
    with pytest.raises(asyncio.CancelledError):
        run(same, 1)


# --- the end of a stream


def test_back_pressure() -> None:
    """A fast generator stops when the window is full, and goes on when it is empty."""
    source = Source()
    with iterate(source) as stream:
        assert next(stream) == 1
        run(same, 1)  # the generator never gives up the loop of itself, so by now it waits for room
        full = source.produced
        assert WINDOW <= full <= WINDOW + 1
        for _ in range(full - 2):
            next(stream)
        run(same, 1)
        assert source.produced == full
        next(stream)
        run(same, 1)
        assert source.produced == full + WINDOW


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("way", ["break", "close", "with", "error", "throw"])
def test_closed_when_left(pause: bool, way: str) -> None:
    """However the consumer leaves, the generator's clean-up is over when it has."""
    source = Source(pause=pause)
    if way == "break":
        for _ in iterate(source):
            break
    elif way == "close":
        stream = iterate(source)
        next(stream)
        stream.close()
        stream.close()
        assert list(stream) == []
    elif way == "with":
        with iterate(source) as stream:
            next(stream)
    elif way == "error":

        def fail() -> None:
            with iterate(source) as stream:
                raise ZeroDivisionError(next(stream))

        with pytest.raises(ZeroDivisionError):
            fail()
    else:

        def pieces() -> Iterator[int]:
            with iterate(source) as stream:
                yield from stream

        generator = pieces()
        next(generator)
        generator.close()
    assert source.closed.is_set()


def test_closed_before_first_step() -> None:
    """A stream closed, or dropped, before its first step never calls the function."""
    called: list[int] = []
    unknown: Any = called.append
    stream = iterate(unknown, 1)
    stream.close()
    del stream
    iterate(unknown, 1)  # dropped at once
    run(same, 1)
    assert called == []


def test_closed_at_the_end() -> None:
    """Closing drops what was produced and not read, be it items or an error."""

    async def fail() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ValueError

    stream = iterate(fail)
    assert next(stream) == 1
    run(same, 1)  # by now the generator has failed
    stream.close()
    assert list(stream) == []


def test_generator_that_ignores_the_end() -> None:
    """A generator that makes nothing of being cancelled is ended at its next item, even if that fills the window."""
    closed, gate = [], asyncio.Event()

    async def deaf() -> AsyncIterator[int]:
        try:
            for number in range(WINDOW - 1):
                yield number
            await gate.wait()
            yield WINDOW - 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield WINDOW
            closed.append(False)
        finally:
            closed.append(True)

    async def open_gate() -> None:
        gate.set()

    with iterate(deaf) as stream:
        assert next(stream) == 0
        run(open_gate)
        run(same, 1)  # by now all but one of the places are taken
    assert closed == [True]


async def untidy() -> AsyncIterator[int]:
    """Fail to clean up."""
    try:
        while True:
            yield 1
    finally:
        raise OSError("clean-up failed")


def test_failing_clean_up() -> None:
    """An error of the clean-up is raised by close(), once."""
    stream = iterate(untidy)
    next(stream)
    with pytest.raises(OSError, match="clean-up failed"):
        stream.close()
    stream.close()


def test_failing_clean_up_of_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the clean-up of a stream that was dropped is logged, since nobody is left to raise it to."""
    for _ in iterate(untidy):
        break
    run(same, 1)
    assert [(record.name, str(record.exc_info and record.exc_info[1])) for record in caplog.records] == [
        ("asyncio", "clean-up failed")
    ]


@pytest.mark.parametrize("where", ["consumer", "thread", "loop"])
def test_garbage(where: str) -> None:
    """A stream that only the garbage collector finds is closed, whichever thread that runs in."""

    async def collect() -> None:
        gc.collect()

    source = Source(pause=True)
    stream = iterate(source)
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    gc.disable()
    try:
        del stream, cycle
        if where == "consumer":
            gc.collect()
        elif where == "thread":
            thread = threading.Thread(target=gc.collect)
            thread.start()
            thread.join()
        else:
            run(collect)
        assert source.closed.wait(PATIENCE)
    finally:
        gc.enable()


def test_closed_by_other_thread() -> None:
    """A stream closed by another thread is at its end for the one that waits for an item."""
    source = Source(pause=True)
    stream = iterate(source)
    rest: list[list[int]] = []
    assert next(stream) == 1
    thread = threading.Thread(target=lambda: rest.append(list(stream)))
    thread.start()
    stream.close()
    thread.join(PATIENCE)
    assert rest == [[]]


def test_closed_twice() -> None:
    """A clean-up that is under way is not cancelled by closing the stream again."""
    cleaning, gate, steps = threading.Event(), asyncio.Event(), []

    async def slow_to_clean() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await gate.wait()
            steps.append("cleaned")

    async def close_again() -> None:
        stream.close()

    async def open_gate() -> None:
        gate.set()

    stream = iterate(slow_to_clean)
    next(stream)
    thread = threading.Thread(target=stream.close)
    thread.start()
    assert cleaning.wait(PATIENCE)
    run(close_again)
    run(same, 1)
    run(open_gate)
    stream.close()
    thread.join(PATIENCE)
    assert steps == ["cleaned"]


# --- Ctrl-C


@posix
def test_interrupted_call(ctrl_c: Callable[[], None]) -> None:
    """Ctrl-C ends a call, and reaches the caller when its clean-up is over; an error of that is its context."""
    steps = []

    async def core() -> None:
        try:
            ctrl_c()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned")
            raise OSError("clean-up failed")

    with pytest.raises(KeyboardInterrupt) as caught:
        run(core)
    assert steps == ["cleaned"]
    assert isinstance(caught.value.__context__, OSError)
    assert run(same, 1) == 1


@posix
def test_interrupted_twice(ctrl_c: Callable[[], None]) -> None:
    """A second Ctrl-C does not wait for a clean-up that takes too long, which still runs to its end."""
    steps = []
    release, over = asyncio.Event(), asyncio.Event()

    async def core() -> None:
        try:
            ctrl_c()
            await asyncio.Event().wait()
        finally:
            ctrl_c()
            await release.wait()
            steps.append("cleaned")
            over.set()

    async def let_go() -> None:
        release.set()
        await over.wait()

    with pytest.raises(KeyboardInterrupt):
        run(core)
    assert steps == []
    run(let_go)
    assert steps == ["cleaned"]


@posix
@pytest.mark.parametrize("fails", [False, True])
def test_interrupted_stream(ctrl_c: Callable[[], None], fails: bool) -> None:
    """Ctrl-C while waiting for an item closes the generator first, and the stream is then at its end."""
    steps = []

    async def core() -> AsyncIterator[int]:
        try:
            yield 1
            ctrl_c()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("closed")
            if fails:
                raise OSError("clean-up failed")

    stream = iterate(core)
    with pytest.raises(KeyboardInterrupt) as caught:
        deque(stream)
    assert steps == ["closed"]
    assert isinstance(caught.value.__context__, OSError) == fails
    assert list(stream) == []


@posix
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_interrupted_in_a_loop(ctrl_c: Callable[[], None], library: str, stream: bool) -> None:
    """Ctrl-C reaches a nested call too, though asyncio.run() turns it into a cancelled task that nobody can wake."""
    steps = []

    async def core() -> AsyncIterator[int]:
        try:
            ctrl_c()
            await asyncio.Event().wait()
            yield 1
        finally:
            steps.append("cleaned")

    async def main() -> None:
        if stream:
            next(iterate(core, nested="thread"))
        else:
            run(lambda: anext(core()), nested="thread")

    with pytest.raises(KeyboardInterrupt):
        pytest.importorskip(library).run(main())
    assert steps == ["cleaned"]
    assert run(same, 1) == 1


@posix
def test_interrupted_stream_twice(ctrl_c: Callable[[], None]) -> None:
    """After a second Ctrl-C not even closing the stream waits for a clean-up that takes too long."""
    steps = []
    release, over = asyncio.Event(), asyncio.Event()

    async def core() -> AsyncIterator[int]:
        try:
            ctrl_c()
            await asyncio.Event().wait()
            yield 1
        finally:
            ctrl_c()
            await release.wait()
            steps.append("cleaned")
            over.set()

    async def let_go() -> None:
        release.set()
        await over.wait()

    stream = iterate(core)
    with pytest.raises(KeyboardInterrupt), stream:
        next(stream)
    assert steps == []
    run(let_go)
    assert steps == ["cleaned"]


@posix
def test_other_signals() -> None:
    """An error raised by the handler of any signal does the same as Ctrl-C."""
    source = Source(pause=True)

    async def core() -> AsyncIterator[int]:
        async for number in source():
            yield number
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    class AlarmError(Exception):
        pass

    def alarm(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGUSR1, alarm)
    try:
        with pytest.raises(AlarmError):
            deque(iterate(core))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert source.closed.wait(PATIENCE)


def test_interrupted_between_items() -> None:
    """A stream that lost an item to an interrupt ends instead of going on with a gap."""

    class Interrupted(deque[int]):
        def popleft(self) -> int:
            super().popleft()
            raise KeyboardInterrupt

    source = Source()
    stream = iterate(source)
    assert next(stream) == 1
    run(same, 1)
    stream._items = Interrupted(stream._items)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert source.closed.is_set()
    assert list(stream) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stream", [False, True])
def test_interrupted_at_the_start(monkeypatch: pytest.MonkeyPatch, when: str, stream: bool) -> None:
    """Ctrl-C just before or just after the loop is told of a call neither hangs nor leaves the call behind."""
    interrupts = [KeyboardInterrupt]

    def tell(*arguments: Any, **options: Any) -> None:
        if when == "after" or not interrupts:
            loop.call_soon_threadsafe(*arguments, **options)
        if interrupts:
            raise interrupts.pop()

    async def hang() -> None:
        await asyncio.Event().wait()

    async def hangs() -> AsyncIterator[None]:
        yield await hang()

    run(same, 1)
    first: Any = bridge._bridges[0]
    loop = first.loop
    monkeypatch.setattr(first, "loop", ChangedLoop(loop, call_soon_threadsafe=tell))
    with pytest.raises(KeyboardInterrupt):
        next(iterate(hangs)) if stream else run(hang)
    assert (interrupts, first.jobs) == ([], set())


def test_interrupted_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before a call is begun does not leave the caller waiting."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bridge._Job, "begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(same, 1)
    stream = iterate(count, 3)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert list(stream) == []


# --- many at once

CONTENDED = "when threads change that often, coverage has to wait for a lock of its own, on our loop as anywhere"


@pytest.mark.may_block(CONTENDED)
def test_many_streams() -> None:
    """Streams read by several threads at once, fast and slow on either side, lose and reorder nothing."""

    async def numbers(stop: int, rhythm: int) -> AsyncIterator[int]:
        for number in range(stop):
            if rhythm and number % rhythm == 0:
                await asyncio.sleep(0)
            yield number

    def read(rhythm: int) -> None:
        items = []
        for number in iterate(numbers, 3000, rhythm):
            items.append(number)
            if number % 500 == rhythm:
                run(same, 1)
        results.append(items)

    results: list[list[int]] = []
    at_once(*(functools.partial(read, rhythm) for rhythm in (0, 1, 2, 63, 64, 65)))
    assert results == [list(range(3000))] * 6


@pytest.mark.may_block(CONTENDED)
def test_left_anywhere() -> None:
    """A stream may be left after any number of items: it is closed each time."""

    def leave(stop: int) -> bool:
        source = Source()
        with iterate(source) as stream:
            assert [next(stream) for _ in range(stop)] == list(range(1, stop + 1))
        return source.closed.is_set()

    closed: list[bool] = []
    at_once(lambda: closed.extend(map(leave, range(3 * WINDOW))))
    assert closed == [False, *[True] * (3 * WINDOW - 1)]


@pytest.mark.may_block(CONTENDED)
def test_many_calls() -> None:
    """Calls from several threads at once each get their own result."""

    def call(name: int) -> None:
        results.append(all(run(same, (name, turn)) == (name, turn) for turn in range(200)))

    results: list[bool] = []
    at_once(*(functools.partial(call, name) for name in range(6)))
    assert results == [True] * 6


# --- fork


@posix
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork() -> None:
    """A child forked while the bridge is busy has a bridge of its own, and leaves the parent's streams alone."""
    source, busy, release = Source(), threading.Event(), threading.Event()

    async def until_release() -> str:
        busy.set()
        while not release.is_set():  # noqa: ASYNC110 (the loop is to be busy)
            await asyncio.sleep(0)
        return "released"

    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(run(until_release)))
    stream = iterate(source)
    assert next(stream) == 1
    thread.start()
    assert busy.wait(PATIENCE)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE))
        said: list[Any] = [run(same, 1), list(iterate(count, 3))]
        try:
            list(stream)
        except StreamError as error:
            said.append(str(error))
        stream.close()
        said.append(list(stream))
        del stream
        gc.collect()
        os.write(writing, repr(said).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said_by_child = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    forked = "This stream was opened before the process forked. Open a new one in the child process."
    assert said_by_child == repr([1, [0, 1, 2], forked, []])
    assert [next(stream) for _ in range(200)] == list(range(2, 202))
    stream.close()
    assert source.closed.is_set()
    release.set()
    thread.join(PATIENCE)
    assert results == ["released"]


@posix
def test_fork_leaves_quietly() -> None:
    """A forked child that leaves as a whole interpreter says nothing about what its parent had running."""
    assert "child 2\nparent 0\n" == python(
        """
        import asyncio, os, sys, threading, warnings
        from antiphon.sync.bridge import iterate, run

        async def numbers():
            for number in range(1000):
                yield number

        async def hang(started):
            started.set()
            await asyncio.sleep(1000)

        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
        started = threading.Event()
        threading.Thread(target=run, args=(hang, started), daemon=True).start()
        started.wait()
        stream = iterate(numbers)
        next(stream)
        child = os.fork()
        if not child:
            print("child", run(asyncio.sleep, 0, 2), flush=True)
            sys.exit()
        print("parent", os.waitpid(child, 0)[1])
        """
    )


# --- the interpreter's exit

EXIT = """
import asyncio, atexit, sys, threading, time
from antiphon.sync.bridge import iterate, run

started = threading.Event()

async def wait():
    try:
        started.set()
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0)
        print("cleaned")

async def numbers():
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0)
        print("cleaned")

async def one():
    await wait()
    yield 1

async def reentry():
    run(wait)

async def deaf():
    while True:
        try:
            yield 1
            await asyncio.sleep(1000)
        except (asyncio.CancelledError, GeneratorExit):
            started.set()
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    pass

async def block():
    started.set()
    time.sleep(1000)

def behind(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()
    started.wait()
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("stream = iterate(numbers); next(stream)", "cleaned\n"),
        ("cycle = [iterate(numbers)]; cycle.append(cycle); next(cycle[0])", "cleaned\n"),
        ("behind(run, wait)", "cleaned\n"),
        ("behind(run, reentry)", "cleaned\n"),
        ("behind(list, iterate(one))", "cleaned\n"),
        ("behind(run, block)", ""),
        ("stream = iterate(deaf); next(stream)", ""),
        ("atexit.register(lambda: print(run(asyncio.sleep, 0, 'late')))", "late\n"),
        ("run(asyncio.sleep, 0); atexit.register(lambda: print(run(asyncio.sleep, 0, 'late')))", "late\n"),
    ],
    ids=["stream", "garbage", "call", "reentry", "reader", "blocked", "deaf", "late start", "late"],
)
def test_exit(script: str, said: str) -> None:
    """The interpreter leaves quietly and in time whatever runs; what can clean up does."""
    assert python(f"{EXIT}\n{script}") == said


def test_exit_ends_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """At exit a thread that still waits is ended by SystemExit, which says nothing."""
    monkeypatch.setattr(bridge, "_exiting", False)
    started, outcomes = threading.Event(), []

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            run(hang)
        except BaseException as error:
            outcomes.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    assert started.wait(PATIENCE)
    bridge._clean_up()
    thread.join(PATIENCE)
    assert outcomes == [SystemExit]


def test_exit_status() -> None:
    """An open stream changes neither the status nor the reason with which a program ends."""
    assert python(f"{EXIT}\nstream = iterate(numbers); next(stream); sys.exit(3)", status=3) == "cleaned\n"


@pytest.mark.parametrize(
    "words",
    ["client.close()", "run(asyncio.sleep, 0)", "next(iterate(count))", "next(half)", "half.close()"],
)
def test_nothing_waits_while_python_shuts_down(words: str) -> None:
    """A call in a `__del__` that runs at the very end fails at once, as the threads of the loops have been stopped."""
    program = f"""
import asyncio
from antiphon import Client
from antiphon.sync.bridge import iterate, run

async def count():
    while True:
        yield 1
        await asyncio.sleep(0)

class Late:
    def __del__(self):
        try:
            {words}
        except Exception as error:
            print(type(error).__name__)
        print("over")

client, half = Client(), iterate(count)
next(half)
late = Late()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout in ("over\n", "AntiphonError\nover\n")
