"""Strategies of what Bedrock Converse can say: neutral requests and answers, and JSON as clients write it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import (
    Annotation,
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.chat.usage import Usage
from antiphon.formats import json
from tests.wire.laws import base64_texts, counts, extras, json_objects, maybe, names, scalars, texts, unknown_fields
from tests.wire.laws import unknown_keys as keys

NAME = "bedrock"
MODELS = ("us.anthropic.claude-x-v1:0", "openai.gpt-oss-120b-1:0", "qwen.qwen3-32b-v1:0", "amazon.nova-lite-v1:0")
MODELS += ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0",)

said = st.text(min_size=1, max_size=12).filter(str.strip)
extra = extras(NAME)
opaques = st.sampled_from(
    [
        {"cachePoint": {"type": "default"}},
        {"reasoningContent": {"redactedContent": "AAEC"}},
        {"toolUse": {"toolUseId": "s", "name": "code", "input": {"x": 1}, "type": "server_tool_use"}},
        {"toolResult": {"toolUseId": "s", "content": [{"json": {}}], "type": "code_result"}},
        {"freshBlock": {"x": 1}},
        {"freshBlock": [1]},
        {"guardContent": {"text": {"text": "x"}}, "two": 2},
    ]
).map(lambda block: Opaque(NAME, block))


# Neutral values

annotations = st.lists(
    st.builds(
        Annotation,
        title=maybe(texts),
        url=names.map("https://example.org/{}".format),
        extra=unknown_fields.map(lambda more: {NAME: {**more, "source": "s"}}),
    )
    | st.builds(
        Annotation,
        kind=st.just("documentPage"),
        title=maybe(texts),
        extra=counts.map(lambda page: {NAME: {"location": {"documentPage": {"start": page}}}}),
    ),
    max_size=2,
).map(tuple)
thoughts = st.builds(Reasoning, texts, texts, extra=extra)
calls = st.builds(ToolCall, names, names, json_objects.map(lambda value: json.encode(value).decode()), extra=extra)
_where = [{"data": "AAAA"}, {"url": "s3://bucket/a.png"}]


def _media(kind: type[Any], types: list[str], **fields: Any) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda where, more: kind(**where, **more),
        st.sampled_from(_where),
        st.fixed_dictionaries({"media_type": st.sampled_from(types), "extra": extra, **fields}),
    )


images = _media(Image, ["image/png", "image/jpeg", "image/webp"])
sounds = _media(Audio, ["audio/wav", "audio/mpeg"])
videos = _media(File, ["video/mp4", "video/quicktime", "video/3gpp"])
_titles = names.map(lambda name: name.replace("_", "-"))
documents = _media(File, ["application/pdf", "text/plain", "text/markdown"], name=_titles)
media = images | sounds | videos | documents
results = st.builds(
    ToolResult,
    names,
    st.lists(st.builds(Text, said) | images | documents | opaques, max_size=2).map(tuple),
    maybe(st.booleans()),
    extra=extra,
)


def _message(role: str, parts: st.SearchStrategy[list[Part]]) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.just(role), parts.map(tuple), extra=extra)


_head = st.builds(
    Message, st.just("system"), st.lists(st.builds(Text, said) | opaques, min_size=1, max_size=2).map(tuple)
)
_user = _message("user", st.lists(results | st.builds(Text, said) | media | opaques, min_size=1, max_size=3))
_spoken = st.builds(Text, said, annotations)
_assistant = _message("assistant", st.lists(_spoken | thoughts | calls | opaques, min_size=1, max_size=3))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Give messages in turns, perhaps after system text."""
    turns = [draw(_assistant if place % 2 else _user) for place in range(draw(st.integers(1, 4)))]
    return (*draw(st.lists(_head, max_size=1)), *turns)


