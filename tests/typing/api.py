"""Checked by mypy and pyright, never run: what a caller's own type checker knows of the public API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

import msgspec

from antiphon import (
    AsyncClient,
    ChatCompletion,
    Client,
    Completion,
    CompletionChunk,
    Conversation,
    Message,
    ToolCall,
    provider,
    tool,
)
from antiphon.calls.params import ChatParams
from antiphon.calls.tool_loop import AsyncRunStream, RunResult, RunStream
from antiphon.calls.typed_answers import AsyncParseStream, ParsedCompletion, ParseStream
from antiphon.chat.requests import ChatRequest, Tool
from antiphon.client import AsyncStream
from antiphon.sync.bridge import Iteration


def blocking(client: Client, stream: bool) -> None:
    """What `Client` gives."""
    assert_type(client.chat.completions.create("hello", "m"), Completion)
    assert_type(client.chat.completions.create("hello", "m", stream=False), Completion)
    assert_type(client.chat.completions.create("hello", "m", stream=True), Iteration[CompletionChunk])
    assert_type(client.chat.completions.create("hello", stream=stream), Completion | Iteration[CompletionChunk])
    for chunk in client.chat.completions.create(messages="hello", model="m", stream=True):
        assert_type(chunk, CompletionChunk)
        assert_type(chunk.choices[0].delta.content, str | None)
    answer = client.chat.completions.create([{"role": "user", "content": "hello"}, Message.user("again")])
    assert_type(answer.choices[0].message.content, str | None)
    assert_type(answer.choices[0].message.tool_calls, list[ToolCall] | None)
    with client.chat.completions.stream("hello") as accumulating:
        assert_type(accumulating.get_final_completion(), Completion)


async def asynchronous(client: AsyncClient, stream: bool) -> None:
    """What `AsyncClient` gives."""
    assert_type(await client.chat.completions.create("hello", "m"), Completion)
    assert_type(client.chat.completions.create("hello", "m", stream=True), AsyncStream)
    assert_type(client.chat.completions.create("hello", stream=stream), Awaitable[Completion] | AsyncStream)
    async for chunk in await client.chat.completions.create("hello", stream=True):
        assert_type(chunk, CompletionChunk)


async def strings(stream: bool) -> None:
    """What `ChatCompletion` gives."""
    assert_type(ChatCompletion.create("m", "hello"), str)
    assert_type(ChatCompletion.create("m", "hello", stream=True), Iteration[str])
    assert_type(ChatCompletion.create("m", "hello", stream=stream), str | Iteration[str])
    assert_type(await ChatCompletion.create_async("m", "hello"), str)
    pieces: AsyncIterator[str] = ChatCompletion.create_async("m", "hello", stream=True)
    assert_type([piece async for piece in pieces], list[str])


def parameters(client: Client, params: ChatParams) -> None:
    """Which parameters are taken."""
    client.chat.completions.create("hello", "m", temperature=0, max_tokens=None, stop=["\n"], timeout=3, strict=True)
    client.chat.completions.create("hello", "m", **params)
    client.chat.completions.create("hello", "m", temprature=0)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.chat.completions.create("hello", "m", temperature="hot")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert_type(Conversation(client, system="Be brief.").ask("hello"), str)


@provider
def shout(request: ChatRequest) -> Iterator[str]:
    """A provider."""
    yield from ("HELLO", request.model)


assert_type(Client(provider=shout).chat.completions.create("hello"), Completion)


class Person(msgspec.Struct):
    """A type to ask for."""

    name: str


@dataclass
class Place:
    """A type to ask for."""

    name: str


class Size(TypedDict):
    """A type to ask for."""

    width: float


def parsed(client: Client, anything: Any) -> None:
    """What `parse` gives: a value of the type that was passed, and `Any` where a type checker does not know it."""
    parse = client.chat.completions.parse
    assert_type(parse("hello", "m", response_format=Person), ParsedCompletion[Person])
    assert_type(parse("hello", response_format=Person).parsed, Person)
    assert_type(parse("hello", response_format=Place, temperature=0).parsed, Place)
    assert_type(parse("hello", response_format=Size).parsed, Size)
    assert_type(parse("hello", response_format=list[Person]).parsed, list[Person])
    assert_type(parse("hello", response_format=Person | Place).parsed, Any)
    assert_type(parse("hello", response_format=Person, stream=True), ParseStream[Person])
    with parse("hello", response_format=Person, stream=True) as stream:
        assert_type(stream.get_final().parsed, Person)
    completion: Completion = parse("hello", response_format=Person, stream=False)
    assert_type(completion.content, str | None)
    parse("hello")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    parse("hello", response_format=Person, tools=[greet], max_tokens="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def parsed_async(client: AsyncClient) -> None:
    """What the async `parse` gives."""
    parse = client.chat.completions.parse
    assert_type((await parse("hello", "m", response_format=Person)).parsed, Person)
    assert_type(parse("hello", response_format=Place, stream=True), AsyncParseStream[Place])
    async with parse("hello", response_format=Place, stream=True) as stream:
        assert_type((await stream.get_final()).parsed, Place)


@tool
def greet(name: str, *, loud: bool = False) -> str:
    """A tool."""
    return name.upper() if loud else name


@tool(name="greet_async")
async def greet_async(name: str) -> str:
    """A tool."""
    return name


def tools(client: Client, stream: bool) -> None:
    """What `run` takes and gives; a tool is still the function that it was."""
    run = client.chat.completions.run
    assert_type(run("hello", "m", tools=[greet, len, {"type": "web_search"}, Tool("x")]), RunResult)
    assert_type(run("hello", tools=[greet], stream=True, max_rounds=3, temperature=0), RunStream)
    assert_type(run("hello", tools=[greet], stream=stream), RunResult | RunStream)
    for chunk in run("hello", tools=(greet,), stream=True):
        assert_type(chunk, CompletionChunk)
    run(run("hello", tools=[]).messages, tools=[])
    run("hello", tools=[greet], tool_choise="auto")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    assert_type(client.chat.completions.create("hello", tools=[greet, {"type": "web_search"}]), Completion)
    assert_type(greet("x", loud=True), str)
    assert_type(greet.call("{}"), str)
    assert_type(tool(double)(3), int)
    assert_type(tool(double, name="twice")(n=3), int)
    greet(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def double(n: int) -> int:
    """A function."""
    return 2 * n


async def tools_async(client: AsyncClient) -> None:
    """What the async `run` gives."""
    assert_type(await greet_async.call("{}"), str)
    run = client.chat.completions.run
    assert_type(await run("hello", "m", tools=[greet_async]), RunResult)
    assert_type(run("hello", tools=[greet], stream=True), AsyncRunStream)
    async with await run("hello", tools=[greet], stream=True) as running:
        assert_type(await running.get_final_result(), RunResult)
