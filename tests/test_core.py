"""What every face does: requests out of what callers give, the end of an answer, the list of models."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from antiphon import AsyncClient, ChatCompletion, Client
from antiphon.calls import core
from antiphon.calls.core import ClientCore
from antiphon.calls.params import ChatParams, chat_request
from antiphon.chat.events import End, Start, TextDelta, UnknownEvent, UsageUpdate
from antiphon.chat.messages import Image, Message, Reasoning, Text
from antiphon.chat.requests import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolName
from antiphon.chat.usage import Usage
from antiphon.errors import (
    AntiphonError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    MissingAPIKeyError,
    StreamError,
)
from antiphon.formats.ollama import Ollama
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.exchange import HTTPTransport
from antiphon.http.transport import Timeout
from antiphon.providers.auth import no_auth
from antiphon.providers.http import HTTPProvider
from antiphon.providers.lookup import DEFAULT_MODEL
from antiphon.providers.model_lists import Model
from antiphon.sync import bridge
from antiphon.testing import Fault, Script, Upstream

KEY = "sk-canary-0123456789abcdef"


def request(messages: Any = "hi", model: str = "m", *, stream: bool = False, **params: Any) -> ChatRequest:
    """The neutral request of a call."""
    return chat_request(messages, model, params, stream=stream)


def sent(**params: Any) -> dict[str, Any]:
    """The JSON of a call that OpenAI's codec would send."""
    body: dict[str, Any] = msgspec.json.decode(OpenAIChat().encode_request(request(**params)).body)
    return {key: value for key, value in body.items() if key not in ("model", "messages")}


# --- messages


@pytest.mark.parametrize(
    "messages",
    [
        "hi",
        [{"role": "user", "content": "hi"}],
        ({"role": "user", "content": "hi"},),
        [MappingProxyType({"role": "user", "content": "hi"})],
        [Message.user("hi")],
        iter([{"role": "user", "content": "hi"}]),
    ],
    ids=["string", "list", "tuple", "mapping", "message", "iterator"],
)
def test_messages(messages: Any) -> None:
    """One string, dicts of OpenAI's shape, and `Message` objects say the same."""
    assert request(messages).messages == (Message.user("hi"),)


