"""The ASGI application: which path is answered by whom, in which dialect."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup
from starlette.routing import Route, Router

from antiphon.formats.anthropic import Anthropic
from antiphon.formats.codec import Dialect
from antiphon.formats.embeddings import (
    GeminiEmbeddings,
    OldOllamaEmbeddings,
    OllamaEmbeddings,
    OpenAIEmbeddings,
    VertexEmbeddings,
)
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.legacy_completions import OpenAIText
from antiphon.formats.responses import Responses
from antiphon.http.exchange import HTTPTransport
from antiphon.http.transport import Transport
from antiphon.server.chat import Chat
from antiphon.server.endpoints import CountTokens, CreateEmbeddings, ListModels, MetricsEndpoint, Status
from antiphon.server.exchange import Exchange, Receive, Scope, Send
from antiphon.server.gateway import Gateway
from antiphon.server.middleware import UNAUTHENTICATED_PATHS, RequestMiddleware
from antiphon.server.openapi import described
from antiphon.settings.config import Config
from antiphon.sync.blocking import run_in_thread

if TYPE_CHECKING:
    from antiphon.server.metrics import Metrics

__all__ = ["VERSION", "Application"]

logger = logging.getLogger("antiphon.server")

VERSION = version("antiphon")

_TICK = 0.25
"""Seconds."""

OPENAI, TEXT, RESPONSES, ANTHROPIC, GEMINI, OLLAMA = (
    OpenAIChat(), OpenAIText(), Responses(), Anthropic(), Gemini(), Ollama()
)  # fmt: skip


def _dialect_of(exchange: Exchange) -> Dialect:
    """Return the dialect that a client at this path understands, whether or not there is anything."""
    path = exchange.path
    if path.startswith("/v1beta/") or (path.startswith("/v1/models") and _asks_google(exchange)):
        return GEMINI
    if path.startswith("/api/"):
        return OLLAMA
    if path.startswith("/v1/messages") or exchange.header(b"anthropic-version"):
        return ANTHROPIC
    return RESPONSES if path.startswith("/v1/responses") else OPENAI


def _asks_google(exchange: Exchange) -> bool:
    """Whether a request under `/v1/models`, where two dialects are at home, is in Google's."""
    actions = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")
    return exchange.path.rpartition(":")[2] in actions or any(
        exchange.header(name) for name in (b"x-goog-api-client", b"x-goog-api-key")
    )


