"""The server's own description in OpenAPI 3.1: what a path takes and gives, as far as a machine can use it.

The dialects are described by their vendors; what stands here of a body is what this server insists on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.routing import Route

__all__ = ["described"]

_TEXT = {"type": "string"}
_MESSAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": _TEXT, "content": {"type": ["string", "array", "null"]}},
    },
}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_MODEL = {"type": "string", "description": "provider/model, or an alias."}
_STREAM = {"type": "boolean"}
_CONTENTS = {"type": "array", "items": {"type": "object", "properties": {"role": _TEXT, "parts": {"type": "array"}}}}

_BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": _object("model", "messages", model=_MODEL, messages=_MESSAGES, stream=_STREAM),
    "/v1/completions": _object("model", "prompt", model=_MODEL, prompt=_TEXT, stream=_STREAM),
    "/v1/responses": _object("model", "input", model=_MODEL, input={"type": ["string", "array"]}, stream=_STREAM),
    "/v1/embeddings": _object("model", "input", model=_MODEL, input={"type": ["string", "array"]}),
    "/v1/messages": _object(
        "model", "messages", "max_tokens",
        model=_MODEL, messages=_MESSAGES, max_tokens={"type": "integer", "minimum": 1}, stream=_STREAM,
    ),
    "/v1/messages/count_tokens": _object("model", "messages", model=_MODEL, messages=_MESSAGES),
    "/v1beta/models/{model}:generateContent": _object("contents", contents=_CONTENTS),
    "/v1beta/models/{model}:streamGenerateContent": _object("contents", contents=_CONTENTS),
    "/v1beta/models/{model}:countTokens": _object(contents=_CONTENTS),
    "/api/chat": _object("model", "messages", model=_MODEL, messages=_MESSAGES, stream=_STREAM),
}  # fmt: skip
"""What the body of a request must be, by path; one whose path is not here is some object."""

_STREAMED = ("application/json", "text/event-stream", "application/x-ndjson")
_FAULTS = {
    "400": "The request is at fault; the message has the path of what is wrong.",
    "401": "The key is missing or none of this server's.",
    "403": "The server has no key for the provider, or does not serve this web page.",
    "404": "There is no such model or path.",
    "405": "The path does not take this method.",
    "408": "The request did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is packed.",
    "429": "The provider limits the rate; retry-after says for how long.",
    "500": "The server failed; its log says why.",
    "502": "The provider failed, or cannot be reached.",
    "503": "The server has no room, or stops.",
    "504": "The provider did not answer in time.",
}


def described(routes: Iterable[Route], *, version: str, open_paths: Iterable[str]) -> dict[str, Any]:
    """Return the OpenAPI document for *routes*; those at *open_paths* need no key."""
    free = set(open_paths)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(path, method, free=path in free)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Antiphon",
            "version": version,
            "description": "The dialects of OpenAI, Anthropic, Google and Ollama, each to any provider.",
        },
        "paths": paths,
        "security": [{"bearer": []}, {"x-api-key": []}, {"api-key": []}, {"x-goog-api-key": []}, {}],
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                **{
                    name: {"type": "apiKey", "in": "header", "name": name}
                    for name in ("x-api-key", "api-key", "x-goog-api-key")
                },
            }
        },
    }


def _operation(path: str, method: str, *, free: bool) -> dict[str, Any]:
    given = _STREAMED if method == "POST" else ("application/json", "text/plain")
    answer: dict[str, Any] = {kind: {"schema": {}} for kind in given}
    fault = {"application/json": {"schema": {"type": "object", "required": ["error"]}}}
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()} {path}",
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            **{status: {"description": why, "content": fault} for status, why in _FAULTS.items()},
        },
    }
    if names := re.findall(r"\{(\w+)\}", path):
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]
    if method == "POST":
        schema = _BODIES.get(path, {"type": "object"})
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if free:
        operation["security"] = []
    return operation
