"""Embeddings, one small codec for each format. Pure functions, no I/O.

A format that takes one text a request gets as many requests as there are texts. Vectors come as arrays of numbers, or
as base64 of little-endian 32-bit floats.

Sources: recorded exchanges (OpenAI, Voyage, Gemini, Vertex AI, Cohere, Bedrock); openai 3.54,
`types/embedding_create_params.py`; ollama 0.6.3, `_types.py`, `EmbedRequest`; read 2026-11-23.
"""

from __future__ import annotations

import array
import binascii
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast
from urllib.parse import quote

import msgspec

from antiphon.chat.embeddings import Embedding, EmbeddingRequest, Embeddings, EmbeddingUsage
from antiphon.chat.losses import Loss, lost_extra
from antiphon.errors import APIError
from antiphon.formats import json, read
from antiphon.formats.codec import HTTPRequest, RequestEach
from antiphon.formats.embedding_request import decode_gemini, decode_named
from antiphon.formats.openai_chat.answer import error_inside, fault_of
from antiphon.formats.status import excerpt

__all__ = [
    "BedrockEmbeddings",
    "CohereEmbeddings",
    "EmbeddingCodec",
    "EmbeddingDialect",
    "GeminiEmbeddings",
    "OldOllamaEmbeddings",
    "OllamaEmbeddings",
    "OpenAIEmbeddings",
    "VertexEmbeddings",
    "VoyageEmbeddings",
]

