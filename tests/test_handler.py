"""Any callable as a provider: every form, its threads, its limits and its clocks."""

from __future__ import annotations

import functools
import inspect
import math
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon import ChatCompletion
from antiphon.chat.answers import Completion
from antiphon.chat.events import (
    End,
    Event,
    Finish,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UsageUpdate,
    fold,
    unfold,
)
from antiphon.chat.messages import Message, Reasoning, Text, ToolCall
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APITimeoutError, StreamError
from antiphon.http.transport import Timeout
from antiphon.providers.base import Call
from antiphon.providers.function import FunctionProvider, as_handler, provider

PATIENCE = 30.0  # seconds until a test that waits in vain fails
SOON = 0.02  # seconds, for clocks that are to run out
REQUEST = ChatRequest("m", (Message.user("hi"),), temperature=0.5)
STREAMED = REQUEST.but(stream=True)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Handlers run on every event loop that anyio knows."""
    return request.param


async def play(target: Any, request: ChatRequest = REQUEST, call: Call | None = None) -> list[Event]:
    """All events of one call."""
    async with aclosing(as_handler(target)(request, call or Call())) as events:
        return [event async for event in events]


async def answer(target: Any, request: ChatRequest = REQUEST, call: Call | None = None) -> Completion:
    """The whole of one answer."""
    return fold(await play(target, request, call))


def outcome(completion: Completion) -> tuple[str | None, str | None]:
    """Its text and its reason."""
    return completion.content, completion.choices[0].finish_reason


# --- forms. Each says "m:hi", the model and the message that it was given, in one piece or several.


def function(model: str, messages: list[dict[str, Any]], **params: Any) -> str:
    """A blocking function."""
    return f"{model}:{messages[0]['content']}"


async def coroutine(model: str, messages: list[dict[str, Any]], **params: Any) -> str:
    """A coroutine function."""
    await anyio.lowlevel.checkpoint()
    return function(model, messages)


def generator(model: str, messages: list[dict[str, Any]], **params: Any) -> Iterator[str]:
    """A blocking generator."""
    yield f"{model}:"
    yield messages[0]["content"]


async def async_generator(model: str, messages: list[dict[str, Any]], **params: Any) -> AsyncIterator[str]:
    """An async generator."""
    for piece in generator(model, messages):
        await anyio.lowlevel.checkpoint()
        yield piece


KINDS = (function, coroutine, generator, async_generator)


class BareAsyncIterator:
    """An async iterator without `aclose`, as some libraries have it."""

    def __init__(self, pieces: Iterable[Any]) -> None:
        self.pieces = iter(pieces)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await anyio.lowlevel.checkpoint()
        for piece in self.pieces:
            return piece
        raise StopAsyncIteration


class BareAwaitable:
    """An awaitable that is no coroutine."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from anyio.lowlevel.checkpoint().__await__()
        return self.value


class Over:
    """A callable object over a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class CallableFunction(Over):
    """Called as a function."""

    def __call__(self, model: str, messages: list[dict[str, Any]], **params: Any) -> Any:
        """Return the answer."""
        return self.function(model, messages, **params)


class CallableCoroutine(Over):
    """Called as a coroutine function."""

    async def __call__(self, model: str, messages: list[dict[str, Any]], **params: Any) -> Any:
        """Return the answer."""
        return await self.function(model, messages, **params)


class CallableGenerator(Over):
    """Called as a generator."""

    def __call__(self, model: str, messages: list[dict[str, Any]], **params: Any) -> Iterator[Any]:
        """Give the pieces."""
        yield from self.function(model, messages, **params)


class CallableAsyncGenerator(Over):
    """Called as an async generator."""

    async def __call__(self, model: str, messages: list[dict[str, Any]], **params: Any) -> AsyncIterator[Any]:
        """Give the pieces."""
        async for piece in self.function(model, messages, **params):
            yield piece


class Instance:
    """Holds its model in an instance attribute, so that it works only when it was made."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def create_completion(self, model: str, messages: list[dict[str, Any]], **params: Any) -> Iterator[str]:
        """Give the one piece."""
        yield self.prefix + function(model, messages)


