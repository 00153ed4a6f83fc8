"""OpenAI Chat Completions streams, both ways. Tool calls, faults and writing have files of their own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from antiphon.chat.answers import Completion
from antiphon.chat.events import (
    End,
    Finish,
    MessageDelta,
    Start,
    TextDelta,
    UnknownEvent,
    fold,
)
from antiphon.chat.messages import Annotation, Audio, Message, Opaque, Reasoning, Refusal, Text
from antiphon.chat.usage import Usage
from antiphon.errors import StreamError
from antiphon.formats.openai_chat.stream import StreamDecoder
from tests.wire import laws, openai_shapes
from tests.wire.openai_chunks import (
    CODEC,
    HELLO,
    NAME,
    REQUEST,
    answer,
    body,
    broken,
    chunk,
    events,
    text_of,
    usage,
)

# The whole of it


@given(openai_shapes.wire_bodies())
def test_the_short_way(body: bytes) -> None:
    """Chunks that differ in their text alone give the same events by the short way as by the long one."""
    found = laws.decoded(CODEC, REQUEST, [body])
    decoder = StreamDecoder()
    assert found[:-1] == [event for chunk in laws.frames(body) for event in decoder.feed_chunk(chunk)]


def test_every_split() -> None:
    """A stream with everything in it gives the same events at every single split."""
    full = body(
        {"id": "", "choices": [], "model": "", "created": 0, "prompt_filter_results": [{"a": "é"}]},
        chunk(role="assistant", content=""),
        chunk(reasoning_content="hm 🤔"),
        chunk(content="Hé\u2028llo\r\n"),
        chunk(content='\x00 \\ " \u0085 😀'),
        chunk(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"é": 1}'}}]),
        chunk(finish_reason="tool_calls"),
        {**chunk(), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
    )
    full = b"\xef\xbb\xbf: comment\r\n\r\n" + full.replace(b"\n\n", b"\r\n\r\n", 3).replace(b"\n\n", b"\r\r", 2)
    laws.check_every_split(CODEC, REQUEST, full)
    laws.check_stream_json(CODEC, REQUEST, full)


# What an answer is made of


def test_hello() -> None:
    """Text comes in pieces, after who answers and in which role; the last event is `End`."""
    plain = [event for event in events(*HELLO) if not isinstance(event, Start)]
    assert [MessageDelta, TextDelta, TextDelta, TextDelta, Finish, End] == [type(event) for event in plain]
    completion = answer(*HELLO)
    assert completion == Completion(
        choices=completion.choices, id="chatcmpl-1", model="m", created=7, extra=None, usage=None
    )
    assert completion.choices[0].message == Message("assistant", (Text("Hello"),))
    assert (completion.choices[0].finish_reason, completion.choices[0].native_finish_reason) == ("stop", None)


def test_who_answers_is_told_once() -> None:
    """A `Start` comes with the first chunk, and again only where the answer's id, model or extras change."""
    later = {**chunk(content="c"), "system_fingerprint": "fp", "model": "m-2"}
    starts = [e for e in events(*HELLO[:2], later, later, HELLO[3]) if isinstance(e, Start)]
    assert [("m", None), ("m-2", {NAME: {"system_fingerprint": "fp"}}), ("m", None)] == [
        (start.model, start.extra) for start in starts
    ]


def test_azure_begins_without_choices() -> None:
    """A first chunk with `prompt_filter_results` and no choices is part of the answer and of no choice."""
    filters = [{"prompt_index": 0, "content_filter_results": {}}]
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": filters}
    completion = answer(first, *HELLO)
    assert completion.content == "Hello"
    assert completion.extra == {NAME: {"prompt_filter_results": filters}}
    assert completion.id == "chatcmpl-1"


def test_azure_annotates_a_choice() -> None:
    """Fields beside the delta are gathered and stand with the finish of their choice."""
    filtered = chunk(content="a")
    filtered["choices"][0]["content_filter_results"] = {"hate": {"filtered": False}}
    choice = answer(filtered, chunk(finish_reason="stop")).choices[0]
    assert choice.extra == {NAME: {"content_filter_results": {"hate": {"filtered": False}}}}


