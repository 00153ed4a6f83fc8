"""Llama.cpp's server in this process, through xllamacpp: found, set up, loaded.

Everything here blocks. While xllamacpp loads a model or frees it, it holds the interpreter's lock, so that every thread
pauses (for 0.4 s and 0.1 s, with the default model on 2 quiet CPUs). What takes long on a cold disk, reading the file,
is therefore done before.

Source: xllamacpp 2026.10.11549 and the llama.cpp in it (read and tried 2026-11-22).
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from antiphon.errors import LocalModelError, MissingExtraError, ModelNotFoundError
from antiphon.formats import json
from antiphon.providers.auth import Secret

__all__ = ["Llama", "Settings", "find", "library", "load", "thread_count"]

logger = logging.getLogger(__name__)

_MAX_THREADS: Final = 8
_UNLIMITED: Final = 1 << 16
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is to be loaded."""

    name: str
    """What answers call it."""
    context: int
    """Tokens of one conversation, the answer included."""
    parallel: int
    """Conversations at once."""
    threads: int | None = None
    """`None`: as `thread_count` says."""
    embeddings: bool = False
    """Whether it is to turn texts into vectors, instead of answering."""
    pooled: bool = True
    """Whether the file says how to make one vector of those of all tokens; else it is their mean."""


class Llama(msgspec.Struct, frozen=True):
    """A loaded model. It is freed with the last reference to `server`."""

    server: Any
    """xllamacpp's own object."""
    url: str
    """Where it also listens: on 127.0.0.1, without a path."""
    key: Secret
    """What it wants to be asked with there."""
    tools: bool
    """Whether the model's chat template has a place for tools."""


def library() -> Any:
    """Import xllamacpp, which takes 0.1 s.

    Raises:
        MissingExtraError: It is not installed.
        LocalModelError: It does not work on this machine.
    """
    try:
        return importlib.import_module("xllamacpp")
    except ModuleNotFoundError as error:
        if error.name != "xllamacpp":
            raise
        raise MissingExtraError(
            "The local model needs xllamacpp, which is not installed: pip install 'antiphon[local]'", provider="local"
        ) from None
    except ImportError as error:
        raise LocalModelError(f"xllamacpp is installed, but does not work on this machine: {error}") from error


def find(path: Path) -> Path:
    """Return the absolute path of a GGUF file, having read it once, so that the operating system has it in memory.

    Raises:
        LocalModelError: It cannot be read, or is not a GGUF file.
        ModelNotFoundError: There is no such file; the message names others beside it.
    """
    path = path.absolute()
    buffer = bytearray(1 << 20)
    try:
        with open(path, "rb", buffering=0) as file:
            size = file.readinto(buffer) or 0
            if bytes(buffer[: min(size, 4)]) != b"GGUF":
                raise LocalModelError(f"{path} is not a GGUF file, the only kind that llama.cpp reads.")
            while file.readinto(buffer):
                pass
    except FileNotFoundError:
        raise ModelNotFoundError(_missing(path), provider="local", model=path.stem) from None
    except OSError as error:
        raise LocalModelError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from error
    return path


def _missing(path: Path) -> str:
    try:
        beside = {entry.stem: entry.name for entry in path.parent.iterdir() if entry.suffix.lower() == ".gguf"}
    except OSError:
        return f"There is no file {path}, nor a folder for it that can be read."
    near = difflib.get_close_matches(path.stem, beside) or sorted(beside)[:3]
    names = ", ".join(sorted(beside[stem] for stem in near))
    there = f"Its folder has {names}." if names else "Its folder has no GGUF file at all."
    return f"There is no file {path}. {there}"


