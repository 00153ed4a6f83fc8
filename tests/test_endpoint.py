"""The handler that meets an upstream: what it sends, how it listens, what it tells of a failure."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import Client
from antiphon.chat.events import Event, Folder, TextDelta, fold
from antiphon.chat.messages import Annotation, Message, Opaque, Text, ToolResult
from antiphon.chat.requests import ChatRequest
from antiphon.errors import (
    APIConnectionError,
    APIError,
    BadRequestError,
    InternalServerError,
    RateLimitError,
    ResponseTooLargeError,
    StreamError,
)
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec, HTTPRequest
from antiphon.formats.gemini import Gemini, Vertex
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.exchange import HTTPTransport
from antiphon.http.transport import Timeout
from antiphon.providers.auth import Secret, bearer, no_auth
from antiphon.providers.base import Call
from antiphon.providers.http import HTTPProvider
from antiphon.testing import Fault, Upstream

KEY = "sk-canary-0123456789abcdef"
REQUEST = ChatRequest("m", (Message.user("hi"),))
STREAMED = REQUEST.but(stream=True)
WHOLE = (
    b'{"id":"c","model":"m-1","created":1,"choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}'
)


def frame(delta: str, finish: str = "null") -> bytes:
    """One chunk of a stream."""
    return b'data: {"id":"c","model":"m-1","created":1,"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}\n\n' % (
        delta.encode(),
        finish.encode(),
    )


ROLE, ONE, TWO, STOP = (
    frame('{"role":"assistant"}'),
    frame('{"content":"a"}'),
    frame('{"content":"b"}'),
    frame("{}", '"stop"'),
)
DONE = b"data: [DONE]\n\n"
STREAM = (ROLE, ONE, TWO, STOP, DONE)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Endpoints know of no event loop, so they run on both."""
    return request.param


class Scripted:
    """A transport and its one reply: gives the pieces in order, raises those that are errors, notes what happens."""

    def __init__(self, *pieces: bytes | Exception, status: int = 200, content_type: str = "", **headers: str) -> None:
        kind = "text/event-stream" if any(b"data:" in p for p in pieces if isinstance(p, bytes)) else "application/json"
        self.pieces = pieces
        self.status = status
        self.content_type = content_type or kind
        self.headers: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
        self.opened: dict[str, Any] = {}
        self.log: list[Any] = []
        self.left: Iterator[tuple[int, Any]] = iter(())

    def open(self, url: str, request: HTTPRequest, *, headers: Mapping[str, str], timeout: Timeout) -> Self:
        """Note what is to be sent."""
        self.opened = {"url": url, "request": request, "headers": headers, "timeout": timeout}
        return self

    async def __aenter__(self) -> Self:
        self.log.append("open")
        if self.pieces and isinstance(self.pieces[0], APIConnectionError):
            raise self.pieces[0]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log.append("close" if kind is None else kind.__name__)

    def __aiter__(self) -> Self:
        self.left = enumerate(self.pieces)
        return self

    async def __anext__(self) -> bytes:
        for number, piece in self.left:
            self.log.append(number)
            if isinstance(piece, Exception):
                raise piece
            return piece
        raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        """Give the whole body."""
        body = b"".join([piece async for piece in self])
        if len(body) > limit:
            raise ResponseTooLargeError("too large")
        return body

    def got_token(self) -> None:
        """Note it."""
        self.log.append("token")

    async def settle(self) -> None:
        """Note it."""
        self.log.append("settle")

    async def aclose(self) -> None:
        """Do nothing."""


def endpoint(transport: Any, key: str | None = KEY, codec: OpenAIChat | None = None, **options: Any) -> HTTPProvider:
    """An endpoint named "p" at http://localhost/v1."""
    secret = Secret(key) if key else None
    return HTTPProvider(
        "p",
        codec or OpenAIChat(),
        "http://localhost/v1/",
        auth=bearer(secret) if secret else no_auth,
        transport=transport,
        secrets=(secret,) if secret else (),
        **options,
    )


async def play(made: HTTPProvider, request: ChatRequest = REQUEST, call: Call | None = None) -> list[Event]:
    """All events of one call."""
    async with aclosing(made(request, call or Call())) as events:
        return [event async for event in events]


