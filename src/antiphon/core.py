"""Floor 6: what every face does, once, in async code: check a call, run it, hold the provider to its end, log it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from types import NoneType
from typing import Any, TypeAlias, TypedDict, cast

import anyio
import msgspec

from antiphon.auth import Secret
from antiphon.catalog import ProviderRow, providers
from antiphon.chunks import Chunker
from antiphon.completion import Completion, CompletionChunk
from antiphon.endpoint import Endpoint
from antiphon.errors import AntiphonError, StreamError
from antiphon.events import End, Event, Folder, Start, TextDelta, UnknownEvent, UsageUpdate
from antiphon.handler import Call, Handler
from antiphon.http.exchange import HTTPTransport
from antiphon.resolve import ANY_MODEL, DEFAULT_MODEL, Resolver
from antiphon.threads import in_thread
from antiphon.transport import Timeout, Transport
from antiphon.types import ChatRequest, Message, Usage
from antiphon.wire.openai_message import NAME
from antiphon.wire.openai_request import decode_request

__all__ = ["ChatParams", "Core", "Messages", "Model", "Prepared", "chat_request"]

logger = logging.getLogger("antiphon")

Messages: TypeAlias = str | Sequence[Mapping[str, Any] | Message]
"""A conversation: OpenAI-style dicts, `Message` objects, both mixed, or one string for a single user message."""


class ChatParams(TypedDict, total=False):
    """What a call may set besides its messages and model, by OpenAI's names. `None` is the same as not set."""

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
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: Mapping[str, Any] | None
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


_LOCAL = frozenset({"extra_body", "extra_headers", "timeout", "strict"})
_KNOWN = frozenset(ChatParams.__annotations__)
# Abstract classes come last: to ask for one takes several times as long, and every value of a request is asked.
_ATOMS = (str, int, float, NoneType)
_OBJECTS = (dict, Mapping)
_ARRAYS = (list, tuple)


def chat_request(messages: Messages, model: str, params: Mapping[str, Any], *, stream: bool) -> ChatRequest:
    """Make the neutral request of a call.

    Raises:
        BadRequestError: A value of the wrong type; `param` is its path, such as `$.messages[0].role`.
        TypeError: A parameter that no chat completion has.
    """
    if unknown := sorted(params.keys() - _KNOWN):
        raise TypeError(_unknown_parameter(unknown[0]))
    given = {key: _plain(value) for key, value in params.items() if value is not None and key not in _LOCAL}
    if isinstance(messages, str):
        messages = [Message.user(messages)]
    listed: Any = [m if isinstance(m, Message) else _plain(m) for m in messages] if _iterable(messages) else messages
    more: Mapping[str, Any] = params.get("extra_body") or {}
    request = decode_request({"model": model, "messages": listed, **given, **more}, exact=False).but(stream=stream)
    nulls = {key: None for key, value in more.items() if value is None and key != "stream"}
    if not nulls:
        return request
    extra = request.extra or {}
    return request.but(extra={**extra, NAME: {**extra.get(NAME, {}), **nulls}})


def _iterable(value: Any) -> bool:
    return isinstance(value, _ARRAYS) or (isinstance(value, Iterable) and not isinstance(value, (*_OBJECTS, bytes)))


def _plain(value: Any) -> Any:
    """Return *value* with tuples and other mappings as lists and dicts, which is what JSON has."""
    if isinstance(value, _ATOMS):
        return value
    if isinstance(value, _OBJECTS):
        return {key: _plain(item) for key, item in cast(Mapping[str, Any], value).items()}
    if isinstance(value, _ARRAYS):
        return [_plain(item) for item in cast(Sequence[Any], value)]
    return value


def _unknown_parameter(name: str) -> str:
    from difflib import get_close_matches  # only needed to word an error

    near = get_close_matches(name, _KNOWN, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"A chat completion has no parameter {name!r}.{hint} Fields of one provider go into extra_body={{…}}."


class Model(msgspec.Struct, frozen=True):
    """A model that can be asked for."""

    id: str
    """The name to pass as `model`."""
    provider: str
    created: int = 0
    """Unix time in seconds; 0 where the provider does not tell."""


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
    ) -> None:
        self._transport = transport or HTTPTransport()
        self._resolver = Resolver(self._transport, provider=provider, api_key=api_key, base_url=base_url)
        self._timeout = Timeout.of(timeout)
        self._strict = strict

    def prepare(
        self, messages: Messages, model: str, params: ChatParams, provider: Any = None, *, stream: bool
    ) -> Prepared:
        """Check everything that can be checked before anything runs."""
        handler, name = self._resolver.find(model, provider)
        request = chat_request(messages, name, params, stream=stream)
        timeout, strict = params.get("timeout"), params.get("strict")
        headers = {key.lower(): value for key, value in (params.get("extra_headers") or {}).items()}
        call = Call(
            timeout=self._timeout if timeout is None else Timeout.of(timeout),
            strict=self._strict if strict is None else strict,
            headers=headers,
        )
        return Prepared(handler, request, call, separate_usage=bool(request.include_usage))

    async def models(self) -> list[Model]:
        """List what can be asked for.

        A client made for one provider asks that one. Any other lists the local model and asks every provider whose key
        is in the environment, all at once; one that does not answer is logged and left out.

        Raises:
            APIError: The client's one provider did not answer.
        """
        only = self._resolver.only()
        if only is not None:
            return await self._listed(only, prefix="")
        found = {"local": [Model(DEFAULT_MODEL, "local")]}
        each_with_its_own_key = Resolver(self._transport)  # and none with the key of this client

        async def ask(row: ProviderRow) -> None:
            try:
                found[row.id] = await self._listed(
                    each_with_its_own_key.find(ANY_MODEL, row.id)[0], prefix=f"{row.id}/"
                )
            except AntiphonError as error:
                logger.warning("No list of models from %s: %s", row.name, error)

        known = await in_thread(providers)  # looks through what is installed
        async with anyio.create_task_group() as group:
            for row in known.values():
                if isinstance(row, ProviderRow) and row.key and row.key_set():
                    group.start_soon(ask, row)
        return [model for name in sorted(found, key=lambda name: (name != "local", name)) for model in found[name]]

    async def _listed(self, handler: Handler, *, prefix: str) -> list[Model]:
        if isinstance(handler, Endpoint):
            return [Model(prefix + id, handler.name, created) for id, created in await handler.models(self._timeout)]
        return [Model(prefix + (getattr(handler, "model", "") or handler.name), handler.name)]

    async def aclose(self) -> None:
        """Close what connections are open."""
        await self._transport.aclose()


