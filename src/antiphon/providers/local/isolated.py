"""A local model in a process of its own, so that whatever becomes of llama.cpp, this one goes on.

Rules:

* The process is started when the first job needs it, and again after it ended. Jobs that it was at when it ended fail
  with an error that says so and may be tried again; those that wait go on with the next one.
* If one ends before it has answered anything, the next is started after a pause, which grows up to `_MAX_PAUSE`.
* A job that does not end soon after it was given up, or in which nothing happens for a long time, is ended by ending
  the process.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import msgspec

from antiphon.errors import InternalServerError, LocalModelError
from antiphon.providers.local import download, llama_cpp
from antiphon.providers.local.llama_cpp import Settings
from antiphon.providers.local.queue import Job, Line, closed, own
from antiphon.providers.local.worker import Ask, Done, FromModel, Given, Load, Loaded, Stop, ToModel

__all__ = ["IsolatedEngine"]

logger = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
"""What a job has to end after it was given up; or twice as long as it ever took to go on, if that is more."""
_MAX_STOP_SECONDS = 30.0
_STALL_SECONDS = 60.0
"""How long nothing may happen in a job of chat: llama.cpp reports each token, and each 32 tokens of the prompt."""
_EMBEDDING_SECONDS = 600.0
"""The same for embeddings, where it reports nothing before the end."""
_TICK = 0.5
_MAX_PAUSE = 8.0

_CODE = "import sys; sys.path[:] = {path!r}; from antiphon.providers.local.worker import main; main({handle}, {parent})"


class IsolatedEngine(Line):
    """A model in a process of its own."""

    def __init__(self, path: Path | None, settings: Settings) -> None:
        super().__init__(path, settings)
        self._keeper: _Keeper | None = None
        self.deaths = 0
        """How many processes in a row ended before they had answered anything."""

    @property
    def takes_tools(self) -> bool | None:
        """Whether the model's chat template has a place for tools; `None`: it is not loaded."""
        return None if (keeper := self._keeper) is None else keeper.tools

    def close(self, seconds: float = math.inf) -> None:
        """End the process and every job, waiting for that at most *seconds*; not for a fetch, which goes on."""
        with self._lock:
            keeper, self._keeper = self._keeper, None
            ended = [*self._line, *self._running]
            self._line.clear()
            self._running.clear()
        for job in ended:
            job.finish(closed())
        if keeper is not None:
            keeper.end()
            if not keeper.fetching:
                keeper.join(None if seconds == math.inf else max(seconds, 0))

    def _begin(self) -> None:
        if self._keeper is None:
            self._keeper = _Keeper(self)
            self._keeper.start()  # it waits for the lock before it looks at the line

    def _added(self) -> None:
        if (keeper := self._keeper) is not None:
            keeper.look()

    # From here on in the keeper's thread

    def take(self, keeper: _Keeper, running: int) -> Job | None:
        """Return the next job for *keeper*, which is at so many."""
        with self._lock:
            if self._keeper is not keeper or not self._line or running >= self._settings.parallel:
                return None
            job = self._line.popleft()
            self._running.add(job)
            return job

    def over(self, job: Job, failure: BaseException | None) -> None:
        """Note that *job* is over."""
        with self._lock:
            if job not in self._running:  # closed meanwhile
                return
            self._running.discard(job)
        job.finish(failure)

    def dismiss(self, keeper: _Keeper, failure: BaseException | None) -> None:
        """Do without *keeper* from now on: fail who waits with *failure*, or without one let another go on."""
        with self._lock:
            if self._keeper is not keeper:
                return
            self._keeper = None
            waiting = list(self._line) if failure is not None else []
            if failure is not None:
                self._line.clear()
            elif self._line:
                self._begin()
        for job in waiting:
            job.finish(own(failure) if failure is not None else None)

    def load(self) -> tuple[Path | None, Settings]:
        """Return what is to be loaded."""
        return self._path, self._settings


