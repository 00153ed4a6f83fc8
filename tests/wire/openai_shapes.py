"""What OpenAI Chat Completions can say: neutral values for laws 1 to 3, and plausible wire JSON for law 4."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import (
    AudioDelta,
    Event,
    MessageDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
)
from antiphon.chat.messages import Audio, Message, Opaque, Reasoning, Refusal, Text, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, ToolName
from antiphon.formats.openai_chat.message import NAME
from tests.wire import laws
from tests.wire.laws import counts, extras, json_objects, json_values, maybe, names, texts, unknown_fields, urls

# Neutral requests

EXTRAS = extras(NAME)
BLOCKS = st.builds(
    lambda kind, fields: Opaque(NAME, {"type": f"x_{kind}", **fields}), names, unknown_fields
)  # a part or a tool of a kind that nobody knows
TEXTS = st.builds(Text, texts, extra=EXTRAS)
CONTENT = st.lists(
    TEXTS
    | laws.images(extras(NAME, "image_url"))
    | laws.sounds(extras(NAME, "input_audio"))
    | laws.files(extras(NAME, "file"))
    | BLOCKS,
    min_size=1,
    max_size=3,
).map(tuple)
SPOKEN = st.builds(
    Audio, id=maybe(names), data=maybe(texts), transcript=maybe(texts), expires_at=maybe(counts), extra=EXTRAS
)
CALLS = laws.tool_calls(extras(NAME, "function"), kinds=["function", "builtin_function"]) | laws.tool_calls(
    extras(NAME, "custom"), kinds=["custom"]
)


@st.composite
def assistant_parts(draw: st.DrawFn) -> tuple[Any, ...]:
    """Give the parts of an assistant's message in the one order that the format can tell."""
    content = draw(st.lists(TEXTS | BLOCKS, max_size=2))
    for place, part in enumerate(content):
        if isinstance(part, Text):  # the sources of all texts stand together, so they are those of the first
            content[place] = Text(part.text, draw(laws.citations(NAME)), extra=part.extra)
            break
    return (
        *draw(st.lists(st.builds(Reasoning, texts), max_size=1)),
        *content,
        *draw(st.lists(st.builds(Refusal, texts.filter(bool)), max_size=1)),
        *draw(st.lists(SPOKEN, max_size=1)),
        *draw(st.lists(CALLS, max_size=2)),
    )


MESSAGES = (
    st.builds(Message, st.sampled_from(["system", "developer", "user", "critic"]), CONTENT, maybe(names), extra=EXTRAS)
    | st.builds(Message, st.just("assistant"), assistant_parts(), maybe(names), extra=EXTRAS)
    | st.builds(
        Message,
        st.just("tool"),
        st.builds(ToolResult, names, CONTENT).map(lambda result: (result,)),
        maybe(names),
        extra=EXTRAS,
    )
)
FORMATS = st.builds(ResponseFormat, st.sampled_from(["text", "json"]), extra=EXTRAS) | st.builds(
    ResponseFormat,
    st.just("json_schema"),
    maybe(json_objects),
    names,
    maybe(texts),
    maybe(st.booleans()),
    extra=extras(NAME, "json_schema"),
)
REQUESTS = st.builds(
    ChatRequest,
    names,
    st.lists(MESSAGES, max_size=3).map(tuple),
    tools=maybe(st.lists(laws.tools(extras(NAME, "function")) | BLOCKS, max_size=2).map(tuple)),
    tool_choice=maybe(st.sampled_from(["auto", "none", "required"]) | st.builds(ToolName, names) | BLOCKS),
    parallel_tool_calls=maybe(st.booleans()),
    temperature=maybe(laws.numbers),
    top_p=maybe(laws.numbers),
    top_k=maybe(counts),
    max_tokens=maybe(counts),
    stop=maybe(st.lists(texts, max_size=2).map(tuple)),
    n=maybe(counts),
    seed=maybe(counts),
    frequency_penalty=maybe(laws.numbers),
    presence_penalty=maybe(laws.numbers),
    logprobs=maybe(st.booleans()),
    top_logprobs=maybe(counts),
    response_format=maybe(FORMATS),
    reasoning=maybe(st.builds(ReasoningOptions, effort=names)),
    user=maybe(texts),
    service_tier=maybe(texts),
    stream=st.booleans(),
    include_usage=maybe(st.booleans()),
    extra=extras(NAME, "stream_options"),
)

# Neutral streams

LOGPROBS = maybe(st.lists(st.fixed_dictionaries({"token": texts, "logprob": laws.numbers}), max_size=2).map(tuple))


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    """Give answers that the format can tell, their choices in order."""
    choices = [
        Choice(
            index,
            Message("assistant", draw(assistant_parts()), extra=draw(EXTRAS)),
            draw(laws.finish_reasons()),
            extra=draw(EXTRAS),
        )
        for index in range(draw(st.integers(1, 3)))
    ]
    return Completion(
        choices=tuple(choices),
        id=draw(names),
        model=draw(texts),
        created=draw(counts),
        usage=draw(maybe(laws.usages(NAME))),
        extra=draw(EXTRAS),
    )


