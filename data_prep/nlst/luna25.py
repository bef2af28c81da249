"""LUNA25's annotations as findings: lesions of NLST scans, in mm, each with an outcome.

``LesionID`` mostly follows one lesion over the years; whether it does is held against positions and other sources
(:mod:`data_prep.nlst.agreement`). Of the study's date only the year counts, as the round: NLST's dates are
shifted, one date a round for everybody, so no days are taken from them.
"""

from __future__ import annotations

import pandas as pd

from data_prep.tables import numbers, spread
from scripts.ehr.features import MISSING

NEEDED = ("patientid", "seriesinstanceuid", "studydate", "coordx", "coordy", "coordz", "lesionid", "label")
TAKEN = ("age_at_studydate", "gender")
TITLE, LICENCE = "LUNA25's annotations", "not verified"
GENDERS = {"m": 1, "male": 1, "f": 2, "female": 2}
ROUNDS = {"1999": 0, "2000": 1, "2001": 2}
"""Screening rounds by the year of NLST's shifted dates."""


def findings(table: pd.DataFrame) -> pd.DataFrame:
    """One row per lesion and scan."""
    study_yr, age = _round(table), numbers(_optional(table, "age_at_studydate"))[0]
    return pd.DataFrame(
        {
            "pid": table["patientid"],
            "study_yr": study_yr,
            "nodule_id": table["lesionid"].astype(str).str.strip(),
            "candidates": -1,
            "series_uid": table["seriesinstanceuid"],
            **{axis: table[f"coord{axis}"] for axis in "xyz"},
            "noted_age": age - study_yr,
            "noted_gender": _word(_optional(table, "gender")).map(GENDERS),
            "noted_malignant": table["label"],
        }
    )


def faults(table: pd.DataFrame) -> list[tuple[int, str]]:
    """Rows, by position, that cannot be right, and what is wrong with them."""
    gender, label = _word(_optional(table, "gender")), numbers(table["label"])[0]
    age = numbers(_optional(table, "age_at_studydate"))
    lesion = [table["patientid"].astype(str), table["lesionid"].astype(str)]
    wrong = {
        "column studydate: expected a date of 1999, 2000 or 2001, as NLST's rounds have": _round(table).isna(),
        "column label: expected 0 or 1": ~label.isin((0, 1)),
        "column label: this lesion has both": label.groupby(lesion).transform("nunique") > 1,
        "column gender: expected Male or Female": ~gender.isin([*GENDERS, ""]),
        "column gender: this participant has both": gender.map(GENDERS).groupby(lesion[0]).transform("nunique") > 1,
        "column age_at_studydate: no number": age[1],
        "column age_at_studydate: does not rise with the rounds": spread(age[0] - _round(table), lesion[0]) > 1,
    }
    return [(row, text) for text, rows in wrong.items() for row in table.index[rows]]


def _round(table: pd.DataFrame) -> pd.Series:
    date = table["studydate"].astype(str).str.strip().str.removesuffix(".0")
    return date.where(date.str.fullmatch(r"\d{8}|\d{4}-\d\d-\d\d")).str[:4].map(ROUNDS).astype(float)


def _optional(table: pd.DataFrame, name: str) -> pd.Series:
    return table.get(name, pd.Series("", table.index))


def _word(cells: pd.Series) -> pd.Series:
    word = cells.astype("string").fillna("").str.strip().str.lower()
    return word.mask(word.isin(MISSING), "").astype(object)
