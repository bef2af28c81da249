"""DICOM series and cohort tables, written by other means than the project's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
EHR = {
    "sct_pre_att": 1,
    "sct_epi_loc": 3,
    "sct_long_dia": 9,
    "sct_perp_dia": 7,
    "sct_margins": 2,
    "age": 61,
    "diagemph": 0,
    "gender": 2,
    "famfather": 0,
    "fammother": 1,
    "fambrother": 0,
    "famsister": 0,
    "famchild": 0,
}


def write_series(
    folder: Path,
    hu: np.ndarray,
    positions: Sequence[Sequence[float]],
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = (0.8, 0.6),
    edit: Callable[[int, Dataset], None] | None = None,
) -> list[Path]:
    """Writes a CT series, ``hu`` (slices, rows, columns); ``edit`` may spoil a slice before it is saved."""
    folder.mkdir(parents=True, exist_ok=True)
    series, paths = generate_uid(), []
    for number, (plane, position) in enumerate(zip(hu, positions, strict=True)):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        item = Dataset()
        item.file_meta = meta
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        item.SeriesInstanceUID, item.Modality = series, "CT"
        item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        item.ImagePositionPatient, item.ImageOrientationPatient = list(position), list(orientation)
        item.PixelSpacing, item.SliceThickness = list(spacing), 2.0
        item.RescaleSlope, item.RescaleIntercept = 1, -1024
        item.Rows, item.Columns = plane.shape
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 0
        item.PixelData = (plane.astype(np.int32) + 1024).astype("<u2").tobytes()
        if edit is not None:
            edit(number, item)
        path = folder / f"{(number * 7) % 1009:03d}.dcm"  # names do not follow the slices
        pydicom.dcmwrite(path, item, enforce_file_format=True)
        paths.append(path)
    return paths


def stack(count: int, origin: tuple[float, float, float] = (-40.0, -30.0, 100.0)) -> list[list[float]]:
    """Positions of a straight axial stack, 2 mm apart."""
    return [[origin[0], origin[1], origin[2] + 2.0 * number] for number in range(count)]


def rows(**columns: Any) -> dict[str, Any]:
    """One row of a cohort table."""
    return {"patient_id": "P1", "nodule_id": "1", "study_yr": 0, "image": "a.nii.gz", **EHR, **columns}


def write_table(folder: Path, table: Sequence[dict[str, Any]]) -> Path:
    """Writes a cohort table as CSV."""
    path = folder / "cohort.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    return path


def bytes_read() -> int:
    """By this process so far, from files and caches alike (Linux)."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def compress(path: Path, name: str) -> None:
    """Rewrites a file in another transfer syntax, by GDCM's name of it."""
    if name == "RLELossless":
        item = pydicom.dcmread(path)
        item.compress(RLELossless)
        item.save_as(path)
        return
    gdcm = pytest.importorskip("gdcm", reason="no gdcm (pip install python-gdcm)")
    reader, change, writer = gdcm.PixmapReader(), gdcm.ImageChangeTransferSyntax(), gdcm.PixmapWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetPixmap())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetPixmap(change.GetOutputAsPixmap())
    assert writer.Write()


class Bucket:
    """Stands for idc-index's client: copies series, and loses one."""

    def __init__(self, source: Path, lost: str | None) -> None:
        self.source, self.lost = source, lost
        self.asked: list[str] = []

    def download_from_selection(
        self, downloadDir: str, seriesInstanceUID: list[str], dirTemplate: None, **_: object
    ) -> None:
        (uid,) = seriesInstanceUID
        self.asked.append(uid)
        assert dirTemplate is None
        for number, path in enumerate(sorted((self.source / uid).iterdir())):
            if uid != self.lost or number < 3:
                shutil.copy(path, downloadDir)
