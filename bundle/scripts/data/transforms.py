"""Transforms of crops: HU and back, rotation, crop, the mark of what is synthetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Identityd,
    LoadImaged,
    MapTransform,
    OneOf,
    Rotated,
    ScaleIntensityRanged,
    SqueezeDimd,
)
from numpy.typing import NDArray

from scripts.data.datalist import pairs

HU_WINDOW = (-1000.0, 400.0)
"""The window that is scaled to [-1, 1] (NLST: the authors' choice for one of their sets)."""

HU_PER_UNIT = (HU_WINDOW[1] - HU_WINDOW[0]) / 2.0
"""HU that a difference of 1 in the scaled images stands for."""

MARK = "SYNTHETIC follow-up by NAMD, research use only"
"""Stands in the NIfTI header's ``descrip`` field, and in the meta data's, of everything generated."""

ROTATIONS = (0, 45, 90, 135, 180)
"""Degrees; augmentation turns baseline and follow-up together (Appendix B)."""


def to_hu(images: Any) -> Any:
    """[-1, 1] back to HU; arrays and tensors alike."""
    low, high = HU_WINDOW
    return (images + 1.0) * (0.5 * (high - low)) + low


def from_hu(hu: Any) -> Any:
    """HU to [-1, 1], clipped to the window; the inverse of :func:`to_hu` inside it."""
    low, high = HU_WINDOW
    return ((hu - low) * (2.0 / (high - low)) - 1.0).clip(-1.0, 1.0)


def preprocessing(
    keys: Sequence[str],
    image_size: int | None = None,
    rotations: Sequence[int] = (0,),
    augmentation: Sequence[Callable[[Any], Any]] = (),
) -> Compose:
    """Load, window and crop; with more than one rotation, one of them is drawn for all keys together.

    Cropping comes after rotation, so that a 45 degree turn of a larger crop brings no empty corners.

    Args:
        image_size: pixels a side of what is left; None leaves the crops whole.
        augmentation: further transforms of the cropped items.

    Returns:
        Items with each key as (1, image_size, image_size) float32 in [-1, 1], its geometry in the meta data.
    """
    low, high = HU_WINDOW
    turns = [rotation(keys, angle) for angle in rotations]
    return Compose(
        [
            LoadImaged(keys, reader="NibabelReader", image_only=True),
            EnsureChannelFirstd(keys, channel_dim="no_channel"),
            SqueezeDimd(keys, dim=-1),
            ScaleIntensityRanged(keys, a_min=low, a_max=high, b_min=-1.0, b_max=1.0, clip=True),
            turns[0] if len(turns) == 1 else OneOf(turns),
            Identityd(keys) if image_size is None else centre(keys, image_size),
            *augmentation,
            EnsureTyped(keys, dtype=torch.float32),
        ]
    )


class MarkSyntheticd(MapTransform):
    """Says in the meta data of each key that it was generated."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = MetaTensor(item[key], meta={"descrip": MARK})
        return item


def postprocessing(keys: Sequence[str]) -> Compose:
    """Generated follow-ups from [-1, 1] to HU, marked as synthetic."""
    low, high = HU_WINDOW
    return Compose([ScaleIntensityRanged(keys, a_min=-1.0, a_max=1.0, b_min=low, b_max=high), MarkSyntheticd(keys)])


def centre(keys: Sequence[str], image_size: int) -> CenterSpatialCropd:
    """The central square of ``image_size`` pixels a side."""
    return CenterSpatialCropd(keys, roi_size=(image_size, image_size))


def rotation(keys: Sequence[str], degrees: int) -> Rotated | Identityd:
    """A turn of all keys by the same angle about the centre, size kept, bilinear; none for 0 degrees."""
    if degrees == 0:
        return Identityd(keys)
    return Rotated(keys, angle=math.radians(degrees), keep_size=True, mode="bilinear", padding_mode="border")


def baseline_crops(dataset_dir: str | Path, section: str, image_size: int) -> NDArray[np.float32]:
    """The baseline crops of a section, (cases, 1, image_size, image_size) in [-1, 1], in the datalist's order."""
    load = preprocessing(["baseline"], image_size)
    crops = [np.asarray(load({"baseline": item["baseline"]})["baseline"]) for item in pairs(dataset_dir, section)]
    return np.stack(crops) if crops else np.empty((0, 1, image_size, image_size), dtype=np.float32)
