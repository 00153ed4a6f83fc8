"""Streams and answers of Gemini's: what each kind of frame becomes, and every fault by name."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    Finish,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
    fold,
)
from antiphon.chat.messages import Annotation, Audio, Image, Message, Opaque, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, AuthenticationError, RateLimitError, ResponseTooLargeError, StreamError
from antiphon.formats import json
from antiphon.formats.framing import sse
from antiphon.formats.gemini import Gemini
from tests.wire import laws

CODEC = Gemini()
REQUEST = ChatRequest("gemini", (), stream=True)


def frame(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a frame of the only candidate."""
    return {"candidates": [{"content": {"parts": [*parts], "role": "model"}, "index": 0, **more}], "responseId": "r"}


def body(*frames: Any) -> bytes:
    """Return *frames* as server-sent events."""
    return b"".join(sse.encode(json.encode(value)) for value in frames)


def read(*frames: Any) -> Completion:
    """Return the answer of a stream, whose frames must come back the same."""
    laws.check_stream_json(CODEC, REQUEST, body(*frames))
    return fold(laws.decoded(CODEC, REQUEST, [body(*frames)]))


def whole(source: dict[str, Any]) -> Completion:
    """Return a whole answer, which must come back the same."""
    laws.check_answer_json(CODEC, REQUEST, source)
    return fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON))


def written(*events: Event) -> list[Any]:
    """Return the frames of *events* of no format."""
    return laws.frames(laws.encoded(CODEC, REQUEST, events))


LAST = frame(finishReason="STOP")


# What is read


def test_signed_text_stays_alone() -> None:
    """A text with a signature is neither joined with the one before it nor with the one after."""
    parts = read(frame({"text": "a"}), frame({"text": "b"}), frame({"text": "", "thoughtSignature": "c2ln"}),
                 frame({"text": "c"}), LAST).choices[0].message.parts  # fmt: skip
    assert parts == (Text("ab"), Text("", extra={"gemini": {"thoughtSignature": "c2ln"}}), Text("c"))


def test_calls_without_ids() -> None:
    """A call without an id gets one, unique by the answer's own, and goes back without it, its result as well."""
    calls: list[Any] = [{"functionCall": {"name": name, "args": {}}} for name in ("f", "g")]
    answer = read(frame(*calls), LAST).choices[0]
    assert [call.id for call in answer.message.tool_calls or ()] == ["r_1", "r_2"]
    assert (answer.finish_reason, answer.native_finish_reason) == ("tool_calls", "STOP")
    request = ChatRequest("gemini", (answer.message, Message.tool("r_1", "1"), Message.tool("r_2", "2")))
    asked, told = json.decode(CODEC.encode_request(request).body)["contents"]
    assert asked["parts"] == calls
    assert [part["functionResponse"] for part in told["parts"]] == [
        {"name": "f", "response": {"output": "1"}},
        {"name": "g", "response": {"output": "2"}},
    ]


def test_a_call_in_pieces() -> None:
    """A call that comes in pieces is told whole, with texts joined and places made; its frames pass at once."""

    def piece(*changes: dict[str, Any], more: bool = True, **fields: Any) -> dict[str, Any]:
        call = {
            **fields,
            **({"partialArgs": [*changes]} if changes else {}),
            **({"willContinue": True} if more else {}),
        }
        return frame({"functionCall": call})

    frames = [
        piece(name="f", id="i"),
        piece({"jsonPath": "$.city", "stringValue": "Par", "willContinue": True}),
        piece({"jsonPath": "$.city", "stringValue": "is"}, {"jsonPath": "$.at[1].x", "numberValue": 2}),
        piece({"jsonPath": "$['a b']", "boolValue": True}, {"jsonPath": "$.no", "nullValue": "NULL_VALUE"}),
        piece(more=False),
    ]
    assert read(*frames, LAST).choices[0].message.parts == (
        ToolCall("i", "f", '{"city":"Paris","at":[null,{"x":2}],"a b":true,"no":null}'),
    )
    decoder = CODEC.decoder(REQUEST, laws.SSE)
    assert [type(event) for event in decoder.feed(body(frames[0], frames[1]))][1:] == [UnknownEvent] * 2
    with pytest.raises(StreamError, match="cannot be"):
        read(piece({"jsonPath": "$[0]", "stringValue": "x"}, name="f"))


