"""Measure `antiphon serve` and print the table in Markdown: `python -m benchmarks.serve`.

What stands beside it is nginx as a plain proxy to the same upstream, measured in the same rounds, and the upstream with
nothing in front of it. Peers are measured as well where they are installed: the proxies of LiteLLM and Portkey, whose
programs `--peers` tells where to look for. It takes Linux, and `nginx` and `wrk` for most of the rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from benchmarks.__main__ import amount, machine, number
from benchmarks.measure import Middle, interleave
from benchmarks.rows import Reach
from benchmarks.serve_load import resident
from benchmarks.serve_peers import PEERS, Bench, find
from benchmarks.upstream import PER_SECOND

__all__ = ["main"]

_SECONDS = 60.0
"""What one subject may use up of one part before it sits out."""
_FILES = 8192
"""A thousand streams take two thousand sockets of a proxy."""
Figures = Mapping[str, float]
Take = Callable[[Bench, str], Figures]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    what: str
    unit: str
    figure: str
    """Which of the figures that its part takes."""
    compare: Literal["share", "times", "added"] | None = None
    """How a value is set against nginx's."""
    reach: tuple[Reach, ...] = ()
    subject: str = "antiphon"
    """Whose value stands in antiphon's column."""
    added: bool = False
    """Whether the values are what comes on top of the upstream's own."""
    worst: Callable[[Sequence[float]], float] | None = None
    """Which round counts, if it is not the median of all."""


@dataclass(frozen=True)
class Part:
    """What is measured at once: some rows, and the subjects that take turns."""

    what: str
    subjects: tuple[str, ...]
    take: Take
    rows: tuple[Row, ...]
    rounds: int = 1
    needs_wrk: bool = False


class Line:
    """A row with its figures: those of each subject, round by round."""

    def __init__(self, row: Row, found: Mapping[str, Sequence[Figures]]) -> None:
        self.row = row
        figures = {
            name: [figures[row.figure] for figures in rounds]
            for name, rounds in found.items()
            if row.figure in rounds[0]
        }
        own = {name: self._over(figures, name) for name in figures if name != "straight"}
        self.straight = self._middle(figures["straight"]) if "straight" in figures else None
        self.values = {name: self._middle(values) for name, values in own.items()}
        self.own = self.values[row.subject].median
        self.compared: Middle | None = None
        if row.compare and "nginx" in own:
            pairs = zip(own[row.subject], own["nginx"], strict=False)
            self.compared = Middle([a - b if row.compare == "added" else a / b for a, b in pairs])

    def _over(self, figures: Mapping[str, Sequence[float]], name: str) -> list[float]:
        """Return the values of a subject; those that come on top of the upstream's are of the same round."""
        if not self.row.added:
            return list(figures[name])
        return [value - alone for value, alone in zip(figures[name], figures["straight"], strict=False)]

    def _middle(self, figures: Sequence[float]) -> Middle:
        return Middle([self.row.worst(figures)] if self.row.worst else figures)

    def met(self) -> bool | None:
        """Whether all bounds are kept; `None` where there are none, or nothing to judge one by."""
        judged = [None if (value := self._reached(reach)) is None else reach.met(value) for reach in self.row.reach]
        return False if False in judged else None if None in judged or not judged else True

    def _reached(self, reach: Reach) -> float | None:
        if reach.of == "value":
            return self.own
        return None if self.compared is None else self.compared.median

    def cells(self, peers: Sequence[str]) -> list[str]:
        """Return the line of the table."""
        row = self.row
        return [
            row.what,
            amount(self.straight.median, row.unit) if self.straight else "",
            self._value("nginx"),
            self._value(row.subject),
            self._comparison(),
            ", ".join(reach.sign + self._limit(reach) for reach in row.reach),
            {True: "yes", False: "**no**", None: ""}[self.met()],
            *map(self._value, peers),
        ]

    def _value(self, name: str) -> str:
        if name not in self.values:
            return ""
        value = self.values[name].median
        return ("+" if self.row.added and value >= 0 else "") + amount(value, self.row.unit)

    def _limit(self, reach: Reach) -> str:
        return amount(reach.limit, self.row.unit) if reach.of == "value" else f"{number(reach.limit * 100)} %"

    def _comparison(self) -> str:
        if self.compared is None:
            return ""
        factor = 100 if self.row.compare == "share" else 1
        middle, low, high = (number(x * factor) for x in (self.compared.median, self.compared.low, self.compared.high))
        unit = {"share": " %", "times": "×", "added": f" {self.row.unit}"}[self.row.compare or "times"]
        sign = "+" if self.row.compare == "added" and self.compared.median >= 0 else ""
        return f"{sign}{middle}{unit} ({low} … {high})"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        row = self.row
        return {
            "name": row.name,
            "what": row.what,
            "unit": row.unit,
            "compare": row.compare,
            "added": row.added,
            "reach": [vars(reach) for reach in row.reach],
            "met": self.met(),
            "straight": self.straight and self.straight.to_dict(),
            "values": {name: middle.to_dict() for name, middle in self.values.items()},
            "compared": self.compared and self.compared.to_dict(),
        }


