"""What tests of the server's edges share: a connection byte by byte, and how each dialect asks, and tells errors."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

from antiphon.providers.catalog import ProviderRow
from antiphon.testing import Upstream

PATIENCE = 20.0
"""Seconds after which a wait in a test has failed."""

SAY_HI = [{"role": "user", "content": "hi"}]


class Dialect(NamedTuple):
    """How a dialect asks for an answer, and where it tells of an error."""

    path: str
    body: dict[str, Any]
    streamed: str
    """The path that is asked for a stream."""
    message: tuple[str, ...] = ("error", "message")
    """Where the words of an error are."""
    switch: dict[str, Any] = {"stream": True}  # noqa: RUF012 - nobody writes to it
    """What of the body asks for a stream."""

    def request(self, *, stream: bool = False, model: str = "up/x", headers: str = "") -> bytes:
        """Return a request as bytes; *headers* are further lines, each with its end."""
        path = self.streamed if stream else self.path
        body = {**self.body, **(self.switch if stream else {})}
        if "model" in body:
            body["model"] = model
        return post(path.replace("up/x", model), json.dumps(body).encode(), headers)

    def said(self, answer: Any) -> str:
        """Return the words of an error."""
        for key in self.message:
            answer = answer[key]
        assert isinstance(answer, str), answer
        return answer


DIALECTS: dict[str, Dialect] = {
    "openai": Dialect("/v1/chat/completions", {"model": "up/x", "messages": SAY_HI}, "/v1/chat/completions"),
    "text": Dialect("/v1/completions", {"model": "up/x", "prompt": "hi"}, "/v1/completions"),
    "responses": Dialect("/v1/responses", {"model": "up/x", "input": "hi"}, "/v1/responses"),
    "anthropic": Dialect("/v1/messages", {"model": "up/x", "max_tokens": 9, "messages": SAY_HI}, "/v1/messages"),
    "gemini": Dialect(
        "/v1beta/models/up/x:generateContent",
        {"contents": [{"parts": [{"text": "hi"}]}]},
        "/v1beta/models/up/x:streamGenerateContent?alt=sse",
        switch={},
    ),
    "ollama": Dialect(
        "/api/chat", {"model": "up/x", "messages": SAY_HI, "stream": False}, "/api/chat", message=("error",)
    ),
}


def post(path: str, body: bytes = b"", headers: str = "") -> bytes:
    """Write a POST with its length."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def get(path: str, headers: str = "") -> bytes:
    """Write a GET."""
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n".encode("latin-1")


def row(upstream: Upstream, codec: str = "openai-chat") -> ProviderRow:
    """Return the row of a provider that is *upstream*."""
    return ProviderRow(id="up", name="Up", codec=codec, base_url=upstream.base_url)


class Response(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)


class Wire:
    """A connection to a server of loopback; use it in a `with` block.

    Args:
        port: The server's.
        window: Bytes that the system takes in for a client that does not read.
    """

    def __init__(self, port: int, *, window: int | None = None) -> None:
        self.socket = socket.socket()
        if window is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> Self:
        """Send bytes."""
        self.socket.sendall(data)
        return self

    def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer."""
        status = self._file.readline()
        assert status.startswith(b"HTTP/1.1 "), status
        headers: dict[str, str] = {}
        while line := self._file.readline().rstrip(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(": ")
            headers[name.lower()] = value
        return int(status.split()[1]), headers

    def reply(self) -> Response:
        """Read a whole answer."""
        status, headers = self.head()
        if "content-length" in headers:
            return Response(status, headers, self._file.read(int(headers["content-length"])))
        return Response(status, headers, b"".join(iter(self.chunk, b"")))

    def chunk(self) -> bytes:
        """Read the next piece of a streamed answer: what the server wrote at once; of none, the last."""
        size = int(self._file.readline(), 16)
        data = self._file.read(size)
        assert self._file.readline() == b"\r\n"
        return data

    def rest(self) -> bytes:
        """Read until the server closes; a reset is a way to close, too."""
        pieces: list[bytes] = []
        try:
            while piece := self._file.read1():
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)

    def half_close(self) -> Self:
        """Send nothing more."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def close(self) -> None:
        """Leave."""
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ask(port: int, data: bytes) -> Response:
    """Send a request and return the answer."""
    with Wire(port) as wire:
        return wire.send(data).reply()


def eventually(holds: Callable[[], object]) -> bool:
    """Wait until something *holds* that nobody is told of, and say whether it came to that."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)  # what ends in another thread's loop tells nobody: there is nothing to wait on but time
    return True
