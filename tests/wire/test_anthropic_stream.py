"""Anthropic Messages streams, read and written."""

from __future__ import annotations

import itertools
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
    Wire,
    fold,
)
from antiphon.chat.messages import Annotation, Image, Opaque, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, RateLimitError, StreamError
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.framing import sse
from tests.wire import laws

CODEC = Anthropic()
REQUEST = ChatRequest("claude", (), stream=True)

Frame = dict[str, Any]

MESSAGE: Frame = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-1",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1, "service_tier": "standard"},
}
START: Frame = {"type": "message_start", "message": MESSAGE}
PING: Frame = {"type": "ping"}
STOP: Frame = {"type": "message_stop"}
TEXT: Frame = {"type": "text", "text": ""}
THINKING: Frame = {"type": "thinking", "thinking": "", "signature": ""}
CALL: Frame = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}


def begin(index: int, block: Frame) -> Frame:
    """Return the first frame of a block."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: Any) -> Frame:
    """Return a frame that continues a block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def words(index: int, text: str) -> Frame:
    """Return a frame with a piece of text."""
    return delta(index, "text_delta", text=text)


def end(index: int) -> Frame:
    """Return the last frame of a block."""
    return {"type": "content_block_stop", "index": index}


def finish(reason: str | None = "end_turn", **usage: Any) -> Frame:
    """Return the frame with the stop reason."""
    counts = {"output_tokens": 7, **usage}
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": counts}


def body(*frames: Frame) -> bytes:
    """Return the frames as they are sent."""
    return b"".join(sse.encode(json.encode(frame), event=frame["type"]) for frame in frames)


def events(*frames: Frame) -> list[Event]:
    """Return what the frames are read as, after checking that they are written as they were."""
    read = laws.decoded(CODEC, REQUEST, [body(*frames)])
    laws.check_same(list(frames), written(*read))
    return read


def answer(*frames: Frame) -> Completion:
    """Return the answer that the frames make."""
    return fold(events(*frames))


def broken(*frames: Frame) -> tuple[list[Event], StreamError]:
    """Return the events before the fault, and the fault."""
    decoder = CODEC.decoder(REQUEST, laws.SSE)
    received: list[Event] = []
    with pytest.raises(StreamError) as caught:
        received.extend(itertools.chain(decoder.feed(body(*frames)), decoder.close()))
    return received, caught.value


def written(*given: Event) -> list[Any]:
    """Return the frames that tell of events, each of which has its type as its name."""
    data = laws.encoded(CODEC, REQUEST, given)
    decoder = sse.SSEDecoder()
    found = [*decoder.feed(data), *decoder.close()]
    for name, payload in found:
        assert name == json.decode(payload)["type"]
    return [json.decode(payload) for _, payload in found]


def told(*given: Event) -> list[Any]:
    """Return the frames that tell of events, without the first one and those of the end."""
    frames = written(*given, Finish("stop"), End())
    assert frames[0]["type"] == "message_start"
    assert [frame["type"] for frame in frames[-2:]] == ["message_delta", "message_stop"]
    return frames[1:-2]


# Reading


def test_text_comes_as_it_is_sent() -> None:
    """Each frame of text is an event at once, with the number of its block as the number of its part."""
    decoder = CODEC.decoder(REQUEST, laws.SSE)
    (start, usage) = decoder.feed(body(START))
    assert isinstance(start, Start)
    assert (start.id, start.model) == ("msg_1", "claude-1")
    assert isinstance(usage, UsageUpdate)
    assert [type(event) for event in decoder.feed(body(begin(0, TEXT)))] == [TextDelta]
    (piece,) = decoder.feed(body(words(0, "Hi")))
    assert piece == TextDelta("Hi", 0, 0, wire=Wire("anthropic"))


def test_counts_are_cumulative() -> None:
    """A later count takes the place of an earlier one; what it leaves out stays, nulls too."""
    usage = answer(START, finish(input_tokens=20, cache_read_input_tokens=None), STOP).usage
    assert usage is not None
    assert (usage.input_uncached, usage.input_cache_read, usage.output_visible) == (20, 5, 7)
    assert usage.extra == {"anthropic": {"service_tier": "standard"}}