def test_candidates_side_by_side() -> None:
    """Several candidates grow each by itself; all must end."""

    def both(*more: dict[str, Any]) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": [{"text": "x"}]}, **fields} for fields in more]}

    answer = read(both({}, {"index": 1}), both({"finishReason": "STOP"}, {"index": 1, "finishReason": "MAX_TOKENS"}))
    assert [(c.index, c.message.content, c.finish_reason) for c in answer.choices] == [
        (0, "xx", "stop"),
        (1, "xx", "length"),
    ]
    with pytest.raises(StreamError, match="no finish reason"):
        read(both({}, {"index": 1}), both({"finishReason": "STOP"}))  # fmt: skip


def test_blocked_prompts() -> None:
    """A prompt that is blocked is an answer without content, whose reason is the provider's own word."""
    source = {
        "promptFeedback": {"blockReason": "JAILBREAK"},
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3},
    }
    for answer in (whole(source), read(source)):
        choice = answer.choices[0]
        assert (choice.finish_reason, choice.native_finish_reason, choice.message.parts) == (
            "content_filter",
            "JAILBREAK",
            (),
        )


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("RECITATION", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("MISSING_THOUGHT_SIGNATURE", "error"),
        ("A_FRESH_ONE", "other"),
        ("OTHER", "other"),
    ],
)
def test_finish_reasons(native: str, reason: str) -> None:
    """Each reason has its canonical one and is kept beside it; an unknown one is never `stop`."""
    choice = read(frame({"text": "x"}, finishReason=native)).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (reason, native)


def test_grounding() -> None:
    """Sources and the stretches they support are annotations of the text; the rest of the metadata is kept as it is."""
    metadata = {
        "groundingChunks": [{"web": {"uri": "https://x.org", "title": "X"}}, {"retrievedContext": {"text": "t"}}],
        "groundingSupports": [
            {"segment": {"endIndex": 3, "text": "Yes"}, "groundingChunkIndices": [0], "partIndex": 1}
        ],
        "webSearchQueries": ["x?"],
    }
    end = frame({"text": ""}, finishReason="STOP", groundingMetadata=metadata)
    for choice in (whole(frame({"text": "Yes."}, finishReason="STOP", groundingMetadata=metadata)).choices[0],
                   read(frame({"text": "Yes."}), end).choices[0]):  # fmt: skip
        assert choice.message.annotations is not None
        source, loose = choice.message.annotations
        assert source == Annotation(url="https://x.org", title="X", start=0, end=3)
        assert loose == Annotation(kind="retrievedContext", extra={"gemini": {"text": "t"}})
        assert choice.extra == {"gemini": {"groundingMetadata": {"webSearchQueries": ["x?"]}}}


def test_logprobs() -> None:
    """Log-probabilities of tokens and of their alternatives stand beside the text."""
    result = {
        "chosenCandidates": [{"token": "Yes", "tokenId": 7, "logProbability": -0.1}],
        "topCandidates": [{"candidates": [{"token": "No", "tokenId": 8, "logProbability": -2.5}]}],
    }
    (part,) = whole(frame({"text": "Yes"}, finishReason="STOP", logprobsResult=result)).choices[0].message.parts
    assert isinstance(part, Text)
    assert part.logprobs == (
        {"token": "Yes", "logprob": -0.1, "top_logprobs": [{"token": "No", "logprob": -2.5}]},
    )  # fmt: skip


def test_media_and_unknown_parts() -> None:
    """Pictures come whole; what nobody else knows is carried as it is, whole and streamed."""
    picture, code = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, {"executableCode": {"code": "1"}}
    odd = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thought": True}
    expected = (Image(data="AAAA", media_type="image/png"), Opaque("gemini", code), Opaque("gemini", odd))
    assert read(frame(picture, code, odd), LAST).choices[0].message.parts == expected
    assert whole(frame(picture, code, odd, finishReason="STOP")).choices[0].message.parts == expected


