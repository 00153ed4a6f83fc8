"""OpenAI Responses content: the parts of prompts and of tool results, both ways. Pure functions, no I/O.

Parts with a neutral meaning are `input_text`, `input_image`, `input_file` and `input_audio`; all others are carried as
`Opaque`, byte for byte. An image's `detail` is always written, `auto` where none is set: clients' types demand it.

Sources, read 2026-11-23: openai 3.54, `types/responses/response_input_*_param.py`; recorded requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias, TypeVar

import msgspec

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Audio, File, Image, Opaque, Part, Refusal, Text
from antiphon.formats import json, patch, read
from antiphon.formats.notes import Notes, foreign

__all__ = ["NAME", "NOTES", "ContentWriter", "Item", "decode_content", "shortest", "without_nulls"]

NAME = "openai-responses"
NOTES = Notes(NAME)

Item: TypeAlias = dict[str, Any]
P = TypeVar("P", Text, Image, File, Audio)


# Reading


def without_nulls(source: Item) -> Item:
    """Return *source* without the fields that say nothing."""
    return {key: value for key, value in source.items() if value is not None}


def decode_content(source: Any, path: str) -> tuple[Any, ...]:
    """Read an array of parts, or a string, which is one text."""
    if isinstance(source, str):
        return (Text(source),)
    if not json.is_array(source):
        read.fault(path, "a string or an array of parts", source)
    return tuple(_decode_part(item, f"{path}[{place}]") for place, item in enumerate(source))


def _decode_part(source: Any, path: str) -> Part:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    reader = _PARTS.get(read.required_text(source, "type", path))
    return Opaque(NAME, source) if reader is None else reader(source, path)


def _noted(part: P, source: Item, known: dict[str, Any]) -> P:
    """Return a part of a prompt with what else *source* says of it, and how."""
    part = msgspec.structs.replace(part, extra=NOTES.unknown(without_nulls(source), known))
    return NOTES.with_form(part, ContentWriter().part(part, "$") or {}, source)


def _decode_text(source: Item, path: str) -> Part:
    return _noted(Text(read.required_text(source, "text", path)), source, {"type": None, "text": None})


def _decode_image(source: Item, path: str) -> Part:
    detail = read.text(source, "detail", path)
    image = Image(
        **_located(read.text(source, "image_url", path)),
        file_id=read.text(source, "file_id", path),
        detail=None if detail == "auto" else detail,
    )
    return _noted(image, source, dict.fromkeys(("type", "image_url", "file_id", "detail")))


def _decode_file(source: Item, path: str) -> Part:
    data = read.text(source, "file_data", path)
    place = _located(data)
    if "url" in place:
        place = {"data": data}  # base64 without the `data:` before it
    file = File(
        data=place.get("data"),
        media_type=place.get("media_type"),
        url=read.text(source, "file_url", path),
        file_id=read.text(source, "file_id", path),
        name=read.text(source, "filename", path),
    )
    return _noted(file, source, dict.fromkeys(("type", "file_data", "file_url", "file_id", "filename")))


def _decode_audio(source: Item, path: str) -> Part:
    inner = read.required_object(source, "input_audio", path)
    data = read.required_text(inner, "data", f"{path}.input_audio")
    format = read.text(inner, "format", f"{path}.input_audio")
    audio = Audio(data=data, media_type=None if format is None else "audio/" + {"mp3": "mpeg"}.get(format, format))
    return _noted(audio, source, {"type": None, "input_audio": {"data": None, "format": None}})


_PARTS: dict[str, Callable[[Item, str], Part]] = {
    "input_text": _decode_text,
    "input_image": _decode_image,
    "input_file": _decode_file,
    "input_audio": _decode_audio,
}


def _located(url: str | None) -> dict[str, Any]:
    """Return where a medium is: inline in a `data:` URL, or anywhere else."""
    if url is None:
        return {}
    head, comma, data = url.partition(",")
    if head.startswith("data:") and head.endswith(";base64") and comma:
        return {"media_type": head[5:-7] or None, "data": data}
    return {"url": url}


# Writing


class ContentWriter:
    """Writes the parts of prompts and keeps a list of what of them could not be expressed."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []

    def part(self, part: Part, path: str) -> Any:
        """Write one part of a prompt or of a result, or return `None` where it has no place."""
        self.losses += lost_extra(part, path, keep=(NAME,))
        if isinstance(part, Opaque):
            return self.opaque(part, path)
        write = self._PARTS.get(type(part))
        if write is None:
            self.drop(path, f"Only the assistant's messages have a place for this {type(part).__name__}.")
            return None
        written = write(self, part, path)
        if written is None:
            return None
        return patch.apply(json.merged(written, NOTES.own_extra(part)), NOTES.own_form(part))

    def _text(self, part: Text, path: str) -> Item:
        for field in ("annotations", "logprobs"):
            if getattr(part, field):
                self.drop(f"{path}.{field}", f"Only the assistant's text has {field}.")
        return {"type": "input_text", "text": part.text}

    def _refused(self, part: Refusal, path: str) -> Item:
        self.approximate(path, "Only the assistant can refuse; the words are sent as text.")
        return {"type": "input_text", "text": part.text}

    def _image(self, part: Image, path: str) -> Item | None:
        url = _inline(part) or part.url
        if url is None and part.file_id is None:
            self.drop(path, "This Image has neither data nor a place where it is.")
            return None
        if part.name is not None:
            self.drop(f"{path}.name", "Images have no name here.")
        if part.data is not None and part.url is not None:
            self.drop(f"{path}.url", "An image is sent as its bytes or as its URL; here are both.")
        where = {"image_url": url, "file_id": part.file_id}
        return {"type": "input_image", "detail": part.detail or "auto", **without_nulls(where)}

    def _file(self, part: File, path: str) -> Item | None:
        where = {"file_data": _inline(part), "file_url": part.url, "file_id": part.file_id, "filename": part.name}
        if not any(where[key] is not None for key in ("file_data", "file_url", "file_id")):
            self.drop(path, "This File has neither data nor a place where it is.")
            return None
        if part.media_type is not None and part.data is None:
            self.drop(f"{path}.media_type", "A file that is elsewhere has no media type here.")
        return {"type": "input_file", **without_nulls(where)}

    def _audio(self, part: Audio, path: str) -> Item | None:
        if part.data is not None:
            kind = (part.media_type or "audio/wav").partition("/")[2]
            format = {"mpeg": "mp3", "x-wav": "wav"}.get(kind, kind)
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": format}}
        self.drop(path, "Responses take a sound as bytes only.")
        return None

    _PARTS: ClassVar[dict[type, Callable[[Any, Any, str], Item | None]]] = {
        Text: _text,
        Refusal: _refused,
        Image: _image,
        File: _file,
        Audio: _audio,
    }

    def opaque(self, part: Opaque, path: str) -> Any:
        """Write what only one format knows, or return `None` where it is another one."""
        if part.format == NAME:
            return part.data
        self.losses.append(foreign(path, part))
        return None

    def drop(self, path: str, reason: str) -> None:
        """Note that what stands at *path* is left out."""
        self.losses.append(Loss("dropped", path, reason))

    def approximate(self, path: str, reason: str) -> None:
        """Note that what stands at *path* is written as something else."""
        self.losses.append(Loss("approximated", path, reason))


def shortest(content: list[Any]) -> Any:
    """Return content as a string where that says it all."""
    if not content:
        return ""
    plain = len(content) == 1 and json.is_object(only := content[0]) and only.keys() == {"type", "text"}
    return content[0]["text"] if plain and content[0]["type"] == "input_text" else content


def _inline(part: Image | File) -> str | None:
    return None if part.data is None else f"data:{part.media_type or ''};base64,{part.data}"
