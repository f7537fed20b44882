"""What predicted stars are worth, by NumPy: error, calibration, and the order they give each user's rows. R test rows.

Slices and what stands beside the candidate are measured here; TFMA would take longer for that than for all the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from components import evaluation_data
from trainer_modules import contract, features, metrics

LIST_LENGTH = 10
BUCKET_STARS = 0.5
"""Width of a bucket of predictions."""


def predictions(saved_model_path: str, examples_uri: str) -> np.ndarray:
    """float64 [R]: what the model's serving_default says of the test rows, in the order of evaluation_data.read."""
    model = tf.saved_model.load(saved_model_path)
    answer = model.signatures[contract.SERVING_DEFAULT]
    files = evaluation_data.files(examples_uri, features.TEST)
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(contract.MAX_BATCH)
    found = [answer(**{contract.EXAMPLES: batch})[contract.STARS].numpy()[:, 0] for batch in records]
    return np.concatenate(found).astype(np.float64)


def figures(user_id: np.ndarray, stars: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """All metrics of some rows.

    Args:
      user_id: bytes [R].
      stars: [R].
      predicted: [R], stars.

    Returns:
      "rmse" and "mae" in stars; "calibration", mean prediction over mean rating, left out where that is not above 0;
      "ndcg_at_10", the mean over users with several rows, some of them worth something, left out where there is none:
      a list of one row is always in order. Where stars are below 0 there is none either: the gain is no gain then.
    """
    found = {"rmse": metrics.rmse(stars, predicted), "mae": metrics.mae(stars, predicted)}
    if (calibration := _calibration(stars, predicted)) is not None:
        found["calibration"] = calibration
    _, user, size = np.unique(user_id, return_inverse=True, return_counts=True)
    best = np.full(len(size), -np.inf)
    np.maximum.at(best, user, stars)
    listed = (size > 1)[user] & (best > 0)[user]
    if listed.any() and stars.min() >= 0:
        ndcg = metrics.graded_ndcg_at_k(gain(stars[listed]), predicted[listed], user[listed], LIST_LENGTH)
        found["ndcg_at_10"] = float(ndcg.mean())
    return found


def gain(stars: np.ndarray) -> np.ndarray:
    """What a row is worth in a list: 2^stars - 1 (Burges et al., Learning to Rank Using Gradient Descent, 2005)."""
    return 2.0 ** np.asarray(stars, np.float64) - 1.0


def calibration_buckets(stars: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """Calibration by what is predicted.

    Args:
      stars: [R].
      predicted: [R], stars.

    Returns:
      For each bucket that occurs {"from" and "to" (stars), "num" (rows), "prediction" and "rating" (means, stars),
      "calibration", None where the mean rating is not above 0}, from the lowest. The highest prediction, often the most
      stars that there are, is in the bucket that ends with it.
    """
    scaled = np.nan_to_num(predicted) / BUCKET_STARS
    bucket = np.minimum(np.floor(scaled), np.ceil(scaled.max()) - 1).astype(int)
    found = []
    for number in np.unique(bucket):
        chosen = bucket == number
        found.append({
            "from": number * BUCKET_STARS, "to": (number + 1) * BUCKET_STARS, "num": int(chosen.sum()),
            "prediction": float(predicted[chosen].mean()), "rating": float(stars[chosen].mean()),
            "calibration": _calibration(stars[chosen], predicted[chosen]),
        })  # fmt: skip
    return found


def _calibration(stars: np.ndarray, predicted: np.ndarray) -> float | None:
    """Mean prediction over mean rating; None where that would say nothing."""
    rating = float(np.mean(stars))
    return float(np.mean(predicted)) / rating if rating > 0 else None

