"""OpenAI Chat Completions answers that are none: errors inside, damage, other things than promised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon.chat.events import (
    End,
    fold,
)
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError, ResponseTooLargeError, StreamError
from antiphon.formats import json
from tests.wire import laws, openai_shapes
from tests.wire.openai_chunks import (
    CODEC,
    HELLO,
    REQUEST,
    WHOLE,
    body,
    broken,
    chunk,
    text_of,
)

FAILED: dict[str, Any] = {
    "choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "Died"}}]
}
"""OpenRouter's way to say that whom it asked has failed."""
VLLM: dict[str, Any] = {"object": "error", "message": "Boom", "type": "Internal", "code": 500}


@pytest.mark.parametrize(
    ("fault", "message", "fields"),
    [
        (
            {"error": {"message": "Overloaded", "type": "server_error", "code": "overloaded", "param": "p"}},
            "Overloaded",
            ("overloaded", "server_error", "p", None, False),
        ),
        ({"error": "Overloaded"}, "Overloaded", (None, None, None, None, False)),
        ({"error": {"code": 502, "message": "Bad"}}, "Bad", ("502", None, None, 502, True)),
        ({"error": {"code": "429", "message": "Slow"}}, "Slow", ("429", None, None, 429, True)),
        ({"error": {"code": 400, "message": "Bad"}}, "Bad", ("400", None, None, 400, False)),
        ({"error": {"code": True, "message": "Bad"}}, "Bad", ("True", None, None, None, False)),
        ({"error": {"code": 99999}}, "no reason given", ("99999", None, None, None, False)),
        ({"error": {"message": {"detail": "Deep"}}}, "Deep", (None, None, None, None, False)),
        ({"error": ["x"]}, "x", (None, None, None, None, False)),
        ({"x_groq": {"error": "over_capacity"}}, "over_capacity", (None, None, None, None, False)),
        ({**chunk(finish_reason="error"), "error": {"message": "Lost"}}, "Lost", (None, None, None, None, False)),
        (FAILED, "Died", ("502", None, None, 502, True)),
        (VLLM, "Boom", ("500", "Internal", None, 500, True)),
    ],
    ids=str,
)
def test_error_inside_a_200(fault: dict[str, Any], message: str, fields: tuple[Any, ...]) -> None:
    """An error in any of its shapes ends the stream with an error that says what the provider said."""
    received, error = broken(body(*HELLO[:2], fault, *HELLO[2:]))
    assert type(error) is StreamError
    assert str(error) == f"The provider reported an error inside its answer: {message}"
    assert fields == (error.code, error.type, error.param, error.status, error.retryable)
    inside = (fault, fault.get("x_groq", {}), *fault.get("choices", ()))
    assert error.body in (fault, *(place.get("error") for place in inside))
    assert fold(received).content == "Hel"


@pytest.mark.parametrize(("fault", "message"), [(FAILED, "Died"), (VLLM, "Boom")], ids=["choice", "object"])
def test_error_in_place_of_a_whole_answer(fault: dict[str, Any], message: str) -> None:
    """An error in a choice, or the error object itself, is no answer when it comes whole, either."""
    whole = {**fault, "choices": [{**FAILED["choices"][0], "message": {"content": ""}}]} if fault is FAILED else fault
    _, error = broken(json.encode(whole), WHOLE, laws.JSON)
    assert type(error) is StreamError
    assert str(error).endswith(f": {message}")


