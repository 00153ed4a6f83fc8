"""The recorded exchanges of each format: which they are, and where its own fields are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import unquote

from pydantic import TypeAdapter

from antiphon.chat.answers import Completion
from antiphon.chat.events import fold
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIStatusError, BadRequestError
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import HTTPRequest
from antiphon.formats.cohere import Cohere
from antiphon.formats.framing import eventstream
from antiphon.formats.gemini import Gemini
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses
from tests.recordings import Exchange
from tests.vendors import anthropic, genai
from tests.wire import laws, responses_values
from tests.wire.recorded import Recorded, is_stream, path_of


class OfAnthropic(Recorded):
    """Messages, at api.anthropic.com."""

    codec = Anthropic()
    pattern = "api.anthropic.com/*.json"
    counted = "input_tokens"
    MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"

    def requests(self) -> list[Exchange]:
        """Those with a body that is this format's."""
        return [exchange for exchange in self.exchanges if exchange.request is not None]

    def answers(self, *, stream: bool) -> list[Exchange]:
        """Those that went well."""
        found = [e for e in self.exchanges if path_of(e) == self.MESSAGES and e.status == 200]
        return [exchange for exchange in found if is_stream(exchange) is stream]

    def counts(self) -> list[Exchange]:
        """By their path."""
        return [exchange for exchange in self.exchanges if path_of(exchange) == self.COUNT]

    def as_sent(self, source: Any) -> list[Any]:
        """Its message."""
        return [{"role": "assistant", "content": source["content"]}]

    def next_request(self, message: Message) -> ChatRequest:
        """As this format needs it."""
        return ChatRequest("claude", (message,), max_tokens=1)

    def billed(self, exchange: Exchange) -> Any:
        """Of a stream, what the last frame says of each count."""
        if not is_stream(exchange):
            return json.decode(exchange.content)["usage"]
        told: dict[str, Any] = {}
        for frame in laws.frames(exchange.content):
            told |= frame.get("usage") or (frame.get("message") or {}).get("usage") or {}
        return told

    def usage(self, billed: Any) -> dict[str, Any]:
        """By its own names."""
        inputs = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        return {
            "prompt_tokens": sum(billed.get(key) or 0 for key in inputs),
            "completion_tokens": billed["output_tokens"],
            "output_reasoning": (billed.get("output_tokens_details") or {}).get("thinking_tokens"),
        }

    def error_of(self, source: Any) -> dict[str, Any]:
        """Its own fields."""
        error = source["error"]
        return {"message": error["message"], "type": error["type"], "request_id": source["request_id"]}

    def client_types(self) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
        """Those of its types."""
        beta = anthropic.types.beta
        frame = beta.beta_raw_message_stream_event.BetaRawMessageStreamEvent
        return TypeAdapter(beta.BetaMessage), TypeAdapter(frame)


