"""More movies behind a catalog: what is taken, what is refused, and that a killed write leaves nothing half done."""

import numpy as np
import polars as pl
import pytest
import toy_ring

from components import catalog_growth, evaluation_data
from components.errors import InputError
from trainer_modules import features as f


@pytest.fixture
def catalog(tmp_path):
    uri = str(tmp_path / "artifact")
    one = toy_ring.example({"movie_id": "m1", "movie_title": "One", "movie_genres": []})
    toy_ring.write_split(uri, f.ALL, [one])
    return uri


def test_new_movies_stand_behind_those_that_are_there(catalog, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text('movieId,title,genres\nm1,Another name,War\nm3,"Three, again (1999)",Drama|War\nm2,Two,\n')
    new = catalog_growth.read_new_movies(file, ["m1"], {})
    assert new["movie_id"].to_list() == ["m3", "m2"]
    for _ in range(2):  # the same again changes nothing
        catalog_growth.write_grown(catalog, new, tmp_path / "catalogs" / "larger")
    catalog_growth.write_grown(str(tmp_path / "catalogs" / "larger"), new.head(1), tmp_path / "catalogs" / "largest")
    uri = str(tmp_path / "catalogs" / "larger")
    assert evaluation_data.read_catalog(uri).movie_id.tolist() == [b"m1", b"m3", b"m2"]
    facts = evaluation_data.read(uri, f.ALL, (f.MOVIE_TITLE, f.MOVIE_GENRES))
    assert facts["movie_title"].tolist() == [b"One", b"Three, again (1999)", b"Two"]
    np.testing.assert_array_equal(facts["movie_genres"].lengths, [0, 2, 0])
    largest = evaluation_data.read_catalog(str(tmp_path / "catalogs" / "largest")).movie_id
    assert largest.tolist() == [b"m1", b"m3", b"m2", b"m3"], "files are read in the order they were added"
    assert {path.name for path in (tmp_path / "catalogs").iterdir()} == {"larger", "largest"}


def test_columns_of_other_names_and_parquet(tmp_path):
    pl.DataFrame({"id": ["m7"], "name": ["Seven (1995)"]}).write_parquet(tmp_path / "new.parquet")
    named = {"movie_id": "id", "title": "name"}
    [row] = catalog_growth.read_new_movies(tmp_path / "new.parquet", [], named).rows()
    assert row == ("m7", "Seven (1995)", [])


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("gone.csv", None, "is no .csv or .parquet file"),
        ("new.txt", "m1|One", "is no .csv or .parquet file"),
        ("new.csv", "id,title\nm1,One\n", "there is no column 'movieId'"),
        ("new.csv", "movieId,title\n", "is empty"),
        ("new.csv", "movieId,title\n,One\nm2,Two\n", "1 of 2 rows are bad"),
        ("new.csv", "movieId,title\nm2,Two\nm2,Zwei\n", "1 of 2 rows are bad"),
        ("new.parquet", "no parquet", "new.parquet"),
    ],
)
def test_a_bad_file_is_refused_whole(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        catalog_growth.read_new_movies(tmp_path / name, [], {})


def test_a_write_that_fails_leaves_nothing(catalog, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(catalog_growth.shard_examples, "write_catalog", fails)
    with pytest.raises(OSError, match="disk full"):
        catalog_growth.write_grown(catalog, pl.DataFrame(), tmp_path / "catalogs" / "larger")
    assert list((tmp_path / "catalogs").iterdir()) == []
