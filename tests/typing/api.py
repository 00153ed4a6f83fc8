"""Checked by mypy and pyright, never run: what a caller's own type checker knows of the public API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import assert_type

from antiphon import AsyncClient, ChatCompletion, Client, Completion, CompletionChunk, Conversation, Message, provider
from antiphon.bridge import Iteration
from antiphon.client import AsyncStream
from antiphon.core import ChatParams
from antiphon.types import ChatRequest, ToolCall


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
