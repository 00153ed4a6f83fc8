"""Tests of `antiphon.cli.dialog`: conversations, held at a real terminal."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from antiphon.chat.requests import ChatRequest
from antiphon.providers.lookup import DEFAULT_MODEL
from antiphon.testing import Fault, Upstream
from tests.program import Terminal, posix_only

pytestmark = posix_only

gnu_readline = pytest.mark.skipif(
    importlib.util.find_spec("readline") is None or "libedit" in (importlib.import_module("readline").__doc__ or ""),
    reason="this Python has libedit, which knows neither pastes nor lines within lines",
)

ENTER, CTRL_C, CTRL_D, UP, TAB = "\r", "\x03", "\x04", "\x1b[A", "\t"
PASTE = "\x1b[200~{}\x1b[201~"
"""What a terminal sends for pasted text."""

STUBBORN = """
import sys
import anyio
from antiphon import register
from antiphon.cli import main

async def stubborn(request):
    try:
        yield "Beginning"
        await anyio.sleep_forever()
    finally:
        print("(not yet)", file=sys.stderr, flush=True)
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

register("stubborn", stubborn)
main()
"""
"""The program with a provider that takes its time to end."""

WITHOUT_READLINE = """
import sys
sys.modules["readline"] = None
from antiphon.cli import main
main()
"""
"""The program on a Python without readline, as on Windows."""


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    """Variables that give the program a history of its own."""
    return {"XDG_STATE_HOME": os.fspath(tmp_path / "state"), "INPUTRC": os.devnull}


@pytest.fixture
def history(environ: Mapping[str, str]) -> Path:
    """Where that history is, on Linux."""
    return Path(environ["XDG_STATE_HOME"], "antiphon", "history.jsonl")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server that repeats the last thing it was told."""

    def echo(request: ChatRequest) -> str:
        return f"You said: {request.messages[-1].content!r}."

    with Upstream(echo) as server:
        yield server


@pytest.fixture
def terminal(upstream: Upstream, environ: Mapping[str, str]) -> Iterator[Terminal]:
    """A conversation with that server, at its first prompt."""
    with Terminal("chat", "--base-url", upstream.base_url, "-m", "echo", environ=environ) as opened:
        opened.expect("> ")
        yield opened


def not_utf8(history: Path) -> None:
    """Put what is no text into the history."""
    history.parent.mkdir(parents=True)
    history.write_bytes(b"\xff")


def said(server: Upstream) -> list[tuple[str, Any]]:
    """Roles and texts of the last request."""
    return [(message["role"], message["content"]) for message in server.requests[-1].json["messages"]]


def kept(history: Path) -> list[str]:
    """What is in the history."""
    return [json.loads(line) for line in history.read_text().splitlines()]


class TestConversation:
    """Turns, and how it ends."""

    def test_turns(self, terminal: Terminal, upstream: Upstream) -> None:
        """Each answer is shown, and each turn is sent with those before it."""
        terminal.send(f"one{ENTER}")
        terminal.expect("You said: 'one'.\n> ")
        terminal.send(f"two{ENTER}")
        terminal.expect("You said: 'two'.\n> ")
        terminal.send(CTRL_D)
        assert terminal.end()[0] == 0
        assert said(upstream) == [("user", "one"), ("assistant", "You said: 'one'."), ("user", "two")]

    def test_banner(self, upstream: Upstream, environ: Mapping[str, str]) -> None:
        """It begins with who is there, and how to learn more."""
        for options, name in [
            (["--base-url", upstream.base_url, "-m", "x"], f"x at {upstream.base_url}"),
            (["-p", "openai", "-m", "x"], "x of openai"),
            (["--base-url", "http://localhost:1/v1"], "the model at http://localhost:1/v1"),
            ([], DEFAULT_MODEL),
        ]:
            with Terminal("chat", *options, environ=environ) as terminal:
                assert f"antiphon, {name}. /help" in terminal.expect("> ").replace("\n", "")

    @pytest.mark.parametrize("leave", ["/exit", "/quit", "/exit "])
    def test_leaving_by_command(self, terminal: Terminal, leave: str) -> None:
        """A command leaves as well."""
        terminal.send(leave + ENTER)
        assert terminal.end()[0] == 0

    def test_empty_lines(self, terminal: Terminal, upstream: Upstream) -> None:
        """An empty line asks nothing."""
        terminal.send(f"{ENTER}")
        terminal.expect("> ")
        terminal.send(f"  {ENTER}")
        terminal.expect("> ")
        assert upstream.requests == []

    def test_answers_alone_on_standard_output(self, upstream: Upstream, environ: Mapping[str, str]) -> None:
        """Where standard output leads elsewhere, only answers go there."""
        with Terminal("chat", "--base-url", upstream.base_url, stdout=False, environ=environ) as terminal:
            terminal.expect("> ")
            terminal.send("one\n")
            terminal.expect("> ")
            terminal.send("two\n")
            terminal.expect("> ")
            terminal.send(CTRL_D)
            assert terminal.end()[0] == 0
            assert terminal.piped() == "You said: 'one'.\nYou said: 'two'.\n"

    def test_nobody_reads_on(self, upstream: Upstream, environ: Mapping[str, str]) -> None:
        """Where the reader of standard output has left, the first answer ends the program without a word."""
        with Terminal("chat", "--base-url", upstream.base_url, stdout=False, environ=environ) as terminal:
            terminal.expect("> ")
            terminal.close_pipe()
            terminal.send("one\n")
            assert terminal.end() == (1, "one\n")

    def test_json_is_refused(self, environ: Mapping[str, str]) -> None:
        """There is no conversation in JSON."""
        with Terminal("chat", "--json", environ=environ) as terminal:
            code, shown = terminal.end()
        assert code == 2
        assert "--json needs a prompt" in shown.replace("\n", " ")

    def test_failed_call(self, terminal: Terminal, upstream: Upstream) -> None:
        """A call that fails is told in a line; the conversation goes on as if it had not been made."""
        upstream.fault = Fault.of_status(429)
        terminal.send(f"one{ENTER}")
        assert "\nantiphon: " in terminal.expect("> ")
        upstream.fault = None
        terminal.send(f"two{ENTER}")
        terminal.expect("You said: 'two'.\n> ")
        assert said(upstream) == [("user", "two")]


