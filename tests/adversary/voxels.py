"""What can happen to NIfTI and MetaImage files."""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import product
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.adversary.corruption import corrupts
from tests.adversary.scans import AIR, SECRETS
from tests.adversary.volumes import Volume

BOTH = ("nifti", "metaimage")


@corrupts(*BOTH, facet="type")
def another_type_of_numbers(volume: Volume, rng: Random) -> None:
    volume.kind, volume.order = rng.choice(("i4", "f4", "f8", "i2")), rng.choice("<>")


@corrupts("nifti", facet="type")
def a_scale_in_the_header(volume: Volume, rng: Random) -> None:
    """HU are what the header's slope and intercept make of what is stored."""
    volume.kind, volume.slope, volume.intercept = rng.choice(
        (("u2", 2.0, -1024.0), ("i2", 1.0, -1024.0), ("i4", 2.0, 0.0))
    )


@corrupts("nifti", facet="type", refused=("not CT", "no grey values", "unreadable NIfTI", "not three dimensions"))
def colours_or_complex_numbers(volume: Volume, rng: Random) -> None:
    volume.kind = rng.choice(("rgb", "c8"))


@corrupts("nifti", facet="scale")
def no_scale_in_the_header(volume: Volume, rng: Random) -> None:
    """A slope of 0 says that there is none (nifti1.h)."""
    if (volume.slope, volume.intercept) == (1.0, 0.0):
        volume.header["slope"] = 0.0


@corrupts("nifti", facet="geometry")
def a_qform_alone(volume: Volume, rng: Random) -> None:
    volume.header |= {
        **_qform(volume.affine),
        "qform_code": rng.choice((1, 2)),
        "sform_code": 0,
        "sform": np.zeros((4, 4)),
    }


@corrupts("nifti", facet="geometry")
def a_qform_and_an_sform_that_agree(volume: Volume, rng: Random) -> None:
    volume.header |= {**_qform(volume.affine), "qform_code": rng.choice((1, 2)), "sform_code": rng.choice((1, 2))}


@corrupts("nifti", facet="geometry", refused=("two geometries", "qform"))
def a_qform_and_an_sform_that_differ(volume: Volume, rng: Random) -> None:
    moved = volume.affine.copy()
    moved[rng.randrange(3), 3] += rng.choice((-12.5, 4.0, 30.0))
    codes = {"qform_code": rng.choice((1, 2)), "sform_code": rng.choice((1, 2, 4))}
    volume.header |= {**_qform(volume.affine), **codes, "sform": moved}


@corrupts("nifti", facet="geometry", refused="no orientation")
def no_geometry(volume: Volume, rng: Random) -> None:
    volume.header |= {"sform_code": 0, "qform_code": 0}


@corrupts(
    "nifti", facet="geometry", refused=("oblique", "no orientation", "malformed", "unreadable NIfTI", "values not")
)
def a_geometry_that_is_none(volume: Volume, rng: Random) -> None:
    spoiled = volume.affine.copy()
    spoiled[rng.randrange(3), rng.randrange(4)] = np.nan
    volume.header["sform"] = rng.choice((spoiled, np.zeros((4, 4)), np.ones((4, 4))))


