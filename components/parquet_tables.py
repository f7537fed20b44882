"""A Parquet file to columns of text, as text_tables gives those of a text file; its rows count as lines from 1."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from components.editions import TextFile
from components.errors import InputError

_BATCH_ROWS = 1 << 18


def header(stream: BinaryIO, file: TextFile) -> list[str]:
    """The names of the columns."""
    with _faults_named(file):
        return list(pq.ParquetFile(stream).schema_arrow.names)


def batches(stream: BinaryIO, file: TextFile) -> Iterator[pl.DataFrame]:
    """Some rows at a time: `line` (int64), `raw` (the row's values with commas between), the file's columns as text.

    What is null becomes the empty text; times become seconds since 1970, lists their entries with | between.

    Raises:
      InputError: this is no Parquet file, or a column cannot be text.
    """
    next_line = 1
    with _faults_named(file):
        for batch in pq.ParquetFile(stream).iter_batches(_BATCH_ROWS, columns=list(file.header)):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            pairs = zip(file.header, file.columns, strict=True)
            texts = frame.select(_as_text(file, frame[theirs]).alias(ours) for theirs, ours in pairs)
            yield texts.select(
                pl.int_range(next_line, next_line + pl.len(), dtype=pl.Int64).alias("line"),
                pl.concat_str(file.columns, separator=",").alias("raw"),
                *file.columns,
            )
            next_line += len(frame)


def _as_text(file: TextFile, column: pl.Series) -> pl.Series:
    kind = column.dtype
    if isinstance(kind, pl.List) and kind.inner == pl.String:
        column = column.list.join("|")
    elif kind.is_temporal() and kind in (pl.Date, pl.Datetime):
        column = column.cast(pl.Datetime("us")).dt.epoch("s")
    elif not (kind.is_numeric() or kind in (pl.String, pl.Categorical, pl.Boolean)):
        raise InputError(f"{file.name}: the column {column.name!r} holds {kind}, which is neither text nor number.")
    elif kind.is_float() and file.columns[file.header.index(column.name)].endswith("_id"):
        raise InputError(f"{file.name}: the column {column.name!r} holds {kind}: ids are text or whole numbers.")
    return column.cast(pl.String).fill_null("")


@contextlib.contextmanager
def _faults_named(file: TextFile) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise InputError(f"{file.name} is not a Parquet file, or a damaged one ({error}).") from error
