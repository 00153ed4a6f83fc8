"""OpenAI Responses answers and errors, by example."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import fold
from antiphon.chat.messages import FinishReason, Message, Reasoning, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, BadRequestError, InternalServerError, RateLimitError, StreamError
from antiphon.formats import json
from antiphon.formats.responses import Responses
from tests.wire import laws

CODEC = Responses()
REQUEST = ChatRequest("m", ())
QUOTA = "insufficient_quota"
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
REFUSED = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}


def decoded(**fields: Any) -> Completion:
    """Return the answer that is an object with *fields*."""
    source = {"object": "response", "status": "completed", "output": [], **fields}
    return fold(laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON))


@pytest.mark.parametrize(
    ("fields", "reason", "native"),
    [
        ({}, "stop", "completed"),
        ({"output": [CALL]}, "tool_calls", "completed"),
        ({"output": [REFUSED]}, "content_filter", "completed"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "length",
            "max_output_tokens",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            "content_filter",
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}, "output": [CALL]}, "other", "steered"),
        ({"status": "incomplete"}, "other", "incomplete"),
        ({"status": "queued"}, "pause", "queued"),
        ({"status": "in_progress"}, "pause", "in_progress"),
        ({"status": "cancelled"}, "error", "cancelled"),
        ({"status": "fresh"}, "other", "fresh"),
    ],
)
def test_finish_reasons(fields: dict[str, Any], reason: FinishReason, native: str) -> None:
    """The status, and why it is so, make the canonical reason; an unknown one is kept and never taken for `stop`."""
    choice = decoded(**fields).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (reason, native)


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("pause", "incomplete", "pause"),
        ("other", "incomplete", "other"),
        ("error", "failed", None),
    ],
)
def test_reasons_from_elsewhere(reason: FinishReason, status: str, why: str | None) -> None:
    """Another format's reason is said in this format's words, whatever its own word was."""
    completion = Completion(choices=(Choice(0, Message.assistant("Hi."), reason, "end_turn" if why else None),))
    source = json.decode(CODEC.encode_response(completion))
    assert source["status"] == status
    assert source["incomplete_details"] == (
        None if why is None else {"reason": why if reason != "other" else "end_turn"}
    )
    assert (source["error"] is None) is (reason != "error")


def test_an_answer_from_elsewhere() -> None:
    """Items of another format's get what clients expect: ids, a status, empty lists, counts."""
    parts = (Reasoning("Hm.", "sig"), Text("Hi."), ToolCall("c", "f", "{}"))
    usage = Usage(input_uncached=3, input_cache_read=2, output_visible=4)
    completion = Completion(
        choices=(Choice(0, Message("assistant", parts), "tool_calls"),), id="r", model="m", created=7, usage=usage
    )
    assert json.decode(CODEC.encode_response(completion)) == {
        "id": "r",
        "object": "response",
        "created_at": 7,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "m",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 2},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 9,
        },
        "output": [
            {
                "id": "rs_r_0",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": "sig",
            },
            {
                "id": "msg_r_1",
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}],
                "status": "completed",
            },
            {
                "id": "fc_r_2",
                "type": "function_call",
                "call_id": "c",
                "name": "f",
                "arguments": "{}",
                "status": "completed",
            },
        ],
    }


def test_an_answer_with_nothing_in_it() -> None:
    """An answer without a choice, or with an empty one, is an empty output."""
    assert json.decode(CODEC.encode_response(Completion(choices=())))["output"] == []
    assert json.decode(CODEC.encode_response(Completion.of("")))["output"][0]["content"][0]["text"] == ""


def test_usage() -> None:
    """The buckets are apart: the cache's and the reasoning's are taken out of the totals that include them."""
    told = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 9},
        "total_tokens": 17,
    }
    usage = decoded(usage=told).usage
    assert usage is not None
    assert [usage.input_uncached, usage.input_cache_read, usage.input_cache_write] == [1, 4, 5]
    assert [usage.output_visible, usage.output_reasoning, usage.total_tokens] == [0, 7, 17]
    odd = decoded(usage={"input_tokens": "many", "output_tokens_details": []}).usage
    assert odd is not None
    assert [odd.prompt_tokens, odd.completion_tokens] == [None, None]


