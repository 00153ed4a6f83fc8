"""The suite's own guards: each is shown to catch what it is there for."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import blockbuster
import pytest
from pyreqwest.client import ClientBuilder, SyncClientBuilder

import antiphon
from antiphon.sync import bridge
from tests import leaks, recordings
from tests.conftest import UNWANTED
from tests.loopback import BeyondLoopbackError, is_loopback

ELSEWHERE = "192.0.2.1"  # TEST-NET-1 (RFC 5737): nobody's address


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        (b"localhost", True),
        ("api.localhost", True),
        (None, True),
        ("0.0.0.0", False),
        ("example.org", False),
        ("localhost.example.org", False),
        ("fe80::1%lo", False),
    ],
)
def test_loopback(host: str | bytes | None, here: bool) -> None:
    """Only names and addresses of this machine count as loopback."""
    assert here == is_loopback(host)


@pytest.mark.parametrize(
    "leave",
    [
        lambda: socket.create_connection((ELSEWHERE, 80)),
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (ELSEWHERE, 80)),
        lambda: socket.create_server(("", 0)),
        lambda: SyncClientBuilder().build().get(f"http://{ELSEWHERE}/").build(),
        lambda: SyncClientBuilder().build().post("https://example.org/").build_streamed(),
        lambda: ClientBuilder().build().get("https://example.org/").build(),
    ],
    ids=["connect", "resolve", "datagram", "listen", "pyreqwest", "pyreqwest-streamed", "pyreqwest-async"],
)
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_elsewhere_is_refused(leave: Callable[[], object]) -> None:
    """Nothing is sent to, looked up for or offered to another machine."""
    with pytest.raises(BeyondLoopbackError, match="tests stay on loopback"):
        leave()


def test_loopback_is_open() -> None:
    """Connections on this machine pass the guard."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(("localhost", server.getsockname()[1])),
    ):
        connection, _ = server.accept()
        connection.close()


@pytest.mark.beyond_loopback("shows what the marker does; the request is built and not sent")
def test_a_request_may_name_another_host() -> None:
    """The marker lets a request be built for a proxy to answer, and still lets no socket out."""
    assert SyncClientBuilder().build().get("https://example.org/").build().url.host_str == "example.org"
    with pytest.raises(BeyondLoopbackError):
        socket.create_connection((ELSEWHERE, 80))


def test_environment_is_clean() -> None:
    """No key, base URL, proxy or setting of whoever runs the suite reaches a test."""
    assert [] == [name for name in os.environ if UNWANTED.fullmatch(name)]
    assert all(
        UNWANTED.fullmatch(name)
        for name in ("GROQ_API_KEY", "HF_TOKEN", "OPENAI_BASE_URL", "ANTIPHON_NESTED", "https_proxy", "SSL_CERT_FILE")
    )


@pytest.mark.parametrize("turn", [1, 2])
def test_environment_is_restored(turn: int) -> None:
    """What one test sets, the next does not see."""
    assert "ANTIPHON_LEFT_BEHIND" not in os.environ
    os.environ["ANTIPHON_LEFT_BEHIND"] = str(turn)


def in_the_package(source: str) -> Any:
    """Define `f` from *source* as though it stood in a module of the package."""
    names: dict[str, Any] = {}
    exec(compile(source, f"{antiphon.__path__[0]}/made_up.py", "exec"), names)
    return names["f"]


SLEEPS = "import time\ndef f(): time.sleep(0)"


@pytest.mark.anyio
async def test_blocking_on_a_loop_is_an_error() -> None:
    """Code of the package that blocks an event loop fails the test; code of others does not."""
    with pytest.raises(blockbuster.BlockingError, match=r"time\.sleep"):
        in_the_package(SLEEPS)()
    time.sleep(0)  # noqa: ASYNC251 - the call that is to pass


@pytest.mark.anyio
@pytest.mark.may_block("shows what the marker does")
async def test_blocking_can_be_allowed() -> None:
    """The marker switches the check off."""
    in_the_package(SLEEPS)()


def test_blocking_beside_a_loop_is_no_error() -> None:
    """Without a running loop the package may block."""
    in_the_package(SLEEPS)()


def test_a_thread_left_behind_is_found() -> None:
    """A thread that still runs after a test is named."""
    before, done = leaks.snapshot(), threading.Event()
    thread = threading.Thread(target=done.wait, name="left-behind")
    thread.start()
    assert "left-behind" in "".join(leaks.since(before, patience=0))
    done.set()
    assert [] == leaks.since(before)


def test_a_connection_left_behind_is_found() -> None:
    """An open socket is found by its inode, also when its number was in use before."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = socket.create_connection(server.getsockname())
        before, number = leaks.snapshot(), first.fileno()
        first.close()
        with socket.create_connection(server.getsockname()) as second:
            assert number == second.fileno()
            assert str(second.getsockname()[1]) in "".join(leaks.since(before, patience=0))
        assert [] == leaks.since(before)


def test_a_task_of_another_loop_is_found() -> None:
    """A task that waits on a loop of another thread is named."""
    before, loop, started = leaks.snapshot(), asyncio.new_event_loop(), threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    loop.call_soon_threadsafe(started.set)
    started.wait()

    async def waits() -> None:
        await asyncio.Event().wait()

    future = asyncio.run_coroutine_threadsafe(waits(), loop)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    assert "waits" in "".join(leaks.since(before, patience=0))
    future.cancel()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert [] == leaks.since(before)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "anyio_backend",
    [
        "asyncio",
        "trio",
        pytest.param(
            ("asyncio", {"use_uvloop": True}),
            marks=pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not run on Windows"),
        ),
    ],
)
async def test_a_task_of_the_tests_own_loop_is_found(no_leaks: None) -> None:
    """An async test that leaves a task running fails on asyncio; trio has none to leave."""

    async def leaves() -> None:
        tasks.append(asyncio.get_running_loop().create_task(asyncio.Event().wait()))

    tasks: list[asyncio.Task[Any]] = []
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    with pytest.raises(AssertionError, match="left tasks on its loop"):
        await leaks.leaves_no_tasks(leaves)()
    tasks[0].cancel()


def test_recordings_are_read(cassettes: Path) -> None:
    """Every recorded exchange is readable, as text or as bytes, and knows which file it came from."""
    found = recordings.exchanges()
    assert sorted(cassettes.glob("*/*.json")) == [cassettes / exchange.name for exchange in found]
    assert all(exchange.content or not exchange.body for exchange in found)
    assert any(exchange.content != exchange.body.encode() for exchange in found)


@pytest.mark.anyio
async def test_the_bridge_may_block_the_callers_loop() -> None:
    """A blocking call that was allowed inside a running loop makes that loop wait, and is not reported."""

    async def answer() -> str:
        await asyncio.sleep(0)
        return "answer"

    async def answers() -> AsyncIterator[str]:
        yield await answer()

    assert bridge.run(answer, nested="thread") == "answer"
    assert list(bridge.iterate(answers, nested="thread")) == ["answer"]


@pytest.mark.anyio
async def test_the_bridges_loop_may_not_be_blocked() -> None:
    """What runs on the bridge's own loop is held to the same rule, waits for locks included."""
    waits = in_the_package("def f(lock): lock.acquire(timeout=1)")

    async def blocks() -> None:
        lock = threading.Lock()
        with lock:
            waits(lock)

    with pytest.raises(blockbuster.BlockingError, match="acquire"):
        bridge.run(blocks, nested="thread")
