"""The official clients against a started server with a real model: llama.cpp in the process, and by its own server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.providers.auth import Secret
from antiphon.providers.catalog import ProviderRow
from antiphon.providers.local.model import DEFAULT_NAME, LocalModel
from antiphon.providers.lookup import ProviderNames
from antiphon.settings.config import Config
from antiphon.sync import bridge
from tests.local_models import local
from tests.server.clients import SCHEMA
from tests.serving import Serving
from tests.vendors import anthropic, genai, ollama, openai

__all__ = ["local"]

ASKED = "Name one colour."
HELLO: Any = [{"role": "user", "content": ASKED}]
MOST = 6
"""Tokens of an answer."""


@pytest.fixture(scope="module")
def server(local: LocalModel) -> Iterator[Serving]:
    """A server with the model in this process, under its name and an alias, and llama.cpp's own server as providers."""
    url, key = bridge.run(local.http)
    served = {
        id: ProviderRow(id=id, name=id, codec=codec, base_url=base_url)
        for id, codec, base_url in (
            ("llama-chat", "openai-chat", url),
            ("llama-responses", "openai-responses", url),
            ("llama-messages", "anthropic", url.removesuffix("/v1")),
        )
    }
    names = ProviderNames(
        aliases={"tiny": f"local/{DEFAULT_NAME}"},
        keys=dict.fromkeys(served, Secret(key.reveal())),
        default_model=f"local/{DEFAULT_NAME}",
        files=(),
    )
    with Serving(served, Config(names=names)) as serving:
        yield serving


Asked = tuple[str, int | None, int]
"""The text, its tokens as they were counted, and how many pieces it came in."""


def by_openai(server: Serving, model: str, stream: bool) -> Asked:
    """Ask with OpenAI's client."""
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        if not stream:
            whole = client.chat.completions.create(model=model, messages=HELLO, temperature=0, max_tokens=MOST)
            assert whole.usage is not None
            return whole.choices[0].message.content or "", whole.usage.completion_tokens, 1
        chunks = client.chat.completions.create(
            model=model,
            messages=HELLO,
            temperature=0,
            max_tokens=MOST,
            stream=True,
            stream_options={"include_usage": True},
        )
        text, count, tokens = "", 0, None
        for chunk in chunks:
            for choice in chunk.choices:
                text, count = text + (choice.delta.content or ""), count + bool(choice.delta.content)
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        return text, tokens, count


def by_responses(server: Serving, model: str, stream: bool) -> Asked:
    """Ask with OpenAI's client, by its other path."""
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        asked: Any = {"model": model, "input": ASKED, "temperature": 0, "max_output_tokens": MOST}
        if not stream:
            whole = client.responses.create(**asked)
            assert whole.usage is not None
            return whole.output_text, whole.usage.output_tokens, 1
        events = list(client.responses.create(**asked, stream=True))
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        return "".join(pieces), events[-1].response.usage.output_tokens, len(pieces)


def by_anthropic(server: Serving, model: str, stream: bool) -> Asked:
    """Ask with Anthropic's client."""
    with anthropic.Anthropic(base_url=server.address, api_key="none", max_retries=0) as client:
        # The client has no temperature any more, yet a model of this size needs it to say the same twice.
        asked: Any = {"model": model, "messages": HELLO, "max_tokens": MOST, "extra_body": {"temperature": 0}}
        if not stream:
            whole = client.messages.create(**asked)
            return "".join(b.text for b in whole.content if b.type == "text"), whole.usage.output_tokens, 1
        with client.messages.stream(**asked) as events:
            pieces = list(events.text_stream)
            return "".join(pieces), events.get_final_message().usage.output_tokens, len(pieces)


