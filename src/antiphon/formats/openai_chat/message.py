"""OpenAI Chat Completions messages, both ways, for requests and answers. Pure functions, no I/O.

`decode_message` reads a message object, `Writer` writes one. Fields that are not part of the neutral vocabulary stand
in `extra["openai-chat"]`, nested as they were.

Source: openai 3.54, `types/chat/chat_completion_*_param.py` and `chat_completion_message.py`, and recorded exchanges
(read 2026-11-22).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from antiphon.chat.answers import annotation_to_dict, assistant_to_dict, call_to_dict
from antiphon.chat.kept import keep as keeping
from antiphon.chat.losses import lost_extra
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
from antiphon.formats.notes import Notes, Placed, foreign

__all__ = [
    "NAME",
    "NOTES",
    "Writer",
    "decode_annotations",
    "decode_arguments",
    "decode_audio",
    "decode_message",
    "decode_part",
    "encode_annotation",
    "extra_of",
    "fresh_call_id",
    "old_call",
    "other_thoughts",
    "own_extra",
    "reasoning_field",
    "unknown",
]

NAME = "openai-chat"

_REASONING = ("reasoning_content", "reasoning")
_PLAIN: dict[str, Any] = dict.fromkeys(("role", "content", "name"))
_TOOL = {**_PLAIN, "tool_call_id": None}
_TEXT_ALONE = frozenset(("role", "content"))
_ASSISTANT = {**_PLAIN, **dict.fromkeys(("tool_calls", "function_call", "refusal", "audio", "annotations"))}
_BESIDE: dict[type, int] = {Reasoning: 0, Refusal: 2, Audio: 3, ToolCall: 4}
"""Parts of an assistant's message that stand beside its content, by the order in which they are read; content is 1."""

_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}
"""OpenAI's name of a sound's format, where it is not the second half of the media type."""

NOTES = Notes(NAME)
unknown = NOTES.unknown
extra_of = NOTES.extra_of
own_extra = NOTES.own_extra


# Reading


def decode_message(source: Any, path: str, *, call_ids: str = "", keep: bool = True) -> Message:
    """Read one message object, of a request or of an answer; with *keep* it can be written as it came.

        {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {…}}]}
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {…}}]}

    *call_ids* begins the ids of tool calls that have none. A `Message` is given back as it is.

    Raises:
        BadRequestError: With `param` the path of the fault.
    """
    if isinstance(source, Message):
        return source
    if not json.is_object(source):
        read.fault(path, "an object", source)
    role = read.required_text(source, "role", path)
    if len(source) == 2 and role != "tool" and type(text := source.get("content")) is str:
        return Message(role, (Text(text),))  # nearly every message; written again it is the same
    if not keep and role == "assistant" and type(text := source.get("content")) is str:
        if all(key in _TEXT_ALONE or (key in _ASSISTANT and not value) for key, value in source.items()):
            return Message(role, (Text(text),))  # nearly every answer
    if role != "assistant" and source.get("content") is None:
        read.fault(f"{path}.content", "a string or an array of parts")
    parts = _decode_content(source.get("content"), f"{path}.content")
    known: dict[str, Any] = _PLAIN
    if role == "tool":
        parts, known = (ToolResult(read.required_text(source, "tool_call_id", path), cast(Any, parts)),), _TOOL
    elif role == "assistant":
        parts = _assistant_parts(source, parts, path, call_ids)
        others = other_thoughts(source, reasoning_field(source))
        known = {**_ASSISTANT, **dict.fromkeys(key for key in _REASONING if key not in others)}
        if source.get("function_call") is not None and (old_call(source) or {}).get("name") is None:
            del known["function_call"]
    message = Message(role, parts, read.text(source, "name", path), extra=unknown(source, known))
    return keeping(message, NAME, source) if keep else message


def _assistant_parts(source: dict[str, Any], content: tuple[Part, ...], path: str, call_ids: str) -> tuple[Part, ...]:
    field = reasoning_field(source)
    parts: list[Part] = [*content] if field is None else [Reasoning(source[field]), *content]
    if annotations := decode_annotations(read.array(source, "annotations", path), f"{path}.annotations"):
        place = next((place for place, part in enumerate(parts) if isinstance(part, Text)), None)
        if place is None:
            parts.append(Text("", annotations))
        else:
            parts[place] = msgspec.structs.replace(parts[place], annotations=annotations)
    if refusal := read.text(source, "refusal", path):  # an empty one declines nothing (Snowflake)
        parts.append(Refusal(refusal))
    if (audio := read.object_(source, "audio", path)) is not None:
        parts.append(decode_audio(audio, f"{path}.audio"))
    for place, call in enumerate(read.array(source, "tool_calls", path) or ()):
        fresh = f"{call_ids}_{place}" if call_ids else ""
        parts.append(_decode_call(call, f"{path}.tool_calls[{place}]", fresh))
    if (old := old_call(source)) is not None and (name := old.get("name")) is not None:
        parts.append(ToolCall(f"{call_ids}_0" if call_ids else f"call_{name}", name, old.get("arguments") or ""))
    return tuple(parts)


