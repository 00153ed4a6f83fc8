"""One answer, whoever makes it, however it is asked for: every kind of provider in every calling style, both ways."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio.lowlevel
import pytest

from antiphon import Completion
from antiphon.chat.events import UsageUpdate
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.providers.local.model import DEFAULT_NAME
from antiphon.testing import Upstream
from tests.calling import WAYS, Asked, Question, Way
from tests.local_models import local

__all__ = ["local"]

PIECES = ("Hello", " there,", " 世界")
TEXT = "".join(PIECES)
USAGE = Usage(input_uncached=3, output_visible=2)


def function(request: ChatRequest) -> Completion:
    """A blocking function."""
    return Completion.of(TEXT, usage=USAGE)


async def coroutine(request: ChatRequest) -> Completion:
    """A coroutine function."""
    await anyio.lowlevel.checkpoint()
    return Completion.of(TEXT, usage=USAGE)


def generator(request: ChatRequest) -> Iterator[Any]:
    """A blocking generator."""
    yield from PIECES
    yield UsageUpdate(USAGE)


async def async_generator(request: ChatRequest) -> AsyncIterator[Any]:
    """An async generator."""
    for piece in (*PIECES, UsageUpdate(USAGE)):
        await anyio.lowlevel.checkpoint()
        yield piece


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A server that says the same."""
    with Upstream(TEXT) as upstream:
        yield upstream


@pytest.fixture(params=["function", "coroutine", "generator", "async_generator", "upstream", "local"])
def question(request: pytest.FixtureRequest, upstream: Upstream) -> Question:
    """The question, to each kind of provider."""
    if request.param == "upstream":
        return Question({"base_url": upstream.base_url})
    if request.param == "local":
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
        return Question({"provider": "local"}, messages, "", {"temperature": 0, "max_tokens": 4})
    return Question({"provider": globals()[request.param]})


@pytest.fixture(params=WAYS)
def call(request: pytest.FixtureRequest) -> Way:
    """Each calling style."""
    return WAYS[request.param]


_local: list[Asked] = []


@pytest.mark.usefixtures("local", "no_leaks")
def test_parity(call: Way, question: Question) -> None:
    """Text, reason and usage are the same whole and streamed, in every style; nothing is left behind."""
    whole, streamed = call(question, stream=False), call(question, stream=True)
    assert whole == streamed
    if question.options.get("provider") == "local":
        _local.append(whole)
        assert whole == _local[0]
        assert (whole.finish_reason, whole.provider, whole.model) == ("length", "local", DEFAULT_NAME)
        assert whole.text
        assert whole.tokens is not None
        assert whole.tokens[1] == 4
    else:
        assert whole[:3] == (TEXT, "stop", (3, 2))
        assert whole.model == "m"


def test_every_way_is_a_way_of_its_own() -> None:
    """The styles are what they are called: some have a running loop, some another thread, some uvloop."""
    seen: list[tuple[bool, bool, bool]] = []

    class Noting(Question):
        def note(self) -> None:
            """Note where the client is called."""
            try:
                loop: Any = asyncio.get_running_loop()
            except RuntimeError:
                loop = None
            here = threading.current_thread() is threading.main_thread()
            seen.append((loop is not None, here, "uvloop" in type(loop).__module__))

        def blocking(self, *, stream: bool, nested: Any = None) -> Asked:
            """Call the blocking client."""
            self.note()
            return super().blocking(stream=stream, nested=nested)

        async def asynchronous(self, *, stream: bool) -> Asked:
            """Call the async client."""
            self.note()
            return await super().asynchronous(stream=stream)

    for way in WAYS.values():
        way(Noting({"provider": function}), stream=False)
    expected = {
        "sync": (False, True, False),
        "async": (True, True, False),
        "nested": (True, True, False),
        "thread": (False, False, False),
        "uvloop": (True, True, True),
        "nested-uvloop": (True, True, True),
    }
    assert dict(zip(WAYS, seen, strict=True)) == {name: expected[name] for name in WAYS}