class WithMethods:
    """Has methods of two kinds."""

    async def create_async(self, model: str, messages: list[dict[str, Any]]) -> str:
        """Return the answer."""
        return function(model, messages)

    def bound(self, model: str, messages: list[dict[str, Any]]) -> Iterator[str]:
        """Give the one piece."""
        yield function(model, messages)


def loudly(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain decorator around any kind of function."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def class_of(method: str, kind: Any) -> type:
    """A class with just that method."""
    return type("Made", (), {method: kind})


FORMS: dict[str, Any] = {
    **{kind.__name__: kind for kind in KINDS},
    **{f"partial-{kind.__name__}": functools.partial(kind, unknown=1) for kind in KINDS},
    **{f"wrapped-{kind.__name__}": loudly(kind) for kind in KINDS},
    "lambda": lambda model, messages: function(model, messages),
    "callable-function": CallableFunction(function),
    "callable-coroutine": CallableCoroutine(coroutine),
    "callable-generator": CallableGenerator(generator),
    "callable-async-generator": CallableAsyncGenerator(async_generator),
    "bound-method": WithMethods().bound,
    "instance": Instance(),
    "class-with-instance-method": Instance,
    "class-with-async-instance-method": WithMethods,
    "static-function": class_of("create_completion", staticmethod(function)),
    "static-generator": class_of("create_completion", staticmethod(generator)),
    "static-coroutine": class_of("create_async", staticmethod(coroutine)),
    "static-async-generator": class_of("create_async_generator", staticmethod(async_generator)),
    "classmethod": class_of("create_completion", classmethod(lambda cls, model, messages: function(model, messages))),
    "classmethod-coroutine": class_of("create_async", classmethod(lambda cls, m, messages: coroutine(m, messages))),
    "returns-awaitable": lambda model, messages: BareAwaitable(function(model, messages)),
    "returns-coroutine": lambda model, messages: coroutine(model, messages),
    "returns-iterator": lambda model, messages: iter([f"{model}:", messages[0]["content"]]),
    "returns-async-iterator": lambda model, messages: BareAsyncIterator([f"{model}:", messages[0]["content"]]),
    "returns-completion": lambda model, messages: Completion.of(function(model, messages)),
    "yields-events": lambda model, messages: iter([TextDelta(f"{model}:"), TextDelta(messages[0]["content"])]),
    "yields-completion": lambda model, messages: iter([Completion.of(function(model, messages))]),
    "request": lambda request: f"{request.model}:{request.messages[0].content}",
    "handler": lambda request, call: f"{request.model}:{request.messages[0].content}",
}


@pytest.mark.anyio
@pytest.mark.parametrize("form", FORMS)
async def test_forms(form: str) -> None:
    """Every form gives the same answer: bare, decorated, and decorated with arguments, whole and as a stream."""
    target = FORMS[form]
    for made in (target, provider(target), provider(name="mine")(target)):
        assert outcome(await answer(made, REQUEST)) == outcome(await answer(made, STREAMED)) == ("m:hi", "stop")


@pytest.mark.anyio
async def test_events_of_a_plain_provider() -> None:
    """A plain provider's answer begins with who it is and when, and ends with a reason."""
    start, *pieces, end = await play(generator)
    assert isinstance(start, Start)
    assert ("m", "generator") == (start.model, start.provider)
    assert start.id.startswith("chatcmpl-")
    assert start.created > 1_700_000_000
    assert [TextDelta("m:"), TextDelta("hi"), End("stop")] == [*pieces, end]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (function, "function"),
        (Instance, "Instance"),
        (Instance(), "Instance"),
        (functools.partial(functools.partial(function, x=1), y=2), "function"),
        (type("Named", (Instance,), {"name": "my-models"}), "my-models"),
        (FunctionProvider(function, name="given"), "given"),
        (provider(function), "function"),
        (provider(name="given")(function), "given"),
    ],
)
def test_name(target: Any, name: str) -> None:
    """A provider is called what it says, or what it is."""
    assert name == as_handler(target).name
    assert repr(name) in repr(as_handler(target))


