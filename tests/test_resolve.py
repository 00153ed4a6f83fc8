"""Which provider answers, where it is, and with whose key."""

from __future__ import annotations

import gc
import re
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from antiphon import ChatCompletion, Client, models
from antiphon.errors import AntiphonError, MissingAPIKeyError, ModelNotFoundError, ProviderNotFoundError
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.exchange import HTTPTransport
from antiphon.providers import catalog
from antiphon.providers.auth import Secret
from antiphon.providers.catalog import ProviderRow
from antiphon.providers.function import FunctionProvider
from antiphon.providers.http import HTTPProvider
from antiphon.providers.local.model import DEFAULT_NAME
from antiphon.providers.lookup import DEFAULT_MODEL, ProviderLookup, ProviderNames, default_model
from antiphon.testing import Fault, ProviderMock, Script, SeenRequest, Upstream

KEY = "sk-canary-0123456789abcdef"
OTHER = "sk-another-0123456789abcdef"


class NoTransport:
    """A transport for tests in which nothing may be sent."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse."""
        raise AssertionError("nothing is sent here")

    async def aclose(self) -> None:
        """Do nothing."""


def resolver(**options: Any) -> ProviderLookup:
    """A resolver that can send nothing."""
    return ProviderLookup(NoTransport(), **options)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(catalog._registered)
    yield
    catalog._registered.clear()
    catalog._registered.update(before)


def ask(model: str, **options: Any) -> str:
    """The text of an answer, from a client of its own."""
    with Client(**options) as client:
        return client.chat.completions.create("hi", model).content or ""


def seen(upstream: Upstream) -> SeenRequest:
    """The one request that the server got."""
    (request,) = upstream.requests
    return request


# --- who answers


def test_a_provider_of_your_own() -> None:
    """A provider that is not a name gets the model's name as it is, slash and all."""
    handler, model = resolver(provider=ProviderMock).find("openai/gpt-5")
    assert isinstance(handler, FunctionProvider)
    assert handler.target is ProviderMock
    assert model == "openai/gpt-5"


def test_the_calls_own_provider_goes_first() -> None:
    """What a call names goes before what its client was made with."""
    script = Script("call")
    assert resolver(provider=ProviderMock).find("m", script) == (script, "m")
    assert resolver(base_url="http://localhost/v1").find("m", script) == (script, "m")


