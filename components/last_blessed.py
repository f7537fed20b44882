"""LastBlessed: the newest blessed model of this pipeline that is not the candidate, or nothing.

TFX's resolver for the last blessed model finds the candidate itself on the run after its blessing, so every second run
would evaluate and push anew. Here a driver asks ML Metadata before the cache key is made, and its answer, an execution
property, is part of that key: a run that changes nothing gives the same answer and is answered from the cache.

Where a runner has no drivers, the push keeps what it pushed in a folder, and the executor looks there: the newest
version of the root is the last blessed, and what is blessed without being pushed is nobody's baseline.

The same component finds what a training may start from. There is no candidate then, and left out are models that were
fitted on today's very rows: an identical run starts from where the first one did, and is answered from the cache.
"""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any, ClassVar

import numpy as np
from ml_metadata import proto as mlmd
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.components.base import base_driver as dsl_driver
from tfx.dsl.io import fileio
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from components import evaluation_data, file_trees, remembered
from components.baseline import BASELINE_FILE, SAVED_MODEL_FOLDER
from trainer_modules import features, fit_pairs

_LOG = logging.getLogger("movierec.last_blessed")


class LastBlessedSpec(component_spec.ComponentSpec):
    """Candidate in, baseline out."""

    PARAMETERS: ClassVar = {
        "blessing_producer_id": component_spec.ExecutionParameter(type=str),
        "folder": component_spec.ExecutionParameter(type=str),
        "baseline": component_spec.ExecutionParameter(type=str, optional=True),
        "blessed_path": component_spec.ExecutionParameter(type=str, optional=True),
        "code": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar = {
        "candidate": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "user_state": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS: ClassVar = {"model": component_spec.ChannelParameter(type=standard_artifacts.Model)}


def find_last_blessed(
    handle: metadata.Metadata,
    pipeline_name: str,
    blessing_producer_id: str,
    candidate_id: int = 0,
    user_state_uri: str = "",
    folder: str = SAVED_MODEL_FOLDER,
) -> dict[str, Any]:
    """Asks ML Metadata for the newest blessed model other than the candidate.

    Args:
      handle: an open connection.
      pipeline_name: only this pipeline's artifacts count.
      blessing_producer_id: id of the component that blesses this kind of model.
      candidate_id: artifact id; a candidate from the cache keeps the id it had. 0: there is none.
      user_state_uri: models that were fitted on this are left out; "": none are.
      folder: that the model's artifact must have.

    Returns:
      {"model_id", "model_uri", "user_state_uri" ("" where unknown), "version" (the first it was pushed under, or "")},
      or {} where there is none whose files still exist.
    """
    store = handle.store
    node = store.get_context_by_type_and_name("node", f"{pipeline_name}.{blessing_producer_id}")
    if node is None:
        return {}
    blessings = store.get_artifacts_by_context(node.id)
    for blessing in sorted(blessings, key=lambda artifact: artifact.id, reverse=True):
        model_id = blessing.custom_properties["current_model_id"].int_value  # 0: something else than a blessing
        if blessing.custom_properties["blessed"].int_value != 1 or model_id in (0, candidate_id):
            continue
        [model] = store.get_artifacts_by_id([model_id])
        fitted_on = _input_uri_of_producer(store, model_id, "user_state")
        if fileio.exists(f"{model.uri}/{folder}") and not (user_state_uri and fitted_on == user_state_uri):
            return {
                "model_id": model_id,
                "model_uri": model.uri,
                "user_state_uri": fitted_on,
                "version": _first_pushed_version(store, model_id),
            }
    return {}


def _input_uri_of_producer(store: Any, artifact_id: int, key: str) -> str:
    """Where the execution that made an artifact found its input `key`; "" where it has none."""
    made = [event for event in store.get_events_by_artifact_ids([artifact_id]) if event.type == mlmd.Event.OUTPUT]
    # Later output events belong to executions that were answered with it from the cache.
    producer_id = min((event.execution_id for event in made), default=0)
    for event in store.get_events_by_execution_ids([producer_id]):
        if event.type == mlmd.Event.INPUT and event.path.steps[0].key == key:
            [artifact] = store.get_artifacts_by_id([event.artifact_id])
            return artifact.uri
    return ""


def _first_pushed_version(store: Any, model_id: int) -> str:
    """Of all versions that held the model the first, which no later push of it changes; so the cache key stays."""
    read = [event for event in store.get_events_by_artifact_ids([model_id]) if event.type == mlmd.Event.INPUT]
    made = store.get_events_by_execution_ids({event.execution_id for event in read})
    ids = [event.artifact_id for event in made if event.type == mlmd.Event.OUTPUT]
    versions = [
        int(artifact.custom_properties["pushed_version"].string_value or 0)
        for artifact in store.get_artifacts_by_id(ids)
    ]
    return str(min((version for version in versions if version), default=""))


class Driver(dsl_driver.BaseDriver, portable_driver.BaseDriver):
    """Puts the baseline into the execution properties before the cache is asked."""

    def __init__(self, handle: metadata.Metadata):
        dsl_driver.BaseDriver.__init__(self, handle)
        portable_driver.BaseDriver.__init__(self, handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        candidates, states = (execution_info.input_dict.get(key) or [] for key in ("candidate", "user_state"))
        with self._mlmd_connection as handle:
            found = find_last_blessed(
                handle,
                execution_info.pipeline_info.id,
                execution_info.exec_properties["blessing_producer_id"],
                candidates[0].id if candidates else 0,
                states[0].uri if states else "",
                execution_info.exec_properties["folder"],
            )
        output = driver_output_pb2.DriverOutput()
        output.exec_properties["baseline"].string_value = json.dumps(found, sort_keys=True)
        return output


class Executor(base_executor.BaseExecutor):
    """Copies what is wanted of the baseline, so that it outlives whatever becomes of the original."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        output = artifact_utils.get_single_instance(output_dict["model"])
        if exec_properties.get("blessed_path"):
            states = input_dict.get("user_state") or []
            found = _remembered(pathlib.Path(exec_properties["blessed_path"]), exec_properties["folder"], states)
        else:
            found = json.loads(exec_properties.get("baseline") or "{}")
        fileio.makedirs(output.uri)
        if found:
            folder = exec_properties["folder"]
            for part in (folder, fit_pairs.FOLDER):
                if fileio.exists(f"{found['model_uri']}/{part}"):
                    file_trees.copy(f"{found['model_uri']}/{part}", f"{output.uri}/{part}")
            version = found["version"] or "(never pushed)"
            _LOG.info("the last blessed is model %d, version %s: its %s", found["model_id"], version, folder)
        else:
            _LOG.info("no other model has been blessed yet")
        with fileio.open(f"{output.uri}/{BASELINE_FILE}", "w") as file:
            file.write(json.dumps(found, indent=1) + "\n")


def _remembered(root: pathlib.Path, folder: str, user_states: list[types.Artifact]) -> dict[str, Any]:
    """As find_last_blessed, of the models that a root remembers."""
    models = [path for path in remembered.blessed(root) if (path / folder).is_dir()]
    if user_states:
        known = evaluation_data.read_user_states(user_states[0].uri, features.FIT_SPLITS)
        todays = np.unique(fit_pairs.hashes(evaluation_data.pairs(known.user_id[known.row_user], known.movie_id)))
        fitted_on = {path: fit_pairs.read(str(path)) for path in models}
        models = [path for path, rows in fitted_on.items() if rows is None or not np.array_equal(rows, todays)]
    if not models:
        return {}
    return {"model_id": 0, "model_uri": str(models[-1]), "user_state_uri": "", "version": models[-1].name}


class LastBlessed(base_component.BaseComponent):
    """Outputs `model`: a Model artifact with a copy of one folder of the baseline and of its fit rows, or without them;
    and baseline.json."""

    SPEC_CLASS = LastBlessedSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        blessing_producer_id: str,
        model: types.BaseChannel | None = None,
        user_state: types.BaseChannel | None = None,
        folder: str = SAVED_MODEL_FOLDER,
        blessed_path: str = "",
        code: str = "",
    ):
        """Makes the component.

        Args:
          model: the candidate, if there is one already.
          user_state: what is fitted on today, to leave out models that were fitted on it.
          folder: of the model's artifact: the SavedModel, or what a training may start from
            (fit_pairs.WARM_START_FOLDER).
          blessing_producer_id: id of the component whose ModelBlessings say which models were blessed. It lies
            downstream of this one, so it is named and not linked.
          blessed_path: where a root remembers this kind of model; "" where ML Metadata does.
          code: digest of the code behind this component, for the cache.
        """
        spec = LastBlessedSpec(
            candidate=model,
            user_state=user_state,
            folder=folder,
            model=types.Channel(type=standard_artifacts.Model),
            blessing_producer_id=blessing_producer_id,
            blessed_path=blessed_path,
            code=code,
        )
        super().__init__(spec=spec)
