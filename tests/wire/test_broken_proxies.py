"""What broken proxies make of streams, in every format: frames run together, frames torn apart, ends left out.

What cannot be read without guessing is an error, never an answer with a hole (wire-formats.md, 4.8: "treat clean EOF
after a finish_reason as success, EOF without as error").
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from antiphon.chat.events import Event, fold, unfold
from antiphon.chat.requests import ChatRequest
from antiphon.errors import StreamError
from antiphon.formats.codec import Codec
from antiphon.formats.ollama import Ollama
from tests.wire import laws
from tests.wire.test_every_byte import ANSWER, CODECS

REQUEST = ChatRequest("m", (), stream=True)
TEXTUAL: dict[str, Codec] = {name: codec for name, codec in CODECS.items() if name != "bedrock"} | {"ollama": Ollama()}
"""Every format whose frames are text; those of Bedrock have checksums, which `test_frames.py` is about."""


@pytest.fixture(params=TEXTUAL)
def codec(request: pytest.FixtureRequest) -> Codec:
    """Every format whose frames are text."""
    return TEXTUAL[request.param]


def frames(codec: Codec) -> list[bytes]:
    """Return the frames of a stream, with whatever they end in."""
    body = laws.encoded(codec, REQUEST, unfold(ANSWER))
    end = b"\n" if codec.stream_type == "application/x-ndjson" else b"\n\n"
    return [frame + end for frame in body.removesuffix(end).split(end)]


def payload(frame: bytes) -> bytes:
    """Return the JSON in a frame."""
    return frame[frame.index(b"{") :].rstrip(b"\n")


def intact(codec: Codec) -> list[Event]:
    """Return the events of the stream as it was before any proxy."""
    return laws.decoded(codec, REQUEST, [laws.encoded(codec, REQUEST, unfold(ANSWER))], codec.stream_type)


def check_broken(codec: Codec, body: bytes, told: list[Event]) -> None:
    """Fail unless the stream is an error after events that are those *told* by the intact one, as far as they go."""
    decoder, received = codec.decoder(REQUEST, codec.stream_type), list[Event]()
    with pytest.raises(StreamError):  # noqa: PT012 - either may raise
        received.extend(decoder.feed(body))
        received.extend(decoder.close())
    assert received == told[: len(received)] != told


@pytest.mark.parametrize("between", [b"", b" ", b"\ndata: "], ids=["nothing", "space", "line"])
def test_two_objects_in_one_event(codec: Codec, between: bytes) -> None:
    """Two JSON objects in one event are an error wherever they stand in a stream, and so are two on one line."""
    if codec.name == "ollama":
        between = between.strip(b"\ndat:")  # lines are what its frames are
    found, told = [frame for frame in frames(codec) if b"{" in frame], intact(codec)
    for number in range(len(found) - 1):
        one, two = found[number], found[number + 1]
        merged = one.rstrip(b"\n") + between + payload(two) + one[len(one.rstrip(b"\n")) :]
        check_broken(codec, b"".join([*found[:number], merged, *found[number + 2 :]]), told)


def test_one_object_over_two_events(codec: Codec) -> None:
    """A JSON object that was torn into two events is an error wherever it was torn, and so is one over two lines."""
    found, told = [frame for frame in frames(codec) if b"{" in frame], intact(codec)
    for number, frame in enumerate(found[:-1]):
        start, end = frame.index(b"{"), frame[len(frame.rstrip(b"\n")) :]
        data, head = payload(frame), frame[:start]
        for cut in range(1, len(data)):
            torn = head + data[:cut] + end + head + data[cut:] + end
            check_broken(codec, b"".join([*found[:number], torn, *found[number + 1 :]]), told)


@pytest.mark.parametrize(
    "change", [lambda body: body.replace(b"data: [DONE]\n\n", b""), lambda body: body.rstrip(b"\n")]
)
def test_an_end_that_is_left_out(codec: Codec, change: Callable[[bytes], bytes]) -> None:
    """A stream without `[DONE]`, or without its last line end, is the whole answer: its finish had come."""
    body = laws.encoded(codec, REQUEST, unfold(ANSWER))
    whole = fold(intact(codec))
    assert whole == fold(laws.decoded(codec, REQUEST, [change(body)], codec.stream_type))
    assert whole.choices[0].finish_reason == "tool_calls"
