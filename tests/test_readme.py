"""Every block of the README runs: the Python here, in order and with shared names; the two commands in CI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document, Example, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
pytestmark = pytest.mark.usefixtures("model_file")


@pytest.fixture(scope="module")
def document() -> Document:
    """Give the README, parsed."""
    return Sybil(parsers=[PythonCodeBlockParser()]).parse(README)


@pytest.fixture
def examples(document: Document) -> Iterator[Example]:
    """Give its Python blocks in order."""
    return iter(document)


def fences() -> list[str]:
    """Return the language of every block."""
    return re.findall(r"^```(\w*)$(?:.|\n)*?^```$", README.read_text(), re.M)


def test_every_block_runs(examples: Iterator[Example], capsys: pytest.CaptureFixture[str]) -> None:
    """The Python blocks run one after the other, and each prints an answer."""
    printed: list[str] = []
    for example in examples:
        example.evaluate()
        printed.append(capsys.readouterr().out)
    assert len(printed) == fences().count("python") == 7
    assert all(output.strip() for output in printed)
    assert printed[4] == "ONE TWO THREE  length\n"
    assert printed[5] == "['test-model']\nHello from a server 3\n"
    assert printed[6] == "It is 18 °C in Oslo 4 answered\n1816\n2 576\n"


def test_the_other_blocks_are_the_commands() -> None:
    """What is not Python is one of the commands that CI runs word for word, or made a speed table."""
    text = README.read_text()
    commands = re.findall(r"^<!-- ([\w-]+)-command -->\n```sh\n([^\n]+)\n```$", text, re.M)
    assert [name for name, _ in commands] == ["chat", "test", "speed", "server-speed"]
    assert set(fences()) == {"python", "sh"}
    assert fences().count("sh") == len(commands)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README.read_text()))))
def test_links_lead_somewhere(target: str) -> None:
    """A link to a file of the project names one that is there."""
    assert (ROOT / target).exists()
