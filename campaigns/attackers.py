"""The attackers' process: hostile providers and all attacks, so that what they cost is not the good clients' time.

Run as `python -m campaigns.attackers SEED ONLY`, with the names of attacks and commas between them. Its first line on
standard output is the providers' ports. Then each line on standard input is an order, one JSON object with `port`,
`key`, `killing` and `seconds`; when the time is over, everything of it is closed, and one line of JSON says what came
of it. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, nullcontext
from random import Random
from typing import Any

from campaigns import hostile
from campaigns.attacks import ATTACKS, Attack, Target
from campaigns.wire import Cut, Malformed

__all__ = ["main"]

_ROUND = 30.0
"""Seconds after which a round is given up."""
_REST = 2.0
"""How many times as long as a heavy attack took there is none."""
_LONGEST_REST = 5.0


async def _repeat(attack: Attack, target: Target, rng: Random, turn: asyncio.Lock, rounds: Counter[str]) -> None:
    """Do one attack again and again until it is cancelled."""
    while True:
        await asyncio.sleep(attack.every * rng.uniform(0.5, 1.5))
        async with turn if attack.heavy else nullcontext():
            began = time.monotonic()
            try:
                async with asyncio.timeout(_ROUND):
                    await attack.round(target, rng)
            except (OSError, Cut, Malformed, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass  # the server closed the connection: it may do that to an attacker at any time
            rounds[attack.name] += 1
            if attack.heavy:
                await asyncio.sleep(min(_LONGEST_REST, _REST * (time.monotonic() - began)))


async def _campaign(attacks: list[Attack], order: dict[str, Any], seed: str) -> dict[str, Any]:
    """Attack for some seconds, and return the rounds and the breaches."""
    target = Target(order["port"], order["key"], order["killing"])
    rounds: Counter[str] = Counter()
    turn = asyncio.Lock()
    spent = time.process_time()
    tasks: list[asyncio.Task[None]] = [
        asyncio.create_task(_repeat(attack, target, Random(f"{seed}:{attack.round.__name__}"), turn, rounds))
        for attack in attacks
    ]
    tasks.append(asyncio.create_task(asyncio.sleep(order["seconds"])))  # those of this process may be none
    failed, _ = await asyncio.wait(tasks, timeout=order["seconds"], return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in failed:
        task.result()  # an attack that breaks is a fault of the campaign, not of the server
    return {"rounds": rounds, "breaches": target.breaches, "processor": time.process_time() - spent}


async def _orders(seed: str, only: str) -> None:
    names = only.split(",")
    attacks = [attack for attack in ATTACKS if attack.name in names]
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        ports = await hostile.serve(stack, seed, silent_lists="listings" in names)
        print(json.dumps(ports), flush=True)
        number = 0
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            number += 1
            found = await _campaign(attacks, json.loads(line), f"{seed}:{number}")
            print(json.dumps(found), flush=True)


def main() -> None:
    """Do what standard input says, at a lower priority than the server and its good clients."""
    os.nice(5)
    seed, only = sys.argv[1:]
    asyncio.run(_orders(seed, only))


if __name__ == "__main__":
    main()
