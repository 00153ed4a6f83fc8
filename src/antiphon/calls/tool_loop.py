"""`chat.completions.run`: a model and the functions that it may call, until it has its answer.

A round is one answer of the model and the results of the tools that it asked for. The rules:

* The calls of a round run at the same time: coroutine functions on the event loop (for the blocking client that is the
  bridge's), all others in threads of their own.
* Whatever goes wrong with a call (no such tool, arguments that do not fit, an exception) is told to the model, which
  may mend it, and logged by its name, under DEBUG with its words. What is no `Exception`, as `KeyboardInterrupt`,
  ends the run.
* Messages go back to the model as they came, with all that only its provider understands.
* A tool that was forced by `tool_choice` is forced until tools have run; from then on the model chooses.
* Parameters hold for each round: a timeout is a round's, and where `n` asks for several choices the first goes on.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypeAlias, Unpack, cast, overload

import anyio
import msgspec

from antiphon.calls.core import ClientCore
from antiphon.calls.params import Messages, RunParams
from antiphon.calls.preparation import PreparedCall
from antiphon.calls.tools import AnyTool, FunctionTool, result_content
from antiphon.chat.answers import Completion, CompletionChunk
from antiphon.chat.events import Event, Folder
from antiphon.chat.messages import Message, Text, ToolCall, ToolResult
from antiphon.chat.usage import Usage
from antiphon.errors import StreamError
from antiphon.sync import bridge
from antiphon.sync.blocking import run_in_thread
from antiphon.sync.nesting import Nested
from antiphon.sync.streams import AsyncStreamBase, SyncStreamBase

__all__ = ["AsyncRunMethods", "AsyncRunStream", "RunMethods", "RunResult", "RunStream", "ToolLoop"]


logger = logging.getLogger("antiphon")


class RunResult(msgspec.Struct, frozen=True):
    """How a run went."""

    completions: tuple[Completion, ...]
    """The model's answer of each round."""
    messages: list[Message]
    """The whole conversation, with the last answer and every tool's result: pass it on to ask further."""
    stopped: Literal["answered", "max_rounds"] | None = None
    """`answered`: the model asked for no more tools. `max_rounds`: it did, and their results are the last message.
    `None`: the run is not over, in a snapshot of a stream."""

    @property
    def completion(self) -> Completion:
        """The last answer; one without choices in a snapshot of what has not begun."""
        return self.completions[-1] if self.completions else Completion(choices=())

    @property
    def content(self) -> str | None:
        """The text of the last answer."""
        return self.completion.content

    @property
    def usage(self) -> Usage | None:
        """The tokens of all rounds that reported them; `None` where none did."""
        told = [completion.usage for completion in self.completions if completion.usage is not None]
        return _added(told) if told else None


def _added(usages: Sequence[Usage]) -> Usage:
    total: dict[str, Any] = {}
    for field in Usage.__struct_fields__:
        if field not in ("extra", "form", "kept"):
            values = [value for usage in usages if (value := getattr(usage, field)) is not None]
            total[field] = sum(values) if values else None
    return Usage(**total)


_Step: TypeAlias = tuple[Event | PreparedCall | RunResult, list[CompletionChunk]]
"""Of a streamed run: an event with its chunks, or by itself a round that begins or the state after one."""