# --- what is sent


def test_exact_bytes() -> None:
    """What leaves the machine is this and nothing else."""
    with Upstream() as upstream, Client(base_url=upstream.base_url, api_key=KEY) as client:
        client.chat.completions.create("grüß", "m", temperature=0, stop=["x"], extra_headers={"X-Trace": "7"})
        list(client.chat.completions.create("hi", "m", stream=True))
        whole, streamed = upstream.requests
    assert (whole.method, whole.path) == ("POST", "/v1/chat/completions")
    assert whole.body == (
        '{"model":"m","messages":[{"role":"user","content":"grüß"}],"temperature":0,"stop":["x"]}'.encode()
    )
    assert streamed.body == (
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,'
        b'"stream_options":{"include_usage":true}}'
    )
    expected = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": str(len(whole.body)),
        "x-trace": "7",
        "accept": "application/json",
    }
    assert expected.items() <= whole.headers.items()
    assert whole.headers.keys() - expected <= {"host", "user-agent", "accept-encoding"}
    assert streamed.headers["accept"] == "text/event-stream"


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(("model", "sent"), [("deepseek-reasoner", "auto"), ("deepseek-chat", "required")])
def test_deepseek_forces_no_call_while_it_thinks(model: str, sent: str) -> None:
    """A forced call goes to DeepSeek's thinking models as a free choice, with a receipt, and not at all if strict."""
    asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required"}
    with Upstream() as upstream, Client(provider="deepseek", base_url=upstream.base_url, api_key=KEY) as client:
        answer = client.chat.completions.create("hi", model, **asked)
        assert [loss.path for loss in answer.losses] == ["$.tool_choice"] * (sent == "auto")
        if answer.losses:
            with pytest.raises(BadRequestError, match="while the model thinks"):
                client.chat.completions.create("hi", model, strict=True, **asked)
        assert [request.json["tool_choice"] for request in upstream.requests] == [sent]


@pytest.mark.anyio
async def test_what_goes_to_the_transport() -> None:
    """The transport gets the whole URL, the fields of format, auth and caller, in that order, and the clocks."""
    transport = Scripted(WHOLE)
    call = Call(timeout=Timeout(idle=1), headers={"x-a": "1", "accept": "else", "authorization": "other"})
    await play(endpoint(transport), REQUEST, call)
    assert transport.opened["url"] == "http://localhost/v1/chat/completions"
    assert transport.opened["timeout"] is call.timeout
    assert dict(transport.opened["headers"]) == {
        "content-type": "application/json",
        "accept": "else",
        "authorization": "other",
        "x-a": "1",
    }
    assert KEY not in repr(transport.opened)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("request_", "ask_usage", "expected"),
    [
        (REQUEST, True, None),
        (STREAMED, True, True),
        (STREAMED, False, None),
        (STREAMED.but(include_usage=False), True, False),
        (STREAMED.but(include_usage=True), False, True),
    ],
)
async def test_asking_for_usage(request_: ChatRequest, ask_usage: bool, expected: bool | None) -> None:
    """Usage of a stream is asked for, unless the caller said something or the server would not have it."""
    transport = Scripted(*STREAM)
    await play(endpoint(transport, ask_usage=ask_usage), request_)
    sent = msgspec.json.decode(transport.opened["request"].body)
    assert sent.get("stream_options") == (None if expected is None else {"include_usage": expected})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (REQUEST.but(messages=(Message.user("hi \ud800"),)), "a lone surrogate is no character"),
        (REQUEST.but(extra={"openai-chat": {"x": object()}}), "object"),
    ],
)
async def test_what_json_cannot_hold(request_: ChatRequest, match: str) -> None:
    """A request that JSON cannot hold is refused before anything is sent, and the error does not hold it."""
    transport = Scripted(WHOLE)
    with pytest.raises(BadRequestError, match=f"cannot be written as JSON: .*{match}") as caught:
        await play(endpoint(transport), request_)
    assert (caught.value.provider, caught.value.param, transport.log) == ("p", "$", [])
    assert caught.value.__cause__ is None


MINE = Message("assistant", (Text("x"),), provider="p", extra={"openai-chat": {"sealed": "abc"}})


