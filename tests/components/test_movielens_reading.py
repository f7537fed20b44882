"""Editions read into tables: real ones, and small ones with every fault that a user may bring."""

import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from data_files import flags, rating_lines, write_100k, write_latest

from components import movielens, text_tables
from components.errors import InputError
from components.uniqueness import SUPERSEDED

REAL = pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
ML_100K = movielens.get_edition("ml-100k")
LATEST = movielens.get_edition("ml-latest-small")


def real(edition):
    path = REAL / edition.name
    if not path.is_dir():
        pytest.skip(f"no real {edition.name}: {path} is absent")
    return movielens.read(path, edition)


def faults(dataset):
    return dataset.rejected.select("file", "line", "kind").rows()


def test_ml_100k_as_published():
    data = real(ML_100K)
    assert (data.ratings.height, data.movies.height, data.users.height) == (100_000, 1682, 943)
    assert data.ratings.row(0) == ("196", "242", 3.0, 881250949, 1)
    assert data.ratings.row(-1) == ("12", "203", 3.0, 879959583, 100_000)
    assert data.movies["title"].n_unique() == 1664  # titles name several movies, ids do not
    assert data.movies.row(0) == ("1", "Toy Story (1995)", ["Animation", "Children's", "Comedy"])
    assert data.movies.row(266) == ("267", "unknown", [])
    assert data.movies.row(542)[:2] == ("543", "Misérables, Les (1995)")
    assert data.users.row(0) == ("1", 24.0, 18.0, 1, "technician", "85711")
    assert data.rejected.is_empty()


def test_ml_latest_small_as_published():
    data = real(LATEST)
    assert (data.ratings.height, data.movies.height, data.users.height) == (100_836, 9742, 0)
    assert data.ratings.row(0) == ("1", "1", 4.0, 964982703, 2)
    assert sorted(data.ratings["rating"].unique()) == list(np.arange(0.5, 5.5, 0.5))
    titles = dict(data.movies.select("movie_id", "title").iter_rows())
    assert titles["11"] == "American President, The (1995)"
    assert titles["40"] == "Cry, the Beloved Country (1995)"
    assert titles["29"] == "City of Lost Children, The (Cité des enfants perdus, La) (1995)"
    genres = dict(data.movies.select("movie_id", "genres").iter_rows())
    assert genres["1"] == ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]
    assert genres["122888"] == []  # (no genres listed)
    assert data.users.columns == ["user_id"]


def test_small_files_of_both_families_read_alike(tmp_path):
    tabs = movielens.read(write_100k(tmp_path / "tabs"), ML_100K)
    commas = movielens.read(write_latest(tmp_path / "commas"), LATEST)
    columns = ["user_id", "movie_id", "rating", "timestamp"]
    assert tabs.ratings.select(columns).equals(commas.ratings.select(columns))
    assert commas.ratings["source_line"].to_list() == [line + 1 for line in tabs.ratings["source_line"]]
    assert tabs.num_rows_in == tabs.ratings.height == 100


BAD_ROWS = [
    ("1\t1\t6\t880000001", "rating out of range", "u.data:101: rating '6' is outside 1 to 5 stars"),
    ("1\t1\t3.5\t880000001", "rating off its step", "rating '3.5' is no multiple of 1 stars"),
    ("1\t1\tgood\t880000001", "rating not a number", "rating 'good' is not a number"),
    ("1\t1\tnan\t880000001", "rating not a number", "rating 'nan' is not a number"),
    ("1\t1\t3\tyesterday", "timestamp not a number", "timestamp 'yesterday' is not a whole number"),
    ("1\t1\t3\t880000001000", "timestamp out of range", "are these seconds?"),
    ("1\t999\t3\t880000001", "unknown movie id", "movie id '999' is not in u.item"),
    ("1\t1\t3", "missing or extra column", "3 columns where there should be 4"),
    ("1\t1\t3\t880000001\t5", "missing or extra column", "5 columns where there should be 4"),
    ("", "empty line", "the line is empty"),
    ("\t1\t3\t880000001", "empty user_id", "the user_id is empty"),
    (b"1\t1\t3\t88\x000001", "wrong encoding", "control characters"),
    ("ü\t1\t3\t880000001".encode(), "wrong encoding", "UTF-8"),
]


