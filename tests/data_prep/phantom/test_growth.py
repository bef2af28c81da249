import numpy as np
import pytest

from data_prep.phantom.growth import RESOLVED, growth, probability

CASES = [(True, 1, 9.0), (True, 2, 30.0), (False, 1, 4.0), (False, 3, 35.0)]
DAYS = 370


@pytest.mark.parametrize("case", CASES)
def test_growth_is_as_likely_as_it_is_often(case):
    """In steps of the factor, the limits of 3 and 40 mm among them, beside what is gone."""
    rng = np.random.default_rng(0)
    drawn = np.array([growth(*case, DAYS, rng) for _ in range(4000)])
    factors = np.round(np.arange(0.3, 3.5, 1e-4), 4)
    likely = probability(factors, *case, DAYS)
    gone = 0.0 if case[0] else RESOLVED
    assert likely.sum() == pytest.approx(1 - gone, abs=1e-6) and (drawn == 0).mean() == pytest.approx(gone, abs=0.015)
    for low, high in zip((0.3, 0.7, 0.97, 1.03, 1.12, 1.3), (0.7, 0.97, 1.03, 1.12, 1.3, 3.5), strict=True):
        expected = likely[(factors >= low) & (factors < high)].sum()
        assert ((drawn >= low) & (drawn < high)).mean() == pytest.approx(expected, abs=0.03)
