"""Answers to what is asked besides chats: lists of models, counts of tokens. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from antiphon.errors import APIError
from antiphon.formats import json
from antiphon.formats.codec import ListedModel
from antiphon.formats.status import excerpt, words
from antiphon.formats.times import unix_seconds

__all__ = [
    "ListedModel",
    "Told",
    "listed_models",
    "openai_model",
    "openai_models",
    "token_count",
]

Told: TypeAlias = Callable[[dict[str, Any]], APIError]
"""How a format reads the error that an answer of status 200 tells of."""

_LISTS = ("data", "models", "modelSummaries")
_NAMES = ("id", "name", "model", "modelId")
_TIMES = ("created", "created_at")


# Reading


def listed_models(body: bytes, told: Told, *, prefix: str = "") -> list[tuple[str, int]]:
    """Read a list of models: pairs of name and the Unix time in seconds it was made, 0 where that is not told.

    Known shapes: OpenAI's and Anthropic's `{"data": [{"id": …}]}`, the array alone, `{"models": [{"name": …}]}` of
    Ollama, Cohere and Gemini, and Bedrock's `{"modelSummaries": [{"modelId": …}]}`.

    Args:
        body: The answer.
        told: Reads an error that came in the place of the list.
        prefix: What the names begin with there and nowhere else, such as Gemini's `models/`; it is taken off.

    Raises:
        APIError: It is no such list.
    """
    source = _decoded(body)
    found = next((source[key] for key in _LISTS if key in source), None) if json.is_object(source) else source
    if not json.is_array(found):
        raise _instead(source, told) or APIError(
            f"The provider was asked for its models and answered something else: {excerpt(body)}"
        )
    return [(_name(item, body).removeprefix(prefix), _made(item)) for item in found]


def token_count(body: bytes, field: str, told: Told) -> int:
    """Read how many input tokens a request has, which the answer tells in *field*; *told* as for `listed_models`.

    Raises:
        APIError: It does not tell.
    """
    source = _decoded(body)
    count = json.integer(source.get(field)) if json.is_object(source) else None
    if count is None:
        raise _instead(source, told) or APIError(
            f"The provider was asked to count tokens and answered something else: {excerpt(body)}"
        )
    return count


def _decoded(body: bytes) -> Any:
    try:
        return json.decode(body)
    except json.MALFORMED:
        return None


def _instead(source: Any, told: Told) -> APIError | None:
    """Return the error that came in the place of an answer, if that is what *source* is."""
    return told(source) if json.is_object(source) and (source.get("error") or words(source)) else None


def _name(item: Any, body: bytes) -> str:
    if json.is_object(item):
        for key in _NAMES:
            if name := json.text(item.get(key)):
                return name
    raise APIError(f"The provider's list of models has one without a name: {excerpt(body)}")


def _made(item: dict[str, Any]) -> int:
    for key in _TIMES:
        if made := unix_seconds(item.get(key)):
            return made
    return 0


# Writing


def openai_models(models: Iterable[ListedModel]) -> bytes:
    """Write OpenAI's list of models, which all of its formats share."""
    return json.encode({"object": "list", "data": [_openai(model) for model in models]})


def openai_model(model: ListedModel) -> bytes:
    """Write OpenAI's object of one model."""
    return json.encode(_openai(model))


def _openai(model: ListedModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.provider}
