"""OpenAI Chat Completions requests, both ways. Pure functions, no I/O.

`decode_request` reads a request object, `encode_request` writes one; their messages are in `message.py`.

Source: openai 3.54, `types/chat/completion_create_params.py` and its neighbours, and recorded requests
(read 2026-11-22).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, TypeGuard, TypeVar, cast

import msgspec

from antiphon.chat.kept import changed
from antiphon.chat.kept import keep as keeping
from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Message, Node, Opaque, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.errors import BadRequestError
from antiphon.formats import json, read
from antiphon.formats.kit import FunctionTools, Row, Table, dropped, stop_texts
from antiphon.formats.notes import foreign
from antiphon.formats.openai_chat.message import NAME, NOTES, Writer, decode_message, own_extra, unknown

__all__ = ["decode_request", "encode_request", "in_words_of", "plain"]

N = TypeVar("N", bound=Node)

_FORMAT_KINDS = {"text": "text", "json_object": "json", "json_schema": "json_schema"}
_SCHEMA = dict.fromkeys(("name", "schema", "description", "strict"))
_OWN = ("model", "messages", "tools", "max_tokens", "max_completion_tokens", "stream")
"""Fields that are read by themselves."""
_APART = frozenset(("model", "messages", "tools", "stream", "include_usage"))
"""Fields of a request whose change leaves the other fields as they came."""


# Abstract classes come last: to ask for one takes several times as long, and every value of a request is asked.
_ATOMS = frozenset((str, int, bool, NoneType))
_STRINGS = frozenset((str,))
_OBJECTS = (dict, Mapping)
_ARRAYS = (list, tuple)

_SHAPES = frozenset(("image_url", "input_audio", "file", "function", "custom"))
"""Objects of this format, in which further fields are this format's as well."""
_INSIDE: Mapping[type, str] = {Message: "parts", ToolResult: "content"}
"""Where a node has others inside."""


def plain(value: Any, path: str) -> Any:
    """Return *value*, which a program gave at *path*, with tuples and other mappings as the lists and dicts of JSON.

    Raises:
        BadRequestError: JSON has no such value, or would have it as another; `param` is its path.
    """
    try:
        return _plain(value)
    except _NotJSONError:
        path, reason = next(_faults(value, path))
    except RecursionError:
        reason = "it holds itself, or is nested too deeply"
    raise BadRequestError(f"{path} cannot be sent as JSON: {reason}.", status=400, param=path)


class _NotJSONError(Exception):
    """Somewhere in a value is one that JSON does not have."""


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, _OBJECTS)


def _plain(value: Any) -> Any:
    if type(value) in _ATOMS:
        return value
    if _is_mapping(value):
        if not _STRINGS.issuperset(map(type, value)) and not all(isinstance(key, str) for key in value):
            raise _NotJSONError
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, _ARRAYS):
        return [_plain(item) for item in cast(Sequence[Any], value)]
    if _why_not(value):
        raise _NotJSONError
    return value


