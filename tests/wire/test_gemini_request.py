"""Requests of Gemini's: what their fields mean, what of others cannot be said, and every fault by its path."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.chat.messages import Audio, File, Image, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.errors import APIError, BadRequestError
from antiphon.formats import json
from antiphon.formats.gemini import Gemini
from tests.wire import laws

CODEC = Gemini()


def read(**fields: Any) -> ChatRequest:
    """Return a request as it is read, which must be written as it was."""
    source = {"contents": [], **fields}
    laws.check_request_json(CODEC, source)
    return CODEC.decode_request(json.encode(source))


def written(request: ChatRequest) -> tuple[dict[str, Any], list[str]]:
    """Return the body of a request and its receipt, but for the reasons."""
    http = CODEC.encode_request(request)
    return json.decode(http.body), [f"{loss.kind} {loss.path}" for loss in http.losses]


def asked(*parts: Part, role: str = "user", model: str = "gemini-2.5-pro") -> tuple[list[Any], list[str]]:
    """Return the parts of a request of one message and its receipt."""
    source, receipt = written(ChatRequest(model, (Message(role, parts),)))
    return [part for content in source["contents"] for part in content["parts"]], receipt


def test_paths() -> None:
    """The model and whether to stream are in the path, which reads back; names of the API's own are shortened."""
    request = ChatRequest("models/gemini-2.5-pro", (), stream=True)
    path = CODEC.encode_request(request).path
    assert path == "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    again = CODEC.decode_request(b'{"contents": []}', path)
    assert (again.model, again.stream, again.include_usage) == ("gemini-2.5-pro", True, True)
    assert CODEC.decode_request(b'{"contents": []}').model == ""
    vertex = Gemini(path="/v1/projects/p/locations/global/publishers/google/models", vertex=True)
    path = vertex.encode_request(request.but(stream=False)).path
    assert path == "/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-pro:generateContent"
    assert CODEC.decode_request(b'{"contents": []}', path).model == "gemini-2.5-pro"


def test_counting() -> None:
    """Tokens are counted of the whole request, of which Vertex AI takes less; an answer without a count is an error."""
    request = ChatRequest("g", (Message.system("s"), Message.user("hi")), extra={"gemini": {"labels": {"a": "b"}}})
    http = CODEC.encode_count(request)
    body = json.decode(http.body)["generateContentRequest"]
    assert (http.path, body["model"], sorted(body)) == (
        "/v1beta/models/g:countTokens", "models/g", ["contents", "labels", "model", "systemInstruction"]
    )  # fmt: skip
    assert sorted(json.decode(Gemini(vertex=True).encode_count(request).body)) == ["contents", "systemInstruction"]
    assert CODEC.decode_count(b'{"totalTokens": 7}') == 7
    with pytest.raises(APIError, match="count tokens"):
        CODEC.decode_count(b"[]")


def test_either_case() -> None:
    """Names in snake case mean the same, at every level, and are given back so."""
    config = {"max_output_tokens": 5, "stop_sequences": ["x"], "thinking_config": {"thinking_level": "LOW"}}
    request = read(generation_config=config, tools=[{"function_declarations": [{"name": "f"}]}])
    assert (request.max_tokens, request.stop, request.tools) == (5, ("x",), (Tool("f"),))
    assert request.reasoning == ReasoningOptions(effort="low")


def test_changes_are_sent() -> None:
    """What was changed after it was read goes out changed, however it had been written."""
    parts = [{"function_call": {"name": "f", "args": {}}}]
    request = read(contents=[{"parts": parts, "role": "model"}], generation_config={"top_k": 3})
    changed = request.but(top_k=4, messages=(Message("assistant", (ToolCall("i", "g"),)),))
    source, _ = written(changed)
    assert source["generationConfig"]["topK"] == 4
    assert source["contents"][0]["parts"] == [{"functionCall": {"id": "i", "name": "g", "args": {}}}]


