"""The line before a local model and the threads that work it off, with a stand-in for llama.cpp."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from antiphon.errors import APIConnectionError, LocalModelError, StreamError
from antiphon.providers.local import download
from antiphon.providers.local import queue as engines
from antiphon.providers.local.llama_cpp import Settings
from antiphon.providers.local.queue import Engine, Job
from tests.local_models import PATIENCE, Gate, Puppet, gate, last, piece, puppet, workers

__all__ = ["gate", "puppet"]

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


def engine_of(parallel: int = 1) -> Engine:
    return Engine(Path("m.gguf"), Settings(name="m", context=64, parallel=parallel))


def put(engine: Engine, *texts: str) -> list[Job]:
    """Submit questions, in this order."""
    jobs = [Job(json.dumps({"messages": [{"content": text}]}).encode()) for text in texts]
    for job in jobs:
        engine.submit(job)
    return jobs


async def end(*jobs: Job) -> None:
    """Wait until all are finished."""
    with anyio.fail_after(PATIENCE):
        for job in jobs:
            while not job.finished:
                await job.changed()


async def test_answer(puppet: Puppet) -> None:
    """An answer comes as server-sent events; reports on the prompt are kept out of it."""
    progress = b'{"choices":[{"delta":{}}],"prompt_progress":{"total":3}}'
    text = 'a "prompt_progress": b'
    puppet.script = lambda _: iter((progress, piece(text), progress, last()))
    [job] = put(engine_of(), "x")
    await end(job)
    assert (job.status, job.failure) == (200, None)
    assert b"".join(job.pieces) == b"data: %b\n\ndata: %b\n\n" % (piece(text), last())


async def test_first_come_first_served(puppet: Puppet, gate: Gate) -> None:
    """Jobs are done one by one, in the order in which they came, on one load and one thread that ends with them."""

    def script(text: str) -> Iterator[bytes]:
        gate.wait()
        yield last()

    puppet.script = script
    engine = engine_of()
    jobs = put(engine, "0")
    await gate.reached()
    jobs += put(engine, *"123456789")
    assert len(workers()) == 1
    gate.open()
    await end(*jobs)
    assert puppet.asked == list("0123456789")
    assert (puppet.at_once, puppet.loads) == (1, 1)


async def test_several_at_once(puppet: Puppet, gate: Gate) -> None:
    """As many jobs as wanted are done at once, and no more, whether they wait for the load or come later."""
    both = threading.Barrier(2)

    def script(text: str) -> Iterator[bytes]:
        both.wait(PATIENCE)
        yield last()

    puppet.script, puppet.before_load = script, gate.wait
    engine = engine_of(parallel=2)
    jobs = put(engine, "0", "1", "2", "3")
    await gate.reached()
    assert len(workers()) == 1
    gate.open()
    await end(*jobs)
    await end(*put(engine, "4", "5", "6", "7"))
    assert (puppet.at_once, puppet.loads) == (2, 1)


async def test_a_failed_load_is_told_to_all_and_tried_again(puppet: Puppet, gate: Gate) -> None:
    """Each that waits gets the error as its own; the next job loads anew."""

    def fail() -> None:
        gate.wait()
        raise LocalModelError("It is broken.")

    puppet.before_load = fail
    engine = engine_of(parallel=2)
    jobs = put(engine, "0", "1", "2")
    await gate.reached()
    gate.open()
    await end(*jobs)
    assert [str(job.failure) for job in jobs] == ["It is broken."] * 3
    assert len({id(job.failure) for job in jobs}) == 3
    puppet.before_load = lambda: None
    [job] = put(engine, "3")
    await end(job)
    assert (job.failure, puppet.asked) == (None, ["3"])


async def test_leave_the_line(puppet: Puppet, gate: Gate) -> None:
    """A job that is given up before its turn is gone at once, and llama.cpp never hears of it."""

    def script(text: str) -> Iterator[bytes]:
        gate.wait()
        yield last()

    puppet.script = script
    engine = engine_of()
    first, second, third = put(engine, "0", "1", "2")
    await gate.reached()
    await engine.leave(second)
    gate.open()
    await end(first, third)
    assert (puppet.asked, second.finished) == (["0", "2"], False)


async def test_leave_while_loading(puppet: Puppet, gate: Gate) -> None:
    """A job may be given up while the model loads; the load goes on, and serves the next."""
    puppet.before_load = gate.wait
    engine = engine_of()
    [job] = put(engine, "0")
    await gate.reached()
    await engine.leave(job)
    [other] = put(engine, "1")
    gate.open()
    await end(other)
    assert (puppet.asked, puppet.loads) == (["1"], 1)


async def test_leave_under_way(puppet: Puppet, gate: Gate) -> None:
    """A job under way is stopped by its next piece, or the next report on its prompt, and over when that is done."""

    def script(text: str) -> Iterator[bytes]:
        yield piece("a")
        gate.wait()
        while True:
            yield b'{"choices":[],"prompt_progress":{}}'

    puppet.script = script
    engine = engine_of()
    [job] = put(engine, "0")
    await gate.reached()
    gate.open()
    await engine.leave(job)
    assert (job.finished, puppet.stopped) == (True, ["0"])


async def test_leave_after_the_end(puppet: Puppet) -> None:
    """To leave what is over does nothing."""
    engine = engine_of()
    [job] = put(engine, "0")
    await end(job)
    await engine.leave(job)
    assert puppet.stopped == []


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (ValueError("no such role"), 400),
        (RuntimeError("no such role"), 500),
        (b'{"error":{"code":400,"message":"no such role"}}', 400),
        (b'{"error":{"code":503,"message":"no such role"}}', 503),
        (b'{"error":{"message":"no such role"}}', 500),
        (b'{"error":"no such role"}', 500),
    ],
)
async def test_refusals(fault: Any, status: int, puppet: Puppet) -> None:
    """What llama.cpp refuses becomes the error reply that it gives over HTTP."""
    puppet.script = lambda _: iter((fault,))
    [job] = put(engine_of(), "x")
    await end(job)
    assert (job.status, job.failure) == (status, None)
    assert "no such role" in str(json.loads(b"".join(job.pieces))["error"])


@pytest.mark.parametrize("fault", [ValueError("no more"), RuntimeError("no more")])
async def test_broken_off(fault: Exception, puppet: Puppet) -> None:
    """An error after the first piece ends the answer with a `StreamError`."""
    puppet.script = lambda _: iter((piece("a"), fault))
    [job] = put(engine_of(), "x")
    await end(job)
    assert isinstance(job.failure, StreamError)
    assert "no more" in str(job.failure)
    assert len(job.pieces) == 1


@pytest.mark.parametrize("fault", [b"not JSON", MemoryError()])
async def test_other_faults_are_carried_out(fault: Any, puppet: Puppet) -> None:
    """Whatever else goes wrong in a worker, inside the callback too, reaches the caller; the worker goes on."""
    puppet.script = lambda text: iter((fault if text == "0" else last(),))
    first, second = put(engine_of(), "0", "1")
    await end(first, second)
    assert first.failure is not None
    assert (second.status, second.failure) == (200, None)


async def test_a_loop_that_waits_holds_nobody_up(puppet: Puppet, anyio_backend: str) -> None:
    """While a loop is blocked, its answer is made to the end, and those behind it in the line get theirs."""
    puppet.script = lambda text: iter((*[piece("a")] * 1000, last()))
    engine = engine_of()
    [mine] = put(engine, "mine")

    async def other() -> None:
        await end(*put(engine, "other"))

    thread = threading.Thread(target=lambda: anyio.run(other))
    thread.start()
    thread.join(PATIENCE)  # blocks this loop
    assert not thread.is_alive()
    assert (puppet.asked, len(mine.pieces)) == (["mine", "other"], 1001)


def test_a_loop_that_is_gone_stops_its_jobs(puppet: Puppet, gate: Gate, anyio_backend: str) -> None:
    """When the loop that asked is closed, the generation stops by itself, before or after its first piece."""

    def script(text: str) -> Iterator[bytes]:
        gate.wait()
        while True:
            yield piece("a")

    async def asks() -> None:
        put(engine, "0", "1")
        await gate.reached()

    puppet.script = script
    engine = engine_of()
    anyio.run(asks, backend=anyio_backend)
    gate.open()
    for worker in workers():
        worker.join(PATIENCE)
    assert (puppet.asked, puppet.stopped) == (["0"], ["0"])


async def test_close(puppet: Puppet, gate: Gate) -> None:
    """Closing stops what is under way, sends the rest home, frees the model, and a later job loads it again."""

    def script(text: str) -> Iterator[bytes]:
        while text == "0":
            yield piece("a")
            gate.wait()
        yield last()

    puppet.script = script
    engine = engine_of()
    first, second = put(engine, "0", "1")
    await gate.reached()
    gate.open()
    await anyio.to_thread.run_sync(engine.close)
    assert [str(job.failure) for job in (first, second)] == [
        "The local model was closed while the call was under way."
    ] * 2
    assert (first.finished, second.finished, puppet.stopped, engine.llama) == (True, True, ["0"], None)
    [third] = put(engine, "2")
    await end(third)
    assert (third.failure, puppet.asked, puppet.loads) == (None, ["0", "2"], 2)


async def test_close_frees_the_server(puppet: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing holds llama.cpp's server any more after closing."""
    servers: list[weakref.ref[Puppet]] = []

    def load(*arguments: Any, **options: Any) -> Any:
        server = Puppet()
        servers.append(weakref.ref(server))
        return server.load(*arguments, **options)

    monkeypatch.setattr("antiphon.providers.local.llama_cpp.load", load)
    engine = engine_of()
    await end(*put(engine, "0"))
    await anyio.to_thread.run_sync(engine.close)
    gc.collect()
    assert [server() for server in servers] == [None]


