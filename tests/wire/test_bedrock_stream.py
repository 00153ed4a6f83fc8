"""Bedrock streams beyond what was recorded: order, odd blocks, faults by name, and streams of other formats' events."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import (
    End,
    Event,
    Finish,
    PartAdded,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
    fold,
)
from antiphon.chat.messages import Image, Opaque, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APITimeoutError, InternalServerError, RateLimitError, StreamError
from antiphon.formats import json
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.framing import eventstream
from tests.wire import laws

CODEC = Bedrock()
REQUEST = ChatRequest("m", (), stream=True)
STREAM = eventstream.CONTENT_TYPE
STOP = ("messageStop", {"stopReason": "end_turn"})
USAGE = ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}})


def frame(name: str, payload: Any, message: str = "event") -> bytes:
    """Return one frame as Bedrock sends it."""
    key = ":event-type" if message == "event" else ":exception-type"
    headers = {key: name, ":content-type": "application/json", ":message-type": message}
    return eventstream.encode(
        eventstream.encode_headers(headers), payload if isinstance(payload, bytes) else json.encode(payload)
    )


def text(said: str, index: Any = 0) -> tuple[str, Any]:
    """Return the frame of a piece of text."""
    return "contentBlockDelta", {"delta": {"text": said}, "contentBlockIndex": index}


def started(index: Any = 0, **fields: Any) -> tuple[str, Any]:
    """Return the frame that begins a call."""
    call = {"toolUseId": "t", "name": "f", **fields}
    return "contentBlockStart", {"start": {"toolUse": call}, "contentBlockIndex": index}


def piece(arguments: str, index: Any = 0) -> tuple[str, Any]:
    """Return the frame of a piece of a call's arguments."""
    return "contentBlockDelta", {"delta": {"toolUse": {"input": arguments}}, "contentBlockIndex": index}


def events(*named: tuple[str, Any]) -> list[Event]:
    """Return the events of a stream."""
    return laws.decoded(CODEC, REQUEST, [b"".join(frame(*one) for one in named)], STREAM)


def answer(*named: tuple[str, Any]) -> Completion:
    """Return the answer of a stream."""
    return fold(events(*named))


def written(*told: Event) -> list[Any]:
    """Return names and payloads of the frames that *told* become."""
    body = laws.encoded(CODEC, REQUEST, told)
    return [
        (headers[":event-type"], json.decode(data)) for headers, data in eventstream.EventStreamDecoder().feed(body)
    ]


def parts(*named: tuple[str, Any]) -> tuple[Any, ...]:
    """Return the parts of a stream's answer."""
    return answer(*named).choices[0].message.parts


# Order


@pytest.mark.parametrize("ending", [[STOP, USAGE], [USAGE, STOP]])
def test_usage_before_or_after_the_finish(ending: list[tuple[str, Any]]) -> None:
    """Usage may come on either side of the finish; the decoder knows that nothing follows once both have come."""
    decoder = CODEC.decoder(REQUEST, STREAM)
    over = []
    for one in [text("hi"), *ending]:
        list(decoder.feed(frame(*one)))
        over.append(decoder.over)
    assert over == [False, False, True]
    told = answer(text("hi"), *ending)
    assert told.usage is not None
    assert (told.usage.total_tokens, told.choices[0].finish_reason) == (5, "stop")


def test_without_usage() -> None:
    """A stream whose usage never comes is an answer, if its finish did."""
    told = answer(text("hi"), STOP)
    assert (told.content, told.usage) == ("hi", None)


def test_interleaved_blocks() -> None:
    """Pieces belong to the block of their index, also when several are under way."""
    told = parts(started(5), text("a", 1), piece('{"x"', 5), text("b", 1), piece(":1}", 5), STOP)
    assert told == (ToolCall("t", "f", '{"x":1}'), Text("ab"))


def test_missing_and_duplicate_indexes() -> None:
    """Without an index a piece belongs to the newest block; a second start of an index is a new block."""
    assert parts(text("a", None), text("b", None), STOP) == (Text("ab"),)
    told = parts(started(0), piece('{"x":1}'), started(0, name="g"), piece("{}"), STOP)
    assert told == (ToolCall("t", "f", '{"x":1}'), ToolCall("t", "g", "{}"))


def test_another_kind_under_the_same_index() -> None:
    """Text under the index of thoughts is a block of its own."""
    thought = ("contentBlockDelta", {"delta": {"reasoningContent": {"text": "Hm."}}, "contentBlockIndex": 0})
    assert parts(thought, text("a"), text("b"), STOP) == (Reasoning("Hm."), Text("ab"))


def test_a_call_without_arguments() -> None:
    """A call of which no arguments came has an empty object of them."""
    assert parts(started(), ("contentBlockStop", {"contentBlockIndex": 0}), STOP) == (ToolCall("t", "f", "{}"),)
    assert parts(started(), STOP) == (ToolCall("t", "f", "{}"),)


