"""The local model in a process of its own: what becomes of calls when that process ends or does not stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from antiphon.chat.embeddings import EmbeddingRequest
from antiphon.chat.events import TextDelta
from antiphon.errors import BadRequestError, InternalServerError, LocalModelError, ModelNotFoundError, StreamError
from antiphon.providers.base import Call
from antiphon.providers.local import isolated
from antiphon.providers.local.isolated import IsolatedEngine
from antiphon.providers.local.model import LocalModel
from tests.local_models import PATIENCE, ask, events_of, question

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

DEADLY = {"openai-chat": {"grammar": "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000}}
"""What ends llama.cpp's process: its parser of grammars calls itself for each parenthesis."""
ENDLESS = {"openai-chat": {"grammar": 'root ::= "b" ((("a"{0,9}){0,9}){0,20})'}}
"""What it takes two minutes over, without a sign of life."""


@pytest.fixture
def model(model_file: Path) -> Iterator[LocalModel]:
    """The default model in a process of its own."""
    model = LocalModel(isolated=True)
    yield model
    model.close()


def child_of(model: LocalModel) -> int:
    """The id of the process of the model for chat."""
    assert isinstance(model._engine, IsolatedEngine)
    keeper = model._engine._keeper
    assert keeper is not None
    assert keeper.child is not None
    return keeper.child


async def until_stuck(model: LocalModel) -> None:
    """Wait until llama.cpp computes for half a second of its own time without a sign of life."""
    assert isinstance(model._engine, IsolatedEngine)
    keeper = model._engine._keeper
    assert keeper is not None
    process = child_of(model)
    moved: list[float] = []
    used = 0.0
    while not moved or cpu_seconds(process) - used < 0.5:
        now = [job.moved for job in keeper._jobs.values()]
        if now != moved:
            moved, used = now, cpu_seconds(process)
        await anyio.sleep(0.02)


def cpu_seconds(process: int) -> float:
    """The time that a process has computed for."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_there(process: int) -> bool:
    """Whether there is a process of that id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def listening(process: int) -> list[list[str]]:
    """The TCP sockets at which a process listens, as rows of the system's table."""
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{process}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


async def test_the_same_answer_as_in_this_process(model: LocalModel, model_file: Path) -> None:
    """An answer is the same, in as many pieces; xllamacpp is not imported for it, and no port is listened at."""
    inside = LocalModel()
    expected = [event.text for event in await events_of(inside, question()) if isinstance(event, TextDelta)]
    await anyio.to_thread.run_sync(inside.close)
    assert expected
    assert expected == [event.text for event in await events_of(model, question()) if isinstance(event, TextDelta)]
    assert listening(child_of(model)) == []


async def test_a_process_that_dies_fails_its_calls_alone(model: LocalModel) -> None:
    """The call that llama.cpp died of fails, may be tried again, and those that wait are answered by the next one."""
    await ask(model, question())
    first = child_of(model)
    failures: list[BaseException] = []
    answers: list[str | None] = []

    async def deadly() -> None:
        try:
            await ask(model, question(extra=DEADLY))
        except InternalServerError as error:
            failures.append(error)

    async def good() -> None:
        answers.append((await ask(model, question())).content)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(deadly)
            group.start_soon(good)
    [failure] = failures
    assert isinstance(failure, InternalServerError)
    assert (failure.provider, failure.retryable, failure.status) == ("local", True, 500)
    assert "started anew" in str(failure)
    assert answers == [(await ask(model, question())).content]
    assert child_of(model) != first


async def test_killed_in_a_stream(model: LocalModel) -> None:
    """A stream whose process is killed ends with an error, never as if it were complete."""
    killed = 0
    with pytest.raises(InternalServerError, match="ended while it was at the call"):  # noqa: PT012 - one stream
        async for event in model(question(max_tokens=2000, temperature=None), Call()):
            if isinstance(event, TextDelta) and not killed:
                killed = child_of(model)
                os.kill(killed, signal.SIGKILL)
    assert killed
    assert (await ask(model, question())).content


