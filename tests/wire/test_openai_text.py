"""OpenAI's legacy completions, the server's half: held against the official client, and against themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    UsageUpdate,
    unfold,
)
from antiphon.chat.messages import Message, Part, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIError, BadRequestError, RateLimitError
from antiphon.formats import json
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.legacy_completions import MAX_TOKENS, OpenAIText
from antiphon.testing import Fault, Upstream
from tests.vendors import openai
from tests.wire import laws

DIALECT: Any = OpenAIText()
LOGPROBS = (
    {"token": "Yes", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "No", "logprob": -1.5}]},
    {"token": ".", "logprob": -0.25, "bytes": None, "top_logprobs": []},
)
PARTS = (Reasoning("Hm."), Text("Yes.", logprobs=LOGPROBS), ToolCall("call_1", "f"), Text(" Or no."))
USAGE = Usage(input_uncached=3, output_visible=4)
ANSWER = Completion(
    choices=(Choice(0, Message("assistant", PARTS), "length"), Choice(1, Message.assistant("No."), "stop")),
    id="chatcmpl-7",
    model="m",
    created=5,
    usage=USAGE,
    extra={"openai-chat": {"system_fingerprint": "fp"}},
)


def asked(**fields: Any) -> ChatRequest:
    """Return what is read of a body with *fields*."""
    request: ChatRequest = DIALECT.decode_request(json.encode({"model": "m", **fields}))
    return request


def streamed(events: Sequence[Event], *, usage: bool = False) -> bytes:
    """Return the body that tells of *events*."""
    request = ChatRequest("m", (), stream=True, include_usage=usage)
    return laws.encoded(DIALECT, request, events)


# Requests


def test_a_request() -> None:
    """A prompt becomes a message of the user's; the rest is read as for a chat."""
    request = asked(
        prompt="Once",
        max_tokens=9,
        stop=["END"],
        n=2,
        seed=7,
        temperature=0.5,
        top_p=0.25,
        frequency_penalty=1,
        presence_penalty=-1,
        user="u",
        logprobs=3,
        stream=True,
        stream_options={"include_usage": True},
        echo=False,
        suffix=None,
        best_of=2,
        logit_bias={"50256": -100},
        min_p=0.1,
    )
    assert request == ChatRequest(
        "m",
        (Message.user("Once"),),
        max_tokens=9,
        stop=("END",),
        n=2,
        seed=7,
        temperature=0.5,
        top_p=0.25,
        frequency_penalty=1,
        presence_penalty=-1,
        user="u",
        logprobs=True,
        top_logprobs=3,
        stream=True,
        include_usage=True,
        extra={"openai-chat": {"logit_bias": {"50256": -100}, "min_p": 0.1}},
    )
    assert OpenAIChat().encode_request(request).losses == ()


@pytest.mark.parametrize("prompt", ["Once", ["Once"]], ids=str)
@pytest.mark.parametrize("fields", [{}, {"max_tokens": None, "logprobs": None, "best_of": 1, "tools": []}], ids=str)
def test_defaults(prompt: Any, fields: dict[str, Any]) -> None:
    """Where no bound is set, it is OpenAI's; nothing else is made up."""
    assert asked(prompt=prompt, **fields) == ChatRequest("m", (Message.user("Once"),), max_tokens=MAX_TOKENS)


def test_log_probabilities_of_no_others() -> None:
    """With 0 the chosen tokens alone are asked for."""
    request = asked(prompt="Once", logprobs=0)
    assert (request.logprobs, request.top_logprobs) == (True, 0)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({}, "$.prompt", "an array of one string"),
        ({"prompt": None}, "$.prompt", "an array of one string"),
        ({"prompt": []}, "$.prompt", "an array of one string"),
        ({"prompt": [None]}, "$.prompt", "an array of one string"),
        ({"prompt": {"text": "a"}}, "$.prompt", "an array of one string"),
        ({"prompt": ["a", 3]}, "$.prompt", "an array of one string"),
        ({"prompt": ["a", "b"]}, "$.prompt", "send one request for each"),
        ({"prompt": [464]}, "$.prompt", "as text"),
        ({"prompt": [464, 11]}, "$.prompt", "as text"),
        ({"prompt": [[464, 11]]}, "$.prompt", "as text"),
        ({"prompt": [[464], [11]]}, "$.prompt", "as text"),
        ({"prompt": "a", "suffix": "b"}, "$.suffix", "leave 'suffix' out"),
        ({"prompt": "a", "echo": True}, "$.echo", "leave 'echo' out"),
        ({"prompt": "a", "best_of": 2}, "$.best_of", "leave 'best_of' out"),
        ({"prompt": "a", "best_of": 3, "n": 2}, "$.best_of", "leave 'best_of' out"),
        ({"prompt": "a", "logprobs": True}, "$.logprobs", "an integer"),
        ({"prompt": "a", "max_tokens": "9"}, "$.max_tokens", "an integer"),
        ({"prompt": "a", "stop": [1]}, "$.stop[0]", "a string"),
        ({"prompt": "a", "model": 1}, "$.model", "a string"),
        ({"prompt": "a", "messages": [{}]}, "$.messages", "/v1/chat/completions"),
        ({"prompt": "a", "tools": [{}]}, "$.tools", "/v1/chat/completions"),
    ],
    ids=str,
)
def test_faults(fields: dict[str, Any], param: str, message: str) -> None:
    """What cannot be done is refused with the place and what to do."""
    with pytest.raises(BadRequestError, match=message) as caught:
        asked(**fields)
    assert (caught.value.param, caught.value.status) == (param, 400)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"], ids=str)
