"""The files in serving/deploy: valid by their schemas, consistent with each other and with what the project serves."""

import pathlib
import re
import shutil
import subprocess

import kubernetes.client
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from serving import client as client_lib
from serving import commands, embedded, finder, metrics, model_config, server
from serving.promotion import CANARY, STABLE
from trainer_modules import contract

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "serving" / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["serving"]
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "movierec-serving.yaml").read_text()))
KINDS = {
    ("v1", "ConfigMap"): "V1ConfigMap",
    ("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim",
    ("v1", "Service"): "V1Service",
    ("apps/v1", "Deployment"): "V1Deployment",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "V2HorizontalPodAutoscaler",
    ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
}


def check(value, type_name, where):
    """Raises AssertionError or ValueError where the value is not what Kubernetes's schema of that type says."""
    simple = {"str": str, "int": int, "bool": bool, "object": (str, int, dict)}.get(type_name)
    if simple:
        assert isinstance(value, simple) and (simple is not int or not isinstance(value, bool)), f"{where}: {value!r}"
    elif type_name.startswith("list["):
        assert isinstance(value, list), where
        for position, item in enumerate(value):
            check(item, type_name[5:-1], f"{where}[{position}]")
    elif type_name.startswith("dict("):
        assert isinstance(value, dict), where
        for key, item in value.items():
            check(item, type_name[5:-1].split(", ")[1], f"{where}.{key}")
    else:
        class_ = getattr(kubernetes.client, type_name)
        fields = {theirs: ours for ours, theirs in class_.attribute_map.items()}
        assert isinstance(value, dict) and set(value) <= set(fields), f"{where}: {set(value) - set(fields)} unknown"
        class_(**{fields[key]: item for key, item in value.items()})  # raises where a required field is missing
        for key, item in value.items():
            check(item, class_.openapi_types[fields[key]], f"{where}.{key}")


def manifest(kind):
    [found] = [one for one in MANIFESTS if one["kind"] == kind]
    return found


@pytest.mark.parametrize("one", MANIFESTS, ids=lambda one: one["kind"])
def test_a_manifest_follows_the_schema(one):
    check(one, KINDS[one["apiVersion"], one["kind"]], one["kind"])


def test_the_schema_check_can_fail():
    deployment = yaml.safe_load(yaml.safe_dump(manifest("Deployment")))
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")
    with pytest.raises(AssertionError, match="readinesProbe"):
        check(deployment, "V1Deployment", "Deployment")
    del container["readinesProbe"], container["name"]
    with pytest.raises(ValueError, match="name"):
        check(deployment, "V1Deployment", "Deployment")
    container["name"] = 5
    with pytest.raises(AssertionError, match="name: 5"):
        check(deployment, "V1Deployment", "Deployment")


def test_manifests_name_each_other():
    deployment = manifest("Deployment")
    name, pod = deployment["metadata"]["name"], deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    autoscaler = manifest("HorizontalPodAutoscaler")["spec"]
    assert (autoscaler["scaleTargetRef"]["kind"], autoscaler["scaleTargetRef"]["name"]) == ("Deployment", name)
    assert autoscaler["minReplicas"] > manifest("PodDisruptionBudget")["spec"]["minAvailable"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    claim = manifest("PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim
    assert volumes["config"]["configMap"]["name"] == manifest("ConfigMap")["metadata"]["name"]
    [container] = pod["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in manifest("Service")["spec"]["ports"]} <= ports


def test_both_run_the_pinned_image_with_the_same_flags():
    [container] = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    assert COMPOSE["image"] == container["image"] == finder.IMAGE
    assert COMPOSE["command"] == container["args"]
    assert set(commands.FLAGS) <= set(COMPOSE["command"])


def test_the_config_map_holds_the_files():
    for name, text in manifest("ConfigMap")["data"].items():
        assert text == (DEPLOY / name).read_text()
    mounted = {f"/config/{name}" for name in manifest("ConfigMap")["data"]}
    assert mounted == set(re.findall(r"/config/\S+", " ".join(COMPOSE["command"])))


def test_compose_is_reached_from_this_machine_only():
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["ports"])
    assert all(volume.endswith(":ro") for volume in COMPOSE["volumes"])


def test_models_config_serves_both_models_under_their_labels(versions, tmp_path):
    configs = model_config.of_file(DEPLOY / "models.config")
    assert {config.name: str(config.base_path) for config in configs} == {
        name: f"/models/{name}" for name in contract.MODELS
    }
    text = (DEPLOY / "models.config").read_text().replace("/models/", f"{tmp_path}/")
    (tmp_path / "models.config").write_text(text)
    for name in contract.MODELS:
        shutil.copytree(versions / "1", tmp_path / name / "1")
    configs = model_config.of_file(tmp_path / "models.config")
    with embedded.EmbeddedServer(configs, allow_labels_for_unavailable=True) as running:
        server.wait_until_available(running.address, contract.MODELS)
        for label in (STABLE, CANARY):
            with client_lib.RecommenderClient(running.address, timeout_s=60, label=label) as client:
                for name in contract.MODELS:
                    assert client.predict(name, "serving_default", {"key": ["asked"]}).version == 1


def probes():
    [container] = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    compose = [part.replace("$$", "$") for part in COMPOSE["healthcheck"]["test"][1:]]
    return {"compose": compose, "kubernetes": container["readinessProbe"]["exec"]["command"]}


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_probe_waits_for_both_models(where, toy_embedded, toy_models):
    def probe(running):
        port = running.rest_address.rpartition(":")[2]
        command = [part.replace("127.0.0.1/8501", f"127.0.0.1/{port}") for part in probes()[where]]
        return subprocess.run(command, capture_output=True, timeout=30).returncode

    assert probe(toy_embedded) == 0
    one = {contract.RANKING: toy_models[contract.RANKING]}
    with embedded.EmbeddedServer(one, rest_address="127.0.0.1:0") as running:
        server.wait_until_available(running.address, one)
        assert probe(running) == 1
    assert probe(running) == 1  # nobody listens


INT64 = "google.protobuf.Int64Value"
# TensorFlow Serving's session_bundle_config.proto and monitoring_config.proto, as far as the files use them.
SCHEMAS = {
    "batching.config": (
        "BatchingParameters",
        {
            "BatchingParameters": {
                "max_batch_size": INT64, "batch_timeout_micros": INT64, "num_batch_threads": INT64,
                "max_enqueued_batches": INT64, "pad_variable_length_inputs": "bool",
            },
        },
    ),
    "monitoring.config": (
        "MonitoringConfig",
        {
            "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
            "PrometheusConfig": {"enable": "bool", "path": "string"},
        },
    ),
}


def parsed(name):
    root, messages = SCHEMAS[name]
    file = descriptor_pb2.FileDescriptorProto(name=name, package="schema", syntax="proto3")
    for message_name, fields in {**messages, "Int64Value": {"value": "int64"}}.items():
        message = file.message_type.add(name=message_name)
        for number, (field_name, type_name) in enumerate(fields.items(), start=1):
            field = message.field.add(name=field_name, number=number, label=1)
            if type_name in ("bool", "string", "int64"):
                field.type = getattr(field, f"TYPE_{type_name.upper()}")
            else:
                field.type, field.type_name = field.TYPE_MESSAGE, f".schema.{type_name.rpartition('.')[2]}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    class_ = message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName(f"schema.{root}"))
    return text_format.Parse((DEPLOY / name).read_text(), class_())


def test_batching_and_monitoring_follow_their_schemas():
    assert 0 < parsed("batching.config").max_batch_size.value <= contract.MAX_BATCH
    assert parsed("monitoring.config").prometheus_config.path == metrics.PATH
    for name in SCHEMAS:
        lines = (DEPLOY / name).read_text().splitlines()
        assert sum(line.startswith("#") for line in lines) >= 1
