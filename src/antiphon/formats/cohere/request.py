"""Requests of Cohere's Chat API v2, both ways. Pure functions, no I/O.

How the neutral fields stand here:

* `top_p` is `p` and ends at 0.99, `top_k` is `k`, `stop` is `stop_sequences`; penalties go from 0 to 1.
* `tool_choice` is `REQUIRED` or `NONE`; for one certain tool only that one is sent.
* A tool's `strict` is `strict_tools`, which is for all of them.
* `reasoning` is `thinking`: a budget in tokens, or on (`-1`), or off (the effort `none`).
* A streamed answer always tells its usage, so a request for one reads as `include_usage=True`.

Source, read 2026-11-23: cohere 7.3.1 (`v2/raw_client.py`, `types/`), recorded requests.
"""

from __future__ import annotations

from typing import Any, Literal

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Opaque
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json, patch, read
from antiphon.formats.cohere.message import NAME, NOTES, Writer, decode_message
from antiphon.formats.notes import foreign

__all__ = ["decode_request", "encode_request"]

_SAME = ("temperature", "frequency_penalty", "presence_penalty", "seed", "max_tokens", "logprobs")
_BOUNDS = {"top_p": (0.01, 0.99), "frequency_penalty": (0, 1), "presence_penalty": (0, 1)}
_RENAMED = {"top_p": "p", "top_k": "k"}
_TOP = ("model", "messages", "tools", "strict_tools", "tool_choice", "response_format", "stop_sequences", "stream")
_KNOWN: dict[str, Any] = {
    **dict.fromkeys((*_TOP, *_SAME, *_RENAMED.values())),
    "thinking": {"type": None, "token_budget": None},
    "response_format": {"type": None, "json_schema": None},
}
_TOOL: dict[str, Any] = {"type": None, "function": dict.fromkeys(("name", "description", "parameters"))}
_CHOICES: dict[str, Literal["required", "none"]] = {"REQUIRED": "required", "NONE": "none"}
_UNSAYABLE = {"parallel_tool_calls": True, "n": 1, "top_logprobs": None, "user": None, "service_tier": None}
"""Neutral fields without a place here, and the value with which they say nothing."""


