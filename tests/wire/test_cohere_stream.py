"""Answers of Cohere's Chat API v2 by example: what each frame means, and every fault by its name."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    Finish,
    MessageDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
    fold,
)
from antiphon.chat.messages import Annotation, Opaque, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, AuthenticationError, NotFoundError, RateLimitError, StreamError
from antiphon.formats import json
from antiphon.formats.cohere import Cohere
from antiphon.formats.framing import sse
from tests.wire import laws
from tests.wire.cohere_values import PLAN, body, frame

CODEC = Cohere()
REQUEST = ChatRequest("command-a", (), stream=True)

START = frame("message-start", {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []})
CITATION = {"start": 0, "end": 3, "text": "Yes", "sources": [{"type": "tool", "id": "f:0"}], "type": "TEXT_CONTENT"}
USAGE = {"billed_units": {"input_tokens": 3, "output_tokens": 4}, "tokens": {"input_tokens": 9, "output_tokens": 5}}
END = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": USAGE}}
STREAM = [
    {"id": "c-1", **START},
    frame("tool-plan-delta", {"tool_plan": "I will"}),
    frame("tool-plan-delta", {"tool_plan": " look."}),
    frame("content-start", {"content": {"type": "thinking", "thinking": ""}}, 0),
    frame("content-delta", {"content": {"thinking": "Hm."}}, 0),
    {"type": "content-end", "index": 0},
    frame("content-start", {"content": {"type": "text", "text": ""}}, 1),
    frame("content-delta", {"content": {"text": "Y"}}, 1),
    frame(
        "content-delta",
        {"content": {"text": "es."}},
        1,
        logprobs={"text": "es.", "token_ids": [7, 8], "logprobs": [-0.25, -0.5]},
    ),
    frame("citation-start", {"citations": {**CITATION, "content_index": 1}}, 0),
    {"type": "citation-end", "index": 0},
    {"type": "content-end", "index": 1},
    frame(
        "tool-call-start",
        {"tool_calls": {"id": "t", "type": "function", "function": {"name": "look", "arguments": ""}}},
        0,
    ),
    frame("tool-call-delta", {"tool_calls": {"function": {"arguments": '{"at":'}}}, 0),
    frame("tool-call-delta", {"tool_calls": {"function": {"arguments": "1}"}}}, 0),
    {"type": "tool-call-end", "index": 0},
    END,
]


def read(*frames: Any) -> Completion:
    """Return the answer in *frames*."""
    return fold(laws.decoded(CODEC, REQUEST, [body(frames)]))


def test_what_the_frames_mean() -> None:
    """A plan, thoughts, text with its sources, calls and counts of a stream make one answer."""
    answer = read(*STREAM)
    sources = {key: CITATION[key] for key in ("text", "sources", "type")}
    cited = Annotation(kind="citation", start=0, end=3, extra={"cohere": sources})
    assert answer.choices[0].message.parts == (
        Reasoning("I will look.", extra=PLAN),
        Reasoning("Hm."),
        Text("Yes.", (cited,), ({"token": "es.", "logprob": -0.75},)),
        ToolCall("t", "look", '{"at":1}'),
    )
    assert (answer.id, answer.choices[0].finish_reason, answer.choices[0].native_finish_reason) == (
        "c-1",
        "stop",
        "COMPLETE",
    )
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 4)
    assert answer.usage.extra == {"cohere": {"tokens": USAGE["tokens"]}}


def test_every_frame_is_given_back() -> None:
    """The documented frames are written as they were read; `[DONE]`, which some servers add, means nothing."""
    laws.check_stream_json(CODEC, REQUEST, body(STREAM) + b"data: [DONE]\n\n")


def test_every_split_and_every_cut() -> None:
    """A stream may be split at any byte; cut before the end of its last frame, it is an error and has no finish."""
    data = body([STREAM[0], STREAM[1], STREAM[6], STREAM[7], *STREAM[11:14], END]).rstrip()
    laws.check_every_split(CODEC, REQUEST, data)
    for cut in range(len(data)):
        decoder = CODEC.decoder(REQUEST, laws.SSE)
        received = [*decoder.feed(data[:cut])]
        with pytest.raises(StreamError):
            received += decoder.close()
        assert not any(isinstance(event, Finish) for event in received)


def test_citations_of_thoughts_stay_with_the_message() -> None:
    """A source of a text is its annotation, with the address of a document; one of a thought stays a field."""
    document = {"type": "document", "id": "d", "document": {"url": "https://x.org", "title": "X", "text": "…"}}
    source = {
        "finish_reason": "COMPLETE",
        "message": {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}],
            "citations": [
                {**CITATION, "content_index": 0, "type": "THINKING_CONTENT"},
                {**CITATION, "content_index": 1, "sources": [{"type": "tool"}, document]},
            ],
        },
    }
    message = fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON)).choices[0].message
    (cited,) = message.annotations or ()
    assert (cited.kind, cited.url, cited.title) == ("url_citation", "https://x.org", "X")
    assert message.extra == {"cohere": {"citations": source["message"]["citations"][:1]}}
    laws.check_answer_json(CODEC, REQUEST, source)
    thought = frame("citation-start", {"citations": {**CITATION, "content_index": 0}}, 0)
    laws.check_stream_json(CODEC, REQUEST, body([*STREAM[:5], thought, END]))


def test_unknown_reasons_and_events_are_kept() -> None:
    """A reason that nobody knows is not taken for `stop`, and a frame that nobody knows is passed on."""
    events = laws.decoded(
        CODEC, REQUEST, [body([{"type": "fresh", "x": 1}, {**END, "delta": {"finish_reason": "NEW"}}])]
    )
    choice = fold(events).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == ("other", "NEW")
    assert [event.name for event in events if isinstance(event, UnknownEvent)] == ["fresh"]
    for native, reason in (("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("TIMEOUT", "error")):
        assert read({**END, "delta": {"finish_reason": native}}).choices[0].finish_reason == reason


def test_odd_indexes() -> None:
    """A delta without a start begins its content; a call that begins again under the same index is another call."""
    call = STREAM[12]
    parts = read(frame("content-delta", {"content": {"text": "a"}}, 5), call, call, END).choices[0].message.parts
    assert parts == (Text("a"), ToolCall("t", "look", ""), ToolCall("t", "look", ""))


def test_usage_without_billed_units() -> None:
    """Where nothing is billed the counts are the buckets; floats, which the vendor's types have, are counts too."""
    usage = read(
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 9.0}}}}
    ).usage
    assert usage is not None
    assert (usage.input_uncached, usage.output_visible, usage.extra) == (9, None, None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "single piece"),
        (b"data: {\n\n", "not a JSON object"),
        (b"data: [1]\n\n", "not a JSON object"),
        (b"data: \xff\xfe\n\n", "not a JSON object"),
        (body([STREAM[0]]), "no finish reason"),
        (body([frame("content-start", {"content": 1}, 0)]), r"message.content must be an object"),
        (body([{"type": "content-delta", "index": 0, "delta": 1}]), r"\$.delta must be an object"),
        (body([frame("tool-plan-delta", {})]), "tool_plan must be a string"),
        (body([frame("tool-call-start", {"tool_calls": {"function": {"name": "f"}}}, 0)]), "id must be a string"),
        (body([STREAM[13]]), "never began"),
        (body([{"type": "message-end", "delta": {"finish_reason": 1}}]), "finish_reason must be a string"),
        (body([{"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "no memory"}}]), "no memory"),
        (sse.encode(b'{"message":"broke"}', event="error"), "broke"),
        (body([{"type": "x", "x": 0}]).replace(b"0", b'{"a":' * 100_000 + b"0" + b"}" * 100_000), "not a JSON object"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_faults_of_streams(data: bytes, words: str) -> None:
    """Bytes that are no answer are a `StreamError` that says what is wrong."""
    with pytest.raises(StreamError, match=words):
        laws.decoded(CODEC, REQUEST, [data])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"message": "invalid token"}, "invalid token"),
        ({"id": "x"}, "no reason given"),
        ({"message": 1}, r"\$.message must be an object"),
        ({"message": {"content": [1]}}, r"content\[0\] must be an object"),
        ({"message": {"citations": [1]}}, r"citations\[0\] must be an object"),
        ({"message": {"tool_calls": [{}]}}, r"tool_calls\[0\].function must be an object"),
        ({"message": {}, "usage": 1}, r"\$.usage must be an object"),
    ],
)
def test_faults_of_whole_answers(source: Any, words: str) -> None:
    """A whole answer that is an error or of the wrong shape is a `StreamError`."""
    with pytest.raises(StreamError, match=words):
        laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON)


