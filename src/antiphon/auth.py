"""Floor 3: where keys come from, how a request is signed, and how secrets are kept out of everything else.

A key lives in a `Secret` from the moment it is read until it is written into a request. Nothing that prints, logs,
copies into an error or pickles a `Secret` gets at its value; only `reveal()` does.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterable, Mapping
from typing import NoReturn, Protocol, Self
from urllib.parse import quote

from antiphon.errors import AntiphonError
from antiphon.wire.codec import Headers, HTTPRequest

__all__ = ["Auth", "HiddenHeaders", "Secret", "bearer", "find_key", "header", "no_auth", "redact"]

_MASK = "…"
_SHORTEST = 8
"""Characters from which on a key is struck out of texts. Shorter ones are placeholders for servers that want any key
("none", "EMPTY"): striking those out would only make messages unreadable."""


class Secret:
    """A key that does not show itself: no character of it is in `repr`, `str`, a format, JSON or a traceback.

    Spaces and line ends around it, as files and copied text have them, are not part of it. An empty one is false.
    Two are compared in constant time. Copying gives the same object; pickling is refused.

    Raises:
        AntiphonError: The key holds a character that no HTTP header may hold.
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        clean = value.strip()
        object.__setattr__(self, "_value", "")
        if not (clean.isascii() and clean.isprintable()):
            # The traceback of this error may be printed with the locals of its frames, this object among them.
            del value, clean
            raise AntiphonError(
                "The API key holds a character that no key has: a line break, a control character or one that is not "
                "ASCII. Copy it again, and check the file or the variable that it came from."
            )
        object.__setattr__(self, "_value", clean)

    def reveal(self) -> str:
        """Return the key itself. Keep it out of variables: it is a local of every traceback that passes."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})" if self else "Secret('')"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self.reveal()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("A Secret does not change; make another one.")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret is not pickled. Let the other process read its key itself.")


class HiddenHeaders(dict[str, str]):
    """Header fields whose values `repr` does not show; merging with `|` gives such fields again."""

    def __repr__(self) -> str:
        return f"HiddenHeaders({', '.join(f'{name}={_MASK}' for name in self)})"

    def __or__(self, other: Mapping[str, str]) -> HiddenHeaders:  # type: ignore[override]
        return HiddenHeaders({**self, **other})

    def __ror__(self, other: Mapping[str, str]) -> HiddenHeaders:  # type: ignore[override]
        return HiddenHeaders({**other, **self})


class Auth(Protocol):
    """How a request is signed: takes the request and the whole URL, gives the header fields to add."""

    def __call__(self, request: HTTPRequest, url: str, /) -> Headers:
        """Sign *request* for *url*."""
        ...


def no_auth(request: HTTPRequest, url: str, /) -> Headers:
    """Add nothing: for servers that take no key."""
    return {}


def bearer(secret: Secret) -> Auth:
    """Sign with `authorization: Bearer …`, as OpenAI and most others want it."""
    fields = HiddenHeaders(authorization="Bearer " + secret.reveal())
    return lambda request, url, /: fields


def header(name: str, secret: Secret) -> Auth:
    """Sign with the bare key in the field *name*: `x-api-key`, `api-key`, `x-goog-api-key`."""
    fields = HiddenHeaders({name.lower(): secret.reveal()})
    return lambda request, url, /: fields


def find_key(explicit: str | Secret | None, env_names: Iterable[str]) -> Secret | None:
    """Return the key to use: *explicit* where given, else the first of the variables *env_names* that is set.

    The environment is read at every call. What is empty, or only spaces, counts as not given.

    Raises:
        AntiphonError: The key holds a character that no key has.
    """
    if explicit:
        secret = explicit if isinstance(explicit, Secret) else Secret(explicit)
        if secret:
            return secret
    for name in env_names:
        if secret := Secret(os.environ.get(name, "")):
            return secret
    return None


def redact(text: str, *secrets: Secret) -> str:
    """Return *text* with each of the *secrets* struck out, also as written in a URL or in JSON.

    Secrets of fewer than eight characters stay: those are placeholders, not keys.
    """
    for secret in secrets:
        value = secret.reveal()
        if len(value) < _SHORTEST:
            continue
        for form in (value, quote(value, safe=""), json.dumps(value)[1:-1], value.replace("/", r"\/")):
            text = text.replace(form, _MASK)
    return text