@pytest.mark.parametrize("place", ["choice", "beside"])
def test_an_error_beside_part_of_a_whole_answer(place: str) -> None:
    """What a whole answer holds beside an error is told before it, without a finish, as a stream tells it."""
    choice = {**FAILED["choices"][0], "message": {"role": "assistant", "content": "Half an"}}
    whole = {"id": "c", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    if place == "beside":
        whole["error"] = choice.pop("error")
    received, error = broken(json.encode(whole), WHOLE, laws.JSON)
    assert str(error).endswith(": Died")
    told = fold(received)
    (only,) = told.choices
    assert (told.content, only.finish_reason, only.native_finish_reason) == ("Half an", None, None)
    assert told.usage is not None
    assert (told.id, told.usage.total_tokens) == ("c", 5)
    assert error.received == told


@pytest.mark.parametrize("message", [{"content": ""}, None, {"content": 5}])
def test_an_error_beside_nothing(message: object) -> None:
    """Where there is nothing beside the error, or nothing that can be read, nothing is told but the error."""
    whole = {"choices": [{**FAILED["choices"][0], "message": message}]}
    received, error = broken(json.encode(whole), WHOLE, laws.JSON)
    assert str(error).endswith(": Died")
    assert (received, error.received) == ([], None)


def test_an_error_for_a_list_of_models() -> None:
    """An error in place of the list says what the provider said."""
    with pytest.raises(StreamError, match="Died") as caught:
        CODEC.decode_models(b'{"error": {"message": "Died", "code": 503}}')
    assert caught.value.status == 503
    for other in (b"{}", b"[3", b"{3"):
        with pytest.raises(APIError, match="something else"):
            CODEC.decode_models(other)


def test_an_event_named_error() -> None:
    """An event with the name `error` is one, whatever is in it."""
    for data in (b'{"message": "Lost", "code": 500}', b'{"error": {"message": "Lost", "code": 500}}'):
        _, error = broken(body(*HELLO[:2], done=False) + b"event: error\ndata: %b\n\n" % data)
        assert (str(error), error.status) == ("The provider reported an error inside its answer: Lost", 500)


def test_a_long_error_is_cut() -> None:
    """A message as long as an answer does not end up whole in the error's."""
    _, error = broken(body({"error": {"message": "x" * 1_000_000}}))
    assert len(str(error)) < 300


@pytest.mark.parametrize("harmless", [None, "", {}, False])
def test_no_error(harmless: object) -> None:
    """An `error` field with nothing in it is none."""
    assert text_of({**chunk(content="a"), "error": harmless}) == "a"


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b'{"id": "x", "choices": [{"index": 0, "del',
        b"nothing of the kind",
        b"<html>",
        b'{"a": NaN}',
        b'{"choices": [{"index": 0, "delta": {"content": "\xff"}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "\xed\xa0\x80"}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "\\ud800"}}]}',
        b'{"a":' * 100_000,
        b"[" * 100_000,
        json.encode(HELLO[1]) + json.encode(HELLO[2]),
        json.encode(HELLO[1]) + b"\ndata: " + json.encode(HELLO[2]),
    ],
    ids=lambda frame: repr(frame)[:30],
)
def test_frames_that_are_not_json(frame: bytes) -> None:
    """A frame that is not one JSON text is an error, two texts in one event too; what came before is not lost."""
    received, error = broken(body(*HELLO[:2], done=False) + b"data: " + frame + b"\n\n" + body(*HELLO[2:]))
    assert type(error) is StreamError
    assert str(error).startswith("The provider's stream has a frame that is not JSON, or nested too deeply: ")
    assert len(str(error)) < 300
    assert fold(received).content == "Hel"


@pytest.mark.parametrize("frame", [b"[]", b"null", b"5", b'"text"', b"true"])
def test_frames_that_are_not_objects(frame: bytes) -> None:
    """A frame that is no object is an error."""
    _, error = broken(b"data: " + frame + b"\n\n")
    assert str(error).startswith("The provider's stream has a frame that is not an object: ")


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 950, 990, 2000])
@pytest.mark.parametrize("place", ["top", "delta", "choice", "arguments", "usage"])
def test_nesting(depth: int, place: str) -> None:
    """Nesting of any depth at any place is either understood or an error of the stream."""
    bomb = b'{"a":' * depth + b"1" + b"}" * depth
    frame = {
        "top": b'{"id": "x", "choices": [], "x": %b}',
        "delta": b'{"choices": [{"index": 0, "delta": {"x": %b}}]}',
        "choice": b'{"choices": [{"index": 0, "delta": {"content": "a"}, "x": %b}]}',
        "arguments": b'{"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {"arguments": %b}}]}}]}',
        "usage": b'{"choices": [], "usage": {"prompt_tokens_details": %b}}',
    }[place]
    _, error = broken(b"data: %b\n\n" % (frame % bomb) * 2)
    assert type(error) is StreamError


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"choices": {}}, "$.choices must be an array, not an object."),
        ({"choices": ["x"]}, "$.choices[0] must be an object, not a string."),
        ({"choices": [{"finish_reason": 5}]}, "$.choices[0].finish_reason must be a string, not an integer."),
        ({"choices": [{"delta": []}]}, "$.choices[0].delta must be an object, not an array."),
    ],
    ids=str,
)
def test_wrong_types_in_a_chunk(wrong: dict[str, Any], fault: str) -> None:
    """A value of the wrong type where it matters is an error that says where."""
    _, error = broken(body({**chunk(), **wrong}))
    assert str(error) == f"The provider's stream has a frame of the wrong shape: {fault}"


