"""Python types as JSON schemas, and JSON read into them. No I/O.

msgspec knows dataclasses, `TypedDict`, its own `Struct`, enums, dates and everything of `typing` that JSON can hold. A
Pydantic model is asked itself, wherever it stands; Pydantic is never imported for a type that is none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_args

import msgspec
import msgspec.inspect

from antiphon.formats import json

__all__ = ["Misfit", "adapted", "closed", "dec_hook", "enc_hook", "is_model", "json_schema", "reader"]

_REF = "#/$defs/"


class Misfit(ValueError):
    """JSON that is malformed or does not fit a type; the message never quotes it.

    Attributes:
        path: Where, as `$.people[0].name`; msgspec writes `[...]` for any key of a mapping.
        shown: The same without what may be the answer's own words.
    """

    def __init__(self, what: str, path: str, shown: str | None = None) -> None:
        super().__init__(what)
        self.path = path
        self.shown = path if shown is None else shown


# Pydantic


def is_model(type_: Any) -> bool:
    """Whether *type_* is a Pydantic model or dataclass."""
    return isinstance(type_, type) and hasattr(type_, "__pydantic_validator__")


def adapted(type_: Any) -> Any:
    """Return Pydantic's `TypeAdapter` of *type_*."""
    from pydantic import TypeAdapter  # an optional package, in use by whoever has such a type

    return TypeAdapter(type_)


def _holds_model(type_: Any) -> bool:
    return is_model(type_) or any(map(_holds_model, get_args(type_)))


def dec_hook(type_: Any, value: Any) -> Any:
    """Read a Pydantic model, the one thing in a type with a `json_schema` that msgspec's decoders do not know."""
    return adapted(type_).validate_json(json.encode(value))  # as JSON, where a date is a string even if strict


def enc_hook(value: Any) -> Any:
    """Write a value that msgspec does not know, as its encoders ask for it."""
    if is_model(type(value)):
        return adapted(type(value)).dump_python(value, mode="json")
    raise TypeError(f"A value of {type(value).__name__} cannot be written as JSON.")


# Writing schemas


def json_schema(type_: Any) -> dict[str, Any]:
    """Return the JSON schema of *type_*; the root is never a bare `$ref`.

    Raises:
        TypeError: JSON has no form for it.
    """
    if _holds_model(type_):
        schema: dict[str, Any] = adapted(type_).json_schema()
        return _inlined(schema, schema.pop("$defs", {}))
    found: dict[str, Any] = {}

    def hook(inner: Any) -> dict[str, Any]:
        if not is_model(inner):
            raise TypeError(f"JSON has no form for {inner!r}.")
        schema: dict[str, Any] = adapted(inner).json_schema(ref_template=f"{_REF}{inner.__name__}_{{model}}")
        found.update({f"{inner.__name__}_{name}": value for name, value in schema.pop("$defs", {}).items()})
        return schema

    (root,), defs = msgspec.json.schema_components([type_], schema_hook=hook, ref_template=_REF + "{name}")
    return _inlined(root, {**_in_order(type_, defs), **found})