_HEADERS = {"content-type": "application/json", "accept": "application/json"}
_COHERE_TYPES = {"query": "search_query", "document": "search_document"}
_GEMINI_TYPES = {
    "query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}
_NOVA_PURPOSES = {"query": "GENERIC_RETRIEVAL", "document": "GENERIC_INDEX"}


class EmbeddingCodec(Protocol):
    """How one format asks for embeddings and tells them. Holds no state besides its settings."""

    @property
    def name(self) -> str:
        """Key of the format in `EmbeddingRequest.extra`."""
        ...

    def encode(self, request: EmbeddingRequest) -> Sequence[HTTPRequest]:
        """Write *request*: one request to send, or one for each text, made when it is asked for.

        Losses stand in the first.
        """
        ...

    def decode(self, request: EmbeddingRequest, bodies: Sequence[bytes]) -> Embeddings:
        """Read the answers, in the order of the requests.

        Raises:
            APIError: An answer does not have the promised shape, or not as many vectors as there are texts.
        """
        ...


class EmbeddingDialect(Protocol):
    """What a server needs of a format for embeddings; errors it tells as the chats of the format do."""

    @property
    def name(self) -> str:
        """Key of the format in `EmbeddingRequest.extra`."""
        ...

    def decode_request(self, body: bytes, path: str = "") -> EmbeddingRequest:
        """Read a client's request body; *path* as for `antiphon.formats.codec.Dialect.decode_request`.

        Raises:
            BadRequestError: With `param` the path of the fault, such as `$.input`.
        """
        ...

    def encode_response(self, answer: Embeddings, *, base64: bool = False) -> bytes:
        """Write the answer; vectors as *base64* where the format knows it and the client asked for it."""
        ...


class OpenAIEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's `/embeddings` and the servers that speak it."""

    name: str = "openai-chat"
    path: str = "/embeddings"
    dimensions_field: str = "dimensions"
    takes_type: bool = False
    """Whether `input_type` may be sent: `query` or `document`."""

    def encode(self, request: EmbeddingRequest) -> tuple[HTTPRequest, ...]:
        """Write *request*."""
        body = _without_none(
            {"model": request.model, "input": list(request.texts), self.dimensions_field: request.dimensions}
        )
        types = {"query": "query", "document": "document"} if self.takes_type else {}
        losses = _typed(body, request, "input_type", types)
        if request.user is not None and not self.takes_type:
            body["user"] = request.user
        path = self.path.replace("{model}", quote(request.model, safe=""))
        return (_post(path, body, request, self.name, losses, user=not self.takes_type),)

    def decode(self, request: EmbeddingRequest, bodies: Sequence[bytes]) -> Embeddings:
        """Read the answer."""
        source = _object(bodies[0])
        found: dict[int, list[float]] = {}
        for place, item in enumerate(_list(source, "data")):
            entry = _inner(item, f"$.data[{place}]")
            index = json.integer(entry.get("index"))
            found[place if index is None else index] = _vector(entry.get("embedding"), f"$.data[{place}].embedding")
        counts = source.get("usage")
        tokens = _tokens(counts, "prompt_tokens", "total_tokens")
        return _told([found[index] for index in sorted(found)], request, json.text(source.get("model")), tokens)

    def decode_request(self, body: bytes, path: str = "") -> EmbeddingRequest:
        """Read a client's request body."""
        typed = self.takes_type
        decode = partial(decode_named, name=self.name, dimensions=self.dimensions_field, user=not typed, typed=typed)
        return read.request(body, decode)

    def encode_response(self, answer: Embeddings, *, base64: bool = False) -> bytes:
        """Write an answer; *base64* is what a client asks for with `encoding_format`, and a quarter of the size."""
        source = answer.to_dict()
        if base64:
            for item in source["data"]:
                item["embedding"] = _packed(item["embedding"])
        return json.encode(source)


class VoyageEmbeddings(OpenAIEmbeddings, frozen=True, kw_only=True):
    """Voyage's `/embeddings`."""

    name: str = "voyage"
    dimensions_field: str = "output_dimension"
    takes_type: bool = True


class GeminiEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """The Gemini API's `batchEmbedContents`."""

    name: str = "gemini"
    path: str = "/v1beta/models"

    def encode(self, request: EmbeddingRequest) -> tuple[HTTPRequest, ...]:
        """Write *request*."""
        model = request.model.removeprefix("models/")
        common: dict[str, Any] = _without_none({"model": f"models/{model}", "outputDimensionality": request.dimensions})
        losses = _typed(common, request, "taskType", _GEMINI_TYPES)
        common = json.merged(common, (request.extra or {}).get(self.name, {}))
        requests = [{**common, "content": {"parts": [{"text": text}]}} for text in request.texts]
        path = f"{self.path}/{quote(model)}:batchEmbedContents"
        return (_post(path, {"requests": requests}, request, self.name, losses, own=False),)

    def decode(self, request: EmbeddingRequest, bodies: Sequence[bytes]) -> Embeddings:
        """Read the answer."""
        source = _object(bodies[0])
        vectors = [
            _vector(_inner(item, f"$.embeddings[{place}]").get("values"), f"$.embeddings[{place}].values")
            for place, item in enumerate(_list(source, "embeddings"))
        ]
        return _told(vectors, request, None, _tokens(source.get("usageMetadata"), "promptTokenCount"))

    def decode_request(self, body: bytes, path: str = "") -> EmbeddingRequest:
        """Read a client's request body, and from the *path* the model."""
        decode = partial(decode_gemini, path=path, name=self.name, types=_GEMINI_TYPES, batch=True)
        return read.request(body, decode, type="INVALID_ARGUMENT")

    def encode_response(self, answer: Embeddings, *, base64: bool = False) -> bytes:
        """Write an answer."""
        return json.encode({"embeddings": [{"values": vector} for vector in answer.vectors], **_gemini_usage(answer)})


class VertexEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Vertex AI's and the Gemini API's `embedContent`, one text a request."""

    name: str = "gemini"
    path: str = "/models"

    def encode(self, request: EmbeddingRequest) -> Sequence[HTTPRequest]:
        """Write *request*."""
        common: dict[str, Any] = _without_none({"outputDimensionality": request.dimensions})
        losses = _typed(common, request, "taskType", _GEMINI_TYPES)
        path = f"{self.path}/{quote(request.model)}:embedContent"

        def write(text: str) -> HTTPRequest:
            body = {"content": {"parts": [{"text": text}]}, **common}
            return _post(path, body, request, self.name, losses)

        return RequestEach(request.texts, write)

    def decode(self, request: EmbeddingRequest, bodies: Sequence[bytes]) -> Embeddings:
        """Read the answers."""
        sources = [_object(body) for body in bodies]
        vectors = [
            _vector(_inner(source.get("embedding"), "$.embedding").get("values"), "$.embedding.values")
            for source in sources
        ]
        return _told(vectors, request, None, _sum(_tokens(s.get("usageMetadata"), "promptTokenCount") for s in sources))

    def decode_request(self, body: bytes, path: str = "") -> EmbeddingRequest:
        """Read a client's request body, and from the *path* the model."""
        decode = partial(decode_gemini, path=path, name=self.name, types=_GEMINI_TYPES, batch=False)
        return read.request(body, decode, type="INVALID_ARGUMENT")

    def encode_response(self, answer: Embeddings, *, base64: bool = False) -> bytes:
        """Write an answer: its first vector."""
        return json.encode({"embedding": {"values": answer.vectors[0]}, **_gemini_usage(answer)})


class CohereEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Cohere's `/v2/embed`."""

    name: str = "cohere"
    path: str = "/v2/embed"

    def encode(self, request: EmbeddingRequest) -> tuple[HTTPRequest, ...]:
        """Write *request*; Cohere wants to know what the vectors are for, and without a word they are of documents."""
        body, losses = _cohere(request)
        body |= {"model": request.model, "embedding_types": ["float"]}
        return (_post(self.path, body, request, self.name, losses),)

    def decode(self, request: EmbeddingRequest, bodies: Sequence[bytes]) -> Embeddings:
        """Read the answer."""
        source = _object(bodies[0])
        meta = source.get("meta")
        return _told(
            _cohere_vectors(source),
            request,
            None,
            _tokens(meta.get("billed_units") if json.is_object(meta) else None, "input_tokens"),
        )


class OllamaEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Ollama's `/api/embed`."""

    name: str = "ollama"
    path: str = "/api/embed"

    def encode(self, request: EmbeddingRequest) -> tuple[HTTPRequest, ...]:
        """Write *request*."""
        body = _without_none({"model": request.model, "input": list(request.texts), "dimensions": request.dimensions})
        return (_post(self.path, body, request, self.name, _typed(body, request, "", {})),)

    def decode(self, request: EmbeddingRequest, bodies: Sequence[bytes]) -> Embeddings:
        """Read the answer."""
        source = _object(bodies[0])
        vectors = [_vector(item, f"$.embeddings[{i}]") for i, item in enumerate(_list(source, "embeddings"))]
        return _told(vectors, request, json.text(source.get("model")), _tokens(source, "prompt_eval_count"))

    def decode_request(self, body: bytes, path: str = "") -> EmbeddingRequest:
        """Read a client's request body."""
        return read.request(body, partial(decode_named, name=self.name, user=False))

    def encode_response(self, answer: Embeddings, *, base64: bool = False) -> bytes:
        """Write an answer."""
        counted = {} if answer.usage is None else {"prompt_eval_count": answer.usage.prompt_tokens}
        return json.encode({"model": answer.model, "embeddings": answer.vectors, **counted})


class OldOllamaEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Ollama's older `/api/embeddings`, which clients still ask for: one text a request. The server's half alone."""

    name: str = "ollama"

    def decode_request(self, body: bytes, path: str = "") -> EmbeddingRequest:
        """Read a client's request body."""

        def decode(source: dict[str, Any]) -> EmbeddingRequest:
            read.required_text(source, "prompt", "$")
            return decode_named(source, self.name, field="prompt", user=False)

        return read.request(body, decode)

    def encode_response(self, answer: Embeddings, *, base64: bool = False) -> bytes:
        """Write an answer: its first vector."""
        return json.encode({"embedding": answer.vectors[0]})


class BedrockEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Bedrock's `/model/…/invoke`, where every maker of models has a format of its own."""

    name: str = "bedrock"

    def encode(self, request: EmbeddingRequest) -> Sequence[HTTPRequest]:
        """Write *request*; Titan and Nova take one text each."""
        path = f"/model/{quote(request.model, safe='')}/invoke"
        if "cohere." in request.model:
            body, losses = _cohere(request)
            return (_post(path, body, request, self.name, losses),)
        write = _nova if "nova" in request.model else _titan

        def post(text: str) -> HTTPRequest:
            body, losses = write(request, text)
            return _post(path, body, request, self.name, losses)

        return RequestEach(request.texts, post)

    def decode(self, request: EmbeddingRequest, bodies: Sequence[bytes]) -> Embeddings:
        """Read the answers."""
        sources = [_object(body) for body in bodies]
        if "cohere." in request.model:
            return _told(_cohere_vectors(sources[0]), request, None, None)
        if "nova" in request.model:
            items = [_inner(_list(source, "embeddings")[0], "$.embeddings[0]") for source in sources]
            return _told([_vector(i.get("embedding"), "$.embeddings[0].embedding") for i in items], request, None, None)
        vectors = [_vector(source.get("embedding"), "$.embedding") for source in sources]
        return _told(vectors, request, None, _sum(_tokens(source, "inputTextTokenCount") for source in sources))


_Written = tuple[dict[str, Any], list[Loss]]


def _titan(request: EmbeddingRequest, text: str) -> _Written:
    body = _without_none({"inputText": text, "dimensions": request.dimensions})
    return body, _typed(body, request, "", {})


def _nova(request: EmbeddingRequest, text: str) -> _Written:
    params: dict[str, Any] = {"embeddingPurpose": "GENERIC_INDEX", "text": {"value": text, "truncationMode": "NONE"}}
    losses = _typed(params, request, "embeddingPurpose", {**_NOVA_PURPOSES, **_upper("classification", "clustering")})
    if request.input_type is None:
        losses.append(_defaulted("embeddingPurpose", "GENERIC_INDEX"))
    if request.dimensions is not None:
        params["embeddingDimension"] = request.dimensions
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}, losses


