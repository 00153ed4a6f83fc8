"""Anthropic Messages requests: what each neutral field becomes, what cannot be said, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest

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
from antiphon.errors import BadRequestError
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic

CODEC = Anthropic()
NEWER = Anthropic(version="2026-10-21")
HELLO = (Message.user("Hello"),)
HELLO_JSON = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
TOOL = Tool("f", parameters={"type": "object"})


def written(request: ChatRequest, codec: Anthropic = CODEC) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the JSON of *request*, and kind and path of each loss."""
    http = codec.encode_request(request)
    assert all(loss.reason.endswith(".") for loss in http.losses)
    return json.decode(http.body), [(loss.kind, loss.path) for loss in http.losses]


def said(*messages: Message, codec: Anthropic = CODEC) -> tuple[list[Any], list[tuple[str, str]]]:
    """Return the JSON of *messages*, and the losses."""
    source, losses = written(ChatRequest("claude", messages, max_tokens=1), codec)
    return source["messages"], losses


def read(**fields: Any) -> ChatRequest:
    """Return the request that *fields* are read as."""
    source = {"model": "claude", "max_tokens": 1, "messages": HELLO_JSON, **fields}
    return CODEC.decode_request(json.encode(source))


# Where and how


def test_the_request_line_and_headers() -> None:
    """A request goes to /v1/messages with the API version, and with the names of features to be tried where set."""
    http = CODEC.encode_request(ChatRequest("claude", HELLO, max_tokens=1))
    assert (http.method, http.path) == ("POST", "/v1/messages")
    assert http.headers == {
        "content-type": "application/json", "accept": "application/json", "anthropic-version": "2023-06-01"
    }  # fmt: skip
    codec = Anthropic(version="2026-10-21", beta=("a-2025-01-01", "b-2026-01-01"))
    headers = codec.encode_request(ChatRequest("claude", HELLO, stream=True)).headers
    assert headers["anthropic-beta"] == "a-2025-01-01,b-2026-01-01"
    assert headers["anthropic-version"] == "2026-10-21"
    assert headers["accept"] == "text/event-stream"


def test_nothing_is_sent_that_was_not_set() -> None:
    """A request with nothing but a model, messages and a bound is written as just that."""
    assert written(ChatRequest("claude", HELLO, max_tokens=1)) == (
        {"model": "claude", "messages": HELLO_JSON, "max_tokens": 1}, []
    )  # fmt: skip


def test_the_bound_that_must_be_sent() -> None:
    """Where no bound is set the codec's is sent, after the room for thoughts, and the receipt says so."""
    assert written(ChatRequest("claude", HELLO)) == (
        {"model": "claude", "messages": HELLO_JSON, "max_tokens": 4096}, [("defaulted", "$.max_tokens")]
    )  # fmt: skip
    thoughtful = ChatRequest("claude", HELLO, reasoning=ReasoningOptions(budget_tokens=10_000))
    assert written(thoughtful, Anthropic(max_tokens=100))[0]["max_tokens"] == 10_100


def test_a_request_without_a_bound_stays_without_one() -> None:
    """A client's request without a bound, as one to count tokens is, is given back without one."""
    source = {"model": "claude", "messages": HELLO_JSON}
    assert written(CODEC.decode_request(json.encode(source))) == (source, [])


def test_counting_asks_without_what_an_answer_needs() -> None:
    """A request to count tokens has neither bound nor sampling, and nothing is reported as defaulted."""
    http = CODEC.encode_count(ChatRequest("claude", HELLO, tools=(TOOL,), temperature=0, stream=True, user="u"))
    assert http.path == "/v1/messages/count_tokens"
    assert json.decode(http.body).keys() == {"model", "messages", "tools"}
    assert http.losses == ()


def test_the_version_of_one_request() -> None:
    """A date in the request's own extra is the API version of the request; another host's stays in the body."""
    messages = (*HELLO, Message.assistant("Hi."), *HELLO)
    request = ChatRequest("claude", messages, max_tokens=1, temperature=0.5)
    dated = request.but(extra={"anthropic": {"anthropic_version": "2026-10-21"}})
    for http in (CODEC.encode_request(dated), CODEC.encode_count(dated)):
        assert http.headers["anthropic-version"] == "2026-10-21"
        assert json.decode(http.body).keys() <= {"model", "messages", "max_tokens"}
    assert [loss.path for loss in CODEC.encode_request(dated).losses] == ["$.temperature"]
    other = CODEC.encode_request(request.but(extra={"anthropic": {"anthropic_version": "bedrock-2023-05-31"}}))
    assert other.headers["anthropic-version"] == "2023-06-01"
    assert json.decode(other.body)["anthropic_version"] == "bedrock-2023-05-31"
    assert other.losses == ()


