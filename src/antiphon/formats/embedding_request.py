"""Requests for embeddings, as a server reads them. Pure functions, no I/O.

What a request says beyond the vocabulary becomes `extra` of its format; what it says of each text must be the same for
all of them.

Sources: openai 3.54, `types/embedding_create_params.py`; ollama 0.6.3, `_types.py`; google-genai 3.4, `models.py`; read
2026-11-23.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote

from antiphon.chat.embeddings import EmbeddingRequest, InputType
from antiphon.formats import json, read

__all__ = ["decode_gemini", "decode_named"]

_PATH = re.compile(r"/models/([^?]+):(?:embedContent|batchEmbedContents)(?:[?]|\Z)")
_BESIDE = frozenset({"model", "content", "embedContentConfig"})
_CAMEL = {"task_type": "taskType", "output_dimensionality": "outputDimensionality"}


def decode_named(
    source: dict[str, Any],
    name: str,
    *,
    field: str = "input",
    dimensions: str = "dimensions",
    user: bool = True,
    typed: bool = False,
) -> EmbeddingRequest:
    """Read a request of the format *name* that names its model and has its texts, or a single one, in *field*.

    *dimensions* is that format's name of it; *user* and *typed* say whether it knows `user` and `input_type`.
    """
    given = source.get(field)
    texts: list[Any] = [given] if isinstance(given, str) else given if json.is_array(given) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        read.fault(f"$.{field}", "a string or an array of strings, with one at least", given)
    kind = source.get("input_type") if typed else None
    kind = kind if kind in ("query", "document") else None
    known = {"model", field, dimensions, "encoding_format", "user" if user else "", "input_type" if kind else ""}
    return EmbeddingRequest(
        read.required_text(source, "model", "$"),
        tuple(texts),
        read.integer(source, dimensions, "$"),
        cast(InputType | None, kind),
        read.text(source, "user", "$") if user else None,
        extra=_extra(name, {key: value for key, value in source.items() if key not in known}),
    )


def decode_gemini(
    source: dict[str, Any], path: str, name: str, types: Mapping[str, str], *, batch: bool
) -> EmbeddingRequest:
    """Read Gemini's request for the vector of one content, or a *batch* of such requests.

    The model is that of the *path*, or else the first one's; *types* are the format's words for what vectors are for.
    """
    items = _batch(source) if batch else [("$", source)]
    found = _PATH.search(path)
    model = unquote(found[1]) if found else _model(*items[0])
    settings = _settings(items[0][1])
    for place, item in items:
        if "model" in item and _model(place, item) != model:
            read.fault(f"{place}.model", "the model of the path, and the same for all", item["model"])
        if not json.same(_settings(item), settings):
            read.fault(place, "a request with the settings of the first; send a batch for each", item)
    kind = next((ours for ours, theirs in types.items() if theirs == settings.get("taskType")), None)
    known = {"outputDimensionality"} if kind is None else {"outputDimensionality", "taskType"}
    return EmbeddingRequest(
        model,
        tuple(_text(read.required_object(item, "content", place), f"{place}.content") for place, item in items),
        read.integer(settings, "outputDimensionality", items[0][0]),
        cast(InputType | None, kind),
        extra=_extra(name, {key: value for key, value in settings.items() if key not in known}),
    )


def _model(place: str, item: dict[str, Any]) -> str:
    return read.required_text(item, "model", place).removeprefix("models/")


def _settings(item: dict[str, Any]) -> dict[str, Any]:
    """Return what *item* says beside its content, in camel case; newer clients have it in an object of its own."""
    inner: Any = item.get("embedContentConfig")
    said = {**item, **inner} if json.is_object(inner) else item
    return {_CAMEL.get(key, key): value for key, value in said.items() if key not in _BESIDE and value is not None}


def _batch(source: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the requests of a batch, each after its path."""
    items = read.array(source, "requests", "$")
    if not items:
        read.fault("$.requests", "an array of requests, with one at least", items)
    for place, item in enumerate(items):
        if not json.is_object(item):
            read.fault(f"$.requests[{place}]", "an object", item)
    return [(f"$.requests[{place}]", item) for place, item in enumerate(items)]


def _text(content: dict[str, Any], path: str) -> str:
    parts = read.array(content, "parts", path)
    if not parts:
        read.fault(f"{path}.parts", "an array of texts, with one at least", parts)
    for place, part in enumerate(parts):
        if not json.is_object(part) or not isinstance(part.get("text"), str):
            read.fault(f"{path}.parts[{place}]", "an object with a text, which is all that can be embedded here", part)
    return "".join(part["text"] for part in parts)


def _extra(name: str, fields: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    return {name: fields} if fields else None
