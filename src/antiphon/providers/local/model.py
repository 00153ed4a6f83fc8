"""The local model: llama.cpp in this process, as a `Handler`.

A call goes through an `HTTPProvider` like any other, whose transport hands the body to an `Engine` instead of to a
socket.

Of the clocks, `total` counts everything. `first_token` starts when the model turns to the call, so that neither
fetching, nor loading, nor waiting for earlier calls counts.
"""

from __future__ import annotations

import difflib
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import msgspec

from antiphon.chat.embeddings import Embedding, EmbeddingRequest, Embeddings, EmbeddingUsage
from antiphon.chat.events import Event
from antiphon.chat.losses import Loss
from antiphon.chat.messages import Audio, File, Image, Message, Opaque, ToolResult
from antiphon.chat.requests import ChatRequest, Tool
from antiphon.errors import (
    AntiphonError,
    APITimeoutError,
    BadRequestError,
    InternalServerError,
    LocalModelError,
    ModelNotFoundError,
)
from antiphon.formats.codec import Headers, HTTPRequest
from antiphon.formats.embeddings import OpenAIEmbeddings
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.message import NAME
from antiphon.http.transport import Timeout
from antiphon.providers.auth import Secret, no_auth
from antiphon.providers.base import Call
from antiphon.providers.http import HTTPProvider
from antiphon.providers.local.fields import only_known, without_cache
from antiphon.providers.local.isolated import IsolatedEngine
from antiphon.providers.local.llama_cpp import Settings
from antiphon.providers.local.queue import Engine, Job, Line
from antiphon.providers.local.schema import check_schema

__all__ = ["DEFAULT_NAME", "LocalModel", "close_served", "local_model_for"]

DEFAULT_NAME: Final = "smollm2-135m-instruct"
"""The name of the default model."""

_PORTION_TEXTS = 32
_PORTION_SIZE = 8_000
"""Characters of all texts of a portion: 2 s of the default model on 2 CPUs."""

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
        isolated: Whether llama.cpp runs in a process of its own, which is started again if it ends or does not stop.
        served: Whether those who ask are the clients of a server, who may not set everything in llama.cpp, nor know of
            each other's prompts.

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
        isolated: bool = False,
        served: bool = False,
    ) -> None:
        for what, number in (("threads", threads), ("context", context), ("parallel", parallel)):
            if number is not None and number < 1:
                raise ValueError(f"{what} must be 1 or more; it is {number}.")
        self.path = None if path is None else Path(path).expanduser()
        self.model: str = DEFAULT_NAME if self.path is None else self.path.stem
        """What answers call the model."""
        settings = Settings(name=self.model, context=context, parallel=parallel, threads=threads)
        engine: type[Engine | IsolatedEngine] = IsolatedEngine if isolated else Engine
        self._served = served
        self._engine = engine(self.path, settings)
        pooled = self.path is not None  # the default model, which is not made for this, says nothing of it
        self._embedder = engine(self.path, msgspec.structs.replace(settings, embeddings=True, pooled=pooled))
        self._endpoint = HTTPProvider(self.name, OpenAIChat(), "", auth=no_auth, transport=_Transport(self._engine))

        self._embedding = HTTPProvider(
            self.name,
            OpenAIChat(),
            "",
            auth=no_auth,
            transport=_Transport(self._embedder, embeddings=True),
            embeddings=OpenAIEmbeddings(),
        )

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
            if self._served:
                request, losses = only_known(request, self._endpoint.codec.name)
                self._lose(losses, call)
            _check_schemas(request)
            if request.tools:  # a model not loaded yet is loaded first, on a total clock of its own
                self._mind_tools(await self._takes_tools(call.timeout), call)
        except AntiphonError as error:
            error.provider, error.model = self.name, self.model
            raise
        try:
            async with aclosing(self._endpoint(self._asked(request), call)) as events:
                async for event in events:
                    yield without_cache(event) if self._served else event
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
        if self._served and request.extra:
            asked = msgspec.structs.replace(asked, extra=None)
            reason = "The server does not pass this on to llama.cpp for its clients."
            self._lose(
                [Loss("dropped", f"$.{field}", reason) for fields in request.extra.values() for field in fields], call
            )
        if request.dimensions is not None:
            reason = f"{self.model} makes vectors of one length only."
            call.losses.append(Loss("dropped", "$.dimensions", reason))
            if call.strict:
                raise BadRequestError(f"{reason} strict=True forbids leaving that out.", param="$.dimensions")
        try:
            return await self._embedded(asked, call)
        except InternalServerError as error:
            if "too large" not in error.message:
                raise
            raise BadRequestError(
                "A text is longer than the context. Split it, or make the model with more: LocalModel(…, context=…).",
                provider=self.name,
                model=self.model,
                param="$.input",
            ) from None

    async def _embedded(self, request: EmbeddingRequest, call: Call) -> Embeddings:
        """Ask for some texts at a time, so that others have their turn meanwhile, and it can end between two turns."""
        ends = None if call.timeout.total is None else time.monotonic() + call.timeout.total
        found: list[Embedding] = []
        tokens = 0
        for texts in _portions(request.texts):
            clocks = call.timeout
            if ends is not None:
                clocks = msgspec.structs.replace(clocks, total=max(ends - time.monotonic(), 0.001))
            one = Call(timeout=clocks, strict=call.strict, headers=call.headers)
            answer = await self._embedding.embed(msgspec.structs.replace(request, texts=texts), one)
            if not found:
                call.losses += one.losses
            found += [msgspec.structs.replace(item, index=len(found) + item.index) for item in answer.data]
            tokens += answer.usage.prompt_tokens if answer.usage else 0
        return Embeddings(
            data=tuple(found),
            model=self.model,
            provider=self.name,
            usage=EmbeddingUsage(tokens, tokens),
            losses=tuple(call.losses),
        )

    async def http(self) -> tuple[str, Secret]:
        """Load the model, and return the base URL of llama.cpp's own HTTP server, on 127.0.0.1, and its key.

        It speaks Chat Completions, Messages and Responses, to tests that want a real upstream, and to other programs of
        this machine for as long as this process lives.
        """
        if isinstance(self._engine, IsolatedEngine):
            raise LocalModelError("llama.cpp's own HTTP server is not to be had of a model in a process of its own.")
        while (llama := self._engine.llama) is None:
            await self._load(_NO_CLOCKS)
        return llama.url + "/v1", llama.key

    def close(self) -> None:
        """Stop what is being answered and free the model's memory; the next call loads it again.

        This waits until it has stopped, so async code calls it in a worker thread.
        """
        self._engine.close()
        self._embedder.close()

    async def _load(self, clocks: Timeout) -> None:
        async with _Exchange(self._engine, Job(b""), clocks):
            pass

    async def _takes_tools(self, clocks: Timeout) -> bool:
        while (found := self._engine.takes_tools) is None:
            await self._load(clocks)
        return found

    def _mind_tools(self, takes_tools: bool, call: Call) -> None:
        """Note on the receipt that the model will not hear of the tools, if that is so."""
        if takes_tools:
            return
        reason = f"The chat template of {self.model} has no place for tools."
        call.losses.append(Loss("dropped", "$.tools", reason))
        if call.strict:
            raise BadRequestError(f"{reason} strict=True forbids leaving them out.", param="$.tools")

    def _lose(self, losses: Sequence[Loss], call: Call) -> None:
        call.losses += losses
        if losses and call.strict:
            first = losses[0]
            raise BadRequestError(
                f"{first.path}: {first.reason} strict=True forbids leaving it out.", status=400, param=first.path
            )

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
            kept=None,
        )


