"""A text file, a record a line, to columns of text: vectorised, every line accounted for.

A line is either a row or set aside with a reason; none is lost. Lines are counted from 1, header and all, so that
file:line is what an editor shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa

from components import parquet_tables
from components.editions import TextFile
from components.errors import InputError

BLOCK_BYTES = 1 << 26
"""Read at a time: bounds the memory that a file of any size takes while it is text."""

REJECTED_SCHEMA = {"file": pl.String, "line": pl.Int64, "kind": pl.String, "reason": pl.String, "row": pl.String}
"""Rows set aside: where they stood, the kind of fault for counting, the reason in full, the line as it was."""

EMPTY_LINE = "empty line"
"""The kind of a line without anything on it."""

_BOM = b"\xef\xbb\xbf"
_IS_CONTROL = np.isin(np.arange(256), [*range(9), 11, 12, *range(14, 32), 127])  # all but tab, line feed and return


@dataclasses.dataclass(frozen=True)
class Check:
    """What is wrong with a row. Expressions see the file's columns as text, `line` and `raw`, the line itself."""

    kind: str
    is_bad: pl.Expr
    reason: pl.Expr


@dataclasses.dataclass(frozen=True)
class Table:
    """A file as read: num_rows_in == len(rows) + len(rejected) + num_duplicates."""

    rows: pl.DataFrame
    rejected: pl.DataFrame
    num_rows_in: int
    num_duplicates: int = 0
    """Rows dropped because another one says the same."""

    def __post_init__(self) -> None:
        num_rows_out = self.rows.height + self.rejected.height + self.num_duplicates
        assert self.num_rows_in == num_rows_out, f"{self.num_rows_in} rows in, {num_rows_out} accounted for"


def read_table(
    stream: BinaryIO, file: TextFile, checks: Sequence[Check] = (), select: Sequence[pl.Expr | str] = ()
) -> Table:
    """Reads the whole file.

    Args:
      stream: the file's bytes.
      file: how it is laid out.
      checks: a row is set aside by the first one that finds it bad. An expression that is null finds nothing.
      select: the columns wanted, made of the file's columns (text) and `line` (int64) and `raw`; empty: all of them.

    Raises:
      InputError: no row at all, a header without a column or with one too many, or one line beyond all measure.
    """
    rows, rejected, num_rows_in = [], [], 0
    layout = [] if file.is_parquet else _layout_checks(file)
    for fields, bad_lines in _fields(stream, file):
        num_rows_in += fields.height + bad_lines.height
        good, bad = _apply(fields, file, [*layout, *checks])
        rows.append(good.select(*select) if select else good)
        rejected += [bad_lines, bad]
    if not num_rows_in:
        has_header = file.header and not file.is_parquet
        raise InputError(f"{file.name} is empty: it holds no row{' but its header' if has_header else ''}.")
    return Table(pl.concat(rows), pl.concat(rejected).sort("line"), num_rows_in)


def read_raw(stream: BinaryIO, file: TextFile, line_numbers: pl.Series) -> pl.DataFrame:
    """Columns `line` and `raw` of the lines with these numbers."""
    rows = parquet_tables.batches(stream, file) if file.is_parquet else (lines for lines, _, _ in _lines(stream, file))
    is_wanted = pl.col("line").is_in(line_numbers.implode())
    return pl.concat(block.select("line", "raw").filter(is_wanted) for block in rows)


def header(stream: BinaryIO, file: TextFile) -> list[str]:
    """The names in the first line.

    Raises:
      InputError: that line is no text, or there is none.
    """
    line = stream.readline(BLOCK_BYTES).removeprefix(_BOM).rstrip(b"\r\n")
    fault = _encoding_fault(line, file.encoding) if line else "the file is empty, or its first line is"
    if fault:
        raise InputError(f"{file.name}:1: {fault}; it should hold the names of the columns.")
    return _names(line.decode(file.encoding), file)


