"""What the editions know of their users, made one: the facts of TFDS, by its names and in its values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import polars as pl

from components.text_tables import Check
from trainer_modules import features

OCCUPATIONS = (
    "other/not specified", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip
"""ml-1m's occupations in TFDS's words; the position is ml-1m's code."""

_STUDENTS = ("college/grad student", "K-12 student")
_LABELS = (
    "academic/educator", "artist", "clerical/admin", "customer service", "doctor/health care", "entertainment",
    "executive/managerial", "farmer", "homemaker", "lawyer", "librarian", "other/not specified", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "student", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip
"""TFDS's classes: both kinds of students are one. The position is the label."""

AGE_GROUPS = (1.0, *features.AGE_BOUNDARIES)
"""Lower ends of ml-1m's age groups, years; the first one stands for everyone younger."""


@dataclasses.dataclass(frozen=True)
class UserFacts:
    """How a users file becomes features.USER_FACTS."""

    checks: list[Check]
    select: list[pl.Expr]
    """One column a fact, under the fact's name; null where it is not known."""


def of_columns(columns: Sequence[str]) -> UserFacts:
    """The facts of a users file.

    Args:
      columns: our names of its columns (editions.Edition.users).
    """
    bad_gender = pl.format("gender '{}' is not M or F", "gender")
    checks, facts = _coded() if "age_group" in columns else _in_words()
    facts[features.USER_GENDER] = (pl.col("gender") == "M").cast(pl.Int64)
    facts[features.USER_ZIP_CODE] = _absent_if_empty("zip_code")
    return UserFacts(
        [*checks, Check("bad gender", ~pl.col("gender").is_in(["M", "F"]), bad_gender)],
        [facts[fact].alias(fact.name) for fact in features.USER_FACTS if fact in facts],
    )


def _in_words() -> tuple[list[Check], dict[features.Feature, pl.Expr]]:
    """Ages in years, from which the group follows; occupations in words."""
    age = pl.col("age").cast(pl.Float32, strict=False)
    group = pl.lit(AGE_GROUPS[0])
    for lower_end in AGE_GROUPS[1:]:
        group = pl.when(age >= lower_end).then(pl.lit(lower_end)).otherwise(group)
    is_bad = ~age.is_between(1, 130).fill_null(False)
    return [Check("bad age", is_bad, pl.format("age '{}' is no age in years", "age"))], {
        features.RAW_USER_AGE: age,
        features.BUCKETIZED_USER_AGE: group.cast(pl.Float32),
        features.USER_OCCUPATION_TEXT: _absent_if_empty("occupation"),
    }


def _coded() -> tuple[list[Check], dict[features.Feature, pl.Expr]]:
    """Ages by the lower end of their group, occupations by number: no one's age in years is known."""
    group, groups = pl.col("age_group"), [f"{group:g}" for group in AGE_GROUPS]
    code, codes = pl.col("occupation_code"), [str(code) for code in range(len(OCCUPATIONS))]
    labels = [_LABELS.index("student" if text in _STUDENTS else text) for text in OCCUPATIONS]
    bad_group = pl.format("age group '{}' is none of {}", group, pl.lit(", ".join(groups)))
    bad_code = pl.format("occupation '{}' is none of 0 to {}", code, pl.lit(codes[-1]))
    return [
        Check("bad age", ~group.is_in(groups), bad_group),
        Check("bad occupation", ~code.is_in(codes), bad_code),
    ], {
        features.BUCKETIZED_USER_AGE: group.cast(pl.Float32, strict=False),
        features.USER_OCCUPATION_LABEL: code.replace_strict(codes, labels, default=None, return_dtype=pl.Int64),
        features.USER_OCCUPATION_TEXT: code.replace_strict(codes, OCCUPATIONS, default=None, return_dtype=pl.String),
    }


def _absent_if_empty(column: str) -> pl.Expr:
    return pl.when(pl.col(column).str.strip_chars() != "").then(pl.col(column))
