"""What is said of a data set, against a world small enough to count by hand."""

import pathlib
import zipfile

import pytest
from data_files import write_1m, write_latest

from components import description, movielens, source_files

REAL = pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
DAY = 86_400
ML_1M = movielens.get_edition("ml-1m")


def test_everything_by_hand(tmp_path):
    movies = ["1::One (1991)::Drama", "2::Two (1992)::Drama", "3::Three (1993)::War", "4::Four (1994)::War"]
    rows = [("1", "1", 5, 0), ("1", "2", 4, 1), ("1", "3", 3, 2), ("2", "1", 2, DAY), ("2", "2", 1, DAY),
            ("2", "1", 2, DAY), ("3", "1", 5, 3 * DAY), ("3", "3", 5, 3 * DAY + 1), ("1", "9", 1, 0)]  # fmt: skip
    users = ["1::M::18::1::1", "2::F::25::2::2", "5::F::25::2::2"]
    folder = write_1m(tmp_path, ["::".join(map(str, row)) for row in rows], movies, users)
    found = description.describe(movielens.read(folder, ML_1M, max_bad_share=0.2), seed=7)
    assert (found.num_ratings, found.num_duplicates, found.num_rejected) == (7, 1, 1)
    assert (found.num_users, found.num_users_without_ratings) == (3, 1)
    assert (found.num_movies, found.num_movies_without_ratings) == (4, 1)
    assert found.density == pytest.approx(7 / 12)
    assert found.stars == {"1": 1, "2": 1, "3": 1, "4": 1, "5": 3} and found.mean_stars == pytest.approx(25 / 7)
    assert (found.first_time, found.last_time) == ("1970-01-01T00:00:00Z", "1970-01-04T00:00:01Z")
    assert found.ratings_per_day == [3, 2, 0, 2] and found.busiest_day == "1970-01-01"
    assert found.ratings_per_user == {"min": 2, "median": 2, "mean": pytest.approx(7 / 3), "max": 3}
    assert found.ratings_per_movie == {"min": 0, "median": 2, "mean": 7 / 4, "max": 3}
    assert found.popularity == [3, 2, 2, 0]
    assert found.top_movies[:2] == [("1", "One (1991)", 3), ("2", "Two (1992)", 2)]
    assert found.top_shares == {"0.01": pytest.approx(3 / 7), "0.1": pytest.approx(3 / 7), "0.5": pytest.approx(5 / 7)}
    # By user: 1 has movies 1, 2, 3 in train, eval, test; 2 has 2 and, by its later line, 1 in train and test; 3 has 1
    # and 3 there.
    part = found.splits["leave_last_out"]
    assert [part[split].num_rows for split in ("train", "eval", "test")] == [3, 1, 3]
    assert part["train"].cold_user_share is None
    assert part["eval"] == description.Part(1, 1, 0.0, 0.0, 0.0)
    assert part["test"] == description.Part(3, 3, 0.0, 0.0, pytest.approx(2 / 3))
    # By time: user 3 comes last, and of their rows one is eval or test each.
    part = found.splits["global_time"]
    assert [part[split].num_rows for split in ("train", "eval", "test")] == [6, 0, 1]
    assert part["eval"].cold_row_share is None
    assert part["test"] == description.Part(1, 1, 0.0, 0.0, 0.0)


def test_ml_100k():
    if not (REAL / "ml-100k").is_dir():
        pytest.skip(f"no real ml-100k: {REAL / 'ml-100k'} is absent")
    found = description.describe(movielens.read(REAL / "ml-100k", movielens.get_edition("ml-100k")), seed=7)
    assert (found.num_users, found.num_movies, found.num_ratings) == (943, 1682, 100_000)
    test = found.splits["global_time"]["test"]
    assert (test.num_users, round(test.num_users * (1 - test.cold_user_share))) == (166, 90)
    assert test.cold_row_share == pytest.approx(0.71, abs=0.005)


def test_whether_a_zip_is_the_published_one(tmp_path):
    folder = write_1m(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    said = source_files.publication(tmp_path / "mine.zip", ML_1M)
    assert "NOT the published c4d9eecfca2ab87c1945afe126590906" in said
    assert "unpacked" in source_files.publication(folder, ML_1M)
    latest = movielens.get_edition("ml-latest")
    assert "changes" in source_files.publication(tmp_path / "mine.zip", latest)
    assert "unpacked" in source_files.publication(write_latest(tmp_path / "latest"), latest)
