"""The search over hyperparameters: what it tries, tells and finds, and that a failing trial is no end of it."""

import dataclasses
import json
import math

import pytest
from tfx.components.tuner.executor import write_best_hyperparameters
from tfx.types import standard_artifacts

from trainer_modules import contract, hyperparameters, retrieval, search_spaces, tuning

KINDS = {contract.RETRIEVAL: hyperparameters.RETRIEVAL, contract.RANKING: hyperparameters.RANKING}
FAMILIES = [(model, family) for model, spaces in search_spaces.SPACES.items() for family in spaces]


@dataclasses.dataclass
class Parabola:
    """The hyperparameters of a family whose best value is known."""

    x: float = 1.0
    n: int = 3
    other: str = "kept"


@dataclasses.dataclass(frozen=True)
class Data:
    """What it is trained on."""

    on_tuned: object = None


SPACE = {"x": search_spaces.Range(0.0, 1.0), "n": search_spaces.Range(1, 9, log=True)}


def parabola(data, values, seed):
    """RMSE = 1 + (x - 0.3)^2 + (n - 5)^2 / 100."""
    p = hyperparameters.parse(Parabola, values)
    assert p.other == "kept too" and seed == 7
    data.on_tuned(1 + (p.x - 0.3) ** 2 + (p.n - 5) ** 2 / 100)
    raise AssertionError("a trial went on to its refit")


def searched(folder, monkeypatch, train=parabola, num_trials=12, seed=7):
    monkeypatch.setitem(search_spaces.SPACES[contract.RANKING], "parabola", SPACE)
    config = {"family": "parabola", "hyperparameters": {"other": "kept too"}, "seed": seed, "num_trials": num_trials}
    tuner, arguments = tuning.search(contract.RANKING, train, Parabola, Data(), config, str(folder))
    tuner.search(**arguments)
    return tuner


def trials(tuner):
    return [tuner.oracle.get_trial(trial_id) for trial_id in tuner.oracle.start_order]


def test_the_search_begins_with_todays_values_and_finds_better_ones(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "movierec")
    tuner = searched(tmp_path / "a", monkeypatch)
    found = trials(tuner)
    assert len(found) == 12
    assert found[0].hyperparameters.values == {"x": 1.0, "n": 3} and found[0].score == pytest.approx(1.53)
    best = tuner.best()
    assert best.score == min(trial.score for trial in found) < 1.1
    for trial in found:
        x, n = trial.hyperparameters.values["x"], trial.hyperparameters.values["n"]
        assert type(n) is int and type(x) is float and 0 <= x <= 1 and 1 <= n <= 9
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "ranking trial 1/12: x 1, n 3: eval rmse 1.5300, best so far 1.5300 in trial 1"
    assert len(lines) == 12 and f"best so far {best.score:.4f} in trial {int(best.trial_id) + 1}" in lines[-1]
    again = searched(tmp_path / "b", monkeypatch)
    assert [t.hyperparameters.values for t in trials(again)] == [t.hyperparameters.values for t in found]
    # The Trainer reads what TFX writes of it.
    outputs = {}
    for name, kind in (("best_hyperparameters", standard_artifacts.HyperParameters),
                       ("tuner_results", standard_artifacts.TunerResults)):  # fmt: skip
        outputs[name] = [kind()]
        outputs[name][0].uri = str(tmp_path / name)
    write_best_hyperparameters(tuner, outputs)
    written = json.loads((tmp_path / "best_hyperparameters" / "best_hyperparameters.txt").read_text())
    assert written["values"] == best.hyperparameters.values


def test_failed_trials_do_not_end_the_search(tmp_path, monkeypatch, caplog):
    calls = []

    def sometimes(data, values, seed):
        calls.append(values)
        if len(calls) <= 4:  # more in a row than keras-tuner would take
            raise ValueError("Training\ndiverged")
        data.on_tuned(math.nan if len(calls) == 5 else 0.9)

    tuner = searched(tmp_path, monkeypatch, sometimes, num_trials=6)
    assert len(calls) == 6 and tuner.best().score == 0.9
    said = [record.getMessage() for record in caplog.records]
    assert "failed, ValueError: Training diverged" in said[0] and "eval rmse is nan" in said[4]


@pytest.mark.parametrize("train", [lambda data, *_: data.on_tuned(math.nan), lambda *_: None])
def test_a_search_without_any_figure_says_so(tmp_path, monkeypatch, train):
    with pytest.raises(ValueError, match="None of 2 trials of the ranking model gave a finite rmse"):
        searched(tmp_path, monkeypatch, train, num_trials=2)


def test_a_value_outside_its_range_widens_it():
    space = tuning.declared(SPACE, Parabola, {"x": 5.0, "n": 1})
    assert space.values == {"x": 5.0, "n": 1}
    assert [(one.min_value, one.max_value) for one in space.space] == [(0.0, 5.0), (1, 9)]
    with pytest.raises(ValueError, match="has no hyperparameter y"):
        tuning.declared(SPACE, Parabola, {"y": 5.0})


@pytest.mark.parametrize(
    "model, family, values",
    [
        (contract.RANKING, "factorization_machine", {"factors": 0}),
        (contract.RANKING, "deep", {"history_l2": 0, "history_dropout": 0, "bias_l2": 4, "learning_rate": 1}),
        (contract.RANKING, "autorec", {"regularization": 0}),
        (contract.RETRIEVAL, "two_tower", {"weight_decay": 0.0}),
    ],
)
def test_every_value_that_settings_take_can_be_searched_from(model, family, values):
    """0 on a scale of factors, and whole numbers where others are due."""
    space = tuning.declared(search_spaces.SPACES[model][family], KINDS[model][family], values)
    for name, value in values.items():
        declared = type(getattr(KINDS[model][family](), name))
        [one] = [one for one in space.space if one.name == name]
        assert one.default == value and type(one.default) is declared
        assert type(one.random_sample(seed=3)) is declared and one.min_value < one.max_value


@pytest.mark.parametrize("model, family", FAMILIES)
def test_every_space_holds_todays_defaults(model, family):
    kind = KINDS[model][family]
    space = tuning.declared(search_spaces.SPACES[model][family], kind, {})
    for one in space.space:
        span = search_spaces.SPACES[model][family][one.name]
        assert span.low <= getattr(kind(), one.name) <= span.high, one.name
        assert (one.min_value, one.max_value) == (span.low, span.high)


def test_a_trial_of_a_real_family_fits_train_alone_and_ends_before_the_refit(artifacts, tmp_path, caplog):
    caplog.set_level("INFO", "movierec")
    config = {
        "family": "matrix_factorization", "hyperparameters": {"num_epochs": 2}, "seed": 7, "num_trials": 2,
        "rating_range": [1.0, 5.0],
    }  # fmt: skip
    tuner, arguments = retrieval.tuner_fn(artifacts.fn_args(tmp_path, config))
    tuner.search(**arguments)
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "trial" in line]) == 2
    tuned = [float(line.split("ndcg_at_10 ")[1].split(",")[0]) for line in said if "retrieval tuning" in line]
    assert [trial.score for trial in trials(tuner)] == pytest.approx([max(tuned[:2]), max(tuned[2:])], abs=1e-4)
    assert not [line for line in said if "refit" in line or "anew" in line]
