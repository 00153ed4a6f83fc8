"""HTTP/1.1 as bytes: whatever the split, the same response; whatever is malformed, an error."""

from __future__ import annotations

import gzip
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.http.http1 import Gunzip, MalformedError, ResponseReader, request_head
from tests.peers import CHUNKED, chunk, reply

ANSWERS = {
    "length": (reply(b"hello", "X: 1"), b"hello", True),
    "empty": (reply(b""), b"", True),
    "chunked": (CHUNKED + chunk(b"hel") + chunk(b"lo") + chunk(b""), b"hello", True),
    "extensions": (CHUNKED + b'3 ;a="b"\r\nhel\r\n02\r\nlo\r\n000\r\n\r\n', b"hello", True),
    "trailer": (CHUNKED + chunk(b"hello") + b"0\r\na: b\r\nc: d\r\n\r\n", b"hello", True),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"hello"), b"hello", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", b"", True),
    "twice the same": (b"HTTP/1.1 200 \r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi", b"hi", True),
    "close": (reply(b"hello", "Connection: Close"), b"hello", False),
    "old": (b"HTTP/1.0" + reply(b"hello")[8:], b"hello", False),
    "old that stays": (b"HTTP/1.0" + reply(b"hello", "connection: keep-alive")[8:], b"hello", True),
    "surplus": (reply(b"hello") + b"HTTP", b"hello", False),
    "surplus after chunks": (CHUNKED + chunk(b"hello") + chunk(b"") + b"x", b"hello", False),
    "both framings": (
        CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-length: 2\r\n\r\n") + chunk(b"hello") + chunk(b""),
        b"hello",
        False,
    ),
}


def read(answer: bytes, *cuts: int) -> tuple[ResponseReader, bytes]:
    """Read *answer*, split at *cuts*."""
    reader = ResponseReader()
    edges = [0, *sorted(cuts), len(answer)]
    return reader, b"".join([reader.feed(answer[start:end]) for start, end in itertools.pairwise(edges)])


@pytest.mark.parametrize("name", ANSWERS)
def test_every_split(name: str) -> None:
    """A response split in two anywhere, or into single bytes, reads as the whole one does."""
    answer, body, keep_alive = ANSWERS[name]
    for cuts in [(), range(1, len(answer)), *((cut,) for cut in range(len(answer) + 1))]:
        reader, got = read(answer, *cuts)
        assert (got, reader.complete, reader.keep_alive) == (body, True, keep_alive)


@pytest.mark.parametrize("name", ["length", "chunked", "extensions", "trailer", "interim"])
def test_every_cut(name: str) -> None:
    """A response is complete with its last byte and not before."""
    answer, _, _ = ANSWERS[name]
    for end in range(len(answer)):
        reader, _ = read(answer[:end])
        assert not reader.complete
        assert not reader.eof()


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.lists(st.integers(0, 3000), max_size=6))
def test_chunks(parts: list[bytes], cuts: list[int]) -> None:
    """The data of chunks are the body, whatever they hold and however they arrive."""
    answer = CHUNKED + b"".join(map(chunk, parts)) + chunk(b"")
    reader, got = read(answer, *(min(cut, len(answer)) for cut in cuts))
    assert (got, reader.complete) == (b"".join(parts), True)


def test_a_chunk_is_not_waited_for() -> None:
    """What is there of a chunk is given before the rest of it comes."""
    reader, got = read(CHUNKED + b"ff\r\nhello")
    assert (got, reader.complete) == (b"hello", False)


