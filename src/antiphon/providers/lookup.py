"""From names to handlers: which provider answers a call, where it is, and with whose key.

In order: a `provider` that is not a name is used as it is; a `base_url` is an OpenAI-compatible server, or one that
speaks the format of the provider named beside it; a provider's name; and else the model's own, `provider/model`. In the
first three the model string is passed on as it is. A prompt is never sent to a provider that the caller did not name.

`ProviderNames` are a program's own words: providers, keys and aliases that go before those of the catalog.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from antiphon.errors import AntiphonError, MissingAPIKeyError, ModelNotFoundError, ProviderNotFoundError
from antiphon.formats import embeddings
from antiphon.formats.codec import Codec
from antiphon.formats.embeddings import EmbeddingCodec
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.environment import Origin, origin_of
from antiphon.http.transport import Transport
from antiphon.providers.auth import Auth, AWSSignature, Secret, bearer, find_key, header, no_auth
from antiphon.providers.base import Handler
from antiphon.providers.catalog import ProviderRow, find_provider, provider_id, providers, split_model
from antiphon.providers.function import as_handler
from antiphon.providers.http import HTTPProvider

__all__ = [
    "ANY_MODEL",
    "DEFAULT_MODEL",
    "EMBEDDING_FORMATS",
    "FORMATS",
    "ProviderLookup",
    "ProviderNames",
    "default_model",
    "url_fault",
]

DEFAULT_MODEL = "local/smollm2-135m-instruct"
"""The model of last resort: in this process, without a key."""

ANY_MODEL = "-"
"""What to look up where only the provider matters."""

_MAX_CLASSES = 64

_FORMATS: Mapping[str, str] = {
    "anthropic": "antiphon.formats.anthropic:Anthropic",
    "bedrock": "antiphon.formats.bedrock:Bedrock",
    "cohere": "antiphon.formats.cohere:Cohere",
    "gemini": "antiphon.formats.gemini:Gemini",
    "gemini-vertex": "antiphon.formats.gemini:Vertex",
    "ollama": "antiphon.formats.ollama:Ollama",
    "openai-responses": "antiphon.formats.responses:Responses",
}
"""Where the codecs are, but for the one below. Each is imported when a provider of its format is first asked: all of
them together take as long as everything else that a client needs."""

_EMBEDDINGS: Mapping[str, str] = {
    "bedrock": "BedrockEmbeddings",
    "cohere": "CohereEmbeddings",
    "gemini": "GeminiEmbeddings",
    "gemini-vertex": "VertexEmbeddings",
    "ollama": "OllamaEmbeddings",
    "openai-chat": "OpenAIEmbeddings",
    "openai-responses": "OpenAIEmbeddings",
    "voyage": "VoyageEmbeddings",
}

FORMATS = frozenset({*_FORMATS, "openai-chat"})
"""Names of the formats that a provider reached over HTTP may speak."""

EMBEDDING_FORMATS = frozenset(_EMBEDDINGS)
"""Names of the formats of embeddings."""


def _codec(row: ProviderRow, *, exact: bool) -> Codec:
    if row.codec == "openai-chat":
        quirks = row.quirks
        return OpenAIChat(
            path="/deployments/{model}/chat/completions" if quirks.deployments else "/chat/completions",
            max_tokens_field=quirks.max_tokens_field,
            reasoning_field=quirks.reasoning_field,
            developer_role=quirks.developer_role,
            seed_field=quirks.seed_field,
            short_call_ids=quirks.short_call_ids,
            file_urls=quirks.file_urls,
            provider=row.id,
            unsupported=quirks.unsupported,
            thinking_models=quirks.thinking_models,
            exact=exact,
        )
    if row.codec not in _FORMATS:
        raise AntiphonError(
            f"{row.name} speaks the format {row.codec!r}, which this version does not know.", provider=row.id
        )
    module, _, name = _FORMATS[row.codec].partition(":")
    made = getattr(import_module(module), name)
    return cast(Codec, made(exact=exact) if "exact" in made.__struct_fields__ else made())


def _embeddings(row: ProviderRow) -> EmbeddingCodec | None:
    if row.quirks.deployments:
        return embeddings.OpenAIEmbeddings(path="/deployments/{model}/embeddings")
    name = _EMBEDDINGS.get(row.embeddings or row.codec)
    return None if name is None else cast(EmbeddingCodec, getattr(embeddings, name)())


def default_model() -> str:
    """Return the model that the empty name stands for: `ANTIPHON_MODEL`, or else the local one."""
    return os.environ.get("ANTIPHON_MODEL", "").strip() or DEFAULT_MODEL


class ProviderNames(msgspec.Struct, frozen=True, kw_only=True):
    """What a program, or the file that configures it, calls things. All of it goes before what the catalog knows."""

    providers: Mapping[str, Any] = {}
    """By id, as `catalog.provider_id` gives it: a `ProviderRow`, or anything that `as_handler` takes."""
    without: Collection[str] = frozenset()
    """Ids of providers that are not to be found, whatever the catalog knows."""
    follows: Mapping[str, str] = {}
    """Ids of providers that were given, taken away or changed because another was that is the same, with its name."""
    keys: Mapping[str, Secret] = {}
    """Keys by the id of the provider, in place of the environment's."""
    aliases: Mapping[str, str] = {}
    """What a name stands for: `provider/model`, or another alias. One that ends in `*` is for every name that begins
    like it; what the star matched stands for the star of the target, if that has one. A star without a slash before it
    does not reach over one, as `groq/…` is a provider's name already."""
    default_model: str | None = None
    """What the empty name stands for; `None`: what `default_model()` says."""
    files: Collection[str] | None = None
    """The model files that `local/…` may name, where callers are not to choose among all on the disk; `None`: any."""

    def follow(self, model: str) -> str:
        """Return what *model* stands for, from alias to alias: itself where it is none.

        An exact name goes before those with a star, and of these the longest.

        Raises:
            ModelNotFoundError: The aliases lead in a circle.
        """
        seen: set[str] = set()
        while (alias := self.alias_of(model)) is not None:
            if alias in seen:
                raise ModelNotFoundError(
                    f"The alias {alias!r} leads back to itself: give it another target.", model=model
                )
            seen.add(alias)
            target = self.aliases[alias]
            model = target.replace("*", model[len(alias) - 1 :], 1) if alias.endswith("*") else target
        return model

    def alias_of(self, model: str) -> str | None:
        """Return the alias that *model* fits, as it is configured: with its star, if it has one."""
        if not self.aliases:
            return None
        if model in self.aliases:
            return model
        fitting = (
            alias
            for alias in self.aliases
            if alias.endswith("*")
            and len(alias) <= len(model)
            and model.startswith(alias[:-1])
            and ("/" in alias or "/" not in model)
        )
        return max(fitting, key=len, default=None)

    def split(self, model: str) -> tuple[str, str]:
        """Return the provider's name and the model's own for *model*, which may be an alias, or empty for the default.

        Raises:
            ModelNotFoundError: It names no provider; near matches are in the message.
        """
        whole = self.follow(model or self.default_model or default_model())
        return split_model(whole, also=self.providers, aliases=(alias for alias in self.aliases if alias[-1:] != "*"))

    def provider(self, name: str) -> object:
        """Return the provider called *name*.

        Raises:
            ProviderNotFoundError: There is none, or it is not to be found; near matches are in the message.
        """
        id = provider_id(name)
        if id in self.without:
            because = f", as it is another API of {self.follows[id]!r}" if id in self.follows else ""
            raise ProviderNotFoundError(f"The provider {name!r} is switched off here{because}.", provider=name)
        return self.providers[id] if id in self.providers else find_provider(name, also=self.providers)

    def known(self) -> Mapping[str, object]:
        """Return every provider by name, these first. What is installed is looked through, which takes its time."""
        found = {**self.providers, **{id: known for id, known in providers().items() if id not in self.providers}}
        return MappingProxyType({id: known for id, known in found.items() if id not in self.without})

    def key(self, row: ProviderRow) -> Secret | None:
        """Return the key for the provider of *row*, or `None` where none is set."""
        return self.keys.get(row.id) or find_key(None, row.key)


