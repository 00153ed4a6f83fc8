"""The four laws, for OpenAI Responses, over generated requests, answers and streams."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.completion import Completion
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.events import UnknownEvent, fold, unfold
from antiphon.types import ChatRequest
from antiphon.wire import json, sse
from antiphon.wire.responses import Responses
from tests.wire import laws
from tests.wire.responses_values import completions, json_answers, json_requests, json_streams, plain, requests

CODEC = Responses()
REQUEST = ChatRequest("m", (), stream=True)
FEW = settings(max_examples=50)
"""For values that take long to make."""


def body(frames: list[dict[str, Any]]) -> bytes:
    """Return the frames as the API sends them."""
    return b"".join(sse.encode(json.encode(frame), event=frame["type"]) for frame in frames)


@FEW
@given(completions(), laws.cuts)
def test_events_survive_writing_and_reading(completion: Completion, cuts: list[int]) -> None:
    """Law 1: the events of an answer make the same answer after they were streamed, split anywhere."""
    data = laws.encoded(CODEC, REQUEST, unfold(completion))
    assert completion == plain(fold(laws.decoded(CODEC, REQUEST, laws.pieces(data, cuts))))


@FEW
@given(completions())
def test_a_whole_answer_survives_writing_and_reading(completion: Completion) -> None:
    """Law 1, for whole answers: nothing is lost and nothing is added, but for the memory of how it was written."""
    assert completion == plain(fold(laws.decoded(CODEC, REQUEST, [CODEC.encode_response(completion)], laws.JSON)))


@FEW
@given(completions())
def test_a_stream_ends_with_the_whole_answer(completion: Completion) -> None:
    """What a stream's last frame holds, and the items before it, are the answer that is written in one piece."""
    frames = laws.frames(laws.encoded(CODEC, REQUEST, unfold(completion)))
    last = plain(fold(laws.decoded(CODEC, REQUEST, [json.encode(frames[-1]["response"])], laws.JSON)))
    assert completion == last
    done = [frame["item"] for frame in frames if frame["type"] == "response.output_item.done"]
    assert sorted(map(json.encode, done)) == sorted(map(json.encode, frames[-1]["response"]["output"]))


@FEW
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


@FEW
@given(json_streams())
def test_a_stream_is_given_back_as_it_was(frames: list[dict[str, Any]]) -> None:
    """Law 4: every frame of a stream is written as it was read, unknown events and padding included."""
    laws.check_stream_json(CODEC, REQUEST, body(frames))


@FEW
@given(json_streams())
def test_a_folded_stream_is_the_answer_of_its_last_frame(frames: list[dict[str, Any]]) -> None:
    """Law 4: what the events of a stream make is, written in one piece, what its last frame says."""
    told = fold(laws.decoded(CODEC, REQUEST, [body(frames)]))
    laws.check_same(frames[-1]["response"], json.decode(CODEC.encode_response(told)))


@FEW
@given(json_streams())
def test_fewer_frames_tell_the_same(frames: list[dict[str, Any]]) -> None:
    """A stream in which items are not announced and not told in pieces, or not told at all, makes the same answer."""
    whole = [frame for frame in frames if ".delta" not in frame["type"] and ".added" not in frame["type"]]
    told = plain(fold(laws.decoded(CODEC, REQUEST, [body(frames)])))
    assert told == plain(fold(laws.decoded(CODEC, REQUEST, [body(whole)])))
    assert told == plain(fold(laws.decoded(CODEC, REQUEST, [body([frames[-1]])])))


@FEW
@given(json_streams())
def test_events_without_their_frames_tell_the_same(frames: list[dict[str, Any]]) -> None:
    """A decoder that does not remember frames gives the same answer, and what must go back to the provider too."""
    events = laws.decoded(Responses(exact=False), REQUEST, [body(frames)])
    assert all(event.wire is None and not isinstance(event, UnknownEvent) for event in events)
    assert fold(laws.decoded(CODEC, REQUEST, [body(frames)])) == fold(events)


