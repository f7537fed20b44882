"""Files with families and hyperparameters alone: what `run --tune` writes and `run --hyperparameters` reads.

As TOML they are also settings files.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import tomli

from components.errors import InputError
from trainer_modules import contract

_FIELDS = {"family", "hyperparameters"}


def table(model: str, family: str, values: Mapping[str, Any], note: str) -> str:
    """One model's part of a file, as TOML.

    Args:
      model: contract.RETRIEVAL or contract.RANKING.
      family: whose they are.
      values: numbers, strings and truth values by hyperparameter: JSON writes these as TOML does.
      note: one line of comment.
    """
    lines = [
        f"# {note}", f"[{model}]", f"family = {json.dumps(family)}", "", f"[{model}.hyperparameters]",
        *(f"{name} = {json.dumps(value)}" for name, value in sorted(values.items())),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def read(path: pathlib.Path) -> dict[str, Any]:
    """Families and hyperparameters from a TOML or JSON file.

    Returns:
      {"retrieval": {"family", "hyperparameters"}, "ranking": ...}; one of them may be missing.

    Raises:
      InputError: a file that cannot be read, or that holds anything else.
    """
    try:
        content = path.read_bytes().decode()
        found = json.loads(content) if path.suffix == ".json" else tomli.loads(content)
    except OSError as error:
        raise InputError(f"--hyperparameters {path}: {error.strerror}; give a TOML or JSON file") from error
    except ValueError as error:
        raise InputError(f"--hyperparameters {path} is not valid {path.suffix[1:] or 'TOML'}: {error}") from error
    tables = found if isinstance(found, dict) else {}
    if not tables or not all(name in contract.MODELS and _is_table(value) for name, value in tables.items()):
        raise InputError(
            f"--hyperparameters {path}: wanted are tables {contract.RETRIEVAL} and {contract.RANKING}, each with family"
            " and hyperparameters and nothing else, as `movierec run --tune N` writes them; other settings go with"
            " --settings"
        )
    return tables


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == _FIELDS and isinstance(value["hyperparameters"], dict)