class ProviderLookup:
    """Finds the handler for a call, and makes each endpoint once.

    Args:
        transport: What carries the requests of endpoints.
        provider: The provider of every call: a name, or anything that `as_handler` takes.
        api_key: The key of every call, in place of the environment's.
        base_url: Where every call goes.
        names: Providers, keys and aliases that go before the catalog's.
        served: Whether those who ask are the clients of a server: see `LocalModel`.

    Raises:
        TypeError: *provider* is none, or does not go with *base_url*, or *base_url* is no string.
        ValueError: *base_url* is not a URL, or holds what a path cannot follow, or a password.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        provider: Any = None,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        names: ProviderNames | None = None,
        served: bool = False,
    ) -> None:
        self._served = served
        if base_url is not None:
            _check_url(base_url)
            if provider is not None and not isinstance(provider, str):
                raise TypeError("base_url goes with the name of a provider, not with a provider of your own.")
        self._transport = transport
        self._provider = provider if provider is None or isinstance(provider, str) else as_handler(provider)
        self._api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        self._base_url = base_url
        self._names = ProviderNames() if names is None else names
        self._endpoints: dict[Any, Handler] = {}
        self._server: ProviderRow | None = None
        """Whoever answers at *base_url* when no provider is named."""
        # A class keeps its instance from call to call. Nothing else is remembered: a closure may hold anything.
        self._of_class = functools.lru_cache(maxsize=_MAX_CLASSES)(as_handler)

    def find(self, model: str, provider: Any = None, *, exact_for: str | None = None) -> tuple[Handler, str]:
        """Return the handler for *model*, and the model's name as its provider knows it.

        Where the provider speaks the format *exact_for*, its answers remember to the letter how they were written: for
        whoever writes them again in that same format.

        Raises:
            ProviderNotFoundError, ModelNotFoundError: Nothing has that name; near matches are in the message.
            MissingAPIKeyError: The provider wants a key and none is set.
        """
        if not isinstance(model, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise TypeError(f"model must be a string such as 'openai/gpt-5', not {model!r}.")
        chosen = self._provider if provider is None else provider
        if chosen is not None and not isinstance(chosen, str):
            return self._adapted(chosen), model
        if self._base_url is not None:
            return self._at(self._base_url, chosen, exact_for), model
        if chosen is None:
            chosen, model = self._names.split(model)
        return self._named(chosen, model, exact_for)

    def only(self) -> Handler | None:
        """Return the one handler of every call, or `None` where each call's model says who answers."""
        if self._provider is None and self._base_url is None:
            return None
        return self.find(ANY_MODEL)[0]

    def known(self) -> Mapping[str, object]:
        """Return every provider by name: those of `names` first. What is installed is looked through."""
        return self._names.known()

    def is_set_up(self, row: ProviderRow) -> bool:
        """Whether the provider can be asked: its key is set, or it was named on purpose."""
        return self._names.key(row) is not None or row.id in self._names.providers

    def _adapted(self, provider: Any) -> Handler:
        return self._of_class(provider) if isinstance(provider, type) else as_handler(provider)

    def _named(self, name: str, model: str, exact_for: str | None) -> tuple[Handler, str]:
        found = self._names.provider(name)
        if not isinstance(found, ProviderRow):
            return self._adapted(found), model
        if found.codec == "local":
            from antiphon.providers.local.model import local_model_for  # what fetches a model takes 40 ms to import

            self._check_file(model)
            return as_handler(local_model_for("" if model == ANY_MODEL else model, served=self._served)), model
        model = model or found.default_model or ""
        if not model:
            raise ModelNotFoundError(
                f"No model was named, and {found.name} has no default one: see {found.docs or 'its documentation'}.",
                provider=found.id,
            )
        return self._endpoint(found, found.url(), found.list_url(), exact=found.codec == exact_for), model

    def _check_file(self, model: str) -> None:
        """Refuse a model's file that callers may not name."""
        files = self._names.files
        if files is not None and model.lower().endswith(".gguf") and model not in files:
            raise ModelNotFoundError(
                f"There is no local model {model!r} here. A model's file is used where an alias in the configuration "
                "names it; ask for that alias.",
                provider="local",
                model=model,
            )

    def _at(self, base_url: str, name: str | None, exact_for: str | None) -> Handler:
        if name is not None:
            row = self._names.provider(name)
            if not isinstance(row, ProviderRow) or row.codec == "local":
                raise AntiphonError(f"The provider {name!r} is not reached over HTTP, so base_url cannot move it.")
        elif self._server is None:
            host = urlsplit(base_url).hostname or "server"
            row = self._server = ProviderRow(id=host, name=host, codec="openai-chat", base_url=base_url)
        else:
            row = self._server
        return self._endpoint(row, base_url, exact=row.codec == exact_for)

    def _endpoint(self, row: ProviderRow, base_url: str, list_url: str | None = None, *, exact: bool) -> Handler:
        secret = find_key(self._api_key, ()) or self._names.key(row)
        if secret is None and row.needs_key:
            names = " or ".join(row.key)
            raise MissingAPIKeyError(
                f"{row.name} needs a key: set {names} in the environment, or pass api_key=….", provider=row.id
            )
        key = (row.id, row.codec, base_url, secret, exact)
        known = self._endpoints.get(key)
        if known is None:
            known = self._endpoints[key] = HTTPProvider(
                row.id,
                _codec(row, exact=exact),
                base_url,
                auth=_auth(row, secret),
                transport=self._transport,
                secrets=(secret,) if secret else (),
                ask_usage=row.quirks.stream_usage,
                think_tags=row.quirks.think_tags,
                embeddings=_embeddings(row),
                list_url=list_url,
                query=row.url_query(),
            )
        return known


