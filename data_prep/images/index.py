"""Which files lie in a folder, and which DICOM series."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import pandas as pd
from rich.progress import track

from data_prep.errors import DataError
from data_prep.images.files import files_in
from data_prep.images.headers import CHUNK, Malformed, read_header

IDENTITY = ("SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")

NEAR = 64
"""Bytes by which an element is moved from file to file of a series, for what stands before it is longer or shorter."""


def folder_index(root: Path) -> pd.DataFrame:
    """All DICOM series in a folder and those below it, each file once.

    A series may share its folder with others, or lie in several. Of equal copies in several folders the first
    whole one is taken.

    Returns:
        ``pid`` (PatientID as a number, NaN where it is none), ``series_uid``, ``study_uid``, ``slices`` (files),
        ``folder``: where all its files lie, at any depth.

    Raises:
        DataError: no such folder, or no DICOM in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with DICOM series.")
    series: dict[str, dict[str, Any]] = {}
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    signs: dict[str, list[_Sign]] = defaultdict(list)
    for name, *_ in track(files_in(root, deep=True), description="Looking for series"):
        path = os.path.join(root, name)
        folder = os.path.dirname(path)
        uid = next((sign.uid for sign in signs[folder][:3] if sign.stands_in(path)), "")
        if not uid:
            tags = _identity(path)
            uid = str(tags.get("SeriesInstanceUID") or "")
            if not uid:
                continue
            facts = {"pid": tags.get("PatientID"), "series_uid": uid, "study_uid": tags.get("StudyInstanceUID")}
            series.setdefault(uid, facts)
            signs[folder].insert(0, _Sign.of(uid, path))
        places[uid][folder].append(path)
    if not series:
        raise DataError(f"{root}: no DICOM series; expected some, at any depth.")
    table = pd.DataFrame(series.values())
    table["pid"] = pd.to_numeric(table["pid"].astype(str), errors="coerce")
    homes = [_home(places[uid]) for uid in table["series_uid"]]
    return table.assign(slices=[count for count, _ in homes], folder=[folder for _, folder in homes])


def _identity(path: str) -> dict[str, Any]:
    """Whose a file is; nothing where it is no DICOM, or cannot be read."""
    try:
        tags = read_header(path, IDENTITY, to_pixels=False).tags
    except Exception:  # pydicom raises what it likes; who opens the series is told
        return {}
    return {name: value for name, value in tags.items() if not isinstance(value, Malformed)}


@dataclass(frozen=True)
class _Sign:
    """Where a file has its SeriesInstanceUID; in the same place, other files of the folder need not be walked through.

    Attributes:
        uid: the series.
        element: its bytes; none where it stands too far behind.
        start: where, in the first file.
    """

    uid: str
    element: bytes
    start: int

    @classmethod
    def of(cls, uid: str, path: str) -> _Sign:
        """The sign of a series that this file is of."""
        with FileIO(path) as file:
            head = file.read(CHUNK)
        stored = uid.encode() + b"\0" * (len(uid) % 2)
        length = len(stored).to_bytes(4, "little")
        for kind in (b"UI" + length[:2], length):
            element = b"\x20\x00\x0e\x00" + kind + stored
            if (start := head.find(element)) >= 0:
                return cls(uid, element, start)
        return cls(uid, b"", 0)

    def stands_in(self, path: str) -> bool:
        """Whether another file has it there too."""
        if not self.element:
            return False
        try:
            with FileIO(path) as file:
                file.seek(max(self.start - NEAR, 0))
                return self.element in file.read(len(self.element) + 2 * NEAR)
        except OSError:
            return False


def _home(places: dict[str, list[str]]) -> tuple[int, str]:
    """How many files a series has, and where: the first folder with all of them, or the one above all its folders.

    Copies that differ are left to whoever opens the series, who finds two slices at one place.
    """
    if len(places) == 1:
        ((folder, files),) = places.items()
        return len(files), folder
    instances = {
        folder: {str(_identity(path).get("SOPInstanceUID") or path): path for path in files}
        for folder, files in places.items()
    }
    every: dict[str, str] = {}
    same = True
    for files_by_instance in instances.values():
        for instance, path in files_by_instance.items():
            same = same and filecmp.cmp(every.setdefault(instance, path), path, shallow=False)
    whole = [folder for folder in sorted(places) if len(instances[folder]) == len(every)]
    return len(every), whole[0] if whole and same else os.path.commonpath(places)
