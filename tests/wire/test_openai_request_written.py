"""OpenAI Chat Completions requests, written; and what is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.chat.losses import Loss
from antiphon.chat.messages import (
    Annotation,
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.formats import json
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.message import NAME
from antiphon.formats.openai_chat.request import decode_request, encode_request

CODEC = OpenAIChat()
FOREIGN = {"gemini": {"x": 1}}


def with_field(**fields: Any) -> dict[str, Any]:
    """Make a request with other fields."""
    return {"model": "m", "messages": [], **fields}


def written(*messages: Message) -> list[dict[str, Any]]:
    """Return messages as they are written, without a loss."""
    source, losses = encode_request(ChatRequest("m", messages))
    assert [] == losses
    return source["messages"]  # type: ignore[no-any-return]


def test_http_request() -> None:
    """A request goes to one path as compact JSON, and says which kind of answer it expects."""
    http = CODEC.encode_request(ChatRequest("m", (Message.user("Hé"),)))
    assert http.body == '{"model":"m","messages":[{"role":"user","content":"Hé"}]}'.encode()
    assert (http.method, http.path, http.losses) == ("POST", "/chat/completions", ())
    assert http.headers == {"content-type": "application/json", "accept": "application/json"}
    streamed = CODEC.encode_request(ChatRequest("m", (), stream=True))
    assert streamed.headers["accept"] == "text/event-stream"
    assert json.decode(streamed.body) == {"model": "m", "messages": [], "stream": True}


def test_what_is_not_set_is_not_sent() -> None:
    """A request has no field that was not set, not even as null; `stream` false is not said."""
    assert encode_request(ChatRequest("m", ()))[0] == {"model": "m", "messages": []}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_tokens": 5, "stop": "a"}, {"max_completion_tokens": 5, "stop": "a"}),
        ({"max_tokens": 4, "max_completion_tokens": 5}, {"max_tokens": 4, "max_completion_tokens": 5}),
    ],
    ids=str,
)
def test_name_of_the_limit(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """The limit has the provider's name for it, unless it came with the newer one."""
    request = decode_request(with_field(**fields))
    assert {"model": "m", "messages": [], **expected} == encode_request(
        request, max_tokens_field="max_completion_tokens"
    )[0]
    assert with_field(**fields) == encode_request(request)[0]


def test_changes_are_kept() -> None:
    """What is changed after reading goes out as changed, also where it had been written in another way."""
    request = decode_request(with_field(stop="a", max_completion_tokens=5, temperature=None))
    changed = request.but(stop=("b",), max_tokens=9, temperature=0.5)
    assert with_field(stop=["b"], max_completion_tokens=9, temperature=0.5) == encode_request(changed)[0]


