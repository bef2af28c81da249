"""DeLong's and the bootstrap's p against a jackknife, a published example, loops and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from scripts.evaluation.statistics.differences import auroc_difference, bootstrap_p, delong_p, delong_variance
from scripts.evaluation.statistics.metrics import auroc, patient_resamples

seeds = st.integers(0, 2**32 - 1)


def study(seed: int, patients: int = 40, cases: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two scores with ties of cases that are alike within a patient, outcomes, and patients."""
    generator = np.random.default_rng(seed)
    index = np.repeat(np.arange(patients), cases)
    labels = (generator.normal(size=patients)[index] + generator.normal(size=len(index)) > 0.5).astype(float)
    labels[:2] = 0, 1
    labels[-2:] = 0, 1
    patient = generator.normal(size=patients)[index]
    both = [labels + patient + generator.normal(size=len(index)) for _ in range(2)]
    return np.round(both[0], 1), np.round(both[1], 1), labels, index


@settings(max_examples=5)
@given(seeds)
def test_variance_of_independent_cases_is_that_of_the_jackknife(seed):
    """Exactly, for an AUROC: leaving out one case of an outcome at a time (Arvesen 1969)."""
    first, second, labels, _ = study(seed, patients=10)

    def difference(keep):
        return roc_auc_score(labels[keep], first[keep]) - roc_auc_score(labels[keep], second[keep])

    expected = 0.0
    for outcome in (0, 1):
        members = np.flatnonzero(labels == outcome)
        left_out = np.array([difference(np.arange(len(labels)) != member) for member in members])
        expected += (len(members) - 1) / len(members) * np.square(left_out - left_out.mean()).sum()
    assert delong_variance(first, second, labels, range(len(labels))) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_published_example():
    """Hanley and McNeil 1982: 109 images in five categories, AUROC 0.893; Stata's roctab gives 0.8932 and 0.0307."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    ratings = np.repeat(np.tile(np.arange(5.0), 2), [*normal, *abnormal])
    labels = np.repeat([0.0, 1.0], [58, 51])
    assert auroc(ratings[None], labels)[0, 0] == pytest.approx(0.8932, abs=5e-5)
    alone = delong_variance(ratings, np.zeros(109), labels, range(109))  # a constant score has no variance of its own
    assert np.sqrt(alone) == pytest.approx(0.0307, abs=5e-5)


def test_clustered_variance_equals_obuchowskis_formula_written_out():
    first, second, labels, patients = study(3, patients=12)
    malignant, benign = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)

    def order(a, b):
        return 1.0 if a > b else 0.5 if a == b else 0.0

    def sums(score):
        """Per patient: X component less its share, Y component less its share."""
        theta = np.mean([[order(score[i], score[k]) for k in benign] for i in malignant])
        x, y = [], []
        for patient in range(12):
            own_x = [np.mean([order(score[i], score[k]) for k in benign]) for i in malignant if patients[i] == patient]
            own_y = [np.mean([order(score[i], score[k]) for i in malignant]) for k in benign if patients[k] == patient]
            x.append(sum(own_x) - len(own_x) * theta)
            y.append(sum(own_y) - len(own_y) * theta)
        return np.array(x), np.array(y)

    m, n = len(malignant), len(benign)
    i10, i01 = len(set(patients[malignant])), len(set(patients[benign]))

    def covariance(one, other):
        s10 = i10 / ((i10 - 1) * m) * (one[0] @ other[0])
        s01 = i01 / ((i01 - 1) * n) * (one[1] @ other[1])
        s11 = 12 / 11 * (one[0] @ other[1]), 12 / 11 * (other[0] @ one[1])
        return s10 / m + s01 / n + sum(s11) / (m * n)

    a, b = sums(first), sums(second)
    expected = covariance(a, a) + covariance(b, b) - 2 * covariance(a, b)
    assert delong_variance(first, second, labels, patients) == pytest.approx(expected, rel=1e-9)


def test_doubled_cases_are_no_new_knowledge_to_the_clustered_test_alone():
    first, second, labels, _ = study(4, patients=60, cases=1)
    twice = [np.tile(values, 2) for values in (first, second, labels)]
    once = delong_variance(first, second, labels, range(60))
    assert delong_variance(*twice, [*range(60), *range(60)]) == pytest.approx(once)
    assert delong_variance(*twice, range(120)) < 0.55 * once


def test_clustered_variance_is_that_between_studies():
    """Of many simulated studies, and of the patient bootstrap; cases taken as independent make it too small."""
    differences, clustered, independent, resampled = [], [], [], []
    for seed in range(150):
        first, _, labels, patients = study(seed, patients=60)
        constant = np.zeros(len(labels))
        differences.append(auroc(first[None], labels)[0, 0])
        clustered.append(delong_variance(first, constant, labels, patients))
        independent.append(delong_variance(first, constant, labels, range(len(labels))))
        if seed < 10:
            weights = patient_resamples(patients, labels, 400, seed=seed, stratified=False)
            resampled.append(auroc(first[None], labels, weights)[0].var(ddof=1))
    truth = np.var(differences, ddof=1)
    assert np.mean(clustered) == pytest.approx(truth, rel=0.25)
    assert np.mean(resampled) == pytest.approx(np.mean(clustered[:10]), rel=0.15)
    assert np.mean(independent) < 0.9 * np.mean(clustered)


def test_p_of_delong():
    first, second, labels, patients = study(5)
    z = np.subtract(*auroc(np.stack([first, second]), labels)[:, 0])
    z /= np.sqrt(delong_variance(first, second, labels, patients))
    assert delong_p(first, second, labels, patients) == pytest.approx(2 * norm.cdf(-abs(z)))
    assert delong_p(first, second, labels, patients) == pytest.approx(delong_p(second, first, labels, patients))
    assert delong_p(first, first, labels, patients) is None
    assert delong_p(first[:4], second[:4], np.array([0, 1, 1, 1.0]), range(4)) is None  # one benign case


def test_p_of_the_bootstrap_counts_the_rarer_side():
    assert bootstrap_p(np.array([1.0, 2, 3, -1, np.nan, 4, 5, 6, 7])) == pytest.approx(2 * 2 / 9)
    assert bootstrap_p(np.arange(1.0, 100)) == pytest.approx(0.02)
    assert bootstrap_p(np.zeros(50)) == 1.0
    assert bootstrap_p(np.array([np.nan, 1.0])) is None


def test_difference_is_paired():
    """The same weights for both: the interval of a small but steady difference is narrower than each AUROC's own."""
    first, _, labels, patients = study(6)
    second = first + 0.2 * (labels - 0.5)
    weights = patient_resamples(patients, labels, 300, seed=0)
    result = auroc_difference(second, first, labels, patients, weights)
    resampled = [auroc(score[None], labels, weights)[0] for score in (second, first)]
    np.testing.assert_allclose(result["ci95"], np.percentile(resampled[0] - resampled[1], [2.5, 97.5]))
    assert np.ptp(result["ci95"]) < 0.5 * np.ptp(np.percentile(resampled[0], [2.5, 97.5]))
    assert result["ci95"][0] > 0 and result["p"] == pytest.approx(2 / 301)
    assert result["p_delong_clustered"] == delong_p(second, first, labels, patients)
    assert result["p_delong_independent"] == delong_p(second, first, labels, range(len(labels)))


def test_one_malignant_patient_gives_a_difference_no_interval():
    labels = (np.arange(30) < 1).astype(float)
    weights = patient_resamples(range(30), labels, 100, seed=0)
    values = np.random.default_rng(0).uniform(size=(2, 30))
    found = auroc_difference(*values, labels, range(30), weights)
    assert found["mean"] is not None and found["ci95"] is None and found["p"] is None


def test_differences_without_outcomes_or_patients():
    first, second, labels, patients = study(7)
    weights = patient_resamples(patients, labels, 30, seed=0)
    without = auroc_difference(first[9:], second[9:], labels[9:], patients[9:], weights[:, 9:])
    labels[:9] = np.nan
    assert auroc_difference(first, second, labels, patients, weights) == without
    nothing = auroc_difference(first, second, np.zeros(len(labels)), patients, weights)
    assert nothing["mean"] is None and nothing["p"] is None and "benign" in nothing["reason"]
    alone = auroc_difference(first[9:], second[9:], labels[9:], ["a"] * (len(labels) - 9), None)
    assert alone["p"] is None and alone["ci95"] is None and alone["p_delong_clustered"] is None
