"""Ranking on the test split: TFMA's figures against NumPy, and verdicts against every way to deserve one."""

import json
import math
import pathlib

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
import toy_components
import toy_models
import toy_ring
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from components import baseline, ranking_evaluation, ranking_protocol
from trainer_modules import baselines
from trainer_modules import features as f

BEAM_ARGUMENTS = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_running_mode=in_memory",
    "--sdk_container_image=unused",  # else TFX packs itself up for workers that are not there
]


def artifact(kind, uri, number=0):
    made = kind()
    made.uri, made.id = str(uri), number
    return made


class Evaluated:
    """One run of the executor."""

    def __init__(self, base, world, model, last_blessed=None, last_state_uri=None, gates=None, full=False):
        inputs = {name: [artifact(standard_artifacts.Examples, uri)] for name, uri in world.items()}
        inputs["examples"][0].split_names = json.dumps(list(f.SPLITS))
        inputs["examples"][0].set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
        inputs["examples"][0].set_string_custom_property("file_format", "tfrecords_gzip")
        inputs["model"] = [artifact(standard_artifacts.Model, toy_models.save(model, base / "model"), 11)]
        last = artifact(standard_artifacts.Model, base / "last", 7)
        (base / "last").mkdir()
        origin = {}
        if last_blessed is not None:
            toy_models.save(last_blessed, last.uri)
            origin = {"version": "3", "user_state_uri": last_state_uri or world["user_state"], "model_uri": "/nowhere"}
        (base / "last" / "baseline.json").write_text(json.dumps(origin))
        inputs["baseline_model"] = [last]
        self.blessing = artifact(standard_artifacts.ModelBlessing, base / "blessing")
        evaluation = artifact(standard_artifacts.ModelEvaluation, base / "evaluation")
        executor = ranking_evaluation.Executor(
            ranking_evaluation.Executor.Context(
                beam_pipeline_args=BEAM_ARGUMENTS, tmp_dir=str(base / "tmp"), unique_id="1"
            )
        )
        executor.Do(
            inputs,
            {"evaluation": [evaluation], "blessing": [self.blessing]},
            {
                "example_splits": json.dumps(["test"]),
                "gates": json.dumps(gates or {}),
                "full_evaluation": int(full),
                "code": "c",
            },
        )
        self.report = json.loads((base / "evaluation" / "metrics.json").read_text())

    @property
    def verdict_file(self):
        [path] = pathlib.Path(self.blessing.uri).iterdir()
        return path.name


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return toy_ring.write_world(tmp_path_factory.mktemp("world"), toy_ring.ring_world())


def biases_by_hand(rows):
    """Mean and biases with the default shrinkage, by enough sweeps of plain loops."""
    mean = np.mean([row[2] for row in rows])
    users = {row[0]: 0.0 for row in rows}
    movies = {row[1]: 0.0 for row in rows}
    for _ in range(50):
        for user in users:
            own = [row[2] - mean - movies[row[1]] for row in rows if row[0] == user]
            users[user] = sum(own) / (len(own) + 5)
        for movie in movies:
            own = [row[2] - mean - users[row[0]] for row in rows if row[1] == movie]
            movies[movie] = sum(own) / (len(own) + 3)
    return mean, users, movies


