"""Attack a running server for some minutes, with well-behaved clients at the same time: `python -m campaigns.attack`.

What it is for: each kind of attack has tests of its own, but a fault may need two of them at once, or a hundred rounds.
Two servers are attacked, each for half of the time: one that is one process, and one with `--workers`.
It needs Linux, since it looks at the server through /proc.

**Well-behaved clients** (`campaigns.clients`) ask for chat answers whole and streamed, embeddings and the list of
models, about 30 times a second together. Each request has text and an id of its own, and its answer is compared with
what it has to be, exactly. One client shares its connection with an attacker, as behind a proxy. One asks the provider
without the server: it is not judged, and shows what the machine alone makes a client wait.

**Attackers** (`campaigns.attacks`) and hostile providers (`campaigns.hostile`) are in another process, of a lower
priority. `--only trailers,names` chooses some; `--list` says which there are. `signals` and `kills` are SIGHUP in
storms, from the start of the server on, and `kill -9` of random workers, sometimes of the one that has just replaced
another; never of the last one that serves, since no client could be answered then.

**What attackers may cost.** A server cannot be quick while others take both cores, so the attacks must leave time.
Those whose size costs processor time take turns, one at a time, and rest twice as long as each took (5 s at most): a
third of the time goes to them, on a slow machine too. The others have fixed pauses. What the attackers' process took is
printed.

**The limits of the server** are short, so that attacks run into each of them: 64 requests at once, 3 s for a head, 5 s
for a body, 3 s for an answer to begin. More slow bodies are sent than that, since a body that is not there yet must not
take another client's place. Sizes of bodies and names stay at their defaults.

**Passed** is a run in which no well-behaved request failed and none waited longer than a second; memory grew from the
warm-up (the first quarter) on by no more than 10 % and 20 MB for each process that serves, and stayed within 400 MB
above the start; no files were left open; attacks got nothing that they must not get; the exit code after SIGTERM
was 0; and nothing unexpected is in the log. Memory is looked at in pauses of the attacks, so that like is compared
with like. A request whose connection was cut by the kill of a worker is no failure if the cut could be seen and one
repetition was answered; it is counted. The exit code of the command is 0 if both runs were passed, and else 1.

All random choices come from `--seed`, which is printed; which attacks meet is up to the machine all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from antiphon.chat.requests import ChatRequest
from antiphon.testing import Upstream
from benchmarks.measure import ROOT
from campaigns.attacks import ATTACKS
from campaigns.clients import MODEL, Client, Kills, clients
from campaigns.served import PROVIDER_KEY, Served
from campaigns.verdict import Findings, Moment, judge, quantile

__all__ = ["main"]

_WARM_UP = 0.25
"""What of the time of a run is its warm-up."""
_QUIET = 3.0
"""Seconds of a pause of the attacks, after which the server is looked at."""
NAMES = (*dict.fromkeys(attack.name for attack in ATTACKS), "signals", "kills")
"""What can be chosen."""


class Attackers:
    """The attackers' process; use it in an `async with` block."""

    def __init__(self, seed: str, attacks: Sequence[str]) -> None:
        self._arguments = ("-m", "campaigns.attackers", seed, ",".join(attacks))
        self.processor = 0.0
        """Seconds of processor time that attacks took so far."""

    async def __aenter__(self) -> Attackers:
        """Start it."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, cwd=ROOT, stdin=pipe, stdout=pipe
        )
        self.ports: dict[str, int] = await self._line()
        return self

    async def attack(self, served: Served, key: str, found: Findings, seconds: float, *, killing: bool) -> None:
        """Attack for some seconds."""
        assert self._process.stdin is not None
        order = {"port": served.port, "key": key, "killing": killing, "seconds": seconds}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        said = await self._line()
        found.attacks.update(said["rounds"])
        found.breaches.update(said["breaches"])
        self.processor += said["processor"]

    async def _line(self) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("The attackers' process ended; what it said is above.")
        return json.loads(line)

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class Run:
    """One server, and all that is done to it.

    Args:
        found: Where everything is put together.
        workers: Processes that serve.
        attacks: Which attacks take place.
        seconds: For how long, pauses and the server's start and end aside.
        seed: For all random choices.
    """

    def __init__(self, found: Findings, workers: int, attacks: Sequence[str], seconds: float, seed: str) -> None:
        self._found = found
        self._workers = workers
        self._attacks = [name for name in attacks if name != "kills" or workers > 1]
        self._seconds = seconds
        self._seed = seed
        self._kills = Kills()
        self.processor = 0.0

    @property
    def attacks(self) -> Sequence[str]:
        """Which attacks take place in this run."""
        return self._attacks

    async def go(self) -> None:
        """Start a server, attack it, stop it, and put down what there is to be seen."""
        found, (key, other) = self._found, ("ap-" + secrets.token_hex(20) for _ in range(2))
        found.secrets = (key, other, PROVIDER_KEY)
        async with AsyncExitStack() as stack:
            attackers = await stack.enter_async_context(Attackers(self._seed, self._attacks))
            good = stack.enter_context(Upstream(_echo, models=(MODEL,)))
            port = int(good.base_url.rsplit(":", 1)[1].partition("/")[0])
            hang_up = "signals" in self._attacks
            served = Served({"good": port, **attackers.ports}, (key, other), self._workers, hang_up=hang_up)
            stack.enter_context(served)
            if await asyncio.to_thread(served.wait_until_ready):
                found.opening = len(served.log)
                shared = "upgrade" in self._attacks
                people = clients(served.port, port, key, self._seed, self._kills, shared=shared)
                await self._attack(served, attackers, people, other)
                self.processor = attackers.processor
            found.ended_early = served.process.poll()
            if found.ended_early is None:
                found.exit_code = await asyncio.to_thread(served.stop)
            found.log, found.access_log, found.kills = served.log, served.access_log, len(self._kills.times)

    async def _attack(self, served: Served, attackers: Attackers, people: Sequence[Client], key: str) -> None:
        """Let everybody work until the time is over, or the server is."""
        found = self._found
        found.start = served.moment()
        found.kinds = _kinds(people)
        over = asyncio.Event()
        working = [asyncio.create_task(person.run(over)) for person in people]
        watching = asyncio.create_task(self._watch(served))
        plan = asyncio.create_task(self._plan(served, attackers, key))
        await asyncio.wait({plan, watching}, return_when=asyncio.FIRST_COMPLETED)
        over.set()
        for task in (plan, watching):
            task.cancel()
        ended = await asyncio.gather(plan, watching, return_exceptions=True)
        await asyncio.gather(*working)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome
        if found.end is not None:  # now that the good clients are gone as well
            found.end = Moment(found.end.resident, served.moment().files)

    async def _plan(self, served: Served, attackers: Attackers, key: str) -> None:
        """Attack for the warm-up and for the rest of the time, and look at the server after each."""
        found = self._found
        killing = "kills" in self._attacks
        warm_up = self._seconds * _WARM_UP
        await self._segment(attackers.attack(served, key, found, warm_up, killing=False), self._hang_ups(served))
        found.warm = await self._quiet(served)
        main = attackers.attack(served, key, found, self._seconds - warm_up, killing=killing)
        await self._segment(main, self._hang_ups(served), self._kill(served))
        found.end = await self._quiet(served)

    @staticmethod
    async def _segment(attacking: Any, *others: Any) -> None:
        """Do the others as long as the attack lasts."""
        tasks = [asyncio.create_task(other) for other in others]
        try:
            await attacking
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _quiet(self, served: Served) -> Moment:
        await asyncio.sleep(_QUIET)
        return served.moment()

    async def _watch(self, served: Served) -> None:
        """Note the peak of memory, until the server ends."""
        while served.process.poll() is None:
            self._found.peak = max(self._found.peak, await asyncio.to_thread(served.resident))
            await asyncio.sleep(0.2)

    async def _hang_ups(self, served: Served) -> None:
        """Send storms of SIGHUP."""
        rng = Random(f"{self._seed}:signals")
        while "signals" in self._attacks:
            await asyncio.sleep(rng.uniform(0.5, 3))
            for _ in range(rng.randrange(1, 40)):
                served.hang_up()
                await asyncio.sleep(0.005)
            self._found.attacks["signals"] += 1

    async def _kill(self, served: Served) -> None:
        """Kill a worker now and then, and sometimes the one that replaces it, while it starts."""
        rng = Random(f"{self._seed}:kills")
        while "kills" in self._attacks:
            await asyncio.sleep(rng.uniform(4, 7))  # until the last one that was started serves
            before = served.workers()
            if len(before) < 2:
                continue
            self._kill_one(rng.choice(before))
            self._found.attacks["kills"] += 1
            if rng.random() < 0.5:
                await asyncio.sleep(rng.uniform(0.2, 0.7))
                for newer in set(served.workers()).difference(before):
                    self._kill_one(newer)

    def _kill_one(self, worker: int) -> None:
        self._kills.times.append(time.monotonic())
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def _echo(request: ChatRequest) -> str:
    """Answer with what the last message says."""
    content = request.messages[-1].content
    return content if isinstance(content, str) else ""


def _kinds(people: Sequence[Client]) -> list[Any]:
    return list({id(person.kind): person.kind for person in people}.values())


def report(found: Findings, faults: Sequence[str], processor: float, console: Console) -> None:
    """Print the tables of a run, and what is wrong with it."""
    table = Table(title=found.title, title_justify="left")
    for head in ("clients", "requests", "failed", "cut by a kill", "median", "99 %", "longest"):
        table.add_column(head, justify="left" if head == "clients" else "right")
    for kind in found.kinds:
        times = (quantile(kind.seconds, share) * 1e3 for share in (0.5, 0.99, 1.0))
        counts = (kind.count, kind.faults.total(), kind.cut)
        table.add_row(kind.name, *(f"{count:,}" for count in counts), *(f"{spent:,.0f} ms" for spent in times))
    console.print(table)
    server = Table("server", "at the start", "after the warm-up", "at the end", "peak")
    moments = (found.start, found.warm, found.end)
    memory = ["" if moment is None else f"{moment.resident / 1e6:,.0f} MB" for moment in moments]
    server.add_row("resident memory", *memory, f"{found.peak / 1e6:,.0f} MB")
    server.add_row("open files", *("" if moment is None else f"{moment.files:,}" for moment in moments), "")
    console.print(server)
    ended = "none" if found.exit_code is None and found.ended_early is None else found.ended_early or found.exit_code
    rounds = ", ".join(f"{name} {count}" for name, count in sorted(found.attacks.items()))
    console.print(f"Exit code {ended}; {found.kills} kills of workers. Rounds: {rounds or 'none'}.", soft_wrap=True)
    console.print(f"The attackers' process took {processor:.1f} s of processor time.")
    for fault in faults:
        console.print(f"- {fault}", style="red", markup=False, highlight=False, soft_wrap=True)
    console.print("Passed.\n" if not faults else "Not passed.\n", style="green" if not faults else "red")


async def _advance(progress: Progress, task: TaskID) -> None:
    while True:
        await asyncio.sleep(0.5)
        progress.advance(task, 0.5)


async def campaign(args: argparse.Namespace, console: Console) -> bool:
    """Do all runs; whether each was passed."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    passed = True
    runs = [1, args.workers] if args.workers > 1 else [1]
    for workers in runs:
        title = "One process" if workers == 1 else f"{workers} workers"
        found = Findings(title, workers, killing=workers > 1 and "kills" in args.only)
        run = Run(found, workers, args.only, args.seconds / len(runs), f"{args.seed}:{workers}")
        with Progress(*columns, console=console, transient=True) as progress:
            total = args.seconds / len(runs) + 2 * _QUIET
            ticking = asyncio.create_task(_advance(progress, progress.add_task(title, total=total)))
            await run.go()
            ticking.cancel()
        faults = judge(found, run.attacks)
        report(found, faults, run.processor, Console(width=None if sys.stdout.isatty() else 120))
        passed = passed and not faults
    return passed


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m campaigns.attack", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="how long the attacks last, both runs together")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of all random choices")
    parser.add_argument("--workers", type=int, default=2, help="processes of the second run; 1: there is none")
    parser.add_argument("--only", type=lambda names: names.split(","), default=list(NAMES), metavar="NAMES")
    parser.add_argument("--list", action="store_true", help="print the attacks and end")
    args = parser.parse_args(given)
    for name in args.only:
        if name not in NAMES:
            parser.error(f"There is no attack {name!r}; there are {', '.join(NAMES)}.")
    if "kills" in args.only and args.workers < 2 and args.only != list(NAMES):
        parser.error("Only workers can be killed: `kills` takes --workers 2 or more.")
    return args


def main() -> None:
    """Do what the command line says."""
    args = arguments()
    console = Console(stderr=True)
    if args.list:
        for attack in ATTACKS:
            print(f"{attack.name:10} {(attack.round.__doc__ or '').strip()}")
        print(
            "signals    Send SIGHUP in storms, from the start of the server on.\nkills      Kill workers with SIGKILL."
        )
        return
    if sys.platform != "linux":
        sys.exit("The campaign looks at the server through /proc, which only Linux has.")
    print(f"Seed {args.seed}, {args.seconds:g} s of {', '.join(args.only)}.", flush=True)
    sys.exit(0 if asyncio.run(campaign(args, console)) else 1)


if __name__ == "__main__":
    main()