def _why_not(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "it has finite numbers alone"
    return "it has no bytes; write them as text" if isinstance(value, bytes | bytearray | memoryview) else ""


def _faults(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Give the path of each value in *value*, at *path*, that JSON does not have, and why."""
    if reason := _why_not(value):
        yield path, reason
    elif _is_mapping(value):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{path}[{key!r}]", "its keys are strings"
            yield from _faults(item, f"{path}.{key}")
    elif isinstance(value, _ARRAYS):
        for place, item in enumerate(cast(Sequence[Any], value)):
            yield from _faults(item, f"{path}[{place}]")


def in_words_of(format: str, request: ChatRequest, source: Mapping[str, Any]) -> ChatRequest:
    """Return *request*, read of *source*, with what was not known of its messages and tools as words of *format*.

    Messages and tools that were objects of their own in *source* already stay as they are.
    """
    messages = (
        message if message is given else _renamed(message, format)
        for message, given in zip(request.messages, source["messages"], strict=True)
    )
    request = request.but(messages=tuple(messages))
    if request.tools is None:
        return request
    both = zip(request.tools, source["tools"], strict=True)
    return request.but(tools=tuple(tool if tool is given else _renamed(tool, format) for tool, given in both))


def _renamed(node: N, format: str) -> N:
    """Return *node* with what this format alone says of it, if it says anything, as words of *format*."""
    changes: dict[str, Any] = {}
    known = own_extra(node)
    said = {key: value for key, value in known.items() if key not in _SHAPES and value not in (None, [], {})}
    if said:
        rest = {key: value for key, value in known.items() if key not in said}
        changes["extra"] = {format: said, NAME: rest} if rest else {format: said}
    if isinstance(node, Opaque) and node.format == NAME:
        changes["format"] = format
    if (field := _INSIDE.get(type(node))) is not None:
        changes[field] = tuple(_renamed(item, format) for item in getattr(node, field))
    return msgspec.structs.replace(node, **changes) if changes else node


# Settings


def _read_choice(source: dict[str, Any], key: str, path: str) -> Any:
    value = source[key]
    if value in ("auto", "none", "required"):
        return value
    if json.is_object(value):
        inner = value.get("function")
        if value.keys() == {"type", "function"} and value["type"] == "function" and json.is_object(inner):
            if inner.keys() == {"name"} and isinstance(inner["name"], str):
                return ToolName(inner["name"])
        return Opaque(NAME, value)
    if isinstance(value, str):
        return Opaque(NAME, value)
    read.fault(f"{path}.{key}", "'auto', 'none', 'required' or an object", value)


def _write_choice(choice: str | ToolName | Opaque, losses: list[Loss]) -> Any:
    if isinstance(choice, ToolName):
        return {"type": "function", "function": {"name": choice.name}}
    if isinstance(choice, str):
        return choice
    if choice.format == NAME:
        return choice.data
    losses.append(foreign("$.tool_choice", choice))
    return None


def _read_format(source: dict[str, Any], key: str, path: str) -> ResponseFormat | None:
    """Read `response_format`; a kind that only some servers know, such as a grammar, has no neutral value."""
    given = read.required_object(source, key, path)
    kind = read.required_text(given, "type", f"{path}.{key}")
    if kind not in _FORMAT_KINDS:
        return None
    inside = f"{path}.{key}.json_schema"
    schema = kind == "json_schema"
    inner = read.required_object(given, "json_schema", f"{path}.{key}") if schema else {}
    return ResponseFormat(
        cast(Any, _FORMAT_KINDS[kind]),
        read.object_(inner, "schema", inside),
        read.text(inner, "name", inside),
        read.text(inner, "description", inside),
        read.boolean(inner, "strict", inside),
        extra=unknown(given, {"type": None, "json_schema": _SCHEMA} if schema else {"type": None}),
    )


def _write_format(format: ResponseFormat, losses: list[Loss]) -> dict[str, Any]:
    losses += lost_extra(format, "$.response_format", keep=(NAME,))
    if format.kind != "json_schema":
        result: dict[str, Any] = {"type": "json_object" if format.kind == "json" else "text"}
    else:
        inner: dict[str, Any] = {"name": format.name or "answer", "schema": format.schema}
        inner |= {"description": format.description, "strict": format.strict}
        result = {"type": "json_schema", "json_schema": {k: v for k, v in inner.items() if v is not None}}
    return json.merged(result, own_extra(format))


def _read_effort(source: dict[str, Any], key: str, path: str) -> ReasoningOptions:
    return ReasoningOptions(effort=read.required_text(source, key, path))


def _write_effort(options: ReasoningOptions, losses: list[Loss]) -> str | None:
    losses += lost_extra(options, "$.reasoning", keep=())
    for field in ("budget_tokens", "include"):
        if getattr(options, field) is not None:
            reason = f"Chat Completions has no field for {field!r}; only an effort can be asked for."
            losses.append(dropped(f"reasoning.{field}", reason))
    return options.effort


_SETTINGS = Table(
    "Chat Completions",
    NOTES,
    {
        **{name: Row(name, read.number) for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty")},
        **{name: Row(name, read.integer) for name in ("top_k", "n", "seed", "top_logprobs")},
        **{name: Row(name, read.boolean) for name in ("parallel_tool_calls", "logprobs")},
        **{name: Row(name, read.text) for name in ("user", "service_tier")},
        "stop": Row("stop", stop_texts),
        "include_usage": Row("stream_options.include_usage", read.boolean),
        "tool_choice": Row("tool_choice", _read_choice, _write_choice),
        "response_format": Row("response_format", _read_format, _write_format),
        "reasoning": Row("reasoning_effort", _read_effort, _write_effort),
    },
    handled=("max_tokens",),
)
_TOOLS = FunctionTools("Chat Completions", NOTES)


# Reading


def decode_request(source: dict[str, Any], *, keep: bool = True, whole: bool = True) -> ChatRequest:
    """Read a request object; with *keep* its messages and tools can be written as they came, with *whole* all of it.

        {"model": "gpt-5.6", "messages": [{"role": "user", "content": "Hi."}], "max_completion_tokens": 1024,
         "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]}

    Among its messages and tools may be those of the neutral vocabulary, if it is not kept as a *whole*.

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    given = read.array(source, "messages", "$")
    if given is None:
        read.fault("$.messages", "an array")
    fields, rest = _SETTINGS.read(source, *_OWN)
    old_limit, new_limit = (read.integer(source, key, "$") for key in ("max_tokens", "max_completion_tokens"))
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        tuple(decode_message(item, f"$.messages[{place}]", keep=keep) for place, item in enumerate(given)),
        tools=_decode_tools(read.array(source, "tools", "$"), keep=keep),
        max_tokens=old_limit if new_limit is None else new_limit,
        stream=read.boolean(source, "stream", "$") or False,
        extra=NOTES.extra_of(rest),
        **fields,
    )
    return keeping(request, NAME, source) if keep and whole else request


def _decode_tools(source: list[Any] | None, *, keep: bool) -> tuple[Tool | Opaque, ...] | None:
    if source is None:
        return None
    return tuple(
        item if isinstance(item, Tool | Opaque) else _TOOLS.read_one(item, f"$.tools[{place}]", keep=keep)
        for place, item in enumerate(source)
    )


# Writing


def encode_request(request: ChatRequest, *, max_tokens_field: str = "max_tokens") -> tuple[dict[str, Any], list[Loss]]:
    """Write a request object, and list what of the request this format could not express.

    *max_tokens_field* is the provider's name of the limit; who wrote `max_completion_tokens` keeps that. The object
    itself may be changed, but nothing inside.
    """
    writer = Writer()
    result: dict[str, Any] | None = _as_it_came(request, writer)
    if result is None:
        result = {"model": request.model, "messages": writer.all(request.messages)}
        if request.tools is not None:
            result["tools"] = _TOOLS.write(request.tools, writer.losses)
        writer.losses += lost_extra(request, "$", keep=(NAME,))
        if request.max_tokens is not None:
            result |= {_limit_field(request): request.max_tokens}
        if request.stream:
            result |= {"stream": True}
        result = json.merged({**result, **_SETTINGS.write(request, writer.losses)}, own_extra(request))
    if "max_tokens" in result and max_tokens_field not in result:
        result[max_tokens_field] = result.pop("max_tokens")
    return result, writer.losses


def _as_it_came(request: ChatRequest, writer: Writer) -> dict[str, Any] | None:
    """Return a request of which at most its model, messages, tools and stream were changed, the rest as it came."""
    names = changed(request, NAME)
    if names is None or request.kept is None or not _APART.issuperset(names):
        return None
    result: dict[str, Any] = {**request.kept.source}
    for name in names:
        if name == "messages":
            result[name] = writer.all(request.messages)
        elif name == "include_usage":
            options: dict[str, Any] = result.get("stream_options") or {}
            result["stream_options"] = {**options, name: request.include_usage}
        elif name != "tools":
            result[name] = getattr(request, name)
        elif request.tools is None:
            del result[name]
        else:
            result[name] = _TOOLS.write(request.tools, writer.losses)
    return result


def _limit_field(request: ChatRequest) -> str:
    kept, name = request.kept, "max_completion_tokens"
    written = kept is not None and kept.format == NAME and kept.source.get(name) is not None
    return name if written else "max_tokens"
