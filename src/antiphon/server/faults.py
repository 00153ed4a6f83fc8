"""Floor 6: what a client of the server is told of an error: the right status, full sentences, nothing of the inside."""

from __future__ import annotations

import logging
import re

from antiphon.errors import (
    AntiphonError,
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    InternalServerError,
    LocalModelError,
    MissingAPIKeyError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    ProviderNotFoundError,
)

__all__ = ["overloaded", "stopping", "told"]

logger = logging.getLogger("antiphon.server")


def told(error: Exception, request_id: str) -> APIError:
    """Return *error* as a client is told of it; what the client is not told, the log is."""
    if isinstance(error, APIConnectionError):
        logger.warning("request %s: %s", request_id, error.message)
        return _unanswered(error)
    if isinstance(error, APIError):
        return error
    if isinstance(error, ModelNotFoundError | ProviderNotFoundError):
        # What a message about names says holds here too, but for the command, which is on the server's side.
        return NotFoundError(error.message, status=404, code="model_not_found", type="not_found_error", param="$.model")
    if isinstance(error, MissingAPIKeyError):
        return _without_key(error)
    if isinstance(error, AntiphonError) and not isinstance(error, LocalModelError):
        logger.error("request %s: %s: %s", request_id, type(error).__name__, error.message)
        return APIStatusError(
            f"This server cannot reach that provider as it is set up; its log says why, at the request {request_id}.",
            status=503,
            type="server_error",
        )
    logger.error("request %s failed", request_id, exc_info=error)
    return InternalServerError(
        f"This server failed; its log says why, at the request {request_id}.", status=500, type="server_error"
    )


def overloaded(most: int) -> APIError:
    """Return the error for a request beyond what the server does at once."""
    return InternalServerError(
        f"This server answers {most} requests at once and has no room now; try again in a moment.",
        status=503,
        type="overloaded_error",
        code="overloaded",
        retry_after=1.0,
    )


def stopping() -> APIError:
    """Return the error for what a server that stops does not finish."""
    return InternalServerError(
        "This server is shutting down and cannot finish the answer; try again.",
        status=503,
        type="server_error",
        code="shutting_down",
    )


def _unanswered(error: APIConnectionError) -> APIError:
    """Return *error* without where the provider is, and without what only who wrote the program could change."""
    name, kind = error.provider or "of this model", type(error)
    what = "did not answer in time" if isinstance(error, APITimeoutError) else "cannot be reached"
    return kind(f"The provider {name!r} {what}.", provider=error.provider, model=error.model)


def _without_key(error: MissingAPIKeyError) -> APIError:
    # The message is for who wrote a program; of it, a client can use the names of the variables.
    name, named = error.provider or "of that model", re.search(r"set (\w+(?: or \w+)*) in the env", error.message)
    way_out = f" Whoever runs it sets {named[1]} in its environment." if named else ""
    return PermissionDeniedError(
        f"This server has no key for the provider {name!r}.{way_out}",
        status=403,
        code="missing_provider_key",
        type="permission_error",
    )
