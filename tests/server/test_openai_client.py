"""The official openai client, unmodified, against a started server: chats, texts, embeddings, models and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from antiphon.formats.responses import Responses
from antiphon.settings.config import Config, ServerSettings
from antiphon.settings.keys import AccessKeys, hash_key, new_key
from antiphon.testing import (
    AsyncGeneratorProviderMock,
    AsyncProviderMock,
    Fault,
    ProviderMock,
    Script,
    Upstream,
    vector_of,
)
from tests.server.clients import MODELS, PICTURE, PNG, RIGHT, SCHEMA, USAGE, ask_weather, listening, row, unknown_name
from tests.serving import Serving
from tests.vendors import openai

HELLO: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}]
SEEN: Any = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]


class Place(BaseModel):
    """Where somebody is."""

    city: str


@pytest.fixture(scope="module")
def client(both: tuple[Serving, Upstream]) -> Iterator[openai.OpenAI]:
    """The client of that server."""
    with openai.OpenAI(base_url=f"{both[0].address}/v1", api_key="none", max_retries=0) as client:
        yield client


def check_usage(usage: Any) -> None:
    """Fail where *usage* is not what the provider told."""
    assert (usage.prompt_tokens, usage.completion_tokens) == (USAGE.prompt_tokens, USAGE.completion_tokens)


@pytest.mark.parametrize("model", MODELS)
def test_whole(client: openai.OpenAI, model: str) -> None:
    """A whole answer is the client's `ChatCompletion`, with its usage."""
    answer = client.chat.completions.create(model=model, messages=HELLO)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("You said: hi", "stop")
    assert (answer.object, answer.id, answer.created) == ("chat.completion", "answer-1", 1_700_000_000)
    check_usage(answer.usage)


@pytest.mark.parametrize("model", [*MODELS, "greet/m"])
def test_streamed(client: openai.OpenAI, model: str) -> None:
    """A stream is the client's chunks, whose pieces are the answer; the usage comes where it was asked for."""
    with client.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == ("Hello there, hi" if model == "greet/m" else "You said: hi")
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    if model != "greet/m":
        check_usage(chunks[-1].usage)


def test_pieces_of_a_function(client: openai.OpenAI) -> None:
    """What a generator yields is passed on piece by piece, each a chunk."""
    with client.chat.completions.create(model="greet/m", messages=HELLO, stream=True) as stream:
        pieces = [
            chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content
        ]
    assert pieces == ["Hello", " there", ", ", "hi"]


