"""Text of others, such as a provider's, made fit for a header field or a line of the log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from antiphon.chat.losses import Loss

__all__ = ["MAX_ID", "listed_losses", "one_line", "relayed"]

MAX_ID = 200
"""Characters of a provider's id of a request that the log has."""

_MAX_LINE = 1000
_MAX_VALUE = 200
_MAX_RELAYED = 40
_MAX_LOSSES = 20
_MAX_PATH = 150
_NAME = re.compile(r"[a-z0-9-]{1,60}")
_VALUE = re.compile(rf"[ -~]{{0,{_MAX_VALUE}}}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str, most: int = _MAX_LINE) -> str:
    """Return *text* on one line, without control characters, cut to *most* characters."""
    line = _CONTROL.sub(" ", text[: most + 1])
    return line if len(line) <= most else line[: most - 1] + "…"


def relayed(fields: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return those header fields of a provider that may be header fields of an answer.

    A field with an odd name, a control character, a character beyond ASCII or more than 200 characters is left out:
    cut, its value would say something else.
    """
    fit = [(name, value) for name, value in fields if _NAME.fullmatch(name) and _VALUE.fullmatch(value)]
    return dict(fit[:_MAX_RELAYED])


def listed_losses(losses: Iterable[Loss], count: int) -> str:
    """Return what of a request was lost, the first of *count*, as the value of a header field: ASCII, 4 kB at most."""
    first = [loss for loss, _ in zip(losses, range(_MAX_LOSSES), strict=False)]
    listed = ", ".join(f"{loss.kind} {_path(loss.path)}" for loss in first)
    return f"{listed}, and {count - len(first)} more" if count > len(first) else listed


def _path(path: str) -> str:
    """Return a path, which has names of a client's fields in it, as printable ASCII of bounded length."""
    written = path[: _MAX_PATH + 1].encode("unicode_escape").decode("ascii")
    return written if len(written) <= _MAX_PATH else written[: _MAX_PATH - 3] + "..."
