"""Strategies of what Gemini can say: neutral requests and answers, and JSON as clients and the API write it."""

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
    unknown_keys,
    urls,
)

NAME = "gemini"

said = st.text(min_size=1, max_size=12)
extra = extras(NAME)
signed = st.none() | st.just({NAME: {"thoughtSignature": "c2ln"}})
opaques = st.builds(
    lambda kind, fields: Opaque(NAME, {**fields, kind: {"id": "a"}}),
    st.sampled_from(["executableCode", "codeExecutionResult", "toolCall", "freshPart"]),
    unknown_fields,
)


# Neutral values

arguments = json_objects.map(lambda value: json.encode(value).decode())
calls = st.builds(ToolCall, names, names, arguments, extra=signed)
_inline = [(Image, "image/png"), (Audio, "audio/wav"), (File, "application/pdf")]
_elsewhere = [(Image, "image/webp"), (File, "video/mp4"), (File, None)]
media: st.SearchStrategy[Any] = st.one_of(
    [
        *(st.builds(make, data=base64_texts, media_type=st.just(kind), extra=extra) for make, kind in _inline),
        *(st.builds(make, url=urls, media_type=st.just(kind), extra=extra) for make, kind in _elsewhere),
    ]
)
results = st.builds(
    ToolResult,
    names,
    st.builds(
        lambda text, rest: (*text, *rest), st.lists(st.builds(Text, said), max_size=1), st.lists(media, max_size=1)
    ),
    name=names,
    extra=extra,
) | st.builds(ToolResult, names, st.tuples(st.builds(Text, texts)), st.just(True), names)


def _message(role: str, parts: st.SearchStrategy[Any], **fields: Any) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.just(role), st.lists(parts, min_size=1, max_size=3).map(tuple), **fields)


_spoken = st.builds(Text, said, extra=signed)
_thoughts = st.builds(Reasoning, said, extra=signed)
_conversations = st.builds(
    lambda head, rest: (*head, *rest),
    st.lists(_message("system", st.builds(Text, said)), max_size=1),
    st.lists(
        _message("user", st.builds(Text, said, extra=extra) | media | results | opaques, extra=extra)
        | _message("assistant", _spoken | _thoughts | calls | opaques),
        max_size=4,
    ),
)
tools = st.builds(Tool, names, maybe(texts), maybe(json_objects), extra=extra)
server_tools = unknown_fields.map(lambda more: Opaque(NAME, {**more, "googleSearch": {}}))
efforts = st.sampled_from(["minimal", "low", "medium", "high", "xhigh"])
reasoning = st.builds(ReasoningOptions, effort=maybe(efforts | st.just("none")), include=st.booleans()) | st.builds(
    ReasoningOptions, budget_tokens=st.just(-1) | st.integers(1, 10**5), include=maybe(st.booleans())
)
_beyond = st.builds(
    lambda fields, nested: {NAME: {**fields, **nested}} if fields or nested else None,
    unknown_fields,
    st.sampled_from(
        [
            {},
            {"safetySettings": [{"category": "A", "threshold": "OFF"}]},
            {"generationConfig": {"responseModalities": ["TEXT"], "mediaResolution": "LOW"}},
            {"toolConfig": {"includeServerSideToolInvocations": True}},
            {"cachedContent": "cachedContents/a"},
        ]
    ),
)
_toolboxes = st.builds(
    lambda declared, others: (*declared, *others), st.lists(tools, max_size=2), st.lists(server_tools, max_size=1)
)
_choices = ("auto", "none", "required", ToolName("f"), Opaque(NAME, {"mode": "VALIDATED"}))


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    """Give requests that this format can say without loss."""
    stream = draw(st.booleans())
    formats = st.sampled_from([ResponseFormat("text"), ResponseFormat("json")]) | st.builds(
        ResponseFormat, st.just("json_schema"), json_objects
    )
    fields: dict[str, Any] = {
        "temperature": maybe(st.floats(0, 2)),
        "top_p": maybe(st.floats(0, 1)),
        "top_k": maybe(counts),
        "max_tokens": maybe(counts),
        "stop": maybe(st.lists(texts, max_size=2).map(tuple)),
        "n": maybe(st.integers(1, 8)),
        "seed": maybe(counts),
        "frequency_penalty": maybe(st.floats(-2, 2)),
        "presence_penalty": maybe(st.floats(-2, 2)),
        "logprobs": maybe(st.booleans()),
        "top_logprobs": maybe(counts),
        "service_tier": maybe(st.sampled_from(["flex", "priority", "standard"])),
        "tools": maybe(_toolboxes),
        "tool_choice": maybe(st.sampled_from([*_choices])),
        "response_format": maybe(formats),
        "reasoning": maybe(reasoning),
        "extra": _beyond,
    }  # fmt: skip
    chosen = {key: draw(strategy) for key, strategy in fields.items()}
    return ChatRequest(
        draw(names), draw(_conversations), stream=stream, include_usage=True if stream else None, **chosen
    )