@st.composite
def choice_events(draw: st.DrawFn, index: int) -> list[Event]:
    """Give the deltas of one choice; those of its tool calls may alternate."""
    text = st.builds(TextDelta, texts, st.just(index), annotations=laws.citations(NAME), logprobs=LOGPROBS)
    other = (
        st.builds(ReasoningDelta, texts, st.just(index))
        | st.builds(RefusalDelta, texts.filter(bool), st.just(index), logprobs=LOGPROBS)
        | st.builds(MessageDelta, choice=st.just(index), role=maybe(st.just("assistant")), extra=EXTRAS)
        | st.builds(AudioDelta, choice=st.just(index), id=maybe(names), data=maybe(texts), extra=EXTRAS)
        | st.builds(PartAdded, BLOCKS, st.just(index))
    )
    calls: list[list[Event]] = []
    for number, id in enumerate(draw(st.lists(names, max_size=3, unique=True))):
        first = st.builds(
            ToolCallDelta,
            call=st.just(number),
            choice=st.just(index),
            id=st.just(id),
            name=names,
            arguments=texts,
            kind=maybe(st.sampled_from(["function", "custom"])),
            extra=EXTRAS,
        )
        later = st.builds(ToolCallDelta, call=st.just(number), choice=st.just(index), arguments=texts)
        calls.append([draw(first), *draw(st.lists(later, max_size=2))])
    # A server numbers its calls in the order in which they begin.
    starts = [call[:1] for call in calls]
    rest = draw(laws.interleaved(*(call[1:] for call in calls)))
    return [*draw(st.lists(text | other, max_size=4)), *(event for start in starts for event in start), *rest]


STARTS: st.SearchStrategy[list[Event]] = st.lists(
    st.builds(Start, id=names, model=names, created=counts, extra=EXTRAS), max_size=1
)
BESIDE: st.SearchStrategy[list[Event]] = st.lists(
    st.builds(UsageUpdate, laws.usages(NAME)) | st.builds(UnknownEvent, st.just(NAME), unknown_fields), max_size=3
)
STREAMS = laws.streams(choice_events, STARTS, BESIDE)

# Wire JSON. A field that is known may be absent, null, or as good servers and odd ones write it.


def fields(known: dict[str, st.SearchStrategy[Any]], *required: str) -> st.SearchStrategy[dict[str, Any]]:
    """Give objects with the *required* fields, any of the others, nulls in their places, and unknown fields."""
    must = {key: strategy for key, strategy in known.items() if key in required}
    may = {key: maybe(strategy) for key, strategy in known.items() if key not in required}
    unknown = st.dictionaries(laws.unknown_keys, json_values, max_size=2)
    return st.builds(lambda fields, more: {**fields, **more}, st.fixed_dictionaries(must, optional=may), unknown)


def kind(name: str) -> st.SearchStrategy[str]:
    """Give the one value of a `type` field."""
    return st.just(name)


