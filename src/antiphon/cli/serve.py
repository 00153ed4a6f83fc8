"""`antiphon serve`: says where the server is and how to point a client at it, and runs it."""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

import click

from antiphon.cli.logs import show_logs
from antiphon.cli.show_config import check as show_check
from antiphon.cli.terminal import say
from antiphon.errors import MissingExtraError
from antiphon.providers.catalog import ProviderRow
from antiphon.providers.lookup import DEFAULT_MODEL
from antiphon.settings.config import Config

__all__ = ["serve"]

_NEEDED = ("uvicorn", "starlette", "httptools")
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What a client on this machine calls a server that listens at every address."""
_CLIENTS = {"OPENAI_BASE_URL": "/v1", "ANTHROPIC_BASE_URL": "", "GOOGLE_GEMINI_BASE_URL": "", "OLLAMA_HOST": ""}
"""The variables in which the official clients look for a server, and what follows the address there."""


def serve(path: str | None, overrides: Mapping[str, Any], *, check: bool) -> int:
    """Do `antiphon serve`; return the exit code."""
    if check:
        return show_check(path, overrides)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"`antiphon serve` needs {' and '.join(missing)}: install antiphon[serve], with "
            "`pip install 'antiphon[serve]'`."
        )
    from antiphon.server import run  # takes 100 ms, and is not there without the extra
    from antiphon.server.application import VERSION

    source = run.Source(path, overrides)
    config = source.load()
    for warning in config.warnings:
        say(warning)
    listener = run.bind(config.server.host, config.server.port)
    host, port = config.server.host, listener.getsockname()[1]
    click.echo(f"antiphon {VERSION} listens at {_address(host, port)}", err=True)
    for line in _welcome(config, _address(_EVERYWHERE.get(host, host), port)):
        click.echo(line, err=True)
    try:
        debug = logging.getLogger("antiphon").isEnabledFor(logging.DEBUG)
        run.serve(source, config, listener, functools.partial(show_logs, debug=debug))
    except KeyboardInterrupt:
        pass  # Ctrl-C is how it is meant to end; by now it has
    return 0


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _welcome(config: Config, address: str) -> list[str]:
    names = config.names
    rows = [row for row in names.known().values() if isinstance(row, ProviderRow) and row.codec != "local"]
    asked = [row.id for row in rows if names.key(row) is not None or (row.id in names.providers and not row.same_as)]
    width = max(map(len, _CLIENTS))
    return [
        *(f"  {variable:<{width}}  {address}{rest}" for variable, rest in _CLIENTS.items()),
        f"  default model: {names.default_model or DEFAULT_MODEL}",
        f"  providers with a key: {', '.join(asked) or 'none; the local model needs none'}",
        f"  who may call it: {', '.join(config.keys) or 'any program on this machine, without a key'}",
        "Ctrl-C stops it.",
    ]
