"""The ExampleGen's three outputs: what is in every example, from plain Python; and what it says of itself."""

import collections
import pathlib

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to
from data_files import write_100k, write_latest
from example_gen_run import (
    BEAM_ARGUMENTS,
    as_dict,
    examples,
    num_records,
    paths,
    records,
    records_of_file,
    run_example_gen,
)
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components import columnar, evaluation_data, example_shards, movielens, splits
from components.errors import InputError
from components.movielens_example_gen import MovieLensExampleGen
from trainer_modules import features

REAL = pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
H = features.HISTORY_LENGTH
ALL_OF = (features.USER_ID, features.TIMESTAMP)

RATINGS = [
    # user, movie, stars, seconds; the line is the position. User 1 has more than one row a second.
    (1, 3, 5, 200), (1, 1, 4, 100), (2, 2, 3, 50), (1, 2, 2, 200), (3, 1, 1, 10), (1, 4, 3, 300), (2, 5, 4, 40),
    (1, 5, 1, 300), (4, 6, 2, 7), (4, 5, 3, 8), (4, 4, 4, 9), (4, 3, 5, 9), (4, 2, 1, 30), (4, 1, 2, 20), (3, 6, 5, 10),
]  # fmt: skip


@pytest.fixture
def source(tmp_path):
    rows = ["\t".join(map(str, row)) for row in RATINGS]
    users = ["1|30|M|writer|1", "2|17|F||2", "4|60|M|none|4", "9|25|F|artist|9"]  # 3 has no facts, 9 no ratings
    return write_100k(tmp_path / "in", ratings=rows, users=users)


def expected(split, length=H, is_timeless=False):
    """user, movie -> split, history, by the rules and nothing clever."""
    array = [(*row, line) for line, row in enumerate(RATINGS, start=1)]
    by_user = collections.defaultdict(list)
    for user, movie, stars, seconds, line in array:
        by_user[user].append((seconds, line, movie, stars))
    codes = dict(zip(range(1, len(array) + 1), split, strict=True))
    found = {}
    for user, rows in by_user.items():
        rows.sort()
        for seconds, line, movie, _ in rows:
            mine = codes[line]
            if mine == 0:
                past = [row for row in rows if codes[row[1]] == 0 and row[1] != line]
                past = [row for row in past if is_timeless or row[:2] < (seconds, line)]
            else:
                past = [row for row in rows if codes[row[1]] < mine]
            past = past[-length:]
            empty = H - len(past)
            found[user, movie] = {
                "split": features.SPLITS[mine],
                "source_line": [line],
                "history_movie_id": [""] * empty + [str(row[2]) for row in past],
                "history_rating": [0.0] * empty + [row[3] for row in past],
                "history_timestamp": [0] * empty + [row[0] for row in past],
            }
    return found


def splits_of(name):
    users, seconds = ([row[i] for row in RATINGS] for i in (0, 3))
    return splits.assign(
        name,
        user_index=np.array(users),
        timestamp=np.array(seconds),
        source_line=np.arange(1, len(RATINGS) + 1),
        seed=7,
    ).tolist()


@pytest.mark.parametrize(
    "name, length, rows_per_shard", [("leave_last_out", H, 250_000), ("global_time", 3, 4), ("random", 2, 4)]
)
def test_every_example_is_what_the_rules_say(tmp_path, source, monkeypatch, name, length, rows_per_shard):
    monkeypatch.setattr(example_shards, "ROWS_PER_SHARD", rows_per_shard)
    monkeypatch.setattr(columnar, "BATCH_ROWS", 3)
    output = run_example_gen(tmp_path / "out", source, "ml-100k", split=name, history_length=length)
    rules, facts = expected(splits_of(name), length, name == "random"), {1: [30.0], 2: [17.0], 4: [60.0]}
    seen = []
    for split in features.SPLITS:
        assert len(paths(output["examples"], split)) == max(1, round(len(RATINGS) / rows_per_shard))
        for example in examples(output["examples"], split):
            user, movie = int(example["user_id"][0]), int(example["movie_id"][0])
            rule = dict(rules[user, movie])
            assert rule.pop("split") == split
            assert rule == {key: example[key] for key in rule}
            assert example["movie_title"] == [f"Movie {movie} (19{80 + movie})"]
            assert example["movie_genres"] == ["Drama"]
            _, _, stars, seconds = RATINGS[example["source_line"][0] - 1]
            assert (example["user_rating"], example["timestamp"]) == ([stars], [seconds])
            assert example.get("raw_user_age") == facts.get(user)
            assert ("user_occupation_text" in example) == (user in (1, 4))
            absent = {"user_occupation_label"} | set(() if user in facts else (f.name for f in features.USER_FACTS))
            absent |= set() if user != 2 else {"user_occupation_text"}
            assert set(example) == {f.name for f in features.RATING_EXAMPLE} - absent
            seen.append((user, movie))
    assert sorted(seen) == sorted(rules)


