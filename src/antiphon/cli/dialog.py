"""A conversation at the terminal, with line editing and a history.

Pasted lines stay together where the terminal marks pastes and Python has GNU readline; anywhere else three double
quotes begin and end a prompt of several lines.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType

import click

from antiphon.chat.messages import Message
from antiphon.cli.answer import Options, Printer, ask
from antiphon.cli.terminal import is_terminal, say, worded
from antiphon.client import Client
from antiphon.errors import AntiphonError
from antiphon.models import resolve
from antiphon.providers import catalog

try:
    import readline as _readline_module
except ImportError:  # Windows: the console edits lines itself
    _readline: ModuleType | None = None
else:
    _readline = _readline_module

__all__ = ["Dialog", "History"]

logger = logging.getLogger(__name__)

_HELP = """\
/model [NAME]   show the model, or go on with another
/system [TEXT]  show the instructions, or go on with others
/clear          forget what was said
/help           show this
/exit           leave, as Ctrl-D does
Three double quotes begin and end a prompt of several lines. Ctrl-C stops an answer; at an empty prompt it leaves.\
"""
_QUOTES = '"""'
_KEPT = 1000
"""Prompts in the history."""


class Dialog:
    """One conversation."""

    def __init__(self, client: Client, options: Options) -> None:
        self._client = client
        self._options = options
        self._model = options.model
        self._system = options.system
        self._messages: list[Message] = []
        self._presses = 0
        """How often Ctrl-C was pressed since the last prompt."""
        self._typed = ""
        """What stood on the line when it was."""

    def run(self) -> int:
        """Hold it, until its end; return the exit code.

        Raises:
            KeyboardInterrupt: The user left by Ctrl-C.
        """
        history = History(_history_file())
        _prepare_readline(history)
        click.echo(f"antiphon, {self._model_name()}. /help shows the commands, Ctrl-D leaves.", err=True)
        with self._interrupts():
            while (text := self._read()) is not None:
                if not text.strip():
                    continue
                history.add(text)
                command = re.fullmatch(r"/(\w+)(?:\s+(.*))?", text.rstrip(), re.DOTALL)
                if command is None:
                    self._turn(text)
                elif command[1] in ("exit", "quit"):
                    break
                else:
                    self._command(command[1], (command[2] or "").strip())
        return 0

    def _model_name(self) -> str:
        if self._options.base_url is not None:
            return f"{self._model or 'the model'} at {self._options.base_url}"
        if self._options.provider is not None:
            return f"{self._model or 'the default model'} of {self._options.provider}"
        return resolve(self._model)

    # ------------------------------------------------------------------------------------------------- what is typed

    def _read(self) -> str | None:
        """Return what was typed, or `None` at the end of input.

        Raises:
            KeyboardInterrupt: Ctrl-C at an empty prompt.
        """
        lines: list[str] = []
        while True:
            self._presses, self._typed = 0, ""
            try:
                lines.append(_line(". " if lines else "> "))
            except EOFError:
                click.echo(err=True)
                return None
            except KeyboardInterrupt:
                if not lines and not self._typed:
                    raise
                click.echo(err=True)  # what stood there is given up, as in a shell
                lines = []
                continue
            text = "\n".join(lines)
            if not text.lstrip().startswith(_QUOTES):
                return text
            quoted = text.strip()[len(_QUOTES) :]
            if quoted.endswith(_QUOTES):
                return quoted[: -len(_QUOTES)].strip("\n")

    @contextmanager
    def _interrupts(self) -> Generator[None, None, None]:
        """Count Ctrl-C while the conversation lasts, and know what stood on the line when it came."""

        def interrupt(_signal: int, _frame: FrameType | None) -> None:
            self._presses += 1
            self._typed = _readline.get_line_buffer() if _readline else ""
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # -------------------------------------------------------------------------------------------- what comes of it

    def _turn(self, text: str) -> None:
        """Ask, and keep the turn; of a stopped answer what was shown, of one that failed nothing."""
        question = Message.user(text)
        system = [Message.system(self._system)] if self._system else []
        printer = Printer(self._options)
        try:
            answer = ask(self._client, [*system, *self._messages, question], self._model, self._options, printer)
        except KeyboardInterrupt:
            if self._presses > 1:
                raise
            if not printer.ended_line:
                click.echo(err=True)  # after the terminal's ^C
            if printer.text:
                self._messages += [question, Message.assistant(printer.text)]
        except BrokenPipeError:
            raise  # nobody reads any more
        except Exception as error:  # a call that failed is no reason to lose the conversation
            logger.debug("The call failed.", exc_info=True)
            say(worded(error))
        else:
            self._messages += [question, *(choice.message for choice in answer.choices[:1])]

    def _command(self, name: str, value: str) -> None:
        if name == "help":
            click.echo(_HELP, err=True)
        elif name == "clear":
            self._messages = []
            say("What was said is forgotten.", name="")
        elif name == "model":
            if value:
                self._change_model(value)
            say(f"The model is {self._model_name()}.", name="")
        elif name == "system":
            self._system = value or self._system
            say(f"Instructions: {self._system or 'none'}", name="")
        else:
            say(f"There is no command /{name}; /help lists them. A space before it makes it part of the prompt.")

    def _change_model(self, name: str) -> None:
        try:
            if self._options.base_url is None and self._options.provider is None:
                catalog.find_provider(catalog.split_model(name)[0])
        except AntiphonError as error:
            say(worded(error))
        else:
            self._model = name