@pytest.mark.parametrize(
    ("delta", "fault"),
    [
        ({"role": 5}, "role must be a string, not an integer."),
        ({"content": 5}, "content must be a string or an array of parts, not an integer."),
        ({"content": [5]}, "content[0] must be an object, not an integer."),
        ({"content": [{"text": "a"}]}, "content[0].type must be a string, not null."),
        ({"refusal": []}, "refusal must be a string, not an array."),
        ({"audio": "a"}, "audio must be an object, not a string."),
        ({"audio": {"data": 5}}, "audio.data must be a string, not an integer."),
        ({"annotations": 1}, "annotations must be an array, not an integer."),
        ({"annotations": [1]}, "annotations[0] must be an object, not an integer."),
        ({"tool_calls": {}}, "tool_calls must be an array, not an object."),
    ],
    ids=str,
)
def test_wrong_types_in_a_delta(delta: dict[str, Any], fault: str) -> None:
    """So it is in a delta."""
    _, error = broken(body(chunk(**delta)))
    assert str(error) == f"The provider's stream has a frame of the wrong shape: $.choices[0].delta.{fault}"


@pytest.mark.parametrize("odd", [{"id": 5}, {"created": "now"}, {"model": None}, {"usage": 5}, {"created": True}])
def test_harmless_types(odd: dict[str, Any]) -> None:
    """A value of the wrong type where nothing depends on it is passed on and otherwise ignored."""
    assert text_of({**chunk(content="a"), **odd}) == "a"


def test_frame_without_end() -> None:
    """A frame beyond the bound is given up."""
    decoder = CODEC.decoder(REQUEST, laws.SSE)
    megabyte = b"data: " + b"x" * 2**20
    with pytest.raises(ResponseTooLargeError):  # noqa: PT012 - it may be any of them
        for _ in range(100):
            list(decoder.feed(megabyte))


# Bodies that are not what their label says