@pytest.mark.parametrize(
    "fields",
    [{"status": None}, {"output": None}, {"output": [7]}, {"id": 7}, {"usage": 7}, {"output": [{**CALL, "name": 1}]}],
)
def test_a_body_that_is_no_answer(fields: dict[str, Any]) -> None:
    """An object without a status or an output, or with values of wrong types, is an error, never an empty answer."""
    with pytest.raises(StreamError, match="promised shape"):
        decoded(**fields)


def test_a_failed_answer() -> None:
    """An answer that failed is an error with the provider's code and words, also where it came with 200."""
    error = {"code": "rate_limit_exceeded", "message": "Slow down."}
    with pytest.raises(StreamError, match=r"Slow down\.") as caught:
        decoded(status="failed", error=error)
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("rate_limit_exceeded", 429, True)
    with pytest.raises(StreamError, match="no reason given") as unexplained:
        decoded(status="failed", error=None)
    assert (unexplained.value.code, unexplained.value.retryable) == (None, False)
    assert unexplained.value.received is None


def test_what_came_of_a_failed_answer() -> None:
    """What an answer that failed holds of the output is told with its error, without a finish."""
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Half an"}]}
    with pytest.raises(StreamError, match=r"Oops\.") as caught:
        decoded(status="failed", error={"message": "Oops."}, output=[said])
    received = caught.value.received
    assert (received.content, received.choices[0].finish_reason) == ("Half an", None)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "retryable"),
    [
        (400, {"error": {"message": "Too long.", "code": "a_code"}}, BadRequestError, "a_code", False),
        (429, {"error": {"message": "Slow.", "code": "slow"}}, RateLimitError, "slow", True),
        (429, {"error": {"message": "Pay.", "code": QUOTA}}, RateLimitError, QUOTA, False),
        (500, {"error": {"message": "Oops.", "code": 500}}, InternalServerError, "500", True),
        (400, {"detail": "Odd."}, BadRequestError, None, False),
        (503, "<html><title>Busy.</title></html>", InternalServerError, None, True),
        (502, "", InternalServerError, None, True),
    ],
)
def test_error_replies(status: int, body: Any, kind: type[APIError], code: str | None, retryable: bool) -> None:
    """An error reply of any shape becomes the error of its status, with the provider's own words and code."""
    data = body.encode() if isinstance(body, str) else json.encode(body)
    error = CODEC.decode_error(status, {"x-request-id": "req_1"}, data)
    assert type(error) is kind
    assert (error.status, error.code, error.retryable, error.request_id) == (status, code, retryable, "req_1")
    for word in ("Too long.", "Slow.", "Pay.", "Oops.", "Odd.", "Busy."):
        assert (word in str(error)) is (word.encode() in data)


def test_errors_from_elsewhere() -> None:
    """Another format's error, or one of ours, has this format's shape, and says when to try again."""
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}
    reply = CODEC.encode_error(RateLimitError("Slow.", status=429, retry_after=1.2, request_id="req_1", body=body))
    assert json.decode(reply.body) == {
        "error": {"message": "Slow.", "type": "invalid_request_error", "param": None, "code": None}
    }
    assert (reply.status, reply.headers["retry-after"], reply.headers["x-request-id"]) == (429, "2", "req_1")
    broken = CODEC.encode_error(APIError("Gone."))
    assert (broken.status, json.decode(broken.body)["error"]["type"]) == (502, "api_error")


def test_models() -> None:
    """The list of models is OpenAI's."""
    assert CODEC.models_request().path == "/models"
    assert CODEC.decode_models(b'{"data":[{"id":"m","created":7}]}') == [("m", 7)]
