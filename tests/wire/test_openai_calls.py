"""Which tool call a streamed fragment belongs to: every way in which servers are known to number them wrongly."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.chat.messages import ToolCall
from antiphon.errors import StreamError
from antiphon.formats.openai_chat.calls import Calls
from tests.wire.openai_chunks import answer, chunk

A, B = ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", '{"y": 2}')


def fragment(
    arguments: Any = None, *, index: int | None = None, id: str | None = None, name: str | None = None, **more: Any
) -> dict[str, Any]:
    """Make a fragment without the fields that are not given."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": id, "function": function or None, **more}
    return {key: value for key, value in fields.items() if value is not None}


def calls(*fragments: dict[str, Any], together: bool = False) -> list[ToolCall] | None:
    """Return the calls of an answer whose chunks bring one fragment each, or all of them *together*."""
    groups = [[*fragments]] if together else [[one] for one in fragments]
    completion = answer(*(chunk(tool_calls=group) for group in groups), chunk(finish_reason="tool_calls"))
    assert completion.choices[0].finish_reason == "tool_calls"
    return completion.choices[0].message.tool_calls


def test_by_the_book() -> None:
    """Id and name come first, the arguments in pieces, and two calls may alternate."""
    fragments = (
        fragment("", index=0, id="a", name="f", type="function"),
        fragment('{"x"', index=0),
        fragment("", index=1, id="b", name="g", type="function"),
        fragment('{"y"', index=1),
        fragment(": 1}", index=0),
        fragment(": 2}", index=1),
    )
    assert [A, B] == calls(*fragments)
    assert [A, B] == calls(*fragments, together=True)


def test_missing_index_of_whole_calls() -> None:
    """Calls without an index (Gemini) are told apart by their ids."""
    assert [A, B] == calls(fragment(A.arguments, id="a", name="f"), fragment(B.arguments, id="b", name="g"))


def test_missing_index_of_pieces() -> None:
    """Pieces without index and id go on with the one call that is open, even after another one is complete."""
    assert [A] == calls(fragment(id="a", name="f"), fragment('{"x"'), fragment(": 1}"))
    assert [A, B] == calls(
        fragment(A.arguments, id="a", name="f"), fragment("", id="b", name="g"), fragment('{"y"'), fragment(": 2}")
    )


def test_missing_index_and_id() -> None:
    """Whole calls with nothing but a name are calls of their own, of the same tool as well."""
    found = calls(fragment('{"x": 1}', name="f"), fragment('{"y": 2}', name="g"), fragment('{"y": 3}', name="g"))
    assert [("f", '{"x": 1}'), ("g", '{"y": 2}'), ("g", '{"y": 3}')] == [(c.name, c.arguments) for c in found or ()]


def test_all_at_index_0_with_ids() -> None:
    """Calls that all have the index 0 (Ollama) are told apart by their ids, alternating ones too."""
    assert [A, B] == calls(
        fragment(A.arguments, index=0, id="a", name="f"), fragment(B.arguments, index=0, id="b", name="g")
    )
    assert [A, B] == calls(
        fragment('{"x"', index=0, id="a", name="f"),
        fragment('{"y"', index=0, id="b", name="g"),
        fragment(": 1}", index=0, id="a"),
        fragment(": 2}", index=0, id="b"),
    )


def test_all_at_index_0_without_ids() -> None:
    """Without ids a name begins another call at the same index once the arguments before it are complete."""
    found = calls(
        fragment('{"x"', index=0, name="f"),
        fragment(": 1}", index=0, name="f"),
        fragment('{"x": 2}', index=0, name="f"),
        fragment('{"y": 3}', index=0, name="g"),
    )
    assert [("f", '{"x": 1}'), ("f", '{"x": 2}'), ("g", '{"y": 3}')] == [(c.name, c.arguments) for c in found or ()]


def test_another_name_without_arguments() -> None:
    """Another name at the same index begins another call even where the one before has no arguments."""
    found = calls(fragment("", index=0, name="f"), fragment("", index=0, name="g"))
    assert ["f", "g"] == [call.name for call in found or ()]


@pytest.mark.parametrize("index", [0, None])
@pytest.mark.parametrize("name", ["f", None])
def test_id_on_every_fragment(index: int | None, name: str | None) -> None:
    """An id that is repeated on every fragment, with the name or without, begins no new call."""
    assert [A] == calls(
        fragment('{"x"', index=index, id="a", name="f"),
        fragment(": 1}", index=index, id="a", name=name),
        fragment("", index=index, id="a", name=name),
    )


def test_name_on_every_fragment() -> None:
    """A name that is repeated while the arguments are incomplete begins no new call."""
    assert [A] == calls(fragment('{"x"', index=0, id="a", name="f"), fragment(": 1}", index=0, name="f"))
    assert [A] == calls(fragment('{"x"', id="a", name="f"), fragment(": 1}", name="f"))


def test_pieces_under_another_index() -> None:
    """Pieces under an index of their own without an id (Nebius, Cerebras) go on with the newest call."""
    assert [A, B] == calls(
        fragment("", index=0, id="a", name="f"),
        fragment('{"x"', index=1),
        fragment(": 1}", index=2),
        fragment("", index=1, id="b", name="g"),
        fragment('{"y": 2}', index=5),
    )


def test_ids_that_are_the_tools_names() -> None:
    """Two calls with one id but different indexes are two calls."""
    found = calls(fragment("{}", index=0, id="f", name="f"), fragment("{}", index=1, id="f", name="f"))
    assert [ToolCall("f", "f", "{}")] * 2 == found