_schemas = json_objects.map(lambda more: {"type": "object", **more, "properties": {}})
tools = st.builds(Tool, names, maybe(said), _schemas, maybe(st.booleans()), extra=extra)
_opaque_tools = st.sampled_from([{"systemTool": {"name": "code"}}, {"cachePoint": {"type": "default"}}]).map(
    lambda tool: Opaque(NAME, tool)
)
_efforts = st.sampled_from(["low", "medium", "high", "xhigh", "max"])


def _reasoning(model: str) -> st.SearchStrategy[Any]:
    if "anthropic" in model:
        budgets = st.just(-1) | st.just(0) | st.integers(1024, 10**5)
        return st.builds(ReasoningOptions, effort=maybe(_efforts), budget_tokens=budgets)
    return st.builds(ReasoningOptions, effort=_efforts)


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    """Give requests that this format can say without loss."""
    model = draw(st.sampled_from(MODELS))
    chosen = draw(maybe(st.lists(tools | _opaque_tools, min_size=1, max_size=2).map(tuple)))
    choices = st.sampled_from(["auto", "required", ToolName("f"), Opaque(NAME, {"fresh": {}})])
    stream = draw(st.booleans())
    formats = st.builds(ResponseFormat, st.just("json_schema"), json_objects, maybe(names), maybe(texts))
    own = st.sampled_from([{"requestMetadata": {"a": "b"}}, {"x": 1, "guardrailConfig": {}}])
    return draw(
        st.builds(
            ChatRequest,
            st.just(model),
            conversations(),
            tools=st.just(chosen),
            tool_choice=maybe(choices) if chosen else st.none(),
            temperature=maybe(st.floats(0, 1)),
            top_p=maybe(st.floats(0, 1)),
            top_k=maybe(counts) if "anthropic" in model else st.none(),
            max_tokens=maybe(counts),
            stop=maybe(st.lists(said, max_size=2).map(tuple)),
            response_format=maybe(formats),
            reasoning=maybe(_reasoning(model)),
            service_tier=maybe(st.sampled_from(["default", "priority"])),
            stream=st.just(stream),
            include_usage=st.just(True if stream else None),
            extra=maybe(own.map(lambda fields: {NAME: fields})),
        )
    )


usages = st.builds(
    Usage,
    input_uncached=counts,
    input_cache_read=maybe(counts),
    input_cache_write=maybe(counts),
    output_visible=counts,
    extra=extra,
)
endings = st.sampled_from(
    [
        ("stop", "end_turn"),
        ("stop", "stop_sequence"),
        ("tool_calls", "tool_use"),
        ("length", "max_tokens"),
        ("content_filter", "guardrail_intervened"),
        ("error", "malformed_tool_use"),
        ("other", "a_new_reason"),
    ]
)
_own_endings = st.sampled_from([None, {NAME: {"additionalModelResponseFields": {"/stop_sequence": "X"}}}])


@st.composite
def completions(draw: st.DrawFn, model: str) -> Completion:
    """Give answers that this format can say without loss."""
    calls = st.builds(ToolCall, names, names, json_objects.map(lambda value: json.encode(value).decode()), extra=extra)
    spoken = st.builds(Text, texts, annotations)
    signed = st.builds(Reasoning, texts, maybe(texts))
    parts = tuple(draw(st.lists(spoken | signed | calls | opaques, max_size=4)))
    reason, native = draw(endings)
    choice = Choice(0, Message("assistant", parts), reason, native, draw(_own_endings))
    extra_ = draw(st.sampled_from([None, {NAME: {"metrics": {"latencyMs": 3}}}]))
    return Completion(choices=(choice,), model=model, usage=draw(usages), extra=extra_)


# JSON, as it stands on the wire