def _in_order(type_: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """Put the properties of each `TypedDict` in the order of its class, in which the model is to write them.

    msgspec 0.22 sorts them by name; those of all other types it leaves alone.
    """
    orders: dict[str, list[str]] = {}

    def look(node: Any) -> None:
        if isinstance(node, msgspec.inspect.TypedDictType) and node.cls.__name__ not in orders:
            orders[node.cls.__name__] = list(node.cls.__annotations__)
        if isinstance(node, tuple):
            for item in cast(Any, node):
                look(item)
        elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen:
            seen[id(node)] = node
            for name in node.__struct_fields__:
                look(getattr(node, name))

    seen: dict[int, Any] = {}
    look(msgspec.inspect.type_info(type_))
    return {name: _ordered(schema, orders) for name, schema in defs.items()}


def _ordered(schema: dict[str, Any], orders: dict[str, list[str]]) -> dict[str, Any]:
    order, properties = orders.get(schema.get("title", "")), schema.get("properties", {})
    if order is None or sorted(order) != sorted(properties):
        return schema
    required = [name for name in order if name in schema["required"]]
    return {**schema, "properties": {name: properties[name] for name in order}, "required": required}


def _inlined(root: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    name = str(root.get("$ref", "")).removeprefix(_REF)
    if name in defs:
        beside = {key: value for key, value in root.items() if key != "$ref"}
        root = {**defs[name], **beside}
        others = {key: value for key, value in defs.items() if key != name}
        if _REF.encode() + json.encode(name)[1:] not in json.encode([root, others]):  # it does not hold itself
            defs = others
    return {**root, "$defs": defs} if defs else root


# What OpenAI's strict mode takes: besides these, every property must be required and none but these allowed.
# Source: OpenAI's guide to structured outputs, "Supported schemas", from memory (2026-11-23), and openai 3.54,
# `lib/_pydantic.py` (read 2026-11-23).
_STRICT_KEYS = frozenset(
    "type properties required additionalProperties items anyOf $ref $defs enum const title description pattern format "
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems maxItems".split()
)
_STRICT_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")


def closed(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return *schema* as a model is best told it, and whether it is one for strict mode.

    It means the same to who reads the answer: objects of named properties allow no others, a property that may be null
    and is null by default must be written, a union told apart by a tag is a plain `anyOf`.
    """
    closing = _Closing(schema.get("$defs", {}))
    return closing.schema(schema), closing.strict


class _Closing:
    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs
        self._within: list[str] = []
        self.strict = True

    def schema(self, node: Any) -> Any:
        if not json.is_object(node) or not node:
            self.strict = False  # anything, or nothing
            return node
        name = str(node.get("$ref", "")).removeprefix(_REF)
        if len(node) > 1 and name in self._defs:
            return self._beside(node, name)
        if "discriminator" in node:
            node = {"anyOf" if key == "oneOf" else key: value for key, value in node.items() if key != "discriminator"}
        result = {key: self._value(key, value) for key, value in node.items()}
        if node.get("type") == "object":
            self._object(result)
        if not result.keys() <= _STRICT_KEYS or result.get("format", "date") not in _STRICT_FORMATS:
            self.strict = False
        return result

    def _beside(self, node: dict[str, Any], name: str) -> Any:
        """Write what *node* refers to in its place: strict mode takes nothing beside a reference."""
        if name in self._within:
            return {"$ref": node["$ref"]}
        self._within.append(name)
        result = self.schema({**self._defs[name], **{key: value for key, value in node.items() if key != "$ref"}})
        self._within.pop()
        return result

    def _value(self, key: str, value: Any) -> Any:
        if key in ("properties", "$defs"):
            return {name: self.schema(inner) if key == "$defs" else inner for name, inner in value.items()}
        if key == "items" or (key == "additionalProperties" and json.is_object(value)):
            return self.schema(value)
        if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            return [self.schema(inner) for inner in value]
        return value

    def _object(self, node: dict[str, Any]) -> None:
        """Close the object *node*, in place."""
        properties: dict[str, Any] = node.get("properties", {})
        required = [*node.get("required", ())]
        if "properties" in node:
            node.setdefault("additionalProperties", False)
        for name, inner in properties.items():
            if name not in required and json.is_object(inner) and inner.get("default", 0) is None:
                inner = {key: value for key, value in inner.items() if key != "default"}
                required.append(name)
            properties[name] = self.schema(inner)
        if properties:
            node["required"] = [name for name in properties if name in required]
        if node.get("additionalProperties") is not False or len(required) < len(properties):
            self.strict = False


# Reading


def reader(type_: Any, schema: Mapping[str, Any]) -> Callable[[bytes], Any]:
    """Return what reads JSON as *type_*, whose *schema* tells which words are not the answer's own; raises `Misfit`."""
    known = _names(schema)
    if _holds_model(type_):
        validate: Callable[[bytes], Any] = adapted(type_).validate_json
    else:
        validate = msgspec.json.Decoder(type_, dec_hook=dec_hook).decode

    def read(data: bytes) -> Any:
        try:
            return validate(data)
        except RecursionError:
            misfit = Misfit("it is nested too deeply.", "$")
        except ValueError as error:  # msgspec's and Pydantic's are such
            misfit = _misfit(error, known)
        raise misfit  # not from the cause, whose words may be the answer's

    return read


def _names(schema: Any) -> frozenset[str]:
    """Collect every property that *schema* knows, at any depth."""
    if json.is_object(schema):
        own = schema.get("properties")
        names: frozenset[str] = frozenset(own if json.is_object(own) else ())
        return names.union(*map(_names, schema.values()))
    return frozenset[str]().union(*map(_names, schema)) if json.is_array(schema) else frozenset()


_PLACED = re.compile(r"(.*?)(?: - at `(\$[^`]*)`)?", re.DOTALL)
_SAFE = ("Expected `", "Object missing required field ")
_VEILED = {
    "Invalid enum value": "the value is none of those allowed there.",
    "Invalid value": "the value is none of those allowed there.",
    "Object contains unknown field": "there is a field that the type does not have.",
}


def _misfit(error: ValueError, known: frozenset[str]) -> Misfit:
    if (faults := _faults(error)) is not None:
        return _of_pydantic(faults, "$", known)
    if isinstance(error, msgspec.ValidationError):
        match = _PLACED.fullmatch(str(error))
        what, path = (match[1], match[2] or "$") if match else ("", "$")
        if (inner := _faults(error.__cause__)) is not None:
            return _of_pydantic(inner, path, known)
        if what.startswith(_SAFE):
            return Misfit(f"{what[0].lower()}{what[1:]}.", path)
        veiled = (words for start, words in _VEILED.items() if what.startswith(start))
        return Misfit(next(veiled, "the type does not take the value."), path)
    words = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
    return Misfit(f"it is not JSON ({words}).", "$")


def _faults(error: BaseException | None) -> Sequence[Mapping[str, Any]] | None:
    """Return what Pydantic lists of what is wrong, if *error* is one of its own."""
    listed: Any = getattr(error, "errors", None)
    if not callable(listed) or not hasattr(error, "error_count"):
        return None
    found: Sequence[Mapping[str, Any]] = cast(Any, listed)(
        include_url=False, include_context=False, include_input=False
    )
    return found


def _of_pydantic(faults: Sequence[Mapping[str, Any]], start: str, known: frozenset[str]) -> Misfit:
    path = shown = start
    for step in faults[0]["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if step in known else "[...]"
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    # Pydantic's own words may quote the value; the name of the fault never does.
    return Misfit(f"Pydantic's fault {faults[0]['type']!r}{more}.", path, shown)
