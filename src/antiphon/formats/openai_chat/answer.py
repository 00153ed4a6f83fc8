"""OpenAI Chat Completions answers, both ways. Pure functions, no I/O.

Source: openai 3.54, `types/chat/chat_completion.py` and `completion_usage.py` (read 2026-11-22), recorded answers.
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from antiphon.chat.answers import Choice, Completion, choice_to_dict, usage_to_dict
from antiphon.chat.kept import as_it_came
from antiphon.chat.kept import keep as keeping
from antiphon.chat.messages import FinishReason, Message, Refusal, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, StreamError
from antiphon.formats import json, read
from antiphon.formats.openai_chat.message import (
    NAME,
    Writer,
    decode_message,
    extra_of,
    fresh_call_id,
    own_extra,
    unknown,
)
from antiphon.formats.status import RETRYABLE, excerpt, words
from antiphon.formats.times import unix_seconds

__all__ = [
    "decode_completion",
    "decode_usage",
    "encode_completion",
    "encode_usage",
    "error_inside",
    "error_object",
    "fault_of",
    "finish_reason",
]

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "pause": "pause",
    "sensitive": "content_filter",
    "error": "error",
    "network_error": "error",
    "insufficient_system_resource": "error",
}
_TOP: dict[str, Any] = dict.fromkeys(("id", "object", "created", "model", "choices", "usage"))
_CHOICE = frozenset({"index", "message", "finish_reason"})
_CACHED = ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens")
"""Where providers other than OpenAI put the count of `prompt_tokens_details.cached_tokens`."""
_USAGE: dict[str, Any] = {
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", "cost", *_CACHED)),
    "prompt_tokens_details": dict.fromkeys(("cached_tokens", "cache_write_tokens", "audio_tokens")),
    "completion_tokens_details": dict.fromkeys(("reasoning_tokens", "audio_tokens")),
}


def finish_reason(native: Any, *, called: bool) -> tuple[FinishReason, str | None]:
    """Return the canonical reason and, where it is another word, the provider's own.

    xAI ends tool calls with an empty string; an unknown word becomes `other`, never `stop`.
    """
    if native == "" and called:
        return "tool_calls", ""
    reason = _FINISH.get(native, "other") if isinstance(native, str) else "other"
    return reason, native if native != reason and isinstance(native, str) else None


def decode_usage(source: dict[str, Any], *, keep: bool = True) -> Usage:
    """Read a `usage` object into disjoint buckets; with *keep* it can be written as it came.

        {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42,
         "prompt_tokens_details": {"cached_tokens": 8}}

    Providers put the cached tokens in four places; xAI leaves reasoning out of `completion_tokens` but not of
    the total. No bucket is less than nothing, or more than what it is a part of, whatever a server says.
    """
    prompt, completion = _count(source, "prompt_tokens"), _count(source, "completion_tokens")
    prompts, completions = _inner(source, "prompt_tokens_details"), _inner(source, "completion_tokens_details")
    cached = _count(prompts, "cached_tokens")
    if cached is None:
        cached = next((count for key in _CACHED if (count := _count(source, key)) is not None), None)
    written = _count(prompts, "cache_write_tokens")
    if prompt is not None:
        cached = None if cached is None else min(cached, prompt)
        written = None if written is None else min(written, prompt - (cached or 0))
    reasoning = _count(completions, "reasoning_tokens")
    visible = completion
    if completion is not None and reasoning:
        apart = _count(source, "total_tokens") == (prompt or 0) + completion + reasoning
        reasoning = reasoning if apart else min(reasoning, completion)
        visible = completion if apart else completion - reasoning
    usage = Usage(
        input_uncached=None if prompt is None else prompt - (cached or 0) - (written or 0),
        input_cache_read=cached,
        input_cache_write=written,
        output_visible=visible,
        output_reasoning=reasoning,
        input_audio=_count(prompts, "audio_tokens"),
        output_audio=_count(completions, "audio_tokens"),
        cost=_amount(source, "cost"),
        extra=unknown(source, _USAGE),
    )
    return keeping(usage, NAME, source) if keep else usage


def encode_usage(usage: Usage) -> dict[str, Any]:
    """Write a `usage` object."""
    source: dict[str, Any] | None = as_it_came(usage, NAME)
    return json.merged(usage_to_dict(usage), own_extra(usage)) if source is None else source


def _count(source: dict[str, Any], key: str) -> int | None:
    """Return the count at *key*, no less than 0; some servers write whole numbers as `5.0`."""
    value = source.get(key)
    if type(value) is int:
        return max(0, value)
    return max(0, int(value)) if isinstance(value, float) and value.is_integer() else None


def _amount(source: dict[str, Any], key: str) -> float | None:
    value = source.get(key)
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def _inner(source: dict[str, Any], key: str) -> dict[str, Any]:
    value = source.get(key)
    return value if json.is_object(value) else {}


def decode_completion(source: dict[str, Any], *, keep: bool = True) -> Completion:
    """Read a whole answer; with *keep* it and its usage can be written as they came.

    Messages of more than a text always can, since they go back to the provider, as tool calls with their thoughts do.

        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1764000000, "model": "gpt-5.6",
         "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}

    Raises:
        BadRequestError: With `param` the path of a value of the wrong type; the caller names the provider's fault.
    """
    choices = read.array(source, "choices", "$")
    if choices is None:
        read.fault("$.choices", "an array")
    id = json.text(source.get("id")) or ""
    usage = _inner(source, "usage") or _inner(_inner(source, "x_groq"), "usage")
    numbers = [json.integer(item.get("index")) if json.is_object(item) else None for item in choices]
    if None in numbers or (len(numbers) > 1 and len(set(numbers)) < len(numbers)):
        numbers = [*range(len(choices))]
    completion = Completion(
        choices=tuple(
            _decode_choice(item, f"$.choices[{place}]", cast(int, numbers[place]), id, keep=keep)
            for place, item in enumerate(choices)
        ),
        id=id,
        model=json.text(source.get("model")) or "",
        created=unix_seconds(source.get("created")),
        usage=decode_usage(usage, keep=keep) if usage else None,
        extra=unknown(source, _TOP),
    )
    return keeping(completion, NAME, source) if keep else completion


def _decode_choice(source: Any, path: str, index: int, answer: str, *, keep: bool) -> Choice:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    given = read.required_object(source, "message", path)
    if given.get("role") is None:
        given = {**given, "role": "assistant"}
    message = decode_message(given, f"{path}.message", call_ids=fresh_call_id(answer, index), keep=False)
    rest = {key: value for key, value in source.items() if key not in _CHOICE}
    if json.is_object(logprobs := rest.pop("logprobs", None)):
        message, beside = _with_logprobs(message, logprobs)
        if beside:
            rest["logprobs"] = beside
    called = any(isinstance(part, ToolCall) for part in message.parts)
    reason, native = finish_reason(source.get("finish_reason"), called=called)
    if keep or len(message.parts) > 1 or called:
        message = keeping(message, NAME, given)
    return Choice(index, message, reason, native, extra_of(rest))


def _with_logprobs(message: Message, logprobs: dict[str, Any]) -> tuple[Message, dict[str, Any]]:
    """Hang the log-probabilities on the parts they belong to; return those that found no part beside it."""
    parts = list(message.parts)
    beside = dict(logprobs)
    for key, kind in (("content", Text), ("refusal", Refusal)):
        tokens = logprobs.get(key)
        place = next((place for place, part in enumerate(parts) if isinstance(part, kind)), None)
        if json.is_array(tokens) and place is not None:
            parts[place] = msgspec.structs.replace(parts[place], logprobs=tuple(tokens))
        if tokens is None or not tokens or (json.is_array(tokens) and place is not None):
            beside.pop(key, None)
    return msgspec.structs.replace(message, parts=tuple(parts)), beside


def encode_completion(completion: Completion) -> dict[str, Any]:
    """Write a whole answer."""
    if (source := as_it_came(completion, NAME)) is not None:
        return cast(dict[str, Any], source)
    return {**_encode_top(completion), "choices": [_encode_choice(choice) for choice in completion.choices]}


def _encode_top(completion: Completion) -> dict[str, Any]:
    result: dict[str, Any] = {
        "id": completion.id,
        "object": "chat.completion",
        "created": unix_seconds(completion.created),
        "model": completion.model,
    }
    if completion.usage is not None:
        result["usage"] = encode_usage(completion.usage)
    return json.merged(result, own_extra(completion))


def _encode_choice(choice: Choice) -> dict[str, Any]:
    result = choice_to_dict(choice)
    result.pop("native_finish_reason", None)
    result["message"] = Writer().one(choice.message, "$")
    return json.merged(result, own_extra(choice))


def fault_of(source: dict[str, Any]) -> Any:
    """Return what an answer or a chunk tells of an error, or `None`.

    It stands under `error`, there or in a choice (OpenRouter), under `x_groq`, or is the object itself: vLLM's says so
    with `"object": "error"`.
    """
    if source.get("object") == "error":
        return source
    choices: Any = source.get("choices")
    places: list[Any] = [source, source.get("x_groq"), *(choices if json.is_array(choices) else ())]
    return next((place["error"] for place in places if json.is_object(place) and place.get("error")), None)


def error_inside(source: Any) -> StreamError:
    """Return the error for an `error` value found where an answer should be."""
    inner: dict[str, Any] = source if json.is_object(source) else {}
    code = None if inner.get("code") is None else str(inner["code"])
    status = int(code) if code is not None and re.fullmatch("[45][0-9][0-9]", code) else None
    return StreamError(
        f"The provider reported an error inside its answer: {excerpt(words(source)) or 'no reason given'}",
        status=status,
        code=code,
        type=json.text(inner.get("type")),
        param=json.text(inner.get("param")),
        body=source,
        retryable=status is not None and (status in RETRYABLE or status >= 500),
    )


def error_object(error: APIError) -> dict[str, Any]:
    """Write the error object of a reply or of a streamed frame."""
    kind = error.type or ("invalid_request_error" if 400 <= (error.status or 0) < 500 else "api_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
