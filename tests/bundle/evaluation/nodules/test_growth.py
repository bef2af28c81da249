"""Diameters against shapes whose axes are known, outlines against discs, and growth against calculation by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.data.transforms import from_hu
from scripts.evaluation.nodules import growth
from tests.bundle.evaluation.nodules.discs import angles, nodule, pixels, turned
from tests.bundle.evaluation.nodules.sizes import entries, resampled, sizes_of, study_of


@settings(max_examples=60)
@given(st.floats(8, 20), st.floats(0.45, 0.9), angles, pixels)
def test_diameters_of_masks_of_ellipses_at_any_angle(long, ratio, angle, spacing):
    """Within a pixel, corner to corner: a tip that covers no pixel's centre is lost, and tilts the long axis."""
    u, v = turned(spacing, angle)
    found = growth.of_mask(np.hypot(u / long, v / (long * ratio)) < 0.5, spacing)
    pixel = math.hypot(*spacing)
    assert abs(found[0] - long) < pixel
    assert abs(found[1] - long * ratio) < 1.25 * pixel
    assert abs(found[2] - math.pi / 4 * long**2 * ratio) < pixel * math.pi * long / 2


@given(st.floats(6, 18), st.floats(0.4, 0.9), angles)
def test_diameters_of_rectangles_at_any_angle(side, ratio, angle):
    """Long is the diagonal d; the longest chord at right angles to it spans the short side b: b d / a."""
    other = side * ratio
    corners = np.array([[side, other], [-side, other], [-side, -other], [side, -other]]) / 2
    corners = corners @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    diagonal = math.hypot(side, other)
    assert growth.diameters(corners) == pytest.approx((diagonal, other * diagonal / side))
    assert growth.area(corners) == pytest.approx(side * other)


@settings(max_examples=60)
@given(st.floats(6, 18), st.floats(0.4, 0.9), angles, pixels)
def test_diameters_of_masks_of_rectangles(side, ratio, angle, spacing):
    """A side is off by a pixel at most, so the diagonal by 1.42, and by 0.71 more as the corners are cut off."""
    u, v = turned(spacing, angle)
    long, _, area = growth.of_mask((np.abs(u) < side / 2) & (np.abs(v) < side * ratio / 2), spacing)
    assert abs(long - side * math.hypot(1, ratio)) < 2.2 * max(spacing)
    assert abs(area - side * side * ratio) < max(spacing) * side * (1 + ratio) + max(spacing) ** 2


@given(st.floats(5, 20), st.floats(0.3, 1.0), angles)
def test_diameters_of_exact_points(long, ratio, angle):
    turn = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    points = np.stack([long / 2 * np.cos(turn), long * ratio / 2 * np.sin(turn)], axis=1)
    points = points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert growth.diameters(points) == pytest.approx((long, long * ratio), rel=1e-3)
    assert growth.area(points) == pytest.approx(math.pi / 4 * long**2 * ratio, rel=1e-3)


def test_masks_of_nothing_and_of_one_pixel():
    mask = np.zeros((9, 9), dtype=bool)
    assert growth.of_mask(mask, (0.5, 0.5)) == (0, 0, 0)
    mask[0, 4] = True
    assert growth.of_mask(mask, (0.5, 0.7)) == pytest.approx((0.7, 0.5, 0.35))


def test_doubling_time_by_hand():
    assert growth.doubling_time(100.0, 200.0, 90.0) == pytest.approx(90)
    assert growth.doubling_time(100.0, 400.0, 90.0) == pytest.approx(45)
    assert growth.doubling_time(200.0, 100.0, 90.0) == pytest.approx(-90)
    assert growth.doubling_time(np.array([5.0]), np.array([5.0]), 365.0)[0] == math.inf


def test_volume_is_a_sphere_for_a_disc():
    sizes = growth.recorded(np.array([[10, 10], [10, np.nan], [np.nan, np.nan]]))
    assert sizes.volume[0, 0] == pytest.approx(4 / 3 * math.pi * 5**3)
    assert np.isnan(sizes.volume[0, 1:]).all() and sizes.long[0, 1] == 10


def test_classes_at_their_limits():
    before = np.full(5, 10.0)
    after = np.array([11.6, 11.5, 10.0, 8.5, 8.4])
    assert growth.diameter_class(before, after).tolist() == [1, 0, 0, 0, -1]
    volumes = np.array([12.6, 12.5, 12.4, 7.5, 7.6])
    assert growth.volume_class(before, volumes).tolist() == [1, 1, 0, -1, 0]


