"""What is asked besides chats: lists of models, counts of tokens, embeddings, and how the server is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from antiphon.chat.embeddings import EmbeddingRequest
from antiphon.chat.requests import ChatRequest
from antiphon.errors import BadRequestError, NotFoundError
from antiphon.formats import json, read
from antiphon.formats.codec import Dialect, TokenCounter
from antiphon.formats.embeddings import EmbeddingDialect
from antiphon.formats.listing import ListedModel
from antiphon.providers.model_lists import Model
from antiphon.server.chat import decoded
from antiphon.server.exchange import Exchange, Receive, Scope, Send
from antiphon.server.gateway import Gateway
from antiphon.sync.blocking import computed, run_in_thread

__all__ = ["CountTokens", "CreateEmbeddings", "ListModels", "MetricsEndpoint", "Status"]

_NUMBER_BYTES = 10
"""About what a number of a vector takes in JSON."""

DialectOf: TypeAlias = Callable[[Exchange], Dialect]


class ListModels:
    """Lists what can be asked for, or tells of one of them. An ASGI application.

    Args:
        dialect: In which a request wants to be answered.
        asked_in_body: Whether the name of the one that is asked for is in the body, not in the path.
    """

    def __init__(self, dialect: DialectOf, *, asked_in_body: bool = False) -> None:
        self._dialect = dialect
        self._asked_in_body = asked_in_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange: Exchange = scope["exchange"]
        gateway: Gateway = scope["gateway"]
        exchange.operation = "models"
        dialect = self._dialect(exchange)

        name: str | None = scope.get("path_params", {}).get("model")
        if self._asked_in_body:
            given = await exchange.body(gateway.config.limits)
            source = await decoded(given, partial(read.body, given), gateway)
            name = read.required_text(source, "model" if "model" in source else "name", "$")
        listed = [_listed(model) for model in await gateway.models(exchange)]
        if name is None:
            body = dialect.encode_models(listed)
        else:
            found = next((model for model in listed if model.id == name), None)
            if found is None:
                raise NotFoundError(
                    f"This server has no model {name[:200]!r}; GET /v1/models lists those it has.",
                    status=404,
                    code="model_not_found",
                    type="not_found_error",
                )
            body = dialect.encode_model(found)
        await exchange.reply(200, body)


def _listed(model: Model) -> ListedModel:
    return ListedModel(id=model.id, provider=model.provider, created=model.created)


class CountTokens:
    """Tells how many input tokens a request has. An ASGI application.

    Args:
        dialect: Its format, one that can be asked that.
    """

    def __init__(self, dialect: Dialect) -> None:
        assert isinstance(dialect, TokenCounter), "a route for counts has a dialect that can say them"
        self._dialect: Any = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange: Exchange = scope["exchange"]
        gateway: Gateway = scope["gateway"]
        exchange.operation = "count_tokens"
        async with gateway.slot(exchange):
            body = await exchange.body(gateway.config.limits)
            decode: Callable[[], ChatRequest] = partial(self._dialect.decode_request, body, exchange.target)
            request = await decoded(body, decode, gateway)
            exchange.model = request.model
            prepared = await gateway.route(request, exchange, self._dialect.name)
            prepared.call.size = read.weight(body)

            count = await gateway.core.count(prepared)
            exchange.losses = prepared.call.losses
            await exchange.reply(200, self._dialect.encode_token_count(count))


class CreateEmbeddings:
    """Turns texts into vectors. An ASGI application.

    Args:
        dialect: In which requests are read and answers written.
    """

    def __init__(self, dialect: EmbeddingDialect) -> None:
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange: Exchange = scope["exchange"]
        gateway: Gateway = scope["gateway"]
        exchange.operation = "embeddings"
        async with gateway.slot(exchange):
            body = await exchange.body(gateway.config.limits)
            request, base64 = await decoded(body, partial(self._read, body, exchange.target), gateway)
            exchange.model = request.model
            _check_inputs(request, gateway.config.limits.inputs)
            vectors = await gateway.embed(request, exchange, self._dialect.name)
            exchange.losses = vectors.losses
            size = _NUMBER_BYTES * sum(len(item.embedding) for item in vectors.data)
            answer = await computed(partial(self._dialect.encode_response, vectors, base64=base64), size)
            await exchange.reply(200, answer)

    def _read(self, body: bytes, target: str) -> tuple[EmbeddingRequest, bool]:
        """Return the request in *body*, and whether its answer is wanted in base64."""
        request = self._dialect.decode_request(body, target)
        return request, json.decode(body).get("encoding_format") == "base64"


def _check_inputs(request: EmbeddingRequest, most: int) -> None:
    if len(request.texts) > most:
        raise BadRequestError(
            f"The request has {len(request.texts):,} texts, and this server takes {most:,} at most (limits.inputs): "
            "send several requests.",
            status=400,
            param="$.input",
            type="invalid_request_error",
        )


class Status:
    """Tells something of the server itself. An ASGI application.

    Args:
        fact: Gives the status and the JSON object to answer with.
    """

    def __init__(self, fact: Callable[[], tuple[int, Mapping[str, Any]]]) -> None:
        self._fact = fact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange: Exchange = scope["exchange"]
        exchange.operation = "status"
        status, fact = self._fact()
        await exchange.reply(status, json.encode(fact))


class MetricsEndpoint:
    """Tells the metrics. An ASGI application.

    Args:
        written: Gives them, and their content type.
    """

    def __init__(self, written: Callable[[], tuple[bytes, str]]) -> None:
        self._written = written

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange: Exchange = scope["exchange"]
        exchange.operation = "metrics"
        body, content_type = await run_in_thread(self._written)
        await exchange.reply(200, body, content_type=content_type)
