"""The official anthropic client, unmodified, against a started server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Message, Reasoning, Text
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.codec import Codec
from antiphon.formats.gemini import Gemini
from antiphon.formats.responses import Responses
from antiphon.providers.lookup import ProviderNames
from antiphon.settings.config import Config
from antiphon.settings.keys import AccessKeys, hash_key, new_key
from antiphon.testing import Fault, Upstream
from tests.server.clients import (
    MODELS,
    PNG,
    RIGHT,
    SCHEMA,
    USAGE,
    ask_weather,
    listening,
    row,
    unknown_name,
)  # fmt: skip
from tests.serving import Serving
from tests.vendors import anthropic

HELLO: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [{"name": "weather", "description": "Tells the weather.", "input_schema": SCHEMA}]
SOURCE = {"type": "base64", "media_type": "image/png", "data": PNG}
SEEN: Any = [{"type": "text", "text": "What is it?"}, {"type": "image", "source": SOURCE}]


class Place(BaseModel):
    """Where somebody is."""

    city: str


def calling(server: Serving, key: str = "none") -> anthropic.Anthropic:
    """Return the client of *server*."""
    return anthropic.Anthropic(base_url=server.address, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(both: tuple[Serving, Upstream]) -> Iterator[anthropic.Anthropic]:
    """The client of that server."""
    with calling(both[0]) as client:
        yield client


def check_text(answer: anthropic.types.Message, text: str) -> None:
    """Fail where *answer* says something else, or tells of other counts than the provider did."""
    (block,) = answer.content
    assert isinstance(block, anthropic.types.TextBlock)
    assert (block.text, answer.stop_reason, answer.role, answer.type) == (text, "end_turn", "assistant", "message")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (USAGE.prompt_tokens, USAGE.completion_tokens)


@pytest.mark.parametrize("model", MODELS)
def test_whole(client: anthropic.Anthropic, model: str) -> None:
    """A whole answer is the client's `Message`, with its usage."""
    answer = client.messages.create(model=model, max_tokens=99, system="Be brief.", messages=HELLO)
    check_text(answer, "You said: hi")


@pytest.mark.parametrize("model", MODELS)
def test_streamed(client: anthropic.Anthropic, model: str) -> None:
    """A stream gives text and, at its end, the same message, with the usage though nobody asked for it."""
    with client.messages.stream(model=model, max_tokens=99, messages=HELLO) as stream:
        said = "".join(stream.text_stream)
        check_text(stream.get_final_message(), "You said: hi")
    assert said == "You said: hi"


def test_pieces_of_a_function(client: anthropic.Anthropic) -> None:
    """What a generator yields is passed on piece by piece."""
    with client.messages.stream(model="greet/m", max_tokens=99, messages=HELLO) as stream:
        assert list(stream.text_stream) == ["Hello", " there", ", ", "hi"]


