"""Keys: where they come from, how they sign, and that they show up nowhere else."""

from __future__ import annotations

import base64
import copy
import html
import json
import logging
import pickle
import pprint
import socket
import ssl
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trustme

from antiphon import AsyncClient, Client
from antiphon.errors import AntiphonError, APIConnectionError, APITimeoutError, AuthenticationError
from antiphon.formats.codec import HTTPRequest
from antiphon.http.exchange import HTTPTransport
from antiphon.http.transport import Timeout
from antiphon.providers.auth import HiddenHeaders, Secret, bearer, find_key, header, no_auth, redact
from tests.peers import Peer, answering, reply

CANARY = "sk-canary-4f8a/91+c2="
REQUEST = HTTPRequest(path="/v1", body=b"{}")
URL = "http://127.0.0.1/v1"


def shown(text: str) -> bool:
    """Tell whether *text* gives away a part of the canary that would be of use to anybody."""
    return "canary" in text or "4f8a" in text or "91+c2" in text


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        format,
        lambda secret: f"{secret:>40}|{secret!r}|{[secret]}|%s" % secret,
        pprint.pformat,
        lambda secret: repr({"key": secret}),
        lambda secret: json.dumps(secret, default=str),
        lambda secret: json.dumps(secret, default=repr),
        lambda secret: msgspec.json.encode(secret, enc_hook=str).decode(),
        lambda secret: repr(getattr(secret, "__dict__", None)),
        lambda secret: repr(copy.deepcopy([secret, copy.copy(secret)])),
    ],
)
def test_secrets_do_not_show(show: Callable[[Secret], str]) -> None:
    """No way to print or dump a secret shows any of it."""
    assert not shown(show(Secret(CANARY)))


@pytest.mark.parametrize(
    "dump", [pickle.dumps, json.dumps, msgspec.json.encode, msgspec.msgpack.encode, vars, iter, bytes]
)
def test_secrets_are_not_dumped(dump: Callable[[Any], object]) -> None:
    """What would take a secret apart is refused, without showing it."""
    with pytest.raises(TypeError) as raised:
        dump(Secret(CANARY))
    assert not shown(str(raised.value))


def test_secrets_as_values() -> None:
    """A secret gives its key on demand, compares and hashes by it, is false when empty, and does not change."""
    secret = Secret(f"  {CANARY}\r\n")
    assert secret.reveal() == CANARY
    assert secret == Secret(CANARY) != Secret("other")
    assert secret != CANARY
    assert len({secret, Secret(CANARY)}) == 1
    assert bool(secret) is True
    assert bool(Secret(" \n")) is False
    assert repr(Secret("")) == "Secret('')"
    with pytest.raises(AttributeError, match="does not change"):
        secret._value = "other"


@pytest.mark.parametrize("middle", ["\n", "\x00", "\x7f", "\t", "é", "…", "\u2028"])
def test_impossible_keys(middle: str) -> None:
    """A key with a character that no key has is an error that shows none of it, not even in its traceback."""
    with pytest.raises(AntiphonError, match="holds a character that no key has") as raised:
        Secret.__init__(Secret.__new__(Secret), f"sk-{middle}-{CANARY}")
    raised.value.__traceback__ = raised.tb.tb_next  # the test's own frame holds it, of course
    assert not shown("".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format()))


@pytest.mark.parametrize("value", [5, None, CANARY.encode(), [CANARY]])
def test_what_is_no_key(value: Any) -> None:
    """What is no string is an error that tells its type and, even in its traceback, nothing else."""
    with pytest.raises(TypeError, match=f"of the type {type(value).__name__}") as raised:
        Secret.__init__(Secret.__new__(Secret), value)
    raised.value.__traceback__ = raised.tb.tb_next
    assert not shown("".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format()))


def test_a_secret_that_was_never_made() -> None:
    """A secret whose making failed can still be shown, as an empty one."""
    half = Secret.__new__(Secret)
    assert (repr(half), f"{half}", bool(half), half == Secret("")) == ("Secret('')", "Secret('')", False, True)


def test_keys_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is given wins, then the first variable that is set; what is empty counts as not set."""
    names = ("FIRST_TEST_KEY", "SECOND_TEST_KEY")
    assert find_key(None, names) is None
    monkeypatch.setenv("SECOND_TEST_KEY", "second\n")
    assert find_key(None, names) == Secret("second")
    monkeypatch.setenv("FIRST_TEST_KEY", "  ")
    assert find_key("", names) == Secret("second")
    monkeypatch.setenv("FIRST_TEST_KEY", "first")
    assert find_key(Secret(""), names) == Secret("first")
    assert find_key("given", names) == find_key(Secret("given"), names) == Secret("given")
    assert find_key(None, ()) is None


def test_signing() -> None:
    """Each way to sign gives its header field; none shows the key when printed, also after merging."""
    secret = Secret(CANARY)
    assert bearer(secret)(REQUEST, URL) == {"authorization": f"Bearer {CANARY}"}
    assert header("X-API-Key", secret)(REQUEST, URL) == {"x-api-key": CANARY}
    assert no_auth(REQUEST, URL) == {}
    fields = HiddenHeaders(bearer(secret)(REQUEST, URL))
    for merged in (fields, {"accept": "a"} | fields, fields | {"accept": "a"}):
        assert merged["authorization"].endswith(CANARY)
        assert not shown(repr(merged))
        assert "authorization=…" in repr(merged)


def test_redaction() -> None:
    """A key is struck out of a text in every form it may have there; a placeholder is not."""
    secret = Secret(CANARY)
    quoted = CANARY.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D")
    escaped = CANARY.replace("/", r"\/")
    assert redact(f"a {CANARY} b {quoted} c {escaped} d", secret, Secret("")) == "a … b … c … d"
    assert redact("no key: EMPTY", Secret("EMPTY"), Secret("no")) == "no key: EMPTY"
    assert redact("a", Secret("")) == "a"


# The canary in every sink


@pytest.fixture
def nowhere() -> str:
    """A URL that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1?key={CANARY}"


