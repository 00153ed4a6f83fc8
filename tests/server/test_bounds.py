"""What a client sends takes no more memory, time and places than it has to, and is not repeated at length."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from antiphon.errors import APIError, ProviderNotFoundError
from antiphon.formats.anthropic import Anthropic
from antiphon.providers.catalog import find_provider
from antiphon.providers.lookup import ProviderNames
from antiphon.server.exchange import Exchange
from antiphon.server.gateway import Waiting
from antiphon.settings.config import Config, Limits, ServerSettings
from antiphon.testing import Fault, Upstream
from tests.server.raw import DIALECTS, Dialect, Wire, ask, eventually, get, post, row
from tests.serving import Serving

CHAT = DIALECTS["openai"]
each = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)

# --- names


@each
@pytest.mark.parametrize("name", ["up/{}", "{}", "{}/x", "{0}/{0}"])
def test_long_name_of_a_model_is_a_400(dialect: Dialect, name: str, no_leaks: None) -> None:
    """A name that is longer than any model's is refused, not kept, and neither repeated nor logged whole."""
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}) as server:
        for length in (1_001, 12_000):
            reply = ask(server.port, dialect.request(model=name.format("x" * length)))
            assert reply.status == 400
            assert len(dialect.said(reply.json)) < 300
        assert max(len(exchange.model) for exchange in server.wait(2)) <= 1_000
        assert not server.application.gateway._found  # pyright: ignore[reportPrivateUsage]
        assert not upstream.requests


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/messages/count_tokens"])
def test_long_name_is_a_400_wherever_a_model_is_named(path: str) -> None:
    """Neither texts nor counts are asked of a model with such a name."""
    body = {"model": "up/" + "x" * 1_000_000, "input": "hi", "messages": [{"role": "user", "content": "hi"}]}
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}) as server:
        reply = ask(server.port, post(path, json.dumps({**body, "max_tokens": 1}).encode()))
    assert (reply.status, len(reply.body) < 500) == (400, True)


def test_name_of_usual_length_is_a_name() -> None:
    """What is within the bound is asked for, and, if there is nothing of that name, shown."""
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}) as server:
        assert ask(server.port, CHAT.request(model="up/" + "x" * 997)).status == 200
        reply = ask(server.port, CHAT.request(model="nothing/x"))
        assert (reply.status, "'nothing'" in CHAT.said(reply.json)) == (404, True)


def test_unknown_names_are_not_kept() -> None:
    """What is not found is looked for again, and takes no room of what is."""
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}) as server:
        assert ask(server.port, CHAT.request(model="up/m")).status == 200
        for number in range(20):
            assert ask(server.port, CHAT.request(model=f"none{number}/x")).status == 404
        found = server.application.gateway._found  # pyright: ignore[reportPrivateUsage]
        assert [model for model, _ in found] == ["up/m"]


def test_no_near_name_is_looked_for_where_a_name_is_huge() -> None:
    """Comparing names takes time with the square of their length."""
    with pytest.raises(ProviderNotFoundError) as caught:
        find_provider("opena" + "i" * 100_000)
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(ProviderNotFoundError, match="Did you mean 'openai'"):
        find_provider("opena")


HUGE = "y" * 100_000
FAULTY: dict[str, dict[str, Any]] = {
    "role": {"messages": [{"role": HUGE, "content": "x"}]},
    "type of a part": {"messages": [{"role": "user", "content": [{"type": HUGE}]}]},
    "name of a tool": {"tools": [{"type": "function", "function": {"name": HUGE, "parameters": 1}}]},
    "choice of a tool": {"tool_choice": {"type": "function", "function": {"name": HUGE}}},
    "key of an object": {"logit_bias": {HUGE: "x"}},
    "metadata": {"metadata": {HUGE: 1}},
    "unknown field": {HUGE: 1, "messages": 1},
    "format": {"response_format": {"type": HUGE}},
    "stop": {"stop": {HUGE: 1}},
    "effort": {"reasoning_effort": HUGE},
}


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("kind", FAULTY)
def test_words_of_a_client_are_not_repeated_at_length(kind: str, strict: bool) -> None:
    """Whatever is said of a request, in the answer's head or body, repeats only the beginning of what it says."""
    body = {**CHAT.body, **FAULTY[kind]}
    config = Config(server=ServerSettings(strict=strict))
    with Upstream("Hello") as upstream, Serving({"up": row(upstream, "anthropic")}, config) as server:
        reply = ask(server.port, post(CHAT.path, json.dumps(body).encode()))
    assert sum(len(name) + len(value) for name, value in reply.headers.items()) < 4_000
    assert len(reply.body) < 6_000


