"""The rows of the speed table: what each measures, against what, and what it is to reach."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from benchmarks.measure import Process, started
from benchmarks.subjects import SUBJECTS

__all__ = ["ROWS", "Bench", "Reach", "Row"]

Samples = Mapping[str, Callable[[], float]]
"""How to take one figure of `baseline`, of `antiphon`, and of each peer."""


_COMMAND = "import sys; sys.argv = ['antiphon', '--version']; from antiphon.cli import main; sys.exit(main())"
"""What the installed script does."""


class Bench:
    """What the rows share: the upstream, and one child for each library, started and checked when first used.

    Args:
        peers: The interpreter of each library to compare with.
        quick: Whether to do much less, for a first look.
    """

    def __init__(self, peers: Mapping[str, str], *, quick: bool) -> None:
        self.interpreters = dict.fromkeys(("python", "pyreqwest", "antiphon"), sys.executable) | dict(peers)
        self.peers = tuple(peers)
        self.seconds = 0.1 if quick else 0.3
        self.chunks = 1_000 if quick else 5_000
        self.long_stream = 100_000 if quick else 1_000_000
        self.notes: list[str] = []
        self._children: dict[str, Process] = {}
        self._upstream = Process(sys.executable, "-m", "benchmarks.upstream")
        self.url = f"http://127.0.0.1:{int(self._upstream.read())}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            child.close()
        self._upstream.close()

    def fresh(self, name: str) -> Process:
        """Start a child that has not imported its library yet."""
        return Process(self.interpreters[name], "-m", "benchmarks.child", name, self.url)

    def child(self, name: str) -> Process:
        """Return the child that stays."""
        if name not in self._children:
            child = self._children[name] = self.fresh(name)
            child.ask("check")
        return self._children[name]


@dataclass(frozen=True)
class Reach:
    """A bound to keep."""

    limit: float
    least: bool = False
    """Whether the bound is a lower one."""
    of: Literal["figure", "value"] = "figure"
    """What it bounds: how antiphon compares with the baseline, or antiphon's own value."""

    @property
    def sign(self) -> str:
        """What stands before the limit."""
        return "≥ " if self.least else "≤ " if self.limit else ""

    def met(self, reached: float) -> bool:
        """Whether *reached* keeps the bound."""
        return reached >= self.limit if self.least else reached <= self.limit


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    what: str
    unit: str
    samples: Callable[[Bench], Samples]
    baseline: str = ""
    """What the baseline is; empty where there is none."""
    compare: Literal["added", "times", "share"] | None = None
    """How a value is set against the baseline's: the difference, or the ratio, written as a factor or in per cent."""
    reach: Reach | None = None
    rounds: int = 9
    quick_rounds: int = 3
    needs: str = ""
    """A package that this row is left out without."""

    def figure(self, own: float, baseline: float) -> float:
        """Set a value against the baseline's."""
        if self.compare is None:
            return own
        return own - baseline if self.compare == "added" else own / baseline


def _started(code: str, *, peers: bool = False) -> Callable[[Bench], Samples]:
    """Start Python with nothing to do, Python with *code*, and Python with what makes each peer ready for use."""

    def samples(bench: Bench) -> Samples:
        codes = {"baseline": "pass", "antiphon": code}
        codes |= {peer: SUBJECTS[peer].imported for peer in bench.peers if peers}
        found = {
            name: partial(started, bench.interpreters.get(name, sys.executable), "-c", codes[name]) for name in codes
        }
        for sample in found.values():
            sample()  # now its files have been read, and bytecode is written
        return found

    return samples


def _fresh(task: str, *, baseline: bool) -> Callable[[Bench], Samples]:
    """Give an order to a new child each time."""

    def samples(bench: Bench) -> Samples:
        def sample(name: str) -> float:
            with bench.fresh(name) as child:
                answer = child.ask(task)
            if isinstance(answer, float):
                return answer
            if name == "antiphon":
                bench.notes += [f"{SUBJECTS[name].imported}: {said}" for said in answer]
            return len(answer)

        found: dict[str, Callable[[], float]] = {"baseline": partial(sample, "python")} if baseline else {}
        return found | {name: partial(sample, name) for name in ("antiphon", *bench.peers)}

    return samples


def _growth(bench: Bench) -> Samples:
    def sample() -> float:
        with bench.fresh("antiphon") as child:
            return float(child.ask("growth", bench.long_stream))

    return {"antiphon": sample}


def _each(task: str, *arguments: Any, chunks: bool = False) -> Callable[[Bench], Samples]:
    """Give the same order to the child of each library."""

    def samples(bench: Bench) -> Samples:
        given = (bench.seconds, *((bench.chunks,) if chunks else ()), *arguments)
        names = {"baseline": "pyreqwest", "antiphon": "antiphon"} | {peer: peer for peer in bench.peers}
        return {place: partial(bench.child(name).ask, task, *given) for place, name in names.items()}

    return samples