def test_thoughts_counted_late_are_not_counted_twice() -> None:
    """A count of thoughts that comes with the last frame is taken from the output that was counted."""
    usage = answer(START, finish(output_tokens_details={"thinking_tokens": 3}), finish(output_tokens=9), STOP).usage
    assert usage is not None
    assert (usage.output_visible, usage.output_reasoning, usage.completion_tokens) == (6, 3, 9)


def test_thinking_and_its_signature() -> None:
    """Thoughts and their signature make one part; thoughts that are not shown still have their signature."""
    completion = answer(
        START,
        begin(0, THINKING),
        delta(0, "thinking_delta", thinking="H"),
        delta(0, "thinking_delta", thinking="m."),
        delta(0, "signature_delta", signature="sig"),
        end(0),
        begin(1, THINKING),
        delta(1, "signature_delta", signature="sig2"),
        end(1),
        finish(),
        STOP,
    )
    assert completion.choices[0].message.parts == (Reasoning("Hm.", "sig"), Reasoning("", "sig2"))


def test_a_tool_call_in_pieces() -> None:
    """The pieces of a call's input are its arguments, to the letter."""
    completion = answer(
        START,
        begin(0, {**CALL, "caller": {"type": "direct"}}),
        delta(0, "input_json_delta", partial_json=""),
        delta(0, "input_json_delta", partial_json='{"a": '),
        delta(0, "input_json_delta", partial_json="1}"),
        end(0),
        finish("tool_use"),
        STOP,
    )
    (part,) = completion.choices[0].message.parts
    assert part == ToolCall("toolu_1", "f", '{"a": 1}', extra={"anthropic": {"caller": {"type": "direct"}}})
    assert completion.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("pieces", [[], [""], ["", ""]])
def test_a_call_without_input(pieces: list[str]) -> None:
    """A call whose pieces are empty, or that has none, has an empty object as its arguments."""
    middle = [delta(0, "input_json_delta", partial_json=piece) for piece in pieces]
    completion = answer(START, begin(0, CALL), *middle, end(0), finish("tool_use"), STOP)
    assert completion.choices[0].message.parts == (ToolCall("toolu_1", "f", "{}"),)


def test_input_at_the_start() -> None:
    """A server that sends the whole input with the start of a call is understood; deltas take its place."""
    block = {**CALL, "input": {"a": 1}}
    assert answer(START, begin(0, block), end(0), finish(), STOP).choices[0].message.parts == (
        ToolCall("toolu_1", "f", '{"a":1}'),
    )
    pieces = delta(0, "input_json_delta", partial_json='{"b":2}')
    assert answer(START, begin(0, block), pieces, end(0), finish(), STOP).choices[0].message.parts == (
        ToolCall("toolu_1", "f", '{"b":2}'),
    )


def test_parallel_calls_are_numbered() -> None:
    """Calls are numbered among calls, whatever other blocks stand between them."""
    read = events(
        START,
        begin(0, TEXT),
        words(0, "So:"),
        end(0),
        begin(1, CALL),
        end(1),
        begin(2, {**CALL, "id": "toolu_2"}),
        delta(2, "input_json_delta", partial_json="{}"),
        end(2),
        finish("tool_use"),
        STOP,
    )
    assert {(event.part, event.call) for event in read if isinstance(event, ToolCallDelta)} == {(1, 0), (2, 1)}
    assert [part.id for part in fold(read).choices[0].message.tool_calls or ()] == ["toolu_1", "toolu_2"]


def test_citations_in_pieces() -> None:
    """Citations join the text they back."""
    citation = {"type": "page_location", "cited_text": "w", "document_title": "D", "start_page_number": 1}
    completion = answer(
        START,
        begin(0, {**TEXT, "citations": []}),
        words(0, "Yes."),
        delta(0, "citations_delta", citation=citation),
        end(0),
        finish(),
        STOP,
    )
    (annotation,) = completion.choices[0].message.annotations or ()
    assert (annotation.kind, annotation.title) == ("page_location", "D")


