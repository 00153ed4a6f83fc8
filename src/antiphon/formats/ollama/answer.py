"""Answers and errors of Ollama's own API, whole ones and the lines of streamed ones. Pure functions, no I/O.

* A whole answer is an object like the last line of a streamed one, with all of the message in it.
* Durations, in nanoseconds, are in the `extra` of the usage. Tokens of thoughts are not told apart.
* `done_reason` is `stop` or `length`; it is `stop` with tool calls as well. Any other word is kept as it is.

Sources, read 2026-11-23: ollama 0.6.3 (`_types.py`), wire-formats.md, 4.5, 4.9 and 4.10.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import (
    Event,
    Finish,
    MessageDelta,
    PartAdded,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
)
from antiphon.chat.kept import as_it_came
from antiphon.chat.kept import keep as keeping
from antiphon.chat.messages import FinishReason, Image, Message, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, StreamError
from antiphon.formats import json, read
from antiphon.formats.ollama.message import NAME, NOTES, Calls, Writer, call_object, decode_message
from antiphon.formats.status import words
from antiphon.formats.times import timestamp, unix_seconds

__all__ = [
    "DURATIONS",
    "TOP",
    "calls_of",
    "decode_completion",
    "decode_usage",
    "done_reason",
    "encode_completion",
    "error_inside",
    "error_object",
    "finish_reason",
    "line",
]

DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
_COUNTS = ("prompt_eval_count", "eval_count")
TOP: dict[str, Any] = dict.fromkeys(
    ("model", "created_at", "message", "done", "done_reason", "logprobs", *_COUNTS, *DURATIONS)
)
"""The fields of an answer that have a neutral meaning, or a place in the usage."""


def finish_reason(native: object, *, calls: bool) -> tuple[FinishReason, str | None]:
    """Return the canonical reason and the provider's own word where it is another; an unknown word is `other`."""
    if native == "stop":
        return ("tool_calls", "stop") if calls else ("stop", None)
    return ("length", None) if native == "length" else ("other", json.text(native))


def done_reason(reason: FinishReason, native: str | None) -> dict[str, str]:
    """Return the field with Ollama's word, or with the reason's own where it has none; no field: it is not known."""
    if reason in ("stop", "tool_calls"):
        return {"done_reason": "stop"}
    if reason != "other":
        return {"done_reason": reason}
    return {} if native is None else {"done_reason": native}


def decode_usage(source: dict[str, Any]) -> Usage | None:
    """Read the counts and durations of an answer, or `None` where there are none."""
    spent = {key: source[key] for key in DURATIONS if source.get(key) is not None}
    read_, written = (json.integer(source.get(key)) for key in _COUNTS)
    if not spent and read_ is None and written is None:
        return None
    return Usage(input_uncached=read_, output_visible=written, extra=NOTES.extra_of(spent))


