"""What reader libraries make of scans that are not as they seem, and what we do; the table of data_prep/README.md.

    python benchmarks/decisions.py

Scans and truth are the adversary's (`tests/adversary`). A reader is right where every voxel has the HU of its place.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data_prep.errors import ImageError  # noqa: E402
from data_prep.images import crops  # noqa: E402
from tests.adversary import scans, volumes  # noqa: E402
from tests.adversary.corruption import corruptions_of  # noqa: E402

Volume = tuple[NDArray[Any], NDArray[np.float64]]
"""Values by array axis, and the LPS affine of these axes."""

MARKS = (2000, 1900, 1800)
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def _gap(series: Any, rng: Random) -> None:
    del series.slices[series.truth.voxel[2] + 1]


def _no_rescale(series: Any, rng: Random) -> None:
    series.tag(RescaleSlope=None, RescaleIntercept=None)


def _metres(volume: Any, rng: Random) -> None:
    volume.header |= {"units": 1, "sform": np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ volume.affine}
    volume.header["zooms"] = np.linalg.norm(volume.affine[:3, :3], axis=0) / 1000


def _short(volume: Any, rng: Random) -> None:
    volume.suffix, volume.spoil_raw = ".mhd", lambda raw: raw[: len(raw) // 2]


SITUATIONS: list[tuple[str, str, str | Callable[[Any, Random], None]]] = [
    ("two series in a folder", "series", "a second series in the folder"),
    ("a slice is missing", "series", _gap),
    ("two slices at one place", "series", "two slices at one place"),
    ("slices of two breaths alternate", "series", "two breaths interleaved"),
    ("InstanceNumber in another order than the slices", "series", "instance numbers shuffled"),
    ("tilted gantry: positions move sideways", "series", "slices sheared"),
    ("tilted slices", "series", "tilted slices"),
    ("one slice of another PixelSpacing", "series", "one slice of another pixel spacing"),
    ("a localizer among the slices", "series", "a localizer among the slices"),
    ("no RescaleSlope and RescaleIntercept", "series", _no_rescale),
    ("RescaleSlope of 0", "series", "a slope of zero"),
    ("rescale that differs by slice", "series", "another slope and intercept"),
    ("something in the bits above HighBit", "series", "twelve bits with something above them"),
    ("PixelPaddingValue outside the field of view", "series", "padding outside the field of view"),
    ("a truncated file", "series", "a truncated file"),
    ("files without preamble", "series", "files without preamble"),
    ("files that say implicit and are explicit", "series", "explicit files that say implicit"),
    ("qform and sform differ", "nifti", "a qform and an sform that differ"),
    ("sform_code and qform_code are 0", "nifti", "no geometry"),
    ("unit of length: metre", "nifti", _metres),
    ("NaN outside the field of view", "nifti", "not a number outside the field of view"),
    ("oblique axes", "nifti", "oblique axes"),
    ("a truncated file", "nifti", "a truncated volume"),
    ("a `.raw` that is too short", "metaimage", _short),
]
"""In words, the kind of input, and what is done to it: a corruption of the adversary, by name, or one of these."""

LOST = (_gap, _no_rescale, _short)
"""After these the truth cannot be known."""


@cache
def _loader() -> Any:
    from monai.transforms import LoadImage

    return LoadImage(image_only=True)


def monai(path: Path) -> Volume:
    """LoadImage as it comes, which is PydicomReader for DICOM here; its affine is RAS."""
    image = _loader()(path)
    return image.numpy(), FLIP @ image.affine.numpy()


def simpleitk(path: Path) -> Volume:
    """A file by ReadImage, a folder by the names that GDCM sorts, as SimpleITK's examples have it."""
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)) if path.is_dir() else str(path)
    image = SimpleITK.ReadImage(names)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), affine


def nibabel(path: Path) -> Volume:
    """load and get_fdata."""
    image = nib.load(path)
    return image.get_fdata(), FLIP @ image.affine


def made(
    kind: str, edit: str | Callable[[Any, Random], None], folder: Path, seed: int = 3
) -> tuple[Path, scans.Truth, bool]:
    """A scan with three marked voxels after one corruption, its truth, and whether that is still known."""
    rng = Random(seed)
    truth = scans.scan(rng)
    column, row, number = truth.voxel
    places = (number, row, column), (1, row + 4, column - 3), (len(truth.hu) - 2, row - 3, column + 5)
    for place, mark in zip(places, MARKS, strict=True):
        truth.hu[place] = mark
    image: Any = scans.series(truth, rng) if kind == "series" else volumes.volume(truth, rng, kind)
    known = edit not in LOST
    if isinstance(edit, str):
        (corruption,) = (each for each in corruptions_of(kind) if each.name == edit)
        edit, known = corruption.edit, corruption.known
    edit(image, rng)
    return image.write(folder), truth, known


