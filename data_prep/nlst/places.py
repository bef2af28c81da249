"""Voxels to millimetres: where in the patient a source's voxels are, by the headers of the series."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from data_prep.errors import ImageError
from data_prep.images.dicom import Series, open_series
from data_prep.nlst.coordinates import VOXEL
from data_prep.schema import POSITION
from data_prep.unforeseen import Streak, UnforeseenError

SERIES = ["folder", "series_uid", "instances"]


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a finding's series or voxel.

    Attributes:
        fault: the same words for the same fault; empty where nothing is.
        detail: with the series' name.
        cause: of an unforeseen error.
        unshown: nothing is wrong, but nothing shows either that no slice is missing at the feet.
    """

    fault: str = ""
    detail: str = ""
    cause: str = ""
    unshown: bool = False


@dataclass(frozen=True)
class Group:
    """The findings of one series.

    Attributes:
        folder, uid: the series.
        instances: how many images it has by the index, NaN where no index tells.
        voxels: the findings' voxels.
    """

    folder: str
    uid: str | None
    instances: float
    voxels: pd.DataFrame


def place(table: pd.DataFrame, workers: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fills ``x``, ``y``, ``z`` (mm, LPS) where a finding has only a voxel, from its series' headers.

    Args:
        table: findings with ``folder``, ``series_uid``, the columns of a voxel, and ``instances`` where an index is at
            hand: how many images each series has.
        workers: processes that read headers.

    Returns:
        The table, and for each finding what is wrong, with the columns of :class:`Wrong`.

    Raises:
        DataError: series in a row meet the same unforeseen error.
    """
    table = table.copy()
    wrong = pd.DataFrame({"fault": "", "detail": "", "cause": "", "unshown": False}, table.index)
    lacking = table[table[list(POSITION)].isna().any(axis=1)].reindex(columns=[*SERIES, *VOXEL])
    groups = [
        Group(folder, None if pd.isna(uid) else str(uid), float(count), voxels[list(VOXEL)])
        for (folder, uid, count), voxels in lacking.groupby(SERIES, dropna=False)
    ]
    streak = Streak()
    for index, values, faults in track(_mapped(groups, workers), total=len(groups), description="Reading headers"):
        streak.see(faults[-1].cause, faults[-1].detail)
        table.loc[index, list(POSITION)] = values
        wrong.loc[index] = [[fault.fault, fault.detail, fault.cause, fault.unshown] for fault in faults]
    return table, wrong


def _mapped(groups: list[Group], workers: int) -> Iterable[tuple[pd.Index, np.ndarray, list[Wrong]]]:
    if workers == 1:
        yield from map(_placed, groups)
        return
    with ProcessPoolExecutor(min(workers, os.cpu_count() or 1)) as pool:
        yield from pool.map(_placed, groups, chunksize=4)


def _placed(group: Group) -> tuple[pd.Index, np.ndarray, list[Wrong]]:
    """The voxels of one series in mm, and what is wrong with each."""
    voxels, folder = group.voxels, Path(group.folder)
    places, faults = np.full((len(voxels), 3), np.nan), []
    try:
        series = open_series(folder, group.uid)
    except ImageError as error:
        return voxels.index, places, [Wrong(error.fault, str(error))] * len(voxels)
    except Exception as error:  # whatever is wrong with this series, the others are to be read
        unforeseen = UnforeseenError(folder, error)
        return voxels.index, places, [Wrong(unforeseen.fault, str(unforeseen), unforeseen.cause)] * len(voxels)
    for number, row in enumerate(voxels.itertuples()):
        try:
            shown = np.isnan(row.slice) or _whole_from_the_feet(series, group.instances)
            places[number] = point(series, row.column, row.row, _slice(series, row.slice, row.instance))
            faults.append(Wrong(unshown=not shown))
        except ImageError as error:
            faults.append(Wrong(error.fault, str(error)))
    return voxels.index, places, faults


def _slice(series: Series, counted: float, instance: float) -> int:
    """Index of the slice that a voxel is in: the one ``counted`` from the feet or, where that is NaN, of an instance.

    Raises:
        ImageError: it is not known which slice is meant, or it is not there.
    """
    if not np.isnan(counted):
        found = [int(counted)] if 0 <= counted < len(series.paths) else []
        wanted = f"slice {counted:g}"
    else:
        found = [index for index, number in enumerate(series.instances) if number == instance]
        wanted = f"InstanceNumber {instance:g}"
    if len(found) > 1:
        explanation = "several slices have the nodule's InstanceNumber; expected one. Keep one acquisition a series."
        raise ImageError(series.folder, "ambiguous InstanceNumber", explanation, wanted)
    if not found:
        explanation = "it has no slice of the nodule's number. Check the source of coordinates, or fetch it again."
        raise ImageError(series.folder, "nodule outside the scan", explanation, wanted)
    return found[0]


def _whole_from_the_feet(series: Series, instances: float) -> bool:
    """Whether it is sure that no slice at the feet is missing: counting from there would end elsewhere.

    It is where the series has as many slices as an index says, or as its headers do (ImagesInAcquisition), or where
    InstanceNumbers count from 1 (or 0) at the feet. It is not where they count from 1 at the head without a hole.

    Raises:
        ImageError: slices are missing, or nothing tells how many there should be.
    """
    count, numbers = len(series.paths), np.array(series.instances)
    from_one = np.array_equal(np.sort(numbers), np.arange(1, count + 1))
    if not np.isnan(instances):
        if instances != count:
            explanation = f"{count} slices, {instances:g} by the index, and they are counted. Fetch the series again."
            raise ImageError(series.folder, "incomplete series", explanation)
        return True
    if numbers[0] in (0, 1) and np.array_equal(numbers - numbers[0], np.arange(count)):
        return True
    if from_one and (np.isnan(series.acquired) or series.acquired == count):
        return bool(series.acquired == count)
    raise ImageError(
        series.folder,
        "series not shown to be whole",
        "slices are counted from the feet, where some may be missing: expected InstanceNumbers from 1 without a "
        "hole, and as many as ImagesInAcquisition. Fetch it again, or name the index of the Imaging Data Commons: "
        "--idc-index.",
    )


def point(series: Series, column: float, row: float, number: int) -> tuple[float, float, float]:
    """A voxel's position, mm, LPS.

    Raises:
        ImageError: the voxel lies outside the slice.
    """
    if not (-0.5 <= column <= series.shape[0] - 0.5 and -0.5 <= row <= series.shape[1] - 0.5):
        explanation = f"expected column and row within {series.shape[0]} x {series.shape[1]} pixels. Check the box."
        raise ImageError(series.folder, "nodule outside the scan", explanation)
    x, y, z = series.origins[number] + series.axes[:, :2] @ (np.array([column, row]) * series.spacing[:2])
    return float(x), float(y), float(z)
