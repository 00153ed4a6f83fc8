"""The neutral vocabulary."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat import messages
from antiphon.chat.losses import Loss, lost_extra
from antiphon.chat.messages import (
    Annotation,
    Audio,
    File,
    Function,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    parts_of,
)
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from tests.wire import laws


@pytest.mark.parametrize("cls", messages.Node.__subclasses__(), ids=lambda cls: cls.__name__)
def test_values(cls: type[messages.Node]) -> None:
    """Everything is frozen, and has room for what only one format says."""
    assert cls.__struct_config__.frozen
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    assert fields["extra"].default is None
    assert fields["form"].default is None


def test_values_are_compared_by_content() -> None:
    """Two values with the same content are the same, and cannot be changed."""
    assert Message.user("a") == Message("user", (Text("a"),))
    assert Message.user("a") != Message.user("b")
    with pytest.raises(AttributeError):
        Message.user("a").role = "system"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a", (Text("a"),)),
        (Text("a"), (Text("a"),)),
        ([Text("a"), Image(url="u")], (Text("a"), Image(url="u"))),
        ([], ()),
        ("", (Text(""),)),
    ],
    ids=repr,
)
def test_parts_of(content: Any, expected: tuple[messages.Part, ...]) -> None:
    """A string, one part or several become parts."""
    assert expected == parts_of(content)


def test_messages() -> None:
    """There is a short way to make a message of each role."""
    assert Message.system("a") == Message("system", (Text("a"),))
    assert Message.user([Text("a"), Image(url="u")]) == Message("user", (Text("a"), Image(url="u")))
    assert Message.assistant(Text("a")) == Message("assistant", (Text("a"),))
    result = ToolResult("c", (Text("a"),), True)
    assert Message.tool("c", "a", is_error=True) == Message("tool", (result,))
    assert result.text == "a"


def test_views_of_a_message() -> None:
    """A message shows its parts by OpenAI's names."""
    source = Annotation(url="u")
    call = ToolCall("c", "f", '{"a": 1}')
    message = Message(
        "assistant",
        (Reasoning("h"), Text("a"), Text("b", (source,)), Reasoning("m"), Refusal("no"), call, Audio(id="au")),
    )
    assert message.content == "ab"
    assert message.reasoning_content == "hm"
    assert message.refusal == "no"
    assert message.tool_calls == [call]
    assert message.audio == Audio(id="au")
    assert message.annotations == [source]
    assert call.function == Function("f", '{"a": 1}')
    assert call.type == "function"


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (Message.system("s"), {"role": "system", "content": "s"}),
        (Message("developer", (Text("d"),), "me"), {"role": "developer", "content": "d", "name": "me"}),
        (Message.user(""), {"role": "user", "content": ""}),
        (
            Message.user((Text("look"), Image.from_bytes(b"x", "image/png"), Audio.from_bytes(b"x", "audio/wav"))),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}},
                    {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
                ],
            },
        ),
        (
            Message.user(File(file_id="f", name="a.pdf")),
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "f", "filename": "a.pdf"}}]},
        ),
        (
            Message.assistant((Reasoning("hm", "signed"), Text("a"), Opaque("anthropic", {"type": "x"}))),
            {"role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning_content": "hm"},
        ),
        (Message.assistant(Refusal("no")), {"role": "assistant", "content": None, "refusal": "no"}),
        (
            Message.assistant(ToolCall("c", "f", '{"a":1}')),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
            },
        ),
        (Message.tool("c", "r", is_error=True), {"role": "tool", "tool_call_id": "c", "content": "r"}),
    ],
)
def test_messages_as_json(message: Message, written: dict[str, Any]) -> None:
    """A message turns into OpenAI's JSON, without what that has no place for."""
    assert message.to_dict() == written
    assert message.to_dicts() == [written]
    assert json.loads(message.to_json()) == json.loads(json.dumps(message.to_dict())) == written


def test_several_results_as_json() -> None:
    """Several tool results in one message are several messages for OpenAI."""
    message = Message("tool", (ToolResult("c", (Text("r"),)), ToolResult("d", (Text("s"),))))
    assert message.to_dicts() == [
        {"role": "tool", "tool_call_id": "c", "content": "r"},
        {"role": "tool", "tool_call_id": "d", "content": "s"},
    ]
    with pytest.raises(ValueError, match=r"take to_dicts\(\)"):
        message.to_dict()


def test_views_of_an_empty_message() -> None:
    """What a message has none of is `None`; an empty text is a text."""
    empty = Message("assistant")
    views = ("content", "reasoning_content", "refusal", "tool_calls", "audio", "annotations")
    assert {None} == {getattr(empty, name) for name in views}
    assert Message.assistant("").content == ""


