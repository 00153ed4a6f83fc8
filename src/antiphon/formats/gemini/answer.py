"""Gemini answers, their usage and errors, both ways. Pure functions, no I/O.

* `promptTokenCount` includes what the cache gave and leaves out what the provider's own tools brought back as input;
  `candidatesTokenCount` leaves out the thoughts. All four kinds are billed, and `totalTokenCount` is their sum.
* A call ends with `STOP`, so whether there was one is told by the parts. A prompt that is blocked has no candidates.
* `groundingMetadata` names sources and the stretches of text that they support, in bytes: a source and a stretch are an
  annotation, with the provider's numbers; search queries and what must be shown beside them stay in `extra`.

Sources: google-genai 3.4, `types.py` (read 2026-11-23); recorded answers; the tables of finish reasons and of errors in
wire-formats.md; google.rpc's `code.proto` and `error_details.proto` for names and retry hints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Annotation, FinishReason, Message, Part, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, AuthenticationError, StreamError
from antiphon.formats import json, patch, read
from antiphon.formats.codec import Headers
from antiphon.formats.gemini.message import NAME, NOTES, Ids, Writer, decode_content
from antiphon.formats.status import RETRYABLE, excerpt, http_status, status_error, wait_seconds, words
from antiphon.formats.times import timestamp, unix_seconds

__all__ = [
    "blocked",
    "candidate_extra",
    "decode_annotations",
    "decode_completion",
    "decode_error",
    "decode_logprobs",
    "decode_usage",
    "encode_candidate",
    "encode_completion",
    "encode_error",
    "encode_head",
    "encode_usage",
    "error_inside",
    "finish_reason",
    "head_of",
]

_Object: TypeAlias = dict[str, Any]

_KINDS: dict[FinishReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS CONTINUATION",
    "content_filter": "SAFETY BLOCKLIST PROHIBITED_CONTENT SPII RECITATION MODEL_ARMOR JAILBREAK IMAGE_SAFETY "
    "IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION",
    "error": "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE "
    "MALFORMED_RESPONSE LANGUAGE NO_IMAGE",
}
_FINISH: dict[str, FinishReason] = {word: reason for reason, words in _KINDS.items() for word in words.split()}
_STOP = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_TOP: _Object = dict.fromkeys(("candidates", "usageMetadata", "modelVersion", "responseId", "createTime"))
_CANDIDATE: _Object = {
    **dict.fromkeys(("content", "finishReason", "index", "logprobsResult")),
    "groundingMetadata": {"groundingChunks": None, "groundingSupports": None},
}
_COUNTS = ("promptTokenCount", "cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
_USAGE: _Object = dict.fromkeys((*_COUNTS, "totalTokenCount"))
_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip


# Why it ended


def finish_reason(native: object, *, calls: bool) -> tuple[FinishReason, str | None]:
    """Return the canonical reason and the provider's own word; an unknown word is `other`, never `stop`."""
    if not isinstance(native, str):
        return "other", None
    reason = _FINISH.get(native, "other")
    return ("tool_calls" if reason == "stop" and calls else reason), native


def _native(reason: FinishReason | None, native: str | None) -> str:
    """Return Gemini's word; another format's for a reason that nobody else knows is passed on."""
    if native is not None and reason in (_FINISH.get(native, "other"), "tool_calls" if native == "STOP" else None):
        return native
    return _STOP.get(reason or "stop", native or "OTHER")


def blocked(source: _Object) -> str | None:
    """Return why a prompt was refused, or `None`."""
    feedback = source.get("promptFeedback")
    return json.text(feedback.get("blockReason")) if json.is_object(feedback) else None


# Usage


def decode_usage(source: _Object) -> Usage:
    """Read a `usageMetadata` object into disjoint buckets."""
    prompt, cached, output, thoughts = (json.integer(source.get(key)) for key in _COUNTS)
    tools = json.integer(source.get("toolUsePromptTokenCount"))
    if cached is not None:
        cached = min(cached, prompt or 0)
    usage = Usage(
        input_uncached=None if prompt is None and tools is None else (prompt or 0) - (cached or 0) + (tools or 0),
        input_cache_read=cached,
        output_visible=output,
        output_reasoning=thoughts,
        input_audio=_audio(source.get("promptTokensDetails")),
        output_audio=_audio(source.get("candidatesTokensDetails")),
        extra=NOTES.unknown({key: value for key, value in source.items() if value is not None}, _USAGE),
    )
    return NOTES.with_form(usage, encode_usage(usage), source)


def _audio(details: object) -> int | None:
    for item in details if json.is_array(details) else ():
        if json.is_object(item) and item.get("modality") == "AUDIO":
            return json.integer(item.get("tokenCount"))
    return None


