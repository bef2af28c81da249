"""Net benefit against arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.evaluation.statistics.decision_curve import THRESHOLDS, decision_curves, net_benefit_differences

PROBABILITIES = np.array([0.05, 0.15, 0.30, 0.40, 0.60, 0.80, 0.10, 0.20, 0.70, 0.90])
LABELS = np.array([0, 0, 0, 1, 0, 1, 0, 1, 1, 1], dtype=float)


def by_hand(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    true = sum(p >= threshold and y == 1 for p, y in zip(probabilities, labels, strict=True))
    false = sum(p >= threshold and y == 0 for p, y in zip(probabilities, labels, strict=True))
    return true / len(labels) - false / len(labels) * threshold / (1 - threshold)


def test_the_curve_is_true_positives_less_weighted_false_ones() -> None:
    curves = decision_curves({"a": PROBABILITIES}, LABELS, None)
    assert curves["thresholds"][0] == 0.01 and curves["thresholds"][-1] == 0.5 and len(curves["thresholds"]) == 50
    for threshold, value, everyone in zip(
        THRESHOLDS, curves["net_benefit"]["a"], curves["net_benefit"]["treat_all"], strict=True
    ):
        assert value == pytest.approx(by_hand(PROBABILITIES, LABELS, threshold))
        assert everyone == pytest.approx(0.5 - 0.5 * threshold / (1 - threshold))
    # at 20 %: 5 of 5 malignant, 0.30 and 0.60 of the benign ones
    assert curves["net_benefit"]["a"][19] == pytest.approx(0.5 - 0.2 * 0.25)


def test_differences_are_paired_and_the_main_method_is_held_against_all() -> None:
    rng = np.random.default_rng(0)
    other = rng.uniform(size=10)
    weights = rng.multinomial(10, np.full(10, 0.1), size=300).astype(float)
    given = {"main": np.append(PROBABILITIES, 0.5), "other": np.append(other, 0.5)}
    labels = np.append(LABELS, np.nan)
    curves = decision_curves(given, labels, np.hstack([weights, np.ones((300, 1))]), "main")
    assert set(curves["differences"]["main"]) == {"treat_all", "treat_none", "other"}
    assert set(curves["differences"]["other"]) == {"treat_all", "treat_none"}
    score = curves["differences"]["main"]["other"]["0.3"]
    assert score["mean"] == pytest.approx(by_hand(PROBABILITIES, LABELS, 0.3) - by_hand(other, LABELS, 0.3))
    drawn = []
    for row in weights:
        cases = np.repeat(np.arange(10), row.astype(int))
        drawn.append(by_hand(PROBABILITIES[cases], LABELS[cases], 0.3) - by_hand(other[cases], LABELS[cases], 0.3))
    assert score["ci95"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist())
    none = curves["differences"]["main"]["treat_none"]["0.3"]
    assert none["mean"] == pytest.approx(by_hand(PROBABILITIES, LABELS, 0.3))


def test_a_method_does_not_differ_from_itself() -> None:
    weights = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=50).astype(float)
    for score in net_benefit_differences(PROBABILITIES, PROBABILITIES, LABELS, weights).values():
        assert score["mean"] == 0 and score["ci95"] == [0, 0]


@pytest.mark.parametrize(("labels", "said"), [(np.zeros(10), "benign"), (np.full(10, np.nan), "no case")])
def test_without_both_outcomes_there_is_no_curve(labels: np.ndarray, said: str) -> None:
    assert said in decision_curves({"a": PROBABILITIES}, labels, None)["reason"]
