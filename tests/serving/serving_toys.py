"""Small SavedModels with known answers, built the way real ones are: tables from assets, variables, several signatures.

The world: movies m0 ... m19 (titles "Title 0" ...), users u1 (likes low numbers, has seen m0), u2 (likes high
numbers, has seen m19); anyone else gets m10 first. Score: 0 for the best movie, -1 for each step away from it.
"""

import tensorflow as tf

from trainer_modules import contract

NUM_MOVIES = 20
BEST = {"u1": 0, "u2": 19}
BEST_FOR_UNKNOWN = 10
SEEN = {"u1": ["m0"], "u2": ["m19"]}

STRINGS = tf.TensorSpec([None], tf.string)
STRING_ROWS = tf.TensorSpec([None, None], tf.string)
FLOAT_ROWS = tf.TensorSpec([None, None], tf.float32)
INT64_ROWS = tf.TensorSpec([None, None], tf.int64)
INT64S = tf.TensorSpec([None], tf.int64)
INT32S = tf.TensorSpec([None], tf.int32)


def export_pair(root, version):
    """Exports both toys under root; model name -> base path."""
    paths = {}
    for name, toy in ((contract.RETRIEVAL, ToyRetrieval), (contract.RANKING, ToyRanking)):
        model = toy(root)
        paths[name] = root / name
        tf.saved_model.save(model, str(paths[name] / str(version)), signatures=model.signatures())
    return paths


def export_versioned(base_path, version):
    """A model that says its version twice, from a table and from a variable."""
    model = Versioned(base_path.parent, version)
    tf.saved_model.save(model, str(base_path / str(version)), signatures=model.signatures())


def _table(folder, name, lines):
    """Line -> its number, from a vocabulary file (an asset of the SavedModel); -1 where unknown."""
    path = folder / f"{name}.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    initializer = tf.lookup.TextFileInitializer(
        str(path), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    return tf.lookup.StaticHashTable(initializer, -1)


class _Toy(tf.Module):
    def __init__(self, folder):
        super().__init__()
        self.movies = _table(folder, f"{type(self).__name__}_movies", [f"m{i}" for i in range(NUM_MOVIES)])
        self.users = _table(folder, f"{type(self).__name__}_users", BEST)
        self.movie_ids = tf.constant([f"m{i}" for i in range(NUM_MOVIES)])
        self.titles = tf.constant([f"Title {i}" for i in range(NUM_MOVIES)])

    def signatures(self):
        return {
            name: tf.function(method, input_signature=specs).get_concrete_function()
            for name, (method, specs) in self.methods().items()
        }


