"""What a retrieval family trains on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow_transform as tft

from trainer_modules import features as f
from trainer_modules.inputs import Catalog, UserStates, load_catalog, load_user_states, only_rows
from trainer_modules.training import OnTuned, go_on
from trainer_modules.warm_start import WarmStart


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalData:
    """The catalog and what users rated, by what it may be used for."""

    transform_output: tft.TFTransformOutput
    catalog: Catalog
    train: UserStates
    """Fitted on while tuning, and known of the users whom eval asks for."""
    held_out: UserStates
    """The eval rows: looked at while tuning; at a warm start those alone that it does not know."""
    fit: UserStates
    """Train + eval: what the exported model is fitted on."""
    everything: UserStates
    """The test rows too: for the snapshot alone. A user does not want to be shown what they rated last; nothing that
    trains or evaluates reads it."""
    warm_start: WarmStart = dataclasses.field(default_factory=WarmStart)
    """What training begins with, and where it leaves what it learned."""
    on_tuned: OnTuned = go_on

    @property
    def fit_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """bytes [T] each: user and movie of the rows in `fit`."""
        return _ids(self.fit, self.catalog)


def load(fn_args: Any, warm_start: WarmStart | None = None) -> RetrievalData:
    """Reads the artifacts that the Trainer's fn_args name; warm_start: what to begin with, None: nothing."""
    warm_start = warm_start or WarmStart()
    transform_output = warm_start.transform_output(fn_args)
    catalog = load_catalog(fn_args.catalog_uri, transform_output)

    def states(*splits: str) -> UserStates:
        return load_user_states(fn_args.user_state_uri, splits, catalog, transform_output)

    held_out = states(f.EVAL)
    return RetrievalData(
        warm_start=warm_start,
        transform_output=transform_output,
        catalog=catalog,
        train=states(f.TRAIN),
        held_out=only_rows(held_out, warm_start.may_tune_on(*_ids(held_out, catalog))),
        fit=states(*f.FIT_SPLITS),
        everything=states(*f.SPLITS),
    )


def _ids(states: UserStates, catalog: Catalog) -> tuple[np.ndarray, np.ndarray]:
    return states.user_id[states.row_user], catalog.movie_id[states.position]
