"""Tables of the routes from open data, written for a phantom's scans; all values are simulated."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom

GENDERS = {1: "Male", 2: "Female"}
DAY = {0: 10, 1: 380, 2: 747}


def write(phantom: Path, folder: Path, further: Mapping[str, pd.DataFrame] | None = None) -> dict[str, Path]:
    """LUNA25's and STMixer's tables of the phantom's nodules, as those sets have them, by name; with further rows."""
    positions = pd.read_csv(phantom / "tables" / "positions.csv")
    people = pd.read_csv(phantom / "tables" / "prsn.csv").set_index("pid")
    outcome = pd.read_csv(phantom / "cohort.csv").set_index(["patient_id", "nodule_id"])["malignant"]
    luna25, stmixer = [], []
    for row in positions.itertuples():
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((phantom / row.image).iterdir())]
        first = min(headers, key=lambda header: header.ImagePositionPatient[2])
        step, count = float(first.SpacingBetweenSlices), len(headers)
        spacing = np.array([*map(float, first.PixelSpacing[::-1]), step])
        voxel = (np.array([row.x, row.y, row.z]) - np.array(first.ImagePositionPatient, float)) / spacing
        voxel[2] = count - 1 - voxel[2]  # as in most of STMixer's series, slices count from the head
        person, year = people.loc[row.pid], row.study_yr
        luna25.append(
            {
                "PatientID": row.pid,
                "SeriesInstanceUID": first.SeriesInstanceUID,
                "StudyDate": f"{1999 + year}0102",
                **{f"Coord{axis.upper()}": getattr(row, axis) for axis in "xyz"},
                "LesionID": row.nodule_id,
                "label": int(outcome.loc[(row.pid, row.nodule_id)].max()),
                "Age_at_StudyDate": int(person["age"]) + year,
                "Gender": GENDERS[int(person["gender"])],
            }
        )
        stmixer.append(
            {
                "pId": row.pid,
                "seriesId": first.SeriesInstanceUID,
                "study_year": year,
                "nodId": f"{row.pid}_{row.nodule_id}",
                "id": f"{row.pid}_{row.nodule_id}_t{year}",
                **{f"d{axis}_voxel": 10.0 for axis in "xyz"},
                **{f"d{axis}_world": 10.0 * size for axis, size in zip("xyz", spacing, strict=True)},
                **{f"c{axis}_voxel": value for axis, value in zip("xyz", voxel, strict=True)},
                **{f"c{axis}_world": getattr(row, axis) for axis in "xyz"},
            }
        )
    days = {
        name: {f"days{year}": day for year, day in DAY.items()} for name in sorted({row["nodId"] for row in stmixer})
    }
    tables = {
        "luna25": pd.DataFrame(luna25),
        "stmixer": pd.DataFrame(stmixer),
        "days": pd.DataFrame.from_dict(days, orient="index").rename_axis("id").reset_index(),
    }
    for name, table in tables.items():
        extra = (
            (further or {})
            .get(name, pd.DataFrame())
            .rename(columns=dict(zip(table.columns.str.lower(), table.columns, strict=True)))
        )
        pd.concat([table, extra]).to_csv(folder / f"{name}.csv", index=False)
    return {name: folder / f"{name}.csv" for name in tables}
