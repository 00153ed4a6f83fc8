"""`ChatCompletion`: strings in, strings out."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from antiphon import ChatCompletion, configure, models
from antiphon.chat.events import ReasoningDelta, RefusalDelta, TextDelta
from antiphon.chat.messages import Message, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APITimeoutError, NestAsyncioError, StreamError
from antiphon.http.transport import Timeout
from antiphon.sync.bridge import Iteration
from antiphon.testing import Delay, Script
from tests.calling import in_loop


@pytest.mark.parametrize("function", [ChatCompletion.create, ChatCompletion.create_async])
def test_order_of_arguments(function: Callable[..., Any]) -> None:
    """The model comes first, then the messages, then the provider; all else goes by name."""
    kinds = [(p.name, p.kind.name) for p in inspect.signature(function).parameters.values()]
    assert kinds == [
        ("model", "POSITIONAL_OR_KEYWORD"),
        ("messages", "POSITIONAL_OR_KEYWORD"),
        ("provider", "POSITIONAL_OR_KEYWORD"),
        ("stream", "KEYWORD_ONLY"),
        ("params", "VAR_KEYWORD"),
    ]


def test_whole() -> None:
    """A call gives the text of the answer; its parameters reach the provider."""
    script = Script("a", "b")
    assert ChatCompletion.create("m", "hi", script, temperature=0.5, stop="x") == "ab"
    (request,) = script.requests
    assert (request.model, request.messages, request.stream) == ("m", (Message.user("hi"),), False)
    assert (request.temperature, request.stop) == (0.5, ("x",))


def test_stream() -> None:
    """A stream gives the pieces, and only those that are text of the first choice."""
    script = Script("a", "", TextDelta("other", 1), ReasoningDelta("hm"), ToolCall("c", "f"), Usage(), TextDelta("b"))
    with ChatCompletion.create("m", "hi", script, stream=True) as pieces:
        assert isinstance(pieces, Iteration)
        assert list(pieces) == ["a", "b"]
    assert script.requests[0].stream


@pytest.mark.parametrize("steps", [(RefusalDelta("no"),), (ToolCall("c", "f"),)], ids=["refusal", "tool-call"])
def test_no_text(steps: tuple[Any, ...]) -> None:
    """An answer without text is an empty string, and a stream of nothing."""
    assert ChatCompletion.create("m", "hi", Script(*steps)) == ""
    assert list(ChatCompletion.create("m", "hi", Script(*steps), stream=True)) == []


def test_leaving_a_stream() -> None:
    """A stream that is left ends the provider before control returns."""
    script = Script("a", "b", Delay(60))
    for _ in ChatCompletion.create("m", "hi", script, stream=True):
        break
    assert script.open == 0


@pytest.mark.anyio
async def test_async() -> None:
    """The async call is awaited for the text, or iterated over for its pieces."""
    script = Script("a", "b")
    awaitable = ChatCompletion.create_async("m", "hi", script)
    assert isinstance(awaitable, Awaitable)
    assert await awaitable == "ab"
    pieces = ChatCompletion.create_async("m", "hi", script, stream=True)
    assert isinstance(pieces, AsyncIterator)
    assert [piece async for piece in pieces] == ["a", "b"]
    async with aclosing(ChatCompletion.create_async("m", "hi", Script("a", Delay(60)), stream=True)) as pieces:  # type: ignore[type-var]
        assert await anext(pieces) == "a"


def test_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a provider of one's own the default is passed on as it is: an empty name."""
    script = Script("a")
    ChatCompletion.create(models.default, "hi", script)
    assert script.requests[0].model == ""


def test_errors() -> None:
    """Errors are those of every face."""
    with pytest.raises(StreamError, match="cut") as caught:
        ChatCompletion.create("m", "hi", Script("a", StreamError("cut")))
    assert caught.value.received.content == "a"
    with pytest.raises(TypeError, match="temperature"):
        ChatCompletion.create("m", "hi", Script("a"), temprature=1)  # type: ignore[call-overload]
    with pytest.raises(APITimeoutError):
        ChatCompletion.create("m", "hi", Script("a", Delay(60)), timeout=Timeout(total=0.02))


def test_nesting() -> None:
    """In a running loop it does what `configure` says."""

    async def main() -> str:
        return ChatCompletion.create("m", "hi", Script("a"))

    with pytest.raises(NestAsyncioError):
        in_loop(main())
    configure(nested="thread")
    try:
        assert in_loop(main()) == "a"
    finally:
        configure(nested=None)