def encode_usage(usage: Usage) -> _Object:
    """Write a `usageMetadata` object."""
    own = NOTES.own_extra(usage)
    tools = json.integer(own.get("toolUsePromptTokenCount")) or 0
    result: _Object = {"promptTokenCount": (usage.prompt_tokens or 0) - tools}
    for key, count in (
        ("candidatesTokenCount", usage.output_visible),
        ("cachedContentTokenCount", usage.input_cache_read),
        ("thoughtsTokenCount", usage.output_reasoning),
    ):
        if count is not None:
            result[key] = count
    result["totalTokenCount"] = usage.total_tokens or 0
    for key, count in (("promptTokensDetails", usage.input_audio), ("candidatesTokensDetails", usage.output_audio)):
        if count is not None:
            result[key] = [{"modality": "AUDIO", "tokenCount": count}]
    written: _Object = patch.apply(json.merged(result, own), NOTES.own_form(usage))
    return written


# What a candidate says of its text


def candidate_extra(source: _Object) -> _Object:
    """Return the fields of a candidate that only this format knows."""
    said = {key: value for key, value in source.items() if value is not None}
    return dict((NOTES.unknown(said, _CANDIDATE) or {}).get(NAME, {}))


def decode_logprobs(source: _Object) -> tuple[_Object, ...] | None:
    """Read `logprobsResult`."""
    result = source.get("logprobsResult")
    chosen = result.get("chosenCandidates") if json.is_object(result) else None
    if not json.is_object(result) or not json.is_array(chosen):
        return None
    others = result.get("topCandidates")
    tops = [_entries(item.get("candidates")) if json.is_object(item) else [] for item in others or ()]
    entries = _entries(chosen)
    if tops and len(tops) == len(entries):
        return tuple({**entry, "top_logprobs": top} for entry, top in zip(entries, tops, strict=True))
    return tuple(entries)


def _entries(items: object) -> list[_Object]:
    """Read candidates for a token; one that is none is kept in its place."""
    given: list[Any] = items if json.is_array(items) else []
    found = (item if json.is_object(item) else {} for item in given)
    return [{"token": item.get("token"), "logprob": item.get("logProbability")} for item in found]


def _encode_logprobs(tokens: Sequence[Any]) -> _Object:
    result: _Object = {"chosenCandidates": [_entry(token) for token in tokens]}
    if any("top_logprobs" in token for token in tokens):
        tops = (token.get("top_logprobs") or () for token in tokens)
        result["topCandidates"] = [{"candidates": [_entry(token) for token in top]} for top in tops]
    return result


def _entry(token: Any) -> _Object:
    return {"token": token.get("token"), "logProbability": token.get("logprob")}


_CHUNKS = {"web": "url_citation"}
_CHUNK_NAMES = {kind: key for key, kind in _CHUNKS.items()}


def decode_annotations(source: _Object) -> list[tuple[int | None, Annotation]]:
    """Read the sources in `groundingMetadata`: those that support a stretch of text first, with the number of its part.

    Where in the text it is counts in bytes.
    """
    metadata = source.get("groundingMetadata")
    if not json.is_object(metadata):
        return []
    given = metadata.get("groundingChunks")
    chunks = [_decode_chunk(chunk) for chunk in given] if json.is_array(given) else []
    supports = metadata.get("groundingSupports")
    found: list[tuple[int | None, Annotation]] = []
    used: set[int] = set()
    for support in supports if json.is_array(supports) else ():
        if not json.is_object(support):
            continue
        given = support.get("segment")
        segment: _Object = given if json.is_object(given) else {}
        start, end = json.integer(segment.get("startIndex")) or 0, json.integer(segment.get("endIndex"))
        indices = support.get("groundingChunkIndices")
        for index in indices if json.is_array(indices) else ():
            if type(index) is int and 0 <= index < len(chunks):
                used.add(index)
                annotation = msgspec.structs.replace(chunks[index], start=start, end=end)
                found.append((json.integer(segment.get("partIndex")), annotation))
    return [*found, *((None, chunk) for place, chunk in enumerate(chunks) if place not in used)]


def _decode_chunk(source: Any) -> Annotation:
    kind, given = next(iter(source.items()), ("", None)) if json.is_object(source) else ("", None)
    fields: _Object = given if json.is_object(given) else {}
    return Annotation(
        kind=_CHUNKS.get(kind, kind),
        url=json.text(fields.get("uri")),
        title=json.text(fields.get("title")),
        extra=NOTES.unknown(fields, {"uri": None, "title": None}),
    )


