"""`ChatCompletion`, the two functions for who wants a string and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Literal, Unpack, overload

from antiphon.calls.core import ClientCore
from antiphon.calls.params import ChatParams, Messages
from antiphon.calls.preparation import PreparedCall
from antiphon.sync import bridge

__all__ = ["ChatCompletion"]

_core: ClientCore | None = None


def _prepare(messages: Messages, model: str, provider: Any, params: ChatParams, *, stream: bool) -> PreparedCall:
    """Check a call; the connections behind it are made on the first one and live as long as the process."""
    global _core
    if _core is None:
        _core = ClientCore()
    return _core.prepare(messages, model, params, provider, stream=stream)


async def _text(prepared: PreparedCall) -> str:
    return (await prepared.complete()).content or ""


class ChatCompletion:
    """Chat completions as plain strings, from blocking and from async code."""

    @overload
    @staticmethod
    def create(
        model: str,
        messages: Messages,
        provider: Any = None,
        *,
        stream: Literal[False] = False,
        **params: Unpack[ChatParams],
    ) -> str: ...

    @overload
    @staticmethod
    def create(
        model: str, messages: Messages, provider: Any = None, *, stream: Literal[True], **params: Unpack[ChatParams]
    ) -> bridge.Iteration[str]: ...

    @overload
    @staticmethod
    def create(
        model: str, messages: Messages, provider: Any = None, *, stream: bool, **params: Unpack[ChatParams]
    ) -> str | bridge.Iteration[str]: ...

    @staticmethod
    def create(
        model: str, messages: Messages, provider: Any = None, *, stream: bool = False, **params: Unpack[ChatParams]
    ) -> str | bridge.Iteration[str]:
        """Ask for an answer and return its text, or with `stream=True` an iterator over pieces of it.

        Args:
            model: `provider/model`, or as *provider* knows it; `antiphon.models.default` for the default.
            messages: The conversation: OpenAI-style dicts, `Message` objects, or one string.
            provider: Who answers: a name, a function, a class or an instance; if not given, *model* says so.
            stream: Whether to get the answer in pieces.
            **params: See `antiphon.calls.params.ChatParams`.

        Raises:
            NestAsyncioError: An event loop is running in this thread, and nesting is not allowed.
            AntiphonError: See `antiphon.errors`.
        """
        prepared = _prepare(messages, model, provider, params, stream=stream)
        if stream:
            return bridge.iterate(prepared.text)
        return bridge.run(_text, prepared)

    @overload
    @staticmethod
    def create_async(
        model: str,
        messages: Messages,
        provider: Any = None,
        *,
        stream: Literal[False] = False,
        **params: Unpack[ChatParams],
    ) -> Awaitable[str]: ...

    @overload
    @staticmethod
    def create_async(
        model: str, messages: Messages, provider: Any = None, *, stream: Literal[True], **params: Unpack[ChatParams]
    ) -> AsyncIterator[str]: ...

    @overload
    @staticmethod
    def create_async(
        model: str, messages: Messages, provider: Any = None, *, stream: bool, **params: Unpack[ChatParams]
    ) -> Awaitable[str] | AsyncIterator[str]: ...

    @staticmethod
    def create_async(
        model: str, messages: Messages, provider: Any = None, *, stream: bool = False, **params: Unpack[ChatParams]
    ) -> Awaitable[str] | AsyncIterator[str]:
        """Ask for an answer: `await` its text, or with `stream=True` iterate over pieces of it with `async for`.

        Arguments and errors are those of `create`.
        """
        prepared = _prepare(messages, model, provider, params, stream=stream)
        return prepared.text() if stream else _text(prepared)
