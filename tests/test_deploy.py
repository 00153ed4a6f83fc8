"""What runs the server on a machine: the systemd unit, the container file and the example of settings."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon.providers.local.download import cache_dir
from antiphon.server.run import _LAST_WORDS
from antiphon.settings import config
from tests.program import PATIENCE, posix_only, run, start

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "antiphon.service").read_text()
EXAMPLE = DEPLOY / "antiphon.toml"
KEY = "ap-0123456789abcdefghijklmnopqrstuvwxyz"


def directives(name: str) -> list[str]:
    """Return what the unit says of *name*, line by line."""
    return re.findall(rf"^{name}=(.*)$", UNIT, re.M)


def arguments(command: list[str], program: str) -> list[str]:
    """Return what follows *program*, which ends in `antiphon`, in a command line."""
    assert command[0] == program
    return command[1:]


class TestExample:
    """deploy/antiphon.toml."""

    def test_holds(self) -> None:
        """It has no fault, and nothing in it is to be warned of."""
        loaded = config.load(EXAMPLE)
        assert (loaded.warnings, loaded.path) == ((), EXAMPLE)
        assert run("config", "check", "--config", os.fspath(EXAMPLE)).exit_code == 0

    def test_holds_with_what_it_suggests(self, tmp_path: Path) -> None:
        """What is commented out holds too, but for the key, which nobody has."""
        text = re.sub(r"(?m)^# (?=\w+ = |\"|\[)", "", EXAMPLE.read_text())
        text = re.sub(r"(?m)^alice = .*\n", "", text)
        (tmp_path / "antiphon.toml").write_text(text)
        loaded = config.load(tmp_path / "antiphon.toml")
        assert (loaded.server.workers, set(loaded.names.aliases)) == (2, {"fast", "claude-*"})
        assert loaded.names.default_model == "groq/llama-3.1-8b-instant"
        assert "mine" in loaded.names.providers

    def test_changes_nothing(self) -> None:
        """As it stands, it says what holds without it."""
        loaded = config.load(EXAMPLE)
        assert (loaded.server, loaded.limits, loaded.timeouts) == (
            config.ServerSettings(),
            config.Limits(),
            config.Timeouts(),
        )


class TestUnit:
    """deploy/antiphon.service."""

    @pytest.fixture
    def here(self, tmp_path: Path) -> Path:
        """The unit, with a program that is there."""
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not installed")
        program = tmp_path / "antiphon"
        program.touch(0o755)
        unit = tmp_path / "antiphon.service"
        unit.write_text(UNIT.replace("/opt/antiphon/bin/antiphon", os.fspath(program)))
        return unit

    def test_systemd_takes_it(self, here: Path) -> None:
        """The service manager knows each directive and each value, and says nothing of them."""
        done = subprocess.run(
            ["systemd-analyze", "verify", here], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert [line for line in done.stderr.splitlines() if here.name in line] == []
        assert done.returncode == 0, done.stderr

    def test_systemd_finds_it_shut_off(self, here: Path) -> None:
        """By systemd's own count, from 0 to 10, no more than 2 is exposed."""
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", here]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if "unrecognized option" in done.stderr:
            pytest.skip("this systemd-analyze cannot judge a file")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_its_command_is_the_servers(self) -> None:
        """What it starts is a command of this version; the file it names is read."""
        (command,) = directives("ExecStart")
        said = arguments(shlex.split(command), "/opt/antiphon/bin/antiphon")
        said = [os.fspath(EXAMPLE) if word == "/etc/antiphon/antiphon.toml" else word for word in said]
        assert os.fspath(EXAMPLE) in said
        result = run(*said, "--check")
        assert (result.exit_code, "nothing is wrong" in result.output) == (0, True), result.output

    def test_is_nobody(self) -> None:
        """It has a user of its own, no capability and no way to more."""
        assert [directives(name) for name in ("DynamicUser", "NoNewPrivileges", "User")] == [["yes"], ["yes"], []]
        assert directives("CapabilityBoundingSet") == [""]

    def test_waits_longer_than_the_server_needs_to_stop(self) -> None:
        """The service manager does not kill a server that still lets streams end."""
        (seconds,) = directives("TimeoutStopSec")
        assert int(seconds) > config.load(EXAMPLE).timeouts.shutdown + _LAST_WORDS

    def test_cache_is_where_the_server_looks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the server keeps is in the one folder that it may write."""
        (variable,) = [said for said in directives("Environment") if said.startswith("XDG_CACHE_HOME=")]
        assert directives("CacheDirectory") == ["antiphon"]
        monkeypatch.delenv("ANTIPHON_CACHE_DIR", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", variable.partition("=")[2].replace("%C", "/var/cache"))
        assert not sys.platform.startswith("linux") or cache_dir() == Path("/var/cache/antiphon")


def instructions() -> Iterator[tuple[str, str]]:
    """Give each instruction of the container file and what follows it."""
    text = (DEPLOY / "Containerfile").read_text()
    text = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        name, _, rest = line.partition(" ")
        yield name, rest.strip()


LINES = list(instructions())


def last(name: str) -> str:
    """Return what follows the last instruction *name*: the one that counts."""
    return [rest for found, rest in LINES if found == name][-1]


def environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    return dict(pair.split("=", 1) for found, rest in LINES if found == "ENV" for pair in shlex.split(rest))


class TestContainerfile:
    """deploy/Containerfile."""

    def test_what_it_copies_is_there(self) -> None:
        """Every source of a COPY is in the clone; no COPY takes all of it."""
        copies = [rest.split() for name, rest in LINES if name == "COPY"]
        sources = list(itertools.chain.from_iterable(words[:-1] for words in copies))
        assert "src" in sources
        assert all((ROOT / source).exists() and source != "." for source in sources)

    def test_what_the_wheel_is_made_of_is_copied(self) -> None:
        """All files that pyproject.toml names for the wheel are there when it is built."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        needed = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
        copied = {word for name, rest in LINES if name == "COPY" for word in rest.split()[:-1]}
        assert needed <= copied
        assert {Path(path).parts[0] for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]} <= (
            copied
        )

    def test_extras_are_the_projects(self) -> None:
        """The extra that is installed unless said otherwise, and the one for the local model, are there."""
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert {"serve", "local"} <= extras.keys()
        assert ("ARG", "EXTRAS=serve") in LINES

    @pytest.mark.parametrize("extras", ["serve", "serve,local"])
    def test_packages_are_pinned_by_hash(self, extras: str) -> None:
        """Each package of a container has its version from requirements.lock, and the hashes of its files."""
        pinned = {line.partition(" ")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
        entries = re.findall(
            r"(?m)^(\S.*==\S+(?: ;[^\\]*)?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
            (DEPLOY / "locks" / f"{extras}.lock").read_text(),
        )
        names = {name.partition("==")[0] for name, _ in entries}
        assert {"anyio", "uvicorn", *(["xllamacpp"] if "local" in extras else [])} <= names
        assert {name.partition(" ")[0] for name, _ in entries} <= pinned
        assert any("--require-hashes" in rest and "/tmp/locks/$EXTRAS.lock" in rest for _, rest in LINES)

    def test_is_nobody(self) -> None:
        """The last user is a number above those of people, so that an orchestrator can tell that it is not root."""
        user, _, group = last("USER").partition(":")
        assert min(int(user), int(group)) > 10_000

    def test_python_is_supported(self) -> None:
        """Its Python is one that the project supports."""
        (said,) = [rest for name, rest in LINES if name == "ARG" and rest.startswith("PYTHON=")]
        assert f"Python :: {said.partition('=')[2]}" in (ROOT / "pyproject.toml").read_text()

    def test_its_command_takes_a_key_to_start(self) -> None:
        """With the image's settings the server is open to others, so it refuses to start without a key."""
        said = arguments(json.loads(last("ENTRYPOINT")), "antiphon")
        variables = {**environment(), "ANTIPHON_CONFIG": os.fspath(EXAMPLE)}
        refused = run(*said, "--check", **variables)
        assert refused.exit_code != 0
        assert "antiphon key new" in refused.output
        allowed = run(*said, "--check", **variables, ANTIPHON_SERVER_KEYS=KEY)
        assert (allowed.exit_code, "0.0.0.0, port 4114" in allowed.output) == (0, True), allowed.output

    def test_port_and_settings_are_those_of_the_server(self) -> None:
        """The port that it exposes is the one that the server listens at; the settings are those that it copies."""
        assert int(last("EXPOSE")) == config.load(EXAMPLE).server.port
        assert ("COPY", f"deploy/antiphon.toml {environment()['ANTIPHON_CONFIG']}") in LINES

    @posix_only
    def test_health_is_that_of_a_server(self) -> None:
        """Its check succeeds while the server runs and fails once it is gone; stopped by SIGTERM, that ends well."""
        _, _, command = last("HEALTHCHECK").partition("CMD ")
        check = [sys.executable if word == "python" else word for word in json.loads(command)]
        said = arguments(json.loads(last("ENTRYPOINT")), "antiphon")
        server = start(*said, "--host", "127.0.0.1", "--port", "0", ANTIPHON_SERVER_KEYS=KEY)
        assert server.stderr is not None
        try:
            address = server.stderr.readline().decode()
            port = address.rpartition(":")[2].strip()
            # What would lead past the server if the check heeded it.
            variables = {**os.environ, "ANTIPHON_SERVER_PORT": port, "http_proxy": "http://127.0.0.1:9"}
            assert subprocess.run(check, env=variables, timeout=PATIENCE, check=False).returncode == 0
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=PATIENCE)
        assert server.returncode in (0, -signal.SIGTERM)
        gone = subprocess.run(check, env=variables, stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False)
        assert gone.returncode == 1
