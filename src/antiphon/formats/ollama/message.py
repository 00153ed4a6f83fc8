"""Messages of Ollama's own API, both ways, for requests and answers. Pure functions, no I/O.

* Thoughts, text, pictures and tool calls are fields beside each other, in this order here; how parts of these kinds
  followed each other otherwise cannot be said, nor where one text ended and the next began.
* A call's arguments are an object. Its `id` is new and often missing: then one is made up, and results are tied to
  calls by `tool_name` and order, as older servers do.
* Pictures are base64 text alone; their type is told by how the bytes begin.

Sources, read 2026-11-23: ollama 0.6.3 (`_types.py`), wire-formats.md, 4.5.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from antiphon.chat.kept import keep as keeping
from antiphon.chat.losses import lost_extra
from antiphon.chat.messages import Audio, File, Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from antiphon.formats import json, read
from antiphon.formats.kit import MessageWriter
from antiphon.formats.notes import Notes, Placed, call_input, foreign, grouped

__all__ = ["NAME", "NOTES", "Calls", "Writer", "call_object", "decode_call", "decode_image", "decode_message"]

NAME = "ollama"
NOTES = Notes(NAME)

_Object: TypeAlias = dict[str, Any]

_CALL: _Object = {"id": None, "type": None, "function": dict.fromkeys(("name", "arguments", "index"))}
_MESSAGE: _Object = dict.fromkeys(("role", "content", "thinking", "images", "tool_calls"))
_RESULT: _Object = dict.fromkeys(("role", "content", "images", "tool_name", "tool_call_id"))
_ROLES = {"developer": "system"}
_ASKING = ("system", "developer", "user")
"""Whose texts are apart from each other; those of a model are pieces of one."""
_STARTS = {"iVBORw": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}
"""The base64 text that a picture of each type begins with."""


class Calls:
    """The tool calls of a conversation so far, so that results find theirs.

    Args:
        prefix: What made-up ids begin with.
    """

    def __init__(self, prefix: str = "call") -> None:
        self._prefix = prefix
        self._count = 0
        self._names: dict[str, str] = {}
        self._waiting: dict[str, int] = {}
        """Numbers of the calls that have no result yet, by their ids."""
        self._queues: dict[str | None, list[tuple[int, str]]] = {}
        """Numbers and ids in order, of the calls of each name and, at `None`, of all."""
        self._settled: dict[str | None, int] = {}
        """How many at the beginning of each of these have their result."""

    def add(self, id: str | None, name: str) -> str:
        """Take note of a call and return its id, made up where there is none."""
        id = id or f"{self._prefix}_{self._count}"
        self._count += 1
        self._names[id], self._waiting[id] = name, self._count
        for key in (None, name):
            self._queues.setdefault(key, []).append((self._count, id))
        return id

    def settle(self, id: str | None, name: str | None) -> tuple[str, str | None]:
        """Return id and name of the call that a result belongs to; the id is `""` where no call is left."""
        if not id:
            id = self._oldest(name)
        self._waiting.pop(id, None)
        return id, self._names.get(id) if name is None else name

    def _oldest(self, name: str | None) -> str:
        """Return the id of the first call, of that *name* or of any, that has no result yet; `""`: there is none."""
        queue, place = self._queues.get(name, []), self._settled.get(name, 0)
        while place < len(queue) and self._waiting.get(queue[place][1]) != queue[place][0]:
            place += 1
        self._settled[name] = place
        return queue[place][1] if place < len(queue) else ""


# Reading


def decode_message(source: Any, path: str, calls: Calls, *, answer: bool = False, keep: bool = True) -> Message:
    """Read one message object, of a request or of an answer; with *keep* it can be written as it came.

        {"role": "assistant", "thinking": "…", "content": "I will look.",
         "tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]}
        {"role": "tool", "tool_name": "weather", "tool_call_id": "call_1", "content": "sunny"}

    Raises:
        BadRequestError: With `param` the path of the fault.
    """
    if not json.is_object(source):
        read.fault(path, "an object", source)
    role = read.text(source, "role", path) or "assistant" if answer else read.required_text(source, "role", path)
    content = read.text(source, "content", path)
    images = read.array(source, "images", path) or ()
    body: list[Any] = [Text(content)] if content else []
    body += (decode_image(item, f"{path}.images[{place}]") for place, item in enumerate(images))
    known = _MESSAGE
    if role == "tool":
        known = _RESULT
        id, name = calls.settle(read.text(source, "tool_call_id", path), read.text(source, "tool_name", path))
        body = [ToolResult(id, tuple(body), name=name)]
    else:
        if thoughts := read.text(source, "thinking", path):
            body.insert(0, Reasoning(thoughts))
        asked = read.array(source, "tool_calls", path) or ()
        body += (decode_call(item, f"{path}.tool_calls[{place}]", calls) for place, item in enumerate(asked))
    message = Message(role, tuple(body), extra=NOTES.unknown(source, known))
    return keeping(message, NAME, source) if keep else message


def decode_image(source: Any, path: str) -> Image:
    """Read a picture."""
    if not isinstance(source, str):
        read.fault(path, "a string", source)
    kinds = (kind for start, kind in _STARTS.items() if source.startswith(start))
    return Image(data=source, media_type=next(kinds, None))


def decode_call(source: Any, path: str, calls: Calls) -> ToolCall:
    """Read a tool call; the object of its arguments becomes JSON text, and text stays what it is."""
    if not json.is_object(source):
        read.fault(path, "an object", source)
    function = read.required_object(source, "function", path)
    name = read.required_text(function, "name", f"{path}.function")
    given = function.get("arguments")
    if not isinstance(given, str):
        given = json.encode(read.object_(function, "arguments", f"{path}.function") or {}).decode()
    return ToolCall(calls.add(read.text(source, "id", path), name), name, given, extra=NOTES.unknown(source, _CALL))


# Writing


class Writer(MessageWriter):
    """Writes messages and keeps a list of what of them could not be expressed."""

    title = "Ollama"
    notes = NOTES

    def __init__(self) -> None:
        super().__init__()
        self._calls = Calls()

    def written(self, message: Message, path: str) -> list[_Object]:
        """Write one message, which becomes several where it has several results, or results and something else."""
        groups = grouped(message, path)
        self.about(message, path)
        if len(groups) == 1:
            return [json.merged(self._group(groups[0], message.role, path), NOTES.own_extra(message))]
        self.split(message, path)
        return [self._group(group, message.role, path) for group in groups]

    def passed(self, message: Message) -> None:
        """Take note of calls and results, which later results are tied to."""
        for part in message.parts:
            if isinstance(part, ToolCall):
                self._calls.add(part.id, part.name)
            elif isinstance(part, ToolResult):
                self._calls.settle(part.call_id, part.name)

    def _group(self, placed: list[Placed], role: str, path: str) -> _Object:
        if len(placed) == 1 and isinstance(result := placed[0][1], ToolResult):
            return self._result(result, placed[0][0])
        if role in _ROLES:
            self.approximate(f"{path}.role", f"Ollama knows no role {role!r}; it is sent as {_ROLES[role]!r}.")
        return {"role": _ROLES.get(role, role), **self._fields(placed, "\n" if role in _ASKING else "", path)}

    def _result(self, result: ToolResult, path: str) -> _Object:
        self.losses += lost_extra(result, path, keep=())
        if result.is_error is not None:
            self.drop(f"{path}.is_error", "Ollama's results do not tell whether the tool failed; the words are sent.")
        placed: list[Placed] = [(f"{path}.content[{place}]", part) for place, part in enumerate(result.content)]
        written = {"role": "tool", **self._fields(placed, "\n", path)}
        id, name = self._calls.settle(result.call_id, result.name)
        if name is not None:
            written["tool_name"] = name
        return {**written, "tool_call_id": id} if id else written

    def _fields(self, placed: list[Placed], between: str, path: str) -> _Object:
        said = [told for item in placed if (told := self._say(*item)) is not None]
        thoughts, texts, images, calls = ([value for rank, value in said if rank == place] for place in range(4))
        if said != sorted(said, key=lambda told: told[0]) or len(texts) > 1 or len(thoughts) > 1:
            reason = "Ollama keeps thoughts, text, pictures and calls in one field each: their order and ends are lost."
            self.approximate(f"{path}.parts", reason)
        result: _Object = {"content": between.join(texts)}
        if thoughts:
            result["thinking"] = between.join(thoughts)
        beside = {"images": images, "tool_calls": calls}
        return result | {key: value for key, value in beside.items() if value}

    def _call(self, call: ToolCall, path: str) -> _Object:
        self._calls.add(call.id, call.name)
        if call_input(call) is None:
            reason = "Ollama takes an object as a call's arguments; this is none, so it is sent as text inside of one."
            self.approximate(f"{path}.arguments", reason)
        return call_object(call)

    def _say(self, path: str, part: Part) -> tuple[int, Any] | None:
        """Return what is said of *part*, after the place of its field among the others, or `None` where nothing is."""
        if isinstance(part, Opaque):  # also of this format, which has no blocks
            self.losses.append(foreign(path, part))
            return None
        self.losses += lost_extra(part, path, keep=(NAME,) if isinstance(part, ToolCall) else ())
        if isinstance(part, ToolCall):
            return 3, self._call(part, path)
        if isinstance(part, Image) and part.data is None:
            self.drop(path, "Ollama takes pictures as bytes only; it fetches none and keeps none.")
            return None
        if isinstance(part, File) or (isinstance(part, Audio) and part.transcript is None):
            self.drop(path, f"Ollama takes neither documents nor sounds, so this {type(part).__name__} is left out.")
            return None
        for field in ("signature", "annotations", "logprobs", "detail", "name"):
            if getattr(part, field, None):
                self.drop(f"{path}.{field}", f"Ollama's messages have no place for the {field!r} of a part.")
        if isinstance(part, Image):
            return 2, part.data
        if isinstance(part, Reasoning):
            return 0, part.text
        if not isinstance(part, Text):
            self.approximate(path, f"Ollama has no place for a {type(part).__name__}; its words are sent as text.")
        return 1, part.transcript if isinstance(part, Audio) else getattr(part, "text", "")


def call_object(call: ToolCall) -> _Object:
    """Write a tool call; arguments that are no object are text inside of one."""
    arguments = call_input(call)
    function = {"name": call.name, "arguments": {"arguments": call.arguments} if arguments is None else arguments}
    return json.merged({"id": call.id, "function": function}, NOTES.own_extra(call))
