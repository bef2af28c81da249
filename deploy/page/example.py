"""The embedded example: one simulated scan, with the point and the record of its nodule; no patient was scanned."""

from __future__ import annotations

import csv
import shutil
import threading
from pathlib import Path
from typing import Any

from data_prep.cutting import Centre
from deploy.page import reading
from scripts.ehr.features import FEATURES, MISSING

PATIENTS = 2
"""Of the phantom that is drawn; the example is the last one, the first test case of `make demo`."""


class Example:
    """Made at first use, which takes seconds.

    Args:
        folder: to make, on the same disk as the sessions.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._told: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def made(self) -> dict[str, Any]:
        """What :func:`deploy.page.reading.read` tells of the scan, and ``suggested``, point and record."""
        with self._lock:
            if self._told is None:
                self._told = make(self.folder)
            return self._told

    def case(self) -> tuple[Path, Centre, dict[str, float]]:
        """The scan, its point and its record."""
        told = self.made()
        x, y, z = told["suggested"]["point"]
        return self.folder / told["image"], (x, y, z), told["suggested"]["record"]

    def copy(self, folder: Path) -> dict[str, Any]:
        """Copies the scan into the folder of a session's own, and gives :meth:`made`."""
        told = self.made()
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return told


def make(folder: Path) -> dict[str, Any]:
    """Draws the phantom and reads the scan as if it had been loaded."""
    from data_prep.phantom.cohort import make as draw  # pandas

    phantom = folder.with_name(f"{folder.name}-phantom")
    draw(phantom, PATIENTS)
    with (phantom / "cohort.csv").open(encoding="utf-8", newline="") as file:
        row = [row for row in csv.DictReader(file) if row["study_yr"] == "0"][-1]
    shutil.copytree(phantom / row["image"], folder / reading.GIVEN)
    shutil.rmtree(phantom)
    record = {name: float(row[name]) for name in FEATURES if row[name].strip().lower() not in MISSING}
    suggested = {"point": [float(row[axis]) for axis in "xyz"], "record": record}
    return {**reading.read(folder), "suggested": suggested}
