"""What a server does, from one TOML file, the environment and the command line, checked as a whole.

In rising order: the defaults below, the file, the environment, what the command line says. Every fault is found in one
go and told with its line; then nothing is used of what was read. No key is in a fault, in `repr` or in `origins`.
`docs/config.md` shows the whole file.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

from antiphon.errors import AntiphonError, ConfigError
from antiphon.http.environment import origin_of
from antiphon.http.transport import Timeout
from antiphon.providers.catalog import provider_id
from antiphon.providers.lookup import ProviderNames
from antiphon.settings.keys import SHORTEST, AccessKeys, environment_keys, name_fault
from antiphon.settings.providers import read_names
from antiphon.settings.toml_file import TOMLFile

__all__ = ["Config", "Limits", "ServerSettings", "Timeouts", "config_path", "is_loopback", "load", "user_path"]

_YEAR = 366 * 24 * 3600

_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=_YEAR)]
_Clock = _Seconds | None
_Name = Annotated[str, msgspec.Meta(min_length=1)]
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    str: "a text in quotes",
    tuple[str, ...]: "a list of texts",
    _Port: "a whole number from 0 to 65535",
    _Count: "a whole number of at least 1",
    _Seconds: "a number of seconds above 0, and a year at most",
    _Clock: 'a number of seconds above 0, and a year at most, or "none" for no limit',
}
"""What a setting of each type must be."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server is, and how it behaves: `[server]`."""

    host: str = "127.0.0.1"
    """The address to listen at. Anything but a loopback one takes at least one key."""
    port: _Port = 4114
    """0: one that is free."""
    workers: _Count = 1
    """Processes."""
    access_log: bool = True
    """Whether a line of JSON is logged for each request."""
    metrics: bool = False
    """Whether there is `/metrics`."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the server from a browser, as `https://chat.example`; `*`: all."""
    strict: bool = False
    """Whether a request that cannot be carried over whole is an error."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much the server takes from a client: `[limits]`."""

    body_bytes: _Count = 32 * 1024 * 1024
    header_bytes: _Count = 32 * 1024
    messages: _Count = 10_000
    """In one request."""
    values: _Count = 200_000
    """JSON values in one request, of all kinds and at all depths: messages, parts, tools, and each of their fields."""
    inputs: _Count = 2048
    """Texts in one request for embeddings; OpenAI's own bound (API reference, read 2026-11-29)."""
    concurrent: _Count = 2000
    """Requests under way at once, in each process."""
    queue_seconds: _Seconds = 5.0
    """How long a request beyond that waits for its turn."""
    waiting_bytes: _Count = 256 * 1024 * 1024
    """Of the bodies of requests that wait for their turn or for their own rest, in each process."""
    head_seconds: _Seconds = 10.0
    """Until the head of a request is there."""
    body_seconds: _Seconds = 60.0
    """Until its body is there."""
    write_seconds: _Seconds = 60.0
    """How long a client may leave what is written to it unread."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long providers may take, in seconds: `[timeouts]`. `None`: no limit."""

    connect: _Clock = 10.0
    """Until the connection to the provider stands."""
    first_token: _Clock = 300.0
    """From the start until the answer brings something."""
    idle: _Clock = 120.0
    """Between two pieces of the answer."""
    total: _Clock = None
    """From the start to the last byte."""
    keep_alive: _Clock = 15.0
    """Between the comments in a stream that is silent, which keep what is between from closing it; `None`: none."""
    shutdown: _Seconds = 30.0
    """What streams get to come to their end when the server stops."""

    def clocks(self) -> Timeout:
        """Return those of a call to a provider."""
        return Timeout(self.connect, self.first_token, self.idle, self.total)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. `Config()` are the defaults, whatever files and the environment say."""

    server: ServerSettings = ServerSettings()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    keys: AccessKeys = msgspec.field(default_factory=AccessKeys)
    """Who may call the server; nobody needs a key where there is none."""
    names: ProviderNames = ProviderNames(files=())
    """Providers, their keys, aliases and the default model."""
    path: Path | None = None
    """The file that was read, or `None`."""
    origins: Mapping[str, str] = {}
    """Where each setting came from, by its path, such as `server.port`: `default`, `FILE:LINE`, `environment NAME` or
    `command line`."""
    warnings: tuple[str, ...] = ()
    """What is not wrong, yet should not stay as it is: a full sentence each."""


_TABLES = ("default_model", "server", "limits", "timeouts", "keys", "aliases", "providers")
_SECTIONS: Mapping[str, type[msgspec.Struct]] = {"server": ServerSettings, "limits": Limits, "timeouts": Timeouts}
_SETTINGS = [
    "default_model",
    *(f"{table}.{field}" for table in _SECTIONS for field in _SECTIONS[table].__struct_fields__),
]
"""What has one value, by its path."""
_ENVIRONMENT: Mapping[str, str] = {
    "server.host": "ANTIPHON_SERVER_HOST",
    "server.port": "ANTIPHON_SERVER_PORT",
    "default_model": "ANTIPHON_MODEL",
}
_SERVER_KEYS = "ANTIPHON_SERVER_KEYS"

_T = TypeVar("_T", bound=msgspec.Struct)


def config_path(path: str | Path | None = None) -> Path | None:
    """Return the file to read: *path*, else what `ANTIPHON_CONFIG` names, else the user's own where there is one."""
    if path is not None:
        return Path(path)
    if named := os.environ.get("ANTIPHON_CONFIG", "").strip():
        return Path(os.path.expanduser(named))  # which leaves a user that is not there as it is; Path's own raises
    own = user_path()
    return own if own.is_file() else None


