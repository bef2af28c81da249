"""The cohort table, which every source becomes; :mod:`data_prep.contract` reads and checks it before any pixel is read.

One row per nodule and timepoint, as any file of :func:`data_prep.tables.read_columns`, column names in upper or lower
case. :data:`COLUMNS` has what is needed and what is optional; codes and ranges of the 13 features are those of
:mod:`scripts.ehr.features`. Other columns are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_prep.tables import numbers, read_columns
from scripts.ehr.features import FEATURES, MISSING


@dataclass(frozen=True)
class Column:
    """A column of the cohort table: whether it is needed, and what stands in it."""

    needed: str
    meaning: str


YES, ONE, NO = "yes", "one of the two", "no"
INTERVAL = "interval_days"
COLUMNS = {
    "patient_id": Column(YES, "letters, digits, `.`, `_` and `-`; datasets get names of their own for it"),
    "nodule_id": Column(YES, "the same for a nodule at all times; unique within a patient"),
    "study_yr": Column(ONE, "0, 1, 2 ...: the screening round; rounds that follow each other make a pair"),
    "days_from_baseline": Column(ONE, "days, 0 or more; without `study_yr` any two neighbouring times make a pair"),
    "image": Column(YES, "NIfTI or MetaImage file, or folder with one DICOM series; relative to the table"),
    **{name: Column(YES, feature.description) for name, feature in FEATURES.items()},
    "series_uid": Column(NO, "SeriesInstanceUID; needed where the folder of `image` holds several series"),
    "x": Column(NO, "centre of the nodule, mm, LPS as in DICOM; needed with DICOM"),
    "y": Column(NO, "likewise; without x, y, z the image is a crop already, the nodule in its middle"),
    "z": Column(NO, "likewise"),
    INTERVAL: Column(
        NO, "in `predict`, days from a nodule's last time to the forecast, 1 or more; 365 where it is empty"
    ),
    "malignant": Column(NO, "0 benign, 1 malignant; the same in all rows of a nodule"),
    "split": Column(NO, "the patient's section: training, validation, test or predict; drawn where it is empty"),
    "mask": Column(NO, "file of a segmentation; it is only checked to exist"),
    "simulated": Column(NO, "marks the dataset as simulated, with this text"),
    "source": Column(NO, "where the image comes from; for the datasheet"),
    "licence": Column(NO, "under which terms; for the datasheet"),
}
"""Of the cohort table, in the order of the template."""

TRUTH = ("simulated_growth", "oracle", "oracle_growth")
"""Further columns, of simulated cohorts: what no model may read; see :mod:`data_prep.progression`."""

SECTIONS = ("training", "validation", "test")
"""Of pairs."""
PREDICT = "predict"
"""The section of baselines without a follow-up."""
LISTS = (*SECTIONS, "unpaired", PREDICT)
"""Of a datalist."""
POSITION = ("x", "y", "z")
KEY = ("patient_id", "nodule_id")
TIMES = ("study_yr", "days_from_baseline")
NUMBERS = (*POSITION, *TIMES, *FEATURES, INTERVAL, "malignant")
IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
OLDEST = 90
"""Years; a greater age stands as this one in a dataset, since it identifies (HIPAA, 45 CFR 164.514(b)(2)(i)(C))."""


def read_table(path: Path) -> pd.DataFrame:
    """A table as text, column names in lower case; missing values of any spelling become None. Rows: index + 2.

    Raises:
        DataError: see :func:`data_prep.tables.read_columns`.
    """
    table = read_columns(path)
    return pd.DataFrame({name: cleaned(table[name]) for name in table})


def cleaned(cells: pd.Series, missing: Collection[str] = MISSING) -> pd.Series:
    """A column as text, None where a cell is empty or says by a word of ``missing`` that there is no value.

    A column of whole numbers that all have a point and a zero, as beside empty cells, loses these.
    """
    texts = [str(cell).strip() for cell in cells.astype(object)]
    known = [there and text.lower() not in missing for text, there in zip(texts, cells.notna(), strict=True)]
    if all(re.fullmatch(r"-?[0-9]+\.0", text) for text, is_known in zip(texts, known, strict=True) if is_known):
        texts = [text.removesuffix(".0") for text in texts]
    made = [text if is_known else None for text, is_known in zip(texts, known, strict=True)]
    return pd.Series(made, cells.index, dtype=object)


def times(table: pd.DataFrame) -> pd.Series:
    """What orders the timepoints of a nodule: ``study_yr`` where the table has it, else ``days_from_baseline``."""
    years, days = (numbers(table[name])[0] for name in TIMES)
    return years if years.notna().any() else days


def canonical(identifier: str) -> str:
    """What two spellings of one identifier have in common: neither case, zeros before or after a point, nor the signs.

    >>> canonical("P-0025") == canonical("p_25") == canonical("P.25.0"), canonical("1-23") == canonical("12-3")
    (True, False)
    """
    parts = re.findall("[a-z]+|[0-9]+|[^a-z0-9]+", re.sub(r"\.0$", "", identifier.strip().lower()))
    return "".join("-" if not part.isalnum() else part.lstrip("0") or "0" for part in parts)
