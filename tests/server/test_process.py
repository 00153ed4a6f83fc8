"""`antiphon serve` as a process: what it prints and logs, its signals, its workers, its end."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from antiphon.settings.keys import hash_key
from antiphon.testing import Fault, Upstream
from tests import program
from tests.program import CANARY
from tests.server.raw import DIALECTS, Wire, ask, eventually, get

pytestmark = program.posix_only

OPENAI = DIALECTS["openai"]
KEY = "ap-process-tests-0123456789"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """The provider behind all servers here."""
    with Upstream("Hello there") as up:
        yield up


class Process:
    """`antiphon serve --port 0`; use it in a `with` block, which kills it if it has not ended."""

    def __init__(self, path: Path, *arguments: str, **environ: str) -> None:
        self.process = program.start("serve", "--config", str(path), "--port", "0", *arguments, **environ)
        self.banner: list[str] = []
        self.errors: list[str] = []
        self.log: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stderr, self._complain), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stdout, self._record), daemon=True),
        ]

    def _read(self, pipe: Any, take: Any) -> None:
        for line in pipe:
            with self._news:
                take(line.decode().rstrip("\n"))
                self._news.notify_all()

    def _complain(self, line: str) -> None:
        (self.errors if self.banner and self.banner[-1] == "Ctrl-C stops it." else self.banner).append(line)

    def _record(self, line: str) -> None:
        self.log.append(json.loads(line))

    def told(self, words: str) -> str:
        """Wait for a line of standard error that has *words*."""
        with self._news:
            found = self._news.wait_for(lambda: next((line for line in self.errors if words in line), None), 30)
        assert found is not None, self.errors
        return found

    def logged(self, count: int) -> list[dict[str, Any]]:
        """Wait until *count* requests are logged."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.log) >= count, 30), self.log
            return list(self.log)

    @property
    def port(self) -> int:
        """Where it listens."""
        found = re.search(r"http://127\.0\.0\.1:(\d+)$", self.banner[0])
        assert found is not None, self.banner
        return int(found[1])

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        with self._news:
            ready = self._news.wait_for(lambda: self.banner[-1:] == ["Ctrl-C stops it."], 60)
        assert ready, (self.banner, self.process.poll())
        assert ask(self.port, get("/health")).status == 200
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        for reader in self._readers:
            reader.join(30)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it as its user would, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def resident(self) -> int:
        """Return the bytes of memory that it has."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def children(self) -> list[int]:
        """Return the processes that it started and that serve."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def settings(folder: Path, upstream: Upstream, more: str = "") -> Path:
    """Write a configuration whose provider `up` is *upstream*, with a key of its own."""
    path = folder / "config.toml"
    path.write_text(f'{more}\n[providers.up]\nbase_url = "{upstream.base_url}"\nkey = "{CANARY}"\n')
    path.chmod(0o600)
    return path


ENDED = (0,)
"""How it ends when it is stopped in order."""

FIELDS = {"time", "id", "method", "path", "status", "outcome", "total_ms"}
"""What every line of the log has."""


def test_serves_logs_and_ends(tmp_path: Path, upstream: Upstream) -> None:
    """It says where it is, logs a line of JSON a request without prompts and keys, and ends when it is told to."""
    keyed = {"ANTIPHON_SERVER_KEYS": KEY}
    asked = OPENAI.request(headers=f"x-api-key: {KEY}\r\nx-request-id: my-id\r\n").replace(b"hi", b"ha")
    with Process(settings(tmp_path, upstream), **keyed) as serving:
        assert ask(serving.port, asked).status == 200
        assert ask(serving.port, OPENAI.request(stream=True, headers=f"x-api-key: {KEY}\r\n")).status == 200
        assert ask(serving.port, asked.replace(KEY.encode(), b"wrong-key-0123456789abcdefg")).status == 401
        ready, whole, stream, refused = serving.logged(4)
        assert serving.end() in ENDED
    assert all(FIELDS <= line.keys() for line in serving.log)
    assert (ready["path"], ready["status"], ready["outcome"]) == ("/health", 200, "ok")
    assert (whole["id"], whole["key"], whole["model"], whole["provider"]) == ("my-id", "env-1", "up/x", "up")
    assert (whole["operation"], whole["input_tokens"], whole["output_tokens"]) == ("chat", 3, 2)
    assert stream["stream"] is True
    assert stream["first_token_ms"] <= stream["total_ms"]
    assert (refused["status"], refused["outcome"]) == (401, "error")
    everything = json.dumps(serving.log) + "".join(serving.banner + serving.errors)
    for secret in (KEY, "wrong-key", CANARY, 'ha"', "Hello", "there"):
        assert secret not in everything
    assert serving.errors == []
    assert any("env-1" in line for line in serving.banner)


