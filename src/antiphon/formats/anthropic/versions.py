"""What versions of Anthropic's API and of its models take, and others refuse. Pure functions, no I/O.

Sources: "Migrating to API version 2026-10-21" (read 2026-11-22); for the models that take system messages after the
head "What's new in Claude 4.8", and the list of those after it in the notes of @langchain/anthropic 1.5.13 (read
2026-11-23).
"""

from __future__ import annotations

import re

from antiphon.chat.messages import File, Message, Text

__all__ = ["STRICTER", "is_refused", "is_strict", "takes_inline_system"]

STRICTER = "2026-10-21"
"""The API version from which on sampling, documents of the assistant and citations of the user are refused."""

_VERSION = re.compile(r"claude-[a-z]+-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
"""In a model's name, be there a vendor before it or a date after it; models before Claude 4 have it elsewhere."""
_INLINE_SINCE = (4, 8)


def is_strict(version: str) -> bool:
    """Whether *version* refuses what `STRICTER` does; names such as `bedrock-2023-05-31` are older ones."""
    return version[:1].isdigit() and version >= STRICTER


def is_refused(message: Message) -> bool:
    """Whether *message* has a part that versions refuse from `STRICTER` on: a document, or citations of the user."""
    if message.role == "assistant":
        return any(isinstance(part, File) for part in message.parts)
    return message.role == "user" and any(isinstance(part, Text) and part.annotations for part in message.parts)


def takes_inline_system(model: str) -> bool:
    """Whether the name of *model* says that it takes system messages after the head: Claude 4.8 or later."""
    found = _VERSION.search(model)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= _INLINE_SINCE