@pytest.mark.parametrize("provider", [ProviderMock, AsyncProviderMock, AsyncGeneratorProviderMock, Script("Mo", "ck")])
def test_every_form_of_provider(provider: Any) -> None:
    """Whatever form a provider in Python has, the client is answered, whole and streamed."""
    with (
        Serving({"own": provider}) as server,
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client,
    ):
        whole = client.chat.completions.create(model="own/m", messages=HELLO)
        chunks = list(client.chat.completions.create(model="own/m", messages=HELLO, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert whole.choices[0].message.content == said == "Mock"


@pytest.mark.anyio
@pytest.mark.parametrize("model", MODELS)
async def test_async(both: tuple[Serving, Upstream], model: str) -> None:
    """The async client is answered the same, whole and streamed."""
    async with openai.AsyncOpenAI(base_url=f"{both[0].address}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model=model, messages=HELLO)
        async with client.chat.completions.stream(model=model, messages=HELLO) as stream:
            streamed = await stream.get_final_completion()
    assert answer.choices[0].message.content == streamed.choices[0].message.content == "You said: hi"


@pytest.mark.anyio
async def test_many_at_once(both: tuple[Serving, Upstream]) -> None:
    """Many streams at once do not mix: each has the answer to its own question."""
    answers: dict[int, str] = {}

    async def ask(number: int) -> None:
        question: Any = [{"role": "user", "content": f"number {number}"}]
        async with client.chat.completions.stream(model=MODELS[number % 2], messages=question) as stream:
            answers[number] = (await stream.get_final_completion()).choices[0].message.content or ""

    async with openai.AsyncOpenAI(base_url=f"{both[0].address}/v1", api_key="none", max_retries=0) as client:
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(ask, number)
    assert answers == {number: f"You said: number {number}" for number in range(40)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_tool_round_trip(client: openai.OpenAI, upstream: Upstream, model: str, stream: bool) -> None:
    """The client gets the call, sends back what the tool said, and is told the answer."""

    def ask(messages: Any) -> Any:
        if not stream:
            return client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices[0]
        with client.chat.completions.stream(model=model, messages=messages, tools=TOOLS) as events:
            return events.get_final_completion().choices[0]

    first = ask(HELLO)
    (call,) = first.message.tool_calls
    assert (first.finish_reason, call.id, call.type, call.function.name) == (
        "tool_calls", "call_1", "function", "weather",
    )  # fmt: skip
    result = {"role": "tool", "tool_call_id": call.id, "content": ask_weather(**json.loads(call.function.arguments))}
    last = ask([*HELLO, first.message.model_dump(exclude_none=True), result])
    assert (last.message.content, last.finish_reason) == (RIGHT, "stop")
    if model == "up/m":
        assert upstream.requests[-1].json["messages"][-1] == result


@pytest.mark.parametrize("model", MODELS)
def test_structured(client: openai.OpenAI, upstream: Upstream, model: str) -> None:
    """The answer to `parse` keeps to the schema, and is the client's object."""
    answer = client.chat.completions.parse(model=model, messages=HELLO, response_format=Place)
    assert answer.choices[0].message.parsed == Place(city="Paris")
    if model == "up/m":
        assert upstream.requests[-1].json["response_format"]["json_schema"]["name"] == "Place"


@pytest.mark.parametrize("model", MODELS)
def test_picture(client: openai.OpenAI, model: str) -> None:
    """A picture in a data URL reaches the provider."""
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": SEEN}])
    assert answer.choices[0].message.content == f"A picture of {len(PNG)} letters."


def test_unknown_fields_cross(client: openai.OpenAI, upstream: Upstream) -> None:
    """What the client sends beyond its own fields reaches a provider of the same format as it was."""
    client.chat.completions.create(model="up/m", messages=HELLO, extra_body={"guided": {"deep": [1, None]}}, store=True)
    sent = upstream.requests[-1].json
    assert (sent["guided"], sent["store"], sent["model"]) == ({"deep": [1, None]}, True, "m")


@unknown_name
@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model(client: openai.OpenAI, stream: bool) -> None:
    """A model that is none is the client's `NotFoundError`, in words."""
    with pytest.raises(openai.NotFoundError, match="No provider is called") as caught:
        client.chat.completions.create(model="nobody/m", messages=HELLO, stream=stream)
    assert (caught.value.code, caught.value.status_code) == ("model_not_found", 404)
    assert caught.value.request_id


def test_bad_request(client: openai.OpenAI) -> None:
    """What is no request is the client's `BadRequestError`, with the field at fault."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="up/m", messages=[{"role": "user", "content": 7}])  # type: ignore[typeddict-item]
    assert caught.value.param == "$.messages[0].content"


@pytest.mark.parametrize("stream", [False, True])
def test_rate_limit(client: openai.OpenAI, upstream: Upstream, stream: bool) -> None:
    """A provider's 429 is the client's `RateLimitError`, with the time to wait, which the client would heed."""
    upstream.fault = Fault.of_status(429, retry_after="17")
    with pytest.raises(openai.RateLimitError, match="status 429") as caught:
        client.chat.completions.create(model="up/m", messages=HELLO, stream=stream)
    assert caught.value.response.headers["retry-after"] == "17"


def test_client_tries_again(both: tuple[Serving, Upstream], upstream: Upstream) -> None:
    """A client that tries again by itself does so after a provider's 503, and the second answer reaches it."""
    faults = iter([Fault.of_status(503, retry_after="0.01")])
    before, upstream.answer = upstream.answer, lambda request: next(faults, "Better")
    try:
        with openai.OpenAI(base_url=f"{both[0].address}/v1", api_key="none", max_retries=1) as client:
            assert client.chat.completions.create(model="up/m", messages=HELLO).choices[0].message.content == "Better"
    finally:
        upstream.answer = before


def test_error_in_a_stream(client: openai.OpenAI, upstream: Upstream) -> None:
    """A provider's error after the first words is the client's error, after those words."""
    upstream.fault = Fault.error_inside("out of luck", after=3)
    with client.chat.completions.create(model="up/m", messages=HELLO, stream=True) as stream:
        assert "You said: hi" in [next(stream).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError, match="out of luck"):
            list(stream)


def test_strict() -> None:
    """A strict server tells the client what its provider cannot be told, in place of leaving it out."""
    with (
        Upstream(codec=Responses()) as upstream,
        Serving({"up": row(upstream, "openai-responses")}, Config(server=ServerSettings(strict=True))) as server,
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client,
    ):
        assert client.chat.completions.create(model="up/m", messages=HELLO).choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="seed") as caught:
            client.chat.completions.create(model="up/m", messages=HELLO, seed=7)
        assert caught.value.param == "$.seed"
        assert len(upstream.requests) == 1


def test_keys() -> None:
    """With keys set, the client is let in with the right one alone."""
    key = new_key()
    config = Config(keys=AccessKeys({"alice": hash_key(key)}))
    with listening(config) as (server, _), openai.OpenAI(base_url=f"{server.address}/v1", api_key=key) as client:
        assert client.chat.completions.create(model="own/m", messages=HELLO).choices[0].message.content
        with pytest.raises(openai.AuthenticationError, match="none of this server's") as caught:
            client.with_options(api_key="wrong").chat.completions.create(model="own/m", messages=HELLO)
        assert caught.value.code == "invalid_api_key"
        assert server.wait(2)[0].key == "alice"


@pytest.mark.parametrize("form", ["base64", "float", None])
def test_embeddings(client: openai.OpenAI, upstream: Upstream, form: Any) -> None:
    """Vectors come as numbers whether or not the client asks for base64, which it does by default."""
    texts = ["one", "two words"]
    more = {} if form is None else {"encoding_format": form}
    answer = client.embeddings.create(model="up/e", input=texts, dimensions=3, **more)
    expected = [vector_of(text) for text in texts]
    if form == "base64":  # then the client does not decode it
        assert all(isinstance(one.embedding, str) for one in answer.data)
    else:
        assert [one.embedding for one in answer.data] == expected
    assert ([one.index for one in answer.data], answer.usage.prompt_tokens) == ([0, 1], 3)
    assert upstream.requests[-1].json["dimensions"] == 3


def test_embeddings_where_there_are_none(client: openai.OpenAI) -> None:
    """A provider without embeddings is a bad request, in words."""
    with pytest.raises(openai.BadRequestError, match="no embeddings"):
        client.embeddings.create(model="own/e", input="one")


def test_models(client: openai.OpenAI) -> None:
    """The list has the providers' models by the names to ask for; one of them can be asked about, and no other."""
    listed = [model for model in client.models.list() if model.owned_by == "up"]
    assert [(model.id, model.object, model.created) for model in listed] == [("up/test-model", "model", 1)]
    assert client.models.retrieve("up/test-model") == listed[0]
    with pytest.raises(openai.NotFoundError, match="up/nothing"):
        client.models.retrieve("up/nothing")


@pytest.mark.parametrize("model", MODELS)
def test_legacy_text(client: openai.OpenAI, model: str) -> None:
    """`completions.create` gives the text of the answer, whole and streamed."""
    whole = client.completions.create(model=model, prompt="hi")
    pieces = client.completions.create(model=model, prompt="hi", stream=True, stream_options={"include_usage": True})
    streamed = list(pieces)
    assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
        "text_completion", "You said: hi", "stop",
    )  # fmt: skip
    assert "".join(piece.choices[0].text for piece in streamed if piece.choices) == "You said: hi"
    check_usage(whole.usage)
    check_usage(streamed[-1].usage)


def test_what_the_server_cannot_do(client: openai.OpenAI) -> None:
    """A path that the server does not have is the client's `NotFoundError`."""
    with pytest.raises(openai.NotFoundError, match="/v1/moderations"):
        client.moderations.create(input="x")
