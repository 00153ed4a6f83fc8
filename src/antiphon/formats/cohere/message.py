"""Messages of Cohere's Chat API v2, both ways, for requests and answers. Pure functions, no I/O.

* Content is a string where it is one text, and else an array of blocks; an answer's is always an array. Blocks without
  a neutral meaning, such as the documents of a tool's result, are carried as `Opaque`.
* `tool_plan` is the model's reasoning before it calls tools: a `Reasoning` whose `extra` has the `type` `tool_plan`.
* `citations` stand beside the content. They become annotations of the text that they point to; those of thoughts and
  plans, which nobody else has, stay fields of the message.
* Nothing takes files; text files are sent as the request's `documents`.

Sources, read 2026-11-23: cohere 7.3.1 (`types/`), recorded exchanges.
"""

from __future__ import annotations

import base64
import binascii
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
from antiphon.formats.kit import MessageWriter
from antiphon.formats.notes import Notes, Placed, foreign, grouped

__all__ = ["NAME", "NOTES", "PLAN", "Writer", "call_object", "citation_object", "decode_citation", "decode_message"]

NAME = "cohere"
NOTES = Notes(NAME)

PLAN = {NAME: {"type": "tool_plan"}}
"""The `extra` of a plan."""

_Object: TypeAlias = dict[str, Any]

_KNOWN: dict[str, _Object] = {
    "tool": dict.fromkeys(("role", "content", "tool_call_id")),
    "assistant": dict.fromkeys(("role", "content", "tool_calls", "tool_plan", "citations")),
}
_CALL: _Object = {"id": None, "type": None, "function": {"name": None, "arguments": None}}
_CITATION: _Object = dict.fromkeys(("start", "end", "content_index"))
_ROLES = {"developer": "system"}
_SILENT: _Object = {"role": "system", "content": ""}


# Reading


def decode_message(source: Any, path: str, *, answer: bool = False, keep: bool = True) -> Message:
    """Read one message object, of a request or of an answer; with *keep* it can be written as it came.

        {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [{"id": "look_1", "type": "function", …}]}
        {"role": "tool", "tool_call_id": "look_1", "content": [{"type": "document", "document": {"data": "sunny"}}]}

    Raises:
        BadRequestError: With `param` the path of the fault.
    """
    if not json.is_object(source):
        read.fault(path, "an object", source)
    role = read.text(source, "role", path) or "assistant" if answer else read.required_text(source, "role", path)
    parts = _decode_content(source.get("content"), f"{path}.content")
    extra = NOTES.unknown(source, _KNOWN.get(role, {"role": None, "content": None}))
    if role == "tool":
        parts = [ToolResult(read.text(source, "tool_call_id", path) or "", tuple(parts))]
    elif role == "assistant":
        citations = read.array(source, "citations", path) or ()
        if rest := _cited(parts, citations, f"{path}.citations"):
            extra = {NAME: {**(extra or {}).get(NAME, {}), "citations": rest}}
        if plan := read.text(source, "tool_plan", path):
            parts.insert(0, Reasoning(plan, extra=PLAN))
        calls = read.array(source, "tool_calls", path) or ()
        parts += (_decode_call(item, f"{path}.tool_calls[{place}]") for place, item in enumerate(calls))
    message = Message(role, tuple(parts), extra=extra)
    return keeping(message, NAME, source) if keep else message


def _decode_content(content: Any, path: str) -> list[Any]:
    if content is None or isinstance(content, str):
        return [Text(content)] if content else []
    if not json.is_array(content):
        read.fault(path, "a string or an array of blocks", content)
    return [_decode_block(item, f"{path}[{place}]") for place, item in enumerate(content)]


def _decode_block(source: Any, path: str) -> Part:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    kind = read.text(source, "type", path)
    if kind == "text":
        return Text(read.required_text(source, "text", path), extra=NOTES.unknown(source, {"type": None, "text": None}))
    if kind == "thinking":
        known = {"type": None, "thinking": None}
        return Reasoning(read.required_text(source, "thinking", path), extra=NOTES.unknown(source, known))
    if kind == "image_url":
        image = read.required_object(source, "image_url", path)
        url, data, media_type = _place(read.required_text(image, "url", f"{path}.image_url"))
        return Image(
            url=url,
            data=data,
            media_type=media_type,
            detail=read.text(image, "detail", f"{path}.image_url"),
            extra=NOTES.unknown(source, {"type": None, "image_url": {"url": None, "detail": None}}),
        )
    return Opaque(NAME, source)


def _place(url: str) -> tuple[str | None, str | None, str | None]:
    """Return where a picture is: its address, or the data in a `data:` URL and their type."""
    head, comma, data = url.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        return url, None, None
    return None, data, head.removeprefix("data:").removesuffix(";base64") or None


def _decode_call(source: Any, path: str) -> ToolCall:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    function = read.required_object(source, "function", path)
    return ToolCall(
        read.required_text(source, "id", path),
        read.required_text(function, "name", f"{path}.function"),
        read.text(function, "arguments", f"{path}.function") or "",
        extra=NOTES.unknown(source, _CALL),
    )


