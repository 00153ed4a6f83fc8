"""Providers and models by name: rows of `catalog.toml`, installed plug-ins, and what a program registers.

Three rules:

* Nothing is read before the first look-up, and a built-in name is found without looking at what is installed.
* Nobody takes another's name in silence: a plug-in never replaces a built-in (it is logged and left out), two plug-ins
  of one name are an error when that name is asked for, and `register` takes a built-in's name only when told to.
* Nothing is guessed: a name that is not known is an error with near matches, so that no prompt goes to a provider that
  the caller did not name.

Keys stay where they are: a row knows the *names* of environment variables, and tells whether one of them is set.
"""

from __future__ import annotations

import functools
import logging
import os
import pkgutil
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from antiphon.errors import AntiphonError, ModelNotFoundError, ProviderNotFoundError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "GROUP",
    "ProviderRow",
    "Quirks",
    "find_provider",
    "provider_id",
    "providers",
    "register",
    "same_providers",
    "split_model",
    "unregister",
]

logger = logging.getLogger(__name__)

_MAX_CLOSE = 100
"""Characters of a name for which a near one is looked for: comparing takes time with the square of them."""

GROUP = "antiphon.providers"
"""Entry-point group of providers that other distributions bring: the name is the provider's, the object is a provider
(whatever `@provider` takes), a `ProviderRow`, or a mapping with the fields of one besides `id`."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server differs from the format it speaks. The defaults suit a compatible server nobody knows."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field that bounds the answer; some servers refuse the other one, some ignore it."""
    stream_usage: bool = True
    """Whether `stream_options.include_usage` may be sent; where not, usage comes unasked or not at all."""
    reasoning_field: Literal["reasoning", "reasoning_content", "thinking"] | None = None
    """Where reasoning comes and goes back, `thinking` being an element of the content; `None` where no source says:
    read all, send none."""
    think_tags: bool = False
    """Whether reasoning may come inside the text, between `<think>` and `</think>`."""
    developer_role: bool = False
    """Whether messages of the role `developer` are understood; where not, they are sent as `system`."""
    seed_field: Literal["seed", "random_seed"] = "seed"
    short_call_ids: bool = False
    """Whether the id of a tool call must be nine letters or digits."""
    file_urls: bool = False
    """Whether a file may be told by its URL, in the place of its data."""
    unsupported: tuple[str, ...] = ()
    """Request fields that are refused with an error."""
    thinking_models: tuple[str, ...] = ()
    """How names of models begin that think unless told not to. Whatever thinks there refuses a `tool_choice` that
    forces a call."""
    deployments: bool = False
    """Whether a model is a deployment that stands in the path, as with classic Azure."""


class ProviderRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider, as data: what `catalog.toml` says about it."""

    id: str
    """The name before the slash, lower case: `groq`."""
    name: str
    """The name to show: `Groq`."""
    codec: str
    """Name of the wire format: `openai-chat`; `local` for the model in this process."""
    base_url: str
    """Without a trailing slash; `{NAME}` stands for an environment variable, `{ONE|OTHER}` for the first of two that is
    set. Read it through `url()`."""
    key: tuple[str, ...] = ()
    """Environment variables that may hold the key; the first that is set wins. Empty: the provider takes none."""
    key_header: str | None = None
    """The header field for the bare key, where it does not go into `authorization`."""
    key_required: bool = True
    """Whether calls need a key, where `key` is not empty."""
    signing: Literal["aws"] | None = None
    """How requests are signed where no key is set: `aws`, with the credentials that AWS's own tools find."""
    embeddings: str | None = None
    """Name of the format for embeddings, where it is not that of `codec`."""
    same_as: str | None = None
    """The `id` of the provider that this is, by another of its APIs: models are listed there."""
    moves_with: str | None = None
    """The `id` of the provider whose `<ID>_BASE_URL` replaces `base_url`, where that is not its own."""
    query: str | None = None
    """What every URL ends in; written like `base_url`."""
    models_url: str | None = None
    """Where models are listed, if not at `base_url`; written like that."""
    docs: str | None = None
    """Where the provider lists its models."""
    default_model: str | None = None
    base_url_env: tuple[str, ...] = ()
    """Environment variables that replace `base_url`, looked at after `<ID>_BASE_URL`."""
    host_env: str | None = None
    """Environment variable with `[scheme://]host[:port][/path]`, the way Ollama reads `OLLAMA_HOST`."""
    aliases: tuple[str, ...] = ()
    """Other spellings of `id`."""
    prefixes: tuple[str, ...] = ()
    """How names of its own models begin, lower case: used for suggestions only, never to choose."""
    quirks: Quirks = Quirks()

    @property
    def needs_key(self) -> bool:
        """Whether calls are refused without a key."""
        return self.key_required and bool(self.key)

    @property
    def url_env(self) -> str:
        """The environment variable that replaces `base_url`: `GROQ_BASE_URL`."""
        return re.sub(r"\W", "_", self.moves_with or self.id).upper() + "_BASE_URL"

    def key_env(self) -> str | None:
        """Return the name of the environment variable whose key would be used, or `None` where none is set."""
        return next((name for name in self.key if os.environ.get(name, "").strip()), None)

    def key_set(self) -> bool:
        """Tell whether the environment holds a key."""
        return self.key_env() is not None

    def moved_by(self) -> str | None:
        """Return the name of the environment variable that replaces the base URL, or `None` where none is set."""
        for name in (self.url_env, *self.base_url_env, self.host_env):
            if name and os.environ.get(name, "").strip():
                return name
        return None

    def url(self) -> str:
        """Return the base URL, without a trailing slash, as the environment has it now.

        Raises:
            AntiphonError: The URL needs an environment variable that is not set, or that cannot be part of one.
        """
        if (variable := self.moved_by()) is not None and variable != self.host_env:
            return os.environ[variable].strip().rstrip("/")
        if self.host_env and (host := os.environ.get(self.host_env, "").strip(" \"'")):
            try:
                return _host_url(host, self.base_url)
            except ValueError:
                raise AntiphonError(
                    f"The value of {self.host_env} is not an address: set it to one such as '127.0.0.1:11434' or "
                    "'[::1]:11434', or unset it.",
                    provider=self.id,
                ) from None
        return self._filled(self.base_url)

    def list_url(self) -> str | None:
        """Return the base URL of the list of models, if it is another one, as the environment has it now."""
        moved = any(os.environ.get(variable, "").strip() for variable in (self.url_env, *self.base_url_env))
        return None if moved or self.models_url is None else self._filled(self.models_url)

    def url_query(self) -> str:
        """Return what every URL ends in, as the environment has it now; mostly nothing."""
        return "" if self.query is None else self._filled(self.query)

    def _filled(self, url: str) -> str:
        return re.sub(r"\{(\w+(?:\|\w+)*)\}", self._variable, url)

    def _variable(self, match: re.Match[str]) -> str:
        names = match[1].split("|")
        name = next((name for name in names if os.environ.get(name, "").strip()), names[0])
        value = os.environ.get(name, "").strip().rstrip("/")
        ways_out = f"Set {name} in the environment, or {self.url_env} to the whole base URL."
        if not value:
            raise AntiphonError(f"The address of {self.name} depends on the account. {ways_out}", provider=self.id)
        if match.start() == 0:
            return value if "://" in value else f"https://{value}"
        if not re.fullmatch(r"[\w.-]+", value, re.ASCII):
            # Anything more could send the key to another host.
            raise AntiphonError(f"The value of {name} is not a plain account name. {ways_out}", provider=self.id)
        return value


class _Catalog(msgspec.Struct, frozen=True):
    rows: Mapping[str, ProviderRow]
    ids: Mapping[str, str]
    """Row id by every spelling, its own included."""
    aliases: Mapping[str, str]
    """Whole models by short name."""


_registered: dict[str, object] = {}
_plugins: dict[str, object] = {}
"""What plug-ins turned out to be, so that a look-up scans the installed distributions once a name."""


def provider_id(name: str) -> str:
    """Return the id of the provider that is meant by *name*; case and `_` against `-` make no difference.

    The id of a built-in one by any of its spellings; for any other the name itself, whether there is such a one or not.
    """
    key = _normal(name)
    return _catalog().ids.get(key, key)


def same_providers(id: str) -> Sequence[ProviderRow]:
    """Return the built-in providers that are the one called *id*, by another of its APIs."""
    return [row for row in _catalog().rows.values() if row.same_as == id]


