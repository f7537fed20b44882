"""TFX component: MovieLens files to the rating examples, the catalog and the user state.

An ExampleGen of its own kind: TFX's has one output, writes record by record and splits by hash only. Here the files are
parsed and their rows split in one place; then Beam turns shards of users into examples, wherever it runs.
"""

from __future__ import annotations

import json
import logging
import pathlib
import posixpath
from collections.abc import Sequence
from typing import Any, ClassVar

import apache_beam as beam
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from components import data_lookup, example_shards, movielens, shard_examples, splits
from components import spans as span_store
from components.editions import OWN_FILES, Edition
from components.errors import InputError
from components.example_shards import Shard
from trainer_modules import features

EXAMPLES = "examples"
CATALOG = "catalog"
USER_STATE = "user_state"
"""Keys of the outputs."""

_log = logging.getLogger("movierec.data")


class MovieLensExampleGenSpec(component_spec.ComponentSpec):
    """Nothing in, three kinds of examples out."""

    PARAMETERS: ClassVar = {
        "input_path": component_spec.ExecutionParameter(type=str),
        "dataset": component_spec.ExecutionParameter(type=str),
        "layout": component_spec.ExecutionParameter(type=str),
        "spans": component_spec.ExecutionParameter(type=str),
        "split": component_spec.ExecutionParameter(type=str),
        "seed": component_spec.ExecutionParameter(type=int),
        "history_length": component_spec.ExecutionParameter(type=int),
        "max_bad_share": component_spec.ExecutionParameter(type=float),
        "rejected_path": component_spec.ExecutionParameter(type=str),
        "data_digest": component_spec.ExecutionParameter(type=str),
        "root": component_spec.ExecutionParameter(type=str),
        "num_last_spans": component_spec.ExecutionParameter(type=int),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, component_spec.ChannelParameter]] = {}
    OUTPUTS: ClassVar = {
        EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        CATALOG: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        USER_STATE: component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads, splits, and has Beam write the examples."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the three outputs.

        Raises:
          InputError: the files are not good enough, or a split has no row.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        if exec_properties.get("root"):
            exec_properties = {**exec_properties, **_looked_up(exec_properties)}
        numbers: list[int] = json.loads(exec_properties["spans"])
        dataset = _read(exec_properties, numbers)
        split = splits.parse(exec_properties["split"])
        work_dir = self._get_tmp_dir()
        fileio.makedirs(work_dir)
        shards, num_rows = example_shards.cut(dataset, split.name, exec_properties["seed"], work_dir)
        _check_splits(num_rows, split.name)

        examples, catalog, user_state = (
            artifact_utils.get_single_instance(output_dict[key]) for key in (EXAMPLES, CATALOG, USER_STATE)
        )
        newest_span = max(numbers, default=0)
        _prepare(examples, features.SPLITS, newest_span)
        _prepare(user_state, features.SPLITS, newest_span)
        _prepare(catalog, (features.ALL,), newest_span)
        catalog_path = posixpath.join(
            artifact_utils.get_split_uri([catalog], features.ALL), example_shards.tfrecord_name(0, 1)
        )
        shard_examples.write_catalog(dataset.movies, catalog_path, work_dir)
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(shards)
                | "Spread" >> beam.Reshuffle()
                | "WriteExamples"
                >> beam.ParDo(
                    _WriteShard(
                        examples.uri,
                        user_state.uri,
                        work_dir,
                        exec_properties["history_length"],
                        split.is_timeless,
                    )
                )
            )
        examples.set_int_custom_property("num_rows_in", dataset.num_rows_in)
        examples.set_int_custom_property("num_rows", dataset.ratings.height)
        examples.set_int_custom_property("num_duplicates", dataset.num_duplicates)
        examples.set_int_custom_property("num_rejected", dataset.num_rejected)
        for name in ("dataset", "split", "spans", "data_digest"):
            examples.set_string_custom_property(name, exec_properties[name])
        for name in ("spans", "data_digest", "input_path"):
            catalog.set_string_custom_property(name, exec_properties[name])
        _log.info(
            "%d ratings of %d movies: %s",
            dataset.ratings.height, dataset.movies.height,
            ", ".join(f"{num_rows[split]} {split}" for split in features.SPLITS),
        )  # fmt: skip


