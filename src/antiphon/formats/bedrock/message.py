"""Bedrock Converse messages and their blocks, both ways, for requests and answers. Pure functions, no I/O.

Rules:

* A block is an object with one field, which says what it is. Text, cited text, images, documents, videos, sounds, tool
  calls, their results and signed thoughts become parts; all others (cache points, sealed thoughts, tools that the
  provider runs and their results, guarded content, whatever is new) are `Opaque`, in order and byte for byte.
* Turns of the user and of the assistant alternate: neighbours of one role become one turn. Messages of the role `tool`
  are the beginning of the user's turn.
* Media are inline, or `s3://…` as their `url`; a document has a name, made of the few characters that are allowed.
* `type: tool_use` beside a call comes with answers and is not among what may be sent, so it stays with the answer.
* Blank texts, and messages in which nothing is left, are not sent, since the API refuses both.

Sources, read 2026-11-23: botocore 1.44, `data/bedrock-runtime/2023-09-30/service-2.json` (shapes, patterns and their
documentation); recorded exchanges.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

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
from antiphon.formats import json, patch, read
from antiphon.formats.notes import Notes, call_input, foreign

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

NAME = "bedrock"
NOTES = Notes(NAME)

_ROLES = ("user", "assistant", "system")
_BAD_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_BAD_NAME = re.compile(r"[^\w\s()\[\]-]|_", re.ASCII)
_MEDIA: dict[str, dict[str, str]] = {
    "image": {},
    "audio": {"mp3": "audio/mpeg"},
    "video": {
        "mov": "video/quicktime",
        "mkv": "video/x-matroska",
        "flv": "video/x-flv",
        "wmv": "video/x-ms-wmv",
        "three_gp": "video/3gpp",
    },
    "document": {
        "pdf": "application/pdf",
        "csv": "text/csv",
        "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "html": "text/html",
        "txt": "text/plain",
        "md": "text/markdown",
    },
}
"""Media types by kind of block and format, where they are not made of the two."""

_FORMATS = {kind: {media: format for format, media in known.items()} for kind, known in _MEDIA.items()}
_FORMATS["image"]["image/jpg"] = "jpeg"
_FORMATS["audio"] |= {"audio/mp3": "mp3", "audio/x-wav": "wav"}
_DEFAULTS = {"image": "png", "document": "pdf", "video": "mp4", "audio": "wav"}
_S3 = {"s3Location": {"uri": None}}
_WEB = {"web": {"url": None}}

_Block: TypeAlias = dict[str, Any]


# Reading


def decode_message(source: Any, path: str) -> Message:
    """Read one message object, of a request or of an answer.

    Raises:
        BadRequestError: With `param` the path of the fault.
    """
    if not json.is_object(source):
        read.fault(path, "an object", source)
    role = read.required_text(source, "role", path)
    if role not in _ROLES:
        read.fault(f"{path}.role", "'user', 'assistant' or 'system'", role)
    content = read.array(source, "content", path)
    if content is None:
        read.fault(f"{path}.content", "an array of blocks", content)
    parts = tuple(decode_block(item, f"{path}.content[{place}]") for place, item in enumerate(content))
    message = Message(role, parts, extra=NOTES.unknown(source, {"role": None, "content": None}))
    return NOTES.with_form(message, Writer().message(message, path), source)


def decode_system(content: list[Any], path: str) -> Message:
    """Read the system blocks that stand above the messages."""
    return decode_message({"role": "system", "content": content}, path)


def decode_block(source: Any, path: str) -> Part:
    """Read one content block."""
    if not json.is_object(source):
        read.fault(path, "an object", source)
    reader = _READERS.get(next(iter(source), "")) if len(source) == 1 else None
    return Opaque(NAME, source) if reader is None else reader(source, path)


def _decode_text(source: _Block, path: str) -> Part:
    return Text(read.required_text(source, "text", path))


def _decode_cited(source: _Block, path: str) -> Part:
    cited, path = read.required_object(source, "citationsContent", path), f"{path}.citationsContent"
    content, citations = (read.array(cited, key, path) or () for key in ("content", "citations"))
    texts = [text for item in content if json.is_object(item) and isinstance(text := item.get("text"), str)]
    if len(texts) != len(content):
        return Opaque(NAME, source)
    return Text(
        "".join(texts),
        tuple(decode_citation(item, f"{path}.citations[{place}]") for place, item in enumerate(citations)),
        extra=NOTES.unknown(cited, {"content": None, "citations": None}),
    )


def decode_citation(source: Any, path: str) -> Annotation:
    """Read one citation; where in its source the words stand is nobody else's notion, so it is in `extra`."""
    if not json.is_object(source):
        read.fault(path, "an object", source)
    location = read.object_(source, "location", path) or {}
    web = read.object_(location, "web", f"{path}.location")
    kind = "url_citation" if web is not None or len(location) != 1 else next(iter(location))
    return Annotation(
        kind=kind,
        url=None if web is None else read.text(web, "url", f"{path}.location.web"),
        title=read.text(source, "title", path),
        extra=NOTES.unknown(source, {"title": None, "location": _WEB}),
    )