def test_sealed_thoughts_in_pieces() -> None:
    """Pieces of sealed thoughts stand for bytes each; the part stands for all of them."""
    deltas = [{"reasoningContent": {"redactedContent": data}} for data in ("QQ==", "Qg==")]
    told = parts(*(("contentBlockDelta", {"delta": one, "contentBlockIndex": 0}) for one in deltas), STOP)
    assert told == (Opaque("bedrock", {"reasoningContent": {"redactedContent": "QUI="}}),)


def test_an_image() -> None:
    """A picture that came in pieces is a picture."""
    start = ("contentBlockStart", {"start": {"image": {"format": "png"}}, "contentBlockIndex": 0})
    delta = ("contentBlockDelta", {"delta": {"image": {"source": {"bytes": "AAAA"}}}, "contentBlockIndex": 0})
    assert parts(start, delta, STOP) == (Image(data="AAAA", media_type="image/png"),)


def test_a_whole_block_of_an_odd_shape() -> None:
    """Whatever stands where the pieces of a block belong, the block is carried on."""
    start = ("contentBlockStart", {"start": {"toolResult": {"content": 5, "type": "x"}}, "contentBlockIndex": 0})
    delta = ("contentBlockDelta", {"delta": {"toolResult": [{"text": "a"}]}, "contentBlockIndex": 0})
    assert parts(start, delta, delta, STOP) == (
        Opaque("bedrock", {"toolResult": {"content": [{"text": "a"}, {"text": "a"}], "type": "x"}}),
    )


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("tool_use", "tool_calls"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", "error"),
        ("malformed_tool_use", "error"),
        ("a_new_reason", "other"),
    ],
)
def test_finish_reasons(native: str, reason: str) -> None:
    """Each reason has its canonical one, and is kept beside it; an unknown one is never a stop."""
    choice = answer(text("hi"), ("messageStop", {"stopReason": native})).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (reason, native)


def test_unknown_events_are_kept() -> None:
    """A frame of an unknown type is passed on, and ignored by all else."""
    told = events(text("hi"), ("freshEvent", {"x": 1}), STOP)
    assert [(e.name, e.data) for e in told if isinstance(e, UnknownEvent)] == [("freshEvent", {"x": 1})]
    assert written(*told)[1] == ("freshEvent", {"x": 1})


# Faults


@pytest.mark.parametrize(
    ("type", "status", "retryable"),
    [
        ("throttlingException", 429, True),
        ("internalServerException", 500, True),
        ("serviceUnavailableException", 503, True),
        ("modelStreamErrorException", 424, True),
        ("validationException", 400, False),
        ("freshException", None, False),
    ],
)
def test_exceptions_inside(type: str, status: int | None, retryable: bool) -> None:
    """An exception frame is a `StreamError` with what its status would have said."""
    decoder = CODEC.decoder(REQUEST, STREAM)
    received = decoder.feed(frame(*text("hi")) + frame(type, {"message": "Sorry."}, "exception"))
    assert isinstance(next(iter(received)), TextDelta)
    with pytest.raises(StreamError, match="Sorry") as caught:
        list(received)
    error = caught.value
    assert (error.type, error.status, error.retryable) == (type[0].upper() + type[1:], status, retryable)
    assert error.body == {"message": "Sorry."}


def test_an_error_frame() -> None:
    """An error that is told by headers alone is told as well."""
    headers = {":message-type": "error", ":error-code": "InternalServerException", ":error-message": "It broke."}
    with pytest.raises(StreamError, match="It broke") as caught:
        laws.decoded(CODEC, REQUEST, [eventstream.encode(eventstream.encode_headers(headers), b"")], STREAM)
    assert (caught.value.type, caught.value.status) == ("InternalServerException", 500)


def test_an_exception_without_json() -> None:
    """What is no JSON is shown as it is."""
    with pytest.raises(StreamError, match="out of order"):
        laws.decoded(CODEC, REQUEST, [frame("throttlingException", b"<out of order>", "exception")], STREAM)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (("contentBlockDelta", b'{"delta"'), "not a JSON object"),
        (("contentBlockDelta", b"[1]"), "not a JSON object"),
        (("contentBlockDelta", b'{"delta":{"text":"\xff"}}'), "not a JSON object"),
        (("contentBlockDelta", {"delta": "text"}), "must be an object"),
        (("contentBlockDelta", {"delta": {"citation": 1}}), "wrong shape"),
        (piece("{}"), "never began"),
        (("contentBlockDelta", b'{"delta":' + b'{"a":' * 2000 + b"1" + b"}" * 2001), "not a JSON object|deeply"),
    ],
)
def test_frames_of_the_wrong_shape(named: tuple[str, Any], said: str) -> None:
    """Invalid JSON, invalid UTF-8, wrong types and pieces of nothing are faults of the stream, each in its words."""
    with pytest.raises(StreamError, match=said):
        events(named, STOP)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ((), "empty|without a single piece"),
        ((("messageStart", {"role": "assistant"}),), "no stop reason"),
        ((text("hi"), USAGE), "no stop reason"),
        ((text("hi"), ("messageStop", {})), "no stop reason"),
    ],
)
def test_streams_that_just_stop(named: tuple[Any, ...], said: str) -> None:
    """Without a stop reason there is no end, whatever else came."""
    with pytest.raises(StreamError, match=said):
        events(*named)


