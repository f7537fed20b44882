"""The simulation of Kubeflow's driver and launcher, on pipelines of small commands."""

import json
import sys

import pytest

from pipeline import kfp_simulation
from pipeline.kfp_simulation import FAILED, RESUMED, SKIPPED, SUCCEEDED

TYPE = {"artifactType": {"schemaTitle": "tfx.Model", "schemaVersion": "0.0.1"}}
# Reads its inputs, writes their sum and its own number, and tells what it was given.
BODY = """
import json, os, pathlib, sys
told = json.loads(sys.argv[1])
local = lambda uri: pathlib.Path(os.environ["MOVIEREC_LAUNCHER_PREFIX"] + "/s3/" + uri[5:])
given = [a for one in told["inputs"]["artifacts"].values() for a in one["artifacts"]]
total = sum(int((local(a["uri"]) / "n").read_text()) for a in given) + int(told["inputs"]["parameterValues"]["n"])
[out] = told["outputs"]["artifacts"]["model"]["artifacts"]
local(out["uri"]).mkdir()
(local(out["uri"]) / "n").write_text(str(total))
pathlib.Path("told.json").write_text(sys.argv[1])
left = {"artifacts": {"model": {"artifacts": [{"metadata": {"total": total}}]}}}
pathlib.Path(told["outputs"]["outputFile"]).write_text(json.dumps(left))
"""


def task(needs=(), body=BODY, condition="", after=(), n=None):
    """(task, component, executor) of one step."""
    artifacts = {name: {"taskOutputArtifact": {"producerTask": name, "outputArtifactKey": "model"}} for name in needs}
    given = {"runtimeValue": {"constant": n}} if n is not None else {"componentInputParameter": "n"}
    spec = {"inputs": {"artifacts": artifacts, "parameters": {"n": given}}, "dependentTasks": [*needs, *after]}
    if condition:
        spec["triggerPolicy"] = {"condition": condition}
    component = {
        "inputDefinitions": {"artifacts": dict.fromkeys(needs, TYPE), "parameters": {"n": {}}},
        "outputDefinitions": {"artifacts": {"model": TYPE}},
    }
    command = {"command": ["python", "-c", body], "args": ["{{$}}", "n is {{$.inputs.parameters['n']}}"]}
    return spec, component, {"container": command}


def pipeline(**tasks):
    spec = {
        "pipelineInfo": {"name": "toy"},
        "defaultPipelineRoot": "s3://bucket/root",
        "root": {"inputDefinitions": {"parameters": {"n": {"defaultValue": 1.0}}}, "dag": {"tasks": {}}},
        "components": {},
        "deploymentSpec": {"executors": {}},
    }
    for name, (one, component, executor) in tasks.items():
        spec["root"]["dag"]["tasks"][name] = {**one, "componentRef": {"name": name}}
        spec["components"][name] = {**component, "executorLabel": name}
        spec["deploymentSpec"]["executors"][name] = executor
    return spec


def execute(folder, spec, **parameters):
    run = kfp_simulation.Run(spec, folder, parameters)
    order = []
    ended = run.execute(lambda one: order.append(one.name))
    return run, ended, order


def number(run, ended, name):
    return int((run.stored(ended[name].outputs["model"]["uri"]) / "n").read_text())


def told(folder, name):
    return json.loads((folder / "tasks" / name / "work" / "told.json").read_text())


def test_outputs_flow_to_those_that_named_them_and_metadata_with_them(tmp_path):
    spec = pipeline(c=task(["a", "b"]), b=task(["a"]), a=task(n=40))
    run, ended, order = execute(tmp_path, spec, n=2)
    assert order == ["a", "b", "c"] and {one.state for one in ended.values()} == {SUCCEEDED}
    assert [number(run, ended, name) for name in "abc"] == [40, 42, 84]
    assert ended["c"].outputs["model"]["metadata"] == {"total": 84, "display_name": "model"}
    inputs = told(tmp_path, "b")["inputs"]["artifacts"]["a"]["artifacts"]
    assert [set(one) for one in inputs] == [{"name", "uri", "metadata"}], "the driver forgets types"
    assert inputs[0]["uri"].startswith("s3://bucket/root/toy/") and inputs[0]["metadata"]["total"] == 40
    outputs = told(tmp_path, "b")["outputs"]["artifacts"]["model"]["artifacts"]
    assert outputs[0]["type"] == TYPE["artifactType"]
    assert ended["a"].cpu_s > 0 and ended["a"].wall_s > 0


