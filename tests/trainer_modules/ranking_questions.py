"""Questions to a ranking SavedModel, as a server would put them."""

import toy_world

from trainer_modules import contract as c
from trainer_modules import features as f

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)


def request(user_id, history, movie_id):
    """rank_for_history's inputs; history: one list of (movie_id, stars, timestamp) for each user."""
    width = max(len(rows) for rows in history)
    padded = [[("", 0.0, 0)] * (width - len(rows)) + list(rows) for rows in history]
    column = lambda n, dtype: tf.reshape(  # noqa: E731
        tf.constant([[row[n] for row in rows] for rows in padded], dtype), [len(history), width]
    )
    return {
        c.USER_ID: tf.constant(user_id),
        c.HISTORY_MOVIE_ID: column(0, tf.string),
        c.HISTORY_RATING: column(1, tf.float32),
        c.HISTORY_TIMESTAMP: column(2, tf.int64),
        c.QUERY_TIMESTAMP: tf.fill([len(history)], tf.constant(0, tf.int64)),
        c.MOVIE_ID: tf.constant(movie_id, shape=(len(history), len(movie_id[0]))),
    }


def rank_for_history(served, *args):
    return served.signatures[c.RANK_FOR_HISTORY](**request(*args))[c.STARS].numpy()


def rank(served, user_id, movie_id):
    inputs = {c.USER_ID: tf.constant(user_id), c.MOVIE_ID: tf.constant(movie_id)}
    return served.signatures[c.RANK](**inputs)[c.STARS].numpy()


def past_of(world, user_id, splits=f.SPLITS):
    return [row[:3] for row in toy_world.leave_last_out(world)[user_id] if row[4] in splits]


def taste_of(parity, num_rows=8):
    return [(f"m{m}", 5.0 if m % 2 == parity else 1.0, 890_000_000 + m) for m in range(num_rows)]
