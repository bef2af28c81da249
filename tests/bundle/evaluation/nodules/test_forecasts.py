"""Forecasts of a section: against plain computations, and what is missing is counted and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scripts.evaluation.nodules.forecasts import AXES, RECALIBRATED, Forecasts, Section
from scripts.evaluation.nodules.growth import Growth
from scripts.evaluation.study import Study
from tests.bundle.evaluation.nodules.sizes import entries, resampled, sizes_of, study_of
from tests.bundle.evaluation.studies import make_study
from tests.bundle.evaluation.studies import study_of as drawn_study


def section(count: int, seed: int, runs: int = 20, weights: bool = False, days: int = 365) -> Growth:
    """Nodules that grow by a law, and runs that follow another one."""
    noise = np.random.default_rng(seed)
    before = noise.uniform(5, 14, count)
    after = before * np.exp(noise.normal(0.1, 0.15, count))
    made = before * np.exp(noise.normal(0.2, 0.1, (runs, count)))
    sizes = {"real_baseline": sizes_of(before, 0.8 * before), "real_follow_up": sizes_of(after, 0.8 * after)}
    sizes["NAMD"] = sizes_of(made, 0.8 * made)
    cases = entries(before, after, interval_days=days)
    return Growth(sizes, study_of(cases, 64.0), resampled(count) if weights else None)


def test_scores_are_those_of_the_law() -> None:
    growth, training, validation = section(60, 1, weights=True), section(200, 2), section(40, 3)
    found = Forecasts(growth, ["NAMD"], training, validation).score()
    assert (found["n_cases"], found["training"]["n_cases"], found["validation"]["n_patients"]) == (60, 200, 40)
    for axis, scale in (("long", 1.0), ("perpendicular", 0.8), ("mean", 0.9)):
        rows = found[axis]
        before, after = (getattr(each["measured"], axis)[0] for each in (growth.before, growth.after))
        runs = getattr(growth.measured["NAMD"], axis)
        pairs = np.abs(runs[:, None] - runs[None]).sum(axis=(0, 1)) / (2 * 20 * 19)
        expected = np.abs(runs - after).mean(axis=0) - pairs
        assert rows["NAMD"]["crps"]["mean"] == pytest.approx(expected.mean())
        assert rows["copy_baseline"]["crps"]["mean"] == pytest.approx(np.abs(before - after).mean())
        less = rows["NAMD"]["crps_less"]["climatology"]
        assert less["mean"] == pytest.approx(rows["NAMD"]["crps"]["mean"] - rows["climatology"]["crps"]["mean"])
        assert less["ci95"][0] < less["mean"] < less["ci95"][1] and less["mean"] > 0
        assert rows["NAMD"]["crps"]["mean"] == pytest.approx(scale * found["long"]["NAMD"]["crps"]["mean"])
        raw, mended = (rows["NAMD"]["interval90"][kind]["coverage"]["mean"] for kind in ("raw", "conformal"))
        assert raw < 0.75 < mended and rows["climatology"]["interval90"]["raw"]["coverage"]["mean"] > 0.8
        corrected, climate = (rows[name]["crps"]["mean"] for name in (f"NAMD{RECALIBRATED}", "climatology"))
        assert 0 < rows[f"NAMD{RECALIBRATED}"]["share"] < 0.5
        assert corrected == pytest.approx(climate, rel=0.03) and corrected < rows["NAMD"]["crps"]["mean"]
    assert set(found["long"]) == {"NAMD", f"NAMD{RECALIBRATED}", "copy_baseline", "climatology", "quantile_regression"}
    assert found["long"]["copy_baseline"]["interval90"]["conformal"]["coverage"]["mean"] > 0.75
    assert "single value" in found["long"]["copy_baseline"]["interval90"]["raw"]["coverage"]["reason"]


def test_nodules_that_cannot_be_measured_are_counted_and_named() -> None:
    growth = section(12, 1)
    for mask, index in ((growth.cut, 3), (growth.lost, 5)):
        mask[index], growth.measurable[index] = True, False
    found = Forecasts(growth, ["NAMD"], "none", "none").score()
    assert (found["n_cases"], found["n_larger_than_crop"], found["n_not_found"]) == (10, 1, 1)
    assert found["not_measurable"] == {"larger_than_crop": ["3"], "not_found": ["5"]}
    rows = found["long"]
    assert rows["climatology"] == rows["quantile_regression"] == {"reason": "none"} == rows[f"NAMD{RECALIBRATED}"]
    assert rows["NAMD"]["crps_less"].keys() == {"copy_baseline"}
    assert rows["NAMD"]["interval50"]["conformal"]["width"]["reason"] == "none"
    growth.measurable[:] = False
    assert Forecasts(growth, ["NAMD"], "none", "none").score()["long"] == {}


def test_too_little_of_other_sections_is_said() -> None:
    growth, few = section(20, 1), section(18, 2)
    del few.measured["NAMD"]
    rows = Forecasts(growth, ["NAMD"], few, few, {"NAMD": "made otherwise"}).score()["long"]
    assert rows["climatology"]["reason"] == "fewer than 19 training nodules can be measured (18)"
    assert rows["NAMD"]["interval90"]["conformal"]["coverage"]["reason"] == "made otherwise"
    rows = Forecasts(growth, ["NAMD"], section(19, 3), section(18, 2)).score()["long"]
    assert "fewer than 19 validation" in rows[f"NAMD{RECALIBRATED}"]["reason"]
    assert Forecasts(section(9, 1, runs=1), ["NAMD"], "none", "none").score()["long"]["NAMD"] == {
        "reason": "not given for fewer than 2 runs a case"
    }


def test_images_of_other_sections_are_measured_as_the_evaluated_ones(monkeypatch: Any) -> None:
    """Each once."""
    arguments = make_study(count=4, runs=2)
    study: Study = drawn_study(
        arguments | {"spacing": {key: np.full((4, 2), 0.5) for key in ("baseline", "follow_up")}}
    )
    sections: Any = {"validation": Section(study, {**arguments["generated"], "other": "not made"})}
    growth = Section(study, arguments["generated"]).measured()
    found = Forecasts.of(growth, ["NAMD", "other"], sections)
    assert isinstance(found.validation, Growth) and found.training == "the training section was not given"
    for axis in AXES:
        ours, theirs = (getattr(each.measured["NAMD"], axis) for each in (growth, found.validation))
        np.testing.assert_array_equal(ours, theirs)
    assert found.absent == {"other": "not made"} and "other" not in found.validation.measured