def test_a_first_model_is_measured_and_blessed(world, tmp_path):
    run = Evaluated(tmp_path, world, toy_models.ToyRanking(error=0.2), gates={"rmse": {"min": 0.1, "max": 0.3}})
    report = run.report
    assert report["blessed"] and report["reasons"] == [] and report["last_blessed"] is None
    rows = toy_ring.ring_world()
    assert report["model"] == "ranking" and report["num_rows"] == len(rows.test)
    assert report["metrics"]["rmse"] == pytest.approx(0.2, abs=1e-5)
    assert report["metrics"]["mae"] == pytest.approx(0.2, abs=1e-5)
    mean, users, movies = biases_by_hand(rows.train + rows.eval)
    errors = [mean + users.get(user, 0) + movies.get(movie, 0) - stars for user, movie, stars, _ in rows.test]
    assert report["baselines"]["bias"]["rmse"] == pytest.approx(math.sqrt(np.mean(np.square(errors))), abs=1e-3)
    of_mean = math.sqrt(np.mean([(mean - row[2]) ** 2 for row in rows.test]))
    assert report["baselines"]["mean"]["rmse"] == pytest.approx(of_mean, abs=1e-5)
    slices = {part["slice"]: part["num"] for part in report["slices"]}
    half = toy_ring.NUM_USERS // 2
    assert {name: num for name, num in slices.items() if not name.startswith("popularity_decile")} == {
        "user=warm": toy_ring.NUM_USERS, "user=cold": 2, "movie=warm": len(rows.test), "genre=Drama": len(rows.test),
        "user_gender=0": half, "user_gender=1": half,
    }  # fmt: skip
    assert report["worst_slice"] is None  # none is large enough
    assert model_utils.is_model_blessed(run.blessing) and run.verdict_file == "BLESSED"
    assert run.blessing.get_int_custom_property("current_model_id") == 11
    assert not run.blessing.get_int_custom_property("baseline_model_id")


def test_what_is_worse_than_biases_and_than_the_last_blessed_is_refused(world, tmp_path):
    run = Evaluated(tmp_path, world, toy_models.ToyRanking(constant=4.5), last_blessed=toy_models.ToyRanking(error=0.1))
    report = run.report
    assert not report["blessed"] and run.verdict_file == "NOT_BLESSED"
    assert not model_utils.is_model_blessed(run.blessing)
    assert run.blessing.get_int_custom_property("baseline_model_id") == 7
    assert report["last_blessed"]["metrics"]["rmse"] == pytest.approx(0.1, abs=1e-5)
    assert report["last_blessed"]["gated"] and report["last_blessed"]["version"] == "3"
    assert [line for line in report["reasons"] if "does not beat biases alone" in line]
    assert [line for line in report["reasons"] if "more than 1% above the last blessed model's 0.1000" in line]
    assert not tfma.load_validation_result(str(tmp_path / "evaluation")).validation_ok


def taught(rows, seed=None):
    """A model of biases, fitted to the fit rows' stars; a seed: to all the same stars, each given to some other row."""
    fit = rows.train + rows.eval
    user, movie = (np.array(values) for values in zip(*((int(row[0][1:]), row[1]) for row in fit), strict=True))
    stars = np.array([row[2] for row in fit], np.float32)
    if seed is not None:
        stars = np.random.default_rng(seed).permutation(stars)
    fitted = baselines.fit_biases(user, movie, stars, toy_ring.NUM_USERS, toy_ring.NUM_MOVIES)
    users, movies = (np.append(np.arange(size), -1) for size in (toy_ring.NUM_USERS, toy_ring.NUM_MOVIES))
    return fitted.predict(*(index.ravel() for index in np.meshgrid(users, movies, indexing="ij"))).reshape(
        len(users), len(movies)
    )


def test_what_predicts_the_mean_or_learned_from_permuted_labels_is_refused_in_one_line(world, tmp_path):
    rows = toy_ring.ring_world()
    mean = float(np.mean([row[2] for row in rows.train + rows.eval]))
    for name, table in (("mean", np.full_like(taught(rows), mean)), ("permuted", taught(rows, seed=3))):
        (tmp_path / name).mkdir()
        report = Evaluated(tmp_path / name, world, toy_models.ToyRanking(table=table)).report
        [reason] = report["reasons"]
        assert not report["blessed"] and "does not beat biases alone" in reason
    # The same, of the labels as they are, predicts as well as the biases that it is held against.
    table = taught(rows)
    errors = [table[int(user[1:]) if user[0] == "u" else -1, movie] - stars for user, movie, stars, _ in rows.test]
    honest = math.sqrt(np.mean(np.square(errors)))
    assert honest == pytest.approx(report["baselines"]["bias"]["rmse"], abs=1e-3)
    assert report["baselines"]["mean"]["rmse"] > honest + 0.05 and report["metrics"]["rmse"] > honest + 0.05


