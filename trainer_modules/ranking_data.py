"""What a ranking family is fitted on: rating rows as columns, and the catalog their movies come from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import tensorflow_transform as tft

from trainer_modules import features as f
from trainer_modules import inputs
from trainer_modules.training import OnTuned, go_on
from trainer_modules.warm_start import WarmStart, vocabulary_keys

if TYPE_CHECKING:  # TFX takes long to import
    from tfx.components.trainer.fn_args_utils import FnArgs

QUERY = (
    f.USER_INDEX, f.USER_AGE_INDEX, f.USER_GENDER_INDEX, f.USER_OCCUPATION_INDEX,
    f.HISTORY_MOVIE_INDEX, f.HISTORY_RATING, f.HISTORY_AGE_BUCKET, f.HISTORY_HOUR_INDEX, f.HISTORY_WEEKDAY_INDEX,
)  # fmt: skip
"""What a ranking model may know of the user: [R] each, the history's [R, HISTORY_LENGTH]."""
TIMES = (f.HISTORY_HOUR_INDEX, f.HISTORY_WEEKDAY_INDEX)
"""When the user was last here. Of the signatures rank_for_history alone is told what time it is, and clients tell it
that of the newest row: so that is what training sees, too."""
FACTS = f.USER_FACT_INDICES
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
    warm_start: WarmStart = dataclasses.field(default_factory=WarmStart)
    """What training begins with, and where it leaves what it learned."""
    may_tune_on: np.ndarray | None = None
    """bool [rows of eval]: at a warm start, those that it does not know; None: all."""
    on_tuned: OnTuned = go_on

    @property
    def tuned_on(self) -> Rows:
        """The eval rows that tuning looks at."""
        kept = slice(None) if self.may_tune_on is None else self.may_tune_on
        return {name: values[kept] for name, values in self.eval.items()}

    @property
    def fit_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """bytes [R] each: user and movie of the rows in `fit`."""
        names = f.USER_INDEX.name, f.MOVIE_INDEX.name  # not self.fit: histories are most of a row's memory
        rows = {name: np.concatenate([self.train[name], self.eval[name]]) for name in names}
        return _ids(rows, self.transform_output)

    @property
    def fit(self) -> Rows:
        """Train and eval rows together: what the exported model is fitted on."""
        return {name: np.concatenate([self.train[name], self.eval[name]]) for name in self.train}


def load(fn_args: FnArgs, warm_start: WarmStart | None = None) -> RankingData:
    """Reads what run_fn was given; warm_start: what to begin with, None: nothing.

    Raises:
      ValueError: a split or the catalog is missing or empty.
    """
    warm_start = warm_start or WarmStart()
    transform_output = warm_start.transform_output(fn_args)
    names = [feature.name for feature in COLUMNS]
    low, high = fn_args.custom_config["rating_range"]
    eval_rows = inputs.load_ratings(fn_args.eval_files, transform_output, names)
    return RankingData(
        train=inputs.load_ratings(fn_args.train_files, transform_output, names),
        eval=eval_rows,
        catalog=inputs.load_catalog(fn_args.catalog_uri, transform_output),
        num_users=inputs.num_indices(transform_output, f.USER_VOCABULARY),
        num_movies=inputs.num_indices(transform_output, f.MOVIE_VOCABULARY),
        num_occupations=inputs.num_indices(transform_output, f.OCCUPATION_VOCABULARY),
        rating_range=(low, high),
        transform_output=transform_output,
        user_state_uri=fn_args.user_state_uri,
        warm_start=warm_start,
        may_tune_on=warm_start.may_tune_on(*_ids(eval_rows, transform_output)),
    )


def _ids(rows: Rows, transform_output: tft.TFTransformOutput) -> tuple[np.ndarray, np.ndarray]:
    """Of fit rows, whose ids are all in the vocabularies."""
    return (
        vocabulary_keys(transform_output, f.USER_VOCABULARY)[rows[f.USER_INDEX.name]],
        vocabulary_keys(transform_output, f.MOVIE_VOCABULARY)[rows[f.MOVIE_INDEX.name]],
    )
