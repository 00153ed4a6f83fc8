"""`Upstream`: a real HTTP server on loopback that speaks the server side of a wire format."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

import msgspec

from antiphon.chat.answers import Completion
from antiphon.chat.embeddings import Embedding, Embeddings, EmbeddingUsage
from antiphon.chat.events import End, Event, MessageDelta, Start, TextDelta, fold, unfold
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, BadRequestError
from antiphon.formats.codec import Codec
from antiphon.formats.embeddings import OpenAIEmbeddings
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.testing.faults import Fault

__all__ = ["SeenRequest", "Upstream", "vector_of"]


class SeenRequest(msgspec.Struct, frozen=True):
    """A request that an `Upstream` got."""

    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


Answer: TypeAlias = str | Completion | Iterable[Event] | Fault


_USAGE = Usage(input_uncached=3, output_visible=2)


_BLOCK = 64 * 1024


class Upstream:
    """A real HTTP server on loopback that speaks the server side of a wire format; use it in a `with` block.

    Args:
        answer: What it says, or a function from the request to that: text, a `Completion`, events, or a `Fault`.
        fault: Misbehaves on every answer in this way.
        codec: The wire format; OpenAI Chat Completions if not given.
        models: What `GET /models` lists.
        tls: Serves HTTPS with this context.
    """

    def __init__(
        self,
        answer: Answer | Callable[[ChatRequest], Answer] = "Hello there",
        *,
        fault: Fault | None = None,
        codec: Codec | None = None,
        models: Iterable[str] = ("test-model",),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer = answer
        self.fault = fault
        self.codec: Codec = codec or OpenAIChat()
        self.models = tuple(models)
        self.requests: list[SeenRequest] = []
        """Every request so far, in order."""
        self._stopped = threading.Event()
        self._left = threading.Condition()
        self._connections: set[socket.socket] = set()
        self.accepted = 0
        """Connections so far."""
        self._server = _Server(self, tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        """What to pass as `base_url`."""
        scheme = "https" if self._server.tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        with self._left:
            return len(self._connections)

    def wait_until_left(self, *, at_most: float = 10.0) -> bool:
        """Wait until every client has gone; say whether that happened within *at_most* seconds."""
        with self._left:
            return self._left.wait_for(lambda: not self._connections, at_most)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop every connection and stop."""
        self._stopped.set()
        self._server.shutdown()
        with self._left:
            for connection in self._connections:
                _shut(connection)
        self._server.server_close()
        self._thread.join()

    def opened(self, connection: socket.socket) -> None:
        """Take note of a client that came."""
        with self._left:
            self._connections.add(connection)
            self.accepted += 1
            if self._stopped.is_set():
                _shut(connection)

    def closed(self, connection: socket.socket) -> None:
        """Take note of a client that left."""
        with self._left:
            self._connections.discard(connection)
            self._left.notify_all()

    def events(self, request: ChatRequest, answer: Answer) -> list[Event]:
        """Return the events of *answer*; text comes word by word, with a usage."""
        if isinstance(answer, Completion):
            return list(unfold(answer))
        if not isinstance(answer, str):
            return list(cast(Iterable[Event], answer))
        start = Start(id="chatcmpl-1", model=request.model, created=1)
        words = [TextDelta(word) for word in re.findall(r"\s*\S+|\s+$", answer)]
        return [start, MessageDelta(role="assistant"), *words, End("stop", _USAGE)]


