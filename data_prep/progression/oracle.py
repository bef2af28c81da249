"""The oracle: the probability of malignancy that follows from a law, by Bayes, and that no method can improve on.

What is known is one nodule's: its rating, its record (the patient's features and the lobe) and, with the follow-up, its
growth. The patient's features go by whether *any* nodule of the patient is malignant, so that for a benign nodule
it matters how often another one is malignant. Among the nodules of one rating that share is known from the ratings
(:func:`others`), as outcomes are drawn one by one. So the probability is exact for a nodule drawn from the cohort of
which nothing is known but what is said above; who also knows ratings of the patient's other nodules may know more.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from data_prep.progression.growth import Floats
from data_prep.progression.laws import Law
from data_prep.progression.record import lobe_likelihoods, patient_likelihoods


def others(patients: pd.Series, prior: Floats) -> Floats:
    """How often another nodule of the patient is malignant, on average over the nodules of the same probability.

    Args:
        patients: of each nodule (N).
        prior: probability of malignancy of each, by its rating (N).
    """
    benign = pd.Series(np.log1p(-np.minimum(prior, 1.0 - 1e-12)), patients.index)
    another = -np.expm1(benign.groupby(patients).transform("sum") - benign)
    return another.groupby(prior).transform("mean").to_numpy(dtype=np.float64)


def oracle(table: pd.DataFrame, law: Law, *, told: bool = True, days: Floats | None = None) -> Floats:
    """Probability of malignancy of each nodule (N).

    Args:
        table: a row a nodule, with ``patient_id``, ``malignancy_rating``, the record and, if ``days`` is given,
            ``simulated_growth``.
        told: whether the record goes by the outcomes; it does not where records were permuted.
        days: between the scans (N); None: growth is not known.

    Example:
        >>> from data_prep.progression.laws import read
        >>> table = pd.DataFrame({"patient_id": ["a"], "malignancy_rating": [3], "age": [63], "gender": [2]})
        >>> table = table.assign(diagemph=0, famfather=0, fammother=0, fambrother=0, famsister=0, famchild=0)
        >>> oracle(table.assign(sct_epi_loc=1), read("published")).round(3)
        array([0.323])
    """
    prior = law.prior(table["malignancy_rating"])
    benign, malignant = 1.0 - prior, prior.copy()
    if days is not None:
        benign, malignant = (
            chance * growth.probability(table["simulated_growth"], days)
            for chance, growth in zip((benign, malignant), law.growth, strict=True)
        )
    if told:
        lobe, patient = lobe_likelihoods(table, law), patient_likelihoods(table, law)
        another = others(table["patient_id"], prior)
        benign = benign * lobe[0] * (another * patient[1] + (1.0 - another) * patient[0])
        malignant = malignant * lobe[1] * patient[1]
    return malignant / (malignant + benign)
