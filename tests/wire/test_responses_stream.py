"""OpenAI Responses streams, by example: what becomes of frames, what is an error, what is written for other formats."""

from __future__ import annotations

from collections.abc import Iterator
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
from antiphon.chat.messages import Annotation, Image, Message, Opaque, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, RateLimitError, ResponseTooLargeError, StreamError
from antiphon.formats import json
from antiphon.formats.codec import Decoder
from antiphon.formats.framing import sse
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses
from tests.wire import laws
from tests.wire.responses_values import plain

CODEC = Responses()
REQUEST = ChatRequest("m", (), stream=True)
DONE: dict[str, Any] = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}}


def body(*frames: dict[str, Any]) -> bytes:
    """Return *frames* as a server sends them."""
    return b"".join(sse.encode(json.encode(frame), event=frame.get("type")) for frame in frames)


def decoded(*frames: dict[str, Any]) -> list[Event]:
    """Return the events of *frames*, but for those that stand for whole frames."""
    events = laws.decoded(CODEC, REQUEST, [body(*frames)])
    return [event for event in events if not isinstance(event, UnknownEvent)]


def answer(*frames: dict[str, Any]) -> Completion:
    """Return the answer that *frames* make."""
    return plain(fold(decoded(*frames)))


def written(*events: Event) -> list[dict[str, Any]]:
    """Return the frames for *events*."""
    return laws.frames(laws.encoded(CODEC, REQUEST, events))


def everything(decoder: Decoder, *pieces: bytes) -> Iterator[Event]:
    """Give the events of *pieces*, and those of their end."""
    for piece in pieces:
        yield from decoder.feed(piece)
    yield from decoder.close()


def test_thoughts_in_paragraphs() -> None:
    """The paragraphs of a summary are told with a blank line between them, as a whole answer has them."""
    where = {"item_id": "rs", "output_index": 0}
    summary = [{"type": "summary_text", "text": text} for text in ("One.", "Two.")]
    frames: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs"}}
    ]
    for place, part in enumerate(summary):
        here = {**where, "summary_index": place}
        frames.append({"type": "response.reasoning_summary_part.added", **here, "part": part})
        frames.append({"type": "response.reasoning_summary_text.delta", **here, "delta": part["text"]})
    item = {"type": "reasoning", "id": "rs", "summary": summary, "encrypted_content": "gAAA"}
    frames.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    events = decoded(*frames, DONE)
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["", "One.", "\n\n", "Two.", ""]
    assert plain(fold(events)).choices[0].message.parts == (Reasoning("One.\n\nTwo.", "gAAA"),)


def test_parallel_calls() -> None:
    """Pieces of calls find their call by the place of its item; its id is the one to answer with."""
    frames: list[dict[str, Any]] = [
        {
            "type": "response.output_item.added",
            "output_index": place,
            "item": {"type": "function_call", "id": f"fc_{place}", "call_id": f"call_{place}", "name": name},
        }
        for place, name in enumerate("fg")
    ]
    for place, delta in ((0, '{"x":'), (1, "{"), (0, "1}"), (1, "}")):
        frames.append({"type": "response.function_call_arguments.delta", "output_index": place, "delta": delta})
    choice = answer(*frames, DONE).choices[0]
    assert choice.message.parts == (ToolCall("call_0", "f", '{"x":1}'), ToolCall("call_1", "g", "{}"))
    assert choice.finish_reason == "tool_calls"


def test_an_item_that_is_announced_twice() -> None:
    """A second start of a call tells nothing new."""
    item = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f"}
    added = {"type": "response.output_item.added", "output_index": 0, "item": item}
    thought = {"type": "response.output_item.added", "output_index": 1, "item": {"type": "reasoning"}}
    assert answer(added, added, thought, thought, DONE).choices[0].message.parts == (
        ToolCall("c", "f", ""),
        Reasoning(""),
    )


def test_places_that_are_left_out() -> None:
    """Where a server leaves out the place of an item, its id tells it, or else the newest item is meant."""
    item = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f"}
    frames = [
        {"type": "response.output_item.added", "output_index": 3, "item": item},
        {"type": "response.function_call_arguments.delta", "item_id": "fc", "delta": "{"},
        {"type": "response.function_call_arguments.delta", "delta": "}"},
    ]
    assert answer(*frames, DONE).choices[0].message.parts == (ToolCall("c", "f", "{}"),)


