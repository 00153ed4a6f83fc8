"""OpenAI Responses, the codec. Pure functions, no I/O.

Items are in `message.py`, requests in `request.py`, answers in `answer.py`, streams in
`stream.py` (read) and `frames.py` (written).

Source: openai 3.54, recorded exchanges (read 2026-11-23).
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
from antiphon.formats.listing import listed_models, openai_model, openai_models, token_count
from antiphon.formats.responses.answer import decode_completion, encode_completion, error_fields, error_inside
from antiphon.formats.responses.frames import StreamEncoder
from antiphon.formats.responses.message import NAME
from antiphon.formats.responses.request import decode_request, encode_request
from antiphon.formats.responses.stream import StreamDecoder
from antiphon.formats.status import error_reply, excerpt, status_error, words

__all__ = ["Responses"]

_ERROR_FIELDS = ("code", "type", "param")


_COUNTED = frozenset(
    "model input instructions previous_response_id conversation tools tool_choice parallel_tool_calls reasoning text "
    "truncation personality".split()
)
"""Fields that a request to count tokens has (openai 3.54, `types/responses/input_token_count_params.py`)."""


class Responses(msgspec.Struct, frozen=True, kw_only=True):
    """The codec of OpenAI Responses and of the servers that speak it."""

    name: str = NAME
    stream_type: str = "text/event-stream"
    path: str = "/responses"
    """After the base URL, which ends in a version."""
    exact: bool = True
    """Whether streams remember their frames, to be written again to the letter. Who only reads them saves a fifth of
    the time without; what must go back to the provider is remembered either way."""

    def encode_request(self, request: ChatRequest) -> HTTPRequest:
        """Write *request* for an upstream."""
        source, losses = encode_request(request)
        accept = "text/event-stream" if request.stream else "application/json"
        headers = {"content-type": "application/json", "accept": accept}
        return HTTPRequest(path=self.path, body=json.encode(source), headers=headers, losses=tuple(losses))

    def models_request(self) -> HTTPRequest:
        """Write the question which models an upstream has."""
        return HTTPRequest(method="GET", path="/models", body=b"", headers={"accept": "application/json"})

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it."""
        return listed_models(body, error_inside)

    def encode_count(self, request: ChatRequest) -> HTTPRequest:
        """Write the question how many tokens *request* has."""
        source, losses = encode_request(request)
        body = {field: value for field, value in source.items() if field in _COUNTED}
        headers = {"content-type": "application/json", "accept": "application/json"}
        return HTTPRequest(
            path=f"{self.path}/input_tokens", body=json.encode(body), headers=headers, losses=tuple(losses)
        )

    def decode_count(self, body: bytes) -> int:
        """Read the answer to it."""
        return token_count(body, "input_tokens", error_inside)

    def encode_token_count(self, count: int) -> bytes:
        """Write that answer."""
        return json.encode({"object": "response.input_tokens", "input_tokens": count})

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*.

        A server that ignores `stream` and sends a whole answer, or the other way round, is told by what it sends, and
        where that leaves it open by *content_type*.
        """
        kind = content_type.partition(";")[0].strip().lower()
        stream = kind == "text/event-stream" or (request.stream and kind != "application/json")
        return SniffingDecoder(
            StreamDecoder(exact=self.exact), WholeAnswerDecoder(decode_completion), labelled_stream=stream
        )

    def decode_error(self, status: int, headers: Headers, body: bytes) -> APIError:
        """Read an upstream's error reply. *body* may be empty, HTML from a proxy, or JSON of any shape."""
        try:
            source = json.decode(body)
        except json.MALFORMED:
            return status_error(status, headers, excerpt(body))
        outer: dict[str, Any] = source if json.is_object(source) else {}
        inner: dict[str, Any] = outer["error"] if json.is_object(outer.get("error")) else outer
        code, kind, param = (str(v) if json.integer(v) else json.text(v) for v in map(inner.get, _ERROR_FIELDS))
        return status_error(status, headers, words(source), code=code, type=kind, param=param, body=source)

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """Read a client's request body.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.input[0].role`.
        """
        return read.request(body, decode_request)

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*; of several choices it writes the first."""
        return StreamEncoder(model=request.model)

    def encode_response(self, completion: Completion) -> bytes:
        """Write a whole answer; of several choices the first."""
        return json.encode(encode_completion(completion))

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply; the body of one that came from this format is given back as it was."""
        body = error.body
        if not (json.is_object(body) and body.keys() == {"error"} and json.is_object(body["error"])):
            body = {"error": error_fields(error)}
        return error_reply(error, body, id_header="x-request-id")

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models, which Chat Completions shares."""
        return openai_models(models)

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model."""
        return openai_model(model)
