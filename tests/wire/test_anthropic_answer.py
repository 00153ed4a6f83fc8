"""Anthropic Messages answers that come whole, and errors."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import fold
from antiphon.chat.messages import Annotation, Message, Opaque, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    RateLimitError,
    StreamError,
)
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from tests.wire import laws

CODEC = Anthropic()
REQUEST = ChatRequest("claude", ())
WHOLE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-1",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "EtUF"},
        {"type": "text", "text": "Yes.", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, 2.5]}, "caller": {"type": "direct"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "stop_details": None,
    "container": {"id": "c", "expires_at": "2026-01-01T00:00:00Z"},
    "usage": {"input_tokens": 3, "output_tokens": 5},
}


def read(source: dict[str, Any]) -> Completion:
    """Return the answer in *source*."""
    return fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON))


def test_a_whole_answer() -> None:
    """Every block becomes the part of its kind, in order; what only Anthropic says is kept beside."""
    completion = read(WHOLE)
    (choice,) = completion.choices
    assert (completion.id, completion.model) == ("msg_1", "claude-1")
    assert choice.message.parts == (
        Reasoning("Hm.", "sig"),
        Opaque("anthropic", {"type": "redacted_thinking", "data": "EtUF"}),
        Text("Yes."),
        ToolCall("toolu_1", "f", '{"a":[1,2.5]}', extra={"anthropic": {"caller": {"type": "direct"}}}),
    )
    assert (choice.finish_reason, choice.native_finish_reason) == ("tool_calls", "tool_use")
    assert completion.extra == {"anthropic": {"container": WHOLE["container"]}}
    laws.check_answer_json(CODEC, REQUEST, WHOLE)


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause"),
        ("a_new_reason", "other"),
        (None, "other"),
    ],
)
def test_stop_reasons(native: str | None, reason: str) -> None:
    """Each stop reason has its canonical name, is kept as it is, and goes back as it was; a new one is no stop."""
    source = {**WHOLE, "stop_reason": native, "stop_sequence": "X", "stop_details": {"type": "refusal"}}
    choice = read(source).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (reason, native)
    assert choice.extra == {"anthropic": {"stop_sequence": "X", "stop_details": {"type": "refusal"}}}
    laws.check_answer_json(CODEC, REQUEST, source)


@pytest.mark.parametrize(
    ("reason", "native", "written"),
    [
        ("stop", None, "end_turn"),
        ("stop", "eos", "end_turn"),
        ("stop", "stop_sequence", "stop_sequence"),
        ("tool_calls", "function_call", "tool_use"),
        ("length", None, "max_tokens"),
        ("content_filter", "SAFETY", "refusal"),
        ("pause", None, "pause_turn"),
        ("other", "LANGUAGE", "LANGUAGE"),
        ("other", None, "other"),
        (None, None, None),
    ],
)
def test_reasons_of_other_formats(reason: Any, native: str | None, written: str | None) -> None:
    """A canonical reason is written in Anthropic's words; an unknown one is passed on, not made a stop."""
    completion = Completion(choices=(Choice(0, Message.assistant("Hi"), reason, native),))
    assert json.decode(CODEC.encode_response(completion))["stop_reason"] == written


def test_answers_of_other_formats() -> None:
    """What a client of this format can be told of another's answer is: unsigned thoughts, declining words, sources."""
    parts = (
        Reasoning("Hm."),
        Text("Yes.", (Annotation(url="https://x.org", title="X", start=0, end=2),)),
        Refusal("No."),
        Opaque("openai-responses", {"type": "x"}),
    )
    choices = (Choice(0, Message("assistant", parts), "stop"), Choice(1, Message.assistant("Other"), "stop"))
    usage = Usage(input_uncached=1, input_cache_read=2, output_visible=3, output_reasoning=4, cost=0.1)
    source = json.decode(CODEC.encode_response(Completion(choices=choices, id="c", model="m", usage=usage)))
    assert source == {
        "id": "c",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {
                "type": "text",
                "text": "Yes.",
                "citations": [
                    {
                        "type": "web_search_result_location",
                        "title": "X",
                        "url": "https://x.org",
                        "cited_text": "",
                        "encrypted_index": "",
                    }
                ],
            },
            {"type": "text", "text": "No."},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 1,
            "cache_read_input_tokens": 2,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 4},
        },
    }


