"""Gemini requests, both ways. Pure functions, no I/O.

`decode_request` reads a request object, `encode_request` writes one; contents are in `message.py`.

How the neutral fields stand here:

* The model and whether to stream are in the URL, which the codec reads: here the one is `""`, the other false.
* Tools are written in one list of declarations, wherever tools of the provider's own stand among them.
* Schemas are written as `parametersJsonSchema`; the older `parameters`, a dialect of OpenAPI, is read as the JSON
  schema that it means. Likewise `responseJsonSchema` and `responseSchema`.
* `reasoning.budget_tokens` is `thinkingBudget`, `reasoning.effort` is `thinkingLevel`, and `none` is a budget of 0. The
  API takes one of the two; models before Gemini 3 know budgets only.

Sources: google-genai 3.4, `types.py` and `models.py` (read 2026-11-23); recorded requests; for the budgets that stand
for an effort, "OpenAI compatibility" of the Gemini API's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Opaque
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json, patch, read
from antiphon.formats.gemini.message import NAME, NOTES, Ids, Writer, decode_content, named
from antiphon.formats.notes import foreign

__all__ = ["decode_request", "encode_request"]

_NUMBERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
_INTEGERS = {
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "n": "candidateCount",
    "seed": "seed",
    "top_logprobs": "logprobs",
}
_CONFIG = dict.fromkeys((*_NUMBERS.values(), *_INTEGERS.values(), "stopSequences", "responseLogprobs"))
_MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none"}
_MODE_NAMES = {neutral: name for name, neutral in _MODES.items()}
_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH", "max": "XHIGH"}
_EFFORTS = {level: effort for effort, level in _LEVELS.items() if effort != "max"}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
_BUDGETS_ONLY = re.compile(r"gemini-[12]\.")
_TIERS = {"default": "standard"}
_FOREIGN_TIERS = ("auto", "scale", "fast", "standard_only")
_UNSAYABLE = {"parallel_tool_calls": True, "user": None}
"""Neutral fields without a place here, and the value with which they say nothing."""


def decode_request(given: dict[str, Any]) -> ChatRequest:
    """Read a request object.

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.contents[0].role`.
    """
    source = named(given)
    contents = read.array(source, "contents", "$")
    if contents is None:
        read.fault("$.contents", "an array")
    ids = Ids("call")
    messages = [decode_content(item, f"$.contents[{place}]", ids) for place, item in enumerate(contents)]
    if (system := read.object_(source, "systemInstruction", "$")) is not None:
        messages.insert(0, decode_content(system, "$.systemInstruction", ids, role="system"))
    config, choosing = (dict(named(read.object_(source, key, "$") or {})) for key in ("generationConfig", "toolConfig"))
    source = {**source, "generationConfig": config, "toolConfig": choosing}
    known: dict[str, Any] = {
        **dict.fromkeys(("contents", "systemInstruction", "tools", "serviceTier")),
        "generationConfig": dict(_CONFIG),
        "toolConfig": {},
    }
    stop = read.array(config, "stopSequences", _AT)
    request = ChatRequest(
        "",
        tuple(messages),
        tools=_decode_tools(read.array(source, "tools", "$")),
        tool_choice=_decode_choice(choosing, known["toolConfig"]),
        stop=None if stop is None else tuple(_text(item, place) for place, item in enumerate(stop)),
        logprobs=read.boolean(config, "responseLogprobs", _AT),
        response_format=_decode_format(config, known["generationConfig"]),
        reasoning=_decode_reasoning(config, known["generationConfig"]),
        service_tier=read.text(source, "serviceTier", "$"),
        extra=NOTES.unknown(source, known),
    )
    request = request.but(
        **{field: read.number(config, key, _AT) for field, key in _NUMBERS.items()},
        **{field: _integer(config, key) for field, key in _INTEGERS.items()},
    )
    return NOTES.with_form(request, encode_request(request)[0], given)


_AT = "$.generationConfig"


def _integer(config: dict[str, Any], key: str) -> int | None:
    """Read an integer, which clients that hold it in a float write as `40.0`."""
    value = config.get(key)
    return int(value) if isinstance(value, float) and value.is_integer() else read.integer(config, key, _AT)


def _text(item: Any, place: int) -> str:
    if not isinstance(item, str):
        read.fault(f"{_AT}.stopSequences[{place}]", "a string", item)
    return item


def _decode_tools(source: list[Any] | None) -> tuple[Tool | Opaque, ...] | None:
    if source is None:
        return None
    tools: list[Tool | Opaque] = []
    for place, given in enumerate(source):
        if not json.is_object(given):
            read.fault(f"$.tools[{place}]", "an object", given)
        item = named(given)
        path = f"$.tools[{place}].functionDeclarations"
        declared = read.array(item, "functionDeclarations", f"$.tools[{place}]")
        if declared is None:
            tools.append(Opaque(NAME, given))
            continue
        tools += (_decode_tool(one, f"{path}[{number}]") for number, one in enumerate(declared))
        if others := {key: value for key, value in item.items() if key != "functionDeclarations"}:
            tools.append(Opaque(NAME, others))
    return tuple(tools)


def _decode_tool(given: Any, path: str) -> Tool:
    if not json.is_object(given):
        read.fault(path, "an object", given)
    source = named(given)
    schema = read.object_(source, "parametersJsonSchema", path)
    tool = Tool(
        read.required_text(source, "name", path),
        read.text(source, "description", path),
        _json_schema(read.object_(source, "parameters", path)) if schema is None else schema,
        extra=NOTES.unknown(source, dict.fromkeys(("name", "description", "parameters", "parametersJsonSchema"))),
    )
    return NOTES.with_form(tool, _encode_tool(tool), given)


def _json_schema(source: Any) -> Any:
    """Return the JSON schema that a schema in Google's dialect of OpenAPI means."""
    if not json.is_object(source):
        return source
    result: dict[str, Any] = {}
    for key, value in named(source).items():
        if key == "type" and isinstance(value, str):
            result["type"] = value.lower()
        elif key == "properties" and json.is_object(value):
            result[key] = {name: _json_schema(inner) for name, inner in value.items()}
        elif key in ("anyOf", "prefixItems") and json.is_array(value):
            result[key] = [_json_schema(inner) for inner in value]
        elif key in ("items", "additionalProperties"):
            result[key] = _json_schema(value)
        elif key not in ("nullable", "propertyOrdering", "example"):
            result[key] = value
    if source.get("nullable") is True:
        _allow_null(result)
    return result


def _allow_null(schema: dict[str, Any]) -> None:
    """Let *schema* take null, too; where it says nothing of types and values it does so already."""
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    for key, null in (("anyOf", {"type": "null"}), ("enum", None)):
        if json.is_array(schema.get(key)) and null not in schema[key]:
            schema[key] = [*schema[key], null]


def _decode_choice(config: dict[str, Any], known: dict[str, Any]) -> Any:
    """Read `functionCallingConfig`, and note in *known* what of it was understood."""
    given = read.object_(config, "functionCallingConfig", "$.toolConfig")
    if given is None:
        return None
    path = "$.toolConfig.functionCallingConfig"
    source = config["functionCallingConfig"] = named(given)
    mode, allowed = read.text(source, "mode", path), read.array(source, "allowedFunctionNames", path)
    known["functionCallingConfig"] = {"mode": None, "allowedFunctionNames": None}
    if mode == "ANY" and allowed is not None and len(allowed) == 1 and isinstance(allowed[0], str):
        return ToolName(allowed[0])
    if mode in _MODES and not allowed:
        return _MODES[mode]
    return Opaque(NAME, {key: value for key, value in source.items() if key in known["functionCallingConfig"]})


def _decode_format(config: dict[str, Any], known: dict[str, Any]) -> ResponseFormat | None:
    mime = read.text(config, "responseMimeType", _AT)
    schema = read.object_(config, "responseJsonSchema", _AT)
    if schema is None:
        schema = _json_schema(read.object_(config, "responseSchema", _AT))
    if mime not in ("application/json", "text/plain") or (mime == "text/plain" and schema is not None):
        return None
    known |= dict.fromkeys(("responseMimeType", "responseJsonSchema", "responseSchema"))
    if mime == "text/plain":
        return ResponseFormat("text")
    return ResponseFormat("json") if schema is None else ResponseFormat("json_schema", schema)


def _decode_reasoning(config: dict[str, Any], known: dict[str, Any]) -> ReasoningOptions | None:
    given = read.object_(config, "thinkingConfig", _AT)
    if given is None:
        return None
    path = f"{_AT}.thinkingConfig"
    source = config["thinkingConfig"] = named(given)
    understood: dict[str, Any] = {"includeThoughts": None, "thinkingBudget": None}
    known["thinkingConfig"] = understood
    level = read.text(source, "thinkingLevel", path)
    effort = None if level is None else _EFFORTS.get(level.upper())
    if level is None or effort is not None:
        understood["thinkingLevel"] = None
    budget = read.integer(source, "thinkingBudget", path)
    if budget == 0 and effort is None:
        effort, budget = "none", None
    return ReasoningOptions(effort=effort, budget_tokens=budget, include=read.boolean(source, "includeThoughts", path))


# Writing


def encode_request(request: ChatRequest) -> tuple[dict[str, Any], list[Loss]]:
    """Write a request object, and list what of the request this format could not express."""
    writer = Writer(model=request.model)
    losses = writer.losses
    losses += lost_extra(request, "$", keep=(NAME,))
    result = writer.conversation(request.messages)
    result |= _encode_tools(request, losses)
    config = _encode_sampling(request) | _encode_format(request.response_format, losses)
    if thinking := _encode_reasoning(request, losses):
        config["thinkingConfig"] = thinking
    if config:
        result["generationConfig"] = config
    if request.service_tier in _FOREIGN_TIERS:
        losses.append(_dropped("service_tier", f"Gemini has no service tier {request.service_tier!r}."))
    elif request.service_tier is not None:
        result["serviceTier"] = tier = _TIERS.get(request.service_tier, request.service_tier)
        if tier != request.service_tier:
            losses.append(Loss("approximated", "$.service_tier", f"Gemini's name for it is {tier!r}."))
    for field, nothing in _UNSAYABLE.items():
        if getattr(request, field) not in (None, nothing):
            losses.append(_dropped(field, f"Gemini has no field for {field!r}."))
    written: dict[str, Any] = patch.apply(json.merged(result, NOTES.own_extra(request)), NOTES.own_form(request))
    return written, losses


def _dropped(field: str, reason: str) -> Loss:
    return Loss("dropped", f"$.{field}", reason)


def _encode_sampling(request: ChatRequest) -> dict[str, Any]:
    result = {
        key: value for field, key in {**_NUMBERS, **_INTEGERS}.items() if (value := getattr(request, field)) is not None
    }
    if request.stop is not None:
        result["stopSequences"] = list(request.stop)
    if request.logprobs is not None:
        result["responseLogprobs"] = request.logprobs
    return result


def _encode_tools(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if request.tools is not None:
        tools: list[Any] = []
        declared: list[Any] = []
        for place, tool in enumerate(request.tools):
            path = f"$.tools[{place}]"
            losses += lost_extra(tool, path, keep=(NAME,))
            if isinstance(tool, Tool):
                if not declared:
                    tools.append({"functionDeclarations": declared})
                declared.append(_encode_tool(tool))
                if tool.strict is not None:
                    losses.append(Loss("dropped", f"{path}.strict", "Gemini's tools cannot say this one by one."))
            elif tool.format == NAME:
                tools.append(tool.data)
            else:
                losses.append(foreign(path, tool))
        result["tools"] = tools
    if (choice := _encode_choice(request, losses)) is not None:
        result["toolConfig"] = {"functionCallingConfig": choice}
    return result


def _encode_tool(tool: Tool) -> dict[str, Any]:
    result: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        result["description"] = tool.description
    if tool.parameters is not None:
        result["parametersJsonSchema"] = tool.parameters
    written: dict[str, Any] = patch.apply(json.merged(result, NOTES.own_extra(tool)), NOTES.own_form(tool))
    return written


def _encode_choice(request: ChatRequest, losses: list[Loss]) -> Mapping[str, Any] | None:
    choice = request.tool_choice
    if choice is None:
        return None
    if isinstance(choice, Opaque):
        if choice.format == NAME:
            data: dict[str, Any] = choice.data
            return data
        losses.append(foreign("$.tool_choice", choice))
        return None
    if isinstance(choice, ToolName):
        losses += lost_extra(choice, "$.tool_choice", keep=(NAME,))
        return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    return {"mode": _MODE_NAMES[choice]}


def _encode_format(format: ResponseFormat | None, losses: list[Loss]) -> dict[str, Any]:
    if format is None:
        return {}
    losses += lost_extra(format, "$.response_format", keep=(NAME,))
    if format.kind == "text":
        return {"responseMimeType": "text/plain"}
    for field in ("name", "description", "strict"):
        if getattr(format, field) is not None:
            losses.append(_dropped(f"response_format.{field}", f"Gemini's schema has no {field!r} beside it."))
    result: dict[str, Any] = {"responseMimeType": "application/json"}
    return result if format.schema is None else {**result, "responseJsonSchema": format.schema}


def _encode_reasoning(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    options = request.reasoning
    if options is None:
        return {}
    losses += lost_extra(options, "$.reasoning", keep=(NAME,))
    result: dict[str, Any] = {} if options.include is None else {"includeThoughts": options.include}
    effort, budget = options.effort, options.budget_tokens
    if effort is None or (budget is not None and budget >= 0):
        if effort not in (None, "none"):
            losses.append(_dropped("reasoning.effort", "Gemini takes a budget or an effort; the budget was sent."))
        return result if budget is None else {**result, "thinkingBudget": budget}
    if effort == "none":
        return {**result, "thinkingBudget": 0}
    if _BUDGETS_ONLY.search(request.model) and effort in _BUDGETS:
        reason = f"The model takes budgets only; {_BUDGETS[effort]} tokens stand for it."
        losses.append(Loss("approximated", "$.reasoning.effort", reason))
        return {**result, "thinkingBudget": _BUDGETS[effort]}
    level = _LEVELS.get(effort, effort.upper())
    if _EFFORTS.get(level) != effort:
        losses.append(Loss("approximated", "$.reasoning.effort", f"It is sent as {level!r}."))
    return {**result, "thinkingLevel": level}
