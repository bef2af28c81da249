"""The trial's tables, as CDAS delivers them or as they are open: CSV, SAS7BDAT, XPORT or parquet.

Column names are matched without regard to case. SAS's special missing values (``.M``, ``.N``, ``.S`` and the rest)
become missing; ``.E`` of a screen's day, which comes after a diagnosis, is kept beside it. Of the 13 features, those
that a release does not have, or whose value is no code of the trial's, stay empty and are told of by name
(:func:`gaps`); nothing is filled in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from data_prep.errors import DataError, listing
from data_prep.tables import SUFFIXES, numbers, read_columns, shown, whole
from scripts.ehr.features import EHR_FEATURES, FEATURES, NODULE_ATTRIBUTES, Feature

CANCER_SITES = {1: "locrup", 2: "locrmid", 3: "locrlow", 4: "loclup", 5: "loclin", 6: "locllow"}
"""Where a cancer was, columns of ``prsn`` by code of ``sct_epi_loc``."""

PERSON = tuple(name for name in EHR_FEATURES if name not in NODULE_ATTRIBUTES)
YEARS = (0, 1, 2)
KEYS = ("pid", "study_yr", "sct_ab_num")


@dataclass(frozen=True)
class Spec:
    """What is read of a table: the key, which names a row, and the columns that are taken where they are there."""

    title: str
    key: tuple[str, ...]
    needed: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    text: tuple[str, ...] = ()


DAYS = tuple(f"scr_days{year}" for year in YEARS)
SPECS = {
    "prsn": Spec(
        "participants",
        ("pid",),
        taken=(*PERSON, *CANCER_SITES.values(), *DAYS, "can_scr", "candx_days", "rndgroup"),
    ),
    "ctab": Spec(
        "abnormalities of the CT screens",
        ("pid", "study_yr", "sct_ab_num"),
        needed=("sct_ab_desc",),
        taken=NODULE_ATTRIBUTES,
    ),
    "canc": Spec("lung cancers", (), needed=("pid",), taken=("candx_days",), text=("lc_topog",)),
    "screen": Spec("quality of the CT screens", ("pid", "study_yr"), taken=("ctdxqual",)),
    "ctabc": Spec(
        "abnormalities compared with earlier screens",
        ("pid", "study_yr", "sct_ab_num"),
        taken=("sct_ab_gwth", "sct_ab_preexist"),
    ),
}
NEEDED, OPTIONAL = ("prsn", "ctab", "canc"), ("screen", "ctabc")


@dataclass(frozen=True)
class Trial:
    """The tables by name, numbers but for ``lc_topog``; ``refused`` counts values that are no code, by feature."""

    tables: Mapping[str, pd.DataFrame]
    refused: Mapping[str, int] = field(default_factory=dict)
    simulated: str = ""

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]

    def has(self, name: str, *columns: str) -> bool:
        """Whether there is such a table with all of these columns."""
        return name in self.tables and set(columns) <= set(self.tables[name])


def find(folder: Path, apart_from: Collection[str] = ()) -> dict[str, Path]:
    """The trial's tables in a folder, by name: files such as ``nlst_780_prsn_idc_20210527.csv`` or ``ctab.sas7bdat``.

    Args:
        folder: where they are.
        apart_from: tables that are not looked for.

    Raises:
        DataError: no such folder, or two files for one table.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with the trial's tables.")
    found: dict[str, Path] = {}
    faults = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        for name in set(re.split(r"[^a-z0-9]+", path.stem.lower())) & (set(SPECS) - set(apart_from)):
            if name in found:
                faults.append(f"{folder}: both {found[name].name} and {path.name} may be {name}. Say which: --{name}.")
            found[name] = path
    if faults:
        raise DataError("\n".join(faults))
    return found