class AllForms:
    """Says which of its methods was called."""

    async def create_async(self, request: ChatRequest) -> str:
        """Say so."""
        return "create_async"

    async def create_async_generator(self, request: ChatRequest) -> AsyncIterator[str]:
        """Say so."""
        yield "create_async_generator"

    def create_completion(self, request: ChatRequest) -> Iterator[str]:
        """Say so."""
        yield "create_completion"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("present", "whole", "streamed"),
    [
        (("create_async", "create_async_generator", "create_completion"), "create_async", "create_async_generator"),
        (("create_async", "create_completion"), "create_async", "create_completion"),
        (("create_async_generator", "create_completion"), "create_async_generator", "create_async_generator"),
        (("create_async",), "create_async", "create_async"),
    ],
)
async def test_choice_of_form(present: tuple[str, ...], whole: str, streamed: str) -> None:
    """Whole answers come from the coroutine where there is one, streams from what can stream."""
    target = type("Some", (), {name: getattr(AllForms, name) for name in present})
    assert whole == (await answer(target, REQUEST)).content
    assert streamed == (await answer(target, STREAMED)).content


# --- what a provider is given


@pytest.mark.anyio
async def test_request_is_passed_whole() -> None:
    """A target of one argument gets the request itself, and one of (request, call) the call beside it."""
    seen: list[Any] = []
    call = Call()

    def one(request: ChatRequest) -> str:
        seen.append(request)
        return "ok"

    def two(request: ChatRequest, call: Call) -> str:
        seen.append(call)
        return "ok"

    await answer(one, STREAMED, call)
    await answer(two, STREAMED, call)
    assert seen[0] is STREAMED
    assert seen[1] is call


def everything(model: str, messages: Any, **params: Any) -> Any:
    """Takes whatever was set."""
    return params


def two_named(model: str, messages: Any, temperature: float = 9.0, stop: Any = None) -> Any:
    """Takes two parameters, each with a default."""
    return {"temperature": temperature, "stop": stop}


def keyword_only(model: str, messages: Any, *, stream: bool, temperature: float | None = None) -> Any:
    """Takes two parameters by name alone."""
    return {"stream": stream, "temperature": temperature}


def only_by_name(*, model: str, messages: Any, temperature: float) -> Any:
    """Takes all that it takes by name."""
    return {"temperature": temperature}


def starred(*args: Any, **params: Any) -> Any:
    """Takes everything."""
    assert len(args) == 2
    return params


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (everything, {"temperature": 0.5, "max_tokens": 7, "tools": [], "stream": True}),
        (two_named, {"temperature": 0.5, "stop": None}),
        (keyword_only, {"stream": True, "temperature": 0.5}),
        (only_by_name, {"temperature": 0.5}),
        (starred, {"temperature": 0.5, "max_tokens": 7, "tools": [], "stream": True}),
    ],
)
async def test_parameters(target: Callable[..., Any], expected: dict[str, Any]) -> None:
    """A target gets the parameters that were set and that it takes, by OpenAI's names, and the dicts of messages."""
    seen: list[Any] = []

    @functools.wraps(target)
    def noting(*args: Any, **params: Any) -> str:
        seen.append(target(*args, **params))
        given = inspect.signature(target).bind(*args, **params).arguments
        seen.append(given.get("messages") or given["args"][1])
        return "ok"

    await answer(noting, STREAMED.but(max_tokens=7, tools=()))
    assert [expected, [{"role": "user", "content": "hi"}]] == seen


# --- what a provider may give


@pytest.mark.anyio
async def test_pieces_of_none_are_passed_over() -> None:
    """`None` and empty strings among the pieces are nothing."""
    assert [TextDelta("a"), TextDelta("b"), End("stop")] == (await play(lambda request: iter([None, "a", "", "b"])))[1:]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "target",
    [
        lambda request: None,
        lambda request: "",
        lambda request: iter(()),
        lambda request: iter([None, ""]),
        lambda request: BareAsyncIterator(()),
        lambda request: BareAwaitable(None),
        lambda request: iter([UsageUpdate(Usage(input_uncached=1))]),
        lambda request: iter([Start(id="x")]),
    ],
    ids=["none", "empty", "no-piece", "empty-pieces", "async", "awaitable", "usage-alone", "start-alone"],
)
async def test_silence_is_an_error(target: Any) -> None:
    """A provider that says nothing at all fails, rather than giving an empty answer."""
    with pytest.raises(StreamError, match="said nothing at all") as caught:
        await play(FunctionProvider(target, name="mute"))
    assert ("mute", "m") == (caught.value.provider, caught.value.model)


