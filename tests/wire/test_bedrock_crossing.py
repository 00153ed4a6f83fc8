"""Conversations that cross between OpenAI Chat Completions and Bedrock Converse, there and back.

What is different afterwards is what the two receipts say, and nothing else.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import fold
from antiphon.chat.messages import (
    Annotation,
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.errors import APIError, BadRequestError, InternalServerError, PermissionDeniedError, RateLimitError
from antiphon.formats import json
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec
from antiphon.formats.openai_chat import OpenAIChat
from tests.wire import laws

BEDROCK, OPENAI = Bedrock(), OpenAIChat()
CLAUDE, NOVA = "us.anthropic.claude-x-v1:0", "amazon.nova-lite-v1:0"


def crossed(codec: Codec, request: ChatRequest) -> tuple[ChatRequest, list[str]]:
    """Return *request* as it arrives in the format of *codec*, and what the receipt says, but for the reasons."""
    http = codec.encode_request(request)
    return codec.decode_request(http.body, http.path), [f"{loss.kind} {loss.path}" for loss in http.losses]


def plain(value: Any) -> Any:
    """Return *value* without the memory of how it was written."""
    if isinstance(value, msgspec.Struct):
        fields = {key: plain(getattr(value, key)) for key in value.__struct_fields__ if key != "form"}
        return type(value)(**fields)
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


OPENAI_REQUEST: dict[str, Any] = {
    "model": CLAUDE,
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "Hm.",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"left"}'}},
                {"id": "call/2", "type": "function", "function": {"name": "look", "arguments": "{brok"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "A cat."},
        {"role": "tool", "tool_call_id": "call/2", "content": "Nothing."},
        {"role": "user", "content": "And now?"},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": None, "refusal": "I will not say."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Please."},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "look",
                "description": "Looks.",
                "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
                "strict": True,
            },
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "parallel_tool_calls": False,
    "temperature": 1.3,
    "top_p": 0.9,
    "max_tokens": 100,
    "stop": ["END"],
    "n": 2,
    "seed": 7,
    "presence_penalty": 0.5,
    "logprobs": True,
    "top_logprobs": 3,
    "user": "u",
    "service_tier": "scale",
    "reasoning_effort": "minimal",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    },
    "stream": True,
    "stream_options": {"include_usage": True},
    "logit_bias": {"50256": -100},
}


def test_from_openai_there_and_back() -> None:
    """A rich conversation of OpenAI's comes back from Bedrock's format changed exactly as the receipt says."""
    sent = OPENAI.decode_request(json.encode(OPENAI_REQUEST))
    there, receipt = crossed(BEDROCK, sent)
    back, nothing = crossed(OPENAI, there)
    assert receipt == [
        "dropped $.logit_bias",
        "approximated $.messages[0].role",
        "dropped $.messages[1].name",
        "dropped $.messages[1].parts[1]",
        "approximated $.messages[1].parts[3].name",
        "dropped $.messages[2].parts[0]",
        "approximated $.messages[2].parts[3].arguments",
        "approximated $.messages[2].parts[3].id",
        "approximated $.messages[4].parts[0].call_id",
        "approximated $.messages[6]",
        "approximated $.messages[7].parts[0]",
        "approximated $.messages[8]",
        "approximated $.temperature",
        "approximated $.reasoning.effort",
        "dropped $.response_format.strict",
        "dropped $.service_tier",
        "dropped $.parallel_tool_calls",
        "dropped $.n",
        "dropped $.seed",
        "dropped $.presence_penalty",
        "dropped $.logprobs",
        "dropped $.top_logprobs",
        "dropped $.user",
    ]
    assert nothing == []
    assert [message.role for message in there.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    image, file, sound = plain(sent).messages[1].parts[2:]
    assert plain(back).messages == (
        Message("system", (Text("Be brief."), Text("Be kind."))),
        Message("user", (Text("What is this?"), image, msgspec.structs.replace(file, name="a-pdf"), sound)),
        Message(
            "assistant",
            (ToolCall("call_1", "look", '{"at":"left"}'), ToolCall("call_2", "look", '{"arguments":"{brok"}')),
        ),
        Message("tool", (ToolResult("call_1", (Text("A cat."),)),)),
        Message("tool", (ToolResult("call_2", (Text("Nothing."),)),)),
        Message("user", (Text("And now?"), Text("Well?"))),
        Message("assistant", (Text("I will not say."),)),
        Message("user", (Text("Please."),)),
    )
    nones = dict.fromkeys(("n", "seed", "presence_penalty", "logprobs", "top_logprobs", "user", "service_tier"))
    assert plain(back).but(messages=()) == plain(sent).but(
        messages=(),
        extra=None,
        temperature=1.0,
        parallel_tool_calls=None,
        reasoning=ReasoningOptions(effort="low"),
        response_format=ResponseFormat("json_schema", {"type": "object"}, "n"),
        **nones,
    )


BEDROCK_REQUEST: dict[str, Any] = {
    "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": "What is this?"},
                {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"document": {"format": "pdf", "name": "a", "source": {"bytes": "JVBE"}}},
                {"guardContent": {"text": {"text": "x"}}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
                {"reasoningContent": {"redactedContent": "AAEC"}},
                {"text": "Well."},
                {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"at": "left"}}},
                {"toolUse": {"toolUseId": "t2", "name": "look", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "t1", "content": [{"json": {"is": "cat"}}], "status": "success"}},
                {"toolResult": {"toolUseId": "t2", "content": [{"text": "No."}], "status": "error"}},
                {"text": "And now?"},
            ],
        },
    ],
    "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
    "toolConfig": {
        "tools": [
            {"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}},
            {"systemTool": {"name": "code"}},
        ],
        "toolChoice": {"any": {}},
    },
    "additionalModelRequestFields": {"top_k": 3, "thinking": {"type": "enabled", "budget_tokens": 1024}, "x": 1},
    "outputConfig": {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"name": "n", "schema": '{"type": "object"}'}},
        }
    },
    "guardrailConfig": {"guardrailIdentifier": "g"},
}


def test_from_bedrock_there_and_back() -> None:
    """A rich conversation of Bedrock's comes back from OpenAI's format changed exactly as the receipts say."""
    sent = BEDROCK.decode_request(json.encode(BEDROCK_REQUEST), f"/model/{CLAUDE}/converse-stream")
    there, receipt = crossed(OPENAI, sent)
    assert receipt == [
        "dropped $.messages[0].parts[1]",
        "dropped $.messages[1].parts[3]",
        "dropped $.messages[2].parts[1]",
        "dropped $.messages[2].parts[0].signature",
        "dropped $.messages[3].parts[1].is_error",
        "dropped $.tools[1]",
        "dropped $.additionalModelRequestFields",
        "dropped $.guardrailConfig",
        "dropped $.reasoning.budget_tokens",
    ]
    back, again = crossed(BEDROCK, there)
    assert again == ["dropped $.messages[2].parts[0]"]  # thoughts, which now have no signature
    assert [message.role for message in back.messages] == ["system", "user", "assistant", "user"]
    assert plain(back).messages[2].parts == (
        Text("Well."),
        ToolCall("t1", "look", '{"at":"left"}'),
        ToolCall("t2", "look", "{}"),
    )
    assert plain(back).messages[3].parts == (
        ToolResult("t1", (Text('{"is":"cat"}'),)),
        ToolResult("t2", (Text("No."),)),
        Text("And now?"),
    )
    assert (back.max_tokens, back.temperature, back.top_p, back.stop) == (9, 0.5, 0.9, ("END",))
    assert (back.tool_choice, back.stream) == ("required", True)
    assert plain(back).response_format == ResponseFormat("json_schema", {"type": "object"}, "n")


def sent(*parts: Part, model: str = CLAUDE, role: str = "user") -> tuple[list[Any], list[str]]:
    """Return the blocks that *parts* become, and the receipt."""
    http = BEDROCK.encode_request(ChatRequest(model, (Message(role, parts),)))
    messages = json.decode(http.body)["messages"]
    return (messages[0]["content"] if messages else []), [f"{loss.kind} {loss.path}" for loss in http.losses]


@pytest.mark.parametrize(
    ("part", "block", "receipt"),
    [
        (Image(data="AAAA"), {"image": {"format": "png", "source": {"bytes": "AAAA"}}}, ["defaulted .media_type"]),
        (
            Image(data="AAAA", media_type="image/jpg", detail="low", name="n"),
            {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
            ["dropped .detail", "dropped .name"],
        ),
        (
            File(data="AAAA", media_type="text/x-python", name="my__file (1).py"),
            {"document": {"format": "txt", "source": {"bytes": "AAAA"}, "name": "my--file (1)-py"}},
            ["approximated .media_type", "approximated .name"],
        ),
        (
            File(url="s3://b/k", media_type="application/pdf", file_id="f"),
            {"document": {"format": "pdf", "source": {"s3Location": {"uri": "s3://b/k"}}, "name": "document"}},
            ["defaulted .name", "dropped .file_id"],
        ),
        (
            File(data="AAAA", media_type="video/quicktime"),
            {"video": {"format": "mov", "source": {"bytes": "AAAA"}}},
            [],
        ),
        (File(data="AAAA", media_type="model/obj", name="a"), None, ["dropped "]),
        (File(file_id="f"), None, ["dropped "]),
        (Audio(transcript="words", id="a"), {"text": "words"}, ["approximated "]),
        (Audio(id="a"), None, ["dropped "]),
        (Text("a", (Annotation(url="u"),)), {"text": "a"}, ["dropped .annotations[0]"]),
        (Text("a", logprobs=({"token": "a"},)), {"text": "a"}, ["dropped .logprobs"]),
        (Opaque("anthropic", {"type": "x"}), None, ["dropped "]),
        (Reasoning("Hm."), None, ["dropped "]),
        (
            ToolCall("t", "f", "text", "custom"),
            {"toolUse": {"toolUseId": "t", "name": "f", "input": {"arguments": "text"}}},
            ["approximated .arguments"],
        ),
    ],
)
def test_parts(part: Part, block: Any, receipt: list[str]) -> None:
    """Each part is written as far as it can be, and the receipt says what could not."""
    blocks, losses = sent(Text("x"), part)
    assert blocks == [{"text": "x"}, *([] if block is None else [block])]
    assert losses == [line.replace(" ", " $.messages[0].parts[1]") for line in receipt]


def test_messages_with_nothing_to_say() -> None:
    """A message in which nothing is left is not sent, which the receipt says."""
    assert sent(Text("  ")) == ([], ["dropped $.messages[0]"])
    assert sent(Image(data="AAAA"), role="system")[1] == ["dropped $.messages[0].parts[0]"]
    assert sent(Text("x"), role="ghost") == ([{"text": "x"}], ["approximated $.messages[0].role"])


@pytest.mark.parametrize(
    ("model", "options", "fields", "receipt"),
    [
        (CLAUDE, {"effort": "high"}, {"outputConfig": {"effort": "high"}}, []),
        (CLAUDE, {"effort": "none"}, {"additionalModelRequestFields": {"thinking": {"type": "disabled"}}}, []),
        (CLAUDE, {"budget_tokens": -1}, {"additionalModelRequestFields": {"thinking": {"type": "adaptive"}}}, []),
        (NOVA, {"budget_tokens": 9}, {}, ["dropped $.reasoning.budget_tokens"]),
        (NOVA, {"effort": "none", "include": True}, {}, ["dropped $.reasoning.include", "dropped $.reasoning.effort"]),
        ("openai.gpt-oss-x", {"effort": "low"}, {"additionalModelRequestFields": {"reasoning_effort": "low"}}, []),
        ("qwen.qwen3-32b-v1:0", {"effort": "high"}, {"additionalModelRequestFields": {"reasoning_config": "high"}}, []),
    ],
)
def test_reasoning(model: str, options: dict[str, Any], fields: dict[str, Any], receipt: list[str]) -> None:
    """How much to think is said where the maker of the model looks for it, and is reported where there is no place."""
    http = BEDROCK.encode_request(ChatRequest(model, (Message.user("x"),), reasoning=ReasoningOptions(**options)))
    told = json.decode(http.body)
    assert {key: value for key, value in told.items() if key != "messages"} == fields
    assert [f"{loss.kind} {loss.path}" for loss in http.losses] == receipt


def test_no_tools() -> None:
    """Where no tool may be used, none is sent, unless calls in the messages demand them; the receipt says which."""
    tools, user = (Tool("f"),), Message.user("x")
    http = BEDROCK.encode_request(ChatRequest(NOVA, (user,), tools=tools, tool_choice="none"))
    assert "toolConfig" not in json.decode(http.body)
    assert [f"{loss.kind} {loss.path}" for loss in http.losses] == ["approximated $.tool_choice"]
    call = Message.assistant(ToolCall("t", "f"))
    used = (user, call, Message.tool("t", "y"))
    http = BEDROCK.encode_request(ChatRequest(NOVA, used, tools=(*tools, Opaque("anthropic", {})), tool_choice="none"))
    assert json.decode(http.body)["toolConfig"] == {
        "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]
    }
    assert [f"{loss.kind} {loss.path}" for loss in http.losses] == ["dropped $.tool_choice", "dropped $.tools[1]"]


def test_other_losses() -> None:
    """JSON without a schema, other formats' choices and `top_k` for most models have no place."""
    request = ChatRequest(
        NOVA, (Message.user("x"),), top_k=3, tool_choice=Opaque("anthropic", {}), response_format=ResponseFormat("json")
    )
    http = BEDROCK.encode_request(request)
    assert [loss.path for loss in http.losses] == ["$.tool_choice", "$.top_k", "$.response_format"]
    forced = BEDROCK.encode_request(
        ChatRequest(NOVA, (Message.user("x"),), tools=(Tool("f"),), tool_choice=ToolName("f"))
    )
    assert json.decode(forced.body)["toolConfig"]["toolChoice"] == {"tool": {"name": "f"}}


