"""What every request passes: its id, its key, its bounds, and whatever goes wrong, told in its dialect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from urllib.parse import urlsplit

import anyio
from starlette.exceptions import HTTPException

from antiphon.errors import APIError, APIStatusError, AuthenticationError, NotFoundError, PermissionDeniedError
from antiphon.formats.codec import Dialect
from antiphon.server.error_replies import client_error, stopping
from antiphon.server.exchange import ClientDisconnected, Exchange, Receive, Scope, Send, too_slow
from antiphon.server.gateway import Gateway

__all__ = ["UNAUTHENTICATED_PATHS", "RequestMiddleware"]

UNAUTHENTICATED_PATHS = frozenset({"/health", "/ready"})
"""The paths that need no key."""

_GRACE = 1.0
"""Seconds that the last words to a client may take."""
_MAX_WORDS = 2000
"""Characters of the message of an error: it may repeat what a client or a provider said."""
_MAX_PATH = 200
"""Characters of the path of a fault, in which a client's own names stand."""
_OWN_SITES = frozenset({"", "none", "same-origin"})
"""Values of `sec-fetch-site` with which no foreign page is behind a request (Fetch Metadata, W3C, read 2026-11-29)."""
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_EXPOSED = "x-request-id, server-timing, x-antiphon-losses"
_KEY_FIELDS = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")


