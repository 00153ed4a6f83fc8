"""What can go wrong on the way to a server and back, put into words.

These functions give errors rather than raise them: raised where no other is being handled, an error has no lower one as
its cause or context, whose message might quote a URL. What is of use in the lower one is in the words.
"""

from __future__ import annotations

import socket
import ssl

from antiphon.errors import APIConnectionError, APIError, APIStatusError, APITimeoutError, StreamError
from antiphon.http.environment import Origin, Proxy
from antiphon.http.http1 import MalformedError

__all__ = ["all_in_use", "connect_error", "no_response_error", "read_error", "redirected", "timeout_error"]


def timeout_error(origin: Origin, clock: str, seconds: float | None) -> APITimeoutError:
    """Say which of the clocks of `Timeout` ran out, and how to give it more."""
    what = {
        "connect": f"No connection to {origin} stood",
        "first_token": f"{origin} sent no token of an answer",
        "idle": f"{origin} sent nothing more of its answer",
        "total": f"The exchange with {origin} did not end",
    }[clock]
    return APITimeoutError(
        f"{what} within {seconds:g} s. This is the {clock.replace('_', '-')} clock: "
        f"give it more with timeout=Timeout({clock}=…), or no limit with None."
    )


def all_in_use(origin: Origin, most: int, name: str, seconds: float | None) -> APITimeoutError:
    """Say that no connection became free, by which timeout, and what to do."""
    return APITimeoutError(
        f"All {most} connections to {origin} that this client may have are in use, and none became free within "
        f"{seconds:g} s, the {name} timeout. Make fewer calls at once, or allow more connections: they are the "
        "max_connections of HTTPTransport and HttpxTransport."
    )


def connect_error(origin: Origin, proxy: Proxy | None, error: OSError) -> APIConnectionError:
    """Say why no connection came about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return APIConnectionError(
            f"The certificate of {origin} is not trusted: {error.verify_message}. Where a private authority signs "
            "certificates, set SSL_CERT_FILE to a PEM file that holds its own, or pass it as verify='…'.",
            retryable=False,
        )
    if isinstance(error, ssl.SSLError):
        return APIConnectionError(
            f"No TLS connection to {origin}: {error.reason}. Does that port speak https?", retryable=False
        )
    peer = str(origin) if proxy is None else f"the proxy {proxy.origin}"
    if isinstance(error, socket.gaierror):
        return APIConnectionError(
            f"The host of {peer} has no known address ({error.strerror}). Check its name, and the network."
        )
    if isinstance(error, ConnectionRefusedError):
        return APIConnectionError(f"No connection to {peer}: refused. Does the server run, and on that port?")
    return APIConnectionError(f"No connection to {peer}: {_reason(error)}.")


def no_response_error(origin: Origin, fault: Exception) -> APIConnectionError:
    """Say why no head of a response came."""
    if isinstance(fault, MalformedError):
        return APIConnectionError(
            f"{origin} does not answer in HTTP/1.1: {fault}. Is this the right port, and the right one of http and "
            "https?",
            retryable=False,
        )
    if isinstance(fault, ssl.SSLError):
        return APIConnectionError(
            f"{origin} ended the TLS connection: {fault.reason or 'no reason given'}. If it asks for a certificate of "
            "the client, pass one that it accepts as cert=('certificate.pem', 'key.pem').",
            retryable=False,
        )
    return APIConnectionError(f"{origin} broke the connection before it answered: {_reason(fault)}.")


def read_error(origin: Origin, fault: Exception, begun: bool) -> APIError:
    """Say why a body ended before its end; *begun* tells whether any of it had come."""
    if isinstance(fault, MalformedError):
        return StreamError(f"The answer of {origin} is malformed: {fault}.")
    if begun:
        return StreamError(f"The answer of {origin} broke off in the middle: {_reason(fault)}.")
    return APIConnectionError(f"{origin} broke the connection before the body of its answer: {_reason(fault)}.")


def redirected(origin: Origin, status: int, location: str) -> APIStatusError:
    """Say where the server would have the request go."""
    # The rest of a location may hold what is nobody's business.
    target = "" if "@" in location else location.partition("?")[0]
    return APIStatusError(
        f"{origin} redirects to {target or 'another place'!r}, and redirects are not followed: the key would go along. "
        "If that is the right place, make it the base URL.",
        status=status,
    )


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".").lower()