def said(block: Any) -> dict[str, Any]:
    """Return a request in which *block* is said."""
    return {"messages": [{"role": "user", "content": [block]}]}


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"messages": "x"}, "$.messages"),
        ({"messages": [{"content": []}]}, "$.messages[0].role"),
        ({"messages": [{"role": "user", "content": "x"}]}, "$.messages[0].content"),
        (said(1), "$.messages[0].content[0]"),
        (said({"text": 1}), "$.messages[0].content[0].text"),
        (said({"image": {"format": "png"}}), "$.messages[0].content[0].image.source"),
        (said({"toolUse": {"toolUseId": "t", "name": "f"}}), "$.messages[0].content[0].toolUse.input"),
        ({"system": "x"}, "$.system"),
        ({"inferenceConfig": {"maxTokens": "x"}}, "$.inferenceConfig.maxTokens"),
        ({"inferenceConfig": {"stopSequences": [1]}}, "$.inferenceConfig.stopSequences[0]"),
        ({"toolConfig": {"tools": [1]}}, "$.toolConfig.tools[0]"),
        ({"toolConfig": {"tools": [{"toolSpec": {}}]}}, "$.toolConfig.tools[0].toolSpec.name"),
        ([], "$"),
    ],
)
def test_faults_have_a_path(source: Any, path: str) -> None:
    """A request of the wrong shape is refused with the path of the fault."""
    with pytest.raises(BadRequestError) as caught:
        BEDROCK.decode_request(json.encode(source), "/model/m/converse")
    assert caught.value.param == path
    reply = BEDROCK.encode_error(caught.value)
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (400, "ValidationException")


