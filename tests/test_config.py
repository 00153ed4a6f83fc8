"""The configuration: what it may say, where each setting came from, and every fault of it with its line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from antiphon.errors import ConfigError
from antiphon.http.transport import Timeout
from antiphon.providers import catalog
from antiphon.providers.auth import Secret
from antiphon.providers.catalog import ProviderRow, Quirks
from antiphon.providers.function import FunctionProvider
from antiphon.providers.lookup import ProviderLookup
from antiphon.settings.config import Config, Limits, ServerSettings, Timeouts, config_path, load, user_path
from antiphon.settings.keys import hash_key, new_key
from antiphon.settings.providers import FIELDS
from tests.program import CANARY, posix_only
from tests.test_resolve import NoTransport

KEY = new_key()
STORED = hash_key(KEY)
DOCUMENTED = Path(__file__).parents[1] / "docs" / "config.md"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the file, and return where it is."""

    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def faults(path: Path | None, overrides: dict[str, Any] | None = None) -> list[str]:
    """The faults of a file, without its name."""
    with pytest.raises(ConfigError) as raised:
        load(path, overrides or {})
    assert CANARY not in f"{raised.value!r} {raised.value} {raised.value.__cause__!r}"
    return [fault.removeprefix(f"{path}:") for fault in raised.value.faults]


def row(config: Config, name: str) -> ProviderRow:
    """The row of a provider."""
    found = config.names.provider(name)
    assert isinstance(found, ProviderRow)
    return found


# --- which file


def test_nothing_said() -> None:
    """Without a file and variables everything is as it comes, and says so."""
    config = load()
    assert (config.server, config.limits, config.timeouts) == (ServerSettings(), Limits(), Timeouts())
    assert (config.path, len(config.keys), config.names.aliases, config.warnings) == (None, 0, {}, ())
    assert set(config.origins.values()) == {"default"}
    assert config.names.files == frozenset()


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the one given, else the one that the environment names, else the user's own if there is one."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "own")
    assert config_path() is None
    assert user_path() == tmp_path / "own" / "config.toml"
    (tmp_path / "own").mkdir()
    for place, port in (("own/config.toml", 1), ("named.toml", 2), ("given.toml", 3)):
        (tmp_path / place).write_text(f"[server]\nport = {port}")
    assert (load().server.port, load().path) == (1, user_path())
    monkeypatch.setenv("ANTIPHON_CONFIG", f" {tmp_path / 'named.toml'} ")
    assert load().server.port == 2
    assert load(tmp_path / "given.toml").server.port == 3
    assert load(os.fspath(tmp_path / "given.toml")).path == tmp_path / "given.toml"
    monkeypatch.setenv("ANTIPHON_CONFIG", " ")
    assert load().server.port == 1


def test_a_file_that_was_named_and_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody named has to be there."""
    monkeypatch.setenv("ANTIPHON_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"none\.toml: the configuration cannot be read"):
        load()


# --- what goes before what


def test_what_goes_first(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line says goes before the environment, which goes before the file; each says where it was."""
    path = write('default_model = "groq/a"\n[server]\nhost = "localhost"\nport = 1\nworkers = 2\n')
    monkeypatch.setenv("ANTIPHON_SERVER_PORT", " 2 ")
    monkeypatch.setenv("ANTIPHON_SERVER_HOST", "::1")
    monkeypatch.setenv("ANTIPHON_MODEL", "groq/b")
    config = load(path, {"server.port": 3, "server.strict": True, "limits.messages": None})
    assert config.server == ServerSettings(host="::1", port=3, workers=2, strict=True)
    assert config.names.default_model == "groq/b"
    told = {name: config.origins[name] for name in ("default_model", "limits.messages")}
    told |= {name: config.origins[f"server.{name}"] for name in ("host", "port", "workers", "strict", "metrics")}
    assert told == {
        "default_model": "environment ANTIPHON_MODEL",
        "limits.messages": "default",
        "host": "environment ANTIPHON_SERVER_HOST",
        "port": "command line",
        "workers": f"{path}:5",
        "strict": "command line",
        "metrics": "default",
    }
    for name in ("ANTIPHON_SERVER_PORT", "ANTIPHON_SERVER_HOST", "ANTIPHON_MODEL"):
        monkeypatch.setenv(name, " ")
    config = load(path)
    assert (config.server.host, config.server.port, config.names.default_model) == ("localhost", 1, "groq/a")
    assert config.origins["default_model"] == f"{path}:1"