@pytest.mark.anyio
@pytest.mark.parametrize(("wrong", "kind"), [(3, "int"), (b"x", "bytes"), (["a"], "list"), ({"a": 1}, "dict")])
@pytest.mark.parametrize("wrap", [lambda piece: piece, lambda piece: iter([piece])], ids=["returned", "yielded"])
async def test_wrong_types(wrong: object, kind: str, wrap: Callable[[Any], Any]) -> None:
    """A piece of another type is a TypeError that says what it was and what may be given."""
    with pytest.raises(TypeError, match=f"'odd' gave a {kind}; it may return or yield str, events"):
        await play(FunctionProvider(lambda request: wrap(wrong), name="odd"))


@pytest.mark.parametrize("target", [object(), 3, "openai", type("Empty", (), {}), {"create": function}])
def test_not_a_provider(target: Any) -> None:
    """What has none of the forms is refused when it is given, with the forms named."""
    with pytest.raises(TypeError, match="is not a provider: pass a function, or a class or instance that has create_"):
        as_handler(target)


def test_a_handler_is_taken_as_it_is() -> None:
    """Handlers are not wrapped again."""
    made = FunctionProvider(function)
    assert as_handler(made) is made


@pytest.mark.anyio
async def test_usage_and_end_of_a_provider() -> None:
    """A provider may tell its usage, who it is and why it ended; what it does not tell is filled in."""
    events = [Start(id="mine", model="m-2"), TextDelta("a"), UsageUpdate(Usage(output_visible=1)), End("length")]
    got = await answer(lambda request: iter(events))
    assert ("a", "length") == outcome(got)
    assert ("mine", "m-2", "<lambda>", Usage(output_visible=1)) == (got.id, got.model, got.provider, got.usage)
    assert got.created > 0


@pytest.mark.anyio
@pytest.mark.parametrize("end", [End(usage=Usage(output_visible=1)), UsageUpdate(Usage(output_visible=1))])
async def test_an_end_without_a_reason_is_a_stop(end: Event) -> None:
    """A plain provider that ends without saying why has stopped of itself."""
    got = await answer(lambda request: iter(["a", end]))
    assert ("a", "stop", Usage(output_visible=1)) == (*outcome(got), got.usage)


@pytest.mark.anyio
async def test_nothing_follows_the_end() -> None:
    """What a provider gives after its end is not passed on."""
    assert ("a", "stop") == outcome(await answer(lambda request: iter(["a", End("stop"), "b"])))


@pytest.mark.anyio
async def test_a_whole_completion_stays_whole() -> None:
    """A returned completion arrives with everything in it."""
    parts = (Reasoning("hm", "sig"), Text("hello"), ToolCall("c1", "look", '{"at":1}'))
    given_ = fold(unfold(Completion.of("x", finish_reason="tool_calls", usage=Usage(input_uncached=2))))
    choice = given_.choices[0]
    whole = Completion(
        choices=(type(choice)(0, Message("assistant", parts), "tool_calls", "TOOL"),), usage=given_.usage
    )
    got = await answer(lambda request: whole)
    assert whole.choices[0].message.parts == got.choices[0].message.parts
    assert ("tool_calls", "TOOL", whole.usage) == (
        got.choices[0].finish_reason,
        got.choices[0].native_finish_reason,
        got.usage,
    )


# --- errors


class OwnError(Exception):
    """Something that only the provider's own code raises."""


def failing() -> Any:
    """Raise an error of its own."""
    raise OwnError("of my own")


async def failing_coroutine(request: ChatRequest) -> str:
    """Fail on the way."""
    await anyio.lowlevel.checkpoint()
    return str(failing())


def failing_generator(request: ChatRequest) -> Iterator[str]:
    """Fail after the first piece."""
    yield "a"
    failing()


