"""langchain-openai, unmodified, against a started server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from antiphon.testing import Upstream, vector_of
from tests.server.clients import MODELS, PICTURE, PNG, RIGHT, USAGE, ask_weather
from tests.serving import Serving
from tests.vendors import langchain_core, langchain_openai, openai

_connections: list[Any] = []
"""HTTP clients of the test that runs. LangChain never closes those that it makes itself."""


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close the HTTP clients of a test when it is over."""
    yield
    while _connections:
        _connections.pop().close()


def http_client() -> Any:
    """Return an HTTP client that is closed when the test is over."""
    _connections.append(openai.DefaultHttpxClient())
    return _connections[-1]


class Place(BaseModel):
    """Where somebody is."""

    city: str


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return ask_weather(city)


def calling(both: tuple[Serving, Upstream], model: str, **fields: Any) -> langchain_openai.ChatOpenAI:
    """Return LangChain's model for *model* of the server."""
    return langchain_openai.ChatOpenAI(
        model=model,
        base_url=f"{both[0].address}/v1",
        api_key=SecretStr("none"),
        max_retries=0,
        http_client=http_client(),
        **fields,
    )


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_invoke_and_stream(both: tuple[Serving, Upstream], model: str, responses: bool) -> None:
    """A whole answer and a streamed one say the same, with the usage, by both of OpenAI's paths."""
    chat = calling(both, model, use_responses_api=responses, stream_usage=True)
    whole = chat.invoke("hi")
    pieces = list(chat.stream("hi"))
    assert whole.text == "".join(piece.text for piece in pieces) == "You said: hi"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == USAGE.total_tokens
    assert USAGE.total_tokens in [piece.usage_metadata["total_tokens"] for piece in pieces if piece.usage_metadata]


@pytest.mark.anyio
async def test_async(both: tuple[Serving, Upstream]) -> None:
    """The async face is answered the same."""
    async with openai.DefaultAsyncHttpxClient() as http:  # that of its own is never closed
        chat = calling(both, "up/m", http_async_client=http)
        assert (await chat.ainvoke("hi")).text == "You said: hi"
        assert "".join([piece.text async for piece in chat.astream("hi")]) == "You said: hi"


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_tool_round_trip(both: tuple[Serving, Upstream], model: str, responses: bool) -> None:
    """A bound tool is called, and its result answered."""
    chat = calling(both, model, use_responses_api=responses).bind_tools([weather])
    question = langchain_core.messages.HumanMessage("Weather?")
    said: Any = chat.invoke([question])
    (call,) = said.tool_calls
    assert (call["id"], call["name"], call["args"]) == ("call_1", "weather", {"city": "Paris"})
    result = langchain_core.messages.ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
    assert chat.invoke([question, said, result]).text == RIGHT


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_structured(both: tuple[Serving, Upstream], method: Any) -> None:
    """Answers of a structured model are objects."""
    chat = calling(both, "up/m").with_structured_output(Place, method=method)
    assert chat.invoke("Where, as JSON?") == Place(city="Paris")


def test_structured_by_a_call(both: tuple[Serving, Upstream]) -> None:
    """With a function in place of a schema, the call's arguments are the object."""

    class weather(BaseModel):
        """Weather of a city."""

        city: str

    chat = calling(both, "up/m").with_structured_output(weather, method="function_calling")
    assert chat.invoke("Where?") == weather(city="Paris")
    assert both[1].requests[-1].json["tool_choice"]["function"]["name"] == "weather"


def test_picture(both: tuple[Serving, Upstream]) -> None:
    """A picture reaches the provider."""
    parts: Any = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    assert (
        calling(both, "own/m").invoke([langchain_core.messages.HumanMessage(parts)]).text
        == f"A picture of {len(PNG)} letters."
    )


def test_embeddings(both: tuple[Serving, Upstream]) -> None:
    """Texts go as texts where the client is told not to count tokens itself, and vectors come back."""
    made = langchain_openai.OpenAIEmbeddings(
        model="up/e",
        base_url=f"{both[0].address}/v1",
        api_key=SecretStr("none"),
        check_embedding_ctx_length=False,
        http_client=http_client(),
    )
    texts = ["one", "two words"]
    assert made.embed_documents(texts) == [vector_of(text) for text in texts]
    assert made.embed_query("one") == vector_of("one")
