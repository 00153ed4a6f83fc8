"""Servers that do what a script says, byte by byte: for tests of what is not supposed to happen."""

from __future__ import annotations

import queue
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

PATIENCE = 10.0
"""Seconds after which a wait in a test has failed."""


class Seen(NamedTuple):
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


class Line:
    """One connection, as the script of a server sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""

    def request(self) -> Seen | None:
        """Read one whole request; `None` where the client closed instead."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            if not self._more():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Seen(first, headers, body)

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)

    def send(self, data: bytes) -> Self:
        """Send bytes."""
        self.socket.sendall(data)
        return self

    def reset(self) -> None:
        """Close such that the client sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_for_close(self) -> bool:
        """Wait until the client has closed; tell whether it did, rather than send something."""
        try:
            return self.socket.recv(1) == b""
        except OSError:
            return True


Script = Callable[[Line], object]


class Peer:
    """A server on a loopback port: runs *script* for each connection, in a thread of its own.

    Attributes:
        seen: Requests that `answering` scripts have read.
        connections: How many connections were made.
        events: Whatever the script puts in.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.events: queue.Queue[object] = queue.Queue()
        self.script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="peer", daemon=True)]
        self._threads[0].start()

    def url(self, path: str = "/v1/chat", host: str = "127.0.0.1") -> str:
        """Return the URL of *path* on this server."""
        return f"http{'s' if self._tls else ''}://{host}:{self.port}{path}"

    def event(self) -> object:
        """Wait for the next event."""
        return self.events.get(timeout=PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name="peer", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        raw = connection
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            self.script(Line(connection))
        except OSError as error:
            self.events.put(error)
        finally:
            connection.close()
            raw.close()
            self._open -= {raw, connection}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script did not end"


def reply(body: bytes = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    """Write a response with a length."""
    head = "".join(f"{field}\r\n" for field in (*fields, f"content-length: {len(body)}"))
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Write a chunk; of no bytes, the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def answering(*replies: bytes) -> Peer:
    """Make a server that answers the requests of a connection with *replies*, in turn; the last one again and again."""

    def script(line: Line) -> None:
        left = list(replies)
        while (seen := line.request()) is not None:
            peer.seen.append(seen)
            line.send(left.pop(0) if len(left) > 1 else left[0])

    peer = Peer(script)
    return peer


def proxy(*, refuse: bytes = b"") -> Peer:
    """Make a proxy for http and, by CONNECT, anything else; all of it stays on loopback."""

    def script(line: Line) -> None:
        seen = line.request()
        if seen is None:
            return
        server.seen.append(seen)
        if refuse:
            line.send(refuse)
            return
        method, target, _ = seen.line.split(" ")
        if method != "CONNECT":
            line.send(reply(b"by proxy"))
            return
        host, port = re.fullmatch(r"(.+):(\d+)", target).groups()  # type: ignore[union-attr]
        with socket.create_connection((host, int(port))) as upstream:
            line.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, line.socket), daemon=True)
            back.start()
            _pump(line.socket, upstream)
            back.join(PATIENCE)

    server = Peer(script)
    return server


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
