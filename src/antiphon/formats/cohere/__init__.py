"""Cohere's Chat API v2, the codec. Pure functions, no I/O.

Messages are in `cohere_message.py`, requests in `cohere_request.py`, answers in `cohere_answer.py`, streams in
`cohere_stream.py`.

Sources, read 2026-11-23: cohere 7.3.1, recorded exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.chat.answers import Completion
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError
from antiphon.formats import json, read
from antiphon.formats.body import SniffingDecoder, WholeAnswerDecoder
from antiphon.formats.codec import Decoder, Encoder, Headers, HTTPReply, HTTPRequest, ListedModel
from antiphon.formats.cohere.answer import decode_completion, encode_completion, error_inside, error_object
from antiphon.formats.cohere.message import NAME
from antiphon.formats.cohere.request import decode_request, encode_request
from antiphon.formats.cohere.stream import StreamDecoder, StreamEncoder
from antiphon.formats.listing import listed_models
from antiphon.formats.status import error_reply, excerpt, status_error, words

__all__ = ["Cohere"]


class Cohere(msgspec.Struct, frozen=True, kw_only=True):
    """The codec of Cohere's Chat API v2."""

    name: str = NAME
    stream_type: str = "text/event-stream"
    path: str = "/v2/chat"
    models_path: str = "/v1/models?endpoint=chat&page_size=1000"
    """There is no list in version 2. A page holds at most a thousand."""

    def encode_request(self, request: ChatRequest) -> HTTPRequest:
        """Write *request* for an upstream."""
        source, losses = encode_request(request)
        # A stream that is not asked for as one of events comes as bare lines of JSON.
        accept = "text/event-stream" if request.stream else "application/json"
        headers = {"content-type": "application/json", "accept": accept}
        return HTTPRequest(path=self.path, body=json.encode(source), headers=headers, losses=tuple(losses))

    def models_request(self) -> HTTPRequest:
        """Write the question which models an upstream has."""
        return HTTPRequest(method="GET", path=self.models_path, body=b"", headers={"accept": "application/json"})

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it."""
        return listed_models(body, error_inside)

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*.

        A server that ignores `stream` and sends a whole answer, or the other way round, is told by what it sends, and
        where that leaves it open by *content_type*.
        """
        kind = content_type.partition(";")[0].strip().lower()
        stream = kind == "text/event-stream" or (request.stream and kind != "application/json")
        return SniffingDecoder(StreamDecoder(), WholeAnswerDecoder(decode_completion), labelled_stream=stream)

    def decode_error(self, status: int, headers: Headers, body: bytes) -> APIError:
        """Read an upstream's error reply. *body* may be empty, HTML from a proxy, or JSON of any shape."""
        try:
            source = json.decode(body)
        except json.MALFORMED:
            return status_error(status, headers, excerpt(body))
        # 498: "invalid token" (docs.cohere.com/reference/errors, read 2026-11-23)
        error = status_error(401 if status == 498 else status, headers, words(source), body=source)
        error.status = status
        if json.is_object(source):
            error.request_id = error.request_id or json.text(source.get("id"))
        return error

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """Read a client's request body.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
        """
        return read.request(body, decode_request)

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*; of several choices it writes the first."""
        return StreamEncoder()

    def encode_response(self, completion: Completion) -> bytes:
        """Write a whole answer; of several choices the first."""
        return json.encode(encode_completion(completion))

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply; the body of one that came from this format is given back as it was."""
        return error_reply(error, error_object(error))

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models, on one page."""
        return json.encode({"models": [_listed(model) for model in models]})

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model."""
        return json.encode(_listed(model))


def _listed(model: ListedModel) -> dict[str, Any]:
    return {"name": model.id, "endpoints": ["chat"], "finetuned": False}
