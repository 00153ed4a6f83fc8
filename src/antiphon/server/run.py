"""The server as a process: its socket, its signals, its workers, its end."""

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
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection as PipeConnection
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FrameType
from typing import Any, cast

import anyio
import uvicorn

from antiphon.errors import AntiphonError, ConfigError
from antiphon.providers.local.download import cache_dir
from antiphon.server.application import Application
from antiphon.server.connection import protocol
from antiphon.server.exchange import Connection
from antiphon.server.log import AccessLog
from antiphon.server.memory import give_back
from antiphon.settings import config as settings
from antiphon.settings.config import Config

__all__ = ["Server", "Source", "bind", "serve"]

logger = logging.getLogger("antiphon.server")

_BACKLOG = 2048
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes put their figures together; the metrics' library looks at it when it is imported."""
_OTHER_FILES = 200
_LAST_WORDS = 3
"""Seconds for the error events of streams that did not end in time."""
_HEALTHY = 10.0
"""Seconds after which a worker that ends is not one of a series that ended quickly."""
_PAUSE, _LONG_PAUSE = 2.0, 30.0
"""Seconds at most until a worker is started again: one that had served, and one that had not."""
_STARTS = 4
"""How often each worker may end before it serves, in a row, until the server gives up."""


class Source:
    """Where settings come from, to be read again when they change."""

    def __init__(self, path: str | None, overrides: Mapping[str, Any]) -> None:
        self.path = path
        self.overrides = dict(overrides)
        self._has_keys = False

    def load(self) -> Config:
        """Read them.

        Raises:
            ConfigError: They have a fault, or would take the last key away from a server that has one.
        """
        config = settings.load(self.path, self.overrides)
        if self._has_keys and not config.keys:
            raise ConfigError(
                f"{config.path}: there is no key any more, and without one whatever reaches the server could use it: "
                "restart it if that is meant."
            )
        self._has_keys = self._has_keys or bool(config.keys)
        return config

    def pin_address(self, config: Config) -> None:
        """Hold what is read later to *config*: to the address listened at, to its file, and to having keys if it has.

        A file that is empty or not there for a moment, while it is written anew, must not open the server.
        """
        self.overrides |= {"server.host": config.server.host, "server.port": config.server.port}
        self.path = None if config.path is None else os.fspath(config.path)
        self._has_keys = bool(config.keys)


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


def serve(
    source: Source, config: Config, listener: socket.socket, logs: Callable[[], object] = logging.basicConfig
) -> None:
    """Serve until a signal says to stop: SIGINT or SIGTERM. SIGHUP reads the settings anew, whole or not at all.

    *logs* sets up logging in each of several workers; it is pickled.

    Raises:
        AntiphonError: No worker can start.
    """
    source.pin_address(config)
    if config.server.workers > 1:
        _Workers(source, config, listener, logs).run()
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
            max(1, (most - _OTHER_FILES) // 2),
            concurrent,
        )


def _work(source: Source, config: Config, listener: socket.socket, ready: Callable[[], object] | None = None) -> None:
    give_back()
    _allow_files(config.limits.concurrent)
    log = None
    if config.server.access_log:
        log = AccessLog(open(sys.stdout.fileno(), "wb", buffering=0, closefd=False))
    application = Application(config, log=log)
    gc.collect()
    gc.freeze()  # what is there now stays: it need not be looked through for garbage again and again
    server = Server(application, source, ready)
    # uvicorn sends itself the signal that stopped it once more, at the end: an orderly stop is exit code 0.
    signal.signal(signal.SIGTERM, server.terminate)
    try:
        server.run([listener])
    finally:
        if log is not None:
            log.close()


class Server(uvicorn.Server):
    """uvicorn's server, which here also reads its settings anew, and ends streams in order when it stops.

    Args:
        application: What it serves.
        source: Where its settings are read anew.
        ready: Is called once it listens.
    """

    def __init__(self, application: Application, source: Source, ready: Callable[[], object] | None = None) -> None:
        self._ready = ready
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
        _handle_hang_up(self._hang_up)
        await super().startup(sockets)
        if self._ready is not None:
            self._ready()

    def terminate(self, _number: int, _frame: FrameType | None) -> None:
        """Stop in order, as uvicorn's own handler does while it is there."""
        self.should_exit = True

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True

    async def on_tick(self, counter: int) -> bool:
        """Do what has to be done ten times a second; say whether to stop."""
        if self._reload:
            self._reload = False
            await self._reload_config()
        if self._parent is not None and not self._parent.is_alive():
            return True
        return await super().on_tick(counter)

    async def _reload_config(self) -> None:
        config = await anyio.to_thread.run_sync(_loaded, self._source)
        if config is None:
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


