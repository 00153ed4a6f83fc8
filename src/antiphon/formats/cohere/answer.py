"""Answers and errors of Cohere's Chat API v2, both ways. Pure functions, no I/O.

* What is billed (`billed_units`) makes the buckets of the usage; `tokens`, which count the vendor's own prompt as well,
  and `cached_tokens`, which are among those, are in its `extra`. Without billed units `tokens` are the buckets.
* The provider's own word for the end is always told, since each is another word than the canonical one.
* A log-probability is told for a piece of text, which may have several tokens: theirs are added up.

Sources, read 2026-11-23: cohere 7.3.1 (`types/`, `v2/types/`), recorded answers; wire-formats.md, 4.9 and 4.10.
"""

from __future__ import annotations

from typing import Any, cast

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.kept import as_it_came
from antiphon.chat.kept import keep as keeping
from antiphon.chat.messages import FinishReason, Message, Text
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, StreamError
from antiphon.formats import json, read
from antiphon.formats.cohere.message import NAME, NOTES, Writer, decode_message
from antiphon.formats.status import words

__all__ = [
    "decode_completion",
    "decode_logprob",
    "decode_usage",
    "encode_completion",
    "encode_logprob",
    "encode_usage",
    "error_inside",
    "error_object",
    "finish_reason",
    "native_reason",
]

_FINISH: dict[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "ERROR": "error",
    "TIMEOUT": "error",
}
_NATIVE: dict[str, str] = {reason: native for native, reason in reversed(_FINISH.items())}
_TOP: dict[str, Any] = dict.fromkeys(("id", "finish_reason", "message", "usage", "logprobs"))
_SIDES = ("input_tokens", "output_tokens")
_BILLED: dict[str, Any] = {"billed_units": dict.fromkeys(_SIDES)}
_COUNTED: dict[str, Any] = {"tokens": dict.fromkeys(_SIDES)}


def finish_reason(native: object) -> tuple[FinishReason, str | None]:
    """Return the canonical reason and the provider's own word; an unknown word is `other`, never `stop`."""
    return (_FINISH.get(native, "other"), native) if isinstance(native, str) else ("other", None)


def native_reason(reason: FinishReason, native: str | None) -> str:
    """Return Cohere's word; another format's for a reason that nobody else knows is passed on."""
    if native is not None and _FINISH.get(native, "other") == reason:
        return native
    return _NATIVE.get(reason, native or reason)


def decode_usage(source: dict[str, Any]) -> Usage:
    """Read a `usage` object into disjoint buckets."""
    known = _BILLED if json.is_object(source.get("billed_units")) else _COUNTED
    counts = source.get(next(iter(known)))
    sides = [_count(counts.get(side)) if json.is_object(counts) else None for side in _SIDES]
    usage = Usage(input_uncached=sides[0], output_visible=sides[1])
    said = {key: value for key, value in source.items() if value is not None}
    if said.get("tokens") == encode_usage(usage).get("tokens"):
        known = {**known, "tokens": None}
    return Usage(input_uncached=sides[0], output_visible=sides[1], extra=NOTES.unknown(said, known))


def _count(value: object) -> int | None:
    """Return a count, which the vendor's types call a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else json.integer(value)


def encode_usage(usage: Usage | None) -> dict[str, Any]:
    """Write a `usage` object."""
    if usage is None:
        return {}
    totals = zip(_SIDES, (usage.prompt_tokens, usage.completion_tokens), strict=True)
    counts = {side: count for side, count in totals if count is not None}
    result: dict[str, Any] = {"billed_units": counts, "tokens": counts} if counts else {}
    if usage.input_cache_read is not None:
        result["cached_tokens"] = usage.input_cache_read
    own = NOTES.own_extra(usage)
    if not counts and "tokens" in own:
        result["billed_units"] = {}  # or what is counted would be taken for what is billed
    return json.merged(result, own)


def decode_logprob(source: object) -> dict[str, Any] | None:
    """Read the log-probability of a piece of text, or `None` where it is none."""
    if not json.is_object(source) or not json.is_array(values := source.get("logprobs")):
        return None
    if not values or any(type(value) not in (int, float) for value in values):
        return None
    return {"token": json.text(source.get("text")) or "", "logprob": sum(values)}


def encode_logprob(token: Any) -> dict[str, Any]:
    """Write the log-probability of a piece of text; the numbers of its tokens are Cohere's alone."""
    return {"text": token.get("token", ""), "token_ids": [], "logprobs": [token.get("logprob", 0)]}


