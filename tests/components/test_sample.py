"""The generated sample: well-formed, the same every time, and with structure in it that can be learned."""

import numpy as np
import pytest

from components import movielens, movielens_sample, splits

SAMPLE = movielens.get_edition("sample")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    path = movielens.locate(SAMPLE, None, cache)
    assert movielens.locate(SAMPLE, None, cache) == path
    return movielens.read(path, SAMPLE)


@pytest.fixture(scope="module")
def arrays(data):
    """user, movie, stars and split of every row, users' rows oldest first."""
    rows = data.ratings.with_columns(user=data.ratings["user_id"].cast(int) - 1)
    rows = rows.with_columns(movie=rows["movie_id"].cast(int) - 1).sort("user", "timestamp", "source_line")
    user, movie, stars, timestamp, line = (
        rows[name].to_numpy() for name in ("user", "movie", "rating", "timestamp", "source_line")
    )
    return user, movie, stars, timestamp, splits.leave_last_out(user, timestamp, line)


def ndcg_at_10(scores_of_user, arrays):
    """Of each user's last movie among all that the user has not seen."""
    user, movie, _, _, split = arrays
    gains = []
    for u in range(movielens_sample.NUM_USERS):
        seen = movie[(user == u) & (split != splits.TEST_CODE)]
        target = movie[(user == u) & (split == splits.TEST_CODE)][0]
        scores = scores_of_user(seen).astype(float)
        scores[seen] = -np.inf
        rank = 1 + (scores > scores[target]).sum()
        gains.append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
    return np.mean(gains)


def test_size_and_shape(data):
    assert (data.movies.height, data.users.height) == (movielens_sample.NUM_MOVIES, movielens_sample.NUM_USERS)
    assert 20_000 <= data.ratings.height <= 25_000
    assert data.rejected.is_empty() and data.num_duplicates == 0
    assert data.ratings.group_by("user_id").len()["len"].min() >= movielens_sample.MIN_RATINGS
    assert data.movies["title"].str.starts_with("Synthetic ").all()
    assert data.users.null_count().sum_horizontal().item() == 0
    assert data.movies["genres"].list.len().min() >= 1


def test_one_title_names_two_movies(data):
    shared = data.movies.filter(data.movies["title"].is_duplicated())
    assert shared["movie_id"].to_list() == ["1", str(movielens_sample.NUM_MOVIES)]


def test_it_is_always_the_same(data, tmp_path):
    first, second = (movielens.locate(SAMPLE, None, tmp_path / name) for name in ("a", "b"))
    assert movielens.content_digest(first, SAMPLE) == movielens.content_digest(second, SAMPLE)
    assert movielens.read(first, SAMPLE).ratings.equals(data.ratings)


def test_history_predicts_the_next_movie_far_better_than_popularity(arrays):
    user, movie, _, timestamp, split = arrays
    is_fit = split != splits.TEST_CODE
    num_movies = movielens_sample.NUM_MOVIES
    popularity = np.bincount(movie[is_fit], minlength=num_movies)
    age = timestamp[is_fit].max() - timestamp[is_fit]
    recent = np.bincount(movie[is_fit], 0.5 ** (age / (14 * 86_400)), num_movies)
    followed = np.zeros((num_movies, num_movies))  # how often one movie came soon after another
    for u in range(movielens_sample.NUM_USERS):
        seen = movie[is_fit & (user == u)]
        for distance in range(1, 6):
            np.add.at(followed, (seen[:-distance], seen[distance:]), 1 / distance)
    followed /= 1 + np.sqrt(popularity)

    by_history = ndcg_at_10(lambda seen: (0.8 ** np.arange(10)) @ followed[seen[-10:][::-1]], arrays)
    by_popularity = ndcg_at_10(lambda seen: popularity, arrays)
    by_recent_popularity = ndcg_at_10(lambda seen: recent, arrays)
    assert by_history > 4 * max(by_popularity, by_recent_popularity)
    assert 0.25 < by_history < 0.5 and 0.01 < by_popularity < 0.1


def test_tastes_explain_stars_that_biases_do_not(data, arrays):
    user, movie, stars, _, _ = arrays
    is_fit = np.random.default_rng(0).random(len(stars)) < 0.8
    mean = stars[is_fit].mean()
    user_bias, movie_bias = np.zeros(movielens_sample.NUM_USERS), np.zeros(movielens_sample.NUM_MOVIES)
    for _ in range(10):
        for bias, index in ((user_bias, user), (movie_bias, movie)):
            bias[:] = 0
            rest = stars - mean - user_bias[user] - movie_bias[movie]
            bias[:] = np.bincount(index[is_fit], rest[is_fit], len(bias)) / (np.bincount(index[is_fit]) + 3)
    rest = stars - mean - user_bias[user] - movie_bias[movie]
    genres = sorted({genre for genres in data.movies["genres"] for genre in genres})
    weight = np.array([[genre in mine for genre in genres] for mine in data.movies["genres"]], float)
    weight /= weight.sum(axis=1, keepdims=True)
    liking, count = (np.zeros((movielens_sample.NUM_USERS, len(genres))) for _ in range(2))
    np.add.at(liking, user[is_fit], rest[is_fit, np.newaxis] * weight[movie[is_fit]])
    np.add.at(count, user[is_fit], weight[movie[is_fit]])
    taste = ((liking / (count + 1))[user] * weight[movie]).sum(axis=1)

    rmse_of_biases = np.sqrt((rest[~is_fit] ** 2).mean())
    rmse_with_tastes = np.sqrt(((rest - taste)[~is_fit] ** 2).mean())
    assert rmse_of_biases < 0.95 * stars[~is_fit].std()
    assert rmse_with_tastes < 0.93 * rmse_of_biases
