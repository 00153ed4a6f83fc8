"""The four laws, for Ollama's own API, over generated requests, answers and streams."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.completion import Completion
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.events import fold, unfold
from antiphon.types import ChatRequest
from antiphon.wire import json
from antiphon.wire.ollama import Ollama
from tests.wire import laws
from tests.wire.ollama_values import body, completions, frames, json_answers, json_requests, json_streams, requests

CODEC = Ollama()
few = settings(max_examples=50)
REQUEST = ChatRequest("llama", (), stream=True)
NDJSON = "application/x-ndjson"


@few
@given(completions(), laws.cuts)
def test_events_survive_writing_and_reading(completion: Completion, cuts: list[int]) -> None:
    """Law 1: the events of an answer make the same answer after they were streamed, split anywhere."""
    laws.check_events(CODEC, REQUEST, [*unfold(completion)], cuts)


@few
@given(completions())
def test_a_whole_answer_survives_writing_and_reading(completion: Completion) -> None:
    """Law 1, for whole answers: nothing is lost and nothing is added."""
    laws.check_answer(CODEC, REQUEST, completion)


@few
@given(completions())
def test_folding_undoes_unfolding(completion: Completion) -> None:
    """Law 2: an answer taken apart and put together is the same."""
    laws.check_folding(completion)


@few
@given(requests())
def test_a_request_survives_writing_and_reading(request: ChatRequest) -> None:
    """Law 3: a request that can be said here is the same after it was written and read, and loses nothing."""
    laws.check_request(CODEC, request)


@few
@given(json_requests)
def test_a_request_is_given_back_as_it_was(source: dict[str, Any]) -> None:
    """Law 4: any request is written as it was read, unknown fields, nulls and short forms included; and so again."""
    laws.check_request_json(CODEC, source)
    request = CODEC.decode_request(json.encode(source))
    assert request == CODEC.decode_request(CODEC.encode_request(request).body)


@few
@given(json_answers)
def test_an_answer_is_given_back_as_it_was(source: dict[str, Any]) -> None:
    """Law 4: any whole answer is written as it was read."""
    laws.check_answer_json(CODEC, REQUEST, source)


@few
@given(json_streams, laws.cuts)
def test_a_stream_is_given_back_as_it_was(lines: list[dict[str, Any]], cuts: list[int]) -> None:
    """Laws 1, 2 and 4: every line of a stream is written as it was read, wherever the bytes are split."""
    events = laws.decoded(CODEC, REQUEST, [body(lines)], NDJSON)
    assert events == laws.decoded(CODEC, REQUEST, laws.pieces(body(lines), cuts), NDJSON)
    laws.check_same(lines, frames(laws.encoded(CODEC, REQUEST, events)))
    laws.check_folding(fold(events))


@few
@given(json_streams)
def test_an_answer_survives_without_its_lines(lines: list[dict[str, Any]]) -> None:
    """Law 1: what a stream said survives without the memory of how its lines were written."""
    told = fold(laws.decoded(CODEC, REQUEST, [body(lines)], NDJSON))
    again = fold(laws.decoded(CODEC, REQUEST, [laws.encoded(CODEC, REQUEST, unfold(told))], NDJSON))
    assert (told.model or REQUEST.model, told.created) == (again.model, again.created)
    assert (told.usage, told.extra) == (again.usage, again.extra)
    assert without_ids(told) == without_ids(again)


def without_ids(completion: Completion) -> Any:
    """Return the choice of *completion*, with the arguments of its calls as objects."""
    written = json.decode(CODEC.encode_response(msgspec.structs.replace(completion, form=None)))
    return written["message"], written.get("done_reason")


@few
@given(json_answers)
def test_the_buckets_add_up_to_what_is_counted(source: dict[str, Any]) -> None:
    """The buckets of a usage are disjoint, and their sums are the two counts."""
    usage = fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON)).usage
    told = (source.get("prompt_eval_count"), source.get("eval_count"))
    assert told == ((usage.prompt_tokens, usage.completion_tokens) if usage else (None, None))


@few
@given(st.binary(max_size=200), st.sampled_from([NDJSON, laws.JSON, laws.SSE, "text/html"]))
def test_garbage_is_an_error_and_nothing_else(data: bytes, content_type: str) -> None:
    """Whatever bytes come where an answer should be, the decoder ends in an answer or in an error of its own."""
    outcome(data, content_type)


def outcome(data: bytes, content_type: str = NDJSON) -> type[APIError] | None:
    """Return the class of the error that reading *data* and writing it again ends in, or `None`: it is an answer."""
    decoder, encoder = CODEC.decoder(REQUEST, content_type), CODEC.encoder(REQUEST)
    try:
        for event in [*decoder.feed(data), *decoder.close()]:
            b"".join(encoder.feed(event))
    except APIError as error:
        return type(error)
    return None


_ANSWER: list[Any] = [
    {"model": "llama", "message": {"role": "assistant", "content": "Hi."}, "done": False},
    {"model": "llama", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
]


def test_what_is_no_garbage_is_an_answer() -> None:
    """The tests with garbage would see an answer, and see its end missing."""
    assert outcome(body(_ANSWER)) is None
    for length in range(len(_ANSWER)):
        assert outcome(body(_ANSWER[:length])) is StreamError


_KEYS = st.sampled_from(
    ["message", "done", "content", "role", "tool_calls", "function", "images", "logprobs", "options"]
)
_ODD = st.recursive(
    laws.json_values | st.sampled_from(["assistant", "tool", "json"]),
    lambda inner: st.dictionaries(_KEYS, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@few
@given(st.lists(_ODD, max_size=4))
def test_garbage_lines_are_an_error_and_nothing_else(lines: list[Any]) -> None:
    """Lines of any shape end in an answer or in a `StreamError`; what can be read of them can be written."""
    assert outcome(body(lines)) in (None, StreamError)


_ODD_MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"])},
    optional=dict.fromkeys(("content", "images", "tool_calls", "thinking", "tool_name"), _ODD),
)


@few
@given(
    _ODD
    | st.fixed_dictionaries(
        {"model": laws.names, "messages": st.lists(_ODD_MESSAGE, max_size=2)},
        optional=dict.fromkeys(("tools", "options", "format", "think", "stream"), _ODD),
    )
)
def test_a_garbage_request_is_refused_with_its_path(source: Any) -> None:
    """A request of any shape is read, or refused with the path of the fault."""
    assert (refusal(json.encode(source)) or "$").startswith("$")


def refusal(data: bytes) -> str | None:
    """Return the path for which a request is refused, or `None` where it is read."""
    try:
        CODEC.decode_request(data)
    except BadRequestError as error:
        return error.param or "no path at all"
    return None