def test_nested_too_deeply() -> None:
    """Nesting beyond what the interpreter bears is the client's fault."""
    call = b'{"messages":[{"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"f","input":%s1%s}}]}]}'
    with pytest.raises(BadRequestError):
        BEDROCK.decode_request(call % (b'{"a":' * 100_000, b"}" * 100_000))


def test_answers_cross_to_openai() -> None:
    """An answer of Bedrock's is an answer of OpenAI's with the same text, calls, reason and counts."""
    source = {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"text": "Hi."},
                    {"toolUse": {"toolUseId": "t", "name": "f", "input": {}, "type": "tool_use"}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 9, "cacheReadInputTokens": 4},
        "metrics": {"latencyMs": 5},
    }
    told = fold(laws.decoded(BEDROCK, ChatRequest("m", ()), [json.encode(source)], laws.JSON))
    written = json.decode(OPENAI.encode_response(told))
    (choice,) = written["choices"]
    assert (choice["finish_reason"], choice["message"]["content"], written["model"]) == ("tool_calls", "Hi.", "m")
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["f"]
    assert (written["usage"]["prompt_tokens"], written["usage"]["total_tokens"]) == (7, 9)


def test_answers_cross_from_elsewhere() -> None:
    """Of an answer with several choices the first is written; one that did not end well says so."""
    choices = tuple(Choice(place, Message.assistant(word), "error") for place, word in enumerate("ab"))
    source = json.decode(BEDROCK.encode_response(Completion(choices=choices, id="x")))
    assert source["output"]["message"] == {"role": "assistant", "content": [{"text": "a"}]}
    assert source["stopReason"] == "malformed_model_output"
    assert json.decode(BEDROCK.encode_response(Completion(choices=())))["stopReason"] == "end_turn"


