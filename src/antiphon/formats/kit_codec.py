"""What the codecs of all formats that are JSON over HTTP have in common. No I/O.

A format's codec sets the fields and gives the methods that end in `NotImplementedError` here; what its format does in
another way it replaces.
"""

from __future__ import annotations

from typing import Any

import msgspec

from antiphon.chat.answers import Completion
from antiphon.chat.losses import Loss
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError
from antiphon.formats import json, read
from antiphon.formats.codec import Headers, HTTPReply, HTTPRequest
from antiphon.formats.status import error_reply, excerpt, status_error, words

__all__ = ["JSONCodec"]


class JSONCodec(msgspec.Struct, frozen=True, kw_only=True):
    """The base of a codec; see `codec.Codec` for what its methods promise."""

    name: str
    """The key of the format."""
    path: str
    """Where requests go, after the base URL."""
    stream_type: str = "text/event-stream"
    """The content type of a streamed answer."""
    exact: bool = True
    """Whether what is read of answers keeps how it came, to be written back unchanged."""

    # What a format gives

    def request_object(self, request: ChatRequest) -> tuple[dict[str, Any], list[Loss]]:
        """Write a request object, and list what of the request the format could not express."""
        raise NotImplementedError

    def request_of(self, source: dict[str, Any]) -> ChatRequest:
        """Read a request object."""
        raise NotImplementedError

    def answer_object(self, completion: Completion) -> dict[str, Any]:
        """Write the object of a whole answer."""
        raise NotImplementedError

    def error_object(self, error: APIError) -> dict[str, Any]:
        """Write the object of an error."""
        raise NotImplementedError

    def error_of(self, status: int, headers: Headers, source: Any) -> APIError:
        """Read an error reply whose body is JSON of any shape."""
        return status_error(status, headers, words(source), body=source)

    def headers(self, *, stream: bool) -> dict[str, str]:
        """Return the header fields of a request."""
        accept = self.stream_type if stream else "application/json"
        return {"content-type": "application/json", "accept": accept}

    # What all do

    def encode_request(self, request: ChatRequest) -> HTTPRequest:
        """Write *request* for an upstream."""
        source, losses = self.request_object(request)
        headers = self.headers(stream=request.stream)
        return HTTPRequest(path=self.path, body=json.encode(source), headers=headers, losses=tuple(losses))

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """Read a client's request body.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
        """
        return read.request(body, self.request_of)

    def is_stream(self, request: ChatRequest, content_type: str) -> bool:
        """Whether the answer to *request* should be a stream, by its label, and by the request if that says nothing.

        A server that ignores `stream` and sends a whole answer, or the other way round, is told by what it sends.
        """
        kind = content_type.partition(";")[0].strip().lower()
        return kind == self.stream_type or (request.stream and kind != "application/json")

    def decode_error(self, status: int, headers: Headers, body: bytes) -> APIError:
        """Read an upstream's error reply. *body* may be empty, HTML from a proxy, or JSON of any shape."""
        try:
            source = json.decode(body)
        except json.MALFORMED:
            return status_error(status, headers, excerpt(body))
        return self.error_of(status, headers, source)

    def encode_response(self, completion: Completion) -> bytes:
        """Write a whole answer; of several choices the first where the format has one only."""
        return json.encode(self.answer_object(completion))

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply; the body of one that came from this format is given back as it was."""
        return error_reply(error, self.error_object(error))

    def models_get(self, path: str) -> HTTPRequest:
        """Write the question at *path* which models an upstream has."""
        return HTTPRequest(method="GET", path=path, body=b"", headers={"accept": "application/json"})
