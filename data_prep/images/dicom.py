"""CT series on disk: the headers are read and checked, and only the slice that is wanted is decoded."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.uid import EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from data_prep.errors import ImageError
from data_prep.images import hu, stack
from data_prep.images.decoders import can_decode
from data_prep.images.files import Stamp, files_in
from data_prep.images.headers import Header, Malformed, read_header, read_whole
from data_prep.images.stack import Tags, number

NUMBERS = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "Rows": 1,
    "Columns": 1,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
}
"""Tags that every slice needs, and how many numbers each has."""

POSITIVE = ("PixelSpacing", "Rows", "Columns", "RescaleSlope")

KIND = ("SOPClassUID", "Modality", "ImageType", "NumberOfFrames", "GantryDetectorTilt", "BurnedInAnnotation")

IDENTITY = ("SeriesInstanceUID", "FrameOfReferenceUID")

WANTED = (*IDENTITY, *KIND, *NUMBERS, *stack.PASSES, *stack.COUNTERS, "ImagesInAcquisition")

MULTI_FRAME = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

BESIDE_SLICES = frozenset(
    ("SR", "KO", "PR", "SEG", "REG", "FID", "RWV", "DOC", "PLAN", "RTSTRUCT", "RTPLAN", "RTRECORD")
)
"""``Modality`` of what is no scan but refers to one (DICOM PS3.3, C.7.3.1.1.1); as series of their own, left aside."""

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
        instances: InstanceNumber of each slice, NaN where it has none.
        acquired: how many images the headers say that the acquisition has, NaN where they do not tell.
    """

    folder: Path
    paths: tuple[Path, ...]
    origins: NDArray[np.float64]
    axes: NDArray[np.float64]
    spacing: tuple[float, float, float]
    shape: tuple[int, int]
    instances: tuple[float, ...] = ()
    acquired: float = float("nan")

    def nearest_slice(self, centre: Sequence[float]) -> int:
        """Index of the slice nearest to a point (mm, LPS).

        Raises:
            ImageError: the point lies outside the scan.
        """
        distance = (np.asarray(centre) - self.origins) @ self.axes
        index = int(np.argmin(np.abs(distance[:, 2])))
        voxel = distance[index] / self.spacing
        # The voxels' outer faces bound the scan, half a voxel beyond the centres.
        if not (np.all(voxel >= -0.5) and np.all(voxel <= [self.shape[0] - 0.5, self.shape[1] - 0.5, 0.5])):
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
            HU, (columns, rows, 1) float32, NaN where the scanner padded, with its RAS+ affine. ``intent_name`` in its
            header is ``lossy`` where the pixels were compressed with loss.

        Raises:
            ImageError: the pixels cannot be decoded, or are no HU.
        """
        path = self.paths[index]
        try:
            dataset = read_whole(path)
            syntax = dataset.file_meta.TransferSyntaxUID
            if not can_decode(syntax):
                raise ImageError(path, f"no decoder for {syntax.name}", "install one, as by pip install python-gdcm.")
            values = hu.decoded(path, dataset)
        except ImageError:
            raise
        except Exception as error:  # pydicom and its decoders raise what they like
            explanation = "the file may be truncated or damaged. Fetch it again."
            raise ImageError(path, "unreadable pixels", explanation, error) from error
        affine = np.eye(4)
        affine[:3, :3] = self.axes * self.spacing
        affine[:3, 3] = self.origins[index]
        image = nib.Nifti1Image(values.T[..., None], LPS_TO_RAS @ affine)
        image.header["intent_name"] = hu.LOSSY if hu.is_lossy(dataset) else ""
        return image


def open_series(folder: Path, uid: str | None = None, found: Stamp = ()) -> Series:
    """Reads the headers of one axial CT series.

    Args:
        folder: holds the series, directly or in folders below it.
        uid: the series among others there; None: the only one of slices, whatever localizers, reports, contours or
            segmentations lie beside it.
        found: the folder's :func:`data_prep.images.files.stamp`, if it was taken just now.

    Raises:
        ImageError: what is wrong, by name: no DICOM, a truncated file, several series, a localizer, not CT,
            multi-frame, text burnt into the pixels, a missing or malformed tag (RescaleSlope and RescaleIntercept among
            them), mixed matrix or orientation or pixel spacing, non-axial, gantry tilt, several acquisitions, duplicate
            or missing slices, mixed slice spacing.
    """
    if not folder.is_dir():
        raise ImageError(folder, "no such folder", "expected one with one CT series. Check the column image.")
    names = [name for name, *_ in found or files_in(folder, deep=True)]
    files = _of_series(folder, names, uid)
    paths, headers = [*files], [header.tags for header in files.values()]
    _check_kind(folder, files)
    checked: set[tuple[str, int]] = set()
    for path, header in files.items():
        _check_numbers(path, header.tags, checked)
    for tag in ("Rows", "Columns", "ImageOrientationPatient", "PixelSpacing"):
        values = np.array([np.atleast_1d(value) for value in stack.distinct(headers, tag)], dtype=float)
        if np.ptp(values, axis=0).max() > 1e-4:
            raise ImageError(folder, f"mixed {tag}", "expected one value. Keep one reconstruction a folder.")
    axes = stack.axes(folder, headers)
    origins = np.array([header["ImagePositionPatient"] for header in headers], dtype=float)
    kept = stack.order(folder, paths, origins, axes[:, 2])
    headers, origins = [headers[index] for index in kept], origins[kept]
    stack.one_acquisition(folder, headers)
    thickness = number(headers[0].get("SliceThickness"))
    step = stack.step(folder, origins, axes, thickness if thickness > 0 else 1.0)
    rows_mm, columns_mm = (float(value) for value in headers[0]["PixelSpacing"])
    acquired = {number(header.get("ImagesInAcquisition")) for header in headers}
    return Series(
        folder=folder,
        paths=tuple(paths[index] for index in kept),
        origins=origins,
        axes=axes,
        # PixelSpacing is (between rows, between columns); array axis 0 runs along a row, so from column to column.
        spacing=(columns_mm, rows_mm, step),
        shape=(int(headers[0]["Columns"]), int(headers[0]["Rows"])),
        instances=tuple(number(header.get("InstanceNumber")) for header in headers),
        acquired=acquired.pop() if len(acquired) == 1 else float("nan"),
    )


def _of_series(folder: Path, names: Sequence[str], uid: str | None) -> dict[Path, Header]:
    """Headers of all files of one series.

    Files directly in the folder are looked at first; those below it where no slice is among them, or a series is named.
    """
    headers = _read_headers(folder / name for name in names if uid is not None or "/" not in name)
    if uid is None and all(_beside_slices(header.tags) for header in headers.values()):
        headers |= _read_headers(folder / name for name in names if "/" in name)
    if not headers:
        raise ImageError(folder, "no DICOM files", "expected one CT series, its files in this folder.")
    for path, header in headers.items():
        named = header.tags.get("SeriesInstanceUID")
        if (uid in (None, named) and _codes(header.tags, "Modality") in ([], ["CT"])) or not named:
            _check_whole(path, header)
        if not named or not isinstance(named, str):  # several values are a list
            fault = f"{'malformed' if named else 'missing'} SeriesInstanceUID"
            raise ImageError(path, fault, "it may be of any series. Export the series again.")
    found = {header.tags["SeriesInstanceUID"] for header in headers.values()}
    slices = {header.tags["SeriesInstanceUID"] for header in headers.values() if not _beside_slices(header.tags)}
    if uid is None and len(slices) > 1:
        fault = f"{len(slices)}; expected one. Name it in the column series_uid, or give each a folder of its own."
        raise ImageError(folder, "several series", fault)
    if uid is not None and uid not in found:
        raise ImageError(folder, "another series", "expected the one that series_uid names. Check both columns.")
    scouts = {
        header.tags["SeriesInstanceUID"] for header in headers.values() if _codes(header.tags, "Modality") == ["CT"]
    }
    meant = slices or scouts or found if uid is None else {uid}
    return {path: header for path, header in headers.items() if header.tags["SeriesInstanceUID"] in meant}


def _beside_slices(tags: Tags) -> bool:
    """Whether a file says itself that it is no slice: a localizer, a report, contours and the like."""
    return not BESIDE_SLICES.isdisjoint(_codes(tags, "Modality")) or "LOCALIZER" in _codes(tags, "ImageType")


def _read_headers(files: Iterable[Path]) -> dict[Path, Header]:
    """Headers of DICOM files, without their pixels; other files are passed over, unless they are named like them."""
    headers: dict[Path, Header] = {}
    unreadable: dict[Path, Exception] = {}
    for path in files:
        try:
            headers[path] = read_header(path, WANTED)
        except Exception as error:  # pydicom raises what it likes
            unreadable[path] = error
    names = {_pattern(path) for path in headers} if unreadable else ()
    for path, reason in unreadable.items():
        expected = ".dcm" in path.name.lower() or _pattern(path) in names
        if expected or not isinstance(reason, InvalidDicomError):
            raise ImageError(path, "unreadable header", "it may be truncated. Fetch it again.", reason) from reason
    return headers


def _pattern(path: Path) -> str:
    """A file's name without its numbers."""
    return re.sub(r"\d+", "0", path.name)


