"""Strategies of what Ollama's own API can say: neutral values, and JSON as clients and servers write it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool
from antiphon.chat.usage import Usage
from antiphon.formats import json
from tests.wire.laws import counts, extras, json_objects, maybe, names, scalars, texts, unknown_fields, urls

NAME = "ollama"

said = st.text(min_size=1, max_size=12)
extra = extras(NAME)
PICTURES = {"iVBORw0KGgo=": "image/png", "/9j/4AAQ": "image/jpeg", "R0lGODlh": "image/gif", "UklGRgAA": "image/webp"}


def body(frames: Iterable[Any]) -> bytes:
    """Return *frames* as the lines of a stream."""
    return b"".join(json.encode(frame) + b"\n" for frame in frames)


def frames(data: bytes) -> list[Any]:
    """Return the values of the lines of a stream."""
    return [json.decode(line) for line in data.split(b"\n") if line.strip()]


# Neutral values

images = st.sampled_from([*PICTURES.items(), ("AAAA", None)]).map(lambda item: Image(data=item[0], media_type=item[1]))
calls = st.builds(
    ToolCall,
    names,
    names,
    json_objects.map(lambda value: json.encode(value).decode()),
    extra=extras(NAME, "function"),
)


def _some(strategy: st.SearchStrategy[Part], most: int = 1) -> st.SearchStrategy[list[Part]]:
    return st.lists(strategy, max_size=most)


_text = st.builds(Text, said)
_body = st.builds(lambda *lists: tuple(part for parts in lists for part in parts), _some(_text), _some(images, 2))
_spoken = st.builds(
    lambda *lists: tuple(part for parts in lists for part in parts),
    _some(st.builds(Reasoning, said)),
    _some(_text),
    _some(calls, 2),
)
messages = (
    st.builds(Message, st.sampled_from(["system", "user"]), _body, extra=extra)
    | st.builds(Message, st.just("assistant"), _spoken, extra=extra)
    | st.builds(Message, st.just("tool"), st.tuples(st.builds(ToolResult, names, _body, name=names)), extra=extra)
)
tools = st.builds(Tool, names, maybe(texts), maybe(json_objects), extra=extras(NAME, "function")) | unknown_fields.map(
    lambda more: Opaque(NAME, {**more, "type": "browser"})
)
reasoning = st.sampled_from(
    [
        ReasoningOptions(budget_tokens=-1),
        *(ReasoningOptions(effort=effort) for effort in ("none", "low", "medium", "high", "max")),
    ]
)
formats = st.just(ResponseFormat("json")) | json_objects.map(lambda schema: ResponseFormat("json_schema", schema))
penalties = maybe(st.floats(-2, 2))


def _request(stream: bool, **fields: Any) -> ChatRequest:
    return ChatRequest(stream=stream, include_usage=True if stream else None, **fields)


def requests() -> st.SearchStrategy[ChatRequest]:
    """Give requests that this format can say in full."""
    return st.builds(
        _request,
        st.booleans(),
        model=names,
        messages=st.lists(messages, max_size=4).map(tuple),
        tools=maybe(st.lists(tools, max_size=2).map(tuple)),
        temperature=penalties,
        top_p=penalties,
        top_k=maybe(counts),
        max_tokens=maybe(counts),
        stop=maybe(st.lists(texts, max_size=2).map(tuple)),
        seed=maybe(counts),
        frequency_penalty=penalties,
        presence_penalty=penalties,
        logprobs=maybe(st.booleans()),
        top_logprobs=maybe(counts),
        response_format=maybe(formats),
        reasoning=maybe(reasoning),
        extra=extras(NAME, "options"),
    )


_durations = st.dictionaries(st.sampled_from(["total_duration", "load_duration"]), counts, min_size=1)
usages = st.builds(
    Usage,
    input_uncached=counts,
    output_visible=counts,
    extra=maybe(_durations.map(lambda spent: {NAME: spent})),
)
logprobs = st.lists(
    st.builds(lambda token, more: {"token": token, "logprob": -0.5, **more}, texts, unknown_fields),
    min_size=1,
    max_size=2,
).map(tuple)


def _completion(parts: tuple[Part, ...], reason: Any, **fields: Any) -> Completion:
    called = any(isinstance(part, ToolCall) for part in parts)
    finish = ("tool_calls", "stop") if called and reason[0] == "stop" else reason
    return Completion(choices=(Choice(0, Message("assistant", parts, extra=fields.pop("own")), *finish),), **fields)


def completions() -> st.SearchStrategy[Completion]:
    """Give answers that this format can say in full."""
    spoken = st.builds(
        lambda *lists: tuple(part for parts in lists for part in parts),
        _some(st.builds(Reasoning, said)),
        _some(st.builds(Text, said, logprobs=maybe(logprobs))),
        _some(images, 2),
        _some(calls, 2),
    )
    return st.builds(
        _completion,
        spoken,
        st.sampled_from([("stop", None), ("length", None), ("other", "unload"), ("other", "fresh")]),
        own=extra,
        model=names,
        created=counts,
        usage=maybe(usages),
        extra=extra,
    )


# JSON

_null = st.none()
_json_calls = st.fixed_dictionaries(
    {
        "function": st.fixed_dictionaries(
            {"name": names}, optional={"arguments": json_objects | _null | texts, "index": counts, "x_f": scalars}
        )
    },
    optional={"id": names | _null, "type": st.just("function"), "x_c": scalars},
)
_json_fields: dict[str, st.SearchStrategy[Any]] = {
    "content": texts | _null,
    "thinking": texts | _null,
    "images": _null | st.lists(st.sampled_from([*PICTURES, "AAAA"]), max_size=2),
    "tool_calls": _null | st.lists(_json_calls, max_size=2),
    "tool_name": names | _null,
    "tool_call_id": names | _null,
    "x_message": scalars,
}
_json_messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "critic"])}, optional=_json_fields
)
_json_options = st.fixed_dictionaries(
    {},
    optional={
        "temperature": penalties,
        "top_k": maybe(counts),
        "num_predict": maybe(st.integers(-2, 9)),
        "stop": texts | _null | st.lists(texts, max_size=2),
        "num_ctx": counts,
    },
)
_json_tools = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": names}, optional={"parameters": json_objects, "x_f": scalars})},
    optional={"type": st.just("function") | _null, "x_t": scalars},
)
json_requests = st.fixed_dictionaries(
    {"model": names, "messages": st.lists(_json_messages, max_size=4)},
    optional={
        "stream": maybe(st.booleans()),
        "tools": _null | st.lists(_json_tools | st.just({"type": "browser"}), max_size=2),
        "options": _null | _json_options,
        "think": st.sampled_from([None, True, False, "", "low", "xhigh"]),
        "format": st.sampled_from([None, "", "json", {"type": "object"}]),
        "keep_alive": st.sampled_from([None, 0, "5m"]),
        "logprobs": maybe(st.booleans()),
        "x_request": scalars,
    },
)


def _is_sayable(request: dict[str, Any]) -> bool:
    calls = [call for message in request["messages"] for call in message.get("tool_calls") or ()]
    odd = any(isinstance(call["function"].get("arguments"), str) for call in calls)
    return not odd and request.get("think") not in ("minimal", "xhigh")


sayable_requests = json_requests.filter(_is_sayable)
"""Those without what is changed when a request is written: efforts that are no levels, and arguments as text."""

_times = st.sampled_from(["2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00.1+01:00", "soon", None])
_answers: dict[str, st.SearchStrategy[Any]] = {
    "content": texts,
    "thinking": texts,
    "images": _null | st.lists(st.sampled_from([*PICTURES, "AAAA"]), max_size=2),
    "tool_calls": _null | st.lists(_json_calls, max_size=2),
    "x_message": scalars,
}
_json_message = st.fixed_dictionaries({"role": st.sampled_from(["assistant", "critic"])}, optional=_answers)
_lines: dict[str, st.SearchStrategy[Any]] = {
    "model": names | _null,
    "created_at": _times,
    "logprobs": _null | st.lists(unknown_fields, max_size=2),
    "x_line": scalars,
    "remote_host": urls,
}
_last: dict[str, st.SearchStrategy[Any]] = {
    "done_reason": st.sampled_from(["stop", "length", "load", "fresh", None]),
    "total_duration": counts | _null,
    "eval_duration": counts,
    "prompt_eval_count": counts,
    "eval_count": counts | _null,
}
json_answers = st.fixed_dictionaries({"message": _json_message, "done": st.just(True)}, optional={**_lines, **_last})
_plain_lines = st.builds(
    lambda message: {"model": "m", "created_at": "2026-11-22T10:00:00Z", "message": message, "done": False},
    st.fixed_dictionaries({"role": st.just("assistant"), "content": texts}, optional={"thinking": texts}),
)
_json_lines = _plain_lines | st.fixed_dictionaries(
    {"done": st.just(False)}, optional={**_lines, "message": _json_message | _null}
)
_end = st.fixed_dictionaries({"done": st.just(True)}, optional={**_lines, **_last, "message": _json_message})
json_streams = st.builds(
    lambda lines, end, late: [*lines, end, *late],
    st.lists(_json_lines, max_size=5),
    _end,
    st.lists(_json_lines, max_size=1),
)

# JSON with every field that the codec knows, for the law without what was kept

_FULL_MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief.", "x_message": 1},
    {"role": "user", "content": "What is this?", "images": ["iVBORw0KGgo=", "AAAA"]},
    {
        "role": "assistant",
        "content": "I will look.",
        "thinking": "A picture.",
        "tool_calls": [{"id": "a", "x_call": 1, "function": {"name": "look", "arguments": {"n": 1}, "x_function": 1}}],
    },
    {"role": "tool", "content": "a cat", "images": ["AAAA"], "tool_name": "look", "tool_call_id": "a"},
]
FULL_REQUEST: dict[str, Any] = {
    "model": "llama",
    "messages": _FULL_MESSAGES,
    "stream": False,
    "tools": [
        {
            "type": "function",
            "x_tool": 1,
            "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}, "x_function": 1},
        },
        {"type": "browser"},
    ],
    "options": {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "seed": 7,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "num_predict": 100,
        "stop": ["END"],
        "num_ctx": 4096,
    },
    "format": {"type": "object"},
    "think": "low",
    "logprobs": True,
    "top_logprobs": 2,
    "keep_alive": "5m",
}
_FULL_END: dict[str, Any] = {
    "done": True,
    "done_reason": "length",
    "total_duration": 5,
    "load_duration": 1,
    "prompt_eval_duration": 2,
    "eval_duration": 2,
    "prompt_eval_count": 3,
    "eval_count": 4,
}
_FULL_TOP: dict[str, Any] = {"model": "llama", "created_at": "2026-11-22T10:00:00Z"}
FULL_ANSWER: dict[str, Any] = {
    **_FULL_TOP,
    "message": {**_FULL_MESSAGES[2], "role": "critic", "images": ["AAAA"], "x_message": 1},
    "logprobs": [{"token": "I", "logprob": -0.5}],
    "x_answer": 1,
    **_FULL_END,
}
FULL_STREAM: list[dict[str, Any]] = [
    {**_FULL_TOP, "message": {"role": "critic", "content": "", "thinking": "A pic", "x_message": 1}, "done": False},
    {**_FULL_TOP, "message": {"role": "assistant", "content": "", "thinking": "ture."}, "done": False, "x_line": 1},
    {
        **_FULL_TOP,
        "message": {"role": "assistant", "content": "I"},
        "logprobs": [{"token": "I", "logprob": -0.5}],
        "done": False,
    },
    {**_FULL_TOP, "message": {"role": "assistant", "content": "", "images": ["AAAA"]}, "done": False},
    {
        **_FULL_TOP,
        "message": {"role": "assistant", "content": "", "tool_calls": _FULL_MESSAGES[2]["tool_calls"]},
        "done": False,
    },
    {**_FULL_TOP, "message": {"role": "assistant", "content": ""}, **_FULL_END},
]
