"""OpenAI Responses requests, both ways. Pure functions, no I/O.

`decode_request` reads a request object, `encode_request` writes one; items are in `message.py`.

How the neutral fields stand here:

* `instructions` are read as a system message at the head and remember that they were none; every other system or
  developer message is an item of the input.
* A function without `strict` is written with `strict: false`: this API alone takes nothing said for strict. Likewise an
  image's `detail` is always written, `auto` where none is set.
* `logprobs` is an entry of `include`; `reasoning.include` is a `summary`, `auto` unless it says otherwise.
* A streamed answer always tells its usage, so a request for one reads as `include_usage=True`.
* What has no neutral name (`previous_response_id`, `conversation`, `store`, `background`, `include`, …) is in `extra`.

Sources, read 2026-11-23: openai 3.54, `types/responses/response_create_params.py` and its neighbours; recordings.
"""

from __future__ import annotations

from typing import Any, Literal

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Message, Opaque
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json, patch, read
from antiphon.formats.notes import foreign
from antiphon.formats.responses.message import NAME, NOTES, Writer, decode_input, decode_instructions

__all__ = ["decode_request", "encode_request"]

_SAME = ("temperature", "top_p", "top_logprobs", "parallel_tool_calls", "user", "service_tier")
"""Fields that have one name in both."""
_KNOWN: dict[str, Any] = dict.fromkeys(
    (*_SAME, "model", "input", "instructions", "tools", "tool_choice", "max_output_tokens", "stream")
)
_LOGPROBS = "message.output_text.logprobs"
_FORMATS: dict[str, Literal["text", "json", "json_schema"]] = {
    "text": "text",
    "json_object": "json",
    "json_schema": "json_schema",
}
_FORMAT_TYPES = {kind: name for name, kind in _FORMATS.items()}
_FORMAT: dict[str, Any] = dict.fromkeys(("type", "name", "schema", "description", "strict"))
_TOOL: dict[str, Any] = dict.fromkeys(("type", "name", "description", "parameters", "strict"))
_DEFAULT_NAME = "answer"
_UNSAYABLE = {
    "top_k": None,
    "stop": (),
    "n": 1,
    "seed": None,
    "frequency_penalty": 0,
    "presence_penalty": 0,
}
"""Neutral fields without a place here, and the value with which they say nothing."""


def decode_request(source: dict[str, Any]) -> ChatRequest:
    """Read a request object.

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.input[0].role`.
    """
    known = dict(_KNOWN)
    stream = read.boolean(source, "stream", "$") or False
    include = read.array(source, "include", "$") or []
    if logprobs := _LOGPROBS in include:
        known["include"] = None
    extra = {} if not logprobs or len(include) == 1 else {"include": [name for name in include if name != _LOGPROBS]}
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        _decode_messages(source),
        tools=_decode_tools(read.array(source, "tools", "$")),
        tool_choice=_decode_choice(source.get("tool_choice")),
        parallel_tool_calls=read.boolean(source, "parallel_tool_calls", "$"),
        temperature=read.number(source, "temperature", "$"),
        top_p=read.number(source, "top_p", "$"),
        max_tokens=read.integer(source, "max_output_tokens", "$"),
        logprobs=True if logprobs else None,
        top_logprobs=read.integer(source, "top_logprobs", "$"),
        response_format=_decode_format(source, known),
        reasoning=_decode_reasoning(source, known),
        user=read.text(source, "user", "$"),
        service_tier=read.text(source, "service_tier", "$"),
        stream=stream,
        include_usage=True if stream else None,
    )
    beyond = NOTES.unknown(source, known)
    request = request.but(extra=NOTES.extra_of({**(beyond or {}).get(NAME, {}), **extra}))
    return NOTES.with_form(request, encode_request(request)[0], source)


def _decode_messages(source: dict[str, Any]) -> tuple[Message, ...]:
    given = source.get("input")
    if isinstance(given, str):
        messages: tuple[Message, ...] = (Message.user(given),)
    else:
        messages = decode_input(read.array(source, "input", "$") or [], "$.input")
    instructions = read.text(source, "instructions", "$")
    return messages if instructions is None else (decode_instructions(instructions), *messages)


def _decode_format(source: dict[str, Any], known: dict[str, Any]) -> ResponseFormat | None:
    """Read `text.format`, and note in *known* what of it was understood."""
    text = read.object_(source, "text", "$") or {}
    format = read.object_(text, "format", "$.text")
    kind = None if format is None else _FORMATS.get(read.required_text(format, "type", "$.text.format"))
    if format is None or kind is None:
        return None
    path = "$.text.format"
    known["text"] = {"format": _FORMAT}
    if kind != "json_schema":
        known["text"] = {"format": {"type": None}}
        return ResponseFormat(kind)
    return ResponseFormat(
        "json_schema",
        read.object_(format, "schema", path),
        read.text(format, "name", path),
        read.text(format, "description", path),
        read.boolean(format, "strict", path),
    )


def _decode_reasoning(source: dict[str, Any], known: dict[str, Any]) -> ReasoningOptions | None:
    """Read `reasoning`, and note in *known* what of it was understood."""
    reasoning = read.object_(source, "reasoning", "$")
    if reasoning is None:
        return None
    effort, summary = (read.text(reasoning, key, "$.reasoning") for key in ("effort", "summary"))
    if effort is None and summary is None:
        return None
    known["reasoning"] = {"effort": None, "summary": None}
    return ReasoningOptions(effort=effort, include=None if summary is None else True)


