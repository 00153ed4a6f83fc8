"""Google Gemini, the codec: the Gemini API and Vertex AI. Pure functions, no I/O.

Contents are in `message.py`, requests in `request.py`, answers in `answer.py`, streams in
`stream.py` (read) and `frames.py` (written).

Source: google-genai 3.4, `models.py` and `_api_client.py` (read 2026-11-23); recorded exchanges of both hosts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from antiphon.chat.answers import Completion
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError
from antiphon.formats import json, read
from antiphon.formats.body import SniffingDecoder, WholeAnswerDecoder
from antiphon.formats.codec import Decoder, Encoder, Headers, HTTPReply, HTTPRequest, ListedModel
from antiphon.formats.gemini.answer import (
    decode_completion,
    decode_error,
    encode_completion,
    encode_error,
    error_inside,
)
from antiphon.formats.gemini.frames import ArrayEncoder, StreamEncoder
from antiphon.formats.gemini.message import NAME
from antiphon.formats.gemini.request import decode_request, encode_request
from antiphon.formats.gemini.stream import BodyDecoder, StreamDecoder
from antiphon.formats.listing import listed_models, token_count
from antiphon.formats.status import error_reply

__all__ = ["Gemini", "Vertex"]

_PATH = re.compile(r"/models/([^?]+):(generateContent|streamGenerateContent|countTokens)(?:[?]|\Z)")
_METHODS = ("generateContent", "streamGenerateContent", "countTokens")
_COUNTED = ("contents", "systemInstruction", "tools", "generationConfig")
"""Fields that Vertex AI takes in a request to count tokens."""


class Gemini(msgspec.Struct, frozen=True, kw_only=True):
    """The codec of Google's Gemini API, and of the same models on Vertex AI."""

    name: str = NAME
    path: str = "/v1beta/models"
    """Where the models are, after the base URL. On Vertex AI it ends in `/publishers/google/models`, after the version
    and, unless the key belongs to one project, `/projects/…/locations/…`."""
    stream_type: str = "text/event-stream"
    """The `content-type` of what an encoder writes: server-sent events, or `application/json`, an array of frames."""
    vertex: bool = False
    """Whether this is Vertex AI, which counts tokens in another way."""

    def encode_request(self, request: ChatRequest) -> HTTPRequest:
        """Write *request* for an upstream; the model and whether to stream are in the path."""
        source, losses = encode_request(request)
        action = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return HTTPRequest(
            path=self._action(request, action),
            body=json.encode(source),
            headers=_headers("text/event-stream" if request.stream else "application/json"),
            losses=tuple(losses),
        )

    def _action(self, request: ChatRequest, action: str) -> str:
        return f"{self.path}/{quote(request.model.removeprefix('models/'))}:{action}"

    def models_request(self) -> HTTPRequest:
        """Write the question which models an upstream has."""
        return HTTPRequest(
            method="GET", path=f"{self.path}?pageSize=1000", body=b"", headers=_headers("application/json")
        )

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it."""
        return listed_models(body, error_inside, prefix="models/")

    def encode_count(self, request: ChatRequest) -> HTTPRequest:
        """Write the question how many tokens *request* has; its answer is read by `decode_count`."""
        source, losses = encode_request(request)
        if self.vertex:
            source = {key: value for key, value in source.items() if key in _COUNTED}
        else:
            model = request.model.removeprefix("models/")
            source = {"generateContentRequest": {"model": f"models/{model}", **source}}
        return HTTPRequest(
            path=self._action(request, "countTokens"),
            body=json.encode(source),
            headers=_headers("application/json"),
            losses=tuple(losses),
        )

    def decode_count(self, body: bytes) -> int:
        """Read the answer to it."""
        return token_count(body, "totalTokens", error_inside)

    def encode_token_count(self, count: int) -> bytes:
        """Write that answer."""
        return json.encode({"totalTokens": count})

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*.

        Server-sent events, an array of frames and a whole answer are told apart by how they begin, and where that
        leaves it open by *content_type*.
        """
        kind = content_type.partition(";")[0].strip().lower()
        stream = kind == "text/event-stream" or (request.stream and kind != "application/json")
        return SniffingDecoder(
            StreamDecoder(), BodyDecoder(WholeAnswerDecoder(decode_completion)), labelled_stream=stream
        )

    def decode_error(self, status: int, headers: Headers, body: bytes) -> APIError:
        """Read an upstream's error reply. *body* may be empty, HTML from a proxy, or JSON of any shape."""
        return decode_error(status, headers, body)

    def at(self, path: str) -> Self:
        """Return the dialect of a request to *path*, query included: without `alt=sse` a stream is an array."""
        query = parse_qs(urlsplit(path).query)
        events = "sse" in (query.get("alt") or query.get("$alt") or ())
        return self if events else msgspec.structs.replace(self, stream_type="application/json")

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """Read a client's request body, and from the *path* the model and whether to stream or only to count tokens.

        Without a path the model is `""` and the answer whole. A stream always tells its usage, so a request for one
        reads as `include_usage=True`.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.contents[0].role`.
        """
        found = _PATH.search(path)
        model, action = (unquote(found[1]), found[2]) if found else ("", "")
        decode = _decode_counted if action == "countTokens" else decode_request
        request = read.request(body, decode, type="INVALID_ARGUMENT")
        stream = action == "streamGenerateContent"
        return request.but(model=model, stream=stream, include_usage=True if stream else None)

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*."""
        array = self.stream_type == "application/json"
        return ArrayEncoder(model=request.model) if array else StreamEncoder(model=request.model)

    def encode_response(self, completion: Completion) -> bytes:
        """Write a whole answer."""
        return json.encode(encode_completion(completion))

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply; the body of one that came from this format is given back as it was."""
        return error_reply(error, encode_error(error))

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models, on one page."""
        return json.encode({"models": [_listed(model) for model in models]})

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model."""
        return json.encode(_listed(model))


def _decode_counted(source: dict[str, Any]) -> ChatRequest:
    """Read a request to count tokens: a conversation, or a whole request in a wrapper."""
    key = "generate_content_request" if "generate_content_request" in source else "generateContentRequest"
    whole = read.object_(source, key, "$")
    if whole is None:
        return decode_request(source)
    if source.get("contents"):
        read.fault("$.contents", f"left out where there is a {key}", source["contents"])
    return decode_request({key: value for key, value in whole.items() if key != "model"})


def _listed(model: ListedModel) -> dict[str, Any]:
    return {"name": f"models/{model.id}", "displayName": model.id, "supportedGenerationMethods": _METHODS}


def _headers(accept: str) -> dict[str, str]:
    return {"content-type": "application/json", "accept": accept}


class Vertex(Gemini, frozen=True, kw_only=True):
    """The same format at Vertex AI, whose base URL ends before `/models`."""

    path: str = "/models"
    vertex: bool = True