@pytest.mark.anyio
async def test_state_goes_back_to_its_maker_alone() -> None:
    """What a provider added to its message is sent back to it, and to nobody else, which is noted on the receipt."""
    theirs = Message("assistant", (Text("y"),), provider="other", extra={"openai-chat": {"sealed": "def"}})
    transport, call = Scripted(WHOLE), Call()
    await play(endpoint(transport), REQUEST.but(messages=(MINE, theirs, Message.user("hi"))), call)
    sent = transport.opened["request"].body
    assert b'"sealed":"abc"' in sent
    assert b"def" not in sent
    assert [(loss.kind, loss.path) for loss in call.losses] == [("dropped", "$.messages[1].sealed")]
    assert "'other' alone" in call.losses[0].reason
    with pytest.raises(BadRequestError, match="strict=True") as caught:
        await play(endpoint(Scripted(WHOLE)), REQUEST.but(messages=(theirs,)), Call(strict=True))
    assert caught.value.param == "$.messages[0].sealed"


@pytest.mark.anyio
async def test_blocks_go_back_to_their_maker_alone() -> None:
    """Blocks that one format alone knows, and notes on sources, stay with whoever wrote them, wherever they stand."""
    block = Opaque("openai-chat", {"type": "sealed", "data": "abc"})
    source = Annotation(url="http://x/", extra={"openai-chat": {"sealed": "abc"}})
    parts = (block, Text("x", (source,)), ToolResult("c", (block, Text("y"))))
    theirs, alone = Message("user", parts, provider="other"), Message("assistant", (block,), provider="other")
    mine = Message("user", (block,), provider="p")
    unknown = Message("user", (block,))
    transport, call = Scripted(WHOLE), Call()
    await play(endpoint(transport), REQUEST.but(messages=(theirs, alone, mine, unknown)), call)
    sent = msgspec.json.decode(transport.opened["request"].body)["messages"]
    assert [message["content"] for message in sent] == ["y", "x", [block.data], [block.data]]
    assert [loss.path for loss in call.losses if "'other' alone" in loss.reason] == [
        "$.messages[0].parts[0]",
        "$.messages[0].parts[1].annotations[0].sealed",
        "$.messages[0].parts[2].content[0]",
        "$.messages[1].parts[0]",
    ]
    strictly = Scripted(WHOLE)
    with pytest.raises(BadRequestError, match="strict=True"):
        await play(endpoint(strictly), REQUEST.but(messages=(alone, Message.user("hi"))), Call(strict=True))
    assert strictly.log == []


@pytest.mark.anyio
async def test_receipts_point_into_the_callers_request() -> None:
    """What the format cannot say is told where the caller has it, though things before it were left out earlier."""
    block = Opaque("openai-chat", {"type": "sealed"})
    gone = Message("assistant", (block,), provider="other")
    result = ToolResult("c", (block, Opaque("gemini", {}), Text("y")), is_error=True)
    theirs = Message("user", (block, Text("x"), result), provider="other")
    unknown = Message("user", (Text("z"), Opaque("gemini", {"fileData": {}})))
    call = Call()
    await play(endpoint(Scripted(WHOLE)), REQUEST.but(messages=(gone, theirs, unknown)), call)
    assert [loss.path for loss in call.losses if "'other' alone" not in loss.reason] == [
        "$.messages[1].parts[2].is_error",
        "$.messages[2].parts[1]",
    ]


_blocks = st.sampled_from([Opaque("openai-chat", {}), Opaque("gemini", {}), Text("a")])
_results = st.lists(_blocks, max_size=4).map(lambda content: ToolResult("c", tuple(content), is_error=True))
_messages = st.builds(
    lambda parts, provider: Message("user", tuple(parts), provider=provider),
    st.lists(_blocks | _results, min_size=1, max_size=4),
    st.sampled_from([None, "p", "other"]),
)


def lost_blocks(message: Message, path: str) -> Iterator[str]:
    """Give the paths of what of a message cannot go to the provider `p`, which speaks OpenAI's format."""
    for place, part in enumerate(message.parts):
        if isinstance(part, ToolResult):
            yield f"{path}.parts[{place}].is_error"
        inside = part.content if isinstance(part, ToolResult) else ()
        found = [
            (f".parts[{place}]", part),
            *((f".parts[{place}].content[{n}]", item) for n, item in enumerate(inside)),
        ]
        for own, block in found:
            if isinstance(block, Opaque) and (message.provider == "other" or block.format != "openai-chat"):
                yield path + own


