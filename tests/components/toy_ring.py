"""A small world with a known answer, and its example files.

Movies lie on a ring; whoever saw movie n sees movie n + 1 next. NUM_USERS users walk it from different places; the
last step is the test row, the one before the eval row. Users with an even number are male.
"""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from trainer_modules import features as f

NUM_MOVIES = 40
NUM_USERS = 24
DAY_S = 86_400
START_S = 1_000_000_000

MOVIE_IDS = [f"m{n}" for n in range(NUM_MOVIES)]
H = f.HISTORY_LENGTH


@dataclasses.dataclass
class World:
    """Rows by split: (user_id, movie number, stars, timestamp)."""

    train: list
    eval: list
    test: list

    def rows(self, split):
        return getattr(self, split)


def stars_of(user, movie):
    """What user number `user` gives movie number `movie`: movies differ, users differ, and so does one pair in two."""
    stars = 2.75 + 0.5 * (movie % 3 - 1) + 0.25 * (user % 3 - 1) + 0.75 * ((user + movie) % 2)
    return float(np.clip(stars, 1, 5))


def ring_world(num_cold_users=2):
    """Every user's walk along the ring, and users who have nothing but a test row."""
    world = World([], [], [])
    for user in range(NUM_USERS):
        length = 6 + user % 5
        path = [(user * 5 + step) % NUM_MOVIES for step in range(length + 2)]
        rows = [
            (f"u{user}", movie, stars_of(user, movie), START_S + (user * 3 + step) * DAY_S)
            for step, movie in enumerate(path)
        ]
        world.train += rows[:-2]
        world.eval.append(rows[-2])
        world.test.append(rows[-1])
    world.test += [(f"cold{n}", n, 3.0, START_S + 200 * DAY_S) for n in range(num_cold_users)]
    return world


def example(values):
    """dict of feature name -> value or list -> tf.train.Example."""
    built = tf.train.Example()
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        feature = built.features.feature[name]
        if not items:
            feature.bytes_list.SetInParent()
        elif isinstance(items[0], str):
            feature.bytes_list.value.extend(item.encode() for item in items)
        elif isinstance(items[0], float):
            feature.float_list.value.extend(items)
        else:
            feature.int64_list.value.extend(items)
    return built


def write_split(uri, split, examples):
    path = pathlib.Path(uri) / f"Split-{split}" / "data_tfrecord-00000-of-00001.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for built in examples:
            writer.write(built.SerializeToString())


def gender_of(user_id):
    return [1 - int(user_id[1:]) % 2] if user_id.startswith("u") else []


def write_world(base, world):
    """Writes rating examples, catalog and user state under `base`; returns their uris by name."""
    uris = {name: str(pathlib.Path(base) / name) for name in ("examples", "catalog", "user_state")}
    write_split(
        uris["catalog"],
        f.ALL,
        [
            example({"movie_id": movie_id, "movie_title": f"Movie {movie_id}", "movie_genres": ["Drama"]})
            for movie_id in MOVIE_IDS
        ],
    )
    before = {}
    for split in f.SPLITS:
        ratings, states = [], {}
        for line, (user_id, movie, stars, timestamp_s) in enumerate(world.rows(split)):
            past = before.setdefault(user_id, [])
            known = past[-H:]
            padding = H - len(known)
            values = {
                "user_id": user_id,
                "movie_id": MOVIE_IDS[movie],
                "movie_title": f"Movie {MOVIE_IDS[movie]}",
                "movie_genres": ["Drama"],
                "user_rating": stars,
                "timestamp": timestamp_s,
                "source_line": line + 1,
                "history_movie_id": [""] * padding + [MOVIE_IDS[row[1]] for row in known],
                "history_rating": [0.0] * padding + [row[2] for row in known],
                "history_timestamp": [0] * padding + [row[3] for row in known],
            }
            if gender_of(user_id):
                values["user_gender"] = gender_of(user_id)
            ratings.append(example(values))
            past.append((user_id, movie, stars, timestamp_s))
            states.setdefault(user_id, []).append((movie, stars, timestamp_s))
        write_split(uris["examples"], split, ratings)
        write_split(
            uris["user_state"],
            split,
            [
                example(
                    {
                        "user_id": user_id,
                        "state_movie_id": [MOVIE_IDS[row[0]] for row in rows],
                        "state_rating": [row[1] for row in rows],
                        "state_timestamp": [row[2] for row in rows],
                    }
                    | ({"user_gender": gender_of(user_id)} if gender_of(user_id) else {})
                )
                for user_id, rows in states.items()
            ],
        )
    return uris
