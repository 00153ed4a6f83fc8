"""The seed's own behaviours: three kinds of provider, asked from blocking code, from async code and nested.

The seed is a review of a test module; these are its tests, written as the review recommends, and its module itself.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon import AsyncClient, ChatCompletion, Client, configure, models
from antiphon.errors import NestAsyncioError
from antiphon.testing import AsyncGeneratorProviderMock, AsyncProviderMock, ProviderMock
from tests import recordings
from tests.calling import in_loop

MESSAGES = [{"role": "user", "content": "Hello"}]
ROOT = Path(__file__).parents[1]
MOCKS = [ProviderMock, AsyncProviderMock, AsyncGeneratorProviderMock]

kinds = pytest.mark.parametrize("provider", MOCKS, ids=lambda mock: mock.__name__)


def create(provider: Any) -> str:
    """The blocking call, whole."""
    return ChatCompletion.create(models.default, MESSAGES, provider)


def create_stream(provider: Any) -> str:
    """The blocking call, as a stream."""
    return "".join(ChatCompletion.create(models.default, MESSAGES, provider, stream=True))


def client_create(provider: Any) -> str:
    """The blocking client, with the limit that the seed sets: 0, which is none."""
    with Client(provider=provider) as client:
        answer = client.chat.completions.create(MESSAGES, "", max_tokens=0)
    return answer.choices[0].message.content or ""


def client_stream(provider: Any) -> str:
    """The blocking client, as a stream."""
    with Client(provider=provider) as client:
        chunks = list(client.chat.completions.create(MESSAGES, "", stream=True))
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


BLOCKING: list[Callable[[Any], str]] = [create, create_stream, client_create, client_stream]

blocking = pytest.mark.parametrize("ask", BLOCKING)


async def create_async(provider: Any) -> str:
    """The async call, whole."""
    return await ChatCompletion.create_async(models.default, MESSAGES, provider)


async def create_async_stream(provider: Any) -> str:
    """The async call, as a stream."""
    stream = ChatCompletion.create_async(models.default, MESSAGES, provider, stream=True)
    return "".join([piece async for piece in stream])


async def client_async(provider: Any) -> str:
    """The async client, whole."""
    async with AsyncClient(provider=provider) as client:
        return (await client.chat.completions.create(MESSAGES, "", max_tokens=0)).choices[0].message.content or ""


async def client_async_stream(provider: Any) -> str:
    """The async client, as a stream."""
    async with AsyncClient(provider=provider) as client:
        chunks = [chunk async for chunk in client.chat.completions.create(MESSAGES, "", stream=True)]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


asynchronous = pytest.mark.parametrize("ask", [create_async, create_async_stream, client_async, client_async_stream])


@pytest.fixture(autouse=True)
def _default_nesting() -> Iterator[None]:
    yield
    configure(nested=None)


@kinds
@blocking
def test_create(ask: Callable[[Any], str], provider: Any) -> None:
    """Blocking code gets an answer from every kind of provider."""
    assert ask(provider) == "Mock"


@kinds
@asynchronous
@pytest.mark.anyio
async def test_create_async(ask: Callable[[Any], Any], provider: Any) -> None:
    """Async code gets an answer from every kind of provider."""
    assert await ask(provider) == "Mock"


@kinds
@blocking
def test_exception(ask: Callable[[Any], str], provider: Any) -> None:
    """A blocking call inside a running loop is refused, whatever the provider, with the ways out in the message."""

    async def run_exception() -> str:
        return ask(provider)

    with pytest.raises(NestAsyncioError, match="event loop is running") as caught:
        asyncio.run(run_exception())
    assert isinstance(caught.value, RuntimeError)
    assert "create_async" in str(caught.value)
    assert 'nested="thread"' in str(caught.value)


@kinds
@blocking
@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_nested(ask: Callable[[Any], str], provider: Any, uvloop: bool) -> None:
    """Where nesting is allowed, a blocking call inside a running loop works: the loop waits, and then goes on."""
    configure(nested="thread")

    async def main() -> str:
        answer = ask(provider)
        await asyncio.sleep(0)
        return answer

    assert in_loop(main(), uvloop=uvloop) == "Mock"


PATCHED = """
    import asyncio, logging
    import {patch} as nest_asyncio

    nest_asyncio.apply()
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s", force=True)

    from tests.test_seed import BLOCKING, MOCKS, client_async, create_async, create_async_stream

    async def main():
        for provider in MOCKS:
            for ask in BLOCKING:  # the seed's two disabled tests are the first of these, with two of the mocks
                print(ask(provider))
            for ask in (create_async, create_async_stream, client_async):
                print(await ask(provider))

    asyncio.run(main())
    print(BLOCKING[0](MOCKS[0]))
"""


@pytest.mark.parametrize("patch", ["nest_asyncio", "nest_asyncio2"])
def test_nested_in_a_patched_loop(patch: str) -> None:
    """In a loop that nest_asyncio patched, which is done to a process for good, blocking and async calls all work."""
    pytest.importorskip(patch)
    # nest_asyncio itself uses what Python is about to drop, so that warnings are not errors here.
    command = [sys.executable, "-c", textwrap.dedent(PATCHED.format(patch=patch))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.stdout.split() == ["Mock"] * (3 * 7 + 1), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("antiphon ")]
    assert len(lines) == 3 * 7 + 1
    assert all(line.endswith("outcome=ok") for line in lines)


@kinds
@blocking
def test_log(ask: Callable[[Any], str], provider: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Every call leaves one line in the log, which tells who answered and how it went."""
    caplog.set_level(logging.INFO, "antiphon")
    ask(provider)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "antiphon"]
    assert line.startswith(f"chat provider={provider.__name__} model=- duration=")
    assert line.endswith(" outcome=ok")


class FailingMock:
    """A provider that fails with an error of its own."""

    @classmethod
    def create_completion(cls, model: str, messages: Any, **params: Any) -> Iterator[str]:
        """Fail after the first piece."""
        yield "Mo"
        raise ConnectionResetError("ck")


@blocking
def test_error_of_a_provider(ask: Callable[[Any], str], caplog: pytest.LogCaptureFixture) -> None:
    """A provider's own error reaches the blocking caller as it is, and its class the log."""
    caplog.set_level(logging.INFO, "antiphon")
    with pytest.raises(ConnectionResetError, match="ck"):
        ask(FailingMock)
    assert caplog.records[-1].getMessage().endswith(" outcome=ConnectionResetError")


@asynchronous
@pytest.mark.anyio
async def test_error_of_a_provider_async(ask: Callable[[Any], Any], caplog: pytest.LogCaptureFixture) -> None:
    """So it reaches the async caller."""
    caplog.set_level(logging.INFO, "antiphon")
    with pytest.raises(ConnectionResetError, match="ck"):
        await ask(FailingMock)
    assert caplog.records[-1].getMessage().endswith(" outcome=ConnectionResetError")


@pytest.mark.parametrize(("option", "skipped"), [((), 1), (("--no-nest",), 3)], ids=["nest", "no-nest"])
def test_the_seeds_own_module(option: tuple[str, ...], skipped: int) -> None:
    """The seed's test module, taken verbatim from the review, passes with and without nest_asyncio."""
    script = recordings.SHARED / "acceptance" / "run_seed.py"
    if not script.is_file():
        pytest.skip(f"no {script}")
    done = subprocess.run(
        [sys.executable, str(script), *option], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{10 - skipped} passed, 0 failed, {skipped} skipped"