def test_usage() -> None:
    """Cached tokens are part of the prompt, tokens of the provider's own tools are not; thoughts stand apart."""
    counts = {"promptTokenCount": 10, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 5, "totalTokenCount": 21,
              "candidatesTokenCount": 2, "thoughtsTokenCount": 4,
              "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}]}  # fmt: skip
    usage = read({**LAST, "usageMetadata": counts}).usage
    assert usage is not None
    assert (usage.input_uncached, usage.input_cache_read, usage.output_visible, usage.output_reasoning) == (11, 4, 2, 4)
    assert (usage.input_audio, usage.total_tokens) == (3, 21)


# Faults


@pytest.mark.parametrize(
    "data",
    [
        b"data: {nope\n\n",
        b"data: [1]\n\n",
        b'data: {"candidates": {}}\n\n',
        b'data: {"candidates": [{"content": {"parts": [{"text": 1}]}}]}\n\n',
        b'data: {"candidates": [{"content": {"parts": [{"functionCall": {"name": 1}}]}}]}\n\n',
        b'data: {"candidates": [{"index": "0"}]}\n\n',
        b'data: {"candidates": [{"content": {"parts": [{"text": "\xff"}]}}]}\n\n',
        b'data: {"a":' + b"[" * 100_000 + b"\n\n",
        b"[1, 2]",
        b'[{"candidates": [{"content": {"parts": [{"text": "x"}]}}',
        b"[",
        b"",
        b"{}",
        b'{"candidates": []}',
        b'{"candidates": [{"content": {"parts": [{}], "role": "nobody"}}]}',
    ],
)
def test_malformed_answers(data: bytes) -> None:
    """Frames that are no JSON, not UTF-8 or of the wrong shape, and answers of nothing, are errors of the stream."""
    with pytest.raises(StreamError):
        laws.decoded(CODEC, REQUEST, [data])


def test_an_error_inside_a_stream() -> None:
    """An error after the status line is an error with its words, its name and its hint; what came before was told."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}]
    fault = {"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE", "details": details}}
    decoder = CODEC.decoder(REQUEST, laws.SSE)
    events = iter(decoder.feed(body(frame({"text": "x"}), fault)))
    next(events)
    assert next(events) != Finish("stop")
    with pytest.raises(StreamError, match="Overloaded") as caught:
        next(events)
    error = caught.value
    assert (error.status, error.type, error.retryable, error.retry_after) == (503, "UNAVAILABLE", True, 1.5)
    with pytest.raises(StreamError, match="Overloaded"):
        laws.decoded(CODEC, REQUEST, [json.encode([fault])], laws.JSON)


@pytest.mark.parametrize("indent", [-1, 2])
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_bare_error_inside_a_stream(indent: int, end: bytes) -> None:
    """An error that comes as a JSON object without `data:`, on one line or on several, is told like any other."""
    fault = {"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}}
    bare = msgspec.json.format(json.encode(fault), indent=indent).replace(b"\n", b"\r\n")
    data = body(frame({"text": "x"})) + bare + end
    for parts in ([data], [data[place : place + 1] for place in range(len(data))]):
        decoder = CODEC.decoder(REQUEST, laws.SSE)
        told: list[Event] = []
        with pytest.raises(StreamError, match="Overloaded") as caught:
            told.extend(
                event for feed in (*(partial(decoder.feed, part) for part in parts), decoder.close) for event in feed()
            )
        assert (caught.value.status, caught.value.type, caught.value.retryable) == (503, "UNAVAILABLE", True)
        assert [event.text for event in told if isinstance(event, TextDelta)] == ["x"]


def test_a_bare_object_ends_as_an_event_does() -> None:
    """After a blank line, an event that follows a bare object is read as ever."""
    first, last = frame({"text": "x"}), frame({"text": "y"}, finishReason="STOP")
    data = json.encode(first) + b"\n\n" + body(last)
    completion = fold(laws.decoded(CODEC, REQUEST, [b": begins\n\n" + data]))
    assert completion.choices[0].message.content == "xy"


def test_a_cut_stream_tells_its_usage() -> None:
    """What a stream that breaks has cost so far is told before the error."""
    decoder = CODEC.decoder(REQUEST, laws.SSE)
    received = [*decoder.feed(body({**frame({"text": "x"}), "usageMetadata": {"promptTokenCount": 3}}))]
    assert not any(isinstance(event, UsageUpdate) for event in received)
    events = iter(decoder.close())
    update = next(events)
    assert isinstance(update, UsageUpdate)
    assert update.usage.prompt_tokens == 3
    with pytest.raises(StreamError):
        next(events)


def feed_without_end(start: bytes, content_type: str) -> None:
    """Feed a frame that has a beginning and no end."""
    decoder = CODEC.decoder(REQUEST, content_type)
    for data in (start, *[b"x" * 2**20] * 70):
        list(decoder.feed(data))


@pytest.mark.parametrize(("start", "content_type"), [(b'data: {"', laws.SSE), (b'[{"', laws.JSON), (b'{"', laws.JSON)])
def test_over_long_frames(start: bytes, content_type: str) -> None:
    """A frame without an end is given up at a bound, whatever the kind of answer."""
    with pytest.raises(ResponseTooLargeError):
        feed_without_end(start, content_type)


# Errors


def test_a_bad_key() -> None:
    """Google tells of a bad key with status 400; it is an error of authentication, and goes on as it came."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    source = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": details}}
    error = CODEC.decode_error(400, {}, json.encode(source))
    assert (type(error), error.status, error.code) == (AuthenticationError, 400, "API_KEY_INVALID")
    assert json.decode(CODEC.encode_error(error).body) == source


