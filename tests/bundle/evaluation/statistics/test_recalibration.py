"""Recalibration against scikit-learn's regressions, a root of the score, polyfit and arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from scripts.evaluation.statistics.folds import patient_folds
from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.evaluation.statistics.recalibration import (
    SCORES,
    WAYS,
    integrated_calibration_index,
    recalibrated,
    recalibration_scores,
    smooth,
)


def sample(count: int = 300, shift: float = 1.0, stretch: float = 0.5) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Probabilities whose log odds would have to be stretched and moved, outcomes, and two cases a patient."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 2, count)
    labels = (rng.uniform(size=count) < expit(shift + stretch * log_odds)).astype(float)
    return expit(log_odds), labels, [f"p{index // 2}" for index in range(count)]


@pytest.mark.parametrize("far", [-4, -3, 0, 3, 4])
def test_out_of_fold_probabilities_equal_regressions_fold_by_fold(far: int) -> None:
    probabilities, labels, patients = sample()
    probabilities = expit(logit(probabilities) + far)
    fold, log_odds = patient_folds(patients, labels), logit(probabilities)
    found = recalibrated(log_odds, labels, fold)
    for number in range(5):
        held = fold == number
        fit = LogisticRegression(C=np.inf, tol=1e-10).fit(log_odds[~held, None], labels[~held])
        both = fit.predict_proba(log_odds[held, None])[:, 1]
        np.testing.assert_allclose(found["intercept_and_slope"][0][held], both, atol=1e-5)
        moved = brentq(lambda a, held=held: expit(a + log_odds[~held]).sum() - labels[~held].sum(), -9, 9)
        np.testing.assert_allclose(found["intercept"][0][held], expit(moved + log_odds[held]), atol=1e-8)
    whole = LogisticRegression(C=np.inf, tol=1e-10).fit(log_odds[:, None], labels)
    expected = [whole.intercept_[0], whole.coef_[0, 0]]
    np.testing.assert_allclose(found["intercept_and_slope"][1], expected, atol=1e-4)


def test_the_smooth_curve_is_a_weighted_line_at_each_point() -> None:
    rng = np.random.default_rng(1)
    probabilities, labels = rng.uniform(size=40), rng.integers(0, 2, 40).astype(float)
    curve = smooth(probabilities, labels)
    for index in (0, 7, 39):
        away = np.abs(probabilities - probabilities[index])
        width = np.sort(away)[29]  # the 30 nearest of 40
        weights = np.clip(1 - (away / width) ** 3, 0, None) ** 3
        slope, level = np.polyfit(probabilities, labels, 1, w=np.sqrt(weights))
        assert curve[index] == pytest.approx(np.clip(level + slope * probabilities[index], 0, 1), abs=1e-8)
    assert integrated_calibration_index(probabilities, labels) == pytest.approx(np.abs(curve - probabilities).mean())


def test_the_smooth_curve_of_one_probability_is_the_share_of_malignant_cases() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(smooth(np.full(4, 0.7), labels), 0.25)
    assert integrated_calibration_index(np.full(4, 0.7), labels) == pytest.approx(0.45)


def test_recalibration_mends_what_is_wrong() -> None:
    probabilities, labels, patients = sample()
    labels = np.append(labels, np.nan)
    probabilities, patients = np.append(probabilities, 0.5), [*patients, "unknown"]
    weights = patient_resamples(patients, labels, 200, 0, stratified=False)
    scores = recalibration_scores(probabilities, labels, patients, weights)
    assert tuple(scores) == WAYS
    given, moved, both = (scores[way] for way in WAYS)
    assert given["brier"]["mean"] == pytest.approx(brier_score_loss(labels[:-1], probabilities[:-1]))
    ratio = labels[:-1].sum() / probabilities[:-1].sum()
    assert given["observed_expected"]["mean"] == pytest.approx(ratio) and ratio > 1.1
    assert moved["observed_expected"]["mean"] == pytest.approx(1, abs=0.02)
    assert both["ici"]["mean"] < 0.5 * given["ici"]["mean"] and both["brier"]["mean"] < given["brier"]["mean"]
    assert given["ici"]["ci95"] is None and "biases" in given["ici"]["reason"]
    low, high = given["observed_expected"]["ci95"]
    assert low < ratio < high and given["coefficients"] is None
    assert both["coefficients"]["slope"] == pytest.approx(0.5, abs=0.15)
    assert moved["coefficients"]["slope"] == 1


def test_what_cannot_be_recalibrated_says_why() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0], dtype=float)
    scores = recalibration_scores(np.linspace(0.1, 0.9, 6), labels, list("abcdef"), None)
    assert all("fewer than 5 patients" in scores[way][key]["reason"] for way in WAYS for key in SCORES)
    apart = np.repeat([1.0, 0.0], 10)
    scores = recalibration_scores(np.where(apart == 1, 0.9, 0.2), apart, [str(index) for index in range(20)], None)
    assert scores["as_given"]["brier"]["mean"] == pytest.approx((0.01 + 0.04) / 2)
    assert "separated" in scores["intercept_and_slope"]["ici"]["reason"]