class _Worker:
    """One of several processes that serve: the one there is now, or the time at which the next one starts."""

    def __init__(self) -> None:
        self.process: SpawnProcess | None = None
        self.ready = False
        """Whether the process has begun to serve."""
        self.failed = 0
        """How many processes in a row ended before they served."""
        self.next_start = 0.0
        self._deaths = 0
        self._began = 0.0
        self._signal: PipeConnection | None = None

    def start(self, context: SpawnContext, *arguments: Any) -> None:
        """Start a process. SIGHUP waits in it until it can be handled: the mask of signals is inherited."""
        ours, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_worker, args=(*arguments, theirs), daemon=True)
        blocked = _block_hang_up()
        try:
            self.process.start()
        finally:
            if blocked:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        theirs.close()
        self._signal, self._began, self.ready = ours, time.monotonic(), False

    def look(self) -> None:
        """Note whether the process has begun to serve."""
        if self._signal is not None and not self.ready and self._signal.poll():
            with suppress(EOFError):
                self._signal.recv_bytes()
                self.ready, self.failed = True, 0

    def ended(self) -> float:
        """Note that the process ended; return the seconds until the next one starts."""
        self.look()
        now = time.monotonic()
        self._deaths = 0 if self.ready and now - self._began >= _HEALTHY else self._deaths + 1
        self.failed += not self.ready
        pause = 0.0 if self._deaths < 2 else min(2.0 ** (self._deaths - 3), _PAUSE if self.ready else _LONG_PAUSE)
        self.process, self.ready, self.next_start = None, False, now + pause
        if self._signal is not None:
            self._signal.close()
            self._signal = None
        return pause


class _Workers:
    """Several processes that share a socket, watched by one that answers nothing itself."""

    def __init__(self, source: Source, config: Config, listener: socket.socket, logs: Callable[[], object]) -> None:
        self._shared: tempfile.TemporaryDirectory[str] | None = None
        if config.server.metrics:
            folder = cache_dir()
            folder.mkdir(parents=True, exist_ok=True)
            self._shared = tempfile.TemporaryDirectory(prefix="metrics-", dir=folder)
            os.environ[_SHARED] = self._shared.name
        self._source = source
        self._listener = listener
        self._logs = logs
        self._context = multiprocessing.get_context("spawn")
        self._workers = [_Worker() for _ in range(config.server.workers)]
        self._stop = False
        self._hung_up = False

    def run(self) -> None:
        """Watch them until a signal says to stop.

        Raises:
            AntiphonError: None of them can start.
        """
        for name in ("SIGINT", "SIGTERM"):
            signal.signal(getattr(signal, name), self._on_stop)
        _handle_hang_up(self._on_hang_up)
        try:
            while not self._stop:
                self._start_due()
                wait([worker.process.sentinel for worker in self._workers if worker.process], timeout=0.2)
                if self._hung_up:
                    self._hung_up = False
                    self._reload_config()
                self._note_ends()
        finally:
            running = [worker.process for worker in self._workers if worker.process]
            for process in running:
                process.terminate()
            for process in running:
                process.join()

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True

    def _on_hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True

    def _start_due(self) -> None:
        for worker in self._workers:
            if worker.process is None and worker.next_start <= time.monotonic():
                worker.start(self._context, self._source, self._listener, self._logs)

    def _note_ends(self) -> None:
        for worker in self._workers:
            worker.look()
            process = worker.process
            if process is None or process.is_alive() or self._stop:
                continue
            if self._shared is not None and process.pid is not None:
                from prometheus_client import multiprocess  # where metrics are wanted

                multiprocess.mark_process_dead(process.pid, self._shared.name)  # type: ignore[no-untyped-call]
            pid, code, pause = process.pid, process.exitcode, worker.ended()
            when = f" in {pause:g} s" if pause else ""
            logger.error("The worker %s ended with exit code %s: starting another%s.", pid, code, when)
        if all(worker.failed >= _STARTS for worker in self._workers):
            raise AntiphonError(
                f"No worker can start: each of {len(self._workers)} ended {_STARTS} times before it served. The log "
                "above says why."
            )

    def _reload_config(self) -> None:
        if _loaded(self._source) is None:
            return
        for worker in self._workers:
            if worker.process is not None and worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGHUP)


def _worker(source: Source, listener: socket.socket, logs: Callable[[], object], signal_ready: PipeConnection) -> None:
    """Be one of several processes that serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the watcher says when to stop
    logs()
    try:
        _work(source, source.load(), listener, lambda: signal_ready.send_bytes(b"ready"))
    except AntiphonError as error:
        logger.error("This worker cannot serve: %s", error.message)
        sys.exit(1)
    except Exception:
        logger.exception("This worker failed.")
        sys.exit(1)


def _loaded(source: Source) -> Config | None:
    """Return the settings as they are now, or `None`, with the reason in the log, where they cannot be used."""
    try:
        return source.load()
    except AntiphonError as error:
        logger.error("The settings have a fault, so those in force stay.\n%s", error.message)
    except Exception as error:  # no file may end a server that is running
        logger.error("The settings cannot be read (%s), so those in force stay.", type(error).__name__)
    return None


def _block_hang_up() -> bool:
    """Let SIGHUP wait, and tell whether it did not before."""
    if not hasattr(signal, "SIGHUP"):
        return False
    return signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def _handle_hang_up(handler: Callable[[int, FrameType | None], None]) -> None:
    """Let *handler* have each SIGHUP, one that waits already first."""
    if hasattr(signal, "SIGHUP"):
        with suppress(ValueError):  # not in the main thread: signals are for the program that started the thread
            signal.signal(signal.SIGHUP, handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
