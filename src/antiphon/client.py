"""The clients: OpenAI's method names over any provider, for blocking code and for async code.

Both are thin: `antiphon.calls.core` is the one implementation, which `AsyncClient` gives as it is and `Client` over
the bridge. Nothing is kept between calls but connections.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack, overload

from antiphon.calls.core import ClientCore
from antiphon.calls.params import ChatParams, EmbeddingParams, Messages
from antiphon.calls.preparation import PreparedCall
from antiphon.calls.tool_loop import AsyncRunMethods, RunMethods
from antiphon.calls.typed_answers import AsyncParseMethods, ParseMethods
from antiphon.chat.answers import Completion, CompletionChunk
from antiphon.chat.embeddings import Embeddings
from antiphon.chat.events import Event, Folder
from antiphon.errors import AntiphonError, StreamError
from antiphon.http.tls import Certificate, Verify
from antiphon.http.transport import Timeout, Transport
from antiphon.providers.auth import Secret
from antiphon.providers.model_lists import Model
from antiphon.providers.redaction import without_frames
from antiphon.sync import bridge
from antiphon.sync.nesting import Nested
from antiphon.sync.streams import AsyncStreamBase, StreamBase, SyncStreamBase

__all__ = ["AsyncClient", "AsyncCompletionStream", "AsyncStream", "Client", "CompletionStream", "Stream"]

Stream: TypeAlias = bridge.Iteration[CompletionChunk]
"""The chunks of one answer: an iterator and a context manager; `close()` ends the upstream before it returns."""


class AsyncStream(AsyncIterator[CompletionChunk]):
    """The chunks of one answer: `async for`, `async with`, `aclose()`.

    Awaiting it gives itself, so that `await create(..., stream=True)` works as with the OpenAI client.
    """

    def __init__(self, chunks: AsyncGenerator[CompletionChunk, None]) -> None:
        self._chunks = chunks

    def __await__(self) -> Generator[Any, None, Self]:
        return self._itself().__await__()

    async def _itself(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[CompletionChunk]:
        return self._chunks.__anext__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the upstream, if the answer is not complete; may be called again."""
        await self._chunks.aclose()

    async def close(self) -> None:
        """Do the same: the OpenAI client's name for it."""
        await self.aclose()


_Step: TypeAlias = tuple[Event, list[CompletionChunk]]


class _Accumulation(StreamBase[_Step, CompletionChunk]):
    """What an accumulating stream knows, in either world."""

    _prepared: PreparedCall
    _folder: Folder

    @property
    def current_completion_snapshot(self) -> Completion:
        """The answer as far as it was iterated."""
        return self._prepared.folded(self._folder)

    def _take(self, step: _Step) -> None:
        event, chunks = step
        self._folder.add(event)
        self._waiting = chunks[::-1]

    def _whole(self) -> Completion:
        """Return the answer, all of which was iterated.

        Raises:
            StreamError: There was no more to iterate, but the end of the answer had not come.
        """
        answer = self.current_completion_snapshot
        if self._folder.ended:
            return answer
        error = StreamError(
            "The stream was closed, or failed, before its answer was complete. What came of it is in `received`; "
            "ask again for the whole.",
            provider=self._prepared.handler.name,
            model=self._prepared.request.model,
        )
        error.received = answer
        raise error


class CompletionStream(_Accumulation, SyncStreamBase[_Step, CompletionChunk]):
    """The chunks of one answer, put together on the way; use it in a `with` block."""

    def __init__(self, prepared: PreparedCall, nested: Nested | None) -> None:
        super().__init__(prepared.steps, nested)
        self._prepared, self._folder = prepared, Folder()

    def __next__(self) -> CompletionChunk:
        try:
            return super().__next__()
        except StreamError as error:
            error.received = self.current_completion_snapshot
            raise

    def get_final_completion(self) -> Completion:
        """Take the rest of the stream and return the whole answer.

        Raises:
            StreamError: The stream was left before its end, or failed; `received` holds what had come.
        """
        for _ in self:
            pass
        return self._whole()


class AsyncCompletionStream(_Accumulation, AsyncStreamBase[_Step, CompletionChunk]):
    """The chunks of one answer, put together on the way; use it in an `async with` block."""

    def __init__(self, prepared: PreparedCall) -> None:
        super().__init__(prepared.steps())
        self._prepared, self._folder = prepared, Folder()

    async def __anext__(self) -> CompletionChunk:
        try:
            return await super().__anext__()
        except StreamError as error:
            error.received = self.current_completion_snapshot
            raise

    async def get_final_completion(self) -> Completion:
        """Take the rest of the stream and return the whole answer.

        Raises:
            StreamError: The stream was left before its end, or failed; `received` holds what had come.
        """
        async for _ in self:
            pass
        return self._whole()


