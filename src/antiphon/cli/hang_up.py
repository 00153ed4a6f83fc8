"""SIGHUP, which has a server read its settings anew, waits until it can be handled.

Imported first of all: by default the signal ends a process, and the rest takes 100 ms and more to import.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["hold_hang_up"]


def hold_hang_up() -> None:
    """Let SIGHUP wait in this thread; `server.run` lets it through once its handler is there."""
    if hasattr(signal, "SIGHUP"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


if os.path.basename(sys.argv[0]) == "antiphon" and "serve" in sys.argv[1:]:
    hold_hang_up()