class ToyRetrieval(_Toy):
    def __init__(self, folder):
        super().__init__(folder)
        position = tf.range(NUM_MOVIES, dtype=tf.float32)
        best = tf.constant([*BEST.values(), BEST_FOR_UNKNOWN], tf.float32)
        self.scores = tf.Variable(-tf.abs(position - best[:, None]))  # [users and the unknown one, movies]
        seen = [*SEEN.values(), []]
        self.seen = tf.constant([[f"m{i}" in ids for i in range(NUM_MOVIES)] for ids in seen])
        self.weights = tf.Variable([[1.0], [2.0], [3.0]])

    def methods(self):
        history = [
            tf.TensorSpec([None, None], dtype, name)
            for name, dtype in (
                (contract.HISTORY_MOVIE_ID, tf.string),
                (contract.HISTORY_RATING, tf.float32),
                (contract.HISTORY_TIMESTAMP, tf.int64),
            )
        ]
        return {
            "serving_default": (self.serving_default, [STRINGS]),
            "two": (self.two, [tf.TensorSpec([None, 3], tf.float32), STRINGS]),
            contract.RECOMMEND: (self.recommend, [STRINGS, STRING_ROWS, INT32S]),
            contract.RECOMMEND_FOR_HISTORY: (
                self.recommend_for_history, [STRINGS, *history, INT64S, STRING_ROWS, STRING_ROWS, INT32S],
            ),
            contract.RECOMMEND_FILTERED: (
                self.recommend_filtered, [STRINGS, STRING_ROWS, INT32S, INT32S, STRING_ROWS, INT32S],
            ),
            contract.RECOMMEND_FILTERED_FOR_HISTORY: (
                self.recommend_filtered_for_history,
                [STRINGS, *history, INT64S, STRING_ROWS, STRING_ROWS, INT32S, INT32S, STRING_ROWS, INT32S],
            ),
            contract.POPULAR: (self.popular, [INT32S]),
            "wait": (self.wait, [tf.TensorSpec([None], tf.float64)]),
            "wait_for": (self.wait_for, [STRINGS, STRINGS]),
            "echo": (self.echo, [STRING_ROWS, INT32S]),
        }

    def _user(self, user_id):
        index = self.users.lookup(user_id)
        return tf.where(index < 0, tf.constant(len(BEST), tf.int64), index)

    def _named(self, movie_id):
        """[B, n] ids -> [B, movies] bool: which movies they name."""
        return tf.reduce_any(movie_id[:, :, None] == self.movie_ids, axis=1)

    def _answer(self, scores, masked, k):
        scores = tf.where(masked, -float("inf"), scores)
        top = tf.math.top_k(scores, tf.minimum(tf.reduce_max(k), NUM_MOVIES))
        shown = (top.values > -float("inf")) & (tf.range(tf.shape(top.values)[1]) < k[:, None])
        return {
            contract.MOVIE_ID: tf.where(shown, tf.gather(self.movie_ids, top.indices), ""),
            contract.MOVIE_TITLE: tf.where(shown, tf.gather(self.titles, top.indices), ""),
            contract.SCORE: tf.where(shown, top.values, -float("inf")),
        }

    def serving_default(self, user_id):
        top = tf.math.top_k(tf.gather(self.scores, self._user(user_id)), 10)
        return {"movie_ids": tf.gather(self.movie_ids, top.indices), "scores": top.values}

    def two(self, x, tag):
        return {"y": tf.matmul(x, self.weights)[:, 0], "tag_out": tag}

    def wait(self, wait_s):
        """Keeps a server's thread for the longest of these."""
        end = tf.timestamp() + tf.reduce_max(wait_s)
        now = tf.while_loop(lambda now: now < end, lambda now: [tf.timestamp()], [tf.timestamp()])[0]
        return {"now": tf.fill(tf.shape(wait_s), now)}

    def wait_for(self, begun, go):
        """Makes the file `begun`, and keeps a server's thread until there is a file `go`; at most two minutes."""
        with tf.control_dependencies([tf.io.write_file(begun[0], "")]):
            now = tf.timestamp()
        end = now + 120.0

        def waits(now):
            with tf.control_dependencies([now]):
                return (now < end) & (tf.size(tf.io.matching_files(go)) == 0)

        return {"now": tf.while_loop(waits, lambda now: [tf.timestamp()], [now])[0]}

    def echo(self, words, number):
        """What it is given; and how many rows were computed at once."""
        tf.debugging.assert_non_negative(number)
        rows = tf.shape(words)[0]
        return {"words_out": words, "number_out": number, "num_rows": tf.fill([rows], rows)}

    def recommend(self, user_id, exclude_movie_id, k):
        user = self._user(user_id)
        masked = tf.gather(self.seen, user) | self._named(exclude_movie_id)
        return self._answer(tf.gather(self.scores, user), masked, k)

    def recommend_filtered(self, user_id, genre, min_year, max_year, exclude_movie_id, k):
        """Even movies are of the genre Even, the others of Odd; no year passes a bound."""
        user = self._user(user_id)
        masked = tf.gather(self.seen, user) | self._named(exclude_movie_id) | self._filtered(genre, min_year + max_year)
        return self._answer(tf.gather(self.scores, user), masked, k)

    def _filtered(self, genre, bounds):
        is_even = tf.range(NUM_MOVIES) % 2 == 0
        even, odd = (tf.reduce_any(genre == name, axis=1)[:, None] for name in ("Even", "Odd"))
        passes = (even & is_even) | (odd & ~is_even) | tf.reduce_all(genre == "", axis=1)[:, None]
        return ~passes | (bounds != 0)[:, None]

    def recommend_filtered_for_history(
        self, user_id, history_movie_id, history_rating, history_timestamp, query_timestamp,
        seen_movie_id, genre, min_year, max_year, exclude_movie_id, k,
    ):
        filtered = tf.where(self._filtered(genre, min_year + max_year), self.movie_ids, "")
        return self.recommend_for_history(
            user_id, history_movie_id, history_rating, history_timestamp, query_timestamp, seen_movie_id,
            tf.concat([exclude_movie_id, filtered], axis=1), k,
        )

    def recommend_for_history(
        self, user_id, history_movie_id, history_rating, history_timestamp, query_timestamp,
        seen_movie_id, exclude_movie_id, k,
    ):
        """The best movie is the newest of the history, plus query_timestamp % 2: so a client's mistake in it shows.

        As everywhere "" pads.
        """
        tf.debugging.assert_equal(tf.shape(history_movie_id), tf.shape(history_rating))
        there = history_movie_id != ""
        in_order = history_timestamp[:, :-1] <= history_timestamp[:, 1:]
        tf.debugging.assert_equal(tf.reduce_all(in_order | ~there[:, :-1] | ~there[:, 1:]), True, "oldest first")
        last = tf.reduce_max(tf.where(there, tf.range(tf.shape(there)[1]), -1), axis=1)
        newest_id = tf.gather(history_movie_id, tf.maximum(last, 0), batch_dims=1)
        newest = tf.cast(self.movies.lookup(newest_id) + query_timestamp % 2, tf.float32)
        scores = -tf.abs(tf.range(NUM_MOVIES, dtype=tf.float32) - newest[:, None])
        unused = tf.zeros_like(self._user(user_id), tf.float32)[:, None]
        return self._answer(scores + unused, self._named(seen_movie_id) | self._named(exclude_movie_id), k)

    def popular(self, k):
        scores = tf.tile(tf.range(NUM_MOVIES, 0, -1, dtype=tf.float32)[None], [tf.shape(k)[0], 1])
        return self._answer(scores, tf.zeros_like(scores, tf.bool), k)


