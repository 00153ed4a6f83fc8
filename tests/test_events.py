"""Events, and the one place where an answer is put together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    Finish,
    Folder,
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
    unfold,
)
from antiphon.chat.messages import (
    Annotation,
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Patch,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.chat.usage import Usage
from tests.wire import laws
from tests.wire.laws import counts, extras, maybe, names, texts

EXTRAS = st.builds(lambda one, other: {**(one or {}), **(other or {})} or None, extras("a"), extras("b"))
FORMS = maybe(st.builds(lambda fields: {"a": Patch(fields, {}, {})}, laws.unknown_fields))
BESIDE = {"extra": EXTRAS, "form": FORMS}
LOGPROBS = maybe(st.lists(laws.unknown_fields, max_size=2).map(tuple))
PARTS: st.SearchStrategy[Part] = (
    st.builds(Text, texts, laws.citations("a"), LOGPROBS, **BESIDE)
    | st.builds(Reasoning, texts, maybe(texts), **BESIDE)
    | st.builds(Refusal, texts, LOGPROBS, **BESIDE)
    | laws.images(EXTRAS)
    | laws.files(EXTRAS)
    | st.builds(Audio, id=maybe(names), data=maybe(texts), transcript=maybe(texts), expires_at=maybe(counts), **BESIDE)
    | laws.tool_calls(EXTRAS, kinds=["function", "custom"])
    | st.builds(Opaque, names, laws.json_values, **BESIDE)
    | st.builds(ToolResult, names, st.just((Text("a"),)), maybe(st.booleans()), maybe(names), **BESIDE)
)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    """Give any answers: parts in any order, finished or not, with whatever formats say beside."""
    provider = draw(maybe(names))
    choices: list[Choice] = []
    for index in sorted(draw(st.sets(st.integers(0, 9), max_size=3))):
        parts = draw(st.lists(PARTS, max_size=4).map(tuple))
        message = Message(draw(names), parts, None, provider, extra=draw(EXTRAS), form=draw(FORMS))
        reason = draw(maybe(laws.finish_reasons()))
        end = (draw(maybe(texts)), draw(EXTRAS), draw(FORMS)) if reason is not None else ()
        choices.append(Choice(index, message, reason, *end))
    return Completion(
        choices=tuple(choices),
        id=draw(texts),
        model=draw(texts),
        created=draw(counts),
        provider=provider,
        usage=draw(maybe(laws.usages("a"))),
        extra=draw(EXTRAS),
        form=draw(FORMS),
    )


@given(completions())
def test_law_2(completion: Completion) -> None:
    """Any answer that is taken apart and put together is the same answer."""
    laws.check_folding(completion)


@given(completions())
def test_a_prefix_of_an_answer(completion: Completion) -> None:
    """An answer may be looked at any time on its way, and looking changes nothing."""
    folder = Folder()
    for event in unfold(completion):
        assert not folder.ended
        folder.add(event)
        folder.completion()
    assert folder.ended
    assert folder.completion() == folder.completion() == completion


def parts(*events: Event) -> tuple[Part, ...]:
    """Return the parts of the first choice that *events* make."""
    return fold(events).choices[0].message.parts


def test_nothing() -> None:
    """No events make an answer without choices."""
    assert fold([]) == Completion(choices=())
    assert fold([End("stop", Usage(output_visible=1))]) == Completion(choices=(), usage=Usage(output_visible=1))


def test_pieces_without_a_number() -> None:
    """A piece goes on with the newest part if it is of its kind, and begins a new one if not."""
    assert (Text("ab"), Reasoning("h"), Text("c"), Refusal("no")) == parts(
        TextDelta("a"), TextDelta("b"), ReasoningDelta("h"), TextDelta("c"), RefusalDelta("n"), RefusalDelta("o")
    )


def test_pieces_with_a_number() -> None:
    """A piece with a number goes on with the part of that number, whichever came between."""
    assert (Text("ac"), Text("b")) == parts(TextDelta("a", 0, 0), TextDelta("b", 0, 1), TextDelta("c", 0, 0))


def test_a_number_that_is_used_twice() -> None:
    """A piece of another kind under a number in use begins a part of its own rather than spoil the other."""
    assert (Text("a"), Reasoning("h")) == parts(TextDelta("a", 0, 0), ReasoningDelta("h", 0, 0))


def test_a_part_in_between() -> None:
    """Text after a part that came whole is a new text."""
    assert (Text("a"), Image(url="u"), Text("b")) == parts(TextDelta("a"), PartAdded(Image(url="u")), TextDelta("b"))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([TextDelta(""), ReasoningDelta("h"), TextDelta("a")], (Reasoning("h"), Text("a"))),
        ([TextDelta(""), ToolCallDelta(call=0, id="c", name="f")], (ToolCall("c", "f", ""),)),
        ([ReasoningDelta(""), TextDelta("a")], (Text("a"),)),
        ([TextDelta("a"), RefusalDelta("")], (Text("a"),)),
        ([TextDelta("")], (Text(""),)),
        ([TextDelta(""), ReasoningDelta("")], (Text(""),)),
        ([TextDelta("", 0, 0), TextDelta("a", 0, 1)], (Text(""), Text("a"))),
        ([TextDelta("", annotations=(Annotation(url="u"),)), ReasoningDelta("h")], None),
        ([TextDelta("", logprobs=({"token": ""},)), ReasoningDelta("h")], None),
        ([ReasoningDelta("", signature="s"), TextDelta("a")], (Reasoning("", "s"), Text("a"))),
        ([TextDelta("", extra={"a": {"x": 1}}), TextDelta("a", 0, 1)], None),
    ],
    ids=str,
)
def test_empty_pieces(events: list[Event], expected: tuple[Part, ...] | None) -> None:
    """An empty piece, with which many servers begin, makes no part of its own; anything beside it does."""
    found = parts(*events)
    assert len(found) == 2 if expected is None else expected == found


def test_text_with_all_that_belongs_to_it() -> None:
    """Annotations and logprobs are gathered in order; fields of formats are gathered too."""
    one, two = Annotation(url="1"), Annotation(url="2")
    assert (Text("ab", (one, two), ({"t": 1}, {"t": 2}), extra={"f": {"x": 2, "l": [1, 2]}}),) == parts(
        TextDelta("a", annotations=(one,), logprobs=({"t": 1},), extra={"f": {"x": 1, "l": [1]}}),
        TextDelta("b", annotations=(two,), logprobs=({"t": 2},), extra={"f": {"x": 2, "l": [2]}}),
    )


def test_reasoning_and_its_signature() -> None:
    """The pieces of a signature are joined; a signature may stand alone."""
    assert (Reasoning("hm", "ab"),) == parts(
        ReasoningDelta("h"), ReasoningDelta("m", signature="a"), ReasoningDelta(signature="b")
    )


def test_tool_calls() -> None:
    """Pieces of tool calls belong together by the call's number; the calls stand in the order in which they began."""
    assert (Text("a"), ToolCall("c", "ff", '{"x":1}'), ToolCall("d", "g", "in", "custom")) == parts(
        TextDelta("a"),
        ToolCallDelta(call=0, id="c", name="f", arguments='{"x"'),
        ToolCallDelta(call=1, id="d", name="g", kind="custom"),
        ToolCallDelta(call=0, name="f", arguments=":1}"),
        ToolCallDelta(call=1, arguments="in"),
    )


