"""`chat.completions.run`: what the model is told, who runs what where, and what is left behind."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import date
from typing import Any

import anyio
import anyio.lowlevel
import pydantic
import pytest

from antiphon import AsyncClient, Client, tool
from antiphon.calls.tool_loop import AsyncRunStream, RunResult, RunStream
from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import Event
from antiphon.chat.messages import Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, Tool, ToolName
from antiphon.chat.usage import Usage
from antiphon.errors import InternalServerError, NestAsyncioError, StreamError
from antiphon.formats.anthropic import Anthropic
from antiphon.providers.base import Call
from antiphon.testing import Delay, Fault, Script, Upstream
from tests.calling import in_loop

leaves_nothing = pytest.mark.usefixtures("no_leaks")

ADD = ToolCall("c1", "add", '{"a": 1, "b": 2}')


class Rounds:
    """A provider that plays one script after the other, and the last one again and again."""

    is_handler = True
    name = "rounds"

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.requests: list[ChatRequest] = []

    async def __call__(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """Play the next script."""
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(request)
        async with aclosing(script(request, call)) as events:
            async for event in events:
                yield event

    @property
    def open(self) -> int:
        """Answers under way."""
        return sum(script.open for script in self.scripts)


def calling(*calls: ToolCall, then: str = "done") -> Rounds:
    """A model that makes *calls* at once, and then answers."""
    return Rounds(Script(*calls, finish_reason="tool_calls", name="rounds"), Script(then, name="rounds"))


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def add_async(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def run_sync(provider: Any, **how: Any) -> RunResult:
    """Run with the blocking client."""
    with Client(provider=provider) as client:
        return client.chat.completions.run("go", "m", **how)


def run_async(provider: Any, **how: Any) -> RunResult:
    """Run with the async client."""

    async def run() -> RunResult:
        async with AsyncClient(provider=provider) as client:
            return await client.chat.completions.run("go", "m", **how)

    return in_loop(run())


def stream_sync(provider: Any, **how: Any) -> RunResult:
    """Run as a stream with the blocking client."""
    with Client(provider=provider) as client, client.chat.completions.run("go", "m", stream=True, **how) as stream:
        return stream.get_final_result()


def stream_async(provider: Any, **how: Any) -> RunResult:
    """Run as a stream with the async client."""

    async def run() -> RunResult:
        async with AsyncClient(provider=provider) as client:
            async with client.chat.completions.run("go", "m", stream=True, **how) as stream:
                return await stream.get_final_result()

    return in_loop(run())


def run_nested(provider: Any, **how: Any) -> RunResult:
    """Run with the blocking client in a running loop that lets it."""

    async def run() -> RunResult:
        with Client(provider=provider, nested="thread") as client:
            return client.chat.completions.run("go", "m", **how)

    return in_loop(run())


WAYS = [run_sync, run_async, stream_sync, stream_async, run_nested]
Way = Callable[..., RunResult]
every_way = pytest.mark.parametrize("run", WAYS)


def result_of(result: RunResult) -> ToolResult:
    """The only tool result of a run."""
    (found,) = [part for message in result.messages for part in message.parts if isinstance(part, ToolResult)]
    return found


# --- the round trip


@leaves_nothing
@every_way
@pytest.mark.parametrize("function", [add, tool(add), tool(add_async, name="add")])
def test_round_trip(run: Way, function: Any) -> None:
    """The model gets the tool's result and answers; the whole conversation comes back, in every calling style."""
    provider = calling(ADD)
    result = run(provider, tools=[function])
    assert (result.content, result.stopped, len(result.completions)) == ("done", "answered", 2)
    assert result.completion is result.completions[1]
    assert result.messages == [
        Message.user("go"),
        Message("assistant", (ADD,), provider="rounds"),
        Message("tool", (ToolResult("c1", (Text("3"),)),)),
        Message("assistant", (Text("done"),), provider="rounds"),
    ]
    assert [request.messages for request in provider.requests] == [
        tuple(result.messages[:1]),
        tuple(result.messages[:3]),
    ]
    assert [request.tools for request in provider.requests] == [(tool(add).definition,)] * 2


@every_way
def test_no_call(run: Way) -> None:
    """A model that needs no tool is asked once."""
    result = run(Script("hello"), tools=[add])
    assert (result.content, result.stopped, len(result.completions)) == ("hello", "answered", 1)