def test_several_choices_interleaved() -> None:
    """With n > 1 the choices come interleaved, and each has its own text and finish."""
    completion = answer(
        chunk(index=1, content="b"),
        chunk(content="a"),
        chunk(index=1, content="b"),
        chunk(index=1, finish_reason="length"),
        chunk(content="a"),
        chunk(finish_reason="stop"),
        request=REQUEST.but(n=2),
    )
    assert [(0, "aa", "stop"), (1, "bb", "length")] == [
        (choice.index, choice.message.content, choice.finish_reason) for choice in completion.choices
    ]


def test_several_choices_in_one_chunk() -> None:
    """One chunk may bring pieces of several choices, which goes out as one chunk again."""
    both = {**chunk(), "choices": [chunk(content="a")["choices"][0], chunk(index=1, content="b")["choices"][0]]}
    ends = [chunk(finish_reason="stop"), chunk(index=1, finish_reason="stop")]
    assert ["aa", "bb"] == [choice.message.content for choice in answer(both, both, *ends).choices]


def test_choices_without_an_index() -> None:
    """A choice without an index has that of its place."""
    bare = {**chunk(), "choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}, "finish_reason": "stop"}]}
    assert ["aa", "b"] == [c.message.content for c in answer(bare, chunk(content="a", finish_reason="stop")).choices]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning(field: str) -> None:
    """Thoughts come under one of two names, each of which goes out as it came, and end where the text begins."""
    completion = answer(
        chunk(role="assistant", content=""),
        *({**chunk(), "choices": [{"index": 0, "delta": {field: text}}]} for text in "hmm"),
        chunk(content="So."),
        chunk(finish_reason="stop"),
    )
    assert completion.choices[0].message.parts == (Reasoning("hmm"), Text("So."))


def test_reasoning_under_both_names() -> None:
    """Where both names come with one text it counts once; another text under the second name is kept as unknown."""
    same = chunk(reasoning_content="h", reasoning="h")
    message = answer(same, same, *HELLO).choices[0].message
    assert (message.reasoning_content, message.extra) == ("hh", None)
    other = answer(same, chunk(reasoning_content="h", reasoning="x"), *HELLO).choices[0].message
    assert (other.reasoning_content, other.extra) == ("hh", {NAME: {"reasoning": "x"}})
    empty = answer(*[chunk(reasoning_content="", reasoning=text) for text in ("a", "b", "")], *HELLO)
    assert empty.choices[0].message.reasoning_content == "ab"


def test_reasoning_details() -> None:
    """OpenRouter's `reasoning_details` are gathered beside the message."""
    details = [chunk(reasoning="a", reasoning_details=[{"text": text}]) for text in "ab"]
    message = answer(*details, chunk(finish_reason="stop")).choices[0].message
    assert message.reasoning_content == "aa"
    assert message.extra == {NAME: {"reasoning_details": [{"text": "a"}, {"text": "b"}]}}


def test_content_as_a_list() -> None:
    """Mistral's list of thoughts and text is read as such; an element of another kind stays as it is."""
    completion = answer(
        chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
        chunk(content=[{"type": "text", "text": "So "}, {"type": "reference", "reference_ids": [1]}]),
        chunk(content="be it"),
        chunk(finish_reason="stop"),
    )
    reference = Opaque(NAME, {"type": "reference", "reference_ids": [1]})
    assert completion.choices[0].message.parts == (Reasoning("hm"), Text("So "), reference, Text("be it"))


def test_refusal_and_its_logprobs() -> None:
    """A refusal is no text, and has logprobs of its own."""
    refused = chunk(refusal="No.")
    refused["choices"][0]["logprobs"] = {"content": None, "refusal": [{"token": "No."}]}
    choice = answer(chunk(role="assistant", content=None, refusal=""), refused, chunk(finish_reason="stop")).choices[0]
    assert choice.message.parts == (Refusal("No.", ({"token": "No."},)),)
    assert choice.logprobs == {"refusal": [{"token": "No."}]}


def test_an_empty_refusal() -> None:
    """An empty refusal declines nothing."""
    whole = answer(chunk(role="assistant", content="Yes.", refusal=""), chunk(refusal=""), chunk(finish_reason="stop"))
    assert whole.choices[0].message.parts == (Text("Yes."),)


def test_the_old_way_to_call() -> None:
    """Pieces of a `function_call` are those of a tool call."""
    pieces: list[dict[str, Any]] = [{"name": "f", "arguments": ""}, *({"arguments": text} for text in '{"x":1}')]
    chunks = [chunk(role="assistant", content=None), *(chunk(function_call=piece) for piece in pieces)]
    whole = answer(*chunks, chunk(finish_reason="function_call"))
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert (call.name, call.arguments, bool(call.id)) == ("f", '{"x":1}', True)
    assert whole.choices[0].finish_reason == "tool_calls"


def test_logprobs() -> None:
    """Logprobs come with the pieces of text and are gathered; an empty list is not none."""
    pieces = [chunk(content=text) for text in ("a", "b", "")]
    for piece, tokens in zip(pieces, ([{"token": "a"}], [{"token": "b"}], []), strict=True):
        piece["choices"][0]["logprobs"] = {"content": tokens, "refusal": None}
    choice = answer(*pieces, chunk(finish_reason="stop")).choices[0]
    assert choice.message.parts == (Text("ab", logprobs=({"token": "a"}, {"token": "b"})),)


def test_audio() -> None:
    """Speech comes as an id, pieces of base64 and of its transcript, and its date of expiry."""
    completion = answer(
        chunk(role="assistant", audio={"id": "au", "transcript": "He"}),
        chunk(audio={"data": "QUJD"}),
        chunk(audio={"data": "REVG", "transcript": "y"}),
        chunk(audio={"expires_at": 9, "x_new": 1}),
        chunk(finish_reason="stop"),
    )
    spoken = Audio(id="au", data="QUJDREVG", transcript="Hey", expires_at=9, extra={NAME: {"x_new": 1}})
    assert completion.choices[0].message.parts == (spoken,)


def test_annotations() -> None:
    """Sources are gathered on the text, with or without a piece of it beside them."""
    citation = {"type": "url_citation", "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "x": 1}}
    completion = answer(
        chunk(content="a"), chunk(annotations=[citation]), chunk(content="b", annotations=[citation]), *HELLO[3:]
    )
    source = Annotation(url="https://a", title="A", start=0, extra={NAME: {"url_citation": {"x": 1}}})
    assert completion.choices[0].message.parts == (Text("ab", (source, source)),)


def test_a_whole_message_in_a_stream() -> None:
    """A server that ends with a whole message in the place of a delta is understood."""
    last = chunk(finish_reason="stop")
    last["choices"][0] = {"index": 0, "delta": None, "message": {"content": "all"}, "finish_reason": "stop"}
    assert answer(last).content == "all"


@pytest.mark.parametrize("nothing", [{"choices": None}, {"choices": []}, {"usage": None}])
def test_chunks_with_nothing(nothing: dict[str, Any]) -> None:
    """Chunks that bring nothing, null in the place of choices too, are passed on and change nothing."""
    empty = {**chunk(), **nothing}
    if nothing == {"usage": None}:
        empty["choices"] = [{"index": 0, "delta": {}, "finish_reason": None}]
    assert answer(*HELLO[:2], empty, empty, *HELLO[2:]).content == "Hello"


def test_null_delta() -> None:
    """A null delta brings nothing."""
    null = chunk()
    null["choices"][0]["delta"] = None
    assert text_of(chunk(content="a"), null, chunk(content="b")) == "ab"


def test_unknown_frames() -> None:
    """A frame that is no chunk is passed on as it is, and tells nothing of who answers."""
    odd = {"id": "other", "type": "ping", "model": "other"}
    found = events(HELLO[0], odd, *HELLO[1:])
    assert UnknownEvent(NAME, odd) in found
    completion = answer(HELLO[0], odd, *HELLO[1:])
    assert (completion.id, completion.content) == ("chatcmpl-1", "Hello")
    assert answer(odd, *HELLO).id == "chatcmpl-1"


# Usage


@pytest.mark.parametrize("place", range(4))
def test_usage_on_any_chunk(place: int) -> None:
    """Usage counts on whichever chunk it comes, and a later null does not erase it."""
    chunks = [{**one, "usage": usage(5, 2) if place == number else None} for number, one in enumerate(HELLO)]
    assert answer(*chunks).usage == Usage(input_uncached=5, output_visible=2)


def test_usage_without_choices() -> None:
    """OpenAI's last chunk has usage and no choices."""
    assert answer(*HELLO, {**chunk(), "choices": [], "usage": usage(5, 2)}).usage == Usage(
        input_uncached=5, output_visible=2
    )


def test_usage_of_groq() -> None:
    """Groq's usage stands under `x_groq`; usage in its proper place goes before it."""
    last = {**HELLO[3], "x_groq": {"id": "r", "usage": usage(5, 2, queue_time=0.1)}}
    found = answer(*HELLO[:3], last).usage
    assert found is not None
    assert (found.prompt_tokens, found.completion_tokens, found.extra) == (5, 2, {NAME: {"queue_time": 0.1}})
    both = answer(*HELLO[:3], {**last, "usage": usage(6, 3)}).usage
    assert both is not None
    assert (both.prompt_tokens, both.completion_tokens) == (6, 3)


def test_the_last_usage_counts() -> None:
    """Of several usages the last counts, and its buckets do not mix with those of another count."""
    first = {**chunk(content="a"), "usage": usage(5, 6, completion_tokens_details={"reasoning_tokens": 4})}
    last = {**chunk(finish_reason="stop"), "usage": usage(5, 9)}
    found = answer(first, last).usage
    assert found is not None
    assert (found.completion_tokens, found.output_reasoning) == (9, None)


def test_zero_is_not_missing() -> None:
    """Zero tokens are reported ones; an empty usage reports nothing."""
    assert answer(*HELLO, {**chunk(), "choices": [], "usage": usage(0, 0)}).usage == Usage(
        input_uncached=0, output_visible=0
    )
    assert answer(*HELLO, {**chunk(), "choices": [], "usage": {}}).usage is None


# How an answer ends


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ("stop", ("stop", None)),
        ("length", ("length", None)),
        ("tool_calls", ("tool_calls", None)),
        ("content_filter", ("content_filter", None)),
        ("function_call", ("tool_calls", "function_call")),
        ("eos", ("stop", "eos")),
        ("model_length", ("length", "model_length")),
        ("sensitive", ("content_filter", "sensitive")),
        ("error", ("error", None)),
        ("network_error", ("error", "network_error")),
        ("insufficient_system_resource", ("error", "insufficient_system_resource")),
        ("max_sunlight", ("other", "max_sunlight")),
        ("other", ("other", None)),
        ("pause", ("pause", None)),
    ],
)
def test_finish_reasons(native: str, expected: tuple[str, str | None]) -> None:
    """The provider's word is kept beside the canonical one where they differ, and an unknown one is never `stop`."""
    choice = answer(chunk(content="a"), chunk(finish_reason=native)).choices[0]
    assert expected == (choice.finish_reason, choice.native_finish_reason)