@pytest.mark.parametrize("name, rows_per_shard", [("leave_last_out", 250_000), ("global_time", 4), ("random", 4)])
def test_user_state_holds_each_row_once_in_its_split(tmp_path, source, monkeypatch, name, rows_per_shard):
    monkeypatch.setattr(example_shards, "ROWS_PER_SHARD", rows_per_shard)
    monkeypatch.setattr(columnar, "BATCH_ROWS", 1)
    state = run_example_gen(tmp_path / "out", source, "ml-100k", split=name)["user_state"]
    codes = splits_of(name)
    for code, split in enumerate(features.SPLITS):
        mine = collections.defaultdict(list)
        for (user, movie, stars, seconds), at, line in zip(RATINGS, codes, range(len(RATINGS)), strict=True):
            if at == code:
                mine[str(user)].append((seconds, line, str(movie), stars))
        if split == features.TRAIN:
            mine["9"] = []
        found = {example["user_id"][0]: example for example in examples(state, split)}
        assert set(found) == set(mine)
        for user, rows in mine.items():
            rows.sort()
            assert found[user]["state_movie_id"] == [row[2] for row in rows]
            assert found[user]["state_rating"] == [row[3] for row in rows]
            assert found[user]["state_timestamp"] == [row[0] for row in rows]
            assert found[user].get("user_gender") == {"1": [1], "2": [0], "4": [1], "9": [0]}.get(user)


def test_catalog_stands_in_the_order_of_the_file(tmp_path):
    movies = ["7,Zoo (1990),Drama|War", "3,Ärger (1991),(no genres listed)", "11,Zoo (1990),Comedy"]
    rows = [f"{user},{movie},{stars},9" for user in range(4) for movie, stars in ((3, 0.5), (7, 5), (11, 3))]
    output = run_example_gen(tmp_path / "out", write_latest(tmp_path / "in", rows, movies), "ml-latest-small")
    catalog = examples(output["catalog"], features.ALL)
    assert [(e["movie_id"], e["movie_title"], e["movie_genres"]) for e in catalog] == [
        (["7"], ["Zoo (1990)"], ["Drama", "War"]),
        (["3"], ["Ärger (1991)"], []),
        (["11"], ["Zoo (1990)"], ["Comedy"]),
    ]
    rating = examples(output["examples"], features.TEST)[0]
    assert not any(fact.name in rating for fact in features.USER_FACTS)


def test_artifacts_say_what_is_in_them(tmp_path, source, caplog):
    with (source / "u.data").open("a") as file:
        file.write("1\t3\t5\t200\n1\t3\t4\t100\n1\t3\t9\t100\n")
    caplog.set_level("INFO", "movierec")
    output = run_example_gen(tmp_path / "out", source, "ml-100k", max_bad_share=0.1)
    assert "15 ratings of 12 movies: 9 train, 2 eval, 4 test" in caplog.text
    made = output["examples"]
    counts = {name: made.get_int_custom_property(name) for name in ("num_rows_in", "num_rows")}
    assert counts == {"num_rows_in": 18, "num_rows": 15}
    assert made.get_int_custom_property("num_duplicates") == 1
    assert made.get_int_custom_property("num_rejected") == 2
    assert made.get_string_custom_property("dataset") == "ml-100k"
    assert made.get_string_custom_property("split") == "leave_last_out"
    assert len(made.get_string_custom_property("data_digest")) == 64
    for key, names in (("examples", features.SPLITS), ("user_state", features.SPLITS), ("catalog", (features.ALL,))):
        assert tuple(artifact_utils.decode_split_names(output[key].split_names)) == names
        assert examples_utils.get_payload_format(output[key]) == example_gen_pb2.FORMAT_TF_EXAMPLE
        assert examples_utils.get_file_format(output[key]) == "tfrecords_gzip"
        assert (output[key].span, output[key].version) == (0, 0)
        assert all(path.endswith(".gz") and "data_tfrecord-0000" in path for path in paths(output[key], names[0]))


