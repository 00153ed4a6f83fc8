"""The error tree."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from antiphon import errors
from antiphon.chat.answers import Completion
from antiphon.chat.requests import ChatRequest
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec
from antiphon.formats.cohere import Cohere
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.responses import Responses
from tests.vendors import openai

CLASSES = [cls for name in errors.__all__ if isinstance(cls := getattr(errors, name), type)]
API_CLASSES = [cls for cls in CLASSES if issubclass(cls, errors.APIError)]
FIELDS: dict[str, Any] = {
    "provider": "p",
    "model": "m",
    "status": 499,
    "code": "c",
    "type": "t",
    "param": "$.x",
    "body": {"error": [1]},
    "request_id": "r",
    "retryable": True,
    "retry_after": 1.5,
}


def anthropic(type: str, message: str) -> dict[str, Any]:
    """Return an error as Anthropic writes it."""
    return {"type": "error", "error": {"type": type, "message": message}}


def google(status: str, message: str, *, reason: str | None = None) -> dict[str, Any]:
    """Return an error as Google writes it."""
    return {"error": {"message": message, "status": status, "details": [{"reason": reason}] if reason else []}}


def aws(type: str, message: str) -> dict[str, Any]:
    """Return an error as AWS writes it, with its type in the body."""
    return {"__type": type, "message": message}


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def lines_of_the_tree() -> dict[str, str]:
    """Return the class that stands above each class in the drawing, by the place where its name begins."""
    above: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name = next((word for word in line.split() if word.endswith("Error") and word.isidentifier()), None)
        if name is None or not (line.startswith("    ") and ("──" in line or name == "AntiphonError")):
            continue
        place = line.index(name)
        path = [entry for entry in path if entry[0] < place]
        above[name] = path[-1][1] if path else "Exception"
        path.append((place, name))
    return above


def test_the_drawing_is_true() -> None:
    """The tree in the docstring has every class, each below its base."""
    assert lines_of_the_tree() == {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.NestAsyncioError, RuntimeError),
        (errors.ProviderNotFoundError, LookupError),
        (errors.ModelNotFoundError, LookupError),
        (errors.MissingExtraError, ImportError),
        (errors.APITimeoutError, TimeoutError),
    ],
)
def test_builtin_bases(cls: type[errors.AntiphonError], builtin: type[Exception]) -> None:
    """What Python has a class for can be caught by it too."""
    assert issubclass(cls, builtin)


def test_names_of_the_openai_client() -> None:
    """Where the OpenAI client has an error of that name, it has the same base here."""
    shared = {cls: getattr(openai, cls.__name__) for cls in CLASSES if hasattr(openai, cls.__name__)}
    assert len(shared) == 12
    for own, theirs in shared.items():
        for base, their_base in shared.items():
            assert issubclass(own, base) is issubclass(theirs, their_base), (own, base)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.APIStatusError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (413, errors.APIStatusError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (499, errors.APIStatusError),
        (500, errors.InternalServerError),
        (529, errors.InternalServerError),
        (600, errors.InternalServerError),
    ],
)
def test_error_class(status: int, expected: type[errors.APIStatusError]) -> None:
    """Each status has its class."""
    assert expected is errors.error_class(status)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_message(cls: type[errors.AntiphonError]) -> None:
    """The message is what `str()` gives; provider and model are known or `None`."""
    error = cls("Words.", provider="p")
    assert (str(error), error.message, error.args) == ("Words.", "Words.", ("Words.",))
    assert (error.provider, error.model) == ("p", None)


@pytest.mark.parametrize("cls", API_CLASSES, ids=lambda cls: cls.__name__)
def test_fields(cls: type[errors.APIError]) -> None:
    """Every field that is given is on the error; what is not given is `None`."""
    error = cls("Words.", **FIELDS)
    assert FIELDS == {name: getattr(error, name) for name in FIELDS}
    assert error.status_code == error.status == 499
    bare = cls("Words.")
    assert {None} == {getattr(bare, name) for name in FIELDS if name != "retryable"}


def test_retryable() -> None:
    """Connections, conflicts, limits and failures of the provider may pass; all else stays until told otherwise."""
    assert {cls.__name__ for cls in API_CLASSES if cls("").retryable} == {
        "APIConnectionError",
        "APITimeoutError",
        "ConflictError",
        "InternalServerError",
        "RateLimitError",
    }
    assert not errors.RateLimitError("", retryable=False).retryable
    assert errors.BadRequestError("", retryable=True).retryable


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_copies(cls: type[errors.AntiphonError], way: str) -> None:
    """An error that is pickled or copied keeps its class, its message and every attribute, those added later too."""
    error = cls("Words.", **(FIELDS if issubclass(cls, errors.APIError) else {"provider": "p", "model": "m"}))
    error.add_note("A note.")
    error.added_later = 5  # type: ignore[attr-defined]
    again = WAYS[way](error)
    assert type(again) is cls
    assert again is not error
    assert str(again) == "Words."
    assert again.__dict__ == error.__dict__
    assert again.__notes__ == ["A note."]


def test_copies_of_a_changed_message() -> None:
    """A message that was changed, as when a key is struck out of it, is changed in copies too."""
    error = errors.APIError("Words with a key.")
    error.message, error.args = "Words.", ("Words.",)
    assert str(pickle.loads(pickle.dumps(error))) == "Words."


def test_received() -> None:
    """What came before a stream broke is on the error, and crosses process borders with it."""
    error = errors.StreamError("Cut.")
    assert error.received is None
    error.received = Completion.of("so far")
    again = pickle.loads(pickle.dumps(error))
    assert again.received == Completion.of("so far")
    assert errors.StreamError("Another.").received is None


# Kinds

REPORTED = "The provider reported an error inside its answer: "


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid"),
        (401, "auth"),
        (402, "billing"),
        (403, "permission"),
        (404, "not_found"),
        (405, "invalid"),
        (408, "timeout"),
        (409, "server"),
        (413, "context_length"),
        (422, "invalid"),
        (424, "server"),
        (429, "rate_limit"),
        (498, "auth"),
        (499, "cancelled"),
        (500, "server"),
        (502, "server"),
        (503, "overloaded"),
        (504, "timeout"),
        (529, "overloaded"),
        (599, "server"),
    ],
)
def test_kind_of_a_status(status: int, kind: str) -> None:
    """A status that comes with nothing else has one kind, in a reply and in a stream."""
    assert errors.error_class(status)("Words.", status=status).kind == kind
    assert errors.StreamError(REPORTED + "Words.", status=status, body={}).kind == kind


def test_kind_of_a_class() -> None:
    """Where there is no status, the class decides."""
    assert {cls.__name__: cls("").kind for cls in API_CLASSES} == {
        "APIConnectionError": "server",
        "APIError": "server",
        "APIStatusError": "invalid",
        "APITimeoutError": "timeout",
        "AuthenticationError": "auth",
        "BadRequestError": "invalid",
        "ConflictError": "server",
        "InternalServerError": "server",
        "NotFoundError": "not_found",
        "PermissionDeniedError": "permission",
        "RateLimitError": "rate_limit",
        "ResponseTooLargeError": "stream_broken",
        "StreamError": "stream_broken",
        "UnprocessableEntityError": "invalid",
    }


@pytest.mark.parametrize(
    ("codec", "status", "body", "kind"),
    [
        (OpenAIChat(), 429, {"error": {"message": "m", "code": "insufficient_quota"}}, "billing"),
        (OpenAIChat(), 429, {"error": {"message": "m", "type": "insufficient_quota"}}, "billing"),
        (OpenAIChat(), 429, {"error": {"message": "m", "code": "rate_limit_exceeded"}}, "rate_limit"),
        (OpenAIChat(), 400, {"error": {"message": "m", "code": "context_length_exceeded"}}, "context_length"),
        (OpenAIChat(), 400, {"error": {"message": "m", "code": "content_filter"}}, "content_policy"),
        (OpenAIChat(), 400, {"error": {"message": "m", "type": "exceed_context_size_error"}}, "context_length"),
        (OpenAIChat(), 400, {"error": {"message": "m", "code": "bad"}}, "invalid"),
        (OpenAIChat(), 400, {"message": "This model's maximum context length is 8 tokens."}, "context_length"),
        (OpenAIChat(), 403, {"error": {"code": 403, "message": "Your input was flagged"}}, "content_policy"),
        (OpenAIChat(), 404, {"error": {"message": "m", "code": "model_not_found"}}, "not_found"),
        (Responses(), 400, {"error": {"message": "m", "code": "context_length_exceeded"}}, "context_length"),
        (Anthropic(), 400, anthropic("invalid_request_error", "prompt is too long: 3 tokens > 2"), "context_length"),
        (Anthropic(), 400, anthropic("invalid_request_error", "Your credit balance is too low."), "billing"),
        (Anthropic(), 400, anthropic("invalid_request_error", "Blocked by content filtering policy"), "content_policy"),
        (Anthropic(), 400, anthropic("invalid_request_error", "max_tokens: Field required"), "invalid"),
        (Anthropic(), 402, anthropic("billing_error", "m"), "billing"),
        (Anthropic(), 403, anthropic("permission_error", "m"), "permission"),
        (Anthropic(), 413, anthropic("request_too_large", "m"), "context_length"),
        (Anthropic(), 529, anthropic("overloaded_error", "m"), "overloaded"),
        (Gemini(), 400, google("INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), "auth"),
        (Gemini(), 400, google("INVALID_ARGUMENT", "m", reason="API_KEY_INVALID"), "auth"),
        (
            Gemini(),
            400,
            google("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
            "context_length",
        ),
        (Gemini(), 400, google("INVALID_ARGUMENT", "m"), "invalid"),
        (Gemini(), 429, google("RESOURCE_EXHAUSTED", "You exceeded your current quota, check billing."), "rate_limit"),
        (Gemini(), 503, google("UNAVAILABLE", "m"), "overloaded"),
        (Gemini(), 504, google("DEADLINE_EXCEEDED", "m"), "timeout"),
        (Cohere(), 400, {"message": "too many tokens: 9 is more than 8"}, "context_length"),
        (Cohere(), 498, {"message": "m"}, "auth"),
        (Cohere(), 499, {"message": "m"}, "cancelled"),
        (Ollama(), 404, {"error": "model 'x' not found"}, "not_found"),
        (Bedrock(), 400, aws("ValidationException", "Input is too long for requested model."), "context_length"),
        (Bedrock(), 400, aws("ValidationException", "m"), "invalid"),
        (Bedrock(), 400, aws("ServiceQuotaExceededException", "m"), "billing"),
        (Bedrock(), 403, aws("UnrecognizedClientException", "m"), "auth"),
        (Bedrock(), 408, aws("ModelTimeoutException", "m"), "timeout"),
        (Bedrock(), 424, aws("ModelErrorException", "m"), "server"),
        (Bedrock(), 429, aws("ThrottlingException", "m"), "rate_limit"),
        (Bedrock(), 429, aws("ModelNotReadyException", "m"), "overloaded"),
    ],
)
def test_kind_of_a_reply(codec: Codec, status: int, body: dict[str, Any], kind: str) -> None:
    """Codes, types and words of each format's errors have the kind that they mean."""
    assert codec.decode_error(status, {}, json.encode(body)).kind == kind


