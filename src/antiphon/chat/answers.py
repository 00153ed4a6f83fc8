"""Results as callers see them, in OpenAI's shapes and names. No I/O.

`Completion` is a whole answer; `CompletionChunk` one piece of a streamed one. Field names and meanings follow OpenAI's
Chat Completions (openai 3.54 types, read 2026-11-22); what is added says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from antiphon.chat.kept import Bearing, Kept
from antiphon.chat.losses import Loss
from antiphon.chat.messages import Annotation, Audio, Extra, FinishReason, Form, Message, Part, Refusal, Text, ToolCall
from antiphon.chat.usage import Usage

__all__ = [
    "REQUEST_IDS",
    "Choice",
    "ChunkChoice",
    "Completion",
    "CompletionChunk",
    "Delta",
    "FunctionDelta",
    "ToolCallChunk",
]


REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "x-generation-id", "cf-ray")
"""Header fields with a provider's id of a request, the best known first."""


class _Shape(Bearing, frozen=True):
    """What both results can do: turn into OpenAI's JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's JSON object of this result, without fields that were not set."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Return `to_dict()` as JSON text."""
        return msgspec.json.encode(self.to_dict()).decode()

    def model_dump(self) -> dict[str, Any]:
        """Return `to_dict()`: the name that the OpenAI client has for it."""
        return self.to_dict()

    def model_dump_json(self) -> str:
        """Return `to_json()`: the name that the OpenAI client has for it."""
        return self.to_json()


class Choice(msgspec.Struct, frozen=True):
    """One of the answers to a request; there are several only where `n` asked for them."""

    index: int
    message: Message
    finish_reason: FinishReason | None = None
    """`None` only in what a `StreamError` holds: the answer did not end."""
    native_finish_reason: str | None = None
    """The provider's own word, where it is another one (added to OpenAI's shape)."""
    extra: Extra | None = None
    form: Form | None = None

    @property
    def logprobs(self) -> dict[str, Any] | None:
        """OpenAI's `logprobs` object, or `None` where none were asked for."""
        return logprobs_of(self.message.parts)


class Completion(_Shape, frozen=True, kw_only=True):
    """A whole answer."""

    choices: tuple[Choice, ...]
    id: str = ""
    model: str = ""
    """The model that answered, as the provider names it."""
    created: int = 0
    """Unix time in seconds; 0 where the provider does not tell."""
    provider: str | None = None
    """Who answered (added to OpenAI's shape)."""
    usage: Usage | None = None
    """Tokens used; `None`: not reported."""
    losses: tuple[Loss, ...] = ()
    """What of the request could not be expressed in the provider's format (added to OpenAI's shape)."""
    headers: Mapping[str, str] = {}
    """What the reply's header says of the request: its ids and the rate limits, by lower-case name (added to OpenAI's
    shape)."""
    extra: Extra | None = None
    form: Form | None = None
    kept: Kept | None = None

    @property
    def request_id(self) -> str | None:
        """The provider's id of the request, for its support (added to OpenAI's shape)."""
        return next((self.headers[name] for name in REQUEST_IDS if name in self.headers), None)

    @classmethod
    def of(cls, content: str, *, finish_reason: FinishReason = "stop", usage: Usage | None = None) -> Completion:
        """Make an answer of one text: what a provider needs most often."""
        message = Message.assistant(content)
        return cls(choices=(Choice(0, message, finish_reason),), usage=usage)

    @property
    def object(self) -> str:
        """OpenAI's type tag."""
        return "chat.completion"

    @property
    def content(self) -> str | None:
        """The text of the first choice (added to OpenAI's shape)."""
        return self.choices[0].message.content if self.choices else None

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's JSON object of this answer, without fields that were not set."""
        result: dict[str, Any] = {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "choices": [choice_to_dict(choice) for choice in self.choices],
        }
        if self.provider is not None:
            result["provider"] = self.provider
        if self.usage is not None:
            result["usage"] = usage_to_dict(self.usage)
        return result


class FunctionDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a tool call's name and arguments."""

    name: str | None = None
    arguments: str | None = None


class ToolCallChunk(msgspec.Struct, frozen=True):
    """A piece of one tool call."""

    index: int
    """Which call of the answer, from 0."""
    id: str | None = None
    function: FunctionDelta | None = None
    type: str | None = None


class Delta(msgspec.Struct, frozen=True):
    """What one chunk adds to a message."""

    content: str | None = None
    role: str | None = None
    tool_calls: list[ToolCallChunk] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    """A piece of the model's thoughts (DeepSeek's name, which most servers took over)."""
    annotations: list[Annotation] | None = None
    audio: Audio | None = None
    parts: list[Part] | None = None
    """Parts that came whole, such as pictures (added to OpenAI's shape)."""


class ChunkChoice(msgspec.Struct, frozen=True):
    """What one chunk adds to one choice."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: dict[str, Any] | None = None
    native_finish_reason: str | None = None


class CompletionChunk(_Shape, frozen=True):
    """One piece of a streamed answer."""

    id: str
    choices: list[ChunkChoice]
    created: int
    model: str
    provider: str | None = None
    usage: Usage | None = None
    """In the last chunk, where the provider reported it."""
    losses: tuple[Loss, ...] = ()
    """In the last chunk: what of the request could not be said in the provider's format (added to OpenAI's shape)."""

    @property
    def object(self) -> str:
        """OpenAI's type tag."""
        return "chat.completion.chunk"

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's JSON object of this chunk, without fields that were not set."""
        result: dict[str, Any] = {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "choices": [chunk_choice_to_dict(choice) for choice in self.choices],
        }
        if self.provider is not None:
            result["provider"] = self.provider
        if self.usage is not None:
            result["usage"] = usage_to_dict(self.usage)
        return result


