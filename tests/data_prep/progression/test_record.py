import numpy as np
import pandas as pd
import pytest
from scipy import stats

from data_prep.progression.laws import read
from data_prep.progression.record import (
    CODES,
    OTHER_LOBES,
    RECORD,
    draw_lobe,
    draw_record,
    lobe_likelihoods,
    patient_likelihoods,
)
from scripts.ehr.features import EHR_FEATURES

LAW = read("published")


@pytest.fixture(scope="module")
def drawn():
    """1,500 records without and with a malignant nodule."""
    rng = np.random.default_rng(0)
    return [pd.DataFrame([draw_record(bool(y), LAW, rng) for _ in range(1500)]) for y in (0, 1)]


def test_every_feature_is_drawn_or_the_baselines():
    kept = {"sct_pre_att", "sct_margins", "sct_long_dia", "sct_perp_dia"}
    assert kept | {*RECORD, "sct_epi_loc"} == set(EHR_FEATURES)


@pytest.mark.parametrize("malignant", [0, 1])
def test_records_are_as_often_as_the_law_says(drawn, malignant):
    table = drawn[malignant]
    for name, (share, said) in CODES.items():
        count = int(table[name].map(said).sum())
        assert stats.binomtest(count, len(table), LAW.shares[share][malignant]).pvalue > 1e-3, name
    assert table["age"].between(55, 75).all() and (table["age"] == 55).any() and (table["age"] == 75).any()
    assert table["age"].mean() == pytest.approx([60.84, 65.0][malignant], abs=0.4)


@pytest.mark.parametrize("malignant", [0, 1])
def test_records_are_as_likely_as_they_are_often(drawn, malignant):
    """Over all ages and sexes: the share that was drawn is the probability."""
    table = drawn[malignant]
    ages = pd.DataFrame({"age": np.arange(55, 76)}).assign(**dict.fromkeys(CODES))
    expected = patient_likelihoods(ages.astype(float), LAW)[malignant]
    assert expected.sum() == pytest.approx(1.0)
    counts = table["age"].value_counts().reindex(ages["age"], fill_value=0)
    assert stats.chisquare(counts, len(table) * expected).pvalue > 1e-3


def test_what_is_not_known_says_nothing():
    unknown = pd.DataFrame({name: [np.nan] for name in (*RECORD, "sct_epi_loc")})
    assert patient_likelihoods(unknown, LAW).tolist() == lobe_likelihoods(unknown, LAW).tolist() == [[1.0], [1.0]]


def test_lobes():
    rng = np.random.default_rng(1)
    for malignant, share in enumerate(LAW.shares["upper_lobe"]):
        lobes = pd.Series([draw_lobe(bool(malignant), LAW, rng) for _ in range(2000)])
        expected = {1: share / 2, 4: share / 2, **{lobe: (1 - share) * part for lobe, part in OTHER_LOBES.items()}}
        counts = lobes.value_counts().reindex(list(expected), fill_value=0)
        assert stats.chisquare(counts, [2000 * part for part in expected.values()]).pvalue > 1e-3
        table = pd.DataFrame({"sct_epi_loc": [1, 4, 2]})
        assert lobe_likelihoods(table, LAW)[malignant] == pytest.approx([share, share, 1 - share])


def test_lidc_progression_has_such_records(shared_data):
    table = pd.read_csv(shared_data / "lidc_progression" / "cohort.csv").query("study_yr == 0")
    worst = table.groupby("patient_id")["malignant"].transform("max")
    people = table.assign(worst=worst).drop_duplicates("patient_id")
    for malignant in (0, 1):
        some = people[people["worst"] == malignant]
        for name, (share, said) in CODES.items():
            count, expected = int(some[name].map(said).sum()), LAW.shares[share][malignant]
            assert stats.binomtest(count, len(some), expected).pvalue > 0.01, name
        ages = pd.DataFrame({"age": np.arange(55, 76)}).assign(**dict.fromkeys(CODES)).astype(float)
        heights = patient_likelihoods(ages, LAW)[malignant].cumsum()
        observed = np.searchsorted(np.sort(some["age"]), ages["age"], side="right") / len(some)
        assert np.abs(heights - observed).max() < 1.63 / np.sqrt(len(some))  # Kolmogorov-Smirnov, 1 %
        lobes = table.loc[table["malignant"] == malignant, "sct_epi_loc"].isin((1, 4))
        expected = LAW.shares["upper_lobe"][malignant]
        assert stats.binomtest(int(lobes.sum()), len(lobes), expected).pvalue > 0.01
