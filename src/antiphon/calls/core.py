"""Floor 6: what every face does, once, in async code: check a call, run it, hold the provider to its end, log it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any, TypeAlias, TypedDict, cast

import anyio
import msgspec

from antiphon.calls.observer import Watch, logged
from antiphon.calls.tools import AnyTool, definition
from antiphon.chat.answers import Completion, CompletionChunk
from antiphon.chat.chunks import Chunker
from antiphon.chat.embeddings import EmbeddingRequest, Embeddings, InputType
from antiphon.chat.events import Event, Folder, TextDelta
from antiphon.chat.messages import ChatRequest, Message, Opaque
from antiphon.chat.think_tags import ThinkTags, split_thoughts
from antiphon.errors import AntiphonError, BadRequestError, StreamError
from antiphon.formats import json, read
from antiphon.formats.openai_chat.message import NAME
from antiphon.formats.openai_chat.request import decode_request, in_words_of, plain
from antiphon.http.exchange import HTTPTransport
from antiphon.http.tls import Certificate, Verify
from antiphon.http.transport import Timeout, Transport
from antiphon.providers.auth import Secret
from antiphon.providers.function import Call, Embedder, Handler
from antiphon.providers.http import Endpoint
from antiphon.providers.lookup import Names, Resolver
from antiphon.providers.model_lists import LIST_SECONDS, Model, Source, in_order, listed, sources
from antiphon.sync.blocking import in_thread

__all__ = ["ChatParams", "Core", "EmbeddingParams", "Messages", "Model", "Prepared", "chat_request"]

logger = logging.getLogger("antiphon")

Messages: TypeAlias = str | Sequence[Mapping[str, Any] | Message]
"""A conversation: OpenAI-style dicts, `Message` objects, both mixed, or one string for a single user message."""


class _Params(TypedDict, total=False):
    """What every kind of call may set."""

    temperature: float | None
    top_p: float | None
    top_k: int | None
    max_tokens: int | None
    max_completion_tokens: int | None
    stop: str | Sequence[str] | None
    n: int | None
    seed: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logprobs: bool | None
    top_logprobs: int | None
    logit_bias: Mapping[str, int] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | None
    verbosity: str | None
    modalities: Sequence[str] | None
    audio: Mapping[str, Any] | None
    prediction: Mapping[str, Any] | None
    metadata: Mapping[str, str] | None
    store: bool | None
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    service_tier: str | None
    stream_options: Mapping[str, Any] | None
    web_search_options: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None
    """Further fields of the request, as the provider names them; `None` in it is sent as `null`."""
    extra_headers: Mapping[str, str] | None
    """Further headers of the request."""
    timeout: float | timedelta | Timeout | None
    """The clocks of this call; a number is the total in seconds."""
    strict: bool | None
    """Whether what the provider's format cannot express is an error rather than an entry in `losses`."""
    think_tags: ThinkTags | None
    """Whether thoughts between `<think>` and `</think>` in the text are told as reasoning; `"open"`: the text begins
    with them, without the first tag. Not set: only for servers known to send them."""


class RunParams(_Params, total=False):
    """`ChatParams` without the tools, which `run` takes itself."""

    response_format: Mapping[str, Any] | None


class ParseParams(_Params, total=False):
    """`ChatParams` without the form of the answer, which `parse` takes itself."""

    tools: Sequence[AnyTool] | None


class ChatParams(_Params, total=False):
    """What a call may set besides its messages and model, by OpenAI's names. `None` is the same as not set."""

    tools: Sequence[AnyTool] | None
    """Functions, whose definitions are sent (to have them called, see `run`), or definitions as OpenAI's dicts."""
    response_format: Mapping[str, Any] | None


_LOCAL = frozenset({"extra_body", "extra_headers", "timeout", "strict", "think_tags"})
_KNOWN = frozenset(ChatParams.__annotations__)


