"""Which code a figure comes from: one digest of all modules that a module can reach."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path

PACKAGES = ("hansa", "hansa_client", "hansa_server", "hansa_simulations")


@lru_cache
def code_digest(*roots: str) -> str:
    """SHA-256 of the syntax of ``roots`` and of every module of Hansa that they import, in hexadecimal.

    Comments, docstrings and layout do not count.

    Args:
        roots: Full names of modules.
    """
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name in found or path is None:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        waiting.extend(_imports(tree))
        found[name] = ast.dump(_without_docstrings(tree))
    return sha256("\n".join(f"{name} {found[name]}" for name in sorted(found)).encode()).hexdigest()


def _imports(tree: ast.AST) -> Iterator[str]:
    """Names that may be modules; of ``from a import b`` both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _path(name: str) -> Path | None:
    """The file of a module of Hansa; None for anything else."""
    top, *rest = name.split(".")
    if top not in PACKAGES:
        return None
    place = Path(str(import_module(top).__file__)).parent.joinpath(*rest)
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