def test_interrupt_ends_it_without_a_trace(tmp_path: Path, upstream: Upstream) -> None:
    """Ctrl-C is a way to end it like another: no trace is shown."""
    with Process(settings(tmp_path, upstream)) as serving:
        assert serving.end(signal.SIGINT) in ENDED
    assert serving.errors == []


def test_stream_comes_to_its_end_after_sigterm(tmp_path: Path) -> None:
    """A stream under way when SIGTERM comes is ended with an error event when it has had its time, and no sooner."""
    with (
        Upstream("Hello there", fault=Fault.stall(after=3)) as stalled,
        Process(settings(tmp_path, stalled, "[timeouts]\nshutdown = 1")) as serving,
        Wire(serving.port) as wire,
    ):
        wire.send(OPENAI.request(stream=True)).head()
        while b"Hello" not in wire.chunk():
            pass
        serving.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not listens(serving.port))
        assert serving.process.poll() is None
        rest = wire.rest()
        assert serving.process.wait(30) in ENDED
        assert stalled.wait_until_left()
    assert b"shutting down" in rest
    assert serving.log[-1]["outcome"] == "stopping"


def listens(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_hang_up_reads_the_settings_anew(tmp_path: Path, upstream: Upstream) -> None:
    """SIGHUP puts a changed file in force, and leaves all as it was where the file has a fault; nobody is cut off."""
    path = settings(tmp_path, upstream)
    named = OPENAI.request(model="short")
    with Process(path) as serving, Wire(serving.port) as kept:
        assert kept.send(named).reply().status == 404
        settings(tmp_path, upstream, '[aliases]\nshort = "up/x"')
        serving.process.send_signal(signal.SIGHUP)
        serving.told("read anew")
        assert kept.send(named).reply().status == 200
        path.write_text("[server]\nprot = 1\n[aliases]\n")
        serving.process.send_signal(signal.SIGHUP)
        serving.told("have a fault")
        assert "prot" in serving.told("config.toml:2: ")
        assert kept.send(named).reply().status == 200
        assert serving.end() in ENDED


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="workers are found in Linux's /proc")
def test_workers(tmp_path: Path, upstream: Upstream) -> None:
    """Each of several workers answers; one that dies is replaced; SIGHUP reaches all, and a stop ends all."""
    path = settings(tmp_path, upstream)
    with Process(path, "--workers", "2") as serving:
        assert eventually(lambda: len(serving.children()) == 2)
        first, second = serving.children()
        for silent in (first, second):  # the other one has to answer
            os.kill(silent, signal.SIGSTOP)
            assert ask(serving.port, OPENAI.request()).status == 200
            os.kill(silent, signal.SIGCONT)
        os.kill(first, signal.SIGKILL)
        serving.told(f"The worker {first} ended")
        assert eventually(lambda: len(set(serving.children()) - {first}) == 2)
        (third,) = set(serving.children()) - {first, second}
        os.kill(second, signal.SIGSTOP)
        assert ask(serving.port, OPENAI.request()).status == 200
        os.kill(second, signal.SIGCONT)
        settings(tmp_path, upstream, '[aliases]\nshort = "up/x"')
        serving.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: sum("read anew" in line for line in serving.errors) == 2)
        assert ask(serving.port, OPENAI.request(model="short")).status == 200
        assert serving.end() in ENDED
        assert not [pid for pid in (second, third) if Path(f"/proc/{pid}").exists()]
        assert not listens(serving.port)


def test_a_log_that_is_not_read_holds_nothing_up(tmp_path: Path, upstream: Upstream) -> None:
    """A pipe that nothing reads takes lines until it is full; the requests after that are answered, and it stops."""
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [*program.PROGRAM, "serve", "--config", str(settings(tmp_path, upstream)), "--port", str(port)],
        stdout=writer,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        os.close(writer)
        assert eventually(lambda: listens(port))
        with Wire(port) as wire:
            for _ in range(1000):
                assert wire.send(get("/health")).reply().status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def test_a_hang_up_during_the_start_waits(tmp_path: Path, upstream: Upstream) -> None:
    """SIGHUP before the server listens does not end it: it is handled once it does, in each worker too."""
    for arguments in ((), ("--workers", "2")):
        serving = Process(settings(tmp_path, upstream), *arguments)
        path = Path(f"/proc/{serving.process.pid}/status")
        assert eventually(lambda path=path: int(re.findall(r"SigBlk:\s*(\w+)", path.read_text())[0], 16) & 1)
        serving.process.send_signal(signal.SIGHUP)
        with serving:
            serving.told("read anew")
            assert serving.end() == 0