def test_errors_of_others() -> None:
    """An error of another format has Google's shape, name and hint; one in an array is read like any other."""
    reply = CODEC.encode_error(RateLimitError("Slow down.", status=429, retry_after=6.5, body={"error": {"code": "x"}}))
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")
    error = CODEC.decode_error(reply.status, {}, b"[" + reply.body + b"]")
    assert (type(error), error.type, error.retry_after) == (RateLimitError, "RESOURCE_EXHAUSTED", 6.5)
    assert (
        json.decode(CODEC.encode_error(APIError("Teapot.", status=418)).body)["error"]["status"] == "INVALID_ARGUMENT"
    )
    assert "Bad gateway" in str(CODEC.decode_error(502, {}, b"<html><title>Bad gateway</title>"))


# What is written


def test_what_others_tell() -> None:
    """Text, thoughts, refusals, sounds and pictures are written as they come; calls when something else follows."""
    frames = written(
        TextDelta("", part=0),
        TextDelta("a", part=0),
        ReasoningDelta("b", signature="of another"),
        ToolCallDelta(call=0, id="i", name="f", arguments='{"x":'),
        ToolCallDelta(call=0, arguments="1}"),
        RefusalDelta("c"),
        AudioDelta(data="AAAA"),
        AudioDelta(transcript="d"),
        PartAdded(Audio(data="AAAA", media_type="audio/wav")),
        PartAdded(Opaque("anthropic", {})),
        End("length", Usage(input_uncached=1, output_visible=2)),
    )
    sound = {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}
    assert [value["candidates"][0].get("content", {}).get("parts") for value in frames] == [
        [{"text": "a"}],
        [{"text": "b", "thought": True}],
        [{"functionCall": {"id": "i", "name": "f", "args": {"x": 1}}}, {"text": "c"}],
        [sound],
        [{"text": "d"}],
        [sound],
        None,
    ]
    assert frames[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert frames[-1]["usageMetadata"] == {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}


def test_an_end_without_a_reason_of_its_own() -> None:
    """An answer of nothing is one candidate that stopped; one that failed is an error, not a finish."""
    assert written(End())[0]["candidates"] == [{"finishReason": "STOP", "index": 0}]
    assert "error" in written(Finish("error"), End())[-1]
    assert len(written(Finish("error"), End())) == 1
    choice = Choice(0, Message.assistant("x"), "other", "network_error")
    assert (
        json.decode(CODEC.encode_response(Completion(choices=(choice,))))["candidates"][0]["finishReason"]
        == "network_error"
    )
