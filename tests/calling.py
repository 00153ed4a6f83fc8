"""What tests of the faces share: one question, asked in every calling style, whole or as a stream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar

from antiphon import AsyncClient, Client, Completion, CompletionChunk

T = TypeVar("T")


class Asked(NamedTuple):
    """What a caller gets to see of an answer, whichever way it came."""

    text: str
    finish_reason: str | None
    tokens: tuple[int | None, int | None] | None
    """Tokens of the input and of the output; `None` where no usage was reported."""
    provider: str | None
    model: str

    @classmethod
    def whole(cls, answer: Completion) -> Asked:
        """Read a whole answer."""
        usage = answer.usage
        return cls(
            answer.choices[0].message.content or "",
            answer.choices[0].finish_reason,
            None if usage is None else (usage.prompt_tokens, usage.completion_tokens),
            answer.provider,
            answer.model,
        )

    @classmethod
    def streamed(cls, chunks: Iterable[CompletionChunk]) -> Asked:
        """Put the chunks of an answer together, as a caller would."""
        chunks = list(chunks)
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
        usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
        assert len(usages) <= 1, "usage is told once"
        assert len(reasons) <= 1, "the reason is told once"
        return cls(
            "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices),
            reasons[-1] if reasons else None,
            (usages[-1].prompt_tokens, usages[-1].completion_tokens) if usages else None,
            chunks[-1].provider,
            chunks[-1].model,
        )


class Question(NamedTuple):
    """A call: how the client is made, and what it is asked."""

    options: dict[str, Any]
    messages: Any = "hello"
    model: str = "m"
    params: dict[str, Any] = {}  # noqa: RUF012 - a default that nobody changes

    def blocking(self, *, stream: bool, nested: Any = None) -> Asked:
        """Ask with the blocking client."""
        with Client(**self.options, nested=nested) as client:
            create = client.chat.completions.create
            if stream:
                return Asked.streamed(create(self.messages, self.model, stream=True, **self.params))
            return Asked.whole(create(self.messages, self.model, **self.params))

    async def asynchronous(self, *, stream: bool) -> Asked:
        """Ask with the async client."""
        async with AsyncClient(**self.options) as client:
            create = client.chat.completions.create
            if stream:
                return Asked.streamed([c async for c in create(self.messages, self.model, stream=True, **self.params)])
            return Asked.whole(await create(self.messages, self.model, **self.params))


def in_loop(coroutine: Coroutine[Any, Any, T], *, uvloop: bool = False) -> T:
    """Run *coroutine* in a loop of its own."""
    factory = None
    if uvloop:
        from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


async def _nested(function: Callable[..., T], **options: Any) -> T:
    return function(**options)


Way = Callable[..., Asked]

WAYS: dict[str, Way] = {
    "sync": lambda question, **how: question.blocking(**how),
    "async": lambda question, **how: in_loop(question.asynchronous(**how)),
    "nested": lambda question, **how: in_loop(_nested(question.blocking, nested="thread", **how)),
    "thread": lambda question, **how: in_loop(asyncio.to_thread(question.blocking, **how)),
    "uvloop": lambda question, **how: in_loop(question.asynchronous(**how), uvloop=True),
    "nested-uvloop": lambda question, **how: in_loop(_nested(question.blocking, nested="thread", **how), uvloop=True),
}
"""Every calling style, as a function of a question and `stream`."""

if sys.platform == "win32":  # uvloop is not to be had there
    del WAYS["uvloop"], WAYS["nested-uvloop"]
