"""Model names.

`default` is what to pass where any model will do: the empty name, which stands for `ANTIPHON_MODEL` in the environment
or else for the local model, at the time of the call. With a provider of your own it is passed on as it is.
"""

from __future__ import annotations

from typing import Final

from antiphon.providers.lookup import DEFAULT_MODEL, default_model

__all__ = ["default", "local", "resolve"]

default: Final = ""
"""Whichever model is the default."""

local: Final = DEFAULT_MODEL
"""The model that runs in this process: SmolLM2-135M-Instruct, no key, 98 MB fetched once."""


def resolve(model: str = default) -> str:
    """Return the full name that *model* stands for now."""
    return model or default_model()
