"""Tests of `antiphon config` and `antiphon key`."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from antiphon import register
from antiphon.providers.catalog import ProviderRow, unregister
from antiphon.settings.config import ServerSettings, load
from antiphon.settings.keys import AccessKeys, hash_key, new_key
from tests.program import CANARY, Terminal, one_line, posix_only, run

KEY = new_key()
ROW = ProviderRow(id="x", name="My row", codec="openai-chat", base_url="http://localhost")

FILE = f"""\
default_model = "mine/best"
[server]
port = 8080
cors_origins = ["https://chat.example"]
[timeouts]
idle = "none"
[keys]
alice = "{hash_key(KEY)}"
[aliases]
"claude-*" = "anthropic/claude-*"
[providers.mine]
base_url = "http://localhost:8000/v1"
key_env = "MINE_KEY"
quirks = {{ think_tags = true }}
[providers.other]
format = "ollama"
base_url = "http://localhost:1/"
key = "{CANARY}"
[providers.openai]
base_url = "http://localhost:2/v1"
[providers.python]
import = "antiphon.testing:ProviderMock"
[providers.mistral]
enabled = false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that can be used."""
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's own file would be."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "own")
    return tmp_path / "own" / "config.toml"


class TestShow:
    """`antiphon config show`."""

    def test_columns(self, file: Path) -> None:
        """Each setting stands in a line with its value and where it came from; of keys, whether they are set."""
        environ = {"ANTHROPIC_API_KEY": CANARY, "ANTIPHON_SERVER_PORT": "9", "OPENAI_BASE_URL": "http://me:x@there/v1"}
        result = run("config", "show", "--config", str(file), **environ)
        assert (result.exit_code, result.stderr) == (0, "")
        heads, *lines = (re.split(r" {2,}", line) for line in result.stdout.splitlines())
        assert heads == ["SETTING", "VALUE", "FROM"]
        assert [line for line in lines if line[2] != "default"] == [
            ["default_model", "mine/best", f"{file}:1"],
            ["server.port", "9", "environment ANTIPHON_SERVER_PORT"],
            ["server.cors_origins", '["https://chat.example"]', f"{file}:4"],
            ["timeouts.idle", "none", f"{file}:6"],
            ["keys.alice", "set", f"{file}:8"],
            ["aliases.claude-*", "anthropic/claude-*", f"{file}:10"],
            ["providers.mistral.enabled", "false", f"{file}:24"],
            ["providers.anthropic.key", "set (ANTHROPIC_API_KEY)", "environment ANTHROPIC_API_KEY"],
            ["providers.mine.base_url", "http://localhost:8000/v1", f"{file}:12"],
            ["providers.mine.quirks", '{"think_tags": true}', f"{file}:14"],
            ["providers.mine.key", "not set (MINE_KEY)", f"{file}:13"],
            ["providers.openai.base_url", "http://there/v1", "environment OPENAI_BASE_URL"],
            ["providers.openai-responses.base_url", "http://there/v1", "environment OPENAI_BASE_URL"],
            ["providers.other.format", "ollama", f"{file}:16"],
            ["providers.other.base_url", "http://localhost:1", f"{file}:17"],
            ["providers.other.key", "set", f"{file}:18"],
            ["providers.python.import", "ProviderMock", f"{file}:22"],
        ]
        assert ["limits.head_seconds", "10", "default"] in lines
        assert ["server.access_log", "true", "default"] in lines

    def test_json(self, file: Path) -> None:
        """`--json` has the values as they are, and the variable of a key."""
        result = run("config", "show", "--json", "--config", str(file), MINE_KEY=CANARY)
        found = json.loads(result.stdout)
        assert found["path"] == str(file)
        rows: dict[str, Any] = {row.pop("setting"): row for row in found["settings"]}
        assert rows["server.port"] == {"value": 8080, "from": f"{file}:3"}
        assert rows["timeouts.idle"] == {"value": None, "from": f"{file}:6"}
        assert rows["server.cors_origins"]["value"] == ["https://chat.example"]
        assert rows["providers.mine.key"] == {"value": "set", "variable": "MINE_KEY", "from": "environment MINE_KEY"}

    def test_addresses(self, file: Path) -> None:
        """An address that the environment gives is told, with its variable; one that wants a variable, as it is."""
        file.write_text("[providers.azure]\nbase_url = 'https://{AZURE}.example/v1'\n")
        result = run("config", "show", "--config", str(file), OLLAMA_HOST="box")
        lines = [re.split(r" {2,}", line) for line in result.stdout.splitlines() if line.startswith("providers.")]
        assert lines == [
            ["providers.azure-classic.enabled", "false", f"{file}:2"],
            ["providers.azure.base_url", "https://{AZURE}.example/v1", f"{file}:2"],
            ["providers.azure-responses.base_url", "https://{AZURE}.example/v1", f"{file}:2"],
            ["providers.ollama.base_url", "http://box:11434/v1", "environment OLLAMA_HOST"],
            ["providers.ollama-native.base_url", "http://box:11434", "environment OLLAMA_HOST"],
        ]

    def test_plug_ins(self, file: Path) -> None:
        """A provider that a program registered is none of the settings; an imported row is told by its name."""
        file.write_text("[providers.mine]\nimport = 'tests.test_cli_config:ROW'\n")
        register("plugged", lambda request: "yes")
        try:
            result = run("config", "show", "--config", str(file))
        finally:
            unregister("plugged")
        lines = [re.split(r" {2,}", line) for line in result.stdout.splitlines() if line.startswith("providers.")]
        assert lines == [["providers.mine.import", "My row", f"{file}:2"]]

    def test_without_a_file(self) -> None:
        """Without a file and variables every setting is the default."""
        result = run("config", "show")
        lines = [re.split(r" {2,}", line) for line in result.stdout.splitlines()[1:]]
        assert {line[2] for line in lines} == {"default"}
        assert [line[0] for line in lines if line[0].startswith("server.")] == [
            f"server.{field}" for field in ServerSettings.__struct_fields__
        ]
        assert lines[0] == ["default_model", "local/smollm2-135m-instruct", "default"]
        assert json.loads(run("config", "show", "--json").stdout)["path"] is None

    @pytest.mark.parametrize("command", [["show"], ["show", "--json"], ["check"]])
    def test_keys_are_never_shown(self, file: Path, command: list[str]) -> None:
        """Neither a key of a provider nor one of the server, nor what is stored of it, is shown."""
        environ = {"GROQ_API_KEY": f"{CANARY}-2", "ANTIPHON_SERVER_KEYS": f"{CANARY}-3", "MINE_KEY": f"{CANARY}-4"}
        result = run("config", *command, "--config", str(file), **environ)
        assert result.exit_code == 0
        assert "canary" not in result.output
        assert "sha256" not in result.output

    @posix_only
    def test_terminal(self, file: Path) -> None:
        """At a terminal each line is as wide as the terminal at most."""
        with Terminal("config", "show", "--config", str(file)) as terminal:
            code, shown = terminal.end()
        assert code == 0
        assert {len(line) for line in shown.splitlines()} <= set(range(81))


class TestCheck:
    """`antiphon config check`."""

    def test_fine(self, file: Path) -> None:
        """A file that can be used is told as such, with what is in it."""
        result = run("config", "check", "--config", str(file), GROQ_API_KEY=CANARY)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [
            f"{file}: nothing is wrong.",
            "  address        127.0.0.1, port 8080",
            "  default model  mine/best",
            "  keys           alice",
            "  aliases        claude-*",
            "  providers      mine, other, openai, python",
            "  with a key     other, groq",
            "  switched off   mistral",
            "  as another     openai-responses as openai",
        ]

    def test_faults(self, file: Path) -> None:
        """Each fault stands in a line of its own on standard error, and the exit code is 1."""
        file.write_text(f"[server]\nport = 70000\n[limits]\nmessages = 0\n[providers.mine]\nkey = '{CANARY}'\n")
        for command in ("check", "show"):
            result = run("config", command, "--config", str(file))
            assert (result.exit_code, result.stdout) == (1, "")
            lines = result.stderr.splitlines()
            assert lines[:2] == [
                f"antiphon: {file}:2: $.server.port must be a whole number from 0 to 65535, not 70000.",
                f"antiphon: {file}:4: $.limits.messages must be a whole number of at least 1, not 0.",
            ]
            assert lines[2].startswith(f"antiphon: {file}:5: $.providers.mine is no built-in provider")
            assert len(lines) == 3

    def test_no_such_file(self, tmp_path: Path) -> None:
        """A file that is not there is one line."""
        result = run("config", "check", "--config", str(tmp_path / "none.toml"))
        assert result.exit_code == 1
        assert "none.toml: the configuration cannot be read: No such file" in one_line(result.stderr)

    def test_without_a_file(self) -> None:
        """Without a file nothing is wrong."""
        result = run("config", "check")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.splitlines()[0] == "There is no file, and nothing is wrong."
        assert "  keys           none: nobody needs one" in result.stdout.splitlines()

    @posix_only
    def test_a_key_that_others_can_read(self, file: Path) -> None:
        """A file with a provider's key that others can read is warned of, and can be used."""
        file.chmod(0o644)
        result = run("config", "check", "--config", str(file))
        assert result.exit_code == 0
        assert f"chmod 600 {file}" in one_line(result.stderr)


