"""An engine: one local model, the line of jobs before it, and the threads that work it off.

Rules:

* A model is loaded once, in a worker thread, when the first job needs it. If that fails, every job in the line is told,
  and the next one tries again.
* Jobs are done in the order in which they came, by at most `parallel` workers, which end with the line.
* A worker never waits for an event loop: a job keeps its answer until it is read, and an answer is no longer than the
  model's context. So neither a slow reader, nor a loop that waits for another call, holds up those behind it. (To wait
  would not even save memory: llama.cpp goes on generating meanwhile.)
* A job that is given up leaves the line at once. One under way stops at the next token, or after 32 more tokens of its
  prompt, and is over before its caller goes on.
* At interpreter exit all is stopped and freed, while there still is an interpreter to return to. In a forked child
  llama.cpp's threads are missing, so every call there is refused.
"""

from __future__ import annotations

import atexit
import copy
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from antiphon.errors import AntiphonError, APIConnectionError, StreamError
from antiphon.providers.local import download, llama_cpp
from antiphon.providers.local.llama_cpp import Llama, Settings
from antiphon.providers.local.task import Task

__all__ = ["Engine", "Job", "Line", "closed", "own"]

_EXIT_SECONDS = 10.0


class Job(Task):
    """One request: made on an event loop, answered by a worker."""

    def __init__(self, body: bytes, *, embeddings: bool = False) -> None:
        super().__init__(body, embeddings=embeddings)
        self.begun = 0.0
        """When its turn came, by `time.monotonic()`; 0: not yet."""
        self.moved = 0.0
        """When llama.cpp last went on with it, by the same measure."""
        self.pieces: deque[bytes] = deque()
        """What has come of the answer: server-sent events, or the JSON body of an error."""
        self.finished = False
        """Whether nothing more will come."""
        self._event = anyio.Event()
        # A loop of asyncio, or trio's token. anyio's own ways from a thread to a loop wait for the loop.
        loop: Any = anyio.lowlevel.current_token().native_token
        self._soon: Callable[[Callable[[], object]], object]
        self._soon = loop.call_soon_threadsafe if hasattr(loop, "call_soon_threadsafe") else loop.run_sync_soon

    async def changed(self) -> None:
        """Wait until something may have changed; only on the loop it was made on."""
        await self._event.wait()
        self._event = anyio.Event()

    def progress(self) -> bool:
        """Note that it went on; in any thread. Returns whether there still is the loop that asked."""
        self.moved = time.monotonic()
        if self.begun:
            return True
        self.begun = self.moved
        return self._wake()

    def give(self, status: int, piece: bytes) -> bool:
        """Keep a piece of the answer until it is read; in any thread."""
        self.moved = time.monotonic()
        self.status = status
        self.pieces.append(piece)
        return self._wake()

    def finish(self, failure: BaseException | None = None) -> None:
        """Say that nothing more will come, or why; in any thread."""
        self.failure = failure or self.failure
        self.finished = True
        self._wake()

    def _wake(self) -> bool:
        """Have the loop look again; returns whether there still is that loop."""
        try:
            self._soon(self._set)
        except RuntimeError:  # it is closed
            return False
        return True

    def _set(self) -> None:
        self._event.set()


