"""The log: one line a call, which says who, how long, how much and how it ended, and nothing of what was said."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from antiphon import AsyncClient, ChatCompletion, Client
from antiphon.chat.requests import ChatRequest
from antiphon.chat.usage import Usage
from antiphon.errors import APIStatusError, APITimeoutError, BadRequestError, MissingAPIKeyError, StreamError
from antiphon.http.transport import Timeout
from antiphon.testing import Delay, Fault, Script, Upstream
from tests.calling import WAYS, Question, Way

LINE = re.compile(
    r"chat provider=(?P<provider>\S+) model=(?P<model>\S+) duration=\d+\.\d{3}s "
    r"input_tokens=(?P<input>\d+|-) output_tokens=(?P<output>\d+|-) outcome=(?P<outcome>\w+)"
)
KEY = "sk-canary-0123456789abcdef"
PROMPT = "a prompt that is nobody's business"
SAID = "an answer that is nobody's business"


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that is logged, of every level."""
    caplog.set_level(logging.DEBUG)
    return caplog


def calls(log: pytest.LogCaptureFixture) -> list[tuple[str, ...]]:
    """Provider, model, tokens and outcome of each line that is about a call; each must be at INFO."""
    found = [record for record in log.records if record.name == "antiphon" and record.levelno == logging.INFO]
    matches = [LINE.fullmatch(record.getMessage()) for record in found]
    return [match.groups() for match in matches if match is not None]


@pytest.fixture(params=WAYS)
def call(request: pytest.FixtureRequest) -> Way:
    """Each calling style."""
    return WAYS[request.param]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_call(call: Way, stream: bool, log: pytest.LogCaptureFixture) -> None:
    """A call that goes well is one line at INFO, in every calling style."""
    script = Script(SAID, Usage(input_uncached=3, output_visible=2), name="parrot")
    call(Question({"provider": script}, PROMPT), stream=stream)
    assert calls(log) == [("parrot", "m", "3", "2", "ok")]
    assert len(log.records) == 1 + sum(record.name != "antiphon" for record in log.records)


def test_tokens_that_were_not_told(log: pytest.LogCaptureFixture) -> None:
    """Tokens that nobody reported are a dash, not a zero."""
    ChatCompletion.create("", PROMPT, Script(SAID))
    assert calls(log) == [("script", "-", "-", "-", "ok")]


def test_tokens_that_came_apart(log: pytest.LogCaptureFixture) -> None:
    """Input and output tokens may be reported one after the other."""
    counts = (Usage(input_uncached=3), Usage(output_visible=1), Usage(output_visible=2), Usage())
    ChatCompletion.create("m", PROMPT, Script(SAID, *counts))
    assert calls(log) == [("script", "m", "3", "2", "ok")]