def test_a_models_own_provider(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """`provider/model` goes to that provider, with the key from the environment, and the rest as the model's name."""
    monkeypatch.setenv("OPENROUTER_BASE_URL", upstream.base_url)
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    assert ask("openrouter/qwen/qwen-3") == "Hello there"
    assert seen(upstream).json["model"] == "qwen/qwen-3"
    assert seen(upstream).headers["authorization"] == f"Bearer {KEY}"


def test_a_providers_name(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a provider's name the model's is passed on as it is, in a client and in a call."""
    monkeypatch.setenv("GROQ_BASE_URL", upstream.base_url)
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert ask("openai/gpt-oss-20b", provider="groq") == "Hello there"
    assert ChatCompletion.create("openai/gpt-oss-20b", "hi", "groq") == "Hello there"
    assert [r.json["model"] for r in upstream.requests] == ["openai/gpt-oss-20b"] * 2


def test_a_base_url(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a base URL everything goes there: with the key given, and never with one from the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert ask("openai/gpt-5", base_url=upstream.base_url) == "Hello there"
    assert ask("m", base_url=upstream.base_url + "/", api_key=OTHER) == "Hello there"
    first, second = upstream.requests
    assert (first.json["model"], first.path) == ("openai/gpt-5", "/v1/chat/completions")
    assert (second.json["model"], second.path) == ("m", "/v1/chat/completions")
    assert "authorization" not in first.headers
    assert second.headers["authorization"] == f"Bearer {OTHER}"


def test_a_base_url_of_a_named_format(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a provider's name beside it, a base URL takes its quirks and its key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Client(provider="openai", base_url=upstream.base_url) as client:
        client.chat.completions.create("hi", "m", max_tokens=5)
    assert seen(upstream).json["max_completion_tokens"] == 5
    assert seen(upstream).headers["authorization"] == f"Bearer {KEY}"


CALL = {"id": "abcDEF123", "type": "function", "function": {"name": "double", "arguments": '{"x":1}'}}


def answering(message: dict[str, Any]) -> Fault:
    """A whole answer with a tool call, as a server writes it."""
    whole = {"role": "assistant", "content": None, "tool_calls": [CALL], **message}
    choice = {"index": 0, "message": whole, "finish_reason": "tool_calls"}
    return Fault.of_status(200, msgspec.json.encode({"id": "c", "model": "m", "choices": [choice]}).decode())


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("provider", "message", "back"),
    [
        ("mistral", {"content": [{**THINKING, "closed": True}]}, {"content": [{**THINKING, "closed": True}]}),
        ("mistral", {"reasoning_content": "hm"}, {"content": [THINKING]}),
        ("together", {"reasoning_content": "hm"}, {"content": None}),
        ("deepseek", {"reasoning_content": "hm"}, {"content": None, "reasoning_content": "hm"}),
    ],
)
def test_own_thoughts_in_a_loop(upstream: Upstream, provider: str, message: Any, back: dict[str, Any]) -> None:
    """A provider's own thoughts go back in its own way, or not at all, and nothing of it is a loss in a strict loop."""
    upstream.fault = answering(message)

    def double(x: int) -> int:
        """Double it, and let the next answer be another."""
        upstream.fault = None
        return 2 * x

    with Client(provider=provider, base_url=upstream.base_url, api_key=KEY) as client:
        run = client.chat.completions.run("hi", "m", tools=[double], strict=True)
    assert [answer.losses for answer in run.completions] == [(), ()]
    sent = upstream.requests[-1].json["messages"]
    assert sent[1] == {"role": "assistant", "tool_calls": [CALL], **back}
    assert (sent[2]["tool_call_id"], sent[2]["content"]) == ("abcDEF123", "2")


def test_mistrals_own_names(upstream: Upstream) -> None:
    """Mistral gets the seed under its name, ids that it takes, and no options of streams."""
    calls = [{"id": "toolu_01ABCDEFGHIJ", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "toolu_01ABCDEFGHIJ", "content": "r"},
    ]
    with Client(provider="mistral", base_url=upstream.base_url, api_key=KEY) as client:
        list(client.chat.completions.create(messages, "m", seed=7, stream=True, stream_options={"include_usage": True}))
    sent = seen(upstream).json
    assert (sent["random_seed"], "seed" in sent, "stream_options" in sent) == (7, False, False)
    (call,) = sent["messages"][1]["tool_calls"]
    assert re.fullmatch("[A-Za-z0-9]{9}", call["id"])
    assert sent["messages"][2]["tool_call_id"] == call["id"]


def test_a_key_given_goes_before_the_environments(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """`api_key` is used in place of the key in the environment, as a string or a `Secret`."""
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask("openai/m", api_key=OTHER)
    ask("openai/m", api_key=Secret(OTHER))
    assert [r.headers["authorization"] for r in upstream.requests] == [f"Bearer {OTHER}"] * 2


def test_a_key_that_changes(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is read at every call, so that a new key counts at once."""
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
    with Client() as client:
        for key in (KEY, OTHER):
            monkeypatch.setenv("OPENAI_API_KEY", key)
            client.chat.completions.create("hi", "openai/m")
    assert [r.headers["authorization"] for r in upstream.requests] == [f"Bearer {KEY}", f"Bearer {OTHER}"]


def test_registered_providers() -> None:
    """A provider that was registered is found by its name, before the slash or as `provider`."""
    catalog.register("echo", lambda request: f"{request.model}!")
    assert ChatCompletion.create("echo/m", "hi") == "m!"
    assert ChatCompletion.create("x/m", "hi", "echo") == "x/m!"


def test_a_row_that_needs_no_key(upstream: Upstream) -> None:
    """A registered row may do without a key, and name a default model."""
    row = ProviderRow(id="mine", name="Mine", codec="openai-chat", base_url=upstream.base_url, default_model="best")
    catalog.register("mine", row)
    assert ChatCompletion.create("", "hi", "mine") == "Hello there"
    assert seen(upstream).json["model"] == "best"


# --- the default


def test_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The empty name is the local model, or what ANTIPHON_MODEL says at the time of the call."""
    assert default_model() == DEFAULT_MODEL
    monkeypatch.setenv("ANTIPHON_MODEL", " echo/x ")
    assert default_model() == "echo/x"
    catalog.register("echo", lambda request: request.model)
    assert ChatCompletion.create(models.default, "hi") == "x"
    monkeypatch.setenv("ANTIPHON_MODEL", " ")
    assert default_model() == DEFAULT_MODEL


# --- errors


@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        ("opnai/gpt-5", ProviderNotFoundError, "Did you mean 'openai'"),
        ("gpt-5", ModelNotFoundError, "Did you mean 'openai/gpt-5'"),
        ("openai", ModelNotFoundError, "is only a provider"),
        ("openai/", ModelNotFoundError, "'openai/<model>'"),
        ("nobody-knows/this", ProviderNotFoundError, "No provider is called 'nobody-knows'"),
    ],
)
def test_unknown_names(model: str, error: type[Exception], match: str) -> None:
    """A name that nobody has is an error with near matches, and the prompt goes nowhere."""
    with pytest.raises(error, match=match):
        resolver().find(model)


def test_unknown_provider() -> None:
    """So is the name of a provider, in a client and in a call."""
    for find in (lambda: resolver(provider="opnai").find("m"), lambda: resolver().find("m", "opnai")):
        with pytest.raises(ProviderNotFoundError, match="'openai'"):
            find()


def test_missing_key() -> None:
    """A provider without its key is an error that names the variable."""
    with pytest.raises(MissingAPIKeyError, match="set OPENAI_API_KEY in the environment, or pass api_key") as caught:
        resolver().find("openai/gpt-5")
    assert caught.value.provider == "openai"


def test_no_model_named() -> None:
    """A provider without a default model wants one named."""
    with pytest.raises(ModelNotFoundError, match="No model was named, and OpenAI has no default one") as caught:
        resolver(provider="openai", api_key=KEY).find("")
    assert caught.value.provider == "openai"


def test_format_of_the_future() -> None:
    """A row with a format that this version lacks is an error, not a guess."""
    catalog.register("new", ProviderRow(id="new", name="New", codec="later", base_url="http://localhost"))
    with pytest.raises(AntiphonError, match="New speaks the format 'later', which this version does not know"):
        resolver().find("new/m")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:8000", "does not begin with http:// or https:// and a host"),
        ("/v1", "does not begin with"),
        ("", "does not begin with"),
        ("ftp://localhost/v1", "does not begin with"),
        ("http://", "does not begin with"),
        ("file:///x", "does not begin with"),
        ("http://localhost/v1?key=canary", "leave out everything from [?] or # on"),
        ("http://localhost/v1?", "leave out everything from"),
        ("http://localhost/v1#canary", "leave out everything from"),
        ("http://user:canary@localhost/v1", "belong into api_key"),
        ("http://canary@localhost/v1", "belong into api_key"),
        (" http://localhost/v1", "a space or a control character"),
        ("http://localhost/v1\n", "a space or a control character"),
        ("http://local\thost/canary", "a space or a control character"),
        ("http://localhost/v\u20281", "a space or a control character"),
        ("http://localhost:0/v1", "names port 0"),
        ("http://localhost:65536/v1", "port is not a number from 1 to 65535"),
        ("http://localhost:canary/v1", "port is not a number from 1 to 65535"),
        ("http://[::1/v1", "is malformed"),
    ],
)
def test_a_base_url_that_is_none(url: str, why: str) -> None:
    """A base URL has to be a whole one and nothing more, and that is said when the client is made."""
    for options in ({}, {"provider": "anthropic"}):
        with pytest.raises(ValueError, match=f"base_url must be a whole URL such as 'http.*{why}") as raised:
            Client(base_url=url, **options)
        assert "canary" not in str(raised.value)


