"""The entry point of a pod: addresses and types there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deploy import addresses, run_task

KEYS = st.text("abc/-.", min_size=1, max_size=12)


@pytest.mark.parametrize(
    "address, path",
    [
        ("s3://bucket/a/b", "/s3/bucket/a/b"),
        ("minio://mlpipeline/v2/artifacts/x", "/minio/mlpipeline/v2/artifacts/x"),
        ("gs://bucket/x", "/gcs/bucket/x"),
        ("/mnt/movierec/models", "/mnt/movierec/models"),
        ("movierec", "movierec"),
    ],
)
def test_addresses_become_the_launchers_folders_and_addresses_again(address, path):
    assert addresses.local_path(address) == path
    assert addresses.remote_address(path) == address
    if path != address:
        assert addresses.local_path(address, "/tmp/pod") == f"/tmp/pod{path}"


@given(scheme=st.sampled_from(sorted(addresses.FOLDERS)), key=KEYS, prefix=st.sampled_from(["", "/tmp/pod"]))
def test_there_and_back_is_the_same(scheme, key, prefix):
    address = scheme + key
    assert addresses.remote_address(addresses.local_path(address, prefix), prefix) == address


def test_types_that_the_driver_forgot_come_from_the_definition_and_told_ones_stay():
    defined = {"artifacts": {name: {"artifactType": {"schemaTitle": "tfx.Model"}} for name in ("a", "b")}}
    invocation = {
        "inputs": {
            "artifacts": {
                "a": {"artifacts": [{"uri": "s3://b/a"}]},
                "b": {"artifacts": [{"uri": "s3://b/b", "type": {"schemaTitle": "tfx.Other"}}]},
            }
        },
        "outputs": {"artifacts": {"c": {"artifacts": [{"uri": "gs://b/c", "type": {"schemaTitle": "tfx.Examples"}}]}}},
    }
    found = run_task.localised(invocation, defined)
    assert found["inputs"]["artifacts"]["a"]["artifacts"] == [{"uri": "/s3/b/a", "type": {"schemaTitle": "tfx.Model"}}]
    assert found["inputs"]["artifacts"]["b"]["artifacts"] == [{"uri": "/s3/b/b", "type": {"schemaTitle": "tfx.Other"}}]
    assert found["outputs"]["artifacts"]["c"]["artifacts"][0]["uri"] == "/gcs/b/c"
    with pytest.raises(ValueError, match="no type of the input 'a'"):
        run_task.localised({"inputs": {"artifacts": {"a": {"artifacts": [{"uri": "s3://b/a"}]}}}}, {})


def test_what_is_left_has_addresses_again_also_where_an_executor_noted_them():
    metadata = {"current_model": "/s3/b/model", "blessed": 1.0, "pushed_destination": "/mnt/movierec/models"}
    output = {"artifacts": {"blessing": {"artifacts": [{"uri": "/s3/b/x", "metadata": metadata}]}}}
    [artifact] = run_task.remote(output)["artifacts"]["blessing"]["artifacts"]
    assert artifact["uri"] == "s3://b/x"
    assert artifact["metadata"] == {**metadata, "current_model": "s3://b/model"}
