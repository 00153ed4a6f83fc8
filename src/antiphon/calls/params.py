"""What a call may set: its parameters, checked and made into a neutral request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias, TypedDict, cast

from antiphon.calls.tools import AnyTool, definition
from antiphon.chat.embeddings import InputType
from antiphon.chat.messages import Message, Opaque
from antiphon.chat.requests import ChatRequest
from antiphon.chat.think_tags import ThinkTags
from antiphon.errors import BadRequestError
from antiphon.formats import json, read
from antiphon.formats.openai_chat.message import NAME
from antiphon.formats.openai_chat.request import decode_request, in_words_of, plain
from antiphon.http.transport import Timeout

__all__ = ["ChatParams", "EmbeddingParams", "Messages", "chat_request"]


Messages: TypeAlias = str | Sequence[Mapping[str, Any] | Message]
"""A conversation: OpenAI-style dicts, `Message` objects, both mixed, or one string for a single user message."""


class _Params(TypedDict, total=False):
    """What every kind of call may set."""

    temperature: float | None
    top_p: float | None
    top_k: int | None
    max_tokens: int | None
    max_completion_tokens: int | None
    stop: str | Sequence[str] | None
    n: int | None
    seed: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logprobs: bool | None
    top_logprobs: int | None
    logit_bias: Mapping[str, int] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | None
    verbosity: str | None
    modalities: Sequence[str] | None
    audio: Mapping[str, Any] | None
    prediction: Mapping[str, Any] | None
    metadata: Mapping[str, str] | None
    store: bool | None
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    service_tier: str | None
    stream_options: Mapping[str, Any] | None
    web_search_options: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None
    """Further fields of the request, as the provider names them; `None` in it is sent as `null`."""
    extra_headers: Mapping[str, str] | None
    """Further headers of the request."""
    timeout: float | timedelta | Timeout | None
    """The clocks of this call; a number is the total in seconds."""
    strict: bool | None
    """Whether what the provider's format cannot express is an error rather than an entry in `losses`."""
    think_tags: ThinkTags | None
    """Whether thoughts between `<think>` and `</think>` in the text are told as reasoning; `"open"`: the text begins
    with them, without the first tag. Not set: only for servers known to send them."""


class RunParams(_Params, total=False):
    """`ChatParams` without the tools, which `run` takes itself."""

    response_format: Mapping[str, Any] | None


class ParseParams(_Params, total=False):
    """`ChatParams` without the form of the answer, which `parse` takes itself."""

    tools: Sequence[AnyTool] | None


class ChatParams(_Params, total=False):
    """What a call may set besides its messages and model, by OpenAI's names. `None` is the same as not set."""

    tools: Sequence[AnyTool] | None
    """Functions, whose definitions are sent (to have them called, see `run`), or definitions as OpenAI's dicts."""
    response_format: Mapping[str, Any] | None


_LOCAL = frozenset({"extra_body", "extra_headers", "timeout", "strict", "think_tags"})


_KNOWN = frozenset(ChatParams.__annotations__)


def chat_request(
    messages: Messages, model: str, params: Mapping[str, Any], *, stream: bool, format: str = NAME
) -> ChatRequest:
    """Make the neutral request of a call.

    What is no word of OpenAI's is one of *format*: `extra_body`, and in dicts further fields of messages, parts and
    tools, and kinds of parts and tools.

    Raises:
        BadRequestError: A value of the wrong type, or none of JSON's; `param` is its path: `$.messages[0].role`.
        TypeError: A parameter that no chat completion has.
    """
    if unknown := sorted(params.keys() - _KNOWN):
        raise TypeError(unknown_parameter(unknown[0]))
    _check(params)
    bias: Any = params.get("logit_bias")
    if isinstance(bias, Mapping):  # the ids of tokens are numbers, but keys in JSON are not
        params = {**params, "logit_bias": dict(zip(map(str, cast(Any, bias)), cast(Any, bias).values(), strict=True))}
    given = {k: plain(value, f"$.{k}") for k, value in params.items() if value is not None and k not in _LOCAL}
    if isinstance(messages, str):
        messages = [Message.user(messages)]
    if isinstance(given.get("tools"), list):
        given["tools"] = [_tool(tool, format) for tool in given["tools"]]
    listed: Any = messages
    if _iterable(messages):
        listed = [m if isinstance(m, Message) else plain(m, f"$.messages[{n}]") for n, m in enumerate(messages)]
    more: Mapping[str, Any] = plain(params.get("extra_body") or {}, "$.extra_body")
    if format != NAME:
        source = {"model": model, "messages": listed, **given, "stream": stream}
        request = in_words_of(format, decode_request(source, keep=False), source)
        return request.but(extra={**(request.extra or {}), format: dict(more)}) if more else request
    request = decode_request({"model": model, "messages": listed, **given, **more, "stream": stream}, whole=False)
    nulls = {key: None for key, value in more.items() if value is None and key != "stream"}
    if not nulls:
        return request
    extra = request.extra or {}
    return request.but(extra={**extra, NAME: {**extra.get(NAME, {}), **nulls}})


def _tool(given: Any, format: str) -> Any:
    """Return a tool as the request is to hold it: what is no function is the provider's own, in its own words."""
    tool: Any = definition(given)
    if format != NAME and json.is_object(tool) and "function" not in tool:
        return Opaque(format, tool)
    return tool


def _check(params: Mapping[str, Any]) -> None:
    """Fail on settings that would else be wrong without a word."""
    if (more := params.get("extra_body")) is not None and not isinstance(more, (dict, Mapping)):
        read.fault("$.extra_body", "an object", more)
    if (strict := params.get("strict")) is not None and not isinstance(strict, bool):
        read.fault("$.strict", "a boolean", strict)
    if (tags := params.get("think_tags")) is not None and not isinstance(tags, bool) and tags != "open":
        read.fault("$.think_tags", "a boolean or 'open'", tags)
    if (n := params.get("n")) is not None and type(n) is int and n < 1:
        raise BadRequestError(f"$.n must be 1 or more, not {n}.", status=400, param="$.n")


def _iterable(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes)))


def unknown_parameter(name: str, known: Collection[str] = _KNOWN, what: str = "A chat completion") -> str:
    from difflib import get_close_matches  # only needed to word an error

    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{what} has no parameter {name!r}.{hint} Fields of one provider go into extra_body={{…}}."


class EmbeddingParams(TypedDict, total=False):
    """What a call for embeddings may set besides its texts and model. `None` is the same as not set."""

    dimensions: int | None
    input_type: InputType | None
    """What the vectors are for."""
    user: str | None
    extra_body: Mapping[str, Any] | None
    """Further fields of the request, as the provider names them."""
    extra_headers: Mapping[str, str] | None
    timeout: float | timedelta | Timeout | None
    strict: bool | None
