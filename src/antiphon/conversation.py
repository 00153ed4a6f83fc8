"""`Conversation`, a conversation of several turns, kept where you can see it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from typing import Any, Unpack

from antiphon.calls.params import ChatParams, chat_request
from antiphon.chat.answers import Completion
from antiphon.chat.messages import Message
from antiphon.client import AsyncClient, Client

__all__ = ["AsyncConversation", "Conversation"]


class _Turns:
    """The messages so far; a turn is added when its answer is complete, and not at all if it fails.

    Turns that are asked at the same time do not see each other, and are kept in the order in which they are answered.
    """

    def __init__(
        self, model: str, system: str | None, messages: Iterable[Mapping[str, Any] | Message], params: ChatParams
    ) -> None:
        self.model = model
        earlier = list(messages)
        self.messages = list(chat_request(earlier, "", {}, stream=False).messages) if earlier else []
        """Every turn so far, yours to read and to change between turns. `to_dict()` of each is OpenAI's JSON."""
        if system is not None:
            self.messages.insert(0, Message.system(system))
        self.params = params

    def _keep(self, question: Message, answer: Completion) -> None:
        # Not the messages that the question was asked with: another turn may have come to its end meanwhile.
        self.messages.extend((question, answer.choices[0].message))


class Conversation(_Turns):
    """A conversation in blocking code.

    Args:
        client: Who carries it; a plain `Client()` if not given.
        model: As in `Client.chat.completions.create`.
        system: Instructions above the conversation.
        messages: Earlier turns.
        **params: For every turn; see `ChatParams`.

    Raises:
        BadRequestError: One of *messages* is none; `param` is its path, such as `$.messages[0].role`.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        model: str = "",
        system: str | None = None,
        messages: Iterable[Mapping[str, Any] | Message] = (),
        **params: Unpack[ChatParams],
    ) -> None:
        super().__init__(model, system, messages, params)
        self._client = client or Client()

    def ask(self, text: str) -> str:
        """Say *text*, and return the answer's text once it is complete."""
        question = Message.user(text)
        answer = self._client.chat.completions.create([*self.messages, question], self.model, **self.params)
        self._keep(question, answer)
        return answer.content or ""

    def stream(self, text: str) -> Generator[str, None, None]:
        """Say *text*, and give the answer's text in pieces; the turn is kept when the last one was taken."""
        question = Message.user(text)
        with self._client.chat.completions.stream([*self.messages, question], self.model, **self.params) as stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
            self._keep(question, stream.get_final_completion())


class AsyncConversation(_Turns):
    """A conversation in async code; the arguments are those of `Conversation`."""

    def __init__(
        self,
        client: AsyncClient | None = None,
        *,
        model: str = "",
        system: str | None = None,
        messages: Iterable[Mapping[str, Any] | Message] = (),
        **params: Unpack[ChatParams],
    ) -> None:
        super().__init__(model, system, messages, params)
        self._client = client or AsyncClient()

    async def ask(self, text: str) -> str:
        """Say *text*, and return the answer's text once it is complete."""
        question = Message.user(text)
        answer = await self._client.chat.completions.create([*self.messages, question], self.model, **self.params)
        self._keep(question, answer)
        return answer.content or ""

    async def stream(self, text: str) -> AsyncGenerator[str, None]:
        """Say *text*, and give the answer's text in pieces; the turn is kept when the last one was taken."""
        question = Message.user(text)
        async with self._client.chat.completions.stream(
            [*self.messages, question], self.model, **self.params
        ) as stream:
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
            self._keep(question, await stream.get_final_completion())
