"""Keys struck out of what a provider says of an error: its message, its codes, its body."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from antiphon.providers.auth import Secret, redact, redact_parts

__all__ = ["body_without_keys", "keys_in", "without_frames", "without_keys"]

_MAX_DEPTH = 64
"""Levels of an error's body, beyond which it is not kept."""


def without_keys(text: str, *, refused: bool, secrets: tuple[Secret, ...]) -> str:
    """Return *text* without the keys in it; where a key was *refused*, without the parts of it that are shown."""
    text = redact(text, *secrets)
    return redact_parts(text, *secrets) if refused else text


def body_without_keys(body: object, clean: Callable[[str], str]) -> object:
    """Return the decoded *body* of an error with each text in it made *clean*; `None` if it is nested too deep."""
    return _mapped(body, clean) if _is_shallow(body) else None


def without_frames(error: BaseException) -> None:
    """Take from *error* the frames that it has passed so far, and from the errors that led to it theirs.

    Tracebacks are printed with the locals of their frames (rich, Sentry, `pytest -l`), and those of the functions that
    read a reply or an argument hold all of it, a repeated key too. The function that raises *error* again has to
    forget it as well: `data = b""` before `raise`.
    """
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        rest += [one.__cause__, one.__context__]
        one.__traceback__ = None


def _mapped(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_mapped(item, clean) for item in cast(Any, value)]
    if isinstance(value, dict):
        return {clean(key): _mapped(item, clean) for key, item in cast(dict[str, Any], value).items()}
    return value


def _is_shallow(value: object) -> bool:
    """Whether a JSON value is nested so little that every function that goes through it can be recursive."""
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for item in level for inner in _inner_values(item)]
        if not level:
            return True
    return False


def _inner_values(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast(dict[str, Any], value).values()
    return cast(Any, value) if isinstance(value, list) else ()


_KEY_FIELDS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie")


def keys_in(headers: Mapping[str, str]) -> Iterator[Secret]:
    """Yield the keys in the header fields of one call: `authorization: Bearer …`, `x-api-key: …`."""
    for name in _KEY_FIELDS:
        if name in headers:
            yield Secret(headers[name].rpartition(" ")[2])
