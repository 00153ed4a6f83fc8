"""OpenAI Chat Completions, the codec. Pure functions, no I/O.

Requests are in `request.py`, answers in `answer.py`, streams in `stream.py`; what requests and
answers share, messages, in `message.py`.

Source: openai 3.54 (read 2026-11-22), recorded exchanges.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from antiphon.chat.answers import Completion
from antiphon.chat.losses import Loss
from antiphon.chat.messages import File, Message, Part, ToolResult
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError, StreamError
from antiphon.formats import json, read
from antiphon.formats.body import SniffingDecoder, WholeAnswerDecoder, with_received
from antiphon.formats.codec import Decoder, Encoder, Headers, HTTPReply, HTTPRequest, ListedModel
from antiphon.formats.listing import listed_models, openai_model, openai_models
from antiphon.formats.openai_chat.answer import (
    decode_completion,
    encode_completion,
    error_inside,
    error_object,
    fault_of,
)
from antiphon.formats.openai_chat.message import NAME
from antiphon.formats.openai_chat.request import decode_request, encode_request
from antiphon.formats.openai_chat.stream import StreamDecoder, StreamEncoder
from antiphon.formats.status import error_reply, excerpt, status_error, words

__all__ = ["OpenAIChat"]

_ERROR_FIELDS = ("code", "type", "param")


def _answer(source: dict[str, Any], *, keep: bool) -> Completion:
    if (fault := fault_of(source)) is not None:
        raise with_received(error_inside(fault), partial(decode_completion, source, keep=keep))
    completion = decode_completion(source, keep=keep)
    if not completion.choices:
        raise StreamError("The provider answered 200 without a single choice.", body=source)
    return completion


def _told(source: dict[str, Any]) -> StreamError:
    return error_inside(fault_of(source) or source)


def _origin(request: ChatRequest, number: int) -> tuple[int, int]:
    """Return the place of the message of *request* that became the one of that *number* among those written.

    And which one of those that it became: each result of a tool is one, before the one for the rest.
    """
    for place, message in enumerate(request.messages):
        results = sum(isinstance(part, ToolResult) for part in message.parts)
        several = max(1, results + (results < len(message.parts)))
        if number < several:
            return place, number
        number -= several
    return len(request.messages) - 1, 0


def _parts_of(message: Message, which: int) -> Iterator[tuple[str, Part]]:
    """Give the parts of the one of that number among the messages that *message* became, each with its path in it."""
    parts = [(f".parts[{place}]", part) for place, part in enumerate(message.parts)]
    results = [(path, part) for path, part in parts if isinstance(part, ToolResult)]
    if which < len(results):
        path, result = results[which]
        yield from ((f"{path}.content[{place}]", part) for place, part in enumerate(result.content))
    else:
        yield from parts


def _shorten_call_ids(message: dict[str, Any]) -> None:
    """Write the ids of tool calls, which calls and results share, in nine letters or digits."""
    if "tool_call_id" in message:
        message["tool_call_id"] = _short_id(message["tool_call_id"])
    if message.get("tool_calls"):
        message["tool_calls"] = [{**call, "id": _short_id(call["id"])} for call in message["tool_calls"]]


def _short_id(id: str) -> str:
    return id if re.fullmatch("[A-Za-z0-9]{9}", id) else hashlib.sha256(id.encode()).hexdigest()[:9]


def _forces_a_call(source: dict[str, Any]) -> bool:
    return source.get("tool_choice") not in (None, "auto", "none")


def _drop_file_urls(message: dict[str, Any], request: ChatRequest, number: int, losses: list[Loss]) -> None:
    """Leave out files that are told by their URL."""
    place, which = _origin(request, number)
    parts = _parts_of(request.messages[place], which)
    paths = (path for path, part in parts if isinstance(part, File) and part.url is not None)
    kept: list[Any] = []
    for part in message["content"]:
        file: Any = part.get("file") if json.is_object(part) and part.get("type") == "file" else None
        if json.is_object(file) and "://" in (json.text(file.get("file_data")) or "")[:10]:
            path = f"$.messages[{place}]{next(paths, '')}"
            losses.append(Loss("dropped", path, "The provider takes a file's data or its id, not its URL."))
        else:
            kept.append(part)
    message["content"] = kept or ""


class OpenAIChat(msgspec.Struct, frozen=True, kw_only=True):
    """The codec of OpenAI Chat Completions and of the many servers that speak it.

    What differs between them is data: the fields below, set by a provider's row in `catalog.toml`.
    """

    name: str = NAME
    stream_type: str = "text/event-stream"
    path: str = "/chat/completions"
    """`{model}` in it stands for the model's name."""
    max_tokens_field: str = "max_tokens"
    """`max_completion_tokens` where the provider wants the newer name."""
    reasoning_field: str | None = "reasoning_content"
    """What the provider calls earlier thoughts that go back to it; `thinking`: an element of the content, as Mistral
    has it; `None`: it takes none."""
    seed_field: str = "seed"
    short_call_ids: bool = False
    """Whether the id of a tool call must be nine letters or digits; any other is sent as its digest."""
    file_urls: bool = True
    """Whether a file may be told by its URL, in the place of its data."""
    provider: str | None = None
    """Who is asked. Where it takes no thoughts back, its own are not its business, so leaving them out loses nothing;
    those of anybody else are a loss."""
    developer_role: bool = True
    """Whether the provider knows the role `developer`; where not, such messages are sent as `system`."""
    unsupported: tuple[str, ...] = ()
    """Request fields that the provider refuses; they are left out and reported."""
    thinking_models: tuple[str, ...] = ()
    """How names of models begin that think unless told not to, at a provider that lets nobody force a call meanwhile;
    such a choice is left to the model."""
    exact: bool = True
    """Whether answers remember how they were written, to be written again to the letter. Who only reads them
    saves a third of the time without."""

    def encode_request(self, request: ChatRequest) -> HTTPRequest:
        """Write *request* for an upstream."""
        source, losses = encode_request(request, max_tokens_field=self.max_tokens_field)
        self._suit(request, source, losses)
        accept = "text/event-stream" if request.stream else "application/json"
        return HTTPRequest(
            path=self.path.replace("{model}", quote(request.model, safe="")),
            body=json.encode(source),
            headers={"content-type": "application/json", "accept": accept},
            losses=tuple(losses),
        )

    def models_request(self) -> HTTPRequest:
        """Write the question which models an upstream has."""
        return HTTPRequest(method="GET", path="/models", body=b"", headers={"accept": "application/json"})

    def decode_models(self, body: bytes) -> list[tuple[str, int]]:
        """Read the answer to it; some servers send the array alone."""
        return listed_models(body, _told)

    def _suit(self, request: ChatRequest, source: dict[str, Any], losses: list[Loss]) -> None:
        """Change what the provider would refuse."""
        refused = [field for field in self.unsupported if source.pop(field, None) is not None]
        losses += (Loss("dropped", f"$.{field}", f"The provider refuses the field {field!r}.") for field in refused)
        if self.thinking_models and _forces_a_call(source) and self._thinks(source):
            source["tool_choice"] = "auto"
            reason = "The provider forces no call while the model thinks; turn thinking off to have it forced."
            losses.append(Loss("approximated", "$.tool_choice", reason))
        if "seed" in source and self.seed_field != "seed":
            source[self.seed_field] = source.pop("seed")
        by_the_book = self.developer_role and self.file_urls and not self.short_call_ids
        if not by_the_book or self.reasoning_field != "reasoning_content":
            messages = enumerate(source["messages"])
            source["messages"] = [self._suited(message, request, number, losses) for number, message in messages]

    def _suited(self, message: dict[str, Any], request: ChatRequest, number: int, losses: list[Loss]) -> dict[str, Any]:
        """Return *message*, the one of that *number* that was written, without what the provider would refuse."""
        message = {**message}
        if message["role"] == "developer" and not self.developer_role:
            message["role"] = "system"
        if self.reasoning_field != "reasoning_content" and "reasoning_content" in message:
            self._suit_thoughts(message, request, number, losses)
        if self.short_call_ids:
            _shorten_call_ids(message)
        if not self.file_urls and json.is_array(message.get("content")):
            _drop_file_urls(message, request, number, losses)
        return message

    def _thinks(self, source: dict[str, Any]) -> bool:
        """Whether the model will think before it answers: as the request says, else as such models do."""
        told = source.get("thinking")
        if json.is_object(told) and "type" in told:
            return bool(told["type"] != "disabled")
        effort, model = source.get("reasoning_effort"), str(source["model"])
        return effort != "none" and (effort is not None or model.startswith(self.thinking_models))

    def _suit_thoughts(self, message: dict[str, Any], request: ChatRequest, number: int, losses: list[Loss]) -> None:
        """Give the thoughts of *message*, the one of that *number* that was written, the place that they have here."""
        thoughts = message.pop("reasoning_content")
        if self.reasoning_field == "thinking" and thoughts:
            content = message.get("content")
            said = content if json.is_array(content) else [{"type": "text", "text": content}] if content else []
            message["content"] = [{"type": "thinking", "thinking": [{"type": "text", "text": thoughts}]}, *said]
        elif self.reasoning_field not in (None, "thinking"):
            message[self.reasoning_field] = thoughts
        elif thoughts:
            place, _ = _origin(request, number)
            if self.provider is None or request.messages[place].provider != self.provider:
                path = f"$.messages[{place}].reasoning_content"
                losses.append(Loss("dropped", path, "The provider takes no earlier thoughts back."))

    def decoder(self, request: ChatRequest, content_type: str) -> Decoder:
        """Return a decoder for the answer to *request*.

        A server that ignores `stream` and sends a whole answer, or the other way round, is told by what it sends, and
        where that leaves it open by *content_type*.
        """
        kind = content_type.partition(";")[0].strip().lower()
        labelled_stream = kind == "text/event-stream" or (request.stream and kind != "application/json")
        stream = StreamDecoder(choices=request.n or 1, exact=self.exact)
        return SniffingDecoder(
            stream, WholeAnswerDecoder(partial(_answer, keep=self.exact)), labelled_stream=labelled_stream
        )

    def decode_error(self, status: int, headers: Headers, body: bytes) -> APIError:
        """Read an upstream's error reply. *body* may be empty, HTML from a proxy, or JSON of any shape."""
        try:
            source = json.decode(body)
        except json.MALFORMED:
            return status_error(status, headers, excerpt(body))
        inner: Any = source[0] if json.is_array(source) and source else source
        if json.is_object(inner):
            inner = inner.get("error") or inner
        fields = inner if json.is_object(inner) else {}
        message = words(inner)
        if json.is_object(metadata := fields.get("metadata")) and (raw := words(metadata.get("raw"))):
            message = f"{message}: {raw}"  # OpenRouter's words are "Provider returned error"; these say which
        code, kind, param = (str(v) if json.integer(v) else json.text(v) for v in map(fields.get, _ERROR_FIELDS))
        return status_error(status, headers, message, code=code, type=kind, param=param, body=source)

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """Read a client's request body.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.messages[0].role`.
        """
        return read.request(body, decode_request)

    def encoder(self, request: ChatRequest) -> Encoder:
        """Return an encoder for the streamed answer to *request*."""
        return StreamEncoder(include_usage=request.include_usage)

    def encode_response(self, completion: Completion) -> bytes:
        """Write a whole answer."""
        return json.encode(encode_completion(completion))

    def encode_error(self, error: APIError) -> HTTPReply:
        """Write an error reply."""
        return error_reply(error, error_object(error))

    def encode_models(self, models: Sequence[ListedModel]) -> bytes:
        """Write the list of all models."""
        return openai_models(models)

    def encode_model(self, model: ListedModel) -> bytes:
        """Write what there is to know of one model."""
        return openai_model(model)
