"""The ranking Trainer's module file: stars for a user and a movie."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from trainer_modules import (
    bayesian_factorization,
    bias_ranking,
    contract,
    deep_ranking,
    distribution,
    factorization_machine,
    hyperparameters,
    item_autorec,
    ranking_data,
    ranking_signatures,
    tutorial_ranking,
    warm_start,
)
from trainer_modules.epochs import write_epochs

if TYPE_CHECKING:  # TFX takes long to import
    from tfx.components.trainer.fn_args_utils import FnArgs

    from trainer_modules.tuning import TunerFnResult

FAMILIES = {
    "factorization_machine": factorization_machine.fit,
    "deep": deep_ranking.fit,
    "matrix_factorization": bayesian_factorization.fit,
    "autorec": item_autorec.fit,
    "bias": bias_ranking.fit,
    "tutorial": tutorial_ranking.fit,
}
"""Each takes RankingData, its hyperparameters and a seed, tunes, refits, and gives a ranking_scorer.Fitted."""


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """A search over the hyperparameters of the family that custom_config names, for TFX's Tuner; so many trials as
    its num_trials says."""
    from trainer_modules import tuning  # keras-tuner is needed here alone

    config = fn_args.custom_config
    data = ranking_data.load(fn_args, warm_start.load(fn_args, config["family"]))
    family, kind = FAMILIES[config["family"]], hyperparameters.RANKING[config["family"]]
    return tuning.search(contract.RANKING, family, kind, data, config, fn_args.working_dir)


def run_fn(fn_args: FnArgs) -> None:
    """Trains the family that custom_config names and exports it.

    Raises:
      ValueError: custom_config names no family of ours, or a hyperparameter that the family does not have.
    """
    distribution.join(fn_args, hyperparameters.TRAINED_TOGETHER[contract.RANKING])
    config = fn_args.custom_config
    if config["family"] not in FAMILIES:
        raise ValueError(f"There is no ranking family {config['family']!r}. Choose one of: {', '.join(FAMILIES)}.")
    data = ranking_data.load(fn_args, warm_start.load(fn_args, config["family"]))
    fitted = FAMILIES[config["family"]](data, hyperparameters.found(fn_args), config["seed"])
    write_epochs(fitted.epochs, fn_args.model_run_dir)
    ranking_signatures.export(fitted.scorer, data, fn_args.serving_model_dir, config["user_snapshot"])
    model_uri = posixpath.dirname(fn_args.serving_model_dir)
    data.warm_start.save(model_uri, config["family"], data.transform_output, *data.fit_ids)
    distribution.wait_for_all()
