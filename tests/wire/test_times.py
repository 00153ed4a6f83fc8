"""Times that answers tell, in whichever way providers tell them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import unfold
from antiphon.chat.messages import Message, Text
from antiphon.chat.requests import ChatRequest
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Dialect, ListedModel
from antiphon.formats.cohere import Cohere
from antiphon.formats.gemini import Gemini
from antiphon.formats.listing import listed_models
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.legacy_completions import OpenAIText
from antiphon.formats.responses import Responses
from antiphon.formats.times import timestamp, unix_seconds

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (OpenAIChat(), OpenAIText(), Responses(), Anthropic(), Gemini(), Ollama(), Cohere(), Bedrock())
}
MADE = 1763800000

ODD: dict[str, Any] = {
    "milliseconds": MADE * 1000,
    "microseconds": MADE * 10**6,
    "nanoseconds": MADE * 10**9,
    "huge": 10**400,
    "hugely negative": -(10**400),
    "negative": -1,
    "before the calendar": -(10**12),
    "fraction": MADE + 0.75,
    "no number": float("nan"),
    "infinite": float("inf"),
    "text": "soon",
    "digits": str(MADE),
    "many digits": "9" * 5000,
    "timestamp": timestamp(MADE),
    "boolean": True,
    "nothing": None,
    "list": [MADE],
}


@pytest.mark.parametrize("odd", ODD)
def test_time_is_read_as_seconds_of_the_calendar(odd: str) -> None:
    """A time is read in each way that it is written, and what is none is 0."""
    known = {"milliseconds", "microseconds", "nanoseconds", "fraction", "digits", "timestamp"}
    expected = MADE if odd in known else -1 if odd == "negative" else 0
    assert unix_seconds(ODD[odd]) == expected


@given(st.integers() | st.floats() | st.text() | st.booleans() | st.none())
def test_every_time_read_can_be_written(value: object) -> None:
    """Whatever is read as a time is in the calendar."""
    seconds = unix_seconds(value)
    assert type(seconds) is int
    assert unix_seconds(timestamp(seconds)) == seconds


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", DIALECTS)
def test_odd_time_of_an_answer_is_written_in_every_dialect(name: str, odd: str) -> None:
    """A time that a program's own provider tells breaks no answer, whole or streamed, and is no odd one there."""
    dialect = DIALECTS[name]
    said = Completion(
        choices=(Choice(0, Message("assistant", (Text("hi"),)), "stop"),), id="a-1", model="m", created=ODD[odd]
    )
    whole = json.loads(dialect.encode_response(said))
    encoder = dialect.encoder(ChatRequest(model="m", messages=(Message.user("x"),), stream=True))
    streamed = b"".join(frame for event in unfold(said) for frame in encoder.feed(event))
    assert b"hi" in streamed
    for told in (whole.get("created"), whole.get("created_at"), whole.get("createTime")):
        if isinstance(told, str):
            assert 1 <= datetime.fromisoformat(told).astimezone(UTC).year <= 9999
        elif told is not None:
            assert told == unix_seconds(ODD[odd])


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd not in ("no number", "infinite")])
def test_odd_time_of_a_listed_model(odd: str) -> None:
    """A list of models is read and written with any time in it."""
    body = json.dumps({"data": [{"id": "m", "created": ODD[odd]}]}).encode()
    ((name, made),) = listed_models(body, lambda source: pytest.fail(str(source)))
    assert (name, made) == ("m", unix_seconds(ODD[odd]))
    for dialect in DIALECTS.values():
        assert dialect.encode_models([ListedModel(id=name, provider="p", created=made)])


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd not in ("no number", "infinite")])
@pytest.mark.parametrize("codec", [OpenAIChat(), Responses(), Gemini(), Ollama()], ids=lambda codec: codec.name)
def test_odd_time_of_a_provider_is_read(codec: Any, odd: str) -> None:
    """A provider's odd time makes no error of its answer, and reaches the caller as seconds."""
    field = {"openai-chat": "created", "openai-responses": "created_at", "gemini": "createTime", "ollama": "created_at"}
    said = Completion(choices=(Choice(0, Message("assistant", (Text("hi"),)), "stop"),), id="a-1", model="m", created=7)
    source = {**json.loads(codec.encode_response(said)), field[codec.name]: ODD[odd]}
    request = ChatRequest(model="m", messages=(Message.user("x"),))
    decoder = codec.decoder(request, "application/json")
    events = [*decoder.feed(json.dumps(source).encode()), *decoder.close()]
    assert unix_seconds(ODD[odd]) in [getattr(event, "created", None) for event in events]
