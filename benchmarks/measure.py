"""How things are measured here: each subject in a process of its own, all by turns, and medians of what that gives.

The machine is shared, so a figure of one subject means little; what is kept is how two compare in the same round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ROOT", "Middle", "Process", "environment", "interleave", "interpreter_has", "started"]

ROOT = Path(__file__).resolve().parents[1]
_FEWEST = 3


class Middle:
    """The median of some figures, and the quartiles between which the middle half of them lies."""

    def __init__(self, figures: Sequence[float]) -> None:
        self.figures = list(figures)
        self.median = statistics.median(figures)
        if len(figures) < 2:
            self.low = self.high = self.median
        else:
            self.low, _, self.high = statistics.quantiles(figures, n=4, method="inclusive")

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {"median": self.median, "low": self.low, "high": self.high, "figures": self.figures}


class Process:
    """A process that runs until it is closed and answers on standard output; what else it says is shown if it fails."""

    def __init__(self, *command: str) -> None:
        self._command = command
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> str:
        """Return the next line.

        Raises:
            RuntimeError: The process ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._said.seek(0)
            raise RuntimeError(f"{' '.join(self._command)} ended early. It said:\n{_tail(self._said.read())}")
        return line

    def ask(self, task: str, *arguments: Any, **options: Any) -> Any:
        """Give an order to a child, and return its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([task, arguments, options]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `read` tells why it ended
        return json.loads(self.read())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()


def environment() -> dict[str, str]:
    """Return the environment of children: nothing in it sends them elsewhere, or makes one of them do more."""
    dropped = ("ANTIPHON_", "COVERAGE_", "OPENAI_", "LITELLM_", "PYTHON")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dropped) and not name.lower().endswith("_proxy")
    }
    return {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # or its import asks the network for prices


def started(*command: str) -> float:
    """Return the milliseconds that *command* takes from start to end.

    Raises:
        RuntimeError: It did not end well.
    """
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=False, capture_output=True)
    spent = (time.perf_counter() - began) * 1e3
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}. It said:\n{_tail(done.stderr)}")
    return spent


def _tail(said: bytes) -> str:
    return said.decode(errors="replace").strip()[-4000:]


def interleave(
    samples: Mapping[str, Callable[[], float]], rounds: int, *, seconds: float, tick: Callable[[], None]
) -> dict[str, list[float]]:
    """Take one figure of each sample in turn, *rounds* times, forwards and backwards by turns.

    Who has used up its *seconds* sits out after the third round. *tick* is called after each figure.
    """
    figures: dict[str, list[float]] = {name: [] for name in samples}
    spent = dict.fromkeys(samples, 0.0)
    for number in range(rounds):
        for name in list(samples)[:: -1 if number % 2 else 1]:
            if number < _FEWEST or spent[name] < seconds:
                began = time.perf_counter()
                figures[name].append(samples[name]())
                spent[name] += time.perf_counter() - began
            tick()
    return figures


def interpreter_has(interpreter: str, package: str) -> bool:
    """Whether *package* is installed for *interpreter*."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return subprocess.run([interpreter, "-c", code], cwd=ROOT, env=environment(), check=False).returncode == 0