usages = st.builds(
    Usage,
    input_uncached=counts,
    input_cache_read=maybe(counts),
    output_visible=counts,
    output_reasoning=maybe(counts),
    extra=extra,
)
_annotations = st.lists(
    st.builds(
        Annotation,
        url=urls,
        title=maybe(texts),
        start=st.just(0) | counts,
        end=counts,
        extra=extra,
    ),
    max_size=2,
    unique_by=repr,
).map(tuple)
_words = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SPII", "error": "NO_IMAGE", "other": "FRESH"}


@st.composite
def choices(draw: st.DrawFn, index: int) -> Choice:
    """Give one choice: no two neighbours of it are texts, since pieces of one could not be told from them."""
    parts: list[Part] = []
    for part in draw(st.lists(_spoken | _thoughts | calls | opaques, max_size=4)):
        growing = isinstance(part, Text | Reasoning) and part.extra is None
        if not (growing and parts and type(parts[-1]) is type(part) and parts[-1].extra is None):
            parts.append(part)
    texts_ = [place for place, part in enumerate(parts) if isinstance(part, Text)]
    if len(texts_) == 1:
        old = parts[texts_[0]]
        assert isinstance(old, Text)
        parts[texts_[0]] = Text(old.text, draw(_annotations), extra=old.extra)
    reason: Any = draw(st.sampled_from(sorted(_words)))
    native = _words[reason]
    if reason == "stop" and any(isinstance(part, ToolCall) for part in parts):
        reason = "tool_calls"
    own = draw(st.sampled_from([None, {NAME: {"avgLogprobs": -0.5}}, {NAME: {"finishMessage": "No."}}]))
    return Choice(index, Message("assistant", tuple(parts)), reason, native, own)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    """Give answers that this format can say without loss."""
    several = tuple(draw(choices(index)) for index in range(draw(st.integers(1, 2))))
    return Completion(
        choices=several, id=draw(names), model=draw(names), created=draw(counts), usage=draw(usages), extra=draw(extra)
    )


# JSON, as it stands on the wire


def snake(key: str) -> str:
    """Return the name of a field in snake case."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def _mixed(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give objects with the *required* fields, some of the *optional*, unknown ones; either case, nulls for some."""
    fixed = st.fixed_dictionaries(
        {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in required.items()},
        optional={key: st.none() | value for key, value in optional.items()},
    )
    return st.builds(
        lambda known, more, case: {**more, **{snake(key) if case else key: value for key, value in known.items()}},
        fixed,
        st.dictionaries(unknown_keys, scalars, max_size=1),
        st.booleans(),
    )


_signature = {"thoughtSignature": st.just("c2ln")}
_json_blob = _mixed({"data": base64_texts | st.just("a-_b")}, {"mimeType": st.sampled_from(["image/png", "text/x"])})
_json_file = _mixed({"fileUri": urls | names}, {"mimeType": st.sampled_from(["audio/wav", "video/mp4"])})
json_text = _mixed({"text": texts}, {"thought": st.booleans(), **_signature})
json_call = _mixed({"functionCall": _mixed({"name": names}, {"id": names, "args": json_objects})}, _signature)
json_media = _mixed({"inlineData": _json_blob}, {"videoMetadata": json_objects}) | _mixed({"fileData": _json_file}, {})
json_result = _mixed(
    {
        "functionResponse": _mixed(
            {"name": names},
            {
                "id": names,
                "response": json_objects | st.builds(dict, output=scalars) | st.builds(dict, error=scalars),
                "parts": st.lists(json_media, max_size=1),
            },
        )
    },
    {},
)
json_other = _mixed(
    {}, {"executableCode": json_objects, "toolCall": json_objects, "text": texts, "thought": st.just(True)}
)
json_parts = st.lists(json_text | json_call | json_media | json_result | json_other, max_size=3)
json_contents = _mixed({"parts": json_parts}, {"role": st.sampled_from(["user", "model", "function"])})
_json_schema = st.sampled_from(
    [
        {},
        {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}},
        {"any_of": [{"type": "INTEGER"}]},
    ]
)
_json_declaration = _mixed(
    {"name": names},
    {"description": texts, "parameters": _json_schema, "parametersJsonSchema": json_objects, "behavior": texts},
)
_json_tool = _mixed({}, {"functionDeclarations": st.lists(_json_declaration, max_size=2), "googleSearch": json_objects})
_json_config = _mixed(
    {},
    {
        "temperature": st.floats(0, 2),
        "topK": counts | st.just(40.0),
        "maxOutputTokens": counts,
        "stopSequences": st.lists(texts, max_size=2),
        "responseMimeType": st.sampled_from(["application/json", "text/plain", "text/x.enum"]),
        "responseSchema": _json_schema,
        "responseJsonSchema": json_objects,
        "responseModalities": st.just(["TEXT"]),
        "thinkingConfig": _mixed(
            {},
            {
                "includeThoughts": st.booleans(),
                "thinkingBudget": st.sampled_from([-1, 0, 5]),
                "thinkingLevel": st.sampled_from(["LOW", "low", "FRESH"]),
            },
        ),
    },
)
_json_choice = _mixed(
    {},
    {
        "mode": st.sampled_from(["AUTO", "ANY", "NONE", "VALIDATED"]),
        "allowedFunctionNames": st.lists(names, max_size=2),
    },
)
json_requests = _mixed(
    {"contents": st.lists(json_contents, max_size=3)},
    {
        "systemInstruction": json_contents,
        "generationConfig": _json_config,
        "tools": st.lists(_json_tool, max_size=2),
        "toolConfig": _mixed({}, {"functionCallingConfig": _json_choice, "retrievalConfig": json_objects}),
        "safetySettings": st.just([{"category": "A"}]),
        "cachedContent": names,
        "serviceTier": st.sampled_from(["flex", "standard"]),
    },
)


