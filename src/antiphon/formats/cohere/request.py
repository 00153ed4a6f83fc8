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

from msgspec.structs import replace

from antiphon.chat.kept import as_it_came
from antiphon.chat.kept import keep as keeping
from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Opaque
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json, read
from antiphon.formats.cohere.message import NAME, NOTES, Writer, decode_message
from antiphon.formats.kit import FunctionTools, Row, Table, approximated, dropped, schema_of, texts
from antiphon.formats.notes import foreign

__all__ = ["decode_request", "encode_request"]

_CHOICES: dict[str, Literal["required", "none"]] = {"REQUIRED": "required", "NONE": "none"}


# Settings


def _decode_format(source: dict[str, Any], key: str, path: str) -> ResponseFormat | None:
    format, inside = read.required_object(source, key, path), f"{path}.{key}"
    kind = read.required_text(format, "type", inside)
    if kind == "text":
        return ResponseFormat("text")
    if kind != "json_object":
        return None
    schema = read.object_(format, "json_schema", inside)
    return ResponseFormat("json") if schema is None else ResponseFormat("json_schema", schema)


def _encode_format(format: ResponseFormat, losses: list[Loss]) -> dict[str, Any]:
    schema = schema_of("Cohere", format, losses)
    if format.kind == "text":
        return {"type": "text"}
    return {"type": "json_object"} if schema is None else {"type": "json_object", "json_schema": schema}


def _decode_thinking(source: dict[str, Any], key: str, path: str) -> ReasoningOptions | None:
    thinking, inside = read.required_object(source, key, path), f"{path}.{key}"
    kind = read.required_text(thinking, "type", inside)
    if kind == "disabled":
        return ReasoningOptions(effort="none")
    if kind != "enabled":
        return None
    budget = read.integer(thinking, "token_budget", inside)
    return ReasoningOptions(budget_tokens=-1 if budget is None else budget)


def _encode_thinking(options: ReasoningOptions, losses: list[Loss]) -> dict[str, Any] | None:
    losses += lost_extra(options, "$.reasoning", keep=())
    effort, budget = options.effort, options.budget_tokens
    if options.include is False:
        losses.append(dropped("reasoning.include", "Cohere always gives thoughts with the answer."))
    if budget == 0 or (budget is None and effort == "none"):
        return {"type": "disabled"}
    if effort is not None:
        reason = "Cohere knows no effort, but a bound on thinking and on or off."
        losses.append(approximated("reasoning.effort", reason))
    if budget is None and effort is None:
        return None
    return {"type": "enabled"} if budget is None or budget < 0 else {"type": "enabled", "token_budget": budget}


def _between(field: str, low: float, high: float) -> Any:
    """Return a writer of a number that Cohere takes from *low* to *high* only."""

    def write(value: float, losses: list[Loss]) -> float:
        sent = min(max(value, low), high)
        if sent != value:
            losses.append(approximated(field, f"Cohere takes {low} to {high}; {sent} is sent."))
        return sent

    return write


_TOOLS = FunctionTools("Cohere", NOTES, strict=False, no_parameters={"type": "object", "properties": {}})
_SETTINGS = Table(
    "Cohere",
    NOTES,
    {
        "temperature": Row("temperature", read.number),
        "frequency_penalty": Row("frequency_penalty", read.number, _between("frequency_penalty", 0, 1)),
        "presence_penalty": Row("presence_penalty", read.number, _between("presence_penalty", 0, 1)),
        "seed": Row("seed", read.integer),
        "max_tokens": Row("max_tokens", read.integer),
        "logprobs": Row("logprobs", read.boolean),
        "top_p": Row("p", read.number, _between("top_p", 0.01, 0.99)),
        "top_k": Row("k", read.integer),
        "stop": Row("stop_sequences", texts),
        "reasoning": Row("thinking", _decode_thinking, _encode_thinking, inside=("type", "token_budget")),
        "response_format": Row("response_format", _decode_format, _encode_format, inside=("type", "json_schema")),
    },
    handled=("tool_choice",),
)