def test_a_baseline_that_knows_todays_test_rows_is_shown_and_not_gated_on(world, tmp_path):
    rows = toy_ring.ring_world()
    rows.eval += rows.test[:2]
    yesterday = toy_ring.write_world(tmp_path / "yesterday", rows)
    run = Evaluated(
        tmp_path, world, toy_models.ToyRanking(error=0.2), toy_models.ToyRanking(error=0.1), yesterday["user_state"]
    )
    assert run.report["blessed"] and run.verdict_file == "BLESSED"
    assert not run.report["last_blessed"]["gated"]
    assert "fitted on 2 of today's 26 test rows" in run.report["last_blessed"]["note"]
    assert run.report["last_blessed"]["metrics"]["rmse"] == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("arguments, fault", [({}, ""), ({"fault": "fails"}, "this model is broken")])
def test_a_broken_baseline_is_found_before_tfma_meets_it(world, tmp_path, arguments, fault):
    path = baseline.saved_model_path(toy_models.save(toy_models.ToyRanking(**arguments), tmp_path))
    found = ranking_evaluation._fault(baseline.Baseline(path, "1", world["user_state"]), world["examples"])
    assert fault in found and bool(found) == bool(fault)


@pytest.mark.parametrize(
    "rmse, before, gates, reason",
    [
        (0.95, None, {"rmse": {"max": 0.9}}, "rmse 0.9500 is above its gate of 0.9: not good enough"),
        (0.2, None, {"rmse": {"min": 0.5, "max": 0.9}}, "rmse 0.2000 is below its gate of 0.5: too good to be true"),
        (float("nan"), None, {}, "does not beat biases alone"),
        (1.0, None, {}, "rmse 1.0000 does not beat biases alone, 1.0000"),
        (0.9, 0.88, {}, "above the last blessed model's 0.8800 (version 3)"),
        (0.9, None, {"calibration": {"max": 1.05}}, "calibration 1.1000 is above its gate of 1.05: not good enough"),
        (0.9, None, {"ndcg_at_10": {"min": 0.8}}, "ndcg_at_10 is gated but was not measured"),
    ],
)
def test_each_reason_to_refuse(rmse, before, gates, reason):
    last = before and {"version": "3", "metrics": {"rmse": before}, "gated": True}
    [line] = ranking_protocol.refusals({"rmse": rmse, "calibration": 1.1}, {"rmse": 1.0}, last, None, gates)
    assert reason in line


def test_within_the_margin_and_ungated_nothing_is_refused():
    good = {"rmse": 0.9}
    assert not ranking_protocol.refusals(
        good, {"rmse": 1.0}, {"version": "3", "metrics": {"rmse": 0.895}, "gated": True}, None, {"rmse": {"max": 0.9}}
    )
    assert not ranking_protocol.refusals(good, {"rmse": 1.0}, {"version": "3", "metrics": {}, "gated": False}, None, {})


def test_one_slice_much_worse_than_the_whole_is_refused():
    worst = {"slice": "user_age=56+", "num": 250, "rmse": 1.26, "ratio": 1.4, "limit": ranking_protocol.slice_limit({})}
    good, bias = {"rmse": 0.9}, {"rmse": 1.0}
    [line] = ranking_protocol.refusals(good, bias, None, worst, {})
    assert line == "rmse 1.2600 of the 250 rows with user_age=56+ is 1.40 times the whole's; the limit is 1.25"
    for allowed in (1.5, None):
        gates = {"worst_slice": {"min": None, "max": allowed}}
        allowing = {**worst, "limit": ranking_protocol.slice_limit(gates)}
        assert not ranking_protocol.refusals(good, bias, None, allowing, gates)
    assert not ranking_protocol.refusals(good, bias, None, {**worst, "ratio": 1.2}, {})


