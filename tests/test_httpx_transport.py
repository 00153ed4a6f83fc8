"""`HttpxTransport`, against real sockets: the rules of the own transport hold for it, and what it adds works."""

from __future__ import annotations

import asyncio
import gzip
import re
import select
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio import to_thread

import antiphon
from antiphon import AsyncClient, Client, HttpxTransport
from antiphon.chat.answers import Completion
from antiphon.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    MissingExtraError,
    ResponseTooLargeError,
    StreamError,
)
from antiphon.formats.codec import HTTPRequest
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.transport import Timeout
from tests.peers import CHUNKED, PATIENCE, Line, Peer, Script, answering, chunk, proxy, reply

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]),
    # httpx2 looks for certificates and h11 for its own version when it is first used.
    pytest.mark.may_block("httpx2 is not ours"),
]

DEFAULTS = Timeout(connect=PATIENCE, first_token=PATIENCE, idle=PATIENCE)
REQUEST = HTTPRequest(path="/v1/chat", body=b'{"model":"m"}', headers={"content-type": "application/json"})
ANSWER = OpenAIChat().encode_response(Completion.of("ok"))
JSON = "content-type: application/json"


@pytest.fixture
async def transport(no_leaks: None) -> AsyncIterator[HttpxTransport]:
    """A transport whose connections, threads and tasks must all be gone after the test."""
    made = HttpxTransport(verify=False)
    yield made
    await made.aclose()


async def call(
    transport: HttpxTransport, url: str, clocks: Timeout = DEFAULTS, headers: dict[str, str] | None = None
) -> bytes:
    """Make one exchange and return the body."""
    async with transport.open(url, REQUEST, headers=headers or {}, timeout=clocks) as answer:
        return b"".join([data async for data in answer])


async def event(peer: Peer) -> object:
    """Wait for a server's next event."""
    return await to_thread.run_sync(peer.event)


async def test_exchange(transport: HttpxTransport) -> None:
    """A request arrives as the own transport sends it, and the reply comes back as it was sent."""
    with answering(reply(b'{"a":1}', JSON, "X-A: 1", "x-a: 2", "Set-Cookie: a=b; Path=/")) as peer:
        for _ in range(2):
            async with transport.open(
                peer.url("/v1/chat?q=1#part"), REQUEST, headers={"authorization": "Bearer k"}, timeout=DEFAULTS
            ) as got:
                assert (got.status, got.content_type, got.headers["x-a"]) == (200, "application/json", "1, 2")
                assert await got.read(1000) == b'{"a":1}'
        assert peer.connections == 1
        for seen in peer.seen:
            assert (seen.line, seen.body) == ("POST /v1/chat?q=1 HTTP/1.1", REQUEST.body)
            assert {name.lower(): value for name, value in seen.headers.items()} == {
                "host": f"127.0.0.1:{peer.port}",
                "user-agent": "antiphon",
                "accept": "*/*",
                "accept-encoding": "gzip",
                "content-type": "application/json",
                "authorization": "Bearer k",
                "content-length": str(len(REQUEST.body)),
            }


async def test_first_bytes_do_not_wait(transport: HttpxTransport) -> None:
    """What has arrived is handed on while the server still holds back the rest."""
    go_on = threading.Event()

    def script(line: Line) -> None:
        line.request()
        line.send(CHUNKED + chunk(b"first"))
        assert go_on.wait(PATIENCE)
        line.send(chunk(b"second") + chunk(b""))
        line.wait_for_close()

    with Peer(script) as peer:
        got = []
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
            async for data in answer:
                got.append(data)
                go_on.set()
        assert got == [b"first", b"second"]
        await transport.aclose()


async def test_gzip_and_bounds(transport: HttpxTransport) -> None:
    """A compressed body is uncompressed piece by piece, up to the bound."""
    bomb = gzip.compress(bytes(50_000_000))
    with answering(
        reply(gzip.compress(b"ok"), "content-encoding: gzip"), reply(bomb, "content-encoding: gzip")
    ) as peer:
        assert await call(transport, peer.url()) == b"ok"
        with pytest.raises(ResponseTooLargeError):
            async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
                await answer.read(1_000_000)


PHASES: dict[str, Script] = {
    "handshake": lambda line: line.socket.recv(65536),
    "head": lambda line: line.request(),
    "half a head": lambda line: (line.request(), line.send(b"HTTP/1.1 200 OK\r\ncont")),
    "body": lambda line: (line.request(), line.send(CHUNKED)),
    "middle": lambda line: (line.request(), line.send(CHUNKED + chunk(b"first"))),
}


