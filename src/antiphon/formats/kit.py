"""One way to write a codec: what requests and messages of all formats have in common. No I/O.

Two rules, each in one place:

* A JSON field that no row of a `Table` reads stays in the request's `extra` (`Table.read`).
* A neutral field that no row writes becomes a loss (`Table.write`).

Tables are for the settings of requests alone. Messages and streams stay plain functions, since their parts differ from
format to format; `MessageWriter` and `kit_stream` hold what they share. How a format uses all of it: `ollama/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from antiphon.chat.kept import as_it_came, changed
from antiphon.chat.kept import keep as keeping
from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import Message, Opaque
from antiphon.chat.requests import ChatRequest, ResponseFormat, Tool
from antiphon.formats import json, read
from antiphon.formats.notes import Notes, foreign

__all__ = [
    "NOTHING",
    "FunctionTools",
    "MessageWriter",
    "Reader",
    "Row",
    "Table",
    "approximated",
    "dropped",
    "schema_of",
    "stop_texts",
    "texts",
]

Object: TypeAlias = dict[str, Any]

Reader: TypeAlias = Callable[[Object, str, str], Any]
"""Reads the value at a key, as the functions of `read` do: object, key, path of the object."""

NOTHING: Final[Any] = object()
"""What a `Reader` gives for a value that says nothing, such as an empty string: it is not kept in `extra` either."""


def dropped(field: str, reason: str) -> Loss:
    """Return the loss of a *field* of the request: `reasoning.include`."""
    return Loss("dropped", f"$.{field}", reason)


def approximated(field: str, reason: str) -> Loss:
    """Return the loss of the exact value of a *field* of the request."""
    return Loss("approximated", f"$.{field}", reason)


# Settings of requests


class Row(NamedTuple):
    """How one setting is written."""

    key: str
    """`top_p`, or `options.top_p` for a field of the object `options`."""
    read: Reader
    """Gives the neutral value; `None` where there is no neutral value for it, so that the field stays in `extra`."""
    write: Callable[[Any, list[Loss]], Any] | None = None
    """Gives the JSON value of a neutral one and notes what is lost; `None`: nothing is written. Without: as it is."""
    inside: tuple[str, ...] = ()
    """What is read of a value that is an object; other fields of it stay in `extra`. Without: it is read whole."""


_ALWAYS = ("model", "messages", "tools", "stream", "include_usage", "extra", "form", "kept")
"""Fields of a request that are no settings; a format writes these by itself."""

_DEFAULTS: Mapping[str, Any] = {
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "n": 1,
    "stop": (),
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
}
"""Values that ask for nothing, so that leaving them out is no loss."""


class Table:
    """The settings of one format's requests, read and written by rows.

        Table("Ollama", NOTES, {"top_p": Row("options.top_p", read.number), "reasoning": Row("think", _read, _write)})

    Args:
        title: What the format is called in losses.
        notes: The notes of the format.
        rows: By the name of the neutral field.
        handled: Settings that the format reads or writes by itself, because they depend on others.
        plain: Fields that say by themselves, unchanged, what their JSON key holds; by name, with that key, or `None`
            where it is not in the body. They are put into a request that otherwise goes out as it came.
    """

    def __init__(
        self,
        title: str,
        notes: Notes,
        rows: Mapping[str, Row],
        *,
        handled: tuple[str, ...] = (),
        plain: Mapping[str, str | None] | None = None,
    ) -> None:
        self._title = title
        self._notes = notes
        self._plain = {"model": "model"} if plain is None else plain
        self._top: dict[str, tuple[str, Row]] = {}
        self._inner: dict[str, dict[str, tuple[str, Row]]] = {}
        self._writing = [(name, *row.key.rpartition(".")[::2], row.write) for name, row in rows.items()]
        for name, object_, key, _ in self._writing:
            place = self._inner.setdefault(object_, {}) if object_ else self._top
            place[key] = name, rows[name]
        known = {*_ALWAYS, *handled, *rows}
        self._unsayable = [name for name in ChatRequest.__struct_fields__ if name not in known]

    def read(self, source: Object, *others: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the settings in *source* by neutral name, and what no row reads, by key, for `extra`.

        *others* are the keys that the format reads by itself. An explicit `null` of a row is as good as absent.
        """
        fields: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for key, value in source.items():
            if key in others:
                continue
            inner = self._inner.get(key)
            if inner is None:
                self._read(source, key, value, "$", self._top, fields, rest)
            elif value is not None:
                below = read.object_(source, key, "$") or {}
                left: dict[str, Any] = {}
                for name, item in below.items():
                    self._read(below, name, item, f"$.{key}", inner, fields, left)
                if left:
                    rest[key] = left
        return fields, rest

    @staticmethod
    def _read(
        source: Object,
        key: str,
        value: Any,
        path: str,
        rows: dict[str, tuple[str, Row]],
        fields: dict[str, Any],
        rest: dict[str, Any],
    ) -> None:
        if (found := rows.get(key)) is None:
            rest[key] = value
        elif value is not None:
            name, row = found
            neutral = row.read(source, key, path)
            if neutral is None:
                rest[key] = value
                return
            if neutral is not NOTHING:
                fields[name] = neutral
            if row.inside and (left := {field: item for field, item in value.items() if field not in row.inside}):
                rest[key] = left

    def write(self, request: ChatRequest, losses: list[Loss]) -> Object:
        """Return the settings of *request* by key, and note what is lost of them."""
        result: Object = {}
        for name, object_, key, write in self._writing:
            value = getattr(request, name)
            if value is not None and write is not None:
                value = write(value, losses)
            if value is not None:
                place = result.setdefault(object_, {}) if object_ else result
                place[key] = [*value] if type(value) is tuple else value
        for name in self._unsayable:
            value = getattr(request, name)
            if value is not None and value != _DEFAULTS.get(name):
                losses.append(dropped(name, f"{self._title} has no field for {name!r}."))
        return result

    def as_it_came(self, request: ChatRequest) -> Object | None:
        """Return the object that *request* was read from if but its plain fields nothing was changed, or `None`.

        It has the plain fields of *request*. It loses nothing: it was written for this format. It is never changed.
        """
        names = changed(request, self._notes.format)
        if names is None or request.kept is None:
            return None
        source: Object = request.kept.source
        if not names:
            return source
        if not all(name in self._plain for name in names):
            return None
        return {**source, **{key: getattr(request, name) for name in names if (key := self._plain[name]) is not None}}


