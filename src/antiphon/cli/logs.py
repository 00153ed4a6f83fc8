"""What the library logs, on standard error."""

from __future__ import annotations

import logging
from collections.abc import Callable

import click

from antiphon.cli.terminal import hide, say, visible

__all__ = ["show_logs"]


class _Handler(logging.Handler):
    """Shows records one line each, on whatever standard error is at that moment: a progress bar may stand before it."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__(logging.DEBUG if debug else logging.WARNING)
        self._debug = debug
        self.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._debug:
                # Lines that a message brings are indented: none of them is taken for another record.
                click.echo(visible(hide(self.format(record))).replace("\n", "\n    "), err=True)
            else:
                say(record.getMessage())
        except Exception:  # as every handler does: a log line must not end the program
            self.handleError(record)


def show_logs(*, debug: bool) -> Callable[[], None]:
    """Show warnings of the library, or all it says if *debug*; returns what stops that."""
    logger, handler = logging.getLogger("antiphon"), _Handler(debug=debug)
    before = logger.level
    logger.addHandler(handler)
    if debug:
        logger.setLevel(logging.DEBUG)

    def stop() -> None:
        logger.removeHandler(handler)
        logger.setLevel(before)

    return stop
