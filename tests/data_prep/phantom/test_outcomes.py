import numpy as np
import pytest

from data_prep.phantom import growth, outcomes


def test_enrichment_shifts_all_log_odds_alike():
    risks = np.array([0.001, 0.01, 0.05, 0.3])
    enriched = outcomes.enriched(risks, 0.28)
    shift = np.log(enriched / (1 - enriched)) - np.log(risks / (1 - risks))
    assert enriched.mean() == pytest.approx(0.28)
    assert np.ptp(shift) < 1e-9


def test_draw_keeps_each_probability_and_the_total():
    probabilities = np.array([0.1, 0.5, 0.9, 0.3, 0.2])
    draws = np.array([outcomes.draw(probabilities, np.random.default_rng(seed)) for seed in range(4000)])
    assert set(draws.sum(axis=1)) == {2}
    np.testing.assert_allclose(draws.mean(axis=0), probabilities, atol=0.03)


def test_diameter_grows_by_two_when_volume_doubles_thrice():
    assert growth.diameter_factor(100.0, 300.0) == pytest.approx(2.0)


def test_cancers_grow_and_benign_nodules_mostly_do_not():
    def factors(malignant):
        return np.array(
            [growth.growth(malignant, 1, 10.0, 365.0, np.random.default_rng([seed, malignant])) for seed in range(500)]
        )

    benign, malignant = factors(False), factors(True)
    assert np.median(malignant) > 1.3 and malignant.min() > 1.0 and malignant.max() <= 4.0
    assert 0.9 < np.median(benign) < 1.05
    assert 0.03 < (benign == 0).mean() < 0.15
    assert (benign > np.quantile(malignant, 0.1)).mean() > 0.02  # they overlap
