"""Anthropic Messages answers and errors, both ways. Pure functions, no I/O.

* `input_tokens` leaves out what the cache gave or took, so its counts are the neutral buckets; `thinking_tokens` are
  among the `output_tokens`. What prices depend on besides (lifetimes in the cache, server tools, tiers) is in `extra`.
* The provider's own `stop_reason` is always told, since each is another word than the canonical one.

Sources: anthropic 2.12, `types/message.py`, `usage.py`, `stop_reason.py` and `_exceptions.py`; recorded answers; the
tables of finish reasons and of errors in wire-formats.md (read 2026-11-22).
"""

from __future__ import annotations

from typing import Any, cast

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.kept import as_it_came
from antiphon.chat.kept import keep as keeping
from antiphon.chat.messages import FinishReason, Message
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, StreamError
from antiphon.formats import json, read
from antiphon.formats.anthropic.message import NAME, NOTES, Writer, decode_message
from antiphon.formats.status import RETRYABLE, http_status

__all__ = [
    "STATUS",
    "decode_completion",
    "decode_usage",
    "encode_completion",
    "encode_usage",
    "error_code",
    "error_inside",
    "error_object",
    "finish_reason",
    "message_object",
    "stop_reason",
]

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "pause_turn": "pause",
}
_STOP: dict[str, str] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
    "pause": "pause_turn",
}
_TOP: dict[str, Any] = dict.fromkeys(("id", "type", "role", "content", "model", "stop_reason", "usage"))
_ENDING = ("stop_sequence", "stop_details")
_USAGE: dict[str, Any] = {
    **dict.fromkeys(("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")),
    "output_tokens_details": {"thinking_tokens": None},
}
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""HTTP status of each type of error, which an error inside a stream has lost."""

_TYPES = {status: kind for kind, status in STATUS.items()}


def finish_reason(native: Any) -> tuple[FinishReason, str | None]:
    """Return the canonical reason and the provider's own word; an unknown word is `other`, never `stop`."""
    return (_FINISH.get(native, "other"), native) if isinstance(native, str) else ("other", None)


def stop_reason(reason: FinishReason, native: str | None) -> str:
    """Return Anthropic's word; another format's for a reason that nobody else knows is passed on."""
    if native is not None and _FINISH.get(native, "other") == reason:
        return native
    return _STOP.get(reason, native or "other")


def decode_usage(source: dict[str, Any]) -> Usage:
    """Read a `usage` object into disjoint buckets."""
    details = source.get("output_tokens_details")
    thoughts = json.integer(details.get("thinking_tokens")) if json.is_object(details) else None
    output = json.integer(source.get("output_tokens"))
    if output is not None and thoughts is not None:
        thoughts = min(thoughts, output)
        output -= thoughts
    return Usage(
        input_uncached=json.integer(source.get("input_tokens")),
        input_cache_read=json.integer(source.get("cache_read_input_tokens")),
        input_cache_write=json.integer(source.get("cache_creation_input_tokens")),
        output_visible=output,
        output_reasoning=thoughts,
        extra=NOTES.unknown({key: value for key, value in source.items() if value is not None}, _USAGE),
    )


def encode_usage(usage: Usage | None) -> dict[str, Any]:
    """Write a `usage` object; the counts that every answer must tell are 0 where they are not known."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    result: dict[str, Any] = {"input_tokens": usage.input_uncached or 0}
    if usage.input_cache_write is not None:
        result["cache_creation_input_tokens"] = usage.input_cache_write
    if usage.input_cache_read is not None:
        result["cache_read_input_tokens"] = usage.input_cache_read
    result["output_tokens"] = usage.completion_tokens or 0
    if usage.output_reasoning is not None:
        result["output_tokens_details"] = {"thinking_tokens": usage.output_reasoning}
    return json.merged(result, NOTES.own_extra(usage))


def decode_completion(source: dict[str, Any], *, keep: bool = True) -> Completion:
    """Read a whole answer; with *keep* it and its message can be written as they came.

        {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5",
         "content": [{"type": "text", "text": "Hi."}], "stop_reason": "end_turn", "stop_sequence": null,
         "usage": {"input_tokens": 12, "cache_read_input_tokens": 0, "output_tokens": 4}}

    Raises:
        StreamError: It is an error object.
        BadRequestError: With `param` the path of a value of the wrong type; the caller names the provider's fault.
    """
    if source.get("type") == "error" or source.get("error"):
        raise error_inside(source)
    given = {"role": source.get("role") or "assistant", "content": source.get("content")}
    message = decode_message(given, "$", keep=keep)
    reason, native = finish_reason(source.get("stop_reason"))
    usage = read.object_(source, "usage", "$")
    said = {key: value for key, value in source.items() if value is not None}
    ending = {key: said.pop(key) for key in _ENDING if key in said}
    completion = Completion(
        choices=(Choice(0, message, reason, native, NOTES.extra_of(ending)),),
        id=read.text(source, "id", "$") or "",
        model=read.text(source, "model", "$") or "",
        usage=None if usage is None else decode_usage(usage),
        extra=NOTES.unknown(said, _TOP),
    )
    return keeping(completion, NAME, source) if keep else completion


def encode_completion(completion: Completion) -> dict[str, Any]:
    """Write a whole answer: its first choice, since Anthropic knows of one only."""
    if (source := as_it_came(completion, NAME)) is not None:
        return cast(dict[str, Any], source)
    message = completion.choices[0].message if completion.choices else Message.assistant(())
    return {**_encode_top(completion), "content": Writer(answer=True).message(message, "$")["content"]}


def message_object(id: str, model: str, usage: Usage | None) -> dict[str, Any]:
    """Write the object of an answer that has neither content nor an end yet."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": encode_usage(usage),
    }


def _encode_top(completion: Completion) -> dict[str, Any]:
    result = message_object(completion.id, completion.model, completion.usage)
    if completion.choices:
        choice = completion.choices[0]
        if choice.finish_reason is not None:
            result["stop_reason"] = stop_reason(choice.finish_reason, choice.native_finish_reason)
        result |= NOTES.own_extra(choice)
    return json.merged(result, NOTES.own_extra(completion))


def error_inside(source: dict[str, Any]) -> StreamError:
    """Return the error for an error object found where an answer should be."""
    given = source.get("error")
    inner: dict[str, Any] = given if json.is_object(given) else {"message": given}
    kind, message = json.text(inner.get("type")), json.text(inner.get("message"))
    status = STATUS.get(kind or "")
    return StreamError(
        f"The provider reported an error inside its answer: {message or 'no reason given'}",
        status=status,
        code=error_code(inner),
        type=kind,
        body=source,
        request_id=json.text(source.get("request_id")),
        retryable=status is not None and (status in RETRYABLE or status >= 500),
    )


def error_code(inner: dict[str, Any]) -> str | None:
    """Return the stable code of an error, which its `details` hold where it has one."""
    details = inner.get("details")
    return json.text(details.get("error_code")) if json.is_object(details) else None


def error_object(error: APIError) -> dict[str, Any]:
    """Write the error object of a reply or of a streamed event; one that came from this format is given back."""
    body = error.body
    if json.is_object(body) and body.get("type") == "error" and json.is_object(body.get("error")):
        return body
    status = http_status(error)
    kind = error.type if error.type in STATUS else _TYPES.get(status)
    if kind is None:
        kind = "invalid_request_error" if status < 500 else "api_error"
    result: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": error.message}}
    if error.request_id is not None:
        result["request_id"] = error.request_id
    return result
