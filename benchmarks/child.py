"""A child process of the benchmark: it holds one library and answers orders on standard input with figures.

Run as `python -m benchmarks.child NAME URL`, also by interpreters that have no antiphon, and hence of the standard
library alone. An order is one line of JSON, `[task, argument, …]`, and so is its figure. The process ends when its
standard input does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module

from benchmarks.subjects import ANSWER, SUBJECTS, WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Any

__all__ = ["Child", "main"]

_EVENTS = {
    "socket.__new__": "opened a socket",
    "subprocess.Popen": "started a process",
    "os.posix_spawn": "started a process",
    "os.fork": "started a process",
    "os.system": "started a process",
    "_thread.start_new_thread": "started a thread",
}


class Child:
    """Every public method is a task, and returns what JSON can carry."""

    def __init__(self, name: str, url: str) -> None:
        self._url = url
        self._subject = SUBJECTS[name]()

    def versions(self) -> dict[str, str]:
        """Return the versions of Python and of the packages that matter here."""
        version = import_module("importlib.metadata").version
        python = ".".join(map(str, sys.version_info[:3]))
        return {"python": python, **{package: version(package) for package in self._subject.packages}}

    def check(self) -> None:
        """Make the client, use it in every way that is measured, and see that the answers are right."""
        subject, chunks = self._subject, 50

        async def both() -> tuple[str, int]:
            return subject.text(await subject.acall()), await subject.astream(chunks)

        subject.begin(self._url)
        answers = subject.text(subject.call()), subject.stream(chunks), *self._run("asyncio", both)
        if answers != (ANSWER, chunks * len(WORDS[0])) * 2:
            raise RuntimeError(f"The answers are not those that the upstream gives: {answers!r}")

    def effects(self) -> list[str]:
        """Return what importing the library does besides importing, as far as Python and the system tell."""
        seen: set[str] = set()
        packages = tuple(filter(None, [sys.prefix, sys.base_prefix, *sys.path]))

        def watch(event: str, args: tuple[Any, ...]) -> None:
            if event in _EVENTS:
                seen.add(_EVENTS[event])
            elif event == "open" and not str(args[0]).startswith(packages):
                seen.add(f"opened {args[0]!r}")

        before = _kept()
        sys.addaudithook(watch)
        exec(self._subject.imported, {})
        for what, count in _kept().items():  # what native code does, no audit hook sees
            if count > before[what]:
                seen.add(f"keeps {count - before[what]} {what} open")
        return sorted(seen)

    def memory(self) -> float:
        """Return the megabytes that this process has resident after the import and one call."""
        self._subject.begin(self._url)
        self._subject.call()
        return _resident()

    def growth(self, chunks: int) -> float:
        """Return by how many megabytes a stream of so many chunks raises the most memory that one of a tenth needs."""
        self._subject.begin(self._url)
        self._subject.stream(chunks // 10)
        before = _most_resident()
        self._subject.stream(chunks)
        return _most_resident() - before

    def calls(self, seconds: float) -> float:
        """Return the microseconds of one blocking call."""
        return _repeat(self._subject.call, seconds) * 1e6

    def streams(self, seconds: float, chunks: int) -> float:
        """Return the chunks a second of blocking streams, one after the other."""
        return chunks / _repeat(lambda: self._subject.stream(chunks), seconds)

    def async_calls(self, seconds: float, at_once: int, loop: str) -> float:
        """Return the calls a second of one event loop with *at_once* under way."""
        gather = import_module("asyncio").gather
        subject = self._subject

        async def measure() -> float:
            done, began = 0, time.perf_counter()

            async def caller() -> None:
                nonlocal done
                while time.perf_counter() - began < seconds:
                    await subject.acall()
                    done += 1

            await gather(*(caller() for _ in range(at_once)))
            return done / (time.perf_counter() - began)

        return float(self._run(loop, measure))

    def async_streams(self, seconds: float, chunks: int, loop: str) -> float:
        """Return the chunks a second of async streams, one after the other."""
        subject = self._subject

        async def measure() -> float:
            done, began = 0, time.perf_counter()
            while (spent := time.perf_counter() - began) < seconds:
                await subject.astream(chunks)
                done += chunks
            return done / spent

        return float(self._run(loop, measure))

    def items(self, seconds: float, kind: str, *, bridged: bool) -> float:
        """Return the microseconds for each item of an async generator, read on its own loop or through the bridge."""
        count = 20_000 if kind == "ready" else 2_000
        sleep = import_module("asyncio").sleep

        async def numbers() -> AsyncIterator[int]:
            for number in range(count):
                if kind == "apart":
                    await sleep(0)  # a turn of the loop, as if each had come in a packet of its own
                yield number

        async def read() -> None:
            async for _ in numbers():
                pass

        if bridged:
            iterate: Any = import_module("antiphon.sync.bridge").iterate
            return _repeat(lambda: [None for _ in iterate(numbers)], seconds) / count * 1e6
        return _repeat(lambda: self._run("asyncio", read, client=False), seconds) / count * 1e6

    def frames(self, seconds: float, name: str, to: str = "", *, read: bool) -> float:
        """Return the microseconds for each chunk of a stream: its JSON alone, or from bytes to events.

        *name* is that of a wire format; with *to*, the events are written as chunks of that format, too.
        """
        formats = import_module("benchmarks.formats")
        decode = import_module("msgspec").json.Decoder().decode
        if not read:
            texts = [formats.text_of(name, frame) for frame in formats.frames(name)]
            return _repeat(lambda: [decode(text) for text in texts], seconds) / len(texts) * 1e6
        frames = formats.frames(name)
        reading, head = formats.decoder(name), formats.head(name)
        data = b"".join(frames)
        begun = list(reading.feed(head))
        if not to:
            return _repeat(lambda: sum(1 for _ in reading.feed(data)), seconds) / len(frames) * 1e6
        writing = formats.encoder(to)
        for event in begun:
            list(writing.feed(event))
        return _repeat(lambda: [list(writing.feed(event)) for event in reading.feed(data)], seconds) / len(frames) * 1e6

    def _run(self, loop: str, function: Callable[[], Awaitable[Any]], *, client: bool = True) -> Any:
        """Run *function* in a new loop, with the client for async calls."""
        asyncio = import_module("asyncio")

        async def main() -> Any:
            if not client:
                return await function()
            await self._subject.abegin(self._url)
            try:
                return await function()
            finally:
                await self._subject.aend()

        factory = import_module("uvloop").new_event_loop if loop == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())


def _repeat(function: Callable[[], object], seconds: float) -> float:
    """Return the mean seconds of one call of *function*, over as many as begin within *seconds*."""
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        function()
        done += 1
    return spent / done


def _kept() -> dict[str, int]:
    try:
        return {"threads": len(os.listdir("/proc/self/task")), "files": len(os.listdir("/proc/self/fd"))}
    except FileNotFoundError:
        return {}


def _resident() -> float:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except FileNotFoundError:
        return _most_resident()


def _most_resident() -> float:
    peak = import_module("resource").getrusage(0).ru_maxrss
    return float(peak) / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Do what standard input says, line by line."""
    child = Child(*sys.argv[1:])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    for line in sys.stdin:
        task, arguments, options = json.loads(line)
        replies.write(json.dumps(getattr(child, task)(*arguments, **options)) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
