"""Strategies of what Anthropic Messages can say: neutral requests and answers, and JSON as clients write it."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Annotation, File, Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.chat.usage import Usage
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from tests.wire.laws import (
    bare,
    base64_texts,
    counts,
    extras,
    json_objects,
    maybe,
    names,
    scalars,
    texts,
    unknown_fields,
    unknown_keys,
    urls,
)

NAME = "anthropic"
CODEC = Anthropic()

said = st.text(min_size=1, max_size=12)
extra = extras(NAME)
cache_control = st.just({"cache_control": {"type": "ephemeral"}})
opaques = st.builds(
    lambda kind, fields: Opaque(NAME, {**fields, "type": kind}),
    st.sampled_from(["redacted_thinking", "server_tool_use", "web_search_tool_result", "fresh_block"]),
    unknown_fields,
)


# Neutral values


def _own(kind: str, **fields: Any) -> st.SearchStrategy[Any]:
    """Give citations: where in the source the words are is this format's own notion, so there is always `extra`."""
    own = unknown_fields.map(lambda more: {NAME: {**more, "cited_text": "words", "encrypted_index": "Eo8B"}})
    return st.builds(Annotation, kind=st.just(kind), title=maybe(texts), extra=own, **fields)


annotations = st.lists(_own("url_citation", url=urls) | _own("char_location"), max_size=2).map(tuple)
spoken = st.builds(Text, said, annotations, extra=extra)
thoughts = st.builds(Reasoning, texts, texts, extra=extra)
calls = st.builds(ToolCall, names, names, json_objects.map(lambda value: json.encode(value).decode()), extra=extra)
images = (
    st.builds(Image, url=urls, extra=extra)
    | st.builds(Image, file_id=names, extra=extra)
    | st.builds(Image, data=base64_texts, media_type=st.sampled_from(["image/png", "image/webp"]), extra=extra)
)
documents = (
    st.builds(File, url=urls, name=maybe(names), extra=extra)
    | st.builds(File, file_id=names, extra=extra)
    | st.builds(File, data=base64_texts, media_type=st.just("application/pdf"), name=maybe(names), extra=extra)
    | st.builds(
        File,
        data=texts.map(lambda text: base64.b64encode(text.encode()).decode()),
        media_type=st.just("text/plain"),
        extra=extra,
    )
)
results = st.builds(
    ToolResult,
    names,
    st.lists(st.builds(Text, said, extra=extra) | images | documents | opaques, max_size=2).map(tuple),
    maybe(st.booleans()),
    extra=extra,
)


def _message(role: str, parts: st.SearchStrategy[list[Part]], **fields: Any) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.just(role), parts.map(tuple), **fields)


_user_parts = st.builds(
    lambda first, rest: [*first, *rest],
    st.lists(results, max_size=2),
    st.lists(st.builds(Text, said, extra=extra) | images | documents | opaques, min_size=1, max_size=2),
)
_instructions = st.lists(st.builds(Text, said, extra=extra), min_size=1, max_size=2)
head_messages = _message("system", _instructions)
system_messages = _message("system", _instructions, extra=extra)
user_messages = _message("user", _user_parts, extra=extra)
assistant_messages = _message(
    "assistant", st.lists(spoken | thoughts | calls | opaques, min_size=1, max_size=4), extra=extra
)
_turns = st.tuples(user_messages) | st.tuples(assistant_messages)
_instructed = st.builds(lambda *turns: turns, user_messages, system_messages, assistant_messages)


def _conversations(turns: st.SearchStrategy[tuple[Message, ...]]) -> st.SearchStrategy[tuple[Message, ...]]:
    return st.builds(
        lambda head, first, rest: (*head, first, *(message for turn in rest for message in turn)),
        st.lists(head_messages, max_size=1),
        user_messages,
        st.lists(turns, max_size=4),
    )


conversations = st.tuples(names, _conversations(_turns)) | st.tuples(
    st.just("claude-opus-4-8"), _conversations(_turns | _instructed)
)
"""Models and what they are sent: not all of them take system messages after the head, and nowhere but there."""

