"""`chat.completions.parse`: what is asked for, what comes back, and what is said of answers that do not fit."""

from __future__ import annotations

import enum
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import AsyncClient, Client
from antiphon.calls.typed_answers import AnswerType, AsyncParseStream, ParsedCompletion, ParseStream
from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import Finish, RefusalDelta, Start, TextDelta
from antiphon.chat.messages import Message, Reasoning, Text, ToolCall
from antiphon.chat.requests import ResponseFormat
from antiphon.chat.usage import Usage
from antiphon.errors import AntiphonError, NestAsyncioError, ParseError, StreamError
from antiphon.formats.anthropic import Anthropic
from antiphon.testing import Delay, Script, Upstream
from tests.calling import in_loop

leaves_nothing = pytest.mark.usefixtures("no_leaks")


class Struct(msgspec.Struct):
    """A person."""

    name: str
    age: int


@dataclass
class Data:
    """A person."""

    name: str
    age: int


class Dict(TypedDict):
    """A person."""

    name: str
    age: int


class Model(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


class Node(msgspec.Struct):
    """Holds others of its kind."""

    value: int
    children: list[Node]


class Cat(msgspec.Struct, tag="cat"):
    """Purrs."""

    lives: int


class Dog(msgspec.Struct, tag="dog"):
    """Barks."""

    tricks: list[str]


class CatModel(pydantic.BaseModel):
    """Purrs."""

    kind: Literal["cat"]
    lives: int


class DogModel(pydantic.BaseModel):
    """Barks."""

    kind: Literal["dog"]
    owner: Model


PERSONS: list[Any] = [Struct, Data, Dict, Model]
ADA = '{"name": "Ada", "age": 36}'
Way = Callable[..., Any]


def parse_sync(provider: Any, type_: Any, **how: Any) -> Any:
    """Parse with the blocking client."""
    with Client(provider=provider) as client:
        return client.chat.completions.parse("go", "m", response_format=type_, **how)


def parse_async(provider: Any, type_: Any, **how: Any) -> Any:
    """Parse with the async client."""

    async def parse() -> Any:
        async with AsyncClient(provider=provider) as client:
            return await client.chat.completions.parse("go", "m", response_format=type_, **how)

    return in_loop(parse())


def stream_sync(provider: Any, type_: Any, **how: Any) -> Any:
    """Parse as a stream with the blocking client."""
    with Client(provider=provider) as client:
        with client.chat.completions.parse("go", "m", response_format=type_, stream=True, **how) as stream:
            return stream.get_final()


def stream_async(provider: Any, type_: Any, **how: Any) -> Any:
    """Parse as a stream with the async client."""

    async def parse() -> Any:
        async with AsyncClient(provider=provider) as client:
            async with client.chat.completions.parse("go", "m", response_format=type_, stream=True, **how) as stream:
                return await stream.get_final()

    return in_loop(parse())


def parse_nested(provider: Any, type_: Any, **how: Any) -> Any:
    """Parse with the blocking client in a running loop that lets it."""

    async def parse() -> Any:
        with Client(provider=provider, nested="thread") as client:
            return client.chat.completions.parse("go", "m", response_format=type_, **how)

    return in_loop(parse())


every_way = pytest.mark.parametrize("parse", [parse_sync, parse_async, stream_sync, stream_async, parse_nested])


def sent(type_: Any) -> ResponseFormat:
    """What is asked for."""
    return AnswerType[Any](type_).format


# --- answers


@leaves_nothing
@every_way
@pytest.mark.parametrize("type_", PERSONS)
def test_every_kind_of_type(parse: Way, type_: Any) -> None:
    """Structs, dataclasses, typed dicts and Pydantic models are asked for, strictly, and come back as themselves."""
    script = Script('{"name": "A', 'da", "ag', 'e": 36}', Usage(output_visible=3))
    answer = parse(script, type_)
    assert isinstance(answer, ParsedCompletion)
    assert type(answer.parsed) is (dict if type_ is Dict else type_)
    assert answer.parsed == type_(name="Ada", age=36)
    assert (answer.content, answer.provider, answer.usage) == (ADA, "script", Usage(output_visible=3))
    (request,) = script.requests
    assert request.response_format is not None
    format = request.response_format
    assert (format.kind, format.name, format.strict) == ("json_schema", type_.__name__, True)
    schema = msgspec.to_builtins(format.schema)
    for inner in schema["properties"].values():
        inner.pop("title", None)
    assert schema == {
        "title": type_.__name__,
        "description": "A person.",
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (list[Struct], '{"result": [{"name": "a", "age": 1}]}', [Struct("a", 1)]),
        (list[Model], '{"result": [{"name": "a", "age": 1}]}', [Model(name="a", age=1)]),
        (Cat | Dog, '{"result": {"type": "dog", "tricks": ["sit"]}}', Dog(["sit"])),
        (
            Annotated[CatModel | DogModel, pydantic.Field(discriminator="kind")],
            '{"result": {"kind": "dog", "owner": {"name": "a", "age": 1}}}',
            DogModel(kind="dog", owner=Model(name="a", age=1)),
        ),
        (Struct | None, '{"result": null}', None),
        (int, '{"result": 3, "more": 4}', 3),
        (str, '{"result": "x"}', "x"),
        (Annotated[int, ["cannot be hashed"]], '{"result": 3}', 3),
        (Literal["a", "b"], '{"result": "b"}', "b"),
        (date, '{"result": "2026-11-23"}', date(2026, 11, 23)),
        (pydantic.RootModel[list[int]], '{"result": [1]}', pydantic.RootModel[list[int]]([1])),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Node, '{"value": 1, "children": [{"value": 2, "children": []}]}', Node(1, [Node(2, [])])),
    ],
)
@pytest.mark.parametrize("parse", [parse_sync, stream_sync])
def test_roots(parse: Way, type_: Any, text: str, value: Any) -> None:
    """What is no object at the root is asked for inside of one, and given back without it."""
    schema = dict(sent(type_).schema or {})
    assert schema["type"] == "object"
    assert (list(schema.get("properties", {})) == ["result"]) == text.startswith('{"result"')
    assert parse(Script(text), type_).parsed == value


