"""What a server's clients may ask of a local model, and what they may know of each other."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.calls.core import ClientCore
from antiphon.chat.embeddings import EmbeddingRequest
from antiphon.chat.events import UsageUpdate
from antiphon.chat.messages import Message, Opaque, Text
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool
from antiphon.chat.usage import Usage
from antiphon.errors import BadRequestError
from antiphon.formats.openai_chat.request import decode_request
from antiphon.http.exchange import HTTPTransport
from antiphon.providers.base import Call
from antiphon.providers.local.isolated import IsolatedEngine
from antiphon.providers.local.model import LocalModel
from antiphon.server.gateway import Gateway
from antiphon.settings.config import Config
from tests.local_models import Puppet, ask, events_of, last, piece, puppet, question

__all__ = ["puppet"]

pytestmark = pytest.mark.anyio

SENT = {
    "messages", "model", "stream", "stream_options", "max_tokens", "temperature", "cache_prompt", "return_progress"
}  # fmt: skip
"""What is always sent for a question of these tests."""


def served() -> LocalModel:
    """A model as a server's clients have it, in this process, where a stand-in can play it."""
    return LocalModel("m.gguf", served=True)


@pytest.mark.parametrize(
    "field",
    [
        "grammar", "json_schema", "samplers", "n_probs", "lora", "id_slot", "cache_prompt", "t_max_predict_ms",
        "chat_template", "n_keep", "ignore_eos", "preserved_tokens", "grammar_lazy", "n_predict", "n_cmpl", "prompt",
        "mirostat", "dry_sequence_breakers", "return_progress", "timings_per_token", "no_such_field", "model_alias",
    ],
)  # fmt: skip
async def test_fields_of_llama_cpp_do_not_reach_it(field: str, puppet: Puppet) -> None:
    """A field that is not known is left out and reported; with `strict` it is an error."""
    source = {"model": "", "messages": [{"role": "user", "content": "x"}], field: [1], "max_tokens": 8}
    request = decode_request({**source, "temperature": 0}, keep=True)
    call = Call()
    await ask(served(), request, call)
    assert puppet.bodies[0].keys() == SENT
    assert [loss.path for loss in call.losses] == [f"$.{field}"]
    assert (puppet.bodies[0]["cache_prompt"], puppet.bodies[0]["return_progress"]) == (False, True)
    with pytest.raises(BadRequestError, match="strict=True"):
        await ask(served(), request, Call(strict=True))


async def test_fields_inside_do_not_reach_it(puppet: Puppet) -> None:
    """Fields of messages, parts, tools and the form of the answer that are not known are left out and reported."""
    puppet.tools = True
    source = {
        "model": "",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "bad": 1}], "bad": 1}],
        "tools": [{"type": "function", "function": {"name": "f", "bad": 1}, "bad": 1}, {"type": "bad"}],
        "response_format": {"type": "json_object", "schema": {"type": "string"}},
        "tool_choice": {"type": "bad"},
    }
    call = Call()
    await ask(served(), decode_request(source, keep=True), call)
    assert "bad" not in str(puppet.bodies[0])
    assert "schema" not in str(puppet.bodies[0])
    assert len(call.losses) == 7


async def test_known_fields_reach_it(puppet: Puppet) -> None:
    """What is known, and within its bounds, is passed on as it is."""
    fields = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "seed": 3,
        "stop": ["a", "b"], "frequency_penalty": 1, "presence_penalty": -1, "logprobs": True, "top_logprobs": 3,
        "logit_bias": {"12": -100}, "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    source = {"model": "", "messages": [{"role": "user", "content": "x"}], **fields}
    call = Call(strict=True)
    await ask(served(), decode_request(source, keep=True), call)
    assert {key: puppet.bodies[0][key] for key in fields} == fields
    assert call.losses == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1), ("temperature", 1e38), ("top_p", 2), ("top_k", -5), ("top_k", 10**9), ("n", 1000),
        ("seed", 2**63), ("top_logprobs", 10**6), ("frequency_penalty", 5), ("max_tokens", 2**31),
        ("stop", ["x"] * 17), ("stop", ["x" * 257]), ("min_p", 5), ("min_p", "x"), ("min_p", True),
        ("logit_bias", {str(n): 1 for n in range(301)}), ("logit_bias", {"x": 1}), ("logit_bias", [[1, 1]]),
        ("logit_bias", {"1": 1e9}), ("chat_template_kwargs", {"x": 1}), ("chat_template_kwargs", 5),
        ("chat_template_kwargs", {"enable_thinking": "x"}), ("repeat_last_n", 2**31),
    ],
)  # fmt: skip
async def test_values_have_bounds(field: str, value: Any, puppet: Puppet) -> None:
    """A value beyond its bounds is an error that names the field, and llama.cpp is not asked."""
    source = {"model": "", "messages": [{"role": "user", "content": "x"}], field: value}
    with pytest.raises(BadRequestError, match=field) as caught:
        await ask(served(), decode_request(source, keep=True))
    assert (caught.value.status, puppet.asked) == (400, [])


