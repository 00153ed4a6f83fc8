"""Thoughts between tags in the text, and what every face makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import AsyncClient, ChatCompletion, Client
from antiphon.chat.events import End, Event, Finish, ReasoningDelta, Start, TextDelta, ToolCallDelta, fold
from antiphon.chat.messages import Annotation, Reasoning, Text
from antiphon.chat.think_tags import ThinkTagParser, ThinkTags
from antiphon.providers.catalog import ProviderRow, providers
from antiphon.testing import Upstream

ANSWER = "<think>\nLet me see.\n</think>\n\nForty-two."


def split(*events: Event, tags: ThinkTags = True) -> list[Event]:
    """What becomes of *events*."""
    splitter = ThinkTagParser(tags)
    return [made for event in events for made in splitter.feed(event)]


def told(pieces: list[str], tags: ThinkTags = True) -> tuple[str | None, str | None]:
    """The thoughts and the text of an answer that comes in *pieces*."""
    folded = fold(split(Finish("stop"), *map(TextDelta, pieces), End(), tags=tags))
    return folded.choices[0].message.reasoning_content, folded.content


CASES: list[tuple[str, ThinkTags, str | None, str | None]] = [
    ("<think>why</think>because", True, "why", "because"),
    (ANSWER, True, "Let me see.", "Forty-two."),
    ("  \n<think>why</think>because", True, "why", "because"),
    ("<think>one</think>\n<think>two</think>\nthree", True, "onetwo", "three"),
    ("<think></think>\n\nno thoughts", True, None, "no thoughts"),
    ("<think>cut off", True, "cut off", None),
    ("<think>cut off</thi", True, "cut off</thi", None),
    ("<think>1 < 2, and a < b</think>yes", True, "1 < 2, and a < b", "yes"),
    ("Say <think>this</think>.", True, None, "Say <think>this</think>."),
    ("<think>why</think>Say </think>.", True, "why", "Say </think>."),
    ("<thinking>", True, None, "<thinking>"),
    ("<thi", True, None, "<thi"),
    (" \n plain", True, None, " \n plain"),
    (" \n", True, None, " \n"),
    ("why</think>because", True, None, "why</think>because"),
    ("why</think>\nbecause", "open", "why", "because"),
    ("why", "open", "why", None),
]


@pytest.mark.parametrize(("text", "tags", "thoughts", "content"), CASES, ids=lambda value: repr(value)[:30])
def test_cases(text: str, tags: ThinkTags, thoughts: str | None, content: str | None) -> None:
    """Thoughts at the beginning are told apart, whether the text comes at once or letter by letter."""
    assert told([text], tags) == (thoughts, content)
    assert told(list(text), tags) == (thoughts, content)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", "<th", "a", " ", "\n"]), max_size=8).map("".join),
    st.lists(st.integers(0, 40), max_size=5),
    st.sampled_from([True, "open"]),
)
def test_pieces_do_not_matter(text: str, cuts: list[int], tags: ThinkTags) -> None:
    """However a text is cut into pieces, its thoughts and its words are the same."""
    places = sorted(min(cut, len(text)) for cut in cuts)
    pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    assert told(pieces, tags) == told([text], tags)


@given(st.text(max_size=30))
def test_other_text_stays(text: str) -> None:
    """A text that does not begin with a tag is given on as it is."""
    if not text.lstrip().startswith("<think>"):
        assert told(list(text))[1] == (text or None)


def test_nothing_is_held_back_that_is_no_tag() -> None:
    """Thoughts and text come as soon as they cannot be a tag or the white space around one."""
    splitter = ThinkTagParser()
    made = [
        [(type(e), getattr(e, "text", "")) for e in splitter.feed(TextDelta(t))] for t in ("<think>a ", "b", "<", "/t")
    ]
    assert made == [[(ReasoningDelta, "a")], [(ReasoningDelta, " b")], [], []]
    assert splitter.feed(TextDelta("x"))[0] == ReasoningDelta("</tx")
    assert splitter.feed(TextDelta("</think>yes")) == [TextDelta("yes")]


def test_each_choice_has_its_own() -> None:
    """Of several choices, each begins with thoughts or does not."""
    pieces = [TextDelta("<think>a", 0), TextDelta("b", 1), TextDelta("</think>c", 0), TextDelta("d", 1)]
    choices = fold(split(*pieces, End("stop"))).choices
    assert [(c.message.reasoning_content, c.message.content) for c in choices] == [("a", "c"), (None, "bd")]


def test_what_else_a_piece_brings() -> None:
    """Annotations and log-probabilities are not lost with the text that was held back or told as a thought."""
    note = Annotation(kind="url_citation", url="https://a.example")
    made = split(
        TextDelta("<think>x", annotations=(note,), logprobs=({"token": "x"},)), TextDelta("</think>y"), End("stop")
    )
    assert [part.annotations for part in fold(made).choices[0].message.parts if isinstance(part, Text)] == [(note,)]


def test_held_text_comes_before_what_follows() -> None:
    """A tool call or the finish that comes while a beginning of a tag is held back does not overtake it."""
    call = ToolCallDelta(call=0, id="c", name="f")
    assert split(TextDelta("<th"), call) == [TextDelta("<th"), call]
    assert split(TextDelta("<th"), Finish("stop")) == [TextDelta("<th"), Finish("stop")]
    assert split(Start(id="x")) == [Start(id="x")]


PARTS = (Reasoning("Let me see."), Text("Forty-two."))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server that sends thoughts inside the text."""
    with Upstream(ANSWER) as server:
        yield server


@pytest.mark.anyio
async def test_async_faces(upstream: Upstream) -> None:
    """On request, a call's thoughts are the same whole and streamed; without it, the text stays as it is."""
    async with AsyncClient(base_url=upstream.base_url) as client:
        whole = await client.chat.completions.create("hi", "m", think_tags=True)
        async with client.chat.completions.stream("hi", "m", think_tags=True) as stream:
            streamed = await stream.get_final_completion()
        plain = await client.chat.completions.create("hi", "m")
    assert whole.choices[0].message.parts == streamed.choices[0].message.parts == PARTS
    assert plain.content == ANSWER
    assert "think_tags" not in upstream.requests[0].json


def test_blocking_faces(upstream: Upstream) -> None:
    """Blocking calls tell the same, chunk by chunk too."""
    with Client(base_url=upstream.base_url) as client:
        whole = client.chat.completions.create("hi", "m", think_tags=True)
        chunks = list(client.chat.completions.create("hi", "m", stream=True, think_tags=True))
        text = "".join(ChatCompletion.create("m", "hi", echo, stream=True, think_tags=True))
    assert whole.choices[0].message.parts == PARTS
    assert "".join(chunk.choices[0].delta.reasoning_content or "" for chunk in chunks) == "Let me see."
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text == "Forty-two."


def echo(model: str, messages: list[dict[str, str]]) -> Iterator[str]:
    """A provider of one's own, letter by letter."""
    yield from ANSWER


def test_servers_known_for_it(upstream: Upstream) -> None:
    """Where the catalog knows that a server sends tags, nobody has to ask; who does not want it says so."""
    known = next(row for row in providers().values() if isinstance(row, ProviderRow) and row.quirks.think_tags)
    with Client(provider=known.id, base_url=upstream.base_url, api_key="any") as client:
        assert client.chat.completions.create("hi", "m").content == "Forty-two."
        assert client.chat.completions.create("hi", "m", think_tags=False).content == ANSWER
