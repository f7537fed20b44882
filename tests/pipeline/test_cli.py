"""The verbs, typed as a user would, where no run and no server is needed."""

import json
import pathlib
import subprocess
import sys

import pytest

from components.errors import InputError
from pipeline import root

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOVIEREC = pathlib.Path(sys.executable).with_name("movierec")


def movierec(*arguments, cwd):
    return subprocess.run([MOVIEREC, *arguments], cwd=cwd, capture_output=True, text=True)


def test_help_lists_every_verb_and_imports_nothing_heavy(tmp_path):
    done = movierec("--help", cwd=tmp_path)
    assert done.returncode == 0
    for verb in ("run", "ingest", "data", "serve", "recommend", "rank", "metrics", "lineage", "doctor"):
        assert f"\n  {verb} " in done.stdout
    code = "import sys, pipeline.cli; print([m for m in ('tensorflow', 'tfx', 'polars', 'grpc') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_run_names_every_data_set(tmp_path):
    said = "".join(movierec("run", "--help", cwd=tmp_path).stdout.split())  # lines break anywhere
    assert "sample,ml-100k,ml-1m,ml-10m,ml-20m,ml-25m,ml-32m,ml-latest-small,ml-latest,csv:" in said


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["run", "--dataset", "ml-1b"], "known are: sample"),
        (["run", "--split", "by_moon"], "by_moon"),
        (["index"], "give --catalog FILE, or --export annoy FILE"),
        (["index", "--catalog", "movies.csv", "--root", "nowhere"], "nowhere"),
        (["index", "--export", "faiss", "x"], "faiss"),
        (["run", "--retrieval", "als"], "the families are: two_tower"),
        (["run", "--ranking", "stars"], "the families are: factorization_machine, deep"),
        (["run", "--split", "fold:u1"], "sample has no fold 'u1'"),
        (["run", "--dataset", "ml-100k", "--split", "global_time:0.8"], "global_time:2001-01-01,2001-06-01"),
        (["run", "--dataset", "ml-100k", "--data-dir", "nowhere"], "nowhere"),
        (["data", "ml-1b"], "known are: sample"),
        (["data", "ml-1m", "--data-dir", "nowhere"], "nowhere"),
        (["data"], "EDITION"),
        (["run", "--dataset", "csv"], "--ratings FILE"),
        (["run", "--ratings", "r.csv"], "go with --dataset csv"),
        (["data", "ml-100k", "--rating-range", "1", "9"], "go with --dataset csv"),
        (["run", "--dataset", "csv", "--ratings", "r.csv", "--movies", "m.csv"], "no file r.csv"),
        (["data", "csv", "--ratings-column", "user"], "OURS=THEIRS"),
        (["run", "--spans", "last:0"], "last:K"),
        (["ingest"], "FILE..."),
        (["ingest", "nowhere.csv"], "no run under"),
        (["ingest", "nowhere.csv", "--root", "new"], "--dataset"),
        (["ingest", "nowhere.csv", "--dataset", "csv"], "nowhere.csv is no file"),
        (["metrics"], "no run under"),
        (["metrics", "--root", "nowhere"], "holds no run"),
        (["lineage"], "no run under"),
        (["serve"], "no run under"),
        (["recommend"], "give a USER_ID"),
        (["recommend", "--all"], "--output"),
        (["rank", "1"], "MOVIE_ID"),
        (["rank", "--pairs", "p.csv"], "--output"),
        (["recommend", "--all", "--output", "recs.csv"], "no run under"),
        (["frobnicate"], "No such command"),
    ],
)
def test_bad_usage_says_what_to_do_and_exits_2(tmp_path, arguments, said):
    done = movierec(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_of_a_root_that_kubeflow_filled_the_models_are_taken_and_the_rest_is_elsewhere(tmp_path):
    (tmp_path / "blessed").mkdir()
    (tmp_path / "models").mkdir()
    assert root.find_pushed(tmp_path) == tmp_path
    with pytest.raises(InputError, match="runs on Kubeflow, whose own pages tell of them"):
        root.find(tmp_path)


def test_data_describes_without_a_run(tmp_path):
    done = movierec("data", "sample", "--describe", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for said in ("400 users of 300 movies", "SYNTHETIC", "busiest", "█", "global_time"):
        assert said in done.stdout
    assert "u.data: " in done.stderr  # rows read, and bad ones where there are any
    found = json.loads(movierec("data", "sample", "--describe", "--json", cwd=tmp_path).stdout)
    assert found["synthetic"] and found["dataset"] == "sample" and pathlib.Path(tmp_path, found["path"]).is_dir()
    description = found["description"]
    assert sum(description["ratings_per_day"]) == sum(description["popularity"]) == description["num_ratings"]
    assert set(description["splits"]) == {"leave_last_out", "global_time", "random"}
    own = movierec("data", "sample", "--describe", "--split", "global_time:0.5,0.2", "--json", cwd=tmp_path)
    [(name, parts)] = json.loads(own.stdout)["description"]["splits"].items()
    assert name == "global_time:0.5,0.2" and parts["train"]["num_rows"] == round(description["num_ratings"] / 2)
    assert json.loads(movierec("data", "sample", "--json", cwd=tmp_path).stdout)["description"] is None
    assert not (tmp_path / "runs").exists()


def test_data_of_ones_own(tmp_path):
    (tmp_path / "r.csv").write_text("who,what,rating,timestamp\n1,1,10,5\n1,2,20,6\n2,1,30,7\n2,1,300,8\n")
    (tmp_path / "m.csv").write_text("movieId,name\n1,One\n2,Two\n")
    named = ["--ratings-column", "user_id=who", "--ratings-column", "movie_id=what", "--movies-column", "title=name"]
    stars = ["--rating-range", "0", "100", "--max-bad-share", "0.5"]
    arguments = ["data", "csv", "--ratings", "r.csv", "--movies", "m.csv", *named, *stars, "--describe", "--json"]
    done = movierec(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["description"]
    assert (found["num_users"], found["num_movies"], found["num_ratings"], found["num_rejected"]) == (2, 2, 3, 1)
    assert found["stars"] == {"10": 1, "20": 1, "30": 1}
    assert "r.csv:5: rating '300' is outside 0 to 100 stars" in done.stderr


def test_ones_own_ratings_day_by_day(tmp_path):
    (tmp_path / "d0.csv").write_text("userId,movieId,rating,timestamp\n1,1,4,5\n1,2,5,6\n")
    (tmp_path / "d1.csv").write_text("userId,movieId,rating,timestamp\n1,1,3,9\n2,1,5,9\n2,7,5,9\n")
    (tmp_path / "m.csv").write_text("movieId,title\n1,One\n2,Two\n")
    done = movierec("ingest", "d0.csv", "--dataset", "csv", "--root", "shop", "--movies", "m.csv", cwd=tmp_path)
    assert done.returncode == 0 and "span-0: 2 of 2 ratings are new" in done.stdout, done.stderr
    done = movierec("ingest", "d1.csv", "--root", "shop", cwd=tmp_path)
    assert done.returncode == 2 and "d1.csv:4: movie id '7' is not in the catalog" in done.stderr
    for said in ("span-1: 2 of 3 ratings are new (0 there already, 1 set aside)", "nothing was added"):
        done = movierec("ingest", "d1.csv", "--root", "shop", "--max-bad-share", ".5", cwd=tmp_path)
        assert done.returncode == 0 and said in done.stdout, done.stderr
    files = ["--ratings", "d0.csv", "--movies", "m.csv"]
    done = movierec("run", "--dataset", "csv", "--root", "shop", *files, cwd=tmp_path)
    assert done.returncode == 2 and "reads its spans" in done.stderr


def test_no_server_is_a_fault(tmp_path):
    done = movierec("recommend", "196", "--address", "127.0.0.1:1", "--deadline", "60", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "movierec serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_root_is_refused_to_another_data_set(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "root.json").write_text('{"dataset": "ml-100k", "split": "random"}')
    done = movierec("run", "--root", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "belongs to ml-100k split random" in done.stderr