def user_path() -> Path:
    """Return where the user's own file is looked for, whether there is one or not."""
    import platformdirs  # 5 ms, and needed by nobody who names the file

    return platformdirs.user_config_path("antiphon", appauthor=False) / "config.toml"


def load(path: str | Path | None = None, overrides: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """Read the configuration, and check all of it.

    *overrides* are what the command line says, by path, such as `{"server.port": 8080}`; `None` is not said.

    Raises:
        ConfigError: It cannot be used; `faults` has a line for each reason.
    """
    file = config_path(path)
    try:
        loading = _Loading(TOMLFile(file), overrides)
        config = loading.config()
        loading.file.check()
        return config
    except AntiphonError:
        raise
    except Exception as error:  # whatever a file holds, it is the file that is at fault, and never ends a server
        kind = type(error).__name__
    # Outside the handler: neither the words nor the traceback of the other error go on, which may hold a key.
    raise ConfigError(f"{file}: the configuration cannot be used: reading it failed with {kind}.")


class _Loading:
    """One reading of the configuration, with the origin of each setting. Faults are noted in `file`."""

    def __init__(self, file: TOMLFile, overrides: Mapping[str, Any]) -> None:
        self.file = file
        self._origins: dict[str, str] = {}
        self._said = {path: (value, "command line") for path, value in overrides.items() if value is not None}
        """What goes before the file, with where it was said."""
        for path, variable in _ENVIRONMENT.items():
            if value := os.environ.get(variable, "").strip():
                self._said.setdefault(path, (value, f"environment {variable}"))

    def config(self) -> Config:
        """Return what was read; not to be used where a fault was noted."""
        for name in self.file.document:
            if name not in _TABLES:
                self.file.unknown(_TABLES, name)
        for path, (_, where) in self._said.items():
            if path not in _SETTINGS:
                self.file.unknown(_SETTINGS, path, where=where)
        server = self._section("server", ServerSettings)
        keys = self._keys()
        self._check_server(server, keys)
        names = read_names(self.file, self._default_model())
        config = Config(
            server=server,
            limits=self._section("limits", Limits),
            timeouts=self._section("timeouts", Timeouts),
            keys=keys,
            names=names,
            path=self.file.path,
            warnings=tuple(self._warnings(server, keys)),
        )
        self._note_tables(names)
        return msgspec.structs.replace(config, origins=MappingProxyType(self._origins))

    def _section(self, name: str, kind: type[_T]) -> _T:
        """Read the table *name*, whose settings are the fields of *kind*."""
        table = self.file.table(name)
        for field in table:
            if field not in kind.__struct_fields__:
                self.file.unknown(kind.__struct_fields__, name, field)
        values: dict[str, Any] = {}
        for field, hint in get_type_hints(kind, include_extras=True).items():
            value, where = self._said.get(f"{name}.{field}", (table.get(field, msgspec.UNSET), None))
            self._origins[f"{name}.{field}"] = where or (self.file.where(name, field) if field in table else "default")
            if value == "none" and hint == _Clock:
                values[field] = None
            elif value is not msgspec.UNSET:
                read = self.file.read(value, hint, name, field, words=_WORDS[hint], where=where)
                if read is not msgspec.UNSET:
                    values[field] = read
        return kind(**values)

    def _default_model(self) -> tuple[str, str | None] | None:
        value, where = self._said.get("default_model", (self.file.document.get("default_model"), None))
        known = "default_model" in self.file.document
        self._origins["default_model"] = where or (self.file.where("default_model") if known else "default")
        if value is None:
            return None
        words = "a text in quotes, such as 'openai/gpt-5'"
        read = self.file.read(value, _Name, "default_model", words=words, where=where)
        return None if read is msgspec.UNSET else (read, where)

    def _keys(self) -> AccessKeys:
        """Read the keys of the file and of the environment."""
        stored: dict[str, str] = {}
        for name, form in self.file.table("keys").items():
            shown = name if len(name) < SHORTEST else f"{name[:4]}…"  # it may be a key, put in the wrong place
            if self._key(name, form, shown):
                stored[name] = form
                self._origins[f"keys.{name}"] = self.file.where("keys", name)
        try:
            found = environment_keys(os.environ.get(_SERVER_KEYS, ""))
        except ValueError as error:
            self.file.fault(f"cannot be used: {error}", "keys", where=f"environment {_SERVER_KEYS}")
            found = {}
        self._origins.update({f"keys.{name}": f"environment {_SERVER_KEYS}" for name in found})
        return AccessKeys(stored | found)

    def _key(self, name: str, form: object, shown: str) -> bool:
        """Tell whether *form* can be stored under *name*, and note what is wrong."""
        fault: str | None = None
        if not isinstance(form, str):
            fault = "must be a text in quotes (a name with a dot in it is in quotes itself)."
        elif (words := name_fault(name)) is not None:
            fault = f"cannot be used. {words}"
        else:
            try:
                AccessKeys({shown: form})
            except ValueError as error:
                fault = f"cannot be used. {error}"
        if fault is not None:
            self.file.fault(fault, "keys", shown, line=self.file.line("keys", name))
        return fault is None

    def _check_server(self, server: ServerSettings, keys: AccessKeys) -> None:
        """Note what is wrong with where the server is to be, and with who may call it."""
        _, where = self._said.get("server.host", (None, None))
        loopback = is_loopback(server.host)
        if loopback is None:
            self.file.fault("must be an address or the name of a host, without a port.", "server", "host", where=where)
        elif not (loopback or keys or self.file.table("keys") or os.environ.get(_SERVER_KEYS, "").strip()):
            self.file.fault(
                f"is {server.host!r}, where others can reach the server, and there is no key: make one with "
                "`antiphon key new NAME` and put its line under [keys], or listen at 127.0.0.1.",
                *("server", "host"),
                where=where,
            )
        for number, origin in enumerate(server.cors_origins, 1):
            if origin != "*" and (isinstance(origin_of(origin), str) or origin.count("/") > 2):
                words = f"must hold '*', or origins such as 'https://chat.example'; number {number} is neither."
                self.file.fault(words, "server", "cors_origins")

    def _warnings(self, server: ServerSettings, keys: AccessKeys) -> Iterator[str]:
        tables: list[Any] = list(self.file.table("providers").values())
        told = any("key" in table for table in tables if isinstance(table, dict))
        if told and self.file.is_open_to_others:
            yield (
                f"{self.file.path} holds keys of providers, and others on this machine can read it: "
                f"chmod 600 {self.file.path}, or name a variable with key_env."
            )
        if "*" in server.cors_origins and not keys:
            yield (
                "server.cors_origins lets every web page call the server, and there is no key: so any page that is "
                "looked at on this machine can use the keys of its providers. Name the pages, or make a key."
            )

    def _note_tables(self, names: ProviderNames) -> None:
        for alias in self.file.table("aliases"):
            self._origins[f"aliases.{alias}"] = self.file.where("aliases", alias)
        for name in self.file.table("providers"):
            for field in self.file.table("providers", name):
                self._origins[f"providers.{provider_id(name)}.{field}"] = self.file.where("providers", name, field)
        for id, name in names.follows.items():
            said = self.file.table("providers", name)
            if id in names.without:
                field = next(field for field in ("enabled", "import", "base_url") if field in said)
                self._origins[f"providers.{id}.enabled"] = self.file.where("providers", name, field)
                continue
            for field in sorted(said.keys() & {"base_url", "key_env", "key_header", "key"}):
                self._origins[f"providers.{id}.{field}"] = self.file.where("providers", name, field)


def is_loopback(host: str) -> bool | None:
    """Tell whether only this machine can reach *host*; `None`: it is no host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" if _HOST.fullmatch(host) else None
