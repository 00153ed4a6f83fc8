"""Recorded exchanges of real providers, read from `../shared/cassettes`; where that is absent there are none."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import msgspec

SHARED = Path(os.environ.get("ANTIPHON_SHARED") or Path(__file__).parents[2] / "shared").resolve()
"""The folder beside the clone, or the one that ANTIPHON_SHARED names; it may not exist."""

CASSETTES = SHARED / "cassettes"


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what was answered; `CASSETTES/README.md` explains the fields."""

    method: str
    host: str
    url: str
    request: Any
    """The body, as JSON; `None` where it had none."""
    status: int
    content_type: str | None
    body: str
    name: str = ""
    """The file's path below `CASSETTES`."""

    @property
    def content(self) -> bytes:
        """The answer's body as bytes; JSON bodies were laid out anew by the recorder, so compare those as JSON."""
        if self.body.startswith("base64:"):
            return base64.b64decode(self.body.removeprefix("base64:"))
        return self.body.encode()


def exchanges(pattern: str = "*/*.json") -> list[Exchange]:
    """Read every recording whose path below `CASSETTES` matches *pattern*, in order of their names."""
    return [
        msgspec.structs.replace(
            msgspec.json.decode(path.read_bytes(), type=Exchange), name=path.relative_to(CASSETTES).as_posix()
        )
        for path in sorted(CASSETTES.glob(pattern))
    ]
