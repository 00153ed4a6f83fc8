"""The laws of codecs on every recorded exchange, of six formats: what providers really sent, read and written again.

None is excepted from them. What a format's exchanges are, and where its own fields are, is in `recorded_formats`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from pydantic import TypeAdapter, ValidationError

from antiphon.chat.events import fold, unfold
from antiphon.errors import APIStatusError, StreamError
from antiphon.formats import json
from antiphon.formats.anthropic import Anthropic
from tests.recordings import Exchange
from tests.wire import laws
from tests.wire.recorded import Recorded, is_stream, path_of
from tests.wire.recorded_formats import FORMATS, OfAnthropic, OfBedrock, OfCohere, OfGemini, OfOpenAI, OfResponses

pytestmark = pytest.mark.usefixtures("cassettes")
F = TypeVar("F", bound=Recorded)


@functools.cache
def recorded(format: type[F]) -> F:
    """Return the exchanges of *format*, read once."""
    return format()


def formats(*names: str, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test for the formats of some *names*, without any for all *but* some."""
    return pytest.mark.parametrize(
        "format", [pytest.param(FORMATS[name], id=name) for name in names or FORMATS if name not in but]
    )


def check_all(exchanges: list[Exchange], check: Callable[[Exchange], object]) -> None:
    """Fail where *check* fails for any of *exchanges*, and say which, and how many of which host were looked at."""
    failures: list[str] = []
    for exchange in exchanges:
        try:
            check(exchange)
        except Exception as error:  # whatever it is, the others are looked at too
            failures.append(f"{exchange.name}: {type(error).__name__}: {error}")
    hosts = ", ".join(f"{host} {count}" for host, count in sorted(Counter(e.host for e in exchanges).items()))
    assert exchanges, "Nothing was looked at."
    assert not failures, f"{len(failures)} of {len(exchanges)} failed ({hosts}):\n" + "\n".join(failures[:10])


class TestWhatIsThere:
    """No recording is passed over."""

    def test_anthropic(self) -> None:
        """What is recorded of the host is messages, counts of tokens, or files, which are no chat."""
        own = recorded(OfAnthropic)
        paths = {path_of(exchange) for exchange in own.exchanges}
        assert {path for path in paths if not path.startswith("/v1/files/")} == {own.MESSAGES, own.COUNT}
        assert own.answers(stream=True)
        assert own.answers(stream=False)

    def test_bedrock(self) -> None:
        """What is recorded of the hosts is this format's, or is in a list of reasons, none of which is stale."""
        own = recorded(OfBedrock)
        assert {*map(own.verb, own.exchanges)} == {"converse", "converse-stream", "count-tokens", *own.NOT_CONVERSE}
        for start in own.OTHER_BODIES:
            found = [exchange for exchange in own.exchanges if exchange.name.partition("/")[2].startswith(start)]
            bodies = [exchange for exchange in found if "converse" not in exchange.request.get("input", {})]
            assert found == bodies
            assert bodies

    def test_cohere(self) -> None:
        """What is recorded of the host is chats, embeddings and counts of tokens; every chat is whole and went well."""
        own = recorded(OfCohere)
        chats = own.requests()
        others = [exchange.url for exchange in own.exchanges if exchange not in chats]
        assert sorted(others) == ["/v1/tokenize", "/v2/embed", "/v2/embed"]
        assert {(exchange.status, exchange.content_type) for exchange in chats} == {(200, "application/json")}

    def test_gemini(self) -> None:
        """What is recorded of the hosts is chats, whole and streamed, counts of tokens, and known things besides."""
        own = recorded(OfGemini)
        assert {exchange.name.partition(".")[0] for exchange in own.exchanges} == {"aiplatform", "generativelanguage"}
        assert {*map(own.action, own.exchanges)} == {own.WHOLE, own.STREAM, own.COUNT, *own.OTHERS}

    def test_openai(self, record_property: Callable[[str, object], None]) -> None:
        """There are whole answers, streams and errors, of OpenAI and of many servers that have its format."""
        own = recorded(OfOpenAI)
        counts = Counter(
            (exchange.host, "error" if exchange.status >= 400 else "stream" if is_stream(exchange) else "whole")
            for exchange in own.exchanges
        )
        record_property("chat exchanges", str(sorted(counts.items())))
        kinds = {kind: sum(count for (_, own), count in counts.items() if own == kind) for _, kind in counts}
        hosts = {host for host, _ in counts}
        assert kinds.keys() == {"whole", "stream", "error"}, counts
        assert hosts >= {"api.openai.com", "api.groq.com", "openrouter.ai", "api.mistral.ai"}, counts
        assert kinds["whole"] + kinds["stream"] + kinds["error"] == len(own.exchanges) >= 150, counts
        answers = own.all_answers()
        assert sum(own.billed(exchange) is not None for exchange in answers) > len(answers) // 2

    def test_responses(self) -> None:
        """Each host's exchanges are questions with an answer or an error, but for those of other paths."""
        own = recorded(OfResponses)
        hosts = Counter(exchange.host for exchange in own.requests())
        assert sorted(hosts.values(), reverse=True) == [143, 6, 3, 2, 1]
        ends = {path_of(exchange).removeprefix("/openai").removeprefix("/api") for exchange in own.requests()}
        assert ends == {"/v1/responses", "/responses"}
        assert len(own.answers(stream=True)) == 11


