"""The four laws, for Gemini, over generated requests, answers and streams."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.completion import Completion
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.events import fold, unfold
from antiphon.types import ChatRequest
from antiphon.wire import json, sse
from antiphon.wire.gemini import Gemini
from tests.wire import laws
from tests.wire.gemini_values import completions, json_answers, json_requests, json_streams, requests

CODEC = Gemini()
REQUEST = ChatRequest("gemini", (), stream=True)
FEWER = settings(max_examples=50)
"""For what takes long to make."""


def body(frames: list[dict[str, Any]]) -> bytes:
    """Return the frames as the API sends them, with its line ends."""
    return b"".join(sse.encode(json.encode(frame)).replace(b"\n", b"\r\n") for frame in frames)


def array(frames: list[dict[str, Any]]) -> bytes:
    """Return the frames as the API sends them where nobody asked for server-sent events."""
    return b"[" + b",\r\n".join(map(json.encode, frames)) + b"]\n"


@given(completions(), laws.cuts)
def test_events_survive_writing_and_reading(completion: Completion, cuts: list[int]) -> None:
    """Law 1: the events of an answer make the same answer after they were streamed, split anywhere."""
    laws.check_events(CODEC, REQUEST, [*unfold(completion)], cuts)


@FEWER
@given(json_streams())
def test_events_survive_without_their_frames(frames: list[dict[str, Any]]) -> None:
    """Law 1: what a stream said survives without the memory of how its frames were written; empty texts say nothing."""
    told = fold(laws.decoded(CODEC, REQUEST, [body(frames)]))
    nameless = REQUEST.but(model="")
    again = fold(laws.decoded(CODEC, REQUEST, [laws.encoded(CODEC, nameless, unfold(told))]))
    one, other = told.choices[0], again.choices[0]
    assert (one.message.content or "", one.finish_reason) == (other.message.content or "", other.finish_reason)
    assert one.message.tool_calls == other.message.tool_calls
    assert (told.id, told.model, told.extra, one.extra) == (again.id, again.model, again.extra, other.extra)
    assert told.usage is not None
    assert again.usage is not None
    assert told.usage.total_tokens == again.usage.total_tokens


@given(completions())
def test_a_whole_answer_survives_writing_and_reading(completion: Completion) -> None:
    """Law 1, for whole answers: nothing is lost and nothing is added, but for the memory of how it was written."""
    again = fold(laws.decoded(CODEC, REQUEST, [CODEC.encode_response(completion)], laws.JSON))
    assert completion == msgspec.structs.replace(again, form=None)


@given(completions())
def test_folding_undoes_unfolding(completion: Completion) -> None:
    """Law 2: an answer taken apart and put together is the same."""
    laws.check_folding(completion)


@given(requests())
def test_a_request_survives_writing_and_reading(request: ChatRequest) -> None:
    """Law 3: a request that can be said here is the same after it was written and read, and loses nothing."""
    laws.check_request(CODEC, request)


@FEWER
@given(json_requests)
def test_a_request_is_given_back_as_it_was(source: dict[str, Any]) -> None:
    """Law 4: any request is written as it was read: unknown fields, nulls and either case of names included."""
    laws.check_request_json(CODEC, source)


@FEWER
@given(json_requests)
def test_reading_a_request_twice_tells_the_same(source: dict[str, Any]) -> None:
    """Law 3 for requests that were read: writing and reading them again changes nothing, not even their form."""
    request = CODEC.decode_request(json.encode(source))
    assert request == CODEC.decode_request(CODEC.encode_request(request).body)


@FEWER
@given(json_answers)
def test_an_answer_is_given_back_as_it_was(source: dict[str, Any]) -> None:
    """Law 4: any whole answer is written as it was read."""
    laws.check_answer_json(CODEC, REQUEST, source)


@FEWER
@given(json_streams())
def test_a_stream_is_given_back_as_it_was(frames: list[dict[str, Any]]) -> None:
    """Law 4: every frame of a stream is written as it was read."""
    laws.check_stream_json(CODEC, REQUEST, body(frames))


@FEWER
@given(json_streams(), laws.cuts)
def test_a_stream_may_be_split_anywhere(frames: list[dict[str, Any]], cuts: list[int]) -> None:
    """Law 1, for the bytes: where reads end makes no difference, and neither does the kind of stream."""
    told = laws.decoded(CODEC, REQUEST, [body(frames)])
    assert told == laws.decoded(CODEC, REQUEST, laws.pieces(body(frames), cuts))
    assert told == laws.decoded(CODEC, REQUEST, laws.pieces(array(frames), cuts), laws.JSON)


@given(json_answers)
def test_the_buckets_add_up_to_what_is_billed(source: dict[str, Any]) -> None:
    """The buckets of a usage are disjoint, and their sum is the sum of the counts that are billed."""
    usage = fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON)).usage
    told: Any = source.get("usageMetadata")
    assert (usage is None) is (told is None)
    if usage is not None:
        billed = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
        assert sum(told.get(key) or 0 for key in billed) == usage.total_tokens


@given(st.binary(max_size=200), st.sampled_from([b"", b"[", b"{", b"data: "]), st.sampled_from([laws.SSE, laws.JSON]))
def test_garbage_is_an_error_and_nothing_else(data: bytes, start: bytes, content_type: str) -> None:
    """Whatever bytes come where an answer should be, the decoder ends in an answer or in an error of its own."""
    try:
        laws.decoded(CODEC, REQUEST, [start, data], content_type)
    except APIError:
        pass


_KEYS = ["candidates", "content", "parts", "text", "functionCall", "args", "name", "finishReason", "usageMetadata"]
_MORE = [
    "groundingMetadata",
    "groundingChunks",
    "groundingSupports",
    "logprobsResult",
    "chosenCandidates",
    "partialArgs",
]
_ODD = st.recursive(
    laws.json_values | st.sampled_from(["STOP", "$.a[0]"]),
    lambda inner: st.dictionaries(st.sampled_from(_KEYS + _MORE), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
_ODD_PARTS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("text", "functionCall", "thought"), _ODD)))
_ODD_CANDIDATES = st.fixed_dictionaries(
    {"content": st.fixed_dictionaries({"parts": _ODD_PARTS})}, optional=dict.fromkeys(_MORE[:4:3] + _KEYS[7:8], _ODD)
)
_ODD_FRAMES = st.fixed_dictionaries({"candidates": st.lists(_ODD_CANDIDATES | _ODD, max_size=2)}) | st.dictionaries(
    st.sampled_from(_KEYS), _ODD, max_size=3
)


@FEWER
@given(st.lists(_ODD_FRAMES, max_size=4))
def test_garbage_frames_are_an_error_and_nothing_else(frames: list[dict[str, Any]]) -> None:
    """Frames of any shape end in an answer or in a `StreamError`; what can be read of them can be written."""
    decoder, encoder = CODEC.decoder(REQUEST, laws.SSE), CODEC.encoder(REQUEST)
    try:
        for event in [*decoder.feed(body(frames)), *decoder.close()]:
            b"".join(encoder.feed(event))
    except StreamError:
        pass


_ODD_CONTENTS = st.fixed_dictionaries({"parts": _ODD_PARTS | _ODD}, optional={"role": st.just("model") | _ODD})
_ODD_REQUESTS = st.fixed_dictionaries(
    {"contents": st.lists(_ODD_CONTENTS | _ODD, max_size=2)},
    optional=dict.fromkeys(("systemInstruction", "tools", "toolConfig", "generationConfig"), _ODD),
)


@FEWER
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
    deep = b'{"contents":[{"parts":[{"functionCall":{"name":"f","args":%s1%s}}]}]}'
    for depth in (300, 900):
        assert refusal(deep % (b'{"a":' * depth, b"}" * depth)) in (None, "$")
    assert refusal(deep % (b'{"a":' * 100_000, b"}" * 100_000)) == "$"