def old_call(source: dict[str, Any]) -> dict[str, Any] | None:
    """Return the `function_call` of a message or delta, what calls were before they had ids, if it has that shape."""
    call = source.get("function_call")
    if not json.is_object(call) or not call.keys() <= {"name", "arguments"}:
        return None
    return call if call and all(isinstance(value, str | None) for value in call.values()) else None


def reasoning_field(source: dict[str, Any]) -> str | None:
    """Return which field of a message or delta holds its thoughts: of two, the one that is not empty."""
    first, second = source.get("reasoning_content"), source.get("reasoning")
    if isinstance(first, str) and (first or not isinstance(second, str)):
        return "reasoning_content"
    return "reasoning" if isinstance(second, str) else None


def other_thoughts(source: dict[str, Any], field: str | None) -> dict[str, Any]:
    """Return what stands under the other name of the thoughts than *field*, if it says anything else."""
    said = ("", None, None if field is None else source[field])
    return {key: source[key] for key in _REASONING if key != field and source.get(key) not in said}


def decode_annotations(source: list[Any] | None, path: str) -> tuple[Annotation, ...]:
    """Read an `annotations` array; the fields of each stand under the name of its kind, or beside it."""
    return tuple(_decode_annotation(item, f"{path}[{place}]") for place, item in enumerate(source or ()))


def _decode_annotation(source: Any, path: str) -> Annotation:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    kind = read.text(source, "type", path) or "url_citation"
    inner: dict[str, Any] = source[kind] if json.is_object(source.get(kind)) else source
    texts = {key: inner[key] for key in ("url", "title") if isinstance(inner.get(key), str)}
    places = {key: inner[key] for key in ("start_index", "end_index") if json.integer(inner.get(key)) is not None}
    known: dict[str, Any] = dict.fromkeys(("type", *texts, *places))
    return Annotation(
        kind=kind,
        url=texts.get("url"),
        title=texts.get("title"),
        start=places.get("start_index"),
        end=places.get("end_index"),
        extra=unknown(source, known if inner is source else {"type": None, kind: known}),
    )


def decode_audio(source: dict[str, Any], path: str) -> Audio:
    """Read the `audio` object of a message."""
    return Audio(
        id=read.text(source, "id", path),
        data=read.text(source, "data", path),
        transcript=read.text(source, "transcript", path),
        expires_at=read.integer(source, "expires_at", path),
        extra=unknown(source, dict.fromkeys(("id", "data", "transcript", "expires_at"))),
    )


def fresh_call_id(answer: str, choice: int) -> str:
    """Return the beginning of ids for tool calls without one; OpenAI takes no more than 40 characters in all."""
    return f"call_{answer[-24:]}_{choice}"


def _decode_call(source: Any, path: str, fresh: str) -> ToolCall:
    """Read one element of `tool_calls`."""
    if not json.is_object(source):
        read.fault(path, "an object", source)
    kind = read.text(source, "type", path) or "function"
    place, arguments = ("custom", "input") if kind == "custom" else ("function", "arguments")
    inner = read.object_(source, place, path)
    if inner is None:
        if kind in ("function", "custom"):
            read.fault(f"{path}.{place}", "an object")
        inner = {"name": ""}  # a call that the provider runs itself, in a shape of its own
    return ToolCall(
        read.text(source, "id", path) or fresh,
        read.required_text(inner, "name", f"{path}.{place}"),
        decode_arguments(inner, arguments, f"{path}.{place}"),
        kind,
        extra=unknown(source, {"id": None, "type": None, place: {"name": None, arguments: None}}),
    )


def decode_arguments(source: dict[str, Any], key: str, path: str) -> str:
    """Read a tool call's arguments as JSON text; Ollama-like servers send the object itself."""
    given = source.get(key)
    return json.encode(given).decode() if json.is_object(given) else read.text(source, key, path) or ""