def test_everything_by_tfma_is_what_the_report_says(tmp_path):
    """Several test rows for some users, so that there is an order; TFMA and NumPy, slice by slice."""
    rows = toy_ring.ring_world()
    movies = [(n * 7) % toy_ring.NUM_MOVIES for n in range(9)]
    rows.test += [(f"u{n}", movie, toy_ring.stars_of(n, movie), 2 * 10**9) for n, movie in enumerate(movies)]
    several = toy_ring.write_world(tmp_path / "world", rows)
    run = Evaluated(tmp_path, several, toy_models.ToyRanking(error=0.9), full=True)
    metrics = run.report["metrics"]
    assert 0.5 < metrics["ndcg_at_10"] < 1
    found = {}
    for key, by_output in tfma.load_eval_result(str(tmp_path / "evaluation")).slicing_metrics:
        by_sub_key = by_output[""]
        values = {name: value["doubleValue"] for name, value in by_sub_key[""].items()}
        found[",".join(f"{column.removeprefix('slice_')}={cell}" for column, cell in key)] = {
            "rmse": math.sqrt(values["mean_squared_error"]), "mae": values["mean_absolute_error"],
            "calibration": values["calibration"], "num": values["example_count"],
            "ndcg_at_10": by_sub_key["topK:10"]["ndcg"]["doubleValue"],
        }  # fmt: skip
    slices = {part["slice"]: {**part["metrics"], "num": part["num"]} for part in run.report["slices"]}
    assert len(slices) > 8 and set(found) == {"", "listed=yes", "listed=no", *slices}
    for name, values in slices.items():
        for metric in ("rmse", "mae", "calibration", "num"):
            assert found[name][metric] == pytest.approx(values[metric], rel=1e-5), (name, metric)
    assert found["listed=yes"]["ndcg_at_10"] == pytest.approx(metrics["ndcg_at_10"], rel=1e-5)
    assert found[""]["calibration"] == pytest.approx(metrics["calibration"], rel=1e-5)
    assert list((tmp_path / "evaluation").glob("plots*"))


def test_tfma_is_told_the_gates_in_squares_and_of_the_whole_split_only():
    config = ranking_protocol.eval_config({"rmse": {"min": 0.5, "max": 0.9}, "mae": {"max": 0.7}})
    mse, mae, _ = config.metrics_specs[0].metrics
    [bound] = mse.per_slice_thresholds
    assert bound.threshold.value_threshold.lower_bound.value == pytest.approx(0.25)
    assert bound.threshold.value_threshold.upper_bound.value == pytest.approx(0.81)
    assert bound.threshold.change_threshold.relative.value == pytest.approx(1.01**2 - 1)
    assert [spec.feature_keys for spec in bound.slicing_specs] == [[]]
    assert mae.per_slice_thresholds[0].threshold.value_threshold.upper_bound.value == pytest.approx(0.7)
    shown = ranking_protocol.without_change_thresholds(config)
    assert not shown.metrics_specs[0].metrics[0].per_slice_thresholds[0].threshold.HasField("change_threshold")
    assert mse.per_slice_thresholds[0].threshold.HasField("change_threshold")


def test_the_component_asks_for_the_test_split():
    data = toy_components.ToyData(num_cold_users=1)
    channels = {name: data.outputs[name] for name in ("examples", "catalog", "user_state")}
    component = ranking_evaluation.RankingEvaluation(
        model=toy_components.ToyModel(path="/any").outputs["model"], **channels, gates={"rmse": {"max": 1.0}}, code="c"
    )
    assert json.loads(component.exec_properties["example_splits"]) == ["test"]
    assert set(component.outputs) == {"evaluation", "blessing"}
