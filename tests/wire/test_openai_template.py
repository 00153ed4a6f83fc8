"""The short way for chunks that differ in a single text; `test_openai_stream` shows that it is the long way's equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.chat.events import Event, ReasoningDelta, TextDelta, ToolCallDelta
from antiphon.formats import json
from antiphon.formats.openai_chat.stream import StreamDecoder
from antiphon.formats.openai_chat.template import Template
from tests.wire.openai_chunks import chunk


def learned(one: dict[str, Any] | bytes, before: dict[str, Any] | None = None) -> Template | None:
    """Return the template of a chunk that is read after another one."""
    payload = one if isinstance(one, bytes) else json.encode(one)
    decoder = StreamDecoder()
    decoder.feed_chunk(chunk(role="assistant", content="") if before is None else before)
    source = json.decode(payload)
    return Template.of(payload, source, decoder.feed_chunk(source))


def fragment(**function: Any) -> dict[str, Any]:
    """Make a chunk with a piece of a tool call."""
    return chunk(tool_calls=[{"index": 0, "function": function}])


BEGUN = chunk(role="assistant", tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}])


@pytest.mark.parametrize(
    ("one", "before"),
    [
        (chunk(content="a"), None),
        (chunk(content=""), None),
        (chunk(content=' "\\é\u2028\n'), None),
        (chunk(reasoning_content="a"), None),
        (chunk(reasoning="a", content=None), None),
        (chunk(reasoning="a", channel="analysis"), None),
        ({**chunk(content="a"), "usage": None, "obfuscation": "xyz"}, None),
        (fragment(arguments="a"), BEGUN),
        (
            b' { "id":"chatcmpl-1","created":7,"model":"m","choices" : [{"delta" :{"content"\t:\n"a"}, "index":0}]}',
            None,
        ),
    ],
    ids=str,
)
def test_chunks_with_one_text(one: dict[str, Any] | bytes, before: dict[str, Any] | None) -> None:
    """A chunk that brings one text, with padding or fields that do not change, has a template."""
    assert learned(one, before) is not None


PADDED = {**chunk(content="a"), "obfuscation": "xyz"}


@pytest.mark.parametrize(
    "one",
    [
        chunk(content=None),
        chunk(content="a", id="other"),
        chunk(content="a", role="critic"),
        chunk(content="a", refusal="no"),
        chunk(content="a", reasoning="hm"),
        chunk(content=[{"type": "text", "text": "a"}]),
        chunk(content="a", annotations=[{"type": "url_citation"}]),
        chunk(reasoning="a", reasoning_content="a"),
        chunk(content="a", finish_reason="stop"),
        {**chunk(content="a"), "usage": {"prompt_tokens": 1}},
        {**chunk(), "choices": [chunk(content="a")["choices"][0], chunk(index=1)["choices"][0]]},
        {**chunk(), "choices": [{"index": 0, "delta": None, "message": {"content": "a"}}]},
        {"obfuscation": "xyz", **chunk(content="a")},
        {**PADDED, "obfuscation": None},
        chunk(content="a", x={"content": "b"}),
        {"type": "ping"},
        fragment(name="f", arguments="a"),
        fragment(arguments={"a": 1}),
        chunk(tool_calls=[{"function": {"arguments": "a"}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": "a"}}] * 2),
        chunk(tool_calls=[{"index": 0, "type": "custom", "custom": {"input": "a"}}]),
    ],
    ids=str,
)
def test_chunks_with_more(one: dict[str, Any]) -> None:
    """A chunk that brings anything else, or whose meaning depends on what came before, has none."""
    before = BEGUN if "tool_calls" in str(one) else None
    assert learned(one, before) is None


def read(one: dict[str, Any], payload: bytes) -> Sequence[Event] | None:
    """Return what the template of *one* makes of *payload*."""
    template = learned(one, BEGUN if "tool_calls" in str(one) else None)
    assert template is not None
    return template.read(payload)


@pytest.mark.parametrize("text", ["", "b", '"', "\\", "é", "\u2028", "\x00", "😀", 'b","x":"c', "}"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda text: chunk(content=text), TextDelta),
        (lambda text: {**chunk(content=text), "obfuscation": text}, TextDelta),
        (lambda text: chunk(reasoning=text), ReasoningDelta),
        (lambda text: fragment(arguments=text), ToolCallDelta),
    ],
    ids=["text", "padding", "reasoning", "arguments"],
)
def test_what_fits(make: Any, kind: type[Event], text: str) -> None:
    """A chunk that differs in its text alone fits, whatever the text is."""
    found = read(make("a"), json.encode(make(text)))
    assert found is not None
    (event,) = found
    assert type(event) is kind
    assert text == (event.arguments if isinstance(event, ToolCallDelta) else getattr(event, "text", None))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[DONE]",
        json.encode(chunk(content="b", id="chatcmpl-2")),
        json.encode(chunk(content="b", finish_reason="stop")),
        json.encode(chunk(content=None)),
        json.encode(chunk(content=5)),
        json.encode(chunk(content=["b"])),
        json.encode(chunk(content="b", x=1)),
        json.encode(chunk(content="b")).replace(b'"b"', b'"b","x":"c"'),
        json.encode(chunk(content="b")).replace(b'"b"', b'"b'),
        json.encode(chunk(content="b")).replace(b'"b"', b'"\x01"'),
        json.encode(chunk(content="b")).replace(b'"b"', b'"\xff"'),
        json.encode(chunk(content="b")).replace(b'"b"', b""),
        json.encode(chunk(content="b")).replace(b'"b"', b'"b"}'),
        json.encode(chunk(content="b"))[:-1],
    ],
    ids=repr,
)
def test_what_does_not_fit(payload: bytes) -> None:
    """Anything else, malformed chunks too, does not fit and is left to the long way."""
    assert read(chunk(content="a"), payload) is None


def test_padding_that_is_missing() -> None:
    """A chunk without the padding that others have does not fit."""
    assert read(PADDED, json.encode(chunk(content="b"))) is None
    assert read(PADDED, json.encode({**PADDED, "obfuscation": None})) is not None
