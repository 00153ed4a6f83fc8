"""Readers of what comes piece by piece: bounded, and no slower for what came before, whatever the pieces are."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from antiphon.calls.partial_json import PartialJSON
from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import TextDelta
from antiphon.chat.messages import Message, Text
from antiphon.chat.think_tags import ThinkTagParser
from antiphon.errors import APIStatusError, ResponseTooLargeError
from antiphon.formats.framing.eventstream import EventStreamDecoder, encode, encode_headers
from antiphon.formats.framing.ndjson import LineDecoder
from antiphon.formats.framing.sse import SSEDecoder
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.responses import Responses
from antiphon.formats.status import http_status, words
from antiphon.http.http1 import ResponseReader
from antiphon.providers.stop_strings import Stops
from tests.wire.test_growth import check_growth

TIMES = 20
"""The pieces of a small run, for each one of `check_growth`."""


def fed(feed: Callable[[Any], object], pieces: list[Any]) -> Callable[[], object]:
    """Return what feeds *pieces*."""

    def run() -> None:
        for piece in pieces:
            feed(piece)

    return run


def texts(first: str, piece: str, size: int) -> Callable[[], object]:
    """Return what splits the thoughts of a text."""

    def run() -> None:
        splitter = ThinkTagParser()
        for text in (first, *[piece] * (TIMES * size)):
            splitter.feed(TextDelta(text))

    return run


def partial(first: str, piece: str, size: int) -> Callable[[], object]:
    """Return what reads a JSON text in pieces."""

    def run() -> None:
        reader = PartialJSON()
        for text in (first, *[piece] * (TIMES * size)):
            reader.feed(text)

    return run


def bytes_of(make: Callable[[], Any], first: bytes, piece: bytes, size: int) -> Callable[[], object]:
    """Return what reads bytes in pieces."""

    def run() -> None:
        reader = make()
        for data in (first, *[piece] * (TIMES * size)):
            list(reader.feed(data))

    return run


FRAME = encode(encode_headers({":event-type": "x"}), b"x" * 100_000)[:99_000]

SHAPES: dict[str, Callable[[int], Callable[[], object]]] = {
    "thoughts-of-spaces": lambda size: texts("<think>a", " ", size),
    "thoughts-that-begin-with-spaces": lambda size: texts("<think>", " ", size),
    "spaces-before-thoughts": lambda size: texts("", "\n", size),
    "spaces-after-thoughts": lambda size: texts("<think>a</think>", "\n", size),
    "thoughts-of-half-a-tag": lambda size: texts("<think>", "</thin", size),
    "partial-string": lambda size: partial('{"a":"', "x" * 10, size),
    "partial-key": lambda size: partial('{"', "x" * 100, size),
    "partial-number": lambda size: partial("[", "1" * 100, size),
    "partial-array": lambda size: partial("[", "1,", size),
    "partial-object": lambda size: partial('{"a":1', ',"a":1', size),
    "partial-depth": lambda size: partial("", "[", size),
    "events-of-many-lines": lambda size: bytes_of(SSEDecoder, b"", b"data: x\n" * 50, size),
    "events-byte-by-byte": lambda size: bytes_of(SSEDecoder, b"data: ", b"x", size),
    "lines-byte-by-byte": lambda size: bytes_of(LineDecoder, b"", b"x", size),
    "frames-byte-by-byte": lambda size: bytes_of(EventStreamDecoder, FRAME[:20], b"x", min(size, 2000)),
    "head-byte-by-byte": lambda size: bytes_of(ResponseReader, b"HTTP/1.1 200 OK\r\nx: ", b"x", size),
    "trailer-byte-by-byte": lambda size: bytes_of(
        ResponseReader, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x", size
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_many_times_the_pieces_cost_as_many_times_as_much(shape: str) -> None:
    """No reader goes over what it holds for every piece."""
    check_growth(SHAPES[shape])


@pytest.mark.parametrize("line", [b"data:\n", b"data: \n", b"data\n", b"data: x\n", b"data:\r\n", b"data:\r"])
def test_an_event_of_endless_lines_is_given_up(line: bytes) -> None:
    """Lines without data take memory, too, and count."""
    decoder = SSEDecoder(limit=100_000)
    endless = fed(decoder.feed, [line * 100] * 1000)
    with pytest.raises(ResponseTooLargeError):
        endless()


def test_comments_and_blank_lines_between_the_lines_of_an_event_change_nothing() -> None:
    """They are taken out in one go; a blank line still ends an event, and a comment does not."""
    body = b":x\n\n\n:y\ndata: 1\n:z\n:\ndata: 2\n\n\n\n\nevent: e\n:a\ndata: 3\n\n:"
    for cut in range(len(body)):
        decoder = SSEDecoder()
        assert [*decoder.feed(body[:cut]), *decoder.feed(body[cut:]), *decoder.close()] == [("", b"1\n2"), ("e", b"3")]


def test_many_stop_strings_are_found_like_few() -> None:
    """What is looked for in order is found as one by one: complete first, and of those the longest."""
    strings = ["abc", "b", "bcd", "xyz", "xy", "zzzz", "a" * 9, *(f"<{number}>" for number in range(40))]
    for kept in (strings, strings[:6], ["bb", "abbc", "bbc"], ["ab"], []):
        many, padded = Stops(kept), Stops([*kept, *(f"\0{number:03}" for number in range(20))])
        for text in ("", "abc", "xabz", "a<12>b", "abbc", "xy", "zzz", "aaaaaaaaaa", "<", "<1", "--<39", "qqq"):
            found = [(text.find(one) + len(one), text.find(one)) for one in kept if one in text]
            expected = min(found)[1] if found else None
            assert many.find(text) == padded.find(text) == expected
            begun = next((n for n in range(len(text)) if any(one.startswith(text[n:]) for one in kept)), len(text))
            if expected is None:
                assert many.begun(text) == padded.begun(text) == begun


def test_what_many_stop_strings_cost_a_token() -> None:
    """The strings are put in order once; a token then costs no more for many of them than for few."""

    def run(size: int) -> Callable[[], object]:
        stops = Stops(f"stop{number}" for number in range(100 * size))
        return fed(lambda text: (stops.find(text), stops.begun(text)), ["hello stop1x st"] * 200 * (size // 200 or 1))

    check_growth(run)


def test_a_value_that_was_shown_does_not_change() -> None:
    """Values are made when they are asked for, and stay as they are."""
    reader, text = PartialJSON(), '{"a":[1,[2,"xy"]],"b":{"c":null}} '
    shown = [(reader.value, json.dumps(reader.value)) for piece in text if reader.feed(piece)]
    assert all(json.dumps(value) == before for value, before in shown)
    assert shown[-1][0] == json.loads(text)
    assert all(one != other for (_, one), (_, other) in pairwise(shown))


@pytest.mark.parametrize("key", ["error", "message", "detail", "msg"])
def test_errors_in_errors_are_read_to_a_depth(key: str) -> None:
    """An error body that is deep, or wide and deep, has no words, and takes no time."""
    deep: Any = "words"
    for _ in range(900):
        deep = {key: deep}
    assert words(deep) == ""
    assert words({key: {key: {key: ["words"]}}}) == "words"
    listed: Any = ""
    for _ in range(900):
        listed = [listed] * 5
    assert words(listed) == ""


@pytest.mark.parametrize("codec", [Gemini(), Ollama(), Responses()], ids=lambda codec: codec.name)
@pytest.mark.parametrize("created", [10**400, -(10**400), 10**12, -1])
def test_a_moment_that_no_calendar_holds_is_written_all_the_same(codec: Any, created: int) -> None:
    """A provider may claim to have answered at any time."""
    answer = Completion(
        choices=(Choice(0, Message("assistant", (Text("x"),)), "stop"),), id="a", model="m", created=created
    )
    assert b"x" in codec.encode_response(answer)


@pytest.mark.parametrize(("status", "expected"), [(600, 502), (999, 502), (599, 599), (400, 400), (302, 502)])
def test_a_status_that_no_server_may_send_is_told_as_a_bad_gateway(status: int, expected: int) -> None:
    """A provider's status above 599 has no meaning, and servers have no words for it."""
    assert http_status(APIStatusError("x", status=status)) == expected
