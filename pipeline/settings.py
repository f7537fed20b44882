"""What a run is told: frozen records, filled from a preset, a file and the command line, in that order.

The only module that reads settings from files.
"""

from __future__ import annotations

import itertools
import pathlib
import re
from dataclasses import field
from typing import Any

import pydantic
from pydantic.dataclasses import dataclass

from components import editions, splits
from components.errors import InputError
from pipeline import hyperparameter_files, setting_layers
from pipeline.limits import Limits
from trainer_modules import contract, hyperparameters, search_spaces

DATASETS = (*editions.EDITIONS, editions.OWN_FILES)

PRESETS = ("tutorial",)
"""What --preset may name; the others in presets/ go with their data sets."""

MEASURED = {
    contract.RETRIEVAL: (
        "ndcg_at_10", "recall_at_10", "recall_at_20", "recall_at_100", "mrr_at_100", "coverage_at_10", "gini_at_10",
    ),
    contract.RANKING: ("rmse", "mae", "calibration", "ndcg_at_10", "worst_slice"),
}  # fmt: skip
"""Model -> what may be gated."""

_LAST_SPANS = re.compile(r"last:([1-9]\d*)")
_STRICT = pydantic.ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Gate:
    """The corridor a metric must lie in for its model to be blessed."""

    min: float | None = None
    """Below it the model is not good enough."""
    max: float | None = None
    """Above it the figure is too good to be true: a leak."""


@dataclass(frozen=True, config=_STRICT)
class FamilyPreset:
    """What holds of a model family when it is chosen in the place of a data set's own."""

    hyperparameters: dict[str, Any] = field(default_factory=dict)
    """As Model's."""
    gates: dict[str, dict[str, Gate]] = field(default_factory=dict)
    """As Model's."""


@dataclass(frozen=True, config=_STRICT)
class Model:
    """One of the two models."""

    family: str
    """Which model family is trained: a file in trainer_modules/."""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    """The family's own settings (trainer_modules/hyperparameters.py says which); unnamed ones keep their defaults."""
    gates: dict[str, dict[str, Gate]] = field(default_factory=dict)
    """Split -> metric -> corridor; "fold" is every fold. A split without gates is judged by its baselines alone."""
    families: dict[str, FamilyPreset] = field(default_factory=dict)
    """Family -> what it has here if it is chosen: hyperparameters and gates above are those of `family`."""

    def __post_init__(self) -> None:
        # One that no split has would never be looked at.
        for name in itertools.chain(self.gates, *(preset.gates for preset in self.families.values())):
            if name != splits.FOLD and splits.parse(name).name != name:
                raise InputError(f"gates of split {name!r}: write {splits.parse(name).name!r}")

    def gates_of(self, split: splits.Split) -> dict[str, Gate]:
        """Metric -> corridor."""
        return self.gates.get(split.name) or self.gates.get(split.kind if split.kind == splits.FOLD else "") or {}


@dataclass(frozen=True, config=_STRICT)
class Index(hyperparameters.Index):
    """The same, and nothing else is taken for it."""


