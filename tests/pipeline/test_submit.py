"""`movierec submit` against a double of the Kubeflow Pipelines API."""

import sys

import kfp_double
import pytest
import yaml

from pipeline import cli, submit

SPEC = {
    "pipelineInfo": {"name": "movierec"},
    "deploymentSpec": {},
    "root": {
        "dag": {"tasks": {"Transform": {}, "AtomicPush": {}}},
        "inputDefinitions": {
            "parameters": {
                "seed": {"parameterType": "NUMBER_INTEGER"},
                "max_bad_share": {"parameterType": "NUMBER_DOUBLE"},
                "dataset": {"parameterType": "STRING"},
            }
        },
    },
}


@pytest.fixture
def double():
    return kfp_double.Double()


@pytest.fixture
def asked(double, tmp_path, monkeypatch, capsys):
    """Calls the verb; its exit status and what it printed."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    watch = submit.Submitter.watch
    monkeypatch.setattr(submit.Submitter, "watch", lambda self, run_id: watch(self, run_id, interval_s=0.01))

    def ask(*arguments, host=None):
        monkeypatch.setattr(sys, "argv", ["movierec", "submit", str(path), "--host", host or address, *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr()

    with kfp_double.serving(double) as address:
        ask.path = path
        yield ask


def test_a_pipeline_is_uploaded_once_and_a_version_with_every_submission(asked, double):
    for version in ("one", "two"):
        code, said = asked("--version-name", version, "--set", "seed=8", "--set", "dataset=ml-100k")
        assert code == 0, said.err
        assert f"version {version}: run r" in said.out
    assert list(double.pipelines) == ["movierec"] and list(double.versions) == ["movierec one", "movierec two"]
    assert set(double.uploads) == {asked.path.read_text()} and len(double.uploads) == 3
    assert list(double.experiments) == ["movierec"]
    run = double.runs["r1"]
    assert run["runtime_config"]["parameters"] == {"seed": 8, "dataset": "ml-100k"}
    reference = run["pipeline_version_reference"]
    assert reference == {"pipeline_id": "p0", "pipeline_version_id": "v1"} and run["experiment_id"] == "e0"


def test_the_states_of_tasks_are_shown_as_they_change(asked, double):
    double.progress = [
        ("PENDING", {}),
        ("RUNNING", {"movierec-root-driver": "SUCCEEDED", "Transform": "RUNNING"}),
        ("RUNNING", {"Transform": "RUNNING"}),
        ("RUNNING", {"Transform": "SUCCEEDED", "AtomicPush": "RUNNING"}),
        ("SUCCEEDED", {"Transform": "SUCCEEDED", "AtomicPush": "SUCCEEDED"}),
    ]
    code, said = asked("--watch")
    assert code == 0, said.err
    assert [line.split() for line in said.out.splitlines()[1:]] == [
        ["Transform", "RUNNING"], ["Transform", "SUCCEEDED"], ["AtomicPush", "RUNNING"], ["AtomicPush", "SUCCEEDED"],
        ["the", "run", "SUCCEEDED"],
    ]  # fmt: skip


def test_a_run_that_fails_is_a_fault(asked, double):
    double.progress = [("FAILED", {"Transform": "FAILED"})]
    code, said = asked("--watch")
    assert code == 1 and said.out.splitlines()[-1].split() == ["the", "run", "FAILED"]


@pytest.mark.parametrize("cron, sent", [("0 3 * * *", "0 0 3 * * *"), ("30 0 3 * * *", "30 0 3 * * *")])
def test_a_schedule_makes_a_recurring_run_without_overlap(asked, double, cron, sent):
    code, said = asked("--schedule", cron, "--experiment", "daily")
    assert code == 0, said.err
    assert "recurring run s0" in said.out and not double.runs
    made = double.recurring["s0"]
    assert made["trigger"]["cron_schedule"]["cron"] == sent and made["mode"] == "ENABLE"
    assert (made["max_concurrency"], made["no_catchup"]) == (1, True)
    assert double.experiments["daily"]["experiment_id"] == made["experiment_id"]


def test_a_token_is_sent_and_without_it_the_refusal_is_told(asked, double, tmp_path):
    double.token = "secret"
    (tmp_path / "token").write_text("secret\n")
    code, said = asked("--token-file", str(tmp_path / "token"))
    assert code == 0, said.err
    code, said = asked()
    assert code == 1 and "refuses (401)" in said.err and "--token-file" in said.err
    assert "Traceback" not in said.err and len(double.runs) == 1


def test_a_name_that_is_taken_is_told(asked, double):
    assert asked("--version-name", "one")[0] == 0
    code, said = asked("--version-name", "one")
    assert code == 2 and "has a version 'one' of pipeline 'movierec' already" in said.err
    assert len(double.runs) == 1


@pytest.mark.parametrize(
    "arguments, status, wanted",
    [
        (("--set", "sed=8"), 2, "has no such parameter; it has dataset, max_bad_share, seed"),
        (("--set", "seed=many"), 2, "number integer is wanted"),
        (("--set", "seed"), 2, "not of the form NAME=VALUE"),
        (("--schedule", "daily"), 2, "has 1 fields; cron has five"),
        (("--schedule", "0 3 * * *", "--watch"), 2, "give one of them"),
        (("--token-file", "nowhere"), 2, "nowhere: No such file"),
    ],
)
def test_what_cannot_be_asked_is_told_before_anything_is_uploaded(asked, double, arguments, status, wanted):
    code, said = asked(*arguments)
    assert code == status and wanted in said.err
    assert not double.uploads and not double.runs


def test_nobody_at_the_address(asked):
    code, said = asked(host="http://127.0.0.1:9")
    assert code == 1 and "no Kubeflow Pipelines answers at http://127.0.0.1:9" in said.err
    assert "kubectl port-forward" in said.err and "Traceback" not in said.err
    code, said = asked(host="127.0.0.1:9")
    assert code == 2 and "begins with http:// or https://" in said.err


def test_another_answer_is_shown(asked, double):
    double.answer = lambda method, path, *_: (200, {}) if path.endswith("healthz") else (500, {"error": "out of disk"})
    code, said = asked()
    assert code == 1 and "answers 500" in said.err and "out of disk" in said.err
