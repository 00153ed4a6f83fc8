"""What attackers do to a server, one function a kind of attack: each call is one round, with its own random choices.

An attack that is *heavy* costs the server processor time by its size. Heavy ones take turns, and after each the turn
rests for twice the time that it took, up to a bound, however slow the machine: so they have a third of the time, and
the rest is for others. What the other attacks cost is bounded by their rates.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from campaigns.hostile import HOSTILE
from campaigns.wire import Answer, Cut, Malformed, connect, post, read, request

__all__ = ["ATTACKS", "Attack", "Target"]

CHAT = "/v1/chat/completions"
_LARGEST = 12_000_000
"""Bytes of the largest body: a third of what the server takes by default, so that it is looked at, not refused."""
_LARGEST_ANSWER = 64_000
"""What a refusal may have: it must not repeat what was sent."""
_LATEST = 20.0
"""Seconds within which every request of an attacker has an answer: longer than any limit that the server is given."""


@dataclass
class Target:
    """The server that is attacked, and what came of it."""

    port: int
    key: str
    """A key that the attackers have themselves, for what takes one."""
    killing: bool
    """Whether workers are killed meanwhile, so that a missing answer says nothing."""
    breaches: Counter[str] = field(default_factory=Counter[str])
    """What an attack got that it must not get."""

    async def ask(self, what: str, data: bytes) -> Answer | None:
        """Send *data* on a connection of its own and return the answer; without one, that is a breach."""
        try:
            async with asyncio.timeout(_LATEST), connect(self.port) as (reader, writer):
                writer.write(data)
                answer = await read(reader)
        except TimeoutError:
            self.breaches[f"{what}: no answer within {_LATEST:g} s"] += 1
            return None
        except (Cut, Malformed, OSError) as error:
            if not self.killing:
                self.breaches[f"{what}: {'cut off' if isinstance(error, OSError) else error}"] += 1
            return None
        if answer.status == 500:
            self.breaches[f"{what}: status 500"] += 1
        return answer

    async def refused(self, what: str, data: bytes, *statuses: int) -> None:
        """Send *data*, which has to be refused with one of *statuses*, in few words."""
        answer = await self.ask(what, data)
        if answer is None:
            return
        if answer.status not in statuses:
            self.breaches[f"{what}: status {answer.status}"] += 1
        if len(answer.body) > _LARGEST_ANSWER:
            self.breaches[f"{what}: an answer that is as large as the question"] += 1


Round: TypeAlias = Callable[[Target, Random], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """One kind of attack."""

    name: str
    """What `--only` calls it; several may have the same."""
    every: float
    """Seconds from the end of one round to the next."""
    heavy: bool
    round: Round


ATTACKS: list[Attack] = []


def _attack(name: str, every: float, *, heavy: bool = False) -> Callable[[Round], Round]:
    def add(function: Round) -> Round:
        ATTACKS.append(Attack(name, every, heavy, function))
        return function

    return add


def _body(model: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **more}).encode()


def _size(rng: Random) -> int:
    """Draw a size of a body, as likely between 1 and 2 MB as between 6 and 12."""
    return int(_LARGEST / 2 ** rng.uniform(0, 4))


async def _many(count: int, one: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_quietly(one()))


async def _quietly(doing: Awaitable[None]) -> None:
    """Do what the server may end at any time by closing the connection."""
    with suppress(OSError, Cut, Malformed, TimeoutError, asyncio.IncompleteReadError):
        await doing


_CHUNKED = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n".encode()


@_attack("trailers", 1.0)
async def big_trailers(target: Target, rng: Random) -> None:
    """Send 2 to 8 MB of trailer fields, many or one without end, and no key: a head may have 32 kB."""
    piece = rng.choice((b"a:b\r\n" * 13_000, b"b" * 65_536))
    async with connect(target.port) as (_, writer):
        writer.write(_CHUNKED + b"\r\n0\r\nx: ")
        for _ in range(rng.randrange(30, 120)):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)  # long enough for a refusal to be seen: then writing fails
        if not writer.is_closing():
            target.breaches["trailers: megabytes of them are taken"] += 1


@_attack("trailers", 0.3)
async def overriding_trailers(target: Target, rng: Random) -> None:
    """Send the key in a trailer, where it does not count."""
    fields = rng.choice((b"x-api-key: ", b"authorization: Bearer ", b"api-key: ")) + target.key.encode()
    data = _CHUNKED + b"\r\n2\r\n{}\r\n0\r\nhost: 127.0.0.1\r\n" + fields + b"\r\n\r\n"
    await target.refused("trailers: a key in a trailer", data, 400, 401, 403, 431)


@_attack("heads", 0.5)
async def slow_heads(target: Target, rng: Random) -> None:
    """Send heads a byte at a time, on ten connections."""
    head = request("GET", "/v1/models", {"x-filling": "x" * 200})

    async def one() -> None:
        async with connect(target.port) as (_, writer):
            for byte in head[: rng.randrange(10, 60)]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)

    await _many(10, one)


@_attack("bodies", 0.5)
async def slow_bodies(target: Target, rng: Random) -> None:
    """Begin more bodies than there are places for requests, with a key, and send a byte a second of them."""
    head = post(CHAT, b"", target.key).replace(b"content-length: 0", b"content-length: 100000")

    async def one() -> None:
        async with connect(target.port) as (_, writer):
            writer.write(head + b"{")
            for _ in range(rng.randrange(2, 6)):
                await asyncio.sleep(1)
                writer.write(b" ")
                await writer.drain()

    await _many(90, one)


@_attack("connects", 0.5)
async def brief_connections(target: Target, rng: Random) -> None:
    """Open fifty connections that send one byte, and leave, some with a reset."""

    async def one() -> None:
        async with connect(target.port) as (_, writer):
            writer.write(rng.choice((b"P", b"\0", b"\r", b"\x16")))
            if rng.random() < 0.5:
                _reset(writer)
            await asyncio.sleep(rng.uniform(0, 0.1))

    await _many(50, one)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Make the connection end with a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@_attack("names", 0.5, heavy=True)
async def huge_names(target: Target, rng: Random) -> None:
    """Ask for a model with a name of megabytes."""
    size = _size(rng)
    first, second = rng.choice("abcdxyz"), rng.choice(("q", "rs", "é", "/", " "))
    name = rng.choice((first * size, f"{first}{second * (size // len(second.encode()))}", f"sink/{first * size}"))
    path = rng.choice((CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings", "/api/chat", "/api/show"))
    body: dict[str, Any] = {
        "model": name,
        "messages": [],
        "input": "x",
        "max_tokens": 1,
        "name": name if path == "/api/show" else None,
    }
    await target.refused("names: a huge name", post(path, json.dumps(body).encode(), target.key), 400, 404, 413, 422)


@_attack("unknown", 0.1)
async def unknown_names(target: Target, rng: Random) -> None:
    """Ask for models, paths and methods that do not exist, each another."""
    odd = f"{rng.getrandbits(128):x}"
    data = rng.choice(
        (
            post(CHAT, _body(f"unknown-{odd}/x"), target.key),
            post(CHAT, _body(f"{odd} "), target.key),
            post(f"/v1beta/models/{odd}:generateContent", b"{}", target.key),
            post(f"/nothing/{odd}", b"{}", target.key),
            request("GET", f"/v1/models/{odd}?{odd}", {"x-api-key": target.key, "x-request-id": odd * 5}),
            request(odd.upper()[:9], "/v1/models", {"x-api-key": target.key}),
        )
    )
    await target.refused("unknown: a name that does not exist", data, 400, 404, 405)


@_attack("unknown", 0.1)
async def new_models(target: Target, rng: Random) -> None:
    """Ask a known provider for models that are named for the first time."""
    await target.ask("unknown: a new model", post(CHAT, _body(f"sink/{rng.getrandbits(128):x}"), target.key))


@_attack("deep", 0.3, heavy=True)
async def deep_json(target: Target, rng: Random) -> None:
    """Nest arrays and objects, or write numbers of many digits."""
    depth = rng.choice((200, 1000, 100_000, _size(rng) // 8))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"content":', b"}]")))
    deep = rng.choice((opening * depth + b"1" + closing * depth, b"9" * depth, b"-0." + b"0" * depth + b"1"))
    place = rng.choice((b'"messages"', b'"tools"', b'"metadata"', b'"input"', b'"contents"', b'"unknown"'))
    path = rng.choice((CHAT, "/v1/messages", "/v1/responses", "/v1beta/models/sink/m:generateContent", "/api/chat"))
    await target.ask("deep: nested JSON", post(path, b'{"model":"sink/m",' + place + b":" + deep + b"}", target.key))


def _repeated(item: str, rng: Random) -> str:
    return ",".join([item] * (_size(rng) // (len(item) + 1)))


_TOOL = '{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}'
_WIDE = (
    (CHAT, '"messages":[{"role":"user","content":[%s]}]', '{"type":"text","text":""}'),
    (CHAT, '"messages":[%s]', '{"role":"user","content":"x"}'),
    (CHAT, '"messages":[{"role":"user","content":"x"}],"tools":[%s]', _TOOL),
    (CHAT, '"messages":[{"role":"user","content":"x"}],"stop":[%s]', '"s"'),
    (CHAT, '"messages":[{"role":"user","content":"x"}],"logit_bias":{%s}', '"7":1'),
    ("/v1/responses", '"input":[%s]', '{"type":"reasoning","id":"r","summary":[]}'),
    ("/v1/responses", '"input":[%s]', '{"role":"user","content":[{"type":"input_text","text":""}]}'),
    (
        "/v1/messages",
        '"max_tokens":1,"system":[%s],"messages":[{"role":"user","content":"x"}]',
        '{"type":"text","text":"x"}',
    ),
    ("/v1/messages", '"max_tokens":1,"messages":[{"role":"user","content":[%s]}]', '{"type":"text","text":"x"}'),
    (
        "/v1beta/models/sink/m:generateContent",
        '"contents":[{"role":"model","parts":[%s]}]',
        '{"functionCall":{"name":"f","args":{}}}',
    ),
    ("/api/chat", '"messages":[%s]', '{"role":"tool","content":"x"}'),
    ("/v1/embeddings", '"input":[%s]', '"x"'),
)


@_attack("wide", 0.5, heavy=True)
async def wide_lists(target: Target, rng: Random) -> None:
    """Send one list with as many items as a body of megabytes can have."""
    path, frame, item = rng.choice(_WIDE)
    model = rng.choice(("sink/m", "anthropic-sink/m", "gemini-sink/m", "cohere-sink/m", "ollama-sink/m"))
    body = f'{{"model":"{model}",{frame % _repeated(item, rng)}}}'
    await target.ask("wide: a long list", post(path, body.encode(), target.key))


@_attack("quadratic", 0.5, heavy=True)
async def many_results(target: Target, rng: Random) -> None:
    """Send thousands of tool calls and results, which some formats have in one message."""
    count = rng.choice((2000, 4900, 9900, 20_000))
    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for number in range(count)
    ]
    results = [{"role": "tool", "tool_call_id": f"c{number}", "content": "x"} for number in range(count)]
    said = [{"role": "assistant", "content": None, "tool_calls": calls}, *rng.choice((results, results[:50]))]
    model = rng.choice(("sink/m", "anthropic-sink/m", "gemini-sink/m", "cohere-sink/m", "ollama-sink/m"))
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}, *said]}).encode()
    await target.ask("quadratic: many tool results", post(CHAT, body, target.key))


@_attack("pipeline", 0.3)
async def pipelining(target: Target, rng: Random) -> None:
    """Send several requests at once and leave before, or while, they are answered."""
    one = post(CHAT, _body(rng.choice(("sink/m", "mute/m", "endless/m")), stream=True), target.key)
    async with connect(target.port) as (reader, writer):
        writer.write(one * rng.randrange(2, 12))
        await writer.drain()
        if rng.random() < 0.5:
            await reader.read(100)
        if rng.random() < 0.5:
            _reset(writer)


@_attack("unread", 1.0)
async def unread_streams(target: Target, rng: Random) -> None:
    """Ask for a stream without end, and do not read it."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    with plug:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plug, ("127.0.0.1", target.port))
        await loop.sock_sendall(plug, post(CHAT, _body("endless/m", stream=True), target.key))
        await asyncio.sleep(rng.uniform(1, 8))


