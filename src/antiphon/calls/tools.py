"""Python functions as tools that a model may ask for. No I/O.

Rules:

* The schema comes from the signature: each parameter needs an annotation and is passed by name; what has a default may
  be left out, and then has the default that the function has.
* The description is the first paragraph of the docstring; those of parameters stand in its `Args:` section (Google's
  style), or in the annotation, which goes first: `Annotated[int, "How many."]`, or `msgspec.Meta(description=…)`, or
  Pydantic's `Field(description=…)`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Generic, ParamSpec, TypeAlias, TypeVar, cast, get_args, get_origin, overload

import msgspec

from antiphon.calls.schema import dec_hook, enc_hook, json_schema
from antiphon.chat.messages import Audio, File, Image, Opaque, Text, ToolResult
from antiphon.chat.requests import Tool
from antiphon.formats import json

__all__ = ["AnyTool", "FunctionTool", "definition", "result_content", "tool"]

P = ParamSpec("P")
R = TypeVar("R")

AnyTool: TypeAlias = Callable[..., Any] | Mapping[str, Any] | Tool | Opaque
"""What may stand in `tools=`: a function, or a tool's definition, which is passed on as it is."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What OpenAI and Anthropic take as a tool's name (openai 3.54 and anthropic 1.16, docstrings, read 2026-11-23)."""


class FunctionTool(Generic[P, R]):
    """A function as a tool; it can still be called as what it is.

    Args:
        function: A plain function, a coroutine function, a bound method, a `functools.partial` of these.
        name: What the model calls it; the function's own name if not given.
        description: What the model is told of it; the docstring's first paragraph if not given.

    Raises:
        TypeError: The signature cannot be written as a schema; the message says what to change.

    Attributes:
        definition: What a model is told.
        on_loop: Whether it is a coroutine function, to be called on the event loop; all others may block.
    """

    def __init__(self, function: Callable[P, R], *, name: str | None = None, description: str | None = None) -> None:
        plain = _unwrapped(function)
        self.function = function
        self.name = _name(plain, name)
        self.on_loop = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
        self.__doc__ = inspect.getdoc(plain)
        if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
            raise TypeError(f"The tool {self.name!r} yields; a tool must return its result, a list perhaps.")
        summary, described = _parsed(self.__doc__ or "")
        fields, descriptions = _fields(function, plain, self.name)
        struct = _struct(self.name, fields)
        schema = _schema(self.name, struct, fields, {**described, **descriptions})
        self._decode = msgspec.json.Decoder(struct, dec_hook=dec_hook).decode
        self.definition = Tool(self.name, description or summary or None, schema)

    def __repr__(self) -> str:
        return f"FunctionTool({self.name!r})"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def call(self, arguments: str) -> R:
        """Call the function with *arguments*, the JSON text of an object, and return what it returns.

        A coroutine function gives its coroutine.

        Raises:
            msgspec.DecodeError: *arguments* are not JSON, or (`msgspec.ValidationError`) do not fit the signature.
        """
        values = self._decode(arguments if arguments.strip() else "{}")  # some models write nothing for no arguments
        given = {key: value for key in values.__struct_fields__ if (value := getattr(values, key)) is not msgspec.UNSET}
        return cast(Callable[..., R], self.function)(**given)


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...


@overload
def tool(
    function: Callable[P, R], /, *, name: str | None = None, description: str | None = None
) -> FunctionTool[P, R]: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...


def tool(function: Any = None, /, *, name: str | None = None, description: str | None = None) -> Any:
    """Make a tool of a function: `@tool`, `@tool(name="look_up")`, or `tool(f, description="…")`.

    Arguments and errors are those of `FunctionTool`. A function that needs neither name nor description can be passed
    in `tools=` as it is.
    """
    if function is None:
        return functools.partial(FunctionTool, name=name, description=description)
    if isinstance(function, FunctionTool):
        function = cast("FunctionTool[..., Any]", function).function
    return FunctionTool(function, name=name, description=description)


def definition(item: Any) -> Any:
    """Return the neutral definition of a function in `tools=`; anything else as it is."""
    if isinstance(item, FunctionTool):
        return cast("FunctionTool[..., Any]", item).definition
    return FunctionTool(item).definition if callable(item) else item


# The signature


def _unwrapped(function: Any) -> Any:
    """Return what has the name, the docstring and the annotations."""
    while isinstance(function, functools.partial):
        function = cast(Any, function).func
    if inspect.isroutine(function) or isinstance(function, type) or not callable(function):
        return function
    return type(function).__call__


def _name(plain: Any, name: str | None) -> str:
    if not callable(plain):
        raise TypeError(f"A tool is made of a function, not of {plain!r}.")
    found = str(getattr(plain, "__name__", "")) if name is None else name
    if not _NAME.fullmatch(found) or found == "__call__":
        raise TypeError(
            f"A tool cannot be called {found!r}: pass tool(function, name=…) with at most 64 ASCII letters, digits, "
            "'_' and '-'."
        )
    return found


def _fields(function: Any, plain: Any, name: str) -> tuple[dict[str, tuple[Any, Any]], dict[str, str]]:
    """Return annotation and default of each parameter that the model may set, and what the annotations describe."""
    try:
        hints = inspect.get_annotations(plain, eval_str=True)
        parameters = inspect.signature(function).parameters.values()
    except (NameError, AttributeError) as error:
        hint = "The types of its annotations must stand at the top of their module, outside of `if TYPE_CHECKING`."
        raise TypeError(f"The signature of the tool {name!r} cannot be read: {error}. {hint}") from error
    except (ValueError, TypeError, SyntaxError) as error:
        raise TypeError(f"The signature of the tool {name!r} cannot be read: {error}.") from error
    fixed = _fixed(function)
    fields: dict[str, tuple[Any, Any]] = {}
    descriptions: dict[str, str] = {}
    for parameter in parameters:
        if parameter.name in fixed:
            continue
        _check(parameter, name, hints)
        hint = hints[parameter.name]
        fields[parameter.name] = hint, parameter.default
        if (text := _described(hint)) is not None:
            descriptions[parameter.name] = text
    return fields, descriptions


def _fixed(function: Any) -> set[str]:
    """Collect what a partial gives by name: the model has no say in it."""
    found: set[str] = set()
    while isinstance(function, functools.partial):
        partial = cast(Any, function)
        found |= partial.keywords.keys()
        function = partial.func
    return found


def _check(parameter: inspect.Parameter, tool: str, hints: Mapping[str, Any]) -> None:
    place = f"The parameter {parameter.name!r} of the tool {tool!r}"
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise TypeError(f"{place} is positional-only, but a model names its arguments: remove the '/'.")
    if parameter.kind is parameter.VAR_POSITIONAL:
        raise TypeError(f"{place} takes any number of values: write one parameter with a list, as {tool}(items: list).")
    if parameter.kind is parameter.VAR_KEYWORD:
        raise TypeError(f"{place} takes any name: write the parameters one by one, or one with a dict.")
    if parameter.name not in hints:
        if parameter.name in ("self", "cls"):
            raise TypeError(f"{place} is the object of a method: make a tool of the bound method, as tool(x.{tool}).")
        raise TypeError(f"{place} has no annotation, which its schema is made of: write {parameter.name}: str, or so.")


def _described(hint: Any) -> str | None:
    if get_origin(hint) is not Annotated:
        return None
    told = [item if isinstance(item, str) else getattr(item, "description", None) for item in get_args(hint)[1:]]
    return next((text for text in told if isinstance(text, str)), None)


def _struct(name: str, fields: Mapping[str, tuple[Any, Any]]) -> Any:
    # Defaults are the function's own: a value made for the struct might be shared between calls.
    empty = inspect.Parameter.empty
    listed = [
        (key, hint) if default is empty else (key, hint, msgspec.UNSET) for key, (hint, default) in fields.items()
    ]
    return msgspec.defstruct(name, listed, kw_only=True, forbid_unknown_fields=True)


def _schema(
    name: str, struct: Any, fields: Mapping[str, tuple[Any, Any]], descriptions: Mapping[str, str]
) -> dict[str, Any]:
    try:
        schema = json_schema(struct)
    except TypeError as error:
        raise TypeError(f"A parameter of the tool {name!r} has a type that JSON cannot hold. {error}") from error
    schema.pop("title", None)
    properties: dict[str, Any] = schema["properties"]
    for key, (_, default) in fields.items():
        properties[key].pop("default", None)
        if key in descriptions:
            properties[key] = {**properties[key], "description": descriptions[key]}
        if default is not inspect.Parameter.empty:
            try:
                properties[key]["default"] = json.decode(msgspec.json.encode(default, enc_hook=enc_hook))
            except TypeError:
                pass  # a default that JSON cannot hold is not told, and holds nevertheless
    return schema


# The docstring

_ARGS = re.compile(r"^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+\S.*(?:\n|$)|[ \t]*\n)+)", re.MULTILINE)
_ARG = re.compile(r"^\*{0,2}(\w+)(?:[ \t]*\([^)]*\))?:[ \t]*(.*)")


def _parsed(doc: str) -> tuple[str, dict[str, str]]:
    """Return the first paragraph on one line, and what the `Args:` section says of each parameter."""
    summary = " ".join(doc.partition("\n\n")[0].split())
    if _ARGS.match(doc):
        summary = ""
    section = _ARGS.search(doc)
    found: dict[str, str] = {}
    if section is None:
        return summary, found
    lines = inspect.cleandoc("\n" + section[1]).splitlines()
    current = ""
    for line in lines:
        if not line.startswith((" ", "\t")) and (match := _ARG.match(line)):
            current, text = match[1], match[2]
        else:
            text = line
        if current:
            found[current] = f"{found.get(current, '')} {text.strip()}".strip()
    return summary, found


# The result

_PARTS = (Text, Image, Audio, File, Opaque)


def result_content(value: Any) -> tuple[Text | Image | Audio | File | Opaque, ...]:
    """Return what a tool returned as the content of its result: text as it is, parts as they are, all else as JSON.

    Raises:
        TypeError: JSON cannot hold the value.
    """
    if isinstance(value, str):
        return (Text(value),)
    if isinstance(value, _PARTS):
        return (value,)
    if isinstance(value, ToolResult):
        return value.content
    if isinstance(value, list | tuple):
        items = tuple(cast(Any, value))
        if items and all(isinstance(item, _PARTS) for item in items):
            return items
    return (Text(msgspec.json.encode(value, enc_hook=enc_hook).decode()),)