def as_rejected(rows: pl.DataFrame, file: TextFile, kind: pl.Expr, reason: pl.Expr) -> pl.DataFrame:
    """Rows (`line`, `raw` and what the expressions use) in the shape of REJECTED_SCHEMA."""
    columns = (pl.lit(file.name), pl.col("line"), kind, reason, pl.col("raw"))
    # In one piece: polars 1.44 panics where pl.format meets columns whose pieces were cut at different rows.
    return rows.rechunk().select(
        column.cast(dtype).alias(name) for (name, dtype), column in zip(REJECTED_SCHEMA.items(), columns, strict=True)
    )


def _fields(stream: BinaryIO, file: TextFile) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Per block: readable rows (`line`, `raw`, the file's columns as text) and unreadable ones (REJECTED_SCHEMA)."""
    if file.is_parquet:
        for rows in parquet_tables.batches(stream, file):
            yield rows, pl.DataFrame(schema=REJECTED_SCHEMA)
    else:
        for lines, bad_lines, has_quotes in _lines(stream, file):
            yield _split(lines, file, has_quotes), bad_lines


def _names(line: str, file: TextFile) -> list[str]:
    return [name.strip().strip('"') for name in line.split(file.separator)]


def _blocks(stream: BinaryIO, file: TextFile) -> Iterator[bytes]:
    """Whole lines, about BLOCK_BYTES of them at a time."""
    rest = b""
    while chunk := stream.read(BLOCK_BYTES):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield rest + chunk[:end]
            rest = chunk[end:]
        else:
            rest += chunk
        if len(rest) > BLOCK_BYTES:
            raise InputError(f"{file.name} has a line of more than {BLOCK_BYTES >> 20} MiB: this is no table of text.")
    if rest:
        yield rest


def _lines(stream: BinaryIO, file: TextFile) -> Iterator[tuple[pl.DataFrame, pl.DataFrame, bool]]:
    """Per block: readable lines (`line`, `raw`), unreadable ones (REJECTED_SCHEMA), whether there are quotes.

    The header is checked and left out.
    """
    next_line = 1
    for block in _blocks(stream, file):
        if next_line == 1:
            block = block.removeprefix(_BOM)
        buffer = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(buffer == ord("\n")) + 1
        if not ends.size or ends[-1] != buffer.size:
            ends = np.append(ends, buffer.size)
        numbers = np.arange(next_line, next_line + ends.size)
        next_line += ends.size
        if block.isascii() and not _IS_CONTROL[buffer].any():
            lines, bad = _plain_lines(block, ends, numbers), pl.DataFrame(schema=REJECTED_SCHEMA)
        else:
            lines, bad = _decoded_lines(block, numbers, file)
        if file.header and numbers[0] == 1:
            _check_header(lines, bad, file)
            lines = lines.filter(pl.col("line") > 1)
        yield lines, bad, b'"' in block


def _plain_lines(block: bytes, ends: np.ndarray, numbers: np.ndarray) -> pl.DataFrame:
    """The lines of a block of nothing but printable ASCII, without copying it."""
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    text = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(block))
    raw = pl.from_arrow(text)
    assert isinstance(raw, pl.Series)
    frame = pl.DataFrame({"line": numbers, "raw": raw})
    return frame.with_columns(pl.col("raw").str.strip_suffix("\n").str.strip_suffix("\r"))


