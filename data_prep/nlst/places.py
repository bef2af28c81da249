"""Voxels to millimetres: where in the patient a source's voxels are, by the headers of the series."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from rich.progress import track

from data_prep.errors import DataError
from data_prep.images.dicom import Series, open_series
from data_prep.nlst.coordinates import VOXEL
from data_prep.schema import POSITION

Place = tuple[float, float, float]
Fault = tuple[str, str]


def place(table: pd.DataFrame, workers: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fills ``x``, ``y``, ``z`` (mm, LPS) where a finding has only a voxel, from its series' headers.

    Args:
        table: findings with ``folder`` and the columns of a voxel.
        workers: processes that read headers.

    Returns:
        The table, and for each finding what is wrong with its series or its voxel: ``fault``, the same words for the
        same fault, and ``detail``; both empty where nothing is.
    """
    table = table.copy()
    wrong = pd.DataFrame("", table.index, ["fault", "detail"])
    lacking = table[table[list(POSITION)].isna().any(axis=1)]
    groups = [(folder, group[list(VOXEL)]) for folder, group in lacking.groupby("folder")]
    for index, values, faults in track(_mapped(groups, workers), total=len(groups), description="Reading headers"):
        table.loc[index, list(POSITION)] = values
        wrong.loc[index] = faults
    return table, wrong


def _mapped(groups: list[tuple[str, pd.DataFrame]], workers: int) -> Iterable[tuple[pd.Index, np.ndarray, list[Fault]]]:
    if workers == 1:
        yield from map(_placed, groups)
        return
    with ProcessPoolExecutor(min(workers, os.cpu_count() or 1)) as pool:
        yield from pool.map(_placed, groups, chunksize=4)


def _placed(group: tuple[str, pd.DataFrame]) -> tuple[pd.Index, np.ndarray, list[Fault]]:
    """The voxels of one series in mm, and what is wrong with each."""
    folder, voxels = group
    try:
        series = open_series(Path(folder))
        numbers = _instances(series) if voxels["slice"].isna().any() else {}
    except DataError as error:
        fault = getattr(error, "fault", "its series cannot be used")
        return voxels.index, np.full((len(voxels), 3), np.nan), [(fault, str(error))] * len(voxels)
    places: list[Place] = []
    faults: list[Fault] = []
    for row in voxels.itertuples():
        number = numbers.get(row.instance, -1) if np.isnan(row.slice) else int(row.slice)
        if 0 <= number < len(series.origins):
            places.append(point(series, row.column, row.row, number))
            faults.append(("", ""))
        else:
            places.append((np.nan, np.nan, np.nan))
            faults.append(("nodule outside the scan", f"{folder}: no slice {row.slice:g} or instance {row.instance:g}"))
    return voxels.index, np.array(places), faults


def _instances(series: Series) -> dict[float, int]:
    """The index of each slice, from the feet, by its InstanceNumber."""
    tags = ["InstanceNumber"]
    headers = [pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags) for path in series.paths]
    return {float(header.get("InstanceNumber") or np.nan): index for index, header in enumerate(headers)}


def point(series: Series, column: float, row: float, number: int) -> Place:
    """A voxel's position, mm, LPS."""
    x, y, z = series.origins[number] + series.axes[:, :2] @ (np.array([column, row]) * series.spacing[:2])
    return float(x), float(y), float(z)
