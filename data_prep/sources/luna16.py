"""LUNA16: ``annotations.csv``, or the same with the malignancy that LIDC's radiologists suspected.

LUNA16 names no patients: every scan stands for one. The suspicion (1 to 5) is kept as ``malignancy_rating``; it is no
outcome, so ``malignant`` stays empty. Images: LIDC-IDRI's DICOM series of the same UIDs, LUNA16's own
MetaImage (extra ``itk``), or NIfTI.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_prep.errors import DataError, listing
from data_prep.sources import numbered
from data_prep.tables import read_columns, shown

NEEDED = ("seriesuid", "coordx", "coordy", "coordz", "diameter_mm")
TAKEN = ("mal_details",)
SYSTEM = "LPS"
SOURCE = "LUNA16, of LIDC-IDRI"
LICENCE = "CC BY 4.0"
RATINGS = r"(?:\[[1-5](?:,\s*[1-5])*\])?"
"""The readers', from 1 to 5; nothing where none of them rated."""


def read(path: Path) -> pd.DataFrame:
    """One row per nodule; the diameter is the longest."""
    table = read_columns(path, NEEDED, TAKEN)
    made = pd.DataFrame(
        {
            "patient_id": table["seriesuid"],
            "nodule_id": numbered(table, "seriesuid"),
            "series": table["seriesuid"],
            "x": table["coordx"],
            "y": table["coordy"],
            "z": table["coordz"],
            "sct_long_dia": table["diameter_mm"],
        }
    )
    if "mal_details" in table:
        cells = table["mal_details"].astype(str)
        odd = table.index[~cells.str.fullmatch(RATINGS)]
        if len(odd):
            told = [f"row {row + 2}, column mal_details: {shown(cells[row])}; expected as [4, 2, 4, 2]." for row in odd]
            raise DataError(listing(path, told))
        ratings = cells.str.findall(r"[0-9]").explode().astype(float)
        made["malignancy_rating"] = ratings.groupby(level=0).mean().round(2)
    return made
