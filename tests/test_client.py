"""The clients: what is passed how, what comes back, and what is left behind when a caller leaves early."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest

import antiphon
from antiphon import AsyncClient, Client
from antiphon.chat.answers import Choice, Completion, CompletionChunk
from antiphon.chat.events import End, Finish, ReasoningDelta, Start, TextDelta, UsageUpdate
from antiphon.chat.losses import Loss
from antiphon.chat.messages import Message, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.client import AsyncCompletionStream, AsyncStream, CompletionStream
from antiphon.errors import APIConnectionError, APITimeoutError, NestAsyncioError, StreamError
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.transport import Timeout
from antiphon.sync import bridge
from antiphon.testing import Delay, Fault, Script, Upstream
from tests.calling import in_loop

leaves_nothing = pytest.mark.usefixtures("no_leaks")

SOON = 0.02
USAGE = Usage(input_uncached=3, output_visible=2)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server that says five words."""
    with Upstream("one two three four five") as upstream:
        yield upstream


@pytest.fixture
def stalling() -> Iterator[Upstream]:
    """A server that says two words and then nothing, without hanging up."""
    with Upstream("one two three four five", fault=Fault.stall(after=3)) as upstream:
        yield upstream


def left(upstream: Upstream) -> bool:
    """Whether the client hung up; waits for the server's own thread to see it."""
    return upstream.wait_until_left()


# --- how it is called


def parameters(function: Callable[..., Any]) -> list[tuple[str, str]]:
    """Name and kind of each parameter of *function*."""
    return [(p.name, p.kind.name) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_order_of_arguments(client: Any) -> None:
    """Messages come first and the model second; all else goes by name."""
    completions = client(provider=Script("x")).chat.completions
    both = [("messages", "POSITIONAL_OR_KEYWORD"), ("model", "POSITIONAL_OR_KEYWORD")]
    assert parameters(completions.create) == [*both, ("stream", "KEYWORD_ONLY"), ("params", "VAR_KEYWORD")]
    assert parameters(completions.stream) == [*both, ("params", "VAR_KEYWORD")]
    assert {kind for _, kind in parameters(client)} == {"KEYWORD_ONLY"}


def test_both_clients_take_the_same() -> None:
    """What one client takes the other takes too, but for what blocking calls do in a loop."""
    names = [name for name, _ in parameters(AsyncClient)]
    assert [name for name, _ in parameters(Client)] == [*names, "nested"]
    public = {name for name in dir(Client(provider=Script())) if not name.startswith("_")}
    assert public | {"aclose"} == {name for name in dir(AsyncClient(provider=Script())) if not name.startswith("_")}


def test_by_name() -> None:
    """Messages and model may be named."""
    script = Script("x")
    Client(provider=script).chat.completions.create(model="m", messages="hi")
    assert script.requests == [ChatRequest("m", (Message.user("hi"),))]


def test_stream_is_a_flag() -> None:
    """Whatever `stream` is, its truth decides."""
    completions = Client(provider=Script("x")).chat.completions
    assert isinstance(completions.create("hi", "m", stream=bool(0)), Completion)
    with completions.create("hi", "m", stream=bool(1)) as stream:  # type: ignore[union-attr]
        assert isinstance(stream, bridge.Iteration)


# --- whole answers


def test_a_whole_answer(upstream: Upstream) -> None:
    """An answer has OpenAI's shape, says who made it, and what it took."""
    with Client(base_url=upstream.base_url) as client:
        answer = client.chat.completions.create("hi", "m")
    assert (answer.id, answer.object, answer.created, answer.model) == ("chatcmpl-1", "chat.completion", 1, "m")
    assert (answer.provider, answer.losses) == ("127.0.0.1", ())
    assert answer.choices[0].message.content == answer.content == "one two three four five"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 2, 5)


