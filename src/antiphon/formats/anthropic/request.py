"""Anthropic Messages requests, both ways. Pure functions, no I/O.

`decode_request` reads a request object, `encode_request` writes one; messages are in `message.py`.

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
(read 2026-11-22); see also `versions.py`.
"""

from __future__ import annotations

from itertools import dropwhile
from typing import Any

from antiphon.chat.kept import as_it_came
from antiphon.chat.kept import keep as keeping
from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Opaque
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json, read
from antiphon.formats.anthropic.message import NAME, NOTES, Writer, decode_message, decode_system
from antiphon.formats.anthropic.versions import is_refused, is_strict, takes_inline_system
from antiphon.formats.kit import Row, Table, approximated, dropped, texts
from antiphon.formats.notes import foreign

__all__ = ["DEFAULT_MAX_TOKENS", "decode_request", "encode_request"]

DEFAULT_MAX_TOKENS = 4096
"""What every model of the family can give."""

_SAMPLING = ("temperature", "top_p", "top_k")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_CHOICE_NAMES = {neutral: name for name, neutral in _CHOICES.items()}
_DISPLAYS = {"summarized": True, "omitted": False}
_DISPLAY_NAMES = {include: name for name, include in _DISPLAYS.items()}
_EFFORTS = {"minimal": "low"}
"""Efforts that are called otherwise here."""
_TIERS = {"default": "standard_only"}
_FOREIGN_TIERS = ("flex", "scale", "priority", "fast")


# Settings


def _encode_temperature(value: float, losses: list[Loss]) -> float:
    if value <= 1:
        return value
    losses.append(approximated("temperature", "Anthropic's temperatures end at 1, which is sent."))
    return 1.0


def _encode_stop(stops: tuple[str, ...], losses: list[Loss]) -> list[str]:
    stop = [text for text in stops if text.strip()]
    if len(stop) != len(stops):
        losses.append(dropped("stop", "Anthropic takes no stop sequence of white space alone; it was left out."))
    return stop


def _encode_tier(tier: str, losses: list[Loss]) -> str | None:
    if tier in _FOREIGN_TIERS:
        losses.append(dropped("service_tier", f"Anthropic has no service tier {tier!r}."))
        return None
    own = _TIERS.get(tier, tier)
    if own != tier:
        losses.append(approximated("service_tier", f"Anthropic's name for it is {own!r}."))
    return own


_SETTINGS = Table(
    "Anthropic",
    NOTES,
    {
        "temperature": Row("temperature", read.number, _encode_temperature),
        "top_p": Row("top_p", read.number),
        "top_k": Row("top_k", read.integer),
        "stop": Row("stop_sequences", texts, _encode_stop),
        "user": Row("metadata.user_id", read.text),
        "service_tier": Row("service_tier", read.text, _encode_tier),
    },
    handled=("tool_choice", "parallel_tool_calls", "max_tokens", "reasoning", "response_format"),
)
_OWN = ("model", "messages", "system", "tools", "tool_choice", "max_tokens", "stream", "thinking", "output_config")
"""Fields that are read by themselves."""


# Reading