def test_the_first_finish_reason_counts() -> None:
    """A finish reason that is repeated, as some servers do beside the usage, is no second finish."""
    again = events(*HELLO, chunk(finish_reason="stop"), chunk(finish_reason="length"))
    assert ["stop"] == [event.reason for event in again if isinstance(event, Finish)]


CALL = chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}], finish_reason="")


def test_xai_ends_tool_calls_with_an_empty_reason() -> None:
    """An empty finish reason after tool calls means `tool_calls`, once `[DONE]` says that all is there."""
    completion = answer(chunk(role="assistant", content=""), CALL)
    assert completion.choices[0].finish_reason == "tool_calls"
    _, error = broken(body(CALL, done=False))
    assert "no finish reason" in str(error)


def test_servers_that_fill_in_empty_reasons() -> None:
    """An empty finish reason on every chunk ends nothing: the real one does, and without it the stream is cut."""
    pieces = [chunk(content=text, finish_reason="") for text in "abc"]
    assert text_of(*pieces) == "abc"
    _, error = broken(body(*pieces))
    assert "no finish reason" in str(error)
    choice = answer(CALL, chunk(content="after", finish_reason=""), chunk(finish_reason="length")).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("length", "after")


def test_done_is_not_needed() -> None:
    """A stream that ends after the finish without `[DONE]` is complete."""
    assert fold(events(*HELLO)) == fold(events(*HELLO, done=False))