def test_conversation_goes_on() -> None:
    """The messages of a result can be passed on as they are, with more behind them."""
    provider = calling(ADD)
    client = Client(provider=provider)
    first = client.chat.completions.run([{"role": "user", "content": "go"}], "m", tools=[add])
    second = client.chat.completions.run([*first.messages, Message.user("more")], "m", tools=[add])
    assert provider.requests[-1].messages == (*first.messages, Message.user("more"))
    assert second.messages[:4] == first.messages


def test_usage_adds_up() -> None:
    """The usage of a run is that of all its rounds, bucket by bucket, and not told where no round told any."""
    told = Usage(input_uncached=3, output_visible=2, cost=0.5)
    rounds = Rounds(Script(ADD, told, finish_reason="tool_calls"), Script(ADD), Script("x", told))
    usage = run_sync(rounds, tools=[add]).usage
    assert usage == Usage(input_uncached=6, output_visible=4, cost=1.0)
    assert run_sync(calling(ADD), tools=[add]).usage is None


@every_way
def test_stops_at_the_bound(run: Way) -> None:
    """A model that never stops asking is stopped, after its last calls were answered: the conversation is whole."""
    ran: list[int] = []

    def add(a: int, b: int) -> int:
        ran.append(a)
        return a + b

    result = run(Rounds(Script(ADD, finish_reason="tool_calls")), tools=[add], max_rounds=3)
    assert (result.stopped, len(result.completions), ran) == ("max_rounds", 3, [1, 1, 1])
    assert [message.role for message in result.messages] == ["user", *["assistant", "tool"] * 3]
    assert result.content is None


def test_bound_is_positive() -> None:
    """A bound of no rounds is an error, before anything is asked."""
    script = Script("x")
    with pytest.raises(ValueError, match="max_rounds must be 1 or more; it is 0"):
        run_sync(script, tools=[add], max_rounds=0)
    assert script.requests == []


def test_pause_goes_on() -> None:
    """An answer that a provider paused is sent back as it is."""
    rounds = Rounds(Script("one", finish_reason="pause"), Script("two"))
    result = run_sync(rounds, tools=[add])
    assert [message.content for message in result.messages] == ["go", "one", "two"]
    assert result.stopped == "answered"


def test_forced_only_at_first() -> None:
    """A tool that was forced is forced until tools have run, or the model could never answer."""
    provider = calling(ADD)
    run_sync(provider, tools=[add], tool_choice={"type": "function", "function": {"name": "add"}})
    assert [request.tool_choice for request in provider.requests] == [ToolName("add"), None]
    provider = calling(ADD)
    run_sync(provider, tools=[add], tool_choice="auto", temperature=0.5)
    assert [(request.tool_choice, request.temperature) for request in provider.requests] == [("auto", 0.5)] * 2


def test_provider_tools_pass_through() -> None:
    """Definitions of tools that the provider runs go out as they are, beside functions."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    own = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    neutral = Opaque("anthropic", search)
    with Upstream() as upstream, Client(base_url=upstream.base_url) as client:
        client.chat.completions.run("go", "m", tools=[search, add, own, Tool("g"), neutral])
        sent = upstream.requests[0].json["tools"]
    assert sent[0] == search
    assert sent[1]["function"]["name"] == "add"
    assert sent[2:] == [own, {"type": "function", "function": {"name": "g"}}]


def test_no_tools_at_all() -> None:
    """An empty list of tools is not sent."""
    script = Script("x")
    assert run_sync(script, tools=[]).content == "x"
    assert script.requests[0].tools is None


def test_create_takes_functions() -> None:
    """Where only an answer is wanted, functions stand for their definitions."""
    script = Script(ADD, finish_reason="tool_calls")
    answer = Client(provider=script).chat.completions.create("go", "m", tools=[add, {"type": "x"}])
    assert answer.choices[0].message.tool_calls == [ADD]
    assert script.requests[0].tools == (tool(add).definition, Opaque("openai-chat", {"type": "x"}))


def test_two_of_a_name() -> None:
    """Two functions of one name are an error that says what to do."""
    with pytest.raises(ValueError, match="Two tools are called 'add': pass tool"):
        run_sync(Script("x"), tools=[add, tool(add_async, name="add")])


# --- what tools give


class Pet(pydantic.BaseModel):
    """A value of somebody else's kind."""

    name: str
    born: date