def test_a_stream_of_a_request_that_said_no() -> None:
    """A request that said `"stream": false` can be streamed, and one that said nothing of usage asked for it."""
    request = decode_request(with_field(stream=False, stream_options={"include_obfuscation": False}))
    expected = with_field(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    assert expected == encode_request(request.but(stream=True, include_usage=True))[0]


def test_tool_results_come_first() -> None:
    """Results that share a message become messages of their own, before what else is in it."""
    message = Message("user", (Text("a"), ToolResult("c", (Text("1"),)), ToolResult("d", (Text("2"),))), "u")
    assert [
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        {"role": "tool", "tool_call_id": "d", "content": "2"},
        {"role": "user", "content": "a", "name": "u"},
    ] == written(message)
    both = Message("tool", (ToolResult("c", (Text("1"),)), Text("a")))
    assert ["tool", "user"] == [one["role"] for one in written(both)]


def test_empty_messages() -> None:
    """A user's message without parts, and a result without content, have an empty text; an assistant's has none."""
    assert [{"role": "user", "content": ""}] == written(Message("user"))
    assert [{"role": "tool", "tool_call_id": "c", "content": ""}] == written(Message("tool", (ToolResult("c"),)))
    assert [{"role": "assistant", "content": None}] == written(Message("assistant"))


@pytest.mark.parametrize(
    ("media_type", "format"),
    [("audio/mpeg", "mp3"), ("audio/mp3", "mp3"), ("audio/x-wav", "wav"), ("audio/flac", "flac"), (None, "wav")],
)
def test_audio_formats(media_type: str | None, format: str) -> None:
    """A sound's media type is written as OpenAI's name of the format."""
    message = Message.user(Audio(data="QQ==", media_type=media_type))
    assert [{"data": "QQ==", "format": format}] == [part["input_audio"] for part in written(message)[0]["content"]]


def test_a_changed_message_does_not_get_another_ones_form() -> None:
    """Parts that are put in before others do not take over how those were written."""
    source = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a", "detail": None}}]}
    message = decode_request(with_field(messages=[source])).messages[0]
    longer = Message("user", (Image(url="new"), *message.parts), form=message.form)
    image = {"type": "image_url", "image_url": {"url": "new"}}
    assert written(longer)[0]["content"][0] == image


def suited(codec: OpenAIChat, *messages: Message, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Return a request as it is written for a provider with quirks, and the paths of its losses."""
    http = codec.encode_request(ChatRequest("m", messages, **fields))
    return json.decode(http.body), [loss.path for loss in http.losses]


def test_a_provider_that_refuses_fields() -> None:
    """Fields that a provider refuses are left out; those that were set are on the receipt."""
    codec = OpenAIChat(unsupported=("seed", "user"))
    assert suited(codec, seed=7) == ({"model": "m", "messages": []}, ["$.seed"])


def test_a_tool_that_did_not_fail() -> None:
    """That a tool did not fail is what every result says that does not say otherwise, so nothing is lost."""
    results = (ToolResult("c", is_error=False), ToolResult("d"))
    assert CODEC.encode_request(ChatRequest("m", (Message("tool", results),))).losses == ()


@pytest.mark.parametrize(
    ("model", "options", "thinks"),
    [
        ("m-1", {}, False),
        ("deep-1", {}, True),
        ("m-1", {"reasoning": ReasoningOptions(effort="high")}, True),
        ("deep-1", {"reasoning": ReasoningOptions(effort="none")}, False),
        ("m-1", {"extra": {NAME: {"thinking": {"type": "enabled"}}}}, True),
        ("deep-1", {"extra": {NAME: {"thinking": {"type": "disabled"}}}}, False),
        ("deep-1", {"extra": {NAME: {"thinking": "odd"}}}, True),
    ],
)
def test_a_provider_that_forces_no_call_while_thinking(model: str, options: dict[str, Any], thinks: bool) -> None:
    """While such a model thinks, by itself or as it was told to, a forced call is left to it, which is on the receipt.

    Source: wire-formats.md, 4.8 (DeepSeek).
    """
    codec = OpenAIChat(thinking_models=("deep-",))
    for choice, plain in (("required", "required"), (ToolName("f"), {"type": "function", "function": {"name": "f"}})):
        request = ChatRequest(model, (), tools=(Tool("f"),), tool_choice=choice, **options)
        http = codec.encode_request(request)
        assert json.decode(http.body)["tool_choice"] == ("auto" if thinks else plain)
        assert [(loss.kind, loss.path) for loss in http.losses] == [("approximated", "$.tool_choice")] * thinks
        assert json.decode(CODEC.encode_request(request).body)["tool_choice"] == plain
    for unforced in ("auto", "none"):
        request = ChatRequest(model, (), tools=(Tool("f"),), tool_choice=unforced, **options)
        assert json.decode(codec.encode_request(request).body)["tool_choice"] == unforced
        assert codec.encode_request(request).losses == ()


def test_a_provider_without_developers() -> None:
    """A developer's message is a system's for a provider that knows no developers."""
    developer = Message("developer", (Text("a"),))
    source, losses = suited(OpenAIChat(developer_role=False), developer)
    assert (source["messages"], losses) == ([{"role": "system", "content": "a"}], [])


@pytest.mark.parametrize(
    ("field", "expected", "losses"),
    [
        ("reasoning_content", {"reasoning_content": "hm"}, []),
        ("reasoning", {"reasoning": "hm"}, []),
        (None, {}, ["$.messages[0].reasoning_content"]),
    ],
)
def test_a_providers_name_for_thoughts(field: str | None, expected: dict[str, str], losses: list[str]) -> None:
    """Earlier thoughts go back under the provider's name for them, or not at all, which is on the receipt."""
    source, lost = suited(OpenAIChat(reasoning_field=field), Message("assistant", (Reasoning("hm"), Text("a"))))
    assert source["messages"] == [{"role": "assistant", "content": "a", **expected}]
    assert lost == losses


THOUGHT = Message("assistant", (Reasoning("hm"), Text("a")), provider="p")


@pytest.mark.parametrize(("author", "losses"), [("p", []), ("q", ["$.messages[1].reasoning_content"])])
def test_thoughts_that_their_maker_does_not_take_back(author: str, losses: list[str]) -> None:
    """Whoever takes no thoughts back misses none of its own; those of others are lost. The path is the request's."""
    results = Message("tool", (ToolResult("c", (Text("1"),)), ToolResult("d", (Text("2"),))))
    thought = Message("assistant", THOUGHT.parts, provider=author)
    source, lost = suited(OpenAIChat(reasoning_field=None, provider="p"), results, thought)
    assert source["messages"][2] == {"role": "assistant", "content": "a"}
    assert lost == losses


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ((Reasoning("hm"), Text("a")), [{"type": "text", "text": "a"}]),
        ((Reasoning("hm"), ToolCall("123456789", "f")), []),
    ],
)
def test_thoughts_as_content(parts: tuple[Reasoning | Text | ToolCall, ...], content: list[Any]) -> None:
    """Mistral's thoughts go back as the first element of the content, also where they came in pieces."""
    source, lost = suited(OpenAIChat(reasoning_field="thinking"), Message("assistant", parts))
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    assert source["messages"][0]["content"] == [thinking, *content]
    assert "reasoning_content" not in source["messages"][0]
    assert lost == []


