"""`antiphon.testing`: the doubles do what they say, seen with a client that knows nothing of Antiphon."""

from __future__ import annotations

import http.client
import json
import pickle
import socket
import ssl
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest
import trustme

from antiphon.chat.answers import Completion
from antiphon.chat.events import End, Event, ReasoningDelta, Start, TextDelta, ToolCallDelta, UsageUpdate, fold
from antiphon.chat.messages import Message, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APITimeoutError
from antiphon.http.transport import Timeout
from antiphon.providers.base import Call
from antiphon.providers.function import as_handler
from antiphon.testing import AsyncGeneratorProviderMock, AsyncProviderMock, Delay, Fault, ProviderMock, Script, Upstream

leaves_nothing = pytest.mark.usefixtures("no_leaks")

REQUEST = ChatRequest("m", (Message.user("hi"),))
PATIENCE = 30.0


async def play(target: Any, request: ChatRequest = REQUEST, call: Call | None = None) -> list[Event]:
    """All events of one call."""
    async with aclosing(as_handler(target)(request, call or Call())) as events:
        return [event async for event in events]


# --- mocks and scripts


@pytest.mark.anyio
@pytest.mark.parametrize("mock", [ProviderMock, AsyncProviderMock, AsyncGeneratorProviderMock])
@pytest.mark.parametrize("made", [False, True], ids=["class", "instance"])
async def test_mocks(mock: Any, made: bool) -> None:
    """Each mock says "Mock", as a class and as an instance."""
    assert fold(await play(mock() if made else mock)).content == "Mock"


@pytest.mark.anyio
async def test_steps() -> None:
    """A script gives each of its steps as what it is, every time it is played."""
    usage = Usage(output_visible=1)
    script = Script(
        "a", ReasoningDelta("hm"), ToolCall("x", "f", "{}"), ToolCall("y", "g"), usage, name="s", model="m-2"
    )
    expected = [
        Start(id="script-1", model="m-2", created=1, provider="s"),
        TextDelta("a"),
        ReasoningDelta("hm"),
        ToolCallDelta(call=0, id="x", name="f", arguments="{}", kind="function"),
        ToolCallDelta(call=1, id="y", name="g", arguments="{}", kind="function"),
        UsageUpdate(usage),
        End("stop"),
    ]
    assert await play(script) == await play(script) == expected
    assert script.requests == [REQUEST, REQUEST]


@pytest.mark.anyio
async def test_endings() -> None:
    """A script ends with the reason it was given, or not at all."""
    assert (await play(Script("a", finish_reason="length")))[-1] == End("length")
    assert (await play(Script("a", finish_reason=None)))[-1] == TextDelta("a")


@pytest.mark.anyio
async def test_a_script_that_fails() -> None:
    """An exception is raised at its place among the steps."""
    script = Script("a", KeyError("x"), "b")
    events = script(REQUEST, Call())
    assert isinstance(await anext(events), Start)
    assert await anext(events) == TextDelta("a")
    assert script.open == 1
    with pytest.raises(KeyError):
        await anext(events)
    assert script.open == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("steps", "clock"), [((Delay(60),), "first_token"), (("a", Delay(60)), "idle"), (("a", Delay(60)), "total")]
)
async def test_a_script_that_waits(steps: tuple[Any, ...], clock: str) -> None:
    """The clocks of the call run while a script waits, as they would for a real provider."""
    call = Call(timeout=Timeout(**{clock: 0.02}))
    with pytest.raises(APITimeoutError, match=f"the {clock} clock"):
        await play(Script(*steps), REQUEST, call)


@pytest.mark.anyio
async def test_a_script_that_is_left() -> None:
    """A script knows how many are playing it just now."""
    script = Script("a", Delay(60))
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(play, script)
        await anyio.wait_all_tasks_blocked()
        assert script.open == 3
        group.cancel_scope.cancel()
    assert script.open == 0


# --- the server

Exchange = tuple[int, dict[str, str], bytes]


def ask(upstream: Upstream, *, stream: bool = False, context: ssl.SSLContext | None = None, **fields: Any) -> Exchange:
    """Status, headers and body of one request, as Python's own client sees them."""
    host, port = upstream.base_url.split("/")[2].split(":")
    connection = (
        http.client.HTTPSConnection(host, int(port), timeout=PATIENCE, context=context)
        if context
        else http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    )
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **fields}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def frames(body: bytes) -> list[Any]:
    """The data of a stream's frames, as JSON but for the last."""
    data = [frame.removeprefix(b"data: ") for frame in body.split(b"\n\n") if frame]
    return [json.loads(item) if item != b"[DONE]" else "[DONE]" for item in data]


