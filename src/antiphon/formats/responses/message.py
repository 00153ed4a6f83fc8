"""OpenAI Responses items and their content, both ways, for requests and answers. Pure functions, no I/O.

A conversation is a flat list of items here. Rules:

* What the model made (its messages, reasoning, tool calls) and all items without a neutral meaning (server tools,
  compactions, references, whatever is new; each an `Opaque`, in order and byte for byte) become one assistant's message
  as long as nobody else says anything. Messages of all other roles, and results of tool calls, stand alone.
* `ToolCall.id` is the `call_id`; an item's own `id` and its `status` are no more than how it was written, so they
  are in `form` and go back to this format alone.
* `Reasoning.signature` is the `encrypted_content`; its text is the summary or, where there is none, the content.
* A text is written as a part of a message item, which its neighbours share. The item's own fields stand in the `form`
  of the text that begins it, whose canonical value is `{"part": …, "head": …}`; unknown ones in its `extra.message`.
* One way to write: content is a string where that says it all, but in an assistant's message always an array.

Sources, read 2026-11-23: openai 3.54, `types/responses/*_param.py`; recorded exchanges.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from antiphon.chat.losses import lost_extra
from antiphon.chat.messages import (
    Annotation,
    Extra,
    Message,
    Opaque,
    Part,
    Patch,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.formats import json, patch, read
from antiphon.formats.responses.content import NAME, NOTES, ContentWriter, Item, decode_content, shortest, without_nulls

__all__ = [
    "BREAK",
    "CALLS",
    "CALL_TYPES",
    "NAME",
    "NOTES",
    "Writer",
    "decode_input",
    "decode_instructions",
    "decode_output",
    "made_id",
]

_RESULTS = ("function_call_output", "custom_tool_call_output")
CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
"""Kind of the neutral call, and the key of its arguments, by the type of the item."""
CALL_TYPES = {kind: (name, key) for name, (kind, key) in CALLS.items()}
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
_SPOKEN = ("output_text", "refusal")
BREAK = "\n\n"
"""Between the parts of a summary, each of which is a paragraph."""
_UNCHANGED = Patch({}, {}, {})
"""The form of what was read from this format and written in the codec's own way."""


# Reading


def decode_input(source: list[Any], path: str) -> tuple[Message, ...]:
    """Read the items of a request.

    Raises:
        BadRequestError: With `param` the path of the fault.
    """
    messages: list[Message] = []
    turn: list[Part] = []
    for place, item in enumerate(source):
        where = f"{path}[{place}]"
        if not json.is_object(item):
            read.fault(where, "an object", item)
        alone = _decode_alone(item, where)
        if alone is None:
            turn += _decode_item(item, where, first=not (turn and _is_spoken(turn[-1])), answer=False)
            continue
        if turn:
            messages.append(Message("assistant", tuple(turn)))
            turn = []
        messages.append(alone)
    return (*messages, Message("assistant", tuple(turn))) if turn else tuple(messages)


def decode_output(source: list[Any], path: str, *, after_text: bool = False) -> tuple[Part, ...]:
    """Read the items of an answer; *after_text* says that those before ended with a text."""
    parts: list[Part] = []
    for place, item in enumerate(source):
        if not json.is_object(item):
            read.fault(f"{path}[{place}]", "an object", item)
        first = not (_is_spoken(parts[-1]) if parts else after_text)
        parts += _decode_item(item, f"{path}[{place}]", first=first, answer=True)
    return tuple(parts)


def decode_instructions(text: str) -> Message:
    """Read the system text that stands beside the input."""
    message = Message("system", (Text(text),))
    return NOTES.with_form(message, Writer().message(message, "$")[0], {"instructions": text})


def _decode_alone(item: Item, path: str) -> Message | None:
    """Read an item that is a message by itself, or return `None` for what belongs to an assistant's turn."""
    kind = read.text(item, "type", path) or "message"
    if kind in _RESULTS:
        return Message("tool", (_decode_result(item, path),))
    if kind != "message":
        return None
    role = read.required_text(item, "role", path)
    if role == "assistant":
        return None
    parts = decode_content(item.get("content"), f"{path}.content")
    message = Message(role, parts, extra=_beyond(item, "role", "content"))
    return NOTES.with_form(message, Writer().message(message, path)[0], item)


