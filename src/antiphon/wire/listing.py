"""Floor 1: answers to what is asked besides chats: lists of models, counts of tokens. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from antiphon.errors import APIError
from antiphon.wire import json
from antiphon.wire.status import excerpt

__all__ = ["listed_models", "token_count", "unix_time"]

_LISTS = ("data", "models", "modelSummaries")
_NAMES = ("id", "name", "model", "modelId")
_TIMES = ("created", "created_at")


def listed_models(body: bytes, *, prefix: str = "") -> list[tuple[str, int]]:
    """Read a list of models: pairs of name and the Unix time in seconds it was made, 0 where that is not told.

    Known shapes: OpenAI's and Anthropic's `{"data": [{"id": …}]}`, the array alone, `{"models": [{"name": …}]}` of
    Ollama, Cohere and Gemini, and Bedrock's `{"modelSummaries": [{"modelId": …}]}`.

    Args:
        body: The answer.
        prefix: What the names begin with there and nowhere else, such as Gemini's `models/`; it is taken off.

    Raises:
        APIError: It is no such list.
    """
    try:
        source = json.decode(body)
    except json.MALFORMED:
        source = None
    if json.is_object(source):
        source = next((source[key] for key in _LISTS if key in source), None)
    if not json.is_array(source):
        raise APIError(f"The provider was asked for its models and answered something else: {excerpt(body)}")
    return [(_name(item, body).removeprefix(prefix), _made(item)) for item in source]


def token_count(body: bytes, field: str) -> int:
    """Read how many input tokens a request has, which the answer tells in *field*.

    Raises:
        APIError: It does not tell.
    """
    try:
        source = json.decode(body)
    except json.MALFORMED:
        source = None
    count = json.integer(source.get(field)) if json.is_object(source) else None
    if count is None:
        raise APIError(f"The provider was asked to count tokens and answered something else: {excerpt(body)}")
    return count


def _name(item: Any, body: bytes) -> str:
    if json.is_object(item):
        for key in _NAMES:
            if name := json.text(item.get(key)):
                return name
    raise APIError(f"The provider's list of models has one without a name: {excerpt(body)}")


def _made(item: dict[str, Any]) -> int:
    for key in _TIMES:
        if made := json.integer(item.get(key)) or unix_time(item.get(key)):
            return made
    return 0


def unix_time(text: object) -> int:
    """Return the Unix time in seconds of an RFC 3339 timestamp, fractions cut off; 0 for anything else."""
    if not isinstance(text, str):
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int(moment.timestamp()) if moment.tzinfo is not None else 0
