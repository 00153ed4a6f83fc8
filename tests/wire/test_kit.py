"""What codecs share: requests, messages and frames that go out as they came, or changed, with Ollama as the format."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from antiphon.chat.events import End, Event, Finish, Start, TextDelta, ToolCallDelta, UnknownEvent
from antiphon.chat.messages import Message, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest
from antiphon.formats import json
from antiphon.formats.kit_stream import completed
from antiphon.formats.ollama import Ollama
from tests.wire.ollama_values import body, frames

CODEC = Ollama()
REQUEST = ChatRequest("m", (), stream=True)
ASKED: dict[str, Any] = {
    "options": {"num_ctx": 4096, "temperature": None, "num_predict": -1},
    "messages": [
        {"content": "What is the weather?", "role": "user", "images": None},
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]},
        {"role": "tool", "content": "sunny"},
    ],
    "keep_alive": None,
    "model": "asked",
}
LINES: list[dict[str, Any]] = [
    {"created_at": "soon", "model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False},
    {
        "model": "m",
        "created_at": "2026-11-23T10:00:00.5Z",
        "message": {"content": "!", "role": "assistant"},
        "done": False,
    },
    {"model": "m", "message": {"content": "", "tool_calls": [{"function": {"name": "f"}}]}, "done": False},
    {"done": True, "model": "m", "done_reason": "stop", "eval_count": 3, "x_line": None},
]


def written(request: ChatRequest) -> Any:
    """Return the JSON of a request, which loses nothing."""
    http = CODEC.encode_request(request)
    assert http.losses == ()
    return json.decode(http.body)


def events_of(*lines: dict[str, Any]) -> list[Event]:
    """Return the events of a stream."""
    decoder = CODEC.decoder(REQUEST, "application/x-ndjson")
    return [*decoder.feed(body(lines)), *decoder.close()]


def bytes_of(events: list[Event]) -> bytes:
    """Return the stream of *events*."""
    encoder = CODEC.encoder(REQUEST)
    return b"".join(frame for event in events for frame in encoder.feed(event))


def test_another_model_changes_nothing_else() -> None:
    """A request to another model is what came, key by key in its order, with that model."""
    request = CODEC.decode_request(json.encode(ASKED))
    again = written(request.but(model="other"))
    assert json.encode(again) == json.encode({**ASKED, "model": "other"})
    assert json.encode(written(request)) == json.encode(ASKED)


def test_a_changed_setting_leaves_the_messages_as_they_came() -> None:
    """What else was changed is written, and messages that were not changed are what came."""
    again = written(CODEC.decode_request(json.encode(ASKED)).but(temperature=0.5))
    assert again["messages"] == ASKED["messages"]
    assert again["options"] == {"temperature": 0.5, "num_ctx": 4096, "num_predict": -1}
    assert again["stream"] is True


def test_a_changed_result_finds_the_call_of_a_message_that_was_not() -> None:
    """What a writer notes of messages is noted of those that go out as they came, too."""
    asked = replace(ASKED_MESSAGE, kept=None)
    for call in (CODEC.decode_request(json.encode({"model": "m", "messages": [OWN_CALL]})).messages[0], asked):
        request = ChatRequest("m", (call, Message("tool", (ToolResult("call_9", (Text("sunny"),)),))), stream=True)
        assert written(request)["messages"][1]["tool_name"] == "weather"


OWN_CALL = {"role": "assistant", "tool_calls": [{"id": "call_9", "function": {"name": "weather", "arguments": {}}}]}
ASKED_MESSAGE = Message("assistant", (ToolCall("call_9", "weather"),))


def test_a_stream_is_given_back_byte_for_byte() -> None:
    """Lines keep the order of their keys and the spelling of their numbers."""
    events = events_of(*LINES, {"late": 1.50})
    assert isinstance(events[-2], UnknownEvent)
    assert bytes_of(events) == body([*LINES, {"late": 1.50}])


def test_a_changed_event_is_written_changed() -> None:
    """A line whose event was changed is written in the canonical way; those around it are what came."""
    events = [replace(e, text="?") if type(e) is TextDelta and e.text == "!" else e for e in events_of(*LINES)]
    lines = frames(bytes_of(events))
    assert lines[1]["message"] == {"role": "assistant", "content": "?"}
    assert [lines[0], *lines[2:]] == [LINES[0], *LINES[2:]]


def test_a_changed_call_goes_out_before_the_end() -> None:
    """A call that waits for more of its arguments is not lost when the last line goes out as it came."""
    events = [replace(e, arguments='{"a": 1}') if type(e) is ToolCallDelta else e for e in events_of(*LINES)]
    lines = frames(bytes_of(events))
    assert lines[2]["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": 1}}
    assert lines[3:] == [LINES[3]]


def test_events_that_are_taken_away_or_put_in() -> None:
    """A frame of which an event is missing, or between whose events another came, is not given back."""
    events = events_of(*LINES)
    last = [type(event) for event in events[-3:]]
    assert last[1:] == [Finish, End]
    without_usage = [*events[:-3], events[-2], End()]
    lines = frames(bytes_of(without_usage))
    assert lines[-1]["done"] is True
    assert "eval_count" not in lines[-1]
    first_alone = [events[0], *events[2:]]
    assert [line["message"]["content"] for line in frames(bytes_of(first_alone))[:2]] == ["!", ""]
    put_in = [events[0], TextDelta("Oh. "), *events[1:]]
    assert "".join(line["message"]["content"] for line in frames(bytes_of(put_in))[:-1]) == "Oh. Hi!"


def test_what_a_frame_leaves_open_is_no_change() -> None:
    """Who answers, and a model that the frame does not name, may be filled in; anything else is a change."""
    nameless = [{key: value for key, value in line.items() if key != "model"} for line in LINES]
    events = events_of(*nameless)
    start = events[0]
    assert isinstance(start, Start)
    assert bytes_of([completed(start, provider="up", model="m"), *events[1:]]) == body(nameless)
    changed = replace(start, created=7)
    assert bytes_of([completed(changed, provider="up", model="m"), *events[1:]]) != body(nameless)
    assert completed(Start(), model="m") == Start(model="m")
