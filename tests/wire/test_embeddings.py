"""Embeddings in every format, held against recorded exchanges, and through every face."""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest

from antiphon import AsyncClient, Client
from antiphon.chat.embeddings import EmbeddingRequest
from antiphon.errors import APIError, BadRequestError, InternalServerError, StreamError
from antiphon.formats.embeddings import (
    BedrockEmbeddings,
    CohereEmbeddings,
    EmbeddingCodec,
    GeminiEmbeddings,
    OllamaEmbeddings,
    OpenAIEmbeddings,
    VertexEmbeddings,
    VoyageEmbeddings,
)
from antiphon.testing import Fault, Upstream, vector_of
from tests.recordings import Exchange, exchanges
from tests.vendors import openai

OPENAI, VOYAGE = OpenAIEmbeddings(), VoyageEmbeddings()
HOSTS: dict[str, EmbeddingCodec] = {
    "api.openai.com": OPENAI,
    "api.voyageai.com": VOYAGE,
    "api.cohere.com": CohereEmbeddings(),
    "generativelanguage.googleapis.com": GeminiEmbeddings(),
    "aiplatform.googleapis.com": VertexEmbeddings(),
    "bedrock-runtime.us-east-1.amazonaws.com": BedrockEmbeddings(),
}
COUNTS = {
    "api.openai.com": 2,
    "api.voyageai.com": 3,
    "api.cohere.com": 2,
    "generativelanguage.googleapis.com": 7,
    "aiplatform.googleapis.com": 1,
    "bedrock-runtime.us-east-1.amazonaws.com": 14,
}
SETTINGS = {"truncate", "truncation", "encoding_format", "normalize", "max_tokens", "singleEmbeddingParams"}
"""Recorded fields that the neutral request does not have: they go into `extra_body`."""

TYPES = {"search_query": "query", "search_document": "document", "RETRIEVAL_QUERY": "query"}
TYPES |= {"RETRIEVAL_DOCUMENT": "document", "GENERIC_RETRIEVAL": "query", "GENERIC_INDEX": "document"}


def recorded(host: str) -> list[Exchange]:
    """The recorded embeddings of *host* that were answered."""
    found = [e for e in exchanges(f"{host}/*.json") if "mbed" in e.url and e.status == 200]
    return [e for e in found if "converse" not in e.url and "generateContent" not in e.url]


def asked(exchange: Exchange) -> EmbeddingRequest:
    """The neutral form of what was asked, by names that the formats share in one spelling or another."""
    source: dict[str, Any] = exchange.request
    batch: list[Any] = source.get("requests") or [source]
    nova: dict[str, Any] = source.get("singleEmbeddingParams") or {}
    first = {**batch[0], **nova}
    texts = first.get("input") or first.get("texts") or first.get("inputText") or first.get("text")
    if isinstance(texts, dict):
        texts = texts["value"]
    if texts is None:
        texts = [item["content"]["parts"][0]["text"] for item in batch]
    names = ("dimensions", "output_dimension", "outputDimensionality", "embeddingDimension")
    kind = next(
        (first[key] for key in ("input_type", "taskType", "embeddingPurpose") if key in first and key in first), None
    )
    kind = nova.get("embeddingPurpose", kind)
    path = unquote(urlsplit(exchange.url).path)
    in_path = path.rpartition("/models/")[2].rpartition(":")[0] or path.removeprefix("/model/").removesuffix("/invoke")
    return EmbeddingRequest(
        source.get("model") or in_path,
        (texts,) if isinstance(texts, str) else tuple(texts),
        next((first[key] for key in names if first.get(key) is not None), None),
        TYPES.get(kind, kind),  # type: ignore[arg-type]
    )


def changes(written: dict[str, Any], actual: dict[str, Any]) -> dict[str, Any]:
    """What of *actual* is not in *written*."""
    found: dict[str, Any] = {}
    for key, value in actual.items():
        if isinstance(value, dict) and isinstance(written.get(key), dict):
            if inner := changes(written[key], value):
                found[key] = inner
        elif key not in written or written[key] != value:
            found[key] = value
    return found


def vectors(exchange: Exchange) -> list[list[float]]:
    """The vectors in a recorded answer, found by their length alone."""
    found: list[list[float]] = []

    def look(value: Any) -> None:
        if isinstance(value, str) and len(value) > 300:
            data = b64decode(value)
            found.append(list(struct.unpack(f"<{len(data) // 4}f", data)))
        elif isinstance(value, list) and len(value) > 50 and isinstance(value[0], float):
            found.append(value)
        elif isinstance(value, list | dict):
            for item in value.values() if isinstance(value, dict) else value:
                look(item)

    look(
        {key: value for key, value in json.loads(exchange.body).items() if key != "embeddingsByType"}
    )  # Titan's second
    return found


