"""Calibration against scikit-learn, worked examples, and probabilities whose miscalibration is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from scripts.evaluation.statistics.calibration import (
    NAMES,
    calibration_error,
    calibration_scores,
    log_odds_of,
    logistic_fit,
    reliability,
    slope_and_intercept,
)
from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.files import write_json

EXAMPLE = np.array([0.05, 0.08, 0.1, 0.62, 0.68, 0.95]), np.array([0.0, 1, 0, 1, 0, 1])


def study(seed: int, count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probabilities = expit(generator.normal(-0.5, 1.2, count))
    labels = (generator.uniform(size=count) < probabilities).astype(float)
    labels[:2], labels[2:4] = 1 - np.round(probabilities[:2]), np.round(probabilities[2:4])
    return probabilities, labels


def test_reliability_and_error_by_hand():
    """Bins (0, 0.1], (0.6, 0.7] and (0.9, 1]: three, two and one of six cases."""
    predicted, observed, share = reliability(*EXAMPLE)
    np.testing.assert_allclose(predicted, [0.23 / 3, 0.65, 0.95])
    np.testing.assert_allclose(observed, [1 / 3, 1 / 2, 1])
    np.testing.assert_allclose(share, [3 / 6, 2 / 6, 1 / 6])
    expected = (3 * abs(1 / 3 - 0.23 / 3) + 2 * 0.15 + 1 * 0.05) / 6
    assert calibration_error(*EXAMPLE) == pytest.approx(expected)
    brier = (0.05**2 + 0.92**2 + 0.1**2 + 0.38**2 + 0.68**2 + 0.05**2) / 6
    assert calibration_scores(*EXAMPLE, None)["brier"]["mean"] == pytest.approx(brier)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_shares_are_those_of_scikit_learns_bins(seed):
    """The mean of what the bins hold is the mean of all, which a case in another bin would change."""
    generator = np.random.default_rng(seed)
    probabilities = generator.integers(0, 21, 50) / 20  # also on the bins' edges
    labels = generator.integers(0, 2, 50).astype(float)
    predicted, observed, share = reliability(probabilities, labels)
    assert share.sum() == pytest.approx(1)
    assert share @ predicted == pytest.approx(probabilities.mean())
    assert share @ observed == pytest.approx(labels.mean())


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_slope_and_intercept_equal_scikit_learns_and_the_score_equation(seed):
    probabilities, labels = study(seed % 1000)
    weights = np.random.default_rng(seed).integers(0, 3, (3, len(labels))).astype(float)
    log_odds = logit(probabilities)
    slopes, intercepts = slope_and_intercept(probabilities, labels, weights)
    for row, slope, intercept in zip(weights, slopes, intercepts, strict=True):
        fit = LogisticRegression(C=np.inf, tol=1e-10).fit(log_odds[:, None], labels, sample_weight=row)
        assert slope == pytest.approx(fit.coef_[0, 0], rel=1e-4, abs=1e-5)
        root = brentq(lambda a, row=row: (row * (labels - expit(log_odds + a))).sum(), -20, 20)
        assert intercept == pytest.approx(root, abs=1e-8)


@pytest.mark.parametrize("shift", [-4, -3, 3, 4])
def test_probabilities_far_off_have_the_intercept_of_the_score_equation(shift: int, tmp_path: Path) -> None:
    """Of all cases and of each resample, where Newton's method with whole steps overshoots."""
    generator = np.random.default_rng(0)
    log_odds = generator.normal(0, 0.5, 200) + shift
    labels = (generator.uniform(size=200) < expit(log_odds - shift)).astype(float)
    weights = patient_resamples(range(200), labels, 30, seed=0, stratified=False)
    found = slope_and_intercept(expit(log_odds), labels, weights)[1]
    for row, intercept in zip(weights, found, strict=True):
        root = brentq(lambda a, row=row: (row * (labels - expit(log_odds + a))).sum(), -20, 20)
        assert intercept == pytest.approx(root, abs=1e-8)
    scores = calibration_scores(expit(log_odds), labels, weights)
    root = brentq(lambda a: (labels - expit(log_odds + a)).sum(), -20, 20)
    assert scores["intercept"]["mean"] == pytest.approx(root, abs=1e-8) == pytest.approx(-shift, abs=0.5)
    assert scores["intercept"]["ci95"] == pytest.approx(np.percentile(found, [2.5, 97.5]).tolist())
    write_json(tmp_path / "metrics.json", scores)


def test_a_regression_without_a_solution_is_nan() -> None:
    """One outcome only, however far the offset; outcomes that a threshold separates; and those that touch at it."""
    one, ones = np.ones((1, 6)), np.ones((6, 1))
    for offset, outcome in itertools.product((-13.0, 0.0, 13.0), (0.0, 1.0)):
        assert np.isnan(logistic_fit(ones, np.full(6, offset), np.full(6, outcome), one)).all()
    for values, labels in (([-9, -8, -7, 7, 8, 9], [0, 0, 0, 1, 1, 1]), ([0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 1, 1])):
        design = np.hstack([ones, np.array(values, dtype=float)[:, None]])
        assert np.isnan(logistic_fit(design, np.zeros(6), np.array(labels, dtype=float), one)).all()


