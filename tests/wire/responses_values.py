"""Strategies of what OpenAI Responses can say: neutral requests and answers, and JSON as it stands on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Message, Opaque, Reasoning, Refusal, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.chat.usage import Usage
from tests.wire.laws import (
    base64_texts,
    citations,
    counts,
    extras,
    files,
    images,
    json_objects,
    maybe,
    names,
    scalars,
    sounds,
    texts,
    unknown_fields,
    unknown_keys,
    unknown_values,
    urls,
)

NAME = "openai-responses"

extra = extras(NAME)
opaques = st.builds(
    lambda kind, fields: Opaque(NAME, {**fields, "type": kind}),
    st.sampled_from(["web_search_call", "compaction", "item_reference", "fresh_item"]),
    unknown_fields,
)


def plain(value: Any) -> Any:
    """Return *value* without the memory of how it was written."""
    if isinstance(value, msgspec.Struct):
        fields = {key: plain(getattr(value, key)) for key in value.__struct_fields__ if key != "form"}
        return type(value)(**fields)
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


# Neutral values

_tokens = st.lists(st.fixed_dictionaries({"token": texts, "logprob": st.floats(-9, 0)}), min_size=1, max_size=2)
spoken = st.builds(Text, texts, citations(NAME), maybe(_tokens.map(tuple)), extra=extra)
refusals = st.builds(Refusal, texts, extra=extra)
thoughts = st.builds(Reasoning, texts, names, extra=extra)
calls = st.builds(ToolCall, names, names, texts, st.sampled_from(["function", "custom"]), extra=extra)
_detailed = images(extra).map(
    lambda image: msgspec.structs.replace(image, detail=None if image.detail == "auto" else image.detail)
)
_files = files(extra).map(lambda file: msgspec.structs.replace(file, media_type=file.media_type if file.data else None))
prompts = st.builds(Text, texts, extra=extra) | _detailed | _files | sounds(extra)
results = st.builds(ToolResult, names, st.lists(prompts, min_size=1, max_size=2).map(tuple), extra=extra)


def _message(role: str, parts: st.SearchStrategy[Any], most: int = 3, **fields: Any) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.just(role), st.lists(parts, min_size=1, max_size=most).map(tuple), **fields)


assistant_parts = spoken | refusals | thoughts | calls.filter(lambda call: call.kind == "function") | opaques
others = (
    _message("user", prompts, extra=extra)
    | _message("system", st.builds(Text, texts, extra=extra), extra=extra)
    | _message("developer", st.builds(Text, texts, extra=extra), extra=extra)
    | _message("tool", results, 1)
)
conversations = st.lists(
    st.builds(lambda one, more: (*one, more), st.lists(_message("assistant", assistant_parts, 4), max_size=1), others),
    max_size=3,
).map(lambda turns: tuple(message for turn in turns for message in turn))

_schemas = maybe(json_objects)
tools = st.builds(Tool, names, maybe(texts), _schemas, st.sampled_from([None, True]), extra=extra)
server_tools = unknown_fields.map(lambda more: Opaque(NAME, {**more, "type": "web_search"}))
efforts = st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"])
reasoning = st.builds(ReasoningOptions, effort=efforts, include=st.sampled_from([None, True])) | st.just(
    ReasoningOptions(include=True)
)
formats = st.sampled_from([ResponseFormat("text"), ResponseFormat("json")]) | st.builds(
    ResponseFormat, st.just("json_schema"), json_objects, names, maybe(texts), maybe(st.booleans())
)
_beyond = st.builds(
    lambda fields, nested: {NAME: {**fields, **nested}} if fields or nested else None,
    unknown_fields,
    st.sampled_from(
        [
            {},
            {"text": {"verbosity": "low"}},
            {"reasoning": {"context": "all_turns"}},
            {"previous_response_id": "resp_1", "store": False, "background": True},
            {"include": ["reasoning.encrypted_content"]},
        ]
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    """Give requests that this format can say without loss."""
    stream = draw(st.booleans())
    return draw(
        st.builds(
            ChatRequest,
            names,
            conversations,
            tools=maybe(st.lists(tools | server_tools, max_size=2).map(tuple)),
            tool_choice=maybe(
                st.sampled_from(["auto", "none", "required", ToolName("f"), Opaque(NAME, {"type": "x"})])
            ),
            parallel_tool_calls=maybe(st.booleans()),
            temperature=maybe(st.floats(0, 2)),
            top_p=maybe(st.floats(0, 1)),
            max_tokens=maybe(counts),
            logprobs=st.sampled_from([None, True]),
            top_logprobs=maybe(counts),
            response_format=maybe(formats),
            reasoning=maybe(reasoning),
            user=maybe(texts),
            service_tier=maybe(st.sampled_from(["auto", "flex"])),
            stream=st.just(stream),
            include_usage=st.just(True if stream else None),
            extra=_beyond,
        )
    )


usages = st.builds(
    Usage,
    input_uncached=counts,
    input_cache_read=counts,
    input_cache_write=maybe(counts),
    output_visible=counts,
    output_reasoning=counts,
    cost=maybe(st.floats(0, 100)),
    extra=extra,
)
_endings = st.sampled_from(
    [("length", "max_output_tokens"), ("content_filter", "content_filter"), ("other", "steered"), ("pause", "pause")]
)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    """Give answers that this format can say without loss."""
    parts = tuple(draw(st.lists(spoken | refusals | thoughts | calls | opaques, max_size=4)))
    reason, native = draw(_endings | st.just(("stop", "completed")))
    if native == "completed":
        kinds = {type(part) for part in parts}
        reason = "content_filter" if Refusal in kinds else "tool_calls" if ToolCall in kinds else "stop"
    return Completion(
        choices=(Choice(0, Message("assistant", parts), reason, native),),
        id=draw(names),
        model=draw(names),
        created=draw(counts),
        usage=draw(usages),
        extra=draw(extra),
    )


# JSON, as it stands on the wire


def _mixed(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give objects with the *required* fields, some of the *optional* ones, nulls for others, and unknown fields."""
    fixed = st.fixed_dictionaries(
        {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in required.items()},
        optional={key: st.none() | value for key, value in optional.items()},
    )
    return st.builds(lambda known, more: {**more, **known}, fixed, st.dictionaries(unknown_keys, scalars, max_size=1))