def test_scores_by_hand():
    """Three nodules of 10 mm: the first doubles in half a year, the second stays, the third is larger than its crop."""
    double = 10 * 2 ** (1 / 3)
    sizes = {
        "real_baseline": sizes_of([10, 10, 40], [10, 10, 40]),
        "real_follow_up": sizes_of([double, 10, 40], [double, 10, 40]),
        "NAMD": sizes_of(
            [[10, 10, 9], [double, 13, 9], [double, 10, 9]], [[10, 10, 9], [double, 13, 9], [double, 10, 9]]
        ),
    }
    cases = entries([10, 10, 40], [12, 11, None], interval_days=growth.YEAR / 2)
    result = growth.Growth(sizes, study_of(cases, 32.0), resampled(3)).score()
    assert (result["n_larger_than_crop"], result["n_not_found"]) == (1, 0)
    part = result["measured"]
    assert part["n_cases"] == 2 and part["classes"]["diameter"] == {"grown": 1, "stable": 1, "shrunk": 0}
    namd, median = part["methods"]["NAMD"], part["methods"]["NAMD" + growth.MEDIAN]
    errors = np.array([(double - 10) / 2, 1.5, 0.0])
    assert namd["long_mm"]["mean"] == pytest.approx(errors.mean())
    assert namd["long_mm"]["std"] == pytest.approx(errors.std(ddof=1))
    rates = np.array([2 / 2, 2 * math.log2(1.3**3) / 2, 0])  # doublings a year, half a year apart, over two cases
    assert namd["doublings_per_year"]["mean"] == pytest.approx(rates.mean())
    assert namd["diameter_accuracy"]["mean"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert median["long_mm"]["mean"] == 0 and median["volume_balanced_accuracy"]["mean"] == 1
    assert "real_follow_up" not in part["methods"] and "real_baseline" not in part["methods"]
    own = result["record"]["methods"]["real_follow_up"]
    assert own["long_mm"]["mean"] == pytest.approx((double - 12 + 1) / 2) and "area_mm2" not in own


def test_errors_and_shares_of_narrow_nodules_by_hand():
    """Two nodules in two runs, of which the first shows nothing of one, and in the second both reach the border."""
    long = np.array([[13.0, 9.0], [11.0, 10.0]])
    namd = sizes_of(long, 0.7 * long)
    namd.found[0, 0] = False
    namd.cut[1] = True
    sizes = {"real_baseline": sizes_of([10, 10], [7, 7]), "real_follow_up": sizes_of([12, 10], [9, 8]), "NAMD": namd}
    scores = growth.Growth(sizes, study_of(entries([10, 10], [12, 10]), 32.0), resampled(2)).score()["measured"]
    row = scores["methods"]["NAMD"]
    assert row["long_mm"]["mean"] == pytest.approx((1 + 1 + 1 + 0) / 4)
    assert row["long_bias_mm"]["mean"] == pytest.approx((1 - 1 - 1 + 0) / 4)
    assert row["perpendicular_mm"]["mean"] == pytest.approx((0.1 + 1.7 + 1.3 + 1.0) / 4)  # 9.1, 6.3, 7.7, 7 for 9, 8
    assert row["area_mm2"]["mean"] == pytest.approx((10.3 + 23.3 + 23.3 + 10.0) / 4)  # 0.7 long squared for 108, 80
    assert (row["share_not_found"], row["share_cut"]) == (0.25, 0.5)


def test_what_is_generated_has_the_pixels_of_the_baseline():
    """One picture at all places: in the follow-up's pixels, as its reconstruction, it is twice as large."""
    spacing = {"baseline": np.full((1, 2), 0.5), "follow_up": np.full((1, 2), 1.0)}
    names = ("real_baseline", "copy_baseline", "NAMD", "real_follow_up", "reconstructed_follow_up")
    picture = from_hu(nodule(long=12.0, short=8.0))[None, None, None]
    sizes = growth.measure_all(dict.fromkeys(names, picture), spacing)
    found = {name: each.long.item() for name, each in sizes.items()}
    assert found["real_baseline"] == pytest.approx(12.0, abs=1.0)
    assert found["copy_baseline"] == found["NAMD"] == found["real_baseline"]
    assert found["reconstructed_follow_up"] == found["real_follow_up"] == pytest.approx(2 * found["NAMD"], rel=0.05)


def test_change_is_correlated_over_cases():
    """Of each run, and of the median over runs, in which the noise of the runs is less."""
    noise = np.random.default_rng(1)
    before = noise.uniform(6, 12, 40)
    grown = before + noise.normal(0, 2, 40).clip(-4)
    guessed = grown + noise.normal(0, 2, (9, 40))
    sizes = {"real_baseline": sizes_of(before, before), "real_follow_up": sizes_of(grown, grown)}
    sizes |= {"copy_baseline": sizes_of(before, before), "NAMD": sizes_of(guessed, guessed)}
    rows = growth.Growth(sizes, study_of(entries(before, grown), 64.0), resampled(40)).score()["measured"]["methods"]
    each = [np.corrcoef(run - before, grown - before)[0, 1] for run in guessed]
    assert rows["NAMD"]["change_pearson"]["mean"] == pytest.approx(np.mean(each))
    assert rows["NAMD"]["change_pearson"]["std"] == pytest.approx(np.std(each, ddof=1))
    median = rows["NAMD" + growth.MEDIAN]
    expected = pd.DataFrame([np.median(guessed, axis=0) - before, grown - before]).T.corr("spearman").iloc[0, 1]
    assert median["change_spearman"]["mean"] == pytest.approx(expected)
    assert median["change_pearson"]["mean"] > max(each)
    low, high = median["change_pearson"]["ci95"]
    assert low < median["change_pearson"]["mean"] < high <= 1
    copied = rows["copy_baseline"]["change_pearson"]
    assert copied["mean"] is None and "copy of the baseline" in copied["reason"]


def test_nodules_that_a_real_image_does_not_show_are_left_out():
    sizes = {"real_baseline": sizes_of([5, 5], [5, 5]), "real_follow_up": sizes_of([5, 2], [5, 2])}
    sizes["real_follow_up"].found[0, 1] = False
    result = growth.Growth(sizes, study_of(entries([5, None], [5, 5]), 32.0), resampled(2)).score()
    assert (result["n_larger_than_crop"], result["n_not_found"]) == (0, 1)
    assert result["measured"]["n_cases"] == 1
