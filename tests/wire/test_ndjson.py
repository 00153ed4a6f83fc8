"""JSON lines: lines out of bytes, split anywhere."""

from __future__ import annotations

import pytest

from antiphon.errors import ResponseTooLargeError
from antiphon.formats.framing.ndjson import LineDecoder, encode


def test_every_split() -> None:
    """Lines come whole wherever reads end; blank ones are passed over, and one that the end cuts off comes last."""
    body = encode(b'{"a":1}') + b"\r\n\n  \n" + b"[2]\r\n" + b"3"
    for cut in range(len(body) + 1):
        decoder = LineDecoder()
        lines = [*decoder.feed(body[:cut]), *decoder.feed(body[cut:]), *decoder.close()]
        assert lines == [b'{"a":1}', b"[2]\r", b"3"], f"split at {cut}"
        assert decoder.close() == []


def test_a_line_that_never_ends_is_given_up() -> None:
    """What is held of one line is bounded; complete lines before it come first."""
    decoder = LineDecoder(limit=10)
    assert decoder.feed(b"{}\n{}\n12345678") == [b"{}", b"{}"]
    with pytest.raises(ResponseTooLargeError):
        decoder.feed(b"901")
