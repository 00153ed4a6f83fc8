"""Faults while an answer is under way, on either side: each ends it in its own way, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import msgspec
import pytest
from anyio import to_thread

from antiphon.providers.catalog import ProviderRow
from antiphon.settings.config import Config, Limits, Timeouts
from antiphon.testing import Delay, Fault, Script, Upstream
from tests import peers
from tests.server.raw import DIALECTS, Dialect, Wire, ask, eventually, get, post, row
from tests.serving import Serving

OPENAI = DIALECTS["openai"]
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def _warm() -> None:
    """Let everything be made that is made once in a process."""
    with Upstream() as upstream, Serving({"up": row(upstream)}) as serving:
        assert ask(serving.port, OPENAI.request(stream=True)).status == 200


@pytest.fixture(autouse=True)
def _nothing_left(_warm: None, no_leaks: None) -> Iterator[None]:
    """Fail a test that leaves a file descriptor behind, beside what `no_leaks` looks for."""
    if not os.path.isdir("/dev/fd"):
        yield
        return
    before = len(os.listdir("/dev/fd"))
    yield
    assert eventually(lambda: len(os.listdir("/dev/fd")) <= before), os.listdir("/dev/fd")


class Stage:
    """A provider, a server before it, and what a test sets; use it in a `with` block."""

    def __init__(self, provider: Any = None, fault: Fault | None = None, **settings: Any) -> None:
        limits, timeouts = (
            msgspec.convert({name: value for name, value in settings.items() if name in kind.__struct_fields__}, kind)
            for kind in (Limits, Timeouts)
        )
        self._provider = provider
        self._config = Config(limits=limits, timeouts=timeouts)
        self.upstream = Upstream("Hello there friend", fault=fault)
        self._stack = ExitStack()

    def __enter__(self) -> tuple[Serving, Upstream]:
        self._stack.enter_context(self.upstream)
        provider = row(self.upstream) if self._provider is None else self._provider
        return self._stack.enter_context(Serving({"up": provider}, self._config)), self.upstream

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def last_said(body: bytes) -> Any:
    """Return the last event of a stream."""
    last = body.decode().strip().split("\n")[-1]
    return json.loads(last.removeprefix("data: "))


def is_whole(body: bytes) -> bool:
    """Whether a stream says that it came to its end as it should, in any dialect."""
    ends = ("[DONE]", "response.completed", "message_stop", '"finishReason"', '"done":true', '"finish_reason":"stop"')
    return any(end in body.decode() for end in ends)


# --- the provider


BEFORE: dict[str, tuple[Fault, int, str]] = {
    "500": (Fault.of_status(500), 500, "status 500"),
    "503": (Fault.of_status(503, "<html>busy</html>", content_type="text/html"), 503, "busy"),
    "429": (Fault.of_status(429, retry_after="7"), 429, "status 429"),
    "stall": (Fault.stall(after=-1), 504, "did not answer in time"),
    "cut": (Fault.cut(after=0), 502, ""),
    "garbage": (Fault.garbage(), 502, ""),
    "error inside": (Fault.error_inside(), 502, "overloaded"),
}


@both
@pytest.mark.parametrize("fault", BEFORE)
def test_fault_before_the_first_token_is_a_status(stream: bool, fault: str) -> None:
    """What goes wrong before the answer says anything is a status, with the words where the dialect has them."""
    wrong, status, words = BEFORE[fault]
    with Stage(fault=wrong, first_token=0.1, idle=0.1) as (server, upstream):
        for number, dialect in enumerate(DIALECTS.values(), 1):
            reply = ask(server.port, dialect.request(stream=stream))
            exchange = server.wait(number)[-1]
            assert reply.status == status, reply
            assert words in dialect.said(reply.json)
            assert reply.headers.get("retry-after") == ("7" if fault == "429" else None)
            assert (exchange.outcome, exchange.status, bool(exchange.error)) == ("error", status, True)
        if fault in ("stall", "cut"):  # the others' connections are good for more
            assert upstream.wait_until_left()


AFTER: dict[str, Fault] = {
    "stall": Fault.stall(after=3),
    "cut": Fault.cut(after=560),
    "half a frame": Fault.half_frame(after=3),
    "garbage": Fault.garbage(after=3),
    "error inside": Fault.error_inside(after=3),
}


@pytest.mark.parametrize("fault", AFTER)
def test_fault_after_the_first_token_is_an_error_event(fault: str) -> None:
    """What goes wrong amid an answer is told by the dialect's own event, and never as an end."""
    with Stage(fault=AFTER[fault], first_token=20, idle=0.1) as (server, _):
        for number, dialect in enumerate(DIALECTS.values(), 1):
            reply = ask(server.port, dialect.request(stream=True))
            exchange = server.wait(number)[-1]
            assert reply.status == 200
            assert b"Hello" in reply.body
            assert dialect.said(last_said(reply.body))
            assert not is_whole(reply.body)
            assert (exchange.outcome, exchange.status, bool(exchange.error)) == ("error", 200, True)