def _decode_tools(source: list[Any] | None) -> tuple[Tool | Opaque, ...] | None:
    if source is None:
        return None
    return tuple(_decode_tool(item, f"$.tools[{place}]") for place, item in enumerate(source))


def _decode_tool(source: Any, path: str) -> Tool | Opaque:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    if read.required_text(source, "type", path) != "function":
        return Opaque(NAME, source)
    tool = Tool(
        read.required_text(source, "name", path),
        read.text(source, "description", path),
        read.object_(source, "parameters", path),
        read.boolean(source, "strict", path) or None,
        extra=NOTES.unknown(source, _TOOL),
    )
    return NOTES.with_form(tool, _encode_tool(tool), source)


def _decode_choice(source: Any) -> Any:
    if source is None or source in ("auto", "none", "required"):
        return source
    if not json.is_object(source):
        read.fault("$.tool_choice", "'auto', 'none', 'required' or an object", source)
    if source.keys() == {"type", "name"} and source["type"] == "function":
        return ToolName(read.required_text(source, "name", "$.tool_choice"))
    return Opaque(NAME, source)


# Writing


def encode_request(request: ChatRequest) -> tuple[dict[str, Any], list[Loss]]:
    """Write a request object, and list what of the request this format could not express."""
    writer = Writer()
    losses = writer.losses
    losses += lost_extra(request, "$", keep=(NAME,))
    result: dict[str, Any] = {"model": request.model, **_encode_messages(request, writer)}
    result |= _encode_tools(request, losses)
    result |= {key: value for key in _SAME if (value := getattr(request, key)) is not None}
    if request.max_tokens is not None:
        result["max_output_tokens"] = request.max_tokens
    if (reasoning := _encode_reasoning(request.reasoning, losses)) is not None:
        result["reasoning"] = reasoning
    if (format := _encode_format(request.response_format, losses)) is not None:
        result["text"] = {"format": format}
    if request.stream:
        result["stream"] = True
    result = json.merged(result, NOTES.own_extra(request))
    if request.logprobs:
        result["include"] = [*(result.get("include") or ()), _LOGPROBS]
    for field, nothing in _UNSAYABLE.items():
        if getattr(request, field) not in (None, nothing):
            losses.append(Loss("dropped", f"$.{field}", f"Responses have no field for {field!r}."))
    return patch.apply(result, NOTES.own_form(request)), losses


def _encode_messages(request: ChatRequest, writer: Writer) -> dict[str, Any]:
    result: dict[str, Any] = {}
    items: list[dict[str, Any]] = []
    for place, message in enumerate(request.messages):
        for item in writer.message(message, f"$.messages[{place}]"):
            if "instructions" not in item:
                items.append(item)
            elif "instructions" not in result:
                result["instructions"] = item["instructions"]
            else:
                items.append({"role": message.role, "content": item["instructions"]})
    return {"input": items, **result}


def _encode_tools(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if request.tools is not None:
        tools: list[Any] = []
        for place, tool in enumerate(request.tools):
            losses += lost_extra(tool, f"$.tools[{place}]", keep=(NAME,))
            if isinstance(tool, Tool):
                tools.append(_encode_tool(tool))
            elif tool.format == NAME:
                tools.append(tool.data)
            else:
                losses.append(foreign(f"$.tools[{place}]", tool))
        result["tools"] = tools
    choice = request.tool_choice
    if isinstance(choice, Opaque):
        if choice.format == NAME:
            result["tool_choice"] = choice.data
        else:
            losses.append(foreign("$.tool_choice", choice))
    elif isinstance(choice, ToolName):
        losses += lost_extra(choice, "$.tool_choice", keep=(NAME,))
        result["tool_choice"] = {"type": "function", "name": choice.name}
    elif choice is not None:
        result["tool_choice"] = choice
    return result


def _encode_tool(tool: Tool) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description is not None:
        result["description"] = tool.description
    result |= {"parameters": tool.parameters, "strict": tool.strict or False}
    written: dict[str, Any] = patch.apply(json.merged(result, NOTES.own_extra(tool)), NOTES.own_form(tool))
    return written


def _encode_reasoning(options: ReasoningOptions | None, losses: list[Loss]) -> dict[str, Any] | None:
    if options is None:
        return None
    losses += lost_extra(options, "$.reasoning", keep=(NAME,))
    result: dict[str, Any] = {}
    effort = options.effort
    if options.budget_tokens == 0 and effort is None:
        effort = "none"
        losses.append(
            Loss("approximated", "$.reasoning.budget_tokens", "No tokens to think with is the effort 'none'.")
        )
    elif options.budget_tokens is not None:
        reason = "Responses know efforts, not numbers of tokens to think with."
        losses.append(Loss("dropped", "$.reasoning.budget_tokens", reason))
    if effort is not None:
        result["effort"] = effort
    if options.include:
        result["summary"] = "auto"
    return result or None


def _encode_format(format: ResponseFormat | None, losses: list[Loss]) -> dict[str, Any] | None:
    if format is None:
        return None
    losses += lost_extra(format, "$.response_format", keep=(NAME,))
    result: dict[str, Any] = {"type": _FORMAT_TYPES[format.kind]}
    if format.kind != "json_schema":
        return result
    if format.name is None:
        losses.append(Loss("defaulted", "$.response_format.name", f"A schema must have a name: {_DEFAULT_NAME!r}."))
    result |= {"name": format.name or _DEFAULT_NAME, "schema": format.schema}
    for key in ("description", "strict"):
        if (value := getattr(format, key)) is not None:
            result[key] = value
    return result
