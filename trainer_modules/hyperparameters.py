"""What may be set of each model family, with its defaults. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class DeepRanking:
    """The ranking family "deep". The defaults were chosen on the eval split of ml-100k."""

    factors: int = 16
    """Numbers in a user's and a movie's vector of taste."""
    key_size: int = 16
    """Numbers by which a movie is compared with those of the history."""
    batch_size: int = 1024
    """Rows in a training step."""
    max_epochs: int = 4
    """Passes over the rows at most; tuning finds how many of them are used."""
    patience: int = 1
    """Tuning stops after this many epochs without a better eval RMSE."""
    learning_rate: float = 0.01
    """Of Adam, at the start; it falls along a cosine to 2 % after max_epochs."""
    user_dropout: float = 0.1
    """Share of the rows that are trained with an unknown user id: so the unknown user is learned."""
    fact_dropout: float = 0.1
    """Share of the rows that are trained without the user's age, gender and occupation."""
    movie_dropout: float = 0.05
    """Share of the rows that are trained with an unknown movie id: genres and year must do."""
    history_dropout: float = 0.1
    """Share of the rows that are trained without any history."""
    bias_l2: float = 4.0
    """Rows of evidence against a bias of one star: what |bias|^2 costs, in squared stars."""
    factor_l2: float = 20.0
    """The same for the vectors of taste and what the history adds to them."""
    key_l2: float = 5.0
    """The same for the keys."""


def parse(kind: type[T], values: Mapping[str, Any]) -> T:
    """Hyperparameters from a settings file: those not named keep their defaults.

    Raises:
      ValueError: a name that this family does not have.
    """
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{kind.__name__} has no hyperparameter {', '.join(unknown)}. It has: {', '.join(known)}.")
    return kind(**values)
