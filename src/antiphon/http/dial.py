"""From an address to an open connection: the race between addresses, the socket's options, a proxy's tunnel.

Source: RFC 8305, Happy Eyeballs version 2 (read 2026-11-29).
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - sockets of the running loop
import socket
from collections import deque
from itertools import chain, zip_longest

from antiphon.errors import APIConnectionError
from antiphon.http.environment import Origin, Proxy
from antiphon.http.http1 import ResponseReader, request_head
from antiphon.http.protocol import NEVER, Connection

__all__ = ["attach", "in_order", "open_tunnel", "reach"]

_STAGGER_SECONDS = 0.25
"""How long one address is tried alone: the "Connection Attempt Delay" of RFC 8305, section 5."""

_PROBE_SECONDS = 60
_PROBES = 5
"""TCP keep-alive: how long a connection is silent before a probe, the time between two, and how many go unanswered. A
model may think for minutes, and address translators forget a silent connection after 240 to 350 s; a peer that has
vanished is noticed after six minutes. The same as in Anthropic's client (0.77, `_base_client.py`)."""


def in_order(addresses: list[str], worked: str | None) -> list[str]:
    """Return *addresses* in the order to try them: the one that *worked* before, then the two families by turns.

    Their own order, which is the system's (RFC 6724), says which family begins, and is kept within a family.
    """
    version_6 = [address for address in addresses if ":" in address]
    version_4 = [address for address in addresses if ":" not in address]
    first, second = (version_6, version_4) if ":" in addresses[0] else (version_4, version_6)
    ordered = [address for address in chain.from_iterable(zip_longest(first, second)) if address]
    if worked in ordered:
        ordered.remove(worked)
        ordered.insert(0, worked)
    return ordered


async def reach(loop: asyncio.AbstractEventLoop, addresses: list[str], port: int) -> tuple[str, socket.socket]:
    """Connect to the first of *addresses* that answers, and return which that was.

    The next is tried when one has failed, or has not answered for a quarter of a second; all go on until one answers.

    Raises:
        OSError: None did; the failure of the one that failed last.
    """
    if len(addresses) == 1:
        return await _attempt(loop, addresses[0], port)
    waiting, running = deque(addresses), set[asyncio.Task[tuple[str, socket.socket]]]()
    failure = OSError("no address")
    try:
        while waiting or running:
            if waiting:
                running.add(loop.create_task(_attempt(loop, waiting.popleft(), port)))
            done, _ = await asyncio.wait(
                running, timeout=_STAGGER_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                running.remove(task)
                try:
                    return task.result()
                except OSError as error:
                    failure = error
        raise failure
    finally:
        for task in running:
            task.add_done_callback(_discard)
            task.cancel()


async def _attempt(loop: asyncio.AbstractEventLoop, address: str, port: int) -> tuple[str, socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # With its protocol: asyncio switches Nagle's algorithm off (TCP_NODELAY) only where it is named.
    tcp = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        tcp.setblocking(False)
        await loop.sock_connect(tcp, (address, port))
    except BaseException:
        tcp.close()
        raise
    return address, tcp


def _discard(task: asyncio.Task[tuple[str, socket.socket]]) -> None:
    """Close what a task that was not waited for has opened."""
    if not task.cancelled() and task.exception() is None:
        task.result()[1].close()


async def attach(loop: asyncio.AbstractEventLoop, tcp: socket.socket, origin: Origin) -> Connection:
    """Make a connection of a connected socket, which is closed with it."""
    try:
        _probe(tcp)
        _, connection = await loop.create_connection(lambda: Connection(loop, origin), sock=tcp)
    except BaseException:
        tcp.close()
        raise
    return connection


def _probe(tcp: socket.socket) -> None:
    """Switch TCP keep-alive on, with our own times where the system has a name for them."""
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": _PROBE_SECONDS,
        "TCP_KEEPALIVE": _PROBE_SECONDS,  # what macOS calls the one above
        "TCP_KEEPINTVL": _PROBE_SECONDS,
        "TCP_KEEPCNT": _PROBES,
    }
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:
            tcp.setsockopt(socket.IPPROTO_TCP, option, value)


async def open_tunnel(connection: Connection, proxy: Proxy) -> None:
    """Have *proxy* connect to the origin of *connection*.

    Raises:
        APIConnectionError: It would not.
    """
    target = str(connection.origin)
    headers = {"host": target}
    if proxy.authorization is not None:
        headers["proxy-authorization"] = proxy.authorization
    reader = ResponseReader(no_body=True)
    connection.send(request_head("CONNECT", target, headers), b"", reader)
    del headers
    while not reader.status and connection.fault is None:
        await connection.wait(NEVER)
    if connection.fault is not None or not 200 <= reader.status < 300:
        answer = f"{reader.status} {reader.reason}".strip() if reader.status else "no answer"
        raise APIConnectionError(
            f"The proxy {proxy.origin} opened no tunnel to {target}: {answer}.", retryable=reader.status >= 500
        )
    connection.reader = None
