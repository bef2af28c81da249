"""The baselines of a simulated cohort: the first time of each nodule of a cohort table, its crop and mask."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd

from data_prep.errors import DataError, ImageError, listing
from data_prep.images import Transform
from data_prep.images.crops import crop_plane, cut
from data_prep.images.nifti import APART_MM, apart
from data_prep.progression.laws import HIGHEST, LOWEST
from data_prep.progression.warp import Mask
from data_prep.schema import KEY, times
from data_prep.tables import numbers

RATINGS = ("malignancy_rating", "lidc_malignancy_rating")
"""Columns that may hold the radiologists' rating."""
SIZE = 128
"""Pixels along both axes of crops that are cut from scans."""


class Baseline(NamedTuple):
    """Where a baseline is: files, point (mm, LPS; NaN of a crop), series, and the nodule's long diameter in mm."""

    image: str
    mask: str
    x: float
    y: float
    z: float
    series_uid: str
    sct_long_dia: float

    @classmethod
    def of(cls, row: Any) -> Baseline:
        """That of a row of :func:`read`."""
        return cls(row.image, row.mask, row.x, row.y, row.z, row.series_uid or "", row.sct_long_dia)


def read(path: Path) -> pd.DataFrame:
    """The baselines of a cohort table, a row a nodule, with ``malignancy_rating`` and absolute ``image`` and ``mask``.

    Raises:
        DataError: every fault of the table, as of :func:`data_prep.contract.read_cohort`, and every rating and diameter
            that is missing or impossible.
    """
    from data_prep.contract import read_cohort

    table = read_cohort(path)
    table = table.assign(row=table.index + 2, time=times(table)).sort_values([*KEY, "time"], kind="stable")
    table = table.drop_duplicates([*KEY])
    column = next((name for name in RATINGS if name in table), None)
    if column is None:
        raise DataError(f"{path}: column {RATINGS[0]}: missing; expected the radiologists' ratings, 1 to 5.")
    rating = numbers(table[column])[0]
    faults = [(row, f"row {row}, column {column}: expected 1 to 5.") for row in table["row"][~_rated(rating)]]
    unknown = table["row"][table["sct_long_dia"].isna()]
    faults += [(row, f"row {row}, column sct_long_dia: empty; expected millimetres.") for row in unknown]
    masks = table["mask"] if "mask" in table else pd.Series(None, table.index, dtype=object)
    both = table["row"][masks.notna() & table["x"].notna()]
    faults += [(row, f"row {row}, column mask: expected a crop with it, and no x, y, z.") for row in both]
    if faults:
        raise DataError(listing(path, [line for _, line in sorted(faults)]))
    folder = path.absolute().parent
    return table.assign(
        malignancy_rating=rating,
        image=[str(folder / image) for image in table["image"]],
        mask=[str(folder / mask) if isinstance(mask, str) else "" for mask in masks],
    ).reset_index(drop=True)


def _rated(rating: pd.Series) -> pd.Series:
    return rating.between(LOWEST, HIGHEST)


def crop_of(row: Baseline, transform: Transform | None = None) -> tuple[nib.Nifti1Image, Mask]:
    """The baseline's crop, HU, and where its nodule is, of the same two axes.

    A nodule without a mask is a disc of its long diameter about the middle.

    Args:
        transform: see :func:`data_prep.images.crops.cut`.

    Raises:
        ImageError: the image or its mask cannot be used; the message names the file.
    """
    image = Path(row.image)
    if math.isnan(row.x):
        crop, middle = crop_plane(image, transform), None
    else:
        crop, middle = cut(image, (row.x, row.y, row.z), SIZE, None, transform, row.series_uid or None), SIZE // 2
    shape = crop.shape[:2]
    if row.mask:
        path = Path(row.mask)
        found = crop_plane(path, transform)
        if found.shape[:2] != shape:
            raise ImageError(path, "another shape", f"{found.shape[:2]}; expected that of {image}, {shape}.")
        if (mm := apart(found.affine, crop.affine, crop.shape)) > APART_MM:
            told = f"its pixels lie up to {mm:.3g} mm from those of {image}; expected the same affine."
            raise ImageError(path, "another place", f"{told} Export both from one segmentation.")
        mask = np.asarray(found.dataobj)[..., 0] > 0.5
    else:
        path, centre = image, np.array(shape)[:, None, None] // 2 if middle is None else middle
        spacing = np.linalg.norm(crop.affine[:3, :2], axis=0)[:, None, None]
        mask = np.hypot(*((np.indices(shape) - centre) * spacing)) <= row.sct_long_dia / 2
    if not mask.any():
        raise ImageError(path, "empty mask", "expected the nodule's pixels.")
    return crop, mask
