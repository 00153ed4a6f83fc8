"""What each official client makes of an answer with everything in it: thoughts, text, two calls of one tool, counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Message, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.testing import Upstream
from tests.server.clients import CODECS, row
from tests.serving import Serving
from tests.vendors import anthropic, genai, ollama, openai

FORMATS = ("openai-responses", "anthropic", "gemini", "ollama", "cohere")
USAGE = Usage(input_uncached=5, output_visible=7)
HELLO: Any = [{"role": "user", "content": "hi"}]
FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


def answer(request: ChatRequest) -> Completion:
    """Think, say something, and ask for two cities; with their weather there, tell it."""
    results = [part for message in request.messages for part in message.parts if isinstance(part, ToolResult)]
    calls = [part for message in request.messages for part in message.parts if isinstance(part, ToolCall)]
    if results:
        cities = {call.id: json.loads(call.arguments)["city"] for call in calls}
        parts: tuple[Any, ...] = (Text("; ".join(f"{cities[part.call_id]}: {part.text}" for part in results)),)
    else:
        told = (ToolCall("call_1", "weather", '{"city":"Paris"}'), ToolCall("call_2", "weather", '{"city":"Oslo"}'))
        parts = (Reasoning("Hm."), Text("I look."), *told)
    choice = Choice(0, Message("assistant", parts), "stop" if results else "tool_calls")
    return Completion(choices=(choice,), id="answer-1", model="m", created=1_700_000_000, usage=USAGE)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server with a provider that is a function, and one for each format that can say all this."""
    with ExitStack() as stack:
        upstreams = {name: stack.enter_context(Upstream(answer, codec=CODECS[name])) for name in FORMATS}
        rows = {name: row(upstream, name, name) for name, upstream in upstreams.items()}
        yield stack.enter_context(Serving({"own": answer, **rows}))


Understood = tuple[str, str, list[tuple[str, Any]], tuple[int | None, int | None]]
"""Thoughts, text, calls and tokens of the answer."""


def by_openai(server: Serving, model: str, stream: bool) -> tuple[Understood, str]:
    """Ask with OpenAI's client, and send it the results."""
    tools: Any = [{"type": "function", "function": FUNCTION}]
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:

        def ask(messages: Any) -> Any:
            if not stream:
                return client.chat.completions.create(model=model, messages=messages, tools=tools)
            options: Any = {"include_usage": True}
            with client.chat.completions.stream(
                model=model, messages=messages, tools=tools, stream_options=options
            ) as events:
                return events.get_final_completion()

        first = ask(HELLO)
        said = first.choices[0].message
        calls = [(call.id, json.loads(call.function.arguments)) for call in said.tool_calls]
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": weather(call.function.arguments)}
            for call in said.tool_calls
        ]
        last = ask([*HELLO, said.model_dump(exclude_none=True), *results]).choices[0].message.content
        counts = (first.usage.prompt_tokens, first.usage.completion_tokens)
        return (said.reasoning_content, said.content, calls, counts), last


def by_responses(server: Serving, model: str, stream: bool) -> tuple[Understood, str]:
    """Ask with OpenAI's client by its other path, and send it the results."""
    tools: Any = [{"type": "function", "strict": False, **FUNCTION}]
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:

        def ask(said: Any) -> Any:
            if not stream:
                return client.responses.create(model=model, input=said, tools=tools)
            with client.responses.stream(model=model, input=said, tools=tools) as events:
                return events.get_final_response()

        first = ask(HELLO)
        thoughts = [part.text for item in first.output if item.type == "reasoning" for part in item.summary]
        asked = [item for item in first.output if item.type == "function_call"]
        results = [
            {"type": "function_call_output", "call_id": item.call_id, "output": weather(item.arguments)}
            for item in asked
        ]
        sent = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in asked]
        calls = [(item.call_id, json.loads(item.arguments)) for item in asked]
        counts = (first.usage.input_tokens, first.usage.output_tokens)
        return ("".join(thoughts), first.output_text, calls, counts), ask([*HELLO, *sent, *results]).output_text


