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

from antiphon.chat.kept import keep as keeping
from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat
from antiphon.formats import json, read
from antiphon.formats.kit import NOTHING, FunctionTools, Row, Table, approximated, dropped, schema_of, stop_texts
from antiphon.formats.ollama.message import NAME, NOTES, Calls, Writer, decode_message

__all__ = ["decode_request", "encode_request"]

_LEVELS = {"minimal": "low", "xhigh": "high"}
"""Efforts that are called otherwise here."""


# Settings


def _decode_limit(options: dict[str, Any], key: str, path: str) -> int | None:
    limit = read.integer(options, key, path)
    return limit if limit is not None and limit >= 0 else None


def _decode_format(source: dict[str, Any], key: str, path: str) -> Any:
    format = source[key]
    if format == "":
        return NOTHING
    if json.is_object(format):
        return ResponseFormat("json_schema", format)
    if format != "json":
        read.fault(f"{path}.{key}", "'json' or a JSON schema", format)
    return ResponseFormat("json")


def _decode_think(source: dict[str, Any], key: str, path: str) -> Any:
    think = source[key]
    if isinstance(think, str):
        return ReasoningOptions(effort=think) if think else NOTHING
    if not isinstance(think, bool):
        read.fault(f"{path}.{key}", "a boolean or a level", think)
    return ReasoningOptions(budget_tokens=-1) if think else ReasoningOptions(effort="none")


def _encode_think(options: ReasoningOptions, losses: list[Loss]) -> bool | str | None:
    losses += lost_extra(options, "$.reasoning", keep=())
    effort, budget = options.effort, options.budget_tokens
    if options.include is False:
        losses.append(dropped("reasoning.include", "Ollama always gives thoughts with the answer."))
    if budget == 0 or (budget is None and effort == "none"):
        return False
    if budget is not None and budget > 0:
        losses.append(dropped("reasoning.budget_tokens", "Ollama knows no bound on thinking."))
    if effort in (None, "none"):
        return None if budget is None else True
    level = _LEVELS.get(effort, effort)
    if level != effort:
        losses.append(approximated("reasoning.effort", f"Ollama's nearest level is {level!r}."))
    return level


def _encode_format(format: ResponseFormat, losses: list[Loss]) -> Any:
    if format.kind == "text":
        return None
    return schema_of("Ollama", format, losses) or "json"


_TOOLS = FunctionTools("Ollama", NOTES, strict=False)
_SETTINGS = Table(
    "Ollama",
    NOTES,
    {
        "temperature": Row("options.temperature", read.number),
        "top_p": Row("options.top_p", read.number),
        "top_k": Row("options.top_k", read.integer),
        "seed": Row("options.seed", read.integer),
        "frequency_penalty": Row("options.frequency_penalty", read.number),
        "presence_penalty": Row("options.presence_penalty", read.number),
        "max_tokens": Row("options.num_predict", _decode_limit),
        "stop": Row("options.stop", stop_texts),
        "logprobs": Row("logprobs", read.boolean),
        "top_logprobs": Row("top_logprobs", read.integer),
        "response_format": Row("format", _decode_format, _encode_format),
        "reasoning": Row("think", _decode_think, _encode_think),
    },
    handled=("tool_choice",),
)


# Requests


def decode_request(source: dict[str, Any], *, keep: bool = True) -> ChatRequest:
    """Read a request object; with *keep* it can be written as it came.

        {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi."}],
         "options": {"temperature": 0.5, "num_predict": 100}, "think": "low", "format": "json"}

    Raises:
        BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
    """
    messages = read.array(source, "messages", "$")
    if messages is None:
        read.fault("$.messages", "an array")
    calls = Calls()
    stream = read.boolean(source, "stream", "$") is not False
    fields, rest = _SETTINGS.read(source, "model", "messages", "tools", "stream")
    request = ChatRequest(
        read.required_text(source, "model", "$"),
        tuple(decode_message(item, f"$.messages[{n}]", calls, keep=keep) for n, item in enumerate(messages)),
        tools=_TOOLS.read(source, keep=keep),
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
    result["stream"] = request.stream
    if request.tool_choice == "none":
        losses.append(approximated("tool_choice", "Ollama knows no tool choice, so no tools are sent."))
    elif request.tool_choice not in (None, "auto"):
        losses.append(dropped("tool_choice", "Ollama knows no tool choice: the model is free to use tools or not."))
    if request.tools is not None and request.tool_choice != "none":
        result["tools"] = _TOOLS.write(request.tools, losses)
    result |= _SETTINGS.write(request, losses)
    return json.merged(result, NOTES.own_extra(request)), losses