@pytest.mark.parametrize("url", [5, b"http://canary", object])
def test_a_base_url_of_another_type(url: Any) -> None:
    """A base URL that is no string is an error when the client is made."""
    with pytest.raises(TypeError, match=rf"as a string; the one given is of the type {type(url).__name__}\.$"):
        Client(base_url=url)


def test_an_api_key_of_another_type(upstream: Upstream) -> None:
    """A key that is no string is an error before anything is sent, and is not shown."""
    for key in (5, 0, b"canary"):
        client: Any = Client(base_url=upstream.base_url, api_key=key)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="An API key is a string or a Secret") as raised:
            client.chat.completions.create("hi", "m")
        assert "canary" not in str(raised.value)
    assert upstream.requests == []


def test_a_base_url_does_not_go_with_every_provider() -> None:
    """A base URL moves only what is reached over HTTP."""
    with pytest.raises(TypeError, match="base_url goes with the name of a provider"):
        Client(base_url="http://localhost/v1", provider=ProviderMock)
    with pytest.raises(AntiphonError, match="'local' is not reached over HTTP"):
        resolver(base_url="http://localhost/v1", provider="local").find("m")
    catalog.register("echo", ProviderMock)
    with pytest.raises(AntiphonError, match="'echo' is not reached over HTTP"):
        resolver(base_url="http://localhost/v1", provider="echo").find("m")


