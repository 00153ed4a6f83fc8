"""AWS's own client, boto3, reads what the codec writes over HTTP, and the codec reads what it sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import (
    End,
    Event,
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
)
from antiphon.chat.messages import Annotation, File, Image, Message, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ToolName
from antiphon.chat.usage import Usage
from antiphon.errors import RateLimitError
from antiphon.formats.bedrock import Bedrock
from antiphon.testing import Fault, Upstream
from tests.vendors import boto3, botocore

CODEC = Bedrock()
MODEL = "us.anthropic.claude-x-v1:0"
HELLO: Any = [{"role": "user", "content": [{"text": "Hello"}]}]
USAGE = Usage(input_uncached=3, input_cache_read=2, output_visible=4)
PARTS = (
    Reasoning("Hm.", "sig"),
    Text("Yes.", (Annotation(url="https://x.org", title="X"),)),
    ToolCall("call_1", "f", '{"x":1}'),
    ToolCall("call_2", "g", "{}"),
)

pytestmark = pytest.mark.may_block("boto3 is a blocking client, which no code of ours runs beside")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks Converse."""
    with Upstream(codec=CODEC) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Any]:
    """Give AWS's client of that server."""
    made = boto3.Session(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret", region_name="us-east-1")
    base_url = upstream.base_url.removesuffix("/v1")
    client: Any = made.client(
        "bedrock-runtime", endpoint_url=base_url, config=botocore.config.Config(retries={"total_max_attempts": 1})
    )
    yield client
    client.close()


def test_a_whole_answer(client: Any, upstream: Upstream) -> None:
    """The client reads a whole answer of another format's with its thoughts, text, calls and counts."""
    upstream.answer = Completion(choices=(Choice(0, Message("assistant", PARTS), "tool_calls"),), usage=USAGE)
    answer = client.converse(modelId=MODEL, messages=HELLO)
    assert answer["output"]["message"]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
        {
            "citationsContent": {
                "content": [{"text": "Yes."}],
                "citations": [{"title": "X", "location": {"web": {"url": "https://x.org"}}}],
            }
        },
        {"toolUse": {"toolUseId": "call_1", "name": "f", "input": {"x": 1}}},
        {"toolUse": {"toolUseId": "call_2", "name": "g", "input": {}}},
    ]
    assert answer["stopReason"] == "tool_use"
    assert answer["usage"] == {"inputTokens": 3, "outputTokens": 4, "totalTokens": 9, "cacheReadInputTokens": 2}


def test_a_stream(client: Any, upstream: Upstream) -> None:
    """The client reads a stream: blocks in order, calls that came interleaved told apart, and usage at the end."""
    events: list[Event] = [
        ReasoningDelta("Hm."),
        ReasoningDelta("", signature="sig"),
        TextDelta("Ye"),
        TextDelta("s."),
        ToolCallDelta(call=0, id="call_1", name="f", arguments='{"x"'),
        ToolCallDelta(call=1, id="call_2", name="g", arguments="{}"),
        ToolCallDelta(call=0, arguments=":1}"),
        UsageUpdate(USAGE),
        Finish("tool_calls"),
        End(),
    ]
    upstream.answer = events
    told = [*client.converse_stream(modelId=MODEL, messages=HELLO)["stream"]]
    assert told[0] == {"messageStart": {"role": "assistant"}}
    texts: dict[int, str] = {}
    names: dict[int, str] = {}
    open_: set[int] = set()
    for event in told[1:-2]:
        ((kind, body),) = event.items()
        index = body["contentBlockIndex"]
        if kind == "contentBlockStart":
            names[index] = body["start"]["toolUse"]["name"]
        elif kind == "contentBlockDelta":
            delta = body["delta"]
            inner = delta.get("toolUse", {}).get("input") or delta.get("reasoningContent", {}).get("text", "")
            texts[index] = texts.get(index, "") + (delta.get("text") or inner)
            open_.add(index)
        else:
            open_.discard(index)
    assert texts == {0: "Hm.", 1: "Yes.", 2: '{"x":1}', 3: "{}"}
    assert names == {2: "f", 3: "g"}
    assert open_ == set()
    assert told[-2] == {"messageStop": {"stopReason": "tool_use"}}
    assert told[-1]["metadata"]["usage"]["totalTokens"] == 9