def by_google(server: Serving, model: str, stream: bool) -> Asked:
    """Ask with Google's client."""
    with genai.Client(api_key="none", http_options=genai.types.HttpOptions(base_url=server.address)) as client:
        config = genai.types.GenerateContentConfig(temperature=0, max_output_tokens=MOST)
        if not stream:
            frames = [client.models.generate_content(model=model, contents=ASKED, config=config)]
        else:
            frames = list(client.models.generate_content_stream(model=model, contents=ASKED, config=config))
        pieces = [frame.text for frame in frames if frame.text]
        counts = frames[-1].usage_metadata
        assert counts is not None
        return "".join(pieces), counts.candidates_token_count, len(pieces)


def by_ollama(server: Serving, model: str, stream: bool) -> Asked:
    """Ask with Ollama's client."""
    with ollama.Client(host=server.address) as client:
        options = {"temperature": 0, "num_predict": MOST}
        lines = (
            list(client.chat(model, HELLO, stream=True, options=options))
            if stream
            else [client.chat(model, HELLO, options=options)]
        )
        pieces = [line.message.content for line in lines if line.message.content]
        return "".join(pieces), lines[-1].eval_count, len(pieces)


@pytest.mark.parametrize(
    ("ask", "model"),
    [
        (by_openai, f"local/{DEFAULT_NAME}"),
        *((ask, "tiny") for ask in (by_responses, by_anthropic, by_google, by_ollama)),
        *((ask, f"llama-chat/{DEFAULT_NAME}") for ask in (by_openai, by_google, by_ollama)),
        (by_anthropic, f"llama-responses/{DEFAULT_NAME}"),
        (by_responses, f"llama-messages/{DEFAULT_NAME}"),
    ],
)
def test_whole_and_streamed(server: Serving, model: str, ask: Callable[[Serving, str, bool], Asked]) -> None:
    """Every client gets the same text of the model, whole and streamed, in several pieces, with the tokens counted."""
    whole, tokens, _ = ask(server, model, False)
    streamed, again, pieces = ask(server, model, True)
    assert whole == streamed
    assert whole.strip()
    assert pieces > 1
    assert tokens == again
    assert 0 < (tokens or 0) <= MOST


def test_structured(server: Serving) -> None:
    """The embedded model keeps to a schema that a client sends."""
    with ollama.Client(host=server.address) as client:
        answer = client.chat("tiny", HELLO, format=SCHEMA, options={"temperature": 0, "num_predict": 40})
    said = answer.message.content or ""
    assert answer.done_reason == "length" or list(json.loads(said)) == ["city"]
    assert said.lstrip().startswith("{")


def test_empty_name_is_the_default_model(server: Serving) -> None:
    """A client that leaves the model empty is answered by the default one."""
    text, _, _ = by_openai(server, "", False)
    assert text == by_openai(server, "tiny", False)[0]


def test_embeddings(server: Serving) -> None:
    """The embedded model makes vectors, which come the same in base64 and in numbers."""
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        packed = client.embeddings.create(model="tiny", input=["The cat sleeps."])
        plain = client.embeddings.create(model="tiny", input=["The cat sleeps."], encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-3)
    assert len(plain.data[0].embedding) > 100


def test_models(server: Serving) -> None:
    """The alias, the embedded model and those of llama.cpp's server are in the list."""
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        listed = {model.id for model in client.models.list()}
    assert {"tiny", f"local/{DEFAULT_NAME}"} <= listed
    assert any(name.startswith("llama-chat/") for name in listed)


def test_files_are_not_for_clients(server: Serving, model_file: Path) -> None:
    """A client cannot have a file loaded by naming it."""
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="no local model"):
            client.chat.completions.create(model=f"local/{model_file}", messages=HELLO)


def test_what_it_cannot_do(server: Serving) -> None:
    """A picture is no thing for this model, which the client is told; tools are on the receipt."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": [picture]}])  # type: ignore[list-item]
        made: Any = {"model": "tiny", "messages": HELLO, "tools": [tool], "max_tokens": 2}
        reply = client.chat.completions.with_raw_response.create(**made)
    assert reply.headers["x-antiphon-losses"] == "dropped $.tools"
