"""Tests of `antiphon chat` with a prompt, against a real server on loopback; and of how the program fails and ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from antiphon import register
from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import End, ReasoningDelta, Start, TextDelta
from antiphon.chat.messages import Message, Reasoning, Refusal, Text
from antiphon.cli.terminal import worded
from antiphon.errors import APITimeoutError
from antiphon.providers.catalog import ProviderRow, Quirks, unregister
from antiphon.providers.local import download
from antiphon.testing import Fault, Upstream
from tests.program import CANARY, PROGRAM, Terminal, interrupt, one_line, posix_only, run, start


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server that says "Hello there"."""
    with Upstream() as server:
        yield server


def at(server: Upstream) -> tuple[str, ...]:
    """The options that lead to *server*."""
    return ("--base-url", server.base_url, "-m", "some-model")


def asked(server: Upstream) -> Any:
    """The body of the last request."""
    return server.requests[-1].json


class TestPrompt:
    """Where the prompt comes from."""

    @pytest.mark.parametrize(
        ("words", "piped", "prompt"),
        [
            (["Why?"], "", "Why?"),
            (["Why", "is  the", "sky?"], "", "Why is  the sky?"),
            ([], "A letter.\nTwo lines.\n", "A letter.\nTwo lines."),
            (["Sum up:"], "  A letter.\n\n", "Sum up:\n\n  A letter."),
            (["Sum up:"], " \n", "Sum up:"),
            (["-", "--", "--not-an-option"], "", "- --not-an-option"),
            ([], "\ufeffGrüße, 世界", "Grüße, 世界"),
        ],
    )
    def test_prompt(self, upstream: Upstream, words: list[str], piped: str, prompt: str) -> None:
        """Words are joined by spaces; what is piped in is the prompt, or follows it after an empty line."""
        result = run("chat", *at(upstream), *words, stdin=piped)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello there\n", "")
        assert asked(upstream)["messages"] == [{"role": "user", "content": prompt}]

    @pytest.mark.parametrize(
        ("words", "piped", "what"),
        [([], b"", "There is no prompt"), (["  "], b" \n", "There is no prompt"), ([], b"a\xff\xfe", "(byte 2)")],
    )
    def test_no_prompt(self, words: list[str], piped: bytes, what: str) -> None:
        """Without a prompt, or with one that is no text, the call is a usage error."""
        result = run("chat", *words, stdin=piped)
        assert (result.exit_code, result.stdout) == (2, "")
        assert what in one_line(result.stderr)

    @posix_only
    def test_words_that_are_no_text(self) -> None:
        """Words that are not UTF-8 are a usage error."""
        done = subprocess.run([*PROGRAM, "chat", b"a\xff"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
        assert (done.returncode, done.stdout) == (2, b"")
        assert "not valid text" in one_line(done.stderr.decode())

    @posix_only
    def test_no_standard_input_at_all(self, upstream: Upstream) -> None:
        """A process started without standard input takes its words for the prompt, and no words for a mistake."""
        code = "import os; os.close(0); import sys; sys.stdin = None; from antiphon.cli import main; main()"
        command = [sys.executable, "-W", "error", "-c", code, "chat", *at(upstream)]
        good = subprocess.run([*command, "hi"], capture_output=True, check=False)
        assert (good.returncode, good.stdout, good.stderr) == (0, b"Hello there\n", b"")
        bad = subprocess.run(command, capture_output=True, check=False)
        assert (bad.returncode, bad.stdout) == (2, b"")
        one_line(bad.stderr.decode())

    def test_silent_pipe(self, upstream: Upstream) -> None:
        """Who gives a prompt and a pipe that nobody closes is told what the program waits for."""
        code = "from antiphon.cli import answer, main; answer._SILENCE = 0.05; main()"  # in place of 2 s
        program = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, "chat", *at(upstream), "hi"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with program:
            assert program.stderr is not None
            assert b"</dev/null" in program.stderr.readline()
            assert upstream.requests == []
            out, err = program.communicate()
        assert (program.returncode, out, err) == (0, b"Hello there\n", b"")


class TestAnswer:
    """What is asked for, and what comes out where."""

    def test_options_are_sent(self, upstream: Upstream) -> None:
        """Each option becomes the field of the request that it is about."""
        result = run(
            *("chat", *at(upstream), "-s", "Be brief.", "-t", "0.5", "--max-tokens", "9", "--seed", "7", "hi"),
            *("--stop", "X", "--stop", "Y", "--timeout", "50"),
        )
        assert (result.exit_code, result.stderr) == (0, "")
        body = asked(upstream)
        assert body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ]
        fields = {"model": "some-model", "temperature": 0.5, "max_tokens": 9, "seed": 7, "stop": ["X", "Y"]}
        assert {key: body.get(key) for key in fields} == fields

    def test_options_left_out_are_not_sent(self, upstream: Upstream) -> None:
        """What is not asked for is not in the request."""
        run("chat", *at(upstream), "hi")
        assert asked(upstream).keys() <= {"model", "messages", "stream", "stream_options"}

    @pytest.mark.parametrize(
        ("options", "streamed"),
        [
            ([], True),
            (["--stream"], True),
            (["--no-stream"], False),
            (["--json"], False),
            (["--json", "--stream"], True),
        ],
    )
    def test_stream_or_whole(self, upstream: Upstream, options: list[str], streamed: bool) -> None:
        """Text is streamed unless told otherwise; JSON is not, unless told otherwise."""
        result = run("chat", *at(upstream), "hi", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        assert asked(upstream).get("stream", False) is streamed

    def test_json(self, upstream: Upstream) -> None:
        """`--json` is OpenAI's object, on one line."""
        result = run("chat", *at(upstream), "hi", "--json")
        answer = json.loads(result.stdout)
        assert result.stdout.count("\n") == 1
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["content"] == "Hello there"
        assert answer["usage"]["completion_tokens"] == 2

    def test_json_lines(self, upstream: Upstream) -> None:
        """`--json --stream` is one chunk of OpenAI's a line."""
        result = run("chat", *at(upstream), "hi", "--json", "--stream")
        chunks = [json.loads(line) for line in result.stdout.splitlines()]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "Hello there"
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"

    @pytest.mark.parametrize("options", [[], ["--no-stream"]])
    def test_usage(self, upstream: Upstream, options: list[str]) -> None:
        """`--usage` tells tokens, seconds and who answered, on standard error."""
        result = run("chat", *at(upstream), "hi", "--usage", *options)
        assert result.stdout == "Hello there\n"
        line = one_line(result.stderr)
        first = "" if options else r", first after \d+\.\d\d s"
        assert re.search(rf"3 tokens in, 2 out; \d+\.\d\d s{first}; 127\.0\.0\.1/some-model$", line.strip()), line

    @pytest.mark.parametrize("options", [[], ["--no-stream"]])
    @pytest.mark.parametrize(("text", "shown"), [("one\n", "one\n"), ("one\n\n", "one\n\n"), ("\n a", "\n a\n")])
    def test_line_end(self, text: str, shown: str, options: list[str]) -> None:
        """An answer is written as it is, and ends with a line end whether it brought one or not."""
        with Upstream(Completion.of(text)) as server:
            assert run("chat", *at(server), "hi", *options).stdout == shown

    @pytest.mark.parametrize("options", [[], ["--no-stream"]])
    def test_thoughts(self, options: list[str]) -> None:
        """Thoughts are not shown, or on standard error if wanted; standard output holds the answer alone."""
        answer = Completion(choices=(Choice(0, Message("assistant", (Reasoning("Hm."), Text("Yes."))), "stop"),))
        with Upstream(answer) as server:
            silent = run("chat", *at(server), "hi", *options)
            assert (silent.stdout, silent.stderr) == ("Yes.\n", "")
            loud = run("chat", *at(server), "hi", "--reasoning", *options)
            assert (loud.stdout, loud.stderr) == ("Yes.\n", "Hm.\n")

    @pytest.mark.parametrize("options", [[], ["--no-stream"]])
    def test_refusal(self, options: list[str]) -> None:
        """A refusal is not an answer: it goes to standard error, and the exit code is 1."""
        answer = Completion(choices=(Choice(0, Message("assistant", (Refusal("I must not."),)), "stop"),))
        with Upstream(answer) as server:
            result = run("chat", *at(server), "hi", *options)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "refused: I must not." in one_line(result.stderr)

    def test_thoughts_alone(self) -> None:
        """An answer that consists of thoughts is told from one that is empty, and the exit code is 1."""
        with Upstream([Start(id="1"), ReasoningDelta("Hm."), End("stop")]) as server:
            result = run("chat", *at(server), "hi")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "--reasoning" in one_line(result.stderr)

    @pytest.mark.parametrize(("reason", "said"), [("length", "cut off"), ("content_filter", "filter")])
    def test_early_end(self, reason: Any, said: str) -> None:
        """That an answer is not complete is said on standard error."""
        with Upstream([Start(id="1"), TextDelta("Hel"), End(reason)]) as server:
            result = run("chat", *at(server), "hi")
        assert (result.exit_code, result.stdout) == (0, "Hel\n")
        assert said in one_line(result.stderr)

    def test_losses(self, upstream: Upstream) -> None:
        """What of the request the provider cannot take is told on standard error."""
        quirks = Quirks(unsupported=("seed",))
        row = ProviderRow(id="plain", name="Plain", codec="openai-chat", base_url=upstream.base_url, quirks=quirks)
        register("plain", row)
        try:
            result = run("chat", "-p", "plain", "-m", "x", "--seed", "7", "--no-stream", "hi")
        finally:
            unregister("plain")
        assert (result.exit_code, result.stdout) == (0, "Hello there\n")
        assert "$.seed" in one_line(result.stderr)

    def test_pieces_come_at_once(self) -> None:
        """Each piece can be read while the rest of the answer is still to come."""
        with Upstream("One two three", fault=Fault.stall(after=2)) as server:
            with start("chat", *at(server), "hi") as program:
                assert program.stdout is not None
                assert program.stdout.read(3) == b"One"
                program.kill()

    def test_characters_that_the_output_cannot_show(self) -> None:
        """Characters beyond the encoding of standard output become question marks, and the rest arrives."""
        with Upstream("Grüße, 世界!") as server:
            program = start("chat", *at(server), "hi", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
            out, err = program.communicate()
        assert (program.returncode, out, err) == (0, b"Gr??e, ??!\n", b"")

    def test_control_characters_in_a_pipe(self) -> None:
        """In a pipe an answer is what it is, control characters included."""
        with Upstream("a\x1b[31mb\r\nc") as server:
            assert run("chat", *at(server), "hi").stdout_bytes == b"a\x1b[31mb\r\nc\n"

    @posix_only
    def test_control_characters_at_a_terminal(self) -> None:
        """At a terminal, control characters of an answer are shown, not obeyed; line ends and tabs are obeyed."""
        with Upstream("a\x1b]0;title\x07b\x9b2J\r\n\tc") as server:
            with Terminal("chat", *at(server), "hi", stdin=False) as terminal:
                assert terminal.end() == (0, "a␛]0;title␇b\ufffd2J\n\tc\n")

    @posix_only
    def test_thoughts_at_a_terminal(self) -> None:
        """At a terminal thoughts are dim, and have a line of their own."""
        answer = Completion(choices=(Choice(0, Message("assistant", (Reasoning("Hm\x07."), Text("Yes."))), "stop"),))
        with Upstream(answer) as server, Terminal("chat", *at(server), "hi", "--reasoning", stdin=False) as terminal:
            assert terminal.end() == (0, "Hm␇.\nYes.\n")

    def test_closed_standard_output(self, upstream: Upstream) -> None:
        """A process started without standard output asks and answers to nobody, without an error."""
        code = "import sys; sys.stdout = None; from antiphon.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, "chat", *at(upstream), "hi"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert len(upstream.requests) == 1


class TestFailures:
    """One line on standard error, and an exit code."""

    @pytest.mark.parametrize("options", [[], ["--no-stream"], ["--json"]])
    @pytest.mark.parametrize(
        "fault",
        [
            Fault.of_status(401),
            Fault.of_status(404, "<html>\n<h1>not here</h1>\x1b[2J</html>", content_type="text/html"),
            Fault.of_status(429, retry_after="3"),
            Fault.of_status(529),
            Fault.garbage(),
            Fault.error_inside("two\nlines\x07"),
        ],
        ids=lambda fault: f"{fault.kind}-{fault.status}",
    )
    def test_provider_fails(self, fault: Fault, options: list[str]) -> None:
        """Whatever a provider answers instead of an answer is one line, and the exit code is 1."""
        with Upstream(fault=fault) as server:
            result = run("chat", *at(server), "hi", *options)
        assert (result.exit_code, result.stdout) == (1, "")
        assert one_line(result.stderr).isprintable() is False  # its line end
        assert result.stderr[:-1].isprintable()

    def test_broken_off(self) -> None:
        """What came of an answer that broke off is written, and then the error is told."""
        with Upstream("One two three", fault=Fault.half_frame(after=3)) as server:
            result = run("chat", *at(server), "hi")
        assert (result.exit_code, result.stdout) == (1, "One two\n")
        one_line(result.stderr)

    def test_nobody_there(self, upstream: Upstream) -> None:
        """A connection that is refused is told with the address."""
        upstream.close()
        result = run("chat", *at(upstream), "hi")
        assert (result.exit_code, result.stdout) == (1, "")
        assert upstream.base_url.split("/")[2] in one_line(result.stderr)

    def test_clock(self) -> None:
        """`--timeout` ends the call when its seconds are over."""
        with Upstream(fault=Fault.stall(after=2)) as server:
            result = run("chat", *at(server), "hi", "--timeout", "0.3")
            assert (result.exit_code, result.stdout) == (1, "Hello\n")
            said = one_line(result.stderr)
            assert "within 0.3 s. This is the total clock: give it more with --timeout, or leave that out" in said
            assert "Timeout(" not in said
            assert server.wait_until_left()

    @pytest.mark.parametrize(
        ("library", "here"),
        [
            ("x. This is the idle clock: give it more with timeout=Timeout(idle=…), or no limit with None.", "clock."),
            ("x (the total clock); pass timeout=Timeout(total=…) to wait longer.", "leave that out for no limit."),
            ("x (the idle clock); pass timeout=Timeout(idle=…) to wait longer.", "(the idle clock)."),
        ],
    )
    def test_clocks_without_an_option(self, library: str, here: str) -> None:
        """What advises to pass an argument of Python's is not said; the total clock has an option."""
        said = worded(APITimeoutError(library))
        assert said.endswith(here)
        assert "Timeout(" not in said

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["chat", "-m", "opnai/gpt-5", "hi"], 1, "Did you mean 'openai'?"),
            (["chat", "-m", "gpt-5", "hi"], 1, "openai/gpt-5"),
            (["chat", "-m", "openai/gpt-5", "hi"], 1, "set OPENAI_API_KEY in the environment, or name the variable"),
            (["chat", "-p", "nobody", "hi"], 1, "nobody"),
            (["chat", "--base-url", "localhost:80", "hi"], 2, "--base-url must be a whole URL"),
            (["chat", "--base-url", f"http://me:{CANARY}@localhost:80", "hi"], 2, "into the variable of --api-key-env"),
            (["chat", "--api-key", CANARY, "hi"], 2, "--api-key-env"),
            (["chat", "--api-key-env", CANARY, "hi"], 2, "name of an environment variable"),
            (["chat", "--temprature", "1", "hi"], 2, "'--temprature'"),
            (["chat", "minus", "-5"], 2, "Put -- before"),
            (["chat", "-t", "warm", "hi"], 2, "'warm'"),
            (["chat", "-t", "nan", "hi"], 2, "finite"),
            (["chat", "--timeout", "inf", "hi"], 2, "finite"),
            (["chat", "--timeout", "0", "hi"], 2, "0"),
            (["chat", "--max-tokens", "0", "hi"], 2, "0"),
            (["models", "list", "nobody"], 1, "nobody"),
            (["models", "nobody"], 1, "nobody"),
            (["models", "list", "a", "b"], 2, "b"),
            (["providers", "x"], 2, "x"),
            (["completion", "csh"], 2, "csh"),
            (["chatt"], 2, "'chatt'"),
        ],
    )
    def test_mistakes(self, arguments: list[str], code: int, said: str) -> None:
        """A mistake is answered with one line that says what to do, and never with the key that was in it."""
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert said in one_line(result.stderr)
        assert CANARY not in result.stderr

    def test_no_command(self) -> None:
        """Without a command the help is shown, on standard error, and the exit code is 2."""
        result = run()
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Commands:" in result.stderr

    @pytest.mark.parametrize("how", ["before", "after", "environment"])
    def test_debug(self, how: str) -> None:
        """With `--debug` the traceback and what the library logs stand before the line."""
        arguments = ["chat", "-m", "openai/x", "hi"]
        arguments = {"before": ["--debug", *arguments], "after": [*arguments, "--debug"]}.get(how, arguments)
        result = run(*arguments, **({"ANTIPHON_DEBUG": "1"} if how == "environment" else {}))
        assert result.exit_code == 1
        assert "Traceback (most recent call last)" in result.stderr
        assert one_line(result.stderr.splitlines(keepends=True)[-1])

    def test_debug_logs(self, upstream: Upstream) -> None:
        """With `--debug` a call's line in the log is shown; without it nothing is, and nothing stays switched on."""
        assert "chat provider=127.0.0.1" in run("chat", *at(upstream), "hi", "--debug").stderr
        assert run("chat", *at(upstream), "hi").stderr == ""

    @pytest.mark.parametrize("option", [[], ["--debug"]])
    def test_keys_are_never_shown(self, option: list[str]) -> None:
        """A key that a provider repeats in its error is not shown, whether it was the one sent or another."""
        message = json.dumps({"error": {"message": f"Your key {CANARY} is not {CANARY[::-1]}"}})
        with Upstream(fault=Fault.of_status(401, message)) as server:
            result = run(
                *("chat", *at(server), "--api-key-env", "MINE", "hi", *option),
                MINE=CANARY,
                SOME_API_KEY=CANARY[::-1],
            )
        assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
        assert result.exit_code == 1
        assert "Your key" in result.stderr
        assert CANARY not in result.output
        assert CANARY[::-1] not in result.output

    def test_broken_log_line(self) -> None:
        """A log line that cannot be made ends nothing."""
        code = (
            "import logging; from antiphon.cli.logs import show_logs; show_logs(debug=False); "
            "logging.getLogger('antiphon').warning('%d', 'x'); logging.getLogger('antiphon').warning('%d', 5)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "Logging error" in done.stderr
        assert done.stderr.endswith("\nantiphon: 5\n")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
    def test_full_disk(self, upstream: Upstream) -> None:
        """An answer that cannot be written is an error."""
        with open("/dev/full", "wb") as full:
            command = [*PROGRAM, "chat", *at(upstream), "hi"]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (1, b"antiphon: No space left on device.\n")

    def test_unexpected_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What nobody expected is one line too, and says how to learn more."""
        monkeypatch.setattr(download, "is_present", lambda: {}["never"])
        result = run("models", "list")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "KeyError" in one_line(result.stderr)
        assert "--debug" in result.stderr


@posix_only
class TestSignals:
    """What ends the program from outside."""

    def test_nobody_reads_on(self) -> None:
        """When the reader of a pipe leaves, the program ends without a word, and the provider is let go."""
        with Upstream("word " * 20_000) as server:
            with start("chat", *at(server), "hi") as program:
                assert program.stdout is not None
                assert program.stderr is not None
                assert program.stdout.read(9) == b"word word"
                program.stdout.close()
                assert program.stderr.read() == b""
            assert program.returncode == 1
            assert server.wait_until_left()

    def test_nobody_reads_lists(self) -> None:
        """A list into a closed pipe ends without a word as well."""
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([*PROGRAM, "providers"], stdout=writing, stderr=subprocess.PIPE, check=False)
        os.close(writing)
        assert (done.returncode, done.stderr) == (1, b"")

    def test_interrupted(self) -> None:
        """Ctrl-C ends the answer: what came stays, the exit code is 130, and the provider is let go."""
        with Upstream("One two three", fault=Fault.stall(after=3)) as server:
            with start("chat", *at(server), "hi") as program:
                assert program.stdout is not None
                assert program.stderr is not None
                assert program.stdout.read(7) == b"One two"
                interrupt(program)
                assert program.stdout.read() == b"\n"
                assert program.stderr.read() == b"\n"
            assert program.returncode == 130
            assert server.wait_until_left()

    def test_interrupted_before_the_first_word(self) -> None:
        """Ctrl-C while nothing has come yet ends the call just so."""
        with Upstream(fault=Fault.stall(after=-1)) as server:
            with Terminal("chat", *at(server), "hi", stdin=False) as terminal:
                while not server.requests:
                    os.sched_yield()
                terminal.send("\x03")
                assert terminal.end() == (130, "^C\n")
            assert server.wait_until_left()


@pytest.mark.usefixtures("model_file")
class TestLocal:
    """The model in this process."""

    @pytest.mark.timeout(600)
    def test_without_any_option(self) -> None:
        """With neither key nor option the local model answers, and nothing but the answer is written."""
        with start("chat", "Name one colour.", "--max-tokens", "400", "-t", "0") as program:
            out, err = program.communicate()
        assert (program.returncode, err) == (0, b"")
        assert out.strip()
        assert out.endswith(b"\n")

    @pytest.mark.timeout(600)
    @posix_only
    def test_interrupted(self) -> None:
        """Ctrl-C stops the generation, and the program."""
        with start("chat", "Count from one to one thousand.") as program:
            assert program.stdout is not None
            assert program.stdout.read(1)
            interrupt(program)
            _, err = program.communicate()
        assert (program.returncode, err) == (130, b"\n")