def test_losses_in_the_head_have_a_bound() -> None:
    """Many fields with long names that are left out make a head that a proxy takes."""
    body = {**CHAT.body, **{"\U0001f600" * 5_000 + str(number): 1 for number in range(50)}}
    with Upstream("Hello", codec=Anthropic()) as upstream:
        with Serving({"up": row(upstream, "anthropic")}) as server:
            reply = ask(server.port, post(CHAT.path, json.dumps(body).encode()))
    assert reply.status == 200
    losses = reply.headers["x-antiphon-losses"]
    assert 0 < len(losses) < 4_000
    assert losses.endswith(" more")


@pytest.mark.parametrize("path", ["/", "/v1/models/", "/v1beta/models/"])
def test_long_path_is_not_repeated(path: str) -> None:
    """A path that there is not is shown as far as a line goes."""
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}) as server:
        for data in (get(path + HUGE[:30_000]), post(path + HUGE[:30_000])):
            reply = ask(server.port, data)
            assert reply.status in (404, 405)
            assert len(reply.body) < 1_000


# --- metrics

METRICS = ServerSettings(metrics=True)


def models_in(server: Serving) -> set[str]:
    """Return the labels of models in the metrics."""
    text = ask(server.port, get("/metrics")).body.decode()
    return {part.split('"')[0] for part in text.split('gen_ai_request_model="')[1:]}


def test_label_of_a_model_is_the_alias_as_configured() -> None:
    """However many names a client finds that fit an alias, they have one label."""
    config = Config(server=METRICS, names=ProviderNames(aliases={"claude-*": "up/m", "fast": "up/m"}, files=()))
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}, config) as server:
        for name in [*(f"claude-{number}" for number in range(30)), "fast"]:
            assert ask(server.port, CHAT.request(model=name)).status == 200
        server.wait(31)
        assert models_in(server) == {"claude-*", "fast"}


def test_labels_of_models_have_a_bound() -> None:
    """A provider that answers under any name does not make as many labels; spellings of its own name make one."""
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}, Config(server=METRICS)) as server:
        for name in ("up/m", "UP/m", " up/m", "uP /m"):
            assert ask(server.port, CHAT.request(model=name)).status == 200
        server.wait(4)
        assert models_in(server) == {"up/m"}
        with Wire(server.port) as wire:
            for number in range(300):
                assert wire.send(CHAT.request(model=f"up/{'z' * 500}{number}")).reply().status == 200
            for number in range(300):
                assert wire.send(CHAT.request(model=f"up/{number}")).reply().status == 200
        server.wait(604)
        labels = models_in(server)
        assert len(labels) == 101
        assert "other" in labels
        assert max(map(len, labels)) <= 100
        assert ask(server.port, get("/metrics")).body.count(b"\n") < 5_000


# --- places


def unfinished(size: int = 1_000) -> bytes:
    """Return a request with the first byte of its body."""
    return post(CHAT.path, b"x" * size)[: 1 - size]


