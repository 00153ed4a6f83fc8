"""What the recorded exchanges of a format are, and what is the same for most formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIStatusError, BadRequestError, NotFoundError
from antiphon.formats import json
from antiphon.formats.codec import Codec, HTTPRequest
from tests import recordings
from tests.recordings import Exchange
from tests.wire import laws


def path_of(exchange: Exchange) -> str:
    """Return the path of the URL, without its query."""
    return urlsplit(exchange.url).path


def is_stream(exchange: Exchange) -> bool:
    """Whether the answer came as server-sent events."""
    return "event-stream" in (exchange.content_type or "")


class Recorded:
    """The recorded exchanges of a format, and what is the same for most formats."""

    codec: ClassVar[Codec]
    pattern: ClassVar[str] = "*/*.json"
    """The files that are looked into."""

    messages: ClassVar[str] = "messages"
    """The field of a request that holds the conversation."""

    counted: ClassVar[str]
    """The field of an answer that says how many tokens a request has."""

    may_lose: ClassVar[bool] = False
    """Whether something of an answer cannot go into the next request."""

    errors: ClassVar[Mapping[int, type[APIStatusError]]] = {400: BadRequestError, 404: NotFoundError}
    """The class of the error for each status that is recorded."""

    error_headers: ClassVar[Mapping[str, str]] = {}
    """Headers to read an error with; they are not recorded."""

    def __init__(self) -> None:
        self.exchanges = [exchange for exchange in recordings.exchanges(self.pattern) if self.takes(exchange)]
        assert self.exchanges
        self._read: dict[str, Completion] = {}

    # Which they are

    def takes(self, exchange: Exchange) -> bool:
        """Whether a file that was looked into holds an exchange of this format, or of its host."""
        return True

    def requests(self) -> list[Exchange]:
        """Return those whose request this format reads."""
        raise NotImplementedError

    def answers(self, *, stream: bool) -> list[Exchange]:
        """Return those with an answer, whole or streamed."""
        raise NotImplementedError

    def all_answers(self) -> list[Exchange]:
        """Return those with an answer."""
        return [*self.answers(stream=True), *self.answers(stream=False)]

    def counts(self) -> list[Exchange]:
        """Return those that ask how many tokens a request has."""
        raise NotImplementedError

    def failed(self) -> list[Exchange]:
        """Return those that were answered with an error."""
        return [exchange for exchange in self.exchanges if exchange.status != 200]

    # What they say

    def request_of(self, exchange: Exchange) -> ChatRequest:
        """Return the request as the codec reads it."""
        return self.codec.decode_request(json.encode(exchange.request))

    def answered(self, exchange: Exchange) -> ChatRequest:
        """Return the request that the answer is read for."""
        return self.request_of(exchange)

    def read(self, exchange: Exchange) -> Completion:
        """Return the recorded answer as the codec reads it."""
        if exchange.name not in self._read:
            request = self.answered(exchange)
            events = laws.decoded(self.codec, request, [exchange.content], exchange.content_type or "")
            self._read[exchange.name] = fold(events)
        return self._read[exchange.name]

    def path_to_read_again(self, exchange: Exchange, written: HTTPRequest) -> str:
        """Return the path that a request which was *written* is read with."""
        return written.path

    def check_path(self, exchange: Exchange, written: HTTPRequest) -> None:
        """Fail where a request was not written for the path that was recorded."""

    def check_count(self, exchange: Exchange) -> None:
        """Fail where a request to count tokens is not written as it was recorded."""
        written = self.codec.encode_count(self.request_of(exchange))
        laws.check_same(exchange.request, json.decode(written.body))
        assert unquote(written.path) == unquote(path_of(exchange))

    def check_stream(self, exchange: Exchange) -> None:
        """Fail where a stream is not the same, frame by frame, after it was read and written."""
        laws.check_stream_json(self.codec, self.answered(exchange), exchange.content)

    def forgetful(self, completion: Completion) -> Completion:
        """Return an answer without the memory of how it was written, where `kept` would see that."""
        return completion

    def kept(self, completion: Completion) -> list[Any]:
        """Return what of an answer is the same once it was written as a stream, whichever form it had."""
        return [completion.id, completion.model, completion.choices, completion.extra]

    def as_sent(self, source: Any) -> list[Any]:
        """Return the messages that put a whole answer, as JSON, into the next request."""
        raise NotImplementedError

    def without_added(self, messages: Any) -> Any:
        """Return messages as they were written, without what this codec adds to them."""
        return messages

    def next_request(self, message: Message) -> ChatRequest:
        """Return a request with an answer's message in it."""
        return ChatRequest("m", (message,))

    def billed(self, exchange: Exchange) -> Any:
        """Return the recorded usage, `None` where there is none."""
        raise NotImplementedError

    def usage(self, billed: Any) -> dict[str, Any]:
        """Return what attributes of `Usage` have to be."""
        raise NotImplementedError

    def error_of(self, source: Any) -> dict[str, Any]:
        """Return what attributes of an error have to be; `message` stands for words that it has to have."""
        raise NotImplementedError

    def client_types(self) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
        """Return the official client's types of a whole answer and of a frame."""
        raise NotImplementedError
