"""OpenAI Chat Completions requests, both ways. Pure functions, no I/O.

`decode_request` reads a request object, `encode_request` writes one; their messages are in `message.py`.

Source: openai 3.54, `types/chat/completion_create_params.py` and its neighbours, and recorded requests
(read 2026-11-22).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, TypeGuard, TypeVar, cast

import msgspec

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Message, Node, Opaque, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.errors import BadRequestError
from antiphon.formats import json, patch, read
from antiphon.formats.notes import foreign
from antiphon.formats.openai_chat.message import (
    NAME,
    decode_messages,
    encode_messages,
    own_extra,
    own_form,
    unknown,
    with_form,
)

__all__ = ["decode_request", "encode_request", "in_words_of", "plain"]

N = TypeVar("N", bound=Node)

_NUMBERS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_INTEGERS = ("top_k", "n", "seed", "top_logprobs")
_BOOLEANS = ("parallel_tool_calls", "logprobs")
_TEXTS = ("user", "service_tier")
_READERS: dict[str, Callable[[dict[str, Any], str, str], Any]] = {
    **dict.fromkeys(_NUMBERS, read.number),
    **dict.fromkeys(_INTEGERS, read.integer),
    **dict.fromkeys(_BOOLEANS, read.boolean),
    **dict.fromkeys(_TEXTS, read.text),
}
_PLAIN = tuple(_READERS)
_KNOWN: dict[str, Any] = {
    **dict.fromkeys((*_PLAIN, "model", "messages", "tools", "tool_choice", "max_tokens", "max_completion_tokens")),
    **dict.fromkeys(("stop", "response_format", "reasoning_effort", "stream")),
    "stream_options": {"include_usage": None},
}
_FORMAT_KINDS = {"text": "text", "json_object": "json", "json_schema": "json_schema"}
_SCHEMA = dict.fromkeys(("name", "schema", "description", "strict"))
_FUNCTION = dict.fromkeys(("name", "description", "parameters", "strict"))


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


def decode_request(source: dict[str, Any], *, exact: bool = True) -> ChatRequest:
    """Read a request object.

    With *exact* it remembers how it was written besides its messages and tools, to be written again to the letter.

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    fields: dict[str, Any] = {key: _READERS[key](source, key, "$") for key in source if key in _READERS}
    options = read.object_(source, "stream_options", "$") or {}
    effort = read.text(source, "reasoning_effort", "$")
    old_limit, new_limit = (read.integer(source, key, "$") for key in ("max_tokens", "max_completion_tokens"))
    format, known = _decode_format(read.object_(source, "response_format", "$"))
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        decode_messages(read.array(source, "messages", "$")),
        tools=_decode_tools(read.array(source, "tools", "$")),
        tool_choice=_decode_tool_choice(source.get("tool_choice")),
        max_tokens=old_limit if new_limit is None else new_limit,
        stop=_decode_stop(source.get("stop")),
        response_format=format,
        reasoning=None if effort is None else ReasoningOptions(effort=effort),
        stream=read.boolean(source, "stream", "$") or False,
        include_usage=read.boolean(options, "include_usage", "$.stream_options"),
        extra=unknown(source, _KNOWN if known else {k: v for k, v in _KNOWN.items() if k != "response_format"}),
        **fields,
    )
    if not exact:
        return request
    # Each message and each tool remembers its own form.
    apart = ("model", "messages") if request.tools is None else ("model", "messages", "tools")
    return with_form(
        request, _encode_settings(request, []), {key: value for key, value in source.items() if key not in apart}
    )


