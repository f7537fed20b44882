"""The root folder: everything one data set and split has made. It refuses another's runs and a second run at once.

    root.json          which data set and split it belongs to
    metadata.sqlite    ML Metadata
    artifacts/         what the components made
    models/            {retrieval,ranking}/<version>/: what the server watches; ranking alone for a timeless split
    rejected/          bad rows set aside
    spans/             what was ingested, if anything was: then it is the data set
    catalogs/          catalogs that `movierec index` made larger, if it did
    logs/              one file a run
    report/            pages for people
    schema.pbtxt       the schema with what was accepted here, if anything was
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator

from components import model_store
from components.durable_files import write_json
from components.errors import InputError
from pipeline.settings import Settings
from trainer_modules import contract

RUNS = pathlib.Path("runs")

NO_RETRIEVAL = (
    "has no retrieval model, so nothing can recommend: its split divides ratings without regard to time, where no movie"
    " is the next one, and trains ranking alone. Ask it for stars (`movierec rank USER MOVIE_ID...`), or run and serve"
    " a root with --split leave_last_out or global_time"
)


def models_path(root: pathlib.Path) -> pathlib.Path:
    """The folder of the models' version folders."""
    return root / "models"


def spans_path(root: pathlib.Path) -> pathlib.Path:
    """The folder of the spans."""
    return root / "spans"


def model_names(root: pathlib.Path) -> tuple[str, ...]:
    """The models that the newest pushed version has, ranking first; both where nothing has been pushed yet."""
    return model_store.newest_models(models_path(root)) or contract.MODELS


def check_retrieves(root: pathlib.Path) -> None:
    """Raises InputError where ranking was pushed alone."""
    if contract.RETRIEVAL not in model_names(root):
        raise InputError(f"{root} {NO_RETRIEVAL}")


@contextlib.contextmanager
def claimed(settings: Settings) -> Iterator[pathlib.Path]:
    """Makes the root if need be and holds it for the time of a run.

    Raises:
      InputError: it belongs to another data set or split, or another run is in it.
    """
    root = owned(settings)
    with held(root):
        yield root


@contextlib.contextmanager
def held(root: pathlib.Path) -> Iterator[None]:
    """Holds a root that is there.

    Raises:
      InputError: another run is in it.
    """
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another run is in {root}; wait for it or give another --root") from None
        yield


def owned(settings: Settings) -> pathlib.Path:
    """Makes the root if need be.

    Raises:
      InputError: it belongs to another data set or split.
    """
    root = settings.root_path
    path = root / "root.json"
    identity = {"dataset": settings.dataset, "split": settings.split}
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / "logs").mkdir(exist_ok=True)
        if not path.is_file():
            write_json(path, identity)
        (root / ".lock").touch()
    except OSError as error:
        raise InputError(f"--root {root}: {error.strerror}; give a folder that can be written") from error
    owner = json.loads(path.read_text())
    if owner != identity:
        raise InputError(
            f"{root} belongs to {owner['dataset']} split {owner['split']}, this run is {settings.dataset} split"
            f" {settings.split}: one root holds one data set and split; give another --root"
        )
    return root


def find(root: pathlib.Path | None) -> pathlib.Path:
    """The root a verb reads: the one given, else the one under runs/ that ran last.

    Raises:
      InputError: there is none.
    """
    if root is not None:
        if not (root / "metadata.sqlite").is_file():
            if (root / "blessed").is_dir():
                raise InputError(
                    f"--root {root} holds runs on Kubeflow, whose own pages tell of them: there is no metadata.sqlite"
                    " to read. `movierec serve` and `movierec promote` take its models"
                )
            raise InputError(f"--root {root} holds no run (no metadata.sqlite); `movierec run --root {root}` makes one")
        return root.absolute()
    ran = sorted(RUNS.glob("*/metadata.sqlite"), key=lambda path: path.stat().st_mtime)
    if not ran:
        raise InputError(f"no run under {RUNS.absolute()}; `movierec run` makes one, --root DIR names another place")
    return ran[-1].parent.absolute()


def find_pushed(root: pathlib.Path | None) -> pathlib.Path:
    """As find, of verbs to which the pushed models are all: there need not have been a run of the local runner.

    Raises:
      InputError: there is none.
    """
    if root is not None and models_path(root).is_dir():
        return root.absolute()
    return find(root)
