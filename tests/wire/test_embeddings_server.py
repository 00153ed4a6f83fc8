"""Embeddings as a server reads and tells them, in every format that has them here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chat.embeddings import Embedding, EmbeddingRequest, Embeddings, EmbeddingUsage
from antiphon.errors import BadRequestError
from antiphon.formats import json
from antiphon.formats.embeddings import (
    EmbeddingDialect,
    GeminiEmbeddings,
    OldOllamaEmbeddings,
    OllamaEmbeddings,
    OpenAIEmbeddings,
    VertexEmbeddings,
    VoyageEmbeddings,
)
from antiphon.testing import vector_of
from tests.vendors import genai, ollama, openai
from tests.wire import laws

BOTH_WAYS: list[Any] = [
    OpenAIEmbeddings(),
    VoyageEmbeddings(),
    GeminiEmbeddings(),
    VertexEmbeddings(),
    OllamaEmbeddings(),
]
OLD = OldOllamaEmbeddings()
DIALECTS: list[EmbeddingDialect] = [*BOTH_WAYS, OLD]
USAGE = EmbeddingUsage(3, 3)

each_codec = pytest.mark.parametrize("codec", BOTH_WAYS, ids=lambda codec: type(codec).__name__)
each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)

requests = st.builds(
    EmbeddingRequest,
    laws.names,
    st.lists(laws.texts, min_size=1, max_size=3).map(tuple),
    laws.maybe(st.integers(1, 4096)),
    laws.maybe(st.sampled_from(["query", "document", "classification", "clustering"])),
    laws.maybe(laws.texts),
)
vectors = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4)


def answering(vectors: list[list[float]], model: str = "m", usage: EmbeddingUsage | None = USAGE) -> Embeddings:
    """Return an answer with these vectors."""
    data = tuple(Embedding(vector, index) for index, vector in enumerate(vectors))
    return Embeddings(data=data, model=model, usage=usage)


# Laws


@each_codec
@given(request=requests, extra=laws.unknown_fields)
def test_requests_there_and_back(codec: Any, request: EmbeddingRequest, extra: dict[str, Any]) -> None:
    """What a client asks in one request is what the server reads, but for what the receipt says; nothing is added."""
    fields = {name: getattr(request, name) for name in ("dimensions", "input_type", "user")}
    texts = request.texts[:1] if isinstance(codec, VertexEmbeddings) else request.texts
    asked = EmbeddingRequest(request.model, texts, extra={codec.name: extra} if extra else None, **fields)
    (written,) = codec.encode(asked)
    lost = {loss.path.removeprefix("$."): None for loss in written.losses}
    fields = {name: lost.get(name, value) for name, value in fields.items()}
    assert codec.decode_request(written.body, written.path) == EmbeddingRequest(
        request.model, texts, extra=asked.extra, **fields
    )


@each_codec
@given(found=st.lists(vectors, min_size=1, max_size=3), usage=laws.maybe(st.just(USAGE)))
def test_answers_there_and_back(codec: Any, found: list[list[float]], usage: EmbeddingUsage | None) -> None:
    """Vectors are the same to the last bit after they were written and read, and so is the usage."""
    found = found[:1] if isinstance(codec, VertexEmbeddings) else found
    answer = answering(found, usage=usage)
    request = EmbeddingRequest("m", ("a",) * len(found))
    assert codec.decode(request, [codec.encode_response(answer)]) == answer


@given(found=st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4), min_size=1, max_size=3))
def test_base64_there_and_back(found: list[list[float]]) -> None:
    """Numbers of 32 bits are the same as base64, too."""
    codec, request = OpenAIEmbeddings(), EmbeddingRequest("m", ("a",) * len(found))
    assert codec.decode(request, [codec.encode_response(answering(found), base64=True)]).vectors == found


# What clients send


def asked(dialect: EmbeddingDialect, path: str = "", **fields: Any) -> EmbeddingRequest:
    """Return what *dialect* reads of a body with *fields*."""
    return dialect.decode_request(json.encode(fields), path)


def test_ollama() -> None:
    """Texts may come alone; what the neutral request does not have is kept."""
    request = asked(OllamaEmbeddings(), model="m", input="a", dimensions=3, truncate=False, user="u")
    assert request == EmbeddingRequest("m", ("a",), 3, extra={"ollama": {"truncate": False, "user": "u"}})
    assert asked(OllamaEmbeddings(), model="m", input=["a", "b"]).texts == ("a", "b")


def test_old_ollama() -> None:
    """The older route has one text, under another name, and answers with one vector."""
    request = asked(OLD, model="m", prompt="a", keep_alive=5)
    assert request == EmbeddingRequest("m", ("a",), extra={"ollama": {"keep_alive": 5}})
    assert json.decode(OLD.encode_response(answering([[0.5]]))) == {"embedding": [0.5]}


def test_gemini() -> None:
    """A batch has its settings in each of its requests, in either case, and the model in the path too."""
    content = {"parts": [{"text": "a"}, {"text": "b"}]}
    items = [
        {"model": "models/x/y:1", "content": content, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 3},
        {"content": content, "task_type": "RETRIEVAL_QUERY", "output_dimensionality": 3, "title": None},
    ]
    path = "/v1beta/models/x%2Fy:1:batchEmbedContents?key=k"
    request = EmbeddingRequest("x/y:1", ("ab", "ab"), 3, "query")
    assert asked(GeminiEmbeddings(), path, requests=items) == request
    assert asked(GeminiEmbeddings(), requests=items[:1]) == EmbeddingRequest("x/y:1", ("ab",), 3, "query")


def test_gemini_alone() -> None:
    """A single content may have its settings in an object of their own; those of one format only are kept."""
    request = asked(
        VertexEmbeddings(),
        "/v1/projects/p/locations/l/publishers/google/models/m:embedContent",
        content={"parts": [{"text": "a"}]},
        embedContentConfig={"taskType": "SEMANTIC_SIMILARITY", "title": "t", "outputDimensionality": 3},
    )
    extra = {"gemini": {"taskType": "SEMANTIC_SIMILARITY", "title": "t"}}
    assert request == EmbeddingRequest("m", ("a",), 3, extra=extra)
    (written,) = VertexEmbeddings().encode(request)
    assert json.decode(written.body) == {
        "content": {"parts": [{"text": "a"}]},
        "outputDimensionality": 3,
        "taskType": "SEMANTIC_SIMILARITY",
        "title": "t",
    }


def test_gemini_settings_of_its_own() -> None:
    """What only Gemini has goes into every request of a batch, where Gemini looks for it."""
    (written,) = GeminiEmbeddings().encode(EmbeddingRequest("m", ("a", "b"), extra={"gemini": {"title": "t"}}))
    assert [item["title"] for item in json.decode(written.body)["requests"]] == ["t", "t"]


A = {"parts": [{"text": "a"}]}


@pytest.mark.parametrize(
    ("dialect", "fields", "param"),
    [
        (OpenAIEmbeddings(), {"model": "m", "input": [[1, 2]]}, "$.input"),
        (OpenAIEmbeddings(), {"input": "a"}, "$.model"),
        (OpenAIEmbeddings(), {"model": "m", "input": "a", "dimensions": "3"}, "$.dimensions"),
        (OllamaEmbeddings(), {"model": "m"}, "$.input"),
        (OllamaEmbeddings(), {"model": "m", "input": []}, "$.input"),
        (OLD, {"model": "m", "prompt": ["a", "b"]}, "$.prompt"),
        (OLD, {"model": "m", "input": "a"}, "$.prompt"),
        (GeminiEmbeddings(), {}, "$.requests"),
        (GeminiEmbeddings(), {"requests": []}, "$.requests"),
        (GeminiEmbeddings(), {"requests": [1]}, "$.requests[0]"),
        (GeminiEmbeddings(), {"requests": [{"content": A}]}, "$.requests[0].model"),
        (GeminiEmbeddings(), {"requests": [{"model": "m"}]}, "$.requests[0].content"),
        (GeminiEmbeddings(), {"requests": [{"model": "m", "content": {}}]}, "$.requests[0].content.parts"),
        (
            GeminiEmbeddings(),
            {"requests": [{"model": "m", "content": {"parts": [{"inlineData": {}}]}}]},
            "$.requests[0].content.parts[0]",
        ),
        (
            GeminiEmbeddings(),
            {"requests": [{"model": "m", "content": A}, {"model": "models/n", "content": A}]},
            "$.requests[1].model",
        ),
        (
            GeminiEmbeddings(),
            {"requests": [{"model": "m", "content": A}, {"model": "m", "content": A, "title": "t"}]},
            "$.requests[1]",
        ),
        (VertexEmbeddings(), {"content": A}, "$.model"),
        (VertexEmbeddings(), {"model": "m", "content": A, "outputDimensionality": 1.5}, "$.outputDimensionality"),
    ],
    ids=str,
)
def test_faults(dialect: EmbeddingDialect, fields: dict[str, Any], param: str) -> None:
    """What cannot be embedded is refused with its place."""
    with pytest.raises(BadRequestError) as caught:
        asked(dialect, **fields)
    assert (caught.value.param, caught.value.status) == (param, 400)


@each_dialect
@given(source=laws.json_values)
def test_anything_sent(dialect: EmbeddingDialect, source: Any) -> None:
    """Whatever JSON is sent as texts, it is read or refused."""
    for field in ("input", "prompt", "requests", "content"):
        try:
            request = dialect.decode_request(json.encode({"model": "m", field: source}))
        except BadRequestError:
            continue
        assert request.texts
        assert all(isinstance(text, str) for text in request.texts)


# The official clients


def serving(dialect: EmbeddingDialect, seen: list[EmbeddingRequest]) -> Callable[[httpx.Request], httpx.Response]:
    """Return a server of *dialect* that makes vectors of texts, and tells in *seen* what it was asked."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked = dialect.decode_request(request.content, request.url.raw_path.decode())
        seen.append(asked)
        made = answering([vector_of(text) for text in asked.texts], asked.model)
        return httpx.Response(200, content=dialect.encode_response(made), headers={"content-type": "application/json"})

    return answer


