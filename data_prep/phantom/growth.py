"""How much a nodule grows in a year.

Cancers: volume doubling times by attenuation. The means, 848 days for ground glass, 598 part-solid, 267 solid, are
those of 114 malignant nodules of 8 to 30 mm that were followed by CT (PMC5945695): a cohort with a follow-up a year
later holds the cancers that could wait. The spread is that of Hasegawa M, Sone S, Takashima S, et al. Growth rate of
small lung cancers detected on mass CT screening. Br J Radiol 2000;73:1252-1259: 813 (375), 457 (260), 149 (125) days;
the shape is log-normal (Usuda K, et al. Cancer 1994;74:2239-2244). None doubles faster than in 90 days here.

Benign nodules: of those of intermediate size some 10 % resolve (Zhao YR, et al. Radiology 2014;270:872-879, NELSON),
most of the others keep their size, and some grow: of nodules that double in 400 to 600 days only 4 % are cancers, of
faster ones 10 % (Horeweg N, et al. Lancet Oncol 2014;15:1332-1341, NELSON). The shares below are ours.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.stats import norm

from data_prep.progression.growth import DECIMALS, Doubling, Floats, Uniform
from scripts.ehr.brock import GROUND_GLASS, PART_SOLID, SOLID

DOUBLING_DAYS = {
    SOLID: (267.0, 267.0 * 125.0 / 149.0),
    PART_SOLID: (598.0, 598.0 * 260.0 / 457.0),
    GROUND_GLASS: (848.0, 848.0 * 375.0 / 813.0),
}
"""Mean and standard deviation."""

SHORTEST_DOUBLING_DAYS = 90.0
LARGEST_MM, SMALLEST_MM = 40.0, 3.0

RESOLVED, SHRINKING, STABLE, GROWING = 0.08, 0.14, 0.60, 0.18
"""Shares of benign nodules."""
SHRINK_TO = 0.55, 0.9
STABLE_LOG = 0.04
"""Standard deviation of the factor's logarithm."""
BENIGN_DOUBLING_DAYS = (550.0, 300.0)
"""Of those that grow: mean and standard deviation."""


def diameter_factor(doubling_days: float, days: float) -> float:
    """By how much a diameter grows: volume doubles every ``doubling_days``, a diameter is its cubic root."""
    return 2.0 ** (days / doubling_days / 3.0)


def _log_moments(mean: float, deviation: float) -> tuple[float, float]:
    """Mean and standard deviation of a log-normal number's logarithm, by its own mean and standard deviation."""
    variance = math.log1p((deviation / mean) ** 2)
    return math.log(mean) - variance / 2.0, math.sqrt(variance)


def lognormal(mean: float, deviation: float, rng: Generator) -> float:
    """A log-normal number by its own mean and standard deviation."""
    return float(rng.lognormal(*_log_moments(mean, deviation)))


def growth(malignant: bool, attenuation: int, diameter: float, days: float, rng: Generator) -> float:
    """Follow-up diameter over baseline diameter; 0 where the nodule is gone.

    Args:
        attenuation: code of ``sct_pre_att``: 1 solid, 2 ground glass, 3 part-solid.
        diameter: longest at baseline, mm; at follow-up none is beyond 40 mm.
        days: between the scans.
    """
    if malignant:
        doubling = max(lognormal(*DOUBLING_DAYS[attenuation], rng), SHORTEST_DOUBLING_DAYS)
        return min(diameter_factor(doubling, days), LARGEST_MM / diameter)
    fate = rng.choice(4, p=[RESOLVED, SHRINKING, STABLE, GROWING])
    if fate == 0:
        return 0.0
    if fate == 1:
        return max(float(rng.uniform(*SHRINK_TO)), SMALLEST_MM / diameter)
    if fate == 2:
        return float(rng.lognormal(0.0, STABLE_LOG))
    doubling = max(lognormal(*BENIGN_DOUBLING_DAYS, rng), SHORTEST_DOUBLING_DAYS)
    return min(diameter_factor(doubling, days), LARGEST_MM / diameter)


def probability(factor: ArrayLike, malignant: bool, attenuation: int, diameter: float, days: float) -> Floats:
    """Probability of exactly these factors of :func:`growth`, written with four decimals; other arguments as there.

    Args:
        factor: above 0, so that the nodule is still there.
    """
    centre, half = np.asarray(factor, dtype=np.float64).round(DECIMALS), 0.5 * 10.0**-DECIMALS
    above, below = (_cdf(end, malignant, attenuation, diameter, days) for end in (centre + half, centre - half))
    return above - below


def _cdf(factor: Floats, malignant: bool, attenuation: int, diameter: float, days: float) -> Floats:
    """Probability of a growth of at most this factor, above 0."""

    def doubling(moments: tuple[float, float]) -> Floats:
        mean, deviation = _log_moments(*moments)
        law = Doubling(math.exp(mean), deviation, SHORTEST_DOUBLING_DAYS, math.inf)
        return np.where(factor >= LARGEST_MM / diameter, 1.0, law.cdf(factor, np.asarray(days)))

    if malignant:
        return doubling(DOUBLING_DAYS[attenuation])
    shrinking = np.where(factor < SMALLEST_MM / diameter, 0.0, Uniform(*SHRINK_TO).cdf(factor, np.asarray(days)))
    stable = norm.cdf(np.log(factor) / STABLE_LOG)
    return np.asarray(RESOLVED + SHRINKING * shrinking + STABLE * stable + GROWING * doubling(BENIGN_DOUBLING_DAYS))