def local_model_for(model: str, *, served: bool = False) -> LocalModel:
    """Return the process's one `LocalModel` for a model name: `""`, `DEFAULT_NAME`, or the path of a GGUF file.

    For the clients of a server, *served*, it is another one, isolated from this process.

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
    if (known := _shared.get((name, served))) is not None:
        return known
    made = LocalModel(None if name == DEFAULT_NAME else name, isolated=served, served=served)
    return _shared.setdefault((name, served), made)  # in one step, for any thread


def close_served() -> None:
    """End the processes of all models for the clients of a server; it waits for that."""
    for (_, served), model in list(_shared.items()):
        if served:
            model.close()


_shared: dict[tuple[str, bool], LocalModel] = {}


def _portions(texts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Give *texts* in portions that do not take long."""
    portion: list[str] = []
    size = 0
    for text in texts:
        if portion and (len(portion) >= _PORTION_TEXTS or size + len(text) > _PORTION_SIZE):
            yield tuple(portion)
            portion, size = [], 0
        portion.append(text)
        size += len(text)
    yield tuple(portion)


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


def _check_schemas(request: ChatRequest) -> None:
    size = 0
    if request.response_format is not None and request.response_format.schema is not None:
        size = check_schema(request.response_format.schema, "$.response_format.schema")
    for place, tool in enumerate(request.tools or ()):
        if isinstance(tool, Tool) and tool.parameters is not None:
            size = check_schema(tool.parameters, f"$.tools[{place}].parameters", size=size)


def _beyond_text(message: Message) -> str | None:
    for outer in message.parts:
        for part in outer.content if isinstance(outer, ToolResult) else (outer,):
            if isinstance(part, Image | Audio | File):
                return f"a part of the kind {type(part).__name__!r}"
            if isinstance(part, Opaque) and part.format == NAME:
                return "a part of a kind that is not known"
    return None


class _Transport:
    """Carries requests to an engine: the `Transport` of the local model's endpoints."""

    def __init__(self, engine: Line, *, embeddings: bool = False) -> None:
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

    def __init__(self, engine: Line, job: Job, timeout: Timeout) -> None:
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
