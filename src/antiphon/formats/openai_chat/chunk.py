"""The events of one OpenAI Chat Completions chunk as JSON, in the codec's own way. Pure functions, no I/O.

Both directions write chunks by this: the encoder to send them, the decoder to see how the one it read differs.

Source: openai 3.54, `types/chat/chat_completion_chunk.py` (read 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from antiphon.chat.answers import audio_to_dict
from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    Finish,
    MessageDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
)
from antiphon.chat.messages import Audio, Opaque, Part, Reasoning, Text
from antiphon.formats import json
from antiphon.formats.openai_chat.answer import encode_usage
from antiphon.formats.openai_chat.message import NAME, encode_annotation, own_extra
from antiphon.formats.times import unix_seconds

__all__ = ["chunk_of"]

_Content: TypeAlias = (
    MessageDelta | TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | AudioDelta | PartAdded | Finish
)


def chunk_of(start: Start, events: Iterable[Event]) -> dict[str, Any]:
    """Write *events* as one chunk of the answer that *start* names."""
    result: dict[str, Any] = {
        "id": start.id,
        "object": "chat.completion.chunk",
        "created": unix_seconds(start.created),
        "model": start.model,
    }
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        if isinstance(event, Start):
            result.update(own_extra(event))
        elif isinstance(event, UsageUpdate):
            result["usage"] = encode_usage(event.usage)
        elif not isinstance(event, End | UnknownEvent):
            choice = choices.get(event.choice)
            if choice is None:
                choice = choices[event.choice] = {"index": event.choice, "delta": {}, "finish_reason": None}
            _add(event, choice, choice["delta"])
    result["choices"] = list(choices.values())
    return result


def _add(event: _Content, choice: dict[str, Any], delta: dict[str, Any]) -> None:
    if isinstance(event, TextDelta):
        _add_content(delta, event.text)
        if event.annotations:
            delta["annotations"] = [encode_annotation(annotation) for annotation in event.annotations]
        _add_logprobs(choice, "content", event.logprobs)
    elif isinstance(event, ReasoningDelta):
        delta["reasoning_content"] = delta.get("reasoning_content", "") + event.text
    elif isinstance(event, RefusalDelta):
        delta["refusal"] = delta.get("refusal", "") + event.text
        _add_logprobs(choice, "refusal", event.logprobs)
    elif isinstance(event, ToolCallDelta):
        delta.setdefault("tool_calls", []).append(_fragment(event))
    elif isinstance(event, MessageDelta):
        delta.update(own_extra(event) if event.role is None else {"role": event.role, **own_extra(event)})
    elif isinstance(event, Finish):
        choice["finish_reason"] = event.reason
        choice.update(own_extra(event))
    elif isinstance(event, AudioDelta):
        fields = {name: getattr(event, name) for name in ("id", "data", "transcript", "expires_at")}
        delta["audio"] = json.merged({k: v for k, v in fields.items() if v is not None}, own_extra(event))
    else:
        _add_part(event.content, delta)


def _add_logprobs(choice: dict[str, Any], key: str, logprobs: tuple[Any, ...] | None) -> None:
    if logprobs is not None:
        choice.setdefault("logprobs", {})[key] = list(logprobs)


def _add_part(part: Part, delta: dict[str, Any]) -> None:
    """Add a part that came whole, if a delta has a place for it."""
    if isinstance(part, Text):
        _add_content(delta, part.text)
    elif isinstance(part, Reasoning):
        delta["reasoning_content"] = delta.get("reasoning_content", "") + part.text
    elif isinstance(part, Opaque) and part.format == NAME:
        _add_content(delta, part.data)
    elif isinstance(part, Audio):
        delta["audio"] = json.merged(audio_to_dict(part), own_extra(part))


def _add_content(delta: dict[str, Any], piece: Any) -> None:
    """Add text, or an element of the list that Mistral has in its place."""
    before = delta.get("content", "")
    if isinstance(piece, str) and isinstance(before, str):
        delta["content"] = before + piece
        return
    listed = before if json.is_array(before) else [{"type": "text", "text": before}] if before else []
    delta["content"] = [*listed, {"type": "text", "text": piece} if isinstance(piece, str) else piece]


def _fragment(event: ToolCallDelta) -> dict[str, Any]:
    result: dict[str, Any] = {"index": event.call}
    if event.id is not None:
        result |= {"id": event.id, "type": event.kind or "function"}
    custom = event.kind == "custom"
    inner = {} if event.name is None else {"name": event.name}
    inner["input" if custom else "arguments"] = event.arguments
    result["custom" if custom else "function"] = inner
    return json.merged(result, own_extra(event))
