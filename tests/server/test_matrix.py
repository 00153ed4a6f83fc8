"""Every dialect to every format, whole and streamed, HTTP on both sides: what crosses, and what is told of the rest."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold
from antiphon.chat.messages import Image, Message, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool
from antiphon.testing import SeenRequest, Upstream
from tests.server.clients import CODECS, PNG, RIGHT, SCHEMA, USAGE, providers
from tests.serving import Serving

PREFIXES = {"openai-chat": "/v1", "openai-responses": "/v1", "anthropic": "", "gemini": "", "ollama": ""}
"""The dialects of the server, and what of their paths a client's base URL has."""

TOOLS = (Tool("weather", "Tells the weather.", SCHEMA),)
PICTURE = Image(data=PNG, media_type="image/png")
RICH = ChatRequest(
    "",
    (
        Message.system("Be brief."),
        Message.user((Text("What is here?"), PICTURE)),
        Message.assistant(
            (Reasoning("Hm.", "c2ln"), Text("I look."), ToolCall("call_1", "weather", '{"city":"Oslo"}'))
        ),
        Message.tool("call_1", "no such city", is_error=True),
        Message.user((Text("And here?"), PICTURE)),
    ),
    tools=TOOLS,
    tool_choice="required",
    temperature=0.5,
    top_p=0.9,
    top_k=40,
    max_tokens=2000,
    stop=("END",),
    seed=7,
    frequency_penalty=0.5,
    user="ada",
    response_format=ResponseFormat("json_schema", SCHEMA, "answer"),
    reasoning=ReasoningOptions(effort="low"),
)
"""Something of everything. What a dialect has no word for, its clients cannot say; the receipts are of the rest."""

THOUGHT = "messages[2].parts[0]"
SIGNATURE = f"{THOUGHT}.signature"
PLAIN = "messages[2].reasoning_content"
FAILED = "messages[3].parts[0].is_error"
NAME = "response_format.name"
RECEIPTS: dict[str, dict[str, list[str]]] = {
    "openai-chat": {
        "openai-chat": [PLAIN],  # OpenAI's own servers have no such field; rows of others say which they have
        "openai-responses": [THOUGHT, "top_k", "stop", "seed", "frequency_penalty"],
        "anthropic": [THOUGHT, "seed", "frequency_penalty", NAME],
        "gemini": [NAME, "user"],
        "ollama": ["tool_choice", NAME, "user"],
        "cohere": ["~reasoning.effort", NAME, "user"],
        "bedrock": [THOUGHT, "top_k", "seed", "frequency_penalty", "user"],
    },
    "openai-responses": {
        "openai-chat": [SIGNATURE, PLAIN],
        "openai-responses": [],
        "anthropic": [NAME],
        "gemini": [SIGNATURE, NAME, "user"],
        "ollama": [SIGNATURE, "tool_choice", NAME, "user"],
        "cohere": [SIGNATURE, "~reasoning.effort", NAME, "user"],
        "bedrock": ["user"],
    },
    "anthropic": {
        "openai-chat": [SIGNATURE, FAILED, PLAIN],
        "openai-responses": [FAILED, f"+{NAME}", "top_k", "stop"],
        "anthropic": [],
        "gemini": [SIGNATURE, "user"],
        "ollama": [SIGNATURE, FAILED, "tool_choice", "user"],
        "cohere": [SIGNATURE, FAILED, "~reasoning.effort", "user"],
        "bedrock": ["top_k", "user"],
    },
    "gemini": {
        "openai-chat": [FAILED, PLAIN],
        "openai-responses": [THOUGHT, FAILED, f"+{NAME}", "top_k", "stop", "seed", "frequency_penalty"],
        "anthropic": [THOUGHT, "seed", "frequency_penalty"],
        "gemini": [],
        "ollama": [FAILED, "tool_choice"],
        "cohere": [FAILED, "~reasoning.effort"],
        "bedrock": [THOUGHT, "~messages[4]", "top_k", "seed", "frequency_penalty"],
    },
    "ollama": {
        "openai-chat": [PLAIN],
        "openai-responses": [THOUGHT, f"+{NAME}", "top_k", "stop", "seed", "frequency_penalty"],
        "anthropic": [THOUGHT, "seed", "frequency_penalty"],
        "gemini": [],
        "ollama": [],
        "cohere": ["~reasoning.effort"],
        "bedrock": [THOUGHT, "top_k", "seed", "frequency_penalty"],
    },
}
"""What cannot cross, by dialect and by the provider's format; `~` what is only approximated, `+` what was added."""

