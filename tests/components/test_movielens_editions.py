"""Every edition in its exact format: one shape of tables comes out, and no fact that the edition does not state."""

import re

import pytest
from data_files import WRITERS, write_1m, write_dat, write_latest

from components import editions, movielens, source_files, user_facts
from components.errors import InputError
from trainer_modules import features

ML_1M, ML_10M, ML_25M = (movielens.get_edition(name) for name in ("ml-1m", "ml-10m", "ml-25m"))


def test_there_are_eight_editions_and_the_sample():
    assert set(editions.EDITIONS) == {*WRITERS, "sample"}
    for edition in editions.EDITIONS.values():
        # The two `latest` ones change; their sums lie beside them.
        assert bool(re.fullmatch("[0-9a-f]{32}", edition.md5)) == (not re.search("latest|sample", edition.name))
        assert edition.url == f"https://files.grouplens.org/datasets/movielens/{edition.name}.zip"


@pytest.mark.parametrize("name", WRITERS)
def test_every_edition_reads_alike(tmp_path, name):
    edition = movielens.get_edition(name)
    data = movielens.read(WRITERS[name](tmp_path), edition, max_bad_share=0)
    assert data.num_rows_in == data.ratings.height == 100 and data.rejected.is_empty()
    header = 1 if edition.ratings.header else 0
    assert data.ratings.row(0) == ("1", "1", 3.0, 880_001_001, 1 + header)
    assert data.ratings.row(99) == ("10", "10", 1.0, 880_010_010, 100 + header)
    assert data.movies.height == 12 and data.movies["title"].str.contains(r"^Movie.* 1 \(1981\)$")[0]
    assert data.movies["genres"].list.first().unique().to_list() == ["Drama"]
    assert data.users.height == (11 if edition.users else 0)


def test_ml_1m_in_its_own_format(tmp_path):
    movies = ["1::Toy Story (1995)::Animation|Children's|Comedy", "73::Misérables, Les (1995)::Drama|Musical"]
    ratings = ["1::1::5::978300760", "1::73::3::978302109", "2::73::1::978301968"]
    users = ["1::F::1::10::48067", "2::M::56::16::70072", "3::M::25::4::98107-2117", "4::F::45::0::"]
    data = movielens.read(write_1m(tmp_path, ratings, movies, users), ML_1M)
    assert data.ratings.rows() == [
        ("1", "1", 5.0, 978300760, 1), ("1", "73", 3.0, 978302109, 2), ("2", "73", 1.0, 978301968, 3)
    ]  # fmt: skip
    assert data.movies.rows() == [
        ("1", "Toy Story (1995)", ["Animation", "Children's", "Comedy"]),
        ("73", "Misérables, Les (1995)", ["Drama", "Musical"]),
    ]
    # No age in years: ml-1m states groups alone. TFDS has one label for both kinds of students, but two texts.
    assert data.users.columns == [
        "user_id", "bucketized_user_age", "user_gender", "user_occupation_label", "user_occupation_text",
        "user_zip_code",
    ]  # fmt: skip
    assert data.users.rows() == [
        ("1", 1.0, 0, 17, "K-12 student", "48067"),
        ("2", 56.0, 1, 16, "self-employed", "70072"),
        ("3", 25.0, 1, 17, "college/grad student", "98107-2117"),
        ("4", 45.0, 0, 11, "other/not specified", None),
    ]


def test_every_code_of_ml_1m_has_its_words_and_label(tmp_path):
    users = [f"{code}::M::18::{code}::1" for code in range(21)]
    found = movielens.read(write_1m(tmp_path, users=users), ML_1M).users
    assert found["user_occupation_text"].to_list() == list(user_facts.OCCUPATIONS)
    labels = found["user_occupation_label"].to_list()
    assert labels[0] == 11 and labels[20] == 21  # "other/not specified" and "writer" among TFDS's 22 classes
    assert set(range(22)) - set(labels) == {5, 10}  # entertainment and librarian are ml-100k's alone


