"""Ratings and movies of one's own: columns found by name, CSV and Parquet alike, every fault with its file and row."""

import datetime

import polars as pl
import pytest
from data_files import write_lines
from example_gen_run import examples, records, run_example_gen
from test_schema_pinned import anomalies

from components import editions, movielens, own_files
from components.errors import InputError
from components.pinned_schema import pinned_schema
from trainer_modules import features

RATINGS_COLUMNS = {"user_id": "customer", "movie_id": "item", "rating": "score", "timestamp": "when"}
MOVIES_COLUMNS = {"movie_id": "id", "title": "name", "genres": "tags"}
NUM_USERS, NUM_MOVIES = 6, 5


def rows():
    """score, customer, when, comment, item."""
    for user in range(NUM_USERS):
        for movie in range(NUM_MOVIES - 1):
            yield (user * movie) % 11 - 3.5, f"c{user}", 1_000_000 + 10 * movie + user, "a, b", f"0{movie}"


def catalog():
    """name, tags, id."""
    for movie in range(NUM_MOVIES):
        yield f'Film "{movie}", the', ["Noir!", "Zzz"][: movie % 3], f"0{movie}"


def write_csv(folder, extra=()):
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    lines = [f'{score},{user},{when},"{comment}",{item}' for score, user, when, comment, item in rows()]
    write_lines(folder / "a" / "r.csv", ["score,customer,when,comment,item", *lines, *extra], "utf-8")
    movies = [f'"{name.replace(chr(34), chr(34) * 2)}",{"|".join(tags)},{item}' for name, tags, item in catalog()]
    write_lines(folder / "b" / "m.csv", ["name,tags,id", *movies], "utf-8")
    return folder / "a" / "r.csv", folder / "b" / "m.csv"


def write_parquet(folder):
    folder.mkdir(parents=True, exist_ok=True)
    made = pl.DataFrame(list(rows()), schema=["score", "customer", "when", "comment", "item"], orient="row")
    when = pl.from_epoch("when", "s").dt.replace_time_zone("UTC")
    made.with_columns(when).write_parquet(folder / "r.parquet")
    pl.DataFrame(list(catalog()), schema=["name", "tags", "id"], orient="row").write_parquet(folder / "m.parquet")
    return folder / "r.parquet", folder / "m.parquet"


def edition_of(ratings, movies, ratings_columns=RATINGS_COLUMNS, movies_columns=MOVIES_COLUMNS, stars=(-4.0, 8.0)):
    return own_files.edition(ratings, movies, ratings_columns, movies_columns, stars)


@pytest.mark.parametrize("write, header", [(write_csv, 1), (write_parquet, 0)])
def test_columns_are_found_by_name(tmp_path, write, header):
    folder, edition = edition_of(*write(tmp_path))
    assert folder == tmp_path
    data = movielens.read(folder, editions.Edition.from_json(edition.to_json()), max_bad_share=0)
    expected = [(user, item, score, when) for score, user, when, _, item in rows()]
    assert data.ratings.drop("source_line").rows() == expected
    assert data.ratings["source_line"].to_list() == list(range(1 + header, 1 + header + len(expected)))
    assert data.movies.rows() == [(item, name, tags) for name, tags, item in catalog()]
    assert data.users.is_empty() and data.rejected.is_empty()


def test_the_names_of_movielens_need_no_naming_and_genres_may_be_missing(tmp_path):
    write_lines(tmp_path / "r.csv", ["userId,movieId,rating,timestamp", "1,2,3.5,10"])
    write_lines(tmp_path / "m.csv", ["year,title,movieId", "1990,Film,2"])
    folder, edition = edition_of(tmp_path / "r.csv", tmp_path / "m.csv", {}, {}, (0.5, 5.0))
    data = movielens.read(folder, edition)
    assert data.movies.rows() == [("2", "Film", [])]
    assert data.ratings.rows() == [("1", "2", 3.5, 10, 2)]


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_column_that_is_not_there_is_named_with_what_is(tmp_path, write):
    paths = write(tmp_path)
    with pytest.raises(InputError, match=r"no column 'userId' to read user_id from, only score, customer.*--ratings-c"):
        edition_of(*paths, ratings_columns={**RATINGS_COLUMNS, "user_id": "userId"})
    with pytest.raises(InputError, match=r"no column 'genre'.*--movies-column genres=COLUMN"):
        edition_of(*paths, movies_columns={**MOVIES_COLUMNS, "genres": "genre"})
    with pytest.raises(InputError, match=r"--ratings-column customer: there is no such column.*user_id"):
        edition_of(*paths, ratings_columns={"customer": "user_id"})
    with pytest.raises(InputError, match="4 to 4"):
        edition_of(*paths, stars=(4, 4))
    with pytest.raises(InputError, match="same file"):
        edition_of(paths[0], paths[0])
    with pytest.raises(InputError, match=r"no file .*nowhere\.csv"):
        edition_of(paths[0].with_name("nowhere.csv"), paths[1])