@pytest.mark.parametrize(
    ("dialect", "meant"),
    [
        (
            {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
        ),
        (
            {"anyOf": [{"type": "STRING"}, {"type": "NULL"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        (
            {"type": "STRING", "enum": ["a", "b"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", "b", None]},
        ),
        ({"type": "STRING", "enum": ["a"], "nullable": False}, {"type": "string", "enum": ["a"]}),
        ({"nullable": True}, {}),
    ],
)
def test_schemas_that_take_null(dialect: dict[str, Any], meant: dict[str, Any]) -> None:
    """`nullable` is a null among types, alternatives and values; what came is given back as it was."""
    tools = [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": dialect}}}]}]
    request = read(tools=tools)
    assert request.tools is not None
    (tool,) = request.tools
    assert isinstance(tool, Tool)
    assert tool.parameters == {"type": "object", "properties": {"a": meant}}
    assert written(request)[0]["tools"] == tools


def test_empty_instructions_are_not_sent() -> None:
    """Instructions in which there is nothing to be said are left out, unless a client of this format sent them."""
    source, losses = written(ChatRequest("gemini-x", (Message.system(""), Message.user("Hi."))))
    assert ("systemInstruction" in source, losses) == (False, [])
    empty: list[Any] = [{"parts": []}, {"parts": [{"text": ""}]}, {}, {"role": "user", "parts": []}]
    for instruction in empty:
        assert written(read(systemInstruction=instruction))[0]["systemInstruction"] == instruction


def test_schemas() -> None:
    """A schema in Google's dialect is read as the JSON schema it means; a JSON schema is written as one."""
    dialect = {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING", "nullable": True}, "b": {"any_of": [{"type": "INTEGER"}]}},
        "property_ordering": ["a"],
    }
    meant = {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"]}, "b": {"anyOf": [{"type": "integer"}]}},
    }
    request = read(
        tools=[{"functionDeclarations": [{"name": "f", "parameters": dialect}]}],
        generationConfig={"responseMimeType": "application/json", "responseSchema": dialect},
    )
    assert request.tools == (Tool("f", parameters=meant, form=request.tools[0].form if request.tools else None),)
    assert request.response_format == ResponseFormat("json_schema", meant)
    source, _ = written(
        ChatRequest("g", (), tools=(Tool("f", parameters=meant),), response_format=request.response_format)
    )
    assert source["tools"] == [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": meant}]}]
    assert source["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": meant}


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({"mode": "AUTO"}, "auto"),
        ({"mode": "ANY"}, "required"),
        ({"mode": "NONE"}, "none"),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, ToolName("f")),
        ({"mode": "VALIDATED"}, Opaque("gemini", {"mode": "VALIDATED"})),
        ({"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
         Opaque("gemini", {"mode": "ANY", "allowedFunctionNames": ["f", "g"]})),
    ],
)  # fmt: skip
def test_tool_choices(config: dict[str, Any], choice: Any) -> None:
    """Modes are tool choices; those that nobody else has are this format's alone."""
    assert read(toolConfig={"functionCallingConfig": config}).tool_choice == choice


@pytest.mark.parametrize(
    ("model", "options", "config", "receipt"),
    [
        ("gemini-3-pro", ReasoningOptions(effort="high"), {"thinkingLevel": "HIGH"}, []),
        ("gemini-3-pro", ReasoningOptions(effort="max"), {"thinkingLevel": "XHIGH"}, ["approximated"]),
        ("gemini-2.5-pro", ReasoningOptions(effort="low"), {"thinkingBudget": 1024}, ["approximated"]),
        ("gemini-2.5-pro", ReasoningOptions(effort="none"), {"thinkingBudget": 0}, []),
        ("gemini-3-pro", ReasoningOptions(effort="high", budget_tokens=-1), {"thinkingLevel": "HIGH"}, []),
        ("g", ReasoningOptions(effort="high", budget_tokens=9), {"thinkingBudget": 9}, ["dropped"]),
        ("g", ReasoningOptions(budget_tokens=-1, include=True), {"thinkingBudget": -1, "includeThoughts": True}, []),
    ],
)  # fmt: skip
def test_reasoning(model: str, options: ReasoningOptions, config: dict[str, Any], receipt: list[str]) -> None:
    """An effort is a level, or a budget for models that know only those; a budget goes before an effort."""
    source, losses = written(ChatRequest(model, (), reasoning=options))
    assert source["generationConfig"]["thinkingConfig"] == config
    assert losses == [f"{kind} $.reasoning.effort" for kind in receipt]


def test_results() -> None:
    """Results name the tool of their call; texts and errors stand in an object, objects are one, media beside it."""
    call = Message("assistant", (ToolCall("i", "f"), ToolCall("j", "g")))
    results = (
        Message("tool", (ToolResult("i", (Text("No."),), is_error=True),)),
        Message("tool", (ToolResult("j", (Text('{"a":1}'), Image(data="AAAA", media_type="image/png"))),)),
        Message("tool", (ToolResult("k", (Text("x"), Text("y"))),)),
    )
    source, receipt = written(ChatRequest("g", (call, *results)))
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    assert [part["functionResponse"] for part in source["contents"][1]["parts"]] == [
        {"id": "i", "name": "f", "response": {"error": "No."}},
        {"id": "j", "name": "g", "response": {"a": 1}, "parts": [picture]},
        {"id": "k", "name": "k", "response": {"output": "xy"}},
    ]  # fmt: skip
    assert receipt == ["defaulted $.messages[3].parts[0].name", "approximated $.messages[3].parts[0].content"]


def test_results_without_ids() -> None:
    """Responses without an id belong to the calls of their name, in order."""
    calls = [{"functionCall": {"name": name}} for name in ("f", "g", "f")]
    responses: list[Any] = [{"functionResponse": {"name": name, "response": {}}} for name in ("g", "f", "f", "f")]
    request = read(contents=[{"role": "model", "parts": calls}, {"role": "function", "parts": responses}])
    ids = [call.id for call in request.messages[0].tool_calls or ()]
    results = [part.call_id for part in request.messages[1].parts if isinstance(part, ToolResult)]
    assert results[:3] == [ids[1], ids[0], ids[2]]
    assert results[3] not in ids


def test_signatures() -> None:
    """A call of another's gets a stand-in where the model demands a signature, and only the first of a turn does."""
    calls = (ToolCall("i", "f"), ToolCall("j", "f"))
    parts, receipt = asked(*calls, role="assistant", model="gemini-3.5-flash")
    assert ["thoughtSignature" in part for part in parts] == [True, False]
    assert receipt == ["defaulted $.messages[0].parts[0].thoughtSignature"]
    own = ToolCall("j", "f", extra={"gemini": {"thoughtSignature": "c2ln"}})
    for model, given in (("gemini-3.5-flash", (calls[0], own)), ("gemini-2.5-pro", calls)):
        assert asked(*given, role="assistant", model=model)[1] == []
    assert asked(Reasoning("Hm.", "of another"), role="assistant") == (
        [{"text": "Hm.", "thought": True}], ["dropped $.messages[0].parts[0].signature"]
    )  # fmt: skip


def test_media() -> None:
    """Media have a type, told by their name where they do not tell it; what has no place is on the receipt."""
    assert asked(
        Image(url="https://x.org/a.webp"),
        Image(data="AAAA"),
        Audio(data="AAAA", media_type="audio/ogg", transcript="Hi."),
        Audio(id="a", transcript="Hi."),
        File(file_id="files/a", media_type="video/mp4"),
        File(url="https://x.org/a", name="a"),
        File(),
        Opaque("anthropic", {}),
    ) == (
        [
            {"fileData": {"mimeType": "image/webp", "fileUri": "https://x.org/a.webp"}},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
            {"inlineData": {"mimeType": "audio/ogg", "data": "AAAA"}},
            {"text": "Hi."},
            {"fileData": {"mimeType": "video/mp4", "fileUri": "files/a"}},
            {"fileData": {"fileUri": "https://x.org/a"}},
        ],
        [
            "defaulted $.messages[0].parts[0].media_type",
            "defaulted $.messages[0].parts[1].media_type",
            "dropped $.messages[0].parts[2].transcript",
            "approximated $.messages[0].parts[3]",
            "dropped $.messages[0].parts[5].name",
            "dropped $.messages[0].parts[6]",
            "dropped $.messages[0].parts[7]",
        ],
    )


def test_losses_beside_the_messages() -> None:
    """Roles, tools, choices and tiers of others, and messages of nothing, are on the receipt."""
    request = ChatRequest(
        "g",
        (
            Message("critic", (Text("x"),)),
            Message("user", (Text(""),)),
            Message("assistant", (ToolCall("i", "f", "{"),)),
        ),
        tools=(Opaque("anthropic", {}), Tool("f", strict=True)),
        tool_choice=Opaque("anthropic", {}),
        service_tier="scale",
        user="u",
    )
    source, receipt = written(request)
    assert receipt == [
        "approximated $.messages[0].role",
        "dropped $.messages[1]",
        "approximated $.messages[2].parts[0].arguments",
        "dropped $.tools[0]",
        "dropped $.tools[1].strict",
        "dropped $.tool_choice",
        "dropped $.service_tier",
        "dropped $.user",
    ]
    assert source["tools"] == [{"functionDeclarations": [{"name": "f"}]}]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"contents": None}, "$.contents"),
        ({"contents": ["x"]}, "$.contents[0]"),
        ({"contents": [{"role": "system"}]}, "$.contents[0].role"),
        ({"contents": [{"parts": {}}]}, "$.contents[0].parts"),
        ({"contents": [{"parts": ["x"]}]}, "$.contents[0].parts[0]"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "$.contents[0].parts[0].text"),
        ({"contents": [{"parts": [{"functionCall": 1}]}]}, "$.contents[0].parts[0].functionCall"),
        ({"contents": [{"parts": [{"functionCall": {"args": {}}}]}]}, "$.contents[0].parts[0].functionCall.name"),
        ({"contents": [{"parts": [{"inlineData": {}}]}]}, "$.contents[0].parts[0].inlineData.data"),
        ({"systemInstruction": "x"}, "$.systemInstruction"),
        ({"tools": [1]}, "$.tools[0]"),
        ({"tools": [{"functionDeclarations": [1]}]}, "$.tools[0].functionDeclarations[0]"),
        ({"generationConfig": {"topK": 0.5}}, "$.generationConfig.topK"),
        ({"generationConfig": {"stopSequences": [1]}}, "$.generationConfig.stopSequences[0]"),
        ({"generationConfig": {"thinkingConfig": 1}}, "$.generationConfig.thinkingConfig"),
        ({"toolConfig": {"functionCallingConfig": 1}}, "$.toolConfig.functionCallingConfig"),
    ],
)
def test_faults(fields: dict[str, Any], path: str) -> None:
    """A value of the wrong type is refused with its path."""
    with pytest.raises(BadRequestError) as caught:
        CODEC.decode_request(json.encode({"contents": [], **fields}))
    assert (caught.value.param, caught.value.status) == (path, 400)
