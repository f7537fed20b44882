"""Warm start: training begins where the last blessed model ended, and what that knew of an id stays with the id.

Every training leaves beside its SavedModel which rows it was fitted on; that of a family that can be continued also
what it learned: each variable by name, what its rows stand for, and the vocabularies. A training that starts warm

* appends the old vocabularies' entries to today's, so that no id is forgotten when a window has no row of it;
* makes a fresh model and overwrites the rows of known keys, wherever they stand now, and whole variables that have no
  keys; what is new stays as a fresh model's;
* shrinks weights towards where they started and no longer towards zero (L2-SP: Li, Grandvalet, Davoine, Explicit
  Inductive Bias for Transfer Learning, ICML 2018): a row that today's rows say nothing of stays as it was.

Tuning and the refit both start warm, from the same weights: the number of epochs that tuning finds is the distance
from there, and would mean nothing for a refit from elsewhere. The old model may have been fitted on rows that are eval
rows today (under leave_last_out those of every user without news); they cannot judge how far to go, so tuning looks at
the others. Whether it had seen test rows is for the evaluation to say: it reads fit_pairs, which are passed on from
model to model.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainer_modules import features as f
from trainer_modules import fit_pairs

_LOG = logging.getLogger("movierec")

_WEIGHTS_FILE, _FAMILY_FILE = "weights.npz", "family.json"
_VALUES, _KEYS, _VOCABULARY = "values ", "keys ", "vocabulary "
_VOCABULARIES = (
    f.USER_VOCABULARY, f.MOVIE_VOCABULARY, f.GENRE_VOCABULARY, f.WORD_VOCABULARY, f.OCCUPATION_VOCABULARY,
)  # fmt: skip
_PADDING_KEY, _OOV_KEY = b"\0padding", b"\0unknown"


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A model's variables by name, and of those with rows for things that come and go, what each row stands for."""

    variables: Mapping[str, tf.Variable]
    keys: Mapping[str, np.ndarray]
    """Variable's name -> bytes [rows], each once. A variable without keys is carried over whole."""


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """What a model left behind."""

    family: str
    values: dict[str, np.ndarray]
    keys: dict[str, np.ndarray]
    vocabularies: dict[str, list[bytes]]
    fit_pairs: np.ndarray
    """int64 [P], fit_pairs.hashes of the rows behind it."""


Anchors = list[tuple[tf.Variable, tf.Tensor]]
"""Variables and where weight decay draws them: what was carried over, zero where nothing was."""