class OfBedrock(Recorded):
    """Converse, at Bedrock's hosts."""

    codec = Bedrock()
    pattern = "bedrock-runtime.*/*.json"
    counted = "inputTokens"
    error_headers: ClassVar[Mapping[str, str]] = {"x-amzn-requestid": "r"}

    NOT_CONVERSE: ClassVar[dict[str, str]] = {"invoke": "The body is that of the model's maker, embeddings mostly."}
    """Operations that are recorded and not this format's, with the reason."""

    OTHER_BODIES: ClassVar[dict[str, str]] = {
        "test_anthropic_bedrock_count_tokens": "Tokens of an `invoke` body are counted."
    }
    """Beginnings of names of recorded requests that are not this format's, with the reason."""

    @staticmethod
    def verb(exchange: Exchange) -> str:
        """Return the operation, which the path ends with."""
        return path_of(exchange).rpartition("/")[2]

    def of(self, *verbs: str, status: int = 200) -> list[Exchange]:
        """Return the exchanges of some operations that ended with *status*, but for other bodies."""
        found = [e for e in self.exchanges if self.verb(e) in verbs and e.status == status]
        return [e for e in found if not e.name.partition("/")[2].startswith(tuple(self.OTHER_BODIES))]

    def requests(self) -> list[Exchange]:
        """Those with a body that is this format's."""
        return [e for status in (200, 400) for e in self.of("converse", "converse-stream", status=status)]

    def answers(self, *, stream: bool) -> list[Exchange]:
        """Those that went well."""
        return self.of("converse-stream" if stream else "converse")

    def counts(self) -> list[Exchange]:
        """By their path."""
        return self.of("count-tokens")

    def request_of(self, exchange: Exchange) -> ChatRequest:
        """Its model is in the path."""
        return self.codec.decode_request(json.encode(exchange.request), path_of(exchange))

    def check_path(self, exchange: Exchange, written: HTTPRequest) -> None:
        """The model is in the path as it was recorded."""
        assert unquote(path_of(exchange)) == unquote(written.path)
        assert ":" not in written.path

    @staticmethod
    def split(body: bytes) -> list[tuple[Any, Any]]:
        """Return the headers and the JSON of each frame."""
        decoder = eventstream.EventStreamDecoder()
        found = [(headers, json.decode(payload)) for headers, payload in decoder.feed(body)]
        decoder.close()
        return found

    def check_stream(self, exchange: Exchange) -> None:
        """Headers and padding are the same too."""
        events = laws.decoded(self.codec, self.request_of(exchange), [exchange.content])
        written = laws.encoded(self.codec, self.request_of(exchange), events)
        for (headers, one), (again, other) in zip(self.split(exchange.content), self.split(written), strict=True):
            assert headers == again
            laws.check_same(one, other)
        laws.check_folding(fold(events))

    def kept(self, completion: Completion) -> list[Any]:
        """How a message was written is another thing in a stream."""
        choices = [(c.message.parts, c.finish_reason, c.native_finish_reason, c.extra) for c in completion.choices]
        return [completion.model, choices, completion.extra]

    def as_sent(self, source: Any) -> list[Any]:
        """The type of plain calls is not sent."""
        message = source["output"]["message"]
        for block in message["content"]:
            if block.get("toolUse", {}).get("type") == "tool_use":
                del block["toolUse"]["type"]
        return [message]

    def billed(self, exchange: Exchange) -> Any:
        """What the answer says."""
        if self.verb(exchange) == "converse":
            return json.decode(exchange.content)["usage"]
        return next(frame["usage"] for _, frame in self.split(exchange.content) if "usage" in frame)

    def usage(self, billed: Any) -> dict[str, Any]:
        """By its own names."""
        return {
            "total_tokens": billed["totalTokens"],
            "completion_tokens": billed["outputTokens"],
            "input_cache_read": billed.get("cacheReadInputTokens"),
        }

    def error_of(self, source: Any) -> dict[str, Any]:
        """Its own fields."""
        return {"message": source["message"]}


class OfCohere(Recorded):
    """Chats, at api.cohere.com; none is streamed, none failed."""

    codec = Cohere()
    pattern = "api.cohere.com/*.json"

    def requests(self) -> list[Exchange]:
        """Those with a body that is this format's."""
        return [exchange for exchange in self.exchanges if exchange.url.endswith(self.codec.path)]

    def answers(self, *, stream: bool) -> list[Exchange]:
        """Those that went well."""
        return [] if stream else self.requests()

    def kept(self, completion: Completion) -> list[Any]:
        """All that has a place."""
        assert completion.usage is not None
        return [completion.choices[0].message.parts, completion.id, completion.usage.total_tokens]

    def as_sent(self, source: Any) -> list[Any]:
        """A lone text is sent as a string, and a citation names the block that it belongs to."""
        message = source["message"]
        if [block["type"] for block in message.get("content", ())] == ["text"]:
            message["content"] = message["content"][0]["text"]
        return [message]

    def without_added(self, messages: Any) -> Any:
        """Which block a citation belongs to."""
        for citation in messages[0].get("citations", ()):
            del citation["content_index"]
        return messages

    def next_request(self, message: Message) -> ChatRequest:
        """As this format needs it."""
        return ChatRequest("m", (Message("assistant", message.parts),))

    def billed(self, exchange: Exchange) -> Any:
        """What the answer says."""
        return json.decode(exchange.content)["usage"]["billed_units"]

    def usage(self, billed: Any) -> dict[str, Any]:
        """By its own names."""
        return {"prompt_tokens": billed["input_tokens"], "completion_tokens": billed["output_tokens"]}