def _plain(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give objects as the API writes them: in camel case."""
    fixed = st.fixed_dictionaries(required, optional={key: st.none() | value for key, value in optional.items()})
    return st.builds(lambda known, more: {**more, **known}, fixed, st.dictionaries(unknown_keys, scalars, max_size=1))


_details: st.SearchStrategy[Any] = st.lists(
    st.builds(dict, modality=st.sampled_from(["TEXT", "AUDIO"]), tokenCount=counts), max_size=2
)
json_usages = _plain(
    {"promptTokenCount": counts},
    {
        "candidatesTokenCount": counts,
        "cachedContentTokenCount": counts,
        "thoughtsTokenCount": counts,
        "toolUsePromptTokenCount": counts,
        "totalTokenCount": counts,
        "promptTokensDetails": _details,
        "trafficType": names,
    },
)
_chunks = st.lists(
    st.builds(lambda kind, fields: {kind: fields}, st.sampled_from(["web", "retrievedContext"]),
              _plain({}, {"uri": urls, "title": texts})),
    max_size=3,
)  # fmt: skip
_supports = st.lists(
    _plain(
        {},
        {
            "segment": _plain(
                {}, {"startIndex": counts, "endIndex": counts, "partIndex": st.integers(0, 3), "text": texts}
            ),
            "groundingChunkIndices": st.lists(st.integers(0, 3), max_size=2),
            "confidenceScores": st.just([0.5]),
        },
    ),
    max_size=2,
)
_tokens = st.lists(_plain({}, {"token": texts, "tokenId": counts, "logProbability": st.floats(-9, 0)}), max_size=2)
_tops: st.SearchStrategy[Any] = st.lists(st.builds(dict, candidates=_tokens), max_size=2)
_facts = {
    "finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", "A_FRESH_ONE"]),
    "avgLogprobs": st.floats(-9, 0),
    "groundingMetadata": _plain({}, {"groundingChunks": _chunks, "groundingSupports": _supports}),
    "logprobsResult": _plain({}, {"chosenCandidates": _tokens, "topCandidates": _tops}),
}
_answer_part = st.one_of(
    _plain({"text": texts}, {}),
    _plain({"text": texts}, {"thought": st.booleans(), **_signature}),
    _plain({"functionCall": _plain({"name": names}, {"id": names, "args": json_objects})}, _signature),
    _plain({"inlineData": st.just({"mimeType": "image/png", "data": "AAAA"})}, {}),
    _plain({}, {"executableCode": json_objects, "toolCall": json_objects}),
)
_answer_content = _plain({}, {"parts": st.lists(_answer_part, max_size=3), "role": st.just("model")})
_head = {"modelVersion": names, "responseId": names, "createTime": st.just("2026-01-02T03:04:05.678901Z")}
_first, _second = (_plain({}, {"content": _answer_content, "index": st.just(place), **_facts}) for place in (0, 1))
json_answers = _plain(
    {"candidates": st.tuples(_first).map(list) | st.tuples(_first, _second).map(list)},
    {"usageMetadata": json_usages, "promptFeedback": st.just({"safetyRatings": []}), **_head},
)


@st.composite
def json_streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Give the frames of a streamed answer: most go on with one text, and the last one ends it."""
    head = {key: draw(value) for key, value in _head.items() if draw(st.booleans())}
    frames: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 5))):
        parts: Any = draw(st.lists(_answer_part, max_size=2)) if draw(st.booleans()) else [{"text": draw(texts)}]
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
        if draw(st.booleans()):
            candidate["index"] = 0
        if draw(st.integers(0, 3)) == 0:
            candidate["groundingMetadata"] = draw(_facts["groundingMetadata"])
        frame = {"candidates": [candidate], **head, "usageMetadata": draw(json_usages)}
        frames.append(draw(st.sampled_from([frame, frame, frame, {**head, "x_fresh": 1}])))
    ending = draw(_plain({}, {"content": _answer_content, **_facts}))
    ending["finishReason"] = ending.get("finishReason") or "STOP"
    frames.append({"candidates": [{**ending, "index": 0}], **head, "usageMetadata": draw(json_usages)})
    return frames