class AsyncClient:
    """Chat completions from async code.

    Args:
        provider: Who answers every call: a name from `antiphon providers`, a function, a class or an instance. Without
            it, each call's model says so: `provider/model`.
        api_key: The provider's key, in place of the one in the environment.
        base_url: Address of an OpenAI-compatible server, such as `http://localhost:8000/v1`; with a provider's name
            beside it, a server that speaks that provider's format.
        timeout: The clocks of every call; a number is the total in seconds.
        strict: Whether what a provider's format cannot express is an error rather than an entry in `losses`.
        transport: What carries the requests, such as an `HttpxTransport`; closed with the client.
        verify: Which servers to trust with TLS: those that the system trusts, the path of a PEM file or directory with
            certificates to trust in their place, or an `ssl.SSLContext`. `False` trusts any server: whoever is on the
            way to it can read the key and the prompts.
        cert: The client's own certificate, where a server asks for one: the path of a PEM file, or a pair of paths,
            the certificate and its private key.

    Raises:
        ValueError: `base_url` is not a URL, or holds a query or a password; or a clock is not more than 0.
        TypeError: One of these is of a type that it cannot have, or `verify` or `cert` is given with a transport, which
            has its own.
    """

    def __init__(
        self,
        *,
        provider: Any = None,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        timeout: float | timedelta | Timeout | None = None,
        strict: bool = False,
        transport: Transport | None = None,
        verify: Verify = True,
        cert: Certificate | None = None,
    ) -> None:
        try:
            self._core = ClientCore(provider, api_key, base_url, timeout, transport, strict, verify=verify, cert=cert)
        except (AntiphonError, TypeError, ValueError) as error:
            del api_key, base_url  # a traceback may be printed with its locals
            without_frames(error)
            raise
        self.chat = _AsyncChat(self._core)
        self.embeddings = _AsyncEmbeddings(self._core)
        self.models = _AsyncModels(self._core)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._core.aclose()

    async def close(self) -> None:
        """Do the same: the OpenAI client's name for it."""
        await self.aclose()


class _AsyncChat:
    def __init__(self, core: ClientCore) -> None:
        self.completions = _AsyncCompletions(core)


class _AsyncCompletions(AsyncRunMethods, AsyncParseMethods):
    def __init__(self, core: ClientCore) -> None:
        self._core = core

    @overload
    def create(
        self, messages: Messages, model: str = "", *, stream: Literal[False] = False, **params: Unpack[ChatParams]
    ) -> Awaitable[Completion]: ...

    @overload
    def create(
        self, messages: Messages, model: str = "", *, stream: Literal[True], **params: Unpack[ChatParams]
    ) -> AsyncStream: ...

    @overload
    def create(
        self, messages: Messages, model: str = "", *, stream: bool, **params: Unpack[ChatParams]
    ) -> Awaitable[Completion] | AsyncStream: ...

    def create(
        self, messages: Messages, model: str = "", *, stream: bool = False, **params: Unpack[ChatParams]
    ) -> Awaitable[Completion] | AsyncStream:
        """Ask for an answer: `await` it whole, or with `stream=True` iterate over its chunks.

        Args:
            messages: The conversation: OpenAI-style dicts, `Message` objects, or one string.
            model: `provider/model`, or as the client's provider knows it; empty for the default.
            stream: Whether to get the answer in pieces.
            **params: See `ChatParams`.

        Raises:
            BadRequestError: Something in the request has the wrong type; `param` is its path.
            ProviderNotFoundError, ModelNotFoundError, MissingAPIKeyError: Before anything is sent.
            APIError: The provider failed to answer; see `antiphon.errors`.
        """
        prepared = self._core.prepare(messages, model, params, stream=stream)
        return AsyncStream(prepared.chunks()) if stream else prepared.complete()

    async def count_tokens(self, messages: Messages, model: str = "", **params: Unpack[ChatParams]) -> int:
        """Ask the provider how many input tokens the same arguments to `create` would have.

        Raises:
            BadRequestError: The provider has no way to tell.
        """
        return await self._core.count_tokens(messages, model, params)

    def stream(self, messages: Messages, model: str = "", **params: Unpack[ChatParams]) -> AsyncCompletionStream:
        """Ask for an answer in pieces that is put together on the way: `async with … as stream`."""
        return AsyncCompletionStream(self._core.prepare(messages, model, params, stream=True))