class Broken:
    """A value that JSON cannot hold."""


def fails(kind: str) -> Any:
    """Fail in some way."""
    if kind == "silent":
        raise KeyError
    if kind == "unwritable":
        return Broken()
    raise ValueError("no such kind")


@every_way
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (ToolCall("c", "nope", "{}"), "LookupError: There is no tool 'nope' here; there are: 'fails'."),
        (ToolCall("c", "fails", '{"kind": 1}'), "ValidationError: Expected `str`, got `int` - at `$.kind`"),
        (ToolCall("c", "fails", "{}"), "ValidationError: Object missing required field `kind`"),
        (ToolCall("c", "fails", '{"kind": "'), "DecodeError: Input data was truncated"),
        (ToolCall("c", "fails", '{"kind": "x", "y": 1}'), "ValidationError: Object contains unknown field `y`"),
        (ToolCall("c", "fails", '{"kind": "x"}'), "ValueError: no such kind"),
        (ToolCall("c", "fails", '{"kind": "silent"}'), "KeyError"),
        (
            ToolCall("c", "fails", '{"kind": "unwritable"}'),
            "TypeError: A value of Broken cannot be written as JSON.",
        ),
    ],
)
def test_faults_are_told(run: Way, call: ToolCall, text: str) -> None:
    """What goes wrong with a call is told to the model by the name and the words of the exception."""
    found = result_of(run(calling(call), tools=[fails]))
    assert (found.call_id, found.is_error, found.text) == ("c", True, text)


def test_strict_runs_go_on() -> None:
    """A strict call does not end because its provider has no field for a tool's failure: the text tells it."""
    answers = iter([asking(Message("assistant", (ToolCall("c", "fails", "{}"),))), "done"])
    with Upstream(lambda _: next(answers)) as upstream, Client(base_url=upstream.base_url, strict=True) as client:
        result = client.chat.completions.run("go", "m", tools=[fails])
    assert result.content == "done"
    assert (result_of(result).is_error, result_of(result).text[:16]) == (None, "ValidationError:")


