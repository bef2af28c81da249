"""Transforms of crops: scaling from HU and back, rotation, cropping, marking synthetic images."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import reduce
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

from scripts.data.datalist import DatalistError, pairs, refuse_unfinite
from scripts.data.padding import box_key, joined, mask, real_key, separated
from scripts.errors import UserError

HU_WINDOW = (-1000.0, 400.0)
"""The HU window that is scaled to [-1, 1]; the authors use it for one of their datasets."""

HU_PER_UNIT = (HU_WINDOW[1] - HU_WINDOW[0]) / 2.0
"""HU per unit of the scaled images."""

MARK = "SYNTHETIC follow-up by NAMD, research use only"
"""Text in the field ``descrip`` of every generated image's NIfTI header and meta data."""

ROTATIONS = (0, 45, 90, 135, 180)
"""Rotations of augmentation in degrees; baseline and follow-up are rotated alike (Appendix B)."""


def to_hu(images: Any) -> Any:
    """Images in [-1, 1] as HU; arrays and tensors alike.

    >>> to_hu(np.array([-1.0, 0.0, 1.0]))
    array([-1000., -300., 400.])
    """
    low, high = HU_WINDOW
    return (images + 1.0) * (0.5 * (high - low)) + low


def from_hu(hu: Any) -> Any:
    """HU as images in [-1, 1], clipped to :data:`HU_WINDOW`; inside the window the inverse of :func:`to_hu`.

    >>> from_hu(np.array([-2000.0, -300.0, 400.0]))
    array([-1., 0., 1.])
    """
    low, high = HU_WINDOW
    return ((hu - low) * (2.0 / (high - low)) - 1.0).clip(-1.0, 1.0)


def preprocessing(
    keys: Sequence[str],
    image_size: int | None = None,
    rotations: Sequence[int] = (0,),
    augmentation: Sequence[Callable[[Any], Any]] = (),
) -> Compose:
    """The transform of MONAI items that loads crops, scales the HU window to [-1, 1], rotates and crops them.

    Rotation comes before cropping, so that a crop larger than ``image_size`` has no empty corners after 45 degrees.

    Args:
        keys: entries of the items that hold paths of NIfTI crops.
        image_size: side in pixels of the central square that is kept; None keeps the whole crop.
        rotations: degrees; of several, one is drawn for all keys of an item. All are made first, which a
            ``CacheDataset`` does once.
        augmentation: further transforms, applied to the cropped items.

    Returns:
        Items with each key as (1, image_size, image_size) float32 in [-1, 1], its geometry in the meta data, and its
        mask where the item says what of it is padded (see :mod:`scripts.data.padding`). The transform raises a
        DatalistError for a crop that is smaller, or has values that are not finite.
    """
    low, high = HU_WINDOW
    takes = [TakeViewd(keys, index) for index in range(len(rotations))]
    return Compose(
        [
            LoadImaged(keys, reader="NibabelReader", image_only=True),
            RefuseUnfinited(keys),
            EnsureChannelFirstd(keys, channel_dim="no_channel"),
            SqueezeDimd(keys, dim=-1),
            ScaleIntensityRanged(keys, a_min=low, a_max=high, b_min=-1.0, b_max=1.0, clip=True),
            MaskPaddingd(keys),
            Rotationsd(keys, rotations, image_size),
            takes[0] if len(takes) == 1 else OneOf(takes),
            *augmentation,
            EnsureTyped(keys, dtype=torch.float32),
        ]
    )


class RefuseUnfinited(MapTransform):
    """Refuses crops that hold NaN or infinite values, by their file's name."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            refuse_unfinite(item[key].meta["filename_or_obj"], np.asarray(item[key]))
        return item


class MaskPaddingd(MapTransform):
    """Makes the mask of each key of which the item says what is padded."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            if box_key(key) in item:
                item[real_key(key)] = mask(item.pop(box_key(key)), item[key])
        return item


class CentralSquared(CenterSpatialCropd):
    """Takes the central square of crops (1, H, W); smaller ones, which MONAI would leave as they are, are refused.

    Args:
        image_size: the square's side in pixels.
    """

    def __init__(self, keys: Sequence[str], image_size: int) -> None:
        if image_size < 1:
            raise UserError(f"image_size is {image_size}, expected 1 or more pixels.")
        super().__init__(keys, roi_size=(image_size, image_size))
        self.image_size = image_size

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            if min(size := tuple(data[key].shape[1:])) < self.image_size:
                raise DatalistError(
                    f"{data[key].meta['filename_or_obj']}: has {size[0]} x {size[1]} px, fewer than image_size, which "
                    f"is {self.image_size}. Give a smaller image_size, or cut larger crops."
                )
        return super().__call__(data, lazy)


class Rotationsd(MapTransform):
    """Replaces each key, and its mask, by the list of its rotations, each cropped to the central square.

    Args:
        rotations: degrees.
        image_size: the square's side in pixels; None keeps the whole crop.
    """

    def __init__(self, keys: Sequence[str], rotations: Sequence[int], image_size: int | None) -> None:
        super().__init__(keys)
        square = [] if image_size is None else [CentralSquared(keys, image_size)]
        self.chains = [[rotation(keys, angle), *square] for angle in rotations]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        both = joined(data, self.keys)
        turned = [reduce(lambda item, transform: transform(item), chain, both) for chain in self.chains]
        made = [separated(item, self.keys) for item in turned]
        names = [name for key in self.keys for name in (key, real_key(key)) if name in made[0]]
        return {**data, **{name: [item[name] for item in made] for name in names}}


class TakeViewd(MapTransform):
    """Takes one of the views that :class:`Rotationsd` made of each key and its mask, by its place."""

    def __init__(self, keys: Sequence[str], index: int) -> None:
        super().__init__(keys)
        self.index = index

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        names = [name for key in self.keys for name in (key, real_key(key)) if name in data]
        return {**data, **{name: data[name][self.index] for name in names}}


class MarkSyntheticd(MapTransform):
    """Writes :data:`MARK` into the meta data of each key, in place of what is there."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = MetaTensor(item[key], meta={"descrip": MARK})
        return item


def postprocessing(keys: Sequence[str]) -> Compose:
    """The transform of generated follow-ups from [-1, 1] to HU, with the mark of synthetic images."""
    low, high = HU_WINDOW
    return Compose([ScaleIntensityRanged(keys, a_min=-1.0, a_max=1.0, b_min=low, b_max=high), MarkSyntheticd(keys)])


def rotation(keys: Sequence[str], degrees: int) -> Rotated | Identityd:
    """The transform that rotates all keys about the centre: bilinear, size kept; the identity for 0 degrees."""
    if degrees == 0:
        return Identityd(keys)
    return Rotated(keys, angle=math.radians(degrees), keep_size=True, mode="bilinear", padding_mode="border")


def baseline_crops(dataset_dir: str | Path, section: str, image_size: int) -> NDArray[np.float32]:
    """The baseline crops of a section, (cases, 1, image_size, image_size) in [-1, 1], in the datalist's order."""
    load = preprocessing(["baseline"], image_size)
    crops = [np.asarray(load({"baseline": item["baseline"]})["baseline"]) for item in pairs(dataset_dir, section)]
    return np.stack(crops) if crops else np.empty((0, 1, image_size, image_size), dtype=np.float32)
