"""The real graph on the built-in sample, from the command line to a gRPC answer."""

import json
import pathlib
import re
import shutil
import sys

import pytest
from commands import ROOT, movierec, served

from components import remembered
from trainer_modules import fit_pairs

COMPONENTS = {
    "MovieLensExampleGen", "PinnedSchema", "StatisticsGen", "ExampleValidator", "DistributionCheck", "AnomalyGate",
    "Transform", "RetrievalTrainer", "RankingTrainer", "RetrievalLastBlessed", "RankingLastBlessed",
    "RetrievalEvaluation", "RankingEvaluation", "InfraValidation", "AtomicPush",
}  # fmt: skip


def test_a_killed_run_is_resumed_from_what_was_done(sample_run):
    assert sample_run.first.status == 0, sample_run.first.err
    assert set(sample_run.first.steps) == COMPONENTS
    ran = sample_run.first.ran
    assert not ran & {"MovieLensExampleGen", "StatisticsGen", "ExampleValidator", "Transform", "RankingTrainer"}
    assert {"RetrievalTrainer", "RetrievalEvaluation", "AtomicPush"} <= ran


def test_the_screen_shows_progress_metrics_and_an_answer(sample_run):
    err, out = sample_run.first.err, sample_run.first.out
    assert "SYNTHETIC" in err and "SYNTHETIC" in out
    assert "epoch" in err and "loss" in err
    for said in ("popularity", "ndcg_at_10", "rmse", "pushed as version 1", "over gRPC", "stars"):
        assert said in out, said
    assert "Traceback" not in err
    assert len(err.splitlines()) < 150, "the noise is back"


def test_lineage_tells_what_ran_and_where_a_version_came_from(sample_run):
    told = json.loads(sample_run.ask("lineage", "--json"))
    assert {component["component"] for component in told["components"]} == COMPONENTS
    [version] = [version for version in told["pushed"] if version["version"] == "1"]
    for model in version["models"].values():
        assert model["data"]["dataset"] == "sample"
        assert len(model["data"]["data_digest"]) == 64
        assert len(model["code"]) == 64
        assert pathlib.Path(model["model_uri"]).is_dir()
    assert "version 1, pushed" in sample_run.ask("lineage")


def test_both_models_beat_their_baselines(sample_run):
    metrics = json.loads(sample_run.ask("metrics", "--json"))
    assert metrics["synthetic"] is True
    retrieval, ranking = metrics["retrieval"], metrics["ranking"]
    assert retrieval["blessed"] and ranking["blessed"]
    for baseline in ("popularity", "recent_popularity"):
        assert retrieval["metrics"]["ndcg_at_10"] > retrieval["baselines"][baseline]["ndcg_at_10"]
    assert ranking["metrics"]["rmse"] < ranking["baselines"]["bias"]["rmse"] < ranking["baselines"]["mean"]["rmse"]


def test_what_is_compiled_for_kubeflow_gives_the_same_models(sample_run, tmp_path):
    """In the simulation of Kubeflow's launcher; an earlier run, it seems, has pushed what the local runner trained."""
    [pushed] = json.loads(sample_run.ask("lineage", "--json"))["pushed"]
    for name, model in pushed["models"].items():
        parts = ("Format-Serving", fit_pairs.FOLDER)
        remembered.keep_blessed(tmp_path / "root" / "blessed" / name, model["model_uri"], parts, 41, keep_versions=1)
    run = sample_run.on_kubeflow(tmp_path / "root")
    assert run.first.status == 0, run.first.err
    assert "a SIMULATION of Kubeflow's driver and launcher" in run.first.out
    ended = dict(re.findall(r"^\[ *\d+/15\] (\w+) +(\w+) +[\d.]+ s, CPU +[\d.]+ s$", run.first.out, re.MULTILINE))
    assert ended == dict.fromkeys(COMPONENTS, "succeeded")
    assert run.versions == {"retrieval": ["1"], "ranking": ["1"]}
    local = json.loads(sample_run.ask("metrics", "--json"))
    for model in ("retrieval", "ranking"):
        found, expected = run.report_on_kubeflow(model), local[model]
        assert found["metrics"] == pytest.approx(expected["metrics"], abs=1e-6)
        assert found["baselines"] == {name: pytest.approx(of, abs=1e-6) for name, of in expected["baselines"].items()}
        # Of whatever family the last blessed is, the new one is held to it.
        assert found["last_blessed"]["version"] == "41" and found["last_blessed"]["gated"]
        assert (run.root / "blessed" / model / "1" / "Format-Serving" / "saved_model.pb").is_file()
        assert (run.root / "blessed" / model / "1" / "Fit-rows").is_dir()
    assert len(list((run.root / "accepted").glob("1-*/Split-train/FeatureStats.pb"))) == 1


def test_an_identical_run_is_answered_from_the_cache_and_pushes_nothing(sample_run):
    before = sample_run.versions
    done = sample_run.again()
    assert done.status == 0, done.err
    assert done.ran == set(), done.err
    assert "nothing new to push" in done.out
    assert sample_run.versions == before == {"retrieval": ["1"], "ranking": ["1"]}


