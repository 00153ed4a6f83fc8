"""Cohere's Chat API v2, the codec. Pure functions, no I/O.

Sources, read 2026-11-23: cohere 7.3.1, recorded exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from antiphon.chat.answers import Completion
from antiphon.chat.losses import Loss
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError
from antiphon.formats import json
from antiphon.formats.body import SniffingDecoder, WholeAnswerDecoder
from antiphon.formats.codec import Decoder, Encoder, Headers, HTTPRequest, ListedModel
from antiphon.formats.cohere.answer import decode_completion, encode_completion, error_inside, error_object
from antiphon.formats.cohere.message import NAME
from antiphon.formats.cohere.request import decode_request, encode_request
from antiphon.formats.cohere.stream import StreamDecoder, StreamEncoder
from antiphon.formats.kit_codec import JSONCodec
from antiphon.formats.listing import listed_models
from antiphon.formats.status import status_error, words

__all__ = ["Cohere"]


class Cohere(JSONCodec, frozen=True, kw_only=True):
    """The codec of Cohere's Chat API v2."""

    name: str = NAME
    path: str = "/v2/chat"
    models_path: str = "/v1/models?endpoint=chat&page_size=1000"
    """There is no list in version 2. A page holds at most a thousand."""

    def request_object(self, request: ChatRequest) -> tuple[dict[str, Any], list[Loss]]:
        """Write a request object."""
        return encode_request(request)

    def request_of(self, source: dict[str, Any]) -> ChatRequest:
        """Read a request object."""
        return decode_request(source)

    def answer_object(self, completion: Completion) -> dict[str, Any]:
        """Write the object of a whole answer: its first choice."""
        return encode_completion(completion)

    def error_object(self, error: APIError) -> dict[str, Any]:
        """Write the object of an error."""
        return error_object(error)

    def error_of(self, status: int, headers: Headers, source: Any) -> APIError:
        """Read an error reply."""
        # 498: "invalid token" (docs.cohere.com/reference/errors, read 2026-11-23)
        error = status_error(401 if status == 498 else status, headers, words(source), body=source)
        error.status = status
        if json.is_object(source):
            error.request_id = error.request_id or json.text(source.get("id"))
        return error

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*, whole or a stream."""
        whole = WholeAnswerDecoder(partial(decode_completion, keep=self.exact))
        stream = self.is_stream(request, content_type)
        return SniffingDecoder(StreamDecoder(exact=self.exact), whole, labelled_stream=stream)

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*; of several choices it writes the first."""
        return StreamEncoder()

    def models_request(self) -> HTTPRequest:
        """Write the question which models an upstream has."""
        return self.models_get(self.models_path)

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it."""
        return listed_models(body, error_inside)

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models, on one page."""
        return json.encode({"models": [_listed(model) for model in models]})

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model."""
        return json.encode(_listed(model))


def _listed(model: ListedModel) -> dict[str, Any]:
    return {"name": model.id, "endpoints": ["chat"], "finetuned": False}
