"""Measure this build and print the speed table in Markdown: `python -m benchmarks`.

Every figure of antiphon stands beside one of a baseline from the same rounds. Peers are measured as well where they are
installed: the OpenAI client and LiteLLM, in this environment or in one that `--peers` names.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from shutil import which
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks.measure import Middle, interleave, interpreter_has
from benchmarks.rows import ROWS, Bench, Row

PEERS = {"openai": "OpenAI client", "litellm": "LiteLLM"}
PEER_SECONDS = 10.0


class Line:
    """A row with its figures."""

    def __init__(self, row: Row, figures: dict[str, list[float]]) -> None:
        self.row = row
        self.values = {name: Middle(found) for name, found in figures.items()}
        baseline = figures.get("baseline", [0.0] * len(figures["antiphon"]))
        # A peer that sat out has figures of the first rounds alone; each is set against its own round.
        self.compared = {
            name: Middle([row.figure(*pair) for pair in zip(found, baseline, strict=False)])
            for name, found in figures.items()
        }

    @property
    def _by_value(self) -> bool:
        return self.row.reach is not None and self.row.reach.of == "value"

    def reached(self, name: str) -> float:
        """Return what the bound of this row is about."""
        return (self.values if self._by_value else self.compared)[name].median

    def met(self) -> bool | None:
        """Whether the bound is kept; `None` where there is none."""
        return None if self.row.reach is None else self.row.reach.met(self.reached("antiphon"))

    def cells(self, peers: Sequence[str]) -> list[str]:
        """Return the line of the table."""
        row, reach = self.row, self.row.reach
        return [
            row.what,
            f"{row.baseline} {amount(self.values['baseline'].median, row.unit)}" if row.baseline else "",
            amount(self.values["antiphon"].median, row.unit),
            spread(self.compared["antiphon"], row) if row.compare else "",
            "" if reach is None else reach.sign + self._judged(reach.limit),
            {True: "yes", False: "**no**", None: ""}[self.met()],
            *(self._judged(self.reached(peer)) if peer in self.values else "" for peer in peers),
        ]

    def _judged(self, figure: float) -> str:
        """Write *figure* as what the bound of this row is about."""
        if self.row.compare is None or self._by_value:
            return amount(figure, self.row.unit)
        return comparison(figure, self.row)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        row = self.row
        return {
            "name": row.name,
            "what": row.what,
            "unit": row.unit,
            "baseline": row.baseline or None,
            "compare": row.compare,
            "reach": None if row.reach is None else vars(row.reach),
            "met": self.met(),
            "values": {name: middle.to_dict() for name, middle in self.values.items()},
            "compared": {name: middle.to_dict() for name, middle in self.compared.items()} if row.compare else None,
        }


def number(value: float) -> str:
    """Write *value* with as many digits as count, three of them beyond a hundred."""
    if value < 0:
        return f"−{number(-value)}"
    if value >= 100:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    return f"{value:.0f}" if value >= 20 or value == int(value) else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def amount(value: float, unit: str) -> str:
    """Write *value* with its unit."""
    if not unit:
        return number(value) if value else "none"
    return number(value) + (unit if unit.startswith("/") else f" {unit}")


def comparison(value: float, row: Row) -> str:
    """Write how something compares with the baseline."""
    if row.compare == "added":
        return ("" if value < 0 else "+") + amount(value, row.unit)
    return f"{number(value)}×" if row.compare == "times" else f"{number(value * 100)} %"


def spread(middle: Middle, row: Row) -> str:
    """Write a comparison and the middle half of what the rounds gave."""
    factor = 100 if row.compare == "share" else 1
    low, high = number(middle.low * factor), number(middle.high * factor)
    return f"{comparison(middle.median, row)} ({low} … {high})"


def machine() -> str:
    """Say what this was measured on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            model = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), model)
    except FileNotFoundError:
        pass
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"{model}, {os.cpu_count()} cores, {platform.system()}{load}"


def measure(row: Row, bench: Bench, *, quick: bool, progress: Progress) -> Line:
    """Take the figures of *row*."""
    task = progress.add_task(row.what.replace("`", ""), total=None)
    samples = row.samples(bench)
    rounds = row.quick_rounds if quick else row.rounds
    progress.update(task, total=rounds * len(samples))
    figures = interleave(samples, rounds, seconds=PEER_SECONDS, tick=lambda: progress.advance(task))
    return Line(row, figures)


def find_peers(interpreters: Sequence[str]) -> dict[str, str]:
    """Return the first interpreter that has each peer."""
    found: dict[str, str] = {}
    for interpreter in interpreters:
        for peer in PEERS:
            if peer not in found and interpreter_has(interpreter, peer):
                found[peer] = interpreter
    return {peer: found[peer] for peer in PEERS if peer in found}


def table(lines: Sequence[Line], peers: Sequence[str]) -> str:
    """Return the lines as a table in Markdown."""
    heads = [
        "what",
        "baseline",
        "antiphon",
        "against the baseline",
        "to reach",
        "met",
        *(PEERS[peer] for peer in peers),
    ]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *(line.cells(peers) for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(":")[0] + ".")
    names = [row.name for row in ROWS]
    parser.add_argument("--only", action="append", metavar="NAME", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="few and short rounds, for a first look")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON instead of the table")
    parser.add_argument(
        "--peers",
        action="append",
        default=[],
        metavar="PYTHON",
        help="an interpreter in whose environment to look for the OpenAI client and LiteLLM, besides this one",
    )
    args = parser.parse_args()
    interpreters: list[str] = args.peers
    for place, interpreter in enumerate(interpreters):
        found = which(interpreter)
        if found is None:
            parser.error(f"{interpreter!r} cannot be run; --peers takes the path of a Python interpreter.")
        interpreters[place] = os.path.abspath(found)  # children run elsewhere
    if not interpreter_has(sys.executable, "pyreqwest"):
        parser.error("pyreqwest, which all else is set against, is not installed; the extra 'test' brings it.")
    return args


def main() -> None:
    """Do what the command line says."""
    args = arguments()
    console = Console(stderr=True)
    about = machine()
    lines: list[Line] = []
    failed: list[str] = []
    with Bench(find_peers([sys.executable, *args.peers]), quick=args.quick) as bench:
        with Progress(console=console, transient=True) as progress:
            for row in ROWS:
                if (args.only and row.name not in args.only) or (row.needs and find_spec(row.needs) is None):
                    continue
                try:
                    lines.append(measure(row, bench, quick=args.quick, progress=progress))
                except RuntimeError as error:  # the other rows are worth having
                    failed.append(row.name)
                    console.print(f"{row.name}: {error}", style="red", markup=False, highlight=False)
        versions: dict[str, str] = {}
        for name in ("antiphon", "pyreqwest", *bench.peers):
            with bench.fresh(name) as child:
                versions |= child.ask("versions") | versions
    notes = sorted(set(bench.notes))
    if args.json:
        report = {"machine": about, "versions": versions, "notes": notes, "rows": [line.to_dict() for line in lines]}
        print(json.dumps(report, indent=1))
    else:
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        print(table(lines, bench.peers))
        print(f"\nMedians; in brackets the middle half of the rounds. {about}; {listed}.")
        print("\n".join(f"- {note}" for note in notes))
    if failed:
        sys.exit(f"Not measured: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