class WarmStart:
    """What a family's training starts from, and what it leaves for the next."""

    def __init__(self, before: Learned | None = None) -> None:
        """Takes what the last blessed model left; None: a cold start."""
        self._before = before
        self._after: Callable[[], Weights] | None = None

    def transform_output(self, fn_args: Any) -> tft.TFTransformOutput:
        """Today's transform graph, its vocabularies grown by what is known from before."""
        if self._before is None:
            return tft.TFTransformOutput(fn_args.transform_graph_path)
        path = posixpath.join(fn_args.model_run_dir, "transform_graph")
        return grown(fn_args.transform_graph_path, self._before.vocabularies, path)

    def knows(self, name: str, keys: np.ndarray, width: int) -> np.ndarray:
        """bytes [R] -> bool [R]: whether the variable of that name, [rows, width], had rows for these keys."""
        before = self._before
        if before is None or name not in before.keys or before.values[name].shape[1:] != (width,):
            return np.zeros(len(keys), bool)
        return np.isin(keys, before.keys[name])

    def has_fitted(self, user_id: np.ndarray, movie_id: np.ndarray) -> np.ndarray:
        """bytes [T], bytes [T] -> bool [T]: whether these were among the rows behind the weights from before."""
        if self._before is None:
            return np.zeros(len(user_id), bool)
        return np.isin(fit_pairs.hashes(fit_pairs.join(user_id, movie_id)), self._before.fit_pairs)

    def may_tune_on(self, user_id: np.ndarray, movie_id: np.ndarray) -> np.ndarray:
        """bytes [T], bytes [T] of eval rows -> bool [T]: those that the weights from before were not fitted on.

        Where there is none, all: then the number of epochs is chosen on rows that are known, and the log says so.
        """
        is_known = self.has_fitted(user_id, movie_id)
        if is_known.any():
            num_known, num_rows = int(is_known.sum()), len(is_known)
            _LOG.info("warm start: tuning leaves out %d of %d eval rows, known from before", num_known, num_rows)
        if len(is_known) and is_known.all():
            _LOG.warning("warm start: all eval rows are known from before: tuning looks at them all the same")
            return ~np.zeros(len(is_known), bool)
        return ~is_known

    def begin(self, fresh: Callable[[], Weights]) -> Anchors:
        """Overwrites the fresh weights of a model about to be trained with what is known from before.

        Args:
          fresh: of that model; not called at a cold start.

        Returns:
          Where each variable begins and weight decay is to draw it; empty at a cold start.
        """
        return carry_over(fresh(), self._before) if self._before else []

    def keep(self, trained: Callable[[], Weights]) -> None:
        """Remembers the refitted model; called when it is saved."""
        self._after = trained

    def save(
        self, model_uri: str, family: str, transform_output: tft.TFTransformOutput, user_id: np.ndarray,
        movie_id: np.ndarray,
    ) -> None:  # fmt: skip
        """Leaves with the model which rows it was fitted on, and what it learned, if its family can be continued.

        Args:
          model_uri: of the Model artifact.
          family: of the model.
          transform_output: whose vocabularies it knows.
          user_id: bytes [T], of the rows it was fitted on.
          movie_id: bytes [T], of the same.
        """
        before = self._before.fit_pairs if self._before else np.zeros(0, np.int64)
        today = fit_pairs.hashes(fit_pairs.join(user_id, movie_id))
        fit_pairs.write(model_uri, np.concatenate([before, today]))
        if self._after is None:
            return  # a family that cannot be continued
        weights = self._after()
        arrays = {_VALUES + name: variable.numpy() for name, variable in weights.variables.items()}
        arrays |= {_KEYS + name: keys for name, keys in weights.keys.items()}
        arrays |= {
            _VOCABULARY + name: _fixed(transform_output.vocabulary_by_name(name)) for name in _VOCABULARIES
        }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        folder = f"{model_uri}/{fit_pairs.WARM_START_FOLDER}"
        tf.io.gfile.makedirs(folder)
        with tf.io.gfile.GFile(f"{folder}/{_WEIGHTS_FILE}", "wb") as file:
            file.write(buffer.getvalue())
        with tf.io.gfile.GFile(f"{folder}/{_FAMILY_FILE}", "w") as file:
            file.write(json.dumps({"family": family}) + "\n")


class AnchoredAdamW(tf.keras.optimizers.Adam):
    """AdamW whose decay draws weights to where they began and not to zero: w -= rate * decay * (w - anchor)."""

    def __init__(self, learning_rate: Any, decay: float, anchors: Anchors) -> None:
        """Makes the optimizer; decay holds for the variables with an anchor."""
        super().__init__(learning_rate)
        self._decay, self._anchors = decay, anchors

    def apply_gradients(self, grads_and_vars: Any, *args: Any, **kwargs: Any) -> tf.Tensor:
        """One step."""
        share = self.learning_rate * self._decay
        for variable, anchor in self._anchors:
            variable.assign_sub(share * (variable - anchor))
        return super().apply_gradients(grads_and_vars, *args, **kwargs)


def adamw(
    learning_rate: Any, weight_decay: float, unshrunk: list[tf.Variable], anchors: Anchors
) -> tf.keras.optimizers.Optimizer:
    """AdamW for a training that may have started warm.

    Args:
      learning_rate: a number or a schedule.
      weight_decay: each step shrinks weights by this times the learning rate.
      unshrunk: what decay leaves alone.
      anchors: of WarmStart.begin; without any, weights are drawn to zero.
    """
    if anchors:
        left_alone = {id(variable) for variable in unshrunk}
        return AnchoredAdamW(learning_rate, weight_decay, [pair for pair in anchors if id(pair[0]) not in left_alone])
    optimizer = tf.keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_list=unshrunk)
    return optimizer


