"""Tiny SavedModels with the contract's signatures, which know toy_ring's world, or what a test has them know."""

import pathlib

import numpy as np
import tensorflow as tf
from toy_ring import MOVIE_IDS, NUM_MOVIES, NUM_USERS, H, stars_of

from trainer_modules import contract, top_k


def spec(dtype, *shape):
    return tf.TensorSpec(shape, dtype)


_USER = {"user_id": spec(tf.string, None)}
_HISTORY = {
    "history_movie_id": spec(tf.string, None, None),
    "history_rating": spec(tf.float32, None, None),
    "history_timestamp": spec(tf.int64, None, None),
    "query_timestamp": spec(tf.int64, None),
}
_EXCLUDE = {"exclude_movie_id": spec(tf.string, None, None)}
_SEEN = {"seen_movie_id": spec(tf.string, None, None)}
_POSITIVE = {"positive_movie_id": spec(tf.string, None, None)}
_FILTER = {"genre": spec(tf.string, None, None), "min_year": spec(tf.int32, None), "max_year": spec(tf.int32, None)}
_K = {"k": spec(tf.int32, None)}


def _table(movie_ids):
    keys, positions = tf.constant(movie_ids), tf.range(len(movie_ids))
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, positions), -1)


class ToyRetrieval(tf.Module):
    """score = base[movie] + next[newest history movie, movie].

    Args:
      base: [N], or None: zeros.
      ring: worth of the movie that follows the newest one of the history.
      fault: "" or one of the ways below in which a model can be broken.
      snapshot: user_id -> movie numbers, oldest first; what `recommend` knows.
    """

    FAULTS = ("nan", "unsorted", "shows_seen", "shows_excluded", "fails", "hangs", "repeats", "unknown_movie")

    def __init__(self, base=None, ring=0.0, fault="", snapshot=None):
        super().__init__()
        assert fault in ("", *self.FAULTS)
        self.fault = fault
        self.table = _table(MOVIE_IDS)
        self.movie_ids = tf.constant([*MOVIE_IDS, ""])  # the last is what position -1 finds
        self.base = tf.constant(np.zeros(NUM_MOVIES) if base is None else base, tf.float32)
        step = np.zeros((NUM_MOVIES + 1, NUM_MOVIES), np.float32)
        step[np.arange(NUM_MOVIES), (np.arange(NUM_MOVIES) + 1) % NUM_MOVIES] = ring
        self.step = tf.constant(step)
        snapshot = snapshot or {"nobody": [0]}
        users = list(snapshot)
        self.users = _table(users)
        width = max(map(len, snapshot.values()))
        padded = [[-1] * (width - len(snapshot[user])) + snapshot[user] for user in users]
        self.states = tf.constant([*padded, [-1] * width], tf.int32)

    def _answer(self, newest, hidden, k):
        scores = self.base + tf.gather(self.step, tf.where(newest < 0, NUM_MOVIES, newest))
        best = top_k.top_k(top_k.mask(scores, hidden), k)
        position, score = best.position, best.score
        if self.fault == "nan":
            score *= np.nan
        if self.fault == "unsorted":
            position, score = position[:, ::-1], score[:, ::-1]
        if self.fault == "repeats":
            position = tf.zeros_like(position)
        if self.fault == "fails":
            with tf.control_dependencies([tf.debugging.Assert(tf.shape(scores)[0] < 0, ["this model is broken"])]):
                score = tf.identity(score)
        if self.fault == "hangs":
            turns = tf.while_loop(lambda n: n < 10**15, lambda n: [n + 1], [tf.cast(tf.size(score), tf.int64)])[0]
            score += tf.cast(turns > 0, tf.float32)
        movie_id = tf.gather(self.movie_ids, tf.where(position < 0, NUM_MOVIES, position))
        if self.fault == "unknown_movie":
            movie_id = tf.where(position < 0, movie_id, "x" + movie_id)
        title = tf.where(movie_id == "", "", "Movie " + movie_id)
        return {"movie_id": movie_id, "movie_title": title, "score": score}

    def _rank(self, newest, hidden, positive_movie_id):
        scores = self.base + tf.gather(self.step, tf.where(newest < 0, NUM_MOVIES, newest))
        return {"rank": top_k.ranks(top_k.mask(scores, hidden), self._positions(positive_movie_id))}

    def _positions(self, movie_id):
        return self.table.lookup(movie_id)

    def _for_history(self, newest, seen_movie_id, exclude_movie_id, k):
        seen, excluded = self._positions(seen_movie_id), self._positions(exclude_movie_id)
        if self.fault == "shows_seen":
            seen -= NUM_MOVIES
        if self.fault == "shows_excluded":
            excluded -= NUM_MOVIES
        return self._answer(newest, tf.concat([seen, excluded], axis=1), k)

    def _newest(self, history_movie_id):
        return self._positions(tf.concat([tf.fill([tf.shape(history_movie_id)[0], 1], ""), history_movie_id], 1)[:, -1])

    def signatures(self):
        @tf.function(input_signature=[{**_USER, **_HISTORY, **_SEEN, **_EXCLUDE, **_K}], autograph=False)
        def recommend_for_history(x):
            return self._for_history(
                self._newest(x["history_movie_id"]), x["seen_movie_id"], x["exclude_movie_id"], x["k"]
            )

        @tf.function(input_signature=[{**_USER, **_EXCLUDE, **_K}], autograph=False)
        def recommend(x):
            user = self.users.lookup(x["user_id"])
            state = tf.gather(self.states, tf.where(user < 0, len(self.states) - 1, user))
            hidden = tf.concat([state, self._positions(x["exclude_movie_id"])], axis=1)
            return self._answer(state[:, -1], hidden, x["k"])

        @tf.function(input_signature=[{**_USER, **_FILTER, **_EXCLUDE, **_K}], autograph=False)
        def recommend_filtered(x):
            return _filtered(recommend({name: x[name] for name in (*_USER, *_EXCLUDE, *_K)}), x)

        @tf.function(input_signature=[{**_USER, **_HISTORY, **_SEEN, **_FILTER, **_EXCLUDE, **_K}], autograph=False)
        def recommend_filtered_for_history(x):
            asked = (*_USER, *_HISTORY, *_SEEN, *_EXCLUDE, *_K)
            return _filtered(recommend_for_history({name: x[name] for name in asked}), x)

        @tf.function(input_signature=[_K], autograph=False)
        def popular(x):
            batch = tf.shape(x["k"])[0]
            return self._answer(tf.fill([batch], -1), tf.fill([batch, 1], -1), x["k"])

        @tf.function(input_signature=[{"movie_id": spec(tf.string, None), **_K}], autograph=False)
        def similar(x):
            position = self._positions(x["movie_id"])
            return self._answer(position, position[:, None], x["k"])

        @tf.function(input_signature=[{**_USER, **_HISTORY, **_SEEN, **_EXCLUDE, **_POSITIVE}], autograph=False)
        def evaluate(x):
            hidden = self._positions(tf.concat([x["seen_movie_id"], x["exclude_movie_id"]], axis=1))
            return self._rank(self._newest(x["history_movie_id"]), hidden, x["positive_movie_id"])

        @tf.function(input_signature=[{**_USER, **_HISTORY}], autograph=False)
        def embed_query(x):
            newest = self._newest(x["history_movie_id"])
            return {"embedding": tf.gather(self.step, tf.where(newest < 0, NUM_MOVIES, newest))}

        @tf.function(input_signature=[{"movie_id": spec(tf.string, None)}], autograph=False)
        def embed_candidate(x):
            return {"embedding": tf.one_hot(self._positions(x["movie_id"]), NUM_MOVIES)}

        @tf.function(input_signature=[{"examples": spec(tf.string, None)}], autograph=False)
        def serving_default(x):
            parsed = tf.io.parse_example(
                x["examples"],
                {
                    "user_id": tf.io.FixedLenFeature((), tf.string),
                    "history_movie_id": tf.io.FixedLenFeature((H,), tf.string, [""] * H),
                },
            )
            history = parsed["history_movie_id"]
            nothing = tf.fill([tf.shape(history)[0], 1], "")
            k = tf.fill([tf.shape(history)[0]], contract.DEFAULT_K)
            return self._for_history(self._newest(history), history, nothing, k)

        functions = (recommend_for_history, recommend, recommend_filtered, recommend_filtered_for_history, popular,
                     similar, evaluate, embed_query, embed_candidate, serving_default)  # fmt: skip
        return {function.python_function.__name__: _by_name(function) for function in functions}