def test_a_bound_of_its_own_is_no_default() -> None:
    """A bound that the request's own extra sets is sent, and not reported as defaulted."""
    request = ChatRequest("claude", HELLO, extra={"anthropic": {"max_tokens": 50}})
    assert written(request) == ({"model": "claude", "messages": HELLO_JSON, "max_tokens": 50}, [])


def test_the_list_of_models_is_asked_for_whole() -> None:
    """The list of models comes in pages, of which the largest is asked for."""
    assert CODEC.models_request().path == "/v1/models?limit=1000"


# Roles and turns


def test_system_messages_at_the_head() -> None:
    """All system messages before the first turn become the one top-level text; a developer's too, with a receipt."""
    messages = (Message.system("Be brief."), Message("developer", (Text("Be kind."),)), *HELLO)
    source, losses = written(ChatRequest("claude", messages, max_tokens=1))
    assert source["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    assert source["messages"] == HELLO_JSON
    assert losses == [("approximated", "$.messages[1].role")]


INLINE = (*HELLO, Message.system("Be brief."))


@pytest.mark.parametrize(
    ("model", "stays"),
    [
        ("claude-opus-4-8", True),
        ("claude-opus-4-8-20260528", True),
        ("claude-opus-5", True),
        ("anthropic/claude-sonnet-5.5", True),
        ("us.anthropic.claude-haiku-5-5-v1:0", True),
        ("claude-opus-4-7", False),
        ("claude-opus-4-20250514", False),
        ("claude-haiku-4-5-20251001", False),
        ("claude-3-5-sonnet-latest", False),
        ("claude-mythos-preview", False),
        ("my-deployment", False),
    ],
)
def test_later_system_messages_stay_where_the_model_takes_them(model: str, stays: bool) -> None:
    """A system message after the user's turn stays there if the model's name says 4.8 or later, or the codec so."""
    for codec, expected in (
        (CODEC, stays),
        (Anthropic(inline_system=True), True),
        (Anthropic(inline_system=False), False),
    ):
        source, losses = written(ChatRequest(model, INLINE, max_tokens=1), codec)
        blocks = [{"type": "text", "text": "Be brief."}]
        if expected:
            assert (source["messages"], losses) == ([*HELLO_JSON, {"role": "system", "content": blocks}], [])
        else:
            assert (source["messages"], source["system"]) == (HELLO_JSON, blocks)
            assert losses == [("approximated", "$.messages[1]")]


@pytest.mark.parametrize(
    ("roles", "sent"),
    [
        ("user system", "user system"),
        ("user system system", "user system system"),
        ("user assistant tool system assistant", "user assistant user system assistant"),
        ("user system user", "user user"),
        ("user assistant system", "user assistant"),
        ("user assistant system user", "user assistant user"),
        ("user system assistant user developer", "user system assistant user system"),
    ],
)
def test_later_system_messages_stay_where_they_may_stand(roles: str, sent: str) -> None:
    """The API takes one only after the user's turn, and before the model's or at the end; others go to the head."""
    messages = tuple(
        Message.tool("a", "1") if role == "tool" else Message(role, (Text("Hm."),)) for role in roles.split()
    )
    source, losses = written(ChatRequest("claude-opus-4-8", messages, max_tokens=1))
    assert [turn["role"] for turn in source["messages"]] == sent.split()
    assert ("system" in source) is (len(sent.split()) < len(roles.split()))
    moved = [path for kind, path in losses if not path.endswith(".role")]
    assert len(moved) == len(roles.split()) - len(sent.split())


def test_a_system_message_without_content_stays_anywhere() -> None:
    """One that only sets something is taken at any place."""
    only_sets = Message("system", (), extra={"anthropic": {"output_config": {"effort": "low"}}})
    messages = (*HELLO, Message.assistant("Hi."), only_sets)
    source, losses = written(ChatRequest("claude-opus-5", messages, max_tokens=1))
    assert source["messages"][2] == {"role": "system", "content": [], "output_config": {"effort": "low"}}
    assert losses == []


@pytest.mark.parametrize("model", ["my-deployment", "claude-opus-4-8"])
def test_system_messages_of_this_format_are_given_back_in_their_place(model: str) -> None:
    """What a client of this format sent goes on as it came, without a loss; what was added to it keeps the rules."""
    turns = [*HELLO_JSON, {"role": "system", "content": "Be brief."}, *HELLO_JSON]
    request = read(model=model, messages=turns, system="Be kind.")
    source, losses = written(request)
    assert (source["messages"], source["system"], losses) == (turns, "Be kind.", [])
    source, losses = written(request.but(messages=(*request.messages, Message.user("Well?"))))
    assert [turn["role"] for turn in source["messages"]] == ["user", "user", "user"]
    assert losses == [("approximated", "$.messages[2]")]


def test_empty_system_text_is_not_sent() -> None:
    """System text in which there is nothing to be said is left out, unless a client of this format sent it."""
    assert written(ChatRequest("claude", (Message.system(""), *HELLO), max_tokens=1)) == (
        {"model": "claude", "messages": HELLO_JSON, "max_tokens": 1},
        [],
    )
    both = (Message.system(""), Message.system("Be brief."), *HELLO)
    assert written(ChatRequest("claude", both, max_tokens=1))[0]["system"] == [{"type": "text", "text": "Be brief."}]
    empty: list[Any] = ["", [], [{"type": "text", "text": ""}]]
    for system in empty:
        source, losses = written(read(system=system))
        assert (source["system"], losses) == (system, [])


def test_system_text_is_a_string_or_blocks() -> None:
    """System text is read from either form and given back in the same one."""
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    for system in ("Be brief.", blocks):
        request = read(system=system)
        assert request.messages[0].role == "system"
        assert request.messages[0].content == "Be brief."
        assert written(request)[0]["system"] == system


def test_results_of_a_turn_are_one_message() -> None:
    """Messages of the role `tool` and the user's next one are one user message, with the results first."""
    calls = (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}"))
    turns, losses = said(
        *HELLO,
        Message("assistant", calls),
        Message.tool("a", "1"),
        Message.tool("b", "2", is_error=True),
        Message.user("And now?"),
        Message.user("Well?"),
    )
    assert losses == []
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "user"]
    assert turns[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}]},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "2"}], "is_error": True},
        {"type": "text", "text": "And now?"},
    ]


