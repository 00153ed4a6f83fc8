"""What the laws of codecs are held with, format by format: values, frames, and what each format may leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Message, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, Tool
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec
from antiphon.formats.cohere import Cohere
from antiphon.formats.framing import eventstream as event_stream
from antiphon.formats.framing import sse
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.ollama.message import call_object
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses
from tests.wire import (
    anthropic_values,
    bedrock_values,
    cohere_values,
    garbage,
    gemini_values,
    laws,
    ollama_values,
    openai_shapes,
    responses_values,
)

__all__ = ["FORMATS", "Format", "array", "without_form"]


def unchanged(value: Any) -> Any:
    """Return *value*."""
    return value


def without_form(value: Any) -> Any:
    """Return *value* without the memory of how it was written."""
    if isinstance(value, msgspec.Struct):
        fields = {key: without_form(getattr(value, key)) for key in value.__struct_fields__ if key != "form"}
        return type(value)(**fields)
    return tuple(map(without_form, value)) if isinstance(value, tuple) else value


NO_PATH = st.just("")


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format, as the laws see it. A law for which a format has `None` is not held to it."""

    codec: Codec
    request: ChatRequest
    """What the answers are answers to."""
    requests: st.SearchStrategy[ChatRequest]
    """Requests that can be said in the format."""
    completions: st.SearchStrategy[Completion]
    """Answers that can be said in the format."""
    events: st.SearchStrategy[list[Any]] | None = None
    """Events that can be streamed; without, those of `completions`."""
    json_requests: st.SearchStrategy[Any]
    json_answers: st.SearchStrategy[Any]
    json_streams: st.SearchStrategy[Any]
    """Streams, each as *body* takes it."""
    body: Callable[[Any], bytes]
    """Writes a stream as the provider does."""
    frames: Callable[[bytes], list[Any]] = laws.frames
    """Reads the frames of a stream."""
    stream_type: str = laws.SSE
    other_types: tuple[str, ...] = (laws.JSON, "text/html")
    """Content types under which garbage may come besides."""
    garbage: garbage.Garbage | None = None
    """Frames and requests that nearly are."""
    starts: tuple[bytes, ...] = (b"",)
    """What bytes that are none may begin with."""
    paths: st.SearchStrategy[str] = NO_PATH
    """Where requests are sent, for formats that tell the model there."""
    streamed: Callable[[Completion], Completion] = unchanged
    """Takes from an answer that was written as a stream and read what its bytes say of how it was written."""
    whole: Callable[[Completion], Completion] = unchanged
    """The same for an answer in one piece."""
    kept: Callable[[Completion], Any] | None = None
    """Gives what survives of a stream without the memory of how its frames were written."""
    keeps: bool = False
    """Whether the format keeps what it read, and no patches, so that it is held to the law without what was kept."""
    full: tuple[Any, Any, Any] | None = None
    """A request, an answer and a stream with every field that the format knows, so that none is left to chance."""
    sayable_requests: st.SearchStrategy[Any] | None = None
    """JSON requests that can be written again without a loss, if not all *json_requests* can."""
    sayable_streams: st.SearchStrategy[Any] | None = None
    """The same for frames of streams."""
    asked: Callable[[ChatRequest], Any] = unchanged
    """Gives what survives of a request without what was kept of it; of answers, that is what *kept* gives."""
    rewritten: ChatRequest | None = None
    """The request with which such a stream is written, if not *request*."""
    billed: Callable[[Any], dict[str, int | None]] | None = None
    """Gives the sums that JSON of an answer has, by their names in `Usage`; `None` where it has no usage."""
    odd_body: Callable[[Any], bytes] | None = None
    """Writes garbage as a stream, if not as *body* does."""
    answer: tuple[Any, ...] | None = None
    """Frames of a complete answer, no one of which may be missing at the end."""
    deep: bytes | None = None
    """A request with two places for the two sides of deep nesting."""

    @property
    def name(self) -> str:
        """The name of the format."""
        return self.codec.name


# What formats write and count differently


