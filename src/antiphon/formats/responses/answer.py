"""OpenAI Responses answers and errors, both ways. Pure functions, no I/O.

* `input_tokens` include what the cache gave and took, `output_tokens` the reasoning: the neutral buckets are apart.
* The finish reason is made of `status`, `incomplete_details` and of what the output holds; the provider's own word is
  the reason why an answer is incomplete, else its status.
* The object of an answer repeats most of its request; all of that is in `extra`.

Sources, read 2026-11-23: openai 3.54, `types/responses/response.py`, `response_usage.py`, `response_error.py` and
`response_status.py`; recorded answers; the tables of finish reasons and of errors in wire-formats.md.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeGuard

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import FinishReason, Message, Part, Refusal, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, StreamError
from antiphon.formats import json, patch, read
from antiphon.formats.body import with_received
from antiphon.formats.responses.message import NOTES, Writer, decode_output
from antiphon.formats.status import RETRYABLE, excerpt, words
from antiphon.formats.times import unix_seconds

__all__ = [
    "decode_completion",
    "encode_completion",
    "encode_usage",
    "error_fields",
    "error_inside",
    "response_object",
]

_INCOMPLETE: dict[str, FinishReason] = {
    "max_output_tokens": "length",
    "max_messages": "length",
    "content_filter": "content_filter",
    "pause": "pause",
}
_WHY: dict[FinishReason, str] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
    "pause": "pause",
    "other": "other",
}
_UNFINISHED = ("queued", "in_progress")
_DEFAULTS: dict[str, Any] = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
"""What clients' types demand of an answer, and is not told of one from elsewhere."""
_TOP: dict[str, Any] = {
    **dict.fromkeys(("id", "object", "created_at", "status", "model", "output", "usage", "error")),
    "incomplete_details": {"reason": None},
}
_USAGE: dict[str, Any] = {
    **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens", "cost")),
    "input_tokens_details": dict.fromkeys(("cached_tokens", "cache_write_tokens")),
    "output_tokens_details": dict.fromkeys(("reasoning_tokens",)),
}
_STATUS = {
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "vector_store_timeout": 504,
    "insufficient_quota": 429,
}
"""HTTP status of codes of errors inside an answer; the others are the fault of the request."""


# Usage


def decode_usage(source: dict[str, Any]) -> Usage:
    """Read a `usage` object into disjoint buckets."""
    prompts, answers = (_inner(source, f"{side}_tokens_details") for side in ("input", "output"))
    prompt, output = json.integer(source.get("input_tokens")), json.integer(source.get("output_tokens"))
    cached, written = json.integer(prompts.get("cached_tokens")), json.integer(prompts.get("cache_write_tokens"))
    thoughts = json.integer(answers.get("reasoning_tokens"))
    if output is not None and thoughts is not None:
        thoughts = min(thoughts, output)
    cost: object = source.get("cost")
    usage = Usage(
        input_uncached=None if prompt is None else max(0, prompt - (cached or 0) - (written or 0)),
        input_cache_read=cached,
        input_cache_write=written,
        output_visible=None if output is None else output - (thoughts or 0),
        output_reasoning=thoughts,
        cost=float(cost) if _is_number(cost) and abs(cost) < 1e300 else None,
        extra=NOTES.unknown({key: value for key, value in source.items() if value is not None}, _USAGE),
    )
    return NOTES.with_form(usage, encode_usage(usage), source)


def _inner(source: dict[str, Any], key: str) -> dict[str, Any]:
    value = source.get(key)
    return value if json.is_object(value) else {}


def encode_usage(usage: Usage) -> dict[str, Any]:
    """Write a `usage` object; counts that every answer must tell are 0 where they are not known."""
    prompts = {"cached_tokens": usage.input_cache_read or 0}
    if usage.input_cache_write is not None:
        prompts["cache_write_tokens"] = usage.input_cache_write
    result: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens or 0,
        "input_tokens_details": prompts,
        "output_tokens": usage.completion_tokens or 0,
        "output_tokens_details": {"reasoning_tokens": usage.output_reasoning or 0},
        "total_tokens": usage.total_tokens or 0,
    }
    if usage.cost is not None:
        result["cost"] = usage.cost
    written: dict[str, Any] = patch.apply(json.merged(result, NOTES.own_extra(usage)), NOTES.own_form(usage))
    return written


# Whole answers