class TestInterrupts:
    """Ctrl-C."""

    def test_answer_is_stopped(self, terminal: Terminal, upstream: Upstream) -> None:
        """Ctrl-C stops an answer, the provider is let go, and what was shown of it is part of the conversation."""
        upstream.fault = Fault.stall(after=3)
        terminal.send(f"one{ENTER}")
        terminal.expect("You said:")
        terminal.send(CTRL_C)
        terminal.expect("\n> ")
        assert upstream.wait_until_left()
        upstream.fault = None
        terminal.send(f"two{ENTER}")
        terminal.expect("You said: 'two'.\n> ")
        assert said(upstream) == [("user", "one"), ("assistant", "You said:"), ("user", "two")]

    def test_nothing_came_yet(self, terminal: Terminal, upstream: Upstream) -> None:
        """A turn that was stopped before anything came was never there."""
        upstream.fault = Fault.stall(after=-1)
        terminal.send(f"one{ENTER}")
        while not upstream.requests:
            os.sched_yield()
        terminal.send(CTRL_C)
        terminal.expect("\n> ")
        upstream.fault = None
        terminal.send(f"two{ENTER}")
        terminal.expect("You said: 'two'.\n> ")
        assert said(upstream) == [("user", "two")]

    def test_a_second_one_leaves(self, terminal: Terminal, upstream: Upstream) -> None:
        """After an answer was stopped, Ctrl-C at the prompt leaves."""
        upstream.fault = Fault.stall(after=3)
        terminal.send(f"one{ENTER}")
        terminal.expect("You said:")
        terminal.send(CTRL_C)
        terminal.expect("\n> ")
        terminal.settle()
        terminal.send(CTRL_C)
        assert terminal.end()[0] == 130

    def test_a_second_one_at_once_leaves(self, upstream: Upstream, environ: Mapping[str, str]) -> None:
        """A second Ctrl-C while the answer is being stopped leaves, whatever the provider still does."""
        program = Path(environ["XDG_STATE_HOME"]).with_name("program.py")
        program.write_text(STUBBORN)
        with Terminal("chat", "-p", "stubborn", environ=environ, program=program) as terminal:
            terminal.expect("> ")
            terminal.send(f"one{ENTER}")
            terminal.expect("Beginning")
            terminal.send(CTRL_C)
            terminal.expect("(not yet)")
            terminal.send(CTRL_C)
            code, shown = terminal.end()
        assert code == 130
        assert "Traceback" not in shown

    def test_line_is_given_up(self, terminal: Terminal, upstream: Upstream) -> None:
        """Ctrl-C with something typed gives that up, and does not leave."""
        terminal.send("some words")
        terminal.expect("some words")
        terminal.settle()
        terminal.send(CTRL_C)
        terminal.expect("\n> ")
        terminal.send(f"others{ENTER}")
        terminal.expect("You said: 'others'.\n> ")
        assert len(upstream.requests) == 1


