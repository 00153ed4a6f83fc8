"""OpenAI Chat Completions streams, written."""

from __future__ import annotations

from typing import Any

import pytest

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
    Wire,
    fold,
    unfold,
)
from antiphon.chat.messages import Audio, Image, Opaque, Reasoning, Text
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import RateLimitError, StreamError
from tests.vendors import openai
from tests.wire import laws
from tests.wire.openai_chunks import (
    CODEC,
    HELLO,
    NAME,
    REQUEST,
    answer,
    body,
    chunk,
    events,
    usage,
)


def written(*given_: Event, request: ChatRequest = REQUEST) -> list[Any]:
    """Return the frames that tell of events."""
    return laws.frames(laws.encoded(CODEC, request, given_))


def deltas(frames: list[Any]) -> list[Any]:
    """Return the first delta of each frame."""
    return [frame["choices"][0]["delta"] for frame in frames]


def test_each_choice_begins_with_its_role() -> None:
    """The first chunk of each choice has its role, whether the events say it or not."""
    frames = written(TextDelta("a"), TextDelta("b", 1), MessageDelta(choice=2, role="critic"), End("stop"))
    assert deltas(frames) == [
        {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "critic"}, {}, {}, {}
    ]  # fmt: skip
    assert [None, None, None, "stop", "stop", "stop"] == [frame["choices"][0]["finish_reason"] for frame in frames]


def test_chunks_say_who_answers() -> None:
    """Every chunk has the id, the model and the time of the answer, and the tag of its type."""
    frames = written(Start(id="i", model="m", created=7, provider="p"), TextDelta("a"), End("stop"))
    assert {("i", "m", 7, "chat.completion.chunk")} == {
        (frame["id"], frame["model"], frame["created"], frame["object"]) for frame in frames
    }


def test_end_finishes_what_has_not_finished() -> None:
    """`End` gives its reason to choices without one of their own, and to an answer without a single piece."""
    frames = written(TextDelta("a"), TextDelta("b", 1), Finish("length", 1), End("stop"))
    assert [(0, "stop")] == [(c["index"], c["finish_reason"]) for frame in frames[3:] for c in frame["choices"]]
    assert [("stop", {"role": "assistant"})] == [
        (frame["choices"][0]["finish_reason"], frame["choices"][0]["delta"]) for frame in written(End("stop"))
    ]


def test_an_answer_that_did_not_end_does_not_seem_to() -> None:
    """Without a reason from anybody no finish is made up, so that the reader sees a stream that was cut."""
    with pytest.raises(StreamError):
        laws.decoded(CODEC, REQUEST, [laws.encoded(CODEC, REQUEST, [TextDelta("a"), End()])])


@pytest.mark.parametrize("end", [[Finish("error", 0, "MALFORMED"), End()], [End("error")]])
def test_a_failed_answer_is_an_error(end: list[Event]) -> None:
    """OpenAI has no finish reason for failure: a frame with an error ends the stream, without `[DONE]`."""
    data = laws.encoded(CODEC, REQUEST, [TextDelta("a"), *end])
    assert b"[DONE]" not in data
    with pytest.raises(StreamError, match="ended its answer with an error"):
        laws.decoded(CODEC, REQUEST, [data])


def test_error_frame() -> None:
    """A fault after the status line is told in a frame that both clients take for an error."""
    encoder = CODEC.encoder(REQUEST)
    frame = encoder.error(RateLimitError("Slow.", code="rate", type="limit", param="p", status=429))
    assert laws.frames(frame) == [{"error": {"message": "Slow.", "type": "limit", "param": "p", "code": "rate"}}]
    assert [] == list(encoder.feed(End()))


