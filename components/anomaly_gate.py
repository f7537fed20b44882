"""TFX component: stops the run where ExampleValidator or DistributionCheck found anomalies, which they do not.

What must not see bad data gets this component as an upstream node.
"""

from __future__ import annotations

import itertools
import pathlib
import posixpath
from typing import Any, ClassVar

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.types.channel import BaseChannel

from components import remembered
from components.errors import InputError

ANOMALIES = "anomalies"
DISTRIBUTION_ANOMALIES = "distribution_anomalies"
"""Keys of the inputs."""


def describe(split: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """One line an anomaly: split, feature, reason; none where all is well."""
    lines = [
        f"{split}: {name}: {info.description or info.short_description}"
        for name, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"{split}: {anomalies.dataset_anomaly_info.description}")
    if anomalies.data_missing:
        lines.append(f"{split}: there are no examples")
    return lines


class AnomalyGateSpec(component_spec.ComponentSpec):
    """Anomalies in, nothing out."""

    PARAMETERS: ClassVar = {
        "accepted_data_path": component_spec.ExecutionParameter(type=str, optional=True),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {
        ANOMALIES: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        DISTRIBUTION_ANOMALIES: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleAnomalies, optional=True
        ),
    }
    OUTPUTS: ClassVar[dict[str, component_spec.ChannelParameter]] = {}


class Executor(base_executor.BaseExecutor):
    """Reads what was written down."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Passes, or stops the run.

        Raises:
          InputError: there are anomalies in any of the splits; it lists them all.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        lines = []
        for artifact in itertools.chain.from_iterable(input_dict[key] for key in sorted(input_dict)):
            for split in artifact_utils.decode_split_names(artifact.split_names):
                path = posixpath.join(artifact_utils.get_split_uri([artifact], split), DEFAULT_FILE_NAME)
                with fileio.open(path, "rb") as file:
                    lines += describe(split, anomalies_pb2.Anomalies.FromString(file.read()))
        if lines:
            raise InputError(
                "The examples are not what the schema and the limits say (split: feature: reason):\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nCorrect the data; or, where the change is deliberate, record it in the root's schema:"
                " movierec data EDITION --accept, with this run's --root, if it has one."
            )
        folder, compared = exec_properties.get("accepted_data_path"), input_dict.get(DISTRIBUTION_ANOMALIES)
        if folder and compared:
            artifact = artifact_utils.get_single_instance(compared)
            digest = artifact.get_string_custom_property("data_digest")
            remembered.keep_accepted(pathlib.Path(folder), artifact.uri, digest)


class AnomalyGate(base_component.BaseComponent):
    """Has no output: it either passes or raises."""

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        anomalies: BaseChannel,
        distribution_anomalies: BaseChannel | None = None,
        accepted_data_path: str = "",
        code: str,
    ) -> None:
        """Constructs the component.

        Args:
          anomalies: ExampleAnomalies, from ExampleValidator.
          distribution_anomalies: the same, from DistributionCheck.
          accepted_data_path: where a root remembers data that passed; "" where ML Metadata does.
          code: a digest of this component's code, for the cache.
        """
        super().__init__(
            spec=AnomalyGateSpec(
                anomalies=anomalies,
                distribution_anomalies=distribution_anomalies,
                accepted_data_path=accepted_data_path,
                code=code,
            )
        )
