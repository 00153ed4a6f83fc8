"""Results as callers see them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.answers import (
    Choice,
    ChunkChoice,
    Completion,
    CompletionChunk,
    Delta,
    FunctionDelta,
    ToolCallChunk,
    usage_to_dict,
)
from antiphon.chat.losses import Loss
from antiphon.chat.messages import Annotation, Audio, FinishReason, Message, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.usage import Usage
from tests.vendors import openai
from tests.wire import laws

TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
SOURCE = Annotation(url="https://a", title="A", start=0, end=1)
SPOKEN = Audio(id="au", data="QQ==", transcript="t", expires_at=9)
MESSAGE = Message(
    "assistant",
    (
        Reasoning("hm"),
        Text("a", (SOURCE,), (TOKEN,)),
        Refusal("no", (TOKEN,)),
        SPOKEN,
        ToolCall("c", "f", "{}"),
        ToolCall("d", "g", "free text", "custom"),
    ),
)
USAGE = Usage(input_uncached=1, input_cache_read=2, input_cache_write=3, output_visible=4, output_reasoning=5, cost=0.5)
FULL = Completion(choices=(Choice(0, MESSAGE, "tool_calls"),), id="i", model="m", created=7, usage=USAGE)
CHUNK = CompletionChunk(
    "i",
    [
        ChunkChoice(
            0,
            Delta(
                "a",
                "assistant",
                [
                    ToolCallChunk(0, "c", FunctionDelta("f", "{"), "function"),
                    ToolCallChunk(0, None, FunctionDelta(None, "}")),
                ],
                "no",
                "hm",
                [SOURCE],
                SPOKEN,
            ),
            None,
            {"content": [TOKEN]},
        ),
        ChunkChoice(1, Delta(), "stop"),
    ],
    7,
    "m",
    usage=USAGE,
)


def test_of() -> None:
    """The answer that a provider needs most often is one text."""
    completion = Completion.of("Hello", usage=Usage(output_visible=1))
    assert completion.content == completion.choices[0].message.content == "Hello"
    assert (completion.choices[0].index, completion.choices[0].finish_reason) == (0, "stop")
    assert completion.usage == Usage(output_visible=1)
    assert Completion(choices=()).content is None


def test_the_official_types_accept_an_answer() -> None:
    """OpenAI's own types accept the JSON of an answer and find everything in it."""
    theirs = openai.types.chat.ChatCompletion.model_validate(FULL.to_dict())
    message = theirs.choices[0].message
    assert (theirs.id, theirs.object, theirs.created, theirs.model) == ("i", "chat.completion", 7, "m")
    assert (message.role, message.content, message.refusal) == ("assistant", "a", "no")
    assert message.audio is not None
    assert message.audio.data == "QQ=="
    assert message.annotations is not None
    assert message.annotations[0].url_citation.url == "https://a"
    assert message.tool_calls is not None
    assert [call.id for call in message.tool_calls] == ["c", "d"]
    assert theirs.choices[0].finish_reason == "tool_calls"
    assert theirs.choices[0].logprobs is not None
    assert theirs.choices[0].logprobs.refusal is not None
    assert theirs.usage is not None
    assert (theirs.usage.prompt_tokens, theirs.usage.completion_tokens, theirs.usage.total_tokens) == (6, 9, 15)
    assert theirs.usage.prompt_tokens_details is not None
    assert theirs.usage.prompt_tokens_details.cached_tokens == 2


