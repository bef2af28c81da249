"""Outlines of nodules whose axes are known, and of readers' masks."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scripts.evaluation.nodules import growth
from scripts.evaluation.nodules.outline import outline
from tests.bundle.evaluation.nodules.discs import SIZE, measured, nodule, turned


@pytest.mark.parametrize("level", [50.0, -250.0, -600.0], ids=["solid", "part-solid", "ground glass"])
@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.6, 0.8)])
def test_nodules_of_any_attenuation_and_spacing(level, spacing):
    crops = [nodule(long, 0.75 * long, level, 0.6, spacing, noise=20) for long in (5.0, 9.0, 16.0)]
    sizes = measured(*crops, spacing=spacing)
    assert sizes.found.all() and not sizes.cut.any()
    # the threshold is low, as the readers' outlines are wide: a pixel more than the half-way edge is expected
    np.testing.assert_allclose(sizes.long[0], [5, 9, 16], atol=1.3)
    np.testing.assert_allclose(sizes.perpendicular[0], 0.75 * np.array([5, 9, 16]), atol=1.3)
    np.testing.assert_allclose(np.diff(sizes.long[0]), [4, 7], atol=0.8)


def test_wall_and_vessel_do_not_belong_to_the_nodule():
    alone = nodule(9, 9)
    u, v = turned((0.5, 0.5), 0.0)
    wall, vessel = np.where(u > 4, 40.0, -850.0), np.where((np.abs(v) < 1) & (u < 0), 0.0, -850.0)
    long = measured(
        alone, np.maximum(alone, wall), np.maximum(alone, vessel), np.maximum(alone, np.maximum(wall, vessel))
    )
    np.testing.assert_allclose(long.long[0], long.long[0, 0], atol=2.0)
    assert not long.cut.any()


def test_neighbour_behind_a_gap_is_not_reached():
    both = np.maximum(nodule(8, 8), nodule(8, 8, level=200, centre=(9.5, 0)))
    assert measured(both).long[0, 0] == pytest.approx(measured(nodule(8, 8)).long[0, 0], abs=0.8)


def test_nodule_off_the_middle_is_followed():
    sizes = measured(nodule(10, 8), nodule(10, 8, centre=(2.0, -2.0)))
    assert sizes.long[0, 1] == pytest.approx(sizes.long[0, 0], abs=0.5)


def test_nothing_and_everything_are_measured_and_flagged():
    air, full = np.full((SIZE, SIZE), -1000.0), np.full((SIZE, SIZE), 40.0)
    sizes = measured(air, full, nodule(40, 40), nodule(12, 12))
    assert sizes.found[0].tolist() == [False, True, True, True]
    assert sizes.cut[0].tolist() == [False, True, True, False]
    assert sizes.long[0, 0] == pytest.approx(2.0) and np.isfinite(sizes.volume).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 64), (33, 32)])
def test_crops_of_any_shape_and_content_are_outlined(shape):
    crops = np.random.default_rng(1).uniform(-1000, 400, (3, *shape))
    outlines = outline(crops, np.array([[0.5, 0.5], [0.3, 2.0], [1.0, 0.7]]))
    assert np.isfinite(outlines.points).all()
    assert all(growth.diameters(points)[1] > 0 for points in outlines.points)


def test_outlines_do_not_depend_on_the_other_cases():
    crops, spacing = np.stack([nodule(6, 5), nodule(20, 14)]), np.array([[0.5, 0.5], [0.7, 0.6]])
    together = outline(crops, spacing).points
    for index in range(2):
        np.testing.assert_allclose(outline(crops[[index]], spacing[[index]]).points[0], together[index])


def test_readers_masks_are_met():
    """The baselines of the validation split, which chose no constant."""
    folder = (
        Path(os.environ.get("NAMD_SHARED_DATA", Path(__file__).parents[5] / "shared" / "data")) / "lidc_progression"
    )
    if not folder.is_dir():
        pytest.skip("no lidc_progression (set NAMD_SHARED_DATA)")
    table = pd.read_csv(folder / "cohort.csv").query("split == 'validation' and study_yr == 0 and sct_long_dia < 25")
    errors = []
    for row in table.itertuples():
        hu, mask = (np.asarray(nib.load(folder / path).dataobj)[..., 0] for path in (row.image, row.mask))
        points = outline(np.clip(hu, -1000, 400)[None].astype(float), np.array([[0.5, 0.5]])).points[0]
        errors.append(growth.diameters(points)[0] - growth.of_mask(mask > 0, (0.5, 0.5))[0])
    assert np.median(np.abs(errors)) < 1.0 and abs(np.median(errors)) < 0.5