def test_until_the_end() -> None:
    """Without a length the body ends with the connection, and only then."""
    reader, got = read(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert (got, reader.complete) == (b"hello", False)
    assert reader.eof()
    assert not reader.keep_alive


def test_fields() -> None:
    """Field names are lower-case, values are without the space around them, and repeated ones are joined."""
    reader, _ = read(
        b"HTTP/1.1 404 Not Found\r\nA-B:1\r\na-b: \t2 \r\nC:\r\n\xe9: x\r\ncontent-length: 0\r\n\r\n".replace(
            b"\xe9: x\r\n", b""
        )
    )
    assert (reader.status, reader.reason) == (404, "Not Found")
    assert reader.headers == {"a-b": "1, 2", "c": "", "content-length": "0"}


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"x",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b": no name\r\n\r\n",
        HEAD + b"a : space\r\n\r\n",
        HEAD + b"a: 1\r\n folded: 2\r\n\r\n",
        HEAD + b"content-length: x\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: +1\r\n\r\n",
        HEAD + b"content-length: \r\n\r\n",
        HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        HEAD + b"content-length: 99999999999999999999\r\n\r\n",
        HEAD + b"transfer-encoding: gzip\r\n\r\n",
        HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n",
        HEAD + b"a: " + b"b" * 200_000,
        HEAD + b"a: " + b"b" * 200_000 + b"\r\n\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"x\r\n",
        CHUNKED + b"0x1\r\na\r\n",
        CHUNKED + b"-1\r\na\r\n",
        CHUNKED + b"1_0\r\na\r\n",
        CHUNKED + b" 1\r\na\r\n",
        CHUNKED + b"ffffffffffffffff\r\n",
        CHUNKED + b"1" * 5000,
        CHUNKED + b"1\r\nab\r\n",
        CHUNKED + b"0\r\n" + b"a: b\r\n" * 40_000,
    ],
)
def test_malformed(answer: bytes) -> None:
    """What is not HTTP/1.1 is an error that quotes nothing of it."""
    with pytest.raises(MalformedError) as raised:
        read(answer)
    assert "bbb" not in str(raised.value)


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"content-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"\r\n", b"\n") + b"content-length: 0\n\n",
        OK.replace(b"\r\n", b"\n") + LENGTH,
        OK + b"x: a\nset-cookie: b\r\n" + LENGTH,
        OK + b"x: a\rset-cookie: b\r\n" + LENGTH,
        OK + b"x: a\r\r\n" + LENGTH,
        OK + b"x: a\0b\r\n" + LENGTH,
        OK + b"x: a\x01b\r\n" + LENGTH,
        OK + b"x: a\x7fb\r\n" + LENGTH,
        OK + b"\nx: a\r\n" + LENGTH,
        b"HTTP/1.1 200 O\nK\r\n" + LENGTH,
        b"HTTP/1.1 200 O\rK\r\n" + LENGTH,
        b"HTTP/1.1 100 Continue\r\nx: a\nb\r\n\r\n" + OK + LENGTH,
        b"HTTP/1.1 100 Continue\n\n" + OK + LENGTH,
        CHUNKED + b"2\nhi\n0\n\n",
        CHUNKED + b"2;a\nb\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2;a\rb\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2;a\0b\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nhi\n0\r\n\r\n",
        CHUNKED + b"2\r\nhi\r\n0\n\n",
        CHUNKED + chunk(b"hi") + b"0\r\na: b\nc: d\r\n\r\n",
        CHUNKED + chunk(b"hi") + b"0\r\na: b\rc: d\r\n\r\n",
        CHUNKED + chunk(b"hi") + b"0\r\na: b\0\r\n\r\n",
        CHUNKED + chunk(b"hi") + b"0\r\na: b\n\n",
    ],
)
def test_lines_and_values_that_others_read_otherwise(answer: bytes) -> None:
    """A line that does not end in CR LF, and a control character, are errors wherever they stand and are split."""
    for cuts in ((), range(1, len(answer)), *((cut,) for cut in range(1, len(answer)))):
        with pytest.raises(MalformedError):
            read(answer, *cuts)


def test_bytes_that_a_value_may_hold() -> None:
    """A tab, and bytes beyond ASCII, are part of a value; in a body everything is."""
    body = bytes(range(256)) + b"\n\n\r\r\n"
    answer = OK + b"x: a\tb\r\ny: \xe9\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    for cut in range(1, len(answer)):
        reader, got = read(answer, cut)
        assert (reader.headers["x"], reader.headers["y"], got) == ("a\tb", "\xe9", body)


class Counting(bytearray):
    """Counts how many bytes are looked at for the end of a head."""

    looked_at = 0

    def find(self, *args: Any) -> int:
        """Find, and count from where."""
        self.looked_at += len(self) - (args[1] if len(args) > 1 else 0)
        return super().find(*args)

    def count(self, *args: Any) -> int:
        """Count, and count from where."""
        self.looked_at += len(self) - (args[1] if len(args) > 1 else 0)
        return super().count(*args)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"".join(b"x-%d: %s\r\n" % (number, b"y" * 500) for number in range(200)),
        CHUNKED + chunk(b"hi") + b"0\r\n" + b"a: b\r\n" * 2000,
    ],
    ids=["head", "trailer"],
)
def test_byte_by_byte_is_linear(answer: bytes) -> None:
    """A long head or trailer that comes byte by byte costs a few looks at each of its bytes, not at all before it."""
    reader = ResponseReader()
    reader._buffer = buffer = Counting()
    for byte in answer:
        reader.feed(bytes([byte]))
    assert not reader.complete
    assert 0 < buffer.looked_at < 20 * len(answer)


