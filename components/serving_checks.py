"""What every answer of the two served models must satisfy. Knows no server: it is given `predict`.

State is the caller's wherever a signature takes it; what a model has stored is asked for and never believed.
B requests in a batch, W places in a list, M movies to rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from components.evaluation_data import UserStates
from components.serving_requests import UNKNOWN_MOVIE, Arrays, Query, movies, queries
from trainer_modules import contract as c

Predict = Callable[[str, str, Arrays], Arrays]
"""(model, signature, inputs) -> outputs, strings as bytes. Raises where there is no answer."""

_Shape = tuple[int | None, ...]
_TOLERANCE_STARS = 1e-3
_NUM_RECOMMENDED = 20


class RefusedError(Exception):
    """An answer that must not be served, said in one readable line."""


def check_retrieval(predict: Predict, states: UserStates) -> None:
    """Asks the retrieval model everything that the contract offers.

    Args:
      predict: asks.
      states: real users.

    Raises:
      RefusedError: the first answer that must not be served.
    """
    asked = queries(states)
    num_movies = len(np.unique(states.movie_id))
    for query in asked:
        k = np.resize(np.array([_NUM_RECOMMENDED, 1, 5], np.int32), query.num_users)
        # Whoever has rated nearly everything may rightly be shown nothing.
        may_be_empty = query.seen.shape[1] + _NUM_RECOMMENDED >= num_movies
        answer = _list_for_history(predict, query, k, _nothing(query.num_users), may_be_empty)
        excluded = answer[c.MOVIE_ID][:, ::2]
        _list_for_history(predict, query, k, excluded, may_be_empty)
        by_id = {c.USER_ID: query.state[c.USER_ID], c.EXCLUDE_MOVIE_ID: excluded, c.K: k}
        _list(predict, query.what, c.RECOMMEND, by_id, may_be_empty=may_be_empty)
    first = asked[0]
    most = np.array([c.MAX_K], np.int32)
    _list_for_history(predict, first, most, _nothing(1), may_be_empty=True)
    movie_id = movies(states)
    for query in asked[:-1]:  # an example's history has a fixed length
        for with_history in (True, False):
            history = query.state[c.HISTORY_MOVIE_ID] if with_history else _nothing(query.num_users)
            _list(predict, query.what, c.SERVING_DEFAULT, {c.EXAMPLES: query.examples(movie_id, with_history)},
                  k=np.full(query.num_users, c.DEFAULT_K), hidden=[history], may_be_empty=True)  # fmt: skip
    k = np.array([c.DEFAULT_K, c.MAX_K], np.int32)
    _list(predict, "k small and great", c.POPULAR, {c.K: k})
    pair = movie_id[[0, -1]]
    near = _list(predict, "a known and an unknown movie", c.SIMILAR, {c.MOVIE_ID: pair, c.K: k}, hidden=[pair[:, None]],
                 may_be_empty=True)  # fmt: skip
    _require(bool(near[c.MOVIE_ID][0, 0]), c.RETRIEVAL, c.SIMILAR, "a known movie", "the list is empty")
    _check_embeddings(predict, first, movie_id)


def check_ranking(predict: Predict, states: UserStates, rating_min: float, rating_max: float) -> None:
    """Asks the ranking model everything that the contract offers.

    Args:
      predict: asks.
      states: real users.
      rating_min: fewest stars an answer may hold.
      rating_max: most.

    Raises:
      RefusedError: the first answer that must not be served.
    """

    def check(what: str, signature: str, inputs: Arrays, shape: tuple[int, ...]) -> None:
        stars = _ask(predict, c.RANKING, signature, inputs, what, {c.STARS: shape})[c.STARS]
        _require(bool(np.isfinite(stars).all()), c.RANKING, signature, what, "stars are not finite")
        low, high = float(stars.min()), float(stars.max())
        _require(
            low >= rating_min - _TOLERANCE_STARS and high <= rating_max + _TOLERANCE_STARS,
            c.RANKING, signature, what, f"stars from {low:.3f} to {high:.3f}, outside {rating_min:g} to {rating_max:g}",
        )  # fmt: skip

    movie_id = movies(states)
    asked = queries(states)
    for query in asked:
        wanted = np.tile(movie_id, (query.num_users, 1))
        check(query.what, c.RANK_FOR_HISTORY, {**query.state, c.MOVIE_ID: wanted}, wanted.shape)
        check(query.what, c.RANK, {c.USER_ID: query.state[c.USER_ID], c.MOVIE_ID: wanted}, wanted.shape)
    for query in asked[:-1]:  # an example's history has a fixed length
        for with_history in (True, False):
            examples = {c.EXAMPLES: query.examples(movie_id, with_history)}
            check(query.what, c.SERVING_DEFAULT, examples, (query.num_users, 1))
    _list(predict, "k small and great", c.POPULAR, {c.K: np.array([c.DEFAULT_K, c.MAX_K], np.int32)}, model=c.RANKING)


def _list_for_history(
    predict: Predict, query: Query, k: np.ndarray, excluded: np.ndarray, may_be_empty: bool
) -> Arrays:
    inputs = {**query.state, c.SEEN_MOVIE_ID: query.seen, c.EXCLUDE_MOVIE_ID: excluded, c.K: k}
    hidden = [query.seen, excluded]
    return _list(predict, query.what, c.RECOMMEND_FOR_HISTORY, inputs, hidden=hidden, may_be_empty=may_be_empty)


def _list(
    predict: Predict,
    what: str,
    signature: str,
    inputs: Arrays,
    model: str = c.RETRIEVAL,
    k: np.ndarray | None = None,
    hidden: Iterable[np.ndarray] | None = None,
    may_be_empty: bool = False,
) -> Arrays:
    """Asks for lists and checks them.

    Args:
      predict: asks.
      what: is asked, for people.
      signature: that answers with movie_id, movie_title and score, [B, W].
      inputs: of it.
      model: which.
      k: int [B], how many are wanted; unless given, the input of that name.
      hidden: bytes [B, any] each: what may not be shown; unless given, the exclusions among the inputs.
      may_be_empty: whether a list without a movie is right.
    """
    k = inputs[c.K] if k is None else k
    if hidden is None:
        hidden = [inputs[c.EXCLUDE_MOVIE_ID]] if c.EXCLUDE_MOVIE_ID in inputs else []
    shape = (len(k), int(k.max()))
    answer = _ask(predict, model, signature, inputs, what, dict.fromkeys((c.MOVIE_ID, c.MOVIE_TITLE, c.SCORE), shape))
    movie_id, score = answer[c.MOVIE_ID].astype(bytes), answer[c.SCORE]

    def require(holds: bool, otherwise: str) -> None:
        _require(holds, model, signature, what, otherwise)

    is_padding = movie_id == b""
    require(not np.isnan(score).any() and not np.isposinf(score).any(), "scores are not numbers")
    require(bool((np.isneginf(score) == is_padding).all()), "padding and scores of -inf do not agree")
    require(bool((score[:, 1:] <= score[:, :-1]).all()), "scores do not descend")
    require(bool(((~is_padding).sum(axis=1) <= k).all()), "a list is longer than was asked")
    require(may_be_empty or not is_padding[:, 0].any(), "a list is empty")
    require(bool((answer[c.MOVIE_TITLE].astype(bytes)[~is_padding] != b"").all()), "a movie has no title")
    ordered = np.sort(movie_id, axis=1)
    require(not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != b"")).any(), "a list names a movie twice")
    for unwanted in hidden:
        for row, shown in enumerate(movie_id):
            wrong = set(shown) & set(unwanted.astype(bytes)[row]) - {b""}
            require(not wrong, f"shown although seen or excluded: {', '.join(sorted(map(bytes.decode, wrong)))[:200]}")
    return answer


def _check_embeddings(predict: Predict, query: Query, movie_id: np.ndarray) -> None:
    rank_inputs = {
        **query.state,
        c.SEEN_MOVIE_ID: query.seen,
        c.EXCLUDE_MOVIE_ID: _nothing(1),
        c.POSITIVE_MOVIE_ID: np.array([[query.seen[0, 0], UNKNOWN_MOVIE, b""]]),
    }
    rank = _ask(predict, c.RETRIEVAL, c.EVALUATE, rank_inputs, query.what, {c.RANK_OUT: (1, 3)})[c.RANK_OUT]
    _require(not rank.any(), c.RETRIEVAL, c.EVALUATE, query.what, "a rank for what is masked or unknown")
    vectors = []
    for signature, inputs in ((c.EMBED_QUERY, query.state), (c.EMBED_CANDIDATE, {c.MOVIE_ID: movie_id})):
        rows = len(next(iter(inputs.values())))
        answer = _ask(predict, c.RETRIEVAL, signature, inputs, query.what, {c.EMBEDDING: (rows, None)})
        vectors.append(answer[c.EMBEDDING])
        finite = bool(np.isfinite(vectors[-1]).all())
        _require(finite, c.RETRIEVAL, signature, query.what, "the embedding is not finite")
    same = vectors[0].shape[1] == vectors[1].shape[1]
    _require(same, c.RETRIEVAL, c.EMBED_QUERY, query.what, "query and candidates have no product: they differ in width")


def _ask(
    predict: Predict, model: str, signature: str, inputs: Arrays, what: str, shapes: Mapping[str, _Shape]
) -> Arrays:
    """Asks, and checks names and shapes of what comes."""
    try:
        answer = predict(model, signature, inputs)
    except Exception as error:
        words = " ".join(str(error).split())[:500]
        raise RefusedError(f"{model}/{signature}, {what}: no answer: {words}") from error
    for name, shape in shapes.items():
        _require(name in answer, model, signature, what, f"no output {name}, only {', '.join(sorted(answer))}")
        found = answer[name].shape
        fits = len(found) == 2 and all(size in (None, seen) for size, seen in zip(shape, found, strict=True))
        _require(fits, model, signature, what, f"{name} has shape {list(found)} where {list(shape)} was due")
    return answer


def _nothing(num_rows: int) -> np.ndarray:
    return np.full((num_rows, 1), b"", np.object_)


def _require(holds: bool, model: str, signature: str, what: str, otherwise: str) -> None:
    if not holds:
        raise RefusedError(f"{model}/{signature}, {what}: {otherwise}")
