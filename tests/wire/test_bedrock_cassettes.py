"""Every recorded exchange with Bedrock, read and written again: the laws of codecs over what the API really sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold, unfold
from antiphon.chat.requests import ChatRequest
from antiphon.errors import BadRequestError
from antiphon.formats import json
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.framing import eventstream
from tests import recordings
from tests.recordings import Exchange
from tests.wire import laws

CODEC = Bedrock()

NOT_CONVERSE = {"invoke": "The body is that of the model's maker, embeddings mostly."}
"""Operations that are recorded and not this format's, with the reason."""

OTHER_BODIES = {"test_anthropic_bedrock_count_tokens": "Tokens of an `invoke` body are counted."}
"""Beginnings of names of recorded requests that are not this format's, with the reason."""


@pytest.fixture(scope="module")
def exchanges(cassettes: Path) -> list[Exchange]:
    """Every recorded exchange of the hosts."""
    found = recordings.exchanges("bedrock-runtime.*/*.json")
    assert found
    return found


def path_of(exchange: Exchange) -> str:
    """Return the path of the URL, without its query."""
    return urlsplit(exchange.url).path


def verb(exchange: Exchange) -> str:
    """Return the operation, which the path ends with."""
    return path_of(exchange).rpartition("/")[2]


def is_other(exchange: Exchange) -> bool:
    """Whether the request is one of `OTHER_BODIES`."""
    return any(exchange.name.partition("/")[2].startswith(start) for start in OTHER_BODIES)


def of(exchanges: list[Exchange], *verbs: str, status: int = 200) -> list[Exchange]:
    """Return the exchanges of some operations that ended with *status*."""
    return [e for e in exchanges if verb(e) in verbs and e.status == status and not is_other(e)]


def request_of(exchange: Exchange) -> ChatRequest:
    """Return the request as this codec reads it."""
    return CODEC.decode_request(json.encode(exchange.request), path_of(exchange))


def read(exchange: Exchange) -> Completion:
    """Return the recorded answer."""
    return fold(laws.decoded(CODEC, request_of(exchange), [exchange.content], exchange.content_type or ""))


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
    """What is recorded of the hosts is this format's, or stands in a list of reasons, none of which is stale."""
    verbs = Counter(map(verb, exchanges))
    assert verbs.keys() == {"converse", "converse-stream", "count-tokens"} | NOT_CONVERSE.keys()
    for start in OTHER_BODIES:
        found = [e for e in exchanges if e.name.partition("/")[2].startswith(start)]
        bodies = [e for e in found if "converse" not in e.request.get("input", {})]
        assert found == bodies
        assert bodies


def test_requests(exchanges: list[Exchange]) -> None:
    """Every request is the same JSON, for the same path, after it was read and written, and loses nothing."""

    def check(exchange: Exchange) -> None:
        request = request_of(exchange)
        written = CODEC.encode_request(request)
        laws.check_same(exchange.request, json.decode(written.body))
        assert unquote(path_of(exchange)) == unquote(written.path)
        assert ":" not in written.path
        laws.check_request(CODEC, request)

    check_all([e for status in (200, 400) for e in of(exchanges, "converse", "converse-stream", status=status)], check)


def test_counts(exchanges: list[Exchange]) -> None:
    """A request to count tokens is written as it was recorded, and its answer is a number."""

    def check(exchange: Exchange) -> None:
        written = CODEC.encode_count(request_of(exchange))
        laws.check_same(exchange.request, json.decode(written.body))
        assert unquote(written.path) == unquote(path_of(exchange))
        assert CODEC.decode_count(exchange.content) == json.decode(exchange.content)["inputTokens"]

    check_all(of(exchanges, "count-tokens"), check)


def test_whole_answers(exchanges: list[Exchange]) -> None:
    """Every whole answer is the same JSON after it was read and written, by way of events."""

    def check(exchange: Exchange) -> None:
        laws.check_answer_json(CODEC, request_of(exchange), json.decode(exchange.content))

    check_all(of(exchanges, "converse"), check)


def split(body: bytes) -> list[tuple[Any, Any]]:
    """Return the headers and the JSON of each frame."""
    decoder = eventstream.EventStreamDecoder()
    found = [(headers, json.decode(payload)) for headers, payload in decoder.feed(body)]
    decoder.close()
    return found


def test_streams(exchanges: list[Exchange]) -> None:
    """Every frame of every stream, headers and padding too, is the same after it was read and written."""

    def check(exchange: Exchange) -> None:
        events = laws.decoded(CODEC, request_of(exchange), [exchange.content])
        written = laws.encoded(CODEC, request_of(exchange), events)
        for (headers, told), (again, telling) in zip(split(exchange.content), split(written), strict=True):
            assert headers == again
            laws.check_same(told, telling)
        laws.check_folding(fold(events))

    check_all(of(exchanges, "converse-stream"), check)


def test_answers_survive_a_round(exchanges: list[Exchange]) -> None:
    """Every answer is the same after it was written anew as a stream, without the memory of how it was written."""

    def check(exchange: Exchange) -> None:
        told, request = read(exchange), request_of(exchange)
        again = fold(laws.decoded(CODEC, request, [laws.encoded(CODEC, request, unfold(told))]))
        assert [told.model, plain(told), told.extra] == [again.model, plain(again), again.extra]

    check_all(of(exchanges, "converse", "converse-stream"), check)


def plain(completion: Completion) -> list[Any]:
    """Return what the choices say, without how the message was written, which is another thing in a stream."""
    return [(c.message.parts, c.finish_reason, c.native_finish_reason, c.extra) for c in completion.choices]


def test_an_answer_goes_back_as_it_came(exchanges: list[Exchange]) -> None:
    """A recorded answer, put into the next request, is the content that was sent, but for the type of plain calls."""

    def check(exchange: Exchange) -> None:
        message = read(exchange).choices[0].message
        sent = json.decode(exchange.content)["output"]["message"]
        for block in sent["content"]:
            if block.get("toolUse", {}).get("type") == "tool_use":
                del block["toolUse"]["type"]
        written = CODEC.encode_request(ChatRequest("m", (message,)))
        laws.check_same([sent], json.decode(written.body)["messages"])
        assert written.losses == ()

    check_all(of(exchanges, "converse"), check)


def test_usage_adds_up(exchanges: list[Exchange]) -> None:
    """The buckets of each answer add up to the total that was recorded."""

    def check(exchange: Exchange) -> None:
        usage = read(exchange).usage
        told = json.decode(exchange.content)["usage"] if verb(exchange) == "converse" else None
        if told is None:
            told = next(frame["usage"] for headers, frame in split(exchange.content) if "usage" in frame)
        assert usage is not None
        assert (usage.total_tokens, usage.completion_tokens) == (told["totalTokens"], told["outputTokens"])
        assert usage.input_cache_read == told.get("cacheReadInputTokens")

    check_all(of(exchanges, "converse", "converse-stream"), check)


def test_errors(exchanges: list[Exchange]) -> None:
    """A recorded error is read into its class with the provider's words, and is given back as it was."""

    def check(exchange: Exchange) -> None:
        source = json.decode(exchange.content)
        error = CODEC.decode_error(exchange.status, {"x-amzn-requestid": "r"}, exchange.content)
        assert type(error) is BadRequestError
        assert source["message"] in str(error)
        reply = CODEC.encode_error(error)
        assert (reply.status, json.decode(reply.body)) == (exchange.status, source)
        assert reply.headers["x-amzn-requestid"] == "r"

    check_all([e for e in exchanges if e.status != 200], check)