def _cohere(request: EmbeddingRequest) -> _Written:
    body: dict[str, Any] = {"input_type": "search_document", "texts": list(request.texts)}
    types = {**_COHERE_TYPES, "classification": "classification", "clustering": "clustering"}
    losses = _typed(body, request, "input_type", types)
    if request.input_type is None:
        losses.append(_defaulted("input_type", "search_document"))
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    return body, losses


def _cohere_vectors(source: dict[str, Any]) -> list[list[float]]:
    found = source.get("embeddings")
    items = _list(found, "float") if json.is_object(found) else _list(source, "embeddings")
    return [_vector(item, f"$.embeddings[{place}]") for place, item in enumerate(items)]


# Writing


def _upper(*names: str) -> dict[str, str]:
    return {name: name.upper() for name in names}


def _defaulted(field: str, value: str) -> Loss:
    return Loss("defaulted", "$.input_type", f"The format wants a {field!r}: {value!r} was sent.")


def _typed(body: dict[str, Any], request: EmbeddingRequest, field: str, words: Mapping[str, str]) -> list[Loss]:
    """Say in *body* what the vectors are for, and return the loss where the format has no word for it."""
    if request.input_type is None:
        return []
    if request.input_type in words:
        body[field] = words[request.input_type]
        return []
    return [
        Loss(
            "dropped", "$.input_type", f"This format has no way to say that the vectors are for {request.input_type!r}."
        )
    ]