class OfGemini(Recorded):
    """Chats, at Google's two hosts."""

    codec = Gemini()
    pattern = "*.googleapis.com/*.json"
    messages = "contents"
    may_lose = True  # annotations; a message without parts
    counted = "totalTokens"

    WHOLE, STREAM, COUNT = "generateContent", "streamGenerateContent", "countTokens"
    OTHERS: ClassVar[set[str]] = {"embedContent", "batchEmbedContents", ""}
    """What is recorded besides chats: embeddings; caches and stores of files, whose paths name no action."""

    @staticmethod
    def action(exchange: Exchange) -> str:
        """Return what is asked of a model."""
        return path_of(exchange).rpartition("/")[2].partition(":")[2]

    def requests(self) -> list[Exchange]:
        """Those with a body that is this format's."""
        return [e for e in self.exchanges if self.action(e) in (self.WHOLE, self.STREAM, self.COUNT)]

    def answers(self, *, stream: bool) -> list[Exchange]:
        """Those that went well."""
        action = self.STREAM if stream else self.WHOLE
        return [exchange for exchange in self.exchanges if self.action(exchange) == action and exchange.status == 200]

    def counts(self) -> list[Exchange]:
        """By their path."""
        return [exchange for exchange in self.exchanges if self.action(exchange) == self.COUNT]

    def request_of(self, exchange: Exchange) -> ChatRequest:
        """Its model is in the path."""
        return self.codec.decode_request(json.encode(exchange.request), exchange.url)

    def path_to_read_again(self, exchange: Exchange, written: HTTPRequest) -> str:
        """What is recorded has paths before the model that this codec does not write, and counts of tokens."""
        return exchange.url

    def check_path(self, exchange: Exchange, written: HTTPRequest) -> None:
        """The model and the action are in the path as they were recorded."""
        laws.check_request_json(self.codec, exchange.request)  # without a path too
        if self.action(exchange) != self.COUNT:
            base = path_of(exchange).partition("/models/")[0]
            path = Gemini(path=f"{base}/models").encode_request(self.request_of(exchange)).path
            assert exchange.url.endswith(path)

    def check_count(self, exchange: Exchange) -> None:
        """The body is looked at with those of other requests; only here is its answer read."""

    def check_stream(self, exchange: Exchange) -> None:
        """An array of the frames says the same."""
        super().check_stream(exchange)
        request, body = self.request_of(exchange), exchange.content
        array = json.encode(laws.frames(body))
        assert laws.decoded(self.codec, request, [array], laws.JSON) == laws.decoded(self.codec, request, [body])

    def kept(self, completion: Completion) -> list[Any]:
        """All that has a place."""
        choice = completion.choices[0]
        said = [choice.finish_reason, choice.native_finish_reason, choice.message.content or ""]
        return [
            *(completion.id, completion.model, completion.extra, completion.created),
            *(*said, choice.message.tool_calls),
        ]

    def as_sent(self, source: Any) -> list[Any]:
        """Its message."""
        content = source["candidates"][0].get("content")
        return [content] if content else []

    def billed(self, exchange: Exchange) -> Any:
        """Of a stream, its last frame's."""
        whole = self.action(exchange) == self.WHOLE
        source = json.decode(exchange.content) if whole else laws.frames(exchange.content)[-1]
        return source["usageMetadata"]

    def usage(self, billed: Any) -> dict[str, Any]:
        """By its own names."""
        return {
            "total_tokens": billed["totalTokenCount"],
            "output_reasoning": billed.get("thoughtsTokenCount"),
            "input_cache_read": billed.get("cachedContentTokenCount"),
        }

    def error_of(self, source: Any) -> dict[str, Any]:
        """Its own fields."""
        return {"message": source["error"]["message"], "type": source["error"]["status"]}

    def client_types(self) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
        """Those of its types."""
        either: TypeAdapter[Any] = TypeAdapter(genai.types.GenerateContentResponse)
        return either, either


