"""Small files in the editions' exact formats, written for a test."""

GENRES = ("unknown", "Action", "Comedy", "Drama")


def flags(*genres):
    return "|".join("01"[genre in genres] for genre in GENRES)


def rating_lines(num_users=10, num_movies=12):
    """Tab-separated rows without fault: every user rates every movie but two."""
    rows = []
    for user in range(1, num_users + 1):
        for movie in range(1, num_movies - 1):
            rows.append(f"{user}\t{movie}\t{1 + (user + movie) % 5}\t{880_000_000 + 1000 * movie + user}")
    return rows


def write_100k(folder, ratings=None, movies=None, users=None):
    """ml-100k's files; lines that are given replace those that are made. Text or bytes."""
    ratings = rating_lines() if ratings is None else ratings
    if movies is None:
        movies = [f"{i}|Movie {i} (19{80 + i})|01-Jan-19{80 + i}||http://x/{i}|{flags('Drama')}" for i in range(1, 13)]
    if users is None:
        users = [f"{i}|{20 + i}|{'MF'[i % 2]}|writer|0{i:04d}" for i in range(1, 12)]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "u.data", ratings)
    write_lines(folder / "u.item", movies)
    write_lines(folder / "u.user", users)
    write_lines(folder / "u.genre", [f"{genre}|{i}" for i, genre in enumerate(GENRES)])
    return folder


def write_latest(folder, ratings=None, movies=None, header="userId,movieId,rating,timestamp"):
    """The files of ml-latest-small, and of all editions since ml-20m."""
    if ratings is None:
        ratings = [line.replace("\t", ",") for line in rating_lines()]
    if movies is None:
        movies = [f'{i},"Movie, The {i} (19{80 + i})",Drama|War' for i in range(1, 13)]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "ratings.csv", [header, *ratings], "utf-8")
    write_lines(folder / "movies.csv", ["movieId,title,genres", *movies], "utf-8")
    return folder


def write_dat(folder, ratings=None, movies=None, users=None, encoding="utf-8"):
    """ml-10m's files; with users, ml-1m's."""
    if ratings is None:
        ratings = [line.replace("\t", "::") for line in rating_lines()]
    if movies is None:
        movies = [f"{i}::Movie: The {i} (19{80 + i})::Drama|War" for i in range(1, 13)]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "ratings.dat", ratings, encoding)
    write_lines(folder / "movies.dat", movies, encoding)
    if users is not None:
        write_lines(folder / "users.dat", users, encoding)
    return folder


def write_1m(folder, ratings=None, movies=None, users=None):
    """ml-1m's files."""
    ages = (1, 18, 25, 35, 45, 50, 56)
    if users is None:
        users = [f"{i}::{'MF'[i % 2]}::{ages[i % 7]}::{i % 21}::0{i:04d}-11" for i in range(1, 12)]
    return write_dat(folder, ratings, movies, users, "latin-1")


WRITERS = {
    "ml-100k": write_100k, "ml-1m": write_1m, "ml-10m": write_dat, "ml-20m": write_latest, "ml-25m": write_latest,
    "ml-32m": write_latest, "ml-latest-small": write_latest, "ml-latest": write_latest,
}  # fmt: skip
"""Edition -> what writes a small one."""


def write_lines(path, lines, encoding="latin-1"):
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode(encoding)) + b"\n" for line in lines))
