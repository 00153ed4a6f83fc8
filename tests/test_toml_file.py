"""On which line of a TOML file each key stands, and how its faults are told."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ConfigError
from antiphon.providers.auth import Secret
from antiphon.settings.toml_file import Lines, TOMLFile, path_text

# --- documents, written with the line of each key known

BARE = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
QUOTED = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=6)
PRINTED = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="'"), max_size=8)
NAMES = st.one_of(BARE, QUOTED)
TRICKY = st.sampled_from(["[x]", "a = 1", "# no", "]]", "}", "\\", '"', '"""', "'''", "\n[y]\n", "\nz = 2\n", "=", "{"])
TEXTS = st.lists(st.one_of(TRICKY, PRINTED), max_size=4).map("".join)


def quoted(text: str) -> str:
    """*text* as a TOML string on one line, which is written like JSON's."""
    return json.dumps(text, ensure_ascii=False)


def written_name(name: str, how: int) -> str:
    """*name* as a part of a key, in one of the ways that TOML has."""
    if how % 3 == 0 and name.isascii() and name.replace("-", "_").isidentifier():
        return name
    if how % 3 == 1 and "'" not in name:
        return f"'{name}'"
    return quoted(name)


def literal(text: str) -> str:
    """*text* as a TOML string over several lines without escapes, where it can be one."""
    return f"'''\n{text}'''" if "'" not in text else quoted(text)


def several_lines(text: str) -> str:
    """*text* as a TOML string over several lines."""
    return f'"""\n{quoted(text)[1:-1]}"""'.replace("\\n", "\n")


SCALARS = st.one_of(
    st.integers(-9, 9).map(str),
    st.sampled_from(
        [
            "true",
            "1.5",
            "nan",
            "1979-05-27T07:32:00Z",
            "07:32:00",
            '""""""',
            '"""a""b"""""',
            '"""\\"""\n]"""',
            "'''''a'''''",
        ]
    ),
    TEXTS.map(quoted),
    TEXTS.map(literal),
    TEXTS.map(several_lines),
)
GAPS = st.sampled_from(["", " ", "\n", " # ] } \" ' '''\n", "\n\n"])


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """An array over several lines, with comments in it."""
    items = draw(st.lists(values, max_size=3))
    return "[" + "".join(f"{draw(GAPS)}{item}{draw(GAPS)}," for item in items) + draw(GAPS) + "]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """An inline table, with strings over several lines at most."""
    items = draw(st.dictionaries(BARE, values, max_size=3))
    return "{" + ", ".join(f"{name} = {item}" for name, item in items.items()) + "}"


VALUES = st.recursive(SCALARS, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=4)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[tuple[str, ...], int]]:
    """A document, with the line of each of its keys."""
    text, lines = "", {}
    tables = draw(st.lists(st.lists(NAMES, min_size=1, max_size=2), max_size=3, unique_by=lambda path: path[0]))
    how, space = draw(st.integers(0, 2)), draw(st.sampled_from(["", " ", "\t"]))

    def dotted(path: list[str]) -> str:
        return f"{space}.{space}".join(written_name(part, how) for part in path)

    for table in [[], *tables]:
        text += draw(st.sampled_from(["", "\n", "# a comment [not]\n", "  \n"]))
        if table:
            for length in range(1, len(table) + 1):
                lines.setdefault(tuple(table[:length]), text.count("\n") + 1)
            brackets = draw(st.sampled_from(["[]", "[[]]"]))
            half = len(brackets) // 2
            comment = draw(st.sampled_from(["", " # [head]"]))
            text += f"{brackets[:half]}{space}{dotted(table)}{space}{brackets[half:]}{comment}\n"
        elif tables:
            continue  # or a key of the root could be a table's name
        keys = draw(st.lists(st.lists(NAMES, min_size=1, max_size=2), max_size=3, unique_by=lambda path: path[0]))
        for key in keys:
            for length in range(1, len(key) + 1):
                lines.setdefault((*table, *key[:length]), text.count("\n") + 1)
            text += f"{space}{dotted(key)}{space}={space}{draw(VALUES)}{draw(st.sampled_from(['', ' # = x']))}\n"
    return text, lines


def keys_of(value: Any) -> Iterator[tuple[str, ...]]:
    """Every path in a document, those in arrays of tables as in one table; not what stands in a value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (name,)
            yield from ((name, *rest) for rest in keys_of(inner))
    elif isinstance(value, list):
        for item in value:
            yield from keys_of(item)


@given(documents(), st.booleans())
def test_lines_of_any_document(found: tuple[str, dict[tuple[str, ...], int]], windows: bool) -> None:
    """Each key has the line it was written on, whatever stands in the values, and every one is a key of `tomllib`'s."""
    text, lines = found
    document = tomllib.loads(text)
    assert Lines(text.replace("\n", "\r\n") if windows else text).known() == lines
    assert set(lines) <= set(keys_of(document))


@given(documents())
def test_every_key_has_a_line(found: tuple[str, dict[tuple[str, ...], int]]) -> None:
    """Every key that `tomllib` reads has a line; one inside a value has that of the outermost."""
    text, lines = found
    for path in keys_of(tomllib.loads(text)):
        outer = next(path[:length] for length in range(len(path), 0, -1) if path[:length] in lines)
        assert Lines(text).of(*path) == lines[outer]


def test_a_key_that_is_not_there() -> None:
    """A key that is not there has the line of the table it would be in, or none."""
    lines = Lines("a = 1\n\n[b]\nc = 1\n")
    assert [lines.of("b", "d"), lines.of("b", "c", "d"), lines.of("x"), lines.of()] == [3, 4, None, None]


# --- faults


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str | bytes], TOMLFile]:
    """Read a file with this in it."""

    def read(content: str | bytes) -> TOMLFile:
        path = tmp_path / "f.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return TOMLFile(path)

    return read


