"""`antiphon models`: what can be asked now, and fetching the local model."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import click
import msgspec

from antiphon.cli.answer import client_for
from antiphon.cli.terminal import is_terminal, say, table, write_json
from antiphon.providers import catalog
from antiphon.providers.catalog import ProviderRow
from antiphon.providers.local import download
from antiphon.providers.lookup import DEFAULT_MODEL
from antiphon.providers.model_lists import Model

__all__ = ["list_models", "pull"]


def list_models(provider: str | None, base_url: str | None, api_key_env: str | None, *, as_json: bool) -> int:
    """Do `antiphon models list`; return the exit code."""
    found = [_model(model) for model in _ask(provider, base_url, api_key_env)]
    if as_json:
        write_json({"object": "list", "data": found})
        return 0
    rows: list[list[str]] = []
    for model in found:
        size, state = (_megabytes(model["size"]), _state(present=model["present"])) if "size" in model else ("", "")
        rows.append([model["id"], _date(model["created"]), size, state])
    table(["MODEL", "CREATED", "SIZE", "STATE"], rows)
    if is_terminal(sys.stderr) and provider is None and base_url is None and not _keys_set():
        say("With the key of a provider set, its models stand here too: see `antiphon providers`.", name="")
    return 0


def _ask(provider: str | None, base_url: str | None, api_key_env: str | None) -> list[Model]:
    local = Model(DEFAULT_MODEL, "local")
    if base_url is None:
        if provider is None and not _keys_set():
            return [local]
        if provider is not None:
            row = catalog.find_provider(provider)
            if isinstance(row, ProviderRow) and row.codec == "local":
                return [local]
    with client_for(provider, base_url, api_key_env) as client, _waiting():
        models = client.models.list()
    if provider is None or base_url is not None:
        return models
    return [msgspec.structs.replace(model, id=f"{provider}/{model.id}") for model in models]


def _keys_set() -> bool:
    return any(isinstance(row, ProviderRow) and row.key_set() for row in catalog.providers().values())


def _model(model: Model) -> dict[str, Any]:
    """Return OpenAI's JSON object of *model*; the local one's also has its size in bytes, and whether it is here."""
    found = {"id": model.id, "object": "model", "created": model.created, "owned_by": model.provider}
    if model.id == DEFAULT_MODEL:
        found |= {"size": download.DEFAULT.size, "present": download.is_present()}
    return found


def _date(seconds: int) -> str:
    """Return the day of a Unix time; nothing for 0, which is not told, and for what is no such time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat() if seconds > 0 else ""
    except (OverflowError, ValueError, OSError):
        return ""


def _state(*, present: bool) -> str:
    if find_spec("xllamacpp") is None:
        return "to be installed: pip install 'antiphon[local]'"
    return "ready" if present else "not fetched"


@contextlib.contextmanager
def _waiting() -> Generator[None, None, None]:
    """Show on a terminal that something goes on."""
    if not is_terminal(sys.stderr):
        yield
        return
    # 60 ms to import, which only those see who wait for a network anyway.
    from rich.console import Console

    with Console(stderr=True).status("Asking for models…"):
        yield


def pull() -> int:
    """Do `antiphon models pull`; return the exit code."""
    there = download.is_present()
    path = download.fetch_with_bar()
    size = _megabytes(download.DEFAULT.size)
    say(f"{DEFAULT_MODEL} ({size}) {'is here already' if there else 'was fetched and checked'}:", name="")
    click.echo(path)
    return 0


def _megabytes(size: int) -> str:
    return f"{size // 10**6} MB"