def test_faults_of_other_sources(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the environment or the command line names that in the place of the file."""
    monkeypatch.setenv("ANTIPHON_SERVER_PORT", "eighty")
    monkeypatch.setenv("ANTIPHON_MODEL", "opnai/x")
    found = faults(write(""), {"server.workers": 0, "server.prot": 1})
    assert [fault.partition(", not ")[0].partition(" leads ")[0] for fault in found] == [
        "command line: $[\"server.prot\"] is not a setting: did you mean 'server.port'?",
        "environment ANTIPHON_SERVER_PORT: $.server.port must be a whole number from 0 to 65535",
        "command line: $.server.workers must be a whole number of at least 1",
        "environment ANTIPHON_MODEL: $.default_model",
    ]


# --- values


def test_every_setting(write: Write) -> None:
    """Every setting is read, those that have no limit too."""
    text = """
        [server]
        host = "127.0.0.2"
        port = 0
        workers = 3
        access_log = false
        metrics = true
        cors_origins = ["https://chat.example", "http://localhost:3000", "*"]
        strict = true
        [limits]
        body_bytes = 1
        header_bytes = 2
        messages = 3
        concurrent = 4
        head_seconds = 0.5
        body_seconds = 6
        write_seconds = 7
        [timeouts]
        connect = "none"
        first_token = 1.5
        idle = "none"
        total = 3
        keep_alive = "none"
        shutdown = 5
    """
    config = load(write(text))
    assert config.server == ServerSettings(
        host="127.0.0.2",
        port=0,
        workers=3,
        access_log=False,
        metrics=True,
        cors_origins=("https://chat.example", "http://localhost:3000", "*"),
        strict=True,
    )
    limits = {"body_bytes": 1, "header_bytes": 2, "messages": 3, "concurrent": 4}
    seconds = {"head_seconds": 0.5, "body_seconds": 6.0, "write_seconds": 7.0}
    assert msgspec.structs.asdict(config.limits).items() >= {**limits, **seconds}.items()
    assert config.timeouts == Timeouts(
        connect=None, first_token=1.5, idle=None, total=3.0, keep_alive=None, shutdown=5.0
    )
    assert config.timeouts.clocks() == Timeout(None, 1.5, None, 3.0)
    assert Timeouts().clocks() == Timeout()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("server.port = 65536", "must be a whole number from 0 to 65535, not 65536."),
        ("server.port = -1", "must be a whole number from 0 to 65535, not -1."),
        ("server.port = true", "must be a whole number from 0 to 65535, not true."),
        ("server.port = '80'", "must be a whole number from 0 to 65535, not a text."),
        ("server.port = 80.5", "must be a whole number from 0 to 65535, not 80.5."),
        ("server.workers = 0", "must be a whole number of at least 1, not 0."),
        ("server.host = ''", "must be an address or the name of a host, without a port."),
        ("server.host = '127.0.0.1:80'", "must be an address or the name of a host, without a port."),
        ("server.host = '[::1]'", "must be an address or the name of a host, without a port."),
        ("server.host = ' localhost'", "must be an address or the name of a host, without a port."),
        ("server.access_log = 1", "must be true or false, not 1."),
        ("server.cors_origins = '*'", "must be a list of texts, not a text."),
        ("server.cors_origins = [1]", "must be a list of texts, not a list."),
        ("server.cors_origins = ['*', 'a.example']", "number 2 is neither."),
        ("server.cors_origins = ['https://a.example/']", "number 1 is neither."),
        ("limits.body_bytes = 0", "must be a whole number of at least 1, not 0."),
        ("limits.body_bytes = 1.5", "must be a whole number of at least 1, not 1.5."),
        ("limits.head_seconds = 0", "must be a number of seconds above 0, and a year at most, not 0."),
        ("limits.head_seconds = nan", "must be a number of seconds above 0, and a year at most, not NaN."),
        ("limits.head_seconds = inf", "must be a number of seconds above 0, and a year at most, not Infinity."),
        ("limits.head_seconds = 'none'", "must be a number of seconds above 0, and a year at most, not a text."),
        ("timeouts.total = -0.5", 'or "none" for no limit, not -0.5.'),
        ("timeouts.keep_alive = 'never'", 'or "none" for no limit, not a text.'),
        ("timeouts.shutdown = 'none'", "must be a number of seconds above 0, and a year at most, not a text."),
        ("default_model = ''", "must be a text in quotes, such as 'openai/gpt-5', not a text."),
        ("default_model = 5", "must be a text in quotes, such as 'openai/gpt-5', not 5."),
        ("default_model = 'gpt-5'", "Did you mean 'openai/gpt-5'?"),
        ("server = 1", "must be a table, not a number."),
        ("keys = []", "must be a table, not a list."),
        ("aliases = ''", "must be a table, not a text."),
        ("providers.mine = 1", "must be a table, not a number."),
        ("sever.port = 1", "is not a setting: did you mean 'server'?"),
        ("xyz = 1", "is not a setting: there are aliases, default_model, keys, limits, providers, server, timeouts."),
        ("server.Port = 1", "is not a setting: did you mean 'port'?"),
        ("timeouts.first = 1", "is not a setting: did you mean 'first_token'?"),
        ("aliases.a = ''", "must name a model, as 'provider/model'."),
        ("aliases.a = 1", "must be a text in quotes"),
        ("aliases.gpt-4.1 = 'openai/gpt-4.1'", "(a name with a dot in it is in quotes itself), not a table."),
        ("aliases.a = 'opnai/x'", "leads nowhere: No provider is called 'opnai'. Did you mean 'openai'?"),
        ("aliases.a = 'openai'", "leads nowhere: Models are named 'provider/model', and 'openai' is only a provider."),
        ("aliases.a = 'local/smollm'", "leads nowhere: There is no local model 'smollm'."),
        ("aliases.a = 'local//none/a.gguf'", "leads nowhere: There is no file '/none/a.gguf'."),
        ("aliases.a = 'a'", "leads nowhere: The alias 'a' leads back to itself: give it another target."),
        ("aliases.'a-*' = 'opnai/*'", "leads nowhere: No provider is called 'opnai'."),
        ("aliases.'a*b' = 'openai/x'", "must be a name, with a star at its end at most."),
        ("aliases.'' = 'openai/x'", "must be a name, with a star at its end at most."),
        ("keys.a = 1", "must be a text in quotes"),
        ("keys.a.b = 'x'", "must be a text in quotes (a name with a dot in it is in quotes itself)."),
        (f"keys.a = '{CANARY}'", "cannot be used. What is stored of the key 'a' must be sha256$"),
        (f"keys.'{CANARY}' = 'alice'", "cannot be used. What is stored of the key 'sk-c…' must be sha256$"),
        (f"keys.env-1 = '{STORED}'", "cannot be used. Names such as env-1 are those of the keys in ANTIPHON_SERVER"),
        (f"keys.'' = '{STORED}'", "cannot be used. The name of a key has 1 to 64 printable characters."),
    ],
)
def test_a_setting_that_cannot_be(write: Write, setting: str, words: str) -> None:
    """What cannot be is an error with its line and what it must be; a text is not shown, as it may be a secret."""
    path = write(f"# a comment\n\n{setting}\n")
    (fault,) = faults(path)
    assert re.match(r"3: \$\S+ ", fault)
    assert words in fault


def test_all_faults_at_once(write: Write) -> None:
    """All faults are told in one go, each with its line, in their order."""
    text = '[limits]\nmessages = 0\n[server]\nport = "x"\n\nstrct = true\n[providers.mine]\n[aliases]\na = "nobody/x"\n'
    found = faults(write(text))
    assert [fault.split(" ")[:2] for fault in found] == [
        ["2:", "$.limits.messages"],
        ["4:", "$.server.port"],
        ["6:", "$.server.strct"],
        ["7:", "$.providers.mine"],
        ["9:", "$.aliases.a"],
    ]


# --- who may call


def test_keys(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from the file, as hashes, and from the environment, as they are; each has a name and an origin."""
    other = new_key()
    path = write(f"[keys]\nalice = '{STORED}'\n'bob@example.com' = '{hash_key(other)}'\n")
    monkeypatch.setenv("ANTIPHON_SERVER_KEYS", f"{CANARY}, {CANARY}2")
    config = load(path)
    assert list(config.keys) == ["alice", "bob@example.com", "env-1", "env-2"]
    found = [config.keys.check(key) for key in (KEY, other, CANARY, f"{CANARY}2", "x")]
    assert found == ["alice", "bob@example.com", "env-1", "env-2", None]
    assert config.origins["keys.bob@example.com"] == f"{path}:3"
    assert config.origins["keys.env-2"] == "environment ANTIPHON_SERVER_KEYS"
    assert CANARY not in repr(config)
    assert STORED not in repr(config)


def test_a_short_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment that can be guessed is a fault that does not repeat it."""
    monkeypatch.setenv("ANTIPHON_SERVER_KEYS", "secretive")
    (fault,) = faults(None)
    assert fault.startswith("environment ANTIPHON_SERVER_KEYS: $.keys cannot be used: A key must have at least 20")
    assert "secretive" not in fault
    assert faults(None, {"server.host": "0.0.0.0"}) == [fault]  # and not that there is no key


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "localhost.example"])
def test_a_host_for_others_wants_a_key(host: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that others can reach is refused without a key, wherever it was said, and taken with one."""
    path = write(f"[server]\nhost = '{host}'")
    (fault,) = faults(path)
    assert fault.startswith(f"2: $.server.host is {host!r}, where others can reach the server, and there is no key")
    assert "`antiphon key new NAME`" in fault
    (fault,) = faults(None, {"server.host": host})
    assert fault.startswith("command line: $.server.host is")
    monkeypatch.setenv("ANTIPHON_SERVER_KEYS", CANARY)
    assert load(path).server.host == host
    monkeypatch.delenv("ANTIPHON_SERVER_KEYS")
    assert load(write(f"keys.a = '{STORED}'"), {"server.host": host}).server.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
def test_a_loopback_host_wants_none(host: str) -> None:
    """An address that only this machine can reach is taken without a key."""
    assert load(None, {"server.host": host}).server.host == host


@pytest.mark.parametrize(
    ("origins", "key", "warned"), [("*", False, True), ("*", True, False), ("https://a", False, False)]
)
def test_every_web_page_without_a_key(write: Write, origins: str, key: bool, warned: bool) -> None:
    """That every web page may call a server without keys is no fault, but is warned of."""
    text = f"server.cors_origins = ['{origins}']\n" + (f"keys.a = '{STORED}'" if key else "")
    assert [warning.partition(",")[0] for warning in load(write(text)).warnings] == (
        ["server.cors_origins lets every web page call the server"] if warned else []
    )


# --- providers and aliases


def test_a_provider_of_ones_own(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider of the file has a place, a format, a key and quirks, and is found by its name."""
    text = """
        [providers.Mine_1]
        name = "My server"
        base_url = "http://localhost:8000/v1/"
        key_env = "MINE_KEY"
        key_header = "api-key"
        default_model = "best"
        embeddings = "voyage"
        quirks = { think_tags = true, reasoning_field = "reasoning", unsupported = ["seed"] }

        [providers.open]
        base_url = "http://localhost:8001"
        format = "ollama"
    """
    path = write(text)
    config = load(path)
    assert row(config, "mine-1") == ProviderRow(
        id="mine-1",
        name="My server",
        codec="openai-chat",
        base_url="http://localhost:8000/v1",
        key=("MINE_KEY",),
        key_header="api-key",
        default_model="best",
        embeddings="voyage",
        quirks=Quirks(think_tags=True, reasoning_field="reasoning", unsupported=("seed",)),
    )
    assert row(config, "open") == ProviderRow(id="open", name="open", codec="ollama", base_url="http://localhost:8001")
    assert config.origins["providers.mine-1.base_url"] == f"{path}:4"
    monkeypatch.setenv("MINE_KEY", CANARY)
    assert config.names.key(row(config, "mine-1")) == Secret(CANARY)
    found = ProviderLookup(NoTransport(), names=config.names)
    assert found.find("Mine_1/x")[1] == "x"
    assert found.find("", "mine_1")[1] == "best"


def test_a_key_in_the_file(write: Write) -> None:
    """A provider's key may stand in the file, and shows nowhere."""
    path = write(f"[providers.mine]\nbase_url = 'http://localhost'\nkey = '{CANARY}'\n[providers.groq]\nkey='{CANARY}'")
    config = load(path)
    assert config.names.keys == {"mine": Secret(CANARY), "groq": Secret(CANARY)}
    assert config.names.key(row(config, "mine")) == Secret(CANARY)
    assert CANARY not in repr(config)
    assert config.warnings == ()


@posix_only
def test_a_key_that_others_can_read(write: Write) -> None:
    """A file with a key that others can read is no fault, but is warned of."""
    path = write(f"[providers.groq]\nkey = '{CANARY}'")
    path.chmod(0o640)
    (warning,) = load(path).warnings
    assert warning == (
        f"{path} holds keys of providers, and others on this machine can read it: chmod 600 {path}, or name a variable "
        "with key_env."
    )
    path.write_text("[providers.groq]\nkey_env = 'X'")
    assert load(path).warnings == ()


def test_built_in_providers_are_changed_by_field(write: Write) -> None:
    """A built-in provider keeps what the file does not say, its other quirks too, by any of its spellings."""
    text = """
        [providers.google]
        key_env = "MY_GOOGLE"
        [providers.openai]
        base_url = "http://localhost:1/v1"
        quirks = { stream_usage = false }
        [providers.openai-responses]
        base_url = "http://localhost:2/v1"
        [providers.groq]
        enabled = true
    """
    config = load(write(text))
    gemini, openai = catalog.find_provider("gemini"), catalog.find_provider("openai")
    assert isinstance(gemini, ProviderRow)
    assert isinstance(openai, ProviderRow)
    assert row(config, "gemini") == msgspec.structs.replace(gemini, key=("MY_GOOGLE",))
    quirks = msgspec.structs.replace(openai.quirks, stream_usage=False)
    assert row(config, "openai") == msgspec.structs.replace(openai, base_url="http://localhost:1/v1", quirks=quirks)
    assert quirks.max_tokens_field == "max_completion_tokens"
    assert row(config, "openai-responses").same_as is None
    assert row(config, "groq") == catalog.find_provider("groq")


def test_a_provider_that_is_taken_away(write: Write) -> None:
    """`enabled = false` takes a provider away, and an alias for one of its models leads nowhere."""
    text = "[providers.google]\nenabled = false\n[providers.local]\nenabled = false"
    assert load(write(text)).names.without == {"gemini", "local"}
    own = "[providers.mine]\nenabled = false\nbase_url = 'http://localhost'\n[providers.local]\nenabled = true"
    assert load(write(own)).names.without == {"mine"}
    assert load(write(own)).names.provider("local") == catalog.find_provider("local")
    (fault,) = faults(write(f"{text}\n[aliases]\na = 'gemini/x'"))
    assert fault == "6: $.aliases.a leads nowhere: The provider 'gemini' is switched off here."


def test_a_table_is_meant_for_the_other_api_of_a_provider(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of a provider holds for it by another of its APIs, unless that has a table of its own."""
    monkeypatch.setenv("OPENAI_RESPONSES_BASE_URL", "http://vendor/v1")
    config = load(write("[providers.openai]\nbase_url = 'http://proxy/v1'\nkey_env = 'TEAM'"))
    twin = row(config, "openai-responses")
    assert (twin.url(), twin.key, twin.same_as) == ("http://proxy/v1", ("TEAM",), "openai")
    assert config.origins["providers.openai-responses.base_url"].endswith("config.toml:2")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://moved/v1")
    assert twin.url() == "http://moved/v1"
    keyed = load(write(f"[providers.openai]\nkey = '{CANARY}'")).names
    assert keyed.keys["openai-responses"].reveal() == CANARY
    for text in ("[providers.deepseek]\nenabled = false", "[providers.deepseek]\nimport = 'json:dumps'"):
        assert "deepseek-responses" in load(write(text)).names.without
    assert "cohere-compat" in load(write("[providers.cohere]\nbase_url = 'http://proxy'")).names.without
    own = "[providers.openai]\nenabled = false\n[providers.openai-responses]\nbase_url = 'http://own/v1'"
    assert load(write(own)).names.without == {"openai"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a = " + "[" * 100_000, id="deep"),
        pytest.param("[server]\nport = " + "9" * 5000, id="digits"),
        pytest.param("[aliases]\na = 'local/~nosuchuser/x.gguf'", id="home of nobody"),
        pytest.param(".".join("a" * 50_000) + " = 1", id="dots"),
        pytest.param("[" + ".".join("a" * 50_000) + "]", id="dotted table"),
        pytest.param("#" * 2**20 + "\n", id="large"),
    ],
)
def test_whatever_a_file_holds_is_a_config_error(write: Write, text: str) -> None:
    """A file that would raise something else while it is read, or take minutes, is a fault like any other."""
    assert faults(write(text))


def test_a_key_in_the_wrong_place_is_not_shown(write: Write) -> None:
    """A fault shows no key, whatever table it was put into."""
    for text in (f"[aliases]\nkey = '{CANARY}'", f"[aliases]\n'{CANARY}' = 'x'", f"default_model = '{CANARY}'"):
        found = faults(write(text))
        assert found
        assert CANARY not in "".join(found)


MODULE = """
from antiphon.providers.catalog import ProviderRow

def answer(request):
    return "yes"

class Answers:
    class_way = answer

row = ProviderRow(id="other", name="Row", codec="openai-chat", base_url="http://localhost")
number = 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that can be imported."""
    name = f"providers_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text(f"raise OSError('no {CANARY}')")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_an_imported_provider(module: str, write: Write) -> None:
    """A provider may be anything that can be imported: a function, one inside a class, a row."""
    text = "".join(
        f"[providers.{name}]\nimport = '{module}:{target}'\n"
        for name, target in (("mine", "answer"), ("inner", "Answers.class_way"), ("row", "row"))
    )
    config = load(write(text))
    mine = config.names.provider("mine")
    assert isinstance(mine, FunctionProvider)
    assert mine.target is sys.modules[module].answer
    assert isinstance(config.names.provider("inner"), FunctionProvider)
    assert (row(config, "row").id, row(config, "row").name) == ("row", "Row")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{}", "must be 'package.module:name'."),
        ("{}:", "must be 'package.module:name'."),
        (":answer", "must be 'package.module:name'."),
        ("{}:nothing", "cannot be used: AttributeError: module '{}' has no attribute 'nothing'. Is it installed"),
        ("{}:number", "cannot be used: TypeError: 'int' is not a provider: pass a function"),
        ("{}_none:x", "cannot be used: ModuleNotFoundError: No module named '{}_none'. Is it installed"),
        ("..{}:x", "cannot be used: TypeError:"),
        ("{}_broken:x", "cannot be used: OSError: no "),
    ],
)
def test_what_cannot_be_imported(module: str, write: Write, target: str, words: str) -> None:
    """Whatever goes wrong with an import is a fault with its line; a key in the words of others is struck out."""
    text = f"[providers.groq]\nkey = '{CANARY}'\n[providers.mine]\nimport = '{target.format(module)}'"
    (fault,) = faults(write(text))
    assert fault.startswith(f"4: $.providers.mine.import {words.format(module)}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[providers.mine]", "1: $.providers.mine is no built-in provider, so it needs base_url"),
        ("[providers.'a/b']\nbase_url='http://x'", '1: $.providers["a/b"] cannot name a provider'),
        ("[providers.'']\nbase_url='http://x'", '1: $.providers[""] cannot name a provider'),
        ("[providers.mine]\nbase_url='x'", "2: $.providers.mine.base_url must be a whole URL such as"),
        (f"[providers.groq]\nbase_url='http://me:{CANARY}@x'", "2: $.providers.groq.base_url must be a whole URL"),
        ("[providers.mine]\nbase_url=''", "2: $.providers.mine.base_url must not be empty"),
        (
            "[providers.groq]\nformat='openai'",
            "2: $.providers.groq.format is no format that this version knows: did you",
        ),
        ("[providers.groq]\nformat='xyz'", "is no format that this version knows: there are anthropic, bedrock,"),
        ("[providers.groq]\nformat='local'", "2: $.providers.groq.format is no format"),
        ("[providers.groq]\nembeddings='voyag'", "2: $.providers.groq.embeddings is no format that this version knows"),
        (f"[providers.groq]\nkey_env='{CANARY}'", "2: $.providers.groq.key_env must be the name of an environment var"),
        ("[providers.groq]\nkey_header='a b'", "2: $.providers.groq.key_header must be the name of a header field."),
        ("[providers.groq]\nkey=5", "2: $.providers.groq.key must be a text in quotes, not 5."),
        ("[providers.groq]\nkey=' '", "2: $.providers.groq.key must not be empty"),
        (f"[providers.groq]\nkey='''{CANARY}\nb'''", "2: $.providers.groq.key holds a character that no key has"),
        ("[providers.groq]\nkey='x'\nkey_env='Y'", "2: $.providers.groq.key stands beside key_env"),
        ("[providers.groq]\nquirks=1", "2: $.providers.groq.quirks must be a table, not 1."),
        (
            "[providers.groq.quirks]\nthink_tag=true",
            "2: $.providers.groq.quirks.think_tag is not a setting: did you me",
        ),
        (
            "[providers.groq.quirks]\nthink_tags=1",
            "2: $.providers.groq.quirks.think_tags must be true or false, not 1.",
        ),
        ("[providers.groq.quirks]\nunsupported='a'", "2: $.providers.groq.quirks.unsupported must be a list of texts"),
        ("[providers.groq.quirks]\nseed_field='a'", "must be 'random_seed' or 'seed', not a text."),
        ("[providers.groq]\nbase='x'", "2: $.providers.groq.base is not a setting: did you mean 'base_url'?"),
        ("[providers.groq]\nenabled=0", "2: $.providers.groq.enabled must be true or false, not 0."),
        ("[providers.groqq]\nenabled=false", "2: $.providers.groqq.enabled switches nobody off: No provider is called"),
        ("[providers.local]\nbase_url='http://x'", "1: $.providers.local is not reached over HTTP"),
        ("[providers.x]\nimport='a:b'\nname='y'", "2: $.providers.x.import goes with `enabled` alone, not with name"),
        ("[providers.gemini]\n[providers.google]", "2: $.providers.google is the same provider as 'gemini'"),
        (
            "[providers.open-ai]\nbase_url='http://x'\n[providers.open_ai]",
            "3: $.providers.open_ai is the same provider",
        ),
    ],
)
def test_faults_of_providers(write: Write, text: str, words: str) -> None:
    """What a provider cannot be is a fault with its line, and nothing that may be a key is in it."""
    (fault,) = faults(write(text))
    assert words in fault


def test_one_fault_is_told_once(write: Write) -> None:
    """What leads to a provider with a fault is no fault of its own."""
    text = "default_model = 'mine/a'\naliases.a = 'mine/b'\nproviders.mine.base_url = 'x'\nserver.a = 1\nserver.b = 1"
    assert [fault.split(" ")[0:2] for fault in faults(write(text))] == [
        ["3:", "$.providers.mine.base_url"],
        ["4:", "$.server.a"],
        ["5:", "$.server.b"],
    ]


def test_aliases(write: Write, tmp_path: Path) -> None:
    """Aliases lead to models, to others and to files; only files that an alias names can be asked for."""
    model = tmp_path / "m.gguf"
    model.touch()
    text = f"""
        default_model = "mine"
        [aliases]
        fast = "groq/llama-3.1-8b-instant"
        faster = "fast"
        "claude-*" = "anthropic/claude-*"
        mine = "local/{model}"
    """
    path = write(text)
    config = load(path)
    assert config.names.split("faster") == ("groq", "llama-3.1-8b-instant")
    assert config.names.split("claude-5") == ("anthropic", "claude-5")
    assert config.names.files == {str(model)}
    assert config.origins["aliases.claude-*"] == f"{path}:6"
    assert ProviderLookup(NoTransport(), names=config.names).find("")[1] == str(model)


def test_a_file_as_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is the default model can be asked for, and one that is not there is a fault."""
    model = tmp_path / "m.gguf"
    monkeypatch.setenv("ANTIPHON_MODEL", f"local/{model}")
    assert "There is no file" in faults(None)[0]
    model.touch()
    assert load().names.files == {str(model)}


# --- what is documented


def documented() -> str:
    """The whole file, as the documentation shows it."""
    return re.findall(r"```toml\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)[0]


def test_the_documented_file_is_fine(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in the documentation can be used as it is, but for the provider that is the reader's own."""
    text = documented()
    assert text.count('import = "my_package.my_module:answer"') == 1
    load(write(text.replace("my_package.my_module:answer", "antiphon.testing:ProviderMock")))


def test_the_documented_defaults_are_the_codes(write: Write) -> None:
    """Each setting is documented with its default, and in the order that the code has them."""
    config = load(write(documented().replace("my_package.my_module:answer", "antiphon.testing:ProviderMock")))
    assert (config.server, config.limits, config.timeouts) == (ServerSettings(), Limits(), Timeouts())
    for section in ("server", "limits", "timeouts"):
        fields = getattr(config, section).__struct_fields__
        table = re.search(rf"^\[{section}\](.*?)^\[", documented(), re.DOTALL | re.MULTILINE)
        assert table is not None
        assert tuple(re.findall(r"^(\w+) = ", table[1], re.MULTILINE)) == fields


def test_every_field_of_a_provider_is_documented() -> None:
    """The documentation shows every field that a provider may have."""
    shown = set(re.findall(r"^#? ?(\w+) = ", documented(), re.MULTILINE))
    assert set(FIELDS) <= shown


def test_config_of_ones_own() -> None:
    """`Config()` is what comes without a file, whatever the environment says, and lets no file be named."""
    assert Config().server == ServerSettings()
    assert not Config().keys
    assert Config().names.files == ()