def load(fn_args: Any, family: str) -> WarmStart:
    """What the Trainer's base_model left; a cold start where there is none, and the log says why.

    Args:
      fn_args: the Trainer's; base_model is the SavedModel's place in the artifact of the last blessed model.
      family: to be trained.
    """
    if not getattr(fn_args, "base_model", None):
        return WarmStart()
    folder = posixpath.join(posixpath.dirname(fn_args.base_model), fit_pairs.WARM_START_FOLDER)
    if not tf.io.gfile.exists(f"{folder}/{_WEIGHTS_FILE}"):
        _LOG.warning("warm start: no blessed model of a family that can be continued (two_tower, deep): a cold start")
        return WarmStart()
    with tf.io.gfile.GFile(f"{folder}/{_FAMILY_FILE}") as file:
        found = json.loads(file.read())["family"]
    if found != family:
        _LOG.warning("warm start: the last blessed model is %s, to be trained is %s: a cold start", found, family)
        return WarmStart()
    with tf.io.gfile.GFile(f"{folder}/{_WEIGHTS_FILE}", "rb") as file:
        arrays = dict(np.load(io.BytesIO(file.read())))

    def named(prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    pairs = fit_pairs.read(posixpath.dirname(fn_args.base_model))
    assert pairs is not None, f"{folder} holds weights without the rows behind them"
    vocabularies = {name: entries.tolist() for name, entries in named(_VOCABULARY).items()}
    return WarmStart(Learned(found, named(_VALUES), named(_KEYS), vocabularies, pairs))


def vocabulary_keys(transform_output: tft.TFTransformOutput, vocabulary: str) -> np.ndarray:
    """bytes [inputs.num_indices]: what each row of a vocabulary's table stands for."""
    return _fixed([_PADDING_KEY, _OOV_KEY, *transform_output.vocabulary_by_name(vocabulary)])


def carry_over(fresh: Weights, before: Learned) -> Anchors:
    """Overwrites, in place, the rows whose keys are known, and whole variables without keys.

    What has another shape than before, because of another hyperparameter, stays fresh, and the log says so.
    """
    anchors, told = [], []
    for name, variable in fresh.variables.items():
        start = variable.numpy()
        anchor = np.zeros_like(start)
        old, keys = before.values.get(name), fresh.keys.get(name)
        width = start.shape if keys is None else start.shape[1:]
        if old is None or (old.shape if keys is None else old.shape[1:]) != width:
            _LOG.warning("warm start: %s starts fresh: it had another shape, or was not there", name)
        elif keys is None:
            start = anchor = old
        else:
            row_of = {key: row for row, key in enumerate(before.keys[name].tolist())}
            rows = np.array([row_of.get(key, -1) for key in keys.tolist()])
            is_known = rows >= 0
            start[is_known] = anchor[is_known] = old[rows[is_known]]
            told.append(f"{name} {is_known.sum()} of {len(keys)} rows")
        variable.assign(start)
        anchors.append((variable, tf.constant(anchor)))
    _LOG.info("warm start: %s", ", ".join(told))
    return anchors


def grown(
    transform_graph_path: str, vocabularies: Mapping[str, list[bytes]], target_path: str
) -> tft.TFTransformOutput:
    """A copy of a transform graph that knows the entries of older vocabularies, too.

    They follow today's, so what today's graph transformed keeps its indices.

    Args:
      transform_graph_path: today's.
      vocabularies: name -> entries.
      target_path: of the copy; an older one goes.
    """
    if tf.io.gfile.exists(target_path):
        tf.io.gfile.rmtree(target_path)
    for folder, _, names in tf.io.gfile.walk(transform_graph_path):
        target = posixpath.join(target_path, posixpath.relpath(folder, transform_graph_path))
        tf.io.gfile.makedirs(target)
        for name in names:
            tf.io.gfile.copy(posixpath.join(folder, name), posixpath.join(target, name))
    copy = tft.TFTransformOutput(target_path)
    for name, entries in vocabularies.items():
        today = copy.vocabulary_by_name(name)
        known = set(today)
        path = copy.vocabulary_file_by_name(name)
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(b"".join(entry + b"\n" for entry in [*today, *(e for e in entries if e not in known)]))
    return tft.TFTransformOutput(target_path)


def _fixed(keys: list[bytes]) -> np.ndarray:
    """A NumPy array that needs no pickling."""
    return np.array(keys, "S") if keys else np.zeros(0, "S1")
