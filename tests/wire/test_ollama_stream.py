"""Answers of Ollama's own API by example: what each line means, and every fault by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import (
    End,
    Event,
    Finish,
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
from antiphon.chat.messages import Image, Opaque, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import (
    APIError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
    ResponseTooLargeError,
    StreamError,
)
from antiphon.formats import json
from antiphon.formats.ollama import Ollama
from tests import recordings
from tests.wire import laws
from tests.wire.ollama_values import body, frames

CODEC = Ollama()
REQUEST = ChatRequest("llama3.2", (), stream=True)
WHOLE = ChatRequest("llama3.2", ())
NDJSON = "application/x-ndjson"
TIME = "2026-11-22T10:00:00.123456789Z"


def line(message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a line of a stream."""
    head = {"model": "llama3.2", "created_at": TIME, "message": {"role": "assistant", "content": "", **message}}
    return {**head, "done": False, **fields}


CALL = {"function": {"index": 0, "name": "look", "arguments": {"at": "left"}}}
END = line({}, done=True, done_reason="stop", total_duration=9, prompt_eval_count=3, eval_count=4)
STREAM = [
    line({"thinking": "Hm"}),
    line({"thinking": "."}),
    line({"content": "Y"}),
    line({"content": "es."}, logprobs=[{"token": "es.", "logprob": -0.5}]),
    line({"tool_calls": [CALL]}),
    END,
]


def read(*lines: Any, content_type: str = NDJSON) -> Completion:
    """Return the answer in *lines*."""
    return fold(laws.decoded(CODEC, REQUEST, [body(lines)], content_type))


def test_what_the_lines_mean() -> None:
    """Thoughts, text, calls, counts and durations of a stream make one answer; ids of calls are made up."""
    answer = read(*STREAM)
    call = ToolCall("call_20261122T100000123456789Z_0", "look", '{"at":"left"}')
    text = Text("Yes.", logprobs=({"token": "es.", "logprob": -0.5},))
    assert answer.choices[0].message.parts == (Reasoning("Hm."), text, call)
    assert (answer.choices[0].finish_reason, answer.choices[0].native_finish_reason) == ("tool_calls", "stop")
    assert (answer.model, answer.created) == ("llama3.2", 1795341600)
    assert answer.usage == Usage(input_uncached=3, output_visible=4, extra={"ollama": {"total_duration": 9}})


def test_every_split_and_every_cut() -> None:
    """A stream may be split at any byte; cut before the end of its last line, it is an error and has no finish."""
    data = body(STREAM).rstrip()
    laws.check_every_split(CODEC, REQUEST, data)
    for cut in range(len(data)):
        decoder = CODEC.decoder(REQUEST, NDJSON)
        received = [*decoder.feed(data[:cut])]
        with pytest.raises(StreamError):
            received += decoder.close()
        assert not any(isinstance(event, Finish) for event in received)


@pytest.mark.parametrize("content_type", [NDJSON, laws.JSON, laws.SSE, ""])
@pytest.mark.parametrize("request_", [REQUEST, WHOLE])
def test_what_comes_is_told_by_its_bytes(request_: ChatRequest, content_type: str) -> None:
    """A stream, a whole answer and one that is laid out over lines are read whatever they were labelled as."""
    whole = {**END, "message": {"role": "assistant", "content": "Yes."}}
    laid_out = json.encode(whole).replace(b",", b",\n ")
    for data in (body([line({"content": "Y"}), line({"content": "es."}), END]), body([whole]), laid_out):
        for content in (data, b"\xef\xbb\xbf\r\n" + data):
            answer = fold(laws.decoded(CODEC, request_, [content], content_type))
            assert (answer.content, answer.choices[0].finish_reason) == ("Yes.", "stop")


def test_no_done_reason() -> None:
    """An end without a reason, as of servers of old, and one with an unknown reason are not taken for `stop`."""
    del (old := dict(END))["done_reason"]
    assert read(old).choices[0].finish_reason == "other"
    choice = read({**END, "done_reason": "unload"}).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == ("other", "unload")
    assert read({**END, "done_reason": "length"}).choices[0].finish_reason == "length"


def test_pictures() -> None:
    """A picture in an answer is a part whose type is told by its bytes."""
    made = read(line({"images": ["iVBORw0K"]}), END).choices[0].message.parts
    assert made == (Image(data="iVBORw0K", media_type="image/png"),)