WIRE_TEXT = fields({"type": kind("text"), "text": texts}, "type", "text")
WIRE_PARTS = st.lists(
    WIRE_TEXT
    | fields(
        {"type": kind("image_url"), "image_url": fields({"url": urls | texts, "detail": names}, "url") | urls},
        "type",
        "image_url",
    )
    | fields(
        {"type": kind("input_audio"), "input_audio": fields({"data": texts, "format": names}, "data")},
        "type",
        "input_audio",
    )
    | fields(
        {
            "type": kind("file"),
            "file": fields(
                {"file_data": texts | urls | st.just("data:a/b;base64,QQ=="), "file_id": names, "filename": names}
            ),
        },
        "type",
        "file",
    )
    | fields({"type": kind("refusal"), "refusal": texts}, "type", "refusal")
    | fields({"type": kind("thinking"), "thinking": st.lists(WIRE_TEXT, max_size=2) | json_values}, "type")
    | fields({"type": unknown_fields.map(lambda _: "x_new")}, "type"),
    max_size=3,
)
ARGUMENTS = texts | st.just('{"a": 1}') | json_objects
WIRE_CALLS = st.lists(
    fields(
        {
            "id": texts,
            "type": kind("function"),
            "index": counts,
            "function": fields({"name": names, "arguments": ARGUMENTS}, "name"),
        },
        "function",
    )
    | fields(
        {"id": names, "type": kind("custom"), "custom": fields({"name": names, "input": texts}, "name")},
        "type",
        "custom",
    )
    | fields({"id": names, "type": kind("web_search"), "web_search": json_values}, "type"),
    max_size=2,
)
WIRE_ANNOTATIONS = st.lists(
    fields({"type": kind("url_citation"), "url_citation": fields({"url": texts, "title": texts, "end_index": counts})})
    | fields({"type": kind("url_citation"), "url": texts, "start_index": counts | texts})
    | fields({"type": kind("file"), "file": json_values}, "type"),
    max_size=2,
)
WIRE_AUDIO = fields({"id": names, "data": texts, "transcript": texts, "expires_at": counts})
ASSISTANT: dict[str, st.SearchStrategy[Any]] = {
    "content": texts | WIRE_PARTS,
    "refusal": texts,
    "reasoning_content": texts,
    "reasoning": texts | json_objects,
    "tool_calls": WIRE_CALLS,
    "audio": WIRE_AUDIO,
    "annotations": WIRE_ANNOTATIONS,
    "function_call": fields({"name": names, "arguments": texts}),
}
WIRE_MESSAGES = (
    fields(
        {
            "role": st.sampled_from(["system", "developer", "user", "function"]),
            "content": texts | WIRE_PARTS,
            "name": names,
            "tool_calls": json_values,
        },
        "role",
        "content",
    )
    | fields({"role": kind("assistant"), "name": names, **ASSISTANT}, "role")
    | fields(
        {
            "role": kind("tool"),
            "tool_call_id": texts,
            "content": texts | WIRE_PARTS,
            "name": names,
            "reasoning": json_values,
        },
        "role",
        "tool_call_id",
        "content",
    )
)
WIRE_TOOLS = st.lists(
    fields(
        {
            "type": kind("function"),
            "function": fields(
                {"name": names, "description": texts, "parameters": json_objects, "strict": st.booleans()}, "name"
            ),
        },
        "function",
    )
    | fields({"type": kind("custom"), "custom": json_objects}, "type"),
    max_size=2,
)
WIRE_FORMATS = (
    fields({"type": st.sampled_from(["text", "json_object", "grammar"]), "json_schema": json_values}, "type")
) | fields(
    {
        "type": kind("json_schema"),
        "json_schema": fields(
            {"name": names, "schema": json_objects, "description": texts, "strict": st.booleans()},
        ),
    },
    "type",
    "json_schema",
)
WIRE_REQUESTS = fields(
    {
        "model": texts,
        "messages": st.lists(WIRE_MESSAGES, max_size=3),
        "tools": WIRE_TOOLS,
        "tool_choice": st.sampled_from(["auto", "any", {"type": "function", "function": {"name": "f"}}, {"type": "x"}])
        | fields({"type": kind("function"), "function": fields({"name": names})}),
        "parallel_tool_calls": st.booleans(),
        "temperature": laws.numbers,
        "top_p": laws.numbers,
        "top_k": counts,
        "max_tokens": counts,
        "max_completion_tokens": counts,
        "stop": texts | st.lists(texts, max_size=2),
        "n": counts,
        "logprobs": st.booleans(),
        "response_format": WIRE_FORMATS,
        "reasoning_effort": names,
        "user": texts,
        "stream": st.booleans(),
        "stream_options": fields({"include_usage": st.booleans(), "include_obfuscation": st.booleans()}),
        "logit_bias": json_objects,
        "metadata": json_objects,
    },
    "model",
    "messages",
)
ODD = texts | counts | st.booleans() | st.just(1.0)
"""What a field that only identifies an answer may hold without harm."""
COUNTS = counts | counts.map(float) | texts
WIRE_USAGE = fields(
    {
        "prompt_tokens": COUNTS,
        "completion_tokens": COUNTS,
        "total_tokens": COUNTS,
        "prompt_tokens_details": fields({"cached_tokens": COUNTS, "audio_tokens": COUNTS, "video_tokens": COUNTS}),
        "completion_tokens_details": fields({"reasoning_tokens": COUNTS, "accepted_prediction_tokens": COUNTS}),
        "prompt_cache_hit_tokens": counts,
        "num_cached_tokens": counts,
        "cost": laws.numbers | st.booleans() | st.just(10**400),
        "cost_details": json_objects,
    }
)
TOKENS = fields({"token": texts, "logprob": laws.numbers, "bytes": st.lists(counts, max_size=2)})
WIRE_LOGPROBS = fields(
    {"content": st.lists(TOKENS, max_size=2), "refusal": st.lists(TOKENS, max_size=2), "tokens": json_values}
)
REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "function_call", "eos", "error", "x", ""])
ANSWER: dict[str, st.SearchStrategy[Any]] = {
    "id": ODD,
    "object": ODD,
    "created": ODD,
    "model": ODD,
    "system_fingerprint": texts,
    "service_tier": texts,
    "provider": texts,
    "usage": WIRE_USAGE | ODD,
    "x_groq": fields({"id": texts, "usage": WIRE_USAGE}),
    "error": st.sampled_from(["", False, {}]),
    "prompt_filter_results": json_values,
}