def _encode_annotations(annotations: Iterable[Annotation]) -> _Object:
    """Write `groundingMetadata`: each source once, each stretch of text once."""
    chunks: dict[bytes, tuple[int, _Object]] = {}  # each with its place, by how it is written
    supports: list[_Object] = []
    for annotation in annotations:
        fields = {"uri": annotation.url, "title": annotation.title}
        said = {key: value for key, value in fields.items() if value is not None} | {**NOTES.own_extra(annotation)}
        chunk = {_CHUNK_NAMES.get(annotation.kind, annotation.kind): said}
        place, _ = chunks.setdefault(json.encode(chunk), (len(chunks), chunk))
        if annotation.end is None and annotation.start is None:
            continue
        places = {"startIndex": annotation.start or None, "endIndex": annotation.end}
        segment = {key: value for key, value in places.items() if value is not None}
        if not supports or supports[-1]["segment"] != segment:
            supports.append({"segment": segment, "groundingChunkIndices": []})
        supports[-1]["groundingChunkIndices"].append(place)
    listed = {"groundingChunks": [chunk for _, chunk in chunks.values()]}
    return {**listed, "groundingSupports": supports} if supports else listed


# Whole answers


def decode_completion(source: _Object) -> Completion:
    """Read a whole answer.

    Raises:
        StreamError: It is an error object, or has neither candidates nor a reason for that.
        BadRequestError: With `param` the path of a value of the wrong type; the caller names the provider's fault.
    """
    if source.get("error"):
        raise error_inside(source)
    candidates = read.array(source, "candidates", "$")
    usage = read.object_(source, "usageMetadata", "$")
    head = head_of(source)
    ids = Ids(head["id"] or "call")
    choices = tuple(_decode_candidate(item, f"$.candidates[{place}]", place, ids)
                    for place, item in enumerate(candidates or ()))  # fmt: skip
    if not choices:
        reason = blocked(source)
        if reason is None:
            raise StreamError(f"The provider's answer has no candidates and does not say why: {_seen(source)}")
        choices = (Choice(0, Message("assistant"), "content_filter", reason),)
    completion = Completion(choices=choices, usage=None if usage is None else decode_usage(usage), **head)
    canonical, actual = encode_completion(completion), dict(source)
    return NOTES.with_form(completion, *_compared(canonical, actual))


def _seen(source: _Object) -> str:
    return excerpt(json.encode(sorted(source)))


def _compared(canonical: _Object, actual: _Object) -> tuple[_Object, _Object]:
    """Leave out of both the contents that were read: these keep a form of their own."""
    ours, theirs = canonical["candidates"], actual.get("candidates")
    if json.is_array(theirs) and len(theirs) == len(ours):
        pairs = [_without_content(one, other) for one, other in zip(ours, theirs, strict=True)]
        canonical["candidates"], actual["candidates"] = (list(side) for side in zip(*pairs, strict=True))
    return canonical, actual


def _without_content(one: _Object, other: _Object) -> tuple[_Object, _Object]:
    if "content" not in one:
        return one, other
    return tuple({k: v for k, v in side.items() if k != "content"} for side in (one, other))  # type: ignore[return-value]


def head_of(source: _Object) -> _Object:
    """Return what an answer, or a frame of one, says of itself: `id`, `model`, `created` and `extra`."""
    said = {key: value for key, value in source.items() if value is not None}
    return {
        "id": json.text(source.get("responseId")) or "",
        "model": json.text(source.get("modelVersion")) or "",
        "created": unix_seconds(source.get("createTime")),
        "extra": NOTES.unknown(said, _TOP),
    }


def encode_head(answer: Any) -> _Object:
    """Write what an answer says of itself: a `Completion` or a `Start`."""
    result: _Object = {}
    if answer.model:
        result["modelVersion"] = answer.model
    if answer.id:
        result["responseId"] = answer.id
    if created := unix_seconds(answer.created):
        result["createTime"] = timestamp(created)
    return json.merged(result, NOTES.own_extra(answer))


def _decode_candidate(source: Any, path: str, place: int, ids: Ids) -> Choice:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    index = read.integer(source, "index", path)
    content = read.object_(source, "content", path)
    message = Message("assistant")
    if content is not None and content.get("parts"):
        message = decode_content(content, f"{path}.content", ids, role="model")
    parts = _with_facts(message.parts, decode_annotations(source), decode_logprobs(source))
    calls = any(isinstance(part, ToolCall) for part in parts)
    reason, native = finish_reason(source.get("finishReason"), calls=calls)
    return Choice(
        place if index is None else index,
        msgspec.structs.replace(message, parts=parts),
        reason,
        native,
        NOTES.extra_of(candidate_extra(source)),
    )