def test_done_is_not_enough() -> None:
    """`[DONE]` before the finish does not make a cut answer whole."""
    received, error = broken(body(*HELLO[:3]))
    assert isinstance(error, StreamError)
    assert str(error) == (
        "The provider's stream ended before the answer was complete: no finish reason arrived. "
        "What came so far may be cut off in the middle."
    )
    assert fold(received).content == "Hello"
    assert not any(isinstance(event, End) for event in received)


def test_each_choice_must_finish() -> None:
    """One finished choice does not finish the other."""
    _, error = broken(body(chunk(content="a"), chunk(index=1, content="b"), chunk(finish_reason="stop")))
    assert "no finish reason" in str(error)


def test_a_choice_that_never_began() -> None:
    """Where two choices were asked for and one came, only `[DONE]` tells that no other is to come."""
    two = REQUEST.but(n=2)
    assert len(answer(*HELLO, request=two).choices) == 1
    _, error = broken(body(*HELLO, done=False), two)
    assert "before the answer was complete" in str(error)


def test_what_comes_after_done_is_ignored() -> None:
    """After `[DONE]` nothing counts, not even garbage."""
    after = body(*HELLO) + b"data: {garbage\n\n" + body(chunk(content="more"))
    assert fold(laws.decoded(CODEC, REQUEST, [after])).content == "Hello"


