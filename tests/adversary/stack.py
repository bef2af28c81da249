"""What can happen to the slices of a series: where they are, how they are numbered, which are there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np

from tests.adversary.corruption import corrupts
from tests.adversary.scans import Series, other, position, set_tags
from tests.adversary.writer import Raw

BOTH = ("series", "place")
UNKNOWN = ("incomplete series", "series not shown to be whole", "ambiguous InstanceNumber")


@corrupts(*BOTH, facet="stack", refused="missing slices")
def slices_missing_inside(series: Series, rng: Random) -> None:
    first = rng.randint(1, len(series.slices) - 3)
    del series.slices[first : first + rng.randint(1, 2)]


@corrupts("place", facet="stack", refused=UNKNOWN)
@corrupts("series", facet="stack")
def lowest_slices_missing(series: Series, rng: Random) -> None:
    del series.slices[: rng.randint(1, 2)]


@corrupts("place", facet="stack", not_read=UNKNOWN)
@corrupts("series", facet="stack")
def highest_slices_missing(series: Series, rng: Random) -> None:
    del series.slices[-rng.randint(1, 2) :]


@corrupts("place", facet="stack", refused=UNKNOWN)
def slices_missing_at_instance_one(series: Series, rng: Random) -> None:
    ordered = sorted(series.slices, key=lambda each: each.tags["InstanceNumber"])
    for each in ordered[: rng.randint(1, 2)]:
        series.slices.remove(each)


@corrupts("series", facet="stack, instance, orientation, spacing, matrix, series, thickness")
def one_slice_alone(series: Series, rng: Random) -> None:
    series.slices[:] = [series.nodule]


@corrupts(*BOTH, facet="stack, bytes", refused="duplicate slices")
def two_slices_at_one_place(series: Series, rng: Random) -> None:
    number = rng.randrange(1, len(series.slices))
    place = series.slices[number - 1].tags["ImagePositionPatient"]
    set_tags(series.slices[number], ImagePositionPatient=place)


@corrupts(*BOTH, facet="stack", refused=("mixed slice spacing", "missing slices"))
def slices_unevenly_spaced(series: Series, rng: Random) -> None:
    moved, step = rng.choice(series.slices[1:-1]), float(series.truth.spacing[2])
    x, y, z = moved.tags["ImagePositionPatient"]
    set_tags(moved, ImagePositionPatient=(x, y, z + rng.choice((-0.4, 0.4)) * step))


@corrupts(*BOTH, facet="stack", refused="gantry tilt")
def slices_sheared(series: Series, rng: Random) -> None:
    for number, each in enumerate(series.slices):
        x, y, z = each.tags["ImagePositionPatient"]
        set_tags(each, ImagePositionPatient=(x, y + 0.3 * number, z))


@corrupts("series", facet="stack")
def positions_rounded_to_tenths(series: Series, rng: Random) -> None:
    for each in series.slices:
        rounded = tuple(round(value, 1) for value in each.tags["ImagePositionPatient"])
        set_tags(each, ImagePositionPatient=rounded)


@corrupts(*BOTH, facet="stack, acquisition, instance", refused=("several acquisitions", "missing slices", "mixed"))
def two_breaths_interleaved(series: Series, rng: Random) -> None:
    second, half = other(series.truth, rng), series.truth.spacing[2] / 2
    for number, each in enumerate([*series.slices]):
        x, y, z = position(series.truth, number)
        tags = {**each.tags, "AcquisitionNumber": 2, "ImagePositionPatient": (x, y, z + float(half))}
        tags |= {"InstanceNumber": each.tags["InstanceNumber"] + 100, "SOPInstanceUID": f"{tags['SOPInstanceUID']}.2"}
        series.slices.append(replace(each, hu=second.hu[number], tags=tags, name=f"second {each.name}"))


@corrupts(*BOTH, facet="acquisition")
def an_acquisition_number_for_each_slice(series: Series, rng: Random) -> None:
    for number, each in enumerate(series.slices):
        set_tags(each, AcquisitionNumber=number + 1)


@corrupts(*BOTH, facet="acquisition")
def no_acquisition_number(series: Series, rng: Random) -> None:
    series.tag(AcquisitionNumber=None)


@corrupts("place", facet="instance", refused=UNKNOWN)
@corrupts("series", facet="instance")
def no_instance_numbers(series: Series, rng: Random) -> None:
    series.tag(InstanceNumber=rng.choice((None, "")))
    series.instances = float("nan")


@corrupts("place", facet="instance", refused=UNKNOWN)
@corrupts("series", facet="instance")
def one_instance_number_on_two_slices(series: Series, rng: Random) -> None:
    first, second = rng.sample(series.slices, 2)
    set_tags(first, InstanceNumber=second.tags["InstanceNumber"])
    series.instances = float("nan")


@corrupts("series", facet="instance")
def instance_numbers_shuffled(series: Series, rng: Random) -> None:
    """In none that several acquisitions could have."""
    numbers = list(range(1, len(series.slices) + 1))
    steps = [2]
    while Counter(steps).most_common(1)[0][1] > len(steps) / 2:
        rng.shuffle(numbers)
        places = [numbers.index(number) for number in sorted(numbers)]
        steps = [abs(second - first) for first, second in zip(places, places[1:], strict=False)]
    for each, number in zip(series.slices, numbers, strict=True):
        set_tags(each, InstanceNumber=number)


@corrupts(*BOTH, facet="location")
def slice_locations_that_lie(series: Series, rng: Random) -> None:
    for each in series.slices:
        set_tags(each, SliceLocation=rng.choice(("0", "", "17.5", "-3.25")))


@corrupts(*BOTH, facet="orientation", refused="non-axial")
def coronal_slices(series: Series, rng: Random) -> None:
    series.tag(ImageOrientationPatient=rng.choice(((1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1))))


@corrupts(*BOTH, facet="orientation", refused="gantry tilt")
def tilted_slices(series: Series, rng: Random) -> None:
    angle = np.radians(rng.uniform(2, 25))
    series.tag(ImageOrientationPatient=(1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))))


@corrupts(*BOTH, facet="orientation", refused="rotated")
def slices_rotated_in_plane(series: Series, rng: Random) -> None:
    sine = float(np.sin(np.radians(rng.uniform(2, 40))))
    cosine = float(np.sqrt(1 - sine**2))
    series.tag(ImageOrientationPatient=(cosine, sine, 0, -sine, cosine, 0))


@corrupts(*BOTH, facet="orientation", refused=("missing", "malformed", "mixed", "non-axial", "rotated", "unreadable"))
def an_orientation_that_is_none(series: Series, rng: Random) -> None:
    spoiled = rng.choice(
        ((0, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0), (2, 0, 0, 0, 2, 0), (1, 0, 0, 0, 1), (1, 0, 0, 0.5, 1, 0))
    )
    series.tag(ImageOrientationPatient=spoiled)


@corrupts(*BOTH, facet="orientation", refused="mixed ImageOrientationPatient")
def one_slice_turned(series: Series, rng: Random) -> None:
    set_tags(rng.choice(series.slices), ImageOrientationPatient=(-1, 0, 0, 0, -1, 0))


@corrupts(*BOTH, facet="position", refused=("missing ImagePositionPatient", "malformed", "unreadable header"))
def a_position_that_is_none(series: Series, rng: Random) -> None:
    spoiled = rng.choice((None, "", (1.0, 2.0), ("nan", "nan", "nan"), ("1,5", "2,5", "3,5"), Raw("DS", b"inf\\0\\0 ")))
    set_tags(rng.choice(series.slices), ImagePositionPatient=spoiled)


@corrupts("series", facet="point", refused="nodule outside the scan")
def a_nodule_outside(series: Series, rng: Random) -> None:
    beyond = series.truth.spacing * series.truth.hu.shape[::-1]
    axis = rng.randrange(3)
    moved = list(series.truth.centre or ())
    moved[axis] = float(series.truth.origin[axis] + rng.choice((-0.3, 1.3)) * beyond[axis])
    series.truth.centre = (moved[0], moved[1], moved[2])


@corrupts("series", facet="point", refused="no x, y, z")
def a_series_without_a_point(series: Series, rng: Random) -> None:
    series.truth.centre = None


@corrupts("place", facet="point", refused="nodule outside the scan")
def a_slice_number_outside(series: Series, rng: Random) -> None:
    series.count = rng.choice((-1.0, 0.0 - 20, len(series.truth.hu) + 1.0, 999.0))


@corrupts("place", facet="point, instance, stack")
def a_nodule_given_by_instance_number(series: Series, rng: Random) -> None:
    series.number = "instance"
    series.count = float(series.nodule.tags["InstanceNumber"])
