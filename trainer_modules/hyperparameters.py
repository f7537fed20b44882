"""What may be set of each model family, with its defaults. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

from trainer_modules import limits
from trainer_modules.limits import Count, CountOrNone, NotNegative, Positive, Share

T = TypeVar("T")

SQUARED: Final = "squared"
LISTWISE: Final = "listwise"
STEPS_PER_SAMPLE = 10
"""Langevin steps between two samples."""


@dataclasses.dataclass(frozen=True)
class RankingTraining:
    """What the ranking families trained in epochs have in common."""

    batch_size: Count = 1024
    """Rows in a training step."""
    max_epochs: Count = 4
    """Passes over the rows; tuning finds fewer where fewer are clearly better."""
    learning_rate: Positive = 0.01
    """Of Adam, at the start; it falls along a cosine to 2 % after max_epochs."""


@dataclasses.dataclass(frozen=True)
class DeepRanking(RankingTraining):
    """The ranking family "deep". The defaults were chosen on ml-100k and ml-latest-small, on their train rows."""

    loss: Literal["squared", "listwise"] = SQUARED
    """"squared", of the stars alone; "listwise" adds the order of each user's rows, in batches of whole users."""
    factors: Count = 16
    """Numbers in a user's and a movie's vector of taste."""
    key_size: Count = 16
    """Numbers by which a movie is compared with those of the history."""
    user_dropout: Share = 0.1
    """Share of the rows that are trained with an unknown user id: so the unknown user is learned."""
    fact_dropout: Share = 0.1
    """Share of the rows that are trained without the user's age, gender and occupation."""
    movie_dropout: Share = 0.05
    """Share of the rows that are trained with an unknown movie id: genres and year must do."""
    history_dropout: Share = 0.1
    """Share of the rows that are trained without any history."""
    bias_l2: NotNegative = 4.0
    """What |bias|^2 costs, in squared stars: as many rows of evidence against a bias of one star."""
    factor_l2: NotNegative = 20.0
    """The same for the vectors of taste."""
    history_l2: NotNegative = 30.0
    """The same for what each movie of the history adds to the user's vector."""
    key_l2: NotNegative = 5.0
    """The same for the keys."""
    time: bool = False
    """Whether the hour and weekday of the newest history row speak too. Beyond noise they did not help on eval."""
    cross_layers: CountOrNone = 2
    """Layers that cross everything known of user and movie with everything else; 0: none."""
    cross_rank: Count = 16
    """Rank of a layer's matrix."""
    cross_l2: NotNegative = 5.0
    """What |weights|^2 of the layers cost."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What the ranking families that sample from a posterior have in common."""

    factors: CountOrNone = 10
    """Numbers in a user's and a movie's vector of taste; 0: biases alone."""
    num_steps: Count = 1200
    """Langevin steps of the chain that is served; it costs so many passes over the rows."""
    num_tuning_steps: Count = 600
    """The same of the chain on train, which eval looks at."""
    burn_in_steps: CountOrNone = 400
    """Steps before the first sample is taken."""
    step_size: Positive = 0.2
    """In posterior widths; a chain that diverges is begun anew with half of it."""
    start_stddev: Positive = 0.1
    """Of the values where the chain starts."""
    rank: Count = 64
    """Numbers in the vectors that are served: of the mean prediction over all samples."""

    def __post_init__(self) -> None:
        """Refuses chains that end before their first sample."""
        for name in ("num_steps", "num_tuning_steps"):
            num_steps = getattr(self, name)
            if num_steps // STEPS_PER_SAMPLE * STEPS_PER_SAMPLE < self.burn_in_steps + STEPS_PER_SAMPLE:
                raise ValueError(
                    f"{type(self).__name__}.{name} is {num_steps}: with {self.burn_in_steps} burn_in_steps and a sample"
                    f" after each {STEPS_PER_SAMPLE} further ones that leaves none. Take more, or fewer to burn in."
                )


@dataclasses.dataclass(frozen=True)
class FactorizationMachine(Sampling):
    """The ranking family "factorization_machine". The defaults were chosen on the base file of ml-100k's fold u1."""

    factors: CountOrNone = 16
    num_steps: Count = 1000
    num_tuning_steps: Count = 500
    burn_in_steps: CountOrNone = 300


@dataclasses.dataclass(frozen=True)
class RankingMatrixFactorization(Sampling):
    """The ranking family "matrix_factorization". The defaults were chosen on the base file of ml-100k's fold u1."""

    start_stddev: Positive = 0.3
    """From .1 the factors, which no side feature draws away from 0, need a thousand steps to leave it."""


