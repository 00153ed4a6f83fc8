"""Recorded streams, split in two and cut short at every byte: a short one of each host; in a campaign, all."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import End, Event, Finish, TextDelta, unfold
from antiphon.chat.messages import Message, Reasoning, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec, Decoder
from antiphon.formats.cohere import Cohere
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.stream import StreamDecoder
from antiphon.formats.responses import Responses
from tests import recordings
from tests.recordings import Exchange
from tests.wire import laws
from tests.wire.test_every_recording import FORMATS

CODECS: Mapping[str, Codec] = {
    codec.name: codec for codec in (OpenAIChat(), Responses(), Anthropic(), Gemini(), Bedrock(), Cohere())
}

STREAMS = {
    "api.anthropic.com": 7,
    "api.deepseek.com": 2,
    "api.groq.com": 4,
    "api.openai.com": 24,
    "bedrock-runtime.us-east-1.amazonaws.com": 4,
    "generativelanguage.googleapis.com": 8,
    "openrouter.ai": 4,
    "router.huggingface.co": 1,
}
"""How many streams are recorded of each host; the others have none."""

LONGEST = 4_000
"""Most bytes of an element of a JSON array: what a decoder does with one takes time by the square of it. The same
frames, as server-sent events, are looked at whatever their length."""


def codec_of(exchange: Exchange) -> Codec:
    """Return the codec of the format that the exchange is in."""
    return next(CODECS[name] for name, pattern in FORMATS.items() if re.search(pattern, exchange.url))


def request_of(exchange: Exchange) -> ChatRequest:
    """Return the request as its codec reads it."""
    return codec_of(exchange).decode_request(json.encode(exchange.request), urlsplit(exchange.url).path)


def streams(host: str) -> list[Exchange]:
    """Return the recorded streams of a host."""
    found = recordings.exchanges(f"{host}/*.json")
    return [exchange for exchange in found if exchange.status == 200 and "stream" in (exchange.content_type or "")]


@contextmanager
def named(name: str) -> Generator[None]:
    """Say of which recording it is that an assertion failed."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"in {name}")
        raise


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Coverage looks away: it would see the same lines millions of times, and take thrice the time for it."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.mark.usefixtures("cassettes")
def test_streams_are_known() -> None:
    """Every stream that is recorded is among those that are looked at, host by host."""
    hosts = {path.name for path in recordings.CASSETTES.iterdir() if path.is_dir()}
    assert {host: len(found) for host in hosts if (found := streams(host))} == STREAMS


@pytest.mark.usefixtures("cassettes", "unmeasured")
@pytest.mark.parametrize("host", STREAMS)
def test_the_shortest_stream(host: str) -> None:
    """Split in two at any byte a stream gives the same events; cut short at any it is an error or all there."""
    shortest = min(streams(host), key=lambda exchange: len(exchange.content))
    with named(shortest.name):
        laws.check_every_cut(codec_of(shortest), request_of(shortest), shortest.content, shortest.content_type or "")


@pytest.mark.campaign
@pytest.mark.usefixtures("cassettes", "unmeasured")
@pytest.mark.parametrize("host", STREAMS)
def test_streams(host: str, record_property: Callable[[str, object], None]) -> None:
    """The same holds for every stream that is recorded."""
    exchanges = streams(host)
    different = {exchange.content: exchange for exchange in exchanges}  # some were recorded more than once
    for exchange in different.values():
        codec, request = codec_of(exchange), request_of(exchange)
        with named(exchange.name):
            laws.check_every_cut(codec, request, exchange.content, exchange.content_type or "")
    record_property("streams", len(exchanges))
    record_property("bytes", sum(map(len, different)))