class TestManyLines:
    """Prompts of several lines."""

    @gnu_readline
    def test_paste(self, terminal: Terminal, upstream: Upstream, history: Path) -> None:
        """Pasted lines, tabs included, are one prompt, and one entry of the history."""
        terminal.send(PASTE.format("one\rtwo\r\tthree") + ENTER)
        terminal.expect("You said:")
        terminal.expect("\n> ")
        assert said(upstream) == [("user", "one\ntwo\n\tthree")]
        assert kept(history) == ["one\ntwo\n\tthree"]

    @pytest.mark.parametrize(
        ("lines", "prompt"),
        [
            (['"""one', "two", 'three"""'], "one\ntwo\nthree"),
            (['"""', "  one", "", "two", '"""'], "  one\n\ntwo"),
            (['"""one"""'], "one"),
        ],
    )
    def test_quotes(self, terminal: Terminal, upstream: Upstream, lines: list[str], prompt: str) -> None:
        """Three double quotes begin and end a prompt of several lines."""
        for line in lines[:-1]:
            terminal.send(line + ENTER)
            terminal.expect("\n. ")
        terminal.send(lines[-1] + ENTER)
        terminal.expect("You said:")
        terminal.expect("\n> ")
        assert said(upstream) == [("user", prompt)]

    def test_given_up(self, terminal: Terminal, upstream: Upstream) -> None:
        """Ctrl-C gives up all lines of an open quotation, Ctrl-D leaves."""
        terminal.send(f'"""one{ENTER}')
        terminal.expect("\n. ")
        terminal.settle()
        terminal.send(CTRL_C)
        terminal.expect("\n> ")
        terminal.send(f'"""one{ENTER}')
        terminal.expect("\n. ")
        terminal.send(CTRL_D)
        assert terminal.end()[0] == 0
        assert upstream.requests == []


