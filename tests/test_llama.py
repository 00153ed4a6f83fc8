"""Llama.cpp found, set up and loaded."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from antiphon.errors import LocalModelError, MissingExtraError, ModelNotFoundError
from antiphon.providers.local import llama_cpp
from antiphon.providers.local.llama_cpp import Settings

SETTINGS = Settings(name="m", context=64, parallel=2)


class _Library:
    """Stands in for xllamacpp on a machine with other devices, and keeps the parameters; it loads nothing."""

    def __init__(self, *devices: str) -> None:
        self.params: Any = None
        self._devices = devices

    def get_device_info(self) -> list[dict[str, Any]]:
        return [{"type": SimpleNamespace(name=f"GGML_BACKEND_DEVICE_TYPE_{device}")} for device in self._devices]

    def CommonParams(self) -> Any:
        self.params = SimpleNamespace(
            model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace()
        )
        return self.params

    def Server(self, params: Any) -> Any:
        raise RuntimeError("no server here")


@pytest.mark.parametrize(
    ("cpus", "quota", "threads"),
    [
        (1, None, 1),
        (2, None, 1),
        (8, None, 4),
        (64, None, 8),
        (8, "max 100000\n", 4),
        (8, "400000 100000\n", 2),
        (64, "50000 100000\n", 1),
        (8, "nonsense", 4),
    ],
)
def test_threads_by_default(
    cpus: int, quota: str | None, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the CPUs compute, or of what the container grants; one at least and eight at most."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
    monkeypatch.setattr(llama_cpp, "_CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert threads == llama_cpp.thread_count()


def test_threads_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not say which CPUs a process may use, all count."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(llama_cpp, "_CPU_QUOTA", tmp_path / "none")
    assert llama_cpp.thread_count() == 3


def test_threads_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ANTIPHON_LOCAL_THREADS` decides, beyond the bounds too."""
    monkeypatch.setenv("ANTIPHON_LOCAL_THREADS", "24")
    assert llama_cpp.thread_count() == 24


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_threads_by_environment_must_be_a_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything but a number of threads is an error that names the variable."""
    monkeypatch.setenv("ANTIPHON_LOCAL_THREADS", value)
    with pytest.raises(LocalModelError, match="ANTIPHON_LOCAL_THREADS must be a number of threads"):
        llama_cpp.thread_count()


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is found from the current folder, and comes back absolute."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(3 << 20))
    monkeypatch.chdir(tmp_path)
    assert llama_cpp.find(Path("m.gguf")) == tmp_path / "m.gguf"


@pytest.mark.parametrize("content", [b"", b"GGU", b"hello, world", b"gguf"])
def test_find_something_else(content: bytes, tmp_path: Path) -> None:
    """A file that does not begin like a GGUF file is an error that names it."""
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(LocalModelError) as caught:
        llama_cpp.find(path)
    assert str(caught.value) == f"{path} is not a GGUF file, the only kind that llama.cpp reads."


def test_find_a_folder(tmp_path: Path) -> None:
    """What cannot be read is an error that says why."""
    path = tmp_path / "m.gguf"
    path.mkdir()
    with pytest.raises(LocalModelError, match=r"m\.gguf cannot be read: ."):
        llama_cpp.find(path)


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ((), "Its folder has no GGUF file at all."),
        (("notes.txt",), "Its folder has no GGUF file at all."),
        (("other.gguf",), "Its folder has other.gguf."),
        (("qwen-3b-q4.gguf", "b.gguf", "qwen-3b-q8.GGUF"), "Its folder has qwen-3b-q4.gguf, qwen-3b-q8.GGUF."),
    ],
)
def test_find_nothing(beside: tuple[str, ...], told: str, tmp_path: Path) -> None:
    """A missing file is an error that lists what its folder has, near matches first."""
    for name in beside:
        (tmp_path / name).touch()
    with pytest.raises(ModelNotFoundError) as caught:
        llama_cpp.find(tmp_path / "qwen-3b.gguf")
    assert str(caught.value) == f"There is no file {tmp_path / 'qwen-3b.gguf'}. {told}"


def test_find_in_no_folder(tmp_path: Path) -> None:
    """A missing folder is told as well."""
    with pytest.raises(ModelNotFoundError, match="nor a folder for it that can be read"):
        llama_cpp.find(tmp_path / "none" / "m.gguf")


def test_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error is the command that installs it."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError) as caught:
        llama_cpp.library()
    assert str(caught.value).endswith("pip install 'antiphon[local]'")


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [
        ("raise ImportError('GLIBC_2.38 not found')", LocalModelError, "does not work on this machine: GLIBC_2.38"),
        ("import no_such_module", ModuleNotFoundError, "no_such_module"),
    ],
)
def test_library_is_broken(
    code: str, error: type[Exception], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that is there and fails is not told to be missing."""
    (tmp_path / "xllamacpp.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(error, match=told):
        llama_cpp.library()


@pytest.mark.parametrize(("devices", "batch", "fit"), [(["CPU"], 32, False), (["CPU", "GPU"], 512, True)])
def test_settings(devices: list[str], batch: int, fit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model gets its context for each conversation, a key, no address but loopback, and batches by the device."""
    monkeypatch.setenv("ANTIPHON_LOCAL_THREADS", "3")
    library = _Library(*devices)
    with pytest.raises(LocalModelError, match=r"llama\.cpp cannot load m\.gguf: .* Try another; with ANTIPHON_DEBUG=1"):
        llama_cpp.load(library, Path("m.gguf"), SETTINGS, remedy="Try another")
    params = library.params
    assert (params.n_ctx, params.n_parallel, params.model_alias) == (128, 2, {"m"})
    assert (params.n_batch, params.n_ubatch, params.fit_params) == (batch, batch, fit)
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)
    assert (params.hostnames, [len(key) for key in params.api_keys]) == (["127.0.0.1"], [43])
    assert params.verbosity == -1


def test_damaged_model(model_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that only begins like a model is an error that names it; nothing is printed."""
    path = tmp_path / "cut.gguf"
    with open(model_file, "rb") as whole:
        path.write_bytes(whole.read(5_000_000))
    with pytest.raises(LocalModelError, match=r"llama\.cpp cannot load .*cut\.gguf: it is damaged"):
        llama_cpp.load(llama_cpp.library(), llama_cpp.find(path), SETTINGS, remedy="Try another")
    assert capfd.readouterr() == ("", "")