def sent(frames: Iterable[Any], *, event: str | None = None, padding: bytes = b"") -> bytes:
    """Return *frames* as server-sent events, each with its own type as its name, or else *event*."""
    return b"".join(sse.encode(json.encode(frame) + padding, event=event or frame["type"]) for frame in frames)


def array(frames: Iterable[Any]) -> bytes:
    """Return *frames* as Gemini sends them where nobody asked for server-sent events."""
    return b"[" + b",\r\n".join(map(json.encode, frames)) + b"]\n"


def gemini_body(frames: Iterable[Any]) -> bytes:
    """Return *frames* as Gemini sends them, with its line ends."""
    return b"".join(sse.encode(json.encode(frame)).replace(b"\n", b"\r\n") for frame in frames)


def bedrock_body(named: Iterable[tuple[str, Any]]) -> bytes:
    """Return frames as AWS sends them."""
    headers = {":event-type": "", ":content-type": "application/json", ":message-type": "event"}
    return b"".join(
        event_stream.encode(event_stream.encode_headers({**headers, ":event-type": name}), json.encode(frame))
        for name, frame in named
    )


def bedrock_frames(data: bytes) -> list[Any]:
    """Return names and JSON of the frames."""
    found = event_stream.EventStreamDecoder().feed(data)
    return [[headers[":event-type"], json.decode(payload)] for headers, payload in found]


def anthropic_whole(completion: Completion) -> Completion:
    """Take away how the message was written."""
    (choice,) = completion.choices
    message = msgspec.structs.replace(choice.message, form=None)
    return msgspec.structs.replace(completion, choices=(msgspec.structs.replace(choice, message=message),))


def total(source: Any, *keys: str) -> int:
    """Return the sum of counts, of which any may be missing."""
    return sum(source.get(key) or 0 for key in keys)


def anthropic_billed(source: Any) -> dict[str, int | None]:
    """All input that is billed is counted once, cached or not."""
    counts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    usage = source["usage"]
    return {"total_tokens": total(usage, *counts), "completion_tokens": usage["output_tokens"]}


def bedrock_billed(source: Any) -> dict[str, int | None]:
    """All input that is billed is counted once, cached or not."""
    counts = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "outputTokens")
    return {"total_tokens": total(source["usage"], *counts)}


def cohere_billed(source: Any) -> dict[str, int | None]:
    """What is billed counts, or else what was counted."""
    usage = source.get("usage") or {}
    counts = usage.get("billed_units") if usage.get("billed_units") is not None else usage.get("tokens")
    counts = counts or {}
    return {"prompt_tokens": counts.get("input_tokens"), "completion_tokens": counts.get("output_tokens")}


def gemini_billed(source: Any) -> dict[str, int | None]:
    """Thoughts are not among the candidates' tokens, and prompts of tools not among the prompt's."""
    usage = source.get("usageMetadata")
    counts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    return {"total_tokens": None if usage is None else total(usage, *counts)}


def ollama_billed(source: Any) -> dict[str, int | None]:
    """There are two counts."""
    return {"prompt_tokens": source.get("prompt_eval_count"), "completion_tokens": source.get("eval_count")}


def responses_billed(source: Any) -> dict[str, int | None]:
    """The parts of the input are within its count, or they are what counts."""
    usage = source.get("usage")
    if usage is None:
        return {"prompt_tokens": None, "completion_tokens": None}
    parts = total(usage.get("input_tokens_details") or {}, "cached_tokens", "cache_write_tokens")
    return {"prompt_tokens": max(usage["input_tokens"], parts), "completion_tokens": usage["output_tokens"]}


# What survives without the memory of how frames were written


def anthropic_kept(completion: Completion) -> Any:
    """All but the buckets of the usage, whose sum is the same."""
    assert completion.usage is not None
    return completion.choices, completion.extra, completion.usage.total_tokens


def anthropic_asked(request: ChatRequest) -> ChatRequest:
    """All but empty texts, results after something else, schemas without a type, and no budget for thoughts."""
    reasoning = request.reasoning
    if reasoning == ReasoningOptions(budget_tokens=0):
        reasoning = ReasoningOptions(effort="none")
    tools = request.tools and tuple(
        msgspec.structs.replace(tool, parameters={"type": "object", **(tool.parameters or {})})
        if isinstance(tool, Tool)
        else tool
        for tool in request.tools
    )
    messages = (msgspec.structs.replace(m, parts=_results_first(_spoken(m.parts), m.role)) for m in request.messages)
    messages = (message for message in messages if message.parts or message.extra)
    return request.but(messages=tuple(messages), tools=tools, reasoning=reasoning)


