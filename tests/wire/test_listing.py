"""Lists of models, in each shape that is known."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.errors import APIError
from antiphon.formats.listing import listed_models, token_count
from antiphon.formats.times import timestamp, unix_time


class Told(APIError):
    """What the format at hand makes of an error."""


def told(source: dict[str, Any]) -> APIError:
    """Read an error as the format at hand does."""
    return Told(str(source))


@pytest.mark.parametrize(
    ("body", "listed"),
    [
        (b'{"object":"list","data":[{"id":"a","created":5},{"id":"b","created":null}]}', [("a", 5), ("b", 0)]),
        (b'[{"id":"a","name":"A"}]', [("a", 0)]),
        (b'{"data":[{"type":"model","id":"a","created_at":"2026-11-22T10:00:00Z"}]}', [("a", 1795341600)]),
        (b'{"models":[{"name":"models/a","displayName":"A"}]}', [("a", 0)]),
        (b'{"models":[{"name":"a:1b","model":"a:1b","modified_at":"2026-11-22T10:00:00Z"}]}', [("a:1b", 0)]),
        (b'{"models":[{"name":"a","endpoints":["chat"]}],"next_page_token":"x"}', [("a", 0)]),
        (b'{"modelSummaries":[{"modelId":"a","modelName":"A"}]}', [("a", 0)]),
        (b'{"models":[]}', []),
        (b'{"data":[],"error":null}', []),
    ],
    ids=["openai", "bare", "anthropic", "gemini", "ollama", "cohere", "bedrock", "empty", "no-error"],
)
def test_known_shapes(body: bytes, listed: list[tuple[str, int]]) -> None:
    """Names and, where they are told, dates are read from every provider's list."""
    assert listed_models(body, told, prefix="models/") == listed


@pytest.mark.parametrize("body", [b"", b"<html>", b"1", b"{}", b'{"data":{}}', b'{"data":[1]}', b'{"data":[{"id":1}]}'])
def test_anything_else(body: bytes) -> None:
    """What is no list of models is an error."""
    with pytest.raises(APIError, match=r"asked for its models|without a name"):
        listed_models(body, told)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"n":"3"}', b'{"n":true}'])
def test_no_count(body: bytes) -> None:
    """What does not tell the count of tokens is an error."""
    assert token_count(b'{"n":3}', "n", told) == 3
    with pytest.raises(APIError, match="asked to count tokens"):
        token_count(body, "n", told)


@pytest.mark.parametrize("body", [b'{"error":{"x":1}}', b'{"error":"No"}', b'{"message":"No"}', b'{"detail":"No"}'])
def test_an_error_instead(body: bytes) -> None:
    """An object that tells of an error is read as the format reads errors."""
    with pytest.raises(Told):
        listed_models(body, told)
    with pytest.raises(Told):
        token_count(body, "n", told)


def test_times() -> None:
    """Timestamps are read with their zone, to the second; what is none of them is 0."""
    assert unix_time("2026-11-22T10:00:00.123456789Z") == unix_time("2026-11-22T11:00:00+01:00") == 1795341600
    assert [unix_time(other) for other in ("2026-11-22T10:00:00", "soon", "", None, 5)] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("seconds", [0, 1, -5, 1795341600, 253402300799])
def test_times_there_and_back(seconds: int) -> None:
    """A time is the same after it was written and read."""
    assert unix_time(timestamp(seconds)) == seconds
    assert timestamp(seconds).endswith("Z")


@pytest.mark.parametrize("seconds", [1795341600000, 10**30, -(10**12)])
def test_times_that_cannot_be(seconds: int) -> None:
    """A time that no calendar has, such as one in milliseconds, is written as not known."""
    assert timestamp(seconds) == "1970-01-01T00:00:00Z"
