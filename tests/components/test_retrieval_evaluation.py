"""Retrieval on the test split: figures against plain loops, verdicts against every way to deserve one."""

import json
import math
import pathlib
import shutil

import numpy as np
import pytest
import toy_models
import toy_ring
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from components import baseline, evaluation_data, retrieval_evaluation, retrieval_protocol
from components.baseline import Baseline
from trainer_modules import contract, fit_pairs, top_k
from trainer_modules import features as f

ML_100K = pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "ml-100k"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    base = tmp_path_factory.mktemp("world")
    return toy_ring.write_world(base, toy_ring.ring_world(num_cold_users=2))


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """Saves a toy once per set of arguments."""
    base, saved = tmp_path_factory.mktemp("models"), {}

    def path(**arguments):
        key = repr(sorted(arguments.items()))
        if key not in saved:
            model = toy_models.ToyRetrieval(**{"ring": 1.0, **arguments})
            saved[key] = baseline.saved_model_path(toy_models.save(model, base / str(len(saved))))
        return saved[key]

    return path


def evaluate(world, path, last_blessed=None, gates=None):
    return retrieval_evaluation.evaluate(
        path, last_blessed, world["examples"], world["catalog"], world["user_state"], gates or {}
    )


def by_hand(score_of):
    """The protocol in plain loops: score_of(newest movie or None, movie) -> score."""
    rows = toy_ring.ring_world(2)
    ndcg, mrr, shown = [], [], set()
    for user_id, positive, _, _ in rows.test:
        fit = [movie for user, movie, _, _ in rows.train + rows.eval if user == user_id]
        newest = fit[-1] if fit else None
        left = [movie for movie in range(toy_ring.NUM_MOVIES) if movie not in fit]
        ranked = sorted(left, key=lambda movie: (-score_of(newest, movie), movie))
        rank = ranked.index(positive) + 1
        ndcg.append(1 / math.log2(rank + 1) if rank <= 10 else 0.0)
        mrr.append(1 / rank)
        shown |= set(ranked[:10])
    return {
        "ndcg_at_10": np.mean(ndcg), "mrr_at_100": np.mean(mrr), "coverage_at_10": len(shown) / toy_ring.NUM_MOVIES,
    }  # fmt: skip


def follows(newest, movie):
    return float(newest is not None and movie == (newest + 1) % toy_ring.NUM_MOVIES)


def test_the_figures_are_those_of_plain_loops(world, model_path):
    report = evaluate(world, model_path())
    assert report["blessed"] and report["reasons"] == [] and report["num_queries"] == toy_ring.NUM_USERS + 2
    for name, value in by_hand(follows).items():
        assert report["metrics"][name] == pytest.approx(value), name
    assert report["metrics"]["recall_at_10"] == 1.0  # everyone's next movie, and two cold users' first and second
    fit = toy_ring.ring_world().train + toy_ring.ring_world().eval
    counts = np.bincount([row[1] for row in fit], minlength=toy_ring.NUM_MOVIES)
    newest_s = max(row[3] for row in fit)
    decayed = np.zeros(toy_ring.NUM_MOVIES)
    for _, movie, _, timestamp_s in fit:
        decayed[movie] += 0.5 ** ((newest_s - timestamp_s) / (3 * toy_ring.DAY_S))
    for name, score in (("popularity", counts), ("recent_popularity", decayed)):
        for metric, value in by_hand(lambda _, movie, score=score: score[movie]).items():
            assert report["baselines"][name][metric] == pytest.approx(value), (name, metric)


def test_popularity_served_by_a_model_is_popularity(world, model_path):
    fit = toy_ring.ring_world().train + toy_ring.ring_world().eval
    counts = np.bincount([row[1] for row in fit], minlength=toy_ring.NUM_MOVIES).tolist()
    report = evaluate(world, model_path(ring=0.0, base=counts))
    assert report["metrics"] == report["baselines"]["popularity"]
    assert [line for line in report["reasons"] if "does not beat popularity's" in line]




@pytest.mark.parametrize(
    "arguments, gates, reason",
    [
        ({"ring": -1.0}, {}, "does not beat popularity's"),
        ({"fault": "shows_seen"}, {}, "already seen"),
        ({"fault": "repeats"}, {}, "name a movie twice"),
        ({}, {"ndcg_at_10": {"min": 0.999}}, "not good enough"),
        ({}, {"ndcg_at_10": {"min": 0.1, "max": 0.9}}, "too good to be true"),
        ({}, {"ndcg_at_11": {"min": 0.1}}, "was not measured"),
    ],
)
def test_each_reason_to_refuse(world, model_path, arguments, gates, reason):
    report = evaluate(world, model_path(**arguments), gates=gates)
    assert not report["blessed"]
    assert [line for line in report["reasons"] if reason in line], report["reasons"]


