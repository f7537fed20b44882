"""The gate behind the real statistics and ExampleValidator, run by TFX's LocalDagRunner."""

import pytest
from example_gen_run import BEAM_ARGUMENTS
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator.component import ExampleValidator
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from components import movielens
from components.anomaly_gate import AnomalyGate, describe
from components.columnar_statistics import ColumnarStatisticsGen
from components.errors import InputError
from components.movielens_example_gen import MovieLensExampleGen
from components.pinned_schema import PinnedSchema

SAMPLE = movielens.get_edition("sample")


def test_good_data_pass_and_bad_data_stop_the_run(tmp_path):
    source = movielens.locate(SAMPLE, None, tmp_path / "cache")
    ingest = MovieLensExampleGen(
        input_path=str(source), dataset="sample", data_digest=movielens.content_digest(source, SAMPLE), code=""
    )
    right = PinnedSchema(environment=SAMPLE.environment, rating_min=1.0, rating_max=5.0, schema_digest="")
    wrong = PinnedSchema(environment=SAMPLE.environment, rating_min=1.0, rating_max=4.0, schema_digest="")
    statistics = ColumnarStatisticsGen(
        examples=ingest.outputs["examples"], schema=right.outputs["schema"], code=""
    )
    components = [ingest, right, wrong.with_id("WrongSchema"), statistics]
    gates = []
    for name, schema in (("Right", right), ("Wrong", wrong)):
        validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
        gates.append(AnomalyGate(anomalies=validator.with_id(f"{name}Validator").outputs["anomalies"], code=""))
        components += [validator, gates[-1].with_id(f"{name}Gate")]
    gates[1].add_upstream_node(gates[0])
    path = str(tmp_path / "metadata.sqlite")
    graph = pipeline.Pipeline(
        pipeline_name="gate",
        pipeline_root=str(tmp_path / "artifacts"),
        components=components,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(path),
        beam_pipeline_args=BEAM_ARGUMENTS,
        enable_cache=True,
    )
    for _ in range(2):  # the second time from the cache: what was refused is refused again
        with pytest.raises(InputError) as stopped:
            LocalDagRunner().run(graph)
        lines = str(stopped.value).splitlines()
        for split in ("train", "eval", "test"):
            assert any(line.startswith(f"  {split}: user_rating: Unexpectedly high value: 5>4") for line in lines)

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = path
    store = metadata_store.MetadataStore(config)
    states = {}
    for execution in store.get_executions():
        states.setdefault(store.get_execution_types_by_id([execution.type_id])[0].name, []).append(
            metadata_store_pb2.Execution.State.Name(execution.last_known_state)
        )
    gate_states = [states[name] for name in states if name.endswith("AnomalyGate")]
    assert gate_states == [["COMPLETE", "FAILED", "CACHED", "FAILED"]]
    assert [states[name] for name in states if name.endswith("MovieLensExampleGen")] == [["COMPLETE", "CACHED"]]
    made = [artifact for artifact in store.get_artifacts_by_type("Examples") if "/examples/" in artifact.uri]
    assert {artifact.custom_properties["num_rows"].int_value for artifact in made} == {22_029}


def test_every_kind_of_anomaly_is_told():
    anomalies = anomalies_pb2.Anomalies(data_missing=True)
    anomalies.anomaly_info["b"].description = "worse"
    anomalies.anomaly_info["a"].short_description = "bad"
    anomalies.dataset_anomaly_info.description = "too few"
    assert describe("eval", anomalies) == [
        "eval: a: bad", "eval: b: worse", "eval: too few", "eval: there are no examples",
    ]  # fmt: skip
    assert describe("eval", anomalies_pb2.Anomalies()) == []
