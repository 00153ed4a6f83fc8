"""What a server answers besides chats, in each format: the official clients read it, and so do the codecs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.answers import Completion
from antiphon.chat.events import End, Event, Finish, TextDelta, fold, unfold
from antiphon.chat.messages import Message
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APIError, BadRequestError, RateLimitError, StreamError
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from antiphon.formats.bedrock import Bedrock
from antiphon.formats.codec import Codec, ListedModel, TokenCounter
from antiphon.formats.cohere import Cohere
from antiphon.formats.framing import sse
from antiphon.formats.gemini import Gemini
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.formats.openai_chat.legacy_completions import OpenAIText
from antiphon.formats.responses import Responses
from antiphon.testing import Fault, Upstream
from tests.vendors import anthropic, boto3, cohere, genai, ollama, openai
from tests.wire import gemini_values, laws
from tests.wire.laws import names

CODECS: list[Codec] = [OpenAIChat(), Responses(), Anthropic(), Gemini(), Ollama(), Cohere(), Bedrock()]
COUNTERS = [codec for codec in CODECS if isinstance(codec, TokenCounter)]
MADE = 1795341600
MODELS = (
    ListedModel(id="openai/gpt-x", provider="openai", created=MADE),
    ListedModel(id="ollama/llama3:8b", provider="ollama"),
)
OPENAI = (OpenAIChat(), OpenAIText(), Responses())
IDS = [model.id for model in MODELS]

each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
each_counter = pytest.mark.parametrize("codec", COUNTERS, ids=lambda codec: codec.name)


def serving(body: bytes, codec: Codec = CODECS[0]) -> Upstream:
    """Return a server that answers whatever *codec* can read with *body*."""
    return Upstream(codec=codec, fault=Fault.of_status(200, body.decode()))


@pytest.fixture
def listing(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the address, without a version, of a server that answers with the list in the format of *request*."""
    with serving(request.param.encode_models(MODELS)) as server:
        yield server.base_url.removesuffix("/v1")


