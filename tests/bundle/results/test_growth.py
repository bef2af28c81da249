"""Growth over runs: quantiles, Lung-RADS, volumes and doublings, by hand."""

from __future__ import annotations

import math
from statistics import quantiles

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.evaluation.nodules.growth import Sizes
from scripts.results.growth import CUT, growth, held_out_intervals, shown90, spread, yearly


def sizes(long: list[float], perpendicular: list[float], found: bool = True, cut: list[bool] | None = None) -> Sizes:
    shape = (len(long), 1)
    flags = np.full(shape, found), np.reshape(cut or [False] * len(long), shape)
    return Sizes(np.reshape(long, shape), np.reshape(perpendicular, shape), np.zeros(shape), *flags)


@given(st.lists(st.floats(-50, 50), min_size=19, max_size=40))
def test_intervals_are_the_standard_librarys(values: list[float]) -> None:
    """``statistics.quantiles`` takes the same quantiles, at (n + 1) p."""
    found, twentieths = spread(np.array(values)), quantiles(values, n=20)
    assert found["interval90"] == pytest.approx([twentieths[0], twentieths[-1]], abs=1e-9)
    quarters = quantiles(values, n=4)
    assert found["interval50"] == pytest.approx([quarters[0], quarters[2]], abs=1e-9)
    assert found["median"] == pytest.approx(quarters[1], abs=1e-9)


@pytest.mark.parametrize(("runs", "half", "most"), [(1, False, False), (2, False, False), (3, True, False)])
def test_too_few_runs_have_no_interval(runs: int, half: bool, most: bool) -> None:
    found = spread(np.arange(float(runs)))
    assert ((found["interval50"] is not None), (found["interval90"] is not None)) == (half, most)
    assert spread(np.arange(18.0))["interval90"] is None and spread(np.arange(19.0))["interval90"] == [0.0, 18.0]


def test_of_a_longer_interval_a_year_counts() -> None:
    change = np.array([3.0])
    assert [float(yearly(change, days)[0]) for days in (90, 365.25)] == [3.0, 3.0]
    assert float(yearly(change, 2 * 365.25)[0]) == 1.5


def test_numbers_by_hand() -> None:
    """From 10 x 8 to 12 x 10 mm in two runs, unchanged in the third, after a year."""
    found = growth(sizes([10.0], [8.0]), sizes([12.0, 12.0, 10.0], [10.0, 10.0, 8.0]), 365.25)
    assert found["baseline_mm"] == {"long": 10.0, "perpendicular": 8.0, "mean": 9.0}
    assert {axis: each["median"] for axis, each in found["change_mm"].items()} == dict.fromkeys(found["baseline_mm"], 2)
    assert found["lung_rads"]["grows"] and found["lung_rads"]["share_of_runs_that_grow"] == pytest.approx(2 / 3)
    assert found["lung_rads"]["share_of_runs_that_shrink"] == 0
    before, after = (math.pi / 6 * (long * perpendicular) ** 1.5 for long, perpendicular in ((10, 8), (12, 10)))
    assert found["volume_mm3"]["baseline"] == pytest.approx(before)
    assert found["volume_mm3"]["generated"]["median"] == pytest.approx(after)
    assert found["doublings_per_year"]["median"] == pytest.approx(math.log2(after / before))


def test_growth_of_exactly_the_threshold_is_none() -> None:
    found = growth(sizes([10.0], [8.0]), sizes([11.5], [9.5]), 365)
    assert not found["lung_rads"]["grows"] and found["change_mm"]["mean"]["median"] == 1.5
    over_two_years = growth(sizes([10.0], [8.0]), sizes([12.0], [10.0]), 730.5)
    assert not over_two_years["lung_rads"]["grows"], "2 mm in two years"


def test_what_cannot_be_measured_says_why() -> None:
    runs = sizes([12.0] * 3, [10.0] * 3)
    assert "no nodule is found" in growth(sizes([2.0], [2.0], found=False), runs, 365)["not_measurable"]
    assert growth(sizes([9.0], [8.0], cut=[True]), runs, 365)["not_measurable"] == f"in the baseline {CUT}"
    most = sizes([12.0] * 3, [10.0] * 3, cut=[True, True, False])
    assert growth(sizes([9.0], [8.0]), most, 365) == {
        "not_measurable": f"in 2 of 3 runs {CUT}",
        "runs_not_found": 0,
        "runs_cut": 2,
    }
    assert "change_mm" in growth(sizes([9.0], [8.0]), sizes([12.0] * 2, [10.0] * 2, cut=[True, False]), 365)


@given(st.lists(st.floats(2, 50), min_size=1, max_size=30), st.floats(0.3, 3), st.floats(2, 40))
def test_intervals_of_held_out_nodules_hold_the_median(runs: list[float], factor: float, before: float) -> None:
    """Where runs reach their ends; the factor moves these of the runs, whatever the baseline."""
    after = np.array(runs)
    found = held_out_intervals(after, before, {"interval50": factor, "interval90": factor})
    of_runs, middle = spread(after), float(np.median(after))
    for key in ("50", "90"):
        held, ends = found[f"held_out{key}"], of_runs[f"interval{key}"]
        assert (held is None) == (ends is None)
        if held is not None:
            expected = [min(ends[0] / factor, middle) - before, max(ends[1] * factor, middle) - before]
            assert held == pytest.approx(expected) and held[0] <= middle - before <= held[1]
    assert held_out_intervals(after, before, {}) == {"held_out50": None, "held_out90": None}


def test_what_held_out_nodules_tell_is_shown() -> None:
    many = sizes(list(np.linspace(9, 12, 20)), list(np.linspace(8, 11, 20)))
    plain, known = (
        growth(sizes([10.0], [8.0]), many, 365, factors) for factors in (None, {"mean": {"interval90": 1.2}})
    )
    assert plain["change_mm"]["mean"]["held_out90"] is None
    assert shown90(plain["change_mm"]["mean"]) == plain["change_mm"]["mean"]["interval90"]
    wider, ends = shown90(known["change_mm"]["mean"]), plain["change_mm"]["mean"]["interval90"]
    assert wider == pytest.approx([(ends[0] + 9) / 1.2 - 9, (ends[1] + 9) * 1.2 - 9])
    assert known["change_mm"]["long"]["held_out90"] is None