def test_the_official_types_accept_a_chunk() -> None:
    """OpenAI's own types accept the JSON of a chunk and find everything in it."""
    theirs = openai.types.chat.ChatCompletionChunk.model_validate(CHUNK.to_dict())
    delta = theirs.choices[0].delta
    assert (theirs.id, theirs.object, theirs.created, theirs.model) == ("i", "chat.completion.chunk", 7, "m")
    assert (delta.role, delta.content, delta.refusal) == ("assistant", "a", "no")
    assert delta.tool_calls is not None
    assert [(call.index, call.id) for call in delta.tool_calls] == [(0, "c"), (0, None)]
    assert delta.tool_calls[1].function is not None
    assert delta.tool_calls[1].function.arguments == "}"
    assert theirs.choices[1].finish_reason == "stop"
    assert theirs.usage is not None
    assert theirs.usage.total_tokens == 15


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "pause", "error", "other", None])
def test_the_official_types_take_any_finish_reason(reason: FinishReason | None) -> None:
    """Reasons that OpenAI does not have pass through its client, which reads answers without checking them."""
    completion = Completion(choices=(Choice(0, MESSAGE, reason),))
    assert openai.types.chat.ChatCompletion.construct(**completion.to_dict()).choices[0].finish_reason == reason
    chunk = CompletionChunk("", [ChunkChoice(0, Delta(), reason)], 0, "")
    assert openai.types.chat.ChatCompletionChunk.construct(**chunk.to_dict()).choices[0].finish_reason == reason


def test_what_is_not_set_is_not_there() -> None:
    """Fields that were not set are not in the JSON, but for those that OpenAI always has."""
    assert Completion.of("a").to_dict() == {
        "id": "",
        "object": "chat.completion",
        "created": 0,
        "model": "",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
    }
    assert CompletionChunk("i", [ChunkChoice(0, Delta("a"))], 7, "m").to_dict() == {
        "id": "i",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
    }


def test_what_is_added_to_openais_shape() -> None:
    """Who answered and the provider's own finish reason are told where they are known."""
    choice = Choice(0, Message.assistant("a"), "other", "max_sunlight")
    told = Completion(choices=(choice,), provider="p", losses=(Loss("dropped", "$", "Why."),)).to_dict()
    assert (told["provider"], told["choices"][0]["native_finish_reason"]) == ("p", "max_sunlight")
    chunk = CompletionChunk("i", [ChunkChoice(0, Delta(), "other", None, "max_sunlight")], 7, "m", "p").to_dict()
    assert (chunk["provider"], chunk["choices"][0]["native_finish_reason"]) == ("p", "max_sunlight")


@pytest.mark.parametrize("result", [FULL, CHUNK, Completion.of("é\u2028"), CompletionChunk("", [], 0, "")])
def test_all_ways_to_json(result: Completion | CompletionChunk) -> None:
    """The OpenAI client's names for turning a result into JSON give the same JSON."""
    assert result.model_dump() == result.to_dict()
    assert json.loads(result.to_json()) == json.loads(result.model_dump_json()) == result.to_dict()


def test_logprobs() -> None:
    """A choice has OpenAI's logprobs object, gathered from its parts, or `None`."""
    assert FULL.choices[0].logprobs == {"content": [TOKEN], "refusal": [TOKEN]}
    two = Message("assistant", (Text("a", logprobs=(TOKEN,)), Text("b", logprobs=(TOKEN,)), Text("c")))
    assert Choice(0, two).logprobs == {"content": [TOKEN, TOKEN]}
    assert Choice(0, Message.assistant("a")).logprobs is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(), {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        (
            Usage(input_uncached=1, input_cache_read=0, output_visible=2, output_audio=1, cost=0.0),
            {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "total_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"audio_tokens": 1},
                "cost": 0.0,
            },
        ),
    ],
    ids=repr,
)
def test_usage(usage: Usage, expected: dict[str, Any]) -> None:
    """Usage is told by OpenAI's names; a detail that was not reported is not there, zero is."""
    assert expected == usage_to_dict(usage)


@given(laws.usages("a"))
def test_usage_adds_up(usage: Usage) -> None:
    """The totals that are told are the sums of the buckets."""
    told = usage_to_dict(usage)
    assert told["total_tokens"] == told["prompt_tokens"] + told["completion_tokens"] == usage.total_tokens


def test_results_are_frozen() -> None:
    """Results cannot be changed, and compare by content."""
    assert Completion.of("a") == Completion.of("a")
    with pytest.raises(AttributeError):
        Completion.of("a").id = "x"  # type: ignore[misc]


@given(st.sampled_from([FULL, CHUNK]), st.data())
def test_copies(result: Completion, data: st.DataObject) -> None:
    """A changed copy has the change and all else."""
    model = data.draw(laws.texts)
    assert {**result.to_dict(), "model": model} == msgspec.structs.replace(result, model=model).to_dict()