def test_messages_mixed() -> None:
    """Dicts and `Message` objects may stand side by side, and parts may be tuples."""
    parts = ({"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "http://x/y.png"}})
    assert request([Message.system("be brief"), {"role": "user", "content": parts}]).messages == (
        Message.system("be brief"),
        Message.user((Text("see"), Image(url="http://x/y.png"))),
    )


@pytest.mark.parametrize(
    ("messages", "path"),
    [
        (None, "$.messages"),
        ({"role": "user", "content": "hi"}, "$.messages"),
        (b"hi", "$.messages"),
        (Message.user("hi"), "$.messages"),
        (["hi"], "$.messages[0]"),
        ([None], "$.messages[0]"),
        ([{"content": "hi"}], "$.messages[0].role"),
        ([{"role": "user", "content": "hi"}, {"role": 3, "content": "x"}], "$.messages[1].role"),
        ([{"role": "user"}], "$.messages[0].content"),
        ([{"role": "user", "content": 3}], "$.messages[0].content"),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}], "$.messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "$.messages[0].content[0].image_url"),
        ([{"role": "user", "content": ["x"]}], "$.messages[0].content[0]"),
        ([{"role": "tool", "content": "x"}], "$.messages[0].tool_call_id"),
        ([{"role": "assistant", "tool_calls": [{"id": "a"}]}], "$.messages[0].tool_calls[0].function"),
        ([{"role": "assistant", "tool_calls": 5}], "$.messages[0].tool_calls"),
    ],
)
def test_malformed_messages(messages: Any, path: str) -> None:
    """A message of the wrong shape is an error that names the path of the fault, and is raised before anything runs."""
    script = Script("x")
    asks: list[Callable[[], Any]] = [
        lambda: Client(provider=script).chat.completions.create(messages, "m"),
        lambda: Client(provider=script).chat.completions.create(messages, "m", stream=True),
        lambda: Client(provider=script).chat.completions.stream(messages, "m"),
        lambda: AsyncClient(provider=script).chat.completions.create(messages, "m"),
        lambda: AsyncClient(provider=script).chat.completions.create(messages, "m", stream=True),
        lambda: ChatCompletion.create("m", messages, script),
        lambda: ChatCompletion.create_async("m", messages, script, stream=True),
    ]
    for ask in asks:
        with pytest.raises(BadRequestError, match=r"^\$") as caught:
            ask()
        assert (caught.value.param, caught.value.status) == (path, 400)
    assert script.requests == []


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"extra_body": {"a": [1.0, float("nan")]}}, "$.extra_body.a[1]"),
        ({"extra_body": {"a": float("inf")}}, "$.extra_body.a"),
        ({"extra_body": {"a": {"b": b"x"}}}, "$.extra_body.a.b"),
        ({"extra_body": {"a": {1: "x"}}}, "$.extra_body.a[1]"),
        ({"extra_body": 5}, "$.extra_body"),
        ({"metadata": {"k": b"x"}}, "$.metadata.k"),
        ({"metadata": {"k": float("nan")}}, "$.metadata.k"),
        ({"n": 0}, "$.n"),
        ({"strict": "x"}, "$.strict"),
        ({"think_tags": "opne"}, "$.think_tags"),
        ({"messages": 5}, "$.messages"),
        ({"messages": [{"role": "user", "content": [{"type": "x", "y": b"z"}]}]}, "$.messages[0].content[0].y"),
        ({"model": 5}, "$.model"),
    ],
    ids=str,
)
@pytest.mark.parametrize("format", ["openai-chat", "anthropic"])
def test_what_json_would_change(params: dict[str, Any], path: str, format: str) -> None:
    """What JSON does not have is not changed in silence: it is an error that names its path, like any wrong setting."""
    settings: dict[str, Any] = {"messages": "hi", "model": "m", **params}
    messages, model = settings.pop("messages"), settings.pop("model")
    with pytest.raises(BadRequestError) as caught:
        chat_request(messages, model, settings, stream=False, format=format)
    assert caught.value.param == path
    assert str(caught.value).startswith(path)


def test_what_holds_itself() -> None:
    """A message that holds itself is an error, not an endless walk."""
    message: dict[str, Any] = {"role": "user"}
    message["content"] = [message]
    with pytest.raises(BadRequestError, match="holds itself"):
        request([message])


def test_ids_of_tokens() -> None:
    """The ids of tokens in `logit_bias` are numbers in Python and keys in JSON."""
    assert sent(logit_bias={50256: -100})["logit_bias"] == {"50256": -100}


# --- parameters

TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}


def test_parameters_by_name() -> None:
    """Parameters have OpenAI's names and become what they mean."""
    got = request(
        temperature=0,
        top_p=0.5,
        top_k=3,
        max_tokens=9,
        stop=["a", "b"],
        n=2,
        seed=1,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        logprobs=True,
        top_logprobs=3,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        response_format=SCHEMA,
        reasoning_effort="low",
        user="u",
        service_tier="flex",
        stream_options={"include_usage": True},
        stream=True,
    )
    assert got == ChatRequest(
        "m",
        (Message.user("hi"),),
        tools=(Tool("f", "d", {"type": "object"}, True),),
        tool_choice=ToolName("f"),
        parallel_tool_calls=False,
        temperature=0,
        top_p=0.5,
        top_k=3,
        max_tokens=9,
        stop=("a", "b"),
        n=2,
        seed=1,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        logprobs=True,
        top_logprobs=3,
        response_format=ResponseFormat("json_schema", {"type": "object"}, "n", None, True),
        reasoning=ReasoningOptions(effort="low"),
        user="u",
        service_tier="flex",
        stream=True,
        include_usage=True,
    )


PASSED_ON: dict[str, Any] = {
    "logit_bias": {"50256": -100},
    "verbosity": "low",
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "metadata": {"a": "b"},
    "store": True,
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "web_search_options": {"search_context_size": "low"},
}


@pytest.mark.parametrize("name", PASSED_ON)
def test_parameters_of_openai_alone(name: str) -> None:
    """What only OpenAI's format knows is sent as it was given."""
    assert sent(**{name: PASSED_ON[name]}) == {name: PASSED_ON[name]}


