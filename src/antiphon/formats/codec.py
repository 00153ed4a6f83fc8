"""What a wire format is: pure functions and two small state machines, no I/O, in both directions.

One `Codec` serves the client (talking to an upstream) and the server (speaking the dialect), so N formats need N
codecs, not N x M translators. Four laws hold for each; `tests/wire/laws.py` states them as properties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, overload, runtime_checkable

import msgspec

from antiphon.chat.answers import Completion
from antiphon.chat.events import Event
from antiphon.chat.losses import Loss
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError

__all__ = [
    "Codec",
    "Decoder",
    "Dialect",
    "Encoder",
    "HTTPReply",
    "HTTPRequest",
    "Headers",
    "ListedModel",
    "RequestEach",
    "TokenCounter",
]

Headers = Mapping[str, str]
"""Header fields by lower-case name; where a field came twice, its values are joined by ", "."""


class HTTPRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to send: no host and no key in it, both are added by the endpoint."""

    path: str
    """Relative to the base URL, with a leading slash, quoted: `/chat/completions`."""
    body: bytes
    method: str = "POST"
    headers: Headers = msgspec.field(default_factory=dict[str, str])
    """Besides `content-type` and those of the endpoint; lower-case names."""
    losses: tuple[Loss, ...] = ()
    """What of the request this format could not express."""


class RequestEach(Sequence[HTTPRequest]):
    """A request for each text, made anew when it is asked for: all at once would take many times what the texts do."""

    def __init__(self, texts: Sequence[str], write: Callable[[str], HTTPRequest]) -> None:
        self._texts = texts
        self._write = write

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> HTTPRequest: ...

    @overload
    def __getitem__(self, place: slice) -> RequestEach: ...

    def __getitem__(self, place: int | slice) -> HTTPRequest | RequestEach:
        if isinstance(place, slice):
            return RequestEach(self._texts[place], self._write)
        return self._write(self._texts[place])


class HTTPReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a server of this dialect answers."""

    status: int
    body: bytes
    headers: Headers = msgspec.field(default_factory=dict[str, str])


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One of the models that a server has."""

    id: str
    """What a request has to call it."""
    provider: str = ""
    """Who answers."""
    created: int = 0
    """Unix time in seconds when it was made; 0 where that is not known."""


class Decoder(Protocol):
    """Turns the bytes of one answer, whole or streamed, into events. Used once, from first byte to last."""

    @property
    def over(self) -> bool:
        """Whether the answer has said that it is over, so that no bytes after this matter; servers keep bodies open."""
        ...

    def feed(self, data: bytes) -> Iterable[Event]:
        """Take the next bytes, split anywhere, and give the events that are complete, before any fault after them.

        Raises:
            StreamError: A malformed frame, or an error event inside a 200.
            ResponseTooLargeError: One frame, or the whole body, beyond the bound.
        """
        ...

    def close(self) -> Iterable[Event]:
        """Take the end of the body and give the last events, of which the last is `End`.

        Raises:
            StreamError: The body ended without a finish.
        """
        ...


class Encoder(Protocol):
    """Turns the events of one answer into the bytes of a streamed body. Used once."""

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*; after `End` also whatever closes the body."""
        ...

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        ...


class Dialect(Protocol):
    """What a server needs of a wire format. Holds no state besides its settings; every method is pure."""

    @property
    def name(self) -> str:
        """Key of this format in every `extra`, in `catalog.toml` and in errors: `openai-chat`."""
        ...

    @property
    def stream_type(self) -> str:
        """The `content-type` of what an encoder writes: `text/event-stream`."""
        ...

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """Read a client's request body.

        *path* is that of the request line: where it ends as `HTTPRequest.path` does, formats that name the model there
        read it, and others pass it over.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
        """
        ...

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*."""
        ...

    def encode_response(self, completion: Completion) -> bytes:
        """Write a whole answer."""
        ...

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply in this dialect's shape."""
        ...

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models that a client may ask for."""
        ...

    def encode_model(self, model: ListedModel) -> bytes:
        """Write the answer to a question about one of them."""
        ...


class Codec(Dialect, Protocol):
    """One wire format, both ways: a dialect, and what a client of it needs."""

    def encode_request(self, request: ChatRequest) -> HTTPRequest:
        """Write *request* for an upstream."""
        ...

    def models_request(self) -> HTTPRequest:
        """Write the question which models an upstream has."""
        ...

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it: pairs of name and the Unix time it was made, 0 where not told.

        Raises:
            APIError: It is no list of models.
        """
        ...

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*; *content_type* tells a stream from a whole body."""
        ...

    def decode_error(self, status: int, headers: Headers, body: bytes) -> APIError:
        """Read an upstream's error reply. *body* may be empty, HTML from a proxy, or JSON of any shape."""
        ...


@runtime_checkable
class TokenCounter(Protocol):
    """A codec whose format can be asked how many tokens a request has."""

    def encode_count(self, request: ChatRequest) -> HTTPRequest:
        """Write the question."""
        ...

    def decode_count(self, body: bytes) -> int:
        """Read the answer."""
        ...

    def encode_token_count(self, count: int) -> bytes:
        """Write the answer, as a server that was asked."""
        ...