def test_a_whole_answer() -> None:
    """Text is answered as a completion of the codec's format, with a usage."""
    with Upstream("Hello there") as upstream:
        status, headers, body = ask(upstream)
    answer = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello there"}
    assert (answer["model"], answer["usage"]["total_tokens"]) == ("m", 5)


def test_a_stream() -> None:
    """A streamed text comes word by word."""
    with Upstream(" Hello  there\n") as upstream:
        status, headers, body = ask(upstream, stream=True)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    *chunks, done = frames(body)
    words = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert [word for word in words if word] == [" Hello", "  there", "\n"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


def test_usage_of_a_stream() -> None:
    """Usage is told in a stream where it was asked for."""
    with Upstream() as upstream:
        _, _, body = ask(upstream, stream=True, stream_options={"include_usage": True})
    assert frames(body)[-2]["usage"]["total_tokens"] == 5


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "answer",
    [
        "made up",
        Completion.of("made up"),
        [Start(id="x", model="m"), TextDelta("made up"), End("stop")],
        lambda request: "made up",
        lambda request: Completion.of("made up"),
    ],
    ids=["text", "completion", "events", "function", "function-of-completion"],
)
def test_kinds_of_answers(answer: Any, stream: bool) -> None:
    """An answer may be text, a completion, events, or a function that gives one of these."""
    with Upstream(answer) as upstream:
        _, _, body = ask(upstream, stream=stream)
    if not stream:
        assert json.loads(body)["choices"][0]["message"]["content"] == "made up"
    else:
        deltas = [c["delta"].get("content") or "" for f in frames(body)[:-1] for c in f["choices"]]
        assert "".join(deltas) == "made up"


def test_an_answer_that_depends() -> None:
    """A function sees the request, and may answer with a fault."""

    def answer(request: ChatRequest) -> Any:
        return Fault.of_status(418) if request.user == "tea" else f"{request.model} {request.messages[0].content}"

    with Upstream(answer) as upstream:
        assert json.loads(ask(upstream)[2])["choices"][0]["message"]["content"] == "m hi"
        assert ask(upstream, user="tea")[0] == 418