def chat_request(
    messages: Messages, model: str, params: Mapping[str, Any], *, stream: bool, format: str = NAME
) -> ChatRequest:
    """Make the neutral request of a call.

    What is no word of OpenAI's is one of *format*: `extra_body`, and in dicts further fields of messages, parts and
    tools, and kinds of parts and tools.

    Raises:
        BadRequestError: A value of the wrong type, or none of JSON's; `param` is its path: `$.messages[0].role`.
        TypeError: A parameter that no chat completion has.
    """
    if unknown := sorted(params.keys() - _KNOWN):
        raise TypeError(_unknown_parameter(unknown[0]))
    _check(params)
    bias: Any = params.get("logit_bias")
    if isinstance(bias, Mapping):  # the ids of tokens are numbers, but keys in JSON are not
        params = {**params, "logit_bias": dict(zip(map(str, cast(Any, bias)), cast(Any, bias).values(), strict=True))}
    given = {k: plain(value, f"$.{k}") for k, value in params.items() if value is not None and k not in _LOCAL}
    if isinstance(messages, str):
        messages = [Message.user(messages)]
    if isinstance(given.get("tools"), list):
        given["tools"] = [_tool(tool, format) for tool in given["tools"]]
    listed: Any = messages
    if _iterable(messages):
        listed = [m if isinstance(m, Message) else plain(m, f"$.messages[{n}]") for n, m in enumerate(messages)]
    more: Mapping[str, Any] = plain(params.get("extra_body") or {}, "$.extra_body")
    if format != NAME:
        source = {"model": model, "messages": listed, **given, "stream": stream}
        request = in_words_of(format, decode_request(source, exact=False), source)
        return request.but(extra={**(request.extra or {}), format: dict(more)}) if more else request
    request = decode_request({"model": model, "messages": listed, **given, **more, "stream": stream}, exact=False)
    nulls = {key: None for key, value in more.items() if value is None and key != "stream"}
    if not nulls:
        return request
    extra = request.extra or {}
    return request.but(extra={**extra, NAME: {**extra.get(NAME, {}), **nulls}})


def _tool(given: Any, format: str) -> Any:
    """Return a tool as the request is to hold it: what is no function is the provider's own, in its own words."""
    tool: Any = definition(given)
    if format != NAME and json.is_object(tool) and "function" not in tool:
        return Opaque(format, tool)
    return tool


def _check(params: Mapping[str, Any]) -> None:
    """Fail on settings that would else be wrong without a word."""
    if (more := params.get("extra_body")) is not None and not isinstance(more, (dict, Mapping)):
        read.fault("$.extra_body", "an object", more)
    if (strict := params.get("strict")) is not None and not isinstance(strict, bool):
        read.fault("$.strict", "a boolean", strict)
    if (tags := params.get("think_tags")) is not None and not isinstance(tags, bool) and tags != "open":
        read.fault("$.think_tags", "a boolean or 'open'", tags)
    if (n := params.get("n")) is not None and type(n) is int and n < 1:
        raise BadRequestError(f"$.n must be 1 or more, not {n}.", status=400, param="$.n")


def _iterable(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes)))


def _unknown_parameter(name: str, known: Collection[str] = _KNOWN, what: str = "A chat completion") -> str:
    from difflib import get_close_matches  # only needed to word an error

    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{what} has no parameter {name!r}.{hint} Fields of one provider go into extra_body={{…}}."


class EmbeddingParams(TypedDict, total=False):
    """What a call for embeddings may set besides its texts and model. `None` is the same as not set."""

    dimensions: int | None
    input_type: InputType | None
    """What the vectors are for."""
    user: str | None
    extra_body: Mapping[str, Any] | None
    """Further fields of the request, as the provider names them."""
    extra_headers: Mapping[str, str] | None
    timeout: float | timedelta | Timeout | None
    strict: bool | None