@dataclasses.dataclass(frozen=True)
class ItemAutoRec:
    """The ranking family "autorec".

    The defaults were found by `movierec run --dataset ml-100k --split fold:u1 --ranking autorec --tune 8`, trial 5:
    eval RMSE .8801, which was .8812 with the values it began with (500, 120 and .003).
    """

    hidden_units: Count = 238
    """Width of the code."""
    regularization: NotNegative = 49.96
    """What half of |V|^2 + |W|^2 costs, in halves of squared stars."""
    num_epochs: Count = 60
    """Most passes over the movies; tuning finds how many of them are used."""
    learning_rate: Positive = 0.004755
    """Of Adam; falls to 0 along a cosine over the last 30 % of the epochs."""
    rank: Count = 64
    """Numbers in the vectors that are served."""


@dataclasses.dataclass(frozen=True)
class Bias:
    """The ranking family "bias"."""

    user_shrinkage: Positive = 5.0
    """What a user's own |bias|^2 costs, in squared stars: as many rows of evidence against a bias of one star."""
    movie_shrinkage: Positive = 3.0
    """The same for a movie's own."""
    side_shrinkage: Positive = 10.0
    """The same for what an age group, a gender, an occupation, a genre or a bin of years adds."""


@dataclasses.dataclass(frozen=True)
class TutorialRanking:
    """The ranking family "tutorial", with the values of TensorFlow Recommenders' ranking tutorial."""

    embedding_dimension: Count = 32
    """Numbers in a user's and in a title's embedding."""
    learning_rate: Positive = 0.1
    """Of Adagrad."""
    batch_size: Count = 8192
    """Rows in a training step."""
    num_epochs: Count = 3
    """Passes over the rows; the tutorial's 3 leave it far from done."""


@dataclasses.dataclass(frozen=True)
class TwoTower:
    """Retrieval: the query is a weighted mean of the user's last movies, the candidate a movie; score: dot product.

    The defaults were chosen on ml-100k: trained on all but each user's last six rows, judged on the first five of them.
    """

    embedding_dimension: Count = 64
    """Coordinates of a query and of a candidate. 128 measured worse."""
    num_heads: Count = 2
    """Weighted means of the history, each with weights of its own: one learns what lasts, one what is recent."""
    hidden_units: Count = 128
    """Width of the query tower's hidden layer."""
    dropout: Share = 0.3
    """Share of the history's coordinates that a training step does not see."""
    user_id_dropout: Share = 0.5
    """Share of training queries whose user counts as unknown, so that the unknown user's vector is learned."""
    movie_id_dropout: Share = 0.0
    """Share of movies that a training step knows by their genres, year and title words alone. Without it weight decay
    alone brings the unknown movie's own part near zero, so that its facts speak."""
    num_epochs: Count = 8
    """Epochs of tuning and of the refit alike, a whole cosine each: the eval split is too small to choose one by."""
    targets_per_block: Count = 10
    """Consecutive rows of a user that are predicted from one gathered history: faster, and no row knows a later one."""
    blocks_per_batch: Count = 64
    """A batch holds up to blocks_per_batch x targets_per_block queries."""
    num_negatives: Count = 2048
    """Candidates that each query is to beat: the whole catalog if it is not larger, else a sample, logQ corrected."""
    learning_rate: Positive = 0.007
    """Adam's at the start; falls to 2 % of it along a cosine."""
    weight_decay: NotNegative = 0.5
    """Each step shrinks embeddings by this times the learning rate."""
    temperature: Positive = 1.0
    """Scores are divided by it in the loss."""
    label_smoothing: Share = 0.05
    """Share of the target's probability that the loss spreads evenly over the catalog."""
    average_momentum: Share = 0.99
    """Evaluated and served are running means of the weights, which keep so much of themselves at each step, less at
    first; 0: the weights."""
    linear_rank: CountOrNone = 64
    """Coordinates of the linear model whose score is added (linear_part.py); 0: none."""
    linear_regularization: Positive = 300.0
    """lambda of that model, in squared singular values of the rows."""
    linear_decay: NotNegative = 0.4
    """A row of the history counts (1 + number of later rows) to the power of minus this in it."""
    popularity_half_life_days: NotNegative = 7.0
    """Of the decayed popularity whose log is added; 0: none, and users without a history are left to the towers."""
    linear_share: NotNegative = 9.0
    """How much the linear model counts, the towers 1: what measured best over time (ml-100k, trained six times on the
    rows before a point in time, asked for the next tenth). Left out where eval says so beyond noise."""
    popularity_share: NotNegative = 4.0
    """The same of the log of recent popularity: left out under leave_last_out."""
    fact_rank: CountOrNone = 8
    """Coordinates of what a user's age group, gender and occupation say to one without a history (newcomers.py)."""


