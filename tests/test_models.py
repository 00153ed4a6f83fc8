"""`antiphon.models`, and the names that the package offers."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import antiphon
from antiphon import models
from antiphon.calls.core import ClientCore
from antiphon.providers import catalog
from antiphon.providers.local.model import DEFAULT_NAME, LocalModel


def test_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is the empty name, which stands for the local model unless the environment names another."""
    assert (models.default, models.local) == ("", f"local/{DEFAULT_NAME}")
    assert models.resolve() == models.resolve("") == models.local
    assert models.resolve("openai/gpt-5") == "openai/gpt-5"
    monkeypatch.setenv("ANTIPHON_MODEL", "groq/x")
    assert models.resolve() == "groq/x"
    assert models.resolve(models.local) == models.local


def test_default_is_the_model_in_this_process() -> None:
    """The default is answered by the local model, by the name that it has there."""
    handler, name = ClientCore()._resolver.find(models.default)
    assert isinstance(handler, LocalModel)
    assert (handler.model, name) == (DEFAULT_NAME, DEFAULT_NAME)
    assert catalog.find_provider("local")


@pytest.mark.parametrize("name", antiphon.__all__)
def test_names_of_the_root(name: str) -> None:
    """Every name of the package is there when it is asked for, and is the one of its module."""
    value = getattr(antiphon, name)
    if name != "__version__":
        home = antiphon._HOMES[name]
        module = importlib.import_module(f"antiphon.{home or name}")
        assert value is (getattr(module, name) if home else module)
    assert name in dir(antiphon)


def test_every_name_has_a_home() -> None:
    """The list of names and the table of their homes are about the same names."""
    assert sorted(antiphon.__all__) == sorted(["__version__", *antiphon._HOMES])


def test_a_name_that_is_none() -> None:
    """What is not there is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="module 'antiphon' has no attribute 'Clint'"):
        _ = antiphon.Clint


def test_names_are_loaded_when_they_are_used() -> None:
    """Importing the package loads none of its modules, using a name loads its own."""
    script = """if True:
        import sys, antiphon
        print(sorted(name for name in sys.modules if name.startswith("antiphon")))
        antiphon.errors
        print(sorted(name for name in sys.modules if name.startswith("antiphon")))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['antiphon']", "['antiphon', 'antiphon.errors']"]


def test_the_decorator_is_not_hidden_by_a_module() -> None:
    """Using one name of the package does not change what another stands for."""
    script = """if True:
        import antiphon.client, antiphon.testing, antiphon.models
        from antiphon import provider
        print(provider(lambda request: "x"))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "Provider('<lambda>')\n"