async def test_close_does_not_wait_for_a_fetch(puppet: Puppet, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file is fetched, closing sends home who waits and returns; the fetch goes on, but no load follows."""

    def fetch() -> Path:
        gate.wait()
        return Path("m.gguf")

    monkeypatch.setattr(download, "fetch_with_bar", fetch)
    engine = Engine(None, Settings(name="m", context=64, parallel=1))
    [job] = put(engine, "0")
    await gate.reached()
    await anyio.to_thread.run_sync(engine.close)
    assert isinstance(job.failure, StreamError)
    fetching = workers()
    gate.open()
    for worker in fetching:
        await anyio.to_thread.run_sync(worker.join, PATIENCE)
    assert (puppet.loads, engine.llama) == (0, None)
    [other] = put(engine, "1")
    await end(other)
    assert (puppet.asked, puppet.loads) == (["1"], 1)


@pytest.mark.parametrize("fails", [False, True], ids=["loads", "fails"])
async def test_close_while_loading(puppet: Puppet, gate: Gate, fails: bool) -> None:
    """A model that is being loaded when its engine is closed is of no account any more; the next job loads its own."""

    def load() -> None:
        gate.wait()
        puppet.before_load = lambda: None
        if fails:
            raise LocalModelError("It is broken.")

    puppet.before_load = load
    engine = engine_of()
    [job] = put(engine, "0")
    await gate.reached()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, engine.close)
        await end(job)
        assert isinstance(job.failure, StreamError)
        gate.open()
    assert (puppet.asked, engine.llama) == ([], None)
    [other] = put(engine, "1")
    await end(other)
    assert (other.failure, puppet.asked, puppet.loads) == (None, ["1"], 1 if fails else 2)


async def test_close_under_steady_demand(puppet: Puppet, gate: Gate) -> None:
    """A worker that was dismissed leaves what came after that to a new one, which loads anew."""

    def script(text: str) -> Iterator[bytes]:
        if text == "0":
            gate.wait()
        yield last()

    puppet.script = script
    engine = engine_of()
    [first] = put(engine, "0")
    await gate.reached()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, engine.close)
        with anyio.fail_after(PATIENCE):
            while engine.llama is not None:
                await anyio.lowlevel.checkpoint()
        [second] = put(engine, "1")
        await end(second)
        gate.open()
    await end(first)
    assert isinstance(first.failure, StreamError)
    assert (second.failure, puppet.loads, engine.llama is None) == (None, 2, False)


async def test_exit(puppet: Puppet, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """At interpreter exit all is stopped and freed, and threads that still wait or ask are ended silently."""

    def script(text: str) -> Iterator[bytes]:
        while True:
            yield piece("a")
            gate.wait()

    monkeypatch.setattr(engines, "_engines", weakref.WeakSet[Engine]())
    monkeypatch.setattr(engines, "_exiting", False)
    puppet.script = script
    engine = engine_of()
    first, second = put(engine, "0", "1")
    await gate.reached()
    gate.open()
    await anyio.to_thread.run_sync(engines._at_exit)
    assert [type(job.failure) for job in (first, second)] == [SystemExit, SystemExit]
    assert (puppet.stopped, engine.llama) == (["0"], None)
    with pytest.raises(SystemExit):
        put(engine, "2")


async def test_exit_while_fetching(puppet: Puppet, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that ends when the interpreter is exiting is not followed by a load."""

    def fetch() -> Path:
        gate.wait()
        return Path("m.gguf")

    monkeypatch.setattr(engines, "_engines", weakref.WeakSet[Engine]())
    monkeypatch.setattr(engines, "_exiting", False)
    monkeypatch.setattr(download, "fetch_with_bar", fetch)
    [job] = put(Engine(None, Settings(name="m", context=64, parallel=1)), "0")
    await gate.reached()
    await anyio.to_thread.run_sync(engines._at_exit)
    gate.open()
    for worker in workers():
        await anyio.to_thread.run_sync(worker.join, PATIENCE)
    assert (type(job.failure), puppet.loads) == (SystemExit, 0)


async def test_forked_child(puppet: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process forked from one that had used a local model, a call is refused at once."""
    monkeypatch.setattr(engines, "_forked", True)
    with pytest.raises(APIConnectionError, match=r"forked .* 'spawn'"):
        put(engine_of(), "0")
    assert puppet.asked == []