def test_log_odds_are_finite():
    found = log_odds_of(np.array([0.0, 0.25, 1.0]))
    assert found == pytest.approx([np.log(1e-6), -np.log(3), -np.log(1e-6)], abs=1e-5)
    assert float(log_odds_of(0.25)) == pytest.approx(-np.log(3))


def test_known_miscalibration_is_found():
    """Log odds twice too far from zero, and one too high."""
    generator = np.random.default_rng(0)
    log_odds = generator.normal(0, 1.5, 40_000)
    labels = (generator.uniform(size=len(log_odds)) < expit(log_odds)).astype(float)
    ones = np.ones((1, len(labels)))
    assert slope_and_intercept(expit(log_odds), labels, ones) == (
        pytest.approx(1, abs=0.05),
        pytest.approx(0, abs=0.05),
    )
    assert slope_and_intercept(expit(2 * log_odds), labels, ones)[0] == pytest.approx(0.5, abs=0.03)
    assert slope_and_intercept(expit(log_odds + 1), labels, ones)[1] == pytest.approx(-1, abs=0.05)
    assert calibration_error(expit(log_odds), labels) < 0.02 < 0.05 < calibration_error(expit(2 * log_odds), labels)


def test_intervals_are_the_bootstraps():
    probabilities, labels = study(1)
    weights = patient_resamples(np.arange(120) // 2, labels, 100, seed=0, stratified=False)
    scores = calibration_scores(probabilities, labels, weights)
    assert tuple(scores) == NAMES
    briers = [brier_score_loss(labels, probabilities, sample_weight=row) for row in weights]
    np.testing.assert_allclose(scores["brier"]["ci95"], np.percentile(briers, [2.5, 97.5]))
    for values, name in zip(slope_and_intercept(probabilities, labels, weights), ("slope", "intercept"), strict=True):
        np.testing.assert_allclose(scores[name]["ci95"], np.percentile(values, [2.5, 97.5]))
        assert scores[name]["ci95"][0] < scores[name]["mean"] < scores[name]["ci95"][1]
    assert scores["ece"]["ci95"] is None and "upwards" in scores["ece"]["reason"]


def overfitted(seed: int, spread: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right probabilities, far from even, of so few cases that outcomes of some resamples can be separated."""
    generator = np.random.default_rng(seed)
    log_odds = generator.normal(0, spread, count)
    labels = (generator.uniform(size=count) < expit(log_odds)).astype(float)
    return expit(log_odds), labels, patient_resamples(range(count), labels, 400, seed=0, stratified=False)


def test_a_slope_that_many_resamples_lack_has_no_interval() -> None:
    """They would lie beyond all others; the intercept, which each has, keeps its interval."""
    probabilities, labels, weights = overfitted(0, 4.0, 24)
    slopes, intercepts = slope_and_intercept(probabilities, labels, weights)
    assert np.isnan(slopes).mean() == pytest.approx(0.195) and np.isfinite(intercepts).all()
    scores = calibration_scores(probabilities, labels, weights)
    assert np.isfinite(scores["slope"]["mean"]) and scores["slope"]["ci95"] is None
    assert scores["slope"]["reason"].startswith("no interval, for in 20% of resamples outcomes can be separated")
    assert scores["intercept"]["ci95"] == pytest.approx(np.percentile(intercepts, [2.5, 97.5]).tolist())


def test_a_slope_that_few_resamples_lack_or_only_those_of_one_outcome_has_an_interval() -> None:
    probabilities, labels, weights = overfitted(2, 2.0, 24)
    slopes = slope_and_intercept(probabilities, labels, weights)[0]
    assert 0 < np.isnan(slopes).mean() < 0.025
    one_outcome = np.vstack([weights, np.tile(labels, (100, 1)), np.tile(1 - labels, (100, 1))])
    for drawn in (weights, one_outcome):
        found = calibration_scores(probabilities, labels, drawn)["slope"]
        assert found["ci95"] == pytest.approx(np.nanpercentile(slopes, [2.5, 97.5]).tolist())


def test_what_is_unknown_or_has_no_solution():
    probabilities, labels = study(2)
    without = calibration_scores(probabilities[7:], labels[7:], None)
    labels[:7] = np.nan
    assert calibration_scores(probabilities, labels, None) == without
    assert all("benign" in score["reason"] for score in calibration_scores(probabilities, np.zeros(120), None).values())
    certain = calibration_scores(np.array([0.0, 0.0, 0.3, 0.7, 1.0]), np.array([0.0, 0, 0, 1, 1]), None)
    assert certain["slope"]["mean"] is None and "separated" in certain["slope"]["reason"]
    assert np.isfinite(certain["intercept"]["mean"])
    constant = calibration_scores(np.full(4, 0.3), np.array([0.0, 1, 0, 1]), None)
    assert constant["intercept"]["mean"] == pytest.approx(-logit(0.3))
    assert constant["slope"]["mean"] is None and "all probabilities are equal" in constant["slope"]["reason"]