@pytest.mark.parametrize(
    "text", [ADA, f"\n {ADA}\n", f"```json\n{ADA}\n```", f"```\n{ADA}```", f" ```JSON \n\n{ADA}\n\n``` \n"]
)
def test_fences(text: str) -> None:
    """An answer may stand in a Markdown fence."""
    assert parse_sync(Script(text), Struct).parsed == Struct("Ada", 36)


def test_unknown_fields() -> None:
    """A field beyond the type's own is no fault, unless the type forbids it."""
    text = '{"name": "a", "age": 1, "more": 2}'
    assert parse_sync(Script(text), Struct).parsed == Struct("a", 1)

    class Closed(msgspec.Struct, forbid_unknown_fields=True):
        name: str
        age: int

    with pytest.raises(ParseError, match="a field that the type does not have"):
        parse_sync(Script(text), Closed)


def test_completion_keeps_its_fields() -> None:
    """A parsed completion is the whole one, and turns into JSON as that does."""
    message = Message("assistant", (Reasoning("Hm.", "sig"), Text(ADA)))
    whole = Completion(choices=(Choice(0, message, "stop"),), id="i", model="m", provider="p", usage=Usage(cost=1.0))
    answer = AnswerType(Struct).parsed(whole)
    assert (answer.id, answer.model, answer.provider, answer.usage, answer.choices) == (
        "i",
        "m",
        "p",
        whole.usage,
        whole.choices,
    )
    assert answer.to_dict() == whole.to_dict()


def test_other_parameters() -> None:
    """The other parameters of `create` are taken as there, tools too; the request is else the same."""

    def f(a: int) -> int:
        """Do it."""
        return a

    script = Script(ADA)
    parse_sync(script, Struct, temperature=0.5, tools=[f])
    assert script.requests[0].temperature == 0.5
    assert [getattr(item, "name", None) for item in script.requests[0].tools or ()] == ["f"]
    with pytest.raises(TypeError, match="no parameter 'temprature'"):
        parse_sync(script, Struct, temprature=1)