@pytest.mark.parametrize("odd", [b"data:\n\n", b"data: \n\n", b"data:  [DONE]\n\n", b"data:[DONE]\n\n", b": x\n\n\n"])
def test_harmless_frames(odd: bytes) -> None:
    """Empty frames, comments and an oddly spaced `[DONE]` do no harm."""
    assert fold(laws.decoded(CODEC, REQUEST, [body(*HELLO, done=False) + odd])).content == "Hello"


def test_a_frame_that_the_end_cuts_off() -> None:
    """A last frame without its blank line counts if it is whole."""
    data = body(*HELLO, done=False)
    for end in (data[:-1], data[:-2]):
        assert fold(laws.decoded(CODEC, REQUEST, [end])).content == "Hello"
    _, error = broken(data[:-3])
    assert "not JSON" in str(error)


def test_a_cut_after_the_answer() -> None:
    """What is cut off after the finish was no part of the answer; an error that stands there whole still counts."""
    data = body(*HELLO, {**chunk(), "choices": [], "usage": usage(1, 2)}, done=False)
    for end in range(len(body(*HELLO, done=False)), len(data) - 2):
        completion = fold(laws.decoded(CODEC, REQUEST, [data[:end]]))
        assert (completion.content, completion.usage) == ("Hello", None)
    assert fold(laws.decoded(CODEC, REQUEST, [data[:-2]])).usage is not None
    _, error = broken(body(*HELLO, done=False) + b'data: {"error": "Lost"}')
    assert "Lost" in str(error)
