"""OpenAI Chat Completions answers and error replies, both ways. What is wrong with an answer is in the faults' file."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import errors
from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import fold
from antiphon.chat.messages import Annotation, Audio, Message, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.formats import json
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.answer import decode_completion, decode_usage, encode_completion, encode_usage
from antiphon.formats.openai_chat.message import NAME
from tests.vendors import openai
from tests.wire import laws, openai_shapes

CODEC = OpenAIChat()
REQUEST = ChatRequest("m", ())


@given(openai_shapes.wire_answers())
def test_inexact(source: dict[str, Any]) -> None:
    """Who does not ask for how an answer was written gets the same answer, but for that."""
    exact = decode_completion(source)
    plain = msgspec.structs.replace(
        exact,
        form=None,
        usage=None if exact.usage is None else msgspec.structs.replace(exact.usage, form=None),
        choices=tuple(msgspec.structs.replace(choice, form=None) for choice in exact.choices),
    )
    assert plain == decode_completion(source, keep=False)
    found = laws.decoded(OpenAIChat(exact=False), REQUEST, [json.encode({**source, "error": None})], laws.JSON)
    assert plain.choices == fold(found).choices


def answer(message: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    """Make an answer with one choice."""
    own = {"index": 0, "message": {"role": "assistant", "content": "a", **(message or {})}, "finish_reason": "stop"}
    return {"id": "i", "object": "chat.completion", "created": 7, "model": "m", "choices": [{**own, **choice}]}


def read(source: dict[str, Any]) -> Completion:
    """Return an answer as it is read, after a look at the fourth law."""
    laws.check_answer_json(CODEC, REQUEST, source)
    return decode_completion(source)


def test_answer() -> None:
    """The parts of an answer are read into their own types."""
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    citation = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    source = answer(
        {
            "reasoning_content": "hm",
            "annotations": [citation],
            "refusal": "No.",
            "audio": {"id": "au", "data": "QQ==", "transcript": "t", "expires_at": 9},
            "tool_calls": [call],
        },
        logprobs={"content": [token], "refusal": None},
        finish_reason="tool_calls",
    )
    source["usage"] = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    completion = read({**source, "system_fingerprint": "fp"})
    assert completion.choices[0].message.parts == (
        Reasoning("hm"),
        Text("a", (Annotation(url="u", title="t", start=0, end=1),), (token,)),
        Refusal("No."),
        Audio(id="au", data="QQ==", transcript="t", expires_at=9),
        ToolCall("c", "f", "{}"),
    )
    assert (completion.id, completion.created, completion.model) == ("i", 7, "m")
    assert completion.usage == Usage(input_uncached=5, output_visible=2)
    assert completion.choices[0].finish_reason == "tool_calls"
    assert completion.extra == {NAME: {"system_fingerprint": "fp"}}
    assert openai.types.chat.ChatCompletion.model_validate(json.decode(CODEC.encode_response(completion))).id == "i"


@pytest.mark.parametrize(
    ("native", "calls", "expected"),
    [
        ("stop", False, ("stop", None)),
        ("", True, ("tool_calls", "")),
        ("", False, ("other", "")),
        (None, False, ("other", None)),
        ("stop", True, ("stop", None)),
        ("eos", False, ("stop", "eos")),
        ("new", False, ("other", "new")),
    ],
)
def test_finish_reasons(native: str | None, calls: bool, expected: tuple[str, str | None]) -> None:
    """The provider's word is kept beside the canonical one; xAI's empty one after tool calls means `tool_calls`."""
    called = {"tool_calls": [{"id": "c", "function": {"name": "f"}}]} if calls else {}
    choice = read(answer(called, finish_reason=native)).choices[0]
    assert expected == (choice.finish_reason, choice.native_finish_reason)


@pytest.mark.parametrize("role", [{"role": None}, {}])
def test_no_role(role: dict[str, Any]) -> None:
    """A message without a role is the assistant's."""
    source = answer()
    source["choices"][0]["message"] = {"content": "a", **role}
    assert read(source).choices[0].message.role == "assistant"


