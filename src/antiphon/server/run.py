"""Floor 6: the server as a process: its socket, its signals, its workers, its end."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, cast

import anyio
import uvicorn

from antiphon import config as settings
from antiphon.config import Config
from antiphon.errors import AntiphonError
from antiphon.local_model import cache_dir
from antiphon.server.application import Application
from antiphon.server.connection import protocol
from antiphon.server.exchange import Connection
from antiphon.server.log import AccessLog

__all__ = ["Server", "Source", "bind", "serve"]

logger = logging.getLogger("antiphon.server")

_BACKLOG = 2048
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes put their figures together; the metrics' library looks at it when it is imported."""
_OTHER_FILES = 200
_LAST_WORDS = 3
"""Seconds for the error events of streams that did not end in time."""
_TOO_SOON = 1.0
"""A worker that lives no longer than this, in seconds, would do no better if it were started again."""


class Source:
    """Where settings come from, to be read again when they change."""

    def __init__(self, path: str | None, overrides: Mapping[str, Any]) -> None:
        self.path = path
        self.overrides = dict(overrides)

    def load(self) -> Config:
        """Read them.

        Raises:
            ConfigError: They have a fault.
        """
        return settings.load(self.path, self.overrides)

    def pin(self, config: Config) -> None:
        """Hold what is read later to the address of *config*, which is listened at: it must be safe for that one."""
        self.overrides |= {"server.host": config.server.host, "server.port": config.server.port}


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes any that is free.

    Raises:
        AntiphonError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two servers have the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        raise AntiphonError(
            f"The server cannot listen on {host} port {port}: {error.strerror}. Choose another with --host and --port, "
            "or end what listens there."
        ) from error
    return listener


def serve(source: Source, config: Config, listener: socket.socket) -> None:
    """Serve until a signal says to stop: SIGINT or SIGTERM. SIGHUP reads the settings anew, whole or not at all."""
    source.pin(config)
    if config.server.workers > 1:
        _Workers(source, config, listener).run()
    else:
        _work(source, config, listener)


def _allow_files(concurrent: int) -> None:
    """Allow this process as many open sockets as it may need, two a request, where the system lets it."""
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * concurrent + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):  # a sandbox may forbid it
            most = soft
    if most < wanted:
        logger.warning(
            "The system lets a process have %d files open, which is enough for %d requests at once, not for the %d of "
            "limits.concurrent.",
            most,
            (most - _OTHER_FILES) // 2,
            concurrent,
        )


def _work(source: Source, config: Config, listener: socket.socket) -> None:
    _allow_files(config.limits.concurrent)
    log = AccessLog(sys.stdout.buffer) if config.server.access_log else None
    application = Application(config, log=log)
    gc.collect()
    gc.freeze()  # what is there now stays: it need not be looked through for garbage again and again
    Server(application, source).run([listener])


class Server(uvicorn.Server):
    """uvicorn's server, which here also reads its settings anew, and ends streams in order when it stops.

    Args:
        application: What it serves.
        source: Where its settings are read anew.
    """

    def __init__(self, application: Application, source: Source) -> None:
        self._application = application
        self._source = source
        self._reload = False
        self._parent = multiprocessing.parent_process()
        super().__init__(
            uvicorn.Config(
                application,
                loop="auto",
                http=protocol(lambda: application.gateway.config.limits),
                ws="none",
                lifespan="on",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
            )
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

    @property
    def _grace(self) -> float:
        return self._application.gateway.config.timeouts.shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        if hasattr(signal, "SIGHUP"):
            with suppress(ValueError):  # not in the main thread: then signals are for whoever started the thread
                signal.signal(signal.SIGHUP, self._hang_up)
        await super().startup(sockets)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True

    async def on_tick(self, counter: int) -> bool:
        """Do what has to be done ten times a second; say whether to stop."""
        if self._reload:
            self._reload = False
            await self._read_anew()
        if self._parent is not None and not self._parent.is_alive():
            return True
        return await super().on_tick(counter)

    async def _read_anew(self) -> None:
        try:
            config = await anyio.to_thread.run_sync(self._source.load)
        except AntiphonError as error:
            logger.error("The settings have a fault, so those in force stay.\n%s", error.message)
            return
        self._application.use(config)
        logger.warning("The settings were read anew and are in force.")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let what is under way end within its time, and end the rest."""
        self._application.stopping = True
        self.config.timeout_graceful_shutdown = int(self._grace) + _LAST_WORDS
        async with anyio.create_task_group() as group:
            group.start_soon(self._end_late)
            await super().shutdown(sockets)
            group.cancel_scope.cancel()

    async def _end_late(self) -> None:
        await anyio.sleep(self._grace)
        self._application.end_all()
        await anyio.sleep(_LAST_WORDS / 2)
        for connection in list(self.server_state.connections):  # what was said there is not being read
            cast(Connection, connection).abort()


class _Workers:
    """Several processes that share a socket, watched by one that answers nothing itself."""

    def __init__(self, source: Source, config: Config, listener: socket.socket) -> None:
        self._shared: tempfile.TemporaryDirectory[str] | None = None
        if config.server.metrics:
            folder = cache_dir()
            folder.mkdir(parents=True, exist_ok=True)
            self._shared = tempfile.TemporaryDirectory(prefix="metrics-", dir=folder)
            os.environ[_SHARED] = self._shared.name
        self._source = source
        self._listener = listener
        self._context = multiprocessing.get_context("spawn")
        self._began: dict[SpawnProcess, float] = {}
        self._stop = False
        self._hung_up = False
        for _ in range(config.server.workers):
            self._start()

    def _start(self) -> None:
        worker = self._context.Process(target=_worker, args=(self._source, self._listener), daemon=True)
        worker.start()
        self._began[worker] = time.monotonic()

    def run(self) -> None:
        """Watch them until a signal says to stop."""
        for name in ("SIGINT", "SIGTERM"):
            signal.signal(getattr(signal, name), self._on_stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._on_hang_up)
        while not self._stop:
            wait([worker.sentinel for worker in self._began], timeout=0.2)
            if self._hung_up:
                self._hung_up = False
                self._read_anew()
            self._replace()
        for worker in self._began:
            worker.terminate()
        for worker in self._began:
            worker.join()

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True

    def _on_hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True

    def _replace(self) -> None:
        for worker in [worker for worker in self._began if not worker.is_alive()]:
            lived = time.monotonic() - self._began.pop(worker)
            if self._stop:
                return
            if self._shared is not None and worker.pid is not None:
                from prometheus_client import multiprocess  # where metrics are wanted

                multiprocess.mark_process_dead(worker.pid, self._shared.name)  # type: ignore[no-untyped-call]
            if lived < _TOO_SOON:
                logger.error("A worker ended as soon as it began (exit code %s): giving up.", worker.exitcode)
                self._stop = True
                return
            logger.error("The worker %s ended with exit code %s: starting another.", worker.pid, worker.exitcode)
            self._start()

    def _read_anew(self) -> None:
        try:
            self._source.load()
        except AntiphonError as error:
            logger.error("The settings have a fault, so those in force stay.\n%s", error.message)
            return
        for worker in self._began:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, signal.SIGHUP)


def _worker(source: Source, listener: socket.socket) -> None:
    """Be one of several processes that serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the watcher says when to stop
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    _work(source, source.load(), listener)
