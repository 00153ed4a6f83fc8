"""Floor 4: the handler that meets an upstream over HTTP: a codec, a transport and a key. No other code does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from antiphon.auth import Auth, HiddenHeaders, Secret, redact
from antiphon.errors import (
    AntiphonError,
    APIConnectionError,
    APIError,
    BadRequestError,
    ResponseTooLargeError,
    StreamError,
)
from antiphon.events import Event, Finish, MessageDelta, Start, UnknownEvent, UsageUpdate
from antiphon.handler import Call
from antiphon.transport import Reply, Timeout, Transport
from antiphon.types import ChatRequest, Loss, Message, Part, Reasoning
from antiphon.wire.codec import Codec, HTTPRequest

__all__ = ["Endpoint"]

_MAX_ERROR_BODY = 1024 * 1024
_MAX_LIST_BODY = 16 * 1024 * 1024
_SILENT = (Start, MessageDelta, UsageUpdate, UnknownEvent, Finish)


class Endpoint:
    """A provider behind HTTP.

    Args:
        name: The provider's name, told with every answer and every error.
        codec: The wire format it speaks.
        base_url: Where it is, with the path that the codec's own path follows; no slash at the end.
        auth: How requests are signed.
        transport: What carries them.
        secrets: Keys to strike out of whatever the provider says.
        ask_usage: Whether to ask for the usage of streams where the request does not say.
    """

    is_handler: Final = True

    def __init__(
        self,
        name: str,
        codec: Codec,
        base_url: str,
        *,
        auth: Auth,
        transport: Transport,
        secrets: tuple[Secret, ...] = (),
        ask_usage: bool = True,
    ) -> None:
        self.name = name
        self.codec = codec
        self.base_url = base_url.rstrip("/")
        self._auth = auth
        self._transport = transport
        self._secrets = secrets
        self._ask_usage = ask_usage

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, {self.base_url!r})"

    async def __call__(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """Give the events of the upstream's answer to *request*."""
        try:
            http = self._encode(request, call)
            url = self.base_url + http.path
            headers = HiddenHeaders(http.headers) | self._auth(http, url) | call.headers
            async with self._transport.open(url, http, headers=headers, timeout=call.timeout) as reply:
                if reply.status >= 400:
                    raise self.codec.decode_error(reply.status, reply.headers, await _error_body(reply))
                decoder = self.codec.decoder(request, reply.content_type)
                waiting = True
                async for data in reply:
                    for event in decoder.feed(data):
                        if waiting:
                            event, waiting = self._first(event, reply)
                        yield event
                for event in decoder.close():
                    if waiting:
                        event, waiting = self._first(event, reply)
                    yield event
        except AntiphonError as error:
            self._tell(error, request.model)
            raise

    async def models(self, clocks: Timeout) -> list[tuple[str, int]]:
        """Ask the upstream which models it has: pairs of name and the Unix time it was made, 0 where not told.

        Raises:
            APIError: It did not answer, or not with OpenAI's list.
        """
        request = self.codec.models_request()
        url = self.base_url + request.path
        try:
            headers = HiddenHeaders(request.headers) | self._auth(request, url)
            async with self._transport.open(url, request, headers=headers, timeout=clocks) as reply:
                if reply.status >= 400:
                    raise self.codec.decode_error(reply.status, reply.headers, await _error_body(reply))
                return _model_list(await reply.read(_MAX_LIST_BODY))
        except AntiphonError as error:
            self._tell(error, None)
            raise

    def _first(self, event: Event, reply: Reply) -> tuple[Event, bool]:
        """Say who answers, and stop the first-token clock with the first event that brings something."""
        if type(event) is Start:
            event = msgspec.structs.replace(event, provider=self.name)
        if type(event) in _SILENT:
            return event, True
        reply.got_token()
        return event, False

    def _encode(self, request: ChatRequest, call: Call) -> HTTPRequest:
        if self._ask_usage and request.stream and request.include_usage is None:
            request = request.but(include_usage=True)
        losses: tuple[Loss, ...] = ()
        if not all(message.provider in (None, self.name) for message in request.messages):
            request, losses = self._without_foreign_state(request)
        try:
            http = self.codec.encode_request(request)
        except (UnicodeEncodeError, TypeError) as error:
            # The error itself has the text in question in its attributes, which may be private.
            reason = "a lone surrogate is no character" if isinstance(error, UnicodeEncodeError) else str(error)
            raise BadRequestError(f"The request cannot be written as JSON: {reason}.", status=400, param="$") from None
        losses += http.losses
        call.losses.extend(losses)
        if call.strict and losses:
            listed = "; ".join(f"{loss.path}: {loss.reason}" for loss in losses)
            raise BadRequestError(
                f"{len(losses)} part(s) of the request cannot be said in the format {self.codec.name!r}, and "
                f"strict=True forbids leaving them out. {listed}",
                param=losses[0].path,
            )
        return http

    def _without_foreign_state(self, request: ChatRequest) -> tuple[ChatRequest, tuple[Loss, ...]]:
        """Leave out of each message what only the provider that wrote it may see again."""
        messages: list[Message] = []
        losses: list[Loss] = []
        for place, message in enumerate(request.messages):
            if message.provider not in (None, self.name):
                reason = f"This is for {message.provider!r} alone to see."
                secrets = [f"$.messages[{place}].{field}" for field in _opaque(message)]
                parts: list[Part] = []
                for number, part in enumerate(message.parts):
                    secrets += (f"$.messages[{place}].parts[{number}].{field}" for field in _opaque(part))
                    sealed = {"signature": None} if isinstance(part, Reasoning) else {}
                    parts.append(msgspec.structs.replace(part, extra=None, form=None, **sealed))
                losses += (Loss("dropped", path, reason) for path in secrets)
                message = msgspec.structs.replace(message, parts=tuple(parts), extra=None, form=None)
            messages.append(message)
        return request.but(messages=tuple(messages)), tuple(losses)

    def _tell(self, error: AntiphonError, model: str | None) -> None:
        """Let *error* say who failed, and nothing of a key that the provider may have repeated."""
        error.provider = error.provider or self.name
        error.model = error.model or model
        message = redact(error.message, *self._secrets)
        if message != error.message:
            error.message, error.args = message, (message,)
        if not isinstance(error, APIError) or not self._secrets:
            return
        for name in ("code", "type", "param", "request_id"):
            if (told := getattr(error, name)) is not None:
                setattr(error, name, redact(told, *self._secrets))
        if error.body is not None:
            text = msgspec.json.encode(error.body).decode()
            if (clean := redact(text, *self._secrets)) != text:
                error.body = msgspec.json.decode(clean)


async def _error_body(reply: Reply) -> bytes:
    """Return the body of an error reply, nothing if it does not arrive whole: its status says more than that fault."""
    try:
        return await reply.read(_MAX_ERROR_BODY)
    except (APIConnectionError, ResponseTooLargeError, StreamError):
        return b""


def _opaque(node: Message | Part) -> list[str]:
    """Return the fields of *node* that only who wrote it may see again."""
    fields = [field for known in (node.extra or {}).values() for field in known]
    return [*fields, "signature"] if isinstance(node, Reasoning) and node.signature is not None else fields


class _ListedModel(msgspec.Struct):
    id: str
    created: int | None = None


class _ModelList(msgspec.Struct):
    data: list[_ListedModel]


def _model_list(body: bytes) -> list[tuple[str, int]]:
    try:
        listed: _ModelList | list[_ListedModel] = msgspec.json.decode(body, type=_ModelList | list[_ListedModel])
    except msgspec.MsgspecError as error:
        raise APIError(f"The list of models is not one: {error}.") from None
    return [(model.id, model.created or 0) for model in (listed if isinstance(listed, list) else listed.data)]