def test_errors(client: Any, upstream: Upstream) -> None:
    """The client names an error as AWS would: one before the answer, and one within a stream."""
    error = CODEC.encode_error(RateLimitError("Slow down.", status=429))
    upstream.fault = Fault("status", status=error.status, headers=dict(error.headers), body=error.body)
    with pytest.raises(client.exceptions.ThrottlingException, match="Slow down"):
        client.converse(modelId=MODEL, messages=HELLO)
    upstream.fault = Fault.error_inside("It broke.", after=2)
    with closing(client.converse_stream(modelId=MODEL, messages=HELLO)["stream"]) as answer:
        stream = iter(answer)
        assert "messageStart" in next(stream)
        next(stream)
        with pytest.raises(botocore.exceptions.EventStreamError, match=r"internalServerException.*It broke"):
            next(stream)


def test_a_refused_request(client: Any) -> None:
    """What the codec refuses is a ValidationException with the path of the fault."""
    messages: Any = [{"role": "somebody", "content": []}]
    with pytest.raises(botocore.exceptions.ClientError, match=r"ValidationException.*messages\[0\]\.role"):
        client.converse(modelId=MODEL, messages=messages)


def test_what_the_client_sends(client: Any, upstream: Upstream) -> None:
    """Every kind of block that the client writes is read, and the model and stream out of the path."""
    seen: list[Any] = []
    upstream.answer = lambda request: (seen.append(request), "ok")[1]
    content: Any = [
        {"text": "Hello"},
        {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}},
        {"document": {"format": "pdf", "name": "a", "source": {"s3Location": {"uri": "s3://b/a.pdf"}}}},
    ]
    call: Any = {"toolUse": {"toolUseId": "t", "name": "f", "input": {"x": 1}}}
    result: Any = {"toolResult": {"toolUseId": "t", "content": [{"json": {"a": 1}}], "status": "error"}}
    stream = client.converse_stream(
        modelId=MODEL,
        system=[{"text": "Be brief."}],
        messages=[
            {"role": "user", "content": content},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ],
        inferenceConfig={"maxTokens": 5, "temperature": 0.5, "stopSequences": ["X"]},
        toolConfig={
            "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}],
            "toolChoice": {"tool": {"name": "f"}},
        },
    )["stream"]
    assert len([*stream]) > 2
    (request,) = seen
    assert (request.model, request.stream, request.max_tokens, request.temperature) == (MODEL, True, 5, 0.5)
    assert (request.stop, request.tool_choice) == (("X",), ToolName("f"))
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "user"]
    assert request.messages[1].parts == (
        Text("Hello"),
        Image(data="iVBORw==", media_type="image/png"),
        File(url="s3://b/a.pdf", media_type="application/pdf", name="a"),
    )
    assert request.messages[2].parts == (ToolCall("t", "f", '{"x":1}'),)
    assert request.messages[3].parts == (ToolResult("t", (Text('{"a":1}'),), True),)
    assert CODEC.encode_request(request).losses == ()


def test_there_and_back(client: Any, upstream: Upstream) -> None:
    """What the client read goes back as the same message."""
    upstream.answer = Completion(choices=(Choice(0, Message("assistant", PARTS), "tool_calls"),))
    message = client.converse(modelId=MODEL, messages=HELLO)["output"]["message"]
    client.converse(modelId=MODEL, messages=[*HELLO, message])
    seen = upstream.requests[-1]
    parts = CODEC.decode_request(seen.body, seen.path).messages[-1].parts
    assert [type(part) for part in parts] == [type(part) for part in PARTS]
    assert parts[0] == PARTS[0]
    assert parts[2:] == PARTS[2:]