def test_as_json(upstream: Upstream) -> None:
    """An answer turns into OpenAI's JSON, under both names that there are for it."""
    with Client(base_url=upstream.base_url) as client:
        answer = client.chat.completions.create("hi", "m")
    expected = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "one two three four five"},
                "finish_reason": "stop",
            }
        ],
        "provider": "127.0.0.1",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    assert answer.to_dict() == answer.model_dump() == expected
    assert json.loads(answer.to_json()) == json.loads(answer.model_dump_json()) == expected


def test_chunks_as_json() -> None:
    """So do chunks."""
    with Client(provider=Script(Start(id="c", created=1), "a", USAGE)) as client:
        chunks = list(client.chat.completions.create("hi", "m", stream=True))
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "provider": "script"}
    assert [chunk.to_dict() for chunk in chunks] == [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}]},
        {
            **head,
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        },
    ]
    assert json.loads(chunks[0].to_json()) == chunks[0].to_dict()


SCRIPTS = {
    "text": Script("a", USAGE),
    "tools": Script("a", ToolCall("c1", "look", '{"at":1}'), USAGE, finish_reason="tool_calls"),
    "thoughts": Script(ReasoningDelta("hm", signature="s"), "a", Finish("other", 0, "weary")),
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_results_cross_process_borders(script: Script) -> None:
    """Answers and chunks can be pickled and copied, and stay equal."""
    with Client(provider=script) as client:
        answer = client.chat.completions.create("hi", "m")
        chunks = list(client.chat.completions.create("hi", "m", stream=True))
    for result in (answer, *chunks):
        assert pickle.loads(pickle.dumps(result)) == result
        assert copy.deepcopy(result) == result
    error = StreamError("x", provider="p")
    error.received = answer
    assert pickle.loads(pickle.dumps(error)).received == answer
    assert pickle.loads(pickle.dumps(Loss("dropped", "$", "x"))) == Loss("dropped", "$", "x")


# --- streams


def test_a_stream(upstream: Upstream) -> None:
    """A stream gives its pieces as chunks; the last has the reason and the usage."""
    with Client(base_url=upstream.base_url) as client:
        chunks = list(client.chat.completions.create("hi", "m", stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == [
        None,
        "one",
        " two",
        " three",
        " four",
        " five",
        None,
    ]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", *[None] * 6]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5
    assert {(chunk.id, chunk.model, chunk.provider) for chunk in chunks} == {("chatcmpl-1", "m", "127.0.0.1")}
    (request,) = upstream.requests
    assert request.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("source", ["script", "upstream"])
@pytest.mark.parametrize("asked", [None, False, True])
def test_where_usage_comes(source: str, asked: bool | None, upstream: Upstream) -> None:
    """Only who asks for it with `include_usage` gets OpenAI's extra chunk; who refuses it from a server gets none."""
    options: Any = {"provider": Script("a", USAGE)} if source == "script" else {"base_url": upstream.base_url}
    params: Any = {} if asked is None else {"stream_options": {"include_usage": asked}}
    with Client(**options) as client:
        chunks = list(client.chat.completions.create("hi", "m", stream=True, **params))
    shape = [(len(chunk.choices), chunk.usage is not None) for chunk in chunks[-2:]]
    refused = source == "upstream" and asked is False
    assert shape == ([(1, False), (0, True)] if asked else [(1, False), (1, not refused)])


def test_usage_of_both_ways_is_the_same() -> None:
    """The last count that is none but null wins, in a whole answer as in a stream."""
    script = Script(
        UsageUpdate(Usage(input_uncached=9)),
        "a",
        USAGE,
        Usage(),
        End("stop", Usage(output_visible=7)),
        finish_reason=None,
    )
    expected = Usage(input_uncached=3, output_visible=7)
    with Client(provider=script) as client:
        assert client.chat.completions.create("hi", "m").usage == expected
        assert list(client.chat.completions.create("hi", "m", stream=True))[-1].usage == expected


def test_several_choices() -> None:
    """`n` answers come as so many choices, whole and streamed."""
    script = Script("a", TextDelta("b", 1), Finish("stop"), Finish("length", 1), finish_reason="stop")
    with Client(provider=script) as client:
        answer = client.chat.completions.create("hi", "m", n=2)
        chunks = list(client.chat.completions.create("hi", "m", n=2, stream=True))
    assert [(c.index, c.message.content, c.finish_reason) for c in answer.choices] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]
    assert [(c.choices[0].index, c.choices[0].delta.content) for c in chunks[:2]] == [(0, "a"), (1, "b")]
    assert {(c.choices[0].index, c.choices[0].finish_reason) for c in chunks[2:]} == {(0, "stop"), (1, "length")}


@leaves_nothing
def test_a_stream_is_a_context_manager() -> None:
    """Leaving the block ends the provider, before the block is over; further closing does nothing."""
    script = Script(*"abc", Delay(60))
    with Client(provider=script).chat.completions.create("hi", "m", stream=True) as stream:
        assert next(stream).choices[0].delta.content == "a"
        assert script.open == 1
    assert script.open == 0
    assert list(stream) == []
    stream.close()


def test_a_stream_that_is_never_read() -> None:
    """A stream asks nobody anything until it is read."""
    script = Script("a")
    stream = Client(provider=script).chat.completions.create("hi", "m", stream=True)
    stream.close()
    with Client(provider=script).chat.completions.stream("hi", "m"):
        pass
    assert script.requests == []


def test_accumulation(upstream: Upstream) -> None:
    """An accumulating stream can be asked at any time for the answer so far, and for all of it."""
    with Client(base_url=upstream.base_url) as client:
        whole = client.chat.completions.create("hi", "m")
        with client.chat.completions.stream("hi", "m") as stream:
            seen = []
            for chunk in stream:
                assert isinstance(chunk, CompletionChunk)
                seen.append(stream.current_completion_snapshot.content)
                if chunk.choices[0].delta.content == " three":
                    break
            assert seen == [None, "one", "one two", "one two three"]
            assert stream.current_completion_snapshot.choices[0].finish_reason is None
            final = stream.get_final_completion()
            assert stream.get_final_completion() == stream.current_completion_snapshot == final
    assert (final.content, final.choices[0].finish_reason) == (whole.content, "stop")
    assert final.usage is not None
    assert final.usage.total_tokens == 5


def test_accumulation_that_is_left() -> None:
    """An accumulating stream that is left keeps what came, and ends the provider."""
    script = Script(*"abc", Delay(60))
    with Client(provider=script).chat.completions.stream("hi", "m") as stream:
        next(stream)
        next(stream)
    assert script.open == 0
    assert stream.current_completion_snapshot.content == "ab"
    stream.close()
    for _ in range(2):
        with pytest.raises(StreamError, match="closed, or failed, before its answer was complete") as raised:
            stream.get_final_completion()
        assert raised.value.received == stream.current_completion_snapshot
        assert (raised.value.provider, raised.value.model) == ("script", "m")


def test_accumulation_that_was_complete() -> None:
    """What came to its end stays whole, also if the stream was closed before the iteration noticed the end."""
    script = Script(*"abc", USAGE)
    with Client(provider=script).chat.completions.stream("hi", "m") as stream:
        for chunk in stream:
            if chunk.usage is not None:
                break
    assert stream.get_final_completion().content == "abc"


def test_accumulation_that_failed() -> None:
    """After an error the final answer is an error again, never what had come so far; so is that of no beginning."""
    completions = Client(provider=Script(*"ab", StreamError("cut"))).chat.completions
    stream = completions.stream("hi", "m")
    with pytest.raises(StreamError, match="cut"):
        stream.get_final_completion()
    with pytest.raises(StreamError, match="before its answer was complete") as raised:
        stream.get_final_completion()
    assert raised.value.received.content == "ab"
    stream = completions.stream("hi", "m")
    stream.close()
    with pytest.raises(StreamError, match="before its answer was complete"):
        stream.get_final_completion()


@leaves_nothing
@pytest.mark.anyio
async def test_an_async_stream() -> None:
    """An async stream can be iterated, awaited, entered and closed, twice if need be."""
    script = Script(*"abc")
    client = AsyncClient(provider=script)
    create = client.chat.completions.create
    assert [chunk.choices[0].delta.content async for chunk in create("hi", "m", stream=True)] == ["a", "b", "c", None]
    stream = create("hi", "m", stream=True)
    assert isinstance(stream, AsyncStream)
    assert await stream is stream
    async with await create("hi", "m", stream=True) as stream:
        assert (await anext(stream)).choices[0].delta.content == "a"
        assert script.open == 1
    assert script.open == 0
    await stream.close()
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.anyio
async def test_async_accumulation() -> None:
    """An async accumulating stream does what the blocking one does."""
    script = Script(*"abc", USAGE)
    completions = AsyncClient(provider=script).chat.completions
    async with completions.stream("hi", "m") as stream:
        assert isinstance(stream, AsyncCompletionStream)
        async for _ in stream:
            break
        assert stream.current_completion_snapshot.content == "a"
        final = await stream.get_final_completion()
        assert final == stream.current_completion_snapshot
        assert (final.content, final.usage, final.choices[0].finish_reason) == ("abc", USAGE, "stop")
    async with completions.stream("hi", "m") as stream:
        await anext(stream)
    assert script.open == 0
    with pytest.raises(StreamError, match="before its answer was complete") as raised:
        await stream.get_final_completion()
    assert raised.value.received.content == "a"


# --- leaving early: the server sees it at once


def by_break(client: Client) -> None:
    """Leave a loop."""
    for chunk in client.chat.completions.create("hi", "m", stream=True):
        if chunk.choices[0].delta.content == "one":
            break


def by_error(client: Client) -> None:
    """Fail in a block."""
    with suppress(ZeroDivisionError), client.chat.completions.create("hi", "m", stream=True) as stream:
        next(stream)
        raise ZeroDivisionError


def by_close(client: Client) -> None:
    """Close the stream."""
    stream = client.chat.completions.create("hi", "m", stream=True)
    next(stream)
    stream.close()


def by_leaving_the_block(client: Client) -> None:
    """Leave the block of an accumulating stream."""
    with client.chat.completions.stream("hi", "m") as stream:
        next(stream)


def by_timeout(client: Client) -> None:
    """Run out of time for the whole."""
    for stream in (True, False):
        with pytest.raises(APITimeoutError):
            list(client.chat.completions.create("hi", "m", stream=stream, timeout=Timeout(total=SOON)))  # type: ignore[arg-type]


def by_idle(client: Client) -> None:
    """Run out of patience in the middle."""
    with pytest.raises(APITimeoutError):
        list(client.chat.completions.create("hi", "m", stream=True, timeout=Timeout(idle=SOON)))


@leaves_nothing
@pytest.mark.parametrize("leave", [by_break, by_error, by_close, by_leaving_the_block, by_timeout, by_idle])
def test_leaving(leave: Callable[[Client], None], stalling: Upstream) -> None:
    """However a blocking caller leaves a stream, the connection is closed, while the client is still in use."""
    with Client(base_url=stalling.base_url) as client:
        leave(client)
        assert left(stalling)
        stalling.fault = None
        assert client.chat.completions.create("hi", "m").content == "one two three four five"


async def by_async_break(client: AsyncClient) -> None:
    """Leave a loop."""
    async for chunk in client.chat.completions.create("hi", "m", stream=True):
        if chunk.choices[0].delta.content == "one":
            break


async def by_async_error(client: AsyncClient) -> None:
    """Fail in a block."""
    with suppress(ZeroDivisionError):
        async with client.chat.completions.create("hi", "m", stream=True) as stream:
            await anext(stream)
            raise ZeroDivisionError


async def by_aclose(client: AsyncClient) -> None:
    """Close the stream."""
    stream = client.chat.completions.create("hi", "m", stream=True)
    await anext(stream)
    await stream.aclose()


async def by_leaving_the_async_block(client: AsyncClient) -> None:
    """Leave the block of an accumulating stream."""
    async with client.chat.completions.stream("hi", "m") as stream:
        await anext(stream)


async def by_async_timeout(client: AsyncClient) -> None:
    """Run out of patience in the middle."""
    with pytest.raises(APITimeoutError):
        async for _ in client.chat.completions.create("hi", "m", stream=True, timeout=Timeout(idle=SOON)):
            pass


async def by_the_callers_scope(client: AsyncClient) -> None:
    """Leave by a scope of the caller's own."""
    with anyio.move_on_after(SOON) as scope:
        await client.chat.completions.create("hi", "m")
    assert scope.cancelled_caught


async def by_the_callers_timeout(client: AsyncClient) -> None:
    """Leave by a timeout of the caller's own."""
    timeout = asyncio.timeout(SOON)
    with suppress(TimeoutError):
        async with timeout, client.chat.completions.create("hi", "m", stream=True) as stream:
            async for _ in stream:
                pass
    assert timeout.expired()


async def by_task_cancel(client: AsyncClient) -> None:
    """Cancel the task that reads."""
    seen = asyncio.Event()

    async def reading() -> None:
        async for _ in client.chat.completions.create("hi", "m", stream=True):
            seen.set()

    task = asyncio.create_task(reading())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@leaves_nothing
@pytest.mark.anyio
@pytest.mark.parametrize(
    "leave",
    [
        by_async_break,
        by_async_error,
        by_aclose,
        by_leaving_the_async_block,
        by_async_timeout,
        by_the_callers_scope,
        by_the_callers_timeout,
        by_task_cancel,
    ],
)
async def test_leaving_async(leave: Callable[[AsyncClient], Any], stalling: Upstream) -> None:
    """However an async caller leaves, the connection is closed, while the client is still in use."""
    async with AsyncClient(base_url=stalling.base_url) as client:
        await leave(client)
        assert await anyio.to_thread.run_sync(left, stalling)
        stalling.fault = None
        assert (await client.chat.completions.create("hi", "m")).content == "one two three four five"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_one_connection_for_all(stream: bool, upstream: Upstream) -> None:
    """Answers that were read to their end leave the connection to the next call."""
    with Client(base_url=upstream.base_url) as client:
        for _ in range(3):
            answer: Any = client.chat.completions.create("hi", "m", stream=stream)
            assert (list(answer) if stream else answer.content) is not None
        client.models.list()
    assert (len(upstream.requests), upstream.accepted) == (4, 1)


@pytest.mark.anyio
async def test_one_connection_for_all_async(upstream: Upstream) -> None:
    """So do those of an async client."""
    async with AsyncClient(base_url=upstream.base_url) as client:
        for _ in range(3):
            await client.chat.completions.create("hi", "m")
            async for _ in client.chat.completions.create("hi", "m", stream=True):
                pass
    assert (len(upstream.requests), upstream.accepted) == (6, 1)


def test_an_error_status_keeps_the_connection(upstream: Upstream) -> None:
    """A server that refuses is not hung up on."""
    upstream.fault = Fault.of_status(429)
    with Client(base_url=upstream.base_url) as client:
        for _ in range(3):
            with pytest.raises(antiphon.errors.RateLimitError):
                client.chat.completions.create("hi", "m")
    assert (len(upstream.requests), upstream.accepted) == (3, 1)


# --- closing a client


@leaves_nothing
def test_closing(upstream: Upstream) -> None:
    """Closing a client closes its connections; a client that never called anybody can be closed as well."""
    client = Client(base_url=upstream.base_url)
    client.chat.completions.create("hi", "m")
    assert upstream.connections == 1
    client.close()
    assert left(upstream)
    client.close()
    with Client() as unused:
        pass
    unused.close()


@leaves_nothing
@pytest.mark.anyio
async def test_closing_async(upstream: Upstream) -> None:
    """The async client closes by either name, or at the end of its block."""
    for close in ("close", "aclose", "__aexit__"):
        client = AsyncClient(base_url=upstream.base_url)
        await client.chat.completions.create("hi", "m")
        await getattr(client, close)(*((None,) * 3 if close == "__aexit__" else ()))
        assert await anyio.to_thread.run_sync(left, upstream)


# --- inside a running loop


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.chat.completions.create("hi", "m"),
        lambda client: client.chat.completions.create("hi", "m", stream=True),
        lambda client: client.chat.completions.stream("hi", "m"),
        lambda client: client.models.list(),
    ],
    ids=["create", "create-stream", "stream", "models"],
)
@pytest.mark.parametrize("nested", [None, "error"])
def test_in_a_loop(call: Callable[[Client], Any], nested: Any) -> None:
    """A blocking call in a running loop is refused with the two ways out, and nothing is begun."""
    script = Script("a")

    async def main() -> None:
        with Client(provider=script, nested=nested) as client:
            call(client)

    with pytest.raises(NestAsyncioError, match=r'AsyncClient.*nested="thread"'):
        in_loop(main())
    assert script.requests == []