def test_results_before_another_turn() -> None:
    """Results that the assistant's turn follows are a message of their own, and so are the next ones."""
    turns, _ = said(Message.tool("a", "1"), Message.assistant("Ah."), Message.tool("b", "2"))
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]


def test_results_stand_first_in_a_message() -> None:
    """Results that stand after other parts of a user's message are sent before them, in their own order."""
    turns, _ = said(Message("user", (Text("So:"), ToolResult("a"), ToolResult("b"))))
    assert [block["type"] for block in turns[0]["content"]] == ["tool_result", "tool_result", "text"]
    assert [block.get("tool_use_id") for block in turns[0]["content"]] == ["a", "b", None]


def test_neighbours_of_one_role_stay_apart() -> None:
    """Neighbours of the same role are not joined, since the API does so itself, and so nothing is lost on the way."""
    turns, losses = said(Message.user("a"), Message.user("b"), Message.assistant("c"), Message.assistant("d"))
    assert [turn["role"] for turn in turns] == ["user", "user", "assistant", "assistant"]
    assert losses == []


def test_an_unknown_role_is_the_users() -> None:
    """A role of another format's is sent as the user's, and names are left out, both with a receipt."""
    turns, losses = said(Message("critic", (Text("No."),), "Ada"))
    assert turns == [{"role": "user", "content": [{"type": "text", "text": "No."}]}]
    assert losses == [("dropped", "$.messages[0].name"), ("approximated", "$.messages[0].role")]


# Parts


def test_empty_texts_are_left_out() -> None:
    """An empty text, which the API refuses and which says nothing, is left out beside a call and in a result."""
    call = ToolCall("a", "f", "{}")
    turns, losses = said(Message("assistant", (Text(""), call)), Message.tool("a", ""))
    assert [block["type"] for block in turns[0]["content"]] == ["tool_use"]
    assert turns[1]["content"] == [{"type": "tool_result", "tool_use_id": "a"}]
    assert losses == []


def test_empty_messages_are_left_out() -> None:
    """A message in which nothing is left, which the API refuses, is left out with a receipt."""
    turns, losses = said(Message.user("Hi"), Message.assistant(""), Message("assistant", (Reasoning("Hm."),)))
    assert [turn["role"] for turn in turns] == ["user"]
    assert losses == [
        ("dropped", "$.messages[1]"), ("dropped", "$.messages[2].parts[0]"), ("dropped", "$.messages[2]")
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "  ", "{}"])
def test_a_call_without_arguments(text: str) -> None:
    """A call without arguments has an empty object as its input."""
    assert said(Message("assistant", (ToolCall("a", "f", text),)))[0][0]["content"][0]["input"] == {}


