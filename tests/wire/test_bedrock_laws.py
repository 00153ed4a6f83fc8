"""The four laws, for Bedrock Converse, over generated requests, answers and streams."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.completion import Completion
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.events import fold, unfold
from antiphon.types import ChatRequest
from antiphon.wire import frames, json
from antiphon.wire.bedrock import Bedrock
from tests.wire import laws
from tests.wire.bedrock_values import MODELS, completions, json_answers, json_requests, json_streams, requests

CODEC = Bedrock()
MODEL = MODELS[0]
REQUEST = ChatRequest(MODEL, (), stream=True)
STREAM = frames.CONTENT_TYPE

few = settings(max_examples=30)


def body(named: list[tuple[str, dict[str, Any]]]) -> bytes:
    """Return the frames as the API sends them."""
    return b"".join(
        frames.encode(frames.encode_headers({**_EVENT, ":event-type": name}), json.encode(frame))
        for name, frame in named
    )


_EVENT = {":event-type": "", ":content-type": "application/json", ":message-type": "event"}


def split(data: bytes) -> list[Any]:
    """Return names and JSON of the frames."""
    return [[headers[":event-type"], json.decode(payload)] for headers, payload in frames.FrameDecoder().feed(data)]


def without_form(value: Any) -> Any:
    """Return *value* without the memory of how it was written."""
    if isinstance(value, msgspec.Struct):
        fields = {key: without_form(getattr(value, key)) for key in value.__struct_fields__ if key != "form"}
        return type(value)(**fields)
    return tuple(map(without_form, value)) if isinstance(value, tuple) else value


@few
@given(completions(MODEL), laws.cuts)
def test_events_survive_writing_and_reading(completion: Completion, cuts: list[int]) -> None:
    """Law 1: the events of an answer make the same answer after they were streamed, split anywhere."""
    laws.check_events(CODEC, REQUEST, [*unfold(completion)], cuts)


@few
@given(json_streams())
def test_events_survive_without_their_frames(named: list[tuple[str, dict[str, Any]]]) -> None:
    """Law 1: what a stream said survives without the memory of how its frames were written."""
    told = fold(laws.decoded(CODEC, REQUEST, [body(named)], STREAM))
    again = fold(laws.decoded(CODEC, REQUEST, [laws.encoded(CODEC, REQUEST, unfold(told))], STREAM))
    assert (told.choices, told.extra) == (again.choices, again.extra)


@few
@given(completions(MODEL))
def test_a_whole_answer_survives_writing_and_reading(completion: Completion) -> None:
    """Law 1 for whole answers: one that can be said here is the same after it was written and read."""
    again = fold(laws.decoded(CODEC, REQUEST, [CODEC.encode_response(completion)], laws.JSON))
    assert without_form(completion) == without_form(again)


@few
@given(completions(MODEL))
def test_folding_undoes_unfolding(completion: Completion) -> None:
    """Law 2: an answer taken apart and put together is the same."""
    laws.check_folding(completion)


@few
@given(requests())
def test_a_request_survives_writing_and_reading(request: ChatRequest) -> None:
    """Law 3: a request that can be said here is the same after it was written and read, and loses nothing."""
    laws.check_request(CODEC, request)


@few
@given(json_requests, st.sampled_from(MODELS))
def test_a_request_is_given_back_as_it_was(source: dict[str, Any], model: str) -> None:
    """Law 4: any request is written as it was read, and reading that again tells the same."""
    path = f"/model/{model}/converse"
    request = CODEC.decode_request(json.encode(source), path)
    written = CODEC.encode_request(request)
    laws.check_same(source, json.decode(written.body))
    assert request == CODEC.decode_request(written.body, written.path)


@few
@given(json_answers)
def test_an_answer_is_given_back_as_it_was(source: dict[str, Any]) -> None:
    """Law 4: any whole answer is written as it was read."""
    laws.check_answer_json(CODEC, REQUEST, source)


@few
@given(json_streams())
def test_a_stream_is_given_back_as_it_was(named: list[tuple[str, dict[str, Any]]]) -> None:
    """Law 4: every frame of a stream is written as it was read, padding and unknown events included."""
    data = body(named)
    events = laws.decoded(CODEC, REQUEST, [data], STREAM)
    laws.check_same(split(data), split(laws.encoded(CODEC, REQUEST, events)))
    laws.check_folding(fold(events))


@few
@given(json_streams(), laws.cuts)
def test_a_stream_may_be_split_anywhere(named: list[tuple[str, dict[str, Any]]], cuts: list[int]) -> None:
    """Law 1, for the bytes: where reads end makes no difference."""
    data = body(named)
    assert laws.decoded(CODEC, REQUEST, [data]) == laws.decoded(CODEC, REQUEST, laws.pieces(data, cuts))


@few
@given(json_answers)
def test_the_buckets_add_up_to_what_is_billed(source: dict[str, Any]) -> None:
    """The buckets of a usage are disjoint, and their sum is the sum of the counts that are billed."""
    usage = fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON)).usage
    told = source["usage"]
    billed = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "outputTokens")
    assert usage is not None
    assert sum(told.get(key) or 0 for key in billed) == usage.total_tokens


@few
@given(st.binary(max_size=200), st.sampled_from([STREAM, laws.JSON, "text/html"]))
def test_garbage_is_an_error_and_nothing_else(data: bytes, content_type: str) -> None:
    """Whatever bytes come where an answer should be, the decoder ends in an answer or in an error of its own."""
    outcome(data, content_type)


def outcome(data: bytes, content_type: str = STREAM) -> type[APIError] | None:
    """Return the class of the error that reading *data* and writing it again ends in, or `None`: it is an answer."""
    decoder, encoder = CODEC.decoder(REQUEST, content_type), CODEC.encoder(REQUEST)
    try:
        for event in [*decoder.feed(data), *decoder.close()]:
            b"".join(encoder.feed(event))
    except APIError as error:
        return type(error)
    return None


_ANSWER: list[Any] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi."}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
]


def test_what_is_no_garbage_is_an_answer() -> None:
    """The tests with garbage would see an answer, and see its end missing."""
    assert outcome(body(_ANSWER)) is None
    for length in range(len(_ANSWER)):
        assert outcome(body(_ANSWER[:length])) is StreamError


_NAMES = st.sampled_from(
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "x"]
)
_FIELDS = st.sampled_from(["role", "start", "delta", "contentBlockIndex", "stopReason", "usage", "p"])
_KEYS = st.sampled_from(["toolUse", "text", "reasoningContent", "input", "redactedContent", "citation", "toolResult"])
_ODD = st.recursive(
    laws.scalars, lambda inner: st.dictionaries(_KEYS, inner) | st.lists(inner, max_size=2), max_leaves=6
)
_FRAME = st.dictionaries(_FIELDS, _ODD | st.integers(0, 2) | st.just("assistant"), max_size=4)


@few
@given(st.lists(st.tuples(_NAMES, _FRAME), max_size=5))
def test_garbage_frames_are_an_error_and_nothing_else(named: list[tuple[str, dict[str, Any]]]) -> None:
    """Frames of any shape end in an answer or in a `StreamError`; what can be read of them can be written."""
    assert outcome(body(named)) in (None, StreamError)


_WORDS = st.sampled_from(["role", "content", "text", "source", "input", "toolUse", "toolResult", "image", "format"])
_SHAPES = st.recursive(
    laws.scalars | st.sampled_from(["user", "assistant", "png"]),
    lambda inner: st.dictionaries(_WORDS, inner, max_size=2) | st.lists(inner, max_size=2),
    max_leaves=8,
)
_TOP = ("messages", "system", "toolConfig", "inferenceConfig", "outputConfig", "additionalModelRequestFields")


@few
@given(st.dictionaries(st.sampled_from(_TOP), _SHAPES) | _SHAPES)
def test_a_garbage_request_is_refused_with_its_path(source: Any) -> None:
    """A request of any shape is read, or refused with the path of the fault."""
    assert (refusal(source) or "$").startswith("$")


def refusal(source: Any) -> str | None:
    """Return the path for which a request is refused, or `None` where it is read."""
    try:
        CODEC.decode_request(json.encode(source), "/model/us.anthropic.x/converse")
    except BadRequestError as error:
        return error.param or "no path at all"
    return None
