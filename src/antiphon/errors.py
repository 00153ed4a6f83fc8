"""Every exception that Antiphon raises, in one tree.

::

    AntiphonError
    ├── NestAsyncioError            blocking call inside a running event loop (also a RuntimeError)
    ├── ProviderNotFoundError       no provider of that name (also a LookupError)
    ├── ModelNotFoundError          no model of that name (also a LookupError)
    ├── MissingAPIKeyError          the provider wants a key and none is set
    ├── MissingExtraError           an optional part is not installed (also an ImportError)
    ├── LocalModelError             a local model's file cannot be fetched, or is not what it should be
    ├── ConfigError                 a setting that cannot be; `faults` has one line for each
    ├── ParseError                  an answer that is not of the type asked for (also a ValueError)
    └── APIError                    a provider failed to answer
        ├── APIConnectionError      no answer arrived: refused, DNS, TLS, reset before the first byte
        │   └── APITimeoutError     a clock ran out (also a TimeoutError)
        ├── APIStatusError          the provider answered with an error status
        │   ├── BadRequestError             400   malformed request; `param` is the path of the fault
        │   ├── AuthenticationError         401
        │   ├── PermissionDeniedError       403
        │   ├── NotFoundError               404
        │   ├── ConflictError               409
        │   ├── UnprocessableEntityError    422
        │   ├── RateLimitError              429
        │   └── InternalServerError         5xx
        ├── ResponseTooLargeError   an answer beyond the size bound
        └── StreamError             a stream that ended without a finish, or broke; `received` holds what had arrived

Names are the OpenAI client's where it has them (openai 3.54, read 2026-11-22), so that `except` clauses carry over.
Messages are full sentences that say what to do next; they never hold a key or a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

__all__ = [
    "KINDS",
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AntiphonError",
    "AuthenticationError",
    "BadRequestError",
    "ConfigError",
    "ConflictError",
    "InternalServerError",
    "Kind",
    "LocalModelError",
    "MissingAPIKeyError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NestAsyncioError",
    "NotFoundError",
    "ParseError",
    "PermissionDeniedError",
    "ProviderNotFoundError",
    "RateLimitError",
    "ResponseTooLargeError",
    "StreamError",
    "UnprocessableEntityError",
    "error_class",
    "refuses_key",
]


Kind = Literal[
    "auth", "billing", "permission", "not_found", "invalid", "context_length", "content_policy", "rate_limit",
    "overloaded", "server", "timeout", "stream_broken", "cancelled",
]  # fmt: skip
"""What went wrong, in the same word for every provider.

* `auth`: the key is missing, wrong or dead. `permission`: it may not do this. `billing`: nobody pays, or a quota is
  used up, which waiting does not cure. `rate_limit`: too much at once.
* `not_found`: no such model, deployment or path. `invalid`: the request is at fault. `context_length`: it is too long.
  `content_policy`: it was declined for what it says.
* `overloaded`: the provider has no room now. `server`: it failed, or cannot be reached. `timeout`: a clock ran out.
* `stream_broken`: an answer stopped in the middle, for no reason that was told. `cancelled`: somebody gave up.
"""

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("authentication_error", "invalid_api_key", "API_KEY_INVALID", "API_KEY_EXPIRED"), "auth"),
    **dict.fromkeys(("UNAUTHENTICATED", "UnrecognizedClientException", "InvalidSignatureException"), "auth"),
    **dict.fromkeys(("ExpiredTokenException", "InvalidClientTokenId", "MissingAuthenticationTokenException"), "auth"),
    "upstream_credentials": "auth",  # Antiphon's own server, of a provider that refuses the server's key
    **dict.fromkeys(("insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low"), "billing"),
    **dict.fromkeys(("contract_spend_limit_reached", "enforced_spend_limit_reached", "billing_error"), "billing"),
    "ServiceQuotaExceededException": "billing",
    **dict.fromkeys(("permission_error", "PERMISSION_DENIED", "AccessDeniedException"), "permission"),
    **dict.fromkeys(("not_found_error", "model_not_found", "NOT_FOUND", "ResourceNotFoundException"), "not_found"),
    **dict.fromkeys(("context_length_exceeded", "exceed_context_size_error", "request_too_large"), "context_length"),
    **dict.fromkeys(("content_filter", "content_policy_violation", "moderation_blocked"), "content_policy"),
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"), "rate_limit"),
    "ThrottlingException": "rate_limit",
    **dict.fromkeys(("overloaded_error", "UNAVAILABLE", "ModelNotReadyException"), "overloaded"),
    "ServiceUnavailableException": "overloaded",
    **dict.fromkeys(("ModelErrorException", "ModelStreamErrorException", "InternalServerException"), "server"),
    **dict.fromkeys(("timeout_error", "DEADLINE_EXCEEDED", "ModelTimeoutException"), "timeout"),
    **dict.fromkeys(("cancelled", "CANCELLED"), "cancelled"),
}
"""What providers' codes and types mean, where they mean more than the status beside them does.