def test_server_tools_come_whole_at_their_end() -> None:
    """A block that only Anthropic knows is passed on frame by frame, and is one part, with its input, in the answer."""
    server = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"encrypted_content": "E"}]}
    read = events(
        START,
        begin(0, server),
        delta(0, "input_json_delta", partial_json='{"query":'),
        delta(0, "input_json_delta", partial_json='"x"}'),
        end(0),
        begin(1, result),
        end(1),
        begin(2, {"type": "redacted_thinking", "data": "EtUF"}),
        end(2),
        begin(3, TEXT),
        words(3, "Yes."),
        end(3),
        finish(),
        STOP,
    )
    assert fold(read).choices[0].message.parts == (
        Opaque("anthropic", {**server, "input": {"query": "x"}}),
        Opaque("anthropic", result),
        Opaque("anthropic", {"type": "redacted_thinking", "data": "EtUF"}),
        Text("Yes."),
    )


@pytest.mark.parametrize(
    ("block", "deltas", "whole"),
    [
        ({"type": "server_tool_use", "input": {}}, [{"partial_json": '{"quer'}], {"input": {}}),
        ({"type": "server_tool_use", "input": {"a": 1}}, [{"partial_json": ""}], {"input": {"a": 1}}),
        ({"type": "compaction", "content": None}, [{"content": "So "}, {"content": "far."}], {"content": "So far."}),
        ({"type": "fresh", "text": "a"}, [{"text": "b", "n": 1}, {"n": 2}], {"text": "ab", "n": 2}),
    ],
    ids=str,
)
def test_blocks_of_new_kinds_grow(block: Frame, deltas: list[Frame], whole: Frame) -> None:
    """Texts of a block without neutral meaning are joined, other values replaced; broken input stays as it began."""
    kinds = ["input_json_delta" if "partial_json" in fields else "fresh_delta" for fields in deltas]
    middle = [delta(0, kind, **fields) for kind, fields in zip(kinds, deltas, strict=True)]
    completion = answer(START, begin(0, block), *middle, end(0), finish(), STOP)
    assert completion.choices[0].message.parts == (Opaque("anthropic", {**block, **whole}),)


def test_unknown_things_are_kept() -> None:
    """Pings, unknown events, unknown deltas and unknown fields are given back, and are nothing to the answer."""
    read = events(
        START,
        PING,
        begin(0, {**TEXT, "mood": "good"}),
        {**words(0, "Hi"), "p": "abc"},
        delta(0, "text_delta", text=" there", logprob=0),
        delta(0, "mood_delta", mood="better"),
        {**end(0), "took": 3},
        {"type": "weather", "sun": True},
        {**finish(), "context_management": {"applied_edits": []}},
        {**STOP, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1}},
    )
    completion = fold(read)
    assert completion.choices[0].message.parts == (Text("Hi there", extra={"anthropic": {"mood": "good"}}),)
    assert completion.extra == {"anthropic": {"context_management": {"applied_edits": []}}}
    assert [e.name for e in read if isinstance(e, UnknownEvent)] == [
        "ping", "content_block_delta", "content_block_stop", "weather", "message_stop"
    ]  # fmt: skip


def test_a_ping_before_the_answer_is_nothing() -> None:
    """A ping before the first frame of the answer is passed over."""
    assert isinstance(laws.decoded(CODEC, REQUEST, [body(PING, START, finish())])[0], Start)


def test_how_an_answer_ends() -> None:
    """The stop sequence, its details and the container are with the finish and the answer; nulls say nothing."""
    last = finish("stop_sequence")
    last["delta"] |= {"stop_sequence": "X", "stop_details": None, "container": {"id": "c"}}
    read = events(START, begin(0, TEXT), end(0), last, STOP)
    completion = fold(read)
    choice = completion.choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == ("stop", "stop_sequence")
    assert choice.extra == {"anthropic": {"stop_sequence": "X"}}
    assert completion.extra == {"anthropic": {"container": {"id": "c"}}}
    assert (completion.id, completion.model) == ("msg_1", "claude-1")


