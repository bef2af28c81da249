"""The padded part of a dataset's crops: how much of it there is, by the datalist's ``unpadded``.

A crop is padded where its image ends before it does: mirrored if the image is a crop already, filled with air beyond
the edge of a scan (see :func:`data_prep.images.crops.cut`). ``unpadded`` has, for each such crop, what is not: first
and end along array axis 0, first and end along axis 1. The bundle leaves the rest out of losses and errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FIELD = 64
"""Pixels a side of a crop's middle that models see, unless ``image_size`` says otherwise."""

Box = list[int]


@dataclass(frozen=True)
class Padding:
    """Of some crops: how many there are, how many are padded, and how many within the middle that models see."""

    crops: int
    padded: int
    seen: int

    def __str__(self) -> str:
        return f"{self.padded} of {self.crops}, {self.seen} of them within the {FIELD} pixels in the middle"


def crops_of(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """The crops that cases of a datalist name, each once."""
    return list(dict.fromkeys(case[key] for case in cases for key in ("baseline", "follow_up", "image") if key in case))


def padding(datalist: Mapping[str, Any], *sections: str) -> Padding:
    """Of the crops in some sections of a datalist."""
    crops = crops_of(case for section in sections for case in datalist.get(section, []))
    found = [box for crop in crops if (box := datalist.get("unpadded", {}).get(crop))]
    return Padding(len(crops), len(found), sum(within_field(box, datalist["crop_size"]) for box in found))


def within_field(unpadded: Box, size: int) -> bool:
    """Whether there is padding within the middle of a crop."""
    first = size // 2 - min(FIELD, size) // 2
    low, high, left, right = unpadded
    return max(low, left) > first or min(high, right) < first + min(FIELD, size)


def possible(box: Any, size: Any) -> bool:
    """Whether something is a part of a crop about its middle."""
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(each, int) for each in (*box, size)):
        return False
    return all(0 <= first <= size // 2 < end <= size for first, end in (box[:2], box[2:]))