def _results_first(parts: tuple[Any, ...], role: str) -> tuple[Any, ...]:
    return tuple(sorted(parts, key=lambda part: not isinstance(part, ToolResult))) if role == "user" else parts


def bedrock_kept(completion: Completion) -> Any:
    """The choice and the extras."""
    return completion.choices, completion.extra


def cohere_kept(completion: Completion) -> Any:
    """All but the buckets of the usage, whose sum is the same."""
    return (
        completion.id,
        completion.choices,
        completion.extra,
        completion.usage and completion.usage.total_tokens,
    )


def cohere_asked(request: ChatRequest) -> ChatRequest:
    """All but texts without a word, for which no block is written, and that a function without a schema takes none."""
    tools = request.tools and tuple(
        msgspec.structs.replace(tool, parameters={"type": "object", "properties": {}})
        if isinstance(tool, Tool) and tool.parameters is None
        else tool
        for tool in request.tools
    )
    messages = [msgspec.structs.replace(message, parts=_spoken(message.parts)) for message in request.messages]
    silent = Message("system", ())
    return request.but(messages=tuple(message for message in messages if message != silent), tools=tools)


def _spoken(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        msgspec.structs.replace(part, content=_spoken(part.content)) if isinstance(part, ToolResult) else part
        for part in parts
        if not (isinstance(part, Text) and not part.text)
    )


def gemini_kept(completion: Completion) -> Any:
    """All but empty texts, which say nothing, and the buckets of the usage, whose sum is the same."""
    choice = completion.choices[0]
    assert completion.usage is not None
    return (
        (choice.message.content or "", choice.finish_reason, choice.message.tool_calls, choice.extra),
        (completion.id, completion.model, completion.extra, completion.usage.total_tokens),
    )


def ollama_kept(completion: Completion) -> Any:
    """All but the spelling of the arguments of calls: they are objects here, or text inside of one."""
    return msgspec.structs.replace(completion, choices=tuple(_with_objects(choice) for choice in completion.choices))


def _with_objects(choice: Choice) -> Choice:
    parts = tuple(
        msgspec.structs.replace(part, arguments=call_object(part)["function"]["arguments"])
        if isinstance(part, ToolCall)
        else part
        for part in choice.message.parts
    )
    return msgspec.structs.replace(choice, message=msgspec.structs.replace(choice.message, parts=parts))


def ollama_asked(request: ChatRequest) -> ChatRequest:
    """The same for a request."""
    messages = tuple(_with_objects(Choice(0, message)).message for message in request.messages)
    return msgspec.structs.replace(request, messages=messages)


