"""The events of an answer as the chunks that callers see."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.answers import ChunkChoice, CompletionChunk, Delta, FunctionDelta, ToolCallChunk
from antiphon.chat.chunks import Chunker
from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    Finish,
    MessageDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
    fold,
)
from antiphon.chat.losses import Loss
from antiphon.chat.messages import Annotation, Audio, Image
from antiphon.chat.usage import Usage

START = Start(id="c1", model="m", created=7, provider="p")
USAGE = Usage(input_uncached=3, output_visible=2)


def chunked(*events: Event, separate_usage: bool = False) -> list[CompletionChunk]:
    """All chunks of *events*."""
    chunker = Chunker(separate_usage=separate_usage)
    return [chunk for event in events for chunk in chunker.feed(event)]


def chunk(*choices: ChunkChoice, usage: Usage | None = None) -> CompletionChunk:
    """A chunk of that answer."""
    return CompletionChunk("c1", list(choices), 7, "m", "p", usage)


def one(delta: Delta, finish: Any = None, usage: Usage | None = None, index: int = 0) -> CompletionChunk:
    """A chunk of one choice."""
    return chunk(ChunkChoice(index, delta, finish), usage=usage)


def test_text() -> None:
    """Each piece of text is a chunk; the first tells the role, the last the reason and the usage."""
    assert chunked(START, TextDelta("a"), TextDelta("b"), End("stop", USAGE)) == [
        one(Delta("a", "assistant")),
        one(Delta("b")),
        one(Delta(), "stop", USAGE),
    ]


def test_role_of_its_own() -> None:
    """A role that comes before the text is a chunk of its own, and is told once."""
    assert chunked(START, MessageDelta(role="assistant"), MessageDelta(role="assistant"), TextDelta("a")) == [
        one(Delta(role="assistant")),
        one(Delta("a")),
    ]


def test_separate_usage() -> None:
    """Asked for as OpenAI has it, usage comes in an extra chunk without choices, and only where there is any."""
    events = (START, TextDelta("a"), Finish("stop"))
    assert chunked(*events, End(usage=USAGE), separate_usage=True)[1:] == [one(Delta(), "stop"), chunk(usage=USAGE)]
    assert chunked(*events, End(), separate_usage=True)[1:] == [one(Delta(), "stop")]


@pytest.mark.parametrize("place", range(4))
def test_usage_anywhere(place: int) -> None:
    """Usage may come at any time; it stands on the last chunk."""
    events: list[Event] = [START, TextDelta("a"), Finish("stop"), End()]
    events.insert(place, UsageUpdate(USAGE))
    assert [USAGE] == [c.usage for c in chunked(*events) if c.usage is not None]
    assert chunked(*events)[-1] == one(Delta(), "stop", USAGE)


def test_last_usage_wins() -> None:
    """Later counts replace earlier ones, and what is not counted again stays."""
    updates = (UsageUpdate(USAGE), UsageUpdate(Usage(output_visible=9)), UsageUpdate(Usage()))
    assert chunked(START, TextDelta("a"), *updates, End("stop"))[-1].usage == Usage(input_uncached=3, output_visible=9)
    assert chunked(START, TextDelta("a"), *updates, End("stop", USAGE))[-1].usage == USAGE
    last = chunked(START, TextDelta("a"), UsageUpdate(USAGE), End("stop", Usage(output_visible=7)))[-1]
    assert last.usage == Usage(input_uncached=3, output_visible=7)


def test_native_reason() -> None:
    """The provider's own word for its reason stands beside the canonical one."""
    last = chunked(START, TextDelta("a"), Finish("other", 0, "weary"), End())[-1]
    assert ("other", "weary") == (last.choices[0].finish_reason, last.choices[0].native_finish_reason)


def test_end_without_a_reason() -> None:
    """Where nobody said why the answer ended, it is not guessed to be a stop."""
    assert chunked(START, TextDelta("a"), End())[-1] == one(Delta(), "other")
    assert chunked(START, End("stop")) == [one(Delta(), "stop")]


def test_several_choices() -> None:
    """Each choice begins with its role and ends with its reason; only the last chunk of all has the usage."""
    events = (START, TextDelta("a"), TextDelta("b", 1), Finish("stop"), Finish("length", 1), End(usage=USAGE))
    assert chunked(*events) == [
        one(Delta("a", "assistant")),
        one(Delta("b", "assistant"), index=1),
        one(Delta(), "stop"),
        one(Delta(), "length", USAGE, index=1),
    ]


def test_end_stands_for_choices_that_did_not_finish() -> None:
    """The reason of the end is that of every choice that told none."""
    events = (START, TextDelta("a"), TextDelta("b", 1), TextDelta("c", 2), Finish("length", 1), End("stop", USAGE))
    finishes = [(c.choices[0].index, c.choices[0].finish_reason, c.usage) for c in chunked(*events)[3:]]
    assert [(1, "length", None), (0, "stop", None), (2, "stop", USAGE)] == finishes


