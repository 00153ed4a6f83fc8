"""Where keys come from, how a request is signed, and how secrets are kept out of everything else.

A key lives in a `Secret` from the moment it is read until it is written into a request. Nothing that prints, logs,
copies into an error or pickles a `Secret` gets at its value; only `reveal()` does.
"""

from __future__ import annotations

import base64
import functools
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NoReturn, Protocol, Self
from urllib.parse import urlsplit

from antiphon.errors import AntiphonError, MissingAPIKeyError, MissingExtraError
from antiphon.formats.codec import Headers, HTTPRequest

__all__ = [
    "AWSSignature",
    "Auth",
    "HiddenHeaders",
    "Secret",
    "bearer",
    "find_key",
    "header",
    "no_auth",
    "redact",
    "redact_parts",
]

_MASK = "…"
_SHORTEST = 8
"""Characters from which on a key is struck out of texts. Shorter ones are placeholders for servers that want any key
("none", "EMPTY"): striking those out would only make messages unreadable."""
_MASKED = re.compile(r"[\w-]*[*\u2022]{2,}[\w*\u2022-]*|[\w-]+(?:\u2026|\.{3,})[\w-]+")
"""A key of which the provider shows the beginning or the end: `sk-proj-****wxyz`, `sk-a...wxyz`."""
_WORD = re.compile(r"[\w-]{4,}", re.ASCII)


class Secret:
    """A key that does not show itself: no character of it is in `repr`, `str`, a format, JSON or a traceback.

    Spaces and line ends around it, as files and copied text have them, are not part of it. An empty one is false.
    Two are compared in constant time. Copying gives the same object; pickling is refused.

    Raises:
        AntiphonError: The key holds a character that no HTTP header may hold.
        TypeError: It is no string.
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            kind = type(value).__name__
            del value
            raise TypeError(f"An API key is a string or a Secret; the one given is of the type {kind}.")
        clean = value.strip()
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
        return getattr(self, "_value", "")  # a traceback may show one that was never made to its end

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


class AWSSignature:
    """Sign with Signature Version 4, as AWS wants it, by way of botocore, which comes with the extra `bedrock`.

    Credentials are those that every tool of AWS finds: variables, files, profiles, single sign-on, the machine's role.
    They are looked for, and renewed, when a request is signed, which may read files and ask other hosts: call it in a
    thread. Signed are method, host, path and body; further header fields may be added to the request.

    Args:
        service: The name that is signed for: `bedrock`.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._credentials: Any = None

    def __call__(self, request: HTTPRequest, url: str, /) -> Headers:
        """Sign *request* for *url*, whose host or else the environment tells the region.

        Raises:
            MissingExtraError: botocore is not installed.
            MissingAPIKeyError: There are no credentials, or they cannot be renewed.
            AntiphonError: Nothing tells the region.
        """
        try:
            auth, awsrequest, failures, session = (
                import_module(f"botocore.{name}") for name in ("auth", "awsrequest", "exceptions", "session")
            )
        except ModuleNotFoundError:
            raise MissingExtraError(
                "Amazon Bedrock needs AWS_BEARER_TOKEN_BEDROCK in the environment, or botocore to sign with AWS "
                "credentials, which is not installed: pip install 'antiphon[bedrock]'",
                provider="bedrock",
            ) from None
        try:
            if self._credentials is None:
                self._credentials = session.Session().get_credentials()
            frozen = None if self._credentials is None else self._credentials.get_frozen_credentials()
        except failures.BotoCoreError as error:
            raise MissingAPIKeyError(f"AWS gives no credentials: {error}") from error
        if frozen is None:
            raise MissingAPIKeyError(
                "No AWS credentials were found. Set AWS_BEARER_TOKEN_BEDROCK to a Bedrock API key, or "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose a profile with AWS_PROFILE."
            )
        signed = awsrequest.AWSRequest(method=request.method, url=url, data=request.body)
        auth.SigV4Auth(frozen, self._service, _region(url)).add_auth(signed)
        return HiddenHeaders({name.lower(): value for name, value in signed.headers.items()})


def _region(url: str) -> str:
    """Return the region in the name of an AWS host, such as `bedrock-runtime.us-east-1.amazonaws.com`."""
    host = urlsplit(url).hostname or ""
    if found := re.search(r"(?:^|\.)[a-z-]+\.([a-z]{2,}(?:-[a-z]+)+-\d)\.", host):
        return found[1]
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if region := os.environ.get(name, "").strip():
            return region
    raise AntiphonError(f"Nothing tells the AWS region of {host!r}. Set AWS_REGION in the environment.")


def find_key(explicit: str | Secret | None, env_names: Iterable[str]) -> Secret | None:
    """Return the key to use: *explicit* where given, else the first of the variables *env_names* that is set.

    The environment is read at every call. What is empty, or only spaces, counts as not given.

    Raises:
        AntiphonError: The key holds a character that no key has.
        TypeError: *explicit* is no key at all.
    """
    if explicit is not None:
        secret = explicit if isinstance(explicit, Secret) else Secret(explicit)
        if secret:
            return secret
    for name in env_names:
        if secret := Secret(os.environ.get(name, "")):
            return secret
    return None


def redact(text: str, *secrets: Secret) -> str:
    """Return *text* with each of the *secrets* struck out, in capitals, in base64 and as in a URL, JSON or HTML too.

    Secrets of fewer than eight characters stay: those are placeholders, not keys.
    """
    for secret in secrets:
        if len(secret.reveal()) >= _SHORTEST:
            text = _written(secret).sub(_MASK, text)
    return text


@functools.lru_cache(maxsize=256)
def _written(secret: Secret) -> re.Pattern[str]:
    """Return what finds *secret* however it is written, each character by itself, escaped twice too."""
    value = secret.reveal()
    plain = "".join(
        rf"(?:\\{{0,4}}{re.escape(one)}|%(?:25){{0,2}}{ord(one):02x}"
        rf"|(?:&|&amp;)#(?:0{{0,4}}{ord(one)}|x0{{0,4}}{ord(one):x});|\\{{1,4}}u00{ord(one):02x}"
        rf"{_NAMED.get(one, '')})"
        for one in value
    )
    encoded = "|".join(re.escape(form.rstrip("=")) for form in _base64(value))
    return re.compile(rf"{plain}|(?:{encoded})=*", re.IGNORECASE)


_NAMED = {"&": "|&amp;(?:amp;)?", "<": "|&(?:amp;)?lt;", ">": "|&(?:amp;)?gt;", '"': "|&(?:amp;)?quot;"}
"""Names of characters in HTML."""


def _base64(value: str) -> set[str]:
    return {encode(value.encode()).decode() for encode in (base64.b64encode, base64.urlsafe_b64encode)}


def redact_parts(text: str, *secrets: Secret) -> str:
    """Return *text* without what a provider shows of a key that it refuses: a masked one, its beginning or its end.

    Words of four characters or more with which one of the *secrets* begins or ends are such parts, and so are longer
    ones inside of it.
    """
    values = [value for secret in secrets if len(value := secret.reveal()) >= _SHORTEST]

    def struck(word: re.Match[str]) -> str:
        part = word[0]
        inside = any(
            value.startswith(part) or value.endswith(part) or (len(part) >= _SHORTEST and part in value)
            for value in values
        )
        return _MASK if inside else part

    return _WORD.sub(struck, _MASKED.sub(_MASK, text))