def test_a_task_sees_no_artifact_but_its_inputs(tmp_path):
    # b looks for everything that any task has left.
    pod = "pathlib.Path(os.environ['MOVIEREC_LAUNCHER_PREFIX'])"
    look = f"import os, pathlib\nprint([path.name for path in {pod}.rglob('n')])"
    _, ended, _ = execute(tmp_path, pipeline(a=task(), b=task([], look, after=["a"]), c=task(["a"], look)))
    assert [ended[name].log_path.read_text() for name in "bc"] == ["[]\n", "['n']\n"]


def test_numbers_are_filled_in_as_the_launcher_writes_them(tmp_path):
    _, ended, _ = execute(tmp_path, pipeline(a=task(body="import sys; print(sys.argv[2])")))
    assert ended["a"].log_path.read_text() == "n is 1\n"


def test_a_condition_decides_and_what_depends_on_a_skipped_task_is_skipped(tmp_path):
    wanted = "inputs.artifacts['a'].artifacts[0].metadata['total'] == 1.0"
    yes, no = task(["a"], condition=wanted), task(["a"], condition=f"!({wanted})")
    spec = pipeline(a=task(), yes=yes, no=no, after=task(["no"]))
    _, ended, _ = execute(tmp_path, spec)
    assert {name: one.state for name, one in ended.items()} == {
        "a": SUCCEEDED, "yes": SUCCEEDED, "no": SKIPPED, "after": SKIPPED,
    }  # fmt: skip


def test_a_failure_stops_what_depends_on_it_and_the_run_is_taken_up_there(tmp_path):
    switch = tmp_path / "broken"
    switch.touch()
    body = f"import pathlib, sys\nif pathlib.Path({str(switch)!r}).exists(): sys.exit('broken')\n{BODY}"
    spec = pipeline(a=task(), bad=task(["a"], body), after=task(["bad"]), beside=task(["a"]))
    _, ended, _ = execute(tmp_path / "run", spec)
    assert {name: one.state for name, one in ended.items()} == {
        "a": SUCCEEDED, "bad": FAILED, "after": SKIPPED, "beside": SUCCEEDED,
    }  # fmt: skip
    assert ended["bad"].log_path.read_text() == "broken\n"
    switch.unlink()
    run, again, _ = execute(tmp_path / "run", spec)
    assert {name: one.state for name, one in again.items()} == {
        "a": RESUMED, "bad": SUCCEEDED, "after": SUCCEEDED, "beside": RESUMED,
    }  # fmt: skip
    assert number(run, again, "after") == 3
    # Other parameters are another run's: nothing of it is kept.
    _, other, _ = execute(tmp_path / "run", spec, n=5)
    assert {one.state for one in other.values()} == {SUCCEEDED}


def test_independent_tasks_run_at_the_same_time(tmp_path):
    # Each waits for the other's file: one after the other they would wait for ever.
    wait = "import pathlib, time\npathlib.Path({!r}).touch()\nwhile not pathlib.Path({!r}).exists(): time.sleep(.01)"
    files = [str(tmp_path / name) for name in ("x", "y")]
    _, ended, _ = execute(
        tmp_path, pipeline(a=task(body=wait.format(*files)), b=task(body=wait.format(*files[::-1])))
    )
    assert {one.state for one in ended.values()} == {SUCCEEDED}


def test_commands_run_with_this_python(tmp_path):
    _, ended, _ = execute(tmp_path, pipeline(a=task(body="import sys; print(sys.prefix)")))
    assert ended["a"].log_path.read_text().strip() == sys.prefix


def test_a_parameter_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no parameter m; it has n"):
        kfp_simulation.Run(pipeline(a=task()), tmp_path, {"m": 1})
