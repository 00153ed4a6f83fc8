"""Large requests: what they may hold is bounded before it is looked at, and other requests do not wait for them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import msgspec
import pytest

from antiphon.chat.embeddings import EmbeddingRequest
from antiphon.errors import BadRequestError
from antiphon.formats import read
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import HTTPRequest
from antiphon.formats.embeddings import BedrockEmbeddings
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.exchange import HTTPTransport
from antiphon.providers.auth import no_auth
from antiphon.providers.base import Call
from antiphon.providers.http import HTTPProvider
from antiphon.settings.config import Config, Limits
from antiphon.sync.blocking import LARGE
from antiphon.testing import Upstream
from tests.server.test_dialects import WHOLE, ask, row
from tests.serving import Serving

MOST = 1000


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server that takes few values, and few texts for embeddings."""
    config = Config(limits=Limits(values=MOST, inputs=3))
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}, config) as serving:
        yield serving


PLACES: dict[str, Callable[[dict[str, Any]], None]] = {
    "fields": lambda body: body.update({f"k{n}": 1 for n in range(MOST)}),
    "list": lambda body: body.update(x=[0] * MOST),
    "nested": lambda body: body.update(x=[{"y": [{}] * 9}] * (MOST // 9)),
    "stops": lambda body: body.update(stop=["x"] * MOST),
    "tools": lambda body: body.update(tools=[{"type": "function", "function": {"name": "f"}}] * (MOST // 3)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", [*(path for path, _ in WHOLE.values()), "/v1/messages/count_tokens", "/api/show"])
def test_more_values_than_the_server_takes_are_refused_everywhere(server: Serving, path: str, place: str) -> None:
    """Every API refuses a body of too many values, wherever they are, and names the setting."""
    body: dict[str, Any] = next((dict(body) for known, body in WHOLE.values() if known == path), {})
    body = body or {"model": "up/x", "messages": [], "max_tokens": 9}
    PLACES[place](body)
    status, _, answer = ask(server, "POST", path, body | {"pad": "x" * LARGE})
    assert (status, b"limits.values" in answer, b"1,000" in answer) == (400, True, True), answer[:300]
    assert ask(server, "POST", path, body)[0] == 400, "and a small one, too"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "up/x", "input": ["x"] * 4}),
        ("/api/embed", {"model": "up/x", "input": ["x"] * 4}),
        (
            "/v1beta/models/up%2Fx:batchEmbedContents",
            {"requests": [{"model": "models/up/x", "content": {"parts": [{"text": "x"}]}}] * 4},
        ),
    ],
)
def test_more_texts_than_the_server_takes_are_refused(server: Serving, path: str, body: dict[str, Any]) -> None:
    """Every API for embeddings refuses too many texts, and names the setting."""
    status, _, answer = ask(server, "POST", path, body)
    assert (status, b"limits.inputs" in answer) == (400, True), answer


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ([0] * 9, 10),
        ({f"k{n}": n for n in range(9)}, 10),
        ([[0, 0, 0], [0, 0, 0]], 9),
        (['a,b,[{"\\', "\\\\", '\\",["', ""] * 2, 9),
        ({',[{"': ',[{"\\', "\\": "\\\\"}, 3),
        ("," * 99, 1),
    ],
)
def test_values_are_counted_as_they_are(value: Any, count: int) -> None:
    """What stands in strings is no value, whatever is escaped there."""
    for data in (json.dumps(value).encode(), msgspec.json.encode(value), json.dumps(value, indent=3).encode()):
        read.check_size(data, count)
        if count > 1:
            with pytest.raises(BadRequestError, match=r"limits\.values"):
                read.check_size(data, count - 1)


def test_text_of_commas_and_brackets_is_no_matter_of_values() -> None:
    """Code in a message may be as long as the body may be."""
    read.check_size(json.dumps({"content": 'f({"a": [1, 2]}, [3])\n' * 20_000}).encode(), 10)


@pytest.mark.parametrize("data", [b'"' * 10_000, b'"\\' * 10_000, b"\\" * 10_000, b"," * 10_000, b"[" * 10_000])
def test_what_is_no_json_is_not_looked_at_for_long(data: bytes) -> None:
    """Bytes that are no JSON are either refused at once or left to the decoder, which refuses them."""

    def look() -> None:
        read.check_size(data, 10)
        read.body(data)

    with pytest.raises(BadRequestError):
        look()


@pytest.mark.parametrize(
    ("content", "large"),
    [
        ("x", False),
        ("x" * 100_000, False),
        ("x" * 16 * LARGE, True),
        ([{"type": "text", "text": "x"}] * 100, False),
        ([{"type": "text", "text": "x"}] * 500, True),
    ],
    ids=["small", "long", "longer", "parts", "many-parts"],
)
def test_large_requests_are_read_and_written_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch, content: Any, large: bool
) -> None:
    """A large request is decoded and written for its provider in a thread of its own, a small one where it is."""
    threads: dict[str, str] = {}

    def note(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def noting(*args: Any, **kwargs: Any) -> Any:
            threads[name] = threading.current_thread().name
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, noting)

    note(Anthropic, "decode_request")
    note(OpenAIChat, "encode_request")
    with Upstream("Hello there") as upstream, Serving({"up": row(upstream)}) as serving:
        body = {"model": "up/x", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
        assert ask(serving, "POST", "/v1/messages", body)[0] == 200
    apart = {name: thread == "antiphon-blocking" for name, thread in threads.items()}
    assert apart == dict.fromkeys(("decode_request", "encode_request"), large)


def test_large_answers_are_read_and_written_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a large whole answer, on its way in and out."""
    threads: list[str] = []
    write = Anthropic.encode_response

    def noting(codec: Anthropic, completion: Any) -> bytes:
        threads.append(threading.current_thread().name)
        return write(codec, completion)

    monkeypatch.setattr(Anthropic, "encode_response", noting)
    body = {"model": "up/x", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    for text in ("x", "x" * LARGE):
        with Upstream(text) as upstream, Serving({"up": row(upstream)}) as serving:
            assert ask(serving, "POST", "/v1/messages", body)[0] == 200
    assert [name == "antiphon-blocking" for name in threads] == [False, True]


@pytest.mark.anyio
async def test_texts_that_are_asked_for_one_by_one_are_written_when_their_turn_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A provider that takes one text a request gets a few at once, whose bodies alone exist, from a few tasks."""
    tasks_before = len(asyncio.all_tasks())
    seen: list[tuple[int, int]] = []
    under_way: list[HTTPRequest] = []

    async def ask(self: HTTPProvider, http: HTTPRequest, call: Call) -> bytes:
        under_way.append(http)
        await anyio.lowlevel.checkpoint()
        seen.append((len(under_way), len(asyncio.all_tasks()) - tasks_before))
        under_way.remove(http)
        return b'{"embedding":[0.5]}'

    monkeypatch.setattr(HTTPProvider, "_ask", ask)
    codec = BedrockEmbeddings()
    requests = codec.encode(EmbeddingRequest("titan", tuple(map(str, range(500)))))
    assert requests[7] == requests[7] is not requests[7], "made when it is asked for"
    assert [request.body for request in requests[2:4]] == [b'{"inputText":"2"}', b'{"inputText":"3"}']
    transport = HTTPTransport()
    endpoint = HTTPProvider("up", Bedrock(), "http://up.example", auth=no_auth, transport=transport, embeddings=codec)
    vectors = await endpoint.embed(EmbeddingRequest("titan", ("x",) * 500), Call())
    await transport.aclose()
    assert len(vectors.data) == len(seen) == 500
    assert max(seen) <= (8, 8)
