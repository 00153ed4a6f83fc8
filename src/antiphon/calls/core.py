"""What both clients and the server share: finding the provider of a call, preparing it, lists, counts, embeddings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import anyio
import msgspec

from antiphon.calls.observer import logged
from antiphon.calls.params import ChatParams, EmbeddingParams, Messages, chat_request, unknown_parameter
from antiphon.calls.preparation import PreparedCall
from antiphon.chat.embeddings import EmbeddingRequest, Embeddings
from antiphon.chat.kept import without_kept
from antiphon.chat.requests import ChatRequest
from antiphon.errors import AntiphonError, BadRequestError
from antiphon.formats.openai_chat.message import NAME
from antiphon.http.exchange import HTTPTransport
from antiphon.http.tls import Certificate, Verify
from antiphon.http.transport import Timeout, Transport
from antiphon.providers.auth import Secret
from antiphon.providers.base import Call, Embedder, Handler
from antiphon.providers.http import HTTPProvider
from antiphon.providers.lookup import ProviderLookup, ProviderNames
from antiphon.providers.model_lists import LIST_SECONDS, Model, Source, in_order, listed, sources
from antiphon.sync.blocking import run_in_thread

__all__ = ["ClientCore"]


logger = logging.getLogger("antiphon")


class ClientCore:
    """Everything a client does, once, in async code."""

    def __init__(
        self,
        provider: Any = None,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        timeout: float | timedelta | Timeout | None = None,
        transport: Transport | None = None,
        strict: bool = False,
        names: ProviderNames | None = None,
        *,
        served: bool = False,
        verify: Verify = True,
        cert: Certificate | None = None,
    ) -> None:
        if transport is not None and (verify is not True or cert is not None):
            raise TypeError("verify and cert are for the transport that comes with the client: give them to yours.")
        self._transport = transport or HTTPTransport(verify=verify, cert=cert)
        self._names = names
        self._resolver = ProviderLookup(
            self._transport, provider=provider, api_key=api_key, base_url=base_url, names=names, served=served
        )
        self._timeout = Timeout.of(timeout)
        self._strict = strict

    def prepare(
        self, messages: Messages, model: str, params: ChatParams, provider: Any = None, *, stream: bool
    ) -> PreparedCall:
        """Check everything that can be checked before anything runs."""
        handler, name = self._resolver.find(model, provider)
        format = handler.codec.name if isinstance(handler, HTTPProvider) else NAME
        request = chat_request(messages, name, params, stream=stream, format=format)
        call = self._call(params)
        tags = params.get("think_tags")
        if tags is None:
            tags = isinstance(handler, HTTPProvider) and handler.think_tags
        return PreparedCall(handler, request, call, separate_usage=bool(request.include_usage), think_tags=tags)

    def find(self, model: str, *, exact_for: str | None = None) -> tuple[Handler, str]:
        """Return who answers for *model*, and its name there; see `ProviderLookup.find`.

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
    ) -> PreparedCall:
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
        tags = isinstance(handler, HTTPProvider) and handler.think_tags
        call = Call(timeout=self._timeout, strict=self._strict, headers=headers)
        if isinstance(handler, HTTPProvider) and handler.codec.name == format and not request.stream and not tags:
            call.body = []
        request = request.but(model=name)
        if not isinstance(handler, HTTPProvider) or handler.codec.name != format:
            request = without_kept(request)  # or what was read would be held until the answer is over
        return PreparedCall(handler, request, call, separate_usage=bool(request.include_usage), think_tags=tags)

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

    async def count(self, prepared: PreparedCall) -> int:
        """Ask the provider of a call how many input tokens its request has.

        Raises:
            BadRequestError: The provider has no way to tell.
        """
        if not isinstance(prepared.handler, HTTPProvider):
            raise BadRequestError(f"The provider {prepared.handler.name!r} has no way to count tokens.")
        with logged("tokens", prepared.handler.name, prepared.request.model):
            return await prepared.handler.count_tokens(prepared.request, prepared.call)

    async def embed(self, texts: str | Sequence[str], model: str, params: EmbeddingParams) -> Embeddings:
        """Ask the provider for the vectors of *texts*.

        Raises:
            BadRequestError: The provider has no embeddings, or *texts* are not texts.
        """
        if unknown := sorted(params.keys() - EmbeddingParams.__annotations__.keys()):
            raise TypeError(unknown_parameter(unknown[0], EmbeddingParams.__annotations__, "A call for embeddings"))
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

        asked = await run_in_thread(self.sources)
        async with anyio.create_task_group() as group:
            for source in asked:
                group.start_soon(ask, source)
        return in_order(found)

    def sources(self) -> list[Source]:
        """Return the providers that can be asked for their models, each with its own key, none with this client's.

        This blocks: see `antiphon.providers.model_lists.sources`.
        """
        return sources(ProviderLookup(self._transport, names=self._names))

    async def aclose(self) -> None:
        """Close what connections are open."""
        await self._transport.aclose()


async def _embedded(handler: Handler, request: EmbeddingRequest, call: Call) -> Embeddings:
    if not isinstance(handler, Embedder):
        raise BadRequestError(f"The provider {handler.name!r} has no embeddings.", status=400)
    with logged("embeddings", handler.name, request.model):
        return await handler.embed(request, call)
