"""The part of a configuration that names things: `[providers]`, `[aliases]` and the default model.

A provider of the file is a `ProviderRow`, or whatever object the file says to import; a built-in one is changed field
by field. Whether anybody is there, and whether a key is right, is not asked.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from antiphon.errors import AntiphonError, ModelNotFoundError, ProviderNotFoundError
from antiphon.providers.auth import Secret
from antiphon.providers.catalog import ProviderRow, Quirks, find_provider, provider_id, same_providers
from antiphon.providers.function import as_handler
from antiphon.providers.lookup import DEFAULT_MODEL, EMBEDDING_FORMATS, FORMATS, ProviderNames, url_fault
from antiphon.settings.toml_file import TOMLFile

__all__ = ["FIELDS", "read_names"]

FIELDS: Mapping[str, Any] = {
    "enabled": bool,
    "format": str,
    "base_url": str,
    "key_env": str,
    "key": str,
    "key_header": str,
    "name": str,
    "default_model": str,
    "embeddings": str,
    "quirks": dict[str, Any],
    "import": str,
}
"""What a table of `[providers]` may say, with the type of each."""

_WORDS: Mapping[Any, str] = {bool: "true or false", str: "a text in quotes", dict[str, Any]: "a table"}
_QUIRKS = get_type_hints(Quirks)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def read_names(file: TOMLFile, default: tuple[str, str | None] | None) -> ProviderNames:
    """Read what *file* calls things, and note its faults.

    *default* is the default model, with where it was set, if not in the file; `None` where nobody set one.
    """
    providers = _Providers(file)
    for name, table in file.table("providers").items():
        if isinstance(table, dict):
            providers.read(name)
        else:
            file.table("providers", name)  # which notes that it is none
    providers.extend()
    names = ProviderNames(
        providers=providers.rows,
        without=frozenset(providers.without),
        keys=providers.keys,
        follows=providers.follows,
        aliases=_aliases(file),
        default_model=default[0] if default else None,
    )
    files = {model for alias in names.aliases if (model := _checked(file, names, alias)) is not None}
    if default is not None:
        try:
            files.add(_target(names, default[0]))
        except (ModelNotFoundError, ProviderNotFoundError) as error:
            file.fault(f"leads nowhere: {error}", "default_model", where=default[1])
    return msgspec.structs.replace(names, files=frozenset(file for file in files if file.lower().endswith(".gguf")))


def _aliases(file: TOMLFile) -> dict[str, str]:
    found: dict[str, str] = {}
    words = "a text in quotes, such as 'groq/llama-3.1-8b-instant' (a name with a dot in it is in quotes itself)"
    for alias, value in file.table("aliases").items():
        target = file.read(value, str, "aliases", alias, words=words)
        if target is msgspec.UNSET:
            continue
        if not alias.strip() or "*" in alias[:-1]:
            file.fault("must be a name, with a star at its end at most.", "aliases", alias)
        elif not target.strip():
            file.fault("must name a model, as 'provider/model'.", "aliases", alias)
        else:
            found[alias] = target
    return found


def _checked(file: TOMLFile, names: ProviderNames, alias: str) -> str | None:
    """Return the model that *alias* is for; `None` for one with a star, and, with a fault noted, for one that fails."""
    star = alias.endswith("*")
    try:
        model = _target(names, f"{alias[:-1]}x" if star else alias, star=star)
    except (ModelNotFoundError, ProviderNotFoundError) as error:
        file.fault(f"leads nowhere: {error}", "aliases", alias)
        return None
    return None if star else model


def _target(names: ProviderNames, model: str, *, star: bool = False) -> str:
    """Return the provider's own name of *model*.

    Raises:
        ModelNotFoundError, ProviderNotFoundError: There is no such provider or local model.
    """
    provider, own = names.split(model)
    row = names.provider(provider)
    if isinstance(row, ProviderRow) and row.codec == "local" and not star and own != DEFAULT_MODEL.partition("/")[2]:
        from antiphon.providers.local.model import local_model_for  # 40 ms, and needed for files alone

        if own.lower().endswith(".gguf") and not os.path.isfile(os.path.expanduser(own)):
            raise ModelNotFoundError(f"There is no file {own!r}.")
        local_model_for(own)
    return own


class _Providers:
    """What the tables of `[providers]` come to."""

    def __init__(self, file: TOMLFile) -> None:
        self._file = file
        self._names: dict[str, str] = {}
        self.rows: dict[str, Any] = {}
        self.keys: dict[str, Secret] = {}
        self.without: set[str] = set()
        self.follows: dict[str, str] = {}
        """Ids of providers without a table of their own, each with the name of the table that is meant for it too."""

    def read(self, name: str) -> None:
        """Read the table of the provider *name*."""
        id = provider_id(name)
        if not id or "/" in id:
            return self._fault("cannot name a provider: a name is not empty and has no slash.", name)
        if (other := self._names.setdefault(id, name)) != name:
            return self._fault(f"is the same provider as {other!r}: put both into one table.", name)
        said = self._said(name)
        if said.get("enabled") is False:
            self._switch_off(id, name, said)
        elif "import" in said:
            self._import(id, name, said)
        else:
            self._row(id, name, said)
        if id not in self.without:
            self.rows.setdefault(id, None)  # of one with a fault: what leads there leads somewhere

    def extend(self) -> None:
        """Apply each table also to the built-in providers that are the same one, by another of its APIs.

        What is said of openai is meant for openai-responses too: that it is not to be had, where it is, and the key of
        it. Otherwise that would go past what the file says, with the key of the environment. A table of its own goes
        before this.
        """
        for id, name in self._names.items():
            said = self._file.table("providers", name)
            if said.keys() & {"enabled", "base_url", "key_env", "key", "key_header", "import"}:
                for twin in same_providers(id):
                    if twin.id not in self._names:
                        self._follow(twin, id, name, said)

    def _follow(self, twin: ProviderRow, id: str, name: str, said: Mapping[str, Any]) -> None:
        row, usual = self.rows.get(id), find_provider(id)
        if id in self.without or not isinstance(row, ProviderRow) or not isinstance(usual, ProviderRow):
            self.without.add(twin.id)  # where something else answers in its place, that API of it is not there either
            self.follows[twin.id] = name
            return
        changes: dict[str, Any] = {}
        if "base_url" in said:
            if twin.base_url != usual.base_url:  # where its other API would be now, nothing says
                self.without.add(twin.id)
                self.follows[twin.id] = name
                return
            changes |= {"base_url": row.base_url, "moves_with": id}
        if twin.key == usual.key:
            changes["key"] = row.key
            if id in self.keys:
                self.keys[twin.id] = self.keys[id]
        if "key_header" in said:
            changes["key_header"] = row.key_header
        changed = msgspec.structs.replace(twin, **changes)
        if changed != twin or twin.id in self.keys:
            self.rows[twin.id] = changed
            self.follows[twin.id] = name

    def _fault(self, words: str, name: str, *field: str) -> None:
        self._file.fault(words, "providers", name, *field)

    def _said(self, name: str) -> dict[str, Any]:
        """Return the fields of the provider *name* that are of the right type."""
        said: dict[str, Any] = {}
        for field, value in self._file.table("providers", name).items():
            path = ("providers", name, field)
            if field == "key" and isinstance(value, str) and value.strip():
                self._key(name, value, said)
            elif field not in FIELDS:
                self._file.unknown(FIELDS, *path)
            elif (
                read := self._file.read(value, FIELDS[field], *path, words=_WORDS[FIELDS[field]])
            ) is not msgspec.UNSET:
                if isinstance(read, str) and not read.strip():
                    self._file.fault("must not be empty: leave it out, or say something.", *path)
                else:
                    said[field] = read
        return said

    def _key(self, name: str, value: str, said: dict[str, Any]) -> None:
        try:
            said["key"] = Secret(value)
        except AntiphonError:  # whose words are about variables too
            self._fault("holds a character that no key has: copy it again.", name, "key")
        else:
            self._file.secrets.append(said["key"])

    def _switch_off(self, id: str, name: str, said: Mapping[str, Any]) -> None:
        self.without.add(id)
        if not said.keys() & {"base_url", "import"}:
            try:
                find_provider(id)
            except ProviderNotFoundError as error:
                self._fault(f"switches nobody off: {error}", name, "enabled")

    def _import(self, id: str, name: str, said: Mapping[str, Any]) -> None:
        if more := sorted(said.keys() - {"import", "enabled"}):
            self._fault(
                f"goes with `enabled` alone, not with {', '.join(more)}: set that in the module.", name, "import"
            )
            return
        module, colon, attribute = said["import"].partition(":")
        if not (module and colon and attribute):
            self._fault("must be 'package.module:name'.", name, "import")
            return
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
            is_row = isinstance(found, ProviderRow)
            self.rows[id] = msgspec.structs.replace(found, id=id) if is_row else as_handler(found)
        except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises, there is no provider
            what = f"{type(error).__name__}: {error}".rstrip(".")
            words = f"cannot be used: {what}. Is it installed, or the folder that it is in named by PYTHONPATH?"
            self._fault(words, name, "import")

    def _row(self, id: str, name: str, said: dict[str, Any]) -> None:
        try:
            found = find_provider(id)
        except ProviderNotFoundError:
            found = None
        if found is not None and (not isinstance(found, ProviderRow) or found.codec == "local"):
            if said.keys() - {"enabled"}:
                self._fault("is not reached over HTTP: of this provider, only `enabled` can be said.", name)
            self.rows[id] = found
            return
        if found is None and "base_url" not in said:
            if "base_url" not in self._file.table("providers", name):
                self._fault(
                    "is no built-in provider, so it needs base_url, such as 'http://localhost:8000/v1' (or import).",
                    name,
                )
            return
        row = found or ProviderRow(id=id, name=name, codec="openai-chat", base_url="")
        if (changes := self._changes(name, said, row)) is not None:
            self.rows[id] = msgspec.structs.replace(row, **changes)
            if "key" in said:
                self.keys[id] = said["key"]

    def _changes(self, name: str, said: Mapping[str, Any], row: ProviderRow) -> dict[str, Any] | None:
        """Return the fields that the row gets, or `None` with faults noted."""
        fine = [
            self._is_format(name, said, "format", FORMATS),
            self._is_format(name, said, "embeddings", EMBEDDING_FORMATS),
            self._fits(name, said, "key_env", _VARIABLE, "the name of an environment variable, not a key"),
            self._fits(name, said, "key_header", _TOKEN, "the name of a header field"),
        ]
        if "key" in said and "key_env" in said:
            fine.append(False)
            self._fault("stands beside key_env: leave out one of the two.", name, "key")
        if "base_url" in said and (fault := url_fault(said["base_url"])) is not None:
            fine.append(False)
            self._fault(
                fault.replace("belong into api_key", "do not belong there: set key or key_env"), name, "base_url"
            )
        quirks = self._quirks(name, said.get("quirks", {}), row.quirks)
        if not all(fine) or quirks is None:
            return None
        changes = {
            field: said[field] for field in ("key_header", "name", "default_model", "embeddings") if field in said
        }
        changes |= {"quirks": quirks, "codec": said.get("format", row.codec)}
        if "base_url" in said:
            changes |= {"base_url": said["base_url"].rstrip("/"), "models_url": None, "same_as": None}
        if "key_env" in said:
            changes["key"] = (said["key_env"],)
        return changes

    def _is_format(self, name: str, said: Mapping[str, Any], field: str, formats: frozenset[str]) -> bool:
        if said.get(field) is None or said[field] in formats:
            return True
        close = difflib.get_close_matches(str(said[field]).lower(), formats, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(formats))}."
        self._fault(f"is no format that this version knows: {hint}", name, field)
        return False

    def _fits(self, name: str, said: Mapping[str, Any], field: str, pattern: re.Pattern[str], words: str) -> bool:
        if said.get(field) is None or pattern.fullmatch(said[field]):
            return True
        self._fault(f"must be {words}.", name, field)  # and is not shown: it may be a key
        return False

    def _quirks(self, name: str, said: Mapping[str, Any], before: Quirks) -> Quirks | None:
        changes: dict[str, Any] = {}
        for field, value in said.items():
            path = ("providers", name, "quirks", field)
            if field not in _QUIRKS:
                self._file.unknown(_QUIRKS, *path)
            elif (
                read := self._file.read(value, _QUIRKS[field], *path, words=_quirk_words(field))
            ) is not msgspec.UNSET:
                changes[field] = read
        return msgspec.structs.replace(before, **changes) if len(changes) == len(said) else None


def _quirk_words(field: str) -> str:
    kind = msgspec.inspect.type_info(_QUIRKS[field])
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    for one in kinds:
        if isinstance(one, msgspec.inspect.LiteralType):
            return " or ".join(repr(value) for value in one.values)
    return "true or false" if isinstance(kind, msgspec.inspect.BoolType) else "a list of texts"
