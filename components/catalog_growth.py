"""A catalog with movies of a file behind those that are there."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Collection, Mapping

import polars as pl

from components import example_shards, movielens, own_files, rejection, shard_examples
from components.durable_files import sync, sync_tree
from components.errors import InputError
from trainer_modules import features


def read_new_movies(path: pathlib.Path, there: Collection[str], columns: Mapping[str, str]) -> pl.DataFrame:
    """The movies of a file that the catalog lacks.

    Args:
      path: .csv or .parquet with named columns: ids, titles and maybe genres.
      there: movie ids of the catalog; rows that name them are passed over.
      columns: what the file calls movie_id, title and genres, where that is not MovieLens' name.

    Returns:
      movie_id, title: text; genres: list of text. In the order of the file.

    Raises:
      InputError: no such file or no table, a column is missing, or a row is bad: of a catalog none is set aside.
    """
    if path.suffix not in (".csv", ".parquet") or not path.is_file():
        raise InputError(
            f"--catalog {path} is no .csv or .parquet file; give one with the columns movieId, title and genres"
            " (Drama|War)"
        )
    edition = own_files.layout(own_files.USUAL_RANGE)
    file = own_files.named_columns(path, edition, "movies", columns)
    table = movielens.read_movies(path.absolute().parent, edition.with_files(edition.ratings, file))
    rejection.settle({str(path): table}, 0.0, None)
    return table.rows.select("movie_id", "title", "genres").filter(~pl.col("movie_id").is_in(list(there)))


def write_grown(catalog_uri: str, new_movies: pl.DataFrame, folder: pathlib.Path) -> None:
    """Writes a catalog artifact's files and one more behind them; the folder appears whole or not at all.

    Args:
      catalog_uri: local folder of the artifact.
      new_movies: of read_new_movies.
      folder: to write; one that is there already holds the same and stays.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    split = f"Split-{features.ALL}"
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as beside:
        target = pathlib.Path(beside, "catalog")
        shutil.copytree(pathlib.Path(catalog_uri, split), target / split)
        number = len(list((target / split).iterdir()))
        # Files are read in the order of their names.
        name = example_shards.tfrecord_name(number, number + 1)
        shard_examples.write_catalog(new_movies, str(target / split / name), beside)
        sync_tree(target)
        target.rename(folder)
    sync(folder.parent)
