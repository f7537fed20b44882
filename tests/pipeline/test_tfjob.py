"""Training in several pods: the manifest, and what a Trainer's pod does with it. No operator, no cluster."""

import json
import pathlib

import kubernetes.client
import pytest
import yaml

from pipeline.deploy import addresses, run_task, tfjob

DEPLOY = pathlib.Path(tfjob.__file__).parent


class Cluster:
    """A double of Kubernetes and the training operator: it notes the job, and does what its pods would."""

    def __init__(self, fails=False):
        self.jobs, self.looks, self._fails = [], 0, fails

    def create_namespaced_custom_object(self, group, version, namespace, plural, body):
        assert (f"{group}/{version}", plural) == (body["apiVersion"], "tfjobs")
        self.jobs.append(body)

    def get_namespaced_custom_object(self, group, version, namespace, plural, name):
        self.looks += 1
        if self.looks == 1:
            return {}
        if self._fails:
            told = [{"type": "Running", "status": "False"}, {"type": "Failed", "status": "True", "message": "killed"}]
            return {"status": {"conditions": told}}
        [container] = self.jobs[-1]["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
        [variable] = container["env"]
        assert variable["name"] == addresses.PREFIX_VARIABLE
        given = json.loads(container["args"][container["args"].index("--json_serialized_invocation_args") + 1])
        read = pathlib.Path(addresses.local_path("s3://b/examples", variable["value"])) / "part"
        model = pathlib.Path(addresses.local_path("s3://b/model", variable["value"]))
        model.mkdir(parents=True)
        (model / "weights").write_text(f"of {read.read_text()}")
        pathlib.Path(given["outputs"]["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(given["outputs"]["outputFile"]).write_text("{}")
        return {"status": {"conditions": [{"type": "Succeeded", "status": "True"}]}}


@pytest.fixture
def task(tmp_path):
    """(prefix, invocation) of a Trainer whose inputs the launcher has put into its pod."""
    prefix = tmp_path / "pod"
    (prefix / "s3" / "b" / "examples").mkdir(parents=True)
    (prefix / "s3" / "b" / "examples" / "part").write_text("rows")
    return str(prefix), {
        "inputs": {
            "parameterValues": {"root": str(tmp_path / "root")},
            "artifacts": {"examples": {"artifacts": [{"uri": "s3://b/examples"}]}},
        },
        "outputs": {
            "artifacts": {"model": {"artifacts": [{"uri": "s3://b/model"}]}},
            "outputFile": f"{prefix}/s3/b/task/output_metadata.json",
        },
    }


def test_a_trainer_has_its_task_done_by_a_tfjob_and_takes_what_the_chief_left(task, tmp_path):
    prefix, invocation = task
    cluster = Cluster()
    arguments = ["--executor_class_path", "x.Executor", "--json_serialized_invocation_args", json.dumps(invocation)]
    tfjob.run(arguments, invocation, 3, "registry.example.org/movierec:2", "shared", prefix, cluster, poll_s=0.01)
    [job] = cluster.jobs
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    [container], [volume] = worker["template"]["spec"]["containers"], worker["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "shared"}
    assert worker["replicas"] == 3 and container["image"] == "registry.example.org/movierec:2"
    assert container["args"][:2] == arguments[:2] and container["args"][-1] != arguments[-1]
    assert (pathlib.Path(prefix) / "s3" / "b" / "model" / "weights").read_text() == "of rows"
    assert pathlib.Path(invocation["outputs"]["outputFile"]).read_text() == "{}"
    assert list((tmp_path / "root" / "tfjobs").iterdir()) == [], "nothing is left on the shared volume"


def test_a_job_that_fails_fails_the_task_and_names_its_pods(task, tmp_path):
    prefix, invocation = task
    arguments = ["--json_serialized_invocation_args", "{}"]
    with pytest.raises(RuntimeError, match=r"failed: killed; .*kubectl logs .*training.kubeflow.org/job-name=movie"):
        tfjob.run(arguments, invocation, 2, "image:1", "movierec", prefix, Cluster(fails=True), poll_s=0.01)
    assert list((tmp_path / "root" / "tfjobs").iterdir()) == []


def test_the_entry_point_makes_a_job_where_it_is_told_to(task, monkeypatch):
    prefix, invocation = task
    called = []
    monkeypatch.setattr(tfjob, "run", lambda *given: called.append(given[1:]))
    for name, value in (
        (run_task.WORKERS_VARIABLE, "2"), (run_task.IMAGE_VARIABLE, "i:1"), (run_task.CLAIM_VARIABLE, "c"),
        (addresses.PREFIX_VARIABLE, prefix)
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    run_task.main(["--executor_class_path", "x", "--json_serialized_invocation_args", json.dumps(invocation)])
    assert called == [(invocation, 2, "i:1", "c", prefix)]


@pytest.mark.parametrize(
    "config, first",
    [
        ("", True),
        ('{"task": {"type": "worker", "index": 0}}', True),
        ('{"task": {"type": "worker", "index": 1}}', False),
    ],
)
def test_of_many_pods_the_first_ones_outputs_count(config, first):
    assert run_task.is_first(config) is first


def test_the_manifests_are_kubernetes_own_and_fit_together():
    job = yaml.safe_load(tfjob.MANIFEST.read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    template = _parsed(worker["template"], "V1PodTemplateSpec")
    [container] = template.spec.containers
    assert container.name == "tensorflow", "the operator looks for a container of that name"
    assert template.spec.security_context.run_as_non_root
    assert container.command == ["python", "-m", "pipeline.deploy.run_task"]
    claim, role, binding = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    claim = _parsed(claim, "V1PersistentVolumeClaim")
    assert template.spec.volumes[0].persistent_volume_claim.claim_name == claim.metadata.name == "movierec"
    assert claim.spec.access_modes == ["ReadWriteMany"]
    rule = _parsed(role, "V1Role").rules[0]
    assert (rule.api_groups, rule.resources) == (["kubeflow.org"], ["tfjobs"]) and {"create", "get"} <= set(rule.verbs)
    assert _parsed(binding, "V1RoleBinding").role_ref.name == role["metadata"]["name"]


def _parsed(value, kind):
    """By Kubernetes' own client: an unknown field would be lost, a wrong type refused."""
    client = kubernetes.client.ApiClient()
    parsed = client._ApiClient__deserialize(value, kind)
    assert client.sanitize_for_serialization(parsed).keys() == value.keys()
    return parsed
