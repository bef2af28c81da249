"""The spacing of a dataset's pixels: one for all crops, so that what changes between two of them is the nodule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from data_prep.errors import DataError
from data_prep.schema import SECTIONS
from scripts.errors import listed

PIXEL_MM = 0.5
"""mm between pixels unless another spacing is chosen: that of the weights in ``bundle/models``. A spacing that followed
from the scans would be another one with every scan that is added, and at every site."""

RANGE = (0.1, 5.0)
"""mm that can be chosen."""

NONE = "none"
"""What keeps each scanner's own."""

SAME = 1e-3
"""Relative difference up to which pixels are as large as they should be, and are left as they are."""

UNEQUAL = 0.01
"""Relative difference of two times' pixels above which a nodule of 20 mm would seem to grow by 0.2 mm."""

Sizes = Mapping[str, tuple[float, float]]
"""Of each crop, mm between pixels along both axes."""


def spacing_of(text: str) -> float | None:
    """The spacing that an option names, mm; None: each scanner's own.

    Raises:
        DataError: it names none.

    >>> spacing_of("0.7"), spacing_of("none")
    (0.7, None)
    """
    if text.strip().lower() == NONE:
        return None
    try:
        spacing = float(text)
    except ValueError:
        spacing = math.nan
    if not RANGE[0] <= spacing <= RANGE[1]:
        raise DataError(
            f"--spacing {text}: expected mm between pixels, {RANGE[0]:g} to {RANGE[1]:g}, or {NONE}, which keeps each "
            "scanner's own."
        )
    return spacing


def other_pixels(datalist: Mapping[str, Any], sizes: Sizes) -> list[str]:
    """What is wrong with a dataset whose crops have other pixels than its ``pixel_mm`` says; older ones say nothing."""
    said = datalist.get("pixel_mm")
    if said is None:
        return []
    if not isinstance(said, int | float) or said <= 0:
        return [f"pixel_mm is {said!r}; expected mm, or null where each scanner's own were kept."]
    odd = [file for file, mm in sizes.items() if any(abs(each - said) > SAME * said for each in mm)]
    text = f"{len(odd)} of {len(sizes)} crops have other pixels than pixel_mm says, {said:g} mm ({listed(odd)})."
    return [text] if odd else []


def unequal_pixels(datalist: Mapping[str, Any], sizes: Sizes) -> list[str]:
    """A line on pairs in which pixels are of another size at the second time, where there are such."""
    pairs = [(case.get("baseline"), case.get("follow_up")) for name in SECTIONS for case in datalist.get(name, [])]
    both = [pair for pair in pairs if set(pair) <= set(sizes)]
    ratios = [sizes[second][0] / sizes[first][0] for first, second in both]
    odd = [ratio for ratio in ratios if abs(ratio - 1) > UNEQUAL]
    if not odd:
        return []
    return [
        f"in {len(odd)} of {len(ratios)} pairs the follow-up's pixels are of another size than the baseline's, "
        f"{min(odd):.2f} to {max(odd):.2f} times as large: in pixels, unchanged nodules seem to shrink or to grow. "
        "`python -m data_prep cohort` makes all of one size."
    ]