@pytest.mark.parametrize(
    ("codec", "frame", "kind"),
    [
        (Anthropic(), anthropic("overloaded_error", "m"), "overloaded"),
        (Anthropic(), anthropic("new_error", "m"), "stream_broken"),
        (Anthropic(), anthropic("new_error", "prompt is too long"), "context_length"),
        (Gemini(), google("RESOURCE_EXHAUSTED", "m"), "rate_limit"),
        (Responses(), {"type": "error", "code": "insufficient_quota", "message": "m"}, "billing"),
    ],
)
def test_kind_of_an_error_inside(codec: Codec, frame: dict[str, Any], kind: str) -> None:
    """An error inside a stream has the kind that it tells, and else is a stream that broke."""
    decoder = codec.decoder(ChatRequest("m", (), stream=True), "text/event-stream")
    with pytest.raises(errors.StreamError) as caught:
        list(decoder.feed(b"data: " + json.encode(frame) + b"\n\n"))
    assert caught.value.kind == kind


def test_kind_of_a_gateway() -> None:
    """A 502 of OpenRouter's is another provider that has no room."""
    assert errors.InternalServerError("m", status=502, provider="openrouter").kind == "overloaded"


def test_kind_of_own_words() -> None:
    """Only a provider's words are looked at, not those of an error that was made here."""
    assert errors.BadRequestError("Your input was flagged.", param="$.input").kind == "invalid"
    assert errors.BadRequestError("Your input was flagged.", status=400, body={}).kind == "content_policy"
