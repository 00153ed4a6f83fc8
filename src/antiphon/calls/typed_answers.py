"""`chat.completions.parse`: an answer as a value of a type, whole, or growing while it is written.

Rules:

* The type's JSON schema goes with the request, strict where OpenAI's strict mode takes it (see `schema.closed`).
* Formats want an object at the root: any other type (a list, a union, a number) is asked for as the one property
  `result` of an object, and given back without it.
* Only the first choice is read. It may stand in a Markdown fence; text around that is an error.
* Partial objects are plain JSON values (see `partial_json`): nothing is checked against the type before the end.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Hashable
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Generic, Literal, NamedTuple, TypeVar, Unpack, cast, get_args, overload

import msgspec

from antiphon.calls.core import ClientCore
from antiphon.calls.params import ChatParams, Messages, ParseParams
from antiphon.calls.partial_json import NOTHING, PartialJSON
from antiphon.calls.preparation import PreparedCall
from antiphon.calls.schema import Misfit, closed, json_schema, reader
from antiphon.chat.answers import Completion
from antiphon.chat.events import Folder, TextDelta
from antiphon.chat.requests import ResponseFormat
from antiphon.errors import ParseError, StreamError
from antiphon.formats import json
from antiphon.providers.http import HTTPProvider
from antiphon.sync import bridge
from antiphon.sync.nesting import Nested
from antiphon.sync.streams import AsyncStreamBase, SyncStreamBase

__all__ = [
    "AnswerType",
    "AsyncParseMethods",
    "AsyncParseStream",
    "ParseMethods",
    "ParseStream",
    "ParsedCompletion",
]

T = TypeVar("T")

_RESULT = "result"
_FENCED = re.compile(r"\s*```[^\n`]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)


class ParsedCompletion(Completion, Generic[T], frozen=True, kw_only=True):
    """A whole answer, and what it says."""

    parsed: T
    """The text of the first choice as a value of the type asked for."""


class _Wrapped(msgspec.Struct):
    result: msgspec.Raw


class AnswerType(Generic[T]):
    """A type to ask for, and to read an answer as.

    Raises:
        TypeError: JSON has no form for the type.
    """

    def __init__(self, type_: type[T]) -> None:
        schema, strict = closed(json_schema(type_))
        name = getattr(type_, "__name__", "") if isinstance(type_, type) and not get_args(type_) else ""
        self._label = repr(name) if name else str(type_)
        self._read = reader(type_, schema)
        self._wrapped = schema.get("type") != "object"
        if self._wrapped:
            defs = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
            schema = {"type": "object", "properties": {_RESULT: schema}, "required": [_RESULT]}
            schema |= {"additionalProperties": False, **defs}
        self.format = ResponseFormat("json_schema", schema, _name(name), strict=strict or None)

    def parsed(self, completion: Completion) -> ParsedCompletion[T]:
        """Read *completion*.

        Raises:
            ParseError: It is not of the type.
        """
        text = completion.content or ""
        try:
            value = self._value(text)
        except Misfit as misfit:
            what, path = _fault(completion, misfit), misfit.path
        else:
            fields = {name: getattr(completion, name) for name in completion.__struct_fields__}
            return ParsedCompletion(**fields, parsed=value)
        raise ParseError(
            f"The answer is not of the type {self._label}: {what}",
            text=text or _refusal(completion) or "",
            path=path,
            completion=completion,
            provider=completion.provider,
            model=completion.model,
        )

    def shown(self, partial: Any) -> Any:
        """Return what of a partial object there is to show, `NOTHING` where that is nothing."""
        if not self._wrapped:
            return partial
        return partial.get(_RESULT, NOTHING) if json.is_object(partial) else NOTHING

    def _value(self, text: str) -> T:
        fenced = _FENCED.fullmatch(text)
        try:
            data = (fenced[1] if fenced else text).encode()
            if not self._wrapped:
                return cast(T, self._read(data))
            data = bytes(msgspec.json.decode(data, type=_Wrapped).result)
        except (*json.MALFORMED, UnicodeEncodeError) as error:
            fault = "it is not JSON" if type(error) is not msgspec.ValidationError else f"it has no {_RESULT!r}"
        else:
            try:
                return cast(T, self._read(data))
            except Misfit as misfit:
                inside = Misfit(str(misfit), *(f"$.{_RESULT}{path[1:]}" for path in (misfit.path, misfit.shown)))
            raise inside
        raise Misfit(f"{fault}.", "$")


def _name(name: str) -> str:
    """Return *name* as OpenAI takes it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "answer"


