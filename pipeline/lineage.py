"""What ran and what came of it, read from a root's ML Metadata. Needs neither TensorFlow nor TFX."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from google.protobuf import json_format, message
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from components import model_store
from components.errors import InputError
from trainer_modules import contract

_STATES = {
    mlmd.Execution.COMPLETE: "complete",
    mlmd.Execution.CACHED: "cached",
    mlmd.Execution.FAILED: "failed",
    mlmd.Execution.RUNNING: "unfinished",
}
_OUTPUTS = (mlmd.Event.OUTPUT, mlmd.Event.INTERNAL_OUTPUT)
EVALUATIONS = {"retrieval": "RetrievalEvaluation", "ranking": "RankingEvaluation"}


@dataclasses.dataclass(frozen=True)
class Artifact:
    """Something a component made or read."""

    id: int
    uri: str
    properties: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ComponentRun:
    """One execution of one component."""

    component: str
    state: str
    """complete, cached, failed or unfinished."""
    execution_id: int
    started_ms: int
    """Milliseconds since 1970-01-01 UTC."""
    duration_s: float
    inputs: dict[str, list[Artifact]]
    outputs: dict[str, list[Artifact]]
    properties: dict[str, Any]
    """What it was told, its code digest included."""

    def output(self, key: str) -> Artifact | None:
        """The one artifact under the key, or None."""
        return next(iter(self.outputs.get(key, ())), None)


class Lineage:
    """Reads one root's metadata."""

    def __init__(self, root: pathlib.Path):
        """Opens the metadata.

        Args:
          root: the root folder.

        Raises:
          InputError: nothing has run there.
        """
        path = root / "metadata.sqlite"
        if not path.is_file():
            raise InputError(f"{root} holds no run: {path} is missing; `movierec run` makes one, --root names another")
        self.root = root
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE
        self._store = metadata_store.MetadataStore(config)

    def run_ids(self) -> list[str]:
        """Every run's id, oldest first: the local time it began."""
        return [context.name for context in self._runs()]

    def components(self, run_id: str | None = None) -> list[ComponentRun]:
        """The components of a run in the order they ran; the last run unless told.

        A component that a killed run left unfinished and a later one did again appears in each of them once.
        """
        runs = self._runs()
        context = next((run for run in runs if run.name == run_id), None) if run_id else (runs or [None])[-1]
        if context is None:
            raise InputError(f"{self.root} holds no run {run_id or ''}; known: {', '.join(self.run_ids()) or 'none'}")
        executions = self._store.get_executions_by_context(context.id)
        return sorted(self._component_runs(executions), key=lambda run: (run.started_ms, run.execution_id))

    def producer(self, artifact_id: int) -> ComponentRun | None:
        """The execution that made an artifact, not one that was answered with it from the cache."""
        events = self._store.get_events_by_artifact_ids([artifact_id])
        ids = sorted({event.execution_id for event in events if event.type in _OUTPUTS})
        return next(iter(self._component_runs(self._store.get_executions_by_id(ids))), None) if ids else None

    def metrics(self, run_id: str | None = None) -> dict[str, Any]:
        """What the evaluations of a run found: model -> its metrics.json, with baselines and blessing.

        A model that was pushed without being blessed also has "forced_version".
        """
        found: dict[str, Any] = {}
        runs = {run.component: run for run in self.components(run_id)}
        for model, component in EVALUATIONS.items():
            artifact = runs[component].output("evaluation") if component in runs else None
            path = pathlib.Path(artifact.uri) / "metrics.json" if artifact else None
            if path is not None and path.is_file():
                found[model] = json.loads(path.read_text())
        push = runs["AtomicPush"].output("pushed_model") if "AtomicPush" in runs else None
        version = push.properties.get("pushed_version") if push else None
        for report in found.values():
            if version and not report["blessed"]:
                report["forced_version"] = version
        return found

    def pushed(self) -> list[dict[str, Any]]:
        """Where each version that was pushed came from, oldest first: data, code, runs."""
        models_path = self.root / "models"
        return [
            {
                "version": version,
                "pushed_at": record["pushed_at"],
                "forced_without": record.get("forced_without", []),
                "index": record.get("index"),
                "on_disk": all((models_path / name / version).is_dir() for name in _models(record)),
                "models": {name: self._model_source(record, name) for name in _models(record)},
            }
            for version, record in sorted(model_store.read_versions(models_path).items(), key=lambda item: int(item[0]))
        ]

    def _model_source(self, record: dict[str, Any], name: str) -> dict[str, Any]:
        model_id = record[f"{name}_model_id"]
        trainer = self.producer(model_id)
        assert trainer is not None, f"model artifact {model_id} has no producer"
        state = trainer.inputs["user_state"][0]
        ingest = self.producer(state.id)
        examples = ingest.output("examples") if ingest else None
        model = trainer.outputs["model"][0]
        start = self.producer(trainer.inputs["base_model"][0].id) if trainer.inputs.get("base_model") else None
        config = json.loads(trainer.properties.get("custom_config", "{}"))
        return {
            "model_id": model.id,
            "model_uri": model.uri,
            "model_run_uri": trainer.outputs["model_run"][0].uri,
            "family": config.get("family"),
            "seed": config.get("seed"),
            "code": config.get("code"),
            "trained_s": trainer.duration_s,
            "warm_start": json.loads(start.properties.get("baseline") or "{}") or None if start else None,
            # Of a version whose index has grown: the larger one.
            "catalog_uri": (record.get("index") or {}).get("catalog_uri") or trainer.inputs["catalog"][0].uri,
            "transform_graph_uri": trainer.inputs["transform_graph"][0].uri,
            "training": {key: config.get(key) for key in ("user_snapshot", "rating_range", "index")},
            "user_state_uri": state.uri,
            "examples_uri": examples.uri if examples else None,
            "data": {
                name: examples.properties.get(name) if examples else None
                for name in ("dataset", "split", "spans", "data_digest", "num_rows")
            },
        }

    def _runs(self) -> list[mlmd.Context]:
        return sorted(self._store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)

    def _component_runs(self, executions: list[mlmd.Execution]) -> list[ComponentRun]:
        events = self._store.get_events_by_execution_ids([execution.id for execution in executions])
        artifacts = {
            artifact.id: Artifact(artifact.id, artifact.uri, _values(artifact.properties, artifact.custom_properties))
            for artifact in self._store.get_artifacts_by_id(sorted({event.artifact_id for event in events}))
        }
        runs = []
        for execution in executions:
            nodes = [c.name for c in self._store.get_contexts_by_execution(execution.id) if c.type == "node"]
            if not nodes:
                continue
            inputs: dict[str, list[Artifact]] = {}
            outputs: dict[str, list[Artifact]] = {}
            for event in (event for event in events if event.execution_id == execution.id):
                side = outputs if event.type in _OUTPUTS else inputs
                side.setdefault(event.path.steps[0].key, []).append(artifacts[event.artifact_id])
            runs.append(ComponentRun(
                component=nodes[0].rpartition(".")[2],
                state=_STATES.get(execution.last_known_state, "unfinished"),
                execution_id=execution.id,
                started_ms=execution.create_time_since_epoch,
                duration_s=(execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000,
                inputs=inputs,
                outputs=outputs,
                properties=_values(execution.properties, execution.custom_properties),
            ))
        return runs


def _models(record: dict[str, Any]) -> list[str]:
    """Those that were pushed together."""
    return [name for name in contract.MODELS if f"{name}_model_id" in record]


def _values(*maps: Any) -> dict[str, Any]:
    """Property maps as plain, JSON-able values."""
    values = {name: getattr(value, value.WhichOneof("value")) for part in maps for name, value in part.items()}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    return json_format.MessageToDict(value) if isinstance(value, message.Message) else value