class MovieLensExampleGen(base_beam_component.BaseBeamComponent):
    """Outputs (Examples artifacts, gzip TFRecords of tf.Examples, features as in trainer_modules.features):

    * examples: one a rating, splits train, eval and test, with what was known of the user then;
    * catalog: one a movie, split "all", in the order of the movies file, which is the catalog's everywhere;
    * user_state: one a user and split, with the user's rows of that split alone.
    """

    SPEC_CLASS = MovieLensExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        input_path: str,
        dataset: str,
        layout: str = "",
        spans: Sequence[int] = (),
        split: str = splits.LEAVE_LAST_OUT,
        seed: int = 7,
        history_length: int = features.HISTORY_LENGTH,
        max_bad_share: float = 0.01,
        rejected_path: str = "",
        data_digest: str,
        root: str = "",
        num_last_spans: int = 0,
        code: str,
    ) -> None:
        """Constructs the component.

        Args:
          input_path: folder or zip of the edition's files, from movielens.locate; or the folder of the spans.
          dataset: name of the edition.
          layout: of files of one's own, Edition.to_json; empty: the edition's of that name.
          spans: numbers of the spans to read, oldest first; empty: input_path holds the edition's files.
          split: as splits.parse takes it; spans have no official folds.
          seed: of what the split draws at random.
          history_length: the newest rows that a history holds, 1 to features.HISTORY_LENGTH.
          max_bad_share: of a file's rows that may be bad before the run stops, 0 to 1.
          rejected_path: folder for the list of rows set aside; empty: no list.
          data_digest: from movielens.content_digest. Not used but for the cache, to which other data has to look
            different.
          root: of a run whose data this component is to look up itself (data_lookup.find); input_path is a folder or
            zip of the edition then, or empty, and spans, layout and data_digest are not used.
          num_last_spans: with root: how many of its newest spans are read; 0: all.
          code: a digest of the code that makes the examples, for the same reason.

        Raises:
          InputError: history_length or max_bad_share is out of range.
        """
        if not 1 <= history_length <= features.HISTORY_LENGTH:
            raise InputError(f"history_length is {history_length}; it should be 1 to {features.HISTORY_LENGTH}.")
        if not 0 <= max_bad_share <= 1:
            raise InputError(f"max_bad_share is {max_bad_share}; it is a share, 0 to 1.")
        super().__init__(
            spec=MovieLensExampleGenSpec(
                input_path=input_path,
                dataset=dataset,
                layout=layout,
                spans=json.dumps(list(spans)),
                split=split,
                seed=seed,
                history_length=history_length,
                max_bad_share=max_bad_share,
                rejected_path=rejected_path,
                data_digest=data_digest,
                root=root,
                num_last_spans=num_last_spans,
                code=code,
                **{key: types.Channel(type=standard_artifacts.Examples) for key in (EXAMPLES, CATALOG, USER_STATE)},
            )
        )


class _WriteShard(beam.DoFn):
    """Writes one shard's files."""

    def __init__(
        self, examples_uri: str, user_state_uri: str, work_dir: str, history_length: int, is_timeless: bool
    ) -> None:
        self._arguments = (examples_uri, user_state_uri, work_dir, history_length, is_timeless)

    def process(self, shard: Shard) -> list[None]:
        """Adds nothing to the pipeline: what it does is in the files."""
        shard_examples.write_shard(shard, *self._arguments)
        return []


def _looked_up(exec_properties: dict[str, Any]) -> dict[str, Any]:
    """The execution properties that a runner fills in where it sees the data."""
    found = data_lookup.find(
        pathlib.Path(exec_properties["root"]),
        exec_properties["dataset"],
        exec_properties["input_path"],
        splits.parse(exec_properties["split"]).fold,
        exec_properties["num_last_spans"],
    )
    return {
        "input_path": str(found.path),
        "layout": found.edition.to_json() if found.edition.name == OWN_FILES else "",
        "spans": json.dumps(list(found.spans)),
        "data_digest": found.digest,
    }


def _read(exec_properties: dict[str, Any], numbers: list[int]) -> movielens.Dataset:
    """The spans with these numbers; without any the edition's files."""
    path, layout, rejected_path = (exec_properties[name] for name in ("input_path", "layout", "rejected_path"))
    if numbers:
        return span_store.read(pathlib.Path(path), numbers)
    edition = Edition.from_json(layout) if layout else movielens.get_edition(exec_properties["dataset"])
    return movielens.read(
        pathlib.Path(path),
        edition.with_fold(splits.parse(exec_properties["split"]).fold),
        exec_properties["max_bad_share"],
        pathlib.Path(rejected_path) if rejected_path else None,
    )


def _prepare(artifact: types.Artifact, split_names: tuple[str, ...], newest_span: int) -> None:
    """Names the splits, makes their folders and says what is in the files."""
    artifact.split_names = artifact_utils.encode_split_names(list(split_names))
    artifact.span, artifact.version = newest_span, 0
    examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(artifact, "tfrecords_gzip")
    for split in split_names:
        fileio.makedirs(artifact_utils.get_split_uri([artifact], split))


def _check_splits(num_rows: dict[str, int], split: str) -> None:
    """Raises InputError where a split is empty: later components fail on that, and no one could say why."""
    empty = [name for name, count in num_rows.items() if not count]
    if empty:
        raise InputError(
            f"The split {split} leaves no rating for {' and '.join(empty)} ({num_rows}). Either there are too few"
            " ratings (a user needs three for leave_last_out; the others need ten in all), or the split's days lie"
            " outside the data's (`movierec data EDITION --describe` shows them)."
        )
