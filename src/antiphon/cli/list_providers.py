"""`antiphon providers`: who can be asked, where they are, and whether a key is set."""

from __future__ import annotations

from typing import Any

from antiphon.cli.terminal import table, without_login, write_json
from antiphon.errors import AntiphonError
from antiphon.providers import catalog
from antiphon.providers.catalog import ProviderRow

__all__ = ["list_providers"]


def list_providers(*, as_json: bool) -> int:
    """Do `antiphon providers`; return the exit code."""
    found = [_provider(id, known) for id, known in catalog.providers().items()]
    if as_json:
        write_json(found)
        return 0
    rows = [
        [
            row["id"],
            _key_state(row),
            _key_names(row),
            row["base_url"] or "in this process",
            row["name"],
            row["docs"] or "",
        ]
        for row in found
    ]
    table(["PROVIDER", "KEY", "VARIABLE", "BASE URL", "NAME", "DOCUMENTATION"], rows)
    return 0


def _provider(id: str, known: object) -> dict[str, Any]:
    if not isinstance(known, ProviderRow):
        known = ProviderRow(id=id, name=getattr(known, "__name__", type(known).__name__), codec="", base_url="")
    try:
        url = known.url()
    except AntiphonError:  # it depends on a variable that is not set: show which
        url = known.base_url
    return {
        "id": id,
        "name": known.name,
        "key_variables": list(known.key),
        "key_required": known.needs_key,
        "key_set": known.key_set(),
        "key_variable_used": known.key_env(),
        "base_url": without_login(url) or None,
        "docs": known.docs,
    }


def _key_state(row: dict[str, Any]) -> str:
    if row["key_set"]:
        return "set"
    if not row["key_variables"]:
        return "not needed"
    return "not set" if row["key_required"] else "optional"


def _key_names(row: dict[str, Any]) -> str:
    names = row["key_variables"]
    shown = row["key_variable_used"] or (names[0] if names else "")
    return f"{shown} (+{len(names) - 1})" if len(names) > 1 else shown