@pytest.mark.parametrize("row, kind, words", BAD_ROWS, ids=[f"{i}-{row[1]}" for i, row in enumerate(BAD_ROWS)])
def test_a_bad_rating_is_set_aside_and_named(tmp_path, row, kind, words):
    folder = write_100k(tmp_path / "in", ratings=[*rating_lines(), row])
    data = movielens.read(folder, ML_100K, max_bad_share=0.01, rejected_dir=tmp_path / "rejected")
    assert faults(data) == [("u.data", 101, kind)]
    assert (data.num_rows_in, data.ratings.height, data.num_rejected) == (101, 100, 1)
    listed = pl.read_csv(tmp_path / "rejected" / "ml-100k.csv", infer_schema=False)
    assert listed.columns == ["file", "line", "reason", "row"]
    assert words in f"{listed['file'][0]}:{listed['line'][0]}: {listed['reason'][0]}"
    if isinstance(row, str):
        assert (listed["row"][0] or "") == row
    with pytest.raises(InputError) as refused:
        movielens.read(folder, ML_100K, max_bad_share=0.009)
    assert "1 of 101 rows are bad" in str(refused.value) and f"1 x {kind}" in str(refused.value)
    assert "u.data:101: " in str(refused.value) and words in str(refused.value)


BAD_CSV_ROWS = [
    ("1,1,5.5,880000001", "rating out of range"),
    ("1,1,0,880000001", "rating out of range"),
    ("1,1,3.25,880000001", "rating off its step"),
    ('1,1,"3.5,880000001', "missing or extra column"),
    ("1,1,3.5,8800,00001", "missing or extra column"),
    (b"1\xff,1,3.5,880000001", "wrong encoding"),
]


@pytest.mark.parametrize("row, kind", BAD_CSV_ROWS, ids=[f"{i}-{row[1]}" for i, row in enumerate(BAD_CSV_ROWS)])
def test_a_bad_row_of_a_csv_is_set_aside(tmp_path, row, kind):
    rows = [line.replace("\t", ",") for line in rating_lines()]
    rows[3] = row
    assert faults(movielens.read(write_latest(tmp_path, ratings=rows), LATEST)) == [("ratings.csv", 5, kind)]


def test_quoted_fields_and_doubled_quotes(tmp_path):
    movies = ['1,"""Great"" Cats, The (1998)",Drama', '"2",Plain (1999),Drama|War', '3,"No, genres",(no genres listed)']
    rows = ['"1","1","3.5","880000001"', "1,2,4.0,880000002", "1,3,0.5,880000003"]
    data = movielens.read(write_latest(tmp_path, ratings=rows, movies=movies), LATEST)
    assert data.movies["title"].to_list() == ['"Great" Cats, The (1998)', "Plain (1999)", "No, genres"]
    assert data.movies["genres"].to_list() == [["Drama"], ["Drama", "War"], []]
    assert data.ratings["rating"].to_list() == [3.5, 4.0, 0.5]