@pytest.fixture
def single(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the address of a server that answers with the first model in the format of *request*."""
    with serving(request.param.encode_model(MODELS[0])) as server:
        yield server.base_url.removesuffix("/v1")


@each_codec
@given(
    models=st.lists(st.builds(ListedModel, id=names, provider=names, created=st.integers(0, 2**33)), max_size=3),
)
def test_lists_there_and_back(codec: Codec, models: Sequence[ListedModel]) -> None:
    """A list of models that was written and read has the same names, and the dates where the format has room."""
    dated = codec.name in ("openai-chat", "openai-responses", "anthropic")
    found = codec.decode_models(codec.encode_models(models))
    assert found == [(model.id, model.created if dated else 0) for model in models]


@each_counter
@given(count=st.integers(0, 2**40))
def test_counts_there_and_back(codec: Any, count: int) -> None:
    """A count of tokens that was written and read is the same."""
    assert codec.decode_count(codec.encode_token_count(count)) == count


@each_codec
def test_an_error_in_place_of_the_list(codec: Codec) -> None:
    """An error told with status 200 says what the provider said, not that it was no list."""
    reply = codec.encode_error(APIError("No such key"))
    with pytest.raises(StreamError, match="inside its answer: No such key"):
        codec.decode_models(reply.body)


@each_codec
def test_an_error_of_a_proxy_in_place_of_the_list(codec: Codec) -> None:
    """The words of a proxy on the way, which knows no format, are told as well."""
    with pytest.raises(StreamError, match="inside its answer: Not now"):
        codec.decode_models(b'{"message":"Not now"}')


@each_counter
def test_an_error_in_place_of_a_count(codec: Any) -> None:
    """The same holds for a count of tokens."""
    with pytest.raises(StreamError, match="inside its answer: No such key"):
        codec.decode_count(codec.encode_error(APIError("No such key")).body)


@pytest.mark.parametrize("listing", OPENAI, ids=lambda codec: codec.name, indirect=True)
def test_openai_lists(listing: str) -> None:
    """The openai client finds names, owners and dates."""
    with openai.OpenAI(base_url=listing, api_key="any") as client:
        found = client.models.list().data
    assert [(model.id, model.owned_by, model.created) for model in found] == [
        ("openai/gpt-x", "openai", MADE),
        ("ollama/llama3:8b", "ollama", 0),
    ]


@pytest.mark.parametrize("single", OPENAI, ids=lambda codec: codec.name, indirect=True)
def test_openai_reads_one(single: str) -> None:
    """The openai client reads one model."""
    with openai.OpenAI(base_url=single, api_key="any") as client:
        found = client.models.retrieve("openai/gpt-x")
    assert (found.id, found.object, found.created, found.owned_by) == ("openai/gpt-x", "model", MADE, "openai")


@pytest.mark.parametrize("listing", [Anthropic()], indirect=True, ids=[""])
def test_anthropic_lists(listing: str) -> None:
    """The anthropic client finds names and dates, and asks for no second page."""
    with anthropic.Anthropic(base_url=listing, api_key="any") as client:
        page = client.models.list()
        assert [model.id for model in page] == IDS
    assert (page.has_more, page.first_id, page.last_id) == (False, *IDS)
    assert [model.created_at for model in page.data] == [datetime.fromtimestamp(time, UTC) for time in (MADE, 0)]
    required = {name for name, field in anthropic.types.ModelInfo.model_fields.items() if field.is_required()}
    assert all(required <= model.model_fields_set for model in page.data)


@pytest.mark.parametrize("single", [Anthropic()], indirect=True, ids=[""])
def test_anthropic_reads_one(single: str) -> None:
    """The anthropic client reads one model."""
    with anthropic.Anthropic(base_url=single, api_key="any") as client:
        found = client.models.retrieve("openai/gpt-x")
    assert (found.id, found.type, found.display_name) == ("openai/gpt-x", "model", "openai/gpt-x")


def test_anthropic_without_models() -> None:
    """A list of no models has no first and no last one."""
    told = json.decode(Anthropic().encode_models(()))
    assert told == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("listing", [Gemini()], indirect=True, ids=[""])
def test_google_lists(listing: str) -> None:
    """The google-genai client finds names and what can be asked for, and asks for no second page."""
    with genai.Client(api_key="any", http_options=genai.types.HttpOptions(base_url=listing)) as client:
        found = list(client.models.list())
    assert [(model.name, model.display_name) for model in found] == [(f"models/{id}", id) for id in IDS]
    assert found[0].supported_actions == ["generateContent", "streamGenerateContent", "countTokens"]


@pytest.mark.parametrize("single", [Gemini()], indirect=True, ids=[""])
def test_google_reads_one(single: str) -> None:
    """The google-genai client reads one model."""
    with genai.Client(api_key="any", http_options=genai.types.HttpOptions(base_url=single)) as client:
        assert client.models.get(model="openai/gpt-x").name == "models/openai/gpt-x"


@pytest.mark.parametrize("listing", [Ollama()], indirect=True, ids=[""])
def test_ollama_lists(listing: str) -> None:
    """The ollama client finds names, dates, sizes, families, and digests of the length that its command line cuts."""
    with ollama.Client(host=listing) as client:
        first, second = client.list().models
    assert [first.model, second.model] == IDS
    assert (first.modified_at, first.size) == (datetime.fromtimestamp(MADE, UTC), 0)
    assert second.modified_at == datetime(1, 1, 1, tzinfo=UTC)
    assert first.details is not None
    assert (first.details.family, first.details.families) == ("openai", ["openai"])
    assert first.digest is not None
    assert second.digest is not None
    assert len(first.digest) == len(second.digest) == 64
    assert first.digest != second.digest


def test_ollama_reads_one() -> None:
    """The ollama client reads what there is to show of one model."""
    answer = httpx.Response(200, content=Ollama().encode_model(MODELS[0]))
    with ollama.Client(transport=httpx.MockTransport(lambda request: answer)) as client:
        shown = client.show("openai/gpt-x")
    assert (shown.capabilities, shown.modelinfo) == (["completion"], {})
    assert shown.modified_at == datetime.fromtimestamp(MADE, UTC)


@pytest.mark.parametrize("listing", [Cohere()], indirect=True, ids=[""])
def test_cohere_lists(listing: str) -> None:
    """The cohere client finds names, and that each is for chats."""
    with httpx.Client() as http:
        found = cohere.Client(api_key="any", base_url=listing, httpx_client=http).models.list()
    assert [(model.name, model.endpoints) for model in found.models] == [(id, ["chat"]) for id in IDS]


@pytest.mark.parametrize("single", [Cohere()], indirect=True, ids=[""])
def test_cohere_reads_one(single: str) -> None:
    """The cohere client reads one model."""
    with httpx.Client() as http:
        assert cohere.Client(api_key="any", base_url=single, httpx_client=http).models.get("x").name == "openai/gpt-x"


def aws(address: str) -> Any:
    """Return AWS's client for lists of models."""
    session = boto3.Session(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret", region_name="us-east-1")
    made: Any = session.client("bedrock", endpoint_url=address)
    return closing(made)


@pytest.mark.may_block("boto3 is a blocking client, which no code of ours runs beside")
@pytest.mark.parametrize("listing", [Bedrock()], indirect=True, ids=[""])
def test_aws_lists(listing: str) -> None:
    """AWS's client finds names and makers."""
    with aws(listing) as client:
        found = client.list_foundation_models()["modelSummaries"]
    assert [(model["modelId"], model["providerName"]) for model in found] == list(
        zip(IDS, ("openai", "ollama"), strict=True)
    )


@pytest.mark.may_block("boto3 is a blocking client, which no code of ours runs beside")
@pytest.mark.parametrize("single", [Bedrock()], indirect=True, ids=[""])
def test_aws_reads_one(single: str) -> None:
    """AWS's client reads one model."""
    with aws(single) as client:
        assert client.get_foundation_model(modelIdentifier="x")["modelDetails"]["modelId"] == "openai/gpt-x"


def test_clients_read_counts() -> None:
    """The clients of formats that count tokens find the number."""
    hello: Any = [{"role": "user", "content": "Hello"}]
    with serving(Anthropic().encode_token_count(7), Anthropic()) as server:
        url = server.base_url.removesuffix("/v1")
        with anthropic.Anthropic(base_url=url, api_key="any") as client:
            assert client.messages.count_tokens(model="m", messages=hello).input_tokens == 7
    with serving(Gemini().encode_token_count(8), Gemini()) as server:
        options = genai.types.HttpOptions(base_url=server.base_url.removesuffix("/v1"))
        with genai.Client(api_key="any", http_options=options) as google:
            assert google.models.count_tokens(model="m", contents="Hello").total_tokens == 8
    with serving(Responses().encode_token_count(9), Responses()) as server:
        with openai.OpenAI(base_url=server.base_url, api_key="any") as other:
            told = other.responses.input_tokens.count(model="m", input="Hello")
            assert (told.input_tokens, told.object) == (9, "response.input_tokens")


# Gemini's streams as arrays


GEMINI = Gemini()
ARRAY = GEMINI.at("/v1beta/models/m:streamGenerateContent")
STREAMED = ChatRequest("m", (), stream=True)


@pytest.mark.parametrize(
    ("query", "stream_type"),
    [
        ("", "application/json"),
        ("?alt=json", "application/json"),
        ("?key=alt=sse", "application/json"),
        ("?alt=sse", "text/event-stream"),
        ("?key=k&alt=sse", "text/event-stream"),
        ("?%24alt=sse&key=k", "text/event-stream"),
    ],
)
def test_the_query_says_how_to_stream(query: str, stream_type: str) -> None:
    """A stream is one of events where the query asks for that, and else an array."""
    dialect = GEMINI.at(f"/v1beta/models/m:streamGenerateContent{query}")
    body = laws.encoded(dialect, STREAMED, unfold(Completion.of("Hello")))
    assert dialect.stream_type == stream_type
    assert body.startswith(b"data: {" if stream_type == "text/event-stream" else b"[{")


@given(gemini_values.completions(), laws.cuts)
def test_arrays_there_and_back(completion: Completion, cuts: list[int]) -> None:
    """A stream that was written as an array is one, and tells the same when it is read."""
    body = laws.encoded(ARRAY, STREAMED, [*unfold(completion)])
    assert json.is_array(json.decode(body))
    assert fold(laws.decoded(GEMINI, STREAMED, laws.pieces(body, cuts), laws.JSON)) == completion


@given(gemini_values.json_streams())
def test_arrays_have_the_frames_of_streams(frames: list[dict[str, Any]]) -> None:
    """Frames that came from Gemini are the elements of the array as they were."""
    events = laws.decoded(GEMINI, STREAMED, [b"".join(sse.encode(json.encode(frame)) for frame in frames)])
    laws.check_same(frames, json.decode(laws.encoded(ARRAY, STREAMED, events)))


def test_an_array_goes_out_element_by_element() -> None:
    """Each event's elements are on their way at once, and the bracket closes with the end, once."""
    encoder = ARRAY.encoder(STREAMED)
    said = [b"".join(encoder.feed(event)) for event in (TextDelta("a"), TextDelta("b"), End("stop"), End("stop"))]
    assert said[0].startswith(b'[{"candidates":')
    assert said[1].startswith(b',\r\n{"candidates":')
    assert said[2].endswith(b"}\n]\n")
    assert said[3] == b""
    candidates = [frame["candidates"][0] for frame in json.decode(b"".join(said))]
    assert [candidate.get("content", {}).get("parts") for candidate in candidates] == [
        [{"text": "a"}],
        [{"text": "b"}],
        None,
    ]


@pytest.mark.parametrize("before", [[], [TextDelta("a")]], ids=["first", "later"])
def test_an_error_in_an_array(before: list[Event]) -> None:
    """An error is an element like any other, after which the array closes; it is read as that error."""
    encoder = ARRAY.encoder(STREAMED)
    body = b"".join(frame for event in before for frame in encoder.feed(event))
    body += encoder.error(RateLimitError("Slow down.", status=429))
    assert [*encoder.feed(End("stop")), encoder.error(APIError("Late."))] == [b""]
    *_, last = json.decode(body)
    assert last["error"] == {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}
    with pytest.raises(StreamError, match=r"Slow down\.") as caught:
        laws.decoded(GEMINI, STREAMED, [body], laws.JSON)
    assert caught.value.status == 429


def test_an_answer_that_failed_in_an_array() -> None:
    """The array closes after an answer that the provider ended with an error, too."""
    body = laws.encoded(ARRAY, STREAMED, [TextDelta("a"), Finish("error"), End()])
    assert [*json.decode(body)[1]] == ["error"]


# Gemini's paths

CONTENTS = [{"role": "user", "parts": [{"text": "Hello"}]}]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("gemini-x", "gemini-x"),
        ("ollama/llama3:8b", "ollama/llama3:8b"),
        ("ollama%2Fllama3%3A8b", "ollama/llama3:8b"),
        ("fireworks/accounts/f/models/llama", "fireworks/accounts/f/models/llama"),
        ("a:generateContent", "a:generateContent"),
        ("%C3%A9%3F", "é?"),
    ],
)
@pytest.mark.parametrize("prefix", ["/v1beta", "/v1", "", "/v1/projects/p/locations/l/publishers/google"])
@pytest.mark.parametrize(
    ("action", "stream"), [("generateContent", False), ("streamGenerateContent?alt=sse", True), ("countTokens", False)]
)
def test_models_in_paths(prefix: str, path: str, model: str, action: str, stream: bool) -> None:
    """The model is all that stands between `/models/` and the last colon, quoted or not."""
    request = GEMINI.decode_request(json.encode({"contents": CONTENTS}), f"{prefix}/models/{path}:{action}")
    assert (request.model, request.stream, request.messages) == (model, stream, (Message.user("Hello"),))