class RequestMiddleware:
    """Lets requests in, and sees them out. A pure ASGI middleware.

    Args:
        app: What answers those that are let in.
        dialect: Which dialect a request speaks, whatever its path.
        gateway: Gives the settings in force.
        enter: Is told of each exchange when it begins.
        done: Is told of each exchange when it is over.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        dialect: Callable[[Exchange], Dialect],
        gateway: Callable[[], Gateway],
        enter: Callable[[Exchange], None],
        done: Callable[[Exchange], None],
    ) -> None:
        self._app = app
        self._dialect = dialect
        self._gateway = gateway
        self._enter = enter
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send)
        gateway = self._gateway()
        scope["exchange"], scope["gateway"] = exchange, gateway
        self._enter(exchange)
        try:
            with exchange.cancel_on_disconnect():
                try:
                    exchange.cors_headers = _cors(exchange, gateway.config.server.cors_origins)
                    if exchange.cors_headers and _asks_first(exchange):
                        await exchange.reply(200, b"{}", _allowed(exchange))
                        return
                    _admit(exchange, gateway)
                    await self._app(scope, receive, send)
                except ClientDisconnected:
                    exchange.outcome = "left"
                except Exception as error:  # whatever it is, the client is told in its own dialect
                    await self._refuse(exchange, error)
            await self._see_out(exchange)
        finally:
            gateway.bodies.release(exchange)
            self._done(exchange)
            exchange.end()

    async def _see_out(self, exchange: Exchange) -> None:
        """Say the last words to a client whose request was given up; they may not hold up the server."""
        if exchange.complete or exchange.outcome == "left":
            return
        if exchange.outcome == "slow":
            exchange.abort()
            return
        fault: Exception = RuntimeError("The answer ended before it was complete.")
        if exchange.outcome in ("stopping", "late"):
            fault = stopping() if exchange.outcome == "stopping" else too_slow()
        with anyio.move_on_after(_GRACE, shield=True) as clock:
            if not exchange.started:
                await self._refuse(exchange, fault)
            elif exchange.on_abort is not None:
                await exchange.on_abort(client_error(fault, exchange))
        # Either the client does not read, and would not read the rest of what it was sent, or nothing can be said.
        if clock.cancelled_caught or not exchange.complete:
            exchange.abort()

    async def _refuse(self, exchange: Exchange, error: Exception) -> None:
        fault = _routing(error, exchange) if isinstance(error, HTTPException) else client_error(error, exchange)
        exchange.failed(fault)
        fault = _shortened(fault)
        if not exchange.started:
            reply = self._dialect(exchange).encode_error(fault)
            extra = dict(getattr(error, "headers", None) or {}) if isinstance(error, HTTPException) else {}
            await exchange.refuse(reply, {name.lower(): value for name, value in extra.items()})


def _shortened(fault: APIError) -> APIError:
    """Return *fault* without the rest of what is too long to be read."""
    param = fault.param or ""
    if len(fault.message) <= _MAX_WORDS and len(param) <= _MAX_PATH:
        return fault
    short = copy(fault)
    if len(fault.message) > _MAX_WORDS:
        short.message = f"{fault.message[:_MAX_WORDS]}…"
    if len(param) > _MAX_PATH:
        short.param = f"{param[:_MAX_PATH]}…"
    return short


def _routing(error: HTTPException, exchange: Exchange) -> APIError:
    if error.status_code == 404:
        return NotFoundError(
            f"This server has nothing at {exchange.path[:200]!r}; GET /openapi.json lists what it has.",
            status=404,
            type="not_found_error",
            code="unknown_path",
        )
    return APIStatusError(
        f"{exchange.path[:200]!r} does not take {exchange.method[:20]!r}; GET /openapi.json says what it takes.",
        status=error.status_code,
        type="invalid_request_error",
        code="method_not_allowed",
    )


def _admit(exchange: Exchange, gateway: Gateway) -> None:
    """Let the request in, or raise what its client is told.

    Without keys the server is for programs on this machine alone. A web page that the user happens to look at is none
    of them, though its requests come from here too. It is known by its origin; by what its browser says of the site
    where it sends no origin, as for an image; or, where its name was made to point here, by the host that it names.

    Raises:
        AuthenticationError: There are keys, and none was given, or a wrong one.
        PermissionDeniedError: There are none, and the request comes from a web page.
    """
    if exchange.path in UNAUTHENTICATED_PATHS:
        return
    keys = gateway.config.keys
    if keys:
        presented = [_bare(value) for name in _KEY_FIELDS if (value := exchange.header(name))]
        exchange.key = next(filter(None, map(keys.check, presented)), None)
        if exchange.key is None:
            raise _wrong_key(presented)
        return
    host = _host(exchange.header(b"host"))
    if host is not None and host not in _LOCAL_NAMES and host != gateway.config.server.host:
        raise _web_page("the host that it names is not this machine")
    if exchange.cors_headers or "*" in gateway.config.server.cors_origins:
        return
    if exchange.header(b"origin"):
        raise _web_page("its origin is not among server.cors_origins")
    if exchange.header(b"sec-fetch-site") not in _OWN_SITES:
        raise _web_page("its browser says that it is for another site, and it has no origin")


def _cors(exchange: Exchange, origins: Sequence[str]) -> Mapping[str, str]:
    """Return the header fields that let a page read the answer, where its origin is one of *origins*."""
    origin = exchange.header(b"origin")
    if not origin or not origins or (origin not in origins and "*" not in origins):
        return {}
    return {"access-control-allow-origin": origin, "vary": "origin", "access-control-expose-headers": _EXPOSED}


def _asks_first(exchange: Exchange) -> bool:
    """Whether this is a browser's question if it may send the request that the page wants to send."""
    return exchange.method == "OPTIONS" and bool(exchange.header(b"access-control-request-method"))


def _allowed(exchange: Exchange) -> Mapping[str, str]:
    """Return what such a browser is told: it may send whatever header fields it names."""
    return {
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": exchange.header(b"access-control-request-headers"),
        "access-control-max-age": "600",
    }


def _host(named: str) -> str | None:
    """Return the host without its port; `None` where none is named."""
    try:
        return urlsplit(f"//{named}").hostname
    except ValueError:  # that is no host at all, so it is none of this machine's
        return named


def _bare(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return rest.strip() if rest and scheme.lower() == "bearer" else value


def _wrong_key(presented: list[str]) -> AuthenticationError:
    what = "The key is none of this server's" if presented else "This server wants a key"
    return AuthenticationError(
        f"{what}: send one as 'authorization: Bearer …', 'x-api-key', 'api-key' or 'x-goog-api-key'.",
        status=401,
        type="authentication_error",
        code="invalid_api_key",
    )


def _web_page(why: str) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"This request seems to come from a web page: {why}. Whoever runs the server can allow it: set keys, or "
        "name the page's origin in server.cors_origins.",
        status=403,
        type="permission_error",
        code="origin_not_allowed",
    )
