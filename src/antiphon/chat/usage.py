"""Token usage in disjoint buckets."""

from __future__ import annotations

from typing import Any

import msgspec

from antiphon.chat.messages import Node

__all__ = ["Usage"]


class Usage(Node, frozen=True, kw_only=True):
    """Tokens of one answer in disjoint buckets: added up they are what is billed. `None`: not reported; `0`: none.

    The last three fields are views across the buckets, not further tokens.
    """

    input_uncached: int | None = None
    """Input tokens read anew."""
    input_cache_read: int | None = None
    """Input tokens taken from the provider's cache."""
    input_cache_write: int | None = None
    """Input tokens read anew and written to the cache, which some providers bill higher."""
    output_visible: int | None = None
    """Output tokens other than reasoning: text, tool calls, audio."""
    output_reasoning: int | None = None
    """Output tokens spent on thinking, shown or not."""
    input_audio: int | None = None
    """How many of the input tokens are audio."""
    output_audio: int | None = None
    """How many of the output tokens are audio."""
    cost: float | None = None
    """What the provider says it charges, in its own currency unit (US dollars or credits)."""

    @property
    def prompt_tokens(self) -> int | None:
        """All input tokens (OpenAI's name)."""
        return _total(self.input_uncached, self.input_cache_read, self.input_cache_write)

    @property
    def completion_tokens(self) -> int | None:
        """All output tokens (OpenAI's name)."""
        return _total(self.output_visible, self.output_reasoning)

    @property
    def total_tokens(self) -> int | None:
        """All tokens."""
        return _total(self.prompt_tokens, self.completion_tokens)

    def updated(self, later: Usage) -> Usage:
        """Return this usage with what *later* reports in its place.

        A side, input or output, is replaced as a whole: buckets of two different counts would not add up.
        """
        changes: dict[str, Any] = {"form": later.form}
        for side in (_INPUT, _OUTPUT, ("cost",)):
            told = {name: getattr(later, name) for name in side}
            if any(value is not None for value in told.values()):
                changes |= told
        if later.extra is not None:
            known = self.extra or {}
            changes["extra"] = {**known, **{name: {**known.get(name, {}), **new} for name, new in later.extra.items()}}
        return msgspec.structs.replace(self, **changes)


_INPUT = tuple(name for name in Usage.__struct_fields__ if name.startswith("input_"))


_OUTPUT = tuple(name for name in Usage.__struct_fields__ if name.startswith("output_"))


def _total(*buckets: int | None) -> int | None:
    known = [tokens for tokens in buckets if tokens is not None]
    return sum(known) if known else None
