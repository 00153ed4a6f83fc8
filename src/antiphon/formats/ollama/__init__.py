"""Ollama's own API (`/api/chat`), the codec. Pure functions, no I/O.

Messages are in `message.py`, requests in `request.py`, answers in `answer.py`, streams in
`stream.py`.

Sources, read 2026-11-23: ollama 0.6.3, wire-formats.md, 4.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from antiphon.chat.answers import Completion
from antiphon.chat.events import Event
from antiphon.chat.losses import Loss
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError
from antiphon.formats import json
from antiphon.formats.body import BYTE_ORDER_MARK, MAX_BODY, WholeAnswerDecoder
from antiphon.formats.codec import Decoder, Encoder, HTTPRequest, ListedModel
from antiphon.formats.kit_codec import JSONCodec
from antiphon.formats.listing import listed_models
from antiphon.formats.ollama.answer import decode_completion, encode_completion, error_inside, error_object
from antiphon.formats.ollama.message import NAME
from antiphon.formats.ollama.request import decode_request, encode_request
from antiphon.formats.ollama.stream import StreamDecoder, StreamEncoder
from antiphon.formats.times import timestamp

__all__ = ["Ollama"]

_NEVER = "0001-01-01T00:00:00Z"
"""How Ollama writes a time that is not known."""


class Ollama(JSONCodec, frozen=True, kw_only=True):
    """The codec of Ollama's own API and of the servers that speak it."""

    name: str = NAME
    path: str = "/api/chat"
    stream_type: str = "application/x-ndjson"

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

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*, whole or a stream, which both begin with a brace."""
        return _AnyDecoder(labelled_whole=not self.is_stream(request, content_type), exact=self.exact)

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*; of several choices it writes the first."""
        return StreamEncoder(model=request.model)

    def models_request(self) -> HTTPRequest:
        """Write the question which models an upstream has."""
        return self.models_get(self.path.rpartition("/")[0] + "/tags")

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it."""
        return listed_models(body, error_inside)

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models, the answer to `/api/tags`."""
        return json.encode({"models": [_listed(model) for model in models]})

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model, the answer to `/api/show`."""
        told = _listed(model)
        return json.encode(
            {
                "details": told["details"],
                "model_info": {},
                "capabilities": ["completion"],
                "modified_at": told["modified_at"],
            }
        )


def _listed(model: ListedModel) -> dict[str, Any]:
    """Return the entry of one model, which takes no room here.

    Ollama's command line shows the first twelve letters of the digest, and falls over where there are fewer: it is
    that of the name.
    """
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": timestamp(model.created) if model.created else _NEVER,
        "size": 0,
        "digest": hashlib.sha256(model.id.encode()).hexdigest(),
        "details": {
            "parent_model": "",
            "format": "",
            "family": model.provider,
            "families": [model.provider] if model.provider else [],
            "parameter_size": "",
            "quantization_level": "",
        },
    }


class _AnyDecoder:
    """Tells a whole answer, which may be laid out over several lines, from a stream of lines.

    Both begin with a brace. It is a stream if the first line is an object, unless the label says otherwise and the
    object is a whole answer; where no line ends, the label says it.
    """

    __slots__ = ("_chosen", "_exact", "_held", "_labelled_whole", "_size")

    def __init__(self, *, labelled_whole: bool, exact: bool) -> None:
        self._exact = exact
        self._labelled_whole = labelled_whole
        self._held: list[bytes] = []
        self._size = 0
        self._chosen: Decoder | None = None

    @property
    def over(self) -> bool:
        """What the decoder that was chosen says."""
        return self._chosen is not None and self._chosen.over

    def feed(self, data: bytes) -> Iterable[Event]:
        """Take the next bytes, and give what the decoder that was chosen makes of them."""
        if self._chosen is not None:
            return self._chosen.feed(data)
        self._held.append(data)
        self._size += len(data)
        if b"\n" not in data and self._size <= MAX_BODY:
            return ()
        held = b"".join(self._held).removeprefix(BYTE_ORDER_MARK).lstrip()
        first, newline, _ = held.partition(b"\n")
        if not newline and len(held) <= MAX_BODY:  # there were blank lines only
            self._held, self._size = [held], len(held)
            return ()
        self._held = []
        self._chosen = self._choose(whole=not newline or self._is_whole(first))
        return self._chosen.feed(held)

    def _choose(self, *, whole: bool) -> Decoder:
        if whole:
            return WholeAnswerDecoder(partial(decode_completion, keep=self._exact))
        return StreamDecoder(exact=self._exact)

    def _is_whole(self, first: bytes) -> bool:
        try:
            value = json.decode(first)
        except json.MALFORMED:
            return self._labelled_whole or first.startswith(b"{")
        return self._labelled_whole and not (json.is_object(value) and value.get("done") is False)

    def close(self) -> Iterable[Event]:
        """Take the end of the body and give the last events."""
        if self._chosen is not None:
            return self._chosen.close()
        chosen = self._choose(whole=self._labelled_whole)
        held = b"".join(self._held).removeprefix(BYTE_ORDER_MARK)
        return [*chosen.feed(held), *chosen.close()]