@pytest.mark.parametrize(("text", "kind"), [('{"a": 1', "function"), ("[1]", "function"), ("*** go", "custom")])
def test_arguments_that_are_no_object(text: str, kind: str) -> None:
    """Arguments that are not an object are sent as text inside of one, with a receipt; nothing of them is lost."""
    turns, losses = said(Message("assistant", (ToolCall("a", "f", text, kind),)))
    assert turns[0]["content"][0]["input"] == {"arguments": text}
    assert losses == [("approximated", "$.messages[0].parts[0].arguments")]


def test_ids_of_another_pattern() -> None:
    """An id with characters that Anthropic refuses is changed alike in the call and its result, with receipts."""
    turns, losses = said(Message("assistant", (ToolCall("f.g:0|x", "f"),)), Message.tool("f.g:0|x", "1"))
    assert turns[0]["content"][0]["id"] == turns[1]["content"][0]["tool_use_id"] == "f_g_0_x"
    assert losses == [
        ("approximated", "$.messages[0].parts[0].id"), ("approximated", "$.messages[1].parts[0].call_id")
    ]  # fmt: skip


def test_thoughts_go_back_with_their_signature_only() -> None:
    """Signed thoughts go back unchanged, be their text empty; unsigned ones, which the API refuses, are dropped."""
    parts = (Reasoning("Hm.", "sig"), Reasoning("", "sig"), Reasoning("Hm."), Text("Yes."))
    turns, losses = said(Message("assistant", parts))
    assert turns[0]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "thinking", "thinking": "", "signature": "sig"},
        {"type": "text", "text": "Yes."},
    ]
    assert losses == [("dropped", "$.messages[0].parts[2]")]


def test_unknown_blocks_keep_their_place_and_their_bytes() -> None:
    """Redacted thoughts and blocks of server tools are carried whole and in order between the others."""
    content = [
        {"type": "redacted_thinking", "data": "EtUF"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"encrypted_content": "E"}]},
        {"type": "text", "text": "Yes."},
    ]
    request = read(messages=[*HELLO_JSON, {"role": "assistant", "content": content}])
    assert [type(part) for part in request.messages[1].parts] == [Opaque, Opaque, Opaque, Text]
    assert written(request)[0]["messages"][1]["content"] == content


def test_blocks_of_other_formats_are_dropped() -> None:
    """A block, a tool or a tool choice that only another format knows is left out, with a receipt."""
    other = Opaque("openai-chat", {"type": "x"})
    request = ChatRequest(
        "claude", (Message("user", (other, Text("Hi"))),), tools=(other, TOOL), tool_choice=other, max_tokens=1
    )
    source, losses = written(request)
    assert source["messages"][0]["content"] == [{"type": "text", "text": "Hi"}]
    assert [tool["name"] for tool in source["tools"]] == ["f"]
    assert "tool_choice" not in source
    assert losses == [("dropped", "$.messages[0].parts[0]"), ("dropped", "$.tools[0]"), ("dropped", "$.tool_choice")]


def test_fields_of_other_formats_are_reported() -> None:
    """What another format says beyond the vocabulary, at any place, is on the receipt."""
    extra = {"openai-chat": {"x": 1}}
    request = ChatRequest(
        "claude",
        (Message("user", (Text("Hi", extra=extra),), extra=extra),),
        tools=(Tool("f", extra=extra),),
        reasoning=ReasoningOptions(effort="low", extra=extra),
        response_format=ResponseFormat("json_schema", {}, extra=extra),
        tool_choice=ToolName("f", extra=extra),
        max_tokens=1,
        extra=extra,
    )
    places = ["$", "$.messages[0]", "$.messages[0].parts[0]", "$.tools[0]"]
    places += ["$.tool_choice", "$.reasoning", "$.response_format"]
    assert written(request)[1] == [("dropped", f"{place}.x") for place in places]


IMAGE = {"type": "base64", "media_type": "image/png", "data": "AAAA"}


