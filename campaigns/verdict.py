"""What a campaign measured, and whether that is good enough: the only place where something is judged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["NO_ANSWER", "Findings", "Kind", "Moment", "judge", "quantile", "unexpected"]

NO_ANSWER = "no answer"
"""The fault of a request whose connection ended, or could not be opened."""
LONGEST_WAIT = 1.0
"""Seconds within which every well-behaved client has its whole answer."""
GROWTH_SHARE = 0.10
GROWTH_BYTES = 20e6
"""Memory may grow by this share, and by these bytes for each process that serves, from the end of the warm-up on."""
PEAK_BYTES = 400e6
"""What all attacks together may make the server hold for a moment, on top of what it had at its start.

The largest body has 12 MB, and one is sent at a time; as Python's objects it may be thirty times as large.
"""
GROWTH_FILES = 16
"""Files that may be open at the end beyond those after the warm-up, for each process that serves: kept connections."""
_EXPECTED = (
    r"The settings were read (again|anew) and are in force\.",
    r"request [\w.:-]+: .+",  # what went wrong at a provider
    r"No list of models from \S+: .+",
    r"The worker \d+ ended with exit code -9: starting another.*\.",
)
_ACCOUNTED = re.compile(f"(antiphon: )?({'|'.join(_EXPECTED)})")
_EXAMPLES = 3


@dataclass
class Kind:
    """What became of the requests of one kind of well-behaved client."""

    name: str
    judged: bool = True
    """Whether it says something about the server, and not about the machine alone."""
    seconds: list[float] = field(default_factory=list[float])
    """How long each whole answer took, right or wrong."""
    faults: Counter[str] = field(default_factory=Counter[str])
    """What was wrong, and how often."""
    cut: int = 0
    """Requests whose connection visibly ended because the worker was killed, and whose one repetition was answered."""

    @property
    def count(self) -> int:
        """How many requests there were, repetitions included."""
        return len(self.seconds) + self.cut + self.faults[NO_ANSWER]


@dataclass(frozen=True)
class Moment:
    """What the server has at one moment."""

    resident: float
    """Bytes, of all its processes."""
    files: int
    """Open file descriptors, of all its processes."""


@dataclass
class Findings:
    """All that one run measured."""

    title: str
    serving: int
    """Processes that answer requests."""
    killing: bool
    """Whether the run was to kill workers."""
    kinds: list[Kind] = field(default_factory=list[Kind])
    start: Moment | None = None
    warm: Moment | None = None
    """After the warm-up, with attacks paused; `None` if the run did not get so far."""
    end: Moment | None = None
    peak: float = 0.0
    """The most bytes that were resident at any time."""
    ended_early: int | None = None
    """The exit code of a server that ended before it was asked to."""
    exit_code: int | None = None
    """The exit code after SIGTERM; `None` for one that had to be killed."""
    kills: int = 0
    log: str = ""
    """What the server wrote to standard error."""
    opening: int = 0
    """Characters of the log that were there when it was ready: what it says of itself at its start."""
    secrets: tuple[str, ...] = ()
    """What must not be in any log."""
    access_log: str = ""
    attacks: Counter[str] = field(default_factory=Counter[str])
    """How many rounds of each attack there were."""
    breaches: Counter[str] = field(default_factory=Counter[str])
    """What attacks got that they must not get, and how often."""


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is not below *share* of all; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def unexpected(log: str) -> Counter[str]:
    """Return the lines of a log that no attack accounts for, with numbers struck out so that like lines are one."""
    lines = (line.strip() for line in log.splitlines())
    odd = (line for line in lines if line and not _ACCOUNTED.fullmatch(line))
    return Counter(re.sub(r"\d+", "#", line)[:160] for line in odd)


def judge(found: Findings, attacks: Sequence[str]) -> list[str]:
    """Return a sentence for each thing that is not as it has to be; none if the run was passed.

    Args:
        found: What was measured.
        attacks: The attacks that were to take place.
    """
    return [
        *_judge_clients(found.kinds),
        *(f"An attack got what it must not get, {count} times: {what}." for what, count in found.breaches.items()),
        *(f"The attack {name!r} did not take place." for name in attacks if not found.attacks[name]),
        *_judge_memory(found),
        *_judge_files(found),
        *_judge_end(found),
        *_judge_logs(found),
    ]


def _judge_clients(kinds: Sequence[Kind]) -> list[str]:
    faults: list[str] = []
    for kind in kinds:
        if not kind.judged:
            continue
        if not kind.count:
            faults.append(f"{kind.name}: not one request was sent.")
        faults += [f"{kind.name}: {count} failed: {what}." for what, count in kind.faults.items()]
        late = [seconds for seconds in kind.seconds if seconds > LONGEST_WAIT]
        if late:
            faults.append(f"{kind.name}: {len(late)} waited longer than {LONGEST_WAIT:g} s, up to {max(late):.1f} s.")
    return faults


def _judge_memory(found: Findings) -> list[str]:
    if found.start is None or found.warm is None or found.end is None:
        return ["Memory could not be measured to the end."]
    faults: list[str] = []
    allowed = found.warm.resident * GROWTH_SHARE + GROWTH_BYTES * found.serving
    grown = found.end.resident - found.warm.resident
    if grown > allowed:
        faults.append(f"Memory grew by {grown / 1e6:.0f} MB after the warm-up, more than {allowed / 1e6:.0f} MB.")
    if found.peak - found.start.resident > PEAK_BYTES:
        faults.append(f"Memory was at {found.peak / 1e6:,.0f} MB for a moment, more than the attacks account for.")
    return faults


def _judge_files(found: Findings) -> list[str]:
    if found.warm is None or found.end is None:
        return []  # memory says so already
    grown = found.end.files - found.warm.files
    return [f"{grown} more files are open than after the warm-up."] if grown > GROWTH_FILES * found.serving else []


def _judge_end(found: Findings) -> list[str]:
    if found.ended_early is not None:
        return [f"The server ended by itself with exit code {found.ended_early}."]
    if found.exit_code is None:
        return ["The server did not end in time after SIGTERM."]
    faults = [f"After SIGTERM the exit code was {found.exit_code}, not 0."] if found.exit_code else []
    if found.killing and not found.kills:
        faults.append("No worker was killed.")
    return faults


def _judge_logs(found: Findings) -> list[str]:
    faults: list[str] = []
    if tracebacks := found.log.count("Traceback (most recent call last)"):
        faults.append(f"{tracebacks} tracebacks are in the log.")
    odd = unexpected(found.log[found.opening :])
    if odd:
        most = "; ".join(f"{line!r} ({count})" for line, count in odd.most_common(_EXAMPLES))
        faults.append(f"{odd.total()} lines of the log are unexpected, such as {most}.")
    if any(secret in found.log or secret in found.access_log for secret in found.secrets):
        faults.append("A key is in a log.")
    return faults
