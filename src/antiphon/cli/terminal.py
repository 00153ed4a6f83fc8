"""What is written where: answers to standard output, every other word to standard error.

Nothing is imported here that takes time: every command comes through this module, and `--version` too.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence

import click

from antiphon.errors import AntiphonError, MissingAPIKeyError

__all__ = ["hide", "is_terminal", "mark_secret", "say", "table", "visible", "without_login", "worded", "write_json"]

# What a model or a server says must not move the cursor, set the clipboard or rename the window.
_CONTROLS: dict[int, int | None] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), 0xFFFD),
    ord("\r"): None,
}

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_CLOCK = re.compile(r"[:;] (?:give it more with|pass) timeout=Timeout\((\w+)=…\)[^.]*")
"""What the library advises when a clock ran out."""

_named: set[str] = set()
"""Variables with secrets besides those whose names say so."""


def visible(text: str) -> str:
    """Return *text* with control characters, line ends and tabs aside, as characters that can be seen."""
    return text.translate(_CONTROLS)


def is_terminal(stream: object) -> bool:
    """Tell whether *stream*, which is `None` in a process started without it, is a terminal."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


def say(text: str, *, name: str = "antiphon") -> None:
    """Write one line to standard error, whatever *text* holds, without any key that the environment holds."""
    line = " ".join(hide(text).split())
    click.echo(visible(f"{name}: {line}" if name else line), err=True)


def mark_secret(variable: str) -> None:
    """Let `hide` know that the environment variable of this name holds a secret, whatever it is called."""
    _named.add(variable)


def hide(text: str) -> str:
    """Return *text* without the values of environment variables that hold secrets.

    No message should hold one in the first place; this is for those that somebody else wrote.
    """
    from antiphon.providers.auth import Secret, redact  # only needed once there is something to say

    for variable, value in os.environ.items():
        if (_SECRET_NAME.search(variable) or variable in _named) and value.isascii() and value.strip().isprintable():
            text = redact(text, Secret(value))
    return text


def without_login(url: str) -> str:
    """Return *url* without the user name and password that may stand in it."""
    return re.sub(r"(?<=://)[^/\s@]+@", "", url)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write columns that line up; on a terminal a line that is too long is cut, so that none is broken."""
    lines = [heads, *([visible(cell) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.echo(text if room is None or len(text) <= room else f"{text[: room - 1]}…")


def write_json(value: object) -> None:
    """Write *value* as JSON that is pleasant to read."""
    from msgspec import json  # only needed here

    click.echo(json.format(json.encode(value), indent=2))


def worded(error: BaseException) -> str:
    """Return what to tell the user about *error*: what is wrong, and what to do."""
    if isinstance(error, click.ClickException):
        message = error.format_message()
        message += "" if message.endswith((".", "?", "!", ")")) else "."
        context = getattr(error, "ctx", None)
        if isinstance(error, click.NoSuchOption) and context and context.info_name == "chat":
            message += " Put -- before words of a prompt that begin with a dash."
        return f"{message} See `{context.command_path} --help`." if context else message
    if isinstance(error, MissingAPIKeyError):
        return str(error).replace("pass api_key=…", "name the variable that holds it with --api-key-env")
    if isinstance(error, AntiphonError):
        return _CLOCK.sub(_option, str(error))
    if isinstance(error, OSError):
        return re.sub(r"^\[Errno \d+\] ", "", f"{error}.")
    return f"{type(error).__name__}: {error} (not expected here; --debug shows where it comes from)"


def _option(advice: re.Match[str]) -> str:
    """Return what to advise here, where only the total clock has an option."""
    return ": give it more with --timeout, or leave that out for no limit" if advice[1] == "total" else ""