def test_an_answer_is_complete_with_its_stop_reason() -> None:
    """The end of the body after the stop reason is an answer; `message_stop` without one is not."""
    assert fold(laws.decoded(CODEC, REQUEST, [body(START, finish())])).choices[0].finish_reason == "stop"
    assert fold(laws.decoded(CODEC, REQUEST, [body(START, finish()).rstrip()])).choices[0].finish_reason == "stop"
    for frames in ([START, STOP], [START, finish(None), STOP], [START, begin(0, TEXT), words(0, "Hi"), end(0)]):
        assert "no stop reason" in str(broken(*frames)[1])
    assert "without a single piece" in str(broken()[1])


def test_done_is_passed_over() -> None:
    """The last line that OpenAI's streams end with is passed over, where a compatible server sends it."""
    data = body(START, finish(), STOP) + b"data: [DONE]\n\n"
    assert fold(laws.decoded(CODEC, REQUEST, [data])).choices[0].finish_reason == "stop"


def test_names_of_events_may_be_missing() -> None:
    """Frames without an event name are known by their type, and frames without a type by their event name."""
    frames = [START, begin(0, TEXT), words(0, "Hi"), end(0), finish(), STOP]
    whole = fold(events(*frames))
    assert whole == fold(laws.decoded(CODEC, REQUEST, [b"".join(sse.encode(json.encode(f)) for f in frames)]))
    bare = [({k: v for k, v in frame.items() if k != "type"}, frame["type"]) for frame in frames]
    data = b"".join(sse.encode(json.encode(frame), event=name) for frame, name in bare)
    assert whole.choices == fold(laws.decoded(CODEC, REQUEST, [data])).choices


def test_an_error_after_the_200() -> None:
    """An error event ends the stream with that error, after what came before it."""
    fault = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    received, error = broken(START, begin(0, TEXT), words(0, "Hi"), fault)
    assert fold(received).content == "Hi"
    assert str(error) == "The provider reported an error inside its answer: Overloaded"
    assert (error.status, error.type, error.retryable) == (529, "overloaded_error", True)
    assert error.body == fault


def test_an_error_of_an_unknown_type() -> None:
    """An error whose type nobody knows, or that has none, is an error without a status."""
    for fault in ({"type": "mood_error", "message": "x"}, "x", None):
        _, error = broken(START, {"type": "error", "error": fault})
        assert (error.status, error.retryable) == (None, False)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "content_block_start", "index": 0},
        {"type": "content_block_start", "index": 0, "content_block": {}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
        {"type": "content_block_delta", "index": 0, "delta": None},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": 1}},
    ],
    ids=str,
)
def test_frames_of_another_shape(frame: Frame) -> None:
    """A frame of a known type that has not its shape is an error that says where."""
    assert "wrong shape: $." in str(broken(START, frame)[1])


@pytest.mark.parametrize("payload", [b"{", b"[]", b'"x"', b"\xff", b"nonsense"])
def test_frames_that_are_no_objects(payload: bytes) -> None:
    """A frame that is not a JSON object is an error."""
    with pytest.raises(StreamError, match="not a JSON object"):
        laws.decoded(CODEC, REQUEST, [body(START), sse.encode(payload, event="x")])


@pytest.mark.parametrize("depth", [200, 900, 100_000])
def test_frames_that_are_nested_deeply(depth: int) -> None:
    """However deeply a frame is nested, it is read or is an error of the stream."""
    nested = b'{"a":' * depth + b"1" + b"}" * depth
    start = b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"b","input":'
    data = body(START) + sse.encode(start + nested + b"}}", event="content_block_start") + body(end(0), finish())
    try:
        (call,) = fold(laws.decoded(CODEC, REQUEST, [data])).choices[0].message.tool_calls or ()
        told = call.arguments.encode()
    except StreamError as error:
        told = nested if "nested" in str(error) or "not a JSON object" in str(error) else b""
    assert nested == told