@_attack("noise", 0.2)
async def random_bytes(target: Target, rng: Random) -> None:
    """Send bytes that are no request, or a request with some bytes changed."""
    data = bytearray(rng.choice((rng.randbytes(rng.randrange(1, 3000)), post(CHAT, _body("sink/m"), target.key))))
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    async with connect(target.port) as (reader, writer):
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(2):
            await reader.read(4096)


@_attack("keys", 0.2)
async def wrong_keys(target: Target, rng: Random) -> None:
    """Come with no key, with a wrong one, or with almost the right one."""
    key = target.key
    wrong = rng.choice((key[:-1], key + "x", key.upper(), key[::-1], "x" * 30_000, "é", f"{key} {key}", "Bearer", "*"))
    field = rng.choice(({"authorization": f"Bearer {wrong}"}, {"x-api-key": wrong}, {"x-goog-api-key": wrong}, {}))
    data = request("POST", f"{CHAT}?key={wrong[:100].encode().hex()}", field, _body("sink/m"))
    await target.refused("keys: a wrong key", data, 400, 401, 403, 431)


@_attack("leaving", 0.2)
async def leaving(target: Target, rng: Random) -> None:
    """Leave in the middle of a stream, of an answer that is awaited, or of a body."""
    whole = post(CHAT, _body(rng.choice(("endless/m", "mute/m", "drips/m")), stream=True), target.key)
    async with connect(target.port) as (reader, writer):
        writer.write(whole[: rng.choice((len(whole), len(whole), len(whole) - 10))])
        await writer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.uniform(0, 1)):
                await reader.read(2000)
        if rng.random() < 0.5:
            _reset(writer)


