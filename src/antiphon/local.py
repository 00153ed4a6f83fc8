"""Floor 4: the local model: llama.cpp in this process, as a `Handler`.

A call goes through an `Endpoint` like any other, whose transport hands the body to an `Engine` instead of to a socket.

Of the clocks, `total` counts everything. `first_token` starts when the model turns to the call, so that neither
fetching, nor loading, nor waiting for earlier calls counts.
"""

from __future__ import annotations

import difflib
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import msgspec

from antiphon.auth import Secret, no_auth
from antiphon.embedding import EmbeddingRequest, Embeddings
from antiphon.endpoint import Endpoint
from antiphon.engine import Engine, Job
from antiphon.errors import AntiphonError, APITimeoutError, BadRequestError, InternalServerError, ModelNotFoundError
from antiphon.events import Event
from antiphon.handler import Call
from antiphon.llama import Llama, Settings
from antiphon.transport import Timeout
from antiphon.types import Audio, ChatRequest, File, Image, Loss, Message, ToolResult
from antiphon.wire.codec import Headers, HTTPRequest
from antiphon.wire.embeddings import OpenAIEmbeddings
from antiphon.wire.openai_chat import OpenAIChat

__all__ = ["DEFAULT_NAME", "LocalModel", "local_model_for"]

DEFAULT_NAME: Final = "smollm2-135m-instruct"
"""The name of the default model."""

_NO_CLOCKS = Timeout(connect=None, first_token=None, idle=None, total=None)