def _cited(parts: list[Any], citations: Iterable[Any], path: str) -> list[Any]:
    """Add *citations* to the texts that they point to, and return those that point to none."""
    found: dict[int, list[Annotation]] = {}
    rest: list[Any] = []
    for number, source in enumerate(citations):
        annotation, place = decode_citation(source, f"{path}[{number}]")
        if 0 <= place < len(parts) and isinstance(parts[place], Text):
            found.setdefault(place, []).append(annotation)
        else:
            rest.append(source)
    for place, cited in found.items():
        text = parts[place]
        parts[place] = Text(text.text, (*text.annotations, *cited), extra=text.extra)
    return rest


def decode_citation(source: Any, path: str) -> tuple[Annotation, int]:
    """Read one citation, and which block of the content it is about.

    The first of its sources that is a document with an address says `url` and `title`; all stay in `extra`.
    """
    if not json.is_object(source):
        read.fault(path, "an object", source)
    url, title = None, None
    for item in read.array(source, "sources", path) or ():
        if json.is_object(item) and json.is_object(document := item.get("document")) and "url" in document:
            url, title = json.text(document["url"]), json.text(document.get("title"))
            break
    start, end = (read.integer(source, key, path) for key in ("start", "end"))
    kind = "citation" if url is None else "url_citation"
    extra = NOTES.unknown(source, _CITATION)
    annotation = Annotation(kind=kind, url=url, title=title, start=start, end=end, extra=extra)
    return annotation, read.integer(source, "content_index", path) or 0


# Writing


