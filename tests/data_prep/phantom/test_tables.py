import numpy as np
import pandas as pd
import pytest

from data_prep.phantom.patients import draw_patients
from data_prep.phantom.tables import truth
from data_prep.schema import KEY, TRUTH


@pytest.fixture(scope="module")
def people():
    return draw_patients(800, seed=2)


@pytest.mark.parametrize("known", ["oracle", "oracle_growth"])
def test_outcomes_come_as_often_as_the_oracle_says(people, known):
    table = truth(people)
    seen = [n for p in people if p.days for n in p.nodules if n.growth > 0]
    malignant = pd.Series([nodule.malignant for nodule in seen], dtype=float)
    assert len(table) == len(seen) and [*table] == [*KEY, *TRUTH]
    bins = pd.qcut(table[known], 8, duplicates="drop")
    off = malignant.groupby(bins, observed=True).mean() - table[known].groupby(bins, observed=True).mean()
    error = table[known].groupby(bins, observed=True).apply(lambda p: np.sqrt((p * (1 - p)).sum()) / len(p))
    assert (off.abs() / error.clip(lower=2e-3)).max() < 3.5


def test_every_pair_of_the_cohort_has_its_truth(phantom):
    table = pd.read_csv(phantom / "cohort.csv")
    paired = table.groupby([*KEY])["study_yr"].transform("nunique") == 2
    assert paired.sum() > 10 and table.loc[paired, [*TRUTH]].notna().all(axis=None)
    assert table.loc[~paired, [*TRUTH]].isna().all(axis=None)
    later = table[paired & (table["study_yr"] == 1)].set_index([*KEY])
    first = table[paired & (table["study_yr"] == 0)].set_index([*KEY])
    assert np.abs(later["sct_long_dia"] - first["sct_long_dia"] * later["simulated_growth"]).max() < 2