@pytest.mark.parametrize("indexes", [(None, None), (0, 0), ("0", "1"), (1, 1)])
def test_wrong_indexes(indexes: tuple[Any, Any]) -> None:
    """Choices without numbers, or with the same one, are numbered by their places: their texts do not mix."""
    source = answer()
    source["choices"] = [{**source["choices"][0], "index": index} for index in indexes]
    events = laws.decoded(CODEC, REQUEST, [json.encode(source)], laws.JSON)
    assert [(0, "a"), (1, "a")] == [(choice.index, choice.message.content) for choice in fold(events).choices]
    assert read(source)


def test_calls_without_ids() -> None:
    """A tool call without an id gets one that depends on the answer's, so that its result can name it."""
    calls = [{"function": {"name": "f", "arguments": "{}"}}, {"id": "", "function": {"name": "f", "arguments": "{}"}}]
    found = read(answer({"tool_calls": calls})).choices[0].message.tool_calls or []
    assert ["call_i_0_0", "call_i_0_1"] == [call.id for call in found]


def test_an_empty_refusal() -> None:
    """An empty refusal declines nothing, and is written again as it was."""
    message = {"role": "assistant", "content": "Yes.", "refusal": ""}
    source = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    completion = decode_completion(source)
    assert completion.choices[0].message.parts == (Text("Yes."),)
    assert encode_completion(completion) == source


def test_the_old_way_to_call() -> None:
    """A `function_call` is a tool call, and is written again as it was."""
    message = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x":1}'}}
    source = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "function_call"}]}
    completion = decode_completion(source)
    assert completion.choices[0].message.tool_calls == [ToolCall("call_c_0_0", "f", '{"x":1}')]
    assert completion.choices[0].finish_reason == "tool_calls"
    assert encode_completion(completion) == source


def test_counts_that_cannot_be() -> None:
    """No bucket is less than nothing or more than the total it is part of, and what the server wrote is kept."""
    source = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 9},
    }
    usage = decode_usage(source)
    assert (usage.prompt_tokens, usage.input_cache_read, usage.completion_tokens, usage.output_reasoning) == (
        10,
        10,
        5,
        5,
    )
    assert encode_usage(usage) == source
    negative = decode_usage({"prompt_tokens": -1, "completion_tokens": -5})
    assert (negative.prompt_tokens, negative.completion_tokens) == (0, 0)


def test_annotations_without_text() -> None:
    """Sources of a message without text are not lost."""
    flat = {"type": "url_citation", "url": "u", "title": "t", "x": 1}
    completion = read(answer({"content": None, "annotations": [flat]}))
    source = Annotation(url="u", title="t", extra={NAME: {"x": 1}})
    assert completion.choices[0].message.parts == (Text("", (source,)),)


def test_logprobs_that_belong_to_nothing() -> None:
    """Logprobs without a text, or in another shape, are kept beside the choice."""
    other = {"tokens": ["a"], "token_logprobs": [-1]}
    assert read(answer(logprobs=other)).choices[0].extra == {NAME: {"logprobs": other}}
    without_text = read(answer({"content": None}, logprobs={"content": [{"token": "a"}], "refusal": []}))
    assert without_text.choices[0].extra == {NAME: {"logprobs": {"content": [{"token": "a"}]}}}
    both = read(answer(logprobs={"content": [{"token": "a"}], "x": 1})).choices[0]
    assert (both.logprobs, both.extra) == ({"content": [{"token": "a"}]}, {NAME: {"logprobs": {"x": 1}}})


@pytest.mark.parametrize("odd", [{"id": 5}, {"model": None}, {"created": "now"}, {"object": 5}, {"usage": []}])
def test_harmless_types(odd: dict[str, Any]) -> None:
    """A value of the wrong type where nothing depends on it is passed on and otherwise ignored."""
    assert read({**answer(), **odd}).content == "a"


