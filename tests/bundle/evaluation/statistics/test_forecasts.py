"""Scores of forecasts against integrals, other formulas, and data that are simulated to be exchangeable."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, kstest, norm
from sklearn.metrics import mean_pinball_loss

from scripts.evaluation.statistics import forecasts
from scripts.evaluation.statistics.forecasts import Forecast, conformal, correction, crps

finite = st.floats(-20, 20, allow_subnormal=False)


@given(arrays(float, st.integers(1, 8), elements=finite), finite)
def test_the_plain_crps_is_the_integral(members: np.ndarray, truth: float) -> None:
    """Of the squared difference of the distribution functions, exactly, since both are steps."""
    places = np.sort([*members, truth])
    middles, widths = (places[1:] + places[:-1]) / 2, np.diff(places)
    below = (members[:, None] <= middles).mean(axis=0)
    integral = (widths * np.square(below - (truth <= middles))).sum()
    assert crps(members[:, None], np.array([truth]), fair=False)[0] == pytest.approx(integral, abs=1e-9)


@settings(max_examples=30)
@given(arrays(float, st.integers(4, 7), elements=finite), finite, st.integers(2, 3))
def test_the_fair_crps_does_not_depend_on_the_number_of_members(members: np.ndarray, truth: float, some: int) -> None:
    """Its mean over all ensembles that can be drawn from the members is that of all of them: it is without bias."""
    each = [crps(np.array(drawn)[:, None], np.array([truth]))[0] for drawn in combinations(members, some)]
    assert np.mean(each) == pytest.approx(crps(members[:, None], np.array([truth]))[0], abs=1e-9)


def test_the_fair_crps_of_few_normal_draws_is_that_of_the_normal_distribution() -> None:
    truth = np.array([-1.5, 0.0, 0.7])
    exact = truth * (2 * norm.cdf(truth) - 1) + 2 * norm.pdf(truth) - 1 / np.sqrt(np.pi)  # Gneiting and Raftery, Eq. 5
    draws = np.random.default_rng(0).normal(size=(3, 3, 200_000)).reshape(3, -1)
    cases = np.repeat(truth, 200_000)
    fair, plain = (crps(draws, cases, fair).reshape(3, -1).mean(axis=1) for fair in (True, False))
    np.testing.assert_allclose(fair, exact, atol=0.006)
    np.testing.assert_allclose(plain - exact, 1 / np.sqrt(np.pi) / 3, atol=0.006)  # the bias, E|x - x'| / (2 M)


def test_of_quantiles_it_is_twice_their_mean_loss() -> None:
    noise = np.random.default_rng(1)
    levels, truth = (np.arange(30) + 0.5) / 30, noise.normal(size=9)
    quantiles = np.sort(noise.normal(size=(30, 9)), axis=0)
    losses = [2 * mean_pinball_loss(truth, each, alpha=level) for level, each in zip(levels, quantiles, strict=True)]
    assert Forecast(quantiles, drawn=False).crps(truth).mean() == pytest.approx(np.mean(losses))
    np.testing.assert_array_equal(Forecast(quantiles, drawn=False).ends("interval90"), quantiles[[1, 28]])
    assert Forecast(np.array([[3.0]]), drawn=False).crps(np.array([5.0])) == [2.0]
    with pytest.raises(ValueError, match="two members"):
        crps(np.array([[3.0]]), np.array([5.0]))


@pytest.mark.parametrize("runs", [19, 20, 39])
def test_quantiles_of_the_runs_hold_what_they_say(runs: int) -> None:
    """Of another draw from the same distribution; numpy's default would hold 85 % in place of 90 % of 20 runs."""
    draws = np.random.default_rng(2).exponential(size=(runs + 1, 40_000))
    forecast, truth = Forecast(draws[1:]), draws[0]
    for name, share in (("interval50", 0.5), ("interval90", 0.9)):
        scored = forecasts.interval_scores(forecast.ends(name), truth, None)
        assert scored["coverage"]["mean"] == pytest.approx(share, abs=0.01)
    assert forecast.reaches("interval90") is None
    assert "fewer than 19 runs; here 18" in str(Forecast(draws[:18]).reaches("interval90"))
    assert Forecast(draws[:3]).reaches("interval50") is None


@given(st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9]))
def test_with_one_case_a_patient_the_rank_is_that_of_split_conformal_prediction(count: int, share: float) -> None:
    scores = np.random.default_rng(count).permutation(count).astype(float)
    rank = int(np.ceil(round((count + 1) * share, 9)))
    assert correction(scores, range(count), share) == (None if rank > count else rank - 1)
    assert (rank > count) == (count < forecasts.fewest_patients(share))


