"""The names of slices, and the tenths of the catalog."""

import numpy as np
import pytest

from components import slices
from components.evaluation_data import Ragged


@pytest.mark.parametrize("years, name", [(3, "0-17"), (18, "18-24"), (24.9, "18-24"), (55, "50-55"), (73, "56+")])
def test_ages_fall_into_ml_1ms_groups(years, name):
    assert slices.age_group(years) == name


def test_the_first_value_names_a_row_and_another_column_stands_in():
    column = Ragged(np.array([20.0, 30.0]), np.array([0, 2, 2, 2]))
    other = Ragged(np.array([1.0, 40.0]), np.array([0, 1, 2, 2]))
    assert list(slices.first_values(column, slices.age_group, other)) == ["18-24", "35-44", ""]


def test_deciles_are_tenths_of_the_rated_movies_and_equals_stay_together():
    counts = np.array([0, *range(1, 21)])
    np.testing.assert_array_equal(slices.popularity_deciles(counts), [0, *np.repeat(np.arange(1, 11), 2)])
    np.testing.assert_array_equal(slices.popularity_deciles(np.array([1, 1, 1, 1, 9])), [1, 1, 1, 1, 9])
    assert not slices.popularity_deciles(np.zeros(3, int)).any()