class LocalModel:
    """A model in this process.

    Args:
        path: A GGUF file; `None`: the default model, fetched when it is first asked. A relative path is looked up when
            the model is loaded.
        threads: Threads that compute; `None`: `ANTIPHON_LOCAL_THREADS`, or half of the CPUs, from one to eight.
        context: Most tokens of one conversation, the answer included; llama.cpp rounds it up to a multiple of 256.
        parallel: Calls answered at once; the others wait in line. On a CPU two at once take as long as one after the
            other, the same question may get another answer beside others than alone, and each place costs memory: 23 kB
            a token of *context* for the default model.

    Raises:
        ValueError: *threads*, *context* or *parallel* is less than 1.
    """

    is_handler: Final = True
    name: Final = "local"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        context: int = 4096,
        parallel: int = 1,
    ) -> None:
        for what, number in (("threads", threads), ("context", context), ("parallel", parallel)):
            if number is not None and number < 1:
                raise ValueError(f"{what} must be 1 or more; it is {number}.")
        self.path = None if path is None else Path(path).expanduser()
        self.model: str = DEFAULT_NAME if self.path is None else self.path.stem
        """What answers call the model."""
        settings = Settings(name=self.model, context=context, parallel=parallel, threads=threads)
        self._engine = Engine(self.path, settings)
        pooled = self.path is not None  # the default model, which is not made for this, says nothing of it
        self._embedder = Engine(self.path, msgspec.structs.replace(settings, embeddings=True, pooled=pooled))
        self._endpoint = Endpoint(self.name, OpenAIChat(), "", auth=no_auth, transport=_Transport(self._engine))

    def __repr__(self) -> str:
        return f"LocalModel({self.model!r})"

    async def __call__(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """Give the events of the answer to *request*.

        A `seed`, or a `temperature` of 0, makes the answer repeatable. llama.cpp's own fields, such as `min_p` or
        `grammar`, go into `extra`. Tools are heard of only by models whose chat template has a place for them, of which
        the default one is none; the receipt says so.

        Raises:
            MissingExtraError: xllamacpp is not installed.
            LocalModelError: The model cannot be fetched, read or loaded.
            ModelNotFoundError: There is no such file.
            BadRequestError: The conversation is empty, holds more than text, or is longer than the context.
            APITimeoutError, StreamError, APIError: As of any provider.
        """
        try:
            _check(request)
            if request.tools:  # a model not loaded yet is loaded first, on a total clock of its own
                self._mind_tools(await self._load(call.timeout), call)
        except AntiphonError as error:
            error.provider, error.model = self.name, self.model
            raise
        try:
            async with aclosing(self._endpoint(self._asked(request), call)) as events:
                async for event in events:
                    yield event
        except BadRequestError as error:
            if error.type == "exceed_context_size_error":
                error.message += ". Leave out some of it, or make the model with more: LocalModel(…, context=…)."
                error.args = (error.message,)
            raise

    @property
    def embedding_format(self) -> str:
        """Key of llama.cpp's own fields in `EmbeddingRequest.extra`."""
        return self._endpoint.embedding_format

    async def embed(self, request: EmbeddingRequest, call: Call) -> Embeddings:
        """Turn texts into vectors. The model is loaded once more for it, in another way, when it is first asked.

        Files of embedding models say how to make one vector of a text; of the default model it is the mean of all
        tokens, which is good for trying things out.

        Raises:
            BadRequestError: A text is longer than the context, or the file is not one of an embedding model.
            MissingExtraError, LocalModelError, ModelNotFoundError, APITimeoutError: As of a chat completion.
        """
        asked = msgspec.structs.replace(request, model=self.model, dimensions=None)
        if request.dimensions is not None:
            reason = f"{self.model} makes vectors of one length only."
            call.losses.append(Loss("dropped", "$.dimensions", reason))
            if call.strict:
                raise BadRequestError(f"{reason} strict=True forbids leaving that out.", param="$.dimensions")
        endpoint = Endpoint(
            self.name,
            OpenAIChat(),
            "",
            auth=no_auth,
            transport=_Transport(self._embedder, embeddings=True),
            embeddings=OpenAIEmbeddings(),
        )
        try:
            return await endpoint.embed(asked, call)
        except InternalServerError as error:
            if "too large" not in error.message:
                raise
            raise BadRequestError(
                "A text is longer than the context. Split it, or make the model with more: LocalModel(…, context=…).",
                provider=self.name,
                model=self.model,
                param="$.input",
            ) from None

    async def http(self) -> tuple[str, Secret]:
        """Load the model, and return the base URL of llama.cpp's own HTTP server, on 127.0.0.1, and its key.

        It speaks Chat Completions, Messages and Responses, to tests that want a real upstream, and to other programs of
        this machine for as long as this process lives.
        """
        llama = await self._load(_NO_CLOCKS)
        return llama.url + "/v1", llama.key

    def close(self) -> None:
        """Stop what is being answered and free the model's memory; the next call loads it again.

        This waits until it has stopped, so async code calls it in a worker thread.
        """
        self._engine.close()
        self._embedder.close()

    async def _load(self, clocks: Timeout) -> Llama:
        while (llama := self._engine.llama) is None:
            async with _Exchange(self._engine, Job(b""), clocks):
                pass
        return llama

    def _mind_tools(self, llama: Llama, call: Call) -> None:
        """Note on the receipt that the model will not hear of the tools, if that is so."""
        if llama.tools:
            return
        reason = f"The chat template of {self.model} has no place for tools."
        call.losses.append(Loss("dropped", "$.tools", reason))
        if call.strict:
            raise BadRequestError(f"{reason} strict=True forbids leaving them out.", param="$.tools")

    def _asked(self, request: ChatRequest) -> ChatRequest:
        """Return *request* as llama.cpp is asked: always for a stream, which can be stopped."""
        # What is left of an earlier prompt was computed in other batches, which can tip a close decision.
        repeatable = request.seed is not None or request.temperature == 0
        given, format = request.extra or {}, self._endpoint.codec.name
        extra = {"cache_prompt": not repeatable, **given.get(format, {})}
        # Reports on the prompt give a chance to stop before the first token.
        extra["return_progress"] = True
        return request.but(
            model=self.model,
            stream=True,
            include_usage=True,
            max_tokens=request.max_tokens or None,
            extra={**given, format: extra},
            form=None,
        )


def local_model_for(model: str) -> LocalModel:
    """Return the process's one `LocalModel` for a model name: `""`, `DEFAULT_NAME`, or the path of a GGUF file.

    Nothing is looked up or loaded yet: that a file does not exist is an error of the call.

    Raises:
        ModelNotFoundError: It is neither; near matches are in the message.
    """
    name = DEFAULT_NAME if model.lower() in ("", DEFAULT_NAME) else os.path.expanduser(model)
    if name != DEFAULT_NAME and not name.lower().endswith(".gguf"):
        near = difflib.get_close_matches(model.lower(), [DEFAULT_NAME])
        hint = f"Did you mean {DEFAULT_NAME!r}?" if near else f"There is {DEFAULT_NAME!r}."
        raise ModelNotFoundError(
            f"There is no local model {model!r}. {hint} For another one, put a GGUF file anywhere and name its path as "
            f"the model ('local//path/to/model.gguf').",
            provider=LocalModel.name,
            model=model,
        )
    if (known := _shared.get(name)) is not None:
        return known
    return _shared.setdefault(name, LocalModel(None if name == DEFAULT_NAME else name))  # in one step, for any thread


_shared: dict[str, LocalModel] = {}


def _check(request: ChatRequest) -> None:
    if not request.messages:
        raise BadRequestError("The conversation has no message: pass at least one.", param="$.messages")
    for place, message in enumerate(request.messages):
        if (kind := _beyond_text(message)) is not None:
            raise BadRequestError(
                f"Message {place} holds {kind}, but a local model reads text alone: leave it out, or ask a provider "
                "that takes it.",
                param=f"$.messages[{place}]",
            )


def _beyond_text(message: Message) -> str | None:
    for outer in message.parts:
        for part in outer.content if isinstance(outer, ToolResult) else (outer,):
            if isinstance(part, Image | Audio | File):
                return f"a part of the kind {type(part).__name__!r}"
    return None


class _Transport:
    """Carries requests to an engine: the `Transport` of the local model's endpoints."""

    def __init__(self, engine: Engine, *, embeddings: bool = False) -> None:
        self._engine = engine
        self._embeddings = embeddings

    def open(self, url: str, request: HTTPRequest, *, headers: Mapping[str, str], timeout: Timeout) -> _Exchange:
        """Hand over the body; there is neither a URL nor a header to mind."""
        return _Exchange(self._engine, Job(request.body, embeddings=self._embeddings), timeout)

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


class _Exchange:
    """One request and its reply."""

    status = 200
    headers: Headers
    content_type = "text/event-stream"

    def __init__(self, engine: Engine, job: Job, timeout: Timeout) -> None:
        self.headers = {"x-should-retry": "false"}  # what it refuses once, it refuses always
        self._engine = engine
        self._timeout = timeout
        self._told = False
        self._began = time.monotonic()
        self._job = job

    async def __aenter__(self) -> Self:
        self._engine.submit(self._job)
        try:
            while not (self._job.status or self._job.finished):
                await self._wait()
            if not self._job.status and self._job.failure is not None:
                raise self._job.failure
        except BaseException:
            await self._engine.leave(self._job)
            raise
        self.status = self._job.status
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._engine.leave(self._job)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        job = self._job
        while True:
            finished = job.finished  # read first: all that came before the end is then in sight
            if job.pieces:
                return job.pieces.popleft()
            if finished:
                raise job.failure or StopAsyncIteration
            await self._wait()

    async def settle(self) -> None:
        """Do nothing: what is over here has ended."""

    async def read(self, limit: int) -> bytes:
        """Return the whole body; answers are no longer than the context lets them be, so there is no bound."""
        return b"".join([piece async for piece in self])

    def got_token(self) -> None:
        """Let the idle clock run from now on."""
        self._told = True

    async def _wait(self) -> None:
        """Wait for the job to change, by whichever clock runs out first."""
        clock, seconds = self._patience()
        with anyio.CancelScope(deadline=anyio.current_time() + seconds):
            await self._job.changed()
            return
        what = {
            "total": "finish its answer",
            "first_token": "give a token of its answer",
            "idle": "go on with its answer",
        }[clock]
        raise APITimeoutError(
            f"The local model did not {what} within {getattr(self._timeout, clock):g} s. This is the "
            f"{clock.replace('_', '-')} clock: give it more with timeout=Timeout({clock}=…), or no limit with None."
        )

    def _patience(self) -> tuple[str, float]:
        """Return the clock that runs out first, and how many seconds it has left."""
        now, timeout, begun = time.monotonic(), self._timeout, self._job.begun
        left = {"total": math.inf if timeout.total is None else timeout.total - (now - self._began)}
        if self._told:
            left["idle"] = math.inf if timeout.idle is None else timeout.idle
        elif begun:
            left["first_token"] = math.inf if timeout.first_token is None else timeout.first_token - (now - begun)
        clock = min(left, key=left.__getitem__)
        return clock, left[clock]
