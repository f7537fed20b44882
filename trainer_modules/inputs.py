"""What a Trainer reads, as NumPy arrays: the catalog, the user states, the transformed rating examples.

Rows are parsed in batches by TensorFlow; nothing here loops over rows in Python.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from trainer_modules import features as f

_PARSE_BATCH = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Catalog:
    """Every movie, in catalog order: row n of each array is the movie at catalog position n. N movies."""

    movie_id: np.ndarray
    """bytes [N]."""
    movie_title: np.ndarray
    """bytes [N]."""
    movie_index: np.ndarray
    """int64 [N]: OOV_INDEX for a movie without fit rows, else from FIRST_INDEX, each once."""
    year_index: np.ndarray
    """int64 [N]."""
    genres: np.ndarray
    """float32 [N, G]: 1 in the column of each genre index the movie has. G = FIRST_INDEX + known genres."""
    genre_name: np.ndarray
    """bytes [M]: every genre of every movie as it is written, one movie after the other."""
    genre_row_splits: np.ndarray
    """int64 [N + 1]: movie n has genre_name[genre_row_splits[n]:genre_row_splits[n + 1]]."""
    word_index: np.ndarray
    """int64 [W]: the word indices of all titles, one title after the other."""
    word_row_splits: np.ndarray
    """int64 [N + 1]: title n has word_index[word_row_splits[n]:word_row_splits[n + 1]]."""

    @property
    def num_movies(self) -> int:
        return len(self.movie_id)

    def positions(self, movie_id: np.ndarray) -> np.ndarray:
        """bytes [...] -> int32 [...]: catalog positions, -1 for a movie that is not in the catalog."""
        return position_table(self.movie_id).lookup(tf.constant(movie_id, tf.string)).numpy()


@dataclasses.dataclass(frozen=True, eq=False)
class UserStates:
    """What is known of each of U users: T rows in all, each user's oldest first."""

    user_id: np.ndarray
    """bytes [U], each once, in the order of the files."""
    user_index: np.ndarray
    """int64 [U]: OOV_INDEX for a user without fit rows."""
    user_age_index: np.ndarray
    """int64 [U]; OOV_INDEX where unknown, as in the two below."""
    user_gender_index: np.ndarray
    """int64 [U]."""
    user_occupation_index: np.ndarray
    """int64 [U]."""
    row_splits: np.ndarray
    """int64 [U + 1]: user u has the rows row_splits[u] to row_splits[u + 1]."""
    position: np.ndarray
    """int32 [T]: catalog position of the movie."""
    rating: np.ndarray
    """float32 [T], stars."""
    timestamp: np.ndarray
    """int64 [T], seconds since 1970-01-01 UTC."""

    @property
    def num_users(self) -> int:
        return len(self.user_id)

    @property
    def facts(self) -> np.ndarray:
        """int64 [U, 3]: USER_FACT_INDICES."""
        return np.stack([getattr(self, feature.name) for feature in f.USER_FACT_INDICES], axis=1)

    @property
    def row_user(self) -> np.ndarray:
        """int64 [T]: the user (0 to U - 1) each row belongs to."""
        return np.repeat(np.arange(self.num_users), np.diff(self.row_splits))

    def counts(self, num_movies: int) -> np.ndarray:
        """int64 [num_movies]: rows of each catalog position."""
        return np.bincount(self.position, minlength=num_movies)


def only_rows(states: UserStates, is_kept: np.ndarray) -> UserStates:
    """The same users with some of their rows; is_kept: bool [T]."""
    num_rows = np.bincount(states.row_user[is_kept], minlength=states.num_users)
    return dataclasses.replace(
        states,
        row_splits=np.concatenate([[0], np.cumsum(num_rows)]).astype(np.int64),
        position=states.position[is_kept],
        rating=states.rating[is_kept],
        timestamp=states.timestamp[is_kept],
    )


