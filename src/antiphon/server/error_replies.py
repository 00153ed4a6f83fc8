"""What a client of the server is told of an error: the right status, full sentences, nothing of the inside."""

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
    ResponseTooLargeError,
    StreamError,
    refuses_key,
)
from antiphon.server.exchange import Exchange
from antiphon.server.fields import one_line

__all__ = ["client_error", "no_room", "overloaded", "stopping"]

logger = logging.getLogger("antiphon.server")


def client_error(error: Exception, exchange: Exchange) -> APIError:
    """Return *error* as the client of *exchange* is told of it; what the client is not told, the log is."""
    request_id = exchange.id
    if isinstance(error, APIError):
        return _of_provider(error, exchange)
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


def no_room(most: int) -> APIError:
    """Return the error for a request whose body does not fit among those that wait; *most* is in bytes."""
    return InternalServerError(
        f"The bodies of requests that this server is reading take all of the {most:,} bytes that there are for them; "
        "try again in a moment.",
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


def _of_provider(error: APIError, exchange: Exchange) -> APIError:
    """Return *error*, of a provider or of this server itself, without what is only for who runs the server."""
    if isinstance(error, APIConnectionError) or error.of_connection:
        logger.warning("request %s: %s", exchange.id, one_line(error.message))
        return _unanswered(error)
    if exchange.provider and not exchange.shows_refusal and refuses_key(error):
        logger.error(
            "request %s: the provider %r refuses this server's key: %s",
            exchange.id,
            exchange.provider,
            one_line(error.message),
        )
        return _refused(error, exchange)
    return error


def _unanswered(error: APIError) -> APIError:
    """Return *error* without where the provider is, and without what only who wrote the program could change."""
    name = repr(error.provider) if error.provider else "of this model"
    if isinstance(error, APITimeoutError):
        said = f"The provider {name} did not answer in time."
    elif isinstance(error, APIConnectionError):
        said = f"The provider {name} cannot be reached."
    elif isinstance(error, ResponseTooLargeError):
        said = f"The answer of the provider {name} is larger than this server takes."
    elif isinstance(error, StreamError):
        said = f"The answer of the provider {name} broke off, or is malformed."
    else:
        said = f"The provider {name} answered with a redirection, which this server does not follow."
    return type(error)(
        said,
        provider=error.provider,
        model=error.model,
        status=error.status,
        request_id=error.request_id,
        retryable=error.retryable,
    )


def _refused(error: APIError, exchange: Exchange) -> APIError:
    """Return the error for a provider that refuses the key of this server, which its client can do nothing about.

    The provider's words may show a part of the key, so none of them is in it.
    """
    return InternalServerError(
        f"The provider {exchange.provider!r} refuses the credentials of this server; its operator has to correct "
        f"them, and its log has the details, at the request {exchange.id}.",
        provider=error.provider,
        model=error.model,
        status=502,
        code="upstream_credentials",
        type="server_error",
        request_id=error.request_id,
        retryable=False,
    )


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
