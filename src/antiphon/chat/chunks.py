"""The events of one answer as the chunks that callers see. No I/O.

Two choices beyond OpenAI's shape: the last chunk of an answer carries its usage beside its finish reason, so that
`chunk.choices[0]` is always there; only who asks for it with `stream_options={"include_usage": True}` gets OpenAI's
extra chunk without choices. And each choice begins with its role, whoever answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from antiphon.chat.answers import ChunkChoice, CompletionChunk, Delta, FunctionDelta, ToolCallChunk
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
from antiphon.chat.losses import Loss
from antiphon.chat.messages import Audio, FinishReason
from antiphon.chat.usage import Usage

__all__ = ["Chunker"]

_Content: TypeAlias = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | AudioDelta | PartAdded


class Chunker:
    """Turns events into chunks, one event at a time; used once."""

    __slots__ = (
        "_created",
        "_finished",
        "_held",
        "_id",
        "_losses",
        "_model",
        "_provider",
        "_separate_usage",
        "_spoken",
        "_usage",
    )

    def __init__(self, *, separate_usage: bool = False, losses: Sequence[Loss] = ()) -> None:
        self._separate_usage = separate_usage
        self._losses = losses
        self._id = self._model = ""
        self._created = 0
        self._provider: str | None = None
        self._spoken: set[int] = set()
        self._finished: set[int] = set()
        self._held: Finish | None = None
        self._usage: Usage | None = None

    def feed(self, event: Event) -> list[CompletionChunk]:
        """Give the chunks that *event* makes: mostly one, none for events that bring nothing a caller sees."""
        if type(event) is TextDelta:
            if event.choice in self._spoken and event.logprobs is None and not event.annotations:
                choices = [ChunkChoice(event.choice, Delta(event.text))]
                return [CompletionChunk(self._id, choices, self._created, self._model, self._provider)]
        elif type(event) is Start:
            self._started(event)
            return []
        elif type(event) is UsageUpdate:
            self._used(event.usage)
            return []
        elif type(event) is Finish:
            self._finished.add(event.choice)
            held, self._held = self._held, event
            return [] if held is None else [self._finish(held)]
        elif type(event) is End:
            return self._end(event)
        return [] if type(event) is UnknownEvent else self._piece(event)

    def _started(self, event: Start) -> None:
        self._id = event.id or self._id
        self._model = event.model or self._model
        self._created = event.created or self._created
        self._provider = event.provider or self._provider

    def _used(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.updated(usage)

    def _chunk(self, choices: list[ChunkChoice], usage: Usage | None = None) -> CompletionChunk:
        return CompletionChunk(self._id, choices, self._created, self._model, self._provider, usage)

    def _piece(self, event: MessageDelta | _Content) -> list[CompletionChunk]:
        role = None if event.choice in self._spoken else "assistant"
        if type(event) is MessageDelta:
            if role is None or event.role is None:
                return []
            role, delta = event.role, Delta(role=event.role)
        else:
            delta = _delta(event, role)
        self._spoken.add(event.choice)
        return [self._chunk([ChunkChoice(event.choice, delta, None, _logprobs(event))])]

    def _finish(self, event: Finish, usage: Usage | None = None) -> CompletionChunk:
        return self._chunk([ChunkChoice(event.choice, Delta(), event.reason, None, event.native)], usage)

    def _end(self, event: End) -> list[CompletionChunk]:
        if event.usage is not None:
            self._used(event.usage)
        usage = self._usage
        shown = None if self._separate_usage else usage
        finishes = [] if self._held is None else [self._held]
        if event.finish_reason is not None or not self._finished:
            reason: FinishReason = event.finish_reason or "other"
            finishes += (Finish(reason, choice) for choice in sorted((self._spoken or {0}) - self._finished))
        chunks = [self._finish(finish) for finish in finishes[:-1]]
        if finishes:
            chunks.append(self._finish(finishes[-1], shown))
        if self._separate_usage and usage is not None:
            chunks.append(self._chunk([], usage))
        if self._losses and chunks:
            chunks[-1] = msgspec.structs.replace(chunks[-1], losses=tuple(self._losses))
        return chunks


def _delta(event: _Content, role: str | None) -> Delta:
    if type(event) is TextDelta:
        return Delta(event.text, role, annotations=list(event.annotations) or None)
    if type(event) is ReasoningDelta:
        return Delta(None, role, reasoning_content=event.text)
    if type(event) is RefusalDelta:
        return Delta(None, role, refusal=event.text)
    if type(event) is ToolCallDelta:
        function = FunctionDelta(event.name, event.arguments)
        kind = None if event.id is None else event.kind or "function"
        return Delta(None, role, [ToolCallChunk(event.call, event.id, function, kind)])
    if type(event) is AudioDelta:
        return Delta(
            None,
            role,
            audio=Audio(id=event.id, data=event.data, transcript=event.transcript, expires_at=event.expires_at),
        )
    part = event.content
    return Delta(None, role, audio=part if isinstance(part, Audio) else None, parts=[part])


def _logprobs(event: MessageDelta | _Content) -> dict[str, list[object]] | None:
    if type(event) is TextDelta and event.logprobs is not None:
        return {"content": list(event.logprobs)}
    if type(event) is RefusalDelta and event.logprobs is not None:
        return {"refusal": list(event.logprobs)}
    return None