def test_audio() -> None:
    """Speech is gathered: data and transcript are joined, of all else the last counts."""
    assert (Audio(id="b", data="QQ==QQ==", transcript="xy", expires_at=2, media_type="audio/wav"),) == parts(
        AudioDelta(id="a", data="QQ==", transcript="x", media_type="audio/wav"),
        AudioDelta(id="b", data="QQ==", transcript="y", expires_at=2),
    )


def test_choices() -> None:
    """Choices are told apart by their numbers, and stand in the order of these."""
    completion = fold([TextDelta("b", 1), TextDelta("a"), Finish("length", 1, "max"), TextDelta("b", 1), End("stop")])
    assert [(0, "a", "stop", None), (1, "bb", "length", "max")] == [
        (choice.index, choice.message.content, choice.finish_reason, choice.native_finish_reason)
        for choice in completion.choices
    ]


def test_an_answer_that_did_not_end() -> None:
    """Without a finish and an end there is no finish reason."""
    assert fold([TextDelta("a")]).choices[0].finish_reason is None
    assert fold([TextDelta("a"), End()]).choices[0].finish_reason is None


def test_who_answers() -> None:
    """What a later start tells replaces what was told, and leaves what it does not tell."""
    completion = fold(
        [
            Start(id="i", model="m", created=7, provider="p", extra={"f": {"x": 1, "l": [1]}, "g": {"y": 1}}),
            TextDelta("a"),
            Start(model="m-2", extra={"f": {"l": [1, 2]}}),
            End("stop"),
        ]
    )
    assert (completion.id, completion.model, completion.created, completion.provider) == ("i", "m-2", 7, "p")
    assert completion.extra == {"f": {"x": 1, "l": [1, 2]}, "g": {"y": 1}}
    assert completion.choices[0].message.provider == "p"


