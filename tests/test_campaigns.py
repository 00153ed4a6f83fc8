"""The verdict of a campaign against a server: what it lets pass, and that each thing that may not be is found."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from campaigns.attacks import ATTACKS, Target, overriding_trailers, wrong_keys
from campaigns.clients import Client, Kills, chat, clients, embeddings, stream
from campaigns.verdict import LONGEST_WAIT, NO_ANSWER, Findings, Kind, Moment, judge, quantile, unexpected
from campaigns.wire import Cut, Malformed, post, read, request

RELOADED = "The settings were read anew and are in force.\n"


def good(**changes: Any) -> Findings:
    """Return what a run finds that is passed, with some of it changed."""
    found = Findings(
        "Two workers",
        serving=2,
        killing=True,
        kinds=[Kind("chat", seconds=[0.01, LONGEST_WAIT], cut=1)],
        start=Moment(100e6, 50),
        warm=Moment(120e6, 60),
        end=Moment(120e6 * 1.1 + 40e6, 60 + 32),
        peak=500e6,
        exit_code=0,
        kills=1,
        log="antiphon 0.1.0 listens\n" + RELOADED + "The worker 12 ended with exit code -9: starting another.\n",
        opening=len("antiphon 0.1.0 listens\n"),
        secrets=("ap-secret",),
        attacks=Counter(trailers=1),
    )
    return replace(found, **changes)


def test_a_run_at_every_bound_is_passed() -> None:
    """A request may take a second, memory may grow by its share, a connection may be cut by a kill."""
    assert judge(good(), ["trailers"]) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kinds": [Kind("chat", seconds=[0.1, LONGEST_WAIT + 0.01])]}, "chat: 1 waited longer than 1 s, up to 1.0 s."),
        (
            {"kinds": [Kind("chat", seconds=[0.1], faults=Counter({"the text is wrong": 2}))]},
            "chat: 2 failed: the text",
        ),
        ({"kinds": [Kind("chat", faults=Counter({NO_ANSWER: 1}))]}, "chat: 1 failed: no answer."),
        ({"kinds": [Kind("chat")]}, "chat: not one request was sent."),
        ({"end": Moment(120e6 * 1.1 + 40e6 + 1e6, 60)}, "Memory grew by 53 MB after the warm-up, more than 52 MB."),
        ({"peak": 501e6}, "Memory was at 501 MB for a moment"),
        ({"warm": None, "end": None}, "Memory could not be measured to the end."),
        ({"end": Moment(120e6, 93)}, "33 more files are open than after the warm-up."),
        ({"exit_code": -15}, "After SIGTERM the exit code was -15, not 0."),
        ({"exit_code": None}, "The server did not end in time after SIGTERM."),
        ({"exit_code": None, "ended_early": 0}, "The server ended by itself with exit code 0."),
        ({"kills": 0}, "No worker was killed."),
        ({"attacks": Counter[str]()}, "The attack 'trailers' did not take place."),
        ({"breaches": Counter({"keys: a wrong key: status 200": 3})}, "must not get, 3 times: keys: a wrong key"),
        ({"log": RELOADED + "Traceback (most recent call last):\n", "opening": len(RELOADED)}, "1 tracebacks"),
        ({"log": "A worker ended as soon as it began: giving up.", "opening": 0}, "1 lines of the log are unexpected"),
        ({"log": "request a: ap-secret", "opening": 0}, "A key is in a log."),
        ({"access_log": '{"key": "ap-secret"}'}, "A key is in a log."),
    ],
)
def test_each_thing_that_may_not_be_is_found(changes: dict[str, Any], says: str) -> None:
    """One sentence says what is wrong, whatever it is."""
    faults = judge(good(**changes), ["trailers"])
    assert any(says in fault for fault in faults), faults


def test_a_kind_that_is_not_judged_may_wait() -> None:
    """The clients that pass the server by show the machine, and fail no run."""
    slow = Kind("without the server", judged=False, seconds=[9.0], faults=Counter({NO_ANSWER: 1}))
    assert judge(good(kinds=[slow]), ["trailers"]) == []


def test_tracebacks_at_the_start_are_found() -> None:
    """What the server says of itself before it is ready is not looked at line by line, but for tracebacks."""
    log = "welcome\nTraceback (most recent call last):\n"
    assert judge(good(log=log, opening=len(log)), ["trailers"]) == ["1 tracebacks are in the log."]


def test_lines_of_a_log_that_are_accounted_for() -> None:
    """What a provider did is accounted for, on one line; a line of its own is not."""
    log = RELOADED + "antiphon: request 1f: 127.0.0.1:1 closed.\nantiphon: request 2f failed\nforged 17\nforged 18\n"
    assert unexpected(log) == {"antiphon: request #f failed": 1, "forged #": 2}


def test_quantiles_are_of_the_values_themselves() -> None:
    """The largest is that of 1, and there is none of nothing."""
    assert [quantile([3, 1, 2], share) for share in (0.0, 0.5, 1.0)] == [1, 2, 3]
    assert quantile([], 0.5) == 0.0


def fed(data: bytes) -> asyncio.StreamReader:
    """Return a stream of *data*, at whose end the connection is closed."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("whole", [CHUNKED + b"0\r\n\r\n", SIZED])