def watched(script: Script) -> Peer:
    """A server that puts "ready" when *script* is done, and then whether the client closed."""

    def whole(line: Line) -> None:
        script(line)
        peer.events.put("ready")
        peer.events.put(line.wait_for_close())

    peer = Peer(whole)
    return peer


def url_of(peer: Peer, phase: str) -> str:
    """Return where to send the request."""
    return peer.url().replace("http:", "https:") if phase == "handshake" else peer.url()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("native", [True, False])
async def test_cancellation(transport: HttpxTransport, phase: str, native: bool) -> None:
    """A cancelled task or scope closes its connection, whatever it waits for."""
    with watched(PHASES[phase]) as peer:
        if native:
            task = asyncio.ensure_future(call(transport, url_of(peer, phase)))
            assert await event(peer) == "ready"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(call, transport, url_of(peer, phase))
                assert await event(peer) == "ready"
                group.cancel_scope.cancel()
        assert await event(peer) is True


async def test_break_closes_the_connection(transport: HttpxTransport) -> None:
    """Leaving a body before its end closes the connection."""
    with watched(PHASES["middle"]) as peer:
        async with transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS) as answer:
            async for data in answer:
                assert data == b"first"
                break
        assert [await event(peer), await event(peer)] == ["ready", True]
        with pytest.raises(RuntimeError, match="inside of `async with`"):
            await anext(aiter(answer))


async def read_on(transport: HttpxTransport, url: str, clocks: Timeout) -> None:
    """Read a reply to its end, and take each piece for a token."""
    async with transport.open(url, REQUEST, headers={}, timeout=clocks) as answer:
        async for _ in answer:
            answer.got_token()


@pytest.mark.parametrize(
    ("phase", "clocks", "says"),
    [
        ("handshake", Timeout(connect=0.1), "connect"),
        ("handshake", Timeout(total=0.1), "total"),
        ("head", Timeout(connect=PATIENCE, first_token=0.1), "first-token"),
        ("half a head", Timeout(connect=None, first_token=0.1), "first-token"),
        ("body", Timeout(first_token=0.1), "first-token"),
        ("head", Timeout(total=0.1), "total"),
        ("middle", Timeout(idle=0.1), "idle"),
        ("middle", Timeout(total=0.1), "total"),
    ],
)
async def test_timeouts(transport: HttpxTransport, phase: str, clocks: Timeout, says: str) -> None:
    """Each timeout ends the wait that it is for, says which it was, and closes the connection."""
    with watched(PHASES[phase]) as peer:
        with pytest.raises(APITimeoutError, match=rf"127\.0\.0\.1:{peer.port} .*within 0\.1 s.* the {says}"):
            await read_on(transport, url_of(peer, phase), clocks)
        assert [await event(peer), await event(peer)] == ["ready", True]


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        (lambda line: line.request(), APIConnectionError, "broke the connection before it answered"),
        (lambda line: (line.request(), line.reset()), APIConnectionError, "before it answered: connection reset"),
        (lambda line: (line.request(), line.send(b"SSH-2.0-x\r\n\r\n")), APIConnectionError, "not answer in HTTP"),
        (lambda line: (line.request(), line.send(CHUNKED)), APIConnectionError, "before the body of its answer"),
        (lambda line: (line.request(), line.send(CHUNKED + chunk(b"a"))), StreamError, "broke off in the middle"),
        (lambda line: (line.request(), line.send(reply(b"abc")[:-1])), StreamError, "broke off in the middle"),
        (lambda line: (line.request(), line.send(reply(b"", "x: a\x01b"))), APIConnectionError, "not answer in HTTP"),
        (
            lambda line: (line.request(), line.send(reply(b"abc", "content-encoding: br"))),
            StreamError,
            "packed as 'br'",
        ),
    ],
)
async def test_faults(transport: HttpxTransport, script: Script, kind: type[APIError], says: str) -> None:
    """A broken answer is an error of the right class that names the host, and quotes and carries nothing else."""
    with Peer(script) as peer:
        with pytest.raises(APIError, match=says) as raised:
            await call(transport, peer.url("/v1?key=hidden"))
        assert type(raised.value) is kind
        assert f"127.0.0.1:{peer.port}" in str(raised.value)
        assert "hidden" not in str(raised.value)
        assert raised.value.__cause__ is raised.value.__context__ is None