@pytest.mark.parametrize("asked", [True, False, None])
def test_usage_is_told_to_who_asked(asked: bool | None) -> None:
    """Usage comes in a last chunk of its own without choices, once, and only if it was asked for."""
    given_: list[Event] = [TextDelta("a"), UsageUpdate(Usage(input_uncached=1, output_visible=1)), Finish("stop")]
    given_.append(End(usage=Usage(input_uncached=1, output_visible=2)))
    frames = written(*given_, request=REQUEST.but(include_usage=asked))
    told = [frame["usage"] for frame in frames if "usage" in frame]
    assert told == ([{"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}] if asked else [])
    assert not asked or frames[-1]["choices"] == []


def test_usage_that_came_is_not_told_again() -> None:
    """Usage that came in a frame of this format goes out in that frame alone."""
    chunks = (*HELLO[:3], {**HELLO[3], "usage": usage(1, 2)})
    assert laws.frames(body(*chunks)) == written(*events(*chunks))


def test_parts_that_came_whole() -> None:
    """Text, thoughts, speech and blocks of this format go out as deltas; other parts have no place in a chunk."""
    spoken = Audio(id="a", data="QQ==", transcript="t", expires_at=1, extra={NAME: {"x": 1}})
    block = Opaque(NAME, {"type": "reference"})
    others = (Image(url="https://a"), Opaque("gemini", {}))
    parts = (Text("t"), Reasoning("r"), spoken, block, *others)
    frames = written(MessageDelta(role="assistant"), *(PartAdded(part) for part in parts), End("stop"))
    assert deltas(frames)[1:5] == [
        {"content": "t"},
        {"reasoning_content": "r"},
        {"audio": {"id": "a", "data": "QQ==", "transcript": "t", "expires_at": 1, "x": 1}},
        {"content": [{"type": "reference"}]},
    ]
    assert deltas(frames)[5:] == [{}, {}, {}]


def test_unknown_events_of_other_formats() -> None:
    """What only another format knows does not go out."""
    assert [{"ping": 1}] == written(UnknownEvent(NAME, {"ping": 1}), UnknownEvent("anthropic", {"ping": 2}))


def test_facts_of_the_answer_are_not_lost() -> None:
    """Fields of this format that came without a frame, as from a whole answer, go out with the next chunk."""
    frames = written(Start(extra={NAME: {"system_fingerprint": "fp"}}), TextDelta("a"), TextDelta("b"), End("stop"))
    assert ["fp", None, None] == [frame.get("system_fingerprint") for frame in frames]


def test_events_of_one_frame_stay_together() -> None:
    """Events that came in one frame go out in one frame, however it is split; what is held goes out at the end."""
    both = chunk(role="assistant", content="a")
    assert [both, HELLO[3]] == written(*events(both, HELLO[3]))
    more = Wire(NAME, more=True)
    frames = written(TextDelta("a", wire=more), Finish("stop", wire=more), End())
    assert [("a", "stop")] == [(f["choices"][0]["delta"]["content"], f["choices"][0]["finish_reason"]) for f in frames]


def test_changed_events_are_not_changed_back() -> None:
    """An event that somebody changed on its way goes out as changed, with what its frame had beside it."""
    found = events(*({**one, "service_tier": "default", "usage": None} for one in HELLO))
    changed = [
        TextDelta("HEL", event.choice, wire=event.wire)
        if isinstance(event, TextDelta) and event.text == "Hel"
        else event
        for event in found
    ]
    frames = written(*changed)
    assert [("", None), ("HEL", None), ("lo", None)] == [
        (frame["choices"][0]["delta"]["content"], frame["usage"]) for frame in frames[:3]
    ]


def test_a_whole_answer_as_a_stream() -> None:
    """A whole answer can be streamed: the reader gets the same answer."""
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    completion = answer(
        chunk(reasoning_content="h"),
        chunk(content="a"),
        chunk(tool_calls=[call]),
        {**chunk(finish_reason="stop"), "usage": usage(1, 2)},
    )
    again = laws.decoded(CODEC, REQUEST, [laws.encoded(CODEC, REQUEST, unfold(completion))])
    assert completion == fold(again)


class Response:
    """As much of an HTTP response as the official client's stream looks at."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.request = None

    def iter_bytes(self) -> list[bytes]:
        """Give the body in pieces."""
        return [self.data[place : place + 7] for place in range(0, len(self.data), 7)]

    def close(self) -> None:
        """Do nothing."""


def read_by_the_client(data: bytes) -> list[openai.types.chat.ChatCompletionChunk]:
    """Return what the official client makes of a stream."""
    with openai.OpenAI(api_key="none", base_url="http://127.0.0.1") as client:
        return [*openai.Stream(cast_to=openai.types.chat.ChatCompletionChunk, response=Response(data), client=client)]  # type: ignore[arg-type]


def test_the_official_client_reads_it() -> None:
    """The official client reads the whole stream, and every chunk of it is valid by its own types."""
    call = ToolCallDelta(call=0, id="a", name="f", arguments='{"x": "é\u2028"}')
    given_: list[Event] = [
        Start(id="i", model="m", created=7),
        ReasoningDelta("hm"),
        TextDelta("Hé", logprobs=({"token": "Hé", "logprob": -0.5, "bytes": [72], "top_logprobs": []},)),
        RefusalDelta("no", 1),
        AudioDelta(choice=1, id="au", data="QQ=="),
        call,
        ToolCallDelta(call=0, arguments=""),
        Finish("tool_calls"),
        End("stop", Usage(input_uncached=1, input_cache_read=2, output_visible=3, output_reasoning=4)),
    ]
    data = laws.encoded(CODEC, REQUEST, given_)
    chunks = read_by_the_client(data)
    assert len(chunks) == len(laws.frames(data))
    for one, frame in zip(chunks, laws.frames(data), strict=True):
        openai.types.chat.ChatCompletionChunk.model_validate(frame)
        assert one.model_dump(exclude_unset=True) == frame
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10


def test_the_official_client_sees_an_error() -> None:
    """The official client raises what a frame with an error says."""
    encoder = CODEC.encoder(REQUEST)
    data = b"".join(encoder.feed(TextDelta("a"))) + encoder.error(StreamError("The upstream was lost."))
    with pytest.raises(openai.APIError, match="The upstream was lost"):
        read_by_the_client(data)