@pytest.mark.parametrize("cls", [Image, Audio, File])
def test_media_from_bytes(cls: type[Image]) -> None:
    """Bytes become an inline part of the class it was asked of."""
    part = cls.from_bytes(b"\x00\xff", "image/png", name="a")
    assert type(part) is cls
    assert part == cls(data="AP8=", media_type="image/png", name="a")


def test_media_from_a_path(tmp_path: Path) -> None:
    """A file becomes an inline part with its name, and the media type that its name tells or that is given."""
    path = tmp_path / "a.png"
    path.write_bytes(b"\x00")
    assert Image.from_path(path) == Image(data="AA==", media_type="image/png", name="a.png")
    assert Image.from_path(str(path), media_type="image/x") == Image(data="AA==", media_type="image/x", name="a.png")


def test_media_from_a_path_that_tells_nothing(tmp_path: Path) -> None:
    """A name that does not tell the media type is an error that says what to do, before the file is read."""
    with pytest.raises(ValueError, match=r"'.*thing' is not known by its name: pass media_type="):
        File.from_path(tmp_path / "thing")
    with pytest.raises(FileNotFoundError):
        File.from_path(tmp_path / "missing.pdf")


@given(st.binary(max_size=50))
def test_media_hold_the_bytes(data: bytes) -> None:
    """The bytes of an inline part are the bytes that were given."""
    assert base64.b64decode(File.from_bytes(data, "a/b").data or "") == data


def test_but() -> None:
    """A changed copy of a request leaves the request as it was."""
    request = ChatRequest("m", (Message.user("a"),), temperature=0.5)
    assert request.but(temperature=None, stream=True) == ChatRequest("m", (Message.user("a"),), stream=True)
    assert request.temperature == 0.5


@pytest.mark.parametrize(
    ("usage", "totals"),
    [
        (Usage(), (None, None, None)),
        (Usage(input_uncached=0), (0, None, 0)),
        (Usage(input_uncached=1, input_cache_read=2, input_cache_write=4), (7, None, 7)),
        (Usage(output_visible=1, output_reasoning=2), (None, 3, 3)),
        (Usage(input_uncached=1, output_visible=2, input_audio=100, output_audio=100), (1, 2, 3)),
    ],
    ids=repr,
)
def test_totals(usage: Usage, totals: tuple[int | None, ...]) -> None:
    """Totals are the sums of the buckets that are known; audio is a view across them, not a further bucket."""
    assert totals == (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


def test_updated_usage() -> None:
    """A later count replaces each side that it reports as a whole, and leaves the other."""
    first = Usage(input_uncached=5, input_cache_read=3, output_visible=1, cost=0.5)
    assert first.updated(Usage(output_visible=9, output_reasoning=2)) == Usage(
        input_uncached=5, input_cache_read=3, output_visible=9, output_reasoning=2, cost=0.5
    )
    assert first.updated(Usage(input_uncached=8, cost=1.0)) == Usage(input_uncached=8, output_visible=1, cost=1.0)
    assert first.updated(Usage()) == first


def test_updated_usage_keeps_what_only_one_format_says() -> None:
    """Fields of one format are gathered, the later value of each counts."""
    first = Usage(extra={"a": {"x": 1, "y": 1}, "b": {"z": 1}})
    later = Usage(extra={"a": {"y": 2}}, form={"a": messages.Patch({}, {}, {})})
    assert first.updated(later).extra == {"a": {"x": 1, "y": 2}, "b": {"z": 1}}
    assert first.updated(later).form == later.form
    assert later.updated(first).form is None


@given(laws.usages("a"), laws.usages("a"))
def test_buckets_never_mix(first: Usage, later: Usage) -> None:
    """After any update the totals are those of the later count: no bucket of the earlier one is added."""
    assert first.updated(later).total_tokens == later.total_tokens
    assert first.updated(later).output_reasoning == later.output_reasoning


def test_lost_extra() -> None:
    """What other formats say is listed with its place; one's own, and what says nothing, is not."""
    node = Text("a", extra={"a": {"x": 1, "n": None, "l": [], "o": {}, "z": 0}, "b": {"y": 2}})
    losses = lost_extra(node, "$.p", keep=("b",))
    assert [("dropped", "$.p.x"), ("dropped", "$.p.z")] == [(loss.kind, loss.path) for loss in losses]
    assert losses[0] == Loss("dropped", "$.p.x", "The field 'x' belongs to the format 'a' and has no place here.")
    assert [] == lost_extra(Opaque("a", {}), "$", keep=())
