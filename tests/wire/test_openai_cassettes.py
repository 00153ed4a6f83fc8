"""The laws on every recorded Chat Completions exchange, of sixteen hosts."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from antiphon.completion import Completion
from antiphon.errors import APIStatusError, StreamError
from antiphon.events import End, Event, Finish, fold
from antiphon.types import ChatRequest
from antiphon.wire import json
from antiphon.wire.openai_chat import OpenAIChat
from antiphon.wire.sse import SSEDecoder
from tests import recordings
from tests.recordings import Exchange
from tests.wire import laws

CODEC = OpenAIChat()

ERRORS_INSIDE = {
    "api.groq.com/test_tool_use_failed_error_streaming.0.json": "Tool call validation failed",
}
"""Streams that end with an error event inside the 200, by the words of the error: there is no answer to fold."""

PLACES = 200
"""How many places of a stream to split and cut it at where looking at every byte would take minutes."""


@pytest.fixture(scope="module")
def exchanges(cassettes: Path) -> list[Exchange]:
    """Every recorded exchange of this format."""
    return [exchange for exchange in recordings.exchanges() if "chat/completions" in exchange.url]


def is_stream(exchange: Exchange) -> bool:
    """Whether the answer came as server-sent events."""
    return "event-stream" in (exchange.content_type or "")


def request_of(exchange: Exchange) -> ChatRequest:
    """Return the request as this codec reads it."""
    return CODEC.decode_request(json.encode(exchange.request))


def answered(exchanges: list[Exchange], *, stream: bool) -> list[Exchange]:
    """Return those with an answer, whole or streamed."""
    return [
        exchange
        for exchange in exchanges
        if exchange.status == 200 and is_stream(exchange) is stream and exchange.name not in ERRORS_INSIDE
    ]


def streams(exchanges: list[Exchange]) -> dict[str, Exchange]:
    """Return streamed answers by name; some were recorded more than once and are looked at once."""
    return {exchange.body: exchange for exchange in answered(exchanges, stream=True)}


def check_all(exchanges: list[Exchange], check: Callable[[Exchange], object]) -> None:
    """Fail where *check* fails for any of *exchanges*, and say which, and how many of which host were looked at."""
    failures: list[str] = []
    for exchange in exchanges:
        try:
            check(exchange)
        except Exception as error:  # whatever it is, the others are looked at too
            failures.append(f"{exchange.name}: {type(error).__name__}: {error}")
    counts = ", ".join(f"{host} {count}" for host, count in sorted(Counter(e.host for e in exchanges).items()))
    assert exchanges, "Nothing was looked at."
    assert not failures, f"{len(failures)} of {len(exchanges)} failed ({counts}):\n" + "\n".join(failures[:10])


def test_what_is_there(exchanges: list[Exchange], record_property: Callable[[str, object], None]) -> None:
    """The recordings hold whole answers, streams and errors, of OpenAI and of many servers that speak its format."""
    counts = Counter(
        (exchange.host, "error" if exchange.status >= 400 else "stream" if is_stream(exchange) else "whole")
        for exchange in exchanges
    )
    record_property("chat exchanges", str(sorted(counts.items())))
    kinds = {kind: sum(count for (_, own), count in counts.items() if own == kind) for _, kind in counts}
    assert kinds.keys() == {"whole", "stream", "error"}, counts
    assert {host for host, _ in counts} >= {"api.openai.com", "api.groq.com", "openrouter.ai", "api.mistral.ai"}, counts
    assert kinds["whole"] + kinds["stream"] + kinds["error"] == len(exchanges) >= 150, counts


def test_requests(exchanges: list[Exchange]) -> None:
    """Every request is the same JSON after it was read and written, and the same request after another round."""

    def check(exchange: Exchange) -> None:
        laws.check_request_json(CODEC, exchange.request)
        laws.check_request(CODEC, request_of(exchange))

    check_all(exchanges, check)


def test_whole_answers(exchanges: list[Exchange]) -> None:
    """Every whole answer is the same JSON after it was read and written, by way of events, and folds to itself."""

    def check(exchange: Exchange) -> None:
        laws.check_answer_json(CODEC, request_of(exchange), json.decode(exchange.content))

    check_all(answered(exchanges, stream=False), check)


def test_streams(exchanges: list[Exchange]) -> None:
    """Every stream is the same JSON, frame by frame, after it was read and written, and folds to itself."""

    def check(exchange: Exchange) -> None:
        laws.check_stream_json(CODEC, request_of(exchange), exchange.content)

    check_all(answered(exchanges, stream=True), check)


def test_answers_survive_a_round(exchanges: list[Exchange]) -> None:
    """Every answer, streamed ones too, is the same answer after it was written whole and read, and so as a stream."""

    def check(exchange: Exchange) -> None:
        completion = decoded(exchange, exchange.content)
        laws.check_answer(CODEC, request_of(exchange), completion)

    check_all([*answered(exchanges, stream=True), *answered(exchanges, stream=False)], check)


def decoded(exchange: Exchange, data: bytes) -> Completion:
    """Return the answer in *data*."""
    return fold(laws.decoded(CODEC, request_of(exchange), [data], exchange.content_type or ""))


def test_errors_inside(exchanges: list[Exchange]) -> None:
    """A stream with an error event inside its 200 ends with that error; no other recorded answer has one."""
    found: dict[str, str] = {}
    for exchange in exchanges:
        if exchange.status == 200:
            try:
                decoded(exchange, exchange.content)
            except StreamError as error:
                found[exchange.name] = str(error)
    assert found.keys() == ERRORS_INSIDE.keys()
    assert all(words in found[name] for name, words in ERRORS_INSIDE.items())


def test_error_replies(exchanges: list[Exchange]) -> None:
    """Every error reply has its class and the provider's own words, code and type; a server passes them on."""

    def check(exchange: Exchange) -> None:
        error = CODEC.decode_error(exchange.status, {}, exchange.content)
        said = json.decode(exchange.content)["error"]
        assert isinstance(error, APIStatusError)
        assert said["message"] in str(error)
        assert (error.status, error.type) == (exchange.status, said.get("type"))
        assert error.code == (None if said.get("code") is None else str(said["code"]))
        reply = CODEC.encode_error(error)
        again = CODEC.decode_error(reply.status, reply.headers, reply.body)
        assert (type(again), str(again), again.code) == (type(error), str(error), error.code)

    check_all([exchange for exchange in exchanges if exchange.status >= 400], check)


