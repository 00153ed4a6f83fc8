"""Anthropic messages and their content blocks, both ways, for requests and answers. Pure functions, no I/O.

Rules:

* One way to write: content is always an array of blocks. What came otherwise, such as a bare string, is given back as
  it came as long as nothing of its message was changed.
* Blocks with a neutral meaning become parts: text, thinking, image, document, tool_use, tool_result. All others
  (redacted thinking, server tools and their results, search results, whatever is new) are carried as `Opaque`, in
  order and byte for byte.
* System messages at the head become the top-level `system`. Later ones stay where the model and the place allow it:
  after the user's turn and before the model's, or at the end; the others are moved to the head.
* Messages of the role `tool`, which Anthropic does not know, become the beginning of one user message a turn. Other
  neighbours of the same role stay apart: the API joins them by itself.
* Empty texts, and messages in which nothing is left, are not sent, since the API refuses both.

Sources, read 2026-11-22: anthropic 2.12, `types/*_param.py`; recorded exchanges (neighbours of one role are among
them); "Migrating to API version 2026-10-21" for what that version refuses; errors quoted in public repositories for
tool ids, for empty blocks and messages, and for the place of system messages (anthropics/claude-code #73821).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

from antiphon.chat.kept import keep as keeping
from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import (
    Annotation,
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.formats import json, read
from antiphon.formats.anthropic.versions import STRICTER, is_refused, is_strict
from antiphon.formats.kit import MessageWriter
from antiphon.formats.notes import Notes, call_input, foreign, next_roles

__all__ = [
    "NAME",
    "NOTES",
    "Writer",
    "decode_block",
    "decode_citation",
    "decode_message",
    "decode_system",
    "encode_citation",
]

NAME = "anthropic"
NOTES = Notes(NAME)

_ROLES = ("user", "assistant", "system")
_SYSTEM = ("system", "developer")
_BAD_ID = re.compile(r"[^a-zA-Z0-9_-]")
_EMPTY = {"type": "text", "text": ""}
_TITLES = {"web_search_result_location": "title", "search_result_location": "title"}
"""The key of a citation's title, where it is not `document_title`."""
_WEB = "web_search_result_location"

_Block: TypeAlias = dict[str, Any]


# Reading


def decode_message(source: Any, path: str, *, keep: bool = True) -> Message:
    """Read one message object, of a request or of an answer; with *keep* it can be written as it came.

        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "Eo0C…"},
         {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"n": 1}}]}
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a cat"}]}

    Raises:
        BadRequestError: With `param` the path of the fault.
    """
    if not json.is_object(source):
        read.fault(path, "an object", source)
    role = read.required_text(source, "role", path)
    if role not in _ROLES:
        read.fault(f"{path}.role", "'user', 'assistant' or 'system'", role)
    parts = _decode_content(source.get("content"), f"{path}.content", _BLOCKS)
    message = Message(role, parts, extra=NOTES.unknown(source, {"role": None, "content": None}))
    return keeping(message, NAME, source) if keep else message


def decode_system(content: Any, path: str, *, keep: bool = True) -> Message:
    """Read the system text that stands above the messages, a string or blocks."""
    message = Message("system", _decode_content(content, path, _BLOCKS))
    return keeping(message, NAME, {"role": "system", "content": content}) if keep else message