def load_catalog(catalog_uri: str, transform_output: tft.TFTransformOutput) -> Catalog:
    """Reads the catalog artifact (its one split ALL) and puts it through the transform graph.

    Raises:
      ValueError: no files there, no movies in them, or a movie_id twice.
    """
    raw = _parsed(split_files(catalog_uri, f.ALL), f.CATALOG_EXAMPLE)
    movie_id = raw[f.MOVIE_ID.name].numpy()
    if not len(movie_id):
        raise ValueError(f"{catalog_uri} holds no movies, so there is nothing to recommend.")
    if len(np.unique(movie_id.astype(bytes))) != len(movie_id):
        raise ValueError(f"{catalog_uri} names a movie_id twice; the catalog has one row per movie.")
    transformed = transform_output.transform_features_layer()(raw)
    genre, word = transformed[f.MOVIE_GENRE_INDEX.name], transformed[f.MOVIE_WORD_INDEX.name]
    genres = np.zeros((len(movie_id), num_indices(transform_output, f.GENRE_VOCABULARY)), np.float32)
    genres[genre.indices[:, 0], genre.values] = 1.0
    genre_name = raw[f.MOVIE_GENRES.name]
    return Catalog(
        movie_id=movie_id,
        movie_title=raw[f.MOVIE_TITLE.name].numpy(),
        movie_index=transformed[f.MOVIE_INDEX.name].numpy(),
        year_index=transformed[f.MOVIE_YEAR_INDEX.name].numpy(),
        genres=genres,
        genre_name=genre_name.values.numpy(),
        genre_row_splits=_row_splits(genre_name),
        word_index=word.values.numpy(),
        word_row_splits=_row_splits(word),
    )


def load_user_states(
    user_state_uri: str, splits: Sequence[str], catalog: Catalog, transform_output: tft.TFTransformOutput
) -> UserStates:
    """Reads the user states of some splits and merges them per user.

    Args:
      user_state_uri: the artifact; each split holds each user's rows of that split alone, oldest first.
      splits: which to merge, oldest first: equal timestamps keep this order, then the files' order.
      catalog: gives the rows' movies their positions.
      transform_output: gives the users and their facts their indices.

    Raises:
      ValueError: no files for a split, or a row's movie is not in the catalog.
    """
    raw = _parsed([file for split in splits for file in split_files(user_state_uri, split)], f.USER_STATE_EXAMPLE)
    user_id, first_row, user = _unique(raw[f.USER_ID.name].numpy())

    lists = {feature.name: raw[feature.name] for feature in f.STATE}
    row_user = user[lists[f.STATE_TIMESTAMP.name].indices[:, 0].numpy()]
    timestamp = lists[f.STATE_TIMESTAMP.name].values.numpy()
    movie_id = lists[f.STATE_MOVIE_ID.name].values.numpy()
    position = catalog.positions(movie_id)
    if (position < 0).any():
        unknown = movie_id[position < 0][0].decode()
        raise ValueError(
            f"{user_state_uri} has {(position < 0).sum()} rows of movies that the catalog lacks, movie_id {unknown!r}"
            " first; both must come from the same run of the ExampleGen."
        )
    order = np.lexsort((timestamp, row_user))  # stable: equal timestamps stay in the files' order
    indices = _user_indices(raw, transform_output)
    return UserStates(
        user_id=user_id,
        **{name: values[first_row] for name, values in indices.items()},
        row_splits=np.concatenate([[0], np.cumsum(np.bincount(row_user, minlength=len(user_id)))]).astype(np.int64),
        position=position[order],
        rating=lists[f.STATE_RATING.name].values.numpy()[order],
        timestamp=timestamp[order],
    )