_own = {"id": names, "status": st.sampled_from(["in_progress", "completed", "incomplete"])}
_data_urls = base64_texts.map("data:image/png;base64,{}".format)
json_content = (
    _mixed({"type": "input_text", "text": texts}, {})
    | _mixed({"type": "input_image"}, {"image_url": urls | _data_urls, "file_id": names, "detail": names})
    | _mixed({"type": "input_file"}, {"file_data": base64_texts | _data_urls, "file_url": urls, "filename": names})
    | _mixed({"type": "input_audio", "input_audio": _mixed({"data": base64_texts}, {"format": names})}, {})
    | _mixed({"type": "fresh_part"}, {})
)
_json_annotations = st.lists(
    _mixed({"type": "url_citation"}, {"url": urls, "title": texts, "start_index": counts, "end_index": counts})
    | _mixed({"type": "file_citation", "file_id": names, "index": counts}, {"filename": names}),
    max_size=2,
)
_json_pieces = st.lists(
    _mixed(
        {"type": "output_text", "text": texts},
        {"annotations": _json_annotations, "logprobs": st.just([]) | _tokens},
    )
    | _mixed({"type": "refusal", "refusal": texts}, {}),
    max_size=3,
)
json_spoken = _mixed(
    {"type": "message", "role": "assistant", "content": _json_pieces | texts},
    {**_own, "phase": st.sampled_from(["commentary", "final_answer"])},
)
_paragraphs = st.lists(_mixed({"type": "summary_text", "text": texts}, {}), max_size=2)
json_made = (
    json_spoken
    | _mixed(
        {"type": "reasoning", "summary": _paragraphs}, {**_own, "content": _paragraphs, "encrypted_content": names}
    )
    | _mixed(
        {"type": "function_call", "call_id": names, "name": names, "arguments": texts}, {**_own, "namespace": names}
    )
    | _mixed({"type": "custom_tool_call", "call_id": names, "name": names, "input": texts}, _own)
    | _mixed({"type": st.sampled_from(["web_search_call", "fresh_item"])}, {**_own, "action": json_objects})
)
_roles = st.sampled_from(["user", "system", "developer"])
json_items = (
    json_made
    | _mixed(
        {"role": _roles, "content": texts | st.lists(json_content, max_size=2)}, {"type": st.just("message"), **_own}
    )
    | _mixed(
        {
            "type": st.sampled_from(["function_call_output", "custom_tool_call_output"]),
            "call_id": names,
            "output": texts | st.lists(json_content, max_size=2),
        },
        _own,
    )
    | _mixed({"role": "assistant", "content": texts}, {})
)
_json_tools = _mixed(
    {"type": "function", "name": names},
    {"description": texts, "parameters": json_objects, "strict": st.booleans(), "defer_loading": st.booleans()},
) | _mixed({"type": st.sampled_from(["web_search", "custom", "mcp"])}, {"name": names})
_json_formats = _mixed(
    {"type": st.sampled_from(["text", "json_object", "json_schema", "grammar"])},
    {"name": names, "schema": json_objects, "description": texts, "strict": st.booleans()},
)
json_requests = _mixed(
    {"model": names},
    {
        "input": texts | st.lists(json_items, max_size=5),
        "instructions": texts,
        "max_output_tokens": counts,
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "top_logprobs": counts,
        "stream": st.booleans(),
        "stream_options": st.just({"include_obfuscation": False}),
        "tools": st.lists(_json_tools, max_size=2),
        "tool_choice": st.sampled_from(
            ["auto", "none", "required", {"type": "function", "name": "f"}, {"type": "mcp"}]
        ),
        "parallel_tool_calls": st.booleans(),
        "include": st.lists(
            st.sampled_from(["message.output_text.logprobs", "reasoning.encrypted_content"]), max_size=3, unique=True
        ),
        "text": _mixed({}, {"format": _json_formats, "verbosity": names}),
        "reasoning": _mixed(
            {}, {"effort": efforts, "summary": st.sampled_from(["auto", "detailed"]), "context": names}
        ),
        "previous_response_id": names,
        "conversation": names | st.just({"id": "conv_1"}),
        "store": st.booleans(),
        "background": st.booleans(),
        "metadata": json_objects,
        "user": names,
        "service_tier": names,
        "truncation": names,
    },
)
json_usages = _mixed(
    {"input_tokens": counts, "output_tokens": counts, "total_tokens": counts},
    {
        "input_tokens_details": _mixed({}, {"cached_tokens": counts, "cache_write_tokens": counts}),
        "output_tokens_details": _mixed({}, {"reasoning_tokens": counts}),
        "cost": st.floats(0, 9),
    },
)
_json_ends = st.sampled_from(
    [
        {"status": "completed"},
        {"status": "completed", "incomplete_details": None, "error": None},
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        {"status": "incomplete", "incomplete_details": {"reason": "fresh", "x": 1}},
        {"status": "queued"},
        {"status": "fresh"},
    ]
)
json_answers = st.builds(
    lambda answer, end: {**answer, **end},
    _mixed(
        {"id": names, "object": "response", "model": names, "output": st.lists(json_made, max_size=4)},
        {
            "created_at": counts | st.just(1784324967.0),
            "usage": json_usages,
            "tools": st.lists(_json_tools, max_size=1),
            "tool_choice": names,
            "parallel_tool_calls": st.booleans(),
            "metadata": json_objects,
            "instructions": texts,
            "temperature": st.floats(0, 2),
        },
    ),
    _json_ends,
)