def test_every_parameter_is_tried() -> None:
    """The tests here know every parameter that there is."""
    neutral = {*request().__struct_fields__} - {"model", "messages", "stream", "reasoning", "include_usage"}
    neutral -= {"extra", "form", "kept"}
    more = {"max_completion_tokens", "reasoning_effort", "stream_options"}
    ours = {"extra_body", "extra_headers", "timeout", "strict", "think_tags"}
    assert neutral | more | ours | {*PASSED_ON} == {*ChatParams.__annotations__}


@pytest.mark.parametrize("name", sorted({*ChatParams.__annotations__}))
def test_none_is_not_set(name: str) -> None:
    """`None` for any parameter is the same as leaving it out."""
    assert request(**{name: None}) == request()


def test_one_stop_string() -> None:
    """`stop` may be one string."""
    assert request(stop="a").stop == ("a",)
    assert request(stop=("a", "b")).stop == ("a", "b")


def test_names_of_the_limit() -> None:
    """The newer name of the limit goes before the older one, and is sent under whichever the provider knows."""
    assert request(max_tokens=1, max_completion_tokens=2).max_tokens == 2
    assert sent(max_completion_tokens=2) == {"max_tokens": 2}
    assert request(max_tokens=0).max_tokens == 0


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("temperature", "hot", "$.temperature"),
        ("temperature", True, "$.temperature"),
        ("max_tokens", 1.5, "$.max_tokens"),
        ("n", "2", "$.n"),
        ("stop", 3, "$.stop"),
        ("stop", ["a", 3], "$.stop[1]"),
        ("logprobs", 1, "$.logprobs"),
        ("user", 5, "$.user"),
        ("tools", {}, "$.tools"),
        ("tools", [{}], "$.tools[0].function"),
        ("tools", [{"type": "function", "function": {}}], "$.tools[0].function.name"),
        ("tool_choice", 5, "$.tool_choice"),
        ("response_format", "json", "$.response_format"),
        ("stream_options", {"include_usage": "yes"}, "$.stream_options.include_usage"),
    ],
)
def test_values_of_the_wrong_type(name: str, value: Any, path: str) -> None:
    """A value of the wrong type is an error with its path, and the value is not in the message."""
    with pytest.raises(BadRequestError) as caught:
        request(**{name: value})
    assert caught.value.param == path


@pytest.mark.parametrize(
    ("name", "hint"),
    [("temprature", "Did you mean 'temperature'?"), ("max_token", "Did you mean 'max_tokens'?"), ("zzz", "")],
)
def test_unknown_parameters(name: str, hint: str) -> None:
    """A parameter that does not exist is a TypeError, with the one that may have been meant."""
    with pytest.raises(TypeError, match=f"A chat completion has no parameter '{name}'.") as caught:
        Client(provider=Script("x")).chat.completions.create("hi", "m", **{name: 1})  # type: ignore[call-overload]
    assert hint in str(caught.value)
    assert "extra_body" in str(caught.value)


def test_extra_body() -> None:
    """Further fields are sent as they are, an explicit null too, and go before what was set by name."""
    assert sent(extra_body={"min_p": 0.1, "seed": None, "guided": {"a": None}}) == {
        "min_p": 0.1,
        "seed": None,
        "guided": {"a": None},
    }
    assert sent(temperature=1, extra_body={"temperature": 0}) == {"temperature": 0}
    assert sent(temperature=1, extra_body={"temperature": None}) == {"temperature": None}
    assert sent(stream=True, extra_body={"stream": False}) == {"stream": True}
    assert sent(extra_body={}) == {}


def test_unknown_stream_options() -> None:
    """What only OpenAI knows of `stream_options` is sent as well."""
    options = {"include_usage": True, "include_obfuscation": False}
    assert sent(stream_options=options, stream=True) == {"stream": True, "stream_options": options}
    assert sent(extra_body={"stream_options": options}, stream=True) == {"stream": True, "stream_options": options}


