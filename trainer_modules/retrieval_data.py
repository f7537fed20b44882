"""What a retrieval family trains on."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow_transform as tft

from trainer_modules import features as f
from trainer_modules.inputs import Catalog, UserStates, load_catalog, load_user_states


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalData:
    """The catalog and what users rated, by what it may be used for."""

    transform_output: tft.TFTransformOutput
    catalog: Catalog
    train: UserStates
    """Fitted on while tuning, and known of the users whom eval asks for."""
    held_out: UserStates
    """The eval rows: looked at while tuning."""
    fit: UserStates
    """Train + eval: what the exported model is fitted on."""
    everything: UserStates
    """The test rows too: for the snapshot alone. A user does not want to be shown what they rated last; nothing that
    trains or evaluates reads it."""


def load(fn_args: Any) -> RetrievalData:
    """Reads the artifacts that the Trainer's fn_args name."""
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    catalog = load_catalog(fn_args.catalog_uri, transform_output)

    def states(*splits: str) -> UserStates:
        return load_user_states(fn_args.user_state_uri, splits, catalog, transform_output)

    return RetrievalData(
        transform_output=transform_output,
        catalog=catalog,
        train=states(f.TRAIN),
        held_out=states(f.EVAL),
        fit=states(*f.FIT_SPLITS),
        everything=states(*f.SPLITS),
    )