ANTHROPIC = Format(
    codec=Anthropic(),
    request=ChatRequest("claude", (), stream=True),
    requests=anthropic_values.requests(),
    completions=anthropic_values.completions(),
    json_requests=anthropic_values.json_requests,
    json_answers=anthropic_values.json_answers,
    json_streams=anthropic_values.json_streams(),
    garbage=garbage.ANTHROPIC,
    body=lambda frames: sent(frames, padding=b"   "),
    odd_body=lambda frames: sent(frames, event="x"),
    whole=anthropic_whole,
    keeps=True,
    full=(anthropic_values.FULL_REQUEST, anthropic_values.FULL_ANSWER, anthropic_values.FULL_STREAM),
    sayable_requests=anthropic_values.sayable_requests,
    asked=anthropic_asked,
    kept=anthropic_kept,
    billed=anthropic_billed,
    deep=b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":'
    b'[{"type":"tool_use","id":"a","name":"b","input":%s1%s}]}]}',
)
BEDROCK = Format(
    codec=Bedrock(),
    request=ChatRequest(bedrock_values.MODELS[0], (), stream=True),
    requests=bedrock_values.requests(),
    completions=bedrock_values.completions(bedrock_values.MODELS[0]),
    json_requests=bedrock_values.json_requests,
    json_answers=bedrock_values.json_answers,
    json_streams=bedrock_values.json_streams(),
    garbage=garbage.BEDROCK,
    body=bedrock_body,
    frames=bedrock_frames,
    stream_type=event_stream.CONTENT_TYPE,
    paths=st.sampled_from(bedrock_values.MODELS).map("/model/{}/converse".format),
    whole=without_form,
    kept=bedrock_kept,
    billed=bedrock_billed,
    answer=(
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi."}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
    ),
)
COHERE = Format(
    codec=Cohere(),
    request=ChatRequest("command", (), stream=True),
    requests=cohere_values.requests(),
    completions=cohere_values.completions(),
    json_requests=cohere_values.json_requests,
    json_answers=cohere_values.json_answers,
    json_streams=cohere_values.json_streams,
    garbage=garbage.COHERE,
    body=cohere_values.body,
    odd_body=lambda frames: sent(frames, event="x"),
    keeps=True,
    full=(cohere_values.FULL_REQUEST, cohere_values.FULL_ANSWER, cohere_values.FULL_STREAM),
    sayable_requests=cohere_values.sayable_requests,
    sayable_streams=cohere_values.sayable_streams,
    asked=cohere_asked,
    kept=cohere_kept,
    billed=cohere_billed,
)
GEMINI = Format(
    codec=Gemini(),
    request=ChatRequest("gemini", (), stream=True),
    requests=gemini_values.requests(),
    completions=gemini_values.completions(),
    json_requests=gemini_values.json_requests,
    json_answers=gemini_values.json_answers,
    json_streams=gemini_values.json_streams(),
    garbage=garbage.GEMINI,
    body=gemini_body,
    other_types=(laws.JSON,),
    starts=(b"", b"[", b"{", b"data: "),
    whole=lambda completion: msgspec.structs.replace(completion, form=None),
    kept=gemini_kept,
    rewritten=ChatRequest("", (), stream=True),
    billed=gemini_billed,
    deep=b'{"contents":[{"parts":[{"functionCall":{"name":"f","args":%s1%s}}]}]}',
)
OLLAMA = Format(
    codec=Ollama(),
    request=ChatRequest("llama", (), stream=True),
    requests=ollama_values.requests(),
    completions=ollama_values.completions(),
    json_requests=ollama_values.json_requests,
    json_answers=ollama_values.json_answers,
    json_streams=ollama_values.json_streams,
    garbage=garbage.OLLAMA,
    body=ollama_values.body,
    frames=ollama_values.frames,
    stream_type="application/x-ndjson",
    other_types=(laws.JSON, laws.SSE, "text/html"),
    keeps=True,
    full=(ollama_values.FULL_REQUEST, ollama_values.FULL_ANSWER, ollama_values.FULL_STREAM),
    sayable_requests=ollama_values.sayable_requests,
    asked=ollama_asked,
    kept=ollama_kept,
    billed=ollama_billed,
    answer=(
        {"model": "llama", "message": {"role": "assistant", "content": "Hi."}, "done": False},
        {"model": "llama", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ),
)
OPENAI = Format(
    codec=OpenAIChat(),
    request=ChatRequest("m", (), stream=True, include_usage=True),
    requests=openai_shapes.REQUESTS,
    completions=openai_shapes.completions(),
    events=openai_shapes.STREAMS,
    json_requests=openai_shapes.WIRE_REQUESTS,
    json_answers=openai_shapes.wire_answers(),
    json_streams=openai_shapes.wire_bodies(),
    body=unchanged,
)
RESPONSES = Format(
    codec=Responses(),
    request=ChatRequest("m", (), stream=True),
    requests=responses_values.requests(),
    completions=responses_values.completions(),
    json_requests=responses_values.json_requests,
    json_answers=responses_values.json_answers,
    json_streams=responses_values.json_streams(),
    garbage=garbage.RESPONSES,
    body=sent,
    streamed=without_form,
    whole=without_form,
    billed=responses_billed,
)

FORMATS = (ANTHROPIC, BEDROCK, COHERE, GEMINI, OLLAMA, OPENAI, RESPONSES)
