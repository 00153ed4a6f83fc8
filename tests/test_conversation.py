"""`Conversation`: turns are kept where one can see them, and only those that came to their end."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing, closing
from typing import Any

import anyio
import pytest

from antiphon import AsyncClient, AsyncConversation, Client, Conversation
from antiphon.chat.events import ReasoningDelta
from antiphon.chat.messages import Message, Reasoning, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.errors import BadRequestError, StreamError
from antiphon.testing import Script, Upstream


def counting(request: ChatRequest) -> list[Any] | str:
    """An answer that tells how many messages there were, and the last of them."""
    return f"{len(request.messages)}:{request.messages[-1].content}"


def texts(messages: list[Any]) -> list[tuple[str, str | None]]:
    """Role and text of each message."""
    return [(m.role, m.content) if isinstance(m, Message) else (m["role"], m["content"]) for m in messages]


def test_turns() -> None:
    """Each turn is asked with all before it, and stays with its answer."""
    conversation = Conversation(Client(provider=counting), system="be brief")
    assert conversation.ask("one") == "2:one"
    assert "".join(conversation.stream("two")) == "4:two"
    assert texts(conversation.messages) == [
        ("system", "be brief"),
        ("user", "one"),
        ("assistant", "2:one"),
        ("user", "two"),
        ("assistant", "4:two"),
    ]


@pytest.mark.anyio
async def test_turns_async() -> None:
    """An async conversation does the same."""
    conversation = AsyncConversation(AsyncClient(provider=counting), system="be brief")
    assert await conversation.ask("one") == "2:one"
    assert "".join([piece async for piece in conversation.stream("two")]) == "4:two"
    assert texts(conversation.messages)[1:] == [
        ("user", "one"),
        ("assistant", "2:one"),
        ("user", "two"),
        ("assistant", "4:two"),
    ]


@pytest.mark.parametrize("kind", [Conversation, AsyncConversation])
def test_what_is_no_message(kind: Callable[..., Any]) -> None:
    """Earlier turns that are no messages are told when the conversation is made."""
    with pytest.raises(BadRequestError, match="role") as raised:
        kind(messages=[{"role": "user", "content": "hello"}, {"content": "hi"}])
    assert raised.value.param == "$.messages[1].role"


@pytest.mark.parametrize("kind", [Conversation, AsyncConversation])
def test_how_it_begins(kind: Callable[..., Any]) -> None:
    """Earlier turns come after the system's words, and the caller's own list is not touched."""
    earlier = [{"role": "user", "content": "hello"}, Message.assistant("hi")]
    conversation = kind(messages=earlier, system="be brief", model="m", temperature=0)
    assert texts(conversation.messages) == [("system", "be brief"), ("user", "hello"), ("assistant", "hi")]
    assert len(earlier) == 2
    assert kind().messages == []
    assert (conversation.model, conversation.params) == ("m", {"temperature": 0})


def test_model_and_parameters() -> None:
    """Every turn is asked of the same model with the same parameters."""
    script = Script("a")
    conversation = Conversation(Client(provider=script), model="m", temperature=0.5, max_tokens=7)
    conversation.ask("one")
    list(conversation.stream("two"))
    assert [(r.model, r.temperature, r.max_tokens, r.stream) for r in script.requests] == [
        ("m", 0.5, 7, False),
        ("m", 0.5, 7, True),
    ]


def test_messages_are_the_callers_to_change() -> None:
    """What is done to the messages between turns counts."""
    conversation = Conversation(Client(provider=counting))
    conversation.ask("one")
    conversation.messages.clear()
    assert conversation.ask("two") == "1:two"


def test_a_turn_keeps_all_of_its_answer() -> None:
    """The answer is kept as it came: thoughts, tool calls and who wrote it."""
    script = Script(ReasoningDelta("hm", signature="s"), "a", ToolCall("c", "f", "{}"), finish_reason="tool_calls")
    conversation = Conversation(Client(provider=script))
    conversation.ask("one")
    (_, message) = conversation.messages
    assert message == Message(
        "assistant", (Reasoning("hm", "s"), Text("a"), ToolCall("c", "f", "{}")), provider="script"
    )


def test_a_turn_that_fails() -> None:
    """A turn that fails leaves everything as it was, so that it can be asked again."""
    script = Script("a", StreamError("cut"))
    conversation = Conversation(Client(provider=script), system="be brief")
    before = list(conversation.messages)
    with pytest.raises(StreamError):
        conversation.ask("one")
    assert conversation.messages == before
    with pytest.raises(StreamError):
        list(conversation.stream("one"))
    assert conversation.messages == before
    script.steps = ("a",)
    conversation.ask("one")
    assert len(conversation.messages) == 3


def test_a_turn_that_is_left() -> None:
    """A streamed turn that is left is not kept, and its provider is ended."""
    script = Script(*"abc")
    conversation = Conversation(Client(provider=script))
    for _ in conversation.stream("one"):
        break
    assert (conversation.messages, script.open) == ([], 0)
    with closing(conversation.stream("one")) as pieces:
        assert next(pieces) == "a"
    assert (conversation.messages, script.open) == ([], 0)
    conversation.stream("never begun").close()
    assert len(script.requests) == 2


@pytest.mark.anyio
async def test_a_turn_that_fails_or_is_left_async() -> None:
    """So it is in async code."""
    script = Script(*"abc", StreamError("cut"))
    conversation = AsyncConversation(AsyncClient(provider=script))
    with pytest.raises(StreamError):
        await conversation.ask("one")
    with pytest.raises(StreamError):
        _ = [piece async for piece in conversation.stream("one")]
    async with aclosing(conversation.stream("one")) as pieces:
        assert await anext(pieces) == "a"
    assert (conversation.messages, script.open) == ([], 0)


class Meeting:
    """A provider that answers nobody until all have asked, and then the last one first."""

    def __init__(self, guests: int) -> None:
        self.guests = guests
        self.come: list[anyio.Event] = []

    async def __call__(self, model: str, messages: list[Any], **params: Any) -> str:
        """Wait for whoever comes next, and to have been left by them."""
        mine = anyio.Event()
        self.come.append(mine)
        if len(self.come) < self.guests:
            await mine.wait()
        place = self.come.index(mine)
        if place:
            self.come[place - 1].set()
        return f"to {messages[-1]['content']}"


@pytest.mark.anyio
async def test_turns_at_once() -> None:
    """Turns asked at the same time are all kept, each question with its answer."""
    conversation = AsyncConversation(AsyncClient(provider=Meeting(3)), system="be brief")
    kept = conversation.messages

    async def streamed() -> None:
        assert [piece async for piece in conversation.stream("c")] == ["to c"]

    async with anyio.create_task_group() as group:
        group.start_soon(conversation.ask, "a")
        group.start_soon(conversation.ask, "b")
        group.start_soon(streamed)
    assert conversation.messages is kept
    turns = texts(kept)[1:]
    assert [role for role, _ in turns] == ["user", "assistant"] * 3
    assert {(said, heard) for (_, said), (_, heard) in zip(turns[::2], turns[1::2], strict=True)} == {
        (letter, f"to {letter}") for letter in "abc"
    }


def test_as_json() -> None:
    """The messages of a conversation turn into OpenAI's JSON, and back into a conversation."""
    script = Script(ReasoningDelta("hm"), "a", ToolCall("c", "f", "{}"), finish_reason="tool_calls")
    conversation = Conversation(Client(provider=script), system="be brief")
    conversation.ask("one")
    written = json.loads(json.dumps([message.to_dict() for message in conversation.messages]))
    assert written == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {
            "role": "assistant",
            "content": "a",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
    ]
    script.steps = ("b",)
    again = Conversation(Client(provider=script), messages=written)
    assert again.ask("two") == "b"
    assert script.requests[-1].messages[2].tool_calls == [ToolCall("c", "f", "{}")]
    assert [message.to_dict() for message in again.messages[:3]] == written


def test_over_http() -> None:
    """A conversation goes over the wire as its messages."""
    with Upstream(counting) as upstream, Client(base_url=upstream.base_url) as client:
        conversation = Conversation(client, model="m")
        conversation.ask("one")
        assert "".join(conversation.stream("two")) == "3:two"
        assert upstream.requests[-1].json["messages"] == [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "1:one"},
            {"role": "user", "content": "two"},
        ]