@_attack("hostile", 0.2)
async def hostile_providers(target: Target, rng: Random) -> None:
    """Ask providers that misbehave, in one format or another."""
    model = rng.choice([name for name in HOSTILE if name not in {"sink", "endless", "mute"}]) + "/m"
    stream = rng.random() < 0.5
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "input": "hi", "max_tokens": 9}
    path = rng.choice((CHAT, "/v1/messages", "/v1/responses", "/api/chat", "/v1/embeddings"))
    data = post(path, json.dumps({**body, "stream": stream}).encode(), target.key)
    try:
        async with asyncio.timeout(_LATEST), connect(target.port) as (reader, writer):
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")  # what comes after it may be cut off, as the provider did it
            await _quietly(_rest(reader))
    except TimeoutError:
        target.breaches[f"hostile: no end within {_LATEST:g} s of {model}"] += 1
    except (OSError, asyncio.IncompleteReadError):
        if not target.killing:
            target.breaches[f"hostile: no answer to a request for {model}"] += 1
    else:
        if b"set-cookie" in head.lower():
            target.breaches["hostile: a field of the provider's own in the head"] += 1


async def _rest(reader: asyncio.StreamReader) -> None:
    while piece := await reader.read(65_536):
        if piece.endswith((b"0\r\n\r\n", b"}")):
            return