def compared(volume: Volume, truth: scans.Truth) -> str:
    """How what was read differs from the truth."""
    values, affine = volume
    if values.ndim != 3:
        return f"{values.shape[3] if values.ndim > 3 else values.ndim} volumes"
    z, y, x = np.indices(truth.hu.shape)
    places = truth.origin + truth.spacing * np.stack([x, y, z], axis=-1)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
        return "no place"
    index = (np.linalg.inv(affine) @ np.concatenate([places, np.ones((*places.shape[:3], 1))], axis=-1)[..., None])[
        ..., 0
    ]
    index = np.rint(index[..., :3]).astype(int)
    inside = ((index >= 0) & (index < values.shape)).all(axis=-1)
    found = np.where(inside, values[tuple(np.where(inside, index[..., axis], 0) for axis in range(3))], np.nan)
    wrong = found[inside] != truth.hu[inside]
    if inside.any() and not wrong.any():
        return "right" if inside.all() else f"{1 - inside.mean():.0%} of the voxels are gone"
    off = [_distance(values, affine, truth, mark) for mark in MARKS]
    if None in off or max(off) < 0.1:  # type: ignore[type-var, operator]
        difference = np.abs(found - truth.hu)[inside]
        if np.isnan(difference).any():
            return f"NaN in {np.isnan(difference).mean():.0%} of the voxels"
        return f"{wrong.mean():.0%} of the voxels up to {difference.max():.0f} HU off"
    return f"places off by up to {max(off):.1f} mm"  # type: ignore[type-var]


def _distance(values: NDArray[Any], affine: NDArray[np.float64], truth: scans.Truth, mark: int) -> float | None:
    """From where a mark is to where it was read, mm; None where it is not there once."""
    read, (there,) = np.argwhere(values == mark), np.argwhere(truth.hu == mark)
    if len(read) != 1:
        return None
    return float(np.linalg.norm((affine @ [*read[0], 1])[:3] - truth.origin - truth.spacing * there[::-1]))


@contextmanager
def listening() -> Iterator[Callable[[], bool]]:
    """Whether anything was said meanwhile, on stderr or as a warning."""
    with TemporaryFile() as heard, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = os.dup(2)
        os.dup2(heard.fileno(), 2)
        try:
            yield lambda: bool(os.fstat(heard.fileno()).st_size or caught)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def outcome(read: Callable[[Path], Volume], path: Path, truth: scans.Truth, known: bool) -> str:
    """What a reader makes of a scan, in words."""
    with listening() as heard:
        try:
            volume = read(path)
        except Exception as error:  # readers raise what they like
            return f"raises {type(error).__name__}"
        warned = ", with a warning" * heard()
    words = compared(volume, truth)
    if not known:
        slices = f"reads {volume[0].shape[2]} slices" if path.is_dir() else "reads it"
        words = slices if words == "right" else f"{slices}, {words}"
    return words + warned


def ours(path: Path, truth: scans.Truth) -> str:
    """What data preparation makes of it at each mark."""
    refused, wrong = set(), 0
    for mark in MARKS:
        ((number, row, column),) = np.argwhere(truth.hu == mark)
        truth.voxel = (int(column), int(row), int(number))
        try:
            crop = crops.cut(path, truth.origin + truth.spacing * truth.voxel, scans.SIZE)
        except ImageError as error:
            refused.add(error.fault)
            continue
        hu, affine = truth.crop()
        same = np.array_equal(np.asarray(crop.dataobj)[..., 0], hu) and np.abs(crop.affine - affine)[:3].max() < 0.06
        wrong += not same
    return "WRONG" if wrong else f"refused: {', '.join(sorted(refused))}" if refused else "right"


def main() -> None:
    print("| situation | MONAI's LoadImage | SimpleITK | nibabel | here |\n| --- | --- | --- | --- | --- |")
    _loader()
    for words, kind, edit in SITUATIONS:
        with TemporaryDirectory() as scratch:
            path, truth, known = made(kind, edit, Path(scratch))
            others = [outcome(read, path, truth, known) for read in (monai, simpleitk)]
            others.append(outcome(nibabel, path, truth, known) if kind == "nifti" else "-")
            print(f"| {words} | {' | '.join(others)} | {ours(path, truth)} |", flush=True)


if __name__ == "__main__":
    main()