def test_deltas_that_were_not_announced() -> None:
    """Text, refusals and thoughts may begin with their first piece."""
    frames: list[dict[str, Any]] = [
        {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "Hm."},
        {"type": "response.output_text.delta", "output_index": 1, "delta": "Hi."},
        {"type": "response.refusal.delta", "output_index": 2, "content_index": 0, "delta": "No."},
    ]
    assert answer(*frames, DONE).choices[0].message.parts == (Reasoning("Hm."), Text("Hi."), Refusal("No."))


def test_annotations_and_logprobs() -> None:
    """Sources come with the end of their item; log-probabilities with the pieces, and no token twice."""
    token, other = {"token": "H", "logprob": -1.0}, {"token": "i", "logprob": -2.0}
    source = {"type": "url_citation", "url": "u", "start_index": 0, "end_index": 1}
    piece = {"type": "output_text", "text": "Hi", "annotations": [source], "logprobs": [token, other]}
    item = {"type": "message", "role": "assistant", "content": [piece]}
    where = {"output_index": 0, "content_index": 0}
    frames = [
        {"type": "response.output_text.delta", **where, "delta": "H", "logprobs": [token]},
        {"type": "response.output_text.annotation.added", **where, "annotation": source},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    (part,) = answer(*frames, DONE).choices[0].message.parts
    assert part == Text("Hi", (Annotation(url="u", start=0, end=1),), (token, other))


def test_an_item_that_is_told_otherwise_at_its_end() -> None:
    """Where the end of an item contradicts its pieces, what was told stays and nothing is told twice."""
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Bye, then."}]}
    frames = [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hi."},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    assert answer(*frames, DONE).content == "Hi."


def test_server_tools_become_parts() -> None:
    """An item that only this format knows is one part, whole, at its end."""
    item = {"type": "web_search_call", "id": "ws", "status": "completed"}
    frames = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}},
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    assert answer(*frames, DONE).choices[0].message.parts == (Opaque(CODEC.name, item),)


def test_unknown_events_are_kept() -> None:
    """A frame of a type that nobody knows yet is given on to the same format, and seen by no other."""
    frames = [{"type": "response.fresh", "x": [1]}, {"x": 2}, DONE]
    events = laws.decoded(CODEC, REQUEST, [body(*frames)])
    assert laws.frames(laws.encoded(CODEC, REQUEST, events)) == frames
    assert b"fresh" not in laws.encoded(OpenAIChat(), REQUEST, events)


def test_the_type_may_stand_in_the_event_name_alone() -> None:
    """A frame without a type is what its event is called."""
    frames = body({"type": "response.created", "response": {"id": "r", "model": "m"}}, DONE)
    named = frames.replace(b'"type":"response.completed",', b"").replace(b'"type":"response.created",', b"")
    assert fold(laws.decoded(CODEC, REQUEST, [named])).choices[0].finish_reason == "stop"


def test_a_stream_that_ends_as_chat_completions_do() -> None:
    """`[DONE]` after the last frame says nothing; without that frame it is no end."""
    done = b"data: [DONE]\n\n"
    assert fold(laws.decoded(CODEC, REQUEST, [body(DONE) + done])).id == "r"
    with pytest.raises(StreamError, match="without a single piece"):
        laws.decoded(CODEC, REQUEST, [done])


def test_the_end_is_known_before_the_body_ends() -> None:
    """With its last frame an answer is over, even where the server keeps the connection open."""
    decoder = CODEC.decoder(REQUEST, laws.SSE)
    assert len([*decoder.feed(body({"type": "response.created", "response": {"id": "r"}}))]) == 2
    assert not decoder.over
    assert isinstance([*decoder.feed(body(DONE))][-1], UnknownEvent)
    assert decoder.over


def test_a_second_end_is_passed_over() -> None:
    """An answer ends once."""
    events = decoded(DONE, DONE)
    assert len([event for event in events if isinstance(event, Finish)]) == 1


