"""`antiphon config` and `antiphon key`: what is set and by whom, and keys for the server."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec

from antiphon.cli.terminal import is_terminal, say, table, without_login, write_json
from antiphon.errors import AntiphonError
from antiphon.providers.catalog import ProviderRow, Quirks
from antiphon.providers.lookup import DEFAULT_MODEL
from antiphon.settings import keys
from antiphon.settings.config import Config, config_path, load, user_path

__all__ = ["check", "hash_key", "make_key", "show", "show_path"]

_ROW_FIELDS = {"format": "codec"}
"""What a `ProviderRow` calls a setting, where that is another name."""


def show(path: str | None, *, as_json: bool) -> int:
    """Do `antiphon config show`; return the exit code."""
    config = load(path)
    found = list(_settings(config))
    if as_json:
        file = None if config.path is None else os.fspath(config.path)
        write_json({"path": file, "settings": found})
        return 0
    table(["SETTING", "VALUE", "FROM"], [[row["setting"], _shown(row), row["from"]] for row in found])
    return 0


def _settings(config: Config) -> Iterator[dict[str, Any]]:
    origins = config.origins
    yield _row("default_model", config.names.default_model or DEFAULT_MODEL, origins["default_model"])
    for section in ("server", "limits", "timeouts"):
        values = getattr(config, section)
        for field in values.__struct_fields__:
            yield _row(f"{section}.{field}", getattr(values, field), origins[f"{section}.{field}"])
    for name in config.keys:
        yield _row(f"keys.{name}", "set", origins[f"keys.{name}"])
    for alias, target in config.names.aliases.items():
        yield _row(f"aliases.{alias}", target, origins[f"aliases.{alias}"])
    for id in sorted(config.names.without):
        yield _row(f"providers.{id}.enabled", False, origins[f"providers.{id}.enabled"])
    for id, known in sorted(config.names.known().items()):
        yield from _provider(config, id, known)


def _provider(config: Config, id: str, known: object) -> Iterator[dict[str, Any]]:
    """Give what the file and the environment say of a provider, which for most is nothing."""
    prefix = f"providers.{id}."
    said = {name.removeprefix(prefix): origin for name, origin in config.origins.items() if name.startswith(prefix)}
    if "import" in said:
        yield _row(f"{prefix}import", getattr(known, "name", id), said["import"])
    if not isinstance(known, ProviderRow):
        return
    if (variable := known.moved_by()) is not None:
        said["base_url"] = f"environment {variable}"
    for field, origin in said.items():
        if field not in ("key", "key_env", "import"):
            yield _row(prefix + field, _field(known, field), origin)
    if id in config.names.keys:
        yield _row(f"{prefix}key", "set", said["key"])
    elif "key_env" in said or known.key_set():
        variable = known.key_env() or known.key[0]
        origin = f"environment {variable}" if known.key_set() else said["key_env"]
        yield _row(f"{prefix}key", "set" if known.key_set() else "not set", origin) | {"variable": variable}


def _field(row: ProviderRow, field: str) -> Any:
    if field == "enabled":
        return True
    if field == "quirks":
        unlike, usual = msgspec.structs.asdict(row.quirks), msgspec.structs.asdict(Quirks())
        return {name: value for name, value in unlike.items() if value != usual[name]}
    if field == "base_url":
        try:
            return without_login(row.url())
        except AntiphonError:  # it depends on a variable that is not set: show which
            return row.base_url
    return getattr(row, _ROW_FIELDS.get(field, field))


def _row(setting: str, value: object, origin: str) -> dict[str, Any]:
    return {"setting": setting, "value": value, "from": origin}


def _shown(row: dict[str, Any]) -> str:
    value = row["value"]
    if value is None:
        return "none"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{text} ({row['variable']})" if "variable" in row else text


def check(path: str | None, overrides: Mapping[str, Any] | None = None) -> int:
    """Do `antiphon config check`, with what else the command line says; return the exit code."""
    config = load(path, overrides or {})
    for warning in config.warnings:
        say(warning)
    what = "There is no file, and nothing is" if config.path is None else f"{config.path}: nothing is"
    click.echo(f"{what} wrong.")
    known = config.names.known()
    follows = config.names.follows
    asked = [id for id, row in known.items() if isinstance(row, ProviderRow) and config.names.key(row) is not None]
    found = {
        "address": f"{config.server.host}, port {config.server.port}",
        "default model": config.names.default_model or DEFAULT_MODEL,
        "keys": ", ".join(config.keys) or "none: nobody needs one",
        "aliases": ", ".join(config.names.aliases) or "none",
        "providers": ", ".join(id for id in config.names.providers if id not in follows) or "built-in ones alone",
        "with a key": ", ".join(asked) or "none",
        "switched off": ", ".join(sorted(config.names.without)) or "none",
        "as another": ", ".join(f"{id} as {name}" for id, name in sorted(follows.items())) or "none",
    }
    width = max(map(len, found))
    for name, text in found.items():
        click.echo(f"  {name:<{width}}  {text}")
    return 0


def show_path() -> int:
    """Do `antiphon config path`; return the exit code."""
    path = config_path()
    click.echo(user_path() if path is None else path)
    if path is None:
        say("There is no such file, and none is needed. This is where one would be read.", name="")
    elif not path.is_file():
        say(f"ANTIPHON_CONFIG names {path}, which is not there.")
        return 1
    return 0


def make_key(name: str) -> int:
    """Do `antiphon key new`; return the exit code."""
    _check_name(name)
    key = keys.new_key()
    click.echo(key)
    path = config_path() or user_path()
    say(f"This is the key, shown this once. Give it to {name}, and put this line under [keys] in {path}:", name="")
    click.echo(f"\n{_line(name, key)}", err=True)
    return 0


def hash_key(name: str) -> int:
    """Do `antiphon key hash`; return the exit code."""
    _check_name(name)
    if is_terminal(sys.stdin):
        key = click.prompt("Key", hide_input=True, err=True)
    else:
        # One byte more than any key has is read, so that another file in its place is no burden.
        key = sys.stdin.buffer.read(keys.LONGEST + 3).decode("ascii", "replace")
    try:
        click.echo(_line(name, key.rstrip("\r\n")))
    except ValueError as error:
        raise AntiphonError(str(error)) from None
    return 0


def _check_name(name: str) -> None:
    if (fault := keys.name_fault(name)) is not None:
        raise AntiphonError(fault)


def _line(name: str, key: str) -> str:
    quoted = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
    return f'{quoted} = "{keys.hash_key(key)}"'
