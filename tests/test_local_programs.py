"""The local model in programs of their own: what they import and print, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no SIGINT for others")


def program(code: str, **environ: str) -> tuple[int, str, str]:
    """Run a program that has `model`, `question` and `stream`; return its exit code and what it printed."""
    begin = """
        import os, signal, sys, threading, time
        from antiphon.sync import bridge
        from antiphon.providers.base import Call
        from antiphon.providers.local.model import local_model_for
        from antiphon.chat.requests import ChatRequest
        from antiphon.chat.messages import Message

        model = local_model_for("")
        question = ChatRequest("", (Message.user("Count from one to one hundred."),), temperature=0)
        stream = lambda request=question: bridge.iterate(model, request, Call())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(begin) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environ},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_import_is_light() -> None:
    """Importing the module loads neither llama.cpp nor what only loading a model needs."""
    code = "print({'xllamacpp', 'http.client', 'platformdirs', 'rich', 'ctypes'} & set(sys.modules))"
    assert program(code) == (0, "set()\n", "")


def test_silence(model_file: Path) -> None:
    """llama.cpp prints nothing; with ANTIPHON_DEBUG it talks on standard error, and tells neither prompt nor key."""
    code = """
        import msgspec
        assert bridge.run(model.http)
        list(stream(msgspec.structs.replace(question, max_tokens=2)))
        {tell}
        model.close()
    """
    assert program(code.format(tell="")) == (0, "", "")
    code = code.format(tell="sys.stdout.write(bridge.run(model.http)[1].reveal())")
    status, key, told = program(code, ANTIPHON_DEBUG="1")
    assert (status, len(key)) == (0, 43)
    assert "loading model" in told
    assert key not in told
    assert "one hundred" not in told


@pytest.mark.parametrize(
    "code",
    [
        "next(kept := stream())",
        "threading.Thread(target=lambda: list(stream()), daemon=True).start(); time.sleep(0.05)",
        "bridge.run(model.http); [threading.Thread(target=lambda: list(stream()), daemon=True).start() for _ in 'ab']",
    ],
    ids=["generating", "loading", "in line"],
)
def test_interpreter_exit(code: str, model_file: Path) -> None:
    """A program may end whatever its local model is doing: at once, with its own exit code and without a word."""
    assert program(f"{code}\nsys.exit(7)") == (7, "", "")


@posix_only
def test_fork(model_file: Path) -> None:
    """A child forked after the first call gets a clear error and can end; one forked before it has its own model."""
    code = """
        import msgspec, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, that forking with threads is unwise
        short = msgspec.structs.replace(question, max_tokens=2)

        def fork(work):
            sys.stdout.flush()
            if not (child := os.fork()):
                try:
                    work()
                except Exception as error:
                    print(type(error).__name__, error)
                sys.exit(3)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

        fork(lambda: print(len(list(stream(short))) > 3))
        print(len(list(stream(short))) > 3)
        fork(lambda: list(stream(short)))
        print(len(list(stream(short))) > 3)
    """
    status, told, errors = program(code)
    refusal = told.splitlines()[3]
    assert refusal.startswith("APIConnectionError This process was forked from one that had used a local model")
    assert told.splitlines() == ["True", "3", "True", refusal, "3", "True"]
    assert (status, errors) == (0, "")


@posix_only
def test_interrupt(model_file: Path) -> None:
    """Ctrl-C while an answer is awaited stops the generation and reaches the program; the next call is answered."""
    code = """
        import msgspec
        try:
            for number, event in enumerate(stream()):
                if number == 3:
                    os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print(len(model._engine._running))
        print(len(list(stream(msgspec.structs.replace(question, max_tokens=2)))) > 3)
    """
    assert program(code) == (0, "0\nTrue\n", "")
