"""Contrasts against loops, and Holm's correction against the closed testing that it is a shortcut of."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.evaluation.statistics.contrasts import contrast, holm, mean_of_drawn
from scripts.evaluation.statistics.metrics import auroc, patient_resamples, weighted_mean

CASES = 60
PATIENTS = np.repeat(np.arange(CASES // 2), 2)


def study(trainings: int, shift: float, spread: float, seed: int) -> np.ndarray:
    """Values (K, 1, N) of one run each: a case's own, a training's own, and noise."""
    generator = np.random.default_rng(seed)
    case = np.random.default_rng(0).normal(size=CASES)
    training = spread * generator.normal(size=(trainings, 1, 1))
    return case + shift + training + 0.1 * generator.normal(size=(trainings, 1, CASES))


def resamples(count: int = 500) -> np.ndarray:
    weights = patient_resamples(PATIENTS, np.arange(CASES) % 2, count, seed=0, stratified=False)
    assert weights is not None
    return weights


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.001, 0.01, 0.02, 0.3]), st.floats(0, 1)), max_size=6))
def test_holm_is_the_closure_of_bonferroni(p: list[float | None]) -> None:
    """Marcus, Peritz and Gabriel 1976: the largest p, by Bonferroni, of all families that hold the hypothesis."""
    known = [index for index, value in enumerate(p) if value is not None]
    families = [family for size in range(1, len(known) + 1) for family in combinations(known, size)]
    expected = [
        None
        if value is None
        else max(min(1.0, len(family) * min(p[each] for each in family)) for family in families if index in family)
        for index, value in enumerate(p)
    ]
    assert holm(p) == pytest.approx(expected)


def test_holm_as_published() -> None:
    """R 4.3: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")."""
    assert holm([0.05, 0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.09, 0.05, 0.08, 0.09, 0.09])
    assert holm([]) == [] and holm([None]) == [None]


def test_trainings_are_drawn_as_a_loop_draws_them() -> None:
    scores, draws = np.random.default_rng(0).normal(size=(3, 50)), np.random.default_rng(1).random((50, 3))
    expected = [np.mean([scores[int(3 * draw), b] for draw in draws[b]]) for b in range(50)]
    np.testing.assert_allclose(mean_of_drawn(scores, draws), expected)


def test_one_training_each_is_the_paired_bootstrap() -> None:
    """Then patients alone are drawn, the same ones for both: what all cases have in common cancels."""
    first, second = study(1, 0.5, 0.0, seed=1), study(1, 0.0, 0.0, seed=2)
    weights = resamples()
    found = contrast(weighted_mean, first, second, weights)
    drawn = [np.average(first[0, 0] - second[0, 0], weights=each) for each in weights]
    assert found["mean"] == pytest.approx((first - second).mean())
    np.testing.assert_allclose(found["ci95"], np.percentile(drawn, [2.5, 97.5]))
    assert np.ptp(found["ci95"]) < 0.2 and found["p"] == pytest.approx(2 / 501)


def test_an_interval_holds_the_spread_of_the_trainings() -> None:
    """Its variance is the sum of what patients give and, of K trainings, (K - 1) / K of what trainings give."""
    first, second = study(4, 0.5, 1.0, seed=1), study(3, 0.0, 1.0, seed=2)
    found = contrast(weighted_mean, first, second, resamples(4000))
    means = [each.mean(axis=(1, 2)) for each in (first, second)]
    variance = sum(each.var() / len(each) for each in means)  # that of a mean of K drawn with replacement
    assert found["mean"] == pytest.approx(means[0].mean() - means[1].mean())
    assert np.ptp(found["ci95"]) == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)
    alone = contrast(weighted_mean, first[:1], second[:1], resamples())
    assert np.ptp(alone["ci95"]) < 0.2 * np.ptp(found["ci95"])


def test_runs_are_averaged_as_scores_and_not_as_values() -> None:
    """Two runs that each know one half are at 7/8 each, and at 1 together; numbers of runs may differ."""
    labels = np.arange(CASES) % 2
    half = np.where(np.arange(CASES) < CASES // 2, labels - 0.5, 0.0)
    runs, weights = np.stack([half, (labels - 0.5) - half]), resamples()

    def score(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return auroc(values, labels, weights)

    found = contrast(score, [runs], [np.zeros((1, CASES))], weights)
    areas = [score(run[None], weights)[0] for run in runs]
    assert score(runs.mean(axis=0, keepdims=True), np.ones((1, CASES))).item() == 1.0
    assert found["mean"] == pytest.approx(0.875 - 0.5)
    np.testing.assert_allclose(found["ci95"], np.percentile(np.mean(areas, axis=0) - 0.5, [2.5, 97.5]))


def test_equal_methods_do_not_differ() -> None:
    values = study(3, 0.0, 0.5, seed=1)
    found = contrast(weighted_mean, values, values, resamples())
    assert found["mean"] == 0 and found["p"] > 0.5
    nothing = contrast(weighted_mean, values, values, None)
    assert nothing["ci95"] is None and nothing["p"] is None and "too few patients" in nothing["reason"]