@given(st.lists(_messages, min_size=2, max_size=4))
def test_whatever_is_lost_is_told_once_and_where_it_is(messages: list[Message]) -> None:
    """The receipt has the path in the caller's request of each thing that stayed behind, whoever left it out."""
    call = Call()
    anyio.run(play, endpoint(Scripted(WHOLE)), REQUEST.but(messages=tuple(messages)), call)
    expected = [path for place, one in enumerate(messages) for path in lost_blocks(one, f"$.messages[{place}]")]
    assert sorted(expected) == sorted(loss.path for loss in call.losses)


@pytest.mark.anyio
async def test_what_came_of_a_whole_answer_that_broke() -> None:
    """The piece of a whole answer that came beside an error is passed on before it, so another try is not worth it."""
    body = {"choices": [{"message": {"content": "Half"}, "error": {"code": 502, "message": "Died"}}]}
    folder = Folder()
    with pytest.raises(StreamError, match="Died") as caught:  # noqa: PT012 - what came before is looked at as well
        async for event in endpoint(Scripted(msgspec.json.encode(body)))(REQUEST, Call()):
            folder.add(event)
    received = folder.completion()
    assert (received.content, received.choices[0].finish_reason) == ("Half", None)
    assert (caught.value.status, caught.value.retryable) == (502, False)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "pieces", [(ROLE, ONE), (ROLE, b"data: {\n\n"), (b'{"error":{"message":"No"}}',), (b"{",)], ids=str
)
async def test_errors_after_the_header_tell_the_requests_id(pieces: tuple[bytes, ...]) -> None:
    """An error inside a reply that began well has the id of the request, which the reply's header told."""
    with pytest.raises(StreamError) as caught:
        await play(endpoint(Scripted(*pieces, x_request_id="req_1")))
    assert caught.value.request_id == "req_1"
    with pytest.raises(StreamError) as unknown:
        await play(endpoint(Scripted(*pieces)))
    assert unknown.value.request_id is None


# --- how it listens


@pytest.mark.anyio
async def test_a_whole_answer() -> None:
    """The answer's own names are told, with the provider's beside them."""
    got = fold(await play(endpoint(Scripted(WHOLE))))
    assert (got.content, got.id, got.model, got.provider, got.choices[0].finish_reason) == (
        "ok",
        "c",
        "m-1",
        "p",
        "stop",
    )


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_a_stream_in_any_pieces(size: int) -> None:
    """However the bytes arrive, the events are the same."""
    body = b"".join(STREAM)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    got = fold(await play(endpoint(Scripted(*pieces)), STREAMED))
    assert (got.content, got.provider, got.choices[0].finish_reason) == ("ab", "p", "stop")


@pytest.mark.anyio
async def test_text_beside_facts() -> None:
    """A piece that brings text is told, though what comes last in it is a fact such as the usage so far."""
    usage = b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'
    pieces = [b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],%b}\n\n' % usage for _ in range(3)]
    transport = Scripted(*pieces, STOP, DONE)
    await play(endpoint(transport), STREAMED)
    assert transport.log == ["open", 0, "token", "token", 1, "token", 2, "token", 3, 4, "settle", "close"]


