"""Valid scans whose truth is known, as DICOM series and as volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.adversary.writer import CT_IMAGE, EXPLICIT, file, stored_bytes

AIR, HIGHEST = -1024, 3071
SIZE = 24
"""Pixels along each side of a crop."""

SECRETS = {
    "PatientName": "Meyerhoff^Ottilie",
    "PatientID": "MRN7731905",
    "PatientBirthDate": "19430917",
    "StudyDate": "20190304",
    "AccessionNumber": "ACC552817",
    "InstitutionName": "Klinikum Wiesengrund",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.771",
}
"""Who was scanned; none of it may be in what is shared."""


@dataclass
class Truth:
    """HU (slices, rows, columns), where they are (mm, LPS) and where the nodule is."""

    hu: NDArray[np.int16]
    origin: NDArray[np.float64]
    spacing: NDArray[np.float64]
    voxel: tuple[int, int, int]
    centre: tuple[float, float, float] | None

    def crop(self) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """Pixels [column, row] and RAS affine of the crop, by index arithmetic alone."""
        column, row, number = self.voxel
        half = SIZE // 2
        padded = np.pad(self.hu[number].clip(AIR, HIGHEST), SIZE, constant_values=AIR)
        left, top = column + SIZE - half, row + SIZE - half
        affine = np.diag([-self.spacing[0], -self.spacing[1], self.spacing[2], 1.0])
        first = self.origin + self.spacing * [column - half, row - half, number]
        affine[:3, 3] = first * [-1, -1, 1]
        return padded[top : top + SIZE, left : left + SIZE].T, affine


def scan(rng: Random) -> Truth:
    """Lung of noise, no two places alike, and a round nodule; its centre lies off the voxels' own."""
    draw = np.random.default_rng(rng.getrandbits(32))
    slices, rows, columns = (rng.randint(9, 13), rng.randint(34, 48), rng.randint(34, 48))
    spacing = np.array(
        [rng.choice((0.5, 0.625, 0.75, 0.8125)), rng.choice((0.5, 0.7, 0.875)), rng.choice((1.25, 2.0, 2.5))]
    )
    voxel = rng.randint(8, columns - 9), rng.randint(8, rows - 9), rng.randint(3, slices - 4)
    z, y, x = np.ogrid[:slices, :rows, :columns]
    distance = sum(((axis - middle) * step) ** 2 for axis, middle, step in zip((x, y, z), voxel, spacing, strict=True))
    hu = np.where(distance < 9.0, 20, -860) + 2 * draw.integers(-50, 51, (slices, rows, columns))
    origin = np.round([rng.uniform(-180, 20), rng.uniform(-180, 20), rng.uniform(-400, 200)], 2)
    off = [rng.uniform(-0.3, 0.3) for _ in range(3)]
    centre = origin + spacing * (np.array(voxel) + off)
    return Truth(hu.astype(np.int16), origin, spacing, voxel, (float(centre[0]), float(centre[1]), float(centre[2])))


@dataclass(eq=False)
class Slice:
    """A file of a series.

    Attributes:
        hu: as the file has them, (rows, columns).
        tags: by keyword.
        slope, intercept: by which HU are stored, whatever the tags say.
        syntax, claimed: how the file is written, and how it says that it is.
        change: of the stored values, if any.
        spoil: of the bytes of the file, if any.
        name: of the file.
    """

    hu: NDArray[np.int16]
    tags: dict[str | int, Any]
    name: str
    slope: float = 1.0
    intercept: float = -1024.0
    syntax: str = EXPLICIT
    claimed: str | None = None
    change: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    spoil: Callable[[bytes], bytes] | None = None

    def content(self) -> bytes:
        """The file."""
        stored = np.rint((self.hu.astype(np.float64) - self.intercept) / self.slope).astype(np.int64)
        stored = stored if self.change is None else self.change(stored)
        pixels = None if "no pixels" in self.tags else stored_bytes(stored.astype(np.uint16), self.syntax)
        tags = {tag: value for tag, value in self.tags.items() if tag != "no pixels"}
        whole = file(tags, self.syntax, pixels, self.claimed)
        return whole if self.spoil is None else self.spoil(whole)