@corrupts("nifti", facet="geometry", refused="oblique")
def oblique_axes(volume: Volume, rng: Random) -> None:
    angle = np.radians(rng.uniform(2, 30))
    turn = np.eye(4)
    first = rng.randrange(2)
    turn[first : first + 2, first : first + 2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume.header["sform"] = turn @ volume.affine


@corrupts("nifti", facet="dimensions")
def a_fourth_dimension_of_one(volume: Volume, rng: Random) -> None:
    volume.header["shape"] = (*volume.values.shape, *[1] * rng.randint(1, 3))


@corrupts("nifti", facet="dimensions, bytes", refused=("not three dimensions", "unreadable NIfTI"))
def several_volumes(volume: Volume, rng: Random) -> None:
    volume.header["shape"] = (*volume.values.shape, 2)
    volume.spoil = lambda content: content + content[352:]


@corrupts(*BOTH, facet="values")
def not_a_number_outside_the_field_of_view(volume: Volume, rng: Random) -> None:
    volume.kind = "f4" if volume.kind[0] in "iu" else volume.kind
    _outside(volume, np.nan)


@corrupts(*BOTH, facet="values")
def far_below_air_outside_the_field_of_view(volume: Volume, rng: Random) -> None:
    volume.kind = "i4" if volume.kind == "u2" else volume.kind
    _outside(volume, rng.choice((-2000, -2048, -3024)))


@corrupts("nifti", facet="values", refused="values not finite")
def not_a_number_in_the_nodule(volume: Volume, rng: Random) -> None:
    volume.kind = "f4" if volume.kind[0] in "iu" else volume.kind
    volume.values = np.where(volume.values > -300, rng.choice((np.nan, np.inf)), volume.values)


@corrupts("nifti", facet="notes")
def names_in_the_header(volume: Volume, rng: Random) -> None:
    volume.header["descrip"] = SECRETS["PatientName"].encode()
    note = f"{SECRETS['PatientName']} {SECRETS['StudyDate']}".encode()
    note += bytes(-(len(note) + 8) % 16)
    volume.header["extension"] = struct.pack(f"{volume.order}2i", len(note) + 8, 6) + note


@corrupts("nifti", facet="units")
def units_that_are_not_told(volume: Volume, rng: Random) -> None:
    volume.header["units"] = rng.choice((0, 10))


@corrupts(*BOTH, facet="bytes", not_read=("unreadable", "truncated"))
def a_truncated_volume(volume: Volume, rng: Random) -> None:
    """Who reads one slice may find it whole; what is not there must not be read as numbers."""
    share = rng.uniform(0.0, 0.3)
    volume.spoil = lambda content: content[: int(share * len(content))]


@corrupts("nifti", facet="bytes", not_read="unreadable NIfTI")
def an_ending_that_lies(volume: Volume, rng: Random) -> None:
    """Packed without saying so, or not packed where the name says so."""
    volume.lies = True


@corrupts("metaimage", facet="packing")
def packed_values(volume: Volume, rng: Random) -> None:
    volume.text["CompressedData"] = "True"


@corrupts("metaimage", facet="packing, bytes", refused=("unreadable", "truncated"))
def values_that_are_not_there(volume: Volume, rng: Random) -> None:
    volume.suffix = ".mhd"
    volume.spoil_raw = rng.choice((lambda raw: None, lambda raw: b""))


@corrupts("metaimage", facet="geometry", refused="oblique")
def oblique_directions(volume: Volume, rng: Random) -> None:
    angle = np.radians(rng.uniform(2, 30))
    cosine, sine = np.cos(angle), np.sin(angle)
    volume.text["TransformMatrix"] = f"{cosine} {sine} 0 {-sine} {cosine} 0 0 0 1"


@corrupts("metaimage", facet="geometry", refused=("unreadable", "no orientation", "malformed", "oblique"))
def a_spacing_that_is_none(volume: Volume, rng: Random) -> None:
    volume.text["ElementSpacing"] = rng.choice(("0 0 0", "0.7 0 2", "nan nan nan", "a b c"))


@corrupts(*BOTH, facet="point", refused="nodule outside the scan")
def a_nodule_outside_the_volume(volume: Volume, rng: Random) -> None:
    axis, moved = rng.randrange(3), list(volume.truth.centre or ())
    moved[axis] += rng.choice((-500.0, 500.0))
    volume.truth.centre = (moved[0], moved[1], moved[2])


@corrupts(*BOTH, facet="point, geometry", refused="no x, y, z")
def a_whole_scan_without_a_point(volume: Volume, rng: Random) -> None:
    """Only of a crop the middle is meant, and none is as wide as a chest."""
    volume.truth.centre = None
    volume.affine = volume.affine @ np.diag([12.0, 12.0, 12.0, 1.0])


@corrupts(*BOTH, facet="values, type, scale", refused="not HU")
def an_intercept_added_twice(volume: Volume, rng: Random) -> None:
    volume.values = volume.values - 1024


def _qform(affine: NDArray[np.float64]) -> dict[str, Any]:
    """The quaternion of a matrix of 0 and ±1, the offset and the sign of the third axis (nifti1.h, method 2)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    qfac = 1.0 if np.linalg.det(directions) > 0 else -1.0
    proper = np.rint(directions * [1, 1, qfac]).astype(int)
    return {"quaternion": _quaternion(tuple(proper.ravel().tolist())), "offset": affine[:3, 3], "qfac": qfac}


@lru_cache
def _quaternion(proper: tuple[int, ...]) -> tuple[float, float, float]:
    """By trying the few that such a matrix can have."""
    parts = (-np.sqrt(0.5), -0.5, 0.0, 0.5, np.sqrt(0.5), 1.0)
    for a, b, c, d in product((0.0, 0.5, np.sqrt(0.5), 1.0), parts, parts, parts):
        if abs(a * a + b * b + c * c + d * d - 1) < 1e-9 and np.allclose(
            _rotation(a, b, c, d).ravel(), proper, atol=1e-6
        ):
            return b, c, d
    raise AssertionError(proper)


def _rotation(a: float, b: float, c: float, d: float) -> NDArray[np.float64]:
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )


def _outside(volume: Volume, value: float) -> None:
    """Sets what lies far from the nodule in its slice, and the truth there to air."""
    column, row, _ = volume.truth.voxel
    rows, columns = volume.truth.hu.shape[1:]
    y, x = np.ogrid[:rows, :columns]
    outside = (x - column) ** 2 + (y - row) ** 2 > 100
    mark = np.broadcast_to(outside, volume.truth.hu.shape).astype(np.int16)
    lps = np.diag([-1.0, -1.0, 1.0]) @ volume.affine[:3, :3]
    axes = [int(np.argmax(np.abs(lps[:, axis]))) for axis in range(3)]
    turned = mark.transpose(2, 1, 0).transpose(axes)
    for axis in range(3):
        if lps[axes[axis], axis] < 0:
            turned = np.flip(turned, axis)
    volume.values = np.where(turned > 0, value, volume.values)
    volume.truth.hu = np.where(outside, AIR, volume.truth.hu).astype(np.int16)
