"""Floor 0: every exception that Antiphon raises, in one tree.

::

    AntiphonError
    ├── NestAsyncioError            blocking call inside a running event loop (also a RuntimeError)
    ├── ProviderNotFoundError       no provider of that name (also a LookupError)
    ├── ModelNotFoundError          no model of that name (also a LookupError)
    ├── MissingAPIKeyError          the provider wants a key and none is set
    ├── MissingExtraError           an optional part is not installed (also an ImportError)
    ├── LocalModelError             a local model's file cannot be fetched, or is not what it should be
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

from typing import Any

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AntiphonError",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "InternalServerError",
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
]


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
        retry_after: Seconds the provider asked to wait, or `None`.
    """

    retryable_by_default = False

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


class APIConnectionError(APIError):
    """No answer arrived: connection refused, unknown host, TLS failure, or a reset before the first byte."""

    retryable_by_default = True


class APITimeoutError(APIConnectionError, TimeoutError):
    """A clock ran out; the message says which: connect, first token, idle or total."""


class APIStatusError(APIError):
    """The provider answered with an error status."""


class BadRequestError(APIStatusError):
    """400: the request is malformed or not possible for this model; `param` is the path of the fault."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong or revoked."""


class PermissionDeniedError(APIStatusError):
    """403: the key is valid but may not do this."""


class NotFoundError(APIStatusError):
    """404: the provider has no such model, deployment or path."""


class ConflictError(APIStatusError):
    """409: the request conflicts with another."""

    retryable_by_default = True


class UnprocessableEntityError(APIStatusError):
    """422: well-formed, but with values the provider does not take."""


class RateLimitError(APIStatusError):
    """429: too many requests or tokens, or no quota left (then `retryable` is false)."""

    retryable_by_default = True


class InternalServerError(APIStatusError):
    """5xx: the provider failed; 529 means overloaded."""

    retryable_by_default = True


class ResponseTooLargeError(APIError):
    """The answer, or one frame of it, is larger than the bound set for it."""


class StreamError(APIError):
    """A stream ended without a finish, or broke: cut connection, malformed frame, error event inside a 200.

    Attributes:
        received: What had arrived before the fault, as a `Completion` whose `finish_reason` is `None`;
            `None` where the caller already has it piece by piece and nothing was assembled.
    """

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
