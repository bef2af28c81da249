"""Records by outcome: how they are drawn, and how likely a record is under each outcome.

A patient's record goes by whether any of the patient's nodules is malignant, the lobe by the nodule's own outcome.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.random import Generator
from scipy.stats import norm

from data_prep.progression.growth import Floats
from data_prep.progression.laws import OUTCOMES, RELATIVES, Law

UPPER = (1, 4)
"""Codes of ``sct_epi_loc``: the upper lobes, one as likely as the other."""
OTHER_LOBES = {2: 0.18, 3: 0.47, 5: 0.06, 6: 0.29}
"""Shares of the others, whatever the outcome; as in LIDC-progression."""
CODES = {
    "gender": ("female", {1: 0, 2: 1}),
    "diagemph": ("emphysema", {0: 0, 1: 1}),
    **{name: (name, {0: 0, 1: 1}) for name in RELATIVES},
}
"""Features of a patient: the law's name of the share, and what each code says of it."""
RECORD = ("age", *CODES)
"""Features of the patient; with ``sct_epi_loc`` all that is drawn of the record."""


def draw_record(malignant: bool, law: Law, rng: Generator) -> dict[str, int]:
    """A patient's features, given whether any nodule is malignant."""
    age = law.age
    years = np.clip(np.rint(rng.normal(age[OUTCOMES[malignant]], age["sd"])), age["youngest"], age["oldest"])
    present = {name: int(rng.uniform() < law.shares[share][malignant]) for name, (share, _) in CODES.items()}
    codes = {name: {said: code for code, said in CODES[name][1].items()} for name in CODES}
    return {"age": int(years), **{name: codes[name][value] for name, value in present.items()}}


def draw_lobe(malignant: bool, law: Law, rng: Generator) -> int:
    """Code of ``sct_epi_loc``, given the nodule's own outcome."""
    if rng.uniform() < law.shares["upper_lobe"][malignant]:
        return int(rng.choice(UPPER))
    return int(rng.choice(list(OTHER_LOBES), p=list(OTHER_LOBES.values())))


def patient_likelihoods(table: pd.DataFrame, law: Law) -> Floats:
    """Probability of each row's features of the patient, without a malignant nodule and with one: (2, N).

    A feature that is not known says nothing.
    """
    made = np.stack([_age(table["age"].to_numpy(dtype=np.float64), law, outcome) for outcome in OUTCOMES])
    for name, (share, said) in CODES.items():
        made *= _binary(table[name].map(said).to_numpy(dtype=np.float64), law.shares[share])
    return made


def lobe_likelihoods(table: pd.DataFrame, law: Law) -> Floats:
    """Probability of upper lobe or not, as each row has it, of a benign nodule and of a malignant one: (2, N)."""
    lobe = table["sct_epi_loc"]
    upper = lobe.isin(UPPER).astype(float).where(lobe.notna()).to_numpy(dtype=np.float64)
    return _binary(upper, law.shares["upper_lobe"])


def _binary(values: Floats, shares: tuple[float, float]) -> Floats:
    """Probability of values, 0, 1 or NaN, by the shares of ones: (2, N)."""
    one = np.array(shares)[:, None]
    return np.where(np.isnan(values), 1.0, np.where(values == 1.0, one, 1.0 - one))


def _age(years: Floats, law: Law, outcome: str) -> Floats:
    """Probability of whole years, rounded and within the limits, where those beyond lie too."""
    age: Mapping[str, float] = law.age
    upper = norm.cdf(years + 0.5, age[outcome], age["sd"])
    lower = norm.cdf(years - 0.5, age[outcome], age["sd"])
    upper = np.where(years >= age["oldest"], 1.0, upper)
    lower = np.where(years <= age["youngest"], 0.0, lower)
    return np.where(np.isnan(years), 1.0, upper - lower)
