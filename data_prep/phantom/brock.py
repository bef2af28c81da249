"""The Brock (PanCan) model: the risk that a nodule of a first screening CT is malignant."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

SOLID, GROUND_GLASS, PART_SOLID = 1, 2, 3
"""The trial's codes of ``sct_pre_att``."""

UPPER_LOBES = (1, 4)
"""Codes of ``sct_epi_loc`` that count as upper lobe; the lingula is a code of its own and does not."""


def risk(
    *,
    age: ArrayLike,
    female: ArrayLike,
    family_history: ArrayLike,
    emphysema: ArrayLike,
    diameter: ArrayLike,
    attenuation: ArrayLike,
    upper_lobe: ArrayLike,
    count: ArrayLike,
    spiculated: ArrayLike,
) -> NDArray[np.float64]:
    """Probability of cancer, model 2b (full, with spiculation).

    Source: McWilliams A, Tammemagi MC, Mayo JR, et al. Probability of cancer in pulmonary nodules detected on first
    screening CT. N Engl J Med 2013;369:910-919, Table 2. The coefficients stand once more, with the centring of age,
    size and count worked into the constant (0.2761), in Eur Radiol 2019;29:5367-5377, Table 2.

    Args:
        age: years.
        female, family_history, emphysema, upper_lobe, spiculated: 0 or 1.
        diameter: longest, mm.
        attenuation: code of ``sct_pre_att``; all but 2 and 3 count as solid.
        count: nodules of the patient.
    """
    attenuation = np.asarray(attenuation)
    log_odds = (
        -6.7892
        + 0.0287 * (np.asarray(age) - 62.0)
        + 0.6011 * np.asarray(female)
        + 0.2961 * np.asarray(family_history)
        + 0.2953 * np.asarray(emphysema)
        - 5.3854 * ((np.asarray(diameter) / 10.0) ** -0.5 - 1.58113883)
        - 0.1276 * (attenuation == GROUND_GLASS)
        + 0.3770 * (attenuation == PART_SOLID)
        + 0.6581 * np.asarray(upper_lobe)
        - 0.0824 * (np.asarray(count) - 4.0)
        + 0.7729 * np.asarray(spiculated)
    )
    return np.asarray(expit(log_odds), dtype=np.float64)


def enriched(risks: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Risks as a case-control sample has them: all odds times the one factor that makes their mean ``share``.

    Cancers are a few percent of screening nodules; a set to train on has more. Sampling by outcome changes the
    constant of a logistic model and nothing else (Prentice and Pyke, Biometrika 1979;66:403-411), so odds ratios, and
    with them what there is to learn, stay the published ones.
    """
    log_odds = logit(risks)
    offset = brentq(lambda constant: float(expit(log_odds + constant).mean()) - share, -30.0, 30.0)
    return np.asarray(expit(log_odds + offset), dtype=np.float64)


def draw(probabilities: NDArray[np.float64], rng: Generator) -> NDArray[np.bool_]:
    """Outcomes, each with its own probability, their number as near to the sum as whole numbers allow.

    Systematic sampling: one uniform number and steps of one along the probabilities laid end to end in random order.
    """
    order = rng.permutation(len(probabilities))
    ends = np.floor(np.cumsum(probabilities[order]) + rng.uniform())
    outcomes = np.zeros(len(probabilities), dtype=bool)
    outcomes[order] = np.diff(ends, prepend=0.0) > 0
    return outcomes
