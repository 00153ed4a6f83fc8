"""What a provider is: a `Handler` takes a `ChatRequest` and a `Call` and gives the events of the answer.

Iterate a handler under `contextlib.aclosing`.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

import anyio

from antiphon.chat.embeddings import EmbeddingRequest, Embeddings
from antiphon.chat.events import (
    Event,
)
from antiphon.chat.losses import Loss
from antiphon.chat.requests import ChatRequest
from antiphon.errors import APITimeoutError
from antiphon.http.transport import Timeout

__all__ = ["Call", "Clock", "Embedder", "Handler"]


class Call:
    """What belongs to one call rather than to the request: its clocks, its id and its receipt.

    Attributes:
        timeout: The clocks, in seconds.
        strict: Whether a loss is an error, raised before anything is sent.
        losses: The receipt: what of the request could not cross. Filled by whoever writes the upstream request.
        headers: Further headers for the upstream, by lower-case name.
        reply_headers: What the reply's header said of the request: its ids and the rate limits. Set by who read it.
        body: The pieces of a whole answer as they came, for a caller who has put a list here to pass them on.
        size: How much work the request is, as `wire.read.weight` counts it; a large one is written in a thread. 0: not
            known.
        answer_size: Bytes of the answer so far, where it came over HTTP.
    """

    __slots__ = ("answer_size", "body", "headers", "losses", "response_headers", "size", "strict", "timeout")

    def __init__(
        self, *, timeout: Timeout | None = None, strict: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        self.timeout = timeout or Timeout()
        self.strict = strict
        self.losses: list[Loss] = []
        self.headers = headers or {}
        self.response_headers: dict[str, str] = {}
        self.body: list[bytes] | None = None
        self.size = 0
        self.answer_size = 0


@runtime_checkable
class Embedder(Protocol):
    """A handler that also turns texts into vectors."""

    @property
    def embedding_format(self) -> str:
        """Key of its own fields in `EmbeddingRequest.extra`."""
        ...

    async def embed(self, request: EmbeddingRequest, call: Call) -> Embeddings:
        """Return the vectors of the texts."""
        ...


class Handler(Protocol):
    """A provider as everything else sees it; `name` is told with every answer."""

    @property
    def name(self) -> str:
        """The provider's name."""
        ...

    def __call__(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """Give the events of the answer to *request*."""
        ...


class Clock:
    """The clocks of a handler that meets no network: first piece, idle between pieces, total.

    For each wait: `with clock.scope(said=…): …`, and then `clock.check()`.
    """

    def __init__(self, timeout: Timeout, provider: str, model: str) -> None:
        self._timeout = timeout
        self._provider = provider
        self._model = model
        self._began = time.monotonic()
        self._which = ""
        self._scope = anyio.CancelScope()

    def scope(self, *, said: bool) -> anyio.CancelScope:
        """Return a scope for one wait; it must not span a `yield`.

        Raises:
            APITimeoutError: There is no time left, which a provider that never pauses is not told otherwise.
        """
        timeout, spent = self._timeout, time.monotonic() - self._began
        limits = {"total": math.inf if timeout.total is None else timeout.total - spent}
        if said:
            limits["idle"] = math.inf if timeout.idle is None else timeout.idle
        else:
            limits["first_token"] = math.inf if timeout.first_token is None else timeout.first_token - spent
        self._which = min(limits, key=limits.__getitem__)
        if limits[self._which] <= 0:
            raise self._error()
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + limits[self._which])
        return self._scope

    def check(self) -> None:
        """Raise the error of the clock that ran out, if one did."""
        if self._scope.cancelled_caught:
            raise self._error()

    def _error(self) -> APITimeoutError:
        seconds = getattr(self._timeout, self._which)
        return APITimeoutError(
            f"The provider {self._provider!r} did not go on within {seconds:g} s (the {self._which} clock); "
            f"pass timeout=Timeout({self._which}=…) to wait longer.",
            provider=self._provider,
            model=self._model,
        )
