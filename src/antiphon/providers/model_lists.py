"""Which models there are: the providers that can be asked for theirs, and each one's answer."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence

import anyio
import msgspec

from antiphon.errors import AntiphonError, APITimeoutError
from antiphon.http.transport import Timeout
from antiphon.providers.base import Handler
from antiphon.providers.catalog import ProviderRow
from antiphon.providers.http import HTTPProvider
from antiphon.providers.lookup import ANY_MODEL, DEFAULT_MODEL, ProviderLookup

__all__ = ["LIST_SECONDS", "Model", "Source", "in_order", "listed", "sources"]

logger = logging.getLogger("antiphon")

LIST_SECONDS = 10.0
"""Seconds that a provider has to list its models, where nothing else is said."""


class Model(msgspec.Struct, frozen=True):
    """A model that can be asked for."""

    id: str
    """The name to pass as `model`."""
    provider: str
    created: int = 0
    """Unix time in seconds; 0 where the provider does not tell."""


class Source(msgspec.Struct, frozen=True):
    """A provider that can be asked for the list of its models."""

    id: str
    """That of the provider, which its models' names begin with."""
    name: str
    """The provider's name to show."""
    handler: Handler

    @property
    def identity(self) -> Hashable:
        """What is equal where the same list would be asked for, with the same key."""
        return (self.id, self.handler.list_identity if isinstance(self.handler, HTTPProvider) else None)

    async def models(self, timeouts: Timeout, *, seconds: float) -> list[Model]:
        """Ask the provider for its models, for *seconds* at most.

        Raises:
            APIError: It did not answer, or not in time, or not with a list of models.
        """
        with anyio.move_on_after(seconds):
            return await listed(self.handler, timeouts, prefix=f"{self.id}/")
        raise APITimeoutError(f"{self.name} did not list its models within {seconds:g} s.", provider=self.id)


def sources(resolver: ProviderLookup) -> list[Source]:
    """Return the providers that can be asked; one whose settings are wrong is logged and left out.

    This blocks: what is installed is looked through, and formats are imported.
    """
    found: list[Source] = []
    for row in resolver.known().values():
        if not isinstance(row, ProviderRow) or row.same_as is not None:
            continue
        try:
            if resolver.is_set_up(row):
                found.append(Source(row.id, row.name, resolver.find(ANY_MODEL, row.id)[0]))
        except AntiphonError as error:
            logger.warning("No list of models from %s: %s", row.name, error)
    return found


async def listed(handler: Handler, timeouts: Timeout, *, prefix: str = "") -> list[Model]:
    """Return the models of *handler*, each name with *prefix* before it.

    Raises:
        APIError: Its provider did not answer, or not with a list of models.
    """
    if isinstance(handler, HTTPProvider):
        return [Model(prefix + id, handler.name, created) for id, created in await handler.models(timeouts)]
    return [Model(prefix + (getattr(handler, "model", "") or handler.name), handler.name)]


def in_order(found: Mapping[str, Sequence[Model]]) -> list[Model]:
    """Return the models of each provider, after the local one, by the providers' ids."""
    every = {"local": [Model(DEFAULT_MODEL, "local")], **found}
    return [model for id in sorted(every, key=lambda id: (id != "local", id)) for model in every[id]]