def test_a_name_for_the_seed() -> None:
    """The seed has the provider's name for it."""
    assert suited(OpenAIChat(seed_field="random_seed"), seed=7) == (
        {"model": "m", "messages": [], "random_seed": 7},
        [],
    )


def test_short_call_ids() -> None:
    """Ids of other lengths or letters become nine of those that are taken, the same for call and result."""
    ids = ("abcDEF123", "toolu_01ABCDEFGHIJ", "call_1234", "")
    calls = Message("assistant", tuple(ToolCall(id, "f") for id in ids))
    results = [Message.tool(id, "x") for id in ids]
    source, lost = suited(OpenAIChat(short_call_ids=True), calls, *results)
    said, *answers = source["messages"]
    sent = [call["id"] for call in said["tool_calls"]]
    assert sent == [message["tool_call_id"] for message in answers]
    assert sent[0] == ids[0]
    assert len(set(sent)) == 4
    assert all(len(id) == 9 and id.isascii() and id.isalnum() for id in sent)
    assert lost == []


@pytest.mark.parametrize(("taken", "losses"), [(True, []), (False, ["$.messages[0].parts[1]"])])
def test_files_by_their_url(taken: bool, losses: list[str]) -> None:
    """A file's URL goes to a provider that takes it in the place of data, and else on the receipt."""
    message = Message("user", (Text("a"), File(url="https://x/y.pdf"), File(data="QQ==", media_type="text/plain")))
    source, lost = suited(OpenAIChat(file_urls=taken), message)
    assert [part["type"] for part in source["messages"][0]["content"]] == ["text", *["file"] * (2 if taken else 1)]
    assert lost == losses
    alone, _ = suited(OpenAIChat(file_urls=False), Message.user(File(url="https://x/y.pdf")))
    assert alone["messages"] == [{"role": "user", "content": ""}]


def test_where_a_file_stood() -> None:
    """A file that is left out is told by its place in the request, whatever else was left out, also in results."""
    file, gone = File(url="https://x/y.pdf"), Opaque("gemini", {})
    results = (ToolResult("c", (Text("1"),)), ToolResult("d", (gone, File(file_id="f"), file)))
    first = Message("user", (gone, Text("a"), file, *results, File(file_id="g"), file))
    _, lost = suited(OpenAIChat(file_urls=False), first, Message("user", (gone, file)))
    assert lost == [
        "$.messages[0].parts[4].content[0]",
        "$.messages[0].parts[0]",
        "$.messages[1].parts[0]",
        "$.messages[0].parts[4].content[2]",
        "$.messages[0].parts[2]",
        "$.messages[0].parts[6]",
        "$.messages[1].parts[1]",
    ]


def test_notes_of_others_on_sources() -> None:
    """What only another format says of a source is on the receipt."""
    source = Annotation(url="http://x/", extra={"anthropic": {"cited_text": "abc"}, "openai-chat": {"y": 1}})
    message = Message("assistant", (Reasoning("hm"), Text("a", (source,))))
    assert reported(message) == [("dropped", "$.messages[0].parts[1].annotations[0].cited_text")]


