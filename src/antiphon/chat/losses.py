"""Losses: parameters of a request that were dropped, approximated or defaulted on the way to the provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from antiphon.chat.messages import Node

__all__ = ["Loss", "lost_extra"]


class Loss(msgspec.Struct, frozen=True):
    """One entry of a receipt: something of a request that could not cross as it was."""

    kind: Literal["dropped", "approximated", "defaulted"]
    path: str
    """Where it stood, as a JSON path into the neutral request: `$.messages[2].parts[0].signature`."""
    reason: str
    """A full sentence."""


def lost_extra(node: Node, path: str, *, keep: Sequence[str]) -> list[Loss]:
    """List the `extra` fields of *node* that belong to formats other than *keep* and say something.

    An explicit null or an empty list says nothing, so it is no loss.
    """
    return [
        Loss(
            "dropped", f"{path}.{field}", f"The field {field!r} belongs to the format {format!r} and has no place here."
        )
        for format, fields in (node.extra or {}).items()
        if format not in keep
        for field, value in fields.items()
        if value is not None and value != [] and value != {}
    ]
