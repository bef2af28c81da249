"""Thresholds of the validation cases, and what they do elsewhere, counted."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.evaluation.statistics.thresholds import SENSITIVITY, fixed_thresholds, operating_points


def test_thresholds_are_the_best_of_all_that_there_are() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60).astype(float)
    probabilities = np.clip(0.3 * labels + rng.uniform(size=60), 0, 1).round(2)

    def shares(limit: float) -> tuple[float, float]:
        called = probabilities >= limit
        return called[labels == 1].mean(), (~called)[labels == 0].mean()

    found = fixed_thresholds(np.append(probabilities, 0.99), np.append(labels, np.nan))
    enough = [limit for limit in probabilities if shares(limit)[0] >= SENSITIVITY]
    assert found["sensitive"] == max(enough)
    assert sum(shares(found["youden"])) == pytest.approx(max(sum(shares(limit)) for limit in probabilities))


def test_one_outcome_fixes_no_threshold() -> None:
    assert fixed_thresholds(np.array([0.1, 0.9]), np.zeros(2)) == {}


def test_sensitivity_and_specificity_are_counted() -> None:
    probabilities = np.array([0.2, 0.3, 0.6, 0.9, 0.3, 0.5])
    labels = np.array([0, 1, 1, 1, 0, np.nan])
    weights = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=400).astype(float)
    points = operating_points(probabilities, labels, {"given": 0.3}, weights)
    point = points["given"]
    assert point["threshold"] == 0.3
    assert point["sensitivity"]["mean"] == 1.0, "the threshold itself is called"
    assert point["specificity"]["mean"] == 0.5
    drawn = weights[:, [0, 4]]
    drawn = drawn[drawn.sum(axis=1) > 0]
    expected = np.percentile(drawn[:, 0] / drawn.sum(axis=1), [2.5, 97.5])
    assert point["specificity"]["ci95"] == pytest.approx(expected.tolist())


def test_the_sensitivity_of_one_patient_has_no_interval() -> None:
    """Of whatever number of cases, and also where the patient has cases of the other outcome."""
    labels = np.array([1.0, 1, 0, 0, 0, 0])
    weights = patient_resamples([0, 0, 0, 1, 2, 3], labels, 100, seed=0, stratified=False)
    values = np.array([0.9, 0.8, 0.8, 0.3, 0.2, 0.1])
    for single, other, outcomes in (("sensitivity", "specificity", labels), ("specificity", "sensitivity", 1 - labels)):
        point = operating_points(values, outcomes, {"given": 0.5}, weights)["given"]
        assert point[single]["mean"] in (0, 1) and point[single]["ci95"] is None
        assert "too few patients" in point[single]["reason"] and point[other]["ci95"] is not None


def test_what_can_be_said_of_one_outcome_is_said() -> None:
    point = operating_points(np.array([0.2, 0.7]), np.zeros(2), {"youden": 0.5}, None)["youden"]
    assert point["specificity"]["mean"] == 0.5
    assert point["sensitivity"]["reason"] == "no case is known to be malignant"