def test_what_was_asked() -> None:
    """Every request is kept as it came, with lower-case header names."""
    with Upstream() as upstream:
        ask(upstream, user="u")
        (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert (request.headers["content-type"], request.json["user"]) == ("application/json", "u")
    assert json.loads(request.body) == request.json


def test_a_request_that_is_none() -> None:
    """What is no request is answered as the codec answers it."""
    with Upstream() as upstream:
        status, _, body = ask(upstream, messages=3)
    assert (status, json.loads(body)["error"]["param"]) == (400, "$.messages")


def test_models() -> None:
    """The server lists its models."""
    with Upstream(models=("a", "b")) as upstream:
        connection = http.client.HTTPConnection(upstream.base_url.split("/")[2], timeout=PATIENCE)
        connection.request("GET", "/v1/models")
        assert [model["id"] for model in json.loads(connection.getresponse().read())["data"]] == ["a", "b"]
        connection.close()


# --- faults


def test_status() -> None:
    """A status comes with an error of OpenAI's shape, or with what is given."""
    with Upstream(fault=Fault.of_status(429, retry_after="7")) as upstream:
        status, headers, body = ask(upstream)
        assert (status, headers["retry-after"]) == (429, "7")
        assert json.loads(body)["error"]["message"] == "status 429"
        upstream.fault = Fault.of_status(502, "<html>", content_type="text/html")
        status, headers, body = ask(upstream)
        assert (status, headers["content-type"], body) == (502, "text/html", b"<html>")


def test_error_inside() -> None:
    """An error inside a 200 stands in place of the answer, or of the frame after those that came."""
    with Upstream("one two", fault=Fault.error_inside("no more", after=2)) as upstream:
        status, _, body = ask(upstream)
        assert (status, json.loads(body)["error"]["message"]) == (200, "no more")
        status, _, body = ask(upstream, stream=True)
        assert status == 200
        assert [set(frame) & {"error", "choices"} for frame in frames(body)] == [{"choices"}, {"choices"}, {"error"}]


@pytest.mark.parametrize("fault", [Fault.garbage(after=1), Fault.half_frame(after=1), Fault.half_frame(after=99)])
def test_what_is_no_frame(fault: Fault) -> None:
    """Garbage and half frames end a body that is whole as far as HTTP goes."""
    with Upstream("one two", fault=fault) as upstream:
        _, _, body = ask(upstream, stream=True)
        with pytest.raises(ValueError, match=r"Expecting|decode|Unterminated|Extra"):
            frames(body)
        with pytest.raises(ValueError, match=r"Expecting|decode|Unterminated|Extra"):
            json.loads(ask(upstream)[2])


@leaves_nothing
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_cut(stream: bool) -> None:
    """A cut drops the connection after exactly so many bytes of the body."""
    with Upstream("one two", fault=Fault.cut(after=17)) as upstream:
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(upstream, stream=stream)
        assert len(caught.value.partial) == 17


def test_huge() -> None:
    """A huge answer is a JSON object of just that size."""
    with Upstream(fault=Fault.huge(200_000)) as upstream:
        _, headers, body = ask(upstream)
    assert (len(body), headers["content-length"]) == (200_000, "200000")
    assert list(json.loads(body)) == ["huge"]


def connected(upstream: Upstream) -> socket.socket:
    """A bare connection to the server."""
    host, port = upstream.base_url.split("/")[2].split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def received(upstream: Upstream, until: bytes, *, stream: bool) -> bytes:
    """What a stalled server sends; hangs up when *until* has come, or after half a second without anything."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
    with connected(upstream) as connection:
        connection.sendall(b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        connection.settimeout(0.05 if not until else PATIENCE)
        data = b""
        try:
            while not until or until not in data:
                data += connection.recv(65536)
        except TimeoutError:
            pass
        return data


@leaves_nothing
@pytest.mark.parametrize(
    ("fault", "stream", "until"),
    [
        (Fault.stall(after=-1), False, b""),
        (Fault.stall(after=-1), True, b""),
        (Fault.stall(), False, b"\r\n\r\n"),
        (Fault.stall(), True, b"\r\n\r\n"),
        (Fault.stall(after=2), True, b"one"),
    ],
)
def test_stall(fault: Fault, stream: bool, until: bytes) -> None:
    """A stalled server sends what it should and then nothing, until the client leaves."""
    with Upstream("one two three", fault=fault) as upstream:
        data = received(upstream, until, stream=stream)
        assert bool(data) == (fault.after >= 0)
        assert b"two" not in data
        assert upstream.wait_until_left()


def test_faults_are_values() -> None:
    """Faults are equal by what they do, so that a table of them can be a test's parameters."""
    assert Fault.stall(after=2) == Fault("stall", 2)
    assert pickle.loads(pickle.dumps(Fault.of_status(500))) == Fault.of_status(500)


# --- connections


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server."""
    with Upstream() as upstream:
        yield upstream


@leaves_nothing
def test_connections_are_counted(upstream: Upstream) -> None:
    """The server knows who is connected, and can be waited for until they are gone."""
    connection = http.client.HTTPConnection(upstream.base_url.split("/")[2], timeout=PATIENCE)
    for _ in range(2):
        connection.request("GET", "/v1/models")
        connection.getresponse().read()
    assert (upstream.connections, upstream.accepted) == (1, 1)
    assert not upstream.wait_until_left(at_most=0)
    connection.close()
    assert upstream.wait_until_left()
    assert (upstream.connections, upstream.accepted) == (0, 1)


def is_dropped(connection: socket.socket) -> bool:
    """Whether the server ends the connection, in whatever way."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@leaves_nothing
@pytest.mark.parametrize("fault", [None, Fault.stall(), Fault.stall(after=-1)])
def test_closing_drops_everybody(fault: Fault | None) -> None:
    """Closing ends connections that are idle or stalled."""
    with Upstream(fault=fault) as upstream, connected(upstream) as connection:
        body = b'{"model":"m","messages":[]}'
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        if fault is None or fault.after == 0:
            assert connection.recv(1)
        upstream.close()
        assert is_dropped(connection)


@leaves_nothing
def test_an_answer_that_fails(upstream: Upstream) -> None:
    """A function that raises drops its connection, and no other."""

    def answer(request: ChatRequest) -> str:
        raise ZeroDivisionError

    upstream.answer = answer
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(upstream)
    upstream.answer = "fine"
    assert ask(upstream)[0] == 200


def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server and of a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@leaves_nothing
def test_tls() -> None:
    """With a context the server speaks HTTPS, and a client that does not like it does no harm."""
    server, client = tls()
    with Upstream("secret", tls=server) as upstream:
        assert upstream.base_url.startswith("https://127.0.0.1:")
        assert b"secret" in ask(upstream, context=client)[2]
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(upstream, context=ssl.create_default_context())
        assert b"secret" in ask(upstream, stream=True, context=client)[2]
        assert upstream.wait_until_left()


@leaves_nothing
@pytest.mark.parametrize("secure", [False, True])
def test_a_client_that_says_nothing(secure: bool) -> None:
    """A client that connects and never speaks is dropped when the server closes."""
    with Upstream(tls=tls()[0] if secure else None) as upstream, connected(upstream) as connection:
        upstream.close()
        assert is_dropped(connection)