class Line:
    """Jobs that wait for a model, which is loaded when it is needed: what is the same wherever llama.cpp runs.

    Args:
        path: The model's file; `None`: the default one, fetched if it is not there.
        settings: How to load it.
    """

    def __init__(self, path: Path | None, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._lock = threading.Lock()
        """Held for moments only, so it may be taken on a loop."""
        self._line: deque[Job] = deque()
        self._running: set[Job] = set()
        _engines.add(self)

    @property
    def llama(self) -> Llama | None:
        """The model, if it is loaded in this process."""
        return None

    @property
    def takes_tools(self) -> bool | None:
        """Whether the model's chat template has a place for tools; `None`: it is not loaded."""
        raise NotImplementedError

    def submit(self, job: Job) -> None:
        """Put *job* at the end of the line.

        Raises:
            APIConnectionError: The interpreter was forked from one that had used a local model.
            SystemExit: It is exiting. Threads still alive then are daemons, and this ends them without a traceback.
        """
        global _used
        if _forked:
            raise APIConnectionError(
                "This process was forked from one that had used a local model, and llama.cpp does not survive that. "
                "Start children with the 'spawn' method, or fork before the first call.",
                retryable=False,
            )
        with self._lock:
            if _exiting:
                raise SystemExit
            _used = True
            self._begin()
            self._line.append(job)
        self._added()

    async def leave(self, job: Job) -> None:
        """Take *job* out of the line, or stop it and wait until it is over."""
        with self._lock:
            if job in self._line:
                self._line.remove(job)
                return
        job.stopping = True
        self._added()
        with anyio.CancelScope(shield=True):
            while not job.finished:
                await job.changed()

    def close(self, seconds: float = math.inf) -> None:
        """Stop every job and free the model, waiting for that at most *seconds*; not for a fetch, which goes on."""
        raise NotImplementedError

    def _begin(self) -> None:
        """See to it that somebody works; with the lock held."""
        raise NotImplementedError

    def _added(self) -> None:
        """Note that there is a job more, or one to stop; without the lock."""


class Engine(Line):
    """A model in this process."""

    def __init__(self, path: Path | None, settings: Settings) -> None:
        super().__init__(path, settings)
        self._workers: set[threading.Thread] = set()
        """Those that may take from the line."""
        self._fetching: set[threading.Thread] = set()
        self._llama: Llama | None = None

    @property
    def llama(self) -> Llama | None:
        """The model, if it is loaded."""
        return self._llama

    @property
    def takes_tools(self) -> bool | None:
        """Whether the model's chat template has a place for tools; `None`: it is not loaded."""
        return None if (found := self._llama) is None else found.tools

    def _begin(self) -> None:
        # Only one worker loads.
        if len(self._workers) < (1 if self._llama is None else self._settings.parallel):
            self._hire()

    def close(self, seconds: float = math.inf) -> None:
        """Stop every job and free the model, waiting for that at most *seconds*; not for a fetch, which goes on."""
        with self._lock:
            waiting, workers = list(self._line), self._workers
            self._line.clear()
            self._workers = set()
            self._llama = None  # the workers hold it for as long as they need it
            for job in self._running:
                job.failure, job.stopping = closed(), True
        for job in waiting:
            job.finish(closed())
        deadline = time.monotonic() + seconds
        for worker in workers:
            while worker.is_alive() and worker not in self._fetching and time.monotonic() < deadline:
                worker.join(0.05)

    def _hire(self) -> None:
        worker = threading.Thread(target=self._work, name="antiphon-local", daemon=True)
        worker.start()  # it waits for the lock before it looks at the line
        self._workers.add(worker)

    def _dismissed(self) -> bool:
        return threading.current_thread() not in self._workers

    # From here on in a worker

    def _work(self) -> None:
        try:
            found = self._loaded()
        except BaseException as error:
            self._give_up(error)
            return
        if found is None:
            return
        while (job := self._next()) is not None:
            job.run(found.server)
            with self._lock:
                self._running.remove(job)
            job.finish()

    def _next(self) -> Job | None:
        with self._lock:
            if self._dismissed():
                return None
            if not self._line:
                self._workers.remove(threading.current_thread())
                return None
            job = self._line.popleft()
            self._running.add(job)
            return job

    def _give_up(self, error: BaseException) -> None:
        with self._lock:
            if self._dismissed():
                return
            waiting = list(self._line)
            self._line.clear()
            self._workers.remove(threading.current_thread())
        for job in waiting:
            job.finish(own(error))

    def _loaded(self) -> Llama | None:
        """Return the model, loaded first if need be; `None`: the worker was dismissed meanwhile."""
        if (found := self._llama) is not None:
            return found
        library = llama_cpp.library()
        path = self._path or self._fetched()
        with self._lock:
            if self._dismissed():
                return None
        remedy = "Remove it and call again, and it is fetched anew" if self._path is None else "Try another file"
        found = llama_cpp.load(library, llama_cpp.find(path), self._settings, remedy=remedy)
        with self._lock:
            if self._dismissed():
                return None
            self._llama = found
            for _ in range(min(self._settings.parallel, len(self._line)) - 1):
                self._hire()
        return found

    def _fetched(self) -> Path:
        worker = threading.current_thread()
        self._fetching.add(worker)
        try:
            return download.fetch_with_bar()
        finally:
            self._fetching.remove(worker)


def own(error: BaseException) -> BaseException:
    """Return a copy of *error* for one of several tasks that raise it, each of which adds to the traceback."""
    if not isinstance(error, AntiphonError):
        return error
    mine = copy.copy(error).with_traceback(error.__traceback__)
    mine.__cause__ = error.__cause__
    return mine


def closed() -> BaseException:
    """Return what jobs are ended with when their model is closed."""
    if _exiting:
        return SystemExit()
    return StreamError("The local model was closed while the call was under way.", retryable=True)


# The process

_engines: weakref.WeakSet[Line] = weakref.WeakSet()
_used = False
"""Whether a local model was asked in this process."""
_forked = False
"""Whether this process was forked from one where that was so."""
_exiting = False


def _after_fork() -> None:
    """See to it that a child can end: freeing what llama.cpp has made would wait for threads that are not there."""
    global _forked
    if not _used:
        return
    _forked = True
    import ctypes  # 10 ms, which only such a child spends

    for engine in list(_engines):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine.llama))
    # exit() calls this before the destructors of C++. Not every C library has it.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


def _at_exit() -> None:
    global _exiting
    _exiting = True
    if not _forked:
        deadline = time.monotonic() + _EXIT_SECONDS
        for engine in list(_engines):
            engine.close(deadline - time.monotonic())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
