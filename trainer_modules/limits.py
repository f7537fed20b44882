"""What a hyperparameter may be, said in its type. Standard library only."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from typing import Annotated, Any, Literal


@dataclasses.dataclass(frozen=True)
class Limit:
    """Bounds of a finite number."""

    low: float
    may_be_low: bool = True
    below: float = math.inf

    def __str__(self) -> str:
        """To follow "it must be"."""
        end = "" if self.below == math.inf else f" and below {self.below:g}"
        return f"{'at least' if self.may_be_low else 'above'} {self.low:g}{end}"

    def holds(self, value: float) -> bool:
        """False for nan and infinities, too."""
        return (self.low <= value if self.may_be_low else self.low < value) and value < self.below


Count = Annotated[int, Limit(1)]
CountOrNone = Annotated[int, Limit(0)]
"""0: none."""
Positive = Annotated[float, Limit(0, may_be_low=False)]
NotNegative = Annotated[float, Limit(0)]
Share = Annotated[float, Limit(0, below=1)]


def taken(kind: type, name: str, value: Any) -> Any:
    """A value that is not broken as its field has it: JSON and TOML write 1 for 1.0."""
    declared = _types(kind)[name]
    if typing.get_origin(declared) is Annotated:
        declared = typing.get_args(declared)[0]
    return float(value) if declared is float else value


def broken(kind: type, name: str, value: Any) -> str | None:
    """What is wrong with a value for a field of a dataclass; None: nothing.

    Whole numbers are taken where a number with a decimal point is due.
    """
    declared = _types(kind)[name]
    limit = None
    if typing.get_origin(declared) is Literal:
        choices = typing.get_args(declared)
        return None if value in choices else f"It must be one of: {', '.join(choices)}."
    if typing.get_origin(declared) is Annotated:
        declared, limit = typing.get_args(declared)
    if type(value) is not declared and not (declared is float and type(value) is int):
        return f"It must be of type {declared.__name__}."
    return None if limit is None or limit.holds(value) else f"It must be {limit}."


@functools.lru_cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)