def _mixed(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give objects with the *required* fields, some of the *optional* ones, nulls for others, and unknown fields."""
    fixed = st.fixed_dictionaries(
        {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in required.items()},
        optional={key: st.none() | value for key, value in optional.items()},
    )
    return st.builds(lambda known, more: {**more, **known}, fixed, st.dictionaries(keys, scalars, max_size=1))


def _one(kind: str, inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return inner.map(lambda value: {kind: value})


_json_location = st.just({"web": {"url": "u", "domain": "d"}}) | st.just({"documentChar": {"start": 1}})
json_citations = _mixed({}, {"title": texts, "source": texts, "location": _json_location})
json_text = _one("text", texts)
json_cited = _one(
    "citationsContent",
    _mixed({}, {"content": st.lists(json_text, max_size=2), "citations": st.lists(json_citations, max_size=2)}),
)
json_thoughts = _one("reasoningContent", _one("reasoningText", _mixed({"text": texts}, {"signature": texts})))
json_sealed = _one("reasoningContent", _one("redactedContent", base64_texts))
json_call = _one(
    "toolUse",
    _mixed({"toolUseId": names, "name": names, "input": json_objects}, {"type": st.sampled_from(["tool_use", "x"])}),
)
json_other = st.sampled_from([{"cachePoint": {"type": "default"}}, {"fresh": 1}, {"text": "a", "also": "b"}, {}])
_json_source = (
    _mixed({"bytes": base64_texts}, {})
    | _one("s3Location", _mixed({"uri": names.map("s3://{}".format)}, {"bucketOwner": names}))
    | _one("text", texts)
    | _one("content", st.just([]))
)
_formats = st.sampled_from(["png", "jpeg", "pdf", "txt", "mp4", "three_gp", "mp3", "fresh"])
json_media = st.sampled_from(["image", "document", "video", "audio"]).flatmap(
    lambda kind: _one(kind, _mixed({"source": _json_source}, {"format": _formats, "name": texts}))
)
_json_inner = json_text | json_media | json_other | _one("json", json_objects)
json_result = _one(
    "toolResult",
    _mixed(
        {"toolUseId": names, "content": st.lists(_json_inner, max_size=2)},
        {"status": st.sampled_from(["success", "error", "fresh"]), "type": names},
    ),
)
json_blocks = json_text | json_cited | json_thoughts | json_sealed | json_call | json_other | json_media | json_result
json_messages = _mixed(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(json_blocks, max_size=3)}, {}
)
_json_tools = _one(
    "toolSpec",
    _mixed({"name": names}, {"description": texts, "inputSchema": _one("json", json_objects), "strict": st.booleans()}),
) | st.sampled_from([{"cachePoint": {"type": "default"}}, {"systemTool": {"name": "code"}}])
_json_choices = (
    st.sampled_from([{"auto": {}}, {"any": {}}, {"any": {"x": 1}}, {"fresh": {}}, {}])
    | _one("tool", _one("name", names))
    | _one("tool", st.just({"name": "f", "more": 1}))
)
_json_schema = _mixed({"schema": json_objects.map(lambda v: json.encode(v).decode()) | texts}, {"name": texts})
_json_format = _mixed({"type": st.sampled_from(["json_schema", "x"])}, {"structure": _one("jsonSchema", _json_schema)})
_json_more = _mixed(
    {},
    {
        "top_k": counts,
        "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 9}, {"type": "adaptive"}, {"type": "x"}, 1]),
        "output_config": st.just({"effort": "high", "x": 1}),
        "reasoning_effort": texts,
        "reasoning_config": st.just("high") | json_objects,
    },
)
json_requests = _mixed(
    {"messages": st.lists(json_messages, max_size=4)},
    {
        "system": st.lists(json_text | json_other, max_size=2),
        "inferenceConfig": _mixed(
            {},
            {
                "maxTokens": counts,
                "temperature": st.floats(0, 2),
                "topP": st.floats(0, 1),
                "stopSequences": st.lists(texts, max_size=2),
            },
        ),
        "toolConfig": _mixed({}, {"tools": st.lists(_json_tools, max_size=2), "toolChoice": _json_choices}),
        "additionalModelRequestFields": _json_more,
        "outputConfig": _mixed({}, {"textFormat": _json_format, "effort": texts}),
        "serviceTier": _mixed({}, {"type": st.sampled_from(["flex", "fresh"])}),
        "guardrailConfig": json_objects,
    },
)
json_usages = _mixed(
    {"inputTokens": counts, "outputTokens": counts, "totalTokens": counts},
    {
        "cacheReadInputTokens": counts,
        "cacheWriteInputTokens": counts,
        "cacheReadInputTokenCount": counts,
        "serverToolUsage": st.just({}),
        "cacheDetails": st.just([{"ttl": "5m", "inputTokens": 1}]),
    },
)
_reasons = st.sampled_from(["end_turn", "tool_use", "guardrail_intervened", "malformed_model_output", "a_new_reason"])
_answer_blocks = json_text | json_cited | json_thoughts | json_sealed | json_call | json_other | json_media
json_answers = _mixed(
    {
        "output": _one("message", _mixed({"role": "assistant", "content": st.lists(_answer_blocks, max_size=4)}, {})),
        "stopReason": _reasons,
        "usage": json_usages,
    },
    {
        "metrics": st.just({"latencyMs": 7}),
        "additionalModelResponseFields": json_objects,
        "trace": json_objects,
        "serviceTier": st.just({"type": "default"}),
    },
)


@st.composite
def json_streams(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """Give the frames of a streamed answer, names first, as the API sends them, with what it may add to them."""
    frames: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
    for index in range(draw(st.integers(0, 3))):
        start, deltas = draw(_block)
        if start is not None:
            frames.append(("contentBlockStart", {"start": start, "contentBlockIndex": index}))
        frames += [("contentBlockDelta", {"delta": delta, "contentBlockIndex": index}) for delta in deltas]
        frames.append(("contentBlockStop", {"contentBlockIndex": index}))
    more = draw(st.sampled_from([{}, {"additionalModelResponseFields": {"a": 1}}]))
    beside = draw(st.sampled_from([{}, {"metrics": {"latencyMs": 3}}]))
    last = [
        ("messageStop", {"stopReason": draw(_reasons), **more}),
        ("metadata", {"usage": draw(json_usages), **beside}),
    ]
    frames += last if draw(st.booleans()) else last[::-1]
    for place, frame in draw(st.lists(st.tuples(st.integers(1, 40), _odd), max_size=2)):
        frames.insert(min(place, len(frames)), frame)
    padding = st.sampled_from([{}, {"p": "abc"}, {"p": "abc"}, {"p": None, "x": [1]}])
    return [(name, {**frame, **draw(padding)}) for name, frame in frames]


_odd = st.sampled_from([("freshEvent", {"x": 1}), ("metadata", {}), ("messageStop", {}), ("contentBlockStop", {})])
_pieces = st.lists(texts, min_size=1, max_size=3)
_call_start = _mixed({"toolUseId": names, "name": names}, {"type": st.just("tool_use")})
_server_start = _mixed({"toolUseId": names, "name": names, "type": "server_tool_use"}, {})
_block: st.SearchStrategy[tuple[Any, list[dict[str, Any]]]] = (
    st.tuples(st.none(), st.lists(json_text, min_size=1, max_size=3))
    | st.tuples(st.none(), st.lists(json_text | _one("citation", json_citations), min_size=1, max_size=3))
    | st.tuples(
        st.none(),
        st.tuples(
            st.lists(_one("reasoningContent", json_text), max_size=2),
            st.lists(_one("reasoningContent", _one("signature", texts)), min_size=1, max_size=2),
        ).map(lambda pair: pair[0] + pair[1]),
    )
    | st.tuples(st.none(), st.lists(_one("reasoningContent", _one("redactedContent", base64_texts)), max_size=2))
    | st.tuples(_one("toolUse", _call_start), st.lists(_one("toolUse", _one("input", texts)), max_size=3))
    | st.tuples(_one("toolUse", _server_start), st.just([{"toolUse": {"input": '{"x":1}'}}]))
    | st.tuples(_one("toolResult", _server_start), st.just([{"toolResult": [{"json": {"a": 1}}]}]))
    | st.tuples(_one("image", st.just({"format": "png"})), st.just([{"image": {"source": {"bytes": "AAAA"}}}]))
)