def _whole(connections: int, bench: Bench, name: str) -> Figures:
    """Ask for whole answers; the subject `crossing` is asked in another dialect than its upstream is."""
    crossing = name == "crossing"
    server = bench.server("antiphon" if crossing else name)
    path = "/v1/messages" if crossing else "/v1/chat/completions"
    server.check(path)  # wrk itself looks at nothing but the status
    return bench.wrk(server, connections, path=path)


def _first(seconds: float, bench: Bench, name: str) -> Figures:
    server = bench.server(name)
    return {"first": bench.ask("first", server, server.request(words=1), 1, seconds)}


def _events(seconds: float, words: int, bench: Bench, name: str) -> Figures:
    server = bench.server(name)
    return {"events": bench.ask("events", server, server.request(words=words), words, seconds, 4)}


def _start(bench: Bench, name: str) -> Figures:
    with bench.fresh(name) as server:
        server.check()
        return {"ready": server.ready_after, "idle": resident(server.process)}


def _hold(count: int, words: int, bench: Bench, name: str) -> Figures:
    with bench.fresh(name) as server:
        request = server.request(words=words, paced=True)
        held: dict[str, Any] = bench.ask("hold", server, request, words, count, PER_SECOND, server.process)
    if not server.process:
        del held["resident"]
    fault = held.pop("fault")
    if held["lost"] == count * words:
        raise RuntimeError(f"{server.title} streamed nothing. {fault}")
    if fault:
        bench.notes.append(f"{server.title}, {count:,} streams: {fault}")
    return held


