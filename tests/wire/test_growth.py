"""What a request or an answer of eight times the size costs: about eight times as much, in every format and shape.

Measured in CPU time of this process, as a ratio in one go, so that neither the machine nor its load decides: what is
linear gives 8, what is quadratic up to 64. The bound is 20, and the best of some tries counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    MessageDelta,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    fold,
)
from antiphon.chat.messages import (
    Annotation,
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.chat.requests import ChatRequest, Tool
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec
from antiphon.formats.cohere import Cohere
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses

SMALL, TIMES, BOUND, TRIES = 250, 8, 20, 4

CODECS: list[Codec] = [OpenAIChat(), Responses(), Anthropic(), Gemini(), Ollama(), Cohere(), Bedrock()]

USER = Message("user", (Text("Hi"),))
PNG = Image(data="aGk=", media_type="image/png")


def call(number: int, kind: str = "function") -> ToolCall:
    """A tool call."""
    return ToolCall(f"c{number}", "f", "{}", kind)


def result(number: int) -> ToolResult:
    """The result of a tool call."""
    return ToolResult(f"c{number}", (Text("x"),))


def said(*parts: Part) -> tuple[Message, ...]:
    """A conversation in which the assistant says this."""
    return (USER, Message("assistant", parts))


def told(role: str, *parts: Part) -> Message:
    """A message."""
    return Message(role, parts)


def sources(size: int) -> tuple[Annotation, ...]:
    """Sources, as annotations of a text."""
    return tuple(Annotation(kind="url_citation", url=f"https://{n}.example", start=0, end=1) for n in range(size))


PARTS: Mapping[str, Callable[[int], Iterable[Part]]] = {
    "calls": lambda size: map(call, range(size)),
    "calls-of-free-text": lambda size: (call(number, "custom") for number in range(size)),
    "calls-of-one-id": lambda size: [call(0)] * size,
    "calls-without-id": lambda size: [ToolCall("", "f", "{}")] * size,
    "thoughts": lambda size: (Reasoning(f"t{number}", "c2ln") for number in range(size)),
    "thoughts-and-text": lambda size: [Reasoning("t", "c2ln"), Text("x")] * (size // 2),
    "text-and-calls": lambda size: (part for n in range(size // 2) for part in (Text("x"), call(n))),
    "texts": lambda size: [Text("x")] * size,
    "sources": lambda size: [Text("x", sources(size))],
    "sources-of-texts": lambda size: (Text("x", (source,)) for source in sources(size)),
    "refusals": lambda size: [Refusal("No.")] * size,
    "foreign": lambda size: [Opaque("another", {"type": "x"})] * size,
    "own-of-anthropic": lambda size: [Opaque("anthropic", {"type": "x"})] * size,
}
"""What an assistant says, by how much."""

CONVERSATIONS: Mapping[str, Callable[[int], Iterable[Message]]] = {
    "results-as-messages": lambda size: (USER, *(told("tool", result(n)) for n in range(size))),
    "results-in-one": lambda size: (USER, told("tool", *map(result, range(size)))),
    "results-of-the-user": lambda size: (USER, *(told("user", result(n), Text("x")) for n in range(size // 2))),
    "rounds": lambda size: (
        message for n in range(size // 2) for message in (told("assistant", call(n)), told("tool", result(n)))
    ),
    "calls-and-results": lambda size: (
        *said(*map(call, range(size // 2))),
        *(told("tool", result(n)) for n in range(size // 2)),
    ),
    "calls-and-results-turned-round": lambda size: (
        *said(*map(call, range(size // 2))),
        *(told("tool", result(n)) for n in reversed(range(size // 2))),
    ),
    "calls-and-results-without-id": lambda size: (
        *said(*[ToolCall("", "f", "{}")] * (size // 2)),
        *[told("tool", ToolResult("", (Text("x"),)))] * (size // 2),
    ),
    "long-result": lambda size: (USER, told("tool", ToolResult("c", (Text("x"),) * size))),
    "texts-of-the-user": lambda size: (told("user", *[Text("x")] * size),),
    "pictures": lambda size: (told("user", *[PNG] * size),),
    "files": lambda size: (told("user", *[File(data="aGk=", media_type="text/plain", name="n")] * size),),
    "sounds": lambda size: (told("user", *[Audio(data="aGk=", media_type="audio/wav", transcript="t")] * size),),
    "users": lambda size: [USER] * size,
    "assistants": lambda size: (USER, *[told("assistant", Text("x"))] * size),
    "turns": lambda size: [USER, told("assistant", Text("x"))] * (size // 2),
    "systems-first": lambda size: (*[told("system", Text("x"))] * size, USER),
    "systems-last": lambda size: (USER, *[told("system", Text("x"))] * size),
    "systems-between": lambda size: (USER, *[told("system", Text("x"))] * size, told("assistant", Text("x"))),
    "systems-and-users": lambda size: [USER, told("system", Text("x"))] * (size // 2),
    "systems-of-nothing": lambda size: (USER, *[told("system")] * size),
    "developers": lambda size: (USER, *[told("developer", Text("x"))] * size),
}

REQUESTS: Mapping[str, Callable[[int], ChatRequest]] = {
    **{name: lambda size, make=make: ChatRequest("m", said(*make(size))) for name, make in PARTS.items()},  # type: ignore[misc]
    **{name: lambda size, make=make: ChatRequest("m", tuple(make(size))) for name, make in CONVERSATIONS.items()},  # type: ignore[misc]
    "tools": lambda size: ChatRequest("m", (USER,), tools=tuple(Tool(f"f{n}") for n in range(size))),
    "stops": lambda size: ChatRequest("m", (USER,), stop=tuple(f"s{n}" for n in range(size))),
    "fields": lambda size: ChatRequest("m", (USER,), extra={"another": {f"k{n}": 1 for n in range(size)}}),
}

EVENTS: Mapping[str, Callable[[int], list[Event]]] = {
    "text": lambda size: [TextDelta("x")] * size,
    "probabilities": lambda size: [TextDelta("x", 0, None, (), ({"token": "x", "logprob": -1.0},))] * size,
    "sources": lambda size: [TextDelta("", 0, None, (source,)) for source in sources(size)],
    "thoughts": lambda size: [ReasoningDelta("x")] * size,
    "signature": lambda size: [ReasoningDelta("", 0, None, "c2ln")] * size,
    "sound": lambda size: [AudioDelta(id="a", data="aGk=", transcript="x")] * size,
    "arguments": lambda size: [ToolCallDelta(call=0, id="c", name="f"), *[ToolCallDelta(call=0, arguments="1")] * size],
    "name": lambda size: [ToolCallDelta(call=0, id="c", name="f"), *[ToolCallDelta(call=0, name="1")] * size],
    "calls": lambda size: [ToolCallDelta(call=n, id=f"c{n}", name="f", arguments="{}") for n in range(size)],
    "fields-of-a-part": lambda size: [TextDelta("x", extra={"another": {f"k{n}": [n]}}) for n in range(size)],
    "list-of-a-part": lambda size: [TextDelta("x", extra={"another": {"k": [n]}}) for n in range(size)],
    "fields-of-a-message": lambda size: [MessageDelta(extra={"another": {f"k{n}": n}}) for n in range(size)],
    "list-of-a-message": lambda size: [MessageDelta(extra={"another": {"k": [n]}}) for n in range(size)],
    "fields-of-an-answer": lambda size: [Start(extra={"another": {f"k{n}": n}}) for n in range(size)],
    "choices": lambda size: [TextDelta("x", number) for number in range(size)],
    "parts": lambda size: [TextDelta("x", 0, number) for number in range(size)],
}


def check_growth(make: Callable[[int], Callable[[], object]]) -> None:
    """Fail where what *make* gives for a size costs much more than `TIMES` as much for `TIMES` the size."""
    small, large = make(SMALL), make(SMALL * TIMES)
    ratio, tries = float("inf"), 0
    gc.collect()
    gc.disable()  # its runs depend on what else this process holds
    try:
        while ratio > BOUND and tries < TRIES:
            ratio, tries = min(ratio, cost(large) / min(cost(small) for _ in range(3))), tries + 1
    finally:
        gc.enable()
    assert ratio <= BOUND, f"{TIMES} times the size costs {ratio:.0f} times as much"


def cost(work: Callable[[], object]) -> float:
    """Return the seconds of CPU that *work* takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_many_times_the_size_costs_as_many_times_as_much(codec: Codec, name: str) -> None:
    """A request is written, and read, in time that grows with its size."""
    check_growth(lambda size: partial(codec.encode_request, REQUESTS[name](size)))

    def reading(size: int) -> Callable[[], object]:
        http = codec.encode_request(REQUESTS[name](size))
        return lambda: codec.decode_request(http.body, http.path)

    check_growth(reading)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("name", PARTS)
