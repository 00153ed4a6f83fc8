"""The four laws of codecs, for every format, over generated requests, answers and streams."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.events import Event, ReasoningDelta, Start, TextDelta, ToolCallDelta, UnknownEvent, fold, unfold
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.errors import APIError, BadRequestError, StreamError
from antiphon.formats import json
from antiphon.formats.responses import Responses
from tests.wire import formats, garbage, laws
from tests.wire.formats import FORMATS, GEMINI, RESPONSES, Format, unchanged, without_form


def each_format(*needed: str) -> pytest.MarkDecorator:
    """Run a test with every format, or with those that have all that is *needed*."""
    found = [form for form in FORMATS if all(getattr(form, name) is not None for name in needed)]
    return pytest.mark.parametrize("form", found, ids=lambda form: form.name)


KEEPING = [form for form in FORMATS if form.keeps]


def read(form: Format, *parts: bytes) -> list[Event]:
    """Return the events of a stream that comes in *parts*."""
    return laws.decoded(form.codec, form.request, parts, form.stream_type)


def read_whole(form: Format, data: bytes) -> Any:
    """Return an answer that came in one piece."""
    return fold(laws.decoded(form.codec, form.request, [data], laws.JSON))


def outcome(form: Format, *parts: bytes, content_type: str = "") -> type[APIError] | None:
    """Return the class of the error that reading a body and writing it again ends in, or `None`: it is an answer."""
    decoder = form.codec.decoder(form.request, content_type or form.stream_type)
    encoder = form.codec.encoder(form.request)
    try:
        for event in [*(event for part in parts for event in decoder.feed(part)), *decoder.close()]:
            b"".join(encoder.feed(event))
    except APIError as error:
        return type(error)
    return None


def refusal(form: Format, data: bytes, path: str = "") -> str | None:
    """Return the path for which a request is refused, or `None` where it is read."""
    try:
        form.codec.decode_request(data, path)
    except BadRequestError as error:
        return error.param or "no path at all"
    return None


def test_every_format_is_held_to_the_laws() -> None:
    """No format and none of its laws falls out of the table unseen."""
    assert [form.name for form in FORMATS] == [
        "anthropic",
        "bedrock",
        "cohere",
        "gemini",
        "ollama",
        "openai-chat",
        "openai-responses",
    ]
    assert {form.name for form in FORMATS if form.kept is None} == {"openai-chat", "openai-responses"}
    assert {form.name for form in FORMATS if form.keeps} == {"anthropic", "cohere", "ollama"}
    assert {form.name for form in FORMATS if form.billed is None} == {"openai-chat"}
    assert {form.name for form in FORMATS if form.garbage is None} == {"openai-chat"}


# Law 1: what is written and read again is the same


@each_format()
@given(data=st.data(), cuts=laws.cuts)
def test_events_survive_writing_and_reading(form: Format, data: st.DataObject, cuts: list[int]) -> None:
    """Law 1: the events of an answer make the same answer after they were streamed, split anywhere."""
    strategy = form.completions.map(lambda completion: [*unfold(completion)]) if form.events is None else form.events
    events = data.draw(strategy)
    body = laws.encoded(form.codec, form.request, events)
    assert fold(events) == form.streamed(fold(read(form, *laws.pieces(body, cuts))))


@each_format("kept")
@given(data=st.data())
def test_events_survive_without_their_frames(form: Format, data: st.DataObject) -> None:
    """Law 1: what a stream said survives without the memory of how its frames were written."""
    assert form.kept is not None
    told = fold(read(form, form.body(data.draw(form.json_streams))))
    written = form.rewritten or form.request
    again = fold(read(form, laws.encoded(form.codec, written, unfold(told))))
    named = told.model or written.model
    assert form.kept(msgspec.structs.replace(told, model=named)) == form.kept(again)


@each_format()
@given(data=st.data())
def test_a_whole_answer_survives_writing_and_reading(form: Format, data: st.DataObject) -> None:
    """Law 1, for whole answers: nothing is lost and nothing is added, but for the memory of how it was written."""
    completion = data.draw(form.completions)
    assert completion == form.whole(read_whole(form, form.codec.encode_response(completion)))


@each_format()
@given(data=st.data(), cuts=laws.cuts)
def test_a_stream_may_be_split_anywhere(form: Format, data: st.DataObject, cuts: list[int]) -> None:
    """Law 1, for the bytes: where reads end makes no difference."""
    body = form.body(data.draw(form.json_streams))
    assert read(form, body) == read(form, *laws.pieces(body, cuts))


# Law 2


@each_format()
@given(data=st.data())
def test_folding_undoes_unfolding(form: Format, data: st.DataObject) -> None:
    """Law 2: an answer taken apart and put together is the same."""
    laws.check_folding(data.draw(form.completions))


# Law 3


@each_format()
@given(data=st.data())
def test_a_request_survives_writing_and_reading(form: Format, data: st.DataObject) -> None:
    """Law 3: a request that can be said here is the same after it was written and read, and loses nothing."""
    laws.check_request(form.codec, data.draw(form.requests))


WORDS: dict[str, dict[str, Any]] = {
    "reasoning": {
        word: ReasoningOptions(effort=word) for word in ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    },
    "tool_choice": {"auto": "auto", "none": "none", "required": "required", "named": ToolName("look_up")},
    "service_tier": {word: word for word in ("auto", "default", "flex", "priority")},
    "response_format": {"text": ResponseFormat("text"), "json": ResponseFormat("json")},
}
SAME = {"auto": (None,), "text": (None,), "none": (ReasoningOptions(budget_tokens=0),)}
"""What says the same as a word: for a default, not to set it."""


@each_format()
@pytest.mark.parametrize(("name", "word"), [(name, word) for name, words in WORDS.items() for word in words])
def test_each_word_of_a_setting_is_kept_or_reported(form: Format, name: str, word: str) -> None:
    """Every word that a setting may have is read again as it was, or its loss is reported: none is left to chance."""
    value = WORDS[name][word]
    tools = (Tool("look_up", parameters={"type": "object", "properties": {}}),)
    request = ChatRequest(form.request.model, (Message.user("Hi."),), tools=tools, max_tokens=4000, **{name: value})
    written = form.codec.encode_request(request)
    read = form.codec.decode_request(written.body, written.path)
    again = without_form(getattr(read, name))
    lost = any(loss.path.startswith(f"$.{name}") for loss in written.losses)
    assert lost or again == value or again in SAME.get(word, ())
    assert not read.extra, "what was understood is not kept as unknown, too"


# The law without what was kept, which proves that every field is written


@pytest.mark.parametrize("form", KEEPING, ids=lambda form: form.name)
@given(data=st.data())
def test_a_request_survives_without_what_was_kept(form: Format, data: st.DataObject) -> None:
    """A request that was read, written in the canonical way and read again is the same, and loses nothing."""
    source = data.draw(form.json_requests if form.sayable_requests is None else form.sayable_requests)
    laws.check_request_again(form.codec, source, data.draw(form.paths), form.asked)


@pytest.mark.parametrize("form", KEEPING, ids=lambda form: form.name)
@given(data=st.data())
def test_an_answer_survives_without_what_was_kept(form: Format, data: st.DataObject) -> None:
    """A whole answer that was read, written in the canonical way and read again is the same."""
    laws.check_answer_again(form.codec, form.request, data.draw(form.json_answers), form.kept or unchanged)


@pytest.mark.parametrize("form", KEEPING, ids=lambda form: form.name)
@given(data=st.data())
def test_a_stream_survives_without_what_was_kept(form: Format, data: st.DataObject) -> None:
    """A stream that was read, written event by event in the canonical way and read again makes the same answer."""
    body = form.body(data.draw(form.json_streams if form.sayable_streams is None else form.sayable_streams))
    laws.check_stream_again(form.codec, form.rewritten or form.request, body, form.kept or unchanged, form.stream_type)


@pytest.mark.parametrize("form", KEEPING, ids=lambda form: form.name)
def test_every_field_survives_without_what_was_kept(form: Format) -> None:
    """The same three for JSON with every field of the format: leave one out of an encoder, and this fails."""
    assert form.full is not None
    asked, answer, stream = form.full
    laws.check_request_again(form.codec, asked, "", form.asked)
    laws.check_answer_again(form.codec, form.request, answer, form.kept or unchanged)
    body = form.body(stream)
    laws.check_stream_again(form.codec, form.rewritten or form.request, body, form.kept or unchanged, form.stream_type)


@pytest.mark.parametrize("form", KEEPING, ids=lambda form: form.name)
@given(data=st.data())
def test_writing_changes_nothing_that_was_kept(form: Format, data: st.DataObject) -> None:
    """A request is given back as it was however often it was written before, as it came or with changes."""
    source, path = data.draw(form.json_requests), data.draw(form.paths)
    request = form.codec.decode_request(json.encode(source), path)
    for changed in (request, request.but(model="other"), request.but(messages=request.messages[1:]), request):
        written = form.codec.encode_request(changed)
    laws.check_same(source, json.decode(written.body))


@pytest.mark.parametrize("form", KEEPING, ids=lambda form: form.name)
@given(data=st.data())
def test_who_only_reads_answers_keeps_nothing(form: Format, data: st.DataObject) -> None:
    """A codec that is not `exact` gives the same answers, whole and as streams, and keeps nothing with them."""
    codec: Any = msgspec.structs.replace(cast(Any, form.codec), exact=False)
    body = form.body(data.draw(form.json_streams))
    events = laws.decoded(codec, form.request, [body], form.stream_type)
    laws.check_nothing_kept(events)
    assert fold(events) == fold(read(form, body))
    source = json.encode(data.draw(form.json_answers))
    answer = fold(laws.decoded(codec, form.request, [source], laws.JSON))
    laws.check_nothing_kept(answer)
    assert answer == read_whole(form, source)


# Law 4: JSON is given back as it was


@each_format()
@given(data=st.data())
def test_a_request_is_given_back_as_it_was(form: Format, data: st.DataObject) -> None:
    """Law 4: any request is written as it was read, unknown fields, nulls and short forms included.

    And law 3 for requests that were read: reading them again changes nothing, not even how they are written.
    """
    source, path = data.draw(form.json_requests), data.draw(form.paths)
    request = form.codec.decode_request(json.encode(source), path)
    written = form.codec.encode_request(request)
    laws.check_same(source, json.decode(written.body))
    assert request == form.codec.decode_request(written.body, written.path if path else "")


@each_format()
@given(data=st.data())
def test_an_answer_is_given_back_as_it_was(form: Format, data: st.DataObject) -> None:
    """Law 4: any whole answer is written as it was read; and law 2."""
    laws.check_answer_json(form.codec, form.request, data.draw(form.json_answers))


@each_format()
@given(data=st.data())
def test_a_stream_is_given_back_as_it_was(form: Format, data: st.DataObject) -> None:
    """Law 4: every frame of a stream is written as it was read, padding and unknown events included; and law 2."""
    body = form.body(data.draw(form.json_streams))
    events = read(form, body)
    laws.check_same(form.frames(body), form.frames(laws.encoded(form.codec, form.request, events)))
    laws.check_folding(fold(events))


# Usage


@each_format("billed")
@given(data=st.data())
def test_the_buckets_add_up_to_what_is_billed(form: Format, data: st.DataObject) -> None:
    """The buckets of a usage are disjoint, and their sums are the sums of the counts that are billed."""
    assert form.billed is not None
    source = data.draw(form.json_answers)
    usage, told = read_whole(form, json.encode(source)).usage, form.billed(source)
    assert told == {key: None if usage is None else getattr(usage, key) for key in told}


# What is not of the format


@each_format("garbage")
@given(data=st.data(), body=st.binary(max_size=200))
def test_garbage_is_an_error_and_nothing_else(form: Format, data: st.DataObject, body: bytes) -> None:
    """Whatever bytes come where an answer should be, the decoder ends in an answer or in an error of its own."""
    start = data.draw(st.sampled_from(form.starts))
    outcome(form, start, body, content_type=data.draw(st.sampled_from((form.stream_type, *form.other_types))))


@each_format("answer")
def test_what_is_no_garbage_is_an_answer(form: Format) -> None:
    """The tests with garbage would see an answer, and see its end missing."""
    assert form.answer is not None
    assert outcome(form, form.body(form.answer)) is None
    for length in range(len(form.answer)):
        assert outcome(form, form.body(form.answer[:length])) is StreamError


@each_format("garbage")
@given(data=st.data())
def test_garbage_frames_are_an_error_and_nothing_else(form: Format, data: st.DataObject) -> None:
    """Frames of any shape end in an answer or in a `StreamError`; what can be read of them can be written."""
    assert form.garbage is not None
    body = (form.odd_body or form.body)(data.draw(form.garbage.frames))
    assert outcome(form, body) in (None, StreamError)


@each_format("garbage")
@given(data=st.data())
def test_a_garbage_request_is_refused_with_its_path(form: Format, data: st.DataObject) -> None:
    """A request of any shape is read, or refused with the path of the fault."""
    assert form.garbage is not None
    source = data.draw(form.garbage.requests)
    assert (refusal(form, json.encode(source), data.draw(form.paths)) or "$").startswith("$")


@each_format("deep")
def test_a_request_nested_too_deeply_is_refused(form: Format) -> None:
    """Nesting beyond what the interpreter bears is the client's fault, not the server's."""
    assert form.deep is not None
    for depth in (300, 900):
        assert refusal(form, form.deep % (b'{"a":' * depth, b"}" * depth)) in (None, "$")
    assert refusal(form, form.deep % (b'{"a":' * 100_000, b"}" * 100_000)) == "$"


# Gemini alone


@given(GEMINI.json_streams, laws.cuts)
def test_an_array_tells_what_events_tell(frames: list[dict[str, Any]], cuts: list[int]) -> None:
    """Law 1, for the bytes: a stream that is a JSON array, split anywhere, gives the events of the other kind."""
    parts = laws.pieces(formats.array(frames), cuts)
    assert read(GEMINI, GEMINI.body(frames)) == laws.decoded(GEMINI.codec, GEMINI.request, parts, laws.JSON)


# Responses alone, whose streams hold the answer several times over


@given(RESPONSES.completions)
def test_a_stream_ends_with_the_whole_answer(completion: Any) -> None:
    """What a stream's last frame holds, and the items before it, are the answer that is written in one piece."""
    frames = laws.frames(laws.encoded(RESPONSES.codec, RESPONSES.request, unfold(completion)))
    last = RESPONSES.whole(read_whole(RESPONSES, json.encode(frames[-1]["response"])))
    assert completion == last
    done = [frame["item"] for frame in frames if frame["type"] == "response.output_item.done"]
    assert sorted(map(json.encode, done)) == sorted(map(json.encode, frames[-1]["response"]["output"]))