def decode_request(source: dict[str, Any]) -> ChatRequest:
    """Read a request object.

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    messages = read.array(source, "messages", "$")
    if messages is None:
        read.fault("$.messages", "an array")
    stream = read.boolean(source, "stream", "$") or False
    strict = read.boolean(source, "strict_tools", "$")
    tools = read.array(source, "tools", "$")
    stop = read.array(source, "stop_sequences", "$")
    for place, item in enumerate(stop or ()):
        if not isinstance(item, str):
            read.fault(f"$.stop_sequences[{place}]", "a string", item)
    known = dict(_KNOWN)
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        tuple(decode_message(item, f"$.messages[{place}]") for place, item in enumerate(messages)),
        tools=None if tools is None else tuple(_decode_tool(t, f"$.tools[{i}]", strict) for i, t in enumerate(tools)),
        tool_choice=_decode_choice(source),
        temperature=read.number(source, "temperature", "$"),
        top_p=read.number(source, "p", "$"),
        top_k=read.integer(source, "k", "$"),
        max_tokens=read.integer(source, "max_tokens", "$"),
        stop=None if stop is None else tuple(stop),
        seed=read.integer(source, "seed", "$"),
        frequency_penalty=read.number(source, "frequency_penalty", "$"),
        presence_penalty=read.number(source, "presence_penalty", "$"),
        logprobs=read.boolean(source, "logprobs", "$"),
        response_format=_decode_format(source, known),
        reasoning=_decode_thinking(source, known),
        stream=stream,
        include_usage=True if stream else None,
    )
    request = request.but(extra=NOTES.unknown(source, known))
    canonical, actual = encode_request(request)[0], dict(source)
    left_out = len(canonical["messages"]) != len(actual["messages"])
    for key in ("tools",) if left_out else ("messages", "tools"):  # these keep forms of their own
        if actual.get(key) is not None:
            del canonical[key], actual[key]
    return NOTES.with_form(request, canonical, actual)


def _decode_tool(source: Any, path: str, strict: bool | None) -> Tool | Opaque:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    if (read.text(source, "type", path) or "function") != "function":
        return Opaque(NAME, source)
    function = read.required_object(source, "function", path)
    tool = Tool(
        read.required_text(function, "name", f"{path}.function"),
        read.text(function, "description", f"{path}.function"),
        read.object_(function, "parameters", f"{path}.function"),
        strict,
        extra=NOTES.unknown(source, _TOOL),
    )
    return NOTES.with_form(tool, _encode_tool(tool), source)


def _decode_choice(source: dict[str, Any]) -> Literal["required", "none"] | Opaque | None:
    choice = read.text(source, "tool_choice", "$")
    return None if choice is None else _CHOICES.get(choice, Opaque(NAME, choice))


def _decode_format(source: dict[str, Any], known: dict[str, Any]) -> ResponseFormat | None:
    format = read.object_(source, "response_format", "$")
    kind = None if format is None else read.required_text(format, "type", "$.response_format")
    if kind == "text":
        return ResponseFormat("text")
    if format is None or kind != "json_object":
        known.pop("response_format")
        return None
    schema = read.object_(format, "json_schema", "$.response_format")
    return ResponseFormat("json") if schema is None else ResponseFormat("json_schema", schema)


def _decode_thinking(source: dict[str, Any], known: dict[str, Any]) -> ReasoningOptions | None:
    thinking = read.object_(source, "thinking", "$")
    kind = None if thinking is None else read.required_text(thinking, "type", "$.thinking")
    if kind == "disabled":
        return ReasoningOptions(effort="none")
    if thinking is None or kind != "enabled":
        known.pop("thinking")
        return None
    budget = read.integer(thinking, "token_budget", "$.thinking")
    return ReasoningOptions(budget_tokens=-1 if budget is None else budget)


# Writing


def encode_request(request: ChatRequest) -> tuple[dict[str, Any], list[Loss]]:
    """Write a request object, and list what of the request this format could not express."""
    writer = Writer()
    losses = writer.losses
    losses += lost_extra(request, "$", keep=(NAME,))
    messages = [
        written
        for place, message in enumerate(request.messages)
        for written in writer.messages(message, f"$.messages[{place}]")
        if written != {"role": "system", "content": ""}
    ]
    result: dict[str, Any] = {"model": request.model, "messages": messages}
    if request.stream:
        result["stream"] = True
    result |= _encode_tools(request, losses)
    result |= _encode_sampling(request, losses)
    if (thinking := _encode_thinking(request.reasoning, losses)) is not None:
        result["thinking"] = thinking
    if (format := _encode_format(request.response_format, losses)) is not None:
        result["response_format"] = format
    result = json.merged(result, NOTES.own_extra(request))
    if writer.documents:
        result["documents"] = [*(result.get("documents") or ()), *writer.documents]
    return patch.apply(result, NOTES.own_form(request)), losses


def _dropped(field: str, reason: str) -> Loss:
    return Loss("dropped", f"$.{field}", reason)


def _encode_tools(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    choice, tools = request.tool_choice, request.tools
    result: dict[str, Any] = {}
    if isinstance(choice, ToolName):
        losses += lost_extra(choice, "$.tool_choice", keep=())
        losses.append(Loss("approximated", "$.tool_choice", "Cohere cannot force one tool; only that one is sent."))
        tools = tuple(tool for tool in tools or () if isinstance(tool, Tool) and tool.name == choice.name)
        result["tool_choice"] = "REQUIRED"
    elif isinstance(choice, Opaque):
        if choice.format == NAME:
            result["tool_choice"] = choice.data
        else:
            losses.append(foreign("$.tool_choice", choice))
    elif choice in ("required", "none"):
        result["tool_choice"] = choice.upper()
    return result if tools is None else {**result, **_encode_offer(tools, losses)}


def _encode_offer(tools: tuple[Tool | Opaque, ...], losses: list[Loss]) -> dict[str, Any]:
    """Write `tools`, and `strict_tools` where they agree on it."""
    written: list[Any] = []
    for place, tool in enumerate(tools):
        losses += lost_extra(tool, f"$.tools[{place}]", keep=(NAME,))
        if isinstance(tool, Tool):
            written.append(_encode_tool(tool))
        elif tool.format == NAME:
            written.append(tool.data)
        else:
            losses.append(foreign(f"$.tools[{place}]", tool))
    strict = {tool.strict for tool in tools if isinstance(tool, Tool)}
    if strict == {True} or strict == {False}:
        return {"strict_tools": True in strict, "tools": written}
    if True in strict:
        losses.append(Loss("approximated", "$.tools", "Cohere is strict with all tools or with none: here with none."))
    return {"tools": written}


def _encode_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
    result = json.merged({"type": "function", "function": function}, NOTES.own_extra(tool))
    written: dict[str, Any] = patch.apply(result, NOTES.own_form(tool))
    return written


def _encode_sampling(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for field in (*_SAME, *_RENAMED):
        value = getattr(request, field)
        if value is None:
            continue
        low, high = _BOUNDS.get(field, (value, value))
        result[_RENAMED.get(field, field)] = sent = min(max(value, low), high)
        if sent != value:
            losses.append(Loss("approximated", f"$.{field}", f"Cohere takes {low} to {high}; {sent} is sent."))
    if request.stop is not None:
        result["stop_sequences"] = list(request.stop)
    for field, nothing in _UNSAYABLE.items():
        if getattr(request, field) not in (None, nothing):
            losses.append(_dropped(field, f"Cohere has no field for {field!r}."))
    return result


def _encode_thinking(options: ReasoningOptions | None, losses: list[Loss]) -> dict[str, Any] | None:
    if options is None:
        return None
    losses += lost_extra(options, "$.reasoning", keep=())
    effort, budget = options.effort, options.budget_tokens
    if options.include is False:
        losses.append(_dropped("reasoning.include", "Cohere always gives thoughts with the answer."))
    if budget == 0 or (budget is None and effort == "none"):
        return {"type": "disabled"}
    if effort is not None:
        reason = "Cohere knows no effort, but a bound on thinking and on or off."
        losses.append(Loss("approximated", "$.reasoning.effort", reason))
    if budget is None and effort is None:
        return None
    return {"type": "enabled"} if budget is None or budget < 0 else {"type": "enabled", "token_budget": budget}


def _encode_format(format: ResponseFormat | None, losses: list[Loss]) -> dict[str, Any] | None:
    if format is None:
        return None
    losses += lost_extra(format, "$.response_format", keep=())
    for field in ("name", "description", "strict"):
        if getattr(format, field) is not None:
            reason = f"Cohere's schema has no {field!r} beside it; an answer always keeps to the schema."
            losses.append(_dropped(f"response_format.{field}", reason))
    if format.kind == "text":
        return {"type": "text"}
    return {"type": "json_object"} if format.schema is None else {"type": "json_object", "json_schema": format.schema}
