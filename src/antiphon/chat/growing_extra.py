"""The `extra` of what comes piece by piece. No I/O."""

from __future__ import annotations

from typing import Any, TypeGuard

from antiphon.chat.messages import Extra

__all__ = ["GrowingExtra"]


class GrowingExtra:
    """The `extra` of what grows: later fields replace earlier ones of their name; where lists *grow*, they are joined.

    Each field is looked at once, however many events bring one.
    """

    __slots__ = ("_fields", "_grow")

    def __init__(self, *, grow: bool) -> None:
        self._grow = grow
        self._fields: dict[str, dict[str, Any]] = {}

    def add(self, extra: Extra) -> None:
        """Take the fields of the next piece."""
        for format, fields in extra.items():
            known = self._fields.setdefault(format, {})
            for key, value in fields.items():
                before = known.get(key)
                if self._grow and _is_list(value) and _is_list(before):
                    before += value
                else:
                    known[key] = _own(value)

    def done(self) -> Extra | None:
        """Return the fields, in containers that do not change with what comes later; `None` where there are none."""
        return {
            format: {key: _own(value) for key, value in fields.items()} for format, fields in self._fields.items()
        } or None


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return type(value) is list


def _own(value: Any) -> Any:
    """Return *value*; of a list a copy, which may grow."""
    return list(value) if _is_list(value) else value
