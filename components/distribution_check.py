"""TFX component: has the data moved too far? Against the last accepted data, and against what was served.

ExampleValidator is given a schema and nothing to compare with; TFX's DistributionValidator, which is, infers its own
schema, knows neither skew nor vocabularies and leaves the choice of the baseline to a resolver, which would defeat the
cache. Here a driver asks ML Metadata before the cache key is made, as LastBlessed's does.

Where the data are spans, the newest span is compared with the one before it, too.

The last accepted data are the newest other data that passed the gate. A first run has nothing to compare with. Where
a runner has no drivers, the gate keeps what passed in a folder, and this component looks there.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import polars as pl
from ml_metadata import proto as mlmd
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_component, base_driver, base_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.types.channel import BaseChannel
from tfx.utils import io_utils

from components import acceptance, remembered, served_requests, span_statistics, statistics_page, vocabulary
from components import distributions as distances
from components.distributions import Measurement, Statistics
from trainer_modules import features as f

ANOMALIES = "anomalies"
"""Key of the output, and of the gate's input that it becomes."""
GATE = "AnomalyGate"
"""Id of the component that lets data pass: it lies downstream, so it is named and not linked."""
PAGE_FILE = "statistics.html"
MEASUREMENTS_FILE = "measurements.json"
_VOCABULARY_FILE = "vocabulary.parquet"
STATISTICS_FILE = "FeatureStats.pb"
_DATA_DIGEST = "data_digest"
_log = logging.getLogger("movierec.data")