@pytest.mark.parametrize(
    ("part", "block", "losses"),
    [
        (Image(data="AAAA", media_type="image/png"), {"type": "image", "source": IMAGE}, []),
        (Image(data="AAAA"), {"type": "image", "source": IMAGE}, ["defaulted media_type"]),
        (Image(url="https://x.org/a"), {"type": "image", "source": {"type": "url", "url": "https://x.org/a"}}, []),
        (Image(file_id="f"), {"type": "image", "source": {"type": "file", "file_id": "f"}}, []),
        (Image(), None, ["dropped "]),
        (
            Image(data="AAAA", media_type="image/png", url="https://x.org", file_id="f", name="n", detail="low"),
            {"type": "image", "source": IMAGE},
            ["dropped detail", "dropped file_id", "dropped name", "dropped url"],
        ),
        (
            Image(url="https://x.org/a", media_type="image/png"),
            {"type": "image", "source": {"type": "url", "url": "https://x.org/a"}},
            ["dropped media_type"],
        ),
        (
            File(data="AAAA", media_type="application/pdf", name="a.pdf"),
            {"type": "document", "source": {**IMAGE, "media_type": "application/pdf"}, "title": "a.pdf"},
            [],
        ),
        (
            File(data=base64.b64encode("Grüß".encode()).decode(), media_type="text/plain"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüß"}},
            [],
        ),
        (
            File(data=base64.b64encode(b"a,b").decode(), media_type="text/csv"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a,b"}},
            ["approximated media_type"],
        ),
        (
            File(data="/w==", media_type="text/plain"),
            {"type": "document", "source": {"type": "base64", "media_type": "text/plain", "data": "/w=="}},
            [],
        ),
        (File(file_id="f"), {"type": "document", "source": {"type": "file", "file_id": "f"}}, []),
        (File(data="AAAA", media_type="video/mp4"), None, ["dropped "]),
        (File(name="x"), None, ["dropped "]),
        (Audio(data="AAAA", media_type="audio/wav"), None, ["dropped "]),
        (Audio(id="a", transcript="Hi"), {"type": "text", "text": "Hi"}, ["approximated "]),
        (Refusal("No."), {"type": "text", "text": "No."}, ["approximated "]),
        (Text("Hi", logprobs=({"token": "Hi"},)), {"type": "text", "text": "Hi"}, ["dropped logprobs"]),
        (Text("Hi", (Annotation(url="https://x.org"),)), {"type": "text", "text": "Hi"}, ["dropped annotations[0]"]),
    ],
    ids=str,
)
def test_parts(part: Any, block: Any, losses: list[str]) -> None:
    """Each part is written as the block of its kind; what of it cannot be said is on the receipt, with its path."""
    turns, found = said(Message("user", (part, Text("!"))))
    assert turns[0]["content"] == [*([] if block is None else [block]), {"type": "text", "text": "!"}]
    told = [f"{kind} {path.removeprefix('$.messages[0].parts[0]').removeprefix('.')}" for kind, path in found]
    assert told == losses


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        {"type": "image", "source": {"type": "fresh"}},
        {"type": "search_result", "source": "s", "title": "t", "content": []},
    ],
)
def test_media_that_only_anthropic_can_say(block: dict[str, Any]) -> None:
    """A medium in a form without neutral meaning is carried whole."""
    request = read(messages=[{"role": "user", "content": [block]}])
    assert request.messages[0].parts == (Opaque("anthropic", block),)


def test_a_text_document_is_read_as_bytes() -> None:
    """A document of plain text is a file like any other, whose bytes are that text."""
    source = {"type": "text", "media_type": "text/plain", "data": "Grüß"}
    document = {"type": "document", "source": source, "title": "t", "context": "c", "citations": {"enabled": True}}
    (part,) = read(messages=[{"role": "user", "content": [document]}]).messages[0].parts
    assert isinstance(part, File)
    assert base64.b64decode(part.data or "").decode() == "Grüß"
    assert (part.media_type, part.name) == ("text/plain", "t")
    assert part.extra == {"anthropic": {"context": "c", "citations": {"enabled": True}}}


def test_citations_keep_what_only_anthropic_knows() -> None:
    """A citation becomes an annotation with its URL and title, and goes back to the letter."""
    citations = [
        {
            "type": "web_search_result_location",
            "url": "https://x.org",
            "title": "X",
            "cited_text": "w",
            "encrypted_index": "E",
        },
        {
            "type": "char_location",
            "document_index": 0,
            "document_title": None,
            "cited_text": "w",
            "start_char_index": 1,
            "end_char_index": 2,
        },
    ]
    content = [{"type": "text", "text": "Yes.", "citations": citations}]
    request = read(messages=[*HELLO_JSON, {"role": "assistant", "content": content}])
    (part,) = request.messages[1].parts
    assert isinstance(part, Text)
    assert [(a.kind, a.url, a.title) for a in part.annotations] == [
        ("url_citation", "https://x.org", "X"), ("char_location", None, None)
    ]  # fmt: skip
    assert written(request) == ({"model": "claude", "max_tokens": 1, "messages": [*HELLO_JSON, {
        "role": "assistant", "content": content}]}, [])  # fmt: skip