def test_no_request(body: bytes) -> None:
    """A body that is no object is refused."""
    with pytest.raises(BadRequestError):
        DIALECT.decode_request(body)


@given(source=st.dictionaries(st.sampled_from(["model", "prompt", "n", "stop", "logprobs", "x"]), laws.json_values))
def test_anything_sent(source: dict[str, Any]) -> None:
    """Whatever JSON is sent, it is read or refused."""
    try:
        request = DIALECT.decode_request(json.encode(source))
    except BadRequestError as error:
        request, param = None, error.param or ""
    if request is None:
        assert param.startswith("$.")
    else:
        assert request.messages[0].content in (source["prompt"], *source["prompt"])


# Answers


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a server that speaks this format."""
    with Upstream(ANSWER, codec=DIALECT) as server:
        yield server


@pytest.fixture
def client(upstream: Upstream) -> Iterator[openai.OpenAI]:
    """Give the official client of that server."""
    with openai.OpenAI(base_url=upstream.base_url, api_key="key", max_retries=0) as client:
        yield client


def test_a_whole_answer(client: openai.OpenAI) -> None:
    """The client finds texts, reasons, log-probabilities and usage; thoughts and calls are left out."""
    answer = client.completions.create(model="m", prompt="Sure?", n=2)
    assert (answer.id, answer.object, answer.model, answer.created) == ("cmpl-7", "text_completion", "m", 5)
    assert answer.system_fingerprint == "fp"
    first, second = answer.choices
    assert (first.text, first.index, first.finish_reason) == ("Yes. Or no.", 0, "length")
    assert (second.text, second.index, second.finish_reason, second.logprobs) == ("No.", 1, "stop", None)
    assert first.logprobs is not None
    assert first.logprobs.tokens == ["Yes", "."]
    assert first.logprobs.token_logprobs == [-0.5, -0.25]
    assert first.logprobs.top_logprobs == [{"No": -1.5}, {}]
    assert first.logprobs.text_offset == [0, 3]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 4, 7)


def test_a_stream(client: openai.OpenAI, upstream: Upstream) -> None:
    """The client reads the same piece by piece, with the usage at the end where it asked for it."""
    options: Any = {"include_usage": True}
    with client.completions.create(model="m", prompt="Sure?", stream=True, stream_options=options) as stream:
        chunks = list(stream)
    assert {(chunk.id, chunk.object, chunk.model) for chunk in chunks} == {("cmpl-7", "text_completion", "m")}
    *middle, last = chunks
    pieces = [(choice.index, choice.text, choice.finish_reason) for chunk in middle for choice in chunk.choices]
    assert pieces == [(0, "Yes.", None), (0, " Or no.", None), (0, "", "length"), (1, "No.", None), (1, "", "stop")]
    assert (last.choices, last.usage and last.usage.total_tokens) == ([], 7)
    assert upstream.requests[-1].json["prompt"] == "Sure?"


@pytest.mark.parametrize("stream", [False, True])
def test_errors(client: openai.OpenAI, upstream: Upstream, stream: bool) -> None:
    """The client raises its own errors of the right class: of a reply, and of a request that was refused."""
    reply = DIALECT.encode_error(RateLimitError("Slow down.", status=429, code="rate_limit_exceeded"))
    upstream.fault = Fault.of_status(reply.status, reply.body.decode())
    with pytest.raises(openai.RateLimitError, match="Slow down") as limited:
        client.completions.create(model="m", prompt="a", stream=stream)
    assert limited.value.code == "rate_limit_exceeded"
    with pytest.raises(openai.BadRequestError, match="leave 'echo' out") as refused:
        client.completions.create(model="m", prompt="a", echo=True, stream=stream)
    assert refused.value.param == "$.echo"


def test_an_error_on_the_way(client: openai.OpenAI, upstream: Upstream) -> None:
    """An error after the first piece reaches the client after that piece."""
    upstream.fault = Fault.error_inside(after=1)
    with client.completions.create(model="m", prompt="a", stream=True) as stream:
        assert next(stream).choices[0].text == "Yes."
        with pytest.raises(openai.APIError):
            list(stream)


def test_a_stream_that_says_little() -> None:
    """What has no `Finish` of its own ends with what `End` says, and no usage is told where nobody asked."""
    assert laws.frames(streamed([End("stop", USAGE)])) == [
        {
            "id": "",
            "object": "text_completion",
            "created": 0,
            "model": "m",
            "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        }
    ]
    body = streamed([TextDelta("a", 1), TextDelta("b", 0), Finish("length", 1), End("stop")])
    ends = [frame["choices"][0] for frame in laws.frames(body)][2:]
    assert [(choice["index"], choice["finish_reason"]) for choice in ends] == [(1, "length"), (0, "stop")]
    assert body.endswith(b"\n\ndata: [DONE]\n\n")


def test_an_answer_that_failed() -> None:
    """An answer that the provider ended with an error ends with one here, too, and not with `[DONE]`."""
    body = streamed([TextDelta("a"), Finish("error", native="overloaded"), End()])
    *_, last = laws.frames(body)
    assert last["error"]["message"] == "The provider ended its answer with an error: overloaded."
    assert b"[DONE]" not in body
    encoder = DIALECT.encoder(ChatRequest("m", ()))
    assert b"Lost" in encoder.error(APIError("Lost"))
    assert [*encoder.feed(End())] == []


def test_other_words() -> None:
    """Words for declining and spoken words are text; later facts of who answers count, and the last usage."""
    events: list[Event] = [
        Start(id="cmpl-a", model="n", created=1),
        UsageUpdate(Usage(input_uncached=1, output_visible=1)),
        RefusalDelta("No", logprobs=({"token": "No", "logprob": -1.0}, "odd")),
        Start(model="o"),
        AudioDelta(transcript=" way"),
        AudioDelta(data="QQ=="),
        PartAdded(Text(".", logprobs=None)),
        TextDelta("!", logprobs=({"token": "!", "logprob": None},)),
        ReasoningDelta("Hm."),
        End("stop", USAGE),
    ]
    frames = laws.frames(streamed(events, usage=True))
    assert [choice["text"] for frame in frames for choice in frame["choices"]] == ["No", " way", ".", "!", ""]
    assert [(frame["id"], frame["model"], frame["created"]) for frame in frames] == [
        ("cmpl-a", "n", 1),
        *[("cmpl-a", "o", 1)] * 5,
    ]
    offsets = [
        choice["logprobs"]["text_offset"] for frame in frames for choice in frame["choices"] if choice["logprobs"]
    ]
    assert offsets == [[0], [2]]
    assert frames[-1]["usage"]["total_tokens"] == 7


parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, laws.texts, logprobs=st.none() | st.just(LOGPROBS)),
    st.builds(Refusal, laws.texts),
    st.builds(Reasoning, laws.texts),
    st.builds(ToolCall, laws.names, laws.names),
)
messages = st.builds(Message, st.just("assistant"), st.lists(parts, max_size=4).map(tuple))
completions = st.builds(
    lambda said, usage: Completion(
        choices=tuple(Choice(index, *one) for index, one in enumerate(said)), id="c", model="m", usage=usage
    ),
    st.lists(st.tuples(messages, laws.finish_reasons("error")), min_size=1, max_size=3),
    laws.usages("openai-chat"),
)


@given(completion=completions)
def test_streams_say_what_whole_answers_say(completion: Completion) -> None:
    """The pieces of a stream, put together, are the whole answer, log-probabilities and usage included."""
    whole = json.decode(DIALECT.encode_response(completion))
    frames = laws.frames(streamed([*unfold(completion)], usage=True))
    together: dict[int, dict[str, Any]] = {}
    for choice in (choice for frame in frames for choice in frame["choices"]):
        known = together.setdefault(choice["index"], {**choice, "text": "", "logprobs": None})
        known["text"] += choice["text"]
        known["finish_reason"] = choice["finish_reason"]
        if (new := choice["logprobs"]) is not None:
            old = known["logprobs"] or {}
            known["logprobs"] = {key: (old.get(key) or []) + (new[key] or []) for key in new}
    laws.check_same(whole["choices"], [*together.values()])
    laws.check_same(whole["usage"], frames[-1]["usage"])