def _decode_reasoning(source: _Block, path: str) -> Part:
    content = read.required_object(source, "reasoningContent", path)
    told = content.get("reasoningText") if len(content) == 1 else None
    if not json.is_object(told):
        return Opaque(NAME, source)
    path += ".reasoningContent.reasoningText"
    extra = NOTES.unknown(told, {"text": None, "signature": None})
    return Reasoning(read.required_text(told, "text", path), read.text(told, "signature", path), extra=extra)


def _decode_call(source: _Block, path: str) -> Part:
    call, path = read.required_object(source, "toolUse", path), f"{path}.toolUse"
    if call.get("type") not in (None, "tool_use"):
        return Opaque(NAME, source)  # the provider ran it
    return ToolCall(
        read.required_text(call, "toolUseId", path),
        read.required_text(call, "name", path),
        json.encode(read.required_object(call, "input", path)).decode(),
        extra=NOTES.unknown(call, dict.fromkeys(("toolUseId", "name", "input", "type"))),
    )


def _decode_result(source: _Block, path: str) -> Part:
    result, path = read.required_object(source, "toolResult", path), f"{path}.toolResult"
    if result.get("type") is not None:
        return Opaque(NAME, source)
    status = read.text(result, "status", path)
    content = read.array(result, "content", path) or ()
    parts = (_decode_inner(item, f"{path}.content[{place}]") for place, item in enumerate(content))
    return ToolResult(
        read.required_text(result, "toolUseId", path),
        tuple(parts),
        {"error": True, "success": False}.get(status or ""),
        extra=NOTES.unknown(result, dict.fromkeys(("toolUseId", "content", "status"))),
    )


def _decode_inner(source: Any, path: str) -> Any:
    """Read a block of a result; JSON becomes text, which is what others can say."""
    if json.is_object(source) and [*source] == ["json"]:
        return Text(json.encode(source["json"]).decode())
    part = decode_block(source, path)
    return part if isinstance(part, Text | Image | Audio | File) else Opaque(NAME, source)


def _decode_media(source: _Block, path: str) -> Part:
    kind = next(iter(source))
    media, path = read.required_object(source, kind, path), f"{path}.{kind}"
    format, place = read.text(media, "format", path), read.required_object(media, "source", path)
    s3 = read.object_(place, "s3Location", f"{path}.source")
    where: dict[str, Any] = {}
    if (data := read.text(place, "bytes", f"{path}.source")) is not None:
        where["data"] = data
    elif s3 is not None:
        where["url"] = read.required_text(s3, "uri", f"{path}.source.s3Location")
    elif (text := read.text(place, "text", f"{path}.source")) is not None:
        where["data"], format = base64.b64encode(text.encode()).decode(), format or "txt"
    else:
        return Opaque(NAME, source)
    if format is not None:
        where["media_type"] = _MEDIA[kind].get(format, f"{'application' if kind == 'document' else kind}/{format}")
    known: dict[str, Any] = {"format": None, "source": {"bytes": None, "text": None, **_S3}}
    if kind == "document":
        known["name"], where["name"] = None, read.text(media, "name", path)
    make: Callable[..., Part] = {"image": Image, "audio": Audio}.get(kind, File)
    return make(**where, extra=NOTES.unknown(media, known))


_READERS: dict[str, Callable[[_Block, str], Part]] = {
    "text": _decode_text,
    "citationsContent": _decode_cited,
    "reasoningContent": _decode_reasoning,
    "toolUse": _decode_call,
    "toolResult": _decode_result,
    **dict.fromkeys(_MEDIA, _decode_media),
}


# Writing


