"""The four laws, for Anthropic Messages, over generated requests, answers and streams."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from antiphon.completion import Completion
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.events import fold, unfold
from antiphon.types import ChatRequest
from antiphon.wire import json, sse
from antiphon.wire.anthropic import Anthropic
from tests.wire import laws
from tests.wire.anthropic_values import completions, json_answers, json_requests, json_streams, requests

CODEC = Anthropic()
REQUEST = ChatRequest("claude", (), stream=True)


def body(frames: list[dict[str, Any]]) -> bytes:
    """Return the frames as the API sends them, padding included."""
    return b"".join(sse.encode(json.encode(frame) + b"   ", event=frame["type"]) for frame in frames)


@given(completions(), laws.cuts)
def test_events_survive_writing_and_reading(completion: Completion, cuts: list[int]) -> None:
    """Law 1: the events of an answer make the same answer after they were streamed, split anywhere."""
    laws.check_events(CODEC, REQUEST, [*unfold(completion)], cuts)


@given(json_streams())
def test_events_survive_without_their_frames(frames: list[dict[str, Any]]) -> None:
    """Law 1: what a stream said survives without the memory of how its frames were written."""
    told = fold(laws.decoded(CODEC, REQUEST, [body(frames)]))
    again = fold(laws.decoded(CODEC, REQUEST, [laws.encoded(CODEC, REQUEST, unfold(told))]))
    assert told.choices == again.choices
    assert told.extra == again.extra
    assert told.usage is not None
    assert again.usage is not None
    assert told.usage.total_tokens == again.usage.total_tokens


@given(completions())
def test_a_whole_answer_survives_writing_and_reading(completion: Completion) -> None:
    """Law 1, for whole answers: nothing is lost and nothing is added, but for the memory of how it was written."""
    again = fold(laws.decoded(CODEC, REQUEST, [CODEC.encode_response(completion)], laws.JSON))
    choice = again.choices[0]
    message = msgspec.structs.replace(choice.message, form=None)
    assert completion == msgspec.structs.replace(again, choices=(msgspec.structs.replace(choice, message=message),))


@given(completions())
def test_folding_undoes_unfolding(completion: Completion) -> None:
    """Law 2: an answer taken apart and put together is the same."""
    laws.check_folding(completion)


@given(requests())
def test_a_request_survives_writing_and_reading(request: ChatRequest) -> None:
    """Law 3: a request that can be said here is the same after it was written and read, and loses nothing."""
    laws.check_request(CODEC, request)


@given(json_requests)
def test_a_request_is_given_back_as_it_was(source: dict[str, Any]) -> None:
    """Law 4: any request is written as it was read, unknown fields, nulls and short forms included."""
    laws.check_request_json(CODEC, source)


@given(json_requests)
def test_reading_a_request_twice_tells_the_same(source: dict[str, Any]) -> None:
    """Law 3 for requests that were read: writing and reading them again changes nothing, not even their form."""
    request = CODEC.decode_request(json.encode(source))
    assert request == CODEC.decode_request(CODEC.encode_request(request).body)


@given(json_answers)
def test_an_answer_is_given_back_as_it_was(source: dict[str, Any]) -> None:
    """Law 4: any whole answer is written as it was read."""
    laws.check_answer_json(CODEC, REQUEST, source)


@given(json_streams())
def test_a_stream_is_given_back_as_it_was(frames: list[dict[str, Any]]) -> None:
    """Law 4: every frame of a stream is written as it was read, pings and unknown events included."""
    laws.check_stream_json(CODEC, REQUEST, body(frames))


@given(json_streams(), laws.cuts)
def test_a_stream_may_be_split_anywhere(frames: list[dict[str, Any]], cuts: list[int]) -> None:
    """Law 1, for the bytes: where reads end makes no difference."""
    data = body(frames)
    assert laws.decoded(CODEC, REQUEST, [data]) == laws.decoded(CODEC, REQUEST, laws.pieces(data, cuts))


@given(json_answers)
def test_the_buckets_add_up_to_what_is_billed(source: dict[str, Any]) -> None:
    """The buckets of a usage are disjoint, and their sum is the sum of the counts that are billed."""
    usage = fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON)).usage
    told = source["usage"]
    billed = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    assert usage is not None
    assert sum(told.get(key) or 0 for key in billed) == usage.total_tokens
    assert told["output_tokens"] == usage.completion_tokens


@given(st.binary(max_size=200), st.sampled_from([laws.SSE, laws.JSON, "text/html"]))
def test_garbage_is_an_error_and_nothing_else(data: bytes, content_type: str) -> None:
    """Whatever bytes come where an answer should be, the decoder ends in an answer or in an error of its own."""
    try:
        laws.decoded(CODEC, REQUEST, [data], content_type)
    except APIError:
        pass


_FIELDS = st.sampled_from(["type", "index", "delta", "message", "content_block", "usage", "error"])
_KINDS = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "x"]
_GARBAGE = st.dictionaries(_FIELDS, laws.json_values | st.sampled_from(_KINDS), max_size=4)


_BROKEN = st.fixed_dictionaries(
    {"type": st.sampled_from(_KINDS)},
    optional={
        "index": laws.scalars,
        "delta": laws.json_values,
        "message": laws.json_values,
        "content_block": laws.json_values,
        "usage": laws.json_values,
    },
)


@given(st.lists(_GARBAGE | _BROKEN, max_size=5))
def test_garbage_frames_are_an_error_and_nothing_else(frames: list[dict[str, Any]]) -> None:
    """Frames of any shape end in an answer or in a `StreamError`; what can be read of them can be written."""
    data = b"".join(sse.encode(json.encode(frame), event="x") for frame in frames)
    decoder, encoder = CODEC.decoder(REQUEST, laws.SSE), CODEC.encoder(REQUEST)
    try:
        for event in [*decoder.feed(data), *decoder.close()]:
            b"".join(encoder.feed(event))
    except StreamError:
        pass


_KEYS = st.sampled_from(["role", "content", "type", "text", "source", "input", "name", "id", "citations", "thinking"])
_WORDS = laws.json_values | st.sampled_from(["user", "assistant", "text", "image", "document", "tool_use", "url"])
_ODD = st.recursive(_WORDS, lambda inner: st.dictionaries(_KEYS, inner) | st.lists(inner, max_size=2), max_leaves=8)
_ODD_MESSAGES = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.lists(_ODD)})
_ODD_REQUESTS = st.fixed_dictionaries(
    {"model": laws.names, "messages": st.lists(_ODD_MESSAGES | _ODD, max_size=2)},
    optional=dict.fromkeys(("system", "tools", "tool_choice", "thinking", "output_config", "metadata"), _ODD),
)


@given(_ODD | _ODD_REQUESTS)
def test_a_garbage_request_is_refused_with_its_path(source: Any) -> None:
    """A request of any shape is read, or refused with the path of the fault."""
    assert (refusal(json.encode(source)) or "$").startswith("$")


def refusal(body: bytes) -> str | None:
    """Return the path for which a request is refused, or `None` where it is read."""
    try:
        CODEC.decode_request(body)
    except BadRequestError as error:
        return error.param or "no path at all"
    return None


def test_a_request_nested_too_deeply_is_refused() -> None:
    """Nesting beyond what the interpreter bears is the client's fault, not the server's."""
    call = b'{"type":"tool_use","id":"a","name":"b","input":%s1%s}'
    deep = b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[' + call + b"]}]}"
    for depth in (300, 900):
        assert refusal(deep % (b'{"a":' * depth, b"}" * depth)) in (None, "$")
    assert refusal(deep % (b'{"a":' * 100_000, b"}" * 100_000)) == "$"
