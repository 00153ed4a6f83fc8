"""The official openai client reads what the codec writes, and the codec reads what the client sends."""

from __future__ import annotations

import json as stdlib_json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import End, Event, Finish, Start, TextDelta, ToolCallDelta, UsageUpdate, unfold
from antiphon.chat.messages import Annotation, Image, Message, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, Tool, ToolName
from antiphon.chat.usage import Usage
from antiphon.formats.responses import Responses
from antiphon.testing import Fault, Upstream
from tests.vendors import openai
from tests.wire import laws
from tests.wire.responses_values import plain

CODEC = Responses()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks this format."""
    with Upstream(codec=CODEC) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[openai.OpenAI]:
    """Give the official client of that server."""
    with openai.OpenAI(base_url=upstream.base_url, api_key="key", max_retries=0) as client:
        yield client


PARTS = (
    Reasoning("Hm.", "gAAA"),
    Text("Yes.", (Annotation(url="https://x.org", title="X", start=0, end=3),)),
    ToolCall("call_1", "f", '{"x":1}'),
)
USAGE = Usage(input_uncached=3, input_cache_read=2, output_visible=4, output_reasoning=1)
ANSWER = Completion(choices=(Choice(0, Message("assistant", PARTS), "tool_calls"),), id="r", model="m", usage=USAGE)


def check(response: Any) -> None:
    """Fail where *response* is not what `ANSWER` says."""
    thought, message, call = response.output
    assert isinstance(thought, openai.types.responses.ResponseReasoningItem)
    assert ([part.text for part in thought.summary], thought.encrypted_content) == (["Hm."], "gAAA")
    assert isinstance(message, openai.types.responses.ResponseOutputMessage)
    (text,) = message.content
    assert isinstance(text, openai.types.responses.ResponseOutputText)
    assert text.text == "Yes."
    assert text.annotations[0].to_dict() == {
        "type": "url_citation",
        "url": "https://x.org",
        "title": "X",
        "start_index": 0,
        "end_index": 3,
    }
    assert isinstance(call, openai.types.responses.ResponseFunctionToolCall)
    assert (call.call_id, call.name, call.arguments) == ("call_1", "f", '{"x":1}')
    assert (response.id, response.model, response.status, response.output_text) == ("r", "m", "completed", "Yes.")
    usage = response.usage
    assert (usage.input_tokens, usage.input_tokens_details.cached_tokens) == (5, 2)
    assert (usage.output_tokens, usage.output_tokens_details.reasoning_tokens, usage.total_tokens) == (5, 1, 10)


def test_a_whole_answer(client: openai.OpenAI, upstream: Upstream) -> None:
    """The client reads a whole answer with its reasoning, text, sources, calls and counts."""
    upstream.answer = ANSWER
    check(client.responses.create(model="m", input="Hello"))


def test_a_stream(client: openai.OpenAI, upstream: Upstream) -> None:
    """The client puts a stream together, and its last event is the same answer."""
    upstream.answer = ANSWER
    with client.responses.stream(model="m", input="Hello") as stream:
        kinds = [event.type for event in stream]
        check(stream.get_final_response())
    assert [kind for kind in kinds if kind.endswith("delta")] == [
        "response.reasoning_summary_text.delta",
        "response.output_text.delta",
        "response.function_call_arguments.delta",
    ]


def test_interleaved_calls(client: openai.OpenAI, upstream: Upstream) -> None:
    """Pieces of parallel calls that alternate reach the client as two whole calls."""
    events: list[Event] = [
        Start(id="r", model="m"),
        TextDelta("Y"),
        TextDelta("es."),
        ToolCallDelta(call=0, id="call_1", name="f", arguments='{"x":'),
        ToolCallDelta(call=1, id="call_2", name="g", arguments='{"y":'),
        ToolCallDelta(call=0, arguments="1}"),
        ToolCallDelta(call=1, arguments="2}"),
        UsageUpdate(USAGE),
        Finish("tool_calls"),
        End(),
    ]
    upstream.answer = events
    with client.responses.stream(model="m", input="Hello") as stream:
        response = stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.call_id, call.arguments) for call in calls] == [("call_1", '{"x":1}'), ("call_2", '{"y":2}')]
    assert response.output_text == "Yes."


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_cut_by_its_bound(client: openai.OpenAI, upstream: Upstream, stream: bool) -> None:
    """The client sees that an answer is incomplete, and why."""
    upstream.answer = Completion.of("Y", finish_reason="length")
    if stream:
        *_, last = client.responses.create(model="m", input="Hello", stream=True)
        assert last.type == "response.incomplete"
        response = last.response
    else:
        response = client.responses.create(model="m", input="Hello")
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_stream_with_a_fault(client: openai.OpenAI, upstream: Upstream) -> None:
    """An error after the status line reaches the client's caller as an error, with its words."""
    upstream.fault = Fault.error_inside("The upstream broke.", after=5)
    with pytest.raises(openai.APIError, match="The upstream broke"):
        list(client.responses.create(model="m", input="Hello", stream=True))