def test_an_answer_that_is_cut_anywhere_is_seen_to_be_cut(whole: bytes) -> None:
    """No beginning of an answer looks like an answer."""
    assert asyncio.run(answer_of(whole)) == (200, b"hello")
    for end in range(len(whole)):
        with pytest.raises(Cut):
            asyncio.run(answer_of(whole[:end]))


async def answer_of(data: bytes) -> tuple[int, bytes]:
    """Read an answer, and return its status and its body."""
    answer = await read(fed(data))
    return answer.status, answer.body


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(data: bytes) -> None:
    """The reader is strict, so that two answers that run into each other are found."""
    with pytest.raises(Malformed):
        asyncio.run(answer_of(data))


def echo(body: dict[str, Any], **changes: Any) -> bytes:
    """Write the answer of a server that says what it was asked."""
    message = {"role": "assistant", "content": body["messages"][-1]["content"]}
    said = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop", **changes}]}).encode()
    return said


async def asked(serve: Callable[[int, bytes, str], bytes], kills: Kills) -> Kind:
    """Let a client ask once, of a server that *serve* answers for, by number of the request, and closes after each."""
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(fields["content-length"]))
        count += 1
        writer.write(serve(count, body, fields["x-request-id"]))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        client = Client(Kind("chat"), server.sockets[0].getsockname()[1], chat, "key", Random(1), kills)
        await client.ask()
        client.leave()
        await asyncio.sleep(0)  # a connection that is dropped is closed in the loop's next round
    return client.kind


def whole(_: int, body: bytes, id: str) -> bytes:
    """Answer as it has to be."""
    said = echo(json.loads(body))
    return f"HTTP/1.1 200 OK\r\nx-request-id: {id}\r\ncontent-length: {len(said)}\r\n\r\n".encode() + said


def cut(number: int, body: bytes, id: str) -> bytes:
    """Leave the last byte of the first answer out."""
    answer = whole(number, body, id)
    return answer[:-1] if number == 1 else answer


