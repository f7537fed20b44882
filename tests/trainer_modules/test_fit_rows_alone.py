"""For any data and every split: no row is lost or doubled, no row knows what it must not, and whatever is counted or
learned comes from the fit rows alone.

From generated ratings to what the trainers and the baselines are given; without Beam where it is not needed.
"""

import collections
import dataclasses
import pathlib
import tempfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
import toy_world
from conftest import RETRIEVAL_CONFIG

from components import evaluation_data, example_shards, shard_examples, splits
from components.movielens import Dataset
from trainer_modules import (
    baselines,
    deep_ranking,
    factorization_machine,
    ranking_data,
    retrieval_data,
    two_tower_training,
)
from trainer_modules import features as f

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

DAY_S = 86_400
NAMES = [*splits.NAMES, "global_time:0.5,0.3", "global_time:1970-01-02,1970-01-03", "fold:u1"]
NUM_MOVIES = 9

worlds = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, NUM_MOVIES - 1)),
    st.tuples(st.integers(1, 5), st.sampled_from([0, 1, DAY_S, 2 * DAY_S, 2 * DAY_S + 1]), st.booleans()),
    min_size=1,
    max_size=40,
)
"""(user, movie) -> stars, timestamp, whether the fold's test file holds it. Few times, so that ties are common."""


def dataset_of(world):
    rows = [
        (f"u{user}", f"m{movie}", stars, time, line, in_test_file)
        for line, ((user, movie), (stars, time, in_test_file)) in enumerate(world.items(), start=1)
    ]
    schema = {"user_id": pl.String, "movie_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64,
              "source_line": pl.Int64, splits.IN_TEST_FILE: pl.Boolean}  # fmt: skip
    movies = pl.DataFrame(
        [(f"m{n}", f"Word{n} all (19{50 + 5 * n})", [f"genre{n}"]) for n in range(NUM_MOVIES)],
        {"movie_id": pl.String, "title": pl.String, "genres": pl.List(pl.String)}, orient="row",
    )  # fmt: skip
    users = pl.DataFrame(
        [(f"u{user}", f"job{user}") for user in range(6)],
        {"user_id": pl.String, f.USER_OCCUPATION_TEXT.name: pl.String}, orient="row",
    )  # fmt: skip
    return Dataset(pl.DataFrame(rows, schema, orient="row"), movies, users, pl.DataFrame(), len(rows), 0, 0)


class Written:
    """The ExampleGen's outputs, without Beam."""

    def __init__(self, world, name, folder):
        self.examples, self.user_state, self.catalog = (str(folder / key) for key in ("examples", "states", "catalog"))
        for uri in (self.examples, self.user_state, self.catalog):
            for split in (f.ALL,) if uri == self.catalog else f.SPLITS:
                (pathlib.Path(uri) / f"Split-{split}").mkdir(parents=True)
        dataset, work = dataset_of(world), str(folder)
        shards, self.num_rows = example_shards.cut(dataset, name, 7, work)
        is_timeless = splits.parse(name).is_timeless
        for shard in shards:
            shard_examples.write_shard(shard, self.examples, self.user_state, work, f.HISTORY_LENGTH, is_timeless)
        shard_examples.write_catalog(dataset.movies, f"{self.catalog}/Split-{f.ALL}/movies.gz", work)

    def read(self, uri, split):
        files = [str(path) for path in (pathlib.Path(uri) / f"Split-{split}").iterdir()]
        for record in tf.data.TFRecordDataset(files, "GZIP"):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            yield {
                name: [
                    value.decode() if isinstance(value, bytes) else value
                    for value in getattr(features[name], features[name].WhichOneof("kind")).value
                ]
                for name in features
                if features[name].WhichOneof("kind")
            }

    def rows(self):
        """split -> [(user, movie, line, timestamp, the history's movies)]."""
        return {
            split: [
                (row["user_id"][0], row["movie_id"][0], row["source_line"][0], row["timestamp"][0],
                 [movie for movie in row["history_movie_id"] if movie])
                for row in self.read(self.examples, split)
            ]
            for split in f.SPLITS
        }  # fmt: skip

    def states(self):
        """split -> [(user, movie, timestamp)]."""
        return {
            split: [
                (row["user_id"][0], movie, time)
                for row in self.read(self.user_state, split)
                for movie, time in zip(row.get("state_movie_id", ()), row.get("state_timestamp", ()), strict=True)
            ]
            for split in f.SPLITS
        }


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(worlds, st.sampled_from(NAMES))
def test_no_row_is_lost_or_doubled_and_none_knows_what_is_held_out(world, name):
    with tempfile.TemporaryDirectory() as folder:
        written = Written(world, name, pathlib.Path(folder))
        rows, states = written.rows(), written.states()
    lines = [row[2] for split in f.SPLITS for row in rows[split]]
    assert sorted(lines) == list(range(1, len(world) + 1))
    assert {split: len(rows[split]) for split in f.SPLITS} == written.num_rows
    for split in f.SPLITS:
        assert sorted(states[split]) == sorted((user, movie, time) for user, movie, _, time, _ in rows[split])

    own = {split: collections.defaultdict(dict) for split in f.SPLITS}
    for split in f.SPLITS:
        for user, movie, line, time, _ in rows[split]:
            own[split][user][movie] = (time, line)
    is_timeless = splits.parse(name).is_timeless
    may_know = {f.TRAIN: (f.TRAIN,), f.EVAL: (f.TRAIN,), f.TEST: f.FIT_SPLITS}
    for split in f.SPLITS:
        for user, movie, line, time, history in rows[split]:
            known = {movie: when for part in may_know[split] for movie, when in own[part][user].items()}
            if split == f.TRAIN:
                known = {m: when for m, when in known.items() if m != movie and (is_timeless or when < (time, line))}
            # Nothing else, whatever its time; and nothing less.
            assert history == sorted(known, key=known.__getitem__)


