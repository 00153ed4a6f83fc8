"""State in a conversation that only the provider that wrote it may see again: signatures, blocks of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from antiphon.chat.losses import Loss
from antiphon.chat.messages import Message, Node, Opaque, Reasoning, Text, ToolResult
from antiphon.chat.requests import ChatRequest

__all__ = ["original_path", "without_foreign_state"]

N = TypeVar("N", bound=Node)

_INNER_FIELD: Mapping[type, str] = {Message: "parts", ToolResult: "content", Text: "annotations"}
"""The field of a node that holds other nodes."""


def without_foreign_state(
    request: ChatRequest, provider: str, original_paths: dict[str, str]
) -> tuple[ChatRequest, tuple[Loss, ...]]:
    """Leave out of each message of *request* what only the provider that wrote it may see again.

    Args:
        request: The request as the caller made it.
        provider: The provider that is asked now: messages of its own, and those of no provider, stay as they are.
        original_paths: Receives the path that each message and part had before, by its new path.

    Returns:
        The request, and a loss for each thing that was left out.
    """
    messages: list[Message] = []
    losses: list[Loss] = []
    for index, message in enumerate(request.messages):
        path, new_path = f"$.messages[{index}]", f"$.messages[{len(messages)}]"
        original_paths[new_path] = path
        if message.provider not in (None, provider):
            removed: list[str] = []
            public = _public(message, path, removed, new_path, original_paths)
            reason = f"This is for {message.provider!r} alone to see."
            losses += (Loss("dropped", removed_path, reason) for removed_path in removed)
            if message.parts and not public.parts:
                continue  # nothing is left of it, and many servers refuse a message that is empty
            message = public
        messages.append(message)
    return request.but(messages=tuple(messages)), tuple(losses)


def original_path(path: str, original_paths: Mapping[str, str]) -> str:
    """Translate a path in the request that is sent into a path in the request that the caller made.

    *original_paths* maps the new path of each moved item to its old one; the longest match counts:

        original_path("$.messages[0].parts[1].url", {"$.messages[0]": "$.messages[2]"})
        == "$.messages[2].parts[1].url"
    """
    for end in range(len(path), 0, -1):
        item_path = path[:end]
        if item_path.endswith("]") and item_path in original_paths:
            return original_paths[item_path] + path[end:]
    return path


def _public(node: N, path: str, removed: list[str], new_path: str, original_paths: dict[str, str]) -> N:
    """Return *node*, which was at *path* and will be at *new_path*, without what only its author may see again.

    The paths of what is left out are added to *removed*; those of what is inside it, to *original_paths*.
    """
    removed += (f"{path}.{field}" for field in _private_fields(node))
    changes: dict[str, Any] = {"extra": None, "form": None, "kept": None}
    if isinstance(node, Reasoning):
        changes["signature"] = None
    if (field := _INNER_FIELD.get(type(node))) is not None:
        public: list[Node] = []
        for index, item in enumerate(getattr(node, field)):
            item_path = f"{path}.{field}[{index}]"
            if isinstance(item, Opaque):
                removed.append(item_path)
            else:
                new_item_path = f"{new_path}.{field}[{len(public)}]"
                original_paths[new_item_path] = item_path
                public.append(_public(item, item_path, removed, new_item_path, original_paths))
        changes[field] = tuple(public)
    return msgspec.structs.replace(node, **changes)


def _private_fields(node: Node) -> list[str]:
    """Return the fields of *node* that only its author may see again."""
    fields = [field for own_fields in (node.extra or {}).values() for field in own_fields]
    return [*fields, "signature"] if isinstance(node, Reasoning) and node.signature is not None else fields
