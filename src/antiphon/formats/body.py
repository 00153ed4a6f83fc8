"""Whole answers: one JSON object, of which nothing can be told before its last byte. No I/O.

And how to tell them from streams, since servers mislabel both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import End, Event, UsageUpdate, unfold
from antiphon.chat.messages import Part, Reasoning, Refusal, Text
from antiphon.errors import BadRequestError, ResponseTooLargeError, StreamError
from antiphon.formats import json
from antiphon.formats.codec import Decoder
from antiphon.formats.status import excerpt

__all__ = ["BYTE_ORDER_MARK", "MAX_BODY", "SniffingDecoder", "WholeAnswerDecoder", "with_received"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""In UTF-8; some servers begin a body with it."""

MAX_BODY = 64 * 1024 * 1024
"""Most bytes of a whole answer."""

_MAX_BLANK = 4096
"""Most bytes of white space to wait for what comes after it."""

_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
"""How a stream of server-sent events begins."""


class WholeAnswerDecoder:
    """Collects the body of an answer and gives its events at the end.

    Args:
        decode: Reads the object; may raise `BadRequestError` for a value of the wrong type, or `StreamError` where the
            object tells of an error instead of an answer.
    """

    __slots__ = ("_decode", "_pieces", "_size")

    def __init__(self, decode: Callable[[dict[str, Any]], Completion]) -> None:
        self._decode = decode
        self._pieces: list[bytes] = []
        self._size = 0

    over = False

    def feed(self, data: bytes) -> Iterable[Event]:
        """Take the next bytes; nothing comes of them yet.

        Raises:
            ResponseTooLargeError: The body grew beyond `MAX_BODY`.
        """
        self._size += len(data)
        if self._size > MAX_BODY:
            raise ResponseTooLargeError(
                f"The answer is larger than {MAX_BODY:,} bytes and was given up; ask for less or stream it."
            )
        self._pieces.append(data)
        return ()

    def close(self) -> Iterator[Event]:
        """Take the end of the body and give all events.

        Raises:
            StreamError: The body is not the promised object, or tells of an error; after the events of what it holds
                of an answer beside that.
        """
        try:
            completion = self._read()
        except StreamError as error:
            if error.received is not None:
                yield from _unfinished(error.received)
            raise
        yield from unfold(completion)

    def _read(self) -> Completion:
        data = b"".join(self._pieces).removeprefix(BYTE_ORDER_MARK)
        if not data.strip():
            raise StreamError("The provider answered 200 with an empty body.")
        try:
            source = json.decode(data)
            if not json.is_object(source):
                raise StreamError(f"The provider answered 200 with JSON that is not an object: {excerpt(data)}")
            return self._decode(source)
        except json.MALFORMED:
            raise StreamError(
                f"The provider answered 200 with something that is not JSON, or nested too deeply: {excerpt(data)}"
            ) from None
        except BadRequestError as error:
            raise StreamError(f"The provider's answer does not have the promised shape: {error}") from None


def with_received(error: StreamError, decode: Callable[[], Completion]) -> StreamError:
    """Return *error*, which stands in an answer, with what came of the answer that *decode* reads, if anything did."""
    try:
        completion = decode()
    except (BadRequestError, StreamError):
        return error
    if any(_says_something(part) for choice in completion.choices for part in choice.message.parts):
        choices = tuple(Choice(choice.index, choice.message) for choice in completion.choices)
        error.received = replace(completion, choices=choices)
    return error


def _says_something(part: Part) -> bool:
    return bool(part.text) if isinstance(part, Text | Reasoning | Refusal) else True


def _unfinished(completion: Completion) -> Iterator[Event]:
    """Give the events of an answer that broke off."""
    yield from (event for event in unfold(completion) if type(event) is not End)
    if completion.usage is not None:
        yield UsageUpdate(completion.usage)


class SniffingDecoder:
    """Tells by its first bytes whether a whole answer comes or a stream of server-sent events.

    Args:
        stream: Reads the one.
        whole: Reads the other.
        labelled_stream: What the answer is said to be, for bytes that leave it open.
    """

    __slots__ = ("_chosen", "_held", "_labelled_stream", "_stream", "_whole")

    def __init__(self, stream: Decoder, whole: Decoder, *, labelled_stream: bool) -> None:
        self._stream = stream
        self._whole = whole
        self._labelled_stream = labelled_stream
        self._held = b""
        self._chosen: Decoder | None = None

    @property
    def over(self) -> bool:
        """What the decoder that was chosen says."""
        return self._chosen is not None and self._chosen.over

    def feed(self, data: bytes) -> Iterable[Event]:
        """Take the next bytes, and give what the decoder that was chosen makes of them."""
        if self._chosen is None:
            self._held = data = self._held + data
            start = data.removeprefix(BYTE_ORDER_MARK).lstrip()
            open_ = BYTE_ORDER_MARK.startswith(data) or any(field.startswith(start) for field in _FIELDS[1:])
            if open_ and len(data) < _MAX_BLANK:
                return ()
            stream = start.startswith(_FIELDS) or (self._labelled_stream and start[:1] not in b"{[<")
            self._chosen, self._held = self._stream if stream else self._whole, b""
        return self._chosen.feed(data)

    def close(self) -> Iterable[Event]:
        """Take the end of the body and give the last events."""
        return self._undecided() if self._chosen is None else self._chosen.close()

    def _undecided(self) -> Iterator[Event]:
        self._chosen = self._stream if self._labelled_stream else self._whole
        yield from self._chosen.feed(self._held)
        yield from self._chosen.close()
