"""Bedrock Converse answers and errors, both ways. Pure functions, no I/O.

* `inputTokens` leaves out what the cache gave or took, so its counts are the neutral buckets; `totalTokens` is the sum
  of all four. Thoughts are not counted apart. Who answered is not told: it is the model that was asked.
* The provider's own `stopReason` is always told, since each is another word than the canonical one.

Sources: botocore 1.44, `data/bedrock-runtime/2023-09-30/service-2.json`, for reasons, errors and their statuses;
recorded answers; the tables of finish reasons and of errors in wire-formats.md (read 2026-11-23).
"""

from __future__ import annotations

from typing import Any

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import FinishReason, Message
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, StreamError
from antiphon.formats import json, patch, read
from antiphon.formats.bedrock.message import NOTES, Writer, decode_message
from antiphon.formats.status import RETRYABLE, http_status

__all__ = [
    "ENDING",
    "decode_completion",
    "decode_usage",
    "encode_completion",
    "encode_usage",
    "error_inside",
    "error_type",
    "finish_reason",
    "is_retryable",
    "stop_reason",
    "words",
]

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}
_STOP: dict[str, str] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "content_filtered",
    "error": "malformed_model_output",
}
ENDING = "additionalModelResponseFields"
"""What stands beside the reason of an end, in the frame of it as well."""