@FEW
@given(json_streams(), laws.cuts)
def test_a_stream_may_be_split_anywhere(frames: list[dict[str, Any]], cuts: list[int]) -> None:
    """Law 1, for the bytes: where reads end makes no difference."""
    data = body(frames)
    assert laws.decoded(CODEC, REQUEST, [data]) == laws.decoded(CODEC, REQUEST, laws.pieces(data, cuts))


@given(json_answers)
def test_the_buckets_add_up_to_what_is_billed(source: dict[str, Any]) -> None:
    """The buckets of a usage are disjoint and add up to the billed totals, where the parts are no more than those."""
    usage = fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON)).usage
    told = source.get("usage")
    if told is None:
        assert usage is None
        return
    details = told.get("input_tokens_details") or {}
    parts = (details.get("cached_tokens") or 0) + (details.get("cache_write_tokens") or 0)
    assert usage is not None
    assert usage.prompt_tokens == max(told["input_tokens"], parts)
    assert usage.completion_tokens == told["output_tokens"]


@given(st.binary(max_size=200), st.sampled_from([laws.SSE, laws.JSON, "text/html"]))
def test_garbage_is_an_error_and_nothing_else(data: bytes, content_type: str) -> None:
    """Whatever bytes come where an answer should be, the decoder ends in an answer or in an error of its own."""
    try:
        laws.decoded(CODEC, REQUEST, [data], content_type)
    except APIError:
        pass


_KINDS = st.sampled_from(
    "created output_item.added output_item.done content_part.added output_text.delta refusal.delta x completed "
    "function_call_arguments.delta reasoning_summary_part.added incomplete".split()
).map("response.{}".format)
_ODD_ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call", "x"])},
    optional=dict.fromkeys(
        ("role", "content", "summary", "call_id", "name", "arguments", "input", "id"),
        laws.json_values | st.sampled_from(["assistant", [{"type": "output_text"}], [{"type": []}]]),
    ),
)
_ODD_ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "status": laws.scalars | st.just("completed"),
        "output": st.lists(_ODD_ITEMS | laws.json_values, max_size=2) | laws.json_values,
        "usage": laws.json_values,
        "incomplete_details": laws.json_values,
    },
)
_BROKEN = st.fixed_dictionaries(
    {"type": _KINDS},
    optional={
        "output_index": laws.json_values,
        "content_index": laws.json_values,
        "item_id": laws.json_values,
        "delta": laws.json_values,
        "logprobs": laws.json_values,
        "item": _ODD_ITEMS | laws.json_values,
        "part": laws.json_values | st.just({"type": "output_text"}),
        "response": _ODD_ANSWERS | laws.json_values,
    },
)


@given(st.lists(_BROKEN, max_size=5))
def test_garbage_frames_are_an_error_and_nothing_else(frames: list[dict[str, Any]]) -> None:
    """Frames of any shape end in an answer or in a `StreamError`; what can be read of them can be written."""
    decoder, encoder = CODEC.decoder(REQUEST, laws.SSE), CODEC.encoder(REQUEST)
    try:
        for event in [*decoder.feed(body(frames)), *decoder.close()]:
            b"".join(encoder.feed(event))
    except StreamError:
        pass


_KEYS = st.sampled_from(["role", "content", "type", "text", "output", "call_id", "name", "summary", "format", "effort"])
_WORDS = laws.json_values | st.sampled_from(["user", "assistant", "message", "input_text", "output_text", "input_file"])
_ODD = st.recursive(_WORDS, lambda inner: st.dictionaries(_KEYS, inner) | st.lists(inner, max_size=2), max_leaves=8)
_ODD_REQUESTS = st.fixed_dictionaries(
    {"model": laws.names, "input": st.lists(_ODD_ITEMS | _ODD, max_size=2)},
    optional=dict.fromkeys(("instructions", "tools", "tool_choice", "text", "reasoning", "include"), _ODD),
)


@given(_ODD | _ODD_REQUESTS)
def test_a_garbage_request_is_refused_with_its_path(source: Any) -> None:
    """A request of any shape is read and given back as it was, or refused with the path of the fault."""
    path, request = "", None
    try:
        request = CODEC.decode_request(json.encode(source))
    except BadRequestError as error:
        path = error.param or "no path at all"
    if request is None:
        assert path.startswith("$")
    else:
        laws.check_same(source, json.decode(CODEC.encode_request(request).body))
