"""Functions as tools: what the model is told of them, how they are called, and which are refused."""

from __future__ import annotations

import enum
import functools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import msgspec
import pydantic
import pytest

import antiphon
from antiphon.calls.tools import FunctionTool, definition, tool
from antiphon.chat.requests import Tool


class Color(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """Where."""

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


class Size(TypedDict):
    """How large."""

    width: float
    height: NotRequired[float]


class Box(msgspec.Struct):
    """A box."""

    at: Point
    inner: Box | None = None


class Pet(pydantic.BaseModel):
    """A pet."""

    name: str
    friends: list[Pet] = []


def look_up(  # noqa: D417
    city: str,
    day: date,
    unit: Literal["C", "F"] = "C",
    near: Optional[Point] = None,  # noqa: UP045 - the old way of writing it counts as well
    limit: Annotated[int, msgspec.Meta(ge=1, description="How many.")] = 3,
) -> str:
    """Look up the weather
    of a city.

    It may be wrong.

    Args:
        city: Its name, in English;
            with the country: if need be.
        day (date): Which day.
        limit: This gives way to the annotation.
        unknown: There is no such parameter.

    Returns:
        near: The weather.
    """  # noqa: D205
    return f"{city} {day!r} {unit} {near} {limit}"


def parameters(function: Any) -> dict[str, Any]:
    """The schema of a function's arguments."""
    return dict(tool(function).definition.parameters or {})


def test_definition() -> None:
    """Name, description and schema come from the signature and the docstring."""
    assert tool(look_up).definition == Tool(
        "look_up",
        "Look up the weather of a city.",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name, in English; with the country: if need be."},
                "day": {"type": "string", "format": "date", "description": "Which day."},
                "unit": {"enum": ["C", "F"], "default": "C"},
                "near": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}], "default": None},
                "limit": {"type": "integer", "minimum": 1, "description": "How many.", "default": 3},
            },
            "required": ["city", "day"],
            "additionalProperties": False,
            "$defs": {
                "Point": {
                    "title": "Point",
                    "description": "Where.",
                    "type": "object",
                    "properties": {
                        "x": {"type": "integer"},
                        "y": {"type": "integer", "default": 0},
                        "tags": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["x"],
                }
            },
        },
    )