@pytest.mark.usefixtures("cassettes")
@pytest.mark.parametrize("host", HOSTS)
def test_recorded(host: str) -> None:
    """What was asked is written as it was recorded, but for settings that say nothing; what was answered is read."""
    codec, found = HOSTS[host], recorded(host)
    assert len(found) == COUNTS[host]
    for exchange in found:
        request = asked(exchange)
        (http,) = codec.encode(request)
        actual = {key: value for key, value in exchange.request.items() if value is not None}
        settings = changes(json.loads(http.body), actual)
        assert settings.keys() <= SETTINGS, (exchange.name, settings)
        (http,) = codec.encode(msgspec.structs.replace(request, extra={codec.name: settings}))
        assert json.loads(http.body) == {**json.loads(http.body), **actual}
        assert http.path.split(":")[-1].split("/")[-1] in exchange.url
        answer = codec.decode(request, [exchange.content])
        assert answer.vectors == vectors(exchange), exchange.name
        assert [item.index for item in answer.data] == list(range(len(request.texts)))
        assert answer.usage is None or answer.usage.prompt_tokens <= answer.usage.total_tokens


@pytest.mark.parametrize("codec", [VertexEmbeddings(), BedrockEmbeddings()], ids=lambda codec: codec.name)
def test_one_text_a_request(codec: EmbeddingCodec) -> None:
    """A format that takes one text at a time gets as many requests, whose answers are put together."""
    request = EmbeddingRequest("amazon.titan-embed-text-v2:0", ("a", "b"))
    assert [b'"b"' in http.body for http in codec.encode(request)] == [False, True]
    bodies = [b'{"embedding": [1.5], "inputTextTokenCount": 2}', b'{"embedding": [2], "inputTextTokenCount": 3}']
    if isinstance(codec, VertexEmbeddings):
        bodies = [
            b'{"embedding": {"values": %b}, "usageMetadata": {"promptTokenCount": %b}}' % v
            for v in ((b"[1.5]", b"2"), (b"[2]", b"3"))
        ]
    answer = codec.decode(request, bodies)
    assert answer.vectors == [[1.5], [2]]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5


def test_ollama() -> None:
    """Ollama's shape, of which there is no recording: its client's types say it."""
    request = EmbeddingRequest("all-minilm", ("a", "b"), 64)
    (http,) = OllamaEmbeddings().encode(request)
    assert (http.path, json.loads(http.body)) == (
        "/api/embed",
        {"model": "all-minilm", "input": ["a", "b"], "dimensions": 64},
    )
    body = b'{"model": "all-minilm", "embeddings": [[0.1], [0.2]], "prompt_eval_count": 8}'
    answer = OllamaEmbeddings().decode(request, [body])
    assert (answer.vectors, answer.model, answer.usage and answer.usage.prompt_tokens) == (
        [[0.1], [0.2]],
        "all-minilm",
        8,
    )