def test_error_in_the_providers_words_is_passed_on() -> None:
    """What the provider says is wrong stands in the event."""
    with Stage(fault=Fault.error_inside("out of GPUs", after=3)) as (server, _):
        for dialect in DIALECTS.values():
            reply = ask(server.port, dialect.request(stream=True))
            assert "out of GPUs" in dialect.said(last_said(reply.body))


@pytest.mark.parametrize(
    "dialect", [OPENAI, DIALECTS["anthropic"], DIALECTS["ollama"]], ids=["openai", "anthropic", "ollama"]
)
def test_stalling_provider_is_bridged_by_comments(dialect: Dialect) -> None:
    """While the provider is silent the client hears comments where its dialect has them, then of the clock's end."""
    with Stage(fault=Fault.stall(), first_token=1.0, keep_alive=0.01) as (server, _):
        reply = ask(server.port, dialect.request(stream=True))
        (exchange,) = server.wait()
    if dialect is DIALECTS["ollama"]:  # lines of JSON have no comments, so there the status can still tell
        assert reply.status == 504
        assert "did not answer in time" in dialect.said(reply.json)
    else:
        comment, *_, event = reply.body.split(b"\n\n")[:-1]
        assert (reply.status, comment) == (200, b": the answer is on its way")
        assert "did not answer in time" in dialect.said(last_said(event))
    assert exchange.outcome == "error"


def test_comments_between_pieces() -> None:
    """A provider that is silent amid its answer is bridged, too, and what it says then comes whole."""
    go = threading.Event()

    async def slow(model: str, messages: Any, **params: Any) -> AsyncGenerator[str, None]:
        yield "one "
        await to_thread.run_sync(go.wait)
        yield "two"

    with Stage(slow, keep_alive=0.01) as (server, _), Wire(server.port) as wire:
        wire.send(OPENAI.request(stream=True)).head()
        while not wire.chunk().startswith(b":"):
            pass
        go.set()
        body = b"".join(iter(wire.chunk, b""))
        (exchange,) = server.wait()
    assert b'"two"' in body
    assert body.endswith(b"data: [DONE]\n\n")
    assert exchange.outcome == "ok"


def test_nothing_is_written_after_the_last_piece() -> None:
    """A comment that comes too late, when the answer is over, is not written."""
    with Stage() as (server, _):
        assert ask(server.port, OPENAI.request(stream=True)).status == 200
        (exchange,) = server.wait()
        assert exchange.idle is not None
        anyio.run(exchange.idle)  # the server refuses a write after the last one: this would raise
        assert exchange.complete


def test_comment_that_was_due_is_not_written_after_the_last_piece() -> None:
    """A comment that became due while the answer was written is dropped, too, if that ends first."""
    go = threading.Event()

    async def slow(model: str, messages: Any, **params: Any) -> AsyncGenerator[str, None]:
        yield "one "
        await to_thread.run_sync(go.wait)
        yield "two"

    with Stage(slow) as (server, _), Wire(server.port) as wire:
        wire.send(OPENAI.request(stream=True)).head()
        (exchange,) = server.application.live
        due = exchange.idle
        assert due is not None
        go.set()
        assert b"".join(iter(wire.chunk, b"")).endswith(b"data: [DONE]\n\n")
        server.wait()
        anyio.run(due)  # the server refuses a write after the last one: this would raise


