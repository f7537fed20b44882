"""Questions to a retrieval model as plain lists, and its answers as such; and a process that has nothing of ours."""

import json
import subprocess
import sys

import numpy as np

from trainer_modules import contract as c

KNOWN_SPLITS = ("train", "eval")


def known(states, user, splits=KNOWN_SPLITS):
    return [row for row in states[user] if row[4] in splits]


def request(users, rows_of_users, seen=None, k=5, exclude=()):
    """RECOMMEND_FOR_HISTORY's inputs, as plain lists."""
    width = max(map(len, rows_of_users), default=0)

    def column(n, pad):
        return [[row[n] for row in rows] + [pad] * (width - len(rows)) for rows in rows_of_users]

    history = np.array(column(0, ""), dtype=object).reshape(len(users), width)
    seen = seen or rows_of_users
    hidden = [[row[0] for row in rows] + [""] * (max(map(len, seen)) - len(rows)) for rows in seen]
    return {
        c.USER_ID: users,
        c.HISTORY_MOVIE_ID: history.astype(str),
        c.HISTORY_RATING: np.array(column(1, 0.0), np.float32).reshape(len(users), width),
        c.HISTORY_TIMESTAMP: np.array(column(2, 0), np.int64).reshape(len(users), width),
        c.QUERY_TIMESTAMP: [0] * len(users),
        c.SEEN_MOVIE_ID: np.array(hidden, dtype=object).reshape(len(users), -1).astype(str),
        c.EXCLUDE_MOVIE_ID: np.array([list(exclude)] * len(users), dtype=object).reshape(len(users), -1).astype(str),
        c.K: [k] * len(users) if isinstance(k, int) else k,
    }


def movies(answer):
    return [[movie.decode() for movie in row if movie] for row in answer[c.MOVIE_ID].numpy()]


FRESH_PROCESS = """
import json, sys
import numpy as np, tensorflow as tf
path, asked = sys.argv[1], json.load(sys.stdin)
kinds = {"history_rating": np.float32, "history_timestamp": np.int64, "query_timestamp": np.int64, "k": np.int32}
asked = {name: np.array(value, kinds.get(name, str)) for name, value in asked.items()}
loaded = tf.saved_model.load(path)
eager = loaded.signatures["recommend_for_history"](**{name: tf.constant(value) for name, value in asked.items()})
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    graph = tf.compat.v1.saved_model.load(session, ["serve"], path)
    signature = graph.signature_def["recommend_for_history"]
    feeds = {signature.inputs[name].name: value for name, value in asked.items()}
    session_answer = session.run({name: info.name for name, info in signature.outputs.items()}, feeds)
print(json.dumps({
    "ours": sorted(name for name in sys.modules if name.split(".")[0] in ("trainer_modules", "tensorflow_transform")),
    "eager": [eager["movie_id"].numpy().astype(str).tolist(), eager["score"].numpy().astype(float).tolist()],
    "session": [session_answer["movie_id"].astype(str).tolist(), session_answer["score"].astype(float).tolist()],
}))
"""


def ask_in_a_fresh_process(path, asked):
    """recommend_for_history of a SavedModel through both of TensorFlow's loaders: {"ours", "eager", "session"}."""
    sent = {name: np.asarray(value).tolist() for name, value in asked.items()}
    result = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, path], input=json.dumps(sent), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])
