"""The servers that are compared, each started as its documentation shows, in front of the same upstream.

All of them are used in a `with` block, and live in a folder that is theirs and gone afterwards.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which
from types import TracebackType
from typing import Any, Self

from benchmarks.measure import ROOT, environment
from benchmarks.subjects import ANSWER, KEY, MESSAGES, MODEL
from benchmarks.upstream import PACED

__all__ = ["SERVERS", "Antiphon", "LiteLLM", "Logging", "Nginx", "Portkey", "Server"]

_READY = 60.0
"""Seconds that a server may take until it is ready."""


class Server:
    """The upstream itself, with nothing in front of it.

    Args:
        upstream: The port of the upstream.
    """

    title = "upstream alone"
    prefix = ""
    """What stands before the upstream's name of a model."""
    headers: Mapping[str, str] = {}
    """What every request says besides."""
    ready_path = "/ready"
    process: int = 0
    """The id of its process; 0 for the upstream, whose process is none of this."""
    ready_after: float = 0.0
    """The milliseconds from the start of the process until it was ready."""

    def __init__(self, upstream: int) -> None:
        self.upstream = self.port = upstream

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
        return [_program("nginx") or "nginx", "-p", str(folder), "-e", "stderr", "-c", f"{folder}/nginx.conf"]


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
    """LiteLLM's proxy, from the folder where its program is."""

    title = "LiteLLM"
    program = "litellm"
    ready_path = "/health/readiness"

    def __init__(self, upstream: int, program: str = "") -> None:
        super().__init__(upstream)
        self._at = program

    def command(self, folder: Path) -> Sequence[str]:
        url = f"http://127.0.0.1:{self.upstream}/v1"
        models = [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": KEY}}
            for name in (MODEL, PACED)
        ]
        config = folder / "litellm.yaml"
        config.write_text(json.dumps({"model_list": models}))  # JSON is YAML
        return [
            self._at,
            "--config",
            str(config),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--num_workers",
            "1",
        ]


class Portkey(Started):
    """Portkey's gateway, from the folder `.bin` where npm installed its program."""

    title = "Portkey"
    program = "gateway"
    ready_path = "/"

    def __init__(self, upstream: int, program: str = "") -> None:
        super().__init__(upstream)
        self._at = program
        url = f"http://127.0.0.1:{upstream}/v1"
        self.headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": url}

    def command(self, folder: Path) -> Sequence[str]:
        return [self._at, f"--port={self.port}", "--headless"]


SERVERS: dict[str, type[Server]] = {"straight": Server, "nginx": Nginx, "antiphon": Antiphon, "log": Logging}
PEERS: dict[str, type[LiteLLM] | type[Portkey]] = {"litellm": LiteLLM, "portkey": Portkey}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str) -> str | None:
    """Return where a program is; Debian puts nginx where only root looks."""
    return which(name) or which(name, path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