def test_a_whole_answer_where_a_stream_was_asked_for() -> None:
    """What comes is told by its first byte, not by its label; an error object is an error."""
    source = {"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}, "stopReason": "end_turn"}
    assert fold(laws.decoded(CODEC, REQUEST, [b" ", json.encode(source)], STREAM)).content == "hi"
    body = b"".join(frame(*one) for one in (text("hi"), STOP))
    assert fold(laws.decoded(CODEC, REQUEST, [b"", body], laws.JSON)).content == "hi"
    with pytest.raises(StreamError, match="Too many"):
        laws.decoded(CODEC, REQUEST, [b'{"__type":"a#ThrottlingException","message":"Too many"}'], laws.JSON)
    for broken in (b'{"output":{"message":1}}', b'{"output":{}}', b"{}", b"<html>", b"[]"):
        with pytest.raises(StreamError):
            laws.decoded(CODEC, REQUEST, [broken], laws.JSON)


# Written


def test_other_formats_events() -> None:
    """Text, a refusal, a picture and calls become blocks that begin and end, then the finish, then the usage."""
    told = written(
        Start(id="x", model="m"),
        TextDelta(""),
        TextDelta("Hel"),
        TextDelta("lo"),
        TextDelta("another choice", 1),
        PartAdded(Refusal("No.")),
        PartAdded(Image(data="AAAA", media_type="image/png")),
        PartAdded(Opaque("elsewhere", {})),
        ToolCallDelta(call=0, id="t", name="f", arguments="{"),
        ToolCallDelta(call=0, arguments="}"),
        UsageUpdate(Usage(input_uncached=3, output_visible=2)),
        Finish("tool_calls"),
        End(),
    )
    assert told == [
        ("messageStart", {"role": "assistant"}),
        text("Hel"),
        text("lo"),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        text("No.", 1),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("contentBlockStart", {"start": {"image": {"format": "png"}}, "contentBlockIndex": 2}),
        ("contentBlockDelta", {"delta": {"image": {"source": {"bytes": "AAAA"}}}, "contentBlockIndex": 2}),
        ("contentBlockStop", {"contentBlockIndex": 2}),
        started(3),
        piece("{", 3),
        piece("}", 3),
        ("contentBlockStop", {"contentBlockIndex": 3}),
        ("messageStop", {"stopReason": "tool_use"}),
        USAGE,
    ]


def test_an_empty_answer() -> None:
    """An answer in which nothing was said has a beginning and an end all the same."""
    assert written(End("length")) == [
        ("messageStart", {"role": "assistant"}),
        ("messageStop", {"stopReason": "max_tokens"}),
    ]


def test_facts_that_come_late() -> None:
    """What is said of the whole answer stands in its last frame, also when it came in two pieces."""
    one, other = ({"bedrock": {key: 1}} for key in ("trace", "metrics"))
    told = written(Start(extra=one), TextDelta("a"), Start(extra=other), End("stop"))
    assert told[-1] == ("metadata", {"trace": 1, "metrics": 1})


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RateLimitError("x", status=429), "throttlingException"),
        (InternalServerError("x", status=503), "serviceUnavailableException"),
        (InternalServerError("x", status=529), "internalServerException"),
        (APITimeoutError("x"), "internalServerException"),
        (StreamError("x", status=424, type="ModelErrorException"), "modelStreamErrorException"),
        (StreamError("x", status=404, type="ResourceNotFoundException"), "validationException"),
        (StreamError("x", status=400), "validationException"),
    ],
)
def test_errors_written(error: Any, name: str) -> None:
    """An error within a stream is one of the five that a stream knows, and is read as such again."""
    body = CODEC.encoder(REQUEST).error(error)
    ((headers, payload),) = eventstream.EventStreamDecoder().feed(body)
    assert (headers[":message-type"], headers[":exception-type"]) == ("exception", name)
    assert json.decode(payload) == {"message": "x"}
    with pytest.raises(StreamError, match="x"):
        laws.decoded(CODEC, REQUEST, [body], STREAM)


def test_an_error_goes_on_as_it_came() -> None:
    """The body of an exception that came from this format is given on whole."""
    body = frame("modelStreamErrorException", {"message": "x", "originalStatusCode": 500}, "exception")
    with pytest.raises(StreamError) as caught:
        laws.decoded(CODEC, REQUEST, [body], STREAM)
    assert CODEC.encoder(REQUEST).error(caught.value) == body