class Writer(MessageWriter):
    """Writes messages and keeps a list of what of them could not be expressed.

    Args:
        answer: Whether this is a model's answer to a client, whose content always is an array.
    """

    title = "Cohere"
    notes = NOTES

    def __init__(self, *, answer: bool = False) -> None:
        super().__init__()
        self.documents: list[_Object] = []
        """Text files of the messages so far, as documents of the request."""
        self._answer = answer
        self._called: dict[str, str] = {}
        """Names of the tools called so far, by the id of the call."""

    def written(self, message: Message, path: str) -> list[_Object]:
        """Write one message, which becomes several where it has several results, or results and something else.

        An instruction without a word becomes none.
        """
        self.about(message, path)
        groups = grouped(message, path)
        if len(groups) == 1:
            own = dict(NOTES.own_extra(message))
            written = self._group(groups[0], message.role, path, own.pop("citations", []))
            return [] if written == _SILENT and not own else [json.merged(written, own)]
        self.split(message, path)
        return [self._group(group, message.role, path, []) for group in groups]

    def passed(self, message: Message) -> None:
        """Take note of calls, which later results are tied to."""
        self._called |= {part.id: part.name for part in message.parts if isinstance(part, ToolCall)}

    def _group(self, placed: list[Placed], role: str, path: str, citations: list[Any]) -> _Object:
        if len(placed) == 1 and isinstance(alone := placed[0][1], ToolResult):
            return self._result(alone, placed[0][0])
        if role in _ROLES:
            self.approximate(f"{path}.role", f"Cohere knows no role {role!r}; it is sent as {_ROLES[role]!r}.")
        result: _Object = {"role": _ROLES.get(role, role)}
        if role != "assistant":
            return {**result, "content": self._content(placed, pictures=role == "user")}
        return result | self._spoken(placed, path, citations)

    def _spoken(self, placed: list[Placed], path: str, citations: list[Any]) -> _Object:
        plans = [item for item in placed if isinstance(item[1], Reasoning) and item[1].extra == PLAN]
        calls = [item for item in placed if isinstance(item[1], ToolCall)]
        apart = {path for path, _ in (*plans, *calls)}  # by their paths: parts may be equal, and there may be many
        inside = [item for item in placed if item[0] not in apart]
        if [*plans, *inside, *calls] != placed:
            self.approximate(f"{path}.parts", "Cohere keeps calls after all content, so the order of both is lost.")
        blocks = [(item, block) for item in inside if (block := self._block(*item)) is not None]
        cited = [
            citation_object(annotation, place)
            for place, ((_, part), _) in enumerate(blocks)
            if isinstance(part, Text)
            for annotation in part.annotations
        ]
        result: _Object = {}
        if blocks or not calls:
            result["content"] = self._joined([block for _, block in blocks])
        if plans:
            result["tool_plan"] = "".join(part.text for _, part in plans if isinstance(part, Reasoning))
        if calls:
            self._called |= {part.id: part.name for _, part in calls if isinstance(part, ToolCall)}
            result["tool_calls"] = [self._call(part, where) for where, part in calls if isinstance(part, ToolCall)]
        return {**result, "citations": [*cited, *citations]} if cited or citations else result

    def _result(self, result: ToolResult, path: str) -> _Object:
        self.losses += lost_extra(result, path, keep=())
        if result.is_error:
            self.drop(f"{path}.is_error", "Cohere cannot say whether a tool failed; its text still does.")
        if result.name is not None and result.name != self._called.get(result.call_id):
            self.drop(f"{path}.name", "Cohere knows the tool of a result by its call.")
        placed: list[Placed] = [(f"{path}.content[{place}]", part) for place, part in enumerate(result.content)]
        return {"role": "tool", "tool_call_id": result.call_id, "content": self._content(placed)}

    def _content(self, placed: list[Placed], *, pictures: bool = False) -> Any:
        blocks = (self._block(*item, pictures=pictures) for item in placed)
        return self._joined([block for block in blocks if block is not None])

    def _joined(self, blocks: list[_Object]) -> Any:
        if not blocks:
            return [] if self._answer else ""
        alone = len(blocks) == 1 and not self._answer and blocks[0].keys() == {"type", "text"}
        return blocks[0]["text"] if alone and blocks[0]["text"] else blocks

    def _block(self, path: str, part: Part, *, pictures: bool = False) -> _Object | None:
        """Write one part, or `None` where it has no place."""
        self.losses += lost_extra(part, path, keep=(NAME,))
        if isinstance(part, Opaque):
            if part.format == NAME:
                data: _Object = part.data
                return data
            self.losses.append(foreign(path, part))
            return None
        if not self._answer and isinstance(part, Text) and not part.text:
            return None  # there is nothing to be said, and a block for it may be refused
        if isinstance(part, Image) and not pictures:
            self.drop(path, "Cohere takes pictures in the user's messages only.")
            return None
        result = self._WRITERS[type(part)](self, part, path)
        return None if result is None else json.merged(result, NOTES.own_extra(part))

    def _text(self, part: Text, path: str) -> _Object:
        for place, annotation in enumerate(part.annotations):
            self.losses += lost_extra(annotation, f"{path}.annotations[{place}]", keep=(NAME,))
        if part.logprobs is not None:
            self.drop(f"{path}.logprobs", "Cohere takes no log-probabilities back.")
        return {"type": "text", "text": part.text}

    def _reasoning(self, part: Reasoning, path: str) -> _Object:
        if part.signature is not None:
            self.drop(f"{path}.signature", "Cohere's thoughts have no signature.")
        return {"type": "thinking", "thinking": part.text}

    def _refusal(self, part: Refusal, path: str) -> _Object:
        self.approximate(path, "Cohere has no block for a refusal; its words are sent as text.")
        return {"type": "text", "text": part.text}

    def _image(self, part: Image, path: str) -> _Object | None:
        if part.name is not None:
            self.drop(f"{path}.name", "Cohere's pictures have no name.")
        url = part.url if part.data is None else f"data:{part.media_type or 'image/png'};base64,{part.data}"
        if url is None:
            self.drop(path, "Cohere takes pictures as bytes or by address only.")
            return None
        if part.data is not None and part.media_type is None:
            self.losses.append(Loss("defaulted", f"{path}.media_type", "Cohere demands a type: image/png."))
        image = {"url": url}
        return {"type": "image_url", "image_url": image if part.detail is None else {**image, "detail": part.detail}}

    def _file(self, part: File, path: str) -> None:
        try:
            text = base64.b64decode(part.data or "", validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        if not text or not (part.media_type or "").startswith("text/"):
            self.drop(path, "Cohere takes no files but those of text.")
            return
        self.approximate(path, "Cohere takes files as documents of the whole request only, so it was moved there.")
        self.documents.append({"data": {"text": text} if part.name is None else {"title": part.name, "text": text}})

    def _audio(self, part: Audio, path: str) -> _Object | None:
        if part.transcript is None:
            self.drop(path, "Cohere takes no sounds.")
            return None
        self.approximate(path, "Cohere takes no sounds; what was said is sent as text.")
        return {"type": "text", "text": part.transcript}

    def _call(self, call: ToolCall, path: str) -> _Object:
        if call.kind != "function":
            self.approximate(path, "Cohere knows functions only: free text is sent as an argument of one.")
        self.losses += lost_extra(call, path, keep=(NAME,))
        return call_object(call)

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any, str], _Object | None]]] = {
        Text: _text,
        Reasoning: _reasoning,
        Refusal: _refusal,
        Image: _image,
        File: _file,
        Audio: _audio,
        ToolCall: _call,
    }


def call_object(call: ToolCall) -> _Object:
    """Write a tool call."""
    text = call.arguments if call.kind == "function" else json.encode({"arguments": call.arguments}).decode()
    function = {"name": call.name, "arguments": text}
    return json.merged({"id": call.id, "type": "function", "function": function}, NOTES.own_extra(call))


def citation_object(annotation: Annotation, place: int) -> _Object:
    """Write one citation of the block of content at *place*; of another format's annotation what can be said."""
    own = NOTES.own_extra(annotation)
    result: _Object = {"start": annotation.start, "end": annotation.end, "content_index": place}
    if not own:
        document = {"url": annotation.url, "title": annotation.title}
        told = {key: value for key, value in document.items() if value is not None}
        result["sources"] = [{"type": "document", "id": annotation.url or annotation.title or "", "document": told}]
    return {**{key: value for key, value in result.items() if value is not None}, **own}