def test_carriage_returns_and_a_byte_order_mark_are_no_fault(tmp_path):
    folder = write_latest(tmp_path)
    text = (folder / "ratings.csv").read_bytes()
    (folder / "ratings.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert movielens.read(folder, LATEST).ratings.height == 100


def test_ids_stay_text(tmp_path):
    data = movielens.read(write_100k(tmp_path, ratings=[*rating_lines(), "007\t1\t3\t880000001"]), ML_100K)
    assert data.ratings["user_id"][-1] == "007"


def test_bad_movies_and_users(tmp_path):
    movies = [f"{i}|Movie {i}|||x|{flags('Drama')}" for i in range(1, 13)]
    movies += [movies[0], f"2|Another|||x|{flags()}", f"13||||x|{flags()}", "14|No flag|||x|2|0|0|0"]
    users = ["1|24|M|writer|1", "2|x|F|writer|2", "3|30|?|writer|3", "4|7|F||"]
    data = movielens.read(write_100k(tmp_path, movies=movies, users=users), ML_100K, max_bad_share=0.5)
    assert data.movies["movie_id"].to_list() == [str(i) for i in range(1, 13)]
    assert data.users.rows() == [("1", 24.0, 18.0, 1, "writer", "1"), ("4", 7.0, 1.0, 0, None, None)]
    assert sorted(faults(data)) == [
        ("u.item", 14, "id used twice"),
        ("u.item", 15, "empty title"),
        ("u.item", 16, "bad genre flag"),
        ("u.user", 2, "bad age"),
        ("u.user", 3, "bad gender"),
    ]


@pytest.mark.parametrize(
    "header, words",
    [
        ("userId,movieId,timestamp", "column 'rating' is missing"),
        ("userId,movieId,rating,timestamp,mood", "column 'mood' is one too many"),
        ("userId,movieId,timestamp,rating", "another order"),
    ],
)
def test_a_header_that_is_not_right_is_named(tmp_path, header, words):
    with pytest.raises(InputError, match=f"ratings.csv:1: .*{words}"):
        movielens.read(write_latest(tmp_path, header=header), LATEST)


@pytest.mark.parametrize("content", [b"", b"userId,movieId,rating,timestamp\n"])
def test_an_empty_file_is_named(tmp_path, content):
    folder = write_latest(tmp_path)
    (folder / "ratings.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"ratings\.csv is empty"):
        movielens.read(folder, LATEST)


def test_a_missing_file_is_named(tmp_path):
    folder = write_100k(tmp_path)
    (folder / "u.user").unlink()
    with pytest.raises(InputError, match=r"no file u\.user"):
        movielens.read(folder, ML_100K)


def test_another_encoding_throughout_is_refused(tmp_path):
    folder = write_latest(tmp_path)
    (folder / "movies.csv").write_text("movieId,title,genres\n1,Cité,Drama\n", "utf-16")
    with pytest.raises(InputError, match=r"movies.csv:1: .*control characters"):
        movielens.read(folder, LATEST)
    titles = [f"{i}|Cité {i}|||x|{flags()}" for i in range(1, 13)]
    with pytest.raises(InputError, match=r"u.item:1: .*(UTF-8|Windows)"):
        movielens.read(write_100k(tmp_path, movies=[title.encode() for title in titles]), ML_100K)


def test_nothing_left_is_refused_whatever_is_allowed(tmp_path):
    with pytest.raises(InputError, match="none is left"):
        movielens.read(write_100k(tmp_path, ratings=["1\t1\t9\t1", "1\t2\t9\t1"]), ML_100K, max_bad_share=1.0)


def test_rows_that_repeat(tmp_path):
    rows = [
        *rating_lines(),
        "1\t11\t2\t500", "1\t11\t2\t500",  # twice the same
        "2\t11\t1\t900", "2\t11\t5\t100",  # the later time wins, though it stands first
        "3\t11\t1\t700", "3\t11\t4\t700",  # the later line
        "4\t11\t1\t700", "4\t11\t2\t800", "4\t11\t1\t700", "4\t11\t2\t800",
    ]  # fmt: skip
    data = movielens.read(write_100k(tmp_path / "in", ratings=rows), ML_100K, 0.0, tmp_path / "rejected")
    kept = data.ratings.filter(pl.col("movie_id") == "11").select("user_id", "rating", "timestamp", "source_line")
    assert kept.rows() == [("1", 2.0, 500, 102), ("2", 1.0, 900, 103), ("3", 4.0, 700, 106), ("4", 2.0, 800, 110)]
    assert data.num_duplicates == 3
    assert faults(data) == [("u.data", line, SUPERSEDED) for line in (104, 105, 107)]
    assert data.rejected["row"].to_list() == ["2\t11\t5\t100", "3\t11\t1\t700", "4\t11\t1\t700"]


def test_an_old_list_of_rejected_rows_goes(tmp_path):
    bad = write_100k(tmp_path / "bad", ratings=[*rating_lines(), "x"])
    movielens.read(bad, ML_100K, 0.5, tmp_path / "rejected")
    assert (tmp_path / "rejected" / "ml-100k.csv").exists()
    movielens.read(write_100k(tmp_path / "good"), ML_100K, 0.5, tmp_path / "rejected")
    assert not (tmp_path / "rejected" / "ml-100k.csv").exists()


def test_blocks_of_any_size_give_the_same(tmp_path, monkeypatch):
    rows = [*rating_lines(), "1\t1\t9\t1", b"\xc3\xa9\t1\t3\t1", rating_lines()[0]]
    folder = write_100k(tmp_path, ratings=rows)
    whole = movielens.read(folder, ML_100K, 0.5)
    monkeypatch.setattr(text_tables, "BLOCK_BYTES", 100)
    small = movielens.read(folder, ML_100K, 0.5)
    assert small.ratings.equals(whole.ratings) and small.movies.equals(whole.movies)
    assert small.rejected.equals(whole.rejected) and whole.rejected.height == 2
    monkeypatch.setattr(text_tables, "BLOCK_BYTES", 20)
    with pytest.raises(InputError, match="has a line of more than"):
        movielens.read(folder, ML_100K, 0.5)


row_text = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(0, 6), st.integers(0, 3)).map(
        lambda row: "\t".join(map(str, row)).encode()
    ),
    st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")),
)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(row_text, min_size=1, max_size=25))
def test_no_row_is_lost_without_being_counted(tmp_path_factory, rows):
    folder = write_100k(tmp_path_factory.mktemp("in"), ratings=rows)
    try:
        data = movielens.read(folder, ML_100K, max_bad_share=1.0)
    except InputError as error:
        assert "none is left" in str(error) or "empty" in str(error)
        return
    assert data.num_rows_in == len(rows) == data.ratings.height + data.num_duplicates + data.num_rejected
    assert not data.ratings.select("user_id", "movie_id").is_duplicated().any()
    lines = [line.decode("latin-1").removesuffix("\r").split("\t") for line in rows]
    for user, movie, rating, timestamp, source_line in data.ratings.iter_rows():
        assert (user, movie) == tuple(lines[source_line - 1][:2])
        assert (rating, timestamp) == tuple(map(float, lines[source_line - 1][2:]))