class _Keeper(threading.Thread):
    """Starts a process, hands it its jobs, and ends it; the system ends the process with this thread."""

    def __init__(self, engine: IsolatedEngine) -> None:
        super().__init__(name="antiphon-local", daemon=True)
        self._engine = engine
        self.tools: bool | None = None
        self.fetching = False
        self.child: int | None = None
        """The id of the process, once it is started."""
        self._waker, self._awake = Pipe(duplex=False)
        self._ended = threading.Event()
        self._jobs: dict[int, Job] = {}
        self._given_up: dict[int, float] = {}
        """When each of those that are to stop was told so."""
        self._ids = itertools.count(1)
        self._longest = 0.0
        """The longest that a job ever took to go on, in seconds."""
        self._reason = ""
        """Why this ended the process, if it did."""

    def look(self) -> None:
        """Have it look for what there is to do; in any thread."""
        with contextlib.suppress(OSError):  # it has ended
            self._awake.send_bytes(b"")

    def end(self) -> None:
        """Have it end the process and itself; in any thread."""
        self._ended.set()
        self.look()

    def run(self) -> None:
        """Do it all."""
        failure: BaseException | None = None
        try:
            deaths = self._engine.deaths
            if deaths > 1 and self._ended.wait(min(_MAX_PAUSE, 0.25 * 2.0**deaths)):
                return
            failure = self._keep()
        except BaseException as error:
            failure = error
        finally:
            for job in self._jobs.values():
                self._engine.over(job, own(failure) if failure is not None else self._lost())
            self._waker.close()
            self._awake.close()
            self._engine.dismiss(self, failure)

    def _lost(self) -> InternalServerError:
        why = self._reason or "llama.cpp ended while it was at the call"
        return InternalServerError(
            f"The local model did not finish the call: {why}. It is started anew; try again, and with another request "
            "if it happens again.",
            status=500,
            retryable=True,
            provider="local",
            model=self._engine.load()[1].name,
        )

    def _keep(self) -> BaseException | None:
        """Run a process from its start to its end; return why no job can be done, if that is so."""
        path, settings = self._engine.load()
        remedy = "Remove it and call again, and it is fetched anew" if path is None else "Try another file"
        if path is None:
            self.fetching = True
            path = download.fetch_with_bar()
            self.fetching = False
        if self._ended.is_set():
            return None
        debug = bool(os.environ.get("ANTIPHON_DEBUG")) or llama_cpp.logger.isEnabledFor(logging.DEBUG)
        with _process(debug=debug) as (child, pipe):
            self.child = child.pid
            try:
                _say(pipe, Load(os.fspath(path.absolute()), settings, remedy, debug))
                failure = self._serve(pipe)
            except (EOFError, OSError):  # it has ended, or is about to
                failure = None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(1)
            finally:
                child.kill()
        if self.tools is None and failure is None and not self._ended.is_set():
            failure = LocalModelError(
                f"llama.cpp ended while it loaded {path}: the file is damaged, or too large for the memory. {remedy}.",
                provider="local",
                model=settings.name,
            )
        if not self._ended.is_set():
            self._engine.deaths += 1
            why = self._reason or (failure and "it could not be loaded") or f"exit code {child.returncode}"
            logger.warning("The process of the local model %s was ended: %s.", settings.name, why)
        return failure

    def _serve(self, pipe: Connection) -> BaseException | None:
        decoder = msgspec.msgpack.Decoder(FromModel)
        while not self._ended.is_set():
            ready = wait([pipe, self._waker], timeout=_TICK if self._jobs else None)
            if self._waker in ready:
                self._waker.recv_bytes()
            while pipe.poll():
                said = decoder.decode(pipe.recv_bytes())
                if isinstance(said, Loaded):
                    if said.fault is not None:
                        return said.fault.error() or LocalModelError(
                            f"llama.cpp failed to load the model: {said.fault.kind}.", provider="local"
                        )
                    self.tools = said.tools
                else:
                    self._heard(said, pipe)
            if self.tools is not None:
                self._hand_out(pipe)
                self._stop_given_up(pipe)
                if self._stuck():
                    return None
        return None

    def _hand_out(self, pipe: Connection) -> None:
        while (job := self._engine.take(self, len(self._jobs))) is not None:
            if not job.body or job.stopping:
                self._engine.over(job, None)
                continue
            id = next(self._ids)
            self._jobs[id] = job
            if not job.progress():  # the loop that asked is gone
                del self._jobs[id]
                self._engine.over(job, None)
                continue
            _say(pipe, Ask(id, job.body, job.embeddings))

    def _heard(self, said: Given | Done, pipe: Connection) -> None:
        job = self._jobs[said.id]
        if isinstance(said, Given):
            self._longest = max(self._longest, time.monotonic() - job.moved)
            wanted = job.progress() if said.piece is None else job.give(said.status, said.piece)
            if not wanted:
                job.stopping = True
            return
        del self._jobs[said.id]
        self._given_up.pop(said.id, None)
        self._engine.deaths = 0
        failure = None
        if said.fault is not None:
            failure = said.fault.error() or InternalServerError(
                f"The process of the local model failed at the call: {said.fault.kind}.", status=500, provider="local"
            )
        self._engine.over(job, failure)

    def _stop_given_up(self, pipe: Connection) -> None:
        for id, job in self._jobs.items():
            if job.stopping and id not in self._given_up:
                self._given_up[id] = time.monotonic()
                _say(pipe, Stop(id))

    def _stuck(self) -> bool:
        """Whether a job will not end by itself; notes why."""
        now = time.monotonic()
        patience = min(max(_STOP_SECONDS, 2 * self._longest), _MAX_STOP_SECONDS)
        if any(now - since > patience for since in self._given_up.values()):
            self._reason = "a call that had been given up did not stop"
        for job in self._jobs.values():
            if now - job.moved > (_EMBEDDING_SECONDS if job.embeddings else _STALL_SECONDS):
                self._reason = "nothing happened for too long"
        return bool(self._reason)


def _say(pipe: Connection, said: ToModel) -> None:
    pipe.send_bytes(msgspec.msgpack.encode(said))


@contextlib.contextmanager
def _process(*, debug: bool) -> Generator[tuple[subprocess.Popen[bytes], Connection]]:
    """Start the process and give it with this end of the pipe to it; afterwards wait until it has ended."""
    ours, theirs = Pipe()
    with ours:
        with theirs:
            handle = theirs.fileno()
            # A stack trace by a debugger, as llama.cpp has it made before it aborts, would hold up the next process.
            environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
            code = _CODE.format(path=sys.path, handle=handle, parent=os.getpid())
            passed: dict[str, Any]
            # The suite is measured on POSIX systems.
            if sys.platform == "win32":  # pragma: no cover
                os.set_handle_inheritable(handle, True)
                passed = {"close_fds": False}
            else:
                passed = {"pass_fds": (handle,), "start_new_session": True}
            started: Any = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # llama.cpp repeats there what of a request it cannot read.
                stderr=None if debug else subprocess.DEVNULL,
                env=environment,
                **passed,
            )
            child: subprocess.Popen[bytes] = started
        with child:
            yield child, ours
