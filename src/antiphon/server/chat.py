"""The one endpoint that answers chats, with the dialect as its parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from antiphon.calls.preparation import PreparedCall
from antiphon.chat.answers import REQUEST_IDS
from antiphon.chat.events import End, fold
from antiphon.chat.messages import Opaque, Part
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError, BadRequestError
from antiphon.formats import json, read
from antiphon.formats.codec import Dialect, Encoder
from antiphon.server.error_replies import client_error
from antiphon.server.exchange import NEVER, Exchange, Receive, Scope, Send
from antiphon.server.fields import relayed
from antiphon.server.gateway import Gateway
from antiphon.sync.blocking import LARGE, computed

__all__ = ["Chat", "decoded"]

R = TypeVar("R")

_MANY = 1000
"""Events of a whole answer from which on it is written in a thread."""

_KEPT: Mapping[str, tuple[str, ...]] = {"openai-responses": ("previous_response_id", "conversation", "prompt")}
"""Fields that stand for messages kept by the provider, by format."""


async def decoded(body: bytes, decode: Callable[[], R], gateway: Gateway) -> R:
    """Return what *decode* makes of the *body* of a request; a large one does not keep other requests waiting.

    Raises:
        BadRequestError: *decode* says so, or the body has more values than the server takes.
    """

    def work() -> R:
        read.check_size(body, gateway.config.limits.values)
        return decode()

    return await computed(work, read.weight(body))


class Chat:
    """Answers chats in one dialect, from any provider. An ASGI application.

    Args:
        dialect: In which requests are read and answers written.
        at: Gives the dialect by path and query, where these change how it is written.
        operation: OpenTelemetry's name of what is done, for metrics and the log.
    """

    def __init__(
        self, dialect: Dialect, *, at: Callable[[str], Dialect] | None = None, operation: str = "chat"
    ) -> None:
        self.dialect = dialect
        self.at = at
        self.operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange: Exchange = scope["exchange"]
        gateway: Gateway = scope["gateway"]
        exchange.operation = self.operation
        async with gateway.slot(exchange):
            body = await exchange.body(gateway.config.limits)
            request = await decoded(body, partial(self.dialect.decode_request, body, exchange.target), gateway)
            self._check(request, exchange, gateway)
            prepared = await gateway.route(request, exchange, self.dialect.name)
            prepared.call.size = read.weight(body)
            if prepared.format != self.dialect.name:
                _check_whole(request, self.dialect.name)
                request = prepared.request.but(model=request.model)  # which keeps nothing of how it came
            dialect = self.dialect if self.at is None else self.at(exchange.target)
            answer = _Answer(exchange, prepared, dialect, request)
            try:
                if request.stream:
                    exchange.keep_alive = gateway.config.timeouts.keep_alive or NEVER
                    exchange.idle, exchange.on_abort = answer.idle, answer.fail
                    await answer.stream()
                else:
                    await answer.whole()
            finally:
                answer.note()

    @staticmethod
    def _check(request: ChatRequest, exchange: Exchange, gateway: Gateway) -> None:
        exchange.model, exchange.streamed = request.model, request.stream
        most = gateway.config.limits.messages
        if len(request.messages) > most:
            raise BadRequestError(
                f"The request has {len(request.messages):,} messages, and this server takes {most:,} at most "
                "(limits.messages).",
                status=400,
                param="$.messages",
                type="invalid_request_error",
            )


def _check_whole(request: ChatRequest, format: str) -> None:
    """Refuse a request that goes on from what only a provider of its own format keeps.

    A model of another would answer a conversation of which it has not seen the most, and nobody would notice.
    """
    fields = (request.extra or {}).get(format, {})
    kept = [f"$.{name}" for name in _KEPT.get(format, ()) if fields.get(name) is not None]
    for place, message in enumerate(request.messages):
        kept += (f"$.messages[{place}]" for part in message.parts if _is_reference(part))
    if kept:
        raise BadRequestError(
            f"{kept[0]} stands for what was said before, which the provider of this model does not have and this "
            "server does not keep: send the whole conversation.",
            status=400,
            param=kept[0],
            type="invalid_request_error",
        )


def _is_reference(part: Part) -> bool:
    data: Any = part.data if isinstance(part, Opaque) else None
    return json.is_object(data) and data.get("type") == "item_reference"


class _Answer:
    """The answer to one request, as it is written."""

    def __init__(self, exchange: Exchange, prepared: PreparedCall, dialect: Dialect, request: ChatRequest) -> None:
        self._exchange = exchange
        self._prepared = prepared
        self._dialect = dialect
        self._request = request
        self._encoder: Encoder | None = None
        self._held: list[bytes] = []
        """What was not sent yet, because the answer has not said anything."""

    async def whole(self) -> None:
        """Answer in one piece."""
        async with aclosing(self._prepared.events()) as events:
            heard = [event async for event in events]
        # What came in this dialect goes on as it came, once it was heard to its end.
        call = self._prepared.call
        size = max(call.answer_size, LARGE if len(heard) >= _MANY else 0)
        body = b"".join(call.body or ()) or await computed(lambda: self._dialect.encode_response(fold(heard)), size)
        self._exchange.got_first()
        self._exchange.losses = self._prepared.call.losses
        await self._exchange.reply(200, body, self._headers())

    async def stream(self) -> None:
        """Answer piece by piece: one write an event, the first as soon as the answer says something.

        An error before that becomes a status; one after it, the error event of the dialect.
        """
        exchange, prepared = self._exchange, self._prepared
        asked = self._request.but(include_usage=bool(self._request.include_usage))
        encoder = self._encoder = self._dialect.encoder(asked)
        try:
            async with aclosing(prepared.events()) as events:
                async for event in events:
                    if exchange.first is not None:
                        await self._write(list(encoder.feed(event)), last=type(event) is End)
                        continue
                    self._held += encoder.feed(event)
                    if not prepared.watch.silent:
                        exchange.got_first()
                        await self._begin(last=type(event) is End)
        except Exception as error:
            if not exchange.started:
                raise
            await self.fail(client_error(error, exchange))

    async def idle(self) -> None:
        """Let a client that has waited long know that it is still worth waiting."""
        if self._dialect.stream_type == "text/event-stream":
            await self._begin()
            await self._exchange.write(b": the answer is on its way\n\n")

    async def _begin(self, *, last: bool = False) -> None:
        if not self._exchange.started:
            self._exchange.losses = self._prepared.call.losses
            await self._exchange.start(200, self._dialect.stream_type, self._headers())
        held, self._held = self._held, []
        await self._write(held, last=last)

    async def _write(self, frames: list[bytes], *, last: bool) -> None:
        if not last:
            for frame in frames:
                await self._exchange.write(frame)
            return
        for frame in frames[:-1]:
            await self._exchange.write(frame)
        await self._exchange.write(frames[-1] if frames else b"", last=True)

    async def fail(self, error: APIError) -> None:
        """Tell of an error in an answer that has begun."""
        assert self._encoder is not None, "only streams begin before they are over"
        self._exchange.failed(error)
        if not self._exchange.complete:
            await self._exchange.write(self._encoder.error(error), last=True)

    def note(self) -> None:
        """Let the exchange know what the provider told of the call."""
        exchange, ids = self._exchange, self._prepared.call.response_headers
        exchange.usage = self._prepared.watch.usage
        exchange.provider_id = exchange.provider_id or next((ids[name] for name in REQUEST_IDS if name in ids), None)

    def _headers(self) -> Mapping[str, str]:
        """Return what the provider's head says that is worth passing on: its rate limits."""
        reply = self._prepared.call.response_headers
        return relayed(field for field in reply.items() if "ratelimit" in field[0].replace("-", ""))