TEXTS = ["one two", "three"]
VECTORS = [vector_of(text) for text in TEXTS]


def test_the_ollama_client() -> None:
    """The ollama client gets its vectors by the newer route and by the older one."""
    seen: list[EmbeddingRequest] = []
    with ollama.Client(transport=httpx.MockTransport(serving(OllamaEmbeddings(), seen))) as client:
        answer = client.embed("m", TEXTS, dimensions=3)
    assert ([list(vector) for vector in answer.embeddings], answer.model, answer.prompt_eval_count) == (VECTORS, "m", 3)
    assert (seen[0].texts, seen[0].dimensions) == (tuple(TEXTS), 3)
    with ollama.Client(transport=httpx.MockTransport(serving(OLD, seen))) as client:
        assert list(client.embeddings("m", TEXTS[0]).embedding) == VECTORS[0]


def test_the_google_client() -> None:
    """The google-genai client gets its vectors, and its settings are read."""
    seen: list[EmbeddingRequest] = []
    with httpx.Client(transport=httpx.MockTransport(serving(GeminiEmbeddings(), seen))) as http:
        with genai.Client(api_key="any", http_options=genai.types.HttpOptions(httpx_client=http)) as client:
            config = genai.types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", output_dimensionality=3)
            contents: Any = TEXTS
            answer = client.models.embed_content(model="ollama/x:1", contents=contents, config=config)
    assert [item.values for item in answer.embeddings or ()] == VECTORS
    assert seen == [EmbeddingRequest("ollama/x:1", tuple(TEXTS), 3, "document")]


def test_the_openai_client() -> None:
    """The openai client's own type reads the numbers; base64 is tried with its client in `test_embeddings.py`."""
    body = OpenAIEmbeddings().encode_response(answering(VECTORS))
    read = openai.types.CreateEmbeddingResponse.model_validate_json(body)
    assert [item.embedding for item in read.data] == VECTORS
    assert (read.model, read.usage.total_tokens) == ("m", 3)
