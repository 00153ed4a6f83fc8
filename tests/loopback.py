"""Keeps the suite on this machine: whatever would leave it is refused before anything is sent.

Python's own sockets are watched by an audit hook; pyreqwest connects from Rust, where no hook is called, so its
requests are looked at when they are built. A loop of uvloop connects unseen, and child processes are not watched.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable
from typing import Any

from pyreqwest.request import RequestBuilder, SyncRequestBuilder

INTERNET = (socket.AF_INET, socket.AF_INET6)


class BeyondLoopbackError(RuntimeError):
    """A test was about to talk to another machine."""


class Guard:
    """The two switches; both are on unless a marker says otherwise."""

    sockets = True
    requests = True


def is_loopback(host: str | bytes | None) -> bool:
    """Tell whether *host*, a name or an address, stands for this machine alone; `None` and `""` are no host at all."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse(what: str, host: object) -> None:
    raise BeyondLoopbackError(
        f"{what} with {host!r}: tests stay on loopback. Use a server of `antiphon.testing`, or mark the test `live`."
    )


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith("socket.") or not Guard.sockets:
        return
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        endpoint, address = arguments
        # An empty host means every interface to bind(), so it is not let through here.
        if endpoint.family in INTERNET and address and not (address[0] and is_loopback(address[0])):
            _refuse(event, address[0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr") and not is_loopback(
        arguments[0]
    ):
        _refuse(event, arguments[0])


def _checked(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def checked(builder: Any) -> Any:
        request = build(builder)
        if Guard.requests and not is_loopback(request.url.host_str):
            _refuse("pyreqwest", request.url.host_str)
        return request

    return checked


def install() -> None:
    """Begin to watch, for as long as the process lives; call it once."""
    sys.addaudithook(_watch)
    for builder in (RequestBuilder, SyncRequestBuilder):
        for name in ("build", "build_streamed"):
            setattr(builder, name, _checked(getattr(builder, name)))