Read = Callable[[str | bytes], TOMLFile]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \nc = 3", 2), ("a = 1\n[b\n", 2), ("\n\na = 'canary", 3), ("a = 1\na = 2\n", 2), ("x = [\n1,\n", 3)],
)
def test_what_is_not_toml(read: Read, text: str, line: int) -> None:
    """What is not TOML is told with `tomllib`'s line, and without the text."""
    with pytest.raises(ConfigError, match=rf"f\.toml:{line}: .+: this is not TOML\.$") as raised:
        read(text)
    assert "canary" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.faults == (str(raised.value),)


def test_what_is_not_utf_8(read: Read) -> None:
    """A file in another encoding is told as such."""
    with pytest.raises(ConfigError, match=r"f\.toml: this is not UTF-8"):
        read("a = 'ä'".encode("latin-1"))


def test_a_byte_order_mark(read: Read) -> None:
    """A mark that some editors begin a file with is passed over."""
    assert read(b"\xef\xbb\xbfa = 1").document == {"a": 1}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is told with what the system says."""
    with pytest.raises(ConfigError, match=r"none\.toml: the configuration cannot be read: No such file"):
        TOMLFile(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: "):
        TOMLFile(tmp_path)


def test_no_file() -> None:
    """Without a file nothing is said."""
    assert TOMLFile(None).document == {}


def test_faults_come_together_and_in_order(read: Read) -> None:
    """All faults are told in one go, in the order of lines, each once; those from elsewhere come first."""
    file = read("a = 1\nb = 2\n")
    file.fault("is second.", "b")
    for _ in range(2):
        file.fault("is first.", "a")
    file.fault("is wrong.", "c", where="environment C")
    with pytest.raises(ConfigError) as raised:
        file.check()
    assert raised.value.faults == (
        "environment C: $.c is wrong.",
        f"{file.path}:1: $.a is first.",
        f"{file.path}:2: $.b is second.",
    )
    assert str(raised.value) == "\n".join(raised.value.faults)


def test_a_secret_in_a_fault(read: Read) -> None:
    """No fault shows a secret, whoever worded it."""
    file = read("")
    file.secrets.append(Secret("sk-canary-0123456789"))
    file.fault("fails: sk-canary-0123456789 is wrong.", "a")
    with pytest.raises(ConfigError) as raised:
        file.check()
    assert "canary" not in str(raised.value)


def test_nothing_wrong(read: Read) -> None:
    """Without a fault there is no error."""
    read("a = 1").check()


@pytest.mark.parametrize(
    ("path", "text"),
    [((), "$"), (("a", "b-c"), "$.a.b-c"), (("aliases", "gpt-4.1"), '$.aliases["gpt-4.1"]'), (("ä",), '$["ä"]')],
)
def test_paths(path: tuple[str, ...], text: str) -> None:
    """A path is written so that it can be read back."""
    assert path_text(path) == text


@pytest.mark.parametrize(
    ("text", "kind"), [("'canary'", "a text"), ("[1]", "a list"), ("{}", "a table"), ("1", "1"), ("07:32:00", "a time")]
)
def test_values_are_shown_by_kind(read: Read, text: str, kind: str) -> None:
    """Of a value that is of the wrong type only a number is shown: a text may be a secret."""
    file = read(f"a = {text}")
    file.read(file.document["a"], bool, "a", words="true or false")
    with pytest.raises(ConfigError, match=rf"\$\.a must be true or false, not {re.escape(kind)}\.$"):
        file.check()