def test_what_is_no_provider() -> None:
    """A client that is given no provider at all says so when it is made."""
    with pytest.raises(TypeError, match="is not a provider"):
        Client(provider=3)
    with pytest.raises(TypeError, match="'Script' is not a provider"):
        Client(provider=Script)


# --- what is kept


def test_endpoints_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One endpoint serves all calls to one place with one key, and nothing shows the key."""
    found = resolver()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    one, two = found.find("openai/a")[0], found.find("openai/b")[0]
    assert one is two
    assert isinstance(one, HTTPProvider)
    assert repr(one) == "Endpoint('openai', 'https://api.openai.com/v1')"
    assert KEY not in repr(vars(found))
    assert KEY not in repr(vars(one))


def test_classes_keep_their_instance() -> None:
    """A class that is given as the provider is made once for all calls of a client."""

    class Counting:
        made = 0

        def __init__(self) -> None:
            type(self).made += 1

        def create_completion(self, request: Any) -> str:
            return "ok"

    for _ in range(3):
        assert ChatCompletion.create("m", "x", Counting) == "ok"
    assert Counting.made == 1


def test_functions_are_forgotten() -> None:
    """A closure that was given as the provider of one call is not kept alive by it."""

    def closure(request: Any) -> str:
        return "ok"

    gone = threading.Event()
    weakref.finalize(closure, gone.set)
    assert ChatCompletion.create("m", "x", closure) == "ok"
    del closure
    deadline = time.monotonic() + 10
    while not gone.wait(0.01) and time.monotonic() < deadline:  # the thread that called it may not have returned yet
        gc.collect()
    assert gone.is_set()


def test_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has one provider if it was made for it, and none where each call's model says who."""
    assert resolver().only() is None
    script = Script()
    assert resolver(provider=script).only() is script
    assert isinstance(resolver(base_url="http://localhost/v1").only(), HTTPProvider)
    with pytest.raises(MissingAPIKeyError):
        resolver(provider="openai").only()


@pytest.mark.parametrize("name", ["local", "", DEFAULT_MODEL])
def test_names_of_the_local_model(name: str) -> None:
    """The local model is the default one, has a short name, and is the same under each."""
    handler, model = resolver().find(name)
    assert (handler.name, model) == ("local", DEFAULT_NAME)
    assert f"local/{DEFAULT_NAME}" == DEFAULT_MODEL