def test_pieces_without_a_start() -> None:
    """Text whose block never began is still text; a call that never began has no name, and is an error."""
    read = laws.decoded(CODEC, REQUEST, [body(START, words(0, "Hi"), words(0, "!"), finish())])
    assert fold(read).content == "Hi!"
    thoughts = laws.decoded(CODEC, REQUEST, [body(START, delta(0, "thinking_delta", thinking="Hm"), finish())])
    assert fold(thoughts).choices[0].message.reasoning_content == "Hm"
    _, error = broken(START, delta(0, "input_json_delta", partial_json="{}"))
    assert "never began" in str(error)


def test_blocks_under_one_index_are_several_parts() -> None:
    """A server that gives every block the same index is understood; a block without an index is the newest one."""
    pieces = delta(0, "input_json_delta", partial_json="{}")
    frames = [begin(0, TEXT), words(0, "a"), end(0), begin(0, CALL), pieces, end(0)]
    assert answer(START, *frames, finish(), STOP).choices[0].message.parts == (
        Text("a"), ToolCall("toolu_1", "f", "{}")
    )  # fmt: skip
    bare = [{k: v for k, v in frame.items() if k != "index"} for frame in frames]
    assert answer(START, *bare, finish(), STOP).choices[0].message.parts == (
        Text("a"), ToolCall("toolu_1", "f", "{}")
    )  # fmt: skip


def test_blocks_without_an_end() -> None:
    """Blocks whose end never came are ended by the stop reason."""
    server = {"type": "server_tool_use", "id": "s", "name": "n", "input": {}}
    data = body(START, begin(0, CALL), begin(1, server), finish())
    read = laws.decoded(CODEC, REQUEST, [data])
    assert fold(read).choices[0].message.parts == (ToolCall("toolu_1", "f", "{}"), Opaque("anthropic", server))


def test_deltas_of_another_kind_are_nothing() -> None:
    """A delta that does not fit its block, and what is said of a block after its end, change nothing."""
    completion = answer(
        START,
        begin(0, TEXT),
        delta(0, "input_json_delta", partial_json="{}"),
        delta(0, "text_delta", text=None),
        words(0, "Hi"),
        end(0),
        end(0),
        end(7),
        finish(),
        STOP,
    )
    assert completion.choices[0].message.parts == (Text("Hi"),)


# Writing what came from elsewhere


def test_a_foreign_answer_in_frames() -> None:
    """An answer of another format's is written in the order that clients expect, its counts at the end."""
    frames = written(
        Start(id="c", model="m"),
        MessageDelta(role="assistant"),
        ReasoningDelta("Hm."),
        TextDelta("So"),
        TextDelta(":"),
        ToolCallDelta(call=0, id="a", name="f"),
        ToolCallDelta(call=0, arguments='{"x":'),
        ToolCallDelta(call=0, arguments="1}"),
        Finish("tool_calls"),
        UsageUpdate(Usage(input_uncached=3, output_visible=4)),
        End(),
    )
    assert frames == [
        {"type": "message_start", "message": {
            "id": "c", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": {"input_tokens": 0, "output_tokens": 0},
        }},
        begin(0, THINKING), delta(0, "thinking_delta", thinking="Hm."), end(0),
        begin(1, TEXT), words(1, "So"), words(1, ":"), end(1),
        begin(2, {**CALL, "id": "a"}), delta(2, "input_json_delta", partial_json='{"x":'),
        delta(2, "input_json_delta", partial_json="1}"), end(2),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
         "usage": {"input_tokens": 3, "output_tokens": 4}},
        STOP,
    ]  # fmt: skip


def test_an_answer_of_nothing() -> None:
    """An answer without a single piece is a message without content, by the name of the model that was asked for."""
    frames = written(End("length"))
    assert [frame["type"] for frame in frames] == ["message_start", "message_delta", "message_stop"]
    assert frames[0]["message"]["model"] == "claude"
    assert frames[1]["delta"]["stop_reason"] == "max_tokens"
    assert told(TextDelta(""), ReasoningDelta("")) == []


