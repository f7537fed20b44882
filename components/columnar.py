"""Whole columns to serialized tf.Examples: every feature is an Arrow list array, and nothing goes row by row.

An entity's features (a movie's, a user's) are made once and then taken by index for all rows that name it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

Columns = dict[str, pa.Array]
"""Feature name -> large list array, one list a row; a null list is an absent feature."""

BATCH_ROWS = 8192
"""Encoded at a time: bounds the memory that histories take."""


def entity_columns(frame: pl.DataFrame) -> Columns:
    """One feature a column of the frame: lists as they are, single values as lists of one, null as absent."""
    single = [name for name, dtype in frame.schema.items() if not isinstance(dtype, pl.List)]
    frame = frame.with_columns(
        pl.when(pl.col(name).is_not_null()).then(pl.concat_list(name)).alias(name) for name in single
    )
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.List(pl.String)]
    frame = frame.with_columns(pl.col(texts).cast(pl.List(pl.Binary)))
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return {name: _one_chunk(table[name]) for name in table.column_names}


def take(columns: Columns, index: np.ndarray) -> Columns:
    """The features of the entities with these positions.

    Args:
      columns: one list an entity.
      index: int [B].
    """
    positions = pa.array(index)
    return {name: column.take(positions) for name, column in columns.items()}


def scalar(values: np.ndarray) -> pa.Array:
    """Numbers [B] as lists of one."""
    return ragged(pa.array(values), np.arange(len(values) + 1))


def fixed(values: pa.Array, length: int) -> pa.Array:
    """Values [B * length], row after row, as lists of that length."""
    return ragged(values, np.arange(0, len(values) + 1, length))


def ragged(values: pa.Array, offsets: np.ndarray) -> pa.Array:
    """Values as lists: row i has those from offsets[i] to offsets[i + 1]; offsets is int [B + 1]."""
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)


def record_batch(columns: Columns) -> pa.RecordBatch:
    """What tfx_bsl's RecordBatchToExamplesEncoder takes."""
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def batches(index: np.ndarray) -> Iterator[np.ndarray]:
    """The index in pieces of at most BATCH_ROWS."""
    for start in range(0, len(index), BATCH_ROWS):
        yield index[start : start + BATCH_ROWS]


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
