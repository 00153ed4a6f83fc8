"""The laws on every recorded Chat Completions exchange, of sixteen hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIStatusError, StreamError
from antiphon.formats import json
from antiphon.formats.openai_chat import OpenAIChat
from tests import recordings
from tests.recordings import Exchange
from tests.wire import laws

CODEC = OpenAIChat()

ERRORS_INSIDE = {
    "api.groq.com/test_tool_use_failed_error_streaming.0.json": "Tool call validation failed",
}
"""Streams that end with an error event inside the 200, by the words of the error: there is no answer to fold."""


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


def billed(exchange: Exchange) -> dict[str, Any] | None:
    """Return the recorded usage: of a stream the last that any frame has, be it under `x_groq`."""
    frames = laws.frames(exchange.content) if is_stream(exchange) else [json.decode(exchange.content)]
    told = [frame.get("usage") or (frame.get("x_groq") or {}).get("usage") for frame in frames]
    return next(filter(None, reversed(told)), None)


def test_usage_adds_up(exchanges: list[Exchange]) -> None:
    """The buckets of each answer, whole or streamed, add up to the total that was recorded as billed."""

    def check(exchange: Exchange) -> None:
        usage, told = decoded(exchange, exchange.content).usage, billed(exchange)
        if told is None:
            assert usage is None
            return
        assert usage is not None
        buckets = (usage.input_uncached, usage.input_cache_read, usage.input_cache_write)
        outputs = (usage.output_visible, usage.output_reasoning)
        assert sum(count or 0 for count in buckets) == told["prompt_tokens"]
        assert sum(count or 0 for count in (*buckets, *outputs)) == told["total_tokens"] == usage.total_tokens
        assert usage.output_reasoning == (told.get("completion_tokens_details") or {}).get("reasoning_tokens")
        assert usage.cost == told.get("cost")

    some = [*answered(exchanges, stream=True), *answered(exchanges, stream=False)]
    check_all(some, check)
    assert sum(billed(exchange) is not None for exchange in some) > len(some) // 2


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