# The newer API version


def test_what_the_newer_version_refuses() -> None:
    """From API version 2026-10-21 on, sampling, the assistant's documents and the user's citations are left out."""
    own = Annotation(url="https://x.org", extra={"anthropic": {"cited_text": "w", "encrypted_index": "E"}})
    messages = (
        Message("user", (Text("See", (own,)),)),
        Message("assistant", (File(file_id="f"), Text("Yes", (own,)))),
    )
    request = ChatRequest("claude", messages, max_tokens=1, temperature=0, top_p=1, top_k=1)
    older, losses = written(request)
    assert losses == []
    assert older.keys() >= {"temperature", "top_p", "top_k"}
    newer, losses = written(request, NEWER)
    assert newer["messages"][0]["content"] == [{"type": "text", "text": "See"}]
    assert [block["type"] for block in newer["messages"][1]["content"]] == ["text"]
    assert "citations" in newer["messages"][1]["content"][0]
    assert newer.keys() == {"model", "messages", "max_tokens"}
    assert losses == [
        ("dropped", "$.messages[0].parts[0].annotations"), ("dropped", "$.messages[1].parts[0]"),
        ("dropped", "$.temperature"), ("dropped", "$.top_p"), ("dropped", "$.top_k"),
    ]  # fmt: skip


def test_names_of_versions_elsewhere_are_older_ones() -> None:
    """A version with a name, as Bedrock's and Vertex's have, refuses nothing that the older one takes."""
    request = ChatRequest("claude", HELLO, max_tokens=1, temperature=0)
    assert written(request, Anthropic(version="vertex-2023-10-16"))[1] == []


# Tools


def test_tools_both_ways() -> None:
    """A tool has its schema under Anthropic's name; without one it takes an empty object; server tools are carried."""
    server = {"type": "web_search_20260318", "name": "web_search", "max_uses": 1}
    strict = {"name": "g", "description": "d", "input_schema": {"type": "object", "properties": {}}, "strict": True}
    custom = {**strict, "type": "custom", "cache_control": {"type": "ephemeral"}}
    request = read(tools=[server, strict, custom])
    assert request.tools is not None
    assert request.tools[0] == Opaque("anthropic", server)
    assert request.tools[1] == Tool("g", "d", {"type": "object", "properties": {}}, True)
    assert request.tools[2].extra == {"anthropic": {"cache_control": {"type": "ephemeral"}}}
    assert written(request)[0]["tools"] == [server, strict, custom]
    assert written(ChatRequest("claude", HELLO, tools=(Tool("f"),), max_tokens=1))[0]["tools"] == [
        {"name": "f", "input_schema": {"type": "object"}}
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "written_choice"),
    [
        ("auto", None, {"type": "auto"}),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", True, {"type": "any", "disable_parallel_tool_use": False}),
        ("none", None, {"type": "none"}),
        (ToolName("f"), False, {"type": "tool", "name": "f", "disable_parallel_tool_use": True}),
        (Opaque("anthropic", {"type": "fresh"}), None, {"type": "fresh"}),
    ],
    ids=str,
)
def test_tool_choices_both_ways(choice: Any, parallel: bool | None, written_choice: dict[str, Any]) -> None:
    """Every choice among tools has its name here, and whether calls may be parallel is part of it, turned around."""
    request = ChatRequest(
        "claude", HELLO, tools=(TOOL,), tool_choice=choice, parallel_tool_calls=parallel, max_tokens=1
    )
    source, losses = written(request)
    assert source["tool_choice"] == written_choice
    assert losses == []
    again = CODEC.decode_request(json.encode(source))
    assert (again.tool_choice, again.parallel_tool_calls) == (choice, parallel)


@pytest.mark.parametrize(
    ("tools", "choice", "parallel", "expected", "lost"),
    [
        ((TOOL,), None, False, {"type": "auto", "disable_parallel_tool_use": True}, False),
        ((TOOL,), "none", True, {"type": "none"}, True),
        (None, None, False, None, True),
        ((TOOL,), Opaque("anthropic", {"type": "fresh"}), True, {"type": "fresh"}, True),
    ],
    ids=str,
)
def test_parallel_calls_without_a_choice(tools: Any, choice: Any, parallel: bool, expected: Any, lost: bool) -> None:
    """Parallel calls are forbidden by way of the choice `auto`; where there is nothing to say it with, it is lost."""
    request = ChatRequest("claude", HELLO, tools=tools, tool_choice=choice, parallel_tool_calls=parallel, max_tokens=1)
    source, losses = written(request)
    assert source.get("tool_choice") == expected
    assert losses == ([("dropped", "$.parallel_tool_calls")] if lost else [])


