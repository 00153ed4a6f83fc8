"""Requests: tools, response formats, reasoning options, and the chat completion to be made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from antiphon.chat.messages import Message, Node, Opaque

__all__ = ["ChatRequest", "ReasoningOptions", "ResponseFormat", "Tool", "ToolName"]


class Tool(Node, frozen=True):
    """A function that the model may ask for."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    """JSON schema of the arguments object; `None`: no arguments."""
    strict: bool | None = None
    """Whether the arguments must follow the schema to the letter."""


class ToolName(Node, frozen=True):
    """A tool choice that forces one tool."""

    name: str


class ResponseFormat(Node, frozen=True):
    """The form an answer must have."""

    kind: Literal["text", "json", "json_schema"]
    schema: Mapping[str, Any] | None = None
    """JSON schema, for `json_schema`."""
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ReasoningOptions(Node, frozen=True, kw_only=True):
    """How much a model may think."""

    effort: str | None = None
    """`none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`, as far as the model knows it."""
    budget_tokens: int | None = None
    """Most tokens to think with; `0` turns thinking off, `-1` leaves it to the model."""
    include: bool | None = None
    """Whether the thoughts, or a summary of them, come back with the answer."""


class ChatRequest(Node, frozen=True):
    """One chat completion to be made. `None` in a field: not set, never sent."""

    model: str
    """The model's name as the provider knows it."""
    messages: tuple[Message, ...]
    tools: tuple[Tool | Opaque, ...] | None = None
    tool_choice: Literal["auto", "none", "required"] | ToolName | Opaque | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    """Most tokens of the answer, reasoning included."""
    stop: tuple[str, ...] | None = None
    n: int | None = None
    """How many choices to make."""
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    """Alternatives to list for each token."""
    response_format: ResponseFormat | None = None
    reasoning: ReasoningOptions | None = None
    user: str | None = None
    """An id of the end user, for the provider's abuse watch."""
    service_tier: str | None = None
    stream: bool = False
    include_usage: bool | None = None
    """Whether a streamed answer is to tell its usage."""

    def but(self, **changes: Any) -> ChatRequest:
        """Return a copy with *changes*."""
        return msgspec.structs.replace(self, **changes)
