"""Anthropic Messages requests, both ways. Pure functions, no I/O.

`decode_request` reads a request object, `encode_request` writes one; messages are in `anthropic_message.py`.

How the neutral fields stand here:

* `max_tokens` must be sent; where the request sets none, `DEFAULT_MAX_TOKENS` is sent, after the room for its thoughts.
* `parallel_tool_calls` is part of `tool_choice`, turned around.
* `reasoning.budget_tokens` is `thinking`: `-1` adaptive, `0` or the effort `none` disabled; `reasoning.include` is its
  `display`; any other effort is `output_config.effort`.
* A streamed answer always tells its usage, so a request for one reads as `include_usage=True`.
* A system message that its model does not take where it stands is moved to the head; a request that came so in this
  format is given back as it came.

Sources: anthropic 2.12, `types/message_create_params.py` and its neighbours; recorded requests; for the bounds of
`temperature` and of stop sequences the errors of the API as public repositories quote them (vercel/ai #10308 is one)
(read 2026-11-22); for the models that take system messages after the head "What's new in Claude 4.8", and the list of
those after it in the notes of @langchain/anthropic 1.5.13 (read 2026-11-23).
"""

from __future__ import annotations

import re
from typing import Any

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Opaque
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json, patch, read
from antiphon.formats.anthropic.message import NAME, NOTES, Writer, decode_message, decode_system, is_strict
from antiphon.formats.notes import foreign

__all__ = ["DEFAULT_MAX_TOKENS", "decode_request", "encode_request", "takes_inline_system"]

DEFAULT_MAX_TOKENS = 4096
"""What every model of the family can give."""

