"""Which rows a model was ever fitted on, kept beside it: its own, and those of every model it was warm-started from.

A row is a user and a movie, as one hash: eight bytes, and no name to be read.
"""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf

FOLDER = "Fit-rows"
"""In a Model artifact of every family, beside Format-Serving: these hashes. It is never served."""
WARM_START_FOLDER = "Warm-start"
"""Beside it, of the families that can be continued: what the next training may start from. It is never served."""
_FILE = "fit_pairs.npy"
_CHUNK = 1 << 20
_NUM_HASHES = 2**63 - 1


def hashes(pairs: np.ndarray) -> np.ndarray:
    """bytes [T], pairs of `join` -> int64 [T]; the same on every machine. Two share one with a chance of 2^-63."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(pairs), _CHUNK):
        chunk = tf.constant(pairs[start : start + _CHUNK], tf.string)
        found.append(tf.strings.to_hash_bucket_fast(chunk, _NUM_HASHES).numpy())
    return np.concatenate(found)


def join(user_id: np.ndarray, movie_id: np.ndarray) -> np.ndarray:
    """bytes [T], bytes [T] -> bytes [T]: one value per (user, movie)."""
    return np.char.add(np.char.add(user_id.astype(bytes), b"\t"), movie_id.astype(bytes))


def write(model_uri: str, pairs: np.ndarray) -> None:
    """Keeps hashes, int64 [P], with a model."""
    buffer = io.BytesIO()
    np.save(buffer, np.unique(pairs))
    tf.io.gfile.makedirs(f"{model_uri}/{FOLDER}")
    with tf.io.gfile.GFile(f"{model_uri}/{FOLDER}/{_FILE}", "wb") as file:
        file.write(buffer.getvalue())


def read(model_uri: str) -> np.ndarray | None:
    """int64 [P], sorted, each once; None where none were kept."""
    path = f"{model_uri}/{FOLDER}/{_FILE}"
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file:
        return np.load(io.BytesIO(file.read()))