def test_an_answer_without_choices_or_usage() -> None:
    """An answer of nothing is an empty message, with the counts that every answer must tell."""
    source = json.decode(CODEC.encode_response(Completion(choices=())))
    assert source["content"] == []
    assert source["usage"] == {"input_tokens": 0, "output_tokens": 0}


def test_usage_buckets_are_disjoint() -> None:
    """Cached tokens are not among the input tokens, thoughts are among the output; what prices need is kept."""
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 418,
        "cache_read_input_tokens": 1111,
        "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 18},
        "output_tokens": 33,
        "output_tokens_details": {"thinking_tokens": 30, "new_tokens": 1},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "standard",
        "inference_geo": None,
    }
    read_usage = read({**WHOLE, "usage": usage}).usage
    assert read_usage is not None
    assert (read_usage.input_uncached, read_usage.input_cache_write, read_usage.input_cache_read) == (3, 418, 1111)
    assert (read_usage.output_visible, read_usage.output_reasoning) == (3, 30)
    assert read_usage.total_tokens == 3 + 418 + 1111 + 33
    assert read_usage.extra == {
        "anthropic": {
            "cache_creation": usage["cache_creation"],
            "output_tokens_details": {"new_tokens": 1},
            "server_tool_use": usage["server_tool_use"],
            "service_tier": "standard",
        }
    }
    laws.check_answer_json(CODEC, REQUEST, {**WHOLE, "usage": usage})


def test_thoughts_are_never_more_than_the_output() -> None:
    """A count of thoughts beyond the output, which is the billed total, does not add to it."""
    usage = {"input_tokens": 1, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 7}}
    read_usage = read({**WHOLE, "usage": usage}).usage
    assert read_usage is not None
    assert (read_usage.output_visible, read_usage.output_reasoning) == (0, 5)
    laws.check_answer_json(CODEC, REQUEST, {**WHOLE, "usage": usage})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"content": None}, "$.content"),
        ({"content": [{"type": "text", "text": 1}]}, "$.content[0].text"),
        ({"content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}]}, "$.content[0].input"),
        ({"role": "robot"}, "$.role"),
        ({"id": 1}, "$.id"),
        ({"usage": []}, "$.usage"),
    ],
    ids=str,
)
def test_an_answer_of_another_shape(fields: dict[str, Any], words: str) -> None:
    """A whole answer with a value of the wrong type is an error that names its path."""
    with pytest.raises(StreamError) as caught:
        read({**WHOLE, **fields})
    assert words in str(caught.value)


@pytest.mark.parametrize("body", [b"", b" \n", b"<html>Bad gateway</html>", b"[]", b"{", b'"x"'])
def test_a_body_that_is_no_answer(body: bytes) -> None:
    """A 200 with anything but the promised object is an error."""
    with pytest.raises(StreamError, match="The provider answered 200 with"):
        laws.decoded(CODEC, REQUEST, [body], laws.JSON)


def test_an_error_inside_a_whole_answer() -> None:
    """An error object under a 200 is that error, with the status that its type stands for."""
    source = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
    with pytest.raises(StreamError) as caught:
        read(source)
    assert str(caught.value) == "The provider reported an error inside its answer: Overloaded"
    assert (caught.value.status, caught.value.type, caught.value.request_id) == (529, "overloaded_error", "req_1")
    assert caught.value.retryable
    assert caught.value.body == source