def vector_of(text: str) -> list[float]:
    """Return the embedding that `Upstream` gives a text: its letters, its words and its lines."""
    return [float(len(text)), float(len(text.split())), float(len(text.splitlines()))]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 1024
    """With the 5 of its base class, a hundred clients that come at once wait for TCP to try again, seconds each."""

    def __init__(self, upstream: Upstream, tls: ssl.SSLContext | None) -> None:
        self.upstream = upstream
        self.tls = tls
        super().__init__(("127.0.0.1", 0), _Exchange)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        self.upstream.opened(request)
        try:
            if self.tls is not None:
                request.do_handshake()
            super().process_request_thread(request, client_address)
        except OSError:  # the client did not like the certificate, or left
            self.shutdown_request(request)
        finally:
            self.upstream.closed(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that left: that is what tests are about."""


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """List the models."""
        self._see(b"")
        upstream = self.server.upstream
        listed = [{"id": id, "object": "model", "created": 1, "owned_by": "test"} for id in upstream.models]
        if not self._misbehave(upstream.fault):
            self._whole(msgspec.json.encode({"object": "list", "data": listed}), upstream.fault)

    def do_POST(self) -> None:
        """Answer a request."""
        upstream = self.server.upstream
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._see(body)
        if self.path.partition("?")[0].endswith("/embeddings"):
            self._embed(body)
            return
        try:
            request = upstream.codec.decode_request(body, self.path)
        except BadRequestError as error:
            reply = upstream.codec.encode_error(error)
            headers = {name: value for name, value in reply.headers.items() if name != "content-type"}
            self._reply(reply.status, reply.body, headers=headers)
            return
        answer = upstream.answer(request) if callable(upstream.answer) else upstream.answer
        fault = upstream.fault
        if isinstance(answer, Fault):
            fault, answer = answer, ""
        if self._misbehave(fault):
            return
        events = upstream.events(request, answer)
        if request.stream:
            self._stream(request, events, fault)
        else:
            self._whole(upstream.codec.encode_response(fold(events)), fault)

    def _embed(self, body: bytes) -> None:
        """Answer a request for embeddings with a vector of three numbers for each text."""
        upstream, codec = self.server.upstream, OpenAIEmbeddings()
        try:
            request = codec.decode_request(body)
        except BadRequestError as error:
            self._reply(400, OpenAIChat().encode_error(error).body)
            return
        if self._misbehave(upstream.fault):
            return
        vectors = (Embedding(vector_of(text), index) for index, text in enumerate(request.texts))
        tokens = sum(len(text.split()) for text in request.texts)
        answer = Embeddings(data=tuple(vectors), model=request.model, usage=EmbeddingUsage(tokens, tokens))
        base64 = msgspec.json.decode(body).get("encoding_format") == "base64"
        self._whole(codec.encode_response(answer, base64=base64), upstream.fault)

    def _see(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.upstream.requests.append(SeenRequest(self.command, self.path, headers, body))

    def _reply(
        self, status: int, body: bytes, content_type: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _misbehave(self, fault: Fault | None) -> bool:
        """Do what a fault that knows no answer does; say whether this was one."""
        if fault is None:
            return False
        if fault.kind == "status":
            self._reply(fault.status, fault.body, fault.content_type, fault.headers)
        elif fault.kind == "huge":
            self._huge(fault.after)
        elif fault.kind == "stall" and fault.after < 0:
            self._stall()
        else:
            return False
        return True

    def _head(self, size: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(size))
        self.end_headers()

    def _huge(self, size: int) -> None:
        head, tail = b'{"huge": "', b'"}'
        filling = max(0, size - len(head) - len(tail))
        self._head(len(head) + filling + len(tail))
        self.wfile.write(head)
        for block in (*([_BLOCK] * (filling // _BLOCK)), filling % _BLOCK):
            self.wfile.write(b"x" * block)
        self.wfile.write(tail)

    def _whole(self, body: bytes, fault: Fault | None) -> None:
        if fault is None:
            self._reply(200, body)
        elif fault.kind == "error_inside":
            self._reply(200, self.server.upstream.codec.encode_error(APIError(fault.body.decode())).body)
        elif fault.kind == "garbage":
            self._reply(200, b"\x00\xff<html>not json")
        elif fault.kind == "half_frame":
            self._reply(200, body[: len(body) // 2])
        else:
            self._head(len(body))
            self.wfile.write(body[: fault.after if fault.kind == "cut" else 0])
            self._drop() if fault.kind == "cut" else self._stall()

    def _stream(self, request: ChatRequest, events: list[Event], fault: Fault | None) -> None:
        encoder = self.server.upstream.codec.encoder(request)
        frames = [frame for event in events for frame in encoder.feed(event)]
        self.send_response(200)
        self.send_header("content-type", self.server.upstream.codec.stream_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if fault is None:
            for frame in frames:
                self._chunk(frame)
        elif fault.kind == "cut":
            self._chunk(b"".join(frames)[: fault.after])
            self._drop()
            return
        else:
            for frame in frames[: fault.after]:
                self._chunk(frame)
            if fault.kind == "stall":
                self._stall()
                return
            following = frames[fault.after] if fault.after < len(frames) else b"data: {}\n\n"
            last = {
                "half_frame": following[: len(following) // 2],
                "garbage": b"data: \xff\xfe not json\n\n",
                "error_inside": encoder.error(APIError(fault.body.decode())),
            }
            self._chunk(last[fault.kind])
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _stall(self) -> None:
        """Send nothing more until the client leaves or the server stops."""
        self.wfile.flush()
        self.close_connection = True
        try:
            while self.connection.recv(4096):
                pass
        except OSError:
            pass  # a reset is a way to leave too

    def _drop(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        _shut(self.connection)


def _shut(connection: socket.socket) -> None:
    try:
        # An SSLSocket's own method forgets its session, which the thread that shakes hands would then trip over.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # it was closed already
