"""The local model: the real one where llama.cpp matters, and a stand-in for it where it would only be slow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from http.client import HTTPConnection
from operator import mul
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from antiphon import Client
from antiphon.chat.answers import Completion
from antiphon.chat.events import End, Finish, Start, TextDelta, fold
from antiphon.chat.messages import Audio, File, Image, Message, Text, ToolResult
from antiphon.chat.requests import ChatRequest, ResponseFormat, Tool
from antiphon.errors import (
    AntiphonError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    LocalModelError,
    ModelNotFoundError,
    StreamError,
)
from antiphon.http.transport import Timeout
from antiphon.providers.base import Call
from antiphon.providers.function import as_handler
from antiphon.providers.local.model import DEFAULT_NAME, LocalModel, local_model_for
from antiphon.sync import bridge
from tests.local_models import (
    Gate,
    Puppet,
    ask,
    comes_to_rest,
    counted,
    events_of,
    gate,
    last,
    local,
    piece,
    puppet,
    question,
)

__all__ = ["gate", "local", "puppet"]

LONG = ChatRequest("", (Message.user("Write a long story about a fox."),), temperature=0)
"""A request whose answer takes a minute."""

no_leaks = pytest.mark.usefixtures("local", "no_leaks")
"""For tests with the real model, which is loaded before `no_leaks` looks around for the first time."""

backends = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", "trio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "trio", "uvloop"]
)


# The real model


@pytest.mark.anyio
async def test_answer(local: LocalModel) -> None:
    """An answer begins with who gives it, comes in pieces, and ends with a reason and the tokens used."""
    events = await events_of(local, question(max_tokens=4))
    start, end = events[0], events[-1]
    assert isinstance(start, Start)
    assert (start.model, start.provider, start.id[:9]) == (DEFAULT_NAME, "local", "chatcmpl-")
    assert start.created > 1_700_000_000
    assert isinstance(end, End)
    assert [event.reason for event in events if isinstance(event, Finish)] == ["length"]
    assert len([event for event in events if isinstance(event, TextDelta)]) >= 4
    answer = fold(events)
    assert answer.content
    assert answer.usage is not None
    assert (answer.usage.output_visible, answer.usage.input_cache_read) == (4, 0)
    assert (answer.usage.prompt_tokens or 0) > 10


def in_a_loop(function: Callable[[], Completion], **options: Any) -> Completion:
    async def main() -> Completion:
        return function()

    return anyio.run(main, **options)


def in_a_worker_thread(function: Callable[[], Completion]) -> Completion:
    async def main() -> Completion:
        return await anyio.to_thread.run_sync(function)

    return anyio.run(main)


@no_leaks
def test_every_calling_style(local: LocalModel) -> None:
    """The same question has the same answer, reason and usage in every calling style, whole or as a stream."""
    request = question("Hi.", max_tokens=2)

    def whole(**options: Any) -> Completion:
        return bridge.run(ask, local, request, **options)

    def stream(**options: Any) -> Completion:
        return fold(bridge.iterate(local, request.but(stream=True), Call(), **options))

    answers = {
        "async": anyio.run(ask, local, request),
        "trio": anyio.run(ask, local, request.but(stream=True), backend="trio"),
        "uvloop": anyio.run(ask, local, request, backend_options={"use_uvloop": True}),
        "sync": whole(),
        "sync stream": stream(),
        "nested": in_a_loop(lambda: whole(nested="thread")),
        "nested stream in uvloop": in_a_loop(lambda: stream(nested="thread"), backend_options={"use_uvloop": True}),
        "worker thread": in_a_worker_thread(stream),
    }
    said = {name: (a.content, a.choices[0].finish_reason, a.usage) for name, a in answers.items()}
    assert said == dict.fromkeys(said, said["async"])


@no_leaks
@pytest.mark.anyio
async def test_several_callers(local: LocalModel) -> None:
    """Calls at the same time get each its own answer, the one that it gets alone."""
    texts = ["Say hello.", "Name a colour."]
    together: dict[str, str | None] = {}

    async def caller(text: str) -> None:
        together[text] = (await ask(local, question(text, max_tokens=4))).content

    async with anyio.create_task_group() as group:
        for text in texts:
            group.start_soon(caller, text)
    assert together == {text: (await ask(local, question(text, max_tokens=4))).content for text in texts}
    assert len(set(together.values())) == len(texts)


@no_leaks
@pytest.mark.anyio
async def test_a_call_inside_a_stream(local: LocalModel) -> None:
    """While one answer is read, another can be asked for, with a blocking call on the same loop too."""
    async with aclosing(local(LONG.but(max_tokens=12), Call())) as events:
        assert isinstance(await anext(events), Start)
        inner = bridge.run(ask, local, question(max_tokens=2), nested="thread")
        rest = [event async for event in events]
    assert inner.content
    assert len([event for event in rest if isinstance(event, TextDelta)]) >= 12


@pytest.mark.anyio
async def test_limits(local: LocalModel) -> None:
    """`max_tokens` ends an answer with `length`, `stop` with `stop` and without its text; 0 is no limit."""
    cut = await ask(local, LONG.but(max_tokens=6))
    assert (cut.choices[0].finish_reason, cut.usage and cut.usage.completion_tokens) == ("length", 6)
    assert cut.content is not None
    stop = cut.content[9:12]
    stopped = await ask(local, LONG.but(max_tokens=0, stop=(stop,)))
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.content == cut.content[: cut.content.index(stop)]


@pytest.mark.anyio
async def test_schema(local: LocalModel) -> None:
    """An answer follows the JSON schema that was asked for, to the letter."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    request = question("Give me a number.", max_tokens=40, response_format=ResponseFormat("json_schema", schema))
    answer = await ask(local, request)
    assert answer.choices[0].finish_reason == "stop"
    assert [type(value) for value in json.loads(answer.content or "").values()] == [int]