class TestRequests:
    """What was asked."""

    @formats()
    def test_are_the_same(self, format: type[Recorded]) -> None:
        """Every request is the same JSON, for the same path, after it was read and written, and loses nothing."""
        own = recorded(format)

        def check(exchange: Exchange) -> None:
            request = own.request_of(exchange)
            written = own.codec.encode_request(request)
            laws.check_same(exchange.request, json.decode(written.body))
            own.check_path(exchange, written)
            assert written.losses == ()
            assert request == own.codec.decode_request(written.body, own.path_to_read_again(exchange, written))

        check_all(own.requests(), check)

    def test_newer_version_of_anthropic(self) -> None:
        """Written for the API version 2026-10-21, all of a request but its sampling is as it was."""
        own, newer = recorded(OfAnthropic), Anthropic(version="2026-10-21")

        def check(exchange: Exchange) -> None:
            written = newer.encode_request(own.request_of(exchange))
            left = {k: v for k, v in exchange.request.items() if k not in ("temperature", "top_p", "top_k")}
            laws.check_same(left, json.decode(written.body))
            lost = {f"$.{key}" for key in exchange.request.keys() - left.keys()}
            assert lost == {loss.path for loss in written.losses}

        check_all(own.requests(), check)

    @formats("anthropic", "bedrock", "gemini")
    def test_counts_of_tokens(self, format: type[Recorded]) -> None:
        """A request to count tokens is written as it was recorded, and its answer is a number."""
        own = recorded(format)

        def check(exchange: Exchange) -> None:
            own.check_count(exchange)
            assert own.codec.decode_count(exchange.content) == json.decode(exchange.content)[own.counted]

        check_all(own.counts(), check)