def test_an_index_that_changes_within_a_call() -> None:
    """Pieces that have the call's id belong to it under whatever index."""
    assert [A] == calls(fragment('{"x"', index=0, id="a", name="f"), fragment(": 1}", index=3, id="a"))


def test_an_id_that_comes_late() -> None:
    """An id that comes after the name is the call's; until then it has one of our own."""
    assert [A] == calls(fragment("", index=0, name="f"), fragment('{"x": 1}', index=0, id="a"))


def test_a_name_that_comes_late() -> None:
    """A name may come after the id."""
    assert [A] == calls(fragment(index=0, id="a"), fragment('{"x": 1}', index=0, name="f"))


def test_arguments_as_an_object() -> None:
    """Arguments that are an object rather than its text (Ollama-like servers) become its text."""
    assert [ToolCall("a", "f", '{"x":[1]}')] == calls(fragment({"x": [1]}, index=0, id="a", name="f"))


def test_no_arguments() -> None:
    """A call without arguments, or with null, has an empty text for them."""
    assert [ToolCall("a", "f", "")] == calls(fragment(index=0, id="a", name="f"))
    assert [ToolCall("a", "f", "")] == calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": None}})


@pytest.mark.parametrize("ids", [("a", "b"), (None, None)])
def test_ambiguous(ids: tuple[str | None, str | None]) -> None:
    """A piece that says nothing of its call while several are open is an error, not a guess."""
    with pytest.raises(StreamError, match="several calls are open"):
        calls(fragment("{", id=ids[0], name="f"), fragment("{", id=ids[1], name="g"), fragment("}"))


def test_ambiguous_after_completion() -> None:
    """So it is where all calls look complete: it cannot be told which one goes on."""
    with pytest.raises(StreamError, match="several calls are open"):
        calls(fragment("{}", index=0, id="a", name="f"), fragment("{}", index=1, id="b", name="g"), fragment(" "))


def test_ids_of_our_own() -> None:
    """Calls without ids get different ones that depend on the answer's id, of at most 40 characters."""
    fragments = (fragment("{}", index=0, name="f"), fragment("{}", index=1, name="f"))
    one = [call.id for call in calls(*fragments) or ()]
    assert ["call_chatcmpl-1_0_0", "call_chatcmpl-1_0_1"] == one
    long = answer(chunk(id="x" * 100, tool_calls=[*fragments]), chunk(id="x" * 100, finish_reason="stop"))
    assert all(len(call.id) <= 40 for call in long.choices[0].message.tool_calls or ())


def test_calls_of_several_choices() -> None:
    """Each choice numbers its own calls."""
    completion = answer(
        chunk(tool_calls=[fragment("{}", index=0, id="a", name="f")]),
        chunk(index=1, tool_calls=[fragment("{}", index=0, id="b", name="g")]),
        chunk(finish_reason="tool_calls"),
        chunk(index=1, finish_reason="tool_calls"),
    )
    assert [["f"], ["g"]] == [[c.name for c in choice.message.tool_calls or ()] for choice in completion.choices]


def test_custom_tools() -> None:
    """A call of a custom tool has free text as its input, and stays one in every piece."""
    custom = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "so "}}
    assert [ToolCall("a", "f", "so be it", "custom")] == calls(custom, {"index": 0, "custom": {"input": "be it"}})


def test_tools_of_the_provider() -> None:
    """A call that the provider runs itself, in a shape of its own, keeps that shape."""
    own = {"index": 0, "id": "a", "type": "web_search", "web_search": {"query": "q"}}
    extra = {"openai-chat": {"web_search": {"query": "q"}}}
    assert [ToolCall("a", "", "", "web_search", extra=extra)] == calls(own)


def test_unknown_fields() -> None:
    """Unknown fields of a call are kept, those inside of its function too; Gemini keeps its signatures there."""
    odd = fragment("{}", index=0, id="a", name="f", extra_content={"google": {"thought_signature": "s"}})
    odd["function"]["strict"] = True
    extra = {"openai-chat": {"extra_content": {"google": {"thought_signature": "s"}}, "function": {"strict": True}}}
    assert [ToolCall("a", "f", "{}", extra=extra)] == calls(odd)


def test_a_call_without_a_name() -> None:
    """A call that never got a name is an error."""
    with pytest.raises(StreamError, match="without a name"):
        calls(fragment("{}", index=0, id="a"))


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ("x", " must be an object, not a string."),
        ({"id": 5}, ".id must be a string, not an integer."),
        ({"type": []}, ".type must be a string, not an array."),
        ({"function": "f"}, ".function must be an object, not a string."),
        ({"function": {"name": 1}}, ".function.name must be a string, not an integer."),
        ({"function": {"name": "f", "arguments": 1}}, ".function.arguments must be a string, not an integer."),
    ],
    ids=str,
)
def test_wrong_types(wrong: Any, fault: str) -> None:
    """What is not a tool call is an error that says where."""
    with pytest.raises(StreamError) as caught:
        calls(wrong)
    start = "The provider's stream has a frame of the wrong shape: $.choices[0].delta.tool_calls[0]"
    assert str(caught.value) == start + fault


def test_completeness() -> None:
    """Arguments are complete when they are a JSON object, however it was cut into pieces."""
    call = Calls().find(0, "a", "f")
    for piece, complete in [("", False), ('{"a":', False), (" {}", False), ("} ", True), ("}", False)]:
        call.pieces.append(piece)
        assert complete is call.is_complete()
    call.pieces[:] = ["[]}"]
    assert call.is_complete() is False
