"""Chunks of OpenAI Chat Completions streams, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.chat.answers import Completion
from antiphon.chat.events import Event, fold
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError
from antiphon.formats import json
from antiphon.formats.openai_chat import OpenAIChat
from tests.wire import laws

CODEC = OpenAIChat()
REQUEST = ChatRequest("m", (), stream=True, include_usage=True)
WHOLE = ChatRequest("m", ())
NAME = "openai-chat"


def chunk(*, finish_reason: str | None = None, index: int = 0, id: str = "chatcmpl-1", **delta: Any) -> dict[str, Any]:
    """Make a chunk as OpenAI writes it."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"id": id, "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]}


def body(*chunks: dict[str, Any], done: bool = True) -> bytes:
    """Make the bytes of a stream."""
    return b"".join(b"data: %b\n\n" % json.encode(one) for one in chunks) + b"data: [DONE]\n\n" * done


def events(*chunks: dict[str, Any], done: bool = True, request: ChatRequest = REQUEST) -> list[Event]:
    """Return the events of *chunks*."""
    return laws.decoded(CODEC, request, [body(*chunks, done=done)])


def answer(*chunks: dict[str, Any], done: bool = True, request: ChatRequest = REQUEST) -> Completion:
    """Return the answer that *chunks* bring, after a look at the fourth law."""
    laws.check_stream_json(CODEC, request, body(*chunks, done=done))
    return fold(events(*chunks, done=done, request=request))


def text_of(*chunks: dict[str, Any]) -> str | None:
    """Return the text that *chunks* and a finish bring."""
    return answer(*chunks, chunk(finish_reason="stop")).content


def broken(data: bytes, request: ChatRequest = REQUEST, content_type: str = laws.SSE) -> tuple[list[Event], APIError]:
    """Return what came before the fault in *data*, and the fault."""
    decoder, received = CODEC.decoder(request, content_type), list[Event]()
    with pytest.raises(APIError) as caught:  # noqa: PT012 - what came before is looked at as well
        for events in (decoder.feed(data[:9]), decoder.feed(data[9:]), decoder.close()):
            received.extend(events)
    return received, caught.value


HELLO = (chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo"), chunk(finish_reason="stop"))


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    """Make a `usage` object."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}