def test_new_patients_are_covered_however_many_cases_the_others_have() -> None:
    """Cases of a patient are alike, and some patients have six: to count cases as patients would cover too little."""
    noise, patients, rounds = np.random.default_rng(3), 19, 4000
    counts = np.array([1] * 13 + [6] * 6)
    names = np.repeat(np.arange(patients), counts)
    covered = {share: 0 for share in (0.5, 0.9)}
    for _ in range(rounds):
        means = noise.normal(0, 3, patients + 1) ** 2
        drawn = means[names] + noise.random(len(names))
        for share in covered:
            covered[share] += means[-1] + noise.random() <= correction(drawn, names, share)  # type: ignore[operator]
    for share, found in covered.items():
        low, high = binom.ppf([0.001, 0.999], rounds, [share, share + 1 / (patients + 1)]) / rounds
        assert low <= found / rounds <= high


@pytest.mark.parametrize("spread", [0.4, 2.5])
def test_conformal_intervals_mend_what_is_too_narrow_or_too_wide(spread: float) -> None:
    noise = np.random.default_rng(4)
    found = []
    for _ in range(300):
        truth = np.exp(noise.normal(2, 0.3, 160))
        members = np.exp(2 + spread * noise.normal(0, 0.3, (20, 160)) + 0.1)
        some, others = Forecast(members[:, :80]), Forecast(members[:, 80:])
        for name in forecasts.INTERVALS:
            low, high = conformal(others, some, truth[:80], range(80), name)
            found.append(((low <= truth[80:]) & (truth[80:] <= high)).mean())
    half, most = np.array(found).reshape(-1, 2).mean(axis=0)
    assert half == pytest.approx(0.5, abs=0.03) and most == pytest.approx(0.9, abs=0.02)


def test_too_few_patients_for_an_interval_are_named() -> None:
    truth = np.linspace(5, 9, 12)
    forecast = Forecast(truth + np.linspace(-1, 1, 20)[:, None])
    scored = forecasts.scores(forecast, truth, None, (forecast, truth, ["a"] * 4 + list("bcdefghi")[:8]))
    assert scored["interval90"]["conformal"]["coverage"]["mean"] == 1.0, "nine patients"
    scored = forecasts.scores(forecast, truth, None, (forecast, truth, ["a"] * 5 + list("bcdefgh")))
    reason = scored["interval90"]["conformal"]["width"]["reason"]
    assert reason == "not computable: a 90% interval needs 9 or more validation patients, here 8"
    assert scored["interval50"]["conformal"]["coverage"]["mean"] is not None
    assert scored["interval90"]["raw"]["coverage"]["mean"] == 1.0
    without = forecasts.scores(forecast, truth, None, "no validation section")["interval50"]["conformal"]
    assert without["coverage"]["reason"] == "no validation section"
    with pytest.raises(ValueError, match="fewer than 9"):
        conformal(forecast, forecast, truth, ["a"] * 12, "interval90")


@pytest.mark.parametrize("steps", [None, 1.0])
def test_ranks_of_a_right_forecast_are_even_with_ties_too(steps: float | None) -> None:
    draws = np.random.default_rng(5).normal(5, 1.5, size=(21, 6000))
    draws = draws if steps is None else np.round(draws / steps) * steps
    forecast, truth = Forecast(draws[1:]), draws[0]
    assert kstest(forecasts.positions(forecast, truth), "uniform").pvalue > 0.01
    found = forecasts.rank_histogram(forecast, truth)
    assert len(found["counts"]) == 21 and sum(found["counts"]) == 6000 and found["p"] > 0.01
    expected = np.square(np.array(found["counts"]) - 6000 / 21).sum() / (6000 / 21)
    assert found["chi_square"] == pytest.approx(expected) and found["degrees_of_freedom"] == 20
    if steps is None:
        ranks = np.bincount((draws[1:] < truth).sum(axis=0), minlength=21)
        assert found["counts"] == ranks.tolist() and found["below"] == ranks[0] / 6000
    assert found == forecasts.rank_histogram(forecast, truth), "the ties are broken by a seed"
    narrow = forecasts.rank_histogram(Forecast(5 + 0.3 * (draws[1:] - 5)), truth)
    assert narrow["p"] < 1e-6 and min(narrow["counts"][0], narrow["counts"][-1]) > 1000


def test_places_between_quantiles_are_even_and_few_cases_have_few_bins() -> None:
    truth = np.random.default_rng(6).random(3000)
    levels = (np.arange(30) + 0.5) / 30
    forecast = Forecast(np.tile(levels[:, None], 3000), drawn=False)
    np.testing.assert_allclose(forecasts.positions(forecast, truth), truth, atol=1 / 30)
    assert kstest(forecasts.positions(forecast, truth), "uniform").pvalue > 0.01
    few = Forecast(forecast.members[:, :23], drawn=False)
    assert len(forecasts.rank_histogram(few, truth[:23])["counts"]) == 4
    assert "fewer than 10 cases" in forecasts.rank_histogram(few, truth[:1])["reason"]
    alone = forecasts.rank_histogram(Forecast(truth[None], drawn=False), truth)
    assert alone == {"reason": "not given for a single value"}
