"""Finds what a test left behind: threads, tasks, connections."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import socket
import stat
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from tests.loopback import INTERNET

PATIENCE = 5.0
"""Seconds that something may take to end elsewhere (a peer's close, a thread) before it counts as left behind."""

LASTING = ("AnyIO worker thread", "Trio thread", "Dummy-")
"""How the names begin of threads that rightly outlive a call: those of anyio's and trio's pools, and
foreign ones seen once."""

TURNS = 20
"""Turns of the loop that a cancelled task gets to end in."""


class Snapshot(NamedTuple):
    """What is alive at one moment; each maps an identity to words for a message."""

    threads: dict[Any, str]
    tasks: dict[Any, str]
    connections: dict[Any, str]


def snapshot() -> Snapshot:
    """Look around in this process."""
    return Snapshot(_threads(), _tasks(), _connections())


def since(before: Snapshot, patience: float = PATIENCE) -> list[str]:
    """Say what is alive now and was not *before*; waits up to *patience* seconds for it to end."""
    deadline = time.monotonic() + patience
    while True:
        gc.collect()
        now = snapshot()
        left = [
            f"{kind[:-1]}: {now[index][key]}"
            for index, kind in enumerate(Snapshot._fields)
            for key in now[index].keys() - before[index].keys()
        ]
        if not left or time.monotonic() > deadline:
            return left
        # What ends in another thread, or in Rust, tells nobody when it has: there is nothing to wait on but time.
        time.sleep(0.01)


def leaves_no_tasks(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Wrap an async test so that tasks left on its loop are seen; the runner cancels them before a fixture could."""

    @functools.wraps(test)
    async def checked(**arguments: Any) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # trio has no task without a nursery that waits for it
            await test(**arguments)
            return
        before = asyncio.all_tasks()
        await test(**arguments)
        for _ in range(TURNS):
            if asyncio.all_tasks() <= before:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"The test left tasks on its loop: {asyncio.all_tasks() - before}")

    return checked


def _threads() -> dict[Any, str]:
    return {thread: repr(thread) for thread in threading.enumerate() if not thread.name.startswith(LASTING)}


def _tasks() -> dict[Any, str]:
    # Loops of other threads cannot be asked for by name, but their tasks can be found.
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), asyncio.Task)]
    return {task: repr(task) for task in found if not task.done()}


def _connections() -> dict[Any, str]:
    """Open TCP and UDP sockets by inode, whoever opened them; not socket pairs (a loop's own). Empty on Windows."""
    found: dict[Any, str] = {}
    if not os.path.isdir("/dev/fd"):
        return found
    for name in os.listdir("/dev/fd"):
        try:
            status = os.fstat(int(name))
            if not stat.S_ISSOCK(status.st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as duplicate:
                if duplicate.family in INTERNET:
                    found[status.st_ino] = repr(duplicate)
        except OSError:  # closed meanwhile, or the descriptor of this very listing
            continue
    return found
