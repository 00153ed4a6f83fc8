"""The neutral vocabulary: messages, their parts, tools, requests and usage. No I/O.

Three rules hold for everything here:

* Values are frozen and compared by content; `msgspec.structs.replace` makes a changed copy.
* `None` means *not set*. What was not set is never sent, not even as `null`.
* What a wire format says beyond this vocabulary is kept, under the name of that format:
  `extra` holds fields with a meaning of their own (they are reported as lost when they cannot cross to another format);
  `kept` (and `form`, which it replaces format by format) only what the same format needs to give back exactly what it
  got; see `antiphon.chat.kept`. Neither is ever read by another format.
"""

from __future__ import annotations

import base64
import mimetypes
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from importlib import import_module
from typing import Any, Literal, Self, TypeAlias

import msgspec

from antiphon.chat.kept import Bearing, Kept

__all__ = [
    "Annotation",
    "Audio",
    "Extra",
    "File",
    "FinishReason",
    "Form",
    "Function",
    "Image",
    "Message",
    "Node",
    "Opaque",
    "Part",
    "Patch",
    "Reasoning",
    "Refusal",
    "Role",
    "Text",
    "ToolCall",
    "ToolResult",
    "parts_of",
]


Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]


FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "pause", "error", "other"]
"""Why an answer ended. `pause`: send it back to go on. `error`: the provider says it failed. `other`: a reason this
version does not know; the provider's own word is kept beside it in `native_finish_reason`."""


class Patch(msgspec.Struct, frozen=True):
    """What turns one JSON object or array into another: see `antiphon.formats.patch`."""

    set: Mapping[Any, Any]
    """New values by key, or by place in an array."""
    old: Mapping[Any, Any]
    """The values these take the place of; a key of `old` that is not in `set` goes away."""
    sub: Mapping[Any, Patch]
    """Patches of the objects and arrays inside."""
    size: int | None = None
    """How long the array is that this is a patch of; `None` for an object."""


Extra: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Fields beyond the neutral vocabulary, by format name, then by the field's own name."""


Form: TypeAlias = Mapping[str, Patch]
"""How a format wrote what it wrote, where that is not the codec's own way; by format name."""


class Node(Bearing, frozen=True, kw_only=True):
    """What everything here has: room for what only one format says."""

    extra: Extra | None = None
    form: Form | None = None
    kept: Kept | None = None


class Annotation(Node, frozen=True, kw_only=True):
    """A source that backs a stretch of text."""

    kind: str = "url_citation"
    url: str | None = None
    title: str | None = None
    start: int | None = None
    """First character of the stretch, from 0, within the text of its part."""
    end: int | None = None
    """One past the last character, or the last one: providers differ, the number is theirs."""


class Text(Node, frozen=True):
    """Text that the reader sees."""

    text: str
    annotations: tuple[Annotation, ...] = ()
    logprobs: tuple[Mapping[str, Any], ...] | None = None
    """One mapping a token: `token`, `logprob` (natural log), `bytes`, `top_logprobs` (the same without it)."""


class Reasoning(Node, frozen=True):
    """What the model thought before it answered."""

    text: str = ""
    signature: str | None = None
    """Opaque proof for the provider that made it; must go back unchanged, even where the text is empty."""


class Refusal(Node, frozen=True):
    """The model's own words for declining."""

    text: str
    logprobs: tuple[Mapping[str, Any], ...] | None = None


class _Media(Node, frozen=True, kw_only=True):
    data: str | None = None
    """The bytes inline, as base64 text without line breaks."""
    url: str | None = None
    """Where the provider can fetch it; Antiphon never does."""
    file_id: str | None = None
    """The provider's id of an uploaded file."""
    media_type: str | None = None
    name: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str, *, name: str | None = None) -> Self:
        """Make an inline part of *data*; *media_type* such as `image/png`."""
        return cls(data=base64.b64encode(data).decode("ascii"), media_type=media_type, name=name)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], *, media_type: str | None = None) -> Self:
        """Make an inline part of a file's bytes; the media type is told by the file's name unless given.

        Raises:
            OSError: The file cannot be read.
            ValueError: The name does not tell the media type.
        """
        media_type = media_type or mimetypes.guess_type(os.fspath(path))[0]
        if media_type is None:
            raise ValueError(f"The media type of {os.fspath(path)!r} is not known by its name: pass media_type=…")
        with open(path, "rb") as file:
            return cls.from_bytes(file.read(), media_type, name=os.path.basename(os.fspath(path)))


class Image(_Media, frozen=True, kw_only=True):
    """A picture."""

    detail: str | None = None
    """How closely to look: `low`, `high` or `auto` where the provider knows it."""


class Audio(_Media, frozen=True, kw_only=True):
    """A sound: speech to listen to, or speech that the model made."""

    transcript: str | None = None
    id: str | None = None
    """The provider's id of an earlier spoken answer."""
    expires_at: int | None = None
    """Unix time in seconds after which `id` is not known any more."""