def find_provider(name: str, *, also: Iterable[str] = ()) -> object:
    """Return the provider called *name*: a `ProviderRow`, or whatever a plug-in or `register` put there.

    Case and `_` against `-` make no difference. *also* are names from elsewhere that may have been meant instead.

    Raises:
        ProviderNotFoundError: No provider has that name, or the plug-in that has it cannot be loaded.
    """
    key = _normal(name)
    if key in _registered:
        return _registered[key]
    catalog = _catalog()
    if key in catalog.ids:
        return catalog.rows[catalog.ids[key]]
    if key in _plugins:
        return _plugins[key]
    installed = _entry_points()
    if key in installed:
        return _plugins.setdefault(key, _load(key, installed[key]))
    raise ProviderNotFoundError(_no_provider(name, [*also, *_registered, *catalog.ids, *installed]), provider=name)


def providers() -> Mapping[str, object]:
    """Return every provider by name: built-in ones, plug-ins, registered ones.

    A plug-in that has a built-in's name or cannot be loaded is left out and logged as a warning.
    """
    catalog = _catalog()
    found: dict[str, object] = dict(catalog.rows)
    for key, points in sorted(_entry_points().items()):
        if key in catalog.ids:
            logger.warning("%s brings a provider %r, which is a built-in one: not used.", _owner(points[0]), key)
            continue
        try:
            found[key] = _plugins.setdefault(key, _load(key, points))
        except ProviderNotFoundError as error:
            logger.warning("%s", error)
    return MappingProxyType(found | _registered)


def register(name: str, provider: object, *, replace: bool = False) -> None:
    """Make *provider* known as *name* in this process; it is found before any other of that name.

    *provider* is whatever `provider=` takes, or a `ProviderRow`. Names of models then are `name/model`. A plug-in of
    that name is not looked for: the program's own word goes before what happens to be installed.

    Raises:
        ValueError: *name* is empty, has a slash, or is built in or registered already and *replace* is not set.
    """
    key = _normal(name)
    if not key or "/" in key:
        raise ValueError(f"{name!r} cannot name a provider: it must not be empty or contain a slash.")
    if not replace and (key in _registered or key in _catalog().ids):
        raise ValueError(f"{name!r} is already the name of a provider. Choose another, or pass replace=True.")
    _registered[key] = provider


def unregister(name: str) -> None:
    """Forget what `register` put under *name*; a built-in of that name is found again.

    Raises:
        ProviderNotFoundError: Nothing is registered under *name*.
    """
    if (key := _normal(name)) not in _registered:
        raise ProviderNotFoundError(f"Nothing is registered as {name!r}.", provider=name)
    del _registered[key]


def split_model(model: str, *, also: Iterable[str] = (), aliases: Iterable[str] = ()) -> tuple[str, str]:
    """Split `provider/model` at the first slash, after replacing an alias: `("groq", "openai/gpt-oss-20b")`.

    Whether the provider exists is for `find_provider` to say. *also* are names of providers, and *aliases* names of
    whole models, that somebody else knows and that may have been meant instead.

    Raises:
        ModelNotFoundError: *model* names no provider and is no alias; the message suggests what may have been meant.
    """
    whole = model if "/" in model else _catalog().aliases.get(model, model)
    provider, _, name = whole.partition("/")
    if provider.strip(" .~") and name.strip():
        return provider, name
    raise ModelNotFoundError(_no_model(model, {*also, *_registered}, aliases), model=model)


@functools.cache
def _catalog() -> _Catalog:
    import tomllib  # only needed once a name is looked up: 3 ms to parse the file, as much again to import this

    data = pkgutil.get_data("antiphon.providers", "catalog.toml")
    assert data is not None, "catalog.toml is part of the package"
    document = tomllib.loads(data.decode())
    rows = {key: msgspec.convert({"id": key, **row}, ProviderRow) for key, row in document["providers"].items()}
    ids = {spelling: row.id for row in rows.values() for spelling in (row.id, *row.aliases)}
    return _Catalog(rows, ids, document["aliases"])


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _host_url(host: str, base_url: str) -> str:
    """Put *host*, `[scheme://]host[:port][/path]`, into *base_url*.

    A scheme without a port means the scheme's own port, as in Ollama's envconfig (github.com/ollama/ollama, read
    2026-11-22); so does a port that is no number. An address that means "listen everywhere" becomes the loopback one.
    """
    default = urlsplit(base_url)
    scheme, explicit, rest = host.rpartition("://")
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"  # a bare IPv6 address
    parts = urlsplit(f"//{rest}")
    scheme = scheme or default.scheme
    port = {"http": 80, "https": 443}.get(scheme) if explicit else default.port
    try:
        port = parts.port or port
    except ValueError:
        logger.warning("The port in %r is not a number from 0 to 65535: using %s.", host, port)
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(parts.hostname or "", parts.hostname) or default.hostname
    name = f"[{name}]" if name and ":" in name else name
    return f"{scheme}://{name}:{port}{parts.path.rstrip('/')}{default.path}"


