"""Requests of Ollama's own API, both ways. Pure functions, no I/O.

How the neutral fields stand here:

* Sampling, `seed`, `stop` and the bound on the answer (`num_predict`) are `options`; a bound below 0 is none.
* `stream` is true where nothing is said, so it is always said.
* `reasoning` is `think`: an effort is a level, `-1` tokens true, `none` false.
* `response_format` is `format`: `"json"` or the schema itself.
* There is no tool choice: for `none` no tools are sent.

Sources, read 2026-11-23: ollama 0.6.3 (`_types.py`), wire-formats.md, 4.5.
"""

from __future__ import annotations

from typing import Any

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Opaque
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool
from antiphon.formats import json, patch, read
from antiphon.formats.notes import foreign
from antiphon.formats.ollama.message import NAME, NOTES, Calls, Writer, decode_message

__all__ = ["decode_request", "encode_request"]

_OPTIONS = ("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "stop")
_KNOWN: dict[str, Any] = dict.fromkeys(
    ("model", "messages", "tools", "stream", "format", "think", "logprobs", "top_logprobs")
)
_TOOL: dict[str, Any] = {"type": None, "function": dict.fromkeys(("name", "description", "parameters"))}
_LEVELS = {"minimal": "low", "xhigh": "high"}
"""Efforts that are called otherwise here."""
_UNSAYABLE = {"parallel_tool_calls": True, "n": 1, "user": None, "service_tier": None}
"""Neutral fields without a place here, and the value with which they say nothing."""


def decode_request(source: dict[str, Any]) -> ChatRequest:
    """Read a request object.

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    messages = read.array(source, "messages", "$")
    if messages is None:
        read.fault("$.messages", "an array")
    options = read.object_(source, "options", "$") or {}
    stream = read.boolean(source, "stream", "$")
    limit = read.integer(options, "num_predict", "$.options")
    bounded = limit is not None and limit >= 0
    known = (*_OPTIONS, "num_predict") if bounded else _OPTIONS
    calls = Calls()
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        tuple(decode_message(item, f"$.messages[{place}]", calls) for place, item in enumerate(messages)),
        tools=_decode_tools(read.array(source, "tools", "$")),
        temperature=read.number(options, "temperature", "$.options"),
        top_p=read.number(options, "top_p", "$.options"),
        top_k=read.integer(options, "top_k", "$.options"),
        seed=read.integer(options, "seed", "$.options"),
        frequency_penalty=read.number(options, "frequency_penalty", "$.options"),
        presence_penalty=read.number(options, "presence_penalty", "$.options"),
        max_tokens=limit if bounded else None,
        stop=_decode_stop(options),
        logprobs=read.boolean(source, "logprobs", "$"),
        top_logprobs=read.integer(source, "top_logprobs", "$"),
        response_format=_decode_format(source.get("format")),
        reasoning=_decode_think(source.get("think")),
        stream=stream is not False,
        include_usage=None if stream is False else True,
        extra=NOTES.unknown(source, {**_KNOWN, "options": dict.fromkeys(known)}),
    )
    canonical, actual = encode_request(request)[0], dict(source)
    for key in ("messages", "tools"):  # these keep forms of their own
        if actual.get(key) is not None:
            del canonical[key], actual[key]
    return NOTES.with_form(request, canonical, actual)


def _decode_stop(options: dict[str, Any]) -> tuple[str, ...] | None:
    if isinstance(given := options.get("stop"), str):
        return (given,)
    stop = read.array(options, "stop", "$.options")
    for place, item in enumerate(stop or ()):
        if not isinstance(item, str):
            read.fault(f"$.options.stop[{place}]", "a string", item)
    return None if stop is None else tuple(stop)


def _decode_format(format: Any) -> ResponseFormat | None:
    if format is None or format == "":
        return None
    if json.is_object(format):
        return ResponseFormat("json_schema", format)
    if format != "json":
        read.fault("$.format", "'json' or a JSON schema", format)
    return ResponseFormat("json")


def _decode_think(think: Any) -> ReasoningOptions | None:
    if think is None or isinstance(think, str):
        return ReasoningOptions(effort=think) if think else None
    if not isinstance(think, bool):
        read.fault("$.think", "a boolean or a level", think)
    return ReasoningOptions(budget_tokens=-1) if think else ReasoningOptions(effort="none")


def _decode_tools(source: list[Any] | None) -> tuple[Tool | Opaque, ...] | None:
    if source is None:
        return None
    return tuple(_decode_tool(item, f"$.tools[{place}]") for place, item in enumerate(source))


def _decode_tool(source: Any, path: str) -> Tool | Opaque:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    if (read.text(source, "type", path) or "function") != "function":
        return Opaque(NAME, source)
    function = read.required_object(source, "function", path)
    tool = Tool(
        read.required_text(function, "name", f"{path}.function"),
        read.text(function, "description", f"{path}.function"),
        read.object_(function, "parameters", f"{path}.function"),
        extra=NOTES.unknown(source, _TOOL),
    )
    return NOTES.with_form(tool, _encode_tool(tool), source)


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
    ]
    result: dict[str, Any] = {"model": request.model, "messages": messages, "stream": request.stream}
    if (tools := _encode_tools(request, losses)) is not None:
        result["tools"] = tools
    if options := _encode_options(request):
        result["options"] = options
    if (think := _encode_think(request.reasoning, losses)) is not None:
        result["think"] = think
    if (format := _encode_format(request.response_format, losses)) is not None:
        result["format"] = format
    for field in ("logprobs", "top_logprobs"):
        if (value := getattr(request, field)) is not None:
            result[field] = value
    for field, nothing in _UNSAYABLE.items():
        if getattr(request, field) not in (None, nothing):
            losses.append(_dropped(field, f"Ollama has no field for {field!r}."))
    return patch.apply(json.merged(result, NOTES.own_extra(request)), NOTES.own_form(request)), losses


def _dropped(field: str, reason: str) -> Loss:
    return Loss("dropped", f"$.{field}", reason)


def _encode_tools(request: ChatRequest, losses: list[Loss]) -> list[Any] | None:
    if request.tool_choice == "none":
        losses.append(Loss("approximated", "$.tool_choice", "Ollama knows no tool choice, so no tools are sent."))
        return None
    if request.tool_choice not in (None, "auto"):
        losses.append(_dropped("tool_choice", "Ollama knows no tool choice: the model is free to use tools or not."))
    if request.tools is None:
        return None
    result: list[Any] = []
    for place, tool in enumerate(request.tools):
        path = f"$.tools[{place}]"
        losses += lost_extra(tool, path, keep=(NAME,))
        if isinstance(tool, Tool):
            result.append(_encode_tool(tool))
            if tool.strict is not None:
                losses.append(Loss("dropped", f"{path}.strict", "Ollama's tools have no 'strict'."))
        elif tool.format == NAME:
            result.append(tool.data)
        else:
            losses.append(foreign(path, tool))
    return result


def _encode_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    result = json.merged({"type": "function", "function": function}, NOTES.own_extra(tool))
    written: dict[str, Any] = patch.apply(result, NOTES.own_form(tool))
    return written


def _encode_options(request: ChatRequest) -> dict[str, Any]:
    named = {**{field: getattr(request, field) for field in _OPTIONS}, "num_predict": request.max_tokens}
    stop = {} if request.stop is None else {"stop": list(request.stop)}
    return {**{name: value for name, value in named.items() if value is not None}, **stop}


def _encode_think(options: ReasoningOptions | None, losses: list[Loss]) -> bool | str | None:
    if options is None:
        return None
    losses += lost_extra(options, "$.reasoning", keep=())
    effort, budget = options.effort, options.budget_tokens
    if options.include is False:
        losses.append(_dropped("reasoning.include", "Ollama always gives thoughts with the answer."))
    if budget == 0 or (budget is None and effort == "none"):
        return False
    if budget is not None and budget > 0:
        losses.append(_dropped("reasoning.budget_tokens", "Ollama knows no bound on thinking."))
    if effort in (None, "none"):
        return None if budget is None else True
    level = _LEVELS.get(effort, effort)
    if level != effort:
        losses.append(Loss("approximated", "$.reasoning.effort", f"Ollama's nearest level is {level!r}."))
    return level


def _encode_format(format: ResponseFormat | None, losses: list[Loss]) -> Any:
    if format is None or format.kind == "text":
        return None
    losses += lost_extra(format, "$.response_format", keep=())
    for field in ("name", "description", "strict"):
        if getattr(format, field) is not None:
            reason = f"Ollama's schema has no {field!r} beside it; an answer always keeps to the schema."
            losses.append(_dropped(f"response_format.{field}", reason))
    return "json" if format.kind == "json" or format.schema is None else format.schema
