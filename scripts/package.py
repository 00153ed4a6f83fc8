#!/usr/bin/env python3
"""Build the sdist and the wheel, compare both with the tree, and use the wheel as a newcomer would: alone.

Fails on the first difference. Needs the `dev` extra; leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

EVERY_MODULE = """
import importlib, pkgutil, sys, antiphon
names = sorted(module.name for module in pkgutil.walk_packages(antiphon.__path__, "antiphon."))
names = [name for name in names if not name.startswith(tuple(sys.argv[1:]))]
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules imported from {antiphon.__path__[0]}")
"""

SERVER = "antiphon.server"
"""Modules that need the extra `serve`."""


def run(*command: str | Path, cwd: Path = ROOT, silent: bool = True) -> str:
    """Run *command*, which has to end well and, if *silent*, say nothing on stderr; return what it printed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    if done.returncode or (silent and done.stderr.strip()):
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def same(what: str, expected: dict[str, bytes], actual: dict[str, bytes]) -> None:
    """Stop if two sets of files differ, in name or in content."""
    faults = [f"missing: {name}" for name in sorted(expected.keys() - actual.keys())]
    faults += [f"not in the tree: {name}" for name in sorted(actual.keys() - expected.keys())]
    faults += [f"changed: {name}" for name in sorted(expected.keys() & actual.keys()) if expected[name] != actual[name]]
    if faults:
        sys.exit(f"{what} is not the tree:\n" + "\n".join(faults))
    print(f"{what}: {len(actual)} files, as in the tree")


def tree() -> dict[str, bytes]:
    """Every file that belongs to the project: what git tracks, and what it would if asked to add it."""
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    return {name: (ROOT / name).read_bytes() for name in names if name and (ROOT / name).is_file()}


def in_sdist(path: Path) -> dict[str, bytes]:
    """The files of an sdist, by their path below its one folder."""
    with tarfile.open(path) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        return {file.name.partition("/")[2]: archive.extractfile(file).read() for file in files}  # type: ignore[union-attr]


def in_wheel(path: Path) -> dict[str, bytes]:
    """The files of a wheel by their path."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def compare(folder: Path, version: str) -> Path:
    """Build into *folder*, hold both archives against the tree, and return the wheel."""
    files = tree()
    # The wheel is built from the sdist, which shows that the sdist holds all that is needed.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, silent=False)
    sdist, wheel = folder / f"antiphon-{version}.tar.gz", folder / f"antiphon-{version}-py3-none-any.whl"
    if sorted(folder.iterdir()) != sorted([sdist, wheel]):
        sys.exit(f"The newest version in CHANGELOG.md is {version}, but the build made {sorted(folder.iterdir())}")

    packed = in_sdist(sdist)
    packed.pop("PKG-INFO")
    same(sdist.name, files, packed)

    information = f"antiphon-{version}.dist-info/"
    expected = {name.removeprefix("src/"): content for name, content in files.items() if name.startswith("src/")}
    expected[f"{information}licenses/LICENSE"] = files["LICENSE"]
    unpacked = in_wheel(wheel)
    for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt"):
        unpacked.pop(information + name)
    same(wheel.name, expected, unpacked)
    return wheel


def use_alone(wheel: Path, folder: Path, version: str) -> None:
    """Install *wheel* into an empty environment, first without extras and then as a server, and use it elsewhere."""
    venv.create(folder / "venv", with_pip=True)
    commands, nowhere = folder / "venv" / ("Scripts" if os.name == "nt" else "bin"), folder / "nowhere"
    nowhere.mkdir()
    run(commands / "python", "-m", "pip", "install", "-qq", "-c", ROOT / "requirements.lock", wheel)
    run(commands / "python", "-m", "pip", "check")
    run(commands / "python", "-W", "error", "-c", "import antiphon", cwd=nowhere)
    print(run(commands / "python", "-W", "error", "-c", EVERY_MODULE, SERVER, cwd=nowhere))
    said = run(commands / "antiphon", "--version", cwd=nowhere)
    if version not in said:
        sys.exit(f"antiphon --version said {said!r}, not {version}")
    print(said)
    refused = subprocess.run([commands / "antiphon", "serve"], cwd=nowhere, capture_output=True, text=True, check=False)
    if refused.returncode == 0 or "antiphon[serve]" not in refused.stderr:
        sys.exit(f"Without its extra, antiphon serve said {refused.stderr!r}")
    run(commands / "python", "-m", "pip", "install", "-qq", "-c", ROOT / "requirements.lock", f"{wheel}[serve]")
    run(commands / "python", "-m", "pip", "check")
    print(run(commands / "python", "-W", "error", "-c", EVERY_MODULE, cwd=nowhere))


def main() -> None:
    """Do all of it in a folder that goes away."""
    newest = re.search(r"^## \[?(\d[^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if newest is None:
        sys.exit("CHANGELOG.md names no version: its headings look like `## [1.2.3] - 2026-01-31`.")
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "dist")
        built.mkdir()
        use_alone(compare(built, newest[1]), Path(folder), newest[1])


if __name__ == "__main__":
    main()