KINDS = {"~": "approximated", "+": "defaulted"}

World = tuple[Serving, dict[str, Upstream]]
CELLS = [pytest.param(dialect, format, id=f"{dialect}-to-{format}") for dialect in PREFIXES for format in CODECS]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A server with a provider for each format, and what these are in truth."""
    with providers() as found:
        yield found


def ask(server: Serving, dialect: str, request: ChatRequest) -> tuple[Completion, list[str]]:
    """Ask as a client of *dialect* would; return what it understands, and the receipt."""
    codec = CODECS[dialect]
    written = codec.encode_request(request)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", PREFIXES[dialect] + written.path, written.body, dict(written.headers))
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    assert reply.status == 200, body
    told = reply.headers["content-type"]
    assert told == (codec.stream_type if request.stream else "application/json")
    decoder = codec.decoder(request, told)
    answer = fold([*decoder.feed(body), *decoder.close()])
    return answer, list(filter(None, reply.headers.get("x-antiphon-losses", "").split(", ")))


def understood(seen: SeenRequest, format: str) -> ChatRequest:
    """Return what a provider of *format* reads in the request that it got."""
    return CODECS[format].decode_request(seen.body, seen.path)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("dialect", "format"), CELLS)
def test_tool_round_trip(world: World, dialect: str, format: str, stream: bool) -> None:
    """The client gets the call, the provider its result under the call's id, the client the text, and nothing is lost.

    The usage arrives with both answers.
    """
    server, upstreams = world
    asked = ChatRequest(f"{format}/m", (Message.user("Weather?"),), tools=TOOLS, max_tokens=99, stream=stream)
    asked = asked.but(include_usage=True if stream else None)
    answer, receipt = ask(server, dialect, asked)
    message = answer.choices[0].message
    (call,) = message.tool_calls or ()
    assert (call.id, call.name, call.arguments.replace(" ", "")) == ("call_1", "weather", '{"city":"Paris"}')
    assert (answer.choices[0].finish_reason, answer.model, receipt) == ("tool_calls", "m", [])

    result = ToolResult(call.id, (Text("sunny"),), name=call.name)
    final, receipt = ask(server, dialect, asked.but(messages=(*asked.messages, message, Message("tool", (result,)))))
    assert (final.choices[0].message.content, final.choices[0].finish_reason) == (RIGHT, "stop")
    assert receipt == []
    for usage in (answer.usage, final.usage):
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (USAGE.prompt_tokens, USAGE.completion_tokens)

    *_, first, second = (understood(seen, format) for seen in upstreams[format].requests)
    assert (first.model or "m", first.stream, first.max_tokens) == ("m", stream, 99)
    parts = [part for message in second.messages for part in message.parts]
    assert [(part.id, part.name) for part in parts if isinstance(part, ToolCall)] == [("call_1", "weather")]
    assert [(part.call_id, part.text) for part in parts if isinstance(part, ToolResult)] == [("call_1", "sunny")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("dialect", "format"), CELLS)
def test_receipt_of_a_rich_request(world: World, dialect: str, format: str, stream: bool) -> None:
    """The receipt lists exactly what cannot cross; whole and streamed, words, calls and results always do."""
    server, upstreams = world
    answer, receipt = ask(server, dialect, RICH.but(model=f"{format}/m", stream=stream))
    assert receipt == [f"{KINDS.get(path[0], 'dropped')} $.{path.lstrip('~+')}" for path in RECEIPTS[dialect][format]]
    assert answer.choices[0].message.content == f"A picture of {len(PNG)} letters."
    read = understood(upstreams[format].requests[-1], format)
    parts = [part for message in read.messages for part in message.parts]
    texts = [part.text for part in parts if isinstance(part, Text)]
    assert texts == ["Be brief.", "What is here?", "I look.", "And here?"]
    assert [part.data for part in parts if isinstance(part, Image)] == [PNG, PNG]
    assert [(part.call_id, part.text) for part in parts if isinstance(part, ToolResult)] == [("call_1", "no such city")]
    assert read.response_format is not None
    assert read.response_format.schema == SCHEMA