@pytest.mark.parametrize("path", [CHAT.path, "/v1/messages", "/v1/embeddings", "/v1/messages/count_tokens"])
def test_body_on_its_way_takes_no_place(path: str, no_leaks: None) -> None:
    """Clients that send slowly do not keep out the others."""
    config = Config(limits=Limits(concurrent=1, queue_seconds=0.1))
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}, config) as server:
        slow = [Wire(server.port).send(unfinished().replace(CHAT.path.encode(), path.encode())) for _ in range(5)]
        assert eventually(lambda: sum(exchange.reading for exchange in server.application.live) == 5)
        assert ask(server.port, CHAT.request()).status == 200
        for wire in slow:
            wire.close()


def test_body_that_comes_longest_makes_room(no_leaks: None) -> None:
    """Bodies that are not here whole have a bound together, and those that come slowly do not keep out the others."""
    config = Config(limits=Limits(waiting_bytes=500_000))
    with Upstream("Hello") as upstream, Serving({"up": row(upstream)}, config) as server:
        part = post(CHAT.path, b"x" * 300_000)[:200_000]
        slow = [Wire(server.port).send(part)]
        assert eventually(lambda: server.application.gateway.bodies.size > 150_000)
        slow.append(Wire(server.port).send(part))
        assert eventually(lambda: server.application.gateway.bodies.size > 350_000)
        whole = json.dumps({**CHAT.body, "messages": [{"role": "user", "content": "x" * 290_000}]}).encode()
        assert ask(server.port, post(CHAT.path, whole)).status == 200
        assert slow[0].reply().status == 408
        assert ask(server.port, CHAT.request()).status == 200
        for wire in slow:
            wire.close()
        assert eventually(lambda: not server.application.live)
        assert server.application.gateway.bodies.size == 0


def test_body_without_room_is_a_503(no_leaks: None) -> None:
    """Where whole bodies that wait for a place have all the room, a further one is told to come again."""
    config = Config(limits=Limits(concurrent=1, queue_seconds=5, waiting_bytes=300_000))
    whole = post(
        CHAT.path, json.dumps({**CHAT.body, "messages": [{"role": "user", "content": "x" * 200_000}]}).encode()
    )
    with Upstream(fault=Fault.stall(after=-1)) as stalled, Serving({"up": row(stalled)}, config) as server:
        with Wire(server.port) as first, Wire(server.port) as second:
            first.send(CHAT.request())
            assert eventually(lambda: len(stalled.requests) == 1)
            second.send(whole)
            assert eventually(lambda: server.application.gateway.bodies.size > 200_000)
            reply = ask(server.port, whole)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert "300,000 bytes" in CHAT.said(reply.json)
        server.wait(3)
        assert server.application.gateway.bodies.size == 0


def test_sizes_of_bodies_add_up() -> None:
    """What is held is what all have by now, and nothing once they are gone."""

    async def nothing(*_args: Any) -> Any:
        raise AssertionError

    def exchange() -> Exchange:
        return Exchange({"headers": [], "method": "POST", "path": "/"}, nothing, nothing)

    bodies, one, two = Waiting(100), exchange(), exchange()
    bodies.hold(one, 40)
    bodies.hold(one, 60)
    bodies.hold(two, 40)
    bodies.release(one)
    bodies.release(one)
    bodies.hold(two, 100)
    with pytest.raises(APIError) as caught:
        bodies.hold(two, 101)
    assert caught.value.status == 503
    bodies.hold(one, 100)


# --- those who read slowly


def test_slow_reader_leaves_nothing_in_the_log(caplog: pytest.LogCaptureFixture, no_leaks: None) -> None:
    """A client that does not read its answer is in the access log, with its id, and nowhere else."""
    caplog.set_level(logging.WARNING)

    async def endless(model: str, messages: Any, **params: Any) -> AsyncGenerator[str, None]:
        while True:
            yield "x" * 10_000

    config = Config(limits=Limits(write_seconds=0.3))
    with Serving({"up": endless}, config) as server, Wire(server.port, window=4096) as wire:
        wire.send(CHAT.request(stream=True)).head()
        (exchange,) = server.wait()
        assert exchange.outcome == "slow"
        assert eventually(lambda: not server.server.server_state.connections)
    assert caplog.text == ""