def _either(task: str, option: str, *arguments: Any, **options: Any) -> Callable[[Bench], Samples]:
    """Give the same order to antiphon's child without and with an option."""

    def samples(bench: Bench) -> Samples:
        ask = partial(bench.child("antiphon").ask, task, bench.seconds, *arguments, **options)
        return {"baseline": partial(ask, **{option: False}), "antiphon": partial(ask, **{option: True})}

    return samples


_FORMATS = (
    ("openai-chat", "Chat Completions", 4),
    ("openai-chat-padded", "Chat Completions with `obfuscation`", 4),
    ("openai-responses", "Responses", 6),
    ("anthropic", "Anthropic Messages", 6),
    ("gemini", "Gemini", 6),
    ("bedrock", "Bedrock Converse", 6),
    ("cohere", "Cohere", 6),
    ("ollama", "Ollama", 6),
)
_PAIRS = (
    ("anthropic", "openai-chat", "Anthropic's bytes to Chat Completions"),
    ("openai-chat", "anthropic", "Chat Completions to Anthropic's bytes"),
    ("gemini", "openai-chat", "Gemini's bytes to Chat Completions"),
    ("bedrock", "anthropic", "Bedrock's bytes to Anthropic's"),
)


def _decoding(name: str, title: str, limit: float) -> Row:
    return Row(
        f"decode-{name}",
        f"{title}: bytes to events, each chunk",
        "µs",
        _either("frames", "read", name),
        "`msgspec.json.decode`",
        "times",
        Reach(limit, of="value"),
    )


def _crossing(name: str, to: str, title: str) -> Row:
    return Row(
        f"cross-{name}-{to}",
        f"{title}, each chunk",
        "µs",
        _either("frames", "read", name, to),
        "`msgspec.json.decode`",
        "times",
        Reach(8, of="value"),
    )


ROWS = (
    Row(
        "import",
        "`import antiphon`",
        "ms",
        _started("import antiphon"),
        "bare Python",
        "added",
        Reach(60),
        rounds=15,
    ),
    Row(
        "import-client",
        "`from antiphon import Client`",
        "ms",
        _started(SUBJECTS["antiphon"].imported, peers=True),
        "bare Python",
        "added",
        rounds=15,
    ),
    Row(
        "effects",
        "that import's sockets, processes, threads, files outside the packages",
        "",
        _fresh("effects", baseline=False),
        reach=Reach(0, of="value"),
        rounds=1,
        quick_rounds=1,
    ),
    Row(
        "memory",
        "resident memory after import and one call",
        "MB",
        _fresh("memory", baseline=True),
        "bare Python",
        "added",
        Reach(40, of="value"),
        rounds=5,
    ),
    Row(
        "growth",
        "growth over a stream of a million chunks",
        "MB",
        _growth,
        reach=Reach(1, of="value"),
        rounds=1,
        quick_rounds=1,
    ),
    Row(
        "call",
        "one blocking call",
        "µs",
        _each("calls"),
        "pyreqwest, blocking",
        "times",
        Reach(2),
    ),
    Row(
        "async",
        "async calls a second, 32 in flight",
        "/s",
        _each("async_calls", 32, "asyncio"),
        "pyreqwest",
        "share",
        Reach(0.5, least=True),
    ),
    Row(
        "async-uvloop",
        "the same under uvloop",
        "/s",
        _each("async_calls", 32, "uvloop"),
        "pyreqwest",
        "share",
        Reach(0.5, least=True),
        needs="uvloop",
    ),
    Row(
        "stream",
        "streamed chunks a second, blocking",
        "/s",
        _each("streams", chunks=True),
        "pyreqwest and dicts",
        "share",
        Reach(150_000, least=True, of="value"),
    ),
    Row(
        "stream-async",
        "streamed chunks a second, async",
        "/s",
        _each("async_streams", "asyncio", chunks=True),
        "pyreqwest and dicts",
        "share",
        Reach(150_000, least=True, of="value"),
    ),
    Row(
        "bridge",
        "blocking iteration of an async generator, each item",
        "µs",
        _either("items", "bridged", "ready"),
        "`async for`",
        "added",
        Reach(6),
    ),
    Row(
        "bridge-apart",
        "the same, a turn of the loop before each item",
        "µs",
        _either("items", "bridged", "apart"),
        "`async for`",
        "added",
    ),
    *(_decoding(name, title, limit) for name, title, limit in _FORMATS),
    *(_crossing(*pair) for pair in _PAIRS),
    Row("cli", "`antiphon --version`", "ms", _started(_COMMAND), "bare Python", "added", Reach(150), rounds=15),
)