def test_values_are_copied_out_of_their_containers() -> None:
    """Tuples and mappings inside of parameters are sent as JSON has them."""
    assert sent(metadata=MappingProxyType({"a": "b"}), modalities=("text",)) == {
        "metadata": {"a": "b"},
        "modalities": ["text"],
    }


# --- clocks, headers, strictness


class Asked(Exception):
    """Carries a call out of a provider."""

    def __init__(self, call: Any) -> None:
        self.call = call


def seen_call(client_options: dict[str, Any], **params: Any) -> Any:
    """The call that a provider gets."""

    def raising(request: ChatRequest, call: Any) -> str:
        raise Asked(call)

    with Client(provider=raising, **client_options) as client, pytest.raises(Asked) as caught:
        client.chat.completions.create("hi", "m", **params)
    return caught.value.call


def test_timeout() -> None:
    """The call's clocks go before the client's; a number or a `timedelta` is the total."""
    assert seen_call({}).timeout == Timeout()
    assert seen_call({"timeout": 3}).timeout == Timeout(total=3)
    assert seen_call({"timeout": 3}, timeout=4.5).timeout == Timeout(total=4.5)
    assert seen_call({}, timeout=timedelta(minutes=1)).timeout == Timeout(total=60)
    assert seen_call({"timeout": 3}, timeout=Timeout(idle=1)).timeout == Timeout(idle=1)
    assert seen_call({"timeout": 3}, timeout=None).timeout == Timeout(total=3)


@pytest.mark.parametrize("timeout", [-1, 0])
def test_timeouts_that_are_none(timeout: float) -> None:
    """A clock that could not even begin is refused, in a client and in a call."""
    with pytest.raises(ValueError, match="total"):
        Client(timeout=timeout)
    with pytest.raises(ValueError, match="total"):
        Client(provider=Script("x")).chat.completions.create("hi", "m", timeout=timeout)


def test_extra_headers() -> None:
    """Further headers reach the provider by lower-case name."""
    assert seen_call({}, extra_headers={"X-Trace": "1"}).headers == {"x-trace": "1"}
    assert seen_call({}).headers == {}


def test_strict() -> None:
    """The call's strictness goes before the client's."""
    assert not seen_call({}).strict
    assert seen_call({"strict": True}).strict
    assert seen_call({}, strict=True).strict
    assert not seen_call({"strict": True}, strict=False).strict


