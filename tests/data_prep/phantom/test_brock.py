import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.phantom import brock, growth

NOBODY = {
    "age": 62,
    "female": 0,
    "family_history": 0,
    "emphysema": 0,
    "diameter": 8.0,
    "attenuation": 1,
    "upper_lobe": 0,
    "count": 4,
    "spiculated": 0,
}


def test_reference_person_by_hand():
    """8 mm: (0.8 ** -0.5 - 1.58113883) * -5.3854 = 2.494005; -6.7892 + 2.494005 = -4.295195."""
    assert float(brock.risk(**NOBODY)) == pytest.approx(1 / (1 + math.exp(4.295195)), rel=1e-6)


def test_person_with_everything_by_hand():
    """0.2296 + 0.6011 + 0.2961 + 0.2953 + 4.117904 + 0.3770 + 0.6581 + 0.2472 + 0.7729 - 6.7892 = 0.806004."""
    risk = brock.risk(
        age=70,
        female=1,
        family_history=1,
        emphysema=1,
        diameter=15.0,
        attenuation=3,
        upper_lobe=1,
        count=1,
        spiculated=1,
    )
    assert float(risk) == pytest.approx(0.691257, abs=2e-6)


@given(
    age=st.integers(40, 85),
    flags=st.tuples(*[st.integers(0, 1)] * 5),
    diameter=st.floats(2.0, 40.0),
    attenuation=st.sampled_from([1, 2, 3]),
    count=st.integers(1, 12),
)
def test_equals_the_uncentred_form(age, flags, diameter, attenuation, count):
    """Eur Radiol 2019;29:5367, Table 2 gives the same model with nothing centred and a constant of 0.2761."""
    female, family, emphysema, upper, spiculated = flags
    log_odds = 0.2761 + 0.0287 * age + 0.6011 * female + 0.2961 * family + 0.2953 * emphysema
    log_odds += 0.6581 * upper + 0.7729 * spiculated - 5.3854 / math.sqrt(diameter / 10) - 0.0824 * count
    log_odds += {1: 0.0, 2: -0.1276, 3: 0.377}[attenuation]
    risk = brock.risk(
        age=age,
        female=female,
        family_history=family,
        emphysema=emphysema,
        diameter=diameter,
        attenuation=attenuation,
        upper_lobe=upper,
        count=count,
        spiculated=spiculated,
    )
    assert math.log(risk / (1 - risk)) == pytest.approx(log_odds, abs=1e-4)


def test_enrichment_shifts_all_log_odds_alike():
    risks = np.array([0.001, 0.01, 0.05, 0.3])
    enriched = brock.enriched(risks, 0.28)
    shift = np.log(enriched / (1 - enriched)) - np.log(risks / (1 - risks))
    assert enriched.mean() == pytest.approx(0.28)
    assert np.ptp(shift) < 1e-9


def test_draw_keeps_each_probability_and_the_total():
    probabilities = np.array([0.1, 0.5, 0.9, 0.3, 0.2])
    draws = np.array([brock.draw(probabilities, np.random.default_rng(seed)) for seed in range(4000)])
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
