"""The command line: `antiphon chat`, `models`, `providers` and `completion`.

The commands are declared here and done in the modules beside this one, which are imported when a command runs: so
`--version`, `--help` and completion cost 40 ms for click and little else.
"""

from __future__ import annotations

from antiphon.cli import hang_up  # isort: skip # first, for SIGHUP
import math
import sys
from typing import Any

import click

from antiphon import __version__
from antiphon.cli.logs import show_logs
from antiphon.cli.terminal import hide, say, worded
from antiphon.errors import ConfigError

__all__ = ["app", "main"]

_INTERRUPTED = 130
"""128 + SIGINT: what a shell makes of a program that Ctrl-C ended."""


def _set_debug(_context: click.Context, _option: click.Parameter, value: bool) -> None:
    app.debug = app.debug or value


_DEBUG = click.Option(
    ["--debug"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    envvar="ANTIPHON_DEBUG",
    callback=_set_debug,
    help="Show tracebacks, and what happens on the way, on standard error (or ANTIPHON_DEBUG=1).",
)


def _with_debug(params: list[click.Parameter]) -> list[click.Parameter]:
    *own, help_option = params
    return [*own, _DEBUG, help_option]


class _Command(click.Command):
    """A command that takes `--debug` and shows what the library logs."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return _with_debug(super().get_params(ctx))

    def invoke(self, ctx: click.Context) -> Any:
        ctx.call_on_close(show_logs(debug=app.debug))
        return super().invoke(ctx)


class _App(click.Group):
    """The program: whatever goes wrong becomes one line on standard error and an exit code."""

    command_class = _Command
    debug = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return _with_debug(super().get_params(ctx))

    def main(self, *args: Any, **options: Any) -> Any:
        """Run it and leave by `SystemExit`; the arguments are click's."""
        self.debug = False
        # Windows: a question mark in a prompt is not to be replaced by the names of files.
        options |= {"prog_name": "antiphon", "standalone_mode": False, "windows_expand_args": False}
        try:
            code = super().main(*args, **options)
        except SystemExit:
            raise
        except BaseException as error:  # where all of them end, cancellation too, to be told in one line
            code = self._failed(error)
        sys.exit(code)

    def _failed(self, error: BaseException) -> int:
        if self.debug and not isinstance(error, click.ClickException | click.Abort):
            import traceback  # needed by nobody else

            click.echo(hide("".join(traceback.format_exception(error))), err=True)
        if isinstance(error, click.Abort | KeyboardInterrupt):
            return _INTERRUPTED
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
        elif isinstance(error, ConfigError):
            for fault in error.faults:
                say(fault)
        else:
            say(worded(error))
        return error.exit_code if isinstance(error, click.ClickException) else 1


def _finite(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


class _Models(click.Group):
    """`antiphon models`, which is `antiphon models list` unless it says otherwise."""

    command_class = _Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        completes = ctx.resilient_parsing and not args  # then the commands are what is offered
        if first not in self.commands and first not in ctx.help_option_names and not completes:
            args = ["list", *args]
        return super().parse_args(ctx, args)


def _models_shell_complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from antiphon.cli.names import models  # reads the catalog

    return models(incomplete)


def _providers_shell_complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from antiphon.cli.names import providers

    return providers(incomplete)


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="antiphon", message="%(prog)s %(version)s")
def app() -> None:
    """Talk to any language model: one in this process that needs no key, or any provider's.

    \b
    Examples:
      antiphon chat "Why is the sky blue?"
      antiphon chat -m openai/gpt-5 "Summarise this:" < letter.txt
      antiphon chat                     a conversation
      antiphon models                   what can be asked now
      antiphon providers                who can be asked, and where keys are looked for

    Without -m the model is the one named by ANTIPHON_MODEL, or else the local one: 98 MB, fetched once.
    """  # noqa: D301 - click keeps the lines after its mark


@app.command()
@click.argument("prompt", nargs=-1)
@click.option(
    "-m",
    "--model",
    default="",
    metavar="NAME",
    shell_complete=_models_shell_complete,
    help="provider/model, such as openai/gpt-5 or local/path/to/model.gguf. "
    "With --provider or --base-url: the name as it is known there.",
)
@click.option(
    "-p",
    "--provider",
    metavar="NAME",
    shell_complete=_providers_shell_complete,
    help="Who answers, one of `antiphon providers`; the model's name is then passed on as it is.",
)
@click.option("--base-url", metavar="URL", help="An OpenAI-compatible server, such as http://localhost:8000/v1.")
@click.option(
    "--api-key-env",
    metavar="NAME",
    help="The environment variable with the key, in place of the provider's own. "
    "A key itself is never taken here, where every user of the machine could read it.",
)
@click.option("-s", "--system", metavar="TEXT", help="Instructions above the conversation.")
@click.option(
    "-t",
    "--temperature",
    type=float,
    metavar="NUMBER",
    callback=_finite,
    help="0: always the likeliest word; 1: as trained.",
)
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Where to cut the answer off.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Text before which the answer ends; may be repeated.")
@click.option("--seed", type=int, metavar="N", help="For the same answer again, as far as the provider can.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    callback=_finite,
    help="How long the whole answer may take.",
)
@click.option("--stream/--no-stream", default=None, help="Show the answer as it comes (the default), or when complete.")
@click.option(
    "--json", "as_json", is_flag=True, help="OpenAI's JSON: the whole answer; with --stream, a line for each chunk."
)
@click.option("--reasoning", is_flag=True, help="Show the model's thoughts too, on standard error.")
@click.option("--usage", is_flag=True, help="Say at the end how many tokens and seconds it took, on standard error.")
def chat(prompt: tuple[str, ...], **options: Any) -> int:
    """Ask a model; without PROMPT, hold a conversation.

    Words of PROMPT are joined by spaces. Text piped in is the prompt, or follows it after an empty line. The answer,
    and nothing else, goes to standard output.

    Ctrl-C stops an answer; in a conversation it takes a second one, or Ctrl-D, to leave.

    \b
    Examples:
      antiphon chat "Three names for a cat"
      antiphon chat -m groq/llama-3.3-70b-versatile -t 0 "Three names for a cat"
      git diff | antiphon chat "Write a commit message for this:"
      antiphon chat --base-url http://localhost:8000/v1 -m my-model hello
      antiphon chat --json hello | jq -r '.choices[0].message.content'

    Inside a loop that reads from a file, add </dev/null: piped text is read to its end.
    """  # noqa: D301 - click keeps the lines after its mark
    from antiphon.cli.answer import Options, run  # with all that a call needs

    return run(prompt, Options(**options))


@app.group(cls=_Models)
def models() -> None:
    """List what can be asked now, or fetch the local model.

    \b
    Examples:
      antiphon models                   the local model, and those of every provider whose key is set
      antiphon models list groq         those of one provider
      antiphon models pull              fetch the local model before it is needed
    """  # noqa: D301 - click keeps the lines after its mark


@models.command("list")
@click.argument("provider", required=False, shell_complete=_providers_shell_complete)
@click.option("--base-url", metavar="URL", help="Ask this OpenAI-compatible server instead.")
@click.option("--api-key-env", metavar="NAME", help="The environment variable with the key.")
@click.option("--json", "as_json", is_flag=True, help="OpenAI's JSON list, for programs.")
def list_models(provider: str | None, base_url: str | None, api_key_env: str | None, as_json: bool) -> int:
    """List models: the local one, and those of PROVIDER or of every provider whose key is set."""
    from antiphon.cli.list_models import list_models as do

    return do(provider, base_url, api_key_env, as_json=as_json)


@models.command()
def pull() -> int:
    """Fetch the local model, once, and say where it is."""
    from antiphon.cli.list_models import pull as do

    return do()


@app.command()
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs; with every variable and all names in full.")
def providers(as_json: bool) -> int:
    """List who can be asked, where, and whether a key is set."""
    from antiphon.cli.list_providers import list_providers as do

    return do(as_json=as_json)


_CONFIG = click.option(
    "--config",
    "path",
    metavar="FILE",
    type=click.Path(),
    help="The file, in place of the one that ANTIPHON_CONFIG names or your own.",
)


@app.command()
@_CONFIG
@click.option("--host", metavar="ADDRESS", help="Where to listen, if not at 127.0.0.1; anything else takes a key.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="If not 4114; 0 takes one that is free.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes that share the work.")
@click.option("--access-log/--no-access-log", default=None, help="A line of JSON for each request, on standard output.")
@click.option("--metrics/--no-metrics", default=None, help="Prometheus metrics at /metrics.")
@click.option("--check", is_flag=True, help="Check the settings, say what they come to, and serve nothing.")
def serve(path: str | None, check: bool, **options: Any) -> int:
    """Serve the dialects of OpenAI, Anthropic, Google and Ollama, each to any provider.

    Without settings: the local model and every provider whose key is in the environment, on this machine alone. The
    model of a request is named as everywhere: provider/model.

    SIGHUP reads the settings anew; SIGTERM lets answers under way end first.

    \b
    Examples:
      antiphon serve
      antiphon serve --port 8080 --no-access-log
      antiphon key new alice            a key, which it takes to listen elsewhere
      antiphon serve --host 0.0.0.0 --config antiphon.toml
    """  # noqa: D301 - click keeps the lines after its mark
    if not check:
        hang_up.hold_hang_up()
    from antiphon.cli.serve import serve as do  # with the whole catalog

    return do(path, {f"server.{name}": value for name, value in options.items()}, check=check)


class _Group(click.Group):
    """A group of commands."""

    command_class = _Command


@app.group(cls=_Group)
def config() -> None:
    """Show or check what the server is told to do.

    \b
    Examples:
      antiphon config show              every setting, and where it came from
      antiphon config check             what is wrong, with the line
      antiphon config path              where the file is looked for
    """  # noqa: D301 - click keeps the lines after its mark


@config.command("show")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
def config_show(path: str | None, as_json: bool) -> int:
    """Show every setting, and where it came from. Of keys, only whether they are set."""
    from antiphon.cli.show_config import show as do

    return do(path, as_json=as_json)


@config.command("check")
@_CONFIG
def config_check(path: str | None) -> int:
    """Check the file: every fault, with its line.

    Where there is none, what was found is told.
    """
    from antiphon.cli.show_config import check as do

    return do(path)


@config.command("path")
def show_config_path() -> int:
    """Say where the file is looked for."""
    from antiphon.cli.show_config import show_path as do

    return do()


@app.group(cls=_Group)
def key() -> None:
    """Make keys for those who may call the server.

    \b
    Examples:
      antiphon key new alice            a key for alice, and the line that lets it in
      antiphon key hash alice < FILE    that line for a key that you have
    """  # noqa: D301 - click keeps the lines after its mark


@key.command("new")
@click.argument("name")
def key_new(name: str) -> int:
    """Make a key, and show it once.

    The key goes to standard output; the line for the file, which holds a hash of it, to standard error.
    """
    from antiphon.cli.show_config import make_key as do

    return do(name)


@key.command("hash")
@click.argument("name")
def key_hash(name: str) -> int:
    """Read a key from standard input, and print the line for the file.

    It is never taken as an argument, where every user of the machine could read it.
    """
    from antiphon.cli.show_config import hash_key as do

    return do(name)


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for completion in SHELL.

    It completes commands, options, and the names of providers and models.

    \b
    To keep it:
      bash  antiphon completion bash > ~/.local/share/bash-completion/completions/antiphon
      zsh   antiphon completion zsh  > a file _antiphon in a folder of $fpath
      fish  antiphon completion fish > ~/.config/fish/completions/antiphon.fish
    """  # noqa: D301 - click keeps the lines after its mark
    from click.shell_completion import get_completion_class  # needed by nobody else

    found = get_completion_class(shell)
    assert found is not None, "click knows the shells of the choice above"
    click.echo(found(app, {}, "antiphon", "_ANTIPHON_COMPLETE").source())


main = app
"""What the `antiphon` command calls."""
