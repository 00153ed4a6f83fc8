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
        {"role": st.just("system"), "content": texts | st.lists(_text_blocks)}, optional={"x_message": scalars}
    )
    | st.fixed_dictionaries(
        {"role": st.just("user"), "content": texts | st.lists(_text_blocks | _image_blocks)},
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
_json_requests = st.fixed_dictionaries(
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
        "k": maybe(counts),
        "stop_sequences": _null | st.lists(texts, max_size=2),
        "safety_mode": st.just("STRICT"),
        "x_request": scalars,
    },
)


def _with_numbers(p: st.SearchStrategy[float], penalty: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, Any]]:
    more = st.fixed_dictionaries({}, optional={"p": maybe(p), "frequency_penalty": maybe(penalty)})
    return st.builds(lambda request, more: {**request, **more}, _json_requests, more)


json_requests = _with_numbers(st.floats(0, 1), st.floats(-2, 2))
sayable_requests = _with_numbers(st.floats(0.01, 0.99), st.floats(0, 1)).filter(
    lambda request: b"data:;base64" not in json.encode(request)
)
"""Those without what is changed when a request is written: numbers that Cohere does not take, pictures of no type."""

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


def _in_order(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number the contents in the order of their beginning, as a stream that is written again does."""
    places: dict[int, int] = {}
    result: list[dict[str, Any]] = []
    for one in frames:
        if one["type"] in ("content-start", "content-delta"):
            one = {**one, "index": places.setdefault(one["index"], len(places))}
        elif one["type"] == "content-end":
            one = {**one, "index": places.get(one["index"], 9)}
        elif one["type"] == "citation-start":
            cited = one["delta"]["message"]["citations"]
            one = frame(
                one["type"], {"citations": {**cited, "content_index": places.get(cited.get("content_index") or 0, 9)}}
            )
        result.append(one)
    return result


sayable_streams = json_streams.map(_in_order)


# Every field that the format knows

_FULL_CITATION: dict[str, Any] = {
    "start": 2,
    "end": 6,
    "text": "look",
    "content_index": 1,
    "type": "TEXT_CONTENT",
    "sources": [{"type": "document", "id": "d", "document": {"url": "https://x.org", "title": "X"}}],
}
_FULL_SPOKEN: dict[str, Any] = {
    "role": "assistant",
    "tool_plan": "I plan.",
    "content": [
        {"type": "thinking", "thinking": "A picture.", "x_block": 1},
        {"type": "text", "text": "I look.", "x_block": 2},
    ],
    "tool_calls": [
        {
            "id": "a",
            "type": "function",
            "x_call": 1,
            "function": {"name": "look", "arguments": '{"n":1}', "x_function": 1},
        }
    ],
    "citations": [_FULL_CITATION, {**_FULL_CITATION, "content_index": 0, "type": "THINKING_CONTENT"}],
    "x_message": 1,
}
FULL_REQUEST: dict[str, Any] = {
    "model": "command-a",
    "messages": [
        {"role": "system", "content": "Be brief.", "x_message": 1},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.org/1.png", "detail": "low", "x_image": 1}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        _FULL_SPOKEN,
        {
            "role": "tool",
            "tool_call_id": "a",
            "content": [{"type": "text", "text": "a cat"}, {"type": "document", "document": {"data": {"a": "b"}}}],
        },
    ],
    "stream": True,
    "strict_tools": True,
    "tools": [
        {
            "type": "function",
            "x_tool": 1,
            "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}, "x_function": 1},
        },
        {"type": "fresh"},
    ],
    "tool_choice": "REQUIRED",
    "temperature": 0.5,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "seed": 7,
    "max_tokens": 100,
    "logprobs": True,
    "p": 0.9,
    "k": 5,
    "stop_sequences": ["END"],
    "thinking": {"type": "enabled", "token_budget": 50, "x_thinking": 1},
    "response_format": {"type": "json_object", "json_schema": {"type": "object"}, "x_format": 1},
    "documents": ["text"],
    "safety_mode": "STRICT",
}
_FULL_USAGE: dict[str, Any] = {
    "billed_units": {"input_tokens": 3, "output_tokens": 4, "search_units": 1},
    "tokens": {"input_tokens": 9, "output_tokens": 5},
    "cached_tokens": 2,
}
FULL_ANSWER: dict[str, Any] = {
    "id": "c-1",
    "finish_reason": "STOP_SEQUENCE",
    "message": _FULL_SPOKEN,
    "usage": _FULL_USAGE,
    "logprobs": [{"text": "I", "token_ids": [1], "logprobs": [-0.5]}],
    "x_answer": 1,
}
FULL_STREAM: list[dict[str, Any]] = [
    {"id": "c-1", **frame("message-start", {"role": "assistant", "content": []}), "x_start": 1},
    frame("tool-plan-delta", {"tool_plan": "I pl"}),
    frame("tool-plan-delta", {"tool_plan": "an."}),
    frame("content-start", {"content": {"type": "thinking", "thinking": "", "x_content": 1}}, 0),
    frame("content-delta", {"content": {"thinking": "Hm."}}, 0),
    {"type": "content-end", "index": 0},
    frame("content-start", {"content": {"type": "text", "text": "I"}}, 1),
    frame(
        "content-delta",
        {"content": {"text": " look."}},
        1,
        logprobs={"text": " look.", "token_ids": [7], "logprobs": [-0.25]},
    ),
    frame("content-delta", {"content": {"text": "", "x_content": 2}}, 1),
    frame("citation-start", {"citations": _FULL_CITATION}, 0),
    frame("citation-start", {"citations": {**_FULL_CITATION, "content_index": 0}}, 1),
    {"type": "content-end", "index": 1},
    frame("tool-call-start", {"tool_calls": {**_FULL_SPOKEN["tool_calls"][0], "x_call": 1}}, 0),
    frame("tool-call-delta", {"tool_calls": {"function": {"arguments": "1"}}}, 0),
    {"type": "tool-call-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS", "usage": _FULL_USAGE}},
]
