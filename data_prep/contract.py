"""The checks of a cohort table, by pandera, which takes long to import; hence apart from :mod:`data_prep.schema`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from data_prep.errors import DataError, listing
from data_prep.images import VOLUMES
from data_prep.schema import (
    COLUMNS,
    IDENTIFIER,
    INTERVAL,
    KEY,
    POSITION,
    PREDICT,
    SECTIONS,
    TIMES,
    TRUTH,
    YES,
    canonical,
    read_table,
    times,
)
from data_prep.tables import NUMBER, alike, misnamed, numbers, shown
from scripts.ehr.features import FEATURES, EHRError, Feature


def read_cohort(path: Path) -> pd.DataFrame:
    """Reads and checks a cohort table.

    Returns:
        The table with ``patient_id``, ``nodule_id``, ``image``, ``split``, ``simulated``, ``source``, ``licence`` as
        text, all other known columns as numbers; what is optional and absent is there and empty. ``image`` stays
        relative to the table.

    Raises:
        DataError: every fault of the table, one a line, with row (the header is row 1) and column.
    """
    table = read_table(path)
    if table.empty:
        raise DataError(f"{path}: no rows; expected one a nodule and timepoint.")
    faults = _misnamed(table) + _written_in_two_ways(table)
    try:
        cohort_schema(path.parent, frozenset(table.columns)).validate(table, lazy=True)
    except SchemaErrors as error:
        faults += _faults(error.failure_cases, table)
    if faults:
        raise DataError(listing(path, list(dict.fromkeys(line for _, line in sorted(faults)))))
    return _typed(table).reset_index(drop=True)


def cohort_schema(folder: Path, columns: frozenset[str]) -> pa.DataFrameSchema:
    """The contract as a pandera schema over a table of text.

    Args:
        folder: where relative paths start.
        columns: the table's columns; of ``study_yr`` and ``days_from_baseline`` one must be among them.
    """
    identifier = pa.Check.str_matches(IDENTIFIER, error="expected letters, digits, '.', '_' and '-'")
    exists = _check(
        lambda value: _there(folder / value, Path.exists), f"no such file or folder; expected a path from {folder}"
    )
    image = _check(
        lambda value: _there(folder / value, Path.is_dir) or value.endswith(VOLUMES),
        "expected NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd) or a folder with one DICOM series",
    )
    sections = (*SECTIONS, PREDICT)
    section = pa.Check.isin(sections, error=f"expected {', '.join(sections)}")
    year = _number_check("a study year: 0, 1, 2 ...", lambda number: number >= 0 and number.is_integer())
    days = _number_check("days, 0 or more", lambda number: number >= 0)
    interval = _number_check(
        "whole days to the forecast, 1 or more", lambda number: number >= 1 and number.is_integer()
    )
    outcome = _number_check("0 (benign), 1 (malignant) or nothing", lambda number: number in (0, 1))
    probability = _number_check("a probability", lambda number: 0 <= number <= 1)
    truth = {**dict.fromkeys(TRUTH, probability), TRUTH[0]: _number_check("a factor", lambda number: number > 0)}
    millimetres = _number_check("millimetres", math.isfinite)
    optional: dict[str, Any] = {"required": False, "nullable": True}
    timed = {name: pa.Column(checks=check, nullable=True) for name, check in _timing(columns, year, days).items()}
    return pa.DataFrameSchema(
        {
            **{name: pa.Column(checks=identifier) for name in KEY},
            "image": pa.Column(checks=[exists, image]),
            **timed,
            **{name: pa.Column(checks=_feature_check(feature), nullable=True) for name, feature in FEATURES.items()},
            **{name: pa.Column(checks=millimetres, **optional) for name in POSITION},
            "mask": pa.Column(checks=exists, **optional),
            "series_uid": pa.Column(**optional),
            "split": pa.Column(checks=section, **optional),
            INTERVAL: pa.Column(checks=interval, **optional),
            "malignant": pa.Column(checks=outcome, **optional),
            **{name: pa.Column(checks=check, **optional) for name, check in truth.items()},
        },
        checks=[_whole(text, test) for text, test in _relations(folder, columns).items()],
    )


def _timing(columns: frozenset[str], year: pa.Check, days: pa.Check) -> dict[str, pa.Check]:
    """Which columns of time are checked: those that are there, ``study_yr`` where none is."""
    present = {name: check for name, check in zip(TIMES, (year, days), strict=True) if name in columns}
    return present or {"study_yr": year}


def _there(path: Path, test: Callable[[Path], bool]) -> bool:
    """Whether there is such a file or folder; no where the system cannot even look, as for a name that is too long."""
    try:
        return test(path)
    except OSError:
        return False


def _check(test: Callable[[str], bool], expected: str) -> pa.Check:
    return pa.Check(test, element_wise=True, error=expected)


def _number_check(expected: str, allowed: Callable[[float], bool]) -> pa.Check:
    return _check(lambda value: _is_number(value) and allowed(float(value)), f"expected {expected}")


def _is_number(value: str) -> bool:
    return re.fullmatch(NUMBER, value.lower()) is not None and math.isfinite(float(value))


def _feature_check(feature: Feature) -> pa.Check:
    def test(value: str) -> bool:
        try:
            feature.read(value)
        except EHRError:
            return False
        return _is_number(value)

    return _check(test, f"expected {feature.expected}, or nothing where it is not known")


RowTest = Callable[[pd.DataFrame], pd.Series]


def _whole(text: str, test: RowTest) -> pa.Check:
    """A check over rows: ``test`` tells for each row whether it is good; columns that a table lacks are empty."""

    def complete(table: pd.DataFrame) -> pd.Series:
        return test(table.reindex(columns=[*dict.fromkeys([*table.columns, *COLUMNS])])).astype(bool)

    return pa.Check(complete, error=text)


def _relations(folder: Path, present: frozenset[str]) -> dict[str, RowTest]:
    """What must hold between the cells of a row and between rows; ``{patient}`` becomes the row's patient.

    Args:
        folder, present: see :func:`cohort_schema`.
    """

    def one_each(column: str, *by: str) -> RowTest:
        def single(table: pd.DataFrame) -> pd.Series:
            values = table[column] if column == "split" else numbers(table[column])[0]
            return ~(table[[*by]].assign(value=values).groupby([*by])["value"].transform("nunique") > 1)

        return single

    def timed(table: pd.DataFrame) -> pd.Series:
        return times(table).notna() | present.isdisjoint(TIMES)

    def unique(table: pd.DataFrame) -> pd.Series:
        moments = table[list(KEY)].assign(time=times(table))
        return ~moments.duplicated() | moments.isna().any(axis=1)

    def rising(table: pd.DataFrame) -> pd.Series:
        days = numbers(table["days_from_baseline"])[0]
        timed = table[list(KEY)].assign(time=times(table), days=days).sort_values("time")
        steps = timed.groupby(list(KEY))["days"].diff()
        return ~(steps <= 0).reindex(table.index)

    def ageing(table: pd.DataFrame) -> pd.Series:
        rounds = numbers(table["study_yr"])[0].notna().any()  # days may count from each nodule's first scan
        known = table[list(KEY)].assign(time=times(table), age=numbers(table["age"])[0]).dropna()
        steps = known.sort_values(["time", "age"]).groupby(list(KEY[:1] if rounds else KEY))["age"].diff()
        return ~(steps < 0).reindex(table.index, fill_value=False)

    def last(table: pd.DataFrame) -> pd.Series:
        moments = table[list(KEY)].assign(time=times(table))
        return table[INTERVAL].isna() | ~(moments["time"] < moments.groupby(list(KEY))["time"].transform("max"))

    def positioned(table: pd.DataFrame) -> pd.Series:
        given = table[list(POSITION)].notna().sum(axis=1)
        dicom = table["image"].map(lambda value: isinstance(value, str) and _there(folder / value, Path.is_dir))
        return given.eq(3) | (given.eq(0) & ~dicom)

    return {
        "column study_yr or days_from_baseline: empty or no number": timed,
        "expected one row per nodule and timepoint; this one of patient {patient} comes again": unique,
        "column days_from_baseline: expected to rise with study_yr": rising,
        "column split: expected one per patient; patient {patient} is in several": one_each("split", KEY[0]),
        "column gender: expected one per patient; patient {patient} has both": one_each("gender", KEY[0]),
        "column age: expected not to fall with time; patient {patient} has been older before": ageing,
        "column malignant: expected one per nodule, one of patient {patient} has both": one_each("malignant", *KEY),
        f"column {INTERVAL}: expected nothing, as a later time of the nodule follows, which tells the interval": last,
        "columns x, y, z: expected all three with a DICOM folder, all three or none with NIfTI": positioned,
    }


Fault = tuple[float, str]
"""A row's index, or -1, and what is wrong with it."""


