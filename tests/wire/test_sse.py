"""Server-sent events, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ResponseTooLargeError
from antiphon.formats.framing import sse
from tests.wire import laws


def parsed(*parts: bytes, limit: int = sse.MAX_EVENT) -> list[tuple[str, bytes]]:
    """Return the events of a body that comes in *parts*."""
    decoder = sse.SSEDecoder(limit=limit)
    return [*(event for part in parts for event in decoder.feed(part)), *decoder.close()]


def reference(body: bytes) -> list[tuple[str, bytes]]:
    """Read a whole body by the letter of the rules, one step after the other."""
    text = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[tuple[str, bytes]] = []
    name, data = "", list[bytes]()
    for line in [*text.split(b"\n"), b""]:
        if not line:
            if data:
                events.append((name, b"\n".join(data)))
            name, data = "", []
            continue
        if line.startswith(b":"):
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return events


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
        (b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", b"a"), ("", b"b")]),
        (b"data: a\r\n\ndata: b\n\r", [("", b"a"), ("", b"b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("", b"a")]),
        (b"data:a\n\n", [("", b"a")]),
        (b"data:  a \n\n", [("", b" a ")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"data\n\n", [("", b"")]),
        (b"data:\ndata:\n\n", [("", b"\n")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", b"a"), ("", b"b")]),
        (b"event: x\n\ndata: b\n\n", [("", b"b")]),
        (b"event: x\nevent: y\ndata: a\n\n", [("y", b"a")]),
        (b": comment\n:data: a\n\ndata: b\n: inside\ndata: c\n\n", [("", b"b\nc")]),
        (b": keep-alive\n\n: OPENROUTER PROCESSING\n\n", []),
        (b"id: 1\nretry: 5\nfoo: bar\nbaz\n data: no\ndata : no\nData: no\ndata: a\n\n", [("", b"a")]),
        (b"\n\n\ndata: a\n\n\n\n", [("", b"a")]),
        (b"data: a\n\ndata: cut", [("", b"a"), ("", b"cut")]),
        (b"data: a\n\ndata: cut\n", [("", b"a"), ("", b"cut")]),
        (b"data: a\n\nevent: cut", [("", b"a")]),
        ("data: a\u2028b\u0085c\u2029d\x0be\n\n".encode(), [("", "a\u2028b\u0085c\u2029d\x0be".encode())]),
        (b"data: \xff\xfe\x00\n\n", [("", b"\xff\xfe\x00")]),
        (b"event: \xff\ndata: a\n\n", [("\ufffd", b"a")]),
        (b"", []),
        (b"\n", []),
        (b"\xef\xbb", []),
        (b"\xef\xbbdata: a\n\n", []),
    ],
    ids=repr,
)
def test_rules(body: bytes, expected: list[tuple[str, bytes]]) -> None:
    """Each rule holds in one piece, in any two pieces, and byte by byte; and the reference reads the same."""
    assert expected == reference(body)
    assert expected == parsed(body)
    assert expected == parsed(*(body[place : place + 1] for place in range(len(body))))
    for cut in range(len(body) + 1):
        assert expected == parsed(body[:cut], body[cut:]), f"split at {cut}"


PIECES = (
    *(b"data: ", b"data:", b"data", b"event: e", b": ", b"id: 1", b'{"a": "b"}', b"x", b" ", b":"),
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n"),
    *(b"\xef\xbb\xbf", b"\xef", b"\xbb\xbf", "\u2028é€😀".encode(), b"\x85", b"\x00"),
)
BODIES = st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)


@given(BODIES, st.lists(st.integers(0, 80), max_size=8))
def test_any_split(body: bytes, cuts: list[int]) -> None:
    """Any bytes, split anywhere, are read as the reference reads them whole."""
    assert reference(body) == parsed(*laws.pieces(body, cuts))


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_garbage(body: bytes, cuts: list[int]) -> None:
    """Garbage is read like anything else."""
    assert reference(body) == parsed(*laws.pieces(body, cuts))


def test_events_come_as_soon_as_they_are_complete() -> None:
    """An event is given out with the byte that ends its blank line; after a CR nothing more is waited for."""
    decoder = sse.SSEDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [("", b"a")]
    assert decoder.feed(b"data: b\r\n\r") == [("", b"b")]
    assert decoder.feed(b"\ndata: c\r\r") == [("", b"c")]
    assert decoder.close() == []


@pytest.mark.parametrize(
    "endless",
    [[b"x" * 10] * 11, [b"data: xxxx\n"] * 26, [b":" * 10] * 11, [b"data: " + b"x" * 200], [b"data: xx\r"] * 51],
    ids=["line", "lines", "comment", "one-read", "cr"],
)
def test_bound(endless: list[bytes]) -> None:
    """An event that grows beyond the bound is given up, however it grows."""
    with pytest.raises(ResponseTooLargeError, match="more than 100 bytes"):
        parsed(*endless, limit=100)


def test_bound_is_of_one_event() -> None:
    """The bound is for what is held at a time: any number of events, comments and ignored lines may pass."""
    decoder = sse.SSEDecoder(limit=100)
    for _ in range(100):
        assert decoder.feed(b": comment comment\nid: 12345\ndata: 0123456789\n\n") == [("", b"0123456789")]


def test_complete_events_come_before_the_bound() -> None:
    """What is complete is given out even if what follows in the same read is too large; the fault comes next."""
    decoder = sse.SSEDecoder(limit=100)
    assert decoder.feed(b"data: a\n\n" + b"x" * 200) == [("", b"a")]
    with pytest.raises(ResponseTooLargeError):
        decoder.feed(b"x")


def test_encode() -> None:
    """An event is written with its name, if it has one, and a blank line."""
    assert sse.encode(b"{}") == b"data: {}\n\n"
    assert sse.encode(b"{}", event="ping") == b"event: ping\ndata: {}\n\n"


@given(st.lists(st.tuples(st.sampled_from([None, "a", "é"]), st.text().map(lambda text: text.encode()))))
def test_what_is_written_is_read(events: list[tuple[str | None, bytes]]) -> None:
    """Events without line ends in them come back as they were written."""
    clean = [(name, data.replace(b"\r", b"").replace(b"\n", b"")) for name, data in events]
    body = b"".join(sse.encode(data, event=name) for name, data in clean)
    assert [(name or "", data) for name, data in clean] == parsed(body)
