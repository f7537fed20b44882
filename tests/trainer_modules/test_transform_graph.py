"""The transform graph of a served model, beside tensorflow_transform's own layer."""

import numpy as np
import pytest

from trainer_modules import features as f
from trainer_modules.transform_graph import TransformGraph

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

SERIALIZED = {
    f.USER_ID.name: ["u1", "nobody", ""],
    f.HISTORY_MOVIE_ID.name: [["m1", "m2", "who?", ""] + [""] * (f.HISTORY_LENGTH - 4)] * 3,
    f.HISTORY_TIMESTAMP.name: [[880_000_000] * f.HISTORY_LENGTH, [0] * f.HISTORY_LENGTH, [-5] * f.HISTORY_LENGTH],
}
QUERY = (f.USER_INDEX, f.HISTORY_MOVIE_INDEX, f.HISTORY_AGE_BUCKET, f.HISTORY_HOUR_INDEX, f.HISTORY_WEEKDAY_INDEX)


@pytest.fixture(scope="module")
def raw():
    return {name: tf.constant(values) for name, values in SERIALIZED.items()} | {
        f.HISTORY_TIMESTAMP.name: tf.constant(SERIALIZED[f.HISTORY_TIMESTAMP.name], tf.int64)
    }


@pytest.mark.parametrize("features", [QUERY, QUERY[::-1], QUERY[:1]], ids=["all", "another order", "one"])
def test_it_says_what_the_layer_says(artifacts, raw, features):
    wanted = [feature.name for feature in features]
    said = TransformGraph(artifacts.transform_output)(raw, wanted)
    expected = artifacts.transform_output.transform_features_layer()(raw)
    assert list(said) == wanted
    for name in wanted:
        np.testing.assert_array_equal(said[name], expected[name], err_msg=name)


def test_nothing_else_is_computed(artifacts, raw):
    graph = TransformGraph(artifacts.transform_output)
    asked = tf.function(lambda user_id: graph({f.USER_ID.name: user_id}, [f.USER_INDEX.name]))
    of_all = asked.get_concrete_function(raw[f.USER_ID.name]).graph.as_graph_def().library.function
    lookups = [node for function in of_all for node in function.node_def if node.op == "LookupTableFindV2"]
    assert len(lookups) == 1


def test_what_does_not_follow_from_the_given_features_is_refused(artifacts, raw):
    with pytest.raises(Exception, match="depends transitively on placeholder"):
        TransformGraph(artifacts.transform_output)({f.USER_ID.name: raw[f.USER_ID.name]}, [f.MOVIE_INDEX.name])
