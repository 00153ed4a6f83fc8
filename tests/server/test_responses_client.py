"""The official openai client's other face, `responses`, unmodified, against a started server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from antiphon.formats.responses import Responses
from antiphon.testing import Fault, Upstream
from tests.server.clients import (
    MODELS,
    PICTURE,
    PNG,
    RIGHT,
    SCHEMA,
    USAGE,
    ask_weather,
    reply_to,
    row,
    unknown_name,
)
from tests.serving import Serving
from tests.vendors import openai

TOOLS: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]


class Place(BaseModel):
    """Where somebody is."""

    city: str


@pytest.fixture(scope="module")
def client(both: tuple[Serving, Upstream]) -> Iterator[openai.OpenAI]:
    """The client of that server."""
    with openai.OpenAI(base_url=f"{both[0].address}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", MODELS)
def test_whole(client: openai.OpenAI, model: str) -> None:
    """A whole answer is the client's `Response`, with its usage."""
    answer = client.responses.create(model=model, input="hi", instructions="Be brief.")
    assert (answer.object, answer.status, answer.output_text) == ("response", "completed", "You said: hi")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (USAGE.prompt_tokens, USAGE.completion_tokens)


@pytest.mark.parametrize("model", [*MODELS, "greet/m"])
def test_streamed(client: openai.OpenAI, model: str) -> None:
    """A stream is the client's events, from `response.created` to `response.completed`."""
    events = list(client.responses.create(model=model, input="hi", stream=True))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == ("Hello there, hi" if model == "greet/m" else "You said: hi")
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == said


@pytest.mark.anyio
async def test_async(both: tuple[Serving, Upstream]) -> None:
    """The async client puts a stream together to the same answer."""
    async with openai.AsyncOpenAI(base_url=f"{both[0].address}/v1", api_key="none", max_retries=0) as client:
        async with client.responses.stream(model="up/m", input="hi") as stream:
            answer = await stream.get_final_response()
    assert answer.output_text == "You said: hi"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_tool_round_trip(client: openai.OpenAI, model: str, stream: bool) -> None:
    """The client gets the call, sends back what the tool said, and is told the answer."""

    def ask(said: Any) -> Any:
        if not stream:
            return client.responses.create(model=model, input=said, tools=TOOLS, store=False)
        with client.responses.stream(model=model, input=said, tools=TOOLS, store=False) as events:
            return events.get_final_response()

    question = {"role": "user", "content": "Weather?"}
    first = ask([question])
    (call,) = first.output
    assert isinstance(call, openai.types.responses.ResponseFunctionToolCall)
    assert (call.call_id, call.name) == ("call_1", "weather")
    result = ask_weather(**json.loads(call.arguments))
    item = {"type": "function_call_output", "call_id": call.call_id, "output": result}
    last = ask([question, call.model_dump(exclude_none=True, exclude={"parsed_arguments"}), item])
    assert last.output_text == RIGHT


@pytest.mark.parametrize("model", MODELS)
def test_structured(client: openai.OpenAI, model: str) -> None:
    """The answer to `parse` keeps to the schema, and is the client's object."""
    assert client.responses.parse(model=model, input="Where?", text_format=Place).output_parsed == Place(city="Paris")


@pytest.mark.parametrize("model", MODELS)
def test_picture(client: openai.OpenAI, model: str) -> None:
    """A picture in a data URL reaches the provider."""
    parts: Any = [{"type": "input_text", "text": "?"}, {"type": "input_image", "image_url": PICTURE, "detail": "auto"}]
    answer = client.responses.create(model=model, input=[{"role": "user", "content": parts}])
    assert answer.output_text == f"A picture of {len(PNG)} letters."


def test_same_format_on_both_sides(both: tuple[Serving, Upstream]) -> None:
    """To a provider of the same format a request goes as it was, fields unknown to Antiphon too."""
    with (
        Upstream(reply_to, codec=Responses()) as upstream,
        Serving({"up": row(upstream, "openai-responses")}) as server,
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client,
    ):
        answer = client.responses.create(
            model="up/m",
            input="hi",
            store=False,
            include=["reasoning.encrypted_content"],
            prompt_cache_key="k",
            extra_body={"news": {"of": [1]}},
        )
        assert answer.output_text == "You said: hi"
        assert upstream.requests[-1].json == {
            "model": "m",
            "input": "hi",
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "k",
            "news": {"of": [1]},
        }


@unknown_name
def test_errors(client: openai.OpenAI, upstream: Upstream) -> None:
    """An unknown model, a bad request and a provider's refusal are the client's own errors."""
    with pytest.raises(openai.NotFoundError, match="No provider is called"):
        client.responses.create(model="nobody/m", input="hi")
    with pytest.raises(openai.BadRequestError, match=r"\$\.input"):
        client.responses.create(model="up/m", input=7)  # type: ignore[call-overload]
    upstream.fault = Fault.of_status(429, retry_after="17")
    with pytest.raises(openai.RateLimitError, match="status 429") as caught:
        client.responses.create(model="up/m", input="hi")
    assert caught.value.response.headers["retry-after"] == "17"


def test_error_in_a_stream(client: openai.OpenAI, upstream: Upstream) -> None:
    """A provider's error after the first words is the client's error, after those words."""
    upstream.fault = Fault.error_inside("out of luck", after=3)
    with client.responses.create(model="up/m", input="hi", stream=True) as stream:
        assert "response.output_text.delta" in [next(stream).type for _ in range(5)]
        with pytest.raises(openai.APIError, match="out of luck"):
            list(stream)


KEPT: list[dict[str, Any]] = [
    {"previous_response_id": "resp_1"},
    {"conversation": "conv_1"},
    {"prompt": {"id": "pmpt_1"}},
    {"input": [{"type": "item_reference", "id": "msg_1"}]},
]
"""What stands for words that only the provider has."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: next(iter(kept)))
def test_words_that_nobody_has(client: openai.OpenAI, upstream: Upstream, kept: dict[str, Any], stream: bool) -> None:
    """A provider of another format is not asked about a conversation that it has never seen: the client is told."""
    before = len(upstream.requests)
    with pytest.raises(openai.BadRequestError, match="send the whole conversation"):
        client.responses.create(**{"model": "up/m", "input": "And then?", "stream": stream, **kept})
    assert len(upstream.requests) == before


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: next(iter(kept)))
def test_words_that_the_provider_has(kept: dict[str, Any]) -> None:
    """A provider of the same format gets the reference as the client wrote it."""
    with (
        Upstream("It is.", codec=Responses()) as upstream,
        Serving({"up": row(upstream, "openai-responses")}) as server,
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client,
    ):
        assert client.responses.create(**{"model": "up/m", "input": "And then?", **kept}).output_text == "It is."
    assert kept.items() <= upstream.requests[-1].json.items()


def test_one_id_of_a_request() -> None:
    """An error has the server's id alone, which is in its log, even where the provider told an id of its own."""
    fault = Fault.of_status(429, headers={"x-request-id": "req_of_the_provider"})
    with (
        Upstream(codec=Responses(), fault=fault) as upstream,
        Serving({"up": row(upstream, "openai-responses")}) as server,
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            client.responses.create(model="up/m", input="hi")
        assert caught.value.request_id == server.wait()[0].id
        assert caught.value.response.headers.get_list("x-request-id") == [caught.value.request_id]


def test_an_answer_kept_by_the_server_is_not_there(client: openai.OpenAI) -> None:
    """The server keeps no answers: asking it for one, or to go on from one, is an error in words."""
    with pytest.raises(openai.NotFoundError, match="nothing at"):
        client.responses.retrieve("resp_1")