def test_an_answer_of_many_times_the_size_costs_as_many_times_as_much(codec: Codec, name: str) -> None:
    """A whole answer is written, and read, in time that grows with its size."""

    def completion(size: int) -> Completion:
        return Completion(
            choices=(Choice(0, Message("assistant", tuple(PARTS[name](size))), "stop"),), id="a", model="m"
        )

    def reading(size: int) -> Callable[[], object]:
        body = codec.encode_response(completion(size))

        def read() -> object:
            decoder = codec.decoder(ChatRequest("m", (USER,)), "application/json")
            return fold([*decoder.feed(body), *decoder.close()])

        return read

    check_growth(lambda size: partial(codec.encode_response, completion(size)))
    check_growth(reading)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("name", EVENTS)
def test_a_stream_of_many_times_the_length_costs_as_many_times_as_much(codec: Codec, name: str) -> None:
    """A stream is written, and read, in time that grows with its length."""
    request = ChatRequest("m", (USER,), stream=True)

    def written(size: int) -> bytes:
        encoder = codec.encoder(request)
        events = [Start(id="a", model="m"), *EVENTS[name](size), End("stop")]
        return b"".join(frame for event in events for frame in encoder.feed(event))

    def reading(size: int) -> Callable[[], object]:
        body = written(size)

        def read() -> object:
            decoder = codec.decoder(request, codec.stream_type)
            pieces = (body[place : place + 1000] for place in range(0, len(body), 1000))
            return fold([*(event for piece in pieces for event in decoder.feed(piece)), *decoder.close()])

        return read

    check_growth(lambda size: lambda: written(size))
    check_growth(reading)


@pytest.mark.parametrize("name", EVENTS)
def test_to_fold_many_times_the_events_costs_as_many_times_as_much(name: str) -> None:
    """Events are put together in time that grows with their number."""
    check_growth(lambda size: partial(fold, EVENTS[name](2 * size)))