FAULTS: list[tuple[bytes, str]] = [
    (b"data: {\n\n", "not a JSON object"),
    (b"data: [1]\n\n", "not a JSON object"),
    (b'data: {"type":"\xff"}\n\n', "not a JSON object"),
    (body({"type": "response.output_item.added", "item": 7}), r"\$.item must be an object"),
    (body({"type": "response.output_item.added", "item": {"type": "function_call"}}), r"\$.item.call_id"),
    (body({"type": "response.content_part.added"}), r"\$.part must be an object"),
    (body({"type": "response.output_item.done", "item": {"type": "reasoning", "summary": 7}}), "summary must be"),
    (body({"type": "response.function_call_arguments.delta", "delta": "x"}), "never began"),
    (body({"type": "response.completed"}), r"\$.response must be an object"),
    (body({"type": "response.completed", "response": {"output": [7]}}), "must be an object"),
    (body({"type": "response.completed", "response": {"output": 7}}), "must be an array"),
    (b"data: " + b'{"type":"response.fresh","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n", "not a JSON object"),
    (body({"type": "error", "code": "server_error", "message": "Oops."}), r"Oops\."),
    (body({"type": "error", "error": {"type": "x", "message": "Oops."}, "sequence_number": 2}), r"Oops\."),
    (body({"error": {"message": "Oops."}}), r"Oops\."),
    (body({"type": "response.failed", "response": {"error": {"message": "Oops."}}}), r"Oops\."),
    (body({"type": "response.failed", "response": {"status": "failed", "error": None}}), "no reason given"),
    (body({"type": "response.failed"}), "reported an error"),
    (body({"type": "response.completed", "response": {"status": "failed", "error": {"message": "Oops."}}}), r"Oops\."),
    (body({"type": "response.created", "response": {"id": "r"}}), "nothing said how it ended"),
    (b"", "without a single piece"),
]


@pytest.mark.parametrize(("data", "words"), FAULTS, ids=range(len(FAULTS)))
def test_faults(data: bytes, words: str) -> None:
    """Whatever is wrong with a stream is a `StreamError` that says what, after all that came before it."""
    decoder = CODEC.decoder(REQUEST, laws.SSE)
    before = body({"type": "response.output_text.delta", "output_index": 9, "delta": "Hi."}) if data else b""
    received: list[Event] = []
    with pytest.raises(StreamError, match=words):
        received.extend(everything(decoder, before, data))
    assert len(received) == bool(before) or b"created" in data
    assert not any(isinstance(event, Finish) for event in received)


def test_an_error_says_whether_to_try_again() -> None:
    """An error inside a stream has the provider's code, and the status that it would have had."""
    error = {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down.", "param": None}
    with pytest.raises(StreamError) as caught:
        decoded(error)
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("rate_limit_exceeded", 429, True)
    assert caught.value.body == error


def test_a_frame_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame beyond the bound is given up, not kept."""
    monkeypatch.setattr(sse.SSEDecoder.__init__, "__kwdefaults__", {"limit": 1000})
    pieces = [b"data: " + b"x" * 500] * 3
    with pytest.raises(ResponseTooLargeError):
        list(everything(CODEC.decoder(REQUEST, laws.SSE), *pieces))


# Written for other formats


def test_frames_of_a_text() -> None:
    """A text from elsewhere is an item with a part, in the order of the API, numbered from 0."""
    frames = written(
        Start(id="r", model="n", created=7),
        MessageDelta(role="assistant"),
        TextDelta(""),
        TextDelta("Hi", logprobs=({"token": "Hi"},)),
        UsageUpdate(Usage(input_uncached=1, output_visible=2)),
        End("stop"),
    )
    assert [frame["type"].removeprefix("response.") for frame in frames] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [frame["sequence_number"] for frame in frames] == [*range(9)]
    assert frames[4] == {
        "type": "response.output_text.delta",
        "item_id": "msg_r_0",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hi",
        "logprobs": [{"token": "Hi"}],
        "sequence_number": 4,
    }
    response = frames[-1]["response"]
    assert (response["id"], response["model"], response["created_at"]) == ("r", "n", 7)
    assert response["usage"]["total_tokens"] == 3
    assert response["output"] == [frames[7]["item"]]


def test_parts_from_elsewhere() -> None:
    """Thoughts, refusals, calls, custom calls, spoken words and whole parts are items, in the order they began."""
    frames = written(
        ReasoningDelta("Hm."),
        ReasoningDelta("", signature="sig"),
        TextDelta("Hi."),
        ToolCallDelta(call=0, id="a", name="f", arguments="{"),
        ToolCallDelta(call=1, id="b", name="g", arguments="x", kind="custom"),
        ToolCallDelta(call=0, arguments="}"),
        RefusalDelta("No."),
        PartAdded(ToolCall("c", "h", "1")),
        PartAdded(Text("More.")),
        PartAdded(Image(url="u")),
        PartAdded(Opaque("elsewhere", {})),
        AudioDelta(transcript="Said."),
        AudioDelta(data="AAAA"),
        TextDelta("second choice", choice=1),
        UnknownEvent("elsewhere", {}),
        Finish("length", native="max_tokens"),
        End(usage=Usage(input_uncached=1)),
    )
    assert frames[-1]["type"] == "response.incomplete"
    choice = answer(*frames).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == ("length", "max_output_tokens")
    assert choice.message.parts == (
        Reasoning("Hm.", "sig"),
        Text("Hi."),
        ToolCall("a", "f", "{}"),
        ToolCall("b", "g", "x", "custom"),
        Refusal("No."),
        ToolCall("c", "h", "1"),
        Text("More."),
        Text("Said."),
    )


def test_a_text_that_is_taken_up_again() -> None:
    """A text after a call is an item of its own."""
    frames = written(TextDelta("One."), ToolCallDelta(call=0, id="a", name="f"), TextDelta("Two."), End("tool_calls"))
    parts = answer(*frames).choices[0].message.parts
    assert parts == (Text("One."), ToolCall("a", "f", ""), Text("Two."))


def test_an_error_as_the_finish() -> None:
    """An answer that ended in an error is one here too, and nothing follows it."""
    frames = written(TextDelta("Hi."), Finish("error", native="MALFORMED_FUNCTION_CALL"), End())
    assert frames[-1]["type"] == "error"
    assert "MALFORMED_FUNCTION_CALL" in frames[-1]["message"]
    with pytest.raises(StreamError, match="MALFORMED"):
        decoded(*frames)


def test_the_error_frame() -> None:
    """A fault after the status line is told with its code, in both of the shapes that clients know."""
    encoder = CODEC.encoder(REQUEST)
    given = [*encoder.feed(TextDelta("Hi."))]
    (frame,) = laws.frames(encoder.error(RateLimitError("Slow.", status=429, code="rate_limit_exceeded")))
    assert frame == {
        "type": "error",
        "code": "rate_limit_exceeded",
        "message": "Slow.",
        "param": None,
        "error": {
            "message": "Slow.",
            "type": "invalid_request_error",
            "param": None,
            "code": "rate_limit_exceeded",
        },
        "sequence_number": len(given),
    }
    assert list(encoder.feed(End("stop"))) == []


def test_an_answer_of_this_format_that_is_ended_early() -> None:
    """Whoever ends an answer before its own last frame gets one that holds what was told so far."""
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    own = body(
        {"type": "response.created", "response": {"id": "r", "model": "m", "output": []}, "sequence_number": 0},
        {"type": "response.output_item.added", "output_index": 0, "item": item, "sequence_number": 1},
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "delta": "Hi.",
            "sequence_number": 2,
        },
    )
    events = list(CODEC.decoder(REQUEST, laws.SSE).feed(own))
    frames = written(*events, Finish("length"), End())
    last = frames[-1]
    assert [frame["sequence_number"] for frame in frames] == [0, 1, 2, 3]
    assert (last["type"], last["response"]["incomplete_details"]) == (
        "response.incomplete",
        {"reason": "max_output_tokens"},
    )
    assert answer(last).content == "Hi."


def test_a_changed_piece_of_this_format() -> None:
    """A piece of text that somebody changed on its way is written as it is now, in the frame it came in."""
    frame = {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hi.",
        "obfuscation": "a",
    }
    (event,) = CODEC.decoder(REQUEST, laws.SSE).feed(body(frame))
    assert isinstance(event, TextDelta)
    changed = TextDelta("Ho.", wire=event.wire)
    assert written(changed) == [{**frame, "delta": "Ho."}]


def test_nothing_at_all() -> None:
    """An answer without any content is an answer."""
    frames = written(End("stop"))
    assert [frame["type"] for frame in frames] == ["response.created", "response.in_progress", "response.completed"]
    assert answer(*frames).choices[0].message == Message("assistant")


def test_an_error_without_a_status() -> None:
    """Of a fault without a status or a code, the frame says what it can."""
    (frame,) = laws.frames(CODEC.encoder(REQUEST).error(APIError("Gone.")))
    assert (frame["message"], frame["error"]["type"], frame["sequence_number"]) == ("Gone.", "api_error", 0)