@pytest.mark.anyio
async def test_events_come_as_their_bytes_do() -> None:
    """An event is given out before the bytes after it are asked for, and each piece that brings something is told."""
    transport = Scripted(*STREAM)
    async with aclosing(endpoint(transport)(STREAMED, Call())) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                transport.log.append(event.text)
    assert transport.log == ["open", 0, 1, "token", "a", "token", 2, "b", "token", 3, 4, "settle", "close"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("pieces", "log"),
    [
        ((b": ping\n\n", ROLE, STOP, DONE), ["open", 0, 1, 2, 3, "token", "settle", "close"]),
        ((ROLE, frame('{"reasoning_content":"hm"}'), STOP), ["open", 0, 1, "token", "token", 2, "close"]),
        (
            (ROLE, frame('{"tool_calls":[{"index":0,"id":"x","function":{"name":"f"}}]}'), STOP),
            ["open", 0, 1, "token", "token", 2, "close"],
        ),
    ],
    ids=["silence", "reasoning", "tool-call"],
)
async def test_what_is_a_token(pieces: tuple[bytes, ...], log: list[Any]) -> None:
    """Pings, roles and reasons do not stop the first-token clock; whatever belongs to an answer does."""
    transport = Scripted(*pieces)
    await play(endpoint(transport), STREAMED)
    assert transport.log == log


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("request_", "transport"),
    [
        (STREAMED, Scripted(WHOLE)),
        (REQUEST, Scripted(*STREAM)),
        (STREAMED, Scripted(*STREAM, content_type="text/plain")),
        (STREAMED, Scripted(*STREAM, content_type="Text/Event-Stream; charset=utf-8")),
    ],
    ids=["whole-for-stream", "stream-for-whole", "odd-type", "charset"],
)
async def test_servers_that_answer_the_other_way(request_: ChatRequest, transport: Scripted) -> None:
    """A server that sends a stream where none was asked for, or none where one was, is understood."""
    assert fold(await play(endpoint(transport), request_)).content in ("ok", "ab")


@pytest.mark.anyio
async def test_leaving_closes_the_exchange() -> None:
    """Leaving in the middle asks for no more bytes and closes the exchange at once."""
    transport = Scripted(*STREAM)
    async with aclosing(endpoint(transport)(STREAMED, Call())) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    assert transport.log == ["open", 0, 1, "token", "GeneratorExit"]


@pytest.mark.anyio
async def test_usage_on_any_frame() -> None:
    """Usage is taken from wherever it stands; the last that is not null counts."""
    usage = b'"usage":{"prompt_tokens":%d,"completion_tokens":2}'
    pieces = (
        ROLE[:-3] + b"," + usage % 1 + b"}\n\n",
        ONE,
        STOP[:-3] + b"," + usage % 3 + b"}\n\n",
        b'data: {"choices":[],"usage":null}\n\n',
        DONE,
    )
    got = fold(await play(endpoint(Scripted(*pieces)), STREAMED))
    assert got.usage is not None
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (3, 2)


# --- what it tells of a failure


def told(error: APIError) -> dict[str, Any]:
    """What an error says of where and why, without its words."""
    return {name: value for name, value in vars(error).items() if name not in ("message", "body") and value is not None}


@pytest.mark.anyio
@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "stream"])
async def test_an_error_status(request_: ChatRequest) -> None:
    """An error status is the error of its class, with all that the reply tells."""
    body = b'{"error":{"message":"Slow down.","type":"requests","code":"rate_limit_exceeded","param":null}}'
    headers = {"x_request_id": "req-7", "retry_after": "3"}
    transport = Scripted(body, status=429, **headers)
    with pytest.raises(RateLimitError, match=r"Slow down\. \(HTTP 429\)") as caught:
        await play(endpoint(transport), request_)
    assert told(caught.value) == {
        "provider": "p",
        "model": "m",
        "status": 429,
        "code": "rate_limit_exceeded",
        "type": "requests",
        "request_id": "req-7",
        "retryable": True,
        "retry_after": 3.0,
    }
    assert caught.value.status_code == 429
    assert transport.log == ["open", 0, "RateLimitError"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "pieces",
    [
        (b"x" * (1024 * 1024 + 1),),
        (b'{"error":', StreamError("broke off")),
        (b"", APIConnectionError("reset")),
        (b"\xff\xfe",),
        (b"[" * 100_000,),
        (),
    ],
    ids=["huge", "cut", "reset", "not-utf-8", "nested", "empty"],
)
async def test_an_error_status_with_a_body_that_is_none(pieces: tuple[Any, ...]) -> None:
    """Whatever becomes of its body, an error status stays the error of its class."""
    with pytest.raises(InternalServerError) as caught:
        await play(endpoint(Scripted(b"", *pieces, status=503)))
    assert (caught.value.status, caught.value.provider, caught.value.model) == (503, "p", "m")


