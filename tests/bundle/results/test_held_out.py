"""Scores of held-out cases: when probabilities are recalibrated, and the error of growth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.evaluation.nodules.forecasts import Section
from scripts.evaluation.nodules.growth import measure
from scripts.evaluation.sections import open_section
from scripts.evaluation.statistics.forecasts import Forecast, conformal
from scripts.evaluation.statistics.thresholds import fixed_thresholds
from scripts.results.held_out import compare, held_out_growth, interval_factors, recalibration, score, thresholds
from tests.bundle.results.conftest import SIZE


def case(index: int, malignant: int) -> dict[str, object]:
    return {"case_id": f"c{index}", "patient_id": f"p{index}", "malignant": malignant}


CASES = [case(index, index % 2) for index in range(40)]


def test_few_cases_and_reversed_orders_are_not_recalibrated() -> None:
    noise = np.random.default_rng(0)
    labels = np.array([0, 1] * 20, dtype=float)
    values = np.clip(0.3 + 0.2 * labels + noise.normal(0, 0.15, 40), 0.01, 0.99)
    found = recalibration(values, labels)
    assert found is not None and found["slope"] > 0
    assert recalibration(1 - values, labels) is None, "the order would be turned"
    assert recalibration(values[:19], labels[:19]) is None, "nine malignant cases"
    assert recalibration(labels * 0.5 + 0.2, labels) is None, "outcomes that a threshold separates"


@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_thresholds_call_as_fixed_ones_do_and_are_nobodys(scale: float) -> None:
    """Also where probabilities lie so near to each other that few digits do not tell them apart."""
    noise = np.random.default_rng(3)
    labels = np.array([0, 1] * 40, dtype=float)
    values = 0.5 + scale * np.clip(0.2 * labels + noise.normal(0, 0.15, 80), -0.4, 0.4)
    found, fixed = thresholds(values, labels), fixed_thresholds(values, labels)
    assert found.keys() == fixed.keys() == {"sensitive", "youden"}
    for rule, limit in found.items():
        assert ((values >= limit) == (values >= fixed[rule])).all() and limit not in values
    assert thresholds(values[:19], labels[:19]) == {}, "nine malignant cases"
    lowest = thresholds(values, np.where(values == values.min(), 1.0, labels))
    assert lowest["sensitive"] > 0


def test_methods_are_compared_on_the_cases_that_all_have() -> None:
    labels = {f"c{index}": index % 2 for index in range(40)}
    right = {name: 0.2 + 0.6 * label for name, label in labels.items()}
    wrong_elsewhere = {name: (0.2 + 0.6 * label if int(name[1:]) < 20 else 0.5) for name, label in labels.items()}
    few = {name: value for name, value in right.items() if int(name[1:]) < 20}
    found = compare({"record_only": wrong_elsewhere, "generated": few}, CASES)
    assert found == {"n": 20, "n_malignant": 10, "auroc": {"record_only": 1.0, "generated": 1.0}}
    assert score(wrong_elsewhere, CASES, "here", 50)["held_out"]["auroc"] == 0.875  # a quarter of the pairs tied


def test_one_outcome_has_no_auroc() -> None:
    benign = [case(index, 0) for index in range(12)]
    held_out = score({f"c{index}": 0.3 for index in range(12)}, benign, "here", 50)
    assert held_out["calibration"] is None and held_out["held_out"]["auroc"] is None
    assert held_out["held_out"]["reason"] == "all cases with a known outcome are benign"
    assert compare({"generated": {"c1": 0.2}}, benign)["auroc"] == {} and compare({}, benign)["n"] == 0


def test_error_of_growth_by_hand(cohort: Path) -> None:
    study = open_section(cohort, "validation", SIZE)
    assert study.spacing is not None and (study.spacing["follow_up"] == 1.0).all()
    after = measure(study.follow_up[None], np.ones((40, 2)))
    before = measure(study.baseline[None], np.ones((40, 2)))
    use = before.found[0] & after.found[0] & ~before.cut[0] & ~after.cut[0]
    change = (after.mean - before.mean)[0, use]
    images = {"same": np.stack([study.follow_up] * 3), "copied": study.baseline[None]}
    growth = Section(study, images).measured()
    found = held_out_growth(growth, "same", "validation")
    assert found == {
        "error_mm": 0.0,
        "unchanged_error_mm": pytest.approx(np.abs(change).mean(), rel=5e-3),
        "factors": {axis: {"interval50": 1.0} for axis in ("long", "perpendicular", "mean")},  # of three runs
        **{"n": use.sum(), "n_patients": 20, "on": "validation"},
    }
    copied = held_out_growth(growth, "copied", "validation")
    assert copied is not None and copied["error_mm"] == copied["unchanged_error_mm"]


def test_factors_make_intervals_hold_their_share(cohort: Path) -> None:
    """Of the nodules that they are fitted on, with the rank for a new patient; runs that all err are mended."""
    study = open_section(cohort, "training", SIZE)
    shifts = np.linspace(-0.05, 0.05, 20)
    runs = np.stack([np.clip(study.baseline + shift, -1, 1) for shift in shifts])  # 1 mm smaller than the follow-ups
    growth = Section(study, {"runs": runs}).measured()
    factors, use = interval_factors(growth, "runs"), growth.measurable
    for axis, found in factors.items():
        members, truth = getattr(growth.measured["runs"], axis)[:, use], getattr(growth.after["measured"], axis)[0, use]
        for name, share in (("interval50", 0.5), ("interval90", 0.9)):
            low, high = Forecast(members).ends(name)
            assert ((low <= truth) & (truth <= high)).mean() < 0.2 and found[name] > 1
            inside = (low / found[name] <= truth) & (truth <= high * found[name])
            assert share <= inside.mean() <= share + 0.05
            cases = np.flatnonzero(use)
            patients = [growth.cases.patients[index] for index in cases]
            ends = conformal(Forecast(members), Forecast(members), truth, patients, name)
            np.testing.assert_allclose(ends, [low / found[name], high * found[name]], rtol=1e-3)
