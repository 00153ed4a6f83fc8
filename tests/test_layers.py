"""What import-linter does not see: imports of the package's own modules by their names in strings."""

from __future__ import annotations

import ast
from pathlib import Path

import antiphon

ROOT = Path(antiphon.__file__).parent
IMPORTED = {"providers/lookup.py", "chat/messages.py"}
"""Codecs, imported when they are first used; and the writer of OpenAI's JSON, which `Message.to_dict` asks for."""
NOT_IMPORTED = {
    "providers/catalog.py",  # the name of the group of entry points, and where the catalog's data is
    "server/application.py",  # whether the local model is loaded
}
LOGGERS = {"antiphon.server"}


def modules() -> set[str]:
    """Return the dotted name of every module of the package."""
    names = {".".join(("antiphon", *path.relative_to(ROOT).with_suffix("").parts)) for path in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__") for name in names}


def named_modules(tree: ast.AST) -> set[str]:
    """Return what the strings of a module name of the package's modules, docstrings aside."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return {text.partition(":")[0] for text in texts} & (modules() - {"antiphon"})


def test_modules_are_imported_by_statements() -> None:
    """Nothing but what is listed above names one of the package's modules in a string."""
    naming = {
        path.relative_to(ROOT).as_posix(): named_modules(ast.parse(path.read_text(encoding="utf-8")))
        for path in ROOT.rglob("*.py")
    }
    assert {path for path, names in naming.items() if names - LOGGERS} == IMPORTED | NOT_IMPORTED


def test_a_module_in_a_string_is_found() -> None:
    """The search sees a name in a call, and leaves docstrings alone."""
    source = '"""Uses `antiphon.client`."""\nload("antiphon.client")\nload("antiphon.formats.ollama:Ollama")\n'
    assert named_modules(ast.parse(source)) == {"antiphon.client", "antiphon.formats.ollama"}