@pytest.mark.anyio
async def test_errors_of_others_are_told_whose() -> None:
    """Errors of the transport and of the codec say which provider and model they are about."""
    for pieces in ((APIConnectionError("refused"),), (b"{}",), (ROLE, StreamError("cut")), (b"data: garbage\n\n",)):
        with pytest.raises(APIError) as caught:
            await play(endpoint(Scripted(*pieces)), STREAMED)
        assert (caught.value.provider, caught.value.model) == ("p", "m")


@pytest.mark.anyio
async def test_an_unexpected_error_passes() -> None:
    """An error that is none of Antiphon's comes out as it is, and the exchange is closed."""
    transport = Scripted(ROLE, ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError, match="bug"):
        await play(endpoint(transport), STREAMED)
    assert transport.log == ["open", 0, 1, "ZeroDivisionError"]


SAYS_THE_KEY = [
    Scripted(b'{"error":{"message":"Incorrect API key provided: %s","code":"k"}}' % KEY.encode(), status=401),
    Scripted(b"<html>key %s</html>" % KEY.encode(), status=401),
    Scripted(b'{"error":{"message":"no","param":"%s","code":"%s","type":"%s"}}' % ((KEY.encode(),) * 3), status=401),
    Scripted(b"", status=401, x_request_id=KEY),
    Scripted(b'{"error":{"message":"bad key %s"}}' % KEY.encode()),
    Scripted(ROLE, b'data: {"error":{"message":"bad key %s"}}\n\n' % KEY.encode()),
    Scripted(b"data: %s\n\n" % KEY.encode()),
    Scripted(b"not json %s" % KEY.encode()),
    Scripted(APIConnectionError(f"https://localhost/?key={KEY}")),
]


@pytest.mark.anyio
@pytest.mark.parametrize("transport", SAYS_THE_KEY)
async def test_a_key_that_the_provider_repeats(transport: Scripted) -> None:
    """A key that comes back in a reply is struck out of everything that the error tells."""
    with pytest.raises(APIError) as caught:
        await play(endpoint(transport), STREAMED)
    error = caught.value
    for shown in (str(error), repr(error), repr(error.args), repr(vars(error)), repr(error.__cause__)):
        assert "canary" not in shown
    assert "canary" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("status", [401, 302])
def test_the_body_of_a_refusal_is_no_local_variable(status: int) -> None:
    """A body or location that repeats the key shows in no traceback printed with locals."""
    body = msgspec.json.encode({"error": {"message": f"bad key {KEY}"}})
    with Upstream(fault=Fault.of_status(status, body, headers={"location": f"http://127.0.0.1/{KEY}"})) as upstream:
        with Client(base_url=upstream.base_url, api_key=KEY) as client, pytest.raises(APIError) as caught:
            client.chat.completions.create("Hi.", "m")
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    ours = [frame for frame in frames if "/src/antiphon/" in frame.filename]
    assert ours
    assert not any("canary" in repr(frame.locals) for frame in ours)


@pytest.mark.anyio
async def test_the_key_is_no_local_variable() -> None:
    """A traceback printed with the locals of the endpoint does not show the key that was to be sent."""
    with pytest.raises(RuntimeError, match="unexpected") as caught:
        await play(endpoint(Scripted(RuntimeError("unexpected"))))
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    (own,) = [frame for frame in frames if frame.filename.endswith("antiphon/providers/http.py")]
    assert own.locals is not None
    assert "headers" in own.locals
    assert "canary" not in repr(own.locals)


@pytest.mark.parametrize(
    "codec", [Bedrock(), Gemini(), Vertex(), OpenAIChat(path="/deployments/{model}/chat/completions")]
)
@pytest.mark.parametrize(
    "name",
    ["../", "../x", "a/../b", "..%2f..%2fx", "%2e%2e/x", "%252e%252e%252fx", "..;/x", "..\\x", "a/.;x=1/b", "./x"],
)
@pytest.mark.anyio
async def test_names_that_lead_to_another_path_are_refused(codec: Codec, name: str) -> None:
    """No format sends a name that any server before the provider could take for a way up, quoted or not."""
    endpoint = HTTPProvider("up", codec, "http://up.example", auth=no_auth, transport=HTTPTransport())
    with pytest.raises(BadRequestError, match="between slashes"):
        await anext(endpoint(ChatRequest(name, (Message.user("Hi"),)), Call()))
