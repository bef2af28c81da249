"""LUNA25: lesions of NLST scans with their outcome.

Every lesion stands for itself, also where a patient was scanned several times. Images: the DICOM series of the same
UIDs, from the Imaging Data Commons, or files of the same names: LUNA25's own MetaImage (extra ``itk``), or NIfTI.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_prep.sources import coded
from data_prep.tables import read_columns

NEEDED = ("patientid", "seriesinstanceuid", "coordx", "coordy", "coordz", "lesionid", "label")
TAKEN = ("studydate", "age_at_studydate", "gender")
SYSTEM = "LPS"
SOURCE = "LUNA25, of NLST"
LICENCE = None
FIRST_YEAR = 1999
"""NLST's dates are shifted: T0 is 1999-01-02, T1 and T2 a year and two years later."""


def read(path: Path) -> pd.DataFrame:
    """One row per lesion and scan; ``nodule_id`` is made of the scan's year and the lesion, so that none are paired."""
    table = read_columns(path, NEEDED, TAKEN)
    year = table.get("studydate", pd.Series("", table.index)).astype(str).str[:4]
    empty = pd.Series(None, table.index, dtype=object)
    return pd.DataFrame(
        {
            "patient_id": table["patientid"],
            "nodule_id": "Y" + year + "-" + table["lesionid"].astype(str),
            "study_yr": (pd.to_numeric(year, errors="coerce") - FIRST_YEAR).clip(lower=0).fillna(0).astype(int),
            "series": table["seriesinstanceuid"],
            "x": table["coordx"],
            "y": table["coordy"],
            "z": table["coordz"],
            "age": table.get("age_at_studydate", empty),
            "gender": coded(table.get("gender", empty), {"m": 1, "male": 1, "f": 2, "female": 2}),
            "malignant": table["label"],
        }
    )
