"""A process that does nothing but run one local model, and what is said between it and its parent.

Both speak over a pair of pipes that no other process has: nothing is listened to on the network. Each message is one
value of MessagePack. The process ends with its parent: when the pipe ends, and on Linux at once.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from antiphon.errors import AntiphonError, LocalModelError, MissingExtraError, ModelNotFoundError, StreamError
from antiphon.providers.local import llama_cpp
from antiphon.providers.local.llama_cpp import Llama, Settings
from antiphon.providers.local.task import Task

__all__ = ["Ask", "Done", "Fault", "FromModel", "Given", "Load", "Loaded", "Stop", "ToModel", "main"]

_PR_SET_PDEATHSIG = 1
_TICK = 0.005
_SAYABLE: dict[str, type[AntiphonError]] = {
    error.__name__: error for error in (LocalModelError, MissingExtraError, ModelNotFoundError, StreamError)
}


class _Said(msgspec.Struct, frozen=True, tag=True):
    pass


class Load(_Said, frozen=True):
    """Load the model; the first message."""

    path: str
    settings: Settings
    remedy: str
    debug: bool
    """Whether llama.cpp says what it is doing, on standard error."""


class Ask(_Said, frozen=True):
    """Answer a request."""

    id: int
    body: bytes
    embeddings: bool


class Stop(_Said, frozen=True):
    """Stop answering a request: no more of it is wanted."""

    id: int


class Fault(msgspec.Struct, frozen=True):
    """An error, as it crosses to the other process."""

    kind: str
    message: str
    model: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """Return what can be said of *error*: of one that is not expected, its kind alone."""
        name = type(error).__name__
        if isinstance(error, AntiphonError) and name in _SAYABLE:
            return cls(name, error.message, error.model)
        return cls(name, "")

    def error(self) -> AntiphonError | None:
        """Return the error, or `None` if it is none of those that are expected."""
        kind = _SAYABLE.get(self.kind)
        return None if kind is None else kind(self.message, provider="local", model=self.model)


class Loaded(_Said, frozen=True):
    """The model is loaded, or could not be."""

    tools: bool = False
    fault: Fault | None = None


class Given(_Said, frozen=True):
    """A piece of an answer; without one, a sign that llama.cpp goes on."""

    id: int
    status: int = 0
    piece: bytes | None = None


class Done(_Said, frozen=True):
    """A request is over."""

    id: int
    fault: Fault | None = None


ToModel: TypeAlias = Load | Ask | Stop
FromModel: TypeAlias = Loaded | Given | Done


class _Remote(Task):
    """A request of the other process."""

    def __init__(self, ask: Ask, model: _Model) -> None:
        super().__init__(ask.body, embeddings=ask.embeddings)
        self._id = ask.id
        self._model = model

    def give(self, status: int, piece: bytes) -> bool:
        """Send a piece of the answer."""
        self.status = status
        self._model.say(Given(self._id, status, piece))
        return not self.stopping

    def progress(self) -> bool:
        """Send a sign that the request is being worked at."""
        self._model.say(Given(self._id))
        return not self.stopping


class _Model:
    """The process: reads what it is to do in its first thread, and does it in others."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._writing = threading.Lock()
        self._llama: Llama | None = None
        self._tasks: dict[int, _Remote] = {}

    def say(self, said: FromModel) -> None:
        """Send a message; the process ends where nobody reads it."""
        message = msgspec.msgpack.encode(said)
        try:
            with self._writing:
                self._pipe.send_bytes(message)
        except OSError:
            os._exit(0)

    def run(self) -> None:
        """Do what is asked until the pipe ends."""
        decoder = msgspec.msgpack.Decoder(ToModel)
        while True:
            try:
                said = decoder.decode(self._pipe.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # what llama.cpp is at is of use to nobody now
            if isinstance(said, Load):
                threading.Thread(target=self._load, args=(said,), daemon=True).start()
            elif isinstance(said, Ask):
                task = self._tasks[said.id] = _Remote(said, self)
                threading.Thread(target=self._answer, args=(said.id, task), daemon=True).start()
            elif (known := self._tasks.get(said.id)) is not None:
                known.stopping = True

    def _load(self, said: Load) -> None:
        if said.debug:
            logging.basicConfig(format="%(message)s", level=logging.DEBUG)
        try:
            library = llama_cpp.library()
            path = llama_cpp.find(Path(said.path))
            self._llama = _load(library, path, said)
        except BaseException as error:
            self.say(Loaded(fault=Fault.of(error)))
        else:
            self.say(Loaded(tools=self._llama.tools))

    def _answer(self, id: int, task: _Remote) -> None:
        assert self._llama is not None, "a request came before the model was loaded"
        task.run(self._llama.server)
        if task.stopping:
            # llama.cpp obeys when it has done what it is at, which may take long, and does not say when that is.
            while _at_once(self._llama.server) >= len(self._tasks):
                time.sleep(_TICK)
        del self._tasks[id]
        self.say(Done(id, None if task.failure is None else Fault.of(task.failure)))


def _at_once(server: Any) -> int:
    """Return how many requests llama.cpp is at; while it is at a long step of one, it does not answer."""
    found = re.search(r"(?m)^llamacpp:requests_processing (\d+)", str(server.handle_metrics()))
    return 0 if found is None else int(found[1])


def _load(library: Any, path: Path, said: Load) -> Llama:
    """Load the model; where there are such sockets, its own HTTP server listens in a folder that is gone at once."""
    if sys.platform == "win32":
        return llama_cpp.load(library, path, said.settings, remedy=said.remedy)
    with tempfile.TemporaryDirectory(prefix="antiphon-") as folder:
        return llama_cpp.load(library, path, said.settings, remedy=said.remedy, host=f"{folder}/llama.sock")


def _end_with(parent: int) -> None:
    """Have the system end this process with the thread that started it, where it can."""
    if sys.platform != "linux":
        return
    import ctypes  # 10 ms, which only this process spends

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before
        os._exit(0)


def main(handle: int, parent: int) -> None:
    """Be that process: *handle* is its end of the pipe, *parent* the id of the process that started it."""
    # A signal to the whole group of processes, or a service manager's to all of a service, is for the server: it lets
    # what is being answered end, and then ends this process.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _end_with(parent)
    _Model(Connection(handle)).run()