@pytest.mark.parametrize("uvloop", [False, True])
def test_in_a_loop_that_allows_it(uvloop: bool) -> None:
    """With `nested="thread"` every blocking call works in a running loop, which waits for it."""

    async def main() -> None:
        with Client(provider=Script("a", "b"), nested="thread") as client:
            assert client.chat.completions.create("hi", "m").content == "ab"
            assert [c.choices[0].delta.content for c in client.chat.completions.create("hi", "m", stream=True)][:2] == [
                "a",
                "b",
            ]
            with client.chat.completions.stream("hi", "m") as stream:
                assert isinstance(stream, CompletionStream)
                assert stream.get_final_completion().content == "ab"
            assert [model.id for model in client.models.list()] == ["script"]

    in_loop(main(), uvloop=uvloop)


@leaves_nothing
def test_from_many_threads(upstream: Upstream) -> None:
    """One client serves many threads at once."""
    answers: list[str | None] = []
    with Client(base_url=upstream.base_url) as client:

        def ask() -> None:
            for _ in range(3):
                answers.append(client.chat.completions.create("hi", "m").content)
                with client.chat.completions.stream("hi", "m") as stream:
                    answers.append(stream.get_final_completion().content)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["one two three four five"] * 48


@leaves_nothing
def test_from_many_loops(upstream: Upstream) -> None:
    """One async client may be used in one loop after another."""
    client = AsyncClient(base_url=upstream.base_url)

    async def ask() -> str | None:
        return (await client.chat.completions.create("hi", "m")).content

    assert [in_loop(ask()) for _ in range(3)] == ["one two three four five"] * 3
    in_loop(client.aclose())