def test_nested_is_refused() -> None:
    """In a running loop the blocking `parse` says what to do instead."""

    async def main() -> None:
        with pytest.raises(NestAsyncioError, match="AsyncClient"):
            parse_sync(Script(ADA), Struct)

    in_loop(main())


def test_on_the_wire() -> None:
    """OpenAI gets `json_schema` with its name and strictness, Anthropic its own form of it."""
    with Upstream(ADA) as upstream, Client(base_url=upstream.base_url) as client:
        assert client.chat.completions.parse("go", "m", response_format=Struct).parsed == Struct("Ada", 36)
        format = upstream.requests[0].json["response_format"]
    assert format == {
        "type": "json_schema",
        "json_schema": {"name": "Struct", "schema": sent(Struct).schema, "strict": True},
    }
    with Upstream(ADA, codec=Anthropic()) as upstream:
        base_url = upstream.base_url.removesuffix("/v1")
        with Client(provider="anthropic", base_url=base_url, api_key="k") as client:
            assert client.chat.completions.parse("go", "m", response_format=Model).parsed == Model(name="Ada", age=36)
        config = upstream.requests[0].json["output_config"]
    assert config == {"format": {"type": "json_schema", "schema": sent(Model).schema}}


# --- schemas


class Optional(msgspec.Struct):
    """Has defaults."""

    a: int
    b: str | None = None
    c: Struct | None = None


class Preset(msgspec.Struct):
    """Has a default of its own."""

    a: int = 3


class Half(TypedDict):
    """May lack a key."""

    a: NotRequired[int]


class OptionalModel(pydantic.BaseModel):
    """Has defaults."""

    a: int
    b: str | None = None


class Described(msgspec.Struct):
    """Says something beside references."""

    it: Annotated[Struct, msgspec.Meta(description="Who.")]
    more: list[Annotated[Described, msgspec.Meta(description="Others.")]]


def test_nullable_defaults_are_required() -> None:
    """A property that is null by default is to be written, so that strict mode takes it; it may still be left out."""
    for type_ in (Optional, OptionalModel):
        format = sent(type_)
        assert format.strict is True
        assert format.schema is not None
        assert format.schema["required"] == list(format.schema["properties"])
        assert "default" not in format.schema["properties"]["b"]
        assert list(format.schema["properties"]) == list(type_.__annotations__)
        assert parse_sync(Script('{"a": 1}'), type_).parsed == type_(a=1)


class Tuple(msgspec.Struct):
    """Holds what strict mode does not know."""

    pair: tuple[int, str]


class Amount(msgspec.Struct):
    """Holds what strict mode does not know."""

    amount: Decimal


class Anything(msgspec.Struct):
    """Holds anything."""

    it: Any


class Mapping(msgspec.Struct):
    """Holds free keys."""

    it: dict[str, int]