# Tools


def _decode_tools(source: dict[str, Any], *, keep: bool) -> tuple[Tool | Opaque, ...] | None:
    tools, strict = _TOOLS.read(source, keep=keep), read.boolean(source, "strict_tools", "$")
    if tools is None or strict is None:
        return tools
    return tuple(tool if isinstance(tool, Opaque) else _made_strict(tool, strict) for tool in tools)


def _made_strict(tool: Tool, strict: bool) -> Tool:
    """Return *tool* with what the request says of all of them."""
    result, kept = replace(tool, strict=strict, kept=None), tool.kept
    return result if kept is None else keeping(result, NAME, kept.source)


def _decode_choice(source: dict[str, Any]) -> Literal["required", "none"] | Opaque | None:
    choice = read.text(source, "tool_choice", "$")
    return None if choice is None else _CHOICES.get(choice, Opaque(NAME, choice))


def _encode_tools(request: ChatRequest, losses: list[Loss]) -> dict[str, Any]:
    choice, tools = request.tool_choice, request.tools
    result: dict[str, Any] = {}
    if isinstance(choice, ToolName):
        losses += lost_extra(choice, "$.tool_choice", keep=())
        losses.append(approximated("tool_choice", "Cohere cannot force one tool; only that one is sent."))
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
    written = _TOOLS.write(tuple(map(_without_strict, tools)), losses)
    strict = {tool.strict for tool in tools if isinstance(tool, Tool)}
    if strict == {True} or strict == {False}:
        return {"strict_tools": True in strict, "tools": written}
    if True in strict:
        losses.append(approximated("tools", "Cohere is strict with all tools or with none: here with none."))
    return {"tools": written}


def _without_strict(tool: Tool | Opaque) -> Tool | Opaque:
    if isinstance(tool, Opaque) or tool.strict is None or as_it_came(tool, NAME) is not None:
        return tool
    return replace(tool, strict=None, kept=None)


# Requests


def decode_request(source: dict[str, Any], *, keep: bool = True) -> ChatRequest:
    """Read a request object; with *keep* it can be written as it came.

        {"model": "command-a", "messages": [{"role": "user", "content": "Hi."}], "p": 0.9, "stop_sequences": ["END"],
         "thinking": {"type": "enabled", "token_budget": 500}, "strict_tools": true, "tools": [{"type": "function", …}]}

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    messages = read.array(source, "messages", "$")
    if messages is None:
        read.fault("$.messages", "an array")
    stream = read.boolean(source, "stream", "$") or False
    fields, rest = _SETTINGS.read(source, "model", "messages", "tools", "strict_tools", "tool_choice", "stream")
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        tuple(decode_message(item, f"$.messages[{place}]", keep=keep) for place, item in enumerate(messages)),
        tools=_decode_tools(source, keep=keep),
        tool_choice=_decode_choice(source),
        stream=stream,
        include_usage=True if stream else None,
        extra=NOTES.extra_of(rest),
        **fields,
    )
    return keeping(request, NAME, source) if keep else request


def encode_request(request: ChatRequest) -> tuple[dict[str, Any], list[Loss]]:
    """Write a request object, and list what of the request this format could not express."""
    if (source := _SETTINGS.as_it_came(request)) is not None:
        return source, []
    writer = Writer()
    losses = writer.losses
    losses += lost_extra(request, "$", keep=(NAME,))
    result: dict[str, Any] = {"model": request.model}
    result["messages"] = [one for n, m in enumerate(request.messages) for one in writer.messages(m, f"$.messages[{n}]")]
    if request.stream:
        result["stream"] = True
    result |= _encode_tools(request, losses)
    result |= _SETTINGS.write(request, losses)
    result = json.merged(result, NOTES.own_extra(request))
    if writer.documents:
        result["documents"] = [*(result.get("documents") or ()), *writer.documents]
    return result, losses