SIGNED = [Message("assistant", (Reasoning("", "signature"), Text("hello"))), Message.user("and?")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_losses(stream: bool) -> None:
    """What the provider's format cannot say is on the receipt, or with `strict` an error before anything is sent."""
    with Upstream() as upstream, Client(base_url=upstream.base_url) as client:
        answer = client.chat.completions.create(SIGNED, "m")
        assert [(loss.kind, loss.path) for loss in answer.losses] == [("dropped", "$.messages[0].parts[0].signature")]
        asked = partial(client.chat.completions.create, SIGNED, "m", strict=True, stream=stream)
        with pytest.raises(BadRequestError, match=r"strict=True forbids .* \$\.messages\[0\]\.parts\[0\]") as caught:
            list(asked())
        assert caught.value.param == "$.messages[0].parts[0].signature"
        assert len(upstream.requests) == 1


# --- the end of an answer


def whole(script: Any) -> Any:
    """A whole answer."""
    return Client(provider=script).chat.completions.create("hi", "m")


def streamed(script: Any) -> Any:
    """All chunks of an answer."""
    return list(Client(provider=script).chat.completions.create("hi", "m", stream=True))


def accumulated(script: Any) -> Any:
    """An answer that was put together on the way."""
    with Client(provider=script).chat.completions.stream("hi", "m") as stream:
        return stream.get_final_completion()


def text(script: Any) -> Any:
    """The text of an answer."""
    return ChatCompletion.create("m", "hi", script)


def pieces(script: Any) -> Any:
    """The pieces of its text."""
    return list(ChatCompletion.create("m", "hi", script, stream=True))


FACES = [whole, streamed, accumulated, text, pieces]


@pytest.mark.parametrize("face", FACES)
def test_a_provider_that_just_stops(face: Callable[[Any], Any]) -> None:
    """An answer without an end is an error, whatever came before."""
    with pytest.raises(StreamError, match="'script' stopped without saying that its answer is complete") as caught:
        face(Script("a", finish_reason=None))
    assert (caught.value.provider, caught.value.model) == ("script", "m")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("steps", [(), (UsageUpdate(Usage(input_uncached=1)),), (UnknownEvent("x", {}),)])
def test_a_handler_that_says_nothing(face: Callable[[Any], Any], steps: tuple[Any, ...]) -> None:
    """An answer with an end and nothing before it is an error too."""
    with pytest.raises(StreamError, match="'script' said nothing at all"):
        face(Script(*steps))


@pytest.mark.parametrize("face", FACES)
def test_an_answer_of_no_text_is_an_answer(face: Callable[[Any], Any]) -> None:
    """A choice with nothing in it was made, and is no error."""
    got = face(Script(TextDelta("")))
    assert got in ("", []) or got


def test_received() -> None:
    """The error of a broken answer holds what came of it, where it was put together."""
    script = Script("a", "b", Usage(output_visible=2), StreamError("cut"))
    with pytest.raises(StreamError, match="cut") as caught:
        whole(script)
    received = caught.value.received
    assert (received.content, received.choices[0].finish_reason) == ("ab", None)
    assert received.usage == Usage(output_visible=2)
    with pytest.raises(StreamError) as caught:
        accumulated(script)
    assert caught.value.received == received


def test_received_of_nothing() -> None:
    """Where nothing came there is nothing in it."""
    with pytest.raises(StreamError) as caught:
        whole(Script(StreamError("cut")))
    assert caught.value.received.choices == ()


# --- models


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server with two models."""
    with Upstream(models=("one", "two")) as upstream:
        yield upstream


@pytest.mark.anyio
async def test_models_of_one_provider(upstream: Upstream) -> None:
    """A client of one provider lists that one's models, by the names to pass to it."""
    async with AsyncClient(base_url=upstream.base_url, api_key=KEY) as client:
        assert await client.models.list() == [Model("one", "127.0.0.1", 1), Model("two", "127.0.0.1", 1)]
    (request,) = upstream.requests
    assert (request.method, request.path, request.body) == ("GET", "/v1/models", b"")
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_models_of_a_provider_of_your_own() -> None:
    """A provider of one's own is its one model."""
    with Client(provider=Script("x", name="mine")) as client:
        assert client.models.list() == [Model("mine", "mine")]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.of_status(401), AuthenticationError),
        (Fault.of_status(500), InternalServerError),
        (Fault.garbage(), APIError),
        (Fault.of_status(200, "[]"), None),
        (Fault.of_status(200, '[{"id": "bare"}]'), None),
        (Fault.of_status(200, '{"data": [{"object": "x"}]}'), APIError),
        (Fault.of_status(200, ""), APIError),
    ],
)
def test_models_that_are_not_told(fault: Fault, error: type[APIError] | None) -> None:
    """The one provider's failure to tell its models is the caller's error; a bare list is taken for one."""
    with Upstream(fault=fault) as upstream, Client(base_url=upstream.base_url, api_key=KEY) as client:
        if error is None:
            assert [model.id for model in client.models.list()] in ([], ["bare"])
            return
        with pytest.raises(error) as caught:
            client.models.list()
        assert caught.value.provider == "127.0.0.1"


def test_models_of_the_local_provider() -> None:
    """The local provider is listed by the name of its model, without loading it."""
    with Client(provider="local") as client:
        assert client.models.list() == [Model(DEFAULT_MODEL.removeprefix("local/"), "local")]


def test_models_take_the_clients_clocks() -> None:
    """Asking for models takes no longer than the client may."""
    with (
        Upstream(fault=Fault.stall(after=-1)) as upstream,
        Client(base_url=upstream.base_url, timeout=0.02) as client,
        pytest.raises(APITimeoutError, match="total"),
    ):
        client.models.list()


def test_models_without_a_key() -> None:
    """A provider that wants a key is not asked for its models without one."""
    with pytest.raises(MissingAPIKeyError), Client(provider="openai") as client:
        client.models.list()