def stop_texts(source: Object, key: str, path: str) -> tuple[str, ...] | None:
    """Read one text or several: `"END"`, `["END", "STOP"]`."""
    given = source.get(key)
    if given is not None and not isinstance(given, str) and not json.is_array(given):
        read.fault(f"{path}.{key}", "a string or an array of strings", given)
    return (given,) if isinstance(given, str) else texts(source, key, path)


def texts(source: Object, key: str, path: str) -> tuple[str, ...] | None:
    """Read an array of texts: `["END", "STOP"]`."""
    found = read.array(source, key, path)
    for place, item in enumerate(found or ()):
        if not isinstance(item, str):
            read.fault(f"{path}.{key}[{place}]", "a string", item)
    return None if found is None else tuple(found)


def schema_of(title: str, format: ResponseFormat, losses: list[Loss]) -> Mapping[str, Any] | None:
    """Return the schema of *format*, for formats that take nothing but that, and note what is lost beside it."""
    losses += lost_extra(format, "$.response_format", keep=())
    for field in ("name", "description", "strict"):
        if getattr(format, field) is not None:
            reason = f"{title}'s schema has no {field!r} beside it; an answer always keeps to the schema."
            losses.append(dropped(f"response_format.{field}", reason))
    return format.schema if format.kind == "json_schema" else None


# Tools


_FUNCTION = dict.fromkeys(("name", "description", "parameters"))


