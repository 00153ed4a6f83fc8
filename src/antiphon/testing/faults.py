"""Ways in which `Upstream` misbehaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

__all__ = ["Fault"]


class Fault(msgspec.Struct, frozen=True):
    """A way in which an `Upstream` misbehaves; made by the functions below."""

    kind: Literal["status", "stall", "cut", "half_frame", "garbage", "error_inside", "huge"]
    after: int = 0
    """Frames, or bytes for `cut`, that are sent first; -1 for a stall before the status line."""
    status: int = 200
    headers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    body: bytes = b""
    content_type: str = "application/json"

    @classmethod
    def of_status(
        cls,
        status: int,
        body: bytes | str | None = None,
        *,
        retry_after: str | None = None,
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Answer with an error status, and with an error body of OpenAI's shape unless *body* is given."""
        if body is None:
            body = msgspec.json.encode({"error": {"message": f"status {status}", "type": "test", "code": None}})
        headers = {**(headers or {}), **({} if retry_after is None else {"retry-after": retry_after})}
        data = body.encode() if isinstance(body, str) else body
        return cls("status", status=status, headers=headers, body=data, content_type=content_type or "application/json")

    @classmethod
    def stall(cls, *, after: int = 0) -> Fault:
        """Send *after* frames and then nothing, without closing; -1: not even a status line."""
        return cls("stall", after)

    @classmethod
    def cut(cls, *, after: int) -> Fault:
        """Drop the connection after *after* bytes of the body."""
        return cls("cut", after)

    @classmethod
    def half_frame(cls, *, after: int = 1) -> Fault:
        """Send *after* frames and half of the next, and end the body as if it were whole."""
        return cls("half_frame", after)

    @classmethod
    def garbage(cls, *, after: int = 0) -> Fault:
        """Send *after* frames and then bytes that are no frame."""
        return cls("garbage", after)

    @classmethod
    def error_inside(cls, message: str = "overloaded", *, after: int = 0) -> Fault:
        """Answer 200, send *after* frames, and then an error in the format's own shape."""
        return cls("error_inside", after, body=message.encode())

    @classmethod
    def huge(cls, size: int) -> Fault:
        """Answer 200 with a JSON object of *size* bytes."""
        return cls("huge", size)
