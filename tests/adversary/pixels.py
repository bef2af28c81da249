"""What can happen to the values of a series."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.adversary.corruption import corrupts
from tests.adversary.scans import AIR, Series, set_tags
from tests.adversary.writer import Raw


@corrupts("series", facet="rescale")
def another_slope_and_intercept(series: Series, rng: Random) -> None:
    for each in series.slices:
        each.slope, each.intercept = 2.0, float(rng.choice((-1024, -2048, -1000)))
        set_tags(each, RescaleSlope="2", RescaleIntercept=f"{each.intercept:g}")


@corrupts("series", facet="rescale", refused=("missing Rescale", "malformed", "unreadable header"))
def a_rescale_that_is_none(series: Series, rng: Random) -> None:
    tag = rng.choice(("RescaleSlope", "RescaleIntercept"))
    set_tags(rng.choice(series.slices), **{tag: rng.choice((None, "", "one", "1,0", "nan", ("1", "2")))})


@corrupts("series", facet="rescale", refused=("malformed", "missing", "no HU"))
def a_slope_of_zero(series: Series, rng: Random) -> None:
    series.tag(RescaleSlope="0")


@corrupts("series", facet="rescale")
def signed_values(series: Series, rng: Random) -> None:
    series.tag(PixelRepresentation=1, RescaleIntercept="0")
    for each in series.slices:
        each.intercept = 0.0


@corrupts("series", facet="rescale")
def twelve_bits_with_something_above_them(series: Series, rng: Random) -> None:
    """Overlays of old scanners lie in the bits above HighBit, which do not belong to the value (PS3.5, 8.1.1)."""
    series.tag(BitsStored=12, HighBit=11)
    for each in series.slices:
        each.change = _with_high_bits(rng.getrandbits(32))


@corrupts("series", facet="rescale")
def twelve_signed_bits(series: Series, rng: Random) -> None:
    """The sign is that of the highest stored bit, whatever is above it."""
    series.tag(PixelRepresentation=1, RescaleIntercept="0", BitsStored=12, HighBit=11)
    for each in series.slices:
        each.intercept, each.change = 0.0, _twelve_bits


@corrupts("series", facet="rescale")
def padding_outside_the_field_of_view(series: Series, rng: Random) -> None:
    """What PixelPaddingValue and its range limit name was not measured; it is as air."""
    value, limit = rng.choice(((63536, None), (63536, 63550), (63550, 63536), (0, None), (40000, 40000)))
    series.tag(PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
    _pad(series, value if limit is None else rng.randint(min(value, limit), max(value, limit)))


@corrupts("series", facet="rescale")
def signed_padding(series: Series, rng: Random) -> None:
    series.tag(
        PixelRepresentation=1,
        RescaleIntercept="0",
        PixelPaddingValue=Raw("SS", (-2000).to_bytes(2, "little", signed=True)),
    )
    for each in series.slices:
        each.intercept = 0.0
    _pad(series, -2000)


@corrupts("series", facet="rescale", refused="not HU")
def an_intercept_for_values_that_are_HU(series: Series, rng: Random) -> None:
    """The rescale of the original, kept by a tool that stored HU."""
    series.tag(PixelRepresentation=1)
    for each in series.slices:
        each.intercept = 0.0


@corrupts("series", facet="rescale", refused="not HU")
def padding_that_is_not_told(series: Series, rng: Random) -> None:
    _pad(series, 63536)


@corrupts("series", facet="colour")
def values_that_are_shown_inverted(series: Series, rng: Random) -> None:
    """MONOCHROME1 is how values are shown; HU are what the rescale makes of them."""
    series.tag(PhotometricInterpretation="MONOCHROME1")


@corrupts(
    "series",
    facet="colour, rescale, matrix",
    refused=("not CT", "not greyscale", "coarse HU", "malformed", "unreadable pixels", "truncated file"),
)
def colours(series: Series, rng: Random) -> None:
    series.tag(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8, BitsStored=8)
    series.tag(HighBit=7, RescaleSlope="1")
    for each in series.slices:
        each.change = lambda stored: np.repeat(stored, 3, axis=1) // 2


@corrupts("series", facet="colour", refused=("no pixels", "unreadable pixels", "missing", "truncated file"))
def no_pixels(series: Series, rng: Random) -> None:
    for each in series.slices:
        each.tags["no pixels"] = True


@corrupts("series", "nifti", "metaimage", facet="earlier")
def the_place_of_another_scan(image: Any, rng: Random) -> None:
    """An earlier dataset was made of other pixels in files of the same names and sizes, newer than these."""
    image.earlier = True


def _with_high_bits(seed: int) -> Any:
    def change(stored: NDArray[Any]) -> NDArray[Any]:
        return stored | np.random.default_rng(seed).integers(0, 16, stored.shape) << 12

    return change


def _twelve_bits(stored: NDArray[Any]) -> NDArray[Any]:
    return stored & 0x0FFF


def _pad(series: Series, value: int) -> None:
    """Sets what lies farther from the nodule than some pixels to a stored value, and the truth there to air."""
    column, row, _ = series.truth.voxel
    rows, columns = series.truth.hu.shape[1:]
    y, x = np.ogrid[:rows, :columns]
    outside = (x - column) ** 2 + (y - row) ** 2 > 100
    series.truth.hu = np.where(outside, AIR, series.truth.hu).astype(np.int16)
    for each in series.slices:
        each.hu = np.where(outside[: len(each.hu)], value + each.intercept, each.hu)


@corrupts("series", facet="orientation, position, spacing, matrix")
def rows_that_run_another_way(series: Series, rng: Random) -> None:
    """Prone, feet first, on the side: whatever the direction of rows and columns, the tags say it."""
    swapped, left, up = rng.random() < 0.5, rng.choice((1, -1)), rng.choice((1, -1))
    rows, columns = series.truth.hu.shape[1:]
    along = {"x": (left, 0, 0), "y": (0, up, 0)}
    first, second = ("y", "x") if swapped else ("x", "y")
    x_mm, y_mm = (float(value) for value in series.truth.spacing[:2])
    corner = np.array([(columns - 1) * x_mm * (left < 0), (rows - 1) * y_mm * (up < 0), 0.0])
    for each in series.slices:
        here = each.hu[::up, ::left]
        each.hu = here.T if swapped else here
        moved = np.array(each.tags["ImagePositionPatient"]) + corner
        set_tags(
            each,
            ImagePositionPatient=tuple(float(value) for value in moved),
            ImageOrientationPatient=(*along[first], *along[second]),
            PixelSpacing=(x_mm, y_mm) if swapped else (y_mm, x_mm),
            Rows=each.hu.shape[0],
            Columns=each.hu.shape[1],
        )
