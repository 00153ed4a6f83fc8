"""The official clients of providers, each imported when a test first uses it.

Together they take longer to import than most files of tests to run, and each worker collects every file.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

__all__ = [
    "anthropic",
    "boto3",
    "botocore",
    "cohere",
    "genai",
    "langchain_core",
    "langchain_openai",
    "llm",
    "ollama",
    "openai",
]


class Later:
    """A module that is imported when something of it is asked for; its modules are found as its attributes."""

    def __init__(self, name: str, *, warns: bool = False) -> None:
        self._name = name
        self._warns = warns

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_", "pytest")):  # pytest looks at whatever a module holds
            raise AttributeError(name)
        with warnings.catch_warnings(**({"action": "ignore"} if self._warns else {})):
            module = importlib.import_module(self._name)
            if not hasattr(module, name) and importlib.util.find_spec(f"{self._name}.{name}"):
                importlib.import_module(f"{self._name}.{name}")
        found = getattr(module, name)
        setattr(self, name, found)
        return found


if TYPE_CHECKING:
    import anthropic
    import boto3
    import botocore
    import cohere
    import langchain_core
    import langchain_openai
    import llm
    import ollama
    import openai
    from google import genai
else:
    anthropic = Later("anthropic")
    boto3 = Later("boto3")
    botocore = Later("botocore")
    cohere = Later("cohere")
    # Some releases have a string that newer Pythons warn of: a warning of theirs, not ours.
    genai = Later("google.genai", warns=True)
    langchain_core = Later("langchain_core")
    langchain_openai = Later("langchain_openai")
    llm = Later("llm")
    ollama = Later("ollama")
    openai = Later("openai")
