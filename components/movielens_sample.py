"""A small synthetic world in ml-100k's file format, with structure that a recommender can find.

Not real data, and its titles say so. What is planted:

* Every movie belongs to one of 12 worlds of taste (each a pair of genres) and has a quality and a fame.
* A user likes a few worlds for good, but watches in phases: the world of the next movie is most often that of the
  last ones. So recent history predicts the next movie, far better than fame does.
* stars = mean + the user's bias + the movie's quality + how much the user likes the movie's world + noise. So a
  model of tastes beats biases alone.
* Two movies share one title, as some of ml-100k's do.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

NUM_USERS = 400
NUM_MOVIES = 300
MIN_RATINGS, MAX_RATINGS = 20, 140
"""A user's. Their mean is about 57."""
SEED = 20_240_601

GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
OCCUPATIONS = ("artist", "doctor", "educator", "engineer", "librarian", "other", "programmer", "student", "writer")

_WORLDS = (
    # Two genres, and the nouns of the titles.
    ("Action", "Thriller", ("Chase", "Heist", "Bullet", "Agent")),
    ("Adventure", "Fantasy", ("Quest", "Dragon", "Crown", "Voyage")),
    ("Animation", "Children's", ("Teddy", "Balloon", "Puppy", "Circus")),
    ("Comedy", "Romance", ("Wedding", "Bakery", "Holiday", "Letter")),
    ("Crime", "Film-Noir", ("Alley", "Detective", "Alibi", "Ledger")),
    ("Documentary", "War", ("Archive", "Front", "Convoy", "Treaty")),
    ("Drama", "Romance", ("Daughter", "Winter", "Orchard", "Promise")),
    ("Horror", "Mystery", ("Cellar", "Whisper", "Asylum", "Mirror")),
    ("Musical", "Comedy", ("Chorus", "Tango", "Encore", "Melody")),
    ("Sci-Fi", "Adventure", ("Orbit", "Android", "Nebula", "Signal")),
    ("Western", "Action", ("Canyon", "Saddle", "Sheriff", "Ranch")),
    ("Drama", "War", ("Trench", "Harbour", "Exile", "Brother")),
)
_ADJECTIVES = (
    "Amber", "Broken", "Crimson", "Distant", "Electric", "Faded", "Golden", "Hidden", "Iron", "Jade", "Last",
    "Midnight", "Northern", "Paper", "Quiet", "Restless", "Silver", "Velvet",
)  # fmt: skip

_PHASE_STAYS = 0.93
"""Chance that the next movie comes from the same world as the last one."""
_STRAYS = 0.12
"""Chance that a movie is picked by fame alone."""
_START, _DAYS = 874_724_710, 214
"""Users arrive within these days of ml-100k's first second, 20 September 1997."""


@dataclasses.dataclass(frozen=True)
class World:
    """Everything there is, N = NUM_MOVIES, R ratings in the order of the file."""

    titles: list[str]
    years: np.ndarray  # int [N]
    genres: list[list[str]]
    users: list[tuple[int, str, str, str]]  # age in years, M or F, occupation, zip code
    user: np.ndarray  # int [R], from 0
    movie: np.ndarray  # int [R], from 0
    stars: np.ndarray  # int [R], 1 to 5
    timestamp: np.ndarray  # int [R], seconds since 1970-01-01 UTC


def generate() -> World:
    """The sample: always the same."""
    random = np.random.default_rng(SEED)
    world_of = random.permutation(np.arange(NUM_MOVIES) % len(_WORLDS))
    titles, years = _titles(random, world_of)
    genres = [_genres(random, world) for world in world_of]
    quality = random.normal(0.0, 0.45, NUM_MOVIES)
    fame = np.exp(0.8 * random.normal(0.0, 1.0, NUM_MOVIES) + 0.5 * quality)

    users, parts = [], []
    for user in range(NUM_USERS):
        likes = random.normal(0.0, 1.0, len(_WORLDS))
        users.append(_facts(random, likes))
        watched = _watch(random, likes, world_of, fame)
        taste = 0.75 * likes[world_of[watched]] + quality[watched] + random.normal(0.0, 0.35)
        stars = np.clip(np.rint(3.2 + taste + random.normal(0.0, 0.55, len(watched))), 1, 5).astype(int)
        parts.append((np.full(len(watched), user), watched, stars, _times(random, len(watched))))
    user, movie, stars, timestamp = (np.concatenate(column) for column in zip(*parts, strict=True))
    shuffled = random.permutation(len(user))  # the file is in no order, as ml-100k's is not
    return World(titles, years, genres, users, user[shuffled], movie[shuffled], stars[shuffled], timestamp[shuffled])


