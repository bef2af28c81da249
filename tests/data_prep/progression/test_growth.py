import numpy as np
import pandas as pd
import pytest
from scipy import stats

from data_prep.progression.growth import DECIMALS, Brownian, Doubling, Mixture, Normal, Uniform
from data_prep.progression.laws import read
from tests.data_prep.progression.real import growth_of_nlst

PARTS = {
    "doubling": Doubling(300, 0.6, 90, 2000),
    "normal": Normal(1.0, 0.05, 0.9, 1.1),
    "uniform": Uniform(0.65, 0.95),
    "brownian": Brownian(0.2, 0.4, 0.5, 2.0),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("days", [200.0, 500.0])
def test_draws_follow_the_distribution_function(name, days):
    rng, part = np.random.default_rng(1), PARTS[name]
    drawn = np.sort([part.draw(days, rng) for _ in range(3000)])
    between = drawn[(drawn > drawn.min()) & (drawn < drawn.max())]
    share = np.searchsorted(drawn, between, side="right") / len(drawn)
    assert np.abs(part.cdf(between, np.array(days)) - share).max() < 0.03
    assert part.cdf(np.array([drawn[0] - 1e-3, drawn[-1] + 1e-3]), np.array(days)) == pytest.approx([0, 1], abs=2e-3)


@pytest.mark.parametrize("outcome", [0, 1])
@pytest.mark.parametrize("law", ["published", "real"])
def test_probabilities_of_all_factors_sum_to_one(law, outcome):
    factors = np.round(np.arange(0.2, 4.5, 10.0**-DECIMALS), DECIMALS)
    assert read(law).growth[outcome].probability(factors, 365.25).sum() == pytest.approx(1.0, abs=1e-9)


def test_limits_have_the_draws_beyond_them():
    """Of doubling times log-normal around 300 days, those below 90 stand as 90."""
    fastest = round(2.0 ** (365.25 / 270), DECIMALS)
    expected = stats.lognorm.cdf(90, 0.6, scale=300)
    mixture = Mixture((PARTS["doubling"],), (1.0,))
    assert mixture.probability(fastest, 365.25) == pytest.approx(expected, rel=0.01)
    assert mixture.probability(fastest + 1e-3, 365.25) == 0


def test_growth_in_two_years_is_that_of_one_year_twice():
    """Mean and variance of the logarithm are in proportion to time."""
    part, rng = Brownian(0.1, 0.2, 1e-3, 1e3), np.random.default_rng(0)
    log = np.log([part.draw(730.5, rng) for _ in range(5000)])
    assert log.mean() == pytest.approx(0.2, abs=0.015) and log.var() == pytest.approx(0.08, rel=0.08)


def simulated(law, outcome, rng, count=3000):
    return np.array([law.growth[outcome].draw(law.draw_interval(rng), rng) for _ in range(count)])


def test_growth_by_the_real_law_is_that_of_the_trial(shared_data):
    """Quantiles of NLST's nodules; that growth tells cancers with 0.73 to 0.80."""
    law, rng, table = read("real"), np.random.default_rng(3), growth_of_nlst(shared_data)
    for outcome, apart in ((0, 0.015), (1, 0.06)):
        real, drawn = table.loc[table.malignant == outcome, "growth"], simulated(law, outcome, rng)
        shares = [0.1, 0.25, 0.5, 0.75, 0.9]
        assert np.abs(np.quantile(drawn, shares) - np.quantile(real, shares)).max() < apart
        assert stats.ks_2samp(drawn, real).pvalue > 0.05
    chance = stats.mannwhitneyu(simulated(law, 1, rng), simulated(law, 0, rng)).statistic / 3000**2
    assert 0.70 < chance < 0.80


def test_growth_by_the_published_law_is_that_of_lidc_progression(shared_data):
    given = pd.read_csv(shared_data / "lidc_progression" / "cohort.csv").query("study_yr == 0")
    law, rng = read("published"), np.random.default_rng(4)
    for outcome in (0, 1):
        growth = given.loc[given.malignant == outcome, "simulated_growth"]
        assert stats.ks_2samp(growth, simulated(law, outcome, rng)).pvalue > 0.05