def test_gates_that_hold_do_not_bind(world, model_path):
    gates = {"ndcg_at_10": {"min": 0.5, "max": None}, "recall_at_100": {"max": 1.0}}
    assert evaluate(world, model_path(), gates=gates)["blessed"]


def last_blessed_of(world, path, version="4", user_state_uri=None):
    return Baseline(path, version, user_state_uri or world["user_state"])


def test_worse_than_the_last_blessed_beyond_noise_is_refused(world, model_path):
    # Worth something, so that it beats popularity, but far from the ring that the last blessed model knows.
    base = np.zeros(toy_ring.NUM_MOVIES)
    base[[row[1] for row in toy_ring.ring_world().test[:6]]] = 1.0
    report = evaluate(world, model_path(ring=0.0, base=base.tolist()), last_blessed_of(world, model_path()))
    assert [line for line in report["reasons"] if "below the last blessed model's (version 4), beyond noise" in line]
    compared = report["last_blessed"]
    assert compared["gated"] and compared["metrics"]["recall_at_10"] == 1.0
    assert compared["difference"]["low"] < compared["difference"]["mean"] < compared["difference"]["high"] < 0
    measured = report["metrics"]["ndcg_at_10"] - compared["metrics"]["ndcg_at_10"]
    assert compared["difference"]["mean"] == pytest.approx(measured)


