"""A server of ours in a thread of the test's own process, so that what it does is seen and measured."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Self

import msgspec
import uvicorn.server

from antiphon.providers.lookup import ProviderNames
from antiphon.server import run
from antiphon.server.application import Application
from antiphon.server.exchange import Exchange
from antiphon.settings.config import Config


class _Asyncio:
    """asyncio for uvicorn's server, which looks ten times a second whether it has to stop: here it looks more often."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(delay: float) -> None:
        await asyncio.sleep(delay / 20)


uvicorn.server.asyncio = _Asyncio()


class Serving:
    """`antiphon serve` on a free port of loopback; use it in a `with` block.

    Args:
        providers: Providers by id: a `ProviderRow`, or anything that `provider=` takes.
        config: Further settings.
    """

    def __init__(self, providers: dict[str, Any] | None = None, config: Config | None = None) -> None:
        config = config or Config()
        names = msgspec.structs.replace(config.names, providers={**config.names.providers, **(providers or {})})
        self.config = msgspec.structs.replace(config, names=names)
        self.done: list[Exchange] = []
        """Every exchange that is over."""
        self._over = threading.Condition()
        self.application = Application(self.config, log=self._log)
        self._listener = run.bind("127.0.0.1", 0)
        self.port: int = self._listener.getsockname()[1]
        self.server = run.Server(self.application, run.Source(None, {}))
        self._thread = threading.Thread(target=self.server.run, args=([self._listener],), daemon=True)

    @property
    def address(self) -> str:
        """Where it is: `http://127.0.0.1:12345`."""
        return f"http://127.0.0.1:{self.port}"

    def _log(self, exchange: Exchange) -> None:
        with self._over:
            self.done.append(exchange)
            self._over.notify_all()

    def wait(self, count: int = 1, *, at_most: float = 10.0) -> list[Exchange]:
        """Wait until *count* exchanges are over, and return all that are."""
        with self._over:
            assert self._over.wait_for(lambda: len(self.done) >= count, at_most), f"only {len(self.done)} are over"
            return list(self.done)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop as SIGTERM would have it, and wait for that."""
        self.server.should_exit = True
        self._thread.join()


def names(**providers: Any) -> ProviderNames:
    """Return names with these providers, and no files of local models."""
    return ProviderNames(providers=providers, files=())
