"""docs/serve.md against the code: its blocks run, and its tables are those of the server."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import pytest
import trustme
import yaml

from antiphon.chat.losses import Loss
from antiphon.chat.usage import Usage
from antiphon.errors import AntiphonError
from antiphon.server.application import Application
from antiphon.server.chat import Chat
from antiphon.server.exchange import Exchange, Outcome
from antiphon.server.log import line
from antiphon.server.middleware import UNAUTHENTICATED_PATHS
from antiphon.settings import config
from antiphon.settings.config import Config, ServerSettings
from antiphon.settings.keys import AccessKeys, hash_key
from antiphon.testing import Upstream
from tests.program import PATIENCE, posix_only
from tests.server.clients import row
from tests.serving import Serving

PAGE = Path(__file__).parent.parent / "docs" / "serve.md"
TEXT = PAGE.read_text()
ADDRESS = "http://127.0.0.1:4114"
MODEL = "llama-3.1-8b-instant"
KEY = "ap-0123456789abcdefghijklmnopqrstuvwxyz"


class Block(NamedTuple):
    """A block of code: its language, its text, its first line in the page, and why it does not run here, if so."""

    language: str
    text: str
    line: int
    excuse: str


def _blocks() -> Iterator[Block]:
    for found in re.finditer(r"^(?:<!-- not run: ([^\n]+) -->\n)?```(\w+)\n(.*?)^```$", TEXT, re.M | re.S):
        yield Block(found[2], found[3], TEXT.count("\n", 0, found.start(3)) + 1, found[1] or "")


BLOCKS = list(_blocks())


def blocks(language: str) -> list[Any]:
    """Return the parameters of a test that runs each block in *language*."""
    return [pytest.param(b, id=f"line {b.line}") for b in BLOCKS if b.language == language and not b.excuse]


def table(first: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is *first*, cell by cell."""
    found = re.search(rf"^\| {first} \|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", TEXT, re.M)
    assert found is not None, f"no table begins with {first!r}"
    return [[cell.strip() for cell in text.strip("|").split("|")] for text in found[1].splitlines()]