def _decode_stop(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if not json.is_array(value):
        read.fault("$.stop", "a string or an array of strings", value)
    for place, item in enumerate(value):
        if not isinstance(item, str):
            read.fault(f"$.stop[{place}]", "a string", item)
    return tuple(value)


def _decode_format(source: dict[str, Any] | None) -> tuple[ResponseFormat | None, bool]:
    """Read `response_format`; the second value is false for a kind that only some servers know, such as a grammar."""
    if source is None:
        return None, True
    kind = read.required_text(source, "type", "$.response_format")
    if kind not in _FORMAT_KINDS:
        return None, False
    path = "$.response_format.json_schema"
    schema = kind == "json_schema"
    inner = read.required_object(source, "json_schema", "$.response_format") if schema else {}
    result = ResponseFormat(
        cast(Any, _FORMAT_KINDS[kind]),
        read.object_(inner, "schema", path),
        read.text(inner, "name", path),
        read.text(inner, "description", path),
        read.boolean(inner, "strict", path),
        extra=unknown(source, {"type": None, "json_schema": _SCHEMA} if schema else {"type": None}),
    )
    return with_form(result, _encode_format(result), source), True


def _encode_format(format: ResponseFormat) -> dict[str, Any]:
    if format.kind != "json_schema":
        result: dict[str, Any] = {"type": "json_object" if format.kind == "json" else "text"}
    else:
        inner: dict[str, Any] = {"name": format.name or "answer", "schema": format.schema}
        inner |= {"description": format.description, "strict": format.strict}
        result = {"type": "json_schema", "json_schema": {k: v for k, v in inner.items() if v is not None}}
    return cast(dict[str, Any], patch.apply(json.merged(result, own_extra(format)), own_form(format)))


def _decode_tools(source: list[Any] | None) -> tuple[Tool | Opaque, ...] | None:
    if source is None:
        return None
    return tuple(_decode_tool(item, f"$.tools[{place}]") for place, item in enumerate(source))


def _decode_tool(source: Any, path: str) -> Tool | Opaque:
    if isinstance(source, Tool | Opaque):
        return source
    if not json.is_object(source):
        read.fault(path, "an object", source)
    if source.get("type", "function") != "function":
        return Opaque(NAME, source)
    inner = read.required_object(source, "function", path)
    tool = Tool(
        read.required_text(inner, "name", f"{path}.function"),
        read.text(inner, "description", f"{path}.function"),
        read.object_(inner, "parameters", f"{path}.function"),
        read.boolean(inner, "strict", f"{path}.function"),
        extra=unknown(source, {"type": None, "function": _FUNCTION}),
    )
    return with_form(tool, _encode_tool(tool), source)


def _encode_tool(tool: Tool) -> dict[str, Any]:
    inner = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    result = {"type": "function", "function": {k: v for k, v in inner.items() if v is not None}}
    return cast(dict[str, Any], patch.apply(json.merged(result, own_extra(tool)), own_form(tool)))


def _decode_tool_choice(value: Any) -> Any:
    if value is None or value in ("auto", "none", "required"):
        return value
    if json.is_object(value):
        inner = value.get("function")
        if value.keys() == {"type", "function"} and value["type"] == "function" and json.is_object(inner):
            if inner.keys() == {"name"} and isinstance(inner["name"], str):
                return ToolName(inner["name"])
        return Opaque(NAME, value)
    if isinstance(value, str):
        return Opaque(NAME, value)
    read.fault("$.tool_choice", "'auto', 'none', 'required' or an object", value)


def encode_request(request: ChatRequest, *, max_tokens_field: str = "max_tokens") -> tuple[dict[str, Any], list[Loss]]:
    """Write a request object, and list what of the request this format could not express.

    *max_tokens_field* is the provider's name of the limit; who wrote `max_completion_tokens` keeps that.
    """
    losses: list[Loss] = []
    result: dict[str, Any] = {"model": request.model, "messages": encode_messages(request.messages, losses)}
    if request.tools is not None:
        result["tools"] = _encode_tools(request.tools, losses)
    result |= _encode_settings(request, losses)
    result = patch.apply(result, own_form(request))
    if "max_tokens" in result and max_tokens_field not in result:
        result[max_tokens_field] = result.pop("max_tokens")
    return result, losses


def _encode_settings(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    """Write all of *request* but its model, messages and tools."""
    losses += lost_extra(request, "$", keep=(NAME,))
    result = {key: value for key in _PLAIN if (value := getattr(request, key)) is not None}
    if request.max_tokens is not None:
        result["max_tokens"] = request.max_tokens
    if request.stop is not None:
        result["stop"] = list(request.stop)
    if request.stream:
        result["stream"] = True
    if request.include_usage is not None:
        result["stream_options"] = {"include_usage": request.include_usage}
    if request.tool_choice is not None:
        result |= _encode_tool_choice(request.tool_choice, losses)
    if request.response_format is not None:
        losses += lost_extra(request.response_format, "$.response_format", keep=(NAME,))
        result["response_format"] = _encode_format(request.response_format)
    if request.reasoning is not None:
        result |= _encode_reasoning(request.reasoning, losses)
    return json.merged(result, own_extra(request))


def _encode_tools(tools: tuple[Tool | Opaque, ...], losses: list[Loss]) -> list[Any]:
    result: list[Any] = []
    for place, tool in enumerate(tools):
        if isinstance(tool, Tool):
            losses += lost_extra(tool, f"$.tools[{place}]", keep=(NAME,))
            result.append(_encode_tool(tool))
        elif tool.format == NAME:
            result.append(tool.data)
        else:
            losses.append(foreign(f"$.tools[{place}]", tool))
    return result


def _encode_tool_choice(choice: str | ToolName | Opaque, losses: list[Loss]) -> dict[str, Any]:
    if isinstance(choice, ToolName):
        return {"tool_choice": {"type": "function", "function": {"name": choice.name}}}
    if isinstance(choice, str):
        return {"tool_choice": choice}
    if choice.format == NAME:
        return {"tool_choice": choice.data}
    losses.append(foreign("$.tool_choice", choice))
    return {}


def _encode_reasoning(options: ReasoningOptions, losses: list[Loss]) -> dict[str, Any]:
    losses += lost_extra(options, "$.reasoning", keep=())
    for field in ("budget_tokens", "include"):
        if getattr(options, field) is not None:
            reason = f"Chat Completions has no field for {field!r}; only an effort can be asked for."
            losses.append(Loss("dropped", f"$.reasoning.{field}", reason))
    return {} if options.effort is None else {"reasoning_effort": options.effort}