def _post(
    path: str,
    body: dict[str, Any],
    request: EmbeddingRequest,
    name: str,
    losses: list[Loss],
    *,
    user: bool = False,
    own: bool = True,
) -> HTTPRequest:
    """Return the request with *body*; the *user* is in it or else lost, the format's *own* fields are put in."""
    losses = [*losses, *lost_extra(request, "$", keep=(name,))]
    if request.user is not None and not user:
        losses.append(Loss("dropped", "$.user", "This format has no field for an end user."))
    if own:
        body = json.merged(body, (request.extra or {}).get(name, {}))
    return HTTPRequest(path=path, body=json.encode(body), headers=_HEADERS, losses=tuple(losses))


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _gemini_usage(answer: Embeddings) -> dict[str, Any]:
    return {} if answer.usage is None else {"usageMetadata": {"promptTokenCount": answer.usage.prompt_tokens}}


def _packed(vector: list[float]) -> str:
    floats = array.array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return binascii.b2a_base64(floats.tobytes(), newline=False).decode()


# Reading


def _told(
    vectors: list[list[float]], request: EmbeddingRequest, model: str | None, tokens: EmbeddingUsage | None
) -> Embeddings:
    if len(vectors) != len(request.texts):
        raise APIError(f"The provider was given {len(request.texts)} texts and answered {len(vectors)} vectors.")
    data = tuple(Embedding(vector, index) for index, vector in enumerate(vectors))
    return Embeddings(data=data, model=model or request.model, usage=tokens)


def _object(body: bytes) -> dict[str, Any]:
    try:
        source = json.decode(body)
    except json.MALFORMED:
        source = None
    if not json.is_object(source):
        raise APIError(f"The provider was asked for embeddings and answered something else: {excerpt(body)}")
    if (fault := fault_of(source)) is not None:
        raise error_inside(fault)
    return source


def _fault(path: str, expected: str) -> APIError:
    return APIError(f"The provider's embeddings do not have the promised shape: {path} is not {expected}.")


def _list(source: dict[str, Any], key: str) -> list[Any]:
    value = source.get(key)
    if not json.is_array(value) or not value:
        raise _fault(f"$.{key}", "an array with something in it")
    return value


def _inner(value: Any, path: str) -> dict[str, Any]:
    if not json.is_object(value):
        raise _fault(path, "an object")
    return value


def _vector(value: Any, path: str) -> list[float]:
    if isinstance(value, str) and value:
        floats = array.array("f")
        try:
            floats.frombytes(binascii.a2b_base64(value, strict_mode=True))
        except ValueError:
            raise _fault(path, "base64 of 32-bit floats") from None
        if sys.byteorder == "big":
            floats.byteswap()
        return floats.tolist()
    if not json.is_array(value) or not value or not all(type(number) in (float, int) for number in value):
        raise _fault(path, "an array of numbers, with one at least")
    return cast(list[float], value)


def _tokens(source: Any, prompt: str, total: str | None = None) -> EmbeddingUsage | None:
    if not json.is_object(source):
        return None
    whole = json.integer(source.get(total)) if total is not None else None
    read_ = json.integer(source.get(prompt))
    read_ = whole if read_ is None else read_
    return None if read_ is None else EmbeddingUsage(read_, read_ if whole is None else whole)


def _sum(usages: Iterable[EmbeddingUsage | None]) -> EmbeddingUsage | None:
    found = [usage for usage in usages if usage is not None]
    total = sum(usage.total_tokens for usage in found)
    return EmbeddingUsage(sum(usage.prompt_tokens for usage in found), total) if found else None
