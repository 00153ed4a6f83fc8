"""OpenAI's legacy `/v1/completions`, the server's half: requests read, answers written. No I/O.

* A prompt is one text, which becomes one user message. What a chat cannot do with it is refused, not passed over.
* An answer is text alone: thoughts, calls and pictures are left out, and why it ended is told as it was.

Source: openai 3.54, `types/completion_create_params.py`, `types/completion.py`, `types/completion_choice.py` (read
2026-11-23); the default of `max_tokens` from OpenAI's reference of the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import msgspec

from antiphon.chat.answers import Completion
from antiphon.chat.events import End, Event, Finish, RefusalDelta, Start, TextDelta, UsageUpdate, unfold
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, BadRequestError
from antiphon.formats import json, read
from antiphon.formats.codec import Encoder, HTTPReply, ListedModel
from antiphon.formats.framing import sse
from antiphon.formats.listing import openai_model, openai_models
from antiphon.formats.notes import growing
from antiphon.formats.openai_chat.answer import encode_usage, error_object
from antiphon.formats.openai_chat.message import own_extra
from antiphon.formats.openai_chat.request import decode_request
from antiphon.formats.status import error_reply
from antiphon.formats.times import unix_seconds

__all__ = ["MAX_TOKENS", "OpenAIText"]

MAX_TOKENS = 16
"""Most tokens of an answer where the request sets no bound: OpenAI's documented default for this route."""

_OWN = frozenset({"prompt", "suffix", "echo", "best_of", "logprobs"})
"""Fields that a chat does not have, or has with another meaning."""
_CHATS = ("messages", "tools", "tool_choice", "functions", "function_call")
"""Fields that only a chat has, and that would be without effect here."""


class OpenAIText(msgspec.Struct, frozen=True, kw_only=True):
    """The dialect of clients that complete texts."""

    name: str = "openai-text"
    stream_type: str = "text/event-stream"

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """Read a client's request body. What it says beyond the vocabulary becomes `extra` of Chat Completions.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.prompt`.
        """
        return read.request(body, _decode)

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*."""
        return _StreamEncoder(model=request.model, include_usage=request.include_usage or False)

    def encode_response(self, completion: Completion) -> bytes:
        """Write a whole answer."""
        choices = {choice.index: _Choice(choice.index) for choice in completion.choices}
        events = list(unfold(completion))
        for event in events:
            if (delta := _said(event)) is not None:
                choices[delta.choice].add(delta)
            elif isinstance(event, Finish):
                choices[event.choice].reason = event.reason
        start = next(event for event in events if isinstance(event, Start))
        return json.encode(_object(start, [choice.take() for choice in choices.values()], completion.usage))

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply."""
        return error_reply(error, error_object(error))

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models, which Chat Completions shares."""
        return openai_models(models)

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model."""
        return openai_model(model)


# Requests


def _decode(source: dict[str, Any]) -> ChatRequest:
    text = _prompt(source.get("prompt"))
    _refuse(source)
    chat = {key: value for key, value in source.items() if key not in _OWN and key not in _CHATS}
    request = decode_request({**chat, "messages": [Message.user(text)]}, keep=False)
    if (alternatives := read.integer(source, "logprobs", "$")) is not None:
        request = request.but(logprobs=True, top_logprobs=alternatives)
    return request if request.max_tokens is not None else request.but(max_tokens=MAX_TOKENS)


def _prompt(value: Any) -> str:
    """Return the one text of a prompt."""
    if json.is_array(value) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    if json.is_array(value) and value:
        if all(isinstance(item, str) for item in value):
            _unable("prompt", "Only one prompt can be completed at a time: send one request for each.")
        if all(json.integer(item) is not None or json.is_array(item) for item in value):
            _unable("prompt", "Tokens have no meaning for other models: send the prompt as text.")
    if json.integer(value) is not None:
        _unable("prompt", "Tokens have no meaning for other models: send the prompt as text.")
    read.fault("$.prompt", "a string, or an array of one string", value)


def _refuse(source: dict[str, Any]) -> None:
    """Refuse what a chat cannot do."""
    if read.text(source, "suffix", "$"):
        _unable("suffix", "A text cannot be filled in before a given end: leave 'suffix' out.")
    if read.boolean(source, "echo", "$"):
        _unable("echo", "The prompt is not repeated in the answer: leave 'echo' out and put it there yourself.")
    if (read.integer(source, "best_of", "$") or 1) > (read.integer(source, "n", "$") or 1):
        _unable("best_of", "The best of several answers cannot be chosen here: leave 'best_of' out, or ask for 'n'.")
    if (field := next((field for field in _CHATS if source.get(field)), None)) is not None:
        _unable(field, f"The field {field!r} belongs to a chat: send the request to /v1/chat/completions.")


def _unable(field: str, message: str) -> NoReturn:
    raise BadRequestError(message, status=400, param=f"$.{field}", type="invalid_request_error")


# Answers


