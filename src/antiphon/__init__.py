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
    from antiphon.chat.messages import Message as Message
    from antiphon.chat.requests import ChatRequest as ChatRequest
    from antiphon.chat_completion import ChatCompletion as ChatCompletion
    from antiphon.client import AsyncClient as AsyncClient
    from antiphon.client import Client as Client
    from antiphon.conversation import AsyncConversation as AsyncConversation
    from antiphon.conversation import Conversation as Conversation
    from antiphon.http.exchange import HTTPTransport as HTTPTransport
    from antiphon.http.httpx_transport import HttpxTransport as HttpxTransport
    from antiphon.http.transport import Timeout as Timeout
    from antiphon.providers.catalog import register as register
    from antiphon.providers.function import provider as provider
    from antiphon.sync.bridge import configure as configure

__version__ = "0.1.0"

# Who wants the log sets up logging; who does not is told nothing on standard error.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "AsyncClient": "client",
    "AsyncConversation": "conversation",
    "ChatCompletion": "chat_completion",
    "ChatRequest": "chat.requests",
    "Client": "client",
    "Completion": "chat.answers",
    "CompletionChunk": "chat.answers",
    "Conversation": "conversation",
    "HTTPTransport": "http.exchange",
    "HttpxTransport": "http.httpx_transport",
    "Message": "chat.messages",
    "Timeout": "http.transport",
    "configure": "sync.bridge",
    "errors": "",
    "models": "",
    "provider": "providers.function",
    "register": "providers.catalog",
    "testing": "",
    "tool": "calls.tools",
}

__all__ = [  # noqa: RUF022 - the order of the table above
    "__version__",
    "AsyncClient",
    "AsyncConversation",
    "ChatCompletion",
    "ChatRequest",
    "Client",
    "Completion",
    "CompletionChunk",
    "Conversation",
    "HTTPTransport",
    "HttpxTransport",
    "Message",
    "Timeout",
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
