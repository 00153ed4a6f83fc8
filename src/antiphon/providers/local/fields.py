"""What the clients of a server may ask of a local model: the fields that are known, each within its bounds.

llama.cpp takes many more, which are made for whoever runs it: a grammar of one's own, files to read, places of the
prompt cache. Those are left out, and reported as lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from antiphon.chat.events import End, Event, Start, UsageUpdate
from antiphon.chat.losses import Loss
from antiphon.chat.messages import Message, Opaque, Part, ToolResult
from antiphon.chat.requests import ChatRequest, ResponseFormat, Tool, ToolName
from antiphon.chat.usage import Usage
from antiphon.errors import BadRequestError
from antiphon.formats import json

__all__ = ["only_known", "without_cache"]

MAX_STOPS: Final = 16
"""Strings that end an answer."""
MAX_STOP_SIZE: Final = 256
"""Characters of each."""
MAX_BIASES: Final = 300
"""Tokens with a bias."""

_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, 1_000_000),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "top_logprobs": (0, 20),
    "n": (1, 128),
    "seed": (-(2**63), 2**63 - 1),
    "max_tokens": (-1, 2**31 - 1),
}
"""The least and the most of each field that has a number."""
_OWN_RANGES: Mapping[str, tuple[float, float]] = {
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_penalty": (0, 10),
    "repeat_last_n": (0, 4096),
}
"""The same for fields of llama.cpp itself."""


def only_known(request: ChatRequest, format: str) -> tuple[ChatRequest, list[Loss]]:
    """Return *request* with nothing in it but what is known, and what was left out of *format*, llama.cpp's own.

    Raises:
        BadRequestError: A value is beyond its bounds, or a part of a message is none that is known.
    """
    losses: list[Loss] = []
    for field, bounds in _RANGES.items():
        _check_number(getattr(request, field), bounds, f"$.{field}")
    _check_stops(request.stop)
    known = _Known(format, losses)
    choice = request.tool_choice
    if isinstance(choice, Opaque):
        known.without("$.tool_choice")
        choice = None
    elif isinstance(choice, ToolName):
        choice = known.bare(choice, "$.tool_choice")
    return (
        request.but(
            messages=tuple(known.message(item, f"$.messages[{n}]") for n, item in enumerate(request.messages)),
            tools=None if request.tools is None else known.tools(request.tools),
            tool_choice=choice,
            response_format=known.format_of(request.response_format),
            reasoning=None if request.reasoning is None else known.bare(request.reasoning, "$.reasoning"),
            extra=known.fields(request.extra or {}),
            form=None,
            kept=None,
        ),
        losses,
    )


class _Known:
    """Takes out of each part of a request what is not known of it."""

    def __init__(self, format: str, losses: list[Loss]) -> None:
        self._format = format
        self._losses = losses

    def without(self, path: str) -> None:
        """Note that what stands at *path* is left out."""
        self._losses.append(Loss("dropped", path, _REASON))

    def bare(self, node: Any, path: str) -> Any:
        """Return *node* without the fields of llama.cpp's own."""
        extra = dict(node.extra or {})
        for field in extra.pop(self._format, {}):
            self.without(f"{path}.{field}")
        return msgspec.structs.replace(node, extra=extra or None, form=None, kept=None)

    def message(self, message: Message, path: str) -> Message:
        """Return *message* with the parts that are known alone."""
        parts = tuple(self.part(part, f"{path}.parts[{n}]") for n, part in enumerate(message.parts))
        known: Message = self.bare(message, path)
        return msgspec.structs.replace(known, parts=parts)

    def part(self, part: Part, path: str) -> Part:
        """Return *part* as it is known."""
        if isinstance(part, Opaque):
            if part.format == self._format:
                raise BadRequestError(
                    "A part of a message is of a kind that a local model does not read: leave it out.",
                    status=400,
                    param=path,
                )
            return part  # it is left out, and reported, by who writes the request
        known: Part = self.bare(part, path)
        if isinstance(known, ToolResult):
            content: Any = tuple(self.part(inner, f"{path}.content[{n}]") for n, inner in enumerate(known.content))
            known = msgspec.structs.replace(known, content=content)
        return known

    def tools(self, tools: tuple[Tool | Opaque, ...]) -> tuple[Tool | Opaque, ...]:
        """Return those of *tools* that are functions."""
        kept: list[Tool | Opaque] = []
        for place, tool in enumerate(tools):
            if isinstance(tool, Tool):
                kept.append(self.bare(tool, f"$.tools[{place}]"))
            elif tool.format != self._format:
                kept.append(tool)
            else:
                self.without(f"$.tools[{place}]")
        return tuple(kept)

    def format_of(self, format: ResponseFormat | None) -> ResponseFormat | None:
        """Return the form of the answer as it is known."""
        return None if format is None else self.bare(format, "$.response_format")

    def fields(self, extra: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Return the fields beyond those of a request that are known."""
        kept: dict[str, Any] = {}
        for field, value in extra.get(self._format, {}).items():
            if (check := _OWN.get(field)) is None:
                if value is not None:
                    self.without(f"$.{field}")
            elif value is not None:
                check(value, f"$.{field}")
                kept[field] = value
        return {**extra, self._format: kept}


_REASON = "The server does not pass this on to llama.cpp for its clients."


def _check_number(value: Any, bounds: tuple[float, float], path: str) -> None:
    least, most = bounds
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequestError(f"{path} must be a number.", status=400, param=path)
    if not least <= value <= most:
        raise BadRequestError(f"{path} must be from {least:,} to {most:,} for a local model.", status=400, param=path)


def _check_stops(stops: tuple[str, ...] | None) -> None:
    if stops and (len(stops) > MAX_STOPS or max(map(len, stops)) > MAX_STOP_SIZE):
        raise BadRequestError(
            f"$.stop must be at most {MAX_STOPS} strings of at most {MAX_STOP_SIZE} characters for a local model.",
            status=400,
            param="$.stop",
        )


def _check_bias(value: Any, path: str) -> None:
    if not json.is_object(value) or len(value) > MAX_BIASES or not all(map(_is_token, value)):
        raise BadRequestError(
            f"{path} must be an object of at most {MAX_BIASES} ids of tokens, each with its bias.",
            status=400,
            param=path,
        )
    for token, bias in value.items():
        _check_number(bias, (-100, 100), f"{path}[{token}]")


def _is_token(key: Any) -> bool:
    return isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10


def _check_template_fields(value: Any, path: str) -> None:
    if not json.is_object(value) or value.keys() - {"enable_thinking"}:
        raise BadRequestError(f"{path} may hold 'enable_thinking' alone.", status=400, param=path)
    if not all(isinstance(inner, bool) for inner in value.values()):
        raise BadRequestError(f"{path}.enable_thinking must be a boolean.", status=400, param=path)


def _in_range(bounds: tuple[float, float]) -> Callable[[Any, str], None]:
    return lambda value, path: _check_number(value, bounds, path)


_OWN: Mapping[str, Callable[[Any, str], None]] = {
    **{field: _in_range(bounds) for field, bounds in _OWN_RANGES.items()},
    "logit_bias": _check_bias,
    "chat_template_kwargs": _check_template_fields,
}
"""What checks each field of llama.cpp's own that is passed on."""


def without_cache(event: Event) -> Event:
    """Return *event* without what it says of the prompt cache and of times, which depend on the prompts of others."""
    if type(event) is Start:
        return msgspec.structs.replace(event, extra=None, form=None, kept=None, wire=None)
    if type(event) is UsageUpdate:
        return UsageUpdate(_whole(event.usage))
    if type(event) is End and event.usage is not None:
        return msgspec.structs.replace(event, usage=_whole(event.usage), wire=None)
    return event


def _whole(usage: Usage) -> Usage:
    return msgspec.structs.replace(
        usage,
        input_uncached=usage.prompt_tokens,
        input_cache_read=None,
        input_cache_write=None,
        extra=None,
        form=None,
    )