@given(model=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_models_there_and_back(model: str) -> None:
    """Whatever a model is called, its name is read from the path that was written."""
    model = model.removeprefix("models/")
    written = GEMINI.encode_request(ChatRequest(model, ()))
    assert GEMINI.decode_request(written.body, written.path).model == model.removeprefix("models/")


@pytest.mark.parametrize("name", ["generateContentRequest", "generate_content_request"])
def test_counting_a_whole_request(name: str) -> None:
    """A request to count tokens may hold a whole one, whose model is that of the path."""
    inner = {"model": "models/m", "contents": CONTENTS, "generationConfig": {"temperature": 0.5}}
    request = GEMINI.decode_request(json.encode({name: inner}), "/v1beta/models/m:countTokens")
    assert request == ChatRequest("m", (Message.user("Hello"),), temperature=0.5)


@given(request=gemini_values.requests())
def test_counts_are_asked_for_there_and_back(request: ChatRequest) -> None:
    """What a client asks to count is what the server reads, but for whether to stream."""
    written = GEMINI.encode_count(request)
    assert GEMINI.decode_request(written.body, written.path) == request.but(stream=False, include_usage=None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"contents": CONTENTS, "generateContentRequest": {"contents": CONTENTS}}, "$.contents"),
        ({"generateContentRequest": []}, "$.generateContentRequest"),
        ({"generateContentRequest": {"contents": 1}}, "$.contents"),
    ],
    ids=str,
)
def test_nothing_to_count(body: dict[str, Any], param: str) -> None:
    """Both kinds of question at once are refused, and so is what is neither."""
    with pytest.raises(BadRequestError) as caught:
        GEMINI.decode_request(json.encode(body), "/v1beta/models/m:countTokens")
    assert caught.value.param == param
