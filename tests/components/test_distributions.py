"""Drift, skew and new vocabulary on small data with a known answer; what was served, read back; what is accepted."""

import math

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from data_files import flags, rating_lines, write_100k
from example_gen_run import run_example_gen
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_serving.apis import prediction_log_pb2

from components import (
    acceptance,
    distribution_check,
    distributions,
    own_files,
    served_requests,
    span_ingestion,
    spans,
    statistics_page,
    vocabulary,
)
from components.distributions import DRIFT, NEW_VOCABULARY, SKEW, Measurement
from components.errors import InputError
from components.pinned_schema import pinned_schema
from serving import request_log
from trainer_modules import contract

SCHEMA = pinned_schema("demographics", 1.0, 5.0)
DIGEST = "d" * 64


def statistics(**columns):
    """Of one list of values a feature."""
    arrays = [pa.array([[value] for value in values]) for values in columns.values()]
    return stats_impl.generate_statistics_in_memory(
        pa.RecordBatch.from_arrays(arrays, list(columns)), tfdv.StatsOptions()
    )


def divergence(p, q):
    """Jensen-Shannon, base 2, by its definition."""
    p, q = np.array(p) / np.sum(p), np.array(q) / np.sum(q)
    middle = (p + q) / 2
    return sum(sum(a * math.log2(a / m) for a, m in zip(x, middle, strict=True) if a) / 2 for x in (p, q))


def test_drift_is_what_the_definitions_say():
    before = statistics(user_rating=[1.0] * 50 + [5.0] * 50, movie_genres=["War"] * 100,
                        movie_id=["1"] * 50 + ["2"] * 50)  # fmt: skip
    now = statistics(user_rating=[1.0] * 10 + [5.0] * 90, movie_genres=["War"] * 75 + ["Drama"] * 25,
                     movie_id=["1"] * 20 + ["2"] * 40 + ["3"] * 40)  # fmt: skip
    limits = {"user_rating": 0.1, "movie_genres": 0.5, "movie_id": 0.3, "user_gender": 0.1}
    found = {m.feature: m for m in distributions.drift("train", now, before, SCHEMA, limits)}
    assert set(found) == {"user_rating", "movie_genres", "movie_id"}
    assert found["user_rating"].value == pytest.approx(divergence([50, 50], [10, 90]), abs=1e-3)
    assert found["movie_genres"].value == pytest.approx(divergence([1, 0], [0.75, 0.25]), abs=1e-6)
    assert found["movie_id"].value == pytest.approx(0.4)  # of movie 3
    assert {name for name, m in found.items() if m.is_breach} == {"user_rating", "movie_id"}
    assert not any(m.value for m in distributions.drift("train", now, now, SCHEMA, limits))

    anomalies = distributions.anomalies(found.values())
    assert set(anomalies.anomaly_info) == {"user_rating", "movie_id"}
    told = anomalies.anomaly_info["movie_id"].description
    assert told == "drift: largest change of one value's share 0.4000, the limit is 0.3"


def test_new_vocabulary_is_counted_in_rows(tmp_path):
    lines = rating_lines()  # 10 users, 10 of 12 movies each

    def counted(name, ratings, movies=None):
        made = run_example_gen(tmp_path / name, write_100k(tmp_path / f"{name}-in", ratings, movies), "ml-100k")
        return vocabulary.count(made["catalog"], made["user_state"])

    before = counted("before", lines)
    rows = {key: count for *key, count in before.iter_rows() for key in [tuple(key)]}
    assert rows["user_id", "3"] == 9, "ten less the test row"
    assert sum(count for (feature, _), count in rows.items() if feature == "movie_id") == 90
    assert rows["movie_title", "movie"] == 90 and ("movie_title", "1981") not in rows, "the year is no word"
    assert rows["movie_genres", "Drama"] == 90
    assert rows["user_occupation_text", "writer"] == 90
    assert not [key for key in rows if key[1] == "12"], "a movie that nobody rated is in no vocabulary"

    extra = [line.replace("10\t", "11\t", 1) for line in lines if line.startswith("10\t")]  # one user more
    movies = [f"{i}|Film {i} (1990)||||{flags('Action' if i == 1 else 'Drama')}" for i in range(1, 13)]
    limits = dict.fromkeys(("user_id", "movie_id", "movie_genres", "movie_title"), 0.2)
    now = counted("now", lines + extra, movies)
    found = {m.feature: m for m in vocabulary.new_shares(now, before, limits)}
    assert {m.kind for m in found.values()} == {NEW_VOCABULARY}
    assert found["user_id"].value == pytest.approx(9 / 99)
    assert found["movie_id"].value == 0
    assert found["movie_genres"].value == pytest.approx(11 / 99), "that of movie 1, which all 11 users rated early"
    assert found["movie_title"].value == pytest.approx(0.5), "film, beside the numbers"
    assert [name for name, m in found.items() if m.is_breach] == ["movie_title"]


