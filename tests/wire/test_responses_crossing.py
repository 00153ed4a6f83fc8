"""Conversations that cross between OpenAI Chat Completions, Anthropic Messages and OpenAI Responses, there and back.

What is different afterwards is what the two receipts say, and nothing else.
"""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold, unfold
from antiphon.chat.messages import File, Image, Message, Reasoning, Text, ToolCall, ToolResult
from antiphon.chat.requests import ChatRequest, ReasoningOptions, Tool
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.codec import Codec
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses
from tests.wire import laws
from tests.wire.responses_values import completions, plain
from tests.wire.test_anthropic_crossing import OPENAI_REQUEST

ANTHROPIC, CHAT, RESPONSES = Anthropic(), OpenAIChat(), Responses()


def crossed(codec: Codec, request: ChatRequest) -> tuple[ChatRequest, list[str]]:
    """Return *request* as it arrives in the format of *codec*, and what the receipt says, but for the reasons."""
    http = codec.encode_request(request)
    return plain(codec.decode_request(http.body, http.path)), [f"{loss.kind} {loss.path}" for loss in http.losses]


def test_from_chat_there_and_back() -> None:
    """A rich conversation of Chat Completions comes back changed exactly as the receipt says."""
    sent = CHAT.decode_request(json.encode(OPENAI_REQUEST))
    there, receipt = crossed(RESPONSES, sent)
    back, nothing = crossed(CHAT, there)
    assert nothing == []
    assert sorted(receipt) == [
        "dropped $.logit_bias",
        "dropped $.messages[2].name",
        "dropped $.messages[3].parts[0]",
        "dropped $.n",
        "dropped $.presence_penalty",
        "dropped $.seed",
        "dropped $.stop",
    ]
    before = plain(sent)
    user, turn = before.messages[2], before.messages[3]
    assert back == before.but(
        messages=(
            *before.messages[:2],
            Message("user", user.parts),
            Message("assistant", turn.parts[1:]),
            *before.messages[4:],
        ),
        extra=None,
        n=None,
        seed=None,
        presence_penalty=None,
        stop=None,
    )


RESPONSES_REQUEST: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA",
        },
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"at":"left"}'},
        {"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "A cat."},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "No."}]},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "And now?"},
    ],
    "tools": [
        {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False},
        {"type": "web_search"},
    ],
    "tool_choice": "required",
    "parallel_tool_calls": True,
    "max_output_tokens": 100,
    "temperature": 0.5,
    "reasoning": {"effort": "high", "summary": "auto"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    "store": False,
    "previous_response_id": "resp_1",
}


def test_from_responses_there_and_back() -> None:
    """A rich conversation of Responses comes back from Chat Completions changed exactly as the receipts say."""
    sent = RESPONSES.decode_request(json.encode(RESPONSES_REQUEST))
    there, receipt = crossed(CHAT, sent)
    back, unsigned = crossed(RESPONSES, there)
    assert sorted(receipt) == [
        "dropped $.messages[2].parts[0].signature",
        "dropped $.messages[2].parts[1]",
        "dropped $.messages[2].parts[2].message",
        "dropped $.previous_response_id",
        "dropped $.reasoning.include",
        "dropped $.store",
        "dropped $.text",
        "dropped $.tools[1]",
    ]
    assert unsigned == ["dropped $.messages[2].parts[0]"]
    before = plain(sent)
    calls = (ToolCall("call_1", "look", '{"at":"left"}'), ToolCall("call_2", "look", "{}"))
    assert back == before.but(
        messages=(
            *before.messages[:2],
            Message("assistant", (Text("Let me look."), *calls)),
            *before.messages[3:],
        ),
        tools=(Tool("look", parameters={"type": "object"}),),
        reasoning=ReasoningOptions(effort="high"),
        extra=None,
    )


def test_to_anthropic_and_back() -> None:
    """Between Responses and Anthropic the signature of reasoning is carried, since it may be on its way home."""
    sent = RESPONSES.decode_request(json.encode(RESPONSES_REQUEST))
    there, receipt = crossed(ANTHROPIC, sent)
    back, nothing = crossed(RESPONSES, there)
    assert "dropped $.messages[2].parts[0].signature" not in receipt
    assert {"dropped $.messages[2].parts[1]", "dropped $.tools[1]", "dropped $.store"} <= {*receipt}
    parts = [part for message in back.messages for part in message.parts]
    assert Reasoning("Hm.", "gAAA") in parts
    assert Image(data="AAAA", media_type="image/png") in parts
    assert File(data="JVBE", media_type="application/pdf", name="a.pdf") in parts
    assert ToolCall("call_1", "look", '{"at":"left"}') in parts
    assert ToolResult("call_2", (Text("No."),)) in parts
    assert "defaulted $.response_format.name" in nothing


@given(completions())
def test_answers_reach_a_client_of_chat(completion: Completion) -> None:
    """Text and calls of any answer are the same for a client of Chat Completions, whole and streamed."""
    calls = completion.choices[0].message.tool_calls or []
    assume(len({call.id for call in calls}) == len(calls))  # of two with one id, Chat Completions make one
    request = ChatRequest("m", (), stream=True, include_usage=True)
    events = laws.decoded(RESPONSES, request, [laws.encoded(RESPONSES, request, unfold(completion))])
    whole = fold(laws.decoded(CHAT, request, [CHAT.encode_response(fold(events))], laws.JSON))
    stream = fold(laws.decoded(CHAT, request, [laws.encoded(CHAT, request, events)]))
    for told in (whole, stream):
        message = told.choices[0].message
        assert (message.content or "") == (completion.content or "")
        assert [call.arguments for call in message.tool_calls or ()] == [call.arguments for call in calls]
        assert told.usage is not None
        assert completion.usage is not None
        assert told.usage.total_tokens == completion.usage.total_tokens
