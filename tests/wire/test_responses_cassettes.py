"""The laws on every recorded exchange of OpenAI Responses, at five hosts. None is excepted from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold, unfold
from antiphon.chat.requests import ChatRequest
from antiphon.errors import BadRequestError
from antiphon.formats import json
from antiphon.formats.responses import Responses
from tests import recordings
from tests.recordings import Exchange
from tests.wire import laws
from tests.wire.responses_values import plain

CODEC = Responses()
REQUEST = ChatRequest("m", (), stream=True)

BESIDE = ("/v1/responses/compact", "/v1/responses/input_tokens")
"""Paths of other things than answers: compacted conversations and counts of tokens."""


@pytest.fixture(scope="module")
def exchanges(cassettes: Path) -> list[Exchange]:
    """Every recorded exchange of this format."""
    found = [e for e in recordings.exchanges() if "/responses" in path_of(e)]
    assert found
    return found


def path_of(exchange: Exchange) -> str:
    """Return the path of the URL, without its query."""
    return urlsplit(exchange.url).path


def is_stream(exchange: Exchange) -> bool:
    """Whether the answer came as server-sent events."""
    return "event-stream" in (exchange.content_type or "")


def answered(exchanges: list[Exchange], *, stream: bool) -> list[Exchange]:
    """Return those with an answer, whole or streamed; one that was fetched later is among them."""
    return [e for e in exchanges if path_of(e) not in BESIDE and e.status == 200 and is_stream(e) is stream]


def asked(exchanges: list[Exchange]) -> list[Exchange]:
    """Return those with a request for an answer."""
    return [e for e in exchanges if path_of(e) not in BESIDE and e.request is not None]


def decoded(exchange: Exchange) -> Completion:
    """Return the recorded answer."""
    return fold(laws.decoded(CODEC, REQUEST, [exchange.content], exchange.content_type or ""))


def last_of(exchange: Exchange) -> dict[str, Any]:
    """Return the object of the recorded answer; of a stream, that of its last frame."""
    if not is_stream(exchange):
        return json.decode(exchange.content)
    return laws.frames(exchange.content)[-1]["response"]


def check_all(exchanges: list[Exchange], check: Callable[[Exchange], object]) -> None:
    """Fail where *check* fails for any of *exchanges*, and say for which."""
    failures: list[str] = []
    for exchange in exchanges:
        try:
            check(exchange)
        except Exception as error:
            failures.append(f"{exchange.name}: {type(error).__name__}: {error}")
    assert exchanges, "Nothing was looked at."
    assert not failures, f"{len(failures)} of {len(exchanges)} failed:\n" + "\n".join(failures[:10])


def test_every_recording_is_looked_at(exchanges: list[Exchange]) -> None:
    """Each host's exchanges are questions with an answer or an error, but for those of other paths."""
    hosts = Counter(exchange.host for exchange in asked(exchanges))
    assert sorted(hosts.values(), reverse=True) == [143, 6, 3, 2, 1]
    ends = {path_of(exchange).removeprefix("/openai").removeprefix("/api") for exchange in asked(exchanges)}
    assert ends == {"/v1/responses", "/responses"}
    assert len(answered(exchanges, stream=True)) == 11


def test_requests(exchanges: list[Exchange]) -> None:
    """Every request is the same JSON after it was read and written, and the same request, and loses nothing."""

    def check(exchange: Exchange) -> None:
        laws.check_request_json(CODEC, exchange.request)
        laws.check_request(CODEC, CODEC.decode_request(json.encode(exchange.request)))

    check_all(asked(exchanges), check)


def test_whole_answers(exchanges: list[Exchange]) -> None:
    """Every whole answer is the same JSON after it was read and written, by way of events."""

    def check(exchange: Exchange) -> None:
        laws.check_answer_json(CODEC, REQUEST, json.decode(exchange.content))

    check_all(answered(exchanges, stream=False), check)


def test_streams(exchanges: list[Exchange]) -> None:
    """Every frame of every stream is the same JSON after it was read and written, padding included."""

    def check(exchange: Exchange) -> None:
        laws.check_stream_json(CODEC, REQUEST, exchange.content)

    check_all(answered(exchanges, stream=True), check)


def test_a_folded_stream_is_its_last_frame(exchanges: list[Exchange]) -> None:
    """What a stream's events make is what its last frame says, but that OpenAI encrypts the reasoning there anew."""

    def check(exchange: Exchange) -> None:
        written = json.decode(CODEC.encode_response(decoded(exchange)))
        done = [frame["item"] for frame in laws.frames(exchange.content) if "item.done" in frame["type"]]
        laws.check_same({**last_of(exchange), "output": done}, written)

    check_all(answered(exchanges, stream=True), check)


def test_answers_survive_a_round(exchanges: list[Exchange]) -> None:
    """Every answer is the same after it was written anew as a stream, without the memory of how it was written."""

    def check(exchange: Exchange) -> None:
        told = plain(decoded(exchange))
        if told.choices[0].finish_reason == "pause":  # of which a stream cannot tell
            return
        body = laws.encoded(CODEC, REQUEST, unfold(told))
        again = plain(fold(laws.decoded(CODEC, REQUEST, [body])))
        assert [told.id, told.model, told.choices, told.extra] == [again.id, again.model, again.choices, again.extra]

    check_all([e for stream in (True, False) for e in answered(exchanges, stream=stream)], check)


def test_an_answer_goes_back_as_it_came(exchanges: list[Exchange]) -> None:
    """A recorded answer, put into the next request as a message, is the output that was sent, item for item."""

    def check(exchange: Exchange) -> None:
        request = ChatRequest("m", (decoded(exchange).choices[0].message,))
        written = json.decode(CODEC.encode_request(request).body)["input"]
        laws.check_same(json.decode(exchange.content)["output"], written)

    check_all(answered(exchanges, stream=False), check)


def test_usage_adds_up(exchanges: list[Exchange]) -> None:
    """The buckets of each answer add up to what was recorded as billed; those of reasoning are among the output."""

    def check(exchange: Exchange) -> None:
        usage, told = decoded(exchange).usage, last_of(exchange)["usage"]
        if told is None:
            assert usage is None
            return
        assert usage is not None
        assert usage.prompt_tokens == told["input_tokens"]
        assert usage.completion_tokens == told["output_tokens"]
        assert usage.total_tokens == told["total_tokens"]
        assert usage.input_cache_read == told["input_tokens_details"]["cached_tokens"]
        assert usage.input_cache_write == told["input_tokens_details"].get("cache_write_tokens")
        assert usage.output_reasoning == told["output_tokens_details"]["reasoning_tokens"]
        assert usage.cost == told.get("cost")

    check_all([e for stream in (True, False) for e in answered(exchanges, stream=stream)], check)


def test_errors(exchanges: list[Exchange]) -> None:
    """A recorded error is read into its class with the provider's words, and is given back as it was."""

    def check(exchange: Exchange) -> None:
        source = json.decode(exchange.content)
        error = CODEC.decode_error(exchange.status, {}, exchange.content)
        assert type(error) is BadRequestError
        assert source["error"]["message"] in str(error)
        assert [error.code, error.param] == [source["error"]["code"], source["error"]["param"]]
        reply = CODEC.encode_error(error)
        assert (reply.status, json.decode(reply.body)) == (exchange.status, source)

    check_all([exchange for exchange in exchanges if exchange.status != 200], check)