async def failing_async_generator(request: ChatRequest) -> AsyncIterator[str]:
    """Fail after the first piece."""
    yield "a"
    failing()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "target",
    [lambda request: failing(), failing_coroutine, failing_generator, failing_async_generator],
    ids=["function", "coroutine", "generator", "async-generator"],
)
async def test_errors_come_out_unchanged(target: Any) -> None:
    """An exception of the provider's own code arrives as it is, with the line that raised it in its traceback."""
    with pytest.raises(OwnError, match="of my own") as caught:
        await play(target)
    assert type(caught.value) is OwnError
    assert "failing" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert caught.value.__cause__ is None


@pytest.mark.anyio
async def test_wrong_arguments_are_the_targets_own_error() -> None:
    """A target that needs what was not set says so itself."""
    with pytest.raises(TypeError, match="'seed'"):
        await play(lambda model, messages, seed: "x")


# --- threads


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrap",
    [
        lambda note: lambda request: note(),
        lambda note: type("C", (), {"create_completion": staticmethod(lambda request: note())}),
        lambda note: lambda request: (note() for _ in range(1)),
        lambda note: loudly_joined(note),
    ],
    ids=["function", "method", "generator", "decorated-generator"],
)
async def test_blocking_code_runs_off_the_loop(wrap: Callable[[Callable[[], str]], Any]) -> None:
    """Plain functions and generators run in worker threads, also where a decorator hides what they are."""
    threads: list[int] = []

    def note() -> str:
        threads.append(threading.get_ident())
        return "ok"

    assert "ok" == (await answer(wrap(note))).content
    assert threads
    assert threading.get_ident() not in threads


def loudly_joined(note: Callable[[], str]) -> Callable[[ChatRequest], str]:
    """A decorator that runs the generator below it to its end, which blocks."""

    def pieces(request: ChatRequest) -> Iterator[str]:
        yield note()

    @functools.wraps(pieces)
    def joined(request: ChatRequest) -> str:
        return "".join(pieces(request))

    return joined


@pytest.mark.anyio
async def test_async_code_runs_on_the_loop() -> None:
    """Coroutines and async generators stay in the caller's thread, also as methods of a callable object."""
    threads: list[int] = []

    async def one(model: str, messages: Any, **params: Any) -> str:
        threads.append(threading.get_ident())
        return "ok"

    async def several(model: str, messages: Any, **params: Any) -> AsyncIterator[str]:
        yield await one(model, messages)

    for target in (one, several, CallableCoroutine(one), CallableAsyncGenerator(several)):
        assert "ok" == (await answer(target)).content
    assert [threading.get_ident()] * 4 == threads


@pytest.mark.anyio
async def test_at_most_64_threads() -> None:
    """Sixty-four blocking providers run at once in one loop; the others wait their turn."""
    release, lock = threading.Event(), threading.Lock()
    running: set[int] = set()
    peak = 0
    full = anyio.Event()
    token = anyio.lowlevel.current_token()

    def blocking(request: ChatRequest) -> str:
        nonlocal peak
        with lock:
            running.add(threading.get_ident())
            peak = max(peak, len(running))
            if len(running) == 64:
                anyio.from_thread.run_sync(full.set, token=token)
        assert release.wait(PATIENCE)
        with lock:
            running.discard(threading.get_ident())
        return "ok"

    done: list[str | None] = []

    async def one() -> None:
        done.append((await answer(blocking)).content)

    async with anyio.create_task_group() as group:
        for _ in range(70):
            group.start_soon(one)
        await full.wait()
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert (["ok"] * 70, 64) == (done, peak)


def test_blocking_calls_inside_blocking_providers_do_not_wait_for_each_other() -> None:
    """Sixty-four blocking providers that each make a blocking call, two deep, all get their answers."""
    barrier = threading.Barrier(64)

    def outer(request: ChatRequest) -> str:
        barrier.wait(PATIENCE)  # now every thread of the first depth is taken
        return ChatCompletion.create("m", "x", middle)

    def middle(request: ChatRequest) -> str:
        barrier.wait(PATIENCE)
        return ChatCompletion.create("m", "x", inner)

    def inner(request: ChatRequest) -> str:
        return "deep"

    answers: list[str] = []
    callers = [
        threading.Thread(target=lambda: answers.append(ChatCompletion.create("m", "x", outer))) for _ in range(64)
    ]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(PATIENCE)
    assert ["deep"] * 64 == answers