TOKENS = ({"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []},)
PIECES: list[tuple[Event, ChunkChoice]] = [
    (ReasoningDelta("hm"), ChunkChoice(0, Delta(None, "assistant", reasoning_content="hm"))),
    (RefusalDelta("no"), ChunkChoice(0, Delta(None, "assistant", refusal="no"))),
    (
        RefusalDelta("no", logprobs=TOKENS),
        ChunkChoice(0, Delta(None, "assistant", refusal="no"), None, {"refusal": list(TOKENS)}),
    ),
    (
        TextDelta("a", logprobs=TOKENS),
        ChunkChoice(0, Delta("a", "assistant"), None, {"content": list(TOKENS)}),
    ),
    (
        TextDelta("a", annotations=(Annotation(url="u"),)),
        ChunkChoice(0, Delta("a", "assistant", annotations=[Annotation(url="u")])),
    ),
    (
        ToolCallDelta(call=1, id="x", name="f", arguments="{"),
        ChunkChoice(0, Delta(None, "assistant", [ToolCallChunk(1, "x", FunctionDelta("f", "{"), "function")])),
    ),
    (
        ToolCallDelta(call=1, arguments="}"),
        ChunkChoice(0, Delta(None, "assistant", [ToolCallChunk(1, None, FunctionDelta(None, "}"), None)])),
    ),
    (
        ToolCallDelta(call=0, id="x", name="f", kind="custom"),
        ChunkChoice(0, Delta(None, "assistant", [ToolCallChunk(0, "x", FunctionDelta("f", ""), "custom")])),
    ),
    (
        AudioDelta(id="a", data="AAAA", transcript="t", expires_at=5),
        ChunkChoice(0, Delta(None, "assistant", audio=Audio(id="a", data="AAAA", transcript="t", expires_at=5))),
    ),
    (
        PartAdded(Image(url="u")),
        ChunkChoice(0, Delta(None, "assistant", parts=[Image(url="u")])),
    ),
    (
        PartAdded(Audio(id="a")),
        ChunkChoice(0, Delta(None, "assistant", audio=Audio(id="a"), parts=[Audio(id="a")])),
    ),
]


@pytest.mark.parametrize(("event", "expected"), PIECES, ids=lambda value: type(value).__name__)
def test_pieces(event: Event, expected: ChunkChoice) -> None:
    """Every kind of content has its place in a chunk, of OpenAI's name where OpenAI has one."""
    assert chunked(START, event) == [chunk(expected)]


@pytest.mark.parametrize("event", [Start(id="c2"), UsageUpdate(USAGE), UnknownEvent("f", {}), MessageDelta()])
def test_nothing_to_see(event: Event) -> None:
    """What brings nothing that a caller sees makes no chunk."""
    assert chunked(START, event) == []


def test_who_answers_may_change() -> None:
    """A later start replaces what it names, and leaves the rest."""
    events = (START, TextDelta("a"), Start(model="m-2"), TextDelta("b"))
    assert [("c1", "m", "p"), ("c1", "m-2", "p")] == [(c.id, c.model, c.provider) for c in chunked(*events)]


def test_finish_reason_does_not_come_before_the_text() -> None:
    """A choice's reason is held until its answer is over, so that its chunk is the last one."""
    events = (START, Finish("stop"), TextDelta("late"), End())
    assert [None, "stop"] == [c.choices[0].finish_reason for c in chunked(*events)]


texts = st.lists(st.tuples(st.integers(0, 2), st.text(max_size=3)), min_size=1, max_size=8)


@given(
    texts,
    st.sets(st.integers(0, 2)),
    st.sampled_from(["stop", "length"]),
    st.one_of(st.none(), st.just(USAGE)),
    st.booleans(),
)
def test_chunks_add_up(
    texts: list[tuple[int, str]], finished: set[int], reason: Any, usage: Usage | None, separate_usage: bool
) -> None:
    """Put together by hand, the chunks are the folded answer: text, reasons and usage of every choice."""
    spoken = {choice for choice, _ in texts}
    finishes = [Finish("content_filter", choice) for choice in sorted(finished & spoken)]
    events: list[Event] = [START, *(TextDelta(text, choice) for choice, text in texts), *finishes, End(reason, usage)]
    whole = fold(events)
    content = dict.fromkeys(spoken, "")
    reasons: dict[int, Any] = {}
    usages = []
    for c in chunked(*events, separate_usage=separate_usage):
        usages += [] if c.usage is None else [c.usage]
        for choice in c.choices:
            assert choice.index not in reasons
            content[choice.index] += choice.delta.content or ""
            if choice.finish_reason is not None:
                reasons[choice.index] = choice.finish_reason
    assert content == {choice.index: choice.message.content for choice in whole.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usages == ([] if whole.usage is None else [whole.usage])


def test_the_receipt_rides_on_the_last_chunk() -> None:
    """What of the request was lost stands on the last chunk, whatever that is."""
    losses = [Loss("dropped", "$.seed", "No seed here.")]
    for separate_usage in (False, True):
        chunker = Chunker(separate_usage=separate_usage, losses=losses)
        made = [chunk for event in (START, TextDelta("a"), End("stop", USAGE)) for chunk in chunker.feed(event)]
        assert [chunk.losses for chunk in made] == [()] * (len(made) - 1) + [tuple(losses)]
