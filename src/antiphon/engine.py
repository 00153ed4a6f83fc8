"""Floor 4: an engine: one local model, the line of jobs before it, and the threads that work it off.

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

from antiphon import llama, local_model
from antiphon.errors import AntiphonError, APIConnectionError, StreamError
from antiphon.llama import Llama, Settings
from antiphon.wire import json

__all__ = ["Engine", "Job"]

_EXIT_SECONDS = 10.0


class Job:
    """One request: made on an event loop, answered by a worker."""

    def __init__(self, body: bytes, *, embeddings: bool = False) -> None:
        self.body = body
        """A streamed request of Chat Completions, or one for embeddings; empty: the model is only to be loaded."""
        self.embeddings = embeddings
        self.begun = 0.0
        """When its turn came, by `time.monotonic()`; 0: not yet."""
        self.status = 0
        """HTTP status of the answer; 0: not known yet."""
        self.pieces: deque[bytes] = deque()
        """What has come of the answer: server-sent events, or the JSON body of an error."""
        self.finished = False
        """Whether nothing more will come."""
        self.stopping = False
        """Whether it has been given up."""
        self.failure: BaseException | None = None
        """What to raise at the end."""
        self._event = anyio.Event()
        # A loop of asyncio, or trio's token. anyio's own ways from a thread to a loop wait for the loop.
        loop: Any = anyio.lowlevel.current_token().native_token
        self._soon: Callable[[Callable[[], object]], object]
        self._soon = loop.call_soon_threadsafe if hasattr(loop, "call_soon_threadsafe") else loop.run_sync_soon

    async def changed(self) -> None:
        """Wait until something may have changed; only on the loop it was made on."""
        await self._event.wait()
        self._event = anyio.Event()

    def run(self, server: Any) -> None:
        """Let llama.cpp answer; in a worker."""
        self.begun = time.monotonic()
        try:
            if not self._wake() or not self.body:
                return
            if self.embeddings:
                answer: bytes = server.handle_embeddings(self.body)
                self.status = _status_of(answer)
                self.pieces.append(answer)
            else:
                server.handle_chat_completions(self.body, self._take)
        except (ValueError, RuntimeError) as error:
            self._refused(error)
        except BaseException as error:
            self.failure = error

    def finish(self, failure: BaseException | None = None) -> None:
        """Say that nothing more will come, or why; in any thread."""
        self.failure = failure or self.failure
        self.finished = True
        self._wake()

    def _take(self, chunk: bytes) -> bool:
        """Take a chunk and say whether to stop. xllamacpp would swallow an exception."""
        try:
            if self.stopping:
                return True
            if b'"prompt_progress":' in chunk:  # never found inside a string of JSON, where quotes are escaped
                return False
            if not self.status:
                self.status = _status_of(chunk)
            self.pieces.append(b"data: %b\n\n" % chunk if self.status == 200 else chunk)
            return not self._wake()
        except BaseException as error:
            self.failure = error
            return True

    def _refused(self, error: Exception) -> None:
        """Make of what xllamacpp raised what the same server says over HTTP."""
        if self.status:
            self.failure = StreamError(f"llama.cpp broke off its answer: {error}")
            return
        status, kind = (400, "invalid_request_error") if isinstance(error, ValueError) else (500, "server_error")
        self.pieces.append(json.encode({"error": {"message": str(error), "type": kind}}))
        self.status = status

    def _wake(self) -> bool:
        """Have the loop look again; returns whether there still is that loop."""
        try:
            self._soon(self._set)
        except RuntimeError:  # it is closed
            return False
        return True

    def _set(self) -> None:
        self._event.set()


def _status_of(chunk: bytes) -> int:
    """Return the status of an answer by its first chunk: an error of llama.cpp is an object with a `code`."""
    found = json.decode(chunk)
    fault = found.get("error") if json.is_object(found) else None
    if fault is None:
        return 200
    return (json.integer(fault.get("code")) if json.is_object(fault) else None) or 500


class Engine:
    """A model, loaded when it is needed, and the line before it.

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
        self._workers: set[threading.Thread] = set()
        """Those that may take from the line."""
        self._fetching: set[threading.Thread] = set()
        self._llama: Llama | None = None
        _engines.add(self)

    @property
    def llama(self) -> Llama | None:
        """The model, if it is loaded."""
        return self._llama

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
            # Only one worker loads.
            if len(self._workers) < (1 if self._llama is None else self._settings.parallel):
                self._hire()
            self._line.append(job)

    async def leave(self, job: Job) -> None:
        """Take *job* out of the line, or stop it and wait until it is over."""
        with self._lock:
            if job in self._line:
                self._line.remove(job)
                return
        job.stopping = True
        with anyio.CancelScope(shield=True):
            while not job.finished:
                await job.changed()

    def close(self, seconds: float = math.inf) -> None:
        """Stop every job and free the model, waiting for that at most *seconds*; not for a fetch, which goes on."""
        with self._lock:
            waiting, workers = list(self._line), self._workers
            self._line.clear()
            self._workers = set()
            self._llama = None  # the workers hold it for as long as they need it
            for job in self._running:
                job.failure, job.stopping = _closed(), True
        for job in waiting:
            job.finish(_closed())
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
            job.finish(_own(error))

    def _loaded(self) -> Llama | None:
        """Return the model, loaded first if need be; `None`: the worker was dismissed meanwhile."""
        if (found := self._llama) is not None:
            return found
        library = llama.library()
        path = self._path or self._fetched()
        with self._lock:
            if self._dismissed():
                return None
        remedy = "Remove it and call again, and it is fetched anew" if self._path is None else "Try another file"
        found = llama.load(library, llama.find(path), self._settings, remedy=remedy)
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
            return local_model.fetch_with_bar()
        finally:
            self._fetching.remove(worker)


def _own(error: BaseException) -> BaseException:
    """Return a copy of *error* for one of several tasks that raise it, each of which adds to the traceback."""
    if not isinstance(error, AntiphonError):
        return error
    own = copy.copy(error).with_traceback(error.__traceback__)
    own.__cause__ = error.__cause__
    return own


def _closed() -> BaseException:
    if _exiting:
        return SystemExit()
    return StreamError("The local model was closed while the call was under way.", retryable=True)


# The process

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
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