def test_bad_users_of_ml_1m(tmp_path):
    users = ["1::F::24::1::1", "2::M::18::21::1", "3::X::18::1::1", "4::M::18::1", "5::M::18::01::1", "6::M::18::1::1"]
    data = movielens.read(write_1m(tmp_path, users=users), ML_1M, max_bad_share=1)
    assert data.users["user_id"].to_list() == ["6"]
    assert data.rejected.select("line", "kind").rows() == [
        (1, "bad age"), (2, "bad occupation"), (3, "bad gender"), (4, "missing or extra column"), (5, "bad occupation")
    ]  # fmt: skip
    assert "age group '24' is none of 1, 18, 25, 35, 45, 50, 56" in data.rejected["reason"][0]


def test_ml_10m_in_its_own_format(tmp_path):
    movies = [
        "122::Boomerang (1992)::Comedy|Romance",
        "260::Star Wars: Episode IV - A New Hope (a.k.a. Star Wars) (1977)::Action|Adventure|Sci-Fi",
        "8606::Pull My Daisy (1958)::(no genres listed)",
        "1176::Double Life of Veronique, The (Double Vie de Véronique, La) (1991)::Drama|IMAX",
    ]
    ratings = ["1::122::5::838985046", "1::260::4.5::838983525", "2::8606::0.5::868245777", "2::1176::3::868245778"]
    data = movielens.read(write_dat(tmp_path, ratings, movies), ML_10M)
    assert data.ratings["rating"].to_list() == [5.0, 4.5, 0.5, 3.0]
    assert data.movies["genres"].to_list() == [
        ["Comedy", "Romance"], ["Action", "Adventure", "Sci-Fi"], [], ["Drama", "IMAX"]
    ]  # fmt: skip
    assert data.movies["title"][1].startswith("Star Wars: Episode IV") and "Véronique" in data.movies["title"][3]
    assert data.users.columns == ["user_id"]


def test_ml_10m_has_a_folder_of_another_name(tmp_path):
    write_dat(tmp_path / "ml-10M100K")
    assert movielens.read(movielens.locate(ML_10M, tmp_path, tmp_path), ML_10M).ratings.height == 100
    with pytest.raises(InputError, match=r"no file ratings\.dat"):
        movielens.locate(ML_1M, tmp_path, tmp_path)


def test_half_stars_where_the_edition_has_whole_ones(tmp_path):
    ratings = ["1::1::3.5::978300760", "1::2::0.5::978300760", "1::3::3::978300760"]
    whole = movielens.read(write_1m(tmp_path / "1m", ratings), ML_1M, max_bad_share=1)
    assert whole.rejected["kind"].to_list() == ["rating off its step", "rating out of range"]
    assert movielens.read(write_dat(tmp_path / "10m", ratings), ML_10M).rejected.is_empty()


def test_ml_25m_in_its_own_format(tmp_path):
    movies = [
        "1,Toy Story (1995),Adventure|Animation",
        '11,"American President, The (1995)",Comedy',
        '55603,"""Star"", They Say, a (2007)",Drama',
        "209171,Women of Devil's Island (1962),(no genres listed)",
    ]
    ratings = ["1,11,5.0,1147880044", "1,55603,3.5,1147868817", "3,209171,0.5,1439474476"]
    data = movielens.read(write_latest(tmp_path, ratings, movies), ML_25M)
    assert data.ratings["rating"].to_list() == [5.0, 3.5, 0.5]
    assert data.movies["title"].to_list()[1:3] == ["American President, The (1995)", '"Star", They Say, a (2007)']
    assert data.movies["genres"].to_list()[-1] == []


def test_no_fact_is_asked_for_that_no_edition_states():
    known = {fact.name for fact in features.USER_FACTS}
    for edition in editions.EDITIONS.values():
        if edition.users:
            facts = user_facts.of_columns(edition.users.columns).select
            stated = {fact.meta.output_name() for fact in facts}
            assert stated < known
            assert ("raw_user_age" in stated) == (edition.environment == editions.DEMOGRAPHICS)
        assert (edition.environment == editions.PLAIN) == (edition.users is None)


def test_folder_and_digest_of_an_edition_without_users(tmp_path):
    folder = write_dat(tmp_path)
    assert ML_10M.file_names == ("ratings.dat", "movies.dat")
    before = source_files.content_digest(folder, ML_10M)
    (folder / "tags.dat").write_text("1::1::dark hero::1\n")
    assert source_files.content_digest(folder, ML_10M) == before
