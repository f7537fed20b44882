"""A search over a family's hyperparameters with keras-tuner, on the train rows, judged on eval.

A trial is the family's own tuning, ended before it would refit: fitted on train, looking at eval alone. The first has
the values that the search began with, so what is found is never worse on eval than what was there; the next are random,
and from then on a Gaussian process of the figures so far says where to look (Snoek, Larochelle, Adams, Practical
Bayesian Optimization of Machine Learning Algorithms, NIPS 2012).
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.tuners.bayesian import BayesianOptimizationOracle

from trainer_modules import hyperparameters
from trainer_modules.search_spaces import METRICS, SPACES, Space

_LOG = logging.getLogger("movierec")

_MAX_RANDOM = 8
"""Trials before the Gaussian process takes over, the first included."""

Train = Callable[[Any, Mapping[str, Any], int], object]
"""A family's entry: (data, hyperparameters, seed)."""


class TunerFnResult(NamedTuple):
    """What TFX's Tuner wants of a tuner_fn."""

    tuner: base_tuner.BaseTuner
    fit_kwargs: dict[str, Any]


class _Tuned(Exception):  # noqa: N818 - no error: the end of a trial
    def __init__(self, figure: float) -> None:
        super().__init__()
        self.figure = figure


def figure_of(train: Train, data: Any, values: Mapping[str, Any], seed: int) -> float:
    """The best figure on eval that a family's tuning finds.

    Args:
      train: the family's entry.
      data: what it is given; a dataclass with a field on_tuned.
      values: hyperparameters by name; those not named keep their defaults.
      seed: of every random choice.

    Raises:
      ValueError: the family ended without a word of its tuning.
    """

    def stop(figure: float) -> None:
        raise _Tuned(figure)

    try:
        train(dataclasses.replace(data, on_tuned=stop), values, seed)
    except _Tuned as ended:
        return ended.figure
    raise ValueError("The family's training called no on_tuned, so it cannot be searched: it has nothing to tune.")


def search(
    model: str, train: Train, kind: type, data: Any, config: Mapping[str, Any], working_dir: str
) -> TunerFnResult:
    """Prepares a search for TFX's Tuner, which runs it.

    Args:
      model: contract.RETRIEVAL or contract.RANKING.
      train: the family's entry.
      kind: of its hyperparameters.
      data: what the family is given.
      config: the Tuner's custom_config: family, hyperparameters, seed and num_trials.
      working_dir: where keras-tuner keeps what it has tried.

    Raises:
      ValueError: a hyperparameter that the family does not have.
    """
    today, seed = config["hyperparameters"], config["seed"]
    space = declared(SPACES[model][config["family"]], kind, today)

    def figure(values: Mapping[str, Any]) -> float:
        return figure_of(train, data, {**today, **values}, seed)

    tuner = FamilyTuner(model, figure, _oracle(model, space, config["num_trials"], seed), working_dir)
    return TunerFnResult(tuner, {"verbose": 0})


def declared(space: Space, kind: type, values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """A space as keras-tuner has it; the defaults are the values, and the family's own where there are none.

    Raises:
      ValueError: a value is of no hyperparameter of this kind.
    """
    today: Any = hyperparameters.parse(kind, values)
    found = keras_tuner.HyperParameters()
    for name, span in space.items():
        value = getattr(today, name)
        low, high = min(span.low, value), max(span.high, value)
        sampling = "log" if span.log and low > 0 else "linear"  # today's may be 0
        if isinstance(value, int):
            found.Int(name, int(low), int(high), sampling=sampling, default=value)
        else:
            found.Float(name, float(low), float(high), sampling=sampling, default=value)
    return found


class _Oracle(BayesianOptimizationOracle):
    """Begins with the defaults. Gives Python's numbers, not NumPy's, and never the whole number beyond the last."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        space = self.hyperparameters.space
        if not self.trials:
            return {"status": TrialStatus.RUNNING, "values": {one.name: one.default for one in space}}
        found = super().populate_space(trial_id)
        if values := found["values"]:
            found["values"] = {one.name: type(one.default)(min(values[one.name], one.max_value)) for one in space}
        return found


def _oracle(model: str, space: keras_tuner.HyperParameters, num_trials: int, seed: int) -> _Oracle:
    name, direction = METRICS[model]
    return _Oracle(
        objective=keras_tuner.Objective(name, direction),
        max_trials=num_trials,
        num_initial_points=_MAX_RANDOM,
        seed=1 + abs(seed),  # 0 would be drawn anew each time
        hyperparameters=space,
        allow_new_entries=False,
        max_consecutive_failed_trials=num_trials + 1,  # failed trials are told, and do not end the search
    )


class FamilyTuner(base_tuner.BaseTuner):
    """Runs the trials and tells of each in a line."""

    def __init__(
        self, model: str, figure: Callable[[Mapping[str, Any]], float], oracle: _Oracle, directory: str
    ) -> None:
        """Prepares the search.

        Args:
          model: for the lines.
          figure: values of the space -> what the family's tuning finds with them.
          oracle: says what to try.
          directory: of keras-tuner's notes.
        """
        self._model, self._figure = model, figure
        super().__init__(oracle, directory=directory, project_name=model, overwrite=True)

    def run_trial(self, trial: Trial, **_: Any) -> dict[str, float]:
        """The figure, by the objective's name; an error of the family is told and fails this trial alone."""
        try:
            figure = self._figure(trial.hyperparameters.values)
        except Exception as error:
            _LOG.warning("%s: failed, %s: %s", self._line(trial), type(error).__name__, " ".join(str(error).split()))
            raise
        if not math.isfinite(figure):
            _LOG.warning("%s: failed, eval %s is %s", self._line(trial), self.oracle.objective.name, figure)
            figure = math.nan
        return {self.oracle.objective.name: figure}

    def on_trial_end(self, trial: Trial) -> None:
        super().on_trial_end(trial)
        best = self.best()
        if trial.score is not None and not math.isnan(trial.score):
            name = self.oracle.objective.name
            _LOG.info(
                "%s: eval %s %.4f, best so far %.4f in trial %d",
                self._line(trial), name, trial.score, best.score, int(best.trial_id) + 1,
            )  # fmt: skip

    def on_search_end(self) -> None:
        super().on_search_end()
        if self.best().status != TrialStatus.COMPLETED:
            raise ValueError(
                f"None of {self.oracle.max_trials} trials of the {self._model} model gave a finite"
                f" {self.oracle.objective.name} on eval; the log has each one's reason."
            )

    def best(self) -> Trial:
        """The best trial so far, the earliest of equals; a failed one where no other is."""
        return self.oracle.get_best_trials(1)[0]

    def _line(self, trial: Trial) -> str:
        values = ", ".join(f"{name} {value:.4g}" for name, value in trial.hyperparameters.values.items())
        return f"{self._model} trial {int(trial.trial_id) + 1}/{self.oracle.max_trials}: {values}"
