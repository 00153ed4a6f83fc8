"""The laws on every recorded exchange of api.anthropic.com. None is excepted from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import TypeAdapter, ValidationError

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold, unfold
from antiphon.chat.requests import ChatRequest
from antiphon.errors import BadRequestError, NotFoundError
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from tests import recordings
from tests.recordings import Exchange
from tests.vendors import anthropic
from tests.wire import laws

CODEC = Anthropic()

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"


@pytest.fixture(scope="module")
def exchanges(cassettes: Path) -> list[Exchange]:
    """Every recorded exchange of the host."""
    found = recordings.exchanges("api.anthropic.com/*.json")
    assert found
    return found


def path_of(exchange: Exchange) -> str:
    """Return the path of the URL, without its query."""
    return urlsplit(exchange.url).path


def is_stream(exchange: Exchange) -> bool:
    """Whether the answer came as server-sent events."""
    return "event-stream" in (exchange.content_type or "")


def answered(exchanges: list[Exchange], *, stream: bool) -> list[Exchange]:
    """Return those with an answer, whole or streamed."""
    return [e for e in exchanges if path_of(e) == MESSAGES and e.status == 200 and is_stream(e) is stream]


def request_of(exchange: Exchange) -> ChatRequest:
    """Return the request as this codec reads it."""
    return CODEC.decode_request(json.encode(exchange.request))


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
    """What is recorded of the host is messages, counts of tokens, or files, which are no chat."""
    paths = {path_of(exchange) for exchange in exchanges}
    assert {path for path in paths if not path.startswith("/v1/files/")} == {MESSAGES, COUNT}
    assert answered(exchanges, stream=True)
    assert answered(exchanges, stream=False)


def test_requests(exchanges: list[Exchange]) -> None:
    """Every request, also one to count tokens, is the same JSON after it was read and written, and loses nothing."""

    def check(exchange: Exchange) -> None:
        laws.check_request_json(CODEC, exchange.request)
        laws.check_request(CODEC, request_of(exchange))

    check_all([exchange for exchange in exchanges if exchange.request is not None], check)


def test_requests_of_the_newer_version(exchanges: list[Exchange]) -> None:
    """Told the API version 2026-10-21, all of a request but its sampling is as it was."""
    newer = Anthropic(version="2026-10-21")

    def check(exchange: Exchange) -> None:
        written = newer.encode_request(request_of(exchange))
        left = {k: v for k, v in exchange.request.items() if k not in ("temperature", "top_p", "top_k")}
        laws.check_same(left, json.decode(written.body))
        assert {f"$.{key}" for key in exchange.request.keys() - left.keys()} == {loss.path for loss in written.losses}

    check_all([exchange for exchange in exchanges if exchange.request is not None], check)


def test_counts(exchanges: list[Exchange]) -> None:
    """A request to count tokens is written as it was recorded, and its answer is a number."""

    def check(exchange: Exchange) -> None:
        written = CODEC.encode_count(request_of(exchange))
        laws.check_same(exchange.request, json.decode(written.body))
        assert written.path == COUNT
        assert CODEC.decode_count(exchange.content) == json.decode(exchange.content)["input_tokens"]

    check_all([exchange for exchange in exchanges if path_of(exchange) == COUNT], check)


def test_whole_answers(exchanges: list[Exchange]) -> None:
    """Every whole answer is the same JSON after it was read and written, by way of events."""

    def check(exchange: Exchange) -> None:
        laws.check_answer_json(CODEC, request_of(exchange), json.decode(exchange.content))

    check_all(answered(exchanges, stream=False), check)


def test_streams(exchanges: list[Exchange]) -> None:
    """Every frame of every stream is the same JSON after it was read and written, pings included."""

    def check(exchange: Exchange) -> None:
        laws.check_stream_json(CODEC, request_of(exchange), exchange.content)

    check_all(answered(exchanges, stream=True), check)


def test_answers_survive_a_round(exchanges: list[Exchange]) -> None:
    """Every answer is the same after it was written anew as a stream, without the memory of how it was written."""

    def check(exchange: Exchange) -> None:
        told = decoded(exchange)
        body = laws.encoded(CODEC, request_of(exchange), unfold(told))
        again = fold(laws.decoded(CODEC, request_of(exchange), [body]))
        assert [told.id, told.model, told.choices, told.extra] == [again.id, again.model, again.choices, again.extra]

    check_all([e for stream in (True, False) for e in answered(exchanges, stream=stream)], check)


def decoded(exchange: Exchange) -> Completion:
    """Return the recorded answer."""
    return fold(laws.decoded(CODEC, request_of(exchange), [exchange.content], exchange.content_type or ""))


def test_an_answer_goes_back_as_it_came(exchanges: list[Exchange]) -> None:
    """A recorded answer, put into the next request as a message, is the content that the API sent, block for block."""

    def check(exchange: Exchange) -> None:
        message = decoded(exchange).choices[0].message
        request = ChatRequest("claude", (message,), max_tokens=1)
        written = json.decode(CODEC.encode_request(request).body)["messages"]
        laws.check_same([{"role": "assistant", "content": json.decode(exchange.content)["content"]}], written)

    check_all(answered(exchanges, stream=False), check)


def test_usage_adds_up(exchanges: list[Exchange]) -> None:
    """The buckets of each answer add up to what was recorded as billed; those of thoughts are among the output."""

    def check(exchange: Exchange) -> None:
        usage, told = decoded(exchange).usage, billed(exchange)
        assert usage is not None
        assert usage.prompt_tokens == sum(
            told.get(key) or 0 for key in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        )
        assert usage.completion_tokens == told["output_tokens"]
        assert usage.output_reasoning == (told.get("output_tokens_details") or {}).get("thinking_tokens")

    check_all([e for stream in (True, False) for e in answered(exchanges, stream=stream)], check)


def billed(exchange: Exchange) -> dict[str, Any]:
    """Return the recorded usage; of a stream, what the last frame says of each count."""
    if not is_stream(exchange):
        return json.decode(exchange.content)["usage"]
    told: dict[str, Any] = {}
    for frame in laws.frames(exchange.content):
        told |= frame.get("usage") or (frame.get("message") or {}).get("usage") or {}
    return told


def test_errors(exchanges: list[Exchange]) -> None:
    """A recorded error is read into its class with the provider's words, and is given back as it was."""
    kinds = {400: BadRequestError, 404: NotFoundError}

    def check(exchange: Exchange) -> None:
        source = json.decode(exchange.content)
        error = CODEC.decode_error(exchange.status, {}, exchange.content)
        assert type(error) is kinds[exchange.status]
        assert source["error"]["message"] in str(error)
        assert (error.type, error.request_id) == (source["error"]["type"], source["request_id"])
        reply = CODEC.encode_error(error)
        assert (reply.status, json.decode(reply.body)) == (exchange.status, source)

    check_all([exchange for exchange in exchanges if exchange.status != 200], check)