class OwnError(Exception):
    """One of the provider's own."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("step", "error"), [(OwnError("x"), OwnError), (StreamError("x"), StreamError), (Delay(60), APITimeoutError)]
)
def test_a_call_that_fails(call: Way, stream: bool, step: Any, error: type[Exception], log: Any) -> None:
    """A call that fails is one line too, with the class of its error."""

    async def provider(request: ChatRequest) -> AsyncIterator[Any]:
        yield SAID
        if isinstance(step, Exception):
            raise step
        await asyncio.sleep(step.seconds)

    with pytest.raises(error):
        call(Question({"provider": provider}, PROMPT, params={"timeout": Timeout(idle=0.02)}), stream=stream)
    assert calls(log) == [("provider", "m", "-", "-", error.__name__)]


def test_a_provider_that_does_not_end(log: pytest.LogCaptureFixture) -> None:
    """A provider that just stops is logged as the error that its caller gets."""
    with pytest.raises(StreamError):
        ChatCompletion.create("m", PROMPT, Script(SAID, finish_reason=None))
    assert [outcome for *_, outcome in calls(log)] == ["StreamError"]


def test_what_is_refused_before_it_runs(log: pytest.LogCaptureFixture) -> None:
    """What never became a call is not logged as one."""
    with pytest.raises(BadRequestError):
        ChatCompletion.create("m", [{"role": 1}], Script(SAID))
    with pytest.raises(MissingAPIKeyError):
        ChatCompletion.create("openai/gpt-5", PROMPT)
    assert [] == log.records


@pytest.mark.parametrize("waiting", [False, True], ids=["between-pieces", "in-a-piece"])
def test_a_stream_that_is_left(waiting: bool, log: pytest.LogCaptureFixture) -> None:
    """A stream that its caller leaves is logged as abandoned, wherever the provider was just then."""
    script = Script("a", "b", Delay(60 if waiting else 0), *["c"] * 1000)
    with Client(provider=script) as client:
        for _ in client.chat.completions.create(PROMPT, "m", stream=True):
            break
        with client.chat.completions.create(PROMPT, "m", stream=True) as stream:
            next(stream)
        for _ in ChatCompletion.create("m", PROMPT, script, stream=True):
            break
    assert [outcome for *_, outcome in calls(log)] == ["abandoned"] * 3
    assert script.open == 0


@pytest.mark.anyio
async def test_an_async_stream_that_is_left(log: pytest.LogCaptureFixture) -> None:
    """So is an async one, and a call whose task is cancelled."""
    script = Script("a", "b", Delay(60))
    async with AsyncClient(provider=script) as client:
        async with client.chat.completions.create(PROMPT, "m", stream=True) as stream:
            await anext(stream)
        task = asyncio.ensure_future(client.chat.completions.create(PROMPT, "m"))
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [outcome for *_, outcome in calls(log)] == ["abandoned"] * 2


def test_a_stream_that_is_left_after_its_end(log: pytest.LogCaptureFixture) -> None:
    """Who leaves at the last chunk has had the whole answer."""
    with Client(provider=Script(SAID, Usage(output_visible=1))) as client:
        for chunk in client.chat.completions.create(PROMPT, "m", stream=True):
            if chunk.choices[0].finish_reason:
                break
    assert calls(log) == [("script", "m", "-", "1", "ok")]


def everything(log: pytest.LogCaptureFixture) -> str:
    """All that a log could show of what was logged."""
    formatter = logging.Formatter("%(message)s")
    return "\n".join(formatter.format(record) + repr(record.__dict__) for record in log.records)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault.of_status(401, f'{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}'),
        Fault.error_inside(f"the key {KEY} is wrong"),
        Fault.garbage(),
    ],
    ids=["well", "401", "inside", "garbage"],
)
def test_neither_prompt_nor_key(stream: bool, fault: Fault | None, log: pytest.LogCaptureFixture) -> None:
    """No log of any level, ours or another's, has the prompt, the answer or the key in it."""
    with Upstream(SAID, fault=fault) as upstream, Client(base_url=upstream.base_url, api_key=KEY) as client:
        try:
            list(client.chat.completions.create(PROMPT, "m", stream=stream))  # type: ignore[arg-type]
        except (APIStatusError, StreamError, TypeError):
            pass  # what is thrown is looked at elsewhere
    assert calls(log)
    for secret in (KEY, PROMPT, SAID, "canary", "nobody"):
        assert secret not in everything(log)


def test_quiet_by_itself() -> None:
    """Without a log set up nothing is printed, not even a warning."""
    script = """
    import logging
    import antiphon, antiphon.providers.catalog, antiphon.testing
    logging.getLogger("antiphon").warning("not seen")
    logging.getLogger("antiphon.providers.catalog").error("not seen either")
    print(antiphon.ChatCompletion.create("m", "x", antiphon.testing.doubles.ProviderMock))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("Mock\n", "")


def test_a_log_that_is_off_costs_nothing(log: pytest.LogCaptureFixture) -> None:
    """Where INFO is not wanted, no line is made."""
    log.set_level(logging.WARNING, "antiphon")
    ChatCompletion.create("m", PROMPT, Script(SAID))
    assert [] == log.records


def test_names_cannot_forge_lines(log: pytest.LogCaptureFixture) -> None:
    """A model's name with a line end in it stays one line."""
    Client(provider=Script("x", name="parrot")).chat.completions.create("hi", "m\nINFO antiphon chat provider=forged")
    assert [record.getMessage().count("\n") for record in log.records if record.name == "antiphon"] == [0]


def test_other_calls(log: pytest.LogCaptureFixture) -> None:
    """Embeddings and counts of tokens are one line each, too, with how they went."""
    with Upstream() as server, Client(base_url=server.base_url, api_key=KEY) as client:
        client.embeddings.create(PROMPT, "m")
        with pytest.raises(BadRequestError):
            client.chat.completions.count_tokens(PROMPT, "m")
    lines = [record.getMessage() for record in log.records if record.name == "antiphon"]
    assert [re.sub(r"duration=\d+\.\d{3}s", "", line) for line in lines] == [
        "embeddings provider=127.0.0.1 model=m  outcome=ok",
        "tokens provider=127.0.0.1 model=m  outcome=BadRequestError",
    ]
    assert PROMPT not in log.text