def test_beam_reads_files_without_records(tmp_path, source, monkeypatch):
    monkeypatch.setattr(example_shards, "ROWS_PER_SHARD", 2)  # some shards hold users with two rows: nothing for eval
    output = run_example_gen(tmp_path / "out", source, "ml-100k")["examples"]
    counts = [len(examples_of_file) for examples_of_file in map(records_of_file, paths(output, features.EVAL))]
    assert 0 in counts and sum(counts) == 2
    with beam.Pipeline(argv=BEAM_ARGUMENTS) as pipeline:
        read = pipeline | beam.io.ReadFromTFRecord(f"{output.uri}/Split-{features.EVAL}/*")
        assert_that(read | beam.combiners.Count.Globally(), equal_to([2]))


def test_global_time_of_ml_100k(examples_of_ml_100k):
    output = examples_of_ml_100k("global_time")
    assert [num_records(output["examples"], split) for split in features.SPLITS] == [80_000, 10_000, 10_000]
    held_out = {split: evaluation_data.read(output["examples"].uri, split, ALL_OF) for split in features.SPLITS}
    fit = np.unique(np.concatenate([held_out[split]["user_id"] for split in features.FIT_SPLITS]))
    test = np.unique(held_out[features.TEST]["user_id"])
    assert (len(test), np.isin(test, fit).sum()) == (166, 90)
    for early, late in ((features.TRAIN, features.EVAL), (features.EVAL, features.TEST)):
        border = held_out[early]["timestamp"].max()
        assert border <= held_out[late]["timestamp"].min()
        some = [as_dict(record) for record in records(output["examples"], late, every=20)]
        assert max(example["history_timestamp"][-1] for example in some) <= border


def test_too_few_ratings_stop_it(tmp_path):
    rows = ["1\t1\t3\t5", "1\t2\t3\t6", "2\t1\t3\t5"]
    with pytest.raises(InputError, match="leaves no rating for eval"):
        run_example_gen(tmp_path / "out", write_100k(tmp_path / "in", ratings=rows), "ml-100k")


def test_settings_out_of_range_are_named():
    usual = {"input_path": "x", "dataset": "sample", "data_digest": "", "code": ""}
    with pytest.raises(InputError, match=r"history_length is 51.*1 to 50"):
        MovieLensExampleGen(**usual, history_length=51)
    with pytest.raises(InputError, match=r"max_bad_share is 1\.5"):
        MovieLensExampleGen(**usual, max_bad_share=1.5)


def test_ml_100k(examples_of_ml_100k):
    output = examples_of_ml_100k("leave_last_out")
    assert [num_records(output["examples"], split) for split in features.SPLITS] == [98_114, 943, 943]
    assert [num_records(output["user_state"], split) for split in features.SPLITS] == [943, 943, 943]
    test = {example["user_id"][0]: example for example in examples(output["examples"], features.TEST)}
    ratings = movielens.read(REAL / "ml-100k", movielens.get_edition("ml-100k")).ratings
    for user in ("1", "196", "405", "655", "943"):
        rows = ratings.filter(ratings["user_id"] == user).sort("timestamp", "source_line").rows()
        assert test[user]["movie_id"] == [rows[-1][1]]
        past = rows[:-1][-H:]
        assert test[user]["history_movie_id"] == [""] * (H - len(past)) + [row[1] for row in past]
        assert test[user]["history_timestamp"][-1] == past[-1][3]
