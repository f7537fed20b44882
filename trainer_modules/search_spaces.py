"""What a search may set of each model family, and how far. Standard library only.

A family is here if its training calls on_tuned of the data it is given. The number of epochs is not searched where
the family's own tuning finds it and nothing else depends on it.
"""

from __future__ import annotations

import dataclasses

from trainer_modules import contract


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from low to high; whole ones where the hyperparameter is one."""

    low: float
    high: float
    log: bool = False
    """Whether each factor counts alike, in the place of each difference."""


Space = dict[str, Range]
"""By the hyperparameter's name. A value of today that lies outside widens its range."""

_RETRIEVAL: dict[str, Space] = {
    "two_tower": {
        "learning_rate": Range(0.004, 0.025, log=True),
        "dropout": Range(0.1, 0.5),
        "user_id_dropout": Range(0.2, 0.8),
        "weight_decay": Range(0.1, 1.5, log=True),
        # Tuning does not find it.
        "num_epochs": Range(4, 12),
    },
    "matrix_factorization": {
        "embedding_dimension": Range(16, 128, log=True),
        "gravity": Range(0.1, 10.0, log=True),
        "regularization": Range(0.005, 0.5, log=True),
    },
    "autorec": {
        "hidden_units": Range(50, 500, log=True),
        "regularization": Range(1.0, 100.0, log=True),
        "learning_rate": Range(0.001, 0.01, log=True),
    },
}
_SAMPLED: Space = {"factors": Range(4, 24, log=True), "step_size": Range(0.1, 0.4, log=True)}
"""Of the families that langevin.py samples."""
_RANKING: dict[str, Space] = {
    "deep": {
        "learning_rate": Range(0.004, 0.025, log=True),
        "factors": Range(8, 64, log=True),
        "bias_l2": Range(1.0, 16.0, log=True),
        "factor_l2": Range(5.0, 80.0, log=True),
        "history_l2": Range(8.0, 120.0, log=True),
        "history_dropout": Range(0.0, 0.4),
        "cross_l2": Range(1.0, 20.0, log=True),
    },
    "factorization_machine": _SAMPLED,
    "matrix_factorization": _SAMPLED,
    "autorec": {
        "hidden_units": Range(50, 1000, log=True),
        "regularization": Range(30.0, 500.0, log=True),
        "learning_rate": Range(0.001, 0.01, log=True),
    },
    "bias": {
        "user_shrinkage": Range(1.0, 25.0, log=True),
        "movie_shrinkage": Range(1.0, 25.0, log=True),
        "side_shrinkage": Range(1.0, 100.0, log=True),
    },
}
SPACES = {contract.RETRIEVAL: _RETRIEVAL, contract.RANKING: _RANKING}
"""Model -> family -> its space."""
METRICS = {contract.RETRIEVAL: ("ndcg_at_10", "max"), contract.RANKING: ("rmse", "min")}
"""Model -> what the search looks at, measured on the eval split, and which of two figures is better."""