_TOP: dict[str, Any] = dict.fromkeys(("output", "stopReason", "usage", ENDING))
_USAGE: dict[str, Any] = {
    **dict.fromkeys(("inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens")),
    **dict.fromkeys(("cacheReadInputTokenCount", "cacheWriteInputTokenCount")),  # older names, sent beside the newer
}
_STATUS = {
    "ValidationException": 400,
    "UnrecognizedClientException": 401,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ModelErrorException": 424,
    "ModelStreamErrorException": 424,
    "ThrottlingException": 429,
    "ModelNotReadyException": 429,
    "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}
"""HTTP status of each type of error, which an error inside a stream has lost; of two, the first is written."""

_TYPES = {status: type for type, status in reversed(_STATUS.items())}
_PASSING = ("ModelErrorException", "ModelStreamErrorException")
"""Errors of the model that may not come again, though their status is a client's fault."""


_STREAMED = frozenset(
    {"InternalServerException", "ModelStreamErrorException", "ServiceUnavailableException"}
    | {"ThrottlingException", "ValidationException"}
)


def finish_reason(native: Any) -> tuple[FinishReason, str | None]:
    """Return the canonical reason and the provider's own word; an unknown word is `other`, never `stop`."""
    return (_FINISH.get(native, "other"), native) if isinstance(native, str) else ("other", None)


def stop_reason(reason: FinishReason, native: str | None) -> str:
    """Return Bedrock's word; another format's for a reason that nobody else knows is passed on."""
    if native is not None and _FINISH.get(native, "other") == reason:
        return native
    return _STOP.get(reason, native or "other")


def decode_usage(source: dict[str, Any]) -> Usage:
    """Read a `usage` object into disjoint buckets."""
    usage = Usage(
        input_uncached=json.integer(source.get("inputTokens")),
        input_cache_read=json.integer(source.get("cacheReadInputTokens")),
        input_cache_write=json.integer(source.get("cacheWriteInputTokens")),
        output_visible=json.integer(source.get("outputTokens")),
        extra=NOTES.unknown(source, _USAGE),
    )
    return NOTES.with_form(usage, encode_usage(usage), source)


def encode_usage(usage: Usage | None) -> dict[str, Any]:
    """Write a `usage` object; the counts that every answer must tell are 0 where they are not known."""
    if usage is None:
        return {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    result: dict[str, Any] = {
        "inputTokens": usage.input_uncached or 0,
        "outputTokens": usage.completion_tokens or 0,
        "totalTokens": usage.total_tokens or 0,
    }
    if usage.input_cache_read is not None:
        result["cacheReadInputTokens"] = usage.input_cache_read
    if usage.input_cache_write is not None:
        result["cacheWriteInputTokens"] = usage.input_cache_write
    written: dict[str, Any] = patch.apply(json.merged(result, NOTES.own_extra(usage)), NOTES.own_form(usage))
    return written


def decode_completion(source: dict[str, Any], model: str) -> Completion:
    """Read a whole answer of *model*.

    Raises:
        StreamError: It is an error object.
        BadRequestError: With `param` the path of a value of the wrong type; the caller names the provider's fault.
    """
    if "output" not in source and words(source):
        raise error_inside(source, json.text(source.get("__type")))
    output = read.required_object(source, "output", "$")
    message = decode_message(_sent_back(read.required_object(output, "message", "$.output")), "$.output.message")
    reason, native = finish_reason(source.get("stopReason"))
    usage = read.object_(source, "usage", "$")
    ending = {ENDING: source[ENDING]} if source.get(ENDING) is not None else {}
    completion = Completion(
        choices=(Choice(0, message, reason, native, NOTES.extra_of(ending)),),
        model=model,
        usage=None if usage is None else decode_usage(usage),
        extra=NOTES.unknown(source, _TOP),
    )
    return NOTES.with_form(completion, encode_completion(completion), source)


def _sent_back(message: dict[str, Any]) -> dict[str, Any]:
    """Return *message* as it may be sent back: without what only an answer says of its calls."""
    content = message.get("content")
    if not json.is_array(content):
        return message
    return {**message, "content": [_without_type(block) for block in content]}


def _without_type(block: Any) -> Any:
    call = block.get("toolUse") if json.is_object(block) else None
    if json.is_object(call) and call.get("type") == "tool_use":
        return {**block, "toolUse": {key: value for key, value in call.items() if key != "type"}}
    return block


def encode_completion(completion: Completion) -> dict[str, Any]:
    """Write a whole answer: its first choice, since Bedrock knows of one only."""
    choice = completion.choices[0] if completion.choices else Choice(0, Message.assistant(()))
    message = choice.message
    # What was read from this format is written as a request would be, which is what its form was made against.
    writer = Writer(answer=NOTES.own_form(message) is None)
    result: dict[str, Any] = {"output": {"message": writer.message(message, "$")}}
    result["stopReason"] = stop_reason(choice.finish_reason or "stop", choice.native_finish_reason)
    result |= NOTES.own_extra(choice)
    result["usage"] = encode_usage(completion.usage)
    written: dict[str, Any] = patch.apply(json.merged(result, NOTES.own_extra(completion)), NOTES.own_form(completion))
    return written


def words(source: dict[str, Any]) -> str:
    """Return the provider's own words in an error body."""
    said = source.get("message") or source.get("Message") or source.get("originalMessage")
    return said if isinstance(said, str) else ""


def is_retryable(type: str | None, status: int | None) -> bool:
    """Whether the same request may succeed later."""
    return type in _PASSING or (status is not None and (status in RETRYABLE or status >= 500))


def error_inside(source: dict[str, Any], type: str | None) -> StreamError:
    """Return the error for one that is told where an answer should be; *type* may begin with a small letter."""
    type = type and type.rpartition("#")[2]
    type = type and type[0].upper() + type[1:]
    status = _STATUS.get(type or "")
    return StreamError(
        f"The provider reported an error inside its answer: {words(source) or type or 'no reason given'}",
        status=status,
        type=type,
        body=source,
        retryable=is_retryable(type, status),
    )


def error_type(error: APIError, *, streamed: bool = False) -> str:
    """Return Bedrock's name of *error*; a stream has fewer of them."""
    status = http_status(error)
    type = error.type if error.type in _STATUS else _TYPES.get(status)
    if type is None:
        type = "ValidationException" if status < 500 else "InternalServerException"
    if not streamed or type in _STREAMED:
        return type
    if type == "ModelErrorException":
        return "ModelStreamErrorException"
    return "ThrottlingException" if status == 429 else "ValidationException"