def _beyond(item: Item, *known: str) -> Extra | None:
    """Return what *item* says that is not *known*, as `extra`."""
    return _more(item, "id", "status", *known)


def _more(source: Item, *known: str) -> Extra | None:
    """Return what *source*, a part of an item, says that is not *known*, as `extra`."""
    fields: dict[str, Any] = dict.fromkeys(("type", *known))
    return NOTES.unknown(without_nulls(source), fields)


def _decode_result(item: Item, path: str) -> ToolResult:
    content = decode_content(item.get("output"), f"{path}.output")
    result = ToolResult(read.required_text(item, "call_id", path), content, extra=_beyond(item, "call_id", "output"))
    return NOTES.with_form(result, Writer().result(result, path), item)


def _decode_item(item: Item, path: str, *, first: bool, answer: bool) -> tuple[Part, ...]:
    """Read one item of an assistant's turn; *first* says that no text stands right before it."""
    kind = read.text(item, "type", path) or "message"
    if kind == "message" and item.get("role") == "assistant":
        return _decode_spoken(item, path, first=first, answer=answer)
    if kind == "reasoning":
        part: Reasoning | ToolCall = _decode_reasoning(item, path)
    elif kind in CALLS:
        part = _decode_call(item, kind, path)
    else:
        return (Opaque(NAME, item),)
    unsigned = isinstance(part, Reasoning) and part.signature is None  # which only its origin lets go back
    return (_formed(part, Writer().alone(part), item, mark=answer or unsigned),)


def _formed(part: Any, canonical: Item, actual: Item, *, mark: bool) -> Any:
    """Return *part* with its form; a *mark* says even without one that the part was read from this format."""
    part = NOTES.with_form(part, canonical, actual)
    return msgspec.structs.replace(part, form={NAME: _UNCHANGED}) if mark and part.form is None else part


def _is_spoken(part: Part) -> bool:
    return isinstance(part, Text | Refusal)


def _decode_spoken(item: Item, path: str, *, first: bool, answer: bool) -> tuple[Part, ...]:
    """Read a message of the model; one with nothing in it, or with more than text, stays as it is."""
    content = item.get("content")
    said: list[Any] = content if json.is_array(content) else []
    if not isinstance(content, str) and not (
        said and all(json.is_object(piece) and json.text(piece.get("type")) in _SPOKEN for piece in said)
    ):
        return (Opaque(NAME, item),)
    head = {key: value for key, value in item.items() if key != "content"}
    beyond = _beyond(head, "role")
    parts: list[Part] = []
    for place, piece in enumerate(said or [content]):
        part = _decode_piece(piece, f"{path}.content[{place}]")
        if place == 0 and beyond is not None:
            extra = NOTES.extra_of({**NOTES.own_extra(part), "message": beyond[NAME]})
            part = msgspec.structs.replace(part, extra=extra)
        canonical = Writer().spoken(part, "$", first=first and place == 0)
        actual = {"part": piece} if place else {"part": piece, "head": head}
        parts.append(_formed(part, canonical, actual, mark=answer))
    return tuple(parts)


def _decode_piece(source: Any, path: str) -> Text | Refusal:
    if isinstance(source, str):
        return Text(source)
    logprobs = read.array(source, "logprobs", path)
    tokens = tuple(logprobs) if logprobs and all(map(json.is_object, logprobs)) else None
    if source["type"] == "refusal":
        return Refusal(read.required_text(source, "refusal", path), extra=_more(source, "refusal"))
    known = ("text", "annotations", "logprobs") if tokens or not logprobs else ("text", "annotations")
    annotations = read.array(source, "annotations", path) or ()
    return Text(
        read.required_text(source, "text", path),
        tuple(_decode_annotation(item, f"{path}.annotations[{place}]") for place, item in enumerate(annotations)),
        tokens,
        extra=_more(source, *known),
    )