def test_no_comment_is_due_once_the_answer_is_over() -> None:
    """The watch over requests has nothing to do for one whose answer was sent."""
    with Stage(keep_alive=0.01) as (server, _):
        ask(server.port, OPENAI.request(stream=True))
        (exchange,) = server.wait()
        assert exchange.check_timeouts(float("inf")) is None


# --- the client


def test_client_that_leaves_a_stream() -> None:
    """A client that leaves amid a stream takes the provider's connection with it."""
    with Stage(fault=Fault.stall(after=3)) as (server, upstream):
        for number, dialect in enumerate(DIALECTS.values(), 1):
            with Wire(server.port) as wire:
                wire.send(dialect.request(stream=True)).head()
                while b"Hello" not in wire.chunk():
                    pass
                assert upstream.connections == 1
            assert upstream.wait_until_left()
            exchange = server.wait(number)[-1]
            assert (exchange.outcome, exchange.status, exchange.error) == ("left", 200, None)


@both
def test_client_that_leaves_before_the_first_token(stream: bool) -> None:
    """A client that leaves while the provider thinks takes its connection with it, whole answer or not."""
    with Stage(fault=Fault.stall(after=-1)) as (server, upstream):
        for number, dialect in enumerate(DIALECTS.values(), 1):
            with Wire(server.port) as wire:
                wire.send(dialect.request(stream=stream))
                assert eventually(lambda number=number: len(upstream.requests) == number)
            assert upstream.wait_until_left()
            exchange = server.wait(number)[-1]
            assert (exchange.outcome, exchange.status) == ("left", 0)


@pytest.mark.parametrize("size", [70_000, 300_000, 3_000_000])
def test_client_that_leaves_after_a_large_body(size: int) -> None:
    """A client is seen to leave whatever the size of its body, of which uvicorn stops reading some."""
    with Stage(fault=Fault.stall(after=-1)) as (server, upstream), Wire(server.port) as wire:
        body = {"model": "up/x", "messages": [{"role": "user", "content": "a" * size}]}
        wire.send(post(OPENAI.path, json.dumps(body).encode()))
        assert eventually(lambda: len(upstream.requests) == 1)
        wire.close()
        assert upstream.wait_until_left()
        assert [exchange.outcome for exchange in server.wait()] == ["left"]


def test_client_that_leaves_is_told_to_a_provider_of_ones_own() -> None:
    """A function that answers is closed where its client leaves."""
    script = Script("Hello", Delay(3600))
    with Stage(script) as (server, _):
        with Wire(server.port) as wire:
            wire.send(OPENAI.request(stream=True)).head()
            assert wire.chunk()
            assert script.open == 1
        server.wait()
        assert script.open == 0


def test_client_that_leaves_its_place_in_the_queue() -> None:
    """One that leaves while it waits for its turn is not waited for, and its turn is another's."""
    with Stage(fault=Fault.stall(after=-1), concurrent=1, queue_seconds=3600) as (server, upstream):
        with Wire(server.port) as first:
            first.send(OPENAI.request())
            assert eventually(lambda: upstream.requests)
            with Wire(server.port) as second:
                second.send(OPENAI.request())
                assert eventually(lambda: len(server.application.live) == 2)
            (left,) = server.wait()
            assert (left.outcome, left.status) == ("left", 0)
            upstream.fault = None
        server.wait(2)
        assert ask(server.port, OPENAI.request()).status == 200


PIECE = "x" * 10_000
BOUND = 20 * 1024 * 1024
"""Bytes that the system's buffers may take in, by far."""


def test_slow_reader_holds_back_a_provider_of_ones_own() -> None:
    """A function that answers is asked for no more than its client reads; one that does not read is given up."""
    asked = 0

    async def endless(model: str, messages: Any, **params: Any) -> AsyncGenerator[str, None]:
        nonlocal asked
        while asked < 100_000:
            asked += 1
            yield PIECE

    with Stage(endless, write_seconds=0.3) as (server, _), Wire(server.port, window=4096) as wire:
        wire.send(OPENAI.request(stream=True)).head()
        (exchange,) = server.wait()
        assert exchange.outcome == "slow"
        assert 0 < asked * len(PIECE) < BOUND
        assert len(wire.rest()) < BOUND


