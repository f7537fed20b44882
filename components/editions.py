"""The MovieLens editions: which files, laid out how, with what range of stars. Records only."""

from __future__ import annotations

import dataclasses

from components.errors import InputError

BASE_URL = "https://files.grouplens.org/datasets/movielens/"


@dataclasses.dataclass(frozen=True)
class TextFile:
    """One text file: a record a line, fields between separators."""

    name: str
    columns: tuple[str, ...]
    """Our names of the fields, in the order of the file."""
    separator: str
    header: tuple[str, ...] = ()
    """The file's own names of the columns, which its first line must hold. Empty: the file has no header."""
    encoding: str = "utf-8"
    """"utf-8" or "latin-1"."""
    quoted: bool = False
    """A field may stand in double quotes, a quote within it doubled (CSV)."""


@dataclasses.dataclass(frozen=True)
class Edition:
    """One edition of MovieLens."""

    name: str
    ratings: TextFile
    """Columns user_id, movie_id, rating, timestamp."""
    movies: TextFile
    """Columns movie_id, title and either genres ("A|B") or, where genre_names is given, one 0/1 flag a genre last."""
    rating_min: float
    """Stars."""
    rating_max: float
    rating_step: float
    environment: str
    """Which of the schema's environments describes its examples."""
    users: TextFile | None = None
    """What is known of the users; None: nothing."""
    genre_names: TextFile | None = None
    md5: str = ""
    """Of the zip file. Empty: the edition changes now and then, and the sum lies beside the zip as NAME.zip.md5."""
    synthetic: bool = False
    """Generated on the spot, not real data: to be said wherever its numbers appear."""

    @property
    def file_names(self) -> tuple[str, ...]:
        """The files that are read, all of them needed."""
        files = (self.ratings, self.movies, self.users, self.genre_names)
        return tuple(file.name for file in files if file is not None)

    @property
    def rating_range(self) -> tuple[float, float]:
        """Fewest and most stars."""
        return self.rating_min, self.rating_max

    @property
    def url(self) -> str:
        """Where the zip is downloaded from."""
        return f"{BASE_URL}{self.name}.zip"


DEMOGRAPHICS = "demographics"
PLAIN = "plain"
"""The schema's environments: with and without facts about the users."""

_ML_100K = Edition(
    name="ml-100k",
    ratings=TextFile("u.data", ("user_id", "movie_id", "rating", "timestamp"), "\t", encoding="latin-1"),
    movies=TextFile(
        "u.item", ("movie_id", "title", "release_date", "video_release_date", "imdb_url"), "|", encoding="latin-1"
    ),
    users=TextFile("u.user", ("user_id", "age", "gender", "occupation", "zip_code"), "|", encoding="latin-1"),
    genre_names=TextFile("u.genre", ("genre", "number"), "|", encoding="latin-1"),
    rating_min=1.0,
    rating_max=5.0,
    rating_step=1.0,
    environment=DEMOGRAPHICS,
    md5="0e33842e24a9c977be4e0107933c0723",
)

_ML_LATEST_SMALL = Edition(
    name="ml-latest-small",
    ratings=TextFile(
        "ratings.csv",
        ("user_id", "movie_id", "rating", "timestamp"),
        ",",
        header=("userId", "movieId", "rating", "timestamp"),
        quoted=True,
    ),
    movies=TextFile(
        "movies.csv", ("movie_id", "title", "genres"), ",", header=("movieId", "title", "genres"), quoted=True
    ),
    rating_min=0.5,
    rating_max=5.0,
    rating_step=0.5,
    environment=PLAIN,
)

_SAMPLE = dataclasses.replace(_ML_100K, name="sample", md5="", synthetic=True)

EDITIONS = {edition.name: edition for edition in (_SAMPLE, _ML_100K, _ML_LATEST_SMALL)}


def get_edition(name: str) -> Edition:
    """The edition of that name.

    Raises:
      InputError: there is none.
    """
    if name not in EDITIONS:
        raise InputError(f"There is no data set {name!r}. Choose one of: {', '.join(EDITIONS)}.")
    return EDITIONS[name]