async def test_refused_connection(transport: HttpxTransport) -> None:
    """A port where nothing listens is reported as such."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(APIConnectionError, match=rf"No connection to 127\.0\.0\.1:{port}: refused"):
        await call(transport, f"http://127.0.0.1:{port}/v1?key=hidden")


async def test_redirects_are_not_followed(transport: HttpxTransport) -> None:
    """A redirect is an error; nothing goes there."""
    with answering(reply()) as other:
        away = reply(b"", f"location: {other.url('/there')}?key=hidden", status="307 Away")
        with answering(away) as peer, pytest.raises(APIStatusError, match=rf"redirects to .*:{other.port}/there'"):
            await call(transport, peer.url(), headers={"authorization": "Bearer k"})
        assert other.connections == 0


@pytest.mark.parametrize("headers", [{"x-a": "hidden\r\nx-b: 2"}, {"x-a": "hidden\x00"}, {"host": "hidden"}])
async def test_headers_that_are_not_sent(transport: HttpxTransport, headers: dict[str, str]) -> None:
    """A field that would not arrive as it is, or is the connection's, is an error that does not quote its value."""
    with answering(reply()) as peer:
        with pytest.raises(APIConnectionError, match="was not sent") as raised:
            await call(transport, peer.url(), headers=headers)
        assert "hidden" not in str(raised.value)
        assert peer.seen == []


async def test_a_connection_closed_meanwhile(transport: HttpxTransport) -> None:
    """A connection that the server closed while the loop stood still is not used again."""

    def script(line: Line) -> None:
        line.request()
        line.send(reply())
        line.socket.close()
        peer.events.put("closed")

    with Peer(script) as peer:
        for _ in range(3):
            assert await call(transport, peer.url()) == b"ok"
            assert peer.event() == "closed"


@pytest.mark.usefixtures("anyio_backend")
def test_blocking_client(no_leaks: None) -> None:
    """The blocking client uses it as well, whole and streamed."""
    frame = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    stream = CHUNKED + chunk(frame) + chunk(b"data: [DONE]\n\n") + chunk(b"")
    with (
        answering(reply(ANSWER, JSON), stream) as peer,
        Client(base_url=peer.url(""), api_key="k", transport=HttpxTransport()) as client,
    ):
        assert client.chat.completions.create("hi", "m").content == "ok"
        chunks = client.chat.completions.create("hi", "m", stream=True)
        assert "".join(each.choices[0].delta.content or "" for each in chunks) == "hi"


@pytest.mark.usefixtures("anyio_backend")
def test_many_loops(no_leaks: None) -> None:
    """A transport serves loop after loop, each of which takes its connections with it."""
    made = HttpxTransport()
    with answering(reply()) as peer:
        assert [asyncio.run(call(made, peer.url())) for _ in range(3)] == [b"ok"] * 3
        assert peer.connections == 3
    asyncio.run(made.aclose())


async def test_close(transport: HttpxTransport) -> None:
    """A closed transport refuses new exchanges."""
    with answering(reply()) as peer:
        assert await call(transport, peer.url()) == b"ok"
        await transport.aclose()
        with pytest.raises(APIConnectionError, match="was closed"):
            await call(transport, peer.url())


# TLS and HTTP/2


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nothing trusts by itself."""
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    """The authority's certificate as a PEM file."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def server_context(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    """A server's side of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(protocols or ("http/1.1",))
    return context


def answer(line: Line) -> None:
    """Answer every request."""
    while line.request() is not None:
        line.send(reply(ANSWER, JSON))


async def ask(peer: Peer, **how: Any) -> str | None:
    """Make a call with a transport of these arguments."""
    transport = HttpxTransport(**how)
    async with AsyncClient(base_url=peer.url("", host="localhost"), api_key="k", transport=transport) as client:
        return (await client.chat.completions.create("hi", "m")).content


async def test_tls(no_leaks: None, authority: trustme.CA, bundle: Path, tmp_path: Path) -> None:
    """`verify` and `cert` say whom to trust and what to show; without them nothing unknown is trusted."""
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(bundle)
    leaf, own = authority.issue_cert("client@example.org"), tmp_path / "own.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(own))
    mine = ssl.create_default_context(cafile=str(bundle))
    mine.load_cert_chain(own)
    with Peer(answer, context) as peer:
        assert await ask(peer, verify=bundle, cert=own) == "ok"
        assert await ask(peer, verify=mine) == "ok"
        with pytest.raises(APIConnectionError, match="is not trusted"):
            await ask(peer)
        with pytest.raises(APIConnectionError, match=r"ended the TLS connection|broke the connection"):
            await ask(peer, verify=bundle)


