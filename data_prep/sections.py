"""The sections of a dataset: whose cases are in which, and what a case is, as the datalist has it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

import pandas as pd

from data_prep.errors import DataError
from data_prep.schema import INTERVAL, KEY, LISTS, PREDICT, SECTIONS, TRUTH
from scripts.ehr.features import EHR_FEATURES, NODULE_ATTRIBUTES

SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}
DAYS_PER_YEAR = 365

Row = Mapping[Hashable, Any]
"""A row of the table, by column."""


def shares_of(text: str) -> dict[str, float]:
    """Shares of the sections as the command line gives them, in parts.

    >>> shares_of("40:10:50")
    {'training': 0.4, 'validation': 0.1, 'test': 0.5}

    Raises:
        DataError: these are not three numbers that are not negative, the first above 0.
    """
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) != len(SECTIONS) or not all(0 <= part < math.inf for part in parts) or parts[0] == 0:
        raise DataError(f"--shares {text}: expected parts of training, validation and test, such as 70:10:20.")
    return {section: part / sum(parts) for section, part in zip(SECTIONS, parts, strict=True)}


def assigned_sections(cohort: pd.DataFrame, shares: Mapping[str, float] = SHARES) -> pd.Series:
    """The section of every row: that of its column ``split``, or one drawn by patient where the table gives none.

    Patients without one are put in the order of a hash of their identifier, those with a malignant nodule, without
    and with unknown outcome each for themselves, and dealt out by ``shares``. The same table always gives the same.
    Where no nodule of the table has two times, there is nothing to learn from or to judge by: these patients are all
    in ``predict``.
    """
    given = cohort.groupby("patient_id")["split"].transform("first")
    if not cohort.duplicated([*KEY]).any():
        return given.where(given.notna(), PREDICT)
    drawn: dict[str, str] = {}
    free = cohort[cohort.groupby("patient_id")["split"].transform("count").eq(0)]
    for _, stratum in free.groupby(free.groupby("patient_id")["malignant"].transform("max").fillna(-1)):
        patients = sorted(stratum["patient_id"].unique(), key=lambda patient: hashlib.sha256(patient.encode()).digest())
        first = round(shares["training"] * len(patients))
        second = round((shares["training"] + shares["validation"]) * len(patients))
        for position, patient in enumerate(patients):
            drawn[patient] = SECTIONS[(position >= first) + (position >= second)]
    return given.where(given.notna(), cohort["patient_id"].map(drawn))


def sectioned(cohort: pd.DataFrame, predict: bool = False) -> dict[str, list[dict[str, Any]]]:
    """The datalist's sections: pairs by section, and of single timepoints those that are of use.

    A pair is two neighbouring timepoints of a nodule: study years that follow each other or, in a table without
    study years, any two neighbours. Three timepoints give two pairs. ``unpaired`` has what is in no pair of training
    patients, ``predict`` the last timepoint of each nodule of its own patients.

    Args:
        cohort: its column ``last`` tells the last timepoint of each nodule.
        predict: put last timepoints of validation and test patients that are in no pair into ``predict`` too.
    """
    sections: dict[str, list[dict[str, Any]]] = {section: [] for section in LISTS}
    ordered = cohort.sort_values([*KEY, "time"]).to_dict("records")
    for _, nodule in groupby(ordered, key=itemgetter(*KEY)):
        rows: list[Row] = [*nodule]
        pairs = [(first, second) for first, second in zip(rows, rows[1:], strict=False) if _neighbours(first, second)]
        for first, second in pairs:
            sections[first["split"]].append(_case(first, second))
        paired = {row["crop"] for pair in pairs for row in pair}
        for row in rows:
            if row["crop"] in paired:
                continue
            if row["split"] == "training":
                sections["unpaired"].append(_single(row))
            elif row["last"] and (predict or row["split"] == PREDICT):
                sections[PREDICT].append(_baseline(row))
    return sections


def _neighbours(first: Row, second: Row) -> bool:
    """Whether two timepoints next to each other make a pair; in ``predict`` none do."""
    return first["split"] != PREDICT and bool(
        math.isnan(first["study_yr"]) or second["study_yr"] - first["study_yr"] == 1
    )


def _case(first: Row, second: Row) -> dict[str, Any]:
    """A pair as the datalist has it."""
    days = second["days_from_baseline"] - first["days_from_baseline"]
    if math.isnan(days):
        days = DAYS_PER_YEAR * (second["time"] - first["time"])
    return {
        "case_id": f"{first['patient_id']}_{first['nodule_id']}_{first['timepoint']}-{second['timepoint']}",
        "patient_id": first["patient_id"],
        "nodule_id": first["nodule_id"],
        "baseline": first["crop"],
        "follow_up": second["crop"],
        "ehr": _known(first, EHR_FEATURES),
        "follow_up_attributes": _known(second, NODULE_ATTRIBUTES),
        **_outcome(first, second),
        "interval_days": int(days),
        **_truth(second),
    }


def _single(row: Row) -> dict[str, Any]:
    """A timepoint without a partner as the datalist has it."""
    return {
        "case_id": f"{row['patient_id']}_{row['nodule_id']}_{row['timepoint']}",
        "patient_id": row["patient_id"],
        "image": row["crop"],
        "ehr": _known(row, EHR_FEATURES),
        **_outcome(row),
    }


def _baseline(row: Row) -> dict[str, Any]:
    """A baseline without a follow-up as the datalist has it; the interval to the forecast where the table says it."""
    single = _single(row)
    crop = single.pop("image")
    interval = {} if pd.isna(row[INTERVAL]) else {"interval_days": int(row[INTERVAL])}
    return {**single, "nodule_id": row["nodule_id"], "baseline": crop, **interval}


def _known(row: Row, names: Iterable[str]) -> dict[str, float]:
    """The features that are known; whole numbers as such."""
    values = {name: float(row[name]) for name in names if not pd.isna(row[name])}
    return {name: int(value) if value.is_integer() else value for name, value in values.items()}


def _outcome(*rows: Row) -> dict[str, int]:
    """``malignant`` from the first row that tells; nothing where none does."""
    known = [int(row["malignant"]) for row in rows if not pd.isna(row["malignant"])]
    return {"malignant": known[0]} if known else {}


def _truth(row: Row) -> dict[str, dict[str, float]]:
    """``truth``: what the simulation knows of a case and no model may read; nothing where it is no simulated one."""
    known = {name: float(row[name]) for name in TRUTH if not pd.isna(row.get(name))}
    return {"truth": known} if known else {}
