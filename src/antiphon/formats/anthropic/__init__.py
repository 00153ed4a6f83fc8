"""Anthropic Messages, the codec. Pure functions, no I/O.

Streams are read by `stream.py` and written by `frames.py`.

Source: anthropic 2.12, "Migrating to API version 2026-10-21" (read 2026-11-22), recorded exchanges.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from antiphon.chat.answers import Completion
from antiphon.chat.losses import Loss
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError
from antiphon.formats import json
from antiphon.formats.anthropic.answer import (
    decode_completion,
    encode_completion,
    error_code,
    error_inside,
    error_object,
)
from antiphon.formats.anthropic.frames import StreamEncoder
from antiphon.formats.anthropic.message import NAME, NOTES
from antiphon.formats.anthropic.request import DEFAULT_MAX_TOKENS, decode_request, encode_request
from antiphon.formats.anthropic.stream import StreamDecoder
from antiphon.formats.body import SniffingDecoder, WholeAnswerDecoder
from antiphon.formats.codec import Decoder, Encoder, Headers, HTTPReply, HTTPRequest, ListedModel
from antiphon.formats.kit_codec import JSONCodec
from antiphon.formats.listing import listed_models, token_count
from antiphon.formats.status import error_reply, status_error, words
from antiphon.formats.times import timestamp

__all__ = ["Anthropic"]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOST_MODELS = 1000
"""Most models that a page of the list can have; it has 20 where nobody asks (anthropic 2.12, `models.list`)."""
_UNCOUNTED = ("max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier")
"""Fields that a request to count tokens does not have."""


class Anthropic(JSONCodec, frozen=True, kw_only=True):
    """The codec of Anthropic Messages and of the servers that speak it."""

    name: str = NAME
    path: str = "/v1/messages"
    """After the base URL, which ends in no version as that of Anthropic's own clients does not."""
    version: str = "2023-06-01"
    """The `anthropic-version` header. From 2026-10-21 on, the API refuses sampling parameters, documents in the
    assistant's messages and citations in the user's text; they are left out and reported. A request may name another:
    a date as `anthropic_version` in its own extra, which is what `extra_body` sets."""
    beta: tuple[str, ...] = ()
    """The `anthropic-beta` header: names of features to be tried."""
    inline_system: bool | None = None
    """Whether the model takes system messages after the user's turn, too; where not, they are moved to the head and
    reported. `None`: those do whose name says Claude 4.8 or later."""
    max_tokens: int = DEFAULT_MAX_TOKENS
    """The bound on the answer, which must be sent, where the request sets none; added to the room for its thoughts."""

    def encode_request(self, request: ChatRequest) -> HTTPRequest:
        """Write *request* for an upstream."""
        source, losses, version = self._encode(request)
        headers = self._headers("text/event-stream" if request.stream else "application/json", version)
        return HTTPRequest(path=self.path, body=json.encode(source), headers=headers, losses=tuple(losses))

    def models_request(self) -> HTTPRequest:
        """Write the question which models an upstream has."""
        path = self.path.rpartition("/")[0] + f"/models?limit={_MOST_MODELS}"
        return HTTPRequest(method="GET", path=path, body=b"", headers=self._headers("application/json", self.version))

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it."""
        return listed_models(body, _told)

    def encode_count(self, request: ChatRequest) -> HTTPRequest:
        """Write the question how many tokens *request* has; its answer is read by `decode_count`."""
        source, losses, version = self._encode(request)
        counted = {key: value for key, value in source.items() if key not in _UNCOUNTED}
        return HTTPRequest(
            path=f"{self.path}/count_tokens",
            body=json.encode(counted),
            headers=self._headers("application/json", version),
            losses=tuple(loss for loss in losses if loss.path != "$.max_tokens"),
        )

    def _encode(self, request: ChatRequest) -> tuple[dict[str, Any], list[Loss], str]:
        """Return the request object, what it lost, and the API version that it is for."""
        own = json.text(NOTES.own_extra(request).get("anthropic_version")) or ""
        dated = _DATE.fullmatch(own) is not None  # or else it is for a host that has it in the body
        version = own if dated else self.version
        source, losses = encode_request(
            request, version=version, inline_system=self.inline_system, max_tokens=self.max_tokens
        )
        if dated:
            source = {key: value for key, value in source.items() if key != "anthropic_version"}
        return source, losses, version

    def _headers(self, accept: str, version: str) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": accept, "anthropic-version": version}
        if self.beta:
            headers["anthropic-beta"] = ",".join(self.beta)
        return headers

    def decode_count(self, body: bytes) -> int:
        """Read the answer to it."""
        return token_count(body, "input_tokens", _told)

    def encode_token_count(self, count: int) -> bytes:
        """Write that answer."""
        return json.encode({"input_tokens": count})

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*, whole or a stream."""
        whole = WholeAnswerDecoder(partial(decode_completion, keep=self.exact))
        stream = self.is_stream(request, content_type)
        return SniffingDecoder(StreamDecoder(exact=self.exact), whole, labelled_stream=stream)

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*; of several choices it writes the first."""
        return StreamEncoder(model=request.model)

    def request_of(self, source: dict[str, Any]) -> ChatRequest:
        """Read a request object."""
        return decode_request(source)

    def answer_object(self, completion: Completion) -> dict[str, Any]:
        """Write the object of a whole answer: its first choice."""
        return encode_completion(completion)

    def error_of(self, status: int, headers: Headers, source: Any) -> APIError:
        """Read an error reply."""
        outer: dict[str, Any] = source if json.is_object(source) else {}
        inner: dict[str, Any] = outer["error"] if json.is_object(outer.get("error")) else {}
        kind = json.text(inner.get("type"))
        error = status_error(status, headers, words(source), code=error_code(inner), type=kind, body=source)
        error.request_id = error.request_id or json.text(outer.get("request_id"))
        return error

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply; the body of one that came from this format is given back as it was."""
        return error_reply(error, error_object(error), id_header="request-id")

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models, on one page."""
        ends = {"first_id": models[0].id, "last_id": models[-1].id} if models else {"first_id": None, "last_id": None}
        return json.encode({"data": [_listed(model) for model in models], "has_more": False, **ends})

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model."""
        return json.encode(_listed(model))


def _told(source: dict[str, Any]) -> APIError:
    """Read an error, which a proxy may have written in a shape of its own."""
    return error_inside(source if source.get("error") else {"error": source})


def _listed(model: ListedModel) -> dict[str, Any]:
    made = timestamp(model.created)  # where it is not known, the epoch stands for that
    return {"type": "model", "id": model.id, "display_name": model.id, "created_at": made, "lifecycle": "active"}