Sources: those of the modules that read each format's errors, and openai 3.54 (`types/`) (read 2026-11-23).
"""

_KIND_OF_STATUS: Mapping[int, Kind] = {
    401: "auth",
    402: "billing",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "server",
    413: "context_length",
    424: "server",
    425: "server",
    429: "rate_limit",
    498: "auth",
    499: "cancelled",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
_SAID: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "context_length",
        re.compile(
            r"(?:prompt|input) is too long|maximum context length|exceeds? (?:the )?(?:available )?context"
            r"|exceeds the maximum number of tokens|too many tokens",
            re.IGNORECASE,
        ),
    ),
    ("billing", re.compile(r"credit balance is too low|insufficient (?:balance|credits|funds)", re.IGNORECASE)),
    ("auth", re.compile(r"api key (?:not valid|expired)|invalid api key", re.IGNORECASE)),
    ("content_policy", re.compile(r"content (?:management |filtering )?policy|flagged", re.IGNORECASE)),
)
"""What a provider's words mean, of the errors that have neither a code nor a status of their own."""

_VAGUE = (None, 400, 403, 422)


class AntiphonError(Exception):
    """The root of the tree.

    Attributes:
        message: One or two full sentences; what `str()` gives.
        provider: Name of the provider, or `None` where none was chosen yet.
        model: Name of the model as the provider knows it, or `None`.
    """

    def __init__(self, message: str, *, provider: str | None = None, model: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without calling `__init__` again, so that errors cross process borders whole."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[AntiphonError], args: tuple[Any, ...], state: dict[str, Any]) -> AntiphonError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class NestAsyncioError(AntiphonError, RuntimeError):
    """A blocking call was made inside a running event loop, where nesting is not allowed."""


class ProviderNotFoundError(AntiphonError, LookupError):
    """No provider has that name; the message lists near matches."""


class ModelNotFoundError(AntiphonError, LookupError):
    """No model has that name; the message lists near matches."""


class MissingAPIKeyError(AntiphonError):
    """The provider wants a key and none is set; the message names the environment variable."""


class MissingExtraError(AntiphonError, ImportError):
    """An optional part is not installed; the message names the command that installs it."""


class LocalModelError(AntiphonError):
    """A local model's file cannot be fetched, or is not what it should be; the message says what to do instead."""


class ConfigError(AntiphonError):
    """The configuration cannot be used; the message has a line for each fault.

    Attributes:
        faults: Those lines, `FILE:LINE: $.server.port must be …`; where a setting came from elsewhere, that stands in
            the place of file and line.
    """

    def __init__(
        self, message: str, *, faults: tuple[str, ...] = (), provider: str | None = None, model: str | None = None
    ) -> None:
        super().__init__(message, provider=provider, model=model)
        self.faults = faults or (message,)


class ParseError(AntiphonError, ValueError):
    """An answer is not of the type that was asked for: malformed, misfitting, cut off, or declined.

    Attributes:
        text: What the model wrote; the message never quotes it. `""` where it wrote nothing.
        path: Where in it the fault is, as `$.people[0].name`; `$` where it is the whole.
        completion: The whole answer, a `Completion`.
    """

    def __init__(
        self,
        message: str,
        *,
        text: str = "",
        path: str = "$",
        completion: Any = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__(message, provider=provider, model=model)
        self.text = text
        self.path = path
        self.completion = completion


class APIError(AntiphonError):
    """A provider failed to answer.

    Attributes:
        status: HTTP status, or `None` where no answer arrived or none applies.
        code: The provider's own short name of the fault (`rate_limit_exceeded`), or `None`.
        type: The provider's own class of the fault (`invalid_request_error`), or `None`.
        param: Path of the faulty request field (`$.messages[0].role`), or `None`.
        body: The decoded error body as the provider sent it, or `None`.
        request_id: The provider's id of the request, or `None`.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds the provider asked to wait, a day at most, or `None`.
        kind: What went wrong, in the same word for every provider.
        of_connection: Whether the fault is one of the connection to the provider, and not the provider's own words.
            The message then may name the provider's host and port.
    """

    of_connection = False
    retryable_by_default = False
    kind_by_default: Kind = "server"

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        body: object = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, provider=provider, model=model)
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.body = body
        self.request_id = request_id
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.retry_after = retry_after

    @property
    def status_code(self) -> int | None:
        """The OpenAI client's name for `status`."""
        return self.status

    @property
    def kind(self) -> Kind:
        """What went wrong: as the code or the type says, else the provider's words, else the status or the class."""
        for name in (self.code, self.type):
            if name is not None and name in KINDS:
                return KINDS[name]
        if self.status in _VAGUE and self.body is not None:
            for kind, pattern in _SAID:
                if pattern.search(self.message):
                    return kind
        if self.status is None or self.status < 400:
            return self.kind_by_default
        if self.status == 502 and self.provider == "openrouter":  # which has failed at no provider by itself
            return "overloaded"
        return _KIND_OF_STATUS.get(self.status, "invalid" if self.status < 500 else "server")


class APIConnectionError(APIError):
    """No answer arrived: connection refused, unknown host, TLS failure, or a reset before the first byte."""

    retryable_by_default = True


class APITimeoutError(APIConnectionError, TimeoutError):
    """A clock ran out; the message says which: connect, first token, idle or total."""

    kind_by_default: Kind = "timeout"


class APIStatusError(APIError):
    """The provider answered with an error status."""

    kind_by_default: Kind = "invalid"


class BadRequestError(APIStatusError):
    """400: the request is malformed or not possible for this model; `param` is the path of the fault."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong or revoked."""

    kind_by_default: Kind = "auth"


class PermissionDeniedError(APIStatusError):
    """403: the key is valid but may not do this."""

    kind_by_default: Kind = "permission"


class NotFoundError(APIStatusError):
    """404: the provider has no such model, deployment or path."""

    kind_by_default: Kind = "not_found"


class ConflictError(APIStatusError):
    """409: the request conflicts with another."""

    retryable_by_default = True
    kind_by_default: Kind = "server"


class UnprocessableEntityError(APIStatusError):
    """422: well-formed, but with values the provider does not take."""


class RateLimitError(APIStatusError):
    """429: too many requests or tokens, or no quota left (then `retryable` is false)."""

    retryable_by_default = True
    kind_by_default: Kind = "rate_limit"


class InternalServerError(APIStatusError):
    """5xx: the provider failed; 529 means overloaded."""

    retryable_by_default = True
    kind_by_default: Kind = "server"


class ResponseTooLargeError(APIError):
    """The answer, or one frame of it, is larger than the bound set for it."""

    kind_by_default: Kind = "stream_broken"


class StreamError(APIError):
    """A stream ended without a finish, or broke: cut connection, malformed frame, error event inside a 200.

    Attributes:
        received: What had arrived before the fault, as a `Completion` whose `finish_reason` is `None`;
            `None` where the caller already has it piece by piece and nothing was assembled.
    """

    kind_by_default: Kind = "stream_broken"
    received: Any = None


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def error_class(status: int) -> type[APIStatusError]:
    """Return the class for an HTTP error status; other 4xx give `APIStatusError` itself."""
    if status >= 500:
        return InternalServerError
    return _BY_STATUS.get(status, APIStatusError)


def refuses_key(error: APIError) -> bool:
    """Whether a provider refuses the key that it was sent, or says that the key may not do this.

    A 403 that is about what the request says, as OpenRouter has it for moderation, is none of these.
    """
    if error.kind in ("auth", "permission") or error.status in (401, 407):
        return True
    return error.status == 403 and error.kind not in ("content_policy", "context_length")