@given(RESPONSES.json_streams)
def test_a_folded_stream_is_the_answer_of_its_last_frame(frames: list[dict[str, Any]]) -> None:
    """Law 4: what the events of a stream make is, written in one piece, what its last frame says."""
    told = fold(read(RESPONSES, RESPONSES.body(frames)))
    laws.check_same(frames[-1]["response"], json.decode(RESPONSES.codec.encode_response(told)))


@given(RESPONSES.json_streams)
def test_fewer_frames_tell_the_same(frames: list[dict[str, Any]]) -> None:
    """A stream in which items are not announced and not told in pieces, or not told at all, makes the same answer."""
    whole = [frame for frame in frames if ".delta" not in frame["type"] and ".added" not in frame["type"]]
    told = formats.without_form(fold(read(RESPONSES, RESPONSES.body(frames))))
    assert told == formats.without_form(fold(read(RESPONSES, RESPONSES.body(whole))))
    assert told == formats.without_form(fold(read(RESPONSES, RESPONSES.body([frames[-1]]))))


@given(RESPONSES.json_streams)
def test_events_without_their_frames_tell_the_same(frames: list[dict[str, Any]]) -> None:
    """A decoder that does not remember frames gives the same answer, and what must go back to the provider too."""
    body = RESPONSES.body(frames)
    events = laws.decoded(Responses(exact=False), RESPONSES.request, [body])
    assert all(event.wire is None and not isinstance(event, UnknownEvent) for event in events)
    assert fold(read(RESPONSES, body)) == fold(events)


