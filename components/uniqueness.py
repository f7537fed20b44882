"""Rows that stand in a file more than once: one of them stays, the others are dropped or set aside, all counted."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from components.editions import TextFile
from components.text_tables import Table, as_rejected

SUPERSEDED = "superseded"
"""Kind of a rating that a later one of the same user and movie corrects. It is set aside, but it is not bad."""


def unique_ids(table: Table, file: TextFile, column: str) -> Table:
    """One row an id: the first one. A later one is dropped where it is identical, else set aside.

    Args:
      table: rows with columns `line`, `raw` and the id's.
      file: where they come from.
      column: the id's name.
    """
    is_first = table.rows[column].is_first_distinct()
    if is_first.all():
        return table
    first = table.rows.filter(is_first)
    others = table.rows.filter(~is_first).join(
        first.select(column, first_line="line", first_raw="raw"), on=column, maintain_order="left"
    )
    differing = others.filter(pl.col("raw") != pl.col("first_raw"))
    reason = pl.format("{} '{}' stands on line {} already", pl.lit(column), column, "first_line")
    rejected = as_rejected(differing, file, pl.lit("id used twice"), reason)
    return Table(
        first,
        pl.concat([table.rejected, rejected]).sort("line"),
        table.num_rows_in,
        num_duplicates=others.height - differing.height,
    )


def unique_ratings(table: Table, file: TextFile, read_raw: Callable[[pl.Series], pl.DataFrame]) -> Table:
    """One row a user and movie: the one with the latest timestamp, of several the one on the last line.

    Others are dropped where a row that says the same is kept or set aside already; else they are set aside.

    Args:
      table: rows with columns user_id, movie_id, rating, timestamp, source_line.
      file: where they come from.
      read_raw: line numbers -> `line` and `raw` of these lines, for the list of rows set aside.
    """
    pair, content = ["user_id", "movie_id"], ["user_id", "movie_id", "rating", "timestamp"]
    repeated = table.rows.select(pair).is_duplicated()
    if not repeated.any():
        return table
    contested = table.rows.filter(repeated).sort("timestamp", "source_line")
    winners = contested.unique(pair, keep="last", maintain_order=True)
    losers = contested.join(winners, on="source_line", how="anti")
    corrected = losers.join(winners, on=content, how="anti").unique(content, keep="first", maintain_order=True)
    winning = winners.select(*pair, winning_line="source_line")
    noted = corrected.rename({"source_line": "line"}).join(winning, on=pair)
    noted = noted.join(read_raw(noted["line"]), on="line")
    reason = pl.format("user '{}' rates movie '{}' anew on line {}", "user_id", "movie_id", "winning_line")
    return Table(
        table.rows.filter(~pl.col("source_line").is_in(losers["source_line"].implode())),
        pl.concat([table.rejected, as_rejected(noted, file, pl.lit(SUPERSEDED), reason)]).sort("line"),
        table.num_rows_in,
        num_duplicates=table.num_duplicates + losers.height - corrected.height,
    )