class Application:
    """The server, as an ASGI application.

    Args:
        config: The settings.
        transport: What carries requests to providers.
        log: Is told of each exchange when it is over.
    """

    def __init__(
        self,
        config: Config,
        *,
        transport: Transport | None = None,
        log: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._transport = transport or HTTPTransport()
        self._log = log
        self.gateway = Gateway(config, self._transport)
        self.live: set[Exchange] = set()
        """The exchanges that are under way."""
        self.stopping = False
        self._metrics: Metrics | None = None
        if config.server.metrics:
            from antiphon.server.metrics import Metrics  # 40 ms and 5 MB, only where it is asked for

            self._metrics = Metrics(shared=config.server.workers > 1)
        self.routes = self._routes()
        self._router = Router(self.routes, redirect_slashes=False)
        self._plain = {
            (method, route.path): route.app
            for route in self.routes
            if "{" not in route.path
            for method in route.methods or ()
        }
        """What answers where no part of the path is a name, found without looking at every route."""
        self._app = RequestMiddleware(
            self._route, dialect=_dialect_of, gateway=lambda: self.gateway, enter=self._begun, done=self._done
        )

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._plain.get((scope["method"], scope["path"]), self._router)
        await app(scope, receive, send)

    def _routes(self) -> Sequence[Route]:
        models = ListModels(_dialect_of)
        routes = [
            _post("/v1/chat/completions", Chat(OPENAI)),
            _post("/v1/messages", Chat(ANTHROPIC)),
            _post("/v1/responses", Chat(RESPONSES)),
            _post("/api/chat", Chat(OLLAMA)),
            _post("/v1/completions", Chat(TEXT, operation="text_completion")),
            _post("/v1/embeddings", CreateEmbeddings(OpenAIEmbeddings())),
            _post("/api/embed", CreateEmbeddings(OllamaEmbeddings())),
            _post("/api/embeddings", CreateEmbeddings(OldOllamaEmbeddings())),
            _post("/v1/messages/count_tokens", CountTokens(ANTHROPIC)),
            _post("/v1/responses/input_tokens", CountTokens(RESPONSES)),
            *(route for version in ("v1beta", "v1") for route in _gemini(version)),
            _get("/v1/models", models),
            _get("/v1/models/{model:path}", models),
            _get("/v1beta/models", models),
            _get("/v1beta/models/{model:path}", models),
            _get("/api/tags", models),
            _post("/api/show", ListModels(_dialect_of, asked_in_body=True)),
            _get("/api/version", Status(lambda: (200, {"version": VERSION}))),
            _get("/health", Status(lambda: (200, {"status": "ok"}))),
            _get("/ready", Status(self._readiness)),
            _get("/", Status(lambda: (200, {"name": "antiphon", "version": VERSION, "paths": "/openapi.json"}))),
            _get("/openapi.json", Status(lambda: (200, document))),
        ]
        if self._metrics is not None:
            routes.append(_get("/metrics", MetricsEndpoint(self._metrics.written)))
        document = described(routes, version=VERSION, open_paths=UNAUTHENTICATED_PATHS)
        return routes

    def _readiness(self) -> tuple[int, Mapping[str, Any]]:
        return (503, {"status": "stopping"}) if self.stopping else (200, {"status": "ready"})

    def _begun(self, exchange: Exchange) -> None:
        self.live.add(exchange)
        if self._metrics is not None:
            self._metrics.begun()

    def _done(self, exchange: Exchange) -> None:
        self.live.discard(exchange)
        if self._metrics is not None:
            self._metrics.done(exchange)
        if self._log is not None:
            self._log(exchange)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live from start to end."""
        if scope["type"] == "http":
            scope["app"] = self  # so that the router raises what it finds wrong, to be told in the right dialect
            await self._app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            while (await receive())["type"] == "lifespan.startup":
                group.start_soon(self._check_timeouts, group)
                await send({"type": "lifespan.startup.complete"})
            group.cancel_scope.cancel()
        await self._transport.aclose()
        await run_in_thread(_close_local_models)
        await send({"type": "lifespan.shutdown.complete"})

    async def _check_timeouts(self, group: TaskGroup) -> None:
        """Do for each request under way what is to be done after some time."""
        while True:
            await anyio.sleep(_TICK)
            now = time.perf_counter()
            for exchange in list(self.live):
                if (overdue := exchange.check_timeouts(now)) is not None:
                    group.start_soon(_do, overdue)

    def use(self, config: Config) -> None:
        """Answer from now on as *config* says; what is under way goes on as it began."""
        self.gateway = Gateway(config, self._transport, lists=self.gateway.lists)

    def end_all(self) -> None:
        """End what is under way: streams with an error event, and the others with an error."""
        for exchange in list(self.live):
            exchange.cancel("stopping")


def _close_local_models() -> None:
    if (local := sys.modules.get("antiphon.providers.local.model")) is not None:  # else there is none
        local.close_served()


async def _do(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:  # whatever one request is ended by, the others are still to be looked after
        logger.exception("A comment to a client that waits could not be sent.")


def _gemini(version: str) -> Iterator[Route]:
    """Give the paths of Google's API, which are the same in each version of it: google-genai 3.3 asks for `v1`."""
    model = f"/{version}/models/{{model:path}}"
    for action in ("generateContent", "streamGenerateContent"):
        yield _post(f"{model}:{action}", Chat(GEMINI, at=GEMINI.at, operation="generate_content"))
    yield _post(f"{model}:countTokens", CountTokens(GEMINI))
    yield _post(f"{model}:embedContent", CreateEmbeddings(VertexEmbeddings()))
    yield _post(f"{model}:batchEmbedContents", CreateEmbeddings(GeminiEmbeddings()))


def _post(path: str, app: Any) -> Route:
    return Route(path, app, methods=["POST"])


def _get(path: str, app: Any) -> Route:
    return Route(path, app, methods=["GET"])
