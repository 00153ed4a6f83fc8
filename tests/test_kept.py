"""What a value was read from: kept with it, given back while nothing of it was changed, and else nowhere to be seen."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import Start, TextDelta, Wire, fold, unfold
from antiphon.chat.kept import Kept, as_it_came, changed, keep, same, without_kept
from antiphon.chat.messages import Message, Text, ToolCall
from antiphon.chat.requests import ChatRequest, Tool
from antiphon.chat.usage import Usage

SOURCE = {"role": "user", "content": "Hi.", "x": None}
MESSAGE = Message("user", (Text("Hi."),), extra={"ollama": {"n": 1, "inner": {"deep": [1]}}})
KEPT = keep(MESSAGE, "ollama", SOURCE)


def test_what_is_kept_takes_no_part_in_comparing_and_showing() -> None:
    """A value is equal to one that was made by hand, either way round, and looks like it."""
    for one, other in ((MESSAGE, KEPT), (KEPT, MESSAGE), (KEPT, keep(MESSAGE, "gemini", {}))):
        assert one == other
        assert repr(one) == repr(other)
    plain = Text("Hi.")
    assert hash(plain) == hash(keep(plain, "ollama", SOURCE))
    assert TextDelta("a") == TextDelta("a", wire=Wire("ollama", frame=b"secret"))
    assert "secret" not in repr(TextDelta("a", wire=Wire("ollama", frame=b"secret")))
    assert "secret" not in repr(Kept("ollama", {"key": "secret"}, None))
    assert KEPT != replace(KEPT, role="system")
    assert Kept("ollama", SOURCE, None) != "ollama"


def test_it_is_given_back_to_its_format_alone() -> None:
    """The object that was read comes back, to the format that read it."""
    assert as_it_came(KEPT, "ollama") is SOURCE
    assert as_it_came(KEPT, "gemini") is None
    assert as_it_came(MESSAGE, "ollama") is None
    assert changed(KEPT, "ollama") == []
    assert changed(KEPT, "gemini") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "system"},
        {"parts": ()},
        {"parts": (Text("Ho."),)},
        {"parts": (Text("Hi.", extra={"ollama": {"a": 1}}),)},
        {"name": "Ada"},
        {"extra": None},
        {"extra": {"ollama": {"n": True, "inner": {"deep": [1]}}}},
        {"extra": {"ollama": {"n": 1, "inner": {"deep": [1.0]}}}},
    ],
)
def test_any_change_is_seen(changes: dict[str, Any]) -> None:
    """A change of any field, at any depth, be it of the type alone, and there is nothing to give back."""
    assert as_it_came(replace(KEPT, **changes), "ollama") is None
    assert changed(replace(KEPT, **changes), "ollama") == [*changes]


def test_what_is_no_change_is_none() -> None:
    """Values that were put together again, and who wrote a message, change nothing of how it is written."""
    again = replace(KEPT, parts=(Text("Hi."),), extra=copy.deepcopy(MESSAGE.extra), provider="up")
    assert as_it_came(again, "ollama") is SOURCE
    assert same(ToolCall("a", "b"), ToolCall("a", "b"))
    assert not same(ToolCall("a", "b"), Text("b"))
    assert not same((1,), (1, 2))


def pickled(message: Message) -> Message:
    """Return *message* as another process would read it."""
    read: Message = pickle.loads(pickle.dumps(message))
    return read


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_copies_keep_it(copied: Callable[[Message], Message]) -> None:
    """A value that was copied or pickled is written as it came, too."""
    assert as_it_came(copied(KEPT), "ollama") == SOURCE
    assert as_it_came(replace(copied(KEPT), role="system"), "ollama") is None


def test_a_whole_answer_keeps_it_as_events() -> None:
    """An answer that became events and an answer again is given back, and so is its message; not a changed one."""
    message = keep(Message.assistant("Hi."), "ollama", SOURCE)
    read = Completion(choices=(Choice(0, message, "stop"),), usage=Usage(output_visible=1))
    answer = fold(unfold(keep(read, "ollama", {"done": True})))
    assert as_it_came(answer, "ollama") == {"done": True}
    assert as_it_came(answer.choices[0].message, "ollama") is SOURCE
    events = [*unfold(answer), Start(model="later")]
    assert as_it_came(fold(events), "ollama") is None
    assert as_it_came(replace(answer, headers={"x-request-id": "1"}), "ollama") == {"done": True}


def test_it_can_be_let_go() -> None:
    """What goes to another format keeps nothing, at any depth, and is not copied where it kept nothing."""
    tool = keep(Tool("f"), "ollama", {})
    plain = Message.user("So?")
    request = keep(ChatRequest("m", (KEPT, plain), tools=(tool,)), "ollama", {})
    bare = without_kept(request)
    assert bare == request
    assert bare.kept is None
    assert [message.kept for message in bare.messages] == [None, None]
    assert bare.tools is not None
    assert bare.tools[0].kept is None
    assert bare.messages[1] is plain
    assert without_kept(bare) is bare
    assert without_kept(TextDelta("a", wire=Wire("ollama"))).wire is None