def test_the_media_type_of_an_uploaded_file() -> None:
    """The media type of a file that is told by its id has no place."""
    assert reported(Message.user(File(file_id="f", media_type="text/plain"))) == [
        ("dropped", "$.messages[0].parts[0].media_type")
    ]


def reported(*messages: Message, **fields: Any) -> list[tuple[str, str]]:
    """Return kind and path of each loss of a request."""
    _, losses = encode_request(ChatRequest("m", messages, **fields))
    assert all(isinstance(loss, Loss) and loss.reason.endswith(".") for loss in losses)
    return [(loss.kind, loss.path) for loss in losses]


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (Opaque("gemini", {}), ""),
        (Image(file_id="f"), ""),
        (Audio(id="au"), ""),
        (ToolCall("c", "f"), ""),
        (Reasoning("hm"), ""),
        (Text("a", extra=FOREIGN), ".x"),
        (Image(url="a", extra=FOREIGN), ".x"),
        (ToolResult("c", is_error=True), ".is_error"),
        (ToolResult("c", extra=FOREIGN), ".x"),
        (ToolResult("c", (Text("a"), Opaque("gemini", {}))), ".content[1]"),
    ],
    ids=str,
)
def test_losses_of_a_users_message(part: Any, path: str) -> None:
    """What a part cannot say here is on the receipt with its place in the neutral request."""
    assert [("dropped", f"$.messages[1].parts[1]{path}")] == reported(
        Message.user("a"), Message("user", (Text("b"), part))
    )


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (Reasoning("", "signed"), ".signature"),
        (Reasoning("hm", extra=FOREIGN), ".x"),
        (Reasoning("hm", extra={NAME: {"x": 1}}), ".x"),
        (Text("a", extra=FOREIGN), ".x"),
        (Opaque("anthropic", {}), ""),
        (Image(file_id="f"), ""),
        (ToolCall("c", "f", extra=FOREIGN), ".x"),
        (Refusal("No.", extra=FOREIGN), ".x"),
    ],
    ids=str,
)
def test_losses_of_an_assistants_message(part: Any, path: str) -> None:
    """So it is for what an assistant said."""
    assert [("dropped", f"$.messages[0].parts[0]{path}")] == reported(Message("assistant", (part,)))


def test_lost_order() -> None:
    """The order among thoughts, text and calls cannot be told; that it is lost is on the receipt."""
    usual = Message("assistant", (Reasoning("a"), Text("b"), Text("c"), ToolCall("d", "f")))
    assert [] == reported(usual)
    unusual = Message("assistant", (Text("b"), ToolCall("d", "f"), Text("c")))
    assert [("approximated", "$.messages[0].parts")] == reported(unusual)


def test_losses_of_a_request() -> None:
    """What the request itself cannot say here is on the receipt too; empty values say nothing."""
    assert [
        ("dropped", "$.tools[0].x"),
        ("dropped", "$.tools[1]"),
        ("dropped", "$.x"),
        ("dropped", "$.tool_choice"),
        ("dropped", "$.response_format.x"),
        ("dropped", "$.reasoning.x"),
        ("dropped", "$.reasoning.budget_tokens"),
        ("dropped", "$.reasoning.include"),
    ] == reported(
        tools=(Tool("f", extra=FOREIGN), Opaque("gemini", {})),
        tool_choice=Opaque("gemini", {}),
        response_format=ResponseFormat("text", extra=FOREIGN),
        reasoning=ReasoningOptions(budget_tokens=5, include=True, extra=FOREIGN),
        extra={**FOREIGN, NAME: {"y": 1}, "anthropic": {"a": None, "b": [], "c": {}}},
    )
    assert [("dropped", "$.messages[0].x")] == reported(Message("user", (Text("a"),), extra=FOREIGN))


def test_what_is_lost_is_not_sent() -> None:
    """Nothing of another format goes out."""
    message = Message("user", (Opaque("gemini", {"secret": 1}),), extra=FOREIGN)
    source, _ = encode_request(ChatRequest("m", (message,), extra=FOREIGN, tool_choice=Opaque("gemini", "secret")))
    assert source == {"model": "m", "messages": [{"role": "user", "content": ""}]}