def test_facts_of_a_message() -> None:
    """The role is the last that was told; lists beside the message grow, other values are replaced."""
    message = fold(
        [
            MessageDelta(role="model", extra={"f": {"x": 1, "l": [1]}}),
            TextDelta("a"),
            MessageDelta(extra={"f": {"x": 2, "l": [2]}, "g": {"y": 1}}, form={"f": Patch({}, {}, {})}),
        ]
    ).choices[0].message  # fmt: skip
    assert message == Message(
        "model",
        (Text("a"),),
        extra={"f": {"x": 2, "l": [1, 2]}, "g": {"y": 1}},
        form={"f": Patch({}, {}, {})},
    )


def test_usage() -> None:
    """Usage may come anywhere and at the end; what is not told later stays."""
    completion = fold(
        [
            UsageUpdate(Usage(input_uncached=5, output_visible=1)),
            TextDelta("a"),
            UsageUpdate(Usage(output_visible=2)),
            UsageUpdate(Usage()),
            End("stop", Usage(output_visible=3)),
        ]
    )
    assert completion.usage == Usage(input_uncached=5, output_visible=3)
    assert fold([TextDelta("a"), End("stop")]).usage is None


def test_unknown_events_are_ignored() -> None:
    """What only a format knows is no part of an answer."""
    assert fold([UnknownEvent("f", {"x": 1})]) == fold([])


def test_extra_is_not_changed_in_place() -> None:
    """Gathering leaves the events as they were."""
    events = [MessageDelta(extra={"f": {"l": [1]}}), MessageDelta(extra={"f": {"l": [2]}})]
    for _ in range(2):
        assert fold(events).choices[0].message.extra == {"f": {"l": [1, 2]}}


def test_unfolded_tool_calls_are_numbered() -> None:
    """Taken apart, calls are numbered from 0, whatever parts stand between."""
    message = Message("assistant", (Text("a"), ToolCall("c", "f"), File(file_id="x"), ToolCall("d", "g")))
    events = [*unfold(Completion(choices=(Choice(0, message, "stop"),)))]
    calls: list[Any] = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [(0, 1, "c"), (1, 3, "d")] == [(call.call, call.part, call.id) for call in calls]


@pytest.mark.parametrize("event", [TextDelta("a"), Finish("stop"), Start(), End(), PartAdded(Text("a"))], ids=repr)
def test_events_are_frozen(event: Event) -> None:
    """An event cannot be changed."""
    with pytest.raises(AttributeError):
        event.wire = None  # type: ignore[misc]
