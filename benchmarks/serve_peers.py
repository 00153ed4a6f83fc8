"""The servers that are compared, each started as its documentation shows, in front of the same upstream.

All of them are used in a `with` block, and live in a folder that is theirs and gone afterwards.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from shutil import which
from types import TracebackType
from typing import Any, Self

from benchmarks.measure import ROOT, Process, environment
from benchmarks.subjects import ANSWER, KEY, MESSAGES, MODEL
from benchmarks.upstream import PACED

__all__ = ["PEERS", "Bench", "find"]

_READY = 60.0
"""Seconds that a server may take until it is ready."""
_WRK = """
local request_text = %s
request = function() return request_text end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('\\n{"requests": %%d, "us": %%d, "p50": %%d, "p99": %%d, "faults": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class Server:
    """The upstream itself, with nothing in front of it.

    Args:
        upstream: The port of the upstream.
        program: Where the program is that is started; this build is started with the interpreter that runs here.
    """

    title = "upstream alone"
    name = ""
    """What its program is called, where that is not this build."""
    prefix = ""
    """What stands before the upstream's name of a model."""
    headers: Mapping[str, str] = {}
    """What every request says besides."""
    ready_path = "/ready"
    process: int = 0
    """The id of its process; 0 for the upstream, whose process is none of this."""
    ready_after: float = 0.0
    """The milliseconds from the start of the process until it was ready."""

    def __init__(self, upstream: int, program: str = "") -> None:
        self.upstream = self.port = upstream
        self.program = program

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def request(self, *, words: int = 0, paced: bool = False, path: str = "/v1/chat/completions") -> str:
        """Return a request as it goes over the wire: for a stream of so many words, or for a whole answer."""
        body: dict[str, Any] = {"model": self.prefix + (PACED if paced else MODEL), "messages": MESSAGES}
        if path == "/v1/messages":
            system, *messages = MESSAGES
            body |= {"system": system["content"], "messages": messages, "max_tokens": 1024}
        if words:
            body |= {"stream": True, "max_tokens": words}
        text = json.dumps(body, separators=(",", ":"))
        head = {
            "host": f"127.0.0.1:{self.port}",
            "content-type": "application/json",
            "content-length": str(len(text)),
            "authorization": f"Bearer {KEY}",
            **self.headers,
        }
        return "".join(
            [f"POST {path} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in head.items()), "\r\n", text]
        )

    def check(self, path: str = "/v1/chat/completions") -> None:
        """See that it gives the upstream's answer.

        Raises:
            RuntimeError: It does not.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(self.request(path=path).encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            said = answer.read().decode(errors="replace")
        if answer.status != 200 or ANSWER not in said:
            raise RuntimeError(f"{self.title} does not give the upstream's answer, but {answer.status}: {said[:2000]}")


class Started(Server):
    """A server in a process of its own."""

    def command(self, folder: Path) -> Sequence[str]:
        """Write what the server needs into *folder*, and return what starts it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start it, and wait until it is ready.

        Raises:
            RuntimeError: It did not get ready.
        """
        self.port = _free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="antiphon-serve-")
        self._said = tempfile.TemporaryFile()
        command = self.command(Path(self._folder.name))
        began = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment(), "HOME": self._folder.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )
        self.process = self._process.pid
        try:
            self._wait(began + _READY)
            self.ready_after = (time.perf_counter() - began) * 1e3
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def pause(self, paused: bool) -> None:
        """Let it do nothing at all, or go on."""
        self._process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def _wait(self, until: float) -> None:
        while not self._is_ready():
            ended = self._process.poll()
            if ended is not None or time.perf_counter() > until:
                what = "is not ready" if ended is None else f"ended with {ended}"
                self._said.seek(0)
                raise RuntimeError(
                    f"{self.title} {what}. It said:\n{self._said.read().decode(errors='replace')[-4000:]}"
                )
            time.sleep(0.002)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self.pause(False)  # or it would not hear that
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()
        self._folder.cleanup()


class Nginx(Started):
    """nginx as a plain proxy: one process, connections kept, nothing held back, no log."""

    title = "nginx"
    name = "nginx"

    def command(self, folder: Path) -> Sequence[str]:
        for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
            (folder / name).mkdir()
        (folder / "nginx.conf").write_text(f"""
            daemon off;
            master_process off;
            worker_processes 1;
            pid {folder}/pid;
            error_log stderr crit;
            events {{ worker_connections 4096; }}
            http {{
                access_log off;
                client_body_temp_path {folder}/body;
                proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/fastcgi;
                uwsgi_temp_path {folder}/uwsgi;
                scgi_temp_path {folder}/scgi;
                keepalive_requests 1000000000;
                upstream up {{
                    server 127.0.0.1:{self.upstream};
                    keepalive 64;
                    keepalive_requests 1000000000;
                }}
                server {{
                    listen 127.0.0.1:{self.port} backlog=2048;
                    location / {{
                        proxy_pass http://up;
                        proxy_http_version 1.1;
                        proxy_set_header Connection "";
                        proxy_buffering off;
                    }}
                }}
            }}
        """)
        return [self.program, "-p", str(folder), "-e", "stderr", "-c", f"{folder}/nginx.conf"]


class Antiphon(Started):
    """This build, without its access log."""

    title = "antiphon"
    prefix = "up/"
    options: tuple[str, ...] = ("--no-access-log",)

    def command(self, folder: Path) -> Sequence[str]:
        config = folder / "antiphon.toml"
        config.write_text(f'[providers.up]\nformat = "openai-chat"\nbase_url = "http://127.0.0.1:{self.upstream}/v1"\n')
        code = "from antiphon.cli import main; main()"  # what the installed script does
        own = [sys.executable, "-c", code, "serve", "--config", str(config), "--port", str(self.port)]
        return [*own, *self.options]


class Logging(Antiphon):
    """This build as it is without options: with its access log, which goes nowhere here."""

    title = "antiphon, access log on"
    options = ()


class LiteLLM(Started):
    """LiteLLM's proxy."""

    title = "LiteLLM"
    name = "litellm"
    ready_path = "/health/readiness"

    def __init__(self, upstream: int, program: str = "") -> None:
        super().__init__(upstream, program)
        self._key = f"sk-{secrets.token_hex(32)}"  # it refuses to start without one
        self.headers = {"authorization": f"Bearer {self._key}"}

    def command(self, folder: Path) -> Sequence[str]:
        url = f"http://127.0.0.1:{self.upstream}/v1"
        models = [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": KEY}}
            for name in (MODEL, PACED)
        ]
        settings = {"model_list": models, "general_settings": {"master_key": self._key}}
        config = folder / "litellm.yaml"
        config.write_text(json.dumps(settings))  # JSON is YAML
        return [self.program, "--config", str(config), "--host", "127.0.0.1", f"--port={self.port}"]


class Portkey(Started):
    """Portkey's gateway; it cannot be told to listen on loopback alone."""

    title = "Portkey"
    name = "gateway"
    ready_path = "/"

    def __init__(self, upstream: int, program: str = "") -> None:
        super().__init__(upstream, program)
        url = f"http://127.0.0.1:{upstream}/v1"
        self.headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": url}

    def command(self, folder: Path) -> Sequence[str]:
        return [self.program, f"--port={self.port}", "--headless"]


SERVERS: dict[str, type[Server]] = {"straight": Server, "nginx": Nginx, "antiphon": Antiphon, "log": Logging}
PEERS: dict[str, type[Server]] = {"litellm": LiteLLM, "portkey": Portkey}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find(name: str, folders: Sequence[str] = (), *, beyond: bool = True) -> str | None:
    """Return where a program is: in *folders*, or *beyond* them where programs are.

    That includes the folder in which Debian has nginx, and which only root's own path names.
    """
    path = [*folders, os.environ.get("PATH", os.defpath), "/usr/sbin"] if beyond else folders
    return which(name, path=os.pathsep.join(path)) if path else None


class Bench:
    """What is shared: the upstream, the clients, and each server, started and checked when first used.

    Args:
        programs: Where each program is that was found: `wrk`, `nginx` and those of peers.
        quick: Whether to do much less, for a first look.
    """

    def __init__(self, programs: Mapping[str, str], *, quick: bool) -> None:
        self.programs = programs
        self.seconds = 1 if quick else 2
        self.notes: list[str] = []
        self._open = ExitStack()
        self._kept: dict[str, Server] = {}

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            upstream = opening.enter_context(Process(sys.executable, "-m", "benchmarks.upstream"))
            self._clients = opening.enter_context(Process(sys.executable, "-m", "benchmarks.serve_load"))
            self._folder = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="antiphon-serve-")))
            self._upstream = int(upstream.read())
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def fresh(self, name: str) -> Server:
        """Return a server that has not been started. Peers sleep meanwhile: some are busy even when nobody asks."""
        for other, server in self._kept.items():
            if isinstance(server, Started) and other in PEERS:
                server.pause(True)
        return ({**SERVERS, **PEERS})[name](self._upstream, self.programs.get(name, ""))

    def server(self, name: str) -> Server:
        """Return the server that stays."""
        new = self.fresh(name)
        if name not in self._kept:
            server = self._open.enter_context(new)
            server.check()
            self._kept[name] = server
        server = self._kept[name]
        if isinstance(server, Started):
            server.pause(False)
        return server

    def ask(self, task: str, server: Server, request: str, *arguments: Any) -> Any:
        """Give the clients an order, and return its figures.

        Raises:
            RuntimeError: An answer was not what it should be.
        """
        answer = self._clients.ask(task, server.port, request, *arguments)
        if isinstance(answer, dict) and (error := answer.get("error")):
            raise RuntimeError(f"{server.title}: {error}")
        return answer

    def wrk(self, server: Server, connections: int, **request: Any) -> Mapping[str, float]:
        """Ask for as many whole answers as there is time for.

        Returns:
            `requests`, how many; `rate`, how many a second; `p50` and `p99`, the microseconds that one takes.

        Raises:
            RuntimeError: Not every answer was good.
        """
        script = self._folder / "request.lua"
        script.write_text(_WRK % json.dumps(server.request(**request)))  # JSON's text in quotes is Lua's, too
        options = ["-t1", f"-c{connections}", f"-d{self.seconds}s", "-s", str(script)]
        done = subprocess.run(
            [self.programs["wrk"], *options, f"http://127.0.0.1:{server.port}"],
            env=environment(),
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"wrk ended with {done.returncode}. It said:\n{done.stderr or done.stdout}")
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if found["faults"] or not found["requests"]:
            raise RuntimeError(
                f"{server.title}: wrk counts {found['faults']:,} faults in {found['requests']:,} requests."
            )
        return {**found, "rate": found["requests"] / found["us"] * 1e6}
