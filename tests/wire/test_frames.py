"""Frames of AWS event streams: cut anywhere, checked twice, bounded, and the same as botocore's."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ResponseTooLargeError, StreamError
from antiphon.formats.framing.eventstream import EventStreamDecoder, encode, encode_headers
from tests.vendors import botocore

HEADERS = {":event-type": "x", ":message-type": "event"}
FRAME = encode(encode_headers(HEADERS), b'{"a":1}')


def framed(headers: bytes, payload: bytes = b"") -> bytes:
    """Return a frame of header bytes of any shape, with the right checksums."""
    lengths = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    frame = lengths + struct.pack(">I", crc32(lengths)) + headers + payload
    return frame + struct.pack(">I", crc32(frame))


def read(*pieces: bytes, limit: int = 10**6) -> list[tuple[Any, bytes]]:
    """Return the frames of a body that comes in *pieces*."""
    decoder = EventStreamDecoder(limit=limit)
    found = [frame for piece in pieces for frame in decoder.feed(piece)]
    decoder.close()
    return found


_texts = st.text(max_size=6)
_frames = st.tuples(st.dictionaries(_texts, _texts, max_size=3), st.binary(max_size=40))


@given(st.lists(_frames, max_size=4), st.lists(st.integers(0, 300), max_size=6))
def test_there_and_back_in_any_pieces(frames: list[tuple[dict[str, str], bytes]], cuts: list[int]) -> None:
    """What was written is read again, wherever the bytes are split, also by botocore."""
    data = b"".join(encode(encode_headers(headers), payload) for headers, payload in frames)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert frames == read(*(data[start:end] for start, end in pairwise(places)))
    buffer = botocore.eventstream.EventStreamBuffer()
    buffer.add_data(data)
    assert frames == [(message.headers, message.payload) for message in buffer]


def test_every_byte_alone() -> None:
    """Three frames come out of single bytes as they do in one piece."""
    data = FRAME * 3
    assert read(*(bytes((byte,)) for byte in data)) == read(data) == [(HEADERS, b'{"a":1}')] * 3


@pytest.mark.parametrize("place", range(len(FRAME)))
def test_a_changed_byte_is_noticed(place: int) -> None:
    """Wherever one bit is changed on the way, a checksum tells, and no frame comes out."""
    changed = bytearray(FRAME)
    changed[place] ^= 1
    decoder = EventStreamDecoder()
    with pytest.raises(StreamError, match="checksum"):
        list(decoder.feed(bytes(changed) + FRAME))


def test_frames_before_a_fault_come_out() -> None:
    """What is whole is given before the fault that follows it in the same read."""
    decoder = EventStreamDecoder()
    frames = decoder.feed(FRAME + b"no frame at all")
    assert next(frames) == (HEADERS, b'{"a":1}')
    with pytest.raises(StreamError, match="checksum"):
        next(frames)


def test_a_frame_beyond_the_bound() -> None:
    """A frame that says that it is too large is given up at its first twelve bytes; one of just that size is read."""
    assert len(read(FRAME, limit=len(FRAME))) == 1
    with pytest.raises(ResponseTooLargeError, match="more than"):
        read(FRAME[:12], limit=len(FRAME) - 1)


def test_what_is_held_is_bounded() -> None:
    """After many frames nothing of them is left."""
    decoder = EventStreamDecoder()
    for _ in range(1000):
        assert len([*decoder.feed(FRAME)]) == 1
    decoder.close()
    assert not [*decoder.feed(FRAME[:-1])]
    with pytest.raises(StreamError, match="middle of a frame"):
        decoder.close()


@pytest.mark.parametrize(("total", "headers"), [(10, 0), (0, 0), (16, 1), (20, 2**32 - 1)])
def test_impossible_lengths(total: int, headers: int) -> None:
    """Lengths that contradict each other are a fault, though their checksum is right."""
    lengths = struct.pack(">II", total, headers)
    with pytest.raises(StreamError, match="more headers"):
        read(lengths + struct.pack(">I", crc32(lengths)) + b"\0" * 20)


def test_every_type_of_header() -> None:
    """All ten types of values are read."""
    values = {
        0: (b"", True),
        1: (b"", False),
        2: (b"\xff", -1),
        3: (b"\x01\x00", 256),
        4: (b"\0\0\0\x05", 5),
        5: (b"\0" * 7 + b"\x06", 6),
        6: (b"\0\x02\x01\x02", "AQI="),
        7: (b"\0\x02\xc3\xa4", "ä"),
        8: (b"\0" * 7 + b"\x07", 7),
        9: (b"\0" * 16, "AAAAAAAAAAAAAAAAAAAAAA=="),
    }
    written = b"".join(b"\x01" + str(kind).encode() + bytes((kind,)) + data for kind, (data, _) in values.items())
    assert read(framed(written, b"p")) == [({str(kind): value for kind, (_, value) in values.items()}, b"p")]


@pytest.mark.parametrize(
    "headers",
    [b"\x05ab", b"\x01a", b"\x01a\x0a", b"\x01a\x07\0\x05abc", b"\x01a\x07\0", b"\x01\xff\0", b"\x01a\x05\0"],
)
def test_headers_that_cannot_be_read(headers: bytes) -> None:
    """Headers that are cut off, of an unknown type or not UTF-8 are a fault of the stream."""
    with pytest.raises(StreamError, match="headers"):
        read(framed(headers))
