"""What an evaluation reads, as NumPy arrays: catalog, user states, held-out rows. Ids stay the strings they are.

N movies in the catalog, U users, T rows. A catalog position is 0 to N - 1; -1 stands for a movie that is not there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainer_modules import features as f
from trainer_modules import fit_pairs

_PARSE_BATCH = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
    """Lists of differing lengths, one after the other."""

    values: np.ndarray
    """[T]."""
    row_splits: np.ndarray
    """int64 [R + 1]: list r is values[row_splits[r]:row_splits[r + 1]]."""

    @property
    def lengths(self) -> np.ndarray:
        """int64 [R]."""
        return np.diff(self.row_splits)


class Catalog:
    """The movies anyone may be shown, in catalog order."""

    def __init__(self, movie_id: np.ndarray):
        """Indexes the movies.

        Args:
          movie_id: bytes [N], each once.
        """
        self.movie_id = movie_id
        self._order = np.argsort(movie_id)

    @property
    def num_movies(self) -> int:
        return len(self.movie_id)

    def positions(self, movie_id: np.ndarray) -> np.ndarray:
        """bytes [...] -> int64 [...]: catalog positions, -1 for what the catalog does not have."""
        return _index_of(movie_id, self.movie_id, self._order)


@dataclasses.dataclass(frozen=True, eq=False)
class UserStates:
    """The rows of U users, one user after the other, each user's oldest first."""

    user_id: np.ndarray
    """bytes [U], each once."""
    row_splits: np.ndarray
    """int64 [U + 1]: user u has the rows row_splits[u] to row_splits[u + 1]."""
    movie_id: np.ndarray
    """bytes [T]."""
    rating: np.ndarray
    """float32 [T], stars."""
    timestamp: np.ndarray
    """int64 [T], seconds since 1970-01-01 UTC."""

    @property
    def row_user(self) -> np.ndarray:
        """int64 [T]: the user, 0 to U - 1, each row belongs to."""
        return np.repeat(np.arange(len(self.user_id)), np.diff(self.row_splits))

    def users(self, user_id: np.ndarray) -> np.ndarray:
        """bytes [Q] -> int64 [Q]: 0 to U - 1, -1 for a user without a state."""
        return _index_of(user_id, self.user_id, np.argsort(self.user_id))


def read_catalog(catalog_uri: str) -> Catalog:
    """Reads the catalog artifact.

    Raises:
      ValueError: it holds no movies.
    """
    return Catalog(read(catalog_uri, f.ALL, (f.MOVIE_ID,))[f.MOVIE_ID.name])


def read_user_states(user_state_uri: str, splits: Sequence[str]) -> UserStates:
    """Reads and joins the user states of some splits; of the others nothing is opened.

    Args:
      user_state_uri: the artifact.
      splits: oldest first: equal timestamps keep this order, then the order within a split.

    Raises:
      ValueError: a split holds no users.
    """
    parts = [read(user_state_uri, split, (f.USER_ID, *f.STATE)) for split in splits]
    all_ids = np.concatenate([part[f.USER_ID.name] for part in parts])
    user_id, user = np.unique(all_ids, return_inverse=True)
    columns = {feature.name: np.concatenate([part[feature.name].values for part in parts]) for feature in f.STATE}
    lengths = np.concatenate([part[f.STATE_MOVIE_ID.name].lengths for part in parts])
    row_user = np.repeat(user, lengths)
    order = np.lexsort((columns[f.STATE_TIMESTAMP.name], row_user))  # stable: ties keep the order of the splits
    return UserStates(
        user_id=user_id,
        row_splits=_row_splits(np.bincount(row_user, minlength=len(user_id))),
        movie_id=columns[f.STATE_MOVIE_ID.name][order],
        rating=columns[f.STATE_RATING.name][order],
        timestamp=columns[f.STATE_TIMESTAMP.name][order],
    )


def read(uri: str, split: str, features: Iterable[f.Feature]) -> dict[str, Any]:
    """Reads some features of a split of an Examples artifact.

    Args:
      uri: the artifact.
      split: its name.
      features: of shape () or None.

    Returns:
      By name: [R] for one value per example, Ragged for any number. Strings are NumPy's fixed-length bytes.

    Raises:
      ValueError: no file, or no example in the files.
    """
    features = tuple(features)
    spec = {
        feature.name: tf.io.RaggedFeature(tf.as_dtype(feature.dtype), row_splits_dtype=tf.int64)
        if feature.shape is None
        else tf.io.FixedLenFeature((), tf.as_dtype(feature.dtype))
        for feature in features
    }
    dataset = tf.data.TFRecordDataset(files(uri, split), compression_type="GZIP").batch(_PARSE_BATCH)
    batches = list(dataset.map(lambda serialized: tf.io.parse_example(serialized, spec)))
    if not batches:
        raise ValueError(f"{_pattern(uri, split)} holds no examples")
    return {feature.name: _column([batch[feature.name] for batch in batches]) for feature in features}


def files(uri: str, split: str) -> list[str]:
    """The files of a split of an Examples artifact, in order.

    Raises:
      ValueError: there is none.
    """
    found = sorted(tf.io.gfile.glob(_pattern(uri, split)))
    if not found:
        raise ValueError(
            f"no examples match {_pattern(uri, split)}: the artifact lacks the split {split!r} or was deleted"
        )
    return found


def pairs(user_id: np.ndarray, movie_id: np.ndarray) -> np.ndarray:
    """bytes [T], bytes [T] -> bytes [T]: one value per (user, movie), to compare rows of two data sets by."""
    return fit_pairs.join(user_id, movie_id)


def _pattern(uri: str, split: str) -> str:
    return f"{uri.rstrip('/')}/Split-{split}/*"


def _column(batches: list[tf.Tensor] | list[tf.RaggedTensor]) -> np.ndarray | Ragged:
    if isinstance(batches[0], tf.RaggedTensor):
        values = _fixed_bytes(np.concatenate([batch.values.numpy() for batch in batches]))
        return Ragged(values, _row_splits(np.concatenate([batch.row_lengths().numpy() for batch in batches])))
    return _fixed_bytes(np.concatenate([batch.numpy() for batch in batches]))


def _fixed_bytes(values: np.ndarray) -> np.ndarray:
    """Object arrays of bytes sort and compare slowly; fixed-length ones do not."""
    return values.astype(bytes) if values.dtype == object else values


def _row_splits(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _index_of(wanted: np.ndarray, known: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Index in `known` of each wanted value, -1 where it is not there. `order` sorts `known`."""
    if not len(known):
        return np.full(np.shape(wanted), -1, np.int64)
    place = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
    index = order[place]
    return np.where(known[index] == wanted, index, -1)