def test_many_interim_responses() -> None:
    """Interim responses are passed over up to a bound, in one read or many, without recursion."""
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    for cuts in ((), range(1, 2000, 7)):
        reader, got = read(interim * 100 + reply(b"hello"), *cuts)
        assert (reader.status, got, reader.complete, reader.keep_alive) == (200, b"hello", True, True)
        with pytest.raises(MalformedError, match="more than 100 interim responses"):
            read(interim * 5000 + reply(b"hello"), *cuts)


@pytest.mark.parametrize("step", [1, 1000, 1_000_000])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (OK + b"x: " + b"y" * 140_000 + b"\r\n" + LENGTH, "head .* longer than"),
        (OK + (b"x: " + b"y" * 1000 + b"\r\n") * 140 + LENGTH, "head .* longer than"),
        (OK + b"".join(b"x%d: y\r\n" % number for number in range(300)) + LENGTH, "more than 256 header fields"),
        (OK + b"x: y\r\n" * 300 + LENGTH, "more than 256 header fields"),
        ((b"HTTP/1.1 102 P\r\nx: " + b"y" * 16_000 + b"\r\n\r\n") * 9 + OK + LENGTH, "head .* longer than"),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * 24_000 + b"\r\n", "trailer .* too long"),
    ],
    ids=["one field", "one name", "names", "fields", "interim", "trailer"],
)
def test_bounds(answer: bytes, says: str, step: int) -> None:
    """The number of header fields and their size are bounded, however they arrive."""
    with pytest.raises(MalformedError, match=says):
        read(answer, *range(step, len(answer), step))


def test_trailers_are_dropped() -> None:
    """A field after the body changes nothing that the head said."""
    reader, got = read(CHUNKED + chunk(b"hi") + b"0\r\nconnection: close\r\ncontent-type: x\r\nretry-after: 9\r\n\r\n")
    assert (got, reader.complete, reader.keep_alive) == (b"hi", True, True)
    assert reader.headers == {"content-type": "text/event-stream", "transfer-encoding": "chunked"}


def test_request() -> None:
    """A request's head is its line, its fields and an empty line."""
    assert request_head("POST", "/v1?a=%20", {"host": "a", "x": "é ä\t!"}) == (
        b"POST /v1?a=%20 HTTP/1.1\r\nhost: a\r\nx: \xe9 \xe4\t!\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "target", "headers", "says"),
    [
        ("GET x", "/", {}, "method or the path"),
        ("GET", "/a b", {}, "method or the path"),
        ("GET", "/é", {}, "method or the path"),
        ("GET", "/ HTTP/1.1\r\na: b", {}, "method or the path"),
        ("GET", "/", {"a": "secret\r\nb: c"}, "'a'"),
        ("GET", "/", {"fine": "1", "a": "secret\n"}, "'a'"),
        ("GET", "/", {"a": "secret\x00"}, "'a'"),
        ("GET", "/", {"a": "secret ы"}, "'a'"),
        ("GET", "/", {"a: b\r\nc": "secret"}, "'a: b"),
        ("GET", "/", {"": "secret"}, "''"),
    ],
)
def test_requests_that_would_arrive_otherwise(method: str, target: str, headers: dict[str, str], says: str) -> None:
    """What would not arrive as it is, or as more than one field, is refused, and the value not quoted."""
    with pytest.raises(ValueError, match=says) as raised:
        request_head(method, target, headers)
    assert "secret" not in str(raised.value)


@given(st.lists(st.binary(max_size=200_000), min_size=1, max_size=3), st.integers(1, 5000))
def test_gunzip(members: list[bytes], step: int) -> None:
    """A gzip body of one or more members unpacks whole, however it arrives, in pieces of a bounded size."""
    packed = b"".join(map(gzip.compress, members))
    gunzip = Gunzip()
    pieces = [piece for start in range(0, len(packed), step) for piece in gunzip.feed(packed[start : start + step])]
    assert b"".join(pieces) == b"".join(members)
    assert all(0 < len(piece) <= 65536 for piece in pieces)
    assert gunzip.complete


def test_gunzip_ends() -> None:
    """A gzip body is complete at its end only; no bytes at all are an empty body."""
    packed = gzip.compress(b"hello")
    gunzip = Gunzip()
    assert gunzip.complete
    for end in range(1, len(packed)):
        list(gunzip.feed(packed[end - 1 : end]))
        assert not gunzip.complete
    list(gunzip.feed(packed[-1:]))
    assert gunzip.complete


def test_gunzip_of_something_else() -> None:
    """What is not gzip is an error."""
    with pytest.raises(MalformedError, match="not the gzip"):
        list(Gunzip().feed(b"hello there, this is plain text"))