def test_faults_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A failed tool is logged by the exception's name; its words, which may be the user's, only under DEBUG."""
    call = ToolCall("c", "fails", '{"kind": "x"}')
    for level, shown in ((logging.INFO, False), (logging.DEBUG, True)):
        caplog.clear()
        with caplog.at_level(level, "antiphon"):
            run_sync(calling(call), tools=[fails])
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert record.getMessage() == "The tool 'fails' failed: ValueError"
        assert ("no such kind" in caplog.text) is shown
    caplog.clear()
    run_sync(calling(ToolCall("c", "made up", "{}")), tools=[fails])
    assert [record.getMessage() for record in caplog.records] == ["The tool '(unknown)' failed: LookupError"]


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("text", (Text("text"),)),
        (None, (Text("null"),)),
        ({"a": [1, None]}, (Text('{"a":[1,null]}'),)),
        ([], (Text("[]"),)),
        ([Pet(name="a", born=date(2026, 1, 1))], (Text('[{"name":"a","born":"2026-01-01"}]'),)),
        (Image(url="u"), (Image(url="u"),)),
        ([Text("a"), Image(url="u")], (Text("a"), Image(url="u"))),
    ],
)
def test_results(value: Any, content: Any) -> None:
    """Text stays text, parts stay parts, and all else is written as JSON."""

    def give() -> Any:
        return value

    assert result_of(run_sync(calling(ToolCall("c", "give", "")), tools=[give])).content == content


def test_result_of_its_own() -> None:
    """A tool may say itself that it failed."""

    def give() -> ToolResult:
        return ToolResult("", (Text("sorry"),), is_error=True)

    found = result_of(run_sync(calling(ToolCall("c", "give", "{}")), tools=[give]))
    assert found == ToolResult("c", (Text("sorry"),), True)


@every_way
def test_others_than_exceptions_leave(run: Way) -> None:
    """What is no `Exception` ends the run as itself, and the model is not asked again."""

    class Stop(BaseException):
        pass

    def stop() -> None:
        raise Stop

    async def stop_async() -> None:
        raise Stop

    for function in (stop, tool(stop_async, name="stop")):
        provider = calling(ToolCall("c", "stop", "{}"))
        with pytest.raises(Stop):
            run(provider, tools=[function])
        assert len(provider.requests) == 1


# --- where tools run


@leaves_nothing
@every_way
def test_blocking_tools_run_together(run: Way) -> None:
    """The blocking functions of a round run at the same time, each in a thread, and their results keep the order."""
    barrier = threading.Barrier(3, timeout=10)

    def meet(n: int) -> str:
        barrier.wait()
        return f"{n} {threading.current_thread() is not threading.main_thread()}"

    calls = [ToolCall(f"c{n}", "meet", f'{{"n": {n}}}') for n in range(3)]
    result = run(calling(*calls), tools=[meet])
    assert [(part.call_id, part.text) for part in result.messages[2].parts if isinstance(part, ToolResult)] == [
        ("c0", "0 True"),
        ("c1", "1 True"),
        ("c2", "2 True"),
    ]


@leaves_nothing
@every_way
def test_async_tools_run_together(run: Way) -> None:
    """The coroutine functions of a round run at the same time, on one loop."""
    events: dict[int, anyio.Event] = {}

    async def meet(n: int) -> str:
        mine = events.setdefault(n, anyio.Event())
        mine.set()
        await events.setdefault(1 - n, anyio.Event()).wait()
        return "met"

    calls = [ToolCall(f"c{n}", "meet", f'{{"n": {n}}}') for n in range(2)]
    result = run(calling(*calls), tools=[meet])
    assert [part.text for part in result.messages[2].parts if isinstance(part, ToolResult)] == ["met", "met"]


def test_wrapped_coroutine_functions() -> None:
    """What a plain function returns is awaited on the loop where that is to be done."""

    def wrapped(n: int) -> Any:
        return add_async(n, 1)

    assert result_of(run_sync(calling(ToolCall("c", "wrapped", '{"n": 1}')), tools=[wrapped])).text == "2"


@leaves_nothing
def test_tools_may_use_the_client() -> None:
    """A tool may ask a model itself, blocking or async, in a thread or on the bridge's own loop."""

    def ask() -> str | None:
        return Client(provider=Script("inner")).chat.completions.create("hi").content

    async def ask_in_loop() -> str | None:
        return ask()

    calls = ToolCall("a", "ask", "{}"), ToolCall("b", "ask_in_loop", "{}")
    result = run_sync(calling(*calls), tools=[ask, ask_in_loop])
    assert [part.text for part in result.messages[2].parts if isinstance(part, ToolResult)] == ["inner", "inner"]


def test_nested_is_refused() -> None:
    """In a running loop the blocking `run` says what to do instead, whole and streamed, before anything is asked."""
    script = Script("x")

    async def main() -> None:
        client = Client(provider=script, nested="error")
        with pytest.raises(NestAsyncioError, match="AsyncClient"):
            client.chat.completions.run("go", tools=[add])
        with pytest.raises(NestAsyncioError, match="AsyncClient"):
            client.chat.completions.run("go", tools=[add], stream=True)

    in_loop(main())
    assert script.requests == []


# --- streams


def test_chunks_of_all_rounds() -> None:
    """A stream gives the chunks of every round; a snapshot says how far it is."""
    script = Rounds(Script("let me ", "see", ADD, finish_reason="tool_calls"), Script("thr", "ee"))
    with Client(provider=script) as client, client.chat.completions.run("go", "m", tools=[add], stream=True) as stream:
        assert isinstance(stream, RunStream)
        assert stream.current_result_snapshot == RunResult((), [Message.user("go")])
        assert stream.current_result_snapshot.content is None
        assert next(stream).choices[0].delta.content == "let me "
        snapshot = stream.current_result_snapshot
        assert (snapshot.content, snapshot.stopped, len(snapshot.messages)) == ("let me ", None, 1)
        chunks = list(stream)
        result = stream.get_final_result()
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["tool_calls", "stop"]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "seethree"
    assert (result.content, result.stopped, result.completions[0].content) == ("three", "answered", "let me see")


@pytest.mark.anyio
async def test_async_chunks() -> None:
    """The async stream can be iterated, awaited first, and closed under both names."""
    async with AsyncClient(provider=calling(ADD)) as client:
        stream = await client.chat.completions.run("go", "m", tools=[add], stream=True)
        assert isinstance(stream, AsyncRunStream)
        async with stream:
            pieces = [chunk.choices[0].delta.content async for chunk in stream]
        assert "done" in pieces
        assert stream.current_result_snapshot.stopped == "answered"
        await stream.close()


