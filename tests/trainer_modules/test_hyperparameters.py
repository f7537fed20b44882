"""Hyperparameters from a settings file: what is not understood is refused by name."""

import pytest

from trainer_modules import hyperparameters
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
