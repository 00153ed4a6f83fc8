"""Gemini contents and their parts, both ways, for requests and answers. Pure functions, no I/O.

Rules:

* Fields may come in camel case or in snake case, as protocol buffers have it, and go out in camel case. That, and
  everything else that came in another way than the codec's own, is in the `form` of the part or of the message.
* Parts with a neutral meaning are text, thoughts, function calls and responses, and media, told apart by their type.
  All others (code that the provider runs, tools of its own and their results, whatever is new) are `Opaque`.
* A `thoughtSignature` may stand beside any part and must go back beside the same one, so it is in the part's `extra`.
  `Reasoning.signature` is another format's, unless the message says which provider wrote it: then the endpoint has
  made sure that it goes to nobody else.
* Calls need no id here. One that has none gets one, which is not sent back; a response without one belongs to the
  first call of its name that has no response yet.
* There is one place for instructions, above the conversation; system messages further down are moved there.
* A function gives back an object: `{"output": …}` or `{"error": …}` where what is to be said is a text.

Sources: google-genai 3.4, `types.py` (read 2026-11-23); recorded exchanges, for snake case, URL-safe base64, missing
ids, errors of functions, and for the stand-in that newer models take where another model's call has no signature.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import (
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

__all__ = ["NAME", "NOTES", "Ids", "Writer", "decode_content", "decode_part", "named"]

NAME = "gemini"
NOTES = Notes(NAME)

NO_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""Base64 of `skip_thought_signature_validator`: what stands in for the signature of a call that Gemini never made."""

_DEMANDS_SIGNATURES = re.compile(r"gemini-([3-9]|\d\d)")
_URL_SAFE = str.maketrans("-_", "+/")
_SIGNATURE = "thoughtSignature"
_KINDS = {
    *("text", "functionCall", "functionResponse", "inlineData", "fileData"),
    *("executableCode", "codeExecutionResult", "toolCall", "toolResponse"),
}
"""What a part can be; it is one of them only."""

_ROLES = {"user": "user", "model": "assistant", "function": "user"}

_FIELDS = """
thoughtSignature functionCall functionResponse inlineData fileData executableCode codeExecutionResult toolCall
toolResponse mimeType fileUri systemInstruction generationConfig toolConfig serviceTier topP topK frequencyPenalty
presencePenalty maxOutputTokens candidateCount stopSequences responseLogprobs responseMimeType responseSchema
responseJsonSchema thinkingConfig includeThoughts thinkingBudget thinkingLevel functionCallingConfig
allowedFunctionNames functionDeclarations parametersJsonSchema anyOf prefixItems additionalProperties minItems maxItems
minLength maxLength minProperties maxProperties propertyOrdering
"""
_SNAKE = {re.sub("[A-Z]", lambda match: "_" + match[0].lower(), name): name for name in _FIELDS.split()}
"""The names of fields that this codec asks for, by how protocol buffers have them."""

_Object: TypeAlias = dict[str, Any]


def named(source: _Object) -> _Object:
    """Return *source* with the names that this codec knows in camel case; others stay as they are."""
    if _SNAKE.keys().isdisjoint(source):
        return source
    return {_SNAKE.get(key, key): value for key, value in source.items()}


