"""Bedrock Converse requests, both ways. Pure functions, no I/O.

`decode_request` reads a request object, `encode_request` writes one; messages are in `message.py`. The model,
and whether to stream, are in the path, which is the codec's business.

How the neutral fields stand here:

* What only some models know is in `additionalModelRequestFields`, under names of their makers: `top_k` and `thinking`
  of Anthropic's models, `reasoning_effort` of OpenAI's, `reasoning_config` of Qwen's. For other models they are left
  out and reported; an effort is `outputConfig.effort` there.
* A JSON schema is sent as text.
* No field forbids the use of tools: they are left out, unless calls of them stand in the messages.
* A streamed answer always tells its usage, so a request for one reads as `include_usage=True`.

Sources: botocore 1.44, `data/bedrock-runtime/2023-09-30/service-2.json`; recorded requests, for what each maker's
models take (read 2026-11-23).
"""

from __future__ import annotations

from typing import Any

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Opaque, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json, patch, read
from antiphon.formats.bedrock.message import NAME, NOTES, Writer, decode_message, decode_system
from antiphon.formats.notes import foreign

__all__ = ["decode_request", "encode_request"]

_MORE = "additionalModelRequestFields"
_INFERENCE = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
_KNOWN: dict[str, Any] = {
    "messages": None,
    "system": None,
    "inferenceConfig": dict.fromkeys((*_INFERENCE.values(), "stopSequences")),
    "toolConfig": {"tools": None, "toolChoice": None},
}
_CHOICES = {"auto": "auto", "any": "required"}
_CHOICE_NAMES = {neutral: name for name, neutral in _CHOICES.items()}
_TIERS = ("default", "flex", "priority", "reserved")
_EFFORT_FIELDS = {"openai": "reasoning_effort", "qwen": "reasoning_config"}
"""Where some makers' models look for the effort."""

_EFFORTS = {"minimal": "low"}
"""Efforts that are called otherwise in `outputConfig`."""

_UNSAYABLE = {
    "parallel_tool_calls": True,
    "n": 1,
    "seed": None,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
    "top_logprobs": None,
    "user": None,
}
"""Neutral fields without a place here, and the value with which they say nothing."""


def _is_of(maker: str, model: str) -> bool:
    """Whether *model* is of that maker: `us.anthropic.claude-…` or an ARN with it."""
    return f".{maker}." in f".{model.replace('/', '.')}"


def _effort_field(model: str) -> str | None:
    return next((field for maker, field in _EFFORT_FIELDS.items() if _is_of(maker, model)), None)