@pytest.mark.parametrize(
    ("type_", "strict"),
    [
        (Struct, True),
        (type("Späße", (Struct,), {}), True),
        (Node, True),
        (list[Node], True),
        (Cat | Dog, True),
        (Annotated[CatModel | DogModel, pydantic.Field(discriminator="kind")], True),
        (Described, True),
        (date, True),
        (Preset, None),
        (Half, None),
        (Tuple, None),
        (Amount, None),
        (Anything, None),
        (Mapping, None),
        (dict[str, int], None),
    ],
)
def test_strict_where_it_can_be(type_: Any, strict: bool | None) -> None:
    """Strict mode is asked for where it takes the schema; every object of named properties is closed in any case."""
    format = sent(type_)
    assert format.strict is strict
    for node in objects(format.schema):
        if "properties" in node:
            assert node["additionalProperties"] is False
            assert strict is None or sorted(node["required"]) == sorted(node["properties"])
        assert not {"oneOf", "discriminator"} & node.keys()
        assert "$ref" not in node or len(node) == 1


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every schema inside of *schema*, and it."""
    if isinstance(schema, list):
        return [node for item in schema for node in objects(item)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(node for item in schema.values() for node in objects(item))]


def test_recursive_root() -> None:
    """A type that holds itself is written out at the root, and referred to from inside."""
    schema = sent(Node).schema or {}
    assert "$ref" not in schema
    assert schema["properties"]["children"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert schema["$defs"]["Node"]["properties"] == schema["properties"]


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (Struct, "Struct"),
        (list[Struct], "answer"),
        (Cat | Dog, "answer"),
        (int, "int"),
        (type("Späße", (Struct,), {}), "Sp__e"),
    ],
)
def test_names(type_: Any, name: str) -> None:
    """A class gives the format its name."""
    assert sent(type_).name == name


@pytest.mark.parametrize("type_", [object, Callable[[], int], 3, "Struct", type(lambda: 0)])
def test_no_types(type_: Any) -> None:
    """What JSON has no form for is a `TypeError`, before anything is asked."""
    script = Script(ADA)
    with pytest.raises(TypeError):
        parse_sync(script, type_)
    assert script.requests == []


# --- faults


class Color(enum.Enum):
    """A colour."""

    RED = "red"


class Deep(msgspec.Struct):
    """Has places for faults."""

    people: list[Struct]
    by_key: dict[str, int] = {}
    color: Color = Color.RED


class DeepModel(pydantic.BaseModel):
    """Has places for faults."""

    people: list[Model]
    by_key: dict[str, int] = {}
    color: Color = Color.RED


class Refusing(msgspec.Struct):
    """Checks itself."""

    name: str

    def __post_init__(self) -> None:
        raise ValueError(f"What is a {self.name}?")


class RefusingModel(pydantic.BaseModel):
    """Checks itself."""

    name: str

    @pydantic.field_validator("name")
    @classmethod
    def check(cls, value: str) -> str:
        """Refuse it."""
        raise ValueError(f"What is a {value}?")


@dataclass
class Mixed:
    """Holds a Pydantic model."""

    deep: list[DeepModel]


SECRET = "Zanzibar"
FAULTS: list[tuple[Any, str, str, str]] = [
    (Deep, '{"people": [{"name": "Zanzibar", "age": "Zanzibar"}]}', "$.people[0].age", "expected `int`, got `str`."),
    (Deep, '{"people": [{"name": "Zanzibar"}]}', "$.people[0]", "object missing required field `age`."),
    (Deep, '{"people": [], "by_key": {"Zanzibar": "x"}}', "$.by_key[...]", "at $.by_key[...], expected `int`"),
    (Deep, '{"people": [], "color": "Zanzibar"}', "$.color", "the value is none of those allowed there."),
    (Refusing, '{"name": "Zanzibar"}', "$", "the type does not take the value."),
    (
        list[Struct],
        '{"result": [{"name": "Zanzibar", "age": null}]}',
        "$.result[0].age",
        "at $.result[0].age, expected",
    ),
    (list[Struct], '[{"name": "Zanzibar", "age": 1}]', "$", "it has no 'result'."),
    (list[Struct], '{"Zanzibar": []}', "$", "it has no 'result'."),
    (DeepModel, '{"people": [{"name": "Zanzibar", "age": "Zanzibar"}]}', "$.people[0].age", "fault 'int_parsing'."),
    (DeepModel, '{"people": [{"age": "Zanzibar"}]}', "$.people[0].name", "fault 'missing', and 1 more."),
    (DeepModel, '{"people": [], "by_key": {"Zanzibar": "x"}}', "$.by_key.Zanzibar", "at $.by_key[...], Pydantic's"),
    (DeepModel, '{"people": [], "color": "Zanzibar"}', "$.color", "Pydantic's fault 'enum'."),
    (RefusingModel, '{"name": "Zanzibar"}', "$.name", "Pydantic's fault 'value_error'."),
    (list[Model], '{"result": [{"name": "Zanzibar"}]}', "$.result[0].age", "at $.result[0].age, Pydantic's"),
    (Mixed, '{"deep": [{"people": [{"name": "Zanzibar"}]}]}', "$.deep[0].people[0].age", "Pydantic's fault 'missing'."),
    (Struct, '{"name": "Zanzibar", "age": 1', "$", "it is not JSON (Input data was truncated)."),
    (Struct, "Zanzibar is a person.", "$", "it is not JSON (JSON is malformed: invalid character (byte 0))."),
    (Struct, f"Here: {ADA} Zanzibar", "$", "it is not JSON (JSON is malformed"),
    (Struct, f"{ADA} Zanzibar", "$", "trailing characters"),
    (Model, "Zanzibar", "$", "Pydantic's fault 'json_invalid'."),
    (list[int], "Zanzibar", "$", "it is not JSON."),
    (Struct, '{"name": "Zanzibar \ud800", "age": 1}', "$", "it is not"),
    (list[int], "Zanzibar \ud800", "$", "it is not JSON."),
    (Anything, f'{{"it": {"[" * 100_000}', "$", "nested too deeply."),
]


@every_way
@pytest.mark.parametrize(("type_", "text", "path", "words"), FAULTS)
def test_misfits(parse: Way, type_: Any, text: str, path: str, words: str) -> None:
    """An answer that does not fit is an error with its text, the path of the fault, and the whole answer."""
    with pytest.raises(ParseError) as caught:
        parse(Script(text, model="m"), type_)
    error = caught.value
    assert (error.text, error.path, error.provider, error.model) == (text, path, "script", "m")
    assert error.completion.content == text
    assert words in error.message
    assert isinstance(error, AntiphonError)
    assert isinstance(error, ValueError)
    shown = f"{error}{error.__cause__}"
    if not error.__suppress_context__:
        shown += str(error.__context__)
    assert SECRET not in shown


@given(st.text(st.sampled_from('{}[]",:Zn0 name')), st.sampled_from([Struct, Model, list[Struct], dict[str, int]]))
def test_any_text(text: str, type_: Any) -> None:
    """Whatever a model writes is of the type or is a `ParseError`."""
    answer = Completion.of(text)
    try:
        parsed = AnswerType[Any](type_).parsed(answer)
    except ParseError as error:
        found = error.completion
    else:
        found = Completion.of(parsed.content or "")
    assert found == answer


@every_way
def test_cut_off(parse: Way) -> None:
    """An answer that reached its greatest length is told as cut off."""
    with pytest.raises(ParseError, match=r"it was cut off.*max_tokens") as caught:
        parse(Script('{"name": "Ad', finish_reason="length"), Struct)
    assert caught.value.text == '{"name": "Ad'


def test_whole_in_spite_of_its_length() -> None:
    """An answer that is whole is taken, whatever is said of its end."""
    assert parse_sync(Script(ADA, finish_reason="length"), Struct).parsed == Struct("Ada", 36)


@every_way
def test_refusal(parse: Way) -> None:
    """A refusal is told as one, and its words are the text."""
    with pytest.raises(ParseError, match="the model declined to give one") as caught:
        parse(Script(RefusalDelta("I will "), RefusalDelta("not.")), Struct)
    assert caught.value.text == "I will not."
    assert caught.value.message == (
        "The answer is not of the type 'Struct': the model declined to give one; its words are in `text`."
    )


@pytest.mark.parametrize(
    ("steps", "reason", "words"),
    [
        (['{"na'], "content_filter", "content filter held it back"),
        ([ToolCall("c", "f", "{}")], "tool_calls", "asked for tools instead.*run"),
        ([" "], "stop", "the model wrote nothing"),
        ([TextDelta("")], "stop", "the model wrote nothing"),
    ],
)
def test_no_answer(steps: list[Any], reason: Any, words: str) -> None:
    """Where there is no answer to read, the error says why."""
    with pytest.raises(ParseError, match=words):
        parse_sync(Script(*steps, finish_reason=reason), Struct)


def test_no_choices() -> None:
    """An answer without choices is told as one in which nothing was written."""
    with pytest.raises(ParseError, match="the model wrote nothing"):
        AnswerType(Struct).parsed(Completion(choices=()))


def test_errors_can_be_pickled() -> None:
    """The error crosses process borders with all that it holds."""
    with pytest.raises(ParseError) as caught:
        parse_sync(Script('{"name": 1}'), Struct)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.text, copy.path, copy.message) == ('{"name": 1}', "$.name", caught.value.message)
    assert copy.completion == caught.value.completion


# --- streams

GROWTH = [
    {},
    {"name": ""},
    {"name": "A"},
    {"name": "Ada"},
    {"name": "Ada", "age": 36},
]


def test_partial_objects() -> None:
    """A stream gives the answer each time that it grows, as plain values, and at the end its value."""
    script = Script("{", '"name":', ' "', "A", "da", '", "age"', ": 3", "6", "}")
    with Client(provider=script) as client:
        with client.chat.completions.parse("go", response_format=Struct, stream=True) as stream:
            assert isinstance(stream, ParseStream)
            assert list(stream) == GROWTH
            assert stream.get_final().parsed == stream.get_final().parsed == Struct("Ada", 36)


@pytest.mark.anyio
async def test_async_partial_objects() -> None:
    """So does the async stream; only the first choice counts."""
    script = Script(Start(), "{", TextDelta("[1]", 1), '"name": "A', 'da", "age": 36}', Finish("stop", 1))
    async with AsyncClient(provider=script) as client:
        async with await client.chat.completions.parse("go", response_format=Data, stream=True) as stream:
            assert isinstance(stream, AsyncParseStream)
            assert [partial async for partial in stream] == [GROWTH[0], GROWTH[2], GROWTH[4]]
            assert (await stream.get_final()).parsed == Data("Ada", 36)


def test_partial_roots() -> None:
    """What is wrapped for the provider is shown without the wrapping."""
    script = Script("```json\n{", '"result": [{"name": "x', '"}, {}', "]}", "\n```")
    with Client(provider=script) as client:
        stream = client.chat.completions.parse("go", response_format=list[dict[str, str]], stream=True)
        assert iter(stream) is stream
        assert list(stream) == [[{"name": "x"}], [{"name": "x"}, {}]]
        assert stream.get_final().parsed == [{"name": "x"}, {}]


def test_the_iteration_ends_with_the_error() -> None:
    """Whoever reads partial objects to the end is told that the whole does not fit."""
    seen = []
    with Client(provider=Script('{"name": ', "3}")) as client:
        stream = client.chat.completions.parse("go", response_format=Struct, stream=True)
        with pytest.raises(ParseError):
            seen.extend(stream)
        with pytest.raises(StreamError, match="closed, or failed, before"):
            stream.get_final()


@every_way
def test_broken_streams(parse: Way) -> None:
    """An answer that breaks off is a `StreamError` with what there was, not a misfit."""
    with pytest.raises(StreamError) as caught:
        parse(Script('{"name": ', finish_reason=None), Struct)
    assert caught.value.received.content == '{"name": '


@leaves_nothing
@pytest.mark.parametrize("in_async", [True, False])
def test_leaving_early(in_async: bool) -> None:
    """Who leaves a stream closes the answer under way, and there is no final value."""
    script = Script('{"name": "A', Delay(60), 'da"}')

    async def main() -> None:
        client = AsyncClient(provider=script)
        async with client.chat.completions.parse("go", response_format=Struct, stream=True) as stream:
            assert await anext(stream) == {"name": "A"}
        with pytest.raises(StreamError, match="closed, or failed"):
            await stream.get_final()

    if in_async:
        in_loop(main())
    else:
        with Client(provider=script).chat.completions.parse("go", response_format=Struct, stream=True) as stream:
            assert next(stream) == {"name": "A"}
        with pytest.raises(StreamError, match="closed, or failed"):
            stream.get_final()
    assert script.open == 0