class ToyRanking(_Toy):
    """u1 gives 5 stars to even and 1 to odd movies, everyone else 3; a given history: its mean rating."""

    def methods(self):
        return {
            contract.RANK: (self.rank, [STRINGS, STRING_ROWS]),
            contract.RANK_FOR_HISTORY: (
                self.rank_for_history, [STRINGS, STRING_ROWS, FLOAT_ROWS, INT64_ROWS, INT64S, STRING_ROWS],
            ),
        }

    def rank(self, user_id, movie_id):
        even = self.movies.lookup(movie_id) % 2 == 0
        known = (user_id == "u1")[:, None]
        return {contract.STARS: tf.where(known, tf.where(even, 5.0, 1.0), 3.0)}

    def rank_for_history(
        self, user_id, history_movie_id, history_rating, history_timestamp, query_timestamp, movie_id
    ):
        mean = tf.reduce_mean(tf.ragged.boolean_mask(history_rating, history_movie_id != ""), axis=1)[:, None]
        unused = tf.size(user_id) + tf.size(history_movie_id)
        unused_too = tf.size(history_timestamp) + tf.size(query_timestamp)
        zeros = tf.zeros_like(self.movies.lookup(movie_id), tf.float32)
        return {contract.STARS: mean + zeros * tf.cast(unused + unused_too, tf.float32)}


class Versioned(tf.Module):
    def __init__(self, folder, version):
        super().__init__()
        self.number = tf.Variable(float(version))
        self.table = _table(folder, f"version_{version}", ["other", "asked"])
        self.name_of = tf.constant([f"v{version} other", f"v{version} asked"])

    def signatures(self):
        specs = [STRINGS]
        return {"serving_default": tf.function(self.answer, input_signature=specs).get_concrete_function()}

    def answer(self, key):
        return {
            "name": tf.gather(self.name_of, self.table.lookup(key)),
            "number": tf.fill(tf.shape(key), self.number),
        }