def write(folder: pathlib.Path) -> None:
    """Writes u.data, u.item, u.user, u.genre, u.occupation and a README into an existing folder."""
    world = generate()
    ratings = zip(world.user + 1, world.movie + 1, world.stars, world.timestamp, strict=True)
    movies = [
        f"{i}|{title}|01-Jan-{year}|||" + "|".join("01"[genre in genres] for genre in GENRES)
        for i, (title, year, genres) in enumerate(zip(world.titles, world.years, world.genres, strict=True), start=1)
    ]
    users = [f"{i}|{age}|{sex}|{job}|{zip_code}" for i, (age, sex, job, zip_code) in enumerate(world.users, start=1)]
    _write_lines(folder / "u.data", ["\t".join(map(str, row)) for row in ratings])
    _write_lines(folder / "u.item", movies)
    _write_lines(folder / "u.user", users)
    _write_lines(folder / "u.genre", [f"{genre}|{number}" for number, genre in enumerate(GENRES)])
    _write_lines(folder / "u.occupation", OCCUPATIONS)
    _write_lines(folder / "README", ["Synthetic data in the format of MovieLens 100K, generated by movierec."])


def _write_lines(path: pathlib.Path, lines: list[str] | tuple[str, ...]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))


def _titles(random: np.random.Generator, world_of: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Distinct titles in their world's words, but that the last movie has the first one's title and year."""
    years = random.integers(1950, 1998, NUM_MOVIES)
    titles = [""] * NUM_MOVIES
    for world, (_, _, nouns) in enumerate(_WORLDS):
        names = random.permutation([f"{adjective} {noun}" for adjective in _ADJECTIVES for noun in nouns])
        movies = np.flatnonzero(world_of == world)
        for movie, name in zip(movies, names[: len(movies)], strict=True):
            titles[movie] = f"Synthetic {name} ({years[movie]})"
    titles[-1], years[-1] = titles[0], years[0]
    return titles, years


def _genres(random: np.random.Generator, world: int) -> list[str]:
    """Both genres of the world or one of them, and now and then one of another world."""
    first, second, _ = _WORLDS[world]
    genres = [[first], [second], [first, second], [first, second]][random.integers(4)]
    if random.random() < 0.15:
        genres = [*genres, _WORLDS[random.integers(len(_WORLDS))][0]]
    return genres


def _facts(random: np.random.Generator, likes: np.ndarray) -> tuple[int, str, str, str]:
    """Age, sex, occupation and zip code; the first two lean on the tastes a little."""
    age = int(np.clip(34 + 6 * (likes[5] - likes[2]) + 9 * random.normal(), 10, 75))
    sex = "F" if random.random() < 1 / (1 + np.exp(1.0 - 0.8 * likes[3] + 0.8 * likes[0])) else "M"
    return age, sex, OCCUPATIONS[random.integers(len(OCCUPATIONS))], f"{random.integers(100_000):05d}"


def _watch(random: np.random.Generator, likes: np.ndarray, world_of: np.ndarray, fame: np.ndarray) -> np.ndarray:
    """Movie numbers in the order watched, none twice."""
    count = int(np.clip(random.lognormal(3.85, 0.55), MIN_RATINGS, MAX_RATINGS))
    appeal = np.exp(1.1 * likes)
    left = fame.copy()
    watched = []
    phase = random.choice(len(_WORLDS), p=appeal / appeal.sum())
    for _ in range(count):
        if random.random() > _PHASE_STAYS:
            phase = random.choice(len(_WORLDS), p=appeal / appeal.sum())
        chances = left if random.random() < _STRAYS else left * (world_of == phase)
        if chances.sum() == 0:  # that world is watched to its end
            phase = random.choice(len(_WORLDS), p=appeal / appeal.sum())
            chances = left
        movie = random.choice(NUM_MOVIES, p=chances / chances.sum())
        left[movie] = 0.0
        watched.append(movie)
    return np.array(watched)


def _times(random: np.random.Generator, count: int) -> np.ndarray:
    """Seconds since 1970-01-01 UTC, never falling: evenings of a few movies, days between, some in the same second."""
    gaps = np.where(random.random(count) < 0.12, random.exponential(4 * 86_400, count), random.exponential(40, count))
    gaps[random.random(count) < 0.1] = 0
    return (_START + random.uniform(0, _DAYS * 86_400) + np.cumsum(gaps)).astype(np.int64)
