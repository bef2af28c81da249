"""Correlation and balanced accuracy, against SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from scripts.evaluation.statistics.correlation import balanced_accuracy, correlation, spearman


def test_balanced_accuracy_equals_scikit_learns():
    from sklearn.metrics import balanced_accuracy_score

    generator = np.random.default_rng(0)
    truth, classes = generator.integers(-1, 2, 40), generator.integers(-1, 2, (3, 40))
    weights = generator.integers(1, 4, (5, 40)).astype(float)
    expected = [[balanced_accuracy_score(truth, run, sample_weight=row) for row in weights] for run in classes]
    np.testing.assert_allclose(balanced_accuracy(classes, truth, weights), expected)


def test_correlation_equals_scipys_on_each_resample():
    from scipy.stats import pearsonr, spearmanr

    generator = np.random.default_rng(0)
    truth = generator.normal(size=30).round(1)  # with ties
    values = (0.5 * truth + generator.normal(size=(3, 30))).round(1)
    weights = generator.multinomial(30, np.full(30, 1 / 30), size=6).astype(float)
    for ranked, plain in ((False, pearsonr), (True, spearmanr)):
        found = correlation(values, truth, weights, ranked)
        copies = [np.repeat(np.arange(30), row.astype(int)) for row in weights]
        expected = [[plain(run[copy], truth[copy]).statistic for copy in copies] for run in values]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        once = [plain(run, truth).statistic for run in values]
        np.testing.assert_allclose(correlation(values, truth, ranked=ranked)[:, 0], once, atol=1e-12)
        # what does not vary, but for rounding, has no correlation
        assert np.isnan(correlation(0.1 + 0.2 + np.zeros((1, 30)), truth, weights, ranked)).all()
        assert np.isnan(correlation(values, 0.1 + 0.2 + np.zeros(30), weights, ranked)).all()


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=3, max_size=30).filter(
        lambda rows: all(len({row[k] for row in rows if row[2]}) > 1 for k in (0, 1))
    )
)
def test_weighted_spearman_is_scipys_of_repeated_values(rows: list[tuple[int, int, int]]) -> None:
    first, second, counts = np.array(rows, dtype=float).T
    ours = spearman(first, second, [counts, np.ones(len(rows))])
    repeated = counts.astype(int)
    assert ours[0] == pytest.approx(spearmanr(np.repeat(first, repeated), np.repeat(second, repeated)).statistic)
    assert ours[1] == pytest.approx(spearmanr(first, second).statistic)
