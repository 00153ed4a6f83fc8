"""What a blocking call does inside a running event loop: works, or raises `NestAsyncioError`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Literal, get_args

from antiphon.errors import NestAsyncioError

__all__ = ["Nested", "check_nesting", "configure"]

Nested = Literal["auto", "thread", "error"]
"""What a blocking call does inside a running event loop.

`"thread"`: it works, and that loop waits. `"error"`: it raises `NestAsyncioError`. `"auto"`: it works in a loop patched
by nest_asyncio or nest_asyncio2 and in a Jupyter or IPython kernel, where users expect it; elsewhere it raises.
"""

_NESTED: tuple[Nested, ...] = get_args(Nested)

_configured: Nested | None = None


def configure(*, nested: Nested | None) -> None:
    """Set what blocking calls do inside a running loop, for the whole process; `None` takes the setting back.

    Raises:
        ValueError: *nested* is none of the values of `Nested`.
    """
    global _configured
    _configured = None if nested is None else _checked(nested, "nested")


def check_nesting(nested: Nested | None, *, on_bridge: bool) -> None:
    """Check that a blocking call is allowed in this thread; on one of the bridge's own loops it always is.

    Raises:
        NestAsyncioError: An event loop is running, and nesting is not allowed.
        ValueError: *nested* or `ANTIPHON_NESTED` is none of the values of `Nested`.
    """
    if nested is not None:
        _checked(nested, "nested")
    if on_bridge:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    nested = nested or _configured or _checked(os.environ.get("ANTIPHON_NESTED") or "auto", "ANTIPHON_NESTED")
    # nest_asyncio 1.6.0 and nest_asyncio2 1.7.4 both set this attribute on the class of the loops that they patch.
    if nested == "thread" or (nested == "auto" and (hasattr(loop, "_nest_patched") or _in_kernel())):
        return
    raise NestAsyncioError(
        "A blocking call was made while an event loop is running in this thread; it would stop everything else in that "
        "loop until the answer is there. Use the async API with await (AsyncClient, ChatCompletion.create_async), or "
        'allow it with nested="thread" (in the client, in antiphon.configure(), or as ANTIPHON_NESTED=thread).'
    )


def _checked(value: str, name: str) -> Nested:
    for valid in _NESTED:
        if value == valid:
            return valid
    raise ValueError(f"{name} must be one of {', '.join(map(repr, _NESTED))}; it is {value!r}.")


def _in_kernel() -> bool:
    """Whether this process is a Jupyter or IPython kernel, found out without importing anything."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and hasattr(get_ipython(), "kernel")