class Stepper:
    """A blocking generator that notes who closes it, and waits in its second step until it is let go."""

    def __init__(self, *, waits: bool = False) -> None:
        self.waits = waits
        self.waiting = threading.Event()
        self.release = threading.Event()
        self.closed = threading.Event()
        self.closed_by = 0
        self.steps = 0

    def __call__(self, request: ChatRequest) -> Iterator[str]:
        """Give pieces without end."""
        try:
            while True:
                self.steps += 1
                yield "a"
                if self.waits:
                    self.waiting.set()
                    assert self.release.wait(PATIENCE)
        finally:
            self.closed_by = threading.get_ident()
            self.closed.set()


@pytest.mark.anyio
async def test_a_blocking_generator_is_closed_with_its_stream() -> None:
    """Leaving a stream closes the generator behind it before control returns, and not on the loop."""
    stepper = Stepper()
    async with aclosing(as_handler(stepper)(STREAMED, Call())) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    assert stepper.closed.is_set()
    assert stepper.closed_by != threading.get_ident()
    assert stepper.steps == 1


@pytest.mark.anyio
async def test_a_blocking_step_that_is_cancelled_is_left_alone() -> None:
    """Cancelling does not wait for a step under way; the generator is closed in its thread when the step is over."""
    stepper = Stepper(waits=True)
    async with anyio.create_task_group() as group:
        group.start_soon(play, stepper)
        await anyio.to_thread.run_sync(stepper.waiting.wait, PATIENCE)
        group.cancel_scope.cancel()
    assert not stepper.closed.is_set()
    stepper.release.set()
    assert await anyio.to_thread.run_sync(stepper.closed.wait, PATIENCE)
    assert stepper.steps == 2
    assert stepper.closed_by != threading.get_ident()


@pytest.mark.anyio
async def test_a_blocking_iterator_without_close_is_just_left() -> None:
    """An iterator that has nothing to close is not asked to."""
    letters = iter("abc")
    async with aclosing(as_handler(lambda request: letters)(STREAMED, Call())) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    assert [*letters][-1:] == ["c"]


# --- limits


def cut(pieces: list[str], stop: tuple[str, ...], max_tokens: int | None) -> tuple[str, str]:
    """What is left of *pieces*, told from the whole text: it ends where the first stop string is complete."""
    said = [piece for piece in pieces if piece]
    full = bool(max_tokens) and len(said) >= (max_tokens or 0)
    text = "".join(said[: max_tokens or None])
    for end in range(1, len(text) + 1):
        found = [len(s) for s in stop if s and text[:end].endswith(s)]
        if found:
            return text[: end - max(found)], "stop"
    return text, "length" if full else "stop"


def taken(pieces: list[str], stop: tuple[str, ...], max_tokens: int | None) -> int:
    """How many of *pieces* a provider has to be asked for until the answer is over."""
    for count in range(1, len(pieces) + 1):
        said = [piece for piece in pieces[:count] if piece]
        text = "".join(said)
        if any(s and s in text for s in stop) or (max_tokens and len(said) >= max_tokens):
            return count
    return len(pieces)


letters = st.text("ab", max_size=3)


@pytest.mark.anyio
@given(
    pieces=st.lists(letters, min_size=1, max_size=8).filter(any),
    stop=st.lists(letters, max_size=3).map(tuple),
    max_tokens=st.sampled_from([None, 0, 1, 2, 3, 5]),
)
@example(pieces=["ab", "c"], stop=("abc", "b"), max_tokens=None)
@example(pieces=["abc"], stop=("abc", "b"), max_tokens=None)
@example(pieces=["a", "b"], stop=("ab", "b"), max_tokens=None)
@example(pieces=["aa", "ab"], stop=("aab",), max_tokens=1)
async def test_limits(pieces: list[str], stop: tuple[str, ...], max_tokens: int | None) -> None:
    """However the text is split, what passes is the reference's cut, no stop text ever shows, and no more is asked."""
    asked = 0

    async def target(request: ChatRequest) -> AsyncIterator[str]:
        nonlocal asked
        for piece in pieces:
            asked += 1
            yield piece

    events = await play(target, STREAMED.but(stop=stop, max_tokens=max_tokens))
    shown = "".join(event.text for event in events if isinstance(event, TextDelta))
    text, reason = cut(pieces, stop, max_tokens)
    assert (text, End(reason)) == (shown, events[-1])  # type: ignore[arg-type]
    assert not any(s and s in shown for s in stop)
    assert taken(pieces, stop, max_tokens) == asked


