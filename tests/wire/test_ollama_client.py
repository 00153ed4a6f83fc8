"""The official `ollama` client reads what is written, and what it sends is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Image, Message, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.usage import Usage
from antiphon.formats import json
from antiphon.formats.ollama import Ollama
from antiphon.testing import Fault, Upstream
from tests.vendors import ollama
from tests.wire import laws

CODEC = Ollama()
PARTS = (Reasoning("Hm."), Text("Yes."), ToolCall("call_1", "f", '{"x": 1}'))
ANSWER = Completion(
    choices=(Choice(0, Message("assistant", PARTS), "tool_calls"),),
    id="c",
    model="m",
    usage=Usage(input_uncached=3, input_cache_read=2, output_visible=4),
)
HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server with that answer."""
    with Upstream(ANSWER, codec=CODEC, models=("m",)) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[ollama.Client]:
    """Give the official client of that server."""
    with ollama.Client(host=upstream.base_url.removesuffix("/v1")) as client:
        yield client


def check(message: Any, last: Any) -> None:
    """Fail unless the client has understood all of the answer."""
    assert (message.thinking, message.content) == ("Hm.", "Yes.")
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [("f", {"x": 1})]
    assert (last.done, last.done_reason, last.prompt_eval_count, last.eval_count) == (True, "stop", 5, 4)


def test_a_whole_answer(client: ollama.Client) -> None:
    """The client reads a whole answer of another format's with its thoughts, text, calls and counts."""
    answer = client.chat("m", HELLO)
    check(answer.message, answer)


def test_a_stream(client: ollama.Client) -> None:
    """The client reads a stream of another format's: each line is one of its answers."""
    lines = list(client.chat("m", HELLO, stream=True))

    def joined(field: str) -> str:
        return "".join(getattr(one.message, field) or "" for one in lines)

    calls = [call for one in lines for call in one.message.tool_calls or ()]
    check(
        ollama.Message(role="assistant", content=joined("content"), thinking=joined("thinking"), tool_calls=calls),
        lines[-1],
    )


def test_errors(client: ollama.Client, upstream: Upstream) -> None:
    """An error reply, and an error inside a stream, are the client's error with our words."""
    upstream.fault = Fault.of_status(404, '{"error": "model not found"}')
    with pytest.raises(ollama.ResponseError, match="model not found") as caught:
        client.chat("m", HELLO)
    assert caught.value.status_code == 404
    upstream.fault = Fault.error_inside("out of memory", after=1)
    with pytest.raises(ollama.ResponseError, match="out of memory"):
        list(client.chat("m", HELLO, stream=True))


def test_what_the_client_sends(client: ollama.Client, upstream: Upstream) -> None:
    """A rich request of the client's is read without loss, and written as the client wrote it."""

    def look(at: str) -> str:
        """Look somewhere.

        Args:
            at: Where to look.
        """
        return at

    client.chat(
        "m",
        [
            {"role": "user", "content": "see", "images": [b"\x89PNG\r\n\x1a\n"]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {"at": "left"}}}]},
            {"role": "tool", "tool_name": "look", "content": "A cat."},
        ],
        tools=[look],
        think="high",
        format={"type": "object"},
        options={"temperature": 0, "num_ctx": 8},
        keep_alive=-1,
        logprobs=True,
        top_logprobs=2,
    )
    sent = upstream.requests[-1]
    read = CODEC.decode_request(sent.body)
    assert read.messages[0].parts[1] == Image(data="iVBORw0KGgo=", media_type="image/png")
    assert read.messages[2].parts == (ToolResult("call_0", (Text("A cat."),), name="look"),)
    written = CODEC.encode_request(read)
    assert (written.path, written.losses) == (sent.path, ())
    laws.check_same(json.decode(sent.body), json.decode(written.body))
