"""`antiphon serve` in processes of its own: its settings, its signals, and what it has and says, seen from outside."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.measure import ROOT, environment
from benchmarks.serve_load import resident
from campaigns.verdict import Moment

__all__ = ["PROVIDER_KEY", "Served"]

PROVIDER_KEY = "sk-campaign-0123456789abcdef0123456789"
"""The key of every provider, to be looked for where it may not be."""
_SETTINGS = """
[server]
metrics = true
[limits]
concurrent = 64
queue_seconds = 5
head_seconds = 3
body_seconds = 5
write_seconds = 3
[timeouts]
connect = 3
first_token = 3
idle = 3
total = 8
shutdown = 5
"""
"""Short limits, so that many attacks run into each of them within minutes."""
_FORMATS = ("anthropic", "gemini", "cohere", "ollama")
_UNWANTED = re.compile(r".*(KEY|TOKEN|SECRET|_BASE_URL|_API_BASE).*|(AWS|AZURE|GOOGLE|XDG)_.*", re.IGNORECASE)
_READY = 30.0
_BEGUN = 0.25
"""Seconds after which the program runs, and is not still being loaded: `antiphon --version` takes a quarter of it."""
_GRACE = 15.0
"""Seconds for the end: `timeouts.shutdown`, the 3 s after that, and time for a busy machine."""


class Served:
    """The server; use it in a `with` block.

    Args:
        providers: The ports of providers, by name; of `sink` there is one for each further format, too.
        keys: The keys of clients.
        workers: Processes that serve.
        hang_up: Whether it gets SIGHUP while it starts.
    """

    def __init__(self, providers: Mapping[str, int], keys: tuple[str, ...], workers: int, *, hang_up: bool) -> None:
        self._providers = providers
        self._keys = keys
        self._workers = workers
        self._hang_up = hang_up
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def __enter__(self) -> Self:
        """Start it."""
        self._folder = tempfile.TemporaryDirectory(prefix="antiphon-campaign-")
        folder = Path(self._folder.name)
        settings = folder / "antiphon.toml"
        settings.touch(0o600)  # it holds keys
        settings.write_text(self._settings())
        self._error, self._access = folder / "error.log", folder / "access.log"
        kept = {name: value for name, value in environment().items() if not _UNWANTED.fullmatch(name)}
        code = "from antiphon.cli import main; main()"  # what the installed script does
        own = ["serve", "--config", str(settings), "--port", str(self.port)]
        with self._error.open("wb") as error, self._access.open("wb") as access:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *own, "--workers", str(self._workers)],
                cwd=ROOT,
                env={**kept, "HOME": self._folder.name, "ANTIPHON_SERVER_KEYS": ",".join(self._keys)},
                stdin=subprocess.DEVNULL,
                stdout=access,
                stderr=error,
            )
        return self

    def _settings(self) -> str:
        rows = [(name, port, "openai-chat") for name, port in self._providers.items()]
        rows += [(f"{format}-sink", self._providers["sink"], format) for format in _FORMATS]
        return _SETTINGS + "".join(
            f'[providers.{name}]\nformat = "{format}"\nkey = "{PROVIDER_KEY}"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
            for name, port, format in rows
        )

    def wait_until_ready(self) -> bool:
        """Wait until it answers, with hang-ups meanwhile if it is to get them; whether it did."""
        began = time.monotonic()
        while self.process.poll() is None and time.monotonic() - began < _READY:
            if self._hang_up and time.monotonic() - began > _BEGUN:
                self.hang_up()
            if self._is_ready() and len(self.workers()) >= (self._workers if self._workers > 1 else 0):
                return True
            time.sleep(0.03)
        return False

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def hang_up(self) -> None:
        """Have it read its settings again."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int | None:
        """Send SIGTERM, and return the exit code; `None` if it does not end in time."""
        self.process.terminate()
        try:
            return self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return None

    def workers(self) -> list[int]:
        """Return the processes that the first one started to serve; none where it serves itself."""
        return [child for child in _children(self.process.pid) if b"spawn_main" in _read(child, "cmdline")]

    def resident(self) -> float:
        """Return the bytes that all its processes have resident."""
        return resident(self.process.pid) * 1e6

    def moment(self) -> Moment:
        """Look at it now."""
        files = 0
        for process in (self.process.pid, *_children(self.process.pid)):
            with suppress(OSError):  # it ended meanwhile
                files += len(os.listdir(f"/proc/{process}/fd"))
        return Moment(self.resident(), files)

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self._error.read_text(errors="replace")

    @property
    def access_log(self) -> str:
        """What it wrote to standard output."""
        return self._access.read_text(errors="replace")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        workers = _children(self.process.pid)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        self._folder.cleanup()


def _read(process: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{process}/{name}").read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def _children(process: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return []
    return [int(child) for task in tasks for child in _read(process, f"task/{task.name}/children").split()]