@pytest.mark.anyio
async def test_repeatable(local: LocalModel) -> None:
    """With a seed the same answer comes again at any temperature, and its prompt is not taken from the cache."""
    request = question("Invent a name.", temperature=1.5, seed=7)
    answers = [await ask(local, request), await ask(local, question("x", max_tokens=1)), await ask(local, request)]
    assert answers[0].content == answers[2].content
    assert answers[0].usage == answers[2].usage
    assert answers[2].usage is not None
    assert answers[2].usage.input_cache_read == 0


@pytest.mark.anyio
async def test_cache(local: LocalModel) -> None:
    """Where nobody asked for a repeatable answer, what is known of the prompt is not read anew."""
    request = question(temperature=None, max_tokens=1)
    await ask(local, request)
    usage = (await ask(local, request)).usage
    assert usage is not None
    assert (usage.input_cache_read or 0) > (usage.input_uncached or 0)


@pytest.mark.anyio
async def test_logprobs(local: LocalModel) -> None:
    """Log-probabilities come where they are asked for."""
    answer = await ask(local, question(max_tokens=2, logprobs=True, top_logprobs=2))
    tokens = [
        token for part in answer.choices[0].message.parts if isinstance(part, Text) for token in part.logprobs or ()
    ]
    assert [len(token["top_logprobs"]) for token in tokens] == [2, 2]


@pytest.mark.anyio
async def test_tools_are_on_the_receipt(local: LocalModel) -> None:
    """A model whose template has no place for tools answers without them, says so, and refuses under `strict`."""
    call = Call()
    assert (await ask(local, question(tools=(Tool("weather"),), max_tokens=1), call)).choices[0].finish_reason
    assert [(loss.kind, loss.path) for loss in call.losses] == [("dropped", "$.tools")]
    with pytest.raises(BadRequestError, match="strict=True forbids") as caught:
        await ask(local, question(tools=(Tool("weather"),)), Call(strict=True))
    assert (caught.value.provider, caught.value.model, caught.value.param) == ("local", DEFAULT_NAME, "$.tools")


@no_leaks
@backends
@pytest.mark.anyio
async def test_given_up(local: LocalModel, anyio_backend: object) -> None:
    """A call that is given up stops the generation, by `break` or cancelled."""
    before = counted(local, "tokens_predicted_total")
    async with aclosing(local(LONG, Call())) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    with anyio.CancelScope() as scope:
        async with aclosing(local(LONG, Call())) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    scope.cancel()
    assert comes_to_rest(local)
    assert counted(local, "tokens_predicted_total") - before < 100


