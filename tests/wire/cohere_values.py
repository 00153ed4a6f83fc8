"""Strategies of what Cohere's Chat API v2 can say: neutral values, and JSON as clients and servers write it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Annotation, Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.chat.usage import Usage
from antiphon.formats import json
from antiphon.formats.framing import sse
from tests.wire.laws import (
    base64_texts,
    counts,
    extras,
    json_objects,
    maybe,
    names,
    scalars,
    texts,
    unknown_fields,
    urls,
)

NAME = "cohere"
PLAN = {NAME: {"type": "tool_plan"}}

said = st.text(min_size=1, max_size=12)
extra = extras(NAME)


def body(frames: Iterable[Any]) -> bytes:
    """Return *frames* as the events of a stream."""
    return b"".join(sse.encode(json.encode(frame), event=frame.get("type") or "x") for frame in frames)


# Neutral values

sources = unknown_fields.map(lambda more: {"type": "tool", "id": "f:0", "tool_output": more})
annotations = st.lists(
    st.builds(
        Annotation,
        kind=st.just("citation"),
        start=maybe(counts),
        end=maybe(counts),
        extra=sources.map(lambda source: {NAME: {"text": "x", "sources": [source]}}),
    ),
    max_size=2,
).map(tuple)
images = st.builds(Image, url=urls, detail=maybe(st.just("low")), extra=extra) | st.builds(
    Image, data=base64_texts, media_type=st.sampled_from(["image/png", "image/jpeg"]), extra=extra
)
calls = st.builds(ToolCall, names, names, texts, extra=extras(NAME, "function"))
plans = st.builds(Reasoning, said, extra=st.just(PLAN))
blocks = unknown_fields.map(lambda more: Opaque(NAME, {**more, "type": "document", "document": {"data": {}}}))


def _joined(*lists: Any) -> tuple[Part, ...]:
    return tuple(part for parts in lists for part in parts)


_texts = st.lists(st.builds(Text, said, extra=extra), min_size=1, max_size=2)
_some_calls = st.lists(calls, max_size=2)
messages = (
    st.builds(Message, st.just("system"), _texts.map(tuple), extra=extra)
    | st.builds(Message, st.just("user"), st.builds(_joined, st.lists(images, max_size=1), _texts), extra=extra)
    | st.builds(
        Message,
        st.just("assistant"),
        st.builds(
            _joined,
            st.lists(plans, max_size=1),
            st.lists(
                st.builds(Text, said, annotations, extra=extra) | st.builds(Reasoning, texts, extra=extra), max_size=3
            ),
            _some_calls,
        ),
        extra=extra,
    )
    | st.builds(
        lambda id, content: Message("tool", (ToolResult(id, tuple(content)),)),
        names,
        st.lists(st.builds(Text, said, extra=extra) | blocks, max_size=2),
    )
)


def _offer(tools: list[tuple[str, Any, Any]], strict: bool | None) -> tuple[Tool, ...]:
    return tuple(Tool(name, description, parameters, strict) for name, description, parameters in tools)


tools = st.builds(
    _offer, st.lists(st.tuples(names, maybe(texts), json_objects), min_size=1, max_size=2), maybe(st.booleans())
)
unit = maybe(st.floats(0, 0.99))
reasoning = st.just(ReasoningOptions(effort="none")) | st.builds(
    ReasoningOptions, budget_tokens=st.just(-1) | st.integers(1, 9)
)
formats = st.sampled_from([ResponseFormat("json"), ResponseFormat("text")]) | json_objects.map(
    lambda schema: ResponseFormat("json_schema", schema)
)


def _request(stream: bool, **fields: Any) -> ChatRequest:
    return ChatRequest(stream=stream, include_usage=True if stream else None, **fields)


def requests() -> st.SearchStrategy[ChatRequest]:
    """Give requests that this format can say in full."""
    return st.builds(
        _request,
        st.booleans(),
        model=names,
        messages=st.lists(messages, max_size=4).map(tuple),
        tools=maybe(tools),
        tool_choice=st.sampled_from([None, "required", "none"]),
        temperature=unit,
        top_p=maybe(st.floats(0.01, 0.99)),
        top_k=maybe(counts),
        max_tokens=maybe(counts),
        stop=maybe(st.lists(texts, max_size=2).map(tuple)),
        seed=maybe(counts),
        frequency_penalty=unit,
        presence_penalty=unit,
        logprobs=maybe(st.booleans()),
        response_format=maybe(formats),
        reasoning=maybe(reasoning),
        extra=extra,
    )


usages = st.builds(Usage, input_uncached=counts, output_visible=counts, extra=extra)
logprobs = st.lists(st.builds(lambda token: {"token": token, "logprob": -0.5}, texts), min_size=1, max_size=2).map(
    tuple
)
_REASONS = [
    ("stop", "COMPLETE"),
    ("stop", "STOP_SEQUENCE"),
    ("length", "MAX_TOKENS"),
    ("tool_calls", "TOOL_CALL"),
    ("content_filter", "ERROR_TOXIC"),
    ("other", "FRESH"),
]


def completions() -> st.SearchStrategy[Completion]:
    """Give answers that this format can say in full."""
    parts = st.builds(
        _joined,
        st.lists(plans, max_size=1),
        st.lists(st.builds(Reasoning, texts, extra=extra), max_size=1),
        st.lists(st.builds(Text, said, annotations, maybe(logprobs), extra=extra), max_size=1),
        _some_calls,
    )
    return st.builds(
        lambda parts, reason, **fields: Completion(
            choices=(Choice(0, Message("assistant", parts), *reason),), **fields
        ),
        parts,
        st.sampled_from(_REASONS),
        id=names,
        usage=maybe(usages),
        extra=extra,
    )


# JSON

_null = st.none()
_json_calls = st.fixed_dictionaries(
    {
        "id": names,
        "function": st.fixed_dictionaries({"name": names}, optional={"arguments": texts | _null, "x_f": scalars}),
    },
    optional={"type": st.just("function"), "x_c": scalars},
)
_text_blocks = st.fixed_dictionaries({"type": st.just("text"), "text": texts}, optional={"x_b": scalars})
_thinking_blocks = st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts}, optional={"x_b": scalars})
_image_blocks = st.builds(
    lambda url, more: {"type": "image_url", "image_url": {"url": url, **more}},
    urls | st.sampled_from(["data:image/png;base64,AAAA", "data:;base64,AAAA"]),
    st.sampled_from([{}, {"detail": "low"}, {"x_i": 1}]),
)
_other_blocks = unknown_fields.map(lambda more: {**more, "type": "document", "document": {"data": {"a": "b"}}})
_json_sources = sources | st.just({"type": "document", "id": "d", "document": {"url": "https://x.org", "title": "X"}})
_json_citations = st.fixed_dictionaries(
    {"text": texts},
    optional={
        "start": counts,
        "end": counts | _null,
        "sources": _null | st.lists(_json_sources, max_size=2),
        "content_index": st.integers(0, 2) | _null,
        "type": st.sampled_from(["TEXT_CONTENT", "THINKING_CONTENT", "PLAN"]),
    },
)
_spoken: dict[str, st.SearchStrategy[Any]] = {
    "tool_calls": _null | st.lists(_json_calls, max_size=2),
    "tool_plan": texts | _null,
    "citations": _null | st.lists(_json_citations, max_size=3),
    "x_message": scalars,
}
_blocks = st.lists(_text_blocks | _thinking_blocks | _other_blocks, max_size=3)
_json_messages = (
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user"]), "content": texts | st.lists(_text_blocks | _image_blocks)},
        optional={"x_message": scalars},
    )
    | st.fixed_dictionaries({"role": st.just("assistant")}, optional={**_spoken, "content": _null | texts | _blocks})
    | st.fixed_dictionaries(
        {"role": st.just("tool"), "tool_call_id": names, "content": texts | st.lists(_text_blocks | _other_blocks)},
        optional={"x_message": scalars},
    )
)
_json_tools = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": names}, optional={"parameters": json_objects, "x_f": scalars}),
    },
    optional={"x_t": scalars},
)
json_requests = st.fixed_dictionaries(
    {"model": names, "messages": st.lists(_json_messages, max_size=4)},
    optional={
        "stream": maybe(st.booleans()),
        "tools": _null | st.lists(_json_tools | st.just({"type": "fresh"}), max_size=2),
        "strict_tools": maybe(st.booleans()),
        "tool_choice": st.sampled_from([None, "REQUIRED", "NONE", "AUTO"]),
        "documents": st.sampled_from([None, [], ["text"], [{"id": "d", "data": {"text": "x"}}]]),
        "citation_options": st.just({"mode": "FAST"}),
        "response_format": st.sampled_from(
            [None, {"type": "text"}, {"type": "json_object", "json_schema": {}, "x_r": 1}, {"type": "fresh"}]
        ),
        "thinking": st.sampled_from(
            [None, {"type": "disabled"}, {"type": "enabled", "token_budget": 5, "x_t": 1}, {"type": "fresh"}]
        ),
        "p": maybe(st.floats(0, 1)),
        "k": maybe(counts),
        "frequency_penalty": maybe(st.floats(-2, 2)),
        "stop_sequences": _null | st.lists(texts, max_size=2),
        "safety_mode": st.just("STRICT"),
        "x_request": scalars,
    },
)
_some_counts = st.fixed_dictionaries(
    {}, optional={"input_tokens": counts | counts.map(float) | _null, "output_tokens": counts, "search_units": counts}
)
json_usages = st.fixed_dictionaries(
    {}, optional={"billed_units": _some_counts | _null, "tokens": _some_counts | _null, "cached_tokens": counts | _null}
)
_json_logprobs = st.fixed_dictionaries(
    {"token_ids": st.lists(counts, max_size=2)}, optional={"text": texts, "logprobs": _null | st.just([-0.5, -1])}
)
_finishes = st.sampled_from(["COMPLETE", "STOP_SEQUENCE", "MAX_TOKENS", "TOOL_CALL", "ERROR_TOXIC", "FRESH"])
json_answers = st.fixed_dictionaries(
    {
        "finish_reason": _finishes,
        "message": st.fixed_dictionaries(
            {"role": st.just("assistant")}, optional={**_spoken, "content": _null | _blocks}
        ),
    },
    optional={
        "id": names,
        "usage": json_usages | _null,
        "logprobs": _null | st.lists(_json_logprobs, max_size=2),
        "x_answer": scalars,
    },
)


def frame(kind: str, message: Any, index: int | None = None, **more: Any) -> dict[str, Any]:
    """Return a frame with a delta of the message."""
    return {"type": kind, **({} if index is None else {"index": index}), "delta": {"message": message}, **more}


_indexes = st.integers(0, 2)
_contents = st.builds(
    lambda kind, index, content, logprob: frame(kind, {"content": content}, index, **logprob),
    st.sampled_from(["content-start", "content-delta", "content-delta", "content-delta"]),
    _indexes,
    st.fixed_dictionaries({"text": texts}, optional={"type": st.just("text"), "x_c": scalars})
    | st.fixed_dictionaries({"thinking": texts}, optional={"type": st.just("thinking")}),
    st.just({}) | _json_logprobs.map(lambda logprobs: {"logprobs": logprobs}),
)
_call_starts = st.builds(
    lambda index, call: frame("tool-call-start", {"tool_calls": call}, index), _indexes, _json_calls
)
_frames = (
    _contents
    | _contents
    | _call_starts
    | st.builds(lambda text: frame("tool-plan-delta", {"tool_plan": text}), texts)
    | st.builds(lambda index, one: frame("citation-start", {"citations": one}, index), _indexes, _json_citations)
    | st.builds(
        lambda kind, index: {"type": kind, "index": index},
        st.sampled_from(["content-end", "tool-call-end", "citation-end", "fresh"]),
        _indexes,
    )
)


def _call_deltas(frames: list[dict[str, Any]], pieces: list[str]) -> list[dict[str, Any]]:
    """Add pieces of the arguments after the last call that began."""
    begun = [place for place, one in enumerate(frames) if one["type"] == "tool-call-start"]
    if not begun:
        return frames
    index = frames[begun[-1]]["index"]
    deltas = [frame("tool-call-delta", {"tool_calls": {"function": {"arguments": piece}}}, index) for piece in pieces]
    return [*frames[: begun[-1] + 1], *deltas, *frames[begun[-1] + 1 :]]


_starts = st.fixed_dictionaries(
    {
        "type": st.just("message-start"),
        "delta": st.sampled_from([{}, {"message": {"role": "assistant", "content": []}}]),
    },
    optional={"id": names | _null, "x_start": scalars},
)
_ends = st.builds(
    lambda reason, delta, more: {"type": "message-end", "delta": {"finish_reason": reason, **delta}, **more},
    _finishes,
    st.just({}) | json_usages.map(lambda usage: {"usage": usage}),
    st.sampled_from([{}, {"id": "m"}]),
)
json_streams = st.builds(
    lambda starts, frames, pieces, end, late: [*starts, *_call_deltas(frames, pieces), end, *late],
    st.lists(_starts, max_size=1),
    st.lists(_frames, max_size=6),
    st.lists(texts, max_size=2),
    _ends,
    st.lists(st.just({"type": "fresh"}), max_size=1),
)
forced = names.map(ToolName)