async def fail(url: str, clocks: Timeout) -> None:
    """Make a signed call, and raise what an upstream's refusal is raised as."""
    secret = Secret(CANARY)
    transport = HTTPTransport()
    try:
        async with transport.open(url, REQUEST, headers=bearer(secret)(REQUEST, url), timeout=clocks) as answer:
            body = await answer.read(1000)
            message = redact(body.decode(), secret)
            del body
            if answer.status == 401:
                raise AuthenticationError(message, status=answer.status)
    finally:
        await transport.aclose()


def everything(error: BaseException) -> str:
    """All that a log or an error tracker could make of *error*, but for the frames of this file, which have the key."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    parts = [str(error), repr(error), repr(error.__dict__), repr(getattr(error, "__notes__", None))]
    parts += traceback.TracebackException(type(error), error, trace, capture_locals=True).format()
    for lower in (error.__cause__, error.__context__):
        if lower is not None:
            parts.append(everything(lower))
    return "".join(parts)


@pytest.mark.anyio
@pytest.mark.parametrize("failure", ["refused", "401", "tls", "timeout", "url", "header"])
async def test_canary(failure: str, nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    """A key shows in no error, traceback with locals, note, attribute or log line, at any level."""
    caplog.set_level(1)
    logging.getLogger("asyncio").setLevel(1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    refusal = reply(f"Incorrect API key provided: {CANARY}".encode(), status="401 Unauthorized")
    query = f"/v1?key={CANARY}"
    with answering(refusal) as refusing, Peer(lambda line: line.request(), context) as secure:
        with Peer(lambda line: (line.request(), line.wait_for_close())) as silent:
            url, kind = {
                "refused": (nowhere, APIConnectionError),
                "401": (refusing.url(query), AuthenticationError),
                "tls": (secure.url(query), APIConnectionError),
                "timeout": (silent.url(query), APITimeoutError),
                "url": (f"http://{quote(CANARY, safe='')}@127.0.0.1/", APIConnectionError),
                "header": (refusing.url(query + "\n"), APIConnectionError),
            }[failure]
            with pytest.raises(kind) as raised:
                await fail(url, Timeout(first_token=0.05 if failure == "timeout" else 60))
    assert not shown(everything(raised.value))
    assert not shown(repr(pickle.loads(pickle.dumps(raised.value)).__dict__))
    assert not shown("".join(map(repr, (vars(record) for record in caplog.records))))


@pytest.mark.parametrize(
    "write",
    [
        str.upper,
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: html.escape(key).replace("+", "&#43;"),
        lambda key: quote(quote(key, safe=""), safe="").lower(),
        lambda key: json.dumps(json.dumps({"key": key.replace("/", r"\/")})),
        lambda key: "".join(f"\\u{ord(one):04x}" for one in key),
    ],
)
def test_a_key_is_struck_out_however_it_is_written(write: Callable[[str], str]) -> None:
    """A key that a provider repeats in capitals, in base64, or escaped for something, once or twice, is struck out."""
    key = "sk-Canary/with+more<&>=0123456789"
    clean = redact(f"before {write(key)} after", Secret(key))
    assert "\u2026" in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    assert "123456" not in clean
    assert "anary" not in clean.lower()


REPEATS = json.dumps({"error": {"message": f"no {CANARY}"}}).encode()


@pytest.mark.parametrize("format", ["openai-chat", "openai-responses", "anthropic", "gemini", "ollama", "cohere"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [b"data: " + REPEATS + b"\n\n", REPEATS + b"\n", b"zzz " + REPEATS[1:]])
def test_answers_that_repeat_the_key(format: str, stream: bool, body: bytes) -> None:
    """An answer that cannot be read, and repeats the key, shows in no traceback of any call printed with locals."""
    kind = "text/event-stream" if stream else "application/json"
    raised: list[AntiphonError] = []
    with answering(reply(body, f"content-type: {kind}")) as peer:
        url = peer.url("/v1")
        with Client(base_url=url, api_key=CANARY, provider=format) as client:
            calls: list[Callable[[], Any]] = [
                lambda: [*client.chat.completions.create("Hi.", "m", stream=stream)],
                lambda: client.chat.completions.count_tokens("Hi.", "m"),
                lambda: client.embeddings.create("Hi.", "m"),
                client.models.list,
            ]
            for call in calls:
                try:
                    call()
                except AntiphonError as error:
                    raised.append(error)
    assert raised
    for one in raised:
        assert not shown(everything(one))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"base_url": f"http://user:{CANARY}@127.0.0.1/v1"}, ValueError),
        ({"base_url": f"http://127.0.0.1/?key={CANARY}"}, ValueError),
        ({"base_url": f"zz{CANARY}"}, ValueError),
        ({"base_url": "http://127.0.0.1/v1", "api_key": f"{CANARY}\n\x00é"}, AntiphonError),
        ({"base_url": "http://127.0.0.1/v1", "api_key": CANARY, "timeout": -1}, ValueError),
        ({"api_key": CANARY, "transport": HTTPTransport(), "verify": False}, TypeError),
    ],
)
def test_arguments_of_a_client_with_a_key(kind: Any, wrong: dict[str, Any], error: type[Exception]) -> None:
    """A client that cannot be made shows the key it was given in no traceback printed with locals."""
    with pytest.raises(error) as raised:
        kind(**wrong)
    assert not shown(everything(raised.value))
