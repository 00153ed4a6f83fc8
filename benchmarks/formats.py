"""Streams in every wire format, to be read and written by its codec."""

from __future__ import annotations

import struct

from antiphon.chat.events import MessageDelta, Start, TextDelta
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec, Decoder, Encoder
from antiphon.formats.cohere import Cohere
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses
from benchmarks.upstream import frame

__all__ = ["FORMATS", "decoder", "encoder", "frames", "head", "text_of"]

_CODECS: dict[str, Codec] = {
    "openai-chat": OpenAIChat(),
    "openai-chat-padded": OpenAIChat(),
    "openai-responses": Responses(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "bedrock": Bedrock(),
    "cohere": Cohere(),
    "ollama": Ollama(),
}
FORMATS = tuple(_CODECS)
_REQUEST = ChatRequest("bench-1", (Message.user("hi"),), stream=True)
_COUNT = 64


def decoder(name: str) -> Decoder:
    """Return what reads a stream of the format *name*."""
    return _CODECS[name].decoder(_REQUEST, _CODECS[name].stream_type)


def encoder(name: str) -> Encoder:
    """Return what writes one."""
    return _CODECS[name].encoder(_REQUEST)


def head(name: str) -> bytes:
    """Return how a stream begins, the first piece of text included."""
    if name.startswith("openai-chat"):  # as OpenAI itself writes, with all that stands beside the text
        return frame({"role": "assistant", "content": ""})
    return b"".join(_begun(encoder(name)))


def _begun(writing: Encoder) -> list[bytes]:
    events = (Start(id="x1", model="bench-1", created=1), MessageDelta(role="assistant"), TextDelta("once ", 0, 0))
    return [piece for event in events for piece in writing.feed(event)]


def frames(name: str) -> list[bytes]:
    """Return the pieces that follow, each of which brings a few letters."""
    padding = {"obfuscation": "hq3Zk0b"} if name.endswith("-padded") else {}
    if name.startswith("openai-chat"):
        return [frame({"content": f"{number} "}, **padding) for number in range(_COUNT)]
    writing = encoder(name)
    _begun(writing)
    return [b"".join(writing.feed(TextDelta(f"{number} ", 0, 0))) for number in range(_COUNT)]


def text_of(name: str, piece: bytes) -> bytes:
    """Return the JSON in a frame."""
    if name == "bedrock":
        size, headers = struct.unpack(">II", piece[:8])
        return piece[12 + headers : size - 4]
    return piece if name == "ollama" else piece[piece.index(b"data: ") + 6 :].strip()