def test_a_mislabelled_answer() -> None:
    """A stream that is called JSON, or an answer that is called a stream, is read for what it is."""
    whole = json.encode(WHOLE)
    assert fold(laws.decoded(CODEC, REQUEST, [whole], laws.SSE)) == read(WHOLE)
    stream = laws.encoded(CODEC, REQUEST, laws.unfold(read(WHOLE)))
    assert fold(laws.decoded(CODEC, REQUEST, [stream], laws.JSON)).choices[0].message.content == "Yes."


# Error replies


@pytest.mark.parametrize(
    ("status", "kind", "cls", "retryable"),
    [
        (400, "invalid_request_error", BadRequestError, False),
        (401, "authentication_error", AuthenticationError, False),
        (402, "billing_error", APIError, False),
        (409, "conflict_error", APIError, True),
        (413, "request_too_large", APIError, False),
        (429, "rate_limit_error", RateLimitError, True),
        (500, "api_error", InternalServerError, True),
        (504, "timeout_error", InternalServerError, True),
        (529, "overloaded_error", InternalServerError, True),
    ],
)
def test_error_replies_both_ways(status: int, kind: str, cls: type[APIError], retryable: bool) -> None:
    """Each status has its class, and is given back with the same body."""
    source = {
        "type": "error",
        "error": {"type": kind, "message": "No.", "details": {"error_code": "why"}},
        "request_id": "req_body",
    }
    error = CODEC.decode_error(status, {"retry-after": "3"}, json.encode(source))
    assert isinstance(error, cls)
    assert str(error) == f"No. (HTTP {status})"
    assert (error.status, error.type, error.code, error.retryable) == (status, kind, "why", retryable)
    assert (error.request_id, error.retry_after) == ("req_body", 3.0)
    reply = CODEC.encode_error(error)
    assert (reply.status, json.decode(reply.body)) == (status, source)
    assert reply.headers == {"content-type": "application/json", "request-id": "req_body", "retry-after": "3"}


def test_the_header_tells_the_request_id() -> None:
    """The id in the header goes before the one in the body."""
    error = CODEC.decode_error(500, {"request-id": "req_header"}, b'{"type":"error","request_id":"req_body"}')
    assert error.request_id == "req_header"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The provider answered HTTP 502."),
        (b"<html><title>502 Bad Gateway</title></html>", "502 Bad Gateway (HTTP 502)"),
        (b'{"error":"down"}', "down (HTTP 502)"),
        (b'{"message":"down"}', "down (HTTP 502)"),
        (b'"down"', "down (HTTP 502)"),
        (b"[]", "The provider answered HTTP 502."),
        (b'{"error":{"type":5,"message":null,"details":[]}}', "The provider answered HTTP 502."),
    ],
)
def test_error_replies_of_any_shape(body: bytes, message: str) -> None:
    """An error reply of any shape is an error with the words that can be found in it."""
    assert str(CODEC.decode_error(502, {}, body)) == message


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequestError("No.", status=400), 400, "invalid_request_error"),
        (BadRequestError("No.", status=422, type="weird"), 422, "invalid_request_error"),
        (RateLimitError("No.", status=429, type="tokens"), 429, "rate_limit_error"),
        (InternalServerError("No.", status=503), 503, "api_error"),
        (InternalServerError("No.", status=503, type="overloaded_error"), 503, "overloaded_error"),
        (APITimeoutError("No."), 504, "timeout_error"),
        (APIConnectionError("No."), 502, "api_error"),
    ],
)
def test_errors_of_other_formats(error: APIError, status: int, kind: str) -> None:
    """An error from anywhere is told in this format, by the type that its status has here."""
    reply = CODEC.encode_error(error)
    assert reply.status == status
    assert json.decode(reply.body) == {"type": "error", "error": {"type": kind, "message": "No."}}


def test_a_count_that_is_none() -> None:
    """An answer to a request to count tokens that has no count is an error."""
    for body in (b"", b"[]", b'{"input_tokens":"3"}', b"<html>"):
        with pytest.raises(APIError, match="asked to count tokens"):
            CODEC.decode_count(body)