@pytest.mark.parametrize(
    ("status", "type", "kind", "retryable"),
    [
        (400, "ValidationException", BadRequestError, False),
        (403, "AccessDeniedException", PermissionDeniedError, False),
        (408, "ModelTimeoutException", APIError, True),
        (424, "ModelErrorException", APIError, True),
        (429, "ModelNotReadyException", RateLimitError, True),
        (500, "InternalServerException", InternalServerError, True),
        (503, "ServiceUnavailableException", InternalServerError, True),
    ],
)
def test_error_classes(status: int, type: str, kind: type[APIError], retryable: bool) -> None:
    """Each of AWS's errors has its class, and is written again under its own name."""
    error = BEDROCK.decode_error(status, {"x-amzn-errortype": f"{type}:http://x/"}, b'{"Message":"Sorry."}')
    assert isinstance(error, kind)
    assert (error.type, error.status, error.retryable) == (type, status, retryable)
    assert str(error).startswith("Sorry.")
    error.retry_after = 1.5
    reply = BEDROCK.encode_error(error)
    assert (reply.status, reply.headers["x-amzn-errortype"], reply.headers["retry-after"]) == (status, type, "2")


def test_error_bodies_of_any_shape() -> None:
    """An empty body, a web page and JSON without words are errors too."""
    for body, said in ((b"", "HTTP 502"), (b"<html><title>Bad gateway</title>", "Bad gateway"), (b"[]", "HTTP 502")):
        assert said in str(BEDROCK.decode_error(502, {}, body))
    coded = BEDROCK.decode_error(400, {}, b'{"__type":"com.amazon.coral#ThrottlingException","message":"x"}')
    assert coded.type == "ThrottlingException"


def test_counts_and_models() -> None:
    """The answer to a count is a number or an error; models are asked for where a gateway may have them."""
    assert BEDROCK.decode_count(b'{"inputTokens":3}') == 3
    with pytest.raises(APIError, match="count tokens"):
        BEDROCK.decode_count(b"[]")
    assert BEDROCK.models_request().path == "/foundation-models"
    assert BEDROCK.decode_models(b'{"modelSummaries":[{"modelId":"amazon.nova"}]}') == [("amazon.nova", 0)]


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        ("/model/a.b%3A0/converse", "a.b:0", False),
        ("/gateway/model/arn%3Aaws%3Ax%2Fy/converse-stream?y=1", "arn:aws:x/y", True),
        ("/model/arn:aws:x/y/converse", "arn:aws:x/y", False),
        ("/elsewhere", "", False),
    ],
)
def test_the_path_names_the_model(path: str, model: str, stream: bool) -> None:
    """Model and stream are read from the path, quoted or not, behind any prefix."""
    request = BEDROCK.decode_request(b'{"messages":[]}', path)
    assert (request.model, request.stream) == (model, stream)
