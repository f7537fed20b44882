"""Settings files as tables, and how one is laid on another."""

from __future__ import annotations

from typing import Any

import tomli

from components.errors import InputError
from trainer_modules import contract


def parse(content: bytes, name: str) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
      InputError: it is none; the name says which.
    """
    try:
        return tomli.loads(content.decode())
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise InputError(f"{name} is not valid TOML: {error}") from error


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`under` with `over` laid on it, table by table; where a family is named, on what `under` has of that family."""
    result = dict(under)
    for name, value in over.items():
        is_model = name in (contract.RETRIEVAL, contract.RANKING)
        below = result.get(name, {} if is_model else None)
        if isinstance(value, dict) and isinstance(below, dict):
            if is_model:
                below = _of_family(below, value.get("family", below.get("family")), value.get("families"))
            value = merged(below, value)
        result[name] = value
    return result


def _of_family(table: dict[str, Any], family: Any, more: Any) -> dict[str, Any]:
    """What a model's table has of a family, and what `more` families have of it. What is of the wrong type stays, for
    Settings to refuse."""
    families = table.get("families", {})
    if family == table.get("family"):
        return merged(table, _named(more, family))
    return {**merged(_named(families, family), _named(more, family)), "families": families}


def _named(families: Any, family: Any) -> dict[str, Any]:
    found = families.get(family) if isinstance(families, dict) and isinstance(family, str) else None
    return found if isinstance(found, dict) else {}