def test_a_model_that_is_no_name() -> None:
    """A model that is no string is an error that shows what one looks like."""
    with pytest.raises(TypeError, match="a string such as"):
        resolver().find(5)  # type: ignore[arg-type]


# --- names that go before the catalog's


def named(**names: Any) -> ProviderLookup:
    """A resolver with names of its own, that can send nothing."""
    return resolver(names=ProviderNames(**names))


ALIASES = {
    "fast": "echo/small",
    "faster": "fast",
    "claude-*": "echo/anthropic-*",
    "claude-3-*": "echo/old",
    "claude-3-opus": "echo/opus",
    "*": "echo/any-*",
    "echo/big-*": "echo/huge-*",
}


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("fast", "small"),
        ("faster", "small"),
        ("claude-4", "anthropic-4"),
        ("claude-", "any-claude-"),
        ("claude-3-haiku", "old"),
        ("claude-3-opus", "opus"),
        ("claude-3-opus-2", "old"),
        ("claude-*", "anthropic-*"),
        ("gpt-5", "any-gpt-5"),
        ("echo/big-one", "huge-one"),
        ("echo/fast", "fast"),
        ("echo/claude-4", "claude-4"),
    ],
)
def test_aliases(model: str, found: str) -> None:
    """An alias leads on until the name is none; an exact one goes first, then the longest before a star."""
    assert named(aliases=ALIASES, providers={"echo": Script()}).find(model)[1] == found