def test_headers_that_are_none(tmp_path):
    ratings, movies = write_csv(tmp_path)
    ratings.write_bytes(b"")
    with pytest.raises(InputError, match=r"r\.csv:1: the file is empty"):
        edition_of(ratings, movies)
    ratings.write_bytes(b"PAR1\0\0,customer\n")
    with pytest.raises(InputError, match=r"r\.csv:1: control characters"):
        edition_of(ratings, movies)
    ratings.write_bytes(b"score,customer,when,item,item\n")
    with pytest.raises(InputError, match="'item' stands there 2 times"):
        edition_of(ratings, movies)


def test_bad_rows_of_a_csv(tmp_path):
    bad = ["9,c1,5,x,00", "1,c1,now,x,00", "1,c1,5,00", "2,c1,5,x,77"]
    folder, edition = edition_of(*write_csv(tmp_path, bad))
    data = movielens.read(folder, edition, max_bad_share=0.5)
    first = 2 + NUM_USERS * (NUM_MOVIES - 1)
    assert data.rejected.select("file", "line", "kind").rows() == [
        ("a/r.csv", first, "rating out of range"),
        ("a/r.csv", first + 1, "timestamp not a number"),
        ("a/r.csv", first + 2, "missing or extra column"),
        ("a/r.csv", first + 3, "unknown movie id"),
    ]


def test_bad_rows_of_a_parquet_file(tmp_path):
    ratings, movies = write_parquet(tmp_path)
    bad = pl.DataFrame(
        {"score": [None, 9.0, 1.0, 1.0], "customer": ["c1", "c1", None, "c1"], "item": ["00", "00", "00", "00"],
         "when": [5, 5, 5, None], "comment": ["", "", "", ""]}
    ).with_columns(pl.from_epoch("when", "s").dt.replace_time_zone("UTC"))  # fmt: skip
    good = pl.read_parquet(ratings)
    pl.concat([good, good[:1], bad.select(good.columns).cast(good.schema)]).write_parquet(ratings)
    folder, edition = edition_of(ratings, movies)
    data = movielens.read(folder, edition, max_bad_share=0.5, rejected_dir=tmp_path / "rejected")
    assert data.num_duplicates == 1 and data.ratings.height == good.height
    first = good.height + 2
    assert data.rejected.select("file", "line", "kind").rows() == [
        ("r.parquet", first, "rating not a number"),
        ("r.parquet", first + 1, "rating out of range"),
        ("r.parquet", first + 2, "empty user_id"),
        ("r.parquet", first + 3, "timestamp not a number"),
    ]
    assert "r.parquet" in (tmp_path / "rejected" / "csv.csv").read_text()


def test_parquet_files_that_will_not_do(tmp_path):
    ratings, movies = write_parquet(tmp_path)
    whole = pl.read_parquet(ratings)
    whole.with_columns(item=pl.lit(1.5)).write_parquet(ratings)
    with pytest.raises(InputError, match="'item' holds Float64: ids are text or whole numbers"):
        movielens.read(*edition_of(ratings, movies))
    whole.with_columns(score=pl.lit(datetime.timedelta(1))).write_parquet(ratings)
    with pytest.raises(InputError, match="'score' holds Duration"):
        movielens.read(*edition_of(ratings, movies))
    whole.head(0).write_parquet(ratings)
    with pytest.raises(InputError, match=r"r\.parquet is empty: it holds no row\."):
        movielens.read(*edition_of(ratings, movies))
    ratings.write_bytes(b"PAR1 and so on")
    with pytest.raises(InputError, match=r"r\.parquet is not a Parquet file"):
        edition_of(ratings, movies)


def test_corrected_ratings_of_a_parquet_file_are_listed(tmp_path):
    ratings, movies = write_parquet(tmp_path)
    whole = pl.read_parquet(ratings)
    pl.concat([whole, whole[:1].with_columns(score=pl.lit(7.5))]).write_parquet(ratings)
    data = movielens.read(*edition_of(ratings, movies), max_bad_share=0)
    assert data.ratings["rating"][-1] == 7.5
    assert data.rejected.select("line", "kind").rows() == [(1, "superseded")]
    assert data.rejected["row"][0].startswith("c0,00,")


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_examples_fit_the_schema_whatever_the_genres(tmp_path, write):
    folder, edition = edition_of(*write(tmp_path / "in"))
    made = run_example_gen(tmp_path / "out", folder, "csv", layout=edition)
    schema = pinned_schema(edition.environment, *edition.rating_range)
    for split in features.SPLITS:
        assert anomalies(records(made["examples"], split), schema) == {}
    assert set(anomalies(records(made["examples"], features.TRAIN), pinned_schema("plain", -4, 8))) == {"movie_genres"}
    assert len(examples(made["catalog"], features.ALL)) == NUM_MOVIES
    assert made["examples"].get_string_custom_property("dataset") == "csv"