@pytest.mark.anyio
@given(text=st.text("abc", min_size=1, max_size=12), stop=st.lists(letters, max_size=3).map(tuple), data=st.data())
async def test_splitting_changes_nothing(text: str, stop: tuple[str, ...], data: st.DataObject) -> None:
    """With `stop` alone, an answer in any pieces is the answer in one."""
    places = sorted(data.draw(st.sets(st.integers(1, len(text))), label="places"))
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    request = STREAMED.but(stop=stop)
    assert outcome(await answer(lambda r: BareAsyncIterator([text]), request)) == outcome(
        await answer(lambda r: BareAsyncIterator(pieces), request)
    )


@pytest.mark.anyio
@pytest.mark.parametrize("max_tokens", [None, 0])
async def test_no_limit(max_tokens: int | None) -> None:
    """`None` and 0 are no limit."""
    got = await answer(lambda request: iter("abc"), REQUEST.but(max_tokens=max_tokens, stop=()))
    assert ("abc", "stop") == outcome(got)


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [{"max_tokens": 2}, {"stop": ("b",)}])
async def test_a_limit_closes_the_provider(limit: dict[str, Any]) -> None:
    """When a limit is reached the provider is closed at once, and asked for no more."""
    closed = False

    async def endless(request: ChatRequest) -> AsyncIterator[str]:
        nonlocal closed
        try:
            while True:
                yield "a"
                yield "b"
        finally:
            closed = True

    async with aclosing(as_handler(endless)(STREAMED.but(**limit), Call())) as events:
        async for event in events:
            if isinstance(event, End):
                assert closed
                break


@pytest.mark.anyio
async def test_native_limits() -> None:
    """A provider that obeys the limits itself is not held to them again."""

    class Native(Instance):
        native_limits = True

    request = REQUEST.but(stop=("hi",), max_tokens=1)
    assert ("m:hi", "stop") == outcome(await answer(Native, request))
    assert ("m:hi", "stop") == outcome(await answer(provider(native_limits=True)(generator), request))
    assert ("m:", "length") == outcome(await answer(provider(native_limits=False)(generator), request))
    assert ("m:", "stop") == outcome(await answer(generator, request.but(max_tokens=None)))


@pytest.mark.anyio
async def test_text_held_back_keeps_its_place() -> None:
    """Text that might have been a stop string comes before what follows it, not after."""
    events: list[Any] = ["ab", ReasoningDelta("hm"), "bc", ToolCallDelta(call=0, id="c", name="f"), "x"]
    got = await answer(lambda request: iter(events), REQUEST.but(stop=("bb", "cx")))
    assert [Text("ab"), Reasoning("hm"), Text("bc"), ToolCall("c", "f", ""), Text("x")] == list(
        got.choices[0].message.parts
    )


@pytest.mark.anyio
async def test_a_limit_keeps_the_usage_of_its_piece() -> None:
    """A completion that is cut short by a limit still tells the usage that came with it."""
    whole = Completion.of("abc", usage=Usage(output_visible=3))
    got = await answer(lambda request: whole, REQUEST.but(stop=("b",)))
    assert ("a", "stop", whole.usage) == (*outcome(got), got.usage)


@pytest.mark.anyio
async def test_finish_of_the_provider_wins() -> None:
    """A provider that says why it finished is not contradicted."""
    got = await answer(lambda request: iter(["a", Finish("content_filter")]), REQUEST.but(stop=("z",)))
    assert ("a", "content_filter") == outcome(got)


# --- clocks


async def never_coroutine(request: ChatRequest) -> str:
    """Never return."""
    await anyio.sleep_forever()
    return ""


