"""A loaded scan, read whole once in a process with limits: what is wrong with it, where it lies, and its slices.

The folder of a scan has ``given``, what came from the browser; ``series``, what was in a zip file; and ``slices``, the
HU of all slices from the feet to the head, rows of little-endian 16-bit numbers, for the viewer.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import deploy  # noqa: F401  which makes the bundle's `scripts` importable
from data_prep.errors import ImageError
from data_prep.images import crops
from data_prep.images.content import HU_RANGE
from data_prep.images.dicom import open_series
from data_prep.images.nifti import reading
from deploy import archive
from deploy.dicom_out.write import quiet
from deploy.page.refusal import Refusal
from deploy.page.uploads import passed_over, safe_name
from deploy.request import RequestError
from deploy.worker.guard import MOST_BYTES, MOST_FILES, TOO_MUCH, check_size, limited

GIVEN, SERIES, SLICES = "given", "series", "slices"

MOST_VOXELS = 1 << 29
"""Of a scan: 2,000 slices of 512 by 512."""

SECONDS = 120.0
"""For reading one scan."""

NIFTI = (".nii", ".nii.gz")

Planes = Iterator[NDArray[Any]]


def guarded(folder: Path) -> dict[str, Any]:
    """:func:`read` in a process of its own, with limits of memory and time.

    Raises:
        Refusal: what is wrong with the scan.
    """
    try:
        told = limited("deploy.page.reading", [str(folder)], seconds=SECONDS)
    except RequestError as error:
        told = {"refused": str(error)}
    if told["refused"]:
        raise Refusal(422, told["refused"].removeprefix("request: "))
    return told


def read(folder: Path) -> dict[str, Any]:
    """Unpacks, reads and checks a scan, and writes its slices.

    Args:
        folder: of the scan, with ``given`` in it.

    Returns:
        ``refused``, why it cannot be taken, empty where it can; ``image``, its place in the folder; ``dicom``;
        ``shape`` (columns, rows, slices), ``spacing`` (mm) and ``origin`` (x and y of the first pixel's centre, mm,
        LPS) with ``heights``, z of each slice; axes run to the patient's left, back and head.
    """
    try:
        image = _image(folder)
        with quiet():
            planes, told = _series(image) if image.is_dir() else _nifti(image)
            with (folder / SLICES).open("wb") as file:
                for plane in planes:
                    hu = np.nan_to_num(np.asarray(plane, dtype=np.float32), nan=HU_RANGE[0]).clip(*HU_RANGE)
                    file.write(np.rint(hu).astype("<i2").T.tobytes())
    except ImageError as error:
        return {"refused": error.reason}
    except (Refusal, RequestError) as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": TOO_MUCH}
    except Exception as error:  # readers raise what they like
        return {"refused": f"unforeseen {type(error).__name__} in reading this scan."}
    return {"refused": "", "image": str(image.relative_to(folder)), "dicom": image.is_dir(), **told}


def _image(folder: Path) -> Path:
    """The file or folder that is the scan; a zip file is unpacked."""
    given = folder / GIVEN
    check_size(given)
    files = sorted(given.iterdir())
    if len(files) == 1 and files[0].name.lower().endswith(".zip"):
        _unpack(files[0], folder / SERIES)
        given, files = folder / SERIES, sorted((folder / SERIES).iterdir())
    volumes = [path for path in files if path.name.lower().endswith(NIFTI)]
    if volumes and len(files) > 1:
        raise Refusal(422, "A NIfTI file among others; expected one NIfTI file, or one DICOM series.")
    return volumes[0] if volumes else given


def _unpack(path: Path, target: Path) -> None:
    """Writes the files in a zip file to a folder, flat and under our own names, and removes the zip file."""

    def named(number: int, name: str) -> str | None:
        return None if passed_over(name) else safe_name(number, name)

    target.mkdir()
    try:
        archive.unpack(path, target, named, MOST_FILES, MOST_BYTES)
    except archive.ArchiveError as error:
        raise Refusal(422, f"The zip file {error}") from error
    path.unlink()


def _series(folder: Path) -> tuple[Planes, dict[str, Any]]:
    """Slices (columns, rows), and geometry, of a DICOM series."""
    series = open_series(folder)
    count = len(series.paths)
    _check(count * series.shape[0] * series.shape[1])
    first = crops.to_lps(series.read_slice(0))
    planes = (np.asarray(crops.to_lps(series.read_slice(index)).dataobj)[..., 0] for index in range(count))
    return planes, _geometry(first, [float(z) for z in series.origins[:, 2]])


def _nifti(path: Path) -> tuple[Planes, dict[str, Any]]:
    """Slices (columns, rows), and geometry, of a NIfTI file."""
    with reading(path):
        image = crops.volume(path, None, False)
        _check(math.prod(int(side) for side in image.shape))
        crops.axial_axis(path, image)
        image = crops.to_lps(image)
        values = np.asanyarray(image.dataobj)
        if not np.isfinite(values).any():
            raise ImageError(path, "values not finite", "expected HU. Export it again.")
    bottom, step = float(image.affine[2, 3]), float(image.affine[2, 2])
    planes = (values[..., index] for index in range(values.shape[2]))
    return planes, _geometry(image, [bottom + step * index for index in range(values.shape[2])])


def _geometry(image: nib.Nifti1Image, heights: list[float]) -> dict[str, Any]:
    """Of an image whose axes run to the patient's left, back and head."""
    sides = np.linalg.norm(image.affine[:3, :3], axis=0)
    return {
        "shape": [int(image.shape[0]), int(image.shape[1]), len(heights)],
        "spacing": [round(float(side), 5) for side in sides],
        "origin": [round(-float(image.affine[0, 3]), 4), round(-float(image.affine[1, 3]), 4)],
        "heights": [round(height, 4) for height in heights],
    }


def _check(voxels: int) -> None:
    if voxels > MOST_VOXELS:
        raise Refusal(422, f"The scan has more than {MOST_VOXELS >> 20} million voxels. Export the chest alone.")


def main(folder: str, memory: str) -> None:
    """Prints :func:`read` as a JSON object; what is refused leaves nothing that was unpacked."""
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    told = read(Path(folder))
    if told["refused"]:
        shutil.rmtree(Path(folder) / SERIES, ignore_errors=True)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
