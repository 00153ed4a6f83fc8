"""Patches: what a codec's own way of writing leaves out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.messages import Patch
from antiphon.formats import json, patch
from tests.wire import laws

KEYS = st.sampled_from("abc")
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, "", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=3)
"""Few keys and values, so that two objects have much in common."""


@given(OBJECTS, OBJECTS)
def test_law(canonical: dict[str, Any], actual: dict[str, Any]) -> None:
    """`apply(a, diff(a, b))` is b, and neither is changed by it."""
    before = json.encode(canonical)
    laws.check_same(actual, patch.apply(canonical, patch.diff(canonical, actual)))
    assert before == json.encode(canonical)


@given(laws.json_objects, laws.json_objects)
def test_law_on_any_json(canonical: dict[str, Any], actual: dict[str, Any]) -> None:
    """The law holds for objects with nothing in common too."""
    laws.check_same(actual, patch.apply(canonical, patch.diff(canonical, actual)))


@given(OBJECTS)
def test_nothing_to_say(value: dict[str, Any]) -> None:
    """There is no patch between an object and its copy."""
    assert patch.diff(value, json.decode(json.encode(value))) is None


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything below *value*."""
    items = value.items() if json.is_object(value) else enumerate(value) if json.is_array(value) else ()
    found: list[tuple[Any, ...]] = []
    for key, inner in items:
        found += [(*path, key), *leaves(inner, (*path, key))]
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """Return what stands at *path*, or `...` where nothing does."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return ...
    return value


@given(OBJECTS, OBJECTS, st.data())
def test_a_changed_value_stays_changed(canonical: dict[str, Any], actual: dict[str, Any], data: st.DataObject) -> None:
    """A value that was set to another one after the patch was made is never brought back by it."""
    places = leaves(canonical)
    if not places:
        return
    path = data.draw(st.sampled_from(places))
    new = data.draw(
        st.sampled_from(["new", 7, None, True, 1]).filter(lambda new: not json.same(new, at(canonical, path)))
    )
    changed = json.decode(json.encode(canonical))
    at(changed, path[:-1])[path[-1]] = new
    assert json.same(new, at(patch.apply(changed, patch.diff(canonical, actual)), path))


@given(OBJECTS, OBJECTS, st.data())
def test_a_removed_field_stays_away(canonical: dict[str, Any], actual: dict[str, Any], data: st.DataObject) -> None:
    """A field that was taken out after the patch was made does not come back with its old value."""
    if not canonical:
        return
    key = data.draw(st.sampled_from(sorted(canonical)))
    changed = {name: value for name, value in canonical.items() if name != key}
    assert key not in patch.apply(changed, patch.diff(canonical, actual))


@given(OBJECTS, OBJECTS)
def test_a_new_field_stays(canonical: dict[str, Any], actual: dict[str, Any]) -> None:
    """A field that was put in after the patch was made keeps its value."""
    canonical.pop("c", None)
    changed = {**canonical, "c": "new"}
    assert patch.apply(changed, patch.diff(canonical, actual))["c"] == "new"


@pytest.mark.parametrize("grown", [[{"a": 1}], [{"a": 0}, {"a": 1}, {"a": 2}], []])
def test_an_array_of_another_length(grown: list[Any]) -> None:
    """A patch of an array's elements is passed over once the array has another length: they are other elements now."""
    made = patch.diff({"l": [{"a": 1}, {"a": 2}]}, {"l": [{"a": 1, "b": 1}, {"a": 2, "b": 2}]})
    assert {"l": grown} == patch.apply({"l": grown}, made)


def test_another_kind() -> None:
    """A patch of an object's fields is passed over where an array took its place, and the other way round."""
    assert {"v": [1]} == patch.apply({"v": [1]}, patch.diff({"v": {"a": 1}}, {"v": {"a": 2}}))
    assert {"v": {"a": 1}} == patch.apply({"v": {"a": 1}}, patch.diff({"v": [1]}, {"v": [2]}))


def test_a_stale_level_leaves_the_others() -> None:
    """One changed value makes its own level stale; what is deeper, and what is beside it, still fits."""
    made = patch.diff({"a": 1, "in": {"b": 1}}, {"in": {"b": 1, "x": None}, "y": None})
    assert {"a": 2, "in": {"b": 1, "x": None}} == patch.apply({"a": 2, "in": {"b": 1}}, made)


def test_booleans_are_no_numbers() -> None:
    """A value changed from 1 to true counts as changed."""
    assert {"a": True} == patch.apply({"a": True}, patch.diff({"a": 1}, {"a": "one"}))


def test_shape() -> None:
    """A patch says what is set, what that replaces, and what is patched inside; and the length of an array."""
    made = patch.diff({"a": 1, "b": 2, "l": [1, 2]}, {"b": 3, "c": None, "l": [1, 3]})
    assert Patch({"b": 3, "c": None}, {"a": 1, "b": 2}, {"l": Patch({1: 3}, {1: 2}, {}, 2)}) == made
    assert patch.apply({"a": 1}, None) == {"a": 1}
