"""STMixer's boxes as findings, and the days of its and GM-AE's tables of nodules.

The boxes stand in voxels and in mm (LPS), which together tell where in mm the other voxels of that scan are, in plane.
Their slices count from the head in some series and from the feet in others, so that mm alone are taken along the body.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_prep.tables import numbers, spread

VOXELS, MM = ("cx_voxel", "cy_voxel", "cz_voxel"), ("cx_world", "cy_world", "cz_world")
SIDES = tuple(f"d{axis}_{unit}" for axis in "xyz" for unit in ("voxel", "world"))
NUMERIC = (*VOXELS, *MM, *SIDES)
NEEDED = ("pid", "seriesid", "study_year", "nodid", *NUMERIC)
TITLE, LICENCE = "STMixer's boxes", "Apache-2.0"
SLICE_MM = 4.0
"""By how much places of one scan, in slices and in mm, may differ: a slice."""

DAYS = ("days0", "days1", "days2")
PEOPLE = ("id", *DAYS)
PEOPLE_TAKEN = ("age", "gender")
PERSON = r"^([0-9]+)_"
"""The participant in the name of a nodule."""
NOMINAL = 365


def findings(table: pd.DataFrame) -> pd.DataFrame:
    """One row per nodule and scan; ``doubt`` where voxels and mm contradict each other."""
    number = {name: numbers(table[name])[0] for name in NUMERIC}
    pixel = number["dx_world"] / number["dx_voxel"]
    outside = pd.Series(np.min([number[name] for name in VOXELS], axis=0) < 0, table.index)
    step = (number["dz_world"] / number["dz_voxel"]).where(~outside)
    apart = np.minimum(
        *(spread(number["cz_world"] + sign * number["cz_voxel"] * step, table["seriesid"]) for sign in (1, -1))
    )
    return pd.DataFrame(
        {
            "pid": table["pid"],
            "study_yr": table["study_year"],
            "nodule_id": table["nodid"],
            "candidates": -1,
            "series_uid": table["seriesid"],
            **dict(zip("xyz", (table[name] for name in MM), strict=True)),
            "pixel_mm": pixel,
            "left": number["cx_world"] - number["cx_voxel"] * pixel,
            "front": number["cy_world"] - number["cy_voxel"] * pixel,
            "doubt": np.select(
                [outside, apart > SLICE_MM],
                ["its box lies outside the image", "boxes of its scan contradict each other in slices and mm"],
                "",
            ),
        }
    )


def people(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """``noted_day`` (since randomisation), ``noted_age`` and ``noted_gender`` by ``pid`` and ``study_yr``.

    A participant's nodules have one day in a round; one that they, or several tables, disagree on is not taken.
    STMixer's tables have 365 and 730 where a day is not known (for 340 and 273 of 4,666 participants, for other days
    about 70 at most), and at times 0: the first two are not taken, 0 only where no other table knows the day.
    """
    rounds = []
    for table in tables:
        pid = table["id"].str.extract(PERSON)[0].astype(float)
        facts = {f"noted_{name}": numbers(table[name])[0] for name in PEOPLE_TAKEN if name in table}
        for year, name in enumerate(DAYS):
            day = numbers(table[name])[0]
            known = day.where(day != NOMINAL * year)
            rounds.append(pd.DataFrame({"pid": pid, "study_yr": year, "noted_day": known, "zero": day.eq(0), **facts}))
    every = pd.concat(rounds).dropna(subset="pid").groupby(["pid", "study_yr"])
    single = every.first().where(every.nunique() <= 1)
    first = every["zero"].any() & every["noted_day"].count().eq(0) & (single.index.get_level_values("study_yr") == 0)
    return single.assign(noted_day=single["noted_day"].mask(first, 0.0)).drop(columns="zero").reset_index()