@pytest.mark.parametrize("isolated", [False, True])
async def test_parts_that_are_not_known_are_refused(isolated: bool, puppet: Puppet) -> None:
    """A part of a kind that llama.cpp alone knows, such as a video to fetch, is refused, in a tool's result too."""
    part = Opaque("openai-chat", {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}})
    model = LocalModel("m.gguf", isolated=isolated, served=True)
    with pytest.raises(BadRequestError, match="kind that is not known"):
        await ask(model, ChatRequest("", (Message.user([Text("x"), part]),)))
    assert puppet.asked == []


async def test_a_caller_in_this_process_may_set_more(puppet: Puppet) -> None:
    """Whoever runs the model may set what llama.cpp has."""
    call = Call(strict=True)
    extra = {"openai-chat": {"grammar": 'root ::= "a"', "samplers": ["top_k"]}}
    await ask(LocalModel("m.gguf"), question(extra=extra), call)
    assert (puppet.bodies[0]["grammar"], puppet.bodies[0]["samplers"]) == ('root ::= "a"', ["top_k"])


async def test_reasoning_and_forms_cross(puppet: Puppet) -> None:
    """A schema within the bounds, and an effort, reach llama.cpp."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 10}}}
    form = ResponseFormat("json_schema", schema)
    await ask(served(), question(response_format=form, reasoning=ReasoningOptions(effort="low"), tools=(Tool("f"),)))
    assert puppet.bodies[0]["response_format"]["json_schema"]["schema"] == schema
    assert puppet.bodies[0]["reasoning_effort"] == "low"


async def test_the_prompt_cache_is_not_told_of(puppet: Puppet) -> None:
    """How much of a prompt was in the cache, which depends on what others asked, is told in this process alone."""
    usage = (
        b'{"choices":[],"id":"1","created":1,"model":"m","timings":{"cache_n":7,"prompt_n":3},'
        b'"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":7}}}'
    )
    puppet.script = lambda _: iter((piece("a"), last(), usage))
    mine = await events_of(LocalModel("m.gguf"), question())
    assert any(isinstance(e, UsageUpdate) and e.usage.input_cache_read == 7 for e in mine)
    theirs = await events_of(served(), question())
    [told] = [event.usage for event in theirs if isinstance(event, UsageUpdate)]
    assert told == Usage(input_uncached=10, output_visible=2)
    assert "timings" not in str(theirs)
    assert "cache_n" not in str(theirs)


async def test_fields_of_embeddings_do_not_reach_it(puppet: Puppet) -> None:
    """Fields of llama.cpp for embeddings are left out and reported, or with `strict` an error."""
    request = EmbeddingRequest("", ("x",), extra={"openai-chat": {"lora": 1}})
    with pytest.raises(BadRequestError, match="strict=True"):
        await served().embed(request, Call(strict=True))


def test_a_server_has_models_of_its_own() -> None:
    """What a server finds for its clients is isolated and bound; what a program finds is neither, and another one."""
    config = Config()
    gateway = Gateway(config, HTTPTransport())
    theirs, _ = gateway.core.find("local/smollm2-135m-instruct")
    mine, _ = ClientCore().find("local/smollm2-135m-instruct")
    assert isinstance(theirs, LocalModel)
    assert isinstance(mine, LocalModel)
    assert isinstance(theirs._engine, IsolatedEngine)
    assert isinstance(theirs._embedder, IsolatedEngine)
    assert not isinstance(mine._engine, IsolatedEngine)
    assert (theirs._served, mine._served) == (True, False)
    assert gateway.core.find("")[0] is theirs
