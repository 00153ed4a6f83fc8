"""Bounds on the schemas that llama.cpp makes grammars of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from antiphon.chat.requests import ResponseFormat, Tool
from antiphon.errors import BadRequestError
from antiphon.providers.local.model import LocalModel
from antiphon.providers.local.schema import check_schema
from tests.local_models import Puppet, ask, puppet, question

__all__ = ["puppet"]


def nested(outer: str, times: int) -> Any:
    """A schema in a schema, so often."""
    return json.loads(outer * times + "{}" + "}" * times)


SELF = {"type": "object", "properties": {"next": {"$ref": "#"}, "all": {"type": "array", "items": {"$ref": "#"}}}}

TAKEN: list[Any] = [
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 500}, "b": {"enum": ["x"] * 100}}},
    {"type": "object", "properties": {"enum": {"type": "string"}, "$ref": {"type": "string"}, "pattern": {}}},
    SELF,
    {"$defs": {"a": {"type": "integer"}}, "anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}, {"type": "null"}]},
    {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"},
    {"type": "string", "pattern": r"^[\w.+-]{1,64}@[\w-]+(\.[\w-]{2,30})*$"},
    {"type": "string", "pattern": r"^#[0-9a-fA-F]{6}|[\]{}()]$"},
    {"type": "array", "minItems": 1, "maxItems": 100, "items": {"type": "string", "maxLength": 20}},
    nested('{"type":"array","items":', 20),
    {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(300)}},
]

REFUSED: dict[str, Any] = {
    "three repetitions": {"type": "string", "pattern": "^(((a{0,999}){0,999}){0,999})$"},
    "three small repetitions": {"type": "string", "pattern": "^((a{0,9}){0,9}){0,20}$"},
    "three stars": {"type": "string", "pattern": "^(((a*)*)*)$"},
    "a product": {"type": "string", "pattern": "^(a{0,99}){0,99}$"},
    "no least": {"type": "string", "pattern": "^(a{,99}){,99}$"},
    "a sum": {"type": "string", "pattern": "(a{0,90}b{0,90}){0,3}" * 4},
    "a huge number": {"type": "string", "pattern": "a{99999999999999}"},
    "a long pattern": {"type": "string", "pattern": "a" * 501},
    "deep groups": {"type": "string", "pattern": "(" * 40 + "a" + ")" * 40},
    "an enum": {"enum": list(range(501))},
    "several enums": {"anyOf": [{"enum": list(range(n, n + 100))} for n in range(0, 600, 100)]},
    "maxItems": {"type": "array", "maxItems": 10**9, "items": {}},
    "minLength": {"type": "string", "minLength": 10**18},
    "a product of items": {"type": "array", "maxItems": 99, "items": {"type": "array", "maxItems": 99, "items": {}}},
    "items and length": {"type": "array", "maxItems": 99, "items": {"type": "string", "maxLength": 99}},
    "a product of references": {
        "$defs": {"a": {"type": "array", "maxItems": 99, "items": {"$ref": "#/$defs/b"}}, "b": {"maxLength": 99}},
        "$ref": "#/$defs/a",
    },
    "a reference that repeats": {"type": "array", "maxItems": 9, "items": {"$ref": "#"}},
    "itself": {"$ref": "#"},
    "a circle": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
    "nothing": {"$ref": "#/$defs/none"},
    "elsewhere": {"$ref": "http://127.0.0.1:1/x"},
    "depth": nested('{"type":"array","items":', 33),
    "more depth": nested('{"items":', 300),
    "size": {"description": "x" * 130_000},
    "doubling": {
        "$defs": {
            "r0": {"type": "string"},
            **{f"r{n}": {"anyOf": [{"$ref": f"#/$defs/r{n - 1}"}] * 2} for n in range(1, 14)},
        },
        "$ref": "#/$defs/r13",
    },
    "many": {"allOf": [{"anyOf": [{"properties": {f"p{j}": {}}} for j in range(40)]} for _ in range(40)]},
}


@pytest.mark.parametrize("schema", TAKEN)
def test_schemas_that_are_taken(schema: Any) -> None:
    """Schemas as programs make them of their types are taken."""
    assert check_schema(schema, "$") == len(json.dumps(schema, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED.keys())
def test_schemas_that_are_refused(schema: Any) -> None:
    """A schema that would take llama.cpp long, or end it, is refused, with the path and what to do."""
    with pytest.raises(BadRequestError, match=r"cannot be held to this JSON schema: .* Make it simpler") as caught:
        check_schema(schema, "$.x")
    assert (caught.value.status, caught.value.param) == (400, "$.x")


@pytest.mark.anyio
@pytest.mark.parametrize("served", [False, True])
async def test_schemas_of_forms_and_tools(served: bool, puppet: Puppet) -> None:
    """The form of an answer and the parameters of tools have the bounds, together too; llama.cpp is not asked."""
    puppet.tools = True
    model = LocalModel("m.gguf", served=served)
    big = {"description": "x" * 50_000}
    for request in (
        question(response_format=ResponseFormat("json_schema", REFUSED["itself"])),
        question(tools=(Tool("f"), Tool("g", parameters=REFUSED["an enum"]))),
        question(tools=tuple(Tool(f"f{n}", parameters=big) for n in range(3))),
    ):
        with pytest.raises(BadRequestError, match="Make it simpler"):
            await ask(model, request)
    assert puppet.asked == []
