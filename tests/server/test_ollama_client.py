"""The official ollama client, unmodified, against a started server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from antiphon.formats.ollama import Ollama
from antiphon.settings.config import Config
from antiphon.settings.keys import AccessKeys, hash_key, new_key
from antiphon.testing import Fault, Upstream, vector_of
from tests.server.clients import (
    MODELS,
    PNG,
    RIGHT,
    SCHEMA,
    USAGE,
    ask_weather,
    listening,
    reply_to,
    row,
    unknown_name,
)  # fmt: skip
from tests.serving import Serving
from tests.vendors import ollama

HELLO = [{"role": "user", "content": "hi"}]


def weather(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city: Its name.
    """
    return ask_weather(city)


@pytest.fixture(scope="module")
def client(both: tuple[Serving, Upstream]) -> Iterator[ollama.Client]:
    """The client of that server."""
    with ollama.Client(host=both[0].address) as client:
        yield client


def check_end(last: ollama.ChatResponse) -> None:
    """Fail where *last* does not end an answer, or tells of other counts than the provider did."""
    assert (last.done, last.done_reason) == (True, "stop")
    assert (last.prompt_eval_count, last.eval_count) == (USAGE.prompt_tokens, USAGE.completion_tokens)


@pytest.mark.parametrize("model", MODELS)
def test_whole(client: ollama.Client, model: str) -> None:
    """A whole answer is the client's own, with its counts."""
    answer = client.chat(model, [{"role": "system", "content": "Be brief."}, *HELLO], options={"temperature": 0.5})
    assert (answer.message.role, answer.message.content) == ("assistant", "You said: hi")
    check_end(answer)


@pytest.mark.parametrize("model", [*MODELS, "greet/m"])
def test_streamed(client: ollama.Client, model: str) -> None:
    """A stream's lines are the answer, piece by piece."""
    lines = list(client.chat(model, HELLO, stream=True))
    said = [line.message.content for line in lines if line.message.content]
    assert said == ["Hello", " there", ", ", "hi"] if model == "greet/m" else "".join(said) == "You said: hi"
    assert [line.done for line in lines] == [*([False] * (len(lines) - 1)), True]
    if model != "greet/m":
        check_end(lines[-1])


@pytest.mark.anyio
@pytest.mark.parametrize("model", MODELS)
async def test_async(both: tuple[Serving, Upstream], model: str) -> None:
    """The async client is answered the same, whole and streamed."""
    async with ollama.AsyncClient(host=both[0].address) as client:
        assert (await client.chat(model, HELLO)).message.content == "You said: hi"
        lines = await client.chat(model, HELLO, stream=True)
        assert "".join([line.message.content or "" async for line in lines]) == "You said: hi"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_tool_round_trip(client: ollama.Client, upstream: Upstream, model: str, stream: bool) -> None:
    """The client gets the call, sends back what the tool said under the tool's name, and is told the answer."""

    def ask(messages: list[Any]) -> list[ollama.Message]:
        if not stream:
            return [client.chat(model, messages, tools=[weather]).message]
        return [line.message for line in client.chat(model, messages, tools=[weather], stream=True)]

    said = ask([*HELLO])
    (call,) = [call for message in said for call in message.tool_calls or ()]
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Paris"})
    turn = ollama.Message(role="assistant", tool_calls=[call])
    result = {"role": "tool", "tool_name": "weather", "content": weather(**call.function.arguments)}
    assert "".join(message.content or "" for message in ask([*HELLO, turn, result])) == RIGHT
    if model == "up/m":
        *_, asked, told = upstream.requests[-1].json["messages"]
        assert asked["tool_calls"][0]["id"] == told["tool_call_id"]


@pytest.mark.parametrize("model", MODELS)
def test_structured(client: ollama.Client, upstream: Upstream, model: str) -> None:
    """The answer keeps to a schema."""
    answer = client.chat(model, HELLO, format=SCHEMA)
    assert json.loads(answer.message.content or "") == {"city": "Paris"}
    if model == "up/m":
        assert upstream.requests[-1].json["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize("model", MODELS)
def test_picture(client: ollama.Client, model: str) -> None:
    """A picture reaches the provider."""
    picture = ollama.Image(value=base64.b64decode(PNG))
    answer = client.chat(model, [ollama.Message(role="user", content="What is it?", images=[picture])])
    assert answer.message.content == f"A picture of {len(PNG)} letters."


def test_same_format_on_both_sides() -> None:
    """To a provider of the same format a request goes as it was, whole and streamed."""
    with (
        Upstream(reply_to, codec=Ollama()) as upstream,
        Serving({"up": row(upstream, "ollama")}) as server,
        ollama.Client(host=server.address) as client,
    ):
        options = {"num_ctx": 4096, "mirostat": 2}
        answer = client.chat("up/m", HELLO, options=options, keep_alive=-1, think=False)
        assert answer.message.content == "You said: hi"
        assert upstream.requests[-1].json == {
            "model": "m",
            "messages": HELLO,
            "tools": [],
            "stream": False,
            "options": options,
            "keep_alive": -1,
            "think": False,
        }


def test_models(client: ollama.Client) -> None:
    """The list has the providers' models by the names to ask for."""
    assert "up/test-model" in [model.model for model in client.list().models]


def test_embeddings(client: ollama.Client) -> None:
    """Vectors come in the order of the texts, by the new path and by the old one."""
    texts = ["one", "two words"]
    assert client.embed("up/e", texts).embeddings == [vector_of(text) for text in texts]
    assert client.embeddings("up/e", "one").embedding == vector_of("one")


@unknown_name
@pytest.mark.parametrize("stream", [False, True])
def test_errors(client: ollama.Client, upstream: Upstream, stream: bool) -> None:
    """An unknown model, a bad request and a provider's refusal are the client's own error, with their status."""

    def ask(model: str, **fields: Any) -> Any:
        answer = client.chat(model, HELLO, stream=stream, **fields)
        return list(answer) if stream else answer

    with pytest.raises(ollama.ResponseError, match="No provider is called") as missing:
        ask("nobody/m")
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="temperature") as bad:
        ask("up/m", options={"temperature": "hot"})
    assert bad.value.status_code == 400
    upstream.fault = Fault.of_status(429, retry_after="17")
    with pytest.raises(ollama.ResponseError, match="status 429") as caught:
        ask("up/m")
    assert caught.value.status_code == 429


def test_error_in_a_stream(client: ollama.Client, upstream: Upstream) -> None:
    """A provider's error after the first words is the client's error, after those words."""
    upstream.fault = Fault.error_inside("out of luck", after=3)
    lines = client.chat("up/m", HELLO, stream=True)
    assert next(lines).message.content
    with pytest.raises(ollama.ResponseError, match="out of luck"):
        list(lines)


def test_keys() -> None:
    """With keys set, the client is let in with the right one alone."""
    key = new_key()
    with listening(Config(keys=AccessKeys({"alice": hash_key(key)}))) as (server, _):
        with ollama.Client(host=server.address, headers={"authorization": f"Bearer {key}"}) as client:
            assert client.chat("own/m", HELLO).message.content == "You said: hi"
        with ollama.Client(host=server.address) as client, pytest.raises(ollama.ResponseError, match="key") as caught:
            client.chat("own/m", HELLO)
        assert caught.value.status_code == 401


def test_what_the_server_cannot_do(client: ollama.Client) -> None:
    """Models are not fetched for clients: that is the client's error, in words."""
    with pytest.raises(ollama.ResponseError, match="/api/pull") as caught:
        client.pull("llama3")
    assert caught.value.status_code == 404