def quoted(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server whose provider `groq` says hello."""
    with Upstream("Hello there", models=(MODEL,)) as upstream, Serving({"groq": row(upstream, id="groq")}) as serving:
        yield serving


def run(command: list[str], tmp_path: Path, **environ: str) -> str:
    """Run *command* as a user would who has the environment of this Python active; return what it prints."""
    done = subprocess.run(
        command,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LLM_USER_PATH": os.fspath(tmp_path),
            **environ,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_is_run_or_has_its_reason() -> None:
    """No block is of a language that nothing here reads, unless the page says why it does not run."""
    assert {b.language for b in BLOCKS if not b.excuse} == {"python", "sh", "toml", "yaml", "nginx"}
    assert len(BLOCKS) == TEXT.count("\n```") / 2


@pytest.mark.parametrize("block", blocks("python"))
def test_python_block_gets_an_answer(block: Block, server: Serving, tmp_path: Path) -> None:
    """A client that is set up as the page says prints what the provider says, and nothing else."""
    printed = run([sys.executable, "-c", block.text.replace(ADDRESS, server.address)], tmp_path)
    assert set(printed.splitlines()) == {"Hello there"}


SHELL: dict[str, Callable[[str], bool]] = {
    "antiphon serve": lambda text: "127.0.0.1, port 4114" in text,
    "curl": lambda text: '"content":"Hello there"' in text and text.rstrip().endswith('{"type":"message_stop"}'),
    "llm": lambda text: text.strip() == "Hello there",
    "antiphon key": lambda text: re.fullmatch(r"ap-[\w-]{43}\n", text) is not None,
    "ANTIPHON_SERVER_KEYS": lambda text: "0.0.0.0" in text and "env-1" in text,
}
"""What a block prints, by how it begins."""


@posix_only
@pytest.mark.parametrize("block", blocks("sh"))
def test_commands_work(block: Block, server: Serving, tmp_path: Path) -> None:
    """The commands of a block end well and print what they are for; a server is only checked, not started."""
    (found,) = [check for start, check in SHELL.items() if block.text.startswith(start)]
    if block.text.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (models,) = [b.text for b in BLOCKS if b.language == "yaml" and not b.excuse]
    (tmp_path / "extra-openai-models.yaml").write_text(models.replace(ADDRESS, server.address))
    text = re.sub(r"(antiphon serve\b[^\n]*)", r"\1 --check", block.text).replace(ADDRESS, server.address)
    assert found(printed := run(["sh", "-euc", text], tmp_path)), printed


@pytest.mark.parametrize("block", blocks("toml"))
def test_settings_hold(block: Block, tmp_path: Path) -> None:
    """A piece of a configuration has no fault."""
    file = tmp_path / "antiphon.toml"
    file.write_text(block.text)
    assert config.load(file).path == file


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("yaml", "json")], ids=lambda b: f"line {b.line}")
def test_settings_of_others_are_well_formed(block: Block) -> None:
    """What goes into the files of others can be read, whether or not they run here."""
    assert yaml.safe_load(block.text)  # JSON is YAML, too


CALLS = {
    "OPENAI_BASE_URL": "from openai import OpenAI; print(OpenAI().models.list().data[-1].id)",
    "ANTHROPIC_BASE_URL": "from anthropic import Anthropic; print(Anthropic().models.list().data[-1].id)",
    "GOOGLE_GEMINI_BASE_URL": "from google.genai import Client; c = Client(); print(list(c.models.list())[-1].name)",
    "OLLAMA_HOST": "import ollama; print(ollama.list().models[-1].model)",
}


@pytest.mark.parametrize("variable", CALLS)
def test_variables_point_the_clients_here(variable: str, server: Serving, tmp_path: Path) -> None:
    """With the variable of the table, a client that is told nothing asks this server."""
    values = {quoted(name)[0]: quoted(value)[0] for name, value in table("variable")}
    assert values.keys() == CALLS.keys()
    keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "unused")
    there = values[variable].replace(ADDRESS, server.address)
    printed = run([sys.executable, "-c", CALLS[variable]], tmp_path, **keys, **{variable: there})
    assert printed.strip().removeprefix("models/") == f"groq/{MODEL}"


def test_paths_are_those_of_the_application() -> None:
    """The table has each route, with its method, its dialect and whether it takes a key, and nothing else."""
    routes = Application(Config(server=ServerSettings(metrics=True))).routes
    told = {quoted(path)[0]: (quoted(method)[0], key) for method, path, _, key in table("method")}
    assert len(told) == len(table("method"))
    assert told == {
        route.path.replace(":path}", "}"): (
            (*(route.methods or set()) - {"HEAD"},)[0],
            "no" if route.path in UNAUTHENTICATED_PATHS else "yes",
        )
        for route in routes
    }
    names = {"openai-chat": "OpenAI Chat Completions", "openai-responses": "OpenAI Responses"}
    names |= {"openai-text": "OpenAI Completions", "anthropic": "Anthropic Messages"}
    names |= {"gemini": "Gemini", "ollama": "Ollama"}
    dialects = {quoted(path)[0]: dialect for _, path, dialect, _ in table("method")}
    for route in routes:
        if isinstance(route.app, Chat):
            assert dialects[route.path.replace(":path}", "}")] == names[route.app.dialect.name]


def test_log_fields_are_those_of_the_log() -> None:
    """The table has each field of a line that has them all, in the order in which they come."""

    async def nothing(_message: object = None) -> dict[str, Any]:
        return {}

    exchange = Exchange({"method": "POST", "path": "/", "headers": []}, nothing, nothing)
    exchange.status, exchange.error, exchange.operation, exchange.key = 200, "bad_request", "chat", "alice"
    exchange.model, exchange.provider, exchange.provider_id, exchange.streamed = "m", "p", "req_1", True
    exchange.queued = exchange.first = 1.0
    exchange.usage = Usage(input_uncached=1, output_visible=1)
    exchange.losses = (Loss("$.top_k", "dropped", "no such field"),)
    assert [name for cells in table("field") for name in quoted(cells[0])] == list(line(exchange))


def test_outcomes_are_those_of_the_code() -> None:
    """The table names each way in which a request ends."""
    (cell,) = [cells[1] for cells in table("field") if quoted(cells[0]) == ["outcome"]]
    assert tuple(quoted(cell)) == get_args(Outcome)


def test_operations_are_those_of_the_routes(server: Serving) -> None:
    """The table names what the log says is asked, for every route that answers chats."""
    (cell,) = [cells[1] for cells in table("field") if quoted(cells[0]) == ["operation"]]
    chats = {route.app.operation for route in server.application.routes if isinstance(route.app, Chat)}
    assert set(quoted(cell)) == chats | {"embeddings", "count_tokens", "models", "status", "metrics"}


def test_metrics_are_those_of_the_server() -> None:
    """The table has each metric that is told, with its labels."""
    with Upstream("Hello there") as upstream:
        settings = Config(server=ServerSettings(metrics=True))
        with Serving({"up": row(upstream)}, settings) as serving:
            body = {"model": "up/m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            assert fetch(serving.port, "POST", "/v1/chat/completions", msgspec.json.encode(body))[0] == 200
            serving.wait()
            text = fetch(serving.port, "GET", "/metrics")[2].decode()
    names = [name for name in re.findall(r"^# TYPE (\S+)", text, re.M) if not name.endswith("_created")]
    assert [quoted(cells[0])[0] for cells in table("metric")] == names
    (three,) = re.findall(r"^The three are (.*)\.$", TEXT, re.M)
    for name, cells in zip(names, table("metric"), strict=True):
        labels = set(re.findall(r'(\w+)="', "".join(re.findall(rf"^{name}(?:_count)?(\{{.*\}}) ", text, re.M))))
        if labels:
            beside = set(quoted(cells[1]))
            assert labels == (beside if "without" in cells[1] else beside | set(quoted(three)))


def fetch(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    """Send a request and return status, header fields and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


LIMITS = {f"limits.{name}" for name in config.Limits.__struct_fields__}
CLOCKS = {f"timeouts.{name}" for name in config.Timeouts.__struct_fields__}


def test_limits_and_clocks_are_all_told() -> None:
    """Each limit and each clock has its place in the page, and the page knows no other."""
    told = set(re.findall(r"`((?:limits|timeouts)\.\w+)`", TEXT))
    assert told == LIMITS | CLOCKS


class TestNginx:
    """The example of a proxy, in a real nginx with TLS."""

    @pytest.fixture
    def proxied(self, tmp_path: Path) -> Iterator[Callable[[Serving], HTTPSConnection]]:
        """Give what starts nginx before a server, and returns a connection to it."""
        program = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
        if program is None:
            pytest.skip("nginx is not installed")
        authority = trustme.CA()
        pair = authority.issue_cert("chat.example", "127.0.0.1").private_key_and_cert_chain_pem
        pair.write_to_path(os.fspath(tmp_path / "pair.pem"))
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        with ExitStack() as stack:

            def start(serving: Serving) -> HTTPSConnection:
                with socket.create_server(("127.0.0.1", 0)) as listener:
                    port = listener.getsockname()[1]
                (tmp_path / "nginx.conf").write_text(_around(serving, port, tmp_path))
                process = subprocess.Popen(
                    [program, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"],
                    stderr=subprocess.DEVNULL,
                )
                stack.callback(process.wait, PATIENCE)
                stack.callback(process.terminate)
                connection = HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=trust)
                stack.callback(connection.close)
                while process.poll() is None:
                    try:
                        connection.connect()
                        return connection
                    except ConnectionRefusedError:  # it does not listen yet
                        os.sched_yield()
                raise AssertionError((tmp_path / "error.log").read_text())

            yield start

    def test_pieces_of_a_stream_pass_as_they_come(self, proxied: Callable[[Serving], HTTPSConnection]) -> None:
        """The first piece is at the client while the provider still holds the second."""
        arrived = threading.Event()

        def slow(model: str, messages: list[dict[str, Any]], **params: Any) -> Iterator[str]:
            yield "one"
            assert arrived.wait(PATIENCE), "the first piece was held back"
            yield "two"

        keys = AccessKeys({"alice": hash_key(KEY)})
        with Serving({"slow": slow}, Config(keys=keys)) as serving:
            connection = proxied(serving)
            body = {"model": "slow/m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            fields = {"host": "chat.example", "authorization": f"Bearer {KEY}"}
            connection.request("POST", "/v1/chat/completions", msgspec.json.encode(body), fields)
            reply = connection.getresponse()
            heard = b""
            while b'"one"' not in heard and (piece := reply.readline()):
                heard += piece
            arrived.set()
            heard += reply.read()
        assert heard.endswith(b"data: [DONE]\n\n")
        assert b'"two"' in heard

    def test_without_keys_the_proxy_lets_nobody_in(self, proxied: Callable[[Serving], HTTPSConnection]) -> None:
        """A server that was put behind a proxy without keys refuses what comes by the proxy's name."""
        with Serving() as serving:
            connection = proxied(serving)
            connection.request("GET", "/v1/models", headers={"host": "chat.example"})
            reply = connection.getresponse()
            assert (reply.status, b"origin_not_allowed" in reply.read()) == (403, True)


def _around(serving: Serving, port: int, folder: Path) -> str:
    """Return settings of nginx with the page's example, at *port* before *serving*, that write to *folder* alone."""
    (block,) = [b.text for b in BLOCKS if b.language == "nginx"]
    block = block.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace(ADDRESS, serving.address)
    block = re.sub(r"(ssl_certificate(?:_key)?) [^;]+", rf"\1 {folder}/pair.pem", block)
    parts = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{part}_temp_path {folder}/{part};" for part in parts)
    return (
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;"
        f"events {{}} http {{ access_log off; {paths} {block} }}"
    )


def test_links_lead_somewhere() -> None:
    """A link to a file of the project names one that is there."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT)
    assert targets
    assert all((PAGE.parent / target).exists() for target in targets)


def test_open_address_takes_a_key(tmp_path: Path) -> None:
    """Where others can reach the server, settings without a key are a fault that says how to make one."""
    with pytest.raises(AntiphonError, match="antiphon key new"):
        config.load(None, {"server.host": "0.0.0.0"})
