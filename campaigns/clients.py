"""Well-behaved clients: each request carries text of its own, and every answer is compared with what it has to be."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from antiphon.testing import vector_of
from campaigns.verdict import NO_ANSWER, Kind
from campaigns.wire import Answer, Cut, Malformed, post, read, request

__all__ = ["Client", "Kills", "clients"]

_PATIENCE = 60.0
"""Seconds after which a client gives up: far more than it may wait, so that the wait itself is measured."""
_PAUSE = (0.05, 0.3)
"""Seconds between two requests of one client."""
MODEL = "steady"
"""What the good provider lists as its model."""


@dataclass
class Kills:
    """When workers were killed, in seconds of `time.monotonic`."""

    times: list[float] = field(default_factory=list[float])

    def since(self, moment: float) -> bool:
        """Whether one was killed at *moment* or later."""
        return bool(self.times) and self.times[-1] >= moment


class Wrong(Exception):
    """An answer is complete, and not what it has to be."""


Check = Callable[[Answer], None]
Make = Callable[[str, str], tuple[bytes, Check]]
"""From a text of its own and the key to a request and what looks at its answer."""


def _expect(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Wrong(f"{what} is wrong")  # not what came: like faults are counted together


def _ok(answer: Answer, token: str) -> None:
    _expect(f"status {answer.status}", answer.status, 200)
    _expect("the id of the request", answer.headers.get("x-request-id"), token)


def _chat_body(token: str, model: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": f"say {token}"}], **more}).encode()


def chat(token: str, key: str) -> tuple[bytes, Check]:
    """A whole answer."""

    def check(answer: Answer) -> None:
        _ok(answer, token)
        (choice,) = answer.json["choices"]
        _expect("the text", choice["message"]["content"], f"say {token}")
        _expect("the finish reason", choice["finish_reason"], "stop")

    body = _chat_body(token, f"good/{MODEL}")
    return post("/v1/chat/completions", body, key, **{"x-request-id": token}), check


def stream(token: str, key: str) -> tuple[bytes, Check]:
    """An answer in pieces."""

    def check(answer: Answer) -> None:
        _ok(answer, token)
        lines = [line for line in answer.body.decode().split("\n\n") if line and not line.startswith(":")]
        _expect("the end of the stream", lines[-1], "data: [DONE]")
        choices = [choice for line in lines[:-1] for choice in json.loads(line.removeprefix("data: "))["choices"]]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        _expect("the text", text, f"say {token}")
        ends = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        _expect("the finish reason", ends, ["stop"])

    body = _chat_body(token, f"good/{MODEL}", stream=True)
    return post("/v1/chat/completions", body, key, **{"x-request-id": token}), check


def embeddings(token: str, key: str) -> tuple[bytes, Check]:
    """Two vectors."""
    texts = [f"{token} is here", token]

    def check(answer: Answer) -> None:
        _ok(answer, token)
        found = [(vector["index"], vector["embedding"]) for vector in answer.json["data"]]
        _expect("the vectors", found, [(index, vector_of(text)) for index, text in enumerate(texts)])

    body = json.dumps({"model": f"good/{MODEL}", "input": texts}).encode()
    return post("/v1/embeddings", body, key, **{"x-request-id": token}), check


def models(token: str, key: str) -> tuple[bytes, Check]:
    """The list of models."""

    def check(answer: Answer) -> None:
        _ok(answer, token)
        _expect("the list", [model["id"] for model in answer.json["data"]].count(f"good/{MODEL}"), 1)

    return request("GET", "/v1/models", {"authorization": f"Bearer {key}", "x-request-id": token}), check


def straight(token: str, key: str) -> tuple[bytes, Check]:
    """The good provider without the server before it: what the machine alone makes a client wait."""

    def check(answer: Answer) -> None:
        _expect("status", answer.status, 200)
        _expect("the text", answer.json["choices"][0]["message"]["content"], f"say {token}")

    return post("/v1/chat/completions", _chat_body(token, MODEL)), check


class Client:
    """A client with one connection, which it keeps as long as the server does.

    Args:
        kind: Where it counts.
        port: The server's.
        make: Makes its requests.
        key: Its key.
        rng: For its texts and its pauses.
        kills: Of the server's workers.
        before: Sends something of an attacker's on each new connection, and reads its answer: what a proxy may do that
            has one connection for all.
    """

    def __init__(
        self,
        kind: Kind,
        port: int,
        make: Make,
        key: str,
        rng: Random,
        kills: Kills,
        before: Callable[[asyncio.StreamReader, asyncio.StreamWriter, Random], Any] | None = None,
    ) -> None:
        self.kind = kind
        self._port = port
        self._make = make
        self._key = key
        self._rng = rng
        self._kills = kills
        self._before = before
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._sound = 0.0
        """When the connection was last known to be one to a living process."""
        self._number = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Send requests until *stop*; the one that is sent then comes to its end."""
        try:
            while not stop.is_set():
                await self.ask()
                await asyncio.sleep(self._rng.uniform(*_PAUSE))
        finally:
            self.leave()

    async def ask(self) -> None:
        """Send one request, and once more if a killed worker cut it off."""
        self._number += 1
        token = f"{self.kind.name.replace(' ', '-')}-{self._number}-{self._rng.getrandbits(64):x}"
        wire, check = self._make(token + "x" * self._rng.randrange(40), self._key)
        if not await self._once(wire, check, may_be_cut=True):
            before = self.kind.faults.total()
            await self._once(wire, check, may_be_cut=False)
            self.kind.cut += self.kind.faults.total() == before

    async def _once(self, wire: bytes, check: Check, *, may_be_cut: bool) -> bool:
        """Send a request; whether that is the end of it, well or badly, and not a cut that a killed worker explains."""
        kind = self.kind
        try:
            async with asyncio.timeout(_PATIENCE), self._lent() as (reader, writer):
                began = time.perf_counter()
                writer.write(wire)
                answer = await read(reader)
                kind.seconds.append(time.perf_counter() - began)
                check(answer)
                if answer.headers.get("connection", "").lower() == "close":
                    raise Wrong("the connection is closed after an answer")
        except TimeoutError:
            kind.seconds.append(_PATIENCE)
            kind.faults[f"no answer within {_PATIENCE:g} s"] += 1
        except (Cut, OSError) as error:
            if isinstance(error, Cut | ConnectionResetError | BrokenPipeError) and may_be_cut:
                if self._kills.since(self._sound):
                    return False
            kind.faults[NO_ANSWER] += 1
        except (Wrong, Malformed) as error:
            kind.faults[str(error).removesuffix(".")] += 1
        except (LookupError, TypeError, ValueError):  # of an answer of another shape
            kind.faults["the answer has another shape"] += 1
        return True

    @asynccontextmanager
    async def _lent(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
        """Lend the connection, opened if there is none; after a fault it is dropped."""
        try:
            if self._connection is None:
                self._sound = time.monotonic()
                self._connection = await asyncio.open_connection("127.0.0.1", self._port)
            if self._before is not None:
                await self._before(*self._connection, self._rng)
            yield self._connection
            self._sound = time.monotonic()
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection[1].transport.abort()
            self._connection = None


async def offer_upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: Random) -> None:
    """Send a request without a key whose body looks like an upgrade field, in two pieces, and read the refusal."""
    body = b'{"a":1,\r\nUpgrade: ' + b"x" * rng.choice((30, 400)) + b"\r\n\r\n}"
    data = post("/v1/chat/completions", body)
    cut = len(data) - len(body) - rng.randrange(5)
    writer.write(data[:cut])
    await asyncio.sleep(0.02)  # so that the server reads the pieces one after the other
    writer.write(data[cut:])
    answer = await read(reader)
    _expect(f"status {answer.status} of a request without a key", answer.status, 401)


def clients(port: int, provider: int, key: str, seed: str, kills: Kills, *, shared: bool) -> list[Client]:
    """Return the clients of a run.

    Args:
        port: The server's.
        provider: The good provider's port.
        key: Their key.
        seed: For their random choices.
        kills: Of the server's workers.
        shared: Whether one of them shares its connection with an attacker.
    """
    rows: list[tuple[str, int, Make]] = [
        ("chat", 2, chat),
        ("stream", 2, stream),
        ("models", 1, models),
        ("embeddings", 1, embeddings),
    ]
    made: list[Client] = []
    for name, count, make in rows:
        kind = Kind(name)
        made += [Client(kind, port, make, key, Random(f"{seed}:{name}:{number}"), kills) for number in range(count)]
    if shared:
        rng = Random(f"{seed}:shared")
        made.append(Client(Kind("shared connection"), port, chat, key, rng, kills, offer_upgrade))
    kind = Kind("without the server", judged=False)
    return [*made, Client(kind, provider, straight, key, Random(f"{seed}:straight"), kills)]
