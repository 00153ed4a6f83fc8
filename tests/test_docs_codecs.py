"""Tests of docs/codecs.md: what it shows is in the code, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "codecs.md").read_text(encoding="utf-8")
EXCERPTS = re.findall(r"<!-- (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL)
NAMED = sorted(set(re.findall(r"`((?:src|tests|formats|chat|server|providers)/[\w./]+\.(?:py|toml))`", PAGE)))


@pytest.mark.parametrize(("path", "excerpt"), EXCERPTS)
def test_excerpts_are_in_the_code(path: str, excerpt: str) -> None:
    """Each line of an excerpt is a line of the module that it names."""
    lines = (ROOT / "src" / "antiphon" / path).read_text(encoding="utf-8").splitlines()
    assert [line for line in excerpt.splitlines() if line not in lines] == []


def test_all_code_on_the_page_names_its_module() -> None:
    """No block of code is left out of the test above."""
    assert len(EXCERPTS) == PAGE.count("```python") > 5


@pytest.mark.parametrize("path", NAMED)
def test_named_files_exist(path: str) -> None:
    """Each file that the page names exists."""
    base = ROOT if path.startswith(("src/", "tests/")) else ROOT / "src" / "antiphon"
    assert (base / path).is_file()