# Thinking and the form of the answer


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (ReasoningOptions(budget_tokens=2000), {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (
            ReasoningOptions(budget_tokens=2000, include=False, effort="max"),
            {
                "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
                "output_config": {"effort": "max"},
            },
        ),
        (ReasoningOptions(budget_tokens=-1), {"thinking": {"type": "adaptive"}}),
        (ReasoningOptions(budget_tokens=-1, include=True), {"thinking": {"type": "adaptive", "display": "summarized"}}),
        (ReasoningOptions(effort="none"), {"thinking": {"type": "disabled"}}),
        (
            ReasoningOptions(effort="high", budget_tokens=0),
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
        ),
        (ReasoningOptions(effort="low"), {"output_config": {"effort": "low"}}),
    ],
    ids=str,
)
def test_thinking_both_ways(options: ReasoningOptions, fields: dict[str, Any]) -> None:
    """Budget, effort and what is shown of thoughts have a field each, and are read from it."""
    source, losses = written(ChatRequest("claude", HELLO, reasoning=options, max_tokens=1))
    assert {key: source[key] for key in ("thinking", "output_config") if key in source} == fields
    assert losses == []
    assert CODEC.decode_request(json.encode(source)).reasoning == options


@pytest.mark.parametrize(
    ("options", "fields", "losses"),
    [
        (ReasoningOptions(effort="minimal"), {"output_config": {"effort": "low"}}, [("approximated", "effort")]),
        (ReasoningOptions(budget_tokens=0), {"thinking": {"type": "disabled"}}, []),
        (ReasoningOptions(effort="none", include=True), {"thinking": {"type": "disabled"}}, [("dropped", "include")]),
        (
            ReasoningOptions(include=True),
            {"thinking": {"type": "adaptive", "display": "summarized"}},
            [("defaulted", "budget_tokens")],
        ),
        (ReasoningOptions(), {}, []),
    ],
    ids=str,
)
def test_thinking_said_otherwise(options: ReasoningOptions, fields: Any, losses: list[tuple[str, str]]) -> None:
    """What has no exact word is said by the nearest one, with a receipt."""
    source, found = written(ChatRequest("claude", HELLO, reasoning=options, max_tokens=1))
    assert {key: source[key] for key in ("thinking", "output_config") if key in source} == fields
    assert found == [(kind, f"$.reasoning.{field}") for kind, field in losses]


def test_thinking_of_a_kind_nobody_else_has() -> None:
    """A thinking mode without neutral meaning is kept, and reported by the name of its field when it crosses."""
    request = read(thinking={"type": "between_tools"}, output_config={"effort": "low", "task_budget": {"total": 9}})
    assert request.reasoning == ReasoningOptions(effort="low")
    assert request.extra == {
        "anthropic": {"thinking": {"type": "between_tools"}, "output_config": {"task_budget": {"total": 9}}}
    }
    assert written(request)[0]["output_config"] == {"effort": "low", "task_budget": {"total": 9}}


def test_the_form_of_the_answer() -> None:
    """A JSON schema is sent natively, without the name that Anthropic has no place for; bare JSON cannot be asked."""
    schema = {"type": "object"}
    named = ResponseFormat("json_schema", schema, "n", "d", True)
    source, losses = written(ChatRequest("claude", HELLO, response_format=named, max_tokens=1))
    assert source["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert losses == [("dropped", f"$.response_format.{field}") for field in ("name", "description", "strict")]
    assert read(output_config=source["output_config"]).response_format == ResponseFormat("json_schema", schema)
    source, losses = written(ChatRequest("claude", HELLO, response_format=ResponseFormat("json"), max_tokens=1))
    assert "output_config" not in source
    assert losses == [("dropped", "$.response_format")]
    plain = ChatRequest("claude", HELLO, response_format=ResponseFormat("text"), max_tokens=1)
    assert written(plain) == written(ChatRequest("claude", HELLO, max_tokens=1))


# The rest


@pytest.mark.parametrize(
    ("fields", "expected", "losses"),
    [
        ({"temperature": 1.5}, {"temperature": 1.0}, ["approximated temperature"]),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature": 0.5, "top_p": 0.9, "top_k": 3}, []),
        ({"stop": ("a", "\n", "b")}, {"stop_sequences": ["a", "b"]}, ["dropped stop"]),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}, []),
        ({"service_tier": "auto"}, {"service_tier": "auto"}, []),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}, ["approximated service_tier"]),
        ({"service_tier": "flex"}, {}, ["dropped service_tier"]),
        ({"n": 1, "frequency_penalty": 0.0, "presence_penalty": 0, "logprobs": False}, {}, []),
        (
            {"n": 2, "seed": 0, "frequency_penalty": 1, "presence_penalty": 1, "logprobs": True, "top_logprobs": 1},
            {},
            [
                "dropped n",
                "dropped seed",
                "dropped frequency_penalty",
                "dropped presence_penalty",
                "dropped logprobs",
                "dropped top_logprobs",
            ],
        ),
        ({"stream": True, "include_usage": True}, {"stream": True}, []),
    ],
    ids=str,
)
def test_plain_fields(fields: dict[str, Any], expected: dict[str, Any], losses: list[str]) -> None:
    """Each plain field has its place here, or is on the receipt."""
    source, found = written(ChatRequest("claude", HELLO, max_tokens=1, **fields))
    assert {k: v for k, v in source.items() if k not in ("model", "messages", "max_tokens")} == expected
    assert [f"{kind} {path[2:]}" for kind, path in found] == losses