def _check_kind(folder: Path, files: dict[Path, Header]) -> None:
    """Refuses what is not one CT series of single axial frames, or is marked as having text in its pixels."""
    alike: dict[tuple[int, ...], list[Path]] = defaultdict(list)  # what has the same objects is judged once
    for path, header in files.items():
        alike[tuple([id(header.tags.get(tag)) for tag in KIND])].append(path)

    def refuse(test: Callable[[Tags], bool], fault: str, explanation: str) -> None:
        bad = sorted(path.name for paths in alike.values() if test(files[paths[0]].tags) for path in paths)
        if bad:
            count = f"{len(bad)} of {len(files)} files, " if len(files) > 1 else ""
            raise ImageError(folder, fault, f"{count}{explanation}", ", ".join(bad[:5]))

    refuse(
        lambda tags: _codes(tags, "Modality") not in ([], ["CT"]),
        "not CT",
        "by Modality; expected CT. Name the CT series in the column image.",
    )
    refuse(
        lambda tags: "LOCALIZER" in _codes(tags, "ImageType"),
        "localizer",
        "by ImageType; expected axial slices. Name another series.",
    )
    refuse(
        lambda tags: not number(tags.get("NumberOfFrames") or 1) <= 1 or tags.get("SOPClassUID") in MULTI_FRAME,
        "multi-frame",
        "by NumberOfFrames or SOPClassUID; expected one file a slice. Export it as classic CT images.",
    )
    refuse(
        lambda tags: abs(number(tags.get("GantryDetectorTilt") or 0.0)) > 0.1,
        "gantry tilt",
        "by GantryDetectorTilt; expected 0. Take an untilted series.",
    )
    refuse(
        lambda tags: "YES" in _codes(tags, "BurnedInAnnotation"),
        "burned-in annotation",
        "by BurnedInAnnotation; the pixels may name the patient. Export the series without.",
    )
    frames = {str(header.tags.get("FrameOfReferenceUID") or "") for header in files.values()} - {""}
    if len(frames) > 1:
        explanation = f"{len(frames)}; positions in one say nothing about those in another. Take one of them."
        raise ImageError(folder, "several FrameOfReferenceUID", explanation)