class Two:
    """A server's side of HTTP/2: answers each request with what `respond` sends, and notes what comes."""

    def __init__(self, respond: Callable[[Any, int, Line], None]) -> None:
        self.respond = respond
        self.requests: list[dict[bytes, bytes]] = []

    def __call__(self, line: Line) -> None:
        """Serve one connection."""
        from h2.config import H2Configuration
        from h2.connection import H2Connection
        from h2.events import RequestReceived, StreamEnded

        assert line.socket.selected_alpn_protocol() == "h2"  # type: ignore[attr-defined]
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        line.send(connection.data_to_send())
        while data := line.socket.recv(65536):
            for each in connection.receive_data(data):
                if isinstance(each, RequestReceived):
                    self.requests.append(dict(each.headers))
                elif isinstance(each, StreamEnded):
                    self.respond(connection, each.stream_id, line)
            line.send(connection.data_to_send())


HEAD = [(b":status", b"200"), (b"content-type", b"application/json")]


async def test_http2(no_leaks: None, authority: trustme.CA, bundle: Path) -> None:
    """HTTP/2 is spoken where both sides want it, by one call after the other on a connection."""
    pytest.importorskip("h2")

    def respond(connection: Any, stream: int, line: Line) -> None:
        connection.send_headers(stream, HEAD)
        connection.send_data(stream, ANSWER, end_stream=True)

    two = Two(respond)
    with Peer(two, server_context(authority, "h2", "http/1.1")) as peer:
        transport = HttpxTransport(http2=True, verify=bundle)
        async with AsyncClient(base_url=peer.url("", host="localhost"), api_key="k", transport=transport) as client:
            for _ in range(3):
                assert (await client.chat.completions.create("hi", "m")).content == "ok"
        assert peer.connections == 1
        assert [request[b"authorization"] for request in two.requests] == [b"Bearer k"] * 3
        assert b"connection" not in two.requests[0]


@pytest.mark.parametrize("begun", [True, False])
async def test_http2_streams_and_cancels(no_leaks: None, authority: trustme.CA, bundle: Path, begun: bool) -> None:
    """Over HTTP/2, too, bytes are handed on as they come, and the server sees at once that an exchange is given up."""
    pytest.importorskip("h2")

    def respond(connection: Any, stream: int, line: Line) -> None:
        peer.events.put("asked")
        if begun:
            connection.send_headers(stream, HEAD)
            connection.send_data(stream, b"first")

    def script(line: Line) -> None:
        Two(respond)(line)
        peer.events.put("closed")

    transport = HttpxTransport(http2=True, verify=bundle)
    with Peer(script, server_context(authority, "h2")) as peer:
        url = peer.url(host="localhost")
        if begun:
            async with transport.open(url, REQUEST, headers={}, timeout=DEFAULTS) as answer:
                assert await anext(aiter(answer)) == b"first"
            assert await event(peer) == "asked"
        else:
            task = asyncio.ensure_future(call(transport, url))
            assert await event(peer) == "asked"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        closed = await event(peer)
        assert closed == "closed" or isinstance(closed, OSError)
        await transport.aclose()


async def test_bound_on_connections(no_leaks: None) -> None:
    """Calls at once have no more connections than may be, and wait for one in vain no longer than for connecting."""
    transport = HttpxTransport(max_connections=2)
    with answering(reply()) as peer:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(call, transport, peer.url())
        assert peer.connections == 2
        first = transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS)
        second = transport.open(peer.url(), REQUEST, headers={}, timeout=DEFAULTS)
        async with first, second:
            with pytest.raises(APITimeoutError, match=r"All 2 connections to .* 0\.1 s, the connect timeout"):
                await call(transport, peer.url(), Timeout(connect=0.1))
        assert await call(transport, peer.url()) == b"ok"
    await transport.aclose()


async def test_http2_is_off(no_leaks: None, authority: trustme.CA, bundle: Path) -> None:
    """Without `http2=True`, or where the server has none, it is HTTP/1.1."""
    with Peer(answer, server_context(authority, "h2", "http/1.1")) as peer:
        assert await ask(peer, verify=bundle) == "ok"
    pytest.importorskip("h2")
    with Peer(answer, server_context(authority, "http/1.1")) as peer:
        assert await ask(peer, verify=bundle, http2=True) == "ok"


# Proxies