@st.composite
def wire_answers(draw: st.DrawFn) -> dict[str, Any]:
    """Give whole answers; their choices are in order, or have no number, or all the same."""
    one = fields(
        {
            "message": fields({"role": kind("assistant"), **ASSISTANT}),
            "finish_reason": REASONS,
            "logprobs": WIRE_LOGPROBS,
            "native_finish_reason": texts,
            "content_filter_results": json_objects,
        },
        "message",
    )
    choices = draw(st.lists(one, min_size=1, max_size=3))
    numbering = draw(st.sampled_from(["right", "none", "same", "text"]))
    for place, choice in enumerate(choices):
        if numbering != "none":
            choice["index"] = {"right": place, "same": 0, "text": str(place)}[numbering]
    return {**draw(fields(ANSWER)), "choices": choices}


@st.composite
def wire_deltas(draw: st.DrawFn, calls: int) -> dict[str, Any]:
    """Give the delta of one chunk, with fragments of tool calls of which *calls* have begun."""
    delta = draw(fields({**{k: v for k, v in ASSISTANT.items() if k != "tool_calls"}, "role": kind("assistant")}))
    fragments: list[Any] = []
    for _ in range(draw(st.integers(0, 2))):
        number = draw(st.integers(0, calls))
        body = draw(
            fields({"name": kind(f"f{number}"), "arguments": ARGUMENTS}, *(["name"] if number == calls else []))
        )
        fragment = draw(
            fields({"type": kind("function"), "index": st.just(number), "function": st.just(body)}, "index", "function")
        )
        if number == calls:
            fragment["id"], calls = f"id_{number}", calls + 1
        fragments.append(fragment)
    if fragments:
        delta["tool_calls"] = fragments
    return delta


@st.composite
def wire_streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Give the chunks of an answer: odd ones, and runs that differ in their text alone; all choices finish."""
    head = draw(fields({key: strategy for key, strategy in ANSWER.items() if key not in ("usage", "x_groq")}))
    beside = fields({"usage": WIRE_USAGE | ODD, "x_groq": fields({"usage": WIRE_USAGE}), "obfuscation": texts})
    beside |= st.just({})
    calls = [0] * draw(st.integers(1, 2))
    chunks: list[dict[str, Any]] = []

    def chunk(*choices: dict[str, Any]) -> None:
        chunks.append({**head, **draw(beside), "choices": [*choices]})

    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(calls) - 1))
        if draw(st.booleans()):
            delta = draw(wire_deltas(calls[index]))
            calls[index] += sum("id" in fragment for fragment in delta.get("tool_calls") or ())
            chunk({"index": index, "delta": delta, "logprobs": draw(maybe(WIRE_LOGPROBS)), "finish_reason": None})
            continue
        kinds = ["content", "reasoning_content", "reasoning", *["arguments"] * calls[index]]
        field = draw(st.sampled_from(kinds))
        number = draw(st.integers(0, max(calls[index] - 1, 0)))
        delta = draw(
            fields({"role": kind("assistant"), "refusal": st.just(None), "reasoning": st.sampled_from(["", "r"])})
        )
        around = draw(fields({"logprobs": st.just(None), "finish_reason": st.sampled_from(["", None])}))
        padding = draw(st.sampled_from([None, texts]))
        usage = draw(st.sampled_from([{}, {"usage": None}]))
        for text in draw(st.lists(texts, min_size=1, max_size=4)):
            fragment = {"index": number, "function": {"arguments": text}}
            piece = {"tool_calls": [fragment]} if field == "arguments" else {field: text}
            choice = {"index": index, **around, "delta": {**delta, **piece}}
            chunks.append({**head, "choices": [choice], **usage})
            if padding is not None:
                chunks[-1]["obfuscation"] = draw(padding)
    for index in range(len(calls)):
        reason = draw(REASONS.filter(bool))
        chunk({"index": index, "delta": draw(st.just({}) | st.none()), "finish_reason": reason})
    if draw(st.booleans()):
        chunks.append({**head, "choices": [], "usage": draw(WIRE_USAGE)})
    return chunks


@st.composite
def wire_bodies(draw: st.DrawFn) -> bytes:
    """Give the bytes of a stream as a server may write them: with other spaces, line ends and escapes."""
    spaced, escaped = draw(st.booleans()), draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    separators = (", ", ": ") if spaced else (",", ":")
    lines = [
        "data:" + " " * spaced + json.dumps(chunk, separators=separators, ensure_ascii=escaped)
        for chunk in draw(wire_streams())
    ]
    done = draw(st.sampled_from([["data: [DONE]"], []]))
    return "".join(line + end + end for line in [*lines, *done]).encode()
