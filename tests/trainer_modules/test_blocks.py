"""Training blocks: every row is a target once, and what a target may read lies before it."""

import numpy as np
import pytest

from trainer_modules import blocks, inputs
from trainer_modules import features as f

T = 4


@pytest.fixture(scope="module")
def states():
    """Users of 0, 1, T, T + 1 and 70 rows; the row at place n of user u has position 1000 u + n, time 10 x that."""
    lengths = [0, 1, T, T + 1, 70]
    position = np.concatenate([1000 * user + np.arange(n) for user, n in enumerate(lengths)]).astype(np.int32)
    nothing = np.zeros(len(lengths), np.int64)
    return inputs.UserStates(
        user_id=np.array([f"u{n}" for n in range(len(lengths))], object),
        user_index=np.arange(len(lengths)) + 2, user_age_index=nothing, user_gender_index=nothing,
        user_occupation_index=nothing, row_splits=np.concatenate([[0], np.cumsum(lengths)]),
        position=position, rating=np.ones(len(position), np.float32), timestamp=position.astype(np.int64) * 10,
    )  # fmt: skip


def epoch(states, seed=0, blocks_per_batch=3):
    dataset = blocks.dataset(states, states.user_index, T, blocks_per_batch, seed)
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset]


def test_every_row_is_a_target_once(states):
    targets = np.concatenate([batch["target_position"].ravel() for batch in epoch(states)])
    assert sorted(targets[targets >= 0]) == sorted(states.position)


def test_a_target_reads_the_rows_right_before_it_and_its_users_alone(states):
    for batch in epoch(states):
        assert batch["position"].shape[1:] == (f.HISTORY_LENGTH + T - 1,)
        for user_index, position, timestamp, targets in zip(
            batch["user_index"], batch["position"], batch["timestamp"], batch["target_position"], strict=True
        ):
            assert (timestamp == np.where(position >= 0, position * 10, 0)).all()
            for n, target in enumerate(targets):
                if target >= 0:
                    user, place = divmod(int(target), 1000)
                    assert user_index == user + 2
                    before = [p for p in position[n : n + f.HISTORY_LENGTH] if p >= 0]
                    assert before == [1000 * user + m for m in range(max(0, place - f.HISTORY_LENGTH), place)]


def test_another_order_each_epoch_and_the_same_for_the_same_seed(states):
    dataset = blocks.dataset(states, states.user_index, T, 3, 0)
    first, second = ([batch["target_position"].numpy().tolist() for batch in dataset] for _ in range(2))
    assert first != second
    assert first == [batch["target_position"].tolist() for batch in epoch(states)]
    assert first != [batch["target_position"].tolist() for batch in epoch(states, seed=1)]