class DistributionCheckSpec(component_spec.ComponentSpec):
    """Statistics and vocabularies in, anomalies out."""

    PARAMETERS: ClassVar = {
        "data_digest": component_spec.ExecutionParameter(type=str),
        "input_path": component_spec.ExecutionParameter(type=str),
        "spans": component_spec.ExecutionParameter(type=str),
        "limits": component_spec.ExecutionParameter(type=str),
        "serving_logs": component_spec.ExecutionParameter(type=str),
        "serving_digest": component_spec.ExecutionParameter(type=str),
        "previous": component_spec.ExecutionParameter(type=str, optional=True),
        "accepted_data_path": component_spec.ExecutionParameter(type=str, optional=True),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {
        "statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
        "catalog": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "user_state": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS: ClassVar = {ANOMALIES: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


def find_last_accepted(handle: metadata.Metadata, pipeline_name: str, data_digest: str) -> str:
    """Where the newest check of other data lies that the gate let pass; "" where there is none."""
    store = handle.store
    node = store.get_context_by_type_and_name("node", f"{pipeline_name}.{GATE}")
    if node is None:
        return ""
    passed = [
        execution.id
        for execution in store.get_executions_by_context(node.id)
        if execution.last_known_state in (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)
    ]
    events = [event for event in store.get_events_by_execution_ids(passed) if event.type == mlmd.Event.INPUT]
    for event in sorted(events, key=lambda event: event.execution_id, reverse=True):
        [artifact] = store.get_artifacts_by_id([event.artifact_id])
        found = artifact.custom_properties[_DATA_DIGEST].string_value  # "": ExampleValidator's
        if found not in ("", data_digest) and fileio.exists(f"{artifact.uri}/{_VOCABULARY_FILE}"):
            return str(artifact.uri)
    return ""


class Driver(base_driver.BaseDriver, portable_driver.BaseDriver):
    """Puts the last accepted data into the execution properties before the cache is asked."""

    def __init__(self, handle: metadata.Metadata):
        base_driver.BaseDriver.__init__(self, handle)
        portable_driver.BaseDriver.__init__(self, handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        with self._mlmd_connection as handle:
            found = find_last_accepted(
                handle, execution_info.pipeline_info.id, execution_info.exec_properties[_DATA_DIGEST]
            )
        output = driver_output_pb2.DriverOutput()
        output.exec_properties["previous"].string_value = found
        return output


class Executor(base_executor.BaseExecutor):
    """Compares, and writes down what is beyond its limit; it stops nothing."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes anomalies by split, the measurements, the page, and what the next data are compared with.

        Raises:
          InputError: a serving log cannot be read.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        one = {key: artifact_utils.get_single_instance(artifacts) for key, artifacts in input_dict.items()}
        output = artifact_utils.get_single_instance(output_dict[ANOMALIES])
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(one["schema"].uri))
        limits, previous_uri = json.loads(exec_properties["limits"]), exec_properties.get("previous") or ""
        if exec_properties.get("accepted_data_path"):
            exec_properties = {**exec_properties, **_read_by_the_ingest(one["catalog"])}
            folder = pathlib.Path(exec_properties["accepted_data_path"])
            previous_uri = remembered.last_accepted(folder, exec_properties[_DATA_DIGEST])
        data_digest = exec_properties[_DATA_DIGEST]
        statistics = {
            split: stats_artifact_utils.load_statistics(one["statistics"], split).proto() for split in f.SPLITS
        }
        counts = vocabulary.count(one["catalog"], one["user_state"])
        previous = _previous_statistics(previous_uri)

        against = ["Nothing to compare with: no other data have passed here before."]
        found = []
        if previous:
            against = [f"Compared with the last accepted data, {previous_uri}."]
            found += _drift(statistics, previous, schema, limits)
            before = pl.read_parquet(f"{previous_uri}/{_VOCABULARY_FILE}")
            found += vocabulary.new_shares(counts, before, limits["new_vocabulary"])
        found += _span_drift(exec_properties, schema, limits)
        log_paths = [pathlib.Path(path) for path in json.loads(exec_properties["serving_logs"])]
        if log_paths:
            served = served_requests.read(log_paths)
            against.append(f"And with {served.num_requests:,} requests that were served.")
            found += _skew(statistics[f.TRAIN], served, counts, limits)
        accepted = [measured for measured in found if acceptance.is_accepted(schema, measured, data_digest)]

        parts = list(dict.fromkeys([*f.SPLITS, *(measured.split for measured in found)]))  # the newest span is no split
        for part in parts:
            anomalies = distances.anomalies(m for m in found if m.split == part and m not in accepted)
            io_utils.write_bytes_file(f"{output.uri}/Split-{part}/{DEFAULT_FILE_NAME}", anomalies.SerializeToString())
        for split in f.SPLITS:
            content = statistics[split].SerializeToString()
            io_utils.write_bytes_file(f"{output.uri}/Split-{split}/{STATISTICS_FILE}", content)
        output.split_names = artifact_utils.encode_split_names(parts)
        output.set_string_custom_property(_DATA_DIGEST, data_digest)
        output.set_int_custom_property("num_comparisons", len(found))
        output.set_int_custom_property("num_breaches", sum(m.is_breach for m in found))
        output.set_int_custom_property("num_accepted", sum(m.is_breach for m in accepted))
        counts.write_parquet(f"{output.uri}/{_VOCABULARY_FILE}")
        lines = [json.dumps({**dataclasses.asdict(m), "accepted": m.is_breach and m in accepted}) for m in found]
        io_utils.write_string_file(f"{output.uri}/{MEASUREMENTS_FILE}", "[" + ",\n ".join(lines) + "]\n")
        page = statistics_page.page(f"Data {data_digest[:16]}", " ".join(against), statistics, previous, found)
        io_utils.write_string_file(f"{output.uri}/{PAGE_FILE}", page)


def _read_by_the_ingest(catalog: types.Artifact) -> dict[str, str]:
    """The execution properties that a runner fills in where it sees the data."""
    return {name: catalog.get_string_custom_property(name) for name in (_DATA_DIGEST, "input_path", "spans")}


def _previous_statistics(uri: str) -> dict[str, Statistics]:
    if not uri:
        return {}
    paths = {split: f"{uri}/Split-{split}/{STATISTICS_FILE}" for split in f.SPLITS}
    return {split: Statistics.FromString(fileio.open(path, "rb").read()) for split, path in paths.items()}


def _drift(
    statistics: Mapping[str, Statistics], previous: Mapping[str, Statistics], schema: schema_pb2.Schema, limits: Any
) -> list[Measurement]:
    num_rows = {split: min(map(distances.num_rows, (statistics[split], previous[split]))) for split in f.SPLITS}
    small = [split for split in f.SPLITS if num_rows[split] < limits["min_rows"]]
    if small:
        _log.info("no drift is measured in %s: fewer than %d rows", ", ".join(small), limits["min_rows"])
    return [
        measured
        for split in f.SPLITS
        if split not in small
        for measured in distances.drift(split, statistics[split], previous[split], schema, limits["drift"])
    ]


def _span_drift(
    exec_properties: Mapping[str, Any], schema: schema_pb2.Schema, limits: Mapping[str, Any]
) -> list[Measurement]:
    """The newest span against the one before it."""
    folder = pathlib.Path(exec_properties["input_path"])
    pair = span_statistics.newest_and_before(folder, json.loads(exec_properties["spans"]))
    if pair is None:
        return []
    newest, before = (span_statistics.of_span(folder, number) for number in pair)
    if min(map(distances.num_rows, (newest, before))) < limits["min_rows"]:
        _log.info("span %d is not compared with span %d: fewer than %d rows", *pair, limits["min_rows"])
        return []
    return distances.drift(f"span-{pair[0]}", newest, before, schema, limits["drift"])


def _skew(
    trained: Statistics, served: served_requests.Served, counts: pl.DataFrame, limits: Any
) -> list[Measurement]:
    statistics = served.statistics()
    enough = {
        name: original
        for name, original in served_requests.COMPARED.items()
        if len(getattr(served, name)) >= limits["min_rows"]
    }
    few = ", ".join(sorted(served_requests.COMPARED.keys() - enough.keys()))
    if few:
        _log.info("no skew is measured of %s: the log holds fewer than %d values", few, limits["min_rows"])
    found = distances.skew(f.TRAIN, trained, statistics, enough, limits["skew"])
    if enough:
        known = counts.filter(pl.col("feature") == f.MOVIE_ID.name)["value"]
        share, limit = served.unknown_share(known), limits["skew"]["unknown_movie_id"]
        measure = "share of the requested movies that training does not know,"
        found.append(Measurement(distances.SKEW, f.TRAIN, f.MOVIE_ID.name, measure, share, limit))
    return found


class DistributionCheck(base_component.BaseComponent):
    """Output `anomalies`: ExampleAnomalies, by split, for the gate; beside them measurements and TFDV's page."""

    SPEC_CLASS = DistributionCheckSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        *,
        statistics: BaseChannel,
        schema: BaseChannel,
        catalog: BaseChannel,
        user_state: BaseChannel,
        data_digest: str,
        input_path: str = "",
        spans: Sequence[int] = (),
        limits: str,
        serving_logs: str = "[]",
        serving_digest: str = "",
        accepted_data_path: str = "",
        code: str,
    ) -> None:
        """Constructs the component.

        Args:
          statistics: from StatisticsGen.
          schema: from PinnedSchema; it says what was accepted, too.
          catalog: from the ExampleGen.
          user_state: from the ExampleGen.
          data_digest: tells one data from another.
          input_path: the folder of the spans, if there are any.
          spans: numbers of those that are read.
          limits: JSON of drift, new_vocabulary and skew, each feature name -> limit, and of min_rows.
          serving_logs: JSON list of files of PredictionLogs; empty: skew is not measured.
          serving_digest: of their content, for the cache.
          accepted_data_path: where a root remembers data that passed; "" where ML Metadata does. With it, data_digest,
            input_path and spans are what the ExampleGen found.
          code: a digest of this component's code, for the cache.
        """
        super().__init__(
            spec=DistributionCheckSpec(
                statistics=statistics,
                schema=schema,
                catalog=catalog,
                user_state=user_state,
                data_digest=data_digest,
                input_path=input_path,
                spans=json.dumps(list(spans)),
                limits=limits,
                serving_logs=serving_logs,
                serving_digest=serving_digest,
                accepted_data_path=accepted_data_path,
                code=code,
                anomalies=types.Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )
