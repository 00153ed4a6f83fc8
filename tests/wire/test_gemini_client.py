"""The official google-genai client reads what the codec writes, and the codec reads what the client sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.messages import Annotation, Message, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.formats import json
from antiphon.formats.gemini import Gemini
from antiphon.testing import Answer, Fault, Upstream
from tests.vendors import genai
from tests.wire import laws

CODEC = Gemini()
ANSWER = Completion(
    choices=(
        Choice(
            0,
            Message(
                "assistant",
                (
                    Reasoning("Hm."),
                    Text("Yes.", (Annotation(url="https://x.org", title="X", start=0, end=4),)),
                    ToolCall("call_1", "f", '{"x":1}', extra={"gemini": {"thoughtSignature": "c2ln"}}),
                ),
            ),
            "tool_calls",
        ),
    ),
    id="r",
    model="gemini-x",
    usage=Usage(input_uncached=3, input_cache_read=2, output_visible=4, output_reasoning=1),
)


@contextmanager
def talking(answer: Answer | Callable[[ChatRequest], Answer]) -> Iterator[tuple[genai.Client, Upstream]]:
    """Give a client whose server says *answer*, and the server."""
    with Upstream(answer, codec=CODEC) as upstream:
        options = genai.types.HttpOptions(base_url=upstream.base_url.removesuffix("/v1"))
        with genai.Client(api_key="key", http_options=options) as client:
            yield client, upstream


def check(content: genai.types.Content | None) -> None:
    """Fail unless *content* is that of `ANSWER`."""
    assert content is not None
    thought, text, call = content.parts or [genai.types.Part()]
    assert (thought.text, thought.thought) == ("Hm.", True)
    assert (text.text, text.thought) == ("Yes.", None)
    assert call.function_call is not None
    assert (call.function_call.id, call.function_call.name, call.function_call.args) == ("call_1", "f", {"x": 1})
    assert call.thought_signature == b"sig"


def test_a_whole_answer() -> None:
    """The client reads a whole answer with its thoughts, text, sources, calls and counts."""
    with talking(ANSWER) as (client, _):
        answer = client.models.generate_content(model="gemini-x", contents="Hello")
    (candidate,) = answer.candidates or [genai.types.Candidate()]
    check(candidate.content)
    assert (candidate.finish_reason, answer.response_id, answer.model_version) == (
        genai.types.FinishReason.STOP,
        "r",
        "gemini-x",
    )
    assert candidate.grounding_metadata is not None
    (chunk,) = candidate.grounding_metadata.grounding_chunks or [genai.types.GroundingChunk()]
    assert chunk.web is not None
    assert chunk.web.uri == "https://x.org"
    counts = answer.usage_metadata
    assert counts is not None
    assert (counts.prompt_token_count, counts.cached_content_token_count) == (5, 2)
    assert (counts.candidates_token_count, counts.thoughts_token_count, counts.total_token_count) == (4, 1, 10)


def test_a_stream() -> None:
    """The client reads a stream of frames, whose parts are those of the whole answer."""
    with talking(ANSWER) as (client, _):
        frames = list(client.models.generate_content_stream(model="gemini-x", contents="Hello"))
    parts = [part for frame in frames for c in frame.candidates or () if c.content for part in c.content.parts or ()]
    check(genai.types.Content(parts=parts))
    last = (frames[-1].candidates or [genai.types.Candidate()])[0]
    assert last.finish_reason == genai.types.FinishReason.STOP
    assert frames[-1].usage_metadata is not None
    assert frames[-1].usage_metadata.total_token_count == 10


def test_an_error_reply() -> None:
    """An error reply is the client's error of its status, with name and words, whole and streamed."""
    fault = {"error": {"code": 404, "message": "No such model.", "status": "NOT_FOUND"}}
    with talking(Fault.of_status(404, json.encode(fault))) as (client, _):
        with pytest.raises(genai.errors.ClientError) as whole:
            client.models.generate_content(model="m", contents="Hello")
        with pytest.raises(genai.errors.ClientError) as streamed:
            list(client.models.generate_content_stream(model="m", contents="Hello"))
    for error in (whole.value, streamed.value):
        assert (error.code, error.status, error.message) == (404, "NOT_FOUND", "No such model.")


def test_a_stream_with_a_fault() -> None:
    """An error after the status line reaches the client's caller as an error, after what came before."""
    with talking("One two three") as (client, upstream):
        upstream.fault = Fault.error_inside(after=1)
        frames = client.models.generate_content_stream(model="m", contents="Hello")
        assert next(frames).text == "One"
        with pytest.raises(genai.errors.APIError):
            list(frames)


def test_what_the_client_sends() -> None:
    """A rich request of the client's is read without loss, and written as the client wrote it."""

    def look(at: str) -> str:
        """Looks."""
        return at

    picture = genai.types.Part.from_bytes(data=b"\xfb\xff", mime_type="image/png")
    call_part = genai.types.Part(
        function_call=genai.types.FunctionCall(name="look", args={"at": "x"}), thought_signature=b"sig"
    )
    answer_part = genai.types.Part.from_function_response(name="look", response={"output": "A cat."})
    history = [
        genai.types.Content(role="user", parts=[genai.types.Part(text="Hi"), picture]),
        genai.types.Content(role="model", parts=[call_part]),
        genai.types.Content(role="user", parts=[answer_part]),
    ]
    calling = genai.types.FunctionCallingConfig(mode=genai.types.FunctionCallingConfigMode.ANY)
    config = genai.types.GenerateContentConfig(
        system_instruction="Be brief.",
        tools=[look, genai.types.Tool(google_search=genai.types.GoogleSearch())],
        tool_config=genai.types.ToolConfig(function_calling_config=calling),
        automatic_function_calling=genai.types.AutomaticFunctionCallingConfig(disable=True),
        temperature=0.5,
        top_k=40,
        max_output_tokens=100,
        stop_sequences=["END"],
        seed=7,
        response_mime_type="application/json",
        response_schema={"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        thinking_config=genai.types.ThinkingConfig(thinking_budget=512, include_thoughts=True),
        safety_settings=[genai.types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="OFF")],  # type: ignore[arg-type]
    )
    with talking("Hi") as (client, upstream):
        client.models.generate_content(model="gemini-x", contents=list(history), config=config)
    (seen,) = upstream.requests
    read = CODEC.decode_request(seen.body, seen.path)
    assert (read.model, read.temperature, read.top_k, read.max_tokens, read.seed) == ("gemini-x", 0.5, 40, 100, 7)
    call, result = read.messages[2].parts[0], read.messages[3].parts[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert (result.call_id, result.text) == (call.id, "A cat.")
    assert sorted(type(tool).__name__ for tool in read.tools or ()) == ["Opaque", "Tool"]
    http = CODEC.encode_request(read)
    assert (http.losses, http.path.rpartition("/")[2]) == ((), seen.path.rpartition("/")[2])
    laws.check_same(json.decode(seen.body), json.decode(http.body))


def test_an_answer_read_and_sent_back() -> None:
    """Content that the client got, sent back by it, is what the codec had written."""
    with talking(ANSWER) as (client, upstream):
        answer = client.models.generate_content(model="gemini-x", contents="Hello")
        content = (answer.candidates or [genai.types.Candidate()])[0].content
        client.models.generate_content(model="gemini-x", contents=[content])
    thought, text, call = CODEC.decode_request(upstream.requests[-1].body).messages[0].parts
    assert (thought, text) == (Reasoning("Hm."), Text("Yes."))
    assert isinstance(call, ToolCall)
    assert (call.id, call.arguments) == ("call_1", '{"x":1}')
    assert call.extra == {"gemini": {"thoughtSignature": "c2ln"}}


@pytest.mark.parametrize("model", ["ollama/llama3:8b", "models/openai/gpt-x", "accounts/f/models/x"])
def test_models_of_other_providers(model: str) -> None:
    """Whatever model the client asks for, whole, streamed or to count its tokens, its name is in the path."""
    with talking("Hi") as (client, upstream):
        assert client.models.generate_content(model=model, contents="Hello").text == "Hi"
        (frame, *_) = client.models.generate_content_stream(model=model, contents="Hello")
        assert frame.text == "Hi"
        upstream.fault = Fault.of_status(200, CODEC.encode_token_count(7).decode())
        assert client.models.count_tokens(model=model, contents="Hello").total_tokens == 7
    read = [CODEC.decode_request(seen.body, seen.path) for seen in upstream.requests]
    assert [request.model for request in read] == [model.removeprefix("models/")] * 3
    assert [request.stream for request in read] == [False, True, False]
    assert [CODEC.at(seen.path).stream_type for seen in upstream.requests[1:2]] == ["text/event-stream"]
