"""`movierec index`: a new version whose retrieval model knows more movies, without a training.

The new movies' vectors come from the trained model's own transform graph and candidate tower, by genres, year and title
words. Ranking is pushed again as it is: of a movie it does not know it says what it says of any unknown one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import shutil
import tempfile
import types
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from components import baseline, catalog_growth, evaluation_data, infra_server, model_store, one_call
from components.errors import InputError
from pipeline import root as roots
from pipeline.lineage import Lineage
from trainer_modules import contract, features, hyperparameters, index_growth, retrieval_data, retrieval_model

_KEEP_VERSIONS = 5
_TEMPORARY = ".index-"


@dataclasses.dataclass(frozen=True)
class Indexed:
    """What came of it."""

    root: str
    base_version: str
    num_new: int
    num_movies: int
    """All that the new version knows."""
    version: str | None
    """None: no movie was new, and nothing was pushed."""


def grow(
    root: pathlib.Path | None, catalog_path: pathlib.Path, version: int | None, columns: Mapping[str, str] | None
) -> Indexed:
    """Pushes a version that also knows a file's movies.

    Args:
      root: the root folder; None: the newest.
      catalog_path: .csv or .parquet: id, title, genres. Movies that are known are passed over.
      version: to start from; None: the newest.
      columns: what the file calls movie_id, title, genres; None: as MovieLens does.

    Raises:
      InputError: a bad file, no such version, a family whose index cannot grow, or a model that a server cannot answer
        from. Nothing was pushed.
    """
    found = roots.find(root)
    roots.check_retrieves(found)
    with roots.held(found):
        model_store.recover(roots.models_path(found))
        for left_over in (*found.glob(f"{_TEMPORARY}*"), *found.glob("catalogs/.*")):  # by a process that was killed
            shutil.rmtree(left_over)
        base = pushed_version(found, version)
        source = base["models"][contract.RETRIEVAL]
        before = evaluation_data.read_catalog(source["catalog_uri"])
        there = [movie_id.decode() for movie_id in before.movie_id.tolist()]
        new = catalog_growth.read_new_movies(catalog_path, there, columns or {})
        done = Indexed(str(found), base["version"], new.height, len(there) + new.height, None)
        if not new.height:
            return done
        digest = hashlib.sha256(source["catalog_uri"].encode() + new.write_json().encode()).hexdigest()
        catalog = found / "catalogs" / digest[:16]
        catalog_growth.write_grown(source["catalog_uri"], new, catalog)
        added = (base["index"] or {}).get("num_new", 0) + new.height
        origin = {
            "catalog_uri": str(catalog),
            "base_version": base["version"],
            "num_new": added,
            "file": catalog_path.name,
            "file_digest": hashlib.sha256(catalog_path.read_bytes()).hexdigest(),
        }
        return dataclasses.replace(done, version=_push(found, base, str(catalog), added, origin))


def pushed_version(root: pathlib.Path, version: int | None) -> dict[str, Any]:
    """Lineage's record of a version that is on disk, the newest unless told.

    Raises:
      InputError: there is none.
    """
    on_disk = {entry["version"]: entry for entry in Lineage(root).pushed() if entry["on_disk"]}
    newest = str(version or model_store.newest(roots.models_path(root)))
    if newest not in on_disk:
        asked = f"version {version} is not" if version else "nothing is"
        raise InputError(f"{asked} pushed to {roots.models_path(root)}; there are: {', '.join(on_disk) or 'none'}")
    return on_disk[newest]


def _push(root: pathlib.Path, base: dict[str, Any], catalog_uri: str, num_new: int, origin: dict[str, Any]) -> str:
    """Makes the models, has a server answer from them, and pushes them."""
    models_path, version = roots.models_path(root), base["version"]
    source = base["models"][contract.RETRIEVAL]
    with tempfile.TemporaryDirectory(dir=root, prefix=_TEMPORARY) as folder:
        models = {
            contract.RANKING: str(models_path / contract.RANKING / version),
            contract.RETRIEVAL: f"{folder}/{contract.RETRIEVAL}",
        }
        _export(source, catalog_uri, num_new, models[contract.RETRIEVAL])
        if contract.BOTH in model_store.newest_models(models_path):
            models[contract.BOTH] = f"{folder}/{contract.BOTH}"
            one_call.compose(models[contract.RETRIEVAL], models[contract.RANKING], models[contract.BOTH])
        low, high = base["models"][contract.RANKING]["training"]["rating_range"]
        states = evaluation_data.read_user_states(source["user_state_uri"], features.FIT_SPLITS)
        verdict = infra_server.validate(models, states, (low, high), infra_server.Limits())
        if verdict.reason:
            raise InputError(f"nothing is pushed: a server cannot answer from the grown index: {verdict.reason}")
        infra_server.write_warm_up(verdict.asked, f"{folder}/warm_up")
        sources: dict[str, model_store.Source] = {
            name: (path, f"{folder}/warm_up/{name}") for name, path in models.items()
        }
        record = model_store.read_versions(models_path)[version]
        made_of = record.get(model_store.MADE_OF) or model_store.version_digest(models_path, int(version))
        record = {**record, model_store.MADE_OF: made_of, "index": origin}
        return str(model_store.push(models_path, sources, _keep_versions(root), record).version)


def _export(source: dict[str, Any], catalog_uri: str, num_new: int, target: str) -> None:
    """Writes the retrieval model over the larger catalog."""
    trained_path = baseline.saved_model_path(source["model_uri"])
    if not pathlib.Path(trained_path).is_dir():
        raise InputError(f"{trained_path}, the model as it was trained, is gone: `movierec run` makes it again")
    trained = tf.saved_model.load(trained_path)
    # A warm start has a transform graph of its own.
    grown_graph = pathlib.Path(source["model_run_uri"], "transform_graph")
    fn_args = types.SimpleNamespace(
        transform_graph_path=str(grown_graph if grown_graph.is_dir() else source["transform_graph_uri"]),
        catalog_uri=catalog_uri,
        user_state_uri=source["user_state_uri"],
    )
    data = retrieval_data.load(fn_args)
    try:
        towers = index_growth.grown(trained, data.catalog, data.catalog.num_movies - num_new)
    except ValueError as error:
        raise InputError(f"{source['family']}: {error}; train anew with the new movies in the data") from error
    index = hyperparameters.Index(**(source["training"]["index"] or {}))
    retrieval_model.export(data, towers, target, bool(source["training"]["user_snapshot"]), index)


def _keep_versions(root: pathlib.Path) -> int:
    """As the last run was told."""
    push = next((run for run in Lineage(root).components() if run.component == "AtomicPush"), None)
    return int(push.properties["keep_versions"]) if push else _KEEP_VERSIONS


def export_annoy(root: pathlib.Path | None, path: pathlib.Path, version: int | None, num_trees: int = 50) -> int:
    """Writes the candidate vectors as an Annoy index of dot products, and PATH.ids.json: the movie id of each item.

    Args:
      root: the root folder; None: the newest.
      path: of the index.
      version: whose candidates; None: the newest.
      num_trees: of the index: more find more and take more room.

    Returns:
      How many candidates.

    Raises:
      InputError: annoy is not installed, nothing was pushed, or the file cannot be written.
    """
    try:
        import annoy
    except ImportError as error:
        raise InputError("--export annoy needs the extra of that name: pip install 'movierec[annoy]'") from error
    found = roots.find(root)
    roots.check_retrieves(found)
    base = pushed_version(found, version)
    movie_id = evaluation_data.read_catalog(base["models"][contract.RETRIEVAL]["catalog_uri"]).movie_id
    model = tf.saved_model.load(str(roots.models_path(found) / contract.RETRIEVAL / base["version"]))
    vectors = index_growth.candidate_vectors(model, movie_id)
    index = annoy.AnnoyIndex(vectors.shape[1], "dot")
    index.set_seed(0)
    for item, vector in enumerate(vectors):
        index.add_item(item, vector)
    index.build(num_trees, n_jobs=1)
    ids = json.dumps([one.decode() for one in movie_id.tolist()]) + "\n"
    try:
        pathlib.Path(f"{path}.ids.json").write_text(ids)
        index.save(str(path))
    except OSError as error:
        raise InputError(f"{path}: {error}; give a file that can be written") from error
    return len(vectors)
