"""What a shell offers for the name of a provider or model; nothing is asked over the network."""

from __future__ import annotations

from antiphon.providers import catalog

__all__ = ["models", "providers"]


def providers(incomplete: str) -> list[str]:
    """Return the names of providers that begin with *incomplete*."""
    return [name for name in catalog.providers() if name.startswith(incomplete.lower())]


def models(incomplete: str) -> list[str]:
    """Return how the name of a model may go on: with a provider and a slash, or with the local model in full."""
    provider = incomplete.partition("/")[0]
    found = [f"{name}/" for name in providers(provider) if f"{name}/".startswith(incomplete)]
    if "local/".startswith(incomplete) or provider == "local":
        from antiphon.providers.lookup import DEFAULT_MODEL  # 70 ms that no other name needs

        found += [DEFAULT_MODEL] if DEFAULT_MODEL.startswith(incomplete) else []
    return found