@every_way
def test_broken_stream(run: Way) -> None:
    """A round that breaks off is a `StreamError` with what came of that round."""
    rounds = Rounds(Script(ADD, finish_reason="tool_calls"), Script("par", "tial", finish_reason=None))
    with pytest.raises(StreamError) as caught:
        run(rounds, tools=[add])
    assert isinstance(caught.value.received, Completion)
    assert caught.value.received.content == "partial"


def test_error_status_in_a_later_round() -> None:
    """An error status is raised as `create` raises it, and a stream still knows what came before."""
    with Upstream(answer_with_call) as upstream, Client(base_url=upstream.base_url) as client:
        with client.chat.completions.run("go", "m", tools=[add], stream=True) as stream:
            with pytest.raises(InternalServerError):
                stream.get_final_result()
            snapshot = stream.current_result_snapshot
    assert snapshot.messages[2].parts == (ToolResult("c1", (Text("3"),)),)


@leaves_nothing
@pytest.mark.parametrize("in_async", [True, False])
def test_leaving_a_stream_early(in_async: bool) -> None:
    """Who leaves a stream closes the answer under way."""
    rounds = Rounds(Script(ADD, finish_reason="tool_calls"), Script("one", Delay(60), "two"))

    async def main() -> None:
        client = AsyncClient(provider=rounds)
        async with client.chat.completions.run("go", "m", tools=[add], stream=True) as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    return

    if in_async:
        in_loop(main())
    else:
        with Client(provider=rounds).chat.completions.run("go", "m", tools=[add], stream=True) as stream:
            next(chunk for chunk in stream if chunk.choices[0].delta.content)
            assert rounds.open == 1
    assert (rounds.open, len(rounds.requests)) == (0, 2)


class Hanging:
    """A tool that never ends, and knows whether it began and was cancelled."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cancelled = threading.Event()

    async def hang(self) -> str:
        """Never end."""
        self.began.set()
        try:
            await anyio.sleep_forever()
        except BaseException:
            self.cancelled.set()
            raise
        return ""


HANG = ToolCall("c", "hang", "{}")


@leaves_nothing
def test_closing_cancels_tools() -> None:
    """A blocking stream that is closed while tools run cancels them before `close` returns."""
    tools = Hanging()
    stream = Client(provider=calling(HANG)).chat.completions.run("go", "m", tools=[tools.hang], stream=True)
    with stream:
        next(stream)
        assert tools.began.wait(10)
    assert tools.cancelled.is_set()


@leaves_nothing
@pytest.mark.anyio
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("native", [True, False])
async def test_cancelling_cancels_tools(stream: bool, native: bool) -> None:
    """A run that is cancelled, by its task or by a scope around it, cancels its tools and asks no more."""
    began, cancelled = anyio.Event(), anyio.Event()

    async def hang() -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    provider = calling(HANG, ToolCall("d", "hang", "{}"))
    completions = AsyncClient(provider=provider).chat.completions
    scope = anyio.CancelScope()

    async def main() -> None:
        with scope:
            if stream:
                async with completions.run("go", "m", tools=[hang], stream=True) as running:
                    await running.get_final_result()
            else:
                await completions.run("go", "m", tools=[hang])

    task = asyncio.create_task(main())
    await began.wait()
    if native:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        scope.cancel()
        await task
        assert scope.cancelled_caught
    assert cancelled.is_set()
    assert (len(provider.requests), provider.open) == (1, 0)


@leaves_nothing
@pytest.mark.anyio
async def test_one_that_ends_the_run_cancels_the_others() -> None:
    """An exception that ends the run cancels the tools that still run beside it."""
    hanging = Hanging()

    class Stop(BaseException):
        pass

    async def stop() -> None:
        while not hanging.began.is_set():
            await anyio.lowlevel.checkpoint()
        raise Stop

    provider = calling(HANG, ToolCall("d", "stop", "{}"))
    with pytest.raises(Stop):
        await AsyncClient(provider=provider).chat.completions.run("go", "m", tools=[hanging.hang, stop])
    assert hanging.cancelled.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_on_trio_too() -> None:
    """The async client runs tools in trio's loop as well."""
    result = await AsyncClient(provider=calling(ADD)).chat.completions.run("go", "m", tools=[add])
    assert result.messages[2].parts == (ToolResult("c1", (Text("3"),)),)


