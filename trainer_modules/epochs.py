"""The file in which a training notes its epochs, for whoever draws learning curves."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Sequence

import tensorflow as tf

EPOCHS_FILE = "epochs.csv"

Note = dict[str, float | str]
"""What is known of an epoch: its "phase" ("tuning" or "refit"), its "epoch" from 1, "train_rmse", "eval_rmse", ..."""


def write_epochs(notes: Sequence[Note], folder: str) -> None:
    """Writes EPOCHS_FILE into the model run's folder: a row for every epoch; nothing where there were none."""
    if not notes:
        return
    columns = list(dict.fromkeys(name for note in notes for name in note))
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(posixpath.join(folder, EPOCHS_FILE), "w") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(notes)