def test_text_after_a_call_is_another_block() -> None:
    """Text without a number that comes after a call is a block of its own, as it is a part of its own."""
    call = ToolCallDelta(call=0, id="a", name="f", arguments="{}")
    assert [
        (frame["index"], frame["content_block"]["type"])
        for frame in told(TextDelta("a"), call, TextDelta("b"))
        if "content_block" in frame
    ] == [(0, "text"), (1, "tool_use"), (2, "text")]


def test_interleaved_calls_follow_each_other() -> None:
    """What comes amid a call waits until its arguments are whole, so that the end of a block can be relied on."""
    frames = told(
        ToolCallDelta(call=0, id="a", name="f"),
        ToolCallDelta(call=1, id="b", name="f"),
        ToolCallDelta(call=1, arguments='{"y":'),
        TextDelta("Hm"),
        ToolCallDelta(call=0, arguments='{"x":'),
        ToolCallDelta(call=1, arguments="2}"),
        ToolCallDelta(call=0, arguments="1}"),
        TextDelta("."),
    )
    assert frames == [
        begin(0, {**CALL, "id": "a"}),
        delta(0, "input_json_delta", partial_json='{"x":'),
        delta(0, "input_json_delta", partial_json="1}"),
        end(0),
        begin(1, {**CALL, "id": "b"}),
        delta(1, "input_json_delta", partial_json='{"y":'),
        delta(1, "input_json_delta", partial_json="2}"),
        end(1),
        begin(2, TEXT),
        words(2, "Hm"),
        words(2, "."),
        end(2),
    ]


def test_calls_that_never_become_whole() -> None:
    """Calls whose arguments were cut off are all written at the end, each for itself."""
    frames = told(
        ToolCallDelta(call=0, id="a", name="f", arguments='{"x'),
        ToolCallDelta(call=1, id="b", name="f", arguments='{"y'),
        TextDelta("Hm"),
    )
    assert [frame["index"] for frame in frames] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_what_comes_late_for_a_call_still_comes() -> None:
    """A piece for a call that was taken to be whole is written under its index."""
    call = ToolCallDelta(call=0, id="a", name="f", arguments="{}")
    frames = told(call, TextDelta("Hm"), ToolCallDelta(call=0, arguments=" "))
    assert frames[-2] == delta(0, "input_json_delta", partial_json=" ")


def test_numbered_parts() -> None:
    """Deltas with the number of a part go to its block, though blocks are numbered for themselves."""
    frames = told(TextDelta("a", 0, 3), TextDelta("b", 0, 5), TextDelta("", 0, 7), ReasoningDelta("", 0, 8))
    assert [frame["index"] for frame in frames if "content_block" in frame] == [0, 1, 2, 3]


def test_the_first_choice_only() -> None:
    """Of several choices the first is written."""
    frames = written(TextDelta("a"), TextDelta("b", 1), Finish("length", 1), Finish("stop"), End())
    assert [frame["delta"]["text"] for frame in frames if frame["type"] == "content_block_delta"] == ["a"]
    assert frames[-2]["delta"]["stop_reason"] == "end_turn"


def test_signatures_and_sources() -> None:
    """A signature and the sources of a text are deltas of their own."""
    source = Annotation(url="https://x.org", extra={"anthropic": {"cited_text": "w", "encrypted_index": "E"}})
    frames = told(ReasoningDelta("Hm.", signature="sig"), TextDelta("Yes.", annotations=(source,)))
    assert [frame["delta"]["type"] for frame in frames if "delta" in frame] == [
        "thinking_delta", "signature_delta", "text_delta", "citations_delta"
    ]  # fmt: skip


def test_parts_that_come_whole() -> None:
    """A part that comes whole is a block, or the text of one; what has no block at all is left out."""
    image = Image(url="https://x.org/a")
    frames = told(
        PartAdded(Text("a")),
        PartAdded(Text("b")),
        PartAdded(Reasoning("Hm.", "sig")),
        PartAdded(Refusal("No.")),
        PartAdded(ToolCall("a", "f", '{"x":1}')),
        PartAdded(Opaque("anthropic", {"type": "redacted_thinking", "data": "E"})),
        PartAdded(Opaque("other", {"type": "x"})),
        PartAdded(image),
    )
    starts = [frame["content_block"] for frame in frames if "content_block" in frame]
    assert [block["type"] for block in starts] == [
        "text", "text", "thinking", "text", "tool_use", "redacted_thinking", "image"
    ]  # fmt: skip
    assert starts[4]["input"] == {"x": 1}
    assert [frame["index"] for frame in frames if frame["type"] == "content_block_stop"] == list(range(7))


