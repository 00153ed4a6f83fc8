"""Lists of models, in each shape that is known."""

from __future__ import annotations

import pytest

from antiphon.errors import APIError
from antiphon.wire.listing import listed_models, unix_time


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
    ],
    ids=["openai", "bare", "anthropic", "gemini", "ollama", "cohere", "bedrock", "empty"],
)
def test_known_shapes(body: bytes, listed: list[tuple[str, int]]) -> None:
    """Names and, where they are told, dates are read from every provider's list."""
    assert listed_models(body, prefix="models/") == listed


@pytest.mark.parametrize("body", [b"", b"<html>", b"1", b"{}", b'{"data":{}}', b'{"data":[1]}', b'{"data":[{"id":1}]}'])
def test_anything_else(body: bytes) -> None:
    """What is no list of models is an error."""
    with pytest.raises(APIError, match=r"asked for its models|without a name"):
        listed_models(body)


def test_times() -> None:
    """Timestamps are read with their zone, to the second; what is none of them is 0."""
    assert unix_time("2026-11-22T10:00:00.123456789Z") == unix_time("2026-11-22T11:00:00+01:00") == 1795341600
    assert [unix_time(other) for other in ("2026-11-22T10:00:00", "soon", "", None, 5)] == [0, 0, 0, 0, 0]
