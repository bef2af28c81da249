"""LIDC-IDRI: a row per radiologist and nodule, as pylidc has them; a nodule gets the readers' median.

pylidc's fields in a CSV: ``patient_id``, ``series_instance_uid``, ``nodule_id`` (a number for each group that
``Scan.cluster_annotations`` returns), ``x``, ``y``, ``z`` of the centre in mm (LPS), ``diameter`` and the ratings.
The suspicion of malignancy (1 to 5) is kept as ``malignancy_rating``; it is no outcome, so ``malignant`` stays empty.

Numbers of nodules are those of one scan, and some patients have two series. Which nodules of these are the same nobody
told, nor when they were seen, so that each series has nodules of its own, all at the first time: ``1-3`` is number 3 in
the first series, by the order of the patient's series UIDs as text. Patients with one series keep the numbers.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_prep.sources import banded
from data_prep.tables import read_columns, typed

KEY = ("patient_id", "series_instance_uid", "nodule_id")
NEEDED = (*KEY, "x", "y", "z", "diameter")
TAKEN = ("texture", "margin", "spiculation", "malignancy")
SYSTEM = "LPS"
SOURCE = "LIDC-IDRI, doi 10.7937/K9/TCIA.2015.LO9QL9SX"
LICENCE = "CC BY 3.0"
TEXTURE = {2: (1, 2.4), 3: (2.5, 3.5), 1: (3.6, 5)}
"""Ground glass, part-solid, soft tissue (codes of ``sct_pre_att``) by texture: 1 non-solid to 5 solid."""


def read(path: Path) -> pd.DataFrame:
    """One row per nodule. Spiculated: median of 4 or more; poorly defined: margin of 2 or less; else smooth.

    Margins are unknown where that hangs on a rating that nobody gave.
    """
    values = ["x", "y", "z", "diameter", *TAKEN]
    table = typed(read_columns(path, NEEDED, TAKEN), path, values, filled=(*KEY, "x", "y", "z"))
    nodules = table.reindex(columns=[*KEY, *values]).groupby([*KEY])[values].median().reset_index()
    margins = nodules["margin"].le(2).map({True: 3, False: 2})
    margins = margins.where(nodules[["margin", "spiculation"]].notna().all(axis=1))
    return pd.DataFrame(
        {
            "patient_id": nodules["patient_id"],
            "nodule_id": _named(nodules),
            "series": nodules["series_instance_uid"],
            **{name: nodules[name].round(3) for name in ("x", "y", "z")},
            "sct_long_dia": nodules["diameter"].round(2),
            "sct_pre_att": banded(nodules["texture"], TEXTURE),
            "sct_margins": margins.mask(nodules["spiculation"] >= 4, 1),
            "malignancy_rating": nodules["malignancy"],
        }
    )


def _named(nodules: pd.DataFrame) -> pd.Series:
    """The nodules' numbers, unique within a patient: after the place of their series, where a patient has several."""
    series = nodules.groupby("patient_id")["series_instance_uid"]
    place = series.transform(lambda uids: pd.factorize(uids, sort=True)[0] + 1).astype(str)
    number = nodules["nodule_id"].astype(str)
    return number.mask(series.transform("nunique") > 1, place + "-" + number)