@no_leaks
@pytest.mark.anyio
async def test_given_up_before_the_first_token(local: LocalModel) -> None:
    """A call that is given up while its prompt is read stops that."""
    with anyio.move_on_after(0.2):
        await ask(local, question("word " * 3000))
    assert comes_to_rest(local)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (ChatRequest("", ()), "has no message"),
        (question("word " * 5000), r"exceeds the available context size \(4096 tokens\).*LocalModel\(…, context=…\)"),
        (question(n=2), "'n'"),
        (question(max_tokens=-7), "max_tokens"),
        (question(response_format=ResponseFormat("json_schema", {"type": "nonsense"})), "nonsense"),
        (question(extra={"openai-chat": {"min_p": "high"}}), "min_p"),
    ],
    ids=["empty", "too-long", "n", "negative", "schema", "extra"],
)
async def test_bad_requests(local: LocalModel, request_: ChatRequest, told: str) -> None:
    """What llama.cpp cannot do is a `BadRequestError` that says what is wrong, and not worth trying again."""
    with pytest.raises(BadRequestError, match=told) as caught:
        await ask(local, request_)
    assert (caught.value.provider, caught.value.model) == ("local", DEFAULT_NAME)
    assert caught.value.retryable is False


def test_http(local: LocalModel) -> None:
    """llama.cpp listens on loopback alone, and answers nobody who has not the key."""
    url, key = bridge.run(local.http)
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/v1")

    def status(method: str, path: str, authorization: str | None) -> int:
        connection = HTTPConnection(url.split("/")[2], timeout=30)
        connection.request(method, path, "{}", {"authorization": authorization} if authorization else {})
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    paths = ["/chat/completions", "/messages", "/responses", "/models", "/../props", "/../slots", "/../metrics"]
    found = {
        (path, authorization): status(method, f"/v1{path}".replace("/v1/..", ""), authorization)
        for path in paths
        for method in ["GET" if path in ("/models", "/../props", "/../slots", "/../metrics") else "POST"]
        for authorization in (None, "Bearer wrong")
    }
    assert found == dict.fromkeys(found, 401)
    assert status("GET", "/v1/models", f"Bearer {key.reveal()}") == 200
    assert key.reveal() not in repr((key, local))


# Other files


@no_leaks
def test_another_file(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any GGUF file serves, by its path, and is called by its name; one that is not there yet may come later."""
    monkeypatch.chdir(tmp_path)
    with closing(LocalModel("Tiny-Q4.gguf", context=256)) as model:
        with pytest.raises(ModelNotFoundError, match=r"There is no file /.*/Tiny-Q4\.gguf\. Its folder has no GGUF"):
            bridge.run(ask, model, question())
        try:
            (tmp_path / "Tiny-Q4.gguf").symlink_to(model_file)
        except OSError:  # Windows, without the right to
            pytest.skip("links cannot be made here")
        answer = bridge.run(ask, model, question(max_tokens=2))
        assert answer.content
        assert answer.model == model.model == "Tiny-Q4"
        with pytest.raises(BadRequestError, match="256 tokens"):
            bridge.run(ask, model, question("word " * 300))


def test_not_a_model(tmp_path: Path) -> None:
    """A file that is no model is an error that names it, with the provider and the model."""
    (tmp_path / "notes.gguf").write_text("hello")
    with pytest.raises(LocalModelError, match=r"notes\.gguf is not a GGUF file") as caught:
        bridge.run(ask, LocalModel(tmp_path / "notes.gguf"), question())
    assert (caught.value.provider, caught.value.model) == ("local", "notes")


@pytest.mark.parametrize("name", ["", DEFAULT_NAME, "SmolLM2-135M-Instruct"])
def test_names_of_the_default_model(name: str) -> None:
    """The default model goes by its name, in any case of letters, or by none; it is the same object every time."""
    model = local_model_for(name)
    assert model is local_model_for("")
    assert (model.path, model.model, model.name) == (None, DEFAULT_NAME, "local")
    assert as_handler(model) is model
    assert repr(model) == f"LocalModel({DEFAULT_NAME!r})"


def test_names_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that ends in .gguf is a path, with `~` for the home folder; nothing is looked up yet."""
    monkeypatch.setenv("HOME", "/no/such/home")
    model = local_model_for("~/models/Qwen.GGUF")
    assert model.path == Path(os.path.expanduser("~/models/Qwen.GGUF"))
    assert model.model == "Qwen"
    assert local_model_for("~/models/Qwen.GGUF") is model


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("smollm2-135m", "Did you mean 'smollm2-135m-instruct'?"),
        ("SmolLM2", "'smollm2-135m-instruct'"),
        ("gpt-5", "There is 'smollm2-135m-instruct'."),
        ("/models/qwen.bin", "name its path as the model ('local//path/to/model.gguf')"),
    ],
)
def test_unknown_names(name: str, told: str) -> None:
    """Any other name is an error that says what there is."""
    with pytest.raises(ModelNotFoundError) as caught:
        local_model_for(name)
    assert told in str(caught.value)
    assert (caught.value.provider, caught.value.model) == ("local", name)


