"""What every format's decoder makes of bytes that are not as promised: one table of faults, one of formats."""

from __future__ import annotations

from struct import pack
from zlib import crc32

import pytest

from antiphon.chat.events import End, Finish, fold, unfold
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.errors import BadRequestError, ResponseTooLargeError
from antiphon.formats import json
from antiphon.formats.codec import Codec
from antiphon.formats.framing import eventstream, sse
from antiphon.formats.ollama import Ollama
from tests.wire import laws
from tests.wire.test_every_byte import ANSWER, CODECS

ALL: dict[str, Codec] = {**CODECS, "ollama": Ollama()}
REQUEST = ChatRequest("m", (Message.user("grüß"),), stream=True, max_tokens=5)
MiB = 1024 * 1024
SOME = 3
"""How many events of the answer every format has a frame for: the start, the role and the thoughts."""


@pytest.fixture(params=ALL)
def codec(request: pytest.FixtureRequest) -> Codec:
    """Every format."""
    return ALL[request.param]


def framed(codec: Codec, payload: bytes, event: str = "x") -> bytes:
    """Return the frame of *codec* that holds *payload*."""
    if codec.name == "bedrock":
        return eventstream.encode(eventstream.encode_headers({":message-type": "event", ":event-type": event}), payload)
    return payload + b"\n" if codec.name == "ollama" else sse.encode(payload)


def written(codec: Codec) -> bytes:
    """Return the body of a stream that is as it should be."""
    return laws.encoded(codec, REQUEST, unfold(ANSWER))


@pytest.mark.parametrize(
    "payload",
    [b"{", b"nonsense", b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":NaN}', b"[1]", b'"x"', b"null", b"{}{}"],
    ids=["cut off", "no JSON", "invalid UTF-8", "lone surrogate", "NaN", "array", "string", "null", "two"],
)
def test_a_frame_that_is_no_object(codec: Codec, payload: bytes) -> None:
    """A frame that is no JSON object in UTF-8 is an error after the events before it, and no finish comes of it."""
    whole = laws.decoded(codec, REQUEST, [written(codec)], codec.stream_type)
    begin = next(place for place, event in enumerate(whole) if type(event) is Finish)
    start = laws.encoded(codec, REQUEST, [*unfold(ANSWER)][:SOME])
    decoder = codec.decoder(REQUEST, codec.stream_type)
    received = laws.told(lambda: decoder.feed(start + framed(codec, payload)))
    assert isinstance(received[-1], str)
    assert "frame that is not" in received[-1] or "line that is not" in received[-1] or "not JSON" in received[-1]
    assert received[:-1] == whole[: len(received) - 1]
    assert len(received) - 1 < begin


def test_a_frame_without_end(codec: Codec) -> None:
    """A frame that never ends, or says that it will be too long, is given up, and what is held is bounded."""
    decoder = codec.decoder(REQUEST, codec.stream_type)
    piece = b"x" * MiB
    begin = framed(codec, b'{"a":"').rstrip(b"\n") if codec.name != "bedrock" else _long_frame(2**25)
    with pytest.raises(ResponseTooLargeError, match=" bytes"):  # noqa: PT012 - any of the pieces may be too many
        list(decoder.feed(begin))
        for _ in range(65):
            list(decoder.feed(piece))


def _long_frame(size: int) -> bytes:
    """Return the beginning of a frame of Bedrock's that says how long it will be."""
    lengths = pack(">II", size, 0)
    return lengths + pack(">I", crc32(lengths))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"model":"\xff"}', b'{"messages":' + b"[" * 100_000])
def test_a_request_that_is_no_object(codec: Codec, data: bytes) -> None:
    """A client's body that is no JSON object in UTF-8, or nested too deeply, is a bad request; its path is the root."""
    path = codec.encode_request(REQUEST).path
    with pytest.raises(BadRequestError) as caught:
        codec.decode_request(data, path)
    assert (caught.value.param, caught.value.status) == ("$", 400)


@pytest.mark.parametrize("data", [b"", b"  ", b"{", b"[1]", b"null", b"<html><title>Gone</title>", b'{"a":"\xff"}'])
def test_a_whole_answer_that_is_no_object(codec: Codec, data: bytes) -> None:
    """A whole answer that is no JSON object in UTF-8 is an error, whatever it is called, and no event comes of it."""
    for kind in (laws.JSON, "", "text/html"):
        decoder = codec.decoder(REQUEST.but(stream=False), kind)
        said = [*laws.told(lambda made=decoder: made.feed(data))]
        said += [] if said else laws.told(decoder.close)
        assert [type(item) for item in said] == [str], kind


WORDS = {
    "openai-chat": b'"finish_reason":"tool_calls"',
    "anthropic": b'"stop_reason":"tool_use"',
    "gemini": b'"finishReason":"STOP"',
    "cohere": b'"finish_reason":"TOOL_CALL"',
    "ollama": b'"done_reason":"stop"',
}
"""How answers end, of the formats where that is one word of text in the frames."""


@pytest.mark.parametrize("name", WORDS)
def test_an_unknown_finish_reason(name: str) -> None:
    """A finish reason that nobody knows is told as `other`, never as `stop`; the word itself is kept and given on."""
    codec, body = ALL[name], written(ALL[name])
    assert body.count(WORDS[name]) == 1
    field = WORDS[name].partition(b":")[0]
    odd = body.replace(WORDS[name], field + b':"odd_reason"')
    events = laws.decoded(codec, REQUEST, [odd], codec.stream_type)
    (choice,) = fold(events).choices
    assert (choice.finish_reason, choice.native_finish_reason) == ("other", "odd_reason")
    assert field + b':"odd_reason"' in laws.encoded(codec, REQUEST, events)


def test_an_unknown_event(codec: Codec) -> None:
    """A frame that nobody knows changes nothing of the answer, and is given on in its place."""
    new = framed(codec, json.encode({"type": "new.thing", "x_new": [1]}), "newThing")
    first, whole = laws.encoded(codec, REQUEST, [*unfold(ANSWER)][:SOME]), written(codec)
    assert b"" != first == whole[: len(first)]
    events = laws.decoded(codec, REQUEST, [first + new + whole[len(first) :]], codec.stream_type)
    plain = laws.decoded(codec, REQUEST, [whole], codec.stream_type)
    assert fold(events).choices == fold(plain).choices
    assert isinstance(events[-1], End)
    assert b'"x_new":[1]' in laws.encoded(codec, REQUEST, events)