class File(_Media, frozen=True, kw_only=True):
    """A document or a video, told apart by `media_type`."""


class Function(msgspec.Struct, frozen=True):
    """OpenAI's view of a tool call: see `ToolCall.function`."""

    name: str
    arguments: str


class ToolCall(Node, frozen=True):
    """The model asks for a tool to be run."""

    id: str
    """Ties the result to the call; made up by the codec where a provider sends none."""
    name: str
    arguments: str = "{}"
    """JSON text as the model wrote it, which may be malformed; free text where `kind` is `custom`."""
    kind: str = "function"

    @property
    def type(self) -> str:
        """OpenAI's name of `kind`."""
        return self.kind

    @property
    def function(self) -> Function:
        """Name and arguments, where OpenAI's clients look for them."""
        return Function(self.name, self.arguments)


class Opaque(Node, frozen=True):
    """A block that only one format knows: carried byte for byte, in order, and returned to that format alone."""

    format: str
    data: Any
    """The block as decoded JSON."""


class ToolResult(Node, frozen=True):
    """What a tool gave back."""

    call_id: str
    content: tuple[Text | Image | Audio | File | Opaque, ...] = ()
    is_error: bool | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The text of the result."""
        return "".join(part.text for part in self.content if isinstance(part, Text))


Part: TypeAlias = Text | Reasoning | Refusal | Image | Audio | File | ToolCall | ToolResult | Opaque
"""A piece of a message."""


class Message(Node, frozen=True):
    """One turn of a conversation, in the order in which its parts came."""

    role: str
    """`system`, `developer`, `user`, `assistant` or `tool`; a provider's own role is passed on."""
    parts: tuple[Part, ...] = ()
    name: str | None = None
    provider: str | None = None
    """Who wrote it; opaque state in it goes back to nobody else. `None`: not known."""

    @classmethod
    def system(cls, content: str | Part | Iterable[Part]) -> Message:
        """Instructions that stand above the conversation."""
        return cls("system", parts_of(content))

    @classmethod
    def user(cls, content: str | Part | Iterable[Part]) -> Message:
        """Something the user says."""
        return cls("user", parts_of(content))

    @classmethod
    def assistant(cls, content: str | Part | Iterable[Part]) -> Message:
        """Something the model said."""
        return cls("assistant", parts_of(content))

    @classmethod
    def tool(cls, call_id: str, content: str, *, is_error: bool | None = None) -> Message:
        """The result of the tool call *call_id*."""
        return cls("tool", (ToolResult(call_id, (Text(content),), is_error),))

    @property
    def content(self) -> str | None:
        """All visible text joined, or `None` where the message has none."""
        texts = [part.text for part in self.parts if isinstance(part, Text)]
        return "".join(texts) if texts else None

    @property
    def reasoning_content(self) -> str | None:
        """All reasoning text joined, or `None` where the message has none."""
        texts = [part.text for part in self.parts if isinstance(part, Reasoning)]
        return "".join(texts) if texts else None

    @property
    def refusal(self) -> str | None:
        """The model's words for declining, or `None`."""
        texts = [part.text for part in self.parts if isinstance(part, Refusal)]
        return "".join(texts) if texts else None

    @property
    def tool_calls(self) -> list[ToolCall] | None:
        """The tool calls in order, or `None` where there are none."""
        return [part for part in self.parts if isinstance(part, ToolCall)] or None

    @property
    def audio(self) -> Audio | None:
        """The spoken answer, or `None`."""
        return next((part for part in self.parts if isinstance(part, Audio)), None)

    @property
    def annotations(self) -> list[Annotation] | None:
        """The sources of all text parts, or `None` where there are none."""
        return [a for part in self.parts if isinstance(part, Text) for a in part.annotations] or None

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return OpenAI's JSON objects of this message: one, but for several tool results, which each have their own.

        What Chat Completions cannot say is left out, such as signatures of thoughts and blocks of other formats.
        """
        # Their writer stands on this module, which therefore asks for it by its name.
        writer = import_module("antiphon.formats.openai_chat.message").Writer()
        written: list[dict[str, Any]] = deepcopy(writer.messages(self, "$"))
        return written

    def to_dict(self) -> dict[str, Any]:
        """Return OpenAI's JSON object of this message: see `to_dicts`.

        Raises:
            ValueError: It takes several objects.
        """
        first, *others = self.to_dicts()
        if others:
            raise ValueError("A message with several tool results is several messages for OpenAI: take to_dicts().")
        return first

    def to_json(self) -> str:
        """Return `to_dict()` as JSON text."""
        return msgspec.json.encode(self.to_dict()).decode()


def parts_of(content: str | Part | Iterable[Part]) -> tuple[Part, ...]:
    """Return *content*, a string, one part or several, as parts."""
    if isinstance(content, str):
        return (Text(content),)
    if isinstance(content, Part):
        return (content,)
    return tuple(content)
