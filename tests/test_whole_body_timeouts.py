"""Timeouts of whole answers: every byte of a body is progress; white space before it and pings of streams are none."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from types import TracebackType
from typing import Any, Self

import pytest

from antiphon import AsyncClient, Client
from antiphon.chat.answers import Completion
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError, APITimeoutError
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec, HTTPRequest
from antiphon.formats.cohere import Cohere
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses
from antiphon.http.exchange import HTTPTransport
from antiphon.http.transport import Timeout
from antiphon.providers.auth import no_auth
from antiphon.providers.base import Call
from antiphon.providers.http import HTTPProvider
from tests.peers import PATIENCE, Line, Peer, reply

pytestmark = pytest.mark.anyio

CODECS: list[Callable[[], Codec]] = [OpenAIChat, Responses, Anthropic, Gemini, Ollama, Cohere, Bedrock]
REQUEST = ChatRequest("m", (Message.user("hi"),))


class Paced:
    """A transport and its one reply: gives *pieces*, and notes before which of them the idle timeout began again."""

    status = 200

    def __init__(self, content_type: str, pieces: list[bytes]) -> None:
        self.content_type = content_type
        self.headers = {"content-type": content_type}
        self.taken = 0
        self.tokens: set[int] = set()
        self._pieces = pieces

    def open(
        self, url: str, request: HTTPRequest, *, headers: Mapping[str, str], timeout: Timeout
    ) -> AbstractAsyncContextManager[Self]:
        """Give the reply."""
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def got_token(self) -> None:
        """Note it."""
        self.tokens.add(self.taken)

    async def settle(self) -> None:
        """Wait for nothing."""

    async def read(self, limit: int) -> bytes:
        """Read all."""
        return b"".join(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            yield piece

    async def aclose(self) -> None:
        """Close nothing."""


async def tokens(codec: Codec, request: ChatRequest, content_type: str, pieces: list[bytes]) -> set[int]:
    """Read an answer of *pieces* and return after which of them the idle timeout began again."""
    paced = Paced(content_type, pieces)
    endpoint = HTTPProvider("mine", codec, "http://localhost/v1", auth=no_auth, transport=paced)
    async with aclosing(endpoint(request, Call())) as events:
        async for _ in events:
            pass
    return paced.tokens


@pytest.mark.parametrize(
    ("codec", "streamed"),
    # Where a stream was asked, Bedrock and Ollama do not send a whole answer.
    [(codec, False) for codec in CODECS] + [(codec, True) for codec in CODECS if codec not in (Bedrock, Ollama)],
)
async def test_each_byte_of_a_whole_answer_is_progress(codec: Callable[[], Codec], streamed: bool) -> None:
    """The idle timeout begins again with each piece of a whole answer, in every format."""
    made = codec()
    body = made.encode_response(Completion.of("hi"))
    pieces = [body[at : at + 5] for at in range(0, len(body), 5)]
    got = await tokens(made, REQUEST.but(stream=streamed), "application/json; charset=utf-8", pieces)
    assert got >= set(range(1, len(pieces) + 1))


@pytest.mark.parametrize("codec", CODECS)
async def test_white_space_before_a_whole_answer_is_none(codec: Callable[[], Codec]) -> None:
    """What a provider sends while a request waits for its turn leaves the first-token timeout running."""
    body = codec().encode_response(Completion.of("hi"))
    got = await tokens(codec(), REQUEST, "application/json", [b"\n", b" ", b"\r\n\t", b"\n" + body[:5], body[5:]])
    assert got == {4, 5}


async def test_pings_of_a_stream_are_none() -> None:
    """Comments of a stream leave the timeouts running, whatever it is called."""
    chunk = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    pieces = [b": ping\n\n", b": ping\n\n", chunk, b": ping\n\n", b"data: [DONE]\n\n"]
    for content_type in ("text/event-stream", "application/json"):
        for streamed in (True, False):
            assert await tokens(OpenAIChat(), REQUEST.but(stream=streamed), content_type, pieces) == {3}


def dripping(body: bytes, status: str = "200 OK") -> Callable[[Line], None]:
    """Send the head of an answer at once, and its body in ten pieces with a pause before each."""
    whole = reply(body, "content-type: application/json", status=status)
    head, _, body = whole.partition(b"\r\n\r\n")

    def script(line: Line) -> None:
        line.request()
        line.send(head + b"\r\n\r\n")
        step = -(-len(body) // 10)
        for at in range(0, len(body), step):
            pause.wait(0.1)
            line.send(body[at : at + step])
        line.wait_for_close()

    pause = threading.Event()
    return script


CHAT = OpenAIChat().encode_response(Completion.of("hi"))
SHORT = Timeout(first_token=0.5, idle=0.5)
VECTORS = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1.0]}],"model":"m"}'
MODELS = b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"x"}]}'


async def test_slow_whole_answers(no_leaks: None) -> None:
    """An answer, vectors and a list of models may take longer than the first-token timeout, as long as bytes come."""
    calls: list[tuple[bytes, Callable[[AsyncClient], Any]]] = [
        (CHAT, lambda client: client.chat.completions.create("hi", "m")),
        (VECTORS, lambda client: client.embeddings.create("hi", "m")),
        (MODELS, lambda client: client.models.list()),
    ]
    for body, ask in calls:
        with Peer(dripping(body)) as peer:
            async with AsyncClient(base_url=peer.url(""), api_key="k", timeout=SHORT) as client:
                assert await ask(client)


def test_slow_whole_answer_for_blocking_code(no_leaks: None) -> None:
    """The same with the blocking client."""
    with Peer(dripping(CHAT)) as peer, Client(base_url=peer.url(""), api_key="k", timeout=SHORT) as client:
        assert client.chat.completions.create("hi", "m").content == "hi"


@pytest.mark.parametrize(("sent", "name"), [(b"", "first-token"), (b" \n", "first-token"), (b'{"id":', "idle")])
async def test_whole_answer_that_stops(no_leaks: None, sent: bytes, name: str) -> None:
    """Without a byte of the body the first-token timeout ends the wait, and after one the idle timeout does."""

    def script(line: Line) -> None:
        line.request()
        line.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n" + sent)
        line.wait_for_close()

    limits = Timeout(first_token=0.1, idle=PATIENCE) if name == "first-token" else Timeout(PATIENCE, PATIENCE, 0.1)
    with Peer(script) as peer:
        async with AsyncClient(base_url=peer.url(""), api_key="k", timeout=limits) as client:
            for ask in (client.chat.completions.create("hi", "m"), client.models.list()):
                with pytest.raises(APITimeoutError, match=name):
                    await ask


async def test_slow_error_is_not_waited_for(no_leaks: None) -> None:
    """The body of an error, whose status says enough, gets no more time than the first token of an answer."""
    with Peer(dripping(b'{"error":{"message":"no"}}', "429 Too Many Requests")) as peer:
        transport = HTTPTransport()
        request = HTTPRequest(path="/", body=b"{}")
        async with transport.open(peer.url(), request, headers={}, timeout=Timeout(first_token=0.25)) as answer:
            with pytest.raises(APIError, match="first-token"):
                await answer.read(1000)
        await transport.aclose()


@pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests"])
async def test_long_header_fields_are_left_out(no_leaks: None, status: str) -> None:
    """A field of a reply that is longer than 1,024 characters reaches no caller, whose log or answer it would fill."""

    def script(line: Line) -> None:
        line.request()
        long = ["x-request-id: " + "a" * 9000, "x-ratelimit-limit-tokens: " + "9" * 9000]
        line.send(reply(CHAT, "content-type: application/json", "x-ratelimit-limit-requests: 7", *long, status=status))
        line.wait_for_close()

    with Peer(script) as peer:
        async with AsyncClient(base_url=peer.url(""), api_key="k") as client:
            if status == "200 OK":
                answer = await client.chat.completions.create("hi", "m")
                assert (answer.request_id, dict(answer.headers)) == (None, {"x-ratelimit-limit-requests": "7"})
            else:
                with pytest.raises(APIError) as raised:
                    await client.chat.completions.create("hi", "m")
                assert raised.value.request_id is None