@pytest.mark.parametrize("content_type", [laws.SSE, laws.JSON, "", "text/plain", "text/event-stream; charset=utf-8"])
@pytest.mark.parametrize("request_", [REQUEST, WHOLE], ids=["stream", "whole"])
def test_labels_do_not_matter(content_type: str, request_: ChatRequest) -> None:
    """A stream is a stream and a whole answer one, whatever was asked for and whatever the label says."""
    message = {"role": "assistant", "content": "Hello"}
    whole = json.encode({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    for data in (whole, b"\n " + whole, b"\xef\xbb\xbf" + whole, body(*HELLO), b": hi\n\n" + body(*HELLO)):
        for cut in range(5):
            assert fold(laws.decoded(CODEC, request_, [data[:cut], data[cut:]], content_type)).content == "Hello"


@pytest.mark.parametrize(
    ("data", "content_type", "message"),
    [
        (b"", laws.SSE, "ended without a single piece of an answer"),
        (b"", laws.JSON, "an empty body"),
        (b" \n", laws.JSON, "an empty body"),
        (b"\xef\xbb\xbf", laws.SSE, "ended without a single piece of an answer"),
        (b"\n\n", laws.SSE, "ended without a single piece of an answer"),
        (b": only a comment\n\n", laws.SSE, "ended without a single piece of an answer"),
        (b"data: [DONE]\n\n", laws.SSE, "ended without a single piece of an answer"),
        (b"<html><title>Log in</title>", "text/html", "something that is not JSON, or nested too deeply: Log in"),
        (b"<html><title>Log in</title>", laws.SSE, "something that is not JSON, or nested too deeply: Log in"),
        (b"Busy, try later", "text/plain", "ended without a single piece of an answer"),
        (b"Busy, try later", laws.JSON, "not JSON, or nested too deeply: Busy, try later"),
        (b'{"error": {"message": "Lost"}}', laws.SSE, "an error inside its answer: Lost"),
        (b'{"error": "Lost"}', laws.JSON, "an error inside its answer: Lost"),
        (b"[1]", laws.SSE, "JSON that is not an object: [1]"),
        (b'{"detail": "Lost"}', laws.JSON, "not have the promised shape: $.choices must be an array, not null."),
        (b'{"choices": null}', laws.JSON, "not have the promised shape: $.choices must be an array, not null."),
        (b'{"choices": []}', laws.JSON, "without a single choice"),
        (b'{"choices": [', laws.JSON, "not JSON"),
        (b'{"choices": [{"message": {"content": "\xff"}}]}', laws.JSON, "not JSON"),
        (b'{"x":' * 100_000, laws.JSON, "nested too deeply"),
        (b'{"choices": [{"message": null}]}', laws.JSON, "$.choices[0].message must be an object, not null."),
        (b'{"choices": [5]}', laws.JSON, "$.choices[0] must be an object, not an integer."),
    ],
    ids=repr,
)
def test_bodies_without_an_answer(data: bytes, content_type: str, message: str) -> None:
    """A 200 without an answer in it is an error that says what came instead, on any two pieces."""
    for cut in {0, 1, len(data) // 2, len(data)}:
        with pytest.raises(StreamError) as caught:
            laws.decoded(CODEC, REQUEST, [data[:cut], data[cut:]], content_type)
        assert message in str(caught.value)


def test_whole_answer_without_end() -> None:
    """A whole answer beyond the bound is given up before it is all there."""
    decoder = CODEC.decoder(WHOLE, laws.JSON)
    with pytest.raises(ResponseTooLargeError):  # noqa: PT012 - it may be any of them
        for _ in range(100):
            decoder.feed(b"{" + b" " * 2**20)


@pytest.mark.parametrize("content_type", [laws.SSE, laws.JSON])
def test_white_space_without_end(content_type: str) -> None:
    """White space is not gathered without end while it is open what comes after it."""
    decoder = CODEC.decoder(WHOLE, content_type)
    with pytest.raises(ResponseTooLargeError):  # noqa: PT012 - it may be any of them
        for _ in range(100):
            list(decoder.feed(b" " * 2**20))


TYPES = st.sampled_from([laws.SSE, laws.JSON, "text/html", ""])


def survives(data: bytes, cuts: list[int], content_type: str) -> None:
    """Read *data*; only errors of the tree may come of it, and a whole answer ends with `End`."""
    try:
        found = laws.decoded(CODEC, REQUEST, laws.pieces(data, cuts), content_type)
    except APIError:
        return
    assert isinstance(found[-1], End)
    laws.encoded(CODEC, REQUEST, found)


@given(st.binary(max_size=300), laws.cuts, TYPES)
@example(b"data: {}\n\n", [], laws.SSE)
def test_garbage(data: bytes, cuts: list[int], content_type: str) -> None:
    """Garbage never makes anything but an answer or an error of the tree."""
    survives(data, cuts, content_type)


@given(
    openai_shapes.wire_bodies(),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=3)), max_size=4),
    laws.cuts,
    TYPES,
)
def test_damage(data: bytes, damage: list[tuple[int, bytes]], cuts: list[int], content_type: str) -> None:
    """A stream with bytes changed anywhere never makes anything but an answer or an error of the tree."""
    for place, bytes_ in damage:
        data = data[:place] + bytes_ + data[place + len(bytes_) :]
    survives(data, cuts, content_type)


FIELDS = (
    "choices delta message content tool_calls function custom name arguments index id type usage x_groq error role "
    "audio annotations finish_reason thinking prompt_tokens prompt_tokens_details reasoning refusal text logprobs "
    "url_citation"
).split()
STRANGE = st.recursive(
    laws.scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(STRANGE, max_size=4), TYPES)
def test_strange_json(values: list[Any], content_type: str) -> None:
    """JSON with the right names at the wrong places never makes anything but an answer or an error of the tree."""
    framed = [{"choices": [value]} if number % 2 else value for number, value in enumerate(values)]
    survives(b"".join(b"data: %b\n\n" % json.encode(value) for value in framed), [], content_type)
    for value in framed:
        survives(json.encode(value), [], content_type)