def _decode_annotation(source: Any, path: str) -> Annotation:
    if not json.is_object(source):
        read.fault(path, "an object", source)
    annotation = Annotation(
        kind=read.required_text(source, "type", path),
        url=read.text(source, "url", path),
        title=read.text(source, "title", path),
        start=read.integer(source, "start_index", path),
        end=read.integer(source, "end_index", path),
        extra=_more(source, "url", "title", "start_index", "end_index"),
    )
    return NOTES.with_form(annotation, _encode_annotation(annotation), source)


def _decode_reasoning(item: Item, path: str) -> Reasoning:
    texts = [_texts(read.array(item, key, path) or ()) for key in ("summary", "content")]
    return Reasoning(
        BREAK.join(texts[0] or texts[1]),
        read.text(item, "encrypted_content", path),
        extra=_beyond(item, "summary", "content", "encrypted_content"),
    )


def _texts(source: Iterable[Any]) -> list[str]:
    return [text for part in source if json.is_object(part) and (text := json.text(part.get("text"))) is not None]


def _decode_call(item: Item, type: str, path: str) -> ToolCall:
    kind, key = CALLS[type]
    return ToolCall(
        read.required_text(item, "call_id", path),
        read.required_text(item, "name", path),
        read.text(item, key, path) or "",
        kind,
        extra=_beyond(item, "call_id", "name", key),
    )


# Writing