def _entry_points() -> Mapping[str, list[EntryPoint]]:
    """Return the plug-ins by name, which is looked up again when something was installed: a folder then changes.

    Reading them takes 6 ms with a hundred distributions, and a server's clients can ask for any name at all.
    """
    return _entry_points_in(tuple((folder, _changed(folder)) for folder in sys.path))


def _changed(folder: str) -> int | None:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except (OSError, ValueError):  # what is on the path need not be there
        return None


@functools.lru_cache(maxsize=1)
def _entry_points_in(_folders: tuple[tuple[str, int | None], ...]) -> Mapping[str, list[EntryPoint]]:
    from importlib.metadata import entry_points  # 30 ms to import, and needed only for names that are not built in

    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(_normal(point.name), []).append(point)
    return found


def _owner(point: EntryPoint) -> str:
    if point.dist is None:
        return f"The installed module {point.module!r}"
    return f"The installed distribution {point.dist.name!r} (version {point.dist.version})"


def _load(name: str, points: list[EntryPoint]) -> object:
    """Return the provider that *points*, all of one name, bring.

    Raises:
        ProviderNotFoundError: There are several, it cannot be imported, or its row is wrong.
    """
    if len(points) > 1:
        owners = "; ".join(sorted(map(_owner, points)))
        raise ProviderNotFoundError(
            f"Several distributions bring a provider {name!r}: {owners}. Uninstall all but one.", provider=name
        )
    try:
        target: Any = points[0].load()
        return msgspec.convert({**target, "id": name}, ProviderRow) if isinstance(target, Mapping) else target
    except Exception as error:  # somebody else's code runs here: whatever it raises, the name cannot be used
        raise ProviderNotFoundError(
            f"{_owner(points[0])} brings the provider {name!r}, but it cannot be loaded: "
            f"{type(error).__name__}: {error}. Update or uninstall it.",
            provider=name,
        ) from error


def _close(name: str, candidates: Iterable[str]) -> list[str]:
    import difflib  # only needed to word an error

    if len(name) > _MAX_CLOSE:
        return []
    return difflib.get_close_matches(_normal(name), list(candidates), n=3)


def _near(name: str, candidates: Iterable[str]) -> list[str]:
    ids = _catalog().ids
    return list(dict.fromkeys(ids.get(match, match) for match in _close(name, candidates)))


def _or(names: Iterable[str]) -> str:
    return " or ".join(repr(name) for name in names)


def _no_provider(name: str, candidates: list[str]) -> str:
    message = f"No provider is called {name!r}."
    if close := _near(name, candidates):
        message += f" Did you mean {_or(close)}?"
    return (
        f"{message} `antiphon providers` lists them all; if {name!r} is part of the model's own name, put the provider "
        f"before it, as in 'openrouter/{name}/…'."
    )


def _no_model(model: str, names: Collection[str], aliases: Iterable[str]) -> str:
    """Word the error; *names* are providers beside the built-in ones."""
    form = "Models are named 'provider/model'"
    if not model.strip():
        return f"No model was named. {form}; `antiphon providers` lists the providers."
    if model.lower().endswith(".gguf"):
        return f"{form}. To run the file {model!r} in this process, pass 'local/{model}'."
    bare = model.strip().strip("/")
    catalog = _catalog()
    if (known := catalog.ids.get(_normal(bare), bare if _normal(bare) in names else None)) is not None:
        return f"{form}, and {model!r} is only a provider. Name one of its models: '{known}/<model>'."
    matching = [
        (len(prefix), row.id)
        for row in catalog.rows.values()
        for prefix in row.prefixes
        if bare.lower().startswith(prefix)
    ]
    suggestions = [f"{owner}/{bare}" for length, owner in matching if length == max(matching)[0]]
    suggestions = suggestions or [f"{close}/<model>" for close in _near(bare, [*names, *catalog.ids])]
    suggestions = [*_close(bare, aliases), *suggestions]
    hint = f" Did you mean {_or(suggestions)}?" if suggestions else ""
    return f"{form}, and {model!r} names no provider.{hint} `antiphon providers` lists the providers."