def _refusal(completion: Completion) -> str | None:
    return completion.choices[0].message.refusal if completion.choices else None


def _fault(completion: Completion, misfit: Misfit) -> str:
    """Say why an answer is not of its type, and what can be done."""
    if _refusal(completion) is not None:
        return "the model declined to give one; its words are in `text`."
    reason = completion.choices[0].finish_reason if completion.choices else None
    if reason == "length":
        return "it was cut off, because it reached the greatest length; ask for more with max_tokens."
    if reason == "content_filter":
        return "the provider's content filter held it back, or a part of it."
    if not (completion.content or "").strip():
        if completion.choices and completion.choices[0].message.tool_calls:
            return "the model asked for tools instead; answer them first, as chat.completions.run does."
        return "the model wrote nothing."
    place = "" if misfit.shown == "$" else f"at {misfit.shown}, "
    return f"{place}{misfit} Its text is in `text`."


class _Partial(NamedTuple):
    value: Any


class _Parsing(Generic[T]):
    """One call of `parse`, in async code; used once, whole or streamed."""

    def __init__(self, prepared: PreparedCall, answer: AnswerType[T]) -> None:
        format, handler = answer.format, prepared.handler
        if isinstance(handler, HTTPProvider) and not handler.codec.name.startswith("openai-"):
            # A name, and the word for being strict, are OpenAI's; the others hold to a schema anyway.
            format = msgspec.structs.replace(format, name=None, strict=None)
        prepared.request = prepared.request.but(response_format=format)
        self._prepared = prepared
        self._answer = answer

    async def whole(self) -> ParsedCompletion[T]:
        return self._answer.parsed(await self._prepared.complete())

    async def steps(self) -> AsyncGenerator[_Partial | ParsedCompletion[T], None]:
        """Give each partial object, and at the end the answer."""
        folder, partial = Folder(), PartialJSON()
        try:
            async with aclosing(self._prepared.steps()) as steps:
                async for event, _ in steps:
                    folder.add(event)
                    if type(event) is not TextDelta or event.choice != 0 or not partial.feed(event.text):
                        continue
                    if (shown := self._answer.shown(partial.value)) is not NOTHING:
                        yield _Partial(shown)
        except StreamError as error:
            error.received = self._prepared.folded(folder)
            raise
        yield self._answer.parsed(self._prepared.folded(folder))


class _Growth(Generic[T]):
    """What a stream of partial objects knows, in either world."""

    _waiting: list[Any]
    _final: ParsedCompletion[T] | None = None

    def _take(self, step: _Partial | ParsedCompletion[T]) -> None:
        if isinstance(step, _Partial):
            self._waiting = [step.value]
        else:
            self._final = step

    def _done(self) -> ParsedCompletion[T]:
        if self._final is None:
            raise StreamError("The stream was closed, or failed, before its answer was complete: ask again.")
        return self._final


class ParseStream(_Growth[T], SyncStreamBase[_Partial | ParsedCompletion[T], Any]):
    """The answer as a plain JSON value each time that it grows; use it in a `with` block.

    The iteration ends with `ParseError` where the whole is not of the type.
    """

    def __init__(self, parsing: _Parsing[T], nested: Nested | None) -> None:
        super().__init__(parsing.steps, nested)

    def get_final(self) -> ParsedCompletion[T]:
        """Take the rest of the stream and return the whole answer, its value in `parsed`."""
        for _ in self:
            pass
        return self._done()


class AsyncParseStream(_Growth[T], AsyncStreamBase[_Partial | ParsedCompletion[T], Any]):
    """The answer as a plain JSON value each time that it grows; use it in an `async with` block.

    The iteration ends with `ParseError` where the whole is not of the type.
    """

    def __init__(self, parsing: _Parsing[T]) -> None:
        super().__init__(parsing.steps())

    async def get_final(self) -> ParsedCompletion[T]:
        """Take the rest of the stream and return the whole answer, its value in `parsed`."""
        async for _ in self:
            pass
        return self._done()