def test_declining_and_speaking_are_text() -> None:
    """Words that were declined with, and words that were spoken, are blocks of text."""
    frames = told(RefusalDelta("N"), RefusalDelta("o."), AudioDelta(data="AAAA"), AudioDelta(transcript="Hi"))
    assert [frame["delta"]["text"] for frame in frames if "delta" in frame] == ["N", "o.", "Hi"]
    assert [frame["index"] for frame in frames if "content_block" in frame] == [0, 1]


def test_who_answers_is_known_when_content_comes() -> None:
    """The message begins with its first content, by the latest id and model; what is said later stands at the end."""
    container = {"anthropic": {"container": {"id": "c"}, "x": 1}}
    frames = written(
        Start(extra={"anthropic": {"y": 2}}),
        Start(id="c", model="m"),
        UsageUpdate(Usage(input_uncached=3)),
        TextDelta("a"),
        Start(id="d", extra=container),
        End("stop"),
    )
    message = frames[0]["message"]
    assert (message["id"], message["model"], message["y"]) == ("c", "m", 2)
    assert message["usage"] == {"input_tokens": 3, "output_tokens": 0}
    assert (frames[-2]["delta"]["container"], frames[-2]["x"]) == ({"id": "c"}, 1)


def test_a_finish_that_is_an_error() -> None:
    """A finish for which there is no stop reason is an error event, after which nothing follows."""
    frames = written(TextDelta("a"), Finish("error", 0, "MALFORMED_FUNCTION_CALL"), TextDelta("b"), End())
    assert frames[-1]["type"] == "error"
    assert frames[-1]["error"]["type"] == "api_error"
    assert "MALFORMED_FUNCTION_CALL" in frames[-1]["error"]["message"]


def test_an_error_frame() -> None:
    """A fault after the status line is an error event in Anthropic's shape."""
    frame = CODEC.encoder(REQUEST).error(RateLimitError("Slow down.", status=429))
    assert frame == (
        b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"Slow down."}}\n\n'
    )
    with pytest.raises(StreamError, match="Slow down"):
        laws.decoded(CODEC, REQUEST, [frame])
    assert b'"api_error"' in CODEC.encoder(REQUEST).error(APIError("No."))


def test_unknown_events_of_other_formats_are_left_out() -> None:
    """What only another format knows is not written; what this one knows is, without the memory of its frame too."""
    own = UnknownEvent("anthropic", {"type": "weather"}, "weather")
    assert told(TextDelta("a"), UnknownEvent("other", {"type": "x"}), own)[-2:] == [{"type": "weather"}, end(0)]


def test_names_of_events_cannot_break_a_stream() -> None:
    """The name of an unknown event that is no plain word is left out, so that it cannot begin an event of its own."""
    frame = {"type": 'x\ndata: {"type":"message_stop"}\n\n'}
    data = laws.encoded(CODEC, REQUEST, laws.decoded(CODEC, REQUEST, [body(START, finish()), sse.encode(
        json.encode(frame))]))  # fmt: skip
    assert [f["type"] for f in laws.frames(data)] == ["message_start", "message_delta", frame["type"], "message_stop"]


def test_own_frames_amid_others() -> None:
    """Events with and without the memory of their frame make one orderly stream together."""
    frames = [START, begin(0, TEXT), words(0, "Hi"), end(0), finish(), STOP]
    read = laws.decoded(CODEC, REQUEST, [body(*frames)])
    place = next(place for place, event in enumerate(read) if isinstance(event, Finish)) - 1
    mixed = [*read[:place], TextDelta("!"), *read[place:]]
    laws.check_same([*frames[:4], begin(1, TEXT), words(1, "!"), end(1), *frames[4:]], written(*mixed))