@dataclass
class Series:
    """A DICOM series, its slices from the feet up.

    Attributes:
        truth: what is to be found.
        slices: its files.
        beside: other files of the folder.
        instances: how many images an index says that there are.
        number, column, row, count: of a nodule given by a slice's number, ``slice`` or ``instance``, and which.
        nodule: the slice that shows it.
        earlier: whether an earlier dataset was made of other pixels at the same place.
        linked: whether the files are links.
    """

    truth: Truth
    slices: list[Slice]
    nodule: Slice
    beside: dict[str, bytes] = field(default_factory=dict)
    instances: float = float("nan")
    number: str = "slice"
    column: float = 0.0
    row: float = 0.0
    count: float = 0.0
    earlier: bool = False
    linked: bool = False

    def tag(self, **values: Any) -> None:
        """Sets tags of all slices; None removes one."""
        for each in self.slices:
            set_tags(each, **values)

    def write(self, folder: Path, other: bool = False) -> Path:
        """Writes the folder, ``other`` with other pixels; returns what a table would name."""
        place = folder / SECRETS["PatientID"]
        for each in self.slices:
            content = replace(each, hu=np.roll(each.hu, 5, axis=1)).content() if other else each.content()
            target = place / each.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.linked:
                link, target = target, folder / f"stored-{target.name}"
                link.unlink(missing_ok=True)
                link.symlink_to(target)
            target.write_bytes(content)
        for name, content in self.beside.items():
            (place / name).write_bytes(content)
        return place


def set_tags(item: Slice, **values: Any) -> None:
    """Sets tags of a slice; None removes one."""
    for keyword, value in values.items():
        if value is None:
            item.tags.pop(keyword, None)
        else:
            item.tags[keyword] = value


def series(truth: Truth, rng: Random) -> Series:
    """A valid series of a scan, as a scanner would write it."""
    uid = f"{SECRETS['StudyInstanceUID']}.{rng.getrandbits(48)}"
    names = list(range(1, len(truth.hu) + 1))
    rng.shuffle(names)
    up = rng.random() < 0.5
    common = {
        **SECRETS,
        "SOPClassUID": CT_IMAGE,
        "SeriesInstanceUID": uid,
        "FrameOfReferenceUID": f"{uid}.1",
        "Modality": "CT",
        "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "PatientPosition": "HFS",
        "AcquisitionNumber": 1,
        "SliceThickness": float(truth.spacing[2]),
        "ImageOrientationPatient": (1, 0, 0, 0, 1, 0),
        "PixelSpacing": (float(truth.spacing[1]), float(truth.spacing[0])),
        "Rows": truth.hu.shape[1],
        "Columns": truth.hu.shape[2],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
    }
    slices = []
    for number, plane in enumerate(truth.hu):
        own = {
            "SOPInstanceUID": f"{uid}.{number + 2}",
            "InstanceNumber": number + 1 if up else len(truth.hu) - number,
            "ImagePositionPatient": position(truth, number),
            "SliceLocation": position(truth, number)[2],
        }
        slices.append(Slice(plane, {**common, **own}, f"IM{names[number]:05d}.dcm"))
    column, row, number = truth.voxel
    # Who counts from the feet must know that none is missing there: InstanceNumbers from 1 tell it, or an index.
    told = float("nan") if up and rng.random() < 0.5 else float(len(slices))
    return Series(truth, slices, slices[number], column=column, row=row, count=number, instances=told)


def position(truth: Truth, number: int) -> tuple[float, float, float]:
    """The centre of a slice's first voxel."""
    x, y, z = truth.origin + [0.0, 0.0, number * truth.spacing[2]]
    return round(float(x), 4), round(float(y), 4), round(float(z), 4)


def other(truth: Truth, rng: Random) -> Truth:
    """Another scan of the same shape and geometry: the second breath, the next patient."""
    noise = np.random.default_rng(rng.getrandbits(32)).integers(-50, 51, truth.hu.shape)
    return replace(truth, hu=(-700 + 2 * noise).astype(np.int16))