# --- what only the provider understands


def thinking(request: ChatRequest) -> Any:
    """Claude, who thinks, calls twice, and then answers."""
    if len(request.messages) > 1:
        return "It is 3."
    parts = Reasoning("Hm.", "sig=="), Text("Let me add."), ADD, ToolCall("c2", "add", '{"a": "x", "b": 2}')
    return asking(Message("assistant", parts))


def asking(message: Message) -> Completion:
    """An answer that asks for tools."""
    return Completion(choices=(Choice(0, message, "tool_calls"),), id="msg_1", model="claude-x")


def answer_with_call(request: ChatRequest) -> Any:
    """A model that calls `add`, and then fails."""
    if len(request.messages) > 1:
        return Fault.of_status(500)
    return asking(Message("assistant", (ADD,)))


@pytest.mark.parametrize("stream", [True, False])
def test_anthropic(stream: bool) -> None:
    """Claude's thoughts go back with their signature, before its calls; the results follow in one turn."""
    with Upstream(thinking, codec=Anthropic()) as upstream:
        base_url = upstream.base_url.removesuffix("/v1")
        with Client(provider="anthropic", base_url=base_url, api_key="k") as client:
            how: dict[str, Any] = {"tools": [add], "max_tokens": 9}
            if stream:
                result = client.chat.completions.run("go", "claude-x", stream=True, **how).get_final_result()
            else:
                result = client.chat.completions.run("go", "claude-x", **how)
        assert result.content == "It is 3."
        sent = upstream.requests[-1].json["messages"]
    assert sent[0]["role"] == "user"
    assert sent[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "sig=="},
                {"type": "text", "text": "Let me add."},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1, "b": 2}},
                {"type": "tool_use", "id": "c2", "name": "add", "input": {"a": "x", "b": 2}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "3"}]},
                {
                    "type": "tool_result",
                    "tool_use_id": "c2",
                    "content": [{"type": "text", "text": "ValidationError: Expected `int`, got `str` - at `$.a`"}],
                    "is_error": True,
                },
            ],
        },
    ]


def test_openai() -> None:
    """OpenAI gets one message for each result, and fields of the assistant's message that only it knows go back."""
    extra = {"openai-chat": {"reasoning_opaque": "xyz"}}

    def answer(request: ChatRequest) -> Any:
        if len(request.messages) > 1:
            return "done"
        return asking(Message("assistant", (ADD, ToolCall("c2", "add", "{")), extra=extra))

    with Upstream(answer) as upstream, Client(base_url=upstream.base_url) as client:
        assert client.chat.completions.run("go", "m", tools=[add]).content == "done"
        _, asked, first, second = upstream.requests[-1].json["messages"]
    assert asked["reasoning_opaque"] == "xyz"
    assert [call["function"]["arguments"] for call in asked["tool_calls"]] == ['{"a": 1, "b": 2}', "{"]
    assert first == {"role": "tool", "tool_call_id": "c1", "content": "3"}
    assert second["content"].startswith("DecodeError: ")


def test_receipt_of_each_round() -> None:
    """Each round has a receipt of its own: what was lost once is not told again."""
    parts = Reasoning("Hm.", "sig"), ADD

    def answer(request: ChatRequest) -> Any:
        return "done" if len(request.messages) > 1 else asking(Message("assistant", parts))

    with Upstream(answer, codec=Anthropic()) as upstream:
        base_url = upstream.base_url.removesuffix("/v1")
        with Client(provider="anthropic", base_url=base_url, api_key="k") as client:
            result = client.chat.completions.run("go", "claude-x", tools=[add])
    assert [[loss.path for loss in completion.losses] for completion in result.completions] == [["$.max_tokens"]] * 2


def test_a_run_that_was_left_has_no_result() -> None:
    """Once a stream was closed before its end, asking for its result is an error, and what had come is still there."""
    with Client(provider=Script("one", "two")) as client:
        with client.chat.completions.run("go", tools=[], stream=True) as stream:
            next(stream)
        with pytest.raises(StreamError, match="left before its end"):
            stream.get_final_result()
    assert stream.current_result_snapshot.content == "one"