class TestAnswers:
    """What was answered."""

    @formats()
    def test_whole_ones_are_the_same(self, format: type[Recorded]) -> None:
        """Every whole answer is the same JSON after it was read and written, by way of events, and folds to itself."""
        own = recorded(format)

        def check(exchange: Exchange) -> None:
            laws.check_answer_json(own.codec, own.answered(exchange), json.decode(exchange.content))

        check_all(own.answers(stream=False), check)

    @formats(but=("cohere",))
    def test_streams_are_the_same(self, format: type[Recorded]) -> None:
        """Every stream is the same, frame by frame, after it was read and written, pings and padding included."""
        own = recorded(format)
        check_all(own.answers(stream=True), own.check_stream)

    @formats(but=("openai",))
    def test_survive_as_streams(self, format: type[Recorded]) -> None:
        """Every answer is the same after it was written as a stream, without the memory of how it was written."""
        own = recorded(format)

        def check(exchange: Exchange) -> None:
            completion = own.forgetful(own.read(exchange))
            if format is OfResponses and completion.choices[0].finish_reason == "pause":
                return  # a stream cannot say so
            body = laws.encoded(own.codec, own.answered(exchange), unfold(completion))
            again = own.forgetful(fold(laws.decoded(own.codec, own.answered(exchange), [body])))
            assert own.kept(completion) == own.kept(again)

        check_all(own.all_answers(), check)

    def test_survive_as_whole_ones(self) -> None:
        """Every answer of Chat Completions, streamed ones too, is the same after it was written whole and read."""
        own = recorded(OfOpenAI)

        def check(exchange: Exchange) -> None:
            laws.check_answer(own.codec, own.answered(exchange), own.read(exchange))

        check_all(own.all_answers(), check)

    @formats(but=("openai",))
    def test_go_back_as_they_came(self, format: type[Recorded]) -> None:
        """A recorded answer, put into the next request as a message, is what the API sent, part for part."""
        own = recorded(format)

        def check(exchange: Exchange) -> None:
            written = own.codec.encode_request(own.next_request(own.read(exchange).choices[0].message))
            messages = own.without_added(json.decode(written.body)[own.messages])
            laws.check_same(own.as_sent(json.decode(exchange.content)), messages)
            assert own.may_lose or written.losses == ()

        check_all(own.answers(stream=False), check)

    def test_signatures_of_a_stream_go_back(self) -> None:
        """Every signature of a stream of Gemini's goes back in the next request, beside what it came beside."""
        own = recorded(OfGemini)

        def signed(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [part for part in parts if "thoughtSignature" in part]

        def check(exchange: Exchange) -> None:
            frames = laws.frames(exchange.content)
            parts = [part for frame in frames for part in frame["candidates"][0]["content"]["parts"]]
            written = own.codec.encode_request(own.next_request(own.read(exchange).choices[0].message))
            laws.check_same(signed(parts), signed(json.decode(written.body)["contents"][0]["parts"]))

        check_all(own.answers(stream=True), check)

    def test_a_folded_stream_is_its_last_frame(self) -> None:
        """What a stream of Responses says is what its last frame says, but that reasoning is encrypted again there."""
        own = recorded(OfResponses)

        def check(exchange: Exchange) -> None:
            written = json.decode(own.codec.encode_response(own.read(exchange)))
            done = [frame["item"] for frame in laws.frames(exchange.content) if "item.done" in frame["type"]]
            laws.check_same({**own.last_of(exchange), "output": done}, written)

        check_all(own.answers(stream=True), check)

    @formats()
    def test_usage_adds_up(self, format: type[Recorded]) -> None:
        """The buckets of each answer, whole or streamed, add up to what was recorded as billed."""
        own = recorded(format)

        def check(exchange: Exchange) -> None:
            usage, billed = own.read(exchange).usage, own.billed(exchange)
            if billed is None:
                assert usage is None
                return
            assert usage is not None
            expected = own.usage(billed)
            assert {name: getattr(usage, name) for name in expected} == expected
            inputs = sum(b or 0 for b in (usage.input_uncached, usage.input_cache_read, usage.input_cache_write))
            assert inputs == (usage.prompt_tokens or 0)
            assert inputs + (usage.output_visible or 0) + (usage.output_reasoning or 0) == (usage.total_tokens or 0)

        check_all(own.all_answers(), check)

    @formats("anthropic", "gemini")
    def test_official_clients_read_them(self, format: type[Recorded]) -> None:
        """The official client's types find no fault with what is written that is not in what was recorded."""
        own = recorded(format)
        whole, frame = own.client_types()

        def check(exchange: Exchange) -> None:
            if exchange in streams:
                written = laws.frames(laws.encoded(own.codec, own.answered(exchange), unfold(own.read(exchange))))
                read = [value for value in laws.frames(exchange.content) if value.get("type") != "ping"]
                assert {*faults(frame, written)} <= {*faults(frame, read)}
            else:
                written = [json.decode(own.codec.encode_response(own.read(exchange)))]
                assert faults(whole, written) == faults(whole, [json.decode(exchange.content)])

        streams = own.answers(stream=True)
        check_all(own.all_answers(), check)


def faults(type: TypeAdapter[Any], values: list[Any]) -> list[tuple[Any, ...]]:
    """Return where and why *values* are not of a type of an official client."""
    found: list[tuple[Any, ...]] = []
    for value in values:
        try:
            type.validate_python(value)
        except ValidationError as error:
            found += [(*fault["loc"], fault["type"]) for fault in error.errors()]
    return found


class TestErrors:
    """What went wrong."""

    @formats(but=("cohere", "openai"))
    def test_are_the_same(self, format: type[Recorded]) -> None:
        """A recorded error is read into its class with the provider's words, and is given back as it was."""
        own = recorded(format)

        def check(exchange: Exchange) -> None:
            source = json.decode(exchange.content)
            error = own.codec.decode_error(exchange.status, own.error_headers, exchange.content)
            expected = own.error_of(source)
            assert type(error) is own.errors[exchange.status]
            assert expected.pop("message") in str(error)
            assert {name: getattr(error, name) for name in expected} == expected
            reply = own.codec.encode_error(error)
            assert (reply.status, json.decode(reply.body)) == (exchange.status, source)
            assert reply.headers.items() >= own.error_headers.items()

        check_all(own.failed(), check)

    def test_of_openai(self) -> None:
        """Every error reply has its class and the provider's own words, code and type; a server passes them on."""
        codec = OfOpenAI.codec

        def check(exchange: Exchange) -> None:
            error = codec.decode_error(exchange.status, {}, exchange.content)
            source = json.decode(exchange.content)["error"]
            assert isinstance(error, APIStatusError)
            assert source["message"] in str(error)
            assert (error.status, error.type) == (exchange.status, source.get("type"))
            assert error.code == (None if source.get("code") is None else str(source["code"]))
            reply = codec.encode_error(error)
            again = codec.decode_error(reply.status, reply.headers, reply.body)
            assert (type(again), str(again), again.code) == (type(error), str(error), error.code)

        check_all(recorded(OfOpenAI).failed(), check)

    def test_inside_a_stream(self) -> None:
        """A stream with an error event inside its 200 ends with that error; no other recorded answer has one."""
        own = recorded(OfOpenAI)
        found: dict[str, str] = {}
        for exchange in own.exchanges:
            if exchange.status == 200:
                try:
                    own.read(exchange)
                except StreamError as error:
                    found[exchange.name] = str(error)
        assert found.keys() == own.ERRORS_INSIDE.keys()
        assert all(words in found[name] for name, words in own.ERRORS_INSIDE.items())