def socks(seen: list[bytes]) -> Peer:
    """Make a SOCKS5 proxy without a password, which notes where it was asked to connect."""

    def script(line: Line) -> None:
        line.socket.recv(3)
        line.send(b"\x05\x00")
        asked = line.socket.recv(262)
        seen.append(asked[5:-2] if asked[3] == 3 else asked[4:-2])
        with socket.create_connection(("127.0.0.1", int.from_bytes(asked[-2:]))) as upstream:
            line.send(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            while True:
                for source in select.select([upstream, line.socket], [], [])[0]:
                    if not (data := source.recv(65536)):
                        return
                    (upstream if source is line.socket else line.socket).sendall(data)

    return Peer(script)


@pytest.mark.parametrize("variable", [None, "ALL_PROXY"])
async def test_socks(no_leaks: None, monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    """A SOCKS proxy carries requests, given or named by the environment."""
    pytest.importorskip("socksio")
    seen: list[bytes] = []
    with answering(reply(ANSWER, JSON)) as peer, socks(seen) as middle:
        url = f"socks5://127.0.0.1:{middle.port}"
        if variable is not None:
            monkeypatch.setenv(variable, url)
        assert await ask(peer, **({} if variable else {"proxy": url})) == "ok"
        assert seen == [b"localhost"]


async def test_proxy_of_the_environment(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is used, and NO_PROXY goes before it."""
    with proxy() as middle, answering(reply()) as peer:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:hidden@127.0.0.1:{middle.port}")
        transport = HttpxTransport()
        assert await call(transport, "http://upstream.localhost/v1") == b"by proxy"
        assert middle.seen[0].line == "POST http://upstream.localhost/v1 HTTP/1.1"
        await transport.aclose()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        transport = HttpxTransport()
        assert await call(transport, peer.url()) == b"ok"
        await transport.aclose()


async def test_proxy_that_refuses(no_leaks: None) -> None:
    """A proxy that opens no tunnel is an error without its password."""
    with proxy(refuse=reply(b"", status="407 Proxy Authentication Required")) as middle:
        transport = HttpxTransport(proxy=f"http://user:hidden@127.0.0.1:{middle.port}")
        with pytest.raises(APIConnectionError, match="The proxy opened no connection to localhost:443") as raised:
            await call(transport, "https://localhost/v1")
        assert "hidden" not in str(raised.value)
        await transport.aclose()


@pytest.mark.usefixtures("anyio_backend")
@pytest.mark.parametrize("url", ["", "::bad::", "gopher://hidden@x", "localhost:3128"])
def test_unusable_proxy(url: str) -> None:
    """What is no proxy is an error when the transport is made, and is not repeated: it may hold a password."""
    with pytest.raises(ValueError, match="proxy must be a URL like") as raised:
        HttpxTransport(proxy=url)
    assert "hidden" not in str(raised.value)
    assert raised.value.__context__ is None


async def test_unusable_proxy_of_the_environment(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in the environment is an error: the request never goes out without the proxy instead."""
    monkeypatch.setenv("HTTP_PROXY", "gopher://hidden@x")
    with answering(reply()) as peer:
        transport = HttpxTransport()
        with pytest.raises(APIConnectionError, match="does not name a proxy that can be used") as raised:
            await call(transport, peer.url())
        assert "hidden" not in str(raised.value)
        assert peer.connections == 0
        await transport.aclose()


@pytest.mark.usefixtures("anyio_backend")
@pytest.mark.parametrize(
    ("missing", "how", "says"),
    [
        ("httpx2", {}, "HttpxTransport needs httpx2"),
        ("h2", {"http2": True}, "HTTP/2 needs h2"),
        ("socksio", {"proxy": "socks5://127.0.0.1:1"}, "A SOCKS proxy needs socksio"),
    ],
)
def test_missing_extra(monkeypatch: pytest.MonkeyPatch, missing: str, how: dict[str, Any], says: str) -> None:
    """Where a library is missing the error names the command that installs it."""

    class Without:
        """A finder of modules that does not find this one."""

        def __init__(self, finder: Any) -> None:
            self._finder = finder

        def find_spec(self, name: str, *rest: Any) -> Any:
            """Find any other."""
            return None if name == missing else self._finder.find_spec(name, *rest)

    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without(finder) for finder in sys.meta_path])
    with pytest.raises(MissingExtraError, match=rf"{says}.*pip install 'antiphon\[httpx\]'"):
        HttpxTransport(**how)


@pytest.mark.usefixtures("anyio_backend")
def test_examples_of_the_documentation() -> None:
    """The examples of docs/http.md run."""
    pytest.importorskip("h2")
    pytest.importorskip("socksio")
    text = (Path(__file__).parents[1] / "docs" / "http.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "http.md", "exec"), {})


@pytest.mark.usefixtures("anyio_backend")
def test_exported() -> None:
    """Both transports are names of the package."""
    assert antiphon.HttpxTransport is HttpxTransport
    assert antiphon.HTTPTransport.__name__ == "HTTPTransport"


@pytest.fixture(autouse=True, scope="module")
def _warm() -> None:
    """Import what httpx2 imports late, before anything counts threads."""
    asyncio.run(HttpxTransport(verify=False).client())