# Streams


@st.composite
def json_streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Give the frames of a streamed answer, as the API sends them, with what it may add to them."""
    answer = draw(json_answers.filter(lambda answer: answer["status"] in ("completed", "incomplete")))
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    frames: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(answer["output"]):
        frames += [{**frame, "output_index": index} for frame in draw(_item_frames(item))]
    frames.append({"type": f"response.{answer['status']}", "response": answer})
    for place in draw(st.lists(st.integers(2, 40), max_size=2)):
        frames.insert(min(place, len(frames) - 1), {"type": "response.fresh", "x": 1})
    return [{**frame, "sequence_number": number} for number, frame in enumerate(frames)]


@st.composite
def _item_frames(draw: st.DrawFn, item: dict[str, Any]) -> list[dict[str, Any]]:
    kind = item["type"]
    start, frames = dict(item), []
    where = {"item_id": item.get("id")}
    if kind == "message" and isinstance(item["content"], list):
        start["content"] = []
        for place, piece in enumerate(item["content"]):
            frames += draw(_piece_frames(piece, {**where, "content_index": place}))
    elif kind == "reasoning":
        start |= {"summary": []}
        for place, piece in enumerate(item["summary"]):
            summary = {**where, "summary_index": place}
            frames.append({"type": "response.reasoning_summary_part.added", **summary, "part": {**piece, "text": ""}})
            name = "response.reasoning_summary_text"
            frames += [{"type": f"{name}.delta", **summary, "delta": cut} for cut in draw(_cut(piece["text"]))]
            frames.append({"type": f"{name}.done", **summary, "text": piece["text"]})
    elif kind in ("function_call", "custom_tool_call"):
        key, name = (
            ("arguments", "function_call_arguments") if kind == "function_call" else ("input", "custom_tool_call_input")
        )
        start[key] = ""
        frames += [{"type": f"response.{name}.delta", **where, "delta": cut} for cut in draw(_cut(item[key]))]
        frames.append({"type": f"response.{name}.done", **where, key: item[key]})
    return [
        {"type": "response.output_item.added", "item": start},
        *frames,
        {"type": "response.output_item.done", "item": item},
    ]


@st.composite
def _piece_frames(draw: st.DrawFn, piece: dict[str, Any], where: dict[str, Any]) -> list[dict[str, Any]]:
    key, name = ("text", "output_text") if piece["type"] == "output_text" else ("refusal", "refusal")
    extra = draw(st.sampled_from([{}, {"obfuscation": "abc"}, {"logprobs": []}]))
    deltas = [{"type": f"response.{name}.delta", **where, **extra, "delta": cut} for cut in draw(_cut(piece[key]))]
    return [
        {"type": "response.content_part.added", **where, "part": {**piece, key: ""}},
        *deltas,
        {"type": f"response.{name}.done", **where, key: piece[key]},
        {"type": "response.content_part.done", **where, "part": piece},
    ]


@st.composite
def _cut(draw: st.DrawFn, text: str) -> list[str]:
    """Give *text* in pieces."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=2)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


__all__ = [
    "NAME",
    "completions",
    "json_answers",
    "json_requests",
    "json_streams",
    "plain",
    "requests",
    "unknown_values",
]
