"""What tests of the command line share: the program in this process, in one of its own, and at a terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from click.testing import CliRunner, Result

from antiphon.cli import app

PROGRAM = (sys.executable, "-W", "error", "-c", "from antiphon.cli import main; main()")
PATIENCE = 60.0
"""Seconds to wait for something that is bound to come."""

CANARY = "sk-canary-0123456789abcdef"
"""A key, to be looked for where none may be."""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="terminals and signals are POSIX's")


def one_line(text: str) -> str:
    """Check that *text* is one line of an error, and return it."""
    assert re.fullmatch(r"antiphon: [^\n]+\n", text), text
    return text


def run(*arguments: str, stdin: bytes | str = b"", **environ: str) -> Result:
    """Run the program in this process, with *stdin* piped in."""
    return CliRunner().invoke(app, arguments, input=stdin, env=environ)


def start(*arguments: str, stdin: int | None = subprocess.DEVNULL, **environ: str) -> subprocess.Popen[bytes]:
    """Start the program in a process of its own, with pipes for what it writes."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environ},
    )


class Terminal:
    """The program at a terminal of 80 columns; use it in a `with` block, which leaves a conversation.

    Args:
        arguments: What stands after its name.
        stdout: Whether the terminal is its standard output too; else what it writes there is in `piped`.
        stdin: Whether it is its standard input; else that is empty.
        environ: Variables beside those of this process.
        program: Python code to run in place of the program.
    """

    def __init__(
        self,
        *arguments: str,
        stdout: bool = True,
        stdin: bool = True,
        environ: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        import fcntl  # not on Windows
        import pty
        import termios

        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        self._pipe, out = (-1, theirs) if stdout else os.pipe()
        self.process = subprocess.Popen(
            [*(PROGRAM if program is None else (sys.executable, program)), *arguments],
            stdin=theirs if stdin else subprocess.DEVNULL,
            stdout=out,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **(environ or {})},
            start_new_session=True,
            # What Ctrl-C is sent to: the processes that have this as their terminal.
            preexec_fn=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        if not stdout:
            os.close(out)
        self._new = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self.process.poll() is None:
            self.send("\x04")  # leaves a conversation
            self.end()
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        if self._pipe >= 0:
            os.close(self._pipe)

    def send(self, text: str) -> None:
        """Type *text*; Enter is a carriage return."""
        os.write(self._ours, text.encode())

    def expect(self, text: str) -> str:
        """Wait for *text*, and return what the terminal showed before it since the last call, without its codes."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._new:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            more = self._read() if ready else ""
            assert more, f"{text!r} did not come; what came is {self._new!r}"
            self._new = plain(self._new + more)
        before, _, self._new = self._new.partition(text)
        return before

    def settle(self) -> None:
        """Wait until the program waits for a key, where the system tells (Linux).

        Python sees a signal that comes between a key and the wait for the next one only after that next one.
        """
        status = Path(f"/proc/{self.process.pid}/stat")
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "S":
            os.sched_yield()

    def end(self) -> tuple[int, str]:
        """Wait for the program's end; return its exit code, and what the terminal showed since `expect`."""
        while more := self._read():
            self._new += more
        return self.process.wait(PATIENCE), plain(self._new)

    def piped(self) -> str:
        """Return what the program wrote to its standard output, once it has ended."""
        self.process.wait(PATIENCE)
        return os.read(self._pipe, 1 << 16).decode()

    def close_pipe(self) -> None:
        """Read no more of what the program writes to its standard output."""
        os.close(self._pipe)
        self._pipe = -1

    def _read(self) -> str:
        try:
            return os.read(self._ours, 1 << 16).decode(errors="replace")
        except OSError:  # Linux: the program has closed its side
            return ""


def plain(text: str) -> str:
    """Return *text* without what colours it and moves the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Send what Ctrl-C sends."""
    process.send_signal(signal.SIGINT)