def _decode_content(content: Any, path: str, readers: dict[str, Any]) -> tuple[Any, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if not json.is_array(content):
        read.fault(path, "a string or an array of blocks", content)
    return tuple(_decode_one(item, f"{path}[{place}]", readers) for place, item in enumerate(content))


def decode_block(source: Any, path: str) -> Part:
    """Read one content block."""
    return _decode_one(source, path, _BLOCKS)


def _decode_one(source: Any, path: str, readers: dict[str, Any]) -> Part:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    reader = readers.get(read.required_text(source, "type", path))
    return Opaque(NAME, source) if reader is None else reader(source, path)


def _decode_text(source: _Block, path: str) -> Part:
    citations = read.array(source, "citations", path) or ()
    return Text(
        read.required_text(source, "text", path),
        tuple(decode_citation(item, f"{path}.citations[{place}]") for place, item in enumerate(citations)),
        extra=NOTES.unknown(source, {"type": None, "text": None, "citations": None}),
    )


def decode_citation(source: Any, path: str) -> Annotation:
    """Read one citation; where in the cited source the words stand is nobody else's notion, so it is in `extra`."""
    if not json.is_object(source):
        read.fault(path, "an object", source)
    kind = read.required_text(source, "type", path)
    title = _TITLES.get(kind, "document_title")
    return Annotation(
        kind="url_citation" if kind == _WEB else kind,
        url=read.text(source, "url", path),
        title=read.text(source, title, path),
        extra=NOTES.unknown(source, {"type": None, "url": None, title: None}),
    )


def _decode_thinking(source: _Block, path: str) -> Part:
    return Reasoning(
        read.required_text(source, "thinking", path),
        read.text(source, "signature", path),
        extra=NOTES.unknown(source, {"type": None, "thinking": None, "signature": None}),
    )


def _decode_call(source: _Block, path: str) -> ToolCall:
    """Read a `tool_use` block; its input object becomes JSON text."""
    return ToolCall(
        read.required_text(source, "id", path),
        read.required_text(source, "name", path),
        json.encode(read.required_object(source, "input", path)).decode(),
        extra=NOTES.unknown(source, {"type": None, "id": None, "name": None, "input": None}),
    )


def _decode_result(source: _Block, path: str) -> Part:
    content = source.get("content")
    return ToolResult(
        read.required_text(source, "tool_use_id", path),
        () if content is None else _decode_content(content, f"{path}.content", _INNER),
        read.boolean(source, "is_error", path),
        extra=NOTES.unknown(source, dict.fromkeys(("type", "tool_use_id", "content", "is_error"))),
    )


def _decode_image(source: _Block, path: str) -> Part:
    where = _decode_source(source, path)
    if where is None or "text" in where:
        return Opaque(NAME, source)
    return Image(**where, extra=NOTES.unknown(source, {"type": None, "source": _SOURCE}))


def _decode_document(source: _Block, path: str) -> Part:
    where = _decode_source(source, path)
    if where is None:
        return Opaque(NAME, source)
    if (text := where.pop("text", None)) is not None:
        where["data"] = base64.b64encode(text.encode()).decode()
    name = read.text(source, "title", path)
    return File(**where, name=name, extra=NOTES.unknown(source, {"type": None, "source": _SOURCE, "title": None}))


_SOURCE = dict.fromkeys(("type", "data", "media_type", "url", "file_id"))


def _decode_source(block: _Block, path: str) -> dict[str, Any] | None:
    """Return where a medium is, or `None` where only this format can say it, such as content made of blocks."""
    source, path = read.required_object(block, "source", path), f"{path}.source"
    kind = read.required_text(source, "type", path)
    if kind == "url":
        return {"url": read.required_text(source, "url", path)}
    if kind == "file":
        return {"file_id": read.required_text(source, "file_id", path)}
    if kind not in ("base64", "text"):
        return None
    data, media_type = (read.required_text(source, key, path) for key in ("data", "media_type"))
    return {"data" if kind == "base64" else "text": data, "media_type": media_type}


_INNER: dict[str, Callable[[_Block, str], Part]] = {
    "text": _decode_text,
    "image": _decode_image,
    "document": _decode_document,
}
_BLOCKS: dict[str, Callable[[_Block, str], Part]] = {
    **_INNER,
    "thinking": _decode_thinking,
    "tool_use": _decode_call,
    "tool_result": _decode_result,
}


# Writing


class Writer(MessageWriter):
    """Writes messages and keeps a list of what of them could not be expressed.

    Args:
        version: The API version that the receiver is told.
        inline_system: Whether the model takes system messages after the head.
        answer: Whether this is a model's answer to a client, which has nobody to refuse it: then thoughts without a
            signature, empty texts and other formats' annotations are written too.
    """

    title = "Anthropic"
    notes = NOTES

    def __init__(self, *, version: str = "", inline_system: bool = True, answer: bool = False) -> None:
        super().__init__()
        self.moved: list[Loss] = []
        """What system messages lose by being moved to the head."""
        self._strict = is_strict(version)
        self._inline_system = inline_system
        self._answer = answer

    def conversation(self, messages: tuple[Message, ...]) -> dict[str, Any]:
        """Write `messages`, and `system` where there is any."""
        heads: list[Any] = []
        turns: list[_Block] = []
        joined: list[_Block] = []  # those made of messages of the role `tool`
        results = False  # whether the last turn is one of these, which others may join
        before: str | None = None  # role of the last turn that is no system message
        after = next_roles(messages, _SYSTEM, "assistant")
        for place, message in enumerate(messages):
            path = f"$.messages[{place}]"
            if message.role in _SYSTEM and not (turns and self._stays(message, before, after[place])):
                heads.append(self._head(message, path, self.moved if turns else self.losses))
                continue
            tool = message.role == "tool"
            if tool or (results and message.role == "user"):
                if not results:
                    joined.append({"role": "user", "content": []})
                    turns.append(joined[-1])
                self._join(turns[-1], message, path)
            else:
                self._add(turns, message, path)
            results = tool
            if turns and turns[-1]["role"] != "system":
                before = turns[-1]["role"]
        for turn in joined:  # once each: for every message that joins one, it would take the square of their number
            turn["content"] = _results_first(turn["content"])
        heads = [content for content in heads if content]
        return {"system": _joined(heads), "messages": turns} if heads else {"messages": turns}

    def _stays(self, message: Message, before: str | None, after: str) -> bool:
        """Whether a system *message* may stand between turns of these roles; one without words may anywhere."""
        return self._inline_system and (not message.parts or (before, after) == ("user", "assistant"))

    def _head(self, message: Message, path: str, losses: list[Loss]) -> Any:
        if losses is self.moved:
            losses.append(Loss("approximated", path, "The model takes no system message here; it went to the head."))
        reason = "System text at the head has no fields of its own."
        losses += (Loss("dropped", f"{path}.{field}", reason) for field in NOTES.own_extra(message))
        return self.message(message, path)["content"]

    def _add(self, turns: list[_Block], message: Message, path: str) -> None:
        turn = self.message(message, path)
        if turn["content"] or len(turn) > 2:
            turns.append(turn)
        else:
            self.drop(path, "A message in which there is nothing to be said has no place here.")

    def _join(self, turn: _Block, message: Message, path: str) -> None:
        """Write *message* into *turn*, which is one of tool results."""
        self.about(message, path)
        turn["content"] += self._blocks(message.parts, "user", f"{path}.parts")

    def message(self, message: Message, path: str) -> _Block:
        """Write one message: as it came, unless the receiver's version refuses a part of it."""
        refused = self._strict and is_refused(message)
        written: _Block = self.written(message, path)[0] if refused else self.one(message, path)
        return written

    def written(self, message: Message, path: str) -> list[_Block]:
        """Write one message in the canonical way."""
        self.about(message, path)
        role = message.role
        if role not in _ROLES:
            role = "system" if role == "developer" else "user"
            self.approximate(f"{path}.role", f"Anthropic knows no role {message.role!r}; it is sent as {role!r}.")
        content = self._blocks(message.parts, role, f"{path}.parts")
        result = {"role": role, "content": _results_first(content) if role == "user" else content}
        return [json.merged(result, NOTES.own_extra(message))]

    def _blocks(self, parts: Iterable[Part], role: str, path: str) -> list[Any]:
        written = (self.block(part, role, f"{path}[{place}]") for place, part in enumerate(parts))
        return [block for block in written if block is not None and (self._answer or block != _EMPTY)]

    def block(self, part: Part, role: str, path: str) -> _Block | None:
        """Write one part, or `None` where it has no place."""
        self.losses += lost_extra(part, path, keep=(NAME,))
        if isinstance(part, Opaque):
            if part.format == NAME:
                data: _Block = part.data
                return data
            self.losses.append(foreign(path, part))
            return None
        result = self._WRITERS[type(part)](self, part, role, path)
        return None if result is None else json.merged(result, NOTES.own_extra(part))

    def _text(self, part: Text, role: str, path: str) -> _Block:
        result: _Block = {"type": "text", "text": part.text}
        if part.annotations and (citations := self._citations(part.annotations, role, f"{path}.annotations")):
            result["citations"] = citations
        if part.logprobs is not None:
            self.drop(f"{path}.logprobs", "Anthropic knows no log-probabilities.")
        return result

    def _citations(self, annotations: tuple[Annotation, ...], role: str, path: str) -> list[_Block]:
        if self._strict and role == "user":
            self.drop(path, f"From API version {STRICTER} on, the user's text has no citations.")
            return []
        result: list[_Block] = []
        for place, annotation in enumerate(annotations):
            self.losses += lost_extra(annotation, f"{path}[{place}]", keep=(NAME,))
            if self._answer or NOTES.own_extra(annotation):
                result.append(encode_citation(annotation))
            else:
                self.drop(f"{path}[{place}]", "Anthropic takes only citations of its own back.")
        return result

    def _reasoning(self, part: Reasoning, role: str, path: str) -> _Block | None:
        if part.signature is None and not self._answer:
            self.drop(path, "Anthropic takes no thoughts without its signature back.")
            return None
        return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}

    def _refusal(self, part: Refusal, role: str, path: str) -> _Block:
        self.approximate(path, "Anthropic has no block for a refusal; its words are sent as text.")
        return {"type": "text", "text": part.text}

    def _call(self, part: ToolCall, role: str, path: str) -> _Block:
        return {
            "type": "tool_use",
            "id": self._id(part.id, f"{path}.id"),
            "name": part.name,
            "input": self._input(part, f"{path}.arguments"),
        }

    def _id(self, id: str, path: str) -> str:
        """Return an id of the pattern that Anthropic demands; call and result are changed alike."""
        clean = _BAD_ID.sub("_", id)
        if clean != id:
            self.approximate(path, "Anthropic takes letters, digits, '_' and '-' in ids only; the others became '_'.")
        return clean

    def _input(self, call: ToolCall, path: str) -> dict[str, Any]:
        if (value := call_input(call)) is not None:
            return value
        reason = "Anthropic takes an object as a call's input; this is none, so it is sent as text inside of one."
        self.approximate(path, reason)
        return {"arguments": call.arguments}

    def _result(self, part: ToolResult, role: str, path: str) -> _Block:
        result: _Block = {"type": "tool_result", "tool_use_id": self._id(part.call_id, f"{path}.call_id")}
        if content := self._blocks(part.content, "tool", f"{path}.content"):
            result["content"] = content
        if part.is_error is not None:
            result["is_error"] = part.is_error
        return result

    def _image(self, part: Image, role: str, path: str) -> _Block | None:
        told = {"detail", "name"}
        if part.data is not None:
            if part.media_type is None:
                self.losses.append(Loss("defaulted", f"{path}.media_type", "Anthropic demands a type: image/png."))
            source = {"type": "base64", "media_type": part.media_type or "image/png", "data": part.data}
            told |= {"url", "file_id"}
        elif (located := self._located(part, path, told)) is None:
            return None
        else:
            source = located
        self._untold(part, told, path)
        return {"type": "image", "source": source}

    def _document(self, part: File, role: str, path: str) -> _Block | None:
        if self._strict and role == "assistant":
            self.drop(path, f"From API version {STRICTER} on, the assistant's messages have no documents.")
            return None
        if (part.media_type or "").partition("/")[0] in ("audio", "video"):
            self.drop(path, "Anthropic takes neither sounds nor videos.")
            return None
        told: set[str] = set()
        if part.data is not None:
            source = self._inline(part.data, part.media_type or "application/pdf", f"{path}.media_type")
            told |= {"url", "file_id"}
        elif (located := self._located(part, path, told)) is None:
            return None
        else:
            source = located
        self._untold(part, told, path)
        result: _Block = {"type": "document", "source": source}
        return result if part.name is None else {**result, "title": part.name}

    def _located(self, part: Image | File, path: str, told: set[str]) -> _Block | None:
        told |= {"media_type"}
        if part.url is not None:
            told |= {"file_id"}
            return {"type": "url", "url": part.url}
        if part.file_id is not None:
            return {"type": "file", "file_id": part.file_id}
        self.drop(path, f"This {type(part).__name__} has neither data nor a place where it is.")
        return None

    def _inline(self, data: str, media_type: str, path: str) -> _Block:
        """Write a document's bytes: text as text, which is the only way Anthropic takes it."""
        if media_type.partition("/")[0] == "text":
            try:
                text = base64.b64decode(data, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                pass  # not what its type says; the API will tell what it thinks of it
            else:
                if media_type != "text/plain":
                    self.approximate(path, f"Anthropic calls every text text/plain, {media_type!r} too.")
                return {"type": "text", "media_type": "text/plain", "data": text}
        return {"type": "base64", "media_type": media_type, "data": data}

    def _untold(self, part: Image | File, fields: set[str], path: str) -> None:
        for field in sorted(fields):
            if getattr(part, field, None) is not None:
                self.drop(f"{path}.{field}", f"Anthropic has no place for the {field!r} beside the rest.")

    def _audio(self, part: Audio, role: str, path: str) -> _Block | None:
        if part.transcript is not None:
            self.approximate(path, "Anthropic takes no sounds; what was said is sent as text.")
            return {"type": "text", "text": part.transcript}
        self.drop(path, "Anthropic takes no sounds.")
        return None

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any, str, str], _Block | None]]] = {
        Text: _text,
        Reasoning: _reasoning,
        Refusal: _refusal,
        ToolCall: _call,
        ToolResult: _result,
        Image: _image,
        File: _document,
        Audio: _audio,
    }


def encode_citation(annotation: Annotation) -> _Block:
    """Write one citation; of another format's annotation what can be said."""
    kind = _WEB if annotation.kind == "url_citation" else annotation.kind
    result: _Block = {"type": kind, _TITLES.get(kind, "document_title"): annotation.title}
    if annotation.url is not None:
        result["url"] = annotation.url
    if kind == _WEB and not NOTES.own_extra(annotation):
        result |= {"cited_text": "", "encrypted_index": ""}  # the client's types demand them
    return json.merged(result, NOTES.own_extra(annotation))


def _results_first(content: list[Any]) -> list[Any]:
    """Return the blocks of a user's message with tool results before the rest, as the API demands."""
    return sorted(content, key=lambda block: block.get("type") != "tool_result")


def _joined(heads: list[Any]) -> Any:
    """Return the contents of the system messages at the head as one."""
    if len(heads) == 1:
        return heads[0]
    contents = ([{"type": "text", "text": head}] if isinstance(head, str) else head for head in heads)
    return [block for content in contents for block in content]
