"""One chat-completion interface over every language-model provider.

    from antiphon import ChatCompletion, Client, AsyncClient

    ChatCompletion.create("anthropic/claude-sonnet-5", "Why is the sky blue?")

ProviderNames are loaded when they are first used, so that `import antiphon` costs next to nothing.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antiphon import errors as errors
    from antiphon import models as models
    from antiphon import testing as testing
    from antiphon.calls.tools import tool as tool
    from antiphon.chat.answers import Completion as Completion
    from antiphon.chat.answers import CompletionChunk as CompletionChunk
    from antiphon.chat.embeddings import EmbeddingRequest as EmbeddingRequest
    from antiphon.chat.embeddings import Embeddings as Embeddings
    from antiphon.chat.events import AudioDelta as AudioDelta
    from antiphon.chat.events import End as End
    from antiphon.chat.events import Event as Event
    from antiphon.chat.events import Finish as Finish
    from antiphon.chat.events import MessageDelta as MessageDelta
    from antiphon.chat.events import PartAdded as PartAdded
    from antiphon.chat.events import ReasoningDelta as ReasoningDelta
    from antiphon.chat.events import RefusalDelta as RefusalDelta
    from antiphon.chat.events import Start as Start
    from antiphon.chat.events import TextDelta as TextDelta
    from antiphon.chat.events import ToolCallDelta as ToolCallDelta
    from antiphon.chat.events import UnknownEvent as UnknownEvent
    from antiphon.chat.events import UsageUpdate as UsageUpdate
    from antiphon.chat.losses import Loss as Loss
    from antiphon.chat.messages import Annotation as Annotation
    from antiphon.chat.messages import Audio as Audio
    from antiphon.chat.messages import File as File
    from antiphon.chat.messages import Image as Image
    from antiphon.chat.messages import Message as Message
    from antiphon.chat.messages import Opaque as Opaque
    from antiphon.chat.messages import Part as Part
    from antiphon.chat.messages import Reasoning as Reasoning
    from antiphon.chat.messages import Refusal as Refusal
    from antiphon.chat.messages import Text as Text
    from antiphon.chat.messages import ToolCall as ToolCall
    from antiphon.chat.messages import ToolResult as ToolResult
    from antiphon.chat.requests import ChatRequest as ChatRequest
    from antiphon.chat.requests import ReasoningOptions as ReasoningOptions
    from antiphon.chat.requests import ResponseFormat as ResponseFormat
    from antiphon.chat.requests import Tool as Tool
    from antiphon.chat.requests import ToolName as ToolName
    from antiphon.chat.usage import Usage as Usage
    from antiphon.chat_completion import ChatCompletion as ChatCompletion
    from antiphon.client import AsyncClient as AsyncClient
    from antiphon.client import Client as Client
    from antiphon.conversation import AsyncConversation as AsyncConversation
    from antiphon.conversation import Conversation as Conversation
    from antiphon.formats.codec import HTTPRequest as HTTPRequest
    from antiphon.http.exchange import HTTPTransport as HTTPTransport
    from antiphon.http.httpx_transport import HttpxTransport as HttpxTransport
    from antiphon.http.transport import Response as Response
    from antiphon.http.transport import Timeout as Timeout
    from antiphon.http.transport import Transport as Transport
    from antiphon.providers.base import Call as Call
    from antiphon.providers.base import Handler as Handler
    from antiphon.providers.catalog import register as register
    from antiphon.providers.function import provider as provider
    from antiphon.sync.nesting import configure as configure

__version__ = "0.1.0"

# Who wants the log sets up logging; who does not is told nothing on standard error.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "Annotation": "chat.messages",
    "AsyncClient": "client",
    "AsyncConversation": "conversation",
    "Audio": "chat.messages",
    "AudioDelta": "chat.events",
    "Call": "providers.base",
    "ChatCompletion": "chat_completion",
    "ChatRequest": "chat.requests",
    "Client": "client",
    "Completion": "chat.answers",
    "CompletionChunk": "chat.answers",
    "Conversation": "conversation",
    "EmbeddingRequest": "chat.embeddings",
    "Embeddings": "chat.embeddings",
    "End": "chat.events",
    "Event": "chat.events",
    "File": "chat.messages",
    "Finish": "chat.events",
    "HTTPRequest": "formats.codec",
    "HTTPTransport": "http.exchange",
    "Handler": "providers.base",
    "HttpxTransport": "http.httpx_transport",
    "Image": "chat.messages",
    "Loss": "chat.losses",
    "Message": "chat.messages",
    "MessageDelta": "chat.events",
    "Opaque": "chat.messages",
    "Part": "chat.messages",
    "PartAdded": "chat.events",
    "Reasoning": "chat.messages",
    "ReasoningDelta": "chat.events",
    "ReasoningOptions": "chat.requests",
    "Refusal": "chat.messages",
    "RefusalDelta": "chat.events",
    "Response": "http.transport",
    "ResponseFormat": "chat.requests",
    "Start": "chat.events",
    "Text": "chat.messages",
    "TextDelta": "chat.events",
    "Timeout": "http.transport",
    "Tool": "chat.requests",
    "ToolCall": "chat.messages",
    "ToolCallDelta": "chat.events",
    "ToolName": "chat.requests",
    "ToolResult": "chat.messages",
    "Transport": "http.transport",
    "UnknownEvent": "chat.events",
    "Usage": "chat.usage",
    "UsageUpdate": "chat.events",
    "configure": "sync.nesting",
    "errors": "",
    "models": "",
    "provider": "providers.function",
    "register": "providers.catalog",
    "testing": "",
    "tool": "calls.tools",
}

__all__ = [  # noqa: RUF022 - the order of the table above
    "__version__",
    "Annotation",
    "AsyncClient",
    "AsyncConversation",
    "Audio",
    "AudioDelta",
    "Call",
    "ChatCompletion",
    "ChatRequest",
    "Client",
    "Completion",
    "CompletionChunk",
    "Conversation",
    "EmbeddingRequest",
    "Embeddings",
    "End",
    "Event",
    "File",
    "Finish",
    "HTTPRequest",
    "HTTPTransport",
    "Handler",
    "HttpxTransport",
    "Image",
    "Loss",
    "Message",
    "MessageDelta",
    "Opaque",
    "Part",
    "PartAdded",
    "Reasoning",
    "ReasoningDelta",
    "ReasoningOptions",
    "Refusal",
    "RefusalDelta",
    "Response",
    "ResponseFormat",
    "Start",
    "Text",
    "TextDelta",
    "Timeout",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolName",
    "ToolResult",
    "Transport",
    "UnknownEvent",
    "Usage",
    "UsageUpdate",
    "configure",
    "errors",
    "models",
    "provider",
    "register",
    "testing",
    "tool",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'antiphon' has no attribute {name!r}")
    value = import_module(f"antiphon.{name}") if not home else getattr(import_module(f"antiphon.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