_schemas = json_objects.map(lambda more: {"type": "object", **more, "properties": {}})
tools = st.builds(Tool, names, maybe(texts), _schemas, maybe(st.booleans()), extra=extra)
server_tools = unknown_fields.map(lambda more: Opaque(NAME, {**more, "type": "web_search_20260318"}))
efforts = st.sampled_from(["low", "medium", "high", "xhigh", "max"])
reasoning = (
    st.builds(ReasoningOptions, effort=efforts)
    | st.just(ReasoningOptions(effort="none"))
    | st.builds(ReasoningOptions, effort=efforts, budget_tokens=st.just(0))
    | st.builds(
        ReasoningOptions,
        effort=maybe(efforts),
        budget_tokens=st.just(-1) | st.integers(1024, 10**5),
        include=maybe(st.booleans()),
    )
)
_extra_request = st.builds(
    lambda fields, nested: {NAME: {**fields, **nested}} if fields or nested else None,
    unknown_fields,
    st.sampled_from(
        [
            {},
            {"output_config": {"task_budget": {"total": 3}}},
            {"metadata": {"tenant": "a"}},
            {"thinking": {"type": "between_tools"}},
            {"cache_control": {"type": "ephemeral"}},
        ]
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    """Give requests that this format can say without loss."""
    chosen_tools = draw(maybe(st.lists(tools | server_tools, min_size=1, max_size=2).map(tuple)))
    choice, parallel = None, None
    if chosen_tools:
        choice = draw(maybe(st.sampled_from(["auto", "required", ToolName("f")])))
        parallel = draw(maybe(st.booleans())) if choice else None
    stream = draw(st.booleans())
    beyond = draw(_extra_request)
    model, messages = draw(conversations)
    think = None if beyond and "thinking" in beyond[NAME] else draw(maybe(reasoning))
    return draw(
        st.builds(
            ChatRequest,
            st.just(model),
            st.just(messages),
            tools=st.just(chosen_tools),
            tool_choice=st.just(choice),
            parallel_tool_calls=st.just(parallel),
            temperature=maybe(st.floats(0, 1)),
            top_p=maybe(st.floats(0, 1)),
            top_k=maybe(counts),
            max_tokens=counts,
            stop=maybe(st.lists(said.filter(str.strip), max_size=2).map(tuple)),
            response_format=maybe(st.builds(ResponseFormat, st.just("json_schema"), json_objects)),
            reasoning=st.just(think),
            user=maybe(texts),
            service_tier=maybe(st.sampled_from(["auto", "standard_only"])),
            stream=st.just(stream),
            include_usage=st.just(True if stream else None),
            extra=st.just(beyond),
        )
    )


usages = st.builds(
    Usage,
    input_uncached=counts,
    input_cache_read=maybe(counts),
    input_cache_write=maybe(counts),
    output_visible=counts,
    output_reasoning=maybe(counts),
    extra=extra,
)
endings = st.sampled_from(
    [
        ("stop", "end_turn"),
        ("stop", "stop_sequence"),
        ("tool_calls", "tool_use"),
        ("length", "max_tokens"),
        ("length", "model_context_window_exceeded"),
        ("content_filter", "refusal"),
        ("pause", "pause_turn"),
        ("other", "a_new_reason"),
    ]
)
_ending_extra = st.sampled_from([None, {NAME: {"stop_sequence": "X"}}, {NAME: {"stop_details": {"type": "refusal"}}}])


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    """Give answers that this format can say without loss."""
    parts = tuple(draw(st.lists(st.builds(Text, texts, annotations, extra=extra) | thoughts | calls | opaques)))
    reason, native = draw(endings)
    choice = Choice(0, Message("assistant", parts), reason, native, draw(_ending_extra))
    return Completion(choices=(choice,), id=draw(names), model=draw(names), usage=draw(usages), extra=draw(extra))


# JSON, as it stands on the wire


def _mixed(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give objects with the *required* fields, some of the *optional* ones, nulls for others, and unknown fields."""
    fixed = st.fixed_dictionaries(
        {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in required.items()},
        optional={key: st.none() | value for key, value in optional.items()},
    )
    return st.builds(lambda known, more: {**more, **known}, fixed, st.dictionaries(unknown_keys, scalars, max_size=1))


json_citations = _mixed(
    {"type": "web_search_result_location", "url": urls, "cited_text": texts, "encrypted_index": texts}, {"title": texts}
) | _mixed(
    {"type": "page_location", "cited_text": texts, "document_index": counts, "start_page_number": counts},
    {"document_title": texts},
)
json_cache = st.just({"type": "ephemeral", "ttl": "1h"})
json_text = _mixed({"type": "text", "text": texts}, {"citations": st.lists(json_citations, max_size=2)})
json_prompt_text = _mixed({"type": "text", "text": texts}, {"cache_control": json_cache})
json_thinking = _mixed({"type": "thinking", "thinking": texts, "signature": texts}, {})
json_call = _mixed({"type": "tool_use", "id": names, "name": names, "input": json_objects}, {"caller": json_objects})
json_other = _mixed(
    {"type": st.sampled_from(["redacted_thinking", "server_tool_use", "compaction", "fresh_block"])},
    {"data": texts, "id": names},
)
json_sources = (
    _mixed({"type": "base64", "media_type": st.sampled_from(["image/png", "text/plain"]), "data": base64_texts}, {})
    | _mixed({"type": "url", "url": urls}, {})
    | _mixed({"type": "file", "file_id": names}, {})
    | _mixed({"type": "text", "media_type": "text/plain", "data": texts}, {})
    | _mixed({"type": "content", "content": texts}, {})
)
json_media = _mixed(
    {"type": st.sampled_from(["image", "document"]), "source": json_sources},
    {"cache_control": json_cache, "title": names, "citations": st.just({"enabled": True})},
)
_json_inner = texts | st.lists(json_prompt_text | json_media | json_other, max_size=2)
json_result = _mixed({"type": "tool_result", "tool_use_id": names}, {"content": _json_inner, "is_error": st.booleans()})
json_messages = (
    _mixed({"role": "user", "content": texts | st.lists(json_prompt_text | json_media | json_result, max_size=3)}, {})
    | _mixed(
        {
            "role": "assistant",
            "content": texts | st.lists(json_text | json_thinking | json_call | json_other, max_size=3),
        },
        {},
    )
    | _mixed({"role": "system", "content": texts | st.lists(json_prompt_text, max_size=2)}, {})
)
_json_tools = _mixed(
    {"name": names},
    {
        "type": st.just("custom"),
        "description": texts,
        "input_schema": json_objects,
        "strict": st.booleans(),
        "cache_control": json_cache,
    },
) | _mixed({"type": "web_search_20260318", "name": names}, {})
_json_choices = _mixed(
    {"type": st.sampled_from(["auto", "any", "none", "fresh"])}, {"disable_parallel_tool_use": st.booleans()}
) | _mixed({"type": "tool", "name": names}, {"disable_parallel_tool_use": st.booleans()})
_json_thinking = (
    _mixed({"type": "enabled", "budget_tokens": counts}, {"display": st.sampled_from(["summarized", "omitted", "new"])})
    | _mixed({"type": "adaptive"}, {"display": st.sampled_from(["summarized", "omitted"])})
    | _mixed({"type": st.sampled_from(["disabled", "between_tools"])}, {})
)
_json_output = _mixed(
    {},
    {
        "effort": efforts,
        "format": _mixed({"type": st.sampled_from(["json_schema", "grammar"])}, {"schema": json_objects}),
    },
)
json_requests = _mixed(
    {"model": names, "messages": st.lists(json_messages, max_size=4)},
    {
        "max_tokens": counts,
        "system": texts | st.lists(json_prompt_text, max_size=2),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "top_k": counts,
        "stop_sequences": st.lists(texts, max_size=2),
        "stream": st.booleans(),
        "metadata": _mixed({}, {"user_id": names}),
        "service_tier": st.sampled_from(["auto", "standard_only", "new"]),
        "tools": st.lists(_json_tools, max_size=2),
        "tool_choice": _json_choices,
        "thinking": _json_thinking,
        "output_config": _json_output,
        "container": names,
    },
)
json_usages = _mixed(
    {"input_tokens": counts, "output_tokens": counts},
    {
        "cache_creation_input_tokens": counts,
        "cache_read_input_tokens": counts,
        "cache_creation": st.just({"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0}),
        "output_tokens_details": _mixed({"thinking_tokens": counts}, {}),
        "server_tool_use": st.just({"web_search_requests": 1}),
    },
)
_json_reasons = st.sampled_from(["end_turn", "tool_use", "stop_sequence", "refusal", "a_new_reason"])
json_answers = _mixed(
    {
        "id": names,
        "type": "message",
        "role": "assistant",
        "model": names,
        "content": st.lists(json_text | json_thinking | json_call | json_other, max_size=4),
        "stop_reason": _json_reasons,
        "stop_sequence": maybe(texts),
        "usage": json_usages,
    },
    {"stop_details": st.just({"type": "refusal", "category": None}), "container": st.just({"id": "c"})},
)


@st.composite
def json_streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Give the frames of a streamed answer, as the API sends them, with what it may add to them."""
    answer = draw(json_answers)
    message = {**answer, "content": [], "stop_reason": None, "stop_sequence": None}
    frames: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(answer["content"]):
        frames += [{**frame, "index": index} for frame in draw(_block_frames(block))]
    delta = {key: answer[key] for key in ("stop_reason", "stop_sequence", "stop_details", "container") if key in answer}
    frames.append({"type": "message_delta", "delta": delta, "usage": draw(json_usages)})
    frames.append({"type": "message_stop"})
    odd = draw(st.lists(st.tuples(st.integers(1, 40), _odd_frames), max_size=2))
    for place, frame in odd:
        frames.insert(min(place, len(frames)), frame)
    return frames


_odd_frames = st.sampled_from([{"type": "ping"}, {"type": "fresh_event", "x": 1}, {"type": "ping", "cost": None}])


@st.composite
def _block_frames(draw: st.DrawFn, block: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the start, the deltas and the stop of *block*."""
    kind = block["type"]
    start, deltas = dict(block), []
    if kind == "text":
        start["text"] = ""
        deltas = [{"type": "text_delta", "text": piece} for piece in draw(_cut(block["text"]))]
        if block.get("citations") is not None:
            start["citations"] = []
            deltas += [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
    elif kind == "thinking":
        start |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in draw(_cut(block["thinking"]))]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif kind == "tool_use":
        start["input"] = {}
        pieces = draw(_cut(msgspec.json.encode(block["input"]).decode()))
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces]]
    middle = [{"type": "content_block_delta", "delta": {**delta, **draw(_unknown)}} for delta in deltas]
    return [{"type": "content_block_start", "content_block": start}, *middle, {"type": "content_block_stop"}]


_unknown = st.dictionaries(unknown_keys, scalars, max_size=1)


def _cut(text: str) -> st.SearchStrategy[list[str]]:
    places = st.lists(st.integers(0, len(text)), max_size=2).map(sorted)
    return places.map(lambda cuts: [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)])


# JSON that can be written again


def _is_sayable(request: dict[str, Any]) -> bool:
    """Whether *request* loses nothing where it is written again; what must lose nothing is in `FULL_REQUEST`.

    Instructions among the messages are joined with those at the head.
    """
    if any(message["role"] == "system" for message in request["messages"]):
        return False
    return not CODEC.encode_request(bare(CODEC.decode_request(json.encode(request)))).losses


sayable_requests = json_requests.map(lambda request: {"max_tokens": 9, **request}).filter(_is_sayable)


# Every field that the format knows

_FULL_TEXT: dict[str, Any] = {
    "type": "text",
    "text": "I look.",
    "citations": [
        {
            "type": "web_search_result_location",
            "url": "https://x.org",
            "title": "X",
            "cited_text": "look",
            "encrypted_index": "Eo8B",
        },
        {"type": "page_location", "document_title": "D", "cited_text": "look", "document_index": 0},
    ],
    "x_block": 1,
}
_FULL_THINKING: dict[str, Any] = {"type": "thinking", "thinking": "Hm.", "signature": "Eo0C", "x_block": 1}
_FULL_CALL: dict[str, Any] = {"type": "tool_use", "id": "a", "name": "look", "input": {"n": 1}, "caller": {"type": "x"}}
_FULL_OTHER: dict[str, Any] = {"type": "redacted_thinking", "data": "Eo0C"}
_FULL_SPOKEN: list[dict[str, Any]] = [_FULL_THINKING, _FULL_OTHER, _FULL_TEXT, _FULL_CALL]
_FULL_MEDIA: list[dict[str, Any]] = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA", "x_source": 1}},
    {"type": "image", "source": {"type": "url", "url": "https://x.org/1.png"}, "cache_control": {"type": "ephemeral"}},
    {"type": "image", "source": {"type": "file", "file_id": "f"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Words."}, "title": "T"},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
    {"type": "document", "source": {"type": "content", "content": "Words."}, "citations": {"enabled": True}},
]
FULL_REQUEST: dict[str, Any] = {
    "model": "claude",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "What is this?", "x_message": 1},
        {"role": "user", "content": _FULL_MEDIA},
        {"role": "assistant", "content": _FULL_SPOKEN},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "content": [_FULL_MEDIA[0]],
                    "is_error": False,
                    "x_block": 1,
                },
                {"type": "text", "text": "Go on."},
            ],
        },
    ],
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "stop_sequences": ["END"],
    "stream": True,
    "metadata": {"user_id": "u", "x_metadata": 1},
    "service_tier": "standard_only",
    "tools": [
        {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}, "strict": True, "x_tool": 1},
        {"type": "web_search_20260318", "name": "search"},
    ],
    "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 50, "display": "summarized", "x_thinking": 1},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}, "x_output": 1},
    "container": "c",
}
_FULL_USAGE: dict[str, Any] = {
    "input_tokens": 3,
    "output_tokens": 9,
    "cache_creation_input_tokens": 1,
    "cache_read_input_tokens": 2,
    "output_tokens_details": {"thinking_tokens": 4},
    "server_tool_use": {"web_search_requests": 1},
}
FULL_ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": _FULL_SPOKEN,
    "stop_reason": "stop_sequence",
    "stop_sequence": "END",
    "usage": _FULL_USAGE,
    "container": {"id": "c"},
}


def _block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


FULL_STREAM: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {**FULL_ANSWER, "content": [], "stop_reason": None, "stop_sequence": None, "x_message": 1},
    },
    *_block(
        0,
        {**_FULL_THINKING, "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "H"},
        {"type": "thinking_delta", "thinking": "m."},
        {"type": "signature_delta", "signature": "Eo0C"},
    ),
    *_block(1, _FULL_OTHER),
    *_block(
        2,
        {**_FULL_TEXT, "text": "", "citations": []},
        {"type": "text_delta", "text": "I "},
        {"type": "text_delta", "text": "look."},
        *({"type": "citations_delta", "citation": citation} for citation in _FULL_TEXT["citations"]),
    ),
    *_block(
        3,
        {**_FULL_CALL, "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"n":1}'},
    ),
    *_block(4, {"type": "server_tool_use", "id": "s", "name": "web", "input": {}}),
    {
        "type": "message_delta",
        "delta": {
            "stop_reason": "refusal",
            "stop_sequence": None,
            "stop_details": {"type": "refusal"},
            "container": {"id": "c2"},
        },
        "usage": _FULL_USAGE,
    },
    {"type": "message_stop"},
]