@leaves_nothing
def test_an_async_provider_that_uses_the_blocking_client() -> None:
    """An async provider may call the blocking API, whose loop is another one."""
    inner = Client(provider=Script("deep"))

    async def outer(request: ChatRequest) -> AsyncIterator[str]:
        yield inner.chat.completions.create("hi", "m").content or ""
        for chunk in inner.chat.completions.create("hi", "m", stream=True):
            yield chunk.choices[0].delta.content or ""

    assert Client(provider=outer).chat.completions.create("hi", "m").content == "deepdeep"


# --- tools


def test_tools_round_trip() -> None:
    """A tool call goes out, comes back with its result, and the message that asked for it can be passed in as it is."""
    call = ToolCall("call-1", "weather", '{"city":"Oslo"}')

    def answer(request: ChatRequest) -> Any:
        results = [part for m in request.messages for part in m.parts if isinstance(part, ToolResult)]
        if results:
            return f"It is {results[0].text}."
        message = Message("assistant", (Text("Let me look."), call))
        return Completion(choices=(Choice(0, message, "tool_calls"),))

    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    with Upstream(answer) as upstream, Client(base_url=upstream.base_url) as client:
        messages: list[Any] = [{"role": "user", "content": "How is the weather?"}]
        for stream in (False, True):
            if stream:
                with client.chat.completions.stream(messages[:1], "m", tools=[tool]) as chunks:
                    first = chunks.get_final_completion()
            else:
                first = client.chat.completions.create(messages[:1], "m", tools=[tool])
            choice = first.choices[0]
            assert choice.finish_reason == "tool_calls"
            assert choice.message.tool_calls is not None
            (made,) = choice.message.tool_calls
            assert (made.id, made.type) == ("call-1", "function")
            assert (made.function.name, json.loads(made.function.arguments)) == ("weather", {"city": "Oslo"})
            result = {"role": "tool", "tool_call_id": made.id, "content": "sunny"}
            second = client.chat.completions.create([messages[0], choice.message, result], "m", tools=[tool])
            assert second.content == "It is sunny."
            assert upstream.requests[-1].json["messages"] == [
                {"role": "user", "content": "How is the weather?"},
                {
                    "role": "assistant",
                    "content": "Let me look.",
                    "tool_calls": [
                        {
                            "id": "call-1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call-1", "content": "sunny"},
            ]


def test_tool_calls_of_a_script() -> None:
    """Streamed tool calls come in pieces that can be told apart."""
    script = Script(ToolCall("a", "f", "{}"), ToolCall("b", "g", "[1]"), finish_reason="tool_calls")
    with Client(provider=script) as client:
        chunks = list(client.chat.completions.create("hi", "m", stream=True))
        answer = client.chat.completions.create("hi", "m")
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert [(c.index, c.id, c.function and c.function.name) for c in calls] == [(0, "a", "f"), (1, "b", "g")]
    assert answer.choices[0].message.tool_calls == [ToolCall("a", "f", "{}"), ToolCall("b", "g", "[1]")]


# --- a transport of one's own


class Recorder:
    """A transport that answers nothing, and notes what it was asked and that it was closed."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.closed = 0

    def open(self, url: str, request: Any, *, headers: Any, timeout: Any) -> Any:
        """Note the URL and refuse."""
        self.urls.append(url)
        raise APIConnectionError("not today")

    async def aclose(self) -> None:
        """Note it."""
        self.closed += 1


def test_a_transport_of_ones_own() -> None:
    """A transport that is given carries the requests and is closed with the client; its errors are told whose."""
    recorder = Recorder()
    with Client(base_url="http://localhost/v1", transport=recorder) as client:
        with pytest.raises(APIConnectionError, match="not today") as caught:
            client.chat.completions.create("hi", "m")
        assert (caught.value.provider, caught.value.model) == ("localhost", "m")
    assert (recorder.urls, recorder.closed) == (["http://localhost/v1/chat/completions"], 1)


def test_what_the_header_says() -> None:
    """The id of the request and the rate limits stand in the answer, whole and put together; other fields do not."""
    headers = {"x-request-id": "req_1", "x-ratelimit-remaining-tokens": "9", "x-other": "no"}
    body = OpenAIChat().encode_response(Completion.of("hi")).decode()
    with Upstream(fault=Fault.of_status(200, body, headers=headers)) as server:
        with Client(base_url=server.base_url) as client:
            answer = client.chat.completions.create("hi", "m")
            with client.chat.completions.stream("hi", "m") as stream:
                streamed = stream.get_final_completion()
    for told in (answer, streamed):
        assert told.request_id == "req_1"
        assert dict(told.headers) == {"x-request-id": "req_1", "x-ratelimit-remaining-tokens": "9"}
    assert Completion.of("hi").request_id is None