class Prepared:
    """One call, ready to run, once."""

    def __init__(self, handler: Handler, request: ChatRequest, call: Call, *, separate_usage: bool) -> None:
        self.handler = handler
        self.request = request
        self.call = call
        self.separate_usage = separate_usage

    async def complete(self) -> Completion:
        """Run it and return the whole answer.

        Raises:
            StreamError: With what was received so far in `received`.
        """
        folder = Folder()
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    folder.add(event)
        except StreamError as error:
            error.received = folder.completion()
            raise
        completion, losses = folder.completion(), tuple(self.call.losses)
        return msgspec.structs.replace(completion, losses=losses) if losses else completion

    async def chunks(self) -> AsyncGenerator[CompletionChunk, None]:
        """Run it and give the answer in pieces."""
        chunker = Chunker(separate_usage=self.separate_usage)
        async with aclosing(self._events()) as events:
            async for event in events:
                for chunk in chunker.feed(event):
                    yield chunk

    async def steps(self) -> AsyncGenerator[tuple[Event, list[CompletionChunk]], None]:
        """Run it and give each event with the chunks it makes, for who puts the answer together on the way."""
        chunker = Chunker(separate_usage=self.separate_usage)
        async with aclosing(self._events()) as events:
            async for event in events:
                yield event, chunker.feed(event)

    async def text(self) -> AsyncGenerator[str, None]:
        """Run it and give the text of the first choice in pieces."""
        async with aclosing(self._events()) as events:
            async for event in events:
                if type(event) is TextDelta and event.choice == 0 and event.text:
                    yield event.text

    async def _events(self) -> AsyncGenerator[Event, None]:
        """Give the events, hold the provider to ending them, and log one line when it is over."""
        record = _Record(self.handler.name, self.request)
        try:
            async with aclosing(self.handler(self.request, self.call)) as events:
                async for event in events:
                    if record.silent or type(event) is not TextDelta:  # more text tells it nothing
                        record.see(event)
                        if record.ended and record.silent:
                            raise self._broken("said nothing at all.")
                    yield event
            if not record.ended:
                raise self._broken("stopped without saying that its answer is complete.")
        except Exception as error:
            record.outcome = type(error).__name__
            raise
        except BaseException:  # closed or cancelled by the caller, who may well have had all of it
            record.outcome = "ok" if record.ended else "abandoned"
            raise
        finally:
            record.log()

    def _broken(self, what: str) -> StreamError:
        name = self.handler.name
        return StreamError(f"The provider {name!r} {what}", provider=name, model=self.request.model)


class _Record:
    """What the log line of one call says: never a prompt, an answer or a key."""

    def __init__(self, provider: str, request: ChatRequest) -> None:
        self._provider = provider
        self._model = request.model
        self._began = time.perf_counter()
        self._usage: Usage | None = None
        self.silent = True
        self.ended = False
        self.outcome = "ok"

    def see(self, event: Event) -> None:
        kind = type(event)
        if kind is UsageUpdate:
            self._used(cast(UsageUpdate, event).usage)
        elif kind is End:
            self.ended = True
            self._used(cast(End, event).usage)
        elif self.silent and kind is not Start and kind is not UnknownEvent:
            self.silent = False

    def _used(self, usage: Usage | None) -> None:
        if usage is not None:
            self._usage = usage if self._usage is None else self._usage.updated(usage)

    def log(self) -> None:
        if logger.isEnabledFor(logging.INFO):
            usage = self._usage or Usage()
            logger.info(
                "chat provider=%s model=%s duration=%.3fs input_tokens=%s output_tokens=%s outcome=%s",
                self._provider,
                self._model or "-",
                time.perf_counter() - self._began,
                "-" if usage.prompt_tokens is None else usage.prompt_tokens,
                "-" if usage.completion_tokens is None else usage.completion_tokens,
                self.outcome,
            )