def test_what_is_written_of_another_format() -> None:
    """Pieces without numbers make contents that begin and end; what has no place is left out; counts come last."""
    events: list[Event] = [
        Start(id="c"),
        RefusalDelta("No"),
        TextDelta(".", logprobs=({"token": "a", "logprob": -1}, {"token": "b", "logprob": -2})),
        ReasoningDelta("Hm."),
        ToolCallDelta(call=0, name="f", arguments="{"),
        ToolCallDelta(call=1, id="b", name="g"),
        ToolCallDelta(call=0, arguments="}"),
        AudioDelta(transcript="said"),
        TextDelta("elsewhere", 1),
        PartAdded(Opaque("x", {})),
        PartAdded(Refusal("!")),
        MessageDelta(extra={"cohere": {"citations": [{**CITATION, "content_index": 1}]}}),
        UsageUpdate(Usage(input_uncached=1, input_cache_read=2)),
        Finish("length", 1),
        End("length", Usage(output_visible=3)),
        TextDelta("late"),
    ]
    frames = laws.frames(laws.encoded(CODEC, REQUEST, events))
    assert [one["type"].replace("content", "c").replace("tool-call", "t") for one in frames] == [
        *("message-start", "c-start", "c-delta", "c-delta", "c-delta", "c-end", "c-start", "c-delta", "c-end"),
        *("t-start", "t-delta", "t-end", "t-start", "t-delta", "t-end", "c-start", "c-delta", "c-delta"),
        *("citation-start", "citation-end", "c-end", "message-end"),
    ]
    answer = fold(laws.decoded(CODEC, REQUEST, [body(frames)]))
    assert answer.choices[0].message.parts == (
        Text("No.", logprobs=({"token": "a", "logprob": -1}, {"token": "b", "logprob": -2})),
        Reasoning("Hm."),
        ToolCall("call_0", "f", "{}"),
        ToolCall("b", "g", ""),
        Text("said!"),
    )
    assert frames[-1]["delta"]["finish_reason"] == "MAX_TOKENS"
    assert frames[-1]["delta"]["usage"]["billed_units"] == {"input_tokens": 3, "output_tokens": 3}