def test_the_newest_span_is_compared_with_the_one_before(tmp_path):
    """The window would dilute it: a tenth of the rows has the new genre, but half of the newest span's."""
    movies = [f"{i},M {i} (1990),{'War|Drama' if i < 10 else 'Horror'}" for i in range(1, 20)]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies]))
    base = span_ingestion.Base(own_files.layout((0.5, 5.0)), "", None)
    for day, (users, numbers) in enumerate([(40, range(1, 10)), (9, range(1, 10)), (10, range(5, 15))]):
        rows = [f"{day * 100 + user},{i},{1 + user % 5},{900_000_000 + user}" for user in range(users) for i in numbers]
        (tmp_path / "day.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows]))
        found = [tmp_path / "movies.csv"] if day == 0 else []
        span_ingestion.ingest(
            tmp_path / "spans", [tmp_path / "day.csv"], found, lambda: base, {"ratings": {}, "movies": {}}, 0.01,
            tmp_path / "rejected",
        )  # fmt: skip
    limits = {"min_rows": 50, "drift": {"movie_genres": 0.1, "user_rating": 0.1}}
    schema = pinned_schema("own", 0.5, 5.0)

    def found(numbers, **changed):
        told = {"input_path": str(tmp_path / "spans"), "spans": str(numbers)}
        return distribution_check._span_drift(told, schema, {**limits, **changed})

    numbers = [span.number for span in spans.listed(tmp_path / "spans").spans]
    by_feature = {m.feature: m for m in found(numbers)}
    assert {m.split for m in by_feature.values()} == {f"span-{numbers[-1]}"}
    assert by_feature["movie_genres"].is_breach and not by_feature["user_rating"].is_breach
    assert by_feature["movie_genres"].value == pytest.approx(divergence([90, 90, 0], [50, 50, 50]), abs=1e-6)
    assert found(numbers[-1:]) == found(numbers), "that before it need not be in the window"
    assert not [m for m in found(numbers[:2]) if m.is_breach]
    assert found(numbers[:1]) == [] == found([])
    assert found(numbers, min_rows=1000) == []


def predict_log(signature, **inputs):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return log.SerializeToString()


def example(**lists):
    kinds = {bytes: ("bytes_list", tf.train.BytesList), float: ("float_list", tf.train.FloatList)}
    features = {}
    for name, values in lists.items():
        field, kind = kinds[type(values[0])]
        features[name] = tf.train.Feature(**{field: kind(value=values)})
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture
def log_path(tmp_path):
    """Every kind of request, and a tail that a killed server left."""
    other = prediction_log_pb2.PredictionLog()
    other.classify_log.request.model_spec.name = "x"
    records = [
        predict_log(contract.RANK, user_id=[b"hash"], movie_id=[[b"1", b"2", b""]]),
        predict_log(contract.RANK_FOR_HISTORY, movie_id=[[b"3"]], history_movie_id=[[b"", b"1"]],
                    history_rating=[[0.0, 4.0]]),
        predict_log(contract.RECOMMEND, user_id=[b"hash"], k=[10], exclude_movie_id=[[b"9"]]),
        predict_log(contract.SIMILAR, movie_id=[b"7"]),
        predict_log(contract.SERVING_DEFAULT, examples=[example(movie_id=[b"2"], history_rating=[5.0, 3.0],
                                                                 history_movie_id=[b"1", b"4"])]),
        other.SerializeToString(),
    ]  # fmt: skip
    path = tmp_path / "log"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    path.write_bytes(path.read_bytes() + (500).to_bytes(8, "little") + b"cut short")
    return path


def test_logged_requests_are_read_up_to_a_damaged_tail(log_path, tmp_path):
    served = served_requests.read([log_path])
    assert served.num_requests == 5
    assert served.movie_id.tolist() == [b"1", b"2", b"3", b"2"], "neither padding, exclusions nor `similar`"
    assert served.history_movie_id.tolist() == [b"1", b"1", b"4"]
    assert served.history_rating.tolist() == [4.0, 5.0, 3.0]
    assert served.unknown_share(pl.Series(["1", "2"])) == pytest.approx(2 / 7)
    zipped = tmp_path / "log.gz"
    with tf.io.TFRecordWriter(str(zipped), "GZIP") as writer:
        writer.write(predict_log(contract.RANK, movie_id=[[b"5"]]))
    assert served_requests.read([log_path, zipped]).movie_id.tolist()[-1] == b"5"


def test_what_our_own_request_log_writes_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log.RequestLog.close, "__defaults__", (60.0,))
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    request = prediction_log_pb2.PredictionLog.FromString(
        predict_log(contract.RANK_FOR_HISTORY, user_id=[b"7"], movie_id=[[b"3", b""]], history_movie_id=[[b"1"]],
                    history_rating=[[4.0]])
    ).predict_log.request  # fmt: skip
    for with_histories, stars in ((True, [4.0]), (False, [])):
        folder = tmp_path / f"log-{with_histories}"
        with request_log.RequestLog(folder, key, rate=1.0, with_histories=with_histories) as log:
            log.offer(request)
        served = served_requests.read(sorted(folder.iterdir()))
        assert (served.num_requests, served.movie_id.tolist()) == (1, [b"3"])
        assert served.history_rating.tolist() == stars


