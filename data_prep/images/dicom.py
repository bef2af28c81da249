"""CT series on disk: the headers are read and checked, and only the slice that is wanted is decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from data_prep.errors import ImageError
from data_prep.images.headers import Header, read_header

GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")

RESCALE = ("RescaleSlope", "RescaleIntercept")

KIND = ("SeriesInstanceUID", "Modality", "ImageType", "NumberOfFrames", "GantryDetectorTilt", "SliceThickness")

PRIVACY = ("BurnedInAnnotation",)

WANTED = (*KIND, *PRIVACY, *GEOMETRY, *RESCALE)

Tags = Mapping[str, Any]
"""Tags of one file, by keyword."""

AXIS_TOLERANCE = 1e-3
"""Greatest sine between an image axis and a patient axis: 0.05 mm over the width of a crop."""

POSITION_TOLERANCE_MM = 0.05

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Series:
    """The geometry of one axial CT series, its slices sorted by position along the normal.

    Attributes:
        folder: where it lies.
        paths: one file a slice, sorted.
        origins: (N, 3) centre of the first voxel of each slice, mm, LPS.
        axes: (3, 3) columns: direction of array axis 0 (column index), of array axis 1 (row index), normal; LPS.
        spacing: mm along those axes.
        shape: (columns, rows) of a slice.
    """

    folder: Path
    paths: tuple[Path, ...]
    origins: NDArray[np.float64]
    axes: NDArray[np.float64]
    spacing: tuple[float, float, float]
    shape: tuple[int, int]

    def nearest_slice(self, centre: Sequence[float]) -> int:
        """Index of the slice nearest to a point (mm, LPS).

        Raises:
            ImageError: the point lies outside the scan.
        """
        distance = (np.asarray(centre) - self.origins) @ self.axes
        index = int(np.argmin(np.abs(distance[:, 2])))
        voxel = distance[index] / self.spacing
        # The voxels' outer faces bound the scan, half a voxel beyond the centres.
        if np.any(voxel < -0.5) or np.any(voxel > [self.shape[0] - 0.5, self.shape[1] - 0.5, 0.5]):
            raise ImageError(
                self.folder,
                "nodule outside the scan",
                "by its x, y, z; expected millimetres in the patient system (LPS) with z from "
                f"{self.origins[0, 2]:g} to {self.origins[-1, 2]:g}. Check x, y, z and the folder.",
            )
        return index

    def read_slice(self, index: int) -> nib.Nifti1Image:
        """Decodes one slice.

        Returns:
            HU, (columns, rows, 1) float32, with its RAS+ affine.

        Raises:
            ImageError: the pixels cannot be decoded.
        """
        path = self.paths[index]
        try:
            dataset = pydicom.dcmread(path)
            syntax = dataset.file_meta.TransferSyntaxUID
            if syntax.is_compressed and not _can_decode(syntax):
                raise ImageError(path, f"no decoder for {syntax.name}", "install one, as by pip install python-gdcm.")
            stored = dataset.pixel_array
        except ImageError:
            raise
        except Exception as error:  # pydicom and its decoders raise what they like
            explanation = "the file may be truncated or damaged. Fetch it again."
            raise ImageError(path, "unreadable pixels", explanation, error) from error
        hu = stored.astype(np.float32).T[..., None] * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        affine = np.eye(4)
        affine[:3, :3] = self.axes * self.spacing
        affine[:3, 3] = self.origins[index]
        return nib.Nifti1Image(hu, LPS_TO_RAS @ affine)


def open_series(folder: Path) -> Series:
    """Reads the headers of a folder with one axial CT series.

    Raises:
        ImageError: what is wrong, by name: no DICOM, a truncated file, several series, a localizer, not CT,
            multi-frame, text burnt into the pixels, a missing tag (RescaleSlope and RescaleIntercept among them), mixed
            matrix or orientation or pixel spacing, non-axial, gantry tilt, duplicate or missing slices, mixed slice
            spacing.
    """
    files = _read_headers(folder)
    paths, headers = [*files], [header.tags for header in files.values()]
    _check_kind(folder, headers)
    for path, header in files.items():
        if header.whole is False:
            raise ImageError(path, "truncated file", "it ends before its pixels do. Fetch it again.")
    _check_tags(paths, headers)
    for tag in ("Rows", "Columns", "ImageOrientationPatient", "PixelSpacing"):
        values = np.array([np.atleast_1d(header[tag]) for header in headers], dtype=float)
        if np.ptp(values, axis=0).max() > 1e-4:
            raise ImageError(folder, f"mixed {tag}", "expected one value. Keep one reconstruction a folder.")
    axes = _axes(folder, headers)
    origins = np.array([header["ImagePositionPatient"] for header in headers], dtype=float)
    order = np.argsort(origins @ axes[:, 2], kind="stable")
    origins = origins[order]
    step = _slice_step(folder, origins, axes, float(headers[0].get("SliceThickness") or 1.0))
    rows_mm, columns_mm = (float(value) for value in headers[0]["PixelSpacing"])
    return Series(
        folder=folder,
        paths=tuple(paths[index] for index in order),
        origins=origins,
        axes=axes,
        # PixelSpacing is (between rows, between columns); array axis 0 runs along a row, so from column to column.
        spacing=(columns_mm, rows_mm, step),
        shape=(int(headers[0]["Columns"]), int(headers[0]["Rows"])),
    )


def _can_decode(syntax: UID) -> bool:
    """Whether pydicom, or a plugin that is installed, decodes it."""
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _read_headers(folder: Path) -> dict[Path, Header]:
    """Headers of all DICOM files of a folder, without their pixels; other files are passed over."""
    headers: dict[Path, Header] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
            continue
        try:
            headers[path] = read_header(path, WANTED)
        except Exception as error:  # pydicom raises what it likes
            if isinstance(error, InvalidDicomError) and path.suffix.lower() != ".dcm":
                continue
            raise ImageError(path, "unreadable header", "it may be truncated. Fetch it again.", error) from error
    if not headers:
        raise ImageError(folder, "no DICOM files", "expected one CT series, its files directly in this folder.")
    return headers


def _check_kind(folder: Path, headers: Sequence[Tags]) -> None:
    """Refuses what is not one CT series of single axial frames, or is marked as having text in its pixels."""
    series = {header["SeriesInstanceUID"] for header in headers if header.get("SeriesInstanceUID")}
    if len(series) > 1:
        raise ImageError(folder, "several series", f"{len(series)}; expected one. Give each a folder of its own.")

    def refuse(test: Callable[[Tags], bool], fault: str, explanation: str) -> None:
        if any(test(header) for header in headers):
            raise ImageError(folder, fault, explanation)

    refuse(
        lambda header: header.get("Modality", "CT") != "CT",
        "not CT",
        "by its Modality; expected CT. Name the CT series in the column image.",
    )
    refuse(
        lambda header: "LOCALIZER" in (header.get("ImageType") or []),
        "localizer",
        "by its ImageType; expected axial slices. Name another series.",
    )
    refuse(
        lambda header: int(header.get("NumberOfFrames") or 1) > 1,
        "multi-frame",
        "by its NumberOfFrames; expected one file a slice. Export it as classic CT images.",
    )
    refuse(
        lambda header: abs(float(header.get("GantryDetectorTilt") or 0.0)) > 0.1,
        "gantry tilt",
        "by its GantryDetectorTilt; expected 0. Take an untilted series.",
    )
    refuse(
        lambda header: header.get("BurnedInAnnotation") == "YES",
        "burned-in annotation",
        "by its BurnedInAnnotation; the pixels may name the patient. Export the series without.",
    )


def _check_tags(paths: Sequence[Path], headers: Sequence[Tags]) -> None:
    """All tags that are needed are there, and numbers."""
    for path, header in zip(paths, headers, strict=True):
        for tag in ("SeriesInstanceUID", *GEOMETRY, *RESCALE):
            value = header.get(tag)
            if value is None or value == "":
                raise ImageError(
                    path,
                    f"missing {tag}",
                    "without it there is no place or no HU. Export the series again.",
                )


def _axes(folder: Path, headers: Sequence[Tags]) -> NDArray[np.float64]:
    """Columns: along a row, along a column, their normal towards the head; refused unless they are patient axes."""
    cosines = np.array(headers[0]["ImageOrientationPatient"], dtype=float)
    row, column = cosines[:3], cosines[3:]
    normal = np.cross(row, column)
    if abs(normal[2]) < np.cos(np.pi / 4):
        raise ImageError(folder, "non-axial", "by its ImageOrientationPatient; expected axial slices.")
    if abs(normal[2]) < np.sqrt(1 - AXIS_TOLERANCE**2):
        raise ImageError(
            folder,
            "gantry tilt",
            "or oblique slices, by ImageOrientationPatient; expected slices at right angles to the patient's long "
            "axis. Take or reconstruct an axial series.",
        )
    if np.abs(row).max() < np.sqrt(1 - AXIS_TOLERANCE**2):
        raise ImageError(folder, "rotated", "by ImageOrientationPatient; expected rows along a patient axis.")
    # Sorting towards the head serves prone and supine scans alike; (row, column, normal) may be left-handed.
    return np.stack([row, column, normal * np.sign(normal[2])], axis=1)


def _slice_step(folder: Path, origins: NDArray[np.float64], axes: NDArray[np.float64], thickness: float) -> float:
    """Distance between neighbouring slices, mm; a single slice has its thickness."""
    if len(origins) == 1:
        return thickness
    offsets = (origins - origins[0]) @ axes
    # Each slice keeps its own origin, so a drift of up to 1 % (0.6 degrees) does no harm.
    if np.abs(offsets[:, :2]).max() > POSITION_TOLERANCE_MM + 0.01 * np.ptp(offsets[:, 2]):
        raise ImageError(
            folder,
            "gantry tilt",
            "ImagePositionPatient moves sideways from slice to slice; expected a straight stack. Take an untilted "
            "series.",
        )
    steps = np.diff(offsets[:, 2])
    if steps.min() < POSITION_TOLERANCE_MM:
        raise ImageError(folder, "duplicate slices", "by ImagePositionPatient; expected each once. Remove the copies.")
    step = float(np.median(steps))
    odd = np.abs(steps - step) > max(0.05 * step, POSITION_TOLERANCE_MM)
    if odd.any():
        at = offsets[:-1][odd][0, 2] + origins[0, 2]
        multiples = steps[odd] / step
        if np.allclose(multiples, np.rint(multiples), atol=0.1) and multiples.min() > 1:
            missing = int(np.rint(multiples - 1).sum())
            raise ImageError(
                folder,
                "missing slices",
                f"{missing}, the first after z = {at:g} mm; expected one every {step:g} mm. Fetch the series again.",
            )
        raise ImageError(
            folder,
            "mixed slice spacing",
            f"{steps.min():g} to {steps.max():g} mm; expected one. Keep one reconstruction a folder.",
        )
    return step