_VERSION = re.compile(r"claude-[a-z]+-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
"""In a model's name, be there a vendor before it or a date after it; models before Claude 4 have it elsewhere."""
_INLINE_SINCE = (4, 8)

_SAMPLING = ("temperature", "top_p", "top_k")
_KNOWN: dict[str, Any] = {
    **dict.fromkeys((*_SAMPLING, "model", "messages", "system", "tools", "tool_choice", "max_tokens")),
    **dict.fromkeys(("stop_sequences", "stream", "service_tier")),
    "metadata": {"user_id": None},
}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_CHOICE_NAMES = {neutral: name for name, neutral in _CHOICES.items()}
_DISPLAYS = {"summarized": True, "omitted": False}
_DISPLAY_NAMES = {include: name for name, include in _DISPLAYS.items()}
_EFFORTS = {"minimal": "low"}
"""Efforts that are called otherwise here."""
_TIERS = {"default": "standard_only"}
_FOREIGN_TIERS = ("flex", "scale", "priority", "fast")
_UNSAYABLE = {
    "n": 1,
    "seed": None,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
    "top_logprobs": None,
}
"""Neutral fields without a place here, and the value with which they say nothing."""


def decode_request(source: dict[str, Any]) -> ChatRequest:
    """Read a request object, also one that only asks for its tokens to be counted.

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    messages = read.array(source, "messages", "$")
    if messages is None:
        read.fault("$.messages", "an array")
    known = dict(_KNOWN)
    stream = read.boolean(source, "stream", "$") or False
    metadata = read.object_(source, "metadata", "$") or {}
    choice, parallel = _decode_choice(read.object_(source, "tool_choice", "$"))
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        tuple(decode_message(item, f"$.messages[{place}]") for place, item in enumerate(messages)),
        tools=_decode_tools(read.array(source, "tools", "$")),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        temperature=read.number(source, "temperature", "$"),
        top_p=read.number(source, "top_p", "$"),
        top_k=read.integer(source, "top_k", "$"),
        max_tokens=read.integer(source, "max_tokens", "$"),
        stop=_decode_stop(read.array(source, "stop_sequences", "$")),
        response_format=_decode_format(source, known),
        reasoning=_decode_reasoning(source, known),
        user=read.text(metadata, "user_id", "$.metadata"),
        service_tier=read.text(source, "service_tier", "$"),
        stream=stream,
        include_usage=True if stream else None,
    )
    if (system := source.get("system")) is not None:
        request = request.but(messages=(decode_system(system, "$.system"), *request.messages))
    request = request.but(extra=NOTES.unknown(source, known))
    return NOTES.with_form(request, *_compared(encode_request(request)[0], source))


def _compared(canonical: dict[str, Any], source: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Leave out of both what keeps a form of its own: tools, and messages unless one of them moved to the head."""
    actual = dict(source)
    moved = len(canonical["messages"]) != len(actual["messages"])
    for key in ("tools",) if moved else ("tools", "system", "messages"):
        if key in canonical and actual.get(key) is not None:
            del canonical[key], actual[key]
    return canonical, actual


def _decode_stop(source: list[Any] | None) -> tuple[str, ...] | None:
    for place, item in enumerate(source or ()):
        if not isinstance(item, str):
            read.fault(f"$.stop_sequences[{place}]", "a string", item)
    return None if source is None else tuple(source)


def _decode_format(source: dict[str, Any], known: dict[str, Any]) -> ResponseFormat | None:
    """Read `output_config.format`, and note in *known* what of it was understood."""
    config = read.object_(source, "output_config", "$") or {}
    format = read.object_(config, "format", "$.output_config")
    if format is None or format.get("type") != "json_schema":
        return None
    known["output_config"] = {**(known.get("output_config") or {}), "format": {"type": None, "schema": None}}
    return ResponseFormat("json_schema", read.object_(format, "schema", "$.output_config.format"))


def _decode_reasoning(source: dict[str, Any], known: dict[str, Any]) -> ReasoningOptions | None:
    """Read `thinking` and `output_config.effort`, and note in *known* what of it was understood."""
    config = read.object_(source, "output_config", "$") or {}
    effort = read.text(config, "effort", "$.output_config")
    if effort is not None:
        known["output_config"] = {**(known.get("output_config") or {}), "effort": None}
    thinking = read.object_(source, "thinking", "$")
    if thinking is None:
        return None if effort is None else ReasoningOptions(effort=effort)
    kind = read.required_text(thinking, "type", "$.thinking")
    display = read.text(thinking, "display", "$.thinking")
    include = None if display is None else _DISPLAYS.get(display)
    fields = dict.fromkeys(("type", "display") if display is None or include is not None else ("type",))
    if kind == "enabled":
        budget = read.integer(thinking, "budget_tokens", "$.thinking")
        known["thinking"] = {**fields, "budget_tokens": None}
        return ReasoningOptions(effort=effort, budget_tokens=budget, include=include)
    if kind == "adaptive":
        known["thinking"] = fields
        return ReasoningOptions(effort=effort, budget_tokens=-1, include=include)
    if kind == "disabled":
        known["thinking"] = {"type": None}
        return ReasoningOptions(effort="none") if effort is None else ReasoningOptions(effort=effort, budget_tokens=0)
    return None if effort is None else ReasoningOptions(effort=effort)


def _decode_tools(source: list[Any] | None) -> tuple[Tool | Opaque, ...] | None:
    if source is None:
        return None
    return tuple(_decode_tool(item, f"$.tools[{place}]") for place, item in enumerate(source))


def _decode_tool(source: Any, path: str) -> Tool | Opaque:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    if source.get("type") not in (None, "custom"):
        return Opaque(NAME, source)
    tool = Tool(
        read.required_text(source, "name", path),
        read.text(source, "description", path),
        read.object_(source, "input_schema", path),
        read.boolean(source, "strict", path),
        extra=NOTES.unknown(source, dict.fromkeys(("type", "name", "description", "input_schema", "strict"))),
    )
    return NOTES.with_form(tool, _encode_tool(tool), source)


def _decode_choice(source: dict[str, Any] | None) -> tuple[Any, bool | None]:
    if source is None:
        return None, None
    kind = read.required_text(source, "type", "$.tool_choice")
    alone = read.boolean(source, "disable_parallel_tool_use", "$.tool_choice")
    parallel = None if alone is None else not alone
    if kind == "tool":
        return ToolName(read.required_text(source, "name", "$.tool_choice")), parallel
    if kind in _CHOICES:
        return _CHOICES[kind], parallel
    return Opaque(NAME, source), None


# Writing


def encode_request(
    request: ChatRequest,
    *,
    version: str = "",
    inline_system: bool | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> tuple[dict[str, Any], list[Loss]]:
    """Write a request object, and list what of the request this format could not express.

    Args:
        request: What to write.
        version: The API version that the receiver is told.
        inline_system: Whether the model takes system messages after the head; `None`: what its name says.
        max_tokens: The bound on the answer where the request sets none.
    """
    inline = takes_inline_system(request.model) if inline_system is None else inline_system
    writer = Writer(version=version, inline_system=inline)
    losses = writer.losses
    losses += lost_extra(request, "$", keep=(NAME,))
    own, conversation = NOTES.own_extra(request), writer.conversation(request.messages)
    result: dict[str, Any] = {"model": request.model, **conversation}
    result |= _encode_tools(request, losses)
    result |= _encode_sampling(request, losses)
    for part in (_encode_reasoning(request.reasoning, losses), _encode_format(request.response_format, losses)):
        result = json.merged(result, part)
    result["max_tokens"] = _limit(request, max_tokens)
    if request.user is not None:
        result["metadata"] = {"user_id": request.user}
    if request.stream:
        result["stream"] = True
    result = patch.apply(json.merged(result, own), NOTES.own_form(request))
    if result.get("messages") is conversation["messages"]:  # or else they are as they came
        losses += writer.moved
    if request.max_tokens is None and "max_tokens" not in own and result.get("max_tokens") is not None:
        losses.append(Loss("defaulted", "$.max_tokens", f"Anthropic demands a bound: {result['max_tokens']}."))
    if is_strict(version):
        refused = [key for key in _SAMPLING if result.pop(key, None) is not None]
        losses += (_dropped(key, f"From API version {version} on, {key!r} is refused.") for key in refused)
    return result, losses


def takes_inline_system(model: str) -> bool:
    """Whether the name of *model* says that it takes system messages after the head: Claude 4.8 or later."""
    found = _VERSION.search(model)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= _INLINE_SINCE


def _dropped(field: str, reason: str) -> Loss:
    return Loss("dropped", f"$.{field}", reason)


def _limit(request: ChatRequest, default: int) -> int:
    if request.max_tokens is not None:
        return request.max_tokens
    thoughts = request.reasoning.budget_tokens if request.reasoning else None
    return default + max(0, thoughts or 0)


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
    if (choice := _encode_choice(request, losses)) is not None:
        result["tool_choice"] = choice
    return result


def _encode_tool(tool: Tool) -> dict[str, Any]:
    result: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        result["description"] = tool.description
    # The schema must be that of an object, and must say so.
    result["input_schema"] = {"type": "object", **(tool.parameters or {})}
    if tool.strict is not None:
        result["strict"] = tool.strict
    written: dict[str, Any] = patch.apply(json.merged(result, NOTES.own_extra(tool)), NOTES.own_form(tool))
    return written


def _encode_choice(request: ChatRequest, losses: list[Loss]) -> dict[str, Any] | None:
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    result: dict[str, Any] | None = None
    if isinstance(choice, Opaque):
        if choice.format == NAME:
            result = choice.data
        else:
            losses.append(foreign("$.tool_choice", choice))
    elif isinstance(choice, ToolName):
        losses += lost_extra(choice, "$.tool_choice", keep=(NAME,))
        result = {"type": "tool", "name": choice.name}
    elif choice is not None:
        result = {"type": _CHOICE_NAMES[choice]}
    if parallel is None:
        return result
    if isinstance(choice, Opaque) or choice == "none" or not request.tools:
        losses.append(_dropped("parallel_tool_calls", "Anthropic says this with a choice among tools only."))
        return result
    return {**(result or {"type": "auto"}), "disable_parallel_tool_use": not parallel}


def _encode_sampling(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    result: dict[str, Any] = {key: value for key in _SAMPLING if (value := getattr(request, key)) is not None}
    if result.get("temperature", 0) > 1:
        losses.append(Loss("approximated", "$.temperature", "Anthropic's temperatures end at 1, which is sent."))
        result["temperature"] = 1.0
    if request.stop is not None:
        stop = [text for text in request.stop if text.strip()]
        if len(stop) != len(request.stop):
            losses.append(_dropped("stop", "Anthropic takes no stop sequence of white space alone; it was left out."))
        result["stop_sequences"] = stop
    if request.service_tier in _FOREIGN_TIERS:
        losses.append(_dropped("service_tier", f"Anthropic has no service tier {request.service_tier!r}."))
    elif request.service_tier is not None:
        result["service_tier"] = tier = _TIERS.get(request.service_tier, request.service_tier)
        if tier != request.service_tier:
            losses.append(Loss("approximated", "$.service_tier", f"Anthropic's name for it is {tier!r}."))
    for field, nothing in _UNSAYABLE.items():
        if getattr(request, field) not in (None, nothing):
            losses.append(_dropped(field, f"Anthropic has no field for {field!r}."))
    return result


def _encode_reasoning(options: ReasoningOptions | None, losses: list[Loss]) -> dict[str, Any]:
    if options is None:
        return {}
    losses += lost_extra(options, "$.reasoning", keep=(NAME,))
    result: dict[str, Any] = {}
    if options.effort not in (None, "none"):
        effort = _EFFORTS.get(options.effort, options.effort)
        if effort != options.effort:
            losses.append(Loss("approximated", "$.reasoning.effort", f"Anthropic's least effort is {effort!r}."))
        result["output_config"] = {"effort": effort}
    thinking = _encode_thinking(options, losses)
    return result if thinking is None else {**result, "thinking": thinking}


def _encode_thinking(options: ReasoningOptions, losses: list[Loss]) -> dict[str, Any] | None:
    budget, include = options.budget_tokens, options.include
    if budget == 0 or (budget is None and options.effort == "none"):
        if include is not None:
            losses.append(_dropped("reasoning.include", "There is nothing to show where thinking is turned off."))
        return {"type": "disabled"}
    if budget is None:
        if include is None:
            return None
        losses.append(Loss("defaulted", "$.reasoning.budget_tokens", "It is left to the model: adaptive thinking."))
    result: dict[str, Any] = {"type": "adaptive"}
    if budget is not None and budget > 0:
        result = {"type": "enabled", "budget_tokens": budget}
    return result if include is None else {**result, "display": _DISPLAY_NAMES[include]}


def _encode_format(format: ResponseFormat | None, losses: list[Loss]) -> dict[str, Any]:
    if format is None or format.kind == "text":
        return {}
    losses += lost_extra(format, "$.response_format", keep=(NAME,))
    if format.schema is None:
        losses.append(_dropped("response_format", "Anthropic can promise JSON only by a schema."))
        return {}
    for field in ("name", "description", "strict"):
        if getattr(format, field) is not None:
            reason = f"Anthropic's schema has no {field!r} beside it; an answer always keeps to the schema."
            losses.append(_dropped(f"response_format.{field}", reason))
    return {"output_config": {"format": {"type": "json_schema", "schema": format.schema}}}
