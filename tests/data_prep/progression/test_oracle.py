from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from data_prep.progression.cohort import draw
from data_prep.progression.laws import read
from data_prep.progression.oracle import oracle, others
from data_prep.progression.record import lobe_likelihoods, patient_likelihoods

DESIGN = pd.DataFrame({"patient_id": list("aabcccd"), "malignancy_rating": [5.0, 3, 3, 5, 3, 1, 1]}).assign(
    nodule_id=[1, 2, 1, 1, 2, 3, 1], sct_long_dia=9.0
)


def test_how_often_another_nodule_is_malignant():
    """By hand: of rating 3, one nodule beside a 5, one alone, one beside a 5 and a 1."""
    expected = np.mean([0.7, 0.0, 1 - 0.3 * 0.97])
    found = others(DESIGN["patient_id"], read("published").prior(DESIGN["malignancy_rating"]))
    assert found[[1, 2, 4]] == pytest.approx(expected)


def by_enumeration(law, design, rating, one):
    """P(malignant) of a nodule of a rating, drawn from the design at random, whose own row is ``one``.

    All outcomes of all patients are gone through, and the record's probability is written out by hand.
    """

    def of_record(y, any_malignant):
        age = "malignant" if any_malignant else "benign"
        low, high = norm.cdf([one.age - 0.5, one.age + 0.5], law.age[age], law.age["sd"])
        chance = high - low
        for share, present in (("female", one.gender == 2), ("emphysema", one.diagemph), ("famfather", one.famfather)):
            chance *= law.shares[share][any_malignant] if present else 1 - law.shares[share][any_malignant]
        for share in ("fammother", "fambrother", "famsister", "famchild"):
            chance *= 1 - law.shares[share][any_malignant]
        upper = law.shares["upper_lobe"][y]
        return chance * (upper if one.sct_epi_loc == 1 else 1 - upper)

    joint = np.zeros(2)
    for _, nodules in design.groupby("patient_id"):
        ratings = nodules["malignancy_rating"].tolist()
        for outcomes in product((0, 1), repeat=len(ratings)):
            priors = [law.outcome[each] for each in ratings]
            chance = np.prod([p if y else 1 - p for p, y in zip(priors, outcomes, strict=True)])
            for own, y in zip(ratings, outcomes, strict=True):
                if own == rating:
                    joint[y] += chance * of_record(y, any(outcomes))
    return joint[1] / joint.sum()


def test_it_is_bayes_theorem_gone_through_by_hand():
    law = read("published")
    table = DESIGN.assign(
        age=[60, 71, 58, 66, 66, 66, 63], gender=[1, 2, 2, 1, 1, 1, 2], diagemph=[0, 1, 0, 0, 0, 0, 1]
    )
    table = table.assign(famfather=[0, 1, 0, 0, 0, 1, 0], sct_epi_loc=[1, 3, 1, 1, 3, 1, 3])
    table = table.assign(**dict.fromkeys(("fammother", "fambrother", "famsister", "famchild"), 0))
    expected = [by_enumeration(law, DESIGN, row.malignancy_rating, row) for row in table.itertuples()]
    assert oracle(table, law) == pytest.approx(expected, rel=1e-9)
    assert oracle(table, law, told=False) == pytest.approx(law.prior(table["malignancy_rating"]))


@pytest.fixture(scope="module")
def made():
    """The design drawn 400 times, by the real law."""
    copies = [DESIGN.assign(patient_id=DESIGN["patient_id"] + str(number)) for number in range(400)]
    return draw(pd.concat(copies, ignore_index=True), read("real"), seed=1)


@pytest.mark.parametrize("known", ["oracle", "oracle_growth"])
def test_simulated_outcomes_come_as_often_as_it_says(made, known):
    """Brute force, whatever is known of the nodules."""
    bins = made.groupby(pd.qcut(made[known], 12, duplicates="drop"), observed=True)
    off = bins["malignant"].mean() - bins[known].mean()
    error = bins[known].apply(lambda p: np.sqrt((p * (1 - p)).sum()) / len(p)).clip(lower=1e-3)
    assert (off.abs() / error).max() < 3.5
    assert made["malignant"].mean() == pytest.approx(read("real").prior(DESIGN["malignancy_rating"]).mean(), abs=0.02)


@pytest.fixture(scope="module")
def given(shared_data):
    table = pd.read_csv(shared_data / "lidc_progression" / "cohort.csv").query("study_yr == 0").reset_index(drop=True)
    return table.rename(columns={"lidc_malignancy_rating": "malignancy_rating"})


def aurocs(table, score):
    parts = (np.ones(len(table), dtype=bool), (table["split"] == "test").to_numpy())
    return [roc_auc_score(table["malignant"][part], score[part]) for part in parts]


def test_what_was_published_of_lidc_progression(given):
    """AUROC of record and lobe, of the rating, of both, and of growth, each nodule taken for its patient's only one."""
    law = read("published")
    lobe, patient = lobe_likelihoods(given, law), patient_likelihoods(given, law)
    record = lobe[1] * patient[1] / (lobe[0] * patient[0])
    prior = law.prior(given["malignancy_rating"])
    benign, malignant = (mixture.probability(given["simulated_growth"], 365.25) for mixture in law.growth)
    assert aurocs(given, record) == pytest.approx([0.760, 0.795], abs=0.0015)
    assert aurocs(given, prior) == pytest.approx([0.815, 0.870], abs=0.0015)
    assert aurocs(given, prior / (1 - prior) * record) == pytest.approx([0.877, 0.908], abs=0.0015)
    assert aurocs(given, malignant / (malignant + benign)) == pytest.approx([0.983, 0.985], abs=0.0015)


def test_who_knows_that_patients_have_several_nodules_knows_more(given):
    """The nodule taken for the only one says too much where another one made the record what it is."""
    law = read("published")
    alone = oracle(given.assign(patient_id=range(len(given))), law)
    exact = oracle(given, law)
    assert aurocs(given, exact) == pytest.approx([0.891, 0.930], abs=0.001)
    assert log_loss(given["malignant"], exact) < log_loss(given["malignant"], alone) - 0.02
    assert alone.mean() - given["malignant"].mean() > 0.04 > 0.02 > exact.mean() - given["malignant"].mean()
    told = oracle(given, law, days=np.full(len(given), 365.25))
    assert log_loss(given["malignant"], told) < 0.1