@pytest.mark.parametrize("setting", ["threads", "context", "parallel"])
def test_settings_are_checked(setting: str) -> None:
    """A setting below 1 is refused when the model is made."""
    settings: Any = {setting: 0}
    with pytest.raises(ValueError, match=f"{setting} must be 1 or more; it is 0"):
        LocalModel(**settings)


# A stand-in for llama.cpp


@pytest.mark.anyio
@pytest.mark.parametrize("part", [Image(url="http://x/y.png"), Audio(data="AA=="), File(file_id="f")])
@pytest.mark.parametrize("inside", [False, True], ids=["message", "tool-result"])
async def test_only_text(puppet: Puppet, part: Any, inside: bool) -> None:
    """Anything but text is refused with its place, before anything is loaded."""
    message = Message("tool", (ToolResult("1", (part,)),)) if inside else Message.user([Text("What is this?"), part])
    with pytest.raises(BadRequestError, match=type(part).__name__) as caught:
        await ask(LocalModel("m.gguf"), ChatRequest("", (Message.user("hi"), message)))
    assert caught.value.param == "$.messages[1]"
    assert puppet.loads == 0


@pytest.mark.anyio
async def test_what_is_asked(puppet: Puppet) -> None:
    """llama.cpp is asked for a stream with its usage, and what only it knows goes along; tools where it takes them."""
    puppet.tools = True
    call = Call(strict=True)
    extra = {"openai-chat": {"min_p": 0.1, "return_progress": False}}
    await ask(LocalModel("m.gguf"), question(tools=(Tool("weather"),), max_tokens=0, seed=3, extra=extra), call)
    await ask(LocalModel("m.gguf"), question(temperature=0.5))
    first, second = puppet.bodies
    assert [tool["function"]["name"] for tool in first["tools"]] == ["weather"]
    assert (first["min_p"], first["seed"], first["cache_prompt"], first["return_progress"]) == (0.1, 3, False, True)
    assert (first["stream"], first["stream_options"], first["model"]) == (True, {"include_usage": True}, "m")
    assert "max_tokens" not in first
    assert (second["max_tokens"], second["cache_prompt"]) == (8, True)
    assert call.losses == []


@pytest.mark.anyio
async def test_a_refusal_is_no_stream(puppet: Puppet) -> None:
    """An error before the first piece is an error of its status, one after it is a `StreamError`."""
    model = LocalModel("m.gguf")
    puppet.script = lambda _: iter((RuntimeError("the template fails"),))
    with pytest.raises(InternalServerError, match="the template fails") as caught:
        await ask(model, question())
    assert caught.value.retryable is False
    puppet.script = lambda _: iter((piece("a"), RuntimeError("no memory")))
    with pytest.raises(StreamError, match="broke off its answer: no memory"):
        await ask(model, question())
    puppet.script = lambda _: iter((piece("a"), b'{"error":{"code":500,"message":"no slot"}}'))
    with pytest.raises(StreamError, match="no slot"):
        await ask(model, question())
    puppet.script = lambda _: iter((piece("a"),))
    with pytest.raises(StreamError, match="no finish reason"):
        await ask(model, question())


