import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.ehr import brock

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


KNOWN = {"age": 70, "gender": 2, "diagemph": 1, "sct_long_dia": 15, "sct_pre_att": 3, "sct_epi_loc": 4}
KNOWN["sct_margins"] = 1


def test_a_record_has_at_most_the_risk_of_a_single_nodule():
    """As the person with everything, above; one relative is enough for a family history."""
    assert brock.at_most(KNOWN | {"fambrother": 1}) == pytest.approx(0.691257, abs=2e-6)
    healthy = dict.fromkeys(("famfather", "fammother", "fambrother", "famsister", "famchild"), 0)
    assert brock.at_most(KNOWN | healthy) == pytest.approx(1 / (1 + math.exp(0.2961 - 0.806004)), abs=2e-6)


def test_what_a_record_lacks_is_named():
    assert brock.lacking(KNOWN) == ["lung cancer in the family"] and brock.at_most(KNOWN) is None
    assert brock.lacking(KNOWN | {"famchild": 0, "age": None}) == ["age", "lung cancer in the family"]