@dataclass(frozen=True, config=_STRICT)
class Settings:
    """Everything a run depends on, but for the code and the data's content."""

    dataset: str = "sample"
    """A MovieLens edition; `sample`, the generated data set; or `csv`, files of one's own, CSV or Parquet."""
    data_dir: pathlib.Path | None = None
    """An unpacked edition or its zip; None: the cache, else a download."""
    ratings: pathlib.Path | None = None
    """The ratings of `csv`."""
    movies: pathlib.Path | None = None
    """The movies of `csv`."""
    ratings_columns: dict[str, str] = field(default_factory=dict)
    """Of `csv`: user_id, movie_id, rating, timestamp -> what the file calls it, where that is not MovieLens' name."""
    movies_columns: dict[str, str] = field(default_factory=dict)
    """The same for movie_id, title, genres."""
    rating_range: tuple[float, float] | None = None
    """Of `csv`: fewest and most stars; None: 0.5 to 5. The editions have their own."""
    cache_dir: pathlib.Path = pathlib.Path(".cache")
    """Where downloads and the generated sample are kept."""
    warm_start: bool = False
    """Whether both trainings continue from the last blessed models of the root, where there are any."""
    split: str = splits.LEAVE_LAST_OUT
    """How rows are divided into train, eval and test: splits.parse says what may stand here."""
    spans: str = "all"
    """Which of the root's spans a run sees: `all`, or `last:K`, the K newest. Without spans the data set is the one."""
    root: pathlib.Path | None = None
    """Folder of everything the run keeps; None: runs/DATASET-SPLIT."""
    seed: int = pydantic.Field(default=7, ge=0, lt=2**31 - 2**10)
    """Of what a split draws at random and of the trainings, which count on from it; generators take 31 bits."""
    max_bad_share: float = pydantic.Field(default=0.01, ge=0, le=1)
    """Share of the ratings file that may be bad and set aside; above it the run stops."""
    limits: Limits = field(default_factory=Limits)
    """How far the data may move from the last accepted, and from what was served."""
    serving_logs: tuple[pathlib.Path, ...] = ()
    """Files of logged requests, or folders of them, to compare the train rows with."""
    user_snapshot: bool = True
    """Whether the served models carry what each user has rated. It is personal data inside a model file."""
    one_call: bool = False
    """Whether a third model is pushed beside the two: both stages in one graph, for clients that ask once."""
    force: bool = False
    """Push models though an evaluation did not bless them, if they answer as infra validation wants."""
    tune: int = pydantic.Field(default=0, ge=0)
    """Trials of a search over each model's hyperparameters before it is trained; 0: no search."""
    full_evaluation: bool = False
    """Whether TFMA measures everything, slices and plots included, and not only what models are blessed by. It is
    slow."""
    keep_versions: int = pydantic.Field(default=5, ge=1)
    """Pushed versions kept on disk, the newest included."""
    retrieval: Model = field(default_factory=lambda: Model(family="two_tower"))
    ranking: Model = field(default_factory=lambda: Model(family="deep"))
    """By default the one that needs memory for the rows alone; the presets of small editions name the best one."""
    index: Index = field(default_factory=Index)
    """How the served retrieval model looks candidates up."""

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise InputError(f"dataset is {self.dataset!r}; known are: {', '.join(DATASETS)}")
        split = splits.parse(self.split)
        object.__setattr__(self, "split", split.name)  # one name, one root, however it was written
        if split.fold and self.dataset == editions.OWN_FILES:
            raise InputError(f"split {split.name}: files of your own have no official folds; random divides any rows")
        if split.fold:
            editions.get_edition(self.dataset).with_fold(split.fold)
        if self.one_call and contract.RETRIEVAL not in self.models:
            raise InputError(f"one_call needs a retrieval model, and split {split.name} has none")
        for name, model, known in (
            (contract.RETRIEVAL, self.retrieval, hyperparameters.RETRIEVAL),
            (contract.RANKING, self.ranking, hyperparameters.RANKING),
        ):
            of_others = {family: of_it.hyperparameters for family, of_it in model.families.items()}
            for family, values in {**of_others, model.family: model.hyperparameters}.items():
                if family not in known:
                    raise InputError(f"{name} is {family!r}; the families are: {', '.join(known)}")
                try:
                    hyperparameters.parse(known[family], values)
                except ValueError as error:
                    raise InputError(f"hyperparameters of {name} {family}: {error}") from error
            gates = (model.gates, *(of_it.gates for of_it in model.families.values()))
            for metric in itertools.chain.from_iterable(of_split for one in gates for of_split in one.values()):
                if metric not in MEASURED[name]:
                    raise InputError(f"gates of {name} {metric}: what is measured is {', '.join(MEASURED[name])}")
        if self.tune and not self.tuned_models:
            families = ", ".join(f"{name} {getattr(self, name).family}" for name in self.models)
            raise InputError(f"tune is {self.tune}, and nothing can be searched of {families}: leave --tune out")
        named = (self.ratings, self.movies, self.ratings_columns, self.movies_columns, self.rating_range)
        if self.dataset == editions.OWN_FILES and ((self.ratings is None) != (self.movies is None) or self.data_dir):
            raise InputError("dataset csv needs --ratings FILE and --movies FILE, and takes no --data-dir")
        if self.spans != "all" and not _LAST_SPANS.fullmatch(self.spans):
            raise InputError(f"spans is {self.spans!r}; give all, or last:K for the K newest, such as last:7")
        if self.dataset != editions.OWN_FILES and any(named):
            raise InputError(f"files, columns and stars of your own go with --dataset csv; this is {self.dataset}")

    @property
    def root_path(self) -> pathlib.Path:
        """The root folder, absolute."""
        return (self.root or pathlib.Path("runs") / f"{self.dataset}-{self.way_of_splitting.folder_name}").absolute()

    @property
    def way_of_splitting(self) -> splits.Split:
        """What `split` says."""
        return splits.parse(self.split)

    @property
    def models(self) -> tuple[str, ...]:
        """What is trained, judged and pushed, together or not at all: both models, or ranking alone where rows are
        divided without regard to time, so that no movie is the next one to retrieve."""
        return (contract.RANKING,) if self.way_of_splitting.is_timeless else contract.MODELS

    @property
    def tuned_models(self) -> tuple[str, ...]:
        """The models with a search before them: those whose family has something to search."""
        if not self.tune:
            return ()
        return tuple(name for name in self.models if getattr(self, name).family in search_spaces.SPACES[name])

    @property
    def num_last_spans(self) -> int | None:
        """How many of the newest spans a run sees; None: all."""
        found = _LAST_SPANS.fullmatch(self.spans)
        return int(found[1]) if found else None

    @property
    def synthetic(self) -> bool:
        """Whether the data was generated: its figures say nothing about real people."""
        return editions.is_synthetic(self.dataset)