def decode_completion(source: dict[str, Any], *, called: bool = False) -> Completion:
    """Read a whole answer; *called* says that calls of tools were told of before, as a stream does.

    Raises:
        StreamError: It is an error object, or that of an answer that failed.
        BadRequestError: With `param` the path of a value of the wrong type; the caller names the provider's fault.
    """
    if source.get("error") or source.get("status") == "failed":
        left = {**source, "error": None, "status": "incomplete"}
        raise with_received(error_inside(source), partial(decode_completion, left, called=called))
    output = read.array(source, "output", "$")
    if output is None:
        read.fault("$.output", "an array")
    parts = decode_output(output, "$.output")
    reason, native = _finish(source, parts, called=called)
    usage = read.object_(source, "usage", "$")
    said = {
        key: value
        for key, value in source.items()
        if value is not None and not (key in _DEFAULTS and json.same(value, _DEFAULTS[key]))
    }
    completion = Completion(
        choices=(Choice(0, Message("assistant", parts), reason, native),),
        id=read.text(source, "id", "$") or "",
        model=read.text(source, "model", "$") or "",
        created=unix_seconds(source.get("created_at")),
        usage=None if usage is None else decode_usage(usage),
        extra=NOTES.unknown(said, _TOP),
    )
    return NOTES.with_form(completion, _encode_top(completion), {k: v for k, v in source.items() if k != "output"})


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) is int or type(value) is float


def _finish(source: dict[str, Any], parts: tuple[Part, ...], *, called: bool) -> tuple[FinishReason, str]:
    """Return the canonical reason and the provider's own word; an unknown word is `other`, never `stop`."""
    status = read.required_text(source, "status", "$")
    if status == "completed":
        if any(isinstance(part, Refusal) for part in parts):
            return "content_filter", status
        called = called or any(isinstance(part, ToolCall) for part in parts)
        return "tool_calls" if called else "stop", status
    if status == "incomplete":
        why = json.text(_inner(source, "incomplete_details").get("reason")) or status
        return _INCOMPLETE.get(why, "other"), why
    if status in _UNFINISHED:
        return "pause", status
    return "error" if status == "cancelled" else "other", status


def encode_completion(completion: Completion) -> dict[str, Any]:
    """Write a whole answer: its first choice, since Responses know of one only."""
    result: dict[str, Any] = patch.apply(_encode_top(completion), NOTES.own_form(completion))
    message = completion.choices[0].message if completion.choices else Message.assistant(())
    result["output"] = Writer(answer=completion.id).message(message, "$")
    return result


def response_object(completion: Completion, choice: Choice | None) -> dict[str, Any]:
    """Write the object of an answer without its output; without a *choice* it is still being made."""
    result: dict[str, Any] = {
        "id": completion.id,
        "object": "response",
        "created_at": unix_seconds(completion.created),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": completion.model,
        **_DEFAULTS,
        "usage": None if completion.usage is None else encode_usage(completion.usage),
    }
    if choice is not None:
        result |= _ending(choice)
    return json.merged(result, NOTES.own_extra(completion))


def _encode_top(completion: Completion) -> dict[str, Any]:
    return response_object(completion, completion.choices[0] if completion.choices else None)


def _ending(choice: Choice) -> dict[str, Any]:
    reason, native = choice.finish_reason or "stop", choice.native_finish_reason
    if reason == "error":
        if native == "cancelled":
            return {"status": native}
        message = f"The provider ended its answer with an error: {native or 'no reason given'}"
        return {"status": "failed", "error": {"code": "server_error", "message": message}}
    if reason == "pause" and native in _UNFINISHED:
        return {"status": native}
    if reason in ("stop", "tool_calls") or native == "completed":
        return {"status": "completed"}
    own = native is not None and _INCOMPLETE.get(native, "other") == reason
    return {"status": "incomplete", "incomplete_details": {"reason": native if own else _WHY[reason]}}


# Errors


def error_inside(source: dict[str, Any]) -> StreamError:
    """Return the error that an answer or an event tells of, in any of the places where it may stand."""
    inner: dict[str, Any] = _inner(source, "error") or (source if "error" not in source else {})
    code = json.text(inner.get("code"))
    status = _STATUS.get(code or "")
    told = excerpt(words(source.get("error") or source))
    return StreamError(
        f"The provider reported an error inside its answer: {told or 'no reason given'}",
        status=status,
        code=code,
        type=json.text(inner.get("type")) if inner is not source else None,
        param=json.text(inner.get("param")),
        body=source,
        retryable=status is not None and code != "insufficient_quota" and (status in RETRYABLE or status >= 500),
    )


def error_fields(error: APIError) -> dict[str, Any]:
    """Write the fields of an error; its code is never missing."""
    kind = error.type or ("invalid_request_error" if 400 <= (error.status or 0) < 500 else "api_error")
    return {"message": error.message, "type": kind, "param": error.param, "code": error.code}