def _codes(tags: Tags, tag: str) -> list[str]:
    """The values of a code string, without the blanks about them, which mean nothing (DICOM PS3.5, 6.2)."""
    value = tags.get(tag) or []
    return [str(code).strip() for code in ([value] if isinstance(value, str) else value)]


def _check_whole(path: Path, header: Header) -> None:
    if header.whole is False:
        raise ImageError(path, "truncated file", "it ends before its pixels do. Fetch it again.")


def _check_numbers(path: Path, tags: Tags, checked: set[tuple[str, int]]) -> None:
    """All tags that are needed are there, and as many numbers as they should be.

    ``checked`` notes which values were found good: most are the same object in all headers of a series.
    """
    for tag, count in NUMBERS.items():
        value = tags.get(tag)
        if (tag, id(value)) in checked:
            continue
        if value is None or (value == "" and not isinstance(value, Malformed)):
            raise ImageError(
                path,
                f"missing {tag}",
                "without it there is no place or no HU. Export the series again.",
            )
        parts = [value] if isinstance(value, str) or not isinstance(value, Iterable) else [*value]
        numbers = [number(part) for part in parts]
        positive = tag in POSITIVE
        if len(numbers) != count or not all(math.isfinite(each) and (each > 0 or not positive) for each in numbers):
            expected = f"{count} number{'s' * (count > 1)}{' above 0' * positive}"
            raise ImageError(path, f"malformed {tag}", f"expected {expected}. Export the series again.", value)
        checked.add((tag, id(value)))