def _auth(row: ProviderRow, secret: Secret | None) -> Auth:
    if secret is None:
        return AWSSignature("bedrock") if row.signing == "aws" else no_auth
    return bearer(secret) if row.key_header is None else header(row.key_header, secret)


def _check_url(base_url: object) -> None:
    """Raise an error that says what is wrong with *base_url*, and repeats nothing of it: it may hold a password."""
    if not isinstance(base_url, str):
        raise TypeError(f"base_url {_MUST_URL}, as a string; the one given is of the type {type(base_url).__name__}.")
    if (fault := url_fault(base_url)) is not None:
        raise ValueError(f"base_url {fault}")


_MUST_URL = "must be a whole URL such as 'http://localhost:8000/v1'"


def url_fault(base_url: str) -> str | None:
    """Return what *base_url* must be, as the rest of a sentence, or `None` if it is that; nothing of it is repeated."""
    if not base_url.isprintable() or " " in base_url:
        fault: Origin | str = "holds a space or a control character, which a URL cannot have"
    elif "?" in base_url or "#" in base_url:
        fault = "holds a query or a fragment, which no path can follow: leave out everything from ? or # on"
    else:
        fault = origin_of(base_url)
    return f"{_MUST_URL}; the one given {fault}." if isinstance(fault, str) else None