def _with_facts(
    parts: tuple[Part, ...], annotations: Sequence[tuple[int | None, Annotation]], logprobs: tuple[_Object, ...] | None
) -> tuple[Part, ...]:
    """Give annotations to the parts that they name, or like log-probabilities to the last text."""
    texts = [place for place, part in enumerate(parts) if isinstance(part, Text)]
    if not texts or not (annotations or logprobs):
        return parts
    mine: dict[int, list[Annotation]] = {place: [] for place in texts}
    last = texts[-1]
    for number, annotation in annotations:
        mine[number if number in mine else last].append(annotation)
    result: list[Any] = list(parts)
    for place, found in mine.items():
        more = {"annotations": tuple(found), "logprobs": logprobs if place == last else None}
        result[place] = msgspec.structs.replace(parts[place], **more)
    return tuple(result)


def encode_completion(completion: Completion) -> _Object:
    """Write a whole answer."""
    result: _Object = {"candidates": [encode_candidate(choice) for choice in completion.choices]}
    if completion.usage is not None:
        result["usageMetadata"] = encode_usage(completion.usage)
    written: _Object = patch.apply(result | encode_head(completion), NOTES.own_form(completion))
    return written


def encode_candidate(choice: Choice) -> _Object:
    """Write one candidate."""
    result: _Object = {}
    message = choice.message
    if message.parts:
        # What was read from this format is written as a request would be, which is what its form was made against.
        result["content"] = Writer(answer=NOTES.own_form(message) is None).content(message, "$")
    if choice.finish_reason is not None:
        result["finishReason"] = _native(choice.finish_reason, choice.native_finish_reason)
    result["index"] = choice.index
    texts = [part for part in message.parts if isinstance(part, Text)]
    if annotations := [annotation for text in texts for annotation in text.annotations]:
        result["groundingMetadata"] = _encode_annotations(annotations)
    if logprobs := [token for text in texts for token in text.logprobs or ()]:
        result["logprobsResult"] = _encode_logprobs(logprobs)
    return json.merged(result, NOTES.own_extra(choice))


# Errors


def decode_error(status: int, headers: Headers, body: bytes) -> APIError:
    """Read an error reply: an object, or an array of one where a stream without server-sent events was asked for."""
    try:
        source = json.decode(body)
    except json.MALFORMED:
        return status_error(status, headers, excerpt(body))
    inner = _inner(source)
    reason = _detail(inner, "reason")
    kind = json.text(inner.get("status"))
    error: APIError = status_error(status, headers, words(source), code=reason, type=kind, body=source)
    if status == 400 and reason in ("API_KEY_INVALID", "API_KEY_EXPIRED"):
        error = AuthenticationError(error.message, status=status, code=reason, type=kind, body=source)
    if error.retry_after is None and (delay := _detail(inner, "retryDelay")) is not None:
        error.retry_after = _seconds(delay)
    return error


def _inner(source: Any) -> _Object:
    if json.is_array(source) and source:
        source = source[0]
    inner = source.get("error") if json.is_object(source) else None
    return inner if json.is_object(inner) else {"message": inner}


def _detail(inner: _Object, key: str) -> str | None:
    """Return what any of an error's details says under *key*."""
    details = inner.get("details")
    found = (item.get(key) for item in details if json.is_object(item)) if json.is_array(details) else ()
    return next((value for value in found if isinstance(value, str)), None)


def _seconds(delay: str) -> float | None:
    """Read a duration as protocol buffers write it, `34.5s`."""
    return wait_seconds(delay.removesuffix("s"))


def error_inside(source: Any) -> StreamError:
    """Return the error for an error object found where an answer should be."""
    inner = _inner(source)
    status = json.integer(inner.get("code"))
    delay = _detail(inner, "retryDelay")
    return StreamError(
        f"The provider reported an error inside its answer: {words(source) or 'no reason given'}",
        status=status,
        code=_detail(inner, "reason"),
        type=json.text(inner.get("status")),
        body=source,
        retryable=status is not None and (status in RETRYABLE or status >= 500),
        retry_after=None if delay is None else _seconds(delay),
    )


def encode_error(error: APIError) -> _Object:
    """Write the error object of a reply or of a streamed frame; one that came from this format is given back."""
    body = error.body
    inner = _inner(body)
    if json.is_object(body) and json.integer(inner.get("code")) and json.text(inner.get("status")):
        return body
    status = http_status(error)
    kind = error.type if error.type in _STATUS.values() else _STATUS.get(status)
    said: _Object = {
        "code": status,
        "message": error.message,
        "status": kind or ("INVALID_ARGUMENT" if status < 500 else "INTERNAL"),
    }
    if (wait := wait_seconds(error.retry_after)) is not None:
        hint = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait:g}s"}
        said["details"] = [hint]
    return {"error": said}