def _encode_usage(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    counts = zip(_COUNTS, (usage.prompt_tokens, usage.completion_tokens), strict=True)
    told = {key: count for key, count in counts if count is not None}
    return {**{key: value for key, value in NOTES.own_extra(usage).items() if key in DURATIONS}, **told}


def calls_of(source: dict[str, Any]) -> Calls:
    """Return where to note the calls of an answer; ids made up for them differ from answer to answer."""
    made = "".join(filter(str.isalnum, json.text(source.get("created_at")) or ""))
    return Calls(f"call_{made}" if made else "call")


def decode_completion(source: dict[str, Any], *, keep: bool = True) -> Completion:
    """Read a whole answer; with *keep* it and its message can be written as they came.

        {"model": "qwen3", "created_at": "2026-11-23T10:00:00.1Z", "message": {"role": "assistant", "content": "Hi."},
         "done": true, "done_reason": "stop", "total_duration": 5191566416, "prompt_eval_count": 26, "eval_count": 298}

    Raises:
        StreamError: It is an error object, or not done.
        BadRequestError: With `param` the path of a value of the wrong type; the caller names the provider's fault.
    """
    if source.get("error"):
        raise error_inside(source)
    if source.get("done") is not True:
        raise StreamError("The provider's answer is not complete: it does not say that it is done.", body=source)
    given = read.required_object(source, "message", "$")
    message = decode_message(given, "$.message", calls_of(source), answer=True, keep=False)
    message = _with_logprobs(message, source)
    reason, native = finish_reason(source.get("done_reason"), calls=message.tool_calls is not None)
    completion = Completion(
        choices=(Choice(0, keeping(message, NAME, given) if keep else message, reason, native),),
        model=read.text(source, "model", "$") or "",
        created=unix_seconds(source.get("created_at")),
        usage=decode_usage(source),
        extra=NOTES.unknown({key: value for key, value in source.items() if value is not None}, TOP),
    )
    return keeping(completion, NAME, source) if keep else completion


def _with_logprobs(message: Message, source: dict[str, Any]) -> Message:
    logprobs = source.get("logprobs")
    if not (json.is_array(logprobs) and all(map(json.is_object, logprobs))):
        return message
    parts = (Text(part.text, logprobs=tuple(logprobs)) if isinstance(part, Text) else part for part in message.parts)
    return Message(message.role, tuple(parts), extra=message.extra)


def encode_completion(completion: Completion) -> dict[str, Any]:
    """Write a whole answer: its first choice, since Ollama knows of one only."""
    if (source := as_it_came(completion, NAME)) is not None:
        return cast(dict[str, Any], source)
    message = completion.choices[0].message if completion.choices else Message.assistant(())
    return {**_encode_top(completion), "message": Writer().one(message, "$.message")}


def _encode_top(completion: Completion) -> dict[str, Any]:
    result: dict[str, Any] = {
        "model": completion.model,
        "created_at": timestamp(unix_seconds(completion.created)),
        "done": True,
    }
    if completion.choices:
        choice = completion.choices[0]
        if choice.finish_reason is not None:
            result |= done_reason(choice.finish_reason, choice.native_finish_reason)
        texts = [part for part in choice.message.parts if isinstance(part, Text) and part.logprobs is not None]
        if texts:
            result["logprobs"] = [one for text in texts for one in text.logprobs or ()]
    return json.merged(result | _encode_usage(completion.usage), NOTES.own_extra(completion))


def line(events: Iterable[Event], model: str) -> dict[str, Any]:
    """Write one line of a streamed answer, but for the time, which each line has of its own.

    {"model": "llama3.2", "message": {"role": "assistant", "content": "Hi"}, "done": false}
    """
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    result: dict[str, Any] = {"model": model, "message": message, "done": False}
    for event in events:
        if isinstance(event, TextDelta):
            message["content"] += event.text
            if event.logprobs is not None:
                result["logprobs"] = [*event.logprobs]
        elif isinstance(event, ReasoningDelta):
            message["thinking"] = event.text
        elif isinstance(event, ToolCallDelta):
            call = ToolCall(event.id or "", event.name or "", event.arguments, event.kind or "function")
            written = json.merged(call_object(call), NOTES.own_extra(event))
            message["tool_calls"] = [*message.get("tool_calls", ()), written]
        elif isinstance(event, PartAdded) and isinstance(event.content, Image) and event.content.data is not None:
            message["images"] = [*message.get("images", ()), event.content.data]
        else:
            _note(event, result, message)
    result["message"] = message
    return result


def _note(event: Event, result: dict[str, Any], message: dict[str, Any]) -> None:
    """Write into a line what is no content."""
    if isinstance(event, Start):
        result |= json.merged(result, NOTES.own_extra(event))
    elif isinstance(event, MessageDelta):
        message |= {"role": event.role or "assistant", **NOTES.own_extra(event)}
    elif isinstance(event, UsageUpdate):
        result |= _encode_usage(event.usage)
    elif isinstance(event, Finish):
        result |= {"done": True, **done_reason(event.reason, event.native)}


def error_inside(source: dict[str, Any]) -> StreamError:
    """Return the error for an error object found where an answer should be."""
    return StreamError(
        f"The provider reported an error inside its answer: {words(source) or 'no reason given'}", body=source
    )


def error_object(error: APIError) -> dict[str, Any]:
    """Write the error object of a reply or of a line; one that came from this format is given back."""
    body = error.body
    if json.is_object(body) and isinstance(body.get("error"), str):
        return body
    return {"error": error.message}