class Core:
    """Everything a client does, once, in async code."""

    def __init__(
        self,
        provider: Any = None,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        timeout: float | timedelta | Timeout | None = None,
        transport: Transport | None = None,
        strict: bool = False,
        names: Names | None = None,
        *,
        served: bool = False,
        verify: Verify = True,
        cert: Certificate | None = None,
    ) -> None:
        if transport is not None and (verify is not True or cert is not None):
            raise TypeError("verify and cert are for the transport that comes with the client: give them to yours.")
        self._transport = transport or HTTPTransport(verify=verify, cert=cert)
        self._names = names
        self._resolver = Resolver(
            self._transport, provider=provider, api_key=api_key, base_url=base_url, names=names, served=served
        )
        self._timeout = Timeout.of(timeout)
        self._strict = strict

    def prepare(
        self, messages: Messages, model: str, params: ChatParams, provider: Any = None, *, stream: bool
    ) -> Prepared:
        """Check everything that can be checked before anything runs."""
        handler, name = self._resolver.find(model, provider)
        format = handler.codec.name if isinstance(handler, Endpoint) else NAME
        request = chat_request(messages, name, params, stream=stream, format=format)
        call = self._call(params)
        tags = params.get("think_tags")
        if tags is None:
            tags = isinstance(handler, Endpoint) and handler.think_tags
        return Prepared(handler, request, call, separate_usage=bool(request.include_usage), think_tags=tags)

    def find(self, model: str, *, exact_for: str | None = None) -> tuple[Handler, str]:
        """Return who answers for *model*, and its name there; see `Resolver.find`.

        Raises:
            AntiphonError: Nobody has that name, or it wants a key and there is none.
        """
        return self._resolver.find(model, exact_for=exact_for)

    def route(
        self,
        request: ChatRequest,
        *,
        format: str,
        headers: dict[str, str] | None = None,
        found: tuple[Handler, str] | None = None,
    ) -> Prepared:
        """Prepare a request that came in *format*.

        A provider of the same format is heard to the letter, so that its answer can be passed on as it was: a whole
        one is in `call.body`, the events of a stream remember it.

        Args:
            request: The request; its `model` is as a caller names it.
            format: Name of the format in which it was read and its answer is wanted.
            headers: Further header fields for the provider, by lower-case name.
            found: Who answers it, and the model's name there; looked up if not given.
        """
        handler, name = found or self.find(request.model, exact_for=format if request.stream else None)
        tags = isinstance(handler, Endpoint) and handler.think_tags
        call = Call(timeout=self._timeout, strict=self._strict, headers=headers)
        if isinstance(handler, Endpoint) and handler.codec.name == format and not request.stream and not tags:
            call.body = []
        request = request.but(model=name)
        return Prepared(handler, request, call, separate_usage=bool(request.include_usage), think_tags=tags)

    def _call(self, params: ChatParams | EmbeddingParams) -> Call:
        timeout, strict = params.get("timeout"), params.get("strict")
        return Call(
            timeout=self._timeout if timeout is None else Timeout.of(timeout),
            strict=self._strict if strict is None else strict,
            headers={key.lower(): value for key, value in (params.get("extra_headers") or {}).items()},
        )

    async def count_tokens(self, messages: Messages, model: str, params: ChatParams) -> int:
        """Ask the provider how many input tokens a request would have.

        Raises:
            BadRequestError: The provider has no way to tell.
        """
        return await self.count(self.prepare(messages, model, params, stream=False))

    async def count(self, prepared: Prepared) -> int:
        """Ask the provider of a call how many input tokens its request has.

        Raises:
            BadRequestError: The provider has no way to tell.
        """
        if not isinstance(prepared.handler, Endpoint):
            raise BadRequestError(f"The provider {prepared.handler.name!r} has no way to count tokens.")
        with logged("tokens", prepared.handler.name, prepared.request.model):
            return await prepared.handler.count_tokens(prepared.request, prepared.call)

    async def embed(self, texts: str | Sequence[str], model: str, params: EmbeddingParams) -> Embeddings:
        """Ask the provider for the vectors of *texts*.

        Raises:
            BadRequestError: The provider has no embeddings, or *texts* are not texts.
        """
        if unknown := sorted(params.keys() - EmbeddingParams.__annotations__.keys()):
            raise TypeError(_unknown_parameter(unknown[0], EmbeddingParams.__annotations__, "A call for embeddings"))
        handler, name = self._resolver.find(model)
        listed = (texts,) if isinstance(texts, str) else tuple(texts)
        if not listed or not all(isinstance(text, str) for text in listed):
            raise BadRequestError("$.input must be a text or a list of texts, with one at least.", param="$.input")
        more = dict(params.get("extra_body") or {})
        request = EmbeddingRequest(
            name,
            listed,
            params.get("dimensions"),
            params.get("input_type"),
            params.get("user"),
            extra={handler.embedding_format: more} if more and isinstance(handler, Embedder) else None,
        )
        return await _embedded(handler, request, self._call(params))

    async def embed_request(self, request: EmbeddingRequest, handler: Handler, name: str) -> Embeddings:
        """Ask *handler*, to whom the model is known as *name*, for the vectors of the texts of *request*.

        Raises:
            BadRequestError: The provider has no embeddings.
        """
        return await _embedded(handler, msgspec.structs.replace(request, model=name), self._call({}))

    async def models(self) -> list[Model]:
        """List what can be asked for.

        A client made for one provider asks that one. Any other lists the local model and asks every provider whose key
        is set, all at once; one that does not answer is logged and left out. Each has 10 seconds, or the total of the
        client's own timeout.

        Raises:
            APIError: The client's one provider did not answer.
        """
        seconds = LIST_SECONDS if self._timeout.total is None else self._timeout.total
        only = self._resolver.only()
        if only is not None:
            return await listed(only, msgspec.structs.replace(self._timeout, total=seconds))
        found: dict[str, list[Model]] = {}

        async def ask(source: Source) -> None:
            try:
                found[source.id] = await source.models(self._timeout, seconds=seconds)
            except AntiphonError as error:
                logger.warning("No list of models from %s: %s", source.name, error)

        asked = await in_thread(self.sources)
        async with anyio.create_task_group() as group:
            for source in asked:
                group.start_soon(ask, source)
        return in_order(found)

    def sources(self) -> list[Source]:
        """Return the providers that can be asked for their models, each with its own key, none with this client's.

        This blocks: see `antiphon.providers.model_lists.sources`.
        """
        return sources(Resolver(self._transport, names=self._names))

    async def aclose(self) -> None:
        """Close what connections are open."""
        await self._transport.aclose()