def test_no_worse_than_the_last_blessed_is_blessed(world, model_path):
    report = evaluate(world, model_path(), last_blessed_of(world, model_path(ring=2.0)))
    assert report["blessed"] and report["last_blessed"]["gated"]
    assert report["last_blessed"]["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert set(report["differences"]) == {"popularity", "recent_popularity", "last_blessed"}


def test_a_baseline_that_knows_todays_test_rows_is_shown_and_not_gated_on(world, model_path, tmp_path):
    # Yesterday's data had today's test rows of two users among its fit rows.
    rows = toy_ring.ring_world()
    rows.eval += rows.test[:2]
    yesterday = toy_ring.write_world(tmp_path, rows)
    last = last_blessed_of(world, model_path(), user_state_uri=yesterday["user_state"])
    report = evaluate(world, model_path(ring=0.0), last)
    assert not report["last_blessed"]["gated"]
    assert "fitted on 2 of today's 26 test rows" in report["last_blessed"]["note"]
    assert report["last_blessed"]["metrics"]["recall_at_10"] == 1.0
    assert not [line for line in report["reasons"] if "last blessed" in line]


def test_a_baseline_that_cannot_be_judged_does_not_stand_in_the_way(world, model_path, tmp_path):
    gone = evaluate(world, model_path(), last_blessed_of(world, model_path(), user_state_uri=str(tmp_path / "gone")))
    assert gone["blessed"] and not gone["last_blessed"]["gated"] and "cannot be read" in gone["last_blessed"]["note"]
    broken = evaluate(world, model_path(), last_blessed_of(world, model_path(fault="fails")))
    assert broken["blessed"] and "cannot answer today's requests" in broken["last_blessed"]["note"]


def test_the_state_of_the_test_split_is_not_opened(world, model_path, tmp_path):
    for name in ("examples", "catalog", "user_state"):
        shutil.copytree(world[name], tmp_path / name)
    shutil.rmtree(tmp_path / "user_state" / "Split-test")
    shutil.rmtree(tmp_path / "examples" / "Split-train")
    uris = {name: str(tmp_path / name) for name in world}
    assert evaluate(uris, model_path())["metrics"] == evaluate(world, model_path())["metrics"]


def test_a_model_without_the_signature_is_named(world, tmp_path):
    path = baseline.saved_model_path(toy_models.save(toy_models.ToyRanking(), tmp_path / "model"))
    with pytest.raises(ValueError, match="lacks the signature recommend_for_history; it has popular"):
        evaluate(world, path)


def test_requests_hold_the_whole_history_and_everything_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(f, "HISTORY_LENGTH", 20)  # what a sequence tower reads is the model's affair
    early = [("u0", movie, 3.0, 100 + movie) for movie in range(30)]
    late = [("u0", movie, 4.0, 500 + movie) for movie in range(38, 29, -1)]
    other = [("u1", 7, 2.0, 5)]
    test = [("u0", 39, 5.0, 900), ("u1", 3, 5.0, 901), ("cold0", 1, 1.0, 902)]
    uris = toy_ring.write_world(tmp_path, toy_ring.World(early + other, late, test))
    catalog = evaluation_data.read_catalog(uris["catalog"])
    queries = retrieval_protocol.read_queries(uris["examples"], uris["user_state"], catalog)
    [(rows, request)] = list(retrieval_protocol.requests(queries))
    by_user = {
        user.decode(): {name: tensor.numpy()[place] for name, tensor in request.items()}
        for place, user in enumerate(queries.user_id[rows])
    }
    u0 = by_user["u0"]
    ids = [movie.decode() for movie in u0[contract.HISTORY_MOVIE_ID]]
    assert ids == [f"m{n}" for n in range(39)]
    assert u0[contract.HISTORY_RATING][-1] == 4.0 and u0[contract.HISTORY_RATING][0] == 3.0
    assert u0[contract.HISTORY_TIMESTAMP][-1] == u0[contract.QUERY_TIMESTAMP] == 538
    assert {movie.decode() for movie in u0[contract.SEEN_MOVIE_ID]} == {f"m{n}" for n in range(39)}
    cold = by_user["cold0"]
    assert not any(cold[contract.HISTORY_MOVIE_ID]) and not any(cold[contract.SEEN_MOVIE_ID])
    assert cold[contract.QUERY_TIMESTAMP] == 0
    u1 = by_user["u1"]
    assert [movie.decode() for movie in u1[contract.HISTORY_MOVIE_ID]] == [""] * 38 + ["m7"]
    assert u1[contract.HISTORY_RATING][0] == 0.0 and u1[contract.SEEN_MOVIE_ID][0] == b"m7"


def test_one_list_for_all_is_the_masked_top_k():
    random = np.random.default_rng(3)
    score = random.integers(0, 5, 300).astype(float)  # full of ties
    seen = [random.choice(300, size, replace=False) for size in (0, 1, 150, 250)]
    ragged = evaluation_data.Ragged(np.concatenate(seen), np.concatenate([[0], np.cumsum([len(one) for one in seen])]))
    states = evaluation_data.UserStates(np.array([b"a"]), np.array([0, 0]), *(np.array([]) for _ in range(3)))
    users = np.array([b"a", b"b", b"c", b"d"])
    queries = retrieval_protocol.Queries(users, ragged, np.full(4, -1), states, {})
    found = retrieval_protocol.recommend_by_score(score, queries, ragged)
    padded = np.full((4, 250), -1)
    for row, one in enumerate(seen):
        padded[row, : len(one)] = one
    best = top_k.top_k_numpy(top_k.mask_numpy(np.tile(score, (4, 1)), padded), np.full(4, 100))
    assert (found == best.position).all()
    assert (found[3] == -1).sum() == 50


def test_the_interval_is_seeded_and_about_as_wide_as_it_should_be():
    difference = np.random.default_rng(1).normal(0.1, 1.0, 900)
    low, high = retrieval_protocol.bootstrap_interval(difference)
    assert (low, high) == retrieval_protocol.bootstrap_interval(difference)
    both = retrieval_protocol.bootstrap_interval(np.stack([difference, difference + 1.0], axis=1))
    np.testing.assert_allclose(both, [[low, low + 1], [high, high + 1]])
    assert (high - low) / 2 == pytest.approx(1.96 / math.sqrt(900), rel=0.15)
    assert low < difference.mean() < high


def test_the_executor_blesses_as_tfx_does(world, model_path, tmp_path):
    def artifact(kind, uri, number=0):
        made = kind()
        made.uri, made.id = str(uri), number
        return made

    last = artifact(standard_artifacts.Model, tmp_path / "last", 5)
    shutil.copytree(model_path(), tmp_path / "last" / "Format-Serving")
    origin = {"model_id": 3, "model_uri": "x", "user_state_uri": world["user_state"], "version": "2"}
    (tmp_path / "last" / "baseline.json").write_text(json.dumps(origin))
    for number, (arguments, blessed) in enumerate([({}, True), ({"ring": -1.0}, False)]):
        inputs = {name: [artifact(standard_artifacts.Examples, uri)] for name, uri in world.items()}
        model = artifact(standard_artifacts.Model, pathlib.Path(model_path(**arguments)).parent, 11)
        outputs = {
            "evaluation": [artifact(standard_artifacts.ModelEvaluation, tmp_path / f"evaluation{number}")],
            "blessing": [artifact(standard_artifacts.ModelBlessing, tmp_path / f"blessing{number}")],
        }
        retrieval_evaluation.Executor().Do(
            {"model": [model], "baseline_model": [last], **inputs}, outputs, {"gates": "{}", "code": "c"}
        )
        [blessing], [evaluation] = outputs["blessing"], outputs["evaluation"]
        report = json.loads((pathlib.Path(evaluation.uri) / "metrics.json").read_text())
        assert report["model"] == "retrieval" and report["split"] == "test" and report["last_blessed"]["version"] == "2"
        assert report["blessed"] is blessed and model_utils.is_model_blessed(blessing) is blessed
        assert [path.name for path in pathlib.Path(blessing.uri).iterdir()] == ["BLESSED" if blessed else "NOT_BLESSED"]
        assert blessing.get_int_custom_property("current_model_id") == 11
        assert blessing.get_string_custom_property("current_model") == model.uri
        assert blessing.get_int_custom_property("baseline_model_id") == 5
        assert blessing.get_string_custom_property("baseline_model") == last.uri


def test_popularity_on_real_data_is_what_the_protocol_is_known_for(tmp_path):
    if not ML_100K.is_dir():
        pytest.skip(f"no ml-100k in {ML_100K}")
    rows = [line.split("\t") for line in (ML_100K / "u.data").read_text().splitlines()]
    by_user = {}
    for user_id, movie_id, _, timestamp_s in rows:
        by_user.setdefault(user_id, []).append((int(timestamp_s), movie_id))
    states = {split: [] for split in f.SPLITS}
    test = []
    for user_id, past in by_user.items():
        past.sort(key=lambda row: row[0])
        for split, part in ((f.TRAIN, past[:-2]), (f.EVAL, past[-2:-1])):
            states[split].append(
                toy_ring.example(
                    {
                        "user_id": user_id,
                        "state_movie_id": [movie_id for _, movie_id in part],
                        "state_rating": [3.0] * len(part),
                        "state_timestamp": [timestamp_s for timestamp_s, _ in part],
                    }
                )
            )
        test.append(toy_ring.example({"user_id": user_id, "movie_id": past[-1][1]}))
    movies = [line.split("|")[0] for line in (ML_100K / "u.item").read_text(encoding="latin-1").splitlines()]
    toy_ring.write_split(tmp_path / "examples", f.TEST, test)
    toy_ring.write_split(tmp_path / "catalog", f.ALL, [toy_ring.example({"movie_id": movie}) for movie in movies])
    for split in f.FIT_SPLITS:
        toy_ring.write_split(tmp_path / "state", split, states[split])
    catalog = evaluation_data.read_catalog(str(tmp_path / "catalog"))
    queries = retrieval_protocol.read_queries(str(tmp_path / "examples"), str(tmp_path / "state"), catalog)
    counts = np.bincount(catalog.positions(queries.states.movie_id), minlength=catalog.num_movies)
    seen = retrieval_protocol.seen_positions(queries, catalog)
    recommended = retrieval_protocol.recommend_by_score(counts, queries, seen)
    found = retrieval_protocol.summary(retrieval_protocol.measure(recommended, queries.positives))
    known = {"ndcg_at_10": 0.0450, "recall_at_10": 0.086, "recall_at_20": 0.126, "recall_at_100": 0.317}
    for name, value in known.items():
        assert found[name] == pytest.approx(value, abs=0.002), name


@pytest.mark.parametrize("num_known, refused", [(0, None), (1, False), (3, True)])
def test_a_warm_start_that_knows_test_rows_is_told_and_beyond_a_share_refused(
    world, tmp_path, monkeypatch, num_known, refused
):
    monkeypatch.setattr(baseline, "MAX_KNOWN_SHARE", 0.1)  # of 26 test rows
    known = [(user, toy_ring.MOVIE_IDS[movie]) for user, movie, _, _ in toy_ring.ring_world(2).test[:num_known]]
    ids = np.array(known, "S20").reshape(-1, 2).T
    uri = toy_models.save(toy_models.ToyRetrieval(ring=1.0), tmp_path / "warm")
    fit_pairs.write(str(uri), fit_pairs.hashes(fit_pairs.join(*ids)))
    report = evaluate(world, baseline.saved_model_path(str(uri)))
    if refused is None:
        assert report["warm_start"] is None and report["blessed"]
        return
    assert report["warm_start"]["num_known"] == num_known and report["warm_start"]["refused"] is refused
    assert report["blessed"] is not refused
    said = [line for line in report["reasons"] if "without --warm-start" in line]
    assert bool(said) is refused
    # Who is compared with such a model is not held to it, however little it remembers itself.
    note = baseline.objection(baseline.Baseline("", "1", "", str(uri)), evaluation_data.pairs(*ids))
    assert f"fitted on {num_known} of" in note
