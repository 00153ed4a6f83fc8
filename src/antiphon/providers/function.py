"""What a provider is, and how any callable becomes one.

A `Handler` takes a `ChatRequest` and a `Call` and gives the events of the answer. Everything else that a provider may
be (a function, a coroutine function, a generator, an async generator, a class or an instance with such methods) is
adapted to that by `as_handler`, which also does what plain providers do not do themselves: `stop` and `max_tokens`,
worker threads for blocking code, the clocks, an error where nothing was said.

Whoever iterates a handler does so under `contextlib.aclosing`.
"""

from __future__ import annotations

import functools
import inspect
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any, Literal, TypeAlias, cast, overload

from antiphon.chat.answers import Completion
from antiphon.chat.events import (
    Event,
    Start,
    TextDelta,
    unfold,
)
from antiphon.chat.kept import without_kept
from antiphon.chat.requests import ChatRequest
from antiphon.errors import StreamError
from antiphon.formats.openai_chat.request import encode_request
from antiphon.providers.base import Call, Clock, Handler
from antiphon.providers.output_limits import OutputLimits
from antiphon.sync.blocking import EXHAUSTED, ThreadIterator, computed, run_in_thread

__all__ = ["FunctionProvider", "as_handler", "provider"]


Piece: TypeAlias = str | Event | Completion | None


_Form: TypeAlias = tuple[Literal["request", "handler", "messages", "keywords"], set[str] | None]
"""How a function wants its arguments, and which parameters it takes by name (`None`: any)."""


_METHODS = ("create_async_generator", "create_async", "create_completion")


_STREAM_ORDER = ("create_async_generator", "create_completion", "create_async")


_WHOLE_ORDER = ("create_async", "create_async_generator", "create_completion")


