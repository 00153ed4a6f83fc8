"""The official google-genai client, unmodified, against a started server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from antiphon.chat.requests import ChatRequest
from antiphon.formats.gemini import Gemini
from antiphon.settings.config import Config
from antiphon.settings.keys import AccessKeys, hash_key, new_key
from antiphon.testing import Fault, Upstream
from tests.server.clients import MODELS, PNG, RIGHT, USAGE, ask_weather, listening, reply_to, row, unknown_name
from tests.serving import Serving
from tests.vendors import genai


class Place(BaseModel):
    """Where somebody is."""

    city: str


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return ask_weather(city)


def calling(server: Serving, key: str = "none") -> genai.Client:
    """Return the client of *server*."""
    return genai.Client(api_key=key, http_options=genai.types.HttpOptions(base_url=server.address))


@pytest.fixture(scope="module")
def client(both: tuple[Serving, Upstream]) -> Iterator[genai.Client]:
    """The client of that server."""
    with calling(both[0]) as client:
        yield client


def check_text(answer: genai.types.GenerateContentResponse, text: str) -> None:
    """Fail where *answer* says something else, or tells of other counts than the provider did."""
    (candidate,) = answer.candidates or [genai.types.Candidate()]
    assert (answer.text, candidate.finish_reason) == (text, genai.types.FinishReason.STOP)
    counts = answer.usage_metadata
    assert counts is not None
    assert (counts.prompt_token_count, counts.candidates_token_count) == (USAGE.prompt_tokens, USAGE.completion_tokens)


@pytest.mark.parametrize("model", MODELS)
def test_whole(client: genai.Client, model: str) -> None:
    """A whole answer is the client's own, with its usage."""
    config = genai.types.GenerateContentConfig(system_instruction="Be brief.", temperature=0.5)
    check_text(client.models.generate_content(model=model, contents="hi", config=config), "You said: hi")


@pytest.mark.parametrize("model", [*MODELS, "greet/m"])
def test_streamed(client: genai.Client, model: str) -> None:
    """A stream's frames are the answer, piece by piece."""
    frames = list(client.models.generate_content_stream(model=model, contents="hi"))
    said = [frame.text for frame in frames if frame.text]
    assert said == ["Hello", " there", ", ", "hi"] if model == "greet/m" else "".join(said) == "You said: hi"
    (last,) = frames[-1].candidates or [genai.types.Candidate()]
    assert last.finish_reason == genai.types.FinishReason.STOP
    if model != "greet/m":
        assert frames[-1].usage_metadata is not None
        assert frames[-1].usage_metadata.prompt_token_count == USAGE.prompt_tokens


@pytest.mark.anyio
@pytest.mark.parametrize("model", MODELS)
async def test_async(both: tuple[Serving, Upstream], model: str) -> None:
    """The async client is answered the same, whole and streamed."""
    async with calling(both[0]).aio as client:
        check_text(await client.models.generate_content(model=model, contents="hi"), "You said: hi")
        frames = await client.models.generate_content_stream(model=model, contents="hi")
        assert "".join([frame.text or "" async for frame in frames]) == "You said: hi"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_tool_round_trip(client: genai.Client, upstream: Upstream, model: str, stream: bool) -> None:
    """The client gets the call, sends back what the tool said, and is told the answer."""
    by_hand = genai.types.AutomaticFunctionCallingConfig(disable=True)
    config = genai.types.GenerateContentConfig(tools=[weather], automatic_function_calling=by_hand)

    def ask(contents: list[genai.types.Content]) -> genai.types.Content:
        if not stream:
            answers = [client.models.generate_content(model=model, contents=list(contents), config=config)]
        else:
            frames = client.models.generate_content_stream(model=model, contents=list(contents), config=config)
            answers = list(frames)
        candidates = [candidate for answer in answers for candidate in answer.candidates or ()]
        return genai.types.Content(
            role="model", parts=[p for c in candidates if c.content for p in c.content.parts or ()]
        )

    question = genai.types.Content(role="user", parts=[genai.types.Part(text="Weather?")])
    said = ask([question])
    (part,) = said.parts or ()
    call = part.function_call
    assert call is not None
    assert (call.id, call.name, call.args) == ("call_1", "weather", {"city": "Paris"})
    response = genai.types.FunctionResponse(id=call.id, name=call.name, response={"output": ask_weather("Paris")})
    last = ask([question, said, genai.types.Content(role="user", parts=[genai.types.Part(function_response=response)])])
    assert "".join(part.text or "" for part in last.parts or ()) == RIGHT
    if model == "up/m":
        assert upstream.requests[-1].json["messages"][-1]["tool_call_id"] == "call_1"


@pytest.mark.parametrize("model", MODELS)
def test_client_calls_functions_itself(client: genai.Client, model: str) -> None:
    """The client's own loop calls a function until the model is done."""
    config = genai.types.GenerateContentConfig(tools=[weather])
    answer = client.models.generate_content(model=model, contents="Weather?", config=config)
    assert answer.text == 'It is {"result":"sunny"} in Paris.'  # an object is what the client makes of the result