def test_models_of_everyone(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other client lists the local model and those of every provider with a key; who fails is logged, left out."""
    for name in ("OPENAI", "GROQ"):
        monkeypatch.setenv(f"{name}_API_KEY", f"{KEY}-{name}")
        monkeypatch.setenv(f"{name}_BASE_URL", upstream.base_url)
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as closed:  # a port where nobody listens afterwards
        monkeypatch.setenv("MISTRAL_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/v1")
    with Client(api_key="sk-of-this-client-0123") as client:
        listed = client.models.list()
    assert listed == [
        Model(DEFAULT_MODEL, "local"),
        Model("groq/one", "groq", 1),
        Model("groq/two", "groq", 1),
        Model("openai/one", "openai", 1),
        Model("openai/two", "openai", 1),
    ]
    assert {r.headers["authorization"] for r in upstream.requests} == {f"Bearer {KEY}-OPENAI", f"Bearer {KEY}-GROQ"}
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith("No list of models from Mistral")
    assert KEY not in caplog.text


def test_one_silent_provider_does_not_hold_up_the_list(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each provider has its own time to list its models, and those that answer within it are listed."""
    monkeypatch.setattr(core, "LIST_SECONDS", 0.2)
    with Upstream(fault=Fault.stall(after=-1)) as silent:
        for name, url in (("GROQ", upstream.base_url), ("MISTRAL", silent.base_url)):
            monkeypatch.setenv(f"{name}_API_KEY", KEY)
            monkeypatch.setenv(f"{name}_BASE_URL", url)
        with Client() as client:
            assert [model.id for model in client.models.list()] == [DEFAULT_MODEL, "groq/one", "groq/two"]
        with Client(provider="mistral") as client, pytest.raises(APITimeoutError):
            client.models.list()


def test_wrong_setting_of_one_provider_leaves_it_out(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A key or an address that cannot be is logged, and the other providers are listed."""
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    monkeypatch.setenv("GROQ_BASE_URL", upstream.base_url)
    monkeypatch.setenv("MISTRAL_API_KEY", "abc\ndefghijk")
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    monkeypatch.setenv("DEEPSEEK_BASE_URL", "http://[::1")
    with Client() as client:
        assert [model.id for model in client.models.list()] == [DEFAULT_MODEL, "groq/one", "groq/two"]
    assert "No list of models from Mistral" in caplog.text
    assert "No list of models from DeepSeek" in caplog.text
    assert "defghijk" not in caplog.text


@pytest.mark.parametrize("host", ["[::1", "http://[::1", "[x]:1"])
def test_host_that_is_no_address_is_an_error_of_the_tree(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read as an address says so, and which variable it is in."""
    monkeypatch.setenv("OLLAMA_HOST", host)
    with Client(provider="ollama") as client:
        for ask in (client.models.list, lambda: client.chat.completions.create("hi", "x")):
            with pytest.raises(AntiphonError, match="OLLAMA_HOST"):
                ask()


def test_no_keys_no_models() -> None:
    """Without a key anywhere there is the local model, and nobody is asked."""
    with Client() as client:
        assert client.models.list() == [Model(DEFAULT_MODEL, "local")]


def test_a_core_that_was_never_used() -> None:
    """A core can be made of nothing, and closed without having been used."""
    bridge.run(ClientCore().aclose)


def test_a_second_start() -> None:
    """Who answers may be told twice, and the end may carry the usage."""
    got = whole(Script(Start(model="m-2"), "a", End("stop", Usage(output_visible=1)), finish_reason=None))
    assert (got.model, got.content, got.usage) == ("m-2", "a", Usage(output_visible=1))


# --- requests of the server


def test_a_request_that_crosses_keeps_nothing() -> None:
    """What a request was read from is held for a provider of its own format, and let go for any other."""
    read = Ollama().decode_request(b'{"model": "m", "messages": [{"role": "user", "content": "Hi."}]}')
    for codec, kept in ((Ollama(), True), (OpenAIChat(), False)):
        up = HTTPProvider("up", codec, "http://up.example", auth=no_auth, transport=HTTPTransport())
        route = ClientCore().route(read, format="ollama", found=(up, "m"))
        assert (route.request.kept is not None) is kept
        assert (route.request.messages[0].kept is not None) is kept
        assert route.request == read
