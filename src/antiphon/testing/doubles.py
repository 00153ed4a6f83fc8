"""Small real providers for tests: `ProviderMock` and its kin, and `Script`, which plays a list of steps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, TypeAlias

import anyio
import msgspec

from antiphon.chat.events import End, Event, Start, TextDelta, ToolCallDelta, UsageUpdate
from antiphon.chat.messages import FinishReason, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.providers.base import Call, Clock

__all__ = ["AsyncGeneratorProviderMock", "AsyncProviderMock", "Delay", "ProviderMock", "Script"]


class ProviderMock:
    """A blocking provider that says "Mock"."""

    @classmethod
    def create_completion(cls, model: str, messages: list[dict[str, Any]], **params: Any) -> Iterator[str]:
        """Give the one piece of the answer."""
        yield "Mock"


class AsyncProviderMock:
    """A coroutine provider that says "Mock"."""

    @classmethod
    async def create_async(cls, model: str, messages: list[dict[str, Any]], **params: Any) -> str:
        """Return the answer."""
        return "Mock"


class AsyncGeneratorProviderMock:
    """An async-generator provider that says "Mock"."""

    @classmethod
    async def create_async_generator(
        cls, model: str, messages: list[dict[str, Any]], **params: Any
    ) -> AsyncGenerator[str, None]:
        """Give the one piece of the answer."""
        yield "Mock"


class Delay(msgspec.Struct, frozen=True):
    """A step of a `Script` that waits."""

    seconds: float


Step: TypeAlias = str | Event | ToolCall | Usage | Delay | Exception


class Script:
    """A provider that plays its steps on every call, and remembers what it was asked.

    A string is a piece of text, a `ToolCall` a whole call, a `Usage` what was used so far, an exception is raised, an
    event is given as it is; a `Delay` waits, while the clocks of the call run. After the last step the answer ends with
    *finish_reason*; `None` lets it stop without an end, as a broken provider would.
    """

    is_handler: Final = True

    def __init__(
        self, *steps: Step, name: str = "script", finish_reason: FinishReason | None = "stop", model: str = ""
    ) -> None:
        self.name = name
        self.steps = steps
        self.finish_reason: FinishReason | None = finish_reason
        self.model = model
        self.requests: list[ChatRequest] = []
        """Every request so far."""
        self.open = 0
        """Calls under way: 0 again once each was finished, failed or closed."""

    async def __call__(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """Play the steps."""
        self.requests.append(request)
        self.open += 1
        clock = Clock(call.timeout, self.name, request.model)
        said = False
        try:
            yield Start(id="script-1", model=self.model or request.model, created=1, provider=self.name)
            calls = 0
            for step in self.steps:
                if isinstance(step, Delay):
                    with clock.scope(said=said):
                        await anyio.sleep(step.seconds)
                    clock.check()
                elif isinstance(step, Exception):
                    raise step
                else:
                    said = True
                    yield _event(step, calls)
                    calls += isinstance(step, ToolCall)
            if self.finish_reason is not None:
                yield End(self.finish_reason)
        finally:
            self.open -= 1


def _event(step: str | Event | ToolCall | Usage, calls: int) -> Event:
    if isinstance(step, str):
        return TextDelta(step)
    if isinstance(step, ToolCall):
        return ToolCallDelta(call=calls, id=step.id, name=step.name, arguments=step.arguments, kind=step.kind)
    return UsageUpdate(step) if isinstance(step, Usage) else step