def load(
    dataset: str = "sample",
    settings_path: pathlib.Path | None = None,
    preset: str | None = None,
    retrieval_family: str | None = None,
    ranking_family: str | None = None,
    hyperparameters_path: pathlib.Path | None = None,
    **overrides: Any,
) -> Settings:
    """The data set's preset, if it has one, a named preset, the user's file, and the overrides that are not None.

    Who names another family than the one below gets that family's own from `families`, and of the one below nothing.
    What the user's file says of a model without naming its family holds for the one that is trained, except for
    hyperparameters: those are the family's that was below.

    Args:
      dataset: chooses the preset.
      settings_path: a TOML file with any of Settings' fields.
      preset: one of PRESETS.
      retrieval_family: short for the override retrieval = {"family": ...}.
      ranking_family: the same of ranking.
      hyperparameters_path: a TOML or JSON file with families and hyperparameters, over the file above.
      **overrides: fields of Settings, as the command line gives them; None means not given.

    Raises:
      InputError: a file that cannot be read, an unknown field or a value out of range, each named.
    """
    if dataset not in DATASETS:
        raise InputError(f"dataset is {dataset!r}; known are: {', '.join(DATASETS)}")
    if preset is not None and preset not in PRESETS:
        raise InputError(f"preset is {preset!r}; known are: {', '.join(PRESETS)}")
    values: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name in filter(None, (dataset, preset)):
        # Beside this file, not of the package's name: to a search path with another folder of that name it is both.
        path = pathlib.Path(__file__).parent / "presets" / f"{name}.toml"
        if path.is_file():
            values = setting_layers.merged(values, setting_layers.parse(path.read_bytes(), f"preset {name}"))
    if settings_path is not None:
        try:
            content = settings_path.read_bytes()
        except OSError as error:
            raise InputError(f"--settings {settings_path}: {error.strerror}; give a readable TOML file") from error
        own = setting_layers.parse(content, str(settings_path))
    tuned = hyperparameter_files.read(hyperparameters_path) if hyperparameters_path is not None else {}
    for name, family in ((contract.RETRIEVAL, retrieval_family), (contract.RANKING, ranking_family)):
        if family is not None and name in tuned and tuned[name]["family"] != family:
            raise InputError(
                f"--hyperparameters {hyperparameters_path} are those of {name} {tuned[name]['family']}, and --{name}"
                f" names {family}: give one of them"
            )
        if family is not None:
            overrides[name] = {"family": family}
        chosen = family or tuned.get(name, {}).get("family")
        table = own.get(name, {})
        if not isinstance(table, dict):
            raise InputError(f"settings: {name} is {table!r}; it must be a table: [{name}] and below it family = ...")
        if chosen and table and "family" not in table:
            own[name] = {"family": chosen, **table}
            if values.get(name, {}).get("family") not in (None, chosen):
                own[name].pop("hyperparameters", None)
    values = setting_layers.merged(setting_layers.merged(values, own), tuned)
    values = setting_layers.merged(values, {name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings(**{**values, "dataset": dataset})
    except (pydantic.ValidationError, TypeError) as error:
        raise InputError(f"settings: {_readable(error)}") from error


def _readable(error: pydantic.ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']} (seen: {item['input']!r})"
        if item["loc"]
        else item["msg"].removeprefix("Value error, ")  # of __post_init__, which says all there is to say
        for item in error.errors()
    )