def test_the_client_reads_what_is_written(exchanges: list[Exchange]) -> None:
    """The official client's types find no fault with what is written anew that is not in what was recorded."""
    frame_type: TypeAdapter[Any] = TypeAdapter(
        anthropic.types.beta.beta_raw_message_stream_event.BetaRawMessageStreamEvent
    )

    def check(exchange: Exchange) -> None:
        request, told = request_of(exchange), decoded(exchange)
        if is_stream(exchange):
            written = laws.frames(laws.encoded(CODEC, request, unfold(told)))
            read = [frame for frame in laws.frames(exchange.content) if frame["type"] != "ping"]
            assert {*faults(frame_type, written)} <= {*faults(frame_type, read)}
        else:
            message_type = TypeAdapter(anthropic.types.beta.BetaMessage)
            written = json.decode(CODEC.encode_response(told))
            assert faults(message_type, [written]) == faults(message_type, [json.decode(exchange.content)])

    check_all([e for stream in (True, False) for e in answered(exchanges, stream=stream)], check)


def faults(type: TypeAdapter[Any], values: list[Any]) -> list[tuple[Any, ...]]:
    """Return where and why *values* are not of a type of the official client."""
    found: list[tuple[Any, ...]] = []
    for value in values:
        try:
            type.validate_python(value)
        except ValidationError as error:
            found += [(*fault["loc"], fault["type"]) for fault in error.errors()]
    return found
