"""The padded part of crops: pixels that no image fills, mirrored or air, since the image ends before the crop does.

A datalist says under ``unpadded``, for each crop that has such a part, which part has none: first and end along array
axis 0, first and end along axis 1. From it comes a mask that goes with the crop through rotation and cropping. Where a
crop is a target, its padded pixels become NaN, which losses and errors leave out, as they do unknown outcomes. Without
``unpadded`` there is no mask, and everything is as if there were no padding.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

WHOLLY = 0.999
"""Share of a rotated pixel that must not be padded; rotation is bilinear."""


def box_key(key: Hashable) -> str:
    """Key of an item under which the unpadded part of the crop ``key`` stands, None where that is all of it."""
    return f"{key}_unpadded"


def real_key(key: Hashable) -> str:
    """Key of an item or a batch under which the mask of ``key`` stands: True where it is not padded."""
    return f"{key}_real"


def boxes(datalist: Mapping[str, Any], crops: Mapping[str, str]) -> dict[str, list[int] | None]:
    """What an item says of its crops' unpadded parts, by :func:`box_key`; nothing where no crop of a set is padded.

    >>> boxes({"unpadded": {"a.nii.gz": [0, 64, 9, 55]}}, {"image": "a.nii.gz"})
    {'image_unpadded': [0, 64, 9, 55]}
    """
    unpadded = datalist.get("unpadded")
    return {box_key(key): unpadded.get(crop) for key, crop in crops.items()} if unpadded else {}


def mask(box: Iterable[int] | None, like: Tensor) -> Tensor:
    """Of an image (1, H, W): 1 where it is not padded, else 0."""
    import torch

    first, end, left, right = box or (0, like.shape[1], 0, like.shape[2])
    real = torch.zeros(1, *like.shape[1:])
    real[:, first:end, left:right] = 1.0
    return real


def joined(item: Mapping[Hashable, Any], keys: Iterable[Hashable]) -> dict[Hashable, Any]:
    """The item with each mask as a second channel of its image, so that both are transformed alike."""
    import torch
    from monai.data import MetaTensor

    both = dict(item)
    for key in keys:
        if real_key(key) in both:
            image, real = both[key], both.pop(real_key(key))
            both[key] = MetaTensor(torch.cat([image.as_tensor(), real.float()]), meta=image.meta)
    return both


def separated(item: Mapping[Hashable, Any], keys: Iterable[Hashable]) -> dict[Hashable, Any]:
    """The inverse of :func:`joined`, masks as booleans."""
    apart = dict(item)
    for key in keys:
        if key in apart and len(apart[key]) == 2:
            image = apart[key]
            apart[key], apart[real_key(key)] = image[:1], image.as_tensor()[1:] >= WHOLLY
    return apart


def without_padding(target: Tensor, batch: Mapping[str, Any], key: str) -> Tensor:
    """A target (B, C, H, W) with NaN where the batch's ``key`` is padded."""
    real = batch.get(real_key(key))
    return target if real is None else target.masked_fill(~real.to(target.device), float("nan"))
