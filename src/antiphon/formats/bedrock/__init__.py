"""AWS Bedrock Converse and ConverseStream, the codec. Pure functions, no I/O.

Messages are in `message.py`, requests in `request.py`, answers in `answer.py`, streams in
`stream.py` (read) and `frames.py` (written), the frames themselves in `frames.py`.

Sources: botocore 1.44, `data/bedrock-runtime/2023-09-30/service-2.json` (read 2026-11-23); recorded exchanges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from antiphon.chat.answers import Completion
from antiphon.chat.events import Event
from antiphon.chat.losses import Loss
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError
from antiphon.formats import json, read
from antiphon.formats.bedrock.answer import (
    decode_completion,
    encode_completion,
    error_inside,
    error_type,
    is_retryable,
    words,
)
from antiphon.formats.bedrock.frames import StreamEncoder
from antiphon.formats.bedrock.message import NAME
from antiphon.formats.bedrock.request import decode_request, encode_request
from antiphon.formats.bedrock.stream import StreamDecoder
from antiphon.formats.body import WholeAnswerDecoder
from antiphon.formats.codec import Decoder, Encoder, Headers, HTTPReply, HTTPRequest, ListedModel
from antiphon.formats.framing.eventstream import CONTENT_TYPE, MAX_FRAME
from antiphon.formats.listing import listed_models, token_count
from antiphon.formats.status import error_reply, excerpt, status_error

__all__ = ["Bedrock"]

_PATH = re.compile(r"/model/([^?]+)/(converse|converse-stream|count-tokens)(?:\?|$)")
_COUNTED = ("messages", "system", "toolConfig", "additionalModelRequestFields")
"""Fields that a request to count tokens has."""


class Bedrock(msgspec.Struct, frozen=True, kw_only=True):
    """The codec of AWS Bedrock's Converse API."""

    name: str = NAME
    stream_type: str = CONTENT_TYPE

    def encode_request(self, request: ChatRequest) -> HTTPRequest:
        """Write *request* for an upstream; model and stream are in the path."""
        source, losses = encode_request(request)
        accept, verb = (CONTENT_TYPE, "converse-stream") if request.stream else ("application/json", "converse")
        return _http(request.model, verb, source, accept, losses)

    def models_request(self) -> HTTPRequest:
        """Write the question which models there are; AWS answers it at another host, `bedrock.{region}`."""
        return HTTPRequest(method="GET", path="/foundation-models", body=b"", headers={"accept": "application/json"})

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it."""
        return listed_models(body, _told)

    def encode_count(self, request: ChatRequest) -> HTTPRequest:
        """Write the question how many tokens *request* has; its answer is read by `decode_count`."""
        source, losses = encode_request(request)
        counted = {"input": {"converse": {key: source[key] for key in _COUNTED if key in source}}}
        return _http(request.model, "count-tokens", counted, "application/json", losses)

    def decode_count(self, body: bytes) -> int:
        """Read the answer to it."""
        return token_count(body, "inputTokens", _told)

    def encode_token_count(self, count: int) -> bytes:
        """Write that answer."""
        return json.encode({"inputTokens": count})

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*.

        Whether a stream comes or a whole answer is told by the first byte: that of a frame is never printable.
        """
        kind = content_type.partition(";")[0].strip().lower()
        stream = kind == CONTENT_TYPE or (request.stream and kind != "application/json")
        return _AnyDecoder(request.model, labelled_stream=stream)

    def decode_error(self, status: int, headers: Headers, body: bytes) -> APIError:
        """Read an upstream's error reply. *body* may be empty, HTML from a proxy, or JSON of any shape."""
        try:
            source = json.decode(body)
        except json.MALFORMED:
            return status_error(status, headers, excerpt(body))
        told: dict[str, Any] = source if json.is_object(source) else {}
        type = headers.get("x-amzn-errortype", "").partition(":")[0] or json.text(told.get("__type")) or None
        type = type and type.rpartition("#")[2]
        message = words(told)
        if type == "InvalidSignatureException":  # which repeats the request's headers, a session's token among them
            message = message.partition("\n")[0]
            source = {"message": message}
        error = status_error(status, headers, message, type=type, body=source)
        error.retryable = error.retryable or is_retryable(type, None)
        return error

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """Read a client's request body; *path* has the model, and says whether to stream or only to count tokens.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
        """
        found = _PATH.search(path)
        model, verb = (unquote(found[1]), found[2]) if found else ("", "")

        def decode(source: dict[str, Any]) -> ChatRequest:
            if verb == "count-tokens":
                source = read.required_object(read.required_object(source, "input", "$"), "converse", "$.input")
            return decode_request(source, model, stream=verb == "converse-stream")

        return read.request(body, decode, type="ValidationException")

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*; of several choices it writes the first."""
        return StreamEncoder()

    def encode_response(self, completion: Completion) -> bytes:
        """Write a whole answer; of several choices the first."""
        return json.encode(encode_completion(completion))

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply; the body of one that came from this format is given back as it was."""
        body = error.body if json.is_object(error.body) and [*error.body] == ["message"] else {"message": error.message}
        return error_reply(error, body, id_header="x-amzn-requestid", **{"x-amzn-errortype": error_type(error)})

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models."""
        return json.encode({"modelSummaries": [_listed(model) for model in models]})

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model."""
        return json.encode({"modelDetails": _listed(model)})


def _told(source: dict[str, Any]) -> APIError:
    return error_inside(source, json.text(source.get("__type")))


def _listed(model: ListedModel) -> dict[str, Any]:
    return {
        "modelArn": f"arn:aws:bedrock:::foundation-model/{model.id}",
        "modelId": model.id,
        "modelName": model.id,
        "providerName": model.provider,
        "responseStreamingSupported": True,
    }


def _http(model: str, verb: str, source: dict[str, Any], accept: str, losses: list[Loss]) -> HTTPRequest:
    return HTTPRequest(
        path=f"/model/{quote(model, safe='')}/{verb}",
        body=json.encode(source),
        headers={"content-type": "application/json", "accept": accept},
        losses=tuple(losses),
    )


class _AnyDecoder:
    """Tells by its first byte whether a whole answer comes or a stream of frames, which begin with their length."""

    __slots__ = ("_chosen", "_labelled_stream", "_model")

    def __init__(self, model: str, *, labelled_stream: bool) -> None:
        self._model = model
        self._labelled_stream = labelled_stream
        self._chosen: Decoder | None = None

    @property
    def over(self) -> bool:
        """What the decoder that was chosen says."""
        return self._chosen is not None and self._chosen.over

    def feed(self, data: bytes) -> Iterable[Event]:
        """Take the next bytes, and give what the decoder that was chosen makes of them."""
        if self._chosen is None:
            if not data:
                return ()
            stream = data[0] <= MAX_FRAME >> 24 or (self._labelled_stream and data[:1] not in b"{ \t\r\n\xef")
            self._chosen = self._decoder(stream=stream)
        return self._chosen.feed(data)

    def close(self) -> Iterable[Event]:
        """Take the end of the body and give the last events."""
        if self._chosen is None:
            self._chosen = self._decoder(stream=self._labelled_stream)
        return self._chosen.close()

    def _decoder(self, *, stream: bool) -> Decoder:
        if stream:
            return StreamDecoder(model=self._model)
        return WholeAnswerDecoder(partial(decode_completion, model=self._model))
