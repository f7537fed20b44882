"""Training on several machines: who they are is in the environment variable TF_CONFIG, as Kubeflow's TFJob sets it.

Every worker reads all the data and goes through the same batches in the same order; of each batch it takes its share,
the gradients of all shares are averaged, and so all workers hold the same weights after every step. What is judged
between epochs each judges alone, with the same result. The chief alone exports.

The two-tower draws its negatives from the catalog, or takes all of it, and scores a target by its own query: no
negative comes from the batch, so there is none to gather from other workers.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

Batch = Mapping[str, tf.Tensor]


@functools.lru_cache(maxsize=1)
def _strategy(tf_config: str) -> tf.distribute.Strategy | None:
    """Once in a process: the workers find each other when it is made."""
    return tf.distribute.MultiWorkerMirroredStrategy() if _num_told(tf_config) > 1 else None


def _num_told(tf_config: str) -> int:
    """How many are to train together."""
    workers = json.loads(tf_config or "{}").get("cluster", {})
    return len(workers.get("worker", ())) + len(workers.get("chief", ()))


def strategy() -> tf.distribute.Strategy | None:
    """What TF_CONFIG asks for; None where this machine trains alone.

    To be called before anything else of TensorFlow runs.
    """
    return _strategy(os.environ.get("TF_CONFIG", ""))


def num_workers() -> int:
    """How many train together."""
    found = strategy()
    return found.num_replicas_in_sync if found else 1


def is_chief() -> bool:
    """Whether this worker exports: the chief, or where none is named the first worker."""
    found = strategy()
    if found is None:
        return True
    resolver = found.cluster_resolver
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def join(fn_args: Any, trained_together: str) -> None:
    """To be called first in run_fn: finds the other workers; all but the chief write to a folder of their own.

    Args:
      fn_args: the Trainer's; its custom_config holds family.
      trained_together: the family that several machines can train.

    Raises:
      ValueError: there are several, and the family is another. Every worker says so before it waits for any other.
    """
    family = fn_args.custom_config["family"]
    num_told = _num_told(os.environ.get("TF_CONFIG", ""))
    if num_told > 1 and family != trained_together:
        raise ValueError(
            f"TF_CONFIG names {num_told} workers, but the family {family!r} is trained by one machine: take TF_CONFIG"
            f" away, or choose the family {trained_together!r}, which several can train together."
        )
    if strategy() is not None and not is_chief():
        folder = tempfile.mkdtemp(prefix="worker-")
        fn_args.serving_model_dir = f"{folder}/{pathlib.PurePath(fn_args.serving_model_dir).name}"
        fn_args.model_run_dir = f"{folder}/model_run"


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Where variables are made and trained: all workers then hold the same."""
    found = strategy()
    with found.scope() if found else contextlib.nullcontext():
        yield


def wait_for_all() -> None:
    """Returns when every worker has come here: none may leave while another still needs it."""
    found = strategy()
    if found:
        found.reduce(tf.distribute.ReduceOp.SUM, found.run(lambda: tf.constant(1.0)), axis=None)


def step(of_share: Callable[[Batch], dict[str, tf.Tensor]]) -> Callable[[Batch], dict[str, tf.Tensor]]:
    """Has every worker do a step on its share of a batch.

    Args:
      of_share: a batch -> metrics; it may read and change variables made in `together`.

    Returns:
      The same of a whole batch; the metrics are the means of the workers'.
    """
    found = strategy()
    assert found is not None, "there is one worker"
    return lambda batch: {
        name: found.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
        for name, value in found.run(of_share, args=(_share(batch),)).items()
    }


def train_step(model: tf.keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
    """tfrs.Model.train_step, with the mean of all workers' gradients where Keras takes their sum."""
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
        regularization_loss = tf.add_n([tf.zeros_like(loss), *model.losses])
        total_loss = loss + regularization_loss
        share = total_loss / num_workers()
    gradients = tape.gradient(share, model.trainable_variables)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    losses = {"loss": loss, "regularization_loss": regularization_loss, "total_loss": total_loss}
    return {metric.name: metric.result() for metric in model.metrics} | losses


def _share(batch: Batch) -> Batch:
    """Every n-th row of a batch; all of one that has fewer rows than there are workers."""
    found = strategy()
    assert found is not None
    resolver = found.cluster_resolver
    number = resolver.task_id
    if resolver.task_type == "worker" and "chief" in resolver.cluster_spec().jobs:
        number += 1  # the chief is the first
    num_rows = tf.shape(next(iter(batch.values())))[0]
    is_enough = num_rows >= num_workers()
    rows = tf.range(tf.where(is_enough, number, 0), num_rows, tf.where(is_enough, num_workers(), 1))
    return {name: tf.gather(value, rows) for name, value in batch.items()}