@given(garbage.RESPONSES.requests)
def test_a_garbage_request_that_is_read_is_given_back(source: Any) -> None:
    """Law 4 for requests of any shape that are not refused."""
    data = json.encode(source)
    if refusal(RESPONSES, data) is None:
        request = RESPONSES.codec.decode_request(data)
        laws.check_same(source, json.decode(RESPONSES.codec.encode_request(request).body))


# Some frames as they came, and others changed


@pytest.mark.parametrize("form", KEEPING, ids=lambda form: form.name)
@pytest.mark.parametrize("shift", [0, 2])
def test_a_stream_of_which_one_event_was_changed(form: Format, shift: int) -> None:
    """Whichever event of a stream is changed, what is written is the answer with that change, and nothing else."""
    assert form.full is not None
    frames = [{**frame, "index": frame["index"] + shift} if "index" in frame else frame for frame in form.full[2]]
    frames = [_cited_elsewhere(frame, shift) for frame in frames]
    events = laws.decoded(form.codec, form.request, [form.body(frames)], form.stream_type)
    kept = form.kept or unchanged
    tried = 0
    for place, event in enumerate(events):
        if isinstance(event, TextDelta | ReasoningDelta):
            changed: Any = msgspec.structs.replace(event, text=event.text + "X")
        elif isinstance(event, ToolCallDelta) and event.name:
            changed = msgspec.structs.replace(event, name="changed")
        elif isinstance(event, Start) and event.model:
            changed = msgspec.structs.replace(event, model="changed")
        else:
            continue
        tried += 1
        events_now = [*events[:place], changed, *events[place + 1 :]]
        written = laws.encoded(form.codec, form.rewritten or form.request, events_now)
        again = fold(laws.decoded(form.codec, form.request, [written], form.stream_type))
        assert kept(laws.bare(fold(events_now))) == kept(laws.bare(again)), event
    assert tried >= 5


def _cited_elsewhere(frame: dict[str, Any], shift: int) -> dict[str, Any]:
    """Return a frame of Cohere's whose citation is of a content that has another index now."""
    if frame.get("type") != "citation-start":
        return frame
    citation = frame["delta"]["message"]["citations"]
    cited = {**citation, "content_index": citation["content_index"] + shift}
    return {**frame, "delta": {"message": {"citations": cited}}}
