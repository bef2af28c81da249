"""Regret against differences of losses that are simulated, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.evaluation.statistics.regret import divergence, regrets


def oracle_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).beta(1, 3, count)


def test_it_is_the_expected_difference_of_logarithmic_losses():
    """Outcomes drawn by the oracle, many times; scikit-learn has the losses."""
    rng, oracle = np.random.default_rng(1), oracle_of(40)
    given = np.clip(oracle + rng.normal(0, 0.2, 40), 0.02, 0.98)
    outcomes = rng.uniform(size=(4000, 40)) < oracle
    many = {name: np.tile(values, 4000) for name, values in (("oracle", oracle), ("given", given))}
    difference = log_loss(outcomes.ravel(), many["given"]) - log_loss(outcomes.ravel(), many["oracle"])
    assert divergence(oracle, given).mean() == pytest.approx(difference, abs=0.004)
    assert difference > 0.05


def test_none_is_better_than_the_oracle():
    oracle = oracle_of(500)
    assert np.abs(divergence(oracle, oracle)).max() < 1e-9
    for step in (-0.01, 0.01):
        assert (divergence(oracle, np.clip(oracle + step, 0.001, 0.999)) > 0).all()
    certain = divergence(np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0]))
    assert certain[:2] == pytest.approx([0, 0], abs=1e-5) and np.isfinite(certain[2]) and certain[2] > 10


def test_regret_and_its_share_of_the_baselines_with_intervals():
    """Where growth is seen, the oracle that knows it counts; cases without an oracle do not."""
    oracle, informed = np.array([0.2, 0.4, 0.6, np.nan]), np.array([0.0, 0.1, 0.9, np.nan])
    weights = patient_resamples(list("abcd"), np.array([0, 1, 1, 0]), 200, 0, stratified=False)
    methods = {
        "baseline": np.full((1, 4), 0.4),
        "good": np.array([[0.2, 0.4, 0.5, 0.9]]),
        "follow-up": np.array([[1e-9, 0.1, 0.9, 0.5]]),
    }
    found = regrets(methods, oracle, informed, ["follow-up"], "baseline", weights)
    by_hand = (0.2 * np.log(0.5) + 0.8 * np.log(0.8 / 0.6) + 0.6 * np.log(1.5) + 0.4 * np.log(0.4 / 0.6)) / 3
    assert found["baseline"]["regret"]["mean"] == pytest.approx(by_hand)
    good = (0.6 * np.log(1.2) + 0.4 * np.log(0.8)) / 3
    assert found["good"]["regret"]["mean"] == pytest.approx(good)
    assert found["good"]["of_baseline"]["mean"] == pytest.approx(good / by_hand)
    assert found["follow-up"]["regret"]["mean"] == pytest.approx(0, abs=1e-5)
    low, high = found["baseline"]["regret"]["ci95"]
    assert 0 <= low < by_hand < high and found["baseline"]["of_baseline"]["ci95"] == pytest.approx([1, 1])
    assert regrets(methods, oracle, informed, [], "baseline", None)["good"]["regret"]["ci95"] is None


def test_runs_that_diverge_alike_have_the_regret_of_one():
    """Of one and of two runs, each as far from the oracle: the mean of their divergences, not that of their mean."""
    oracle, low, high = np.full(4, 0.5), np.full(4, 0.2), np.full(4, 0.8)
    weights = patient_resamples(list("abcd"), np.array([0, 1, 1, 0]), 50, 0, stratified=False)
    methods = {"baseline": low[None], "two runs": np.stack([low, high]), "averaged": (low[None] + high) / 2}
    found = regrets(methods, oracle, oracle, [], "baseline", weights)
    one, two, averaged = (found[name]["regret"] for name in methods)
    assert two["mean"] == pytest.approx(one["mean"]) and two["ci95"] == pytest.approx(one["ci95"])
    assert two["std"] == pytest.approx(0) and one["std"] is None and averaged["mean"] == pytest.approx(0)
    assert found["two runs"]["of_baseline"]["mean"] == pytest.approx(1)


def test_real_datasets_have_none():
    unknown = np.full(3, np.nan)
    assert regrets({"baseline": np.full((1, 3), 0.5)}, unknown, unknown, [], "baseline", None) is None


def test_where_the_baseline_is_the_oracle_there_is_no_share():
    found = regrets({"baseline": np.full((1, 3), 0.5)}, np.full(3, 0.5), np.full(3, 0.5), [], "baseline", None)
    assert found["baseline"]["of_baseline"]["mean"] is None and found["baseline"]["regret"]["mean"] == 0