def _line(prompt: str) -> str:
    if is_terminal(sys.stdout):
        return input(prompt)
    click.echo(prompt, nl=False, err=True)  # only answers go where standard output leads
    return input()


def _prepare_readline(history: History) -> None:
    if _readline is None:
        return
    _readline.set_auto_history(False)
    if "libedit" in (_readline.__doc__ or ""):
        _readline.parse_and_bind("bind ^I ed-insert")
    else:
        # Python switches this off for its own prompt, which could not take pasted lines (bpo-42819); `input` can.
        _readline.parse_and_bind("set enable-bracketed-paste on")
        _readline.parse_and_bind("tab: self-insert")
    _readline.clear_history()
    for text in history.load():
        _readline.add_history(text)


# ------------------------------------------------------------------------------------------------------- the history


def _history_file() -> Path:
    import platformdirs  # takes its time

    return platformdirs.user_state_path("antiphon", appauthor=False) / "history.jsonl"


class History:
    """What was typed before, in a file that only its owner may read: one JSON string a line, so that lines may be many.

    Readline's own file would break a prompt of several lines apart, and GNU's and libedit's formats differ. It is only
    ever appended to, so that two conversations at once lose nothing; it is cut when it has grown to twice its length.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last: str | None = None
        self._usable = True

    def load(self) -> list[str]:
        """Return the newest prompts, the oldest of them first."""
        try:
            lines = self._file.read_text(encoding="utf-8").split("\n")
            found = [text for line in lines if (text := _prompt_in(line)) is not None][-_KEPT:]
            if len(lines) > 2 * _KEPT or lines[-1]:  # a half line at the end would spoil the next
                part = self._file.with_suffix(f".{os.getpid()}")
                self._write(part, os.O_TRUNC, found)
                os.replace(part, self._file)
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            self._give_up(error)
            return []
        self._last = found[-1] if found else None
        return found

    def add(self, text: str) -> None:
        """Keep *text*, unless it begins with a space or repeats what came before it."""
        if text == self._last or text.startswith(" "):
            return
        self._last = text
        if _readline is not None:
            _readline.add_history(text)
        if not self._usable:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(self._file, os.O_APPEND, [text])
        except OSError as error:
            self._give_up(error)

    @staticmethod
    def _write(file: Path, how: int, texts: list[str]) -> None:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | how, 0o600), "wb") as out:
            out.write("".join(f"{json.dumps(text)}\n" for text in texts).encode())

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        say(f"The history is not kept: {self._file}: {getattr(error, 'strerror', None) or error}.")


def _prompt_in(line: str) -> str | None:
    """Return the prompt in one *line* of the file, or `None` if it is none: a half line of a killed process."""
    try:
        text = json.loads(line)
    except ValueError:
        return None
    return text if isinstance(text, str) else None
