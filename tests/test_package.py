"""The package as it is shipped: its names, its version, and what importing it does."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pkgutil
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

import antiphon

ROOT = Path(__file__).parents[1]
PACKAGE = Path(antiphon.__path__[0])
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(antiphon.__path__, "antiphon.")
    if not any(part.startswith("_") for part in module.name.split("."))
)

# What the interpreter reports while it imports, and threads that libraries start below it.
WATCHED_IMPORT = """
import _thread, json, os, sys

touched = []

def watched(start):
    def started(*arguments, **options):
        touched.append(["thread", ""])
        return start(*arguments, **options)
    return started

# Starting a thread is no audit event everywhere; threading takes these names when it is imported.
assert "threading" not in sys.modules
for name in ("start_new", "start_new_thread", "start_joinable_thread"):
    if hasattr(_thread, name):
        setattr(_thread, name, watched(getattr(_thread, name)))

def watch(event, arguments):
    if event == "open" and not isinstance(arguments[0], int):
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        touched.append(["write" if writes else "read", str(path)])
    elif event in {"os.listdir", "os.scandir"}:
        touched.append([event, str(arguments[0] or ".")])
    elif event.split(".")[0] in {"socket", "subprocess", "_thread", "urllib", "http", "ftplib", "sqlite3"} or event in {
        "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
        "os.mkdir", "os.remove", "os.rename", "os.putenv", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp",
    }:
        touched.append([event, ""])

sys.addaudithook(watch)
STATEMENT
found, touched = touched, []
tasks = os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else [0]
print(json.dumps({"touched": found, "threads": len(tasks)}))
"""


def public(module: ModuleType) -> set[str]:
    """What *module* shows of its own or of others', modules aside."""
    shown = {name for name in dir(module) if not name.startswith("_") and name != "annotations"}
    return {name for name in shown if not isinstance(getattr(module, name), ModuleType)}


@pytest.mark.parametrize("name", MODULES)
def test_names_of_a_module(name: str) -> None:
    """A module that offers anything lists it in `__all__`, once, and everything listed is there."""
    module = importlib.import_module(name)
    assert hasattr(module, "__all__") or not public(module)
    listed: list[str] = getattr(module, "__all__", [])
    assert [] == [missing for missing in listed if not hasattr(module, missing)]
    assert len(set(listed)) == len(listed)


def test_names_of_the_root() -> None:
    """The root lists what it offers, each name is there, and `dir()` shows nothing else."""
    listed: list[str] = getattr(antiphon, "__all__", [])
    assert [] == [missing for missing in listed if not hasattr(antiphon, missing)]
    modules = {name for name in listed if isinstance(getattr(antiphon, name), ModuleType)}
    listed = [name for name in listed if name != "__version__"]
    assert set(listed) == public(antiphon) | modules
    assert len(set(listed)) == len(listed)


def test_version_is_the_changelogs() -> None:
    """The newest version in the changelog is the package's, and the installed one's."""
    newest = re.search(r"^## \[?(\d[^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == antiphon.__version__
    assert newest[1] == importlib.metadata.version("antiphon")


def test_type_checkers_find_the_types() -> None:
    """The package says that it is typed."""
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("statement", ["import antiphon", "from antiphon import *"])
def test_importing_touches_nothing(statement: str, tmp_path: Path) -> None:
    """Importing, and taking every name out, opens no socket, starts no process or thread and reads only code."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    report = subprocess.run(
        [sys.executable, "-IB", "-W", "error", "-c", WATCHED_IMPORT.replace("STATEMENT", statement)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.stderr == ""
    found = json.loads(report.stdout)
    code = (str(PACKAGE), *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")))
    code += (os.path.realpath(code[1]), os.path.join(sys.base_prefix, "lib"))
    assert [] == [entry for entry in found["touched"] if entry[0] == "write" or not entry[1].startswith(code)]
    assert found["threads"] == 1


def test_every_exception_to_coverage_has_a_reason() -> None:
    """`pragma: no cover` stands below a comment that says why."""
    unexplained = []
    for path in sorted(PACKAGE.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "pragma: no cover" in line and not lines[number - 1].lstrip().startswith("#"):
                unexplained.append(f"{path.relative_to(PACKAGE)}:{number + 1}")
    assert [] == unexplained
