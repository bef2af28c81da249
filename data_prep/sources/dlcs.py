"""Duke Lung Cancer Screening (DLCSD24): annotations with outcome and the set's own sections; images are NIfTI.

Users of the set read its world coordinates in two ways, as LPS and as RAS, and its documents do not settle it. So this
is asked, and one picture tells: with the wrong one the crops show no nodule.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_prep.tables import read_columns, typed

NEEDED = ("patient-id", "nodule_id", "ct_nifti_file", "coordx", "coordy", "coordz", "malignant_lbl")
TAKEN = ("w", "h", "benchmark_split")
SYSTEM = None
SOURCE = "Duke Lung Cancer Screening (DLCSD24), doi 10.5281/zenodo.13799069"
LICENCE = None
ASK = (
    "its coordinates are read both ways by those who use it: name --system LPS or --system RAS, and look at the crops "
    "(check --picture): with the wrong one they show no nodule."
)
SECTIONS = {"train": "training", "val": "validation", "test": "test"}


def read(path: Path) -> pd.DataFrame:
    """One row per nodule; the longer side of the box in plane stands for the longest diameter, where both are known."""
    table = read_columns(path, NEEDED, TAKEN)
    if "benchmark_split" in table:
        words = table["benchmark_split"].astype("string").str.strip().str.lower()
        table["benchmark_split"] = words.str.replace(r"^(train|val|test).*", r"\1", regex=True)
    table = typed(table, path, ("w", "h"), {"benchmark_split": SECTIONS}).reindex(columns=[*NEEDED, *TAKEN])
    sides = table[["w", "h"]].astype(float)
    return pd.DataFrame(
        {
            "patient_id": table["patient-id"],
            "nodule_id": table["nodule_id"],
            "series": table["ct_nifti_file"],
            "x": table["coordx"],
            "y": table["coordy"],
            "z": table["coordz"],
            "sct_long_dia": sides.max(axis=1, skipna=False),
            "sct_perp_dia": sides.min(axis=1, skipna=False),
            "malignant": table["malignant_lbl"],
            "split": table["benchmark_split"],
        }
    )