# Usage


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({}, Usage()),
        ({"prompt_tokens": 5}, Usage(input_uncached=5)),
        ({"completion_tokens": 0}, Usage(output_visible=0)),
        (
            {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3}},
            Usage(input_uncached=3, input_cache_read=4, input_cache_write=3),
        ),
        ({"prompt_tokens": 10, "prompt_cache_hit_tokens": 4}, Usage(input_uncached=6, input_cache_read=4)),
        ({"prompt_tokens": 10, "num_cached_tokens": 4}, Usage(input_uncached=6, input_cache_read=4)),
        ({"prompt_tokens": 10, "cached_tokens": 4}, Usage(input_uncached=6, input_cache_read=4)),
        (
            {"prompt_tokens": 10, "cached_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0}},
            Usage(input_uncached=10, input_cache_read=0),
        ),
        (
            {"completion_tokens": 10, "total_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 4}},
            Usage(output_visible=6, output_reasoning=4),
        ),
        (
            {"completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 4}},
            Usage(output_visible=6, output_reasoning=4),
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 10,
                "total_tokens": 19,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(input_uncached=5, output_visible=10, output_reasoning=4),
        ),
        (
            {"prompt_tokens_details": {"audio_tokens": 2}, "completion_tokens_details": {"audio_tokens": 3}},
            Usage(input_audio=2, output_audio=3),
        ),
        ({"prompt_tokens": 5.0, "cost": 1}, Usage(input_uncached=5, cost=1.0)),
        ({"prompt_tokens": "5", "cost": True, "prompt_tokens_details": None}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": 1.5, "cost": 10**400}, Usage()),
        ({"queue_time": 1, "prompt_tokens_details": {"x": 1}}, None),
    ],
    ids=str,
)
def test_usage(source: dict[str, Any], expected: Usage | None) -> None:
    """Tokens are read into disjoint buckets, wherever a provider puts them; what is unknown is kept."""
    expected = expected or Usage(extra={NAME: source})
    usage = decode_usage(source)
    assert [getattr(expected, name) for name in expected.__struct_fields__ if name != "form"] == [
        getattr(usage, name) for name in usage.__struct_fields__ if name != "form"
    ]
    laws.check_same(source, encode_usage(usage))


def test_usage_adds_up() -> None:
    """The totals that OpenAI's clients see are the provider's, also where reasoning stands beside the completion."""
    xai = {"prompt_tokens": 5, "completion_tokens": 10, "total_tokens": 19}
    usage = decode_usage({**xai, "completion_tokens_details": {"reasoning_tokens": 4}})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 14, 19)


@given(*[laws.counts] * 4, st.booleans(), st.booleans())
def test_the_buckets_add_up_to_what_is_billed(
    uncached: int, cached: int, visible: int, reasoning: int, apart: bool, total: bool
) -> None:
    """The buckets are disjoint and their sum is the total, whether reasoning counts in the completion or beside it."""
    source = {
        "prompt_tokens": uncached + cached,
        "completion_tokens": visible if apart else visible + reasoning,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    if total or apart:
        source["total_tokens"] = uncached + cached + visible + reasoning
    usage = decode_usage(source)
    assert (usage.input_uncached, usage.input_cache_read) == (uncached, cached)
    assert (usage.output_visible, usage.output_reasoning) == (visible, reasoning)
    assert (usage.prompt_tokens, usage.total_tokens) == (uncached + cached, uncached + cached + visible + reasoning)


# Writing


def test_encode_is_openais_shape() -> None:
    """An answer from anywhere is written with OpenAI's words; the provider's own finish reason is not."""
    choice = Choice(0, Message.assistant("a"), "stop", "end_turn")
    usage = Usage(input_uncached=1, input_cache_read=2, output_visible=3)
    assert encode_completion(Completion(choices=(choice,), id="i", model="m", created=7, usage=usage)) == {
        "id": "i",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 3,
            "total_tokens": 6,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }


# Error replies


@pytest.mark.parametrize(
    ("body", "message", "fields"),
    [
        (
            b'{"error": {"message": "No.", "type": "t", "code": "c", "param": "p"}}',
            "No. (HTTP 400)",
            ("c", "t", "p"),
        ),
        (b'{"error": {"message": "No.", "code": 400, "param": null}}', "No. (HTTP 400)", ("400", None, None)),
        (b'{"error": "No."}', "No. (HTTP 400)", (None, None, None)),
        (b'{"message": "No.", "type": "t"}', "No. (HTTP 400)", (None, "t", None)),
        (b'{"object": "error", "message": "No.", "code": 40400}', "No. (HTTP 400)", ("40400", None, None)),
        (b'{"detail": "No."}', "No. (HTTP 400)", (None, None, None)),
        (b'{"detail": [{"loc": ["body", "n"], "msg": "Bad n."}]}', "body.n: Bad n. (HTTP 400)", (None, None, None)),
        (b'{"message": {"detail": [{"msg": "Bad."}]}}', "Bad. (HTTP 400)", (None, None, None)),
        (b'[{"error": {"message": "No.", "code": 400}}]', "No. (HTTP 400)", ("400", None, None)),
        (b'["No.", "Never."]', "No. (HTTP 400)", (None, None, None)),
        (b'"No."', "No. (HTTP 400)", (None, None, None)),
        (b'{"error": {}}', "The provider answered HTTP 400.", (None, None, None)),
        (b'{"error": null, "code": true}', "The provider answered HTTP 400.", (None, None, None)),
        (b"{}", "The provider answered HTTP 400.", (None, None, None)),
        (b"[]", "The provider answered HTTP 400.", (None, None, None)),
        (b"null", "The provider answered HTTP 400.", (None, None, None)),
        (b"", "The provider answered HTTP 400.", (None, None, None)),
        (b"Plain\nwords.", "Plain words. (HTTP 400)", (None, None, None)),
        (b"<html><title>Bad Request</title>", "Bad Request (HTTP 400)", (None, None, None)),
        (b'{"error": {"message": "cut', '{"error": {"message": "cut (HTTP 400)', (None, None, None)),
        (b"\xff", "\ufffd (HTTP 400)", (None, None, None)),
        (b'{"a":' * 100_000, '{"a":' * 40 + "… (HTTP 400)", (None, None, None)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_decode_error(body: bytes, message: str, fields: tuple[str | None, ...]) -> None:
    """The provider's words are found in an error body of any shape, or a sentence stands for them."""
    error = CODEC.decode_error(400, {}, body)
    assert type(error) is errors.BadRequestError
    assert str(error) == message
    assert fields == (error.code, error.type, error.param)


def test_openrouters_words() -> None:
    """OpenRouter's own words say nothing; those of the provider behind it, which it repeats, are added."""
    error = CODEC.decode_error(
        429, {}, b'{"error": {"message": "Provider returned error", "metadata": {"raw": "Too fast."}}}'
    )
    assert str(error) == "Provider returned error: Too fast. (HTTP 429)"


def test_error_body_is_kept() -> None:
    """The decoded body is on the error, for who wants to look."""
    assert CODEC.decode_error(400, {}, b'{"error": {"x": 1}}').body == {"error": {"x": 1}}
    assert CODEC.decode_error(400, {}, b"<html>").body is None


def test_error_headers() -> None:
    """Whether and when to try again, and the request's id, are read from the headers."""
    headers = {"x-request-id": "r", "retry-after": "3"}
    error = CODEC.decode_error(429, headers, b'{"error": {"code": "insufficient_quota"}}')
    assert (error.request_id, error.retry_after, error.retryable) == ("r", 3.0, False)


@given(laws.json_values, st.integers(400, 599))
def test_any_error_body(body: Any, status: int) -> None:
    """Any JSON in an error reply gives the error of its status."""
    assert type(CODEC.decode_error(status, {}, json.encode(body))) is errors.error_class(status)


@pytest.mark.parametrize(
    ("error", "status", "fields", "headers"),
    [
        (
            errors.RateLimitError("Slow.", status=429, code="c", retry_after=1.2),
            429,
            ("invalid_request_error", "c"),
            {"retry-after": "2"},
        ),
        (errors.BadRequestError("No.", status=400, param="$.x", type="t"), 400, ("t", None), {}),
        (errors.NotFoundError("No.", status=404), 404, ("invalid_request_error", None), {}),
        (errors.APITimeoutError("Late."), 504, ("api_error", None), {}),
        (errors.APIConnectionError("Gone.", retry_after=0), 502, ("api_error", None), {"retry-after": "0"}),
        (errors.StreamError("Cut."), 502, ("api_error", None), {}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_encode_error(
    error: errors.APIError, status: int, fields: tuple[str, str | None], headers: dict[str, str]
) -> None:
    """An error is told in OpenAI's shape, with a status, and when to try again in whole seconds."""
    reply = CODEC.encode_error(error)
    told = {"message": error.message, "type": fields[0], "param": error.param, "code": fields[1]}
    assert json.decode(reply.body) == {"error": told}
    assert (reply.status, reply.headers) == (status, {"content-type": "application/json", **headers})
