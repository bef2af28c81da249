"""Which DICOM series lie in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pydicom
from pydicom.errors import InvalidDicomError
from rich.progress import track

from data_prep.errors import DataError


def folder_index(root: Path) -> pd.DataFrame:
    """All DICOM series in a folder and those below it, one a folder.

    Returns:
        ``pid`` (PatientID as a number, NaN where it is none), ``series_uid``, ``study_uid``, ``slices``, ``folder``.

    Raises:
        DataError: no such folder, or no DICOM in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with a folder for each DICOM series.")
    rows = [row for row in track(_series_in(root), description="Looking for series") if row]
    if not rows:
        raise DataError(f"{root}: no DICOM series; expected a folder for each, at any depth.")
    return pd.DataFrame(rows)


def _series_in(root: Path) -> Iterator[dict[str, object] | None]:
    tags = ["PatientID", "SeriesInstanceUID", "StudyInstanceUID"]
    for folder, _, names in os.walk(root):
        files = [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
        for path in files:
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
            except (InvalidDicomError, OSError, EOFError):
                continue
            yield {
                "pid": pd.to_numeric(str(header.get("PatientID")), errors="coerce"),
                "series_uid": header.get("SeriesInstanceUID"),
                "study_uid": header.get("StudyInstanceUID"),
                "slices": len(files),
                "folder": folder,
            }
            break