def test_a_stream_always_tells_its_usage() -> None:
    """A request for a stream reads as one for its usage, which every stream of this format tells."""
    assert read(stream=True).include_usage is True
    assert read(stream=False).include_usage is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"model": None}, "$.model"),
        ({"messages": None}, "$.messages"),
        ({"messages": "Hi"}, "$.messages"),
        ({"messages": ["Hi"]}, "$.messages[0]"),
        ({"messages": [{"content": "Hi"}]}, "$.messages[0].role"),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, "$.messages[0].role"),
        ({"messages": [{"role": "user"}]}, "$.messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "$.messages[0].content"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "$.messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "$.messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "$.messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "$.messages[0].content[0].source",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]},
            "$.messages[0].content[0].source.url",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f"}]}]},
            "$.messages[0].content[0].input",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "$.messages[0].content[0].tool_use_id",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "citations": [{}]}]}]},
            "$.messages[0].content[0].citations[0].type",
        ),
        ({"system": 1}, "$.system"),
        ({"system": [{"type": "text"}]}, "$.system[0].text"),
        ({"max_tokens": "1"}, "$.max_tokens"),
        ({"temperature": "hot"}, "$.temperature"),
        ({"stop_sequences": "x"}, "$.stop_sequences"),
        ({"stop_sequences": [1]}, "$.stop_sequences[0]"),
        ({"stream": "yes"}, "$.stream"),
        ({"metadata": []}, "$.metadata"),
        ({"metadata": {"user_id": 1}}, "$.metadata.user_id"),
        ({"tools": {}}, "$.tools"),
        ({"tools": ["f"]}, "$.tools[0]"),
        ({"tools": [{}]}, "$.tools[0].name"),
        ({"tool_choice": "auto"}, "$.tool_choice"),
        ({"tool_choice": {}}, "$.tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "$.tool_choice.name"),
        ({"thinking": {}}, "$.thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "$.thinking.budget_tokens"),
        ({"output_config": {"effort": 1}}, "$.output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema", "schema": 1}}}, "$.output_config.format.schema"),
    ],
    ids=str,
)
def test_a_fault_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    """A value of the wrong type is refused with 400, its path, and a sentence that does not show it."""
    with pytest.raises(BadRequestError) as caught:
        read(**fields)
    assert (caught.value.status, caught.value.type, caught.value.param) == (400, "invalid_request_error", path)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """A body that is not a JSON object is refused as a whole."""
    with pytest.raises(BadRequestError) as caught:
        CODEC.decode_request(body)
    assert caught.value.param == "$"


@pytest.mark.parametrize(
    ("codec", "model"),
    [(Anthropic(inline_system=False), "claude-opus-4-8"), (Anthropic(), "claude-sonnet-4-0")],
    ids=["by the codec", "by the model"],
)
def test_a_kept_request_still_moves_system_messages(codec: Anthropic, model: str) -> None:
    """A request that would go out as it came is written again where its receiver takes no system message in between."""
    turns = [("user", "Hi."), ("system", "Be brief."), ("assistant", "Yes."), ("user", "Go on.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    source = {"model": "claude-opus-4-8", "max_tokens": 9, "messages": messages}
    written = codec.encode_request(codec.decode_request(json.encode(source)).but(model=model))
    body = json.decode(written.body)
    assert body["system"] == "Be brief."
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert [loss.path for loss in written.losses] == ["$.messages[1]"]
