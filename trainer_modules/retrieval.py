"""The Trainer's module file for retrieval: run_fn is its table of contents."""

from __future__ import annotations

import posixpath
from typing import Any

from trainer_modules import (
    autorec,
    contract,
    distribution,
    hyperparameters,
    matrix_factorization,
    popularity,
    tutorial_retrieval,
    two_tower_training,
    warm_start,
)
from trainer_modules.epochs import write_epochs
from trainer_modules.hyperparameters import Index
from trainer_modules.retrieval_data import load
from trainer_modules.retrieval_model import export

FAMILIES = {
    "two_tower": two_tower_training.train,
    "matrix_factorization": matrix_factorization.train,
    "autorec": autorec.train,
    "tutorial": tutorial_retrieval.train,
    "popularity": popularity.train,
}
"""By custom_config["family"]: (data, hyperparameters, seed) -> what retrieval_model.export serves."""


def tuner_fn(fn_args: Any) -> Any:
    """A search over the hyperparameters of the family that custom_config names, for TFX's Tuner.

    Args:
      fn_args: as run_fn's, without places for a model; its custom_config also holds num_trials.
    """
    from trainer_modules import tuning  # keras-tuner is needed here alone

    config = fn_args.custom_config
    data = load(fn_args, warm_start.load(fn_args, config["family"]))
    family, kind = FAMILIES[config["family"]], hyperparameters.RETRIEVAL[config["family"]]
    return tuning.search(contract.RETRIEVAL, family, kind, data, config, fn_args.working_dir)


def run_fn(fn_args: Any) -> None:
    """Tunes on eval, refits on train + eval with what was found, exports to fn_args.serving_model_dir.

    Args:
      fn_args: the Trainer's, with catalog_uri and user_state_uri. Its custom_config holds family, hyperparameters (by
        field name), seed, user_snapshot (whether the model may hold its users' rows), and maybe index, that of
        hyperparameters.Index.

    Raises:
      ValueError: an unknown family or hyperparameter, or data that nothing can be learned from.
    """
    distribution.join(fn_args, hyperparameters.TRAINED_TOGETHER[contract.RETRIEVAL])
    config = fn_args.custom_config
    if config["family"] not in FAMILIES:
        raise ValueError(f"No retrieval family {config['family']!r}. There is: {', '.join(FAMILIES)}.")

    data = load(fn_args, warm_start.load(fn_args, config["family"]))
    towers = FAMILIES[config["family"]](data, hyperparameters.found(fn_args), config["seed"])
    write_epochs(towers.epochs, fn_args.model_run_dir)
    index = hyperparameters.parse(Index, config.get("index", {}))
    export(data, towers, fn_args.serving_model_dir, user_snapshot=config["user_snapshot"], index=index)
    model_uri = posixpath.dirname(fn_args.serving_model_dir)
    data.warm_start.save(model_uri, config["family"], data.transform_output, *data.fit_ids)
    distribution.wait_for_all()
