"""The trial's tables to the cohort table.

Column names are matched without regard to case. SAS's special missing values (``.M``, ``.N``, ``.S``) become missing.
Codes are the trial's (NLST data dictionaries): of the abnormalities only ``sct_ab_desc`` 51, non-calcified nodules of
4 mm and more, are taken.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_prep.errors import DataError
from data_prep.schema import POSITION, clean, read_table
from scripts.ehr import EHR_FEATURES, NODULE_ATTRIBUTES

NODULE = "51"
CANCER_SITES = {1: "locrup", 2: "locrmid", 3: "locrlow", 4: "loclup", 5: "loclin", 6: "locllow"}
"""Where a cancer was, columns of ``prsn`` by code of ``sct_epi_loc``."""

PERSON = tuple(name for name in EHR_FEATURES if name not in NODULE_ATTRIBUTES)
REQUIRED = {
    "prsn": ("pid", *PERSON),
    "ctab": ("pid", "study_yr", "sct_ab_num", "sct_ab_desc", *NODULE_ATTRIBUTES),
    "canc": ("pid",),
    "positions": ("pid", "study_yr", "sct_ab_num", "nodule_id", "image", *POSITION),
}


def join_files(folder: Path) -> pd.DataFrame:
    """:func:`join` of ``prsn.csv``, ``ctab.csv``, ``canc.csv`` and ``positions.csv`` in one folder."""
    return join(**{name: read_table(folder / f"{name}.csv") for name in REQUIRED})


def join(prsn: pd.DataFrame, ctab: pd.DataFrame, canc: pd.DataFrame, positions: pd.DataFrame) -> pd.DataFrame:
    """The cohort table of the trial's tables and of where the nodules are.

    ``malignant`` is 1 for nodules of participants with a lung cancer whose lobe is the cancer's (``loc*`` columns of
    ``prsn``), 0 for all others; without these columns, a nodule that is not its participant's only one and whose
    participant has a cancer stays without outcome. ``age`` is that at the scan: at randomisation plus the study year.
    Nodules that ``ctab`` or ``positions`` lacks are left out.

    Args:
        prsn: participants: ``pid``, age, gender, diagemph, fam*, with ``loc*`` and ``scr_days0`` .. ``scr_days2``
            where there are.
        ctab: abnormalities by ``pid``, ``study_yr``, ``sct_ab_num``.
        canc: lung cancers by ``pid``.
        positions: per nodule and year ``pid``, ``study_yr``, ``sct_ab_num``, the nodule's lasting ``nodule_id``,
            ``image``, and ``x``, ``y``, ``z`` in mm, LPS.

    Returns:
        One row per nodule and timepoint, columns as :mod:`data_prep.schema` has them, cells as text.

    Raises:
        DataError: columns that are missing, by table and name.
    """
    tables = {"prsn": prsn, "ctab": ctab, "canc": canc, "positions": positions}
    tables = {name: _prepared(table) for name, table in tables.items()}
    missing = [
        f"{name}: column {column} is missing; this release of the table may not have it."
        for name, columns in REQUIRED.items()
        for column in columns
        if column not in tables[name]
    ]
    if missing:
        raise DataError("\n".join(missing))
    nodules = tables["ctab"][tables["ctab"]["sct_ab_desc"] == NODULE].drop(columns="sct_ab_desc")
    located = tables["positions"].merge(
        nodules[["pid", "study_yr", "sct_ab_num", *NODULE_ATTRIBUTES]], on=["pid", "study_yr", "sct_ab_num"]
    )
    joined = located.merge(tables["prsn"], on="pid", how="inner", suffixes=("", "_prsn"))
    joined["malignant"] = _outcomes(joined, set(tables["canc"]["pid"]))
    joined["days_from_baseline"] = _days(joined)
    years = pd.to_numeric(joined["study_yr"])
    joined["age"] = (pd.to_numeric(joined["age"]) + years).map(_text)
    columns = ["nodule_id", "study_yr", "image", *POSITION, *EHR_FEATURES, "malignant", "days_from_baseline"]
    cohort = joined[["pid", *columns]].rename(columns={"pid": "patient_id"})
    return cohort.sort_values(["patient_id", "nodule_id", "study_yr"], kind="stable").reset_index(drop=True)


def _prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Lower-case names, text in the cells, None where there is no value."""
    table = table.rename(columns=lambda name: str(name).strip().lower())
    return table.astype(object).map(clean)


def _outcomes(joined: pd.DataFrame, cancers: set[str]) -> pd.Series:
    """See :func:`join`."""
    sited = all(column in joined for column in CANCER_SITES.values())
    several = joined.groupby("pid")["nodule_id"].transform("nunique") > 1

    def outcome(row: pd.Series) -> str | None:
        if row["pid"] not in cancers:
            return "0"
        if sited:
            lobe = row["sct_epi_loc"]
            return None if lobe is None else str(int(row.get(CANCER_SITES.get(int(lobe), ""), "0") == "1"))
        return None if several[row.name] else "1"

    return joined.apply(outcome, axis=1).astype(object)


def _days(joined: pd.DataFrame) -> pd.Series:
    """Days since the first screen, from ``scr_days*`` (days since randomisation); missing where these are."""

    def days(row: pd.Series) -> str | None:
        here, first = row.get(f"scr_days{row['study_yr']}"), row.get("scr_days0")
        return None if pd.isna(here) or pd.isna(first) else _text(float(here) - float(first))

    return joined.apply(days, axis=1).astype(object)


def _text(number: float) -> str | None:
    """As a table has it: whole numbers without a point."""
    return None if pd.isna(number) else f"{number:g}"
