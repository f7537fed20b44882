"""AtomicPush: all blessed and validated models of a run become one new version, at once; or nothing is pushed.

Forced, it does without the evaluations' blessings, never without infra validation's, and keeps with the version which
ones were missing.

Retrieval is optional: a run that trains ranking alone pushes ranking alone. So is the one-call model. Each model is
pushed with the requests that infra validation asked it, as warm-up.

The cache must not answer for the destination: when code goes back to an older state, all else comes from the cache and
the older models still have to be pushed anew. A driver therefore puts a push id into the execution properties: the one
that was kept with the newest version where that version holds these models, and a new one otherwise. A runner without
driver hooks must not cache this component.
"""

from __future__ import annotations

import json
import logging
import pathlib
import tempfile
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.components.base import base_driver as dsl_driver
from tfx.orchestration import metadata
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from components import baseline, evaluation_report, file_trees, model_store, remembered
from trainer_modules import contract, fit_pairs

_INFRA_BLESSING = "infra_blessing"

_LOG = logging.getLogger("movierec.push")


class AtomicPushSpec(component_spec.ComponentSpec):
    """Models and blessings in, a note of the push out."""

    PARAMETERS: ClassVar = {
        "destination": component_spec.ExecutionParameter(type=str),
        "keep_versions": component_spec.ExecutionParameter(type=int),
        "force": component_spec.ExecutionParameter(type=int, optional=True),
        "push_id": component_spec.ExecutionParameter(type=str, optional=True),
        "blessed_path": component_spec.ExecutionParameter(type=str, optional=True),
        "code": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar = {
        "retrieval_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "ranking_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "both_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "retrieval_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        "ranking_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
    }
    OUTPUTS: ClassVar = {"pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class Driver(dsl_driver.BaseDriver, portable_driver.BaseDriver):
    """Looks at the destination before the cache is asked."""

    def __init__(self, handle: metadata.Metadata):
        dsl_driver.BaseDriver.__init__(self, handle)
        portable_driver.BaseDriver.__init__(self, handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        output = driver_output_pb2.DriverOutput()
        push_id = ""  # what is not blessed is not pushed, whatever the destination holds
        if not _in_the_way(execution_info.input_dict, execution_info.exec_properties):
            with tempfile.TemporaryDirectory() as folder:
                sources = _sources(execution_info.input_dict, folder)
                held = model_store.holding(execution_info.exec_properties["destination"], sources)
            push_id = held.record.get("push_id", "") if held else uuid.uuid4().hex
        output.exec_properties["push_id"].string_value = push_id
        return output


class Executor(base_executor.BaseExecutor):
    """Pushes, or says why not."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        note = artifact_utils.get_single_instance(output_dict["pushed_model"])
        destination = exec_properties["destination"]
        model_store.recover(destination)
        in_the_way = _in_the_way(input_dict, exec_properties)
        if in_the_way:
            reason = f"nothing is pushed: not blessed by {', '.join(in_the_way)}"
            _mark(note, destination, pushed=False, version=None, reason=reason, record={})
            return
        origin: dict[str, Any] = {"push_id": exec_properties.get("push_id") or uuid.uuid4().hex}
        overruled = _not_blessed(input_dict)
        if overruled:
            origin["forced_without"] = overruled
        for name in _models(input_dict):
            model = artifact_utils.get_single_instance(input_dict[f"{name}_model"])
            origin[f"{name}_model_id"], origin[f"{name}_model_uri"] = model.id, model.uri
        with tempfile.TemporaryDirectory() as folder:
            sources = _sources(input_dict, folder)
            done = model_store.push(destination, sources, exec_properties["keep_versions"], origin)
        if exec_properties.get("blessed_path") and not overruled:
            _remember(input_dict, pathlib.Path(exec_properties["blessed_path"]), done, exec_properties["keep_versions"])
        reason = f"version {done.version} " + ("is new" if done.pushed else "holds these models already")
        _mark(note, destination, done.pushed, done.version, reason, done.record)


def _models(input_dict: Mapping[str, Any]) -> list[str]:
    """The names of those that are pushed together."""
    return [name for name in contract.SERVED if input_dict.get(f"{name}_model")]


def _not_blessed(input_dict: Mapping[str, Any]) -> list[str]:
    """The blessings that are none."""
    return [
        name
        for name in (*(f"{model}_blessing" for model in contract.MODELS), _INFRA_BLESSING)
        if input_dict.get(name)
        and not evaluation_report.is_blessed(artifact_utils.get_single_instance(list(input_dict[name])))
    ]


def _in_the_way(input_dict: Mapping[str, Any], exec_properties: Mapping[str, Any]) -> list[str]:
    """The blessings that are none and wanted."""
    not_blessed = _not_blessed(input_dict)
    return [name for name in not_blessed if name == _INFRA_BLESSING or not exec_properties.get("force")]


def _sources(input_dict: Mapping[str, Any], folder: str) -> dict[str, model_store.Source]:
    """Model name -> local folders of its SavedModel and its warm-up; remote ones are fetched into `folder` first."""

    def local(uri: str, target: str) -> str:
        if "://" not in uri:
            return uri
        file_trees.copy(uri, f"{folder}/{target}")
        return f"{folder}/{target}"

    blessing = artifact_utils.get_single_instance(list(input_dict["infra_blessing"]))
    folder_of_requests = blessing.get_string_custom_property("warm_up")
    warm_up = local(f"{blessing.uri}/{folder_of_requests}", "warm_up") if folder_of_requests else ""
    sources: dict[str, model_store.Source] = {}
    for name in _models(input_dict):
        uri = artifact_utils.get_single_uri(list(input_dict[f"{name}_model"]))
        saved_model = local(baseline.saved_model_path(uri), name)
        sources[name] = (saved_model, f"{warm_up}/{name}") if warm_up else saved_model
    return sources


def _remember(input_dict: Mapping[str, Any], folder: pathlib.Path, done: model_store.Push, keep_versions: int) -> None:
    """What LastBlessed will want of the models, where it cannot ask ML Metadata; nothing of one that was forced."""
    not_blessed = _not_blessed(input_dict)
    for name in contract.MODELS:
        if input_dict.get(f"{name}_model") and f"{name}_blessing" not in not_blessed:
            uri = artifact_utils.get_single_uri(list(input_dict[f"{name}_model"]))
            parts = (baseline.SAVED_MODEL_FOLDER, fit_pairs.FOLDER, fit_pairs.WARM_START_FOLDER)
            remembered.keep_blessed(folder / name, uri, parts, done.version, keep_versions)


def _mark(
    note: types.Artifact, destination: str, pushed: bool, version: int | None, reason: str, record: dict[str, Any]
) -> None:
    """Writes the PushedModel artifact: the properties that TFX's Pusher leaves, and push.json."""
    _LOG.info("%s", reason)
    note.set_int_custom_property("pushed", int(pushed))
    note.set_string_custom_property("pushed_destination", destination)
    note.set_string_custom_property("reason", reason)
    if version is not None:
        note.set_string_custom_property("pushed_version", str(version))
    written = {"pushed": pushed, "version": version, "destination": destination, "reason": reason, **record}
    path = pathlib.Path(note.uri)
    path.mkdir(parents=True, exist_ok=True)
    (path / "push.json").write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")


class AtomicPush(base_component.BaseComponent):
    """Outputs `pushed_model`, a PushedModel: `pushed`, `pushed_version`, `pushed_destination`, `reason`; push.json."""

    SPEC_CLASS = AtomicPushSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        models: Mapping[str, types.BaseChannel],
        blessings: Mapping[str, types.BaseChannel],
        infra_blessing: types.BaseChannel,
        destination: str,
        keep_versions: int = 5,
        force: bool = False,
        blessed_path: str = "",
        code: str = "",
    ):
        """Makes the component.

        Args:
          models: ranking, retrieval or not, the one-call model or not: name -> what is pushed, together or not at all.
          blessings: ranking and retrieval -> the evaluations' verdicts.
          infra_blessing: the verdict on all of them, and the requests that warm them up.
          destination: local folder above the models' own, which servers watch.
          keep_versions: versions kept there, the new one included; at least 1.
          force: push though an evaluation did not bless; the version's record names what it was forced without.
          blessed_path: where a root remembers blessed models; "" where ML Metadata does.
          code: digest of the code behind this component, for the cache.
        """
        spec = AtomicPushSpec(
            **{f"{name}_model": channel for name, channel in models.items()},
            **{f"{name}_blessing": channel for name, channel in blessings.items()},
            infra_blessing=infra_blessing,
            destination=destination,
            keep_versions=keep_versions,
            force=int(force),
            blessed_path=blessed_path,
            code=code,
            pushed_model=types.Channel(type=standard_artifacts.PushedModel),
        )
        super().__init__(spec=spec)
