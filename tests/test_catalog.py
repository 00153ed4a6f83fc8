"""Tests of `antiphon.providers.catalog`: rows, names, plug-ins, suggestions."""

from __future__ import annotations

import importlib.metadata
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from antiphon.errors import AntiphonError, ModelNotFoundError, ProviderNotFoundError
from antiphon.providers import catalog
from antiphon.providers.catalog import (
    ProviderRow,
    find_provider,
    provider_id,
    providers,
    register,
    split_model,
    unregister,
)
from tests import recordings

WANTED = (
    "openai groq together deepseek mistral xai openrouter fireworks cerebras perplexity huggingface nvidia moonshot "
    "zai sambanova ollama lmstudio vllm llama-server"
).split()

Install = Callable[..., None]


def row(name: str) -> ProviderRow:
    """Find a provider that must be a row."""
    found = find_provider(name)
    assert isinstance(found, ProviderRow)
    return found


def built_in() -> list[ProviderRow]:
    """List the rows of the file."""
    return list(catalog._catalog().rows.values())


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No provider's variable is set, and what a test registers or installs is forgotten."""
    for found in built_in():
        for variable in (found.url_env, *found.key, *found.base_url_env, *filter(None, [found.host_env])):
            monkeypatch.delenv(variable, raising=False)
    before = dict(catalog._registered)
    yield
    catalog._registered.clear()
    catalog._registered.update(before)
    catalog._plugins.clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out an installed distribution with one module and its entry points."""

    def make(distribution: str, entry_points: str, *, module: str = "", source: str = "") -> None:
        folder = tmp_path / distribution
        info = folder / f"{distribution.replace('-', '_')}-2.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[{catalog.GROUP}]\n{entry_points}\n")
        if module:
            (folder / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(folder)

    return make


class TestRows:
    """What the rows say."""

    @pytest.mark.parametrize("name", WANTED)
    def test_wanted_providers_are_there(self, name: str) -> None:
        """Every provider that the project promises has a row with an address and a list of models."""
        assert row(name).id == name
        assert row(name).docs
        assert urlsplit(row(name).url()).scheme in {"http", "https"}

    def test_spellings_are_unique(self) -> None:
        """No name or alias stands for two providers, and each is written as look-ups write it."""
        spellings = [spelling for found in built_in() for spelling in (found.id, *found.aliases)]
        assert sorted(spellings) == sorted(set(spellings))
        assert all(spelling == catalog._normal(spelling) and "/" not in spelling for spelling in spellings)

    def test_addresses_are_safe(self) -> None:
        """Every address is https without a trailing slash, except servers on this machine."""
        for found in built_in():
            url = found.base_url
            assert not url.endswith("/"), found.id
            if found.codec == "local":
                assert url == ""
            elif not url.startswith("{"):
                assert (urlsplit(url).scheme == "https") != (urlsplit(url).hostname == "localhost"), found.id

    def test_hosted_providers_want_a_key(self) -> None:
        """A provider reached over https needs a key, or credentials to sign with; one on this machine does not."""
        assert {found.id: found.needs_key or found.signing is not None for found in built_in()} == {
            found.id: found.base_url.startswith(("https:", "{")) for found in built_in()
        }

    def test_unknown_field_is_refused(self) -> None:
        """A misspelt field in a row is an error, not a setting without effect."""
        with pytest.raises(msgspec.ValidationError, match="unknown field `keys`"):
            msgspec.convert({"id": "x", "name": "X", "codec": "openai-chat", "base_url": "", "keys": []}, ProviderRow)

    @pytest.mark.usefixtures("cassettes")
    def test_addresses_are_those_of_recorded_exchanges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Real requests went to the address that the row gives, with `/chat/completions` behind it."""
        monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "myorg-myaccount")
        recorded = {f"https://{exchange.host}{exchange.url.partition('?')[0]}" for exchange in recordings.exchanges()}
        confirmed = "openai groq mistral deepseek zai cerebras crusoe openrouter ollama-cloud heroku snowflake".split()
        assert [name for name in confirmed if f"{row(name).url()}/chat/completions" not in recorded] == []

    def test_nothing_is_read_at_import(self) -> None:
        """Importing the catalog loads neither the file's parser nor the reader of installed distributions."""
        code = (
            "import sys, antiphon.providers.catalog; "
            "print([m for m in ('tomllib', 'importlib.metadata') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-S", "-c", _WITH_PATH + code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "[]\n"


_WITH_PATH = f"import sys; sys.path += {sys.path!r}; "


class TestEnvironment:
    """What a row takes from the environment."""

    def test_first_key_that_is_set_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The variables of a key are tried in order; an empty one counts as not set."""
        assert not row("zai").key_set()
        monkeypatch.setenv("ZHIPU_API_KEY", "canary")
        assert row("zai").key_env() == "ZHIPU_API_KEY"
        monkeypatch.setenv("ZAI_API_KEY", " ")
        assert row("zai").key_env() == "ZHIPU_API_KEY"
        monkeypatch.setenv("ZAI_API_KEY", "canary")
        assert row("zai").key_env() == "ZAI_API_KEY"
        assert "canary" not in repr(row("zai"))

    @pytest.mark.parametrize(
        ("name", "variable"),
        [
            ("openai", "OPENAI_BASE_URL"),
            ("llama-server", "LLAMA_SERVER_BASE_URL"),
            ("litellm", "LITELLM_PROXY_API_BASE"),
        ],
    )
    def test_address_can_be_replaced(self, name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable named after the provider replaces its address, less a trailing slash."""
        monkeypatch.setenv(variable, "http://127.0.0.1:1/v1/")
        assert row(name).url() == "http://127.0.0.1:1/v1"

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("", "http://localhost:11434/v1"),
            ("0.0.0.0", "http://127.0.0.1:11434/v1"),
            ("box", "http://box:11434/v1"),
            ("box:1234", "http://box:1234/v1"),
            (":1234", "http://localhost:1234/v1"),
            ("http://box", "http://box:80/v1"),
            ("https://box/ollama/", "https://box:443/ollama/v1"),
            ("[::1]:1234", "http://[::1]:1234/v1"),
            ("::", "http://[::1]:11434/v1"),
            ("box:port", "http://box:11434/v1"),
            ("'box'", "http://box:11434/v1"),
        ],
    )
    def test_ollama_host(self, host: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """`OLLAMA_HOST` is read in every form that Ollama's own client takes."""
        monkeypatch.setenv("OLLAMA_HOST", host)
        assert row("ollama").url() == url

    @pytest.mark.parametrize(
        ("name", "variables", "moved_by"),
        [
            ("groq", {}, None),
            ("groq", {"GROQ_BASE_URL": " "}, None),
            ("groq", {"GROQ_BASE_URL": "http://x"}, "GROQ_BASE_URL"),
            ("gemini", {"GOOGLE_GEMINI_BASE_URL": "http://x"}, "GOOGLE_GEMINI_BASE_URL"),
            ("gemini", {"GOOGLE_GEMINI_BASE_URL": "http://x", "GEMINI_BASE_URL": "http://y"}, "GEMINI_BASE_URL"),
            ("ollama", {"OLLAMA_HOST": "x"}, "OLLAMA_HOST"),
        ],
    )
    def test_what_moves_an_address(
        self, name: str, variables: dict[str, str], moved_by: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The variable that an address comes from is told, where one is set."""
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        assert row(name).moved_by() == moved_by

    def test_base_url_goes_before_ollama_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The variable that every provider has is stronger than the one of Ollama alone."""
        monkeypatch.setenv("OLLAMA_HOST", "box")
        monkeypatch.setenv("OLLAMA_BASE_URL", "http://other/v1")
        assert row("ollama").url() == "http://other/v1"

    def test_account_in_the_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Addresses that depend on an account take it from the environment."""
        monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "org-account")
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/")
        assert row("snowflake").url() == "https://org-account.snowflakecomputing.com/api/v2/cortex/v1"
        assert row("azure").url() == "https://mine.openai.azure.com/openai/v1"
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "mine.openai.azure.com")
        assert row("azure").url() == "https://mine.openai.azure.com/openai/v1"

    def test_missing_account_names_the_ways_out(self) -> None:
        """Without the account the error names both variables that help."""
        with pytest.raises(
            AntiphonError, match="SNOWFLAKE_ACCOUNT in the environment, or SNOWFLAKE_BASE_URL"
        ) as caught:
            row("snowflake").url()
        assert caught.value.provider == "snowflake"

    @pytest.mark.parametrize("account", ["attacker.example/x", "a@b", "a:1", "a?b", "ä"])
    def test_account_cannot_move_the_host(self, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An account that would send the key elsewhere is refused."""
        monkeypatch.setenv("SNOWFLAKE_ACCOUNT", account)
        with pytest.raises(AntiphonError, match="not a plain account name"):
            row("snowflake").url()


class TestNames:
    """Finding a provider by its name."""

    @pytest.mark.parametrize(
        ("spelling", "name"),
        [
            ("OpenAI", "openai"),
            (" groq ", "groq"),
            ("together_ai", "together"),
            ("llama.cpp", "llama-server"),
            ("hf", "huggingface"),
        ],
    )
    def test_spellings(self, spelling: str, name: str) -> None:
        """Case, `_` against `-` and listed aliases make no difference."""
        assert row(spelling).id == name

    def test_unknown_name_lists_near_matches(self) -> None:
        """A mistyped provider is an error with near matches and the way to list all."""
        with pytest.raises(ProviderNotFoundError) as caught:
            find_provider("grok")
        assert str(caught.value).startswith("No provider is called 'grok'. Did you mean 'groq'")
        assert "`antiphon providers`" in str(caught.value)
        assert caught.value.provider == "grok"

    def test_near_matches_name_the_provider_not_its_alias(self) -> None:
        """A near match that is an alias is shown by the name that the list shows."""
        with pytest.raises(ProviderNotFoundError, match="Did you mean 'together'"):
            find_provider("togetherIA")

    def test_name_without_a_near_match(self) -> None:
        """A name like nothing known gets no suggestion, and is told about models whose names have a slash."""
        with pytest.raises(ProviderNotFoundError) as caught:
            find_provider("Qwen")
        assert "Did you mean" not in str(caught.value)
        assert "'openrouter/Qwen/…'" in str(caught.value)


class TestModels:
    """Splitting a model's name."""

    @pytest.mark.parametrize(
        ("model", "parts"),
        [
            ("openai/gpt-5", ("openai", "gpt-5")),
            ("groq/openai/gpt-oss-20b", ("groq", "openai/gpt-oss-20b")),
            ("local//models/a.gguf", ("local", "/models/a.gguf")),
            ("nobody/x", ("nobody", "x")),
        ],
    )
    def test_split_at_the_first_slash(self, model: str, parts: tuple[str, str]) -> None:
        """The provider is what stands before the first slash; the rest is the model, slashes and all."""
        assert split_model(model) == parts

    @pytest.mark.parametrize(
        ("model", "hint"),
        [
            ("gpt-5", "Did you mean 'openai/gpt-5'?"),
            ("o3-mini", "Did you mean 'openai/o3-mini'?"),
            ("Grok-4", "Did you mean 'xai/Grok-4'?"),
            ("gpt-5/", "Did you mean 'openai/gpt-5'?"),
            ("groq", "'groq' is only a provider. Name one of its models: 'groq/<model>'."),
            ("openai/", "'openai/' is only a provider."),
            ("opnai", "Did you mean 'openai/<model>'"),
            ("", "No model was named."),
            ("  ", "No model was named."),
            ("/models/a.gguf", "pass 'local//models/a.gguf'"),
            ("./a.gguf", "pass 'local/./a.gguf'"),
            ("../a.gguf", "pass 'local/../a.gguf'"),
            ("~/a.gguf", "pass 'local/~/a.gguf'"),
            ("zzzz", "names no provider. `antiphon providers`"),
        ],
    )
    def test_name_without_a_provider(self, model: str, hint: str) -> None:
        """A model that names no provider is an error with a suggestion, never a guess."""
        with pytest.raises(ModelNotFoundError) as caught:
            split_model(model)
        assert hint in str(caught.value)
        assert caught.value.model == model

    def test_one_provider_by_several_apis(self) -> None:
        """Rows that share a key are one provider, whose models are listed once."""
        by_key: dict[str, list[str]] = {}
        for found in built_in():
            if found.same_as is not None:
                assert row(found.same_as).same_as is None
            elif found.key:
                by_key.setdefault(found.key[0], []).append(found.id)
        assert {key: ids for key, ids in by_key.items() if len(ids) > 1} == {}

    def test_prefixes_belong_to_one_provider(self) -> None:
        """No two rows claim the same beginning of a model's name, so a suggestion is never a choice between rivals."""
        prefixes = [prefix for found in built_in() for prefix in found.prefixes]
        assert sorted(prefixes) == sorted(set(prefixes))
        assert all(prefix == prefix.lower() for prefix in prefixes)

    def test_aliases_are_whole_models_of_known_providers(self) -> None:
        """Every alias in the file stands for a model of a provider in the file."""
        for alias, model in catalog._catalog().aliases.items():
            assert "/" not in alias
            assert split_model(alias) == split_model(model)
            assert row(split_model(model)[0])


class TestRegister:
    """Providers of the program itself."""

    def test_registered_object_is_found_as_it_is(self) -> None:
        """What a program registers is returned itself, and listed."""

        def answer(request: object) -> str:
            return "hi"

        register("My_Own", answer)
        assert find_provider("my-own") is answer
        assert providers()["my-own"] is answer

    def test_only_provider_name_is_known_to_suggestions(self) -> None:
        """A registered provider's name alone, as a model, gets the answer that a built-in's gets."""
        register("mine", object())
        with pytest.raises(ModelNotFoundError, match="Name one of its models: 'mine/<model>'"):
            split_model("mine")

    @pytest.mark.parametrize("name", ["openai", "OpenAI", "hf", "together_ai", "", " ", "a/b"])
    def test_names_that_cannot_be_taken(self, name: str) -> None:
        """A built-in's name, an alias, an empty name and one with a slash are refused."""
        with pytest.raises(ValueError, match="name"):
            register(name, object())

    def test_replacing_must_be_said(self) -> None:
        """A built-in is replaced when the caller says so, and comes back when the replacement goes."""
        mine = object()
        register("openai", mine, replace=True)
        assert find_provider("openai") is mine
        unregister("OpenAI")
        assert row("openai").id == "openai"

    def test_second_registration_is_refused(self) -> None:
        """A registered name is as taken as a built-in one."""
        register("mine", object())
        with pytest.raises(ValueError, match="already the name of a provider"):
            register("mine", object())

    def test_unregistering_what_is_not_there(self) -> None:
        """Forgetting a name that was never registered is an error, built-in or not."""
        with pytest.raises(ProviderNotFoundError, match="Nothing is registered as 'openai'"):
            unregister("openai")

    def test_list_cannot_be_changed(self) -> None:
        """The mapping of providers is read-only."""
        with pytest.raises(TypeError):
            providers()["x"] = 1  # type: ignore[index]


class TestPlugins:
    """Providers of other distributions."""

    def test_ids(self) -> None:
        """The id of a built-in provider is found by every spelling; any other name is its own id."""
        spellings = ("google", " Gemini ", "OPENAI_RESPONSES", "Plug_One", "no-such", "")
        found = [provider_id(name) for name in spellings]
        assert found == ["gemini", "gemini", "openai-responses", "plug-one", "no-such", ""]

    def test_callable_is_found(self, install: Install) -> None:
        """An entry point's object is returned as it is, under the name of the entry point."""
        install("plug-one", "Plug_One = plug_one:answer", module="plug_one", source="def answer(request): return 'hi'")
        found = find_provider("plug-one")
        assert find_provider("PLUG_ONE") is found
        assert callable(found)
        assert found(None) == "hi"
        assert providers()["plug-one"] is found

    def test_installed_meanwhile(self, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was installed is looked through once, and again when a folder of it has changed or another is added."""
        looked: list[str] = []
        real = importlib.metadata.entry_points

        def entry_points(*, group: str) -> EntryPoints:
            looked.append(group)
            return real(group=group)

        monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
        install("plug-old", "old = plug_old:answer", module="plug_old", source="def answer(request): return 'hi'")
        for _ in range(3):
            with pytest.raises(ProviderNotFoundError):
                find_provider("late")
        assert len(looked) == 1
        install("plug-late", "late = plug_late:answer", module="plug_late", source="def answer(request): return 'hi'")
        assert callable(find_provider("late"))
        (tmp_path / "plug-late" / "more").mkdir()
        with pytest.raises(ProviderNotFoundError):
            find_provider("later")
        assert len(looked) == 3

    def test_mapping_becomes_a_row(self, install: Install) -> None:
        """A mapping is a row without its id: what serves an OpenAI-compatible host needs no code."""
        source = "row = {'name': 'Host', 'codec': 'openai-chat', 'base_url': 'https://h/v1', 'key': ['HOST_KEY']}"
        install("plug-two", "host = plug_two:row", module="plug_two", source=source)
        assert row("host") == ProviderRow(
            id="host", name="Host", codec="openai-chat", base_url="https://h/v1", key=("HOST_KEY",)
        )

    def test_entry_point_without_a_distribution(self) -> None:
        """An entry point that no distribution owns is named by its module."""
        assert catalog._owner(EntryPoint("x", "some.module:row", catalog.GROUP)) == "The installed module 'some.module'"

    def test_mistyped_plugin_is_suggested(self, install: Install) -> None:
        """Names of plug-ins are among the near matches."""
        install("plug-three", "marvellous = plug_three:answer")
        with pytest.raises(ProviderNotFoundError, match="Did you mean 'marvellous'"):
            find_provider("marvelous")

    @pytest.mark.parametrize(
        ("source", "fault"),
        [
            ("raise RuntimeError('out of order')", "RuntimeError: out of order"),
            ("", "AttributeError: module 'plug_bad' has no attribute 'row'"),
            ("row = {'name': 'Host'}", "ValidationError: Object missing required field `codec`"),
        ],
    )
    def test_broken_plugin_is_named_when_asked_for(self, install: Install, source: str, fault: str) -> None:
        """What is wrong with a plug-in is said, with its distribution, to who asks for it."""
        install("plug-bad", "broken = plug_bad:row", module="plug_bad", source=source)
        sys.modules.pop("plug_bad", None)
        with pytest.raises(ProviderNotFoundError) as caught:
            find_provider("broken")
        assert "The installed distribution 'plug-bad' (version 2.0) brings the provider 'broken'" in str(caught.value)
        assert fault in str(caught.value)
        assert caught.value.__cause__ is not None

    def test_broken_plugin_hurts_nobody_else(self, install: Install, caplog: pytest.LogCaptureFixture) -> None:
        """Others are found in silence; the list leaves the broken one out and logs it."""
        install("plug-worse", "worse = plug_worse:row", module="plug_worse", source="raise RuntimeError('no')")
        with caplog.at_level(logging.WARNING, "antiphon"):
            assert row("openai").id == "openai"
            assert caplog.records == []
            assert "worse" not in providers()
        assert [record.getMessage() for record in caplog.records if "'plug-worse'" in record.getMessage()] != []

    def test_builtin_is_not_shadowed(self, install: Install, caplog: pytest.LogCaptureFixture) -> None:
        """A plug-in with a built-in's name is never used; the list logs that."""
        install("plug-thief", "OPENAI = plug_thief:answer", module="plug_thief", source="answer = print")
        with caplog.at_level(logging.WARNING, "antiphon"):
            assert isinstance(providers()["openai"], ProviderRow)
        assert row("openai").id == "openai"
        assert "'plug-thief' (version 2.0) brings a provider 'openai', which is a built-in one" in caplog.text

    def test_two_plugins_of_one_name(self, install: Install) -> None:
        """Two distributions with the same provider are an error that names both, not a race."""
        install("plug-left", "twin = plug_twin:answer")
        install("plug-right", "twin = plug_twin:answer")
        with pytest.raises(ProviderNotFoundError, match=r"'plug-left'.*'plug-right'.*Uninstall all but one"):
            find_provider("twin")
