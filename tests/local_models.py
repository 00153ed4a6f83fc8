"""What tests of the local model share: its file, the model itself loaded once, and a stand-in that plays a script."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import Event, fold
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.providers.auth import Secret
from antiphon.providers.base import Call
from antiphon.providers.local import llama_cpp
from antiphon.providers.local.llama_cpp import Llama, Settings
from antiphon.providers.local.model import LocalModel, local_model_for
from antiphon.sync import bridge

PATIENCE = 30.0
"""Seconds until a test that waits in vain fails."""

Script = Callable[[str], Iterator[Any]]


@pytest.fixture(scope="session")
def local(model_file: Path) -> Iterator[LocalModel]:
    """The process's default local model, loaded."""
    model = local_model_for("")
    bridge.run(model.http)
    yield model
    model.close()


def counted(model: LocalModel, what: str) -> int:
    """What llama.cpp itself counts: `requests_processing`, `tokens_predicted_total`."""
    url, key = bridge.run(model.http, nested="thread")
    connection = HTTPConnection(url.split("/")[2], timeout=PATIENCE)
    try:
        connection.request("GET", "/metrics", headers={"authorization": f"Bearer {key.reveal()}"})
        found = re.search(rb"(?m)^llamacpp:%b (\d+)" % what.encode(), connection.getresponse().read())
    finally:
        connection.close()
    assert found is not None
    return int(found[1])


def comes_to_rest(model: LocalModel) -> bool:
    """Whether llama.cpp soon is at nothing any more."""
    deadline = time.monotonic() + PATIENCE / 3
    while counted(model, "requests_processing"):
        if time.monotonic() > deadline:
            return False
        # An order to stop is obeyed after the token or batch under way, and llama.cpp tells nobody when.
        time.sleep(0.01)
    return True


def question(text: str = "Say hello.", **fields: Any) -> ChatRequest:
    """A request whose answer is short, and the same every time."""
    # Without a system message the template puts in one of 20 tokens.
    messages = (Message.system("Be brief."), Message.user(text))
    return ChatRequest("", messages, **{"temperature": 0, "max_tokens": 8, **fields})


async def events_of(model: LocalModel, request: ChatRequest, call: Call | None = None) -> list[Event]:
    """All events of one answer."""
    async with aclosing(model(request, call or Call())) as events:
        return [event async for event in events]


async def ask(model: LocalModel, request: ChatRequest, call: Call | None = None) -> Completion:
    """The whole of one answer."""
    return fold(await events_of(model, request, call))


def workers() -> list[threading.Thread]:
    """The threads that answer for local models just now."""
    return [thread for thread in threading.enumerate() if thread.name == "antiphon-local"]


def piece(text: str) -> bytes:
    """A chunk as llama.cpp writes it."""
    return _chunk({"delta": {"content": text}, "finish_reason": None})


def last(reason: str = "stop") -> bytes:
    """The chunk that ends an answer."""
    return _chunk({"delta": {}, "finish_reason": reason})


def _chunk(choice: dict[str, Any]) -> bytes:
    return json.dumps({"id": "1", "created": 1, "model": "m", "choices": [{"index": 0, **choice}]}).encode()


class Puppet:
    """Stands in for llama.cpp: plays `script`, a generator function of the question's text, in the worker's thread.

    What the script yields is handed to the callback; an exception among it is raised.
    """

    def __init__(self) -> None:
        self.script: Script = lambda text: iter((piece(text), last()))
        self.asked: list[str] = []
        """The questions, in the order in which their turn came."""
        self.stopped: list[str] = []
        """Those whose callback said to stop."""
        self.at_once = 0
        """Most questions under way at the same time."""
        self.bodies: list[dict[str, Any]] = []
        """What was asked in full."""
        self.loads = 0
        self.tools = False
        """Whether the model it plays has a place for tools."""
        self.before_load: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._running = 0

    def handle_chat_completions(self, body: bytes, callback: Callable[[bytes], bool]) -> None:
        """Do as xllamacpp's `Server`."""
        question = json.loads(body)
        text = question["messages"][-1]["content"]
        with self._lock:
            self.bodies.append(question)
            self.asked.append(text)
            self._running += 1
            self.at_once = max(self.at_once, self._running)
        try:
            for chunk in self.script(text):
                if isinstance(chunk, Exception):
                    raise chunk
                if callback(chunk):
                    self.stopped.append(text)
                    return
        finally:
            with self._lock:
                self._running -= 1

    def load(self, library: object, path: Path, settings: Settings, *, remedy: str) -> Llama:
        """Do as `llama_cpp.load`."""
        self.before_load()
        self.loads += 1
        return Llama(self, "http://127.0.0.1:1", Secret("a-key-of-no-use"), self.tools)


@pytest.fixture
def puppet(monkeypatch: pytest.MonkeyPatch) -> Puppet:
    """What every model loaded in this test is in truth."""
    puppet = Puppet()
    monkeypatch.setattr(llama_cpp, "library", lambda: None)
    monkeypatch.setattr(llama_cpp, "find", lambda path: path)
    monkeypatch.setattr(llama_cpp, "load", puppet.load)
    return puppet


class Gate:
    """Holds up threads until it is opened; each side knows when the other is there."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def wait(self) -> None:
        """Stop here until the gate is open."""
        self._reached.set()
        assert self._open.wait(PATIENCE), "nobody opened the gate"

    async def reached(self) -> None:
        """Wait until a thread stands before it."""
        assert await anyio.to_thread.run_sync(self._reached.wait, PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        """Let all through, now and later."""
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the end, whatever became of the test."""
    gate = Gate()
    yield gate
    gate.open()
