"""What holds for every test: no key and no proxy in the environment, no other machine, no blocked event loop."""

from __future__ import annotations

import gc
import inspect
import os
import re
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import hypothesis
import hypothesis.database
import pytest
from blockbuster import BlockBuster

from antiphon.providers.local import download
from antiphon.sync import bridge
from tests import leaks, loopback, recordings

OUTER_ENVIRON = MappingProxyType(dict(os.environ))

UNWANTED = re.compile(
    r".+_(KEY|TOKEN|BASE_URL|API_BASE)|(ANTHROPIC|ANTIPHON|AWS|AZURE|GEMINI|GOOGLE|HF|OLLAMA|OPENAI|OTEL)_.+"
    r"|(HTTP|HTTPS|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)",
    re.IGNORECASE,
)
"""Variables that would make a test's outcome depend on who runs it."""

# Asserts in what the tests share say as much as those in the tests; what is imported above makes none.
pytest.register_assert_rewrite(
    *{f"tests.{entry.stem}" for entry in Path(__file__).parent.iterdir()}.difference(sys.modules)
)

# Two profiles of generated examples: `gate`, the default, and `deep`, which scripts/deep chooses with pytest's option
# --hypothesis-profile. The gate takes the same few examples every time, so that what fails there is the change and not
# luck, and so that no database of earlier failures makes two machines differ. A deep run takes many others each time,
# and remembers in .hypothesis/ what failed. No test sets its own number of examples. No deadline: how long an example
# takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "gate",
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "deep",
    hypothesis.settings.get_profile("gate"),
    max_examples=500,
    derandomize=False,
    database=hypothesis.database.DirectoryBasedExampleDatabase(Path(__file__).parent.parent / ".hypothesis"),
)
hypothesis.settings.load_profile("gate")


def pytest_configure() -> None:
    """Clean the environment before anything is imported or started that could read it."""
    for name in filter(UNWANTED.fullmatch, OUTER_ENVIRON):
        del os.environ[name]
    loopback.install()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let `no_leaks` look at the loop of an async test while it still runs."""
    if "no_leaks" in pyfuncitem.fixturenames and inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = leaks.leaves_no_tasks(pyfuncitem.obj)
    return (yield)


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep settings, history and data of whoever runs the suite out of it; the cache, where the model is, stays."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        os.environ[name] = str(tmp_path_factory.mktemp(name))


@pytest.fixture(autouse=True)
def _surroundings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Open the guards as far as the test's markers say, and undo what it does to the environment."""
    before = dict(os.environ)
    if request.node.get_closest_marker("live"):
        os.environ.update(OUTER_ENVIRON)
        monkeypatch.setattr(loopback.Guard, "sockets", False)
        monkeypatch.setattr(loopback.Guard, "requests", False)
    if _reason(request, "beyond_loopback"):
        monkeypatch.setattr(loopback.Guard, "requests", False)
    yield
    for name in os.environ.keys() | before.keys():
        if name == "PYTEST_CURRENT_TEST":  # pytest's own, which changes from phase to phase
            continue
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]


@pytest.fixture(scope="module", autouse=True)
def _old_objects_are_left_alone() -> Iterator[None]:
    """Take what was alive before a module's tests out of what the garbage collector looks at, `leaks` with it.

    A million objects of imported modules and collected tests are no leak of a test, and to walk them all, as `no_leaks`
    does several times a test, took half of the suite's time.
    """
    gc.freeze()
    yield
    gc.collect()  # what a module's tests left unclosed is said of that module


@pytest.fixture(scope="session")
def _blockbuster() -> BlockBuster:
    found = BlockBuster(["antiphon"])
    # Where the bridge waits in its caller's thread, once it has found that it may.
    for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
        found.functions[name].can_block_in(
            "antiphon/sync/bridge.py", {"run", "__next__", "__exit__", "__del__", "close"}
        )
        # Coverage's tracer, which has one lock for all threads.
        found.functions[name].can_block_in("coverage/collector.py", {"lock_data"})
    # Some microseconds, to see whether plug-ins were installed meanwhile; only for names that nobody has.
    found.functions["os.stat"].can_block_in("antiphon/providers/catalog.py", {"_changed"})
    return found


@pytest.fixture(autouse=True)
def _never_blocks(request: pytest.FixtureRequest, _blockbuster: BlockBuster) -> Iterator[None]:
    """Make a blocking call an error where code of the package runs on an event loop, its own or the caller's.

    The bridge may wait, since making the caller's loop wait is what nesting is. `@pytest.mark.may_block("reason")`
    switches the check off, for a test of something else that has to block.
    """
    if _reason(request, "may_block"):
        yield
        return
    _blockbuster.activate()
    try:
        yield
    finally:
        _blockbuster.deactivate()


def _reason(request: pytest.FixtureRequest, marker: str) -> str:
    """The reason given to *marker* on this test, `""` where it does not stand."""
    found = request.node.get_closest_marker(marker)
    if found is None:
        return ""
    if len(found.args) != 1 or not found.args[0]:
        raise pytest.UsageError(f"@pytest.mark.{marker} needs one argument, the reason.")
    return str(found.args[0])


@pytest.fixture(scope="session")
def anyio_backend() -> object:
    """Run async tests on asyncio; a test of floors 3 and 4 asks for more: `parametrize("anyio_backend", [...])`."""
    return "asyncio"


@pytest.fixture(scope="session")
def outer_environ() -> Mapping[str, str]:
    """The environment as it was outside, for a child process that needs the way to the package registries."""
    return OUTER_ENVIRON


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread, an unfinished task or an open connection behind.

    Ask for it first (`usefixtures`), so that it looks when the test's other fixtures are closed.
    """

    async def start(depth: int) -> None:
        if depth:
            bridge.run(start, depth - 1)

    # The bridge's loops last as long as the process, each with its thread, its task and its sockets.
    bridge.run(start, 3)
    before = leaks.snapshot()
    yield
    left = leaks.since(before)
    assert not left, "The test left behind: " + "; ".join(left)


@pytest.fixture(scope="session")
def cassettes() -> Path:
    """The folder of recorded exchanges; a test that asks for it is skipped where there is none."""
    if not recordings.CASSETTES.is_dir():
        pytest.skip(f"no recordings in {recordings.CASSETTES}")
    return recordings.CASSETTES


@pytest.fixture(scope="session")
def model_file(outer_environ: Mapping[str, str]) -> Path:
    """The default model's file, fetched on the suite's first run into the cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in outer_environ.items():
            if not name.startswith("ANTIPHON_"):
                patch.setenv(name, value)  # the way to the package index, which the suite's environment is cleaned of
        return download.fetch()
