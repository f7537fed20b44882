"""The user snapshot and the shapes a history takes."""

import numpy as np
import pytest

from trainer_modules import features as f
from trainer_modules import inputs, snapshot

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


def states(**rows):
    lengths = [len(part) for part in rows.values()]
    position = np.array([p for part in rows.values() for p in part], np.int32)
    nothing = np.ones(len(rows), np.int64)
    return inputs.UserStates(
        user_id=np.array([user.encode() for user in rows], object),
        user_index=nothing, user_age_index=nothing, user_gender_index=nothing.copy(), user_occupation_index=nothing,
        row_splits=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        position=position, rating=position.astype(np.float32) / 2, timestamp=position.astype(np.int64) * 10,
    )  # fmt: skip


@pytest.fixture(scope="module")
def users():
    return snapshot.UserSnapshot(states(a=[5, 1, 2], b=[], c=[7]))


def test_lookup_gives_each_user_their_rows(users):
    rows = users.lookup(tf.constant(["c", "stranger", "a", "b", "", "a"]))
    assert rows.position.to_list() == [[7], [], [5, 1, 2], [], [], [5, 1, 2]]
    assert rows.rating.to_list()[2] == [2.5, 0.5, 1.0]
    assert rows.timestamp.to_list()[2] == [50, 10, 20]


def test_facts_are_each_users_and_a_strangers_are_unknown():
    known = states(a=[5], b=[])
    known.user_gender_index[:] = [2, 3]
    facts = snapshot.UserSnapshot(known).facts(tf.constant(["b", "stranger", "", "a"]))
    assert facts.numpy()[:, 1].tolist() == [3, f.OOV_INDEX, f.OOV_INDEX, 2]
    assert snapshot.UserSnapshot(None).facts(tf.constant(["a", "b"])).numpy().tolist() == [[f.OOV_INDEX] * 3] * 2


@pytest.mark.parametrize("nobody", [None, states()])
def test_an_empty_snapshot_knows_nobody(nobody):
    rows = snapshot.UserSnapshot(nobody).lookup(tf.constant(["a", "b"]))
    assert rows.position.to_list() == [[], []]
    assert snapshot.newest(rows, 2).position.numpy().tolist() == [[-1, -1], [-1, -1]]
    assert snapshot.dense(rows).position.shape == [2, 0]


def test_newest_keeps_the_last_rows_padded_on_the_left(users):
    rows = snapshot.newest(users.lookup(tf.constant(["a", "b", "c"])), 2)
    assert rows.position.numpy().tolist() == [[1, 2], [-1, -1], [-1, 7]]
    assert rows.rating.numpy().tolist() == [[0.5, 1.0], [0.0, 0.0], [0.0, 3.5]]
    assert rows.timestamp.numpy().tolist() == [[10, 20], [0, 0], [0, 70]]


def test_dense_pads_on_the_right_and_ragged_drops_padding_wherever_it_is(users):
    rows = snapshot.dense(users.lookup(tf.constant(["c", "a"])))
    assert rows.position.numpy().tolist() == [[7, -1, -1], [5, 1, 2]]
    holes = snapshot.History(
        tf.constant([[-1, 4, -1, 3]]), tf.constant([[0.0, 1.0, 9.0, 2.0]]), tf.constant([[0, 1, 9, 2]], tf.int64)
    )
    rows = snapshot.ragged(holes)
    assert rows.position.to_list() == [[4, 3]]
    assert rows.rating.to_list() == [[1.0, 2.0]]
    assert rows.timestamp.to_list() == [[1, 2]]


def test_no_rows_of_users_in_the_graph():
    """Only variables grow with the rows: what the graph would hold is limited in size and slow to load."""
    many = states(**{f"u{n}": list(range(1000)) for n in range(20)})
    users = snapshot.UserSnapshot(many)
    lookup = tf.function(users.lookup).get_concrete_function(tf.TensorSpec([None], tf.string))
    assert len(lookup.graph.as_graph_def().SerializeToString()) < 20_000