def _filtered(found, x):
    """No movie has a year, all are dramas."""
    wanted = tf.reduce_all((x["genre"] == "") | (x["genre"] == "Drama"), axis=1)
    passes = wanted & (x["min_year"] == 0) & (x["max_year"] == 0)
    empty = {"movie_id": "", "movie_title": "", "score": -np.inf}
    return {name: tf.where(passes[:, None], found[name], value) for name, value in empty.items()}


class ToyRanking(tf.Module):
    """stars = what stars_of says, plus `error` for every movie, or a constant.

    Args:
      constant: stars for everything; None: the right ones.
      error: stars added, with alternating sign from movie to movie.
      table: [NUM_USERS + 1, NUM_MOVIES + 1], stars; the last row and column are for who and what is unknown.
      fault: "" or a way in which a model can be broken.
    """

    FAULTS = ("nan", "out_of_range", "fails", "hangs", "crashes")

    def __init__(self, constant=None, error=0.0, fault="", table=None):
        super().__init__()
        assert fault in ("", *self.FAULTS)
        self.fault = fault
        self.movies = _table(MOVIE_IDS)
        self.users = _table([f"u{n}" for n in range(NUM_USERS)])
        right = [[stars_of(user, movie) for movie in range(NUM_MOVIES)] for user in range(NUM_USERS)]
        if table is None:
            table = np.full((NUM_USERS + 1, NUM_MOVIES + 1), 3.0)
            table[:-1, :-1] = right
        if constant is not None:
            table[:] = constant
        table += error * np.where(np.arange(NUM_MOVIES + 1) % 2, 1, -1)
        self.stars = tf.constant(np.clip(table, 1, 5), tf.float32)

    def _rank(self, user_id, movie_id):
        user, movie = self.users.lookup(user_id), self.movies.lookup(movie_id)
        user = tf.where(user < 0, NUM_USERS, user)[:, None] + tf.zeros_like(movie)
        stars = tf.gather_nd(self.stars, tf.stack([user, tf.where(movie < 0, NUM_MOVIES, movie)], axis=-1))
        if self.fault == "nan":
            stars *= np.nan
        if self.fault == "out_of_range":
            stars += 5.0
        if self.fault == "fails":
            with tf.control_dependencies([tf.debugging.Assert(tf.shape(stars)[0] < 0, ["this model is broken"])]):
                stars = tf.identity(stars)
        if self.fault == "hangs":
            turns = tf.while_loop(lambda n: n < 10**15, lambda n: [n + 1], [tf.cast(tf.size(stars), tf.int64)])[0]
            stars += tf.cast(turns < 0, tf.float32)
        if self.fault == "crashes":
            with tf.control_dependencies([tf.raw_ops.Abort(error_msg="this model ends its server")]):
                stars = tf.identity(stars)
        return {"stars": stars}

    def signatures(self):
        movies = {"movie_id": spec(tf.string, None, None)}

        @tf.function(input_signature=[{**_USER, **movies}], autograph=False)
        def rank(x):
            return self._rank(x["user_id"], x["movie_id"])

        @tf.function(input_signature=[{**_USER, **_HISTORY, **movies}], autograph=False)
        def rank_for_history(x):
            return self._rank(x["user_id"], x["movie_id"])

        @tf.function(input_signature=[{"examples": spec(tf.string, None)}], autograph=False)
        def serving_default(x):
            parsed = tf.io.parse_example(
                x["examples"],
                {
                    "user_id": tf.io.FixedLenFeature((), tf.string),
                    "movie_id": tf.io.FixedLenFeature((), tf.string, ""),
                },
            )
            return self._rank(parsed["user_id"], parsed["movie_id"][:, None])

        @tf.function(input_signature=[_K], autograph=False)
        def popular(x):
            rows = tf.tile(tf.range(NUM_MOVIES, 0, -1)[None], [tf.shape(x["k"])[0], 1])
            best = top_k.top_k(tf.cast(rows, tf.float32), x["k"])
            movie_id = tf.gather([*MOVIE_IDS, ""], tf.where(best.position < 0, NUM_MOVIES, best.position))
            title = tf.where(movie_id == "", "", "Movie " + movie_id)
            return {"movie_id": movie_id, "movie_title": title, "score": best.score}

        functions = (rank, rank_for_history, serving_default, popular)
        return {function.python_function.__name__: _by_name(function) for function in functions}


def _by_name(function):
    """A signature takes tensors by name; the functions above take one dict."""
    structure = function.input_signature[0]

    def call(**tensors):
        return function(tensors)

    specs = {name: tf.TensorSpec(one.shape, one.dtype, name=name) for name, one in structure.items()}
    return tf.function(call, autograph=False).get_concrete_function(**specs)


def save(model, model_uri):
    """Saves a toy as TFX's Trainer lays a model out; returns the artifact's uri."""
    tf.saved_model.save(model, str(pathlib.Path(model_uri) / "Format-Serving"), signatures=model.signatures())
    return str(model_uri)