def _growth(requests: int, bench: Bench, name: str) -> Figures:
    with bench.fresh(name) as server:

        def ask(count: int) -> float:
            while count > 0:
                count -= int(bench.wrk(server, 32)["requests"])
            return resident(server.process)

        before = ask(requests // 10)
        return {"growth": ask(requests) - before}


def parts(peers: tuple[str, ...], *, quick: bool) -> list[Part]:
    """Return all that is measured; with *quick*, fewer rounds, shorter streams and fewer requests."""
    all_of_them = ("straight", "nginx", "antiphon", *peers)
    proxies = all_of_them[1:]
    rounds, pairs = (1, 1) if quick else (5, 2)
    words = 2 * PER_SECOND if quick else 7 * PER_SECOND
    requests = 3_000 if quick else 100_000

    def value(limit: float, *, least: bool = False) -> Reach:
        return Reach(limit, least=least, of="value")

    def added(name: str, what: str, figure: str, *reach: Reach) -> Row:
        return Row(name, what, "µs", figure, "added", reach, added=True)

    one, many = "added to a request, 1 connection", "added to a request, 32 connections"
    return [
        Part(
            "starting",
            proxies,
            _start,
            (
                Row("ready", "from start to ready", "ms", "ready", reach=(value(1000),)),
                Row("idle", "resident memory, idle after one call", "MB", "idle", "times", (value(80),)),
            ),
            rounds,
        ),
        Part(
            "requests on 1 connection",
            all_of_them,
            partial(_whole, 1),
            (
                Row("rate-1", "requests a second, 1 connection", "/s", "rate", "share"),
                added("p50-1", f"{one}: median", "p50", value(400)),
                added("p99-1", f"{one}: 99th percentile", "p99"),
            ),
            rounds,
            needs_wrk=True,
        ),
        Part(
            "requests on 32 connections",
            (*all_of_them, "log", "crossing"),
            partial(_whole, 32),
            (
                Row(
                    "rate-32",
                    "requests a second, 32 connections",
                    "/s",
                    "rate",
                    "share",
                    (Reach(0.25, least=True), value(3500, least=True)),
                ),
                Row("rate-32-log", "the same with the access log", "/s", "rate", "share", subject="log"),
                Row("rate-32-crossing", "the same asked in Anthropic's dialect", "/s", "rate", "share", (), "crossing"),
                added("p50-32", f"{many}: median", "p50"),
                added("p99-32", f"{many}: 99th percentile", "p99"),
            ),
            rounds,
            needs_wrk=True,
        ),
        Part(
            "first words",
            all_of_them,
            partial(_first, 0.2 if quick else 1.0),
            (added("first", "added to the time to the first word of a stream", "first"),),
            rounds,
        ),
        Part(
            "streams at full speed",
            all_of_them,
            partial(_events, 0.2 if quick else 1.0, 2_000),
            (Row("events", "events a second, 4 streams", "/s", "events", "share"),),
            rounds,
        ),
        Part(
            "100 streams",
            proxies,
            partial(_hold, 100, words),
            (Row("memory-100", "resident memory, 100 streams", "MB", "resident", "times"),),
        ),
        Part(
            "500 streams",
            all_of_them,
            partial(_hold, 500, words),
            (Row("pace-500", "of 500 streams, on pace", "", "on_pace", reach=(value(500, least=True),), worst=min),),
            pairs,
        ),
        Part(
            "1,000 streams",
            all_of_them,
            partial(_hold, 1_000, words + PER_SECOND),
            (
                Row("pace-1000", "of 1,000 streams, on pace", "", "on_pace", worst=min),
                Row("lost-1000", "words lost by 1,000 streams", "", "lost", reach=(value(0),), worst=max),
                Row("memory-1000", "resident memory, 1,000 streams", "MB", "resident", "times", (value(150),)),
            ),
            pairs,
        ),
        Part(
            "growth",
            ("antiphon",),
            partial(_growth, requests),
            (Row("growth", f"growth over {requests:,} requests", "MB", "growth"),),
            needs_wrk=True,
        ),
    ]


def measure(part: Part, bench: Bench, progress: Progress) -> list[Line]:
    """Take the figures of *part*."""
    subjects = [name for name in part.subjects if name != "nginx" or name in bench.programs]
    task = progress.add_task(part.what, total=part.rounds * len(subjects))
    found: dict[str, list[Figures]] = {name: [] for name in subjects}

    def sample(name: str) -> float:
        try:
            found[name].append(part.take(bench, name))
        except RuntimeError as error:
            if name not in PEERS:
                raise
            bench.notes.append(f"{part.what}: {_last_line(error)}")
        return 0.0  # the figures are several, and are kept here

    samples = {name: partial(sample, name) for name in subjects}
    interleave(samples, part.rounds, seconds=_SECONDS, tick=lambda: progress.advance(task))
    return [Line(row, {name: figures for name, figures in found.items() if figures}) for row in part.rows]


def _last_line(error: RuntimeError) -> str:
    """Return the beginning and the end of what was wrong."""
    first, *more = str(error).strip().splitlines()
    return f"{first} {more[-1]}" if more else first


def _peers(bench: Bench, progress: Progress) -> tuple[str, ...]:
    """Return the peers that are installed and give the upstream's answer."""
    good: list[str] = []
    for name, kind in PEERS.items():
        if name not in bench.programs:
            continue
        task = progress.add_task(f"starting {kind.title}", total=None)
        try:
            bench.server(name)
            good.append(name)
        except RuntimeError as error:
            bench.notes.append(f"{kind.title} is left out: {_last_line(error)}")
        progress.remove_task(task)
    return tuple(good)


def table(lines: Sequence[Line], peers: Sequence[str]) -> str:
    """Return the lines as a table in Markdown."""
    titles = [PEERS[peer].title for peer in peers]
    heads = ["what", "upstream alone", "nginx", "antiphon", "against nginx", "to reach", "met", *titles]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *(line.cells(peers) for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _versions(programs: Mapping[str, str]) -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    found |= {package: version(package) for package in ("antiphon", "uvicorn", "uvloop", "httptools")}
    if "nginx" in programs:
        said = subprocess.run([programs["nginx"], "-v"], check=False, capture_output=True, text=True).stderr
        found["nginx"] = said.strip().rpartition("/")[2]
    return found


def _notes(programs: Mapping[str, str], *, quick: bool) -> list[str]:
    """Say what has to be known to read the table."""
    notes = [
        "Clients and upstream share the cores with what is measured; one subject works at a time, all by turns.",
        f"Streams held have {PER_SECOND} words a second each; on pace is within 10 % of that, from first word to last.",
        "The counts of streams and of words lost are those of the worst round.",
    ]
    if quick:
        notes.append("Measured with --quick: one short round, good for a first look only.")
    if "nginx" not in programs:
        notes.append(
            "nginx was not found, so nothing is set against it: install it (Debian: `apt install nginx-light`)."
        )
    if "wrk" not in programs:
        notes.append("wrk was not found, so the rows that take it are missing: install it (Debian: `apt install wrk`).")
    return notes


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve", description=(__doc__ or "").partition(":")[0] + "."
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="a row of the table, by its name in --json")
    parser.add_argument("--quick", action="store_true", help="one short round, for a first look")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON instead of the table")
    parser.add_argument(
        "--peers",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder of programs in which to look for `litellm` and Portkey's `gateway`, such as node_modules/.bin",
    )
    args = parser.parse_args()
    names = [row.name for part in parts((), quick=True) for row in part.rows]
    if unknown := set(args.only or ()).difference(names):
        parser.error(f"No row is called {', '.join(sorted(unknown))}; there are {', '.join(names)}.")
    if sys.platform != "linux":
        parser.error("This reads /proc for the memory of processes, so it runs on Linux alone.")
    return args


def _programs(folders: Sequence[str]) -> dict[str, str]:
    """Return where each program is that can be found; peers are only looked for in *folders*."""
    found = {"wrk": find("wrk"), "nginx": find("nginx")}
    folders = [str(Path(folder).absolute()) for folder in folders]
    found |= {name: find(kind.name, folders, beyond=False) for name, kind in PEERS.items()}
    return {name: program for name, program in found.items() if program}


def _prepare() -> None:
    """Let this process have as many files as it takes, and clean up when it is told to end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(_FILES, hard)), hard))
    elif soft < _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def main() -> None:
    """Do what the command line says."""
    args = arguments()
    _prepare()
    console = Console(stderr=True)
    about, programs = machine(), _programs(args.peers)
    lines: list[Line] = []
    failed: list[str] = []
    with Progress(console=console, transient=True) as progress, Bench(programs, quick=args.quick) as bench:
        peers = _peers(bench, progress)
        for part in parts(peers, quick=args.quick):
            if (args.only and not {row.name for row in part.rows}.intersection(args.only)) or (
                part.needs_wrk and "wrk" not in programs
            ):
                continue
            try:
                lines += measure(part, bench, progress)
            except RuntimeError as error:  # the other parts are worth having
                failed.append(part.what)
                console.print(f"{part.what}: {error}", style="red", markup=False, highlight=False)
    notes = [*_notes(programs, quick=args.quick), *sorted(set(bench.notes))]
    if args.json:
        report = {"machine": about, "versions": _versions(programs), "notes": notes}
        print(json.dumps({**report, "rows": [line.to_dict() for line in lines]}, indent=1))
    else:
        listed = ", ".join(f"{name} {found}" for name, found in _versions(programs).items())
        print(table(lines, peers))
        print(f"\nMedians; in brackets the middle half of the rounds. {about}; {listed}.")
        print("\n".join(f"- {note}" for note in notes))
    if failed:
        sys.exit(f"Not measured: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