def _begin(
    core: ClientCore, messages: Messages, model: str, response_format: type[T], params: ParseParams, stream: bool
) -> _Parsing[T]:
    """Check everything that can be checked before anything runs."""
    prepared = core.prepare(messages, model, cast(ChatParams, params), stream=stream)
    try:
        hash(response_format)
    except TypeError:  # an annotation may hold anything
        return _Parsing(prepared, AnswerType(response_format))
    return _Parsing(prepared, _known(cast(Hashable, response_format)))


@lru_cache(maxsize=256)
def _known(type_: Any) -> AnswerType[Any]:
    """Return the `AnswerType` of *type_*, which takes five times as long to make as all else that a call does."""
    return AnswerType(type_)


class AsyncParseMethods:
    """`parse` of the async client."""

    _core: ClientCore

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: type[T],
        stream: Literal[False] = False,
        **params: Unpack[ParseParams],
    ) -> Awaitable[ParsedCompletion[T]]: ...

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: type[T],
        stream: Literal[True],
        **params: Unpack[ParseParams],
    ) -> AsyncParseStream[T]: ...

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: Any,
        stream: Literal[False] = False,
        **params: Unpack[ParseParams],
    ) -> Awaitable[ParsedCompletion[Any]]: ...

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: Any,
        stream: Literal[True],
        **params: Unpack[ParseParams],
    ) -> AsyncParseStream[Any]: ...

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: Any,
        stream: bool,
        **params: Unpack[ParseParams],
    ) -> Awaitable[ParsedCompletion[Any]] | AsyncParseStream[Any]: ...

    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: Any,
        stream: bool = False,
        **params: Unpack[ParseParams],
    ) -> Awaitable[ParsedCompletion[Any]] | AsyncParseStream[Any]:
        """Ask for an answer of a type: `await` it, or iterate over it as it grows.

        Args:
            messages: The conversation: OpenAI-style dicts, `Message` objects, or one string.
            model: `provider/model`, or as the client's provider knows it; empty for the default.
            response_format: A `msgspec.Struct`, dataclass, `TypedDict` or Pydantic model, or any other type that JSON
                can hold, such as `list[Person]` or `Cat | Dog`.
            stream: Whether to get partial objects on the way.
            **params: See `ChatParams`.

        Raises:
            TypeError: JSON has no form for the type.
            ParseError: The answer is not of the type.
            AntiphonError: What `create` raises.
        """
        parsing = _begin(self._core, messages, model, response_format, params, stream)
        return AsyncParseStream(parsing) if stream else parsing.whole()


class ParseMethods:
    """`parse` of the blocking client."""

    _core: ClientCore
    _nested: Nested | None

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: type[T],
        stream: Literal[False] = False,
        **params: Unpack[ParseParams],
    ) -> ParsedCompletion[T]: ...

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: type[T],
        stream: Literal[True],
        **params: Unpack[ParseParams],
    ) -> ParseStream[T]: ...

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: Any,
        stream: Literal[False] = False,
        **params: Unpack[ParseParams],
    ) -> ParsedCompletion[Any]: ...

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: Any,
        stream: Literal[True],
        **params: Unpack[ParseParams],
    ) -> ParseStream[Any]: ...

    @overload
    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: Any,
        stream: bool,
        **params: Unpack[ParseParams],
    ) -> ParsedCompletion[Any] | ParseStream[Any]: ...

    def parse(
        self,
        messages: Messages,
        model: str = "",
        *,
        response_format: Any,
        stream: bool = False,
        **params: Unpack[ParseParams],
    ) -> ParsedCompletion[Any] | ParseStream[Any]:
        """Ask for an answer of a type, whole, or as an iterator over it as it grows.

        Arguments and errors are those of `AsyncClient.chat.completions.parse`, and:

        Raises:
            NestAsyncioError: An event loop is running in this thread, and nesting is not allowed.
        """
        parsing = _begin(self._core, messages, model, response_format, params, stream)
        return ParseStream(parsing, self._nested) if stream else bridge.run(parsing.whole, nested=self._nested)