class Ids:
    """Names the calls that have no id, and finds the call that a response without one belongs to."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._made = 0
        self._open: list[tuple[str, str]] = []

    def call(self, name: str) -> str:
        """Return an id for a call of *name*."""
        made = self._next()
        self._open.append((name, made))
        return made

    def result(self, name: str) -> str:
        """Return the id of the call of *name* that waits longest, or a new one where none does."""
        waiting = next((pair for pair in self._open if pair[0] == name), None)
        if waiting is None:
            return self._next()
        self._open.remove(waiting)
        return waiting[1]

    def _next(self) -> str:
        self._made += 1
        return f"{self.prefix}_{self._made}"


# Reading


def decode_content(source: Any, path: str, ids: Ids, *, role: str = "user") -> Message:
    """Read one content, of a request or of an answer; *role* is the role of one that names none.

    Whatever the instructions above the conversation name, it is `system`.

    Raises:
        BadRequestError: With `param` the path of the fault.
    """
    if not json.is_object(source):
        read.fault(path, "an object", source)
    if role != "system":
        role = read.text(source, "role", path) or role
        if role not in _ROLES:
            read.fault(f"{path}.role", "'user' or 'model'", role)
    parts = read.array(source, "parts", path) or ()
    message = Message(
        _ROLES.get(role, role),
        tuple(decode_part(item, f"{path}.parts[{place}]", ids) for place, item in enumerate(parts)),
        extra=NOTES.unknown(source, {"role": None, "parts": None}),
    )
    return NOTES.with_form(message, Writer().content(message, path), source)


def decode_part(source: Any, path: str, ids: Ids) -> Part:
    """Read one part."""
    if not json.is_object(source):
        read.fault(path, "an object", source)
    if len(source) == 1 and isinstance(text := source.get("text"), str):
        return Text(text)
    fields = named(source)
    kinds = [key for key in fields if key in _KINDS and fields[key] is not None]
    reader = _READERS.get(kinds[0]) if len(kinds) == 1 else None
    if reader is None or (fields.get("thought") and kinds[0] != "text"):
        return Opaque(NAME, source)
    part = reader(fields, path, ids)
    return part if isinstance(part, Opaque) else NOTES.with_form(part, Writer().part(part, path) or {}, source)


def _decode_text(fields: _Object, path: str, ids: Ids) -> Part:
    text = read.required_text(fields, "text", path)
    extra = NOTES.unknown(fields, {"text": None, "thought": None})
    return Reasoning(text, extra=extra) if read.boolean(fields, "thought", path) else Text(text, extra=extra)


def _decode_call(fields: _Object, path: str, ids: Ids) -> Part:
    given, path = read.required_object(fields, "functionCall", path), f"{path}.functionCall"
    source = named(given)
    if not source or "partialArgs" in source or "willContinue" in source:
        return Opaque(NAME, {**fields, "functionCall": source})  # a piece of one: `stream.py` puts them together
    name = read.required_text(source, "name", path)
    return ToolCall(
        read.text(source, "id", path) or ids.call(name),
        name,
        json.encode(read.object_(source, "args", path) or {}).decode(),
        extra=NOTES.unknown({**fields, "functionCall": source}, {"functionCall": _CALL}),
    )


_CALL = dict.fromkeys(("id", "name", "args"))
_RESULT = dict.fromkeys(("id", "name", "response", "parts"))


def _decode_result(fields: _Object, path: str, ids: Ids) -> Part:
    source, path = named(read.required_object(fields, "functionResponse", path)), f"{path}.functionResponse"
    name = read.required_text(source, "name", path)
    response = read.object_(source, "response", path) or {}
    content: list[Any] = []
    failed = isinstance(response.get("error"), str)
    if len(response) == 1 and isinstance(text := response.get("error", response.get("output")), str):
        content.append(Text(text))
    elif response:
        failed = False
        content.append(Text(json.encode(response).decode()))
    for place, item in enumerate(read.array(source, "parts", path) or ()):
        part = decode_part(item, f"{path}.parts[{place}]", ids)
        content.append(part if isinstance(part, Image | Audio | File | Opaque) else Opaque(NAME, item))
    return ToolResult(
        read.text(source, "id", path) or ids.result(name),
        tuple(content),
        True if failed else None,
        name,
        extra=NOTES.unknown({**fields, "functionResponse": source}, {"functionResponse": _RESULT}),
    )


def _decode_media(fields: _Object, path: str, ids: Ids) -> Part:
    kind = "inlineData" if "inlineData" in fields else "fileData"
    source, path = named(read.required_object(fields, kind, path)), f"{path}.{kind}"
    media_type = read.text(source, "mimeType", path)
    where: dict[str, Any]
    if kind == "inlineData":
        where = {"data": read.required_text(source, "data", path).translate(_URL_SAFE)}
    else:
        place = read.required_text(source, "fileUri", path)
        where = {"url" if "://" in place else "file_id": place}
    known = {kind: dict.fromkeys(("mimeType", "data" if kind == "inlineData" else "fileUri"))}
    extra = NOTES.unknown({**fields, kind: source}, known)
    family = (media_type or "").partition("/")[0]
    make: Callable[..., Part] = Image if family == "image" else Audio if family == "audio" else File
    return make(**where, media_type=media_type, extra=extra)


_READERS: dict[str, Callable[[_Object, str, Ids], Part]] = {
    "text": _decode_text,
    "functionCall": _decode_call,
    "functionResponse": _decode_result,
    "inlineData": _decode_media,
    "fileData": _decode_media,
}


# Writing


class Writer:
    """Writes messages and keeps a list of what of them could not be expressed.

    Args:
        model: Who reads them.
        answer: Whether this is a model's answer to a client: then empty texts are written too, and what a candidate
            says of its text (annotations, log-probabilities) is written elsewhere.
    """

    def __init__(self, *, model: str = "", answer: bool = False) -> None:
        self.losses: list[Loss] = []
        self._answer = answer
        self._signs = _DEMANDS_SIGNATURES.search(model) is not None
        self._names: dict[str, str] = {}
        self._nameless: set[str] = set()
        """Ids of calls that go out without one, so that their results must too."""
        self._sealed = True

    def conversation(self, messages: tuple[Message, ...]) -> _Object:
        """Write `contents`, and `systemInstruction` where there is any."""
        calls = [part for message in messages for part in message.parts if isinstance(part, ToolCall)]
        self._names = {call.id: call.name for call in calls}
        heads: list[_Object] = []
        contents: list[_Object] = []
        results = False  # whether the last content is made of messages of the role `tool`, which others join
        for place, message in enumerate(messages):
            path = f"$.messages[{place}]"
            content = self.content(message, path)
            if message.role in ("system", "developer"):
                if contents:
                    self._approximate(path, "Gemini takes instructions at the head only, so it was moved there.")
                if content.get("parts") or len(content) > 1:
                    heads.append(content)
            elif not content.get("parts") and len(content) <= 2:
                self._drop(path, "A message in which there is nothing to be said has no place here.")
            elif message.role == "tool" and results:
                contents[-1]["parts"] += content["parts"]
            else:
                contents.append({**content, "parts": [*content["parts"]]} if message.role == "tool" else content)
                results = message.role == "tool"
        if not heads:
            return {"contents": contents}
        head = heads[0] if len(heads) == 1 else {"parts": [part for head in heads for part in head.get("parts") or ()]}
        return {"systemInstruction": head, "contents": contents}

    def content(self, message: Message, path: str) -> _Object:
        """Write one message; of a system message the parts alone, since its role is known by its place."""
        self.losses += lost_extra(message, path, keep=(NAME,))
        if message.name is not None:
            self._drop(f"{path}.name", "Gemini's contents have no name of who speaks.")
        if message.role not in ("system", "user", "assistant", "tool"):
            self._approximate(f"{path}.role", f"Gemini knows no role {message.role!r}; its nearest one was taken.")
        self._sealed = not self._signs or any(_SIGNATURE in NOTES.own_extra(part) for part in message.parts)
        parts = self._parts(message, f"{path}.parts")
        result: _Object = {"parts": parts}
        if message.role not in ("system", "developer"):
            result["role"] = "model" if message.role == "assistant" else "user"
        written: _Object = patch.apply(json.merged(result, NOTES.own_extra(message)), NOTES.own_form(message))
        return written

    def _parts(self, message: Message, path: str) -> list[_Object]:
        result: list[_Object] = []
        for place, part in enumerate(message.parts):
            if type(part) is Reasoning and message.provider is not None and part.signature is not None:
                # The endpoint lets a signature pass only to the provider that the message names.
                own = {**NOTES.own_extra(part), _SIGNATURE: part.signature}
                part = Reasoning(part.text, extra={**(part.extra or {}), NAME: own}, form=part.form)
            written = self.part(part, f"{path}[{place}]")
            if written is not None and (self._answer or written != {"text": ""}):
                result.append(written)
        return result

    def part(self, part: Part, path: str) -> _Object | None:
        """Write one part, or `None` where it has no place."""
        self.losses += lost_extra(part, path, keep=(NAME,))
        if isinstance(part, Opaque):
            if part.format == NAME:
                data: _Object = part.data
                return data
            self.losses.append(foreign(path, part))
            return None
        result = self._WRITERS[type(part)](self, part, path)
        if result is None:
            return None
        form = NOTES.own_form(part)
        written: _Object = patch.apply(json.merged(result, NOTES.own_extra(part)), form)
        if form is not None and isinstance(part, ToolCall) and "id" not in (named(written).get("functionCall") or {}):
            self._nameless.add(part.id)
        return written

    def _text(self, part: Text, path: str) -> _Object:
        if not self._answer:
            for field in ("annotations", "logprobs"):
                if getattr(part, field):
                    self._drop(f"{path}.{field}", f"Gemini takes no {field} back.")
        return {"text": part.text}

    def _reasoning(self, part: Reasoning, path: str) -> _Object:
        if part.signature is not None and _SIGNATURE not in NOTES.own_extra(part):
            self._drop(f"{path}.signature", "The signature is another provider's, which Gemini would refuse.")
        return {"text": part.text, "thought": True}

    def _refusal(self, part: Refusal, path: str) -> _Object:
        self._approximate(path, "Gemini has no part for a refusal; its words are sent as text.")
        return {"text": part.text}

    def _call(self, part: ToolCall, path: str) -> _Object:
        args = call_input(part)
        if args is None:
            reason = "Gemini takes an object as a call's arguments; these are none, so they are sent as text inside."
            self._approximate(f"{path}.arguments", reason)
            args = {"arguments": part.arguments}
        result: _Object = {"functionCall": {"id": part.id, "name": part.name, "args": args}}
        if not self._sealed:
            reason = "The model demands a signature with the first call of a turn; there is none, so one stands in."
            self.losses.append(Loss("defaulted", f"{path}.{_SIGNATURE}", reason))
            result[_SIGNATURE] = NO_SIGNATURE
            self._sealed = True
        return result

    def _result(self, part: ToolResult, path: str) -> _Object:
        name = part.name or self._names.get(part.call_id)
        if name is None:
            self.losses.append(Loss("defaulted", f"{path}.name", "The call is not there to tell the tool's name."))
            name = part.call_id
        result: _Object = {"id": part.call_id, "name": name, "response": self._response(part, path)}
        if part.call_id in self._nameless and NOTES.own_form(part) is None:
            del result["id"]
        media = [
            written
            for place, item in enumerate(part.content)
            if not isinstance(item, Text) and (written := self.part(item, f"{path}.content[{place}]")) is not None
        ]
        if media:
            result["parts"] = media
        return {"functionResponse": result}

    def _response(self, part: ToolResult, path: str) -> _Object:
        """Write what a tool said: an object as it is where it was written without spaces, any other text inside one."""
        texts = [item for item in part.content if isinstance(item, Text)]
        for place, item in enumerate(texts):
            self.losses += lost_extra(item, f"{path}.content[{place}]", keep=())
        if len(texts) > 1:
            self._approximate(f"{path}.content", "Gemini takes one text as a result; these were joined.")
        text = part.text
        if part.is_error:
            return {"error": text}
        if not texts:
            return {}
        try:
            value = json.decode(text) if text[:1] == "{" else None
        except json.MALFORMED:
            value = None
        plain = json.is_object(value) and (len(value) != 1 or not {*value} & {"error", "output"})
        return value if value and plain and json.encode(value) == text.encode() else {"output": text}

    def _media(self, part: Image | Audio | File, path: str) -> _Object | None:
        told = {"name"} if part.data is None else {"name", "url", "file_id"}
        place = part.url or part.file_id
        if part.url is not None:
            told |= {"file_id"}
        if part.data is None and place is None and isinstance(part, Audio) and part.transcript is not None:
            self._approximate(path, "The sound itself is not there; what was said is sent as text.")
            return {"text": part.transcript}
        if part.data is None and place is None:
            self._drop(path, f"This {type(part).__name__} has neither data nor a place where it is.")
            return None
        for field in sorted(told | {"detail", "transcript", "id", "expires_at"}):
            if getattr(part, field, None) is not None:
                self._drop(f"{path}.{field}", f"Gemini has no place for the {field!r} beside the rest.")
        media_type = part.media_type or self._guess(part, path)
        result = {} if media_type is None else {"mimeType": media_type}
        if part.data is not None:
            return {"inlineData": {**result, "data": part.data}}
        return {"fileData": {**result, "fileUri": place}}

    def _guess(self, part: Image | Audio | File, path: str) -> str | None:
        """Return the type of a medium that does not tell it; what is uploaded has its type there."""
        if isinstance(part, File) and part.data is None:
            return None
        family = "application/pdf"
        if not isinstance(part, File):
            family = "image/png" if isinstance(part, Image) else "audio/wav"
        guess = mimetypes.guess_type(part.url or part.name or "")[0] or ""
        if guess.partition("/")[0] != family.partition("/")[0]:
            guess = family
        self.losses.append(Loss("defaulted", f"{path}.media_type", f"Gemini demands a media type: {guess}."))
        return guess

    def _drop(self, path: str, reason: str) -> None:
        self.losses.append(Loss("dropped", path, reason))

    def _approximate(self, path: str, reason: str) -> None:
        self.losses.append(Loss("approximated", path, reason))

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any, str], _Object | None]]] = {
        Text: _text,
        Reasoning: _reasoning,
        Refusal: _refusal,
        ToolCall: _call,
        ToolResult: _result,
        Image: _media,
        Audio: _media,
        File: _media,
    }