class FunctionTools:
    """Tools in OpenAI's shape, which others took over.

        {"type": "function", "function": {"name": "look_up", "description": "…", "parameters": {…}, "strict": true}}

    Anything of another `type` is a tool of the format's own.

    Args:
        title: What the format is called in losses.
        notes: The notes of the format.
        strict: Whether a function has `strict`.
        no_parameters: The schema to write for a function that takes none; `None`: nothing is written.
    """

    def __init__(
        self, title: str, notes: Notes, *, strict: bool = True, no_parameters: Mapping[str, Any] | None = None
    ) -> None:
        self._title = title
        self._notes = notes
        self._strict = strict
        self._no_parameters = no_parameters
        self._known = {"type": None, "function": {**_FUNCTION, "strict": None} if strict else _FUNCTION}

    def read(self, source: Object, *, keep: bool = True) -> tuple[Tool | Opaque, ...] | None:
        """Read the tools of a request; each keeps how it came if *keep*."""
        tools = read.array(source, "tools", "$")
        if tools is None:
            return None
        return tuple(self.read_one(item, f"$.tools[{place}]", keep=keep) for place, item in enumerate(tools))

    def read_one(self, source: Any, path: str, *, keep: bool = True) -> Tool | Opaque:
        """Read one tool."""
        if not json.is_object(source):
            read.fault(path, "an object", source)
        if (read.text(source, "type", path) or "function") != "function":
            return Opaque(self._notes.format, source)
        function, inside = read.required_object(source, "function", path), f"{path}.function"
        tool = Tool(
            read.required_text(function, "name", inside),
            read.text(function, "description", inside),
            read.object_(function, "parameters", inside),
            read.boolean(function, "strict", inside) if self._strict else None,
            extra=self._notes.unknown(source, self._known),
        )
        return keeping(tool, self._notes.format, source) if keep else tool

    def write(self, tools: tuple[Tool | Opaque, ...], losses: list[Loss]) -> list[Any]:
        """Write the tools of a request, and note what is lost of them."""
        result: list[Any] = []
        for place, tool in enumerate(tools):
            path = f"$.tools[{place}]"
            if isinstance(tool, Tool):
                result.append(as_it_came(tool, self._notes.format) or self.write_one(tool, path, losses))
                continue
            losses += lost_extra(tool, path, keep=(self._notes.format,))
            if tool.format == self._notes.format:
                result.append(tool.data)
            else:
                losses.append(foreign(path, tool))
        return result

    def write_one(self, tool: Tool, path: str, losses: list[Loss]) -> Object:
        """Write one tool in the canonical way."""
        losses += lost_extra(tool, path, keep=(self._notes.format,))
        function: Object = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        parameters = self._no_parameters if tool.parameters is None else tool.parameters
        if parameters is not None:
            function["parameters"] = parameters
        if tool.strict is not None and self._strict:
            function["strict"] = tool.strict
        elif tool.strict is not None:
            losses.append(Loss("dropped", f"{path}.strict", f"{self._title}'s tools have no 'strict'."))
        return json.merged({"type": "function", "function": function}, self._notes.own_extra(tool))


# Messages


class MessageWriter:
    """Writes the messages of one request, and lists in `losses` what of them could not be expressed.

    A format's own writer has the class attributes `title` and `notes`, and `written`, which writes a message in the
    canonical way. What a writer remembers from one message for the next, such as the names of calls, it takes in
    `passed` from messages that go out as they came.
    """

    title: str
    """What the format is called in losses."""
    notes: Notes
    """The notes of the format."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []

    def messages(self, message: Message, path: str) -> list[Any]:
        """Write one message: as it came, or in the canonical way, which may take several."""
        source = as_it_came(message, self.notes.format)
        if source is None:
            return self.written(message, path)
        self.passed(message)
        return [source]

    def one(self, message: Message, path: str) -> Any:
        """Write a message that becomes one."""
        return self.messages(message, path)[0]

    def written(self, message: Message, path: str) -> list[Any]:
        """Write one message in the canonical way."""
        raise NotImplementedError

    def passed(self, message: Message) -> None:
        """Take from a message that goes out as it came what later messages need of it."""

    def about(self, message: Message, path: str) -> None:
        """Note what is lost of the message itself."""
        self.losses += lost_extra(message, path, keep=(self.notes.format,))
        if message.name is not None:
            self.drop(f"{path}.name", f"{self.title}'s messages have no name of who speaks.")

    def split(self, message: Message, path: str) -> None:
        """Note what is lost of a message that becomes several."""
        for field in self.notes.own_extra(message):
            self.drop(f"{path}.{field}", "The message was split up, so it is not known to which part this belongs.")

    def drop(self, path: str, reason: str) -> None:
        """Note that what is at *path* is left out."""
        self.losses.append(Loss("dropped", path, reason))

    def approximate(self, path: str, reason: str) -> None:
        """Note that what is at *path* is sent as something near to it."""
        self.losses.append(Loss("approximated", path, reason))