class ToolLoop:
    """One run, in async code; used once, whole or streamed."""

    def __init__(self, prepared: PreparedCall, tools: Sequence[AnyTool], max_rounds: int) -> None:
        self._next = prepared
        self._tools = _by_name(tools)
        self._max_rounds = max_rounds
        self.state = RunResult((), list(prepared.request.messages))
        """The run after its last whole round."""

    async def result(self) -> RunResult:
        """Run to the end."""
        while self.state.stopped is None:
            await self._end_round(await self._next.complete())
        return self.state

    async def steps(self) -> AsyncGenerator[_Step, None]:
        """Run, and tell each step."""
        while self.state.stopped is None:
            prepared, folder = self._next, Folder()
            yield prepared, []
            try:
                async with aclosing(prepared.steps()) as steps:
                    async for step in steps:
                        folder.add(step[0])
                        yield step
            except StreamError as error:
                error.received = prepared.folded(folder)
                raise
            await self._end_round(prepared.folded(folder))
            yield self.state, []

    async def _end_round(self, completion: Completion) -> None:
        """Run the tools that *completion* asks for, and get ready for the next round, if there is to be one."""
        completions = (*self.state.completions, completion)
        messages, calls, paused = self.state.messages, list[ToolCall](), False
        if completion.choices:
            choice = completion.choices[0]
            calls, paused = choice.message.tool_calls or [], choice.finish_reason == "pause"
            messages = [*messages, choice.message]
        if calls:
            messages = [*messages, Message("tool", tuple(await self._call_all(calls)))]
        stopped: Literal["answered", "max_rounds"] | None = None
        if not calls and not paused:
            stopped = "answered"
        elif len(completions) >= self._max_rounds:
            stopped = "max_rounds"
        self.state = RunResult(completions, messages, stopped)
        if stopped is None:
            self._next = _following(self._next, tuple(messages), free=bool(calls))

    async def _call_all(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Run *calls* at the same time, and return their results in order."""
        results: dict[int, ToolResult] = {}
        ending: list[BaseException] = []

        async def run(place: int, call: ToolCall) -> None:
            try:
                results[place] = await self._call(call)
            except BaseException as error:
                # It leaves by way of `ending`, as itself and not in a group; where the whole run is being cancelled,
                # the end of the `async with` says so.
                ending.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for place, call in enumerate(calls):
                group.start_soon(run, place, call)
        if ending:
            raise ending[0]
        return [results[place] for place in range(len(calls))]

    async def _call(self, call: ToolCall) -> ToolResult:
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(map(repr, self._tools)) or "none"
            return self._failed(call, LookupError(f"There is no tool {call.name!r} here; there are: {known}."))
        try:
            if tool.on_loop:
                value: Any = tool.call(call.arguments)
            else:
                value = await run_in_thread(lambda: tool.call(call.arguments))
            if inspect.isawaitable(value):
                value = await value
            is_error = value.is_error if isinstance(value, ToolResult) else None
            return ToolResult(call.id, result_content(value), is_error)
        except Exception as error:  # the model is who has to know
            return self._failed(call, error)

    def _failed(self, call: ToolCall, error: Exception) -> ToolResult:
        kind, words = type(error).__name__, str(error)
        name = call.name if call.name in self._tools else "(unknown)"  # a name that the model made up is its own words
        logger.warning("The tool %r failed: %s", name, kind, exc_info=error if _debugging() else None)
        # Some formats cannot say that a tool failed, and a strict call would end with that; the text says it anyway.
        is_error = None if self._next.call.strict else True
        return ToolResult(call.id, (Text(f"{kind}: {words}" if words else kind),), is_error)


def _debugging() -> bool:
    return logger.isEnabledFor(logging.DEBUG)


def _following(prepared: PreparedCall, messages: tuple[Message, ...], *, free: bool) -> PreparedCall:
    """Return the next round's call: as the last one, with a receipt of its own."""
    request = prepared.request.but(messages=messages)
    if free and request.tool_choice not in (None, "auto", "none"):
        request = request.but(tool_choice=None)
    following = copy.copy(prepared)
    following.request = request
    following.call = copy.copy(prepared.call)
    following.call.losses = []
    return following


def _by_name(tools: Sequence[AnyTool]) -> dict[str, FunctionTool[..., Any]]:
    found: dict[str, FunctionTool[..., Any]] = {}
    for item in tools:
        if isinstance(item, FunctionTool):
            function = cast("FunctionTool[..., Any]", item)
            if function.name in found:
                raise ValueError(
                    f"Two tools are called {function.name!r}: pass tool(function, name=…) for one of them."
                )
            found[function.name] = function
    return found


def _begin(
    core: ClientCore,
    messages: Messages,
    model: str,
    tools: Sequence[AnyTool],
    max_rounds: int,
    params: RunParams,
    stream: bool,
) -> ToolLoop:
    """Check everything that can be checked before anything runs."""
    if max_rounds < 1:
        raise ValueError(f"max_rounds must be 1 or more; it is {max_rounds}.")
    ready: list[AnyTool] = [
        FunctionTool(item) if callable(item) and not isinstance(item, FunctionTool) else item for item in tools
    ]
    prepared = core.prepare(messages, model, {**params, "tools": ready or None}, stream=stream)
    return ToolLoop(prepared, ready, max_rounds)


# The faces


class _Progress:
    """What a stream over all rounds knows, in either world."""

    _done: RunResult
    _round: PreparedCall | None = None
    _folder: Folder
    _waiting: list[CompletionChunk]

    @property
    def current_result_snapshot(self) -> RunResult:
        """The run as far as it was iterated: the last of `completions` may be unfinished, and not in `messages` yet."""
        if self._round is None:
            return self._done
        unfinished = self._round.folded(self._folder)
        return RunResult((*self._done.completions, unfinished), self._done.messages)

    def _take(self, step: _Step) -> None:
        fact, chunks = step
        if isinstance(fact, RunResult):
            self._done, self._round = fact, None
        elif isinstance(fact, PreparedCall):
            self._round, self._folder = fact, Folder()
        else:
            self._folder.add(fact)
        self._waiting = chunks[::-1]

    def _result(self) -> RunResult:
        """Return how the run went, if it went to its end."""
        result = self.current_result_snapshot
        if result.stopped is None:
            raise StreamError("This run was left before its end, or failed: there is no final result.")
        return result


class RunStream(_Progress, SyncStreamBase[_Step, CompletionChunk]):
    """The chunks of every round; use it in a `with` block. Leaving early cancels the tools, too."""

    def __init__(self, loop: ToolLoop, nested: Nested | None) -> None:
        super().__init__(loop.steps, nested)
        self._done = loop.state

    def get_final_result(self) -> RunResult:
        """Take the rest of the stream and return how the run went.

        Raises:
            StreamError: The stream was left before its end, or failed; `current_result_snapshot` holds what had come.
        """
        for _ in self:
            pass
        return self._result()


class AsyncRunStream(_Progress, AsyncStreamBase[_Step, CompletionChunk]):
    """The chunks of every round; use it in an `async with` block. Leaving early cancels the tools, too."""

    def __init__(self, loop: ToolLoop) -> None:
        super().__init__(loop.steps())
        self._done = loop.state

    async def get_final_result(self) -> RunResult:
        """Take the rest of the stream and return how the run went.

        Raises:
            StreamError: The stream was left before its end, or failed; `current_result_snapshot` holds what had come.
        """
        async for _ in self:
            pass
        return self._result()


class AsyncRunMethods:
    """`run` of the async client."""

    _core: ClientCore

    @overload
    def run(
        self,
        messages: Messages,
        model: str = "",
        *,
        tools: Sequence[AnyTool],
        max_rounds: int = 10,
        stream: Literal[False] = False,
        **params: Unpack[RunParams],
    ) -> Awaitable[RunResult]: ...

    @overload
    def run(
        self,
        messages: Messages,
        model: str = "",
        *,
        tools: Sequence[AnyTool],
        max_rounds: int = 10,
        stream: Literal[True],
        **params: Unpack[RunParams],
    ) -> AsyncRunStream: ...

    @overload
    def run(
        self,
        messages: Messages,
        model: str = "",
        *,
        tools: Sequence[AnyTool],
        max_rounds: int = 10,
        stream: bool,
        **params: Unpack[RunParams],
    ) -> Awaitable[RunResult] | AsyncRunStream: ...

    def run(
        self,
        messages: Messages,
        model: str = "",
        *,
        tools: Sequence[AnyTool],
        max_rounds: int = 10,
        stream: bool = False,
        **params: Unpack[RunParams],
    ) -> Awaitable[RunResult] | AsyncRunStream:
        """Let the model call functions until it has its answer: `await` it, or iterate over the chunks of all rounds.

        Args:
            messages: The conversation: OpenAI-style dicts, `Message` objects, or one string.
            model: `provider/model`, or as the client's provider knows it; empty for the default.
            tools: Functions, blocking or async, with annotated parameters (see `antiphon.calls.tools`); and
                definitions of tools that the provider runs itself, which are passed on as they are.
            max_rounds: After how many answers of the model to stop, 1 or more.
            stream: Whether to get the answers in pieces.
            **params: For every round; see `ChatParams`.

        Raises:
            TypeError: A function cannot be a tool; the message says what to change.
            AntiphonError: What `create` raises, in any round; a stream still knows the rounds before that.
        """
        loop = _begin(self._core, messages, model, tools, max_rounds, params, stream)
        return AsyncRunStream(loop) if stream else loop.result()


class RunMethods:
    """`run` of the blocking client."""

    _core: ClientCore
    _nested: Nested | None

    @overload
    def run(
        self,
        messages: Messages,
        model: str = "",
        *,
        tools: Sequence[AnyTool],
        max_rounds: int = 10,
        stream: Literal[False] = False,
        **params: Unpack[RunParams],
    ) -> RunResult: ...

    @overload
    def run(
        self,
        messages: Messages,
        model: str = "",
        *,
        tools: Sequence[AnyTool],
        max_rounds: int = 10,
        stream: Literal[True],
        **params: Unpack[RunParams],
    ) -> RunStream: ...

    @overload
    def run(
        self,
        messages: Messages,
        model: str = "",
        *,
        tools: Sequence[AnyTool],
        max_rounds: int = 10,
        stream: bool,
        **params: Unpack[RunParams],
    ) -> RunResult | RunStream: ...

    def run(
        self,
        messages: Messages,
        model: str = "",
        *,
        tools: Sequence[AnyTool],
        max_rounds: int = 10,
        stream: bool = False,
        **params: Unpack[RunParams],
    ) -> RunResult | RunStream:
        """Let the model call functions until it has its answer, whole or as an iterator over the chunks of all rounds.

        Arguments and errors are those of `AsyncClient.chat.completions.run`, and:

        Raises:
            NestAsyncioError: An event loop is running in this thread, and nesting is not allowed.
        """
        loop = _begin(self._core, messages, model, tools, max_rounds, params, stream)
        return RunStream(loop, self._nested) if stream else bridge.run(loop.result, nested=self._nested)