def test_call() -> None:
    """Arguments are read as the types of the signature; what is left out has the function's own default."""
    look = tool(look_up)
    assert look.call('{"city": "Bonn", "day": "2026-11-23", "near": {"x": 1}}') == (
        "Bonn datetime.date(2026, 11, 23) C Point(x=1, y=0, tags=[]) 3"
    )
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int` >= 1 - at `\$.limit`"):
        look.call('{"city": "Bonn", "day": "2026-11-23", "limit": 0}')


def test_still_a_function() -> None:
    """A decorated function can be called as before, and tells its docstring."""

    @antiphon.tool
    def double(n: int) -> int:
        """Double it."""
        return 2 * n

    assert isinstance(double, FunctionTool)
    assert (double(4), double.call('{"n": 4}'), double.__doc__) == (8, 8, "Double it.")
    assert repr(double) == "FunctionTool('double')"


def test_named() -> None:
    """Name and description can be given, to the decorator or to the function."""

    @tool(name="twice", description="Do it twice.")
    def double(n: int) -> int:
        return 2 * n

    assert (double.definition.name, double.definition.description) == ("twice", "Do it twice.")
    again = tool(double, name="once-more")
    assert (again.name, again.definition.description, again.call('{"n": 1}')) == ("once-more", None, 2)


@pytest.mark.parametrize(
    ("annotation", "schema", "given", "value"),
    [
        (Color, {"title": "Color", "description": "A colour.", "enum": ["blue", "red"]}, "red", Color.RED),
        (Size, None, {"width": 1.5}, {"width": 1.5}),
        (Box, None, {"at": {"x": 1}, "inner": {"at": {"x": 2}}}, Box(Point(1), Box(Point(2)))),
        (Pet, None, {"name": "a", "friends": [{"name": "b"}]}, Pet(name="a", friends=[Pet(name="b")])),
        (list[Pet], None, [{"name": "a"}], [Pet(name="a")]),
        (Pet | None, None, None, None),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
        (bool | str, None, True, True),
        (Any, {}, [1, "x"], [1, "x"]),
        (bytes, {"type": "string", "contentEncoding": "base64"}, "aGk=", b"hi"),
    ],
)
def test_types(annotation: Any, schema: Any, given: Any, value: Any) -> None:
    """Everything that JSON can hold can be a parameter, a Pydantic model too, and arrives as what it is."""

    def take(it: Any) -> Any:
        return it

    take.__annotations__["it"] = annotation
    it = tool(take)
    assert it.call(msgspec.json.encode({"it": given}).decode()) == value
    told = parameters(take)
    if schema is not None:
        inner = told["properties"]["it"]
        assert told.get("$defs", {}).get(inner.get("$ref", "").removeprefix("#/$defs/"), inner) == schema
    assert references(told) <= {f"#/$defs/{name}" for name in told.get("$defs", {})}


def references(schema: Any) -> set[str]:
    """Every `$ref` in *schema*."""
    if isinstance(schema, dict):
        own = {schema["$ref"]} if "$ref" in schema else set()
        return own.union(*map(references, schema.values()))
    return set().union(*map(references, schema)) if isinstance(schema, list) else set()


def test_pydantic_faults_reach_the_model() -> None:
    """What Pydantic finds wrong is an error of the arguments, with the place."""

    def take(pet: Pet) -> None: ...

    with pytest.raises(msgspec.ValidationError, match=r"name\n.*Field required(.|\n)*at `\$.pet`"):
        tool(take).call('{"pet": {}}')


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Annotated[int, "How many."], "How many."),
        (Annotated[int, pydantic.Field(description="How many.")], "How many."),
        (Annotated[Point, msgspec.Meta(description="How many.")], "How many."),
        (Annotated[int, 3], "From the docstring."),
    ],
)
def test_descriptions_in_annotations(annotation: Any, text: str) -> None:
    """An annotation's own description goes before the docstring's."""

    def take(n: Any) -> None:
        """Take it.

        Args:
            n: From the docstring.
        """

    take.__annotations__["n"] = annotation
    assert parameters(take)["properties"]["n"]["description"] == text


@pytest.mark.parametrize(
    ("doc", "description", "of_n"),
    [
        (None, None, None),
        ("", None, None),
        ("One.", "One.", None),
        ("\n    Args:\n        n: It.\n    ", None, "It."),
        (
            "One.\n\nArguments:\n  n (int, optional): It\n    goes on\n\n    and on.\n\nRaises:\n  n: Not it.",
            "One.",
            "It goes on and on.",
        ),
        ("One.\n\n    Args:\n        n: It.\n    ", "One.", "It."),
        ("One.\n\nArgs: n, which is it", "One.", None),
    ],
)
def test_docstrings(doc: str | None, description: str | None, of_n: str | None) -> None:
    """The first paragraph and the `Args:` section are read, and nothing is made up where there are none."""

    def take(n: int) -> None: ...

    take.__doc__ = doc
    told = tool(take).definition
    assert told.description == description
    assert told.parameters is not None
    assert told.parameters["properties"]["n"].get("description") == of_n


class Counter:
    """Has methods."""

    def __init__(self) -> None:
        self.n = 0

    def count(self, by: int = 1) -> int:
        """Count."""
        self.n += by
        return self.n

    @staticmethod
    def zero(of: str) -> int:
        """Give zero."""
        return 0

    @classmethod
    def new(cls, n: int) -> Counter:
        """Make one."""
        return cls()

    def __call__(self, by: int) -> int:
        """Count, too."""
        return self.count(by)


class AsyncCounter:
    """Can be called, and awaited."""

    async def __call__(self, by: int) -> int:
        """Count."""
        return by


def test_methods() -> None:
    """Bound methods, static ones, those of classes, and objects that can be called are tools."""
    counter = Counter()
    assert tool(counter.count).call('{"by": 3}') == tool(counter.count).call('{"by": 0}') == 3
    assert tool(counter.count).call("") == 4
    assert [tool(f).name for f in (counter.count, Counter.zero, Counter.new)] == ["count", "zero", "new"]
    assert (tool(counter, name="c").call('{"by": 1}'), tool(counter, name="c").definition.description) == (
        5,
        "Count, too.",
    )
    assert [tool(f, name="f").on_loop for f in (counter, AsyncCounter(), AsyncCounter().__call__)] == [
        False,
        True,
        True,
    ]


def test_partial() -> None:
    """What a partial fixes the model neither sees nor sets; name and docstring are those of the function."""
    fixed = functools.partial(functools.partial(look_up, "Bonn"), unit="F")
    it = tool(fixed)
    assert (it.name, it.definition.description) == ("look_up", "Look up the weather of a city.")
    assert list(parameters(fixed)["properties"]) == ["day", "near", "limit"]
    assert it.call('{"day": "2026-01-01"}') == "Bonn datetime.date(2026, 1, 1) F None 3"
    with pytest.raises(msgspec.ValidationError, match="unknown field `unit`"):
        it.call('{"day": "2026-01-01", "unit": "C"}')


def test_decorated() -> None:
    """A wrapper that says whose it is shows the signature of that."""

    @functools.wraps(look_up)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        return look_up(*args, **kwargs).upper()

    assert tool(wrapper).definition == tool(look_up).definition
    assert tool(wrapper).call('{"city": "b", "day": "2026-01-01"}').startswith("B ")


def test_defaults_that_are_no_json() -> None:
    """A default that JSON cannot hold is not told, and holds nevertheless."""
    nothing = object()

    def take(n: int = nothing, p: Point = Point(1), t: tuple[int, ...] = (1,)) -> Any:  # type: ignore[assignment]  # noqa: B008
        return n, p, t

    properties = parameters(take)["properties"]
    assert [value.get("default") for value in properties.values()] == [None, {"x": 1, "y": 0, "tags": []}, [1]]
    assert "default" not in properties["n"]
    assert tool(take).call("{}") == (nothing, Point(1), (1,))


def test_no_parameters() -> None:
    """A function without parameters has an empty object for a schema, and may be called with nothing at all."""

    def ping() -> str:
        return "pong"

    assert parameters(ping) == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    assert [tool(ping).call(text) for text in ("", " ", "{}")] == ["pong"] * 3


def bare(a, b: int) -> None:  # type: ignore[no-untyped-def]
    """Do nothing."""


def positional(a: int, /) -> None:
    """Do nothing."""


def many(*items: int) -> None:
    """Do nothing."""


def named(**items: int) -> None:
    """Do nothing."""


def unknown(a: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Do nothing."""


def opaque(a: object) -> None:
    """Do nothing."""


def caller(a: Callable[[], int]) -> None:
    """Do nothing."""


def two_models(a: Pet | pydantic.RootModel[int]) -> None:
    """Do nothing."""


def yields(a: int) -> Iterator[int]:
    """Yield it."""
    yield a


async def yields_async(a: int) -> AsyncIterator[int]:
    """Yield it."""
    yield a


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (bare, "The parameter 'a' of the tool 'bare' has no annotation.*write a: str"),
        (positional, "'a' of the tool 'positional' is positional-only.*remove the '/'"),
        (many, "'items' of the tool 'many' takes any number of values: write one parameter with a list"),
        (named, "'items' of the tool 'named' takes any name: write the parameters one by one, or one with a dict"),
        (unknown, "The signature of the tool 'unknown' cannot be read: name 'Nowhere' is not defined"),
        (max, "The signature of the tool 'max' cannot be read: no signature found"),
        (opaque, "A parameter of the tool 'opaque' has a type that JSON cannot hold. .*object"),
        (caller, "A parameter of the tool 'caller' has a type that JSON cannot hold. .*Callable"),
        (two_models, "A parameter of the tool 'two_models' has a type that JSON cannot hold. .*"),
        (yields, "'yields' yields; a tool must return"),
        (yields_async, "'yields_async' yields; a tool must return"),
        (Counter.count, "'self' of the tool 'count' is the object of a method: make a tool of the bound method"),
        (lambda: 1, "cannot be called '<lambda>': pass tool"),
        (Counter(), "cannot be called '__call__': pass tool"),
        (3, "A tool is made of a function, not of 3"),
    ],
)
def test_refused(function: Any, words: str) -> None:
    """What cannot be a tool is a `TypeError` that names it and says what to do."""
    with pytest.raises(TypeError, match=f"(?s){words}"):
        tool(function)


def test_refused_name() -> None:
    """A name that providers do not take is an error, however it came about."""
    with pytest.raises(TypeError, match="'look up'"):
        tool(look_up, name="look up")
    with pytest.raises(TypeError, match="''"):
        tool(look_up, name="")


def test_definition_of_anything() -> None:
    """In `tools=` a function stands for its definition, and anything else for itself."""
    assert definition(look_up) == definition(tool(look_up)) == tool(look_up).definition
    source = {"type": "web_search"}
    assert definition(source) is source


def test_pydantic_is_not_imported() -> None:
    """Whoever has no Pydantic types does not load Pydantic."""
    code = (
        "import sys, antiphon\n"
        "from antiphon.testing import Script\n"
        "def f(a: int, b: list[str]) -> int: ...\n"
        "c = antiphon.Client(provider=Script('{\"a\": 1}')).chat.completions\n"
        "c.run('x', tools=[f])\n"
        "c.parse('x', response_format=dict[str, int])\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
