"""What only the scan itself tells: whether a point and a record can be those of its nodule, in plain sentences.

They hold no identifiers and no values of the patient: what is at odds, and what was expected. Flags on the crop and the
record alone are those of :mod:`scripts.results`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy import ndimage

from data_prep.cutting import Centre
from data_prep.images import content
from data_prep.images.crops import is_lossy, spacing
from data_prep.images.dicom import open_series
from data_prep.padding import within_field
from data_prep.single import SHOWN, cut_single
from scripts.ehr.features import SIDES

AGE_YEARS = 2.0
"""Difference of two ages that is flagged: headers count whole years, and a record may be of another day."""

SEXES = {"M": 1, "F": 2}
"""Codes of ``gender`` by those of PatientSex."""

WIDE_PX, WIDE_MM = 400, 2.0
"""Of the slice about the point in which the body is looked for: 0.8 m."""

NARROWEST_MM = 250.0
"""Of a chest; a narrower image does not show where its middle is."""

MIDDLE_MM = 15.0
"""To both sides of the middle, where a point may be of either lung."""

TISSUE_HU, AIR_HU, EMPHYSEMA_HU = -300.0, -500.0, -900.0

NEAR_MM, BEYOND_MM, LEAST_LUNG = 20.0, 10.0, 0.1
"""Within 20 mm of a nodule, or 10 mm beyond its recorded radius, at least a tenth of the slice is lung: of 674 nodules
of LIDC-IDRI the least is 0.11, by density alone."""

Plane = NDArray[np.float64]


def flags(series: Path, point: Centre, record: Mapping[str, Any], crop: nib.Nifti1Image, **which: Any) -> list[str]:
    """All flags of a case.

    Args:
        series, point: a NIfTI or MetaImage file, or a folder with a DICOM series; mm, LPS.
        record: see :func:`scripts.ehr.features.validate`.
        crop: of :func:`data_prep.single.cut_single`, with what it notes.
        which: ``transform`` and ``series_uid``, as it was cut with.
    """
    hu = np.asarray(crop.dataobj, dtype=float)[..., 0]
    wide = cut_single(series, point, WIDE_PX, WIDE_MM, **which)
    slice_hu = np.asarray(wide.dataobj, dtype=float)[..., 0]
    found = of_header(read_header(series, which.get("series_uid")), record) if series.is_dir() else []
    found += of_point(slice_hu, record)
    shown = SHOWN.get(crop.extra["point"])
    if shown and float(record.get("sct_long_dia", 0.0)) < 2 * content.NEAR_MM:  # a larger one ends nowhere in sight
        found.append(shown)
    if wrong := content.not_hu(hu, spacing(crop)[:2]):
        found.append(f"The values about the point are unlike HU of a chest CT: {'; '.join(wrong)}.")
    if within_field(crop.extra["unpadded"], len(hu)):
        found.append("The scan ends within the crop: beyond its edge stands air.")
    if is_lossy(crop):
        found.append("The scan's pixels were compressed with loss; expected those of the scanner.")
    return found


def read_header(folder: Path, series_uid: str | None = None) -> dict[str, str]:
    """PatientAge and PatientSex of a series, empty where its first file has none."""
    path = open_series(folder, series_uid).paths[0]
    tags = pydicom.dcmread(path, force=True, specific_tags=["PatientAge", "PatientSex"], stop_before_pixels=True)
    return {name: str(tags.get(name) or "").strip() for name in ("PatientAge", "PatientSex")}


def of_header(header: Mapping[str, str], record: Mapping[str, Any]) -> list[str]:
    """Age and gender against the scan's header; nothing where one of both is not known."""
    found = []
    years, sex = in_years(header["PatientAge"]), SEXES.get(header["PatientSex"].upper())
    if years is not None and "age" in record and abs(float(record["age"]) - years) >= AGE_YEARS:
        found.append(
            "The record's age is not that of the scan's header (PatientAge): expected the same patient and day."
        )
    if sex is not None and "gender" in record and int(record["gender"]) != sex:
        found.append("The record's gender is not that of the scan's header (PatientSex): expected the same patient.")
    return found


def in_years(age: str) -> float | None:
    """DICOM's age string (PS3.5, 6.2: ``062Y``; months, weeks, days), None where it is none.

    >>> in_years("062Y"), in_years("018M"), in_years("")
    (62.0, 1.5, None)
    """
    per_year = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}.get(age[-1:].upper())
    return int(age[:-1]) / per_year if per_year and age[:-1].isdigit() else None


def of_point(hu: Plane, record: Mapping[str, Any]) -> list[str]:
    """Whether a point lies in a lung, and in that of the record.

    Args:
        hu: the slice, :data:`WIDE_PX` square with the point in its middle; axis 0 runs to the patient's left.
    """
    found, body = [], body_of(hu)
    radius = max(NEAR_MM, float(record.get("sct_long_dia", 0.0)) / 2 + BEYOND_MM)
    if lung_share(hu, body, radius) < LEAST_LUNG:
        found.append(f"Hardly any lung lies within {radius:.0f} mm of the point: expected a nodule in a lung.")
    if body is not None:
        across = np.flatnonzero(body.any(axis=1))
        offset = (len(hu) // 2 - (across[0] + across[-1]) / 2) * WIDE_MM
        side = "left" if offset > 0 else "right"
        lobe = record.get("sct_epi_loc")
        recorded = next((name for name, codes in SIDES.items() if lobe in codes), side)
        if abs(offset) > MIDDLE_MM and recorded != side:
            found.append(
                f"The record's location is in the other lung than the point, which lies in the patient's {side} half: "
                "expected the same; are x, y, z of this nodule, and in LPS?"
            )
    return found


def body_of(hu: Plane) -> NDArray[np.bool_] | None:
    """The body in a slice, its lungs included; None where the image is too narrow to show it."""
    parts, count = ndimage.label(ndimage.binary_opening(hu > TISSUE_HU, iterations=2))
    if not count:
        return None
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    across = np.flatnonzero(largest.any(axis=1))
    if (across[-1] - across[0]) * WIDE_MM < NARROWEST_MM:
        return None
    return ndimage.binary_fill_holes(largest)


def lung_share(hu: Plane, body: NDArray[np.bool_] | None, radius: float) -> float:
    """The share of lung within a radius (mm) of the middle of a slice: air in the body, or of a lung's density."""
    axis = (np.arange(len(hu)) - len(hu) // 2) * WIDE_MM
    near = np.hypot(axis[:, None], axis) <= radius
    dense = (hu > EMPHYSEMA_HU) & (hu < AIR_HU)
    shares = [dense[near].mean()] + ([] if body is None else [(body & (hu < AIR_HU))[near].mean()])
    return float(max(shares))