def by_anthropic(server: Serving, model: str, stream: bool) -> tuple[Understood, str]:
    """Ask with Anthropic's client, and send it the results in one message, beside each other."""
    tools: Any = [{"name": "weather", "input_schema": FUNCTION["parameters"]}]
    with anthropic.Anthropic(base_url=server.address, api_key="none", max_retries=0) as client:

        def ask(messages: Any) -> anthropic.types.Message:
            if not stream:
                return client.messages.create(model=model, max_tokens=99, messages=messages, tools=tools)
            with client.messages.stream(model=model, max_tokens=99, messages=messages, tools=tools) as events:
                return events.get_final_message()

        first = ask(HELLO)
        thoughts = "".join(block.thinking for block in first.content if block.type == "thinking")
        text = "".join(block.text for block in first.content if block.type == "text")
        calls = [(block.id, block.input) for block in first.content if block.type == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": id, "content": weather(given)} for id, given in calls]
        turns = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        last = "".join(block.text for block in ask(turns).content if block.type == "text")
        return (thoughts, text, calls, (first.usage.input_tokens, first.usage.output_tokens)), last


def by_google(server: Serving, model: str, stream: bool) -> tuple[Understood, str]:
    """Ask with Google's client in one of its chats, and send it the results."""
    declared = genai.types.FunctionDeclaration(name="weather", parameters_json_schema=FUNCTION["parameters"])
    config = genai.types.GenerateContentConfig(tools=[genai.types.Tool(function_declarations=[declared])])
    with genai.Client(api_key="none", http_options=genai.types.HttpOptions(base_url=server.address)) as client:
        chat = client.chats.create(model=model, config=config)

        def ask(said: Any) -> tuple[list[genai.types.Part], genai.types.GenerateContentResponse]:
            frames = list(chat.send_message_stream(said)) if stream else [chat.send_message(said)]
            contents = [candidate.content for frame in frames for candidate in frame.candidates or ()]
            return [part for content in contents if content for part in content.parts or ()], frames[-1]

        parts, end = ask("hi")
        thoughts = "".join(part.text or "" for part in parts if part.thought)
        text = "".join(part.text or "" for part in parts if not part.thought)
        asked = [part.function_call for part in parts if part.function_call]
        results = [
            genai.types.Part(
                function_response=genai.types.FunctionResponse(
                    id=c.id, name=c.name, response={"output": weather(c.args)}
                )
            )
            for c in asked
        ]
        last = "".join(part.text or "" for part in ask(results)[0])
        counts = end.usage_metadata
        assert counts is not None
        told = (counts.prompt_token_count, counts.candidates_token_count)
        return (thoughts, text, [(call.id or "", call.args) for call in asked], told), last


def by_ollama(server: Serving, model: str, stream: bool) -> tuple[Understood, str]:
    """Ask with Ollama's client, which knows no ids, and send it the results in the order of the calls."""
    tools: Any = [{"type": "function", "function": FUNCTION}]
    with ollama.Client(host=server.address) as client:

        def ask(messages: Any) -> list[ollama.ChatResponse]:
            if stream:
                return list(client.chat(model, messages, tools=tools, stream=True))
            return [client.chat(model, messages, tools=tools)]

        lines = ask(HELLO)
        thoughts = "".join(line.message.thinking or "" for line in lines)
        text = "".join(line.message.content or "" for line in lines)
        asked = [call for line in lines for call in line.message.tool_calls or ()]
        calls = [(f"call_{place}", dict(call.function.arguments)) for place, call in enumerate(asked, 1)]
        said = ollama.Message(role="assistant", content=text, thinking=thoughts, tool_calls=asked)
        results = [{"role": "tool", "tool_name": "weather", "content": weather(given)} for _, given in calls]
        last = "".join(line.message.content or "" for line in ask([*HELLO, said, *results]))
        return (thoughts, text, calls, (lines[-1].prompt_eval_count, lines[-1].eval_count)), last


def weather(arguments: Any) -> str:
    """Return what the tool says, of arguments as an object or as JSON."""
    given = json.loads(arguments) if isinstance(arguments, str) else arguments
    return {"Paris": "sunny", "Oslo": "rainy"}[given["city"]]


CLIENTS: dict[str, Callable[[Serving, str, bool], tuple[Understood, str]]] = {
    "openai": by_openai,
    "responses": by_responses,
    "anthropic": by_anthropic,
    "google": by_google,
    "ollama": by_ollama,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("provider", ["own", *FORMATS])
@pytest.mark.parametrize("client", CLIENTS)
def test_everything_in_one_answer(server: Serving, client: str, provider: str, stream: bool) -> None:
    """The client finds thoughts, text, both calls and the counts; its two results belong to the calls they answer."""
    understood, last = CLIENTS[client](server, f"{provider}/m", stream)
    thoughts, text, calls, tokens = understood
    assert (thoughts, text) == ("Hm.", "I look.")
    assert [given for _, given in calls] == [{"city": "Paris"}, {"city": "Oslo"}]
    if provider != "ollama":  # whose calls have no ids of their own
        assert [id for id, _ in calls] == ["call_1", "call_2"]
    assert tokens == (5, 7)
    assert last == "Paris: sunny; Oslo: rainy"
