"""A TOML file that is checked as a whole: each fault of it is told with its line.

`tomllib` does not tell on which line a key stands. `Lines` finds that out: it reads what `tomllib` has read without a
fault, so it need not judge; it looks for heads of tables and for keys, and passes over values. What stands inside a
value, as in an inline table, has the line of the outermost key.

Source: toml.io/en/v1.0.0 (read 2026-11-23).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from antiphon.errors import ConfigError
from antiphon.providers.auth import Secret, redact

__all__ = ["Lines", "TOMLFile", "path_text"]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_ITEM = re.compile(
    rf"(?P<gap>[ \t\r\n]+|\#[^\n]*)|\[\[?[ \t]*(?P<table>{_KEY})[ \t]*\]\]?|(?P<key>{_KEY})[ \t]*=",
)
_VALUE = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:'{0,2})|"(?:\\.|[^"\\])*"|'[^']*\''''
    r"""|(?P<gap>\#[^\n]*)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<end>\n)|[^"'\#\[\]{}\n]+""",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LARGEST = 1 << 20
"""Bytes of a file. Thousands of providers and keys take less; `tomllib` takes longer than its size for larger ones."""
_DEEPEST = 16
"""Parts of a dotted key, of which a setting has four. `tomllib` takes minutes for one of 50,000."""
_DEEP = re.compile(rf"""(?<![A-Za-z0-9_"'-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{{_DEEPEST},}}+""")
_SECRET_NAME = re.compile(r"(?:^|_)(?:key|token|secret|password)$", re.IGNORECASE)
_LIKE_A_KEY = re.compile(r"(?:sk|rk|pk|ap|gsk|csk|hf|xai|pplx|nvapi|r8|fw|AIza|ya29)[-_.A-Za-z0-9]{16,}")
"""How keys of providers and of this server begin (their documentation, read 2026-11-29)."""
_AT = re.compile(r"\(at line (\d+), column \d+\)$")


class Lines:
    """The lines of a document that `tomllib` takes.

    Args:
        text: The document.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        text = text.replace("\r\n", "\n")
        table: tuple[str, ...] = ()
        place, line = 0, 1
        while (item := _ITEM.match(text, place)) is not None:
            end = item.end()
            if item["table"] is not None:
                table = _path(item["table"])
                self._add(table, line)
            elif item["key"] is not None:
                self._add(table + _path(item["key"]), line)
                end = _after_value(text, end)
            line += text.count("\n", place, end)
            place = end

    def _add(self, path: tuple[str, ...], line: int) -> None:
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def of(self, *path: str) -> int | None:
        """Return the line, counted from 1, of the setting *path*, or of the innermost that holds it; `None` if none."""
        found = (self._lines.get(path[:length]) for length in range(len(path), 0, -1))
        return next((line for line in found if line is not None), None)

    def known(self) -> Mapping[tuple[str, ...], int]:
        """Return every path that has a line of its own."""
        return dict(self._lines)


def _path(key: str) -> tuple[str, ...]:
    """Return the parts of a key as it is written, by asking who knows how names are quoted."""
    inner: Any = tomllib.loads(f"{key} = 0")
    found: tuple[str, ...] = ()
    while inner != 0:
        ((name, inner),) = inner.items()
        found += (name,)
    return found


def _after_value(text: str, place: int) -> int:
    """Return where the value that begins at *place* ends."""
    depth = 0
    while (token := _VALUE.match(text, place)) is not None:
        if token["end"] and depth == 0:
            break
        depth += (token["open"] is not None) - (token["close"] is not None)
        place = token.end()
    return place


class TOMLFile:
    """What a file says, and what is wrong with it so far.

    Args:
        path: The file; `None`: there is none, and nothing is said.

    Raises:
        ConfigError: It cannot be read, or is not TOML.
    """

    def __init__(self, path: Path | None) -> None:
        text, self.is_open_to_others = ("", False) if path is None else _read(path)
        """Whether other users of the machine can read the file, where the system tells."""
        self.document: Mapping[str, Any] = _document(path, text)
        self.path = path
        self.secrets: list[Secret] = list(_secrets(self.document))
        """What no fault may show."""
        self._lines = Lines(text)
        self._faults: dict[tuple[int, str], None] = {}

    def line(self, *path: str) -> int:
        """Return the line of the setting *path*; 0 where the file does not have it."""
        return self._lines.of(*path) or 0

    def where(self, *path: str) -> str:
        """Return `FILE:LINE` of the setting *path*."""
        return f"{self.path}:{self.line(*path)}"

    def fault(self, words: str, *path: str, where: str | None = None, line: int | None = None) -> None:
        """Note that the setting *path* is wrong; *words* are the rest of the sentence that its name begins.

        *where* is said in place of file and line, if the setting came from elsewhere; *line* if it is known better.
        """
        line = 0 if where else self.line(*path) if line is None else line
        fault = (line, f"{where or f'{self.path}:{line}'}: {path_text(path)} {' '.join(words.split())}")
        self._faults[fault] = None  # once: a table that is none is looked at more than once

    def unknown(self, known: Iterable[str], *path: str, where: str | None = None) -> None:
        """Note that there is no setting *path*, where those *known* are."""
        names = sorted(known)
        close = difflib.get_close_matches(path[-1].lower(), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}."
        self.fault(f"is not a setting: {hint}", *path, where=where)

    def read(self, value: object, kind: Any, *path: str, words: str, where: str | None = None) -> Any:
        """Return *value* as one of *kind*, or `UNSET` with a fault noted that says it must be what *words* say.

        A value from elsewhere may be the text of one.
        """
        try:
            return msgspec.convert(value, kind, strict=where is None)
        except msgspec.ValidationError:
            shown = json.dumps(value) if isinstance(value, int | float) else _kind_of(value)
            self.fault(f"must be {words}, not {shown}.", *path, where=where)
            return msgspec.UNSET

    def table(self, *path: str) -> Mapping[str, Any]:
        """Return the table at *path*; an empty one where there is none, and with a fault noted where it is no table."""
        found: Mapping[str, Any] = self.document
        for name in path:
            inner: Any = found.get(name, {})
            if not isinstance(inner, dict):
                self.fault(f"must be a table, not {_kind_of(cast(object, inner))}.", *path)
                return {}
            found = cast("dict[str, Any]", inner)
        return found

    def check(self) -> None:
        """Raise a `ConfigError` with every fault that was noted, in the order of lines, if there is one."""
        if self._faults:
            faults = tuple(redact(text, *self.secrets) for _, text in sorted(self._faults, key=lambda fault: fault[0]))
            raise ConfigError("\n".join(faults), faults=faults)


def path_text(path: Iterable[str]) -> str:
    """Return *path* as it is written: `$.server.port`, `$.aliases["gpt-4.1"]`."""
    return "$" + "".join(
        f".{name}" if _BARE.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]" for name in path
    )


def _document(path: Path | None, text: str) -> dict[str, Any]:
    """Return what *text* says.

    Raises:
        ConfigError: It is not TOML, or more deeply nested than any setting is.
    """
    if (deep := _DEEP.search(text)) is not None:
        line = text.count("\n", 0, deep.start()) + 1
        raise ConfigError(f"{path}:{line}: this key has more than {_DEEPEST} parts, and no setting has so many.")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        words = str(error).partition(" (at ")[0]
        fault = f"{path}:{_fault_line(error, text)}: {words}: this is not TOML."
    except RecursionError:
        fault = f"{path}: arrays or tables are nested too deeply in it: no setting is like that."
    except ValueError:  # CPython converts no decimal number of more than 4,300 digits
        fault = f"{path}: a number in it has too many digits: no setting is so large."
    raise ConfigError(fault)  # outside the handlers: a chained error may hold the document, and so a key


def _secrets(value: object, name: str = "") -> Iterator[Secret]:
    """Give what is a key, or looks like one, in whatever place of a document it was put."""
    if isinstance(value, dict):
        for inner, item in cast("dict[str, object]", value).items():
            yield from _secrets(inner)
            yield from _secrets(item, inner)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _secrets(item, name)
    elif isinstance(value, str):
        found = [value] if _SECRET_NAME.search(name) else _LIKE_A_KEY.findall(value)
        yield from (Secret(text) for text in found if text.isascii() and text.strip().isprintable())


def _read(path: Path) -> tuple[str, bool]:
    """Return what is in the file, and whether other users of the machine can read it, where the system tells."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ConfigError(f"{path}: the configuration is larger than a megabyte (2**20 bytes): shorten it.")
            return data.decode("utf-8-sig"), os.name == "posix" and bool(mode & 0o044)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is not UTF-8, as TOML must be: save it as that.") from None
    except OSError as error:
        raise ConfigError(f"{path}: the configuration cannot be read: {error.strerror or error}.") from None


def _kind_of(value: object) -> str:
    kinds: dict[type, str] = {str: "a text", list: "a list", dict: "a table", bool: "a truth value"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")


def _fault_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """Return the line that *error* is about, which in 3.11 only its words tell; the last one for an end too early."""
    match = _AT.search(str(error))
    return int(match[1]) if match else text.count("\n") + 1
