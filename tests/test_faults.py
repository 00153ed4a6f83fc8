"""Everything that an upstream can do wrong: the right error, whatever the face, and nothing left behind."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from antiphon import AsyncClient, Client
from antiphon.calls.params import chat_request
from antiphon.chat.answers import Completion
from antiphon.chat.events import End, Start, TextDelta, fold
from antiphon.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ResponseTooLargeError,
    StreamError,
    UnprocessableEntityError,
)
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.codec import Codec
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.transport import Timeout
from antiphon.testing import Fault, Upstream
from tests.calling import Asked, Question, in_loop

pytestmark = pytest.mark.usefixtures("no_leaks")

KEY = "sk-canary-0123456789abcdef"
PROMPT = "a prompt that is nobody's business"
TEXT = "naïve 語 answer"
SOON = Timeout(first_token=0.02, idle=0.02)
PATIENT = Timeout(first_token=20, idle=20, total=30)


@pytest.fixture(scope="module")
def shared() -> Iterator[Upstream]:
    """One server for all: what it does wrong is set by each test."""
    with Upstream(TEXT) as upstream:
        yield upstream


@pytest.fixture
def upstream(shared: Upstream) -> Iterator[Upstream]:
    """A server that does nothing wrong yet; at the end nobody may be connected to it."""
    shared.answer, shared.fault = TEXT, None
    shared.requests.clear()
    yield shared
    assert shared.wait_until_left()


Ask = Callable[..., Asked]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, upstream: Upstream) -> Ask:
    """Asks the server, with the blocking or the async client."""

    def asking(stream: bool = False, *, timeout: Timeout = PATIENT, base_url: str = "", **params: Any) -> Asked:
        options = {"base_url": base_url or upstream.base_url, "api_key": KEY, "timeout": timeout}
        question = Question(options, PROMPT, params=params)
        if request.param == "sync":
            return question.blocking(stream=stream)
        return in_loop(question.asynchronous(stream=stream))

    return asking


def failure(error: type[APIError], ask: Ask, *args: Any, **params: Any) -> Any:
    """What *ask* raises: of exactly this class, told whose, and with neither key nor prompt to be seen in it."""
    with pytest.raises(APIError) as caught:
        ask(*args, **params)
    raised = caught.value
    assert type(raised) is error, repr(raised)
    assert (raised.provider, raised.model) == ("127.0.0.1", "m")
    shown = "".join(traceback.format_exception(raised)) + repr(vars(raised))
    for secret in ("canary", "nobody"):
        assert secret not in shown
    assert str(raised) == raised.message
    return raised


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def test_nothing_wrong(ask: Ask) -> None:
    """The server of these tests answers when nothing is wrong."""
    assert ask() == ask(True) == Asked(TEXT, "stop", (3, 2), "127.0.0.1", "m")


# --- error statuses


STATUSES: list[tuple[int, type[APIError], bool]] = [
    (400, BadRequestError, False),
    (401, AuthenticationError, False),
    (402, APIStatusError, False),
    (403, PermissionDeniedError, False),
    (404, NotFoundError, False),
    (408, APIStatusError, True),
    (409, ConflictError, True),
    (413, APIStatusError, False),
    (422, UnprocessableEntityError, False),
    (429, RateLimitError, True),
    (500, InternalServerError, True),
    (502, InternalServerError, True),
    (503, InternalServerError, True),
    (504, InternalServerError, True),
    (529, InternalServerError, True),
]


@both
def test_status(stream: bool, ask: Ask, upstream: Upstream, subtests: pytest.Subtests) -> None:
    """Every error status is the error of its class, which says whether to try again."""
    for status, error, retryable in STATUSES:
        with subtests.test(status=status):
            upstream.fault = Fault.of_status(status)
            raised = failure(error, ask, stream)
            assert (raised.status, raised.retryable, raised.type) == (status, retryable, "test")
            assert raised.message == f"status {status} (HTTP {status})"
            assert raised.body == {"error": {"message": f"status {status}", "type": "test", "code": None}}


@both
def test_retry_after(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """When to try again is told in seconds, and which request it was."""
    upstream.fault = Fault("status", status=429, headers={"retry-after": "7", "x-request-id": "req-1"}, body=b"{}")
    raised = failure(RateLimitError, ask, stream)
    assert (raised.retry_after, raised.request_id) == (7.0, "req-1")


@both
def test_no_quota(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """A quota that is used up is not worth another try."""
    upstream.fault = Fault.of_status(429, '{"error": {"message": "None left.", "code": "insufficient_quota"}}')
    raised = failure(RateLimitError, ask, stream)
    assert (raised.retryable, raised.code) == (False, "insufficient_quota")


PAGES: list[tuple[str | bytes, str]] = [
    ("<html><body>Bad gateway</body></html>", "Bad gateway"),
    ("", "The provider answered HTTP"),
    (b"\xff\xfe\x00", "HTTP"),
    ("x" * 5000, "x…"),
    ('"just a string"', "just a string"),
    ("[1, 2]", "HTTP"),
    ("null", "HTTP"),
    ('{"detail": "of a framework"}', "of a framework"),
]


@both
def test_error_pages(stream: bool, ask: Ask, upstream: Upstream, subtests: pytest.Subtests) -> None:
    """An error page of any kind is the error of its status, with the beginning of what it says."""
    for page, match in PAGES:
        for status, error in ((403, PermissionDeniedError), (502, InternalServerError)):
            with subtests.test(page=page[:10], status=status):
                upstream.fault = Fault.of_status(status, page, content_type="text/html")
                raised = failure(error, ask, stream)
                assert match in raised.message
                assert len(raised.message) < 400


@both
def test_redirect(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """A redirect is not followed: the key would go along."""
    upstream.fault = Fault("status", status=302, headers={"location": "http://127.0.0.1:9/"}, body=b"")
    with pytest.raises(APIError, match="redirect") as caught:
        ask(stream)
    assert (caught.value.status, caught.value.provider) == (302, "127.0.0.1")
    assert len(upstream.requests) == 1


# --- answers that are none


NO_ANSWERS = [
    Fault.garbage(),
    Fault.half_frame(after=0),
    Fault.half_frame(after=2),
    Fault.of_status(200, b""),
    Fault.of_status(200, b"  \n"),
    Fault.of_status(200, b"null"),
    Fault.of_status(200, b"[]"),
    Fault.of_status(200, b"{}"),
    Fault.of_status(200, b'{"choices": []}'),
    Fault.of_status(200, b'{"choices": {}}'),
    Fault.of_status(200, b'{"choices": [null]}'),
    Fault.of_status(200, b'{"choices": [{"index": 0}]}'),
    Fault.of_status(200, b'{"choices": [{"message": {"role": "assistant", "content": 5}}]}'),
    Fault.of_status(200, b"[" * 100_000),
    Fault.of_status(200, b"<html>hello</html>", content_type="text/html"),
    Fault.of_status(200, b"", content_type="text/event-stream"),
    Fault.of_status(200, b": ping\n\n", content_type="text/event-stream"),
    Fault.of_status(200, b"data: [DONE]\n\n", content_type="text/event-stream"),
    Fault.of_status(200, b"data: {}\n\n", content_type="text/event-stream"),
    Fault.of_status(200, b"data: 5\n\n", content_type="text/event-stream"),
    Fault.of_status(200, b'data: {"choices": [5]}\n\n', content_type="text/event-stream"),
    Fault.of_status(200, b'data: {"choices": []}\n\ndata: [DONE]\n\n', content_type="text/event-stream"),
]


@both
def test_no_answer(stream: bool, ask: Ask, upstream: Upstream, subtests: pytest.Subtests) -> None:
    """A 200 with anything but an answer is an error, never an empty answer."""
    for fault in NO_ANSWERS:
        with subtests.test(kind=fault.kind, after=fault.after, body=fault.body[:40]):
            upstream.fault = fault
            failure(StreamError, ask, stream)


@both
def test_error_inside(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """An error inside a 200 is an error, with the provider's words."""
    for after in (0, 2):
        upstream.fault = Fault.error_inside("We are overloaded.", after=after)
        raised = failure(StreamError, ask, stream)
        assert "We are overloaded." in raised.message


