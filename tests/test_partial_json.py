"""Partial JSON: what is shown of unfinished text is part of what it becomes, and nothing makes it fail."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.calls.partial_json import NOTHING, PartialJSON

# What msgspec reads: no numbers beyond 64 bits of a float, no lone surrogates.
texts = st.text(st.characters(exclude_categories=("Cs",)))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, Any]:
    """JSON text in one of the ways to write it, and its value."""
    value = draw(values)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 0, 2, "\t"])))
    return draw(st.sampled_from(["{}", " {}\n", "```json\n{}\n```", "\n```\n{}\n```\n"])).replace("{}", text), value


def pieces(text: str, cuts: list[int]) -> list[str]:
    """Cut *text* at *cuts*."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def contained(part: Any, whole: Any) -> bool:
    """Whether *part* may become *whole* by growing at its end."""
    if type(part) is not type(whole):
        return False
    if isinstance(part, str):
        return bool(whole.startswith(part))
    if isinstance(part, list):
        if not part:
            return True
        return (
            part[:-1] == whole[: len(part) - 1]
            and len(part) <= len(whole)
            and contained(part[-1], whole[len(part) - 1])
        )
    if isinstance(part, dict):
        if not part:
            return True
        *complete, last = part
        same = list(part) == list(whole)[: len(part)] and all(part[key] == whole[key] for key in complete)
        return same and contained(part[last], whole[last])
    return bool(part == whole)


@given(documents())
def test_every_prefix(document: tuple[str, Any]) -> None:
    """Character by character, each value is contained in the next one and in the final one, which is the whole."""
    text, whole = document
    partial, before = PartialJSON(), NOTHING
    for character in text:
        grew = partial.feed(character)
        assert grew == (partial.value is not before)
        if grew:
            assert before is NOTHING or contained(before, partial.value)
            assert before is NOTHING or before != partial.value
            assert contained(partial.value, whole)
        before = partial.value
    partial.feed("\n")  # the end of a number at the root is not known before
    assert partial.value == whole


@given(documents(), st.lists(st.integers(min_value=0)))
def test_any_pieces(document: tuple[str, Any], cuts: list[int]) -> None:
    """However the text is cut, a prefix shows the same."""
    text, _ = document
    in_pieces, at_once = PartialJSON(), PartialJSON()
    parts = pieces(text, cuts)
    for part in parts[:-1]:
        in_pieces.feed(part)
    at_once.feed("".join(parts[:-1]))
    assert in_pieces.value is at_once.value is NOTHING or in_pieces.value == at_once.value


@given(st.text(st.sampled_from('{}[]",:\\ud8cn0 \n`-.eEtrufalsx\ud83d\ude00\x00é')), st.lists(st.integers(min_value=0)))
def test_any_text(text: str, cuts: list[int]) -> None:
    """Text that is no JSON raises nothing either, and shows the same however it is cut."""
    in_pieces, at_once = PartialJSON(), PartialJSON()
    for part in pieces(text, cuts):
        in_pieces.feed(part)
    at_once.feed(text)
    assert in_pieces.value is at_once.value is NOTHING or in_pieces.value == at_once.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", NOTHING),
        ("  ", NOTHING),
        ("``", NOTHING),
        ("```js", NOTHING),
        ("```json\n", NOTHING),
        ("Here you are: {", NOTHING),
        ("12", NOTHING),
        ("tru", NOTHING),
        ("null", NOTHING),
        ("null ", None),
        ('"', ""),
        ('"a', "a"),
        ('"a\\', "a"),
        ('"a\\u00e', "a"),
        ('"a\\u00e9', "aé"),
        ('"\\ud83d', ""),
        ('"\\ud83d\\ude0', ""),
        ('"\\ud83d\\ude00', "😀"),
        ('"\\ud83dx"', ""),
        ('"a\\x"', "a"),
        ('"a\nb"', "a"),
        ('"a\ud83db"', "a"),
        ('"\\udc00"', ""),
        ("[", []),
        ("[1", []),
        ("[1,", [1]),
        ("[1, tru", [1]),
        ("[1, true]", [1, True]),
        ("[1 2", [1]),
        ("[1e999,", []),
        ("[,", []),
        ("[1,]", [1]),
        ('[{"a": "b', [{"a": "b"}]),
        ("{", {}),
        ('{"a', {}),
        ('{"a"', {}),
        ('{"a":', {}),
        ('{"a": 1', {}),
        ('{"a": 1,', {"a": 1}),
        ('{"a": [', {"a": []}),
        ('{"a": [], "b\\"": "x"', {"a": [], 'b"': "x"}),
        ('{"a" 1', {}),
        ("{1", {}),
        ('{"a": 1]', {"a": 1}),
        ('{"a": 1} and more', {"a": 1}),
    ],
)
def test_by_hand(text: str, value: Any) -> None:
    """What some texts show."""
    at_once, one_by_one = PartialJSON(), PartialJSON()
    at_once.feed(text)
    for character in text:
        one_by_one.feed(character)
    for partial in (at_once, one_by_one):
        assert partial.value == value or partial.value is value is NOTHING


def test_values_are_made_anew() -> None:
    """A value that was given does not change when more comes."""
    partial, seen = PartialJSON(), list[Any]()
    for character in '{"a": [1, 2], "b": "xy"}':
        if partial.feed(character):
            seen.append(partial.value)
    assert seen == [
        {},
        {"a": []},
        {"a": [1]},
        {"a": [1, 2]},
        {"a": [1, 2], "b": ""},
        {"a": [1, 2], "b": "x"},
        {"a": [1, 2], "b": "xy"},
    ]


def test_depth() -> None:
    """Nesting has no bound of its own."""
    partial = PartialJSON()
    assert partial.feed("[" * 5000)
    depth, value = 0, partial.value
    while value:
        depth, value = depth + 1, value[0]
    assert depth == 4999