def decode_request(source: dict[str, Any], model: str, *, stream: bool) -> ChatRequest:
    """Read a request object.

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    messages = read.array(source, "messages", "$") or ()
    known = dict(_KNOWN)
    inference = read.object_(source, "inferenceConfig", "$") or {}
    tools = read.object_(source, "toolConfig", "$") or {}
    more = read.object_(source, _MORE, "$") or {}
    top_k = json.integer(more.get("top_k")) if _is_of("anthropic", model) else None
    if top_k is not None:
        known[_MORE] = {"top_k": None}
    request = ChatRequest(
        model,
        tuple(decode_message(item, f"$.messages[{place}]") for place, item in enumerate(messages)),
        tools=_decode_tools(read.array(tools, "tools", "$.toolConfig")),
        tool_choice=_decode_choice(read.object_(tools, "toolChoice", "$.toolConfig")),
        temperature=read.number(inference, "temperature", "$.inferenceConfig"),
        top_p=read.number(inference, "topP", "$.inferenceConfig"),
        top_k=top_k,
        max_tokens=read.integer(inference, "maxTokens", "$.inferenceConfig"),
        stop=_decode_stop(read.array(inference, "stopSequences", "$.inferenceConfig")),
        response_format=_decode_format(source, known),
        reasoning=_decode_reasoning(source, more, model, known),
        service_tier=_decode_tier(source, known),
        stream=stream,
        include_usage=True if stream else None,
    )
    if system := read.array(source, "system", "$"):
        request = request.but(messages=(decode_system(system, "$.system"), *request.messages))
    request = request.but(extra=NOTES.unknown(source, known))
    canonical, actual = encode_request(request)[0], dict(source)
    if len(canonical["messages"]) == len(actual.get("messages") or ()):  # then each of them has a form of its own
        for key in ("messages", "system"):
            if actual.get(key):
                del canonical[key], actual[key]
    return NOTES.with_form(request, canonical, actual)


def _decode_stop(source: list[Any] | None) -> tuple[str, ...] | None:
    for place, item in enumerate(source or ()):
        if not isinstance(item, str):
            read.fault(f"$.inferenceConfig.stopSequences[{place}]", "a string", item)
    return None if source is None else tuple(source)


def _decode_tools(source: list[Any] | None) -> tuple[Tool | Opaque, ...] | None:
    if source is None:
        return None
    return tuple(_decode_tool(item, f"$.toolConfig.tools[{place}]") for place, item in enumerate(source))


def _decode_tool(source: Any, path: str) -> Tool | Opaque:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    if [*source] != ["toolSpec"]:
        return Opaque(NAME, source)
    spec, path = read.required_object(source, "toolSpec", path), f"{path}.toolSpec"
    schema = read.object_(spec, "inputSchema", path) or {}
    known = {**dict.fromkeys(("name", "description", "strict")), "inputSchema": {"json": None}}
    return Tool(
        read.required_text(spec, "name", path),
        read.text(spec, "description", path),
        read.object_(schema, "json", f"{path}.inputSchema"),
        read.boolean(spec, "strict", path),
        extra=NOTES.unknown(spec, known),
    )


def _decode_choice(source: dict[str, Any] | None) -> Any:
    if source is None:
        return None
    kind = next(iter(source), "")
    if len(source) == 1 and kind in _CHOICES and source[kind] in ({}, None):
        return _CHOICES[kind]
    if len(source) == 1 and kind == "tool" and json.is_object(source[kind]) and [*source[kind]] == ["name"]:
        return ToolName(read.required_text(source[kind], "name", "$.toolConfig.toolChoice.tool"))
    return Opaque(NAME, source)


def _decode_format(source: dict[str, Any], known: dict[str, Any]) -> ResponseFormat | None:
    """Read `outputConfig.textFormat`, and note in *known* what of it was understood."""
    path = "$.outputConfig"
    config = read.object_(source, "outputConfig", "$") or {}
    format = read.object_(config, "textFormat", path) or {}
    structure = read.object_(format, "structure", f"{path}.textFormat") or {}
    defined = read.object_(structure, "jsonSchema", f"{path}.textFormat.structure")
    if defined is None or format.get("type") != "json_schema":
        return None
    try:
        schema = json.decode(json.text(defined.get("schema")) or "")
    except json.MALFORMED:
        return None
    if not json.is_object(schema):
        return None
    path += ".textFormat.structure.jsonSchema"
    fields = dict.fromkeys(("schema", "name", "description"))
    known["outputConfig"] = {"textFormat": {"type": None, "structure": {"jsonSchema": fields}}}
    return ResponseFormat(
        "json_schema", schema, read.text(defined, "name", path), read.text(defined, "description", path)
    )


def _decode_reasoning(
    source: dict[str, Any], more: dict[str, Any], model: str, known: dict[str, Any]
) -> ReasoningOptions | None:
    """Read effort and budget, and note in *known* what of them was understood."""
    config = read.object_(source, "outputConfig", "$") or {}
    fields: dict[str, Any] = dict(known.get(_MORE) or {})
    effort, budget = read.text(config, "effort", "$.outputConfig"), None
    if effort is not None:
        known["outputConfig"] = {**(known.get("outputConfig") or {}), "effort": None}
    elif (field := _effort_field(model)) is not None and (effort := json.text(more.get(field))) is not None:
        fields[field] = None
    if _is_of("anthropic", model):
        inner = more.get("output_config")
        if effort is None and json.is_object(inner) and (effort := json.text(inner.get("effort"))) is not None:
            fields["output_config"] = {"effort": None}
        budget = _decode_thinking(more.get("thinking"))
        if budget is not None:
            fields["thinking"] = {"type": None, "budget_tokens": None}
    if fields:
        known[_MORE] = fields
    return None if effort is None and budget is None else ReasoningOptions(effort=effort, budget_tokens=budget)


def _decode_thinking(source: Any) -> int | None:
    """Return the budget that Anthropic's `thinking` sets."""
    if not json.is_object(source):
        return None
    if source.get("type") == "enabled":
        return json.integer(source.get("budget_tokens"))
    return {"adaptive": -1, "disabled": 0}.get(json.text(source.get("type")) or "")


def _decode_tier(source: dict[str, Any], known: dict[str, Any]) -> str | None:
    tier = read.object_(source, "serviceTier", "$") or {}
    kind = read.text(tier, "type", "$.serviceTier")
    if kind in _TIERS:
        known["serviceTier"] = {"type": None}
        return kind
    return None


# Writing


def encode_request(request: ChatRequest) -> tuple[dict[str, Any], list[Loss]]:
    """Write a request object, and list what of the request this format could not express."""
    writer = Writer()
    losses = writer.losses
    losses += lost_extra(request, "$", keep=(NAME,))
    result: dict[str, Any] = writer.conversation(request.messages)
    inference = {name: value for key, name in _INFERENCE.items() if (value := getattr(request, key)) is not None}
    if inference.get("temperature", 0) > 1:
        losses.append(Loss("approximated", "$.temperature", "Bedrock's temperatures end at 1, which is sent."))
        inference["temperature"] = 1.0
    if request.stop is not None:
        inference["stopSequences"] = [*request.stop]
    if inference:
        result["inferenceConfig"] = inference
    if tools := _encode_tools(request, losses):
        result["toolConfig"] = tools
    for part in (
        _encode_top_k(request, losses),
        _encode_reasoning(request, losses),
        _encode_format(request.response_format, losses),
    ):
        result = json.merged(result, part)
    if request.service_tier in _TIERS:
        result["serviceTier"] = {"type": request.service_tier}
    elif request.service_tier not in (None, "auto"):
        losses.append(_dropped("service_tier", f"Bedrock has no service tier {request.service_tier!r}."))
    for field, nothing in _UNSAYABLE.items():
        if getattr(request, field) not in (None, nothing):
            losses.append(_dropped(field, f"Bedrock has no field for {field!r}."))
    return patch.apply(json.merged(result, NOTES.own_extra(request)), NOTES.own_form(request)), losses