class TestCommands:
    """Lines that begin with a slash."""

    def test_help(self, terminal: Terminal) -> None:
        """`/help` lists the commands."""
        terminal.send(f"/help{ENTER}")
        shown = terminal.expect("\n> ")
        assert all(command in shown for command in ("/model", "/system", "/clear", "/help", "/exit"))

    def test_clear(self, terminal: Terminal, upstream: Upstream) -> None:
        """`/clear` forgets the turns."""
        for line in ("one", "/clear", "two"):
            terminal.send(line + ENTER)
            terminal.expect("\n> ")
        assert said(upstream) == [("user", "two")]

    def test_model(self, terminal: Terminal, upstream: Upstream) -> None:
        """`/model` shows the model, and changes it."""
        terminal.send(f"/model{ENTER}")
        assert "The model is echo at" in terminal.expect("\n> ")
        terminal.send(f"/model other{ENTER}")
        assert "The model is other at" in terminal.expect("\n> ")
        terminal.send(f"hi{ENTER}")
        terminal.expect("You said: 'hi'.\n> ")
        assert upstream.requests[-1].json["model"] == "other"

    def test_model_that_is_not_there(self, upstream: Upstream, environ: Mapping[str, str]) -> None:
        """`/model` with a name that leads nowhere says so, and keeps the model."""
        environ = {**environ, "OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "some-key"}
        with Terminal("chat", "-m", "openai/first", environ=environ) as terminal:
            terminal.expect("> ")
            terminal.send(f"/model opnai/second{ENTER}")
            shown = terminal.expect("\n> ")
            assert "Did you mean 'openai'?" in shown.replace("\n", " ")
            assert "The model is openai/first." in shown
            terminal.send(f"/model openai/second{ENTER}")
            assert "The model is openai/second." in terminal.expect("\n> ")

    def test_system(self, terminal: Terminal, upstream: Upstream) -> None:
        """`/system` shows the instructions, and changes them for what follows."""
        terminal.send(f"/system{ENTER}")
        assert "none" in terminal.expect("\n> ")
        terminal.send(f"/system Be brief.{ENTER}")
        assert "Be brief." in terminal.expect("\n> ")
        terminal.send(f"hi{ENTER}")
        terminal.expect("\n> ")
        assert said(upstream) == [("system", "Be brief."), ("user", "hi")]

    def test_unknown(self, terminal: Terminal, upstream: Upstream) -> None:
        """An unknown command is told and not sent; a path is no command, nor is what follows a space."""
        terminal.send(f"/cler{ENTER}")
        assert "no command /cler" in terminal.expect("\n> ")
        assert upstream.requests == []
        for text in ("/usr/bin is a folder", " /clear"):
            terminal.send(text + ENTER)
            terminal.expect("You said:")
            terminal.expect("\n> ")
            assert said(upstream)[-1] == ("user", text)


class TestHistory:
    """What was typed before."""

    @pytest.mark.parametrize(
        ("typed", "prompt"),
        [(["one"], "one"), pytest.param(['"""one', 'two"""'], "one\ntwo", marks=gnu_readline)],
    )
    def test_lasts(
        self, upstream: Upstream, environ: Mapping[str, str], history: Path, typed: list[str], prompt: str
    ) -> None:
        """What was typed, in several lines too, comes back in the next conversation; nobody else may read it."""
        for lines in (typed, [UP]):
            with Terminal("chat", "--base-url", upstream.base_url, environ=environ) as terminal:
                terminal.expect("> ")
                for line in lines[:-1]:
                    terminal.send(line + ENTER)
                    terminal.expect("\n. ")
                terminal.send(lines[-1] + ENTER)
                terminal.expect("You said:")
                terminal.expect("\n> ")
            assert said(upstream) == [("user", prompt)]
        assert kept(history) == [prompt]
        assert stat.S_IMODE(history.stat().st_mode) == 0o600
        assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700

    def test_left_out(self, terminal: Terminal, history: Path) -> None:
        """What repeats the line before it is kept once, and what begins with a space not at all."""
        for text in ("one", "one", " two", "one", "three"):
            terminal.send(text + ENTER)
            terminal.expect("You said:")
            terminal.expect("\n> ")
        assert kept(history) == ["one", "three"]

    def test_half_lines(self, upstream: Upstream, environ: Mapping[str, str], history: Path) -> None:
        """What a killed process or another program left in the file does no harm."""
        history.parent.mkdir(parents=True)
        history.write_text('"one"\n{"no": "string"}\n"half')
        with Terminal("chat", "--base-url", upstream.base_url, environ=environ) as terminal:
            terminal.expect("> ")
            terminal.send(UP)
            terminal.expect("one")
            terminal.send(f" and{ENTER}")
            terminal.expect("You said: 'one and'.\n> ")
        assert kept(history) == ["one", "one and"]

    def test_is_cut(self, upstream: Upstream, environ: Mapping[str, str], history: Path) -> None:
        """A history that has grown too long is cut to its newest thousand, and is still nobody else's."""
        history.parent.mkdir(parents=True)
        history.write_text("".join(f'"{number}"\n' for number in range(2001)))
        with Terminal("chat", "--base-url", upstream.base_url, environ=environ) as terminal:
            terminal.expect("> ")
        assert kept(history) == [str(number) for number in range(1001, 2001)]
        assert stat.S_IMODE(history.stat().st_mode) == 0o600
        assert [history] == list(history.parent.iterdir())

    def test_goes_away(self, terminal: Terminal, history: Path) -> None:
        """A history that cannot be kept any longer is told, and the answer comes all the same."""
        history.parent.parent.mkdir(exist_ok=True)
        history.parent.write_text("")
        terminal.send(f"one{ENTER}")
        assert "history is not kept" in terminal.expect("You said: 'one'.\n> ")

    def test_without_readline(self, upstream: Upstream, environ: Mapping[str, str], history: Path) -> None:
        """Without readline there is a conversation all the same, and Ctrl-C leaves it."""
        program = history.parents[2] / "program.py"
        program.write_text(WITHOUT_READLINE)
        with Terminal("chat", "--base-url", upstream.base_url, environ=environ, program=program) as terminal:
            terminal.expect("> ")
            terminal.send(f"one{ENTER}")
            terminal.expect("You said: 'one'.\n> ")
            assert kept(history) == ["one"]
            terminal.settle()
            terminal.send(CTRL_C)
            assert terminal.end()[0] == 130

    @pytest.mark.parametrize(
        "spoil", [lambda file: file.parent.parent.write_text(""), lambda file: file.mkdir(parents=True), not_utf8]
    )
    def test_cannot_be_kept(
        self, upstream: Upstream, environ: Mapping[str, str], history: Path, spoil: Callable[[Path], object]
    ) -> None:
        """A history that cannot be kept is told once, and the conversation goes on."""
        spoil(history)
        with Terminal("chat", "--base-url", upstream.base_url, environ=environ) as terminal:
            shown = terminal.expect("> ")
            for text in ("one", "two"):
                terminal.send(text + ENTER)
                shown += terminal.expect(f"You said: '{text}'.\n> ")
        assert shown.count("history is not kept") == 1