@backends
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("before", "clocks", "told"),
    [
        (0, Timeout(first_token=0.02), "give a token of its answer within 0.02 s. This is the first-token clock"),
        (0, Timeout(total=0.02), "finish its answer within 0.02 s. This is the total clock"),
        (1, Timeout(idle=0.02), r"go on with its answer within 0.02 s. .* timeout=Timeout\(idle=…\)"),
        (1, Timeout(total=0.02), "the total clock"),
    ],
    ids=["first-token", "total", "idle", "total-later"],
)
async def test_clocks(
    puppet: Puppet, gate: Gate, before: int, clocks: Timeout, told: str, anyio_backend: object
) -> None:
    """Each clock runs out with an error of its own, and the generation is stopped."""

    def script(text: str) -> Iterator[bytes]:
        for _ in range(before):
            yield piece("a")
        while True:
            yield b'{"choices":[],"prompt_progress":{}}'

    puppet.script = script
    with pytest.raises(APITimeoutError, match=told) as caught:
        await ask(LocalModel("m.gguf"), question(), Call(timeout=clocks))
    assert (caught.value.provider, puppet.stopped) == ("local", ["Say hello."])


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["loading", "in line"])
async def test_clocks_before_its_turn(puppet: Puppet, gate: Gate, place: str) -> None:
    """While a call waits for the model or for its turn, only the total clock runs."""

    def script(text: str) -> Iterator[bytes]:
        if text == "first":
            gate.wait()
        yield piece("a")
        yield last()

    model = LocalModel("m.gguf")
    if place == "loading":
        puppet.before_load = gate.wait
    puppet.script = script
    async with anyio.create_task_group() as group:
        group.start_soon(ask, model, question("first"))
        await gate.reached()
        with pytest.raises(APITimeoutError, match="total clock"):
            await ask(model, question("second"), Call(timeout=Timeout(first_token=0.01, idle=0.01, total=0.1)))
        gate.open()
    assert puppet.asked == ["first"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [LocalModelError, ModelNotFoundError, RuntimeError])
async def test_a_failed_load(puppet: Puppet, kind: type[Exception]) -> None:
    """What goes wrong while loading reaches the caller as it is, and `http()` too."""

    def fail() -> None:
        raise kind("It is broken.")

    puppet.before_load = fail
    model = LocalModel("m.gguf")
    for failing in (model.http, lambda: ask(model, question()), lambda: ask(model, question(tools=(Tool("x"),)))):
        with pytest.raises(kind, match="It is broken") as caught:
            await failing()
        if isinstance(caught.value, AntiphonError) and failing != model.http:
            assert (caught.value.provider, caught.value.model) == ("local", "m")


@pytest.mark.parametrize("provider", [None, "openai-responses", "anthropic"])
def test_the_real_server(local: LocalModel, provider: str | None) -> None:
    """llama.cpp's own HTTP server, as any other upstream: whole and streamed, in each format that it speaks."""
    url, key = bridge.run(local.http)
    base_url = url.removesuffix("/v1") if provider == "anthropic" else url
    with Client(provider=provider, base_url=base_url, api_key=key) as client:
        options: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
        whole = client.chat.completions.create("Name one colour.", DEFAULT_NAME, **options)
        with client.chat.completions.stream("Name one colour.", DEFAULT_NAME, **options) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
            streamed = stream.get_final_completion()
        with pytest.raises(AuthenticationError):
            Client(provider=provider, base_url=base_url, api_key="wrong").chat.completions.create("hi", DEFAULT_NAME)
    assert whole.content
    assert "".join(pieces) == streamed.content == whole.content
    assert len(pieces) > 2
    for answer in (whole, streamed):
        assert answer.choices[0].finish_reason in ("stop", "length")
        assert answer.usage is not None
        assert 0 < (answer.usage.completion_tokens or 0) <= 12


@pytest.mark.usefixtures("model_file")
def test_embeddings() -> None:
    """The local model turns texts into vectors: alike for alike texts, the same each time, with the tokens it read."""
    with Client(provider="local") as client:
        answer = client.embeddings.create(["The cat sleeps.", "A cat is sleeping.", "Interest rates rose by 2 %."])
        again = client.embeddings.create("The cat sleeps.", dimensions=8)
    cat, other_cat, rates = answer.vectors
    assert (answer.provider, answer.model) == ("local", DEFAULT_NAME)
    assert sum(map(mul, cat, other_cat)) > sum(map(mul, cat, rates))
    assert again.vectors == [pytest.approx(cat, abs=1e-3)]
    assert [loss.path for loss in again.losses] == ["$.dimensions"]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 10


def test_embeddings_refused() -> None:
    """A text beyond the context is refused, and so is, if strict, what the model cannot do."""
    model = LocalModel(context=256)
    try:
        with Client(provider=model) as client, pytest.raises(BadRequestError, match="longer than the context"):
            client.embeddings.create("word " * 600)
        with Client(provider=model) as client, pytest.raises(BadRequestError, match="strict"):
            client.embeddings.create("word", dimensions=8, strict=True)
    finally:
        model.close()