@pytest.mark.parametrize("text", ["", "[server]\n"])
def test_no_reload_takes_the_last_key(tmp_path: Path, upstream: Upstream, text: str) -> None:
    """A file that is empty, cut or not there for a moment does not open a server that has keys."""
    path = settings(tmp_path, upstream, f'[keys]\nalice = "{hash_key(KEY)}"')
    with Process(path) as serving:
        if text:
            path.write_text(text)
        else:
            path.unlink()
        serving.process.send_signal(signal.SIGHUP)
        serving.told("have a fault")
        assert ask(serving.port, OPENAI.request()).status == 401
        assert ask(serving.port, OPENAI.request(headers=f"x-api-key: {KEY}\r\n")).status == 200


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="workers are found in Linux's /proc")
def test_workers_that_die_again_and_again_are_replaced(tmp_path: Path, upstream: Upstream) -> None:
    """A worker that is killed each time it is started is started once more, after a pause, and the others serve on."""
    with Process(settings(tmp_path, upstream), "--workers", "2") as serving:
        for _ in range(3):
            assert eventually(lambda: len(serving.children()) == 2)
            killed = max(serving.children())
            os.kill(killed, signal.SIGKILL)
            serving.told(f"The worker {killed} ended")
        serving.told("another in 1 s")
        assert eventually(lambda: len(serving.children()) == 2)
        assert ask(serving.port, OPENAI.request()).status == 200
        assert serving.end() == 0


def test_gives_up_when_no_worker_can_start(tmp_path: Path, upstream: Upstream) -> None:
    """Where no worker gets to serve the server ends with exit code 1, and the log says why."""
    path = settings(tmp_path, upstream)
    code = (
        "import sys\n"
        "from antiphon.server import run\n"
        "from failing import fail\n"
        "run._worker = fail\n"
        "from antiphon.cli import main\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    (tmp_path / "failing.py").write_text("def fail(*_arguments):\n    raise OSError('no such library')\n")
    (tmp_path / "starts.py").write_text(code)
    ended = subprocess.run(
        [sys.executable, tmp_path / "starts.py", "serve", "--config", path, "--port", "0", "--workers", "2"],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
    )
    words = ended.stderr.decode()
    assert (ended.returncode, "no such library" in words, "No worker can start" in words) == (1, True, True)


def finished(*arguments: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end."""
    return subprocess.run(
        [*program.PROGRAM, *arguments],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
    )


def test_port_in_use_is_a_sentence() -> None:
    """A port that somebody else has is told in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = finished("serve", "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 1
    assert "cannot listen on 127.0.0.1 port" in program.one_line(ended.stderr.decode())


def test_no_address_that_others_reach_without_a_key() -> None:
    """It does not listen where others can reach it unless there is a key."""
    ended = finished("serve", "--host", "0.0.0.0", "--port", "0")
    assert ended.returncode != 0
    assert "antiphon key new" in ended.stderr.decode()
    assert "listens at" not in ended.stderr.decode()


def test_check_tells_every_fault_and_serves_nothing(tmp_path: Path, upstream: Upstream) -> None:
    """`--check` only reads: it is content with what can be used, and tells the lines of all that cannot."""
    good = finished("serve", "--check", "--config", str(settings(tmp_path, upstream)))
    assert (good.returncode, b"listens at" in good.stdout + good.stderr) == (0, False)
    bad = tmp_path / "bad.toml"
    bad.write_text(f'[server]\nport = 70000\nhots = "x"\n[providers.up]\nkey = 7\nbase_url = "{CANARY}"\n')
    ended = finished("serve", "--check", "--config", str(bad))
    told = (ended.stdout + ended.stderr).decode()
    assert ended.returncode != 0
    for line in (":2: ", ":3: ", ":5: "):
        assert line in told
    assert "Traceback" not in told


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux tells of another process's limits")
def test_files_that_may_be_open(tmp_path: Path) -> None:
    """The server raises its bound on open files to what limits.concurrent takes, and says where the system has less."""
    (tmp_path / "settings.toml").write_text("[limits]\nconcurrent = 400\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))  # what the process starts with
    try:
        process = Process(tmp_path / "settings.toml")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with process as server:
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (1000, hard)

    if hard == resource.RLIM_INFINITY:
        return  # then there is nothing to say
    (tmp_path / "more.toml").write_text(f"[limits]\nconcurrent = {hard}\n")
    with Process(tmp_path / "more.toml") as server:
        assert server.told("files open").endswith(f"not for the {hard} of limits.concurrent.")
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in ways of its own")
def test_memory_of_large_requests_goes_back(tmp_path: Path, upstream: Upstream) -> None:
    """After requests of megabytes, the process has as much memory as after the first request."""
    with Process(settings(tmp_path, upstream)) as serving:
        assert ask(serving.port, OPENAI.request()).status == 200
        before = serving.resident()
        for size in (12, 11, 9, 10, 12, 7):
            name = "x" * size * 1_000_000
            assert ask(serving.port, OPENAI.request(model=name)).status == 400
        assert eventually(lambda: serving.resident() - before < 10_000_000)