async def test_a_call_that_does_not_stop(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where llama.cpp does not stop for a call that was given up, its process is ended, and the next call answered."""
    monkeypatch.setattr(isolated, "_STOP_SECONDS", 0.5)
    monkeypatch.setattr(isolated, "_MAX_STOP_SECONDS", 0.5)
    await ask(model, question())
    first = child_of(model)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, model, question(extra=ENDLESS))
            await until_stuck(model)
            group.cancel_scope.cancel()
        assert (await ask(model, question())).content
    assert not is_there(first)


async def test_a_call_in_which_nothing_happens(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call in which nothing happens for too long fails by itself, however patient its caller."""
    await ask(model, question())
    monkeypatch.setattr(isolated, "_STALL_SECONDS", 1.0)
    with anyio.fail_after(PATIENCE), pytest.raises(InternalServerError, match="nothing happened for too long"):
        await ask(model, question(extra=ENDLESS))


async def test_close_ends_the_process_at_once(model: LocalModel) -> None:
    """Closing ends the process whatever it is at; the next call starts another."""
    await ask(model, question())
    first = child_of(model)
    began = time.monotonic()
    async with anyio.create_task_group() as group:

        async def endless() -> None:
            with pytest.raises(StreamError, match="was closed"):
                await ask(model, question(extra=ENDLESS))

        group.start_soon(endless)
        await anyio.sleep(0.2)
        await anyio.to_thread.run_sync(model.close)
    assert not is_there(first)
    assert time.monotonic() - began < 5
    assert (await ask(model, question())).content


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_process_ends_with_its_parent(model_file: Path) -> None:
    """A process whose parent is killed is gone soon after, even where llama.cpp is at a call that does not end."""
    code = f"""
import anyio
from antiphon.providers.local.model import LocalModel
from tests.local_models import ask, question
model = LocalModel(isolated=True)
async def main():
    await ask(model, question())
    print(model._engine._keeper.child, flush=True)
    await ask(model, question(extra={ENDLESS!r}))
anyio.run(main)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_there(child)
        parent.kill()
    deadline = time.monotonic() + PATIENCE / 3
    while is_there(child) and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_files_that_cannot_be_loaded(tmp_path: Path, model_file: Path) -> None:
    """What is wrong with a file is said as in this process, and each call looks anew."""
    path = tmp_path / "m.gguf"
    model = LocalModel(path, isolated=True)
    with pytest.raises(ModelNotFoundError, match="There is no file"):
        await ask(model, question())
    path.write_bytes(b"something else")
    with pytest.raises(LocalModelError, match="not a GGUF file"):
        await ask(model, question())
    path.write_bytes(model_file.read_bytes()[:100_000])  # noqa: ASYNC240 - it is cut short on purpose
    with pytest.raises(LocalModelError, match="cannot load"):
        await ask(model, question())


async def test_processes_that_end_at_once_are_started_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends before it has loaded is an error of the file, and the next waits longer and longer."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(isolated, "_CODE", "raise SystemExit(3) # {path!r} {handle} {parent}")
    monkeypatch.setattr(isolated, "_MAX_PAUSE", 1.5)
    model = LocalModel(path, isolated=True)
    took: list[float] = []
    for _ in range(4):
        began = time.monotonic()
        with pytest.raises(LocalModelError, match="ended while it loaded"):
            await ask(model, question())
        took.append(time.monotonic() - began)
    assert took[2] > 1.0
    assert took[3] > 1.5
    assert took[0] < 1.0


async def test_embeddings_give_way(model: LocalModel) -> None:
    """While many texts are turned into vectors, those of another caller have their turn; given up, the work stops."""
    await model.embed(EmbeddingRequest("", ("x",)), Call())
    many = EmbeddingRequest("", ("word",) * 20_000)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(model.embed, many, Call())
            await anyio.sleep(0.1)
            assert len((await model.embed(EmbeddingRequest("", ("y",)), Call())).vectors) == 1
            group.cancel_scope.cancel()
        assert len((await model.embed(EmbeddingRequest("", ("z",)), Call())).vectors) == 1


async def test_embeddings_in_portions_are_in_order(model: LocalModel) -> None:
    """Texts that are asked for in several portions give the vectors that each gives alone, and all of their tokens."""
    texts = tuple(f"text number {n}" for n in range(70))
    whole = await model.embed(EmbeddingRequest("", texts), Call())
    assert [item.index for item in whole.data] == list(range(70))
    last = await model.embed(EmbeddingRequest("", texts[-1:]), Call())
    assert whole.vectors[-1] == pytest.approx(last.vectors[0], abs=1e-3)
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 70 * 3


async def test_its_own_http_server_is_not_to_be_had(model: LocalModel) -> None:
    """The base URL of llama.cpp's own server is refused: it does not listen there."""
    with pytest.raises(LocalModelError, match="process of its own"):
        await model.http()


async def test_bad_requests_cross_the_process(model: LocalModel) -> None:
    """What llama.cpp refuses is a `BadRequestError` as in this process."""
    with pytest.raises(BadRequestError):
        await ask(model, question("word " * 5000))