def _decoded_lines(block: bytes, numbers: np.ndarray, file: TextFile) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same for any bytes, line by line: few blocks need it."""
    good: dict[str, list] = {"line": [], "raw": []}
    bad: dict[str, list] = {name: [] for name in REJECTED_SCHEMA}
    for number, raw in zip(numbers.tolist(), block.removesuffix(b"\n").split(b"\n"), strict=True):
        raw = raw.removesuffix(b"\r")
        reason = _encoding_fault(raw, file.encoding)
        if reason:
            row = raw.decode(file.encoding, "backslashreplace").replace("\0", "\\x00")
            for name, value in zip(REJECTED_SCHEMA, (file.name, number, "wrong encoding", reason, row), strict=True):
                bad[name].append(value)
        else:
            good["line"].append(number)
            good["raw"].append(raw.decode(file.encoding))
    return (
        pl.DataFrame(good, schema={"line": pl.Int64, "raw": pl.String}),
        pl.DataFrame(bad, schema=REJECTED_SCHEMA),
    )


def _encoding_fault(raw: bytes, encoding: str) -> str:
    """Why these bytes are not text in that encoding; empty where they are."""
    if _IS_CONTROL[np.frombuffer(raw, np.uint8)].any():
        return "control characters: this is not a line of text"
    if encoding == "latin-1":
        # Any bytes are latin-1; but text in UTF-8 or Windows-1252 would come out garbled, and both betray themselves.
        if any(0x80 <= byte < 0xA0 for byte in raw):
            return "bytes that latin-1 has no letters for (UTF-8 or Windows-1252?)"
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            return ""
        return "" if raw.isascii() else "UTF-8, where this file is latin-1"
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        return f"byte 0x{raw[error.start]:02x} at {error.start + 1} is not {encoding.upper()}"
    return ""


def _check_header(lines: pl.DataFrame, bad: pl.DataFrame, file: TextFile) -> None:
    if bad.height and bad["line"][0] == 1:
        raise InputError(f"{file.name}:1: {bad['reason'][0]}")
    first = lines["raw"][0]
    found = _names(first, file)
    if found == list(file.header):
        return
    faults = [f"column {name!r} is missing" for name in file.header if name not in found]
    faults += [f"column {name!r} is one too many" for name in found if name not in file.header]
    raise InputError(
        f"{file.name}:1: {'; '.join(faults) or 'the columns stand in another order'}."
        f" The header is {first[:200]!r} and should be {file.separator.join(file.header)!r}."
    )


def _split(lines: pl.DataFrame, file: TextFile, has_quotes: bool) -> pl.DataFrame:
    """`line`, `raw` and the file's columns as text.

    Too few fields: the last one is null. Too many: the last one holds the separator.
    """
    raw = pl.col("raw")
    if not (file.quoted and has_quotes):
        fields = raw.str.splitn(file.separator, len(file.columns)).struct.rename_fields(list(file.columns))
        return lines.with_columns(fields.alias("fields")).unnest("fields")
    field = f'("(?:[^"]|"")*"|[^"{file.separator}]*)'
    pattern = "^" + file.separator.join([field] * len(file.columns)) + "$"
    fields = raw.str.extract_groups(pattern).struct.rename_fields(list(file.columns))
    text = pl.col(*file.columns)
    unquoted = text.str.strip_prefix('"').str.strip_suffix('"').str.replace_all('""', '"', literal=True)
    return (
        lines.with_columns(fields.alias("fields"))
        .unnest("fields")
        .with_columns(pl.when(text.str.starts_with('"')).then(unquoted).otherwise(text))
    )


def _layout_checks(file: TextFile) -> list[Check]:
    last = pl.col(file.columns[-1])
    too_many = last.str.contains(file.separator, literal=True)
    if file.quoted:  # a last field in quotes may hold the separator
        too_many &= ~pl.col("raw").str.ends_with('"')
    found = pl.col("raw").str.count_matches(file.separator, literal=True) + 1
    wanted = f"{len(file.columns)} ({', '.join(file.columns[:5])}{', ...' if len(file.columns) > 5 else ''})"
    wanted += " and every quote closed" if file.quoted else ""
    return [
        Check(EMPTY_LINE, pl.col("raw") == "", pl.lit("the line is empty")),
        Check(
            "missing or extra column",
            last.is_null() | too_many,
            pl.format("{} columns where there should be {}", found, pl.lit(wanted)),
        ),
    ]


def _apply(fields: pl.DataFrame, file: TextFile, checks: Sequence[Check]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows without and with a fault. The texts of the reasons are made for the bad rows alone."""
    flags = fields.select(pl.any_horizontal(check.is_bad.fill_null(False) for check in checks).alias("is_bad"))
    is_bad = flags["is_bad"]
    if not is_bad.any():
        return fields, pl.DataFrame(schema=REJECTED_SCHEMA)
    kind = pl.coalesce(pl.when(check.is_bad).then(pl.lit(check.kind)) for check in checks)
    reason = pl.coalesce(pl.when(check.is_bad).then(check.reason) for check in checks)
    return fields.filter(~is_bad), as_rejected(fields.filter(is_bad), file, kind, reason)