def test_what_is_no_log_is_named(tmp_path):
    for content, said in ((b"", "holds no record"), (b"userId,movieId\n1,2\n" * 9, "holds no record")):
        (tmp_path / "no.log").write_bytes(content)
        with pytest.raises(InputError, match=rf"--serving-log .*no\.log.*{said}"):
            served_requests.read([tmp_path / "no.log"])
    with tf.io.TFRecordWriter(str(tmp_path / "no.log")) as writer:
        writer.write(b"\xff\xff\xff")
    with pytest.raises(InputError, match="no PredictionLog"):
        served_requests.read([tmp_path / "no.log"])


def test_skew_compares_what_was_sent_with_what_was_trained_on():
    trained = statistics(user_rating=[1.0, 2.0, 3.0, 4.0, 5.0] * 20, movie_id=["1", "2"] * 50)
    alike = served_requests.Served(9, *(np.array(v, dtype=object) for v in ([b"1", b"2"] * 9, [b"2", b"1"] * 20)),
                                   np.array([1, 2, 3, 4, 5] * 8, np.float32))  # fmt: skip
    doubled = served_requests.Served(9, np.array([b"1"] * 18, dtype=object), alike.history_movie_id,
                                     2 * alike.history_rating)  # fmt: skip
    limits = {"movie_id": 0.2, "history_movie_id": 0.2, "history_rating": 0.2}

    def found(served):
        measured = distributions.skew("train", trained, served.statistics(), served_requests.COMPARED, limits)
        assert {m.kind for m in measured} == {SKEW}
        return {m.feature: m for m in measured}

    assert set(found(alike)) == set(limits)
    assert not [m for m in found(alike).values() if m.is_breach]
    breaches = {name: m.value for name, m in found(doubled).items() if m.is_breach}
    assert breaches == {"movie_id": pytest.approx(0.5), "history_rating": pytest.approx(breaches["history_rating"])}
    assert breaches["history_rating"] > 0.3


def test_what_is_accepted_is_in_the_schema():
    data = {"train": statistics(movie_genres=["War"] * 90 + ["Gossip"] * 10, user_rating=[3.0] * 100)}
    schema = pinned_schema("demographics", 1.0, 5.0)
    for feature in [f for f in schema.feature if f.name not in ("movie_genres", "user_rating")]:
        schema.feature.remove(feature)
    breach = Measurement(DRIFT, "train", "user_rating", "divergence", 0.3, 0.1)
    fine = Measurement(DRIFT, "train", "movie_genres", "divergence", 0.01, 0.1)
    assert set(tfdv.validate_statistics(data["train"], schema).anomaly_info) == {"movie_genres"}
    changed, said = acceptance.accept(schema, data, [breach, fine], DIGEST)
    assert not tfdv.validate_statistics(data["train"], changed).anomaly_info
    assert len(said) == 2 and "Gossip" in said[0] and "0.3000, the limit is 0.1" in said[1]
    assert acceptance.is_accepted(changed, breach, DIGEST)
    assert not acceptance.is_accepted(changed, breach, "e" * 64), "of these data alone"
    assert not acceptance.is_accepted(changed, fine, DIGEST)
    assert not acceptance.is_accepted(schema, breach, DIGEST)
    assert acceptance.accept(changed, data, [breach, fine], DIGEST) == (changed, [])


def test_the_page_tells_without_a_network():
    data = {split: statistics(user_rating=[1.0, 5.0], movie_id=["<b>", "2"]) for split in ("train", "eval", "test")}
    breach = Measurement(DRIFT, "train", "user_rating", "divergence", 0.3, 0.1)
    page = statistics_page.page("Data d", "nothing before", data, {}, [breach])
    plain = page[: page.index("Facets")]
    for said in ("user_rating", "&lt;b&gt;", "0.3000", "breach", "nothing before", "1 to 5", "test, 2 examples"):
        assert said in plain, said
    assert "<b>" not in plain
    assert "facets-overview" in page