@both
def test_error_inside_with_a_status(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """An error inside a 200 may tell the status that it should have had."""
    upstream.fault = Fault.of_status(200, b'{"error": {"message": "later", "code": 529}}')
    raised = failure(StreamError, ask, stream)
    assert (raised.status, raised.retryable) == (529, True)


@both
def test_a_finish_with_an_error(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """A reason that nobody knows is not taken for a stop."""
    body = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "bored"}]}'
    upstream.fault = Fault.of_status(200, body)
    assert ask(stream).finish_reason == "other"


def test_a_stream_without_a_finish(ask: Ask, upstream: Upstream) -> None:
    """A stream that ends well but without a reason is cut off, wherever it says that it is done."""
    frames = b'data: {"choices": [{"index": 0, "delta": {"content": "half"}}]}\n\ndata: [DONE]\n\n'
    upstream.fault = Fault.of_status(200, frames, content_type="text/event-stream")
    failure(StreamError, ask, True)


def test_an_empty_stream(ask: Ask, upstream: Upstream) -> None:
    """A stream of no frame at all is an error."""
    upstream.answer = []
    failure(StreamError, ask, True)


@both
def test_an_answer_of_no_text(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """An answer that is there, has ended, and is empty, is an answer."""
    upstream.answer = Completion.of("")
    assert ask(stream)[:2] == ("", "stop")


# --- connections that break


def body_size(upstream: Upstream, *, stream: bool) -> int:
    """How many bytes the whole body has."""
    options = {"stream_options": {"include_usage": True}} if stream else {}
    request = chat_request(PROMPT, "m", options, stream=stream)
    events = upstream.events(request, TEXT)
    encoder = upstream.codec.encoder(request)
    if stream:
        return sum(len(frame) for event in events for frame in encoder.feed(event))
    return len(upstream.codec.encode_response(fold(events)))


def put_together(client: Client, stream: bool) -> Completion:
    """Ask for an answer, and put it together on the way if it is streamed."""
    if not stream:
        return client.chat.completions.create(PROMPT, "m")
    with client.chat.completions.stream(PROMPT, "m") as chunks:
        return chunks.get_final_completion()


async def put_together_async(client: AsyncClient, stream: bool, **params: Any) -> Completion:
    """Do the same in async code."""
    if not stream:
        return await client.chat.completions.create(PROMPT, "m", **params)
    async with client.chat.completions.stream(PROMPT, "m", **params) as chunks:
        return await chunks.get_final_completion()


def looks_cut(error: APIError) -> str | None:
    """Check the error of an answer that was cut off; returns what had come of it."""
    assert type(error) in (StreamError, APIConnectionError)
    assert (error.provider, error.model) == ("127.0.0.1", "m")
    return error.received.content if isinstance(error, StreamError) else None


WORDS = ("naïve", " 語", " answer")


@both
def test_cut_at_every_byte(stream: bool, upstream: Upstream) -> None:
    """A connection that breaks at any byte of the body is an error; what came of a stream is the answer's beginning."""
    came = []
    with Client(base_url=upstream.base_url) as client:
        for after in range(body_size(upstream, stream=stream)):
            upstream.fault = Fault.cut(after=after)
            with pytest.raises(APIError) as caught:
                put_together(client, stream)
            came.append(looks_cut(caught.value))
    assert len(came) > 200
    assert set(came) == {None} | ({"".join(WORDS[:count]) for count in range(1, 4)} if stream else set())


@both
@pytest.mark.anyio
async def test_cut_at_every_byte_async(stream: bool, upstream: Upstream) -> None:
    """So it is for async callers."""
    came = []
    async with AsyncClient(base_url=upstream.base_url) as client:
        for after in range(body_size(upstream, stream=stream)):
            upstream.fault = Fault.cut(after=after)
            with pytest.raises(APIError) as caught:
                await put_together_async(client, stream)
            came.append(looks_cut(caught.value))
    assert set(came) == {None} | ({"".join(WORDS[:count]) for count in range(1, 4)} if stream else set())


def test_refused(ask: Ask) -> None:
    """A port where nobody listens is a connection error, worth another try."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for stream in (False, True):
        raised = failure(APIConnectionError, ask, stream, base_url=f"http://127.0.0.1:{port}/v1")
        assert raised.retryable
        assert f"127.0.0.1:{port}" in raised.message


@both
def test_servers_that_speak_something_else(stream: bool, ask: Ask) -> None:
    """A server that hangs up before it answered, or answers in no HTTP, is an error."""
    answers = (b"", b"HTTP/1.1 200", b"SSH-2.0-OpenSSH_9\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n")

    def serve() -> None:
        for answer in answers:
            connection, _ = server.accept()
            with connection:
                received = b""
                while not received.endswith(b"}"):
                    received += connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        for _ in answers:
            with pytest.raises(APIError) as caught:
                ask(stream, base_url=f"http://127.0.0.1:{server.getsockname()[1]}/v1")
            assert isinstance(caught.value, APIConnectionError | StreamError)
            assert caught.value.provider == "127.0.0.1"
        thread.join()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Upstream]:
    """A server with a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Upstream(TEXT, tls=context) as upstream:
        yield upstream
        assert upstream.wait_until_left()


@both
def test_a_certificate_that_nobody_knows(stream: bool, ask: Ask, secure: Upstream) -> None:
    """A server that cannot show who it is gets neither the key nor the prompt, and is not worth another try."""
    raised = failure(APIConnectionError, ask, stream, base_url=secure.base_url)
    assert not raised.retryable
    assert "SSL_CERT_FILE" in raised.message
    assert secure.requests == []


def test_a_certificate_of_an_authority_of_ones_own(
    ask: Ask, secure: Upstream, authority: trustme.CA, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authority that `SSL_CERT_FILE` names is trusted."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert ask(base_url=secure.base_url).text == ask(True, base_url=secure.base_url).text == TEXT


@both
def test_http_and_https_mixed_up(stream: bool, ask: Ask, upstream: Upstream, secure: Upstream) -> None:
    """The wrong one of http and https is a connection error."""
    failure(APIConnectionError, ask, stream, base_url=upstream.base_url.replace("http:", "https:"))
    with pytest.raises(APIError):
        ask(stream, base_url=secure.base_url.replace("https:", "http:"))


# --- servers that stall


STALLS = [
    (False, -1, "first.token"),
    (False, 0, "first.token"),
    (True, -1, "first.token"),
    (True, 0, "first.token"),
    (True, 1, "first.token"),
    (True, 2, "idle"),
    (True, 4, "idle"),
]


def test_stalls(ask: Ask, upstream: Upstream, subtests: pytest.Subtests) -> None:
    """A server that goes silent is given up by the clock of that phase, or the total one, and hung up on."""
    for stream, after, clock in STALLS:
        for named in (clock, "total"):
            timeout = Timeout(**{named.replace(".", "_"): 0.02})
            with subtests.test(stream=stream, after=after, clock=named):
                upstream.fault = Fault.stall(after=after)
                raised = failure(APITimeoutError, ask, stream, timeout=timeout)
                assert re.search(rf"\b{named} clock", raised.message)
                assert "0.02 s" in raised.message
                assert raised.retryable is (clock != "idle")  # nothing is tried again once something was said
                assert isinstance(raised, TimeoutError)
                assert upstream.wait_until_left()


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue of connections is another thing elsewhere")
def test_the_connect_clock(ask: Ask) -> None:
    """A server that takes no connection is given up by the clock for that."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # they fill the queue of connections nobody accepts
        for other in waiting:
            other.setblocking(False)
            other.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}/v1"
        raised = failure(APITimeoutError, ask, base_url=url, timeout=Timeout(connect=0.05))
        for other in waiting:
            other.close()
    assert "the connect clock" in raised.message.lower()


@pytest.mark.parametrize("said", [b"", b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'])
def test_pings_without_end(said: bytes, ask: Ask) -> None:
    """Comments that never end keep neither the first-token clock nor the idle clock from running out."""
    left = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            received = b""
            while not received.endswith(b"}"):
                received += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + said)
            try:
                while True:
                    connection.sendall(b": ping\n\n")
            except OSError:
                left.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        raised = failure(APITimeoutError, ask, True, base_url=url, timeout=Timeout(first_token=0.2, idle=0.2, total=20))
        thread.join()
    assert ("idle" if said else "first_token") in raised.message
    assert left.is_set()


@pytest.mark.parametrize(("after", "retryable"), [(0, True), (3, False)])
def test_nothing_said_is_tried_again(after: int, retryable: bool, upstream: Upstream) -> None:
    """An error that could be tried again is one no longer once a part of the answer was passed on."""
    upstream.answer = [Start(id="x", model="m"), TextDelta("one"), TextDelta(" two"), End("stop")]
    upstream.fault = Fault.stall(after=after)
    with Client(base_url=upstream.base_url) as client, pytest.raises(APITimeoutError) as caught:
        list(client.chat.completions.create("x", "m", stream=True, timeout=SOON))
    assert caught.value.retryable is retryable


def test_keys_in_header_fields(ask: Ask, upstream: Upstream) -> None:
    """A key that a caller put into a header field of one call is struck out of errors like any other."""
    carried = "sk-carried-0123456789abcdef"
    upstream.fault = Fault.of_status(401, f'{{"error": {{"message": "bad key {carried}", "code": "{carried}"}}}}')
    raised = failure(AuthenticationError, ask, extra_headers={"Authorization": f"Bearer {carried}"})
    assert carried not in f"{raised} {raised.body} {vars(raised)}"


def test_a_server_that_wakes_up(ask: Ask, upstream: Upstream) -> None:
    """After a stall the next call is as good as any."""
    upstream.fault = Fault.stall(after=2)
    failure(APITimeoutError, ask, True, timeout=SOON)
    upstream.fault = None
    assert ask(True).text == TEXT


@pytest.mark.parametrize("codec", [OpenAIChat(), Anthropic()], ids=lambda codec: codec.name)
def test_an_open_end(codec: Codec) -> None:
    """An answer that said that it is over ends, though the server never ends its body; that connection is given up."""
    with Upstream("All of it", fault=Fault.stall(after=1000), codec=codec) as server:
        name = "anthropic" if codec.name == "anthropic" else None
        base_url = server.base_url.removesuffix("/v1") if name else server.base_url
        with Client(provider=name, base_url=base_url, api_key="any", timeout=PATIENT) as client:
            chunks = list(client.chat.completions.create("hi", "m", stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "All of it"
        assert server.wait_until_left()


# --- servers that say too much


@both
def test_a_hundred_megabytes(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """An answer beyond the bound is given up, not kept in memory."""
    upstream.fault = Fault.huge(100_000_000)
    failure(ResponseTooLargeError, ask, stream)


@both
def test_a_huge_error_page(stream: bool, ask: Ask, upstream: Upstream) -> None:
    """An error page beyond its bound still is the error of its status."""
    upstream.fault = Fault.of_status(500, b"x" * 3_000_000)
    assert failure(InternalServerError, ask, stream).status == 500


# --- callers


MANY = [
    (Fault.of_status(429), RateLimitError),
    (Fault.cut(after=50), StreamError),
    (Fault.garbage(), StreamError),
    (Fault.stall(after=1), APITimeoutError),
    (Fault.half_frame(), StreamError),
]


@pytest.mark.anyio
async def test_many_failures_at_once(upstream: Upstream) -> None:
    """A hundred calls that fail in every way, at once and on one client, each get their own error."""
    upstream.answer = lambda request: MANY[int(request.user or 0) % 5][0]

    async def one(number: int) -> APIError:
        timeout = SOON if MANY[number % 5][1] is APITimeoutError else PATIENT
        with pytest.raises(APIError) as caught:
            await put_together_async(client, bool(number // 5 % 2), user=str(number), timeout=timeout)
        return caught.value

    async with AsyncClient(base_url=upstream.base_url) as client:
        errors = await asyncio.gather(*map(one, range(100)))
    assert [type(error) for error in errors] == [MANY[number % 5][1] for number in range(100)]


def test_events_of_a_cut_answer(upstream: Upstream) -> None:
    """The pieces that a caller took before the fault are the ones that came."""
    upstream.answer = [Start(id="x", model="m"), TextDelta("one"), TextDelta(" two"), End("stop")]
    upstream.fault = Fault.error_inside("enough", after=2)
    with Client(base_url=upstream.base_url) as client:
        stream = client.chat.completions.create("x", "m", stream=True)
        assert [next(stream).choices[0].delta.content for _ in range(3)] == [None, "one", " two"]
        with pytest.raises(StreamError, match="enough") as caught:
            next(stream)
    assert caught.value.received is None