@dataclasses.dataclass(frozen=True)
class MatrixFactorization:
    """Retrieval: score = p_u . q_i; the objective stands in matrix_factorization.py.

    gravity and regularization were chosen on the eval split of ml-100k, leave_last_out, among nine pairs.
    """

    target: Literal["implicit", "stars"] = "implicit"
    """What an observed cell's score is to be: "implicit", 1 for every row; "stars", the rating."""
    solver: Literal["als", "adam"] = "als"
    """"als", alternating least squares; "adam", gradient descent on batches of cells."""
    embedding_dimension: Count = 32
    """Coordinates of a user and of a movie."""
    gravity: NotNegative = 5.0
    """Pull of every cell to 0, as a weight of the mean over all cells beside the mean over the observed ones."""
    regularization: Positive = 0.05
    """Weight of the vectors' mean squared length."""
    num_epochs: Count = 15
    """Most sweeps over users and movies, or over the cells; tuning finds how many of them are used."""
    initial_stddev: Positive = 0.1
    """Of the vectors before the first epoch."""
    learning_rate: Positive = 0.03
    """Of Adam."""


@dataclasses.dataclass(frozen=True)
class AutoRec:
    """Retrieval: the stars that an autoencoder predicts from the user's whole state.

    Width and regularization have the least RMSE of three pairs on the eval split of ml-100k, leave_last_out.
    """

    hidden_units: Count = 100
    """Width of the code."""
    regularization: NotNegative = 20.0
    """lambda of the paper: what half of |V|^2 + |W|^2 costs, in squared stars."""
    num_epochs: Count = 20
    """Most passes over the users; tuning finds how many of them are used."""
    batch_size: Count = 128
    """Users in a training step."""
    learning_rate: Positive = 0.003
    """Of Adam."""


@dataclasses.dataclass(frozen=True)
class Tutorial:
    """Retrieval: user id and movie title, as the tutorials of tensorflow-recommenders have it."""

    embedding_dimension: Count = 32
    """Coordinates of a user and of a title."""
    num_epochs: Count = 3
    """Passes over the fit rows."""
    batch_size: Count = 8192
    """Rows in a training step, and titles that each of them is to beat."""
    learning_rate: Positive = 0.1
    """Of Adagrad."""


@dataclasses.dataclass(frozen=True)
class Popularity:
    """Retrieval: the same list for everyone. Never blessed."""

    half_life_days: NotNegative = 0.0
    """A row counts half as much per so many days before the newest one; 0: all rows count alike."""


EXACT, INVERTED_FILE = "exact", "inverted_file"


@dataclasses.dataclass(frozen=True)
class Index:
    """How the served retrieval model looks candidates up."""

    kind: str = EXACT
    """exact: every candidate is scored; inverted_file: those of some cells, which pays with very many candidates. What
    is filtered, near to a movie or evaluated for its rank is always scored exactly."""
    cells: int = 0
    """Of an inverted file; 0: the square root of the number of candidates."""
    probes: int = 0
    """Cells a query looks into; 0: a sixteenth of them, at least 4."""

    def __post_init__(self) -> None:
        if self.kind not in (EXACT, INVERTED_FILE) or min(self.cells, self.probes) < 0:
            raise ValueError(
                f"an index of kind {self.kind!r} with {self.cells} cells and {self.probes} probes: the kinds are"
                f" {EXACT} and {INVERTED_FILE}, and numbers are 0 or above"
            )


RETRIEVAL = {
    "two_tower": TwoTower,
    "matrix_factorization": MatrixFactorization,
    "autorec": AutoRec,
    "tutorial": Tutorial,
    "popularity": Popularity,
}
"""What may be set of each retrieval family, by its name."""

RANKING = {
    "factorization_machine": FactorizationMachine,
    "deep": DeepRanking,
    "matrix_factorization": RankingMatrixFactorization,
    "autorec": ItemAutoRec,
    "bias": Bias,
    "tutorial": TutorialRanking,
}
"""The same of each ranking family."""

TRAINED_TOGETHER = {"retrieval": "two_tower", "ranking": "deep"}
"""The family of each model that several machines can train together; every other is trained by one."""


def found(fn_args: Any) -> dict[str, Any]:
    """What a run_fn is to train with: the settings', and over them what a search found, where there was one."""
    searched = fn_args.hyperparameters  # keras-tuner's own description of them
    return {**fn_args.custom_config["hyperparameters"], **(searched["values"] if searched else {})}


def parse(kind: type[T], values: Mapping[str, Any]) -> T:
    """Hyperparameters from a settings file: those not named keep their defaults.

    Raises:
      ValueError: a name that this family does not have, or a value that its field cannot take.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{kind.__name__} has no hyperparameter {', '.join(unknown)}. It has: {', '.join(names)}.")
    for name, value in values.items():
        if wrong := limits.broken(kind, name, value):
            raise ValueError(f"{kind.__name__}.{name} is {value!r}. {wrong}")
    return kind(**{name: limits.taken(kind, name, value) for name, value in values.items()})