class FunctionProvider:
    """Any callable, class or instance as a `Handler`.

    *target* is called as `target(request)` if it takes one argument, as `target(request, call)` if it names them so,
    and else as `target(model, messages, **params)`, where `messages` are OpenAI-style dicts and `params` those of
    OpenAI's parameters that the caller set and the target takes.

    It returns or yields `str`, an event or a whole `Completion`. Each string counts as one token; `stop` and
    `max_tokens` are enforced on them unless *native_limits* says that the target does so itself.
    """

    def __init__(self, target: Any, *, name: str | None = None, native_limits: bool | None = None) -> None:
        self.target = target
        self.name: str = name or _name_of(target)
        if native_limits is None:
            native_limits = bool(getattr(target, "native_limits", False))
        self.native_limits = native_limits
        self._calls = _callables(target)
        self._forms: dict[str, _Form] = {}

    def __repr__(self) -> str:
        return f"Provider({self.name!r})"

    async def __call__(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """Give the events of the answer to *request*."""
        function, form = self._choose(request.stream)
        clock = Clock(call.timeout, self.name, request.model)
        limits = OutputLimits(ChatRequest("", ()) if self.native_limits else request)
        said = False
        start = Start(
            id=f"chatcmpl-{uuid.uuid4().hex}", model=request.model, created=int(time.time()), provider=self.name
        )
        yield start
        async with aclosing(_pieces(function, form, request, call)) as pieces:
            while not limits.full:
                piece = EXHAUSTED
                with clock.scope(said=said):
                    piece = await anext(pieces, EXHAUSTED)
                clock.check()
                if piece is EXHAUSTED:
                    break
                for event in limits.take(_events(piece, self.name)):
                    if isinstance(event, Start):
                        event = _completed(event, start)
                    else:
                        said = True
                    yield event
        if limits.silent:
            raise StreamError(
                f"The provider {self.name!r} said nothing at all.", provider=self.name, model=request.model
            )
        for event in limits.end():
            yield event

    def _choose(self, stream: bool) -> tuple[Callable[..., Any], _Form]:
        order = _STREAM_ORDER if stream else _WHOLE_ORDER
        name = next(name for name in ("", *order) if name in self._calls)
        function = self._calls[name]
        if name not in self._forms:
            self._forms[name] = _form(function)
        return function, self._forms[name]


@overload
def provider(target: Callable[..., Any], /) -> FunctionProvider: ...


@overload
def provider(*, name: str | None = None, native_limits: bool | None = None) -> Callable[[Any], FunctionProvider]: ...


def provider(target: Any = None, /, *, name: str | None = None, native_limits: bool | None = None) -> Any:
    """Make a provider of a function or a class: `@provider`, or `@provider(name="mine")`.

    Args:
        target: A plain function, coroutine function, generator or async generator, or a class: see `FunctionProvider`.
        name: What answers say of who made them; the target's own name if not given.
        native_limits: Whether the target obeys `stop` and `max_tokens` itself.

    Returns:
        A provider to pass as `provider=`, or to `antiphon.register`.
    """
    if target is not None:
        return FunctionProvider(target)

    def decorate(target: Any) -> FunctionProvider:
        return FunctionProvider(target, name=name, native_limits=native_limits)

    return decorate


def as_handler(target: Any) -> Handler:
    """Return *target* as a handler, whatever form of a provider it has.

    Raises:
        TypeError: It has none of the forms.
    """
    if isinstance(target, FunctionProvider) or (getattr(target, "is_handler", False) and not isinstance(target, type)):
        return cast(Handler, target)
    return FunctionProvider(target)


def _name_of(target: Any) -> str:
    name = getattr(target, "name", None)
    if isinstance(name, str) and name:
        return name
    if isinstance(target, functools.partial):
        return _name_of(cast(Any, target).func)
    return str(getattr(target, "__name__", None) or type(target).__name__)


def _callables(target: Any) -> dict[str, Callable[..., Any]]:
    """Return the ways to call *target*: under `""` the target itself, or its methods by name."""
    found = {name for name in _METHODS if callable(getattr(target, name, None))}
    if not found:
        if callable(target) and not isinstance(target, type):
            return {"": target}
        raise TypeError(
            f"{_name_of(target)!r} is not a provider: pass a function, or a class or instance that has "
            f"{', '.join(_METHODS[:-1])} or {_METHODS[-1]}."
        )
    if isinstance(target, type):
        bound = all(
            isinstance(inspect.getattr_static(cast(type[Any], target), name), classmethod | staticmethod)
            for name in found
        )
        target = target if bound else target()
    return {name: getattr(target, name) for name in found}


def _form(function: Callable[..., Any]) -> _Form:
    parameters = list(inspect.signature(function).parameters.values())
    names = [p.name for p in parameters]
    if names == ["request", "call"]:
        return "handler", set()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(positional) == 1 and not rest:
        return "request", set()
    wanted = None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {*names} - {"model", "messages"}
    return "messages" if positional or rest else "keywords", wanted


def _arguments(form: _Form, request: ChatRequest, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    kind, wanted = form
    if kind == "handler":
        return (request, call), {}
    if kind == "request":
        return (request,), {}
    written, _ = encode_request(without_kept(request.but(form=None)))
    model, messages = written.pop("model"), written.pop("messages")
    written["stream"] = request.stream
    params = {key: value for key, value in written.items() if wanted is None or key in wanted}
    if kind == "keywords":
        return (), {"model": model, "messages": messages, **params}
    return (model, messages), params


def _runs_on_the_loop(function: Callable[..., Any]) -> bool:
    """Whether calling *function* runs none of its code yet, or only code that was written for an event loop."""
    # What a decorator wraps does not count: the wrapper is what is called, and it may block.
    return any(
        inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) or inspect.isgeneratorfunction(f)
        for f in (function, type(function).__call__)
    )


async def _pieces(
    function: Callable[..., Any], form: _Form, request: ChatRequest, call: Call
) -> AsyncGenerator[Piece, None]:
    """Call *function* and give what it returns or yields, one by one; blocking code runs in a worker thread."""
    args, params = await computed(lambda: _arguments(form, request, call), call.size)
    if _runs_on_the_loop(function):
        result = function(*args, **params)
    else:
        result = await run_in_thread(lambda: function(*args, **params))
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncIterator):
        async with aclosing(_closable(cast(AsyncIterator[Piece], result))) as items:
            async for item in items:
                yield item
    elif isinstance(result, Iterator):
        async with aclosing(ThreadIterator(cast(Iterator[Piece], result))) as steps:
            while (item := await steps.step()) is not EXHAUSTED:
                yield item
    else:
        yield result


def _closable(iterator: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
    if hasattr(iterator, "aclose"):
        return cast(AsyncGenerator[Piece, None], iterator)

    async def wrapped() -> AsyncGenerator[Piece, None]:
        async for item in iterator:
            yield item

    return wrapped()


def _events(piece: Piece, name: str) -> Iterator[Event]:
    if isinstance(piece, str):
        if piece:
            yield TextDelta(piece)
    elif isinstance(piece, Completion):
        yield from unfold(piece)
    elif isinstance(piece, Event):
        yield piece
    elif piece is not None:
        raise TypeError(
            f"The provider {name!r} gave a {type(piece).__name__}; it may return or yield str, events of "
            "antiphon.chat.events, or a Completion."
        )


def _completed(event: Start, known: Start) -> Start:
    return Start(
        id=event.id or known.id,
        model=event.model or known.model,
        created=event.created or known.created,
        provider=event.provider or known.provider,
        extra=event.extra,
        form=event.form,
        kept=event.kept,
        wire=event.wire,
    )
