"""Digests of code, so that the cache sees an edit: TFX's cache key knows a dotted path's name, not its content."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import pathlib
from collections.abc import Iterator

PACKAGES = ("components", "pipeline", "serving", "trainer_modules")


def code_digest(*modules: str) -> str:
    """sha256 over the source of the modules and of everything of ours that they import, directly or not.

    Nothing is imported: the imports are read from the source.

    Args:
      *modules: dotted names, such as "trainer_modules.retrieval".
    """
    sources = dict(sorted(_closure(modules).items()))
    digest = hashlib.sha256()
    for name, source in sources.items():
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


def _closure(modules: tuple[str, ...]) -> dict[str, bytes]:
    sources: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        path = _source_path(name)
        if path is None:
            continue
        sources[name] = path.read_bytes()
        waiting += _imports(sources[name])
        waiting += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
    return sources


def _imports(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _source_path(name: str) -> pathlib.Path | None:
    """The file of one of our modules; None for anything else."""
    package, *rest = name.split(".")
    if package not in PACKAGES:
        return None
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    base = pathlib.Path(spec.submodule_search_locations[0], *rest)
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)