@pytest.mark.parametrize(
    ("codec", "request_", "losses"),
    [
        (OPENAI, {"input_type": "query"}, ["dropped $.input_type"]),
        (VOYAGE, {"input_type": "clustering", "user": "u"}, ["dropped $.input_type", "dropped $.user"]),
        (CohereEmbeddings(), {}, ["defaulted $.input_type"]),
        (CohereEmbeddings(), {"input_type": "query", "user": "u"}, ["dropped $.user"]),
        (OllamaEmbeddings(), {"extra": {"gemini": {"title": "t"}}}, ["dropped $.title"]),
        (GeminiEmbeddings(), {"input_type": "clustering"}, []),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_receipts(codec: EmbeddingCodec, request_: dict[str, Any], losses: list[str]) -> None:
    """What a format cannot say, or wants to be told unasked, is in the receipt."""
    http = codec.encode(EmbeddingRequest("m", ("a",), **request_))[0]
    assert [f"{loss.kind} {loss.path}" for loss in http.losses] == losses


BAD = [
    b"",
    b"[]",
    b"<html>",
    b"{}",
    b'{"data": []}',
    b'{"data": [1]}',
    b'{"data": [{"embedding": "*"}]}',
    b'{"data": [{"embedding": "AAA="}]}',
    b'{"data": [{"embedding": [true]}]}',
    b'{"data": [{"embedding": [1]}, {"embedding": [2]}]}',
    b'{"embeddings": {"float": 1}}',
    b'{"embeddings": [{"values": null}]}',
    b'{"embedding": {"values": ["1"]}}',
    b'{"embedding": "x"}',
]


@pytest.mark.parametrize("codec", [*HOSTS.values(), OllamaEmbeddings()], ids=lambda codec: codec.name)
@pytest.mark.parametrize("body", BAD)
def test_bad_answers(codec: EmbeddingCodec, body: bytes) -> None:
    """An answer of another shape, or with too few vectors or too many, is an error and nothing else."""
    with pytest.raises(APIError, match=r"embeddings|vectors"):
        codec.decode(EmbeddingRequest("m", ("a",)), [body])


def test_base64() -> None:
    """Vectors as base64 are read, and written where a client asks for them so."""
    packed = b64encode(struct.pack("<2f", 0.5, -2.0)).decode()
    body = json.dumps({"data": [{"index": 0, "embedding": packed}]}).encode()
    answer = OPENAI.decode(EmbeddingRequest("m", ("a",)), [body])
    assert answer.vectors == [[0.5, -2.0]]
    assert json.loads(OPENAI.encode_response(answer, base64=True))["data"][0]["embedding"] == packed


@pytest.mark.parametrize(
    "body", [b"{}", b'{"model": "m"}', b'{"model": "m", "input": []}', b'{"model": "m", "input": [1]}']
)
def test_bad_requests(body: bytes) -> None:
    """A client's request without texts is refused with the path."""
    with pytest.raises(BadRequestError) as caught:
        OPENAI.decode_request(body)
    assert caught.value.param == "$.input"


def test_request_of_a_client() -> None:
    """A client's request reads back as it was written, fields of its own included."""
    request = EmbeddingRequest("m", ("a", "b"), 3, user="u", extra={"openai-chat": {"truncate": True}})
    assert OPENAI.decode_request(OPENAI.encode(request)[0].body) == request


# --- faces


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server with embeddings."""
    with Upstream() as server:
        yield server


TEXTS = ["one two", "three"]


def test_blocking(upstream: Upstream) -> None:
    """Blocking code gets the vectors in order, and who made them."""
    with Client(base_url=upstream.base_url) as client:
        answer = client.embeddings.create(TEXTS, "m", dimensions=3, extra_body={"truncate": True})
        one = client.embeddings.create("three", "m")
    assert answer.vectors == [vector_of(text) for text in TEXTS]
    assert (answer.model, answer.provider, answer.usage and answer.usage.total_tokens) == ("m", "127.0.0.1", 3)
    assert one.vectors == [vector_of("three")]
    assert upstream.requests[0].json == {"model": "m", "input": TEXTS, "dimensions": 3, "truncate": True}
    assert answer.model_dump()["data"][1] == {"object": "embedding", "index": 1, "embedding": vector_of("three")}


@pytest.mark.anyio
async def test_async(upstream: Upstream) -> None:
    """Async code gets the same, and the errors of chat calls."""
    async with AsyncClient(base_url=upstream.base_url) as client:
        assert (await client.embeddings.create(TEXTS, "m")).vectors == [vector_of(text) for text in TEXTS]
        upstream.fault = Fault.of_status(500)
        with pytest.raises(InternalServerError):
            await client.embeddings.create(TEXTS, "m")


@pytest.mark.parametrize("codec", HOSTS.values(), ids=list(HOSTS))
def test_an_error_inside_a_200(codec: EmbeddingCodec) -> None:
    """An error in place of vectors says what the provider said."""
    request = EmbeddingRequest("m", ("a",))
    with pytest.raises(StreamError, match="No such model") as caught:
        codec.decode(request, [b'{"error": {"message": "No such model", "code": 404}}'])
    assert (caught.value.status, caught.value.code) == (404, "404")


@pytest.mark.parametrize("empty", ["[]", '""'])
def test_an_empty_vector(empty: str) -> None:
    """A vector of nothing is none."""
    with pytest.raises(APIError, match="with one at least"):
        OPENAI.decode(EmbeddingRequest("m", ("a",)), [b'{"data": [{"index": 0, "embedding": %b}]}' % empty.encode()])


def test_mistakes(upstream: Upstream) -> None:
    """Nothing to embed, a misspelt parameter, a provider without embeddings and strict losses are clear errors."""
    with Client(base_url=upstream.base_url) as client:
        with pytest.raises(BadRequestError, match="a text or a list of texts"):
            client.embeddings.create([], "m")
        with pytest.raises(TypeError, match="Did you mean 'dimensions'"):
            client.embeddings.create("a", "m", dimension=3)  # type: ignore[call-arg]
        with pytest.raises(BadRequestError, match="strict=True"):
            client.embeddings.create("a", "m", input_type="query", strict=True)
    with Client(provider=lambda request: "hi") as client, pytest.raises(BadRequestError, match="has no embeddings"):
        client.embeddings.create("a", "m")
    with Client(provider="anthropic", base_url=upstream.base_url, api_key="any") as client:
        with pytest.raises(BadRequestError, match="has no embeddings"):
            client.embeddings.create("a", "m")


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=str)
def test_official_client(upstream: Upstream, options: Any) -> None:
    """The OpenAI client reads what is written for it; unless told otherwise it asks for base64."""
    with openai.OpenAI(base_url=upstream.base_url, api_key="any") as client:
        answer = client.embeddings.create(input=TEXTS, model="m", **options)
    assert [item.embedding for item in answer.data] == [vector_of(text) for text in TEXTS]