def test_an_answer_that_failed_is_no_finish() -> None:
    """A finish for an error is written as an error, which is read as one."""
    data = laws.encoded(CODEC, REQUEST, [TextDelta("a"), Finish("error", 0, "overloaded"), End()])
    with pytest.raises(StreamError, match="overloaded"):
        laws.decoded(CODEC, REQUEST, [data])


def test_errors() -> None:
    """Error replies are read into their class and written as Cohere's; one of its own is given back as it was."""
    error = CODEC.decode_error(404, {}, b'{"id":"r-1","message":"model not found"}')
    assert isinstance(error, NotFoundError)
    assert (error.request_id, "model not found" in str(error)) == ("r-1", True)
    assert json.decode(CODEC.encode_error(error).body) == {"id": "r-1", "message": "model not found"}
    token = CODEC.decode_error(498, {}, b'{"message":"invalid api token"}')
    assert (type(token), token.status, token.retryable) == (AuthenticationError, 498, False)
    assert "Bad gateway" in str(CODEC.decode_error(502, {}, b"<html><title>Bad gateway</title>"))
    reply = CODEC.encode_error(RateLimitError("Slow down.", status=429, retry_after=1.2))
    assert (reply.status, reply.headers["retry-after"], reply.body) == (429, "2", b'{"message":"Slow down."}')
    assert laws.frames(CODEC.encoder(REQUEST).error(APIError("Broke.")))[0]["delta"]["error"] == "Broke."


def test_models() -> None:
    """Names of models are read from Cohere's list."""
    assert CODEC.decode_models(b'{"models":[{"name":"command-a","endpoints":["chat"]}]}') == [("command-a", 0)]