@pytest.mark.parametrize(
    ("title", "said"), [("no such film", "titles are written as in"), ("amber brother", "near are: Synthetic Amber")]
)
def test_a_title_that_is_not_there(sample_run, title, said):
    done = movierec("rank", "1", "--title", title, "--root", sample_run.root)
    assert done.status == 2
    assert "no movie is called" in done.err and said in done.err


def test_movies_are_added_without_training_and_served_over_grpc(sample_run, tmp_path):
    """It pushes version 2 of the shared root."""
    new = tmp_path / "new.csv"
    new.write_text('movieId,title,genres\n1,Known (1995),Drama\n9001,"Brand New Trench (1996)",Action|Thriller\n')
    bad = tmp_path / "bad.csv"
    bad.write_text("id,name\n9002,No such column\n")
    refused = movierec("index", "--catalog", bad, "--root", sample_run.root)
    assert refused.status == 2 and "there is no column 'movieId'" in refused.err
    assert sample_run.versions == {"retrieval": ["1"], "ranking": ["1"]}

    told = json.loads(sample_run.ask("index", "--catalog", new, "--json"))
    assert (told["version"], told["base_version"], told["num_new"]) == ("2", "1", 1)
    assert sample_run.versions == {"retrieval": ["1", "2"], "ranking": ["1", "2"]}
    assert "nothing was pushed" in sample_run.ask("index", "--catalog", new)
    said = sample_run.ask("lineage")
    assert "made of version 1 without training: 1 movies more" in said and "new.csv" in said

    with served(sample_run.root) as address:
        at = ("--address", address, "--deadline", "60", "--json")
        shown = movierec("recommend", "1", "-k", "1000", *at)
        movies = {movie["movie_id"]: movie for movie in json.loads(shown.out)["movies"]}
        assert movies["9001"]["title"] == "Brand New Trench (1996)" and 1 <= movies["9001"]["stars"] <= 5
        ranked = movierec("rank", "1", "--title", "Brand New Trench (1996)", "--root", sample_run.root, *at)
        assert json.loads(ranked.out)[0]["movie_id"] == "9001"

    # What was added is not lost to a third run of the same data and code.
    done = sample_run.again()
    assert done.status == 0 and done.ran == set(), done.err
    assert "nothing new to push" in done.out
    assert sample_run.versions == {"retrieval": ["1", "2"], "ranking": ["1", "2"]}

    path = tmp_path / "vectors.ann"
    assert "wrote 301 vectors" in sample_run.ask("index", "--export", "annoy", path)
    ids = json.loads(pathlib.Path(f"{path}.ids.json").read_text())
    assert len(ids) == 301 and ids[-1] == "9001" and path.stat().st_size > 301 * 4 * 16


def test_edited_code_and_a_stricter_gate_rerun_what_depends_on_them(sample_run, tmp_path):
    """Both in one run: the evaluation's code is edited, and no model could pass the gate."""
    for package in ("components", "pipeline", "serving", "trainer_modules"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    edited = tmp_path / "trainer_modules" / "ranking.py"
    edited.write_text(edited.read_text() + "\n# edited\n")
    settings = tmp_path / "strict.toml"
    settings.write_text(
        pathlib.Path(sample_run.options[-1]).read_text() + "[retrieval.gates.leave_last_out.ndcg_at_10]\nmin = 0.99\n"
    )
    before = sample_run.versions
    done = movierec(
        "run", *sample_run.options, "--settings", settings,
        command=[sys.executable, "-c", "from pipeline.cli import main; main()"],
        cwd=tmp_path, environment={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.status == 3, done.err
    assert "NOT pushed" in done.out and "0.99" in done.out
    assert {"RankingTrainer", "RankingEvaluation", "RetrievalEvaluation"} <= done.ran
    assert not done.ran & {"MovieLensExampleGen", "Transform", "RetrievalTrainer"}
    assert sample_run.versions == before


def test_a_baseline_is_pushed_by_force_alone_and_everybody_is_told(sample_run):
    """The last test of this file: it pushes another version of the shared root."""
    before = len(sample_run.versions["retrieval"])
    done = sample_run.again("--retrieval", "popularity", "--force")
    assert done.status == 0, done.err
    assert {"RetrievalTrainer", "RetrievalEvaluation", "InfraValidation", "AtomicPush"} <= done.ran
    assert "NOT blessed, but forced, pushed as version" in done.out
    assert {model: len(found) for model, found in sample_run.versions.items()} == dict.fromkeys(
        ("retrieval", "ranking"), before + 1
    )
    said = sample_run.ask("metrics", "--slices")
    assert "the family popularity is a baseline and is never blessed" in said
    assert "pushed all the same, by --force, as version" in said and "popularity_decile 10" in said
    assert "by --force without retrieval_blessing" in sample_run.ask("lineage")
