"""The laws on every recorded chat of api.cohere.com. None is excepted from them; none of them is streamed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold, unfold
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.formats import json
from antiphon.formats.cohere import Cohere
from tests import recordings
from tests.recordings import Exchange
from tests.wire import laws

CODEC = Cohere()


@pytest.fixture(scope="module")
def exchanges(cassettes: Path) -> list[Exchange]:
    """Every recorded exchange of the host."""
    return recordings.exchanges("api.cohere.com/*.json")


@pytest.fixture(scope="module")
def chats(exchanges: list[Exchange]) -> list[Exchange]:
    """Every recorded chat."""
    return [exchange for exchange in exchanges if exchange.url.endswith(CODEC.path)]


def check_all(exchanges: list[Exchange], check: Callable[[Exchange], object]) -> None:
    """Fail where *check* fails for any of *exchanges*, and say for which."""
    assert exchanges, "Nothing was looked at."
    for exchange in exchanges:
        try:
            check(exchange)
        except Exception as error:
            error.add_note(exchange.name)
            raise


def request_of(exchange: Exchange) -> ChatRequest:
    """Return the request as this codec reads it."""
    return CODEC.decode_request(json.encode(exchange.request))


def answer_of(exchange: Exchange) -> Completion:
    """Return the answer as this codec reads it."""
    return fold(laws.decoded(CODEC, request_of(exchange), [exchange.content], exchange.content_type or ""))


def test_every_recording_is_looked_at(exchanges: list[Exchange], chats: list[Exchange]) -> None:
    """What is recorded of the host is chats, embeddings and counts of tokens; every chat is whole and went well."""
    others = [exchange.url for exchange in exchanges if exchange not in chats]
    assert sorted(others) == ["/v1/tokenize", "/v2/embed", "/v2/embed"]
    assert {(exchange.status, exchange.content_type) for exchange in chats} == {(200, "application/json")}


def test_requests(chats: list[Exchange]) -> None:
    """Every request is the same JSON after it was read and written, and loses nothing."""

    def check(exchange: Exchange) -> None:
        laws.check_request_json(CODEC, exchange.request)
        laws.check_request(CODEC, request_of(exchange))

    check_all(chats, check)


def test_answers(chats: list[Exchange]) -> None:
    """Every answer is the same JSON after it was read and written, by way of events."""
    check_all(
        chats, lambda exchange: laws.check_answer_json(CODEC, request_of(exchange), json.decode(exchange.content))
    )


def test_answers_survive_as_streams(chats: list[Exchange]) -> None:
    """Every answer says the same after it was streamed, but for how it was written."""

    def check(exchange: Exchange) -> None:
        told = answer_of(exchange)
        body = laws.encoded(CODEC, request_of(exchange), unfold(told))
        again = fold(laws.decoded(CODEC, request_of(exchange), [body]))
        assert again.usage is not None
        assert told.usage is not None
        assert told.choices[0].message.parts == again.choices[0].message.parts
        assert (told.id, told.usage.total_tokens) == (again.id, again.usage.total_tokens)

    check_all(chats, check)


def test_an_answer_goes_back_as_it_came(chats: list[Exchange]) -> None:
    """A recorded answer, put into the next request, is what the API sent, but for a lone text, which is a string."""

    def check(exchange: Exchange) -> None:
        told = json.decode(exchange.content)["message"]
        if [block["type"] for block in told.get("content", ())] == ["text"]:
            told["content"] = told["content"][0]["text"]
        message = Message("assistant", answer_of(exchange).choices[0].message.parts)
        (written,) = json.decode(CODEC.encode_request(ChatRequest("m", (message,))).body)["messages"]
        for citation in written.get("citations", ()):
            del citation["content_index"]
        laws.check_same(told, written)

    check_all(chats, check)


def test_usage_adds_up(chats: list[Exchange]) -> None:
    """The buckets of each answer add up to what was billed."""

    def check(exchange: Exchange) -> None:
        usage, billed = answer_of(exchange).usage, json.decode(exchange.content)["usage"]["billed_units"]
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (billed["input_tokens"], billed["output_tokens"])

    check_all(chats, check)
