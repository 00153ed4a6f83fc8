"""OpenAI Chat Completions requests with a fault: the exact path of each."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.errors import BadRequestError
from antiphon.formats import json
from antiphon.formats.openai_chat import OpenAIChat

CODEC = OpenAIChat()
TEXT, OBJECT = "a string", "an object"
MESSAGE, TOOL, FORMAT = "$.messages[1]", "$.tools[0]", "$.response_format"
CONTENT = f"{MESSAGE}.content[0]"


def with_message(message: Any) -> dict[str, Any]:
    """Make a request whose second message is *message*."""
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}, message]}


def with_part(part: Any) -> dict[str, Any]:
    """Make a request with *part* in its second message."""
    return with_message({"role": "user", "content": [part]})


def with_call(call: Any) -> dict[str, Any]:
    """Make a request with a tool call in its second message."""
    return with_message({"role": "assistant", "tool_calls": [call]})


def with_field(**fields: Any) -> dict[str, Any]:
    """Make a request with other fields."""
    return {"model": "m", "messages": [], **fields}


def with_schema(**fields: Any) -> dict[str, Any]:
    """Make a request for an answer by a schema."""
    return with_field(response_format={"type": "json_schema", "json_schema": fields})


CALL = f"{MESSAGE}.tool_calls[0]"
SCHEMA, IMAGE, SOUND = f"{FORMAT}.json_schema", f"{CONTENT}.image_url", f"{CONTENT}.input_audio"
CITATION = f"{MESSAGE}.annotations[0]"
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "$.model", TEXT),
    ({"model": 5, "messages": []}, "$.model", TEXT),
    ({"model": "m"}, "$.messages", "an array"),
    ({"model": "m", "messages": None}, "$.messages", "an array"),
    ({"model": "m", "messages": "Hi"}, "$.messages", "an array"),
    (with_message("Hi"), MESSAGE, OBJECT),
    (with_message(None), MESSAGE, OBJECT),
    (with_message({}), f"{MESSAGE}.role", TEXT),
    (with_message({"role": 5}), f"{MESSAGE}.role", TEXT),
    (with_message({"role": "user"}), f"{MESSAGE}.content", "a string or an array of parts"),
    (with_message({"role": "user", "content": 5}), f"{MESSAGE}.content", "a string or an array of parts"),
    (with_message({"role": "user", "content": {}}), f"{MESSAGE}.content", "a string or an array of parts"),
    (with_message({"role": "user", "content": "a", "name": 5}), f"{MESSAGE}.name", TEXT),
    (with_message({"role": "tool", "content": "a"}), f"{MESSAGE}.tool_call_id", TEXT),
    (with_message({"role": "tool", "tool_call_id": "c"}), f"{MESSAGE}.content", "a string or an array of parts"),
    (with_message({"role": "assistant", "refusal": 5}), f"{MESSAGE}.refusal", TEXT),
    (with_message({"role": "assistant", "audio": 5}), f"{MESSAGE}.audio", OBJECT),
    (with_message({"role": "assistant", "audio": {"id": 5}}), f"{MESSAGE}.audio.id", TEXT),
    (with_message({"role": "assistant", "audio": {"expires_at": 1.5}}), f"{MESSAGE}.audio.expires_at", "an integer"),
    (with_message({"role": "assistant", "annotations": {}}), f"{MESSAGE}.annotations", "an array"),
    (with_message({"role": "assistant", "annotations": [5]}), CITATION, OBJECT),
    (with_message({"role": "assistant", "annotations": [{"type": 5}]}), f"{CITATION}.type", TEXT),
    (with_message({"role": "assistant", "tool_calls": {}}), f"{MESSAGE}.tool_calls", "an array"),
    (with_call("f"), CALL, OBJECT),
    (with_call({}), f"{CALL}.function", OBJECT),
    (with_call({"type": 5}), f"{CALL}.type", TEXT),
    (with_call({"type": "custom"}), f"{CALL}.custom", OBJECT),
    (with_call({"type": "web_search", "function": 5}), f"{CALL}.function", OBJECT),
    (with_call({"id": 5, "function": {"name": "f"}}), f"{CALL}.id", TEXT),
    (with_call({"function": {}}), f"{CALL}.function.name", TEXT),
    (with_call({"function": {"name": "f", "arguments": []}}), f"{CALL}.function.arguments", TEXT),
    (with_call({"type": "custom", "custom": {"name": "f", "input": 5}}), f"{CALL}.custom.input", TEXT),
    (with_part("text"), CONTENT, OBJECT),
    (with_part({"text": "a"}), f"{CONTENT}.type", TEXT),
    (with_part({"type": "text"}), f"{CONTENT}.text", TEXT),
    (with_part({"type": "refusal", "refusal": 5}), f"{CONTENT}.refusal", TEXT),
    (with_part({"type": "image_url"}), IMAGE, OBJECT),
    (with_part({"type": "image_url", "image_url": {}}), f"{IMAGE}.url", TEXT),
    (with_part({"type": "image_url", "image_url": {"url": "a", "detail": 5}}), f"{IMAGE}.detail", TEXT),
    (with_part({"type": "input_audio"}), SOUND, OBJECT),
    (with_part({"type": "input_audio", "input_audio": {}}), f"{SOUND}.data", TEXT),
    (with_part({"type": "input_audio", "input_audio": {"data": "", "format": 5}}), f"{SOUND}.format", TEXT),
    (with_part({"type": "file"}), f"{CONTENT}.file", OBJECT),
    (with_part({"type": "file", "file": {"file_data": 5}}), f"{CONTENT}.file.file_data", TEXT),
    (with_part({"type": "file", "file": {"file_id": 5}}), f"{CONTENT}.file.file_id", TEXT),
    (with_part({"type": "file", "file": {"filename": 5}}), f"{CONTENT}.file.filename", TEXT),
    (with_field(tools={}), "$.tools", "an array"),
    (with_field(tools=["f"]), TOOL, OBJECT),
    (with_field(tools=[{}]), f"{TOOL}.function", OBJECT),
    (with_field(tools=[{"function": {}}]), f"{TOOL}.function.name", TEXT),
    (with_field(tools=[{"function": {"name": "f", "description": 5}}]), f"{TOOL}.function.description", TEXT),
    (with_field(tools=[{"function": {"name": "f", "parameters": []}}]), f"{TOOL}.function.parameters", OBJECT),
    (with_field(tools=[{"function": {"name": "f", "strict": "yes"}}]), f"{TOOL}.function.strict", "a boolean"),
    (with_field(tool_choice=5), "$.tool_choice", "'auto', 'none', 'required' or an object"),
    (with_field(stop=5), "$.stop", "a string or an array of strings"),
    (with_field(stop=["a", 5]), "$.stop[1]", TEXT),
    (with_field(response_format="json"), FORMAT, OBJECT),
    (with_field(response_format={}), f"{FORMAT}.type", TEXT),
    (with_field(response_format={"type": "json_schema"}), SCHEMA, OBJECT),
    (with_schema(name=5), f"{SCHEMA}.name", TEXT),
    (with_schema(schema=[]), f"{SCHEMA}.schema", OBJECT),
    (with_schema(strict=1), f"{SCHEMA}.strict", "a boolean"),
    (with_schema(description=1), f"{SCHEMA}.description", TEXT),
    (with_field(reasoning_effort=5), "$.reasoning_effort", TEXT),
    (with_field(stream_options=[]), "$.stream_options", OBJECT),
    (with_field(stream_options={"include_usage": "yes"}), "$.stream_options.include_usage", "a boolean"),
    (with_field(stream="yes"), "$.stream", "a boolean"),
    *((with_field(**{key: "1"}), f"$.{key}", "a number") for key in ("temperature", "top_p")),
    *((with_field(**{key: True}), f"$.{key}", "a number") for key in ("frequency_penalty", "presence_penalty")),
    *((with_field(**{key: 1.5}), f"$.{key}", "an integer") for key in ("top_k", "n", "seed", "top_logprobs")),
    *((with_field(**{key: "5"}), f"$.{key}", "an integer") for key in ("max_tokens", "max_completion_tokens")),
    *((with_field(**{key: 1}), f"$.{key}", "a boolean") for key in ("logprobs", "parallel_tool_calls")),
    *((with_field(**{key: 5}), f"$.{key}", TEXT) for key in ("user", "service_tier")),
]
"""Requests with one fault each, its path, and what should stand there."""


@pytest.mark.parametrize(
    ("source", "path", "expected"), WRONG, ids=[f"{path} {place}" for place, (_, path, _) in enumerate(WRONG)]
)
def test_faults(source: dict[str, Any], path: str, expected: str) -> None:
    """A value of the wrong type is a `BadRequestError` with the exact path, for which no value is repeated."""
    with pytest.raises(BadRequestError) as caught:
        CODEC.decode_request(json.encode(source))
    assert caught.value.param == path
    assert str(caught.value).startswith(f"{path} must be {expected}, not ")
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": "\xff"}', b'{"model":' * 100_000])
def test_bodies_that_are_no_object(body: bytes) -> None:
    """A body that is not a JSON object is a `BadRequestError` too."""
    with pytest.raises(BadRequestError) as caught:
        CODEC.decode_request(body)
    assert caught.value.param == "$"


@pytest.mark.parametrize("depth", [100, 300, 500, 700])
def test_nesting(depth: int) -> None:
    """A request nested deeply is read and written like any other."""
    bomb = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"model": "m", "messages": [{"role": "assistant", "x": %b}], "y": %b}' % (bomb, bomb)
    assert CODEC.encode_request(CODEC.decode_request(body)).body.count(bomb) == 2
