"""Embeddings: what is asked for and what comes back, the latter in OpenAI's shape. No I/O.

Field names and meanings follow OpenAI's (openai 3.54, `types/create_embedding_response.py`, read 2026-11-23); what is
added says so.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from antiphon.chat.losses import Loss
from antiphon.chat.messages import Node

__all__ = ["Embedding", "EmbeddingRequest", "EmbeddingUsage", "Embeddings", "InputType"]

InputType: TypeAlias = Literal["query", "document", "classification", "clustering"]
"""What the vectors are for; some models make better ones if they know it."""


class EmbeddingRequest(Node, frozen=True):
    """Texts to turn into vectors. `None` in a field: not set, never sent. `extra` holds fields of one provider."""

    model: str
    """The model's name as the provider knows it."""
    texts: tuple[str, ...]
    dimensions: int | None = None
    """How many numbers a vector is to have; not every model has a choice."""
    input_type: InputType | None = None
    user: str | None = None
    """An id of the end user, for the provider's abuse watch."""


class Embedding(msgspec.Struct, frozen=True):
    """The vector of one text."""

    embedding: list[float]
    index: int
    """Which of the texts, from 0."""


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """The vectors of all texts, in their order."""

    data: tuple[Embedding, ...]
    model: str = ""
    """The model that made them, as the provider names it."""
    provider: str | None = None
    """Who made them (added to OpenAI's shape)."""
    usage: EmbeddingUsage | None = None
    """`None`: not reported."""
    losses: tuple[Loss, ...] = ()
    """What of the request could not be said in the provider's format (added to OpenAI's shape)."""

    @property
    def object(self) -> str:
        """OpenAI's type tag."""
        return "list"

    @property
    def vectors(self) -> list[list[float]]:
        """The vectors alone (added to OpenAI's shape)."""
        return [item.embedding for item in self.data]

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's JSON object, without fields that were not set."""
        data = [{"object": "embedding", "index": item.index, "embedding": item.embedding} for item in self.data]
        result: dict[str, Any] = {"object": self.object, "data": data, "model": self.model}
        if self.provider is not None:
            result["provider"] = self.provider
        if self.usage is not None:
            result["usage"] = msgspec.to_builtins(self.usage)
        return result

    def to_json(self) -> str:
        """Return `to_dict()` as JSON text."""
        return msgspec.json.encode(self.to_dict()).decode()

    def model_dump(self) -> dict[str, Any]:
        """Return `to_dict()`: the name that the OpenAI client has for it."""
        return self.to_dict()