def _misnamed(table: pd.DataFrame) -> list[Fault]:
    """Columns that nearly bear the name of one that is missing."""
    near = alike(table.columns, COLUMNS)
    return [(-1, misnamed(theirs, ours, COLUMNS[ours].needed != YES)) for ours, theirs in near.items()]


def _written_in_two_ways(table: pd.DataFrame) -> list[Fault]:
    """Identifiers that differ in form alone: one patient, or one nodule of a patient, would be taken for two."""
    faults: list[Fault] = []
    for columns in (KEY[:1], KEY):
        if not set(columns) <= set(table):
            continue
        named = table[[*columns]].dropna().drop_duplicates()
        column = columns[-1]
        first = named.groupby([*columns[:-1], named[column].map(canonical)])[column].transform("first")
        faults += [
            (
                row,
                f"row {row + 2}, column {column}: {named[column][row]!r} and {first[row]!r} differ in form alone; "
                f"expected one spelling of one {column}. Write it one way, or name two apart.",
            )
            for row in named.index[named[column] != first]
        ]
    return faults


def _faults(cases: pd.DataFrame, table: pd.DataFrame) -> list[Fault]:
    """What pandera found."""
    lines: list[Fault] = []
    near = alike(table.columns, COLUMNS)
    for case in cases.drop_duplicates(["column", "check", "index", "failure_case"]).itertuples():
        if case.check == "column_in_dataframe":
            if case.failure_case not in near:
                lines.append(
                    (-1, f"column {case.failure_case}: missing. Add it, with empty cells where it is not known.")
                )
        elif case.check == "not_nullable":
            lines.append((case.index, f"row {case.index + 2}, column {case.column}: empty; expected a value."))
        elif case.schema_context == "Column":
            text = f"row {case.index + 2}, column {case.column}: {shown(case.failure_case)}: {case.check}."
            lines.append((case.index, text))
        else:
            patient = table.get("patient_id", pd.Series(dtype=object)).get(case.index)
            text = case.check if case.check.startswith("column") else f"columns {', '.join(KEY)}: {case.check}"
            lines.append((case.index, f"row {case.index + 2}, {text}.".replace("{patient}", str(patient))))
    return lines


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Text to numbers, codes for "not determined" to missing, optional columns added empty."""
    typed = table.copy()
    for name, feature in FEATURES.items():
        typed[name] = pd.Series([feature.read(value) for value in table[name]], index=table.index, dtype=float)
    for name in (*TIMES, INTERVAL, "malignant", *POSITION, *TRUTH):
        typed[name] = numbers(table[name])[0] if name in table else math.nan
    for name in ("split", "simulated", "source", "licence", "series_uid"):
        if name not in table:
            typed[name] = None
    return typed