@_attack("hostile", 1.0)
async def mute_provider(target: Target, rng: Random) -> None:
    """Ask a provider that never answers."""
    await target.ask("hostile: a provider that does not answer", post(CHAT, _body("mute/m"), target.key))


@_attack("listings", 1.0)
async def listings(target: Target, rng: Random) -> None:
    """Ask for lists, and leave: one provider does not list its models."""
    path = rng.choice(("/v1/models", "/api/tags", f"/v1/models/{rng.getrandbits(64):x}"))
    async with connect(target.port) as (reader, writer):
        writer.write(request("GET", path, {"x-api-key": target.key}))
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.uniform(0, 2)):
                await reader.read(100)


@_attack("upgrade", 0.5)
async def split_upgrades(target: Target, rng: Random) -> None:
    """Offer to go on in another protocol, in a head that comes in two pieces: the offer has to be passed over."""
    head = {"authorization": f"Bearer {target.key}", "connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
    data = request("POST", CHAT, {**head, "http2-settings": "AAMAAABkAAQCAAAAAAIAAAAA"}, _body("sink/m"))
    cut = rng.randrange(1, len(data))
    try:
        async with asyncio.timeout(_LATEST), connect(target.port) as (reader, writer):
            writer.write(data[:cut])
            await asyncio.sleep(0.02)
            writer.write(data[cut:])
            status = (await read(reader)).status
    except (OSError, Cut, Malformed):  # TimeoutError among them
        status = 0
    if status != 200 and not (target.killing and not status):
        target.breaches[f"upgrade: status {status or 'none'} for a request with an offer"] += 1