def frames_of(data: bytes) -> list[bytes]:
    """Return the frames of a stream, each with its blank line."""
    return [found[0] for found in re.finditer(rb".+?(\n\n|$)", data, re.DOTALL)]


def places(frame: bytes, data: bytes) -> range:
    """Give places within *frame*, one of the frames in *data*; of small streams, all."""
    return range(1, len(frame), max(1, len(data) // PLACES))


def test_every_split_of_the_frames(exchanges: list[Exchange]) -> None:
    """Every stream has the same frames byte by byte, and at every single split in two, seen with the next frame.

    What a decoder of answers gets is these frames: they do not depend on the splits, so neither do the answers.
    """

    def read(*parts: bytes) -> list[tuple[str, bytes]]:
        decoder = SSEDecoder()
        return [*(frame for part in parts for frame in decoder.feed(part)), *decoder.close()]

    def check(exchange: Exchange) -> None:
        data = exchange.content
        assert read(data) == read(*(data[place : place + 1] for place in range(len(data))))
        frames = frames_of(data)
        for number in range(0, len(frames), 2):
            both = b"".join(frames[number : number + 2])
            whole = read(both)
            for cut in range(1, len(both)):
                assert whole == read(both[:cut], both[cut:]), f"split at {cut} of {both!r:.100}"

    check_all([*streams(exchanges).values()], check)


def test_splits_of_the_answer(exchanges: list[Exchange]) -> None:
    """Every stream gives the same events byte by byte, and at splits in two, seen with the next two frames."""

    def check(exchange: Exchange) -> None:
        data, request = exchange.content, request_of(exchange)
        whole = laws.decoded(CODEC, request, [data])
        assert whole == laws.decoded(CODEC, request, (data[place : place + 1] for place in range(len(data))))
        decoder, frames = CODEC.decoder(request, laws.SSE), frames_of(data)
        for number, frame in enumerate(frames):
            rest = b"".join(frames[number + 1 : number + 3])
            expected = [*copy.deepcopy(decoder).feed(frame + rest)]
            for cut in places(frame, data):
                fork = copy.deepcopy(decoder)
                assert expected == [*fork.feed(frame[:cut]), *fork.feed(frame[cut:] + rest)], f"{frame[:cut]!r}"
            list(decoder.feed(frame))

    check_all([*streams(exchanges).values()], check)


def has_finish(frame: bytes) -> bool:
    """Whether a frame has a finish reason."""
    return any(choice["finish_reason"] for chunk in laws.frames(frame) for choice in chunk["choices"])


def test_every_cut(exchanges: list[Exchange]) -> None:
    """A stream that is cut before its finish is an error wherever it is cut; after that it is the same answer."""

    def check(exchange: Exchange) -> None:
        data, whole = exchange.content, decoded(exchange, exchange.content).choices
        decoder, received, finished = CODEC.decoder(request_of(exchange), laws.SSE), list[Event](), False
        for frame in frames_of(data):
            last = not finished and has_finish(frame)
            for cut in {*places(frame, data), 0, len(frame) - 3, len(frame) - 2, len(frame) - 1}:
                fork = copy.deepcopy(decoder)
                if finished or (last and cut >= len(frame) - 2):
                    found = fold([*received, *fork.feed(frame[:cut]), *fork.close()])
                    assert whole == found.choices, f"cut in {frame!r:.100} at {cut}"
                else:
                    check_broken([*received, *fork.feed(frame[:cut])], fork.close())
            finished = finished or last
            received.extend(decoder.feed(frame))
        assert finished

    def check_broken(received: list[Event], rest: Iterable[Event]) -> None:
        with pytest.raises(StreamError):
            received.extend(rest)
        assert not any(isinstance(event, Finish | End) for event in received)

    check_all([*streams(exchanges).values()], check)