def choice_to_dict(choice: Choice) -> dict[str, Any]:
    """Return OpenAI's JSON object of one choice."""
    result: dict[str, Any] = {
        "index": choice.index,
        "message": assistant_to_dict(choice.message),
        "finish_reason": choice.finish_reason,
    }
    if (logprobs := choice.logprobs) is not None:
        result["logprobs"] = logprobs
    if choice.native_finish_reason is not None:
        result["native_finish_reason"] = choice.native_finish_reason
    return result


def chunk_choice_to_dict(choice: ChunkChoice) -> dict[str, Any]:
    """Return OpenAI's JSON object of one choice of a chunk."""
    delta: dict[str, Any] = {}
    for field in ("role", "content", "reasoning_content", "refusal"):
        if (value := getattr(choice.delta, field)) is not None:
            delta[field] = value
    if choice.delta.tool_calls is not None:
        delta["tool_calls"] = [call_chunk_to_dict(call) for call in choice.delta.tool_calls]
    if choice.delta.annotations is not None:
        delta["annotations"] = [annotation_to_dict(annotation) for annotation in choice.delta.annotations]
    if choice.delta.audio is not None:
        delta["audio"] = audio_to_dict(choice.delta.audio)
    result: dict[str, Any] = {"index": choice.index, "delta": delta, "finish_reason": choice.finish_reason}
    if choice.logprobs is not None:
        result["logprobs"] = choice.logprobs
    if choice.native_finish_reason is not None:
        result["native_finish_reason"] = choice.native_finish_reason
    return result


def assistant_to_dict(message: Message) -> dict[str, Any]:
    """Return OpenAI's JSON object of a message that a model made."""
    result: dict[str, Any] = {"role": message.role, "content": message.content}
    if (refusal := message.refusal) is not None:
        result["refusal"] = refusal
    if (reasoning := message.reasoning_content) is not None:
        result["reasoning_content"] = reasoning
    if (calls := message.tool_calls) is not None:
        result["tool_calls"] = [call_to_dict(call) for call in calls]
    if (audio := message.audio) is not None:
        result["audio"] = audio_to_dict(audio)
    if (annotations := message.annotations) is not None:
        result["annotations"] = [annotation_to_dict(annotation) for annotation in annotations]
    return result


def call_to_dict(call: ToolCall) -> dict[str, Any]:
    """Return OpenAI's JSON object of a tool call."""
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": call.kind, "function": {"name": call.name, "arguments": call.arguments}}


def call_chunk_to_dict(call: ToolCallChunk) -> dict[str, Any]:
    """Return OpenAI's JSON object of a piece of a tool call."""
    result = _without_none({"index": call.index, "id": call.id, "type": call.type})
    if call.function is not None:
        body = _without_none({"name": call.function.name, "arguments": call.function.arguments})
        result["custom" if call.type == "custom" else "function"] = body
    return result


def audio_to_dict(audio: Audio) -> dict[str, Any]:
    """Return OpenAI's JSON object of a spoken answer."""
    return _without_none(
        {"id": audio.id, "data": audio.data, "transcript": audio.transcript, "expires_at": audio.expires_at}
    )


def annotation_to_dict(annotation: Annotation) -> dict[str, Any]:
    """Return OpenAI's JSON object of an annotation: the fields stand under the name of its kind."""
    fields = {"url": annotation.url, "title": annotation.title, "start_index": annotation.start}
    return {"type": annotation.kind, annotation.kind: _without_none({**fields, "end_index": annotation.end})}


def usage_to_dict(usage: Usage) -> dict[str, Any]:
    """Return OpenAI's JSON object of *usage*: there the totals include the details."""
    result: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens or 0,
        "completion_tokens": usage.completion_tokens or 0,
        "total_tokens": usage.total_tokens or 0,
    }
    prompt = {
        "cached_tokens": usage.input_cache_read,
        "cache_write_tokens": usage.input_cache_write,
        "audio_tokens": usage.input_audio,
    }
    completion = {"reasoning_tokens": usage.output_reasoning, "audio_tokens": usage.output_audio}
    if prompt := _without_none(prompt):
        result["prompt_tokens_details"] = prompt
    if completion := _without_none(completion):
        result["completion_tokens_details"] = completion
    if usage.cost is not None:
        result["cost"] = usage.cost
    return result


def logprobs_of(parts: tuple[Part, ...]) -> dict[str, Any] | None:
    """Return OpenAI's `logprobs` object of *parts*, or `None` where none of them has any."""
    found: dict[str, list[Any]] = {}
    for part in parts:
        if isinstance(part, Text | Refusal) and part.logprobs is not None:
            found.setdefault("content" if isinstance(part, Text) else "refusal", []).extend(part.logprobs)
    return dict(found) or None


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
