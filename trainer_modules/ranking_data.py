"""What a ranking family is fitted on: rating rows as columns, and the catalog their movies come from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import tensorflow_transform as tft

from trainer_modules import features as f
from trainer_modules import inputs

if TYPE_CHECKING:  # TFX takes long to import
    from tfx.components.trainer.fn_args_utils import FnArgs

QUERY = (
    f.USER_INDEX, f.USER_AGE_INDEX, f.USER_GENDER_INDEX, f.USER_OCCUPATION_INDEX,
    f.HISTORY_MOVIE_INDEX, f.HISTORY_RATING, f.HISTORY_AGE_BUCKET,
)  # fmt: skip
"""What a ranking model may know of the user: [R] each, the history's [R, HISTORY_LENGTH]."""
FACTS = (f.USER_AGE_INDEX, f.USER_GENDER_INDEX, f.USER_OCCUPATION_INDEX)
COLUMNS = (*QUERY, f.MOVIE_INDEX, f.USER_RATING)

Rows = dict[str, np.ndarray]
"""Columns by feature name: those of COLUMNS, R rows each."""


@dataclasses.dataclass(frozen=True, eq=False)
class RankingData:
    """Everything a family is given."""

    train: Rows
    eval: Rows
    catalog: inputs.Catalog
    num_users: int
    """Rows of a table by user_index."""
    num_movies: int
    """Rows of a table by movie_index."""
    num_occupations: int
    """Rows of a table by user_occupation_index."""
    rating_range: tuple[float, float]
    """Fewest and most stars."""
    transform_output: tft.TFTransformOutput
    user_state_uri: str

    @property
    def fit(self) -> Rows:
        """Train and eval rows together: what the exported model is fitted on."""
        return {name: np.concatenate([self.train[name], self.eval[name]]) for name in self.train}


def load(fn_args: FnArgs) -> RankingData:
    """Reads what run_fn was given.

    Raises:
      ValueError: a split or the catalog is missing or empty.
    """
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    names = [feature.name for feature in COLUMNS]
    low, high = fn_args.custom_config["rating_range"]
    return RankingData(
        train=inputs.load_ratings(fn_args.train_files, transform_output, names),
        eval=inputs.load_ratings(fn_args.eval_files, transform_output, names),
        catalog=inputs.load_catalog(fn_args.catalog_uri, transform_output),
        num_users=inputs.num_indices(transform_output, f.USER_VOCABULARY),
        num_movies=inputs.num_indices(transform_output, f.MOVIE_VOCABULARY),
        num_occupations=inputs.num_indices(transform_output, f.OCCUPATION_VOCABULARY),
        rating_range=(low, high),
        transform_output=transform_output,
        user_state_uri=fn_args.user_state_uri,
    )