def read(paths: Mapping[str, Path]) -> Trial:
    """Reads tables and checks them.

    Raises:
        DataError: every fault of every table, one a line: columns that are missing, rows that come twice, cells that
            are no numbers.
    """
    faults: list[str] = []
    tables: dict[str, pd.DataFrame] = {}
    for name, path in paths.items():
        spec = SPECS[name]
        try:
            tables[name] = read_columns(path, (*spec.key, *spec.needed), spec.taken + spec.text)
        except DataError as error:
            faults.append(str(error))
    try:
        trial = check(tables, {name: str(path) for name, path in paths.items()})
    except DataError as error:
        faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return trial


def check(tables: Mapping[str, pd.DataFrame], names: Mapping[str, str] | None = None) -> Trial:
    """Checks tables and turns their cells into numbers.

    Args:
        tables: by the names of :data:`SPECS`, column names in lower case.
        names: what to call the tables in messages.

    Raises:
        DataError: see :func:`read`.
    """
    faults: list[str] = []
    refused: dict[str, int] = {}
    made: dict[str, pd.DataFrame] = {}
    for name, given in tables.items():
        table = given if given.index.is_unique else given.reset_index(drop=True)
        spec, title = SPECS[name], (names or {}).get(name, name)
        found = [f"column {column}: missing." for column in (*spec.key, *spec.needed) if column not in table]
        columns = [column for column in (*spec.key, *spec.needed, *spec.taken, *spec.text) if column in table]
        typed = table[columns].copy()
        for column in (column for column in columns if column not in spec.text):
            if column in DAYS:
                typed[f"{column}_late"] = (
                    typed[column].astype("string").str.strip().str.upper().eq(".E").fillna(False).astype(bool)
                )
            typed[column], bad = numbers(typed[column])
            found += _cells(table[column], bad, "expected a number")
            if column in KEYS:
                found += _cells(table[column], ~whole(typed[column]), "expected a whole number")
            if column == "study_yr":
                found += _cells(table[column], ~typed[column].isin(YEARS) & typed[column].notna(), "expected 0, 1 or 2")
            if column in FEATURES:
                typed[column], bad = feature_values(typed[column], FEATURES[column])
                refused[column] = int(bad.sum())
        key = list(spec.key or ("pid",))
        if not found:
            unnamed = typed[key].isna().any(axis=1)
            found += [f"row {row + 2}: {', '.join(key)} is empty." for row in typed.index[unnamed]]
            twice = typed.duplicated(key) & bool(spec.key)
            found += [f"row {row + 2}: {', '.join(key)} comes again." for row in typed.index[twice]]
        if found:
            faults.append(listing(title, found))
            continue
        made[name] = typed.astype(dict.fromkeys(key, int)).reset_index(drop=True)
    if faults:
        raise DataError("\n".join(faults))
    return Trial(made, {name: count for name, count in refused.items() if count})


def feature_values(values: pd.Series, feature: Feature) -> tuple[pd.Series, pd.Series]:
    """A feature's values, NaN where not determined or not allowed; and which are not allowed."""
    known = values.where(~values.isin(feature.unknown))
    allowed = known.isin(list(feature.codes)) if feature.codes else known.between(feature.minimum, feature.maximum)
    return known.where(allowed), known.notna() & ~allowed


def gaps(trial: Trial, cohort: pd.DataFrame, absent: Collection[str] = ()) -> dict[str, str]:
    """Which features have gaps, and why, by name; ``absent`` are tables that were not given."""
    told = {}
    for name in EHR_FEATURES:
        table = "ctab" if name in NODULE_ATTRIBUTES else "prsn"
        missing = int(cohort[name].isna().sum())
        if not trial.has(table, name):
            told[name] = f"no table {table} was given" if table in absent else f"not in this release of {table}"
        elif missing:
            told[name] = f"missing in {missing:,} of {len(cohort):,} rows"
        if trial.refused.get(name):
            told[name] = f"{told[name]}; {trial.refused[name]:,} cells of {table} are no code of the trial's"
    return told


def _cells(cells: pd.Series, bad: pd.Series, why: str) -> list[str]:
    return [f"row {row + 2}, column {cells.name}: {shown(cells[row])}: {why}." for row in cells.index[bad]]
