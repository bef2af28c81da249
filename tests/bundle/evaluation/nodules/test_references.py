"""What forecasts are held against: by hand, and on laws that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from scripts.evaluation.nodules import references
from scripts.evaluation.statistics.forecasts import crps


def test_climatology_and_copy_by_hand() -> None:
    before = np.array([4.0, 10.0])
    found = references.climatology(before, np.array([0.5, 1.0, 2.0]))
    assert found.members.tolist() == [[2, 5], [4, 10], [8, 20]] and found.drawn
    unchanged = references.copy(before)
    assert unchanged.crps(np.array([5.0, 7.0])).tolist() == [1.0, 3.0] and unchanged.reaches("interval50")


def test_the_regression_finds_quantiles_that_depend_on_record_and_size() -> None:
    """Large nodules of one sex grow, and the others' growth varies less; who is not known to be either lies between."""
    noise = np.random.default_rng(0)
    before, gender = noise.uniform(4, 20, 1500), noise.integers(1, 3, 1500)
    grows = (gender == 2) & (before > 12)
    growth = np.exp(0.3 * grows + noise.normal(0, np.where(grows, 0.2, 0.05)))
    records = [{"gender": float(code), "sct_margins": 1.0} for code in gender]
    fitted = references.QuantileRegression(references.predictors(records, before, np.full(1500, 365.0)), growth)
    asked = references.predictors([{"gender": 1.0}, {"gender": 2.0}, {}], np.full(3, 16.0), np.full(3, 365.0))
    found = fitted.forecast(asked, np.full(3, 16.0))
    assert not found.drawn and (np.diff(found.members, axis=0) >= 0).all()
    for case, (mean, sd) in enumerate([(0, 0.05), (0.3, 0.2)]):
        exact = mean + sd * norm.ppf(references.LEVELS[[1, 7, 22, 28]])
        np.testing.assert_allclose(np.log(found.members[[1, 7, 22, 28], case] / 16), exact, atol=0.08)


def test_predictors_have_gaps_where_nothing_is_known() -> None:
    found = references.predictors([{"age": 60.0}, {}], np.array([np.e, 1.0]), np.array([365.0, np.nan]))
    assert found.shape == (2, 15) and np.isfinite(found).sum() == 4 and found[0, -2:].tolist() == [1.0, 365.0]


def test_the_share_of_the_runs_is_what_they_tell() -> None:
    """Runs that tell twice the growth that is to come have half of it; runs that tell nothing leave climatology."""
    noise = np.random.default_rng(1)
    before, signal = noise.uniform(5, 15, 400), noise.normal(0, 0.2, 400)
    truth = before * np.exp(0.1 + signal + noise.normal(0, 0.1, 400))
    runs = before * np.exp(0.5 + 2 * signal + noise.normal(0, 0.02, (20, 400)))
    growth = np.exp(0.1 + noise.normal(0, 0.1, 300))
    fitted = references.Dressed(runs, before, truth, growth)
    assert fitted.share == pytest.approx(0.5, abs=0.02)
    found = fitted.forecast(runs, before).crps(truth).mean()
    assert found < references.climatology(before, growth).crps(truth).mean()
    exact = before * np.exp(0.1 + signal + noise.normal(0, 0.1, (300, 400)))
    assert found == pytest.approx(crps(exact, truth).mean(), rel=0.03)
    mixed = noise.permutation(400)
    told = references.Dressed(before * (runs / before)[:, mixed], before, truth, growth)
    assert told.share < 0.06