class _AsyncEmbeddings:
    def __init__(self, core: ClientCore) -> None:
        self._core = core

    async def create(
        self, input: str | Sequence[str], model: str = "", **params: Unpack[EmbeddingParams]
    ) -> Embeddings:
        """Turn texts into vectors.

        Args:
            input: A text, or several.
            model: As for chat completions: `provider/model`, or as the client's own provider names it.
            **params: `dimensions`, `input_type`, `user`, `extra_body`, `extra_headers`, `timeout`, `strict`.

        Raises:
            BadRequestError: The provider has no embeddings, or refused the request.
            ProviderNotFoundError, ModelNotFoundError, MissingAPIKeyError: Nobody can be asked.
        """
        return await self._core.embed(input, model, params)


class _AsyncModels:
    def __init__(self, core: ClientCore) -> None:
        self._core = core

    async def list(self) -> list[Model]:
        """List the models of the client's provider, or else of every provider whose key is in the environment."""
        return await self._core.models()


class Client:
    """Chat completions from blocking code.

    The arguments are those of `AsyncClient`, and one more.

    Args:
        nested: What a call does inside a running event loop: `"thread"` lets it work while that loop waits, `"error"`
            makes it raise `NestAsyncioError`, `"auto"` works in notebooks and patched loops and else raises.
    """

    def __init__(
        self,
        *,
        provider: Any = None,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        timeout: float | timedelta | Timeout | None = None,
        strict: bool = False,
        transport: Transport | None = None,
        verify: Verify = True,
        cert: Certificate | None = None,
        nested: Nested | None = None,
    ) -> None:
        try:
            self._core = ClientCore(provider, api_key, base_url, timeout, transport, strict, verify=verify, cert=cert)
        except (AntiphonError, TypeError, ValueError) as error:
            del api_key, base_url  # a traceback may be printed with its locals
            without_frames(error)
            raise
        self._nested: Nested | None = nested
        self.chat = _Chat(self._core, nested)
        self.embeddings = _Embeddings(self._core, nested)
        self.models = _Models(self._core, nested)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. While Python shuts down this does nothing: the system closes them."""
        if not sys.is_finalizing():
            bridge.run(self._core.aclose, nested="thread")


class _Chat:
    def __init__(self, core: ClientCore, nested: Nested | None) -> None:
        self.completions = _Completions(core, nested)


class _Completions(RunMethods, ParseMethods):
    def __init__(self, core: ClientCore, nested: Nested | None) -> None:
        self._core = core
        self._nested: Nested | None = nested

    @overload
    def create(
        self, messages: Messages, model: str = "", *, stream: Literal[False] = False, **params: Unpack[ChatParams]
    ) -> Completion: ...

    @overload
    def create(
        self, messages: Messages, model: str = "", *, stream: Literal[True], **params: Unpack[ChatParams]
    ) -> Stream: ...

    @overload
    def create(
        self, messages: Messages, model: str = "", *, stream: bool, **params: Unpack[ChatParams]
    ) -> Completion | Stream: ...

    def create(
        self, messages: Messages, model: str = "", *, stream: bool = False, **params: Unpack[ChatParams]
    ) -> Completion | Stream:
        """Ask for an answer, whole, or with `stream=True` as an iterator over its chunks.

        Arguments and errors are those of `AsyncClient.chat.completions.create`, and:

        Raises:
            NestAsyncioError: An event loop is running in this thread, and nesting is not allowed.
        """
        prepared = self._core.prepare(messages, model, params, stream=stream)
        if stream:
            return bridge.iterate(prepared.chunks, nested=self._nested)
        return bridge.run(prepared.complete, nested=self._nested)

    def count_tokens(self, messages: Messages, model: str = "", **params: Unpack[ChatParams]) -> int:
        """Ask the provider how many input tokens the same arguments to `create` would have.

        Raises:
            BadRequestError: The provider has no way to tell.
        """
        return bridge.run(self._core.count_tokens, messages, model, params, nested=self._nested)

    def stream(self, messages: Messages, model: str = "", **params: Unpack[ChatParams]) -> CompletionStream:
        """Ask for an answer in pieces that is put together on the way: `with … as stream`."""
        prepared = self._core.prepare(messages, model, params, stream=True)
        return CompletionStream(prepared, self._nested)


class _Embeddings:
    def __init__(self, core: ClientCore, nested: Nested | None) -> None:
        self._core = core
        self._nested: Nested | None = nested

    def create(self, input: str | Sequence[str], model: str = "", **params: Unpack[EmbeddingParams]) -> Embeddings:
        """Turn texts into vectors. Arguments and errors are those of `AsyncClient.embeddings.create`."""
        return bridge.run(self._core.embed, input, model, params, nested=self._nested)


class _Models:
    def __init__(self, core: ClientCore, nested: Nested | None) -> None:
        self._core = core
        self._nested: Nested | None = nested

    def list(self) -> list[Model]:
        """List the models of the client's provider, or else of every provider whose key is in the environment."""
        return bridge.run(self._core.models, nested=self._nested)