def test_events_of_a_stream(client: anthropic.Anthropic) -> None:
    """The events come in the order that the format has."""
    stream = client.messages.create(model="up/m", max_tokens=99, messages=HELLO, stream=True)
    kinds = [event.type for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


@pytest.mark.anyio
@pytest.mark.parametrize("model", MODELS)
async def test_async(both: tuple[Serving, Upstream], model: str) -> None:
    """The async client is answered the same, whole and streamed."""
    async with anthropic.AsyncAnthropic(base_url=both[0].address, api_key="none", max_retries=0) as client:
        check_text(await client.messages.create(model=model, max_tokens=99, messages=HELLO), "You said: hi")
        async with client.messages.stream(model=model, max_tokens=99, messages=HELLO) as stream:
            check_text(await stream.get_final_message(), "You said: hi")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_tool_round_trip(client: anthropic.Anthropic, upstream: Upstream, model: str, stream: bool) -> None:
    """The client gets the call, sends back what the tool said, and is told the answer."""

    def ask(messages: Any) -> anthropic.types.Message:
        if not stream:
            return client.messages.create(model=model, max_tokens=99, messages=messages, tools=TOOLS)
        with client.messages.stream(model=model, max_tokens=99, messages=messages, tools=TOOLS) as events:
            return events.get_final_message()

    first = ask(HELLO)
    (call,) = first.content
    assert isinstance(call, anthropic.types.ToolUseBlock)
    assert (first.stop_reason, call.id, call.name, call.input) == ("tool_use", "call_1", "weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": ask_weather(str(call.input["city"]))}
    turns = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    check_text(ask(turns), RIGHT)
    if model == "up/m":
        *_, said, told = upstream.requests[-1].json["messages"]
        assert said["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Paris"}'}
        assert told == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


@pytest.mark.parametrize("model", MODELS)
def test_tool_runner(client: anthropic.Anthropic, model: str) -> None:
    """The client's own runner calls a function until the model is done."""
    tool = anthropic.beta_tool(ask_weather, name="weather")
    runner = client.beta.messages.tool_runner(model=model, max_tokens=99, messages=HELLO, tools=[tool])
    assert [block.text for block in runner.until_done().content if block.type == "text"] == [RIGHT]


@pytest.mark.parametrize("model", MODELS)
def test_structured(client: anthropic.Anthropic, upstream: Upstream, model: str) -> None:
    """The answer to `parse` keeps to the schema, and is the client's object."""
    answer = client.messages.parse(model=model, max_tokens=99, messages=HELLO, output_format=Place)
    assert answer.parsed_output == Place(city="Paris")


@pytest.mark.parametrize("model", MODELS)
def test_picture(client: anthropic.Anthropic, model: str) -> None:
    """A picture reaches the provider."""
    answer = client.messages.create(model=model, max_tokens=99, messages=[{"role": "user", "content": SEEN}])
    check_text(answer, f"A picture of {len(PNG)} letters.")


def test_same_format_on_both_sides() -> None:
    """To a provider of the same format a request goes as it was, its headers and fields unknown to Antiphon too.

    Thoughts come back with the signature that proves them, and tokens are counted there.
    """
    parts = (Reasoning("Hm.", "c2lnbmF0dXJl"), Text("Yes."))
    said = Completion(choices=(Choice(0, Message("assistant", parts), "stop"),), id="msg_1", model="m", usage=USAGE)
    with (
        Upstream(said, codec=Anthropic()) as upstream,
        Serving({"up": row(upstream, "anthropic")}) as server,
        calling(server) as client,
    ):
        more = {"extra_body": {"news": {"of": [1]}}, "extra_headers": {"anthropic-beta": "news-2026-01-01"}}
        blocks: Any = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
        answer = client.messages.create(
            model="up/m", max_tokens=2048, messages=[{"role": "user", "content": blocks}],
            thinking={"type": "enabled", "budget_tokens": 1024}, **more,
        )  # fmt: skip
        thought, text = answer.content
        assert (thought.type, thought.to_dict()["signature"], text.type) == ("thinking", "c2lnbmF0dXJl", "text")
        seen = upstream.requests[-1]
        assert seen.headers["anthropic-beta"] == "news-2026-01-01"
        assert seen.json == {
            "model": "m",
            "max_tokens": 2048,
            "messages": [{"role": "user", "content": blocks}],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "news": {"of": [1]},
        }
        upstream.fault = Fault.of_status(200, '{"input_tokens": 23}')
        assert client.messages.count_tokens(model="up/m", messages=HELLO).input_tokens == 23
        assert upstream.requests[-1].path.endswith("/messages/count_tokens")


@pytest.mark.parametrize(
    ("codec", "told"),
    [(Gemini(), '{"totalTokens": 23}'), (Responses(), '{"object": "response.input_tokens", "input_tokens": 23}')],
    ids=lambda value: getattr(value, "name", ""),
)
def test_counting_in_another_format(codec: Codec, told: str) -> None:
    """A provider of another format that can tell how many tokens a request has is asked in its own words."""
    with (
        Upstream(codec=codec, fault=Fault.of_status(200, told)) as upstream,
        Serving({"up": row(upstream, codec.name)}) as server,
        calling(server) as client,
    ):
        counted = client.messages.count_tokens(model="up/m", messages=HELLO, system="Be brief.", tools=TOOLS)
    assert counted.input_tokens == 23
    assert b"Be brief." in upstream.requests[-1].body
    assert b"weather" in upstream.requests[-1].body


def test_alias() -> None:
    """A program that knows Claude's names alone is answered by whatever the server's settings put in their place."""
    names = ProviderNames(aliases={"claude-*": "own/*", "claude-haiku-*": "greet/m"}, files=())
    with listening(Config(names=names)) as (server, _), calling(server) as client:
        answer = client.messages.create(model="claude-sonnet-5", max_tokens=9, messages=HELLO)
        check_text(answer, "You said: hi")
        assert answer.model == "sonnet-5"
        with client.messages.stream(model="claude-haiku-5", max_tokens=9, messages=HELLO) as stream:
            assert stream.get_final_text() == "Hello there, hi"


@pytest.mark.parametrize("model", MODELS)
def test_counting_where_nobody_can(client: anthropic.Anthropic, model: str) -> None:
    """A provider that cannot tell how many tokens a request has is a bad request, in words."""
    with pytest.raises(anthropic.BadRequestError, match="no way to"):
        client.messages.count_tokens(model=model, messages=HELLO)


def test_models(client: anthropic.Anthropic) -> None:
    """The list has the providers' models by the names to ask for; one of them can be asked about, and no other."""
    (listed,) = [model for model in client.models.list() if model.id.startswith("up/")]
    assert (listed.id, listed.type) == ("up/test-model", "model")
    assert client.models.retrieve("up/test-model") == listed
    with pytest.raises(anthropic.NotFoundError, match="up/nothing"):
        client.models.retrieve("up/nothing")


@unknown_name
@pytest.mark.parametrize("stream", [False, True])
def test_errors(client: anthropic.Anthropic, upstream: Upstream, stream: bool) -> None:
    """An unknown model, a bad request and a provider's refusal are the client's own errors, with their types."""

    def ask(model: str, **fields: Any) -> Any:
        return client.messages.create(
            **{"model": model, "max_tokens": 9, "messages": HELLO, "stream": stream, **fields}
        )

    with pytest.raises(anthropic.NotFoundError, match="No provider is called") as missing:
        ask("nobody/m")
    assert (missing.value.type, bool(missing.value.request_id)) == ("not_found_error", True)
    with pytest.raises(anthropic.BadRequestError, match=r"\$\.messages\[0\]") as bad:
        ask("up/m", messages=[{"role": "user", "content": 7}])
    assert bad.value.type == "invalid_request_error"
    upstream.fault = Fault.of_status(429, retry_after="17")
    with pytest.raises(anthropic.RateLimitError, match="status 429") as caught:
        ask("up/m")
    assert (caught.value.response.headers["retry-after"], caught.value.type) == ("17", "rate_limit_error")


def test_error_in_a_stream(client: anthropic.Anthropic, upstream: Upstream) -> None:
    """A provider's error after the first words is the client's error, after those words."""
    upstream.fault = Fault.error_inside("out of luck", after=3)
    with client.messages.stream(model="up/m", max_tokens=99, messages=HELLO) as stream:
        assert next(stream.text_stream)
        with pytest.raises(anthropic.APIStatusError, match="out of luck"):
            stream.until_done()


def test_keys() -> None:
    """With keys set, the client is let in with the right one alone, as `x-api-key` or as a token."""
    key = new_key()
    with listening(Config(keys=AccessKeys({"alice": hash_key(key)}))) as (server, _):
        with calling(server, key) as client:
            assert client.messages.create(model="own/m", max_tokens=9, messages=HELLO).content
        with anthropic.Anthropic(base_url=server.address, auth_token=key, max_retries=0) as client:
            assert client.messages.create(model="own/m", max_tokens=9, messages=HELLO).content
        with calling(server, "wrong") as client, pytest.raises(anthropic.AuthenticationError) as caught:
            client.messages.create(model="own/m", max_tokens=9, messages=HELLO)
        assert caught.value.type == "authentication_error"
