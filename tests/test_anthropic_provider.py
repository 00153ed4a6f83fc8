"""Anthropic by name: the same client, another format, the key where Anthropic wants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from antiphon import Client
from antiphon.chat.messages import Message, Reasoning, Text
from antiphon.errors import APIError, BadRequestError, InternalServerError
from antiphon.formats.anthropic import Anthropic
from antiphon.testing import Fault, Upstream

KEY = "sk-ant-test-0123456789"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks Anthropic Messages."""
    with Upstream("Hello from Claude", codec=Anthropic(), models=("claude-x",)) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    """Give a client of that server."""
    with Client(provider="anthropic", base_url=upstream.base_url.removesuffix("/v1"), api_key=KEY) as client:
        yield client


def test_whole(client: Client, upstream: Upstream) -> None:
    """A whole answer crosses both ways, and the receipt says what Anthropic wanted besides."""
    answer = client.chat.completions.create([Message.system("Be brief."), Message.user("hi")], "claude-x")
    assert (answer.content, answer.provider, answer.choices[0].finish_reason) == (
        "Hello from Claude",
        "anthropic",
        "stop",
    )
    assert [(loss.kind, loss.path) for loss in answer.losses] == [("defaulted", "$.max_tokens")]
    seen = upstream.requests[-1]
    assert (seen.path, seen.headers["x-api-key"], seen.headers["anthropic-version"]) == (
        "/v1/messages",
        KEY,
        "2023-06-01",
    )
    assert "authorization" not in seen.headers


def test_streamed(client: Client) -> None:
    """A streamed answer comes in OpenAI's chunks, with usage on the last one."""
    chunks = list(client.chat.completions.create("hi", "claude-x", stream=True, max_tokens=9))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello from Claude"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 3


def test_models(client: Client, upstream: Upstream) -> None:
    """The list of models is asked for where Anthropic has it."""
    assert [model.id for model in client.models.list()] == ["claude-x"]
    assert upstream.requests[-1].path == "/v1/models?limit=1000"


def test_overloaded(client: Client, upstream: Upstream) -> None:
    """529 is an error of the server that may pass."""
    upstream.fault = Fault.of_status(529)
    with pytest.raises(InternalServerError) as caught:
        client.chat.completions.create("hi", "claude-x")
    assert (caught.value.status, caught.value.retryable, caught.value.provider) == (529, True, "anthropic")


@pytest.mark.parametrize(("author", "kept"), [("anthropic", True), ("somebody", False), (None, True)])
def test_signatures_go_home(client: Client, upstream: Upstream, author: str | None, kept: bool) -> None:
    """A signature goes back to the provider that made it, and to nobody else; the receipt says so."""
    thoughts = Message("assistant", (Reasoning("Hm.", "c2lnbmVk"), Text("Hello.")), provider=author)
    history = [Message.user("hi"), thoughts, Message.user("again")]
    answer = client.chat.completions.create(history, "claude-x", max_tokens=9)
    assert (b"c2lnbmVk" in upstream.requests[-1].body) is kept
    assert any(loss.path == "$.messages[1].parts[0].signature" for loss in answer.losses) is not kept


def test_fields_of_its_own(client: Client, upstream: Upstream) -> None:
    """What goes into `extra_body` is in the provider's own words, and nothing is lost of it, not even a null."""
    more = {"metadata": {"user_id": "u"}, "container": None}
    answer = client.chat.completions.create("hi", "claude-x", max_tokens=9, extra_body=more)
    assert answer.losses == ()
    assert more.items() <= upstream.requests[-1].json.items()


def test_counting(client: Client, upstream: Upstream) -> None:
    """A client asks how many tokens a request has, in the provider's format; whoever cannot tell says so."""
    upstream.fault = Fault.of_status(200, '{"input_tokens": 12}')
    assert client.chat.completions.count_tokens("hi", "claude-x", max_tokens=5) == 12
    assert upstream.requests[-1].path == "/v1/messages/count_tokens"
    assert upstream.requests[-1].json.keys() == {"model", "messages"}
    upstream.fault = Fault.of_status(200, '{"tokens": 12}')
    with pytest.raises(APIError, match="count tokens"):
        client.chat.completions.count_tokens("hi", "claude-x")
    with Client(base_url=upstream.base_url) as other, pytest.raises(BadRequestError, match="no way to ask"):
        other.chat.completions.count_tokens("hi", "m")
    with Client(provider=lambda request: "x") as other, pytest.raises(BadRequestError, match="no way to count"):
        other.chat.completions.count_tokens("hi")


def test_tools_of_its_own(client: Client, upstream: Upstream) -> None:
    """A tool that the provider runs is given in its own words, beside functions in OpenAI's."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = client.chat.completions.create("hi", "claude-x", max_tokens=9, tools=[search, function])
    assert answer.losses == ()
    assert upstream.requests[-1].json["tools"][0] == search
    assert upstream.requests[-1].json["tools"][1]["name"] == "f"


def test_words_of_its_own(client: Client, upstream: Upstream) -> None:
    """Fields and blocks in dicts that OpenAI does not know are Anthropic's where it is asked: they arrive as given."""
    cached = {"cache_control": {"type": "ephemeral"}}
    document = {"type": "document", "source": {"type": "url", "url": "http://x/y.pdf"}, "citations": {"enabled": True}}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief.", **cached}]},
        {"role": "user", "content": [document, {"type": "text", "text": "Sum it up.", **cached}]},
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}, **cached}
    answer = client.chat.completions.create(messages, "claude-x", max_tokens=9, tools=[tool], strict=True)
    assert answer.losses == ()
    sent = upstream.requests[-1].json
    assert sent["system"] == [{"type": "text", "text": "Be brief.", **cached}]
    assert sent["messages"][0]["content"] == [document, {"type": "text", "text": "Sum it up.", **cached}]
    assert sent["tools"] == [{"name": "f", "input_schema": {"type": "object"}, **cached}]


def test_words_that_are_not_its_own(client: Client, upstream: Upstream) -> None:
    """Further fields inside OpenAI's own objects are OpenAI's, and a `Message` says itself whose its words are."""
    image = {"type": "image_url", "image_url": {"url": "http://x/y.png", "format": "image/png"}}
    message = Message.user(Text("x", extra={"openai-chat": {"cache_control": {}, "y": 1}}))
    answer = client.chat.completions.create(
        [{"role": "user", "content": [image], "z": None}, message], "claude-x", max_tokens=9
    )
    assert [loss.path for loss in answer.losses] == [
        "$.messages[0].parts[0].image_url",
        "$.messages[1].parts[0].y",
    ]
    assert b"format" not in upstream.requests[-1].body


def test_typed_answers(client: Client, upstream: Upstream) -> None:
    """A type crosses to the provider's own way of asking for a schema with nothing lost, so it works strictly, too."""
    upstream.answer = '{"name": "Ada"}'

    @dataclass
    class Person:
        name: str

    answer = client.chat.completions.parse("Who?", "claude-x", response_format=Person, max_tokens=9, strict=True)
    assert (answer.parsed, answer.losses) == (Person("Ada"), ())
    assert upstream.requests[-1].json["output_config"]["format"]["schema"]["required"] == ["name"]