@pytest.mark.slow
@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(worlds.filter(lambda world: len(world) >= 12), st.sampled_from(NAMES))
def test_whatever_the_data_what_is_counted_comes_from_the_fit_rows_alone(world, name):
    check_what_is_counted(world, name)


def test_what_is_counted_comes_from_the_fit_rows_alone():
    """The last user and the last movies are in test rows alone, and the newest times are."""
    world = {(user, movie): (1 + (user + movie) % 5, DAY_S * user + movie % 2, user % 2 == 1)
             for user in range(6) for movie in range(user, user + 4)}  # fmt: skip
    check_what_is_counted(world, "global_time:1970-01-03,1970-01-05")


def check_what_is_counted(world, name):
    with tempfile.TemporaryDirectory() as base:
        folder = pathlib.Path(base)
        written = Written(world, name, folder)
        hypothesis.assume(all(written.num_rows.values()))
        rows = written.rows()
        fit = [row for split in f.FIT_SPLITS for row in rows[split]]
        # Transform analyses the fit splits of the graph (tests/pipeline/test_graph.py).
        graph, transformed = str(folder / "transform"), str(folder / "transformed")
        toy_world.transform(written.examples, graph, transformed, str(folder / "temporary"))
        told = toy_world.Artifacts(graph, transformed, written.catalog, written.user_state, written.examples)
        vocabularies = {
            name: {token.decode() for token in told.transform_output.vocabulary_by_name(name)}
            for name in (f.USER_VOCABULARY, f.MOVIE_VOCABULARY, f.GENRE_VOCABULARY, f.WORD_VOCABULARY,
                         f.OCCUPATION_VOCABULARY)
        }  # fmt: skip
        users, movies = {row[0] for row in fit}, {row[1] for row in fit}
        num_rows = collections.Counter(row[1] for row in fit)
        assert vocabularies[f.USER_VOCABULARY] == users
        assert vocabularies[f.MOVIE_VOCABULARY] == movies
        assert vocabularies[f.GENRE_VOCABULARY] == {movie.replace("m", "genre") for movie in movies}
        assert vocabularies[f.OCCUPATION_VOCABULARY] == {user.replace("u", "job") for user in users}
        twice = {movie.replace("m", "word") for movie in movies if num_rows[movie] > 1}
        assert vocabularies[f.WORD_VOCABULARY] == twice | ({"all"} if len(fit) > 1 else set())

        args = told.fn_args(folder / "model", {"rating_range": [1, 5]})
        catalog = [f"m{n}" for n in range(NUM_MOVIES)]
        counts = {
            parts: [sum(row[1] == movie for part in parts for row in rows[part]) for movie in catalog]
            for parts in ((f.TRAIN,), (f.EVAL,), f.FIT_SPLITS)
        }
        data = retrieval_data.load(args)
        found = {(f.TRAIN,): data.train, (f.EVAL,): data.held_out, f.FIT_SPLITS: data.fit}
        assert {part: state.counts(NUM_MOVIES).tolist() for part, state in found.items()} == counts
        of_ranking = ranking_data.load(args)
        index = dict(zip(catalog, of_ranking.catalog.movie_index, strict=True))
        for part, columns in ((f.TRAIN, of_ranking.train), (f.EVAL, of_ranking.eval)):
            assert sorted(columns[f.MOVIE_INDEX.name]) == sorted(index[row[1]] for row in rows[part])
        assert len(of_ranking.fit[f.USER_RATING.name]) == len(fit)

        states = evaluation_data.read_user_states(written.user_state, f.FIT_SPLITS)
        position = evaluation_data.read_catalog(written.catalog).positions(states.movie_id)
        assert baselines.popularity(position, NUM_MOVIES).tolist() == counts[f.FIT_SPLITS]
        recent = baselines.recent_popularity(position, states.timestamp, NUM_MOVIES, half_life_days=1)
        newest = max(row[3] for row in fit)
        by_hand = [sum(0.5 ** ((newest - row[3]) / DAY_S) for row in fit if row[1] == movie) for movie in catalog]
        assert recent == pytest.approx(by_hand)


@pytest.mark.slow
def test_training_opens_no_test_row(artifacts, tmp_path):
    """Counts and sampling probabilities are made in training: it runs, and to the same end, where no test row is."""
    args = artifacts.fn_args(tmp_path, {"rating_range": [1, 5]})
    data = retrieval_data.load(args)
    blind = dataclasses.replace(data, everything=None)
    values = {**RETRIEVAL_CONFIG["hyperparameters"], "num_epochs": 1}
    vectors = [two_tower_training.train(given, values, seed=3).candidate_vectors for given in (data, blind)]
    np.testing.assert_array_equal(*vectors)

    ranking = dataclasses.replace(ranking_data.load(args), user_state_uri="/nowhere")
    deep_ranking.fit(ranking, {"max_epochs": 1}, seed=3)
    short = {"factors": 2, "num_steps": 60, "num_tuning_steps": 60, "burn_in_steps": 30}
    factorization_machine.fit(ranking, short, seed=3)