@pytest.mark.parametrize(
    "aliases", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b-1", "b-*": "c-*", "c-*": "a"}, {"*": "x"}, {"a/*": "a/b-*"}]
)
def test_aliases_in_a_circle(aliases: dict[str, str]) -> None:
    """Aliases that lead in a circle are an error that names one of them."""
    model = next(iter(aliases)).replace("*", "1")
    with pytest.raises(ModelNotFoundError, match="leads back to itself"):
        named(aliases=aliases).find(model)


def test_the_catalogs_aliases_hold_beside_them() -> None:
    """An alias may lead to one of the catalog, and the catalog's hold where no other goes first."""
    assert named(aliases={"mine": "local"}).find("mine")[1] == DEFAULT_NAME
    assert named(aliases={"mine": "local"}).find("local")[1] == DEFAULT_NAME
    assert named(aliases={"local": "echo/x"}, providers={"echo": Script("x")}).find("local")[1] == "x"


@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        ("fist", ModelNotFoundError, "Did you mean 'fast'[?]"),
        ("gpt-6", ModelNotFoundError, "Did you mean 'gpt-4' or 'openai/gpt-6'"),
        ("mine", ModelNotFoundError, "'mine' is only a provider.*'mine/<model>'"),
        ("minn", ModelNotFoundError, "'mine/<model>'"),
        ("mime/x", ProviderNotFoundError, "Did you mean 'mine'"),
        ("opnai/x", ProviderNotFoundError, "Did you mean 'openai'"),
    ],
)
def test_near_names(model: str, error: type[Exception], match: str) -> None:
    """An unknown name is an error whose near matches have aliases and providers of these names among them."""
    with pytest.raises(error, match=match) as raised:
        named(aliases={"fast": "mine/x", "gpt-4": "mine/x", "fisty*": "mine/x"}, providers={"mine": Script()}).find(
            model
        )
    assert "fisty" not in str(raised.value)


def test_providers_of_these_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider of these names goes before one of the catalog, by each of its spellings and as `provider`."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    script = Script("mine")
    found = named(providers={"gemini": script})
    for model in ("gemini/x", "google/x", "Google/x", " GEMINI/x"):
        assert found.find(model) == (script, "x")
    assert found.find("x", "google") == (script, "x")
    assert resolver().find("google/x")[0].name == "gemini"
    assert next(iter(found.known().items())) == ("gemini", script)
    assert set(found.known()) == set(catalog.providers())


def test_a_class_of_these_names_is_made_once() -> None:
    """A class among these names keeps its instance."""
    found = named(providers={"mine": ProviderMock})
    first, second = found.find("mine/a")[0], found.find("mine/b")[0]
    assert first is second


def test_providers_that_are_switched_off() -> None:
    """A provider that was taken away is neither found, by any of its spellings, nor listed."""
    found = named(without={"gemini", "mine"}, providers={"mine": Script()})
    for name in ("gemini", "google", "mine"):
        with pytest.raises(ProviderNotFoundError, match=f"'{name}' is switched off"):
            found.find(f"{name}/x")
    assert set(found.known()) == set(catalog.providers()) - {"gemini"}


def test_keys_of_these_names(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of these names goes before the environment's, and after the one of the call."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    names = ProviderNames(keys={"openai": Secret(OTHER)})
    rows = {name: catalog.find_provider(name) for name in ("openai", "groq", "mistral")}
    assert all(isinstance(row, ProviderRow) for row in rows.values())
    keys: Any = {name: names.key(row) for name, row in rows.items() if isinstance(row, ProviderRow)}
    assert keys == {"openai": Secret(OTHER), "groq": Secret(KEY), "mistral": None}
    made = resolver(names=names)
    one = made.find("openai/m")[0]
    assert isinstance(one, HTTPProvider)
    assert one is not resolver(names=names, api_key=KEY).find("openai/m")[0]
    assert KEY not in repr(vars(made))
    assert OTHER not in repr(names)


def test_a_row_with_a_key_of_these_names(upstream: Upstream) -> None:
    """A row that names no variable takes the key that these names have for it."""
    row = ProviderRow(id="mine", name="Mine", codec="openai-chat", base_url=upstream.base_url)
    names = ProviderNames(providers={"mine": row}, keys={"mine": Secret(OTHER)})
    handler, model = ProviderLookup(HTTPTransport(), names=names).find("mine/m")
    assert ChatCompletion.create(model, "hi", handler) == "Hello there"
    assert seen(upstream).headers["authorization"] == f"Bearer {OTHER}"


def test_the_default_of_these_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default model of these names goes before the environment's, and may be an alias."""
    monkeypatch.setenv("ANTIPHON_MODEL", "echo/environment")
    names = {"providers": {"echo": Script()}, "aliases": {"fast": "echo/small"}}
    assert named(**names, default_model="fast").find("")[1] == "small"
    assert named(**names).find("")[1] == "environment"


def test_files_that_may_be_named() -> None:
    """Where files are listed, a model's file is found by an alias for it, and no caller can name another."""
    names = {"aliases": {"mine": "local//m/a.gguf", "dir-*": "local//m/*.gguf"}, "files": {"/m/a.gguf"}}
    assert named(**names).find("mine")[1] == "/m/a.gguf"
    assert named(**names).find("local")[1] == DEFAULT_NAME
    for model in ("local//m/b.gguf", "dir-b", "local/B.GGUF", "local/~/a.gguf"):
        with pytest.raises(ModelNotFoundError, match="where an alias in the configuration names it"):
            named(**names).find(model)
    assert named().find("local//m/b.gguf")[1] == "/m/b.gguf"


# --- answers that are written again


def exact(handler: Any) -> bool:
    """Whether the answers of an endpoint remember how they were written."""
    assert isinstance(handler, HTTPProvider)
    assert isinstance(handler.codec, OpenAIChat)
    return handler.codec.exact


def test_answers_to_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the provider speaks the format that the answer is to have, it is remembered to the letter."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found = resolver()
    plain, same, other = (found.find("openai/m", exact_for=name)[0] for name in (None, "openai-chat", "anthropic"))
    assert [exact(handler) for handler in (plain, same, other)] == [False, True, False]
    assert plain is other
    assert same is found.find("openai/m2", exact_for="openai-chat")[0]
    server = resolver(base_url="http://localhost/v1")
    assert exact(server.find("m", exact_for="openai-chat")[0])
    assert not exact(server.find("m")[0])
    assert server.find("m")[0] is server.find("m")[0]
    for provider in ("openai", None):
        assert exact(resolver(base_url="http://localhost/v1", provider=provider).find("m", exact_for="openai-chat")[0])
