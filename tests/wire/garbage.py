"""Strategies of frames and requests that have a format's own names at the wrong places, for each format."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.wire import laws

__all__ = ["ANTHROPIC", "BEDROCK", "COHERE", "GEMINI", "OLLAMA", "RESPONSES", "Garbage"]


class Garbage(NamedTuple):
    """What nearly is of a format."""

    frames: st.SearchStrategy[list[Any]]
    """Frames of a stream."""
    requests: st.SearchStrategy[Any]
    """JSON of a request."""


def _odd(
    leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str], *, leaves_at_most: int = 8, keys_at_most: int = 4
) -> st.SearchStrategy[Any]:
    """Give *leaves*, and lists and objects of such whose names are among *keys*."""
    return st.recursive(
        leaves,
        lambda inner: st.dictionaries(keys, inner, max_size=keys_at_most) | st.lists(inner, max_size=2),
        max_leaves=leaves_at_most,
    )


def _anthropic() -> Garbage:
    fields = st.sampled_from(["type", "index", "delta", "message", "content_block", "usage", "error"])
    kinds = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "x"]
    loose = st.dictionaries(fields, laws.json_values | st.sampled_from(kinds), max_size=4)
    broken = st.fixed_dictionaries(
        {"type": st.sampled_from(kinds)},
        optional={
            "index": laws.scalars,
            "delta": laws.json_values,
            "message": laws.json_values,
            "content_block": laws.json_values,
            "usage": laws.json_values,
        },
    )
    frames = st.lists(loose | broken, max_size=5)
    keys = "role content type text source input name id citations thinking".split()
    words = laws.json_values | st.sampled_from("user assistant text image document tool_use url".split())
    odd = _odd(words, st.sampled_from(keys), keys_at_most=6)
    messages = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.lists(odd)})
    requests = odd | st.fixed_dictionaries(
        {"model": laws.names, "messages": st.lists(messages | odd, max_size=2)},
        optional=dict.fromkeys(("system", "tools", "tool_choice", "thinking", "output_config", "metadata"), odd),
    )
    return Garbage(frames, requests)


def _bedrock() -> Garbage:
    names = st.sampled_from(
        ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "x"]
    )
    fields = st.sampled_from(["role", "start", "delta", "contentBlockIndex", "stopReason", "usage", "p"])
    keys = "toolUse text reasoningContent input redactedContent citation toolResult".split()
    odd = _odd(laws.scalars, st.sampled_from(keys), leaves_at_most=6, keys_at_most=6)
    frame = st.dictionaries(fields, odd | st.integers(0, 2) | st.just("assistant"), max_size=4)
    frames = st.lists(st.tuples(names, frame), max_size=5)
    words = st.sampled_from("role content text source input toolUse toolResult image format".split())
    shapes = _odd(laws.scalars | st.sampled_from(["user", "assistant", "png"]), words, keys_at_most=2)
    top = ("messages", "system", "toolConfig", "inferenceConfig", "outputConfig", "additionalModelRequestFields")
    requests = st.dictionaries(st.sampled_from(top), shapes) | shapes
    return Garbage(frames, requests)


def _cohere() -> Garbage:
    keys = st.sampled_from("type delta message content tool_calls function citations text index".split())
    words = st.sampled_from(["content-start", "content-delta", "tool-call-start", "message-end", "text"])
    odd = _odd(laws.json_values | words, keys)
    frames = st.lists(odd, max_size=4)
    message = st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"])},
        optional=dict.fromkeys(("content", "citations", "tool_calls", "tool_plan"), odd),
    )
    requests = odd | st.fixed_dictionaries(
        {"model": laws.names, "messages": st.lists(message, max_size=2)},
        optional=dict.fromkeys(("tools", "thinking", "response_format", "tool_choice", "documents"), odd),
    )
    return Garbage(frames, requests)


def _gemini() -> Garbage:
    keys = "candidates content parts text functionCall args name finishReason usageMetadata".split()
    more = "groundingMetadata groundingChunks groundingSupports logprobsResult chosenCandidates partialArgs".split()
    odd = _odd(laws.json_values | st.sampled_from(["STOP", "$.a[0]"]), st.sampled_from(keys + more), keys_at_most=3)
    parts = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("text", "functionCall", "thought"), odd)))
    candidates = st.fixed_dictionaries(
        {"content": st.fixed_dictionaries({"parts": parts})},
        optional=dict.fromkeys(("groundingMetadata", "logprobsResult", "finishReason"), odd),
    )
    frames = st.lists(
        st.fixed_dictionaries({"candidates": st.lists(candidates | odd, max_size=2)})
        | st.dictionaries(st.sampled_from(keys), odd, max_size=3),
        max_size=4,
    )
    contents = st.fixed_dictionaries({"parts": parts | odd}, optional={"role": st.just("model") | odd})
    requests = odd | st.fixed_dictionaries(
        {"contents": st.lists(contents | odd, max_size=2)},
        optional=dict.fromkeys(("systemInstruction", "tools", "toolConfig", "generationConfig"), odd),
    )
    return Garbage(frames, requests)


def _ollama() -> Garbage:
    keys = st.sampled_from("message done content role tool_calls function images logprobs options".split())
    odd = _odd(laws.json_values | st.sampled_from(["assistant", "tool", "json"]), keys)
    frames = st.lists(odd, max_size=4)
    message = st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"])},
        optional=dict.fromkeys(("content", "images", "tool_calls", "thinking", "tool_name"), odd),
    )
    requests = odd | st.fixed_dictionaries(
        {"model": laws.names, "messages": st.lists(message, max_size=2)},
        optional=dict.fromkeys(("tools", "options", "format", "think", "stream"), odd),
    )
    return Garbage(frames, requests)


def _responses() -> Garbage:
    kinds = st.sampled_from(
        "created output_item.added output_item.done content_part.added output_text.delta refusal.delta x completed "
        "function_call_arguments.delta reasoning_summary_part.added incomplete".split()
    ).map("response.{}".format)
    items = st.fixed_dictionaries(
        {"type": st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call", "x"])},
        optional=dict.fromkeys(
            ("role", "content", "summary", "call_id", "name", "arguments", "input", "id"),
            laws.json_values | st.sampled_from(["assistant", [{"type": "output_text"}], [{"type": []}]]),
        ),
    )
    answers = st.fixed_dictionaries(
        {},
        optional={
            "status": laws.scalars | st.just("completed"),
            "output": st.lists(items | laws.json_values, max_size=2) | laws.json_values,
            "usage": laws.json_values,
            "incomplete_details": laws.json_values,
        },
    )
    frame = st.fixed_dictionaries(
        {"type": kinds},
        optional={
            "output_index": laws.json_values,
            "content_index": laws.json_values,
            "item_id": laws.json_values,
            "delta": laws.json_values,
            "logprobs": laws.json_values,
            "item": items | laws.json_values,
            "part": laws.json_values | st.just({"type": "output_text"}),
            "response": answers | laws.json_values,
        },
    )
    frames = st.lists(frame, max_size=5)
    keys = st.sampled_from("role content type text output call_id name summary format effort".split())
    words = st.sampled_from("user assistant message input_text output_text input_file".split())
    odd = _odd(laws.json_values | words, keys, keys_at_most=6)
    requests = odd | st.fixed_dictionaries(
        {"model": laws.names, "input": st.lists(items | odd, max_size=2)},
        optional=dict.fromkeys(("instructions", "tools", "tool_choice", "text", "reasoning", "include"), odd),
    )
    return Garbage(frames, requests)


ANTHROPIC = _anthropic()
BEDROCK = _bedrock()
COHERE = _cohere()
GEMINI = _gemini()
OLLAMA = _ollama()
RESPONSES = _responses()