def decode_completion(source: dict[str, Any], *, keep: bool = True) -> Completion:
    """Read a whole answer; with *keep* it and its message can be written as they came.

        {"id": "c-1", "message": {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]},
         "finish_reason": "COMPLETE", "usage": {"billed_units": {"input_tokens": 3, "output_tokens": 4}, "tokens": {…}}}

    Raises:
        StreamError: It is an error object.
        BadRequestError: With `param` the path of a value of the wrong type; the caller names the provider's fault.
    """
    if "message" not in source or isinstance(source["message"], str) or source.get("error"):
        raise error_inside(source)
    given = source["message"]
    message = decode_message(given, "$.message", answer=True, keep=False)
    message = _with_logprobs(message, source.get("logprobs"))
    reason, native = finish_reason(source.get("finish_reason"))
    usage = read.object_(source, "usage", "$")
    completion = Completion(
        choices=(Choice(0, keeping(message, NAME, given) if keep else message, reason, native),),
        id=read.text(source, "id", "$") or "",
        usage=None if usage is None else decode_usage(usage),
        extra=NOTES.unknown({key: value for key, value in source.items() if value is not None}, _TOP),
    )
    return keeping(completion, NAME, source) if keep else completion


def _with_logprobs(message: Message, source: object) -> Message:
    """Put what is told beside the answer to its text, if that is one."""
    found = [decode_logprob(item) for item in source] if json.is_array(source) else []
    tokens = tuple(token for token in found if token is not None)
    texts = [place for place, part in enumerate(message.parts) if isinstance(part, Text)]
    if not tokens or len(tokens) != len(found) or len(texts) != 1:
        return message
    parts: list[Any] = list(message.parts)
    text: Text = parts[texts[0]]
    parts[texts[0]] = Text(text.text, text.annotations, tokens, extra=text.extra)
    return Message(message.role, tuple(parts), extra=message.extra)


def encode_completion(completion: Completion) -> dict[str, Any]:
    """Write a whole answer: its first choice, since Cohere knows of one only."""
    if (source := as_it_came(completion, NAME)) is not None:
        return cast(dict[str, Any], source)
    message = completion.choices[0].message if completion.choices else Message.assistant(())
    return {**_encode_top(completion), "message": Writer(answer=True).one(message, "$.message")}


def _encode_top(completion: Completion) -> dict[str, Any]:
    result: dict[str, Any] = {"id": completion.id}
    if completion.choices:
        choice = completion.choices[0]
        if choice.finish_reason is not None:
            result["finish_reason"] = native_reason(choice.finish_reason, choice.native_finish_reason)
        texts = (part.logprobs for part in choice.message.parts if isinstance(part, Text) and part.logprobs is not None)
        if logprobs := [encode_logprob(token) for tokens in texts for token in tokens]:
            result["logprobs"] = logprobs
    if completion.usage is not None:
        result["usage"] = encode_usage(completion.usage)
    return json.merged(result, NOTES.own_extra(completion))


def error_inside(source: dict[str, Any]) -> StreamError:
    """Return the error for an error object found where an answer should be."""
    return StreamError(
        f"The provider reported an error inside its answer: {words(source) or 'no reason given'}", body=source
    )


def error_object(error: APIError) -> dict[str, Any]:
    """Write the error object of a reply; one that came from this format is given back."""
    body = error.body
    if json.is_object(body) and isinstance(body.get("message"), str):
        return body
    return {"message": error.message}
