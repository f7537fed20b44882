"""Train, eval and test, and what a row may know of its past: against slow, plain Python."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from components import splits
from components.errors import InputError
from components.histories import PADDING, PastRows

rows_strategy = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40)
"""(user, timestamp): few of each, so that ties are common. The line is the position."""


def columns(rows, order):
    """The rows in another order than the lines'."""
    array = np.array(rows, np.int64).reshape(-1, 2)
    lines = np.arange(1, len(rows) + 1)
    return array[order, 0], array[order, 1], lines[order]


def orders(rows):
    return np.random.default_rng(len(rows)).permutation(len(rows))


@hypothesis.given(rows_strategy)
def test_leave_last_out_is_what_it_says(rows):
    user, timestamp, line = columns(rows, orders(rows))
    codes = splits.leave_last_out(user, timestamp, line)
    assert codes.shape == user.shape and set(codes) <= {0, 1, 2}
    for u in set(user):
        mine = sorted((t, n, code) for v, t, n, code in zip(user, timestamp, line, codes, strict=True) if v == u)
        expected = {1: [0], 2: [0, 2]}.get(len(mine), [0] * (len(mine) - 2) + [1, 2])
        assert [code for _, _, code in mine] == expected


@hypothesis.given(rows_strategy)
def test_global_time_is_what_it_says(rows):
    _, timestamp, line = columns(rows, orders(rows))
    codes = splits.global_time(timestamp, line)
    when = sorted((t, n, code) for t, n, code in zip(timestamp, line, codes, strict=True))
    num_fit, num_train = round(0.9 * len(rows)), round(0.8 * len(rows))
    expected = [0] * num_train + [1] * (num_fit - num_train) + [2] * (len(rows) - num_fit)
    assert [code for _, _, code in when] == expected


def test_global_time_cuts_between_rows_of_one_second_by_line():
    lines = np.arange(1, 21)
    assert splits.global_time(np.zeros(20, int), lines).tolist() == [0] * 16 + [1] * 2 + [2] * 2
    assert splits.global_time(np.zeros(20, int), lines[::-1]).tolist() == [2] * 2 + [1] * 2 + [0] * 16


@hypothesis.given(rows_strategy, st.sampled_from(splits.NAMES))
def test_every_row_has_one_split_whatever_the_order_of_the_rows(rows, name):
    order = orders(rows)
    in_order, shuffled = (
        splits.assign(name, user_index=user, timestamp=timestamp, source_line=line, seed=5)
        for user, timestamp, line in (columns(rows, np.arange(len(rows))), columns(rows, order))
    )
    assert shuffled.tolist() == in_order[order].tolist()
    assert set(in_order) <= {0, 1, 2} and len(in_order) == len(rows)


@hypothesis.given(st.integers(0, 200), st.integers(0, 5))
def test_random_gives_tenths_whatever_the_order_of_the_rows(num_rows, seed):
    lines = np.arange(1, num_rows + 1)
    codes = splits.random(lines, seed)
    counts = np.bincount(codes, minlength=3)
    assert counts[1] == counts[2] == round(num_rows / 10) and counts.sum() == num_rows
    order = np.random.default_rng(1).permutation(num_rows)
    assert (splits.random(lines[order], seed) == codes[order]).all()


def test_random_goes_by_the_seed():
    lines = np.arange(1000)
    assert (splits.random(lines, 1) != splits.random(lines, 2)).any()
    assert (splits.random(lines, 1) == splits.random(lines, 1)).all()


def test_an_unknown_split_is_named():
    empty = np.zeros(0, int)
    with pytest.raises(InputError, match=r"'by_moon'.*leave_last_out, global_time, random"):
        splits.assign("by_moon", user_index=empty, timestamp=empty, source_line=empty, seed=1)


@hypothesis.given(rows_strategy, st.sampled_from(splits.NAMES), st.integers(1, 6))
def test_a_row_knows_what_it_may_and_nothing_else(rows, name, length):
    user, timestamp, line = columns(rows, orders(rows))
    codes = splits.assign(name, user_index=user, timestamp=timestamp, source_line=line, seed=3)
    order = np.lexsort((line, timestamp, user))
    user, timestamp, line, codes = user[order], timestamp[order], line[order], codes[order]
    is_timeless = name in splits.TIMELESS
    past = PastRows(user, codes, is_timeless)
    for code in range(3):
        mine = np.flatnonzero(codes == code)
        for row, history in zip(mine, past.newest(mine, code, length), strict=True):
            known = [other for other in range(len(user)) if user[other] == user[row]]
            if code == splits.TRAIN_CODE:
                known = [other for other in known if codes[other] == 0 and other != row]
                known = [other for other in known if is_timeless or other < row]
            else:
                known = [other for other in known if codes[other] < code]
            assert row not in known
            expected = [PADDING] * length + sorted(known, key=lambda other: (timestamp[other], line[other]))
            assert history.tolist() == expected[-length:]