def test_a_right_answer_counts() -> None:
    """It has a time, and no fault."""
    kind = asyncio.run(asked(whole, Kills()))
    assert (kind.count, len(kind.seconds), kind.faults, kind.cut) == (1, 1, {}, 0)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"say ", b"say  ", "the text is wrong"),
        (b'"stop"', b'"length"', "the finish reason is wrong"),
        (b"200 OK", b"502 Bad", "status 502 is wrong"),
        (b"x-request-id: chat", b"x-request-id: Chat", "the id of the request is wrong"),
        (b'"choices"', b'"choicez"', "the answer has another shape"),
        (b"x-request-id", b"connection: close\r\nx-request-id", "the connection is closed after an answer"),
    ],
)
def test_a_wrong_answer_is_a_fault(old: bytes, new: bytes, fault: str) -> None:
    """Each part of an answer is compared with what it has to be, after a kill as well."""

    def wrong(number: int, body: bytes, id: str) -> bytes:
        head, _, said = whole(number, body, id).partition(b"\r\n\r\n")
        head, said = head.replace(old, new), said.replace(old, new)
        first, *_ = head.split(b"content-length")
        return first + b"content-length: %d\r\n\r\n" % len(said) + said

    kind = asyncio.run(asked(wrong, Kills([time.monotonic() + 60])))
    assert (kind.faults, kind.cut) == ({fault: 1}, 0)


def test_an_answer_that_is_cut_without_a_kill_is_a_fault() -> None:
    """It is not asked for again."""
    kind = asyncio.run(asked(cut, Kills([time.monotonic() - 60])))
    assert (kind.faults, kind.cut, kind.seconds) == ({NO_ANSWER: 1}, 0, [])


def test_an_answer_that_a_kill_cut_is_asked_for_once_more() -> None:
    """One repetition settles it; a second cut is a fault."""
    killed = Kills([time.monotonic() + 60])
    kind = asyncio.run(asked(cut, killed))
    assert (kind.count, len(kind.seconds), kind.faults, kind.cut) == (2, 1, {}, 1)
    kind = asyncio.run(asked(lambda _, body, id: cut(1, body, id), killed))
    assert (kind.faults, kind.cut) == ({NO_ANSWER: 1}, 0)


async def outcome(attack: Callable[[Target, Random], Awaitable[None]], answer: bytes) -> Counter[str]:
    """Return the breaches of an attack on a server that always says the same."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 20)
    async with server:
        target = Target(server.sockets[0].getsockname()[1], "ap-key", killing=False)
        await attack(target, Random(1))
    return target.breaches


@pytest.mark.parametrize(
    ("attack", "what"), [(wrong_keys, "keys: a wrong key"), (overriding_trailers, "trailers: a key")]
)
def test_what_is_let_in_with_a_wrong_key_is_a_breach(
    attack: Callable[[Target, Random], Awaitable[None]], what: str
) -> None:
    """Refusing is right; answering, and answering at length, is not."""
    refusal = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
    assert asyncio.run(outcome(attack, refusal)) == {}
    (breach,) = asyncio.run(outcome(attack, refusal.replace(b"401", b"404")))
    assert breach.startswith(what)
    assert breach.endswith("status 404")
    (breach,) = asyncio.run(outcome(attack, refusal.replace(b" 0", b" 70000") + b"x" * 70_000))
    assert breach.endswith("as large as the question")


def test_requests_of_clients_differ() -> None:
    """Each has text of its own, and a client that shares its connection is there only if it is asked for."""
    for make in (chat, stream, embeddings):
        assert make("a", "key")[0] != make("b", "key")[0]
    names = {client.kind.name for client in clients(1, 2, "key", "1", Kills(), shared=False)}
    assert names == {"chat", "stream", "models", "embeddings", "without the server"}
    assert {client.kind.name for client in clients(1, 2, "key", "1", Kills(), shared=True)} - names == {
        "shared connection"
    }


def test_requests_as_bytes() -> None:
    """A body has its length, and a key its field."""
    assert request("GET", "/x", {"a": "b"}) == b"GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\na: b\r\n\r\n"
    assert post("/x", b"hi", "k").endswith(b"authorization: Bearer k\r\ncontent-length: 2\r\n\r\nhi")


def test_every_attack_says_what_it_does() -> None:
    """`--list` prints the first line of each."""
    assert all(attack.round.__doc__ for attack in ATTACKS)