@pytest.mark.usefixtures("cassettes", "unmeasured")
def test_the_shortest_array_of_gemini() -> None:
    """The same holds for the shortest where Gemini sends its frames as elements of one JSON array."""
    found = streams("generativelanguage.googleapis.com")
    shortest = min(found, key=lambda exchange: len(exchange.content))
    with named(shortest.name):
        laws.check_every_cut(Gemini(), request_of(shortest), json.encode(laws.frames(shortest.content)), laws.JSON)


@pytest.mark.campaign
@pytest.mark.usefixtures("cassettes", "unmeasured")
def test_arrays_of_gemini() -> None:
    """The same holds where Gemini sends its frames as elements of one JSON array."""
    looked_at = 0
    for exchange in streams("generativelanguage.googleapis.com"):
        frames = laws.frames(exchange.content)
        if max(len(json.encode(frame)) for frame in frames) <= LONGEST:
            looked_at += 1
            with named(exchange.name):
                laws.check_every_cut(Gemini(), request_of(exchange), json.encode(frames), laws.JSON)
    assert looked_at == STREAMS["generativelanguage.googleapis.com"] - 2


ANSWER = Completion(
    id="answer_1",
    model="m",
    choices=(
        Choice(
            0,
            Message(
                "assistant",
                (
                    Reasoning("Grüße? 你好 \U0001f44b\n", signature="c2ln"),
                    Text('He said "ok";\r\n\u2028 data: {"a": [1]}'),
                    ToolCall("call_1", "look_up", '{"city":"Zürich","days":[1,2]}'),
                    ToolCall("call_2", "look_up", "{}"),
                ),
            ),
            "tool_calls",
        ),
    ),
    usage=Usage(input_uncached=3, output_visible=5),
)


@pytest.mark.parametrize("name", [*CODECS, "ollama"])
def test_written_streams(name: str) -> None:
    """The same holds in every format for a stream of thoughts, text and calls that its encoder wrote."""
    codec = CODECS.get(name) or Ollama()
    request = ChatRequest("m", (), stream=True, include_usage=True)
    laws.check_every_cut(codec, request, laws.encoded(codec, request, unfold(ANSWER)), codec.stream_type)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("name", [name for name in CODECS if name != "bedrock"])
def test_other_line_ends(name: str, end: bytes) -> None:
    """The same holds for server-sent events whose lines end otherwise, after a byte-order mark, amid comments."""
    codec, request = CODECS[name], ChatRequest("m", (), stream=True)
    body = laws.encoded(codec, request, unfold(ANSWER)).replace(b"\n\n", b"\n\n: a comment\n\n").replace(b"\n", end)
    laws.check_every_cut(codec, request, b"\xef\xbb\xbf" + body, laws.SSE)


# The law itself


class Hasty(StreamDecoder):
    """Ends an answer wherever the body ends."""

    def close(self) -> Iterator[Event]:
        """Give what came, and the end."""
        yield Finish("stop")
        yield End()


class Jumpy(StreamDecoder):
    """Forgets what it holds when a piece is a single byte."""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, if they are several."""
        return super().feed(data if len(data) != 1 or data == b"\n" else b"")


class Counting(StreamDecoder):
    """Remembers how many pieces came."""

    pieces = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, and note that."""
        self.pieces += 1
        return super().feed(data)


@pytest.mark.parametrize("broken", [Hasty, Jumpy, Counting])
def test_a_broken_decoder_is_noticed(broken: type[StreamDecoder]) -> None:
    """The law does not hold for a decoder that takes any end for a finish, or to which the pieces matter."""
    codec, request = OpenAIChat(), ChatRequest("m", (), stream=True)
    body = laws.encoded(codec, request, [TextDelta("Hi "), TextDelta("you"), End("stop")])
    laws.check_every_cut(With(own=StreamDecoder), request, body)
    with pytest.raises(AssertionError):
        laws.check_every_cut(With(own=broken), request, body)


class With(OpenAIChat, frozen=True, kw_only=True):
    """A codec with a decoder of its own."""

    own: type[StreamDecoder] = StreamDecoder

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return the decoder."""
        return self.own()