def _decode_content(content: Any, path: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    if not json.is_array(content):
        read.fault(path, "a string or an array of parts", content)
    return tuple(decode_part(item, f"{path}[{place}]") for place, item in enumerate(content))


def decode_part(source: Any, path: str) -> Part:
    """Read one element of a content array."""
    if not json.is_object(source):
        read.fault(path, "an object", source)
    kind = read.required_text(source, "type", path)
    reader = _PARTS.get(kind)
    return Opaque(NAME, source) if reader is None else reader(source, path)


def _decode_text(source: dict[str, Any], path: str) -> Part:
    return Text(read.required_text(source, "text", path), extra=unknown(source, {"type": None, "text": None}))


def _decode_refusal(source: dict[str, Any], path: str) -> Part:
    return Refusal(read.required_text(source, "refusal", path), extra=unknown(source, {"type": None, "refusal": None}))


def _decode_thinking(source: dict[str, Any], path: str) -> Part:
    """Read Mistral's thoughts: a list of texts, or of more than texts, which then stays as it is.

    `closed` says whether the thought came to its end, which the end of the part says as well.
    """
    items = source.get("thinking")
    if not json.is_array(items) or not all(json.is_object(item) and json.text(item.get("text")) for item in items):
        return Opaque(NAME, source)
    thoughts = "".join(item["text"] for item in items)
    return Reasoning(thoughts, extra=unknown(source, {"type": None, "thinking": None, "closed": None}))


def _decode_image(source: dict[str, Any], path: str) -> Part:
    inner = source.get("image_url")
    if isinstance(inner, str):
        return Image(
            **_located(inner), extra=unknown(source, {"type": None, "image_url": None})
        )  # Mistral's short form
    if not json.is_object(inner):
        read.fault(f"{path}.image_url", "an object", inner)
    return Image(
        **_located(read.required_text(inner, "url", f"{path}.image_url")),
        detail=read.text(inner, "detail", f"{path}.image_url"),
        extra=unknown(source, {"type": None, "image_url": {"url": None, "detail": None}}),
    )


def _decode_audio_part(source: dict[str, Any], path: str) -> Part:
    inner = read.required_object(source, "input_audio", path)
    data = read.required_text(inner, "data", f"{path}.input_audio")
    format = read.text(inner, "format", f"{path}.input_audio")
    return Audio(
        data=data,
        media_type=None if format is None else "audio/" + {"mp3": "mpeg"}.get(format, format),
        extra=unknown(source, {"type": None, "input_audio": {"data": None, "format": None}}),
    )


def _decode_file(source: dict[str, Any], path: str) -> Part:
    inner = read.required_object(source, "file", path)
    data = read.text(inner, "file_data", f"{path}.file")
    place: dict[str, Any] = {} if data is None else _located(data)
    if "url" in place and "://" not in place["url"]:
        place = {"data": data}  # base64 without the `data:` before it
    return File(
        **place,
        file_id=read.text(inner, "file_id", f"{path}.file"),
        name=read.text(inner, "filename", f"{path}.file"),
        extra=unknown(source, {"type": None, "file": dict.fromkeys(("file_data", "file_id", "filename"))}),
    )


_PARTS = {
    "text": _decode_text,
    "refusal": _decode_refusal,
    "thinking": _decode_thinking,
    "image_url": _decode_image,
    "input_audio": _decode_audio_part,
    "file": _decode_file,
}


def _located(url: str) -> dict[str, Any]:
    """Return where a medium is: inline in a `data:` URL, or anywhere else."""
    head, comma, data = url.partition(",")
    if head.startswith("data:") and head.endswith(";base64") and comma:
        return {"media_type": head[5:-7] or None, "data": data}
    return {"url": url}


# Writing


class Writer(MessageWriter):
    """Writes messages and keeps a list of what of them could not be expressed."""

    title = "Chat Completions"
    notes = NOTES

    def all(self, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
        """Write the `messages` array."""
        return [
            item for place, message in enumerate(messages) for item in self.messages(message, f"$.messages[{place}]")
        ]

    def written(self, message: Message, path: str) -> list[dict[str, Any]]:
        """Write one message; tool results that share it with others become messages of their own, before the rest."""
        if (text := _only_text(message)) is not None:
            return [{"role": message.role, "content": text}]
        self.losses += lost_extra(message, path, keep=(NAME,))
        results: list[dict[str, Any]] = []
        rest: list[Placed] = []
        for place, part in enumerate(message.parts):
            if isinstance(part, ToolResult):
                results.append(self._result(part, f"{path}.parts[{place}]"))
            else:
                rest.append((f"{path}.parts[{place}]", part))
        if not results:
            return [_finished(message, self._own(message, rest))]
        if not rest and len(results) == 1 and message.role == "tool":
            return [_finished(message, results[0])]
        if rest:
            role = "user" if message.role == "tool" else message.role
            apart = msgspec.structs.replace(message, role=role, parts=tuple(part for _, part in rest), kept=None)
            results.append(_finished(apart, self._own(apart, rest)))
        return results

    def _result(self, result: ToolResult, path: str) -> dict[str, Any]:
        self.losses += lost_extra(result, path, keep=())
        if result.is_error:
            self.drop(f"{path}.is_error", "Chat Completions cannot say whether a tool failed; its text still does.")
        content: list[Placed] = [(f"{path}.content[{place}]", part) for place, part in enumerate(result.content)]
        return {"role": "tool", "tool_call_id": result.call_id, "content": self._content(content)}

    def _own(self, message: Message, parts: list[Placed]) -> dict[str, Any]:
        """Write *message*, whose *parts* these are, without tool results."""
        if message.role != "assistant":
            return {"role": message.role, "content": self._content(parts)}
        result = assistant_to_dict(message)
        if (calls := message.tool_calls) is not None:
            result["tool_calls"] = [json.merged(call_to_dict(call), own_extra(call)) for call in calls]
        if (annotations := message.annotations) is not None:
            result["annotations"] = [encode_annotation(annotation) for annotation in annotations]
            for path, part in parts:
                if isinstance(part, Text):
                    self._sources(part, path)
        if (audio := message.audio) is not None:
            result["audio"] = json.merged(result["audio"], own_extra(audio))
        if inside := [placed for placed in parts if type(placed[1]) not in _BESIDE]:
            result["content"] = self._content(inside)
        self._beside(parts)
        return result

    def _sources(self, text: Text, path: str) -> None:
        for place, annotation in enumerate(text.annotations):
            self.losses += lost_extra(annotation, f"{path}.annotations[{place}]", keep=(NAME,))

    def _beside(self, parts: list[Placed]) -> None:
        """Note what an assistant's message loses of the parts beside its content, and of the order of all."""
        for path, part in parts:
            if isinstance(part, Reasoning) and part.signature is not None:
                self.drop(f"{path}.signature", "Chat Completions has no field for a reasoning signature.")
            if type(part) in _BESIDE:
                self.losses += lost_extra(part, path, keep=() if isinstance(part, Reasoning | Refusal) else (NAME,))
        ranks = [_BESIDE.get(type(part), 1) for _, part in parts]
        if ranks != sorted(ranks):
            self.approximate(
                parts[0][0].rpartition("[")[0],
                "Chat Completions keeps thoughts, content and tool calls apart, "
                "so their order among each other is lost.",
            )

    def _content(self, parts: list[Placed]) -> str | list[Any]:
        if len(parts) == 1 and isinstance(text := parts[0][1], Text) and not own_extra(text):
            self.losses += lost_extra(text, parts[0][0], keep=(NAME,))
            return text.text
        result: list[Any] = []
        for path, part in parts:
            self.losses += lost_extra(part, path, keep=(NAME,))
            written = self._part(part, path)
            if written is not None:
                result.append(written)
        return result or ""

    def _part(self, part: Part, path: str) -> Any:
        if isinstance(part, Text):
            result: dict[str, Any] | None = {"type": "text", "text": part.text}
        elif isinstance(part, Refusal):
            result = {"type": "refusal", "refusal": part.text}
        elif isinstance(part, Opaque):
            if part.format == NAME:
                return part.data
            self.losses.append(foreign(path, part))
            return None
        else:
            result = _encode_media(part)
            if result is not None and isinstance(part, File) and part.data is part.url is None and part.media_type:
                self.drop(f"{path}.media_type", "Chat Completions has no place for the media type of an uploaded file.")
        if result is None:
            kind = type(part).__name__
            self.drop(path, f"Chat Completions has no place for this {kind} in a message's content.")
            return None
        return json.merged(result, own_extra(part))


def _only_text(message: Message) -> str | None:
    """Return the text of a message that says nothing else, as nearly all do: there is nothing to lose."""
    if len(message.parts) != 1 or type(part := message.parts[0]) is not Text or message.role == "tool":
        return None
    beside = message.name or message.extra or part.extra or part.annotations or part.logprobs
    return part.text if beside is None or beside == () else None


def _finished(message: Message, written: dict[str, Any]) -> dict[str, Any]:
    if message.name is not None:
        written["name"] = message.name
    return json.merged(written, own_extra(message))


def encode_annotation(annotation: Annotation) -> dict[str, Any]:
    """Write one annotation, with the fields that this format alone knows."""
    return json.merged(annotation_to_dict(annotation), own_extra(annotation))


def _encode_media(part: Part) -> dict[str, Any] | None:
    if isinstance(part, Image) and (part.data is not None or part.url is not None):
        image = {"url": _inline(part) or part.url, "detail": part.detail}
        return {"type": "image_url", "image_url": {k: v for k, v in image.items() if v is not None}}
    if isinstance(part, Audio) and part.data is not None:
        kind = (part.media_type or "audio/wav").partition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": _AUDIO_FORMATS.get(kind, kind)}}
    if isinstance(part, File) and (part.data is not None or part.file_id is not None or part.url is not None):
        file = {"file_data": _inline(part) or part.url, "file_id": part.file_id, "filename": part.name}
        return {"type": "file", "file": {k: v for k, v in file.items() if v is not None}}
    return None


def _inline(part: Image | File) -> str | None:
    return None if part.data is None else f"data:{part.media_type or ''};base64,{part.data}"
