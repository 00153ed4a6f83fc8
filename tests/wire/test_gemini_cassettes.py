"""The laws on every recorded exchange of Google's two hosts that is a chat. None is excepted from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold, unfold
from antiphon.chat.requests import ChatRequest
from antiphon.errors import BadRequestError, NotFoundError
from antiphon.formats import json
from antiphon.formats.gemini import Gemini
from tests import recordings
from tests.recordings import Exchange
from tests.vendors import genai
from tests.wire import laws

CODEC = Gemini()
WHOLE, STREAM, COUNT = "generateContent", "streamGenerateContent", "countTokens"
OTHERS = {"embedContent", "batchEmbedContents", ""}
"""What is recorded besides chats: embeddings, and cached contents and stores of files, whose paths name no action."""


@pytest.fixture(scope="module")
def exchanges(cassettes: Path) -> list[Exchange]:
    """Every recorded exchange of the two hosts."""
    found = [
        exchange
        for host in ("generativelanguage", "aiplatform")
        for exchange in recordings.exchanges(f"{host}.googleapis.com/*.json")
    ]
    assert found
    return found


def action(exchange: Exchange) -> str:
    """Return what is asked of a model."""
    return urlsplit(exchange.url).path.rpartition("/")[2].partition(":")[2]


def chats(exchanges: list[Exchange]) -> list[Exchange]:
    """Return the requests to a chat model, those to count tokens among them."""
    return [exchange for exchange in exchanges if action(exchange) in (WHOLE, STREAM, COUNT)]


def answered(exchanges: list[Exchange], *actions: str) -> list[Exchange]:
    """Return those with an answer, whole or streamed."""
    return [e for e in exchanges if action(e) in (actions or (WHOLE, STREAM)) and e.status == 200]


def request_of(exchange: Exchange) -> ChatRequest:
    """Return the request as this codec reads it."""
    return CODEC.decode_request(json.encode(exchange.request), exchange.url)


def decoded(exchange: Exchange) -> Completion:
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
    """What is recorded of the hosts is chats, whole and streamed, counts of tokens, and known things besides."""
    found = Counter(map(action, exchanges))
    assert found.keys() == {WHOLE, STREAM, COUNT} | OTHERS


def test_requests(exchanges: list[Exchange]) -> None:
    """Every request, also one to count tokens, is the same JSON after it was read and written, and loses nothing."""

    def check(exchange: Exchange) -> None:
        laws.check_request_json(CODEC, exchange.request)
        written = CODEC.encode_request(request_of(exchange))
        assert written.losses == ()
        assert CODEC.decode_request(written.body, exchange.url) == request_of(exchange)

    check_all(chats(exchanges), check)


def test_paths(exchanges: list[Exchange]) -> None:
    """The model and the action stand in the path as they were recorded."""

    def check(exchange: Exchange) -> None:
        base = urlsplit(exchange.url).path.partition("/models/")[0]
        path = Gemini(path=f"{base}/models").encode_request(request_of(exchange)).path
        assert exchange.url.endswith(path)

    check_all([e for e in chats(exchanges) if action(e) != COUNT], check)


def test_answers(exchanges: list[Exchange]) -> None:
    """Every whole answer is the same JSON after it was read and written, and survives being taken apart."""

    def check(exchange: Exchange) -> None:
        laws.check_answer_json(CODEC, request_of(exchange), json.decode(exchange.content))

    check_all(answered(exchanges, WHOLE), check)


def test_streams(exchanges: list[Exchange]) -> None:
    """Every frame of every stream is the same JSON after it was read and written; an array of them says the same."""

    def check(exchange: Exchange) -> None:
        request, body = request_of(exchange), exchange.content
        laws.check_stream_json(CODEC, request, body)
        array = json.encode(laws.frames(body))
        assert laws.decoded(CODEC, request, [array], laws.JSON) == laws.decoded(CODEC, request, [body])

    check_all(answered(exchanges, STREAM), check)


def test_answers_cross_into_streams(exchanges: list[Exchange]) -> None:
    """Every answer is the same after it was written anew as a stream, without the memory of how it was written."""

    def check(exchange: Exchange) -> None:
        told = decoded(exchange)
        again = fold(
            laws.decoded(CODEC, request_of(exchange), [laws.encoded(CODEC, request_of(exchange), unfold(told))])
        )
        one, other = told.choices[0], again.choices[0]
        assert [told.id, told.model, told.extra, told.created] == [again.id, again.model, again.extra, again.created]
        assert [one.finish_reason, one.native_finish_reason] == [other.finish_reason, other.native_finish_reason]
        assert [one.message.content or "", one.message.tool_calls] == [
            other.message.content or "", other.message.tool_calls
        ]  # fmt: skip

    check_all(answered(exchanges), check)


def test_an_answer_goes_back_as_it_came(exchanges: list[Exchange]) -> None:
    """A recorded answer, put into the next request as a message, is the content that the API sent, part for part."""

    def check(exchange: Exchange) -> None:
        source = json.decode(exchange.content)["candidates"][0].get("content")
        written = CODEC.encode_request(ChatRequest("gemini", (decoded(exchange).choices[0].message,)))
        laws.check_same([source] if source else [], json.decode(written.body)["contents"])

    check_all(answered(exchanges, WHOLE), check)


def test_signatures_of_a_stream_go_back(exchanges: list[Exchange]) -> None:
    """Every signature of a stream goes back in the next request, beside what it came beside."""

    def signed(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [part for part in parts if "thoughtSignature" in part]

    def check(exchange: Exchange) -> None:
        frames = laws.frames(exchange.content)
        parts = [part for frame in frames for part in frame["candidates"][0]["content"]["parts"]]
        written = CODEC.encode_request(ChatRequest("gemini", (decoded(exchange).choices[0].message,)))
        laws.check_same(signed(parts), signed(json.decode(written.body)["contents"][0]["parts"]))

    check_all(answered(exchanges, STREAM), check)


def test_usage_adds_up(exchanges: list[Exchange]) -> None:
    """The buckets of each answer add up to the total that was recorded; of a stream, to its last one."""

    def check(exchange: Exchange) -> None:
        whole = action(exchange) == WHOLE
        source = json.decode(exchange.content) if whole else laws.frames(exchange.content)[-1]
        usage, told = decoded(exchange).usage, source["usageMetadata"]
        assert usage is not None
        assert usage.total_tokens == told["totalTokenCount"]
        assert usage.output_reasoning == told.get("thoughtsTokenCount")
        assert usage.input_cache_read == told.get("cachedContentTokenCount")

    check_all(answered(exchanges), check)


def test_counts(exchanges: list[Exchange]) -> None:
    """A recorded count of tokens is read."""

    def check(exchange: Exchange) -> None:
        assert CODEC.decode_count(exchange.content) == json.decode(exchange.content)["totalTokens"]

    check_all([exchange for exchange in exchanges if action(exchange) == COUNT], check)


def test_errors(exchanges: list[Exchange]) -> None:
    """A recorded error is read into its class with the provider's words, and is given back as it was."""
    kinds = {400: BadRequestError, 404: NotFoundError}

    def check(exchange: Exchange) -> None:
        source = json.decode(exchange.content)
        error = CODEC.decode_error(exchange.status, {}, exchange.content)
        assert type(error) is kinds[exchange.status]
        assert source["error"]["message"] in str(error)
        assert error.type == source["error"]["status"]
        reply = CODEC.encode_error(error)
        assert (reply.status, json.decode(reply.body)) == (exchange.status, source)

    check_all([exchange for exchange in exchanges if exchange.status != 200], check)


def test_the_client_reads_what_is_written(exchanges: list[Exchange]) -> None:
    """The official client's types find no fault with what is written anew that is not in what was recorded."""

    def faults(values: list[Any]) -> set[Any]:
        found: set[Any] = set()
        for value in values:
            try:
                genai.types.GenerateContentResponse.model_validate(value)
            except ValidationError as error:
                found |= {(fault["loc"], fault["type"]) for fault in error.errors()}
        return found

    def check(exchange: Exchange) -> None:
        told = decoded(exchange)
        if action(exchange) == WHOLE:
            written, read = [json.decode(CODEC.encode_response(told))], [json.decode(exchange.content)]
        else:
            written = laws.frames(laws.encoded(CODEC, request_of(exchange), unfold(told)))
            read = laws.frames(exchange.content)
        assert faults(written) <= faults(read)

    check_all(answered(exchanges), check)