class OfOpenAI(Recorded):
    """Chat Completions, of sixteen hosts."""

    codec = OpenAIChat()

    ERRORS_INSIDE: ClassVar[dict[str, str]] = {
        "api.groq.com/test_tool_use_failed_error_streaming.0.json": "Tool call validation failed",
    }
    """Streams that end with an error event inside the 200, by the words of the error: there is no answer to fold."""

    def takes(self, exchange: Exchange) -> bool:
        """By its path."""
        return "chat/completions" in exchange.url

    def requests(self) -> list[Exchange]:
        """Those with a body that is this format's."""
        return self.exchanges

    def answers(self, *, stream: bool) -> list[Exchange]:
        """Those that went well."""
        found = [e for e in self.exchanges if e.status == 200 and e.name not in self.ERRORS_INSIDE]
        return [exchange for exchange in found if is_stream(exchange) is stream]

    def failed(self) -> list[Exchange]:
        """Every one of them."""
        return [exchange for exchange in self.exchanges if exchange.status >= 400]

    def billed(self, exchange: Exchange) -> Any:
        """Of a stream the last that any frame has, be it under `x_groq`."""
        found = laws.frames(exchange.content) if is_stream(exchange) else [json.decode(exchange.content)]
        told = [frame.get("usage") or (frame.get("x_groq") or {}).get("usage") for frame in found]
        return next(filter(None, reversed(told)), None)

    def usage(self, billed: Any) -> dict[str, Any]:
        """By its own names."""
        return {
            "prompt_tokens": billed["prompt_tokens"],
            "total_tokens": billed["total_tokens"],
            "output_reasoning": (billed.get("completion_tokens_details") or {}).get("reasoning_tokens"),
            "cost": billed.get("cost"),
        }


class OfResponses(Recorded):
    """Responses, at five hosts."""

    codec = Responses()
    messages = "input"
    may_lose = True  # a message without parts
    errors: ClassVar[Mapping[int, type[APIStatusError]]] = {400: BadRequestError}

    REQUEST = ChatRequest("m", (), stream=True)
    BESIDE = ("/v1/responses/compact", "/v1/responses/input_tokens")
    """Paths of other things than answers: compacted conversations and counts of tokens."""

    def takes(self, exchange: Exchange) -> bool:
        """By its path."""
        return "/responses" in path_of(exchange)

    def requests(self) -> list[Exchange]:
        """Those with a body that is this format's."""
        return [e for e in self.exchanges if path_of(e) not in self.BESIDE and e.request is not None]

    def answers(self, *, stream: bool) -> list[Exchange]:
        """One that was fetched later, which has no request, is among them."""
        found = [e for e in self.exchanges if path_of(e) not in self.BESIDE and e.status == 200]
        return [exchange for exchange in found if is_stream(exchange) is stream]

    def answered(self, exchange: Exchange) -> ChatRequest:
        """The same for all."""
        return self.REQUEST

    def last_of(self, exchange: Exchange) -> Any:
        """Return the object of the recorded answer; of a stream, that of its last frame."""
        return laws.frames(exchange.content)[-1]["response"] if is_stream(exchange) else json.decode(exchange.content)

    def forgetful(self, completion: Completion) -> Completion:
        """Its `form` is that memory."""
        return responses_values.plain(completion)

    def as_sent(self, source: Any) -> list[Any]:
        """Its message."""
        return source["output"]

    def billed(self, exchange: Exchange) -> Any:
        """What the answer says."""
        return self.last_of(exchange)["usage"]

    def usage(self, billed: Any) -> dict[str, Any]:
        """By its own names."""
        return {
            "prompt_tokens": billed["input_tokens"],
            "completion_tokens": billed["output_tokens"],
            "total_tokens": billed["total_tokens"],
            "input_cache_read": billed["input_tokens_details"]["cached_tokens"],
            "input_cache_write": billed["input_tokens_details"].get("cache_write_tokens"),
            "output_reasoning": billed["output_tokens_details"]["reasoning_tokens"],
            "cost": billed.get("cost"),
        }

    def error_of(self, source: Any) -> dict[str, Any]:
        """Its own fields."""
        return {key: source["error"][key] for key in ("message", "code", "param")}


FORMATS: Mapping[str, type[Recorded]] = {
    "anthropic": OfAnthropic,
    "bedrock": OfBedrock,
    "cohere": OfCohere,
    "gemini": OfGemini,
    "openai": OfOpenAI,
    "responses": OfResponses,
}