def test_an_error_reply(client: openai.OpenAI) -> None:
    """A request that is refused is the client's error of its status, with the path of the fault."""
    faulty: Any = [{"role": "user", "content": [{"type": "input_text"}]}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input=faulty)
    assert caught.value.param == "$.input[0].content[0].text"


def sent(client: openai.OpenAI, upstream: Upstream, **fields: Any) -> ChatRequest:
    """Return the request that the client makes of *fields*, after it was held to the laws."""
    client.responses.create(model="m", **fields)
    source = upstream.requests[-1].json
    laws.check_request_json(CODEC, source)
    return plain(CODEC.decode_request(stdlib_json.dumps(source).encode()))


def test_what_the_client_sends(client: openai.OpenAI, upstream: Upstream) -> None:
    """Every part of a rich request of the client's is read, and nothing of it is lost."""
    request = sent(
        client,
        upstream,
        instructions="Be brief.",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": "https://x.org/a.png", "detail": "low"},
                ],
            },
            {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "A cat."},
        ],
        tools=[{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "function", "name": "look"},
        reasoning={"effort": "low", "summary": "auto"},
        max_output_tokens=100,
        temperature=0.5,
        store=False,
    )
    assert request == ChatRequest(
        "m",
        (
            Message.system("Be brief."),
            Message.user([Text("What is this?"), Image(url="https://x.org/a.png", detail="low")]),
            Message("assistant", (ToolCall("call_1", "look", "{}"),)),
            Message("tool", (ToolResult("call_1", (Text("A cat."),)),)),
        ),
        tools=(Tool("look", parameters={"type": "object"}, strict=True),),
        tool_choice=ToolName("look"),
        reasoning=ReasoningOptions(effort="low", include=True),
        max_tokens=100,
        temperature=0.5,
        extra={CODEC.name: {"store": False}},
    )


class Place(BaseModel):
    """Where something is."""

    city: str


def test_structured_output(client: openai.OpenAI, upstream: Upstream) -> None:
    """The client asks for a schema, and parses the answer by it."""
    upstream.answer = '{"city":"Paris"}'
    response = client.responses.parse(model="m", input="Where?", text_format=Place)
    assert response.output_parsed == Place(city="Paris")
    format = CODEC.decode_request(upstream.requests[-1].body).response_format
    assert format is not None
    assert (format.kind, format.name, format.strict) == ("json_schema", "Place", True)


def test_an_answer_that_the_client_sends_back(client: openai.OpenAI, upstream: Upstream) -> None:
    """Items that the client got from a stream, sent back by it, are what the codec had written."""
    upstream.answer = list(unfold(ANSWER))
    with client.responses.stream(model="m", input="Hello") as stream:
        output = [item.to_dict() for item in stream.get_final_response().output]
    request = sent(client, upstream, input=output)
    parts = [part for message in request.messages for part in message.parts]
    assert [type(part) for part in parts] == [Reasoning, Text, ToolCall]
    assert parts[0] == PARTS[0]
    assert parts[1] == PARTS[1]


@pytest.mark.anyio
async def test_the_async_client(upstream: Upstream) -> None:
    """The async client reads the same stream."""
    async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key="key", max_retries=0) as client:
        stream = await client.responses.create(model="m", input="Hello", stream=True)
        texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
    assert "".join(texts) == "Hello there"
