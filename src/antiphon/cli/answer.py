"""One call: its options, its prompt, and its answer on standard output piece by piece."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO, Any

import click

from antiphon.calls.params import ChatParams
from antiphon.chat.answers import Completion, CompletionChunk
from antiphon.chat.messages import Message
from antiphon.cli.terminal import is_terminal, mark_secret, say, visible
from antiphon.client import Client, CompletionStream
from antiphon.providers.catalog import ProviderRow, find_provider, split_model
from antiphon.providers.local.download import fetch_with_bar
from antiphon.providers.local.model import DEFAULT_NAME
from antiphon.providers.lookup import default_model

__all__ = ["Options", "Printer", "ask", "client_for", "run"]

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_SILENCE = 2.0
"""Seconds until somebody whose prompt waits for a pipe that nobody closes is told so."""
_NOTES = {
    "length": "The answer was cut off at the limit of tokens.",
    "content_filter": "The provider's content filter ended the answer.",
    "pause": "The model paused before its answer was complete.",
    "error": "The provider says that it failed before the answer was complete.",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `antiphon chat` was told."""

    model: str = ""
    provider: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    timeout: float | None = None
    """Seconds."""
    stream: bool | None = None
    """`None`: text comes in pieces, JSON whole."""
    as_json: bool = False
    reasoning: bool = False
    usage: bool = False

    @property
    def streams(self) -> bool:
        """Whether the answer is shown as it comes."""
        return not self.as_json if self.stream is None else self.stream

    def params(self) -> ChatParams:
        """Return what goes with every call."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop) or None,
            "seed": self.seed,
            "timeout": self.timeout,
        }


def run(words: Sequence[str], options: Options) -> int:
    """Do `antiphon chat`: answer the prompt, or hold a conversation if there is none; return the exit code."""
    prompt = _prompt(words)
    if prompt is None and options.as_json:
        raise click.UsageError("--json needs a prompt: a conversation is for people.")
    with client_for(options.provider, options.base_url, options.api_key_env) as client:
        if prompt is None:
            from antiphon.cli.dialog import Dialog  # readline changes the terminal's ways

            return Dialog(client, options).run()
        messages = [Message.user(prompt)]
        if options.system is not None:
            messages.insert(0, Message.system(options.system))
        answer = ask(client, messages, options.model, options, Printer(options))
        return 0 if options.as_json or answer.content else 1


def client_for(provider: str | None, base_url: str | None, api_key_env: str | None) -> Client:
    """Make the client.

    Raises:
        click.UsageError: The URL is not one, or the variable with the key is not set.
    """
    try:
        return Client(provider=provider, base_url=base_url, api_key=_key(api_key_env))
    except ValueError as error:
        said = str(error).replace("base_url", "--base-url")
        raise click.UsageError(said.replace("into api_key", "into the variable of --api-key-env")) from error


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    mark_secret(variable)
    key = os.environ.get(variable, "").strip()
    if not key:
        # Not repeated: it may be a key, given by mistake.
        raise click.UsageError(
            "--api-key-env takes the name of an environment variable, and there is none of the name given, "
            "or it is empty."
        )
    return key


def _prompt(words: Sequence[str]) -> str | None:
    """Return the prompt, or `None` if somebody sits at the terminal to type it."""
    given = " ".join(words).strip()
    if not given and not words and is_terminal(sys.stdin):
        return None
    piped = "" if sys.stdin is None or is_terminal(sys.stdin) else _read(sys.stdin.buffer, hint=bool(given))
    prompt = "\n\n".join(part for part in (given, piped) if part)
    if not prompt:
        raise click.UsageError("There is no prompt: neither words after the command nor text piped in.")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError("The prompt is not valid text in UTF-8.") from error
    return prompt


def _read(stream: IO[bytes], *, hint: bool) -> str:
    if hint and _is_silent(stream):
        say("Standard input is read to its end first; add </dev/null to the command if nothing comes from there.")
    try:
        text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"What is piped in is not text in UTF-8 (byte {error.start + 1}).") from error
    return text.rstrip() if text.strip() else ""


def _is_silent(stream: IO[bytes]) -> bool:
    """Tell whether neither a byte nor the end comes out of a pipe for a while."""
    import select  # only where there is a pipe

    try:
        return not select.select([stream], [], [], _SILENCE)[0]
    except (OSError, ValueError):  # Windows, where only sockets are waited for; or what is no file at all
        return False


class Printer:
    """Writes an answer as it comes: its text to standard output, and if wanted the thoughts to standard error."""

    def __init__(self, options: Options) -> None:
        self._json = options.as_json
        self._reasoning = options.reasoning
        self._terminal = is_terminal(sys.stdout)
        self._dim = is_terminal(sys.stderr) and not os.environ.get("NO_COLOR")
        self._last = "\n"
        self._thought = "\n"
        self._written: list[str] = []
        self.first: float | None = None
        """When the first piece came, by `time.perf_counter()`."""
        self.ended_line = False
        """Whether a line of the terminal had to be ended after the answer."""

    @property
    def text(self) -> str:
        """The answer as far as it came."""
        return "".join(self._written)

    def chunk(self, chunk: CompletionChunk) -> None:
        """Write one piece."""
        if self._json:
            self._write(f"{chunk.to_json()}\n")
        for choice in chunk.choices:
            if self.first is None and (choice.delta.content or choice.delta.reasoning_content):
                self.first = time.perf_counter()
            self._piece(choice.delta.reasoning_content, choice.delta.content)

    def whole(self, answer: Completion) -> None:
        """Write all of it."""
        if self._json:
            self._write(f"{answer.to_json()}\n")
        elif answer.choices:
            message = answer.choices[0].message
            self._piece(message.reasoning_content, message.content)

    def end(self) -> None:
        """End the last line."""
        self._end_thought()
        if self._last != "\n":
            self._write("\n")
            self.ended_line = self._terminal

    def _piece(self, thought: str | None, text: str | None) -> None:
        if thought and self._reasoning:
            shown = visible(thought) if is_terminal(sys.stderr) else thought
            click.echo(f"{_DIM}{shown}{_PLAIN}" if self._dim else shown, nl=False, err=True)
            self._thought = thought[-1]
        if text and not self._json:
            self._end_thought()
            self._written.append(text)
            self._write(visible(text) if self._terminal else text)

    def _end_thought(self) -> None:
        if self._thought != "\n":
            click.echo(err=True)
            self._thought = "\n"

    def _write(self, text: str) -> None:
        self._last = text[-1]
        _out(text)


def _out(text: str) -> None:
    """Write to standard output at once, whatever characters it can show."""
    out = sys.stdout
    if out is None:  # the process was started without one
        return
    try:
        out.write(text)
    except UnicodeEncodeError:
        out.write(text.encode(out.encoding, "replace").decode(out.encoding))
    out.flush()


def ask(
    client: Client,
    messages: Sequence[Mapping[str, Any] | Message],
    model: str,
    options: Options,
    printer: Printer,
) -> Completion:
    """Get one answer and show it.

    Raises:
        AntiphonError: There is none, or it broke off; what came of it has been written.
    """
    _fetch_if_local(model, options)
    began = time.perf_counter()
    completions = client.chat.completions
    try:
        if options.streams:
            answer = _streamed(completions.stream(messages, model, **options.params()), printer)
        else:
            answer = completions.create(messages, model, **options.params())
            printer.whole(answer)
    finally:
        printer.end()
    _tell(answer, options)
    if options.usage:
        _tell_usage(answer, began, printer.first)
    return answer


def _streamed(stream: CompletionStream, printer: Printer) -> Completion:
    try:
        for chunk in stream:
            printer.chunk(chunk)
        return stream.get_final_completion()
    except BaseException as error:
        # A second Ctrl-C, while the stream was ending because of the first, waits for it no longer.
        if not isinstance(error.__context__, KeyboardInterrupt):
            stream.close()
        raise


def _fetch_if_local(model: str, options: Options) -> None:
    """Fetch the local model if that is who will answer; here, where Ctrl-C reaches it at once."""
    if options.base_url is not None:
        return
    provider, name = (options.provider, model) if options.provider else split_model(model or default_model())
    row = find_provider(provider)
    local = isinstance(row, ProviderRow) and row.codec == "local" and name.lower() in ("", DEFAULT_NAME)
    if local and find_spec("xllamacpp"):  # without it the call itself says what is missing
        fetch_with_bar()


def _tell(answer: Completion, options: Options) -> None:
    """Say what the text alone does not: that there is none, that it was cut off, that part of the request was lost."""
    for loss in answer.losses:
        say(f"Left out of the request: {loss.path}: {loss.reason}")
    for choice in answer.choices[:1]:
        message = choice.message
        if message.refusal and not options.as_json:
            say(f"The model refused: {message.refusal}")
        elif not message.content and not options.as_json:
            thoughts = ", only thoughts, which --reasoning shows" if message.reasoning_content else ""
            say(f"The model gave no text{thoughts} (finish reason {choice.finish_reason!r}).")
        if note := _NOTES.get(choice.finish_reason or ""):
            say(note)


def _tell_usage(answer: Completion, began: float, first: float | None) -> None:
    seconds = time.perf_counter() - began
    usage = answer.usage
    came = usage.prompt_tokens if usage else None
    went = usage.completion_tokens if usage else None
    words = [
        f"{'?' if came is None else came} tokens in, {'?' if went is None else went} out"
        if usage
        else "tokens not reported",
        f"{seconds:.2f} s" + (f", first after {first - began:.2f} s" if first else ""),
        re.sub("^/|/$", "", f"{answer.provider or ''}/{answer.model}"),
    ]
    say("; ".join(words))