@pytest.mark.parametrize("model", MODELS)
def test_structured(client: genai.Client, upstream: Upstream, model: str) -> None:
    """The answer keeps to a schema, and is the client's object."""
    config = genai.types.GenerateContentConfig(response_mime_type="application/json", response_schema=Place)
    answer = client.models.generate_content(model=model, contents="Where?", config=config)
    assert answer.parsed == Place(city="Paris")
    if model == "up/m":
        schema = upstream.requests[-1].json["response_format"]["json_schema"]["schema"]
        assert (schema["type"], schema["required"]) == ("object", ["city"])


@pytest.mark.parametrize("model", MODELS)
def test_picture(client: genai.Client, model: str) -> None:
    """A picture reaches the provider."""
    picture = genai.types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png")
    check_text(client.models.generate_content(model=model, contents=[picture]), f"A picture of {len(PNG)} letters.")


def test_same_format_on_both_sides() -> None:
    """To a provider of the same format a request goes as it was, and it counts the tokens."""
    with (
        Upstream(reply_to, codec=Gemini()) as upstream,
        Serving({"up": row(upstream, "gemini")}) as server,
        calling(server) as client,
    ):
        settings = [genai.types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="OFF")]  # type: ignore[arg-type]
        config = genai.types.GenerateContentConfig(safety_settings=settings, seed=7)
        check_text(client.models.generate_content(model="up/m", contents="hi", config=config), "You said: hi")
        seen = upstream.requests[-1]
        assert seen.path.endswith("/models/m:generateContent")
        assert seen.json == {
            "contents": [{"parts": [{"text": "hi"}], "role": "user"}],
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            "generationConfig": {"seed": 7},
        }
        upstream.fault = Fault.of_status(200, '{"totalTokens": 23}')
        assert client.models.count_tokens(model="up/m", contents="hi").total_tokens == 23


@pytest.mark.parametrize("model", MODELS)
def test_counting_where_nobody_can(client: genai.Client, model: str) -> None:
    """A provider that cannot tell how many tokens a request has is a bad request, in words."""
    with pytest.raises(genai.errors.ClientError, match="no way to") as caught:
        client.models.count_tokens(model=model, contents="hi")
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")


def test_models(client: genai.Client) -> None:
    """The list has the providers' models by the names to ask for; one of them can be asked about, and no other."""
    (listed,) = [model for model in client.models.list() if (model.name or "").startswith("models/up/")]
    assert listed.name == "models/up/test-model"
    assert client.models.get(model="up/test-model").name == listed.name
    check_text(client.models.generate_content(model=listed.name, contents="hi"), "You said: hi")
    with pytest.raises(genai.errors.ClientError, match="up/nothing"):
        client.models.get(model="up/nothing")


@pytest.mark.parametrize("texts", [["one"], ["one", "two words"]])
def test_embeddings(client: genai.Client, texts: list[Any]) -> None:
    """Vectors come in the order of the texts."""
    answer = client.models.embed_content(model="up/e", contents=texts)
    assert [one.values and one.values[0] for one in answer.embeddings or ()] == [float(len(text)) for text in texts]


@unknown_name
@pytest.mark.parametrize("stream", [False, True])
def test_errors(client: genai.Client, upstream: Upstream, stream: bool) -> None:
    """An unknown model, a bad request and a provider's refusal are the client's own errors, with their names."""

    def ask(model: str, contents: Any = "hi", **fields: Any) -> None:
        if stream:
            list(client.models.generate_content_stream(model=model, contents=contents, **fields))
        else:
            client.models.generate_content(model=model, contents=contents, **fields)

    with pytest.raises(genai.errors.ClientError, match="No provider is called") as missing:
        ask("nobody/m")
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")
    with pytest.raises(genai.errors.ClientError, match="temperature") as bad:
        ask("up/m", config={"http_options": {"extra_body": {"generationConfig": {"temperature": "hot"}}}})
    assert (bad.value.code, bad.value.status) == (400, "INVALID_ARGUMENT")
    upstream.fault = Fault.of_status(429, retry_after="17")
    with pytest.raises(genai.errors.ClientError, match="status 429") as caught:
        ask("up/m")
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")


def test_error_in_a_stream(client: genai.Client, upstream: Upstream) -> None:
    """A provider's error after the first words is the client's error, after those words."""
    upstream.fault = Fault.error_inside("out of luck", after=3)
    frames = client.models.generate_content_stream(model="up/m", contents="hi")
    assert next(frames).text
    with pytest.raises(genai.errors.APIError, match="out of luck"):
        list(frames)


def test_keys() -> None:
    """With keys set, the client is let in with the right one alone."""
    key = new_key()
    with listening(Config(keys=AccessKeys({"alice": hash_key(key)}))) as (server, _):
        with calling(server, key) as client:
            check_text(client.models.generate_content(model="own/m", contents="hi"), "You said: hi")
        with calling(server, "wrong") as client, pytest.raises(genai.errors.ClientError) as caught:
            client.models.generate_content(model="own/m", contents="hi")
        assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")


def test_name_with_a_colon() -> None:
    """A model's name may have a colon, as those of Ollama have, and slashes."""

    def name(request: ChatRequest) -> str:
        return request.model

    with Serving({"own": name}) as server, calling(server) as client:
        for model in ("own/llama3:8b", "own/a/b:free"):
            assert client.models.generate_content(model=model, contents="hi").text == model.removeprefix("own/")
            (frame, *_) = client.models.generate_content_stream(model=model, contents="hi")
            assert frame.text == model.removeprefix("own/")
