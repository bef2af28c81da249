"""Digests by which a dataset, or a case of it, is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scripts.data.datalist import DatalistError, load_datalist
from scripts.data.transforms import HU_WINDOW


def digest_dataset(dataset_dir: str | Path) -> str:
    """SHA-256 of a dataset folder: the content of its datalist, and every crop that the datalist names.

    The truth of simulated cases, which no model reads, has no effect.

    Raises:
        DatalistError: no datalist, a malformed one, or a crop that is not there.
    """
    folder, datalist = Path(dataset_dir), load_datalist(dataset_dir)
    digest = hashlib.sha256(json.dumps(_read_by_models(datalist), sort_keys=True).encode())
    for crop in sorted(set(_crops(datalist))):
        try:
            digest.update(crop.encode() + (folder / crop).read_bytes())
        except OSError as error:
            raise DatalistError(
                f"{folder / crop}: {folder / 'datalist.json'} names this crop, but it cannot be read "
                f"({error.strerror}). Copy the dataset again, whole."
            ) from error
    return digest.hexdigest()


def _read_by_models(datalist: Mapping[str, Any]) -> dict[str, Any]:
    """The datalist without the truth of its cases."""

    def without(case: Any) -> Any:
        return {key: value for key, value in case.items() if key != "truth"} if isinstance(case, dict) else case

    return {key: [*map(without, value)] if isinstance(value, list) else value for key, value in datalist.items()}


def digest_case(baseline: str | Path, report: str) -> str:
    """SHA-256 of what a prediction is made from: the baseline crop's file and the report."""
    return hashlib.sha256(Path(baseline).read_bytes() + report.encode()).hexdigest()


def digest_crop(path: str | Path, image_size: int) -> str:
    """The first 32 digits of the SHA-256 of a crop's pixels, by which it is known under any name, in any dataset.

    The pixels are those that a network sees: the central square, in whole HU inside the HU window. Neither file name
    nor header has any effect, and no pixel can be told from the digest.

    Args:
        image_size: side of the square in pixels; of a smaller crop, all of it.
    """
    pixels = np.asanyarray(nib.load(path).dataobj, dtype=np.float32).squeeze()  # type: ignore[attr-defined]
    corners = [max(0, side // 2 - image_size // 2) for side in pixels.shape]  # as MONAI's CenterSpatialCrop
    square = pixels[tuple(slice(corner, corner + image_size) for corner in corners)]
    whole = np.clip(np.rint(square), *HU_WINDOW).astype("<i2")
    return hashlib.sha256(repr(whole.shape).encode() + whole.tobytes()).hexdigest()[:32]


def crops_of(entry: Mapping[str, Any]) -> list[str]:
    """The crops of a datalist's entry, as they stand there."""
    return [entry[key] for key in ("baseline", "follow_up", "image") if key in entry]


def _crops(datalist: Mapping[str, Any]) -> Iterator[str]:
    """The crops of all sections, as they stand in the datalist."""
    for section in datalist.values():
        for entry in section if isinstance(section, list) else ():
            yield from crops_of(entry)
