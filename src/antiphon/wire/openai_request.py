"""Floor 2: OpenAI Chat Completions requests, both ways. Pure functions, no I/O.

`decode_request` reads a request object, `encode_request` writes one; their messages are in `openai_message.py`.

Source: openai 3.54, `types/chat/completion_create_params.py` and its neighbours, and recorded requests
(read 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from antiphon.types import (
    ChatRequest,
    Loss,
    Opaque,
    ReasoningOptions,
    ResponseFormat,
    Tool,
    ToolName,
    lost_extra,
)
from antiphon.wire import json, patch, read
from antiphon.wire.node import foreign
from antiphon.wire.openai_message import (
    NAME,
    decode_messages,
    encode_messages,
    own_extra,
    own_form,
    unknown,
    with_form,
)

__all__ = ["decode_request", "encode_request"]

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
