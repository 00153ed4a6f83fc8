"""Lists of models: no provider holds them up, and what one gave last stays."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from antiphon.providers.auth import Secret
from antiphon.providers.catalog import ProviderRow
from antiphon.providers.lookup import ProviderNames
from antiphon.server import model_lists
from antiphon.settings.config import Config, Limits
from antiphon.testing import Fault, Upstream
from tests.server.raw import DIALECTS, Response, Wire, ask, eventually, get, post
from tests.serving import Serving

SILENT = Fault.stall(after=-1)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests wait for less, so that the tests do."""
    monkeypatch.setattr(model_lists, "_WAIT", 0.1)


@pytest.fixture
def good() -> Iterator[Upstream]:
    """A provider with two models."""
    with Upstream(models=("one", "two")) as upstream:
        yield upstream


@pytest.fixture
def silent() -> Iterator[Upstream]:
    """A provider that accepts connections and does not answer."""
    with Upstream(fault=SILENT) as upstream:
        yield upstream


def row(id: str, upstream: Upstream) -> ProviderRow:
    """Return the row of a provider that is *upstream*."""
    return ProviderRow(id=id, name=id.title(), codec="openai-chat", base_url=upstream.base_url)


def names(reply: Response) -> set[str]:
    """Return the names in a list in OpenAI's form, but for the local model's."""
    assert reply.status == 200, reply
    return {model["id"] for model in reply.json["data"] if model["owned_by"] != "local"}


def listed(server: Serving) -> set[str]:
    """Return the names that the server lists."""
    return names(ask(server.port, get("/v1/models")))


def asked(upstream: Upstream) -> int:
    """Return how often a provider was asked for its models."""
    return sum(request.path.endswith("/models") for request in upstream.requests)


PATHS: dict[str, bytes] = {
    "list": get("/v1/models"),
    "one": get("/v1/models/good/one"),
    "anthropic": get("/v1/models", "anthropic-version: 2023-06-01\r\n"),
    "gemini": get("/v1beta/models"),
    "one of gemini": get("/v1beta/models/good/one"),
    "tags": get("/api/tags"),
    "show": post("/api/show", b'{"model": "good/one"}'),
}


@pytest.mark.parametrize("path", PATHS)
def test_silent_provider_does_not_hold_up_the_list(path: str, good: Upstream, silent: Upstream) -> None:
    """Every route that needs the list answers soon, with what the other providers gave, while one says nothing."""
    with Serving({"good": row("good", good), "silent": row("silent", silent)}) as server:
        began = time.monotonic()
        replies = [ask(server.port, PATHS[path]) for _ in range(3)]
        assert time.monotonic() - began < 2
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert path == "show" or all(b"one" in reply.body for reply in replies)
    assert (asked(good), asked(silent)) == (1, 1)


def test_client_that_leaves_does_not_begin_it_again(silent: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who began to ask the providers may leave: they are asked once, and those who wait are answered."""
    monkeypatch.setattr(model_lists, "_WAIT", 5.0)
    with Serving({"silent": row("silent", silent)}) as server:
        with Wire(server.port) as first:
            first.send(get("/v1/models"))
            assert eventually(lambda: asked(silent) == 1)
        server.wait(1)
        with Wire(server.port) as second:
            second.send(get("/v1/models"))
            assert eventually(lambda: len(server.application.live) == 1)
        server.wait(2)
        monkeypatch.setattr(model_lists, "_WAIT", 0.0)
        assert listed(server) == set()
    assert asked(silent) == 1


def test_last_list_stays_while_its_provider_fails(
    good: Upstream, silent: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a provider gave is listed until it gives something else, and each failure is logged once."""
    monkeypatch.setattr(model_lists, "_EVERY", 0.0)
    with Serving({"good": row("good", good)}) as server:
        assert listed(server) == {"good/one", "good/two"}
        for fault in (Fault.of_status(500), Fault.garbage(), Fault.of_status(401), SILENT):
            good.fault, before = fault, asked(good)
            assert listed(server) == {"good/one", "good/two"}
            assert eventually(lambda before=before: asked(good) == before + 1)
        said = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(said) == 3


def test_new_list_takes_the_place_of_the_last(good: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider is asked again when its time has come."""
    with Serving({"good": row("good", good)}) as server:
        assert listed(server) == {"good/one", "good/two"}
        good.models = ("three",)
        assert listed(server) == {"good/one", "good/two"}
        monkeypatch.setattr(model_lists, "_EVERY", 0.0)
        assert listed(server) == {"good/three"}
    assert asked(good) == 2


def test_slow_list_comes_in_later(good: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that takes longer than requests wait is listed as soon as it has answered."""
    monkeypatch.setattr(model_lists, "_WAIT", 0.0)
    with Serving({"good": row("good", good)}) as server:
        assert eventually(lambda: listed(server) == {"good/one", "good/two"})
    assert asked(good) == 1


def changed(server: Serving, keys: dict[str, Secret] | None = None, **rows: Any) -> Config:
    """Return the settings of *server* with other providers."""
    return msgspec.structs.replace(server.config, names=ProviderNames(providers=rows, keys=keys or {}, files=()))


def test_lists_stay_over_a_reload_where_the_provider_is_the_same(good: Upstream, silent: Upstream) -> None:
    """After other settings the list of a provider that is the same is there at once; another's is not."""
    rows = {"good": row("good", good), "gone": row("gone", good)}
    with Serving(rows) as server:
        assert listed(server) == {"good/one", "good/two", "gone/one", "gone/two"}
        good.fault = SILENT
        server.application.use(changed(server, good=row("good", good), silent=row("silent", silent)))
        assert listed(server) == {"good/one", "good/two"}
        assert (asked(good), asked(silent)) == (2, 1)
        server.application.use(changed(server, {"good": Secret("another-key-0123")}, good=row("good", good)))
        assert listed(server) == set()
        assert asked(good) == 3


def test_lists_are_within_the_places_of_the_server(good: Upstream, silent: Upstream) -> None:
    """A request that waits for providers takes a place; one that only reads what is there needs none."""
    config = Config(limits=Limits(concurrent=1, queue_seconds=0.05))
    with (
        Serving({"good": row("good", good), "silent": row("silent", silent)}, config) as server,
        Wire(server.port) as chat,
    ):
        chat.send(DIALECTS["openai"].request(model="silent/x"))
        assert eventually(lambda: len(silent.requests) == 1)
        assert ask(server.port, get("/v1/models")).status == 503
        assert eventually(lambda: asked(good) == 1)
        assert eventually(lambda: listed(server) == {"good/one", "good/two"})
        server.application.use(config_with(server, good))
        assert ask(server.port, post("/api/show", json.dumps({"model": "good/one"}).encode())).status == 200


def config_with(server: Serving, upstream: Upstream) -> Config:
    """Return the settings of *server* with the one provider `good`."""
    return changed(server, good=row("good", upstream))


def test_provider_with_a_wrong_setting_is_left_out(
    good: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that none can be leaves out its provider, and nothing else."""
    monkeypatch.setenv("GROQ_API_KEY", "abc\ndefghijk")
    with Serving({"good": row("good", good)}) as server:
        assert listed(server) == {"good/one", "good/two"}
    assert "No list of models from Groq" in caplog.text
    assert "defghijk" not in caplog.text