def _dropped(field: str, reason: str) -> Loss:
    return Loss("dropped", f"$.{field}", reason)


def _encode_tools(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    choice = request.tool_choice
    used = any(isinstance(part, ToolCall | ToolResult) for message in request.messages for part in message.parts)
    if choice == "none" and request.tools:
        if not used:
            losses.append(Loss("approximated", "$.tool_choice", "No field forbids tools, so they were left out."))
            return {}
        losses.append(_dropped("tool_choice", "No field forbids tools, and the calls in the messages demand them."))
    if request.tools is not None:
        tools = (_encode_tool(tool, f"$.tools[{place}]", losses) for place, tool in enumerate(request.tools))
        result["tools"] = [tool for tool in tools if tool is not None]
    if isinstance(choice, Opaque):
        if choice.format == NAME:
            result["toolChoice"] = choice.data
        else:
            losses.append(foreign("$.tool_choice", choice))
    elif isinstance(choice, ToolName):
        losses += lost_extra(choice, "$.tool_choice", keep=(NAME,))
        result["toolChoice"] = {"tool": {"name": choice.name}}
    elif choice in _CHOICE_NAMES:
        result["toolChoice"] = {_CHOICE_NAMES[choice]: {}}
    return result


def _encode_tool(tool: Tool | Opaque, path: str, losses: list[Loss]) -> dict[str, Any] | None:
    losses += lost_extra(tool, path, keep=(NAME,))
    if isinstance(tool, Opaque):
        if tool.format == NAME:
            data: dict[str, Any] = tool.data
            return data
        losses.append(foreign(path, tool))
        return None
    spec: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        spec["description"] = tool.description
    # The schema must be that of an object, and must say so.
    spec["inputSchema"] = {"json": {"type": "object", **(tool.parameters or {})}}
    if tool.strict is not None:
        spec["strict"] = tool.strict
    return {"toolSpec": json.merged(spec, NOTES.own_extra(tool))}


def _encode_top_k(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    if request.top_k is None:
        return {}
    if _is_of("anthropic", request.model):
        return {_MORE: {"top_k": request.top_k}}
    losses.append(_dropped("top_k", "Bedrock has a place for it with Anthropic's models only."))
    return {}


def _encode_reasoning(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    options = request.reasoning
    if options is None:
        return {}
    losses += lost_extra(options, "$.reasoning", keep=(NAME,))
    if options.include is not None:
        losses.append(_dropped("reasoning.include", "Bedrock has no field for whether thoughts come back."))
    result: dict[str, Any] = {}
    anthropic, field = _is_of("anthropic", request.model), _effort_field(request.model)
    effort, budget = options.effort, options.budget_tokens
    if effort == "none" and anthropic:
        effort, budget = None, 0 if budget is None else budget
    if effort is not None and field is not None:
        result[_MORE] = {field: effort}
    elif effort == "none":
        losses.append(_dropped("reasoning.effort", "Bedrock has no field that turns this model's thinking off."))
    elif effort is not None:
        told = _EFFORTS.get(effort, effort)
        if told != effort:
            losses.append(Loss("approximated", "$.reasoning.effort", f"Bedrock's least effort is {told!r}."))
        result["outputConfig"] = {"effort": told}
    if budget is not None and anthropic:
        kinds: dict[int, dict[str, Any]] = {-1: {"type": "adaptive"}, 0: {"type": "disabled"}}
        thinking = kinds.get(budget, {"type": "enabled", "budget_tokens": budget})
        result[_MORE] = {"thinking": thinking}
    elif budget is not None:
        losses.append(_dropped("reasoning.budget_tokens", "Bedrock has a place for it with Anthropic's models only."))
    return result


def _encode_format(format: ResponseFormat | None, losses: list[Loss]) -> dict[str, Any]:
    if format is None or format.kind == "text":
        return {}
    losses += lost_extra(format, "$.response_format", keep=(NAME,))
    if format.schema is None:
        losses.append(_dropped("response_format", "Bedrock can promise JSON only by a schema."))
        return {}
    if format.strict is not None:
        reason = "Bedrock's schema has no 'strict' beside it; an answer always keeps to the schema."
        losses.append(_dropped("response_format.strict", reason))
    defined = {"schema": json.encode(format.schema).decode()}
    defined |= {key: value for key in ("name", "description") if (value := getattr(format, key)) is not None}
    return {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": defined}}}}
