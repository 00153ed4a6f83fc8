"""What the accumulating streams share: an iterator over what the steps of an answer give, in either world."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from antiphon.sync import bridge
from antiphon.sync.nesting import Nested

__all__ = ["AsyncStreamBase", "StreamBase", "SyncStreamBase"]

S = TypeVar("S")
T = TypeVar("T")


class StreamBase(Generic[S, T]):
    """What there is to give: who puts the steps together says what each of them gives."""

    def __init__(self) -> None:
        self._waiting: list[T] = []
        """What is to be given next, the first one last."""

    def _take(self, step: S) -> None:
        """Take note of *step*, and put what it gives into `_waiting`."""
        raise NotImplementedError


class SyncStreamBase(StreamBase[S, T], Iterator[T]):
    """An iterator for blocking code; use it in a `with` block."""

    def __init__(self, steps: Callable[[], AsyncGenerator[S, None]], nested: Nested | None) -> None:
        super().__init__()
        self._steps = bridge.iterate(steps, nested=nested)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __next__(self) -> T:
        while not self._waiting:
            self._take(next(self._steps))
        return self._waiting.pop()

    def close(self) -> None:
        """End what still runs, and wait for that; may be called again."""
        self._steps.close()


class AsyncStreamBase(StreamBase[S, T], AsyncIterator[T]):
    """An async iterator; use it in an `async with` block.

    Awaiting it gives itself, so that `await …(stream=True)` works as with the OpenAI client.
    """

    def __init__(self, steps: AsyncGenerator[S, None]) -> None:
        super().__init__()
        self._steps = steps

    def __await__(self) -> Generator[Any, None, Self]:
        return self._itself().__await__()

    async def _itself(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            self._take(await self._steps.__anext__())
        return self._waiting.pop()

    async def aclose(self) -> None:
        """End what still runs; may be called again."""
        await self._steps.aclose()

    async def close(self) -> None:
        """Do the same: the OpenAI client's name for it."""
        await self.aclose()