async def never_async_generator(request: ChatRequest) -> AsyncIterator[str]:
    """Give the request's `user`, if there is one, and then nothing."""
    if request.user:
        yield request.user
    await anyio.sleep_forever()


class Stuck:
    """A blocking function or generator that waits until the test is over."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def function(self, request: ChatRequest) -> str:
        """Wait."""
        self.release.wait(PATIENCE)
        return ""

    def generator(self, request: ChatRequest) -> Iterator[str]:
        """Give the request's `user`, if there is one, and wait."""
        if request.user:
            yield request.user
        self.release.wait(PATIENCE)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """A blocking provider that is let go at the end."""
    made = Stuck()
    yield made
    made.release.set()


@pytest.mark.anyio
@pytest.mark.parametrize("clock", ["first_token", "total"])
@pytest.mark.parametrize("kind", ["coroutine", "async-generator", "function", "generator"])
async def test_a_provider_that_never_answers(kind: str, clock: str, stuck: Stuck) -> None:
    """The clocks end a call to a provider of any form that says nothing, and the error names the clock."""
    target: Any = {
        "coroutine": never_coroutine,
        "async-generator": never_async_generator,
        "function": stuck.function,
        "generator": stuck.generator,
    }[kind]
    timeout = Timeout(**{"first_token": None, "idle": None, "total": None, clock: SOON})
    with pytest.raises(APITimeoutError, match=f"within 0.02 s \\(the {clock} clock\\)") as caught:
        await play(FunctionProvider(target, name="slow"), REQUEST, Call(timeout=timeout))
    assert ("slow", "m") == (caught.value.provider, caught.value.model)
    assert caught.value.retryable


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["async-generator", "generator"])
async def test_a_provider_that_goes_silent(kind: str, stuck: Stuck) -> None:
    """The idle clock ends an answer that stops in the middle, after what came was passed on."""
    target: Any = {"async-generator": never_async_generator, "generator": stuck.generator}[kind]
    call = Call(timeout=Timeout(first_token=None, idle=SOON, total=None))
    async with aclosing(as_handler(target)(STREAMED.but(user="a"), call)) as events:
        assert isinstance(await anext(events), Start)
        assert await anext(events) == TextDelta("a")
        with pytest.raises(APITimeoutError, match="the idle clock"):
            await anext(events)


@pytest.mark.anyio
async def test_the_total_clock_goes_on_after_the_first_piece() -> None:
    """The total clock ends an answer that stops in the middle."""
    call = Call(timeout=Timeout(first_token=None, idle=None, total=SOON))
    with pytest.raises(APITimeoutError, match="the total clock"):
        await play(never_async_generator, STREAMED.but(user="a"), call)


@pytest.mark.anyio
async def test_idle_does_not_count_before_the_first_piece(stuck: Stuck) -> None:
    """Until something was said it is the first-token clock that runs, and no other."""
    call = Call(timeout=Timeout(first_token=SOON * 2, idle=SOON / 2, total=None))
    with pytest.raises(APITimeoutError, match="the first_token clock"):
        await play(never_coroutine, REQUEST, call)


@pytest.mark.anyio
async def test_the_total_clock_ends_a_provider_that_never_pauses() -> None:
    """An async generator that gives the loop no turn is stopped by the total clock all the same."""

    async def busy(request: ChatRequest) -> AsyncIterator[str]:
        while True:
            yield "a"

    with pytest.raises(APITimeoutError, match="the total clock"):
        await play(busy, REQUEST, Call(timeout=Timeout(total=SOON)))


@pytest.mark.anyio
async def test_the_callers_own_clock_stays_the_callers() -> None:
    """A scope of the caller that runs out is the caller's cancellation, not a timeout of the provider."""
    with anyio.move_on_after(SOON) as scope:
        await play(never_coroutine, REQUEST, Call(timeout=Timeout(first_token=math.inf, total=None)))
    assert scope.cancelled_caught


def test_an_awaitable_is_one_of_the_forms() -> None:
    """The test's own awaitable is one that is no coroutine."""
    assert isinstance(BareAwaitable(1), Awaitable)
    assert not inspect.iscoroutine(BareAwaitable(1))