def _said(event: Event) -> TextDelta | None:
    """Return the text that *event* adds to its choice, if it adds any."""
    if isinstance(event, TextDelta):
        return event
    if isinstance(event, RefusalDelta):
        return TextDelta(event.text, event.choice, logprobs=event.logprobs)
    delta = growing(event)
    if not isinstance(delta, TextDelta):
        return None
    return TextDelta(delta.text, getattr(event, "choice", 0))


def _object(start: Start, choices: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
    id = start.id.removeprefix("chatcmpl-")
    result: dict[str, Any] = {
        "id": id if id.startswith("cmpl-") or not id else f"cmpl-{id}",
        "object": "text_completion",
        "created": unix_seconds(start.created),
        "model": start.model,
        "choices": choices,
    }
    if (fingerprint := own_extra(start).get("system_fingerprint")) is not None:
        result["system_fingerprint"] = fingerprint
    if usage is not None:
        result["usage"] = encode_usage(usage)
    return result


class _Choice:
    """One choice under way: what of it was not yet told."""

    __slots__ = ("_index", "_length", "_text", "_tokens", "reason")

    def __init__(self, index: int) -> None:
        self._index = index
        self._text = ""
        self._tokens: list[Any] | None = None
        self._length = 0
        """Characters of all tokens so far, whose places are told from the start of the answer."""
        self.reason: str | None = None

    def add(self, delta: TextDelta) -> None:
        """Take a piece of text."""
        self._text += delta.text
        if delta.logprobs is not None:
            self._tokens = [*(self._tokens or ()), *delta.logprobs]

    def take(self) -> dict[str, Any]:
        """Give what is new."""
        text, tokens, self._text, self._tokens = self._text, self._tokens, "", None
        logprobs = None if tokens is None else self._logprobs([token for token in tokens if json.is_object(token)])
        return {"text": text, "index": self._index, "logprobs": logprobs, "finish_reason": self.reason}

    def _logprobs(self, tokens: list[dict[str, Any]]) -> dict[str, Any]:
        words = [json.text(token.get("token")) or "" for token in tokens]
        offsets: list[int] = []
        for word in words:
            offsets.append(self._length)
            self._length += len(word)
        others = [_alternatives(token.get("top_logprobs")) for token in tokens]
        return {
            "tokens": words,
            "token_logprobs": [token.get("logprob") for token in tokens],
            "top_logprobs": others if any(others) else None,
            "text_offset": offsets,
        }


def _alternatives(found: Any) -> dict[str, Any]:
    others: Iterable[Any] = found if json.is_array(found) else ()
    return {str(other.get("token")): other.get("logprob") for other in others if json.is_object(other)}


class _StreamEncoder:
    """Turns events into the bytes of a streamed answer.

    Args:
        model: The name of the model, where no event tells it.
        include_usage: Whether to tell it in a frame of its own, at the end.
    """

    def __init__(self, *, model: str, include_usage: bool) -> None:
        self._start = Start(model=model)
        self._include_usage = include_usage
        self._usage: Usage | None = None
        self._choices: dict[int, _Choice] = {}
        self._failed = False

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*: one for each piece of text, and none for what is not text."""
        if isinstance(event, Start):
            known = self._start
            changes = {name: getattr(event, name) or getattr(known, name) for name in ("id", "model", "created")}
            self._start = msgspec.structs.replace(known, **changes, extra=event.extra or known.extra)
        elif isinstance(event, UsageUpdate):
            self._account(event.usage)
        elif isinstance(event, Finish):
            yield self._finish(event)
        elif isinstance(event, End):
            yield from self._end(event)
        elif (delta := _said(event)) is not None and (delta.text or delta.logprobs):
            choice = self._choice(delta.choice)
            choice.add(delta)
            yield self._frame([choice.take()])

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        self._failed = True
        return sse.encode(json.encode(error_object(error)))

    def _choice(self, index: int) -> _Choice:
        return self._choices.setdefault(index, _Choice(index))

    def _account(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.updated(usage)

    def _frame(self, choices: list[dict[str, Any]], usage: Usage | None = None) -> bytes:
        return sse.encode(json.encode(_object(self._start, choices, usage)))

    def _finish(self, event: Finish) -> bytes:
        choice = self._choice(event.choice)
        choice.reason = event.reason
        if event.reason == "error":
            reason = event.native or "no reason"
            return self.error(APIError(f"The provider ended its answer with an error: {reason}."))
        return self._frame([choice.take()])

    def _end(self, event: End) -> Iterator[bytes]:
        if event.finish_reason is not None:
            begun = sorted(self._choices) or [0]
            for index in begun:
                if self._choice(index).reason is None:
                    yield self._finish(Finish(event.finish_reason, index))
        if event.usage is not None:
            self._account(event.usage)
        if self._include_usage and self._usage is not None:
            yield self._frame([], self._usage)
        if not self._failed:
            yield sse.encode(b"[DONE]")