def decode_request(source: dict[str, Any], *, keep: bool = True) -> ChatRequest:
    """Read a request object, also one to count tokens; with *keep* it can be written as it came.

        {"model": "claude-sonnet-5", "max_tokens": 1024, "system": "Be brief.",
         "messages": [{"role": "user", "content": "Hi."}], "thinking": {"type": "enabled", "budget_tokens": 2000},
         "tools": [{"name": "look", "input_schema": {"type": "object"}}], "tool_choice": {"type": "auto"}}

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    given = read.array(source, "messages", "$")
    if given is None:
        read.fault("$.messages", "an array")
    messages = [decode_message(item, f"$.messages[{place}]", keep=keep) for place, item in enumerate(given)]
    if (system := source.get("system")) is not None:
        messages.insert(0, decode_system(system, "$.system", keep=keep))
    stream = read.boolean(source, "stream", "$") or False
    fields, rest = _SETTINGS.read(source, *_OWN)
    choice, parallel = _decode_choice(read.object_(source, "tool_choice", "$"))
    known: dict[str, Any] = {}
    both: dict[str, Any] = {key: source[key] for key in ("thinking", "output_config") if key in source}
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        tuple(messages),
        tools=_decode_tools(read.array(source, "tools", "$"), keep=keep),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        max_tokens=read.integer(source, "max_tokens", "$"),
        response_format=_decode_format(source, known),
        reasoning=_decode_reasoning(source, known),
        stream=stream,
        include_usage=True if stream else None,
        extra=NOTES.extra_of({**rest, **(NOTES.unknown(both, known) or {}).get(NAME, {})}),
        **fields,
    )
    return keeping(request, NAME, source) if keep else request


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


def _decode_tools(source: list[Any] | None, *, keep: bool) -> tuple[Tool | Opaque, ...] | None:
    if source is None:
        return None
    return tuple(_decode_tool(item, f"$.tools[{place}]", keep=keep) for place, item in enumerate(source))


def _decode_tool(source: Any, path: str, *, keep: bool) -> Tool | Opaque:
    """Read a tool: `{"name": "look", "description": "Looks.", "input_schema": {"type": "object"}, "strict": true}`."""
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
    return keeping(tool, NAME, source) if keep else tool


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
    strict = is_strict(version)
    inline = takes_inline_system(request.model) if inline_system is None else inline_system
    if (source := _SETTINGS.as_it_came(request)) is not None and not (
        (strict and any(map(is_refused, request.messages))) or (not inline and _was_for_inline(request))
    ):
        return _without_sampling(source, version) if strict else (source, [])
    writer = Writer(version=version, inline_system=inline)
    losses = writer.losses
    losses += lost_extra(request, "$", keep=(NAME,))
    result: dict[str, Any] = {"model": request.model, **writer.conversation(request.messages)}
    losses += writer.moved
    result |= _encode_tools(request, losses)
    result |= _SETTINGS.write(request, losses)
    for part in (_encode_reasoning(request.reasoning, losses), _encode_format(request.response_format, losses)):
        result = json.merged(result, part)
    result["max_tokens"] = _limit(request, max_tokens)
    if request.stream:
        result["stream"] = True
    own = NOTES.own_extra(request)
    result = json.merged(result, own)
    if request.max_tokens is None and "max_tokens" not in own and result.get("max_tokens") is not None:
        losses.append(Loss("defaulted", "$.max_tokens", f"Anthropic demands a bound: {result['max_tokens']}."))
    if strict:
        result, refused = _without_sampling(result, version)
        losses += refused
    return result, losses


def _without_sampling(source: dict[str, Any], version: str) -> tuple[dict[str, Any], list[Loss]]:
    refused = [key for key in _SAMPLING if source.get(key) is not None]
    losses = [dropped(key, f"From API version {version} on, {key!r} is refused.") for key in refused]
    return {key: value for key, value in source.items() if key not in _SAMPLING}, losses


def _was_for_inline(request: ChatRequest) -> bool:
    """Whether *request* was read with system messages after the head, for a model that takes them there."""
    if request.kept is None or not takes_inline_system(request.kept.node.model):
        return False
    turns = dropwhile(lambda message: message.role == "system", request.messages)
    return any(message.role == "system" for message in turns)


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
                tools.append(as_it_came(tool, NAME) or _encode_tool(tool))
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
    return json.merged(result, NOTES.own_extra(tool))


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
        losses.append(dropped("parallel_tool_calls", "Anthropic says this with a choice among tools only."))
        return result
    return {**(result or {"type": "auto"}), "disable_parallel_tool_use": not parallel}


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
            losses.append(dropped("reasoning.include", "There is nothing to show where thinking is turned off."))
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
        losses.append(dropped("response_format", "Anthropic can promise JSON only by a schema."))
        return {}
    for field in ("name", "description", "strict"):
        if getattr(format, field) is not None:
            reason = f"Anthropic's schema has no {field!r} beside it; an answer always keeps to the schema."
            losses.append(dropped(f"response_format.{field}", reason))
    return {"output_config": {"format": {"type": "json_schema", "schema": format.schema}}}