async def _embedded(handler: Handler, request: EmbeddingRequest, call: Call) -> Embeddings:
    if not isinstance(handler, Embedder):
        raise BadRequestError(f"The provider {handler.name!r} has no embeddings.", status=400)
    with logged("embeddings", handler.name, request.model):
        return await handler.embed(request, call)


class Prepared:
    """One call, ready to run, once."""

    def __init__(
        self, handler: Handler, request: ChatRequest, call: Call, *, separate_usage: bool, think_tags: ThinkTags = False
    ) -> None:
        self.handler = handler
        self.request = request
        self.call = call
        self.separate_usage = separate_usage
        self.think_tags: ThinkTags = think_tags
        self.watch = Watch(handler.name, request.model)

    @property
    def format(self) -> str | None:
        """Name of the wire format that the provider speaks, `None` where it is not reached over HTTP."""
        return self.handler.codec.name if isinstance(self.handler, Endpoint) else None

    async def events(self) -> AsyncGenerator[Event, None]:
        """Run it and give the events of the answer, the last of which is `End`."""
        with self._watched() as watch:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if watch.silent or type(event) is not TextDelta:  # more text tells it nothing
                        watch.see(event)
                    yield event
            watch.over()

    async def complete(self) -> Completion:
        """Run it and return the whole answer.

        Raises:
            StreamError: With what was received so far in `received`.
        """
        folder = Folder()
        try:
            with self._watched() as watch:
                async with aclosing(self._events()) as events:
                    async for event in events:
                        watch.see(event)
                        folder.add(event)
                watch.over()
        except StreamError as error:
            error.received = self.folded(folder)
            raise
        return self.folded(folder)

    def folded(self, folder: Folder) -> Completion:
        """Return what *folder* made of the events so far, with the receipt of the call."""
        completion, call = folder.completion(), self.call
        if not call.losses and not call.reply_headers:
            return completion
        return msgspec.structs.replace(completion, losses=tuple(call.losses), headers=call.reply_headers)

    async def chunks(self) -> AsyncGenerator[CompletionChunk, None]:
        """Run it and give the answer in pieces."""
        chunker = Chunker(separate_usage=self.separate_usage, losses=self.call.losses)
        with self._watched() as watch:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if watch.silent or type(event) is not TextDelta:  # more text tells it nothing
                        watch.see(event)
                    for chunk in chunker.feed(event):
                        yield chunk
            watch.over()

    async def steps(self) -> AsyncGenerator[tuple[Event, list[CompletionChunk]], None]:
        """Run it and give each event with the chunks it makes, for who puts the answer together on the way."""
        chunker = Chunker(separate_usage=self.separate_usage, losses=self.call.losses)
        with self._watched() as watch:
            async with aclosing(self._events()) as events:
                async for event in events:
                    watch.see(event)
                    yield event, chunker.feed(event)
            watch.over()

    async def text(self) -> AsyncGenerator[str, None]:
        """Run it and give the text of the first choice in pieces."""
        with self._watched() as watch:
            async with aclosing(self._events()) as events:
                async for event in events:
                    watch.see(event)
                    if type(event) is TextDelta and event.choice == 0 and event.text:
                        yield event.text
            watch.over()

    def _watched(self) -> Watch:
        """Return who sees the events of one run; a round of a loop is one of several."""
        self.watch = Watch(self.handler.name, self.request.model)
        return self.watch

    def _events(self) -> AsyncGenerator[Event, None]:
        events = self.handler(self.request, self.call)
        return split_thoughts(events, self.think_tags) if self.think_tags else events
