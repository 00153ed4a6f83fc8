"""What the server says of itself in OpenAPI, and whatever fits that or nearly does: no failure, and no lie."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon.providers.lookup import ProviderNames
from antiphon.settings.config import Config
from antiphon.testing import Upstream
from tests.server.raw import ask, get, row
from tests.serving import Serving

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server with a provider, which an empty name stands for as well."""
    config = Config(names=ProviderNames(default_model="up/x", files=()))
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}, config) as serving:
        yield serving


@pytest.mark.parametrize(
    ("phases", "examples", "least"),
    [("coverage,fuzzing", 2, 200), pytest.param("coverage,fuzzing", 50, 300, marks=pytest.mark.campaign)],
    ids=["some", "many"],
)
def test_no_request_makes_it_fail(server: Serving, tmp_path: Path, phases: str, examples: int, least: int) -> None:
    """Schemathesis finds no 500, and no status, content type or JSON that the description does not have."""
    program = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    options = ["--checks", ",".join(CHECKS), "--phases", phases, "--max-examples", str(examples), "--no-color"]
    before = len(server.done)
    # Standard output and files of its own go to a folder that is thrown away.
    done = subprocess.run(
        [*program, f"{server.address}/openapi.json", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert len(server.done) - before > least
    assert ask(server.port, get("/health")).json == {"status": "ok"}


def test_every_route_is_described(server: Serving) -> None:
    """What is described is what there is."""
    described = ask(server.port, get("/openapi.json")).json["paths"]
    assert described.keys() == {route.path.replace(":path}", "}") for route in server.application.routes}