def test_slow_reader_holds_back_the_providers_connection() -> None:
    """A provider over HTTP can send no more than the client reads; one that does not read ends its connection."""
    sent = 0
    frame = peers.chunk(b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": PIECE}}]}).encode())

    def endless(line: peers.Line) -> None:
        nonlocal sent
        if line.request() is not None:
            line.send(peers.CHUNKED)
            while sent < 100 * BOUND:
                line.send(frame)
                sent += len(frame)

    with peers.Peer(endless) as peer:
        known = ProviderRow(id="up", name="Up", codec="openai-chat", base_url=peer.url(""))
        with Stage(known, write_seconds=0.3) as (server, _), Wire(server.port, window=4096) as wire:
            wire.send(OPENAI.request(stream=True)).head()
            (exchange,) = server.wait()
            assert exchange.outcome == "slow"
            assert isinstance(peer.event(), OSError)
            assert 0 < sent < 2 * BOUND


# --- the server


class Stopping:
    """A server that is told to stop, and has stopped accepting; at the end of the `with` block it has ended."""

    def __init__(self, server: Serving) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._server.server.should_exit = True
        assert eventually(lambda: not accepts(self._server.port))

    def __exit__(self, *error: Any) -> None:
        self._server.stop()


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@both
def test_answer_that_ends_in_time_is_not_cut_by_a_stop(stream: bool) -> None:
    """A server that is told to stop takes nobody new, and lets what is under way come to its end."""
    go = threading.Event()

    async def slow(model: str, messages: Any, **params: Any) -> AsyncGenerator[str, None]:
        yield "one "
        await to_thread.run_sync(go.wait)
        yield "two"

    with Stage(slow, shutdown=20) as (server, _), Wire(server.port) as wire:
        wire.send(OPENAI.request(stream=stream))
        assert eventually(lambda: server.application.live)
        with Stopping(server):
            go.set()
            reply = wire.reply()
            assert wire.rest() == b""
        (exchange,) = server.done
    assert (reply.status, exchange.outcome) == (200, "ok")
    assert b"two" in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n") is stream


@both
def test_answers_that_do_not_end_in_time_are_ended_with_an_error(stream: bool) -> None:
    """What goes on when a server that stops has waited long enough ends with the dialect's error event, or a 503."""
    script = Script("Hello", Delay(3600))
    with ExitStack() as stack:
        server, _ = stack.enter_context(Stage(script, shutdown=0.1))
        wires = [stack.enter_context(Wire(server.port)) for _ in DIALECTS]
        for wire, dialect in zip(wires, DIALECTS.values(), strict=True):
            wire.send(dialect.request(stream=stream))
        assert eventually(lambda: script.open == len(wires))
        if stream:
            assert eventually(lambda: all(exchange.started for exchange in server.application.live))
        server.stop()
        for wire, dialect in zip(wires, DIALECTS.values(), strict=True):
            reply = wire.reply()
            assert reply.status == (200 if stream else 503)
            assert "shutting down" in dialect.said(last_said(reply.body))
            assert not is_whole(reply.body)
            assert wire.rest() == b""
    assert script.open == 0
    assert {(exchange.outcome, exchange.status) for exchange in server.done} == {("stopping", 200 if stream else 503)}


def test_stop_closes_idle_connections() -> None:
    """A connection over which nothing is under way does not hold a server that stops."""
    with Stage(shutdown=3600) as (server, _), Wire(server.port) as used, Wire(server.port) as fresh:
        assert used.send(get("/ready")).reply().json == {"status": "ready"}
        assert eventually(lambda: len(server.server.server_state.connections) == 2)
        server.stop()
        assert (used.rest(), fresh.rest()) == (b"", b"")
        assert not accepts(server.port)


def test_stop_gives_up_readers_that_do_not_read() -> None:
    """A client that reads nothing does not hold a server that stops."""

    async def endless(model: str, messages: Any, **params: Any) -> AsyncGenerator[str, None]:
        while True:
            yield PIECE

    with Stage(endless, shutdown=0.1) as (server, _), Wire(server.port, window=4096) as wire:
        wire.send(OPENAI.request(stream=True)).head()
        server.stop()
        (exchange,) = server.done
        assert exchange.outcome == "stopping"
        wire.rest()