class Writer:
    """Writes messages and keeps a list of what of them could not be expressed.

    Args:
        answer: Whether this is a model's answer to a client, which has nobody to refuse it: then thoughts without a
            signature, blank texts and other formats' annotations are written too.
    """

    def __init__(self, *, answer: bool = False) -> None:
        self.losses: list[Loss] = []
        self._answer = answer

    def conversation(self, messages: tuple[Message, ...]) -> dict[str, Any]:
        """Write `messages`, and `system` where there is any."""
        heads: list[Any] = []
        turns: list[_Block] = []
        results = False  # whether the last turn began as tool results, which the user's own words may follow
        for place, message in enumerate(messages):
            path = f"$.messages[{place}]"
            turn = self.message(message, path)
            if turn["role"] == "system":
                if turns:
                    self._approximate(path, "Most models take system text at the head only, so it was moved there.")
                for field in NOTES.own_extra(message):
                    self._drop(f"{path}.{field}", "System text at the head has no fields of its own.")
                heads += turn["content"]
                continue
            tool = message.role == "tool"
            if not turn["content"]:
                self._drop(path, "A message in which there is nothing to be said has no place here.")
            elif turns and turns[-1]["role"] == turn["role"]:
                if not (results or tool):
                    self._approximate(path, "Turns alternate on Bedrock, so it was joined to the one before.")
                content = turns[-1]["content"]
                content += turn["content"]
                turns[-1].update(turn, content=content)
            else:
                turns.append({**turn, "content": [*turn["content"]]})
            results = tool
        return {"system": heads, "messages": turns} if heads else {"messages": turns}

    def message(self, message: Message, path: str) -> _Block:
        """Write one message."""
        before = len(self.losses)
        self.losses += lost_extra(message, path, keep=(NAME,))
        if message.name is not None:
            self._drop(f"{path}.name", "Bedrock's messages have no name of who speaks.")
        role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
        if role not in _ROLES:
            role = "user"
        if role != message.role != "tool":
            self._approximate(f"{path}.role", f"Bedrock knows no role {message.role!r}; it is sent as {role!r}.")
        result = {"role": role, "content": self._blocks(message.parts, role, f"{path}.parts")}
        result = json.merged(result, NOTES.own_extra(message))
        written: _Block = patch.apply(result, NOTES.own_form(message))
        if len(written["content"]) == len(message.parts):  # what its form brought back is not lost
            places = {f"{path}.parts[{place}]" for place in range(len(message.parts))}
            kept = (loss for loss in self.losses[before:] if loss.kind != "dropped" or loss.path not in places)
            self.losses[before:] = kept
        return written

    def _blocks(self, parts: Iterable[Part], role: str, path: str) -> list[Any]:
        written = (self.block(part, role, f"{path}[{place}]") for place, part in enumerate(parts))
        return [block for block in written if block is not None]

    def block(self, part: Part, role: str, path: str) -> _Block | None:
        """Write one part, or `None` where it has no place."""
        self.losses += lost_extra(part, path, keep=(NAME,))
        if isinstance(part, Opaque):
            if part.format == NAME:
                data: _Block = part.data
                return data
            self.losses.append(foreign(path, part))
            return None
        if role == "system" and not isinstance(part, Text | Refusal):
            self._drop(path, "Bedrock's system text has no other parts than text.")
            return None
        return self._WRITERS[type(part)](self, part, path)

    def _text(self, part: Text, path: str) -> _Block | None:
        if part.logprobs is not None:
            self._drop(f"{path}.logprobs", "Bedrock knows no log-probabilities.")
        if citations := self._citations(part.annotations, f"{path}.annotations"):
            cited = {"content": [{"text": part.text}], "citations": citations}
            return {"citationsContent": json.merged(cited, NOTES.own_extra(part))}
        return {"text": part.text} if self._answer or part.text.strip() else None

    def _citations(self, annotations: tuple[Annotation, ...], path: str) -> list[_Block]:
        result: list[_Block] = []
        for place, annotation in enumerate(annotations):
            self.losses += lost_extra(annotation, f"{path}[{place}]", keep=(NAME,))
            if self._answer or NOTES.own_extra(annotation):
                result.append(encode_citation(annotation))
            else:
                self._drop(f"{path}[{place}]", "Bedrock takes only citations of its own back.")
        return result

    def _reasoning(self, part: Reasoning, path: str) -> _Block | None:
        if part.signature is None and not self._answer:
            self._drop(path, "Bedrock's models take no thoughts back without their signature.")
            return None
        told = {"text": part.text} if part.signature is None else {"text": part.text, "signature": part.signature}
        return {"reasoningContent": {"reasoningText": json.merged(told, NOTES.own_extra(part))}}

    def _refusal(self, part: Refusal, path: str) -> _Block:
        self._approximate(path, "Bedrock has no block for a refusal; its words are sent as text.")
        return {"text": part.text}

    def _call(self, part: ToolCall, path: str) -> _Block:
        arguments = call_input(part)
        if arguments is None:
            reason = "Bedrock takes an object as a call's input; this is none, so it is sent as text inside of one."
            self._approximate(f"{path}.arguments", reason)
            arguments = {"arguments": part.arguments}
        call = {"toolUseId": self._id(part.id, f"{path}.id"), "name": part.name, "input": arguments}
        return {"toolUse": json.merged(call, NOTES.own_extra(part))}

    def _id(self, id: str, path: str) -> str:
        """Return an id of the pattern that Bedrock demands; call and result are changed alike."""
        clean = _BAD_ID.sub("_", id)
        if clean != id:
            self._approximate(path, "Bedrock takes letters, digits and '_.:-' in ids only; the others became '_'.")
        return clean

    def _result(self, part: ToolResult, path: str) -> _Block:
        content = self._blocks(part.content, "tool", f"{path}.content")
        result: _Block = {"toolUseId": self._id(part.call_id, f"{path}.call_id"), "content": content}
        if part.is_error is not None:
            result["status"] = "error" if part.is_error else "success"
        return {"toolResult": json.merged(result, NOTES.own_extra(part))}

    def _image(self, part: Image, path: str) -> _Block | None:
        return self._media("image", part, path)

    def _file(self, part: File, path: str) -> _Block | None:
        family = (part.media_type or "").partition("/")[0]
        return self._media(family if family in ("audio", "image", "video") else "document", part, path)

    def _audio(self, part: Audio, path: str) -> _Block | None:
        if part.data is None and part.url is None and part.transcript is not None:
            self._approximate(path, "The sound is not there any more; what was said is sent as text.")
            return {"text": part.transcript}
        return self._media("audio", part, path)

    def _media(self, kind: str, part: Image | Audio | File, path: str) -> _Block | None:
        told = {"media_type", "url"}
        if part.data is not None:
            source: _Block = {"bytes": part.data}
            told.discard("url")
        elif part.url is not None and part.url.startswith("s3://"):
            source = {"s3Location": {"uri": part.url}}
        else:
            self._drop(path, f"Bedrock takes inline data and s3:// addresses only; this {kind} has neither.")
            return None
        if (format := self._format(kind, part, path)) is None:
            return None
        block: _Block = {"format": format, "source": source}
        if kind == "document":
            block["name"] = self._name(part.name, f"{path}.name")
            told.add("name")
        for field in ("url", "file_id", "detail", "name", "transcript", "id", "expires_at"):
            if field not in told and getattr(part, field, None) is not None:
                self._drop(f"{path}.{field}", f"Bedrock has no place for the {field!r} beside the rest.")
        return {kind: json.merged(block, NOTES.own_extra(part))}

    def _format(self, kind: str, part: Image | Audio | File, path: str) -> str | None:
        if part.media_type is None:
            reason = f"Bedrock demands a format: {_DEFAULTS[kind]}."
            self.losses.append(Loss("defaulted", f"{path}.media_type", reason))
            return _DEFAULTS[kind]
        media = part.media_type.partition(";")[0].strip().lower()
        if (format := _FORMATS[kind].get(media)) is not None:
            return format
        family, _, name = media.partition("/")
        if kind != "document" or family == "application":
            return name
        if family != "text":
            self._drop(path, f"Bedrock takes no documents of the type {media!r}.")
            return None
        self._approximate(f"{path}.media_type", f"Bedrock has no format for {media!r}; it is sent as plain text.")
        return "txt"

    def _name(self, name: str | None, path: str) -> str:
        if name is None:
            self.losses.append(Loss("defaulted", path, "Bedrock demands a name of a document: 'document'."))
            return "document"
        clean = " ".join(_BAD_NAME.sub("-", name).split()) or "document"
        if clean != name:
            reason = f"Bedrock takes letters, digits, single spaces, '-()[]' in names only; it is sent as {clean!r}."
            self._approximate(path, reason)
        return clean

    def _drop(self, path: str, reason: str) -> None:
        self.losses.append(Loss("dropped", path, reason))

    def _approximate(self, path: str, reason: str) -> None:
        self.losses.append(Loss("approximated", path, reason))

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any, str], _Block | None]]] = {
        Text: _text,
        Reasoning: _reasoning,
        Refusal: _refusal,
        ToolCall: _call,
        ToolResult: _result,
        Image: _image,
        File: _file,
        Audio: _audio,
    }


def encode_citation(annotation: Annotation) -> _Block:
    """Write one citation; of another format's annotation what can be said."""
    result: _Block = {}
    if annotation.title is not None:
        result["title"] = annotation.title
    if annotation.url is not None:
        result["location"] = {"web": {"url": annotation.url}}
    return json.merged(result, NOTES.own_extra(annotation))
