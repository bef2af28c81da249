"""The cohort table, which every source becomes; :mod:`data_prep.contract` reads and checks it before any pixel is read.

One row per nodule and timepoint, CSV or parquet, column names in upper or lower case. :data:`COLUMNS` has what is
needed and what is optional; codes and ranges of the 13 features are those of :mod:`scripts.ehr.features`. Other columns
are left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.tables import numbers, read_columns
from scripts.ehr.features import FEATURES, MISSING


@dataclass(frozen=True)
class Column:
    """A column of the cohort table: whether it is needed, and what stands in it."""

    needed: str
    meaning: str


YES, ONE, NO = "yes", "one of the two", "no"
COLUMNS = {
    "patient_id": Column(YES, "letters, digits, `.`, `_` and `-`; datasets get names of their own for it"),
    "nodule_id": Column(YES, "the same for a nodule at all times; unique within a patient"),
    "study_yr": Column(ONE, "0, 1, 2 ...: the screening round; rounds that follow each other make a pair"),
    "days_from_baseline": Column(ONE, "days, 0 or more; without `study_yr` any two neighbouring times make a pair"),
    "image": Column(YES, "NIfTI or MetaImage file, or folder with one DICOM series; relative to the table"),
    **{name: Column(YES, feature.description) for name, feature in FEATURES.items()},
    "x": Column(NO, "centre of the nodule, mm, LPS as in DICOM; needed with DICOM"),
    "y": Column(NO, "likewise; without x, y, z the image is a crop already, the nodule in its middle"),
    "z": Column(NO, "likewise"),
    "malignant": Column(NO, "0 benign, 1 malignant; the same in all rows of a nodule"),
    "split": Column(NO, "the patient's section: training, validation or test; drawn by patient where it is empty"),
    "mask": Column(NO, "file of a segmentation; it is only checked to exist"),
    "simulated": Column(NO, "marks the dataset as simulated, with this text"),
    "source": Column(NO, "where the image comes from; for the datasheet"),
    "licence": Column(NO, "under which terms; for the datasheet"),
}
"""Of the cohort table, in the order of the template."""

SECTIONS = ("training", "validation", "test")
POSITION = ("x", "y", "z")
KEY = ("patient_id", "nodule_id")
TIMES = ("study_yr", "days_from_baseline")
IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
OLDEST = 90
"""Years; a greater age stands as this one in a dataset, since it identifies (HIPAA, 45 CFR 164.514(b)(2)(i)(C))."""


def read_table(path: Path) -> pd.DataFrame:
    """A table as text, column names in lower case; missing values of any spelling become None. Rows: index + 2.

    Raises:
        DataError: see :func:`data_prep.tables.read_columns`.
    """
    return read_columns(path).astype(object).map(clean)


def clean(value: Any) -> str | None:
    """A cell as text, None where it says that there is no value (SAS's .M, .N and .S among them)."""
    text = re.sub(r"^(-?\d+)\.0$", r"\1", str(value).strip())  # whole numbers beside empty cells come as floats
    return None if text.lower() in MISSING else text


def times(table: pd.DataFrame) -> pd.Series:
    """What orders the timepoints of a nodule: ``study_yr`` where the table has it, else ``days_from_baseline``."""
    years, days = (numbers(table[name])[0] for name in TIMES)
    return years if years.notna().any() else days


def canonical(identifier: str) -> str:
    """What two spellings of one identifier have in common: neither case, nor leading zeros, nor which signs there are.

    >>> canonical("P-0025") == canonical("p_25"), canonical("1-23") == canonical("12-3")
    (True, False)
    """
    parts = re.findall("[a-z]+|[0-9]+|[^a-z0-9]+", identifier.strip().lower())
    return "".join("-" if not part.isalnum() else part.lstrip("0") or "0" for part in parts)