def test_unknown_fields_and_empty_lines_are_kept() -> None:
    """Lines that say nothing, and fields nobody knows, come back; those of the answer are in `extra`."""
    lines = [line({"content": "a"}, remote_host="h"), line({}), line({"fresh": 1}), END, {"fresh": 2}]
    events = laws.decoded(CODEC, REQUEST, [body(lines)], NDJSON)
    assert [type(event).__name__ for event in events].count("UnknownEvent") == 2
    assert fold(events).extra == {"ollama": {"remote_host": "h"}}
    assert fold(events).choices[0].message.extra == {"ollama": {"fresh": 1}}
    laws.check_same(lines, frames(laws.encoded(CODEC, REQUEST, events)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty body|single piece"),
        (b"{\n", "not JSON|not a JSON object"),
        (b"[1]\n{}\n", "not a JSON object"),
        (b'{"message": \n', "not JSON"),
        (body([line({"content": "a"})]) + b"\xff\xfe\n", "not a JSON object"),
        (body([line({"content": 1})]), r"\$.message.content must be a string"),
        (body([line({"tool_calls": [{}]})]), r"\$.message.tool_calls\[0\].function must be an object"),
        (body([line({"tool_calls": [{"function": {}}]})]), "name must be a string"),
        (body([line({"images": [1]})]), r"images\[0\] must be a string"),
        (body([{**END, "message": "x"}]), r"\$.message must be an object"),
        (body([line({"content": "a"}), {"error": "an error was encountered"}]), "an error was encountered"),
        (body([line({"content": "a"})]), "no line said that it is done"),
        (body([{"error": {"message": "inner"}}]), "inner"),
        (body([line({"x": {}})]).replace(b"{}", b'{"a":' * 100_000 + b"{}" + b"}" * 100_000), "nested too deeply"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_faults_of_streams(data: bytes, words: str) -> None:
    """Bytes that are no answer are a `StreamError` that says what is wrong."""
    with pytest.raises(StreamError, match=words):
        laws.decoded(CODEC, REQUEST, [data], NDJSON)


def test_faults_of_whole_answers() -> None:
    """A whole answer that is an error, not done or of the wrong shape is a `StreamError`."""
    for source, words in (
        ({"error": "no memory"}, "no memory"),
        ({**END, "done": False, "x": "\n"}, "no line said|not complete"),
        ({"done": True}, r"\$.message must be an object"),
        ({**END, "message": {"tool_calls": {}}}, "tool_calls must be an array"),
    ):
        with pytest.raises(StreamError, match=words):
            laws.decoded(CODEC, WHOLE, [json.encode(source)], laws.JSON)


def test_what_is_held_before_the_first_line_ends_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body without a line end is given up at the bound of whole answers; blank lines are not held at all."""
    monkeypatch.setattr("antiphon.formats.body.MAX_BODY", 100)
    monkeypatch.setattr("antiphon.formats.ollama.MAX_BODY", 100)
    decoder = CODEC.decoder(REQUEST, NDJSON)
    assert [*decoder.feed(b"\n" * 99), *decoder.feed(b"\n" * 99), *decoder.feed(b"{" + b" " * 90)] == []
    with pytest.raises(ResponseTooLargeError):
        decoder.feed(b" " * 90)


def test_an_answer_that_is_done_is_over() -> None:
    """The line that is `done` says that no bytes after it matter."""
    decoder = CODEC.decoder(REQUEST, NDJSON)
    said = [(decoder.over, [*decoder.feed(body([one]))] != []) for one in (STREAM[0], END)]
    assert (said, decoder.over) == ([(False, True), (False, True)], True)


def written(*events: Event) -> list[Any]:
    """Return the lines for *events*."""
    return frames(laws.encoded(CODEC, REQUEST, events))


def test_what_is_written_of_another_format() -> None:
    """Calls wait until they are whole, words declined with are text, others' blocks are left out, counts come last."""
    lines = written(
        Start(id="c", model="m", created=5),
        RefusalDelta("No"),
        ToolCallDelta(call=0, id="a", name="f", arguments='{"x"'),
        ToolCallDelta(call=1, id="b", name="g"),
        ToolCallDelta(call=2, id="c", name="h", arguments="{}"),
        ToolCallDelta(call=0, arguments=":1}"),
        TextDelta("."),
        TextDelta("elsewhere", 1),
        PartAdded(Opaque("x", {})),
        PartAdded(Refusal("!")),
        UsageUpdate(Usage(input_uncached=1, input_cache_read=2)),
        UnknownEvent("x", {}),
        Finish("content_filter", 0, "refusal"),
        End(usage=Usage(output_visible=3)),
        TextDelta("late"),
    )
    assert [one["message"].get("tool_calls") or one["message"]["content"] for one in lines] == [
        "No",
        [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}],
        ".",
        "!",
        [{"id": "b", "function": {"name": "g", "arguments": {}}}],
        [{"id": "c", "function": {"name": "h", "arguments": {}}}],
        "",
    ]
    assert {one["created_at"] for one in lines} == {"1970-01-01T00:00:05Z"}
    end = {key: lines[-1][key] for key in ("done", "done_reason", "prompt_eval_count", "eval_count")}
    assert end == {"done": True, "done_reason": "content_filter", "prompt_eval_count": 3, "eval_count": 3}


def test_an_answer_that_failed_is_no_finish() -> None:
    """A finish for an error is written as an error, which is read as one."""
    data = laws.encoded(CODEC, REQUEST, [TextDelta("a"), ReasoningDelta("b"), Finish("error", 0, "overloaded"), End()])
    with pytest.raises(StreamError, match="overloaded"):
        laws.decoded(CODEC, REQUEST, [data], NDJSON)


def test_errors() -> None:
    """Error replies are read into their class and written as Ollama's; one of its own is given back as it was."""
    error = CODEC.decode_error(404, {}, b'{"error":"model \'x\' not found"}')
    assert isinstance(error, NotFoundError)
    assert "model 'x' not found" in str(error)
    assert json.decode(CODEC.encode_error(error).body) == {"error": "model 'x' not found"}
    assert isinstance(CODEC.decode_error(502, {}, b"<html><title>Bad gateway</title>"), InternalServerError)
    reply = CODEC.encode_error(RateLimitError("Slow down.", status=429, retry_after=1.2))
    assert (reply.status, reply.headers["retry-after"], reply.body) == (429, "2", b'{"error":"Slow down."}')
    assert CODEC.encoder(REQUEST).error(APIError("Broke.")) == b'{"error":"Broke."}\n'


def test_models() -> None:
    """Names of models are read from Ollama's list."""
    assert CODEC.decode_models(b'{"models":[{"name":"a:1b","model":"a:1b","size":1}]}') == [("a:1b", 0)]


def test_nothing_is_recorded(cassettes: Path) -> None:
    """What is recorded of ollama.com is in OpenAI's format; once something is not, the laws are to be held on it."""
    assert {exchange.url for exchange in recordings.exchanges("ollama.com/*.json")} == {"/v1/chat/completions"}