class TestPath:
    """`antiphon config path`."""

    def test_own(self, own: Path) -> None:
        """Without another, it is the user's own, whether it is there or not."""
        result = run("config", "path")
        assert (result.exit_code, result.stdout) == (0, f"{own}\n")
        assert "none is needed" in result.stderr
        own.parent.mkdir()
        own.touch()
        result = run("config", "path")
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{own}\n", "")

    def test_named(self, file: Path) -> None:
        """The environment may name another, which then has to be there."""
        result = run("config", "path", ANTIPHON_CONFIG=str(file))
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{file}\n", "")
        result = run("config", "path", ANTIPHON_CONFIG=f"{file}.not")
        assert (result.exit_code, result.stdout) == (1, f"{file}.not\n")
        assert "is not there" in one_line(result.stderr)


class TestKey:
    """`antiphon key`."""

    @pytest.mark.parametrize("name", ["alice", "bob@example.com", 'Zoë "Z" O\'Hara', "back\\slash"])
    def test_new(self, name: str, own: Path) -> None:
        """The key alone goes to standard output, once; the line on standard error lets it in."""
        result = run("key", "new", name)
        assert result.exit_code == 0
        key = result.stdout.removesuffix("\n")
        assert re.fullmatch(r"ap-[\w-]{43}", key)
        assert key not in result.stderr
        explanation, empty, line = result.stderr.splitlines()
        assert str(own) in explanation
        assert empty == ""
        own.parent.mkdir()
        own.write_text(f"[keys]\n{line}\n")
        assert load().keys.check(key) == name

    def test_two(self) -> None:
        """No two keys are alike."""
        assert run("key", "new", "a").stdout != run("key", "new", "a").stdout

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_hash(self, end: str) -> None:
        """A key that is piped in becomes the line that lets it in, without the end of its own line."""
        result = run("key", "hash", "alice", stdin=KEY + end)
        assert (result.exit_code, result.stderr) == (0, "")
        assert AccessKeys(tomllib.loads(result.stdout)).check(KEY) == "alice"

    @posix_only
    def test_hash_at_a_terminal(self) -> None:
        """At a terminal the key is asked for, and is not shown as it is typed."""
        with Terminal("key", "hash", "alice", stdout=False) as terminal:
            terminal.expect("Key: ")
            terminal.send(f"{KEY}\r")
            code, shown = terminal.end()
            piped = terminal.piped()
        assert code == 0
        assert KEY not in shown
        assert AccessKeys(tomllib.loads(piped)).check(KEY) == "alice"

    @pytest.mark.parametrize(
        ("key", "why"),
        [
            ("canary", "at least 20 characters"),
            ("", "at least 20 characters"),
            ("canary canary canary canary", "without spaces"),
            ("canary-äöü-0123456789-abc", "ASCII"),
            ("canary" * 1000, "no more than 512"),
            ("canary-0123456789-abc\ncanary-0123456789-abc\n", "without spaces"),
        ],
    )
    def test_what_cannot_be_a_key(self, key: str, why: str) -> None:
        """What can be guessed or is no key is refused in one line that does not repeat it."""
        result = run("key", "hash", "alice", stdin=key)
        assert (result.exit_code, result.stdout) == (1, "")
        assert why in one_line(result.stderr)
        assert "canary" not in result.stderr

    @pytest.mark.parametrize("command", ["new", "hash"])
    @pytest.mark.parametrize("name", ["", "env-1", "a\nb", "x" * 65])
    def test_what_cannot_be_a_name(self, command: str, name: str) -> None:
        """A name that the file cannot have is refused before a key is made or asked for."""
        result = run("key", command, name, stdin=KEY)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "name" in one_line(result.stderr).lower()


def test_no_key_as_an_argument() -> None:
    """A key is not taken as an argument, nor is one needed to see the help."""
    assert run("key", "hash", "alice", KEY).exit_code == 2
    assert "from standard input" in run("key", "hash", "--help").stdout