class Writer(ContentWriter):
    """Writes messages as items and keeps a list of what of them could not be expressed.

    Args:
        answer: The id of the answer to a client that the items are of, or `None` for a request. In an answer, items
            from elsewhere get what clients expect of one: an id, a status, empty lists.
        first: The number of the first item.
    """

    def __init__(self, *, answer: str | None = None, first: int = 0) -> None:
        super().__init__()
        self._answer = answer
        self._count = first
        self._calls: dict[str, ToolCall] = {}
        """The calls so far by their ids: results of custom tools are another type of item, and none names its tool."""

    def message(self, message: Message, path: str) -> list[Item]:
        """Write one message as the items it is made of."""
        self.losses += lost_extra(message, path, keep=(NAME,))
        if message.name is not None:
            self.drop(f"{path}.name", "Responses have no name of who speaks.")
        if message.role == "assistant":
            items = self._turn(message.parts, f"{path}.parts")
            if not items:
                self.drop(path, "A message in which there is nothing to be said has no place here.")
            return items
        results: list[Item] = []
        content: list[Any] = []
        for place, part in enumerate(message.parts):
            where = f"{path}.parts[{place}]"
            if isinstance(part, ToolResult):
                results.append(self.result(part, where))
            elif (written := self.part(part, where)) is not None:
                content.append(written)
        if results and not content:
            return results
        role = message.role
        if role == "tool":
            role = "user"
            self.approximate(f"{path}.role", "Only results of calls have this role here; the rest is sent as a user's.")
        item = json.merged({"role": role, "content": shortest(content)}, NOTES.own_extra(message))
        return [*results, patch.apply(item, NOTES.own_form(message))]

    def result(self, part: ToolResult, path: str) -> Item:
        """Write the result of a tool call."""
        self.losses += lost_extra(part, path, keep=(NAME,))
        if part.is_error:
            self.drop(f"{path}.is_error", "Responses cannot say whether a tool failed; its text still does.")
        call = self._calls.get(part.call_id)
        if part.name is not None and (call is None or part.name != call.name):
            self.drop(f"{path}.name", "Responses know the tool of a result by its call.")
        written = (self.part(inner, f"{path}.content[{place}]") for place, inner in enumerate(part.content))
        output = shortest([item for item in written if item is not None])
        # Where a form says so, it is against the canonical type.
        custom = call is not None and call.kind == "custom" and NOTES.own_form(part) is None
        kind = "custom_tool_call_output" if custom else "function_call_output"
        item = json.merged({"type": kind, "call_id": part.call_id, "output": output}, NOTES.own_extra(part))
        result: Item = patch.apply(item, NOTES.own_form(part))
        return result

    # What the model made

    def _turn(self, parts: Iterable[Part], path: str) -> list[Item]:
        items: list[Item] = []
        messages: list[Item] = []
        content: list[Any] | None = None
        for place, part in enumerate(parts):
            where = f"{path}[{place}]"
            if not isinstance(part, Text | Refusal):
                item = self.item(part, where)
                if item is not None:
                    content = None
                    items.append(item)
                continue
            self.losses += lost_extra(part, where, keep=(NAME,))
            written = self.spoken(part, where, first=content is None)
            if json.is_object(head := written.get("head")):
                content = [written["part"]]
                messages.append(self._finished({**head, "content": content}, part))
                items.append(messages[-1])
            elif content is not None:
                content.append(written["part"])
        for item in messages:
            said = item["content"]
            if isinstance(said[0], str):
                item["content"] = said[0] if len(said) == 1 else [*map(_as_piece, said)]
        return items

    def item(self, part: Part, path: str) -> Item | None:
        """Write a part that is an item by itself, or return `None` where it has no place."""
        if isinstance(part, ToolResult):
            return self.result(part, path)
        self.losses += lost_extra(part, path, keep=(NAME,))
        if isinstance(part, Opaque):
            self._count += 1
            block: Item | None = self.opaque(part, path)
            return block
        if not isinstance(part, Reasoning | ToolCall):
            self.drop(path, f"The assistant's messages have no place for this {type(part).__name__}.")
            return None
        nowhere = self._answer is None and NOTES.own_form(part) is None
        if isinstance(part, Reasoning) and part.signature is None and nowhere:
            self.drop(path, "Responses take no thoughts of others, which have neither an id nor are encrypted.")
            return None
        return self._finished(self.alone(part), part)

    def alone(self, part: Reasoning | ToolCall) -> Item:
        """Write a part that is an item by itself as it stands in a request."""
        if isinstance(part, ToolCall):
            kind, key = CALL_TYPES.get(part.kind, CALL_TYPES["function"])
            self._calls[part.id] = part
            item: Item = {"type": kind, "call_id": part.id, "name": part.name, key: part.arguments}
        else:
            item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": part.text}] if part.text else []}
            if part.signature is not None:
                item["encrypted_content"] = part.signature
        written: Item = patch.apply(json.merged(item, NOTES.own_extra(part)), NOTES.own_form(part))
        return written

    def spoken(self, part: Text | Refusal, path: str, *, first: bool) -> Item:
        """Write words of the model, with the head of their message where they are the *first* of it."""
        extra = dict(NOTES.own_extra(part))
        head = extra.pop("message", {})
        if isinstance(part, Refusal):
            piece: Item = {"type": "refusal", "refusal": part.text}
        else:
            piece = {"type": "output_text", "text": part.text}
            piece["annotations"] = [_encode_annotation(annotation) for annotation in part.annotations]
            for place, annotation in enumerate(part.annotations):
                self.losses += lost_extra(annotation, f"{path}.annotations[{place}]", keep=(NAME,))
            if part.logprobs is not None:
                piece["logprobs"] = list(part.logprobs)
            elif self._answer is not None and NOTES.own_form(part) is None:
                piece["logprobs"] = []
        result: Item = {"part": json.merged(piece, extra)}
        if first or head:
            result["head"] = {"type": "message", "role": "assistant", **head}
        written: Item = patch.apply(result, NOTES.own_form(part))
        return written

    def _finished(self, item: Item, part: Part) -> Item:
        """Return *item* with what clients expect of one in an answer."""
        number, self._count = self._count, self._count + 1
        if self._answer is None or NOTES.own_form(part) is not None:
            return item
        item = {"id": made_id(item["type"], self._answer, number), **item}
        # OpenAI's own reasoning has no status.
        return item if item["type"] == "reasoning" else {**item, "status": "completed"}


def made_id(kind: str, answer: str, number: int) -> str:
    """Return an id for an item that has none: its *number* in the *answer*, after the beginning that its *kind* has."""
    return f"{_PREFIXES.get(kind, 'item')}_{answer}_{number}"


def _encode_annotation(annotation: Annotation) -> Item:
    fields = {"url": annotation.url, "title": annotation.title, "start_index": annotation.start}
    result = {"type": annotation.kind, **without_nulls({**fields, "end_index": annotation.end})}
    written: Item = patch.apply(json.merged(result, NOTES.own_extra(annotation)), NOTES.own_form(annotation))
    return written


def _as_piece(said: Any) -> Any:
    return {"type": "output_text", "text": said, "annotations": []} if isinstance(said, str) else said