def load(library: Any, path: Path, settings: Settings, *, remedy: str, host: str = "127.0.0.1") -> Llama:
    """Load the model in the file *path*; its own HTTP server listens at *host*, an address or the path of a socket.

    Raises:
        LocalModelError: llama.cpp refuses the file; *remedy*, the beginning of a sentence, says what to do about it.
    """
    began = time.perf_counter()
    key = Secret(secrets.token_urlsafe(32))
    params = _params(library, settings)
    params.hostnames = [host]
    params.model.path = os.fspath(path)
    params.api_keys = [key.reveal()]
    try:
        server = library.Server(params)
    except RuntimeError as error:
        raise LocalModelError(
            f"llama.cpp cannot load {path}: it is damaged, of a kind that this version does not know, or too large for "
            f"the memory. {remedy}; with ANTIPHON_DEBUG=1 llama.cpp itself says more."
        ) from error
    # Freed before its loop has begun, a server waits for ever. This is answered by the loop.
    server.handle_metrics()
    url: str = server.listening_address
    logger.debug("Loaded %s in %.2f s.", settings.name, time.perf_counter() - began)
    return Llama(server, url, key, _takes_tools(url, key))


def _params(library: Any, settings: Settings) -> Any:
    gpu = any("GPU" in device["type"].name for device in library.get_device_info())
    debug = bool(os.environ.get("ANTIPHON_DEBUG")) or logger.isEnabledFor(logging.DEBUG)
    params = library.CommonParams()
    params.model_alias = {settings.name}
    params.n_parallel = settings.parallel
    params.n_ctx = settings.context * settings.parallel
    threads = settings.threads or thread_count()
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # A call can be stopped between two batches of its prompt; a CPU reads no faster in large ones.
    params.n_batch = params.n_ubatch = 512 if gpu else 32
    # Half of the time to load goes into finding out what fits into a GPU. The first call warms up as well.
    params.fit_params, params.warmup = gpu, False
    params.cache_ram_mib = 0  # else up to 8 GB for the prompts of earlier calls
    params.port = 0
    params.cors_origins, params.ui = "", False
    params.endpoint_slots, params.endpoint_metrics = False, True
    params.sse_ping_interval = 1  # for as many seconds, freeing the model may wait for an HTTP stream under way
    if settings.embeddings:
        params.embedding = True
        params.n_batch = params.n_ubatch = settings.context  # a text is read in one batch or not at all
        if not settings.pooled:
            params.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.verbosity = 3 if debug else -1  # what it is doing, on standard error; or nothing
    return params


def _takes_tools(url: str, key: Secret) -> bool:
    # 10 ms that nobody spends who runs no local model. A transport would need a loop, and might use a proxy.
    from http.client import HTTPConnection

    scheme, _, place = url.partition("://")
    connection = HTTPConnection("localhost" if scheme == "unix" else place, timeout=10)
    try:
        if scheme == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(10)
            connection.sock.connect(place)
        connection.request("GET", "/props", headers={"authorization": f"Bearer {key.reveal()}"})
        found = json.decode(connection.getresponse().read())
    finally:
        connection.close()
    return bool(found.get("chat_template_caps", {}).get("supports_tools"))


def thread_count() -> int:
    """Return how many threads compute: `ANTIPHON_LOCAL_THREADS`, or half of the CPUs, from one to eight.

    llama.cpp's threads wait for each other without sleeping. With as many as there are CPUs, one busy process beside
    them made them half as fast as a single thread, and at times ten times slower (2 CPUs, measured 2026-11-22).

    Raises:
        LocalModelError: `ANTIPHON_LOCAL_THREADS` is not a number of threads.
    """
    if chosen := os.environ.get("ANTIPHON_LOCAL_THREADS"):
        if not chosen.isdecimal() or not int(chosen):
            raise LocalModelError(f"ANTIPHON_LOCAL_THREADS must be a number of threads, 1 or more; it is {chosen!r}.")
        return int(chosen)
    # macOS and Windows do not tell which CPUs a process may use.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(1, min(cpus, _cpu_quota()) // 2), _MAX_THREADS)


def _cpu_quota() -> int:
    """Return how many CPUs the container grants, of which a process sees nothing otherwise."""
    try:
        quota, _, period = _CPU_QUOTA.read_text().partition(" ")
        return int(quota) // int(period)
    except (OSError, ValueError):  # no such limit, or "max"
        return _UNLIMITED
