"""Hyperparameters from a settings file: what is not understood is refused by name."""

import dataclasses
import math

import pytest

from trainer_modules import hyperparameters, search_spaces
from trainer_modules.hyperparameters import TwoTower


def test_the_unnamed_keep_their_defaults():
    assert hyperparameters.parse(TwoTower, {}) == TwoTower()
    assert hyperparameters.parse(TwoTower, {"num_epochs": 3}) == TwoTower(num_epochs=3)


def test_an_unknown_name_is_refused_and_the_known_ones_listed():
    with pytest.raises(ValueError, match=r"TwoTower has no hyperparameter epochs\. It has: embedding_dimension, "):
        hyperparameters.parse(TwoTower, {"epochs": 3, "num_heads": 1})


def test_a_whole_number_is_a_number():
    assert hyperparameters.parse(TwoTower, {"temperature": 1}).temperature == 1.0


@pytest.mark.parametrize("values", [{"num_epochs": 3.5}, {"num_epochs": "3"}, {"num_epochs": True}, {"dropout": None}])
def test_a_value_of_another_type_is_refused(values):
    (name,) = values
    with pytest.raises(ValueError, match=rf"TwoTower\.{name} is .* It must be of type"):
        hyperparameters.parse(TwoTower, values)


FAMILIES = [*hyperparameters.RETRIEVAL.values(), *hyperparameters.RANKING.values()]
KINDS = {"retrieval": hyperparameters.RETRIEVAL, "ranking": hyperparameters.RANKING}


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_default_is_allowed_and_no_number_that_is_none(kind):
    defaults = dataclasses.asdict(kind())
    assert hyperparameters.parse(kind, defaults) == kind()
    for name, value in defaults.items():
        for wrong in (-1, math.nan, math.inf) if type(value) in (int, float) else ("other",):
            with pytest.raises(ValueError, match=rf"{kind.__name__}\.{name} is .* It must be "):
                hyperparameters.parse(kind, {name: wrong})


def test_every_value_of_a_search_is_allowed():
    for model, spaces in search_spaces.SPACES.items():
        for family, space in spaces.items():
            for name, values in space.items():
                kind = KINDS[model][family]
                number = type(getattr(kind(), name))
                for value in (values.low, values.high):
                    hyperparameters.parse(kind, {name: number(value)})


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (hyperparameters.ItemAutoRec, {"hidden_units": 0}, "It must be at least 1"),
        (hyperparameters.DeepRanking, {"user_dropout": 1.0}, "It must be at least 0 and below 1"),
        (hyperparameters.DeepRanking, {"learning_rate": 0.0}, "It must be above 0"),
        (hyperparameters.DeepRanking, {"loss": "pairwise"}, "It must be one of: squared, listwise"),
        (hyperparameters.FactorizationMachine, {"num_steps": 100}, "with 300 burn_in_steps"),
    ],
)
def test_a_value_that_would_mean_nothing_is_refused(kind, values, said):
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{next(iter(values))} is .*{said}"):
        hyperparameters.parse(kind, values)


def test_none_is_a_number_where_it_means_something():
    assert hyperparameters.parse(TwoTower, {"linear_rank": 0, "fact_rank": 0}).linear_rank == 0
