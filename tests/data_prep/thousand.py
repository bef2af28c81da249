"""A thousand tiny series, a third of them broken in every way that series are; for the test and for the benchmark."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from tests.data_prep.helpers import rows, stack, write_series

ORIGIN = stack(1)[0]
JPIP = "1.2.840.10008.1.2.4.94"
"""Pixels that lie on a server: no decoder has them."""


def _edit(**tags: object) -> Callable[[int, Dataset], None]:
    """Sets tags of the second slice; None removes one."""

    def edit(number: int, item: Dataset) -> None:
        for tag, value in tags.items():
            if number == 1:
                delattr(item, tag) if value is None else setattr(item, tag, value)

    return edit


def _undecodable(number: int, item: Dataset) -> None:
    item.file_meta.TransferSyntaxUID = JPIP
    item.PixelData = encapsulate([item.PixelData])
    item["PixelData"].is_undefined_length = True


def _moved(**by_slice: float) -> list[list[float]]:
    """A stack of which some slices are moved along z."""
    positions = stack(5)
    for name, offset in by_slice.items():
        positions[int(name[1:])][2] += offset
    return positions


def _without(number: int) -> list[list[float]]:
    return [position for index, position in enumerate(stack(5)) if index != number]


SHEARED = [[x, y + 0.4 * number, z] for number, (x, y, z) in enumerate(stack(5))]
OUTSIDE, CUT_PIXELS, CUT_HEADER, NO_DECODER = "outside", "cut pixels", "cut header", "no decoder"

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "missing": ("missing slices", {"positions": _without(2)}),
    "duplicate": ("duplicate slices", {"positions": _moved(s3=-2.0)}),
    "mixed spacing": ("mixed slice spacing", {"positions": _moved(s4=0.9)}),
    "several series": ("several series", {"edit": _edit(SeriesInstanceUID="1.2.3.4")}),
    "localizer": ("localizer", {"edit": _edit(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])}),
    "tilt": ("gantry tilt", {"edit": _edit(GantryDetectorTilt=12.0)}),
    "sheared": ("gantry tilt", {"positions": SHEARED}),
    OUTSIDE: ("nodule outside the scan", {}),
    "coronal": ("non-axial", {"orientation": (1, 0, 0, 0, 0, -1)}),
    "no slope": ("missing RescaleSlope", {"edit": _edit(RescaleSlope=None)}),
    "no intercept": ("missing RescaleIntercept", {"edit": _edit(RescaleIntercept=None)}),
    NO_DECODER: ("no decoder for JPIP Referenced", {"edit": _undecodable}),
    CUT_PIXELS: ("truncated file", {}),
    CUT_HEADER: ("truncated file", {}),
}
"""Ways to be broken: the fault that is to be named, and how such a series is written."""


def write(folder: Path, count: int = 1000, slices: int = 3, size: int = 16) -> tuple[Path, dict[str, str]]:
    """Writes the series and a cohort table, one patient each.

    Args:
        folder: where.
        count: of series; every third is broken.
        slices: of a series, but for those whose fault needs five.
        size: pixels along both sides.

    Returns:
        The table, and the fault that is to be named of each image that is broken. The pixel in the middle of each
        nodule is the series' number in HU, and no two series have the same pixels.
    """
    with tempfile.TemporaryDirectory() as scratch:
        patterns = {kind: _pattern(Path(scratch) / kind, kind, slices, size) for kind in ("good", *KINDS)}
    kinds = ["good" if number % 3 else [*KINDS][number // 3 % len(KINDS)] for number in range(count)]
    table, expected = [], {}
    for number, kind in enumerate(kinds):
        image = f"scans/{number:04d}"
        _write_one(folder / image, patterns[kind], kind, number, size)
        x, y, z = ORIGIN[0] + 0.6 * (size // 2), ORIGIN[1] + 0.8 * (size // 2), ORIGIN[2] + 500 * (kind == OUTSIDE)
        table.append(rows(patient_id=f"PATIENT-{number}", image=image, x=x, y=y, z=z, split="training"))
        if kind != "good":
            expected[image] = KINDS[kind][0]
    pd.DataFrame(table).to_csv(folder / "cohort.csv", index=False)
    return folder / "cohort.csv", expected


def _pattern(folder: Path, kind: str, slices: int, size: int) -> list[bytes]:
    """The files of a series of one kind."""
    options: dict[str, object] = dict(KINDS[kind][1]) if kind in KINDS else {}
    positions = options.pop("positions", stack(slices))
    paths = write_series(folder, np.full((len(positions), size, size), -1000), positions, **options)
    return [path.read_bytes() for path in paths]


def _write_one(folder: Path, pattern: list[bytes], kind: str, number: int, size: int) -> None:
    """A series with pixels of its own: noise, and in the middle its number."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(number).integers(0, 200, (size, size), dtype="<u2")
    noise[size // 2, size // 2] = 1024 + number
    pixels = noise.tobytes()
    for index, content in enumerate(pattern):
        content = content if kind == NO_DECODER else content[: -len(pixels)] + pixels
        if index == 1 and kind in (CUT_PIXELS, CUT_HEADER):
            content = content[: -size if kind == CUT_PIXELS else 400]
        (folder / f"{index}.dcm").write_bytes(content)
