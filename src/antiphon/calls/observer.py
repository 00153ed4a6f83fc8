"""Who sees every event of a call: holds providers to ending their answers, and logs a line when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, cast

from antiphon.chat.events import End, Event, Start, UnknownEvent, UsageUpdate
from antiphon.chat.usage import Usage
from antiphon.errors import StreamError

__all__ = ["CallObserver", "logged"]

logger = logging.getLogger("antiphon")


class CallObserver:
    """Sees every event of one call: holds the provider to ending its answer, and logs one line when it is over.

    The line says who answered, how long it took and what it used: never a prompt, an answer or a key.
    """

    __slots__ = ("_began", "_ended", "_model", "_provider", "silent", "usage")

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._began = 0.0
        self.usage: Usage | None = None
        """Tokens, as far as told."""
        self._ended = False
        self.silent = True
        """Whether nothing was said yet."""

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if logger.isEnabledFor(logging.INFO):
            self._log("ok" if kind is None else self._outcome(kind))

    def observe(self, event: Event) -> None:
        """Take note of the next event.

        Raises:
            StreamError: It is the end of an answer that said nothing at all.
        """
        kind = type(event)
        if kind is UsageUpdate:
            self._used(cast(UsageUpdate, event).usage)
        elif kind is End:
            self._ended = True
            self._used(cast(End, event).usage)
            if self.silent:
                raise self._broken("said nothing at all.")
        elif self.silent and kind is not Start and kind is not UnknownEvent:
            self.silent = False

    def check_complete(self) -> None:
        """Take note that no event follows.

        Raises:
            StreamError: The last one was not the end of the answer.
        """
        if not self._ended:
            raise self._broken("stopped without saying that its answer is complete.")

    def _broken(self, what: str) -> StreamError:
        name = self._provider
        return StreamError(f"The provider {name!r} {what}", provider=name, model=self._model)

    def _used(self, usage: Usage | None) -> None:
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.updated(usage)

    def _outcome(self, kind: type[BaseException]) -> str:
        if issubclass(kind, Exception):
            return kind.__name__
        return "ok" if self._ended else "abandoned"  # closed or cancelled by the caller, who may have had all of it

    def _log(self, outcome: str) -> None:
        usage = self.usage or Usage()
        logger.info(
            "chat provider=%s model=%s duration=%.3fs input_tokens=%s output_tokens=%s outcome=%s",
            self._provider,
            _shown(self._model),
            time.perf_counter() - self._began,
            "-" if usage.prompt_tokens is None else usage.prompt_tokens,
            "-" if usage.completion_tokens is None else usage.completion_tokens,
            outcome,
        )


def _shown(name: str) -> str:
    """Return a model's name as it may stand in a line of a log: one that holds line ends would forge another line."""
    if not name:
        return "-"
    return name if name.isprintable() else repr(name)


@contextmanager
def logged(what: str, provider: str, model: str) -> Generator[None, None, None]:
    """Log one line about a call that gives no chat."""
    began, outcome = time.perf_counter(), "ok"
    try:
        yield
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        duration = time.perf_counter() - began
        logger.info(
            "%s provider=%s model=%s duration=%.3fs outcome=%s", what, provider, _shown(model), duration, outcome
        )
