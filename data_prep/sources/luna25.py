"""LUNA25: lesions of NLST scans with their outcome, paired over the years; see :mod:`data_prep.nlst.luna25`.

Images: the DICOM series of the same UIDs, from the Imaging Data Commons, or files of the same names: LUNA25's own
MetaImage (extra ``itk``), or NIfTI.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from data_prep.errors import DataError
from data_prep.nlst import coordinates, noted, tables
from data_prep.nlst.choices import Attributes
from data_prep.nlst.flow import Flow
from data_prep.nlst.join import cohort_table, join
from data_prep.nlst.luna25 import NEEDED, TITLE

SYSTEM = "LPS"
SOURCE = coordinates.KINDS["luna25"].source
LICENCE = None


def inputs(_: Path, trial: Path | None) -> list[Path]:
    """The trial's tables."""
    return [*tables.find(trial).values()] if trial else []


def joined(path: Path, trial: Path | None = None, beside: Sequence[Path] = ()) -> tuple[pd.DataFrame, Counter[str]]:
    """One row per lesion and scan; a lesion has one ``nodule_id`` over the years where nothing speaks against it.

    Args:
        path: LUNA25's table.
        trial: folder with the trial's tables, whose features are joined through the tracking table.
        beside: see :func:`data_prep.nlst.noted.read`.

    Returns:
        The table, and how many pairs there are, how many were not believed and how many rows were left out, with why.
    """
    findings = coordinates.read(path)
    if findings["kind"].iloc[0] != "luna25":
        raise DataError(f"{path}: has not the columns of {TITLE}: {', '.join(NEEDED)}.")
    findings, _ = noted.beside(findings, *noted.read(beside))
    paths = tables.find(trial) if trial else {}
    flow = Flow()
    table = join(noted.completed(tables.read(paths), findings), findings, flow, Attributes.NONE)
    counts = Counter({"pairs of a lesion in consecutive rounds": flow.counts(table)["pairs"]})
    for reason, lost in (reason for taken in flow.exclusions for reason in taken):
        counts[reason if lost["findings"] else f"pairs {reason}"] += lost["findings"] or lost["pairs"]
    cohort = cohort_table(table, any_interval=False).rename(columns={"image": "series"})
    return cohort.drop(columns=[] if "canc" in paths else ["cancer"]), counts