def load_ratings(
    file_patterns: Sequence[str], transform_output: tft.TFTransformOutput, names: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads transformed rating examples.

    Args:
      file_patterns: as in fn_args.train_files and fn_args.eval_files.
      transform_output: knows their features.
      names: transformed features to read; all of fixed length unless given. Genres and words belong to the movie, not
        to the rating, and have any number of values: take them from the catalog, by movie_index.

    Returns:
      By name: [R] or [R, HISTORY_LENGTH], of the features' dtypes, in the order of the files.

    Raises:
      ValueError: no file matches.
    """
    spec = transform_output.transformed_feature_spec()
    fixed = [name for name, feature in spec.items() if isinstance(feature, tf.io.FixedLenFeature)]
    spec = {name: spec[name] for name in (fixed if names is None else names)}
    files = sorted(file for pattern in file_patterns for file in tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(f"No transformed examples match {list(file_patterns)}.")
    batches = list(_batches(files, spec))
    return {name: np.concatenate([batch[name].numpy() for batch in batches]) for name in spec}


def num_indices(transform_output: tft.TFTransformOutput, vocabulary: str) -> int:
    """Rows of an embedding table for a vocabulary named in features.py: its entries, padding and OOV."""
    return f.FIRST_INDEX + transform_output.vocabulary_size_by_name(vocabulary)


def parsing_spec(specs: Sequence[f.Feature]) -> dict[str, tf.io.FixedLenFeature | tf.io.VarLenFeature]:
    """tf.io.parse_example's spec of raw features."""
    return {
        feature.name: tf.io.VarLenFeature(tf.as_dtype(feature.dtype))
        if feature.shape is None
        else tf.io.FixedLenFeature(feature.shape, tf.as_dtype(feature.dtype))
        for feature in specs
    }


def position_table(movie_id: np.ndarray) -> tf.lookup.StaticHashTable:
    """A lookup from movie id (string) to catalog position (int32), -1 for what is not in the catalog."""
    keys, values = tf.constant(movie_id, tf.string), tf.range(len(movie_id), dtype=tf.int32)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default_value=-1)


def split_files(uri: str, split: str) -> list[str]:
    """The files of an Examples artifact's split, in the order of their names.

    Raises:
      ValueError: there are none.
    """
    pattern = str(pathlib.PurePosixPath(uri) / f"Split-{split}" / "*") if "://" not in uri else f"{uri}/Split-{split}/*"
    files = sorted(tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(f"No examples match {pattern}.")
    return files


def _parsed(files: Sequence[str], specs: Sequence[f.Feature]) -> dict[str, tf.Tensor | tf.SparseTensor]:
    """All examples of some files, in their order."""
    spec = parsing_spec(specs)
    empty = tf.io.parse_example(tf.constant([], tf.string), spec)
    batches = [empty, *_batches(files, spec)]
    return {name: _concatenated([batch[name] for batch in batches]) for name in spec}


def _batches(
    files: Sequence[str], spec: dict[str, tf.io.FixedLenFeature | tf.io.VarLenFeature]
) -> Iterator[dict[str, tf.Tensor | tf.SparseTensor]]:
    dataset = tf.data.TFRecordDataset(list(files), compression_type="GZIP").batch(_PARSE_BATCH)
    return iter(dataset.map(lambda serialized: tf.io.parse_example(serialized, spec), num_parallel_calls=2).prefetch(2))


def _concatenated(batches: list[tf.Tensor] | list[tf.SparseTensor]) -> tf.Tensor | tf.SparseTensor:
    if isinstance(batches[0], tf.SparseTensor):
        return tf.sparse.concat(0, batches, expand_nonconcat_dims=True)
    return tf.concat(batches, axis=0)


def _unique(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct ids by first appearance, the row of that appearance, and each row's number among the distinct."""
    _, first_row, inverse = np.unique(ids.astype(bytes), return_index=True, return_inverse=True)
    by_appearance = np.argsort(first_row)
    number = np.empty_like(by_appearance)
    number[by_appearance] = np.arange(len(by_appearance))
    return ids[first_row[by_appearance]], first_row[by_appearance], number[inverse]


def _row_splits(rows: tf.SparseTensor) -> np.ndarray:
    per_row = np.bincount(rows.indices[:, 0], minlength=int(rows.dense_shape[0]))
    return np.concatenate([[0], np.cumsum(per_row)]).astype(np.int64)


def _user_indices(
    raw: dict[str, tf.Tensor | tf.SparseTensor], transform_output: tft.TFTransformOutput
) -> dict[str, np.ndarray]:
    known = transform_output.raw_feature_spec()
    facts = {feature.name: raw[feature.name] for feature in (f.USER_ID, *f.USER_FACTS) if feature.name in known}
    transformed = transform_output.transform_features_layer()(facts)
    outputs = (f.USER_INDEX, *f.USER_FACT_INDICES)
    return {feature.name: transformed[feature.name].numpy() for feature in outputs}
